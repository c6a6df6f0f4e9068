//! The only place of the data path that reads a clock or the system's random numbers.
//!
//! Everything else is told what time it is (clippy's `disallowed-methods` sees to that), so the core can be simulated
//! and a turn reads the clock once, not once per message. The clock is monotonic: wall-clock jumps move no deadline.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the one place of the data path that reads clock and chance"
)]

use std::sync::LazyLock;
use std::time::{Instant as Monotonic, SystemTime};

use fanwire_core::clock::Instant;

static START: LazyLock<(Monotonic, SystemTime)> = LazyLock::new(|| (Monotonic::now(), SystemTime::now()));

/// The shards' time: nanoseconds since the first call in this process.
pub fn now() -> Instant {
    let (start, _) = *START;
    Instant::from_nanos(u64::try_from(Monotonic::now().duration_since(start).as_nanos()).unwrap_or(u64::MAX))
}

/// What the clock on the wall showed at a point of the shards' time, if nobody has set it since the start. For people only.
pub fn wall_clock(at: Instant) -> SystemTime {
    START.1 + at.since(Instant::START)
}

/// The shard's source of random numbers: the system's generator, fetched 4 KiB at a time.
///
/// # Panics
///
/// If the system has no randomness to give, which Linux does not do after boot.
pub fn random_source() -> impl FnMut() -> u64 + Send + 'static {
    let mut pool = vec![0u8; 4096];
    let mut used = pool.len();
    move || {
        if used == pool.len() {
            getrandom::fill(&mut pool).expect("the kernel gives random bytes once it has booted");
            used = 0;
        }
        let bytes: [u8; 8] = pool[used..used + 8].try_into().expect("eight bytes were taken");
        pool[used..used + 8].fill(0);
        used += 8;
        u64::from_ne_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
    }

    #[test]
    fn random_numbers_differ_across_refills() {
        let mut random = random_source();
        let numbers: std::collections::HashSet<u64> = (0..2000).map(|_| random()).collect();
        assert_eq!(numbers.len(), 2000);
    }
}
