//! Frames and messages: what one costs to read and to write.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire_codec::wamp2::{
    DecodeLimits, EventDetails, Message, Payload, Serializer, decode, encode, encode_event,
};
use fanwire_codec::ws::deflate::{Agreement, Deflater, Direction, write_deflated_message};
use fanwire_codec::ws::{Kind, Limits, Pool, Received, Receiver, Role, mask, write_client_message};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for size in [64usize, 1_024, 65_536] {
        let mut buffer = vec![0u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group
            .bench_function(format!("{size} B"), |bencher| bencher.iter(|| mask::apply(&mut buffer, KEY, 0)));
    }
}

/// As a shard finds it: whole, where it was received. Unmasking it there makes another text of it each time, and this key keeps
/// that ASCII.
fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive masked text in place");
    for size in [64usize, 1 << 10, 64 << 10] {
        let mut frame = BytesMut::new();
        write_client_message(&mut frame, Kind::Text, &[&vec![b'x'; size]], [0x37, 0x7a, 0x21, 0x3d]);
        let (mut receiver, mut pool) = (Receiver::new(Role::Server), Pool::default());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |bencher| {
            bencher.iter(|| {
                let (used, received) =
                    receiver.receive(&mut frame, &Limits::default(), &mut pool).expect("a sound frame");
                assert!(matches!(received, Some(Received::Message { payload, .. }) if payload.len() == size));
                assert_eq!(
                    used,
                    size + if size < 126 {
                        6
                    } else if size < 1 << 16 {
                        8
                    } else {
                        14
                    }
                );
            });
        });
    }
}

fn messages(criterion: &mut Criterion) {
    let json = br#"[16,77,{},"a.topic",[1,"a payload of about sixty bytes, as is usual in chats"]]"#.to_vec();
    let message = decode(Serializer::Json, &json, &DecodeLimits::default()).expect("a sound message");
    let Message::Publish { payload, .. } = &message else { panic!("it is a PUBLISH") };
    let mut out = BytesMut::with_capacity(4_096);
    criterion.bench_function("decode PUBLISH json", |bencher| {
        bencher.iter(|| {
            let message = decode(Serializer::Json, &json, &DecodeLimits::default()).expect("a sound message");
            assert!(matches!(message, Message::Publish { request: 77, .. }));
        });
    });
    criterion.bench_function("encode EVENT json", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_event(Serializer::Json, 5, 7, &EventDetails::default(), payload, &mut out);
            assert!(out.ends_with(b"]]"));
        });
    });
    // [1, "…"] in MessagePack.
    let args = b"\x92\x01\xd9\x36a payload of about sixty bytes, as is usual in chats!!";
    let publish = Message::Publish {
        request: 77,
        options: Default::default(),
        topic: "a.topic".into(),
        payload: Payload { args: Some(args), kwargs: None, ..Payload::EMPTY },
    };
    let mut msgpack = BytesMut::new();
    encode(&publish, Serializer::MsgPack, &mut msgpack);
    criterion.bench_function("decode PUBLISH msgpack", |bencher| {
        bencher.iter(|| {
            let message =
                decode(Serializer::MsgPack, &msgpack, &DecodeLimits::default()).expect("a sound message");
            assert!(matches!(message, Message::Publish { request: 77, .. }));
        });
    });
}

/// About 1 KiB of JSON as a market feed has it; each number gives another one.
fn quotes(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    let mut text = String::from("[36,7312,48151623,{},[{\"quotes\":[");
    while text.len() < 1_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (bid, volume, at) = (state >> 52, state >> 40 & 0xFFF, state >> 20 & 0xF_FFFF);
        text += &format!(
            "{{\"symbol\":\"AC{}\",\"bid\":{bid}.25,\"volume\":{volume},\"time\":17000{at}}},",
            state % 26
        );
    }
    text.pop();
    (text + "]}]]").into_bytes()
}

fn deflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate 1 KiB of JSON");
    let events: Vec<_> = (0..64).map(quotes).collect();
    for level in [1, 3, 6] {
        for (name, takeover, window_bits) in [
            ("alone", false, 15),
            ("alone", false, 12),
            ("context", true, 15),
            ("context", true, 12),
            ("context", true, 10),
        ] {
            let mut deflater = Deflater::new(level, window_bits);
            let mut context = Direction { takeover, window_bits }.context();
            let (mut out, mut at) = (BytesMut::with_capacity(4_096), 0);
            let (mut before, mut after) = (0, 0);
            group.bench_function(format!("level {level}, {name}, window {window_bits}"), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % events.len();
                    out.clear();
                    let parts = [&events[at][..]];
                    write_deflated_message(&mut out, Kind::Text, &parts, &mut deflater, context.as_mut());
                    assert_eq!(out[0], 0xC1, "compressed");
                    before += events[at].len();
                    after += out.len();
                });
            });
            println!("  {:.2} times smaller", before as f64 / after as f64);
        }
    }
    group.finish();
}

fn inflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inflate 1 KiB of JSON");
    for (name, takeover, window_bits) in [("alone", false, 15), ("context", true, 15), ("context", true, 12)]
    {
        let direction = Direction { takeover, window_bits };
        let mut frames = BytesMut::new();
        let mut deflater = Deflater::new(1, window_bits);
        // Referring to nothing before it, a message may be read again and again.
        write_deflated_message(&mut frames, Kind::Text, &[&quotes(1)], &mut deflater, None);
        let mut copy = frames.to_vec();
        let (mut receiver, mut pool) = (Receiver::new(Role::Client), Pool::default());
        receiver.use_compression(&Agreement { server: direction, client: direction });
        group.bench_function(format!("{name}, window {window_bits}"), |bencher| {
            bencher.iter(|| {
                copy.copy_from_slice(&frames);
                let (_, received) =
                    receiver.receive(&mut copy, &Limits::default(), &mut pool).expect("a sound frame");
                assert!(matches!(received, Some(Received::Message { payload, .. }) if payload.len() > 1_000));
                receiver.recycle(&mut pool);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, unmask, receive, messages, deflate, inflate);
criterion_main!(benches);
