//! What happens to events of topics that have a rule, where a socket does not take them.
//!
//! An event waits in its connection's [`Waiting`](super::waiting::Waiting), where it can be dropped whole. What goes to the
//! socket next is *committed* first, some KiB at a time: from then on it is never dropped, because it may have begun, or the
//! connection's encoder has it in its context. Replies, and events without a rule, are never dropped.

use bytes::BytesMut;

use super::outbox::{Body, Outbox};
use super::stream::{FRAME_SHARES_CHUNK, StreamId};
use super::waiting::{Gap, Popped, Rule};
use super::{Delivery, Notice, Outlet, Run, flag};
use crate::clock::Instant;
use crate::config::Limits;
use crate::counters::{Counters, DropReason};
use crate::encoding::Encoding;
use crate::ids::{PublicationId, SubscriptionId};
use crate::mutation::{Mutation, planted};
use crate::topics::{Handling, SlowConsumer};

/// A connection that wants to know what it did not get.
#[derive(Clone, Copy, Debug)]
pub(super) struct GapListener {
    subscription: SubscriptionId,
    /// What was routed before is before its SUBSCRIBED.
    since: u64,
}

/// A connection that does not read as fast as it is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowConnection {
    /// Which.
    pub outlet: Outlet,
    /// Bytes that wait for it.
    pub bytes: usize,
    /// Messages that wait for it.
    pub messages: u32,
    /// Since when its oldest byte waits that is not dropped.
    pub since: Option<Instant>,
    /// Events dropped since something waits.
    pub dropped: u64,
    /// What is done with most of what waits.
    pub policy: SlowConsumer,
}

impl Delivery {
    /// Gives the events of a stream, which has none yet, another handling than to wait until the limits are passed.
    pub(crate) fn set_rule(
        &mut self,
        id: StreamId,
        subscription: SubscriptionId,
        encoding: Encoding,
        handling: Handling,
    ) {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        stream.set_rule(Rule { handling, subscription, encoding });
    }

    /// Whether the events of this stream replace each other by a key.
    pub(crate) fn conflates(&self, id: StreamId) -> bool {
        self.stream(id).rule().is_some_and(|rule| rule.handling.slow_consumer == SlowConsumer::Conflate)
    }

    /// The key of the next event, for streams that conflate.
    pub(crate) fn conflate_by(&mut self, key: u64) {
        self.next_key = key;
    }

    /// From now on the connection is told what it did not get, as events of this subscription; or no longer.
    pub(crate) fn tell_gaps(&mut self, outlet: Outlet, subscription: Option<SubscriptionId>) {
        match subscription {
            Some(subscription) => {
                let listener = GapListener { subscription, since: self.sequence };
                self.gap_listeners.insert(outlet.0, listener);
            }
            None => drop(self.gap_listeners.remove(&outlet.0)),
        }
    }

    /// Numbers the publications that tell gaps from here on, so that shards and restarts do not repeat each other's.
    pub(crate) fn seed_gaps(&mut self, seed: u64) {
        self.last_gap = seed;
    }

    /// The connections with most bytes waiting, the largest first, `limit` at most.
    pub fn slowest(&self, limit: usize) -> Vec<SlowConnection> {
        self.largest(limit).into_iter().filter_map(|(outlet, _)| self.slow_connection(outlet)).collect()
    }

    fn slow_connection(&self, outlet: Outlet) -> Option<SlowConnection> {
        let outbox = self.outlets[outlet.index()].outbox.as_ref()?;
        let waiting = outbox.waiting.as_ref();
        Some(SlowConnection {
            outlet,
            bytes: outbox.bytes(),
            messages: outbox.backlog_messages() + outbox.marks.len() as u32,
            since: outbox.oldest(),
            dropped: waiting.map_or(0, |waiting| waiting.dropped()),
            policy: waiting.and_then(|waiting| waiting.policy()).unwrap_or_default(),
        })
    }

    // --- keeping -----------------------------------------------------------------------------------------------

    /// Whether events of this stream wait apart from what is never dropped. Where nothing waits, the encoder of a connection
    /// takes them as they come.
    pub(super) fn has_rule(&self, outlet: Outlet, id: StreamId) -> bool {
        let is_encoded_at_once = || {
            let outbox = self.outlets[outlet.index()].outbox.as_ref();
            self.flags[outlet.index()] & (flag::ENCODED | flag::BLOCKED) == flag::ENCODED
                && outbox.is_none_or(|outbox| !outbox.has_backlog())
        };
        self.stream(id).rule().is_some() && !is_encoded_at_once()
    }

    /// Keeps the events `run` of stream `id`, less the `done` that were sent and the `skip` bytes.
    pub(super) fn keep_by_rule(
        &mut self,
        now: Instant,
        outlet: Outlet,
        id: StreamId,
        run: Run,
        done: u64,
        skip: usize,
    ) {
        let mut run = run;
        let sent = if done == 0 { 0 } else { self.run_bytes(outlet, &Run { to: run.from + done, ..run }) };
        let begun = skip - sent;
        run.from += done;
        if begun > 0 {
            let first = Run { to: run.from + 1, ..run };
            self.keep_begun(now, outlet, id, first, begun);
            run.from += 1;
        }
        self.kept += run.to - run.from;
        for frame in run.from..run.to {
            let one = Run { from: frame, to: frame + 1, ..run };
            if let Err(reason) = self.keep_event(now, outlet, id, one) {
                let rest = run.to - frame;
                self.counters.queued -= rest;
                self.counters.drop_events(reason, rest);
                return self.cut(outlet, reason);
            }
        }
    }

    /// A frame that has begun must end, so its rest is not dropped.
    fn keep_begun(&mut self, now: Instant, outlet: Outlet, id: StreamId, run: Run, begun: usize) {
        if planted(Mutation::BegunFrameDropped) {
            let rule = *self.stream(id).rule().expect("the caller looked");
            let rest = self.body(outlet, &run).bytes()[begun..].to_vec();
            self.counters.outbox_bytes += rest.len() as u64;
            let outbox = self.outlets[outlet.index()].outbox.get_or_insert_default();
            let waiting = outbox.waiting.get_or_insert_default();
            let share = waiting.share(id, &rule);
            return waiting.push_event(now, 0, share, None, Body::Owned(BytesMut::from(&rest[..])));
        }
        self.push_run(now, outlet, run, begun);
        if let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() {
            outbox.credit(1, 1);
        }
    }

    /// Keeps one event, or counts it as dropped; `Err`: its rule wants the connection cut.
    fn keep_event(&mut self, now: Instant, outlet: Outlet, id: StreamId, run: Run) -> Result<(), DropReason> {
        let bytes = self.run_bytes(outlet, &run);
        let stream = self.stream(id);
        let rule = *stream.rule().expect("the caller looked");
        // What came beside the stream has no key, and replaces nothing.
        let key = run.source.and_then(|_| stream.key(run.from));
        let sequence = match run.source {
            Some(_) => stream.mark(run.from).sequence,
            None => run.sequence,
        };
        // What only waits for its turn to be sent is not conflated, and makes nobody wait.
        let (is_slow, slack) = (self.is_blocked(outlet), self.slack(outlet));
        let Self { outlets, outboxes, counters, limits, .. } = self;
        let outbox = outlets[outlet.index()].outbox.get_or_insert_with(|| outboxes.pop().unwrap_or_default());
        let waiting = outbox.waiting.get_or_insert_default();
        let share = waiting.share(id, &rule);
        if let Some(key) = key.filter(|_| is_slow) {
            if planted(Mutation::ConflateKeepsOlder) && waiting.has_key(share, key) {
                counters.drop_waiting(DropReason::Conflated, 0);
                waiting.note_lost(share, sequence);
                return Ok(());
            }
            if let Some(freed) = waiting.drop_key(share, key) {
                counters.drop_waiting(DropReason::Conflated, freed);
            }
        }
        if !admit(outbox, &rule, share, bytes, slack, limits, counters)? {
            let reason = match rule.handling.slow_consumer {
                SlowConsumer::DropNewest => DropReason::DropNewest,
                _ => DropReason::DropOldest,
            };
            counters.drop_waiting(reason, 0);
            outbox.waiting.as_mut().expect("as above").note_lost(share, sequence);
            return Ok(());
        }
        let body = self.body(outlet, &run);
        self.counters.outbox_bytes += bytes as u64;
        let outbox = self.outlets[outlet.index()].outbox.as_mut().expect("as above");
        let waiting = outbox.waiting.as_mut().expect("as above");
        waiting.push_event(now, sequence, share, key, body);
        if is_slow && waiting.begins_to_pause(now, share, &self.limits) {
            self.pause(id);
        }
        Ok(())
    }

    /// One frame, apart from its source.
    fn body(&mut self, outlet: Outlet, run: &Run) -> Body {
        let Some(id) = run.source else {
            let outbox = self.outlets[outlet.index()].outbox.as_ref().expect("it has replies");
            return Body::Owned(BytesMut::from(outbox.reply_bytes(run.from, run.to, 0)));
        };
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        let mut body = Body::Owned(BytesMut::new());
        // A frame lies in one chunk.
        if stream.byte_count(run.from, run.to) <= FRAME_SHARES_CHUNK {
            stream.for_each_slice(run.from, run.to, 0, |bytes| body = Body::Owned(BytesMut::from(bytes)));
        } else {
            stream.share(run.from, run.to, 0, |bytes| body = Body::Shared(bytes));
        }
        body
    }

    /// Makes room for a frame that is not to be dropped, at the expense of those that may be; `Err`: there is none.
    pub(super) fn make_room(
        &mut self,
        outlet: Outlet,
        bytes: usize,
        is_event: bool,
    ) -> Result<(), DropReason> {
        let slack = self.slack(outlet);
        let Self { outlets, counters, limits, .. } = self;
        let Some(outbox) = outlets[outlet.index()].outbox.as_mut() else { return Ok(()) };
        while let Some(reason) = outbox.passes(bytes, is_event, slack, limits) {
            let freed =
                outbox.waiting.as_mut().and_then(|waiting| waiting.drop_of_largest()).ok_or(reason)?;
            counters.drop_waiting(DropReason::DropOldest, freed);
        }
        Ok(())
    }

    pub(super) fn waits(&self, outlet: Outlet) -> bool {
        self.outlets[outlet.index()].outbox.as_ref().is_some_and(|outbox| outbox.waits())
    }

    fn is_blocked(&self, outlet: Outlet) -> bool {
        self.flags[outlet.index()] & flag::BLOCKED != 0
    }

    /// Who was not found full may read all of it at the next flush; what streams can owe it at once is bounded.
    fn slack(&self, outlet: Outlet) -> usize {
        if self.is_blocked(outlet) { 1 } else { UNTRIED_SLACK }
    }

    // --- sending -----------------------------------------------------------------------------------------------

    /// Commits what the next send may take of what waits.
    pub(super) fn commit(&mut self, now: Instant, outlet: Outlet) {
        loop {
            let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() else { return };
            let committed = outbox.committed_bytes();
            let Some(waiting) = outbox.waiting.as_mut() else { return };
            if let Some(id) = waiting.next_caught_up(&self.limits) {
                self.resume(id);
                continue;
            }
            if committed >= COMMITTED_BYTES {
                return;
            }
            let Some(popped) = waiting.pop() else { return };
            if let Some(gap) = popped.gap {
                self.tell(now, outlet, gap);
            }
            self.commit_one(now, outlet, popped);
        }
    }

    fn commit_one(&mut self, now: Instant, outlet: Outlet, popped: Popped) {
        let Popped { mut body, events, messages, queued_at, .. } = popped;
        if self.flags[outlet.index()] & flag::ENCODED != 0 {
            let plain = body.len() as u64;
            body = self.encode_frame(outlet, body.bytes());
            self.counters.outbox_bytes += body.len() as u64;
            self.counters.outbox_bytes -= plain;
        }
        let outbox = self.outlets[outlet.index()].outbox.as_mut().expect("it was there");
        outbox.commit(body, events, messages, queued_at.unwrap_or(now));
    }

    /// Whether any session of this shard wants to know what it lost.
    #[inline]
    pub(super) fn anyone_hears_gaps(&self) -> bool {
        !self.gap_listeners.is_empty()
    }

    /// Tells what was lost after the last event that waited, once all that waited is sent, and before anything newer is. Whether
    /// there is something to send.
    ///
    /// One notice for each subscription that lost something, whatever the limits: everything else is sent.
    pub(super) fn tell_last_gaps(&mut self, now: Instant, outlet: Outlet) -> bool {
        if self.flags[outlet.index()] & (flag::BLOCKED | flag::CLOSED) != 0 {
            return false;
        }
        let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() else { return false };
        if outbox.has_backlog() || !self.gap_listeners.contains_key(&outlet.0) {
            return false;
        }
        let gaps = outbox.waiting.as_mut().map_or_else(Vec::new, |waiting| waiting.take_gaps());
        gaps.into_iter().filter(|gap| self.tell(now, outlet, *gap)).count() > 0
    }

    /// Says that events were lost, if the connection wants to know; whether it does.
    fn tell(&mut self, now: Instant, outlet: Outlet, gap: Gap) -> bool {
        let listener = self.gap_listeners.get(&outlet.0).filter(|listener| listener.since < gap.sequence);
        let Some(GapListener { subscription, .. }) = listener.copied() else { return false };
        self.last_gap = self.last_gap.wrapping_add(1);
        let publication = PublicationId::from_random(mix(self.last_gap));
        let mut frame = BytesMut::new();
        gap.rule.encoding.write_gap(
            subscription,
            publication,
            gap.rule.subscription,
            gap.lost,
            gap.rule.handling.slow_consumer.name(),
            &mut frame,
        );
        // Not compressed: it need not be, and an encoder's context must not have it.
        let framing = gap.rule.encoding.framing().inflated();
        if !self.compressors.frame_for_all(framing, &mut frame, 0, &mut self.counters) {
            return false;
        }
        self.counters.gap_notices += 1;
        self.counters.outbox_bytes += frame.len() as u64;
        let outbox = self.outlets[outlet.index()].outbox.as_mut().expect("it has a gap");
        outbox.commit(Body::Owned(frame), 0, 1, now);
        true
    }

    // --- pausing -----------------------------------------------------------------------------------------------

    /// One member more for which the stream's publishers wait.
    fn pause(&mut self, id: StreamId) {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        self.counters.pauses += 1;
        if stream.add_pause() {
            self.notices.push(Notice::Paused { tag: stream.tag, paused: true });
        }
    }

    fn resume(&mut self, id: StreamId) {
        if planted(Mutation::PauseNeverEnds) {
            return;
        }
        let stream = self.streams[id.index()].as_mut().expect("members keep streams alive");
        if stream.end_pause() {
            self.notices.push(Notice::Paused { tag: stream.tag, paused: false });
        }
    }

    /// Nobody waits for the owner of this outbox any more.
    pub(super) fn end_pauses(&mut self, outbox: &mut Outbox) {
        let Some(waiting) = &mut outbox.waiting else { return };
        let streams: Vec<StreamId> = waiting.end_pauses().collect();
        streams.into_iter().for_each(|id| self.resume(id));
    }

    /// The connection leaves the stream, and nobody waits for it there any more.
    pub(super) fn leave_share(&mut self, outlet: Outlet, id: StreamId) {
        let outbox = self.outlets[outlet.index()].outbox.as_mut();
        let waiting = outbox.and_then(|outbox| outbox.waiting.as_mut());
        if waiting.is_some_and(|waiting| waiting.leave(id)) {
            self.resume(id);
        }
    }

    /// Whether publishers have waited for this connection as long as they may.
    pub(super) fn paused_too_long(&self, now: Instant, outlet: Outlet) -> bool {
        let outbox = self.outlets[outlet.index()].outbox.as_ref();
        let since = outbox.and_then(|outbox| outbox.waiting.as_ref()?.pausing_since());
        since.is_some_and(|since| now.since(since) >= self.limits.pause_max)
    }
}

/// Makes room for one more event of a share, as its rule says. `Ok(false)`: it is not kept; `Err`: the connection is cut.
fn admit(
    outbox: &mut Outbox,
    rule: &Rule,
    share: usize,
    bytes: usize,
    slack: usize,
    limits: &Limits,
    counters: &mut Counters,
) -> Result<bool, DropReason> {
    let policy = rule.handling.slow_consumer;
    let drops_oldest = matches!(policy, SlowConsumer::DropOldest | SlowConsumer::Conflate);
    loop {
        let over = outbox.passes(bytes, true, slack, limits);
        let waiting = outbox.waiting.as_mut().expect("its share is there");
        // Its own limits are for who is slow.
        let own = if slack == 1 { waiting.passes(share, bytes) } else { None };
        let (reason, freed) = match (own, over) {
            (None, None) => return Ok(true),
            // The newest is to be kept, also behind a frame under way that takes all the room.
            (None, Some(_)) if drops_oldest && waiting.is_empty() => return Ok(true),
            (Some(reason), _) if drops_oldest => (reason, waiting.drop_oldest(share)),
            (None, Some(reason)) if policy != SlowConsumer::DropNewest => (reason, waiting.drop_of_largest()),
            (Some(reason), _) | (_, Some(reason)) => (reason, None),
        };
        match freed {
            Some(freed) => counters.drop_waiting(DropReason::DropOldest, freed),
            None if matches!(policy, SlowConsumer::Disconnect | SlowConsumer::PausePublisher) => {
                return Err(reason);
            }
            None => return Ok(false),
        }
    }
}

impl Counters {
    /// Counts one event that waited as dropped, with its bytes.
    fn drop_waiting(&mut self, reason: DropReason, bytes: usize) {
        self.queued -= 1;
        self.outbox_bytes -= bytes as u64;
        self.drop_events(reason, if planted(Mutation::DropCountedTwice) { 2 } else { 1 });
    }
}

/// Spreads consecutive numbers over 64 bits (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How far beyond its limits an outbox may go while its socket has not been found full.
const UNTRIED_SLACK: usize = 8;
/// So much is taken out of reach of dropping for one send, or one frame: less than the kernel keeps for a socket. A peer that
/// takes it in `outbox_age_max` is not cut.
const COMMITTED_BYTES: usize = 8 << 10;
