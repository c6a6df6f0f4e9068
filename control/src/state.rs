//! Whether new clients are welcome.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// Why new clients are not welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Sessions are being told goodbye.
    Draining = 1,
    /// A shard has ended by itself.
    Stopped = 2,
}

impl Reason {
    /// For the body of `/readyz`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Draining => "draining: this process was told to end and takes no new clients",
            Self::Stopped => "stopped: the shards have ended",
        }
    }
}

/// Ready until told otherwise; never ready again.
#[derive(Debug, Default)]
pub struct Readiness {
    reason: AtomicU8,
    ended: Notify,
}

impl Readiness {
    /// `None` while ready.
    pub fn reason(&self) -> Option<Reason> {
        // Relaxed: nothing else is published by it.
        match self.reason.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Reason::Draining),
            _ => Some(Reason::Stopped),
        }
    }

    /// No longer ready. A later reason never takes an earlier one back to "draining".
    pub fn end(&self, reason: Reason) {
        self.reason.fetch_max(reason as u8, Ordering::Relaxed);
        self.ended.notify_waiters();
    }

    /// Waits until new clients are not welcome any more.
    pub async fn ended(&self) {
        let notified = self.ended.notified();
        tokio::pin!(notified);
        // From here on nothing is missed, also before it is waited for.
        notified.as_mut().enable();
        if self.reason().is_none() {
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_only_ends() {
        let readiness = Readiness::default();
        assert_eq!(readiness.reason(), None);
        readiness.end(Reason::Draining);
        assert_eq!(readiness.reason(), Some(Reason::Draining));
        readiness.end(Reason::Stopped);
        readiness.end(Reason::Draining);
        assert_eq!(readiness.reason(), Some(Reason::Stopped));
    }
}
