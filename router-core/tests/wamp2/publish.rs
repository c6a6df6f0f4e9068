use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::{Effect, Flow, Limits};

use crate::support::{Client, Router, number};

fn subscribe(router: &mut Router, client: Client, topic: &str) -> u64 {
    router.say(client, &format!(r#"[32,1,{{}},"{topic}"]"#));
    let subscribed = router.hear_one(client);
    assert!(subscribed.starts_with("[33,1,"), "{subscribed}");
    number(&subscribed, 2)
}

#[test]
fn subscribers_of_all_shards_get_the_event() {
    let mut router = Router::new(3);
    let subscribers: Vec<_> = (0..3).map(|shard| router.join(shard)).collect();
    let ids: Vec<_> = subscribers.iter().map(|client| subscribe(&mut router, *client, "a.b")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "one subscription of the router");
    let publisher = router.join(0);
    router.say(publisher, r#"[16,7,{"acknowledge":true},"a.b",[1,"two"],{"k":[3.50]}]"#);
    let published = router.hear_one(publisher);
    assert!(published.starts_with("[17,7,"), "{published}");
    let publication = number(&published, 2);
    for subscriber in subscribers {
        let event = format!(r#"[36,{},{publication},{{}},[1,"two"],{{"k":[3.50]}}]"#, ids[0]);
        assert_eq!(router.hear_one(subscriber), event, "the payload is forwarded byte for byte");
    }
}

#[test]
fn nobody_subscribed_is_still_published() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    router.say(alice, r#"[16,1,{"acknowledge":true},"a.b"]"#);
    assert!(router.hear_one(alice).starts_with("[17,1,"));
    router.say(alice, r#"[16,2,{},"a.b"]"#);
    assert!(router.hear(alice).is_empty(), "no acknowledgement was asked for");
    assert_eq!(router.directory.topic_count(), 0, "publishing creates nothing");
}

#[test]
fn the_publisher_is_excluded_unless_it_says_otherwise() {
    let mut router = Router::new(2);
    let alice = router.join(0);
    let id = subscribe(&mut router, alice, "a.b");
    router.say(alice, r#"[16,2,{},"a.b",["not mine"]]"#);
    assert!(router.hear(alice).is_empty());
    router.say(alice, r#"[16,3,{"exclude_me":false,"acknowledge":true},"a.b",["mine"]]"#);
    let heard = router.hear(alice);
    assert!(heard[0].starts_with(&format!("[36,{id},")), "the own event is before PUBLISHED: {heard:?}");
    assert!(heard[1].starts_with("[17,3,"), "{heard:?}");
}

#[test]
fn subscribing_twice_is_one_subscription_and_one_event() {
    let mut router = Router::new(1);
    let (alice, bob) = (router.join(0), router.join(0));
    assert_eq!(subscribe(&mut router, alice, "a.b"), subscribe(&mut router, alice, "a.b"));
    router.say(bob, r#"[16,1,{},"a.b"]"#);
    router.hear_one(alice);
}

#[test]
fn no_event_comes_after_unsubscribed() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    let id = subscribe(&mut router, alice, "a.b");
    router.say(bob, r#"[16,1,{},"a.b",["due"]]"#);
    router.exchange(1);
    router.exchange(0);
    router.say(alice, &format!("[34,2,{id}]"));
    router.say(bob, r#"[16,2,{},"a.b",["late"]]"#);
    let heard = router.hear(alice);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].contains("due"));
    assert_eq!(heard[1], "[35,2]");
    assert_eq!(router.directory.topic_count(), 0);
}

#[test]
fn requests_that_cannot_be_met_get_their_error() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    let long = "x".repeat(256);
    for (message, kind, uri) in [
        (r#"[34,5,999]"#.to_owned(), 34, "wamp.error.no_such_subscription"),
        (r#"[32,5,{},"a..b"]"#.to_owned(), 32, "wamp.error.invalid_uri"),
        (r#"[32,5,{},""]"#.to_owned(), 32, "wamp.error.invalid_uri"),
        (r#"[32,5,{},"a b"]"#.to_owned(), 32, "wamp.error.invalid_uri"),
        (format!(r#"[32,5,{{}},"{long}"]"#), 32, "wamp.error.invalid_uri"),
        (r#"[32,5,{"match":"prefix"},"a..b"]"#.to_owned(), 32, "wamp.error.invalid_uri"),
        (r#"[32,5,{"match":"wildcard"},"a. .b"]"#.to_owned(), 32, "wamp.error.invalid_uri"),
        (r#"[32,5,{"match":"regex"},"a"]"#.to_owned(), 32, "wamp.error.invalid_argument"),
        (r#"[32,5,{"match":7},"a"]"#.to_owned(), 32, "wamp.error.invalid_argument"),
        (r#"[16,5,{"acknowledge":true},"a#b"]"#.to_owned(), 16, "wamp.error.invalid_uri"),
        (r#"[16,5,{"acknowledge":true},"wamp.x"]"#.to_owned(), 16, "wamp.error.not_authorized"),
        (
            r#"[16,5,{"acknowledge":true,"exclude_me":"no"},"a.b"]"#.to_owned(),
            16,
            "wamp.error.invalid_argument",
        ),
    ] {
        router.say(alice, &message);
        let error = router.hear_one(alice);
        assert!(error.starts_with(&format!("[8,{kind},5,{{}},\"{uri}\",[\"")), "{message}: {error}");
    }
    router.say(alice, r#"[16,6,{},"a..b"]"#);
    assert!(router.hear(alice).is_empty(), "a publisher that wants no acknowledgement gets no error");
}

#[test]
fn permissions_are_asked_on_every_verb() {
    let mut router = Router::new(1);
    let alice = router.join_realm(0, "closed");
    for message in [
        r#"[32,1,{},"no.x"]"#,
        r#"[16,1,{"acknowledge":true},"no.x"]"#,
        r#"[48,1,{},"no.x"]"#,
        r#"[64,1,{},"no.x"]"#,
    ] {
        router.say(alice, message);
        let error = router.hear_one(alice);
        assert!(error.contains("\"wamp.error.not_authorized\""), "{message}: {error}");
        router.say(alice, &message.replace("no.x", "ok.x").replace("[48,", "[16,"));
        let done = router.hear(alice);
        assert!(done.iter().all(|message| !message.starts_with("[8,")), "{message}: {done:?}");
    }
}

#[test]
fn realms_do_not_hear_each_other() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join_realm(1, "closed"));
    subscribe(&mut router, alice, "ok.x");
    router.say(bob, r#"[16,1,{"acknowledge":true},"ok.x"]"#);
    router.hear_one(bob);
    assert!(router.hear(alice).is_empty());
}

#[test]
fn events_are_transcoded_for_the_other_serializer() {
    let mut router = Router::new(2);
    let alice = router.connect(0, Serializer::MsgPack);
    // [1, "realm1", {"roles": {"subscriber": {}}}]
    let hello = b"\x93\x01\xa6realm1\x81\xa5roles\x81\xaasubscriber\x80";
    router.say_bytes(alice, Kind::Binary, hello);
    router.hear(alice);
    router.say_bytes(alice, Kind::Binary, b"\x94\x20\x01\x80\xa3a.b");
    assert!(router.hear_one(alice).starts_with("932101"));
    let bob = router.join(1);
    router.say(bob, r#"[16,1,{},"a.b",[1,"é",null]]"#);
    let event = router.hear_one(alice);
    assert!(event.starts_with("9524"), "{event}");
    assert!(event.ends_with("809301a2c3a9c0"), "{event}");
}

#[test]
fn cbor_sessions_speak_with_json_ones() {
    let mut router = Router::new(2);
    let alice = router.connect(0, Serializer::Cbor);
    // [1, "realm1", {"roles": {"subscriber": {}}}] with lengths left open
    let hello = b"\x9f\x01\x66realm1\xbf\x65roles\xbf\x6asubscriber\xa0\xff\xff\xff";
    router.say_bytes(alice, Kind::Binary, hello);
    router.hear(alice);
    router.say_bytes(alice, Kind::Binary, b"\x84\x18\x20\x01\xf7\x63a.b");
    assert!(router.hear_one(alice).starts_with("83182101"));
    let bob = router.join(1);
    subscribe(&mut router, bob, "c.d");
    router.say(bob, r#"[16,1,{},"a.b",[1,"é",null]]"#);
    let event = router.hear_one(alice);
    assert!(event.starts_with("851824"), "{event}");
    assert!(event.ends_with("a0830162c3a9f6"), "{event}");
    router.say_bytes(alice, Kind::Binary, b"\x85\x10\x02\xa0\x63c.d\x9f\xf7\xf9\x3c\x00\x41\x01\xff");
    let event = router.hear_one(bob);
    assert!(event.ends_with(r#"{},[null,1.0,"\u0000AQ=="]]"#), "{event}");
}

#[test]
fn the_limit_of_subscriptions_is_an_error_and_not_the_end() {
    let mut router = Router::with(1, Limits { subscriptions_max: 2, ..Limits::default() });
    let alice = router.join(0);
    subscribe(&mut router, alice, "a.1");
    let second = subscribe(&mut router, alice, "a.2");
    router.say(alice, r#"[32,3,{},"a.3"]"#);
    assert!(router.hear_one(alice).contains("wamp.error.unavailable"));
    assert_eq!(subscribe(&mut router, alice, "a.2"), second, "what it has it may ask for again");
}

#[test]
fn a_full_ring_parks_an_acknowledged_publication_until_there_is_room() {
    parks_until_there_is_room(Limits { ring_capacity: 2, ..Limits::default() });
}

/// Three bytes of payload each: the third one waits.
#[test]
fn a_ring_is_full_of_bytes_too() {
    parks_until_there_is_room(Limits { ring_bytes_max: 4, ..Limits::default() });
    // A single publication goes through, however large it is.
    let mut router = Router::with(2, Limits { ring_bytes_max: 1, ..Limits::default() });
    let (alice, bob) = (router.join(0), router.join(1));
    subscribe(&mut router, bob, "a.b");
    let large = "x".repeat(1000);
    assert_eq!(router.say(alice, &format!(r#"[16,1,{{}},"a.b",["{large}"]]"#)), Flow::Continue);
    assert!(router.hear_one(bob).contains(&large));
}

fn parks_until_there_is_room(limits: Limits) {
    let mut router = Router::with(2, limits);
    let (alice, bob) = (router.join(0), router.join(1));
    subscribe(&mut router, bob, "a.b");
    let mut flow = Flow::Continue;
    let mut sent = 0;
    while flow == Flow::Continue {
        sent += 1;
        flow = router.say(alice, &format!(r#"[16,{sent},{{"acknowledge":true}},"a.b",[{sent}]]"#));
        assert!(sent < 10, "two have room");
    }
    assert_eq!(flow, Flow::Pause);
    let acknowledged = router.hear(alice);
    assert_eq!(acknowledged.len(), sent, "settling made room");
    assert!(router.effects.contains(&(0, Effect::Resume(alice.1))));
    let events = router.hear(bob);
    assert_eq!(events.len(), sent);
    for (index, event) in events.iter().enumerate() {
        assert!(event.ends_with(&format!("[{}]]", index + 1)), "in order: {events:?}");
    }
}

#[test]
fn an_unacknowledged_publication_does_not_wait_for_ever() {
    let mut router = Router::with(2, Limits { ring_capacity: 2, ..Limits::default() });
    let (alice, bob) = (router.join(0), router.join(1));
    subscribe(&mut router, bob, "a.b");
    let mut sent = 1;
    while router.say(alice, r#"[16,1,{},"a.b"]"#) == Flow::Continue {
        sent += 1;
    }
    // Shard 1 stands still: shard 0 alone has its turns.
    router.exchange(0);
    let deadline = router.shards[0].next_deadline().expect("something is parked");
    assert!(deadline.since(router.now).as_millis() <= 1);
    router.now = router.now + Limits::default().park_max;
    router.shards[0].handle_timeout(router.now);
    let counters = router.shards[0].counters();
    let dropped = counters.dropped[fanwire_core::DropReason::RingFull as usize];
    assert_eq!(dropped, 1);
    assert_eq!(router.hear(bob).len(), sent - 1);
}

#[test]
fn the_publisher_is_named_only_if_it_asks_for_it() {
    for (publisher_shard, subscriber_shard) in [(0, 0), (0, 1)] {
        let mut router = Router::new(2);
        let alice = router.connect(publisher_shard, Serializer::Json);
        router.say(alice, r#"[1,"realm1",{"roles":{"publisher":{}}}]"#);
        let session = number(&router.hear_one(alice), 1);
        let bob = router.join(subscriber_shard);
        let id = subscribe(&mut router, bob, "a.b");
        router.say(alice, r#"[16,1,{},"a.b",["nobody"]]"#);
        let event = router.hear_one(bob);
        assert!(event.starts_with(&format!("[36,{id},")) && event.ends_with(r#",{},["nobody"]]"#), "{event}");
        router.say(alice, r#"[16,2,{"disclose_me":true,"publisher":1},"a.b",["me"]]"#);
        let event = router.hear_one(bob);
        let named = format!(
            r#"{{"publisher":{session},"publisher_authid":"anonymous-{session:x}","publisher_authrole":"anonymous"}},["me"]]"#
        );
        assert!(event.ends_with(&named), "{event} does not end with {named}");
    }
}

#[test]
fn a_crowd_that_waited_for_a_stream_does_not_overrun_it() {
    let limits = Limits {
        stream_congested_bytes: 1_000,
        stream_bytes_max: 3_000,
        small_stream_members: 0,
        ..Limits::default()
    };
    let mut router = Router::with(1, limits);
    let bob = router.join(0);
    subscribe(&mut router, bob, "a.b");
    let publishers: Vec<_> = (0..8).map(|_| router.join(0)).collect();
    let body = "x".repeat(1_500);
    for publisher in &publishers {
        let publish = format!(r#"[16,1,{{"acknowledge":true}},"a.b",["{body}"]]"#);
        router.say(*publisher, &publish);
    }
    assert_eq!(router.hear(bob).len(), 8);
    for publisher in publishers {
        assert!(router.hear_one(publisher).starts_with("[17,1,"));
    }
    let dropped = router.shards[0].counters().dropped;
    assert_eq!(dropped[fanwire_core::DropReason::StreamOverflow as usize], 0);
}
