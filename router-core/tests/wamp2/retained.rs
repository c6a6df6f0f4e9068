//! Events that are kept for those who subscribe later (WAMP, "Event Retention").

use std::collections::HashSet;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::api::{Actor, ApiPublication, Ask};
use fanwire_core::directory::RetentionLimits;
use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::{DropReason, Instant, Limits};

use crate::api::{ask, outcomes};
use crate::support::{Client, Router, number};

/// Publishes an event that is kept, and returns its id.
fn retain(router: &mut Router, client: Client, options: &str, topic: &str, args: &str) -> u64 {
    router.say(client, &format!(r#"[16,9,{{"acknowledge":true,"retain":true{options}}},"{topic}",{args}]"#));
    let heard = router.hear(client);
    let published = heard.iter().find(|message| message.starts_with("[17,9,")).expect("it is kept");
    number(published, 2)
}

/// Asks for retained events, and returns what comes behind SUBSCRIBED.
fn retained(router: &mut Router, client: Client, policy: &str, topic: &str) -> Vec<String> {
    router.say(client, &format!(r#"[32,7,{{"match":"{policy}","get_retained":true}},"{topic}"]"#));
    let mut heard = router.hear(client);
    assert!(heard[0].starts_with("[33,7,"), "{heard:?}");
    heard.remove(0);
    heard
}

fn log_in(router: &mut Router, shard: usize, name: &str, role: u16) -> Client {
    let client = router.challenged(shard, "named", name);
    let _ = router.say(client, r#"[5,"secret!!!",{}]"#);
    let request = router.question(shard);
    router.grant(shard, &request, role);
    assert!(router.hear_one(client).starts_with("[2,"));
    client
}

#[test]
fn who_asks_gets_the_newest_one_and_who_does_not_gets_none() {
    for (publisher, subscriber) in [(0, 0), (0, 1), (1, 0)] {
        let mut router = Router::new(2);
        let (alice, bob, carol) = (router.join(subscriber), router.join(publisher), router.join(subscriber));
        retain(&mut router, bob, "", "a.b", r#"["old"]"#);
        let newest = retain(&mut router, bob, "", "a.b", r#"["new"],{"k":1}"#);
        router.say(bob, r#"[16,1,{},"a.b",["not kept"]]"#);
        let heard = retained(&mut router, alice, "exact", "a.b");
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(
            heard[0].ends_with(&format!(r#",{newest},{{"retained":true}},["new"],{{"k":1}}]"#)),
            "{heard:?}"
        );
        for options in ["{}", r#"{"get_retained":false}"#] {
            router.say(carol, &format!(r#"[32,1,{options},"a.b"]"#));
            assert!(router.hear_one(carol).starts_with("[33,1,"), "nothing more");
        }
        router.say(bob, r#"[16,1,{},"a.b",["live"]]"#);
        assert!(router.hear_one(alice).ends_with(r#",{},["live"]]"#));
        assert_eq!(retained(&mut router, alice, "exact", "a.b").len(), 1, "whenever it asks");
        assert!(retained(&mut router, alice, "exact", "a.c").is_empty());
        let counters = router.shards[subscriber].counters();
        assert_eq!(counters.retained_said, 2);
    }
}

#[test]
fn one_without_arguments_ends_it() {
    let mut router = Router::new(1);
    let (alice, bob) = (router.join(0), router.join(0));
    router.say(alice, r#"[32,1,{},"a.b"]"#);
    router.hear(alice);
    for (options, nothing) in [("", ""), ("", ",[]"), ("", ",[],{}")] {
        retain(&mut router, bob, options, "a.b", "[1]");
        assert_eq!(router.directory.retained_usage().events, 1);
        router.say(bob, &format!(r#"[16,9,{{"acknowledge":true,"retain":true}},"a.b"{nothing}]"#));
        router.hear(bob);
        assert_eq!(router.directory.retained_usage().events, 0, "{nothing:?}");
        assert_eq!(router.hear(alice).len(), 2, "it is an event as any");
    }
    assert!(retained(&mut router, alice, "exact", "a.b").is_empty());
}

#[test]
fn lists_of_receivers_are_kept_with_it() {
    let mut router = Router::new(2);
    let publisher = log_in(&mut router, 0, "publisher", 0);
    let (peter, anna) = (log_in(&mut router, 1, "peter", 0), log_in(&mut router, 0, "anna", 1));
    let hears = |router: &mut Router, client| {
        router.hear(client);
        let heard = retained(router, client, "exact", "a.b");
        assert!(heard.len() <= 1, "{heard:?}");
        heard.first().map(|event| event.rsplit('[').next().expect("args").trim_end_matches(']').to_owned())
    };
    let text = |text: &str| Some(format!("\"{text}\""));
    retain(&mut router, publisher, "", "a.b", r#"["all"]"#);
    retain(&mut router, publisher, r#","eligible_authid":["peter"]"#, "a.b", r#"["peter"]"#);
    retain(&mut router, publisher, r#","eligible_authrole":["operator"]"#, "a.b", r#"["operators"]"#);
    assert_eq!((hears(&mut router, peter), hears(&mut router, anna)), (text("peter"), text("operators")));
    retain(&mut router, publisher, r#","exclude_authid":["anna"]"#, "a.b", r#"["not anna"]"#);
    assert_eq!((hears(&mut router, peter), hears(&mut router, anna)), (text("not anna"), text("operators")));
    let session = router.session_id(anna).expect("it is open").get();
    retain(&mut router, publisher, &format!(r#","exclude":[{session}]"#), "a.b", r#"["nor session"]"#);
    assert_eq!(
        (hears(&mut router, peter), hears(&mut router, anna)),
        (text("nor session"), text("operators"))
    );
    retain(&mut router, publisher, r#","eligible":[]"#, "a.b", r#"["nobody"]"#);
    assert_eq!(hears(&mut router, peter), text("nor session"));
    retain(&mut router, publisher, "", "a.b", r#"["all again"]"#);
    assert_eq!((hears(&mut router, peter), hears(&mut router, anna)), (text("all again"), text("all again")));
    assert_eq!(router.directory.retained_usage().events, 1);
}

#[test]
fn who_does_not_hear_itself_does_not_later_either() {
    let mut router = Router::new(1);
    let (alice, bob) = (router.join(0), router.join(0));
    retain(&mut router, bob, "", "a.b", r#"["of bob"]"#);
    retain(&mut router, alice, "", "a.b", r#"["of alice"]"#);
    assert!(retained(&mut router, alice, "exact", "a.b").is_empty(), "and no older one");
    assert_eq!(retained(&mut router, bob, "exact", "a.b").len(), 1);
    retain(&mut router, alice, r#","exclude_me":false"#, "a.b", r#"["of alice"]"#);
    router.hear(bob);
    assert_eq!(retained(&mut router, alice, "exact", "a.b").len(), 1);
}

#[test]
fn patterns_bring_those_of_all_topics_that_the_role_may_hear() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join_realm(1, "partly"), router.join_realm(0, "partly"));
    for topic in ["top.b.plan", "top.secret.plan", "top.a.plan", "top.a.map", "tip"] {
        retain(&mut router, bob, "", topic, r#"[1]"#);
    }
    let topics = |heard: Vec<String>| -> Vec<String> {
        let topic = |event: &String| {
            let details = event.split_once(r#"{"topic":""#).expect("a topic").1;
            assert!(details.contains(r#""retained":true"#), "{event}");
            details.split('"').next().expect("its end").to_owned()
        };
        heard.iter().map(topic).collect()
    };
    let heard = retained(&mut router, alice, "prefix", "top.");
    assert_eq!(topics(heard), ["top.a.map", "top.a.plan", "top.b.plan"]);
    assert_eq!(topics(retained(&mut router, alice, "wildcard", "top..plan")), ["top.a.plan", "top.b.plan"]);
    assert_eq!(topics(retained(&mut router, alice, "prefix", "")).len(), 4);
    assert_eq!(router.shards[1].counters().events_withheld, 3);
    let stranger = router.join(1);
    assert!(retained(&mut router, stranger, "prefix", "").is_empty(), "another realm");
}

#[test]
fn the_publisher_is_told_where_it_was() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join_realm(1, "discreet"), router.join_realm(0, "discreet"));
    let session = router.session_id(bob).expect("it is open").get();
    retain(&mut router, bob, "", "told.a", "[1]");
    retain(&mut router, bob, "", "secret.a", "[1]");
    router.vanish(bob);
    let told = retained(&mut router, alice, "exact", "told.a");
    assert!(told[0].contains(&format!(r#""publisher":{session}"#)), "{told:?}");
    let secret = retained(&mut router, alice, "exact", "secret.a");
    assert!(!secret[0].contains("publisher"), "{secret:?}");
}

/// Topics `t.0000` and so on, each with an event.
fn many(router: &mut Router, publisher: Client, count: usize) {
    for index in 0..count {
        router.say(publisher, &format!(r#"[16,9,{{"retain":true}},"t.{index:04}",["kept"]]"#));
    }
    router.settle();
}

fn by_topic(events: &[String], topic: &str) -> Vec<String> {
    events.iter().filter(|event| event.contains(&format!("\"{topic}\""))).cloned().collect()
}

#[test]
fn a_long_replay_takes_turns_and_what_comes_meanwhile_comes_behind_it() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(1), router.join(0));
    many(&mut router, bob, 3_000);
    router.exchange(1);
    router.say(alice, r#"[32,7,{"match":"prefix","get_retained":true},"t."]"#);
    let mut heard = router.hear_now(alice);
    assert!((100..2_000).contains(&heard.len()), "a turn's worth: {}", heard.len());
    // Behind where the replay stands, and before it.
    for topic in ["t.2999", "t.0001", "t.2999", "t.5000"] {
        router.say(bob, &format!(r#"[16,1,{{}},"{topic}",["live"]]"#));
    }
    router.say(bob, r#"[16,1,{"retain":true},"t.2998",["newer"]]"#);
    heard.extend(router.hear(alice));
    assert_eq!(heard.len(), 1 + 2_999 + 5, "the newer one was there before the replay came to its place");
    let kinds = |topic| -> Vec<(bool, bool)> {
        let of = by_topic(&heard, topic);
        of.iter().map(|event| (event.contains("\"retained\":true"), event.contains("[\"live\"]"))).collect()
    };
    assert_eq!(kinds("t.2999"), [(true, false), (false, true), (false, true)]);
    assert_eq!(kinds("t.0001"), [(true, false), (false, true)]);
    assert_eq!(kinds("t.5000"), [(false, true)]);
    assert_eq!(by_topic(&heard, "t.2998").len(), 1);
    let topics: HashSet<&str> =
        heard.iter().filter_map(|event| event.split("\"topic\":\"").nth(1)?.get(..6)).collect();
    assert_eq!(topics.len(), 3_001);
}

#[test]
fn a_replay_waits_for_a_slow_reader_and_ends_with_its_subscription() {
    let limits = Limits { outbox_bytes_max: 64 << 10, ..Limits::default() };
    let mut router = Router::with(1, limits);
    let (alice, bob) = (router.join(0), router.join(0));
    many(&mut router, bob, 4_000);
    router.fill(alice, true);
    router.say(alice, r#"[32,7,{"match":"prefix","get_retained":true},"t."]"#);
    for _ in 0..20 {
        router.settle();
        router.pass(Duration::from_millis(20));
    }
    assert_eq!(router.shards[0].counters().slow_consumers_cut, 0);
    assert!(router.shards[0].counters().queued < 1_000, "it waits in the directory");
    router.fill(alice, false);
    let mut heard = router.hear(alice);
    for _ in 0..50 {
        router.pass(Duration::from_millis(20));
        heard.extend(router.hear(alice));
    }
    assert_eq!(heard.len(), 4_001);
    router.fill(alice, true);
    router.say(alice, r#"[32,7,{"match":"prefix","get_retained":true},"t."]"#);
    router.settle();
    let id = number(&heard[0], 2);
    router.say(alice, &format!("[34,8,{id}]"));
    router.fill(alice, false);
    let heard = router.hear(alice);
    assert_eq!(heard.last().map(String::as_str), Some("[35,8]"));
    router.pass(Duration::from_millis(20));
    assert!(router.hear(alice).is_empty());
}

#[test]
fn an_event_that_many_replays_owe_is_written_once_for_all_of_them() {
    let limits = Limits { outbox_bytes_max: 64 << 10, ..Limits::default() };
    let mut router = Router::with(1, limits);
    let bob = router.join(0);
    many(&mut router, bob, 400);
    let long = format!(r#"["{}"]"#, "x".repeat(8 << 10));
    retain(&mut router, bob, "", "t.9999", &long);
    let clients: Vec<Client> = (0..30).map(|_| router.join(0)).collect();
    for client in &clients {
        router.fill(*client, true);
        router.say(*client, r#"[32,7,{"match":"prefix","get_retained":true},"t."]"#);
    }
    let bystander = router.join(0);
    router.say(bystander, r#"[32,7,{"match":"prefix"},"t."]"#);
    assert_eq!(router.hear(bystander).len(), 1);
    (0..20).for_each(|_| router.settle());
    let before = router.shards[0].counters().clone();
    assert!(before.retained_said < 30 * 400, "their connections are full: {}", before.retained_said);
    router.say(bob, r#"[16,1,{},"t.9999",["live"]]"#);
    let after = router.shards[0].counters();
    assert_eq!(after.retained_said - before.retained_said, 30, "all have it before the event");
    // What goes into outboxes counts at once; of a frame with lists, who hears it is known when the flush comes by.
    assert_eq!(after.matched - before.matched, 31, "nothing but the event was copied for them");
    clients.iter().for_each(|client| router.fill(*client, false));
    for _ in 0..50 {
        router.pass(Duration::from_millis(20));
        router.settle();
    }
    for client in clients {
        let heard = router.hear(client);
        assert_eq!(heard.len(), 1 + 401 + 1);
        let of: Vec<bool> = by_topic(&heard, "t.9999").iter().map(|event| event.contains("live")).collect();
        assert_eq!(of, [false, true], "the retained one first, and once");
    }
    let heard = router.hear(bystander);
    assert!(heard.len() == 1 && heard[0].contains("live"), "{heard:?}");
    assert_eq!(router.shards[0].counters().balance(), 0);
}

#[test]
fn a_receipt_says_nothing_of_what_was_pulled_forward() {
    let limits = Limits { outbox_bytes_max: 64 << 10, ..Limits::default() };
    let mut router = Router::with(1, limits);
    let (alice, bob) = (router.join(0), router.join(0));
    many(&mut router, bob, 400);
    router.fill(alice, true);
    router.say(alice, r#"[32,7,{"match":"prefix","get_retained":true},"t."]"#);
    (0..5).for_each(|_| router.settle());
    let said = router.shards[0].counters().retained_said;
    let publication = ApiPublication {
        actor: Actor { realm: RealmId::new(0), role: RoleId::new(0) },
        topic: "t.0399".into(),
        payload: OwnedPayload::checked(Serializer::Json, Some(b"[1]"), None).expect("a list"),
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: false,
        receipt: true,
        from: None,
    };
    let answer = ask(&mut router, 0, Ask::Publish(vec![publication])).recv().expect("an answer");
    assert_eq!(router.shards[0].counters().retained_said, said + 1);
    assert_eq!(outcomes(answer), [Ok(Some(1))]);
}

#[test]
fn what_is_on_its_way_does_not_come_twice() {
    for is_disturbed in [false, true] {
        let mut router = Router::new(2);
        let (publisher, other, alice) = (router.join(0), router.join(1), router.join(1));
        router.say(other, r#"[32,1,{},"a.b"]"#);
        router.hear(other);
        router.settle();
        if is_disturbed {
            router.say(publisher, r#"[16,1,{},"a.b",["first"]]"#);
        }
        router.say(publisher, r#"[16,2,{"retain":true},"a.b",["kept"]]"#);
        router.say(publisher, r#"[16,2,{"retain":true,"exclude_authrole":["nobody"]},"a.b",["newest"]]"#);
        // It is kept already, and lies in the ring.
        router.exchange(0);
        router.say(alice, r#"[32,7,{"get_retained":true},"a.b"]"#);
        let heard = router.hear(alice);
        assert!(heard[1].ends_with(r#"{"retained":true},["newest"]]"#), "{heard:?}");
        let others = router.hear(other);
        assert_eq!(others.len(), 2 + usize::from(is_disturbed), "{others:?}");
        if is_disturbed {
            // In the publisher's order the kept ones are newer than what came in between.
            let words: Vec<&str> = heard[2..].iter().filter_map(|event| event.rsplit('"').nth(1)).collect();
            assert_eq!(words, ["first", "kept", "newest"]);
        } else {
            assert_eq!(heard.len(), 2, "{heard:?}");
        }
        router.say(publisher, r#"[16,3,{"retain":true},"a.b",["later"]]"#);
        assert_eq!((router.hear(alice).len(), router.hear(other).len()), (1, 1));
        router.pass(Duration::from_secs(6));
        assert_eq!(router.shards[1].next_deadline(), None, "nothing is watched any more");
    }
}

#[test]
fn what_waits_for_a_congested_stream_is_known_for_a_twin_however_late_it_comes() {
    let limits = Limits { stream_congested_bytes: 1_000, ..Limits::default() };
    let mut router = Router::with(2, limits);
    let (publisher, other) = (router.join(0), router.join(1));
    let (alice, bystander) = (router.join(1), router.join(1));
    router.say(bystander, r#"[32,1,{},"a.b"]"#);
    router.hear(bystander);
    router.say(other, &format!(r#"[16,1,{{}},"a.b",["{}"]]"#, "x".repeat(2_000)));
    router.exchange(1);
    for (client, text) in [(publisher, "older"), (other, "newer")] {
        router.say(client, &format!(r#"[16,2,{{"acknowledge":true,"retain":true}},"a.b",["{text}"]]"#));
        router.exchange(0);
    }
    router.say(alice, r#"[32,7,{"get_retained":true},"a.b"]"#);
    // Nothing is flushed: the stream stays congested.
    for _ in 0..4 {
        router.pass(Duration::from_secs(4));
        router.exchange(1);
    }
    let words = |heard: &[String]| -> Vec<String> {
        heard.iter().filter_map(|event| event.rsplit('"').nth(1)).map(str::to_owned).collect()
    };
    assert_eq!(words(&router.hear(alice)[1..]), ["newer"]);
    let heard = words(&router.hear(bystander));
    assert_eq!(heard.len(), 3, "both come by the stream: {heard:?}");
    for _ in 0..3 {
        router.pass(Duration::from_secs(6));
        router.settle();
    }
    assert_eq!(router.shards[1].next_deadline(), None, "nothing is watched any more");
}

#[test]
fn what_a_replay_did_not_find_any_more_comes_by_the_stream() {
    let limits = Limits { outbox_bytes_max: 64 << 10, ..Limits::default() };
    let mut router = Router::with(2, limits);
    let (alice, bob) = (router.join(1), router.join(0));
    many(&mut router, bob, 400);
    router.say(alice, r#"[32,1,{"match":"prefix"},"t."]"#);
    router.hear(alice);
    router.fill(alice, true);
    router.say(bob, r#"[16,1,{"retain":true},"t.9999",["kept"]]"#);
    router.exchange(0);
    router.say(alice, r#"[32,7,{"match":"prefix","get_retained":true},"t."]"#);
    router.say(bob, r#"[16,1,{"retain":true},"t.9999"]"#);
    router.settle();
    router.fill(alice, false);
    let mut heard = Vec::new();
    for _ in 0..50 {
        router.pass(Duration::from_millis(20));
        heard.extend(router.hear(alice));
    }
    assert_eq!(heard.len(), 1 + 400 + 2);
    let of: Vec<bool> = by_topic(&heard, "t.9999").iter().map(|event| event.contains("kept")).collect();
    assert_eq!(of, [true, false]);
}

#[test]
fn a_twin_is_spared_only_where_it_came_by_a_replay() {
    let mut router = Router::new(2);
    let (publisher, alice) = (router.join(0), router.join(1));
    router.say(alice, r#"[32,1,{"match":"prefix"},"a."]"#);
    router.hear(alice);
    router.settle();
    router.say(publisher, r#"[16,2,{"retain":true},"a.b",["kept"]]"#);
    router.exchange(0);
    let heard = retained(&mut router, alice, "exact", "a.b");
    let by_pattern: Vec<_> = heard.iter().filter(|event| event.contains("\"topic\"")).collect();
    assert_eq!(by_pattern.len(), 1, "{heard:?}");
    assert_eq!(heard.iter().filter(|event| event.contains("retained")).count(), 1, "{heard:?}");
}

#[test]
fn beyond_the_limits_it_is_refused_or_published_without_being_kept() {
    let retention = RetentionLimits { events_per_realm: 2, ..RetentionLimits::default() };
    let mut router = Router::with(1, Limits { retention, ..Limits::default() });
    let (alice, bob) = (router.join(0), router.join(0));
    router.say(alice, r#"[32,1,{"match":"prefix"},"t."]"#);
    router.hear(alice);
    many(&mut router, bob, 2);
    assert_eq!(router.hear(alice).len(), 2);
    router.say(bob, r#"[16,5,{"acknowledge":true,"retain":true},"t.x",[1]]"#);
    let error = router.hear_one(bob);
    assert!(error.starts_with(r#"[8,16,5,{},"wamp.error.unavailable",["#), "{error}");
    assert!(error.contains("limits.retained_per_realm") && error.contains("not published"), "{error}");
    assert!(router.hear(alice).is_empty());
    router.say(bob, r#"[16,6,{"retain":true},"t.x",[1]]"#);
    assert_eq!(router.hear(alice).len(), 1, "who does not ask is not told, and its event goes on");
    assert!(router.hear(bob).is_empty());
    assert_eq!(retained(&mut router, alice, "exact", "t.x"), Vec::<String>::new());
    assert_eq!(router.shards[0].counters().not_retained, [2, 0, 0]);
    // What is there may be replaced.
    retain(&mut router, bob, "", "t.0000", r#"["another"]"#);
}

#[test]
fn an_older_one_does_not_pass_for_the_newest() {
    let retention = RetentionLimits { bytes_per_realm: 1_000, ..RetentionLimits::default() };
    let mut router = Router::with(1, Limits { retention, ..Limits::default() });
    let (alice, bob) = (router.join(0), router.join(0));
    retain(&mut router, bob, "", "a.b", r#"["short"]"#);
    let long = "x".repeat(2_000);
    router.say(bob, &format!(r#"[16,6,{{"retain":true}},"a.b",["{long}"]]"#));
    assert!(retained(&mut router, alice, "exact", "a.b").is_empty());
    assert_eq!(router.shards[0].counters().not_retained, [0, 1, 0]);
    assert_eq!(router.directory.retained_usage().events, 0);
}

#[test]
fn what_has_no_form_for_its_subscriber_is_dropped_and_counted() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    let payload =
        OwnedPayload::checked(Serializer::MsgPack, Some(b"\x91\xca\x7f\x80\0\0"), None).expect("a list");
    let publication = ApiPublication {
        actor: Actor { realm: RealmId::new(0), role: RoleId::new(0) },
        topic: "a.b".into(),
        payload,
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: true,
        receipt: false,
        from: None,
    };
    let answer = ask(&mut router, 0, Ask::Publish(vec![publication])).recv().expect("an answer");
    assert_eq!(outcomes(answer), [Ok(None)]);
    assert!(retained(&mut router, alice, "exact", "a.b").is_empty());
    let counters = router.shards[0].counters();
    assert_eq!(counters.dropped[DropReason::Untranslatable as usize], 1);
    assert_eq!(counters.balance(), 0);
}

#[test]
fn the_api_keeps_events_and_says_where_it_could_not() {
    let retention = RetentionLimits { events_per_realm: 1, ..RetentionLimits::default() };
    let mut router = Router::with(2, Limits { retention, ..Limits::default() });
    let alice = router.join(1);
    let publication = |topic: &str| ApiPublication {
        actor: Actor { realm: RealmId::new(0), role: RoleId::new(0) },
        topic: topic.into(),
        payload: OwnedPayload::checked(Serializer::Json, Some(b"[1]"), None).expect("a list"),
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: true,
        receipt: false,
        from: None,
    };
    let batch = Ask::Publish(vec![publication("a.b"), publication("a.c")]);
    let answer = ask(&mut router, 0, batch).recv().expect("an answer");
    assert_eq!(outcomes(answer), [Ok(None), Err("wamp.error.unavailable")]);
    let heard = retained(&mut router, alice, "prefix", "a.");
    assert!(heard.len() == 1 && heard[0].ends_with(r#"{"topic":"a.b","retained":true},[1]]"#), "{heard:?}");
}

#[test]
fn replays_that_wait_for_full_connections_do_not_keep_the_shard_busy() {
    let mut router = Router::new(1);
    let (alice, bob) = (router.join(0), router.join(0));
    let kilobytes = format!(r#"["{}"]"#, "x".repeat(16 << 10));
    for number in 0..40 {
        retain(&mut router, bob, "", &format!("a.{number}"), &kilobytes);
    }
    // She reads nothing. One asks again and again; many ask for the same.
    for number in 0..100 {
        let topic = if number < 20 { "a.".to_owned() } else { format!("a.{}", number % 10) };
        router.say(
            alice,
            &format!(r#"[32,{},{{"match":"prefix","get_retained":true}},"{topic}"]"#, number + 1),
        );
    }
    for _ in 0..10 {
        router.exchange(0);
        let at = router.shards[0].next_deadline().expect("replays wait");
        if at > Instant::START {
            return;
        }
    }
    panic!("the shard would be busy for ever");
}
