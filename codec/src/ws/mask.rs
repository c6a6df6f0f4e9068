//! Masking (RFC 6455, 5.3): `payload[i] ^= key[i % 4]`, in place; the same function masks and unmasks.
//!
//! [`Unmasker`] is resolved once and then carried (each [`Pool`](super::Pool) has one); short payloads never reach
//! the wide loop. The vector loops are written as plain loops over 128-byte arrays that the compiler turns into the
//! registers of the enabled instruction set, so the one `unsafe` here is the call into code compiled for AVX2.
//! [`apply_scalar`] is the definition, kept as the oracle of the tests.
//!
//! Each loop also collects the bits of what it wrote: to know that a text is ASCII costs one instruction per vector here, and
//! another walk over the text elsewhere.

/// Up to this length a call into the wide loop costs more than it saves.
const SHORT_BYTES_MAX: usize = 64;

/// From this length on it pays to begin at an address that no vector crosses a cache line from.
const LONG_BYTES_MIN: usize = 2 * 1024;

/// What is masked at once of a long payload. A multiple of the key's length.
const TILE_BYTES: usize = 4 * 1024;

/// The bit that no ASCII byte has, and eight of them.
const BEYOND_ASCII: u8 = 0x80;
const HIGHS: u64 = u64::from_ne_bytes([BEYOND_ASCII; 8]);

/// The fastest way to mask on this CPU. Copy it, do not detect it for each frame.
#[derive(Clone, Copy, Debug)]
pub struct Unmasker(Isa);

#[derive(Clone, Copy, Debug)]
enum Isa {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
}

impl Unmasker {
    /// Looks at the CPU.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(proof) = avx2::Avx2::detect() {
            return Self(Isa::Avx2(proof));
        }
        Self(Isa::Baseline)
    }

    /// The way that works on each CPU of the target, for tests and comparisons.
    pub const fn baseline() -> Self {
        Self(Isa::Baseline)
    }

    /// Masks `bytes`, the first of which meets `key[0]`.
    #[inline]
    pub fn apply(self, bytes: &mut [u8], key: [u8; 4]) {
        if bytes.len() <= SHORT_BYTES_MAX || key != [0; 4] {
            self.xor(bytes, key);
        }
    }

    /// The same; says whether all bytes are ASCII then.
    #[inline]
    pub(super) fn apply_to_text(self, bytes: &mut [u8], key: [u8; 4]) -> bool {
        self.xor(bytes, key) & HIGHS == 0
    }

    /// Returns the bits that the bytes have then: each byte's in one of the eight places.
    #[inline]
    fn xor(self, bytes: &mut [u8], key: [u8; 4]) -> u64 {
        if bytes.len() <= SHORT_BYTES_MAX {
            return xor_short(bytes, key);
        }
        match self.0 {
            Isa::Baseline => xor_baseline(bytes, key),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(proof) => proof.xor(bytes, key),
        }
    }
}

/// Masks `bytes`, which begin `offset` bytes into the payload. For code without an [`Unmasker`] at hand.
pub fn apply(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    Unmasker::detect().apply(bytes, rotate(key, offset));
}

/// The same by the words of RFC 6455, 5.3: the oracle.
pub fn apply_scalar(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[(offset % 4 + index) % 4];
    }
}

/// The key as the byte at `offset` of the payload sees it.
#[inline]
pub(super) fn rotate(key: [u8; 4], offset: usize) -> [u8; 4] {
    // As a number, since rotating an array is a loop.
    u32::from_le_bytes(key).rotate_right(8 * (offset % 4) as u32).to_le_bytes()
}

/// Up to 64 bytes, by at most four words of one size. Where they overlap, all are read before any is written, and all write
/// the same.
#[inline(always)]
fn xor_short(bytes: &mut [u8], key: [u8; 4]) -> u64 {
    let length = bytes.len();
    let (key, last_key) = (u32::from_ne_bytes(key), u32::from_ne_bytes(rotate(key, length)));
    match length {
        0..4 => {
            let mut seen = 0;
            for (byte, key) in bytes.iter_mut().zip(key.to_ne_bytes()) {
                *byte ^= key;
                seen |= *byte;
            }
            seen.into()
        }
        4..8 => {
            let (first, last) = (u32::read(bytes, 0) ^ key, u32::read(bytes, length - 4) ^ last_key);
            first.write(bytes, 0);
            last.write(bytes, length - 4);
            (first | last).into()
        }
        8..=16 => {
            let first = u64::read(bytes, 0) ^ twice(key);
            let last = u64::read(bytes, length - 8) ^ twice(last_key);
            first.write(bytes, 0);
            last.write(bytes, length - 8);
            first | last
        }
        17..=32 => {
            let first = u128::read(bytes, 0) ^ four_times(key);
            let last = u128::read(bytes, length - 16) ^ four_times(last_key);
            first.write(bytes, 0);
            last.write(bytes, length - 16);
            folded(first | last)
        }
        _ => {
            let (key, last_key) = (four_times(key), four_times(last_key));
            let (a, b) = (u128::read(bytes, 0) ^ key, u128::read(bytes, 16) ^ key);
            let (c, d) =
                (u128::read(bytes, length - 32) ^ last_key, u128::read(bytes, length - 16) ^ last_key);
            a.write(bytes, 0);
            b.write(bytes, 16);
            c.write(bytes, length - 32);
            d.write(bytes, length - 16);
            folded(a | b | c | d)
        }
    }
}

#[inline(always)]
fn twice(key: u32) -> u64 {
    u64::from(key) << 32 | u64::from(key)
}

#[inline(always)]
fn four_times(key: u32) -> u128 {
    u128::from(twice(key)) << 64 | u128::from(twice(key))
}

#[inline(always)]
fn folded(bits: u128) -> u64 {
    (bits >> 64 | bits) as u64
}

/// A word that lies anywhere in a slice.
trait Word: Sized {
    fn read(bytes: &[u8], at: usize) -> Self;
    fn write(self, bytes: &mut [u8], at: usize);
}

macro_rules! word {
    ($($word:ty),*) => {$(
        impl Word for $word {
            #[inline(always)]
            fn read(bytes: &[u8], at: usize) -> Self {
                let word = bytes[at..at + size_of::<Self>()].try_into();
                Self::from_ne_bytes(word.expect("the slice has the size of the word"))
            }

            #[inline(always)]
            fn write(self, bytes: &mut [u8], at: usize) {
                bytes[at..at + size_of::<Self>()].copy_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}

word!(u32, u64, u128);

/// A call, so that what short payloads take stays small enough to be inlined.
#[inline(never)]
fn xor_baseline(bytes: &mut [u8], key: [u8; 4]) -> u64 {
    xor_any(bytes, key)
}

#[inline(always)]
fn xor_any(bytes: &mut [u8], key: [u8; 4]) -> u64 {
    if bytes.len() < LONG_BYTES_MIN { xor_wide(bytes, key) } else { xor_long(bytes, key) }
}

/// From the end to the front: what was received last is still in the first cache when a payload is larger than that.
#[inline(always)]
fn xor_long(bytes: &mut [u8], key: [u8; 4]) -> u64 {
    let unaligned = bytes.as_ptr().align_offset(32).min(SHORT_BYTES_MAX);
    let (first, aligned) = bytes.split_at_mut(unaligned);
    let tiles_key = rotate(key, unaligned);
    let mut seen = xor_short(first, key);
    // No closure: it would not have the features of the function that this is inlined into.
    for tile in aligned.chunks_mut(TILE_BYTES).rev() {
        seen |= xor_wide(tile, tiles_key);
    }
    seen
}

/// The loop for more than a few bytes; what vector width it gets depends on the features of the function it is inlined into.
#[inline(always)]
fn xor_wide(bytes: &mut [u8], key: [u8; 4]) -> u64 {
    #[inline(always)]
    fn xor_block(block: &mut [u8; 32], keys: &[u8; 32], seen: &mut [u8; 32]) {
        for index in 0..32 {
            block[index] ^= keys[index];
            seen[index] |= block[index];
        }
    }

    let mut keys = [0; 32];
    for lane in keys.as_chunks_mut::<4>().0 {
        *lane = key;
    }
    let mut seen = [0; 32];
    // Each block is a multiple of 4 bytes, so the key's phase is 0 again after it.
    let (blocks, rest) = bytes.as_chunks_mut::<128>();
    for block in blocks {
        for lane in block.as_chunks_mut::<32>().0 {
            xor_block(lane, &keys, &mut seen);
        }
    }
    let (blocks, rest) = rest.as_chunks_mut::<32>();
    for block in blocks {
        xor_block(block, &keys, &mut seen);
    }
    let words = seen.as_chunks::<8>().0;
    words.iter().fold(xor_short(rest, key), |seen, word| seen | u64::from_ne_bytes(*word))
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    /// Exists only on CPUs with AVX2, hence [`xor`](Self::xor) is safe to call.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Avx2(());

    impl Avx2 {
        pub(super) fn detect() -> Option<Self> {
            is_x86_feature_detected!("avx2").then_some(Self(()))
        }

        #[inline]
        pub(super) fn xor(self, bytes: &mut [u8], key: [u8; 4]) -> u64 {
            // SAFETY: `self` exists, so `detect` has seen AVX2 on this CPU.
            unsafe { xor_avx2(bytes, key) }
        }
    }

    #[target_feature(enable = "avx2")]
    fn xor_avx2(bytes: &mut [u8], key: [u8; 4]) -> u64 {
        super::xor_any(bytes, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [[u8; 4]; 4] = [[0x37, 0xfa, 0x21, 0x3d], [0; 4], [0xff; 4], [1, 0, 0, 0x80]];

    /// Every way on every length at every offset into the payload and into the memory.
    #[test]
    fn every_way_agrees_with_the_oracle() {
        let source: Vec<u8> = (0..400).map(|index| (index * 7 + 3) as u8).collect();
        for key in KEYS {
            for length in 0..=300 {
                for offset in 0..=63 {
                    let plain = &source[offset..offset + length];
                    let mut expected = plain.to_vec();
                    apply_scalar(&mut expected, key, offset);
                    for unmasker in [Unmasker::detect(), Unmasker::baseline()] {
                        // The bytes around the payload stay as they are.
                        let mut memory = source.clone();
                        let text = &mut memory[offset..offset + length];
                        let is_ascii = unmasker.apply_to_text(text, rotate(key, offset));
                        assert_eq!(is_ascii, expected.is_ascii(), "{length} at {offset}");
                        assert_eq!(memory[offset..offset + length], expected, "{length} at {offset}");
                        assert_eq!(memory[..offset], source[..offset]);
                        assert_eq!(memory[offset + length..], source[offset + length..]);
                    }
                    let mut bytes = plain.to_vec();
                    apply(&mut bytes, key, offset);
                    assert_eq!(bytes, expected);
                }
            }
        }
    }

    #[test]
    fn long_payloads_agree_with_the_oracle_wherever_they_begin() {
        for length in [1000, 2047, 2048, 4095, 4096 + 31, 65_536, 65_537, 100_003] {
            let source: Vec<u8> = (0..length + 40).map(|index| index as u8).collect();
            for start in 0..33 {
                let mut expected = source.clone();
                apply_scalar(&mut expected[start..start + length], KEYS[0], 3);
                for unmasker in [Unmasker::detect(), Unmasker::baseline()] {
                    let mut bytes = source.clone();
                    unmasker.apply(&mut bytes[start..start + length], rotate(KEYS[0], 3));
                    assert!(bytes == expected, "{length} from {start}");
                }
            }
        }
    }

    #[test]
    fn one_byte_beyond_ascii_is_seen_in_each_tile_of_a_long_payload() {
        let mut masked = vec![b'x'; 3 * TILE_BYTES + 50];
        apply_scalar(&mut masked, KEYS[0], 0);
        for unmasker in [Unmasker::detect(), Unmasker::baseline()] {
            assert!(unmasker.apply_to_text(&mut masked.clone(), KEYS[0]));
            for place in (0..masked.len()).step_by(61).chain(masked.len() - 40..masked.len()) {
                let mut bytes = masked.clone();
                bytes[place] ^= BEYOND_ASCII;
                assert!(!unmasker.apply_to_text(&mut bytes, KEYS[0]), "{place}");
            }
        }
    }

    #[test]
    fn one_byte_beyond_ascii_is_seen_at_every_place() {
        for unmasker in [Unmasker::detect(), Unmasker::baseline()] {
            for length in 0..=300 {
                let mut masked = vec![b'x'; length];
                apply_scalar(&mut masked, KEYS[0], 0);
                assert!(unmasker.apply_to_text(&mut masked.clone(), KEYS[0]), "{length}");
                for place in 0..length {
                    let mut bytes = masked.clone();
                    bytes[place] ^= BEYOND_ASCII;
                    assert!(!unmasker.apply_to_text(&mut bytes, KEYS[0]), "{place} of {length}");
                }
            }
        }
    }

    #[test]
    fn masking_in_pieces_is_masking_at_once() {
        let mut whole = vec![0x5A; 500];
        let mut pieces = whole.clone();
        apply(&mut whole, KEYS[0], 0);
        let mut key = KEYS[0];
        for piece in pieces.chunks_mut(37) {
            Unmasker::detect().apply(piece, key);
            key = rotate(key, piece.len());
        }
        assert_eq!(pieces, whole);
    }

    /// RFC 6455, 5.7: "Hello" under 37 fa 21 3d.
    #[test]
    fn the_example_of_the_rfc() {
        let mut bytes = *b"\x7f\x9f\x4d\x51\x58";
        apply(&mut bytes, KEYS[0], 0);
        assert_eq!(&bytes, b"Hello");
    }
}
