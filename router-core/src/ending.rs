//! Sessions that end by themselves, because what let them in is good for a time only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::ids::SessionId;
use crate::session::{State, error};
use crate::shard::Shard;

/// When which session ends. One that has gone before stays in it until its time, or until half of all are such.
#[derive(Debug, Default)]
pub(crate) struct Endings(BinaryHeap<Reverse<(Instant, u64)>>);

/// Fewer are never looked through for sessions that have gone.
const FEW: usize = 1024;

impl Endings {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    fn next_due(&mut self, now: Instant) -> Option<SessionId> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().and_then(|Reverse((_, id))| SessionId::new(id))
    }
}

impl Shard {
    /// The session of this connection ends at this time, if it still is there.
    pub(crate) fn end_at(&mut self, outlet: Outlet, at: Instant) {
        let id = self.session(outlet).expect("it was opened").id;
        if self.endings.0.len() >= FEW.max(2 * self.outlets.len()) {
            let outlets = &self.outlets;
            let is_there = |id: u64| SessionId::new(id).is_some_and(|id| outlets.contains_key(&id));
            self.endings.0.retain(|Reverse((_, id))| is_there(*id));
        }
        self.endings.0.push(Reverse((at, id.get())));
    }

    /// Says goodbye to those whose time is over.
    pub(crate) fn end_sessions(&mut self, now: Instant) {
        while let Some(id) = self.endings.next_due(now) {
            let Some(&outlet) = self.outlets.get(&id) else { continue };
            if self.session(outlet).is_some_and(|session| session.state == State::Open) {
                let words = "what this session was let in with has expired: log in anew";
                self.say_goodbye(now, outlet, error::CLOSE_KILLED, words, 1008);
            }
        }
    }
}
