//! Rates of single connections: who has used its tokens up is not read until there are more, so nothing of its is lost.
//!
//! It costs a connection two numbers, and one that waits a timer, its entry in the wheel. Without a rate nothing of this
//! exists.

use fanwire_core::Instant;

use super::Shard;
use crate::config::Config;
use crate::rate::{Bucket, Rate};
use crate::service::Service;
use crate::slots::{Stage, flag};

/// The buckets of a shard's connections.
pub(super) struct Throttle {
    messages: Option<Rate>,
    bytes: Option<Rate>,
    by_slot: Vec<Buckets>,
}

#[derive(Clone, Copy, Default)]
struct Buckets {
    messages: Bucket,
    bytes: Bucket,
    /// Until when it is not read.
    waits_until: Option<Instant>,
}

impl Throttle {
    /// `None` if there is no limit.
    pub(super) fn new(config: &Config) -> Option<Box<Self>> {
        let (messages, bytes) = (config.messages_rate, config.bytes_rate);
        let limited = messages.is_some() || bytes.is_some();
        limited.then(|| Box::new(Self { messages, bytes, by_slot: Vec::new() }))
    }

    /// The rates of `config` for all connections, of which there are so many slots. Gives the slots of those that have waited by
    /// other rates: they wait until `now`, and want a timer for it.
    pub(super) fn renew(
        this: &mut Option<Box<Self>>,
        config: &Config,
        slots: usize,
        now: Instant,
    ) -> Vec<u32> {
        let rates = (config.messages_rate, config.bytes_rate);
        match this {
            Some(throttle) if (throttle.messages, throttle.bytes) == rates => Vec::new(),
            // It stays without rates too: somebody may wait in it.
            Some(throttle) => {
                (throttle.messages, throttle.bytes) = rates;
                throttle.begin_anew(now)
            }
            None => {
                *this = Self::new(config);
                if let Some(throttle) = this {
                    throttle.by_slot.resize(slots, Buckets::default());
                }
                Vec::new()
            }
        }
    }

    /// All buckets are full: what a connection has used up is a time by the old rate, which may be any time by another one.
    fn begin_anew(&mut self, now: Instant) -> Vec<u32> {
        let mut waited = Vec::new();
        for (slot, buckets) in (0u32..).zip(&mut self.by_slot) {
            let waits_until = buckets.waits_until.map(|_| now);
            waited.extend(waits_until.map(|_| slot));
            *buckets = Buckets { waits_until, ..Buckets::default() };
        }
        waited
    }

    /// A new connection has this slot.
    pub(super) fn begin(&mut self, slot: u32) {
        if slot as usize >= self.by_slot.len() {
            self.by_slot.resize(slot as usize + 1, Buckets::default());
        }
        self.by_slot[slot as usize] = Buckets::default();
    }

    /// Messages that may be handled now.
    pub(super) fn messages_left(&self, slot: u32, now: Instant) -> u64 {
        self.messages.map_or(u64::MAX, |rate| self.by_slot[slot as usize].messages.left(rate, now))
    }

    pub(super) fn take_messages(&mut self, slot: u32, now: Instant, count: u64) {
        if let Some(rate) = self.messages {
            self.by_slot[slot as usize].messages.take(rate, now, count);
        }
    }

    pub(super) fn take_bytes(&mut self, slot: u32, now: Instant, count: u64) {
        if let Some(rate) = self.bytes {
            self.by_slot[slot as usize].bytes.take(rate, now, count);
        }
    }

    /// When the connection has tokens again, if it has none now.
    fn empty_until(&self, slot: u32, now: Instant) -> Option<Instant> {
        let buckets = &self.by_slot[slot as usize];
        let until = |rate: Option<Rate>, bucket: Bucket| {
            rate.filter(|rate| bucket.left(*rate, now) == 0).map(|rate| bucket.next_at(rate))
        };
        until(self.messages, buckets.messages).max(until(self.bytes, buckets.bytes))
    }

    /// Until when the connection is not read.
    pub(super) fn waits_until(&self, slot: u32) -> Option<Instant> {
        self.by_slot[slot as usize].waits_until
    }
}

impl<S: Service> Shard<S> {
    /// Whether the connection is not to be read now. If so, its timer is set.
    #[inline]
    pub(super) fn is_throttled(&mut self, slot: u32) -> bool {
        self.throttle.is_some() && self.has_no_tokens(slot)
    }

    fn has_no_tokens(&mut self, slot: u32) -> bool {
        let Some(throttle) = &mut self.throttle else { return false };
        let hot = &self.slots.hot[slot as usize];
        // Requests have a deadline and a size; what comes behind our last words is thrown away.
        if hot.stage != Stage::Open || hot.has(flag::DISCARD) {
            return false;
        }
        let until = throttle.empty_until(slot, self.now);
        let waited = std::mem::replace(&mut throttle.by_slot[slot as usize].waits_until, until);
        let Some(until) = until else { return false };
        if waited.is_none() {
            self.links.counters.throttled.add(1);
        }
        // The time for a message is the peer's, not ours.
        let message_at = &mut self.slots.cold[slot as usize].message_at;
        *message_at = *message_at + until.since(waited.unwrap_or(self.now));
        self.wheel.enter(self.now, slot, until);
        true
    }

    /// The connection's timer rang. Until when it still waits, if it does; otherwise it is read again.
    pub(super) fn end_throttling(&mut self, slot: u32) -> Option<Instant> {
        let waits_until = &mut self.throttle.as_mut()?.by_slot[slot as usize].waits_until;
        let until = (*waits_until)?;
        if self.now < until {
            return Some(until);
        }
        *waits_until = None;
        // Whether or not something is there: a socket that was not read until empty.
        self.make_ready(slot);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(messages: Option<Rate>) -> Config {
        Config { messages_rate: messages, ..Config::default() }
    }

    #[test]
    fn other_rates_begin_with_full_buckets_and_nobody_waits_by_the_old_ones() {
        let now = Instant::from_nanos(1_000_000_000);
        let (slow, fast) = (Rate { per_second: 1, burst: 1_000 }, Rate { per_second: 1_000, burst: 1_000 });
        let mut throttle = Throttle::new(&config(Some(slow)));
        let before = throttle.as_mut().expect("there is a rate");
        (0..3).for_each(|slot| before.begin(slot));
        before.take_messages(1, now, 1_000);
        before.by_slot[1].waits_until = before.empty_until(1, now);
        assert!(before.waits_until(1) > Some(now));

        assert_eq!(Throttle::renew(&mut throttle, &config(Some(slow)), 3, now), [0; 0]);
        let same = throttle.as_ref().expect("there is a rate");
        assert_eq!(same.messages_left(1, now), 0, "what is used up by the same rate stays so");
        assert!(same.waits_until(1) > Some(now));

        assert_eq!(Throttle::renew(&mut throttle, &config(Some(fast)), 3, now), [1]);
        let raised = throttle.as_ref().expect("there is a rate");
        assert_eq!((raised.messages_left(1, now), raised.waits_until(1)), (1_000, Some(now)));

        assert_eq!(Throttle::renew(&mut throttle, &config(None), 3, now), [1]);
        let removed = throttle.as_ref().expect("somebody waits in it");
        assert_eq!((removed.messages_left(1, now), removed.empty_until(1, now)), (u64::MAX, None));
    }
}
