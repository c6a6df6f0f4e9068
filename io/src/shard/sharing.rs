//! Shards that share a CPU take turns on it.
//!
//! ```text
//! kernel's time slices      0 0 0 0 0 0 0 0│1 1 1 1 1 1 1 1│0 0 0 …     what 0 routes to 1 waits for 1's slice,
//!                                          │               │            and 1's rounds end for want of more
//! a turn each               0│1│0│1│0│1│0│1│0│1 …                       publications come during rounds and share sends
//! ```
//!
//! The kernel lets a thread with work run for some milliseconds, while a turn takes 0.2 ms. Only where there are more shards than
//! CPUs; a shard that has its CPU for itself never gives way.
//!
//! The kernel may charge who gives way as if it had used up its time slice. Where a stranger wants the CPU too it would take
//! most of it; so when giving way takes longer than the turns of the other shards do, it is left for a while.

use std::time::Duration;

/// Whether giving way between two turns helps.
pub(super) struct Sharing {
    /// What the turns of the shards beside this one may take; zero if there are none.
    limit: Duration,
    /// Turns until it is tried again.
    pause: u32,
}

impl Sharing {
    /// So many other shards share the CPU.
    pub(super) fn new(beside: usize) -> Self {
        Self { limit: TURN_MAX.saturating_mul(u32::try_from(beside).unwrap_or(u32::MAX)), pause: 0 }
    }

    /// After a turn: whether to let the others have theirs. `awake` says whether one of them might want it.
    pub(super) fn gives_way(&mut self, awake: impl FnOnce() -> bool) -> bool {
        if self.limit.is_zero() {
            return false;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        awake()
    }

    /// The CPU was given away for so long.
    pub(super) fn gave_way(&mut self, took: Duration) {
        if took > self.limit {
            self.pause = PAUSE_TURNS;
        }
    }
}

/// Longer than nearly all turns, and shorter than what the kernel gives a thread that computes (3 ms or more).
const TURN_MAX: Duration = Duration::from_millis(2);
/// Some 10 ms of work: what a stranger takes by one try in that time is a third at most.
const PAUSE_TURNS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_alone_on_its_cpu_goes_on() {
        let mut sharing = Sharing::new(0);
        assert!(!sharing.gives_way(|| unreachable!("there is nobody to ask about")));
    }

    #[test]
    fn shards_beside_that_sleep_want_no_turn() {
        let mut sharing = Sharing::new(1);
        assert!(!sharing.gives_way(|| false));
        assert!(sharing.gives_way(|| true));
    }

    #[test]
    fn who_gave_way_to_a_stranger_does_not_for_a_while() {
        let mut sharing = Sharing::new(2);
        sharing.gave_way(2 * TURN_MAX);
        assert!(sharing.gives_way(|| true), "two shards had a turn each");
        sharing.gave_way(2 * TURN_MAX + Duration::from_nanos(1));
        for _ in 0..PAUSE_TURNS {
            assert!(!sharing.gives_way(|| true));
        }
        assert!(sharing.gives_way(|| true));
    }
}
