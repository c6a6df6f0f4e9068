//! What one direction of a connection keeps from message to message.

/// The last bytes of a direction's messages, as far as the next one may refer to them.
///
/// Memory: what was sent or received in compressed messages, at most 2^window bits bytes; nothing before the first.
/// Messages that are not compressed leave it as it is (RFC 7692, 7.2.3.2).
#[derive(Debug)]
pub struct Context {
    window: Vec<u8>,
    bytes_max: usize,
}

impl Context {
    /// Empty, for a window of 2^`window_bits` bytes.
    pub fn new(window_bits: u8) -> Self {
        Self { window: Vec::new(), bytes_max: 1 << window_bits }
    }

    /// The dictionary of the next message.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.window
    }

    /// A message went by.
    pub(in super::super) fn push(&mut self, message: &[u8]) {
        let new = &message[message.len().saturating_sub(self.bytes_max)..];
        let old = self.window.len().min(self.bytes_max - new.len());
        let dropped = self.window.len() - old;
        self.window.copy_within(dropped.., 0);
        self.window.truncate(old);
        // Not doubled: the bound is the promise.
        self.window.reserve_exact(new.len());
        self.window.extend_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_last_bytes_of_everything_pushed() {
        let mut context = Context::new(9);
        let mut all = Vec::new();
        for length in [0, 1, 100, 400, 12, 511, 512, 513, 3, 2000, 30] {
            let message: Vec<u8> = (0..length).map(|index| (index * 7 + length) as u8).collect();
            context.push(&message);
            all.extend_from_slice(&message);
            assert_eq!(context.bytes(), &all[all.len().saturating_sub(512)..], "after {length}");
            assert!(context.window.capacity() <= 1024);
        }
    }
}
