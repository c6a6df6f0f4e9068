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
use crate::addresses::{Address, Addresses};
use crate::config::Config;
use crate::loads::{Claim, Loads};
use crate::rate::SharedBucket;
use crate::service::Service;

/// A connection on its way to another shard.
pub(crate) struct Arrival {
    pub(super) socket: OwnedFd,
    /// Index of the listener that it came by.
    pub(super) listener: u8,
    /// Whose it is, where connections are counted by address.
    pub(super) address: Option<Address>,
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
    /// New connections of the process.
    pub(super) admission: SharedBucket,
    pub(super) addresses: Addresses,
}

impl Spread {
    /// For a process that may have so many descriptors.
    pub(crate) fn new(shards: usize, config: &Config, descriptors_max: u64) -> Self {
        let arrivals = (0..shards).map(|_| ArrayQueue::new(ARRIVALS_MAX)).collect();
        Self {
            loads: Loads::new(shards),
            arrivals,
            balance: config.balance,
            reserved_from: reserved_from(shards, descriptors_max),
            admission: SharedBucket::default(),
            addresses: Addresses::new(),
        }
    }

    /// Decides who takes what has come to shard `own`.
    pub(super) fn claim(&self, own: usize, max: u32) -> Claim {
        if self.balance {
            self.loads.claim(own, max)
        } else if self.loads.claim_own(own, max) {
            Claim::Keep
        } else {
            Claim::Full
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
    /// A connection that was counted for this address is not there any more.
    pub(super) fn forget_address(&self, address: Option<Address>) {
        if let Some(address) = address {
            self.links.spread.addresses.release(self.config.connects_per_address, address);
        }
    }

    /// A connection that this shard has accepted: welcomed here or handed over.
    pub(super) fn place(&mut self, arrival: Arrival) -> Accepted {
        let own = usize::from(self.id.get());
        let max = self.config.connections_max_per_shard.unwrap_or(u32::MAX);
        let spread = &self.links.spread;
        match spread.claim(own, max) {
            Claim::Keep => self.welcome(arrival),
            Claim::HandTo(to) => match spread.arrivals[to].push(arrival) {
                Ok(()) => {
                    self.links.counters.handed_to_shard.add(1);
                    self.touched[to] = true;
                    Accepted::Connection
                }
                Err(arrival) => {
                    spread.loads.release(to);
                    if spread.loads.claim_own(own, max) {
                        self.links.counters.connections_kept.add(1);
                        self.welcome(arrival)
                    } else {
                        self.refuse_full(arrival)
                    }
                }
            },
            Claim::Full => self.refuse_full(arrival),
        }
    }

    fn refuse_full(&mut self, arrival: Arrival) -> Accepted {
        self.links.counters.rejected_full.add(1);
        self.forget_address(arrival.address);
        self.refuse_unread(arrival.socket, arrival.listener);
        Accepted::Refused
    }

    /// Takes what others have handed over, within the turn's budget. True = there may be more.
    pub(super) fn take_arrivals(&mut self) -> bool {
        let own = usize::from(self.id.get());
        for _ in 0..self.config.turn.accepts {
            let Some(arrival) = self.links.spread.arrivals[own].pop() else {
                return false;
            };
            if self.drain.is_some() {
                // The other shard did not know yet.
                self.links.counters.rejected_draining.add(1);
                self.links.spread.loads.release(own);
                self.forget_address(arrival.address);
                self.refuse_unread(arrival.socket, arrival.listener);
            } else {
                self.welcome(arrival);
            }
        }
        true
    }

    /// Closes what others have handed over; nothing more comes than what is under way.
    pub(super) fn drop_arrivals(&mut self) {
        let own = usize::from(self.id.get());
        self.links.spread.loads.retire(own);
        while let Some(arrival) = self.links.spread.arrivals[own].pop() {
            self.forget_address(arrival.address);
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
