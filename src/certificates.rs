//! The certificates of a running router: read again at SIGHUP, and how long they last.

use std::sync::Arc;

use fanwire_control::metrics::CertificateEnd;
use fanwire_io::tls::{Acceptor, Identity};

use crate::config::Loaded;

/// Of all listeners with TLS.
#[derive(Clone, Debug)]
pub struct Certificates(Vec<(usize, Arc<Acceptor>)>);

impl Certificates {
    /// Of the listeners of this configuration.
    pub fn of(loaded: &Loaded) -> Self {
        let acceptor = |(index, tls): (usize, &Option<fanwire_io::ListenerTls>)| {
            tls.as_ref().map(|tls| (index, Arc::clone(&tls.acceptor)))
        };
        Self(loaded.tls.iter().enumerate().filter_map(acceptor).collect())
    }

    /// Reads the files of all listeners again. If one of them is wrong, nothing changes; the log says so either way.
    pub fn reload(&self) {
        let read = self.0.iter().map(|(index, acceptor)| match Identity::load(acceptor.files()) {
            Ok(identity) => Ok((acceptor, identity)),
            Err(error) => Err(format!("listener.{index}.tls: {error}; {}", error.help)),
        });
        match read.collect::<Result<Vec<_>, _>>() {
            Ok(identities) if identities.is_empty() => {
                tracing::info!("SIGHUP: no listener has TLS, so there are no certificates to read again");
            }
            Ok(identities) => {
                let count: usize = identities.iter().map(|(_, identity)| identity.certificates().len()).sum();
                for (acceptor, identity) in identities {
                    acceptor.replace(identity);
                }
                tracing::info!("SIGHUP: {count} certificates were read again; new connections get them");
            }
            Err(wrong) => tracing::error!("SIGHUP: all certificates stay as they were: {wrong}"),
        }
    }

    /// When each ends.
    pub fn ends(&self) -> Vec<CertificateEnd> {
        let mut ends = Vec::new();
        for (index, acceptor) in &self.0 {
            ends.extend(acceptor.identity().certificates().iter().map(|known| CertificateEnd {
                listener: *index,
                file: known.path.display().to_string(),
                at: known.not_after,
            }));
        }
        ends
    }
}
