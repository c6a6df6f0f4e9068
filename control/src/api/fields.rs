//! JSON of requests: objects of known fields whose values stay text until they are asked for, each by its name.
//!
//! No tree is built: a document is walked once to find where its fields' values are, and payloads are given on as they came.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{ApiError, Code};

/// Text of a request's body, or of one line of it.
pub fn text(bytes: &[u8]) -> Result<&str, ApiError> {
    simdutf8::compat::from_utf8(bytes).map_err(|error| {
        let words = format!("the JSON is not UTF-8 (byte {}); send it in UTF-8", error.valid_up_to());
        ApiError {
            position: Some(position(bytes, error.valid_up_to())),
            ..ApiError::new(Code::InvalidJson, words)
        }
    })
}

/// Line and column of a byte, from 1.
fn position(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at.min(bytes.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    (memchr::memchr_iter(b'\n', before).count() + 1, at - line_start + 1)
}

/// Reads an object into a struct of [`Field`]s. `what` is what it should be, with its article.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, ApiError> {
    // serde takes a list for the fields in their order, too.
    if text.trim_start().starts_with('[') {
        return Err(ApiError::new(Code::InvalidJson, format!("this must be {what}")));
    }
    serde_json::from_str(text).map_err(|error| explain(&error, what))
}

/// What serde says, as one of our errors.
#[cold]
pub fn explain(error: &serde_json::Error, what: &str) -> ApiError {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(&*words, |(words, _)| words);
    let position = Some((error.line(), error.column()));
    if !error.is_data() {
        let words = format!("this is no JSON: {words}");
        return ApiError { position, ..ApiError::new(Code::InvalidJson, words) };
    }
    // serde tells what is wrong with names in words only.
    let named = words.split('`').nth(1).unwrap_or_default();
    if words.starts_with("unknown field") {
        let known: Vec<&str> = words.split('`').skip(3).step_by(2).collect();
        let words = format!("there is no field {named:?} in {what}; known: {}", known.join(", "));
        return ApiError { position, ..ApiError::new(Code::UnknownField, words).field(named) };
    }
    if words.starts_with("duplicate field") {
        let words = format!("the field {named:?} is there twice; parsers differ about which one counts");
        return ApiError { position, ..ApiError::new(Code::UnknownField, words).field(named) };
    }
    ApiError { position, ..ApiError::new(Code::InvalidJson, format!("this must be {what}")) }
}

/// A field's value as it came; absent and `null` are the same, but where a [`Given`] says otherwise.
pub type Field<'a> = Option<&'a RawValue>;

/// A field in which `null` is a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a>(pub Field<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Given<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'a RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

/// A string.
pub fn string<'a>(name: &str, value: &'a RawValue) -> Result<Cow<'a, str>, ApiError> {
    let text = value.get();
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        // The document was found to be JSON, so nothing else has a meaning of its own in a string.
        Some(inner) if memchr::memchr(b'\\', inner.as_bytes()).is_none() => Ok(Cow::Borrowed(inner)),
        Some(_) => {
            serde_json::from_str(text).map(Cow::Owned).map_err(|_| invalid(name, "a string that is Unicode"))
        }
        None => Err(invalid(name, "a string")),
    }
}

/// A string that must be there.
pub fn required<'a>(name: &str, value: Field<'a>) -> Result<Cow<'a, str>, ApiError> {
    match value {
        Some(value) => string(name, value),
        None => {
            Err(ApiError::new(Code::MissingField, format!("the field {name:?} must be there")).field(name))
        }
    }
}

/// `true` or `false`; absent means `false`.
pub fn flag(name: &str, value: Field<'_>) -> Result<bool, ApiError> {
    match value.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid(name, "true or false")),
    }
}

/// A list of whatever can be read alone.
pub fn list<'a, T: Deserialize<'a>>(
    name: &str,
    value: Field<'a>,
    what: &str,
) -> Result<Option<Vec<T>>, ApiError> {
    value.map(|value| serde_json::from_str(value.get()).map_err(|_| invalid(name, what))).transpose()
}

/// The field's value is not what it should be.
#[cold]
pub fn invalid(name: &str, what: &str) -> ApiError {
    ApiError::new(Code::InvalidField, format!("{name:?} must be {what}")).field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Two<'a> {
        #[serde(borrow)]
        name: Field<'a>,
        #[serde(borrow, default)]
        data: Given<'a>,
    }

    fn read(text: &str) -> Result<Two<'_>, ApiError> {
        object(text, "an object with a name")
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, code, field, position, words) in [
            ("{\n \"name\": ]}", Code::InvalidJson, None, Some((2, 10)), "no JSON"),
            ("", Code::InvalidJson, None, Some((1, 0)), "EOF"),
            ("[1]", Code::InvalidJson, None, None, "must be an object with a name"),
            ("{\"nam\":1}", Code::UnknownField, Some("nam"), Some((1, 6)), "known: name, data"),
            ("{\"name\":1,\"name\":2}", Code::UnknownField, Some("name"), None, "twice"),
            ("{} x", Code::InvalidJson, None, Some((1, 4)), "no JSON"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!((error.code, error.field.as_deref()), (code, field), "{text}");
            assert!(error.message.contains(words), "{text}: {}", error.message);
            assert!(position.is_none() || error.position == position, "{text}: {:?}", error.position);
        }
        let error = super::text(b"{\n\"\xff\"").expect_err("not UTF-8");
        assert_eq!(error.position, Some((2, 2)));
    }

    #[test]
    fn null_is_a_value_where_it_matters() {
        let two = read("{\"name\":null,\"data\":null}").expect("right");
        assert!(two.name.is_none() && two.data.0.is_some());
        assert!(read("{}").expect("right").data.0.is_none());
    }

    #[test]
    fn strings_are_unescaped_only_where_they_must_be() {
        let two = read(r#"{"name":"a.b","data":"a\u002eb\n"}"#).expect("right");
        assert!(matches!(string("name", two.name.expect("there")), Ok(Cow::Borrowed("a.b"))));
        assert_eq!(string("data", two.data.0.expect("there")).expect("a string"), "a.b\n");
        let two = read(r#"{"name":"\ud800","data":1}"#).expect("its strings are not looked at yet");
        assert!(string("name", two.name.expect("there")).is_err());
        assert!(string("data", two.data.0.expect("there")).is_err());
    }
}
