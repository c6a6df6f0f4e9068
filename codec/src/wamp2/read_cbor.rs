//! [`Reader`] over CBOR.

use std::borrow::Cow;

use super::ID_MAX;
use super::read::{Items, Kind, Reader, integral};
use crate::cbor::{self, BREAK, Head};
use crate::malformed::{Flaw, Malformed};
use crate::utf8::to_str;

/// Items of a list or dictionary that goes on until its break.
const OPEN: u32 = u32::MAX;

/// A cursor over a CBOR message.
pub(super) struct CborReader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth_max: u32,
}

impl<'a> CborReader<'a> {
    pub(super) fn new(bytes: &'a [u8], depth_max: u32) -> Self {
        Self { bytes, at: 0, depth_max }
    }

    #[inline]
    fn head(&mut self) -> Result<Head, Malformed> {
        let (head, end) = cbor::read_head(self.bytes, self.at)?;
        self.at = end;
        Ok(head)
    }

    #[inline]
    fn items(&self, count: Option<usize>) -> Items {
        Items(count.map_or(OPEN, |count| {
            let count = u32::try_from(count).ok().filter(|count| *count != OPEN);
            count.expect("messages are limited far below 4 GiB, and lengths to the bytes left")
        }))
    }

    /// The text whose chunks come next.
    #[cold]
    fn chunked(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let mut chunks = cbor::chunks(self.bytes, self.at, true);
        let mut text = String::new();
        while let Some(chunk) = chunks.next()? {
            let start = chunks.at - chunk.len();
            text.push_str(to_str(chunk).map_err(|at| Malformed::new(Flaw::NotUtf8, start + at))?);
        }
        self.at = chunks.at;
        Ok(Cow::Owned(text))
    }
}

impl<'a> Reader<'a> for CborReader<'a> {
    #[inline]
    fn kind(&mut self) -> Result<Kind, Malformed> {
        Ok(match self.bytes.get(self.at) {
            Some(0x00..=0x1b | 0x20..=0x3b | 0xf9..=0xfb) => Kind::Number,
            Some(0x60..=0x7b | 0x7f) => Kind::String,
            Some(0x80..=0x9b | 0x9f) => Kind::List,
            Some(0xa0..=0xbb | 0xbf) => Kind::Dict,
            Some(0xf4 | 0xf5) => Kind::Bool,
            // 0xf7: undefined, which JavaScript clients send for what is not there.
            Some(0xf6 | 0xf7) => Kind::Absent,
            _ => cbor::read_head(self.bytes, self.at).map(|_| Kind::Other)?,
        })
    }

    #[inline]
    fn list(&mut self) -> Result<Items, Malformed> {
        match self.head()? {
            Head::List(count) => Ok(self.items(count)),
            _ => Err(Malformed::new(Flaw::OtherType, self.at)),
        }
    }

    #[inline]
    fn next_element(&mut self, items: &mut Items) -> Result<bool, Malformed> {
        match items.0 {
            0 => return Ok(false),
            OPEN if self.bytes.get(self.at) == Some(&BREAK) => {
                self.at += 1;
                return Ok(false);
            }
            OPEN => {}
            _ => items.0 -= 1,
        }
        Ok(true)
    }

    #[inline]
    fn dict(&mut self) -> Result<Items, Malformed> {
        match self.head()? {
            Head::Dict(count) => Ok(self.items(count)),
            _ => Err(Malformed::new(Flaw::OtherType, self.at)),
        }
    }

    #[inline]
    fn next_key(&mut self, items: &mut Items) -> Result<Option<Cow<'a, str>>, Malformed> {
        if !self.next_element(items)? {
            return Ok(None);
        }
        self.string().map(Some)
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        match self.head()? {
            Head::Bool(value) => Ok(value),
            _ => Err(Malformed::new(Flaw::OtherType, self.at)),
        }
    }

    #[inline]
    fn integer(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(match self.head()? {
            Head::Unsigned(value) => (value <= ID_MAX).then_some(value),
            Head::Float(value) => integral(value),
            _ => None,
        })
    }

    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let bytes: &'a [u8] = self.bytes;
        let start = self.at;
        let length = match self.head()? {
            Head::Text(Some(length)) => length,
            Head::Text(None) => return self.chunked(),
            _ => return Err(Malformed::new(Flaw::KeyNoString, start)),
        };
        let content = &bytes[self.at..self.at + length];
        let text = to_str(content).map_err(|at| Malformed::new(Flaw::NotUtf8, self.at + at))?;
        self.at += length;
        Ok(Cow::Borrowed(text))
    }

    #[inline]
    fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.at = cbor::skip_value(self.bytes, start, self.depth_max)?;
        Ok(&self.bytes[start..self.at])
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed::new(Flaw::Trailing, self.at)) }
    }

    fn position(&self) -> usize {
        self.at
    }

    fn rewind(&mut self, position: usize) {
        self.at = position;
    }
}
