//! Tables of WAMP messages: every type in both serializers, what real clients send beyond the letter, and everything
//! that must be refused, with the words.

mod wamp_support;

use std::borrow::Cow;

use fanwire_codec::wamp2::*;
use serde_json::{Value, json};
use wamp_support::{Lengths, as_json, cbor, decoded, encoded, serialized};

const NO_PAYLOAD: Payload<'static> = Payload::EMPTY;

fn args(args: &'static str) -> Payload<'static> {
    Payload { args: Some(args.as_bytes()), kwargs: None, ..Payload::EMPTY }
}

fn words(text: &'static str) -> Cow<'static, str> {
    Cow::Borrowed(text)
}

/// Every message, as compact JSON with the keys in the order in which we write them.
fn messages() -> Vec<(&'static str, Message<'static>)> {
    let features = |features| Some(FeatureSet::of(features));
    vec![
        (
            r#"[1,"realm1",{"roles":{"subscriber":{},"publisher":{}}}]"#,
            Message::Hello {
                realm: words("realm1"),
                details: HelloDetails {
                    roles: Roles { publisher: features(&[]), subscriber: features(&[]), ..Roles::default() },
                    ..HelloDetails::default()
                },
            },
        ),
        (
            r#"[1,"realm1",{"agent":"a","roles":{"callee":{"features":{"call_canceling":true,"call_timeout":true}}},"authid":"peter","authrole":"user","authmethods":["ticket","wampcra"],"authextra":{"channel":[1]}}]"#,
            Message::Hello {
                realm: words("realm1"),
                details: HelloDetails {
                    roles: Roles {
                        callee: features(&[Feature::CallCanceling, Feature::CallTimeout]),
                        ..Roles::default()
                    },
                    agent: Some(words("a")),
                    authid: Some(words("peter")),
                    authrole: Some(words("user")),
                    authmethods: vec![words("ticket"), words("wampcra")],
                    authextra: Some(br#"{"channel":[1]}"#),
                },
            },
        ),
        (
            r#"[2,9129137332,{"agent":"Fanwire","realm":"realm1","authid":"x","authrole":"anonymous","authmethod":"anonymous","authprovider":"static","authextra":{"a":[1]},"roles":{"broker":{"features":{"publisher_exclusion":true}},"dealer":{}}}]"#,
            Message::Welcome {
                session: 9129137332,
                details: WelcomeDetails {
                    realm: Some(words("realm1")),
                    authid: Some(words("x")),
                    authrole: Some(words("anonymous")),
                    authmethod: Some(words("anonymous")),
                    authprovider: Some(words("static")),
                    authextra: Some(br#"{"a":[1]}"#),
                    agent: Some(words("Fanwire")),
                    roles: Roles {
                        broker: features(&[Feature::PublisherExclusion]),
                        dealer: features(&[]),
                        ..Roles::default()
                    },
                },
            },
        ),
        (
            r#"[3,{"message":"no \"such\" realm"},"wamp.error.no_such_realm"]"#,
            Message::Abort {
                reason: words("wamp.error.no_such_realm"),
                message: Some(words("no \"such\" realm")),
            },
        ),
        (
            r#"[4,"wampcra",{"challenge":"{}"}]"#,
            Message::Challenge { method: words("wampcra"), extra: br#"{"challenge":"{}"}"# },
        ),
        (
            r#"[5,"gir1mSx+deCD=",{}]"#,
            Message::Authenticate { signature: words("gir1mSx+deCD="), extra: b"{}" },
        ),
        (
            r#"[6,{},"wamp.close.normal"]"#,
            Message::Goodbye { reason: words("wamp.close.normal"), message: None },
        ),
        (
            r#"[8,48,7814135,{},"com.myapp.error",["locked"],{"severity":3}]"#,
            Message::Error {
                request_type: 48,
                request: 7814135,
                error: words("com.myapp.error"),
                payload: Payload {
                    args: Some(br#"["locked"]"#),
                    kwargs: Some(br#"{"severity":3}"#),
                    ..Payload::EMPTY
                },
            },
        ),
        (
            r#"[16,239714735,{},"com.myapp.mytopic1"]"#,
            Message::Publish {
                request: 239714735,
                options: PublishOptions::default(),
                topic: words("com.myapp.mytopic1"),
                payload: NO_PAYLOAD,
            },
        ),
        (
            r#"[16,1,{"acknowledge":true,"exclude_me":false,"disclose_me":true,"retain":false,"x_conflate_key":"eur"},"a.b",[],{"color":"orange","sizes":[23,42,7]}]"#,
            Message::Publish {
                request: 1,
                options: PublishOptions {
                    acknowledge: true,
                    exclude_me: Some(false),
                    disclose_me: Some(true),
                    retain: Some(false),
                    receivers: None,
                    conflate_key: Some(words("eur")),
                },
                topic: words("a.b"),
                payload: Payload {
                    args: Some(b"[]"),
                    kwargs: Some(br#"{"color":"orange","sizes":[23,42,7]}"#),
                    ..Payload::EMPTY
                },
            },
        ),
        (
            r#"[16,1,{"exclude":[7891255,1245751],"exclude_authid":["peter"],"exclude_authrole":[],"eligible":[],"eligible_authid":["a","b"],"eligible_authrole":["staff"]},"a.b"]"#,
            Message::Publish {
                request: 1,
                options: PublishOptions {
                    receivers: Some(Box::new(ReceiverLists {
                        exclude: Some(vec![7891255, 1245751]),
                        exclude_authid: Some(vec![words("peter")]),
                        exclude_authrole: Some(vec![]),
                        eligible: Some(vec![]),
                        eligible_authid: Some(vec![words("a"), words("b")]),
                        eligible_authrole: Some(vec![words("staff")]),
                    })),
                    ..PublishOptions::default()
                },
                topic: words("a.b"),
                payload: NO_PAYLOAD,
            },
        ),
        (r#"[17,239714735,4429313566]"#, Message::Published { request: 239714735, publication: 4429313566 }),
        (
            r#"[32,713845233,{},"com.myapp.mytopic1"]"#,
            Message::Subscribe {
                request: 713845233,
                options: SubscribeOptions::default(),
                topic: words("com.myapp.mytopic1"),
            },
        ),
        (
            r#"[32,2,{"match":"wildcard","get_retained":true},"com..userevent"]"#,
            Message::Subscribe {
                request: 2,
                options: SubscribeOptions { match_policy: MatchPolicy::Wildcard, get_retained: Some(true) },
                topic: words("com..userevent"),
            },
        ),
        (
            r#"[33,713845233,5512315355]"#,
            Message::Subscribed { request: 713845233, subscription: 5512315355 },
        ),
        (r#"[34,85346237,5512315355]"#, Message::Unsubscribe { request: 85346237, subscription: 5512315355 }),
        (r#"[35,85346237]"#, Message::Unsubscribed { request: 85346237 }),
        (
            r#"[36,5512315355,4429313566,{},["Hello, world!"]]"#,
            Message::Event {
                subscription: 5512315355,
                publication: 4429313566,
                details: EventDetails::default(),
                payload: args(r#"["Hello, world!"]"#),
            },
        ),
        (
            r#"[36,1,2,{"topic":"a.b","publisher":3,"publisher_authid":"peter","publisher_authrole":"user","retained":true,"trustlevel":2}]"#,
            Message::Event {
                subscription: 1,
                publication: 2,
                details: EventDetails {
                    topic: Some(words("a.b")),
                    publisher: Some(3),
                    publisher_authid: Some(words("peter")),
                    publisher_authrole: Some(words("user")),
                    retained: Some(true),
                    trust_level: Some(2),
                },
                payload: NO_PAYLOAD,
            },
        ),
        (
            r#"[48,7814135,{"timeout":1000,"receive_progress":true,"progress":false,"disclose_me":true},"com.myapp.add2",[23,7]]"#,
            Message::Call {
                request: 7814135,
                options: CallOptions {
                    timeout_ms: Some(1000),
                    receive_progress: Some(true),
                    progress: Some(false),
                    disclose_me: Some(true),
                },
                procedure: words("com.myapp.add2"),
                payload: args("[23,7]"),
            },
        ),
        (r#"[49,7814135,{}]"#, Message::Cancel { request: 7814135, mode: None }),
        (
            r#"[49,7814135,{"mode":"killnowait"}]"#,
            Message::Cancel { request: 7814135, mode: Some(CancelMode::KillNoWait) },
        ),
        (
            r#"[50,7814135,{"progress":true},[30]]"#,
            Message::Result {
                request: 7814135,
                details: ResultDetails { progress: Some(true) },
                payload: args("[30]"),
            },
        ),
        (
            r#"[64,25349185,{"match":"prefix","invoke":"roundrobin","disclose_caller":true,"forward_timeout":true,"concurrency":4,"force_reregister":false},"com.myapp.myprocedure1"]"#,
            Message::Register {
                request: 25349185,
                options: RegisterOptions {
                    match_policy: MatchPolicy::Prefix,
                    invoke: InvokePolicy::RoundRobin,
                    disclose_caller: Some(true),
                    forward_timeout: Some(true),
                    concurrency: Some(4),
                    force_reregister: Some(false),
                },
                procedure: words("com.myapp.myprocedure1"),
            },
        ),
        (r#"[65,25349185,2103333224]"#, Message::Registered { request: 25349185, registration: 2103333224 }),
        (
            r#"[66,788923562,2103333224]"#,
            Message::Unregister { request: 788923562, registration: 2103333224 },
        ),
        (r#"[67,788923562]"#, Message::Unregistered { request: 788923562 }),
        (
            r#"[68,6131533,9823529,{"procedure":"a.b","caller":7,"caller_authid":"peter","caller_authrole":"user","receive_progress":true,"progress":true,"timeout":5,"trustlevel":0},["johnny"],{"firstname":"John","surname":"Doe"}]"#,
            Message::Invocation {
                request: 6131533,
                registration: 9823529,
                details: InvocationDetails {
                    procedure: Some(words("a.b")),
                    caller: Some(7),
                    caller_authid: Some(words("peter")),
                    caller_authrole: Some(words("user")),
                    receive_progress: Some(true),
                    progress: Some(true),
                    timeout_ms: Some(5),
                    trust_level: Some(0),
                },
                payload: Payload {
                    args: Some(br#"["johnny"]"#),
                    kwargs: Some(br#"{"firstname":"John","surname":"Doe"}"#),
                    ..Payload::EMPTY
                },
            },
        ),
        (
            r#"[69,6131533,{"mode":"kill","reason":"wamp.error.canceled"}]"#,
            Message::Interrupt {
                request: 6131533,
                options: InterruptOptions {
                    mode: Some(CancelMode::Kill),
                    reason: Some(words("wamp.error.canceled")),
                },
            },
        ),
        (
            r#"[70,6131533,{}]"#,
            Message::Yield { request: 6131533, options: YieldOptions::default(), payload: NO_PAYLOAD },
        ),
        (
            r#"[70,6131533,{"progress":true},[],{"userid":123,"karma":10}]"#,
            Message::Yield {
                request: 6131533,
                options: YieldOptions { progress: Some(true) },
                payload: Payload {
                    args: Some(b"[]"),
                    kwargs: Some(br#"{"userid":123,"karma":10}"#),
                    ..Payload::EMPTY
                },
            },
        ),
    ]
}

#[test]
fn every_message_reads_and_writes_in_json() {
    for (text, message) in messages() {
        assert_eq!(decoded(Serializer::Json, text.as_bytes()).as_ref(), Ok(&message), "{text}");
        assert_eq!(String::from_utf8(encoded(&message, Serializer::Json)).unwrap(), text);
    }
    let types: std::collections::BTreeSet<_> =
        messages().iter().map(|(_, message)| message.type_code()).collect();
    assert_eq!(types.len(), 24, "a message type is not in the table");
}

#[test]
fn every_message_reads_and_writes_in_binary_serializers() {
    for (text, message) in messages() {
        let list: Value = serde_json::from_str(text).unwrap();
        for serializer in [Serializer::MsgPack, Serializer::Cbor] {
            let packed = serialized(serializer, &list);
            let read = decoded(serializer, &packed).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.name(), message.name());
            assert_eq!(as_json(&read, serializer), list);
            let again = encoded(&read, serializer);
            assert_eq!(decoded(serializer, &again).as_ref(), Ok(&read));
            assert_eq!(again.len(), packed.len(), "{text}: the shortest forms");
        }
    }
}

#[test]
fn white_space_and_escapes_do_not_matter() {
    let spaced =
        b" [ 16 ,\t7,\r\n{ \"exclude_me\" : false , \"x\" : [ ] } , \"com.caf\\u00e9\" , [ 1 , 2 ] ] \n";
    let Ok(Message::Publish { request: 7, options, topic, payload }) = decoded(Serializer::Json, spaced)
    else {
        panic!("{:?}", decoded(Serializer::Json, spaced));
    };
    assert_eq!((options.exclude_me, &*topic), (Some(false), "com.café"));
    assert_eq!(payload.args, Some(&b"[ 1 , 2 ]"[..]), "the sender's bytes");
    let escaped_key = br#"[16,7,{"acknowledg\u0065":true},"a"]"#;
    let Ok(Message::Publish { options, .. }) = decoded(Serializer::Json, escaped_key) else { panic!() };
    assert!(options.acknowledge);
}

#[test]
fn payload_is_forwarded_byte_for_byte() {
    let payload = r#"[9007199254740993, -0, 1.10, 1E2, "\u0061\/", {"a":1,"a":2}]"#;
    let text = format!(r#"[16,1,{{}},"a",{payload}]"#);
    let Ok(Message::Publish { payload: Payload { args: Some(args), kwargs: None, .. }, .. }) =
        decoded(Serializer::Json, text.as_bytes())
    else {
        panic!("that is a PUBLISH");
    };
    assert_eq!(args, payload.as_bytes());
    // Wide integers, an extension and binary: valid, so left alone.
    let payload = b"\x94\xd3\0\0\0\0\0\0\0\x01\xd4\x05\x00\xc4\x01\xff\xd9\x01a";
    let bytes = [&b"\x95\x10\x01\x80\xa1a"[..], payload].concat();
    let Ok(Message::Publish { payload: Payload { args: Some(args), kwargs: None, .. }, .. }) =
        decoded(Serializer::MsgPack, &bytes)
    else {
        panic!("that is a PUBLISH");
    };
    assert_eq!(args, payload);
    // The same in CBOR: a wide integer, a tag, an open list of a chunked text, a half float and a simple value.
    let payload = b"\x85\x1b\0\0\0\0\0\0\0\x01\xc1\x00\x9f\x7f\x61a\xff\xff\xf9\x3c\x00\xf8\xff";
    let bytes = [&b"\x85\x10\x01\xa0\x61a"[..], payload].concat();
    let Ok(Message::Publish { payload: Payload { args: Some(args), kwargs: None, .. }, .. }) =
        decoded(Serializer::Cbor, &bytes)
    else {
        panic!("that is a PUBLISH");
    };
    assert_eq!(args, payload);
}

/// Messages that are not by the letter and are taken all the same, with what they mean.
#[test]
fn what_real_clients_send_is_understood() {
    for (text, meaning) in [
        ("[16.0,7.0,{},\"a\"]", json!([16, 7, {}, "a"])),
        ("[16,1e3,{},\"a\"]", json!([16, 1000, {}, "a"])),
        ("[16,9007199254740992.0,{},\"a\"]", json!([16, 9007199254740992u64, {}, "a"])),
        ("[16,1,null,\"a\",null,null]", json!([16, 1, {}, "a"])),
        ("[16,1,{\"acknowledge\":null,\"exclude_me\":null},\"a\"]", json!([16, 1, {}, "a"])),
        ("[16,1,{},\"a\",null,{\"k\":1}]", json!([16, 1, {}, "a", [], {"k": 1}])),
        (
            "[16,1,{\"eligible\":[7.0,1e3],\"exclude\":null},\"a\"]",
            json!([16, 1, {"eligible": [7, 1000]}, "a"]),
        ),
        ("[34,1,2,{\"forward_for\":[]}]", json!([34, 1, 2])),
        ("[66,1,2,{}]", json!([66, 1, 2])),
        ("[48,1,{\"timeout\":2.5e2,\"x_mine\":{\"a\":[{}]}},\"a\"]", json!([48, 1, {"timeout": 250}, "a"])),
        ("[3,{},\"r\",[\"why\"],{}]", json!([3, {}, "r"])),
        (
            "[1,\"r\",{\"roles\":{\"callee\":null,\"owl\":{},\"caller\":{\"features\":{\"hoot\":true,\"call_timeout\":false}}}}]",
            json!([1, "r", {"roles": {"caller": {}, "callee": {}}}]),
        ),
    ] {
        for serializer in Serializer::ALL {
            let list: Value = serde_json::from_str(text).unwrap();
            let bytes = match serializer {
                Serializer::Json => text.as_bytes().to_vec(),
                _ => serialized(serializer, &list),
            };
            let message = decoded(serializer, &bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(as_json(&message, serializer), meaning, "{text} in {serializer}");
        }
    }
}

#[test]
fn undefined_of_javascript_packers_counts_as_absent() {
    const UNDEFINED: &[u8] = b"\xd4\x00\x00";
    let publish = |options: &[u8], payload: &[&[u8]]| {
        let head = [0x94 + payload.len() as u8, 0x10, 0x01];
        [&head[..], options, b"\xa1a", &payload.concat()].concat()
    };
    for (bytes, meaning) in [
        (publish(UNDEFINED, &[]), json!([16, 1, {}, "a"])),
        (publish(b"\x81\xaaexclude_me\xd4\x00\x00", &[]), json!([16, 1, {}, "a"])),
        (publish(b"\x80", &[UNDEFINED]), json!([16, 1, {}, "a"])),
        (publish(b"\x80", &[UNDEFINED, UNDEFINED]), json!([16, 1, {}, "a"])),
        (publish(b"\x80", &[UNDEFINED, b"\x81\xa1k\x01"]), json!([16, 1, {}, "a", [], {"k": 1}])),
        // The same as the general form of an extension, and as floats of both widths.
        (publish(b"\xc7\x01\x00\x00", &[]), json!([16, 1, {}, "a"])),
        (b"\x94\xca\x41\x80\0\0\xcb\x40\x1c\0\0\0\0\0\0\x80\xa1a".to_vec(), json!([16, 7, {}, "a"])),
        (b"\x94\xd0\x10\xd3\0\0\0\0\0\0\0\x07\x80\xa1a".to_vec(), json!([16, 7, {}, "a"])),
    ] {
        let message =
            decoded(Serializer::MsgPack, &bytes).unwrap_or_else(|error| panic!("{bytes:02x?}: {error}"));
        assert_eq!(as_json(&message, Serializer::MsgPack), meaning);
    }
}

/// Breaches of the protocol, with a part of the words.
#[test]
fn violations_end_the_session() {
    for (text, part) in [
        ("", "an end where a value is due"),
        ("{}", "not a list"),
        ("16", "not a list"),
        ("\"[]\"", "not a list"),
        ("[]", "ends before its type"),
        ("[\"16\"]", "type is no integer"),
        ("[null]", "type is no integer"),
        ("[-1]", "type is no integer"),
        ("[1.5]", "type is no integer"),
        ("[0]", "0 is no message type"),
        ("[7]", "7 is no message type"),
        ("[337,1]", "337 is no message type"),
        ("[9007199254740992]", "is no message type"),
        ("[16]", "PUBLISH ends before Request"),
        ("[16,1]", "PUBLISH ends before Options"),
        ("[16,1,{}]", "PUBLISH ends before Topic"),
        ("[16,1,{},\"a\",[],{},1]", "PUBLISH has too many elements"),
        ("[32,1,{},\"a\",[]]", "SUBSCRIBE has too many elements"),
        ("[6,{},\"a\",[]]", "GOODBYE has too many elements"),
        ("[34,1,2,{},1]", "UNSUBSCRIBE has too many elements"),
        ("[16,0,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,-1,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,1.5,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,\"1\",{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,true,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,9007199254740993,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,18446744073709551615,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[16,1e300,{},\"a\"]", "Request must be an integer from 1 to 2^53"),
        ("[34,1,0]", "UNSUBSCRIBE: Subscription must be"),
        ("[66,1,\"x\"]", "UNREGISTER: Registration must be"),
        ("[16,1,[],\"a\"]", "PUBLISH: Options must be a dictionary"),
        ("[16,1,\"\",\"a\"]", "PUBLISH: Options must be a dictionary"),
        ("[16,1,{},1]", "PUBLISH: Topic must be a string"),
        ("[16,1,{},null]", "PUBLISH: Topic must be a string"),
        ("[1,1,{}]", "HELLO: Realm must be a string"),
        ("[1,\"r\",{\"roles\":[]}]", "HELLO: \"roles\" must be a dictionary"),
        ("[1,\"r\",{\"roles\":{\"caller\":1}}]", "HELLO: \"roles\" must be a dictionary"),
        ("[1,\"r\",{\"authmethods\":\"ticket\"}]", "HELLO: \"authmethods\" must be a list"),
        ("[1,\"r\",{\"authmethods\":[1]}]", "HELLO: \"authmethods\" must be a list"),
        ("[1,\"r\",{\"authid\":5}]", "HELLO: \"authid\" must be a string"),
        ("[8,1000,1,{},\"a\"]", "ERROR: REQUEST.Type must be a message type"),
        ("[8,48,1,{},\"a\",{}]", "ERROR: \"Arguments\" must be a list"),
        ("[70,1,{\"progress\":1}]", "YIELD: \"progress\" must be true or false"),
        ("[70,1,{},[],[]]", "YIELD: \"ArgumentsKw\" must be a dictionary"),
        ("[49,1,{\"mode\":\"gently\"}]", "CANCEL: \"mode\" must be one of skip, kill, killnowait"),
        ("[36,1,2,{\"publisher\":0}]", "EVENT: \"publisher\" must be an integer"),
        ("[16,1,{\"acknowledge\":true,\"acknowledge\":true},\"a\"]", "a key twice"),
        ("[16,1,{\"zzz\":1,\"zzz\":1},\"a\"]", "a key twice"),
        ("[1,\"r\",{\"roles\":{\"caller\":{},\"caller\":{}}}]", "a key twice"),
    ] {
        let list: Result<Value, _> = serde_json::from_str(text);
        let has_twins = part == "a key twice";
        for serializer in Serializer::ALL {
            let bytes = match (serializer, &list) {
                (Serializer::Json, _) => text.as_bytes().to_vec(),
                (_, Ok(list)) if !has_twins => serialized(serializer, list),
                _ => continue,
            };
            match decoded(serializer, &bytes) {
                Err(DecodeError::Violation(violation)) => {
                    let words = violation.to_string();
                    assert!(words.contains(part), "{text} in {serializer}: {words}");
                }
                other => panic!("{text} in {serializer}: {other:?}"),
            }
        }
    }
}

#[test]
fn twin_keys_are_found_however_they_are_hidden() {
    let keys = |count: usize| (0..count).map(|index| format!("\"key{index}\":1,")).collect::<String>();
    for options in [
        r#""acknowledge":true,"acknowledg\u0065":false"#.to_owned(),
        r#""\u0061b":1,"ab":1"#.to_owned(),
        format!(r#"{}"key0":2"#, keys(8)),
        format!(r#"{}"key40":2"#, keys(50)),
        format!(r#"{}"key0":2"#, keys(63)),
    ] {
        let text = format!("[16,1,{{{options}}},\"a\"]");
        let error = decoded(Serializer::Json, text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("a key twice"), "{text}: {error}");
    }
    let text = format!(r#"[16,1,{{{}"acknowledge":true}},"a"]"#, keys(63));
    assert!(decoded(Serializer::Json, text.as_bytes()).is_ok());
    let text = format!(r#"[16,1,{{{}"acknowledge":true}},"a"]"#, keys(64));
    let error = decoded(Serializer::Json, text.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("more than 64 keys"), "{error}");
    let packed = b"\x94\x10\x01\x82\xa1k\x01\xa1k\x01\xa1a";
    assert!(decoded(Serializer::MsgPack, packed).unwrap_err().to_string().contains("a key twice"));
}

#[test]
fn malformed_messages_say_where() {
    for (text, part) in [
        (&b"[16,1,{},\"a\",[1,]]"[..], "PUBLISH has something that is no JSON value at byte 16"),
        (b"[16,1,{},\"a\",[1]", "PUBLISH has an unclosed bracket"),
        (b"[16,1,{},\"a\"]x", "PUBLISH has something behind its end at byte 13"),
        (b"[16,1,{},\"a\",]", "PUBLISH has a comma before a closing bracket"),
        (b"[16 1]", "PUBLISH has something else than a comma"),
        (b"[16,1,{\"a\":},\"a\"]", "PUBLISH has something that is no JSON value"),
        (b"[16,1,{1:2},\"a\"]", "PUBLISH has a dictionary key that is no string"),
        (b"[16,1,{},\"\xff\"]", "PUBLISH has a string that is not UTF-8 at byte 10"),
        (b"[16,1,{},\"a\",[\"\xed\xa0\x80\"]]", "PUBLISH has a string that is not UTF-8"),
        (b"[16,1,{},\"\\ud800\"]", "PUBLISH has a lone surrogate"),
        (b"[16,1,{\"a\":1e999},\"a\"]", "PUBLISH has a number too large"),
        (b"\xef\xbb\xbf[16,1,{},\"a\"]", "the message has something that is no JSON value"),
    ] {
        let error = decoded(Serializer::Json, text).unwrap_err();
        assert!(error.to_string().contains(part), "{}: {error}", String::from_utf8_lossy(text));
    }
    for (bytes, part) in [
        (&b"\x95\x10\x01\x80\xa1a\x92\x01"[..], "PUBLISH has a length beyond its end"),
        (b"\x94\x10\x01\x80\xa1a\x00", "PUBLISH has something behind its end at byte 6"),
        (b"\x94\x10\x01\x80\xa1\xff", "PUBLISH has a string that is not UTF-8 at byte 5"),
        (b"\x95\x10\x01\x80\xa1a\x91\xc1", "PUBLISH has the reserved byte 0xc1"),
        (b"\x94\x10\x01\x81\x01\x02\xa1a", "PUBLISH has a dictionary key that is no string"),
        (b"\x94\x10\x01\x80\xc4\x01a", "PUBLISH: Topic must be a string"),
        (b"\x94\x10\x01\xd5\x00\x00\x00\xa1a", "PUBLISH: Options must be a dictionary"),
        (b"\xc4\x00", "not a list"),
    ] {
        let error = decoded(Serializer::MsgPack, bytes).unwrap_err();
        assert!(error.to_string().contains(part), "{bytes:02x?}: {error}");
    }
}

/// RFC 8259 allows what strict readers refuse. It ends no session: a request is answered, and a callee's call fails.
#[test]
fn a_payload_that_not_everybody_could_read_is_refused_alone() {
    for value in [r#""\ud800""#, r#""a\udc00b""#, r#""\ud83dx""#, "1e999", "-1e400"] {
        for (text, request_type, is_answered, subject) in [
            (format!(r#"[16,5,{{"acknowledge":true}},"a",[{value}]]"#), 16, true, "Arguments"),
            (format!(r#"[16,5,{{"acknowledge":true}},"a",[],{{"k":[{value}]}}]"#), 16, true, "ArgumentsKw"),
            (format!(r#"[16,5,{{}},"a",[{value}]]"#), 16, false, "Arguments"),
            (format!(r#"[48,5,{{}},"a",[1,{{"x":{value}}}],{{}}]"#), 48, true, "Arguments"),
        ] {
            let error = decoded(Serializer::Json, text.as_bytes()).unwrap_err();
            let DecodeError::Request(refused) = error else { panic!("{text}: {error}") };
            assert_eq!((refused.request_type, refused.request), (request_type, 5), "{text}");
            assert_eq!((refused.is_answered, refused.subject), (is_answered, subject), "{text}");
        }
        for (text, uri) in [
            (format!("[70,5,{{}},[{value}]]"), "wamp.error.invalid_argument"),
            (format!(r#"[8,68,5,{{}},"com.own",[{value}]]"#), "com.own"),
        ] {
            let Ok(Message::Error { request_type: 68, request: 5, error, payload }) =
                decoded(Serializer::Json, text.as_bytes())
            else {
                panic!("{text}")
            };
            assert_eq!((&*error, payload), (uri, Payload::EMPTY), "{text}");
        }
        let event = format!("[36,5,6,{{}},[{value}]]");
        assert!(matches!(decoded(Serializer::Json, event.as_bytes()), Err(DecodeError::Violation(_))));
    }
}

/// Requests with a wrong option: the whole answer.
#[test]
fn wrong_options_are_answered_and_name_the_key() {
    for (list, request_type, is_answered, subject) in [
        (json!([16, 5, {"acknowledge": 1}, "a"]), 16, true, "acknowledge"),
        (json!([16, 5, {"acknowledge": true, "exclude_me": "no"}, "a"]), 16, true, "exclude_me"),
        (json!([16, 5, {"exclude_me": "no", "zzz": 1, "retain": false}, "a"]), 16, false, "exclude_me"),
        (json!([16, 5, {"acknowledge": true}, "a", {"no": "list"}]), 16, true, "Arguments"),
        (json!([16, 5, {}, "a", "text"]), 16, false, "Arguments"),
        (json!([16, 5, {"acknowledge": true}, "a", [], []]), 16, true, "ArgumentsKw"),
        (json!([16, 5, {"acknowledge": true, "exclude": 7}, "a"]), 16, true, "exclude"),
        (json!([16, 5, {"acknowledge": true, "exclude": [7, "8"]}, "a"]), 16, true, "exclude"),
        (json!([16, 5, {"acknowledge": true, "eligible": [7, 0]}, "a"]), 16, true, "eligible"),
        (json!([16, 5, {"acknowledge": true, "eligible": [1.5]}, "a"]), 16, true, "eligible"),
        (json!([16, 5, {"acknowledge": true, "eligible": [null]}, "a"]), 16, true, "eligible"),
        (json!([16, 5, {"acknowledge": true, "eligible": {"7": 8}}, "a"]), 16, true, "eligible"),
        (json!([16, 5, {"acknowledge": true, "exclude_authid": "a"}, "a"]), 16, true, "exclude_authid"),
        (json!([16, 5, {"exclude_authrole": ["a", ["b"]]}, "a"]), 16, false, "exclude_authrole"),
        (json!([16, 5, {"acknowledge": true, "eligible_authid": [7]}, "a"]), 16, true, "eligible_authid"),
        (
            json!([16, 5, {"acknowledge": true, "eligible_authrole": true}, "a"]),
            16,
            true,
            "eligible_authrole",
        ),
        (json!([32, 5, {"match": "glob"}, "a"]), 32, true, "match"),
        (json!([32, 5, {"match": 1}, "a"]), 32, true, "match"),
        (json!([32, 5, {"get_retained": {}}, "a"]), 32, true, "get_retained"),
        (json!([48, 5, {"timeout": -1}, "a"]), 48, true, "timeout"),
        (json!([48, 5, {"timeout": "1s"}, "a"]), 48, true, "timeout"),
        (json!([48, 5, {"receive_progress": 0}, "a"]), 48, true, "receive_progress"),
        (json!([48, 5, {}, "a", 7]), 48, true, "Arguments"),
        (json!([48, 5, {"timeout": -1}, "a"]), 48, true, "timeout"),
        (json!([48, 5, {"timeout": 0.5}, "a"]), 48, true, "timeout"),
        (json!([48, 5, {"progress": "yes"}, "a"]), 48, true, "progress"),
        (json!([64, 5, {"invoke": "all"}, "a"]), 64, true, "invoke"),
        (json!([64, 5, {"concurrency": 0}, "a"]), 64, true, "concurrency"),
        (json!([64, 5, {"concurrency": "2"}, "a"]), 64, true, "concurrency"),
        (json!([64, 5, {"force_reregister": 1}, "a"]), 64, true, "force_reregister"),
        (json!([64, 5, {"forward_timeout": "yes"}, "a"]), 64, true, "forward_timeout"),
        (json!([64, 5, {"invoke": ["single"], "match": false}, "a"]), 64, true, "invoke"),
    ] {
        for serializer in Serializer::ALL {
            let bytes = serialized(serializer, &list);
            let Err(DecodeError::Request(error)) = decoded(serializer, &bytes) else {
                panic!("{list} in {serializer}: {:?}", decoded(serializer, &bytes));
            };
            assert_eq!((error.request_type, error.request), (request_type, 5), "{list}");
            assert_eq!(error.error_uri, "wamp.error.invalid_argument");
            assert!(error.to_string().contains(subject), "{list}: {error}");
            assert_eq!(error.is_answered, is_answered, "{list}");
        }
    }
    // A wrong option does not hide that the rest of the message is broken.
    let text = br#"[32,5,{"match":1},"a","more"]"#;
    assert!(matches!(decoded(Serializer::Json, text), Err(DecodeError::Violation(_))));
}

#[test]
fn lists_of_receivers_share_their_limit() {
    let publish = |ids: usize, names: usize| {
        let options =
            json!({"acknowledge": true, "exclude": vec![7; ids], "eligible_authid": vec!["a"; names]});
        json!([16, 5, options, "a"])
    };
    for serializer in Serializer::ALL {
        let bytes = serialized(serializer, &publish(RECEIVERS_MAX - 3, 3));
        let Ok(Message::Publish { options, .. }) = decoded(serializer, &bytes) else {
            panic!("that is a PUBLISH")
        };
        let lists = options.receivers.expect("there are lists");
        assert_eq!(lists.exclude.map(|list| list.len()), Some(RECEIVERS_MAX - 3));
        assert_eq!(lists.eligible_authid.map(|list| list.len()), Some(3));
        for (ids, names) in [(RECEIVERS_MAX, 1), (RECEIVERS_MAX + 1, 0)] {
            let bytes = serialized(serializer, &publish(ids, names));
            let Err(DecodeError::Request(error)) = decoded(serializer, &bytes) else {
                panic!("{ids} ids and {names} names are too many");
            };
            let words = error.to_string();
            assert!(words.contains("\"exclude\"") && words.contains("65536") && error.is_answered, "{words}");
        }
    }
}

#[test]
fn deep_and_wide_input_needs_little_stack() {
    let deep_json = [b"[16,1,{},\"a\",".to_vec(), vec![b'['; 1_000_000]].concat();
    let deep_options = [b"[16,1,{\"x\":".to_vec(), vec![b'['; 100_000]].concat();
    let deep_msgpack = [b"\x95\x10\x01\x80\xa1a".to_vec(), vec![0x91; 1_000_000]].concat();
    let deep_cbor = [0x81, 0x9f, 0xa1, 0xbf, 0xc1]
        .map(|first| [b"\x85\x10\x01\xa0\x61a".to_vec(), vec![first; 1_000_000]].concat());
    let deepest = format!("[16,1,{{}},\"a\",{}{}]", "[".repeat(128), "]".repeat(128));
    let wide = format!("[16,1,{{}},\"a\",[{}1]]", "1,".repeat(1_000_000));
    let long_key = format!("[16,1,{{\"{}\":1}},\"{}\"]", "k".repeat(1_000_000), "u".repeat(1_000_000));
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || {
            for bytes in [deep_json, deep_options] {
                let error = decoded(Serializer::Json, &bytes).unwrap_err();
                assert!(error.to_string().contains("too many nested levels"), "{error}");
            }
            let error = decoded(Serializer::MsgPack, &deep_msgpack).unwrap_err();
            assert!(error.to_string().contains("too many nested levels"), "{error}");
            for bytes in deep_cbor {
                assert!(decoded(Serializer::Cbor, &bytes).is_err());
            }
            for text in [deepest, wide, long_key] {
                assert!(decoded(Serializer::Json, text.as_bytes()).is_ok());
            }
        })
        .unwrap()
        .join()
        .expect("64 KiB of stack are enough");
}

#[test]
fn router_errors_carry_their_words_as_the_argument() {
    for serializer in Serializer::ALL {
        for text in [None, Some("\"match\" must be one of exact, prefix, wildcard")] {
            let mut out = bytes::BytesMut::new();
            encode_error(serializer, 32, 7, "wamp.error.invalid_argument", text, &mut out);
            let error = decoded(serializer, &out).unwrap();
            let expected = match text {
                Some(text) => json!([8, 32, 7, {}, "wamp.error.invalid_argument", [text]]),
                None => json!([8, 32, 7, {}, "wamp.error.invalid_argument"]),
            };
            assert_eq!(as_json(&error, serializer), expected);
        }
    }
}

#[test]
fn keyword_arguments_alone_get_an_empty_list_before_them() {
    for (serializer, kwargs, bytes) in [
        (Serializer::Json, &b"{\"a\":1}"[..], &b"[70,1,{},[],{\"a\":1}]"[..]),
        (Serializer::MsgPack, b"\x81\xa1a\x01", b"\x95\x46\x01\x80\x90\x81\xa1a\x01"),
        (Serializer::Cbor, b"\xa1\x61a\x01", b"\x85\x18\x46\x01\xa0\x80\xa1\x61a\x01"),
    ] {
        let payload = Payload { args: None, kwargs: Some(kwargs), ..Payload::EMPTY };
        let message = Message::Yield { request: 1, options: YieldOptions::default(), payload };
        assert_eq!(encoded(&message, serializer), bytes);
    }
}

#[test]
fn every_message_reads_in_cbor_of_indefinite_lengths() {
    for (text, message) in messages() {
        let list: Value = serde_json::from_str(text).unwrap();
        let bytes = cbor(&list, Lengths::Indefinite);
        let read = decoded(Serializer::Cbor, &bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read.name(), message.name());
        assert_eq!(as_json(&read, Serializer::Cbor), list);
        for cut in 0..bytes.len() {
            assert!(decoded(Serializer::Cbor, &bytes[..cut]).is_err(), "{text} cut to {cut}");
        }
    }
}

#[test]
fn undefined_of_cbor_counts_as_absent() {
    for (bytes, meaning) in [
        (&b"\x84\x10\x01\xf7\x61a"[..], json!([16, 1, {}, "a"])),
        (b"\x84\x10\x01\xa1\x6aexclude_me\xf7\x61a", json!([16, 1, {}, "a"])),
        (b"\x85\x10\x01\xa0\x61a\xf7", json!([16, 1, {}, "a"])),
        (b"\x86\x10\x01\xa0\x61a\xf7\xf7", json!([16, 1, {}, "a"])),
        (b"\x86\x10\x01\xa0\x61a\xf7\xa1\x61k\x01", json!([16, 1, {}, "a", [], {"k": 1}])),
        // Ids as floats of all widths, and integers wider than they have to be.
        (b"\x84\xf9\x4c\x00\xfa\x40\xe0\0\0\xa0\x61a", json!([16, 7, {}, "a"])),
        (b"\x84\x18\x10\xfb\x40\x1c\0\0\0\0\0\0\xa0\x61a", json!([16, 7, {}, "a"])),
        (b"\x84\x19\0\x10\x1b\0\0\0\0\0\0\0\x07\xa0\x61a", json!([16, 7, {}, "a"])),
        // Options that nobody knows may be anything.
        (b"\x84\x10\x01\xa2\x61x\xc1\x00\x61y\x5f\xff\x61a", json!([16, 1, {}, "a"])),
    ] {
        let message =
            decoded(Serializer::Cbor, bytes).unwrap_or_else(|error| panic!("{bytes:02x?}: {error}"));
        assert_eq!(as_json(&message, Serializer::Cbor), meaning);
    }
}

#[test]
fn malformed_cbor_messages_say_where() {
    for (bytes, part) in [
        (&b"\x85\x10\x01\xa0\x61a\x82\x01"[..], "PUBLISH has a length beyond its end"),
        (b"\x84\x10\x01\xa0\x61a\x00", "PUBLISH has something behind its end at byte 6"),
        (b"\x84\x10\x01\xa0\x61\xff", "PUBLISH has a string that is not UTF-8 at byte 5"),
        (b"\x84\x10\x01\xa0\x7f\x61\xc3\x61\xa9\xff", "PUBLISH has a string that is not UTF-8 at byte 6"),
        (b"\x84\x10\x01\xa0\x7f\x41a\xff", "PUBLISH has a string chunk of another type at byte 5"),
        (b"\x85\x10\x01\xa0\x61a\x81\x1c", "PUBLISH has a reserved initial byte at byte 7"),
        (b"\x85\x10\x01\xa0\x61a\x81\xff", "PUBLISH has a break where a value is due at byte 7"),
        (b"\x84\x10\x01\xbf\x61k\xff\x61a", "PUBLISH has a break where a value is due"),
        (b"\x84\x10\x01\xbf\x61k\x01\x61a", "PUBLISH has an end where a value is due"),
        (b"\x9f\x10\x01\xa0\x61a", "PUBLISH has an end where a value is due"),
        (b"\x85\x10\x01\xa0\x61a\x81\xf8\x14", "PUBLISH has a simple value below 32 in two bytes"),
        (b"\x84\x10\x01\xa1\x01\x02\x61a", "PUBLISH has a dictionary key that is no string"),
        (b"\x84\x10\x01\xa2\x61k\x01\x61k\x01\x61a", "a key twice"),
        (b"\x84\x10\x01\xbf\x61k\x01\x7f\x61k\x60\xff\x01\xff\x61a", "a key twice"),
        (b"\x84\x10\x01\xa0\x41a", "PUBLISH: Topic must be a string"),
        (b"\x84\x10\x01\xc1\xa0\x61a", "PUBLISH: Options must be a dictionary"),
        (b"\x84\x10\xc1\x01\xa0\x61a", "PUBLISH: Request must be an integer"),
        (b"\x84\x10\x20\xa0\x61a", "PUBLISH: Request must be an integer"),
        (b"\xd9\xd9\xf7\x84\x10\x01\xa0\x61a", "not a list"),
        (b"\x9f\xff", "ends before its type"),
        (b"\x40", "not a list"),
        (b"\xff", "the message has a break where a value is due"),
    ] {
        let error = decoded(Serializer::Cbor, bytes).unwrap_err();
        assert!(error.to_string().contains(part), "{bytes:02x?}: {error}");
    }
}
