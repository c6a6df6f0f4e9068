//! What differs between the configuration in use and one that was read again, and what of it can act without a restart.
//!
//! ```text
//! in use ─┐                ┌─▶ changes: key, old, new, when it acts
//!         ├─▶ field by field ┤
//! read ───┘                └─▶ the configuration to use from now on: what needs a restart is as it was
//! ```
//!
//! When a field acts is written at the field itself ([`schema`](super::schema)). Elements of lists are the same if they have the
//! same name (or address, or URI), wherever they stand.

use std::collections::{BTreeMap, VecDeque};

use fanwire_control::reload::{Acts, Change};
use serde::Deserialize;
use toml::{Table, Value};

use super::describe::{Described, Field};
use super::schema::Config;

/// The differences between two configurations.
#[derive(Debug)]
pub struct Comparison {
    /// In the order of the configuration.
    pub changes: Vec<Change>,
    /// The newer one, as far as it can act without a restart.
    pub usable: Config,
    /// For each listener in use, its index among those that were read, if it is still there.
    pub listeners: Vec<Option<usize>>,
    /// For each realm in use the same.
    pub realms: Vec<Option<usize>>,
}

/// Compares what is in use with what was read.
pub fn compare(used: &Config, read: &Config) -> Comparison {
    let table = |config: &Config| Table::try_from(config).expect("a configuration is made of plain values");
    let (used, read) = (table(used), table(read));
    let mut changes = Vec::new();
    let usable = merge(&used, &read, Config::FIELDS, "", None, &mut changes);
    let usable = Config::deserialize(Value::Table(usable)).expect("each of its values was one before");
    let pairs = |name: &str| -> Vec<Option<usize>> {
        let (used, read) = (elements(&used[name]), elements(&read[name]));
        pair(&used, &read).into_iter().take(used.len()).map(|(_, read)| read).collect()
    };
    let (listeners, realms) = (pairs("listener"), pairs("realm"));
    Comparison { changes, usable, listeners, realms }
}

/// Goes through the fields of a table. `above`: when everything in here acts, where a list above it decides on that.
fn merge(
    used: &Table,
    read: &Table,
    fields: &'static [Field],
    path: &str,
    above: Option<Acts>,
    changes: &mut Vec<Change>,
) -> Table {
    // Serde writes the fields in the order of their declaration, and the table keeps it. Those of plain tables are not described.
    assert!(fields.is_empty() || fields.len() == used.len(), "each field is written");
    let mut fields = fields.iter();
    let mut merged = Table::new();
    for (name, old) in used {
        let field = fields.next();
        let new = &read[name];
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let acts = field.and_then(|field| field.acts).or(above);
        let inner = field.map_or(&[][..], |field| field.inner);
        merged.insert(name.clone(), merge_value(old, new, inner, &key, acts, changes));
    }
    merged
}

fn merge_value(
    old: &Value,
    new: &Value,
    inner: &'static [Field],
    key: &str,
    acts: Option<Acts>,
    changes: &mut Vec<Change>,
) -> Value {
    if old == new {
        return old.clone();
    }
    if let (Value::Table(old), Value::Table(new), false) = (old, new, inner.is_empty()) {
        return Value::Table(merge(old, new, inner, key, acts, changes));
    }
    let acts = acts.expect("whatever is no table of described fields says when it acts");
    if is_list_of_tables(old) || is_list_of_tables(new) {
        return merge_list(old, new, inner, key, acts, changes);
    }
    changes.push(Change { key: key.to_owned(), old: shown(key, old), new: shown(key, new), acts });
    if acts == Acts::Restart { old.clone() } else { new.clone() }
}

fn merge_list(
    old: &Value,
    new: &Value,
    inner: &'static [Field],
    key: &str,
    acts: Acts,
    changes: &mut Vec<Change>,
) -> Value {
    let (old, new) = (elements(old), elements(new));
    let mut merged: Vec<(usize, Value)> = Vec::new();
    let pairs = pair(&old, &new);
    for &(before, now) in &pairs {
        let place = now.unwrap_or(usize::MAX);
        let (before, after) = (before.map(|at| old[at]), now.map(|at| new[at]));
        let label = format!("{key}[{}]", before.or(after).map(label).expect("one of both is there"));
        match (before, after) {
            (Some(before), Some(after)) => {
                let table = merge(before, after, inner, &label, Some(acts), changes);
                merged.push((place, Value::Table(table)));
            }
            (before, after) => {
                let show = |table: Option<&Table>| {
                    table.map_or(serde_json::Value::Null, |table| shown(&label, &Value::Table(table.clone())))
                };
                changes.push(Change { key: label.clone(), old: show(before), new: show(after), acts });
                // What waits for a restart is not there yet, or still there.
                match (before, after, acts) {
                    (Some(before), _, Acts::Restart) => merged.push((place, Value::Table(before.clone()))),
                    (_, Some(after), Acts::Now | Acts::NewConnections) => {
                        merged.push((place, Value::Table(after.clone())));
                    }
                    _ => {}
                }
            }
        }
    }
    if acts != Acts::Restart {
        // Of some lists the first element that fits decides.
        let stayed: Vec<usize> = pairs.iter().filter_map(|(before, now)| before.and(*now)).collect();
        if !stayed.is_sorted() {
            let labels =
                |list: &[&Table]| list.iter().map(|element| label(element)).collect::<Vec<_>>().into();
            changes.push(Change {
                key: format!("{key} (order)"),
                old: labels(&old),
                new: labels(&new),
                acts,
            });
        }
        merged.sort_by_key(|(place, _)| *place);
    }
    Value::Array(merged.into_iter().map(|(_, value)| value).collect())
}

/// Which elements are the same: first all old ones in their order, then the new ones without a counterpart.
fn pair(old: &[&Table], new: &[&Table]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut places: BTreeMap<String, VecDeque<usize>> = BTreeMap::new();
    for (at, element) in new.iter().enumerate() {
        places.entry(label(element)).or_default().push_back(at);
    }
    let counterpart = |element: &&Table| places.get_mut(&label(element)).and_then(VecDeque::pop_front);
    let found: Vec<Option<usize>> = old.iter().map(counterpart).collect();
    let mut left: Vec<usize> = places.into_values().flatten().collect();
    left.sort_unstable();
    let both = found.into_iter().enumerate().map(|(at, found)| (Some(at), found));
    both.chain(left.into_iter().map(|at| (None, Some(at)))).collect()
}

fn is_list_of_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|elements| elements.first().is_some_and(Value::is_table))
}

fn elements(value: &Value) -> Vec<&Table> {
    value.as_array().map_or_else(Vec::new, |elements| elements.iter().filter_map(Value::as_table).collect())
}

/// What an element of a list goes by.
fn label(element: &Table) -> String {
    let text = |name: &str| element.get(name).and_then(Value::as_str);
    if let Some(name) = ["name", "bind", "path"].into_iter().find_map(text) {
        return name.to_owned();
    }
    let name = ["uri", "cert"].into_iter().find_map(text).unwrap_or_default();
    match text("match") {
        None | Some("exact") => name.to_owned(),
        // How the URI is compared is part of what it goes by.
        Some(policy) => format!("{name} {policy}").trim_start().to_owned(),
    }
}

/// A value for the answer. Hashes of tickets and keys are nobody's business.
fn shown(key: &str, value: &Value) -> serde_json::Value {
    const HIDDEN: &str = "(not shown)";
    let name = key.rsplit('.').next().unwrap_or(key);
    if is_secret(name) {
        return HIDDEN.into();
    }
    match value {
        Value::Table(table) => table.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect(),
        Value::Array(elements) => elements.iter().map(|element| shown("", element)).collect(),
        plain => serde_json::to_value(plain).expect("a plain value is one in JSON too"),
    }
}

fn is_secret(name: &str) -> bool {
    ["hash", "credentials", "secret", "password", "ticket", "token", "headers"]
        .iter()
        .any(|word| name.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
    }

    /// The changes as lines.
    fn lines(used: &str, now: &str) -> Vec<String> {
        let line = |change: Change| format!("{} | {change}", change.acts.words());
        compare(&read(used), &read(now)).changes.into_iter().map(line).collect()
    }

    #[test]
    fn nothing_has_changed_in_what_is_the_same() {
        let config = Sources::default().load().expect("the defaults are right").config;
        let comparison = compare(&config, &config);
        assert!(comparison.changes.is_empty());
        assert_eq!(comparison.usable, config);
    }

    #[test]
    fn each_key_is_told_with_its_class_and_used_accordingly() {
        let now = "shards.count = 2\n[limits]\nmessage = \"2MiB\"\nlogin_time = \"3s\"\nring = \"1MiB\"\n";
        let told = [
            "after a restart | shards.count: \"auto\" -> 2",
            "now | limits.message: \"1MiB\" -> \"2MiB\"",
            "for new connections | limits.login_time: \"10s\" -> \"3s\"",
            "after a restart | limits.ring: \"8MiB\" -> \"1MiB\"",
        ];
        assert_eq!(lines("", now), told);
        let (before, after) = (Config::default(), read(now));
        let usable = compare(&before, &after).usable;
        assert_eq!(
            (&usable.limits.message, &usable.limits.login_time),
            (&after.limits.message, &after.limits.login_time)
        );
        assert_eq!((&usable.limits.ring, &usable.shards), (&before.limits.ring, &before.shards));
        // What waits for a restart is told again each time, until there is one.
        assert_eq!(compare(&usable, &after).changes.len(), 2);
    }

    const TWO: &str = "[[realm]]\nname = \"a\"\n[[realm.role]]\nname = \"r\"\n[[realm]]\nname = \"b\"\n";

    #[test]
    fn elements_go_by_their_names_and_realms_by_a_restart() {
        let swapped = "[[realm]]\nname = \"b\"\n[[realm]]\nname = \"a\"\n[[realm.role]]\nname = \"r\"\n";
        assert!(lines(TWO, swapped).is_empty(), "their order means nothing");
        let other = "[[realm]]\nname = \"c\"\n[[realm]]\nname = \"a\"\nslow_consumer = \"conflate\"\n[[realm.role]]\nname = \"s\"\n";
        let told = lines(TWO, other);
        assert_eq!(told.len(), 5, "{told:#?}");
        assert_eq!(told[0], "for new connections | realm[a].slow_consumer: \"auto\" -> \"conflate\"");
        assert!(told[1].starts_with("now | realm[a].role[r]: removed"), "{told:#?}");
        assert!(told[2].starts_with("now | realm[a].role[s]: added"), "{told:#?}");
        assert!(told[3].starts_with("after a restart | realm[b]: removed"), "{told:#?}");
        assert!(told[4].starts_with("after a restart | realm[c]: added"), "{told:#?}");
        let comparison = compare(&read(TWO), &read(other));
        let names: Vec<&str> = comparison.usable.realm.iter().map(|realm| realm.name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "those in use, in their order");
        assert_eq!(comparison.usable.realm[0].role[0].name, "s");
        assert_eq!(comparison.realms, [Some(1), None]);
        assert_eq!(comparison.listeners, [Some(0)]);
    }

    #[test]
    fn permissions_are_told_by_their_uris() {
        let role =
            |permission: &str| format!("[[realm]]\nname = \"a\"\n[[realm.role]]\nname = \"r\"\n{permission}");
        let rule = |uri: &str, allow: &str| {
            format!("[[realm.role.permission]]\nuri = {uri:?}\nmatch = \"prefix\"\nallow = [{allow}]\n")
        };
        let before = role(&rule("a.", "\"call\""));
        let after = role(&(rule("b.", "") + &rule("a.", "\"call\", \"publish\"")));
        let told = lines(&before, &after);
        assert_eq!(
            told[0],
            "now | realm[a].role[r].permission[a. prefix].allow: [\"call\"] -> [\"call\",\"publish\"]"
        );
        assert!(told[1].starts_with("now | realm[a].role[r].permission[b. prefix]: added"), "{told:#?}");
        let usable = compare(&read(&before), &read(&after)).usable;
        assert_eq!(usable, read(&after), "in the order of the file");
    }

    #[test]
    fn another_order_is_a_change() {
        let role = |uris: [&str; 3]| {
            let rules = uris.map(|uri| format!("[[realm.role.permission]]\nuri = {uri:?}\nallow = []\n"));
            format!("[[realm]]\nname = \"a\"\n[[realm.role]]\nname = \"r\"\n{}", rules.concat())
        };
        let (before, after) = (role(["a.", "b.", "c."]), role(["a.", "c.", "b."]));
        let told =
            "now | realm[a].role[r].permission (order): [\"a.\",\"b.\",\"c.\"] -> [\"a.\",\"c.\",\"b.\"]";
        assert_eq!(lines(&before, &after), [told]);
        assert_eq!(compare(&read(&before), &read(&after)).usable, read(&after));
        assert_eq!(
            lines(&role(["a.", "b.", "c."]), &role(["a.", "d.", "c."])).len(),
            2,
            "nothing has changed places"
        );
    }

    #[test]
    fn what_has_a_name_goes_by_that_alone() {
        let hook = |policy: &str| {
            format!(
                "[[hook]]\nname = \"h\"\nurl = \"http://a/\"\nevents = [\"publish\"]\nmatch = {policy:?}\n"
            )
        };
        let told = lines(&hook("prefix"), &hook("wildcard"));
        assert_eq!(told, ["after a restart | hook[h].match: \"prefix\" -> \"wildcard\""]);
    }

    #[test]
    fn secrets_are_not_told() {
        let user = |hash: &str| {
            format!(
                "[[realm]]\nname = \"a\"\n[[realm.user]]\nname = \"u\"\nrole = \"r\"\nticket_hash = \"{hash}\"\n"
            )
        };
        let key = |hash: &str| {
            format!(
                "[[http_api.key]]\nname = \"k\"\nrealms = []\nrole = \"r\"\nallow = []\nkey_hash = \"{hash}\"\n"
            )
        };
        let told = [
            lines(&user("SECRET-1"), &user("SECRET-2")),
            lines(&key("SECRET-1"), &key("SECRET-2")),
            lines("", &key("SECRET-3")),
            lines(&user("SECRET-4"), "[[realm]]\nname = \"a\"\n"),
        ]
        .concat();
        assert_eq!(
            told[0],
            "for new connections | realm[a].user[u].ticket_hash: \"(not shown)\" -> \"(not shown)\""
        );
        assert!(told.len() == 4 && told.iter().all(|line| !line.contains("SECRET")), "{told:#?}");
    }

    #[test]
    fn a_list_that_becomes_empty_or_begins_is_told() {
        let listener = |more: &str| format!("[[listener]]\nbind = \"127.0.0.1:1\"\n{more}\n");
        assert_eq!(
            lines(&listener(""), &listener("allowed_origins = [\"https://a\"]")),
            ["for new connections | listener[127.0.0.1:1].allowed_origins: [] -> [\"https://a\"]"]
        );
        let told = lines(&listener(""), &listener("").replace(":1", ":2"));
        assert!(told[0].starts_with("after a restart | listener[127.0.0.1:1]: removed"), "{told:#?}");
        assert!(told[1].starts_with("after a restart | listener[127.0.0.1:2]: added"), "{told:#?}");
    }
}
