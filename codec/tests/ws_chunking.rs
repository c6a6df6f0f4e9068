//! The same bytes give the same events however they are cut, and the same as a decoder that takes one at a time.

mod ws_support;

use fanwire_codec::ws::{Pool, Role};
use proptest::prelude::*;
use ws_support::reference::Reference;
use ws_support::{Driver, Event, Frame, frame};

const MESSAGE_BYTES_MAX: u64 = 96 * 1024;

fn reference_events(role: Role, bytes: &[u8]) -> Vec<Event> {
    let mut reference = Reference::new(role, MESSAGE_BYTES_MAX);
    bytes.iter().filter_map(|&byte| reference.byte(byte)).collect()
}

/// Reads of these sizes, then the rest in one; every second large read goes straight into the message.
fn cut_events(role: Role, bytes: &[u8], sizes: &[usize], pool: &mut Pool) -> Vec<Event> {
    let mut driver = Driver::new(role, MESSAGE_BYTES_MAX);
    let mut rest = bytes;
    for (index, &size) in sizes.iter().chain([&usize::MAX]).enumerate() {
        let mut read = &rest[..size.min(rest.len())];
        rest = &rest[read.len()..];
        if index % 2 == 0 && !driver.failed {
            read = &read[driver.feed_direct(read, pool)..];
        }
        driver.feed(read, pool);
    }
    driver.events
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zé€𝄞 ]{0,60}".prop_map(String::into_bytes),
        2 => "\\PC{0,300}".prop_map(String::into_bytes),
        1 => (0..40_000_usize).prop_map(|count| "aé€𝄞".as_bytes().iter().copied().cycle().take(count).collect()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => prop::sample::select(vec![
            b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80".to_vec(), b"\xed\xa0\x80".to_vec(), b"ab\xe2\x82".to_vec(),
            b"\xc0\xaf".to_vec(), b"\xf8\x88\x80\x80\x80".to_vec(), b"\xf0\x9d\x84".to_vec(), b"\xff".to_vec(),
        ]),
    ]
}

/// One message as a peer would send it, in fragments with control frames between them.
fn message() -> impl Strategy<Value = Vec<Frame>> {
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 0..4);
    (any::<bool>(), text(), cuts).prop_map(|(is_text, payload, cuts)| {
        let mut ends: Vec<_> =
            cuts.iter().map(|(index, between)| (index.index(payload.len() + 1), *between)).collect();
        ends.sort_unstable();
        let mut frames: Vec<Frame> = Vec::new();
        let mut from = 0;
        for (end, between) in ends {
            // The first fragment names the kind, the others continue it.
            let opcode = if from == 0 && frames.is_empty() { 2 - u8::from(is_text) } else { 0 };
            frames.push(frame(false, opcode, &payload[from..end]));
            from = end;
            match between {
                1 => frames.push(frame(true, 9, &payload[..payload.len().min(20)])),
                2 => frames.push(frame(true, 10, "")),
                _ => {}
            }
        }
        let opcode = if frames.is_empty() { 2 - u8::from(is_text) } else { 0 };
        frames.push(frame(true, opcode, &payload[from..]));
        frames
    })
}

/// A frame with anything in it.
fn odd_frame() -> impl Strategy<Value = Frame> {
    let close = prop_oneof![
        Just(Vec::new()),
        Just(vec![3]),
        (any::<u16>(), text()).prop_map(|(code, reason)| [&code.to_be_bytes()[..], &reason].concat()),
        (990..5010_u16).prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    let length = prop_oneof![
        9 => Just(None),
        1 => (prop::sample::select(vec![125_u8, 126, 127]), prop_oneof![0..300_u64, any::<u64>()]).prop_map(Some),
    ];
    let payload = prop_oneof![2 => text(), 1 => close];
    let rsv = prop_oneof![9 => Just(0_u8), 1 => 0..8_u8];
    let opcode = prop_oneof![4 => prop::sample::select(vec![0_u8, 1, 2, 8, 9, 10]), 1 => 0..16_u8];
    (any::<bool>(), rsv, opcode, any::<[u8; 4]>(), length, payload).prop_map(
        |(fin, rsv, opcode, key, length, payload)| Frame {
            fin,
            rsv,
            opcode,
            key: Some(key),
            length,
            payload,
        },
    )
}

fn conversation() -> impl Strategy<Value = Vec<Frame>> {
    prop::collection::vec(prop_oneof![5 => message(), 1 => odd_frame().prop_map(|frame| vec![frame])], 0..6)
        .prop_map(|messages| messages.concat())
}

fn encode(frames: &[Frame], role: Role, slips: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let mut frame = frame.clone();
        if role == Role::Client {
            frame.key = None;
        }
        bytes.extend(frame.encode());
    }
    for (index, with) in slips {
        if !bytes.is_empty() {
            let at = index.index(bytes.len());
            bytes[at] ^= with;
        }
    }
    bytes
}

fn read_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(
        prop_oneof![4 => 1..40_usize, 1 => 1..5_000_usize, 1 => 10_000..60_000_usize],
        0..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_cuts_give_the_events_of_the_reference(
        frames in conversation(),
        role in prop::sample::select(vec![Role::Server, Role::Client]),
        slips in prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..3)],
        sizes in read_sizes(),
        small in 1..9_usize,
    ) {
        let bytes = encode(&frames, role, &slips);
        // One pool for all runs: buffers are met again dirty.
        let mut pool = Pool::new(2, 4096);
        let expected = reference_events(role, &bytes);
        prop_assert_eq!(&cut_events(role, &bytes, &[], &mut pool), &expected, "whole");
        prop_assert_eq!(&cut_events(role, &bytes, &sizes, &mut pool), &expected, "in random cuts");
        if bytes.len() < 4096 {
            let even = vec![small; bytes.len() / small];
            prop_assert_eq!(&cut_events(role, &bytes, &even, &mut pool), &expected, "in reads of {}", small);
        }
    }

    #[test]
    fn bytes_at_random_never_differ_from_the_reference(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89])], 0..200),
        sizes in prop::collection::vec(1..20_usize, 0..20),
    ) {
        for role in [Role::Server, Role::Client] {
            let mut pool = Pool::default();
            prop_assert_eq!(cut_events(role, &bytes, &sizes, &mut pool), reference_events(role, &bytes));
        }
    }
}

/// Strict 6.4.3 and 6.4.4: the failure comes with the byte that makes it certain, not later.
#[test]
fn an_error_comes_with_the_first_byte_that_proves_it() {
    let texts: [&[u8]; 8] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
        b"abc\xed\xa0\x80def",
        b"\xc0\xaf____",
        b"\xe0\x80\xaf____",
        b"\xf0\x80\x80\xaf____",
        b"\xff____",
        b"valid \xf0\x9d\x84\x9e and \x80 not",
        b"ends in a cut \xe2\x82",
    ];
    for text in texts {
        for splits in [vec![], vec![1], vec![3], vec![2, 12], vec![4, 4, 5]] {
            let mut frames = Vec::new();
            let mut from = 0;
            for end in splits.iter().map(|&end: &usize| end.min(text.len())) {
                frames.push(frame(false, u8::from(frames.is_empty()), &text[from..end.max(from)]));
                from = end.max(from);
            }
            frames.push(frame(true, u8::from(frames.is_empty()), &text[from..]));
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let mut reference = Reference::new(Role::Server, MESSAGE_BYTES_MAX);
            let mut driver = Driver::new(Role::Server, MESSAGE_BYTES_MAX);
            let mut pool = Pool::default();
            for (index, &byte) in bytes.iter().enumerate() {
                let expected: Vec<_> = reference.byte(byte).into_iter().collect();
                driver.feed(&[byte], &mut pool);
                assert_eq!(driver.events, expected, "{text:x?} split {splits:?}, byte {index}");
                if reference.over {
                    break;
                }
            }
            assert!(driver.failed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Large messages, in fragments too, read straight into place wherever that is offered.
    #[test]
    fn direct_reads_give_the_events_of_the_reference(
        count in 30_000..90_000_usize,
        cut in any::<prop::sample::Index>(),
        broken in prop_oneof![2 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
        is_text in any::<bool>(),
        reads in prop::collection::vec(prop_oneof![3 => 1..40_000_usize, 1 => 1..100_usize], 1..12),
        after in 0..40_000_usize,
    ) {
        let mut payload: Vec<u8> = "aé€𝄞".as_bytes().iter().copied().cycle().take(count / 10 * 10).collect();
        if let Some(index) = broken {
            payload[index.index(count / 10 * 10)] ^= 0x80;
        }
        let (head, tail) = payload.split_at(cut.index(payload.len()));
        let opcode = 2 - u8::from(is_text);
        let frames = [frame(false, opcode, head), frame(true, 9, "between"), frame(true, 0, tail), frame(true, opcode, &payload[..after.min(payload.len())]), frame(true, 8, b"\x0f\xa0bye")];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut pool = Pool::default();
        let mut driver = Driver::new(Role::Server, MESSAGE_BYTES_MAX);
        let mut rest = &bytes[..];
        let mut direct = 0;
        for &read in reads.iter().cycle() {
            let (now, later) = rest.split_at(read.min(rest.len()));
            let straight = if driver.failed { 0 } else { driver.feed_direct(now, &mut pool) };
            direct += straight;
            driver.feed(&now[straight..], &mut pool);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(driver.events, reference_events(Role::Server, &bytes));
        // A frame of which the first read leaves 32 KiB or more must have offered room.
        let offered = reads[0] >= 16_400 && reads.len() > 1 && head.len() >= 2 * reads[0].max(16_384);
        prop_assert!(direct > 0 || !offered || driver.failed);
    }
}

#[test]
fn every_cut_in_two_and_three_gives_the_same() {
    let frames = [
        frame(true, 1, "Hello"),
        frame(false, 1, "κό"),
        frame(true, 9, "ping"),
        frame(false, 0, ""),
        frame(true, 0, "σμε"),
        frame(true, 2, [7; 130]),
        frame(true, 10, ""),
        frame(true, 8, b"\x03\xe8bye"),
        frame(true, 1, "after close"),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    let expected = reference_events(Role::Server, &bytes);
    assert_eq!(expected.len(), 6);
    let mut pool = Pool::default();
    for first in 1..bytes.len() {
        for second in 1..bytes.len() - first {
            assert_eq!(
                cut_events(Role::Server, &bytes, &[first, second], &mut pool),
                expected,
                "{first} {second}"
            );
        }
    }
}
