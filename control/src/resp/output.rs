//! What is said to a client, in the order of its commands, though some answers come later than others.
//!
//! ```text
//! written ◀─ out ◀─ slot: ready ◀─ slot: waits for a shard ◀─ slot: ready …
//! ```
//!
//! Messages stand in the same line: so a subscription is confirmed before its first one.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use fanwire_codec::resp::{Version, write_subscription};

/// Answers, some of which are still to come.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// May be written.
    pub(super) out: BytesMut,
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    /// Bytes in slots.
    held: usize,
    /// Bytes that were written.
    written: u64,
    /// Messages in `out`, by the place behind each, counted from the first byte of all.
    messages: VecDeque<u64>,
    /// Subscriptions, as far as the client was told.
    subscriptions: usize,
}

#[derive(Debug)]
enum Slot {
    Waiting,
    /// And how many messages there are in it.
    Said(BytesMut, usize),
    Confirms(Confirmation),
}

/// That something was subscribed or ended. It says how many subscriptions there are then, which is known when its turn comes.
#[derive(Debug)]
pub(super) struct Confirmation {
    pub(super) version: Version,
    /// Such as `subscribe`.
    pub(super) kind: &'static str,
    /// `None`: there was nothing to end.
    pub(super) name: Option<Vec<u8>>,
    pub(super) change: Change,
}

/// What becomes of the number of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    More,
    Same,
    Fewer,
}

impl Output {
    /// Says something now, behind everything that is still to come.
    pub(super) fn say(&mut self, write: impl FnOnce(&mut BytesMut)) {
        self.say_counted(0, write);
    }

    /// The same for a message.
    pub(super) fn say_message(&mut self, write: impl FnOnce(&mut BytesMut)) {
        self.say_counted(1, write);
    }

    fn say_counted(&mut self, messages: usize, write: impl FnOnce(&mut BytesMut)) {
        if self.slots.is_empty() {
            write(&mut self.out);
            return self.note_messages(messages);
        }
        if !matches!(self.slots.back(), Some(Slot::Said(..))) {
            self.slots.push_back(Slot::Said(BytesMut::new(), 0));
        }
        let Some(Slot::Said(last, held)) = self.slots.back_mut() else { unreachable!("just made") };
        *held += messages;
        let before = last.len();
        write(last);
        self.held += last.len() - before;
    }

    /// So many messages end where `out` does.
    fn note_messages(&mut self, count: usize) {
        let end = self.written + self.out.len() as u64;
        self.messages.extend(std::iter::repeat_n(end, count));
    }

    /// So many bytes of `out` were written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.out.advance(count);
        self.written += count as u64;
        while self.messages.front().is_some_and(|end| *end <= self.written) {
            self.messages.pop_front();
        }
    }

    /// Messages that were said and not written to their ends.
    pub(super) fn messages(&self) -> usize {
        let held = |slot: &Slot| if let Slot::Said(_, messages) = slot { *messages } else { 0 };
        self.messages.len() + self.slots.iter().map(held).sum::<usize>()
    }

    /// The same for a confirmation.
    pub(super) fn confirm(&mut self, confirmation: Confirmation) {
        let slot = self.reserve();
        self.fill_confirmation(slot, confirmation);
    }

    /// Keeps a place for an answer; returns its number, to be given to [`Self::fill`].
    pub(super) fn reserve(&mut self) -> u64 {
        self.slots.push_back(Slot::Waiting);
        self.first + self.slots.len() as u64 - 1
    }

    /// Says what the place with this number was kept for.
    pub(super) fn fill(&mut self, number: u64, write: impl FnOnce(&mut BytesMut)) {
        if number == self.first {
            debug_assert!(matches!(self.slots.front(), Some(Slot::Waiting)), "filled once");
            write(&mut self.out);
            self.slots.pop_front();
            self.first += 1;
            return self.advance();
        }
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.held += bytes.len();
        self.set(number, Slot::Said(bytes, 0));
    }

    /// The same for a confirmation.
    pub(super) fn fill_confirmation(&mut self, number: u64, confirmation: Confirmation) {
        self.held += confirmation.held();
        self.set(number, Slot::Confirms(confirmation));
        self.advance();
    }

    fn set(&mut self, number: u64, slot: Slot) {
        let place = &mut self.slots[(number - self.first) as usize];
        debug_assert!(matches!(place, Slot::Waiting), "filled once");
        *place = slot;
    }

    fn advance(&mut self) {
        while let Some(slot) = self.slots.front_mut() {
            match slot {
                Slot::Waiting => return,
                Slot::Said(bytes, messages) => {
                    let messages = *messages;
                    self.held -= bytes.len();
                    self.out.extend_from_slice(bytes);
                    self.note_messages(messages);
                }
                Slot::Confirms(confirmation) => {
                    self.held -= confirmation.held();
                    match confirmation.change {
                        Change::More => self.subscriptions += 1,
                        Change::Same => {}
                        Change::Fewer => self.subscriptions -= 1,
                    }
                    let Confirmation { version, kind, name, .. } = confirmation;
                    write_subscription(&mut self.out, *version, kind, name.as_deref(), self.subscriptions);
                }
            }
            self.slots.pop_front();
            self.first += 1;
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

impl Confirmation {
    /// Bytes that it holds while it waits.
    fn held(&self) -> usize {
        self.name.as_ref().map_or(0, Vec::len) + size_of::<Self>()
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

    #[test]
    fn messages_are_known_until_their_last_byte_is_written() {
        let mut output = Output::default();
        let message = |out: &mut BytesMut| out.put_slice(b"abc");
        output.say_message(message);
        output.say(message);
        let place = output.reserve();
        output.say_message(message);
        output.say_message(message);
        assert_eq!(output.messages(), 3);
        output.wrote(2);
        assert_eq!(output.messages(), 3);
        output.wrote(1);
        assert_eq!(output.messages(), 2);
        output.fill(place, message);
        output.wrote(output.out.len() - 1);
        assert_eq!(output.messages(), 2);
        output.wrote(1);
        assert_eq!((output.messages(), output.bytes()), (0, 0));
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
