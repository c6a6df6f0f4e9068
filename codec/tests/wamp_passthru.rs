//! Payloads that only their receivers understand: what is said of them goes with them, into each serializer.

mod wamp_support;

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::*;
use serde_json::{Value, json};
use wamp_support::{decoded, encoded, parsed, serialized};

const ABOUT: &str =
    r#""ppt_scheme":"x_my","ppt_serializer":"cbor","ppt_cipher":"xsalsa20poly1305","ppt_keyid":"GT\n\"é\"=""#;

/// Each message with a payload, with and without other options, which may come before, between and behind.
fn messages() -> Vec<Value> {
    let about: Value = serde_json::from_str(&format!("{{{ABOUT}}}")).unwrap();
    let with = |more: Value| {
        let mut dict = about.clone();
        dict.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        dict
    };
    let opaque = json!(["\0/wABAg=="]);
    vec![
        json!([16, 1, about, "a.b", opaque]),
        json!([16, 1, with(json!({"acknowledge": true, "exclude": [1, 2]})), "a.b", opaque]),
        json!([36, 1, 2, about, opaque]),
        json!([36, 1, 2, with(json!({"topic": "a.b", "publisher": 7})), opaque]),
        json!([48, 1, about, "a.b", opaque]),
        json!([48, 1, with(json!({"timeout": 5, "progress": true})), "a.b", opaque]),
        json!([68, 1, 2, with(json!({"procedure": "a.b"})), opaque]),
        json!([70, 1, about, opaque]),
        json!([70, 1, with(json!({"progress": true})), opaque]),
        json!([50, 1, with(json!({"progress": true})), opaque]),
        json!([50, 1, about]),
        json!([8, 68, 1, about, "a.error", opaque]),
        json!([8, 48, 1, about, "a.error", opaque, {"k": 1}]),
    ]
}

fn payload<'a>(message: &Message<'a>) -> Payload<'a> {
    match message {
        Message::Publish { payload, .. }
        | Message::Event { payload, .. }
        | Message::Call { payload, .. }
        | Message::Invocation { payload, .. }
        | Message::Yield { payload, .. }
        | Message::Result { payload, .. }
        | Message::Error { payload, .. } => *payload,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_said_of_a_payload_comes_back_in_the_same_message() {
    for message in messages() {
        for serializer in Serializer::ALL {
            let bytes = serialized(serializer, &message);
            let read = decoded(serializer, &bytes).unwrap();
            assert!(payload(&read).passthru.is_some(), "{message}");
            assert_eq!(parsed(serializer, &encoded(&read, serializer)), message, "{serializer}");
        }
    }
}

#[test]
fn it_goes_with_the_payload_from_each_serializer_into_each() {
    for from in Serializer::ALL {
        for message in messages() {
            let bytes = serialized(from, &message);
            let read = decoded(from, &bytes).unwrap();
            let owned = OwnedPayload::copy_from(from, &payload(&read));
            for to in Serializer::ALL {
                let translated = owned.transcode(to).unwrap();
                let mut out = BytesMut::new();
                let details = EventDetails { publisher: Some(7), ..EventDetails::default() };
                encode_event(to, 1, 2, &details, &translated.view(), &mut out);
                let mut event = parsed(to, &out);
                let details = event[3].as_object_mut().unwrap();
                assert_eq!(details.remove("publisher"), Some(json!(7)));
                let expected: Value = serde_json::from_str(&format!("{{{ABOUT}}}")).unwrap();
                assert_eq!(event[3], expected, "{from} to {to}: {message}");
                let args = payload(&read).args.map(|_| json!(["\0/wABAg=="]));
                assert_eq!(event.get(4), args.as_ref(), "{from} to {to}: {message}");
            }
        }
    }
}

#[test]
fn it_counts_in_the_length_of_a_payload_and_nothing_else_of_the_options_does() {
    let lists: Vec<u64> = (1..10_000).collect();
    let message = json!([16, 1, {"ppt_scheme": "x", "eligible": lists, "unknown": lists}, "a", ["x"]]);
    for serializer in Serializer::ALL {
        let bytes = serialized(serializer, &message);
        let read = decoded(serializer, &bytes).unwrap();
        let owned = OwnedPayload::copy_from(serializer, &payload(&read));
        let said = serialized(serializer, &json!({"ppt_scheme": "x"})).len();
        assert_eq!(owned.len(), payload(&read).args.unwrap().len() + said);
    }
}

#[test]
fn null_is_not_there_and_the_scheme_alone_is_enough() {
    for (options, is_there) in [
        (json!({}), false),
        (json!({"ppt_scheme": null}), false),
        (json!({"ppt_scheme": null, "ppt_keyid": null}), false),
        (json!({"ppt_other": 1}), false),
        (json!({"ppt_scheme": "mqtt"}), true),
        (json!({"ppt_keyid": null, "ppt_scheme": "mqtt"}), true),
    ] {
        for serializer in Serializer::ALL {
            let bytes = serialized(serializer, &json!([48, 1, options, "a", ["x"]]));
            let read = decoded(serializer, &bytes).unwrap();
            assert_eq!(payload(&read).passthru.is_some(), is_there, "{options}");
            let again = parsed(serializer, &encoded(&read, serializer));
            let expected = if is_there { json!({"ppt_scheme": "mqtt"}) } else { json!({}) };
            assert_eq!(again[2], expected, "{options}");
        }
    }
}

/// Options that are refused, and the key that the words name.
#[test]
fn wrong_attributes_are_refused_by_name() {
    const REFUSED: [(&str, &str); 9] = [
        (r#"{"ppt_scheme":1}"#, "ppt_scheme"),
        (r#"{"ppt_scheme":""}"#, "ppt_scheme"),
        (r#"{"ppt_scheme":true}"#, "ppt_scheme"),
        (r#"{"ppt_serializer":"cbor"}"#, "ppt_scheme"),
        (r#"{"ppt_keyid":"k","ppt_scheme":null}"#, "ppt_scheme"),
        (r#"{"ppt_scheme":"x","ppt_serializer":["cbor"]}"#, "ppt_serializer"),
        (r#"{"ppt_scheme":"x","ppt_cipher":{}}"#, "ppt_cipher"),
        (r#"{"ppt_keyid":7,"ppt_scheme":"x"}"#, "ppt_keyid"),
        (r#"{"ppt_scheme":"x","ppt_keyid":"\u0000AAAA"}"#, "ppt_keyid"),
    ];
    for (options, key) in REFUSED {
        let options: Value = serde_json::from_str(options).unwrap();
        for serializer in Serializer::ALL {
            for (message, is_answered) in [
                (json!([16, 1, options, "a", ["x"]]), Some(false)),
                (json!([48, 1, options, "a", ["x"]]), Some(true)),
                (json!([70, 1, options, ["x"]]), None),
                (json!([8, 68, 1, options, "a.error", ["x"]]), None),
                (json!([36, 1, 2, options, ["x"]]), None),
            ] {
                let bytes = serialized(serializer, &message);
                let error = decoded(serializer, &bytes).unwrap_err();
                assert!(error.to_string().contains(key), "{message}: {error}");
                match error {
                    DecodeError::Request(refused) => assert_eq!(Some(refused.is_answered), is_answered),
                    DecodeError::Violation(_) => assert_eq!(is_answered, None, "{message}"),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
