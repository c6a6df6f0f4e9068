//! SIGTERM and SIGINT: the first drains, the second ends now, a third does not wait for anybody. SIGHUP: the configuration
//! is read again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Shards;
use crate::reload::Reloads;
use crate::state::{Readiness, Reason};

/// Exit status of a process that was told three times to end: 128 and SIGINT, as shells write it.
const EXIT_FORCED: i32 = 130;
/// Signals so close to the first are the same wish: `timeout` and some supervisors send one to the process and one to its
/// group.
const SAME_WISH: Duration = Duration::from_millis(20);

/// The signals, taken from their default action.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on the signals end nothing by themselves. Needs a runtime.
    pub fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Acts on signals for ever.
    pub async fn handle(mut self, shards: &impl Shards, readiness: &Readiness, reloads: &Arc<Reloads>) {
        let name = self.next(reloads).await;
        self.ignore_for(SAME_WISH, reloads).await;
        tracing::info!("{name}: draining; a second one ends at once");
        readiness.end(Reason::Draining);
        shards.drain();
        let name = self.next(reloads).await;
        tracing::warn!("{name} again: ending now");
        shards.stop_now();
        self.next(reloads).await;
        std::process::exit(EXIT_FORCED);
    }

    async fn ignore_for(&mut self, time: Duration, reloads: &Arc<Reloads>) {
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                _ = self.next(reloads) => {}
            }
        }
    }

    /// The next one that asks for an end. Not lost if it is not awaited to its end.
    async fn next(&mut self, reloads: &Arc<Reloads>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    let reloads = Arc::clone(reloads);
                    // Beside the others: who wants to end does not wait for it. What came of it is in the log.
                    tokio::spawn(async move { reloads.reload("SIGHUP", false).await });
                }
            }
        }
    }
}
