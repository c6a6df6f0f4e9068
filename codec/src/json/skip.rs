//! The grammar of JSON as a loop: no recursion, nesting remembered as one bit per level.

use super::text::skip_string;
use crate::malformed::{Flaw, Malformed};

/// Deepest nesting that can be asked for: the levels are bits of one `u128`.
pub const DEPTH_MAX: u32 = 128;

/// Checks that `bytes` are one JSON value with at most `depth_max` (≤ [`DEPTH_MAX`]) nested lists and dictionaries.
///
///     use fanwire_codec::json;
///     assert!(json::validate(br#"{"room": [1, 2.5e3, "n\u00e4he"]}"#, 128).is_ok());
///     assert!(json::validate(b"[1,]", 128).is_err());
pub fn validate(bytes: &[u8], depth_max: u32) -> Result<(), Malformed> {
    let start = skip_whitespace(bytes, 0);
    let end = skip_whitespace(bytes, skip_value(bytes, start, depth_max)?);
    if end == bytes.len() { Ok(()) } else { Err(Malformed::new(Flaw::Trailing, end)) }
}

/// Index of the first byte at or behind `at` that is not white space.
#[inline]
pub(crate) fn skip_whitespace(bytes: &[u8], mut at: usize) -> usize {
    // Compact JSON has none; one comparison says so.
    while let Some(&byte) = bytes.get(at)
        && byte <= b' '
    {
        if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            break;
        }
        at += 1;
    }
    at
}

/// Validates the value that begins at `at` (no white space there); returns the index behind it.
pub(crate) fn skip_value(bytes: &[u8], mut at: usize, depth_max: u32) -> Result<usize, Malformed> {
    let depth_max = depth_max.min(DEPTH_MAX);
    let mut depth = 0;
    // The lowest bit is the innermost level: 1 = dictionary, 0 = list.
    let mut levels = 0u128;
    loop {
        // A value is due at `at`.
        match bytes.get(at) {
            Some(b'"') => at = skip_string(bytes, at + 1)? + 1,
            Some(b'-' | b'0'..=b'9') => at = skip_number(bytes, at)?,
            Some(b'{') => {
                let inside = skip_whitespace(bytes, at + 1);
                if depth == depth_max {
                    return Err(Malformed::new(Flaw::TooDeep, at));
                }
                if bytes.get(inside) == Some(&b'}') {
                    at = inside + 1;
                } else {
                    depth += 1;
                    levels = levels << 1 | 1;
                    at = skip_key(bytes, inside)?;
                    continue;
                }
            }
            Some(b'[') => {
                let inside = skip_whitespace(bytes, at + 1);
                if depth == depth_max {
                    return Err(Malformed::new(Flaw::TooDeep, at));
                }
                if bytes.get(inside) == Some(&b']') {
                    at = inside + 1;
                } else {
                    depth += 1;
                    levels <<= 1;
                    at = inside;
                    continue;
                }
            }
            Some(b't') => at = skip_literal(bytes, at, b"true")?,
            Some(b'f') => at = skip_literal(bytes, at, b"false")?,
            Some(b'n') => at = skip_literal(bytes, at, b"null")?,
            Some(_) => return Err(Malformed::new(Flaw::NoJson, at)),
            None => return Err(Malformed::new(Flaw::NoValue, at)),
        }
        // A value has ended at `at`: close levels until one goes on.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = skip_whitespace(bytes, at);
            let in_dict = levels & 1 == 1;
            match bytes.get(at) {
                Some(b',') => {
                    at = skip_whitespace(bytes, at + 1);
                    if in_dict {
                        at = skip_key(bytes, at)?;
                    }
                    break;
                }
                Some(b']') if !in_dict => {}
                Some(b'}') if in_dict => {}
                Some(_) => {
                    return Err(Malformed::new(Flaw::NoComma, at));
                }
                None => return Err(Malformed::new(Flaw::OpenBracket, at)),
            }
            at += 1;
            depth -= 1;
            levels >>= 1;
        }
    }
}

/// Validates `"key" :` at `at`; returns the index of the value.
#[inline(always)]
fn skip_key(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    if bytes.get(at) != Some(&b'"') {
        return Err(Malformed::new(Flaw::KeyNoString, at));
    }
    let colon = skip_whitespace(bytes, skip_string(bytes, at + 1)? + 1);
    if bytes.get(colon) != Some(&b':') {
        return Err(Malformed::new(Flaw::NoColon, colon));
    }
    Ok(skip_whitespace(bytes, colon + 1))
}

#[inline]
fn skip_literal(bytes: &[u8], at: usize, literal: &'static [u8]) -> Result<usize, Malformed> {
    let end = at + literal.len();
    if bytes.get(at..end) == Some(literal) { Ok(end) } else { Err(Malformed::new(Flaw::NoJson, at)) }
}

/// Validates the number at `at`; returns the index behind it.
#[inline(always)]
pub(crate) fn skip_number(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    // Most numbers are short integers.
    const SHORT_DIGITS: usize = 20;
    if let Some(b'1'..=b'9') = bytes.get(start) {
        let end = skip_digits(bytes, start + 1);
        if end - start <= SHORT_DIGITS && !matches!(bytes.get(end), Some(b'.' | b'e' | b'E')) {
            return Ok(end);
        }
    }
    skip_odd_number(bytes, start)
}

fn skip_odd_number(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    // A double holds any integer of 308 digits; only longer ones and exponents can be out of range.
    const SURELY_FINITE_BYTES: usize = 308;
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    match bytes.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at = skip_digits(bytes, at),
        _ => return Err(Malformed::new(Flaw::NoDigits, at)),
    }
    if bytes.get(at) == Some(&b'.') {
        let end = skip_digits(bytes, at + 1);
        if end == at + 1 {
            return Err(Malformed::new(Flaw::NoDigits, at));
        }
        at = end;
    }
    let mut in_doubt = at - start > SURELY_FINITE_BYTES;
    if let Some(b'e' | b'E') = bytes.get(at) {
        let digits = if let Some(b'+' | b'-') = bytes.get(at + 1) { at + 2 } else { at + 1 };
        let end = skip_digits(bytes, digits);
        if end == digits {
            return Err(Malformed::new(Flaw::NoDigits, at));
        }
        at = end;
        in_doubt = true;
    }
    if in_doubt {
        check_finite(bytes, start, at)?;
    }
    Ok(at)
}

#[inline]
fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Many parsers refuse a number beyond the doubles, so one that a peer could send on would break their sessions.
#[cold]
fn check_finite(bytes: &[u8], start: usize, end: usize) -> Result<(), Malformed> {
    let text = std::str::from_utf8(&bytes[start..end]).expect("a number's characters are ASCII");
    let value: f64 = text.parse().expect("the grammar of JSON numbers is part of that of Rust's");
    if value.is_finite() { Ok(()) } else { Err(Malformed::new(Flaw::NumberTooLarge, start)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_values_are_accepted() {
        for text in [
            "0",
            "-0",
            "-0.0e-5",
            "1E+2",
            "18446744073709551616",
            "1e-400",
            "true",
            " null\n",
            "\"\"",
            "[]",
            "[ ]",
            "{ }",
            "[[],{},[{}]]",
            r#"{"a":{"b":[1 , 2]},"c":"\u0000"}"#,
            "\t[\r\n1\n,\t\"é\" ] ",
        ] {
            assert_eq!(validate(text.as_bytes(), 128), Ok(()), "{text}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        for text in [
            "",
            " ",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{",
            "{}}",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{\"a\":1]",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "tru",
            "truee",
            "nul",
            "'a'",
            "\"a",
            "1 1",
            "[] []",
            "\u{feff}1",
            "1e400",
            "-1e400",
            "/*a*/1",
            "[1]//",
        ] {
            assert!(validate(text.as_bytes(), 128).is_err(), "{text}");
        }
        let huge = "9".repeat(310);
        assert!(validate(huge.as_bytes(), 128).is_err());
    }

    #[test]
    fn depth_is_counted_exactly() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(validate(nested(128).as_bytes(), 128).is_ok());
        assert!(validate(nested(129).as_bytes(), 128).is_err());
        assert!(validate(nested(129).as_bytes(), 1000).is_err());
        assert!(validate(nested(3).as_bytes(), 2).is_err());
        let mixed = "{\"a\":[".repeat(64) + "1" + &"]}".repeat(64);
        assert!(validate(mixed.as_bytes(), 128).is_ok());
        let unclosed = "[".repeat(1_000_000);
        assert!(validate(unclosed.as_bytes(), 128).is_err());
    }
}
