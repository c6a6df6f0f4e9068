//! JSON to MessagePack and CBOR: two walks over the text, the first one counts.
//!
//! Both walks rely on the text being well-formed, which it is after validation; they need no stack, since a bracket, a
//! comma and a colon say all that is to be known. On other text they give some error or some bytes, never a panic.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::TranscodeError;
use super::sink::{Sink, Value};
use crate::json;
use crate::malformed::{Flaw, Malformed};

/// Decoder for binary: padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes the JSON value `text` to a sink that knows nothing of JSON's punctuation.
pub(super) fn transcode<S: Sink>(text: &[u8], sink: &mut S) -> Result<(), TranscodeError> {
    let counts = count_elements(text)?;
    let mut counts = counts.into_iter();
    let mut scratch = String::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'[' => {
                sink.value(&Value::List(counts.next().ok_or_else(uncounted)?))?;
                at += 1;
            }
            b'{' => {
                sink.value(&Value::Dict(counts.next().ok_or_else(uncounted)?))?;
                at += 1;
            }
            b'"' => {
                let scanned = json::scan_string(text, at + 1)?;
                at = json::skip_whitespace(text, scanned.close + 1);
                let meaning = if scanned.escaped {
                    scratch.clear();
                    json::unescape(scanned.content, &mut scratch)?;
                    scratch.as_str()
                } else {
                    scanned.content
                };
                let is_key = text.get(at) == Some(&b':');
                match meaning.strip_prefix('\0') {
                    Some(base64) if !is_key => {
                        let binary = BASE64.decode(base64).map_err(|_| TranscodeError::Base64)?;
                        sink.value(&Value::Binary(binary.into()))?;
                    }
                    _ => sink.value(&Value::Text(meaning.into()))?,
                }
            }
            b'-' | b'0'..=b'9' => {
                let end = json::skip_number(text, at)?;
                sink.value(&number(&text[at..end], S::INTEGER_MIN))?;
                at = end;
            }
            b't' => {
                sink.value(&Value::Bool(true))?;
                at += 4;
            }
            b'f' => {
                sink.value(&Value::Bool(false))?;
                at += 5;
            }
            b'n' => {
                sink.value(&Value::Null)?;
                at += 4;
            }
            // Closing brackets, commas, colons, white space: punctuation of JSON alone.
            _ => at += 1,
        }
    }
    Ok(())
}

/// The walks saw different brackets, which only happens with malformed text.
fn uncounted() -> Malformed {
    Malformed::new(Flaw::NoJson, 0)
}

/// The number of elements or pairs of each list and dictionary, in the order of their opening brackets.
fn count_elements(text: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut counts: Vec<u32> = Vec::new();
    // Indices of the open ones.
    let mut open: Vec<u32> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => at = json::skip_string(text, at)? + 1,
            b'[' | b'{' => {
                at = json::skip_whitespace(text, at);
                open.push(u32::try_from(counts.len()).expect("messages are limited far below 4 GiB"));
                counts.push(if let Some(b']' | b'}') = text.get(at) { 0 } else { 1 });
            }
            b']' | b'}' => drop(open.pop()),
            b',' => {
                if let Some(&index) = open.last() {
                    counts[index as usize] += 1;
                }
            }
            _ => {}
        }
    }
    Ok(counts)
}

/// What the digits say. Integers outside of `integer_min..2⁶⁴` become floats.
fn number(digits: &[u8], integer_min: i128) -> Value<'static> {
    let text = std::str::from_utf8(digits).expect("a number's characters are ASCII");
    if let Ok(value) = text.parse::<u64>() {
        return Value::Integer(value.into());
    }
    // Longer ones are beyond every range, and parsing them would take as many steps.
    const CHARACTERS_MAX: usize = 21;
    if text.len() <= CHARACTERS_MAX
        && let Ok(value) = text.parse::<i128>()
        && (integer_min..0).contains(&value)
    {
        return Value::Integer(value);
    }
    // A fraction, an exponent, -0, or an integer that is too large.
    Value::Float(text.parse().expect("the grammar of JSON numbers is part of that of Rust's"))
}
