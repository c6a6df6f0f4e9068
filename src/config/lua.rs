//! `[[lua]]`: scripts that decide on what happens to the connections of an endpoint.

use std::collections::BTreeMap;

use fanwire_control::lua::{LuaLimits, Script};
use fanwire_io::Router;
use serde::{Deserialize, Serialize};

use super::center::OnError;
use super::describe::described;
use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{Config, Endpoint, Protocol};
use super::units::{Auto, Count, Size, Time};
use super::users::resolve;

described! {
    /// A script that decides on what happens to the connections of an endpoint.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Lua {
        /// The path that a listener's `endpoints` have as `lua`, such as `"/chat"`. It is also the handler's name in metrics and in the log.
        #[acts(restart)]
        pub path: String,
        /// The script. A relative path begins at the folder of the file that names it.
        ///
        /// It is read again when it or a module that it requires was changed, and with each [reload](operators.md#reload); one that cannot be used
        /// is refused, with the line, and the one before stays.
        #[acts(restart)]
        pub file: String,
        /// The realm in which its clients are.
        #[acts(restart)]
        #[serde(default = "Lua::default_realm")]
        pub realm: String,
        /// The role whose permissions its clients' subscriptions and its publications need.
        #[acts(restart)]
        #[serde(default = "Lua::default_role")]
        pub role: String,
        /// What becomes of a connection over which the script fails: `close` (1011) or `keep`.
        #[acts(restart)]
        #[serde(default = "Lua::default_on_error")]
        pub on_error: OnError,
        /// Threads, each with a Lua state of its own; a connection stays with one. `auto`: one for each shard, 4 at most.
        #[acts(restart)]
        #[serde(default = "Lua::default_threads")]
        pub threads: Auto<Count>,
        /// Lua instructions of one event, such as a message; an event that needs more fails.
        ///
        /// Other connections of the thread wait meanwhile.
        #[acts(restart)]
        #[serde(default = "Lua::default_instructions")]
        pub instructions: Count,
        /// Memory of one Lua state. An event that finds none fails; if that does not help, the state is made anew.
        #[acts(restart)]
        #[serde(default = "Lua::default_memory")]
        pub memory: Size,
        /// How long one event may take, with all that it waits for.
        #[acts(restart)]
        #[serde(default = "Lua::default_time")]
        pub time: Time,
        /// Events of one thread that wait or are under way; a connection beyond that is closed with 1013.
        #[acts(restart)]
        #[serde(default = "Lua::default_events")]
        pub events: Count,
        /// Requests of `mix.http.request` at once, of all threads; further ones fail at once.
        #[acts(restart)]
        #[serde(default = "Lua::default_http_in_flight")]
        pub http_in_flight: Count,
        /// How long such a request may take; a script can ask for less.
        #[acts(restart)]
        #[serde(default = "Lua::default_http_timeout")]
        pub http_timeout: Time,
        /// What the script finds with `mix.server.option(name)`: `{ auth_url = "http://127.0.0.1:8000/websocket_auth" }`.
        #[acts(restart)]
        #[serde(default)]
        pub options: BTreeMap<String, String>,
    }
}

impl Lua {
    fn default_realm() -> String {
        "realm1".to_owned()
    }

    fn default_role() -> String {
        "anonymous".to_owned()
    }

    fn default_on_error() -> OnError {
        OnError::Close
    }

    fn default_threads() -> Auto<Count> {
        Auto::Auto
    }

    fn default_instructions() -> Count {
        Count(LuaLimits::default().instructions as u32)
    }

    fn default_memory() -> Size {
        Size(LuaLimits::default().memory as u64)
    }

    fn default_time() -> Time {
        Time(LuaLimits::default().time)
    }

    fn default_events() -> Count {
        Count(LuaLimits::default().events_max as u32)
    }

    fn default_http_in_flight() -> Count {
        Count(LuaLimits::default().http_max as u32)
    }

    fn default_http_timeout() -> Time {
        Time(LuaLimits::default().http_timeout)
    }

    /// One with everything at its default.
    pub fn at(path: &str, file: &str) -> Self {
        Self {
            path: path.to_owned(),
            file: file.to_owned(),
            realm: Self::default_realm(),
            role: Self::default_role(),
            on_error: Self::default_on_error(),
            threads: Self::default_threads(),
            instructions: Self::default_instructions(),
            memory: Self::default_memory(),
            time: Self::default_time(),
            events: Self::default_events(),
            http_in_flight: Self::default_http_in_flight(),
            http_timeout: Self::default_http_timeout(),
            options: BTreeMap::new(),
        }
    }

    /// As the handler's threads want it.
    pub fn limits(&self, shards: usize) -> LuaLimits {
        LuaLimits {
            threads: self.threads.given().map_or(shards.clamp(1, THREADS_MAX_AUTO), |count| count.0 as usize),
            instructions: self.instructions.0.into(),
            memory: usize::try_from(self.memory.0).unwrap_or(usize::MAX),
            time: self.time.0,
            events_max: self.events.0 as usize,
            http_max: self.http_in_flight.0.into(),
            http_timeout: self.http_timeout.0,
        }
    }
}

/// What scripts do is little beside what shards do.
const THREADS_MAX_AUTO: usize = 4;

/// What came of a configuration.
#[derive(Debug, Default)]
pub struct Gathered {
    /// In the order of the configuration.
    pub scripts: Vec<Script>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Reads and checks all scripts.
pub fn gather(config: &Config, origins: &Origins) -> Gathered {
    let mut gathered = Gathered { scripts: Vec::new(), problems: check(config, origins) };
    for (index, lua) in config.lua.iter().enumerate() {
        let key = format!("lua.{index}.file");
        let place = origins.place(&key);
        match Script::read(&resolve(&place, &lua.file), &lua.limits(1), &lua.options) {
            Ok(script) => gathered.scripts.push(script),
            Err(error) => {
                let help = vec!["docs/lua.md has an example to begin with".to_owned()];
                gathered.problems.push(Problem { place, key: Some(key), wrong: error.to_string(), help });
            }
        }
    }
    gathered
}

/// All that is wrong with it beside the scripts.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut checker = Checker { origins, problems: Vec::new() };
    let is_handled = |endpoint: &Endpoint| endpoint.protocol == Protocol::Lua;
    for (index, lua) in config.lua.iter().enumerate() {
        checker.handler(config, index, lua);
    }
    if config.lua.len() > usize::from(Router::HANDLERS_MAX) {
        let help = format!("allowed: {} at most", Router::HANDLERS_MAX);
        checker.refuse("lua", format!("there are {} handlers", config.lua.len()), [help]);
    }
    for (index, listener) in config.listener.iter().enumerate() {
        for (path, _) in listener.endpoints.iter().filter(|(_, endpoint)| is_handled(endpoint)) {
            if !config.lua.iter().any(|lua| lua.path == *path) {
                let help = format!("add: [[lua]] with path = {path:?} and file = \"handler.lua\"");
                let key = format!("listener.{index}.endpoints.{path}");
                checker.refuse(&key, format!("there is no [[lua]] whose path is {path:?}"), [help]);
            }
        }
    }
    checker.problems
}

struct Checker<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn handler(&mut self, config: &Config, index: usize, lua: &Lua) {
        let at = |part: &str| format!("lua.{index}.{part}");
        if config.lua[..index].iter().any(|other| other.path == lua.path) {
            let wrong = format!("there is a handler of {:?} already", lua.path);
            self.refuse(&at("path"), wrong, ["give each its own path".into()]);
        }
        let is_served = |endpoint: Option<&Endpoint>| endpoint.is_some_and(|it| it.protocol == Protocol::Lua);
        if !config.listener.iter().any(|listener| is_served(listener.endpoints.get(&lua.path))) {
            let help = format!("add to a listener: endpoints = {{ {:?} = \"lua\" }}", lua.path);
            self.refuse(
                &at("path"),
                format!("no listener has {:?} as an endpoint for Lua", lua.path),
                [help],
            );
        }
        self.role(config, lua, &at);
        self.within(&at("threads"), lua.threads.given(), (&Count(1), &Count(64)));
        self.within(&at("instructions"), Some(&lua.instructions), (&Count(10_000), &Count(1_000_000_000)));
        self.within(&at("memory"), Some(&lua.memory), (&Size(1 << 20), &Size(4 << 30)));
        self.within(
            &at("time"),
            Some(&lua.time),
            (&Time(std::time::Duration::from_millis(10)), &Time::seconds(20)),
        );
        self.within(&at("events"), Some(&lua.events), (&Count(1), &Count(1 << 20)));
        self.within(&at("http_in_flight"), Some(&lua.http_in_flight), (&Count(1), &Count(65_536)));
        let times = (&Time(std::time::Duration::from_millis(10)), &Time::seconds(20));
        self.within(&at("http_timeout"), Some(&lua.http_timeout), times);
    }

    fn role(&mut self, config: &Config, lua: &Lua, at: &dyn Fn(&str) -> String) {
        let Some(realm) = config.realm.iter().find(|realm| realm.name == lua.realm) else {
            let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
            let near = nearest(&lua.realm, &names).map(|near| format!("did you mean {near}?"));
            let help = near.into_iter().chain([format!("realms: {}", names.join(", "))]);
            return self.refuse(&at("realm"), format!("there is no realm {:?}", lua.realm), help);
        };
        if !realm.role.iter().any(|role| role.name == lua.role) {
            let names: Vec<&str> = realm.role.iter().map(|role| role.name.as_str()).collect();
            let help = format!("roles of realm {:?}: {}", realm.name, names.join(", "));
            let wrong = format!("realm {:?} has no role {:?}", realm.name, lua.role);
            self.refuse(&at("role"), wrong, [help]);
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: Option<&T>,
        (least, most): (&T, &T),
    ) {
        if let Some(value) = value.filter(|&value| value < least || value > most) {
            self.refuse(key, format!("{value} is out of range"), [format!("allowed: {least} to {most}")]);
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
