//! The runtime of one shard, and which of its ways to wait the kernel allowed.
//!
//! Only this file, and the two waits in [`park`](crate::park), know monoio. io_uring is tried with the flags that suit a
//! thread that owns its ring, then with fewer, then bare; where the kernel, a container's seccomp profile or a memory
//! limit refuses all of them, the shard runs on epoll, in every respect the same but the wait (`reference/crates.md`
//! §1.2, §1.6). monoio's own fall-back only knows "no io_uring at all" and fails on anything less.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::config::Driver;

/// The runtime of the calling thread. Never drop it and go on: it would free buffers that the kernel may still write to.
pub(crate) enum Engine {
    Uring(Runtime<IoUringDriver>),
    Epoll(Runtime<LegacyDriver>),
}

/// Which driver a shard runs on, and why not a better one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriverReport {
    /// What the shard waits with.
    pub rung: Rung,
    /// What was tried before and why it was refused; empty if the first choice was taken.
    pub refused: Vec<(Rung, String)>,
}

/// The ladder, best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// io_uring with SINGLE_ISSUER, COOP_TASKRUN, SUBMIT_ALL and CLAMP (Linux 6.0).
    UringSingleIssuer,
    /// io_uring with COOP_TASKRUN and CLAMP (Linux 5.19).
    UringCoop,
    /// io_uring without flags (Linux 5.7).
    UringPlain,
    /// epoll.
    Epoll,
}

impl Rung {
    /// `io_uring` or `epoll`.
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            _ => "io_uring",
        }
    }

    /// The rung in words, for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UringSingleIssuer => "io_uring (single issuer, cooperative)",
            Self::UringCoop => "io_uring (cooperative)",
            Self::UringPlain => "io_uring (no flags)",
            Self::Epoll => "epoll",
        }
    }
}

impl Engine {
    /// Builds the best runtime that `driver` and the kernel allow. To be called on the thread that will run it, after
    /// pinning: a single-issuer ring belongs to its creator.
    pub(crate) fn build(driver: Driver) -> io::Result<(Self, DriverReport)> {
        let ladder: &[Rung] = match driver {
            Driver::Auto => &[Rung::UringSingleIssuer, Rung::UringCoop, Rung::UringPlain, Rung::Epoll],
            Driver::IoUring => &[Rung::UringSingleIssuer, Rung::UringCoop, Rung::UringPlain],
            Driver::Epoll => &[Rung::Epoll],
        };
        let mut refused = Vec::new();
        for rung in ladder {
            match Self::try_rung(*rung) {
                Ok(engine) => return Ok((engine, DriverReport { rung: *rung, refused })),
                // Whatever the reason (EPERM, ENOSYS, EINVAL, ENOMEM …), the next rung asks for less.
                Err(error) => refused.push((*rung, error.to_string())),
            }
        }
        let tried: Vec<_> = refused.iter().map(|(rung, why)| format!("{}: {why}", rung.as_str())).collect();
        Err(io::Error::other(tried.join("; ")))
    }

    fn try_rung(rung: Rung) -> io::Result<Self> {
        let mut flags = io_uring::IoUring::builder();
        match rung {
            Rung::Epoll => return Ok(Self::Epoll(RuntimeBuilder::<LegacyDriver>::new().build()?)),
            Rung::UringSingleIssuer => {
                flags.setup_single_issuer().setup_coop_taskrun().setup_submit_all().setup_clamp();
            }
            Rung::UringCoop => {
                flags.setup_coop_taskrun().setup_clamp();
            }
            Rung::UringPlain => {}
        }
        // The data path is direct system calls; the ring carries one poll at a time, so a small one will do.
        let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(flags);
        Ok(Self::Uring(builder.build()?))
    }

    /// Runs `future` to its end on the calling thread.
    pub(crate) fn run<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

const RING_ENTRIES: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_thread_of_its_own<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(test).join().expect("the test thread ends well")
    }

    #[test]
    fn epoll_is_taken_when_asked_for() {
        on_a_thread_of_its_own(|| {
            let (mut engine, report) = Engine::build(Driver::Epoll).unwrap();
            assert_eq!(report, DriverReport { rung: Rung::Epoll, refused: vec![] });
            assert_eq!(engine.run(async { 7 }), 7);
            std::mem::forget(engine);
        });
    }

    #[test]
    fn auto_always_finds_a_rung() {
        on_a_thread_of_its_own(|| {
            let (mut engine, _) = Engine::build(Driver::Auto).unwrap();
            assert_eq!(engine.run(async { 7 }), 7);
            std::mem::forget(engine);
        });
    }
}
