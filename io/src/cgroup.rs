//! Where the limits of this process's control groups stand, in versions 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

/// The two kinds of hierarchies; their files have different names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// A folder whose limits hold for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Which names its files have.
    pub version: Version,
    /// `/sys/fs/cgroup/…`.
    pub folder: PathBuf,
}

/// The groups of this process that may limit `controller`, from its own to the root of each hierarchy: the smallest limit
/// counts. Folders that do not exist may be among them.
pub fn groups(controller: &str) -> Vec<Group> {
    groups_in(Path::new("/proc/self"), Path::new("/sys/fs/cgroup"), controller)
}

pub(crate) fn groups_in(proc_self: &Path, root: &Path, controller: &str) -> Vec<Group> {
    let lines = fs::read_to_string(proc_self.join("cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    let mut add = |version, mount: &Path, path: &str| {
        groups.extend(ancestors(mount, path).into_iter().map(|folder| Group { version, folder }));
    };
    for line in lines.lines() {
        // "hierarchy:controllers:path"; version 2 is hierarchy 0 without controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if hierarchy == "0" && controllers.is_empty() {
            add(Version::V2, root, path);
        } else if controllers.split(',').any(|name| name == controller) {
            // Version 1 mounts the controllers under their names; in a container the path may not be visible.
            let mut mounts = vec![controllers, controller];
            if controller == "cpu" {
                mounts.push("cpu,cpuacct");
            }
            mounts.dedup();
            for mount in mounts {
                add(Version::V1, &root.join(mount), path);
            }
        }
    }
    groups
}

/// `root/path` and all its parents down to `root`.
fn ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let full = root.join(path.trim_start_matches('/'));
    full.ancestors().take_while(|group| group.starts_with(root)).map(Path::to_path_buf).collect()
}
