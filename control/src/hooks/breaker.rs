//! When a hook is not asked for a while, because it fails.

use std::time::Duration;

use tokio::time::Instant;

/// Results that are looked at.
const WINDOW: u32 = 20;
/// So many failures among them open it.
const FAILURES: u32 = WINDOW / 2;
/// While it is open, one question in this time is asked to see whether the hook works again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Leave to ask once. Its result counts while the breaker is as it was when it was given: what was asked before it opened, or
/// before it closed, is about the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    epoch: u64,
}

/// Closed: everything is asked. Open, after half of the last 20 requests failed: one a second is, and the first of these
/// that succeeds closes it.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The last results, the latest in the lowest bit; set: it failed.
    results: u32,
    /// How many there are.
    count: u32,
    /// When the last question was let through while it is open.
    probed: Option<Instant>,
    /// How often it was opened and closed.
    epoch: u64,
}

impl Breaker {
    /// Whether it is open.
    pub(super) fn is_open(&self) -> bool {
        self.probed.is_some()
    }

    /// Whether [`Self::admits`] would.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        self.probed.is_none_or(|probed| now.duration_since(probed) >= PROBE_INTERVAL)
    }

    /// Whether the hook is to be asked now. Says yes once a second while it is open.
    pub(super) fn admits(&mut self, now: Instant) -> Option<Pass> {
        if !self.would_admit(now) {
            return None;
        }
        self.probed = self.probed.map(|_| now);
        Some(Pass { epoch: self.epoch })
    }

    /// A request was answered, or failed.
    pub(super) fn note(&mut self, pass: Pass, is_good: bool, now: Instant) {
        if pass.epoch != self.epoch {
            return;
        }
        if self.is_open() {
            if is_good {
                *self = Self { epoch: self.epoch + 1, ..Self::default() };
            }
            return;
        }
        self.results = (self.results << 1 | u32::from(!is_good)) & ((1 << WINDOW) - 1);
        self.count = (self.count + 1).min(WINDOW);
        if self.count == WINDOW && self.results.count_ones() >= FAILURES {
            self.probed = Some(now);
            self.epoch += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks, and has this result at once.
    fn ask(breaker: &mut Breaker, is_good: bool, now: Instant) {
        let pass = breaker.admits(now).expect("it is closed");
        breaker.note(pass, is_good, now);
    }

    #[test]
    fn half_of_the_last_twenty_open_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for turn in 0..19 {
            ask(&mut breaker, turn % 2 == 0, now);
            assert!(!breaker.is_open(), "{turn}: there are not twenty yet");
        }
        ask(&mut breaker, false, now);
        assert!(breaker.is_open());
        let mut breaker = Breaker::default();
        (0..100).for_each(|turn| ask(&mut breaker, turn % 20 < 11, now));
        assert!(!breaker.is_open(), "9 of 20 do not");
    }

    #[test]
    fn open_it_lets_one_through_a_second_until_one_succeeds() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        (0..20).for_each(|_| ask(&mut breaker, false, start));
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(breaker.admits(at(999)), None);
        let probe = breaker.admits(at(1_000)).expect("a second is over");
        assert!(breaker.admits(at(1_000)).is_none() && breaker.admits(at(1_999)).is_none());
        breaker.note(probe, false, at(1_500));
        assert!(breaker.is_open());
        let probe = breaker.admits(at(2_000)).expect("another second is over");
        breaker.note(probe, true, at(2_100));
        assert!(!breaker.is_open());
        (0..19).for_each(|_| ask(&mut breaker, false, at(2_200)));
        assert!(!breaker.is_open(), "what was before is forgotten");
    }

    #[test]
    fn late_successes_do_not_close_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let passes: Vec<_> = (0..30).filter_map(|_| breaker.admits(now)).collect();
        passes[..20].iter().for_each(|pass| breaker.note(*pass, false, now));
        passes[20..].iter().for_each(|pass| breaker.note(*pass, true, now));
        assert!(passes.len() == 30 && breaker.is_open());
    }

    #[test]
    fn late_failures_do_not_open_it_again() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let passes: Vec<_> = (0..50).filter_map(|_| breaker.admits(now)).collect();
        passes[..20].iter().for_each(|pass| breaker.note(*pass, false, now));
        let later = now + PROBE_INTERVAL;
        let probe = breaker.admits(later).expect("a second is over");
        breaker.note(probe, true, later);
        passes[20..].iter().for_each(|pass| breaker.note(*pass, false, later));
        assert!(!breaker.is_open());
    }
}
