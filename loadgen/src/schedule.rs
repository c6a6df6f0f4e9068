//! Open loop: when each message is *meant* to be sent, whatever the server does.
//!
//! The sum of all publishers keeps one even rate: message `n` of the run belongs to publisher `n % publishers` and is
//! due at `start + n / rate`. Each thread walks only its own publishers, in the order in which they are due.

/// The plan of one thread's publishers.
#[derive(Debug)]
pub struct Schedule {
    start_ns: u64,
    interval_ns: f64,
    publishers: u64,
    /// Global numbers of this thread's publishers, ascending.
    own: Vec<u32>,
    round: u64,
    cursor: usize,
}

impl Schedule {
    /// `rate` messages per second in total over `publishers` publishers, of which this thread has `own`.
    pub fn new(start_ns: u64, rate: f64, publishers: usize, own: Vec<u32>) -> Self {
        debug_assert!(own.is_sorted());
        Self { start_ns, interval_ns: 1e9 / rate, publishers: publishers as u64, own, round: 0, cursor: 0 }
    }

    /// When message `sequence` of publisher `publisher` is meant to be sent.
    pub fn intended_ns(&self, publisher: u32, sequence: u32) -> u64 {
        let number = u64::from(sequence) * self.publishers + u64::from(publisher);
        self.start_ns + (number as f64 * self.interval_ns) as u64
    }

    /// When the next message of this thread is due; `None` if it has no publisher.
    pub fn next_due_ns(&self) -> Option<u64> {
        let publisher = *self.own.get(self.cursor)?;
        let number = self.round * self.publishers + u64::from(publisher);
        Some(self.start_ns + (number as f64 * self.interval_ns) as u64)
    }

    /// Takes one due message: the index (among this thread's own) of its publisher.
    pub fn take_due(&mut self, now_ns: u64) -> Option<usize> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let index = self.cursor;
        self.cursor += 1;
        if self.cursor == self.own.len() {
            self.cursor = 0;
            self.round += 1;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_together_send_every_message_once_and_in_time() {
        let start = 1_000;
        let mut due = Vec::new();
        for own in [vec![0, 2], vec![1]] {
            let mut schedule = Schedule::new(start, 1_000.0, 3, own.clone());
            let mut sent = vec![0u32; own.len()];
            let end = start + 10_000_000 - 1;
            while let Some(index) = schedule.take_due(end) {
                due.push(schedule.intended_ns(own[index], sent[index]));
                sent[index] += 1;
            }
            assert!(schedule.next_due_ns().unwrap() > end);
        }
        due.sort_unstable();
        assert_eq!(due, (0..10).map(|n| start + n * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_thread_without_publishers_has_nothing_to_send() {
        let mut schedule = Schedule::new(0, 10.0, 4, Vec::new());
        assert_eq!(schedule.next_due_ns(), None);
        assert_eq!(schedule.take_due(u64::MAX), None);
    }
}
