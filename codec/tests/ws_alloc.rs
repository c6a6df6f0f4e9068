//! What the codec allocates: nothing for complete frames, little for hostile ones. Its own process, because the
//! allocator counts for the whole of it; one thread of it, because the counters are per thread.

mod ws_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use fanwire_codec::http::{HeadLimits, HeadScanner, parse_request, parse_response};
use fanwire_codec::ws::deflate::{Agreement, Deflater, Direction, write_client_deflated_message};
use fanwire_codec::ws::handshake::Upgrade;
use fanwire_codec::ws::{
    Control, Kind, Limits, Pool, Received, Receiver, Role, begin_frame, end_frame, write_close,
    write_control, write_message,
};
use ws_support::{Frame, frame};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
    static LIVE_MAX: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    COUNT.set(COUNT.get() + 1);
    BYTES.set(BYTES.get() + more);
    LIVE.set((LIVE.get() + more).saturating_sub(less));
    LIVE_MAX.set(LIVE_MAX.get().max(LIVE.get()));
}

// SAFETY: every call goes to `System` unchanged; counting in const thread-locals without destructors allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's guarantees are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().saturating_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations, bytes of them, and the most bytes alive at once while `work` runs.
fn measured(work: impl FnOnce()) -> (usize, usize, usize) {
    let (count, bytes, live) = (COUNT.get(), BYTES.get(), LIVE.get());
    LIVE_MAX.set(live);
    work();
    (COUNT.get() - count, BYTES.get() - bytes, LIVE_MAX.get() - live)
}

#[test]
fn complete_frames_are_received_and_answered_without_an_allocation() {
    let frames = [
        frame(true, 1, "short text"),
        frame(true, 1, "längerer Text ".repeat(100)),
        frame(true, 2, [7; 20_000]),
        frame(true, 9, "ping"),
        frame(true, 10, ""),
    ];
    let input: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    let mut read = input.clone();
    let mut out = BytesMut::with_capacity(1 << 20);
    let (mut receiver, limits, mut pool) = (Receiver::new(Role::Server), Limits::default(), Pool::default());
    let mut answered = 0;
    let (allocations, ..) = measured(|| {
        for _ in 0..10 {
            read.copy_from_slice(&input);
            let mut rest = &mut read[..];
            while !rest.is_empty() {
                let (consumed, received) = receiver.receive(rest, &limits, &mut pool).unwrap();
                match received {
                    Some(Received::Message { kind, payload }) => {
                        write_message(&mut out, kind, &[b"echo ", payload]);
                        let frame = begin_frame(&mut out, Kind::Binary);
                        out.extend_from_slice(payload);
                        end_frame(&mut out, frame);
                    }
                    Some(Received::Ping(payload)) => write_control(&mut out, Control::Pong, payload),
                    Some(Received::Pong(_)) => write_close(&mut out, 1000, "done"),
                    other => panic!("{other:?}"),
                }
                answered += 1;
                rest = &mut rest[consumed..];
            }
            receiver.recycle(&mut pool);
        }
    });
    assert_eq!((allocations, answered), (0, 50));
}

#[test]
fn cut_and_fragmented_messages_reuse_the_pool() {
    let frames =
        [frame(false, 1, "fragment"), frame(true, 9, "x"), frame(true, 0, "ed"), frame(true, 2, [1; 3000])];
    let input: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    let (mut receiver, limits, mut pool) = (Receiver::new(Role::Server), Limits::default(), Pool::default());
    let mut read = vec![0; input.len()];
    let mut run = || {
        for part in 1..input.len().min(300) {
            read.copy_from_slice(&input);
            let mut messages = 0;
            for piece in read.chunks_mut(part) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (consumed, received) = receiver.receive(rest, &limits, &mut pool).unwrap();
                    messages += usize::from(received.is_some());
                    rest = &mut rest[consumed..];
                }
                receiver.recycle(&mut pool);
            }
            assert_eq!(messages, 3);
        }
    };
    run();
    assert_eq!(measured(run).0, 0);
}

#[test]
fn compressed_messages_are_read_and_written_without_an_allocation() {
    let text = "{\"symbol\":\"ACME\",\"price\":12.5},".repeat(100);
    for takeover in [false, true] {
        let direction = Direction { takeover, window_bits: 12 };
        let mut deflater = Deflater::new(1, 12);
        let (mut context, mut out) = (direction.context(), BytesMut::with_capacity(1 << 16));
        let (limits, mut pool) = (Limits::default(), Pool::default());
        let mut receiver = Receiver::new(Role::Server);
        receiver.use_compression(&Agreement { server: direction, client: direction });
        let mut messages = 0;
        let mut run = || {
            for _ in 0..10 {
                out.clear();
                let parts = [text.as_bytes()];
                let key = [1, 2, 3, 4];
                write_client_deflated_message(
                    &mut out,
                    Kind::Text,
                    &parts,
                    key,
                    &mut deflater,
                    context.as_mut(),
                );
                assert!(out.len() < text.len() / 4);
                let (consumed, received) = receiver.receive(&mut out, &limits, &mut pool).unwrap();
                assert!(
                    matches!(received, Some(Received::Message { payload, .. }) if payload == text.as_bytes())
                );
                messages += usize::from(consumed == out.len());
                receiver.recycle(&mut pool);
            }
        };
        run();
        assert_eq!(measured(run).0, 0);
        assert_eq!(messages, 20);
    }
}

/// RFC 7692, 8 and CVE-2026-1526 and its family: nothing is inflated beyond the limit.
#[test]
fn a_bomb_allocates_what_the_limit_allows() {
    let zeros = vec![0; 8 << 20];
    let mut deflater = Deflater::new(9, 15);
    let mut bomb = BytesMut::new();
    let key = [1, 2, 3, 4];
    write_client_deflated_message(&mut bomb, Kind::Binary, &[&zeros], key, &mut deflater, None);
    for message_bytes_max in [16 << 10, 1 << 20] {
        assert!(bomb.len() < message_bytes_max as usize, "the limit of what comes does not refuse it");
        let limits = Limits { message_bytes_max };
        let agreed = Direction { takeover: false, window_bits: 15 };
        let (mut receiver, mut pool) = (Receiver::new(Role::Server), Pool::default());
        receiver.use_compression(&Agreement { server: agreed, client: agreed });
        let mut bytes = bomb.clone();
        let (_, _, live_max) = measured(|| {
            assert!(receiver.receive(&mut bytes, &limits, &mut pool).is_err());
        });
        // The inflater, and a buffer that grew: the old one and the new one are alive for a moment.
        let allowed = 64 * 1024 + 2 * message_bytes_max as usize;
        assert!(live_max <= allowed, "{live_max} bytes for a limit of {message_bytes_max}");
    }
}

/// RUSTSEC-2022-0035 and its family: nine bytes must not cost megabytes.
#[test]
fn no_64_bytes_make_anything_allocate_8_kib() {
    let mut inputs: Vec<Vec<u8>> =
        vec![b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), b"HTTP/1.1 200 OK\r\n\r\n".to_vec()];
    for length in [0, 125, 126, 65_535, 65_536, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, u64::MAX] {
        for (fin, opcode) in [(true, 1), (false, 1), (true, 2), (false, 2), (true, 9)] {
            let form = if length <= 125 { 0 } else { 127 };
            let mut bytes = frame(fin, opcode, "").declared(form, length).encode();
            bytes.resize(64, b'a');
            inputs.push(bytes);
        }
    }
    inputs.extend((0..=u8::MAX).map(|byte| vec![byte; 64]));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..4000 {
        let mut bytes = vec![0; 64];
        for byte in &mut bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 56) as u8;
        }
        inputs.push(bytes);
    }
    for input in inputs {
        // Limits that would allow to reserve much.
        let limits = Limits { message_bytes_max: u64::MAX };
        for role in [Role::Server, Role::Client] {
            for part in [1, 7, 64] {
                let mut read = input.clone();
                let (mut receiver, mut pool) = (Receiver::new(role), Pool::default());
                let (_, bytes, _) = measured(|| {
                    'input: for piece in read.chunks_mut(part) {
                        let mut rest = piece;
                        while !rest.is_empty() {
                            let Ok((consumed, _)) = receiver.receive(rest, &limits, &mut pool) else {
                                break 'input;
                            };
                            rest = &mut rest[consumed..];
                        }
                        assert!(receiver.direct_room().is_none());
                    }
                });
                assert!(bytes < 8 * 1024, "{bytes} bytes allocated for {input:x?} in reads of {part}");
            }
        }
        let (_, bytes, _) = measured(|| {
            let limits = HeadLimits { bytes_max: usize::MAX, fields_max: usize::MAX };
            let _ = HeadScanner::new().find_end(&input, &limits);
            let _ = parse_request(&input, &limits).map(|request| Upgrade::from_request(&request).is_ok());
            let _ = parse_response(&input);
        });
        assert!(bytes < 8 * 1024, "{bytes} bytes allocated for {input:x?}");
    }
}

/// CVE-2026-48779 and its family: an unfinished message costs at most twice its bytes.
#[test]
fn an_unfinished_message_holds_at_most_twice_what_came() {
    for size in [1, 10, 1000, 30_000] {
        let mut bytes = frame(false, 2, vec![1; size]).encode();
        let mut came = 0;
        let (mut receiver, limits, mut pool) =
            (Receiver::new(Role::Server), Limits::default(), Pool::default());
        let (_, _, live_max) = measured(|| {
            while came + size <= 1 << 20 {
                let mut read = [0; 32 * 1024];
                read[..bytes.len()].copy_from_slice(&bytes);
                let (consumed, received) =
                    receiver.receive(&mut read[..bytes.len()], &limits, &mut pool).unwrap();
                assert!(consumed == bytes.len() && received.is_none());
                bytes[0] = 0;
                came += size;
                let _ = receiver.direct_room();
            }
        });
        // While a buffer grows, the old and the new one are alive, unless the allocator extends it in place.
        assert!(live_max <= 3 * came + 8192, "{live_max} bytes for {came} in fragments of {size}");
        assert!(LIVE.get() <= 2 * came + 64 * 1024);
    }
}
