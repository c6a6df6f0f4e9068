//! MessagePack and CBOR to any other serializer: one walk over a [`Source`] of values.

use std::borrow::Cow;
use std::vec;

use super::TranscodeError;
use super::sink::{Place, Sink, Value};
use crate::cbor::{self, BREAK};
use crate::malformed::{Flaw, Malformed};
use crate::msgpack;
use crate::utf8::to_str;

/// Deepest nesting that a validated payload has.
const DEPTH_MAX: usize = msgpack::DEPTH_MAX as usize;
const _: () = assert!(msgpack::DEPTH_MAX == cbor::DEPTH_MAX);

/// Gives one value after the other, with the numbers of elements and pairs.
pub(super) trait Source<'a> {
    fn next(&mut self) -> Result<Value<'a>, TranscodeError>;
}

/// A list or dictionary that is being written.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Values that still come; a pair is two.
    due: u64,
    is_dict: bool,
    /// Nothing was written yet, so no comma is due.
    fresh: bool,
}

/// Writes the value that `source` begins with.
pub(super) fn transcode<'a>(mut source: impl Source<'a>, sink: &mut impl Sink) -> Result<(), TranscodeError> {
    let mut outer = [Level::default(); DEPTH_MAX];
    let mut depth = 0;
    let mut level = Level { due: 1, is_dict: false, fresh: true };
    loop {
        let is_key = level.is_dict && level.due.is_multiple_of(2);
        sink.place(match (level.fresh, level.is_dict && !is_key) {
            (true, _) => Place::First,
            (_, true) => Place::BehindKey,
            (_, false) => Place::Next,
        });
        level.fresh = false;
        level.due -= 1;
        let value = source.next()?;
        let entered = match value {
            Value::Dict(count) => Some(Level { due: u64::from(count) * 2, is_dict: true, fresh: true }),
            Value::List(count) => Some(Level { due: count.into(), is_dict: false, fresh: true }),
            _ => None,
        };
        if is_key {
            if entered.is_some() {
                return Err(TranscodeError::NestedKey);
            }
            sink.key(&value)?;
            continue;
        }
        sink.value(&value)?;
        if let Some(entered) = entered {
            *outer.get_mut(depth).ok_or(Malformed::new(Flaw::TooDeep, 0))? = level;
            depth += 1;
            level = entered;
        }
        while level.due == 0 {
            if depth == 0 {
                return Ok(());
            }
            sink.close(level.is_dict);
            depth -= 1;
            level = outer[depth];
        }
    }
}

/// The values of a MessagePack document.
pub(super) struct MsgPackSource<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> MsgPackSource<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Source<'a> for MsgPackSource<'a> {
    fn next(&mut self) -> Result<Value<'a>, TranscodeError> {
        use msgpack::Head;
        let bytes: &'a [u8] = self.bytes;
        let (head, end) = msgpack::read_head(bytes, self.at)?;
        self.at = end;
        Ok(match head {
            Head::Nil => Value::Null,
            // How JavaScript's undefined is packed by packers that know it.
            Head::Extension(0, 1) => {
                self.at += 1;
                Value::Null
            }
            Head::Bool(value) => Value::Bool(value),
            Head::Unsigned(value) => Value::Integer(value.into()),
            Head::Negative(value) => Value::Integer(value.into()),
            Head::Float(value) => Value::Float(value),
            Head::String(length) => {
                self.at += length;
                Value::Text(text(bytes, end, length)?.into())
            }
            Head::Binary(length) => {
                self.at += length;
                Value::Binary(bytes[end..self.at].into())
            }
            Head::Extension(kind, _) => return Err(TranscodeError::Extension(kind)),
            Head::List(count) => Value::List(count),
            Head::Dict(count) => Value::Dict(count),
        })
    }
}

/// The values of a CBOR document.
pub(super) struct CborSource<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many values the lists and dictionaries of indefinite length have that come next.
    counts: vec::IntoIter<u32>,
}

impl<'a> CborSource<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, counts: Vec::new().into_iter() }
    }

    /// How many values there are inside of what begins at `start`. Each one of an indefinite length is counted together
    /// with all that are inside of it, so that nothing is counted again when they come.
    fn count(&mut self, start: usize, count: Option<usize>) -> Result<u32, Malformed> {
        let count = match count {
            Some(count) => return Ok(u32::try_from(count).expect("messages are limited far below 4 GiB")),
            None => self.counts.next(),
        };
        if let Some(count) = count {
            return Ok(count);
        }
        self.counts = count_open(self.bytes, start)?.into_iter();
        Ok(self.counts.next().expect("it counts at least what it begins with"))
    }

    /// A string's bytes, joined if they come in chunks.
    fn bytes(&mut self, length: Option<usize>, is_text: bool) -> Result<Cow<'a, [u8]>, Malformed> {
        let start = self.at;
        if let Some(length) = length {
            self.at += length;
            return Ok(self.bytes[start..self.at].into());
        }
        let mut chunks = cbor::chunks(self.bytes, start, is_text);
        let mut joined = Vec::new();
        while let Some(chunk) = chunks.next()? {
            joined.extend_from_slice(chunk);
        }
        self.at = chunks.at;
        Ok(joined.into())
    }
}

impl<'a> Source<'a> for CborSource<'a> {
    fn next(&mut self) -> Result<Value<'a>, TranscodeError> {
        use cbor::Head;
        // Everything is counted, so the ends need no attention.
        while self.bytes.get(self.at) == Some(&BREAK) {
            self.at += 1;
        }
        let start = self.at;
        let (head, end) = cbor::read_head(self.bytes, start)?;
        self.at = end;
        Ok(match head {
            Head::Null | Head::Undefined => Value::Null,
            Head::Bool(value) => Value::Bool(value),
            Head::Unsigned(value) => Value::Integer(value.into()),
            Head::Negative(value) => Value::Integer(-1 - i128::from(value)),
            Head::Float(value) => Value::Float(value),
            Head::Text(Some(length)) => {
                self.at += length;
                Value::Text(text(self.bytes, end, length)?.into())
            }
            Head::Text(None) => {
                let joined = self.bytes(None, true)?.into_owned();
                let text = String::from_utf8(joined).map_err(|_| Malformed::new(Flaw::NotUtf8, start))?;
                Value::Text(text.into())
            }
            Head::Bytes(length) => Value::Binary(self.bytes(length, false)?),
            Head::List(count) => Value::List(self.count(start, count)?),
            Head::Dict(Some(count)) => Value::Dict(self.count(start, Some(count))?),
            Head::Dict(None) => Value::Dict(self.count(start, None)? / 2),
            // RFC 8746: a typed array of uint8, which is what the bytes are; JavaScript packers send it.
            Head::Tag(64) => match cbor::read_head(self.bytes, end)? {
                (Head::Bytes(length), end) => {
                    self.at = end;
                    Value::Binary(self.bytes(length, false)?)
                }
                _ => return Err(TranscodeError::Tag(64)),
            },
            Head::Tag(tag) => return Err(TranscodeError::Tag(tag)),
            Head::Simple(value) => return Err(TranscodeError::Simple(value)),
        })
    }
}

/// How many values there are in each list and dictionary of indefinite length in the value at `at`, in the order of their
/// beginnings.
fn count_open(bytes: &[u8], mut at: usize) -> Result<Vec<u32>, Malformed> {
    use cbor::Head;

    /// What is due on a level: a number of values, or, with the place in `counts`, whatever comes until the break.
    enum Due {
        Values(u64),
        Open(usize),
    }

    let mut counts: Vec<u32> = Vec::new();
    let mut levels = vec![Due::Values(1)];
    while let Some(due) = levels.last_mut() {
        match due {
            Due::Values(0) => {
                levels.pop();
                continue;
            }
            Due::Values(count) => *count -= 1,
            Due::Open(_) if bytes.get(at) == Some(&BREAK) => {
                at += 1;
                levels.pop();
                continue;
            }
            Due::Open(index) => counts[*index] += 1,
        }
        let (head, end) = cbor::read_head(bytes, at)?;
        at = end;
        let entered = match head {
            Head::Text(Some(length)) | Head::Bytes(Some(length)) => {
                at += length;
                continue;
            }
            Head::Text(None) | Head::Bytes(None) => {
                let mut chunks = cbor::chunks(bytes, at, matches!(head, Head::Text(_)));
                while chunks.next()?.is_some() {}
                at = chunks.at;
                continue;
            }
            Head::List(Some(count)) => Due::Values(count as u64),
            Head::Dict(Some(count)) => Due::Values(count as u64 * 2),
            Head::List(None) | Head::Dict(None) => {
                counts.push(0);
                Due::Open(counts.len() - 1)
            }
            Head::Tag(_) => Due::Values(1),
            _ => continue,
        };
        if levels.len() > DEPTH_MAX {
            return Err(Malformed::new(Flaw::TooDeep, at));
        }
        levels.push(entered);
    }
    Ok(counts)
}

fn text(bytes: &[u8], start: usize, length: usize) -> Result<&str, Malformed> {
    to_str(&bytes[start..start + length]).map_err(|at| Malformed::new(Flaw::NotUtf8, start + at))
}
