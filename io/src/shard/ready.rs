//! Whose turn it is to be read: connections that may have unread input, in turn by realm, and in a realm one after another.
//!
//! ```text
//! turn     1 ─▶ 2 ─▶ 0          groups that have somebody, in the order of their turns
//! queues   0: c7                 0: who has not logged in
//!          1: c3 c9 c4           1…: one for each realm
//!          2: c1
//! ```
//!
//! A realm with a thousand connections that always send takes no more receives from a realm with one connection than one
//! between two of its own.

use std::collections::VecDeque;

/// See the module's picture. A connection is in at most one queue once, which its owner sees to.
#[derive(Debug)]
pub(super) struct Ready {
    queues: Vec<VecDeque<u32>>,
    turn: VecDeque<u16>,
    /// By slot, as far as one was ever set.
    groups: Vec<u16>,
}

/// Of who has not logged in.
pub(super) const STRANGERS: u16 = 0;

impl Ready {
    pub(super) fn new() -> Self {
        Self { queues: vec![VecDeque::new()], turn: VecDeque::new(), groups: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }

    /// From now on the connection has its turn in this group; where it waits already it stays.
    pub(super) fn set_group(&mut self, slot: u32, group: u16) {
        if slot as usize >= self.groups.len() {
            self.groups.resize(slot as usize + 1, STRANGERS);
        }
        self.groups[slot as usize] = group;
        if usize::from(group) >= self.queues.len() {
            self.queues.resize_with(usize::from(group) + 1, VecDeque::new);
        }
    }

    pub(super) fn push(&mut self, slot: u32) {
        let group = self.groups.get(slot as usize).copied().unwrap_or(STRANGERS);
        let queue = &mut self.queues[usize::from(group)];
        if queue.is_empty() {
            self.turn.push_back(group);
        }
        queue.push_back(slot);
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        let group = *self.turn.front()?;
        let queue = &mut self.queues[usize::from(group)];
        let slot = queue.pop_front();
        if queue.is_empty() {
            self.turn.pop_front();
        } else if self.turn.len() > 1 {
            self.turn.rotate_left(1);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(ready: &mut Ready, count: usize) -> Vec<u32> {
        (0..count).map_while(|_| ready.pop()).collect()
    }

    #[test]
    fn in_one_group_everybody_has_a_turn_in_order() {
        let mut ready = Ready::new();
        (0..4).for_each(|slot| ready.push(slot));
        let first = ready.pop().unwrap();
        ready.push(first);
        assert_eq!(popped(&mut ready, 9), [1, 2, 3, 0]);
        assert!(ready.is_empty() && ready.pop().is_none());
    }

    #[test]
    fn one_connection_of_a_realm_has_every_second_turn_beside_a_thousand_of_another() {
        let mut ready = Ready::new();
        for slot in 0..1_000 {
            ready.set_group(slot, 1);
            ready.push(slot);
        }
        ready.set_group(1_000, 2);
        ready.push(1_000);
        let mut single = 0;
        for _ in 0..10_000 {
            let slot = ready.pop().unwrap();
            single += u32::from(slot == 1_000);
            // They all have more.
            ready.push(slot);
        }
        assert_eq!(single, 5_000);
    }

    #[test]
    fn nobody_is_lost_who_logs_in_while_it_waits() {
        let mut ready = Ready::new();
        ready.push(1);
        ready.push(2);
        ready.set_group(1, 3);
        assert_eq!(popped(&mut ready, 9), [1, 2]);
        ready.push(1);
        ready.push(2);
        assert_eq!(popped(&mut ready, 9), [1, 2]);
    }
}
