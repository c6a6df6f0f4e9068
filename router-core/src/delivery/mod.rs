//! How bytes reach connections, in order, with as few sends as possible.
//!
//! Nothing is sent while routing. A publication is appended once to each *event stream* (`stream.rs`) that has members here;
//! a reply is appended to its connection's outbox. The flush then (1) writes the *dirty* connections, those with
//! replies or a backlog, (2) visits small streams, and (3) visits one slice of one large stream, whose scan goes
//! round its members and gives each everything the stream has by now.
//!
//! Order needs no queue per connection. Every frame has a sequence number of the shard, taken when it is routed.
//! **Pull-forward rule:** before anything newer goes to a connection, it is given what its streams still owe it, merged
//! by sequence, and its positions move to the end. A later visit of the scan finds nothing due and goes on.
//!
//! A socket that takes less than offered gets the rest as a backlog; positions move all the same, so no slow member
//! holds a stream back. The backlog is bounded by bytes, messages and age, and a connection beyond that is cut.

mod compress;
mod due;
mod flush;
mod framing;
mod listed;
mod outbox;
mod shed;
mod slow;
mod stream;
mod waiting;
mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use hashbrown::HashMap;

use crate::clock::Instant;
use crate::config::{Compression, Limits};
use crate::counters::{Counters, DropReason};
use crate::encoding::Framing;
use crate::mutation::{Mutation, planted};
use crate::session::Label;
use compress::{Compressors, Encoder};
use outbox::Outbox;
use slow::GapListener;
use stream::{ChunkPool, Member, Queue, Stream};

pub(crate) use listed::{Known, Named};
pub use slow::SlowConnection;
pub use stream::StreamId;
pub use wire::{Outlet, Sent, Wire};

/// How much one call of [`Delivery::flush`] may send. A visit that only moves bytes into a full socket's backlog counts as a
/// quarter of a send.
#[derive(Clone, Copy, Debug)]
pub struct FlushBudget {
    /// Sends of small streams. The last one may exceed it, as those with a single frame are not split.
    pub small_sends: usize,
    /// Sends of one large stream, and twice those of a small one with several frames. The 99th percentile of a call beside a broadcast is this many sends
    /// (`fanout.md` §7: linear from 32 to 256, and no cost per delivery).
    pub slice_sends: usize,
}

impl Default for FlushBudget {
    fn default() -> Self {
        Self { small_sends: 256, slice_sends: 64 }
    }
}

/// What the owner of the delivery must know. Drained by [`Delivery::notices`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The stream with this tag became congested, or is no longer.
    Congested {
        /// The tag given to [`Delivery::create_stream`].
        tag: u64,
        /// Whether it is congested now.
        congested: bool,
    },
    /// The publishers of the stream with this tag must wait for a member, or need not any more.
    Paused {
        /// The tag given to [`Delivery::create_stream`].
        tag: u64,
        /// Whether they must wait now.
        paused: bool,
    },
    /// Everything was written after [`Delivery::finish`].
    Finished(Outlet),
    /// A connection that was held for not reading its answers may be read again.
    Relieved(Outlet),
    /// A reply was longer than the connection's client takes.
    Unsayable(Outlet),
    /// The connection passed a limit or its socket broke; it gets nothing any more.
    Cut(Outlet, DropReason),
}

/// All outgoing state of one shard's connections.
#[derive(Debug)]
pub struct Delivery {
    limits: Limits,
    outlets: Vec<OutletState>,
    /// [`flag`] bits, apart from the rest: the scan reads one byte per member.
    flags: Vec<u8>,
    /// Who they are; read only for frames with lists of receivers.
    labels: Vec<Label>,
    streams: Vec<Option<Stream>>,
    free_streams: Vec<StreamId>,
    sequence: u64,
    dirty: VecDeque<Outlet>,
    small: VecDeque<StreamId>,
    big: VecDeque<StreamId>,
    /// The streams in `small` and `big`: only these can owe somebody something.
    active: Vec<StreamId>,
    blocked: Vec<Outlet>,
    /// When the ages of blocked connections are looked at next.
    age_check: Instant,
    notices: Vec<Notice>,
    /// Streams that are brimming.
    brimming: usize,
    chunks: ChunkPool,
    #[allow(clippy::vec_box, reason = "they go back and forth as boxes")]
    outboxes: Vec<Box<Outbox>>,
    runs: Vec<Run>,
    /// Where a frame is written that goes to a few outboxes.
    frame: BytesMut,
    /// Frames that were looked at one by one for a member, in all.
    asked: u64,
    /// Frames that were kept one by one for a member, in all.
    kept: u64,
    /// By outlet, as far as one was ever needed.
    encoders: Vec<Option<Box<Encoder>>>,
    compressors: Compressors,
    /// By outlet.
    gap_listeners: HashMap<u32, GapListener, foldhash::fast::FixedState>,
    /// Where the numbers of publications that tell gaps stand.
    last_gap: u64,
    /// The key of the next frame, for streams that conflate.
    next_key: u64,
    /// Read by the shard, which adds its own figures.
    pub counters: Counters,
}

#[derive(Debug, Default)]
struct OutletState {
    /// Sorted by stream.
    memberships: Vec<Membership>,
    outbox: Option<Box<Outbox>>,
}

const _: () = assert!(size_of::<OutletState>() == 32, "idle connections own no buffers");

#[derive(Clone, Copy, Debug)]
struct Membership {
    stream: StreamId,
    index: u32,
}

/// Consecutive frames of one source, due to one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Run {
    /// Sequence of the first frame; runs are sorted by it.
    sequence: u64,
    /// `None`: the outbox's replies.
    source: Option<StreamId>,
    from: u64,
    to: u64,
    /// The stream whose events they are, also if they were put among the replies.
    event_of: Option<StreamId>,
}

mod flag {
    /// In the list of connections to write.
    pub(super) const DIRTY: u8 = 1;
    /// The socket is full.
    pub(super) const BLOCKED: u8 = 2;
    /// Member of several streams: a visit must merge.
    pub(super) const MULTI: u8 = 4;
    /// Nothing more will be said.
    pub(super) const FINISHING: u8 = 8;
    /// Cut or never attached: whatever is due is dropped.
    pub(super) const CLOSED: u8 = 16;
    /// In the list of blocked connections.
    pub(super) const LISTED: u8 = 32;
    /// Everything was written after the last word; the owner has been told.
    pub(super) const FINISHED: u8 = 64;
    /// Its frames go through an encoder of its own.
    pub(super) const ENCODED: u8 = 128;
}

impl Delivery {
    /// Nothing attached yet; nothing is compressed.
    pub fn new(limits: Limits) -> Self {
        Self::with_compression(limits, None)
    }

    /// Nothing attached yet.
    pub fn with_compression(limits: Limits, compression: Option<Compression>) -> Self {
        Self {
            limits,
            outlets: Vec::with_capacity(Outlet::FORESEEN),
            flags: Vec::with_capacity(Outlet::FORESEEN),
            labels: Vec::with_capacity(Outlet::FORESEEN),
            // Nobody has the first place.
            streams: vec![None],
            free_streams: Vec::new(),
            sequence: 0,
            dirty: VecDeque::new(),
            small: VecDeque::new(),
            big: VecDeque::new(),
            active: Vec::new(),
            blocked: Vec::new(),
            age_check: Instant::START,
            notices: Vec::new(),
            brimming: 0,
            chunks: ChunkPool::default(),
            outboxes: Vec::new(),
            runs: Vec::new(),
            frame: BytesMut::new(),
            asked: 0,
            kept: 0,
            encoders: Vec::new(),
            compressors: Compressors::new(compression),
            gap_listeners: HashMap::default(),
            last_gap: 0,
            next_key: 0,
            counters: Counters::default(),
        }
    }

    // --- connections -------------------------------------------------------------------------------------------

    /// A connection exists under this number.
    pub fn attach(&mut self, outlet: Outlet) {
        let index = outlet.index();
        if index >= self.outlets.len() {
            self.outlets.resize_with(index + 1, OutletState::default);
            self.flags.resize(index + 1, flag::CLOSED);
            self.labels.resize(index + 1, Label::NOBODY);
        }
        debug_assert!(self.flags[index] & flag::CLOSED != 0, "released before it is attached again");
        // These survive: their lists still name the slot, and find nothing to do there.
        self.flags[index] &= flag::LISTED | flag::DIRTY;
    }

    /// The connection gets nothing any more; what it has not had is dropped and counted.
    pub fn detach(&mut self, now: Instant, outlet: Outlet) {
        self.condemn(outlet, DropReason::ConnectionGone);
        while let Some(membership) = self.outlets[outlet.index()].memberships.last().copied() {
            self.remove_member(now, outlet, membership.stream);
        }
        // A free slot owns nothing.
        self.outlets[outlet.index()].memberships = Vec::new();
        self.labels[outlet.index()] = Label::NOBODY;
        self.tell_gaps(outlet, None);
        self.forget_encoder(outlet);
    }

    /// Who is connected there, from the session's welcome on.
    pub(crate) fn set_label(&mut self, outlet: Outlet, label: Label) {
        self.labels[outlet.index()] = label;
    }

    /// Whether [`Self::detach`] was called, or the connection was cut.
    pub fn is_closed(&self, outlet: Outlet) -> bool {
        self.flags.get(outlet.index()).is_none_or(|flags| flags & flag::CLOSED != 0)
    }

    /// Appends one frame for this connection alone, after everything routed to it before. After [`Self::finish`] it is
    /// too late: the close frame is the last (RFC 6455, 5.5.1), and a ping that a timer still sends is ignored.
    ///
    /// What is longer than the client takes is not said: [`Notice::Unsayable`].
    pub fn reply(&mut self, outlet: Outlet, write: impl FnOnce(&mut BytesMut)) {
        if !self.try_reply(outlet, write) {
            self.notices.push(Notice::Unsayable(outlet));
        }
    }

    /// The same, for whoever has something shorter to say instead: false if it is longer than the client takes.
    #[must_use = "nothing was said"]
    pub fn try_reply(&mut self, outlet: Outlet, write: impl FnOnce(&mut BytesMut)) -> bool {
        self.say(outlet, self.framing_of_replies(outlet), write)
    }

    /// Appends bytes as they are: frames of the connection's own framing, or what comes before there are any.
    pub fn push(&mut self, outlet: Outlet, bytes: &[u8]) {
        self.say(outlet, Framing::Plain, |out| out.extend_from_slice(bytes));
    }

    fn say(&mut self, outlet: Outlet, framing: Framing, write: impl FnOnce(&mut BytesMut)) -> bool {
        let finishing = |flags: &u8| flags & flag::FINISHING != 0 && !planted(Mutation::WordsAfterClose);
        if self.is_closed(outlet) || self.flags.get(outlet.index()).is_some_and(finishing) {
            return true;
        }
        let outbox = self.outlets[outlet.index()]
            .outbox
            .get_or_insert_with(|| self.outboxes.pop().unwrap_or_default());
        let at = outbox.replies.len();
        write(&mut outbox.replies);
        let mut said = true;
        if framing != Framing::Plain && outbox.replies.len() > at {
            said = self.compressors.frame_for_all(framing, &mut outbox.replies, at, &mut self.counters);
        }
        if outbox.replies.len() == at {
            // Nothing is no frame. The flush puts the outbox away if it is not needed.
            self.make_dirty(outlet);
            return said;
        }
        self.sequence += 1;
        self.counters.replies += 1;
        outbox.mark_reply(self.sequence, None);
        #[cfg(feature = "mutations")]
        if planted(Mutation::EncodedWhenSaid) {
            self.encode_too_early(outlet, at);
        }
        self.make_dirty(outlet);
        true
    }

    /// Puts the last reply before everything that is due: a planted bug.
    #[cfg(feature = "mutations")]
    pub(crate) fn backdate_last_reply(&mut self, outlet: Outlet) {
        let outbox = self.outlets[outlet.index()].outbox.as_mut();
        if let Some(mark) = outbox.and_then(|outbox| outbox.marks.last_mut()) {
            mark.sequence = 0;
        }
    }

    /// Nothing follows: [`Notice::Finished`] comes when all is written.
    pub fn finish(&mut self, outlet: Outlet) {
        if !self.is_closed(outlet) {
            self.flags[outlet.index()] |= flag::FINISHING;
            self.make_dirty(outlet);
        }
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, outlet: Outlet) {
        if !self.is_closed(outlet) && self.flags[outlet.index()] & flag::BLOCKED != 0 {
            self.flags[outlet.index()] &= !flag::BLOCKED;
            self.counters.blocked -= 1;
            self.make_dirty(outlet);
        }
    }

    /// Bytes that wait for this connection, without what its streams owe it.
    pub fn waiting_bytes(&self, outlet: Outlet) -> usize {
        self.outlets
            .get(outlet.index())
            .and_then(|state| state.outbox.as_ref())
            .map_or(0, |outbox| outbox.bytes())
    }

    /// Bytes that were said to this connection and that no flush has looked at.
    pub fn said_bytes(&self, outlet: Outlet) -> usize {
        let state = self.outlets.get(outlet.index());
        state.and_then(|state| state.outbox.as_ref()).map_or(0, |outbox| outbox.replies.len())
    }

    /// Whether a part of a call or a result may be said to this connection: little waits for it, and one of so many bytes does not
    /// cut it.
    pub(crate) fn has_room_for_part(&self, outlet: Outlet, bytes: usize) -> bool {
        let (waiting, max) = (self.waiting_bytes(outlet), self.limits.outbox_bytes_max);
        waiting == 0 || waiting <= max / 4 && waiting.saturating_add(bytes) <= max
    }

    /// When the oldest byte was queued that waits for this connection.
    pub(crate) fn oldest_byte(&self, outlet: Outlet) -> Option<Instant> {
        self.outlets.get(outlet.index())?.outbox.as_ref()?.oldest()
    }

    /// How much is being said in this turn to a connection whose socket is full: to be handed to [`Self::hold`].
    pub(crate) fn unsaid(&self, outlet: Outlet) -> Option<usize> {
        let blocked = self.flags.get(outlet.index())? & (flag::BLOCKED | flag::CLOSED) == flag::BLOCKED;
        let outbox = self.outlets[outlet.index()].outbox.as_ref();
        blocked.then(|| outbox.map_or(0, |outbox| outbox.replies.len()))
    }

    /// Who asks on and does not read the answers is to be held back before these pass a limit: whether it must not be read
    /// until [`Notice::Relieved`]. `before` is what [`Self::unsaid`] said before its last request.
    ///
    /// Only answers to its own requests count. A callee that is slow with its invocations must be listened to, or its
    /// results could not come.
    pub(crate) fn hold(&mut self, outlet: Outlet, before: usize) -> bool {
        let max = self.limits.reply_reserve_bytes.min(self.limits.outbox_bytes_max / 2);
        let Some(outbox) = self.outlets[outlet.index()].outbox.as_mut() else { return false };
        let held = outbox.hold_beyond(max, outbox.replies.len().saturating_sub(before));
        self.counters.held += u64::from(held);
        held
    }

    /// Whether the connection is not read until [`Notice::Relieved`].
    pub(crate) fn is_held(&self, outlet: Outlet) -> bool {
        let state = self.outlets.get(outlet.index());
        state.and_then(|state| state.outbox.as_ref()).is_some_and(|outbox| outbox.is_held())
    }

    /// The connection is to be read again whatever it has not taken; says whether it was held.
    pub(crate) fn release(&mut self, outlet: Outlet) -> bool {
        self.outlets[outlet.index()].outbox.as_mut().is_some_and(|outbox| outbox.release())
    }

    fn make_dirty(&mut self, outlet: Outlet) {
        let flags = &mut self.flags[outlet.index()];
        if *flags & flag::DIRTY == 0 {
            *flags |= flag::DIRTY;
            self.dirty.push_back(outlet);
        }
    }

    // --- streams -----------------------------------------------------------------------------------------------

    /// A stream without members. `tag` comes back in [`Notice::Congested`].
    pub fn create_stream(&mut self, tag: u64) -> StreamId {
        self.create_stream_in(tag, Framing::Plain)
    }

    /// As [`Self::create_stream`]; its frames are made what `framing` says, for members that agreed to that.
    pub fn create_stream_in(&mut self, tag: u64, framing: Framing) -> StreamId {
        self.counters.streams += 1;
        let wrong = planted(Mutation::PlainStreamCompressed);
        let stream = Stream::new(tag, if wrong { framing.deflated() } else { framing });
        if let Some(id) = self.free_streams.pop() {
            self.streams[id.index()] = Some(stream);
            id
        } else {
            self.streams.push(Some(stream));
            StreamId::at(self.streams.len() - 1)
        }
    }

    /// Forgets a stream that has no members.
    pub fn delete_stream(&mut self, id: StreamId) {
        let stream = self.stream(id);
        assert!(stream.members.is_empty(), "only an empty stream may go");
        let (queue, brimming) = (stream.queue, stream.brimming);
        if stream.congested && !planted(Mutation::CongestionOutlivesStream) {
            // Its subscription may live on in another encoding: nobody may wait for this stream any more.
            self.notices.push(Notice::Congested { tag: stream.tag, congested: false });
        }
        if queue == Queue::Idle {
            self.free_streams.push(id);
        } else {
            // Its queue still names it: the number is free when the flush meets it there.
            self.retire_scan(id);
        }
        self.brimming -= usize::from(brimming);
        self.streams[id.index()] = None;
        self.counters.streams -= 1;
    }

    /// Members of the stream.
    pub fn member_count(&self, id: StreamId) -> usize {
        self.stream(id).members.len()
    }

    /// The connection gets every frame appended from now on.
    pub fn join(&mut self, outlet: Outlet, id: StreamId) {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        let pos = if planted(Mutation::JoinAtBeginning) { stream.beginning() } else { stream.end() };
        let index = stream.push_member(Member { pos, outlet, excepted: false }) as u32;
        let memberships = &mut self.outlets[outlet.index()].memberships;
        let place = memberships.partition_point(|membership| membership.stream < id);
        debug_assert!(
            memberships.get(place).is_none_or(|membership| membership.stream != id),
            "joined twice"
        );
        memberships.insert(place, Membership { stream: id, index });
        if memberships.len() > 1 {
            self.flags[outlet.index()] |= flag::MULTI;
        }
    }

    /// Gives a connection what all its streams owe it, so that it can [`part`](Self::part) with them.
    pub fn settle_due(&mut self, now: Instant, outlet: Outlet) {
        self.collect(now, outlet);
        // The collected bytes wait in the backlog; somebody must write them.
        if !self.is_closed(outlet) {
            self.make_dirty(outlet);
        }
    }

    /// Takes a connection out of a stream that owes it nothing.
    pub fn part(&mut self, now: Instant, outlet: Outlet, id: StreamId) {
        self.remove_member(now, outlet, id);
        if self.outlets[outlet.index()].memberships.len() <= 1 {
            self.flags[outlet.index()] &= !flag::MULTI;
        }
    }

    /// Appends one frame for every member but `except`; returns how many will get it.
    pub fn append(&mut self, id: StreamId, except: Option<Outlet>, write: impl FnOnce(&mut BytesMut)) -> u64 {
        let excepted = except.and_then(|outlet| index_of(&self.outlets[outlet.index()].memberships, id));
        let matched = self.stream(id).members.len() as u64 - u64::from(excepted.is_some());
        self.counters.matched += matched;
        if matched == 0 {
            return 0;
        }
        if self.is_overflowing(id) {
            self.counters.drop_events(DropReason::StreamOverflow, matched);
            return matched;
        }
        if !self.append_frame(id, except, excepted, write) {
            self.counters.drop_events(DropReason::MessageTooLong, matched);
            return matched;
        }
        self.counters.queued += matched;
        self.note_size(id);
        matched
    }

    fn is_overflowing(&self, id: StreamId) -> bool {
        self.stream(id).held_bytes() >= self.limits.stream_bytes_max
    }

    /// Appends a frame, which the caller counts, and has the stream visited. `excepted` is the place of `except`. False: the frame
    /// is longer than the members take.
    #[must_use = "nothing was appended"]
    fn append_frame(
        &mut self,
        id: StreamId,
        except: Option<Outlet>,
        excepted: Option<usize>,
        write: impl FnOnce(&mut BytesMut),
    ) -> bool {
        let Self { streams, compressors, counters, chunks, frame, next_key, .. } = self;
        let stream = streams[id.index()].as_mut().expect("the stream is alive");
        let (framing, sequence) = (stream.framing, self.sequence + 1);
        let except = except.filter(|_| excepted.is_some());
        if framing.is_limited() {
            // Apart: what is too long must leave no trace in the stream.
            frame.clear();
            write(frame);
            let fits = compressors.frame_for_all(framing, frame, 0, counters);
            if fits {
                stream.append(sequence, except, *next_key, chunks, |out| out.extend_from_slice(frame));
            }
            forget_large(frame);
            if !fits {
                return false;
            }
        } else {
            stream.append(sequence, except, *next_key, chunks, |out| {
                let at = out.len();
                write(out);
                if framing != Framing::Plain {
                    compressors.frame_for_all(framing, out, at, counters);
                }
            });
        }
        self.sequence = sequence;
        if let Some(index) = excepted {
            stream.members[index].excepted = true;
        }
        stream.left = stream.members.len();
        if stream.queue == Queue::Idle {
            stream.active_at = self.active.len();
            self.active.push(id);
            if stream.members.len() <= self.limits.small_stream_members {
                stream.queue = Queue::Small;
                self.small.push_back(id);
            } else {
                stream.queue = Queue::Big;
                self.big.push_back(id);
            }
        }
        true
    }

    /// Says so where an append made the stream congested.
    fn note_size(&mut self, id: StreamId) {
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        if !stream.congested && stream.held_bytes() > self.limits.stream_congested_bytes {
            stream.congested = true;
            self.notices.push(Notice::Congested { tag: stream.tag, congested: true });
        }
        if !stream.brimming && stream.held_bytes() >= self.limits.stream_bytes_max / 2 {
            stream.brimming = true;
            self.brimming += 1;
        }
    }

    /// Whether no stream holds half of what it may hold. Else what other shards have sent should wait until a flush has
    /// made room: their publishers learn of a congested stream only after this shard had its time, and what has been
    /// acknowledged by then may be more than the stream takes.
    pub fn takes_more(&self) -> bool {
        self.brimming == 0
    }

    /// Whether publishers wait for any stream. Looks at those that owe somebody something.
    pub(crate) fn is_congested(&self) -> bool {
        self.active.iter().any(|id| self.streams[id.index()].as_ref().is_some_and(|stream| stream.congested))
    }

    fn stream(&self, id: StreamId) -> &Stream {
        self.streams[id.index()].as_ref().expect("the stream is alive")
    }

    /// Takes a member out. What it was due has been collected or dropped.
    fn remove_member(&mut self, now: Instant, outlet: Outlet, id: StreamId) {
        self.leave_share(outlet, id);
        let memberships = &mut self.outlets[outlet.index()].memberships;
        let place = memberships.partition_point(|membership| membership.stream < id);
        let index = memberships.remove(place).index as usize;
        let stream = self.streams[id.index()].as_mut().expect("the stream is alive");
        let Some(moved) = stream.swap_remove(index) else { return };
        let memberships = &mut self.outlets[moved.index()].memberships;
        let place = memberships.partition_point(|membership| membership.stream < id);
        memberships[place].index = index as u32;
        // The cursor may have passed the hole: whoever fills it must not be forgotten.
        let is_due = stream.left > 0 && stream.members[index].pos < stream.end();
        if is_due && !planted(Mutation::MovedMemberForgotten) {
            self.collect(now, moved);
            self.make_dirty(moved);
        }
    }

    // --- time and notices --------------------------------------------------------------------------------------

    /// When [`Self::handle_timeout`] has something to look at.
    pub fn next_deadline(&self) -> Option<Instant> {
        (!self.blocked.is_empty()).then_some(self.age_check)
    }

    /// Cuts the connections whose oldest byte waits too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.blocked.is_empty() || now < self.age_check {
            return;
        }
        self.age_check = now + self.age_interval();
        let mut blocked = std::mem::take(&mut self.blocked);
        let mut cuts = 0;
        blocked.retain(|outlet| {
            if cuts == CUTS_AT_ONCE {
                return true;
            }
            let index = outlet.index();
            if self.flags[index] & flag::BLOCKED == 0 {
                self.flags[index] &= !flag::LISTED;
                return false;
            }
            let oldest = self.outlets[index].outbox.as_ref().and_then(|outbox| outbox.oldest());
            if oldest.is_some_and(|oldest| now.since(oldest) >= self.limits.outbox_age_max) {
                self.flags[index] &= !flag::LISTED;
                self.cut(*outlet, DropReason::SlowConsumerAge);
                cuts += 1;
                return false;
            }
            if self.paused_too_long(now, *outlet) {
                self.flags[index] &= !flag::LISTED;
                self.cut(*outlet, DropReason::SlowConsumerPause);
                cuts += 1;
                return false;
            }
            true
        });
        self.blocked = blocked;
        if cuts == CUTS_AT_ONCE {
            self.age_check = now + Duration::from_millis(1);
        }
    }

    /// From now on these hold. What has passed them already is cut when it is looked at.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.age_check = Instant::START;
    }

    /// How often ages and pauses are looked at.
    fn age_interval(&self) -> Duration {
        self.limits.outbox_age_max.min(self.limits.pause_max) / AGE_CHECKS
    }

    /// What the owner must act on, oldest first.
    pub fn notices(&mut self) -> std::vec::Drain<'_, Notice> {
        self.notices.drain(..)
    }

    /// Whether [`Self::notices`] has any.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }
}

/// Frees the buffer for single frames if one made it large.
fn forget_large(frame: &mut BytesMut) {
    if frame.capacity() > KEEP_FRAME_BYTES {
        *frame = BytesMut::new();
    }
}

fn index_of(memberships: &[Membership], id: StreamId) -> Option<usize> {
    memberships
        .binary_search_by_key(&id, |membership| membership.stream)
        .ok()
        .map(|at| memberships[at].index as usize)
}

/// Looks at ages per limit: a connection is cut at most this part of `outbox_age_max` late.
const AGE_CHECKS: u32 = 8;
/// Connections cut by one look: each may have a thousand subscriptions to leave.
const CUTS_AT_ONCE: usize = 64;
/// The buffer for single frames stays if it is no larger.
const KEEP_FRAME_BYTES: usize = 64 << 10;

#[cfg(test)]
mod slow_tests;
#[cfg(test)]
mod tests;
