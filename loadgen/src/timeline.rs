//! The measured part second by second: what the threads count, and what the coordinator reads of the server beside it.

use serde::Serialize;

use crate::latency::Latencies;
use crate::meter::Slice;
use crate::server_stats::{Sample, ServerCost};

/// One second of the measured part.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Second {
    pub second: u64,
    pub deliveries: u64,
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub max_ns: f64,
    /// Of each operation that the scenario counts beside the deliveries.
    pub operations: Vec<OperationSecond>,
    /// CPUs that were busy with the server; with `--server-pid` only, like its resident memory at the second's end.
    pub server_cpus: Option<f64>,
    pub server_rss_bytes: Option<u64>,
    /// Share of the second in which the generator's busiest thread did not wait.
    pub generator_busy: f64,
}

/// One operation in one second.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct OperationSecond {
    pub name: &'static str,
    pub count: u64,
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub max_ns: f64,
}

/// A second, as its parts come in from the threads.
#[derive(Debug)]
pub struct Slot {
    /// Its number.
    pub second: u64,
    /// What all threads so far have counted in it.
    pub slice: Slice,
    threads: usize,
}

/// What is read at the end of a second.
#[derive(Clone, Debug)]
struct Reading {
    at_ns: u64,
    server: Option<Sample>,
    /// Of each thread, since the begin of the measured part.
    busy_ns: Vec<u64>,
}

/// All seconds so far.
#[derive(Debug, Default)]
pub struct Timeline {
    slots: Vec<Slot>,
    readings: Vec<Reading>,
}

impl Timeline {
    /// One thread's part of a second. Returns the second if all of `threads` have given theirs.
    pub fn add(&mut self, second: u64, part: Slice, threads: usize) -> Option<&Slot> {
        let Some(index) = self.slots.iter().position(|slot| slot.second == second) else {
            self.slots.push(Slot { second, slice: part, threads: 1 });
            return self.slots.last().filter(|_| threads == 1);
        };
        let slot = &mut self.slots[index];
        slot.slice.latencies.add(&part.latencies);
        slot.slice.deliveries += part.deliveries;
        slot.slice.operations.iter_mut().zip(&part.operations).for_each(|(sum, part)| sum.add(part));
        slot.threads += 1;
        (slot.threads == threads).then_some(&self.slots[index])
    }

    /// The begin of the measured part, and then the end of each second.
    pub fn read(&mut self, at_ns: u64, server: Option<Sample>, busy_ns: Vec<u64>) {
        self.readings.push(Reading { at_ns, server, busy_ns });
    }

    /// Whole seconds of which the end was read.
    pub fn seconds_read(&self) -> u64 {
        self.readings.len().saturating_sub(1) as u64
    }

    /// Everything, in order. `names` are those of the operations.
    pub fn finish(mut self, names: &[&'static str]) -> Vec<Second> {
        self.slots.sort_unstable_by_key(|slot| slot.second);
        self.slots.iter().map(|slot| self.second(slot, names)).collect()
    }

    fn second(&self, slot: &Slot, names: &[&'static str]) -> Second {
        let Slice { latencies, deliveries, operations } = &slot.slice;
        let operation = |(name, latencies): (&&'static str, &Latencies)| OperationSecond {
            name,
            count: latencies.count(),
            p50_ns: latencies.quantile(0.5),
            p99_ns: latencies.quantile(0.99),
            max_ns: latencies.quantile(1.0),
        };
        let mut second = Second {
            second: slot.second,
            deliveries: *deliveries,
            p50_ns: latencies.quantile(0.5),
            p99_ns: latencies.quantile(0.99),
            max_ns: latencies.quantile(1.0),
            operations: names.iter().zip(operations).map(operation).collect(),
            server_cpus: None,
            server_rss_bytes: None,
            generator_busy: 0.0,
        };
        if let Some([from, to]) = self.readings.get(slot.second as usize..slot.second as usize + 2) {
            let length_ns = to.at_ns.saturating_sub(from.at_ns).max(1);
            if let (Some(before), Some(after)) = (&from.server, &to.server) {
                second.server_cpus = Some(ServerCost::between(before, after, length_ns, 0).cpus);
                second.server_rss_bytes = Some(after.rss_bytes);
            }
            let busy_ns =
                to.busy_ns.iter().zip(&from.busy_ns).map(|(to, from)| to.saturating_sub(*from)).max();
            second.generator_busy = (busy_ns.unwrap_or(0) as f64 / length_ns as f64).min(1.0);
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_the_parts_of_all_threads_and_what_the_server_cost_in_it() {
        let mut timeline = Timeline::default();
        let part = |deliveries| {
            let mut latencies = Latencies::new();
            latencies.record(5_000_000);
            Slice { latencies: latencies.clone(), deliveries, operations: vec![latencies] }
        };
        assert!(timeline.add(1, part(7), 1).is_some());
        assert!(timeline.add(0, part(3), 2).is_none());
        assert_eq!(timeline.add(0, part(4), 2).map(|slot| slot.slice.deliveries), Some(7));
        let server = |run_ns, rss_bytes| Some(Sample { run_ns, rss_bytes, ..Sample::default() });
        timeline.read(0, server(1, 10), vec![0, 0]);
        timeline.read(1_000_000_000, server(500_000_001, 20), vec![250_000_000, 100_000_000]);
        assert_eq!(timeline.seconds_read(), 1);
        let seconds = timeline.finish(&["call"]);
        assert_eq!((seconds[0].operations[0].name, seconds[0].operations[0].count), ("call", 2));
        assert_eq!(seconds.iter().map(|second| second.second).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((seconds[0].server_cpus, seconds[0].server_rss_bytes), (Some(0.5), Some(20)));
        assert_eq!((seconds[0].generator_busy, seconds[0].deliveries), (0.25, 7));
        assert_eq!((seconds[1].server_cpus, seconds[1].generator_busy), (None, 0.0), "its end was not read");
    }
}
