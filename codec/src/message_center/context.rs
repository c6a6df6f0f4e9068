//! What a hook says of a user, where it becomes part of a channel's name.

use std::borrow::Cow;

use crate::json;
use crate::malformed::Malformed;
use crate::wamp2::{JsonReader, Kind, Reader};

/// The strings and integers of a JSON object that was validated, as they read in a channel's name: strings without quotes and
/// escapes, integers with all their digits. Of fields of one name, the first comes first. What is no object has none.
///
///     use fanwire_codec::message_center::scalars;
///     let user = br#"{"room": 9007199254740993, "team": "r\u0026d", "rate": 1.5, "more": {}}"#;
///     let scalars = scalars(user);
///     assert_eq!(scalars.len(), 2);
///     assert_eq!((&*scalars[0].0, &*scalars[0].1), ("room", "9007199254740993"));
///     assert_eq!((&*scalars[1].0, &*scalars[1].1), ("team", "r&d"));
pub fn scalars(dict: &[u8]) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut found = Vec::new();
    // What comes behind something that cannot be read is not there.
    let _ = collect(dict, &mut found);
    found
}

fn collect<'a>(dict: &'a [u8], found: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<(), Malformed> {
    let mut reader = JsonReader::new(dict, json::DEPTH_MAX);
    if reader.kind()? != Kind::Dict {
        return Ok(());
    }
    let mut pairs = reader.dict()?;
    while let Some(key) = reader.next_key(&mut pairs)? {
        match reader.kind()? {
            Kind::String => found.push((key, reader.string()?)),
            Kind::Number => {
                let digits = std::str::from_utf8(reader.skip()?).unwrap_or_default();
                if !digits.contains(['.', 'e', 'E']) {
                    found.push((key, digits.into()));
                }
            }
            _ => _ = reader.skip()?,
        }
    }
    Ok(())
}
