//! How many shards, and on which CPUs: the affinity mask of the process, cut by the CPU quota of its cgroup.

use std::fs;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::cgroup::{self, Group, Version};

/// What the machine gives this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that the process may run on, ascending.
    pub cpus: Vec<usize>,
    /// CPUs' worth of time that the cgroup allows, rounded up; `None` without a quota.
    pub quota_cpus: Option<usize>,
}

impl Machine {
    /// Asks the kernel.
    pub fn detect() -> Self {
        let cpus = match sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
            Err(_) => vec![],
        };
        Self { cpus, quota_cpus: quota(Path::new("/proc/self"), Path::new("/sys/fs/cgroup")) }
    }

    /// The number of shards for `count = auto`.
    pub fn shards(&self) -> usize {
        let cpus = self.cpus.len().max(1);
        self.quota_cpus.map_or(cpus, |quota| quota.clamp(1, cpus)).min(crate::config::SHARDS_MAX)
    }

    /// CPUs to pin `shards` shards to by default: one each, or none at all.
    pub fn pinning(&self, shards: usize) -> Option<Vec<usize>> {
        (self.cpus.len() == shards).then(|| self.cpus.clone())
    }

    /// The shards beside `shard` that share a CPU with it, where `shards` of them are pinned to `pinned` in turn. Without
    /// pinning it is all others if there are more shards than CPUs, and nobody else.
    pub(crate) fn beside(&self, shard: usize, shards: usize, pinned: Option<&[usize]>) -> Vec<usize> {
        let meets = |other: usize| match pinned {
            Some(cpus) => cpus[other % cpus.len()] == cpus[shard % cpus.len()],
            None => shards > self.cpus.len(),
        };
        (0..shards).filter(|other| *other != shard && meets(*other)).collect()
    }
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> std::io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The tightest CPU quota on the way from this process's cgroup to the root, in whole CPUs, rounded up.
fn quota(proc_self: &Path, cgroup_root: &Path) -> Option<usize> {
    let groups = cgroup::groups_in(proc_self, cgroup_root, "cpu");
    let quota = |Group { version, folder }: &Group| match version {
        Version::V1 => quota_v1(folder),
        Version::V2 => quota_v2(folder),
    };
    groups.iter().filter_map(quota).min()
}

/// `cpu.max`: "max 100000" or "150000 100000".
fn quota_v2(group: &Path) -> Option<usize> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    let quota = fields.next()?.parse::<u64>().ok()?;
    whole_cpus(quota, fields.next()?.parse().ok()?)
}

/// `cpu.cfs_quota_us` (−1 = none) over `cpu.cfs_period_us`.
fn quota_v1(group: &Path) -> Option<usize> {
    let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?.trim().parse::<u64>().ok()?;
    whole_cpus(quota, fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?.trim().parse().ok()?)
}

fn whole_cpus(quota: u64, period: u64) -> Option<usize> {
    (quota > 0 && period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("fanwire-affinity-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn file(&self, path: &str, text: &str) -> &Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn quota(&self) -> Option<usize> {
            quota(&self.0, &self.0.join("fs"))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_quota_of_the_group_or_of_a_parent_counts() {
        let tree = Tree::new("v2");
        tree.file("cgroup", "0::/pod/box\n").file("fs/pod/box/cpu.max", "max 100000\n");
        assert_eq!(tree.quota(), None);
        tree.file("fs/pod/cpu.max", "150000 100000\n");
        assert_eq!(tree.quota(), Some(2));
        tree.file("fs/pod/box/cpu.max", "50000 100000\n");
        assert_eq!(tree.quota(), Some(1));
    }

    #[test]
    fn version_1_quota_counts_and_minus_one_is_none() {
        let tree = Tree::new("v1");
        tree.file("cgroup", "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n")
            .file("fs/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
            .file("fs/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(tree.quota(), None);
        tree.file("fs/cpu,cpuacct/cpu.cfs_quota_us", "300000\n");
        assert_eq!(tree.quota(), Some(3));
    }

    #[test]
    fn the_quota_cuts_the_shards_and_forbids_pinning() {
        let machine = Machine { cpus: vec![0, 2, 4, 6], quota_cpus: Some(2) };
        assert_eq!((machine.shards(), machine.pinning(2)), (2, None));
        let machine = Machine { quota_cpus: Some(9), ..machine };
        assert_eq!((machine.shards(), machine.pinning(4)), (4, Some(vec![0, 2, 4, 6])));
        assert_eq!(Machine { cpus: vec![], quota_cpus: None }.shards(), 1);
    }

    #[test]
    fn shards_share_a_cpu_where_there_are_more_of_them() {
        let machine = Machine { cpus: vec![0, 1], quota_cpus: None };
        assert_eq!(machine.beside(0, 2, Some(&[0, 1])), []);
        assert_eq!(machine.beside(1, 5, Some(&[0, 1])), [3]);
        assert_eq!(machine.beside(2, 3, Some(&[7, 8, 7])), [0]);
        assert_eq!(machine.beside(0, 2, None), [], "the scheduler has a CPU for each");
        assert_eq!(machine.beside(1, 3, None), [0, 2]);
    }

    #[test]
    fn this_machine_has_a_cpu_to_pin_to() {
        let machine = Machine::detect();
        std::thread::spawn(move || {
            pin(machine.cpus[0]).unwrap();
            assert_eq!(Machine::detect().cpus, [machine.cpus[0]]);
            assert!(pin(CpuSet::MAX_CPU).is_err());
        })
        .join()
        .unwrap();
    }
}
