//! The directory: what all shards share. Topics with their interest, procedures with their callees, sessions.
//!
//! ```text
//! (realm, policy, URI) ─▶ Topic { id, interest: one bit per shard │ RETIRED, congested }
//! (realm, policy, URI) ─▶ Registration { id, callee, or several }
//! session id           ─▶ SessionEntry { realm, role, shard }
//! (realm, URI)         ─▶ what was published to be kept, and the last that was published
//! cookie               ─▶ who logged in with it
//! ```
//!
//! * It is the only place in the core with atomics and locks. A lock covers one bucket for one map operation; nothing
//!   is delivered, encoded or awaited under one.
//! * Who is subscribed is known by the shards. Only a shard's first and last subscriber of a topic come here.
//! * Publishing never creates anything: a topic is there because somebody is subscribed to it.
//! * Patterns are entries like topics and procedures; what is kept beside them says only which look-ups find those that cover
//!   a URI (`patterns.rs`).
//!
//! Read [`Directory`], then [`Topic`] for the one word that publishers load, then [`HandleCache`] for what a shard keeps.

mod cache;
mod cookies;
mod history;
mod listing;
mod matches;
mod members;
mod notes;
mod patterns;
mod registration;
mod retained;
mod sessions;
mod sync;
mod table;
mod topic;

pub use cache::HandleCache;
pub(crate) use cookies::CookieBounds;
pub use cookies::{Cookie, CookieId, CookieUsage, Cookies, RememberedLogin};
pub(crate) use history::Record;
pub use history::{HistoryCursor, HistoryLimits, HistoryPage, HistoryUsage, PastPublication};
pub use listing::{TopicCursor, TopicFilter, TopicInfo, TopicPage};
pub use matches::{Found, PatternMatches};
pub use members::{Choice, Claim};
pub use notes::{Heard, Note};
pub use patterns::TooManyPatterns;
pub use registration::{Callee, CalleeFeatures, Candidates, Offer, RegisterError, Registered, Registration};
pub(crate) use retained::{Kept, Retained, RetainedPage, newest_for};
pub use retained::{RetainedUsage, RetentionFull, RetentionLimits};
pub use sessions::SessionEntry;
pub use table::Entry;
pub use topic::Topic;

use crate::meta::EntryEvent;
use crate::mutation::{self, Mutation, planted};
use crate::{
    clock::Instant,
    ids::{RealmId, RegistrationId, SessionId, ShardId, SubscriptionId},
    uri::MatchPolicy,
};
use history::Histories;
use notes::Notes;
use patterns::Patterns;
use retained::RetainedEvents;
use sessions::Sessions;
use std::sync::Arc;
use sync::{AtomicU64, Ordering};
use table::{Key, Table};

/// A shard's handles of topics.
pub type TopicCache = HandleCache<Topic>;
/// A shard's handles of registrations.
pub type RegistrationCache = HandleCache<Registration>;

/// 1,024 locks for at most 63 shards: two shards meet at one in a few of a hundred operations at worst. 128 KiB.
#[cfg(not(loom))]
const TOPIC_BUCKETS: usize = 1024;
#[cfg(not(loom))]
const REGISTRATION_BUCKETS: usize = 256;
/// loom explores each lock's every order: two are enough to have one that is shared.
#[cfg(loom)]
const TOPIC_BUCKETS: usize = 1;
#[cfg(loom)]
const REGISTRATION_BUCKETS: usize = 1;

/// What is noted of an entry that is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Creation {
    /// When.
    pub at: Instant,
    /// Somebody wants to hear of it.
    pub is_news: bool,
}

/// Everything that two shards both know. One per process, in an `Arc`.
#[derive(Debug)]
pub struct Directory {
    topics: Table<Topic>,
    topic_patterns: Patterns,
    registrations: Table<Registration>,
    registration_patterns: Patterns,
    sessions: Sessions,
    retained: RetainedEvents,
    histories: Histories,
    cookies: Cookies,
    next_subscription: AtomicU64,
    next_registration: AtomicU64,
    next_news: AtomicU64,
}

impl Directory {
    /// An empty directory. `seed` keys its hash tables: random in production, so that no client can aim at one bucket.
    pub fn new(seed: u64) -> Self {
        Self {
            topics: Table::new(TOPIC_BUCKETS, seed),
            topic_patterns: Patterns::new(),
            registration_patterns: Patterns::new(),
            registrations: Table::new(REGISTRATION_BUCKETS, seed.rotate_left(32)),
            sessions: Sessions::new(),
            retained: RetainedEvents::new(),
            histories: Histories::new(),
            cookies: Cookies::default(),
            next_subscription: AtomicU64::new(1),
            next_registration: AtomicU64::new(1),
            next_news: AtomicU64::new(1),
        }
    }

    /// Logins that connections are remembered by.
    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// Says that `shard` now has a subscriber of this topic; creates the entry if it is the first shard.
    ///
    /// Called at the shard's 0 → 1 transition. When it returns, every publisher that hears of it, by whatever way, sees
    /// the interest: only then may SUBSCRIBED be sent.
    pub fn subscribe(&self, realm: RealmId, uri: &str, shard: ShardId) -> Arc<Topic> {
        self.subscribe_noting(realm, uri, shard, Creation::default()).0
    }

    /// The same. If it creates the entry and that is news, it draws a number for that while the entry is still locked: so who
    /// finds the entry draws greater ones.
    pub fn subscribe_noting(
        &self,
        realm: RealmId,
        uri: &str,
        shard: ShardId,
        creation: Creation,
    ) -> (Arc<Topic>, Option<u64>) {
        let key = Key { realm, policy: MatchPolicy::Exact, uri };
        let hash = self.topics.hash(key);
        let mut bucket = self.topics.lock(hash);
        if let Some(topic) = bucket.find(key) {
            topic.set_interest(shard);
            return (Arc::clone(topic), None);
        }
        let topic = Arc::new(Topic::new(self.new_subscription_id(hash), hash, key, shard, creation.at));
        bucket.insert(Arc::clone(&topic));
        (topic, self.number(creation.is_news))
    }

    /// A number for what is news. To be called under the lock of its entry.
    fn number(&self, is_news: bool) -> Option<u64> {
        is_news.then(|| self.next_news())
    }

    /// The same for a prefix or wildcard, of which a realm has `patterns_max` different ones at most.
    pub fn subscribe_pattern(
        &self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
        shard: ShardId,
        patterns_max: usize,
    ) -> Result<Arc<Topic>, TooManyPatterns> {
        let creation = Creation::default();
        Ok(self.subscribe_pattern_noting(realm, policy, uri, shard, patterns_max, creation)?.0)
    }

    /// The same, as [`subscribe_noting`](Self::subscribe_noting) does it.
    pub fn subscribe_pattern_noting(
        &self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
        shard: ShardId,
        patterns_max: usize,
        creation: Creation,
    ) -> Result<(Arc<Topic>, Option<u64>), TooManyPatterns> {
        let key = Key { realm, policy, uri };
        let hash = self.topics.hash(key);
        if let Some(topic) = self.topics.lock(hash).find(key) {
            topic.set_interest(shard);
            return Ok((Arc::clone(topic), None));
        }
        self.topic_patterns.reserve(key, patterns_max)?;
        let mut bucket = self.topics.lock(hash);
        if let Some(topic) = bucket.find(key) {
            // Another shard was first.
            topic.set_interest(shard);
            let topic = Arc::clone(topic);
            drop(bucket);
            self.topic_patterns.release(realm, policy, uri);
            return Ok((topic, None));
        }
        let topic = Arc::new(Topic::new(self.new_subscription_id(hash), hash, key, shard, creation.at));
        bucket.insert(Arc::clone(&topic));
        announce(&self.topic_patterns, realm);
        Ok((topic, self.number(creation.is_news)))
    }

    fn new_subscription_id(&self, hash: u64) -> SubscriptionId {
        // Relaxed: only uniqueness matters, and read-modify-writes never see one number twice.
        let number = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        let id = self.topics.id(number, hash);
        SubscriptionId::new(id).expect("2^43 of them are a hundred thousand a second for years")
    }

    /// The next number in the order of all that is told to the meta desk, from 1 on. Who draws one must tell.
    ///
    /// What happens later, by any chain of locks and messages, has a greater number.
    pub fn next_news(&self) -> u64 {
        // Relaxed: two numbers drawn one after the other are in that order, since it is one word.
        self.next_news.fetch_add(1, Ordering::Relaxed)
    }

    /// Says that `shard` has no subscriber of this topic any more; drops the entry if no shard has.
    ///
    /// Called at the shard's 1 → 0 transition, after it has stopped to deliver the topic's events.
    pub fn unsubscribe(&self, topic: &Arc<Topic>, shard: ShardId) {
        self.unsubscribe_noting(topic, shard, false);
    }

    /// The same. If it drops the entry and that is news, it draws a number for that: greater than those of whoever left before,
    /// less than those of an entry of the same name that follows.
    pub fn unsubscribe_noting(&self, topic: &Arc<Topic>, shard: ShardId, is_news: bool) -> Option<u64> {
        topic.set_congested(shard, false);
        topic.set_paused(shard, false);
        if !topic.clear_interest(shard) {
            return None;
        }
        let mut bucket = self.topics.lock(topic.hash());
        if !topic.retire() {
            return None;
        }
        let number = self.number(is_news);
        bucket.remove(topic);
        drop(bucket);
        if topic.policy() != MatchPolicy::Exact {
            self.topic_patterns.release(topic.realm(), topic.policy(), topic.uri());
        }
        number
    }

    /// The entries of this topic and of all patterns that cover it. Takes locks; publishers use a [`TopicCache`].
    pub fn matching(&self, realm: RealmId, uri: &str) -> Vec<Arc<Topic>> {
        let exact = self.lookup(realm, MatchPolicy::Exact, uri);
        let patterns = self.topic_patterns.matching(&self.topics, realm, uri);
        let patterns = patterns.iter().flat_map(|matches| matches.entries()).cloned();
        exact.into_iter().chain(patterns).filter(|topic| topic.interest() != 0).collect()
    }

    /// The entry of this very topic or pattern, if anybody is subscribed to it. Takes the bucket's lock; publishers use a
    /// [`TopicCache`].
    pub fn lookup(&self, realm: RealmId, policy: MatchPolicy, uri: &str) -> Option<Arc<Topic>> {
        let key = Key { realm, policy, uri };
        self.topics.lock(self.topics.hash(key)).find(key).cloned()
    }

    /// Registers a procedure, or a prefix or wildcard, of which a realm has `patterns_max` different ones at most. When it
    /// returns, every caller that hears of it sees it: only then may REGISTERED be sent.
    ///
    /// # Errors
    ///
    /// Says why it was not registered; then nothing has changed, and there is nothing to tell.
    pub fn register(
        &self,
        realm: RealmId,
        policy: MatchPolicy,
        uri: &str,
        callee: Callee,
        offer: &Offer,
        patterns_max: usize,
    ) -> Result<Registered, RegisterError> {
        let key = Key { realm, policy, uri };
        let hash = self.registrations.hash(key);
        let is_pattern = policy != MatchPolicy::Exact;
        let mut is_reserved = false;
        let (mut bucket, present) = loop {
            let bucket = self.registrations.lock(hash);
            let present = bucket.find(key).map(Arc::clone);
            if present.is_some() || !is_pattern || is_reserved {
                break (bucket, present);
            }
            drop(bucket);
            self.registration_patterns.reserve(key, patterns_max)?;
            is_reserved = true;
        };
        let entered = match &present {
            None => Ok(self.new_registration(hash, key, callee, offer)),
            Some(present)
                if offer.force
                    && (present.callees().all(|other| other.role == callee.role)
                        || planted(Mutation::ForcedAcrossRoles)) =>
            {
                Ok(self.new_registration(hash, key, callee, offer))
            }
            // Who asks to have it alone does not share it instead.
            Some(_) if offer.force => Err(RegisterError::AlreadyRegistered),
            Some(present) => present.joined_by(callee, offer),
        };
        let mut notes = Notes::new(self, offer.heard);
        let entered = entered.map(|registration| {
            let registration = Arc::new(registration);
            if let Some(present) = &present {
                present.retire();
                bucket.remove(present);
            }
            if present.as_ref().is_none_or(|present| present.id() != registration.id()) {
                present.iter().for_each(|displaced| notes.add_end(displaced));
                notes.add(EntryEvent::Created, callee.session, &registration);
            }
            notes.add(EntryEvent::Attached, callee.session, &registration);
            bucket.insert(Arc::clone(&registration));
            registration
        });
        if is_reserved && present.is_none() {
            announce(&self.registration_patterns, realm);
        }
        drop(bucket);
        if is_reserved && present.is_some() {
            // Another one was first, and has made a place for it.
            self.registration_patterns.release(realm, policy, uri);
        }
        let registration = entered?;
        let displaced = present.filter(|present| present.id() != registration.id());
        Ok(Registered { registration, displaced, notes: notes.into_all() })
    }

    fn new_registration(&self, hash: u64, key: Key<'_>, callee: Callee, offer: &Offer) -> Registration {
        // Relaxed: as for subscriptions.
        let number = self.next_registration.fetch_add(1, Ordering::Relaxed);
        let id = RegistrationId::new(self.registrations.id(number, hash));
        let id = id.expect("2^45 of them are a hundred thousand a second for years");
        Registration::new(id, hash, key, callee, offer)
    }

    /// Takes a session's registration back. Callers that hold its handle see that it is retired; if others share it, there is
    /// another one in its place. Doing it twice does nothing, and nothing is `heard` of it then.
    pub fn unregister(&self, registration: &Registration, session: SessionId, heard: Heard) -> Vec<Note> {
        let (realm, policy, uri) = registration.key();
        let mut bucket = self.registrations.lock(registration.hash());
        // An entry of another id is another registration: this one was forced out.
        let is_it = |present: &&Arc<Registration>| {
            present.id() == registration.id() && present.callees().any(|callee| callee.session == session)
        };
        let Some(present) = bucket.find(Key { realm, policy, uri }).filter(is_it).map(Arc::clone) else {
            return Vec::new();
        };
        let mut notes = Notes::new(self, heard);
        notes.add(EntryEvent::Detached, session, &present);
        present.retire();
        bucket.remove(&present);
        if let Some(others) = present.left_by(session) {
            bucket.insert(Arc::new(others));
            return notes.into_all();
        }
        notes.add(EntryEvent::Deleted, session, &present);
        drop(bucket);
        if policy != MatchPolicy::Exact {
            self.registration_patterns.release(realm, policy, uri);
        }
        notes.into_all()
    }

    /// The registrations to which a call of this procedure may go, in their precedence: the one of exactly this procedure, or
    /// else those whose patterns cover it. Takes locks; callers use a [`RegistrationCache`].
    pub fn candidates(&self, realm: RealmId, uri: &str) -> Vec<Arc<Registration>> {
        if let Some(exact) = self.registration(realm, MatchPolicy::Exact, uri) {
            return vec![exact];
        }
        let patterns = self.registration_patterns.matching(&self.registrations, realm, uri);
        patterns.iter().flat_map(|matches| matches.entries()).cloned().collect()
    }

    /// The registration of this very procedure or pattern. Takes the bucket's lock; callers use a [`RegistrationCache`].
    pub fn registration(&self, realm: RealmId, policy: MatchPolicy, uri: &str) -> Option<Arc<Registration>> {
        let key = Key { realm, policy, uri };
        self.registrations.lock(self.registrations.hash(key)).find(key).cloned()
    }

    /// Enters a session. False if the id is taken: then the shard draws another one.
    pub fn register_session(&self, session: SessionId, entry: SessionEntry) -> bool {
        self.sessions.insert(session, entry)
    }

    /// Removes a session; false if it was not there.
    pub fn remove_session(&self, session: SessionId) -> bool {
        self.sessions.remove(session)
    }

    /// Where a session lives.
    pub fn session(&self, session: SessionId) -> Option<SessionEntry> {
        self.sessions.get(session)
    }

    /// Into how many parts the registry of sessions is divided, for [`visit_sessions`](Self::visit_sessions).
    pub fn session_parts(&self) -> usize {
        self.sessions.part_count()
    }

    /// Shows all sessions of one part of the registry, in no order that means anything. A session is in one part for life.
    /// Takes that part's lock while it does, so `each` must be quick.
    ///
    /// # Panics
    ///
    /// If there is no such part.
    pub fn visit_sessions(&self, part: usize, each: impl FnMut(SessionId, SessionEntry)) {
        self.sessions.visit(part, each);
    }

    /// How many topics and patterns have subscribers. Takes each lock once: for metrics and tests.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many procedures are registered. Takes each lock once: for metrics and tests.
    pub fn registration_count(&self) -> usize {
        self.registrations.len()
    }

    /// How many invocations count for callees with a limit, or for those of whom the least loaded is asked. Takes each lock
    /// once: for tests.
    pub fn claim_count(&self) -> u64 {
        let mut claims = Vec::new();
        for bucket in 0..self.registrations.bucket_count() {
            self.registrations.collect(bucket, &mut claims, |registration| Some(registration.claimed()));
        }
        claims.iter().sum()
    }

    /// How many sessions there are. Takes each lock once: for metrics and tests.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

impl TopicCache {
    /// Who is subscribed to this topic, exactly and by patterns. Never creates an entry.
    ///
    /// A warm topic costs one hash and two atomic loads, no lock and no reference count; in a realm with patterns one load
    /// more, and one for each pattern that covers it.
    pub fn get(&mut self, directory: &Directory, realm: RealmId, uri: &str) -> Found<'_> {
        let known = self.find(&directory.topics, realm, uri);
        let (exact, patterns) = known.with_patterns(&directory.topics, &directory.topic_patterns, realm, uri);
        Found { exact, patterns }
    }

    /// The entry of exactly this topic, if anybody is subscribed to it.
    pub fn get_exact(&mut self, directory: &Directory, realm: RealmId, uri: &str) -> Option<&Arc<Topic>> {
        let known = self.find(&directory.topics, realm, uri);
        known.exact()
    }
}

impl RegistrationCache {
    /// The registration of exactly this procedure, or else those whose patterns cover it, in their precedence.
    pub fn get(&mut self, directory: &Directory, realm: RealmId, uri: &str) -> Candidates<'_> {
        let table = &directory.registrations;
        let known = self.find(table, realm, uri);
        // Patterns are not even looked for where the exact one stands.
        if known.exact().is_some() && !planted(Mutation::PatternBeforeExact) {
            return known.exact().map_or(Candidates::Nobody, Candidates::Exact);
        }
        match known.with_patterns(table, &directory.registration_patterns, realm, uri) {
            (_, Some(matches)) => Candidates::Patterns(matches),
            (Some(exact), None) => Candidates::Exact(exact),
            (None, None) => Candidates::Nobody,
        }
    }
}

/// Tells the publishers and callers of a realm that it has one more pattern.
fn announce(patterns: &Patterns, realm: RealmId) {
    if planted(Mutation::PatternAfterSubscribed) {
        let patterns = patterns.clone();
        return mutation::later(move || patterns.created(realm));
    }
    patterns.created(realm);
}

#[cfg(all(test, not(loom)))]
mod tests;
