//! Payloads that only their receivers understand (WAMP, "Payload Passthru Mode").

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{DecodeLimits, Message, Passthru, Payload, Serializer, decode, encode};
use fanwire_codec::ws::Kind;
use fanwire_core::Limits;
use fanwire_core::api::{ApiAnswer, Ask, TestamentOrder, TestamentScope};
use fanwire_core::ids::RealmId;

use crate::meta::{ask, testament};
use crate::session::assert_aborted;
use crate::support::{Client, Router, number};

/// Who speaks and who listens on one shard, and on two.
const PLACES: [(usize, usize); 2] = [(0, 0), (0, 1)];
const ABOUT: &str =
    r#""ppt_scheme":"wamp","ppt_serializer":"cbor","ppt_cipher":"xsalsa20poly1305","ppt_keyid":"k""#;
/// One binary argument, as JSON has it.
const OPAQUE: &str = r#"["\u0000/wAB"]"#;

/// Announces it in these roles, and in each what else they need.
fn join(router: &mut Router, shard: usize, able: &[&str]) -> Client {
    join_as(router, shard, Serializer::Json, able)
}

fn join_as(router: &mut Router, shard: usize, serializer: Serializer, able: &[&str]) -> Client {
    let client = router.connect(shard, serializer);
    let roles: Vec<String> = ["publisher", "subscriber", "caller", "callee"]
        .iter()
        .map(|role| {
            let passthru = able.contains(role);
            format!(
                r#""{role}":{{"features":{{"payload_passthru_mode":{passthru},"call_canceling":true,"call_reroute":true,"progressive_call_invocations":true,"progressive_call_results":true}}}}"#
            )
        })
        .collect();
    let hello = format!(r#"[1,"realm1",{{"roles":{{{}}}}}]"#, roles.join(","));
    say(router, client, serializer, &hello);
    let welcome = router.hear_one(client);
    assert!(welcome.contains("payload_passthru_mode") || serializer != Serializer::Json, "{welcome}");
    client
}

/// Says a HELLO or a PUBLISH, given in JSON, in this serializer.
fn say(router: &mut Router, client: Client, serializer: Serializer, json: &str) {
    let message = decode(Serializer::Json, json.as_bytes(), &DecodeLimits::default()).expect("sound");
    let mut bytes = BytesMut::new();
    if let Message::Publish { request, options, topic, payload } = message {
        let owned = OwnedPayload::copy_from(Serializer::Json, &payload).transcode(serializer);
        let payload = owned.as_ref().expect("it has a form").view();
        encode(&Message::Publish { request, options, topic, payload }, serializer, &mut bytes);
    } else {
        encode(&message, serializer, &mut bytes);
    }
    let kind = if serializer.is_text() { Kind::Text } else { Kind::Binary };
    router.say_bytes(client, kind, &bytes);
}

#[test]
fn events_have_what_their_publisher_says_of_the_payload() {
    for places in PLACES {
        let mut router = Router::new(2);
        let publisher = join(&mut router, places.0, &["publisher"]);
        // Whether the subscriber knows what that is can only be its own care.
        let subscriber = join(&mut router, places.1, &[]);
        router.say(subscriber, r#"[32,1,{},"a.b"]"#);
        router.say(subscriber, r#"[32,2,{"match":"prefix"},"a"]"#);
        router.hear(subscriber);
        router.say(publisher, &format!(r#"[16,1,{{"acknowledge":true,{ABOUT}}},"a.b",{OPAQUE}]"#));
        assert!(router.hear_one(publisher).starts_with("[17,1,"));
        let heard = router.hear(subscriber);
        let tail = |details: &str| format!(r#",{{{details}}},{OPAQUE}]"#);
        assert!(heard[0].ends_with(&tail(ABOUT)), "{heard:?}");
        assert!(heard[1].ends_with(&tail(&format!(r#""topic":"a.b",{ABOUT}"#))), "{heard:?}");
        // The next one is plain again.
        router.say(publisher, r#"[16,2,{},"a.b",[1]]"#);
        assert!(router.hear(subscriber)[0].ends_with(",{},[1]]"));
    }
}

#[test]
fn retained_events_keep_what_is_said_of_their_payload() {
    for places in PLACES {
        let mut router = Router::new(2);
        let publisher = join(&mut router, places.0, &["publisher"]);
        router.say(
            publisher,
            &format!(r#"[16,1,{{"acknowledge":true,"retain":true,{ABOUT}}},"a.b",{OPAQUE}]"#),
        );
        assert!(router.hear_one(publisher).starts_with("[17,1,"));
        for serializer in [Serializer::Json, Serializer::MsgPack] {
            let subscriber = join_as(&mut router, places.1, serializer, &["subscriber"]);
            say(&mut router, subscriber, serializer, r#"[32,1,{"get_retained":true},"a.b"]"#);
            let heard = router.hear(subscriber);
            assert_eq!(heard.len(), 2, "{heard:?}");
            if serializer == Serializer::Json {
                let details = format!(r#"{{"retained":true,{ABOUT}}},{OPAQUE}]"#);
                assert!(heard[1].ends_with(&details), "{heard:?}");
            } else {
                let key: String = b"ppt_keyid\xa1k".iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(heard[1].contains(&key) && heard[1].ends_with("91c403ff0001"), "{heard:?}");
            }
        }
    }
}

#[test]
fn a_call_and_its_answers_carry_it_both_ways() {
    for places in PLACES {
        let mut router = Router::new(2);
        let callee = join(&mut router, places.0, &["callee"]);
        let caller = join(&mut router, places.1, &["caller"]);
        router.say(callee, r#"[64,1,{},"p"]"#);
        let registration = number(&router.hear_one(callee), 2);
        router.say(caller, &format!(r#"[48,1,{{"receive_progress":true,{ABOUT}}},"p",{OPAQUE}]"#));
        let asked = router.hear_one(callee);
        assert_eq!(asked, format!(r#"[68,1,{registration},{{"receive_progress":true,{ABOUT}}},{OPAQUE}]"#));
        router.say(callee, &format!(r#"[70,1,{{"progress":true,{ABOUT}}},{OPAQUE}]"#));
        router.say(callee, &format!(r#"[70,1,{{{ABOUT}}},{OPAQUE}]"#));
        router.say(caller, &format!(r#"[48,2,{{{ABOUT}}},"p",{OPAQUE}]"#));
        router.settle();
        router.say(callee, &format!(r#"[8,68,2,{{{ABOUT}}},"app.error",{OPAQUE}]"#));
        let expected = [
            format!(r#"[50,1,{{"progress":true,{ABOUT}}},{OPAQUE}]"#),
            format!(r#"[50,1,{{{ABOUT}}},{OPAQUE}]"#),
            format!(r#"[8,48,2,{{{ABOUT}}},"app.error",{OPAQUE}]"#),
        ];
        assert_eq!(router.hear(caller), expected);
    }
}

#[test]
fn who_has_not_announced_it_is_aborted_for_using_it() {
    let messages = [
        ("publisher", format!(r#"[16,1,{{{ABOUT}}},"a.b",{OPAQUE}]"#)),
        ("publisher", format!(r#"[16,1,{{"acknowledge":true,{ABOUT}}},"a.b",{OPAQUE}]"#)),
        ("caller", format!(r#"[48,1,{{{ABOUT}}},"p",{OPAQUE}]"#)),
        ("callee", format!(r#"[70,1,{{{ABOUT}}},{OPAQUE}]"#)),
        ("callee", format!(r#"[70,1,{{"progress":true,{ABOUT}}},{OPAQUE}]"#)),
        ("callee", format!(r#"[8,68,1,{{{ABOUT}}},"app.error",{OPAQUE}]"#)),
    ];
    let roles = ["publisher", "subscriber", "caller", "callee"];
    for (role, message) in messages {
        let mut router = Router::new(1);
        let others: Vec<&str> = roles.into_iter().filter(|other| *other != role).collect();
        let client = join(&mut router, 0, &others);
        router.say(client, r#"[64,1,{},"p"]"#);
        let caller = join(&mut router, 0, &[]);
        router.say(caller, r#"[48,1,{},"p"]"#);
        router.hear(client);
        router.say(client, &message);
        let heard = router.hear(client);
        assert!(heard[0].contains(&format!("payload_passthru_mode as {role}")), "{heard:?}");
        assert_aborted(&heard, "wamp.error.protocol_violation", 1002);
        // Its caller is not left waiting.
        assert!(router.hear_one(caller).contains("wamp.error.canceled"));
    }
}

#[test]
fn a_callee_that_does_not_know_it_is_not_asked() {
    for places in PLACES {
        for options in ["{}", r#"{"match":"prefix"}"#] {
            let mut router = Router::new(2);
            let callee = join(&mut router, places.0, &["publisher", "subscriber", "caller"]);
            let caller = join(&mut router, places.1, &["caller"]);
            router.say(callee, &format!(r#"[64,1,{options},"p"]"#));
            router.hear(callee);
            router.say(caller, &format!(r#"[48,1,{{{ABOUT}}},"p",{OPAQUE}]"#));
            let refused = router.hear_one(caller);
            assert!(refused.starts_with(r#"[8,48,1,{},"wamp.error.feature_not_supported","#), "{refused}");
            assert!(router.hear(callee).is_empty());
            assert_eq!(router.calls_pending(), 0);
            router.say(caller, &format!(r#"[48,2,{{{ABOUT}}},"nobody",{OPAQUE}]"#));
            assert!(router.hear_one(caller).contains("wamp.error.no_such_procedure"));
        }
    }
}

#[test]
fn a_less_precise_pattern_does_not_stand_in_for_who_does_not_know_it() {
    let mut router = Router::new(2);
    let precise = join(&mut router, 0, &[]);
    let broad = join(&mut router, 1, &["callee"]);
    let caller = join(&mut router, 0, &["caller"]);
    for (callee, uri) in [(precise, "a.b"), (broad, "a")] {
        router.say(callee, &format!(r#"[64,1,{{"match":"prefix"}},"{uri}"]"#));
        router.hear_one(callee);
    }
    router.say(caller, &format!(r#"[48,1,{{{ABOUT}}},"a.b.c",{OPAQUE}]"#));
    assert!(router.hear_one(caller).contains("wamp.error.feature_not_supported"));
    assert!(router.hear(broad).is_empty() && router.hear(precise).is_empty());
    router.say(caller, &format!(r#"[48,2,{{{ABOUT}}},"a.c",{OPAQUE}]"#));
    assert!(router.hear_one(broad).contains(ABOUT));
}

#[test]
fn testaments_of_who_announced_it_may_have_it() {
    let mut router = Router::new(1);
    for (roles, expected) in [
        (&["publisher"][..], Ok(())),
        (&["subscriber", "caller", "callee"], Err("wamp.error.feature_not_supported")),
    ] {
        let member = join(&mut router, 0, roles);
        let TestamentOrder::Add { scope, mut publication } = testament(0, TestamentScope::Detached, "x")
        else {
            unreachable!("it adds one")
        };
        let passthru = Some(Passthru::in_dict(br#"{"ppt_scheme":"x"}"#));
        let payload = Payload { passthru, ..publication.payload.view() };
        publication.payload = OwnedPayload::copy_from(Serializer::Json, &payload);
        let session = router.session_id(member).expect("it is open");
        let order = TestamentOrder::Add { scope, publication };
        let order = Ask::Testament { session, realm: RealmId::new(0), order };
        let ApiAnswer::Ordered(outcome) = ask(&mut router, 0, order) else { panic!("no order") };
        assert_eq!(outcome.map_err(|refusal| refusal.error), expected);
    }
}

#[test]
fn of_several_callees_those_are_asked_that_know_it() {
    for policy in ["roundrobin", "random", "first", "last", "queue_least_loaded"] {
        let mut router = Router::new(2);
        let plain = [join(&mut router, 0, &[]), join(&mut router, 1, &[])];
        let able = join(&mut router, 1, &["callee"]);
        let caller = join(&mut router, 0, &["caller"]);
        for callee in [plain[0], able, plain[1]] {
            router.say(callee, &format!(r#"[64,1,{{"invoke":"{policy}"}},"p"]"#));
            router.hear_one(callee);
        }
        for request in 1..=6 {
            router.say(caller, &format!(r#"[48,{request},{{{ABOUT}}},"p",{OPAQUE}]"#));
            assert!(router.hear_one(able).contains(ABOUT), "{policy}");
        }
        // Another one could take it, but none that knows what it is.
        router.say(able, r#"[8,68,1,{},"wamp.error.unavailable"]"#);
        assert!(router.hear_one(caller).contains("wamp.error.no_available_callee"), "{policy}");
        assert!(plain.iter().all(|callee| router.hear(*callee).is_empty()), "{policy}");
        let second = join(&mut router, 0, &["callee"]);
        router.say(second, &format!(r#"[64,1,{{"invoke":"{policy}"}},"p"]"#));
        router.hear_one(second);
        // Who is asked next is told of the payload too.
        router.say(caller, &format!(r#"[48,7,{{{ABOUT}}},"p",{OPAQUE}]"#));
        let first = if router.hear(able).is_empty() { second } else { able };
        let (number, other) = if first == able { (7, second) } else { (1, able) };
        router.say(first, &format!(r#"[8,68,{number},{{}},"wamp.error.unavailable"]"#));
        let heard = if first == able { router.hear_one(other) } else { router.hear_one(able) };
        assert!(heard.contains(&format!("{{{ABOUT}}},{OPAQUE}]")), "{policy}: {heard}");
    }
}

#[test]
fn a_caller_that_does_not_know_it_gets_an_error_and_its_callee_lives_on() {
    for places in PLACES {
        for progress in [false, true] {
            let mut router = Router::new(2);
            let callee = join(&mut router, places.0, &["callee"]);
            let caller = join(&mut router, places.1, &["publisher", "callee"]);
            router.say(callee, r#"[64,1,{},"p"]"#);
            router.hear_one(callee);
            router.say(caller, r#"[48,1,{"receive_progress":true},"p"]"#);
            router.hear_one(callee);
            router.say(callee, &format!(r#"[70,1,{{"progress":{progress},{ABOUT}}},{OPAQUE}]"#));
            let refused = router.hear_one(caller);
            assert!(refused.starts_with(r#"[8,48,1,{},"wamp.error.feature_not_supported","#), "{refused}");
            let heard = router.hear(callee);
            let expected = if progress { vec![r#"[69,1,{"mode":"killnowait"}]"#] } else { vec![] };
            assert_eq!(heard, expected);
            assert_eq!(router.calls_pending(), 0);
            // The next call is answered.
            router.say(caller, r#"[48,2,{},"p"]"#);
            router.hear_one(callee);
            router.say(callee, "[70,2,{},[2]]");
            assert_eq!(router.hear_one(caller), "[50,2,{},[2]]");
        }
    }
}

#[test]
fn parts_of_a_call_speak_each_for_itself() {
    for places in PLACES {
        let mut router = Router::new(2);
        let callee = join(&mut router, places.0, &["callee"]);
        let caller = join(&mut router, places.1, &["caller"]);
        router.say(callee, r#"[64,1,{},"p"]"#);
        let registration = number(&router.hear_one(callee), 2);
        router.say(caller, &format!(r#"[48,1,{{"progress":true,{ABOUT}}},"p",{OPAQUE}]"#));
        router.say(caller, r#"[48,1,{"progress":true},"p",[2]]"#);
        router.say(caller, r#"[48,1,{"ppt_scheme":"x_other"},"p",[3]]"#);
        let expected = [
            format!(r#"[68,1,{registration},{{"progress":true,{ABOUT}}},{OPAQUE}]"#),
            format!(r#"[68,1,{registration},{{"progress":true}},[2]]"#),
            format!(r#"[68,1,{registration},{{"ppt_scheme":"x_other"}},[3]]"#),
        ];
        assert_eq!(router.hear(callee), expected);
    }
}

#[test]
fn a_later_part_for_a_callee_that_does_not_know_it_ends_the_call() {
    for places in PLACES {
        let mut router = Router::new(2);
        let callee = join(&mut router, places.0, &[]);
        let caller = join(&mut router, places.1, &["caller"]);
        router.say(callee, r#"[64,1,{},"p"]"#);
        router.hear_one(callee);
        router.say(caller, r#"[48,1,{"progress":true},"p",[1]]"#);
        router.say(caller, &format!(r#"[48,1,{{"progress":true,{ABOUT}}},"p",{OPAQUE}]"#));
        let refused = router.hear_one(caller);
        assert!(refused.starts_with(r#"[8,48,1,{},"wamp.error.feature_not_supported","#), "{refused}");
        assert_eq!(router.hear(callee)[1..], [r#"[69,1,{"mode":"killnowait"}]"#]);
    }
}

#[test]
fn the_routers_own_procedures_take_none() {
    let mut router = Router::new(1);
    let caller = join(&mut router, 0, &["caller"]);
    router.say(caller, &format!(r#"[48,1,{{{ABOUT}}},"wamp.session.count",{OPAQUE}]"#));
    let refused = router.hear_one(caller);
    assert!(refused.starts_with(r#"[8,48,1,{},"wamp.error.feature_not_supported","#), "{refused}");
    assert!(!router.shards[0].has_questions());
}

#[test]
fn it_crosses_serializers_and_shards() {
    for serializer in Serializer::ALL {
        for places in PLACES {
            let mut router = Router::new(2);
            let publisher = join_as(&mut router, places.0, serializer, &["publisher"]);
            let subscriber = join(&mut router, places.1, &["subscriber"]);
            router.say(subscriber, r#"[32,1,{},"a.b"]"#);
            router.hear(subscriber);
            say(&mut router, publisher, serializer, &format!(r#"[16,1,{{{ABOUT}}},"a.b",{OPAQUE}]"#));
            let heard = router.hear_one(subscriber);
            assert!(heard.ends_with(&format!(r#",{{{ABOUT}}},{OPAQUE}]"#)), "{serializer}: {heard}");
        }
    }
}

/// Version 1 has no details: its clients get the payload as it is, and call only what is plain.
#[test]
fn other_protocols_get_the_payload_without_what_is_said_of_it() {
    let mut router = Router::with_version_1(1, Limits::default(), &[], "realm1", &[], |_| Default::default());
    let publisher = join(&mut router, 0, &["publisher"]);
    let (old, _) = router.connect_version_1(0, None);
    router.hear(old);
    router.say(old, r#"[5,"http://example.com/t"]"#);
    router.say(publisher, &format!(r#"[16,1,{{{ABOUT}}},"http://example.com/t",{OPAQUE}]"#));
    assert_eq!(router.hear_one(old), r#"[8,"http://example.com/t","\u0000/wAB"]"#);
    let callee = join(&mut router, 0, &["callee"]);
    router.say(callee, r#"[64,1,{},"http://example.com/p"]"#);
    router.hear_one(callee);
    router.say(old, r#"[2,"x","http://example.com/p"]"#);
    router.hear_one(callee);
    router.say(callee, &format!(r#"[70,1,{{{ABOUT}}},{OPAQUE}]"#));
    let refused = router.hear_one(old);
    assert!(refused.starts_with(r#"[4,"x","#) && refused.contains("feature_not_supported"), "{refused}");
}
