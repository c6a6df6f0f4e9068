//! What waits for one slow connection and may still be dropped, with all that waits behind it.
//!
//! ```text
//!          the wire's end                       where routing appends
//!   backlog ◀─pop── entries: event │ reply │ hole │ event │ event …
//!   (begun or                  └─ share 0 ──────┴── share 1
//!    encoded)
//! ```
//!
//! An event is an entry of its own, so that it can be dropped whole, and belongs to a *share*: the events of one subscription.
//! A share links its events, oldest first. A dropped entry leaves a hole; holes are swept when they are the greater part.
//! What of a share was lost is noted at the event that follows the gap, so that it is told before that one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use super::outbox::Body;
use super::stream::StreamId;
use crate::clock::Instant;
use crate::config::Limits;
use crate::counters::DropReason;
use crate::encoding::Encoding;
use crate::ids::SubscriptionId;
use crate::mutation::{Mutation, planted};
use crate::topics::{Handling, SlowConsumer};

/// How the events of one stream are handled: what a share needs to know of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) handling: Handling,
    pub(super) subscription: SubscriptionId,
    pub(super) encoding: Encoding,
}

/// What waits, in the order of the wire.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    entries: VecDeque<Entry>,
    /// The number of the first entry; numbers stay until the next sweep.
    first: u64,
    holes: usize,
    bytes: usize,
    messages: u32,
    events: u64,
    shares: Vec<Share>,
    /// The event that waits, by share and key.
    keys: HashMap<(u32, u64), u64, foldhash::fast::FixedState>,
    /// When each entry was queued that ages.
    fixed: VecDeque<Instant>,
    /// Since when something waits of which, and of what was committed before it, the peer has taken nothing.
    stalled_since: Option<Instant>,
    /// What waits of all shares that make their publishers wait.
    pausing_bytes: usize,
    pausing_messages: u32,
    /// Shares that make their publishers wait now.
    pausing: u32,
    /// Together they hold too much, however little each of them does.
    crowded: bool,
    /// Events dropped since the connection is slow.
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    body: Body,
    events: u32,
    messages: u32,
    /// `fixed` says since when it waits: an event that must not be dropped. Others are as old as the queue before them, which
    /// may be long while the peer reads, so their age says nothing.
    ages: bool,
    tag: Option<Box<Tag>>,
}

/// What makes an entry an event of a share.
#[derive(Debug)]
struct Tag {
    share: u32,
    /// When it was routed.
    sequence: u64,
    key: Option<u64>,
    /// Events of the share lost just before it.
    lost: u64,
    previous: Option<u64>,
    next: Option<u64>,
}

/// The events of one subscription.
#[derive(Debug)]
struct Share {
    rule: Rule,
    /// While the connection is a member.
    stream: Option<StreamId>,
    bytes: usize,
    messages: u32,
    oldest: Option<u64>,
    newest: Option<u64>,
    /// Events lost after all that wait, and when the last of them was routed.
    lost: u64,
    lost_at: u64,
    /// Since when it makes its publishers wait.
    pausing_since: Option<Instant>,
    /// Because of what it holds itself, of which half must go; not because of others.
    catches_up: bool,
}

/// What leaves for the wire.
#[derive(Debug)]
pub(super) struct Popped {
    pub(super) body: Body,
    pub(super) events: u32,
    pub(super) messages: u32,
    /// When it was queued, for what ages.
    pub(super) queued_at: Option<Instant>,
    /// What is missing before it.
    pub(super) gap: Option<Gap>,
}

/// Events that a connection did not get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) rule: Rule,
    pub(super) lost: u64,
    /// When the last of them was routed, or what follows them.
    pub(super) sequence: u64,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.len() == self.holes
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn messages(&self) -> u32 {
        self.messages
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// When the oldest entry was queued that ages.
    pub(super) fn oldest_fixed(&self) -> Option<Instant> {
        self.fixed.front().copied()
    }

    /// Since when something has waited without the peer taking anything.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// The peer took something.
    pub(super) fn clear_stall(&mut self) {
        self.stalled_since = None;
    }

    // --- coming ------------------------------------------------------------------------------------------------

    /// The share of the stream's events.
    pub(super) fn share(&mut self, stream: StreamId, rule: &Rule) -> usize {
        let is_its = |share: &Share| share.rule.subscription == rule.subscription;
        let at = self.shares.iter().position(is_its).or_else(|| {
            // Who unsubscribes and subscribes again and again needs no more of them.
            self.shares
                .iter()
                .position(|share| share.stream.is_none() && share.messages == 0 && share.lost == 0)
        });
        let at = at.unwrap_or(self.shares.len());
        if self.shares.get(at).is_none_or(|share| !is_its(share)) {
            let share = Share {
                rule: *rule,
                stream: None,
                bytes: 0,
                messages: 0,
                oldest: None,
                newest: None,
                lost: 0,
                lost_at: 0,
                pausing_since: None,
                catches_up: false,
            };
            if at == self.shares.len() {
                self.shares.push(share);
            } else {
                self.shares[at] = share;
            }
        }
        self.shares[at].stream = Some(stream);
        at
    }

    /// The limit of the share that an event of so many bytes more would pass.
    pub(super) fn passes(&self, share: usize, bytes: usize) -> Option<DropReason> {
        let Share { rule, bytes: held, messages, .. } = &self.shares[share];
        if rule.handling.outbox_bytes_max.is_some_and(|max| *held > 0 && held + bytes > max) {
            return Some(DropReason::SlowConsumerBytes);
        }
        let is_full = rule.handling.outbox_messages_max.is_some_and(|max| *messages >= max);
        is_full.then_some(DropReason::SlowConsumerMessages)
    }

    /// Appends an event.
    pub(super) fn push_event(
        &mut self,
        now: Instant,
        sequence: u64,
        share: usize,
        key: Option<u64>,
        body: Body,
    ) {
        let number = self.first + self.entries.len() as u64;
        let of = &mut self.shares[share];
        let tag = Tag {
            share: share as u32,
            sequence,
            key,
            lost: std::mem::take(&mut of.lost),
            previous: of.newest.replace(number),
            next: None,
        };
        of.oldest.get_or_insert(number);
        of.bytes += body.len();
        of.messages += 1;
        let policy = of.rule.handling.slow_consumer;
        let ages = policy == SlowConsumer::Disconnect;
        if ages {
            self.fixed.push_back(now);
        }
        if policy == SlowConsumer::PausePublisher {
            self.pausing_bytes += body.len();
            self.pausing_messages += 1;
        }
        self.stalled_since.get_or_insert(now);
        if let Some(key) = key {
            self.keys.insert((share as u32, key), number);
        }
        if let Some(previous) = tag.previous {
            self.tag_mut(previous).next = Some(number);
        }
        self.bytes += body.len();
        self.messages += 1;
        self.events += 1;
        self.entries.push_back(Entry { body, events: 1, messages: 1, ages, tag: Some(Box::new(tag)) });
    }

    /// Appends bytes that must not be dropped; they are events if they age. Small ones share an entry, unless `alone`.
    pub(super) fn push_fixed_copy(&mut self, now: Instant, bytes: &[u8], ages: bool, alone: bool) {
        debug_assert!(!bytes.is_empty(), "an entry without bytes is a hole");
        self.bytes += bytes.len();
        if let Some(Entry { body: Body::Owned(buffer), tag: None, ages: as_back, .. }) =
            self.entries.back_mut()
            && !alone
            && *as_back == ages
            && buffer.len() + bytes.len() <= super::outbox::OWNED_PIECE_BYTES
        {
            return buffer.extend_from_slice(bytes);
        }
        self.push_fixed(now, Body::Owned(BytesMut::from(bytes)), ages);
    }

    /// The same, shared.
    pub(super) fn push_fixed_shared(&mut self, now: Instant, bytes: Bytes, ages: bool) {
        self.bytes += bytes.len();
        self.push_fixed(now, Body::Shared(bytes), ages);
    }

    fn push_fixed(&mut self, now: Instant, body: Body, ages: bool) {
        if ages {
            self.fixed.push_back(now);
        }
        self.stalled_since.get_or_insert(now);
        self.entries.push_back(Entry { body, events: 0, messages: 0, ages, tag: None });
    }

    /// Says how many events and messages the bytes just pushed complete.
    pub(super) fn credit(&mut self, events: u64, messages: u64) {
        if let Some(entry) = self.entries.back_mut() {
            entry.events += events as u32;
            entry.messages += messages as u32;
            self.messages += messages as u32;
            self.events += events;
        }
    }

    // --- dropping ----------------------------------------------------------------------------------------------

    /// Notes an event of the share that was not even kept.
    pub(super) fn note_lost(&mut self, share: usize, sequence: u64) {
        let share = &mut self.shares[share];
        (share.lost, share.lost_at) = (share.lost + 1, sequence);
        self.dropped += 1;
    }

    /// Whether an event of the share waits that has this key.
    pub(super) fn has_key(&self, share: usize, key: u64) -> bool {
        self.keys.contains_key(&(share as u32, key))
    }

    /// Drops the share's event that has this key; says how many bytes that were.
    pub(super) fn drop_key(&mut self, share: usize, key: u64) -> Option<usize> {
        let number = *self.keys.get(&(share as u32, key))?;
        Some(self.drop_event(number))
    }

    /// Drops the share's event that waits longest.
    pub(super) fn drop_oldest(&mut self, share: usize) -> Option<usize> {
        let number = self.shares[share].oldest?;
        Some(self.drop_event(number))
    }

    /// Drops the event that waits longest, of those of which one may be dropped for another and that take most room.
    pub(super) fn drop_of_largest(&mut self) -> Option<usize> {
        let may = |share: &&Share| {
            let policy = share.rule.handling.slow_consumer;
            matches!(policy, SlowConsumer::DropOldest | SlowConsumer::Conflate) && share.messages > 0
        };
        let largest = self.shares.iter().filter(may).max_by_key(|share| share.bytes)?;
        let number = largest.oldest.expect("it has messages");
        Some(self.drop_event(number))
    }

    fn drop_event(&mut self, number: u64) -> usize {
        let entry = &mut self.entries[(number - self.first) as usize];
        let bytes = entry.body.len();
        (entry.events, entry.messages) = (0, 0);
        entry.body = Body::Shared(Bytes::new());
        let tag = entry.tag.take().expect("only events are dropped");
        self.unlink(number, &tag, bytes);
        let lost = tag.lost + u64::from(!planted(Mutation::GapOfOldestForgotten));
        match tag.next {
            Some(next) => self.tag_mut(next).lost += lost,
            None => {
                let share = &mut self.shares[tag.share as usize];
                // Who has left the subscription is not told any more; else its share could never be used again.
                if share.stream.is_some() {
                    (share.lost, share.lost_at) = (share.lost + lost, tag.sequence);
                }
            }
        }
        self.bytes -= bytes;
        self.messages -= 1;
        self.events -= 1;
        self.dropped += 1;
        self.holes += 1;
        self.sweep();
        bytes
    }

    /// Takes an event out of its share.
    fn unlink(&mut self, number: u64, tag: &Tag, bytes: usize) {
        match tag.previous {
            Some(previous) => self.tag_mut(previous).next = tag.next,
            None => self.shares[tag.share as usize].oldest = tag.next,
        }
        match tag.next {
            Some(next) => self.tag_mut(next).previous = tag.previous,
            None => self.shares[tag.share as usize].newest = tag.previous,
        }
        let share = &mut self.shares[tag.share as usize];
        share.bytes -= bytes;
        share.messages -= 1;
        if share.rule.handling.slow_consumer == SlowConsumer::PausePublisher {
            self.pausing_bytes -= bytes;
            self.pausing_messages -= 1;
        }
        if let Some(key) = tag.key
            && self.keys.get(&(tag.share, key)) == Some(&number)
        {
            self.keys.remove(&(tag.share, key));
        }
    }

    fn tag_mut(&mut self, number: u64) -> &mut Tag {
        let tag = self.entries[(number - self.first) as usize].tag.as_mut();
        tag.expect("events of a share are linked while they wait")
    }

    /// Removes the holes once they are the greater part: each is paid for by the drop that made it.
    fn sweep(&mut self) {
        if self.holes <= HOLES_MAX.max(self.entries.len() / 2) {
            return;
        }
        self.entries.retain(|entry| !entry.body.is_empty());
        self.holes = 0;
        self.keys.clear();
        for share in &mut self.shares {
            (share.oldest, share.newest) = (None, None);
        }
        for at in 0..self.entries.len() {
            let number = self.first + at as u64;
            let Some(tag) = self.entries[at].tag.as_mut() else { continue };
            let share = &mut self.shares[tag.share as usize];
            tag.next = None;
            tag.previous = share.newest.replace(number);
            share.oldest.get_or_insert(number);
            if let Some(key) = tag.key {
                self.keys.insert((tag.share, key), number);
            }
            if let Some(previous) = tag.previous {
                self.tag_mut(previous).next = Some(number);
            }
        }
    }

    // --- going -------------------------------------------------------------------------------------------------

    /// The next entry for the wire: from now on it is not dropped.
    pub(super) fn pop(&mut self) -> Option<Popped> {
        loop {
            let entry = self.entries.front_mut()?;
            let tag = entry.tag.take();
            if let Some(tag) = &tag {
                let (number, bytes) = (self.first, entry.body.len());
                self.unlink(number, tag, bytes);
            }
            self.first += 1;
            let Entry { body, events, messages, ages, .. } = self.entries.pop_front().expect("it was there");
            if body.is_empty() {
                self.holes -= 1;
                continue;
            }
            self.bytes -= body.len();
            self.messages -= messages;
            self.events -= u64::from(events);
            let mut popped = Popped { body, events, messages, queued_at: None, gap: None };
            if ages {
                popped.queued_at = self.fixed.pop_front();
            }
            if let Some(tag) = tag {
                let rule = self.shares[tag.share as usize].rule;
                popped.gap = (tag.lost > 0).then_some(Gap { rule, lost: tag.lost, sequence: tag.sequence });
            }
            return Some(popped);
        }
    }

    /// What was lost after the last event that waited, when nothing waits any more; each is given once.
    pub(super) fn take_gaps(&mut self) -> Vec<Gap> {
        let lossy = self.shares.iter_mut().filter(|share| share.lost > 0);
        let gap = |share: &mut Share| {
            let lost = std::mem::take(&mut share.lost);
            Gap { rule: share.rule, lost, sequence: share.lost_at }
        };
        lossy.map(gap).collect()
    }

    // --- pausing -----------------------------------------------------------------------------------------------

    /// Whether the share makes its publishers wait from now on: it holds too much, or all that do so hold it together.
    pub(super) fn begins_to_pause(&mut self, now: Instant, index: usize, limits: &Limits) -> bool {
        let share = &self.shares[index];
        if share.rule.handling.slow_consumer != SlowConsumer::PausePublisher {
            return false;
        }
        if share.pausing_since.is_some() {
            return false;
        }
        let is_large = !share.is_below(limits, 1);
        self.crowded = self.are_crowded(limits);
        if !(is_large || self.crowded) {
            return false;
        }
        let share = &mut self.shares[index];
        share.pausing_since = Some(now);
        share.catches_up = is_large;
        self.pausing += 1;
        true
    }

    /// Whether all shares that make their publishers wait hold too much together. It ends a little below of where it begins.
    fn are_crowded(&self, limits: &Limits) -> bool {
        let (bytes_max, messages_max) = (limits.outbox_bytes_max, limits.outbox_messages_max);
        let (bytes_below, messages_below) = match self.crowded {
            true => ((limits.stream_congested_bytes / 2).min(bytes_max / 4), messages_max / 8),
            false => (0, 0),
        };
        self.pausing_bytes > bytes_max / 2 - bytes_below
            || self.pausing_messages > messages_max / 2 - messages_below
    }

    /// A stream whose publishers need not wait for this connection any more; each is given once.
    pub(super) fn next_caught_up(&mut self, limits: &Limits) -> Option<StreamId> {
        if self.pausing == 0 {
            return None;
        }
        self.crowded &= self.are_crowded(limits);
        if self.crowded {
            return None;
        }
        let has_caught_up = |share: &&mut Share| {
            let part = if share.catches_up { 2 } else { 1 };
            share.pausing_since.is_some() && share.is_below(limits, part)
        };
        let share = self.shares.iter_mut().find(has_caught_up)?;
        share.pausing_since = None;
        self.pausing -= 1;
        share.stream
    }

    /// The connection leaves the stream; whether it made its publishers wait.
    pub(super) fn leave(&mut self, stream: StreamId) -> bool {
        let Some(share) = self.shares.iter_mut().find(|share| share.stream == Some(stream)) else {
            return false;
        };
        share.stream = None;
        share.lost = 0;
        let paused = share.pausing_since.take().is_some();
        self.pausing -= u32::from(paused);
        paused
    }

    /// The streams whose publishers wait for this connection, and need not any more.
    pub(super) fn end_pauses(&mut self) -> impl Iterator<Item = StreamId> {
        self.pausing = 0;
        self.shares.iter_mut().filter_map(|share| share.pausing_since.take().and(share.stream))
    }

    /// Since when publishers have been waiting for this connection.
    pub(super) fn pausing_since(&self) -> Option<Instant> {
        self.shares.iter().filter_map(|share| share.pausing_since).min()
    }

    /// The policy of most of what waits.
    pub(super) fn policy(&self) -> Option<SlowConsumer> {
        let largest = self.shares.iter().max_by_key(|share| share.bytes)?;
        Some(largest.rule.handling.slow_consumer)
    }

    #[cfg(test)]
    pub(super) fn share_count(&self) -> usize {
        self.shares.len()
    }

    /// Panics where the books do not agree with the entries.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let live = || self.entries.iter().filter(|entry| !entry.body.is_empty());
        assert_eq!(self.bytes, live().map(|entry| entry.body.len()).sum::<usize>());
        assert_eq!(self.messages, live().map(|entry| entry.messages).sum::<u32>());
        assert_eq!(self.events, live().map(|entry| u64::from(entry.events)).sum::<u64>());
        assert_eq!(self.holes, self.entries.len() - live().count());
        for (index, share) in self.shares.iter().enumerate() {
            let its = |entry: &&Entry| entry.tag.as_ref().is_some_and(|tag| tag.share as usize == index);
            assert_eq!(share.messages as usize, live().filter(its).count());
            assert_eq!(share.bytes, live().filter(its).map(|entry| entry.body.len()).sum::<usize>());
            let (mut next, mut count) = (share.oldest, 0);
            while let Some(number) = next {
                next = self.entries[(number - self.first) as usize].tag.as_ref().expect("linked").next;
                count += 1;
            }
            assert_eq!(count, share.messages);
        }
        assert!(self.keys.len() <= self.events as usize);
        assert_eq!(self.fixed.len(), live().filter(|entry| entry.ages).count());
        let pauses = |share: &&Share| share.rule.handling.slow_consumer == SlowConsumer::PausePublisher;
        let pausing = || self.shares.iter().filter(pauses);
        assert_eq!(self.pausing_bytes, pausing().map(|share| share.bytes).sum::<usize>());
        assert_eq!(self.pausing_messages, pausing().map(|share| share.messages).sum::<u32>());
        assert_eq!(self.pausing as usize, pausing().filter(|share| share.pausing_since.is_some()).count());
    }
}

impl Share {
    /// Whether it holds no more than the mark of pausing, divided by `part`.
    fn is_below(&self, limits: &Limits, part: usize) -> bool {
        let Handling { outbox_bytes_max, outbox_messages_max, .. } = self.rule.handling;
        let bytes_max = outbox_bytes_max.unwrap_or(usize::MAX).min(limits.outbox_bytes_max);
        let messages_max = outbox_messages_max.unwrap_or(u32::MAX).min(limits.outbox_messages_max) as usize;
        // Half of what may wait is for what is under way when they are told to wait; more than a congested stream holds
        // would only take longer to catch up with.
        let bytes_mark = (bytes_max / 2).min(limits.stream_congested_bytes);
        self.bytes <= bytes_mark / part && self.messages as usize <= messages_max / 2 / part
    }
}

/// So many holes are not worth a sweep.
const HOLES_MAX: usize = 64;
