//! The machine that a figure was measured on. A figure without it cannot be compared with anything.

use std::fs;

use serde::Serialize;

/// What stands at the head of every report.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the first CPU.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Operating system and its release.
    pub kernel: String,
    /// Hardware architecture.
    pub architecture: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// How the kernel chooses the clock speed, if it says so.
    pub cpu_governor: Option<String>,
    /// The kernel's clock source: anything but a counter register makes every reading of the clock slow.
    pub clock_source: Option<String>,
    /// Version of this program.
    pub generator_version: String,
    /// How it was built; figures of a debug build mean nothing.
    pub generator_profile: &'static str,
    /// The command line, so that the run can be repeated.
    pub command_line: Vec<String>,
    /// Seconds since 1970 at the start of the run.
    pub started_unix_s: u64,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let uname = rustix::system::uname();
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            architecture: uname.machine().to_string_lossy().into_owned(),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            cpu_governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            generator_version: env!("CARGO_PKG_VERSION").to_owned(),
            generator_profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            command_line: std::env::args().collect(),
            started_unix_s: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let machine = Machine::look();
        assert!(machine.kernel.starts_with("Linux "));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0);
    }
}
