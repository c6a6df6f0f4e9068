//! Allocations of the WAMP codec, counted by a global allocator: none on the hot path, little for hostile input.

mod wamp_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bytes::BytesMut;
use fanwire_codec::payload::{OwnedPayload, SharedPayload};
use fanwire_codec::wamp2::{
    DecodeLimits, EventDetails, InvocationDetails, Message, Payload, ResultDetails, Serializer, decode,
    encode, encode_error, encode_event, encode_invocation, encode_published, encode_result,
};
use proptest::prelude::*;
use serde_json::json;
use wamp_support::serialized;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn note(bytes: usize) {
    // Absent only while the thread ends, when nobody measures.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    let _ = BYTES.try_with(|sum| sum.set(sum.get() + bytes as u64));
}

// SAFETY: every call is passed on to the system allocator unchanged; the counters are plain thread-local cells that
// do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, which is the same one.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps `realloc`'s contract, which is the same one.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Number and bytes of the allocations of `work` on this thread.
fn allocations<T>(work: impl FnOnce() -> T) -> (u64, u64) {
    let before = (COUNT.get(), BYTES.get());
    let result = work();
    let after = (COUNT.get(), BYTES.get());
    drop(result);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| vec![0u8; 100]), (1, 100));
}

#[test]
fn publish_to_event_allocates_nothing() {
    let limits = DecodeLimits::default();
    let publish = json!([
        16, 239714735, {"acknowledge": true, "exclude_me": false, "x_unknown": [1, {"deep": [2]}]},
        "com.example.room.4711", ["héllo", {"n": 1.5e3, "list": [[[[[[[[[[1]]]]]]]]]]}], {"from": "Ünal", "no": null},
    ]);
    for serializer in Serializer::ALL {
        let bytes = serialized(serializer, &publish);
        let mut out = BytesMut::with_capacity(4096);
        let (count, _) = allocations(|| {
            for _ in 0..10 {
                out.clear();
                let Ok(Message::Publish { request, payload, .. }) =
                    decode(serializer, black_box(&bytes), &limits)
                else {
                    panic!("that is a PUBLISH");
                };
                encode_published(serializer, request, 1 << 52, &mut out);
                encode_event(serializer, 42, 1 << 52, &EventDetails::default(), &payload, &mut out);
            }
        });
        assert_eq!(count, 0, "{serializer}");
        assert!(out.len() > 60);
    }
}

#[test]
fn a_call_and_its_answer_allocate_nothing() {
    let limits = DecodeLimits::default();
    let call = json!([48, 7814135, {"timeout": 500}, "com.example.add", [1, 2], {"k": "v"}]);
    let answer = json!([70, 6131533, {}, [3]]);
    let failure = json!([8, 68, 6131533, {}, "com.example.error.overflow", ["too large"], {}]);
    for serializer in Serializer::ALL {
        let [call, answer, failure] = [&call, &answer, &failure].map(|value| serialized(serializer, value));
        let mut out = BytesMut::with_capacity(4096);
        let (count, _) = allocations(|| {
            out.clear();
            let Ok(Message::Call { payload, .. }) = decode(serializer, black_box(&call), &limits) else {
                panic!("that is a CALL");
            };
            encode_invocation(serializer, 1, 2, &InvocationDetails::default(), &payload, &mut out);
            let Ok(Message::Yield { payload, .. }) = decode(serializer, black_box(&answer), &limits) else {
                panic!("that is a YIELD");
            };
            encode_result(serializer, 7814135, &ResultDetails::default(), &payload, &mut out);
            let Ok(Message::Error { error, payload, .. }) = decode(serializer, black_box(&failure), &limits)
            else {
                panic!("that is an ERROR");
            };
            let error = Message::Error { request_type: 48, request: 7814135, error, payload };
            encode(&error, serializer, &mut out);
            encode_error(
                serializer,
                48,
                1,
                "wamp.error.no_such_procedure",
                Some("none is registered"),
                &mut out,
            );
        });
        assert_eq!(count, 0, "{serializer}");
    }
}

#[test]
fn a_payload_is_copied_in_one_piece_and_translated_once() {
    let payload = Payload { args: Some(b"[1,2,3]"), kwargs: Some(b"{\"a\":1}"), ..Payload::EMPTY };
    // One for the bytes, one for the count of their owners.
    let (count, bytes) = allocations(|| OwnedPayload::copy_from(Serializer::Json, &payload).clone());
    assert!(count <= 2 && bytes < 100, "{count} allocations, {bytes} bytes");
    let shared = SharedPayload::new(OwnedPayload::copy_from(Serializer::Json, &payload));
    assert!(shared.get(Serializer::MsgPack).is_ok());
    assert_eq!(allocations(|| shared.get(Serializer::MsgPack).unwrap().view()).0, 0);
    assert_eq!(allocations(|| OwnedPayload::copy_from(Serializer::Json, &Payload::EMPTY)).0, 0);
}

/// Bytes that any 64-byte message may allocate while it is decoded, translated included.
const HOSTILE_BYTES_MAX: u64 = 8 * 1024;

#[test]
fn lies_about_lengths_allocate_nothing() {
    let limits = DecodeLimits::default();
    for bytes in [
        &b"\xdd\xff\xff\xff\xff\x10\x01\x80\xa1a"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\x94\x10\x01\xdf\xff\xff\xff\xff\xa1a",
        b"\x94\x10\x01\x80\xdb\xff\xff\xff\xff",
        b"\x95\x10\x01\x80\xa1a\xdd\x7f\xff\xff\xff",
        b"\x95\x10\x01\x80\xa1a\xc6\x7f\xff\xff\xff",
        b"\x93\x01\xa1r\x81\xabauthmethods\xdd\xff\xff\xff\xff",
        b"\x94\x10\x01\x81\xa7exclude\xdd\xff\xff\xff\xff",
    ] {
        assert_eq!(allocations(|| assert!(decode(Serializer::MsgPack, bytes, &limits).is_err())).0, 0);
    }
    for bytes in [
        &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x10\x01\xa0\x61a"[..],
        b"\xba\xff\xff\xff\xff",
        b"\x84\x10\x01\xbb\x80\x00\x00\x00\x00\x00\x00\x00\x61a",
        b"\x84\x10\x01\xa0\x7a\xff\xff\xff\xff",
        b"\x84\x10\x01\xa0\x7f\x7a\xff\xff\xff\xff\xff",
        b"\x85\x10\x01\xa0\x61a\x9a\x7f\xff\xff\xff",
        b"\x85\x10\x01\xa0\x61a\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x83\x01\x61r\xa1\x6bauthmethods\x9a\xff\xff\xff\xff",
    ] {
        assert_eq!(allocations(|| assert!(decode(Serializer::Cbor, bytes, &limits).is_err())).0, 0);
    }
}

/// Pieces that get far into the decoder.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let json_piece = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\u0041",
        "\\",
        "1",
        "16",
        "48",
        "64",
        "\"a\"",
        "[1,\"r\",{",
        "\"roles\":{",
        "\"authmethods\":[",
        "\"\",",
        "[16,1,{},\"a\",[",
        "[[[[",
        "{\"a\":",
        "null",
        "1e9",
        "\"\\u0000AAAA\"",
    ]);
    let json = prop::collection::vec(json_piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes());
    let head = prop::sample::select(vec![
        &b""[..],
        b"\x95\x10\x01\x80\xa1a",
        b"\x94\x10\x01",
        b"\x93\x01\xa1r\x81\xabauthmethods",
        b"\x94\x10\x01\x81\xafeligible_authid",
        b"\x93\x01\xa1r\x81\xa5roles",
        b"\x85\x10\x01\xa0\x61a",
        b"\x85\x10\x01\xa0\x61a\x9f\x9f\x9f\x7f",
        b"\x84\x10\x01",
        b"\x83\x01\x61r\xa1\x6bauthmethods",
        b"\x84\x10\x01\xbf\x67exclude\x9f",
        b"\x83\x01\x61r\xa1\x65roles",
        b"\x9f\x9f\xbf\x9f\x9f\xbf\x9f\x9f\xbf",
    ]);
    let packed =
        (head, prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(head, tail)| [head, &tail].concat());
    // CBOR without lengths, which translators have to count.
    let piece = prop::sample::select(vec![0x9f, 0xbf, 0xff, 0x7f, 0x5f, 0x61, 0x41, 0x01, 0x81, 0xa1, 0xc1]);
    let open = prop::collection::vec(piece, 0..64);
    prop_oneof![json, packed, open].prop_map(|mut bytes| {
        bytes.truncate(64);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn small_hostile_messages_cost_little_memory(bytes in hostile()) {
        let limits = DecodeLimits::default();
        for serializer in Serializer::ALL {
            let (_, spent) = allocations(|| drop(black_box(decode(serializer, &bytes, &limits))));
            prop_assert!(spent < HOSTILE_BYTES_MAX, "{spent} bytes for decoding {bytes:02x?}");
            for to in Serializer::ALL {
                let owned = OwnedPayload::copy_from(serializer, &Payload { args: Some(&bytes), kwargs: None, ..Payload::EMPTY });
                let (_, spent) = allocations(|| drop(black_box(owned.transcode(to))));
                prop_assert!(spent < HOSTILE_BYTES_MAX, "{spent} bytes for {bytes:02x?} in {to}");
            }
        }
    }
}
