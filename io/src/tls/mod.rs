//! TLS: what a listener shows its clients, and the session of one connection.
//!
//! ```text
//! identity.rs   certificates, keys and client CAs from files; which certificate a client gets; whether two of them are the same
//! exporter.rs   what a connection has in common with no other one
//! session.rs    one connection: ciphertext ⇄ plaintext, without sockets
//! shard/tls.rs  the sessions of a shard, their sockets, and how many handshakes there are at once
//! ```

mod exporter;
mod identity;
mod session;
#[cfg(test)]
mod tests;

pub use identity::{Acceptor, Certificate, CertificateFiles, Identity, IdentityFiles, TlsFile, TlsFileError};
pub(crate) use session::{RECORD_BYTES, RECORD_EXTRA, Session};
