//! Whether a shard that has nothing to do looks for more before it sleeps.
//!
//! ```text
//! work ─┤ gap ├─ work ─┤ gap ├─ work ─┤       longer than the limit        ├─ work ─┤ gap ├─ work
//!        sleep          look on         look on, for the limit │ sleep         sleep           look on
//! ```
//!
//! A sleep that ends within the limit says that looking on would have been better, a longer one that it would have been in
//! vain. So a shard without work sleeps but for one limit after the last message, and one with a message now and then always.

use std::time::Duration;

use fanwire_core::Instant;

/// What the last gap between two pieces of work says of the next one.
pub(super) struct Spin {
    limit: Duration,
    /// End of the last turn that found something to do.
    last_work: Instant,
    /// The shard had nothing to do since then.
    idle: bool,
    /// The last gap was within the limit.
    pays: bool,
}

impl Spin {
    /// Never looks on if `limit` is zero, nor before the first short gap.
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, last_work: now, idle: false, pays: false }
    }

    /// From now on not longer than this.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        (self.limit, self.pays) = (limit, false);
    }

    /// A turn found something to do.
    pub(super) fn worked(&mut self, began: Instant, ended: Instant) {
        // Of turns that follow each other nothing is learned.
        if std::mem::take(&mut self.idle) {
            self.pays = began.since(self.last_work) < self.limit;
        }
        self.last_work = ended;
    }

    /// Nothing is left to do. Until when to look on, if that pays.
    pub(super) fn idle_until(&mut self) -> Option<Instant> {
        self.idle = true;
        self.pays.then(|| self.last_work + self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    fn at(micros: u64) -> Instant {
        Instant::START + Duration::from_micros(micros)
    }

    #[test]
    fn looking_on_begins_with_a_short_gap_and_ends_with_a_long_one() {
        let mut spin = Spin::new(LIMIT, at(0));
        assert_eq!(spin.idle_until(), None);
        spin.worked(at(1_000), at(1_010));
        assert_eq!(spin.idle_until(), None);
        spin.worked(at(1_059), at(1_070));
        assert_eq!(spin.idle_until(), Some(at(1_120)));
        spin.worked(at(1_120), at(1_121));
        assert_eq!(spin.idle_until(), None, "the gap was as long as the limit");
    }

    #[test]
    fn a_burst_now_and_then_is_slept_for() {
        let mut spin = Spin::new(LIMIT, at(0));
        for burst in 1..100 {
            assert_eq!(spin.idle_until(), None);
            spin.worked(at(200 * burst), at(200 * burst + 5));
            spin.worked(at(200 * burst + 5), at(200 * burst + 9));
        }
    }

    #[test]
    fn without_a_limit_nothing_pays() {
        let mut spin = Spin::new(Duration::ZERO, at(0));
        for _ in 0..3 {
            assert_eq!(spin.idle_until(), None);
            spin.worked(at(0), at(0));
        }
    }
}
