//! A shard's bounded memory of directory entries, so that a warm publication takes no lock.
//!
//! ```text
//! set = low bits of the hash │ 4 ways: hit (handle) or miss (URI, the bucket's creation generation)
//! ```
//!
//! A hit is good until the entry is RETIRED; a miss is good until the bucket has created something. Both are checked at
//! each use, so a cache is never told of a change. Plain data of one shard: no atomics of its own.

use super::table::{Entry, Key, Table};
use crate::{
    ids::RealmId,
    mutation::{Mutation, planted},
    uri::MatchPolicy,
};
use std::sync::Arc;

const WAYS: usize = 4;

/// Handles and misses of up to a fixed number of names. See [`TopicCache`](super::TopicCache) and
/// [`RegistrationCache`](super::RegistrationCache).
#[derive(Debug)]
pub struct HandleCache<E> {
    sets: Box<[Set<E>]>,
}

#[derive(Debug)]
struct Set<E> {
    ways: [Slot<E>; WAYS],
    /// The next way to be overwritten.
    oldest: u8,
}

#[derive(Debug)]
enum Slot<E> {
    Empty,
    Hit(Arc<E>),
    Miss(Miss),
}

#[derive(Debug)]
struct Miss {
    hash: u64,
    generation: u64,
    uri: Box<str>,
    realm: RealmId,
    policy: MatchPolicy,
}

impl<E: Entry> HandleCache<E> {
    /// A cache for at least `capacity` names. Worst case, each keeps one entry alive that the directory has dropped,
    /// or one URI: below 400 bytes a name.
    pub fn new(capacity: usize) -> Self {
        let set_count = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        let set = |_| Set { ways: std::array::from_fn(|_| Slot::Empty), oldest: 0 };
        Self { sets: (0..set_count).map(set).collect() }
    }

    /// How many names it knows now.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn remembered(&self) -> usize {
        let known = |set: &Set<E>| set.ways.iter().filter(|slot| !matches!(slot, Slot::Empty)).count();
        self.sets.iter().map(known).sum()
    }

    /// The entry of this name. Never creates one. No lock, no allocation if the cache knows the name.
    pub(crate) fn find(&mut self, table: &Table<E>, key: Key<'_>) -> Option<&Arc<E>> {
        let hash = table.hash(key);
        let set_index = hash as usize & (self.sets.len() - 1);
        let set = &mut self.sets[set_index];
        let way = set.position(hash, key);
        let fresh = match way.map(|way| &set.ways[way]) {
            Some(Slot::Hit(entry)) => !entry.is_retired() || planted(Mutation::LostRetiredCheck),
            Some(Slot::Miss(miss)) => {
                miss.generation == table.generation(hash) || planted(Mutation::MissNeverEnds)
            }
            Some(Slot::Empty) | None => false,
        };
        let way = match way {
            Some(way) if fresh => way,
            stale => {
                let way = stale.unwrap_or_else(|| set.next_way());
                set.ways[way] = Slot::look_up(table, hash, key);
                way
            }
        };
        match &self.sets[set_index].ways[way] {
            Slot::Hit(entry) => Some(entry),
            Slot::Miss(_) | Slot::Empty => None,
        }
    }
}

impl<E: Entry> Set<E> {
    fn position(&self, hash: u64, key: Key<'_>) -> Option<usize> {
        self.ways.iter().position(|slot| match slot {
            Slot::Empty => false,
            Slot::Hit(entry) => entry.hash() == hash && key.names(&**entry),
            Slot::Miss(miss) => {
                miss.hash == hash
                    && *miss.uri == *key.uri
                    && (miss.realm, miss.policy) == (key.realm, key.policy)
            }
        })
    }

    fn next_way(&mut self) -> usize {
        let way = usize::from(self.oldest);
        self.oldest = (self.oldest + 1) % WAYS as u8;
        way
    }
}

impl<E: Entry> Slot<E> {
    fn look_up(table: &Table<E>, hash: u64, key: Key<'_>) -> Self {
        let bucket = table.lock(hash);
        match bucket.find(key) {
            Some(entry) => Slot::Hit(Arc::clone(entry)),
            None => Slot::Miss(Miss {
                hash,
                generation: bucket.generation(),
                uri: key.uri.into(),
                realm: key.realm,
                policy: key.policy,
            }),
        }
    }
}
