//! Certificates made for a test, and the client's side of TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Folder, dial};

/// An authority that exists for one test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these hosts and its key, in PEM.
    pub fn certify(&self, names: &[&str]) -> (String, String) {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate and its key, in PEM.
    pub fn certify_client(&self, name: &str) -> (String, String) {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "a certificate");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a certificate for these hosts into the folder, as `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Folder, name: &str, hosts: &[&str]) -> (String, String) {
        let (cert, key) = self.certify(hosts);
        (folder.write(&format!("{name}.pem"), &cert), folder.write(&format!("{name}.key"), &key))
    }

    /// For clients that trust it alone.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.trusting().with_no_client_auth())
    }

    /// The same, with a certificate of this authority to show.
    pub fn client_with(&self, (cert, key): &(String, String)) -> Arc<ClientConfig> {
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).map(|item| item.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        Arc::new(self.trusting().with_client_auth_cert(chain, key).expect("they fit"))
    }

    fn trusting(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
    }
}

/// Connects with TLS, asking for `host`; the handshake is part of the first read or write.
pub fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    host: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    StreamOwned::new(session(config, host), dial(address))
}

fn session(config: &Arc<ClientConfig>, host: &str) -> ClientConnection {
    let host = ServerName::try_from(host.to_owned()).expect("a host");
    ClientConnection::new(Arc::clone(config), host).expect("a session")
}

/// A port that carries plain connections on with TLS, so that any client can be used. It lasts as long as the process.
pub struct Tunnel {
    /// Where to connect to.
    pub address: SocketAddr,
}

impl Tunnel {
    /// To this address, as a client of `localhost`.
    pub fn to(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::with(address, config, false)
    }

    /// The same; and each time that the client says something, both sides change their keys.
    pub fn that_changes_keys(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::with(address, config, true)
    }

    fn with(to: SocketAddr, config: &Arc<ClientConfig>, changes_keys: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let config = Arc::clone(config);
        thread::spawn(move || {
            for plain in listener.incoming().map_while(Result::ok) {
                let _ = plain.set_nodelay(true);
                let cipher = TcpStream::connect(to).expect("the router accepts");
                let _ = cipher.set_nodelay(true);
                carry(plain, cipher, session(&config, "localhost"), changes_keys);
            }
        });
        Self { address }
    }
}

/// Carries both directions until both have ended.
fn carry(plain: TcpStream, cipher: TcpStream, session: ClientConnection, changes_keys: bool) {
    let session = Arc::new(Mutex::new(session));
    let twice = |stream: &TcpStream| stream.try_clone().expect("a descriptor is left");
    let up = (twice(&plain), twice(&cipher), Arc::clone(&session));
    thread::spawn(move || {
        let (mut plain, mut cipher, session) = up;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = plain.read(&mut buffer).unwrap_or(0);
            let mut session = session.lock().expect("nobody panics with it");
            if count == 0 {
                session.send_close_notify();
            }
            let _ = session.writer().write_all(&buffer[..count]);
            if changes_keys && !session.is_handshaking() {
                let _ = session.refresh_traffic_keys();
            }
            while session.wants_write() && session.write_tls(&mut cipher).is_ok_and(|count| count > 0) {}
            if count == 0 {
                let _ = cipher.shutdown(Shutdown::Write);
                return;
            }
        }
    });
    thread::spawn(move || {
        let (mut plain, mut cipher) = (plain, cipher);
        // What the client's side has to say first.
        let _ = session.lock().expect("nobody panics with it").write_tls(&mut cipher);
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = cipher.read(&mut buffer).unwrap_or(0);
            let mut heard = Vec::new();
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let mut session = session.lock().expect("nobody panics with it");
                let taken = session.read_tls(&mut rest).unwrap_or(0);
                if session.process_new_packets().is_err() || taken == 0 {
                    rest = &[];
                }
                let _ = session.reader().read_to_end(&mut heard);
                while session.wants_write() && session.write_tls(&mut cipher).is_ok_and(|count| count > 0) {}
            }
            if plain.write_all(&heard).is_err() {
                // Nobody reads any more; and the other direction learns it.
                let _ = cipher.shutdown(Shutdown::Both);
                return;
            }
            if count == 0 {
                let _ = plain.shutdown(Shutdown::Both);
                return;
            }
        }
    });
}
