//! Requests that do not become a WebSocket, each answered in words of HTTP and then the connection ends.

use crate::support::{Client, Router, http, status};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A good request line and good fields, from which the cases depart.
fn upgrade(start: &str, fields: &str) -> Vec<u8> {
    format!("{start}\r\n{fields}\r\n").into_bytes()
}

fn good() -> String {
    format!(
        "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{KEY}"
    )
}

const GET: &str = "GET /ws HTTP/1.1";
const WAMP: &str = "Sec-WebSocket-Protocol: wamp.2.json\r\n";

/// What is sent, the status that answers it, and what the request is called.
fn cases() -> Vec<(&'static str, u16, Vec<u8>)> {
    let good = good();
    let with = |fields: &str| upgrade(GET, &format!("{good}{WAMP}{fields}"));
    let without = |field: &str| {
        let kept: String = good.split_inclusive("\r\n").filter(|line| !line.starts_with(field)).collect();
        upgrade(GET, &(kept + WAMP))
    };
    let line = |start: &str| upgrade(start, &format!("{good}{WAMP}"));
    vec![
        ("a plain GET", 426, b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("another path", 404, line("GET /nothing/here HTTP/1.1")),
        ("the root", 404, line("GET / HTTP/1.1")),
        ("POST", 405, line("POST /ws HTTP/1.1")),
        ("an unknown method", 405, line("BREW /ws HTTP/1.1")),
        ("HTTP/1.0", 505, line("GET /ws HTTP/1.0")),
        ("HTTP/3.0", 505, line("GET /ws HTTP/3.0")),
        ("no version", 400, line("GET /ws")),
        ("two blanks", 400, line("GET  /ws HTTP/1.1")),
        ("no path", 400, line("GET ws HTTP/1.1")),
        ("a control byte in the path", 400, line("GET /w\x01s HTTP/1.1")),
        ("no request at all", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("without Host", 400, without("Host")),
        ("two Hosts", 400, with("Host: other\r\n")),
        ("without Upgrade", 426, without("Upgrade")),
        ("without Connection", 400, without("Connection")),
        ("without a key", 400, without("Sec-WebSocket-Key")),
        ("two keys", 400, with(KEY)),
        ("a short key", 400, upgrade(GET, &good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="))),
        (
            "a key that is no base64",
            400,
            upgrade(GET, &good.replace("dGhlIHNhbXBsZSBub25jZQ==", "!!!!lIHNhbXBsZSBub25jZQ==")),
        ),
        ("without a version", 426, without("Sec-WebSocket-Version")),
        ("version 8", 426, upgrade(GET, &good.replace("Version: 13", "Version: 8"))),
        ("a strange origin", 403, with("Origin: https://evil.example\r\n")),
        ("an origin that begins like ours", 403, with("Origin: http://localhost.evil.example\r\n")),
        ("the origin null", 403, with("Origin: null\r\n")),
        ("extensions that are no list", 400, with("Sec-WebSocket-Extensions: permessage-deflate;\r\n")),
        ("no subprotocol", 400, upgrade(GET, &good)),
        ("an unknown subprotocol", 400, upgrade(GET, &format!("{good}Sec-WebSocket-Protocol: soap\r\n"))),
        ("a body by length", 400, with("Content-Length: 5\r\n")),
        ("a body in chunks", 400, with("Transfer-Encoding: chunked\r\n")),
        ("both lengths", 400, with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("two lengths", 400, with("Content-Length: 0\r\nContent-Length: 5\r\n")),
        ("an unknown coding", 501, with("Transfer-Encoding: gzip\r\n")),
        ("a folded line", 400, with("X-Folded: a\r\n b\r\n")),
        ("a blank before the colon", 400, with("X-Blank : a\r\n")),
        ("a bare line feed", 400, with("X-Feed: a\nX-Other: b\r\n")),
        ("a NUL", 400, with("X-Nul: a\0b\r\n")),
        ("a line without a colon", 400, with("nonsense\r\n")),
        ("a long path", 414, line(&format!("GET /{} HTTP/1.1", "w".repeat(9 << 10)))),
        ("a long field", 431, with(&format!("X-Long: {}\r\n", "x".repeat(9 << 10)))),
        ("many fields", 431, with(&"X-Many: 1\r\n".repeat(70))),
    ]
}

on_both_drivers! {
    fn bad_requests_are_refused_in_words(driver: &str) {
        let router = Router::on(driver);
        let mut wrong = Vec::new();
        for (name, expected, request) in cases() {
            // What follows a refused request is not read as another one.
            let smuggled = [request.as_slice(), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
            let answer = http(router.wamp, &smuggled);
            let found = status(&answer);
            let answers = answer.matches("\r\nConnection: close\r\n").count();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            if found != expected || answers != 1 || body.trim().len() < 10 {
                wrong.push(format!("{name}: expected {expected}, got {answers} answers: {answer:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Client::join(router.wamp);
    }

    fn good_requests_are_accepted(driver: &str) {
        let router = Router::on(driver);
        let good = good();
        for fields in [
            format!("{good}{WAMP}"),
            format!("{good}{WAMP}Origin: http://localhost\r\n"),
            format!("{good}{WAMP}Origin: http://127.0.0.1:3000\r\n"),
            format!("{good}Sec-WebSocket-Protocol: soap, wamp.2.cbor-unknown, wamp.2.msgpack\r\n"),
            format!("{good}{WAMP}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
            good.replace("Upgrade: websocket", "uPgRaDe: WebSocket").replace("Connection: Upgrade", "Connection: keep-alive, upgrade") + WAMP,
        ] {
            let mut stream = crate::support::dial(router.wamp);
            std::io::Write::write_all(&mut stream, &upgrade(GET, &fields)).expect("sent");
            let mut answer = [0; 12];
            std::io::Read::read_exact(&mut stream, &mut answer).expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 101", "{fields}");
        }
    }

    /// A page of somewhere else may not connect with the visitor's browser; a page of this host or machine may.
    fn origins_are_judged_by_their_host_alone(driver: &str) {
        let router = Router::on(driver);
        let judged = |origin: &str| {
            let request = upgrade(GET, &format!("{}{WAMP}Origin: {origin}\r\n", good()));
            let mut stream = crate::support::dial(router.wamp);
            std::io::Write::write_all(&mut stream, &request).expect("sent");
            let mut answer = [0; 12];
            std::io::Read::read_exact(&mut stream, &mut answer).expect("an answer");
            status(&String::from_utf8_lossy(&answer))
        };
        for origin in [
            "http://localhost",
            "https://localhost",
            "http://localhost:5173",
            "http://127.0.0.1",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
        ] {
            assert_eq!(judged(origin), 101, "{origin}");
        }
        for origin in [
            "http://evil.example",
            "http://localhost.evil.example",
            "http://evil-localhost",
            "http://127.0.0.1.evil.example",
            "http://evil.example/localhost",
            "http://evil.example#localhost",
            "http://evil.example?localhost",
            "http://localhost@evil.example",
            "http://localhost:80@evil.example",
            "http://evil.example:80",
            "http://0.0.0.0",
            "http://10.0.0.1",
            "http://[::2]",
            "file://",
            "chrome-extension://abcdefgh",
            "null",
            "localhost",
            "//localhost",
            "http://",
        ] {
            assert_eq!(judged(origin), 403, "{origin}");
        }
    }
}
