//! The rules of RFC 6455 one by one, as tables, and what other implementations got wrong.

mod ws_support;

use fanwire_codec::ws::{Limits, Pool, ProtocolError, Received, Receiver, Role, is_close_code};
use ws_support::{Driver, Event, Frame, events, frame, server_events};

fn close(code: u16, reason: &str) -> Frame {
    frame(true, 8, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

fn failed(error: ProtocolError) -> Vec<Event> {
    vec![Event::Failed(error)]
}

#[test]
fn the_examples_of_rfc_6455_5_7() {
    let hello = Event::Text(b"Hello".to_vec());
    let binary_256 = [&[0x82, 0x7E, 0x01, 0x00][..], &[0xAB; 256]].concat();
    let binary_64k = [&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0][..], &[0xCD; 65536]].concat();
    let cases: [(&str, Role, &[u8], Event); 7] = [
        ("unmasked text", Role::Client, b"\x81\x05\x48\x65\x6c\x6c\x6f", hello.clone()),
        ("masked text", Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", hello.clone()),
        ("fragmented text", Role::Client, b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", hello),
        ("ping", Role::Client, b"\x89\x05\x48\x65\x6c\x6c\x6f", Event::Ping(b"Hello".to_vec())),
        (
            "pong",
            Role::Server,
            b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            Event::Pong(b"Hello".to_vec()),
        ),
        ("256 bytes", Role::Client, &binary_256, Event::Binary(vec![0xAB; 256])),
        ("64 KiB", Role::Client, &binary_64k, Event::Binary(vec![0xCD; 65536])),
    ];
    for (name, role, bytes, expected) in cases {
        assert_eq!(events(role, bytes), [expected], "{name}");
    }
}

/// Published decoders do each of these wrong, or did.
#[test]
fn defects_of_others() {
    let ping_of_126 = frame(true, 9, [0; 126]);
    let too_long = |opcode| Frame { opcode, ..ping_of_126.clone() };
    let cases: Vec<(&str, Vec<Frame>, Vec<Event>)> = vec![
        (
            "an unmasked client frame is taken",
            vec![frame(true, 1, "a").unmasked()],
            failed(ProtocolError::NotMasked),
        ),
        ("a ping over 125 bytes is taken", vec![too_long(9)], failed(ProtocolError::ControlTooLong)),
        ("a pong over 125 bytes is taken", vec![too_long(10)], failed(ProtocolError::ControlTooLong)),
        ("a close over 125 bytes is taken", vec![too_long(8)], failed(ProtocolError::ControlTooLong)),
        (
            "a second unfinished text replaces the first",
            vec![frame(false, 1, "a"), frame(false, 1, "b"), frame(true, 0, "c")],
            failed(ProtocolError::UnfinishedMessage),
        ),
        (
            "a whole message inside an unfinished one is delivered",
            vec![frame(false, 2, "a"), frame(true, 1, "b"), frame(true, 0, "c")],
            failed(ProtocolError::UnfinishedMessage),
        ),
        (
            "a fragmented text that ends inside a character is delivered without it",
            vec![frame(false, 1, "abc"), frame(true, 0, b"\xe2\x82")],
            failed(ProtocolError::InvalidUtf8 { offset_bytes: 3 }),
        ),
        (
            "text that is not UTF-8 is delivered",
            vec![frame(true, 1, b"ab\xff")],
            failed(ProtocolError::InvalidUtf8 { offset_bytes: 2 }),
        ),
        ("half a close code is taken", vec![frame(true, 8, "x")], failed(ProtocolError::CloseBodyOfOneByte)),
        (
            "close code 1014 is refused",
            vec![close(1014, "")],
            vec![Event::Close(Some((1014, String::new())))],
        ),
        (
            "close code 1015 is taken",
            vec![close(1015, "")],
            failed(ProtocolError::InvalidCloseCode { code: 1015 }),
        ),
        (
            "a fragmented control frame is taken",
            vec![frame(false, 9, "a")],
            failed(ProtocolError::FragmentedControl),
        ),
        (
            "a continuation of nothing is delivered",
            vec![frame(true, 0, "a")],
            failed(ProtocolError::UnexpectedContinuation),
        ),
        (
            "a continuation after a finished message is delivered",
            vec![frame(false, 1, "a"), frame(true, 0, "b"), frame(true, 0, "c")],
            vec![Event::Text(b"ab".to_vec()), Event::Failed(ProtocolError::UnexpectedContinuation)],
        ),
        (
            "a control frame's body runs into the text's UTF-8 state",
            vec![
                frame(false, 1, b"\xe2"),
                frame(true, 9, b"\xff\xfe"),
                frame(false, 0, b"\x82"),
                frame(true, 10, b"\xe2"),
                frame(true, 0, b"\xac"),
            ],
            vec![Event::Ping(vec![0xff, 0xfe]), Event::Pong(vec![0xe2]), Event::Text("€".into())],
        ),
        (
            "a close inside a fragmented text is checked as text",
            vec![frame(false, 1, b"\xe2\x82"), close(1000, "é")],
            vec![Event::Close(Some((1000, "é".into())))],
        ),
        (
            "frames after the close frame are delivered",
            vec![close(1000, ""), frame(true, 1, "late"), frame(true, 3, "")],
            vec![Event::Close(Some((1000, String::new())))],
        ),
        (
            "empty text fragments lose the kind",
            vec![frame(false, 1, ""), frame(false, 0, ""), frame(true, 0, "")],
            vec![Event::Text(vec![])],
        ),
    ];
    for (name, frames, expected) in cases {
        assert_eq!(server_events(&frames), expected, "{name}");
    }
}

#[test]
fn a_server_refuses_the_unmasked_and_a_client_the_masked() {
    for opcode in [1, 2, 8, 9, 10] {
        let (masked, plain) = (frame(true, opcode, "").encode(), frame(true, opcode, "").unmasked().encode());
        assert_eq!(events(Role::Server, &plain), failed(ProtocolError::NotMasked));
        assert_eq!(events(Role::Client, &masked), failed(ProtocolError::Masked));
        assert!(!matches!(events(Role::Server, &masked)[..], [Event::Failed(_)]));
        assert!(!matches!(events(Role::Client, &plain)[..], [Event::Failed(_)]));
    }
}

#[test]
fn reserved_bits_and_opcodes_are_refused_on_their_first_byte() {
    for first in 0..=255_u8 {
        let (bits, opcode) = (first >> 4 & 7, first & 15);
        let expected = match (bits, opcode) {
            (1.., _) => failed(ProtocolError::ReservedBits { bits }),
            (0, 3..=7 | 11..=15) => failed(ProtocolError::ReservedOpcode { opcode }),
            (0, 8..) if first < 128 => failed(ProtocolError::FragmentedControl),
            (0, 0) => failed(ProtocolError::UnexpectedContinuation),
            _ => vec![],
        };
        assert_eq!(events(Role::Server, &[first]), expected, "{first:#04x}");
    }
}

#[test]
fn lengths() {
    let too_large = |bytes| ProtocolError::MessageTooLarge { bytes, bytes_max: 1 << 20 };
    let not_minimal = |length| ProtocolError::LengthNotMinimal { length };
    // Form of the length, its value, what the header alone gives.
    let cases: [(u8, u64, Option<ProtocolError>); 17] = [
        (0, 125, None),
        (126, 0, Some(not_minimal(0))),
        (126, 125, Some(not_minimal(125))),
        (126, 126, None),
        (126, 127, None),
        (126, 65535, None),
        (127, 0, Some(not_minimal(0))),
        (127, 126, Some(not_minimal(126))),
        (127, 65535, Some(not_minimal(65535))),
        (127, 65536, None),
        (127, 1 << 20, None),
        (127, (1 << 20) + 1, Some(too_large((1 << 20) + 1))),
        (127, 1 << 31, Some(too_large(1 << 31))),
        (127, (1 << 32) - 1, Some(too_large((1 << 32) - 1))),
        (127, (1 << 63) - 1, Some(too_large((1 << 63) - 1))),
        (127, 1 << 63, Some(ProtocolError::LengthOutOfRange)),
        (127, u64::MAX, Some(ProtocolError::LengthOutOfRange)),
    ];
    for (form, value, expected) in cases {
        let header = frame(true, 2, "").declared(form, value).encode();
        let expected: Vec<_> = expected.map(Event::Failed).into_iter().collect();
        assert_eq!(events(Role::Server, &header), expected, "{value} as {form}");
    }
    assert_eq!(server_events(&[frame(true, 2, "")]), [Event::Binary(vec![])]);
}

#[test]
fn whole_payloads_of_every_length_form_arrive() {
    for length in [0, 1, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537] {
        let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
        assert_eq!(server_events(&[frame(true, 2, &payload)]), [Event::Binary(payload)]);
    }
}

#[test]
fn the_limit_counts_all_fragments_and_is_exact() {
    let run = |sizes: &[usize], bytes_max| {
        let mut driver = Driver::new(Role::Server, bytes_max);
        for (index, &size) in sizes.iter().enumerate() {
            let fin = index + 1 == sizes.len();
            driver.feed(
                &frame(fin, if index == 0 { 2 } else { 0 }, vec![1; size]).encode(),
                &mut Pool::default(),
            );
        }
        driver.events
    };
    let too_large = |bytes, bytes_max| failed(ProtocolError::MessageTooLarge { bytes, bytes_max });
    assert_eq!(run(&[100], 100), [Event::Binary(vec![1; 100])]);
    assert_eq!(run(&[101], 100), too_large(101, 100));
    assert_eq!(run(&[50, 50], 100), [Event::Binary(vec![1; 100])]);
    assert_eq!(run(&[50, 51], 100), too_large(101, 100));
    assert_eq!(run(&[64; 65], 4096), too_large(4160, 4096));
    assert_eq!(run(&[0], 0), [Event::Binary(vec![])]);
    // A control frame is no part of the message.
    let mut driver = Driver::new(Role::Server, 0);
    driver.feed(&frame(true, 9, [1; 125]).encode(), &mut Pool::default());
    assert_eq!(driver.events, [Event::Ping(vec![1; 125])]);
}

#[test]
fn every_close_code() {
    for code in 0..=u16::MAX {
        let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        assert_eq!(is_close_code(code), legal, "{code}");
        let expected = if legal {
            Event::Close(Some((code, "é".into())))
        } else {
            Event::Failed(ProtocolError::InvalidCloseCode { code })
        };
        assert_eq!(server_events(&[close(code, "é")]), [expected]);
    }
    assert_eq!(server_events(&[frame(true, 8, "")]), [Event::Close(None)]);
    assert_eq!(server_events(&[frame(true, 8, b"\x03\xe8\xff")]), failed(ProtocolError::InvalidCloseReason));
    assert_eq!(
        server_events(&[close(1000, &"r".repeat(123))]),
        [Event::Close(Some((1000, "r".repeat(123))))]
    );
}

#[test]
fn each_error_has_its_close_code_and_words() {
    let cases = [
        (ProtocolError::ReservedBits { bits: 4 }, 1002),
        (ProtocolError::NotMasked, 1002),
        (ProtocolError::LengthOutOfRange, 1002),
        (ProtocolError::InvalidCloseCode { code: 5 }, 1002),
        (ProtocolError::CloseBodyOfOneByte, 1002),
        (ProtocolError::InvalidCloseReason, 1007),
        (ProtocolError::InvalidUtf8 { offset_bytes: 1 << 40 }, 1007),
        (ProtocolError::EmptyFragments, 1008),
        (ProtocolError::MessageTooLarge { bytes: u64::MAX, bytes_max: u64::MAX }, 1009),
    ];
    for (error, code) in cases {
        assert_eq!(error.close_code(), code);
        // It goes into the close frame.
        assert!(error.to_string().len() <= fanwire_codec::ws::CLOSE_REASON_BYTES_MAX, "{error}");
    }
}

#[test]
fn a_run_of_1024_empty_fragments_is_taken_and_one_more_is_not() {
    let run = |empty: usize| {
        let mut frames = vec![frame(false, 1, "a")];
        frames.extend(vec![frame(false, 0, ""); empty]);
        frames.push(frame(true, 0, "b"));
        server_events(&frames)
    };
    assert_eq!(run(1024), [Event::Text(b"ab".to_vec())]);
    assert_eq!(run(1025), failed(ProtocolError::EmptyFragments));
    // A run is broken by a byte, not by a ping.
    let mut broken = vec![frame(false, 1, "")];
    let mut pinged = broken.clone();
    for round in 0..1500 {
        broken.push(frame(false, 0, if round % 1000 == 999 { "x" } else { "" }));
        pinged.push(frame(true, 10, ""));
        pinged.push(frame(false, 0, ""));
    }
    broken.push(frame(true, 0, ""));
    assert_eq!(server_events(&broken), [Event::Text(b"x".to_vec())]);
    assert_eq!(server_events(&pinged).last(), Some(&Event::Failed(ProtocolError::EmptyFragments)));
}

#[test]
fn seventy_thousand_fragments_are_one_message() {
    let mut driver = Driver::new(Role::Server, 16 << 20);
    let mut pool = Pool::default();
    let mut first = frame(false, 1, "x".repeat(64)).encode();
    driver.feed(&first, &mut pool);
    first[0] = 0;
    for _ in 0..70_000 {
        driver.feed(&first, &mut pool);
    }
    assert!(driver.receiver.is_mid_message());
    driver.feed(&frame(true, 0, "").encode(), &mut pool);
    assert_eq!(driver.events, [Event::Text("x".repeat(64 * 70_001).into_bytes())]);
    assert!(!driver.receiver.is_mid_message());
}

#[test]
fn what_is_whole_is_handed_out_where_it_lies() {
    let mut input = [frame(true, 1, "one").encode(), frame(true, 9, "two").encode()].concat();
    let bytes = input.as_ptr_range();
    let (mut receiver, mut pool, limits) = (Receiver::new(Role::Server), Pool::default(), Limits::default());
    let (consumed, received) = receiver.receive(&mut input, &limits, &mut pool).unwrap();
    let Some(Received::Message { payload, .. }) = received else { panic!("{received:?}") };
    assert!(bytes.contains(&payload.as_ptr()));
    payload.fill(b'-');
    let (_, received) = receiver.receive(&mut input[consumed..], &limits, &mut pool).unwrap();
    let Some(Received::Ping(payload)) = received else { panic!("{received:?}") };
    assert!(bytes.contains(&payload.as_ptr()));
    assert_eq!(payload, b"two");
}

#[test]
fn is_mid_message_from_the_first_byte_to_the_last() {
    let (mut driver, mut pool) = (Driver::new(Role::Server, 1000), Pool::default());
    let bytes =
        [frame(false, 1, "ab"), frame(true, 9, ""), frame(true, 0, "c")].map(|frame| frame.encode()).concat();
    assert!(!driver.receiver.is_mid_message());
    for byte in &bytes[..bytes.len() - 1] {
        driver.feed(&[*byte], &mut pool);
        assert!(driver.receiver.is_mid_message());
    }
    driver.feed(&bytes[bytes.len() - 1..], &mut pool);
    assert!(!driver.receiver.is_mid_message());
    assert_eq!(pool.free_count(), 1);
}

#[test]
fn buffers_return_to_the_pool_at_the_end_of_whatever() {
    let mut pool = Pool::default();
    let unfinished = frame(false, 1, "unfinished").encode();
    // A violation, a close frame, a lost connection.
    for (end, lost) in
        [(frame(true, 3, "").encode(), false), (close(1000, "").encode(), false), (vec![], true)]
    {
        let mut driver = Driver::new(Role::Server, 1000);
        driver.feed(&unfinished, &mut pool);
        assert_eq!(pool.free_count(), 0);
        driver.feed(&end, &mut pool);
        if lost {
            driver.receiver.discard(&mut pool);
        }
        assert_eq!(pool.free_count(), 1);
        assert!(driver.receiver.is_done() && !driver.receiver.is_mid_message());
        driver.feed(&frame(true, 1, "late").encode(), &mut pool);
        assert!(driver.events.len() <= 1);
    }
}

#[test]
fn direct_room_is_the_rest_of_a_large_frame_or_what_has_come_at_most() {
    let whole = frame(true, 2, vec![5; 200_000]).encode();
    let (mut driver, mut pool) = (Driver::new(Role::Server, 1 << 20), Pool::default());
    driver.feed(&whole[..14 + 16_383], &mut pool);
    assert!(driver.receiver.direct_room().is_none(), "too little has come");
    let mut position = 14 + 20_000;
    driver.feed(&whole[14 + 16_383..position], &mut pool);
    let mut rooms = Vec::new();
    while let Some(room) = driver.receiver.direct_room() {
        rooms.push((room.bytes.len(), room.behind_bytes_max > 0));
        position += driver.feed_direct(&whole[position..], &mut pool);
    }
    assert_eq!(rooms, [(20_000, false), (40_000, false), (80_000, false), (40_000, true)]);
    assert_eq!(driver.events, [Event::Binary(vec![5; 200_000])]);
    // A control frame in between is never read directly, nor is a small fragment.
    let mut driver = Driver::new(Role::Server, 1 << 20);
    driver.feed(&frame(false, 2, vec![5; 50_000]).encode(), &mut pool);
    assert!(driver.receiver.direct_room().is_none());
    driver.feed(&frame(true, 9, "ping").encode()[..8], &mut pool);
    assert!(driver.receiver.direct_room().is_none());
    driver.feed(&frame(true, 9, "ping").encode()[8..], &mut pool);
    driver.feed(&frame(false, 0, [5; 100]).encode()[..20], &mut pool);
    assert!(driver.receiver.direct_room().is_none());
}

/// What is behind a large frame is the next one's beginning, and the rest of that has a place at once.
#[test]
fn large_frames_one_after_the_other_are_read_in_place() {
    let (mut driver, mut pool) = (Driver::new(Role::Server, 1 << 20), Pool::default());
    let mut bytes = Vec::new();
    for number in 0..9 {
        bytes.extend(frame(true, 1, vec![b'0' + number; 60_000]).encode());
        bytes.extend(frame(true, 9, [number]).encode());
    }
    let (first, mut rest) = bytes.split_at(40_000);
    driver.feed(first, &mut pool);
    let mut reads = 0;
    while !rest.is_empty() {
        let count = driver.feed_direct(rest, &mut pool);
        assert!(count > 0, "{} bytes before the end", rest.len());
        rest = &rest[count..];
        reads += 1;
    }
    let expected: Vec<_> = (0..9)
        .flat_map(|number| [Event::Text(vec![b'0' + number; 60_000]), Event::Ping(vec![number])])
        .collect();
    assert_eq!(driver.events, expected);
    assert_eq!(reads, 9, "one a frame");
    assert_eq!(pool.free_count(), 1);
}

/// An idle connection holds none of the pool's buffers, and a header alone takes no more than is there already.
#[test]
fn a_header_alone_gets_the_room_that_the_pool_has() {
    let whole = frame(true, 2, vec![5; 50_000]).encode();
    let (mut driver, mut pool) = (Driver::new(Role::Server, 1 << 20), Pool::default());
    driver.feed(&whole[..20], &mut pool);
    assert!(driver.receiver.direct_room().is_none(), "nothing is there");
    driver.feed(&whole[20..], &mut pool);
    assert_eq!(pool.free_count(), 1);
    driver.feed(&whole[..20], &mut pool);
    let room = driver.receiver.direct_room().expect("an earlier message left it");
    assert_eq!(room.bytes.len(), whole.len() - 20);
}
