//! The mark at the front of every payload: who sent it, which one it is, and when it was meant to be sent.
//!
//! ```text
//! f w P P P P P P S S S S S S S S R R R R T T T T T T T T T T T T     32 bytes, lower-case hexadecimal
//! ```
//!
//! P publisher, S sequence from 0, R tag of the run (so that another generator's traffic is not mistaken for ours),
//! T intended send time in nanoseconds since the run's epoch. ASCII, so that the same bytes are valid in a JSON
//! string and in a MessagePack one, and a router may transcode between the two. What follows up to the wanted size is
//! a fixed pattern which is compared too.

/// Bytes of the mark, hence the smallest payload.
pub const STAMP_BYTES: usize = 32;

/// Publishers that the mark can name.
pub const PUBLISHERS_MAX: usize = 1 << 24;

/// The decoded mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the publisher (or caller), 0-based.
    pub publisher: u32,
    /// Number of the publication of this publisher, 0-based.
    pub sequence: u32,
    /// Tag of the run.
    pub run: u16,
    /// Intended send time, nanoseconds since the run's epoch; 48 bits.
    pub intended_ns: u64,
}

impl Stamp {
    /// Writes the mark.
    pub fn write(&self, out: &mut [u8; STAMP_BYTES]) {
        out[0] = b'f';
        out[1] = b'w';
        write_hex(&mut out[2..8], u64::from(self.publisher));
        write_hex(&mut out[8..16], u64::from(self.sequence));
        write_hex(&mut out[16..20], u64::from(self.run));
        write_hex(&mut out[20..32], self.intended_ns);
    }

    /// Reads a mark; `None` if these bytes are not one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_BYTES] = bytes.first_chunk()?;
        if bytes[0] != b'f' || bytes[1] != b'w' {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
        // The two letters are replaced by zeros: `fw` itself is not hexadecimal.
        let first = (word(0) & !0xffff) | 0x3030;
        let publisher = hex_word(first)?;
        let sequence = hex_word(word(8))?;
        let high = hex_word(word(16))?;
        let low = hex_word(word(24))?;
        Some(Self {
            publisher,
            sequence,
            run: (high >> 16) as u16,
            intended_ns: (u64::from(high & 0xffff) << 32) | u64::from(low),
        })
    }
}

/// The pattern behind the mark: printable, needs no escape in JSON, has no short period that a shifted copy would match.
pub fn filler(len: usize) -> Vec<u8> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    (0..len).map(|i| LETTERS[(i * 7 + i / 64) % 64]).collect()
}

fn write_hex(out: &mut [u8], value: u64) {
    let digits = out.len();
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(value >> (4 * (digits - 1 - index))) as usize & 15];
    }
}

/// Eight lower-case hexadecimal digits at once (the first digit in the lowest byte). A table walk over 30 digits costs
/// more than everything else that is done with an event.
fn hex_word(chars: u64) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // A digit's nibble is its low four bits, a letter's (bit 6 set) is that plus nine. No byte carries into the next:
    // the largest sum is 15 + 9 * 3.
    let nibbles = (chars & (ONES * 0x0f)).wrapping_add(((chars >> 6) & (ONES * 3)) * 9);
    let is_letter = (nibbles.wrapping_add(ONES * 0x76) >> 7) & ONES;
    // Encoding again must give the same characters, otherwise they were not digits.
    let again = nibbles.wrapping_add(ONES * 0x30).wrapping_add(is_letter * 39);
    if again != chars || nibbles & (ONES * 0xf0) != 0 {
        return None;
    }
    let mut value = nibbles.swap_bytes();
    value = (value | (value >> 4)) & 0x00ff_00ff_00ff_00ff;
    value = (value | (value >> 8)) & 0x0000_ffff_0000_ffff;
    Some((value | (value >> 16)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (publisher, sequence, run, intended_ns) in
            [(0, 0, 0, 0), (0xabcdef, 0xffff_ffff, 0xbeef, 0xffff_ffff_ffff), (7, 19, 3, 123_456_789_012)]
        {
            let stamp = Stamp { publisher, sequence, run, intended_ns };
            let mut bytes = [0; STAMP_BYTES];
            stamp.write(&mut bytes);
            assert_eq!(Stamp::read(&bytes), Some(stamp), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn any_damaged_byte_is_noticed_or_changes_the_mark() {
        let stamp = Stamp { publisher: 0x12ab, sequence: 0xc0ffee, run: 0x9, intended_ns: 0x1234_5678_9abc };
        let mut good = [0; STAMP_BYTES];
        stamp.write(&mut good);
        for at in 0..STAMP_BYTES {
            for byte in 0..=255u8 {
                let mut bytes = good;
                bytes[at] = byte;
                let read = Stamp::read(&bytes);
                let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                if byte == good[at] {
                    assert_eq!(read, Some(stamp));
                } else if at < 2 || !is_digit {
                    assert_eq!(read, None, "byte {byte} at {at}");
                } else {
                    assert!(read.is_some() && read != Some(stamp), "byte {byte} at {at}");
                }
            }
        }
        assert_eq!(Stamp::read(&good[..31]), None);
    }
}
