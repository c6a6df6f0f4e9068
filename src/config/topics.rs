//! How events wait for slow subscribers: `[[realm.topic]]` and the defaults behind it.

use std::fmt;

use fanwire_core::topics::SlowConsumer;
use serde::{Deserialize, Serialize};

use super::schema::Match;
use super::units::{Auto, Count, Limit, Scalar, Size, Time, Written};

/// What becomes of events that a subscriber does not read in time, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(pub SlowConsumer);

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for Policy {
    fn allowed() -> String {
        SlowConsumer::ALL.map(SlowConsumer::name).join(", ")
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let found = SlowConsumer::ALL.into_iter().find(|policy| policy.name() == text);
        found.map(Self).ok_or_else(|| format!("unknown policy {text:?}"))
    }

    fn from_integer(number: i64) -> Result<Self, String> {
        Err(format!("{number} is no policy"))
    }

    fn to_written(&self) -> Written {
        Written::Text(self.to_string())
    }
}

/// A rule of a realm. Explained at `realm.topic`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Topic or pattern.
    pub uri: String,
    /// How `uri` is compared.
    #[serde(rename = "match", default)]
    pub match_policy: Match,
    /// What happens to events that are not read in time; `auto`: what the realm says.
    #[serde(default = "Topic::auto")]
    pub slow_consumer: Auto<Policy>,
    /// How much of a connection's outbox the events of one subscription may take; `auto`: all of it.
    #[serde(default = "Topic::auto")]
    pub outbox: Auto<Size>,
    /// And how many events.
    #[serde(default = "Topic::auto")]
    pub outbox_messages: Auto<Count>,
    /// How many of a topic's last publications are kept for those who ask; `auto`: the rule says nothing of it.
    #[serde(default = "Topic::auto")]
    pub history: Auto<Count>,
    /// How much they may be together.
    #[serde(default = "Topic::history_bytes")]
    pub history_bytes: Size,
    /// How old they may be.
    #[serde(default = "Topic::history_age")]
    pub history_age: Limit<Time>,
}

impl Topic {
    fn auto<T>() -> Auto<T> {
        Auto::Auto
    }

    fn history_bytes() -> Size {
        Size(1 << 20)
    }

    fn history_age() -> Limit<Time> {
        Limit(None)
    }
}
