//! The certificates that listeners show, read and checked with everything else before anything is started.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fanwire_io::ListenerTls;
use fanwire_io::tls::{Acceptor, Certificate, CertificateFiles, Identity, IdentityFiles, TlsFile};

use super::bind::Bind;
use super::load::Origins;
use super::problem::{Place, Problem};
use super::schema::{ClientCertificates, Config, Tls};
use super::users::resolve;

/// What came of a configuration.
#[derive(Debug, Default)]
pub struct Gathered {
    /// For each listener, in their order.
    pub listeners: Vec<Option<ListenerTls>>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What should not stay as it is, though it can be started.
    pub warnings: Vec<String>,
}

/// Reads and checks the files of all listeners.
pub fn gather(config: &Config, origins: &Origins) -> Gathered {
    let mut gathered = Gathered::default();
    for (index, listener) in config.listener.iter().enumerate() {
        let key = format!("listener.{index}.tls");
        if listener.tls.cert().is_some() && matches!(listener.bind, Bind::Unix(_)) {
            let wrong = "a Unix socket is of this machine, and there is no TLS on it".to_owned();
            gathered.refuse(
                origins,
                format!("{key}.cert"),
                wrong,
                "bind to an address, or leave cert and key out",
            );
            gathered.listeners.push(None);
            continue;
        }
        let tls = gathered.listener(&key, &listener.tls, origins);
        gathered.listeners.push(tls);
    }
    gathered
}

impl Gathered {
    fn listener(&mut self, key: &str, tls: &Tls, origins: &Origins) -> Option<ListenerTls> {
        let files = self.files(key, tls, origins)?;
        match Identity::load(&files) {
            Ok(identity) => {
                let keys = files.certificates.iter().filter_map(|pair| warn_of_mode(&pair.key));
                let ages = identity.certificates().iter().filter_map(|known| warn_of_age(known, now()));
                for words in keys.chain(ages) {
                    // Several listeners may show one certificate.
                    if !self.warnings.contains(&words) {
                        self.warnings.push(words);
                    }
                }
                let acceptor = Arc::new(Acceptor::new(files, identity));
                Some(ListenerTls { acceptor, plain: tls.plain })
            }
            Err(error) => {
                let part = match error.file {
                    TlsFile::Cert(0) => "cert".to_owned(),
                    TlsFile::Key(0) => "key".to_owned(),
                    TlsFile::Cert(more) => format!("further.{}.cert", more - 1),
                    TlsFile::Key(more) => format!("further.{}.key", more - 1),
                    TlsFile::ClientCa => "client_ca".to_owned(),
                };
                self.refuse(origins, format!("{key}.{part}"), error.to_string(), error.help);
                None
            }
        }
    }

    /// The files that are named, if this listener speaks TLS.
    fn files(&mut self, key: &str, tls: &Tls, origins: &Origins) -> Option<IdentityFiles> {
        let path = |part: &str, named: &str| resolve(&origins.place(&format!("{key}.{part}")), named);
        let client_ca = tls.client_ca().map(|named| path("client_ca", named));
        let Some((cert, private)) = tls.pair() else {
            for (part, meant) in [("cert", tls.cert()), ("key", tls.key())] {
                if meant.is_some() {
                    let wrong = "a certificate and its key belong together, and one of them is missing";
                    self.refuse(
                        origins,
                        format!("{key}.{part}"),
                        wrong.to_owned(),
                        "name both, or none for no TLS",
                    );
                }
            }
            if client_ca.is_some() || !tls.further.is_empty() {
                let part = if client_ca.is_some() { "client_ca" } else { "further" };
                let wrong = "this listener has no certificate and so speaks no TLS".to_owned();
                self.refuse(origins, format!("{key}.{part}"), wrong, "add cert and key");
            }
            return None;
        };
        let mut certificates = vec![CertificateFiles { cert: path("cert", cert), key: path("key", private) }];
        for (index, pair) in tls.further.iter().enumerate() {
            certificates.push(CertificateFiles {
                cert: path(&format!("further.{index}.cert"), &pair.cert),
                key: path(&format!("further.{index}.key"), &pair.key),
            });
        }
        let client_required = tls.client_certificates == ClientCertificates::Required;
        Some(IdentityFiles { certificates, client_ca, client_required })
    }

    fn refuse(&mut self, origins: &Origins, key: String, wrong: String, help: &str) {
        let place: Place = origins.place(&key);
        self.problems.push(Problem { place, key: Some(key), wrong, help: vec![help.to_owned()] });
    }
}

#[allow(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What should be said of a certificate's validity at this time, in seconds since 1970.
fn warn_of_age(known: &Certificate, now: i64) -> Option<String> {
    let path = known.path.display();
    let renew = "put a new one there and reload (fanwire reload)";
    let days = (known.not_after - now).div_euclid(DAY);
    if now > known.not_after {
        Some(format!("the certificate {path} has expired {} days ago, and clients refuse it: {renew}", -days))
    } else if now < known.not_before {
        Some(format!("the certificate {path} is not valid yet, and clients refuse it: is the clock right?"))
    } else if days < SOON_DAYS {
        Some(format!("the certificate {path} expires in {days} days: {renew}"))
    } else {
        None
    }
}

fn warn_of_mode(key: &Path) -> Option<String> {
    let mode = std::fs::metadata(key).ok()?.permissions().mode();
    let path = key.display();
    (mode & 0o004 != 0)
        .then(|| format!("everybody on this machine can read the private key {path}: chmod o-r {path}"))
}

const DAY: i64 = 24 * 3_600;
/// Authorities that renew by themselves do so with a third of 90 days left.
const SOON_DAYS: i64 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_young_certificates_are_told() {
        let path = "/a.pem".into();
        let known = Certificate { path, names: Vec::new(), not_before: 100 * DAY, not_after: 190 * DAY };
        let said = |day: i64| warn_of_age(&known, day * DAY).unwrap_or_default();
        assert!(said(99).contains("not valid yet"));
        assert_eq!(said(100), "");
        assert_eq!(said(176), "");
        assert!(said(177).contains("/a.pem expires in 13 days"), "{}", said(177));
        assert!(said(193).contains("has expired 3 days ago"), "{}", said(193));
    }
}
