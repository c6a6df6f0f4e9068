//! Properties of the message-center codec over generated input; serde_json is the oracle.

use bytes::BytesMut;
use fanwire_codec::message_center::{ErrorCode, Op, decode, encode_error, encode_event, scalars};
use fanwire_codec::wamp2::Payload;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Strings of all kinds: escapes, controls, beyond the basic plane.
fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z@:]{0,12}", "\\PC{0,20}", "[\u{0}-\u{7f}]{0,40}", "(.|\n){30,300}"].boxed()
}

fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..5).prop_map(Value::from_iter),
        ]
    })
    .boxed()
}

fn op() -> BoxedStrategy<(Value, Op<'static>)> {
    let auth =
        text().prop_map(|token| (json!({"op": "auth", "token": token}), Op::Auth { token: token.into() }));
    let subscribe = text().prop_map(|channel| {
        (json!({"op": "subscribe", "channel": channel}), Op::Subscribe { channel: channel.into() })
    });
    let unsubscribe = text().prop_map(|channel| {
        (json!({"op": "unsubscribe", "channel": channel}), Op::Unsubscribe { channel: channel.into() })
    });
    prop_oneof![auth, subscribe, unsubscribe].boxed()
}

fn is_known(name: &str) -> bool {
    ["op", "token", "channel"].contains(&name)
}

proptest! {
    /// Whatever else is in the object, and however it is spaced.
    #[test]
    fn what_is_said_is_what_is_read(
        (message, op) in op(),
        others in prop::collection::btree_map(text(), value(), 0..4),
        pretty in any::<bool>(),
    ) {
        let mut message = message;
        let object = message.as_object_mut().expect("an object");
        object.extend(others.into_iter().filter(|(name, _)| !is_known(name)));
        let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) };
        let text = text.expect("JSON");
        prop_assert_eq!(decode(text.as_bytes()), Ok(op));
    }

    /// A message is invalid exactly where another parser says so, unless a field stands there twice.
    #[test]
    fn invalid_json_is_what_another_parser_cannot_read(
        (message, _) in op(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let decoded = decode(&bytes);
        match serde_json::from_slice::<Value>(&bytes) {
            Err(_) => prop_assert_eq!(decoded, Err(ErrorCode::InvalidJson)),
            Ok(Value::Object(object)) => {
                let is = |name: &str| object.get("op").is_some_and(|op| op == name);
                let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
                let expected = match () {
                    () if is("auth") => text("token").map(|token| Op::Auth { token: token.into() }).ok_or(ErrorCode::AuthFailed),
                    () if is("subscribe") => text("channel").map(|channel| Op::Subscribe { channel: channel.into() }).ok_or(ErrorCode::InvalidChannel),
                    () if is("unsubscribe") => text("channel").map(|channel| Op::Unsubscribe { channel: channel.into() }).ok_or(ErrorCode::InvalidChannel),
                    () => Err(ErrorCode::UnknownOp),
                };
                prop_assert_eq!(decoded, expected);
            }
            Ok(_) => prop_assert_eq!(decoded, Err(ErrorCode::InvalidJson)),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    /// One argument is the data in its own bytes; anything else says what it is.
    #[test]
    fn an_event_is_json_with_its_name_and_its_data(
        name in text(), args in prop::collection::vec(value(), 0..3),
        kwargs in prop::collection::btree_map(text(), value(), 0..2),
    ) {
        let (list, dict) = (Value::from(args.clone()), Value::from_iter(kwargs.clone()));
        let (list_text, dict_text) = (list.to_string(), dict.to_string());
        let payload = Payload { args: Some(list_text.as_bytes()), kwargs: Some(dict_text.as_bytes()), ..Payload::EMPTY };
        let mut out = BytesMut::new();
        encode_event(&name, &payload, &mut out);
        let data = match (&args[..], kwargs.is_empty()) {
            ([], true) => Value::Null,
            ([one], true) => one.clone(),
            _ => json!({"args": list, "kwargs": dict}),
        };
        let event: Value = serde_json::from_slice(&out).expect("an event is JSON");
        prop_assert_eq!(event, json!({"event": name, "data": data}));
        if let ([one], true) = (&args[..], kwargs.is_empty()) {
            let data = one.to_string();
            let end = data + "}";
            prop_assert!(out.ends_with(end.as_bytes()));
        }
    }

    #[test]
    fn a_scalar_keeps_every_digit_and_character(
        key in text(), number in any::<u64>(), word in text(), before in prop::collection::btree_map(text(), value(), 0..3)
    ) {
        let before: Vec<_> = before.into_iter().filter(|(name, _)| *name != key).collect();
        for (found, expected) in [(Value::from(number), number.to_string()), (Value::from(&*word), word.clone())] {
            let mut object = serde_json::Map::from_iter(before.clone());
            object.insert(key.clone(), found);
            let text = Value::from(object).to_string();
            let scalars = scalars(text.as_bytes());
            let found = scalars.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value);
            prop_assert_eq!(found, Some(&*expected));
            let count = before.iter().filter(|(_, value)| value.is_string() || value.is_u64() || value.is_i64()).count();
            prop_assert_eq!(scalars.len(), count + 1);
        }
    }
}

#[test]
fn errors_are_json_with_number_and_words() {
    for code in ErrorCode::ALL {
        let mut out = BytesMut::new();
        encode_error(code, &mut out);
        let error: Value = serde_json::from_slice(&out).expect("an error is JSON");
        assert_eq!(error, json!({"code": code.number(), "msg": code.words()}));
    }
}
