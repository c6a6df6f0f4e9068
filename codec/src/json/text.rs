//! The inside of JSON strings: finding the end, checking escapes and UTF-8, and unescaping.
//!
//! Strings are most of the bytes of most messages, so the scan for the next interesting byte goes many bytes at a time.
//! UTF-8 is checked only for strings that have a byte beyond ASCII; everything outside of strings is ASCII by grammar.

use super::find;
use crate::malformed::{Flaw, Malformed};
use crate::utf8::to_str;

/// Index of the closing quote of the string whose content begins at `start`; the content is checked.
#[inline(always)]
pub(crate) fn skip_string(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    let at = find::odd(bytes, start);
    if bytes.get(at) == Some(&b'"') { Ok(at) } else { skip_odd_string(bytes, start, at) }
}

/// The same for a string that has an escape or a character beyond ASCII, or no end; `at` is where that was noticed.
fn skip_odd_string(bytes: &[u8], start: usize, mut at: usize) -> Result<usize, Malformed> {
    let mut beyond_ascii = false;
    loop {
        match bytes.get(at) {
            Some(b'"') => break,
            Some(b'\\') => at = check_escape(bytes, at)?,
            Some(0x80..) => {
                beyond_ascii = true;
                at = find::special(bytes, at);
                continue;
            }
            Some(_) => return Err(Malformed::new(Flaw::ControlCharacter, at)),
            None => return Err(Malformed::new(Flaw::OpenString, start)),
        }
        // Text with one character beyond ASCII mostly has more of them: do not stop at each.
        at = if beyond_ascii { find::special(bytes, at) } else { find::odd(bytes, at) };
    }
    if beyond_ascii {
        to_str(&bytes[start..at]).map_err(|wrong| Malformed::new(Flaw::NotUtf8, start + wrong))?;
    }
    Ok(at)
}

/// A string that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned<'a> {
    /// What stands between the quotes.
    pub content: &'a str,
    /// Index of the closing quote.
    pub close: usize,
    /// The content has escapes, so it differs from what it means.
    pub escaped: bool,
}

/// Reads the string whose content begins at `start`.
#[inline]
pub(crate) fn scan_string(bytes: &[u8], start: usize) -> Result<Scanned<'_>, Malformed> {
    let odd = find::odd(bytes, start);
    let plain = bytes.get(odd) == Some(&b'"');
    let close = if plain { odd } else { skip_odd_string(bytes, start, odd)? };
    let content = to_str(&bytes[start..close]).map_err(|at| Malformed::new(Flaw::NotUtf8, start + at))?;
    Ok(Scanned { content, close, escaped: !plain && content.contains('\\') })
}

/// The string whose content begins at `start`, if it is ASCII without escapes; the closing quote is behind it.
#[inline(always)]
pub(crate) fn plain_string(bytes: &[u8], start: usize) -> Option<&str> {
    let close = find::odd(bytes, start);
    if bytes.get(close) != Some(&b'"') {
        return None;
    }
    let content = bytes.get(start..close)?;
    debug_assert!(content.is_ascii());
    // SAFETY: `find::odd` stops at the first byte beyond ASCII (its tests compare it with a loop over single bytes), so
    // there is none before `close`, and ASCII is UTF-8.
    Some(unsafe { std::str::from_utf8_unchecked(content) })
}

/// Checks the escape whose backslash is at `at`; returns the index behind it.
fn check_escape(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => decode_unicode_escape(bytes, at).map(|(_, end)| end),
        Some(_) => Err(Malformed::new(Flaw::UnknownEscape, at)),
        None => Err(Malformed::new(Flaw::OpenString, at)),
    }
}

/// Decodes `\uXXXX` or a pair `\uD8xx\uDCxx` whose first backslash is at `at`.
fn decode_unicode_escape(bytes: &[u8], at: usize) -> Result<(char, usize), Malformed> {
    let first = hex4(bytes, at + 2)?;
    if (0xd800..0xdc00).contains(&first) {
        if bytes.get(at + 6..at + 8) != Some(b"\\u") {
            return Err(Malformed::new(Flaw::LoneSurrogate, at));
        }
        let second = hex4(bytes, at + 8)?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(Malformed::new(Flaw::LoneSurrogate, at));
        }
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        let character = char::from_u32(code).expect("a surrogate pair makes a scalar value");
        return Ok((character, at + 12));
    }
    match char::from_u32(first) {
        Some(character) => Ok((character, at + 6)),
        None => Err(Malformed::new(Flaw::LoneSurrogate, at)),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let digits = bytes.get(at..at + 4).ok_or_else(|| Malformed::new(Flaw::UnicodeEscape, at))?;
    digits.iter().try_fold(0, |value, &digit| match (digit as char).to_digit(16) {
        Some(nibble) => Ok(value << 4 | nibble),
        None => Err(Malformed::new(Flaw::UnicodeEscape, at)),
    })
}

/// Appends what the content of a string means. `content` was scanned before.
pub(crate) fn unescape(content: &str, out: &mut String) -> Result<(), Malformed> {
    let bytes = content.as_bytes();
    let mut from = 0;
    while let Some(hop) = memchr::memchr(b'\\', &bytes[from..]) {
        let at = from + hop;
        out.push_str(&content[from..at]);
        from = at + 2;
        match bytes.get(at + 1) {
            Some(b'b') => out.push('\u{8}'),
            Some(b'f') => out.push('\u{c}'),
            Some(b'n') => out.push('\n'),
            Some(b'r') => out.push('\r'),
            Some(b't') => out.push('\t'),
            Some(&plain @ (b'"' | b'\\' | b'/')) => out.push(plain as char),
            Some(b'u') => {
                let (character, end) = decode_unicode_escape(bytes, at)?;
                out.push(character);
                from = end;
            }
            _ => return Err(Malformed::new(Flaw::UnknownEscape, at)),
        }
    }
    out.push_str(&content[from..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_scanned_to_their_quote() {
        for (text, close, escaped) in [
            (&b"abc\",1"[..], 3, false),
            (b"\"", 0, false),
            (b"a\\\"b\"", 4, true),
            (b"\\u00e9\"", 6, true),
            (b"\\ud83d\\ude00\"", 12, true),
            ("日本語\"".as_bytes(), 9, false),
            ("日\\n本\"x".as_bytes(), 8, true),
            (b"0123456789abcdef0123456789abcdef\\\\\"", 34, true),
        ] {
            assert_eq!(skip_string(text, 0), Ok(close));
            let scanned = scan_string(text, 0).unwrap();
            assert_eq!((scanned.close, scanned.escaped), (close, escaped));
            assert_eq!(scanned.content.as_bytes(), &text[..close]);
            let is_plain = !escaped && scanned.content.is_ascii();
            assert_eq!(plain_string(text, 0), is_plain.then_some(scanned.content));
        }
    }

    #[test]
    fn bad_strings_are_refused() {
        for text in [
            &b"abc"[..],
            b"a\nb\"",
            b"\\x\"",
            b"\\",
            b"\\u12\"",
            b"\\u12g4\"",
            b"\\ud800\"",
            b"\\ud800\\n\"",
            b"\\ud800\\ud800\"",
            b"\\udc00\"",
            b"\xff\"",
            b"\xc0\x80\"",
            b"\xed\xa0\x80\"",
            b"\xe2\x82\"",
            b"\xc3\\n\xa9\"",
            "日\u{1}".as_bytes(),
            "日".as_bytes(),
        ] {
            assert!(skip_string(text, 0).is_err() && scan_string(text, 0).is_err(), "{text:?}");
        }
    }

    #[test]
    fn escapes_mean_what_they_say() {
        let mut out = String::new();
        unescape(r#"a\"\\\/\b\f\n\r\t\u0041\ud83d\ude00z"#, &mut out).unwrap();
        assert_eq!(out, "a\"\\/\u{8}\u{c}\n\r\tA😀z");
    }
}
