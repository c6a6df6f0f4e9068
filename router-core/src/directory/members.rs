//! Several callees of one registration, and who of them is asked next (WAMP, "Shared Registration").
//!
//! A registration with one callee has none of this. The list of the others never changes: who comes or goes makes another
//! list, in an entry that takes the place of the one before and has its id. What must outlive that is shared by both.

use super::{
    Callee,
    sync::{AtomicU64, Ordering},
};
use crate::{
    ids::SessionId,
    mutation::{Mutation, planted},
    uri::InvokePolicy,
};
use std::num::NonZeroU64;
use std::sync::Arc;

/// One of several callees, or one with a limit.
#[derive(Debug)]
pub struct Member {
    callee: Callee,
    /// Invocations that it works on at a time.
    concurrency: Option<NonZeroU64>,
    /// Those that it works on, where somebody counts them.
    pending: AtomicU64,
}

/// All callees of one registration, in the order of their registration.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    list: Box<[Arc<Member>]>,
    /// How often one was picked in turn, by all shards.
    turn: Arc<AtomicU64>,
}

/// An invocation that counts for its callee until this is dropped.
#[derive(Debug)]
pub struct Claim(Arc<Member>);

impl Drop for Claim {
    fn drop(&mut self) {
        // Relaxed: it only counts.
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is asked.
#[derive(Debug)]
pub enum Choice {
    /// This one.
    Callee(Callee, Option<Claim>),
    /// There are some, and all of them have as many invocations as they take.
    AllBusy,
    /// Nobody may have it.
    Nobody,
}

impl Member {
    pub(crate) fn new(callee: Callee, concurrency: Option<NonZeroU64>) -> Arc<Self> {
        Arc::new(Self { callee, concurrency, pending: AtomicU64::new(0) })
    }

    /// Who it is.
    pub fn callee(&self) -> Callee {
        self.callee
    }

    /// Invocations that it works on, where somebody counts them.
    pub(crate) fn claimed(&self) -> u64 {
        // Relaxed: only the number matters.
        self.pending.load(Ordering::Relaxed)
    }

    /// Counts one more invocation, unless it has as many as it takes.
    fn claim(self: &Arc<Self>) -> Option<Claim> {
        let max = self.concurrency.map_or(u64::MAX, NonZeroU64::get);
        let max = max.saturating_add(u64::from(planted(Mutation::OneCallTooMany)));
        // Relaxed: only the number matters, and read-modify-writes never see one twice.
        let mut pending = self.pending.load(Ordering::Relaxed);
        while pending < max {
            let counted =
                self.pending.compare_exchange(pending, pending + 1, Ordering::Relaxed, Ordering::Relaxed);
            match counted {
                Ok(_) => return Some(Claim(Arc::clone(self))),
                Err(newer) => pending = newer,
            }
        }
        None
    }
}

impl Members {
    pub(crate) fn first(member: Arc<Member>) -> Self {
        Self { list: Box::new([member]), turn: Arc::new(AtomicU64::new(0)) }
    }

    pub(crate) fn list(&self) -> &[Arc<Member>] {
        &self.list
    }

    /// The same with one more.
    pub(crate) fn with(&self, member: Arc<Member>) -> Self {
        let list = self.list.iter().cloned().chain([member]).collect();
        Self { list, turn: Arc::clone(&self.turn) }
    }

    /// The same without one.
    pub(crate) fn without(&self, session: SessionId) -> Self {
        let others = self.list.iter().filter(|member| member.callee.session != session);
        Self { list: others.cloned().collect(), turn: Arc::clone(&self.turn) }
    }

    /// Picks one of those that `may` have it.
    pub(crate) fn choose(
        &self,
        policy: InvokePolicy,
        random: impl FnOnce() -> u64,
        may: impl Fn(&Callee) -> bool,
    ) -> Choice {
        let count = self.list.len();
        let start = match policy {
            InvokePolicy::First if planted(Mutation::FirstIsSecond) => 1 % count,
            InvokePolicy::Single | InvokePolicy::First | InvokePolicy::Last => 0,
            InvokePolicy::Random => random() as usize % count,
            // Relaxed: only the number matters.
            InvokePolicy::RoundRobin | InvokePolicy::LeastLoaded => {
                let step = u64::from(!planted(Mutation::TurnStands));
                self.turn.fetch_add(step, Ordering::Relaxed) as usize % count
            }
        };
        let in_turn = (0..count).map(|step| &self.list[(start + step) % count]);
        let counts = policy == InvokePolicy::LeastLoaded;
        if policy == InvokePolicy::Last && !planted(Mutation::LastIsFirst) {
            return Self::first_free(in_turn.rev(), counts, may);
        }
        if counts {
            // The first one of those with the fewest is the next one in turn.
            let load = |member: &&Arc<Member>| member.pending.load(Ordering::Relaxed);
            let mut by_load: Vec<_> = in_turn.collect();
            by_load.sort_by_cached_key(load);
            if planted(Mutation::MostLoadedAsked) {
                by_load.reverse();
            }
            return Self::first_free(by_load.into_iter(), counts, may);
        }
        Self::first_free(in_turn, counts, may)
    }

    fn first_free<'a>(
        members: impl Iterator<Item = &'a Arc<Member>>,
        counts: bool,
        may: impl Fn(&Callee) -> bool,
    ) -> Choice {
        let mut choice = Choice::Nobody;
        for member in members.filter(|member| may(&member.callee)) {
            if !counts && member.concurrency.is_none() {
                return Choice::Callee(member.callee, None);
            }
            match member.claim() {
                Some(claim) => return Choice::Callee(member.callee, Some(claim)),
                None => choice = Choice::AllBusy,
            }
        }
        choice
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::directory::CalleeFeatures;
    use crate::ids::{RoleId, ShardId};

    fn callee(number: u64) -> Callee {
        Callee {
            shard: ShardId::new(0).expect("a shard"),
            session: SessionId::new(number).expect("an id"),
            role: RoleId::new(0),
            disclose_caller: false,
            features: CalleeFeatures::default(),
            outlet: 0,
        }
    }

    fn members(limits: &[Option<u64>]) -> Members {
        let member = |(number, limit): (usize, &Option<u64>)| {
            Member::new(callee(number as u64 + 1), limit.and_then(NonZeroU64::new))
        };
        let mut all = limits.iter().enumerate().map(member);
        let first = Members::first(all.next().expect("there is one"));
        all.fold(first, |members, member| members.with(member))
    }

    fn picks(members: &Members, policy: InvokePolicy, count: usize) -> Vec<u64> {
        let mut random = 0;
        let mut pick = || match members.choose(policy, || random, |_| true) {
            Choice::Callee(callee, _) => {
                random += 2;
                callee.session.get()
            }
            _ => 0,
        };
        (0..count).map(|_| pick()).collect()
    }

    #[test]
    fn each_policy_picks_in_its_order() {
        let three = members(&[None, None, None]);
        assert_eq!(picks(&three, InvokePolicy::First, 3), [1, 1, 1]);
        assert_eq!(picks(&three, InvokePolicy::Last, 3), [3, 3, 3]);
        assert_eq!(picks(&three, InvokePolicy::RoundRobin, 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(picks(&three, InvokePolicy::Random, 4), [1, 3, 2, 1]);
        let two = three.without(callee(1).session);
        assert_eq!(picks(&two, InvokePolicy::First, 1), [2]);
    }

    #[test]
    fn the_least_loaded_is_asked_and_ties_take_turns() {
        let three = members(&[None, None, None]);
        let pick = || match three.choose(InvokePolicy::LeastLoaded, || 0, |_| true) {
            Choice::Callee(callee, Some(claim)) => (callee.session.get(), claim),
            other => panic!("{other:?}"),
        };
        let mut claims: Vec<_> = (0..3).map(|_| pick()).collect();
        let asked: Vec<u64> = claims.iter().map(|(session, _)| *session).collect();
        assert_eq!(asked, [1, 2, 3]);
        drop(claims.remove(1));
        assert_eq!(pick().0, 2, "it has none, and the claim is dropped at once");
        assert_eq!(pick().0, 2);
    }

    #[test]
    fn nobody_gets_more_than_it_takes() {
        let two = members(&[Some(1), Some(2)]);
        let pick = || two.choose(InvokePolicy::First, || 0, |_| true);
        let claims: Vec<_> = (0..3).map(|_| pick()).collect();
        assert!(claims.iter().all(|choice| matches!(choice, Choice::Callee(_, Some(_)))));
        assert!(matches!(pick(), Choice::AllBusy));
        drop(claims);
        assert!(matches!(pick(), Choice::Callee(..)));
        let others = two.choose(InvokePolicy::First, || 0, |callee| callee.session.get() > 2);
        assert!(matches!(others, Choice::Nobody));
    }
}
