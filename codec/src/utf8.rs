//! Bytes to text: the one place where UTF-8 is checked for messages, and quickly for the short ASCII words that most
//! strings are.

/// The text of these bytes, or the offset of the first one that is wrong.
#[inline]
pub(crate) fn to_str(bytes: &[u8]) -> Result<&str, usize> {
    if is_short_ascii(bytes) {
        // The standard check looks at single bytes until it is aligned: a tenth of all instructions for a message of
        // 100 bytes.
        // SAFETY: all bytes are ASCII, which is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    to_long_str(bytes)
}

/// Never inlined: the long or foreign strings.
fn to_long_str(bytes: &[u8]) -> Result<&str, usize> {
    // Below this the set-up of the vector version costs more than it saves.
    const VECTOR_FROM_BYTES: usize = 64;
    if bytes.len() < VECTOR_FROM_BYTES {
        std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())
    } else {
        simdutf8::compat::from_utf8(bytes).map_err(|error| error.valid_up_to())
    }
}

/// Whether these are at most 32 bytes of ASCII.
#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = |at: usize| {
        let chunk = bytes.get(at..at + 8).expect("the lengths below leave 8 bytes");
        u64::from_le_bytes(chunk.try_into().expect("the slice has 8 bytes"))
    };
    let half = |at: usize| {
        let chunk = bytes.get(at..at + 4).expect("the lengths below leave 4 bytes");
        u64::from(u32::from_le_bytes(chunk.try_into().expect("the slice has 4 bytes")))
    };
    // Words may overlap: it is only a question of bits.
    let bits = match bytes.len() {
        0..4 => bytes.iter().fold(0, |bits, byte| bits | u64::from(*byte)),
        length @ 4..8 => half(0) | half(length - 4),
        length @ 8..=16 => word(0) | word(length - 8),
        length @ 17..=32 => word(0) | word(8) | word(length - 16) | word(length - 8),
        _ => return false,
    };
    bits & HIGHS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_beyond_ascii_is_seen_at_every_place() {
        for length in 0..100 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(is_short_ascii(&bytes), length <= 32);
            assert_eq!(to_str(&bytes).map(str::len), Ok(length));
            for place in 0..length {
                bytes[place] = 0xff;
                assert!(!is_short_ascii(&bytes), "{place} of {length}");
                assert_eq!(to_str(&bytes), Err(place), "of {length}");
                bytes[place] = b'x';
            }
        }
    }

    #[test]
    fn foreign_text_is_text() {
        for text in ["é", "日本語", "😀 and so on, and so on, and so on, and so on, and so on, and so on"]
        {
            assert_eq!(to_str(text.as_bytes()), Ok(text));
            assert!(to_str(&text.as_bytes()[1..]).is_err());
        }
    }
}
