//! The patterns that cover one URI, remembered and shared: found once, used by each publication or call of that name.

use super::{
    Topic,
    sync::{AtomicU64, Ordering},
    table::Entry,
};
use crate::ids::RoleId;
use crate::mutation::{Mutation, planted};
use std::sync::Arc;

/// The entries whose patterns cover one URI, and which roles may have what comes by them. Never empty.
#[derive(Debug)]
pub struct PatternMatches<E> {
    uri: Box<str>,
    entries: Box<[Arc<E>]>,
    /// Two bits per role: asked, allowed. Above them the generation of the permissions that say so.
    verdicts: AtomicU64,
}

/// Roles whose verdicts are remembered; those beyond are asked each time.
const REMEMBERED_ROLES: usize = 20;
/// 24 bits remain: a generation comes round after 16 million reloads.
const GENERATION_SHIFT: u32 = 2 * REMEMBERED_ROLES as u32;

impl<E: Entry> PatternMatches<E> {
    pub(crate) fn new(uri: &str, entries: Vec<Arc<E>>) -> Self {
        Self { uri: uri.into(), entries: entries.into(), verdicts: AtomicU64::new(0) }
    }

    /// The URI that was published or called.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The entries in the precedence of their patterns (see [`uri`](crate::uri)).
    pub fn entries(&self) -> &[Arc<E>] {
        &self.entries
    }

    /// Whether one of the patterns is no more.
    pub(crate) fn is_outdated(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_retired())
    }

    /// What `authorize` says for this URI and `role`, asked once for each generation of the permissions. Shards that have
    /// different ones for a moment forget each other's answers.
    pub(crate) fn permits(&self, generation: u32, role: RoleId, authorize: impl FnOnce() -> bool) -> bool {
        if role.index() >= REMEMBERED_ROLES {
            return authorize();
        }
        let (asked, allowed) = (1 << (2 * role.index()), 2 << (2 * role.index()));
        let stamp = u64::from(generation) << GENERATION_SHIFT;
        // Relaxed: nothing else hangs on it.
        let known = self.verdicts.load(Ordering::Relaxed);
        let is_current = (known ^ stamp) >> GENERATION_SHIFT == 0 || planted(Mutation::OldVerdictsKept);
        if is_current && known & asked != 0 {
            return known & allowed != 0;
        }
        let is_allowed = authorize();
        let others = if is_current { known } else { stamp };
        let verdicts = others | asked | if is_allowed { allowed } else { 0 };
        // If another shard wrote meanwhile, this is asked once more.
        _ = self.verdicts.compare_exchange(known, verdicts, Ordering::Relaxed, Ordering::Relaxed);
        is_allowed
    }
}

/// What a publication to one topic reaches: the exact subscription and those by pattern.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The entry of exactly this topic.
    pub exact: Option<&'a Arc<Topic>>,
    /// The entries whose patterns cover it.
    pub patterns: Option<&'a Arc<PatternMatches<Topic>>>,
}

impl Found<'_> {
    /// The shards that have subscribers of any of them.
    pub fn interest(&self) -> u64 {
        self.union(Topic::interest)
    }

    /// The shards on which a stream of any of them is above its cap.
    pub fn congested(&self) -> u64 {
        self.union(Topic::congested)
    }

    /// The shards on which a subscriber of any of them asks for time.
    pub fn paused(&self) -> u64 {
        self.union(Topic::paused)
    }

    fn union(&self, mask_of: impl Fn(&Topic) -> u64) -> u64 {
        let mask = self.exact.map_or(0, |topic| mask_of(topic));
        let Some(matches) = self.patterns else { return mask };
        matches.entries().iter().fold(mask, |mask, topic| mask | mask_of(topic))
    }
}
