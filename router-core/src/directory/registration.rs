//! One registered procedure and who answers it: one callee, or several by a policy (`members.rs`).

use super::{
    Heard, Note, PatternMatches, TooManyPatterns,
    members::{Choice, Member, Members},
    sync::{AtomicU64, Ordering},
    table::{Entry, Key},
    topic::Kind,
};
use crate::{
    clock::Instant,
    ids::{RealmId, RegistrationId, RoleId, SessionId, ShardId},
    uri::{InvokePolicy, MatchPolicy},
};
use std::num::NonZeroU64;
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
    /// What it does not want to answer goes to another one.
    pub const CALL_REROUTE: Self = Self(8);
    /// It takes arguments that only the caller and it understand.
    pub const PAYLOAD_PASSTHRU_MODE: Self = Self(16);

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

    /// Whether what it does not want to answer goes to another one.
    pub const fn call_reroute(self) -> bool {
        self.0 & Self::CALL_REROUTE.0 != 0
    }

    /// Whether it takes arguments that only the caller and it understand.
    pub const fn payload_passthru_mode(self) -> bool {
        self.0 & Self::PAYLOAD_PASSTHRU_MODE.0 != 0
    }

    /// Whether it looks after the callers' timeouts itself.
    pub const fn forward_timeout(self) -> bool {
        self.0 & Self::FORWARD_TIMEOUT.0 != 0
    }
}

/// How a callee registers (WAMP, "Shared Registration").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Who of several is asked.
    pub invoke: InvokePolicy,
    /// Invocations that it works on at a time.
    pub concurrency: Option<NonZeroU64>,
    /// Others of its role lose the registration to it.
    pub force: bool,
    /// When.
    pub at: Instant,
    /// What somebody wants to hear of it.
    pub heard: Heard,
}

/// A registration, who has lost it, and what is to be told of that.
#[derive(Debug)]
pub struct Registered {
    /// The entry, which another one with the same id may replace at any time.
    pub registration: Arc<Registration>,
    /// The entry that it was forced out of.
    pub displaced: Option<Arc<Registration>>,
    /// In the order in which it happened.
    pub notes: Vec<Note>,
}

/// Why a procedure or pattern was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// It is taken: WAMP, "Shared Registrations", `single`. Sent as `wamp.error.procedure_already_exists`.
    AlreadyRegistered,
    /// It is shared by another policy. Sent as the same error.
    OtherPolicy(InvokePolicy),
    /// The session has it already. Sent as the same error.
    Twice,
    /// So many callees share it as may.
    TooManyCallees,
    /// No more patterns fit into the realm.
    TooManyPatterns(TooManyPatterns),
}

impl std::fmt::Display for RegisterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RegisterError::AlreadyRegistered => f.write_str("is registered already"),
            RegisterError::OtherPolicy(policy) => {
                write!(f, "is registered already, with invoke=\"{}\"", policy.name())
            }
            RegisterError::Twice => f.write_str("is registered already by this session"),
            RegisterError::TooManyCallees => {
                write!(f, "is registered by {CALLEES_MAX} callees, the most allowed")
            }
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
    kind: Kind,
    invoke: InvokePolicy,
    /// The first one.
    callee: Callee,
    /// All of them, unless that one is alone and has no limit.
    members: Option<Box<Members>>,
}

/// Callees of one registration: each who comes or goes copies a list of that length.
const CALLEES_MAX: usize = 1_024;

impl Registration {
    pub(crate) fn new(id: RegistrationId, hash: u64, key: Key<'_>, callee: Callee, offer: &Offer) -> Self {
        let is_alone = offer.invoke == InvokePolicy::Single && offer.concurrency.is_none();
        let members = (!is_alone).then(|| Box::new(Members::first(Member::new(callee, offer.concurrency))));
        Self {
            retired: AtomicU64::new(0),
            id,
            hash,
            uri: key.uri.into(),
            realm: key.realm,
            kind: Kind::new(key.policy, offer.at),
            invoke: offer.invoke,
            callee,
            members,
        }
    }

    /// The entry that takes this one's place, with other callees.
    fn succeeded_by(&self, members: Members) -> Self {
        Self {
            retired: AtomicU64::new(0),
            id: self.id,
            hash: self.hash,
            uri: self.uri.clone(),
            realm: self.realm,
            kind: self.kind,
            invoke: self.invoke,
            callee: members.list()[0].callee(),
            members: Some(Box::new(members)),
        }
    }

    /// The entry with one more callee.
    pub(crate) fn joined_by(&self, callee: Callee, offer: &Offer) -> Result<Self, RegisterError> {
        let members = match &self.members {
            Some(members) if self.invoke != InvokePolicy::Single && offer.invoke != InvokePolicy::Single => {
                members
            }
            _ => return Err(RegisterError::AlreadyRegistered),
        };
        if offer.invoke != self.invoke {
            return Err(RegisterError::OtherPolicy(self.invoke));
        }
        if members.list().iter().any(|member| member.callee().session == callee.session) {
            return Err(RegisterError::Twice);
        }
        if members.list().len() >= CALLEES_MAX {
            return Err(RegisterError::TooManyCallees);
        }
        Ok(self.succeeded_by(members.with(Member::new(callee, offer.concurrency))))
    }

    /// The entry without this callee; `None` if it is the last one.
    pub(crate) fn left_by(&self, session: SessionId) -> Option<Self> {
        let members = self.members.as_ref().filter(|members| members.list().len() > 1)?;
        Some(self.succeeded_by(members.without(session)))
    }

    /// All callees, in the order of their registration.
    pub fn callees(&self) -> impl Iterator<Item = Callee> {
        let others = self.members.iter().flat_map(|members| &members.list()[1..]);
        [self.callee].into_iter().chain(others.map(|member| member.callee()))
    }

    /// Whether there is another one than the first, or some limit.
    pub(crate) fn members(&self) -> Option<&Members> {
        self.members.as_deref()
    }

    /// Invocations that count for its callees.
    pub(crate) fn claimed(&self) -> u64 {
        self.members.iter().flat_map(|members| members.list()).map(|member| member.claimed()).sum()
    }

    /// Whether several callees have it.
    pub fn is_shared(&self) -> bool {
        self.members.as_ref().is_some_and(|members| members.list().len() > 1)
    }

    /// Who of several is asked.
    pub fn invoke(&self) -> InvokePolicy {
        self.invoke
    }

    /// Picks one of the callees that `may` have it, as the policy says.
    pub(crate) fn choose(&self, random: impl FnOnce() -> u64, may: impl Fn(&Callee) -> bool) -> Choice {
        match &self.members {
            Some(members) => members.choose(self.invoke, random, may),
            None if may(&self.callee) => Choice::Callee(self.callee, None),
            None => Choice::Nobody,
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
        self.kind.policy()
    }

    /// When the first of its callees came, to the second.
    pub fn created(&self) -> Instant {
        self.kind.created()
    }

    /// The realm.
    pub fn realm(&self) -> RealmId {
        self.realm
    }

    /// Who answers, or the first one of several.
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
        (self.realm, self.kind.policy(), &self.uri)
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn is_retired(&self) -> bool {
        // Acquire pairs with the Release in `retire`: whoever saw UNREGISTERED, by any chain of messages, sees it.
        self.retired.load(Ordering::Acquire) != 0
    }
}
