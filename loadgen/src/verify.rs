//! Proves, per (publisher, subscriber), that nothing is lost, doubled or out of order.
//!
//! A *stream* is one such pair. Each costs four bytes: the sequence that must come next. Only a stream with a gap has
//! an entry beside, the list of its missing ranges, so that a late event can be told from a duplicate exactly.

use std::collections::HashMap;

/// What one event is, seen from its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The next one.
    InOrder,
    /// Later than the next one: this many in between are missing so far.
    Gap(u32),
    /// One that was missing comes after newer ones: it is out of order, but not lost.
    Late,
    /// It was here before.
    Duplicate,
}

/// Counters of what was wrong; all zero is the only good result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Sequences that never came. During the run: that have not come although newer ones have.
    pub lost: u64,
    /// Events that came after a newer one of the same stream.
    pub out_of_order: u64,
    /// Events that came more than once.
    pub duplicates: u64,
    /// Payloads that are not what was sent.
    pub corrupt: u64,
}

impl Faults {
    /// Adds another thread's counters.
    pub fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.out_of_order += other.out_of_order;
        self.duplicates += other.duplicates;
        self.corrupt += other.corrupt;
    }

    /// Whether everything was right.
    pub fn is_clean(&self) -> bool {
        *self == Faults::default()
    }
}

/// The next sequence of a stream that has just begun; a run does not publish four thousand million times.
const JOINED: u32 = u32::MAX;

/// The streams of one thread.
#[derive(Debug)]
pub struct Verifier {
    next: Vec<u32>,
    /// Streams that have just begun: where their first event must be at the latest.
    joins: HashMap<usize, u32>,
    /// Missing ranges `[from, to)` of the streams that have any, ascending.
    gaps: HashMap<usize, Vec<(u32, u32)>>,
    /// What was wrong so far.
    pub faults: Faults,
}

impl Verifier {
    /// All streams begin at sequence 0.
    pub fn new(streams: usize) -> Self {
        Self {
            next: vec![0; streams],
            joins: HashMap::new(),
            gaps: HashMap::new(),
            faults: Faults::default(),
        }
    }

    /// Notes that `sequence` came on `stream`.
    #[inline]
    pub fn see(&mut self, stream: usize, sequence: u32) -> Seen {
        let next = &mut self.next[stream];
        if *next == sequence {
            *next = sequence.wrapping_add(1);
            return Seen::InOrder;
        }
        self.see_unexpected(stream, sequence)
    }

    /// The next `count` events came on `stream`, in order.
    #[inline]
    pub fn advance(&mut self, stream: usize, count: u32) {
        self.next[stream] = self.next[stream].wrapping_add(count);
    }

    /// `stream` begins anew with the event that comes first, which is `first_max` or an earlier one.
    pub fn join(&mut self, stream: usize, first_max: u32) {
        self.next[stream] = JOINED;
        self.gaps.remove(&stream);
        self.joins.insert(stream, first_max);
    }

    /// The sequence that `stream` waits for.
    pub fn position(&self, stream: usize) -> u32 {
        self.next[stream]
    }

    /// At the end: counts as lost what `stream` has not got of the `sent` events, and says how many these are.
    pub fn finish(&mut self, stream: usize, sent: u32) -> u64 {
        let tail = u64::from(sent.saturating_sub(self.next[stream]));
        self.faults.lost += tail;
        tail + self
            .gaps
            .get(&stream)
            .map_or(0, |gaps| gaps.iter().map(|(from, to)| u64::from(to - from)).sum())
    }

    #[cold]
    fn see_unexpected(&mut self, stream: usize, sequence: u32) -> Seen {
        if self.next[stream] == JOINED
            && let Some(first_max) = self.joins.remove(&stream)
        {
            self.next[stream] = sequence.min(first_max);
            return self.see(stream, sequence);
        }
        let next = self.next[stream];
        if sequence > next {
            self.gaps.entry(stream).or_default().push((next, sequence));
            self.next[stream] = sequence.wrapping_add(1);
            let missing = sequence - next;
            self.faults.lost += u64::from(missing);
            return Seen::Gap(missing);
        }
        if let Some(gaps) = self.gaps.get_mut(&stream)
            && let Some(index) = gaps.iter().position(|(from, to)| (*from..*to).contains(&sequence))
        {
            let (from, to) = gaps[index];
            match (from == sequence, to == sequence + 1) {
                (true, true) => drop(gaps.remove(index)),
                (true, false) => gaps[index].0 = sequence + 1,
                (false, true) => gaps[index].1 = sequence,
                (false, false) => {
                    gaps[index].1 = sequence;
                    gaps.insert(index + 1, (sequence + 1, to));
                }
            }
            self.faults.lost -= 1;
            self.faults.out_of_order += 1;
            return Seen::Late;
        }
        self.faults.duplicates += 1;
        Seen::Duplicate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_stream_has_no_faults() {
        let mut verifier = Verifier::new(2);
        for sequence in 0..100 {
            assert_eq!(verifier.see(0, sequence), Seen::InOrder);
            assert_eq!(verifier.see(1, sequence), Seen::InOrder);
        }
        assert_eq!(verifier.finish(0, 100), 0);
        assert_eq!(verifier.finish(1, 100), 0);
        assert!(verifier.faults.is_clean());
    }

    #[test]
    fn a_missing_event_is_lost_in_the_middle_and_at_the_end() {
        let mut verifier = Verifier::new(1);
        verifier.see(0, 0);
        assert_eq!(verifier.see(0, 3), Seen::Gap(2));
        assert_eq!(verifier.faults.lost, 2);
        assert_eq!(verifier.finish(0, 6), 4);
        assert_eq!(verifier.faults, Faults { lost: 4, ..Faults::default() });
    }

    #[test]
    fn a_late_event_is_out_of_order_but_not_lost_and_comes_only_once() {
        let mut verifier = Verifier::new(1);
        assert_eq!(verifier.see(0, 5), Seen::Gap(5));
        for sequence in [2, 0, 4, 3, 1] {
            assert_eq!(verifier.see(0, sequence), Seen::Late, "{sequence}");
            assert_eq!(verifier.see(0, sequence), Seen::Duplicate, "{sequence}");
        }
        assert_eq!(verifier.finish(0, 6), 0);
        assert_eq!(verifier.faults, Faults { out_of_order: 5, duplicates: 5, ..Faults::default() });
    }

    #[test]
    fn a_repeated_event_is_a_duplicate() {
        let mut verifier = Verifier::new(1);
        verifier.see(0, 0);
        assert_eq!(verifier.see(0, 0), Seen::Duplicate);
        assert_eq!(verifier.see(0, 1), Seen::InOrder);
        assert_eq!(verifier.faults.duplicates, 1);
    }

    #[test]
    fn who_joins_late_misses_nothing_from_then_on() {
        let mut verifier = Verifier::new(2);
        verifier.join(0, 7);
        assert_eq!(verifier.see(0, 5), Seen::InOrder, "published before the session was known to be ready");
        assert_eq!(verifier.see(0, 6), Seen::InOrder);
        verifier.join(0, 20);
        assert_eq!(verifier.see(0, 20), Seen::InOrder);
        assert!(verifier.faults.is_clean());
        verifier.join(0, 30);
        assert_eq!(verifier.see(0, 32), Seen::Gap(2));
        verifier.join(0, 40);
        assert_eq!(verifier.see(0, 40), Seen::InOrder);
        assert_eq!(verifier.see(0, 39), Seen::Duplicate, "older than what it began with");
        assert_eq!(verifier.faults, Faults { lost: 2, duplicates: 1, ..Faults::default() });
    }

    /// Against the naive truth: a set per stream.
    #[test]
    fn random_schedules_agree_with_a_set() {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200 {
            let mut verifier = Verifier::new(1);
            let mut seen = std::collections::BTreeSet::new();
            let (mut order, mut duplicates) = (0, 0);
            for _ in 0..60 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let sequence = (random % 40) as u32;
                if seen.contains(&sequence) {
                    duplicates += 1;
                } else if seen.last().is_some_and(|last| *last > sequence) {
                    order += 1;
                }
                seen.insert(sequence);
                verifier.see(0, sequence);
            }
            verifier.finish(0, 40);
            let lost = 40 - seen.len() as u64;
            assert_eq!(verifier.faults, Faults { lost, out_of_order: order, duplicates, corrupt: 0 });
        }
    }
}
