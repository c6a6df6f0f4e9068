//! A session beside rustls's own client: however the bytes are cut, each side hears what the other said.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};

use super::*;

struct Pair {
    client: ClientConnection,
    session: Session,
}

/// Of the server and of its clients; made once, for a key takes time.
static CONFIGS: LazyLock<(Acceptor, RootCertStore)> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fanwire-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificates = vec![CertificateFiles { cert, key }];
    let files = IdentityFiles { certificates, client_ca: None, client_required: true };
    let acceptor = Acceptor::new(files.clone(), Identity::load(&files).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (acceptor, roots)
});

impl Pair {
    fn new(version: &'static rustls::SupportedProtocolVersion) -> Self {
        let (acceptor, roots) = &*CONFIGS;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        Self { client, session: Session::new(acceptor.config()).unwrap() }
    }

    /// Everything that the client wants to send goes to the session, in pieces of these sizes, and the answers back.
    /// Gives what the session heard.
    fn exchange(&mut self, sizes: &mut impl Iterator<Item = usize>) -> Vec<u8> {
        let mut plain = Vec::new();
        loop {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
            if bytes.is_empty() {
                return plain;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
                rest = behind;
                let mut input = [self.session.incomplete(), piece].concat();
                let mut answer = Vec::new();
                self.session.receive(&mut input, &mut plain, &mut answer).unwrap();
                self.hear(&answer);
            }
        }
    }

    fn hear(&mut self, mut cipher: &[u8]) {
        while !cipher.is_empty() {
            self.client.read_tls(&mut cipher).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// The session says this; what the client hears.
    fn say(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        for record in plain.chunks(RECORD_BYTES) {
            let mut cipher = vec![0; RECORD_BYTES + RECORD_EXTRA];
            let count = self.session.encrypt(record, &mut cipher).unwrap();
            self.hear(&cipher[..count]);
            let mut part = vec![0; record.len()];
            self.client.reader().read_exact(&mut part).unwrap();
            heard.extend(part);
        }
        heard
    }
}

/// Handshakes of several connections by turns: each has what its own client has.
#[test]
fn both_ends_know_their_channel_and_nobody_else() {
    let mut pairs = [(); 3].map(|()| Pair::new(&version::TLS13));
    let mut is_shaking = true;
    while is_shaking {
        is_shaking = false;
        for pair in &mut pairs {
            let mut bytes = Vec::new();
            while pair.client.wants_write() {
                pair.client.write_tls(&mut bytes).unwrap();
            }
            for piece in bytes.chunks(100) {
                is_shaking = true;
                let mut input = [pair.session.incomplete(), piece].concat();
                let mut answer = Vec::new();
                pair.session.receive(&mut input, &mut Vec::new(), &mut answer).unwrap();
                pair.hear(&answer);
            }
        }
    }
    let channels = pairs.each_mut().map(|pair| {
        let exported =
            pair.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
        assert_eq!(pair.session.take_channel(), Some(exported));
        assert_eq!(pair.session.take_channel(), None, "once");
        exported
    });
    assert!(channels[0] != channels[1] && channels[1] != channels[2]);
    let mut old = Pair::new(&version::TLS12);
    old.exchange(&mut std::iter::repeat(1000));
    assert_eq!(old.session.take_channel(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_conversation(
        sizes in prop::collection::vec(1usize..3_000, 1..20),
        lengths in prop::collection::vec(1usize..40_000, 1..6),
        old in any::<bool>(),
        behind in 0usize..50_000,
    ) {
        let mut pair = Pair::new(if old { &version::TLS12 } else { &version::TLS13 });
        let mut sizes = sizes.into_iter().cycle();
        prop_assert!(pair.exchange(&mut sizes).is_empty());
        prop_assert!(pair.session.is_established());
        for (number, length) in lengths.into_iter().enumerate() {
            let text = vec![number as u8; length];
            pair.client.writer().write_all(&text).unwrap();
            if number % 2 == 1 && !old {
                pair.client.refresh_traffic_keys().unwrap();
            }
            prop_assert_eq!(&pair.exchange(&mut sizes), &text);
            // Also while the beginning of a record waits for its end.
            pair.client.writer().write_all(b"half").unwrap();
            let mut bytes = Vec::new();
            pair.client.write_tls(&mut bytes).unwrap();
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let (mut plain, mut answer) = (Vec::new(), Vec::new());
            pair.session.receive(&mut first.to_vec(), &mut plain, &mut answer).unwrap();
            prop_assert_eq!(pair.say(&text), text);
            let mut input = [pair.session.incomplete(), second].concat();
            pair.session.receive(&mut input, &mut plain, &mut answer).unwrap();
            prop_assert_eq!(&plain[..], b"half");
            prop_assert!(pair.session.incomplete().is_empty());
        }
        pair.client.send_close_notify();
        let mut bytes = Vec::new();
        pair.client.write_tls(&mut bytes).unwrap();
        // Nothing that comes behind the last word is an error, nor is it kept.
        bytes.resize(bytes.len() + behind, 7);
        let heard = pair.session.receive(&mut bytes, &mut Vec::new(), &mut Vec::new()).unwrap();
        prop_assert!(heard.closed);
        prop_assert!(pair.session.incomplete().is_empty());
    }

    /// Whatever comes instead of a handshake is an error that the peer is told, or waits for more; and it is bounded.
    #[test]
    fn garbage_is_refused(mut input in prop::collection::vec(any::<u8>(), 1..40_000), handshake in any::<bool>()) {
        let (acceptor, _) = &*CONFIGS;
        let mut session = Session::new(acceptor.config()).unwrap();
        if handshake {
            input[0] = 22;
        }
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        match session.receive(&mut input, &mut plain, &mut answer) {
            Ok(heard) => prop_assert!(!heard.established && session.incomplete().len() <= input.len()),
            Err(_) => prop_assert!(session.encrypt(b"secret", &mut [0; 1024]).is_none()),
        }
        prop_assert!(plain.is_empty());
    }
}
