//! What one connection still has to be sent: replies of this turn, and the backlog that its socket did not take.
//!
//! A connection owns an outbox only while it has something in it; idle ones own none.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use crate::clock::Instant;

/// Replies are whole frames in routing order, and so are the events that came without a stream; the backlog is already in wire order, and its first piece may be partly
/// sent. Whatever is in the backlog goes before the replies.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) replies: BytesMut,
    pub(super) marks: Vec<ReplyMark>,
    /// How many of the replies are events.
    events: u32,
    /// The replies are being sent: who sends them accounts for their events.
    taken: bool,
    backlog: VecDeque<Piece>,
    backlog_bytes: usize,
    backlog_messages: u32,
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
    pub(super) is_event: bool,
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
enum Body {
    Shared(Bytes),
    Owned(BytesMut),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Shared(bytes) => bytes,
            Body::Owned(bytes) => bytes,
        }
    }
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.backlog.is_empty()
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Bytes waiting, replies too.
    pub(super) fn bytes(&self) -> usize {
        self.backlog_bytes + self.replies.len()
    }

    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    pub(super) fn backlog_messages(&self) -> u32 {
        self.backlog_messages
    }

    /// Events that wait, in the backlog and among the replies.
    pub(super) fn waiting_events(&self) -> u64 {
        let direct = if self.taken { 0 } else { u64::from(self.events) };
        direct + self.backlog.iter().map(|piece| u64::from(piece.events)).sum::<u64>()
    }

    /// Says what the bytes just written to `replies` are.
    pub(super) fn mark_reply(&mut self, sequence: u64, is_event: bool) {
        self.marks.push(ReplyMark { sequence, end: self.replies.len(), is_event });
        self.events += u32::from(is_event);
    }

    /// Calls `each` for the runs of replies that are all events or none of them, in routing order: the sequence of the
    /// first, and the numbers. From then on [`clear_replies`](Self::clear_replies) is due.
    pub(super) fn take_replies(&mut self, mut each: impl FnMut(u64, u64, u64, bool)) {
        self.taken = true;
        let mut from = 0;
        while from < self.marks.len() {
            let ReplyMark { sequence, is_event, .. } = self.marks[from];
            let same = |mark: &&ReplyMark| mark.is_event == is_event;
            let to = match self.events {
                0 => self.marks.len(),
                _ => from + self.marks[from..].iter().take_while(same).count(),
            };
            each(sequence, from as u64, to as u64, is_event);
            from = to;
        }
    }

    /// How many of the replies `from..to` lie wholly in their first `bytes` bytes.
    pub(super) fn replies_within(&self, from: u64, to: u64, bytes: usize) -> u64 {
        let start = if from == 0 { 0 } else { self.marks[from as usize - 1].end };
        let marks = &self.marks[from as usize..to as usize];
        marks.iter().take_while(|mark| mark.end <= start + bytes).count() as u64
    }

    /// When the oldest unsent byte was queued.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.backlog.front().map(|piece| piece.queued_at)
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

    /// Appends copied bytes to the backlog; small pieces share one buffer.
    pub(super) fn push_copy(&mut self, bytes: &[u8], now: Instant) {
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
    pub(super) fn push_shared(&mut self, bytes: Bytes, now: Instant) {
        self.backlog_bytes += bytes.len();
        self.backlog.push_back(Piece { body: Body::Shared(bytes), events: 0, messages: 0, queued_at: now });
    }

    /// Says how many events and messages the bytes just pushed complete.
    pub(super) fn credit(&mut self, events: u64, messages: u64) {
        if let Some(piece) = self.backlog.back_mut() {
            piece.events += events as u32;
            piece.messages += messages as u32;
            self.backlog_messages += messages as u32;
        }
    }

    /// The backlog as slices for one send; returns how many are used.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.backlog) {
            let skip = if used == 0 { self.sent } else { 0 };
            *slot = IoSlice::new(&piece.bytes()[skip..]);
            used += 1;
        }
        used
    }

    /// The socket took `bytes` of the backlog; returns the events that are complete with it, and whether the peer was held
    /// and may be read again.
    pub(super) fn taken(&mut self, mut bytes: usize) -> (u64, bool) {
        self.backlog_bytes -= bytes;
        let was_held = self.is_held();
        self.held = self.held.saturating_sub(bytes);
        let relieved = was_held && !self.is_held();
        let mut events = 0;
        while let Some(piece) = self.backlog.front() {
            let rest = piece.bytes().len() - self.sent;
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
        self.backlog.clear();
        self.backlog_bytes = 0;
        self.backlog_messages = 0;
        self.sent = 0;
        self.answered = 0;
        self.held = 0;
    }
}

/// Copied pieces share buffers up to this size.
const OWNED_PIECE_BYTES: usize = 16 << 10;
/// A pooled outbox keeps a reply buffer of at most this size.
const KEEP_BYTES: usize = 16 << 10;
