//! Our own messages, when they come back: a channel that a bridge publishes to and is subscribed to brings each of them.
//!
//! ```text
//! publish ─▶ expect(channel, payload) ─▶ Redis ─▶ is_echo(channel, payload): once for each
//! ```
//!
//! Redis does not say who published, and the payload is the application's. But it gives each message once to our one
//! subscription: so of all messages that are equal to ours exactly as many are dropped as we have sent. If somebody else
//! publishes the same bytes meanwhile, one of the two equal messages goes through, and nobody can tell which.
//!
//! What never comes back, because the subscription was cut in between, is forgotten: with the connection, or after a while.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Messages that are on their way back.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// By a hash that nobody outside can aim at.
    expected: HashMap<u64, Expected>,
    /// Oldest first, also those that have come back.
    sent: VecDeque<(Instant, u64)>,
    hasher: RandomState,
}

/// Equal messages.
#[derive(Clone, Copy, Debug)]
struct Expected {
    count: u32,
    /// When the last one was sent.
    since: Instant,
}

impl Echoes {
    /// A message is about to be published to a channel that it will come back by. What is returned is for [`Self::forget`].
    pub(super) fn expect(&mut self, now: Instant, channel: &[u8], payload: &[u8]) -> u64 {
        self.forget_old(now);
        let hash = self.hash(channel, payload);
        let expected = self.expected.entry(hash).or_insert(Expected { count: 0, since: now });
        *expected = Expected { count: expected.count + 1, since: now };
        self.sent.push_back((now, hash));
        hash
    }

    /// Whether the message is one of ours; said once for each of them.
    pub(super) fn is_echo(&mut self, now: Instant, channel: &[u8], payload: &[u8]) -> bool {
        if self.expected.is_empty() {
            return false;
        }
        let hash = self.hash(channel, payload);
        match self.expected.get(&hash) {
            Some(expected) if now.duration_since(expected.since) > RETURN_TIME => {
                self.expected.remove(&hash);
                false
            }
            _ => self.forget(hash),
        }
    }

    /// The connection was cut: nothing comes back any more.
    pub(super) fn clear(&mut self) {
        self.expected.clear();
        self.sent.clear();
    }

    fn hash(&self, channel: &[u8], payload: &[u8]) -> u64 {
        self.hasher.hash_one((channel, payload))
    }

    /// One of them has come, or never will. False: there is none.
    pub(super) fn forget(&mut self, hash: u64) -> bool {
        let Some(expected) = self.expected.get_mut(&hash) else { return false };
        expected.count -= 1;
        if expected.count == 0 {
            self.expected.remove(&hash);
        }
        if self.expected.is_empty() {
            self.sent.clear();
        }
        true
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |sent: &(Instant, u64)| now.duration_since(sent.0) > RETURN_TIME;
        while self.sent.front().is_some_and(is_old) || self.sent.len() >= EXPECTED_MAX {
            let Some((_, hash)) = self.sent.pop_front() else { break };
            // One that has come back meanwhile may let a younger equal one be forgotten too early. It is then delivered twice
            // at worst, where otherwise one of somebody else's would be missing.
            self.forget(hash);
        }
    }
}

/// Redis answers in the order of its commands; who takes longer has lost it.
const RETURN_TIME: Duration = Duration::from_secs(10);
/// Far more than are published before their answers are waited for.
const EXPECTED_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_are_dropped_as_were_sent() {
        let (mut echoes, now) = (Echoes::default(), Instant::now());
        assert!(!echoes.is_echo(now, b"c", b"hi"));
        echoes.expect(now, b"c", b"hi");
        echoes.expect(now, b"c", b"hi");
        echoes.expect(now, b"c", b"other");
        assert!(!echoes.is_echo(now, b"d", b"hi") && !echoes.is_echo(now, b"c", b"h"));
        assert!(echoes.is_echo(now, b"c", b"hi"));
        assert!(echoes.is_echo(now, b"c", b"hi"));
        assert!(!echoes.is_echo(now, b"c", b"hi"), "the third is somebody else's");
        assert!(echoes.is_echo(now, b"c", b"other"));
        assert!(echoes.sent.is_empty());
    }

    #[tokio::test]
    async fn what_does_not_come_back_is_forgotten() {
        let (mut echoes, now) = (Echoes::default(), Instant::now());
        let later = now + RETURN_TIME + Duration::from_secs(1);
        echoes.expect(now, b"c", b"hi");
        assert!(!echoes.is_echo(later, b"c", b"hi"), "also if nothing was sent since");
        echoes.expect(now, b"c", b"hi");
        echoes.expect(later, b"c", b"later");
        assert!(!echoes.is_echo(later, b"c", b"hi"));
        echoes.clear();
        assert!(!echoes.is_echo(later, b"c", b"later"));
        let refused = echoes.expect(now, b"c", b"hi");
        assert!(echoes.forget(refused) && !echoes.is_echo(now, b"c", b"hi"));
        for number in 0..EXPECTED_MAX + 10 {
            echoes.expect(now, b"c", number.to_string().as_bytes());
        }
        assert!(echoes.sent.len() <= EXPECTED_MAX && !echoes.is_echo(now, b"c", b"3"));
    }
}
