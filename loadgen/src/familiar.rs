//! What one subscriber got is not read again, byte by byte, at the next.
//!
//! All subscribers of a topic get the same frames. Those that were read and verified once are kept, one behind the other
//! by sequence, as a server that coalesces sends them. What another subscriber receives is compared with them from its own
//! position on, many frames in one comparison:
//!
//! ```text
//! kept       │ frame 40 │ frame 41 │ frame 42 │ frame 43 │
//! input                 │ frame 41 │ frame 42 │ frame 4…          waits for 41: two frames are familiar
//! ```
//!
//! Equal bytes are the same messages, so nothing is verified less strictly: a damaged byte, a gap, a duplicate or another way of
//! writing compares unequal, and the reader says what it is.

use std::ops::Range;

/// Bytes that are kept at most. Positions lie a window apart; who is further behind is read as if he were the first.
const BYTES_MAX: usize = 256 * 1024;

/// The latest frames of one flow.
#[derive(Debug, Default)]
pub struct Familiar {
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
    /// When each was meant to be sent.
    intended_ns: Vec<u64>,
    /// Sequence of the first of them.
    first: u32,
}

impl Familiar {
    /// Keeps a frame that was read and verified, header and all.
    pub fn remember(&mut self, sequence: u32, intended_ns: u64, frame: &[u8]) {
        let next = self.first.wrapping_add(self.ends.len() as u32);
        if sequence < next && !self.ends.is_empty() {
            return;
        }
        if sequence != next || self.bytes.len() + frame.len() > BYTES_MAX {
            self.bytes.clear();
            self.ends.clear();
            self.intended_ns.clear();
            self.first = sequence;
        }
        self.bytes.extend_from_slice(frame);
        self.ends.push(self.bytes.len());
        self.intended_ns.push(intended_ns);
    }

    /// The frames at the front of `input` that are what must come for somebody who waits for sequence `next`: their bytes, and
    /// their places for [`intended_ns`](Self::intended_ns).
    #[inline]
    pub fn recognise(&self, next: u32, input: &[u8]) -> Option<(usize, Range<usize>)> {
        let from = next.checked_sub(self.first)? as usize;
        let ends = self.ends.get(from..)?;
        let start = if from == 0 { 0 } else { self.ends[from - 1] };
        let count = ends.partition_point(|end| end - start <= input.len());
        let bytes = ends.get(count.checked_sub(1)?)? - start;
        (input[..bytes] == self.bytes[start..start + bytes]).then_some((bytes, from..from + count))
    }

    /// When these frames were meant to be sent.
    #[inline]
    pub fn intended_ns(&self, frames: Range<usize>) -> &[u64] {
        &self.intended_ns[frames]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32) -> Vec<u8> {
        vec![sequence as u8; 10 + sequence as usize % 3]
    }

    fn frames(range: Range<u32>) -> Vec<u8> {
        range.flat_map(frame).collect()
    }

    fn kept(range: Range<u32>) -> Familiar {
        let mut familiar = Familiar::default();
        range.for_each(|sequence| familiar.remember(sequence, u64::from(sequence) * 100, &frame(sequence)));
        familiar
    }

    fn recognised(familiar: &Familiar, next: u32, input: &[u8]) -> Vec<u64> {
        let found = familiar.recognise(next, input);
        if let Some((bytes, frames)) = &found {
            assert_eq!(*bytes, input.len().min(*bytes));
            assert!(!frames.is_empty());
        }
        found.map_or(Vec::new(), |(_, frames)| familiar.intended_ns(frames).to_vec())
    }

    #[test]
    fn frames_are_recognised_from_the_position_on() {
        let familiar = kept(40..44);
        assert_eq!(recognised(&familiar, 41, &frames(41..44)), [4100, 4200, 4300]);
        let cut = frames(41..44);
        assert_eq!(recognised(&familiar, 41, &cut[..cut.len() - 1]), [4100, 4200], "only whole frames");
        assert_eq!(recognised(&familiar, 41, &frames(41..46)), [4100, 4200, 4300], "only what is kept");
        assert_eq!(recognised(&familiar, 40, &cut[..5]), [0; 0]);
    }

    #[test]
    fn what_must_not_come_is_not_recognised() {
        let familiar = kept(40..44);
        assert_eq!(recognised(&familiar, 40, &frames(41..44)), [0; 0], "a gap");
        assert_eq!(recognised(&familiar, 42, &frames(41..44)), [0; 0], "a duplicate");
        for next in [0, 39, 44, 45, u32::MAX] {
            assert_eq!(recognised(&familiar, next, &frames(40..44)), [0; 0], "{next} is not kept");
        }
        for at in 0..frames(41..44).len() {
            let mut damaged = frames(41..44);
            damaged[at] ^= 1;
            assert_eq!(recognised(&familiar, 41, &damaged), [0; 0], "byte {at} is damaged");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_without_gaps() {
        let mut familiar = kept(40..44);
        familiar.remember(41, 9, &frame(7));
        assert_eq!(recognised(&familiar, 41, &frames(41..44)), [4100, 4200, 4300], "the first one counts");
        familiar.remember(50, 5000, &frame(50));
        assert_eq!(recognised(&familiar, 43, &frames(43..44)), [0; 0]);
        assert_eq!(recognised(&familiar, 50, &frames(50..51)), [5000]);
        for sequence in 51..51 + BYTES_MAX as u32 / 8 {
            familiar.remember(sequence, 1, &frame(sequence));
            assert!(familiar.bytes.len() <= BYTES_MAX);
        }
    }
}
