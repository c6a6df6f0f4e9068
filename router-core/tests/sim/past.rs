//! How much histories have of their topics: decided by the seed.

use super::rng::Rng;
use fanwire_core::{directory::HistoryLimits, topics::HistoryBounds};
use std::time::Duration;

/// What a plan says of event history.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Of each topic; `None`: nothing is recorded.
    pub bounds: Option<HistoryBounds>,
    /// Where there is little room for all of them.
    pub limits: Option<HistoryLimits>,
}

impl Past {
    pub const NONE: Self = Self { bounds: None, limits: None };

    /// In half of the runs there is none, and then nothing of a run depends on this. It has a source of chance of its own.
    pub fn new(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x9a57);
        if rng.chance(50) {
            return Self::NONE;
        }
        let bounds = HistoryBounds {
            events: rng.pick(&[1, 2, 5, 60]),
            bytes: rng.pick(&[700, 5_000, 1 << 20, 1 << 20]),
            age: rng.pick(&[None, None, Some(1), Some(40)]).map(Duration::from_millis),
        };
        let limits =
            HistoryLimits { bytes_per_realm: rng.pick(&[500, 3_000]), bytes: rng.pick(&[800, 5_000]) };
        Self { bounds: Some(bounds), limits: rng.chance(20).then_some(limits) }
    }
}
