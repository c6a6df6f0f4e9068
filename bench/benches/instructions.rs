//! The hot functions, each as often as it is told: `cargo xtask instructions` counts what they execute under valgrind.
//!
//!     instructions                 prints the cases, one a line: what it is, a tab, how many things one iteration does
//!     instructions CASE COUNT      runs one case so often
//!
//! Inputs are fixed and no clock is read, so that two runs execute the same. Each case checks its own answer, so that a
//! wrong fast path cannot win.

use std::hint::black_box;
use std::process::ExitCode;

use bytes::BytesMut;
use fanwire_bench::{Bare, objects, publish, transcoded};
use fanwire_codec::wamp2::{DecodeLimits, EventDetails, Message, Payload, Serializer, decode, encode_event};
use fanwire_codec::ws::mask::Unmasker;
use fanwire_codec::ws::{Kind, Limits, Pool, Received, Receiver, Role, write_client_message};
use fanwire_codec::{cbor, json, msgpack};
use fanwire_core::directory::{Directory, TopicCache};
use fanwire_core::ids::{RealmId, ShardId};
use fanwire_io::Ring;

/// One line of the table.
struct Case {
    name: &'static str,
    /// Things that one iteration does.
    things: u64,
    run: fn(u64),
}

const fn case(name: &'static str, things: u64, run: fn(u64)) -> Case {
    Case { name, things, run }
}

const SUBSCRIBERS: u32 = 1_000;

const CASES: &[Case] = &[
    case("receive a masked text frame, 64 B", 1, |count| receive(count, Kind::Text, 64)),
    case("receive a masked text frame, 1 KiB", 1, |count| receive(count, Kind::Text, 1 << 10)),
    case("receive a masked text frame, 64 KiB", 1, |count| receive(count, Kind::Text, 64 << 10)),
    case("receive a masked binary frame, 64 B", 1, |count| receive(count, Kind::Binary, 64)),
    case("receive a masked binary frame, 1 KiB", 1, |count| receive(count, Kind::Binary, 1 << 10)),
    case("receive a masked text frame beyond ASCII, 1 KiB", 1, receive_umlauts),
    case("unmask 64 B", 1, |count| unmask(count, 64)),
    case("unmask 1 KiB", 1, |count| unmask(count, 1 << 10)),
    case("envelope of a PUBLISH, JSON", 1, |count| envelope(count, Serializer::Json)),
    case("envelope of a PUBLISH, MessagePack", 1, |count| envelope(count, Serializer::MsgPack)),
    case("envelope of a PUBLISH, CBOR", 1, |count| envelope(count, Serializer::Cbor)),
    case("PUBLISH with a payload of 64 B, JSON", 1, |count| whole(count, Serializer::Json)),
    case("PUBLISH with a payload of 64 B, MessagePack", 1, |count| whole(count, Serializer::MsgPack)),
    case("PUBLISH with a payload of 64 B, CBOR", 1, |count| whole(count, Serializer::Cbor)),
    case("EVENT with a payload of 64 B, JSON", 1, |count| event(count, Serializer::Json)),
    case("EVENT with a payload of 64 B, MessagePack", 1, |count| event(count, Serializer::MsgPack)),
    case("validate 60 objects, JSON", 1, |count| validate(count, Serializer::Json)),
    case("validate 60 objects, MessagePack", 1, |count| validate(count, Serializer::MsgPack)),
    case("validate 60 objects, CBOR", 1, |count| validate(count, Serializer::Cbor)),
    case("delivery, 1 message a send, 1,000 subscribers", SUBSCRIBERS as u64, |count| fan_out(count, 1)),
    case("delivery, 16 messages a send, 1,000 subscribers", 16 * SUBSCRIBERS as u64, |count| {
        fan_out(count, 16)
    }),
    case("call: CALL, INVOCATION, YIELD, RESULT", 1, call),
    case("look up a warm topic", 1, look_up),
    case("ring: push and pop", 1, ring),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, count] = &arguments[..] else {
        CASES.iter().for_each(|case| println!("{}\t{}", case.name, case.things));
        return ExitCode::SUCCESS;
    };
    let (Some(case), Ok(count)) = (CASES.iter().find(|case| case.name == name), count.parse()) else {
        eprintln!("no case `{name}` and count `{count}`");
        return ExitCode::from(2);
    };
    (case.run)(count);
    ExitCode::SUCCESS
}

/// Below 128, so that ASCII stays ASCII however often it is masked.
const KEY: [u8; 4] = [0x37, 0x7a, 0x21, 0x3d];

fn receive(count: u64, kind: Kind, size: usize) {
    receive_all(count, kind, &vec![b'x'; size], KEY);
}

/// This key makes other characters of two bytes of them.
fn receive_umlauts(count: u64) {
    let text = "äöü ".repeat(1 << 8);
    receive_all(count, Kind::Text, &text.as_bytes()[..1 << 10], [1; 4]);
}

/// Receiving unmasks in place: every second time the payload is what masking makes of it.
fn receive_all(count: u64, kind: Kind, payload: &[u8], key: [u8; 4]) {
    let mut frame = BytesMut::new();
    write_client_message(&mut frame, kind, &[payload], key);
    let (mut receiver, mut pool) = (Receiver::new(Role::Server), Pool::default());
    for _ in 0..count {
        let (used, received) =
            receiver.receive(black_box(&mut frame), &Limits::default(), &mut pool).expect("a sound frame");
        assert!(
            matches!(received, Some(Received::Message { payload: whole, .. }) if whole.len() == payload.len())
        );
        black_box(used);
    }
}

fn unmask(count: u64, size: usize) {
    let (unmasker, mut bytes) = (Unmasker::detect(), vec![0; size]);
    for _ in 0..count {
        unmasker.apply(black_box(&mut bytes), KEY);
    }
    assert_eq!(bytes[0], if count.is_multiple_of(2) { 0 } else { KEY[0] });
}

fn envelope(count: u64, serializer: Serializer) {
    decode_all(count, serializer, &publish(serializer, Payload::EMPTY));
}

fn whole(count: u64, serializer: Serializer) {
    let args = transcoded(SMALL, serializer);
    decode_all(
        count,
        serializer,
        &publish(serializer, Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY }),
    );
}

fn decode_all(count: u64, serializer: Serializer, message: &[u8]) {
    for _ in 0..count {
        let decoded = decode(serializer, black_box(message), &DecodeLimits::default());
        assert!(matches!(black_box(&decoded), Ok(Message::Publish { request: 77, .. })));
    }
}

/// 64 bytes.
const SMALL: &[u8] = br#"[1,"a payload of sixty bytes and four, as is usual in chat rooms"]"#;

fn event(count: u64, serializer: Serializer) {
    let args = transcoded(SMALL, serializer);
    let payload = Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY };
    let mut out = BytesMut::with_capacity(1 << 10);
    for _ in 0..count {
        out.clear();
        encode_event(serializer, 5_001, 48_151_623, &EventDetails::default(), black_box(&payload), &mut out);
        assert!(black_box(&out).len() > args.len());
    }
}

fn validate(count: u64, serializer: Serializer) {
    let payload = transcoded(&objects(60), serializer);
    let validate = match serializer {
        Serializer::Json => json::validate,
        Serializer::MsgPack => msgpack::validate,
        Serializer::Cbor => cbor::validate,
    };
    for _ in 0..count {
        assert_eq!(validate(black_box(&payload), 128), Ok(()));
    }
}

/// `burst` publications, then the turn's end.
fn fan_out(count: u64, burst: u32) {
    let mut bare = Bare::new();
    for number in 0..SUBSCRIBERS {
        let outlet = bare.join(number);
        bare.say(outlet, &mut br#"[32,1,{},"a.topic"]"#.to_vec());
    }
    let publisher = bare.join(SUBSCRIBERS);
    bare.flush();
    let (before, sends) = (bare.shard.counters().delivered, bare.sink.sends);
    let mut message =
        publish(Serializer::Json, Payload { args: Some(SMALL), kwargs: None, ..Payload::EMPTY });
    for _ in 0..count {
        for _ in 0..burst {
            bare.say(publisher, &mut message);
        }
        bare.flush();
    }
    assert_eq!(bare.shard.counters().delivered - before, count * u64::from(burst * SUBSCRIBERS));
    assert_eq!(bare.sink.sends - sends, count * u64::from(SUBSCRIBERS));
}

fn call(count: u64) {
    // Invocations are counted from 1; from here on their number has four digits.
    const FIRST: u64 = 1_000;
    assert!(count <= 8_999, "the number of the invocation has four digits");
    let mut bare = Bare::new();
    let (callee, caller) = (bare.join(0), bare.join(1));
    bare.say(callee, &mut br#"[64,1,{},"a.procedure"]"#.to_vec());
    bare.flush();
    let mut call = br#"[48,77,{},"a.procedure",[1,2]]"#.to_vec();
    let mut one = |answer: &mut [u8]| {
        bare.say(caller, &mut call);
        bare.flush();
        bare.say(callee, answer);
        bare.flush();
        assert_eq!(bare.shard.counters().calls_pending, 0);
    };
    for invocation in 1..FIRST {
        one(format!("[70,{invocation},{{}},[3]]").as_bytes().to_vec().as_mut_slice());
    }
    let mut answer = *b"[70,1000,{},[3]]";
    for _ in 0..count {
        one(&mut answer);
        count_up(&mut answer[4..8]);
    }
}

/// Adds one to a decimal number.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

fn look_up(count: u64) {
    let (directory, realm) = (Directory::new(1), RealmId::new(0));
    let mut cache = TopicCache::new(64);
    let topic = directory.subscribe(realm, "com.example.room.4711", ShardId::MAX);
    for _ in 0..count {
        let found = cache.get(&directory, realm, black_box("com.example.room.4711"));
        assert!(found.exact.is_some_and(|found| found.id() == topic.id()));
    }
}

fn ring(count: u64) {
    let ring = Ring::new(1_024);
    for number in 0..count {
        ring.push(black_box([number; 4])).expect("there is room");
        assert_eq!(ring.pop(), Some([number; 4]));
    }
}
