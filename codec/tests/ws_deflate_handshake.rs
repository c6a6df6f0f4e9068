//! Which offers of permessage-deflate are taken, and what is answered (RFC 7692, 5 and 7.1).

use bytes::BytesMut;
use fanwire_codec::http::{HeadLimits, parse_request};
use fanwire_codec::ws::deflate::{Agreement, DeflatePolicy, Direction, Offer};
use fanwire_codec::ws::handshake::{
    HandshakeError, Upgrade, verify_response, verify_response_with, write_accept, write_request,
};

const KEY: [u8; 16] = *b"the sample nonce";

fn request(fields: &[&str]) -> BytesMut {
    let mut out = BytesMut::new();
    let extra: Vec<_> = fields.iter().map(|field| ("Sec-WebSocket-Extensions", *field)).collect();
    write_request(&mut out, "localhost", "/", &[], KEY, &extra).unwrap();
    out
}

/// The response of a server with this policy to a client with these fields; `Err` has the HTTP status.
fn respond(fields: &[&str], policy: &DeflatePolicy) -> Result<(BytesMut, Option<Agreement>), u16> {
    let head = request(fields);
    let parsed = parse_request(&head, &HeadLimits::default()).unwrap();
    let mut upgrade = Upgrade::from_request(&parsed).unwrap();
    let agreed = upgrade.negotiate_deflate(policy).map_err(|error| error.status())?;
    assert_eq!(agreed, upgrade.deflate_agreement());
    let mut out = BytesMut::new();
    write_accept(&mut out, &upgrade, None);
    Ok((out, agreed))
}

/// The value of the response's field.
fn answer(fields: &[&str], policy: &DeflatePolicy) -> Option<String> {
    let (head, agreed) = respond(fields, policy).unwrap();
    let head = String::from_utf8(head.to_vec()).unwrap();
    let value =
        head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ").map(str::to_owned));
    assert_eq!(value.is_some(), agreed.is_some(), "{head}");
    value
}

const PLAIN: DeflatePolicy = DeflatePolicy { takeover: false, window_bits: 15 };
const TAKEOVER: DeflatePolicy = DeflatePolicy { takeover: true, window_bits: 12 };

#[test]
fn without_takeover_each_side_is_told_to_begin_anew() {
    let bare = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=15",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate;client_no_context_takeover ; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits=\"10\"",
    ] {
        assert_eq!(answer(&[offer], &PLAIN).as_deref(), Some(bare), "{offer}");
    }
    for (offered, answered) in [(15, 15), (14, 9), (9, 9)] {
        let offer = format!("permessage-deflate; server_max_window_bits={offered}");
        let expected = format!("{bare}; server_max_window_bits={answered}");
        assert_eq!(answer(&[&offer], &PLAIN), Some(expected));
    }
}

#[test]
fn with_takeover_the_clients_window_is_limited_where_the_client_allows_it() {
    for (offer, expected) in [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=15", "permessage-deflate; client_max_window_bits=12"),
        // It will use no more than that anyway.
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=8", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=11", "permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        (
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
            "permessage-deflate; client_no_context_takeover",
        ),
    ] {
        assert_eq!(answer(&[offer], &TAKEOVER).as_deref(), Some(expected), "{offer}");
    }
    let (_, agreed) = respond(&["permessage-deflate; client_max_window_bits"], &TAKEOVER).unwrap();
    let direction = Direction { takeover: true, window_bits: 12 };
    assert_eq!(agreed, Some(Agreement { server: direction, client: direction }));
    // Not limited, its window is the largest; ours is what we configured, said or not.
    let (_, agreed) = respond(&["permessage-deflate"], &TAKEOVER).unwrap();
    assert_eq!(agreed.map(|agreed| (agreed.server.window_bits, agreed.client.window_bits)), Some((12, 15)));
}

#[test]
fn offers_that_cannot_be_met_are_declined() {
    for offer in [
        "",
        "x-webkit-deflate-frame",
        "permessage-bzip2",
        "Permessage-Deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=999999999999",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=\"true\"",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=15",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
    ] {
        for policy in [PLAIN, TAKEOVER] {
            assert_eq!(answer(&[offer], &policy), None, "{offer}");
        }
    }
}

#[test]
fn the_first_acceptable_offer_wins_in_one_field_or_several() {
    let first = "permessage-deflate; server_max_window_bits=8";
    let second = "permessage-deflate; server_max_window_bits=9";
    let third = "permessage-deflate";
    let expected = Some(
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"
            .to_owned(),
    );
    assert_eq!(answer(&[&format!("other;x=\"a\", {first}, ,{second}, {third}")], &PLAIN), expected);
    assert_eq!(answer(&["other", first, second, third], &PLAIN), expected);
}

#[test]
fn a_field_that_is_no_list_fails_the_handshake() {
    for fields in [&["permessage-deflate;"][..], &["permessage-deflate", "a b"], &["a=b"], &["x; y=\"z"]] {
        assert_eq!(respond(fields, &PLAIN).map(|_| ()), Err(400), "{fields:?}");
    }
}

#[test]
fn nothing_is_answered_where_nothing_was_negotiated() {
    let head = request(&["permessage-deflate"]);
    let parsed = parse_request(&head, &HeadLimits::default()).unwrap();
    let upgrade = Upgrade::from_request(&parsed).unwrap();
    let mut out = BytesMut::new();
    write_accept(&mut out, &upgrade, None);
    assert!(!String::from_utf8_lossy(&out).contains("Extensions"));
    let opened = verify_response_with(&out, &KEY, &[], Some(&Offer::default())).unwrap();
    assert_eq!(opened.deflate, None);
}

#[test]
fn both_halves_agree_whatever_is_offered() {
    let mut seen = 0;
    for bits in [None, Some(9), Some(11), Some(15)] {
        for flags in 0..8_u8 {
            let offer = Offer {
                server_no_context_takeover: flags & 1 != 0,
                client_no_context_takeover: flags & 2 != 0,
                server_max_window_bits: bits,
                client_max_window_bits: flags & 4 != 0,
            };
            for policy in [PLAIN, TAKEOVER, DeflatePolicy { takeover: true, window_bits: 15 }] {
                let (head, agreed) = respond(&[&offer.to_string()], &policy).unwrap();
                let opened = verify_response_with(&head, &KEY, &[], Some(&offer)).unwrap();
                let (server, client) = (agreed.unwrap(), opened.deflate.unwrap());
                // Each side may believe in a larger window or a longer memory of its peer than that uses, not smaller.
                assert!(server.server.window_bits <= client.server.window_bits);
                assert!(server.client.window_bits >= client.client.window_bits);
                assert!(server.server.takeover <= client.server.takeover);
                assert!(server.client.takeover >= client.client.takeover);
                assert!(verify_response(&head, &KEY, &[]).is_err(), "it was not offered");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 96);
}

#[test]
fn a_client_takes_only_what_it_offered() {
    let offer = Offer { server_max_window_bits: Some(12), client_max_window_bits: true, ..Offer::default() };
    let good =
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=9";
    let agreed = offer.check(good).unwrap();
    assert_eq!(agreed.server, Direction { takeover: false, window_bits: 10 });
    assert_eq!(agreed.client, Direction { takeover: false, window_bits: 9 });
    for wrong in [
        "",
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=13",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=8",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; other",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover; server_max_window_bits=12",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=12, permessage-deflate",
        "other; server_no_context_takeover; server_max_window_bits=12",
        "permessage-deflate; ",
    ] {
        assert!(offer.check(wrong).is_err(), "{wrong}");
    }
    // Unasked, a limit of our window is wrong and one of the server's own is nothing to us.
    let plain = Offer::default();
    assert!(
        plain.check("permessage-deflate; server_no_context_takeover; client_max_window_bits=10").is_err()
    );
    assert!(plain.check("permessage-deflate; server_no_context_takeover; server_max_window_bits=8").is_ok());
    let twice = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n";
    let field = HandshakeError::Field { name: "Sec-WebSocket-Extensions" };
    assert_eq!(verify_response_with(twice.as_bytes(), &KEY, &[], Some(&plain)), Err(field));
}
