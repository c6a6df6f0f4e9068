//! What WAMP messages cost, beside crates that read whole documents.
//!
//! Ours reads the envelope and validates the payload, of which a router needs no more. The others give a tree, or, where
//! they can, the payload's bytes (`RawValue`).
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire_bench::{objects, publish, transcoded};
use fanwire_codec::payload::{OwnedPayload, validate};
use fanwire_codec::wamp2::{DecodeLimits, EventDetails, Message, Payload, Serializer, decode, encode_event};
use serde_json::Value;
use serde_json::value::RawValue;

const SMALL: &[u8] = br#"[1,"a payload of sixty bytes and four, as is usual in chat rooms"]"#;

fn payloads() -> [(&'static str, Vec<u8>); 2] {
    [("64 B", SMALL.to_vec()), ("60 objects", objects(60))]
}

/// A PUBLISH with this list in this serializer.
fn message(serializer: Serializer, list: &[u8]) -> Vec<u8> {
    let args = transcoded(list, serializer);
    publish(serializer, Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY })
}

fn ours(serializer: Serializer, message: &[u8]) {
    let decoded = decode(serializer, black_box(message), &DecodeLimits::default());
    assert!(matches!(&decoded, Ok(Message::Publish { request: 77, .. })));
}

fn decoding(criterion: &mut Criterion) {
    for serializer in Serializer::ALL {
        let envelope = publish(serializer, Payload::EMPTY);
        criterion.bench_function(&format!("decode {serializer:?}, envelope/fanwire"), |bencher| {
            bencher.iter(|| ours(serializer, &envelope));
        });
    }
    for (size, list) in payloads() {
        let json = message(Serializer::Json, &list);
        let mut group = criterion.benchmark_group(format!("decode JSON, {size}"));
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function("fanwire", |bencher| bencher.iter(|| ours(Serializer::Json, &json)));
        type Raw<'a> = (u64, u64, &'a RawValue, &'a str, &'a RawValue);
        group.bench_function("serde_json RawValue", |bencher| {
            bencher.iter(|| {
                let raw: Raw<'_> = serde_json::from_slice(black_box(&json)).expect("it is sound");
                assert_eq!(black_box(raw).1, 77);
            });
        });
        group.bench_function("serde_json Value", |bencher| {
            bencher.iter(|| {
                let value: Value = serde_json::from_slice(black_box(&json)).expect("it is sound");
                assert_eq!(value[1], 77);
            });
        });
        group.finish();

        let msgpack = message(Serializer::MsgPack, &list);
        let mut group = criterion.benchmark_group(format!("decode MessagePack, {size}"));
        group.throughput(Throughput::Bytes(msgpack.len() as u64));
        group.bench_function("fanwire", |bencher| bencher.iter(|| ours(Serializer::MsgPack, &msgpack)));
        group.bench_function("rmpv ValueRef", |bencher| {
            bencher.iter(|| {
                let value = rmpv::decode::read_value_ref(&mut black_box(&msgpack[..])).expect("it is sound");
                assert_eq!(value.as_array().map(Vec::len), Some(5));
            });
        });
        group.bench_function("rmpv Value", |bencher| {
            bencher.iter(|| {
                let value = rmpv::decode::read_value(&mut black_box(&msgpack[..])).expect("it is sound");
                assert_eq!(value[1], 77.into());
            });
        });
        group.finish();

        let cbor = message(Serializer::Cbor, &list);
        let mut group = criterion.benchmark_group(format!("decode CBOR, {size}"));
        group.throughput(Throughput::Bytes(cbor.len() as u64));
        group.bench_function("fanwire", |bencher| bencher.iter(|| ours(Serializer::Cbor, &cbor)));
        group.bench_function("ciborium Value", |bencher| {
            bencher.iter(|| {
                let value: ciborium::Value =
                    ciborium::from_reader(black_box(&cbor[..])).expect("it is sound");
                assert_eq!(value.as_array().map(Vec::len), Some(5));
            });
        });
        group.finish();
    }
}

fn validating(criterion: &mut Criterion) {
    let strings: Vec<String> =
        (0..40).map(|number| format!("\"{number} {}\"", "words ".repeat(10))).collect();
    for (name, list) in
        [("60 objects", objects(60)), ("40 strings", format!("[{}]", strings.join(",")).into_bytes())]
    {
        for serializer in Serializer::ALL {
            let payload = transcoded(&list, serializer);
            let mut group = criterion.benchmark_group(format!("validate {serializer:?}, {name}"));
            group.throughput(Throughput::Bytes(payload.len() as u64));
            group.bench_function("fanwire", |bencher| {
                bencher.iter(|| assert_eq!(validate(serializer, black_box(&payload)), Ok(())));
            });
            if serializer == Serializer::Json {
                group.bench_function("serde_json RawValue", |bencher| {
                    bencher.iter(|| {
                        let read: Result<&RawValue, _> = serde_json::from_slice(black_box(&payload));
                        assert!(read.is_ok());
                    });
                });
            }
            group.finish();
        }
    }
}

fn encoding(criterion: &mut Criterion) {
    for serializer in Serializer::ALL {
        let args = transcoded(SMALL, serializer);
        let payload = Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY };
        let mut out = BytesMut::with_capacity(1 << 10);
        let mut group = criterion.benchmark_group(format!("encode EVENT, {serializer:?}"));
        group.bench_function("fanwire", |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_event(serializer, 5_001, 48_151_623, &EventDetails::default(), &payload, &mut out);
                assert!(black_box(&out).len() > args.len());
            });
        });
        let mut out = Vec::with_capacity(1 << 10);
        match serializer {
            Serializer::Json => {
                let raw: &RawValue = serde_json::from_slice(&args).expect("it is sound");
                group.bench_function("serde_json RawValue", |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        let event = (36, 5_001, 48_151_623, serde_json::Map::new(), raw);
                        serde_json::to_writer(&mut out, &event).expect("a vector takes everything");
                        assert!(black_box(&out).len() > args.len());
                    });
                });
            }
            Serializer::MsgPack => {
                let args = rmpv::decode::read_value(&mut &args[..]).expect("it is sound");
                let event = vec![36.into(), 5_001.into(), 48_151_623.into(), rmpv::Value::Map(vec![]), args];
                let event = rmpv::Value::Array(event);
                group.bench_function("rmpv Value, made before", |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        rmpv::encode::write_value(&mut out, black_box(&event)).expect("as above");
                        assert!(out.len() > 64);
                    });
                });
            }
            Serializer::Cbor => {}
        }
        group.finish();
    }
}

fn transcoding(criterion: &mut Criterion) {
    for (size, list) in payloads() {
        let json = OwnedPayload::copy_from(
            Serializer::Json,
            &Payload { args: Some(&list), kwargs: None, ..Payload::EMPTY },
        );
        let mut group = criterion.benchmark_group(format!("transcode JSON, {size}"));
        group.throughput(Throughput::Bytes(list.len() as u64));
        for to in [Serializer::MsgPack, Serializer::Cbor] {
            group.bench_function(format!("fanwire, to {to:?}"), |bencher| {
                bencher.iter(|| assert!(json.transcode(black_box(to)).is_ok()));
            });
        }
        group.bench_function("serde_json and rmpv Value, to MsgPack", |bencher| {
            bencher.iter(|| {
                let value: Value = serde_json::from_slice(black_box(&list)).expect("it is sound");
                let value = rmpv::ext::to_value(value).expect("both know these types");
                let mut out = Vec::new();
                rmpv::encode::write_value(&mut out, &value).expect("a vector takes everything");
                assert!(!black_box(out).is_empty());
            });
        });
        group.bench_function("serde_json Value and ciborium, to Cbor", |bencher| {
            bencher.iter(|| {
                let value: Value = serde_json::from_slice(black_box(&list)).expect("it is sound");
                let mut out = Vec::new();
                ciborium::into_writer(&value, &mut out).expect("a vector takes everything");
                assert!(!black_box(out).is_empty());
            });
        });
        group.finish();
        let packed = OwnedPayload::copy_from(
            Serializer::MsgPack,
            &Payload { args: Some(&transcoded(&list, Serializer::MsgPack)), kwargs: None, ..Payload::EMPTY },
        );
        let mut group = criterion.benchmark_group(format!("transcode MessagePack, {size}"));
        group.bench_function("fanwire, to Json", |bencher| {
            bencher.iter(|| assert!(packed.transcode(black_box(Serializer::Json)).is_ok()));
        });
        group.finish();
    }
}

criterion_group!(benches, decoding, validating, encoding, transcoding);
criterion_main!(benches);
