//! How a measured process stands to the other processes of the machine.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lets a process, with all its threads, go before every process of usual priority (SCHED_FIFO), so that its latencies are
/// its own. Linux divides a CPU in slices of some 3 ms: who waits for one that another process has is late by that much,
/// and a hundredth of such waits is the 99th percentile.
///
/// Not for what keeps a CPU busy all the time: others get their 50 ms of each second then in one piece.
///
/// # Errors
///
/// If this user may not: it takes root, CAP_SYS_NICE or an RLIMIT_RTPRIO above 0.
pub fn real_time(pid: u32) -> Result<()> {
    let output = Command::new("chrt")
        .args(["--all-tasks", "--fifo", "--pid", "1", &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot run chrt (of util-linux)")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
