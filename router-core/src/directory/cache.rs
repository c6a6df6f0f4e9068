//! A shard's bounded memory of directory entries, so that a warm publication takes no lock.
//!
//! ```text
//! set = low bits of the hash │ 4 ways: the exact entry, or the bucket's creation generation
//!                            │         the patterns' entries, and the realm's pattern generation
//! ```
//!
//! An entry is good until it is RETIRED; a miss is good until the bucket, or the realm's patterns, got something new. All
//! is checked at each use, so a cache is never told of a change. Plain data of one shard: no atomics of its own.

use super::{
    PatternMatches,
    patterns::Patterns,
    table::{Entry, Key, Table},
};
use crate::{
    ids::RealmId,
    mutation::{Mutation, planted},
    uri::{MatchPolicy, URI_BYTES_MAX},
};
use std::sync::Arc;

const WAYS: usize = 4;

/// What is known of up to a fixed number of names. See [`TopicCache`](super::TopicCache) and
/// [`RegistrationCache`](super::RegistrationCache).
#[derive(Debug)]
pub struct HandleCache<E> {
    sets: Box<[Set<E>]>,
}

#[derive(Debug)]
struct Set<E> {
    ways: [Option<Known<E>>; WAYS],
    /// The next way to be overwritten.
    oldest: u8,
}

/// What is known of one name.
#[derive(Debug)]
pub(crate) struct Known<E> {
    hash: u64,
    exact: Exact<E>,
    /// The realm's pattern generation at the last look at its patterns.
    pattern_generation: u64,
    patterns: Option<Arc<PatternMatches<E>>>,
}

#[derive(Debug)]
enum Exact<E> {
    Hit(Arc<E>),
    Miss { generation: u64, realm: RealmId, uri: Box<str> },
}

impl<E: Entry> HandleCache<E> {
    /// A cache for at least `capacity` names. Each keeps one entry alive that the directory has dropped, or one URI: below
    /// 400 bytes; and in realms with patterns the list of those that cover it: 8 bytes each, 320 of them at most.
    pub fn new(capacity: usize) -> Self {
        let set_count = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        let set = |_| Set { ways: std::array::from_fn(|_| None), oldest: 0 };
        Self { sets: (0..set_count).map(set).collect() }
    }

    /// How many names it knows now.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn remembered(&self) -> usize {
        self.sets.iter().map(|set| set.ways.iter().flatten().count()).sum()
    }

    /// What is known of this name; its exact entry is looked up if need be. Never creates one. No lock, no allocation if the
    /// cache knows the name.
    pub(crate) fn find(&mut self, table: &Table<E>, realm: RealmId, uri: &str) -> &mut Known<E> {
        let key = Key { realm, policy: MatchPolicy::Exact, uri };
        let hash = table.hash(key);
        let set_index = hash as usize & (self.sets.len() - 1);
        let set = &mut self.sets[set_index];
        let Some(way) = set.position(hash, key) else {
            let exact = Exact::look_up(table, hash, key);
            let way = set.next_way();
            return set.ways[way].insert(Known { hash, exact, pattern_generation: 0, patterns: None });
        };
        let known = set.ways[way].as_mut().expect("it has a position");
        if !known.exact.is_fresh(table, hash) {
            known.exact = Exact::look_up(table, hash, key);
        }
        known
    }
}

impl<E: Entry> Set<E> {
    fn position(&self, hash: u64, key: Key<'_>) -> Option<usize> {
        self.ways.iter().position(|slot| slot.as_ref().is_some_and(|known| known.is_for(hash, key)))
    }

    fn next_way(&mut self) -> usize {
        let way = usize::from(self.oldest);
        self.oldest = (self.oldest + 1) % WAYS as u8;
        way
    }
}

impl<E: Entry> Known<E> {
    /// The entry of exactly this name.
    pub(crate) fn exact(&self) -> Option<&Arc<E>> {
        match &self.exact {
            Exact::Hit(entry) => Some(entry),
            Exact::Miss { .. } => None,
        }
    }

    /// The entry of exactly this name, and those whose patterns cover it. No lock, no allocation if nothing changed.
    pub(crate) fn with_patterns(
        &mut self,
        table: &Table<E>,
        patterns: &Patterns,
        realm: RealmId,
        uri: &str,
    ) -> (Option<&Arc<E>>, Option<&Arc<PatternMatches<E>>>) {
        if patterns.has_any(realm) {
            self.refresh_patterns(table, patterns, realm, uri);
        } else if self.patterns.is_some() {
            self.patterns = None;
            self.pattern_generation = 0;
        }
        (self.exact(), self.patterns.as_ref())
    }

    fn refresh_patterns(&mut self, table: &Table<E>, patterns: &Patterns, realm: RealmId, uri: &str) {
        let generation = patterns.generation(realm);
        let is_known = self.pattern_generation == generation
            || (planted(Mutation::PatternsNeverEnd) && self.pattern_generation != 0);
        if !is_known || self.patterns.as_ref().is_some_and(|matches| matches.is_outdated()) {
            // The generation was read before: what is created from now on is met at the next use.
            self.patterns = patterns.matching(table, realm, uri);
            self.pattern_generation = generation;
        }
    }

    fn is_for(&self, hash: u64, key: Key<'_>) -> bool {
        self.hash == hash
            && match &self.exact {
                Exact::Hit(entry) => key.names(&**entry),
                Exact::Miss { realm, uri, .. } => *realm == key.realm && **uri == *key.uri,
            }
    }
}

impl<E: Entry> Exact<E> {
    fn is_fresh(&self, table: &Table<E>, hash: u64) -> bool {
        match self {
            Exact::Hit(entry) => !entry.is_retired() || planted(Mutation::LostRetiredCheck),
            Exact::Miss { generation, .. } => {
                *generation == table.generation(hash) || planted(Mutation::MissNeverEnds)
            }
        }
    }

    fn look_up(table: &Table<E>, hash: u64, key: Key<'_>) -> Self {
        // It stays here, for as long as others are looked up in its place.
        debug_assert!(key.uri.len() <= URI_BYTES_MAX, "a URI is checked before it is looked for");
        let bucket = table.lock(hash);
        match bucket.find(key) {
            Some(entry) => Exact::Hit(Arc::clone(entry)),
            None => Exact::Miss { generation: bucket.generation(), realm: key.realm, uri: key.uri.into() },
        }
    }
}
