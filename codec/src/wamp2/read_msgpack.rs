//! [`Reader`] over MessagePack.

use std::borrow::Cow;

use super::ID_MAX;
use super::read::{Items, Kind, Reader, integral};
use crate::malformed::{Flaw, Malformed};
use crate::msgpack::{self, Head};
use crate::utf8::to_str;

/// A cursor over a MessagePack message.
pub(super) struct MsgPackReader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth_max: u32,
}

impl<'a> MsgPackReader<'a> {
    pub(super) fn new(bytes: &'a [u8], depth_max: u32) -> Self {
        Self { bytes, at: 0, depth_max }
    }

    #[inline]
    fn head(&mut self) -> Result<Head, Malformed> {
        let (head, end) = msgpack::read_head(self.bytes, self.at)?;
        self.at = end;
        Ok(head)
    }
}

impl<'a> Reader<'a> for MsgPackReader<'a> {
    #[inline]
    fn kind(&mut self) -> Result<Kind, Malformed> {
        Ok(match self.bytes.get(self.at) {
            Some(0x00..=0x7f | 0xca..=0xd3 | 0xe0..=0xff) => Kind::Number,
            Some(0xa0..=0xbf | 0xd9..=0xdb) => Kind::String,
            Some(0x90..=0x9f | 0xdc | 0xdd) => Kind::List,
            Some(0x80..=0x8f | 0xde | 0xdf) => Kind::Dict,
            Some(0xc2 | 0xc3) => Kind::Bool,
            Some(0xc0) => Kind::Absent,
            _ => match msgpack::read_head(self.bytes, self.at)?.0 {
                // What JavaScript's undefined becomes in the packers that know it.
                Head::Extension(0, 1) => Kind::Absent,
                _ => Kind::Other,
            },
        })
    }

    #[inline]
    fn list(&mut self) -> Result<Items, Malformed> {
        match self.head()? {
            Head::List(count) => Ok(Items(count)),
            _ => Err(Malformed::new(Flaw::OtherType, self.at)),
        }
    }

    #[inline]
    fn next_element(&mut self, items: &mut Items) -> Result<bool, Malformed> {
        if items.0 == 0 {
            return Ok(false);
        }
        items.0 -= 1;
        Ok(true)
    }

    #[inline]
    fn dict(&mut self) -> Result<Items, Malformed> {
        match self.head()? {
            Head::Dict(count) => Ok(Items(count)),
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
        let Head::String(length) = self.head()? else {
            return Err(Malformed::new(Flaw::KeyNoString, start));
        };
        let content = &bytes[self.at..self.at + length];
        let text = to_str(content).map_err(|at| Malformed::new(Flaw::NotUtf8, self.at + at))?;
        self.at += length;
        Ok(Cow::Borrowed(text))
    }

    #[inline]
    fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.at = msgpack::skip_value(self.bytes, start, self.depth_max)?;
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
