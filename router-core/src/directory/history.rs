//! Event history: the last publications to topics that have a rule for it (WAMP, "Event History").
//!
//! ```text
//! realm ─▶ in the order in which they came: number ─▶ event
//!      └─▶ topic ─▶ the numbers of its events, oldest first
//! ```
//!
//! Each topic has a ring of its own, bounded by its rule in events, bytes and age. Where a realm, or the process, has as many
//! bytes as it may, the oldest event of the realm makes room, whatever its topic. Numbers are drawn under the realm's lock, so
//! one publisher's events are in its order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use fanwire_codec::payload::OwnedPayload;
use hashbrown::HashMap;

use super::Directory;
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::access::TrustLevel;
use crate::clock::Instant;
use crate::ids::{PublicationId, RealmId, RoleId};
use crate::mutation::{Mutation, planted};
use crate::receivers::Receivers;
use crate::session::Identity;
use crate::topics::HistoryBounds;
use crate::uri::{self, MatchPolicy};

/// One publication of before.
#[derive(Debug)]
pub struct PastPublication {
    /// Its id.
    pub publication: PublicationId,
    /// Where it was published.
    pub topic: Arc<str>,
    /// When the router had it.
    pub at: Instant,
    /// As it was sent.
    pub payload: OwnedPayload,
    /// The publisher, if it was disclosed.
    pub publisher: Option<Identity>,
    /// How far it was trusted, if that was told.
    pub trust: Option<TrustLevel>,
    /// Whom it was for, unless for all subscribers. It names no sessions.
    pub(crate) receivers: Option<Arc<Receivers>>,
}

impl PastPublication {
    /// Whether it was for somebody of this role and name; `None`: for a program, which is no user.
    pub fn is_for(&self, role: RoleId, authid: Option<&str>) -> bool {
        self.receivers.as_ref().is_none_or(|receivers| match authid {
            Some(authid) => receivers.admit_user(role, authid),
            None => receivers.admit_role(role),
        })
    }

    fn bytes(&self) -> usize {
        let lists = self.receivers.as_ref().map_or(0, |receivers| receivers.bytes());
        let publisher = self.publisher.as_ref().map_or(0, |who| who.authid.len() + who.authrole.len());
        EVENT_BYTES + self.payload.len() + lists + publisher
    }
}

/// What is to be kept of a publication.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) publication: PublicationId,
    pub(crate) at: Instant,
    pub(crate) payload: OwnedPayload,
    pub(crate) publisher: Option<Identity>,
    pub(crate) trust: Option<TrustLevel>,
    pub(crate) receivers: Option<Arc<Receivers>>,
}

/// How much may be kept, beside what the rules of topics say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Bytes of one realm: payloads, names of topics, lists of receivers, and some 250 for each event.
    pub bytes_per_realm: usize,
    /// The same of all realms.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { bytes_per_realm: 32 << 20, bytes: 64 << 20 }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryUsage {
    /// Publications of all realms.
    pub events: u64,
    /// As [`HistoryLimits`] count them.
    pub bytes: u64,
}

/// What became of older events when one was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Displaced {
    /// Events that made room because of [`HistoryLimits`], before their rule would have let them go.
    pub(crate) by_limits: u64,
    /// The new one itself was larger than all that may be kept.
    pub(crate) is_too_large: bool,
}

/// Where a look into the history goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryCursor {
    /// From the oldest on.
    Oldest,
    /// From the newest back.
    Newest,
    /// Behind the event with this number.
    After(u64),
    /// Before it.
    Before(u64),
}

/// Some publications, each with its number in the order of the realm.
#[derive(Debug, Default)]
pub struct HistoryPage {
    /// In the direction in which was asked; maybe fewer than there are.
    pub events: Vec<(u64, Arc<PastPublication>)>,
    /// Where to go on; `None` at the end.
    pub next: Option<HistoryCursor>,
}

/// The histories of the process.
#[derive(Debug)]
pub(super) struct Histories {
    slots: Box<[CachePadded<Mutex<Realms>>]>,
    events: AtomicU64,
    bytes: AtomicU64,
}

type Realms = HashMap<RealmId, Shelf, foldhash::fast::FixedState>;

#[derive(Debug, Default)]
struct Shelf {
    last: u64,
    events: BTreeMap<u64, Arc<PastPublication>>,
    topics: HashMap<Arc<str>, Ring, foldhash::fast::FixedState>,
    bytes: usize,
}

/// The events of one topic.
#[derive(Debug, Default)]
struct Ring {
    numbers: VecDeque<u64>,
    bytes: usize,
}

impl Histories {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| CachePadded::new(Mutex::new(Realms::default()))).collect(),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self, realm: RealmId) -> MutexGuard<'_, Realms> {
        lock(&self.slots[realm.index() & (SLOTS - 1)])
    }

    fn count_in(&self, bytes: usize) {
        // Relaxed: figures, and a bound that several realms may pass by one event each.
        self.events.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count_out(&self, bytes: usize) {
        self.events.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Shelf {
    /// Takes the oldest event of a topic out.
    fn pop(&mut self, topic: &str) -> Option<(usize, Arc<PastPublication>)> {
        let ring = self.topics.get_mut(topic)?;
        let newest = planted(Mutation::NewestMakesRoom);
        let number = if newest { ring.numbers.pop_back()? } else { ring.numbers.pop_front()? };
        let event = self.events.remove(&number)?;
        let bytes = event.bytes() + topic.len();
        ring.bytes -= bytes;
        self.bytes -= bytes;
        if ring.numbers.is_empty() {
            self.topics.remove(topic);
        }
        Some((bytes, event))
    }

    /// Whether a topic has more than its rule lets it have.
    fn passes(&self, topic: &str, bounds: &HistoryBounds, now: Instant) -> bool {
        let Some(ring) = self.topics.get(topic) else { return false };
        let oldest = ring.numbers.front().and_then(|number| self.events.get(number));
        ring.numbers.len() > bounds.events as usize && !planted(Mutation::HistoryUncounted)
            || ring.bytes > bounds.bytes && !planted(Mutation::HistoryUnweighed)
            || oldest.is_some_and(|oldest| bounds.is_over(oldest.at, now))
                && !planted(Mutation::HistoryNeverOld)
    }
}

impl Directory {
    /// Keeps a publication by this rule.
    pub(crate) fn record(
        &self,
        realm: RealmId,
        uri: &str,
        record: Record,
        bounds: &HistoryBounds,
        limits: &HistoryLimits,
    ) -> Displaced {
        let mut displaced = Displaced::default();
        let mut gone = Vec::new();
        let now = record.at;
        let mut realms = self.histories.lock(realm);
        let shelf = realms.entry(realm).or_default();
        let topic =
            shelf.topics.get_key_value(uri).map_or_else(|| Arc::from(uri), |(topic, _)| Arc::clone(topic));
        let Record { publication, at, payload, publisher, trust, receivers } = record;
        let event = PastPublication {
            publication,
            topic: Arc::clone(&topic),
            at,
            payload,
            publisher,
            trust,
            receivers,
        };
        let bytes = event.bytes() + uri.len();
        if bytes > bounds.bytes.min(limits.bytes_per_realm).min(limits.bytes) {
            return Displaced { is_too_large: true, ..displaced };
        }
        shelf.last += 1;
        let number = shelf.last;
        shelf.events.insert(number, Arc::new(event));
        let ring = shelf.topics.entry(topic).or_default();
        ring.numbers.push_back(number);
        ring.bytes += bytes;
        shelf.bytes += bytes;
        self.histories.count_in(bytes);
        // As many bytes go as come, so that no bound is passed for long; beyond that a few, so that it is not long for the others.
        let brought = bytes;
        let goes_on = |freed: usize, count: usize| freed < brought || count < OUTDATED_AT_ONCE;
        let (mut freed, mut count) = (0, 0);
        while goes_on(freed, count) && shelf.passes(uri, bounds, now) {
            let Some((bytes, event)) = shelf.pop(uri) else { break };
            (freed, count) = (freed + bytes, count + 1);
            self.histories.count_out(bytes);
            gone.push(event);
        }
        let is_full = |shelf: &Shelf| {
            let all = self.histories.bytes.load(Ordering::Relaxed) as usize;
            (shelf.bytes > limits.bytes_per_realm || all > limits.bytes)
                && !planted(Mutation::HistoryLimitless)
        };
        let (mut freed, mut count) = (0, 0);
        while goes_on(freed, count) && is_full(shelf) {
            let Some(oldest) = shelf.events.first_key_value().map(|(_, event)| Arc::clone(&event.topic))
            else {
                break;
            };
            let Some((bytes, event)) = shelf.pop(&oldest) else { break };
            (freed, count) = (freed + bytes, count + 1);
            self.histories.count_out(bytes);
            displaced.by_limits += 1;
            gone.push(event);
        }
        // Payloads are freed for nobody to wait.
        drop(realms);
        drop(gone);
        displaced
    }

    /// Publications to topics that `pattern` covers: some hundred of them are looked at, so a page may have fewer than
    /// `limit`, or none, though more follow.
    pub fn history(
        &self,
        realm: RealmId,
        (policy, pattern): (MatchPolicy, &str),
        from: HistoryCursor,
        limit: usize,
    ) -> HistoryPage {
        let realms = self.histories.lock(realm);
        let Some(shelf) = realms.get(&realm) else { return HistoryPage::default() };
        let is_backwards = matches!(from, HistoryCursor::Newest | HistoryCursor::Before(_));
        match policy {
            MatchPolicy::Exact => {
                let Some(ring) = shelf.topics.get(pattern) else { return HistoryPage::default() };
                let numbers = &ring.numbers;
                let range = match from {
                    HistoryCursor::Oldest | HistoryCursor::Newest => 0..numbers.len(),
                    HistoryCursor::After(last) => {
                        numbers.partition_point(|number| *number <= last)..numbers.len()
                    }
                    HistoryCursor::Before(last) => 0..numbers.partition_point(|number| *number < last),
                };
                let events = numbers.range(range).filter_map(|number| shelf.events.get_key_value(number));
                gather(events, is_backwards, |_| true, limit)
            }
            _ => {
                let range = match from {
                    HistoryCursor::Oldest | HistoryCursor::Newest => (Bound::Unbounded, Bound::Unbounded),
                    HistoryCursor::After(last) => (Bound::Excluded(last), Bound::Unbounded),
                    HistoryCursor::Before(last) => (Bound::Unbounded, Bound::Excluded(last)),
                };
                let covers = |event: &PastPublication| {
                    uri::matches(policy, pattern, &event.topic) || planted(Mutation::HistoryPatternUnchecked)
                };
                gather(shelf.events.range(range), is_backwards, covers, limit)
            }
        }
    }

    /// Keeps only what these bounds let realms and topics have: rules have changed. To be asked once all who record go by them.
    ///
    /// A page under a realm's lock at a time, so nobody waits long for it.
    pub fn prune_histories(&self, now: Instant, bounds: impl Fn(RealmId, &str) -> Option<HistoryBounds>) {
        for slot in &self.histories.slots {
            let realms: Vec<RealmId> = lock(slot).keys().copied().collect();
            for realm in realms {
                let mut after = Some(0);
                while let Some(number) = after {
                    after = self.prune_history(realm, number, now, &bounds);
                }
            }
        }
    }

    /// One page of this, behind the event with this number. Returns the last that was looked at.
    fn prune_history(
        &self,
        realm: RealmId,
        after: u64,
        now: Instant,
        bounds: impl Fn(RealmId, &str) -> Option<HistoryBounds>,
    ) -> Option<u64> {
        let mut gone = Vec::new();
        let mut realms = self.histories.lock(realm);
        let shelf = realms.get_mut(&realm)?;
        let page = shelf.events.range((Bound::Excluded(after), Bound::Unbounded)).take(LOOKED_AT_MAX);
        let page: Vec<(u64, Arc<str>)> =
            page.map(|(number, event)| (*number, Arc::clone(&event.topic))).collect();
        for (_, topic) in &page {
            // The oldest of its topic is this one, or it would have gone before.
            let goes = bounds(realm, topic).is_none_or(|bounds| shelf.passes(topic, &bounds, now));
            if let Some((bytes, event)) = goes.then(|| shelf.pop(topic)).flatten() {
                self.histories.count_out(bytes);
                gone.push(event);
            }
        }
        if shelf.events.is_empty() {
            realms.remove(&realm);
        }
        drop(realms);
        drop(gone);
        page.last().map(|(number, _)| *number)
    }

    /// How much is kept, of all realms.
    pub fn history_usage(&self) -> HistoryUsage {
        // Relaxed: figures.
        HistoryUsage {
            events: self.histories.events.load(Ordering::Relaxed),
            bytes: self.histories.bytes.load(Ordering::Relaxed),
        }
    }
}

fn gather<'a>(
    events: impl DoubleEndedIterator<Item = (&'a u64, &'a Arc<PastPublication>)>,
    is_backwards: bool,
    covers: impl Fn(&PastPublication) -> bool,
    limit: usize,
) -> HistoryPage {
    let mut page = HistoryPage::default();
    let mut add = |(count, (number, event)): (usize, (&u64, &Arc<PastPublication>))| {
        if covers(event) {
            page.events.push((*number, Arc::clone(event)));
        }
        let is_full = page.events.len() >= limit || count + 1 >= LOOKED_AT_MAX;
        let skipped = u64::from(planted(Mutation::HistoryPageSkips));
        let next = if is_backwards {
            HistoryCursor::Before(*number)
        } else {
            HistoryCursor::After(*number + skipped)
        };
        page.next = is_full.then_some(next);
        is_full
    };
    _ = if is_backwards { events.rev().enumerate().any(&mut add) } else { events.enumerate().any(&mut add) };
    page
}

#[cfg(not(loom))]
const SLOTS: usize = 64;
#[cfg(loom)]
const SLOTS: usize = 1;
/// What an event takes beside its payload, name and lists: its entry, counted allocations, the tree and the ring.
const EVENT_BYTES: usize = 250;
/// Events that one publication takes out because they are too old or too many. After a pause very many may be; each further one takes
/// more than it brings.
const OUTDATED_AT_ONCE: usize = 64;
/// Events that a page looks at under the realm's lock: some ten microseconds.
const LOOKED_AT_MAX: usize = 512;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use fanwire_codec::wamp2::Serializer;
    use proptest::prelude::*;

    use super::*;

    const REALM: RealmId = RealmId::new(0);
    const TOPICS: [&str; 4] = ["a.b", "a.c", "a.b.c", "b"];

    fn record(number: u64, at: u64) -> Record {
        let args = format!("[{number}]");
        let payload = OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None).expect("a list");
        let publication = PublicationId::from_random(number);
        let at = Instant::START + Duration::from_secs(at);
        Record { publication, at, payload, publisher: None, trust: None, receivers: None }
    }

    fn all_pages(
        directory: &Directory,
        meant: (MatchPolicy, &str),
        first: HistoryCursor,
        limit: usize,
    ) -> Vec<u64> {
        let mut found = Vec::new();
        let mut from = Some(first);
        while let Some(cursor) = from {
            let page = directory.history(REALM, meant, cursor, limit);
            assert!(page.events.len() <= limit);
            found.extend(page.events.iter().map(|(_, event)| event.publication.get() - 1));
            from = page.next;
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against rings that are kept topic by topic, with all that ever was in one list.
        #[test]
        fn histories_are_the_last_events_of_their_topics(
            steps in prop::collection::vec((0..TOPICS.len(), 0..5u64), 0..60),
            events in 1..6u32,
            age in 1..12u64,
            pattern in prop::sample::select(vec![
                (MatchPolicy::Exact, "a.b"), (MatchPolicy::Prefix, "a"), (MatchPolicy::Prefix, ""),
                (MatchPolicy::Wildcard, "a."), (MatchPolicy::Wildcard, "a..c"),
            ]),
            limit in 1..7usize,
        ) {
            let directory = Directory::new(1);
            let bounds = HistoryBounds { events, bytes: 1 << 20, age: Some(Duration::from_secs(age)) };
            let mut kept: Vec<(usize, u64, u64)> = Vec::new();
            let mut now = 0;
            for (number, (topic, pause)) in steps.iter().enumerate() {
                now += pause;
                directory.record(REALM, TOPICS[*topic], record(number as u64, now), &bounds, &HistoryLimits::default());
                kept.push((*topic, number as u64, now));
                let mut of_topic = kept.iter().filter(|(other, ..)| other == topic).count();
                kept.retain(|(other, _, at)| {
                    let goes = other == topic && (of_topic > events as usize || now - at > age);
                    of_topic -= usize::from(other == topic && goes);
                    !goes
                });
            }
            let covered = kept.iter().filter(|(topic, ..)| uri::matches(pattern.0, pattern.1, TOPICS[*topic]));
            let mut expected: Vec<u64> = covered.map(|(_, number, _)| *number).collect();
            prop_assert_eq!(all_pages(&directory, pattern, HistoryCursor::Oldest, limit), expected.clone());
            expected.reverse();
            prop_assert_eq!(all_pages(&directory, pattern, HistoryCursor::Newest, limit), expected);
            prop_assert_eq!(directory.history_usage().events as usize, kept.len());
            directory.prune_histories(Instant::START, |_, _| None);
            prop_assert_eq!(directory.history_usage(), HistoryUsage::default());
        }

        /// Newer rules: what they let nobody have goes, topic by topic, and nothing else.
        #[test]
        fn newer_rules_hold_for_what_is_kept_already(
            topics in prop::collection::vec(0..TOPICS.len(), 0..1_500),
            events in prop::collection::vec(prop::option::of(1..300u32), TOPICS.len()),
            age in 0..1_500u64,
        ) {
            let directory = Directory::new(1);
            let wide = HistoryBounds { events: 10_000, bytes: 1 << 20, age: None };
            for (number, topic) in topics.iter().enumerate() {
                let record = record(number as u64, number as u64);
                directory.record(REALM, TOPICS[*topic], record, &wide, &HistoryLimits::default());
            }
            let now = topics.len() as u64;
            directory.prune_histories(Instant::START + Duration::from_secs(now), |_, uri| {
                let topic = TOPICS.iter().position(|topic| *topic == uri).expect("one of them");
                events[topic].map(|events| HistoryBounds { events, age: Some(Duration::from_secs(age)), ..wide })
            });
            for (index, topic) in TOPICS.iter().enumerate() {
                let of: Vec<u64> =
                    (0..now).filter(|number| topics[*number as usize] == index && now - number <= age).collect();
                let left = of.len().saturating_sub(events[index].unwrap_or(0) as usize);
                let found = all_pages(&directory, (MatchPolicy::Exact, topic), HistoryCursor::Oldest, 100);
                prop_assert_eq!(&found[..], &of[left..], "{}", topic);
            }
        }
    }

    #[test]
    fn one_publication_takes_a_bounded_number_of_old_ones_out() {
        let directory = Directory::new(1);
        let bounds = HistoryBounds { events: 1_000, bytes: 1 << 20, age: Some(Duration::from_secs(1)) };
        let kept = |directory: &Directory| directory.history_usage().events;
        for number in 0..200 {
            directory.record(REALM, "a.b", record(number, 0), &bounds, &HistoryLimits::default());
        }
        directory.record(REALM, "a.b", record(200, 10), &bounds, &HistoryLimits::default());
        assert_eq!(kept(&directory), 201 - OUTDATED_AT_ONCE as u64);
        for number in 201..204 {
            directory.record(REALM, "a.b", record(number, 10), &bounds, &HistoryLimits::default());
        }
        assert_eq!(kept(&directory), 4, "the others follow soon");
    }

    #[test]
    fn pages_go_on_from_where_they_ended_though_events_come_and_go() {
        let directory = Directory::new(1);
        let bounds = HistoryBounds { events: 4, bytes: 1 << 20, age: None };
        for number in 0..4 {
            directory.record(REALM, "a.b", record(number, 0), &bounds, &HistoryLimits::default());
        }
        let page = directory.history(REALM, (MatchPolicy::Exact, "a.b"), HistoryCursor::Oldest, 2);
        let next = page.next.expect("two more");
        for number in 4..7 {
            directory.record(REALM, "a.b", record(number, 0), &bounds, &HistoryLimits::default());
        }
        assert_eq!(all_pages(&directory, (MatchPolicy::Exact, "a.b"), next, 10), [3, 4, 5, 6]);
    }
}
