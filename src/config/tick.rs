//! `[[tick]]`: publications that come by themselves.

use fanwire_core::uri::{MatchPolicy, UriRule, check_pattern, is_reserved};
use serde::{Deserialize, Serialize};

use super::describe::described;
use super::load::Origins;
use super::problem::Problem;
use super::roles;
use super::schema::Config;
use super::units::Time;

described! {
    /// A publication that comes by itself.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Tick {
        /// Its name, in metrics and in the log, unlike any other's; if left out: the topic.
        #[acts(now)]
        #[serde(default)]
        pub name: String,
        /// The topic.
        #[acts(now)]
        pub topic: String,
        /// How long from one to the next.
        ///
        /// One that is late by more than this is left out, and counted.
        #[acts(now)]
        #[serde(default = "Tick::default_interval")]
        pub interval: Time,
        /// What is published: `{seq}` (1, 2, …), `{now_ms}` (Unix time) and `{connections}` are filled in.
        ///
        /// As JSON if it is JSON then, else as a string. Other braces stand for themselves.
        #[acts(now)]
        #[serde(default = "Tick::default_payload")]
        pub payload: String,
        /// The realm of the topic.
        #[acts(now)]
        #[serde(default = "Tick::default_realm")]
        pub realm: String,
        /// The role whose permission to publish it needs.
        #[acts(now)]
        #[serde(default = "Tick::default_role")]
        pub role: String,
    }
}

impl Tick {
    /// One with everything but name and topic at its default.
    pub fn at(name: &str, topic: &str) -> Self {
        Self {
            name: name.to_owned(),
            topic: topic.to_owned(),
            interval: Self::default_interval(),
            payload: Self::default_payload(),
            realm: Self::default_realm(),
            role: Self::default_role(),
        }
    }

    /// What it goes by.
    pub fn name(&self) -> &str {
        if self.name.is_empty() { &self.topic } else { &self.name }
    }

    fn default_interval() -> Time {
        Time::seconds(10)
    }

    fn default_payload() -> String {
        r#"{"now_ms":{now_ms},"seq":{seq},"connections":{connections}}"#.to_owned()
    }

    fn default_realm() -> String {
        "realm1".to_owned()
    }

    fn default_role() -> String {
        "anonymous".to_owned()
    }
}

/// Each has a task, and lines of metrics.
const TICKS_MAX: usize = 256;
/// It is filled in anew each time.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// All that is wrong with them.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |key: String, wrong: String, help: Vec<String>| {
        problems.push(Problem { place: origins.place(&key), key: Some(key), wrong, help });
    };
    if config.tick.len() > TICKS_MAX {
        let wrong = format!("{} ticks are more than {TICKS_MAX}", config.tick.len());
        refuse("tick".to_owned(), wrong, vec!["one tick can have many subscribers".to_owned()]);
    }
    let (least, most) = (Time(std::time::Duration::from_millis(10)), Time::seconds(24 * 3_600));
    for (index, tick) in config.tick.iter().enumerate() {
        let key = |part: &str| format!("tick.{index}.{part}");
        if tick.name().trim().is_empty() || tick.name.chars().any(char::is_control) {
            refuse(key("name"), format!("{:?} is no name", tick.name), vec!["allowed: any word".to_owned()]);
        } else if config.tick[..index].iter().any(|other| other.name() == tick.name()) {
            let wrong = format!("there is a tick {:?} already", tick.name());
            refuse(key("name"), wrong, vec!["give each its own name".to_owned()]);
        }
        if let Err(wrong) = check_pattern(&tick.topic, MatchPolicy::Exact, UriRule::Loose) {
            let help = vec!["allowed: a topic, such as \"room.tick\"".to_owned()];
            refuse(key("topic"), format!("{:?}: {wrong}", tick.topic), help);
        } else if is_reserved(&tick.topic) {
            let wrong = format!("{:?} begins as the router's own topics do", tick.topic);
            refuse(key("topic"), wrong, vec!["name another topic".to_owned()]);
        }
        if tick.interval < least || tick.interval > most {
            let help = vec![format!("allowed: {least} to {most}")];
            refuse(key("interval"), format!("{} is out of range", tick.interval), help);
        }
        if tick.payload.len() > PAYLOAD_BYTES_MAX {
            let wrong = format!("it has {} bytes, more than {PAYLOAD_BYTES_MAX}", tick.payload.len());
            refuse(key("payload"), wrong, vec!["publish that by a program of yours".to_owned()]);
        }
        if let Some((part, wrong, help)) = roles::missing(config, &tick.realm, &tick.role) {
            refuse(key(part), wrong, help);
        }
    }
    problems
}
