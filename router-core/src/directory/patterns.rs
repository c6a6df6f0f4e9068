//! Which patterns cover a URI, in time that grows with the matches and not with the patterns.
//!
//! ```text
//! realm ─▶ lengths of its prefixes, shapes of its wildcards
//! com.app.room.7   of length 4: com.    8: com.app.    12: com.app.room      each one look-up in the table of entries
//!                  of shape n n _ n: com.app..7        n _ n _: com..room.
//! ```
//!
//! The patterns themselves are entries of the [`Table`] like all others. A URI has one beginning of each length, and one
//! wildcard of each shape, so it is looked up once per length and shape that the realm's patterns have. That is bounded
//! whatever clients subscribe to: 256 lengths, and [`SHAPES_MAX`] shapes of as many components as the URI has. It bounds
//! the patterns that one URI can match, too.
//!
//! The generation counts the patterns that were ever created. Whoever remembers a URI's matches remembers it too, and
//! is wrong only if it has moved on; patterns that went are seen by their RETIRED bits.

use super::{
    PatternMatches,
    sync::{AtomicU64, Mutex, Ordering, lock},
    table::{Entry, Key, Table},
};
use crate::{
    ids::RealmId,
    uri::{self, MatchPolicy, Shape},
};
use crossbeam_utils::CachePadded;
use hashbrown::HashMap;
use std::sync::Arc;

/// Most shapes of wildcards with the same number of components in one realm. All there can be of up to six components,
/// so nobody can use up the shapes of those; a look-up costs about 50 ns, so this many cost 3 us, once per topic.
pub(crate) const SHAPES_MAX: usize = 64;

#[cfg(not(loom))]
const SLOTS: usize = 64;
#[cfg(loom)]
const SLOTS: usize = 1;

/// No more patterns fit into the realm. Sent as `wamp.error.unavailable` with these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooManyPatterns {
    /// The realm has as many different patterns as it may have.
    InRealm {
        /// The limit.
        patterns_max: usize,
    },
    /// The realm has wildcards of as many shapes with so many components as it may have.
    Shapes {
        /// How many components.
        components: u8,
    },
}

impl std::fmt::Display for TooManyPatterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TooManyPatterns::InRealm { patterns_max } => {
                write!(
                    f,
                    "the realm has {patterns_max} different patterns, the most allowed (limits.patterns_per_realm)"
                )
            }
            TooManyPatterns::Shapes { components } => {
                write!(
                    f,
                    "the realm has wildcards of {components} components with empty ones in {SHAPES_MAX} different \
                     combinations of places, the most allowed: use a combination that is in use"
                )
            }
        }
    }
}

impl std::error::Error for TooManyPatterns {}

/// The forms of all realms' patterns. One for the topics, one for the registrations.
#[derive(Clone, Debug)]
pub(crate) struct Patterns {
    slots: Arc<[CachePadded<Slot>]>,
}

/// The realms whose numbers end alike.
#[derive(Debug, Default)]
struct Slot {
    /// How many patterns there are.
    standing: AtomicU64,
    generation: AtomicU64,
    realms: Mutex<HashMap<RealmId, Forms, foldhash::fast::FixedState>>,
}

/// Which lengths and shapes the patterns of a realm have, and how many patterns each; sorted.
#[derive(Debug, Default)]
struct Forms {
    count: usize,
    prefixes: Vec<(u8, usize)>,
    wildcards: Vec<(Shape, usize)>,
}

impl Patterns {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| CachePadded::new(Slot::default())).collect() }
    }

    /// Whether the realm may have patterns at all. One load: what a publication costs where there are none.
    pub(crate) fn has_any(&self, realm: RealmId) -> bool {
        // Acquire pairs with the Release in `reserve`: whoever saw SUBSCRIBED, by any chain of messages, sees the count.
        self.slot(realm).standing.load(Ordering::Acquire) != 0
    }

    /// How many patterns were ever created in the realm, or in its neighbours of the slot.
    pub(crate) fn generation(&self, realm: RealmId) -> u64 {
        // Acquire pairs with the Release in `created`: whoever reads the old number came before the creation.
        self.slot(realm).generation.load(Ordering::Acquire)
    }

    /// Counts a pattern in, before its entry is created.
    pub(crate) fn reserve(&self, key: Key<'_>, patterns_max: usize) -> Result<(), TooManyPatterns> {
        let slot = self.slot(key.realm);
        let mut realms = lock(&slot.realms);
        realms.entry(key.realm).or_default().add(key.policy, key.uri, patterns_max)?;
        // Release pairs with the Acquire in `has_any`.
        slot.standing.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Says that the entry of a reserved pattern is in the table. Called under the bucket's lock, so that whoever finds the
    /// entry there comes after.
    pub(crate) fn created(&self, realm: RealmId) {
        // Release pairs with the Acquire in `generation`.
        self.slot(realm).generation.fetch_add(1, Ordering::Release);
    }

    /// Counts a pattern out, after its entry has gone or was not created after all.
    pub(crate) fn release(&self, realm: RealmId, policy: MatchPolicy, uri: &str) {
        let slot = self.slot(realm);
        let mut realms = lock(&slot.realms);
        let forms = realms.get_mut(&realm).expect("what is released was reserved");
        forms.remove(policy, uri);
        if forms.count == 0 {
            realms.remove(&realm);
        }
        // Relaxed: seen too late it costs a look-up that finds nothing.
        slot.standing.fetch_sub(1, Ordering::Relaxed);
    }

    /// The patterns that cover `uri`, in their precedence; `None` if there are none. Takes one lock per form, each for
    /// one map operation.
    pub(crate) fn matching<E: Entry>(
        &self,
        table: &Table<E>,
        realm: RealmId,
        uri: &str,
    ) -> Option<Arc<PatternMatches<E>>> {
        let (lengths, shapes) = {
            let realms = lock(&self.slot(realm).realms);
            realms.get(&realm)?.that_can_cover(uri)
        };
        let mut entries = Vec::new();
        let mut look_up = |policy, pattern: &str| {
            let key = Key { realm, policy, uri: pattern };
            entries.extend(table.lock(table.hash(key)).find(key).cloned());
        };
        for length in lengths {
            if let Some(beginning) = uri.get(..usize::from(length)) {
                look_up(MatchPolicy::Prefix, beginning);
            }
        }
        let mut wildcard = String::with_capacity(uri.len());
        for shape in shapes {
            shape.write_wildcard(uri, &mut wildcard);
            look_up(MatchPolicy::Wildcard, &wildcard);
        }
        (!entries.is_empty()).then(|| Arc::new(PatternMatches::new(uri, entries)))
    }

    fn slot(&self, realm: RealmId) -> &Slot {
        &self.slots[realm.index() & (SLOTS - 1)]
    }
}

impl Forms {
    fn add(&mut self, policy: MatchPolicy, uri: &str, patterns_max: usize) -> Result<(), TooManyPatterns> {
        if self.count >= patterns_max {
            return Err(TooManyPatterns::InRealm { patterns_max });
        }
        match policy {
            MatchPolicy::Prefix => count_in(&mut self.prefixes, length_of(uri)),
            MatchPolicy::Wildcard => {
                let shape = Shape::of(uri);
                let known = self.wildcards.iter().filter(|(other, _)| other.components == shape.components);
                let is_known = self.wildcards.iter().any(|(other, _)| *other == shape);
                if !is_known && known.count() >= SHAPES_MAX {
                    return Err(TooManyPatterns::Shapes { components: shape.components });
                }
                count_in(&mut self.wildcards, shape);
            }
            MatchPolicy::Exact => unreachable!("an exact URI is no pattern"),
        }
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, policy: MatchPolicy, uri: &str) {
        match policy {
            MatchPolicy::Prefix => count_out(&mut self.prefixes, length_of(uri)),
            MatchPolicy::Wildcard => count_out(&mut self.wildcards, Shape::of(uri)),
            MatchPolicy::Exact => unreachable!("an exact URI is no pattern"),
        }
        self.count -= 1;
    }

    /// The lengths, longest first, and the shapes, in their precedence.
    fn that_can_cover(&self, uri: &str) -> (Vec<u8>, Vec<Shape>) {
        let lengths = self.prefixes.iter().rev().map(|(length, _)| *length);
        let components = uri::component_count(uri);
        let shapes = self.wildcards.iter().map(|(shape, _)| *shape);
        (lengths.collect(), shapes.filter(|shape| usize::from(shape.components) == components).collect())
    }
}

fn length_of(prefix: &str) -> u8 {
    u8::try_from(prefix.len()).expect("URIs have 255 bytes at most")
}

fn count_in<T: Ord + Copy>(counts: &mut Vec<(T, usize)>, form: T) {
    match counts.binary_search_by_key(&form, |(known, _)| *known) {
        Ok(at) => counts[at].1 += 1,
        Err(at) => counts.insert(at, (form, 1)),
    }
}

fn count_out<T: Ord + Copy>(counts: &mut Vec<(T, usize)>, form: T) {
    let at = counts.binary_search_by_key(&form, |(known, _)| *known).expect("it was counted in");
    counts[at].1 -= 1;
    if counts[at].1 == 0 {
        counts.remove(at);
    }
}

const _: () = assert!(uri::URI_BYTES_MAX <= u8::MAX as usize, "a prefix's length is a byte");
