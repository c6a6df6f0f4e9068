//! One registered procedure and who answers it.
//!
//! In this edition a procedure has one callee (`invoke=single`); several callees and their selection policy belong here.

use super::{
    PatternMatches, TooManyPatterns,
    sync::{AtomicU64, Ordering},
    table::{Entry, Key},
};
use crate::{
    ids::{RealmId, RegistrationId, RoleId, SessionId, ShardId},
    uri::MatchPolicy,
};
use std::sync::Arc;

/// Who answers a procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Callee {
    /// The shard on which the session lives.
    pub shard: ShardId,
    /// The session.
    pub session: SessionId,
    /// Its role: what comes by a pattern is asked for each procedure.
    pub role: RoleId,
    /// It asked that callers be disclosed to it.
    pub disclose_caller: bool,
    /// What it can do.
    pub features: CalleeFeatures,
    /// The slot of its connection on that shard; only a hint, because slots are used again: compare the session.
    pub outlet: u32,
}

/// What a callee has announced, or asked for, that its callers' shards must know. A set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CalleeFeatures(u8);

impl CalleeFeatures {
    /// It can be interrupted.
    pub const CALL_CANCELING: Self = Self(1);
    /// It takes calls in parts.
    pub const PROGRESSIVE_CALL_INVOCATIONS: Self = Self(2);
    /// It looks after the callers' timeouts itself.
    pub const FORWARD_TIMEOUT: Self = Self(4);

    /// With this one too, if `has` says so.
    #[must_use]
    pub const fn with(self, feature: Self, has: bool) -> Self {
        if has { Self(self.0 | feature.0) } else { self }
    }

    /// Whether it can be interrupted.
    pub const fn call_canceling(self) -> bool {
        self.0 & Self::CALL_CANCELING.0 != 0
    }

    /// Whether it takes calls in parts.
    pub const fn progressive_call_invocations(self) -> bool {
        self.0 & Self::PROGRESSIVE_CALL_INVOCATIONS.0 != 0
    }

    /// Whether it looks after the callers' timeouts itself.
    pub const fn forward_timeout(self) -> bool {
        self.0 & Self::FORWARD_TIMEOUT.0 != 0
    }
}

/// Why a procedure or pattern was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// It is taken: WAMP, "Shared Registrations", `single`. Sent as `wamp.error.procedure_already_exists`.
    AlreadyRegistered,
    /// No more patterns fit into the realm.
    TooManyPatterns(TooManyPatterns),
}

impl std::fmt::Display for RegisterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RegisterError::AlreadyRegistered => f.write_str("the procedure is already registered"),
            RegisterError::TooManyPatterns(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for RegisterError {}

impl From<TooManyPatterns> for RegisterError {
    fn from(why: TooManyPatterns) -> Self {
        RegisterError::TooManyPatterns(why)
    }
}

/// Who may answer a call.
#[derive(Clone, Copy, Debug)]
pub enum Candidates<'a> {
    /// Nobody has registered the procedure or a pattern that covers it.
    Nobody,
    /// The registration of exactly this procedure; patterns do not matter then.
    Exact(&'a Arc<Registration>),
    /// The registrations whose patterns cover it: the first one that may have it.
    Patterns(&'a Arc<PatternMatches<Registration>>),
}

/// The directory's entry for one registered procedure.
#[derive(Debug)]
pub struct Registration {
    /// 0 while it stands, 1 once it was unregistered. Written once, under the bucket's lock.
    retired: AtomicU64,
    id: RegistrationId,
    hash: u64,
    uri: Box<str>,
    realm: RealmId,
    policy: MatchPolicy,
    callee: Callee,
}

impl Registration {
    pub(crate) fn new(id: RegistrationId, hash: u64, key: Key<'_>, callee: Callee) -> Self {
        Self {
            retired: AtomicU64::new(0),
            id,
            hash,
            uri: key.uri.into(),
            realm: key.realm,
            policy: key.policy,
            callee,
        }
    }

    /// The registration's id.
    pub fn id(&self) -> RegistrationId {
        self.id
    }

    /// The procedure's URI, or the pattern.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How the URI is compared.
    pub fn policy(&self) -> MatchPolicy {
        self.policy
    }

    /// The realm.
    pub fn realm(&self) -> RealmId {
        self.realm
    }

    /// Who answers.
    pub fn callee(&self) -> Callee {
        self.callee
    }

    /// Under the bucket's lock. False if it was retired before.
    pub(crate) fn retire(&self) -> bool {
        // Release pairs with the Acquire of `is_retired`; the lock orders it against other writers.
        self.retired.swap(1, Ordering::Release) == 0
    }
}

impl Entry for Registration {
    fn key(&self) -> (RealmId, MatchPolicy, &str) {
        (self.realm, self.policy, &self.uri)
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn is_retired(&self) -> bool {
        // Acquire pairs with the Release in `retire`: whoever saw UNREGISTERED, by any chain of messages, sees it.
        self.retired.load(Ordering::Acquire) != 0
    }
}
