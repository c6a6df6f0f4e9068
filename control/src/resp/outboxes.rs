//! What waits for the clients of the Redis port, and whose goes when memory is short.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::inner::Outbox;

/// The outboxes of all clients.
#[derive(Debug, Default)]
pub struct Outboxes(Mutex<Vec<Weak<Held>>>);

/// The outbox of one client.
#[derive(Debug)]
pub(super) struct Held {
    /// What comes from the shard.
    inbox: Arc<Outbox>,
    /// Bytes that were said and not written, as of the connection's last turn.
    pub(super) said: AtomicUsize,
    /// Its connection has to go.
    pub(super) shed: Notify,
    /// It was told so, and its bytes are counted as given.
    is_told: AtomicBool,
}

impl Held {
    fn bytes(&self) -> usize {
        self.inbox.bytes() + self.said.load(Ordering::Relaxed)
    }
}

impl Outboxes {
    /// One more, for as long as it is held.
    pub(super) fn add(&self, inbox: Arc<Outbox>) -> Arc<Held> {
        let held = Arc::new(Held {
            inbox,
            said: AtomicUsize::new(0),
            shed: Notify::new(),
            is_told: AtomicBool::new(false),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        held
    }

    /// Ends connections with large outboxes, the largest first, until they have had so many bytes. How many that were; fewer if
    /// there are no more.
    pub fn shed(&self, bytes: u64) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.iter().filter_map(Weak::upgrade).filter(|held| !held.is_told.load(Ordering::Relaxed));
        let all = all.map(|held| (held.bytes(), held));
        let mut large: Vec<(usize, Arc<Held>)> = all.filter(|(bytes, _)| *bytes >= SHED_BYTES_MIN).collect();
        large.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut given = 0;
        for (held_bytes, held) in large {
            if given >= bytes {
                break;
            }
            held.is_told.store(true, Ordering::Relaxed);
            held.shed.notify_one();
            given += held_bytes as u64;
        }
        given
    }
}

/// Who has less to read is not why memory is short.
const SHED_BYTES_MIN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::{Inbox, InboxLimits};

    #[test]
    fn the_largest_go_first_and_small_ones_never() {
        let outboxes = Outboxes::default();
        let held = [100, 300, 900, 500].map(|kib| {
            let inbox = Inbox::new(InboxLimits { messages_max: 1, bytes_max: 1 });
            let held = outboxes.add(inbox.outbox());
            held.said.store(kib << 10, Ordering::Relaxed);
            held
        });
        let gone = |held: &Arc<Held>| was_told(&held.shed);
        assert_eq!(outboxes.shed(1_000 << 10), 1_400 << 10);
        assert_eq!(held.each_ref().map(gone), [false, false, true, true]);
        assert_eq!(outboxes.shed(u64::MAX), 300 << 10, "all that are large, and each once");
        assert_eq!(held.each_ref().map(gone), [false, true, false, false]);
        drop(held);
        assert_eq!(outboxes.shed(1), 0);
    }

    /// Whether it was told, which takes that back.
    fn was_told(notify: &Notify) -> bool {
        let waker = std::task::Waker::noop();
        let future = std::pin::pin!(notify.notified());
        future.poll(&mut std::task::Context::from_waker(waker)).is_ready()
    }
}
