//! Properties of the WAMP codec over generated input.
//!
//! Strategies are boxed: nested by value they would take megabytes of stack in debug builds.

mod wamp_support;

use std::borrow::Cow;

use bytes::BytesMut;
use fanwire_codec::payload::{OwnedPayload, TranscodeError, validate};
use fanwire_codec::wamp2::*;
use fanwire_codec::{cbor, json, msgpack};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use wamp_support::{Lengths, as_json, decoded, encoded, pack, parsed, serialized, uncbor, unpack};

/// JSON values without anything that has no counterpart in the other serializers.
fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-200i64..200).prop_map(Value::from),
        (prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO).prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(binary),
    ];
    leaf.prop_recursive(5, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..18).prop_map(Value::from_iter),
        ]
    })
    .boxed()
}

fn binary(bytes: Vec<u8>) -> Value {
    use base64::Engine as _;
    Value::from(format!("\0{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}

/// Strings of all kinds, but none that looks like binary.
fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z]{0,12}", "\\PC{0,20}", "[\u{1}-\u{7f}]{0,40}", "(.|\n){30,300}"]
        .prop_map(|text| text.trim_start_matches('\0').to_owned())
        .boxed()
}

fn list() -> BoxedStrategy<Value> {
    prop::collection::vec(value(), 0..5).prop_map(Value::from).boxed()
}

fn dict() -> BoxedStrategy<Value> {
    prop::collection::btree_map(text(), value(), 0..5).prop_map(Value::from_iter).boxed()
}

/// The tests are short: borrowing for ever is the simplest way to make messages.
fn leaked(serializer: Serializer, value: Option<Value>) -> Option<&'static [u8]> {
    value.map(|value| &*serialized(serializer, &value).leak())
}

fn payload(serializer: Serializer) -> BoxedStrategy<Payload<'static>> {
    // Keyword arguments alone read back with empty positional ones.
    prop_oneof![
        Just((None, None)),
        list().prop_map(|args| (Some(args), None)),
        (list(), dict()).prop_map(|(args, kwargs)| (Some(args), Some(kwargs))),
    ]
    .prop_map(move |(args, kwargs)| Payload {
        args: leaked(serializer, args),
        kwargs: leaked(serializer, kwargs),
        ..Payload::EMPTY
    })
    .boxed()
}

fn id() -> BoxedStrategy<u64> {
    prop_oneof![1..=ID_MAX, 1..300u64, Just(1), Just(ID_MAX)].boxed()
}

fn string() -> BoxedStrategy<Cow<'static, str>> {
    prop_oneof!["[a-z]{1,8}(\\.[a-z0-9_]{1,8}){0,4}", text()].prop_map(Cow::Owned).boxed()
}

fn flag() -> BoxedStrategy<Option<bool>> {
    any::<Option<bool>>().boxed()
}

fn policy() -> BoxedStrategy<MatchPolicy> {
    prop::sample::select(vec![MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard]).boxed()
}

fn mode() -> BoxedStrategy<Option<CancelMode>> {
    option::of(prop::sample::select(vec![CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait])).boxed()
}

fn roles() -> BoxedStrategy<Roles> {
    let features = || {
        option::of(prop::sample::subsequence(
            vec![Feature::CallCanceling, Feature::PublisherExclusion, Feature::XAcknowledgedEventDelivery],
            0..=3,
        ))
        .prop_map(|features| features.map(|features| FeatureSet::of(&features)))
    };
    (features(), features(), features(), features(), features(), features())
        .prop_map(|(publisher, subscriber, caller, callee, broker, dealer)| Roles {
            publisher,
            subscriber,
            caller,
            callee,
            broker,
            dealer,
        })
        .boxed()
}

fn hello(serializer: Serializer) -> BoxedStrategy<Message<'static>> {
    let names = (option::of(string()), option::of(string()), option::of(string()));
    let methods = prop::collection::vec(string(), 0..5);
    (string(), roles(), names, methods, option::of(dict()))
        .prop_map(move |(realm, roles, (agent, authid, authrole), authmethods, extra)| {
            let authextra = leaked(serializer, extra);
            Message::Hello {
                realm,
                details: HelloDetails { roles, agent, authid, authrole, authmethods, authextra },
            }
        })
        .boxed()
}

fn welcome(serializer: Serializer) -> BoxedStrategy<Message<'static>> {
    let names = (option::of(string()), option::of(string()), option::of(string()));
    let more = (option::of(string()), option::of(string()), option::of(string()));
    (id(), roles(), names, more, option::of(dict()))
        .prop_map(move |(session, roles, (realm, authid, authrole), more, extra)| {
            let (authmethod, authprovider, agent) = more;
            let authextra = leaked(serializer, extra);
            let details =
                WelcomeDetails { realm, authid, authrole, authmethod, authprovider, authextra, agent, roles };
            Message::Welcome { session, details }
        })
        .boxed()
}

fn session_message(serializer: Serializer) -> BoxedStrategy<Message<'static>> {
    prop_oneof![
        hello(serializer),
        welcome(serializer),
        (string(), option::of(string())).prop_map(|(reason, message)| Message::Abort { reason, message }),
        (string(), option::of(string())).prop_map(|(reason, message)| Message::Goodbye { reason, message }),
        (string(), dict()).prop_map(move |(method, extra)| {
            let extra = leaked(serializer, Some(extra)).unwrap();
            Message::Challenge { method, extra }
        }),
        (string(), dict()).prop_map(move |(signature, extra)| {
            let extra = leaked(serializer, Some(extra)).unwrap();
            Message::Authenticate { signature, extra }
        }),
        (prop::sample::select(vec![16, 32, 34, 48, 64, 66, 68]), id(), string(), payload(serializer))
            .prop_map(|(request_type, request, error, payload)| Message::Error {
                request_type,
                request,
                error,
                payload
            }),
        (id(), mode()).prop_map(|(request, mode)| Message::Cancel { request, mode }),
        (id(), mode(), option::of(string())).prop_map(|(request, mode, reason)| Message::Interrupt {
            request,
            options: InterruptOptions { mode, reason }
        }),
    ]
    .boxed()
}

/// No lists at all is nothing, not six absent ones.
fn receivers() -> BoxedStrategy<Option<Box<ReceiverLists<'static>>>> {
    let ids = || option::weighted(0.3, prop::collection::vec(id(), 0..20));
    let names = || option::weighted(0.3, prop::collection::vec(string(), 0..5));
    (ids(), names(), names(), ids(), names(), names())
        .prop_map(
            |(exclude, exclude_authid, exclude_authrole, eligible, eligible_authid, eligible_authrole)| {
                let lists = ReceiverLists {
                    exclude,
                    exclude_authid,
                    exclude_authrole,
                    eligible,
                    eligible_authid,
                    eligible_authrole,
                };
                (lists != ReceiverLists::default()).then(|| Box::new(lists))
            },
        )
        .boxed()
}

fn publish_options() -> BoxedStrategy<PublishOptions<'static>> {
    (any::<bool>(), flag(), flag(), flag(), receivers(), option::of(string()))
        .prop_map(|(acknowledge, exclude_me, disclose_me, retain, receivers, conflate_key)| PublishOptions {
            acknowledge,
            exclude_me,
            disclose_me,
            retain,
            receivers,
            conflate_key,
        })
        .boxed()
}

fn broker_message(serializer: Serializer) -> BoxedStrategy<Message<'static>> {
    prop_oneof![
        (id(), publish_options(), string(), payload(serializer)).prop_map(
            |(request, options, topic, payload)| Message::Publish { request, options, topic, payload }
        ),
        (id(), id()).prop_map(|(request, publication)| Message::Published { request, publication }),
        (id(), policy(), flag(), string()).prop_map(|(request, match_policy, get_retained, topic)| {
            Message::Subscribe { request, options: SubscribeOptions { match_policy, get_retained }, topic }
        }),
        (id(), id()).prop_map(|(request, subscription)| Message::Subscribed { request, subscription }),
        (id(), id()).prop_map(|(request, subscription)| Message::Unsubscribe { request, subscription }),
        id().prop_map(|request| Message::Unsubscribed { request }),
        (
            (id(), id(), option::of(string()), option::of(id())),
            (option::of(string()), option::of(string()), flag(), timeout(), payload(serializer)),
        )
            .prop_map(
                |(
                    (subscription, publication, topic, publisher),
                    (publisher_authid, publisher_authrole, retained, trust_level, payload),
                )| {
                    let details = EventDetails {
                        topic,
                        publisher,
                        publisher_authid,
                        publisher_authrole,
                        retained,
                        trust_level,
                    };
                    Message::Event { subscription, publication, details, payload }
                }
            ),
    ]
    .boxed()
}

fn timeout() -> impl Strategy<Value = Option<u64>> {
    option::of(0..=ID_MAX)
}

fn dealer_message(serializer: Serializer) -> BoxedStrategy<Message<'static>> {
    let invoke = prop::sample::select(InvokePolicy::ALL.to_vec());
    prop_oneof![
        (id(), (timeout(), flag(), flag(), flag()), string(), payload(serializer)).prop_map(
            |(request, (timeout_ms, receive_progress, progress, disclose_me), procedure, payload)| {
                let options = CallOptions { timeout_ms, receive_progress, progress, disclose_me };
                Message::Call { request, options, procedure, payload }
            }
        ),
        (id(), flag(), payload(serializer)).prop_map(|(request, progress, payload)| Message::Result {
            request,
            details: ResultDetails { progress },
            payload
        }),
        (id(), policy(), invoke, (flag(), flag(), flag(), option::of(id())), string()).prop_map(
            |(request, match_policy, invoke, flags, procedure)| {
                let (disclose_caller, forward_timeout, force_reregister, concurrency) = flags;
                let options = RegisterOptions {
                    match_policy,
                    invoke,
                    disclose_caller,
                    forward_timeout,
                    concurrency,
                    force_reregister,
                };
                Message::Register { request, options, procedure }
            }
        ),
        (id(), id()).prop_map(|(request, registration)| Message::Registered { request, registration }),
        (id(), id()).prop_map(|(request, registration)| Message::Unregister { request, registration }),
        id().prop_map(|request| Message::Unregistered { request }),
        (
            (id(), id(), option::of(string()), option::of(id()), payload(serializer)),
            (option::of(string()), option::of(string()), flag(), flag(), timeout(), timeout()),
        )
            .prop_map(
                |(
                    (request, registration, procedure, caller, payload),
                    (caller_authid, caller_authrole, receive_progress, progress, timeout_ms, trust_level),
                )| {
                    let details = InvocationDetails {
                        procedure,
                        caller,
                        caller_authid,
                        caller_authrole,
                        receive_progress,
                        progress,
                        timeout_ms,
                        trust_level,
                    };
                    Message::Invocation { request, registration, details, payload }
                }
            ),
        (id(), flag(), payload(serializer)).prop_map(|(request, progress, payload)| Message::Yield {
            request,
            options: YieldOptions { progress },
            payload
        }),
    ]
    .boxed()
}

/// A serializer and a message whose payload is in it.
fn message() -> BoxedStrategy<(Serializer, Message<'static>)> {
    prop::sample::select(Serializer::ALL.to_vec())
        .prop_flat_map(|serializer| {
            prop_oneof![session_message(serializer), broker_message(serializer), dealer_message(serializer)]
                .prop_map(move |message| (serializer, message))
        })
        .boxed()
}

/// Text that is nearly JSON: a valid document with a few bytes changed, or loose pieces.
fn nearly_json() -> BoxedStrategy<Vec<u8>> {
    let piece = prop::sample::select(vec![
        "[", "]", "{", "}", ",", ":", "\"", "\\", "\\u12", "\\ud800", "\\udc00", "\\n", "0", "-", "1", ".",
        "e", "E+", "e400", "true", "false", "null", " ", "\n", "\t", "\r", "\u{b}", "a", "é", "\u{1f}",
        "\"a\":", "[[", "]]",
    ]);
    let pieces = prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes());
    let changed = (value(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3))
        .prop_map(|(value, changes)| {
            let mut bytes = value.to_string().into_bytes();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    prop_oneof![pieces, changed].boxed()
}

fn nearly_msgpack() -> BoxedStrategy<Vec<u8>> {
    let changed = (value(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3))
        .prop_map(|(value, changes)| {
            let mut bytes = pack(&value);
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..64), changed].boxed()
}

/// CBOR of both kinds of lengths with a few bytes changed, or loose heads.
fn nearly_cbor() -> BoxedStrategy<Vec<u8>> {
    let lengths = prop::sample::select(vec![Lengths::Definite, Lengths::Indefinite]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let changed = (value(), lengths, changes).prop_map(|(value, lengths, changes)| {
        let mut bytes = wamp_support::cbor(&value, lengths);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    let heads = prop::sample::select(vec![
        0x00, 0x18, 0x20, 0x40, 0x41, 0x5f, 0x60, 0x61, 0x7f, 0x80, 0x81, 0x82, 0x9f, 0xa0, 0xa1, 0xbf, 0xc1,
        0xd8, 0xe0, 0xf4, 0xf6, 0xf7, 0xf8, 0xf9, 0xff, 0xff,
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(heads, 0..16),
        changed.clone(),
        changed
    ]
    .boxed()
}

fn translated(from: Serializer, to: Serializer, value: &[u8]) -> Result<Vec<u8>, TranscodeError> {
    let owned = OwnedPayload::copy_from(from, &Payload { args: Some(value), kwargs: None, ..Payload::EMPTY });
    Ok(owned.transcode(to)?.view().args.expect("a value stays a value").to_vec())
}

/// Half the usual number: the messages are large and the tests many. The minimal input of a failure is printed and
/// belongs into a table test, not into a file beside this one.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases / 2, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_encoded_decodes_to_the_same((serializer, message) in message()) {
        let bytes = encoded(&message, serializer);
        prop_assert!(validate(serializer, &bytes).is_ok(), "{message:?}");
        prop_assert_eq!(decoded(serializer, &bytes), Ok(message.clone()));
        // A cut message is never taken for a whole one.
        for cut in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            prop_assert!(decoded(serializer, &bytes[..cut]).is_err());
        }
    }

    #[test]
    fn hot_encoders_write_what_encode_writes((serializer, message) in broker_or_dealer()) {
        let mut out = BytesMut::new();
        match &message {
            Message::Event { subscription, publication, details, payload } => {
                encode_event(serializer, *subscription, *publication, details, payload, &mut out);
            }
            Message::Invocation { request, registration, details, payload } => {
                encode_invocation(serializer, *request, *registration, details, payload, &mut out);
            }
            Message::Result { request, details, payload } => {
                encode_result(serializer, *request, details, payload, &mut out);
            }
            Message::Published { request, publication } => {
                encode_published(serializer, *request, *publication, &mut out);
            }
            _ => return Ok(()),
        }
        prop_assert_eq!(out.to_vec(), encoded(&message, serializer));
    }

    #[test]
    fn serializers_carry_the_same_messages((serializer, message) in message()) {
        let list = as_json(&message, serializer);
        for to in Serializer::ALL {
            let bytes = serialized(to, &list);
            let again = decoded(to, &bytes).unwrap();
            prop_assert_eq!(as_json(&again, to), list.clone());
        }
    }

    #[test]
    fn json_survives_the_way_through_msgpack(value in value()) {
        let text = value.to_string().into_bytes();
        let packed = translated(Serializer::Json, Serializer::MsgPack, &text).unwrap();
        prop_assert!(msgpack::validate(&packed, 128).is_ok());
        prop_assert_eq!(parsed(Serializer::MsgPack, &packed), value.clone());
        prop_assert_eq!(&packed, &pack(&value), "the shortest forms");
        let back = translated(Serializer::MsgPack, Serializer::Json, &packed).unwrap();
        prop_assert!(json::validate(&back, 128).is_ok());
        prop_assert_eq!(parsed(Serializer::Json, &back), value);
    }

    /// Around all three, in both directions: each step says what a tree says.
    #[test]
    fn values_survive_the_way_around_the_serializers(value in value()) {
        let text = value.to_string().into_bytes();
        for around in [[Serializer::Cbor, Serializer::MsgPack], [Serializer::MsgPack, Serializer::Cbor]] {
            let (mut from, mut bytes) = (Serializer::Json, text.clone());
            for to in around {
                bytes = translated(from, to, &bytes).unwrap();
                prop_assert_eq!(&bytes, &serialized(to, &value), "{}, the shortest forms", to);
                prop_assert_eq!(parsed(to, &bytes), value.clone());
                from = to;
            }
            let back = translated(from, Serializer::Json, &bytes).unwrap();
            prop_assert_eq!(parsed(Serializer::Json, &back), value.clone());
        }
    }

    #[test]
    fn lengths_of_cbor_make_no_difference(value in value()) {
        let open = wamp_support::cbor(&value, Lengths::Indefinite);
        prop_assert!(cbor::validate(&open, 128).is_ok());
        let definite = serialized(Serializer::Cbor, &value);
        for to in [Serializer::Json, Serializer::MsgPack] {
            let expected = translated(Serializer::Cbor, to, &definite).unwrap();
            prop_assert_eq!(translated(Serializer::Cbor, to, &open).unwrap(), expected);
        }
        for cut in (0..open.len()).step_by(open.len() / 40 + 1) {
            prop_assert!(cbor::validate(&open[..cut], 128).is_err());
        }
    }

    #[test]
    fn cbor_is_translated_to_something_valid_or_not_at_all(bytes in nearly_cbor()) {
        if cbor::validate(&bytes, 128).is_ok() {
            let value = uncbor(&mut &bytes[..]);
            for to in [Serializer::Json, Serializer::MsgPack] {
                let Ok(other) = translated(Serializer::Cbor, to, &bytes) else { continue };
                prop_assert!(validate(to, &other).is_ok(), "{other:02x?} of {bytes:02x?}");
                // Values without a JSON form have no tree; ciborium has no word for tag 64.
                if let Some(value) = &value {
                    prop_assert_eq!(&parsed(to, &other), value);
                }
                prop_assert!(translated(to, Serializer::Cbor, &other).is_ok());
            }
        }
    }

    #[test]
    fn cbor_validator_agrees_with_ciborium(bytes in nearly_cbor()) {
        // It takes long forms of simple values, nested chunks and characters that are spread between chunks.
        let is_lenient = bytes.iter().any(|byte| [0xf8, 0x5f, 0x7f].contains(byte));
        let mut rest = &bytes[..];
        if uncbor(&mut rest).is_some() && !is_lenient {
            prop_assert_eq!(cbor::validate(&bytes, 128).is_ok(), rest.is_empty());
        }
    }

    #[test]
    fn msgpack_is_translated_to_valid_cbor_or_not_at_all(bytes in nearly_msgpack()) {
        if msgpack::validate(&bytes, 128).is_ok()
            && let Ok(other) = translated(Serializer::MsgPack, Serializer::Cbor, &bytes)
        {
            prop_assert!(cbor::validate(&other, 128).is_ok());
            let back = translated(Serializer::Cbor, Serializer::MsgPack, &other).unwrap();
            prop_assert_eq!(translated(Serializer::MsgPack, Serializer::Cbor, &back).unwrap(), other);
        }
    }

    #[test]
    fn msgpack_is_translated_to_valid_json_or_not_at_all(bytes in nearly_msgpack()) {
        if msgpack::validate(&bytes, 128).is_ok()
            && let Ok(text) = translated(Serializer::MsgPack, Serializer::Json, &bytes)
        {
            prop_assert!(json::validate(&text, 128).is_ok(), "{}", String::from_utf8_lossy(&text));
            let mut rest = &bytes[..];
            if let Some(value) = unpack(&mut rest) {
                prop_assert_eq!(parsed(Serializer::Json, &text), value);
            }
            prop_assert!(translated(Serializer::Json, Serializer::MsgPack, &text).is_ok());
        }
    }

    #[test]
    fn json_is_translated_to_something_valid_or_not_at_all(bytes in nearly_json()) {
        if json::validate(&bytes, 128).is_ok() {
            for to in [Serializer::MsgPack, Serializer::Cbor] {
                if let Ok(other) = translated(Serializer::Json, to, &bytes) {
                    prop_assert!(validate(to, &other).is_ok());
                }
            }
        }
    }

    #[test]
    fn json_validator_agrees_with_serde_json(bytes in nearly_json()) {
        let theirs = serde_json::from_slice::<Value>(&bytes);
        prop_assert_eq!(json::validate(&bytes, 128).is_ok(), theirs.is_ok(), "{:?} {:?}", bytes, theirs);
    }

    #[test]
    fn json_validator_agrees_with_simd_json(bytes in nearly_json()) {
        let theirs = simd_json::to_tape(&mut bytes.clone()).is_ok();
        let ours = json::validate(&bytes, 128).is_ok();
        prop_assert!(ours || !theirs, "only simd-json takes {:?}", bytes);
        // It has no integers beyond 64 bits; every other parser reads them as doubles.
        let has_huge_integer = bytes.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 18);
        prop_assert!(theirs || !ours || has_huge_integer, "only we take {:?}", bytes);
    }

    #[test]
    fn msgpack_validator_agrees_with_rmp(bytes in nearly_msgpack()) {
        // What rmp and a tree can read is valid; the other way round extensions and odd keys have no tree.
        let mut rest = &bytes[..];
        if unpack(&mut rest).is_some() {
            prop_assert_eq!(msgpack::validate(&bytes, 128).is_ok(), rest.is_empty());
        }
    }

    #[test]
    fn any_bytes_end_in_a_message_or_an_error(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        nearly_json(),
        nearly_msgpack(),
        nearly_cbor(),
        message().prop_map(|(serializer, message)| encoded(&message, serializer)),
    ], changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bytes = bytes;
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        for serializer in Serializer::ALL {
            match decoded(serializer, &bytes) {
                Ok(message) => {
                    // What was taken can be sent on, and is then valid for anybody.
                    let again = encoded(&message, serializer);
                    prop_assert!(validate(serializer, &again).is_ok());
                    prop_assert!(validate(serializer, &bytes).is_ok());
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            for to in Serializer::ALL {
                // Unvalidated on purpose: translators must not panic on anything.
                let _ = OwnedPayload::copy_from(serializer, &Payload { args: Some(&bytes), kwargs: None, ..Payload::EMPTY }).transcode(to);
            }
        }
    }
}

fn broker_or_dealer() -> BoxedStrategy<(Serializer, Message<'static>)> {
    prop::sample::select(Serializer::ALL.to_vec())
        .prop_flat_map(|serializer| {
            prop_oneof![broker_message(serializer), dealer_message(serializer)]
                .prop_map(move |message| (serializer, message))
        })
        .boxed()
}
