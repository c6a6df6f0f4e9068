//! Masking (RFC 6455, 5.3): `payload[i] ^= key[i % 4]`, in place; the same function masks and unmasks.
//!
//! [`Unmasker`] is resolved once and then carried (each [`Pool`](super::Pool) has one); short payloads never reach
//! the wide loop. The vector loops are written as plain loops over 128-byte arrays that the compiler turns into the
//! registers of the enabled instruction set, so the one `unsafe` here is the call into code compiled for AVX2.
//! [`apply_scalar`] is the definition, kept as the oracle of the tests.

/// Below this a call into the wide loop costs more than it saves.
const SHORT_BYTES_MAX: usize = 64;

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
        if bytes.len() <= SHORT_BYTES_MAX {
            xor_short(bytes, key);
        } else if key != [0; 4] {
            match self.0 {
                Isa::Baseline => xor_wide(bytes, key),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(proof) => proof.xor(bytes, key),
            }
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
pub(super) fn rotate(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}

#[inline(always)]
fn xor_short(bytes: &mut [u8], key: [u8; 4]) {
    let key4 = u32::from_ne_bytes(key);
    let key8 = u64::from(key4) << 32 | u64::from(key4);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key8).to_ne_bytes();
    }
    let (words, tail) = tail.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ key4).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// The loop for long payloads; what vector width it gets depends on the features of the function it is inlined into.
#[inline(always)]
fn xor_wide(bytes: &mut [u8], key: [u8; 4]) {
    #[inline(always)]
    fn xor_block<const N: usize>(block: &mut [u8; N], key: &[u8; 32]) {
        for lane in block.as_chunks_mut::<32>().0 {
            for index in 0..32 {
                lane[index] ^= key[index];
            }
        }
    }

    let mut key32 = [0; 32];
    for lane in key32.as_chunks_mut::<4>().0 {
        *lane = key;
    }
    // Each block is a multiple of 4 bytes, so the key's phase is 0 again after it.
    let (blocks, rest) = bytes.as_chunks_mut::<128>();
    for block in blocks {
        xor_block(block, &key32);
    }
    let (blocks, rest) = rest.as_chunks_mut::<32>();
    for block in blocks {
        xor_block(block, &key32);
    }
    xor_short(rest, key);
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
        pub(super) fn xor(self, bytes: &mut [u8], key: [u8; 4]) {
            // SAFETY: `self` exists, so `detect` has seen AVX2 on this CPU.
            unsafe { xor_avx2(bytes, key) }
        }
    }

    #[target_feature(enable = "avx2")]
    fn xor_avx2(bytes: &mut [u8], key: [u8; 4]) {
        super::xor_wide(bytes, key);
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
                        unmasker.apply(&mut memory[offset..offset + length], rotate(key, offset));
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
    fn long_payloads_agree_with_the_oracle() {
        for length in [1000, 4095, 65_536, 65_537, 100_003] {
            let mut expected: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut bytes = expected.clone();
            apply_scalar(&mut expected, KEYS[0], 3);
            apply(&mut bytes, KEYS[0], 3);
            assert_eq!(bytes, expected);
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
