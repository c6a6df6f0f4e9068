//! `[http_api]`: its keys, ready to be compared with, and what must not be started.

use fanwire_control::api::keys::{AddressRange, KeyHash};
use fanwire_control::api::routes::PATH_PREFIXES;

use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{ApiKey, Config, Listener};
use super::units::{Count, Size, Time};

/// A key of `[[http_api.key]]` whose texts were read.
#[derive(Clone, Debug)]
pub struct ReadKey {
    /// What keys are compared with.
    pub hash: KeyHash,
    /// From where it may be used; empty: from everywhere.
    pub addresses: Vec<AddressRange>,
}

/// Reads all keys, in the order of the configuration, or tells what is wrong.
pub fn gather(config: &Config, origins: &Origins) -> (Vec<ReadKey>, Vec<Problem>) {
    let mut gathered = Gathered { origins, problems: Vec::new(), keys: Vec::new() };
    gathered.limits(config);
    for index in 0..config.http_api.key.len() {
        gathered.key(config, index);
    }
    for (index, listener) in config.listener.iter().enumerate() {
        gathered.listener(config, index, listener);
    }
    (gathered.keys, gathered.problems)
}

struct Gathered<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
    keys: Vec<ReadKey>,
}

impl Gathered<'_> {
    fn limits(&mut self, config: &Config) {
        let api = &config.http_api;
        self.within("body", &api.body, Size(1 << 10), Size(64 << 20));
        self.within("batch", &api.batch, Count(1), Count(100_000));
        self.within("connections", &api.connections, Count(1), Count(65_536));
        let (millisecond, hour) = (Time(std::time::Duration::from_millis(1)), Time::seconds(3_600));
        self.within("call_time", &api.call_time, millisecond, hour);
        self.within(
            "idempotency_window",
            &api.idempotency_window,
            Time::seconds(1),
            Time::seconds(24 * 3_600),
        );
        self.realm(config);
        self.within("idempotency_keys", &api.idempotency_keys, Count(1), Count(1 << 20));
    }

    fn realm(&mut self, config: &Config) {
        let name = &config.http_api.realm;
        let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
        if !name.is_empty() && !names.contains(&name.as_str()) {
            let near = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let help = near.into_iter().chain([format!("realms: {}", names.join(", "))]).collect();
            self.refuse("http_api.realm", format!("there is no realm {name:?}"), help);
        }
        // Who may consume queues is asked of this realm; what is in them is the other's.
        let center = &config.message_center;
        if !name.is_empty() && *name != center.realm && !center.queue.is_empty() {
            let wrong =
                format!("{name:?} is not the realm of the message center's queues, {:?}", center.realm);
            let help = vec!["leave it out, or name the realm of [message_center]".to_owned()];
            self.refuse("http_api.realm", wrong, help);
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: &T, least: T, most: T) {
        if *value < least || *value > most {
            let help = vec![format!("allowed: {least} to {most}")];
            self.refuse(&format!("http_api.{key}"), format!("{value} is out of range"), help);
        }
    }

    fn key(&mut self, config: &Config, index: usize) {
        let keys = &config.http_api.key;
        let key = &keys[index];
        let at = |part: &str| format!("http_api.key.{index}.{part}");
        if key.name.trim().is_empty() || key.name.chars().any(char::is_control) {
            self.refuse(&at("name"), format!("{:?} is no name", key.name), vec!["allowed: any word".into()]);
        } else if keys[..index].iter().any(|other| other.name == key.name) {
            let wrong = format!("there is a key {:?} already", key.name);
            self.refuse(&at("name"), wrong, vec!["give each its own name".into()]);
        }
        if key.allow.is_empty() {
            let help = vec![
                "allowed: some of \"publish\", \"call\", \"read\", \"disconnect\", \"clients\", \"reload\""
                    .into(),
            ];
            self.refuse(&at("allow"), "the key may do nothing".into(), help);
        }
        self.realms(config, key, &at);
        let mut addresses = Vec::new();
        for (nth, text) in key.addresses.iter().enumerate() {
            match text.parse() {
                Ok(range) => addresses.push(range),
                Err(wrong) => {
                    let help = vec!["allowed: addresses and ranges, such as \"10.0.0.0/8\", \"192.0.2.7\", \"2001:db8::/32\"".into()];
                    self.refuse(&at(&format!("addresses.{nth}")), wrong, help);
                }
            }
        }
        match key.key_hash.parse() {
            Ok(hash) if self.keys.iter().any(|other| other.hash == hash) => {
                let help = vec!["make another key: fanwire apikey NAME …".into()];
                self.refuse(&at("key_hash"), "another name has the same key".into(), help);
            }
            Ok(hash) => self.keys.push(ReadKey { hash, addresses }),
            Err(wrong) => {
                let help =
                    vec!["`fanwire apikey NAME --role ROLE` makes a key and prints what belongs here".into()];
                self.refuse(&at("key_hash"), wrong, help);
            }
        }
    }

    fn realms(&mut self, config: &Config, key: &ApiKey, at: &dyn Fn(&str) -> String) {
        if key.realms.is_empty() {
            let help = vec![format!(
                "name realms, such as {:?}",
                config.realm.first().map_or("realm1", |realm| &realm.name)
            )];
            self.refuse(&at("realms"), "the key is for no realm".into(), help);
        }
        let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
        for (nth, name) in key.realms.iter().enumerate() {
            let Some(realm) = config.realm.iter().find(|realm| realm.name == *name) else {
                let mut help: Vec<String> =
                    nearest(name, &names).map(|near| format!("did you mean {near}?")).into_iter().collect();
                help.push(format!("realms: {}", names.join(", ")));
                self.refuse(&at(&format!("realms.{nth}")), format!("there is no realm {name:?}"), help);
                continue;
            };
            if key.realms[..nth].contains(name) {
                let help = vec!["name it once".into()];
                self.refuse(
                    &at(&format!("realms.{nth}")),
                    format!("the realm {name:?} is named twice"),
                    help,
                );
            }
            if !realm.role.iter().any(|role| role.name == key.role) {
                let roles: Vec<&str> = realm.role.iter().map(|role| role.name.as_str()).collect();
                let mut help: Vec<String> = nearest(&key.role, &roles)
                    .map(|near| format!("did you mean {near}?"))
                    .into_iter()
                    .collect();
                let known = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
                help.push(format!("roles of realm {name:?}: {known}"));
                self.refuse(&at("role"), format!("the realm {name:?} has no role {:?}", key.role), help);
            }
        }
    }

    fn listener(&mut self, config: &Config, index: usize, listener: &Listener) {
        if !listener.offers_api() {
            return;
        }
        let key = format!("listener.{index}");
        if !listener.speaks_plain() {
            let help = vec![
                "give the API a listener of its own without TLS, behind a proxy that speaks it".to_owned(),
                "or serve both at this port: listener.tls.plain = true".to_owned(),
            ];
            let wrong = "the HTTP API is not served over TLS, and this listener speaks nothing else";
            self.refuse(&format!("{key}.api"), wrong.to_owned(), help);
        }
        if !listener.bind.is_local() && config.http_api.key.is_empty() {
            let wrong =
                format!("other machines can reach {}, and the HTTP API there has no key", listener.bind);
            let realm = config.realm.first().map_or("realm1", |realm| &realm.name);
            let role =
                config.realm.first().and_then(|realm| realm.role.first()).map_or("ROLE", |role| &role.name);
            let help = vec![
                format!(
                    "make a key: fanwire apikey NAME --realm {realm} --role {role}   and add what it prints, [[http_api.key]]"
                ),
                "or turn the API off here: api = false".to_owned(),
            ];
            self.refuse(&format!("{key}.api"), wrong, help);
        }
        let is_taken = |path: &&String| PATH_PREFIXES.iter().any(|prefix| path.starts_with(prefix));
        for path in listener.endpoints.keys().filter(is_taken) {
            let wrong = format!("{} are the HTTP API's paths on this listener", PATH_PREFIXES.join(", "));
            let help = vec!["choose another path, such as \"/ws\", or set api = false".to_owned()];
            self.refuse(&format!("{key}.endpoints.{path}"), wrong, help);
        }
    }

    fn refuse(&mut self, key: &str, wrong: String, help: Vec<String>) {
        let problem = Problem { place: self.origins.place(key), key: Some(key.to_owned()), wrong, help };
        self.problems.push(problem);
    }
}
