//! The client's side of TLS, over a blocking socket, for a thread that reads and one at a time that writes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::users::plain;

/// Whom to trust: the authorities of this file, or those of the system. The error is in words for the user.
pub fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let named = path.display();
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("--ca {named}: {error}"))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(format!("--ca {named}: there is no certificate in it"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            if roots.add_parsable_certificates(found.certs).0 == 0 {
                return Err(
                    "this system has no authorities that could be trusted; name some with --ca".into()
                );
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// One handle of a TLS connection: one of its handles is to be read and another one to be written.
///
/// Nobody waits for the socket while the session is locked. So a writer that waits for the peer to read keeps nobody from reading,
/// which may be what the peer waits for.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: Arc<Mutex<ClientConnection>>,
    /// Received, and not taken by the session yet: it takes nothing while it holds much plaintext.
    unheard: Vec<u8>,
}

impl TlsStream {
    /// Shakes hands. The error is in words for the user.
    pub fn connect(
        mut socket: TcpStream,
        config: Arc<ClientConfig>,
        host: &str,
        patience: Duration,
    ) -> Result<Self, String> {
        let host = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no host"))?;
        let mut session = ClientConnection::new(config, host).map_err(|error| error.to_string())?;
        let limited = socket.set_read_timeout(Some(patience)).and_then(|()| session.complete_io(&mut socket));
        limited.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => format!("no TLS with what answers: {error}"),
            io::ErrorKind::UnexpectedEof => "what answers ends the connection; does it speak TLS?".to_owned(),
            _ => format!("no TLS with what answers: {}", plain(&error)),
        })?;
        Ok(Self { socket, session: Arc::new(Mutex::new(session)), unheard: Vec::new() })
    }

    /// The same connection once more, for another thread.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, session: Arc::clone(&self.session), unheard: Vec::new() })
    }

    /// How long a read may wait; `None`: for ever.
    pub fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(wait)
    }

    fn lock(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().expect("no thread panics with it")
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.lock().reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.unheard.is_empty() {
                let mut cipher = [0; 16 << 10];
                let count = self.socket.read(&mut cipher)?;
                self.unheard.extend_from_slice(&cipher[..count]);
            }
            let mut session = self.lock();
            let mut rest = &self.unheard[..];
            // Nothing is the end of the stream, to the session too.
            session.read_tls(&mut rest)?;
            let taken = self.unheard.len() - rest.len();
            session.process_new_packets().map_err(io::Error::other)?;
            drop(session);
            // What the session has to say to that, a change of keys at most, goes out before what is written next.
            self.unheard.drain(..taken);
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut cipher = Vec::new();
        let mut session = self.lock();
        let count = session.writer().write(bytes)?;
        while session.wants_write() {
            session.write_tls(&mut cipher)?;
        }
        drop(session);
        self.socket.write_all(&cipher)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
