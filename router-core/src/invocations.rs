//! What a callee has been asked and did not answer yet, and what it may still say of what is over.

use hashbrown::HashMap;

use crate::dealer::Window;
use crate::late::LateIds;
use crate::parcel::CallKey;
use crate::session::IdMap;

/// One invocation without its final answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Invoked {
    pub(crate) call: CallKey,
    /// The caller takes results in parts.
    pub(crate) takes_progress: bool,
}

/// A callee's invocations, by their request ids.
#[derive(Debug, Default)]
pub(crate) struct Invocations {
    pending: IdMap<Invoked>,
    rarities: Option<Box<Rarities>>,
}

/// What a callee needs of whose calls some were interrupted or go on in parts.
#[derive(Debug, Default)]
struct Rarities {
    /// By their calls, from when somebody first looked for one among many until none is left.
    by_call: Option<HashMap<CallKey, u64, foldhash::fast::FixedState>>,
    /// Those that were interrupted and that nobody waits for: whatever it says of them is ignored.
    interrupted: LateIds,
    /// What is under way to other shards of results in parts.
    windows: IdMap<Window>,
}

impl Invocations {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    #[inline(always)]
    pub(crate) fn insert(&mut self, invocation: u64, invoked: Invoked) {
        self.pending.insert(invocation, invoked);
        if self.rarities.is_some() {
            self.index(invoked.call, invocation);
        }
    }

    #[cold]
    fn index(&mut self, call: CallKey, invocation: u64) {
        if let Some(by_call) = self.by_call_mut() {
            by_call.insert(call, invocation);
        }
    }

    #[inline(always)]
    pub(crate) fn get(&self, invocation: u64) -> Option<Invoked> {
        self.pending.get(&invocation).copied()
    }

    /// It has its final answer.
    #[inline(always)]
    pub(crate) fn remove(&mut self, invocation: u64) -> Option<Invoked> {
        let invoked = self.pending.remove(&invocation)?;
        if self.rarities.is_some() {
            self.unindex(invoked.call, invocation);
        }
        Some(invoked)
    }

    /// The invocation of this call, if it is not answered yet.
    pub(crate) fn find(&mut self, call: CallKey) -> Option<u64> {
        if let Some(by_call) = self.by_call_mut() {
            return by_call.get(&call).copied();
        }
        if self.pending.len() <= FEW {
            return self.pending.iter().find(|(_, invoked)| invoked.call == call).map(|(id, _)| *id);
        }
        let by_call = self.pending.iter().map(|(id, invoked)| (invoked.call, *id)).collect();
        let by_call = self.rarities.get_or_insert_default().by_call.insert(by_call);
        by_call.get(&call).copied()
    }

    /// What is under way of its result, if that is wanted in parts.
    pub(crate) fn window_of(&mut self, invocation: u64) -> Option<&mut Window> {
        self.pending.get(&invocation).filter(|invoked| invoked.takes_progress)?;
        Some(self.rarities.get_or_insert_default().windows.entry(invocation).or_default())
    }

    /// It takes no results in parts any more.
    pub(crate) fn refuse_progress(&mut self, invocation: u64) {
        if let Some(invoked) = self.pending.get_mut(&invocation) {
            invoked.takes_progress = false;
        }
    }

    /// Nobody waits for its answer any more, and the callee knows: what it has already said is on its way.
    pub(crate) fn interrupt(&mut self, invocation: u64) {
        if self.remove(invocation).is_some() {
            self.rarities.get_or_insert_default().interrupted.add(invocation);
        }
    }

    /// Whether the callee may speak of what is not pending, because it was interrupted.
    ///
    /// After its last word too: a handler that cannot be stopped may go on behind what its library has said.
    pub(crate) fn is_late(&mut self, invocation: u64) -> bool {
        self.rarities.as_mut().is_some_and(|rarities| rarities.interrupted.meets(invocation, false))
    }

    /// The calls that never get their answer.
    pub(crate) fn into_calls(self) -> impl Iterator<Item = CallKey> {
        self.pending.into_values().map(|invoked| invoked.call)
    }

    fn by_call_mut(&mut self) -> Option<&mut HashMap<CallKey, u64, foldhash::fast::FixedState>> {
        self.rarities.as_mut()?.by_call.as_mut()
    }

    #[cold]
    fn unindex(&mut self, call: CallKey, invocation: u64) {
        let is_last = self.pending.is_empty();
        let Some(rarities) = &mut self.rarities else { return };
        rarities.windows.remove(&invocation);
        if is_last {
            rarities.by_call = None;
        } else if let Some(by_call) = &mut rarities.by_call {
            by_call.remove(&call);
        }
    }
}

/// So many are looked through; among more they are found by an index, which costs those that follow something.
const FEW: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn call(number: u64) -> CallKey {
        CallKey { shard: ShardId::new(1).expect("a shard"), number }
    }

    #[test]
    fn an_invocation_is_found_by_its_call_among_few_and_many() {
        for count in [3, FEW as u64 + 5] {
            let mut invocations = Invocations::default();
            for id in 1..=count {
                invocations.insert(id, Invoked { call: call(100 + id), takes_progress: false });
            }
            assert_eq!(invocations.find(call(102)), Some(2));
            assert!(invocations.remove(2).is_some());
            assert_eq!(invocations.find(call(102)), None);
            invocations.insert(count + 1, Invoked { call: call(7), takes_progress: true });
            assert_eq!(invocations.find(call(7)), Some(count + 1));
            for id in 1..=count + 1 {
                invocations.remove(id);
            }
            assert_eq!((invocations.len(), invocations.find(call(101))), (0, None));
        }
    }

    #[test]
    fn what_was_interrupted_may_be_answered_more_than_once() {
        let mut invocations = Invocations::default();
        invocations.insert(1, Invoked { call: call(1), takes_progress: true });
        assert!(!invocations.is_late(1), "nothing was interrupted");
        invocations.interrupt(1);
        assert_eq!(invocations.get(1), None);
        assert!(invocations.is_late(1) && invocations.is_late(1));
        assert!(!invocations.is_late(2), "another one");
    }
}
