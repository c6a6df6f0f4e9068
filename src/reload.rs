//! The configuration read again while the router runs: what can act is handed to those that go by it, all of it or nothing.
//!
//! ```text
//! Sources ─▶ Loaded ─compare with what is in use─▶ changes, and what can be used of it
//!                       │ wrong anywhere: nothing has happened
//!                       ▼
//! names of roles ─▶ shards (permissions, limits, TLS) ─all have them─▶ users, API, memory, log
//! ```
//!
//! Users and API keys come last: they may have roles that a shard must know by then.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use fanwire_control::api::ApiConfig;
use fanwire_control::login::users::Users;
use fanwire_control::lua::{LuaScripts, Script};
use fanwire_control::memory::MemorySetting;
use fanwire_control::reload::{Acts, Change, Flaw, Outcome, Refused, Report};
use fanwire_control::resp::Password;
use fanwire_control::tick::TickSetting;
use fanwire_core::CoreConfig;
use fanwire_core::directory::Directory;
use fanwire_core::login::LoginMethod;
use fanwire_io::{ListenerTls, RenewalError, Running};

use crate::certificates::Certificates;
use crate::config::changes::{self, Comparison};
use crate::config::load::Origins;
use crate::config::lua::{self, Lua};
use crate::config::problem::{Place, Problem};
use crate::config::schema::Listener;
use crate::config::users::RealmUser;
use crate::config::{Config, Loaded, Sources, api, check, hooks, redis};
use crate::log::Level;
use crate::{notify, wiring};

/// Those that go by the configuration, each with the place where a newer one is put.
pub struct Holders {
    /// The shards.
    pub running: Arc<Running>,
    /// The names of realms and roles, for who lists sessions.
    pub names: Arc<ArcSwap<CoreConfig>>,
    /// Who may log in.
    pub users: Arc<ArcSwap<Users>>,
    /// What is kept of publications, and what logins are remembered by their cookies.
    pub directory: Arc<Directory>,
    /// The HTTP API.
    pub api: Arc<ArcSwap<ApiConfig>>,
    /// What is published by itself.
    pub ticks: TickSetting,
    /// What the metrics page says of certificates.
    pub certificates: Certificates,
    /// The memory budget.
    pub memory: MemorySetting,
    /// What new clients of the Redis port must say, if there is one.
    pub resp_password: Option<Arc<ArcSwap<Option<Password>>>>,
    /// What Lua handlers run.
    pub scripts: LuaScripts,
    /// The log.
    pub log: Level,
}

/// Reads the configuration again.
pub struct Reloader {
    sources: Sources,
    holders: Holders,
    used: Mutex<Loaded>,
}

impl Reloader {
    /// `used`: what the router was started with, from these sources.
    pub fn new(sources: Sources, used: Loaded, holders: Holders) -> Self {
        Self { sources, holders, used: Mutex::new(used) }
    }

    /// Reads, compares, and unless it is only asked, lets act what can act.
    pub fn reload(&self, check_only: bool) -> Outcome {
        if check_only {
            return self.reload_now(true);
        }
        notify::reloading();
        let outcome = self.reload_now(false);
        notify::reloaded();
        outcome
    }

    fn reload_now(&self, check_only: bool) -> Outcome {
        // What a panic leaves is what was in use before.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.sources.load().map_err(|problems| refused(&problems.0))?;
        let (usable, changes) = usable(&used, read)?;
        let mut warnings = usable.warnings.clone();
        let access = |realms: &[_]| self.holders.names.load().access.renewed(realms);
        let ring_items = self.holders.names.load().limits.ring_capacity;
        let core = wiring::core_config(&usable, ring_items, access)
            .map_err(|error| Refused::Unable(format!("the permissions cannot be used: {error}")))?;
        if !check_only {
            // What waits for a restart is told each time, and nobody has to do anything for it.
            if changes.iter().any(|change| change.acts != Acts::Restart) {
                warnings.extend(self.holders.take(&usable, Arc::new(core))?);
            }
            *used = usable;
        }
        Ok(Report { check_only, changes, warnings })
    }
}

impl Holders {
    /// Gives everybody the new configuration. Words of warning where somebody is late.
    fn take(&self, usable: &Loaded, core: Arc<CoreConfig>) -> Result<Option<String>, Refused> {
        let config = &usable.config;
        // All that may fail or panic comes before the first of them has anything.
        let io = wiring::io_settings(usable);
        let before = self.users.load_full();
        let users = wiring::users(
            config,
            &usable.users,
            &usable.jwt,
            &core.access,
            Some(&before),
            fanwire_io::random_source(),
        );
        let api = wiring::api_config(usable, &io, &core);
        let ticks = wiring::ticks(config, &core.access);
        let renewed = Arc::clone(&core);
        let names_before = self.names.swap(Arc::clone(&core));
        let late = match self.running.renew(io, core) {
            Ok(()) => None,
            Err(late @ RenewalError::Late) => Some(late.to_string()),
            Err(error) => {
                self.names.store(names_before);
                return Err(Refused::Unable(error.to_string()));
            }
        };
        if !users.are_the_same(&self.users.load()) {
            self.users.store(Arc::new(users));
        }
        self.forget_changed(config, &renewed, &before);
        self.api.store(Arc::new(api));
        self.ticks.send_replace(ticks);
        self.certificates.replace(&usable.tls);
        self.memory.set(config.limits.memory.given().map(|size| size.0));
        if let Some(password) = &self.resp_password {
            password.store(Arc::new(usable.resp_password.clone()));
        }
        for (lua, script) in config.lua.iter().zip(&usable.scripts) {
            self.scripts.replace(&lua.path, script.clone());
        }
        (self.log)(&config.log.level);
        // Now that no shard records by the former rules. What one that is late still does goes with the next reload.
        self.directory
            .prune_histories(fanwire_io::now(), |realm, topic| renewed.access.history(realm, topic));
        Ok(late)
    }
}

impl Holders {
    /// Forgets who was remembered by a cookie and would not be let in any more as it was.
    fn forget_changed(&self, config: &Config, core: &CoreConfig, before: &Users) {
        let (access, users) = (&core.access, self.users.load());
        self.directory.cookies().retain(|login| {
            let name = access.realm_name(login.realm);
            let role = access.role_name(login.realm, login.role);
            let mut realms = config.realm.iter().filter(|realm| realm.name == name);
            let has_role = realms.any(|realm| realm.role.iter().any(|known| known.name == role));
            // A user of the configuration, or who has become one. Others are those of programs, which do not say when one changes.
            let is_programs = login.provider != "static" && !users.has(login.realm, &login.authid);
            let is_same = is_programs || before.is_same_in(&users, login.realm, &login.authid);
            access.offers(login.realm, LoginMethod::Cookie) && has_role && is_same
        });
    }
}

/// What can be used without a restart of what was read, and how it differs from what is in use.
fn usable(used: &Loaded, read: Loaded) -> Result<(Loaded, Vec<Change>), Refused> {
    let Comparison { mut changes, usable: config, listeners, realms } =
        changes::compare(&used.config, &read.config);
    fits(&config, &changes)?;
    let users: Vec<Vec<RealmUser>> = realms
        .iter()
        .zip(&used.users)
        .map(|(at, users)| at.map_or(users, |at| &read.users[at]).clone())
        .collect();
    let jwt =
        realms.iter().zip(&used.jwt).map(|(at, jwt)| at.map_or(jwt, |at| &read.jwt[at]).clone()).collect();
    for ((realm, before), now) in config.realm.iter().zip(&used.users).zip(&users) {
        let of_tables = |config: &Config| {
            let tables =
                config.realm.iter().filter(|other| other.name == realm.name).flat_map(|realm| &realm.user);
            tables.map(|user| user.name.clone()).collect::<Vec<String>>()
        };
        let of_tables = [of_tables(&used.config), of_tables(&config)].concat();
        changes.extend(users_change(&realm.name, before, now, &of_tables));
    }
    let tls: Vec<Option<ListenerTls>> = listeners
        .iter()
        .zip(&used.tls)
        .map(|(at, tls)| same_or_newer(tls.as_ref(), at.map(|at| read.tls[at].as_ref())))
        .collect();
    for ((listener, before), now) in config.listener.iter().zip(&used.tls).zip(&tls) {
        let key = format!("listener[{}].tls", listener.bind);
        // A file with another name is told already.
        let names_other_files =
            |change: &Change| FILE_KEYS.iter().any(|name| change.key.starts_with(&format!("{key}.{name}")));
        if !changes.iter().any(names_other_files) {
            changes.extend(certificates_change(key, before.as_ref(), now.as_ref()));
        }
    }
    changes.extend(api_changes(&used.config, &config, &changes));
    let resp_password = newer_password(used, &read);
    if resp_password != used.resp_password {
        let told = |words: &str| words.to_owned().into();
        let (key, old, new) = ("resp.password_file".to_owned(), told("a password"), told("another password"));
        changes.push(Change { key, old, new, acts: Acts::NewConnections });
    }
    let scripts = newer_scripts(used, &read, &mut changes);
    let Loaded { origins, api_keys, warnings, .. } = read;
    // Hooks act after a restart.
    let (hooks, bridges) = (used.hooks.clone(), used.bridges.clone());
    let usable = Loaded {
        config,
        origins,
        users,
        jwt,
        api_keys,
        tls,
        hooks,
        bridges,
        scripts,
        resp_password,
        warnings,
    };
    Ok((usable, changes))
}

/// The scripts of the handlers in use, as their files are now. Other files wait for a restart.
fn newer_scripts(used: &Loaded, read: &Loaded, changes: &mut Vec<Change>) -> Vec<Script> {
    let newer = |lua: &Lua, before: &Script| {
        let mut known = read.config.lua.iter().zip(&read.scripts);
        let is_same = |(other, now): &(&Lua, &Script)| other.path == lua.path && now.path == before.path;
        known.find(is_same).map(|(_, now)| now.clone()).filter(|now| now != before)
    };
    let both = used.config.lua.iter().zip(&used.scripts);
    let scripts = both.map(|(lua, before)| match newer(lua, before) {
        None => before.clone(),
        Some(now) => {
            let told = |words: &str| words.to_owned().into();
            let key = format!("lua[{}].file", lua.path);
            changes.push(Change { key, old: told("a script"), new: told("another script"), acts: Acts::Now });
            now
        }
    });
    scripts.collect()
}

/// What the Redis port's password is, unless it is to be in another file after a restart.
fn newer_password(used: &Loaded, read: &Loaded) -> Option<Password> {
    let is_same_file = used.config.resp.password_file == read.config.resp.password_file;
    let newer = read.resp_password.as_ref().filter(|_| is_same_file && used.resp_password.is_some());
    newer.or(used.resp_password.as_ref()).cloned()
}

/// The keys of `listener.tls` that name files.
const FILE_KEYS: [&str; 4] = ["cert", "key", "further", "client_ca"];

/// What is told of listeners that offer the API, or do not any more, because of what other keys say.
fn api_changes(used: &Config, usable: &Config, changes: &[Change]) -> Vec<Change> {
    let words = |listener: &Listener| {
        if listener.offers_api() { "auto: offered here" } else { "auto: not offered here" }
    };
    let listeners = used.listener.iter().zip(&usable.listener);
    let differing = listeners.filter(|(before, now)| before.offers_api() != now.offers_api());
    let told = differing.map(|(before, now)| Change {
        key: format!("listener[{}].api", now.bind),
        old: words(before).into(),
        new: words(now).into(),
        acts: Acts::NewConnections,
    });
    told.filter(|told| changes.iter().all(|change| change.key != told.key)).collect()
}

/// Whether what can act now and what waits for a restart make a configuration together that might be started: each alone may be
/// right, and the two of them open a door.
fn fits(usable: &Config, changes: &[Change]) -> Result<(), Refused> {
    if !changes.iter().any(|change| change.acts == Acts::Restart) {
        return Ok(());
    }
    let nowhere = Origins::default();
    let mut problems = check::check(usable, &nowhere);
    problems.extend(api::gather(usable, &nowhere).1);
    problems.extend(hooks::gather(usable, &nowhere).problems);
    problems.extend(redis::check(usable, &nowhere));
    problems.extend(lua::check(usable, &nowhere));
    for problem in &mut problems {
        problem.wrong = format!("does not fit what can only act after a restart: {}", problem.wrong);
        problem.help = vec!["restart the router instead, or undo the change that needs a restart".to_owned()];
    }
    if problems.is_empty() { Ok(()) } else { Err(refused(&problems)) }
}

/// A listener keeps what it shows, with the key of its clients' tickets, if nobody could tell the difference.
fn same_or_newer(used: Option<&ListenerTls>, read: Option<Option<&ListenerTls>>) -> Option<ListenerTls> {
    let Some(read) = read else { return used.cloned() };
    match (used, read) {
        (Some(used), Some(read)) if used.acceptor.is_same(&read.acceptor) => {
            Some(ListenerTls { acceptor: Arc::clone(&used.acceptor), plain: read.plain })
        }
        (_, read) => read.cloned(),
    }
}

/// What is told of certificates whose files have the same names as before.
fn certificates_change(
    key: String,
    before: Option<&ListenerTls>,
    now: Option<&ListenerTls>,
) -> Option<Change> {
    if Arc::ptr_eq(&before?.acceptor, &now?.acceptor) {
        return None;
    }
    let told = |tls: &ListenerTls| {
        let known = tls.acceptor.identity().certificates().iter();
        known
            .map(|known| serde_json::json!({"file": known.path.display().to_string(), "not_after": known.not_after}))
            .collect::<serde_json::Value>()
    };
    Some(Change { key, old: told(before?), new: told(now?), acts: Acts::NewConnections })
}

/// What is told of the users of a users file; those of the configuration itself are told by their keys.
fn users_change(
    realm: &str,
    before: &[RealmUser],
    now: &[RealmUser],
    of_tables: &[String],
) -> Option<Change> {
    let of_file = |users: &[RealmUser]| {
        let users = users.iter().filter(|user| !of_tables.contains(&user.name));
        users.map(|user| (user.name.clone(), user.clone())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let (before, now) = (of_file(before), of_file(now));
    let added = now.keys().filter(|name| !before.contains_key(*name)).count();
    let removed = before.keys().filter(|name| !now.contains_key(*name)).count();
    let is_other = |user: &&RealmUser| {
        before
            .get(&user.name)
            .is_some_and(|known| known.role != user.role || known.credentials != user.credentials)
    };
    let changed = now.values().filter(is_other).count();
    if added + removed + changed == 0 {
        return None;
    }
    Some(Change {
        key: format!("realm[{realm}].users_file"),
        old: format!("{} users", before.len()).into(),
        new: format!("{} users: {added} added, {removed} removed, {changed} changed", now.len()).into(),
        acts: Acts::NewConnections,
    })
}

fn refused(problems: &[Problem]) -> Refused {
    Refused::Flaws(problems.iter().map(flaw).collect())
}

/// Without the line itself, which may hold what is for the eyes of the file's readers alone.
fn flaw(problem: &Problem) -> Flaw {
    let Problem { place, key, wrong, help } = problem;
    let (place, line, column) = match place {
        Place::File { path, line, column, .. } => (Some(path.clone()), Some(*line), Some(*column)),
        Place::Environment(name, _) => (Some(format!("environment {name}")), None, None),
        Place::Flag(typed) => (Some(typed.split('=').next().unwrap_or_default().to_owned()), None, None),
        Place::Default => (None, None, None),
    };
    Flaw { place, line, column, key: key.clone(), message: wrong.clone(), help: help.clone() }
}
