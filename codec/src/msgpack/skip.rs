//! The grammar of MessagePack as a loop: no recursion, one counter of outstanding values per level.

use rmp::Marker;

use crate::malformed::{Flaw, Malformed};
use crate::utf8::to_str;

/// Deepest nesting that can be asked for.
pub const DEPTH_MAX: u32 = 128;

/// Checks that `bytes` are one MessagePack value with at most `depth_max` (≤ [`DEPTH_MAX`]) nested lists and
/// dictionaries.
///
///     use fanwire_codec::msgpack;
///     assert!(msgpack::validate(b"\x92\x01\xa2hi", 128).is_ok());
///     assert!(msgpack::validate(b"\x92\x01", 128).is_err());
pub fn validate(bytes: &[u8], depth_max: u32) -> Result<(), Malformed> {
    let end = skip_value(bytes, 0, depth_max)?;
    if end == bytes.len() { Ok(()) } else { Err(Malformed::new(Flaw::Trailing, end)) }
}

/// The first bytes of a value: its type, and its value or its length. Lengths are checked against the bytes left:
/// contents of strings, binary and extensions are there, lists and dictionaries can still be complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Always below zero: what is not is [`Head::Unsigned`], however it was written.
    Negative(i64),
    Float(f64),
    /// Length in bytes, content follows. Its UTF-8 is not checked yet.
    String(usize),
    /// Length in bytes, content follows.
    Binary(usize),
    /// Type and length in bytes, content follows.
    Extension(i8, usize),
    /// Number of elements.
    List(u32),
    /// Number of pairs.
    Dict(u32),
}

/// Reads the head of the value at `at`; returns it with the index behind it.
#[inline]
pub(crate) fn read_head(bytes: &[u8], at: usize) -> Result<(Head, usize), Malformed> {
    let Some(&first) = bytes.get(at) else {
        return Err(Malformed::new(Flaw::NoValue, at));
    };
    let next = at + 1;
    let signed = |value: i64, end: usize| {
        let head = u64::try_from(value).map_or(Head::Negative(value), Head::Unsigned);
        (head, end)
    };
    let (head, end) = match Marker::from_u8(first) {
        Marker::FixPos(value) => (Head::Unsigned(value.into()), next),
        Marker::FixNeg(value) => (Head::Negative(value.into()), next),
        Marker::Null => (Head::Nil, next),
        Marker::False => (Head::Bool(false), next),
        Marker::True => (Head::Bool(true), next),
        Marker::U8 => (Head::Unsigned(u8::from_be_bytes(read(bytes, next)?).into()), next + 1),
        Marker::U16 => (Head::Unsigned(u16::from_be_bytes(read(bytes, next)?).into()), next + 2),
        Marker::U32 => (Head::Unsigned(u32::from_be_bytes(read(bytes, next)?).into()), next + 4),
        Marker::U64 => (Head::Unsigned(u64::from_be_bytes(read(bytes, next)?)), next + 8),
        Marker::I8 => signed(i8::from_be_bytes(read(bytes, next)?).into(), next + 1),
        Marker::I16 => signed(i16::from_be_bytes(read(bytes, next)?).into(), next + 2),
        Marker::I32 => signed(i32::from_be_bytes(read(bytes, next)?).into(), next + 4),
        Marker::I64 => signed(i64::from_be_bytes(read(bytes, next)?), next + 8),
        Marker::F32 => (Head::Float(f32::from_be_bytes(read(bytes, next)?).into()), next + 4),
        Marker::F64 => (Head::Float(f64::from_be_bytes(read(bytes, next)?)), next + 8),
        Marker::FixStr(length) => (Head::String(length.into()), next),
        Marker::Str8 => (Head::String(u8::from_be_bytes(read(bytes, next)?).into()), next + 1),
        Marker::Str16 => (Head::String(u16::from_be_bytes(read(bytes, next)?).into()), next + 2),
        Marker::Str32 => (Head::String(u32::from_be_bytes(read(bytes, next)?) as usize), next + 4),
        Marker::Bin8 => (Head::Binary(u8::from_be_bytes(read(bytes, next)?).into()), next + 1),
        Marker::Bin16 => (Head::Binary(u16::from_be_bytes(read(bytes, next)?).into()), next + 2),
        Marker::Bin32 => (Head::Binary(u32::from_be_bytes(read(bytes, next)?) as usize), next + 4),
        Marker::FixArray(count) => (Head::List(count.into()), next),
        Marker::Array16 => (Head::List(u16::from_be_bytes(read(bytes, next)?).into()), next + 2),
        Marker::Array32 => (Head::List(u32::from_be_bytes(read(bytes, next)?)), next + 4),
        Marker::FixMap(count) => (Head::Dict(count.into()), next),
        Marker::Map16 => (Head::Dict(u16::from_be_bytes(read(bytes, next)?).into()), next + 2),
        Marker::Map32 => (Head::Dict(u32::from_be_bytes(read(bytes, next)?)), next + 4),
        Marker::FixExt1 => (Head::Extension(i8::from_be_bytes(read(bytes, next)?), 1), next + 1),
        Marker::FixExt2 => (Head::Extension(i8::from_be_bytes(read(bytes, next)?), 2), next + 1),
        Marker::FixExt4 => (Head::Extension(i8::from_be_bytes(read(bytes, next)?), 4), next + 1),
        Marker::FixExt8 => (Head::Extension(i8::from_be_bytes(read(bytes, next)?), 8), next + 1),
        Marker::FixExt16 => (Head::Extension(i8::from_be_bytes(read(bytes, next)?), 16), next + 1),
        Marker::Ext8 => {
            let length = u8::from_be_bytes(read(bytes, next)?).into();
            (Head::Extension(i8::from_be_bytes(read(bytes, next + 1)?), length), next + 2)
        }
        Marker::Ext16 => {
            let length = u16::from_be_bytes(read(bytes, next)?).into();
            (Head::Extension(i8::from_be_bytes(read(bytes, next + 2)?), length), next + 3)
        }
        Marker::Ext32 => {
            let length = u32::from_be_bytes(read(bytes, next)?) as usize;
            (Head::Extension(i8::from_be_bytes(read(bytes, next + 4)?), length), next + 5)
        }
        Marker::Reserved => return Err(Malformed::new(Flaw::ReservedByte, at)),
    };
    let left = bytes.len() - end;
    let needed = match head {
        Head::String(length) | Head::Binary(length) | Head::Extension(_, length) => length,
        Head::List(count) => count as usize,
        // A pair takes at least two bytes; halving what is left cannot overflow where doubling the count could.
        Head::Dict(count) if count as usize > left / 2 => usize::MAX,
        _ => 0,
    };
    if needed > left {
        return Err(Malformed::new(Flaw::LengthBeyondEnd, at));
    }
    Ok((head, end))
}

#[inline]
fn read<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    match bytes.get(at..at + N) {
        Some(slice) => Ok(slice.try_into().expect("the slice has N bytes")),
        None => Err(Malformed::new(Flaw::CutShort, at)),
    }
}

/// Validates the value at `at`; returns the index behind it.
pub(crate) fn skip_value(bytes: &[u8], at: usize, depth_max: u32) -> Result<usize, Malformed> {
    // Clearing 128 counters would cost more than walking a small message, and nearly all are this flat.
    const FLAT_LEVELS: u32 = 8;
    let depth_max = depth_max.min(DEPTH_MAX);
    let flat = skip_nested::<{ FLAT_LEVELS as usize }>(bytes, at, depth_max.min(FLAT_LEVELS));
    match flat {
        Err(Stop::TooDeep(_)) if depth_max > FLAT_LEVELS => {
            skip_nested::<{ DEPTH_MAX as usize }>(bytes, at, depth_max)
        }
        other => other,
    }
    .map_err(|stop| match stop {
        Stop::TooDeep(at) => Malformed::new(Flaw::TooDeep, at),
        Stop::Malformed(malformed) => malformed,
    })
}

enum Stop {
    TooDeep(usize),
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

fn skip_nested<const LEVELS: usize>(bytes: &[u8], mut at: usize, depth_max: u32) -> Result<usize, Stop> {
    // Values still due on each outer level; `due` is that of the innermost one.
    let mut outer = [0u64; LEVELS];
    let mut depth = 0;
    let mut due = 1u64;
    loop {
        due -= 1;
        let mut entered = 0;
        // The one-byte heads, which most values have, need no decoding.
        match bytes.get(at) {
            Some(0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3) => at += 1,
            Some(&first @ 0xa0..=0xbf) => at = skip_string(bytes, at + 1, usize::from(first & 0x1f))?,
            Some(0xcb) if bytes.len() - at > 8 => at += 9,
            _ => {
                let (head, end) = read_head(bytes, at)?;
                match head {
                    Head::String(length) => at = skip_string(bytes, end, length)?,
                    Head::Binary(length) | Head::Extension(_, length) => at = end + length,
                    Head::List(_) | Head::Dict(_) if depth == depth_max => return Err(Stop::TooDeep(at)),
                    Head::List(count) => (at, entered) = (end, u64::from(count)),
                    Head::Dict(count) => (at, entered) = (end, u64::from(count) * 2),
                    _ => at = end,
                }
            }
        }
        if entered > 0 {
            outer[depth as usize] = due;
            depth += 1;
            due = entered;
        }
        while due == 0 {
            if depth == 0 {
                return Ok(at);
            }
            depth -= 1;
            due = outer[depth as usize];
        }
    }
}

/// Checks a string's content; returns the index behind it.
#[inline]
fn skip_string(bytes: &[u8], start: usize, length: usize) -> Result<usize, Malformed> {
    let end = start + length;
    let Some(content) = bytes.get(start..end) else {
        return Err(Malformed::new(Flaw::LengthBeyondEnd, start));
    };
    match to_str(content) {
        Ok(_) => Ok(end),
        Err(at) => Err(Malformed::new(Flaw::NotUtf8, start + at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_is_walked() {
        for bytes in [
            &b"\x00"[..],
            b"\x7f",
            b"\xe0",
            b"\xc0",
            b"\xc2",
            b"\xc3",
            b"\xcc\xff",
            b"\xcd\xff\xff",
            b"\xce\xff\xff\xff\xff",
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xd0\x80",
            b"\xd1\x80\x00",
            b"\xd2\x80\x00\x00\x00",
            b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
            b"\xca\x3f\x80\x00\x00",
            b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",
            b"\xa0",
            b"\xa2hi",
            b"\xd9\x02hi",
            b"\xda\x00\x02hi",
            b"\xdb\x00\x00\x00\x02hi",
            b"\xc4\x01\xff",
            b"\xc5\x00\x01\xff",
            b"\xc6\x00\x00\x00\x01\xff",
            b"\x90",
            b"\x92\x01\x02",
            b"\xdc\x00\x01\x01",
            b"\xdd\x00\x00\x00\x01\x01",
            b"\x80",
            b"\x81\xa1a\x91\x01",
            b"\xde\x00\x01\xa1a\x01",
            b"\xdf\x00\x00\x00\x01\xa1a\x01",
            b"\xd4\x00\x00",
            b"\xd5\x01ab",
            b"\xd6\xffabcd",
            b"\xd7\xffabcdefgh",
            b"\xd8\x01abcdefghijklmnop",
            b"\xc7\x01\x05a",
            b"\xc8\x00\x01\x05a",
            b"\xc9\x00\x00\x00\x01\x05a",
        ] {
            assert_eq!(validate(bytes, 128), Ok(()), "{bytes:02x?}");
            for cut in 0..bytes.len() {
                assert!(validate(&bytes[..cut], 128).is_err(), "{bytes:02x?} cut to {cut}");
            }
            let longer = [bytes, b"\x00"].concat();
            assert!(validate(&longer, 128).is_err());
        }
    }

    #[test]
    fn lies_about_lengths_are_refused_at_once() {
        for bytes in [
            &b"\xdd\xff\xff\xff\xff"[..],
            b"\xdf\xff\xff\xff\xff\x00\x00",
            b"\xdf\x80\x00\x00\x00\x00\x00",
            b"\xdb\xff\xff\xff\xffab",
            b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x01",
            b"\x92\xdd\x00\x00\x00\x02\x01",
        ] {
            assert!(validate(bytes, 128).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn strings_must_be_utf8_and_binary_need_not() {
        assert!(validate(b"\xa1\xff", 128).is_err());
        assert!(validate(b"\x81\xa2\xc0\x80\x01", 128).is_err());
        assert!(validate(b"\xc4\x01\xff", 128).is_ok());
        assert!(validate(b"\xc1", 128).is_err());
    }

    #[test]
    fn depth_is_counted_exactly() {
        let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
        for limit in [1, 7, 8, 9, 128] {
            assert!(validate(&nested(limit), limit as u32).is_ok());
            assert!(validate(&nested(limit + 1), limit as u32).is_err());
        }
        assert!(validate(&nested(129), 1000).is_err());
        assert!(validate(&vec![0x91; 1_000_000], 128).is_err());
    }
}
