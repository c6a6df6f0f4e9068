//! JSON values into a buffer: integers, doubles, strings and binary (WAMP's `"\u0000"` + base64).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use super::find;

/// Appends the decimal digits of `value`.
#[inline]
pub fn write_u64(out: &mut BytesMut, value: u64) {
    let (room, at) = digits(value);
    out.extend_from_slice(&room[at..]);
}

/// The same behind a comma, in one piece.
#[inline]
pub(crate) fn write_next_u64(out: &mut BytesMut, value: u64) {
    let (mut room, at) = digits(value);
    room[at - 1] = b',';
    out.extend_from_slice(&room[at - 1..]);
}

/// 20 digits hold u64::MAX; there is room for one character before them.
const DIGITS_ROOM: usize = 21;

/// The digits of `value`, and where they begin: behind the first byte.
#[inline]
fn digits(mut value: u64) -> ([u8; DIGITS_ROOM], usize) {
    // Two digits at a time halve the divisions.
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[b'0'; 2]; 100];
        let mut number = 0;
        while number < pairs.len() {
            pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
            number += 1;
        }
        pairs
    };
    let mut room = [0; DIGITS_ROOM];
    let mut at = DIGITS_ROOM;
    while value >= 10 {
        at -= 2;
        room[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value > 0 || at == DIGITS_ROOM {
        at -= 1;
        room[at] = b'0' + value as u8;
    }
    (room, at)
}

/// Appends the decimal digits of `value`.
#[inline]
pub(crate) fn write_i64(out: &mut BytesMut, value: i64) {
    if value < 0 {
        out.extend_from_slice(b"-");
    }
    write_u64(out, value.unsigned_abs());
}

/// Appends the shortest text that reads back as `value`, which must be finite. A fraction or an exponent is always
/// there (`1.0`), so that it stays a float.
pub(crate) fn write_f64(out: &mut BytesMut, value: f64) {
    debug_assert!(value.is_finite());
    // The Debug form is the shortest that round-trips, and its grammar is part of JSON's.
    write!(out, "{value:?}").expect("BytesMut grows");
}

/// Appends `text` as a JSON string.
#[inline]
pub fn write_string(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.extend_from_slice(b"\"");
    let mut from = 0;
    loop {
        let at = find::special(bytes, from);
        out.extend_from_slice(&bytes[from..at]);
        let Some(&byte) = bytes.get(at) else { break };
        write_escape(out, byte);
        from = at + 1;
    }
    out.extend_from_slice(b"\"");
}

fn write_escape(out: &mut BytesMut, byte: u8) {
    let short = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0x08 => b"\\b",
        0x0c => b"\\f",
        _ => {
            let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        }
    };
    out.extend_from_slice(short);
}

/// Appends binary as WAMP writes it in JSON: a string of NUL and base64 (WAMP, "Binary support in JSON").
pub(crate) fn write_base64(out: &mut BytesMut, binary: &[u8]) {
    out.extend_from_slice(b"\"\\u0000");
    let start = out.len();
    let length = base64::encoded_len(binary.len(), true).expect("a message is far below the address space");
    out.resize(start + length, 0);
    let written = STANDARD.encode_slice(binary, &mut out[start..]).expect("the room was measured");
    debug_assert_eq!(written, length);
    out.extend_from_slice(b"\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn integers_are_plain_digits() {
        for value in
            [0, 1, 9, 10, 11, 99, 100, 101, 255, 1000, 99_999, 100_000, 1 << 53, u64::MAX - 1, u64::MAX]
        {
            assert_eq!(written(|out| write_u64(out, value)), value.to_string());
            assert_eq!(written(|out| write_next_u64(out, value)), format!(",{value}"));
        }
        for value in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(written(|out| write_i64(out, value)), value.to_string());
        }
    }

    #[test]
    fn doubles_read_back_as_the_same_bits() {
        for value in [0.0, -0.0, 1.0, 0.1, -2.5, 1e21, 1e-7, f64::MAX, f64::MIN_POSITIVE, 5e-324] {
            let text = written(|out| write_f64(out, value));
            crate::json::validate(text.as_bytes(), 1).unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            assert!(text.contains(['.', 'e']), "{text}");
        }
    }

    #[test]
    fn strings_are_escaped_where_json_asks_for_it() {
        for text in ["", "a.b", "\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}é😀"] {
            let json = written(|out| write_string(out, text));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn binary_is_nul_and_base64() {
        assert_eq!(written(|out| write_base64(out, b"")), r#""\u0000""#);
        assert_eq!(written(|out| write_base64(out, &[0x10, 0xe3, 0xff, 0x90])), r#""\u0000EOP/kA==""#);
    }
}
