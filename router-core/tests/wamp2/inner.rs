//! Inner subscribers: members of subscriptions that are no sessions.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, ApiRequest, Ask};
use fanwire_core::ids::{RealmId, RoleId};
use fanwire_core::inner::{InnerEvent, InnerId, InnerOutbox, InnerSubscription};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{DropReason, Limits};

use crate::support::{Client, Router, realms};

const REALM1: u32 = 0;
const CLOSED: u32 = 1;
const PARTLY: u32 = 2;

/// Keeps so many events, and the tags of what was withdrawn.
struct Outbox {
    room: usize,
    events: Mutex<Vec<InnerEvent>>,
    withdrawn: Mutex<Vec<u32>>,
}

impl InnerOutbox for Outbox {
    fn offer(&self, event: InnerEvent) -> Result<(), InnerEvent> {
        let mut events = self.events.lock().expect("no test panics with it");
        if events.len() == self.room {
            return Err(event);
        }
        events.push(event);
        Ok(())
    }

    fn withdrawn(&self, tag: u32) {
        self.withdrawn.lock().expect("no test panics with it").push(tag);
    }
}

/// One inner subscriber.
struct Inner {
    shard: usize,
    id: InnerId,
    outbox: Arc<Outbox>,
}

fn ask(router: &mut Router, shard: usize, ask: Ask) -> Receiver<ApiAnswer> {
    let (sender, receiver) = channel();
    let reply = Box::new(move |answer| sender.send(answer).expect("the test listens"));
    router.exchange(shard);
    let now = router.now;
    router.shards[shard].handle_api(now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
    receiver
}

impl Inner {
    fn new(shard: usize, number: u64, room: usize) -> Self {
        let id = InnerId::new(number).expect("not 0");
        Self {
            shard,
            id,
            outbox: Arc::new(Outbox { room, events: Mutex::default(), withdrawn: Mutex::default() }),
        }
    }

    fn subscription(&self, realm: u32, tag: u32, match_policy: MatchPolicy, uri: &str) -> InnerSubscription {
        let actor = Actor { realm: RealmId::new(realm), role: RoleId::new(0) };
        let outbox = Arc::clone(&self.outbox) as Arc<dyn InnerOutbox>;
        InnerSubscription {
            subscriber: self.id,
            tag,
            actor,
            match_policy,
            uri: uri.into(),
            wants: None,
            outbox,
        }
    }

    fn ask(&self, router: &mut Router, subscription: InnerSubscription) -> Result<(), &'static str> {
        match ask(router, self.shard, Ask::Subscribe(subscription)).try_recv() {
            Ok(ApiAnswer::Subscribed(outcome)) => outcome.map_err(|refusal| refusal.error),
            other => panic!("{other:?}"),
        }
    }

    fn subscribe(&self, router: &mut Router, tag: u32, uri: &str) {
        let subscription = self.subscription(REALM1, tag, MatchPolicy::Exact, uri);
        self.ask(router, subscription).expect("it may");
    }

    fn unsubscribe(&self, router: &mut Router, tag: u32) -> bool {
        let request = Ask::Unsubscribe { subscriber: self.id, tag };
        matches!(ask(router, self.shard, request).try_recv(), Ok(ApiAnswer::Unsubscribed(true)))
    }

    /// What came since it was last asked: tag, topic, arguments.
    fn heard(&self, router: &mut Router) -> Vec<(u32, String, String)> {
        router.settle();
        let events = std::mem::take(&mut *self.outbox.events.lock().expect("as above"));
        let told = |event: InnerEvent| {
            let payload = event.payload.get(Serializer::Json).expect("it came as JSON");
            let args = payload.view().args.unwrap_or_default().to_vec();
            (event.tag, event.topic().to_owned(), String::from_utf8(args).expect("JSON is text"))
        };
        events.into_iter().map(told).collect()
    }
}

fn publication(topic: &str, json: &str) -> ApiPublication {
    ApiPublication {
        actor: Actor { realm: RealmId::new(REALM1), role: RoleId::new(0) },
        topic: topic.into(),
        payload: OwnedPayload::checked(Serializer::Json, Some(json.as_bytes()), None).expect("a list"),
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: false,
        receipt: true,
        from: None,
    }
}

/// Whom it matched on all shards.
fn publish(router: &mut Router, shard: usize, publication: ApiPublication) -> Option<u64> {
    let answer = ask(router, shard, Ask::Publish(vec![publication]));
    router.settle();
    let Ok(ApiAnswer::Published(outcomes)) = answer.try_recv() else { panic!("no answer") };
    outcomes[0].as_ref().expect("it may").matched
}

fn say_publish(router: &mut Router, client: Client, topic: &str, args: &str) {
    router.say(client, &format!(r#"[16,1,{{}},"{topic}",{args}]"#));
}

#[test]
fn an_inner_subscriber_hears_sessions_of_all_shards_in_their_order() {
    let mut router = Router::new(3);
    let inner = Inner::new(1, 7, 100);
    inner.subscribe(&mut router, 5, "a.b");
    let publishers: Vec<Client> = (0..3).map(|shard| router.join(shard)).collect();
    for number in 0..3 {
        for client in &publishers {
            say_publish(&mut router, *client, "a.b", &format!("[{number}]"));
        }
    }
    say_publish(&mut router, publishers[0], "a.c", "[9]");
    let heard = inner.heard(&mut router);
    assert_eq!(heard.len(), 9, "{heard:?}");
    assert!(heard.iter().all(|(tag, topic, _)| (*tag, topic.as_str()) == (5, "a.b")));
    for number in 0..3 {
        let count = heard.iter().filter(|(_, _, args)| *args == format!("[{number}]")).count();
        assert_eq!(count, 3, "{heard:?}");
    }
}

#[test]
fn it_is_one_more_member_of_a_subscription_that_sessions_have_too() {
    let mut router = Router::new(2);
    let inner = Inner::new(0, 7, 100);
    let (here, there) = (router.join(0), router.join(1));
    for client in [here, there] {
        router.say(client, r#"[32,1,{},"a.b"]"#);
        router.hear_one(client);
    }
    inner.subscribe(&mut router, 1, "a.b");
    assert_eq!(publish(&mut router, 1, publication("a.b", "[1]")), Some(3));
    assert_eq!(router.hear(here).len() + router.hear(there).len(), 2);
    assert_eq!(inner.heard(&mut router), [(1, "a.b".to_owned(), "[1]".to_owned())]);
    router.vanish(here);
    assert_eq!(publish(&mut router, 1, publication("a.b", "[2]")), Some(2), "the interest stays");
    assert_eq!(inner.heard(&mut router).len(), 1);
    assert!(inner.unsubscribe(&mut router, 1));
    assert_eq!(publish(&mut router, 1, publication("a.b", "[3]")), Some(1));
    assert!(inner.heard(&mut router).is_empty());
    router.vanish(there);
    assert_eq!(router.directory.topic_count(), 0);
}

#[test]
fn what_comes_from_it_does_not_come_back_to_it_on_any_shard() {
    for (lives, publishes) in [(0, 0), (0, 1), (1, 0)] {
        let mut router = Router::new(2);
        let (inner, other) = (Inner::new(lives, 7, 100), Inner::new(1, 8, 100));
        inner.subscribe(&mut router, 1, "a.b");
        other.subscribe(&mut router, 1, "a.b");
        let own = ApiPublication { from: Some(inner.id), ..publication("a.b", "[1]") };
        assert_eq!(publish(&mut router, publishes, own), Some(1));
        assert!(inner.heard(&mut router).is_empty());
        assert_eq!(other.heard(&mut router).len(), 1);
    }
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let mut router = Router::new(1);
    let inner = Inner::new(0, 7, 2);
    inner.subscribe(&mut router, 1, "a.b");
    let client = router.join(0);
    for number in 0..5 {
        say_publish(&mut router, client, "a.b", &format!("[{number}]"));
    }
    let heard: Vec<String> = inner.heard(&mut router).into_iter().map(|(_, _, args)| args).collect();
    assert_eq!(heard, ["[0]", "[1]"]);
    let counters = router.shards[0].counters();
    assert_eq!((counters.matched, counters.delivered), (5, 2));
    assert_eq!(counters.dropped[DropReason::InnerOutboxFull as usize], 3);
}

#[test]
fn a_pattern_brings_what_is_wanted_and_allowed() {
    let mut router = Router::new(2);
    let inner = Inner::new(0, 7, 100);
    let wanted = InnerSubscription {
        wants: Some(Arc::new(|topic: &str| topic.ends_with('c'))),
        ..inner.subscription(PARTLY, 3, MatchPolicy::Prefix, "")
    };
    inner.ask(&mut router, wanted).expect("a rule covers it");
    let client = router.join_realm(1, "partly");
    for topic in ["a.c", "a.b", "top.secret.c"] {
        say_publish(&mut router, client, topic, "[1]");
    }
    let topics: Vec<String> = inner.heard(&mut router).into_iter().map(|(_, topic, _)| topic).collect();
    assert_eq!(topics, ["a.c"]);
    assert_eq!(router.shards[0].counters().events_withheld, 1);
}

#[test]
fn lists_of_receivers_hold_for_it() {
    let mut router = Router::new(1);
    let inner = Inner::new(0, 7, 100);
    inner.subscribe(&mut router, 1, "a.b");
    let client = router.join(0);
    for options in
        [r#"{"eligible":[5]}"#, r#"{"eligible_authid":["x"]}"#, r#"{"exclude_authrole":["anonymous"]}"#]
    {
        router.say(client, &format!(r#"[16,1,{options},"a.b",[1]]"#));
    }
    assert!(inner.heard(&mut router).is_empty());
    router.say(client, r#"[16,1,{"eligible_authrole":["anonymous"],"exclude":[5]},"a.b",[2]]"#);
    assert_eq!(inner.heard(&mut router).len(), 1);
}

#[test]
fn refusals_say_why_and_leave_nothing_behind() {
    let limits = Limits { subscriptions_max: 2, ..Limits::default() };
    let mut router = Router::with(1, limits);
    let inner = Inner::new(0, 7, 100);
    let exact = |realm, tag, uri| inner.subscription(realm, tag, MatchPolicy::Exact, uri);
    for (subscription, error) in [
        (exact(REALM1, 1, "a..b"), "wamp.error.invalid_uri"),
        (exact(CLOSED, 1, "a.b"), "wamp.error.not_authorized"),
    ] {
        assert_eq!(inner.ask(&mut router, subscription), Err(error));
    }
    assert_eq!(router.directory.topic_count(), 0);
    inner.subscribe(&mut router, 1, "a.b");
    assert_eq!(inner.ask(&mut router, exact(REALM1, 1, "a.c")), Err("wamp.error.invalid_argument"));
    inner.subscribe(&mut router, 2, "a.b");
    assert_eq!(inner.ask(&mut router, exact(REALM1, 3, "a.c")), Err("wamp.error.unavailable"));
    assert_eq!(publish(&mut router, 0, publication("a.b", "[1]")), Some(2), "once for each subscription");
    assert!(!inner.unsubscribe(&mut router, 3));
    ask(&mut router, 0, Ask::Leave { subscriber: inner.id });
    assert_eq!(router.directory.topic_count(), 0);
    assert_eq!(router.shards[0].counters().subscriptions, 0);
}

#[test]
fn patterns_have_the_bound_that_sessions_have() {
    let mut router = Router::with(1, Limits { patterns_per_session: 2, ..Limits::default() });
    let inner = Inner::new(0, 7, 100);
    for (tag, outcome) in [(1, Ok(())), (2, Ok(())), (3, Err("wamp.error.unavailable"))] {
        let subscription = inner.subscription(REALM1, tag, MatchPolicy::Prefix, "a.");
        assert_eq!(inner.ask(&mut router, subscription), outcome);
    }
    inner.subscribe(&mut router, 4, "a.b");
}

#[test]
fn newer_permissions_withdraw_it_and_it_is_told() {
    let mut router = Router::new(1);
    let inner = Inner::new(0, 7, 100);
    inner.subscribe(&mut router, 1, "a.b");
    inner.subscribe(&mut router, 2, "ok.b");
    let mut realms = realms();
    realms[0].roles[0].permissions = realms[CLOSED as usize].roles[0].permissions.clone();
    let config = router.renewed(0, &realms, Limits::default());
    router.renew(0, &config);
    assert_eq!(*inner.outbox.withdrawn.lock().expect("as above"), [1]);
    assert_eq!(router.shards[0].counters().withdrawn, 1);
    assert_eq!(router.directory.topic_count(), 1);
    assert_eq!(publish(&mut router, 0, publication("ok.b", "[1]")), Some(1));
}
