//! `[[bridge]]` and `[resp]`: what they read, and what must not be started.

mod schema;

use std::path::{Path, PathBuf};

use fanwire_codec::resp::Glob;
use fanwire_control::bridge::{Direction, Form, Names, Route, Routes};
use fanwire_control::resp::Password;
use fanwire_core::uri::{MatchPolicy, UriRule, check_pattern};

use super::load::Origins;
use super::problem::Problem;
use super::roles;
use super::schema::{Config, NO_FILE};
use super::units::{Count, Size};
use super::users::resolve;
pub use schema::{Bridge, BridgeDirection, BridgeMap, BridgePayload, Resp};

/// A bridge whose texts were read.
#[derive(Clone, Debug)]
pub struct ReadBridge {
    /// What goes where.
    pub routes: Routes,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// The file with the authorities of Redis's certificate.
    pub ca_file: Option<PathBuf>,
}

/// What came of a configuration.
#[derive(Debug, Default)]
pub struct Gathered {
    /// In the order of the configuration.
    pub bridges: Vec<ReadBridge>,
    /// What clients of the Redis port must say.
    pub password: Option<Password>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What should not stay as it is, though it can be started.
    pub warnings: Vec<String>,
}

/// Reads and checks bridges and the Redis port.
pub fn gather(config: &Config, origins: &Origins) -> Gathered {
    let mut gathered = examine(config, origins);
    if config.resp.bind.0.is_some()
        && let Some(file) = config.resp.password_file()
    {
        match read_password(&resolve(&origins.place(PASSWORD_FILE), file)) {
            Ok(password) => gathered.password = Some(password),
            Err(wrong) => gathered.problems.push(Problem {
                place: origins.place(PASSWORD_FILE),
                key: Some(PASSWORD_FILE.to_owned()),
                wrong,
                help: vec!["name a file with the password, or \"none\"".to_owned()],
            }),
        }
    }
    gathered
}

/// What is wrong, as far as it can be seen without reading a file.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    examine(config, origins).problems
}

const PASSWORD_FILE: &str = "resp.password_file";

fn read_password(path: &Path) -> Result<Password, String> {
    let shown = path.display();
    match std::fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Err(format!("{shown} is empty")),
        Ok(bytes) => Ok(Password::from_file(&bytes)),
        Err(error) => Err(format!("cannot read {shown}: {error}")),
    }
}

fn examine(config: &Config, origins: &Origins) -> Gathered {
    let mut checker = Checker { origins, gathered: Gathered::default() };
    for index in 0..config.bridge.len() {
        checker.bridge(config, index);
    }
    if config.bridge.len() > BRIDGES_MAX {
        let help = vec!["one bridge can have many channels".to_owned()];
        checker.refuse(
            "bridge",
            format!("{} bridges are more than {BRIDGES_MAX}", config.bridge.len()),
            help,
        );
    }
    checker.resp(config);
    checker.gathered
}

/// Each has a connection, two queues and lines of metrics.
const BRIDGES_MAX: usize = 64;
/// A topic of a session; a bridge may have as many.
const MAPS_MAX: usize = 1_024;

/// Whether what the one brings in goes out to the same channel by the other. Two patterns are taken for it if they may begin alike.
fn is_circle(inward: &BridgeMap, outward: &BridgeMap) -> bool {
    let topic = |entry: &BridgeMap| match entry.topic.is_empty() {
        true => entry.channel.clone(),
        false => entry.topic.clone(),
    };
    let matches = |pattern: &str, name: &str| {
        Glob::new(pattern.as_bytes()).is_ok_and(|glob| glob.matches(name.as_bytes()))
    };
    let prefix =
        |pattern: &str| Glob::new(pattern.as_bytes()).map(|glob| glob.literal_prefix()).unwrap_or_default();
    match (inward.pattern.as_str(), outward.pattern.as_str()) {
        ("", "") => inward.channel == outward.channel && topic(inward) == topic(outward),
        ("", pattern) => topic(inward) == inward.channel && matches(pattern, &inward.channel),
        (pattern, "") => topic(outward) == outward.channel && matches(pattern, &outward.channel),
        (one, other) => {
            let (one, other) = (prefix(one), prefix(other));
            one.starts_with(&other) || other.starts_with(&one)
        }
    }
}

struct Checker<'a> {
    origins: &'a Origins,
    gathered: Gathered,
}

impl Checker<'_> {
    fn bridge(&mut self, config: &Config, index: usize) {
        let bridge = &config.bridge[index];
        let at = |part: &str| format!("bridge.{index}.{part}");
        if bridge.name.trim().is_empty() || bridge.name.chars().any(char::is_control) {
            let wrong = format!("{:?} is no name", bridge.name);
            self.refuse(&at("name"), wrong, vec!["allowed: any word".into()]);
        } else if config.bridge[..index].iter().any(|other| other.name == bridge.name) {
            let wrong = format!("there is a bridge {:?} already", bridge.name);
            self.refuse(&at("name"), wrong, vec!["give each its own name".into()]);
        }
        self.url(bridge, &at);
        self.circle(config, index);
        self.role(config, &bridge.realm, &bridge.role, &at);
        self.within(&at("queue_messages"), &bridge.queue_messages, (Count(1), Count(1 << 20)));
        self.within(&at("queue"), &bridge.queue, (Size(1 << 10), Size(1 << 30)));
        if let Some(topic) = bridge.notices()
            && let Err(wrong) = check_pattern(topic, MatchPolicy::Exact, UriRule::Loose)
        {
            self.refuse(
                &at("notices"),
                format!("{topic:?}: {wrong}"),
                vec!["allowed: a topic, or \"none\"".into()],
            );
        }
        let routes = self.map(bridge, &at);
        let file = |part: &str, named: &str| {
            (named != NO_FILE).then(|| resolve(&self.origins.place(&at(part)), named))
        };
        let password_file = file("password_file", &bridge.password_file);
        let ca_file = file("ca_file", &bridge.ca_file);
        self.gathered.bridges.push(ReadBridge { routes, password_file, ca_file });
    }

    /// A message that one bridge brings in and another one takes out, to where it came from, goes round for ever.
    fn circle(&mut self, config: &Config, index: usize) {
        let bridge = &config.bridge[index];
        let carries = |from: &Bridge, to: &Bridge| {
            let comes_in = from.map.iter().filter(|entry| entry.direction != BridgeDirection::Out);
            comes_in.clone().any(|entry| {
                let mut out = to.map.iter().filter(|other| other.direction != BridgeDirection::In);
                out.any(|other| is_circle(entry, other))
            })
        };
        let before = config.bridge[..index].iter().filter(|other| other.url == bridge.url);
        for other in before {
            if carries(bridge, other) || carries(other, bridge) {
                let wrong = format!(
                    "what the bridge {:?} brings in from this Redis goes back there by this one, or the other way round",
                    other.name
                );
                let help = vec!["let one bridge carry such channels: direction = \"both\"".to_owned()];
                self.refuse(&format!("bridge.{index}.map"), wrong, help);
            }
        }
    }

    fn url(&mut self, bridge: &Bridge, at: &dyn Fn(&str) -> String) {
        let help = || {
            vec![
                "allowed: such as \"redis://127.0.0.1:6379\", \"rediss://redis.example.org\" (TLS), \
                  \"redis+unix:///run/redis.sock\""
                    .to_owned(),
            ]
        };
        let rest = ["redis://", "rediss://", "redis+unix://"]
            .into_iter()
            .find_map(|scheme| bridge.url.strip_prefix(scheme));
        match rest {
            None | Some("") => {
                self.refuse(&at("url"), format!("{:?} is no address of a Redis", bridge.url), help())
            }
            Some(rest) if rest.contains('@') || rest.contains("pass=") => {
                let help =
                    vec!["put the password into a file: password_file, and the user into user".to_owned()];
                self.refuse(&at("url"), "a URL is shown in logs, and must have no password".to_owned(), help);
            }
            Some(_) => {
                if bridge.ca_file != NO_FILE && !bridge.url.starts_with("rediss://") {
                    let help = vec!["write rediss:// for TLS, or leave ca_file out".to_owned()];
                    self.refuse(&at("ca_file"), "this bridge speaks no TLS".to_owned(), help);
                }
            }
        }
    }

    fn role(&mut self, config: &Config, realm: &str, role: &str, at: &dyn Fn(&str) -> String) {
        if let Some((part, wrong, help)) = roles::missing(config, realm, role) {
            self.refuse(&at(part), wrong, help);
        }
    }

    fn map(&mut self, bridge: &Bridge, at: &dyn Fn(&str) -> String) -> Routes {
        if bridge.map.is_empty() {
            let help = vec!["add: map = [{ channel = \"channel\" }]".to_owned()];
            self.refuse(&at("map"), "the bridge carries nothing".to_owned(), help);
        } else if bridge.map.len() > MAPS_MAX {
            let help = vec!["use patterns, or several bridges".to_owned()];
            self.refuse(&at("map"), format!("{} entries are more than {MAPS_MAX}", bridge.map.len()), help);
        }
        let mut routes: Vec<Route> = Vec::new();
        for (nth, entry) in bridge.map.iter().enumerate() {
            let key = at(&format!("map.{nth}"));
            if let Some(names) = self.names(&key, entry) {
                self.twice(&key, &names, &routes);
                let direction = match entry.direction {
                    BridgeDirection::In => Direction::In,
                    BridgeDirection::Out => Direction::Out,
                    BridgeDirection::Both => Direction::Both,
                };
                let form = match entry.payload {
                    BridgePayload::Text => Form::Plain,
                    BridgePayload::Json => Form::Json,
                };
                routes.push(Route { names, direction, form });
            }
        }
        Routes(routes)
    }

    fn names(&mut self, key: &str, entry: &BridgeMap) -> Option<Names> {
        let BridgeMap { channel, pattern, topic, .. } = entry;
        match (channel.is_empty(), pattern.is_empty()) {
            (false, true) => {
                let topic = if topic.is_empty() { channel } else { topic };
                if let Err(wrong) = check_pattern(topic, MatchPolicy::Exact, UriRule::Loose) {
                    let help = vec!["name a topic: topic = \"…\"".to_owned()];
                    self.refuse(&format!("{key}.topic"), format!("{topic:?}: {wrong}"), help);
                    return None;
                }
                Some(Names::One { channel: channel.clone(), topic: topic.clone() })
            }
            (true, false) if topic.is_empty() => {
                let glob = Glob::new(pattern.as_bytes()).map_err(|wrong| wrong.to_string());
                let checked = glob.and_then(|glob| {
                    let prefix =
                        String::from_utf8(glob.literal_prefix()).map_err(|_| "is no UTF-8".to_owned())?;
                    check_pattern(&prefix, MatchPolicy::Prefix, UriRule::Loose)
                        .map_err(|wrong| wrong.to_string())?;
                    Ok(glob)
                });
                match checked {
                    Ok(glob) => Some(Names::Pattern { text: pattern.clone(), glob }),
                    Err(wrong) => {
                        let help = vec![
                            "allowed: a pattern of Redis's that topics can match, such as \"news.*\"".into(),
                        ];
                        self.refuse(&format!("{key}.pattern"), format!("{pattern:?}: {wrong}"), help);
                        None
                    }
                }
            }
            (true, false) => {
                let help = vec!["leave topic out, or name one channel".to_owned()];
                let wrong = "what a pattern matches keeps its name here".to_owned();
                self.refuse(&format!("{key}.topic"), wrong, help);
                None
            }
            _ => {
                let help = vec!["write { channel = \"…\" } or { pattern = \"…\" }".to_owned()];
                self.refuse(key, "it needs a channel or a pattern, and not both".to_owned(), help);
                None
            }
        }
    }

    /// Two routes of one channel, or of one topic, would deliver each message twice.
    fn twice(&mut self, key: &str, names: &Names, before: &[Route]) {
        let is_same = |route: &&Route| match (&route.names, names) {
            (Names::One { channel, topic }, Names::One { channel: c, topic: t }) => {
                channel == c || topic == t
            }
            (Names::Pattern { text, .. }, Names::Pattern { text: t, .. }) => text == t,
            _ => false,
        };
        if before.iter().any(|route| is_same(&route)) {
            let help = vec!["keep one; direction = \"both\" carries messages both ways".to_owned()];
            self.refuse(key, "an earlier entry has the same channel or topic".to_owned(), help);
        }
    }

    fn resp(&mut self, config: &Config) {
        let resp = &config.resp;
        let at = |part: &str| format!("resp.{part}");
        let Some(bind) = &resp.bind.0 else { return };
        self.role(config, &resp.realm, &resp.role, &at);
        self.within(&at("connections"), &resp.connections, (Count(1), Count(65_536)));
        self.within(&at("command"), &resp.command, (Size(1 << 10), Size(512 << 20)));
        self.within(&at("outbox"), &resp.outbox, (Size(1 << 10), Size(1 << 30)));
        self.within(&at("outbox_messages"), &resp.outbox_messages, (Count(1), Count(1 << 20)));
        if resp.password_file().is_none() && !bind.is_loopback() {
            let wrong = format!("other machines can reach {bind}, and the Redis port there has no password");
            let help = vec!["name a file with one: password_file = \"…\", or bind to 127.0.0.1".to_owned()];
            self.refuse(&at("bind"), wrong, help);
        }
        if !bind.is_loopback() && resp.password_file().is_some() {
            let words =
                format!("clients of the Redis port {bind} send their password as it is: it has no TLS yet");
            self.gathered.warnings.push(words);
        }
        let admin = config.admin.bind.0.iter().map(|bind| ("admin.bind".to_owned(), bind.0));
        let listeners =
            config.listener.iter().enumerate().filter_map(|(index, listener)| {
                Some((format!("listener.{index}.bind"), listener.bind.ip()?))
            });
        let taken = admin.chain(listeners).find(|(_, other)| *other == bind.0 && bind.0.port() != 0);
        if let Some((other, _)) = taken {
            self.refuse(
                &at("bind"),
                format!("{bind} is the address of {other} too"),
                vec!["give each its own".into()],
            );
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: &T, (least, most): (T, T)) {
        if *value < least || *value > most {
            let help = vec![format!("allowed: {least} to {most}")];
            self.refuse(key, format!("{value} is out of range"), help);
        }
    }

    fn refuse(&mut self, key: &str, wrong: String, help: Vec<String>) {
        let problem = Problem { place: self.origins.place(key), key: Some(key.to_owned()), wrong, help };
        self.gathered.problems.push(problem);
    }
}
