//! What one thread counts, and how the coordinator sees it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::latency::Latencies;
use crate::verify::Faults;

/// What is counted beside the deliveries.
pub mod operation {
    /// Calls.
    pub const CALL: &str = "call";
    /// Calls while there is no broadcast.
    pub const CALL_ALONE: &str = "call alone";
    /// Calls while there is one.
    pub const CALL_BESIDE: &str = "call beside";
    /// Publications from one to one while there is no broadcast.
    pub const PROBE_ALONE: &str = "probe alone";
    /// Publications from one to one while there is one.
    pub const PROBE_BESIDE: &str = "probe beside";
    /// Publications of who floods a topic with one subscriber.
    pub const FLOOD: &str = "flood";
    /// SUBSCRIBE to SUBSCRIBED.
    pub const SUBSCRIBE: &str = "subscribe";
    /// UNSUBSCRIBE to UNSUBSCRIBED.
    pub const UNSUBSCRIBE: &str = "unsubscribe";
}

/// When the load begins and which part of it is measured. Nanoseconds since the run's epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// The first message is meant to be sent now.
    pub start_ns: u64,
    /// Begin of the measured part.
    pub from_ns: u64,
    /// End of it; nothing is sent from here on.
    pub to_ns: u64,
}

impl Timing {
    /// Whether `now` is in the measured part.
    #[inline]
    pub fn is_measured(&self, now_ns: u64) -> bool {
        self.from_ns <= now_ns && now_ns < self.to_ns
    }
}

/// Operations of one kind, each with an answer.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// The part of the run in which its latencies are measured.
    pub timing: Timing,
    /// Requests sent.
    pub begun: u64,
    /// Answers that were as expected.
    pub done: u64,
    /// Answers that were an error.
    pub failed: u64,
    /// Answers that came in the measured part.
    pub measured: u64,
    /// Latencies since the last slice, and all: of the requests that were meant to be sent in the measured part.
    pub slice: Latencies,
    /// See `slice`.
    pub total: Latencies,
}

impl Operation {
    /// The answer to a request came that was meant to be sent at `intended_ns`.
    pub fn finish(&mut self, now_ns: u64, intended_ns: u64) {
        self.done += 1;
        self.measured += u64::from(self.timing.is_measured(now_ns));
        if self.timing.is_measured(intended_ns) {
            self.slice.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Ends a slice of the time line.
    fn take_slice(&mut self) -> Latencies {
        let slice = self.slice.clone();
        self.total.add(&slice);
        self.slice.clear();
        slice
    }
}

/// Plain counters of one thread; nobody else touches them.
#[derive(Debug, Default)]
pub struct Meter {
    /// Set when the load begins.
    pub timing: Timing,
    /// Latencies since the last slice.
    pub slice: Latencies,
    /// Deliveries since the last slice, measured part only.
    pub slice_deliveries: u64,
    /// Latencies of all messages that were meant to be sent in the measured part.
    pub total: Latencies,
    /// How late messages of the open loop left, measured part only.
    pub lag: Latencies,
    /// Messages sent (publications or calls).
    pub sent: u64,
    /// Of these, in the measured part.
    pub sent_measured: u64,
    /// Messages of the open loop that could not be sent until its end, because the server did not read them.
    pub unsent: u64,
    /// Deliveries (or answers) that everything sent must cause.
    pub expected: u64,
    /// What is counted beside the deliveries, in the order of the plan.
    pub operations: Vec<Operation>,
    /// Deliveries that are accounted for: came, or were skipped by a newer one (fan-out); answered (calls).
    pub advanced: u64,
    /// Verified deliveries (events or results).
    pub delivered: u64,
    /// Of these, in the measured part.
    pub delivered_measured: u64,
    /// Receives of verified subscribers and callers that gave bytes, in the measured part.
    pub receives_measured: u64,
    /// Bytes that came with them.
    pub bytes_measured: u64,
    /// Acknowledgements of publications.
    pub acknowledged: u64,
    /// Events of another run on the same topic.
    pub foreign: u64,
    /// Results that overtook an earlier one of their caller; allowed when callees differ, hence no fault.
    pub results_reordered: u64,
    /// Events that slow subscribers have read.
    pub slow_delivered: u64,
    /// Stuck and slow subscribers that the server has cut.
    pub unverified_closed: u64,
    /// Logins of visitors that succeeded, and their latencies from the timetable: those that were meant to begin in the
    /// measured part.
    pub logins: u64,
    /// See `logins`.
    pub login_latencies: Latencies,
    /// Logins of visitors that failed, by their words.
    pub failed_logins: Words,
    /// Events that visitors got.
    pub visitor_delivered: u64,
    /// Of these, in the measured part.
    pub visitor_measured: u64,
    /// Visits that were due and found no free place until the end.
    pub unbegun: u64,
    /// ERROR answers, by URI.
    pub errors: Words,
    /// Connections that the server closed, by its words.
    pub closed: Words,
    /// Time in turns of the loop, without waiting, in the measured part.
    pub busy_ns: u64,
    /// Largest time of one turn in the measured part.
    pub turn_ns_max: u64,
}

impl Meter {
    /// One verified delivery came at `now_ns` and was meant to be sent at `intended_ns`.
    #[inline]
    pub fn delivery(&mut self, now_ns: u64, intended_ns: u64) {
        self.delivered += 1;
        if self.timing.is_measured(now_ns) {
            self.delivered_measured += 1;
            self.slice_deliveries += 1;
        }
        // By the intended time, so that what is late in an overloaded open loop is in, however late it comes.
        if self.timing.is_measured(intended_ns) {
            self.slice.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Several were delivered at `now_ns`.
    #[inline]
    pub fn deliveries(&mut self, now_ns: u64, intended_ns: &[u64]) {
        self.delivered += intended_ns.len() as u64;
        if self.timing.is_measured(now_ns) {
            self.delivered_measured += intended_ns.len() as u64;
            self.slice_deliveries += intended_ns.len() as u64;
        }
        for intended_ns in intended_ns {
            if self.timing.is_measured(*intended_ns) {
                self.slice.record(now_ns.saturating_sub(*intended_ns));
            }
        }
    }

    /// One message was sent at `now_ns` that was meant to leave at `intended_ns`.
    #[inline]
    pub fn message_sent(&mut self, now_ns: u64, intended_ns: u64) {
        self.sent += 1;
        if self.timing.is_measured(intended_ns) {
            self.sent_measured += 1;
            self.lag.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// An operation was begun at `now_ns` that was meant to begin at `intended_ns`.
    pub fn operation_begun(&mut self, index: usize, now_ns: u64, intended_ns: u64) {
        let operation = &mut self.operations[index];
        operation.begun += 1;
        if operation.timing.is_measured(intended_ns) {
            self.lag.record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Ends a slice of the time line.
    pub fn take_slice(&mut self) -> Slice {
        let latencies = self.slice.clone();
        self.total.add(&latencies);
        self.slice.clear();
        let operations = self.operations.iter_mut().map(Operation::take_slice).collect();
        Slice { latencies, operations, deliveries: std::mem::take(&mut self.slice_deliveries) }
    }

    /// Everything that must come, and of that what has come or failed.
    fn progress(&self) -> (u64, u64) {
        let begun: u64 = self.operations.iter().map(|operation| operation.begun).sum();
        let ended: u64 = self.operations.iter().map(|operation| operation.done + operation.failed).sum();
        (self.expected + begun, self.advanced + ended)
    }
}

/// What one thread counted in a second.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Of the deliveries.
    pub latencies: Latencies,
    /// How many deliveries.
    pub deliveries: u64,
    /// By operation.
    pub operations: Vec<Latencies>,
}

/// The words for a login that the end of the run cut short.
pub const UNDER_WAY: &str = "no session before the end of the run";

/// Occurrences by their words; a bounded number of different ones is kept apart.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// All occurrences.
    pub count: u64,
    /// By words; what does not fit is in `count` only.
    pub by_words: BTreeMap<String, u64>,
}

/// Different words that are kept.
const WORDS_MAX: usize = 8;

impl Words {
    /// One more.
    pub fn note(&mut self, words: &str) {
        self.add_many(words, 1);
        self.count += 1;
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Words) {
        self.count += other.count;
        for (words, count) in &other.by_words {
            self.add_many(words, *count);
        }
    }

    fn add_many(&mut self, words: &str, count: u64) {
        if let Some(known) = self.by_words.get_mut(words) {
            *known += count;
        } else if self.by_words.len() < WORDS_MAX {
            self.by_words.insert(words.to_owned(), count);
        }
    }
}

/// What the coordinator may see of a thread at any time. Written by the thread once per turn, read for the progress line.
#[derive(Debug, Default)]
#[repr(align(128))]
#[allow(missing_docs, reason = "as in Meter and Faults")]
pub struct Gauges {
    pub ready: AtomicU64,
    pub handshaking: AtomicU64,
    pub sent: AtomicU64,
    /// Everything that must come, and of that what has come or failed; operations are in both.
    pub expected: AtomicU64,
    pub advanced: AtomicU64,
    pub delivered: AtomicU64,
    pub closed: AtomicU64,
    pub errors: AtomicU64,
    pub lost: AtomicU64,
    pub out_of_order: AtomicU64,
    pub duplicates: AtomicU64,
    pub corrupt: AtomicU64,
    pub busy_ns: AtomicU64,
    /// The phase that the thread has seen.
    pub phase: AtomicU8,
}

impl Gauges {
    /// Shows what `meter` and `faults` have now. Relaxed: figures for people, no order between them is needed.
    pub fn show(&self, meter: &Meter, faults: &Faults) {
        let (expected, advanced) = meter.progress();
        for (gauge, value) in [
            (&self.sent, meter.sent),
            (&self.expected, expected),
            (&self.advanced, advanced),
            (&self.delivered, meter.delivered),
            (&self.closed, meter.closed.count),
            (&self.errors, meter.errors.count),
            (&self.lost, faults.lost),
            (&self.out_of_order, faults.out_of_order),
            (&self.duplicates, faults.duplicates),
            (&self.corrupt, faults.corrupt),
        ] {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    /// Sum of one gauge over all threads.
    pub fn sum(all: &[Gauges], which: impl Fn(&Gauges) -> &AtomicU64) -> u64 {
        all.iter().map(|gauges| which(gauges).load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_meant_for_the_measured_part_is_in_the_latencies() {
        let mut meter = Meter {
            timing: Timing { start_ns: 0, from_ns: 1_000_000, to_ns: 2_000_000 },
            ..Meter::default()
        };
        meter.delivery(1_100_000, 900_000); // sent in the warm-up
        meter.delivery(1_200_000, 1_100_000);
        meter.delivery(9_000_000, 1_900_000); // late, but it counts
        let slice = meter.take_slice();
        assert_eq!((slice.latencies.count(), slice.deliveries), (2, 2));
        assert_eq!((meter.delivered, meter.delivered_measured), (3, 2));
        assert_eq!(meter.total.count(), 2);
        assert_eq!(meter.take_slice().deliveries, 0);
    }

    #[test]
    fn operations_are_in_the_progress_and_have_latencies_of_their_own() {
        let timing = Timing { start_ns: 0, from_ns: 100, to_ns: 200 };
        let operations = vec![Operation { timing, ..Operation::default() }];
        let mut meter = Meter { operations, ..Meter::default() };
        meter.operation_begun(0, 50, 50);
        meter.operation_begun(0, 150, 140);
        meter.operations[0].finish(5_000, 140);
        meter.operations[0].failed += 1;
        assert_eq!((meter.progress(), meter.lag.count()), ((2, 2), 1));
        assert_eq!(meter.take_slice().operations[0].count(), 1);
        assert_eq!((meter.operations[0].total.count(), meter.operations[0].measured), (1, 0));
    }

    #[test]
    fn words_are_counted_and_bounded() {
        let mut words = Words::default();
        for n in 0..20 {
            words.note(&format!("reason {n}"));
            words.note("the same");
        }
        assert_eq!(words.count, 40);
        assert!(words.by_words.len() <= WORDS_MAX);
        assert_eq!(words.by_words["the same"], 20);
    }
}
