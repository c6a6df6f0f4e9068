//! The opening handshake, both halves, and one against the other.

use bytes::BytesMut;
use fanwire_codec::http::{HeadLimits, HttpError, parse_request};
use fanwire_codec::ws::handshake::{
    HandshakeError, Upgrade, accept_key, verify_response, write_accept, write_request,
};

const VALID: &[(&str, &str)] = &[
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// The valid request with some fields replaced (`None` leaves one out) and others added.
fn request(line: &str, replaced: &[(&str, Option<&str>)], added: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{line}\r\n");
    for (name, value) in VALID {
        match replaced.iter().find(|(replaced, _)| replaced == name) {
            Some((_, None)) => {}
            Some((_, Some(value))) => head += &format!("{name}: {value}\r\n"),
            None => head += &format!("{name}: {value}\r\n"),
        }
    }
    for (name, value) in added {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

fn upgrade(head: &[u8]) -> Result<Vec<String>, HttpError> {
    let request = parse_request(head, &HeadLimits::default())?;
    let upgrade = Upgrade::from_request(&request)?;
    Ok(upgrade.subprotocols().map(str::to_owned).collect())
}

#[test]
fn the_accept_key_of_rfc_6455_1_3() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn a_valid_request_is_accepted() {
    let head = request(
        "GET /chat?room=1 HTTP/1.1",
        &[("Upgrade", Some("WebSocket")), ("Connection", Some("keep-alive, upgrade"))],
        &[
            ("Origin", "http://example.com"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
            ("Sec-WebSocket-Protocol", "wamp.2.json"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ],
    );
    let request = parse_request(&head, &HeadLimits::default()).unwrap();
    assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
    let upgrade = Upgrade::from_request(&request).unwrap();
    assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["chat", "superchat", "wamp.2.json"]);
    assert_eq!(upgrade.origin(), Some("http://example.com"));
    assert_eq!(upgrade.extensions().collect::<Vec<_>>(), ["permessage-deflate"]);
    assert_eq!(upgrade.key(), "dGhlIHNhbXBsZSBub25jZQ==");

    let mut out = BytesMut::new();
    write_accept(&mut out, &upgrade, Some("superchat"));
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: superchat\r\n\r\n"
    );
}

#[test]
fn each_broken_request_has_its_status() {
    let get = "GET /chat HTTP/1.1";
    let many = (0..17).map(|index| format!("p{index}")).collect::<Vec<_>>().join(",");
    let long = "p".repeat(1025);
    let cases: Vec<(u16, Vec<u8>)> = vec![
        (405, request("POST /chat HTTP/1.1", &[], &[])),
        (405, request("HEAD /chat HTTP/1.1", &[], &[])),
        (505, request("GET /chat HTTP/1.0", &[], &[])),
        (505, request("GET /chat HTTP/2.0", &[], &[])),
        (400, request(get, &[("Host", None)], &[])),
        (426, request(get, &[("Upgrade", None)], &[])),
        (426, request(get, &[("Upgrade", Some("h2c"))], &[])),
        (400, request(get, &[("Connection", None)], &[])),
        (400, request(get, &[("Connection", Some("keep-alive"))], &[])),
        (426, request(get, &[("Sec-WebSocket-Version", None)], &[])),
        (426, request(get, &[("Sec-WebSocket-Version", Some("8"))], &[])),
        (426, request(get, &[("Sec-WebSocket-Version", Some("13, 8"))], &[])),
        (400, request(get, &[], &[("Sec-WebSocket-Version", "13")])),
        (400, request(get, &[("Sec-WebSocket-Key", None)], &[])),
        (400, request(get, &[("Sec-WebSocket-Key", Some(""))], &[])),
        (400, request(get, &[("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ"))], &[])),
        (400, request(get, &[("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZSE="))], &[])),
        (400, request(get, &[("Sec-WebSocket-Key", Some("!!!!IHNhbXBsZSBub25jZQ=="))], &[])),
        (400, request(get, &[], &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])),
        (400, request(get, &[], &[("Origin", "http://a"), ("Origin", "http://b")])),
        (400, request(get, &[], &[("Content-Length", "5")])),
        (400, request(get, &[], &[("Transfer-Encoding", "chunked")])),
        (400, request(get, &[], &[("Sec-WebSocket-Protocol", "a b")])),
        (400, request(get, &[], &[("Sec-WebSocket-Protocol", "a, a")])),
        (400, request(get, &[], &[("Sec-WebSocket-Protocol", &many)])),
        (400, request(get, &[], &[("Sec-WebSocket-Protocol", &long)])),
    ];
    for (status, head) in cases {
        let error = upgrade(&head).expect_err(&String::from_utf8_lossy(&head));
        assert_eq!(error.status(), status, "{} for {}", error, String::from_utf8_lossy(&head));
        assert!(!error.to_string().is_empty());
        let names: Vec<_> = error.headers().iter().map(|(name, _)| *name).collect();
        match status {
            405 => assert_eq!(names, ["Allow"]),
            426 => assert!(names == ["Sec-WebSocket-Version"] || names == ["Upgrade", "Connection"]),
            _ => assert!(names.is_empty()),
        }
    }
}

#[test]
fn what_is_odd_but_legal_is_accepted() {
    let get = "GET /chat HTTP/1.1";
    let sixteen = (0..16).map(|index| format!("p{index}")).collect::<Vec<_>>().join(",");
    for head in [
        request(get, &[], &[("Content-Length", "0")]),
        request(get, &[("Connection", Some("close, Upgrade,"))], &[]),
        request(get, &[("Upgrade", Some("h2c, websocket"))], &[]),
        request(get, &[], &[("Sec-WebSocket-Protocol", &sixteen)]),
        request(get, &[], &[("Sec-WebSocket-Protocol", " , a ,, b,"), ("Sec-WebSocket-Extensions", "")]),
        request("GET http://SERVER.example.com/chat HTTP/1.1", &[], &[]),
    ] {
        upgrade(&head).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&head)));
    }
}

#[test]
fn both_halves_agree() {
    for offered in [&[][..], &["wamp.2.json"], &["wamp.2.msgpack", "wamp.2.json"]] {
        let key = *b"the sample nonce";
        let mut out = BytesMut::new();
        write_request(&mut out, "127.0.0.1:8080", "/ws?a=b", offered, key, &[("X-Test", "ä")]).unwrap();
        let request = parse_request(&out, &HeadLimits::default()).unwrap();
        assert_eq!(request.host(), Some("127.0.0.1:8080"));
        assert_eq!(request.header("x-test"), Some("ä"));
        let upgrade = Upgrade::from_request(&request).unwrap();
        assert_eq!(upgrade.key(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), offered);
        let chosen = offered.last().copied();
        let mut answer = BytesMut::new();
        write_accept(&mut answer, &upgrade, chosen);
        assert_eq!(verify_response(&answer, &key, offered), Ok(chosen));
        let wrong = HandshakeError::Field { name: "Sec-WebSocket-Accept" };
        assert_eq!(verify_response(&answer, b"another nonce...", offered), Err(wrong));
    }
}

#[test]
fn a_client_takes_no_other_answer() {
    let key = b"the sample nonce";
    let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(verify_response(good.as_bytes(), key, &["a"]), Ok(None));
    let field = |name| HandshakeError::Field { name };
    let cases = [
        (good.replace("Upgrade: websocket\r\n", ""), field("Upgrade")),
        (good.replace("websocket", "h2c"), field("Upgrade")),
        (good.replace("Connection: Upgrade\r\n", ""), field("Connection")),
        (good.replace("K+xOo=", "K+xOO="), field("Sec-WebSocket-Accept")),
        (good.replace("Upgrade: w", "Upgrade: websocket\r\nUpgrade: w"), field("Upgrade")),
        (
            good.replace("Upgrade: w", "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: w"),
            field("Sec-WebSocket-Extensions"),
        ),
        (
            good.replace("Upgrade: w", "Sec-WebSocket-Protocol: b\r\nUpgrade: w"),
            field("Sec-WebSocket-Protocol"),
        ),
        (
            good.replace("101 Switching Protocols", "403 Forbidden"),
            HandshakeError::Refused { status: 403, reason: "Forbidden".into() },
        ),
    ];
    for (answer, expected) in cases {
        assert_eq!(verify_response(answer.as_bytes(), key, &["a"]), Err(expected), "{answer}");
    }
    for broken in
        ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 101 x\nUpgrade: websocket\n\n", "\r\nHTTP/1.1 101 x\r\n\r\n"]
    {
        let answer = verify_response(broken.as_bytes(), key, &[]);
        assert!(matches!(answer, Err(HandshakeError::Response(_))), "{broken:?}: {answer:?}");
    }
}

#[test]
fn a_request_that_would_break_its_head_is_not_written() {
    let write = |host, path, subprotocols: &[&str], extra: &[(&str, &str)]| {
        let mut out = BytesMut::new();
        let result = write_request(&mut out, host, path, subprotocols, [0; 16], extra);
        assert!(result.is_ok() || out.is_empty());
        result.is_ok()
    };
    assert!(write("h", "/", &[], &[]));
    assert!(!write("h\r\nX: y", "/", &[], &[]));
    assert!(!write("", "/", &[], &[]));
    assert!(!write("h", "/a b", &[], &[]));
    assert!(!write("h", "a", &[], &[]));
    assert!(!write("h", "/\r\n", &[], &[]));
    assert!(!write("h", "/", &["a,b"], &[]));
    assert!(!write("h", "/", &[], &[("X", "a\r\nb")]));
    assert!(!write("h", "/", &[], &[("X\0", "a")]));
    assert!(!write("h", "/", &[], &[("", "a")]));
}
