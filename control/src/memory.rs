//! The memory budget: how much the process may use, how much it does, and what the shards are told about it.
//!
//! ```text
//! /proc/self/statm ───────┐                              ┌─▶ shards: level, bytes to give up
//! memory.current, .max … ─┴▶ nearest to its limit ─ladder┼─▶ /readyz, metrics
//!                                                        └─▶ a log line at each change
//! ```
//!
//! It is read a few times a second, more often where little is left. Nothing of this is on a shard.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use fanwire_io::Level;
use fanwire_io::cgroup::{self, Group, Version};

/// Bytes in use, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// In use.
    pub used: u64,
    /// What may be used.
    pub budget: u64,
}

impl Usage {
    /// Used of ten thousand parts of the budget.
    fn parts(self) -> u64 {
        u64::try_from(u128::from(self.used) * 10_000 / u128::from(self.budget.max(1))).unwrap_or(u64::MAX)
    }
}

/// Where the numbers come from.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    /// For this process alone: what was configured, or the machine's memory.
    own: Arc<AtomicU64>,
    /// Groups that may have a limit of their own.
    groups: Vec<Group>,
    statm: PathBuf,
    page_bytes: u64,
}

impl MemoryBudget {
    /// `configured` bytes, or what the machine and the control groups give.
    pub fn new(configured: Option<u64>) -> Self {
        Self {
            own: Arc::new(AtomicU64::new(own_bytes(configured))),
            groups: cgroup::groups("memory"),
            statm: PathBuf::from("/proc/self/statm"),
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// Where another configured limit is put.
    pub fn setting(&self) -> MemorySetting {
        MemorySetting(Arc::clone(&self.own))
    }

    /// Whichever is nearest to its limit: the process's resident memory, or one of its control groups with all that is in it,
    /// such as socket buffers (version 2) and other processes.
    pub fn usage(&self) -> Usage {
        let resident = resident_pages(&self.statm).unwrap_or(0) * self.page_bytes;
        let own = Usage { used: resident, budget: self.own.load(Ordering::Relaxed) };
        let nearest = self.groups.iter().filter_map(group_usage).max_by_key(|usage| usage.parts());
        match nearest {
            Some(group) if group.parts() > own.parts() => group,
            _ => own,
        }
    }
}

/// The limit of a budget that is in use.
#[derive(Clone, Debug)]
pub struct MemorySetting(Arc<AtomicU64>);

impl MemorySetting {
    /// As in [`MemoryBudget::new`], from the next reading on.
    pub fn set(&self, configured: Option<u64>) {
        self.0.store(own_bytes(configured), Ordering::Relaxed);
    }
}

fn own_bytes(configured: Option<u64>) -> u64 {
    configured.or_else(machine_bytes).unwrap_or(u64::MAX)
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn resident_pages(statm: &Path) -> Option<u64> {
    fs::read_to_string(statm).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// `None` where the group has no limit. What the kernel takes back before it kills is left out: pages of files, and caches of its own that it names.
fn group_usage(group: &Group) -> Option<Usage> {
    let read = |name: &str| fs::read_to_string(group.folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (limit, usage) = match group.version {
        Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        // "max" is no number and no limit.
        Version::V2 => ("memory.max", "memory.current"),
    };
    let files: &[&str] = match group.version {
        // Its file names no reclaimable slabs.
        Version::V1 => &["total_inactive_file ", "total_active_file "],
        Version::V2 => &["inactive_file ", "active_file ", "slab_reclaimable "],
    };
    let budget = number(limit).filter(|limit| *limit < UNLIMITED_BYTES)?;
    let used = number(usage)?;
    let stat = read("memory.stat").unwrap_or_default();
    let of_files = |line: &str| files.iter().find_map(|name| line.strip_prefix(name)?.parse::<u64>().ok());
    let files: u64 = stat.lines().filter_map(of_files).sum();
    Some(Usage { used: used.saturating_sub(files), budget })
}

/// Version 1 writes the largest multiple of a page where there is no limit.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// From which part of the budget on a level holds, and below which it ends, in ten thousandths. The distance keeps it from
/// changing to and fro.
const STEPS: [(Level, u64, u64); 3] =
    [(Level::Trim, 8_000, 7_500), (Level::Refuse, 8_500, 8_000), (Level::Shed, 9_500, 9_000)];
/// Shedding goes on until this part.
const SHED_UNTIL: u64 = 9_000;

/// The level that follows `level`.
fn next_level(level: Level, usage: Usage) -> Level {
    let parts = usage.parts();
    let holds =
        |(step, enter, leave): &&(Level, u64, u64)| parts >= if level >= *step { *leave } else { *enter };
    STEPS.iter().filter(holds).map(|(step, ..)| *step).max().unwrap_or_default()
}

/// What others may know of it.
#[derive(Debug, Default)]
pub struct MemoryFigures {
    used: AtomicU64,
    budget: AtomicU64,
    level: AtomicU8,
}

impl MemoryFigures {
    /// As last read.
    pub fn usage(&self) -> Usage {
        Usage { used: self.used.load(Ordering::Relaxed), budget: self.budget.load(Ordering::Relaxed) }
    }

    /// The present level as a number: 0 normal, 1 trim, 2 refuse, 3 shed.
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::Relaxed)
    }

    /// Why new clients are not welcome, for `/readyz`.
    pub fn reason(&self) -> Option<&'static str> {
        (self.level() >= Level::Refuse as u8)
            .then_some("memory: 85 % of limits.memory are in use, and new clients are refused until it is less than 80 %")
    }
}

/// Tells the shards how short of memory the process is, and how many bytes to give up.
pub type Tell = Box<dyn Fn(Level, u64) + Send>;

/// Watches, and tells the shards.
pub struct MemoryWatch {
    budget: MemoryBudget,
    tell: Tell,
    level: Level,
    /// What was used when shards were last told to give something up, and how many readings ago.
    shed_at: u64,
    readings_since: u32,
    /// Readings since the shards were told anything.
    readings_quiet: u32,
}

impl MemoryWatch {
    /// Nothing is read yet.
    pub fn new(budget: MemoryBudget, tell: Tell) -> Self {
        Self { budget, tell, level: Level::Normal, shed_at: 0, readings_since: 0, readings_quiet: 0 }
    }

    /// Reads for ever.
    pub async fn run(mut self, figures: Arc<MemoryFigures>) {
        loop {
            let usage = self.budget.usage();
            self.act(usage);
            figures.used.store(usage.used, Ordering::Relaxed);
            figures.budget.store(usage.budget, Ordering::Relaxed);
            figures.level.store(self.level as u8, Ordering::Relaxed);
            tokio::time::sleep(pause(usage)).await;
        }
    }

    fn act(&mut self, usage: Usage) {
        let before = self.level;
        self.level = next_level(before, usage);
        let shed = self.ask_to_shed(usage);
        self.readings_quiet = if self.level == Level::Normal { 0 } else { self.readings_quiet + 1 };
        if self.level != before || shed > 0 || self.readings_quiet >= READINGS_TO_REPEAT {
            self.readings_quiet = 0;
            (self.tell)(self.level, shed);
        }
        if self.level == before {
            return;
        }
        let (used, budget) = (usage.used >> 20, usage.budget >> 20);
        match self.level {
            Level::Normal | Level::Trim if before >= Level::Refuse => {
                tracing::info!("memory: {used} of {budget} MiB in use; new clients are welcome again");
            }
            Level::Normal | Level::Trim => tracing::debug!("memory: {used} of {budget} MiB in use"),
            Level::Refuse => tracing::warn!(
                "memory: {used} of {budget} MiB in use; new clients are refused (limits.memory)"
            ),
            Level::Shed => tracing::warn!(
                "memory: {used} of {budget} MiB in use; slow clients with the largest outboxes are cut (limits.memory)"
            ),
        }
    }

    /// Bytes that the shards are to give up now. What they gave up needs a moment to be seen here, so they are asked again
    /// only where it got worse, or after that.
    fn ask_to_shed(&mut self, usage: Usage) -> u64 {
        self.readings_since = self.readings_since.saturating_add(1);
        let asked_lately = self.readings_since < READINGS_TO_SHED && usage.used <= self.shed_at;
        if self.level < Level::Shed || asked_lately {
            return 0;
        }
        (self.shed_at, self.readings_since) = (usage.used, 0);
        let until = u128::from(usage.budget) * u128::from(SHED_UNTIL) / 10_000;
        usage.used.saturating_sub(u64::try_from(until).unwrap_or(u64::MAX))
    }
}

/// Until the next reading, which takes some tens of microseconds.
fn pause(usage: Usage) -> Duration {
    match usage.parts() {
        0..6_000 => Duration::from_millis(250),
        6_000..8_000 => Duration::from_millis(50),
        _ => Duration::from_millis(10),
    }
}

/// 100 ms.
const READINGS_TO_SHED: u32 = 10;
/// About a second: as often shards are told again while little is left, so that they give back what was freed meanwhile.
const READINGS_TO_REPEAT: u32 = 100;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn percent(percent: u64) -> Usage {
        Usage { used: percent * 10, budget: 1_000 }
    }

    #[test]
    fn levels_begin_at_their_marks_and_end_below_them() {
        let mut level = Level::Normal;
        let mut levels = Vec::new();
        for used in [79, 80, 84, 85, 94, 95, 99, 91, 90, 89, 86, 80, 79, 76, 75, 74, 96, 50] {
            level = next_level(level, percent(used));
            levels.push(level as u8);
        }
        assert_eq!(levels, [0, 1, 1, 2, 2, 3, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 3, 0]);
    }

    #[test]
    fn shards_are_told_of_changes_and_asked_again_where_it_gets_worse_or_does_not_get_better() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let tell = move |level, bytes| heard.lock().unwrap().push((level, bytes));
        let mut watch = MemoryWatch::new(MemoryBudget::new(Some(1_000)), Box::new(tell));
        for used in [50, 50, 86, 87, 96, 96, 97, 95, 95] {
            watch.act(percent(used));
        }
        (0..9).for_each(|_| watch.act(percent(95)));
        watch.act(percent(40));
        let expected =
            [(Level::Refuse, 0), (Level::Shed, 60), (Level::Shed, 70), (Level::Shed, 50), (Level::Normal, 0)];
        assert_eq!(*told.lock().unwrap(), expected);
    }

    /// A folder with the files of one group.
    fn group(name: &str, version: Version, files: &[(&str, &str)]) -> Group {
        let folder = std::env::temp_dir().join(format!("fanwire-memory-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).unwrap());
        Group { version, folder }
    }

    #[test]
    fn groups_of_both_versions_are_read_without_what_files_hold() {
        let first = group(
            "v1",
            Version::V1,
            &[
                ("memory.limit_in_bytes", "1000\n"),
                ("memory.usage_in_bytes", "900\n"),
                ("memory.stat", "inactive_file 7\ntotal_inactive_file 150\ntotal_active_file 50\n"),
            ],
        );
        assert_eq!(group_usage(&first), Some(Usage { used: 700, budget: 1_000 }));
        fs::write(first.folder.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(group_usage(&first), None);
        let second = group(
            "v2",
            Version::V2,
            &[
                ("memory.max", "2000\n"),
                ("memory.current", "500\n"),
                ("memory.stat", "anon 1\ninactive_file 100\nactive_file 0\n"),
            ],
        );
        assert_eq!(group_usage(&second), Some(Usage { used: 400, budget: 2_000 }));
        fs::write(second.folder.join("memory.max"), "max\n").unwrap();
        assert_eq!(group_usage(&second), None);
        fs::remove_dir_all(first.folder).unwrap();
        fs::remove_dir_all(second.folder).unwrap();
    }

    #[test]
    fn whatever_is_nearest_to_its_limit_counts() {
        let near =
            group("near", Version::V2, &[("memory.max", "2000000\n"), ("memory.current", "1800000\n")]);
        let far = group("far", Version::V2, &[("memory.max", "1000000\n"), ("memory.current", "1000\n")]);
        let statm = near.folder.join("statm");
        fs::write(&statm, "900 100 30\n").unwrap();
        let budget = |own: u64| MemoryBudget {
            own: Arc::new(own.into()),
            groups: vec![near.clone(), far.clone()],
            statm: statm.clone(),
            page_bytes: 4096,
        };
        assert_eq!(budget(u64::MAX).usage(), Usage { used: 1_800_000, budget: 2_000_000 });
        assert_eq!(budget(420_000).usage(), Usage { used: 409_600, budget: 420_000 });
        fs::remove_dir_all(near.folder).unwrap();
        fs::remove_dir_all(far.folder).unwrap();
    }

    #[test]
    fn this_process_uses_memory_and_has_a_budget() {
        let usage = MemoryBudget::new(None).usage();
        assert!(usage.used > 0 && usage.budget > usage.used, "{usage:?}");
    }
}
