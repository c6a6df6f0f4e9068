//! A hash table in many buckets, each with its own lock and its own creation generation.
//!
//! ```text
//! hash of (realm, policy, URI) ── middle bits ──▶ bucket { generation, lock( entries ) }
//! ```
//!
//! The lock is held for one map operation. The generation counts creations: whoever remembers "there is no such entry"
//! remembers the generation too, and is wrong only if the generation has moved on.

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::{ids::RealmId, uri::MatchPolicy};
use crossbeam_utils::CachePadded;
use hashbrown::HashTable;
use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

/// What names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key<'a> {
    pub(crate) realm: RealmId,
    pub(crate) policy: MatchPolicy,
    pub(crate) uri: &'a str,
}

/// An entry of the directory that shards keep handles of.
pub trait Entry {
    #[doc(hidden)]
    fn key(&self) -> (RealmId, MatchPolicy, &str);
    /// The hash of the key, computed once.
    #[doc(hidden)]
    fn hash(&self) -> u64;
    /// True once the entry has left the directory for good: whoever holds it must look up again.
    fn is_retired(&self) -> bool;
}

impl Key<'_> {
    pub(crate) fn names<E: Entry>(&self, entry: &E) -> bool {
        (self.realm, self.policy, self.uri) == entry.key()
    }
}

#[derive(Debug)]
pub(crate) struct Table<E> {
    hasher: foldhash::quality::FixedState,
    buckets: Box<[CachePadded<Bucket<E>>]>,
}

#[derive(Debug)]
struct Bucket<E> {
    generation: AtomicU64,
    entries: Mutex<HashTable<Arc<E>>>,
}

impl<E: Entry> Table<E> {
    /// `bucket_count` is a power of two.
    pub(crate) fn new(bucket_count: usize, seed: u64) -> Self {
        assert!(bucket_count.is_power_of_two(), "the bucket is chosen by masking");
        let bucket = |_| {
            CachePadded::new(Bucket { generation: AtomicU64::new(0), entries: Mutex::new(HashTable::new()) })
        };
        Self {
            hasher: foldhash::quality::FixedState::with_seed(seed),
            buckets: (0..bucket_count).map(bucket).collect(),
        }
    }

    pub(crate) fn hash(&self, key: Key<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(key.realm.index() as u64 | (key.policy as u64) << 32);
        key.uri.hash(&mut hasher);
        hasher.finish()
    }

    /// Locks the bucket of this hash.
    pub(crate) fn lock(&self, hash: u64) -> Locked<'_, E> {
        let bucket = self.bucket(hash);
        Locked { bucket, entries: lock(&bucket.entries), hash }
    }

    /// How many entries were ever created in the bucket of this hash.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        // Acquire pairs with the Release in `Locked::insert`: whoever reads the old number came before the creation.
        self.bucket(hash).generation.load(Ordering::Acquire)
    }

    /// Counts all entries, bucket by bucket: exact only while nobody changes them.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| lock(&bucket.entries).len()).sum()
    }

    /// How many buckets there are.
    pub(crate) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The entries of one bucket for which `pick` gives something, and how many it looked at. Takes its lock alone.
    pub(crate) fn collect<T>(
        &self,
        bucket: usize,
        into: &mut Vec<T>,
        pick: impl FnMut(&Arc<E>) -> Option<T>,
    ) -> usize {
        let entries = lock(&self.buckets[bucket].entries);
        into.extend(entries.iter().filter_map(pick));
        entries.len()
    }

    fn bucket(&self, hash: u64) -> &Bucket<E> {
        &self.buckets[self.place(hash)]
    }

    /// The number of the bucket of this hash.
    fn place(&self, hash: u64) -> usize {
        // hashbrown takes its position from the low bits and its tag from the top ones; the middle ones are free.
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    /// An id for an entry of this hash, of which no two are alike as long as their `number`s are not. It says which bucket the
    /// entry is in to who knows the seed, and nothing to anybody else.
    pub(crate) fn id(&self, number: u64, hash: u64) -> u64 {
        (number * self.buckets.len() as u64) | (self.place(hash) as u64 ^ self.veil(number))
    }

    /// The bucket of the entry that has this id, if there is one.
    pub(crate) fn bucket_of_id(&self, id: u64) -> usize {
        let buckets = self.buckets.len() as u64;
        ((id % buckets) ^ self.veil(id / buckets)) as usize
    }

    fn veil(&self, number: u64) -> u64 {
        self.hasher.hash_one(number) & (self.buckets.len() as u64 - 1)
    }
}

/// One bucket, locked. Dropping it unlocks.
pub(crate) struct Locked<'a, E> {
    bucket: &'a Bucket<E>,
    entries: MutexGuard<'a, HashTable<Arc<E>>>,
    hash: u64,
}

impl<E: Entry> Locked<'_, E> {
    pub(crate) fn find(&self, key: Key<'_>) -> Option<&Arc<E>> {
        self.entries.find(self.hash, |entry| key.names(&**entry))
    }

    pub(crate) fn insert(&mut self, entry: Arc<E>) {
        debug_assert_eq!(entry.hash(), self.hash, "the entry belongs to another bucket");
        self.entries.insert_unique(self.hash, entry, |entry| entry.hash());
        // Release pairs with the Acquire in `Table::generation`. Only holders of the lock write it.
        self.bucket.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes this very entry, not another one of the same name.
    pub(crate) fn remove(&mut self, entry: &Arc<E>) {
        if let Ok(found) = self.entries.find_entry(self.hash, |known| Arc::ptr_eq(known, entry)) {
            found.remove();
            // A bucket that once was large does not stay so: a million topics may come and go.
            if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 8 {
                self.entries.shrink_to(0, |entry| entry.hash());
            }
        }
    }

    /// The creation generation, exact while the lock is held.
    pub(crate) fn generation(&self) -> u64 {
        // Relaxed: it changes only under the lock that we hold.
        self.bucket.generation.load(Ordering::Relaxed)
    }
}
