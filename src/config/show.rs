//! The configuration as it is in effect, as a file that gives the same one, with where each value was written.

use std::fmt::Write;

use toml::{Table, Value};

use super::load::Loaded;
use super::problem::Place;

/// Writes the whole configuration as TOML. Values that are not defaults carry their origin as a comment.
pub fn show(loaded: &Loaded) -> String {
    let table = Table::try_from(&loaded.config).expect("a configuration is made of tables of plain values");
    let mut out = String::new();
    section(&mut out, loaded, &table, "", "");
    out.trim_start().to_owned()
}

/// `path` is how TOML names the table, `key` is how origins name it (with indices).
fn section(out: &mut String, loaded: &Loaded, table: &Table, path: &str, key: &str) {
    let join = |parent: &str, name: &str| {
        if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
    };
    for (name, value) in table.iter().filter(|(_, value)| !is_section(value)) {
        let line = format!("{} = {value}", quoted(name));
        match loaded.origins.exact(&join(key, name)).map(Place::to_string) {
            Some(origin) => writeln!(out, "{line:<48} # {origin}"),
            None => writeln!(out, "{line}"),
        }
        .expect("writing to a string succeeds");
    }
    for (name, value) in table.iter().filter(|(_, value)| is_section(value)) {
        let path = join(path, &quoted(name));
        let key = join(key, name);
        match value {
            Value::Table(inner) => {
                writeln!(out, "\n[{path}]").expect("writing to a string succeeds");
                section(out, loaded, inner, &path, &key);
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let inner = element.as_table().expect("only arrays of tables are sections");
                    writeln!(out, "\n[[{path}]]").expect("writing to a string succeeds");
                    section(out, loaded, inner, &path, &format!("{key}.{index}"));
                }
            }
            _ => unreachable!("only tables and arrays of tables are sections"),
        }
    }
}

fn is_section(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(elements) => elements.first().is_some_and(Value::is_table),
        _ => false,
    }
}

/// A key as TOML names it.
pub fn quoted(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { name.to_owned() } else { Value::String(name.to_owned()).to_string() }
}
