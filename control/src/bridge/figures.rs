//! What bridges have done, for the metrics page.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::inner::Outbox;
use crate::page::{Kind, Page, label, labels};

/// Why a message did not get to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// From Redis: more came than the shards took.
    InQueueFull,
    /// From Redis: the router refuses it: its channel's name is no topic, or the role may not publish there.
    InRefused,
    /// From Redis: the router had no room in time.
    InUnavailable,
    /// From Redis: larger than a message of a client may be.
    InTooLarge,
    /// From Redis: the shards ended before they said what became of it.
    InUnknown,
    /// To Redis: more came than Redis took, or it was away for too long.
    OutQueueFull,
    /// To Redis: the connection broke before it was answered. It may have arrived.
    OutUnknown,
    /// To Redis: it was refused there.
    OutRefused,
    /// To Redis: the payload has no form there.
    OutUntranslatable,
}

impl Loss {
    const ALL: [Self; 9] = [
        Self::InQueueFull,
        Self::InRefused,
        Self::InUnavailable,
        Self::InTooLarge,
        Self::InUnknown,
        Self::OutQueueFull,
        Self::OutUnknown,
        Self::OutRefused,
        Self::OutUntranslatable,
    ];

    /// Values of the labels `direction` and `reason`.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::InQueueFull => ("in", "queue_full"),
            Self::InRefused => ("in", "refused"),
            Self::InUnavailable => ("in", "unavailable"),
            Self::InTooLarge => ("in", "too_large"),
            Self::InUnknown => ("in", "unknown"),
            Self::OutQueueFull => ("out", "queue_full"),
            Self::OutUnknown => ("out", "unknown"),
            Self::OutRefused => ("out", "refused"),
            Self::OutUntranslatable => ("out", "untranslatable"),
        }
    }
}

/// What one bridge has done.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) up: AtomicBool,
    pub(super) connects: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) came_in: AtomicU64,
    pub(super) went_out: AtomicU64,
    pub(super) echoes: AtomicU64,
    /// Sent to Redis and not answered.
    pub(super) in_flight: AtomicU64,
    /// What waits to be sent, once the bridge runs.
    pub(super) outbox: OnceLock<Arc<Outbox>>,
    lost: [AtomicU64; Loss::ALL.len()],
}

impl Figures {
    /// Whether everything that can go out has gone.
    fn is_drained(&self) -> bool {
        let waits = self.outbox.get().is_some_and(|outbox| outbox.waiting() > 0);
        !self.up.load(Ordering::Relaxed) || !waits && self.in_flight.load(Ordering::Relaxed) == 0
    }

    pub(super) fn lose(&self, loss: Loss, count: u64) {
        self.lost[loss as usize].fetch_add(count, Ordering::Relaxed);
    }
}

/// One of the figures.
type Read = fn(&Figures) -> u64;

/// The figures of all bridges, by their names.
#[derive(Clone, Debug, Default)]
pub struct BridgeFigures(pub(super) Vec<(String, Arc<Figures>)>);

impl BridgeFigures {
    /// Waits until what was published before has gone out, where Redis takes it.
    pub(crate) async fn drained(&self) {
        while !self.0.iter().all(|(_, figures)| figures.is_drained()) {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Adds them to the page. The families are there without any bridge too.
    pub fn collect(&self, page: &mut Page) {
        let plain: [(_, _, _, Read); 5] = [
            (
                "fanwire_bridge_up",
                Kind::Gauge,
                "1 while the bridge is connected and subscribed.",
                |figures| u64::from(figures.up.load(Ordering::Relaxed)),
            ),
            (
                "fanwire_bridge_connects_total",
                Kind::Counter,
                "Times that the bridge was connected and subscribed.",
                |figures| figures.connects.load(Ordering::Relaxed),
            ),
            ("fanwire_bridge_failures_total", Kind::Counter, "Attempts to connect that failed.", |figures| {
                figures.failures.load(Ordering::Relaxed)
            }),
            (
                "fanwire_bridge_gaps_total",
                Kind::Counter,
                "Times that a connection ended: what was published to Redis until the next one is missing.",
                |figures| figures.gaps.load(Ordering::Relaxed),
            ),
            (
                "fanwire_bridge_echoes_total",
                Kind::Counter,
                "Messages that came back because the bridge had published them itself; they are delivered once.",
                |figures| figures.echoes.load(Ordering::Relaxed),
            ),
        ];
        for (name, kind, help, read) in plain {
            page.declare(name, kind, help);
            for (bridge, figures) in &self.0 {
                page.add(name, kind, help, &label("bridge", bridge), read(figures) as f64);
            }
        }
        let name = "fanwire_bridge_messages_total";
        let help = "Messages that got to the other side.";
        page.declare(name, Kind::Counter, help);
        for (bridge, figures) in &self.0 {
            for (direction, count) in [("in", &figures.came_in), ("out", &figures.went_out)] {
                let labels = labels(&label("bridge", bridge), &label("direction", direction));
                page.add(name, Kind::Counter, help, &labels, count.load(Ordering::Relaxed) as f64);
            }
        }
        let name = "fanwire_bridge_lost_total";
        let help = "Messages that did not get to the other side, by reason.";
        page.declare(name, Kind::Counter, help);
        for (bridge, figures) in &self.0 {
            for loss in Loss::ALL {
                let (direction, reason) = loss.labels();
                let which = labels(&label("bridge", bridge), &label("direction", direction));
                let count = figures.lost[loss as usize].load(Ordering::Relaxed) as f64;
                page.add(name, Kind::Counter, help, &labels(&which, &label("reason", reason)), count);
            }
        }
    }
}

/// Only ever at the end of the process.
const DRAIN_LOOK: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_stand_where_they_are_counted() {
        for (at, loss) in Loss::ALL.into_iter().enumerate() {
            assert_eq!(loss as usize, at);
        }
    }
}
