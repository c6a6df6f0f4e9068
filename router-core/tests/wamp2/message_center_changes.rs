//! Message-center clients while something changes: who they are, what is known of them, their names for a topic, or the rules.

use std::sync::Arc;

use fanwire_codec::message_center::AUTH_BYTES_MAX;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, CLOSE_KILLED, Order, SessionCursor, SessionFilter};
use fanwire_core::hooks::{HookEvent, HookRule};
use fanwire_core::message_center::{ChannelRule, MessageCenter, OnError};
use fanwire_core::question::{Denial, Grant, Subject};
use fanwire_core::{CoreConfig, Flow, Limits};

use crate::message_center::{DONE, center, granted, hook, open_center};
use crate::support::{Client, Router, realms};

const AUTH_FAILED: &str = r#"{"code":5,"msg":"Auth failed"}"#;

/// Rules for another time.
fn renew(router: &mut Router, rules: &[(&str, &str)], hooks: &[HookRule]) {
    let before = Arc::clone(router.shards[0].config());
    let rule = |(pattern, channel): &(&str, &str)| ChannelRule::new(pattern, channel, false).expect("a rule");
    let rules = rules.iter().map(rule).collect();
    let mut access = before.access.renewed(&realms()).expect("the same realms");
    access.set_hooks(hooks);
    let newer = Arc::new(CoreConfig {
        access,
        limits: before.limits.clone(),
        compression: None,
        agent: String::new(),
        message_center: MessageCenter::new(before.message_center.realm, OnError::Keep, rules),
        echo: Default::default(),
        wamp1: Default::default(),
        handlers: Vec::new(),
    });
    for shard in 0..2 {
        router.renew(shard, &newer);
    }
}

fn in_team(team: &str) -> Result<Grant, Denial> {
    granted("1", &format!(r#"{{"team":"{team}"}}"#))
}

fn event(name: &str, data: u32) -> String {
    format!(r#"{{"event":"{name}","data":{data}}}"#)
}

#[test]
fn a_user_that_changes_its_team_leaves_the_channel_of_the_old_one() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.log_in(client, in_team("red")), DONE);
    assert_eq!([router.subscribe_to(client, "@team"), router.subscribe_to(client, "@user")], [DONE, DONE]);
    assert_eq!(router.log_in(client, in_team("blue")), DONE);
    router.publish("team:red", "[1]");
    router.publish("user:1", "[2]");
    assert_eq!(router.hear(client), [event("@user", 2)]);
    assert_eq!(router.shards[0].counters().withdrawn, 1);
    assert_eq!(router.subscribe_to(client, "@team"), DONE);
    router.publish("team:blue", "[3]");
    assert_eq!(router.hear(client), [event("@team", 3)]);
    // A login of which no team is known.
    assert_eq!(router.log_in(client, granted("1", "{}")), DONE);
    router.publish("team:blue", "[4]");
    assert_eq!(router.hear(client), [""; 0]);
    assert_eq!(router.shards[0].counters().subscriptions, 1);
}

#[test]
fn an_order_to_subscribe_is_carried_out_wholly_or_not_at_all() {
    let limits = Limits { subscriptions_max: 2, ..Limits::default() };
    let mut router = Router::centered(1, limits, &[], |access| {
        MessageCenter::new(access.realm("realm1").expect("there is such a realm"), OnError::Keep, Vec::new())
    });
    let client = router.connect_to_center(0);
    let ask = |router: &mut Router, ask| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is listened to"));
        router.shards[0].retry_parked(router.now);
        router.shards[0].handle_api(router.now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
        receiver.try_recv().expect("at once")
    };
    let (filter, after) = (SessionFilter::default(), SessionCursor::default());
    let listed = ask(&mut router, Ask::Sessions { filter, after, limit: 9 });
    let ApiAnswer::Sessions { page, .. } = listed else { panic!("{listed:?}") };
    let (known_as, realm) = (page[0].client, page[0].realm);
    for (topics, is_done, held) in
        [(&["a", "b", "c"][..], false, 0), (&["a", "b"], true, 2), (&["c"], false, 2)]
    {
        let order = Order::Subscribe(topics.iter().map(|&topic| topic.into()).collect());
        let answer = ask(&mut router, Ask::Order { client: known_as, realm, order });
        assert!(matches!(&answer, ApiAnswer::Ordered(outcome) if outcome.is_ok() == is_done), "{answer:?}");
        assert_eq!(router.shards[0].counters().subscriptions, held, "{topics:?}");
    }
    router.vanish(client);
    assert_eq!(router.shards[0].counters().subscriptions, 0);
}

/// What waits behind a full socket was for the session that there was.
#[test]
fn lists_of_receivers_are_asked_about_who_it_was() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    let session = router.session_id(client).expect("it is open");
    assert_eq!(router.subscribe_to(client, "1@video"), DONE);
    let publisher = router.join_realm(0, "both");
    router.fill(client, true);
    for options in [
        format!(r#""exclude":[{}]"#, session.get()),
        r#""eligible_authid":["1001"]"#.to_owned(),
        r#""exclude_authid":["1001"]"#.to_owned(),
    ] {
        router.say(publisher, &format!(r#"[16,1,{{{options}}},"video:1",["{}"]]"#, &options[1..7]));
    }
    router.decide_login(client, granted("1001", "{}"));
    router.fill(client, false);
    assert_eq!(router.hear(client), [r#"{"event":"1@video","data":"exclud"}"#, DONE], "the last one alone");
    let counters = router.shards[0].counters();
    assert_eq!((counters.matched, counters.delivered, counters.queued), (1, 1, 0));
}

#[test]
fn a_token_is_no_matter_for_a_file_of_users() {
    let mut router = Router::centered(1, Limits::default(), &[], |access| {
        let rule = ChannelRule::new("{video}@video", "video:{video}", false).expect("a rule");
        MessageCenter::new(access.realm("both").expect("it takes tickets"), OnError::Keep, vec![rule])
    });
    let client = router.connect_to_center(0);
    assert_eq!(router.say(client, r#"{"op":"auth","token":"x"}"#), Flow::Continue);
    assert_eq!(router.hear(client), [AUTH_FAILED]);
    assert!(!router.shards[0].has_questions(), "nobody derives a key for it");
    assert_eq!(router.subscribe_to(client, "1@video"), DONE);
}

#[test]
fn s2_02_a_token_of_64_kib_is_asked_about_and_no_longer_one() {
    for (bytes, flow) in [(64 << 10, Flow::Pause), ((64 << 10) + 1, Flow::Continue)] {
        let mut router = open_center();
        let client = router.connect_to_center(0);
        let message = format!(r#"{{"op":"auth","token":"{}"}}"#, "\\\"".repeat(bytes));
        assert!(message.len() <= AUTH_BYTES_MAX + 2);
        assert_eq!(router.say(client, &message), flow);
        assert_eq!(router.shards[0].has_questions(), flow == Flow::Pause);
        if flow == Flow::Continue {
            assert_eq!(router.hear(client), [AUTH_FAILED]);
        }
    }
}

#[test]
fn guessing_tokens_ends_the_connection() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    let refuse = |router: &mut Router, count: usize| {
        for _ in 0..count {
            assert_eq!(router.log_in(client, Err(Denial::Refused)), AUTH_FAILED);
        }
    };
    refuse(&mut router, 9);
    // That nobody can be asked is not the client's fault, and one that is good begins a new count.
    router.log_in(client, Err(Denial::Unavailable));
    assert_eq!(router.log_in(client, granted("1", "{}")), DONE);
    refuse(&mut router, 9);
    router.decide_login(client, Err(Denial::Refused));
    assert_eq!(router.hear(client), [AUTH_FAILED, "close 4005"]);
    assert_eq!(router.directory.session_count(), 0);
}

#[test]
fn other_rules_look_through_a_large_shard_in_several_turns() {
    let mut router = open_center();
    let early = router.connect_to_center(0);
    let _crowd: Vec<Client> = (0..4_200).map(|_| router.connect_to_center(0)).collect();
    let late = router.connect_to_center(0);
    for client in [early, late] {
        assert_eq!(router.subscribe_to(client, "1@video"), DONE);
    }
    renew(&mut router, &[("{video}@video", "film:{video}")], &[]);
    assert_eq!(router.shards[0].counters().withdrawn, 1);
    let now = router.now;
    assert!(router.shards[0].next_deadline().is_some_and(|at| at <= now), "the rest comes at once");
    router.shards[0].handle_timeout(now);
    assert_eq!(router.shards[0].counters().withdrawn, 2);
    assert_eq!(router.shards[0].next_deadline(), None);
    router.publish("video:1", "[1]");
    assert_eq!([router.hear(early), router.hear(late)], [[""; 0], [""; 0]]);
}

/// By an operator, or because it was revoked: there is no farewell but the WebSocket's own.
#[test]
fn a_session_is_listed_and_can_be_sent_away() {
    let mut router = open_center();
    let client = router.connect_to_center(1);
    assert_eq!(router.log_in(client, granted("1001", "{}")), DONE);
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    let session = router.session_id(client).expect("it is open");
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("it is listened to"));
    let ask = Ask::Disconnect { session, reason: CLOSE_KILLED.into() };
    let now = router.now;
    router.shards[1].handle_api(now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
    assert!(matches!(receiver.try_recv(), Ok(ApiAnswer::Disconnected(true))));
    let heard = router.hear(client);
    assert!(heard.len() == 1 && heard[0].starts_with("close "), "{heard:?}");
    assert_eq!((router.directory.session_count(), router.shards[1].counters().subscriptions), (0, 0));
    assert_eq!(router.session_id(client), None);
}

/// Nobody logs in again because the operator has thought of another channel.
#[test]
fn rules_of_later_find_what_was_said_of_a_user() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    let long = "x".repeat(1_000);
    let extra = format!(r#"{{"team":"red","org":7,"long":"{long}","empty":"","more":{{"org":8}}}}"#);
    assert_eq!(router.log_in(client, granted("1", &extra)), DONE);
    assert_eq!(router.subscribe_to(client, "@team"), DONE);
    let rules =
        [("@team", "team:{ctx.org}:{ctx.team}"), ("@empty", "x:{ctx.empty}"), ("@long", "{ctx.long}")];
    renew(&mut router, &rules, &[]);
    assert_eq!(router.subscribe_to(client, "@team"), DONE);
    router.publish("team:7:red", "[1]");
    assert_eq!(router.hear(client), [event("@team", 1)]);
    for name in ["@empty", "@long"] {
        assert_eq!(router.subscribe_to(client, name), r#"{"code":8,"msg":"Permission denied"}"#, "{name}");
    }
}

/// Its only member of all shards is one all the while.
#[test]
fn another_name_for_a_topic_loses_nothing() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.log_in(client, granted("1", "{}")), DONE);
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    let [here, there] = [0, 1].map(|shard| router.join_realm(shard, "both"));
    let publish = |router: &mut Router, publisher: Client, number: u32| {
        router.say(publisher, &format!(r#"[16,1,{{}},"user:1",[{number}]]"#));
    };
    // In the ring, and in the stream.
    publish(&mut router, there, 1);
    router.exchange(1);
    publish(&mut router, here, 2);
    router.say_of(client, "subscribe", "me");
    publish(&mut router, here, 3);
    assert_eq!(router.hear(client), [event("@user", 2), DONE.to_owned(), event("me", 3), event("me", 1)]);
    assert_eq!(router.shards[0].counters().streams, 1);
}

#[test]
fn another_name_needs_no_room_for_one_more_subscription() {
    let limits = Limits { subscriptions_max: 1, ..Limits::default() };
    let mut router = center("both", OnError::Keep, limits, &[]);
    let client = router.connect_to_center(0);
    assert_eq!(router.log_in(client, granted("1", "{}")), DONE);
    assert_eq!(["@user", "me", "@user"].map(|name| router.subscribe_to(client, name)), [DONE; 3]);
}

#[test]
fn a_hook_is_asked_again_where_a_name_means_another_topic_by_then() {
    let subscribe = hook(0, HookEvent::Subscribe, "");
    let mut router = center("both", OnError::Keep, Limits::default(), std::slice::from_ref(&subscribe));
    let client = router.connect_to_center(0);
    assert_eq!(router.say(client, r#"{"op":"subscribe","channel":"1@video"}"#), Flow::Pause);
    let early = router.question(0);
    renew(&mut router, &[("{video}@video", "premium:{video}")], &[subscribe]);
    let now = router.now;
    router.shards[0].handle_verdict(now, early.verdict(Ok(Grant::default())));
    assert_eq!(router.hear(client), [""; 0]);
    let late = router.question(0);
    let Subject::Subscribe { uri, .. } = &late.subject else { panic!("{late:?}") };
    assert_eq!(&**uri, "premium:1");
    router.shards[0].handle_verdict(now, late.verdict(Ok(Grant::default())));
    assert_eq!(router.hear(client), [DONE]);
    router.publish("premium:1", "[1]");
    assert_eq!(router.hear(client), [event("1@video", 1)]);
    assert_eq!(router.shards[0].counters().message_center.messages_received, 1, "it came once");
}

#[test]
fn other_rules_withdraw_what_they_do_not_lead_to() {
    let mut router = open_center();
    let client = router.connect_to_center(0);
    assert_eq!(router.log_in(client, granted("1", "{}")), DONE);
    for channel in ["1@video", "@user", "BTCUSDT@depth"] {
        assert_eq!(router.subscribe_to(client, channel), DONE);
    }
    renew(&mut router, &[("{video}@video", "video:{video}"), ("@user", "member:{ctx.uid}")], &[]);
    assert_eq!(router.shards[0].counters().withdrawn, 2);
    for topic in ["video:1", "user:1", "member:1", "ex:BTCUSDT@depth"] {
        router.publish(topic, "[1]");
    }
    assert_eq!(router.hear(client), [r#"{"event":"1@video","data":1}"#]);
    assert_eq!(router.subscribe_to(client, "@user"), DONE);
    router.publish("member:1", "[2]");
    assert_eq!(router.hear(client), [r#"{"event":"@user","data":2}"#]);
}
