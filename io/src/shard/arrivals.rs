//! Connections that another shard has accepted and this one serves.
//!
//! ```text
//! accept ─▶ Loads::claim ─┬ keep ─────────────────────────▶ welcome
//!                         └ hand over ─▶ the other's queue ─▶ its doorbell, at the end of the turn ─▶ welcome there
//!                              └ queue full: keep ────────▶ welcome
//! ```
//!
//! A connection moves before a byte of it is read, and once at most: who takes it from the queue keeps it. Whoever asked
//! for it to come has counted it for this shard already; so a shard that ends waits for those on their way.

use std::os::fd::OwnedFd;

use crossbeam_queue::ArrayQueue;

use super::Shard;
use super::accept::Accepted;
use crate::loads::{Claim, Loads};
use crate::service::Service;
use crate::socket;

/// A connection on its way to another shard.
pub(crate) struct Arrival {
    socket: OwnedFd,
    /// Index of the listener that it came by.
    listener: u8,
}

/// What the shards know of each other to spread connections: shared by all.
pub(crate) struct Spread {
    pub(super) loads: Loads,
    /// By receiving shard.
    arrivals: Box<[ArrayQueue<Arrival>]>,
    /// Whether connections are handed over at all.
    balance: bool,
    /// Descriptors from this number on are not for connections.
    pub(super) reserved_from: i32,
}

impl Spread {
    /// For a process that may have so many descriptors.
    pub(crate) fn new(shards: usize, balance: bool, descriptors_max: u64) -> Self {
        let arrivals = (0..shards).map(|_| ArrayQueue::new(ARRIVALS_MAX)).collect();
        Self {
            loads: Loads::new(shards),
            arrivals,
            balance,
            reserved_from: reserved_from(shards, descriptors_max),
        }
    }

    /// Whether something waits for this shard.
    pub(super) fn has_arrivals(&self, shard: usize) -> bool {
        !self.arrivals[shard].is_empty()
    }
}

/// The kernel gives the lowest free number: one beyond this means that hardly any is left. What is kept back is for each
/// shard to take a connection and refuse it, all at the same moment, and for the admin port, so that an operator can see
/// what is going on.
fn reserved_from(shards: usize, descriptors_max: u64) -> i32 {
    let reserve = (shards as u64 + 32).min(descriptors_max / 4);
    i32::try_from(descriptors_max - reserve).unwrap_or(i32::MAX)
}

impl<S: Service> Shard<S> {
    /// A connection that this shard has accepted: welcomed here or handed over.
    pub(super) fn place(&mut self, socket: OwnedFd, listener: u8) -> Accepted {
        let own = usize::from(self.id.get());
        let max = self.config.connections_max_per_shard.unwrap_or(u32::MAX);
        let spread = &self.links.spread;
        let claim = if spread.balance {
            spread.loads.claim(own, max)
        } else if spread.loads.claim_own(own, max) {
            Claim::Keep
        } else {
            Claim::Full
        };
        match claim {
            Claim::Keep => self.welcome(socket, listener),
            Claim::HandTo(to) => match spread.arrivals[to].push(Arrival { socket, listener }) {
                Ok(()) => {
                    self.links.counters.handed_to_shard.add(1);
                    self.touched[to] = true;
                    Accepted::Connection
                }
                Err(Arrival { socket, listener }) => {
                    spread.loads.release(to);
                    if spread.loads.claim_own(own, max) {
                        self.links.counters.connections_kept.add(1);
                        self.welcome(socket, listener)
                    } else {
                        self.refuse_full(socket)
                    }
                }
            },
            Claim::Full => self.refuse_full(socket),
        }
    }

    fn refuse_full(&mut self, socket: OwnedFd) -> Accepted {
        self.links.counters.rejected_full.add(1);
        socket::refuse(socket);
        Accepted::Refused
    }

    /// Takes what others have handed over, within the turn's budget. True = there may be more.
    pub(super) fn take_arrivals(&mut self) -> bool {
        let own = usize::from(self.id.get());
        for _ in 0..self.config.turn.accepts {
            let Some(Arrival { socket, listener }) = self.links.spread.arrivals[own].pop() else {
                return false;
            };
            if self.drain.is_some() {
                // The other shard did not know yet.
                self.links.counters.rejected_draining.add(1);
                self.links.spread.loads.release(own);
                socket::refuse(socket);
            } else {
                self.welcome(socket, listener);
            }
        }
        true
    }

    /// Closes what others have handed over; nothing more comes than what is under way.
    pub(super) fn drop_arrivals(&mut self) {
        let own = usize::from(self.id.get());
        self.links.spread.loads.retire(own);
        while let Some(arrival) = self.links.spread.arrivals[own].pop() {
            drop(arrival);
            self.links.spread.loads.release(own);
        }
    }
}

/// Connections that may wait for one shard: what it takes in 32 turns. If it is busier than that, whoever accepted the
/// connection serves it sooner.
const ARRIVALS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::reserved_from;

    #[test]
    fn some_descriptors_are_kept_back_but_never_most() {
        assert_eq!(reserved_from(4, 20_000), 19_964);
        assert_eq!(reserved_from(63, 1_024), 929);
        assert_eq!(reserved_from(2, 64), 48);
        assert_eq!(reserved_from(2, u64::MAX), i32::MAX);
    }
}
