//! How many connections each address has, and how often new ones come from it. Only where a limit for that is set.
//!
//! Shared by all shards and locked in parts: when a connection is accepted and when it ends, never on a message's way.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fanwire_core::Instant;

use crate::rate::{Bucket, Rate};

/// An IPv4 address, or the first 64 bits of an IPv6 one: who has one of these has them all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Address(u64);

impl Address {
    pub(crate) fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            // The block is nobody's in IPv6.
            IpAddr::V4(ip) => Self(0x0000_FFFF_0000_0000 | u64::from(u32::from(ip))),
            IpAddr::V6(ip) => Self((u128::from(ip) >> 64) as u64),
        }
    }
}

/// Which limit an address has met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Met {
    Connections,
    Rate,
}

/// What is known of an address.
#[derive(Default)]
struct Entry {
    connections: u32,
    bucket: Bucket,
}

/// A part of the table.
#[derive(Default)]
struct Part {
    entries: HashMap<Address, Entry>,
    /// When it was last looked through for entries of no interest any more.
    swept_at: Instant,
}

impl Part {
    /// Whether there is room for one more. Looks for it now and then only: in a flood of addresses every new one would ask.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.entries.len() >= ENTRIES_PER_PART && now >= self.swept_at + SWEEP_EVERY {
            self.swept_at = now;
            self.entries.retain(|_, entry| entry.connections > 0 || !entry.bucket.is_full(now));
        }
        self.entries.len() < ENTRIES_PER_PART
    }
}

/// What one address may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AddressLimits {
    /// Connections at once.
    pub(crate) connections_max: Option<u32>,
    /// New connections.
    pub(crate) rate: Option<Rate>,
}

/// See the module's words.
pub(crate) struct Addresses {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
}

impl Addresses {
    /// Of nobody yet.
    pub(crate) fn new() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, hasher: RandomState::new() }
    }

    /// Counts a connection. `Ok(false)`: there are no limits, or the table is full of others, and this one is not counted.
    pub(crate) fn admit(&self, limits: AddressLimits, now: Instant, address: Address) -> Result<bool, Met> {
        let AddressLimits { connections_max, rate } = limits;
        if connections_max.is_none() && rate.is_none() {
            return Ok(false);
        }
        let mut part = self.part(address).lock().unwrap_or_else(PoisonError::into_inner);
        if !part.entries.contains_key(&address) && !part.has_room(now) {
            return Ok(false);
        }
        let entry = part.entries.entry(address).or_default();
        if connections_max.is_some_and(|max| entry.connections >= max) {
            return Err(Met::Connections);
        }
        if let Some(rate) = rate {
            if entry.bucket.left(rate, now) == 0 {
                return Err(Met::Rate);
            }
            entry.bucket.take(rate, now, 1);
        }
        entry.connections += 1;
        Ok(true)
    }

    /// A connection that was counted has ended.
    pub(crate) fn release(&self, rate: Option<Rate>, address: Address) {
        let mut part = self.part(address).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = part.entries.get_mut(&address) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 && rate.is_none() {
                part.entries.remove(&address);
            }
        }
    }

    fn part(&self, address: Address) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(address) as usize % PARTS]
    }
}

const PARTS: usize = 16;
/// 65,536 addresses in all, some 2 MiB. Whoever has more addresses than that is not held by limits for one of them.
const ENTRIES_PER_PART: usize = 4_096;
const SWEEP_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::of(SocketAddr::new(text.parse().unwrap(), 1))
    }

    fn second(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn ipv6_counts_by_its_first_64_bits_and_mapped_ipv4_as_ipv4() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert_ne!(address("::1"), address("0.0.0.0"));
    }

    #[test]
    fn connections_at_once_are_counted_by_address() {
        let addresses = Addresses::new();
        let limits = AddressLimits { connections_max: Some(2), rate: None };
        let (a, b) = (address("10.0.0.1"), address("10.0.0.2"));
        assert_eq!(
            [a, a, a, b].map(|who| addresses.admit(limits, second(1), who)),
            [Ok(true), Ok(true), Err(Met::Connections), Ok(true)]
        );
        addresses.release(None, a);
        assert_eq!(addresses.admit(limits, second(1), a), Ok(true));
        let fewer = AddressLimits { connections_max: Some(1), rate: None };
        assert_eq!(addresses.admit(fewer, second(1), b), Err(Met::Connections), "those that are there count");
        [a, a, b].into_iter().for_each(|who| addresses.release(None, who));
        assert!(
            addresses.parts.iter().all(|part| part.lock().unwrap().entries.is_empty()),
            "nothing is kept"
        );
    }

    #[test]
    fn new_connections_come_at_their_rate() {
        let addresses = Addresses::new();
        let limits = AddressLimits { connections_max: None, rate: Some(Rate { per_second: 2, burst: 3 }) };
        let a = address("10.0.0.1");
        let admitted = |now| (0..10).filter(|_| addresses.admit(limits, now, a) == Ok(true)).count();
        assert_eq!([1, 1, 2, 9].map(|now| admitted(second(now))), [3, 0, 2, 3]);
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_for_others() {
        let addresses = Addresses::new();
        let limits = AddressLimits { connections_max: None, rate: Some(Rate { per_second: 1, burst: 1 }) };
        let many = |from: u32| (from..from + 80_000).map(|ip| Address(u64::from(ip) | 0xFFFF_0000_0000));
        for address in many(0) {
            assert!(addresses.admit(limits, second(1), address).is_ok());
            addresses.release(limits.rate, address);
        }
        let kept = || addresses.parts.iter().map(|part| part.lock().unwrap().entries.len()).sum::<usize>();
        assert_eq!(kept(), PARTS * ENTRIES_PER_PART);
        // A moment later these are of no interest any more.
        assert_eq!(
            many(1 << 24)
                .take(1_000)
                .filter(|who| addresses.admit(limits, second(9), *who) == Ok(true))
                .count(),
            1_000
        );
        assert!(kept() < PARTS * ENTRIES_PER_PART);
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let (addresses, none) = (Addresses::new(), AddressLimits { connections_max: None, rate: None });
        assert_eq!(addresses.admit(none, second(1), address("10.0.0.1")), Ok(false));
        assert!(addresses.parts.iter().all(|part| part.lock().unwrap().entries.is_empty()));
    }
}
