//! What was lost, told now and then and not for each message: to the log, and to the topic of notices.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How often losses are told at most.
pub(super) const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Losses that were not told yet. They are counted already.
#[derive(Debug, Default)]
pub(super) struct Losses {
    untold: Mutex<Untold>,
    changed: Notify,
}

/// So many messages.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// From Redis, without room.
    pub(super) inward: u64,
    /// Refused by Redis.
    pub(super) refused: u64,
    /// What Redis said to the last of them.
    pub(super) why: String,
}

impl Losses {
    /// Messages from Redis had no room.
    pub(super) fn add_inward(&self, count: u64) {
        self.lock().inward += count;
        self.changed.notify_one();
    }

    /// Redis has refused messages.
    pub(super) fn add_refused(&self, count: u64, why: String) {
        let mut untold = self.lock();
        untold.refused += count;
        untold.why = why;
        drop(untold);
        self.changed.notify_one();
    }

    /// Waits for one.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn take(&self) -> Untold {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Untold> {
        // Nothing panics with it.
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
