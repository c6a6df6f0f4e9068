//! The grammar of CBOR as a loop: no recursion, one counter of outstanding values per level.

use crate::malformed::{Flaw, Malformed};
use crate::utf8::to_str;

/// Deepest nesting that can be asked for.
pub const DEPTH_MAX: u32 = 128;

/// Ends what has an indefinite length.
pub(crate) const BREAK: u8 = 0xff;

/// Checks that `bytes` are one CBOR value with at most `depth_max` (≤ [`DEPTH_MAX`]) nested lists, dictionaries and tags.
///
///     use fanwire_codec::cbor;
///     assert!(cbor::validate(b"\x82\x01\x62hi", 128).is_ok());
///     assert!(cbor::validate(b"\x9f\x01\x7f\x61h\x61i\xff\xff", 128).is_ok());
///     assert!(cbor::validate(b"\x82\x01", 128).is_err());
pub fn validate(bytes: &[u8], depth_max: u32) -> Result<(), Malformed> {
    let end = skip_value(bytes, 0, depth_max)?;
    if end == bytes.len() { Ok(()) } else { Err(Malformed::new(Flaw::Trailing, end)) }
}

/// The first bytes of a value: its type, and its value or its length, which is `None` where it is indefinite. Lengths are
/// checked against the bytes left: contents of strings are there, lists and dictionaries can still be complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Head {
    Unsigned(u64),
    /// Means −1 − n.
    Negative(u64),
    /// Length in bytes, content follows; or chunks follow.
    Bytes(Option<usize>),
    /// Length in bytes, content follows; or chunks follow. Their UTF-8 is not checked yet.
    Text(Option<usize>),
    /// Number of elements.
    List(Option<usize>),
    /// Number of pairs.
    Dict(Option<usize>),
    /// One value follows.
    Tag(u64),
    Bool(bool),
    Null,
    Undefined,
    /// A simple value that means nothing to anybody yet.
    Simple(u8),
    Float(f64),
}

/// Reads the head of the value at `at`; returns it with the index behind it. A break is no value.
#[inline]
pub(crate) fn read_head(bytes: &[u8], at: usize) -> Result<(Head, usize), Malformed> {
    let Some(&first) = bytes.get(at) else {
        return Err(Malformed::new(Flaw::NoValue, at));
    };
    let (major, low) = (first >> 5, first & 0x1f);
    let next = at + 1;
    let (argument, end) = match low {
        0..24 => (u64::from(low), next),
        24 => (u8::from_be_bytes(read(bytes, next)?).into(), next + 1),
        25 => (u16::from_be_bytes(read(bytes, next)?).into(), next + 2),
        26 => (u32::from_be_bytes(read(bytes, next)?).into(), next + 4),
        27 => (u64::from_be_bytes(read(bytes, next)?), next + 8),
        31 if (2..=5).contains(&major) => {
            let head = match major {
                2 => Head::Bytes(None),
                3 => Head::Text(None),
                4 => Head::List(None),
                _ => Head::Dict(None),
            };
            return Ok((head, next));
        }
        31 if first == BREAK => return Err(Malformed::new(Flaw::Break, at)),
        _ => return Err(Malformed::new(Flaw::ReservedHead, at)),
    };
    let left = (bytes.len() - end) as u64;
    // What a length promises, in elements of at least one byte.
    let length = |bytes_each: u64| {
        if argument > left / bytes_each {
            return Err(Malformed::new(Flaw::LengthBeyondEnd, at));
        }
        Ok(Some(argument as usize))
    };
    let head = match major {
        0 => Head::Unsigned(argument),
        1 => Head::Negative(argument),
        2 => Head::Bytes(length(1)?),
        3 => Head::Text(length(1)?),
        4 => Head::List(length(1)?),
        5 => Head::Dict(length(2)?),
        6 => Head::Tag(argument),
        _ => match low {
            20 => Head::Bool(false),
            21 => Head::Bool(true),
            22 => Head::Null,
            23 => Head::Undefined,
            25 => Head::Float(half(argument as u16)),
            26 => Head::Float(f32::from_bits(argument as u32).into()),
            27 => Head::Float(f64::from_bits(argument)),
            // RFC 8949, 3.3: the long form of what has a short one is not well-formed.
            24 if argument < 32 => return Err(Malformed::new(Flaw::SimpleValue, at)),
            _ => Head::Simple(argument as u8),
        },
    };
    Ok((head, end))
}

#[inline]
fn read<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    match bytes.get(at..at + N) {
        Some(slice) => Ok(slice.try_into().expect("the slice has N bytes")),
        None => Err(Malformed::new(Flaw::CutShort, at)),
    }
}

/// The value of a half-precision float (RFC 8949, Appendix D).
fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let mantissa = f64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// The chunks of a string of indefinite length, up to the break; `at` is behind the head. Text is not checked.
pub(crate) struct Chunks<'a> {
    bytes: &'a [u8],
    /// Behind the last chunk, and in the end behind the break.
    pub at: usize,
    is_text: bool,
}

/// The chunks of the string whose head ends at `at`.
pub(crate) fn chunks(bytes: &[u8], at: usize, is_text: bool) -> Chunks<'_> {
    Chunks { bytes, at, is_text }
}

impl<'a> Chunks<'a> {
    /// The next chunk; `None`: the break came.
    pub(crate) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.bytes.get(self.at) == Some(&BREAK) {
            self.at += 1;
            return Ok(None);
        }
        let (length, start) = match read_head(self.bytes, self.at)? {
            (Head::Text(Some(length)), start) if self.is_text => (length, start),
            (Head::Bytes(Some(length)), start) if !self.is_text => (length, start),
            // RFC 8949, 3.2.3: chunks have definite lengths and the type of the whole.
            _ => return Err(Malformed::new(Flaw::Chunk, self.at)),
        };
        self.at = start + length;
        Ok(Some(&self.bytes[start..self.at]))
    }
}

/// Validates the value at `at`; returns the index behind it.
pub(crate) fn skip_value(bytes: &[u8], at: usize, depth_max: u32) -> Result<usize, Malformed> {
    // Clearing 128 counters would cost more than walking a small message, and nearly all are this flat.
    const FLAT_LEVELS: u32 = 8;
    let depth_max = depth_max.min(DEPTH_MAX);
    let flat = skip_nested::<{ FLAT_LEVELS as usize }>(bytes, at, depth_max.min(FLAT_LEVELS));
    match flat {
        Err(malformed) if malformed.flaw() == Flaw::TooDeep && depth_max > FLAT_LEVELS => {
            skip_nested::<{ DEPTH_MAX as usize }>(bytes, at, depth_max)
        }
        other => other,
    }
}

/// What is still due on one level: a number of values, or whatever comes until the break.
#[derive(Clone, Copy)]
struct Due(u64);

impl Due {
    const OPEN_LIST: Self = Self(1 << 63);
    /// The lowest bit is set where a value is due, when there must not be a break.
    const OPEN_DICT: Self = Self(1 << 63 | 1 << 62);

    #[inline]
    fn is_open(self) -> bool {
        self.0 >= Self::OPEN_LIST.0
    }

    /// Takes one value.
    #[inline]
    fn take(&mut self) {
        if !self.is_open() {
            self.0 -= 1;
        } else if self.0 >= Self::OPEN_DICT.0 {
            self.0 ^= 1;
        }
    }

    /// Whether a break may come.
    #[inline]
    fn may_break(self) -> bool {
        self.is_open() && self.0 & 1 == 0
    }
}

fn skip_nested<const LEVELS: usize>(bytes: &[u8], mut at: usize, depth_max: u32) -> Result<usize, Malformed> {
    // Of each outer level; `due` is that of the innermost one.
    let mut outer = [Due(0); LEVELS];
    let mut depth = 0;
    let mut due = Due(1);
    loop {
        let mut entered = None;
        match bytes.get(at) {
            Some(&BREAK) if due.may_break() => {
                at += 1;
                // A level that has an end is never the outermost one.
                depth -= 1;
                due = outer[depth as usize];
            }
            byte => {
                due.take();
                match byte {
                    // The one-byte heads, which most values have, need no decoding.
                    Some(0x00..=0x17 | 0x20..=0x37 | 0xf4..=0xf7) => at += 1,
                    Some(&first @ 0x60..=0x77) => at = skip_text(bytes, at + 1, usize::from(first & 0x1f))?,
                    Some(0xfb) if bytes.len() - at > 8 => at += 9,
                    _ => (at, entered) = skip_head(bytes, at)?,
                }
                if let Some(inside) = entered {
                    // An empty list counts too, but nothing has to be kept for it.
                    if depth == depth_max {
                        return Err(Malformed::new(Flaw::TooDeep, at));
                    }
                    if inside.0 > 0 {
                        outer[depth as usize] = due;
                        depth += 1;
                        due = inside;
                    }
                }
            }
        }
        while due.0 == 0 {
            if depth == 0 {
                return Ok(at);
            }
            depth -= 1;
            due = outer[depth as usize];
        }
    }
}

/// Goes over a head and the content of a string; returns the index behind them and what is due inside, if
/// it is something that has an inside.
fn skip_head(bytes: &[u8], at: usize) -> Result<(usize, Option<Due>), Malformed> {
    let (head, end) = read_head(bytes, at)?;
    Ok(match head {
        Head::Text(Some(length)) => (skip_text(bytes, end, length)?, None),
        Head::Bytes(Some(length)) => (end + length, None),
        Head::Text(None) => {
            let mut chunks = chunks(bytes, end, true);
            while let Some(chunk) = chunks.next()? {
                to_str(chunk)
                    .map_err(|wrong| Malformed::new(Flaw::NotUtf8, chunks.at - chunk.len() + wrong))?;
            }
            (chunks.at, None)
        }
        Head::Bytes(None) => {
            let mut chunks = chunks(bytes, end, false);
            while chunks.next()?.is_some() {}
            (chunks.at, None)
        }
        Head::List(Some(count)) => (end, Some(Due(count as u64))),
        Head::Dict(Some(count)) => (end, Some(Due(count as u64 * 2))),
        Head::List(None) => (end, Some(Due::OPEN_LIST)),
        Head::Dict(None) => (end, Some(Due::OPEN_DICT)),
        Head::Tag(_) => (end, Some(Due(1))),
        _ => (end, None),
    })
}

/// Checks a text's content; returns the index behind it.
#[inline]
fn skip_text(bytes: &[u8], start: usize, length: usize) -> Result<usize, Malformed> {
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
    fn every_head_is_walked() {
        for bytes in [
            &b"\x00"[..],
            b"\x17",
            b"\x18\xff",
            b"\x19\xff\xff",
            b"\x1a\xff\xff\xff\xff",
            b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x20",
            b"\x38\xff",
            b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x40",
            b"\x42\xff\xfe",
            b"\x58\x01\xff",
            b"\x5f\xff",
            b"\x5f\x41\xff\x40\x58\x01a\xff",
            b"\x60",
            b"\x62hi",
            b"\x78\x02hi",
            b"\x79\x00\x02hi",
            b"\x7a\x00\x00\x00\x02hi",
            b"\x7b\x00\x00\x00\x00\x00\x00\x00\x02hi",
            b"\x7f\x62hi\x60\x61!\xff",
            b"\x80",
            b"\x82\x01\x02",
            b"\x98\x01\x01",
            b"\x9f\xff",
            b"\x9f\x01\x9f\xff\x82\x01\x02\xff",
            b"\xa0",
            b"\xa1\x61a\x81\x01",
            b"\xb9\x00\x01\x61a\x01",
            b"\xbf\xff",
            b"\xbf\x61a\x01\x61b\xbf\xff\xff",
            b"\xc0\x00",
            b"\xd8\x40\x41a",
            b"\xc1\xc1\x80",
            b"\x82\xc1\x01\xc1\x02",
            b"\xe0",
            b"\xf4",
            b"\xf5",
            b"\xf6",
            b"\xf7",
            b"\xf8\x20",
            b"\xf8\xff",
            b"\xf9\x3c\x00",
            b"\xfa\x3f\x80\x00\x00",
            b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
        ] {
            assert_eq!(validate(bytes, 128), Ok(()), "{bytes:02x?}");
            for cut in 0..bytes.len() {
                assert!(validate(&bytes[..cut], 128).is_err(), "{bytes:02x?} cut to {cut}");
            }
            let longer = [bytes, b"\x00"].concat();
            assert!(validate(&longer, 128).is_err());
        }
    }

    /// RFC 8949, Appendix F, and what follows from it.
    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bytes in [
            &b"\xff"[..],
            b"\x81\xff",
            b"\x82\x00\xff",
            b"\xa1\xff",
            b"\xa1\x00\xff",
            b"\xbf\x00\xff",
            b"\xbf\x00\x00\x00\xff",
            b"\x9f\x81\xff\xff",
            b"\x9f\x83\x00\x00\xff",
            b"\xc1\xff",
            b"\x9f\xc1\xff",
            b"\x1c",
            b"\x3d",
            b"\x5e",
            b"\x7c",
            b"\x9d",
            b"\xbe",
            b"\xdc",
            b"\xfc",
            b"\xfe",
            b"\x1f",
            b"\x3f",
            b"\xdf",
            b"\xf8\x00",
            b"\xf8\x18",
            b"\xf8\x1f",
            b"\x5f\x00\xff",
            b"\x5f\x61a\xff",
            b"\x5f\x5f\x41a\xff\xff",
            b"\x7f\x41a\xff",
            b"\x7f\x7f\x61a\xff\xff",
            b"\x7f\xf6\xff",
            b"\x5f\xc0\x41a\xff",
        ] {
            assert!(validate(bytes, 128).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn lies_about_lengths_are_refused_at_once() {
        for bytes in [
            &b"\x9a\xff\xff\xff\xff"[..],
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00",
            b"\xba\xff\xff\xff\xff\x00\x00",
            b"\xbb\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\xbb\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00",
            b"\x7a\xff\xff\xff\xffab",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x7f\x7b\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x82\x9a\x00\x00\x00\x02\x01",
        ] {
            assert!(validate(bytes, 128).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn text_must_be_utf8_and_bytes_need_not() {
        assert!(validate(b"\x61\xff", 128).is_err());
        assert!(validate(b"\xa1\x62\xc0\x80\x01", 128).is_err());
        assert!(validate(b"\x41\xff", 128).is_ok());
        assert!(validate(b"\x7f\x62\xc3\xa9\xff", 128).is_ok());
        let split = validate(b"\x7f\x61\xc3\x61\xa9\xff", 128).unwrap_err();
        assert_eq!((split.flaw(), split.offset_bytes()), (Flaw::NotUtf8, 2));
    }

    #[test]
    fn depth_is_counted_exactly() {
        let nested = |depth: usize| [vec![0x81; depth - 1], vec![0x80]].concat();
        let open = |depth: usize| [vec![0x9f; depth], vec![0xff; depth]].concat();
        let tagged = |depth: usize| [vec![0xc1; depth], vec![0x00]].concat();
        for limit in [1, 7, 8, 9, 128] {
            for make in [&nested as &dyn Fn(usize) -> Vec<u8>, &open, &tagged] {
                assert!(validate(&make(limit), limit as u32).is_ok(), "{limit}");
                assert!(validate(&make(limit + 1), limit as u32).is_err(), "{limit}");
            }
        }
        assert!(validate(&nested(129), 1000).is_err());
        for first in [0x81, 0x9f, 0xc1, 0xa1, 0xbf] {
            assert!(validate(&vec![first; 1_000_000], 128).is_err());
        }
    }

    #[test]
    fn halves_are_what_the_crate_half_says() {
        for bits in 0..=u16::MAX {
            let theirs: ciborium::Value =
                ciborium::from_reader(&[&[0xf9][..], &bits.to_be_bytes()].concat()[..]).unwrap();
            let ciborium::Value::Float(theirs) = theirs else { panic!("a float") };
            let ours = half(bits);
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:04x}");
        }
    }
}
