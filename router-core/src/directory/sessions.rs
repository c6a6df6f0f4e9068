//! The registry of sessions: which ids are taken, and where each session lives.

use super::sync::{Mutex, lock};
use crate::ids::{RealmId, RoleId, SessionId, ShardId};
use hashbrown::HashMap;

/// What other shards may know of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// Its realm.
    pub realm: RealmId,
    /// Its role in the realm.
    pub role: RoleId,
    /// The shard on which it lives, for life.
    pub shard: ShardId,
}

#[cfg(not(loom))]
const BUCKETS: usize = 64;
#[cfg(loom)]
const BUCKETS: usize = 1;

type Bucket = Mutex<HashMap<SessionId, SessionEntry, foldhash::fast::FixedState>>;

/// Session ids are drawn at random by us: their low bits choose the bucket, and the hash needs no secret.
#[derive(Debug)]
pub(crate) struct Sessions {
    buckets: Box<[Bucket]>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Bucket::new(HashMap::default())).collect() }
    }

    pub(crate) fn insert(&self, session: SessionId, entry: SessionEntry) -> bool {
        let mut bucket = lock(self.bucket(session));
        if bucket.contains_key(&session) {
            return false;
        }
        bucket.insert(session, entry);
        true
    }

    pub(crate) fn remove(&self, session: SessionId) -> bool {
        lock(self.bucket(session)).remove(&session).is_some()
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<SessionEntry> {
        lock(self.bucket(session)).get(&session).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| lock(bucket).len()).sum()
    }

    /// How many parts there are for [`visit`](Self::visit).
    pub(crate) fn part_count(&self) -> usize {
        self.buckets.len()
    }

    /// Shows all sessions of one part, under its lock alone.
    pub(crate) fn visit(&self, part: usize, mut each: impl FnMut(SessionId, SessionEntry)) {
        lock(&self.buckets[part]).iter().for_each(|(session, entry)| each(*session, *entry));
    }

    fn bucket(&self, session: SessionId) -> &Bucket {
        &self.buckets[session.get() as usize & (BUCKETS - 1)]
    }
}
