//! The configuration explained: as a file to start from, and as the tables of `docs/configuration.md`.
//!
//! Both walk the defaults together with the comments of [`schema`](super::schema), so that neither can name a key that does
//! not exist, miss one, or give another default than the one in effect.

use std::fmt::Write;

use toml::{Table, Value};

use super::describe::{Described, Field};
use super::lua::Lua;
use super::redis::Bridge;
use super::schema::{Config, Hook};
use super::show::quoted;
use super::tick::Tick;

/// `fanwire config default`: a file with every key at its default, each with its meaning. It loads back to the defaults.
pub fn default_file() -> String {
    let mut out = String::from(
        "# Every key of the configuration at its default. What is left out keeps it, so a file may be as short as its\n\
         # changes. Whether it is right: `fanwire config check FILE`. More about each key: `fanwire config doc`.\n",
    );
    write_section(&mut out, &defaults(), Config::FIELDS, "");
    out
}

/// `fanwire config doc`: a section and a table of keys for each part, in Markdown.
pub fn markdown() -> String {
    let mut out = String::new();
    for (name, value, field) in entries(&defaults(), Config::FIELDS) {
        let heading = header(name, value);
        let about = field.meaning();
        write!(
            out,
            "### `{heading}`\n\n{about}\n\n| key | default | a change acts | meaning |\n|---|---|---|---|\n"
        )
        .expect(INFALLIBLE);
        for table in tables(value).into_iter().take(1) {
            write_rows(&mut out, table, field.inner, name);
        }
        if let Some(element) = sample(name) {
            write_rows(&mut out, &element, field.inner, name);
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

const INFALLIBLE: &str = "writing to a string succeeds";

fn defaults() -> Table {
    Table::try_from(Config::default()).expect("the defaults are tables of plain values")
}

/// By default there is none, so an example shows what one has.
fn sample(name: &str) -> Option<Table> {
    let element = match name {
        "hook" => Table::try_from(Hook::at("backend", "http://127.0.0.1:8000/fanwire")),
        "bridge" => Table::try_from(Bridge::at("redis", "redis://127.0.0.1:6379")),
        "lua" => Table::try_from(Lua::at("/chat", "handler.lua")),
        "tick" => Table::try_from(Tick::at("clock", "room.clock")),
        _ => return None,
    };
    Some(element.expect("it is a table of plain values"))
}

/// Each key with its default and its comment.
fn entries<'a>(
    table: &'a Table,
    fields: &'static [Field],
) -> impl Iterator<Item = (&'a str, &'a Value, &'static Field)> {
    // Serde writes the fields in the order of their declaration, and the table keeps it.
    assert_eq!(table.len(), fields.len(), "each field is written");
    table.iter().zip(fields).map(|((name, value), field)| (name.as_str(), value, field))
}

/// The tables under a key: its only one, or the elements of an array of them.
fn tables(value: &Value) -> Vec<&Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(elements) => elements.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    }
}

fn header(path: &str, value: &Value) -> String {
    if value.is_array() { format!("[[{path}]]") } else { format!("[{path}]") }
}

fn write_section(out: &mut String, table: &Table, fields: &'static [Field], path: &str) {
    // TOML: what follows the header of a table within belongs to that table.
    let is_plain = |value: &Value, field: &Field| field.inner.is_empty() || tables(value).is_empty();
    for (name, value, field) in entries(table, fields).filter(|(_, value, field)| is_plain(value, field)) {
        write!(out, "# {}\n{} = {value}\n", field.summary(), quoted(name)).expect(INFALLIBLE);
    }
    for (name, value, field) in entries(table, fields).filter(|(_, value, field)| !is_plain(value, field)) {
        let path = if path.is_empty() { quoted(name) } else { format!("{path}.{}", quoted(name)) };
        for inner in tables(value) {
            write!(out, "\n# {}\n{}\n", field.summary(), header(&path, value)).expect(INFALLIBLE);
            write_section(out, inner, field.inner, &path);
        }
    }
}

fn write_rows(out: &mut String, table: &Table, fields: &'static [Field], key: &str) {
    for (name, value, field) in entries(table, fields) {
        let key = format!("{key}.{name}");
        if field.inner.is_empty() {
            let meaning = field.meaning().replace('|', "\\|");
            let acts = field.acts.expect("a plain value says when it acts").words();
            writeln!(out, "| `{key}` | `{value}` | {acts} | {meaning} |").expect(INFALLIBLE);
        } else {
            // Further ones have the same keys.
            for inner in tables(value).into_iter().take(1) {
                write_rows(out, inner, field.inner, &key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields with their keys.
    fn walk(table: &Table, fields: &'static [Field], path: &str, seen: &mut Vec<(String, &'static Field)>) {
        for (name, value, field) in entries(table, fields) {
            let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            seen.push((key.clone(), field));
            if !field.inner.is_empty() {
                tables(value).into_iter().for_each(|inner| walk(inner, field.inner, &key, seen));
            }
        }
    }

    fn all() -> Vec<(String, &'static Field)> {
        let mut seen = Vec::new();
        walk(&defaults(), Config::FIELDS, "", &mut seen);
        seen
    }

    #[test]
    fn the_default_file_is_the_defaults() {
        let text = default_file();
        let config: Config = toml::from_str(&text).expect(&text);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_default_file_has_each_key_under_one_line_about_it() {
        let text = default_file();
        let lines: Vec<&str> = text.lines().collect();
        assert!(all().len() > 40, "{}", all().len());
        for (key, field) in all() {
            let name = key.rsplit('.').next().expect("a key has a name");
            let comment = format!("# {}", field.summary());
            assert!(comment.len() <= 120, "its first paragraph is one line of a file: {comment}");
            let below = |at: usize| lines.get(at + 1).copied().unwrap_or_default();
            let written = (0..lines.len()).any(|at| {
                lines[at] == comment
                    && (below(at).starts_with(&format!("{name} = "))
                        || below(at).trim_matches(['[', ']']) == key)
            });
            assert!(written, "{key} is missing in\n{text}");
        }
    }

    #[test]
    fn each_value_says_when_it_acts_and_no_table_that_can_only_change_inside() {
        fn check(value: Option<&Value>, field: &Field, key: &str) {
            let is_table = value.is_some_and(Value::is_table);
            assert_eq!(field.acts.is_none(), !field.inner.is_empty() && is_table, "{key}");
        }
        fn walk(table: &Table, fields: &'static [Field], path: &str) {
            for (name, value, field) in entries(table, fields) {
                let key = format!("{path}{name}");
                check(Some(value), field, &key);
                tables(value).into_iter().for_each(|inner| {
                    if !field.inner.is_empty() {
                        walk(inner, field.inner, &format!("{key}."));
                    }
                });
            }
        }
        walk(&defaults(), Config::FIELDS, "");
    }

    #[test]
    fn the_reference_has_a_row_for_each_key() {
        let text = markdown();
        for (key, field) in all() {
            if field.inner.is_empty() {
                assert_eq!(text.matches(&format!("| `{key}` | `")).count(), 1, "{key}");
            }
            let meaning = field.meaning().replace('|', "\\|");
            assert!(text.contains(&meaning) || !field.inner.is_empty(), "{key}");
        }
        assert!(text.contains("| `limits.message` | `\"1MiB\"` | now | "), "{text}");
        assert!(text.contains("### `[[listener]]`\n"), "{text}");
    }
}
