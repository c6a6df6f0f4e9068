//! Random numbers that a seed repeats.

use std::time::Duration;

/// A generator (SplitMix64): the same seed gives the same numbers, on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of one part of a run; parts differ by their number.
    pub fn part(seed: u64, number: u64) -> Self {
        let mut mixed = Self(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self(mixed.bits())
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Its bias is a 2^64th of the bound.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A time from zero up to `most`.
    pub fn time(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let numbers = |seed| {
            let mut random = Random::part(seed, 3);
            [0; 8].map(|_| random.below(1_000))
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        assert!(numbers(7).iter().all(|number| *number < 1_000));
    }

    #[test]
    fn times_keep_within_their_bound() {
        let mut random = Random::new(5);
        assert!((0..100).all(|_| random.time(Duration::from_millis(3)) <= Duration::from_millis(3)));
        assert_eq!(random.time(Duration::ZERO), Duration::ZERO);
    }
}
