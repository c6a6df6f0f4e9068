//! What a hook says of a user, where it becomes part of a channel's name.

use std::borrow::Cow;

use crate::json;
use crate::wamp2::{JsonReader, Kind, Reader};

/// The string or integer under `key` in a JSON object that was validated, as it reads in a channel's name: strings without
/// quotes and escapes, integers with all their digits.
///
///     use fanwire_codec::message_center::scalar;
///     let user = br#"{"room": 9007199254740993, "team": "r\u0026d", "rate": 1.5}"#;
///     assert_eq!(scalar(user, "room").unwrap(), "9007199254740993");
///     assert_eq!(scalar(user, "team").unwrap(), "r&d");
///     assert_eq!(scalar(user, "rate"), None);
pub fn scalar<'a>(dict: &'a [u8], key: &str) -> Option<Cow<'a, str>> {
    let mut reader = JsonReader::new(dict, json::DEPTH_MAX);
    if reader.kind().ok()? != Kind::Dict {
        return None;
    }
    let mut pairs = reader.dict().ok()?;
    while let Some(name) = reader.next_key(&mut pairs).ok()? {
        if name != key {
            reader.skip().ok()?;
            continue;
        }
        return match reader.kind().ok()? {
            Kind::String => reader.string().ok(),
            Kind::Number => {
                let digits = std::str::from_utf8(reader.skip().ok()?).ok()?;
                (!digits.contains(['.', 'e', 'E'])).then_some(Cow::Borrowed(digits))
            }
            _ => None,
        };
    }
    None
}
