//! Which topics the message center's channels are, and who may have them.

use std::sync::Arc;

use fanwire_codec::message_center::ErrorCode;

use crate::ids::{RealmId, RoleId};
use crate::template::{CAPTURES_MAX, Name, Pattern, Side, TemplateError, Unfit};
use crate::uri::{self, UriRule};

/// The message center of a router, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCenter {
    /// Where its clients' sessions are.
    pub realm: RealmId,
    /// What becomes of a connection after an error.
    pub on_error: OnError,
    /// The role of who is let in by a backend that says its uid.
    pub role: Option<RoleId>,
    queues: Vec<QueueRule>,
    rules: Vec<ChannelRule>,
    /// What the rules want to know of a connection, beside who it is.
    context: Vec<Box<str>>,
    /// What ends a value of that in some topic, and so may not be in one.
    context_ends: Vec<char>,
}

/// What becomes of a connection that was told an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It goes on.
    #[default]
    Keep,
    /// It is closed, with 4000 and the error's number.
    Close,
}

/// What clients call a channel, and which topic that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRule {
    pub(super) pattern: Pattern,
    pub(super) name: Name,
    /// Whether only those who have logged in may have it.
    needs_login: bool,
    /// What all who subscribe by it call the channel, where that is always the same.
    literal: Option<Arc<str>>,
}

/// What of its clients' messages goes into a queue. Of several that take one, the first does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueRule {
    /// All of them, whatever they are.
    All,
    /// Whatever has an `op` that the protocol does not know.
    Rest,
    /// What has one of these, known ones too.
    Ops(Vec<Box<str>>),
}

impl ChannelRule {
    /// A rule from its two sides. One whose channel has something of the context needs a login in any case.
    ///
    /// # Errors
    ///
    /// What is wrong, and on which side.
    pub fn new(pattern: &str, channel: &str, require_auth: bool) -> Result<Self, (Side, TemplateError)> {
        let pattern = Pattern::parse(pattern).map_err(|why| (Side::Match, why))?;
        let name = Name::parse(channel, &pattern).map_err(|why| (Side::Channel, why))?;
        let needs_login = require_auth || name.context().next().is_some();
        let literal = pattern.literal().map(Arc::from);
        Ok(Self { pattern, name, needs_login, literal })
    }

    /// One of its topics.
    pub fn example(&self) -> String {
        let mut captures = ["x"; CAPTURES_MAX];
        for (place, capture) in captures.iter_mut().zip(self.pattern.captures()) {
            *place = capture.choices.first().map_or("x", |choice| choice);
        }
        self.name.fill(&captures, |_| Some("x")).unwrap_or_default()
    }

    /// Whether only those who have logged in may have its channels.
    pub fn needs_login(&self) -> bool {
        self.needs_login
    }
}

/// The key of the context that says who the user is.
const UID: &str = "uid";

/// A channel that a client named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) topic: String,
    /// What the client calls it.
    pub(super) name: Arc<str>,
}

/// What is known of a connection that has logged in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) uid: &'a str,
    pub(super) context: &'a [(Box<str>, Box<str>)],
}

impl Known<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key == UID {
            return Some(self.uid);
        }
        self.context.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }
}

impl Default for MessageCenter {
    /// Without rules: there is no channel.
    fn default() -> Self {
        Self::new(RealmId::new(0), OnError::default(), Vec::new())
    }
}

impl MessageCenter {
    /// With these rules. Of several that fit, the first one decides.
    pub fn new(realm: RealmId, on_error: OnError, rules: Vec<ChannelRule>) -> Self {
        let mut context: Vec<Box<str>> = Vec::new();
        for key in rules.iter().flat_map(|rule| rule.name.context()) {
            if key != UID && !context.iter().any(|known| **known == *key) {
                context.push(key.into());
            }
        }
        let context_ends = rules.iter().flat_map(ChannelRule::context_ends).collect();
        Self { realm, on_error, role: None, queues: Vec::new(), rules, context, context_ends }
    }

    /// The same, with queues for what its clients say; whoever wants to log in by one of them gets this role.
    #[must_use]
    pub fn with_queues(self, role: Option<RoleId>, queues: Vec<QueueRule>) -> Self {
        Self { role, queues, ..self }
    }

    /// Whether any message can be for a queue.
    pub(super) fn has_queues(&self) -> bool {
        !self.queues.is_empty()
    }

    /// The queue for a message: by its `op`, if it has one that can be read. `is_known`: the protocol knows what it means.
    pub(super) fn queue_of(&self, op: Option<&str>, is_known: bool) -> Option<usize> {
        self.queues.iter().position(|queue| match queue {
            QueueRule::All => true,
            QueueRule::Rest => !is_known && op.is_some(),
            QueueRule::Ops(ops) => op.is_some_and(|op| ops.iter().any(|known| **known == *op)),
        })
    }

    /// Whether a name is the same topic by both.
    pub(crate) fn has_rules_of(&self, other: &Self) -> bool {
        self.rules == other.rules
    }

    /// Whether some rule wants to know this of whoever logs in.
    pub(super) fn wants(&self, key: &str) -> bool {
        self.context.iter().any(|wanted| **wanted == *key)
    }

    /// The topic of a channel, in the words of a client of whom this is known; `None`: it has not logged in.
    pub(super) fn find(&self, said: &str, known: Option<Known<'_>>) -> Result<Channel, ErrorCode> {
        let fitting = self.rules.iter().find_map(|rule| Some((rule, rule.pattern.find(said)?)));
        let (rule, captures) = fitting.ok_or(ErrorCode::InvalidChannel)?;
        if rule.needs_login && known.is_none() {
            return Err(ErrorCode::NotAuth);
        }
        let context = |key: &str| {
            let value = known.as_ref().and_then(|known| known.get(key));
            value.filter(|value| !value.is_empty() && !value.contains(&self.context_ends[..]))
        };
        let topic = rule.name.fill(&captures, context).map_err(|unfit| match unfit {
            Unfit::Capture => ErrorCode::InvalidChannel,
            Unfit::Context => ErrorCode::PermissionDenied,
        })?;
        if !may_be_topic(&topic) {
            // Whether the client has said something wrong, or what is known of it is no part of a topic.
            let with_others = rule.name.fill(&captures, |_| Some("x"));
            let is_sound = with_others.is_ok_and(|topic| may_be_topic(&topic));
            return Err(if is_sound { ErrorCode::PermissionDenied } else { ErrorCode::InvalidChannel });
        }
        let name = rule.literal.clone().unwrap_or_else(|| said.into());
        Ok(Channel { topic, name })
    }
}

/// What was filled in may make it too long, or the router's own.
fn may_be_topic(topic: &str) -> bool {
    uri::check_topic(topic, UriRule::Loose).is_ok() && !uri::is_reserved(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn center(rules: &[(&str, &str, bool)]) -> MessageCenter {
        let rule = |(pattern, channel, auth): &(&str, &str, bool)| {
            ChannelRule::new(pattern, channel, *auth).expect("a rule")
        };
        MessageCenter::new(RealmId::new(0), OnError::Keep, rules.iter().map(rule).collect())
    }

    fn topic(center: &MessageCenter, said: &str, uid: Option<&str>) -> Result<String, ErrorCode> {
        let context = [("team".into(), "red".into())];
        let known = uid.map(|uid| Known { uid, context: &context });
        center.find(said, known).map(|channel| {
            assert_eq!(&*channel.name, said);
            channel.topic
        })
    }

    #[test]
    fn the_examples_are_the_topics_that_they_say() {
        use ErrorCode::{InvalidChannel, NotAuth};
        let center = center(&[
            ("@user", "user:{ctx.uid}", true),
            ("{video}@video", "video:{video}", false),
            ("@{kind:balance|order|position|account}", "ex:{ctx.uid}@{kind}", true),
            ("{symbol}@{kind:depth|trades|markprice|ticker|kline}", "ex:{symbol}@{kind}", false),
        ]);
        for (said, uid, expected) in [
            ("@user", Some("1001"), Ok("user:1001")),
            ("@user", Some("9007199254740993"), Ok("user:9007199254740993")),
            ("@user", Some("u-01"), Ok("user:u-01")),
            ("@user", None, Err(NotAuth)),
            ("user:1002", Some("1001"), Err(InvalidChannel)),
            ("1002@user", Some("1001"), Err(InvalidChannel)),
            ("100001@video", None, Ok("video:100001")),
            ("BTCUSDT@depth", None, Ok("ex:BTCUSDT@depth")),
            ("@balance", Some("7"), Ok("ex:7@balance")),
            ("@balance", None, Err(NotAuth)),
            // Another user's, by the rule for the public.
            ("7@balance", Some("1001"), Err(InvalidChannel)),
            ("7@balance", None, Err(InvalidChannel)),
        ] {
            assert_eq!(topic(&center, said, uid), expected.map(str::to_owned), "{said} of {uid:?}");
        }
    }

    #[test]
    fn context_needs_a_login_whatever_the_rule_says() {
        let center = center(&[("@team", "team:{ctx.team}", false), ("@none", "x:{ctx.none}", false)]);
        assert_eq!(topic(&center, "@team", None), Err(ErrorCode::NotAuth));
        assert_eq!(topic(&center, "@team", Some("1")), Ok("team:red".to_owned()));
        assert_eq!(topic(&center, "@none", Some("1")), Err(ErrorCode::PermissionDenied));
        assert_eq!(["team", "none", "uid"].map(|key| center.wants(key)), [true, true, false]);
    }

    #[test]
    fn what_is_filled_in_makes_no_odd_topic() {
        let center = center(&[("{a}/{b}", "{a}.{b}", false), ("@u", "{ctx.uid}", true)]);
        let long = "x".repeat(300);
        for said in ["fanwire/gap", "wamp/x", "./a", &format!("a/{long}")] {
            assert_eq!(topic(&center, said, None), Err(ErrorCode::InvalidChannel), "{said}");
        }
        assert_eq!(topic(&center, "a/b", None), Ok("a.b".to_owned()));
        assert_eq!(topic(&center, "a.b/c", None), Err(ErrorCode::InvalidChannel), "it would be a/b.c too");
        assert_eq!(topic(&center, "a/b.c", None), Ok("a.b.c".to_owned()));
    }

    /// It is not the client who has said something wrong.
    #[test]
    fn what_is_known_of_a_user_may_fit_no_topic() {
        let center = center(&[("@u", "{ctx.uid}", true), ("@{kind}", "ex:{ctx.uid}@{kind}", true)]);
        for uid in ["", "a b", "a#b", "fanwire.x", "a..b", &"x".repeat(300), "joe@example"] {
            assert_eq!(topic(&center, "@u", Some(uid)), Err(ErrorCode::PermissionDenied), "{uid}");
        }
        assert_eq!(topic(&center, "@order", Some("u.1")), Ok("ex:u.1@order".to_owned()));
        assert_eq!(
            topic(&center, &format!("@{}", "x".repeat(300)), Some("1")),
            Err(ErrorCode::InvalidChannel)
        );
    }

    #[test]
    fn a_literal_rules_subscribers_share_their_name() {
        let center = center(&[("@user", "user:{ctx.uid}", true)]);
        let named = |uid| center.find("@user", Some(Known { uid, context: &[] })).expect("a channel").name;
        assert!(Arc::ptr_eq(&named("1"), &named("2")));
    }
}
