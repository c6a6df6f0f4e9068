//! Echo rooms as their clients hear them, beside WAMP clients of the same realm; the test is in the place of hooks.

use fanwire_codec::ws::Kind;
use fanwire_codec::ws::deflate::{Agreement, Direction};
use fanwire_core::echo::{EchoRooms, MessageTemplate, RoomRule};
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::message_center::MessageCenter;
use fanwire_core::question::{Denial, Grant, Subject};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Flow, Limits};

use crate::support::{Client, Router};

/// Two shards with rooms in this realm: `room.1` at `/room/1`, else `lobby`.
pub fn rooms(realm: &str, include_sender: bool, hooks: &[HookRule]) -> Router {
    Router::built(2, Limits::default(), hooks, |access| {
        let rule = |(path, topic): (&str, &str)| RoomRule::new(path, topic).expect("a rule");
        let rooms = EchoRooms {
            realm: access.realm(realm).expect("there is such a realm"),
            include_sender,
            default_name: "匿名".into(),
            template: MessageTemplate::parse("RECEIVED: {payload}").expect("a template"),
            rooms: [("/ok/{room}", "ok.{room}"), ("/room/{room}", "room.{room}"), ("*", "lobby")]
                .map(rule)
                .into(),
        };
        (MessageCenter::default(), rooms)
    })
}

fn enter(router: &mut Router, shard: usize, target: &str) -> Client {
    let (client, flow) = router.connect_to_room(shard, target, None);
    assert_eq!(flow, Flow::Continue, "{target}");
    assert!(router.hear(client).is_empty(), "nothing is said to who enters");
    client
}

const HELLO: &str = "RECEIVED: hello world!";

#[test]
fn all_in_the_room_hear_what_one_says() {
    let mut router = rooms("realm1", true, &[]);
    let a = enter(&mut router, 0, "/");
    let b = enter(&mut router, 1, "/any/path?x=1");
    let elsewhere = enter(&mut router, 1, "/room/1");
    assert_eq!(router.say(a, "hello world!"), Flow::Continue);
    for client in [a, b] {
        assert_eq!(router.hear_one(client), HELLO);
    }
    assert_eq!(router.say_bytes(b, Kind::Binary, b"\0\x01b"), Flow::Continue);
    for client in [a, b] {
        // RECEIVED:, a blank, and the three bytes.
        assert_eq!(router.hear_one(client), "52454345495645443a20000162");
    }
    assert_eq!(router.say(elsewhere, ""), Flow::Continue);
    assert_eq!(router.hear_one(elsewhere), "RECEIVED: ");
    assert!(router.hear(a).is_empty() && router.hear(b).is_empty());
    let heard = |router: &Router, shard: usize| router.shards[shard].counters().echo.messages_received;
    assert_eq!((heard(&router, 0), heard(&router, 1)), (1, 2));
}

#[test]
fn who_says_something_may_be_left_out() {
    let mut router = rooms("realm1", false, &[]);
    let (a, b) = (enter(&mut router, 0, "/"), enter(&mut router, 0, "/"));
    assert_eq!(router.say(a, "hello world!"), Flow::Continue);
    assert_eq!(router.hear_one(b), HELLO);
    assert!(router.hear(a).is_empty());
}

#[test]
fn a_room_is_a_topic_for_other_protocols() {
    let mut router = rooms("realm1", true, &[]);
    let echo = enter(&mut router, 0, "/room/7");
    let wamp = router.join(1);
    router.say(wamp, r#"[32,1,{},"room.7"]"#);
    router.hear_one(wamp);
    router.say(echo, "\"quoted\"\n");
    assert_eq!(router.hear_one(echo), "RECEIVED: \"quoted\"\n");
    assert!(router.hear_one(wamp).ends_with(r#",{},["RECEIVED: \"quoted\"\n"]]"#));
    router.say_bytes(echo, Kind::Binary, b"b");
    assert!(router.hear_one(wamp).ends_with(r#",{},["\u0000UkVDRUlWRUQ6IGI="]]"#));
    router.hear(echo);
    for (published, heard) in [
        (r#"["data from PHP"]"#, "data from PHP"),
        (r#"[{"a": 1.50}]"#, r#"{"a": 1.50}"#),
        (r#"[1,2]"#, r#"{"args":[1,2]}"#),
        (r#"["a"],{"k":null}"#, r#"{"args":["a"],"kwargs":{"k":null}}"#),
        (r#"["\u0000AAFi"]"#, "000162"),
        (r#"[""]"#, ""),
    ] {
        router.say(wamp, &format!(r#"[16,2,{{}},"room.7",{published}]"#));
        assert_eq!(router.hear_one(echo), heard, "{published}");
    }
}

#[test]
fn permissions_hold_and_are_told() {
    // Here nobody may do anything but ok.*.
    let mut router = rooms("closed", true, &[]);
    let (a, b) = (enter(&mut router, 0, "/ok/1"), enter(&mut router, 1, "/ok/1"));
    router.say(a, "x");
    assert_eq!((router.hear_one(a), router.hear_one(b)), ("RECEIVED: x".into(), "RECEIVED: x".into()));
    let (client, flow) = router.connect_to_room(0, "/", None);
    assert_eq!((flow, router.hear_one(client)), (Flow::Closing, "close 1008".to_owned()));
    // And here nobody is without a login.
    let mut router = rooms("named", true, &[]);
    let (client, flow) = router.connect_to_room(0, "/", None);
    assert_eq!((flow, router.hear_one(client)), (Flow::Closing, "close 1008".to_owned()));
}

fn hook(events: &[HookEvent]) -> HookRule {
    HookRule {
        hook: HookId::new(0),
        events: events.to_vec(),
        realms: Vec::new(),
        uri: String::new(),
        match_policy: MatchPolicy::Prefix,
        payload: true,
        scope: HookScope::default(),
    }
}

#[test]
fn hooks_are_asked_at_the_door_and_for_each_message() {
    let events = [HookEvent::Connect, HookEvent::Subscribe, HookEvent::Publish];
    let mut router = rooms("realm1", true, &[hook(&events)]);
    let (client, flow) = router.connect_to_room(0, "/", None);
    assert_eq!(flow, Flow::Pause);
    let decide = |router: &mut Router, verdict: Result<Grant, Denial>| {
        let question = router.question(0);
        router.shards[0].handle_verdict(router.now, question.verdict(verdict));
        question
    };
    assert!(matches!(decide(&mut router, Ok(Grant::default())).subject, Subject::Connect { .. }));
    let asked = decide(&mut router, Ok(Grant::default())).subject;
    assert!(matches!(&asked, Subject::Subscribe { uri, .. } if **uri == *"lobby"), "{asked:?}");
    assert!(router.hear(client).is_empty());
    assert_eq!(router.say(client, "a"), Flow::Pause);
    let asked = decide(&mut router, Ok(Grant::default())).subject;
    assert!(
        matches!(&asked, Subject::Publish { payload: Some(payload), .. }
        if payload.view().args == Some(b"\x91\xabRECEIVED: a")),
        "{asked:?}"
    );
    assert_eq!(router.hear_one(client), "RECEIVED: a");
    // What is not allowed is not said, and the client stays.
    assert_eq!(router.say(client, "b"), Flow::Pause);
    decide(&mut router, Err(Denial::Refused));
    assert!(router.hear(client).is_empty());
    assert_eq!(router.shards[0].counters().requests_refused, 1);
    // Whom a hook does not want is told so.
    for (allowed, verdict, heard) in [
        (0, Denial::Refused, "close 1008"),
        (0, Denial::Unavailable, "close 1013"),
        (1, Denial::Refused, "close 1008"),
        (1, Denial::Busy, "close 1013"),
    ] {
        let (client, flow) = router.connect_to_room(0, "/", None);
        assert_eq!(flow, Flow::Pause);
        for _ in 0..allowed {
            decide(&mut router, Ok(Grant::default()));
        }
        decide(&mut router, Err(verdict));
        assert_eq!(router.hear_one(client), heard);
    }
    assert_eq!(router.shards[0].counters().echo.messages_received, 2);
}

#[test]
fn compressed_clients_come_and_go() {
    let mut router = rooms("realm1", true, &[]);
    let direction = Direction { window_bits: 15, takeover: false };
    let agreement = Agreement { server: direction, client: direction };
    let (compressed, flow) = router.connect_to_room(0, "/", Some(&agreement));
    assert_eq!(flow, Flow::Continue);
    let plain = enter(&mut router, 0, "/");
    router.say(plain, "hello world!");
    assert_eq!(router.hear_one(plain), HELLO);
    assert_eq!(router.shards[0].counters().streams, 2);
    router.vanish(compressed);
    router.say(plain, "hello world!");
    assert_eq!(router.hear_one(plain), HELLO);
    router.vanish(plain);
    router.settle();
    let counters = router.shards[0].counters();
    assert_eq!(
        (counters.streams, counters.subscriptions, counters.sessions, counters.echo.sessions),
        (0, 0, 0, 0)
    );
}
