//! What an HTTP connection was sent and was not looked at yet.

/// Bytes that are taken from the front. What was taken is given up by [`Unread::settle`] alone: so a receive of a thousand short
/// requests is not a thousand copies of what is behind them, and who says nothing holds nothing.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    /// So many of them were taken.
    taken: usize,
}

impl Unread {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What was not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Takes so many bytes of [`Unread::rest`].
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count;
        debug_assert!(self.taken <= self.bytes.len());
    }

    /// Gives up the memory of what was taken, if that is half of it or more: the copy costs no more than taking did.
    pub(super) fn settle(&mut self) {
        if self.taken >= self.bytes.len() - self.taken {
            self.bytes = self.rest().to_vec();
            self.taken = 0;
        }
    }

    /// Memory that it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Unread;

    proptest! {
        #[test]
        fn nothing_is_lost_and_hardly_more_is_held_than_there_is(
            steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0usize..80, any::<bool>()), 0..50)
        ) {
            let (mut unread, mut expected) = (Unread::default(), Vec::new());
            for (bytes, count, settle) in steps {
                unread.push(&bytes);
                expected.extend_from_slice(&bytes);
                let count = count.min(expected.len());
                unread.take(count);
                expected.drain(..count);
                if settle {
                    unread.settle();
                    // A vector has room for its next bytes, and less than half of them were taken.
                    let held_max = if expected.is_empty() { 0 } else { (4 * expected.len()).max(32) };
                    prop_assert!(unread.held_bytes() <= held_max);
                }
                prop_assert_eq!(unread.rest(), &expected[..]);
                prop_assert_eq!(unread.is_empty(), expected.is_empty());
            }
        }
    }
}
