//! Giving memory back when the process has not enough of it.

use std::cmp::Reverse;

use super::{CUTS_AT_ONCE, Delivery, Outlet, flag};
use crate::counters::DropReason;
use crate::mutation::{Mutation, planted};

impl Delivery {
    /// Connections whose socket is full, and the bytes that wait for each.
    pub fn backlogs(&self) -> impl Iterator<Item = (Outlet, usize)> {
        let is_blocked =
            |outlet: &&Outlet| self.flags[outlet.index()] & (flag::BLOCKED | flag::CLOSED) == flag::BLOCKED;
        self.blocked.iter().filter(is_blocked).map(|outlet| (*outlet, self.waiting_bytes(*outlet)))
    }

    /// The connections whose socket is full, with the bytes that wait for each: the largest first, `count` at most.
    pub(super) fn largest(&self, count: usize) -> Vec<(Outlet, usize)> {
        let order = |(outlet, bytes): &(Outlet, usize)| (Reverse(*bytes), outlet.0);
        let mut largest: Vec<(Outlet, usize)> = self.backlogs().collect();
        if largest.len() > count {
            largest.select_nth_unstable_by_key(count, order);
            largest.truncate(count);
        }
        largest.sort_unstable_by_key(order);
        largest
    }

    /// Cuts connections whose socket is full, those with the most bytes waiting first, until `bytes` are given up or a
    /// slice's worth of connections was cut. Returns the bytes given up: less than asked for while some are left, and 0
    /// where nobody's socket is full.
    ///
    /// Bytes that several connections share are free only when the last of them is gone, so less memory may come of it.
    pub fn shed(&mut self, bytes: usize) -> usize {
        let largest = if planted(Mutation::SmallestShedFirst) {
            let mut smallest: Vec<(Outlet, usize)> = self.backlogs().collect();
            smallest.sort_unstable_by_key(|(outlet, bytes)| (*bytes, outlet.0));
            smallest.truncate(CUTS_AT_ONCE);
            smallest
        } else {
            self.largest(CUTS_AT_ONCE)
        };
        let mut freed = 0;
        for (outlet, waiting) in largest {
            if freed >= bytes {
                break;
            }
            self.cut(outlet, DropReason::Memory);
            freed += waiting.max(1);
        }
        freed
    }

    /// Gives back what is only kept to be used again.
    pub fn drop_spares(&mut self) {
        self.outboxes = Vec::new();
        self.chunks.clear();
    }
}
