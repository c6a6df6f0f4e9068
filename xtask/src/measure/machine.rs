//! The machine that figures were measured on, in words. No date: the same machine gives the same words.

use std::fs;

/// CPU model, number of CPUs, kernel and congestion control.
pub fn describe() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cpus} CPUs, kernel {}, {}, loopback",
        cpu_model(),
        read("/proc/sys/kernel/osrelease"),
        read("/proc/sys/net/ipv4/tcp_congestion_control")
    )
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(": ")).map_or("unknown CPU", |(_, name)| name).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
