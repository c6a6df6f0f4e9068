//! The meta API as the core has it, with the test in the place of the meta desk.

use std::sync::mpsc::channel;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::Limits;
use fanwire_core::api::{
    Actor, ApiAnswer, ApiCall, ApiPublication, ApiRequest, Ask, CallFailure, Dismissal, Revocation, Revoked,
    SessionCursor, SessionFilter, TestamentOrder, TestamentScope,
};
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::ids::{RealmId, RoleId, SessionId};
use fanwire_core::meta::{EntryKind, News};
use fanwire_core::question::{Answer, Denial, Grant, Subject, Told};
use fanwire_core::uri::MatchPolicy;

use crate::support::{Client, Router, number};

pub const REALM1: u32 = 0;

pub fn ask(router: &mut Router, shard: usize, ask: Ask) -> ApiAnswer {
    let (sender, receiver) = channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("it is listened to"));
    router.shards[shard].retry_parked(router.now);
    let request = ApiRequest { ask, reply };
    router.shards[shard].handle_api(router.now, request, &|_| None).expect("it is ready");
    receiver.try_recv().expect("at once")
}

fn json(args: &str) -> OwnedPayload {
    OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None).expect("JSON")
}

/// A session of realm `named`, whose roles have no rule about `wamp.`.
fn user(router: &mut Router, shard: usize) -> Client {
    let client = router.challenged(shard, "named", "joe");
    router.say(client, r#"[5,"ticket",{}]"#);
    let question = router.question(shard);
    router.grant(shard, &question, 0);
    assert!(router.hear_one(client).starts_with("[2,"));
    client
}

#[test]
fn a_meta_procedure_is_asked_about_and_its_answer_is_the_result() {
    let mut router = Router::new(2);
    let client = router.join(1);
    let id = router.session_id(client);
    router.say(client, r#"[48,1,{},"wamp.session.count",[["a"]],{"k":1}]"#);
    let question = router.question(1);
    let Subject::Meta { caller, is_express, uri, payload, .. } = &question.subject else {
        panic!("{question:?}")
    };
    assert_eq!((*caller, *is_express, &**uri), (id, true, "wamp.session.count"));
    assert_eq!((question.hook, question.queue), (None, None));
    assert_eq!(payload.view().args, Some(&br#"[["a"]]"#[..]));
    assert_eq!(router.hear(client), Vec::<String>::new());
    let answer = Some(Box::new(Answer::Payload(json("[3]"))));
    router.shards[1].handle_verdict(router.now, question.verdict(Ok(Grant { answer, ..Grant::default() })));
    assert_eq!(router.hear_one(client), "[50,1,{},[3]]");
    router.say(client, r#"[48,2,{},"wamp.session.get",[7]]"#);
    let question = router.question(1);
    let told = Told { error: Some("wamp.error.no_such_session".into()), message: Some("none".into()) };
    router.shards[1].handle_verdict(router.now, question.verdict(Err(Denial::Told(Box::new(told)))));
    assert_eq!(router.hear_one(client), r#"[8,48,2,{},"wamp.error.no_such_session",["none"]]"#);
    assert_eq!(router.shards[1].counters().calls_pending, 0);
}

#[test]
fn what_is_no_meta_procedure_is_nobodys() {
    let mut router = Router::new(1);
    let client = router.join(0);
    for uri in ["wamp.session.counts", "wamp.session", "wamp.", "wamp.session.count.x", "xwamp.session.count"]
    {
        router.say(client, &format!(r#"[48,1,{{}},"{uri}"]"#));
        let error = router.hear_one(client);
        assert!(error.contains("wamp.error.no_such_procedure") || uri == "wamp.", "{uri}: {error}");
        assert!(!router.shards[0].has_questions(), "{uri}");
    }
}

#[test]
fn a_role_that_may_call_everything_may_not_send_others_away_unless_a_rule_says_so() {
    let mut router = Router::new(1);
    let client = user(&mut router, 0);
    for uri in ["kill", "kill_all", "kill_by_authid", "kill_by_authrole"] {
        router.say(client, &format!(r#"[48,1,{{}},"wamp.session.{uri}",[1]]"#));
        let error = router.hear_one(client);
        assert!(error.contains(r#""wamp.error.not_authorized""#), "{error}");
        assert!(error.contains(r#"begins with \"wamp.\""#), "it says what to write: {error}");
    }
    assert!(!router.shards[0].has_questions());
    router.say(client, r#"[48,2,{},"wamp.session.list"]"#);
    let question = router.question(0);
    assert!(matches!(question.subject, Subject::Meta { is_express: false, .. }), "{question:?}");
    let closed = router.join_realm(0, "closed");
    router.say(closed, r#"[48,2,{},"wamp.session.list"]"#);
    assert!(
        router.hear_one(closed).contains(r#""wamp.error.not_authorized""#),
        "its role may not call it at all"
    );
}

#[test]
fn programs_call_meta_procedures_too() {
    let mut router = Router::new(1);
    let (sender, receiver) = channel();
    let call = |router: &mut Router, realm, role, procedure: &str| {
        let sender = sender.clone();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is listened to"));
        let actor = Actor { realm: RealmId::new(realm), role: RoleId::new(role) };
        let timeout = std::time::Duration::from_secs(5);
        let call = ApiCall { actor, procedure: procedure.into(), payload: json("[]"), timeout };
        router.shards[0].retry_parked(router.now);
        let request = ApiRequest { ask: Ask::Call(call), reply };
        router.shards[0].handle_api(router.now, request, &|_| None).expect("it is ready");
    };
    call(&mut router, REALM1, 0, "wamp.session.kill_all");
    let question = router.question(0);
    assert!(matches!(question.subject, Subject::Meta { caller: None, is_express: true, .. }), "{question:?}");
    let answer = Some(Box::new(Answer::Payload(json("[0]"))));
    router.shards[0].handle_verdict(router.now, question.verdict(Ok(Grant { answer, ..Grant::default() })));
    let answer = receiver.try_recv().expect("at once");
    assert!(
        matches!(&answer, ApiAnswer::Called(Ok(payload)) if payload.view().args == Some(b"[0]")),
        "{answer:?}"
    );
    call(&mut router, 3, 0, "wamp.session.kill_all");
    let answer = receiver.try_recv().expect("at once");
    let ApiAnswer::Called(Err(CallFailure::Refused(refusal))) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.error, "wamp.error.not_authorized");
}

#[test]
fn a_hook_that_answers_everything_does_not_answer_meta_procedures() {
    let rule = HookRule {
        hook: HookId::new(0),
        events: vec![HookEvent::Rpc],
        realms: Vec::new(),
        uri: String::new(),
        match_policy: MatchPolicy::Prefix,
        payload: true,
        scope: HookScope::default(),
    };
    let mut router = Router::hooked(1, Limits::default(), &[rule]);
    let client = router.join(0);
    for (uri, hook) in [("com.a", Some(HookId::new(0))), ("wamp.session.count", None)] {
        router.say(client, &format!(r#"[48,{},{{}},"{uri}"]"#, uri.len()));
        assert_eq!(router.question(0).hook, hook, "{uri}");
    }
}

pub fn dismissal(filter: SessionFilter, except: Option<SessionId>) -> Dismissal {
    let filter = SessionFilter { realm: Some(RealmId::new(REALM1)), ..filter };
    let (reason, message) = ("com.example.out".into(), Some("go".into()));
    Dismissal { filter, except, reason, message, quietly: false, after: SessionCursor::default(), limit: 256 }
}

pub fn dismiss(router: &mut Router, shard: usize, mut dismissal: Dismissal) -> Vec<SessionId> {
    let mut all = Vec::new();
    loop {
        let answer = ask(router, shard, Ask::Dismiss(Box::new(dismissal.clone())));
        let ApiAnswer::Dismissed { sessions, next } = answer else { panic!("{answer:?}") };
        assert!(sessions.len() <= dismissal.limit);
        all.extend(sessions);
        match next {
            Some(after) => dismissal.after = after,
            None => return all,
        }
    }
}

#[test]
fn whom_a_filter_means_is_sent_away_and_nobody_else() {
    let mut router = Router::new(1);
    let clients: Vec<Client> = (0..3).map(|_| router.join(0)).collect();
    let elsewhere = router.join_realm(0, "partly");
    let ids: Vec<_> = clients.iter().map(|client| router.session_id(*client).expect("it is open")).collect();
    let by_id = |session| SessionFilter { session: Some(session), ..SessionFilter::default() };
    assert_eq!(dismiss(&mut router, 0, dismissal(by_id(ids[0]), Some(ids[0]))), [], "not the caller");
    assert_eq!(dismiss(&mut router, 0, dismissal(by_id(ids[0]), None)), [ids[0]]);
    assert_eq!(router.hear_one(clients[0]), r#"[6,{"message":"go"},"com.example.out"]"#);
    assert_eq!(dismiss(&mut router, 0, dismissal(by_id(ids[0]), None)), [], "it has been told already");
    let other = router.session_id(elsewhere).expect("it is open");
    assert_eq!(dismiss(&mut router, 0, dismissal(by_id(other), None)), [], "it is of another realm");
    let authid = Some(format!("anonymous-{:x}", ids[1].get()).into());
    let by_name = SessionFilter { authid, ..SessionFilter::default() };
    let silent = Dismissal { message: None, ..dismissal(by_name, None) };
    assert_eq!(dismiss(&mut router, 0, silent), [ids[1]]);
    assert_eq!(router.hear_one(clients[1]), r#"[6,{},"com.example.out"]"#, "no message is none");
    assert_eq!(dismiss(&mut router, 0, dismissal(SessionFilter::default(), Some(ids[2]))), []);
    assert_eq!((router.hear(clients[2]), router.hear(elsewhere)), (vec![], vec![]));
}

#[test]
fn ten_thousand_sessions_are_sent_away_in_pages() {
    let mut router = Router::new(1);
    let clients: Vec<Client> = (0..10_000)
        .map(|_| {
            let client = router.connect(0, Serializer::Json);
            router.say(client, r#"[1,"realm1",{"roles":{"publisher":{}}}]"#);
            client
        })
        .collect();
    router.settle();
    let caller = router.session_id(clients[2_000]);
    let killed = dismiss(&mut router, 0, dismissal(SessionFilter::default(), caller));
    assert_eq!(killed.len(), 9_999);
    assert!(!killed.contains(&caller.expect("it is open")));
    for (index, client) in clients.iter().enumerate() {
        let heard = router.hear_now(*client);
        let goodbyes = heard.iter().filter(|message| message.starts_with("[6,")).count();
        assert_eq!(goodbyes, usize::from(index != 2_000), "{heard:?}");
    }
    assert_eq!(router.directory.session_count(), 1);
}

/// All that a shard tells, by number.
pub fn news(router: &mut Router, shard: usize) -> Vec<(u64, News)> {
    let questions: Vec<_> = router.shards[shard].questions().collect();
    let told = questions.into_iter().map(|question| match question.subject {
        Subject::News { number, news } => (number, news),
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn who_comes_and_goes_is_told_only_if_somebody_listens() {
    let mut router = Router::new(2);
    let member = router.join(0);
    router.vanish(member);
    assert!(!router.shards[0].has_questions(), "nobody listens");
    let observer = router.join(1);
    router.say(observer, r#"[32,1,{"match":"prefix"},"wamp.session."]"#);
    let elsewhere = router.join_realm(0, "partly");
    router.vanish(elsewhere);
    assert!(!router.shards[0].has_questions(), "it is another realm");
    let member = router.join(0);
    let id = router.session_id(member).expect("it is open");
    router.vanish(member);
    let told = news(&mut router, 0);
    assert!(matches!(told[0], (1, News::Joined { session, .. }) if session == id), "{told:?}");
    assert!(matches!(told[1], (2, News::Left { session, .. }) if session == id), "{told:?}");
    assert_eq!(told.len(), 2);
    let subscription = number(&router.hear_one(observer), 2);
    router.say(observer, &format!("[34,2,{subscription}]"));
    let member = router.join(0);
    router.vanish(member);
    assert!(!router.shards[0].has_questions(), "nobody listens any more");
}

pub fn testament(realm: u32, scope: TestamentScope, word: &str) -> TestamentOrder {
    let publication = Box::new(ApiPublication {
        actor: Actor { realm: RealmId::new(realm), role: RoleId::new(0) },
        topic: "com.will".into(),
        payload: json(&format!("[\"{word}\"]")),
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: false,
        receipt: false,
        from: None,
    });
    TestamentOrder::Add { scope, publication }
}

fn words(news: &News) -> Vec<String> {
    let News::Testaments(all) = news else { panic!("{news:?}") };
    let args = |one: &ApiPublication| String::from_utf8(one.payload.view().args.expect("some").to_vec());
    all.iter().map(|one| args(one).expect("UTF-8")).collect()
}

#[test]
fn testaments_are_told_at_the_end_in_their_order() {
    let mut router = Router::new(1);
    let member = router.join(0);
    let session = router.session_id(member).expect("it is open");
    let order = |router: &mut Router, realm: u32, order| {
        let order = Ask::Testament { session, realm: RealmId::new(realm), order };
        let ApiAnswer::Ordered(outcome) = ask(router, 0, order) else { panic!("no order") };
        outcome.map_err(|refusal| refusal.error)
    };
    let (detached, destroyed) = (TestamentScope::Detached, TestamentScope::Destroyed);
    assert_eq!(order(&mut router, 2, testament(2, detached, "x")), Err("wamp.error.no_such_session"));
    for (scope, word) in [(destroyed, "c"), (detached, "gone"), (destroyed, "d")] {
        assert_eq!(order(&mut router, REALM1, testament(REALM1, scope, word)), Ok(()));
    }
    assert_eq!(order(&mut router, REALM1, TestamentOrder::Flush { scope: detached }), Ok(()));
    for word in ["a", "b"] {
        assert_eq!(order(&mut router, REALM1, testament(REALM1, detached, word)), Ok(()));
    }
    router.vanish(member);
    let told = news(&mut router, 0);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(words(&told[0].1), [r#"["a"]"#, r#"["b"]"#, r#"["c"]"#, r#"["d"]"#]);
    assert_eq!(
        order(&mut router, REALM1, testament(REALM1, detached, "late")),
        Err("wamp.error.no_such_session")
    );
}

#[test]
fn testaments_of_a_shard_are_bounded_too() {
    let mut router = Router::new(1);
    let large = "x".repeat(60 << 10);
    let mut kept = Vec::new();
    let refused = loop {
        let member = router.join(0);
        let session = router.session_id(member).expect("it is open");
        let order = testament(REALM1, TestamentScope::Detached, &large);
        match ask(&mut router, 0, Ask::Testament { session, realm: RealmId::new(REALM1), order }) {
            ApiAnswer::Ordered(Ok(())) => kept.push(member),
            ApiAnswer::Ordered(Err(refusal)) => break (member, refusal.error),
            other => panic!("{other:?}"),
        }
        assert!(kept.len() < 2_000, "there is a bound");
    };
    assert_eq!(refused.1, "wamp.error.unavailable");
    assert!(kept.len() > 1_000, "64 MiB hold so many");
    router.vanish(kept[0]);
    assert_eq!(news(&mut router, 0).len(), 1, "what was kept is published");
    let order = testament(REALM1, TestamentScope::Detached, &large);
    let session = router.session_id(refused.0).expect("it is open");
    let again = ask(&mut router, 0, Ask::Testament { session, realm: RealmId::new(REALM1), order });
    assert!(matches!(again, ApiAnswer::Ordered(Ok(()))), "there is room again: {again:?}");
}

#[test]
fn the_router_publishes_what_no_session_may() {
    let mut router = Router::new(2);
    let observer = router.join(1);
    router.say(observer, r#"[32,1,{},"wamp.session.on_join"]"#);
    assert!(router.hear_one(observer).starts_with("[33,"));
    for (role, expected) in [(RoleId::new(0), false), (RoleId::ROUTER, true)] {
        let TestamentOrder::Add { mut publication, .. } = testament(REALM1, TestamentScope::Detached, "x")
        else {
            unreachable!()
        };
        publication.actor.role = role;
        publication.topic = "wamp.session.on_join".into();
        let ApiAnswer::Published(outcome) = ask(&mut router, 0, Ask::Publish(vec![*publication])) else {
            panic!("no publication")
        };
        assert_eq!(outcome[0].is_ok(), expected, "{outcome:?}");
        assert_eq!(router.hear(observer).len(), usize::from(expected));
    }
}

#[test]
fn sessions_that_are_dismissed_quietly_leave_nothing_behind() {
    let mut router = Router::new(1);
    let observer = router.join(0);
    router.say(observer, r#"[32,1,{},"wamp.session.on_leave"]"#);
    let member = router.join(0);
    let (session, caller) = (router.session_id(member).expect("open"), router.session_id(observer));
    let order = testament(REALM1, TestamentScope::Destroyed, "x");
    ask(&mut router, 0, Ask::Testament { session, realm: RealmId::new(REALM1), order });
    let quiet = Dismissal { quietly: true, ..dismissal(SessionFilter::default(), caller) };
    assert_eq!(dismiss(&mut router, 0, quiet), [session]);
    assert!(!router.shards[0].has_questions());
    let member = router.join(0);
    router.vanish(member);
    assert_eq!(news(&mut router, 0).len(), 1, "only those were quiet");
}

#[test]
fn what_becomes_of_subscriptions_is_numbered_across_shards() {
    let mut router = Router::new(2);
    let observer = router.join(1);
    router.say(observer, r#"[32,1,{"match":"prefix"},"wamp.subscription."]"#);
    router.hear_one(observer);
    let (one, other) = (router.join(0), router.join(1));
    let mut told: Vec<(u64, News)> = Vec::new();
    for (client, message) in [
        (one, r#"[32,1,{},"com.a"]"#),
        (one, r#"[32,2,{},"com.a"]"#),
        (one, r#"[32,3,{},"wamp.session.on_join"]"#),
        (other, r#"[32,1,{},"com.a"]"#),
    ] {
        router.say(client, message);
        told.extend(news(&mut router, client.0));
    }
    router.vanish(one);
    told.extend(news(&mut router, 0));
    router.vanish(other);
    told.extend(news(&mut router, 1));
    let numbers: Vec<u64> = told.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let names = told.iter().map(|(_, news)| match news {
        News::Entry { kind: EntryKind::Subscription, change, session: Some(_), .. } => {
            change.topic(EntryKind::Subscription).rsplit('.').next().expect("a name")
        }
        other => panic!("{other:?}"),
    });
    let expected =
        ["on_create", "on_subscribe", "on_subscribe", "on_unsubscribe", "on_unsubscribe", "on_delete"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[test]
fn a_revoked_subscription_brings_nothing_more_and_only_who_understands_it_is_told() {
    let mut router = Router::new(1);
    let knowing = router.connect(0, Serializer::Json);
    let roles = r#"{"subscriber":{"features":{"subscription_revocation":true}}}"#;
    router.say(knowing, &format!(r#"[1,"realm1",{{"roles":{roles}}}]"#));
    router.hear_one(knowing);
    let (plain, publisher) = (router.join(0), router.join(0));
    let mut id = 0;
    for client in [knowing, plain] {
        router.say(client, r#"[32,1,{},"com.a"]"#);
        id = number(&router.hear_one(client), 2);
    }
    router.say(publisher, r#"[16,1,{},"com.a",["due"]]"#);
    for client in [knowing, plain] {
        let session = router.session_id(client).expect("it is open");
        let revocation = |realm| {
            let (realm, what) = (RealmId::new(realm), Revoked::Subscription(id));
            Ask::Revoke(Box::new(Revocation { session, realm, what, reason: "enough".into() }))
        };
        assert!(matches!(ask(&mut router, 0, revocation(2)), ApiAnswer::Revoked(false)), "another realm");
        assert!(matches!(ask(&mut router, 0, revocation(REALM1)), ApiAnswer::Revoked(true)));
        assert!(
            matches!(ask(&mut router, 0, revocation(REALM1)), ApiAnswer::Revoked(false)),
            "it has none any more"
        );
    }
    router.say(publisher, r#"[16,2,{},"com.a",["late"]]"#);
    let revoked = format!(r#"[35,0,{{"subscription":{id},"reason":"enough"}}]"#);
    for (client, told) in [(knowing, vec![revoked]), (plain, vec![])] {
        let heard = router.hear(client);
        assert!(heard[0].ends_with(r#"["due"]]"#), "{heard:?}");
        assert_eq!(heard[1..], told);
    }
    assert_eq!(router.shards[0].counters().withdrawn, 2);
}
