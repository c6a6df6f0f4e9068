//! WAMP version 1, message by message: what each says, and what is wrong with those that say nothing.

use std::borrow::Cow;

use bytes::BytesMut;
use fanwire_codec::wamp1::{
    DecodeError, Message, Refused, decode, encode_error, encode_event, encode_refusal, encode_result,
    encode_welcome,
};
use fanwire_codec::wamp2::{Payload, RECEIVERS_MAX, ReceiverLists};
use proptest::prelude::*;
use serde_json::{Value, json};

type Lists = Option<(Option<Vec<u64>>, Option<Vec<u64>>)>;

fn publish(event: &str, exclude_me: bool, lists: Lists) -> Message<'_> {
    let receivers = lists
        .map(|(exclude, eligible)| Box::new(ReceiverLists { exclude, eligible, ..ReceiverLists::default() }));
    Message::Publish { topic: "t".into(), event: event.as_bytes(), exclude_me, receivers }
}

fn call<'a>(call_id: &'a str, args: &'a str) -> Message<'a> {
    Message::Call { call_id: call_id.into(), procedure: "calc:add".into(), args: args.as_bytes() }
}

#[test]
fn each_message_is_read() {
    let prefix = |prefix, uri| Message::Prefix { prefix, uri };
    for (text, message) in [
        (r#"[1,"calc","http://x/#"]"#, prefix("calc".into(), "http://x/#".into())),
        // What follows is ignored, but for publications.
        (r#" [ 1 , "" , "x\u0041" , {"a":[1]} ] "#, prefix("".into(), "xA".into())),
        (r#"[2,"id","calc:add"]"#, call("id", "")),
        (r#"[2,"id","calc:add",null]"#, call("id", "null")),
        (r#"[2,"id","calc:add", 23 , [99,{}] ]"#, call("id", "23 , [99,{}]")),
        (r#"[2,"","calc:add",""]"#, call("", "\"\"")),
        (r#"[5,"a:b"]"#, Message::Subscribe { topic: "a:b".into() }),
        (r#"[5.0,"a:b",1]"#, Message::Subscribe { topic: "a:b".into() }),
        (r#"[6,"a:b"]"#, Message::Unsubscribe { topic: "a:b".into() }),
        (r#"[7,"t",null]"#, publish("null", true, None)),
        (r#"[7,"t", [1, 2] ]"#, publish("[1, 2]", true, None)),
        (r#"[7,"t",1,true]"#, publish("1", true, None)),
        (r#"[7,"t",1,false]"#, publish("1", false, None)),
        (r#"[7,"t",1,null]"#, publish("1", true, None)),
        (r#"[7,"t",1,[]]"#, publish("1", false, Some((Some(vec![]), None)))),
        (r#"[7,"t",1,["7","9"]]"#, publish("1", false, Some((Some(vec![7, 9]), None)))),
        (r#"[7,"t",1,[],["7"]]"#, publish("1", false, Some((Some(vec![]), Some(vec![7]))))),
        (r#"[7,"t",1,null,["7"]]"#, publish("1", true, Some((None, Some(vec![7]))))),
        (r#"[7,"t",1,[],null]"#, publish("1", false, Some((Some(vec![]), None)))),
        // Nobody has such an id.
        (
            r#"[7,"t",1,["07","+7","v59m","-1","99999999999999999999",""],["7 "]]"#,
            publish("1", false, Some((Some(vec![]), Some(vec![])))),
        ),
    ] {
        assert_eq!(decode(text.as_bytes()), Ok(message), "{text}");
    }
}

#[test]
fn each_breach_has_its_words() {
    for (text, words) in [
        (&b""[..], "the message has an end where a value is due at byte 0"),
        (b"hello", "the message has something that is no JSON value at byte 0"),
        (b"{}", "the message is no array"),
        (b"[]", "the message's type is no integer"),
        (br#"["5","t"]"#, "the message's type is no integer"),
        (br#"[5.5,"t"]"#, "the message's type is no integer"),
        (br#"[-1,"t"]"#, "the message's type is no integer"),
        (br#"[9,"t"]"#, "9 is no message type of WAMP version 1"),
        (br#"[32,1,{},"t"]"#, "32 is no message type of WAMP version 1"),
        (br#"[0,"id",1,"me"]"#, "WELCOME is sent by servers only"),
        (br#"[3,"id",1]"#, "CALLRESULT is sent by servers only"),
        (br#"[4,"id","e","d"]"#, "CALLERROR is sent by servers only"),
        (br#"[8,"t",1]"#, "EVENT is sent by servers only"),
        (b"[1]", "PREFIX ends before prefix"),
        (br#"[1,"p"]"#, "PREFIX ends before URI"),
        (br#"[1,"p",7]"#, "PREFIX: URI must be a string"),
        (br#"[1,null,"u"]"#, "PREFIX: prefix must be a string"),
        (b"[2]", "CALL ends before callID"),
        (br#"[2,7,"p"]"#, "CALL: callID must be a string"),
        (br#"[2,"id"]"#, "CALL ends before procURI"),
        (br#"[2,"id",{}]"#, "CALL: procURI must be a string"),
        (br#"[2,"id","p",]"#, "the message has a comma before a closing bracket at byte 12"),
        (br#"[2,"id","p",1"#, "the message has an unclosed bracket at byte 13"),
        (b"[5]", "SUBSCRIBE ends before topicURI"),
        (b"[5,[]]", "SUBSCRIBE: topicURI must be a string"),
        (b"[6]", "UNSUBSCRIBE ends before topicURI"),
        (b"[6,0]", "UNSUBSCRIBE: topicURI must be a string"),
        (b"[7]", "PUBLISH ends before topicURI"),
        (br#"[7,"t"]"#, "PUBLISH ends before event"),
        (br#"[7,true,1]"#, "PUBLISH: topicURI must be a string"),
        (br#"[7,"t",1,"x"]"#, "PUBLISH: excludeMe must be true, false, or a list of session ids"),
        (br#"[7,"t",1,[7]]"#, "PUBLISH: exclude must be a list of session ids, which are strings"),
        (br#"[7,"t",1,[],"7"]"#, "PUBLISH: eligible must be a list of session ids, which are strings"),
        (br#"[7,"t",1,true,["7"]]"#, "PUBLISH has too many elements"),
        (br#"[7,"t",1,[],[],0]"#, "PUBLISH has too many elements"),
        (br#"[5,"t"] x"#, "the message has something behind its end at byte 8"),
        (b"[5,\"\xff\"]", "the message has a string that is not UTF-8 at byte 4"),
        (br#"[5,"\ud800"]"#, "the message has a lone surrogate in a string at byte 4"),
        (br#"[5,"t",tru]"#, "the message has something that is no JSON value at byte 7"),
    ] {
        let shown = String::from_utf8_lossy(text);
        match decode(text) {
            Err(why @ DecodeError::Violation(_)) => assert_eq!(why.to_string(), words, "{shown}"),
            other => panic!("{shown}: {other:?}"),
        }
    }
    let deep = |depth: usize| format!(r#"[7,"t",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    assert!(decode(deep(127).as_bytes()).is_ok());
    assert!(matches!(decode(deep(128).as_bytes()), Err(DecodeError::Violation(_))));
}

#[test]
fn what_would_break_others_is_refused_alone() {
    let id = |text: &'static str| Some(Cow::Borrowed(text));
    for (text, of) in [
        (r#"[2,"id","p",1,"\ud800"]"#, id("id")),
        (r#"[2,"id","p",1e999]"#, id("id")),
        (r#"[7,"t","\udc00 cut"]"#, None),
    ] {
        match decode(text.as_bytes()) {
            Err(DecodeError::Request { call_id, why: Refused::Unportable(_) }) => assert_eq!(call_id, of),
            other => panic!("{text}: {other:?}"),
        }
    }
    let ids = |count: usize| format!(r#"[7,"t",1,["1"],[{}"1"]]"#, r#""2","#.repeat(count - 2));
    assert!(decode(ids(RECEIVERS_MAX).as_bytes()).is_ok());
    let many = ids(RECEIVERS_MAX + 1);
    let refused = DecodeError::Request { call_id: None, why: Refused::TooManyReceivers };
    assert_eq!(decode(many.as_bytes()), Err(refused));
}

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).expect("JSON is text")
}

fn payload<'a>(args: &'a str, kwargs: &'a str) -> Payload<'a> {
    let part = |text: &'a str| (!text.is_empty()).then_some(text.as_bytes());
    Payload { args: part(args), kwargs: part(kwargs), ..Payload::EMPTY }
}

#[test]
fn what_clients_are_told() {
    let welcome = written(|out| encode_welcome(1 << 53, "fanwire/0.1", out));
    assert_eq!(welcome, r#"[0,"9007199254740992",1,"fanwire/0.1"]"#);
    let refusal = written(|out| encode_refusal("i\"d", "wamp.error.unavailable", "\"no\"", out));
    assert_eq!(refusal, r#"[4,"i\"d","wamp.error.unavailable","\"no\""]"#);
    for (args, kwargs, value) in [
        ("", "", "null"),
        ("[]", "{}", "null"),
        ("[ ]", " { }", "null"),
        ("[1.50]", "", "1.50"),
        (" [ [1, 2]\n] ", "{ }", "[1, 2]"),
        ("[null]", "", "null"),
        (r#"["\u0000AAFi"]"#, "", r#""\u0000AAFi""#),
        ("[1,2]", "", r#"{"args":[1,2],"kwargs":{}}"#),
        ("[1]", r#"{"a":1}"#, r#"{"args":[1],"kwargs":{"a":1}}"#),
        ("", r#"{"a":1}"#, r#"{"args":[],"kwargs":{"a":1}}"#),
    ] {
        let event = written(|out| encode_event("http://x/#e", &payload(args, kwargs), out));
        assert_eq!(event, format!(r#"[8,"http://x/#e",{value}]"#));
        let result = written(|out| encode_result("id", &payload(args, kwargs), out));
        assert_eq!(result, format!(r#"[3,"id",{value}]"#));
    }
    for (args, kwargs, rest) in [
        ("", "", r#""e.x""#),
        (r#"["bad"]"#, "", r#""bad""#),
        (r#"["bad",1000]"#, "{}", r#""bad",1000"#),
        (r#"[ "bad" , 1 , 2 ]"#, "", r#""bad",{"args":[1 , 2],"kwargs":{}}"#),
        (r#"["bad"]"#, r#"{"a":1}"#, r#""bad",{"args":[],"kwargs":{"a":1}}"#),
        ("[7]", "", r#""e.x",7"#),
        (r#"[{"a":1},"b"]"#, "", r#""e.x",{"args":[{"a":1},"b"],"kwargs":{}}"#),
        (r#"["\u0000AAFi"]"#, "", r#""e.x","\u0000AAFi""#),
        ("", r#"{"a":1}"#, r#""e.x",{"args":[],"kwargs":{"a":1}}"#),
    ] {
        let error = written(|out| encode_error("id", "e.x", &payload(args, kwargs), out));
        assert_eq!(error, format!(r#"[4,"id","e.x",{rest}]"#), "{args} {kwargs}");
    }
}

fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z#:]{0,12}", "\\PC{0,20}", "[\u{0}-\u{7f}]{0,40}"].boxed()
}

fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However it is spaced; serde_json is the oracle.
    #[test]
    fn a_call_is_read_and_its_arguments_are_as_written(
        id in text(), procedure in text(), args in prop::collection::vec(value(), 0..4), pretty in any::<bool>(),
    ) {
        let message = Value::from([vec![json!(2), json!(id), json!(procedure)], args.clone()].concat());
        let written = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) };
        let written = written.expect("JSON");
        let Ok(Message::Call { call_id, procedure: read, args: raw }) = decode(written.as_bytes()) else {
            panic!("a call: {written}")
        };
        prop_assert_eq!((&*call_id, &*read), (&*id, &*procedure));
        let list = [b"[", raw, b"]"].concat();
        let list: Value = serde_json::from_slice(&list).expect("a list");
        prop_assert_eq!(list, Value::from(args));
    }

    /// What another parser cannot read is a breach, and what it can is none but for its elements.
    #[test]
    fn broken_json_is_what_another_parser_cannot_read(
        topic in text(), event in value(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = serde_json::to_vec(&json!([7, topic, event])).expect("JSON");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let decoded = decode(&bytes);
        if serde_json::from_slice::<Value>(&bytes).is_err() {
            prop_assert!(decoded.is_err(), "{:?}", decoded);
        } else if let Err(DecodeError::Violation(why)) = decoded {
            prop_assert!(!why.to_string().starts_with("the message has"), "{}", why);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn what_is_told_is_json(
        name in text(), args in prop::collection::vec(value(), 0..3),
        kwargs in prop::collection::btree_map(text(), value(), 0..2),
    ) {
        let (list, dict) = (Value::from(args.clone()), Value::from_iter(kwargs.clone()));
        let (list_text, dict_text) = (list.to_string(), dict.to_string());
        let payload = Payload { args: Some(list_text.as_bytes()), kwargs: Some(dict_text.as_bytes()), ..Payload::EMPTY };
        let value_of = |args: &[Value]| match (args, kwargs.is_empty()) {
            ([], true) => Value::Null,
            ([one], true) => one.clone(),
            (args, _) => json!({"args": args, "kwargs": dict}),
        };
        let read = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
        let value = value_of(&args);
        prop_assert_eq!(read(written(|out| encode_event(&name, &payload, out))), json!([8, name, value]));
        prop_assert_eq!(read(written(|out| encode_result(&name, &payload, out))), json!([3, name, value]));
        let mut error = vec![json!(4), json!(name), json!("e")];
        match &args[..] {
            [Value::String(words), rest @ ..] if !words.starts_with('\0') => {
                error.push(json!(words));
                error.extend((!rest.is_empty() || !kwargs.is_empty()).then(|| value_of(rest)));
            }
            args => {
                error.push(json!("e"));
                error.extend((!args.is_empty() || !kwargs.is_empty()).then(|| value_of(args)));
            }
        }
        prop_assert_eq!(read(written(|out| encode_error(&name, "e", &payload, out))), Value::from(error));
    }
}
