//! The search for bytes that matter inside a string: 16 at a time with SSE2, 8 at a time in a plain word elsewhere and
//! near the end of the message. The loop over single bytes in the tests is the oracle for both.

/// Index of the next byte that is a quote, a backslash, a control character or beyond ASCII; or the end.
#[inline(always)]
pub(super) fn odd(bytes: &[u8], mut at: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    while let Some(chunk) = bytes.get(at..at + 16) {
        let hits = sse2::odd(chunk.try_into().expect("the slice has 16 bytes"));
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += 16;
    }
    odd_narrow(bytes, at)
}

/// Index of the next byte that is a quote, a backslash or a control character; or the end.
#[inline]
pub(super) fn special(bytes: &[u8], mut at: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    while let Some(chunk) = bytes.get(at..at + 16) {
        let hits = sse2::special(chunk.try_into().expect("the slice has 16 bytes"));
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += 16;
    }
    special_narrow(bytes, at)
}

#[inline]
pub(super) fn odd_narrow(bytes: &[u8], at: usize) -> usize {
    narrow(bytes, at, HIGHS, |byte| byte == b'"' || byte == b'\\' || !(0x20..0x80).contains(&byte))
}

pub(super) fn special_narrow(bytes: &[u8], at: usize) -> usize {
    narrow(bytes, at, 0, |byte| byte == b'"' || byte == b'\\' || byte < 0x20)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// `high` selects the bits that count as hits by themselves.
#[inline(always)]
fn narrow(bytes: &[u8], mut at: usize, high: u64, is_hit: impl Fn(u8) -> bool) -> usize {
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("the slice has 8 bytes"));
        // The high bit of each hit. Bits above the lowest one may be false (a borrow runs up), the lowest is exact,
        // which is all that is used.
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let is_quote = quote.wrapping_sub(ONES) & !quote;
        let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
        let is_control = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (is_quote | is_backslash | is_control) & HIGHS | word & high;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at)
        && !is_hit(byte)
    {
        at += 1;
    }
    at
}

/// 16 bytes at a time; one bit per hit.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set_epi64x, _mm_set1_epi8,
    };

    #[inline(always)]
    pub(super) fn odd(chunk: &[u8; 16]) -> u32 {
        // SAFETY: every x86-64 processor has SSE2; it is part of the architecture's baseline.
        unsafe { odd_bits(chunk) }
    }

    #[inline(always)]
    pub(super) fn special(chunk: &[u8; 16]) -> u32 {
        // SAFETY: every x86-64 processor has SSE2; it is part of the architecture's baseline.
        unsafe { special_bits(chunk) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn odd_bits(chunk: &[u8; 16]) -> u32 {
        let bytes = load(chunk);
        // Signed: bytes beyond ASCII are negative, hence below the space like control characters.
        let outside = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
        _mm_movemask_epi8(_mm_or_si128(outside, quote_or_backslash(bytes))) as u32
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn special_bits(chunk: &[u8; 16]) -> u32 {
        let bytes = load(chunk);
        let last_control = _mm_set1_epi8(0x1f);
        let control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, last_control), last_control);
        _mm_movemask_epi8(_mm_or_si128(control, quote_or_backslash(bytes))) as u32
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn quote_or_backslash(bytes: __m128i) -> __m128i {
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        _mm_or_si128(quote, backslash)
    }

    /// Becomes one unaligned load.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(chunk: &[u8; 16]) -> __m128i {
        let value = u128::from_le_bytes(*chunk);
        _mm_set_epi64x((value >> 64) as i64, value as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle: one byte at a time.
    fn find_slowly(bytes: &[u8], start: usize, beyond_ascii: bool) -> usize {
        let is_hit = |byte| byte == b'"' || byte == b'\\' || byte < 0x20 || (beyond_ascii && byte >= 0x80);
        (start..bytes.len()).find(|&at| is_hit(bytes[at])).unwrap_or(bytes.len())
    }

    #[test]
    fn fast_searches_equal_the_slow_one_for_every_byte_at_every_place() {
        for length in 0..40 {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    // A second one behind it, for false hits.
                    if let Some(next) = bytes.get_mut(place + 1) {
                        *next = byte.wrapping_add(1);
                    }
                    for start in [0, place.saturating_sub(3), place] {
                        let next = find_slowly(&bytes, start, true);
                        assert_eq!(odd(&bytes, start), next, "{byte} at {place} of {length}");
                        assert_eq!(odd_narrow(&bytes, start), next, "{byte} at {place} of {length}");
                        let next = find_slowly(&bytes, start, false);
                        assert_eq!(special(&bytes, start), next, "{byte} at {place} of {length}");
                        assert_eq!(special_narrow(&bytes, start), next, "{byte} at {place} of {length}");
                    }
                }
            }
        }
    }
}
