//! JSON and Lua's values: every digit of a whole number stays, and nothing else is lost silently.
//!
//! | JSON | Lua | back |
//! |---|---|---|
//! | whole number of 64 bits with a sign | integer | the same |
//! | larger whole number without a sign | string of its digits | a string |
//! | other number | float | the shortest that means it; whole floats without `.0` |
//! | `null` in an object | nothing | – |
//! | `null` in an array | `mix.null` | `null` |
//! | `[]`, `{}` | empty table | `[]` |

use std::fmt::Write;

use mlua::{LightUserData, Lua, Table, Value};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Arrays and objects in each other.
const DEPTH_MAX: usize = 64;

/// The value that `text` is.
pub(super) fn decode(lua: &Lua, text: &[u8]) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Seed(lua).deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Makes a Lua value of what comes.
struct Seed<'a>(&'a Lua);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::LightUserData(LightUserData(std::ptr::null_mut())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Value::Integer(value)),
            Err(_) => self.visit_str(&value.to_string()),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.create_string(value).map(Value::String).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(de::Error::custom)?;
        let mut place = 0;
        while let Some(value) = elements.next_element_seed(Seed(self.0))? {
            place += 1;
            table.raw_set(place, value).map_err(de::Error::custom)?;
        }
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(de::Error::custom)?;
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            let value = entries.next_value_seed(Seed(self.0))?;
            if !value.is_null() {
                table.raw_set(&*key, value).map_err(de::Error::custom)?;
            }
        }
        Ok(Value::Table(table))
    }
}

/// What one value may become: tables may be in others many times over, which no limit of Lua's memory sees.
const BYTES_MAX: usize = 16 << 20;
/// What a table takes time for beside its bytes.
const TABLE_BYTES: usize = 64;

/// The JSON of a value.
pub(super) fn encode(value: &Value) -> Result<String, String> {
    let mut out = Out::default();
    write(&mut out, value, 0)?;
    Ok(out.text)
}

#[derive(Default)]
struct Out {
    text: String,
    tables: usize,
}

fn write(out: &mut Out, value: &Value, depth: usize) -> Result<(), String> {
    if out.text.len() + out.tables * TABLE_BYTES > BYTES_MAX {
        return Err(format!("it is more JSON than {BYTES_MAX} bytes, of which a table counts {TABLE_BYTES}"));
    }
    if let Value::Table(table) = value {
        if depth == DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} tables are in each other, or one in itself"));
        }
        out.tables += 1;
        return write_table(out, table, depth + 1);
    }
    let out = &mut out.text;
    match value {
        Value::Nil => out.push_str("null"),
        value if value.is_null() => out.push_str("null"),
        Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => _ = write!(out, "{value}"),
        Value::Number(value) if !value.is_finite() => return Err(format!("{value} is no number in JSON")),
        Value::Number(value) if value.fract() == 0.0 && value.abs() < WHOLE_MAX => {
            _ = write!(out, "{value:.0}")
        }
        Value::Number(value) => {
            let number = serde_json::Number::from_f64(*value).expect("it is finite");
            _ = write!(out, "{number}");
        }
        Value::String(text) => {
            let text = text.to_str().map_err(|_| "a string is not UTF-8".to_owned())?;
            out.push_str(&serde_json::to_string(&*text).expect("a string is JSON"));
        }
        other => return Err(format!("a {} has no JSON", other.type_name())),
    }
    Ok(())
}

/// 2^53: up to here floats are exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

fn write_table(out: &mut Out, table: &Table, depth: usize) -> Result<(), String> {
    let length = table.raw_len();
    let count = table.pairs::<Value, Value>().count();
    if length == count {
        out.text.push('[');
        for place in 1..=length {
            if place > 1 {
                out.text.push(',');
            }
            let value: Value = table.raw_get(place).map_err(|error| error.to_string())?;
            write(out, &value, depth)?;
        }
        out.text.push(']');
        return Ok(());
    }
    // In the order of their keys: a table has none, and the same should be the same.
    let mut entries = Vec::with_capacity(count);
    for entry in table.pairs::<Value, Value>() {
        let (key, value) = entry.map_err(|error| error.to_string())?;
        let key = match key {
            Value::String(key) => key.to_str().map_err(|_| "a key is not UTF-8".to_owned())?.to_owned(),
            Value::Integer(key) => key.to_string(),
            other => return Err(format!("a {} is no key in JSON", other.type_name())),
        };
        entries.push((key, value));
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    out.text.push('{');
    for (place, (key, value)) in entries.iter().enumerate() {
        if place > 0 {
            out.text.push(',');
        }
        out.text.push_str(&serde_json::to_string(key).expect("a string is JSON"));
        out.text.push(':');
        write(out, value, depth)?;
    }
    out.text.push('}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Result<String, String> {
        let lua = Lua::new();
        encode(&decode(&lua, text.as_bytes())?)
    }

    #[test]
    fn every_digit_and_every_character_stays() {
        for text in [
            "9007199254740993",
            "-9223372036854775808",
            "[1,2.5,-3]",
            r#"{"a":"\u0001é\"","b":[true,false,null]}"#,
            r#""""#,
            "[]",
        ] {
            let expected: serde_json::Value = serde_json::from_str(text).expect("JSON");
            let got: serde_json::Value = serde_json::from_str(&round(text).expect(text)).expect("JSON");
            assert_eq!(got, expected, "{text}");
        }
        assert_eq!(round("18446744073709551615").expect("a number"), "\"18446744073709551615\"");
        assert_eq!(round("5.0").expect("a number"), "5");
        assert_eq!(round(r#"{"a":null}"#).expect("an object"), "[]");
    }

    #[test]
    fn what_is_no_json_is_told() {
        for text in ["", "{", "[1]x", "nul", "{\"a\":}", &"[".repeat(200)] {
            assert!(round(text).is_err(), "{text}");
        }
        let lua = Lua::new();
        for code in ["function() end", "1/0", "'\\xff'", "(function() local t = {} t[1] = t return t end)()"]
        {
            let value: Value = lua.load(format!("return {code}")).eval().expect(code);
            assert!(encode(&value).is_err(), "{code}");
        }
    }
}
