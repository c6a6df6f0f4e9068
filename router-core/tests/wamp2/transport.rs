//! Sessions over RawSocket and in batches: the same conversations, in other frames.

use fanwire_codec::rawsocket::MaxLength;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::encoding::Framing;
use fanwire_core::{DropReason, Effect, Encoding, Flow};

use crate::support::{Client, Router, number};

fn raw(bytes: u64) -> Encoding {
    Encoding::Wamp2(Serializer::Json, Framing::Raw(MaxLength::at_most(bytes)))
}

fn batched() -> Encoding {
    Encoding::Wamp2(Serializer::Json, Framing::Batched)
}

/// As it is heard in a batch of one.
fn in_batch(text: &str) -> String {
    format!("{text}\x1e")
}

fn subscribe(router: &mut Router, client: Client, options: &str, topic: &str) -> u64 {
    router.say(client, &format!(r#"[32,1,{options},"{topic}"]"#));
    let subscribed = router.hear_one(client).trim_end_matches('\x1e').to_owned();
    assert!(subscribed.starts_with("[33,1,"), "{subscribed}");
    number(&subscribed, 2)
}

#[test]
fn an_event_reaches_each_transport_in_its_own_frames() {
    for shard in [0, 1] {
        let mut router = Router::new(2);
        let publisher = router.join(0);
        let subscribers =
            [router.join_in(shard, "realm1", raw(1 << 20)), router.join_in(shard, "realm1", raw(1 << 24))];
        let web = router.join(shard);
        let in_batches = router.connect(shard, batched());
        router.say(in_batches, r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#);
        assert!(router.hear_one(in_batches).ends_with("}]\x1e"));
        for (options, topic) in [("{}", "a.b"), (r#"{"match":"prefix"}"#, "a.")] {
            let exact = options == "{}";
            let id = subscribe(&mut router, web, options, topic);
            let all = [subscribers[0], subscribers[1], in_batches];
            assert!(all.iter().all(|client| subscribe(&mut router, *client, options, topic) == id));
            router.say(publisher, r#"[16,7,{"acknowledge":true},"a.b",["x"]]"#);
            let publication = number(&router.hear_one(publisher), 2);
            let details = if exact { "{}" } else { r#"{"topic":"a.b"}"# };
            let event = format!("[36,{id},{publication},{details},[\"x\"]]");
            for client in [web, subscribers[0], subscribers[1]] {
                assert_eq!(router.hear_one(client), event);
            }
            assert_eq!(router.hear_one(in_batches), in_batch(&event));
            for client in [web, all[0], all[1], all[2]] {
                router.say(client, &format!("[34,9,{id}]"));
                assert_eq!(router.hear_one(client).trim_end_matches('\x1e'), "[35,9]");
            }
        }
        assert_eq!(router.shards[shard].counters().streams, 0, "they end with their members");
    }
}

#[test]
fn an_event_that_is_too_long_for_one_client_reaches_the_others() {
    let mut router = Router::new(1);
    let publisher = router.join(0);
    let short = router.join_in(0, "realm1", raw(1024));
    let others = [router.join_in(0, "realm1", raw(2048)), router.join(0)];
    for client in [short, others[0], others[1]] {
        subscribe(&mut router, client, "{}", "a");
    }
    let (fits, long) = ("x".repeat(900), "y".repeat(1024));
    for text in [&fits, &long, &fits] {
        router.say(publisher, &format!(r#"[16,1,{{}},"a",["{text}"]]"#));
    }
    assert_eq!(router.hear(short).len(), 2, "the long one is dropped for it alone");
    for client in others {
        assert_eq!(router.hear(client).len(), 3);
    }
    let counters = router.shards[0].counters();
    assert_eq!(counters.dropped[DropReason::MessageTooLong as usize], 1);
    assert_eq!((counters.matched, counters.delivered), (9, 8));
}

#[test]
fn listed_receivers_are_counted_when_an_event_is_too_long_for_them() {
    let mut router = Router::new(1);
    let publisher = router.join(0);
    let short = router.join_in(0, "realm1", raw(1024));
    subscribe(&mut router, short, "{}", "a");
    let session = router.session_id(short).expect("it is open").get();
    let text = "y".repeat(1024);
    for (dropped, lists) in [
        (1, format!(r#"{{"eligible":[{session}]}}"#)),
        (2, r#"{"exclude":[5]}"#.to_owned()),
        (3, r#"{"eligible_authrole":["anonymous"]}"#.to_owned()),
        (3, r#"{"eligible_authrole":["nobody"]}"#.to_owned()),
    ] {
        router.say(publisher, &format!(r#"[16,1,{lists},"a",["{text}"]]"#));
        assert!(router.hear(short).is_empty());
        let counters = router.shards[0].counters();
        assert_eq!(counters.dropped[DropReason::MessageTooLong as usize], dropped, "{lists}");
    }
}

#[test]
fn a_call_that_is_too_long_for_either_side_is_an_error_of_the_caller() {
    for (callee_shard, caller_shard) in [(0, 0), (0, 1)] {
        let mut router = Router::new(2);
        let callee = router.join_in(callee_shard, "realm1", raw(1024));
        let caller = router.join_in(caller_shard, "realm1", raw(1024));
        router.say(callee, r#"[64,1,{},"p"]"#);
        router.hear_one(callee);
        let long = "z".repeat(1100);
        let exceeded = r#"[8,48,1,{},"wamp.error.payload_size_exceeded",["#;
        router.say(caller, &format!(r#"[48,1,{{}},"p",["{long}"]]"#));
        assert!(router.hear_one(caller).starts_with(exceeded), "the invocation");
        for (number, answer, outcome) in [
            (1, format!(r#"[70,1,{{}},["{long}"]]"#), exceeded),
            (2, format!(r#"[8,68,2,{{}},"a.b",["{long}"]]"#), exceeded),
            (3, "[70,3,{},[7]]".to_owned(), "[50,1,{},[7]]"),
        ] {
            router.say(caller, r#"[48,1,{},"p"]"#);
            let invocation = router.hear_one(callee);
            assert!(invocation.starts_with(&format!("[68,{number},")), "no number is left out: {invocation}");
            router.say(callee, &answer);
            let heard = router.hear_one(caller);
            assert!(heard.starts_with(outcome), "{heard}");
        }
        assert_eq!(router.shards[caller_shard].counters().calls_pending, 0);
    }
}

#[test]
fn a_session_whose_welcome_is_too_long_is_told_so() {
    let mut router = Router::new(1);
    let client = router.connect(0, raw(512));
    let authid = "u".repeat(300);
    let hello =
        format!(r#"[1,"named",{{"roles":{{"caller":{{}}}},"authmethods":["ticket"],"authid":"{authid}"}}]"#);
    router.say(client, &hello);
    assert_eq!(router.hear_one(client), r#"[4,"ticket",{}]"#);
    router.say(client, r#"[5,"secret",{}]"#);
    let question = router.question(0);
    router.grant(0, &question, 0);
    let heard = router.hear(client);
    let words = heard.first().map(String::as_str).unwrap_or_default();
    assert!(words.starts_with("[3,{\"message\":"), "{heard:?}");
    assert!(words.ends_with("\"wamp.error.payload_size_exceeded\"]"), "{heard:?}");
    assert_eq!(heard.len(), 1);
    assert!(router.effects.contains(&(0, Effect::Finished(client.1))), "{:?}", router.effects);
}

#[test]
fn over_rawsocket_a_session_ends_without_close_frames() {
    let mut router = Router::new(1);
    let leaving = router.join_in(0, "realm1", raw(4096));
    router.say(leaving, r#"[6,{},"wamp.close.normal"]"#);
    assert_eq!(router.hear(leaving), [r#"[6,{},"wamp.close.goodbye_and_out"]"#]);
    assert!(router.effects.contains(&(0, Effect::Finished(leaving.1))));

    let wrong = router.join_in(0, "realm1", raw(4096));
    assert_eq!(router.say(wrong, "[99]"), Flow::Closing);
    let heard = router.hear(wrong);
    assert!(heard.len() == 1 && heard[0].ends_with(r#""wamp.error.protocol_violation"]"#), "{heard:?}");

    // What a WebSocket would be told by its close frame.
    for (code, reason) in [
        (1000, "wamp.close.normal"),
        (1001, "wamp.close.system_shutdown"),
        (1002, "wamp.error.protocol_violation"),
        (1007, "wamp.error.protocol_violation"),
        (1008, "wamp.error.timeout"),
        (1009, "wamp.error.payload_size_exceeded"),
        (1011, "wamp.error.runtime_error"),
        (1013, "wamp.error.unavailable"),
    ] {
        let (silent, open) = (router.connect(0, raw(4096)), router.join_in(0, "realm1", raw(4096)));
        for client in [silent, open] {
            let now = router.now;
            router.shards[0].close(now, client.1, code, "for this reason");
            let abort = format!(r#"[3,{{"message":"for this reason"}},"{reason}"]"#);
            assert_eq!(router.hear(client), [abort]);
        }
    }
}

#[test]
fn who_was_told_goodbye_is_told_nothing_more() {
    let mut router = Router::new(1);
    let client = router.join_in(0, "realm1", raw(4096));
    let now = router.now;
    router.shards[0].shut_down(now, client.1);
    let heard = router.hear(client);
    assert!(heard.len() == 1 && heard[0].ends_with(r#""wamp.close.system_shutdown"]"#), "{heard:?}");
    router.shards[0].close(now, client.1, 1001, "the router stops");
    assert!(router.hear(client).is_empty());
}

#[test]
fn a_session_in_batches_ends_with_close_frames_as_any_websocket() {
    let mut router = Router::new(1);
    let client = router.join(0);
    let batches = router.connect(0, batched());
    router.say(batches, r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#);
    router.hear_one(batches);
    let now = router.now;
    router.shards[0].close(now, batches.1, 1008, "why");
    assert_eq!(router.hear(batches), ["close 1008"]);
    // Binary where text is due is a violation here as there.
    let batches = router.connect(0, batched());
    assert_eq!(router.say_bytes(batches, Kind::Binary, b"[]"), Flow::Closing);
    assert_eq!(router.hear(batches), ["close 1003"]);
    assert!(router.session_id(client).is_some());
}
