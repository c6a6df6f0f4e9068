//! How events wait for slow subscribers: decided by the seed, and written down without the core's rules.

use super::{
    names::{self, REALM_BIT},
    rng::Rng,
};
use fanwire_core::{
    topics::{Handling, HistoryBounds, SlowConsumer, TopicRule, TopicRules},
    uri::MatchPolicy,
};

/// One answer for each topic, one for all patterns below `top.`, and one for the rest.
#[derive(Clone, Debug)]
pub struct Rules {
    names: Vec<Handling>,
    patterns: Handling,
    rest: Handling,
}

impl Rules {
    /// In half of the runs there are none.
    pub fn new(rng: &mut Rng) -> Self {
        let none = Handling::default();
        if rng.chance(50) {
            return Self::all(none);
        }
        // Runs with one policy alone show what that one does.
        let only = rng.chance(50).then(|| policy(rng));
        let mut handling = || Handling {
            slow_consumer: only.unwrap_or_else(|| policy(rng)),
            outbox_bytes_max: rng.chance(30).then(|| rng.pick(&[1, 300, 3_000])),
            outbox_messages_max: rng.chance(30).then(|| rng.pick(&[1, 3, 20])),
        };
        let names = (0..names::NAMES_MAX).map(|_| handling()).collect();
        Self { names, patterns: handling(), rest: handling() }
    }

    /// One answer for all.
    pub fn all(handling: Handling) -> Self {
        Self { names: vec![handling; names::NAMES_MAX.into()], patterns: handling, rest: handling }
    }

    /// As the realms have them.
    pub fn configured(&self, history: Option<HistoryBounds>) -> TopicRules {
        let exact = (0u8..).zip(&self.names).map(|(name, handling)| TopicRule {
            uri: names::uri(name),
            match_policy: MatchPolicy::Exact,
            handling: *handling,
            history,
        });
        let patterns = TopicRule {
            uri: "top.".to_owned(),
            match_policy: MatchPolicy::Prefix,
            handling: self.patterns,
            history: None,
        };
        TopicRules { default: self.rest, rules: exact.chain([patterns]).collect() }
    }

    /// What a subscription to this topic or pattern has.
    pub fn of(&self, asked: u8) -> Handling {
        if names::is_meta(asked) {
            return self.rest;
        }
        if !names::is_pattern(asked) {
            return self.names[usize::from(asked & !REALM_BIT) % self.names.len()];
        }
        let (_, uri) = names::request(asked);
        if uri.starts_with("top.") { self.patterns } else { self.rest }
    }

    /// Whether anything waits by this policy.
    pub fn any(&self, policy: SlowConsumer) -> bool {
        let all = self.names.iter().chain([&self.patterns, &self.rest]);
        all.into_iter().any(|handling| handling.slow_consumer == policy)
    }

    /// Whether its events may be dropped while the subscriber stays.
    pub fn drops(&self, asked: u8) -> bool {
        let policy = self.of(asked).slow_consumer;
        !matches!(policy, SlowConsumer::Disconnect | SlowConsumer::PausePublisher)
    }
}

fn policy(rng: &mut Rng) -> SlowConsumer {
    rng.pick(&SlowConsumer::ALL)
}
