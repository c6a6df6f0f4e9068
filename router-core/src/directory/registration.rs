//! One registered procedure and who answers it.
//!
//! In this edition a procedure has one callee (`invoke=single`); several callees and their selection policy belong here.

use super::{
    sync::{AtomicU64, Ordering},
    table::{Entry, Key},
};
use crate::{
    ids::{RealmId, RegistrationId, SessionId, ShardId},
    uri::MatchPolicy,
};

/// Who answers a procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Callee {
    /// The shard on which the session lives.
    pub shard: ShardId,
    /// The session.
    pub session: SessionId,
    /// The slot of its connection on that shard; only a hint, because slots are used again: compare the session.
    pub outlet: u32,
}

/// The procedure is taken: WAMP, "Shared Registrations", `single`. Sent as `wamp.error.procedure_already_exists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyRegistered;

impl std::fmt::Display for AlreadyRegistered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the procedure is already registered")
    }
}

impl std::error::Error for AlreadyRegistered {}

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

    /// The procedure's URI.
    pub fn uri(&self) -> &str {
        &self.uri
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
