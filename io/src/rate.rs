//! So many per second, and so many at once: a token bucket in one number.
//!
//! The number is the moment at which the bucket will be full. What is taken moves it into the future; where it is further away
//! than a whole bucket takes to fill, there is nothing to take.

use std::sync::atomic::{AtomicU64, Ordering};

use fanwire_core::Instant;

/// A rate and what may come at once after a silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// In the long run, at least 1.
    pub per_second: u64,
    /// At once, at least 1.
    pub burst: u64,
}

impl Rate {
    /// Nanoseconds that `count` of them take; rounded up, so that a full bucket holds all of its burst.
    fn nanos(self, count: u64) -> u64 {
        let nanos = (u128::from(count) * NANOS).div_ceil(u128::from(self.per_second.max(1)));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// The state of one bucket; full at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// What can be taken now.
    pub(crate) fn left(self, rate: Rate, now: Instant) -> u64 {
        let missing = self.full_at.saturating_sub(now.as_nanos());
        let there = rate.nanos(rate.burst).saturating_sub(missing);
        let left = u128::from(there) * u128::from(rate.per_second) / NANOS;
        u64::try_from(left).unwrap_or(u64::MAX).min(rate.burst)
    }

    /// Takes so many, also where they are not there: then what is missing has to come first.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant, count: u64) {
        self.full_at = self.full_at.max(now.as_nanos()).saturating_add(rate.nanos(count));
    }

    /// When one can be taken.
    pub(crate) fn next_at(self, rate: Rate) -> Instant {
        let at = self.full_at.saturating_add(rate.nanos(1)).saturating_sub(rate.nanos(rate.burst));
        Instant::from_nanos(at)
    }

    /// Whether nothing is missing.
    pub(crate) fn is_full(self, now: Instant) -> bool {
        self.full_at <= now.as_nanos()
    }
}

/// A bucket that several threads take from, each at the rate that it knows.
#[derive(Debug, Default)]
pub(crate) struct SharedBucket {
    full_at: AtomicU64,
}

impl SharedBucket {
    /// Takes one, or says when there will be one.
    pub(crate) fn take(&self, rate: Rate, now: Instant) -> Result<(), Instant> {
        // Relaxed: the number is all that is shared, and its changes have one order.
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let mut bucket = Bucket { full_at };
            if bucket.left(rate, now) == 0 {
                return Err(bucket.next_at(rate));
            }
            bucket.take(rate, now, 1);
            let swap = self.full_at.compare_exchange_weak(
                full_at,
                bucket.full_at,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Gives back one that was not needed.
    pub(crate) fn give_back(&self, rate: Rate) {
        let one = rate.nanos(1);
        // Cannot fail: the closure always gives a value.
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| Some(full_at.saturating_sub(one)));
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 5 };
        let mut bucket = Bucket::default();
        assert_eq!(bucket.left(rate, at(1_000)), 5);
        bucket.take(rate, at(1_000), 5);
        assert_eq!((bucket.left(rate, at(1_000)), bucket.left(rate, at(1_099))), (0, 0));
        let next = bucket.next_at(rate);
        assert!((at(1_100)..at(1_101)).contains(&next));
        assert_eq!((bucket.left(rate, next), bucket.left(rate, at(1_300))), (1, 3));
        assert_eq!((bucket.left(rate, at(9_000)), bucket.is_full(at(9_000))), (5, true));
    }

    #[test]
    fn a_full_bucket_holds_its_burst_at_every_rate() {
        for per_second in (1..2_000).chain([333_333_333, 999_999_999, 5_000_000_000]) {
            for burst in [1, 2, 3, 7, 1_000] {
                let rate = Rate { per_second, burst };
                assert_eq!(Bucket::default().left(rate, at(1)), burst, "{rate:?}");
            }
        }
    }

    #[test]
    fn what_was_taken_beyond_the_burst_is_waited_for() {
        let rate = Rate { per_second: 1 << 20, burst: 1 << 16 };
        let mut bucket = Bucket::default();
        bucket.take(rate, at(0), 1 << 20);
        assert_eq!(bucket.left(rate, at(900)), 0);
        let next = bucket.next_at(rate);
        assert!(bucket.left(rate, next) >= 1);
        assert!((at(937)..at(939)).contains(&next), "{next:?}");
    }

    /// Whatever the rate, who waits until it is told gets one then, and no more than the rate in the end.
    #[test]
    fn the_rate_is_kept_by_whoever_obeys() {
        for per_second in [1, 7, 1_000, 333_333, 5_000_000_000] {
            let rate = Rate { per_second, burst: (per_second / 10).max(1) };
            let mut bucket = Bucket::default();
            let (mut now, mut taken) = (at(0), 0_u64);
            for _ in 0..10_000 {
                let left = bucket.left(rate, now);
                if left == 0 {
                    let next = bucket.next_at(rate);
                    assert!(next > now || per_second > 1_000_000_000, "{per_second}: it would spin");
                    now = next;
                    continue;
                }
                bucket.take(rate, now, left);
                taken += left;
            }
            let most = rate.burst as f64 + per_second as f64 * (now.as_nanos() as f64 / 1e9) * 1.001 + 1.0;
            assert!(taken as f64 <= most, "{per_second}: {taken} in {now:?}, at most {most}");
        }
    }

    #[test]
    fn shared_by_threads_it_gives_what_there_is() {
        let (bucket, rate) = (SharedBucket::default(), Rate { per_second: 1, burst: 1_000 });
        let took = || (0..1_000).filter(|_| bucket.take(rate, at(1)).is_ok()).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(took)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 1_000);
        bucket.give_back(rate);
        assert!(bucket.take(rate, at(1)).is_ok() && bucket.take(rate, at(1)).is_err());
        let more = Rate { burst: 1_100, ..rate };
        assert_eq!((0..1_000).filter(|_| bucket.take(more, at(1)).is_ok()).count(), 100);
    }
}
