//! What the control thread begins with before the shards run: bridges that must be subscribed before anybody can connect.
//!
//! ```text
//! Early::begin ─ bridges connect, a moment at most ─▶ shards start and listen ─▶ start ─▶ the thread goes on with the runtime
//! ```
//!
//! Between the two nobody drives the runtime. What Redis sends meanwhile waits in the sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::Shards;
use crate::bridge::{self, BridgeConfig, BridgeFigures};

/// The runtime of the control thread, and what is under way on it.
pub struct Early {
    pub(crate) runtime: Runtime,
    /// Tells the bridges that the shards run.
    pub(crate) running: watch::Sender<Option<Arc<dyn Shards>>>,
    pub(crate) bridges: BridgeFigures,
}

impl Early {
    /// Makes the runtime and connects the bridges. Waits until each is subscribed or has failed once, [`CONNECT_WAIT`] at most:
    /// without Redis everything else works. `logins_at_once`: key derivations at the same time.
    ///
    /// # Errors
    ///
    /// If there are no resources for a runtime.
    pub fn begin(logins_at_once: usize, bridges: Vec<BridgeConfig>) -> io::Result<Self> {
        // The blocking threads derive keys.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("fanwire-login")
            .max_blocking_threads(logins_at_once)
            .on_thread_start(give_way)
            .build()?;
        let (running, when_running) = watch::channel(None);
        let bridges = runtime.block_on(async {
            let (figures, tried) = bridge::spawn(bridges, &when_running);
            let all = async {
                for tried in tried {
                    // One that is gone does not connect later either.
                    _ = tried.await;
                }
            };
            _ = tokio::time::timeout(CONNECT_WAIT, all).await;
            figures
        });
        Ok(Self { runtime, running, bridges })
    }

    /// What the metrics page reads of the bridges.
    pub fn bridges(&self) -> BridgeFigures {
        self.bridges.clone()
    }
}

/// A Redis that is there answers in milliseconds.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// Shards go first where CPUs are scarce: a storm of logins must not slow down who is logged in.
fn give_way() {
    // On Linux this is about this thread alone (sched(7)). Where it is refused, the threads are as good as others.
    _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LOGIN_NICENESS);
}

/// About a tenth of a shard's share of a CPU that both want.
const LOGIN_NICENESS: i32 = 10;
