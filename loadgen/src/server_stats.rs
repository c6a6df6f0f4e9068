//! What the server process costs, read from `/proc/PID`: CPU time, memory, context switches.

use std::fs;

use serde::Serialize;

use crate::failure::Failure;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// CPU time of all threads as the scheduler counts it, nanoseconds; 0 if the kernel does not say.
    pub run_ns: u64,
    /// Time that its threads could have run and did not, because something else had their CPUs, nanoseconds.
    pub wait_ns: u64,
    /// CPU time in user mode, all threads, nanoseconds in steps of a tick (10 ms).
    pub user_ns: u64,
    /// CPU time in the kernel on its behalf, nanoseconds. On loopback this includes the receiver's share of a send.
    pub system_ns: u64,
    /// Resident memory in bytes. The kernel's socket buffers are not in it.
    pub rss_bytes: u64,
    /// Times that a thread of it went to sleep by itself.
    pub voluntary_switches: u64,
    /// Times that a thread of it was pushed off a CPU.
    pub involuntary_switches: u64,
    /// Threads now.
    pub threads: u64,
}

/// A process that is watched.
#[derive(Clone, Debug)]
pub struct Server {
    pid: u32,
    tick_ns: u64,
    page_bytes: u64,
    /// Its command line, for the report.
    pub command_line: Vec<String>,
}

impl Server {
    /// Begins to watch `pid`.
    pub fn watch(pid: u32) -> Result<Self, Failure> {
        let server = Self {
            pid,
            tick_ns: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1),
            page_bytes: rustix::param::page_size() as u64,
            command_line: fs::read(format!("/proc/{pid}/cmdline"))
                .unwrap_or_default()
                .split(|byte| *byte == 0)
                .filter(|part| !part.is_empty())
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect(),
        };
        match server.sample() {
            Some(_) => Ok(server),
            None => Err(Failure::usage(format!(
                "--server-pid {pid}: there is no such process on this machine (or /proc is hidden); \
                 give the pid of the server's own process, for example with --server-pid $(pidof fanwire)"
            ))),
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Reads now; `None` if the process is gone.
    pub fn sample(&self) -> Option<Sample> {
        let pid = self.pid;
        let mut sample = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, self.tick_ns)?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        sample.rss_bytes = statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * self.page_bytes;
        // The process's own status file has the first thread's switches only.
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let (voluntary, involuntary) = parse_switches(&status);
            sample.voluntary_switches += voluntary;
            sample.involuntary_switches += involuntary;
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let mut fields = schedstat.split_whitespace().map(|field| field.parse().unwrap_or(0));
            sample.run_ns += fields.next().unwrap_or(0);
            sample.wait_ns += fields.next().unwrap_or(0);
        }
        Some(sample)
    }
}

/// The cost of an interval.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    /// Length of the interval in seconds.
    pub interval_s: f64,
    /// CPUs that were busy with the server on average.
    pub cpus: f64,
    /// CPU nanoseconds per delivery, if there were deliveries.
    pub cpu_ns_per_delivery: Option<f64>,
    /// Its user part.
    pub user_ns_per_delivery: Option<f64>,
    /// Nanoseconds per second that its threads waited for a CPU which something else had. A thread that keeps its CPU busy
    /// waits for its own siblings too.
    pub wait_ns_per_second: f64,
    /// CPU nanoseconds per second of the interval.
    pub cpu_ns_per_second: f64,
    /// Voluntary context switches per second.
    pub voluntary_switches_per_second: f64,
    /// Involuntary context switches per second.
    pub involuntary_switches_per_second: f64,
    /// Resident bytes at the end.
    pub rss_bytes: u64,
    /// Threads at the end.
    pub threads: u64,
}

impl ServerCost {
    /// What happened between two readings in which `deliveries` were made.
    pub fn between(before: &Sample, after: &Sample, interval_ns: u64, deliveries: u64) -> Self {
        let user = after.user_ns.saturating_sub(before.user_ns) as f64;
        let ticks = user + after.system_ns.saturating_sub(before.system_ns) as f64;
        // The scheduler's count is exact, but a thread that has ended takes its part of it away.
        let is_exact = before.threads == after.threads && before.run_ns > 0 && after.run_ns >= before.run_ns;
        let total = if is_exact { (after.run_ns - before.run_ns) as f64 } else { ticks };
        // Only the proportion of user time comes from the ticks.
        let user = if ticks > 0.0 { total * user / ticks } else { 0.0 };
        let seconds = (interval_ns as f64 / 1e9).max(1e-9);
        let per_delivery = |nanos: f64| (deliveries > 0).then(|| nanos / deliveries as f64);
        let per_second = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
        Self {
            interval_s: seconds,
            cpus: total / 1e9 / seconds,
            cpu_ns_per_delivery: per_delivery(total),
            user_ns_per_delivery: per_delivery(user),
            wait_ns_per_second: per_second(after.wait_ns, before.wait_ns),
            cpu_ns_per_second: total / seconds,
            voluntary_switches_per_second: per_second(after.voluntary_switches, before.voluntary_switches),
            involuntary_switches_per_second: per_second(
                after.involuntary_switches,
                before.involuntary_switches,
            ),
            rss_bytes: after.rss_bytes,
            threads: after.threads,
        }
    }
}

fn parse_stat(stat: &str, tick_ns: u64) -> Option<Sample> {
    // The name in brackets may hold blanks and brackets itself: count from the last one (proc(5)).
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Sample {
        user_ns: number(14)? * tick_ns,
        system_ns: number(15)? * tick_ns,
        threads: number(20)?,
        ..Sample::default()
    })
}

fn parse_switches(status: &str) -> (u64, u64) {
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line[name.len()..].trim().parse::<u64>().ok()
    };
    (field("voluntary_ctxt_switches:").unwrap_or(0), field("nonvoluntary_ctxt_switches:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194560 100 0 0 0 150 250 0 0 20 0 7 0 100 0 0";
        let sample = parse_stat(stat, 10_000_000).unwrap();
        assert_eq!((sample.user_ns, sample.system_ns, sample.threads), (1_500_000_000, 2_500_000_000, 7));
        assert_eq!(parse_stat("nonsense", 1), None);
    }

    #[test]
    fn this_process_can_be_watched_and_a_missing_one_is_named() {
        let server = Server::watch(std::process::id()).unwrap();
        let sample = server.sample().unwrap();
        assert!(sample.rss_bytes > 0 && sample.threads > 0);
        assert!(Server::watch(u32::MAX - 1).unwrap_err().words.contains("--server-pid"));
    }

    #[test]
    fn cost_is_the_difference_of_two_readings() {
        let before = Sample { user_ns: 1_000, system_ns: 5_000, ..Sample::default() };
        let after =
            Sample { user_ns: 3_000, system_ns: 13_000, voluntary_switches: 20, rss_bytes: 7, ..before };
        let cost = ServerCost::between(&before, &after, 2_000_000_000, 10);
        assert_eq!(cost.cpu_ns_per_delivery, Some(1_000.0));
        assert_eq!(cost.user_ns_per_delivery, Some(200.0));
        assert_eq!(cost.voluntary_switches_per_second, 10.0);
        assert_eq!(ServerCost::between(&before, &after, 1, 0).cpu_ns_per_delivery, None);
        let (before, after) =
            (Sample { run_ns: 1, ..before }, Sample { run_ns: 20_001, wait_ns: 300, ..after });
        let cost = ServerCost::between(&before, &after, 2_000_000_000, 10);
        assert_eq!((cost.cpu_ns_per_delivery, cost.user_ns_per_delivery), (Some(2_000.0), Some(400.0)));
        assert_eq!(cost.wait_ns_per_second, 150.0);
    }
}
