//! loom explores every order in which shards can meet in the directory.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p fanwire-core --test loom_directory --release`
//!
//! "A client saw SUBSCRIBED, and another one then publishes" is modelled by a flag: stored after `subscribe` returned,
//! loaded before the publisher looks.
#![cfg(loom)]

use fanwire_core::{
    directory::{
        Callee, CalleeFeatures, Candidates, Creation, Directory, Entry, Heard, Note, Offer,
        RegistrationCache, TopicCache,
    },
    ids::{RealmId, RoleId, SessionId, ShardId},
    meta::EntryEvent,
    uri::{InvokePolicy, MatchPolicy},
};
use loom::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use std::sync::Arc;

const REALM: RealmId = RealmId::new(0);

fn shard(index: u8) -> ShardId {
    ShardId::new(index).unwrap()
}

fn callee(index: u8) -> Callee {
    Callee {
        disclose_caller: false,
        features: CalleeFeatures::default(),
        shard: shard(index),
        session: SessionId::new(u64::from(index) + 1).unwrap(),
        role: RoleId::new(0),
        outlet: 0,
    }
}

fn found(cache: &mut RegistrationCache, directory: &Directory) -> Option<Callee> {
    match cache.get(directory, REALM, "p") {
        Candidates::Nobody => None,
        Candidates::Exact(registration) => Some(registration.callee()),
        Candidates::Patterns(matches) => Some(matches.entries()[0].callee()),
    }
}

/// Loom's flag with the weakest ordering that carries a message: release and acquire, as a ring or a socket does.
struct Message(AtomicBool);

impl Message {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(false)))
    }

    fn send(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn arrived(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[test]
fn who_saw_subscribed_reaches_the_subscriber_past_a_cached_miss() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let subscribed = Message::new();
        let subscriber = thread::spawn({
            let (directory, subscribed) = (directory.clone(), subscribed.clone());
            move || {
                directory.subscribe(REALM, "t", shard(1));
                subscribed.send();
            }
        });
        let mut cache = TopicCache::new(1);
        let early = cache.get(&directory, REALM, "t").exact.is_some();
        let saw = subscribed.arrived();
        let interest = cache.get(&directory, REALM, "t").interest();
        assert!(!saw || interest == shard(1).bit(), "the publisher missed the subscriber");
        assert!(!early || interest == shard(1).bit(), "interest was lost");
        subscriber.join().unwrap();
    });
}

#[test]
fn who_saw_subscribed_reaches_the_subscriber_past_a_sweep() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let old = directory.subscribe(REALM, "t", shard(0));
        let mut cache = TopicCache::new(1);
        assert!(cache.get(&directory, REALM, "t").exact.is_some());
        let subscribed = Message::new();
        let leaver = thread::spawn({
            let directory = directory.clone();
            move || directory.unsubscribe(&old, shard(0))
        });
        let joiner = thread::spawn({
            let (directory, subscribed) = (directory.clone(), subscribed.clone());
            move || {
                let topic = directory.subscribe(REALM, "t", shard(1));
                assert!(!topic.is_retired());
                subscribed.send();
            }
        });
        let saw = subscribed.arrived();
        let interest = cache.get(&directory, REALM, "t").interest();
        assert!(!saw || interest & shard(1).bit() != 0, "the publisher missed the subscriber");
        leaver.join().unwrap();
        joiner.join().unwrap();
        assert_eq!(directory.lookup(REALM, MatchPolicy::Exact, "t").unwrap().interest(), shard(1).bit());
        assert_eq!(directory.topic_count(), 1);
    });
}

#[test]
fn two_that_leave_sweep_once_and_a_newcomer_stays() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let topic = directory.subscribe(REALM, "t", shard(0));
        directory.subscribe(REALM, "t", shard(1));
        let leave = |on: u8| {
            let (directory, topic) = (directory.clone(), topic.clone());
            move || directory.unsubscribe(&topic, shard(on))
        };
        let first = thread::spawn(leave(0));
        let second = thread::spawn(leave(1));
        let mine = directory.subscribe(REALM, "t", shard(2));
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(mine.interest(), shard(2).bit());
        assert!(Arc::ptr_eq(&mine, &directory.lookup(REALM, MatchPolicy::Exact, "t").unwrap()));
        directory.unsubscribe(&mine, shard(2));
        assert_eq!(directory.topic_count(), 0);
    });
}

#[test]
fn a_shard_that_leaves_and_returns_is_not_lost() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let topic = directory.subscribe(REALM, "t", shard(0));
        let other = thread::spawn({
            let directory = directory.clone();
            move || {
                let mine = directory.subscribe(REALM, "t", shard(1));
                directory.unsubscribe(&mine, shard(1));
            }
        });
        directory.unsubscribe(&topic, shard(0));
        let again = directory.subscribe(REALM, "t", shard(0));
        other.join().unwrap();
        assert_eq!(again.interest(), shard(0).bit());
        assert!(Arc::ptr_eq(&again, &directory.lookup(REALM, MatchPolicy::Exact, "t").unwrap()));
    });
}

#[test]
fn a_race_to_register_has_one_winner() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let register = |index: u8| {
            let directory = directory.clone();
            move || {
                directory
                    .register(REALM, MatchPolicy::Exact, "p", callee(index), &Offer::default(), 9)
                    .is_ok()
            }
        };
        let others = [thread::spawn(register(1)), thread::spawn(register(2))];
        let mine = register(0)();
        let [one, two] = others.map(|other| other.join().unwrap());
        assert_eq!([mine, one, two].iter().filter(|&&won| won).count(), 1);
        assert_eq!(directory.registration_count(), 1);
    });
}

#[test]
fn who_saw_unregistered_and_registered_calls_the_new_callee() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let old = directory
            .register(REALM, MatchPolicy::Exact, "p", callee(0), &Offer::default(), 9)
            .unwrap()
            .registration;
        let mut cache = RegistrationCache::new(1);
        assert!(found(&mut cache, &directory).is_some());
        let (unregistered, registered) = (Message::new(), Message::new());
        let other = thread::spawn({
            let (directory, unregistered, registered) =
                (directory.clone(), unregistered.clone(), registered.clone());
            move || {
                directory.unregister(&old, callee(0).session, Heard::default());
                unregistered.send();
                directory.register(REALM, MatchPolicy::Exact, "p", callee(1), &Offer::default(), 9).unwrap();
                registered.send();
            }
        });
        let (saw_new, saw_gone) = (registered.arrived(), unregistered.arrived());
        let found = found(&mut cache, &directory);
        assert!(!saw_gone || found != Some(callee(0)), "a call went to a callee that had left");
        assert!(!saw_new || found == Some(callee(1)), "a call missed the new callee");
        other.join().unwrap();
    });
}

/// Several callees: each change makes another entry, and nobody finds none.
#[test]
fn callees_that_come_and_go_leave_the_others_reachable() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let offer = Offer { invoke: InvokePolicy::Last, ..Offer::default() };
        let register = |index: u8| {
            directory.register(REALM, MatchPolicy::Exact, "p", callee(index), &offer, 9).unwrap().registration
        };
        let old = register(0);
        let stays = register(1);
        let mut cache = RegistrationCache::new(1);
        assert!(found(&mut cache, &directory).is_some());
        let leaver = thread::spawn({
            let directory = directory.clone();
            move || directory.unregister(&old, callee(0).session, Heard::default())
        });
        let joined = Message::new();
        let joiner = thread::spawn({
            let (directory, joined) = (directory.clone(), joined.clone());
            move || {
                directory.register(REALM, MatchPolicy::Exact, "p", callee(2), &offer, 9).unwrap();
                joined.send();
            }
        });
        let saw = joined.arrived();
        let Candidates::Exact(registration) = cache.get(&directory, REALM, "p") else {
            panic!("one of them stays all the while");
        };
        assert_eq!(registration.id(), stays.id());
        let callees: Vec<_> = registration.callees().collect();
        assert!(callees.contains(&callee(1)) && (!saw || callees.contains(&callee(2))));
        leaver.join().unwrap();
        joiner.join().unwrap();
        let Candidates::Exact(registration) = cache.get(&directory, REALM, "p") else {
            panic!("two are left")
        };
        assert_eq!(registration.callees().collect::<Vec<_>>(), [callee(1), callee(2)]);
    });
}

#[test]
fn who_saw_subscribed_to_a_pattern_reaches_the_subscriber() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let subscribed = Message::new();
        let subscriber = thread::spawn({
            let (directory, subscribed) = (directory.clone(), subscribed.clone());
            move || {
                directory.subscribe_pattern(REALM, MatchPolicy::Prefix, "t", shard(1), 9).unwrap();
                subscribed.send();
            }
        });
        let mut cache = TopicCache::new(1);
        let early = cache.get(&directory, REALM, "t.1").interest();
        let saw = subscribed.arrived();
        let interest = cache.get(&directory, REALM, "t.1").interest();
        assert!(!saw || interest == shard(1).bit(), "the publisher missed the subscriber");
        assert!(early == 0 || interest == shard(1).bit(), "interest was lost");
        subscriber.join().unwrap();
    });
}

/// Two shards meet at the same new pattern: the second must not say SUBSCRIBED before publishers can hear of it.
#[test]
fn who_joins_a_pattern_in_its_creation_is_reached_too() {
    // All schedules of three threads with so many locks take minutes; three switches are enough for what can go wrong.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let directory = Arc::new(Directory::new(1));
        let subscribed = Message::new();
        let join = |on: u8| {
            let (directory, subscribed) = (directory.clone(), subscribed.clone());
            move || {
                directory.subscribe_pattern(REALM, MatchPolicy::Wildcard, "t.", shard(on), 9).unwrap();
                if on == 2 {
                    subscribed.send();
                }
            }
        };
        let (first, second) = (thread::spawn(join(1)), thread::spawn(join(2)));
        let mut cache = TopicCache::new(1);
        let saw = subscribed.arrived();
        let interest = cache.get(&directory, REALM, "t.1").interest();
        assert!(!saw || interest & shard(2).bit() != 0, "the publisher missed the subscriber");
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(cache.get(&directory, REALM, "t.1").interest(), 0b110);
        assert_eq!(directory.topic_count(), 1);
    });
}

#[test]
fn a_pattern_that_goes_and_comes_again_is_not_lost() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let prefix =
            |on: u8| directory.subscribe_pattern(REALM, MatchPolicy::Prefix, "t", shard(on), 9).unwrap();
        let old = prefix(0);
        let mut cache = TopicCache::new(1);
        assert_eq!(cache.get(&directory, REALM, "t").interest(), 1);
        let subscribed = Message::new();
        let leaver = thread::spawn({
            let directory = directory.clone();
            move || directory.unsubscribe(&old, shard(0))
        });
        let joiner = thread::spawn({
            let (directory, subscribed) = (directory.clone(), subscribed.clone());
            move || {
                directory.subscribe_pattern(REALM, MatchPolicy::Prefix, "t", shard(1), 9).unwrap();
                subscribed.send();
            }
        });
        let saw = subscribed.arrived();
        let interest = cache.get(&directory, REALM, "t").interest();
        assert!(!saw || interest & shard(1).bit() != 0, "the publisher missed the subscriber");
        leaver.join().unwrap();
        joiner.join().unwrap();
        assert_eq!(cache.get(&directory, REALM, "t").interest(), shard(1).bit());
        assert_eq!(directory.topic_count(), 1);
    });
}

/// What becomes of an entry has numbers in the order in which it happened: its end comes before another one's beginning, and
/// its beginning before whatever anybody does who found it.
#[test]
fn news_of_entries_are_numbered_in_their_order() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let creation = Creation { is_news: true, ..Creation::default() };
        let (topic, created) = directory.subscribe_noting(REALM, "t", shard(0), creation);
        assert_eq!(created, Some(1));
        let other = {
            let directory = Arc::clone(&directory);
            thread::spawn(move || {
                let (topic, created) = directory.subscribe_noting(REALM, "t", shard(1), creation);
                (topic.id(), created, directory.next_news())
            })
        };
        let left = directory.next_news();
        let deleted = directory.unsubscribe_noting(&topic, shard(0), true);
        let (id, created, joined) = other.join().unwrap();
        match created {
            Some(created) => {
                let deleted = deleted.expect("another entry followed this one");
                assert_ne!(id, topic.id());
                assert!(left < deleted && deleted < created && created < joined);
            }
            None => {
                assert_eq!(id, topic.id());
                assert_eq!(deleted, None, "somebody is still there");
            }
        }
    });
}

/// Somebody leaves while another one forces it out: whoever is first, each end is told once, and before the beginning that follows.
#[test]
fn a_registration_ends_once_whoever_ends_it() {
    loom::model(|| {
        let directory = Arc::new(Directory::new(1));
        let events = [EntryEvent::Created, EntryEvent::Attached, EntryEvent::Detached, EntryEvent::Deleted];
        let heard = events.into_iter().fold(Heard::default(), |heard, event| heard.with(event, true));
        let offer = Offer { force: true, heard, ..Offer::default() };
        let register = move |directory: &Directory, index: u8| {
            directory.register(REALM, MatchPolicy::Exact, "p", callee(index), &offer, 9).unwrap()
        };
        let first = register(&directory, 0);
        let forcing = {
            let directory = Arc::clone(&directory);
            thread::spawn(move || register(&directory, 1).notes)
        };
        let mut notes = directory.unregister(&first.registration, callee(0).session, heard);
        notes.extend(first.notes);
        notes.extend(forcing.join().unwrap());
        notes.sort_by_key(|note| note.number);
        let told: Vec<_> = notes.iter().map(|note| (note.event, note.session)).collect();
        let [first, second] = [callee(0).session, callee(1).session];
        let expected = [
            (EntryEvent::Created, first),
            (EntryEvent::Attached, first),
            (EntryEvent::Detached, first),
            (EntryEvent::Deleted, first),
            (EntryEvent::Created, second),
            (EntryEvent::Attached, second),
        ];
        assert_eq!(told, expected);
        assert!(notes.iter().zip(1..).all(|(Note { number, .. }, place)| *number == place));
    });
}
