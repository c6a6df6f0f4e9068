//! Closed loop over several threads: how many messages each publisher may have sent by now.
//!
//! ```text
//! subscriber threads ── advance(publisher) ──▶ progress ──▶ limit(publisher) ◀── publisher's thread
//!                     └ the publisher waits and the limit has passed it? ring its thread
//! ```
//!
//! A subscriber's *position* is the sequence that it waits for. By [`WindowRule::Average`] a publisher may be `window`
//! ahead of the mean of all positions, by [`WindowRule::Slowest`] ahead of the smallest. Positions, not counts of
//! events: a lost event does not close the window for ever.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::args::WindowRule;

/// One publisher's window. Aligned so that publishers of different threads do not share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Flow {
    /// Sum of all verified subscribers' positions (used by the average rule).
    progress: AtomicU64,
    /// What the publisher has sent, as it went to wait.
    sent: AtomicU64,
    waiting: AtomicBool,
    owner: usize,
    /// Verified subscribers of its topic.
    subscribers: u64,
}

/// All windows of a run.
#[derive(Debug)]
pub struct Flows {
    rule: WindowRule,
    window: u64,
    threads: usize,
    flows: Vec<Flow>,
    /// Smallest position per publisher and thread (used by the slowest rule).
    floors: Vec<AtomicU64>,
}

impl Flows {
    /// `owners` has each publisher's thread; `subscribers` says how many verified subscribers a publisher has on a thread.
    pub fn new(
        rule: WindowRule,
        window: usize,
        owners: &[usize],
        threads: usize,
        subscribers: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let flow = |(publisher, owner): (usize, &usize)| Flow {
            progress: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            owner: *owner,
            subscribers: (0..threads).map(|thread| subscribers(publisher, thread) as u64).sum(),
        };
        let floor = |publisher, thread| match subscribers(publisher, thread) {
            0 => AtomicU64::new(u64::MAX),
            _ => AtomicU64::new(0),
        };
        let floors = match rule {
            WindowRule::Average => Vec::new(),
            WindowRule::Slowest => (0..owners.len())
                .flat_map(|publisher| (0..threads).map(move |thread| (publisher, thread)))
                .map(|(publisher, thread)| floor(publisher, thread))
                .collect(),
        };
        let flows = owners.iter().enumerate().map(flow).collect();
        Self { rule, window: window as u64, threads, flows, floors }
    }

    /// The rule of this run.
    pub fn rule(&self) -> WindowRule {
        self.rule
    }

    /// Messages that `publisher` may have sent in total by now.
    pub fn limit(&self, publisher: usize) -> u64 {
        match self.rule {
            // In flight is sent - mean, and that never exceeds the window.
            WindowRule::Average => {
                let Flow { progress, subscribers, .. } = &self.flows[publisher];
                self.window + progress.load(Ordering::SeqCst) / (*subscribers).max(1)
            }
            WindowRule::Slowest => {
                let floors = &self.floors[publisher * self.threads..][..self.threads];
                let floor = floors.iter().map(|floor| floor.load(Ordering::SeqCst)).min().unwrap_or(0);
                self.window.saturating_add(floor)
            }
        }
    }

    /// The publisher has sent `sent` messages and wants to be rung when it may send more. False: it may already.
    pub fn wait(&self, publisher: usize, sent: u64) -> bool {
        let flow = &self.flows[publisher];
        flow.sent.store(sent, Ordering::SeqCst);
        // SeqCst, and the limit is read again after the store: either we see the last advance, or `advance` sees us.
        flow.waiting.store(true, Ordering::SeqCst);
        self.limit(publisher) <= sent
    }

    /// Subscribers of `thread` have come `steps` further in total, the slowest of them to `floor`. Returns the thread to
    /// ring, if the publisher waits for this.
    pub fn advance(&self, publisher: usize, thread: usize, steps: u64, floor: u64) -> Option<usize> {
        let flow = &self.flows[publisher];
        match self.rule {
            WindowRule::Average => drop(flow.progress.fetch_add(steps, Ordering::SeqCst)),
            WindowRule::Slowest => {
                self.floors[publisher * self.threads + thread].store(floor, Ordering::SeqCst)
            }
        }
        if !flow.waiting.load(Ordering::SeqCst) || self.limit(publisher) <= flow.sent.load(Ordering::SeqCst) {
            return None;
        }
        flow.waiting.swap(false, Ordering::SeqCst).then_some(flow.owner)
    }
}

/// The smallest position of one thread's subscribers, kept without looking at all of them: a count per sequence of how
/// many are past it. A window bounds how far positions lie apart, so a ring of counts is enough.
#[derive(Debug)]
pub struct Floor {
    passed: Vec<u32>,
    floor: u64,
    subscribers: u32,
}

impl Floor {
    /// For `subscribers` of this thread and windows of at most `window`.
    pub fn new(subscribers: usize, window: usize) -> Self {
        Self { passed: vec![0; (window + 1).next_power_of_two()], floor: 0, subscribers: subscribers as u32 }
    }

    /// One subscriber has passed `sequence`.
    pub fn pass(&mut self, sequence: u32) {
        let mask = self.passed.len() - 1;
        self.passed[sequence as usize & mask] += 1;
        while self.passed[self.floor as usize & mask] == self.subscribers {
            self.passed[self.floor as usize & mask] = 0;
            self.floor += 1;
        }
    }

    /// The smallest position.
    pub fn get(&self) -> u64 {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_window_opens_with_the_mean_position() {
        let flows = Flows::new(WindowRule::Average, 2, &[0], 2, |_, _| 2);
        assert_eq!(flows.limit(0), 2);
        flows.advance(0, 0, 3, 0);
        assert_eq!(flows.limit(0), 2, "3 of 4 have the first");
        flows.advance(0, 1, 1, 0);
        assert_eq!(flows.limit(0), 3);
    }

    #[test]
    fn slowest_window_opens_with_the_last_subscriber() {
        let flows = Flows::new(WindowRule::Slowest, 1, &[0], 3, |_, thread| usize::from(thread < 2));
        flows.advance(0, 0, 5, 5);
        assert_eq!(flows.limit(0), 1);
        flows.advance(0, 1, 1, 1);
        assert_eq!(flows.limit(0), 2);
    }

    #[test]
    fn a_waiting_publisher_is_rung_once() {
        let flows = Flows::new(WindowRule::Average, 1, &[7], 1, |_, _| 1);
        assert!(flows.wait(0, 1));
        assert_eq!(flows.advance(0, 0, 1, 1), Some(7));
        assert_eq!(flows.advance(0, 0, 1, 2), None);
        assert!(!flows.wait(0, 1), "it may send at once");
    }

    #[test]
    fn floor_is_the_smallest_position() {
        let mut floor = Floor::new(3, 4);
        let mut positions = [0u32; 3];
        let mut random = 12345u64;
        for _ in 0..1_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let which = (random >> 33) as usize % 3;
            let smallest = *positions.iter().min().unwrap();
            if positions[which] < smallest + 4 {
                floor.pass(positions[which]);
                positions[which] += 1;
            }
            assert_eq!(floor.get(), u64::from(*positions.iter().min().unwrap()));
        }
    }
}
