//! The directory against a naive map, and what it promises to publishers.

mod patterns;

use super::*;
use crate::ids::RoleId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const REALM: RealmId = RealmId::new(0);

fn shard(index: u8) -> ShardId {
    ShardId::new(index).unwrap()
}

fn callee(session: u64) -> Callee {
    let session = SessionId::new(session).unwrap();
    let features = CalleeFeatures::default();
    Callee { shard: shard(0), session, role: RoleId::new(0), disclose_caller: false, features, outlet: 0 }
}

fn subscribe(directory: &Directory, uri: &str, on: u8) -> Arc<Topic> {
    directory.subscribe(REALM, uri, shard(on))
}

fn register(directory: &Directory, uri: &str, session: u64) -> Result<Arc<Registration>, RegisterError> {
    let registered =
        directory.register(REALM, MatchPolicy::Exact, uri, callee(session), &Offer::default(), 9);
    registered.map(|registered| registered.registration)
}

fn exactly(candidates: Candidates<'_>) -> Option<&Arc<Registration>> {
    match candidates {
        Candidates::Exact(registration) => Some(registration),
        _ => None,
    }
}

#[test]
fn publishing_to_a_million_topics_creates_nothing() {
    let directory = Directory::new(1);
    let mut cache = TopicCache::new(1024);
    let mut uri = String::new();
    for number in 0..1_000_000 {
        use std::fmt::Write;
        uri.clear();
        write!(uri, "room.{number}").unwrap();
        assert!(cache.get(&directory, REALM, &uri).exact.is_none());
    }
    assert_eq!(directory.topic_count(), 0);
    let remembered = cache.remembered();
    assert!(remembered <= 1024, "{remembered}");
}

#[test]
fn whom_a_shard_made_wait_goes_with_its_last_subscriber() {
    let directory = Directory::new(1);
    let topic = subscribe(&directory, "a.b", 0);
    subscribe(&directory, "a.b", 5);
    for shard in [shard(0), shard(5)] {
        topic.set_congested(shard, true);
        topic.set_paused(shard, true);
    }
    directory.unsubscribe(&topic, shard(0));
    assert_eq!((topic.congested(), topic.paused()), (0b10_0000, 0b10_0000));
}

#[test]
fn shards_share_one_entry() {
    let directory = Directory::new(1);
    let one = subscribe(&directory, "a.b", 0);
    let other = subscribe(&directory, "a.b", 5);
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(one.interest(), 0b10_0001);
    directory.unsubscribe(&one, shard(0));
    assert_eq!(one.interest(), 0b10_0000);
    assert_eq!(directory.topic_count(), 1);
}

#[test]
fn the_last_one_out_retires_the_entry() {
    let directory = Directory::new(1);
    let topic = subscribe(&directory, "a.b", 0);
    topic.set_congested(shard(0), true);
    directory.unsubscribe(&topic, shard(0));
    assert!(topic.is_retired());
    assert_eq!((topic.interest(), topic.congested()), (0, 0));
    assert_eq!(directory.topic_count(), 0);
    let again = subscribe(&directory, "a.b", 0);
    assert_ne!(again.id(), topic.id());
}

#[test]
fn a_cached_handle_of_a_retired_topic_is_looked_up_again() {
    let directory = Directory::new(1);
    let mut cache = TopicCache::new(16);
    let old = subscribe(&directory, "a.b", 0);
    assert!(Arc::ptr_eq(cache.get(&directory, REALM, "a.b").exact.unwrap(), &old));
    directory.unsubscribe(&old, shard(0));
    assert!(cache.get(&directory, REALM, "a.b").exact.is_none());
    let new = subscribe(&directory, "a.b", 1);
    assert!(Arc::ptr_eq(cache.get(&directory, REALM, "a.b").exact.unwrap(), &new));
}

#[test]
fn a_cached_miss_ends_when_the_bucket_creates_something() {
    let directory = Directory::new(1);
    let mut cache = TopicCache::new(16);
    assert!(cache.get(&directory, REALM, "a.b").exact.is_none());
    let topic = subscribe(&directory, "a.b", 0);
    assert!(Arc::ptr_eq(cache.get(&directory, REALM, "a.b").exact.unwrap(), &topic));
}

#[test]
fn realms_and_policies_are_worlds_apart() {
    let directory = Directory::new(1);
    let exact = subscribe(&directory, "a.b", 0);
    let prefix = directory.subscribe_pattern(REALM, MatchPolicy::Prefix, "a.b", shard(0), 9).unwrap();
    let elsewhere = directory.subscribe(RealmId::new(1), "a.b", shard(0));
    assert_eq!(directory.topic_count(), 3);
    assert!(exact.id() != prefix.id() && prefix.id() != elsewhere.id());
    assert_eq!(directory.lookup(REALM, MatchPolicy::Exact, "a.b").unwrap().id(), exact.id());
}

#[test]
fn a_procedure_has_one_callee() {
    let directory = Directory::new(1);
    let mut cache = RegistrationCache::new(16);
    assert!(exactly(cache.get(&directory, REALM, "p")).is_none());
    let first = register(&directory, "p", 1).unwrap();
    assert_eq!(register(&directory, "p", 2).unwrap_err(), RegisterError::AlreadyRegistered);
    assert_eq!(exactly(cache.get(&directory, REALM, "p")).unwrap().callee(), callee(1));
    directory.unregister(&first, callee(1).session, Heard::default());
    directory.unregister(&first, callee(1).session, Heard::default());
    assert!(exactly(cache.get(&directory, REALM, "p")).is_none());
    let second = register(&directory, "p", 2).unwrap();
    directory.unregister(&first, callee(1).session, Heard::default());
    assert_eq!(exactly(cache.get(&directory, REALM, "p")).unwrap().id(), second.id());
    assert_eq!(directory.registration_count(), 1);
}

#[test]
fn a_session_id_is_taken_once() {
    let directory = Directory::new(1);
    let (id, entry) = (SessionId::MAX, SessionEntry { realm: REALM, role: RoleId::new(0), shard: shard(1) });
    assert!(directory.register_session(id, entry));
    assert!(!directory.register_session(id, SessionEntry { shard: shard(2), ..entry }));
    assert_eq!(directory.session(id), Some(entry));
    assert!(directory.remove_session(id) && !directory.remove_session(id));
    assert_eq!(directory.session_count(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Join { topic: u8, shard: u8 },
    Leave { topic: u8, shard: u8 },
    Publish { topic: u8, shard: u8 },
    Register { procedure: u8, session: u64 },
    Unregister { procedure: u8 },
    Call { procedure: u8, shard: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let (name, on) = (0..6u8, 0..4u8);
    prop_oneof![
        (name.clone(), on.clone()).prop_map(|(topic, shard)| Op::Join { topic, shard }),
        (name.clone(), on.clone()).prop_map(|(topic, shard)| Op::Leave { topic, shard }),
        (name.clone(), on.clone()).prop_map(|(topic, shard)| Op::Publish { topic, shard }),
        (name.clone(), 1..5u64).prop_map(|(procedure, session)| Op::Register { procedure, session }),
        name.clone().prop_map(|procedure| Op::Unregister { procedure }),
        (name, on).prop_map(|(procedure, shard)| Op::Call { procedure, shard }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Tiny caches, so that names push each other out.
    #[test]
    fn behaves_as_a_naive_map(ops in prop::collection::vec(op(), 0..200), seed: u64) {
        let directory = Directory::new(seed);
        let mut topic_caches: Vec<_> = (0..4).map(|_| TopicCache::new(4)).collect();
        let mut registration_caches: Vec<_> = (0..4).map(|_| RegistrationCache::new(4)).collect();
        let mut joined: BTreeMap<(u8, u8), Arc<Topic>> = BTreeMap::new();
        let mut registered: BTreeMap<u8, (u64, Arc<Registration>)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Join { topic, shard: on } => {
                    joined.entry((topic, on)).or_insert_with(|| subscribe(&directory, &format!("t.{topic}"), on));
                }
                Op::Leave { topic, shard: on } => {
                    if let Some(handle) = joined.remove(&(topic, on)) {
                        directory.unsubscribe(&handle, shard(on));
                    }
                }
                Op::Publish { topic, shard: on } => {
                    let found = topic_caches[usize::from(on)].get(&directory, REALM, &format!("t.{topic}"));
                    let interest = found.interest();
                    let expected = joined.keys().filter(|key| key.0 == topic).fold(0, |mask, key| mask | 1 << key.1);
                    prop_assert_eq!(interest, expected);
                }
                Op::Register { procedure, session } => {
                    let result = register(&directory, &format!("p.{procedure}"), session);
                    prop_assert_eq!(result.is_ok(), !registered.contains_key(&procedure));
                    if let Ok(registration) = result {
                        registered.insert(procedure, (session, registration));
                    }
                }
                Op::Unregister { procedure } => {
                    if let Some((session, registration)) = registered.remove(&procedure) {
                        directory.unregister(&registration, callee(session).session, Heard::default());
                    }
                }
                Op::Call { procedure, shard: on } => {
                    let cache = &mut registration_caches[usize::from(on)];
                    let found = cache.get(&directory, REALM, &format!("p.{procedure}"));
                    let expected = registered.get(&procedure).map(|(session, _)| callee(*session));
                    prop_assert_eq!(exactly(found).map(|registration| registration.callee()), expected);
                }
            }
            let topics: std::collections::BTreeSet<u8> = joined.keys().map(|key| key.0).collect();
            prop_assert_eq!(directory.topic_count(), topics.len());
            prop_assert_eq!(directory.registration_count(), registered.len());
        }
    }
}
