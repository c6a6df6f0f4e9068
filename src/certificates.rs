//! The certificates of a running router, and how long they last.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fanwire_control::metrics::CertificateEnd;
use fanwire_io::ListenerTls;

/// What the listeners show now.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<ArcSwap<Vec<Option<ListenerTls>>>>);

impl Certificates {
    /// In the order of the listeners.
    pub fn new(tls: &[Option<ListenerTls>]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(tls.to_vec())))
    }

    /// They show something else.
    pub fn replace(&self, tls: &[Option<ListenerTls>]) {
        self.0.store(Arc::new(tls.to_vec()));
    }

    /// When each ends.
    pub fn ends(&self) -> Vec<CertificateEnd> {
        let mut ends = Vec::new();
        for (listener, tls) in self.0.load().iter().enumerate() {
            let known = tls.iter().flat_map(|tls| tls.acceptor.identity().certificates());
            ends.extend(known.map(|known| CertificateEnd {
                listener,
                file: known.path.display().to_string(),
                at: known.not_after,
            }));
        }
        ends
    }
}
