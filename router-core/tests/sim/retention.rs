//! Which publications are kept, who asks for what is kept, and how much there may be: decided by the seed.

use super::{history::Keep, rng::Rng, rules::Rules};
use fanwire_core::{directory::RetentionLimits, topics::SlowConsumer};

/// What a plan says of retained events.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Percent of publications that are kept, and of these that end what is kept of their topic.
    kept: usize,
    ending: usize,
    /// Percent of subscriptions that ask for what is kept.
    asked: usize,
    /// Where there is little room for it.
    pub limits: Option<RetentionLimits>,
}

impl Retention {
    /// Nothing is kept.
    pub const NONE: Self = Self { kept: 0, ending: 0, asked: 0, limits: None };

    /// In a third of the runs there is none, and then nothing of a run depends on this. It has a source of chance of its own.
    pub fn new(seed: u64, rules: &Rules) -> Self {
        let rng = &mut Rng::new(seed ^ 0x6e91);
        if rng.chance(33) {
            return Self::NONE;
        }
        // What ends something says nothing of itself: no judge could tell what it has replaced.
        let conflates = rules.any(SlowConsumer::Conflate);
        let limits = RetentionLimits {
            events_per_realm: rng.pick(&[1, 2, 5, 1_000]),
            bytes_per_realm: rng.pick(&[300, 1_000, 10_000, 1_000_000]),
            bytes: rng.pick(&[500, 2_000, 1_000_000]),
        };
        Self {
            kept: rng.pick(&[20, 60, 100]),
            ending: if conflates { 0 } else { rng.pick(&[0, 0, 10, 40]) },
            asked: rng.pick(&[30, 80, 100]),
            limits: rng.chance(25).then_some(limits),
        }
    }

    /// The same, but that nothing ends what is kept: it says nothing of itself, and histories have it too.
    pub fn without_ends(self) -> Self {
        Self { ending: 0, ..self }
    }

    /// Whether anything is ever kept.
    pub fn is_used(&self) -> bool {
        self.kept > 0
    }

    /// What the next publication is.
    pub fn keep(&self, rng: &mut Rng) -> Keep {
        if !self.is_used() || !rng.chance(self.kept) {
            Keep::No
        } else if rng.chance(self.ending) {
            Keep::Ends
        } else {
            Keep::Kept
        }
    }

    /// Whether the next subscription asks for what is kept.
    pub fn asks(&self, rng: &mut Rng) -> bool {
        self.is_used() && rng.chance(self.asked)
    }
}
