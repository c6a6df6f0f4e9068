//! `[message_center]`: the channels of message-center clients.

use fanwire_core::access::{Access, Action};
use fanwire_core::message_center::{ChannelRule, Overlap, Side, overlaps};
use fanwire_core::uri::matches;
use serde::{Deserialize, Serialize};

use super::describe::{Described, described};
use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{Config, Hook, HookEvent, Listener, Protocol};

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
    }
}

impl Default for MessageCenter {
    fn default() -> Self {
        Self { realm: "realm1".to_owned(), on_error: OnError::Keep, rule: Vec::new() }
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
    if config.listener.iter().any(|listener| speaks(listener, Protocol::MessageCenter)) {
        checker.realm(config);
        if center.rule.is_empty() {
            let help = "add: [[message_center.rule]] with match = \"@user\" and channel = \"user:{ctx.uid}\"";
            checker.refuse("message_center.rule", "there is no rule, so there is no channel", [help.into()]);
        }
    }
    checker.problems
}

/// What should not stay as it is: who speaks WAMP names topics itself, and no rule is asked.
pub fn warnings(config: &Config) -> Vec<String> {
    let center = &config.message_center;
    let is_both = |listener: &&Listener| {
        [Protocol::MessageCenter, Protocol::Wamp].into_iter().all(|protocol| speaks(listener, protocol))
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
    listener.endpoints.values().any(|spoken| *spoken == protocol)
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
            Ok(read) if read.needs_login() && login_hooks(config).next().is_none() => {
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

    fn realm(&mut self, config: &Config) {
        let name = &config.message_center.realm;
        if let Some(realm) = config.realm.iter().find(|realm| realm.name == *name)
            && login_hooks(config).next().is_none()
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
