//! What hooks have done, for the metrics page.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fanwire_core::hooks::HookEvent;

use super::reply::{Failure, Reply};
use crate::page::{Kind, Page, label, labels};

/// What became of a question. Each is counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    Denied,
    /// An equal question was being asked.
    Coalesced,
    /// The answer to an equal one holds still.
    Cached,
    Timeout,
    Unreachable,
    Redirect,
    Status,
    TooLarge,
    Invalid,
    BreakerOpen,
    /// No room in the queue, or too long in it.
    Busy,
    /// Who asked has gone.
    Abandoned,
    /// What the client says has no form in which the hook could be asked.
    Untranslatable,
}

impl Outcome {
    const ALL: [Self; 14] = [
        Self::Allowed,
        Self::Denied,
        Self::Coalesced,
        Self::Cached,
        Self::Timeout,
        Self::Unreachable,
        Self::Redirect,
        Self::Status,
        Self::TooLarge,
        Self::Invalid,
        Self::BreakerOpen,
        Self::Busy,
        Self::Abandoned,
        Self::Untranslatable,
    ];

    /// Of a request.
    pub(super) fn of(reply: &Result<Reply, Failure>) -> Self {
        match reply {
            Ok(reply) if reply.is_allowed() => Self::Allowed,
            Ok(_) => Self::Denied,
            Err(Failure::Timeout | Failure::NotCalled) => Self::Timeout,
            Err(Failure::Unreachable(_)) => Self::Unreachable,
            Err(Failure::Redirect(_)) => Self::Redirect,
            Err(Failure::Status(_)) => Self::Status,
            Err(Failure::TooLarge) => Self::TooLarge,
            Err(Failure::Callee(_)) => Self::Status,
            Err(Failure::Invalid(_) | Failure::Panicked) => Self::Invalid,
            Err(Failure::BreakerOpen) => Self::BreakerOpen,
            Err(Failure::Untranslatable(_)) => Self::Untranslatable,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Coalesced => "coalesced",
            Self::Cached => "cached",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::BreakerOpen => "breaker_open",
            Self::Busy => "busy",
            Self::Abandoned => "abandoned",
            Self::Untranslatable => "untranslatable",
        }
    }
}

/// Upper bounds of the histogram, in milliseconds.
const BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 250, 1_000, 2_500];

/// Of one hook; counted by its thread and by shards whose questions find no room.
#[derive(Debug)]
pub struct HookFigures {
    /// Those that it is asked about.
    events: Vec<HookEvent>,
    questions: [[AtomicU64; Outcome::ALL.len()]; HookEvent::ALL.len()],
    times: [AtomicU64; BOUNDS_MS.len() + 1],
    nanoseconds: AtomicU64,
    in_flight: AtomicU64,
    is_open: AtomicBool,
}

impl HookFigures {
    /// Of a hook that is asked about these.
    pub(super) fn new(events: &[HookEvent]) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            events: HookEvent::ALL.into_iter().filter(|event| events.contains(event)).collect(),
            questions: std::array::from_fn(|_| std::array::from_fn(|_| zero())),
            times: std::array::from_fn(|_| zero()),
            nanoseconds: zero(),
            in_flight: zero(),
            is_open: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self, event: HookEvent, outcome: Outcome) {
        add(&self.questions[event as usize][outcome as usize], 1);
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        add(&self.in_flight, 1);
    }

    /// It has ended.
    pub(super) fn end(&self, took: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let place = BOUNDS_MS.iter().position(|bound| took <= Duration::from_millis(*bound));
        add(&self.times[place.unwrap_or(BOUNDS_MS.len())], 1);
        add(&self.nanoseconds, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Adds the metrics of the hook of this name.
    pub(crate) fn collect(&self, page: &mut Page, hook: &str) {
        let hook = label("hook", hook);
        let help = "Questions to a hook, by what it was asked about and what became of them.";
        for &event in &self.events {
            let of_event = labels(&hook, &label("event", event.name()));
            for outcome in Outcome::ALL {
                let count = read(&self.questions[event as usize][outcome as usize]);
                let labels = labels(&of_event, &label("result", outcome.name()));
                page.add("fanwire_hook_requests_total", Kind::Counter, help, &labels, count);
            }
        }
        let help = "Requests to a hook by duration, those included that ran out of time.";
        let bounds = BOUNDS_MS.map(|bound| bound as f64 / 1e3);
        let counts: Vec<u64> = self.times.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = read(&self.nanoseconds) / 1e9;
        page.histogram("fanwire_hook_duration_seconds", help, &hook, &bounds, &counts, sum);
        let help = "Requests to a hook that wait for their reply.";
        page.add("fanwire_hook_in_flight", Kind::Gauge, help, &hook, read(&self.in_flight));
        let help = "1 while a hook is tried once a second only, because it failed.";
        let is_open = f64::from(u8::from(self.is_open.load(Ordering::Relaxed)));
        page.add("fanwire_hook_breaker_open", Kind::Gauge, help, &hook, is_open);
    }
}

fn read(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_events_have_their_places() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
        for (place, event) in HookEvent::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, place);
        }
    }

    #[test]
    fn the_page_shows_what_was_counted() {
        let figures = HookFigures::new(&[HookEvent::Publish]);
        figures.count(HookEvent::Publish, Outcome::TooLarge);
        figures.begin();
        figures.begin();
        figures.end(Duration::from_millis(7));
        figures.set_open(true);
        let mut page = Page::default();
        figures.collect(&mut page, "back\"end");
        let page = page.finish();
        for line in [
            "fanwire_hook_requests_total{hook=\"back\\\"end\",event=\"publish\",result=\"too_large\"} 1\n",
            "fanwire_hook_duration_seconds_bucket{hook=\"back\\\"end\",le=\"0.005\"} 0\n",
            "fanwire_hook_duration_seconds_bucket{hook=\"back\\\"end\",le=\"0.01\"} 1\n",
            "fanwire_hook_in_flight{hook=\"back\\\"end\"} 1\n",
            "fanwire_hook_breaker_open{hook=\"back\\\"end\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
        assert!(!page.contains("event=\"connect\""), "it is not asked about that: {page}");
    }
}
