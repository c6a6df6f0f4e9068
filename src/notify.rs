//! What a service manager that started us is told (`sd_notify(3)`): that we are ready, that we read the
//! configuration again, that we stop, and that every shard
//! still turns. Without one (no `NOTIFY_SOCKET`) nothing is done.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fanwire_io::{Running, ShardCounters};
use sd_notify::NotifyState;

/// Clients can come. `words` are what `systemctl status` shows.
pub fn ready(words: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

/// The configuration is read again.
pub fn reloading() {
    // Those with `Type=notify-reload` want to know since when.
    match NotifyState::monotonic_usec_now() {
        Ok(since) => tell(&[NotifyState::Reloading, since]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// That is over, whatever came of it.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Nobody new can come, and the end is near. The service manager's watchdog is over with it.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("saying goodbye to the clients")]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how we are (NOTIFY_SOCKET)");
    }
}

/// Reassures the service manager as long as every shard turns, if it wants to be (`WatchdogSec=`). A shard that hangs
/// ends the reassurances; the service manager kills and restarts us then.
///
/// # Errors
///
/// If there is no thread to be had.
pub fn reassure(running: &Arc<Running>) -> std::io::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let running = Arc::clone(running);
    thread::Builder::new().name("fanwire-pulse".into()).spawn(move || watch(&running, limit))?;
    Ok(())
}

/// Ends with the process.
#[allow(clippy::disallowed_methods, reason = "a thread of its own that only waits")]
fn watch(running: &Running, limit: Duration) {
    let mut pulse = Pulse::default();
    loop {
        // A shard that sleeps makes no turns, so it is woken; one that hangs makes none even so.
        running.nudge();
        thread::sleep(limit / CHECKS_PER_LIMIT);
        if pulse.beats(running.counters().iter().map(|shard| turns(shard))) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                "a shard has not turned for {:?}: the service manager is not reassured",
                limit / CHECKS_PER_LIMIT
            );
        }
    }
}

/// So that a shard may be late twice before it counts as hanging.
const CHECKS_PER_LIMIT: u32 = 3;

fn turns(shard: &ShardCounters) -> u64 {
    shard.turns.iter().map(|count| count.get()).sum()
}

/// The turns of each shard when it was last looked at.
#[derive(Default)]
struct Pulse(Vec<u64>);

impl Pulse {
    /// Whether all of them have turned since.
    fn beats(&mut self, turns: impl Iterator<Item = u64>) -> bool {
        let now: Vec<u64> = turns.collect();
        let before = std::mem::replace(&mut self.0, now);
        before.len() != self.0.len() || before.iter().zip(&self.0).all(|(before, now)| before != now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_that_hangs_is_enough() {
        let mut pulse = Pulse::default();
        assert!(pulse.beats([0, 0].into_iter()), "the first look knows nothing");
        assert!(pulse.beats([1, 1].into_iter()));
        assert!(!pulse.beats([2, 1].into_iter()));
        assert!(!pulse.beats([3, 1].into_iter()));
        assert!(pulse.beats([4, 2].into_iter()));
    }
}
