//! What is known of one connection, by keys: kept outside of any VM, so that a script that is loaded anew finds it.

use std::collections::BTreeMap;

use mlua::{Lua, Value};

use super::json;

/// Values of one connection.
const VALUES_MAX: usize = 64;
/// Keys and values of one connection together.
const BYTES_MAX: usize = 16 << 10;

/// A value.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(Box<[u8]>),
    /// A table, as JSON.
    Table(Box<str>),
}

/// All that is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Context {
    values: BTreeMap<Box<str>, Known>,
    bytes: usize,
}

impl Known {
    fn of(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Number(value) => Self::Number(*value),
            Value::String(text) => Self::Text(text.as_bytes().as_ref().into()),
            table @ Value::Table(_) => Self::Table(json::encode(table)?.into()),
            other => return Err(format!("a {} cannot be kept", other.type_name())),
        })
    }

    fn to_lua(&self, lua: &Lua) -> mlua::Result<Value> {
        Ok(match self {
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::Number(value) => Value::Number(*value),
            Self::Text(text) => Value::String(lua.create_string(text)?),
            Self::Table(json) => json::decode(lua, json.as_bytes()).map_err(mlua::Error::runtime)?,
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Table(json) => json.len(),
            Self::Boolean(_) | Self::Integer(_) | Self::Number(_) => 8,
        }
    }
}

impl Context {
    /// Takes a value of a script in; nothing takes what was known out.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        if value.is_nil() || value.is_null() {
            self.remove(key);
            return Ok(());
        }
        self.insert(key, Known::of(value)?)
    }

    /// Takes in what a backend says, who has texts alone: one that is a whole number becomes one.
    pub(super) fn set_text(&mut self, key: &str, text: &str) -> Result<(), String> {
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        let known = number.map_or_else(|| Known::Text(text.as_bytes().into()), Known::Integer);
        self.insert(key, known)
    }

    fn insert(&mut self, key: &str, known: Known) -> Result<(), String> {
        let before = self.values.get(key).map_or(0, |known| key.len() + known.bytes());
        let bytes = self.bytes - before + key.len() + known.bytes();
        if bytes > BYTES_MAX || before == 0 && self.values.len() == VALUES_MAX {
            return Err(format!(
                "a connection's context has {VALUES_MAX} values and {BYTES_MAX} bytes at most"
            ));
        }
        self.bytes = bytes;
        self.values.insert(key.into(), known);
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some(known) = self.values.remove(key) {
            self.bytes -= key.len() + known.bytes();
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// What is known by this key, as a text, if it is one or a whole number.
    pub(super) fn text(&self, key: &str) -> Option<Box<str>> {
        match self.values.get(key)? {
            Known::Text(text) => std::str::from_utf8(text).ok().map(Box::from),
            Known::Integer(number) => Some(number.to_string().into()),
            _ => None,
        }
    }

    /// What is known by this key; nil: nothing.
    pub(super) fn get(&self, lua: &Lua, key: &str) -> mlua::Result<Value> {
        self.values.get(key).map_or(Ok(Value::Nil), |known| known.to_lua(lua))
    }

    /// All of it, as a table.
    pub(super) fn all(&self, lua: &Lua) -> mlua::Result<Value> {
        let table = lua.create_table()?;
        for (key, known) in &self.values {
            table.raw_set(&**key, known.to_lua(lua)?)?;
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        let lua = Lua::new();
        let mut context = Context::default();
        for (nth, code) in ["9007199254740993", "1.5", "true", "'u-01'", "'\\xff\\0'"].iter().enumerate() {
            let value: Value = lua.load(*code).eval().expect(code);
            context.set(&nth.to_string(), &value).expect(code);
            assert_eq!(context.get(&lua, &nth.to_string()).expect("a value"), value, "{code}");
        }
        context.set("0", &Value::Nil).expect("it is removed");
        assert!(!context.has("0") && context.has("1"));
        context.set_text("uid", "1001").expect("room");
        context.set_text("name", "007").expect("room");
        assert_eq!(context.get(&lua, "uid").expect("a value"), Value::Integer(1001));
        assert!(matches!(context.get(&lua, "name").expect("a value"), Value::String(text) if text == "007"));
    }

    #[test]
    fn it_is_bounded() {
        let mut context = Context::default();
        assert!(context.set_text("a", &"x".repeat(BYTES_MAX)).is_err());
        for nth in 0..VALUES_MAX {
            context.set_text(&nth.to_string(), "x").expect("room");
        }
        assert!(context.set_text("more", "x").is_err() && context.set_text("1", "y").is_ok());
        for _ in 0..1_000 {
            context.set_text("1", &"x".repeat(1 << 10)).expect("in place of what was there");
        }
    }
}
