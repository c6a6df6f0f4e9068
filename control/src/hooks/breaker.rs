//! When a hook is not asked for a while, because it fails.

use std::time::Duration;

use tokio::time::Instant;

/// Results that are looked at.
const WINDOW: u32 = 20;
/// So many failures among them open it.
const FAILURES: u32 = WINDOW / 2;
/// While it is open, one question in this time is asked to see whether the hook works again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Closed: everything is asked. Open, after half of the last 20 requests failed: one a second is, and the first that
/// succeeds closes it.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The last results, the latest in the lowest bit; set: it failed.
    results: u32,
    /// How many there are.
    count: u32,
    /// When the last question was let through while it is open.
    probed: Option<Instant>,
}

impl Breaker {
    /// Whether it is open.
    pub(super) fn is_open(&self) -> bool {
        self.probed.is_some()
    }

    /// Whether the hook is to be asked now. Says yes once a second while it is open.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        match &mut self.probed {
            None => true,
            Some(probed) if now.duration_since(*probed) < PROBE_INTERVAL => false,
            Some(probed) => {
                *probed = now;
                true
            }
        }
    }

    /// A request was answered, or failed.
    pub(super) fn note(&mut self, is_good: bool, now: Instant) {
        if self.is_open() {
            if is_good {
                *self = Self::default();
            }
            return;
        }
        self.results = (self.results << 1 | u32::from(!is_good)) & ((1 << WINDOW) - 1);
        self.count = (self.count + 1).min(WINDOW);
        if self.count == WINDOW && self.results.count_ones() >= FAILURES {
            self.probed = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_last_twenty_open_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for turn in 0..19 {
            breaker.note(turn % 2 == 0, now);
            assert!(!breaker.is_open(), "{turn}: there are not twenty yet");
        }
        breaker.note(false, now);
        assert!(breaker.is_open());
        let mut breaker = Breaker::default();
        (0..100).for_each(|turn| breaker.note(turn % 20 < 11, now));
        assert!(!breaker.is_open(), "9 of 20 do not");
    }

    #[test]
    fn open_it_lets_one_through_a_second_until_one_succeeds() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        (0..20).for_each(|_| breaker.note(false, start));
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!breaker.admits(at(999)));
        assert!(breaker.admits(at(1_000)) && !breaker.admits(at(1_000)) && !breaker.admits(at(1_999)));
        breaker.note(false, at(1_500));
        assert!(breaker.is_open() && breaker.admits(at(2_000)));
        breaker.note(true, at(2_100));
        assert!(!breaker.is_open() && breaker.admits(at(2_100)) && breaker.admits(at(2_100)));
        (0..19).for_each(|_| breaker.note(false, at(2_200)));
        assert!(!breaker.is_open(), "what was before is forgotten");
    }
}
