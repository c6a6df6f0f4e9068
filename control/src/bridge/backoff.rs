//! How long to wait before trying again: longer each time, and never just as long as everybody else.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest.
const MOST: Duration = Duration::from_secs(5);

/// Waits between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    state: u64,
}

impl Backoff {
    /// `seed`: another one for each process and bridge.
    pub(super) fn new(seed: u64) -> Self {
        Self { next: FIRST, state: seed | 1 }
    }

    /// It has worked: the next failure is the first one.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The wait before the next attempt: half of what it may be at least.
    pub(super) fn wait(&mut self) -> Duration {
        let longest = self.next;
        self.next = (self.next * 2).min(MOST);
        // A jitter for machines that were cut off in the same moment; nothing hangs on how good it is.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (self.state >> 40) as f64 / f64::from(1 << 24);
        longest.mul_f64(0.5 + part / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new(7);
        let mut longest = FIRST;
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(wait >= longest / 2 && wait <= longest, "{wait:?} of {longest:?}");
            longest = (longest * 2).min(MOST);
        }
        assert_eq!(longest, MOST);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn two_of_them_do_not_wait_alike() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            [backoff.wait(), backoff.wait(), backoff.wait()]
        };
        assert_ne!(waits(1), waits(0xdead_beef_dead_beef));
    }
}
