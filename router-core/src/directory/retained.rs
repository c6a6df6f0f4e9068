//! Retained events: what was published to be kept for those who subscribe later (WAMP, "Event Retention").
//!
//! ```text
//! realm ─▶ topic ─▶ [ the last one that was for everybody │ those for some that came since, oldest first ]
//! ```
//!
//! Whoever publishes keeps the event first and asks for the interest then; whoever subscribes shows its interest first and
//! asks for the [version](Directory::retained_version) then. Both do so under the realm's lock. So an event of a version up
//! to that one is here, or something newer in its place; and one of a greater version finds the subscriber by itself.
//!
//! A realm's topics are in order, so that what a pattern covers is read a page at a time, without an index beside them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use fanwire_codec::payload::OwnedPayload;
use hashbrown::HashMap;

use super::Directory;
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::ids::{PublicationId, RealmId, SessionId};
use crate::mutation::{Mutation, planted};
use crate::receivers::Receivers;
use crate::session::{Label, Provenance};
use crate::uri::{self, MatchPolicy};

/// One event that is kept. Immutable: a newer one takes its place.
#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) publication: PublicationId,
    pub(crate) payload: OwnedPayload,
    /// What is told of the publisher.
    pub(crate) publisher: Option<Provenance>,
    /// The publisher, if it does not hear itself.
    pub(crate) except: Option<SessionId>,
    /// Whom it is for, unless for all subscribers.
    pub(crate) receivers: Option<Arc<Receivers>>,
}

/// A retained event with its place in the order of all of them.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) version: u64,
    pub(crate) event: Arc<Retained>,
}

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Events of one realm.
    pub events_per_realm: usize,
    /// Bytes of a realm's events: payloads, names of topics, lists of receivers, and some 200 for each event.
    pub bytes_per_realm: usize,
    /// The same of all realms.
    pub bytes: usize,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        Self { events_per_realm: 100_000, bytes_per_realm: 32 << 20, bytes: 64 << 20 }
    }
}

/// Why an event is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetentionFull {
    /// Its realm keeps as many events as it may.
    RealmEvents,
    /// Its realm would keep more bytes than it may.
    RealmBytes,
    /// The process would keep more bytes than it may.
    Bytes,
}

impl RetentionFull {
    /// All reasons, in the order of [`Counters::not_retained`](crate::Counters::not_retained).
    pub const ALL: [Self; 3] = [Self::RealmEvents, Self::RealmBytes, Self::Bytes];

    /// The value of the metric's `reason` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RealmEvents => "realm_events",
            Self::RealmBytes => "realm_bytes",
            Self::Bytes => "bytes",
        }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetainedUsage {
    /// Events of all realms.
    pub events: u64,
    /// As [`RetentionLimits`] count them.
    pub bytes: u64,
}

/// The retained events of the process.
#[derive(Debug)]
pub(super) struct RetainedEvents {
    slots: Box<[CachePadded<Mutex<Realms>>]>,
    /// The version of the newest one. Written under the lock of its realm, which orders it for whoever looks there.
    version: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
}

type Realms = HashMap<RealmId, Shelf, foldhash::fast::FixedState>;

/// Those of one realm.
#[derive(Debug, Default)]
struct Shelf {
    /// Oldest first. The first may be for everybody, no other one is.
    topics: BTreeMap<Arc<str>, Vec<Kept>>,
    events: usize,
    bytes: usize,
}

/// Some topics with what is kept of them, and whether more may follow.
#[derive(Debug, Default)]
pub(crate) struct RetainedPage {
    pub(crate) topics: Vec<(Arc<str>, Vec<Kept>)>,
    /// The last topic that was looked at, if more may follow.
    pub(crate) next: Option<Arc<str>>,
}

impl RetainedEvents {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| CachePadded::new(Mutex::new(Realms::default()))).collect(),
            version: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self, realm: RealmId) -> MutexGuard<'_, Realms> {
        lock(&self.slots[realm.index() & (SLOTS - 1)])
    }

    /// Books what a topic holds now instead of what it held.
    fn book(&self, shelf: &mut Shelf, before: Size, after: Size) {
        shelf.events = shelf.events + after.events - before.events;
        shelf.bytes = shelf.bytes + after.bytes - before.bytes;
        // Relaxed: figures, and a bound that several realms may pass by one event each.
        for (total, after, before) in
            [(&self.events, after.events, before.events), (&self.bytes, after.bytes, before.bytes)]
        {
            if after >= before {
                total.fetch_add((after - before) as u64, Ordering::Relaxed);
            } else {
                total.fetch_sub((before - after) as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Directory {
    /// Keeps an event, and returns its version.
    ///
    /// One for everybody takes the place of all others of its topic; one for some, of that with the same lists.
    pub(crate) fn retain(
        &self,
        realm: RealmId,
        uri: &str,
        event: Retained,
        limits: &RetentionLimits,
    ) -> Result<u64, RetentionFull> {
        let event = Arc::new(event);
        let mut realms = self.retained.lock(realm);
        let shelf = realms.entry(realm).or_default();
        let known = shelf.topics.get(uri).map_or(&[][..], Vec::as_slice);
        let before = Size::of(uri, known);
        // Under the realm's lock: see above.
        let version = self.retained.version.fetch_add(1, Ordering::Relaxed) + 1;
        let after = displacing(known, Kept { version, event });
        let size = Size::of(uri, &after);
        let bytes = self.retained.bytes.load(Ordering::Relaxed) as usize;
        let limits = if planted(Mutation::RetainedUnbounded) { &RetentionLimits::default() } else { limits };
        if size.events > before.events && shelf.events >= limits.events_per_realm {
            return Err(RetentionFull::RealmEvents);
        }
        if size.bytes > before.bytes {
            let more = size.bytes - before.bytes;
            if shelf.bytes + more > limits.bytes_per_realm {
                return Err(RetentionFull::RealmBytes);
            }
            if bytes + more > limits.bytes {
                return Err(RetentionFull::Bytes);
            }
        }
        self.retained.book(shelf, before, size);
        let displaced = match shelf.topics.get_mut(uri) {
            Some(known) => std::mem::replace(known, after),
            None => shelf.topics.insert(uri.into(), after).unwrap_or_default(),
        };
        // Payloads are freed for nobody to wait.
        drop(realms);
        drop(displaced);
        Ok(version)
    }

    /// Keeps nothing more of a topic; with `receivers` only not what was for the same ones.
    pub(crate) fn forget_retained(&self, realm: RealmId, uri: &str, receivers: Option<&Receivers>) {
        let mut realms = self.retained.lock(realm);
        let Some(shelf) = realms.get_mut(&realm) else { return };
        let Some(known) = shelf.topics.get_mut(uri) else { return };
        let before = Size::of(uri, known);
        let is_meant = |kept: &Kept| receivers.is_none() || kept.event.receivers.as_deref() == receivers;
        let (gone, left): (Vec<Kept>, Vec<Kept>) = std::mem::take(known).into_iter().partition(is_meant);
        let after = Size::of(uri, &left);
        if left.is_empty() {
            shelf.topics.remove(uri);
        } else {
            *known = left;
        }
        self.retained.book(shelf, before, after);
        if shelf.topics.is_empty() {
            realms.remove(&realm);
        }
        drop(realms);
        drop(gone);
    }

    /// The version of the newest event that was kept so far. To be asked by who has shown interest before.
    pub(crate) fn retained_version(&self, realm: RealmId) -> u64 {
        let _realms = self.retained.lock(realm);
        self.retained.version.load(Ordering::Relaxed)
    }

    /// What is kept of a topic.
    pub(crate) fn retained(&self, realm: RealmId, uri: &str) -> Vec<Kept> {
        let realms = self.retained.lock(realm);
        realms.get(&realm).and_then(|shelf| shelf.topics.get(uri)).cloned().unwrap_or_default()
    }

    /// What is kept of topics that `pattern` covers, from behind `after` on: `limit` of them at most, in the order of their
    /// names. Looks at some hundred, so a page may have fewer, or none, though more follow.
    pub(crate) fn retained_page(
        &self,
        realm: RealmId,
        (policy, pattern): (MatchPolicy, &str),
        after: Option<&str>,
        limit: usize,
    ) -> RetainedPage {
        let mut page = RetainedPage::default();
        let beginning = common_beginning(policy, pattern);
        let from = after.map_or(Bound::Included(beginning), Bound::Excluded);
        let realms = self.retained.lock(realm);
        let Some(shelf) = realms.get(&realm) else { return page };
        let topics = shelf.topics.range::<str, _>((from, Bound::Unbounded));
        for (count, (topic, kept)) in topics.enumerate() {
            if !topic.starts_with(beginning) {
                break;
            }
            if uri::matches(policy, pattern, topic) {
                page.topics.push((Arc::clone(topic), kept.clone()));
            }
            if page.topics.len() >= limit || count + 1 >= LOOKED_AT_MAX {
                page.next = Some(Arc::clone(topic));
                break;
            }
        }
        page
    }

    /// How much is kept, of all realms.
    pub fn retained_usage(&self) -> RetainedUsage {
        // Relaxed: figures.
        RetainedUsage {
            events: self.retained.events.load(Ordering::Relaxed),
            bytes: self.retained.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Retained {
    /// Whether it is for this session; `None`: it is not what that session would hear, and an older one may be.
    fn admits(&self, label: &Label) -> Option<bool> {
        let is_meant = self.receivers.as_ref().is_none_or(|receivers| receivers.admit(label))
            || planted(Mutation::RetainedForAnybody);
        is_meant.then(|| self.except != Some(label.session) || planted(Mutation::RetainedToPublisher))
    }

    fn bytes(&self) -> usize {
        let lists = self.receivers.as_ref().map_or(0, |receivers| receivers.bytes());
        let identity = self.publisher.as_ref().and_then(|told| told.identity.as_ref());
        let publisher = identity.map_or(0, |who| who.authid.len() + who.authrole.len());
        OVERHEAD_BYTES + self.payload.len() + lists + publisher
    }
}

/// The newest event of a topic that a session would have heard, of those up to `version`. Who published the newest one and
/// does not hear itself gets none: an older one would be wrong.
pub(crate) fn newest_for<'a>(kept: &'a [Kept], version: u64, label: &Label) -> Option<&'a Arc<Retained>> {
    if planted(Mutation::OldestRetained) {
        return kept.first().map(|kept| &kept.event);
    }
    let known = kept.iter().rev().filter(|kept| kept.version <= version);
    let (is_for_it, event) =
        known.filter_map(|kept| Some((kept.event.admits(label)?, &kept.event))).next()?;
    is_for_it.then_some(event)
}

/// What a topic keeps once `newest` has come.
fn displacing(known: &[Kept], newest: Kept) -> Vec<Kept> {
    let mut after = Vec::new();
    if let Some(receivers) = &newest.event.receivers {
        let stays = |kept: &&Kept| kept.event.receivers.as_ref() != Some(receivers);
        after.extend(known.iter().filter(stays).cloned());
        if after.len() > LISTED_MAX {
            // The first may be for everybody, and stays.
            let oldest = usize::from(after[0].event.receivers.is_none());
            after.remove(oldest);
        }
    }
    after.push(newest);
    after
}

/// What a topic takes.
#[derive(Clone, Copy, Default)]
struct Size {
    events: usize,
    bytes: usize,
}

impl Size {
    fn of(uri: &str, kept: &[Kept]) -> Self {
        let bytes = kept.iter().map(|kept| kept.event.bytes() + uri.len()).sum();
        Self { events: kept.len(), bytes }
    }
}

/// With what every URI begins that the pattern covers.
fn common_beginning(policy: MatchPolicy, pattern: &str) -> &str {
    match policy {
        MatchPolicy::Exact | MatchPolicy::Prefix => pattern,
        MatchPolicy::Wildcard => {
            let place = pattern.find("..").map(|place| place + 1);
            let place = if pattern.starts_with('.') || pattern.is_empty() { Some(0) } else { place };
            place.map_or(pattern, |place| &pattern[..place])
        }
    }
}

#[cfg(not(loom))]
const SLOTS: usize = 64;
#[cfg(loom)]
const SLOTS: usize = 1;
/// Events of one topic that are for some only, each for others: the oldest makes room.
const LISTED_MAX: usize = 16;
/// What an event takes beside its payload, name and lists: its entry, two counted allocations and the tree.
const OVERHEAD_BYTES: usize = 200;
/// Topics that a page looks at under the realm's lock: some ten microseconds.
const LOOKED_AT_MAX: usize = 512;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::borrow::Cow;

    use fanwire_codec::wamp2::{ReceiverLists, Serializer};
    use proptest::prelude::*;

    use super::*;
    use crate::access::{Access, RealmConfig};
    use crate::ids::RoleId;
    use crate::receivers::Audience;

    const REALM: RealmId = RealmId::new(0);

    fn session(number: u64) -> SessionId {
        SessionId::new(number).expect("an id")
    }

    /// An event that is told apart by its number.
    fn event(number: u64, except: Option<u64>, receivers: Option<Arc<Receivers>>) -> Retained {
        let args = format!("[{number}]");
        let payload = OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None).expect("a list");
        let publication = PublicationId::from_random(number);
        Retained { publication, payload, publisher: None, except: except.map(session), receivers }
    }

    fn for_sessions(access: &Access, ids: &[u64]) -> Arc<Receivers> {
        let eligible_authid = ids.iter().map(|id| Cow::Owned(format!("anonymous-{id:x}"))).collect();
        let lists = ReceiverLists { eligible_authid: Some(eligible_authid), ..ReceiverLists::default() };
        match Audience::new(&lists, access, REALM) {
            Audience::Some(receivers) => receivers,
            other => panic!("{other:?}"),
        }
    }

    fn label(number: u64) -> Label {
        Label { session: session(number), role: RoleId::new(0), principal: None }
    }

    fn number_of(event: &Retained) -> u64 {
        event.publication.get() - 1
    }

    #[derive(Clone, Debug)]
    struct Step {
        topic: usize,
        is_cleared: bool,
        lists: usize,
        except: Option<u64>,
    }

    const LISTS: [&[u64]; 4] = [&[1, 2], &[2], &[3, 4], &[1]];
    const TOPICS: [&str; 3] = ["a.b", "a.c.d", "a.b.c"];

    fn step() -> impl Strategy<Value = Step> {
        (0..TOPICS.len(), prop::bool::weighted(0.15), 0..=LISTS.len(), prop::option::of(1..5u64))
            .prop_map(|(topic, is_cleared, lists, except)| Step { topic, is_cleared, lists, except })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a memory of all that ever was: the newest event that a session would have heard.
        #[test]
        fn each_hears_what_it_would_have_heard_last(
            steps in prop::collection::vec(step(), 1..40),
            upto in 0..40usize,
        ) {
            let access = Access::new(&[RealmConfig::open("r")], 1).expect("it is sound");
            let directory = Directory::new(1);
            let mut all: Vec<(usize, u64, usize, Option<u64>)> = Vec::new();
            let mut version = 0;
            for (number, step) in steps.iter().enumerate() {
                let Step { topic, is_cleared, lists, except } = *step;
                let receivers = LISTS.get(lists).map(|ids| for_sessions(&access, ids));
                if is_cleared {
                    directory.forget_retained(REALM, TOPICS[topic], receivers.as_deref());
                    all.retain(|(of, _, other, _)| *of != topic || lists != LISTS.len() && *other != lists);
                } else {
                    let event = event(number as u64, except, receivers);
                    directory.retain(REALM, TOPICS[topic], event, &RetentionLimits::default()).expect("room");
                    all.push((topic, number as u64, lists, except));
                }
                if number <= upto {
                    version = directory.retained_version(REALM);
                }
            }
            for (index, topic) in TOPICS.iter().enumerate() {
                for who in 1..5 {
                    let hears = |(of, _, lists, _): &&(usize, u64, usize, Option<u64>)| {
                        *of == index && LISTS.get(*lists).is_none_or(|ids| ids.contains(&who))
                    };
                    let last = all.iter().rev().find(hears).filter(|(.., except)| *except != Some(who));
                    let kept = directory.retained(REALM, topic);
                    let found = newest_for(&kept, u64::MAX, &label(who)).map(|event| number_of(event));
                    prop_assert_eq!(found, last.map(|(_, number, ..)| *number), "{} of {}", who, topic);
                    let older = newest_for(&kept, version, &label(who)).map(|event| number_of(event));
                    prop_assert!(older.is_none_or(|number| number <= upto as u64), "nothing newer");
                }
            }
            let usage = directory.retained_usage();
            let kept: Vec<Kept> = TOPICS.iter().flat_map(|topic| directory.retained(REALM, topic)).collect();
            prop_assert_eq!(usage.events as usize, kept.len());
            TOPICS.iter().for_each(|topic| directory.forget_retained(REALM, topic, None));
            prop_assert_eq!(directory.retained_usage(), RetainedUsage::default());
        }

        /// Pages of any size have each topic that the pattern covers once, in the order of names.
        #[test]
        fn pages_have_what_a_pattern_covers(
            topics in prop::collection::btree_set("[ab]{1,2}(\\.[ab]{0,2}){0,3}", 0..40),
            pattern in "[ab]{0,2}(\\.[ab]{0,2}){0,3}",
            is_prefix in any::<bool>(),
            limit in 1..8usize,
        ) {
            let policy = if is_prefix { MatchPolicy::Prefix } else { MatchPolicy::Wildcard };
            let directory = Directory::new(1);
            for topic in &topics {
                directory.retain(REALM, topic, event(1, None, None), &RetentionLimits::default()).expect("room");
            }
            let mut found: Vec<String> = Vec::new();
            let mut after: Option<Arc<str>> = None;
            loop {
                let page = directory.retained_page(REALM, (policy, &pattern), after.as_deref(), limit);
                prop_assert!(page.topics.len() <= limit);
                found.extend(page.topics.iter().map(|(topic, _)| topic.to_string()));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let covered = topics.iter().filter(|topic| uri::matches(policy, &pattern, topic));
            prop_assert_eq!(found, covered.cloned().collect::<Vec<_>>());
        }
    }

    #[test]
    fn limits_hold_and_leave_what_is_there() {
        let directory = Directory::new(1);
        let other = RealmId::new(64);
        let limits = RetentionLimits { events_per_realm: 2, bytes_per_realm: 1_000, bytes: 1_500 };
        let keep = |realm, topic, text: usize| {
            let args = format!("[\"{}\"]", "x".repeat(text));
            let payload =
                OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None).expect("a list");
            directory.retain(realm, topic, Retained { payload, ..event(1, None, None) }, &limits).map(drop)
        };
        assert_eq!(keep(REALM, "a", 100), Ok(()));
        assert_eq!(keep(REALM, "b", 100), Ok(()));
        assert_eq!(keep(REALM, "c", 100), Err(RetentionFull::RealmEvents));
        assert_eq!(keep(REALM, "b", 600), Err(RetentionFull::RealmBytes));
        assert_eq!(keep(REALM, "b", 300), Ok(()), "one in the place of another");
        assert_eq!(keep(other, "a", 600), Err(RetentionFull::Bytes), "of another realm, with the same lock");
        assert_eq!(keep(other, "a", 300), Ok(()));
        assert_eq!(directory.retained_usage().events, 3);
        directory.forget_retained(REALM, "b", None);
        assert_eq!(keep(REALM, "c", 100), Ok(()));
    }

    #[test]
    fn events_for_some_are_bounded_per_topic() {
        let access = Access::new(&[RealmConfig::open("r")], 1).expect("it is sound");
        let directory = Directory::new(1);
        let limits = RetentionLimits::default();
        directory.retain(REALM, "a", event(0, None, None), &limits).expect("room");
        for number in 1..=40 {
            let receivers = for_sessions(&access, &[number]);
            directory.retain(REALM, "a", event(number, None, Some(receivers)), &limits).expect("room");
        }
        let kept: Vec<u64> =
            directory.retained(REALM, "a").iter().map(|kept| number_of(&kept.event)).collect();
        assert_eq!(kept, [0].into_iter().chain(25..=40).collect::<Vec<_>>());
    }
}
