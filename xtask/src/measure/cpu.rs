//! CPU time of a process, as the scheduler counts it.

use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds that all threads of the process have run. Threads that have ended are not in it.
pub fn time_ns(pid: u32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("the process has ended")?;
    let spent = |task: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Ok(tasks.filter_map(spent).sum())
}

#[cfg(test)]
mod tests {
    #[test]
    fn work_takes_time() {
        let own = std::process::id();
        let before = super::time_ns(own).unwrap();
        let mut sum = 0u64;
        while super::time_ns(own).unwrap() <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(super::time_ns(u32::MAX - 1).is_err());
    }
}
