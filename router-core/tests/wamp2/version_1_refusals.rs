//! What clients of WAMP version 1 may not do, and what ends their sessions.

use fanwire_codec::ws::Kind;
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::question::{Denial, Grant, Question, Subject};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{Flow, Limits};

use crate::support::{Client, Router, realms};
use crate::version_1::{enter, router_of};

/// The close codes, by message and what is wrong with it; the words are a test of the codec's.
#[test]
fn who_breaks_the_protocol_is_closed_and_nobody_else_notices() {
    let long = "x".repeat(256);
    let prefixes: Vec<String> = (0..65).map(|n| format!(r#"[1,"{n}","u"]"#)).collect();
    let mut router = router_of(2, "realm1", &[]);
    let (bystander, _) = enter(&mut router, 1);
    router.say(bystander, r#"[5,"t"]"#);
    let prefix = format!(r#"[1,"{long}","u"]"#);
    let uri = format!(r#"[1,"p","{long}"]"#);
    let call = format!(r#"[2,"{long}","p"]"#);
    for (messages, code) in [
        (&["hello"][..], 1002),
        (&[""], 1002),
        (&["{}"], 1002),
        (&["[]"], 1002),
        (&[r#"["5","t"]"#], 1002),
        (&[r#"[9,"t"]"#], 1002),
        (&[r#"[32,1,{},"t"]"#], 1002),
        (&[r#"[1,"realm1",{"roles":{}}]"#], 1002),
        (&[r#"[0,"id",1,"me"]"#], 1002),
        (&[r#"[3,"id",1]"#], 1002),
        (&[r#"[4,"id","e","d"]"#], 1002),
        (&[r#"[8,"t",1]"#], 1002),
        (&[r#"[1,"p"]"#], 1002),
        (&[r#"[1,"p",1]"#], 1002),
        (&[prefix.as_str()], 1008),
        (&[uri.as_str()], 1008),
        (&prefixes.iter().map(String::as_str).collect::<Vec<_>>(), 1008),
        (&[r#"[2,"id"]"#], 1002),
        (&[r#"[2,1,"p"]"#], 1002),
        (&[r#"[2,"id",null]"#], 1002),
        (&[call.as_str()], 1008),
        (&["[5]"], 1002),
        (&["[5,1]"], 1002),
        (&["[6]"], 1002),
        (&["[6,{}]"], 1002),
        (&[r#"[7,"t"]"#], 1002),
        (&[r#"[7,1,1]"#], 1002),
        (&[r#"[7,"t",1,1]"#], 1002),
        (&[r#"[7,"t",1,[1]]"#], 1002),
        (&[r#"[7,"t",1,[],1]"#], 1002),
        (&[r#"[7,"t",1,true,[]]"#], 1002),
        (&[r#"[7,"t",1,[],[],1]"#], 1002),
        (&[r#"[7,"t",1"#], 1002),
    ] {
        let (client, _) = enter(&mut router, 0);
        router.say(client, r#"[5,"t"]"#);
        let flows: Vec<Flow> = messages.iter().map(|message| router.say(client, message)).collect();
        assert_eq!(flows.last(), Some(&Flow::Closing), "{messages:?}");
        assert_eq!(router.hear(client), [format!("close {code}")], "{messages:?}");
        let refused = router.shards[0].counters().violations;
        assert_eq!(router.say(client, r#"[7,"t",1]"#), Flow::Closing, "it is not heard any more");
        assert_eq!(router.shards[0].counters().violations, refused);
        router.vanish(client);
    }
    for message in [&b"\x93\x05\xa1t"[..], b"", br#"[5,"t"]"#] {
        let (client, _) = enter(&mut router, 0);
        router.say_bytes(client, Kind::Binary, message);
        assert_eq!(router.hear_one(client), "close 1003");
        router.vanish(client);
    }
    let (publisher, _) = enter(&mut router, 0);
    router.say(publisher, r#"[7,"t",1]"#);
    assert_eq!(router.hear(bystander), [r#"[8,"t",1]"#]);
    assert_eq!(router.shards[0].counters().violations, 36);
    assert_eq!(router.shards[0].counters().subscriptions, 0);
}

#[test]
fn what_is_refused_is_told_to_callers_alone() {
    // Here nobody may do anything but ok.*.
    let mut router = router_of(1, "closed", &[]);
    let (client, _) = enter(&mut router, 0);
    let (listener, _) = enter(&mut router, 0);
    router.say(listener, r#"[5,"ok.a"]"#);
    let long = "x".repeat(256);
    let mut refused = 0;
    for (message, answer) in [
        (r#"[5,"other"]"#.to_owned(), None),
        (r#"[5,"wamp.session.on_join"]"#.to_owned(), None),
        (r#"[5,"a b"]"#.to_owned(), None),
        (r#"[5,""]"#.to_owned(), None),
        (r#"[5,"a..b"]"#.to_owned(), None),
        (format!(r#"[5,"{long}"]"#), None),
        (format!(r#"[6,"{long}"]"#), None),
        (r#"[7,"other",1]"#.to_owned(), None),
        (r#"[7,"a b",1]"#.to_owned(), None),
        (r#"[7,"",1]"#.to_owned(), None),
        (r#"[7,"ok.a","\ud800"]"#.to_owned(), None),
        (r#"[2,"id","other"]"#.to_owned(), Some("wamp.error.not_authorized")),
        (r#"[2,"id","a b"]"#.to_owned(), Some("wamp.error.invalid_uri")),
        (r#"[2,"id",""]"#.to_owned(), Some("wamp.error.invalid_uri")),
        (format!(r#"[2,"id","{long}"]"#), Some("wamp.error.invalid_uri")),
        (r#"[2,"id","ok.p"]"#.to_owned(), Some("http://api.wamp.ws/error#NoSuchRPCEndpoint")),
        (r#"[2,"id","ok.p","\ud800"]"#.to_owned(), Some("wamp.error.invalid_argument")),
    ] {
        assert_eq!(router.say(client, &message), Flow::Continue, "{message}");
        refused += 1;
        assert_eq!(router.shards[0].counters().requests_refused, refused, "{message}");
        match answer {
            Some(uri) => {
                let said = router.hear_one(client);
                assert!(said.starts_with(&format!(r#"[4,"id","{uri}",""#)), "{said}");
            }
            None => assert!(router.hear(client).is_empty(), "{message}"),
        }
    }
    // It may still do what it may.
    router.say(client, r#"[7,"ok.a",1]"#);
    assert_eq!(router.hear_one(listener), r#"[8,"ok.a",1]"#);
    assert_eq!(router.shards[0].counters().subscriptions, 1);
}

#[test]
fn limits_are_those_of_every_session() {
    let limits = Limits { subscriptions_max: 2, calls_max: 1, ..Limits::default() };
    let nothing = |_: &_| Default::default();
    let mut router = Router::with_version_1(1, limits, &[], "realm1", &[], nothing);
    let (client, _) = enter(&mut router, 0);
    for topic in ["a", "b", "c"] {
        router.say(client, &format!(r#"[5,"{topic}"]"#));
    }
    let counters = router.shards[0].counters();
    assert_eq!((counters.subscriptions, counters.requests_refused), (2, 1));
    let callee = router.join(0);
    router.say(callee, r#"[64,1,{},"p"]"#);
    router.hear(callee);
    router.say(client, r#"[2,"1","p"]"#);
    router.say(client, r#"[2,"2","p"]"#);
    let said = router.hear_one(client);
    assert!(said.starts_with(r#"[4,"2","wamp.error.unavailable","1 calls of this session"#), "{said}");
}

#[test]
fn nobody_comes_in_where_nobody_may() {
    for realm in ["named", "shut", "nowhere"] {
        let mut router = router_of(1, realm, &[]);
        let (client, flow) = router.connect_version_1(0, None);
        assert_eq!((flow, router.hear_one(client)), (Flow::Closing, "close 1008".to_owned()), "{realm}");
    }
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

fn decide(router: &mut Router, verdict: Result<Grant, Denial>) -> Question {
    let question = router.question(0);
    router.shards[0].handle_verdict(router.now, question.verdict(verdict));
    question
}

/// A client that the hook has let in.
fn let_in(router: &mut Router) -> Client {
    let (client, flow) = router.connect_version_1(0, None);
    assert_eq!((flow, router.hear(client).len()), (Flow::Pause, 0));
    decide(router, Ok(Grant::default()));
    assert!(router.hear_one(client).starts_with("[0,"));
    client
}

#[test]
fn hooks_are_asked_about_version_1_too() {
    let events = [HookEvent::Connect, HookEvent::Subscribe, HookEvent::Publish];
    let nothing = |_: &_| Default::default();
    let mut router = Router::with_version_1(1, Limits::default(), &[hook(&events)], "realm1", &[], nothing);
    for (verdict, code) in [(Denial::Refused, 1008), (Denial::Unavailable, 1013), (Denial::Busy, 1013)] {
        let (client, flow) = router.connect_version_1(0, None);
        assert_eq!(flow, Flow::Pause);
        decide(&mut router, Err(verdict));
        assert_eq!(router.hear_one(client), format!("close {code}"));
    }
    let client = let_in(&mut router);
    let other = let_in(&mut router);
    router.say(client, r#"[1,"e","http://x/#"]"#);
    assert_eq!(router.say(client, r#"[5,"e:a"]"#), Flow::Pause);
    let asked = decide(&mut router, Ok(Grant::default())).subject;
    assert!(matches!(&asked, Subject::Subscribe { uri, .. } if **uri == *"http://x/#a"), "{asked:?}");
    assert_eq!(router.say(other, r#"[7,"http://x/#a", {"n":1}]"#), Flow::Pause);
    let asked = decide(&mut router, Ok(Grant::default())).subject;
    let Subject::Publish { payload: Some(payload), .. } = &asked else { panic!("{asked:?}") };
    assert_eq!(payload.view().args, Some(&br#"[{"n":1}]"#[..]));
    assert_eq!(router.hear_one(client), r#"[8,"http://x/#a",{"n":1}]"#);
    // What is not allowed is not done, and not told.
    assert_eq!(router.say(other, r#"[7,"http://x/#a",2]"#), Flow::Pause);
    decide(&mut router, Err(Denial::Refused));
    assert_eq!(router.say(other, r#"[5,"b"]"#), Flow::Pause);
    decide(&mut router, Err(Denial::Refused));
    assert!(router.hear(client).is_empty() && router.hear(other).is_empty());
    let counters = router.shards[0].counters();
    assert_eq!((counters.requests_refused, counters.subscriptions), (2, 1));
    assert_eq!(counters.wamp1.messages_received, 5);
}

#[test]
fn what_newer_permissions_forbid_ends() {
    let mut router = router_of(1, "realm1", &[]);
    let (client, _) = enter(&mut router, 0);
    let (publisher, _) = enter(&mut router, 0);
    for topic in ["http://x/#a", "b"] {
        router.say(client, &format!(r#"[5,"{topic}"]"#));
    }
    let mut realms = realms();
    let mut rule = realms[0].roles[0].permissions[0].clone();
    "http://x/#".clone_into(&mut rule.uri);
    (rule.match_policy, rule.subscribe) = (MatchPolicy::Prefix, false);
    realms[0].roles[0].permissions.push(rule);
    let newer = router.renewed(0, &realms, Limits::default());
    router.renew(0, &newer);
    for topic in ["http://x/#a", "b"] {
        router.say(publisher, &format!(r#"[7,"{topic}",1]"#));
    }
    assert_eq!(router.hear(client), [r#"[8,"b",1]"#]);
    router.say(client, r#"[5,"http://x/#a"]"#);
    let counters = router.shards[0].counters();
    assert_eq!((counters.withdrawn, counters.requests_refused, counters.subscriptions), (1, 1, 1));
}

#[test]
fn the_end_is_the_websockets_own() {
    let mut router = router_of(1, "realm1", &[]);
    let (client, _) = enter(&mut router, 0);
    let now = router.now;
    router.shards[0].shut_down(now, client.1);
    assert_eq!(router.hear_one(client), "close 1001");
}
