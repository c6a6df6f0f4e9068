//! `[message_center]`: the channels of message-center clients.

use fanwire_core::access::{Access, Action};
use fanwire_core::message_center::{ChannelRule, Overlap, QueueRule, Side, overlaps};
use fanwire_core::uri::matches;
use serde::{Deserialize, Serialize};

use super::describe::{Described, described};
use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{Config, Hook, HookEvent, Listener, NO_ROLE, Protocol};
use super::units::Count;

described! {
    /// The channels of message-center clients.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct MessageCenter {
        /// The realm in which its clients are.
        ///
        /// Its role for anonymous clients is that of who has not logged in; with `anonymous_role = "none"` there is no channel
        /// without a login. Who logs in is asked of the hook for `authenticate`.
        #[acts(restart)]
        pub realm: String,
        /// What becomes of a connection after an error: `keep`, or `close` with the code 4000 and the error's number.
        #[acts(now)]
        pub on_error: OnError,
        /// Which topic a channel is: `[[message_center.rule]]` with `match`, `channel` and `require_auth`.
        ///
        /// The first one that fits decides. `match` is what clients say, with captures such as `{video}` or
        /// `{kind:depth|trades}`; `channel` is the topic, with the captures, `{ctx.uid}` for who the client is, and `{ctx.team}`
        /// for a field `team` of what its hook said of it in `extra`. What has something of `ctx` needs a login in any case.
        #[acts(now)]
        pub rule: Vec<Rule>,
        /// Queues for what its clients say: `[[message_center.queue]]` with `name`, `ops` and `size` (2000).
        ///
        /// The first one that takes a message gets it: one of its `ops`; anything with an `op` that the protocol does not know, if
        /// `ops` is left out; or everything with `ops = ["*"]`. Backends take it out by the [server API](server-api.md#queues).
        /// `auth` among the `ops` lets backends say who a client is.
        #[acts(restart)]
        pub queue: Vec<Queue>,
        /// Role of who is let in by a backend; `"none"`: nobody is.
        #[acts(restart)]
        pub role: String,
    }
}

impl Default for MessageCenter {
    fn default() -> Self {
        Self {
            realm: "realm1".to_owned(),
            on_error: OnError::Keep,
            rule: Vec::new(),
            queue: Vec::new(),
            role: "anonymous".to_owned(),
        }
    }
}

/// What becomes of a connection after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It goes on.
    Keep,
    /// It is closed.
    Close,
}

impl Described for OnError {}

/// A rule for channels. Explained at `message_center.rule`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What clients say.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The topic.
    pub channel: String,
    /// Whether it is for those alone who have logged in.
    #[serde(default)]
    pub require_auth: bool,
}

impl Described for Rule {}

/// A queue for what clients say. Explained at `message_center.queue`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// What its consumers call it.
    pub name: String,
    /// What of their messages it takes.
    #[serde(default)]
    pub ops: Vec<String>,
    /// Messages that may wait.
    #[serde(default = "Queue::default_size")]
    pub size: Count,
}

impl Described for Queue {}

impl Queue {
    fn default_size() -> Count {
        Count(2_000)
    }

    /// As the router reads it.
    pub fn read(&self) -> QueueRule {
        match &self.ops[..] {
            [] => QueueRule::Rest,
            [all] if all == "*" => QueueRule::All,
            ops => QueueRule::Ops(ops.iter().map(|op| op.as_str().into()).collect()),
        }
    }
}

impl Rule {
    /// As the router reads it.
    pub fn read(&self) -> Result<ChannelRule, (Side, String)> {
        ChannelRule::new(&self.pattern, &self.channel, self.require_auth)
            .map_err(|(side, why)| (side, why.to_string()))
    }
}

/// All that is wrong with it.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut checker = Checker { origins, problems: Vec::new() };
    let center = &config.message_center;
    for (index, rule) in center.rule.iter().enumerate() {
        checker.rule(config, index, rule);
    }
    checker.overlaps(&center.rule);
    for (index, queue) in center.queue.iter().enumerate() {
        checker.queue(config, index, queue);
    }
    if center.queue.len() > QUEUES_MAX {
        let wrong = format!("there are {} queues", center.queue.len());
        checker.refuse("message_center.queue", wrong, [format!("allowed: at most {QUEUES_MAX}")]);
    }
    if config.listener.iter().any(|listener| speaks(listener, Protocol::MessageCenter)) {
        checker.realm(config);
        if center.rule.is_empty() {
            let help = "add: [[message_center.rule]] with match = \"@user\" and channel = \"user:{ctx.uid}\"";
            checker.refuse("message_center.rule", "there is no rule, so there is no channel", [help.into()]);
        }
    }
    checker.problems
}

/// Whether it is known who clients are: a hook or a backend says so.
fn can_log_in(config: &Config) -> bool {
    let center = &config.message_center;
    let takes_auth = |queue: &Queue| match queue.read() {
        QueueRule::All => true,
        QueueRule::Rest => false,
        QueueRule::Ops(ops) => ops.iter().any(|op| **op == *"auth"),
    };
    center.role != NO_ROLE && center.queue.iter().any(takes_auth) || login_hooks(config).next().is_some()
}

/// Each message is compared with all of them.
const QUEUES_MAX: usize = 100;

/// What should not stay as it is: who speaks WAMP names topics itself, and no rule is asked.
pub fn warnings(config: &Config) -> Vec<String> {
    let center = &config.message_center;
    let is_both = |listener: &&Listener| {
        let wamp = [Protocol::Wamp, Protocol::WampLongpoll];
        speaks(listener, Protocol::MessageCenter) && wamp.iter().any(|wamp| speaks(listener, *wamp))
    };
    let Some(realm) = config.realm.iter().find(|realm| realm.name == center.realm) else { return Vec::new() };
    let Some(listener) = config.listener.iter().find(is_both) else { return Vec::new() };
    let guarded = center.rule.iter().filter_map(|rule| rule.read().ok()).filter(ChannelRule::needs_login);
    let topics: Vec<String> =
        guarded.map(|rule| rule.example()).filter(|topic| !is_asked_about(config, topic)).collect();
    let roles = realm.anonymous().map(|role| &*role.name).into_iter();
    let roles = roles.chain(login_hooks(config).map(|hook| hook.role.as_str()));
    let Ok(access) = Access::new(&[crate::wiring::realm(config, realm, &[])], 0) else { return Vec::new() };
    let id = access.realm(&realm.name).expect("the only one");
    for role in roles {
        let Some(number) = access.role(id, role) else { continue };
        if let Some(topic) =
            topics.iter().find(|topic| access.authorize(id, number, Action::Subscribe, topic))
        {
            return vec![format!(
                "{} offers WAMP beside the message center, and its clients subscribe to topics by themselves: role {role:?} of realm \
                 {:?} allows {topic:?}, which message_center.rule keeps for some alone. Offer WAMP at another address, or have \
                 a hook decide on \"subscribe\"",
                listener.bind, realm.name
            )];
        }
    }
    Vec::new()
}

fn speaks(listener: &Listener, protocol: Protocol) -> bool {
    listener.endpoints.values().any(|endpoint| endpoint.protocol == protocol)
}

/// Whether a hook decides on subscriptions to it.
fn is_asked_about(config: &Config, topic: &str) -> bool {
    config.hook.iter().any(|hook| {
        hook.events.contains(&HookEvent::Subscribe)
            && is_for(hook, &config.message_center.realm)
            && matches(crate::wiring::match_policy(hook.match_policy), &hook.uri, topic)
    })
}

fn is_for(hook: &Hook, realm: &String) -> bool {
    hook.realms.is_empty() || hook.realms.contains(realm)
}

/// Those that say who the clients are: they bring a token and no name, which no file of users knows.
fn login_hooks(config: &Config) -> impl Iterator<Item = &Hook> {
    let logins = config.hook.iter().filter(|hook| hook.events.contains(&HookEvent::Authenticate));
    logins.filter(|hook| is_for(hook, &config.message_center.realm))
}

struct Checker<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn rule(&mut self, config: &Config, index: usize, rule: &Rule) {
        let key = |part: &str| format!("message_center.rule.{index}.{part}");
        match rule.read() {
            Err((Side::Match, why)) => {
                let help =
                    "allowed: such as \"@user\", \"{video}@video\" or \"{symbol}@{kind:depth|trades}\"";
                self.refuse(&key("match"), format!("{:?}: {why}", rule.pattern), [help.into()]);
            }
            Err((Side::Channel, why)) => {
                let help = "allowed: such as \"user:{ctx.uid}\", \"video:{video}\" or \"ex:{symbol}@{kind}\"";
                self.refuse(&key("channel"), format!("{:?}: {why}", rule.channel), [help.into()]);
            }
            Ok(read) if read.needs_login() && !can_log_in(config) => {
                let wrong = format!(
                    "{:?} is for those who have logged in, and nobody can in realm {:?}",
                    rule.pattern, config.message_center.realm
                );
                let help = "add: [[hook]] with events = [\"authenticate\"] and the realm among its realms";
                self.refuse(&key("match"), wrong, [help.into()]);
            }
            Ok(_) => {}
        }
    }

    /// Rules by which one could get what another one keeps for some.
    fn overlaps(&mut self, rules: &[Rule]) {
        let Ok(read) = rules.iter().map(Rule::read).collect::<Result<Vec<_>, _>>() else { return };
        for Overlap { guarded, other, topic } in overlaps(&read) {
            let (guarded, rule) = (&rules[guarded], &rules[other]);
            let wrong = format!(
                "{:?} can be the topic {topic:?} too, which {:?} ({:?}) keeps for some alone",
                rule.channel, guarded.pattern, guarded.channel
            );
            let help = "give the topics of each another beginning or another end, or say which words a capture may be: \
                        {kind:depth|trades}";
            self.refuse(&format!("message_center.rule.{other}.channel"), wrong, [help.into()]);
        }
    }

    fn queue(&mut self, config: &Config, index: usize, queue: &Queue) {
        let key = |part: &str| format!("message_center.queue.{index}.{part}");
        let before = &config.message_center.queue[..index];
        if queue.name.trim().is_empty() || before.iter().any(|other| other.name == queue.name) {
            let wrong = format!("{:?} is no name, or another queue has it", queue.name);
            self.refuse(&key("name"), wrong, ["give each queue a name of its own".into()]);
        }
        if !(Count(1)..=Count(1_000_000)).contains(&queue.size) {
            let wrong = format!("{} is out of range", queue.size);
            self.refuse(&key("size"), wrong, ["allowed: 1 to 1000000".into()]);
        }
        if queue.ops.len() > 1 && queue.ops.iter().any(|op| op == "*") {
            let help = "allowed: [\"*\"] alone, or words such as \"chat\"";
            self.refuse(&key("ops"), "\"*\" takes everything, so nothing can stand beside it", [help.into()]);
        }
        if !matches!(queue.read(), QueueRule::Rest) && config.message_center.role != NO_ROLE {
            let center = &config.message_center;
            let realm = config.realm.iter().find(|realm| realm.name == center.realm);
            let is_role = realm.is_none_or(|realm| realm.role.iter().any(|role| role.name == center.role));
            if !is_role {
                let wrong = format!("the realm {:?} has no role {:?}", center.realm, center.role);
                let help = "the role of who is let in by a backend, or \"none\"";
                self.refuse("message_center.role", wrong, [help.into()]);
            }
        }
    }

    fn realm(&mut self, config: &Config) {
        let name = &config.message_center.realm;
        if let Some(realm) = config.realm.iter().find(|realm| realm.name == *name)
            && !can_log_in(config)
        {
            let is_asked = |hook: &Hook| hook.events.contains(&HookEvent::Connect) && is_for(hook, name);
            if realm.anonymous().is_none() || config.hook.iter().any(is_asked) {
                let wrong =
                    format!("nobody is in realm {name:?} without a login, and no hook decides on tokens");
                let help = "add: [[hook]] with events = [\"authenticate\"], or let anonymous clients in";
                self.refuse("message_center.realm", wrong, [help.into()]);
            }
        }
        let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
        if !names.contains(&name.as_str()) {
            let near = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let help = near.into_iter().chain([format!("realms: {}", names.join(", "))]);
            self.refuse("message_center.realm", format!("there is no realm {name:?}"), help);
        }
    }

    fn refuse(&mut self, key: &str, wrong: impl Into<String>, help: impl IntoIterator<Item = String>) {
        self.problems.push(Problem {
            place: self.origins.place(key),
            key: Some(key.to_owned()),
            wrong: wrong.into(),
            help: help.into_iter().collect(),
        });
    }
}
