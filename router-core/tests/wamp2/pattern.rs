//! Subscriptions and registrations by prefix and wildcard.

use fanwire_core::{DropReason, Flow, Limits};

use crate::support::{Client, Router, number};

fn ask(router: &mut Router, client: Client, kind: u64, policy: &str, uri: &str) -> u64 {
    router.say(client, &format!(r#"[{kind},1,{{"match":"{policy}"}},"{uri}"]"#));
    let granted = router.hear_one(client);
    assert!(granted.starts_with(&format!("[{},1,", kind + 1)), "{policy} {uri}: {granted}");
    number(&granted, 2)
}

fn subscribe(router: &mut Router, client: Client, policy: &str, topic: &str) -> u64 {
    ask(router, client, 32, policy, topic)
}

fn register(router: &mut Router, client: Client, policy: &str, procedure: &str) -> u64 {
    ask(router, client, 64, policy, procedure)
}

#[test]
fn each_matching_subscription_gets_its_own_event_with_the_topic() {
    for (publisher_shard, subscriber_shard) in [(0, 0), (0, 1)] {
        let mut router = Router::new(2);
        let (alice, bob) = (router.join(subscriber_shard), router.join(publisher_shard));
        let prefix = subscribe(&mut router, alice, "prefix", "com.my");
        let wildcard = subscribe(&mut router, alice, "wildcard", "com..room");
        let exact = subscribe(&mut router, alice, "exact", "com.myapp.room");
        subscribe(&mut router, alice, "wildcard", "com..hall");
        router.say(bob, r#"[16,5,{"acknowledge":true},"com.myapp.room",[1]]"#);
        let publication = number(&router.hear_one(bob), 2);
        let events = router.hear(alice);
        let topic = r#"{"topic":"com.myapp.room"}"#;
        assert_eq!(
            events,
            [
                format!("[36,{exact},{publication},{{}},[1]]"),
                format!("[36,{prefix},{publication},{topic},[1]]"),
                format!("[36,{wildcard},{publication},{topic},[1]]"),
            ]
        );
    }
}

#[test]
fn a_pattern_is_one_subscription_of_the_router() {
    let mut router = Router::new(2);
    let (alice, bob, carol) = (router.join(0), router.join(1), router.join(0));
    let id = subscribe(&mut router, alice, "prefix", "a.");
    assert_eq!(subscribe(&mut router, bob, "prefix", "a."), id);
    assert_eq!(subscribe(&mut router, alice, "prefix", "a."), id, "twice is once");
    assert_ne!(subscribe(&mut router, bob, "exact", "a.b"), id);
    router.say(carol, r#"[16,1,{},"a.b",["x"]]"#);
    assert_eq!(router.hear(alice).len(), 1);
    assert_eq!(router.hear(bob).len(), 2);
    assert_eq!(router.directory.topic_count(), 2);
}

#[test]
fn patterns_end_with_unsubscribe_and_with_the_session() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    let id = subscribe(&mut router, alice, "wildcard", ".b");
    subscribe(&mut router, alice, "prefix", "");
    router.say(bob, r#"[16,1,{},"a.b",["both"]]"#);
    assert_eq!(router.hear(alice).len(), 2);
    router.say(alice, &format!("[34,2,{id}]"));
    assert_eq!(router.hear_one(alice), "[35,2]");
    router.say(bob, r#"[16,2,{},"a.b",["one"]]"#);
    assert_eq!(router.hear(alice).len(), 1);
    router.vanish(alice);
    router.say(bob, r#"[16,3,{"acknowledge":true},"a.b",["nobody"]]"#);
    router.hear_one(bob);
    assert_eq!(router.directory.topic_count(), 0);
}

#[test]
fn a_publisher_excludes_itself_from_patterns_too() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    subscribe(&mut router, alice, "prefix", "a");
    subscribe(&mut router, alice, "wildcard", "a.");
    router.say(alice, r#"[16,2,{},"a.b"]"#);
    assert!(router.hear(alice).is_empty());
    router.say(alice, r#"[16,3,{"exclude_me":false,"acknowledge":true},"a.b"]"#);
    let heard = router.hear(alice);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard[2].starts_with("[17,3,"), "both own events are before PUBLISHED: {heard:?}");
}

#[test]
fn a_pattern_brings_nothing_that_is_denied_by_name() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join_realm(0, "partly"), router.join_realm(1, "partly"));
    subscribe(&mut router, alice, "prefix", "top.");
    subscribe(&mut router, alice, "wildcard", "top..plan");
    for _ in 0..2 {
        router.say(bob, r#"[16,1,{},"top.secret.plan",["denied"]]"#);
        router.say(bob, r#"[16,2,{},"top.public.plan",["allowed"]]"#);
    }
    let events = router.hear(alice);
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events.iter().all(|event| event.contains("allowed")), "{events:?}");
    let counters = router.shards[0].counters();
    assert_eq!((counters.matched, counters.events_withheld), (4, 4));
    for (policy, uri) in
        [("prefix", "top.secret."), ("wildcard", "top.secret."), ("exact", "top.secret.plan")]
    {
        router.say(alice, &format!(r#"[32,7,{{"match":"{policy}"}},"{uri}"]"#));
        let error = router.hear_one(alice);
        assert!(error.starts_with(r#"[8,32,7,{},"wamp.error.not_authorized",["#), "{error}");
    }
}

#[test]
fn a_pattern_needs_a_rule_that_covers_all_of_it() {
    let mut router = Router::new(1);
    let alice = router.join_realm(0, "closed");
    for (policy, uri, is_granted) in [
        ("prefix", "ok.", true),
        ("prefix", "ok.a", true),
        ("wildcard", "ok..x", true),
        ("prefix", "ok", false),
        ("prefix", "", false),
        ("wildcard", ".x", false),
        ("wildcard", "o.", false),
    ] {
        for kind in [32, 64] {
            router.say(alice, &format!(r#"[{kind},1,{{"match":"{policy}"}},"{uri}"]"#));
            let answer = router.hear_one(alice);
            if is_granted {
                assert!(answer.starts_with(&format!("[{},1,", kind + 1)), "{policy} {uri}: {answer}");
            } else {
                assert!(answer.contains("wamp.error.not_authorized"), "{policy} {uri}: {answer}");
                assert!(answer.contains("covers all that"), "{answer}");
            }
        }
    }
}

#[test]
fn the_limits_of_patterns_are_errors_and_not_the_end() {
    let limits = Limits { patterns_per_session: 2, patterns_per_realm: 3, ..Limits::default() };
    let mut router = Router::with(1, limits);
    let (alice, bob) = (router.join(0), router.join(0));
    let first = subscribe(&mut router, alice, "prefix", "a");
    register(&mut router, alice, "wildcard", "b.");
    for (kind, uri) in [(32, "c"), (64, "c")] {
        router.say(alice, &format!(r#"[{kind},1,{{"match":"prefix"}},"{uri}"]"#));
        let error = router.hear_one(alice);
        assert!(
            error.contains("wamp.error.unavailable") && error.contains("patterns_per_session"),
            "{error}"
        );
    }
    assert_eq!(subscribe(&mut router, alice, "prefix", "a"), first, "what it has it may ask for again");
    router.say(alice, &format!("[34,2,{first}]"));
    router.hear_one(alice);
    subscribe(&mut router, alice, "prefix", "c");
    subscribe(&mut router, bob, "prefix", "d");
    subscribe(&mut router, bob, "prefix", "e");
    let carol = router.join(0);
    router.say(carol, r#"[32,1,{"match":"prefix"},"f"]"#);
    assert!(router.hear_one(carol).contains("the realm has 3 different patterns"));
    subscribe(&mut router, carol, "prefix", "e");
}

#[test]
fn a_call_goes_to_the_most_precise_registration() {
    for callee_shard in [0, 1] {
        let mut router = Router::new(2);
        let (caller, callee) = (router.join(0), router.join(callee_shard));
        let wildcard = register(&mut router, callee, "wildcard", "a..c");
        let short = register(&mut router, callee, "prefix", "a.");
        let long = register(&mut router, callee, "prefix", "a.b.");
        let exact = register(&mut router, callee, "exact", "a.b.c");
        for registration in [exact, long, short, wildcard] {
            router.say(caller, r#"[48,9,{},"a.b.c",[1]]"#);
            let invocation = router.hear_one(callee);
            let details = if registration == exact { "{}" } else { r#"{"procedure":"a.b.c"}"# };
            assert!(invocation.ends_with(&format!(",{registration},{details},[1]]")), "{invocation}");
            router.say(callee, &format!(r#"[70,{},{{}},["done"]]"#, number(&invocation, 1)));
            assert_eq!(router.hear_one(caller), r#"[50,9,{},["done"]]"#);
            router.say(callee, &format!("[66,4,{registration}]"));
            assert_eq!(router.hear_one(callee), "[67,4]");
        }
        router.say(caller, r#"[48,9,{},"a.b.c",[1]]"#);
        assert!(router.hear_one(caller).contains("no_such_procedure"));
        assert_eq!(router.directory.registration_count(), 0);
    }
}

#[test]
fn a_pattern_is_registered_once_and_another_may_lie_within() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    register(&mut router, alice, "prefix", "a.");
    router.say(bob, r#"[64,1,{"match":"prefix"},"a."]"#);
    assert!(router.hear_one(bob).contains("wamp.error.procedure_already_exists"));
    register(&mut router, bob, "prefix", "a.b");
    register(&mut router, bob, "wildcard", "a.");
}

#[test]
fn a_pattern_is_not_called_for_what_its_callee_may_not_register() {
    let mut router = Router::new(2);
    let (mallory, caller) = (router.join_realm(0, "partly"), router.join_realm(1, "partly"));
    register(&mut router, mallory, "prefix", "top.");
    register(&mut router, mallory, "wildcard", "..");
    for _ in 0..2 {
        router.say(caller, r#"[48,1,{},"top.secret.door"]"#);
        assert!(router.hear_one(caller).contains("wamp.error.no_such_procedure"));
    }
    router.say(caller, r#"[48,2,{},"top.open.door"]"#);
    assert!(router.hear_one(mallory).starts_with("[68,1,"));
    router.say(caller, r#"[48,3,{},"wamp.session.other"]"#);
    assert!(
        router.hear_one(caller).contains("wamp.error.no_such_procedure"),
        "not even a wildcard gets these"
    );
}

#[test]
fn a_full_ring_parks_a_publication_to_patterns() {
    let mut router = Router::with(2, Limits { ring_capacity: 2, ..Limits::default() });
    let (alice, bob) = (router.join(0), router.join(1));
    subscribe(&mut router, bob, "prefix", "a.");
    subscribe(&mut router, bob, "wildcard", "a.");
    let mut flow = Flow::Continue;
    let mut sent = 0;
    while flow == Flow::Continue {
        sent += 1;
        flow = router.say(alice, &format!(r#"[16,{sent},{{"acknowledge":true}},"a.{sent}",[{sent}]]"#));
        assert!(sent < 10, "two slots, and each publication takes one");
    }
    assert_eq!(router.hear(alice).len(), sent, "settling made room");
    assert_eq!(router.hear(bob).len(), 2 * sent);
}

#[test]
fn a_congested_stream_of_a_pattern_parks_publishers_of_all_its_topics() {
    let limits = Limits {
        stream_congested_bytes: 1_000,
        stream_bytes_max: 3_000,
        small_stream_members: 0,
        ..Limits::default()
    };
    let mut router = Router::with(2, limits);
    let bob = router.join(0);
    subscribe(&mut router, bob, "prefix", "a.");
    subscribe(&mut router, bob, "exact", "a.1");
    let publishers: Vec<_> = (0..8).map(|number| router.join(number % 2)).collect();
    let body = "x".repeat(1_500);
    for (number, publisher) in publishers.iter().enumerate() {
        router.say(*publisher, &format!(r#"[16,1,{{"acknowledge":true}},"a.{number}",["{body}"]]"#));
    }
    assert_eq!(router.hear(bob).len(), 9);
    for publisher in publishers {
        assert!(router.hear_one(publisher).starts_with("[17,1,"));
    }
    let dropped = router.shards[0].counters().dropped;
    assert_eq!(dropped[DropReason::StreamOverflow as usize], 0);
}
