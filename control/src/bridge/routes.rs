//! Which channels belong to which topics.

use fanwire_codec::payload::{OwnedPayload, TranscodeError};
use fanwire_codec::resp::Glob;

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the channel to the topic.
    In,
    /// From the topic to the channel.
    Out,
    /// Both, each message once.
    Both,
}

impl Direction {
    /// Whether messages come from Redis.
    pub fn comes_in(self) -> bool {
        self != Self::Out
    }

    /// Whether messages go to Redis.
    pub fn goes_out(self) -> bool {
        self != Self::In
    }
}

/// What payloads look like in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text or bytes as they are.
    Plain,
    /// JSON text.
    Json,
}

impl Form {
    /// The payload of a message, and whether it is plain; what is no JSON where it should be is taken as it is.
    pub(super) fn read(self, bytes: &[u8]) -> (OwnedPayload, bool) {
        let json = match self {
            Self::Plain => None,
            Self::Json => OwnedPayload::from_plain_json(bytes),
        };
        match json {
            Some(payload) => (payload, false),
            None => (OwnedPayload::from_plain(bytes), true),
        }
    }

    /// The message of a payload.
    pub(super) fn write(self, payload: &OwnedPayload) -> Result<Vec<u8>, TranscodeError> {
        let mut out = Vec::with_capacity(payload.len());
        match self {
            Self::Plain => payload.write_plain(&mut out)?,
            Self::Json => payload.write_plain_json(&mut out)?,
        }
        Ok(out)
    }
}

/// What a route is about.
#[derive(Clone, Debug)]
pub enum Names {
    /// One channel and one topic.
    One {
        /// The channel.
        channel: String,
        /// The topic.
        topic: String,
    },
    /// All channels that a pattern of Redis's matches, and the topics of the same names.
    Pattern {
        /// As it is written.
        text: String,
        /// The same, to be compared.
        glob: Glob,
    },
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it is about.
    pub names: Names,
    /// Which way.
    pub direction: Direction,
    /// How.
    pub form: Form,
}

/// All routes of a bridge, in the order of the configuration. The first that fits decides.
#[derive(Clone, Debug)]
pub struct Routes(pub Vec<Route>);

impl Routes {
    /// The route of a message that came by a channel, and its topic. Where several of our subscriptions match, Redis sends it
    /// as often: `pattern` says by which it came, and only the copy of the first route counts.
    pub(super) fn inward<'a>(
        &'a self,
        pattern: Option<&[u8]>,
        channel: &'a [u8],
    ) -> Option<(&'a Route, &'a str)> {
        let (route, topic) = self.of_channel(channel)?;
        let is_copy = match (&route.names, pattern) {
            (Names::One { .. }, None) => false,
            (Names::Pattern { text, .. }, Some(pattern)) => text.as_bytes() != pattern,
            _ => true,
        };
        (!is_copy).then_some((route, topic))
    }

    /// The route by which the messages of a channel come in, and their topic.
    pub(super) fn of_channel<'a>(&'a self, channel: &'a [u8]) -> Option<(&'a Route, &'a str)> {
        self.0.iter().filter(|route| route.direction.comes_in()).find_map(|route| match &route.names {
            Names::One { channel: own, topic } => {
                (own.as_bytes() == channel).then_some((route, topic.as_str()))
            }
            Names::Pattern { glob, .. } => {
                let topic = glob.matches(channel).then_some(channel)?;
                Some((route, std::str::from_utf8(topic).ok()?))
            }
        })
    }

    /// The channel for an event of a topic that came by the route at `index`; `None`: an earlier one has it.
    pub(super) fn outward<'a>(&'a self, index: usize, topic: &'a str) -> Option<(&'a Route, &'a str)> {
        let mut fitting = self.0.iter().enumerate().filter_map(|(at, route)| match &route.names {
            _ if !route.direction.goes_out() => None,
            Names::One { channel, topic: own } => (own == topic).then_some((at, route, channel.as_str())),
            Names::Pattern { glob, .. } => glob.matches(topic.as_bytes()).then_some((at, route, topic)),
        });
        fitting.next().filter(|(at, ..)| *at == index).map(|(_, route, channel)| (route, channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(channel: &str, topic: &str, direction: Direction) -> Route {
        let names = Names::One { channel: channel.to_owned(), topic: topic.to_owned() };
        Route { names, direction, form: Form::Plain }
    }

    fn pattern(text: &str, direction: Direction) -> Route {
        let glob = Glob::new(text.as_bytes()).expect("short");
        Route { names: Names::Pattern { text: text.to_owned(), glob }, direction, form: Form::Plain }
    }

    #[test]
    fn each_message_comes_in_once_however_many_subscriptions_bring_it() {
        let routes = Routes(vec![
            one("a", "topic.a", Direction::In),
            one("b", "topic.b", Direction::Out),
            pattern("n.*", Direction::Both),
            pattern("*", Direction::In),
        ]);
        let topic = |pattern: Option<&str>, channel: &str| {
            let found = routes.inward(pattern.map(str::as_bytes), channel.as_bytes());
            found.map(|(_, topic)| topic.to_owned())
        };
        assert_eq!(topic(None, "a").as_deref(), Some("topic.a"));
        assert_eq!(topic(Some("*"), "a"), None, "the copy of a later route");
        assert_eq!(topic(Some("n.*"), "n.x").as_deref(), Some("n.x"));
        assert_eq!(topic(Some("*"), "n.x"), None);
        assert_eq!(topic(Some("*"), "b").as_deref(), Some("b"), "the route named b goes the other way");
        assert!(routes.inward(Some(b"*"), b"\xff").is_none(), "no topic has such a name");
    }

    #[test]
    fn each_event_goes_out_once() {
        let routes = Routes(vec![
            one("chan", "t.a", Direction::Out),
            one("other", "t.b", Direction::In),
            pattern("t.*", Direction::Both),
        ]);
        let channel =
            |index, topic: &str| routes.outward(index, topic).map(|(_, channel)| channel.to_owned());
        assert_eq!(channel(0, "t.a").as_deref(), Some("chan"));
        assert_eq!(channel(2, "t.a"), None);
        assert_eq!(channel(2, "t.b").as_deref(), Some("t.b"));
        assert_eq!(channel(1, "t.b"), None);
    }
}
