//! `[[hook]]`: addresses and headers, ready to be used, and what must not be started.

use std::time::Duration;

use fanwire_control::hooks::{FIELDS, HeaderName, HeaderValue, HookUrl};
use fanwire_core::access::{Access, Action};
use fanwire_core::login::LoginMethod;
use fanwire_core::uri::{UriRule, check_pattern, check_topic};

use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{self, Config, Hook, HookBody, HookEvent, Match, NO_ROLE, OnFailure, Realm, Role};
use super::units::{Count, Time};
use crate::wiring;

/// A hook whose texts were read.
#[derive(Clone, Debug)]
pub struct ReadHook {
    /// Where it is; `None`: it is a procedure.
    pub url: Option<HookUrl>,
    /// Sent with each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What came of a configuration.
#[derive(Debug, Default)]
pub struct Gathered {
    /// In the order of the configuration.
    pub hooks: Vec<ReadHook>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What should not stay as it is, though it can be started.
    pub warnings: Vec<String>,
}

/// Reads and checks all hooks.
pub fn gather(config: &Config, origins: &Origins) -> Gathered {
    let mut checker = Checker { origins, gathered: Gathered::default() };
    for index in 0..config.hook.len() {
        checker.hook(config, index);
    }
    if config.hook.len() > HOOKS_MAX {
        let help = vec!["one hook can be for several events and realms".to_owned()];
        checker.refuse("hook", format!("{} hooks are more than {HOOKS_MAX}", config.hook.len()), help);
    }
    checker.gathered
}

/// What a procedure can be asked about.
const ASKED_BY_CALL: [HookEvent; 5] =
    [HookEvent::Authenticate, HookEvent::Subscribe, HookEvent::Publish, HookEvent::Call, HookEvent::Register];

/// Each has a queue, and lines of metrics.
const HOOKS_MAX: usize = 64;

struct Checker<'a> {
    origins: &'a Origins,
    gathered: Gathered,
}

impl Checker<'_> {
    fn hook(&mut self, config: &Config, index: usize) {
        let hook = &config.hook[index];
        let at = |part: &str| format!("hook.{index}.{part}");
        if hook.name.trim().is_empty() || hook.name.chars().any(char::is_control) {
            self.refuse(&at("name"), format!("{:?} is no name", hook.name), vec!["allowed: any word".into()]);
        } else if config.hook[..index].iter().any(|other| other.name == hook.name) {
            let wrong = format!("there is a hook {:?} already", hook.name);
            self.refuse(&at("name"), wrong, vec!["give each its own name".into()]);
        }
        if hook.events.is_empty() {
            let all = "\"connect\", \"authenticate\", \"subscribe\", \"publish\", \"call\", \"register\", \"disconnect\"";
            self.refuse(&at("events"), "it is asked nothing".into(), vec![format!("allowed: some of {all}")]);
        }
        self.limits(hook, &at);
        self.topics(hook, &at);
        self.realms(config, hook, &at);
        for (nth, name) in hook.fields.iter().enumerate().filter(|(_, name)| !FIELDS.contains(&name.as_str()))
        {
            let help = vec![format!("allowed: some of {}", FIELDS.join(", "))];
            self.refuse(&at(&format!("fields.{nth}")), format!("{name:?} is told by no question"), help);
        }
        let headers = self.headers(hook, index);
        self.warn(config, hook);
        if !hook.procedure.is_empty() {
            self.procedure(config, hook, &at);
            self.gathered.hooks.push(ReadHook { url: None, headers });
            return;
        }
        if !hook.methods.is_empty() || !hook.procedure_realm.is_empty() {
            let help = vec!["name a procedure, or leave them out".to_owned()];
            self.refuse(&at("methods"), "methods and procedure_realm are for procedures".to_owned(), help);
        }
        match hook.url.parse::<HookUrl>() {
            Ok(url) => {
                self.warn_of_url(hook, &url);
                self.gathered.hooks.push(ReadHook { url: Some(url), headers });
            }
            Err(wrong) => {
                let help = vec!["allowed: such as \"http://127.0.0.1:8000/fanwire\"".to_owned()];
                self.refuse(&at("url"), wrong, help);
            }
        }
    }

    /// What a procedure must be like.
    fn procedure(&mut self, config: &Config, hook: &Hook, at: &dyn Fn(&str) -> String) {
        let mut refuse = |part: &str, wrong: String, help: &str| {
            self.refuse(&at(part), wrong, vec![help.to_owned()]);
        };
        if !hook.url.is_empty() {
            refuse("url", "it has a procedure, too".to_owned(), "keep one of the two");
        }
        let is_plain = hook.headers.is_empty() && hook.fields.is_empty() && hook.body == HookBody::Json;
        if !is_plain {
            refuse(
                "headers",
                "a procedure is asked without HTTP".to_owned(),
                "leave out body, fields and headers",
            );
        }
        if hook.on_failure == OnFailure::Allow {
            refuse("on_failure", "what a procedure does not answer is denied".to_owned(), "leave it out");
        }
        for event in hook.events.iter().filter(|event| !ASKED_BY_CALL.contains(event)) {
            let event = wiring::hook_event(*event);
            refuse(
                "events",
                format!("no procedure is asked about {event}"),
                "allowed: authenticate, subscribe, publish, call, register",
            );
        }
        for (nth, name) in hook.methods.iter().enumerate() {
            // What is remembered by a cookie was decided on before.
            let is_known = |method: &&LoginMethod| **method != LoginMethod::Cookie;
            if LoginMethod::from_name(name).as_ref().filter(is_known).is_none() {
                let known: Vec<_> =
                    LoginMethod::ALL.iter().filter(is_known).map(|method| method.name()).collect();
                let help = format!("allowed: some of {}", known.join(", "));
                refuse(&format!("methods.{nth}"), format!("{name:?} is no method"), &help);
            }
        }
        let Some(name) = hook.procedure_realm(config) else {
            return refuse(
                "procedure_realm",
                "there are several realms".to_owned(),
                "name the one where it is registered",
            );
        };
        let Some(realm) = config.realm.iter().find(|realm| realm.name == name) else {
            return refuse(
                "procedure_realm",
                format!("there is no realm {name:?}"),
                "name one of the configuration's",
            );
        };
        // What else is wrong with the realm is told elsewhere.
        let Ok(access) = Access::new(&[wiring::realm(config, realm, &[])], 0) else { return };
        let id = access.realm(name).expect("it is the only one");
        let may = |role: &Role| {
            let role = access.role(id, &role.name).expect("it is one of the realm's");
            access.authorize(id, role, Action::Register, &hook.procedure)
        };
        // A wide rule gives the right to answer along with others, to whoever did not mean to.
        let by_name = |role: &Role| {
            role.permission.iter().any(|rule| {
                rule.match_policy == Match::Exact
                    && rule.uri == hook.procedure
                    && rule.allow.contains(&schema::Action::Register)
            })
        };
        let is_meant = |realm: &&Realm| hook.realms.is_empty() || hook.realms.contains(&realm.name);
        if check_topic(&hook.procedure, UriRule::Loose).is_err() {
            refuse(
                "procedure",
                format!("{:?} is no URI", hook.procedure),
                "allowed: such as \"com.shop.authenticate\"",
            );
        } else if !realm.role.iter().any(may) {
            let wrong = format!("no role of realm {name:?} may register {}", hook.procedure);
            refuse("procedure", wrong, "allow it to the role of the program that answers");
        } else if realm.anonymous().is_some_and(may) {
            let wrong = format!("anonymous clients of realm {name:?} may register {}", hook.procedure);
            let help = "keep it from their role, or anybody can decide; or set anonymous_role = \"none\"";
            refuse("procedure", wrong, help);
        } else if let Some(role) = realm.role.iter().find(|role| may(role) && !by_name(role)) {
            let wrong = format!(
                "role {:?} of realm {name:?} may register {} by a rule about more than that: it could decide itself, and is never asked about",
                role.name, hook.procedure
            );
            let help = "deny it to that role by an exact rule, and allow it by one to the role of the program that answers";
            refuse("procedure", wrong, help);
        } else if is_meant(&realm)
            && let Some(role) = realm.role.iter().find(|role| may(role) && hook.roles.contains(&role.name))
        {
            let wrong =
                format!("role {:?} may register {}, so it is never asked about", role.name, hook.procedure);
            refuse("roles", wrong, "leave it out of roles, or take that permission from it");
        }
        let decides = hook.events.contains(&HookEvent::Authenticate);
        if decides && is_meant(&realm) && realm.user.is_empty() && realm.users_file().is_none() {
            let wrong =
                format!("nobody can log in to realm {name:?} before somebody answers, and nobody can answer");
            let help = "give the realm a user for the program that answers, or let that be in another realm";
            refuse("procedure_realm", wrong, help);
        }
        if decides && hook.methods.iter().any(|method| method == LoginMethod::Anonymous.name()) {
            for realm in config.realm.iter().filter(is_meant).filter(|realm| realm.anonymous().is_some()) {
                let wrong = format!(
                    "realm {:?} has an anonymous_role, which others than WAMP's clients get unasked",
                    realm.name
                );
                refuse("methods", wrong, "set the realm's anonymous_role = \"none\"");
            }
        }
    }

    fn limits(&mut self, hook: &Hook, at: &dyn Fn(&str) -> String) {
        // A question waits twice as long at most, and a session that waits is not listened to.
        let timeout = (Time(Duration::from_millis(10)), Time::seconds(10));
        self.within(at("timeout"), &hook.timeout, timeout);
        self.within(at("max_in_flight"), &hook.max_in_flight, (Count(1), Count(65_536)));
        self.within(at("queue"), &hook.queue, (Count(1), Count(1 << 20)));
        self.within(at("cache"), &hook.cache, (Time::seconds(0), Time::seconds(24 * 3_600)));
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, key: String, value: &T, (least, most): (T, T)) {
        if *value < least || *value > most {
            let help = vec![format!("allowed: {least} to {most}")];
            self.refuse(&key, format!("{value} is out of range"), help);
        }
    }

    fn topics(&mut self, hook: &Hook, at: &dyn Fn(&str) -> String) {
        let policy = wiring::match_policy(hook.match_policy);
        if let Err(wrong) = check_pattern(&hook.uri, policy, UriRule::Version1) {
            let help =
                vec!["allowed: \"a.b.c\" (exact), \"a.b.\" or \"\" (prefix), \"a..c\" (wildcard)".into()];
            self.refuse(&at("uri"), format!("{:?}: {wrong}", hook.uri), help);
        }
    }

    fn realms(&mut self, config: &Config, hook: &Hook, at: &dyn Fn(&str) -> String) {
        let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
        for (nth, name) in hook.realms.iter().enumerate().filter(|(_, name)| !names.contains(&name.as_str()))
        {
            let near = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let mut help: Vec<String> = near.into_iter().collect();
            help.push(format!("realms: {}", names.join(", ")));
            self.refuse(&at(&format!("realms.{nth}")), format!("there is no realm {name:?}"), help);
        }
        let is_meant = |name: &String| hook.realms.is_empty() || hook.realms.contains(name);
        let meant = config.realm.iter().filter(|realm| is_meant(&realm.name));
        let roles: Vec<&str> = meant.flat_map(|realm| &realm.role).map(|role| role.name.as_str()).collect();
        for (nth, name) in hook.roles.iter().enumerate().filter(|(_, name)| !roles.contains(&name.as_str())) {
            let near = nearest(name, &roles).map(|near| format!("did you mean {near}?"));
            let help = near.into_iter().chain([format!("roles: {}", roles.join(", "))]).collect();
            self.refuse(
                &at(&format!("roles.{nth}")),
                format!("no realm of the hook has a role {name:?}"),
                help,
            );
        }
        if !hook.events.contains(&HookEvent::Authenticate) {
            return;
        }
        for realm in config.realm.iter().filter(|realm| is_meant(&realm.name)) {
            // A procedure is asked about those who are not in there.
            if hook.procedure.is_empty() && (!realm.user.is_empty() || realm.users_file().is_some()) {
                let wrong = format!(
                    "realm {:?} has users of its own; the hook would never leave it to them",
                    realm.name
                );
                let help = vec!["name the realms that it is for, or remove the realm's users".to_owned()];
                self.refuse(&at("events"), wrong, help);
            }
            if hook.role != NO_ROLE && !realm.role.iter().any(|role| role.name == hook.role) {
                let roles: Vec<&str> = realm.role.iter().map(|role| role.name.as_str()).collect();
                let near = nearest(&hook.role, &roles).map(|near| format!("did you mean {near}?"));
                let mut help: Vec<String> = near.into_iter().collect();
                help.push(format!("roles of realm {:?}: {}", realm.name, roles.join(", ")));
                self.refuse(&at("role"), format!("realm {:?} has no role {:?}", realm.name, hook.role), help);
            }
        }
    }

    fn headers(&mut self, hook: &Hook, index: usize) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in &hook.headers {
            let key = format!("hook.{index}.headers.{name}");
            let own = ["content-length", "content-type", "transfer-encoding", "connection", "host"];
            match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                (Ok(parsed), _) if own.contains(&parsed.as_str()) => {
                    let help = vec!["leave it out".to_owned()];
                    self.refuse(
                        &key,
                        format!("{name} says how the request is sent, which is not to be chosen"),
                        help,
                    );
                }
                (Ok(name), Ok(mut value)) => {
                    // Never printed with the rest of a hook.
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                (Err(_), _) => self.refuse(
                    &key,
                    format!("{name:?} is no name of a header"),
                    vec!["allowed: such as \"x-key\"".into()],
                ),
                (_, Err(_)) => {
                    let help = vec!["allowed: visible characters and spaces".to_owned()];
                    self.refuse(&key, "the value cannot stand in a header".to_owned(), help);
                }
            }
        }
        headers
    }

    fn warn(&mut self, config: &Config, hook: &Hook) {
        // Each waits for its turn and for its reply.
        let questions =
            [HookEvent::Authenticate, HookEvent::Connect].iter().filter(|&event| hook.events.contains(event));
        let (longest, login) = (hook.timeout.0 * 2 * questions.count() as u32, config.limits.login_time.0);
        if longest > login {
            let words = format!(
                "hook {:?}: a login may wait for it for {}, but is given up after limits.login_time = {}: a shorter \
                 timeout leaves time for the client to be told why",
                hook.name,
                Time(longest),
                config.limits.login_time
            );
            self.gathered.warnings.push(words);
        }
        if hook.body == HookBody::Header && hook.payload && hook.events.contains(&HookEvent::Publish) {
            let words = format!(
                "hook {:?}: it is asked by headers, which tell no payloads: write payload = false, or another body",
                hook.name
            );
            self.gathered.warnings.push(words);
        }
        if hook.on_failure == OnFailure::Allow {
            let words = format!(
                "hook {:?}: while it fails, everything that it would decide on is allowed",
                hook.name
            );
            self.gathered.warnings.push(words);
        }
    }

    fn warn_of_url(&mut self, hook: &Hook, url: &HookUrl) {
        if hook.events.contains(&HookEvent::Authenticate) && !url.is_tls() && !url.is_local() {
            let words =
                format!("hook {:?}: tickets cross the network as they are to {url}: use https", hook.name);
            self.gathered.warnings.push(words);
        }
    }

    fn refuse(&mut self, key: &str, wrong: String, help: Vec<String>) {
        let problem = Problem { place: self.origins.place(key), key: Some(key.to_owned()), wrong, help };
        self.gathered.problems.push(problem);
    }
}
