//! Requests by API among sessions: what is asked of a shard without being one.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::api::{
    Actor, ApiAnswer, ApiCall, ApiPublication, ApiRequest, Ask, CLOSE_KILLED, CallFailure, Readiness,
    SessionCursor, SessionFilter,
};
use fanwire_core::ids::{RealmId, RoleId, SessionId, ShardId};
use fanwire_core::login::LoginMethod;
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{DropReason, Effect, Limits, Outlet};

use crate::support::{Client, Router, number};

const REALM1: u32 = 0;
const CLOSED: u32 = 1;

fn payload(json: &str) -> OwnedPayload {
    OwnedPayload::checked(Serializer::Json, Some(json.as_bytes()), None).expect("it is a list")
}

fn actor(realm: u32) -> Actor {
    Actor { realm: RealmId::new(realm), role: RoleId::new(0) }
}

fn publication(realm: u32, topic: &str, json: &str, receipt: bool) -> ApiPublication {
    let receivers = ReceiverLists::default();
    ApiPublication {
        actor: actor(realm),
        topic: topic.into(),
        payload: payload(json),
        plain: false,
        receivers,
        conflate_key: None,
        retain: false,
        receipt,
        from: None,
    }
}

fn call(procedure: &str, json: &str) -> Ask {
    let timeout = Duration::from_secs(5);
    Ask::Call(ApiCall { actor: actor(REALM1), procedure: procedure.into(), payload: payload(json), timeout })
}

fn peer(outlet: Outlet) -> Option<SocketAddr> {
    Some(([10, 0, 0, 1], outlet.0 as u16 + 1).into())
}

/// Hands the request over; the answer comes to the receiver.
pub fn ask(router: &mut Router, shard: usize, ask: Ask) -> Receiver<ApiAnswer> {
    let (sender, receiver) = channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("the test listens"));
    router.exchange(shard);
    let now = router.now;
    router.shards[shard].handle_api(now, ApiRequest { ask, reply }, &peer).expect("it is ready");
    receiver
}

/// For each publication whom it matched, or the error.
pub fn outcomes(answer: ApiAnswer) -> Vec<Result<Option<u64>, &'static str>> {
    let ApiAnswer::Published(outcomes) = answer else { panic!("{answer:?}") };
    let outcome = |outcome: Result<fanwire_core::api::Receipt, fanwire_core::api::ApiRefusal>| {
        outcome.map(|receipt| receipt.matched).map_err(|refusal| refusal.error)
    };
    outcomes.into_iter().map(outcome).collect()
}

fn subscribe(router: &mut Router, shard: usize, topic: &str) -> Client {
    let client = router.join(shard);
    router.say(client, &format!(r#"[32,1,{{}},"{topic}"]"#));
    assert!(router.hear_one(client).starts_with("[33,1,"));
    client
}

fn session_of(router: &mut Router, shard: usize) -> (Client, SessionId) {
    let client = router.connect(shard, Serializer::Json);
    router.say(client, r#"[1,"realm1",{"roles":{"publisher":{}}}]"#);
    let id = number(&router.hear_one(client), 1);
    (client, SessionId::new(id).expect("an id"))
}

#[test]
fn a_batch_of_publications_is_delivered_in_its_order_and_each_has_its_outcome() {
    let mut router = Router::new(2);
    let here = subscribe(&mut router, 0, "a.b");
    let there = subscribe(&mut router, 1, "a.b");
    let batch = vec![
        publication(REALM1, "a.b", "[1]", false),
        publication(REALM1, "a..b", "[2]", false),
        publication(CLOSED, "a.b", "[3]", false),
        publication(REALM1, "wamp.own", "[4]", false),
        publication(REALM1, "nobody.is.there", "[5]", true),
        publication(REALM1, "a.b", "[6]", false),
    ];
    let answer = ask(&mut router, 0, Ask::Publish(batch)).try_recv().expect("it is in the rings");
    let expected = [
        Ok(None),
        Err("wamp.error.invalid_uri"),
        Err("wamp.error.not_authorized"),
        Err("wamp.error.not_authorized"),
        Ok(Some(0)),
        Ok(None),
    ];
    assert_eq!(outcomes(answer), expected);
    for client in [here, there] {
        let heard = router.hear(client);
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(heard[0].ends_with(",{},[1]]") && heard[1].ends_with(",{},[6]]"), "{heard:?}");
    }
}

#[test]
fn a_receipt_comes_when_all_shards_have_said_whom_they_matched() {
    let mut router = Router::new(3);
    let _clients: Vec<_> = (0..6).map(|index| subscribe(&mut router, index % 3, "a.b")).collect();
    let pattern = router.join(2);
    router.say(pattern, r#"[32,1,{"match":"prefix"},"a"]"#);
    router.hear_one(pattern);
    let batch = (0..3).map(|number| publication(REALM1, "a.b", "[1]", number != 1)).collect();
    let answer = ask(&mut router, 0, Ask::Publish(batch));
    assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Empty, "the others have not heard of it");
    // Meanwhile others are served.
    let other = ask(&mut router, 0, Ask::Publish(vec![publication(REALM1, "x", "[]", false)]));
    assert_eq!(outcomes(other.try_recv().expect("nobody is interested")), [Ok(None)]);
    router.settle();
    let expected = [Ok(Some(7)), Ok(None), Ok(Some(7))];
    assert_eq!(outcomes(answer.try_recv().expect("all have said it")), expected);
}

#[test]
fn a_receipt_that_is_late_is_unknown() {
    let mut router = Router::new(2);
    let _here = subscribe(&mut router, 0, "a.b");
    let _there = subscribe(&mut router, 1, "a.b");
    let answer = ask(&mut router, 0, Ask::Publish(vec![publication(REALM1, "a.b", "[1]", true)]));
    // It is in the ring, and the other shard does nothing.
    router.exchange(0);
    let deadline = router.shards[0].next_deadline().expect("it does not wait for ever");
    router.now = deadline;
    router.shards[0].handle_timeout(deadline);
    assert_eq!(outcomes(answer.try_recv().expect("its time is over")), [Ok(None)]);
    // The late word of the other shard means nothing to anybody.
    router.settle();
    assert_eq!(router.shards[0].next_deadline(), None);
}

#[test]
fn a_shard_that_ends_says_what_it_knows_of_each_publication() {
    let mut router = Router::with(2, Limits { ring_capacity: 4, ..Limits::default() });
    let there = subscribe(&mut router, 1, "a.b");
    let batch = (0..40).map(|_| publication(REALM1, "a.b", "[1]", true)).collect();
    let answer = ask(&mut router, 0, Ask::Publish(batch));
    // The other shard takes what is in its ring, and says whom it matched; and then no more.
    router.exchange(0);
    router.exchange(1);
    router.exchange(0);
    assert!(router.shards[0].is_publishing());
    assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Empty);
    router.shards[0].give_up_publishing();
    assert!(!router.shards[0].is_publishing());
    let outcomes = outcomes(answer.try_recv().expect("nobody will say more"));
    let of = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (known, unknown, refused) = (of(Ok(Some(1))), of(Ok(None)), of(Err("wamp.error.unavailable")));
    assert!(known > 0 && unknown > 0 && refused > 0, "{outcomes:?}");
    assert_eq!(known + unknown + refused, 40);
    // If they go on all the same, what is in the ring is heard, and the one that waited for room; of the rest nobody hears.
    let (heard, offered) = (router.hear(there).len(), known + unknown);
    assert!((offered..=offered + 1).contains(&heard), "{heard} heard of {offered}");
}

#[test]
fn what_the_router_tells_waits_for_no_subscriber_that_asks_for_time() {
    let mut router = Router::new(2);
    let there = subscribe(&mut router, 1, "a.b");
    let other = subscribe(&mut router, 1, "a.c");
    let topic = router
        .directory
        .lookup(RealmId::new(REALM1), MatchPolicy::Exact, "a.b")
        .expect("somebody is subscribed");
    let shard = ShardId::new(1).expect("a shard");
    topic.set_congested(shard, true);
    topic.set_paused(shard, true);
    let batch = || ["a.b", "a.c"].map(|topic| publication(REALM1, topic, "[1]", false)).into();
    let announced = ask(&mut router, 0, Ask::Announce(batch()));
    router.turns(2);
    let outcomes = outcomes(announced.try_recv().expect("it does not wait"));
    assert!(outcomes[0].is_err() && outcomes[1].is_ok(), "{outcomes:?}");
    assert!(router.hear(there).is_empty());
    assert_eq!(router.hear(other).len(), 1, "what is behind it is published");
    // A program that publishes gives it as long as it does to others.
    let published = ask(&mut router, 0, Ask::Publish(batch()));
    router.turns(2);
    assert_eq!(published.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!(router.shards[0].readiness(), Readiness::Later);
    topic.set_congested(shard, false);
    topic.set_paused(shard, false);
    assert_eq!((router.hear(there).len(), router.hear(other).len()), (1, 1));
}

#[test]
fn publications_of_a_batch_wait_for_room_and_keep_their_order() {
    let mut router = Router::with(2, Limits { ring_capacity: 4, ..Limits::default() });
    let there = subscribe(&mut router, 1, "a.b");
    let batch = (0..40).map(|number| publication(REALM1, "a.b", &format!("[{number}]"), true)).collect();
    let answer = ask(&mut router, 0, Ask::Publish(batch));
    assert_eq!(router.shards[0].readiness(), Readiness::Later);
    let refused = router.shards[0].handle_api(
        router.now,
        ApiRequest { ask: call("x", "[]"), reply: Box::new(|_| panic!("it was refused")) },
        &peer,
    );
    assert!(refused.is_err(), "nothing passes it");
    let heard = router.hear(there);
    let expected: Vec<_> = (0..40).map(|number| format!(",{{}},[{number}]]")).collect();
    assert!(heard.iter().zip(&expected).all(|(heard, end)| heard.ends_with(end)), "{heard:?}");
    assert_eq!(heard.len(), 40);
    assert_eq!(outcomes(answer.try_recv().expect("all is done")), vec![Ok(Some(1)); 40]);
    assert_eq!(router.shards[0].counters().dropped.iter().sum::<u64>(), 0);
}

#[test]
fn what_finds_no_room_in_time_is_refused_and_counted() {
    let mut router = Router::with(2, Limits { ring_capacity: 4, ..Limits::default() });
    let _there = subscribe(&mut router, 1, "a.b");
    let batch = (0..5).map(|_| publication(REALM1, "a.b", "[1]", false)).collect();
    let answer = ask(&mut router, 0, Ask::Publish(batch));
    for _ in 0..10 {
        // The other shard does nothing.
        router.exchange(0);
        router.now = router.now + Duration::from_millis(60);
    }
    let outcomes = outcomes(answer.try_recv().expect("it does not wait for ever"));
    let refused = outcomes.iter().filter(|outcome| **outcome == Err("wamp.error.unavailable")).count();
    assert!(refused > 0 && refused < 5, "{outcomes:?}");
    assert_eq!(router.shards[0].counters().dropped.iter().sum::<u64>(), refused as u64);
}

#[test]
fn lists_of_receivers_hold_for_publications_by_api_too() {
    let mut router = Router::new(2);
    let (alice, id) = session_of(&mut router, 1);
    router.say(alice, r#"[32,1,{},"a.b"]"#);
    router.hear_one(alice);
    let other = subscribe(&mut router, 1, "a.b");
    let receivers = ReceiverLists { exclude: Some(vec![id.get()]), ..ReceiverLists::default() };
    let publication = ApiPublication { receivers, ..publication(REALM1, "a.b", "[1]", true) };
    let answer = ask(&mut router, 0, Ask::Publish(vec![publication]));
    assert_eq!(outcomes(answer.try_recv().expect("it waits for nobody")), [Ok(None)]);
    assert_eq!(router.hear(alice), [""; 0]);
    assert!(router.hear_one(other).ends_with(",{},[1]]"));
}

#[test]
fn a_call_has_the_callees_answer_in_json() {
    for (callee_shard, caller_shard) in [(0, 0), (1, 0)] {
        let mut router = Router::new(2);
        let callee = router.join(callee_shard);
        router.say(callee, r#"[64,1,{},"add"]"#);
        router.hear_one(callee);
        let answer = ask(&mut router, caller_shard, call("add", "[1,2]"));
        assert!(router.hear_one(callee).ends_with(",{},[1,2]]"));
        router.say(callee, r#"[70,1,{},[3],{"carry":0}]"#);
        router.settle();
        let Ok(ApiAnswer::Called(Ok(payload))) = answer.try_recv() else { panic!("it has a result") };
        let view = payload.view();
        assert_eq!((view.args, view.kwargs), (Some(&b"[3]"[..]), Some(&br#"{"carry":0}"#[..])));

        let answer = ask(&mut router, caller_shard, call("add", "[]"));
        router.hear_one(callee);
        router.say(callee, r#"[8,68,2,{},"math.error",["no"]]"#);
        router.settle();
        let Ok(ApiAnswer::Called(Err(CallFailure::Callee { error, payload }))) = answer.try_recv() else {
            panic!("it has an error")
        };
        assert_eq!((&*error, payload.view().args), ("math.error", Some(&br#"["no"]"#[..])));

        let answer = ask(&mut router, caller_shard, call("add", "[]"));
        router.settle();
        router.vanish(callee);
        router.settle();
        let Ok(ApiAnswer::Called(Err(CallFailure::Refused(refusal)))) = answer.try_recv() else {
            panic!("its callee left")
        };
        assert_eq!(refusal.error, "wamp.error.canceled");
        assert_eq!(router.shards[caller_shard].counters().calls_pending, 0);
    }
}

/// A session's publication waits for it; one request by API would hold up all others.
#[test]
fn requests_by_api_do_not_wait_for_a_slow_subscriber_that_asks_for_time() {
    let mut router = Router::new(1);
    subscribe(&mut router, 0, "a.b");
    let publisher = router.join(0);
    let topic =
        router.directory.lookup(RealmId::new(REALM1), MatchPolicy::Exact, "a.b").expect("it is there");
    let shard = ShardId::new(0).expect("it is");
    topic.set_congested(shard, true);
    topic.set_paused(shard, true);
    router.say(publisher, r#"[16,1,{},"a.b"]"#);
    let answer = ask(&mut router, 0, Ask::Publish(vec![publication(REALM1, "a.b", "[1]", false)]));
    let dropped = |router: &Router| router.shards[0].counters().dropped[DropReason::StreamCongested as usize];
    let Limits { park_congested_max, pause_max, .. } = Limits::default();
    assert!(park_congested_max + Duration::from_millis(1) < pause_max);
    router.now = router.now + park_congested_max + Duration::from_millis(1);
    router.exchange(0);
    let outcome = outcomes(answer.try_recv().expect("it was given up"));
    assert!(matches!(outcome[..], [Err(_)]), "{outcome:?}");
    assert_eq!(dropped(&router), 1, "the session's waits on");
    router.now = router.now + pause_max;
    router.exchange(0);
    assert_eq!(dropped(&router), 2);
}

#[test]
fn a_call_that_nobody_answers_is_given_up_and_its_late_answer_is_nobodys() {
    let mut router = Router::new(2);
    let callee = router.join(1);
    router.say(callee, r#"[64,1,{},"slow"]"#);
    router.hear_one(callee);
    let answer = ask(&mut router, 0, call("slow", "[]"));
    router.hear_one(callee);
    router.now = router.now + Duration::from_secs(5);
    let now = router.now;
    router.shards[0].handle_timeout(now);
    assert!(matches!(answer.try_recv(), Ok(ApiAnswer::Called(Err(CallFailure::TimedOut)))));
    router.say(callee, "[70,1,{},[]]");
    router.settle();
    assert_eq!(router.shards[0].counters().calls_pending, 0);
    assert_eq!(router.shards[0].next_deadline(), None);
    let answer = ask(&mut router, 0, call("no.such", "[]"));
    let Ok(ApiAnswer::Called(Err(CallFailure::Refused(refusal)))) = answer.try_recv() else { panic!("none") };
    assert_eq!(refusal.error, "wamp.error.no_such_procedure");
}

#[test]
fn a_session_is_sent_away_in_its_own_protocol() {
    let mut router = Router::new(2);
    let (client, session) = session_of(&mut router, 1);
    let disconnect = || Ask::Disconnect { session, reason: CLOSE_KILLED.into() };
    for (shard, expected) in [(0, false), (1, true), (1, false)] {
        let answer = ask(&mut router, shard, disconnect()).try_recv().expect("at once");
        assert!(matches!(answer, ApiAnswer::Disconnected(found) if found == expected), "{answer:?}");
    }
    let goodbye = router.hear_one(client);
    assert!(goodbye.starts_with("[6,{") && goodbye.ends_with(r#","wamp.close.killed"]"#), "{goodbye}");
    assert!(router.effects.contains(&(1, Effect::Dismissed(client.1))), "its driver sees to the rest");
    router.say(client, r#"[6,{},"wamp.close.goodbye_and_out"]"#);
    assert_eq!(router.hear_one(client), "close 1000");
}

#[test]
fn sessions_are_listed_in_pages_each_once() {
    let mut router = Router::new(2);
    let mut expected: Vec<_> = (0..10).map(|_| session_of(&mut router, 0).1).collect();
    let _elsewhere = session_of(&mut router, 1);
    let _not_welcomed = router.connect(0, Serializer::Json);
    let _closed = router.join_realm(0, "closed");
    let filter = SessionFilter { realm: Some(RealmId::new(REALM1)), ..SessionFilter::default() };
    let (mut listed, mut next) = (Vec::new(), Some(SessionCursor::default()));
    while let Some(after) = next {
        let sessions = Ask::Sessions { filter: filter.clone(), after, limit: 3 };
        let answer = ask(&mut router, 0, sessions).try_recv().expect("at once");
        let ApiAnswer::Sessions { page, next: further } = answer else { panic!("{answer:?}") };
        assert!(page.len() <= 3);
        listed.extend(page);
        next = further;
    }
    assert_eq!(listed.iter().map(|info| info.session).collect::<Vec<_>>(), expected);
    expected.truncate(1);
    let info = &listed[0];
    assert_eq!(info.authid, format!("anonymous-{:x}", info.session.get()).into());
    assert_eq!(
        (info.method, info.protocol, info.serializer),
        (LoginMethod::Anonymous, "wamp2", Some(Serializer::Json))
    );
    assert_eq!(info.peer, peer(Outlet(0)));
    let one = SessionFilter { session: Some(expected[0]), ..SessionFilter::default() };
    let one = Ask::Sessions { filter: one, after: SessionCursor::default(), limit: 3 };
    let answer = ask(&mut router, 0, one).try_recv().expect("at once");
    assert!(
        matches!(&answer, ApiAnswer::Sessions { page, next: None } if page == &listed[..1]),
        "{answer:?}"
    );
}
