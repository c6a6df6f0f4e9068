//! Frames and messages: what one costs to read and to write.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire_codec::wamp2::{
    DecodeLimits, EventDetails, Message, Payload, Serializer, decode, encode, encode_event,
};
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

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive masked text");
    for size in [64usize, 1_024, 65_000] {
        let mut frame = BytesMut::new();
        write_client_message(&mut frame, Kind::Text, &[&vec![b'x'; size]], KEY);
        let mut copy = frame.to_vec();
        let (mut receiver, mut pool) = (Receiver::new(Role::Server), Pool::default());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |bencher| {
            bencher.iter(|| {
                copy.copy_from_slice(&frame);
                let (used, received) =
                    receiver.receive(&mut copy, &Limits::default(), &mut pool).expect("a sound frame");
                assert!(matches!(received, Some(Received::Message { payload, .. }) if payload.len() == size));
                assert_eq!(used, frame.len());
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
        payload: Payload { args: Some(args), kwargs: None },
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

criterion_group!(benches, unmask, receive, messages);
criterion_main!(benches);
