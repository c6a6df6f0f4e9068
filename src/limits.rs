//! What the system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no connections: listeners, epoll, timers, doorbells, the admin port, some to spare.
const OTHER_DESCRIPTORS: u64 = 100;
/// Below this, the banner says what to do: it is what distributions give to interactive shells and services.
const FEW_DESCRIPTORS: u64 = 10_000;

/// Raises the soft limit of open files to the hard one, since a connection is an open file. Gives the limit in effect.
///
/// Programs that use `select` break beyond 1,024 descriptors; none of ours does, and what `register --exec` runs is not
/// started by the router.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused only where a sandbox forbids it, and then the old limit stays.
        _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Keeps the kernel from giving the heap whole 2 MiB pages.
///
/// The allocator asks for them, and each arena that a connection touches then counts in full: 2 KiB per idle session
/// instead of 640 B, with no difference in CPU time per delivery at 10,000 subscribers (`cargo xtask figures`).
pub fn use_small_pages() {
    // Refused only where a sandbox forbids it: more memory, nothing worse.
    _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// What to tell about the limit of open files, if it is low.
pub fn warn_open_files(limit: u64) -> Option<String> {
    (limit < FEW_DESCRIPTORS).then(|| {
        let clients = limit.saturating_sub(OTHER_DESCRIPTORS);
        format!(
            "at most {limit} files may be open: about {clients} clients. For more, raise the hard limit \
             (systemd: LimitNOFILE=1048576, docker: --ulimit nofile=1048576)"
        )
    })
}

/// What to tell about a backlog that the system cuts.
pub fn warn_backlog(wanted: u32) -> Option<String> {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()?;
    (wanted > most).then(|| {
        format!("{wanted} is cut to {most} by the system; for more, sysctl net.core.somaxconn={wanted}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_open_files();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
    }

    #[test]
    fn a_backlog_beyond_what_the_system_allows_is_worth_a_word() {
        assert_eq!(warn_backlog(1), None);
        if std::path::Path::new("/proc/sys/net/core/somaxconn").exists() {
            let words = warn_backlog(u32::MAX).expect("no system allows that");
            assert!(words.starts_with("4294967295 is cut to "), "{words}");
        }
    }

    #[test]
    fn only_a_low_limit_is_worth_a_word() {
        assert_eq!(warn_open_files(1_048_576), None);
        assert!(warn_open_files(1024).is_some_and(|words| words.contains("about 924 clients")));
    }
}
