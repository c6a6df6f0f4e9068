//! What one connection still has to be sent: replies of this turn, and the backlog that its socket did not take.
//!
//! A connection owns an outbox only while it has something in it; idle ones own none.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use super::stream::StreamId;
use super::waiting::Waiting;
use crate::clock::Instant;
use crate::config::Limits;
use crate::counters::DropReason;

/// Replies are whole frames in routing order, and so are the events that came without a stream; the backlog is already in wire
/// order, and its first piece may be partly sent. Whatever is in the backlog, or waits behind it, goes before the replies.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) replies: BytesMut,
    pub(super) marks: Vec<ReplyMark>,
    /// How many of the replies are events.
    events: u32,
    /// The replies are being sent: who sends them accounts for their events.
    taken: bool,
    backlog: VecDeque<Piece>,
    /// Of `backlog`, without what waits behind it.
    backlog_bytes: usize,
    backlog_messages: u32,
    /// What may still be dropped, and all that came after it: behind the backlog. Only where a topic's rule asks for it.
    pub(super) waiting: Option<Box<Waiting>>,
    /// Bytes of the first piece that the socket took.
    sent: usize,
    /// Bytes answered to the peer's own requests while its socket was full, since it was held last.
    answered: usize,
    /// Bytes that the socket must take before the peer is read again; 0: it is read.
    held: usize,
}

/// Where a reply ends in `replies`, and when it was routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyMark {
    pub(super) sequence: u64,
    pub(super) end: usize,
    /// The stream beside which it came, if it is an event.
    pub(super) event_of: Option<StreamId>,
}

#[derive(Debug)]
struct Piece {
    body: Body,
    /// Events that are delivered once this piece is sent.
    events: u32,
    messages: u32,
    queued_at: Instant,
}

#[derive(Debug)]
pub(super) enum Body {
    Shared(Bytes),
    Owned(BytesMut),
}

impl Body {
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && !self.has_backlog()
    }

    /// Whether anything waits that the socket did not take.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty() || self.waits()
    }

    /// Whether something waits behind the backlog, where all that comes must follow it.
    pub(super) fn waits(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty())
    }

    /// Bytes waiting, replies too.
    pub(super) fn bytes(&self) -> usize {
        self.backlog_bytes() + self.replies.len()
    }

    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog_bytes + self.waiting.as_ref().map_or(0, |waiting| waiting.bytes())
    }

    pub(super) fn backlog_messages(&self) -> u32 {
        self.backlog_messages + self.waiting.as_ref().map_or(0, |waiting| waiting.messages())
    }

    /// Bytes that cannot be dropped any more: they have begun, or were encoded.
    pub(super) fn committed_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// The limit that a frame of so many bytes would pass. Without a backlog there is none: an empty outbox takes one frame of
    /// any size. Who was not found full has `slack` times the room.
    pub(super) fn passes(
        &self,
        bytes: usize,
        is_event: bool,
        slack: usize,
        limits: &Limits,
    ) -> Option<DropReason> {
        let reserve = if is_event { 0 } else { limits.reply_reserve_bytes };
        if !self.has_backlog() {
            return None;
        }
        if self.backlog_bytes() + bytes > slack * limits.outbox_bytes_max + reserve {
            return Some(DropReason::SlowConsumerBytes);
        }
        let is_full =
            is_event && self.backlog_messages() as usize >= slack * limits.outbox_messages_max as usize;
        is_full.then_some(DropReason::SlowConsumerMessages)
    }

    /// Events that wait, in the backlog and among the replies.
    pub(super) fn waiting_events(&self) -> u64 {
        let direct = if self.taken { 0 } else { u64::from(self.events) };
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.events());
        direct + waiting + self.backlog.iter().map(|piece| u64::from(piece.events)).sum::<u64>()
    }

    /// Says what the bytes just written to `replies` are.
    pub(super) fn mark_reply(&mut self, sequence: u64, event_of: Option<StreamId>) {
        self.marks.push(ReplyMark { sequence, end: self.replies.len(), event_of });
        self.events += u32::from(event_of.is_some());
    }

    /// Calls `each` for the runs of replies that are all events of one stream or no events, in routing order: the sequence of
    /// the first, and the numbers. From then on [`clear_replies`](Self::clear_replies) is due.
    pub(super) fn take_replies(&mut self, mut each: impl FnMut(u64, u64, u64, Option<StreamId>)) {
        self.taken = true;
        let mut from = 0;
        while from < self.marks.len() {
            let ReplyMark { sequence, event_of, .. } = self.marks[from];
            let same = |mark: &&ReplyMark| mark.event_of == event_of;
            let to = match self.events {
                0 => self.marks.len(),
                _ => from + self.marks[from..].iter().take_while(same).count(),
            };
            each(sequence, from as u64, to as u64, event_of);
            from = to;
        }
    }

    /// How many of the replies `from..to` lie wholly in their first `bytes` bytes.
    pub(super) fn replies_within(&self, from: u64, to: u64, bytes: usize) -> u64 {
        let start = if from == 0 { 0 } else { self.marks[from as usize - 1].end };
        let marks = &self.marks[from as usize..to as usize];
        marks.iter().take_while(|mark| mark.end <= start + bytes).count() as u64
    }

    /// When the oldest unsent byte was queued. For what can be dropped, and for what waits behind that, when it was committed;
    /// and where nothing is committed because the peer took none of it, when the first of it began to wait.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.as_deref();
        let fixed = waiting.and_then(Waiting::oldest_fixed);
        let stalled = waiting.filter(|_| self.backlog.is_empty()).and_then(Waiting::stalled_since);
        self.backlog.front().map(|piece| piece.queued_at).into_iter().chain(fixed).chain(stalled).min()
    }

    /// The replies `from..to` (by number), less their first `skip` bytes.
    pub(super) fn reply_bytes(&self, from: u64, to: u64, skip: usize) -> &[u8] {
        let start = if from == 0 { 0 } else { self.marks[from as usize - 1].end };
        &self.replies[start + skip..self.marks[to as usize - 1].end]
    }

    /// Forgets the replies: they were sent or moved to the backlog.
    pub(super) fn clear_replies(&mut self) {
        self.marks.clear();
        self.events = 0;
        self.taken = false;
        if self.replies.capacity() > KEEP_BYTES {
            self.replies = BytesMut::new();
        } else {
            self.replies.clear();
        }
    }

    /// Appends copied bytes to the backlog; small pieces share one buffer. Behind what can be dropped only events age.
    pub(super) fn push_copy(&mut self, bytes: &[u8], ages: bool, now: Instant) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.is_empty()) {
            return waiting.push_fixed_copy(now, bytes, ages, false);
        }
        if let Some(Piece { body: Body::Owned(buffer), .. }) = self.backlog.back_mut()
            && buffer.len() + bytes.len() <= OWNED_PIECE_BYTES
        {
            buffer.extend_from_slice(bytes);
        } else {
            let body = Body::Owned(BytesMut::from(bytes));
            self.backlog.push_back(Piece { body, events: 0, messages: 0, queued_at: now });
        }
        self.backlog_bytes += bytes.len();
    }

    /// Appends a reference to shared bytes to the backlog.
    pub(super) fn push_shared(&mut self, bytes: Bytes, ages: bool, now: Instant) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.is_empty()) {
            return waiting.push_fixed_shared(now, bytes, ages);
        }
        self.backlog_bytes += bytes.len();
        self.backlog.push_back(Piece { body: Body::Shared(bytes), events: 0, messages: 0, queued_at: now });
    }

    /// Says how many events and messages the bytes just pushed complete.
    pub(super) fn credit(&mut self, events: u64, messages: u64) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.is_empty()) {
            return waiting.credit(events, messages);
        }
        if let Some(piece) = self.backlog.back_mut() {
            piece.events += events as u32;
            piece.messages += messages as u32;
            self.backlog_messages += messages as u32;
        }
    }

    /// Appends what can no longer be dropped to the backlog, whatever waits behind it.
    pub(super) fn commit(&mut self, body: Body, events: u32, messages: u32, queued_at: Instant) {
        self.backlog_bytes += body.len();
        self.backlog_messages += messages;
        self.backlog.push_back(Piece { body, events, messages, queued_at });
    }

    /// The backlog as slices for one send; returns how many are used.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.backlog) {
            let skip = if used == 0 { self.sent } else { 0 };
            *slot = IoSlice::new(&piece.body.bytes()[skip..]);
            used += 1;
        }
        used
    }

    /// The socket took `bytes` of the backlog; returns the events that are complete with it, and whether the peer was held
    /// and may be read again.
    pub(super) fn taken(&mut self, mut bytes: usize) -> (u64, bool) {
        self.backlog_bytes -= bytes;
        if let Some(waiting) = self.waiting.as_mut().filter(|_| bytes > 0) {
            waiting.clear_stall();
        }
        let was_held = self.is_held();
        self.held = self.held.saturating_sub(bytes);
        let relieved = was_held && !self.is_held();
        let mut events = 0;
        while let Some(piece) = self.backlog.front() {
            let rest = piece.body.bytes().len() - self.sent;
            if bytes < rest {
                self.sent += bytes;
                break;
            }
            bytes -= rest;
            events += u64::from(piece.events);
            self.backlog_messages -= piece.messages;
            self.backlog.pop_front();
            self.sent = 0;
        }
        (events, relieved)
    }

    /// Whether the peer is not read now.
    pub(super) fn is_held(&self) -> bool {
        self.held > 0
    }

    /// Counts what was answered to the peer, which takes nothing now; beyond `max` it is held until the socket has taken
    /// all that waits. Returns whether it is.
    pub(super) fn hold_beyond(&mut self, max: usize, answered: usize) -> bool {
        self.answered += answered;
        if self.answered > max {
            self.answered = 0;
            self.held = self.bytes();
        }
        self.is_held()
    }

    /// Ends the holding; says whether there was any.
    pub(super) fn release(&mut self) -> bool {
        std::mem::take(&mut self.held) > 0
    }

    /// Empties everything, for the next connection that needs an outbox.
    pub(super) fn reset(&mut self) {
        self.clear_replies();
        // Both are hardly ever there; looking is cheaper than dropping nothing.
        if !self.backlog.is_empty() {
            self.backlog.clear();
        }
        if self.waiting.is_some() {
            self.waiting = None;
        }
        if self.backlog.capacity() > KEEP_PIECES {
            self.backlog = VecDeque::new();
        }
        self.backlog_bytes = 0;
        self.backlog_messages = 0;
        self.sent = 0;
        self.answered = 0;
        self.held = 0;
    }
}

/// Copied pieces share buffers up to this size.
pub(super) const OWNED_PIECE_BYTES: usize = 16 << 10;
/// A pooled outbox keeps a reply buffer of at most this size.
const KEEP_BYTES: usize = 16 << 10;
/// And room for so many pieces, 4 KiB.
const KEEP_PIECES: usize = 64;
