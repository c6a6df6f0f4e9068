//! One topic: who is interested, in one word.
//!
//! ```text
//! bit 63   62 ............................. 0
//! RETIRED  interest: shard i has subscribers
//!
//! 0 ⇄ mask            a shard's first subscriber comes, its last one goes
//! 0 → RETIRED         the sweep, under the bucket's lock; final. The entry then leaves the directory
//! ```
//!
//! Bits are set under the bucket's lock only, and the lock finds no retired entry, so a bit is never lost. Publishers
//! read the word without a lock; one that meets RETIRED looks up again.

use super::{
    sync::{AtomicU64, Ordering},
    table::{Entry, Key},
};
use crate::{
    clock::Instant,
    ids::{RealmId, ShardId, SubscriptionId},
    mutation,
    uri::MatchPolicy,
};
use std::sync::Arc;
use std::time::Duration;

const RETIRED: u64 = 1 << 63;

/// The directory's entry for one (realm, policy, URI) that somebody is subscribed to.
#[derive(Debug)]
pub struct Topic {
    interest: AtomicU64,
    congested: AtomicU64,
    paused: AtomicU64,
    id: SubscriptionId,
    hash: u64,
    uri: Box<str>,
    realm: RealmId,
    /// In one word, or there would be one more of them for each topic.
    kind: Kind,
}

const _: () = assert!(size_of::<Topic>() == 64, "with its counts a size that allocators have");

/// The policy in the last two bits, and above them when the entry was made, in seconds since the start: 34 years of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind(u32);

impl Kind {
    const POLICIES: [MatchPolicy; 3] = [MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard];

    pub(crate) fn new(policy: MatchPolicy, created: Instant) -> Self {
        let seconds = created.since(Instant::START).as_secs().min(u64::from(u32::MAX >> 2)) as u32;
        Self(seconds << 2 | policy as u32)
    }

    pub(crate) fn policy(self) -> MatchPolicy {
        Self::POLICIES[(self.0 & 3) as usize]
    }

    pub(crate) fn created(self) -> Instant {
        Instant::START + Duration::from_secs(u64::from(self.0 >> 2))
    }
}

impl Topic {
    pub(crate) fn new(id: SubscriptionId, hash: u64, key: Key<'_>, first: ShardId, at: Instant) -> Self {
        Self {
            interest: AtomicU64::new(first.bit()),
            congested: AtomicU64::new(0),
            paused: AtomicU64::new(0),
            id,
            hash,
            uri: key.uri.into(),
            realm: key.realm,
            kind: Kind::new(key.policy, at),
        }
    }

    /// The subscription's id, the same for all subscribers of the process.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// The topic's URI, or the pattern.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The realm.
    pub fn realm(&self) -> RealmId {
        self.realm
    }

    /// How the URI is compared.
    pub fn policy(&self) -> MatchPolicy {
        self.kind.policy()
    }

    /// When the first of its subscribers came, to the second.
    pub fn created(&self) -> Instant {
        self.kind.created()
    }

    /// The shards that have subscribers, as a mask; 0 if the entry is retired.
    pub fn interest(&self) -> u64 {
        // Acquire pairs with the Release in `set_interest`: whoever saw a SUBSCRIBED, by any chain of messages, sees the bit.
        let word = self.interest.load(Ordering::Acquire);
        if word & RETIRED != 0 { 0 } else { word }
    }

    /// The shards whose stream of this topic is above its cap: publishers should wait before they send there more.
    pub fn congested(&self) -> u64 {
        // Acquire pairs with the Release in `set_congested`; only advice hangs on it.
        self.congested.load(Ordering::Acquire)
    }

    /// Sets or clears the shard's congestion bit. Only the shard itself writes its bit.
    pub fn set_congested(&self, shard: ShardId, congested: bool) {
        // Release pairs with the Acquire in `congested`.
        if congested {
            self.congested.fetch_or(shard.bit(), Ordering::Release);
        } else {
            self.congested.fetch_and(!shard.bit(), Ordering::Release);
        }
    }

    /// The shards that are congested because a subscriber there asks for time: publishers wait for it longer.
    pub fn paused(&self) -> u64 {
        // Relaxed: it is read by those that found the topic congested, and only the length of their patience hangs on it.
        self.paused.load(Ordering::Relaxed)
    }

    /// Sets or clears the shard's bit of [`paused`](Self::paused). Only the shard itself writes its bit.
    pub fn set_paused(&self, shard: ShardId, paused: bool) {
        // Relaxed as in `paused`.
        if paused {
            self.paused.fetch_or(shard.bit(), Ordering::Relaxed);
        } else {
            self.paused.fetch_and(!shard.bit(), Ordering::Relaxed);
        }
    }

    /// Under the bucket's lock, while the entry is in the table.
    pub(crate) fn set_interest(&self, shard: ShardId) {
        // Release pairs with the Acquire in `interest`; Acquire with the Release of `clear_interest`, so that this shard
        // comes after whoever left. The sweep is excluded by the lock.
        let before = self.interest.fetch_or(shard.bit(), Ordering::AcqRel);
        debug_assert_eq!(before & RETIRED, 0, "a retired entry is not in the table");
    }

    /// Clears the shard's bit without a lock; true if nobody is left and the entry should be swept.
    pub(crate) fn clear_interest(&self, shard: ShardId) -> bool {
        // Release pairs with the Acquire of the sweep's exchange: the sweep comes after everything that this shard did here.
        let before = self.interest.fetch_and(!shard.bit(), Ordering::Release);
        debug_assert_ne!(before & shard.bit(), 0, "a shard leaves what it joined");
        before == shard.bit()
    }

    /// A planted bug: the interest becomes visible after SUBSCRIBED.
    pub(crate) fn forget_interest_for_now(self: &Arc<Self>, shard: ShardId) {
        self.clear_interest(shard);
        let topic = Arc::clone(self);
        mutation::later(move || {
            if !topic.is_retired() {
                topic.set_interest(shard);
            }
        });
    }

    /// Under the bucket's lock: from nobody to RETIRED. False if somebody came, or if another sweep was first.
    pub(crate) fn retire(&self) -> bool {
        // Acquire pairs with the Release of `clear_interest`; Release with the Acquire of `interest` and `is_retired`.
        self.interest.compare_exchange(0, RETIRED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Entry for Topic {
    fn key(&self) -> (RealmId, MatchPolicy, &str) {
        (self.realm, self.kind.policy(), &self.uri)
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn is_retired(&self) -> bool {
        // Acquire pairs with the Release in `retire`: whoever sees RETIRED and looks up, finds what came after it.
        self.interest.load(Ordering::Acquire) & RETIRED != 0
    }
}
