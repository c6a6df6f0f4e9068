//! Compressed messages (RFC 7692, 6 and 7.2): in any cut, from any compressor, within the limits.

mod ws_support;

use bytes::BytesMut;
use fanwire_codec::ws::deflate::{
    Agreement, Context, Deflater, Direction, compress_frame, write_client_deflated_message,
    write_deflated_message,
};
use fanwire_codec::ws::{Control, Kind, Pool, ProtocolError, Role, write_control, write_message};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;
use ws_support::{Driver, Event, Frame, frame};

const SINGLE: Direction = Direction { takeover: false, window_bits: 15 };
const TAKEOVER: Direction = Direction { takeover: true, window_bits: 15 };
const RSV1: u8 = 4;

fn both(direction: Direction) -> Agreement {
    Agreement { server: direction, client: direction }
}

fn driver(direction: Direction, message_bytes_max: u64) -> Driver {
    let mut driver = Driver::new(Role::Server, message_bytes_max);
    driver.receiver.use_compression(&both(direction));
    driver
}

fn compressed(fin: bool, opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame { rsv: RSV1, ..frame(fin, opcode, payload) }
}

fn events(direction: Direction, frames: &[Frame]) -> Vec<Event> {
    let mut driver = driver(direction, 1 << 20);
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    driver.feed(&bytes, &mut Pool::default());
    driver.events
}

/// What another compressor makes of it, ended as RFC 7692, 7.2.1 says.
fn deflated(payload: &[u8]) -> Vec<u8> {
    other_deflate(&mut Compress::new(Compression::default(), false), &[payload])
}

fn other_deflate(machine: &mut Compress, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        let before = machine.total_in();
        loop {
            out.reserve(part.len() + 64);
            let at = (machine.total_in() - before) as usize;
            let room = out.capacity() - out.len();
            let length = out.len();
            machine.compress_vec(&part[at..], &mut out, FlushCompress::Sync).unwrap();
            if machine.total_in() - before == part.len() as u64 && out.len() - length < room {
                break;
            }
        }
    }
    assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]));
    out.truncate(out.len() - 4);
    out
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn the_examples_of_the_rfc_are_understood() {
    let hello = Event::Text(b"Hello".to_vec());
    for block in [
        "f2 48 cd c9 c9 07 00",
        "00 05 00 fa ff 48 65 6c 6c 6f 00",
        "f3 48 cd c9 c9 07 00 00",
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
        // Peers leave out the byte after a final block.
        "f3 48 cd c9 c9 07 00",
    ] {
        for direction in [SINGLE, TAKEOVER] {
            let frames = [compressed(true, 1, unhex(block)), frame(true, 1, "plain")];
            assert_eq!(
                events(direction, &frames),
                [hello.clone(), Event::Text(b"plain".to_vec())],
                "{block}"
            );
        }
    }
    let fragments = [
        compressed(false, 1, unhex("f2 48 cd")),
        frame(true, 9, "between"),
        frame(true, 0, unhex("c9 c9 07 00")),
    ];
    assert_eq!(events(SINGLE, &fragments), [Event::Ping(b"between".to_vec()), hello.clone()]);
    // The second message refers to the first one; a plain message in between changes nothing.
    let shared = [
        compressed(true, 1, unhex("f2 48 cd c9 c9 07 00")),
        frame(true, 1, "anything else"),
        compressed(true, 1, unhex("f2 00 11 00 00")),
    ];
    assert_eq!(events(TAKEOVER, &shared)[2], hello);
    assert_eq!(events(SINGLE, &shared)[2], Event::Failed(ProtocolError::InvalidDeflate));
    // A final block does not end the context.
    let shared =
        [compressed(true, 1, unhex("f3 48 cd c9 c9 07 00 00")), compressed(true, 1, unhex("f2 00 11 00 00"))];
    assert_eq!(events(TAKEOVER, &shared), [hello.clone(), hello]);
}

#[test]
fn an_empty_message_has_an_empty_block_or_nothing_at_all() {
    for payload in ["00", "02 00", "03 00", ""] {
        let frames = [compressed(true, 2, unhex(payload)), compressed(true, 1, deflated(b"next"))];
        let expected = [Event::Binary(Vec::new()), Event::Text(b"next".to_vec())];
        assert_eq!(events(SINGLE, &frames), expected, "{payload:?}");
    }
    let fragments = [compressed(false, 2, ""), frame(false, 0, deflated(b"x")), frame(true, 0, "")];
    assert_eq!(events(SINGLE, &fragments), [Event::Binary(b"x".to_vec())]);
}

#[test]
fn what_is_no_deflate_ends_the_connection_with_1007() {
    let whole = deflated("a longer text, a longer text, and another end of it".as_bytes());
    let mut broken: Vec<Vec<u8>> = vec![
        b"\xff\xff".to_vec(),
        unhex("06"),
        unhex("00 05 00 fa fe 48 65 6c 6c 6f 00"),
        // Distance too far back.
        unhex("f2 00 11 00 00"),
        // 17 final blocks.
        b"\x03\x00".repeat(17),
        // Something after the end that is no block.
        [&b"\x03\x00"[..], b"\xff\xff\xff"].concat(),
    ];
    broken.extend((1..whole.len()).map(|length| whole[..length].to_vec()));
    for payload in broken {
        let frames = [compressed(true, 2, &payload), frame(true, 1, "after")];
        let failed = [Event::Failed(ProtocolError::InvalidDeflate)];
        assert_eq!(events(SINGLE, &frames), failed, "{payload:02x?}");
    }
    assert_eq!(ProtocolError::InvalidDeflate.close_code(), 1007);
    let frames = [compressed(true, 2, b"\x03\x00".repeat(16)), frame(true, 1, "after")];
    assert_eq!(events(SINGLE, &frames), [Event::Binary(Vec::new()), Event::Text(b"after".to_vec())]);
}

#[test]
fn rsv1_begins_a_message_and_nothing_else() {
    for (opcode, begins) in [(1, false), (2, false), (0, true), (8, false), (9, false), (10, false)] {
        let mut frames = vec![Frame { rsv: RSV1, ..frame(true, opcode, "") }];
        if begins {
            frames.insert(0, compressed(false, 1, deflated(b"x")));
        }
        let expected = match opcode {
            1 => Event::Text(Vec::new()),
            2 => Event::Binary(Vec::new()),
            _ => Event::Failed(ProtocolError::MisplacedRsv1),
        };
        assert_eq!(events(SINGLE, &frames), [expected], "{opcode}");
        // Not negotiated, it is a reserved bit as before.
        let first = ws_support::server_events(&frames[..1]);
        assert_eq!(first, [Event::Failed(ProtocolError::ReservedBits { bits: 4 })]);
    }
    for rsv in [1, 2, 3, 5, 6, 7] {
        let odd = [Frame { rsv, ..frame(true, 1, "x") }];
        assert_eq!(events(SINGLE, &odd), [Event::Failed(ProtocolError::ReservedBits { bits: rsv })]);
    }
    // A second message inside a compressed one is as wrong as ever.
    let frames = [compressed(false, 1, "a"), compressed(true, 1, "b")];
    assert_eq!(events(SINGLE, &frames), [Event::Failed(ProtocolError::UnfinishedMessage)]);
}

#[test]
fn while_compressed_messages_are_held_back_they_are_refused() {
    let bytes = compressed(true, 1, deflated(b"a")).encode();
    let mut pool = Pool::default();
    for cut in 0..bytes.len() {
        let mut driver = driver(SINGLE, 1000);
        driver.receiver.hold_compressed(true);
        driver.feed(&frame(true, 1, "plain").encode(), &mut pool);
        driver.feed(&bytes[..cut], &mut pool);
        if !driver.failed {
            driver.feed(&bytes[cut..], &mut pool);
        }
        let refused = Event::Failed(ProtocolError::CompressedTooEarly);
        assert_eq!(driver.events, [Event::Text(b"plain".to_vec()), refused]);
    }
    let mut driver = driver(SINGLE, 1000);
    driver.receiver.hold_compressed(true);
    driver.receiver.hold_compressed(false);
    driver.feed(&bytes, &mut pool);
    assert_eq!(driver.events, [Event::Text(b"a".to_vec())]);
}

#[test]
fn text_is_checked_after_it_was_inflated() {
    // Compressed bytes are hardly ever UTF-8, whole or cut.
    let text = "κόσμε €𝄞 ".repeat(40);
    assert_eq!(
        events(SINGLE, &[compressed(true, 1, deflated(text.as_bytes()))]),
        [Event::Text(text.clone().into_bytes())]
    );
    let broken = [text.as_bytes(), b"\xed\xa0\x80"].concat();
    let offset_bytes = text.len() as u64;
    let block = deflated(&broken);
    let (head, tail) = block.split_at(block.len() / 2);
    for frames in [vec![compressed(true, 1, &block)], vec![compressed(false, 1, head), frame(true, 0, tail)]]
    {
        let failed = [Event::Failed(ProtocolError::InvalidUtf8 { offset_bytes })];
        assert_eq!(events(SINGLE, &frames), failed);
    }
    assert_eq!(events(SINGLE, &[compressed(true, 2, block)]), [Event::Binary(broken)]);
}

#[test]
fn a_message_is_inflated_to_the_limit_and_no_further() {
    for limit in [0_u64, 1, 100, 1023, 1024, 1025, 16_384, 300_000] {
        for (length, fits) in [(limit, true), (limit + 1, false), (limit + 50_000, false)] {
            let payload = vec![b'a'; length as usize];
            let block = deflated(&payload);
            let (head, tail) = block.split_at(block.len() / 2);
            for frames in [
                vec![compressed(true, 2, &block), frame(true, 2, "")],
                vec![compressed(false, 2, head), frame(true, 0, tail), frame(true, 2, "")],
            ] {
                let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
                // Buffers are met again longer than the limit, and dirty.
                let mut pool = Pool::default();
                driver(SINGLE, 1 << 20).feed(&frame(true, 2, [7; 40_000]).encode()[..30_000], &mut pool);
                let mut driver = driver(SINGLE, limit);
                driver.feed(&bytes, &mut pool);
                let expected = if fits {
                    vec![Event::Binary(payload.clone()), Event::Binary(Vec::new())]
                } else {
                    let too_large = ProtocolError::MessageTooLarge { bytes: limit + 1, bytes_max: limit };
                    vec![Event::Failed(too_large)]
                };
                assert_eq!(driver.events, expected, "{length} for {limit}");
            }
        }
    }
}

#[test]
fn what_cannot_be_made_smaller_may_come_compressed_up_to_the_limit() {
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..10_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let block = deflated(&noise);
    assert!(block.len() > noise.len());
    let mut driver = driver(SINGLE, 10_000);
    driver.feed(&compressed(true, 2, &block).encode(), &mut Pool::default());
    assert_eq!(driver.events, [Event::Binary(noise)]);
    // Beyond what any compressor makes of a message of this limit it is refused before it has come.
    let mut driver = self::driver(SINGLE, 10_000);
    driver.feed(&compressed(true, 2, "").declared(126, 12_275).encode(), &mut Pool::default());
    let too_large = ProtocolError::MessageTooLarge { bytes: 12_275, bytes_max: 12_274 };
    assert_eq!(driver.events, [Event::Failed(too_large)]);
}

#[test]
fn what_is_inflated_is_counted() {
    let mut pool = Pool::default();
    assert_eq!(pool.inflated().messages, 0);
    let payload = [b'x'; 1000];
    let block = deflated(&payload);
    let mut driver = driver(SINGLE, 1 << 20);
    driver
        .feed(&[compressed(true, 2, &block).encode(), frame(true, 2, "plain").encode()].concat(), &mut pool);
    let inflated = pool.inflated();
    assert_eq!((inflated.messages, inflated.bytes_in, inflated.bytes_out), (1, block.len() as u64, 1000));
}

#[test]
fn only_what_gets_smaller_is_compressed() {
    let mut deflater = Deflater::new(1, 15);
    let text = "the same words, the same words, the same words, the same words";
    for (payload, smaller) in [("", false), ("a", false), ("abcdef", false), (text, true)] {
        let (mut plain, mut out) = (BytesMut::new(), BytesMut::from(&b"before"[..]));
        write_message(&mut plain, Kind::Text, &[payload.as_bytes()]);
        let (left, right) = payload.split_at(payload.len() / 2);
        let parts = [left.as_bytes(), b"", right.as_bytes()];
        write_deflated_message(&mut out, Kind::Text, &parts, &mut deflater, None);
        assert_eq!(out[6] & 0x40 != 0, smaller, "{payload}");
        assert_eq!(out[6..] == plain[..], !smaller);
        assert!(out.len() - 6 <= plain.len());
        // The same, from a frame that was written before.
        let mut again = [&b"before"[..], &plain].concat()[..].into();
        let lengths = compress_frame(&mut again, 6, &mut deflater, None);
        assert_eq!(lengths, smaller.then_some((payload.len(), out.len() - 6 - 2)));
        if !smaller {
            assert_eq!(again, out);
        }
        let mut client = Driver::new(Role::Client, 1 << 20);
        client.receiver.use_compression(&both(SINGLE));
        client.feed(&[&again[6..], &out[6..]].concat(), &mut Pool::default());
        let event = Event::Text(payload.as_bytes().to_vec());
        assert_eq!(client.events, [event.clone(), event]);
    }
    let mut ping = BytesMut::new();
    write_control(&mut ping, Control::Ping, &[b'a'; 100]);
    let before = ping.clone();
    assert_eq!(compress_frame(&mut ping, 0, &mut deflater, None), None);
    assert_eq!(ping, before);
}

/// zlib-rs 0.6.8 panics in a message after one that was given up half-way.
#[test]
fn one_deflater_takes_large_messages_of_every_kind_one_after_the_other() {
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..150_000).map(|_| random()).collect();
    let words: Vec<u8> = (0..300_000).map(|_| b'a' + random() % 20).collect();
    for level in [1, 2, 3, 6, 9] {
        for window_bits in [9, 12, 15] {
            let mut deflater = Deflater::new(level, window_bits);
            let mut out = BytesMut::new();
            let messages =
                [&noise[..], &words, &noise, b"short", &noise[..70_000], &words[..100_000], &noise[..5]];
            for message in messages {
                write_client_deflated_message(
                    &mut out,
                    Kind::Binary,
                    &[message],
                    [0; 4],
                    &mut deflater,
                    None,
                );
            }
            let mut driver = driver(SINGLE, 1 << 20);
            driver.feed(&out, &mut Pool::default());
            assert!(data(&driver.events) == messages, "level {level}, window {window_bits}");
        }
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec!["{\"price\":", "12.5,", "\"symbol\":", "€uro", "aaaa", "\n", "z"]);
    prop_oneof![
        4 => prop::collection::vec(words, 0..80).prop_map(|words| words.concat().into_bytes()),
        2 => prop::collection::vec(any::<u8>(), 0..600),
        1 => (any::<u8>(), 0..100_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        1 => (1..70_000_u32).prop_map(|count| (0..count).flat_map(|index| (index / 7).to_be_bytes()).take(90_000).collect()),
    ]
}

#[derive(Clone, Debug)]
struct Message {
    payload: Vec<u8>,
    compressed: bool,
    cuts: Vec<prop::sample::Index>,
    ping: bool,
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let message = (payload(), prop::bool::weighted(0.8), cuts, any::<bool>())
        .prop_map(|(payload, compressed, cuts, ping)| Message { payload, compressed, cuts, ping });
    prop::collection::vec(message, 0..6)
}

/// The frames of one message whose bytes on the wire are `bytes`.
fn frames(message: &Message, bytes: &[u8]) -> Vec<Frame> {
    let mut ends: Vec<_> = message.cuts.iter().map(|index| index.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut frames: Vec<Frame> = Vec::new();
    let mut from = 0;
    for (index, end) in ends.iter().enumerate() {
        let fin = index + 1 == ends.len();
        let mut fragment = frame(fin, if index == 0 { 2 } else { 0 }, &bytes[from..*end]);
        fragment.rsv = if message.compressed && index == 0 { RSV1 } else { 0 };
        frames.push(fragment);
        if !fin && message.ping {
            frames.push(frame(true, 9, "p"));
        }
        from = *end;
    }
    frames
}

fn feed_in_cuts(driver: &mut Driver, bytes: &[u8], sizes: &[usize], pool: &mut Pool) {
    let mut rest = bytes;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            return;
        }
        let (mut now, later) = rest.split_at(size.min(rest.len()));
        now = &now[driver.feed_direct(now, pool)..];
        driver.feed(now, pool);
        rest = later;
    }
}

fn data(events: &[Event]) -> Vec<&Vec<u8>> {
    let mut data = Vec::new();
    for event in events {
        match event {
            Event::Binary(payload) => data.push(payload),
            Event::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Another compressor's messages, fragmented and read in any cuts, flushed inside too.
    #[test]
    fn messages_of_another_compressor_arrive_in_any_cuts(
        messages in messages(),
        takeover in any::<bool>(),
        level in 0..10_u32,
        flushed_at in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(prop_oneof![1..60_usize, 1..30_000_usize], 1..20),
    ) {
        let direction = if takeover { TAKEOVER } else { SINGLE };
        let mut machine = Compress::new(Compression::new(level), false);
        let mut bytes = Vec::new();
        for message in &messages {
            let wire = if message.compressed {
                if !takeover {
                    machine.reset();
                }
                let (head, tail) = message.payload.split_at(flushed_at.index(message.payload.len() + 1));
                other_deflate(&mut machine, &[head, tail])
            } else {
                message.payload.clone()
            };
            bytes.extend(frames(message, &wire).iter().flat_map(Frame::encode));
        }
        let mut pool = Pool::new(2, 4096);
        for sizes in [&[usize::MAX][..], &sizes] {
            let mut driver = driver(direction, 1 << 20);
            feed_in_cuts(&mut driver, &bytes, sizes, &mut pool);
            prop_assert_eq!(data(&driver.events), messages.iter().map(|message| &message.payload).collect::<Vec<_>>());
        }
    }

    /// Ours, read by another: within the agreed window, and by our own receiver.
    #[test]
    fn what_we_compress_others_inflate_within_the_window(
        messages in prop::collection::vec((payload(), any::<prop::sample::Index>()), 1..5),
        level in 1..10_u8,
        window_bits in 9..16_u8,
        takeover in any::<bool>(),
    ) {
        let direction = Direction { takeover, window_bits };
        let mut deflater = Deflater::new(level, window_bits);
        let mut context = direction.context();
        let mut out = BytesMut::new();
        let mut other = Decompress::new(false);
        let mut strict = zlib_rs::Inflate::new(false, window_bits);
        for (payload, cut) in &messages {
            let start = out.len();
            let (left, right) = payload.split_at(cut.index(payload.len() + 1));
            let parts = [left, right];
            write_client_deflated_message(&mut out, Kind::Binary, &parts, [1, 2, 3, 4], &mut deflater, context.as_mut());
            if out[start] & 0x40 == 0 {
                continue;
            }
            let mut frame = out[start..].to_vec();
            let at = frame.len() - match frame[1] & 0x7F { 126 => u16::from_be_bytes([frame[2], frame[3]]).into(), 127 => u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize, short => short.into() };
            fanwire_codec::ws::mask::apply_scalar(&mut frame[at..], [1, 2, 3, 4], 0);
            let block = [&frame[at..], &[0, 0, 0xFF, 0xFF]].concat();
            if !takeover {
                other.reset(false);
                strict = zlib_rs::Inflate::new(false, window_bits);
            }
            prop_assert_eq!(&inflate(&mut other, &block), payload);
            prop_assert_eq!(&inflate_by_bytes(&mut strict, &block), payload, "a window of {}", window_bits);
        }
        let mut driver = driver(direction, 1 << 20);
        driver.feed(&out, &mut Pool::default());
        prop_assert_eq!(data(&driver.events), messages.iter().map(|(payload, _)| payload).collect::<Vec<_>>());
    }

    /// Bytes at random: no panic, and the same in any cuts.
    #[test]
    fn garbage_is_the_same_garbage_in_any_cuts(
        payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), 0..3_usize), 1..4),
        slip in any::<(prop::sample::Index, u8)>(),
        takeover in any::<bool>(),
        sizes in prop::collection::vec(1..20_usize, 1..20),
    ) {
        let mut machine = Compress::new(Compression::default(), false);
        let mut bytes = Vec::new();
        for (payload, what) in &payloads {
            let payload = match what {
                0 => payload.clone(),
                1 => deflated(payload),
                _ => other_deflate(&mut machine, &[payload]),
            };
            bytes.extend(compressed(true, 2, payload).encode());
        }
        let at = slip.0.index(bytes.len());
        bytes[at] ^= slip.1;
        let direction = if takeover { TAKEOVER } else { SINGLE };
        let mut whole = driver(direction, 5000);
        let mut pool = Pool::default();
        whole.feed(&bytes, &mut pool);
        let mut cut = driver(direction, 5000);
        feed_in_cuts(&mut cut, &bytes, &sizes, &mut pool);
        prop_assert_eq!(whole.events, cut.events);
    }
}

fn inflate(machine: &mut Decompress, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let before = machine.total_in();
    loop {
        out.reserve(1 + block.len() * 4);
        let at = (machine.total_in() - before) as usize;
        let length = out.len();
        let status = machine.decompress_vec(&block[at..], &mut out, FlushDecompress::Sync).unwrap();
        assert_ne!(status, Status::StreamEnd);
        if at == block.len() && out.len() == length {
            return out;
        }
    }
}

/// One byte of output at a time: only then a distance beyond the window is always an error.
fn inflate_by_bytes(machine: &mut zlib_rs::Inflate, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let before = machine.total_in();
    loop {
        let at = (machine.total_in() - before) as usize;
        let made = machine.total_out();
        let mut byte = [0];
        machine.decompress(&block[at..], &mut byte, zlib_rs::InflateFlush::NoFlush).unwrap();
        if machine.total_out() == made {
            return out;
        }
        out.push(byte[0]);
    }
}

#[test]
fn a_context_is_as_good_as_a_machine_of_ones_own() {
    let message = |index: u32| {
        format!("{{\"symbol\":\"ACME\",\"price\":{}.25,\"volume\":{}}}", index * 7 % 90, index % 13)
    };
    let mut deflater = Deflater::new(6, 12);
    let mut context = Context::new(12);
    let (mut kept, mut single) = (BytesMut::new(), BytesMut::new());
    for index in 0..200 {
        let message = message(index);
        write_deflated_message(
            &mut kept,
            Kind::Text,
            &[message.as_bytes()],
            &mut deflater,
            Some(&mut context),
        );
        write_deflated_message(&mut single, Kind::Text, &[message.as_bytes()], &mut deflater, None);
    }
    assert!(kept.len() * 2 < single.len(), "{} against {}", kept.len(), single.len());
}
