//! The directory: what all shards share. Topics with their interest, procedures with their callees, sessions.
//!
//! ```text
//! (realm, policy, URI) ─▶ Topic { id, interest: one bit per shard │ RETIRED, congested }
//! (realm, policy, URI) ─▶ Registration { id, callee }
//! session id           ─▶ SessionEntry { realm, role, shard }
//! ```
//!
//! * It is the only place in the core with atomics and locks. A lock covers one bucket for one map operation; nothing
//!   is delivered, encoded or awaited under one.
//! * Who is subscribed is known by the shards. Only a shard's first and last subscriber of a topic come here.
//! * Publishing never creates anything: a topic is there because somebody is subscribed to it.
//!
//! Read [`Directory`], then [`Topic`] for the one word that publishers load, then [`HandleCache`] for what a shard keeps.

mod cache;
mod registration;
mod sessions;
mod sync;
mod table;
mod topic;

pub use cache::HandleCache;
pub use registration::{AlreadyRegistered, Callee, Registration};
pub use sessions::SessionEntry;
pub use table::Entry;
pub use topic::Topic;

use crate::{
    ids::{RealmId, RegistrationId, SessionId, ShardId, SubscriptionId},
    uri::MatchPolicy,
};
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

/// Everything that two shards both know. One per process, in an `Arc`.
#[derive(Debug)]
pub struct Directory {
    topics: Table<Topic>,
    registrations: Table<Registration>,
    sessions: Sessions,
    next_subscription: AtomicU64,
    next_registration: AtomicU64,
}

impl Directory {
    /// An empty directory. `seed` keys its hash tables: random in production, so that no client can aim at one bucket.
    pub fn new(seed: u64) -> Self {
        Self {
            topics: Table::new(TOPIC_BUCKETS, seed),
            registrations: Table::new(REGISTRATION_BUCKETS, seed.rotate_left(32)),
            sessions: Sessions::new(),
            next_subscription: AtomicU64::new(1),
            next_registration: AtomicU64::new(1),
        }
    }

    /// Says that `shard` now has a subscriber of this topic or pattern; creates the entry if it is the first shard.
    ///
    /// Called at the shard's 0 → 1 transition. When it returns, every publisher that hears of it, by whatever way, sees
    /// the interest: only then may SUBSCRIBED be sent.
    pub fn subscribe(&self, realm: RealmId, policy: MatchPolicy, uri: &str, shard: ShardId) -> Arc<Topic> {
        let key = Key { realm, policy, uri };
        let hash = self.topics.hash(key);
        let mut bucket = self.topics.lock(hash);
        if let Some(topic) = bucket.find(key) {
            topic.set_interest(shard);
            return Arc::clone(topic);
        }
        // Relaxed: only uniqueness matters, and read-modify-writes never see one number twice.
        let number = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        let id = SubscriptionId::new(number).expect("2^53 subscriptions take longer than the machine lasts");
        let topic = Arc::new(Topic::new(id, hash, key, shard));
        bucket.insert(Arc::clone(&topic));
        topic
    }

    /// Says that `shard` has no subscriber of this topic any more; drops the entry if no shard has.
    ///
    /// Called at the shard's 1 → 0 transition, after it has stopped to deliver the topic's events.
    pub fn unsubscribe(&self, topic: &Arc<Topic>, shard: ShardId) {
        topic.set_congested(shard, false);
        if !topic.clear_interest(shard) {
            return;
        }
        let mut bucket = self.topics.lock(topic.hash());
        if topic.retire() {
            bucket.remove(topic);
        }
    }

    /// The entry of this exact topic, if anybody is subscribed to it. Takes the bucket's lock; shards use a [`TopicCache`].
    pub fn lookup(&self, realm: RealmId, uri: &str) -> Option<Arc<Topic>> {
        let key = Key { realm, policy: MatchPolicy::Exact, uri };
        self.topics.lock(self.topics.hash(key)).find(key).cloned()
    }

    /// Registers a procedure. When it returns, every caller that hears of it sees it: only then may REGISTERED be sent.
    pub fn register(
        &self,
        realm: RealmId,
        uri: &str,
        callee: Callee,
    ) -> Result<Arc<Registration>, AlreadyRegistered> {
        let key = Key { realm, policy: MatchPolicy::Exact, uri };
        let hash = self.registrations.hash(key);
        let mut bucket = self.registrations.lock(hash);
        if bucket.find(key).is_some() {
            return Err(AlreadyRegistered);
        }
        // Relaxed: as for subscriptions.
        let number = self.next_registration.fetch_add(1, Ordering::Relaxed);
        let id = RegistrationId::new(number).expect("2^53 registrations take longer than the machine lasts");
        let registration = Arc::new(Registration::new(id, hash, key, callee));
        bucket.insert(Arc::clone(&registration));
        Ok(registration)
    }

    /// Takes a registration back. Callers that hold its handle see that it is retired. Doing it twice does nothing.
    pub fn unregister(&self, registration: &Arc<Registration>) {
        let mut bucket = self.registrations.lock(registration.hash());
        if registration.retire() {
            bucket.remove(registration);
        }
    }

    /// The registration of this exact procedure. Takes the bucket's lock; shards use a [`RegistrationCache`].
    pub fn find(&self, realm: RealmId, uri: &str) -> Option<Arc<Registration>> {
        let key = Key { realm, policy: MatchPolicy::Exact, uri };
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

    /// How many topics and patterns have subscribers. Takes each lock once: for metrics and tests.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many procedures are registered. Takes each lock once: for metrics and tests.
    pub fn registration_count(&self) -> usize {
        self.registrations.len()
    }

    /// How many sessions there are. Takes each lock once: for metrics and tests.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

impl TopicCache {
    /// The entry of this exact topic, if anybody is subscribed to it. Never creates one.
    ///
    /// A warm topic costs one hash and one atomic load, no lock and no reference count.
    pub fn get(&mut self, directory: &Directory, realm: RealmId, uri: &str) -> Option<&Arc<Topic>> {
        HandleCache::find(self, &directory.topics, Key { realm, policy: MatchPolicy::Exact, uri })
    }
}

impl RegistrationCache {
    /// The registration of this exact procedure.
    pub fn get(&mut self, directory: &Directory, realm: RealmId, uri: &str) -> Option<&Arc<Registration>> {
        HandleCache::find(self, &directory.registrations, Key { realm, policy: MatchPolicy::Exact, uri })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
