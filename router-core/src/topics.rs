//! What becomes of events that a subscriber does not read in time, by realm and topic.

use std::fmt;
use std::time::Duration;

use crate::clock::Instant;
use crate::uri::MatchPolicy;

/// The topic whose events tell a session which of its events were lost. Each session may subscribe to it, and is told of its
/// own losses alone. Nobody can publish to it.
pub const GAP_TOPIC: &str = "fanwire.gap";

/// What becomes of the events of a subscriber that is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// All wait; beyond the limits the connection is cut.
    #[default]
    Disconnect,
    /// Those that wait longest make room for new ones.
    DropOldest,
    /// Those that come while there is no room are not kept.
    DropNewest,
    /// A new one replaces the one of the same key that waits; beyond the limits as [`Self::DropOldest`]. The key is the topic,
    /// with the publication's own key if it has one.
    Conflate,
    /// Beyond half of the limits nobody publishes to the topic until the subscriber has caught up; if it does not within
    /// [`Limits::pause_max`](crate::Limits::pause_max), the connection is cut.
    PausePublisher,
}

impl SlowConsumer {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Disconnect, Self::DropOldest, Self::DropNewest, Self::Conflate, Self::PausePublisher];

    /// As the configuration and `fanwire slow` say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Conflate => "conflate",
            Self::PausePublisher => "pause_publisher",
        }
    }
}

impl fmt::Display for SlowConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the events of one subscription wait for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handling {
    /// What happens where there is no room for one more.
    pub slow_consumer: SlowConsumer,
    /// How much of the connection's outbox they may take; `None`: all of it. One event of any size may always wait.
    pub outbox_bytes_max: Option<usize>,
    /// The same, as a number of events.
    pub outbox_messages_max: Option<u32>,
}

impl Handling {
    /// Whether it is what happens without any rule.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// How much is kept of a topic's publications for those who ask for them later (WAMP, "Event History").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// The last so many; 0: none.
    pub events: u32,
    /// Of so many bytes together.
    pub bytes: usize,
    /// Not older than this.
    pub age: Option<Duration>,
}

impl HistoryBounds {
    /// Whether what was published `at` is too old `now`.
    pub fn is_over(&self, at: Instant, now: Instant) -> bool {
        self.age.is_some_and(|age| now.since(at) > age)
    }
}

/// One rule, as configured.
#[derive(Clone, Debug)]
pub struct TopicRule {
    /// The topic or pattern.
    pub uri: String,
    /// How `uri` is compared.
    pub match_policy: MatchPolicy,
    /// What it says of slow subscribers.
    pub handling: Handling,
    /// What it says of the history; `None`: nothing.
    pub history: Option<HistoryBounds>,
}

/// The rules of a realm. The most specific one that covers all of a subscription decides.
#[derive(Clone, Debug, Default)]
pub struct TopicRules {
    /// For subscriptions that no rule covers.
    pub default: Handling,
    /// Their order does not matter.
    pub rules: Vec<TopicRule>,
}
