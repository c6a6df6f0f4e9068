//! Request and response heads: found, read, refused, written.

use bytes::BytesMut;
use fanwire_codec::http::{
    Body, HeadLimits, HeadScanner, HttpError, Version, parse_request, parse_response, write_error,
    write_response,
};
use proptest::prelude::*;

fn status(head: &[u8]) -> u16 {
    match parse_request(head, &HeadLimits::default()) {
        Ok(_) => 200,
        Err(error) => error.status(),
    }
}

#[test]
fn a_head_is_read_as_it_was_written() {
    let head =
        b"GET /a/b%20c?d=e&f HTTP/1.1\r\nHost: example.com:80\r\nX-A:  1 \t\r\nx-a:\r\nX-B: a: b\r\n\r\n";
    let request = parse_request(head, &HeadLimits::default()).unwrap();
    assert_eq!((request.method, request.target), ("GET", "/a/b%20c?d=e&f"));
    assert_eq!((request.path(), request.query()), ("/a/b%20c", Some("d=e&f")));
    assert_eq!(
        (request.version(), request.host(), request.body()),
        (Version::Http11, Some("example.com:80"), Body::None)
    );
    assert_eq!(request.header("X-a"), Some("1"));
    assert_eq!(request.headers().all("x-A").collect::<Vec<_>>(), ["1", ""]);
    assert_eq!(request.header("x-b"), Some("a: b"));
    assert_eq!(request.header("x"), None);
    assert_eq!(request.headers().iter().count(), 4);
    assert!(request.keep_alive());
}

#[test]
fn keep_alive_follows_version_and_connection() {
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let request = parse_request(head.as_bytes(), &HeadLimits::default()).unwrap();
        assert_eq!(request.keep_alive(), expected, "{head}");
    }
}

/// What two parsers could read in two ways, and other ways to get a request past somebody.
#[test]
fn smuggling() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    let cases: Vec<(u16, &str, Vec<u8>)> = vec![
        (200, "a length", with("Content-Length: 5\r\n")),
        (200, "chunks", with("Transfer-Encoding: chunked\r\n")),
        (200, "chunks, other case", with("transfer-ENCODING: Chunked\r\n")),
        (400, "both", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        (400, "both, the other way round", with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        (400, "both, length 0", with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")),
        (400, "two lengths", with("Content-Length: 5\r\nContent-Length: 6\r\n")),
        (400, "two equal lengths", with("Content-Length: 5\r\ncontent-length: 5\r\n")),
        (400, "a list of lengths", with("Content-Length: 5, 5\r\n")),
        (400, "a signed length", with("Content-Length: +5\r\n")),
        (400, "a negative length", with("Content-Length: -5\r\n")),
        (400, "a hexadecimal length", with("Content-Length: 0x5\r\n")),
        (400, "an empty length", with("Content-Length:\r\n")),
        (400, "a length with a blank inside", with("Content-Length: 1 0\r\n")),
        (400, "a length that is no number", with("Content-Length: ５\r\n")),
        (413, "a length beyond 2^63", with("Content-Length: 9223372036854775808\r\n")),
        (413, "a length beyond 2^64", with("Content-Length: 18446744073709551621\r\n")),
        (400, "two codings", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        (
            400,
            "two codings, one identity",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ),
        (501, "a list of codings", with("Transfer-Encoding: gzip, chunked\r\n")),
        (501, "chunked twice in a list", with("Transfer-Encoding: chunked, chunked\r\n")),
        (400, "an unknown coding", with("Transfer-Encoding: xchunked\r\n")),
        (400, "identity", with("Transfer-Encoding: identity\r\n")),
        (400, "a coding with a parameter", with("Transfer-Encoding: chunked;q=1\r\n")),
        (400, "a coding in quotes", with("Transfer-Encoding: \"chunked\"\r\n")),
        (400, "an empty coding", with("Transfer-Encoding:\r\n")),
        (400, "a vertical tab before the coding", with("Transfer-Encoding: \x0bchunked\r\n")),
        (400, "a blank before the colon", with("Transfer-Encoding : chunked\r\n")),
        (400, "a tab before the colon", with("Content-Length\t: 5\r\n")),
        (400, "a folded line", with("X: a\r\n b\r\n")),
        (400, "a folded line with a tab", with("Transfer-Encoding:\r\n\tchunked\r\n")),
        (400, "a line that begins with a blank", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec()),
        (400, "a name in brackets", with("(X): a\r\n")),
        (400, "no name", with(": a\r\n")),
        (400, "no colon", with("Content-Length 5\r\n")),
        (400, "a name that is not ASCII", with("Contént-Length: 5\r\n")),
        (400, "a NUL in a value", with("X: a\0b\r\n")),
        (400, "a NUL in a name", with("X\0: a\r\n")),
        (400, "a control byte in a value", with("X: a\x1bb\r\n")),
        (400, "a DEL in a value", with("X: a\x7fb\r\n")),
        (400, "a bare CR in a value", with("X: a\rContent-Length: 5\r\n")),
        (400, "a bare LF between fields", with("X: a\nContent-Length: 5\r\n")),
        (400, "CR CR LF", with("X: a\r\r\n")),
        (400, "bare LFs only", b"GET / HTTP/1.1\nHost: a\n\n".to_vec()),
        (400, "not UTF-8", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n".to_vec()),
        (400, "an empty line first", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, "a blank first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (
            400,
            "a second request in the head",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        ),
        (400, "no host", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (200, "no host in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        (400, "two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_vec()),
        (400, "two hosts in one", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_vec()),
        (400, "a host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_vec()),
        (400, "a host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec()),
        (200, "an empty host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n".to_vec()),
        (200, "an IPv6 host", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".to_vec()),
        (
            400,
            "a coding in HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        ),
        (505, "HTTP/2", b"PRI * HTTP/2.0\r\n\r\n".to_vec()),
        (505, "HTTP/1.2", line("GET / HTTP/1.2")),
        (505, "HTTP/0.9 by name", line("GET / HTTP/0.9")),
        (400, "HTTP/0.9 by form", b"GET /\r\n\r\n".to_vec()),
        (400, "a version in small letters", line("GET / http/1.1")),
        (400, "a version of two digits", line("GET / HTTP/1.10")),
        (400, "a third word", line("GET / x HTTP/1.1")),
        (400, "two blanks before the target", line("GET  / HTTP/1.1")),
        (400, "two blanks after the target", line("GET /  HTTP/1.1")),
        (400, "a tab in the request line", line("GET\t/ HTTP/1.1")),
        (400, "a blank at the end", line("GET / HTTP/1.1 ")),
        (400, "a method in brackets", line("G(T / HTTP/1.1")),
        (400, "a relative target", line("GET a HTTP/1.1")),
        (400, "a fragment", line("GET /a#b HTTP/1.1")),
        (400, "a target that is not ASCII", line("GET /é HTTP/1.1")),
        (400, "a star for GET", line("GET * HTTP/1.1")),
        (200, "a star for OPTIONS", line("OPTIONS * HTTP/1.1")),
        (400, "a tunnel", line("CONNECT a:80 HTTP/1.1")),
        (200, "a URL with the same host", line("GET http://A/b HTTP/1.1")),
        (400, "a URL with another host", line("GET http://b/c HTTP/1.1")),
        (400, "a URL with a user", line("GET http://u@a/c HTTP/1.1")),
        (400, "a URL of another kind", line("GET ftp://a/c HTTP/1.1")),
    ];
    for (expected, name, head) in &cases {
        assert_eq!(status(head), *expected, "{name}: {:?}", String::from_utf8_lossy(head));
    }
    // The scanner passes no head that holds a bare LF, and finds the end of all others.
    for (_, name, head) in &cases {
        match HeadScanner::new().find_end(head, &HeadLimits::default()) {
            Ok(Some(end)) => assert!(end <= head.len() && head[..end].ends_with(b"\r\n\r\n"), "{name}"),
            Ok(None) => panic!("{name}: waits for more"),
            Err(error) => assert_eq!(error.status(), 400, "{name}"),
        }
    }
}

#[test]
fn bodies() {
    for (fields, expected) in [
        ("", Body::None),
        ("Content-Length: 0\r\n", Body::None),
        ("Content-Length: 007\r\n", Body::Length(7)),
        ("Content-Length: 9223372036854775807\r\n", Body::Length(i64::MAX as u64)),
        ("Transfer-Encoding: chunked\r\n", Body::Chunked),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(parse_request(head.as_bytes(), &HeadLimits::default()).unwrap().body(), expected);
    }
}

#[test]
fn the_limits_of_a_head_are_exact() {
    let limits = HeadLimits { bytes_max: 200, fields_max: 3 };
    let of_size = |size: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(size - start.len() - 4)).into_bytes()
    };
    let find = |head: &[u8]| HeadScanner::new().find_end(head, &limits);
    assert_eq!(find(&of_size(200)), Ok(Some(200)));
    assert!(parse_request(&of_size(200), &limits).is_ok());
    assert_eq!(find(&of_size(201)).unwrap_err().status(), 431);
    assert_eq!(parse_request(&of_size(201), &limits).unwrap_err().status(), 431);
    // Before the end has come, too: no byte beyond the limit is waited for.
    assert_eq!(find(&of_size(300)[..199]), Ok(None));
    assert_eq!(find(&of_size(300)[..200]).unwrap_err().status(), 431);
    assert_eq!(find(&[b'G'; 200]).unwrap_err().status(), 414);

    let of_fields = |count: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1)).into_bytes()
    };
    assert!(find(&of_fields(3)).unwrap().is_some());
    assert!(parse_request(&of_fields(3), &limits).is_ok());
    assert_eq!(find(&of_fields(4)).unwrap_err().status(), 431);
    assert_eq!(parse_request(&of_fields(4), &limits).unwrap_err().status(), 431);
}

#[test]
fn a_peer_that_speaks_something_else_is_told_at_once() {
    for bytes in [&b"\x16\x03\x01"[..], b"\x7f\xf1\x00\x00", b"\r\n", b"\0", b"{", b" GET"] {
        assert_eq!(HeadScanner::new().find_end(bytes, &HeadLimits::default()).unwrap_err().status(), 400);
    }
}

/// CVE-2023-43669: a head that comes byte by byte is not searched from its start each time.
#[test]
fn a_trickling_head_is_looked_at_once() {
    let head =
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", format!("X: {}\r\n", "y".repeat(120)).repeat(60));
    let head = head.as_bytes();
    let mut scanner = HeadScanner::new();
    for end in 1..head.len() {
        assert_eq!(scanner.find_end(&head[..end], &HeadLimits::default()), Ok(None));
        // Bytes already seen may change without being noticed, because they are not read again.
        let mut changed = head[..end].to_vec();
        changed.fill(b'\n');
        assert_eq!(scanner.find_end(&changed, &HeadLimits::default()), Ok(None));
    }
    assert_eq!(scanner.find_end(head, &HeadLimits::default()), Ok(Some(head.len())));
}

#[test]
fn a_response_is_written_and_read_back() {
    let mut out = BytesMut::new();
    write_response(
        &mut out,
        200,
        &[("Content-Type", "text/plain"), ("X-Ä".trim_end_matches('Ä'), "ü\t")],
        b"body",
        true,
    )
    .unwrap();
    let end = HeadScanner::new().find_end(&out, &HeadLimits::default()).unwrap().unwrap();
    let response = parse_response(&out[..end]).unwrap();
    assert_eq!((response.status, response.reason), (200, "OK"));
    assert_eq!(response.header("content-length"), Some("4"));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.header("x-"), Some("ü"));
    assert_eq!(&out[end..], b"body");

    let mut out = BytesMut::new();
    write_response(&mut out, 204, &[], b"", false).unwrap();
    assert_eq!(&out[..], b"HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn a_refusal_says_what_and_closes() {
    let mut out = BytesMut::new();
    let error = HttpError::new(405, "a WebSocket begins with GET").with_headers(&[("Allow", "GET")]);
    write_error(&mut out, &error);
    let text = std::str::from_utf8(&out).unwrap();
    assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"));
    assert!(text.contains("\r\nConnection: close\r\n"));
    assert!(text.ends_with("\r\n\r\n405 Method Not Allowed: a WebSocket begins with GET.\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Response splitting: whatever is given as a header, the head that is written has the fields that were given.
    #[test]
    fn no_header_value_can_break_the_head(name in "\\PC{1,5}|[\r\n\0:aX-]{1,5}", value in "\\PC{0,9}|[\r\n\0\t: aX]{0,9}") {
        let mut out = BytesMut::new();
        let result = write_response(&mut out, 200, &[(&name, &value), ("X-Last", "1")], b"", false);
        if result.is_err() {
            prop_assert!(out.is_empty());
        } else {
            let response = parse_response(&out).unwrap();
            let fields: Vec<_> = response.headers().iter().collect();
            prop_assert_eq!(fields.len(), 3);
            prop_assert_eq!(fields[0].0, &name);
            prop_assert_eq!(fields[0].1, value.trim_matches([' ', '\t']));
        }
    }

    #[test]
    fn any_cuts_find_the_same_end(
        bytes in "(GET / HTTP/1.1\r\n)?([A-Z]{1,3}: [a-z]{0,3}(\r\n|\r\n|\r\n|\n|\r)){0,8}(\r\n)?[\r\n\\PC]{0,5}",
        cuts in prop::collection::vec(1..9_usize, 0..40),
    ) {
        let bytes = bytes.as_bytes();
        let limits = HeadLimits { bytes_max: 60, fields_max: 5 };
        let whole = HeadScanner::new().find_end(bytes, &limits);
        let mut scanner = HeadScanner::new();
        let mut end = 0_usize;
        let mut found = Ok(None);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            end = end.saturating_add(cut).min(bytes.len());
            found = scanner.find_end(&bytes[..end], &limits);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "GET / HTTP/1.1\r\n[\\PC\r\n:]{0,200}\r\n\r\n") {
        let _ = parse_request(&bytes, &HeadLimits::default());
        let _ = parse_response(&bytes);
        if let Ok(request) = parse_request(text.as_bytes(), &HeadLimits::default()) {
            let _ = fanwire_codec::ws::handshake::Upgrade::from_request(&request);
        }
    }
}
