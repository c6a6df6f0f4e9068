//! What is said to a client, in the order of its commands, though some answers come later than others.
//!
//! ```text
//! written ◀─ out ◀─ slot: ready ◀─ slot: waits for a shard ◀─ slot: ready …
//! ```
//!
//! Messages stand in the same line: so a subscription is confirmed before its first one.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Answers, some of which are still to come.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// May be written.
    pub(super) out: BytesMut,
    slots: VecDeque<Option<BytesMut>>,
    /// The number of the first slot.
    first: u64,
    /// Bytes in slots.
    held: usize,
}

impl Output {
    /// Says something now, behind everything that is still to come.
    pub(super) fn say(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.slots.is_empty() {
            return write(&mut self.out);
        }
        if !matches!(self.slots.back(), Some(Some(_))) {
            self.slots.push_back(Some(BytesMut::new()));
        }
        let Some(Some(last)) = self.slots.back_mut() else { unreachable!("just made") };
        let before = last.len();
        write(last);
        self.held += last.len() - before;
    }

    /// Keeps a place for an answer; returns its number, to be given to [`Self::fill`].
    pub(super) fn reserve(&mut self) -> u64 {
        self.slots.push_back(None);
        self.first + self.slots.len() as u64 - 1
    }

    /// Says what the place with this number was kept for.
    pub(super) fn fill(&mut self, number: u64, write: impl FnOnce(&mut BytesMut)) {
        let index = (number - self.first) as usize;
        debug_assert!(self.slots[index].is_none(), "filled once");
        if index == 0 {
            write(&mut self.out);
            self.slots.pop_front();
            self.first += 1;
            return self.advance();
        }
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.held += bytes.len();
        self.slots[index] = Some(bytes);
    }

    fn advance(&mut self) {
        while let Some(Some(_)) = self.slots.front() {
            let Some(Some(bytes)) = self.slots.pop_front() else { unreachable!("just seen") };
            self.held -= bytes.len();
            self.first += 1;
            self.out.extend_from_slice(&bytes);
        }
    }

    /// Answers that are still to come, and what stands between them.
    pub(super) fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that were said and not written.
    pub(super) fn bytes(&self) -> usize {
        self.out.len() + self.held
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_stand_in_the_order_of_their_questions() {
        let mut output = Output::default();
        output.say(|out| out.put_u8(b'a'));
        let first = output.reserve();
        output.say(|out| out.put_u8(b'c'));
        output.say(|out| out.put_u8(b'd'));
        let second = output.reserve();
        output.say(|out| out.put_u8(b'f'));
        assert_eq!((&output.out[..], output.waiting(), output.bytes()), (&b"a"[..], 4, 4));
        output.fill(second, |out| out.put_u8(b'e'));
        assert_eq!(&output.out[..], b"a");
        output.fill(first, |out| out.put_u8(b'b'));
        assert_eq!((&output.out[..], output.waiting(), output.bytes()), (&b"abcdef"[..], 0, 6));
        output.say(|out| out.put_u8(b'g'));
        assert_eq!(&output.out[..], b"abcdefg");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_comes_when(later in prop::collection::vec(any::<bool>(), 1..40), order in any::<u64>()) {
            let mut output = Output::default();
            let mut places = Vec::new();
            for (value, later) in later.iter().enumerate() {
                if *later {
                    places.push((output.reserve(), value as u8));
                } else {
                    output.say(|out| out.put_u8(value as u8));
                }
            }
            let mut order = order;
            while !places.is_empty() {
                let (number, value) = places.swap_remove((order % places.len() as u64) as usize);
                order = order.rotate_left(7).wrapping_add(1);
                output.fill(number, |out| out.put_u8(value));
            }
            prop_assert_eq!(&output.out[..], &(0..later.len() as u8).collect::<Vec<_>>()[..]);
            prop_assert_eq!(output.held, 0);
        }
    }
}
