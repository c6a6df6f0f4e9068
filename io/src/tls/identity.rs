//! What a listener shows its clients, from files: certificates with their keys, and whose client certificates it takes.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::exporter::Exporters;

/// The files of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// At least one. The first is for clients that name no host, or one that no certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities whose client certificates are taken; `None`: clients are asked for none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_required: bool,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, and behind it those that lead to its authority.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Which file is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsFile {
    /// The certificate with this index.
    Cert(usize),
    /// Its key.
    Key(usize),
    /// The client authorities.
    ClientCa,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {wrong}", path.display())]
pub struct TlsFileError {
    /// Which one.
    pub file: TlsFile,
    /// Its path.
    pub path: PathBuf,
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub help: &'static str,
}

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its file.
    pub path: PathBuf,
    /// Hosts that it is for, in lower case; `*.` stands for one label.
    pub names: Vec<String>,
    /// When it begins to be valid, in seconds since 1970.
    pub not_before: i64,
    /// When it ends to be.
    pub not_after: i64,
}

/// Files that were read and fit together.
pub struct Identity {
    config: Arc<ServerConfig>,
    certificates: Vec<Certificate>,
    /// A hash of all certificates and authorities.
    content: u64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, holds something else, or does not fit its counterpart.
    pub fn load(files: &IdentityFiles) -> Result<Self, TlsFileError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut certificates = Vec::new();
        let mut keys = Vec::new();
        let mut content = DefaultHasher::new();
        for (index, pair) in files.certificates.iter().enumerate() {
            let (certificate, key) = load_pair(index, pair, &provider)?;
            key.cert.iter().for_each(|part| part.hash(&mut content));
            keys.push((certificate.names.clone(), key));
            certificates.push(certificate);
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = load_roots(path)?;
                for root in &roots.roots {
                    (&*root.subject, &*root.subject_public_key_info).hash(&mut content);
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier =
                    if files.client_required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| TlsFileError {
                    file: TlsFile::ClientCa,
                    path: path.clone(),
                    wrong: error.to_string(),
                    help: HELP_CA,
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
        // WebSocket over HTTP/2 would be another protocol (RFC 8441).
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets carry the state of a session that may be resumed, sealed: nothing is kept here, and any shard can resume
        // it. Their key lives as long as this identity, so whoever was let in by other authorities is asked again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        config.key_log = Arc::new(Exporters);
        if let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
            config.ticketer = ticketer;
        }
        Ok(Self { config: Arc::new(config), certificates, content: content.finish() })
    }

    /// What is known of its certificates, in the order of the files.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

const HELP_CERT: &str = "a certificate begins with -----BEGIN CERTIFICATE-----; the file holds it first, then those that lead to its authority";
const HELP_KEY: &str = "a private key begins with -----BEGIN PRIVATE KEY-----, or with RSA or EC in it; it must have no passphrase";
const HELP_PAIR: &str = "name the key that the certificate was made for; `openssl x509 -pubkey -noout -in CERT` shows the one of the certificate and `openssl pkey -pubout -in KEY` the other";
const HELP_CA: &str =
    "the file holds the certificates of authorities, each from -----BEGIN CERTIFICATE----- on";
const HELP_READ: &str = "the router has to be allowed to read it";

fn load_pair(
    index: usize,
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<(Certificate, Arc<CertifiedKey>), TlsFileError> {
    let at_cert = (TlsFile::Cert(index), files.cert.as_path());
    let chain = read_certificates(at_cert, HELP_CERT)?;
    let certificate = facts(&chain[0], &files.cert).map_err(|wrong| wrong_file(at_cert, wrong, HELP_CERT))?;
    let at_key = (TlsFile::Key(index), files.key.as_path());
    let text = read(at_key)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let wrong = match error {
            pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
            error => format!("it is no PEM file: {error}"),
        };
        wrong_file(at_key, wrong, HELP_KEY)
    })?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(key) => Ok((certificate, Arc::new(key))),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let wrong = format!("the key does not belong to the certificate of {}", files.cert.display());
            Err(wrong_file(at_key, wrong, HELP_PAIR))
        }
        Err(error) => Err(wrong_file(at_key, format!("the key cannot be used: {error}"), HELP_KEY)),
    }
}

fn load_roots(path: &Path) -> Result<Arc<RootCertStore>, TlsFileError> {
    let at = (TlsFile::ClientCa, path);
    let mut roots = RootCertStore::empty();
    for authority in read_certificates(at, HELP_CA)? {
        roots.add(authority).map_err(|error| {
            wrong_file(at, format!("an authority in it cannot be used: {error}"), HELP_CA)
        })?;
    }
    Ok(Arc::new(roots))
}

type At<'a> = (TlsFile, &'a Path);

fn wrong_file((file, path): At<'_>, wrong: String, help: &'static str) -> TlsFileError {
    TlsFileError { file, path: path.to_owned(), wrong, help }
}

fn read(at: At<'_>) -> Result<Vec<u8>, TlsFileError> {
    let text = std::fs::metadata(at.1).and_then(|file| match file.len() {
        0..=FILE_BYTES_MAX => std::fs::read(at.1),
        _ => Err(io::Error::other("it is too large for such a file")),
    });
    text.map_err(|error| {
        let wrong = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => format!("it cannot be read: {error}"),
        };
        wrong_file(at, wrong, HELP_READ)
    })
}

fn read_certificates(at: At<'_>, help: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(at)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong_file(at, format!("it is no PEM file: {error}"), help))?;
    if certificates.is_empty() {
        return Err(wrong_file(at, "there is no certificate in it".to_owned(), help));
    }
    Ok(certificates)
}

/// Names and times of a certificate.
fn facts(der: &CertificateDer<'_>, path: &Path) -> Result<Certificate, String> {
    let (_, parsed) =
        X509Certificate::from_der(der).map_err(|error| format!("its certificate is broken: {error}"))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| format!("its certificate is broken: {error}"))?
        .map(|extension| &extension.value.general_names[..])
        .unwrap_or_default();
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let validity = parsed.validity();
    Ok(Certificate {
        path: path.to_owned(),
        names: names.collect(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// Picks the certificate for the host that a client names (RFC 6066, 3).
#[derive(Debug)]
struct ByName(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fits = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let asked = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let by_name = |matches: fn(&str, &str) -> bool| {
            let mut of_name =
                self.0.iter().filter(|(names, _)| names.iter().any(|name| matches(name, &asked)));
            of_name.find(|(_, key)| fits(key))
        };
        by_name(|name, asked| name == asked)
            .or_else(|| by_name(covers))
            .or_else(|| self.0.first())
            .map(|(_, key)| Arc::clone(key))
    }
}

/// Whether a name with a leading `*.` stands for this one (RFC 6125, 6.4.3): for exactly one label.
fn covers(name: &str, asked: &str) -> bool {
    let rest = name.strip_prefix("*.");
    rest.is_some_and(|rest| {
        asked.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent == rest)
    })
}

/// The identity that new handshakes of a listener get. Established connections keep theirs when the listener gets another one.
#[derive(Debug)]
pub struct Acceptor {
    files: IdentityFiles,
    identity: Identity,
}

impl Acceptor {
    /// With what was loaded from these files.
    pub fn new(files: IdentityFiles, identity: Identity) -> Self {
        Self { files, identity }
    }

    /// Where it comes from.
    pub fn files(&self) -> &IdentityFiles {
        &self.files
    }

    /// What was in the files.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether nobody could tell the two apart. A listener keeps its acceptor then, and with it the key of its clients' tickets.
    pub fn is_same(&self, other: &Self) -> bool {
        self.files == other.files && self.identity.content == other.identity.content
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.identity.config)
    }
}

/// A chain has some kilobytes; a bundle of all public authorities has 250.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(covers("*.a.example", "b.a.example"));
        for asked in ["a.example", "c.b.a.example", ".a.example", "a.example.b", ""] {
            assert!(!covers("*.a.example", asked), "{asked}");
        }
        assert!(!covers("a.example", "a.example"), "that is not a pattern");
    }
}
