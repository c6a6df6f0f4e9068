//! The standard `process_*` metrics, from `/proc/self`. What cannot be read is left out.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::page::{Kind, Page};

/// What does not change while the process lives.
#[derive(Debug)]
pub struct Process {
    started: Duration,
    ticks_per_second: f64,
    page_bytes: f64,
}

impl Process {
    /// Call at start-up: the present moment becomes the start time.
    #[allow(
        clippy::disallowed_methods,
        reason = "a wall-clock time is what is exported; nothing waits for it"
    )]
    pub fn new() -> Self {
        Self {
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            page_bytes: rustix::param::page_size() as f64,
        }
    }

    /// Adds the metrics.
    pub fn collect(&self, page: &mut Page) {
        let mut gauge = |name: &str, help: &str, value: f64| page.add(name, Kind::Gauge, help, "", value);
        let started = self.started.as_secs_f64();
        gauge("process_start_time_seconds", "Start of the process since the Unix epoch.", started);
        if let Some(open) = open_files() {
            gauge("process_open_fds", "Open file descriptors; a connection has one.", open as f64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        // Without a limit the number is what Prometheus clients write for "infinite".
        let limit = limit.map_or(f64::INFINITY, |limit| limit as f64);
        if limit.is_finite() {
            gauge("process_max_fds", "Most file descriptors that may be open.", limit);
        }
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
            gauge(
                "process_resident_memory_bytes",
                "Memory in use (RSS).",
                stat.resident_pages * self.page_bytes,
            );
            gauge(
                "process_virtual_memory_bytes",
                "Addresses in use, most of them without memory.",
                stat.virtual_bytes,
            );
            gauge("process_threads", "Threads.", stat.threads);
            let seconds = stat.ticks / self.ticks_per_second;
            page.add("process_cpu_seconds_total", Kind::Counter, "CPU time, user and system.", "", seconds);
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

struct Stat {
    ticks: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the command in parentheses and may hold anything, parentheses too (proc(5)).
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            ticks: field(14)? + field(15)?,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Number of open descriptors, without listing them where the kernel tells it (Linux 6.2).
fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // Minus the one that lists the directory.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_is_skipped() {
        let line = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 8 18 19 4096 77 20";
        let stat = Stat::parse(line).expect("all fields are there");
        assert_eq!(
            (stat.ticks, stat.threads, stat.virtual_bytes, stat.resident_pages),
            (200.0, 8.0, 4096.0, 77.0)
        );
        assert!(Stat::parse("").is_none());
        assert!(Stat::parse("1 (x) S 1").is_none());
    }

    #[test]
    fn this_process_has_all_of_them() {
        let mut page = Page::default();
        Process::new().collect(&mut page);
        let text = page.finish();
        for name in
            ["start_time_seconds", "open_fds", "resident_memory_bytes", "threads", "cpu_seconds_total"]
        {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name} in {text}");
        }
    }
}
