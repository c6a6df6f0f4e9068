//! Where values come from: defaults, then a preset, then the file, then the environment, then flags; the later wins.
//!
//! The file's tables are laid over the defaults; an array (`[[listener]]`, `[[realm]]`) replaces the default one as a whole.
//! Then each environment variable and flag is applied alone and the result is read again, so that whatever is wrong is
//! told with the place where it was written.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use fanwire_control::lua::Script;
use fanwire_control::resp::Password;
use fanwire_io::ListenerTls;
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::api::{self, ReadKey};
use super::bind::Bind;
use super::check;
use super::hooks::{self, ReadHook};
use super::jwt::ReadJwt;
use super::lua;
use super::presets::Preset;
use super::problem::{Place, Problem, Problems, reword};
use super::redis::{self, ReadBridge};
use super::schema::{Admin, Config};
use super::tls;
use super::units::{Address, Scalar};
use super::users::{self, RealmUser};

/// Begins the name of every environment variable that is read here; `__` also separates the parts of a key.
pub const ENVIRONMENT_PREFIX: &str = "FANWIRE__";

/// A configuration file is written by people; what is larger was meant as something else.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Everything that can carry a value.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What is laid over the defaults first.
    pub preset: Option<Preset>,
    /// The file, if one is named.
    pub file: Option<PathBuf>,
    /// Variables whose name begins with [`ENVIRONMENT_PREFIX`].
    pub environment: Vec<(String, String)>,
    /// Flags, in the order in which they are applied.
    pub flags: Vec<Flag>,
}

/// A value from the command line.
#[derive(Clone, Debug)]
pub enum Flag {
    /// `--set key=value`.
    Set(String),
    /// A flag that stands for a key: the flag, the key, the value.
    Key(&'static str, &'static str, String),
    /// `--bind`: the first listener's address, with or without a port.
    Bind(String),
    /// `--port`: the first listener's port.
    Port(u16),
}

/// A configuration that may be started.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where each was written.
    pub origins: Origins,
    /// The users of each realm, in the order of the realms.
    pub users: Vec<Vec<RealmUser>>,
    /// Whose tokens are good in each realm, in the order of the realms.
    pub jwt: Vec<Vec<ReadJwt>>,
    /// The keys of the HTTP API, in the order of the configuration.
    pub api_keys: Vec<ReadKey>,
    /// TLS of each listener, in the order of the listeners.
    pub tls: Vec<Option<ListenerTls>>,
    /// The hooks, in the order of the configuration.
    pub hooks: Vec<ReadHook>,
    /// The bridges, in the order of the configuration.
    pub bridges: Vec<ReadBridge>,
    /// The scripts of the Lua handlers, in the order of the configuration.
    pub scripts: Vec<Script>,
    /// What clients of the Redis port must say.
    pub resp_password: Option<Password>,
    /// What can be started, but should not stay as it is.
    pub warnings: Vec<String>,
}

/// Where values were written, by key (`limits.message`, `listener.0.bind`).
#[derive(Clone, Debug, Default)]
pub struct Origins(HashMap<String, Place>);

impl Origins {
    /// Where this key was written, or the nearest table around it that was.
    pub fn place(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.0.get(key) {
                return place.clone();
            }
            match key.rsplit_once('.') {
                Some((parent, _)) => key = parent,
                None => return Place::Default,
            }
        }
    }

    /// Where exactly this key was written; `None` if it is a default.
    pub fn exact(&self, key: &str) -> Option<&Place> {
        self.0.get(key)
    }
}

impl Sources {
    /// The process's own environment.
    pub fn from_process_environment() -> Vec<(String, String)> {
        let mut variables: Vec<_> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        variables.sort();
        variables
    }

    /// The table `admin` alone, whatever is wrong with others; `None`: it cannot be read itself.
    pub fn admin(&self) -> Option<Admin> {
        const TABLE: &str = "admin";
        let is_of_it = |key: &str| key.split('.').next().is_some_and(|table| table.trim() == TABLE);
        let mut merged = Table::try_from(Config::default()).expect("the defaults are tables of plain values");
        if let Some(path) = &self.file {
            let mut table: Table = toml::from_str(&read_file(path).ok()?).ok()?;
            table.retain(|key, _| key == TABLE);
            lay_over(&mut merged, table);
        }
        let (mut origins, mut problems) = (Origins::default(), Vec::new());
        for (name, value) in &self.environment {
            let key = key_of_variable(name);
            if is_of_it(&key) {
                let place = Place::Environment(name.clone(), value.clone());
                apply(&mut merged, &mut origins, place, &key, value, &mut problems);
            }
        }
        for flag in &self.flags {
            let is_of_it = match flag {
                Flag::Set(typed) => typed.split_once('=').is_some_and(|(key, _)| is_of_it(key)),
                Flag::Key(_, key, _) => is_of_it(key),
                Flag::Bind(_) | Flag::Port(_) => false,
            };
            if is_of_it {
                apply_flag(&mut merged, &mut origins, flag, &mut problems);
            }
        }
        let config = Config::deserialize(Value::Table(merged)).ok()?;
        problems.is_empty().then_some(config.admin)
    }

    /// Reads and checks everything.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let mut origins = Origins::default();
        let mut merged = Table::try_from(Config::default()).expect("the defaults are tables of plain values");
        if let Some(preset) = self.preset {
            let table = parse_file(preset.place(), preset.text(), &mut origins)?;
            lay_over(&mut merged, table);
        }
        if let Some(path) = &self.file {
            let name = path.display().to_string();
            let text = read_file(path).map_err(|wrong| alone(Place::Default, None, wrong, Vec::new()))?;
            let table = parse_file(&name, &text, &mut origins)?;
            lay_over(&mut merged, table);
        }
        let mut problems = Vec::new();
        for (name, value) in &self.environment {
            let place = Place::Environment(name.clone(), value.clone());
            apply(&mut merged, &mut origins, place, &key_of_variable(name), value, &mut problems);
        }
        for flag in &self.flags {
            apply_flag(&mut merged, &mut origins, flag, &mut problems);
        }
        let config = Config::deserialize(Value::Table(merged));
        match config {
            Ok(config) => {
                problems.extend(check::check(&config, &origins));
                let users = users::gather(&config, &origins);
                problems.extend(users.problems);
                let (api_keys, wrong) = api::gather(&config, &origins);
                problems.extend(wrong);
                let (jwt, wrong) = super::jwt::gather(&config, &origins);
                problems.extend(wrong);
                let tls = tls::gather(&config, &origins);
                problems.extend(tls.problems);
                let hooks = hooks::gather(&config, &origins);
                problems.extend(hooks.problems);
                let redis = redis::gather(&config, &origins);
                problems.extend(redis.problems);
                let lua = lua::gather(&config, &origins);
                problems.extend(lua.problems);
                if problems.is_empty() {
                    let center = super::center::warnings(&config);
                    let warnings =
                        [users.warnings, tls.warnings, hooks.warnings, redis.warnings, center].concat();
                    Ok(Loaded {
                        config,
                        origins,
                        users: users.realms,
                        jwt,
                        api_keys,
                        tls: tls.listeners,
                        hooks: hooks.hooks,
                        bridges: redis.bridges,
                        scripts: lua.scripts,
                        resp_password: redis.password,
                        warnings,
                    })
                } else {
                    Err(Problems(problems))
                }
            }
            // Whatever could not be read was refused above and left out.
            Err(error) => {
                let (wrong, help) = reword(error.message());
                problems.push(Problem { place: Place::Default, key: None, wrong, help });
                Err(Problems(problems))
            }
        }
    }
}

fn key_of_variable(name: &str) -> String {
    name[ENVIRONMENT_PREFIX.len()..].to_lowercase().replace("__", ".")
}

fn alone(place: Place, key: Option<String>, wrong: String, help: Vec<String>) -> Problems {
    Problems(vec![Problem { place, key, wrong, help }])
}

fn read_file(path: &std::path::Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!(
            "{} has {} bytes; a configuration has at most 1 MiB",
            path.display(),
            bytes.len()
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("{} is not UTF-8 (byte {})", path.display(), error.utf8_error().valid_up_to())
    })
}

/// Checks the file's syntax and types, and notes where each value is.
fn parse_file(name: &str, text: &str, origins: &mut Origins) -> Result<Table, Problems> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |error: toml::de::Error| Problem {
            place: place_in_file(name, text, error.span().unwrap_or(0..0)),
            key: None,
            wrong: error.message().to_owned(),
            help: Vec::new(),
        };
        return Err(Problems(errors.into_iter().map(problem).collect()));
    }
    let mut entries = Vec::new();
    walk(document.get_ref(), "", &mut entries);
    let problems = type_problems(name, text, &entries);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    for entry in entries {
        origins.0.insert(entry.key, place_in_file(name, text, entry.value_span));
    }
    Ok(toml::from_str(text).expect("it was just read with types"))
}

/// All keys that are unknown and all values that cannot stand where they are.
///
/// The deserializer stops at the first; so what it stopped at is blanked out and the rest is read again.
fn type_problems(name: &str, text: &str, entries: &[Entry]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut rest = text.to_owned();
    while problems.len() < PROBLEMS_MAX
        && let Err(error) = toml::from_str::<Config>(&rest)
    {
        let span = error.span().unwrap_or(0..0);
        // The innermost key or value that holds the place of the error.
        let entry = entries
            .iter()
            .filter(|entry| contains(&entry.key_span, &span) || contains(&entry.value_span, &span))
            .max_by_key(|entry| entry.key.len());
        let (wrong, help) = reword(error.message());
        // The key is part of the message already where it is what is wrong.
        let key = entry.map(|entry| entry.key.clone()).filter(|_| !wrong.starts_with("unknown key"));
        problems.push(Problem { place: place_in_file(name, text, span), key, wrong, help });
        // A whole table cannot be blanked out, and a part of a line may not be one that can be left out.
        let Some(entry) = entry.filter(|entry| entry.is_plain) else { break };
        let blanked = entry.key_span.start..entry.value_span.end;
        let blank: String =
            rest[blanked.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
        rest.replace_range(blanked, &blank);
        if DeTable::parse(&rest).is_err() {
            break;
        }
    }
    problems
}

/// Nobody mends more at once.
const PROBLEMS_MAX: usize = 20;

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

struct Entry {
    key: String,
    key_span: Range<usize>,
    value_span: Range<usize>,
    /// Neither a table nor an element of an array: `key = value` in one piece.
    is_plain: bool,
}

fn walk(table: &DeTable<'_>, parent: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        walk_value(join(parent, key.get_ref()), key.span(), value, entries);
    }
}

fn walk_value(key: String, key_span: Range<usize>, value: &Spanned<DeValue<'_>>, entries: &mut Vec<Entry>) {
    let mut is_plain = true;
    match value.get_ref() {
        DeValue::Table(table) => {
            is_plain = false;
            walk(table, &key, entries);
        }
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                is_plain &= element.get_ref().as_table().is_none();
                walk_value(join(&key, &index.to_string()), element.span(), element, entries);
            }
        }
        _ => {}
    }
    // The "key" of an array's element is the element itself.
    is_plain &= key_span != value.span();
    entries.push(Entry { key, key_span, value_span: value.span(), is_plain });
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// A span of bytes as line and column, with the line itself.
fn place_in_file(path: &str, text: &str, span: Range<usize>) -> Place {
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let source = text[line_start..line_end].trim_end().to_owned();
    let end = span.end.clamp(start, line_end);
    Place::File {
        path: path.to_owned(),
        line: text[..start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        width: text[start..end].chars().count(),
        source,
    }
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => lay_over(old, new),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn apply_flag(merged: &mut Table, origins: &mut Origins, flag: &Flag, problems: &mut Vec<Problem>) {
    match flag {
        Flag::Set(typed) => {
            let place = Place::Flag(format!("--set {typed}"));
            match typed.split_once('=') {
                Some((key, value)) => apply(merged, origins, place, key.trim(), value.trim(), problems),
                None => problems.push(Problem {
                    place,
                    key: None,
                    wrong: "there is no value".into(),
                    help: vec!["write --set KEY=VALUE, such as --set limits.message=64KiB".into()],
                }),
            }
        }
        Flag::Key(flag, key, value) => {
            apply(merged, origins, Place::Flag(format!("{flag} {value}")), key, value, problems);
        }
        Flag::Bind(text) => {
            let place = Place::Flag(format!("--bind {text}"));
            let port = first_bind(merged).and_then(|bind| bind.ip()).map_or(8080, |address| address.port());
            // Brackets are how people write an IPv6 address, with a port or without.
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
            let address = match bare.parse::<IpAddr>() {
                Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
                Err(_) if bare == "localhost" => format!("127.0.0.1:{port}"),
                Err(_) => text.clone(),
            };
            apply(merged, origins, place, "listener.0.bind", &address, problems);
        }
        Flag::Port(port) => {
            let place = Place::Flag(format!("--port {port}"));
            let mut address = match first_bind(merged) {
                Some(Bind::Ip(address)) => address,
                None => Address::loopback(*port),
                Some(unix @ Bind::Unix(_)) => {
                    problems.push(Problem {
                        place,
                        key: Some("listener.0.bind".into()),
                        wrong: format!("{unix} has no port"),
                        help: vec!["leave --port out, or use --bind with an IP address".into()],
                    });
                    return;
                }
            };
            address.0.set_port(*port);
            apply(merged, origins, place, "listener.0.bind", &address.to_string(), problems);
        }
    }
}

fn first_bind(merged: &Table) -> Option<Bind> {
    Bind::from_text(merged.get("listener")?.get(0)?.get("bind")?.as_str()?).ok()
}

/// Sets one key from a text, if the result can be read; else notes why not and leaves everything as it was.
fn apply(
    merged: &mut Table,
    origins: &mut Origins,
    place: Place,
    key: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) {
    let mut refuse = |wrong: String, help: Vec<String>| {
        let key = Some(key.to_owned()).filter(|key| !key.is_empty());
        problems.push(Problem { place: place.clone(), key, wrong, help });
    };
    let segments = match split_key(key) {
        Ok(segments) => segments,
        Err(wrong) => {
            return refuse(wrong, vec!["a key looks like limits.message or listener.0.bind".into()]);
        }
    };
    // A number, a boolean or a list is read as such; where that does not fit, and for all else, it is a text.
    let as_text = Value::String(text.to_owned());
    let mut first_error = None;
    for value in plain_value(text).into_iter().chain([as_text]) {
        let mut changed = merged.clone();
        if let Err(wrong) = set(&mut changed, &segments, value) {
            return refuse(wrong, Vec::new());
        }
        match Config::deserialize(Value::Table(changed.clone())) {
            Ok(_) => {
                *merged = changed;
                origins.0.insert(segments.join("."), place);
                return;
            }
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    let error = first_error.expect("the text was tried at least");
    let (wrong, help) = reword(error.message());
    refuse(wrong, help);
}

/// `text` as a number, boolean, array or inline table of TOML, if it is one.
fn plain_value(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    let value = table.remove("value").filter(|_| table.is_empty())?;
    match value {
        Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::Table(_) | Value::String(_) => {
            Some(value)
        }
        Value::Float(_) | Value::Datetime(_) => None,
    }
}

/// Splits at dots outside of double quotes: an endpoint's path may hold dots.
fn split_key(key: &str) -> Result<Vec<String>, String> {
    let mut segments = vec![String::new()];
    let mut quoted = false;
    for character in key.chars() {
        match character {
            '"' => quoted = !quoted,
            '.' if !quoted => segments.push(String::new()),
            other => segments.last_mut().expect("it starts with one and never shrinks").push(other),
        }
    }
    if quoted || segments.iter().any(String::is_empty) {
        return Err(format!("{key:?} is not a key"));
    }
    Ok(segments)
}

fn set(table: &mut Table, segments: &[String], value: Value) -> Result<(), String> {
    let (last, parents) = segments.split_last().expect("a key has at least one part");
    let mut at = table;
    let mut parents = parents.iter();
    while let Some(segment) = parents.next() {
        let entry = at.entry(segment.clone()).or_insert_with(|| Value::Table(Table::new()));
        at = match entry {
            Value::Table(table) => table,
            Value::Array(array) => {
                let count = array.len();
                let index =
                    parents.next().and_then(|index| index.parse::<usize>().ok()).ok_or_else(|| {
                        format!("{segment} is a list: write {segment}.0.… for its first element")
                    })?;
                if index > count {
                    return Err(format!("{segment} has {count} elements; there is no {segment}.{index}"));
                }
                if index == count {
                    array.push(Value::Table(Table::new()));
                }
                let Some(Value::Table(table)) = array.get_mut(index) else {
                    return Err(format!("{segment}.{index} holds no keys"));
                };
                table
            }
            _ => return Err(format!("{segment} holds no keys")),
        };
    }
    at.insert(last.clone(), value);
    Ok(())
}
