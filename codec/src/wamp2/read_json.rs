//! [`Reader`] over JSON.

use std::borrow::Cow;

use super::ID_MAX;
use super::read::{Items, Kind, Reader, integral};
use crate::json;
use crate::malformed::{Flaw, Malformed};

/// A cursor over a JSON message; it never stands on white space when a value is due.
pub(crate) struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth_max: u32,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], depth_max: u32) -> Self {
        Self { bytes, at: json::skip_whitespace(bytes, 0), depth_max }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_whitespace(&mut self) {
        self.at = json::skip_whitespace(self.bytes, self.at);
    }

    /// Zero, a negative number, a float, or more digits than an id has.
    #[cold]
    fn odd_integer(&mut self) -> Result<Option<u64>, Malformed> {
        let start = self.at;
        self.at = json::skip_number(self.bytes, start)?;
        let text = std::str::from_utf8(&self.bytes[start..self.at]).expect("a number's characters are ASCII");
        if text.contains(['.', 'e', 'E']) {
            return Ok(integral(
                text.parse().expect("the grammar of JSON numbers is part of that of Rust's"),
            ));
        }
        Ok(text.parse().ok().filter(|value| *value <= ID_MAX))
    }

    /// Moves to the next item of a container; false: `close` came and the container is left.
    #[inline]
    fn next_item(&mut self, items: &mut Items, close: u8) -> Result<bool, Malformed> {
        self.skip_whitespace();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if items.0 > 0 => {
                self.at += 1;
                self.skip_whitespace();
                if self.peek() == Some(close) {
                    return Err(Malformed::new(Flaw::TrailingComma, self.at));
                }
                Ok(true)
            }
            Some(_) if items.0 == 0 => {
                items.0 = 1;
                Ok(true)
            }
            Some(_) => Err(Malformed::new(Flaw::NoComma, self.at)),
            None => Err(Malformed::new(Flaw::OpenBracket, self.at)),
        }
    }
}

impl<'a> Reader<'a> for JsonReader<'a> {
    #[inline]
    fn kind(&mut self) -> Result<Kind, Malformed> {
        Ok(match self.peek() {
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b'{') => Kind::Dict,
            Some(b'[') => Kind::List,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Absent,
            Some(_) => return Err(Malformed::new(Flaw::NoJson, self.at)),
            None => return Err(Malformed::new(Flaw::NoValue, self.at)),
        })
    }

    #[inline]
    fn list(&mut self) -> Result<Items, Malformed> {
        self.at += 1;
        Ok(Items(0))
    }

    #[inline]
    fn next_element(&mut self, items: &mut Items) -> Result<bool, Malformed> {
        self.next_item(items, b']')
    }

    #[inline]
    fn dict(&mut self) -> Result<Items, Malformed> {
        self.at += 1;
        Ok(Items(0))
    }

    #[inline]
    fn next_key(&mut self, items: &mut Items) -> Result<Option<Cow<'a, str>>, Malformed> {
        if !self.next_item(items, b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(Malformed::new(Flaw::KeyNoString, self.at));
        }
        let key = self.string()?;
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return Err(Malformed::new(Flaw::NoColon, self.at));
        }
        self.at += 1;
        self.skip_whitespace();
        Ok(Some(key))
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        self.skip().map(|literal| literal == b"true")
    }

    #[inline]
    fn integer(&mut self) -> Result<Option<u64>, Malformed> {
        // 2^53 has 16 digits; so many cannot overflow.
        const DIGITS_MAX: usize = 16;
        let mut value = 0;
        let mut end = self.at;
        while let Some(&digit @ b'0'..=b'9') = self.bytes.get(end)
            && end - self.at < DIGITS_MAX
        {
            value = value * 10 + u64::from(digit - b'0');
            end += 1;
        }
        let is_plain = self.peek() != Some(b'0') && end > self.at;
        if is_plain && !matches!(self.bytes.get(end), Some(b'0'..=b'9' | b'.' | b'e' | b'E')) {
            self.at = end;
            return Ok((value <= ID_MAX).then_some(value));
        }
        self.odd_integer()
    }

    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let bytes: &'a [u8] = self.bytes;
        let scanned = json::scan_string(bytes, self.at + 1)?;
        self.at = scanned.close + 1;
        if scanned.escaped { unescaped(scanned.content) } else { Ok(Cow::Borrowed(scanned.content)) }
    }

    #[inline]
    fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.at = json::skip_value(self.bytes, start, self.depth_max)?;
        Ok(&self.bytes[start..self.at])
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        self.skip_whitespace();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed::new(Flaw::Trailing, self.at)) }
    }

    fn position(&self) -> usize {
        self.at
    }

    fn rewind(&mut self, position: usize) {
        self.at = position;
    }
}

#[cold]
fn unescaped<'a>(content: &str) -> Result<Cow<'a, str>, Malformed> {
    let mut text = String::with_capacity(content.len());
    json::unescape(content, &mut text)?;
    Ok(Cow::Owned(text))
}
