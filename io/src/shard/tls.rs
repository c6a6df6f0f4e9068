//! The TLS connections of a shard: which ones are, and their sessions.
//!
//! ```text
//! first byte ─┬ 22 ─▶ a place for its handshake (`handshakes.rs`) ─▶ … ─▶ established ─▶ request head, frames, as without TLS
//!             └ other ─▶ plain, or told that this port speaks TLS
//! ```
//!
//! Above this nobody knows of TLS: what comes in goes on as plaintext, and the service's plaintext is encrypted where it
//! would go to the socket (`wire.rs`). Plaintext counts as taken when it is encrypted; the rest of that record, if the
//! socket is full, is all that is kept here, and until it is gone nothing more is taken. So a TLS connection's outbox is
//! the service's, with its limits, like any other's.
//!
//! A handshake costs a shard hundreds of microseconds, so a turn has a few of them ([`HANDSHAKE_BYTES`]).

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use fanwire_codec::http::HttpError;
use fanwire_core::Outlet;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::Shard;
use super::handshakes::{Entered, Handshakes};
use super::input::{Panicked, guarded};
use crate::counters::{Count, ShardCounters};
use crate::request::RefusalReason;
use crate::service::Service;
use crate::slots::{CloseReason, Hot, Stage, flag};
use crate::socket;
use crate::tls::{RECORD_BYTES, RECORD_EXTRA, Session};

/// What a shard has for its TLS connections. Empty where there are none.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) handshakes: Handshakes,
    /// By slot.
    sessions: Vec<Option<Box<Session>>>,
    /// What was decrypted.
    plain: Vec<u8>,
    /// What is to be sent: room for one record.
    cipher: Vec<u8>,
    /// A record's plaintext, where it is in several pieces.
    gathered: Vec<u8>,
}

/// How a handshake ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HandshakeEnd {
    Completed,
    Failed,
    TimedOut,
    Abandoned,
}

impl HandshakeEnd {
    fn counter(self, counters: &ShardCounters) -> &Count {
        match self {
            Self::Completed => &counters.tls_completed,
            Self::Failed => &counters.tls_failed,
            Self::TimedOut => &counters.tls_timed_out,
            Self::Abandoned => &counters.tls_abandoned,
        }
    }
}

impl Tls {
    /// With room for so many handshakes at once.
    pub(super) fn new(places: u32) -> Self {
        Self {
            handshakes: Handshakes::new(places),
            sessions: Vec::new(),
            plain: Vec::new(),
            cipher: Vec::new(),
            gathered: Vec::new(),
        }
    }

    /// From now on so many handshakes at once.
    pub(super) fn set_places(&mut self, places: u32) {
        self.handshakes.set_places(places);
    }

    fn session(&mut self, slot: u32) -> &mut Session {
        let session = self.sessions.get_mut(slot as usize).and_then(Option::as_mut);
        session.expect("connections with the flag have a session")
    }

    fn insert(&mut self, slot: u32, session: Session) {
        let index = slot as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        self.sessions[index] = Some(Box::new(session));
        self.cipher.resize(RECORD_BYTES + RECORD_EXTRA, 0);
    }

    /// Bytes of the connection's input that wait for their rest.
    pub(super) fn incomplete_bytes(&self, slot: u32) -> usize {
        let session = self.sessions.get(slot as usize).and_then(Option::as_ref);
        session.map_or(0, |session| session.incomplete().len())
    }

    /// What the connection has in common with no other one, once.
    pub(super) fn take_channel(&mut self, slot: u32) -> Option<[u8; 32]> {
        self.session(slot).take_channel()
    }

    /// Throws those away. Nothing more may be received after that.
    pub(super) fn forget_incomplete(&mut self, slot: u32) {
        if let Some(session) = self.sessions.get_mut(slot as usize).and_then(Option::as_mut) {
            session.forget_incomplete();
        }
    }

    /// Encrypts `pieces` and sends them, record by record, until the socket is full. `Err`: the connection is over.
    pub(super) fn send(
        &mut self,
        slot: u32,
        hot: &mut Hot,
        pieces: &[IoSlice<'_>],
    ) -> Result<Written, Errno> {
        let Self { sessions, cipher, gathered, .. } = self;
        let session = sessions[slot as usize].as_mut().expect("connections with the flag have a session");
        let mut written = Written::default();
        // Before it is established nothing may go out; whatever waits does not wait for the socket then.
        let mut full = !session.is_established() || !session.unsent().is_empty();
        let Some(socket) = &hot.socket else { return Err(Errno::NOTCONN) };
        let mut rest = Rest { pieces, at: 0 };
        while !full && let Some(plain) = rest.next(gathered) {
            let count = session.encrypt(plain, cipher).ok_or(Errno::PROTO)?;
            written.plain += plain.len();
            let sent = socket::send(socket, &[IoSlice::new(&cipher[..count])])?;
            written.sends += 1;
            written.cipher += sent;
            session.keep_unsent(&cipher[sent..count]);
            full = sent < count;
        }
        if full {
            hot.set(flag::BLOCKED);
        }
        written.short = full;
        Ok(written)
    }
}

/// What became of an offer of plaintext.
#[derive(Default)]
pub(super) struct Written {
    /// Plaintext that was taken.
    pub(super) plain: usize,
    /// Bytes that the socket took.
    pub(super) cipher: usize,
    pub(super) sends: u64,
    /// The socket is full.
    pub(super) short: bool,
}

/// Pieces of plaintext, handed out as records.
struct Rest<'a> {
    pieces: &'a [IoSlice<'a>],
    /// Where the first of them stands.
    at: usize,
}

impl<'a> Rest<'a> {
    /// The next record's plaintext: as it lies there if one piece fills it or is the last, otherwise gathered.
    fn next<'b>(&mut self, gathered: &'b mut Vec<u8>) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        while self.pieces.first().is_some_and(|piece| self.at == piece.len()) {
            (self.pieces, self.at) = (&self.pieces[1..], 0);
        }
        let pieces = self.pieces;
        let first = &pieces.first()?[self.at..];
        if pieces.len() == 1 || first.len() >= RECORD_BYTES {
            let record = &first[..first.len().min(RECORD_BYTES)];
            self.at += record.len();
            return Some(record);
        }
        gathered.clear();
        while gathered.len() < RECORD_BYTES
            && let Some(piece) = self.pieces.first()
        {
            let piece = &piece[self.at..];
            let share = piece.len().min(RECORD_BYTES - gathered.len());
            gathered.extend_from_slice(&piece[..share]);
            self.at += share;
            if share == piece.len() {
                (self.pieces, self.at) = (&self.pieces[1..], 0);
            }
        }
        Some(gathered)
    }
}

impl<S: Service> Shard<S> {
    /// Tells the service what this connection has in common with no other one, if it has that and the service wants it.
    pub(super) fn bind_channel(&mut self, slot: u32) {
        if self.slots.hot[slot as usize].has(flag::TLS)
            && let Some(channel) = self.tls.take_channel(slot)
            && self.service.wants_channels()
        {
            self.service.bind_channel(Outlet(slot), channel);
        }
    }

    /// Whether this connection's first byte has to be looked at, because its listener speaks TLS.
    pub(super) fn is_to_be_sniffed(&self, slot: u32) -> bool {
        let hot = &self.slots.hot[slot as usize];
        hot.stage == Stage::Head
            && !hot.has(flag::DISCARD)
            && self.config.listeners[usize::from(hot.listener)].tls.is_some()
            && self.slots.cold[slot as usize].extra.is_none()
    }

    /// Looks at a connection's first byte. `None`: it is plain, or over; otherwise what that cost, in bytes.
    pub(super) fn sniff(&mut self, slot: u32) -> Option<usize> {
        let hot = &self.slots.hot[slot as usize];
        let plain_too = self.config.listeners[usize::from(hot.listener)].tls.as_ref()?.plain;
        let mut first = [0];
        let peeked = recv(hot.socket.as_ref()?, &mut first, RecvFlags::DONTWAIT | RecvFlags::PEEK);
        let count = match peeked {
            Ok((count, _)) => count,
            // Not to be received as plain either: it may have come by then.
            Err(Errno::AGAIN) => return Some(0),
            Err(_) => return None,
        };
        if count == 1 && first[0] == CONTENT_TYPE_HANDSHAKE {
            return Some(self.begin_tls(slot));
        }
        if count == 0 || plain_too {
            return None;
        }
        if self.begins_raw(slot, &first) {
            // RawSocket has no word for that, and would read one of HTTP's as a reason.
            self.links.counters.rawsocket_needs_tls.add(1);
            self.lose(slot, CloseReason::Refused);
            return Some(0);
        }
        let words = "this port speaks TLS; use wss:// or https://, or a port without TLS";
        self.refuse_request(slot, &HttpError::new(400, words), RefusalReason::BadRequest);
        // What it said is still to be read, and thrown away.
        self.make_ready(slot);
        Some(0)
    }

    fn begin_tls(&mut self, slot: u32) -> usize {
        let hot = &mut self.slots.hot[slot as usize];
        match self.tls.handshakes.enter(slot, self.now) {
            Entered::Begins => {}
            waits => {
                // In no ready list, and not to be put into it by what it sends.
                hot.set(flag::READY);
                self.links.counters.tls_waited.add(u64::from(waits == Entered::Queued));
                return 0;
            }
        }
        let listener = &self.config.listeners[usize::from(hot.listener)];
        let Some(Ok(session)) = listener.tls.as_ref().map(|tls| Session::new(tls.acceptor.config())) else {
            // No memory or no randomness; nothing that the client could understand can be said.
            self.lose(slot, CloseReason::Lost);
            return 0;
        };
        hot.set(flag::TLS);
        self.tls.insert(slot, session);
        self.receive_tls(slot)
    }

    /// One receive of a TLS connection. Returns how many bytes that were, or were worth.
    pub(super) fn receive_tls(&mut self, slot: u32) -> usize {
        let hot = &self.slots.hot[slot as usize];
        let Some(socket) = &hot.socket else { return 0 };
        let discard = hot.has(flag::DISCARD);
        let session = self.tls.session(slot);
        if session.peer_closed && !discard {
            self.end_of_input(slot);
            return 0;
        }
        let held = if discard { 0 } else { session.incomplete().len() };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch[..held].copy_from_slice(&session.incomplete()[..held]);
        self.links.counters.receives.add(1);
        let received = recv(socket, &mut scratch[held..], RecvFlags::DONTWAIT).map(|(count, _)| count);
        let all = scratch.len() - held;
        let mut worth = 0;
        if let Some(count) = self.came(slot, received) {
            worth = count;
            if !discard {
                worth = self.decrypt(slot, &mut scratch[..held + count]).max(count);
            }
            if count == all || self.slots.hot[slot as usize].has(flag::HANGUP) {
                self.make_ready(slot);
            }
        }
        self.scratch = scratch;
        worth
    }

    /// Input of a TLS connection, from the first incomplete record on. Returns what it cost, in bytes.
    fn decrypt(&mut self, slot: u32, input: &mut [u8]) -> usize {
        let mut plain = std::mem::take(&mut self.tls.plain);
        plain.clear();
        let mut answer = Vec::new();
        let session = self.tls.session(slot);
        let shaking_hands = !session.is_established();
        let outcome = guarded(|| session.receive(input, &mut plain, &mut answer));
        let heard = outcome.as_ref().ok().and_then(|received| received.as_ref().ok());
        let established = heard.is_some_and(|heard| heard.established);
        // A piece of something incomplete costs no more than other bytes.
        let worked = shaking_hands && (!answer.is_empty() || established || heard.is_none());
        let cost = if worked { HANDSHAKE_BYTES } else { 0 };
        let sent = answer.is_empty() || self.send_cipher(slot, &answer).is_ok();
        if established {
            self.established(slot);
        } else if worked {
            self.tls.handshakes.answered(slot, self.now);
        }
        if !sent {
            self.tls.plain = plain;
            self.lose(slot, CloseReason::Lost);
            return cost;
        }
        if !plain.is_empty() && outcome.is_ok() {
            self.input(slot, &mut plain);
        }
        self.tls.plain = plain;
        match outcome {
            Ok(Ok(heard)) if heard.closed => {
                // Some of what came before may have to wait.
                self.tls.session(slot).peer_closed = true;
                self.make_ready(slot);
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => self.tls_failed(slot),
            Err(Panicked) => {
                self.links.counters.decoder_panics.add(1);
                self.lose(slot, CloseReason::Panic);
            }
        }
        cost
    }

    fn established(&mut self, slot: u32) {
        self.links.counters.tls_connections.add(1);
        self.handshake_ended(slot, HandshakeEnd::Completed);
        let session = self.tls.session(slot);
        session.counted = true;
        // Whatever was said before could not go out.
        if session.unsent().is_empty() && self.slots.hot[slot as usize].take(flag::BLOCKED) {
            self.service.writable(Outlet(slot));
        }
    }

    /// The peer's input is no TLS, or not acceptable; it has been told so.
    fn tls_failed(&mut self, slot: u32) {
        let hot = &self.slots.hot[slot as usize];
        if matches!(hot.stage, Stage::Free | Stage::Dead) {
            return;
        }
        if self.tls.session(slot).is_established() {
            return self.lose(slot, CloseReason::ProtocolError);
        }
        self.handshake_ended(slot, HandshakeEnd::Failed);
        // A reset could destroy the alert on its way.
        self.slots.hot[slot as usize].set(flag::DISCARD);
        self.service.finish(Outlet(slot));
        self.begin_closing(slot, CloseReason::Refused);
    }

    /// Counts the handshake's end, once.
    fn handshake_ended(&mut self, slot: u32, how: HandshakeEnd) {
        if self.tls.handshakes.end(slot) {
            how.counter(&self.links.counters).add(1);
        }
    }

    /// Lets those begin that wait, as far as there are places. A handshake that makes no progress gives its place up:
    /// otherwise a few silent clients could keep all others out.
    pub(super) fn admit_handshakes(&mut self) {
        // One at a time: whether somebody needed the place is seen by the next turn.
        if let Some(slot) = self.tls.handshakes.gives_way(self.now) {
            self.lose(slot, CloseReason::HandshakeTimeout);
            self.handshake_ended(slot, HandshakeEnd::TimedOut);
        }
        while let Some(slot) = self.tls.handshakes.admit() {
            if self.slots.hot[slot as usize].has(flag::HANGUP) {
                // A handshake needs both directions.
                self.lose(slot, CloseReason::Lost);
            } else {
                self.ready.push(slot);
            }
        }
    }

    /// The connection of the slot is forgotten.
    pub(super) fn forget_tls(&mut self, slot: u32) {
        let waited = self.tls.handshakes.leave(slot);
        if !waited && !self.slots.hot[slot as usize].has(flag::TLS) {
            return;
        }
        let how = match self.slots.cold[slot as usize].why {
            CloseReason::HandshakeTimeout => HandshakeEnd::TimedOut,
            CloseReason::Panic => HandshakeEnd::Failed,
            _ => HandshakeEnd::Abandoned,
        };
        if waited {
            how.counter(&self.links.counters).add(1);
            return;
        }
        self.handshake_ended(slot, how);
        if let Some(session) = self.tls.sessions[slot as usize].take()
            && session.counted
        {
            let open = &self.links.counters.tls_connections;
            open.set(open.get() - 1);
        }
    }

    /// Whether the connection waits until its handshake may begin. It has to be [lost](Self::lose) then if it is to end: nothing
    /// that it could read can be said, and nothing is read of it.
    pub(super) fn awaits_handshake(&self, slot: u32) -> bool {
        self.tls.handshakes.is_waiting(slot)
    }

    /// Whether the connection's handshake is not over.
    pub(super) fn is_shaking_hands(&mut self, slot: u32) -> bool {
        self.slots.hot[slot as usize].has(flag::TLS) && !self.tls.session(slot).is_established()
    }

    /// The socket takes bytes again. True: and there is nothing left that it had not taken.
    pub(super) fn flush_cipher(&mut self, slot: u32) -> bool {
        if !self.slots.hot[slot as usize].has(flag::TLS) {
            return true;
        }
        if self.send_cipher(slot, &[]).is_err() {
            self.lose(slot, CloseReason::Lost);
            return false;
        }
        let session = self.tls.session(slot);
        if !session.unsent().is_empty() {
            return false;
        }
        if session.finishing {
            self.finished(slot);
        }
        true
    }

    /// Sends what is left, and `more` behind it.
    fn send_cipher(&mut self, slot: u32, more: &[u8]) -> Result<(), Errno> {
        let session = self.tls.session(slot);
        let hot = &mut self.slots.hot[slot as usize];
        session.keep_unsent(more);
        if session.unsent().is_empty() {
            return Ok(());
        }
        let socket: &OwnedFd = hot.socket.as_ref().ok_or(Errno::NOTCONN)?;
        let sent = socket::send(socket, &[IoSlice::new(session.unsent())])?;
        self.links.counters.sends.add(1);
        self.links.counters.sent_bytes.add(sent as u64);
        session.took(sent);
        let left = session.unsent().len();
        if left > 0 {
            hot.set(flag::BLOCKED);
            self.links.counters.sends_short.add(1);
        }
        // A peer that asks and asks and reads nothing.
        if left > UNSENT_BYTES_MAX { Err(Errno::NOBUFS) } else { Ok(()) }
    }

    /// Whether the socket has not taken all that was encrypted; then [`Self::finished`] comes once more when it has.
    pub(super) fn finishes_later(&mut self, slot: u32) -> bool {
        if !self.slots.hot[slot as usize].has(flag::TLS) {
            return false;
        }
        let session = self.tls.session(slot);
        session.finishing = !session.unsent().is_empty();
        if session.finishing {
            self.begin_closing(slot, CloseReason::Service);
            return true;
        }
        false
    }

    /// Tells the peer that nothing follows: a courtesy, for WebSocket has its own close frame, and HTTP its lengths.
    pub(super) fn say_closed(&mut self, slot: u32) {
        let hot = &self.slots.hot[slot as usize];
        if !hot.has(flag::TLS) {
            return;
        }
        let Tls { sessions, cipher, .. } = &mut self.tls;
        let session = sessions[slot as usize].as_mut().expect("connections with the flag have a session");
        if session.is_established()
            && session.unsent().is_empty()
            && let Some(count) = session.say_closed(cipher)
            && let Some(socket) = &hot.socket
        {
            let _ = socket::send(socket, &[IoSlice::new(&cipher[..count])]);
        }
    }
}

/// First byte of every TLS connection (RFC 8446, 5.1).
const CONTENT_TYPE_HANDSHAKE: u8 = 22;
/// What one step of a handshake counts in a turn's budget of received bytes: four of them fill a default one.
const HANDSHAKE_BYTES: usize = 64 << 10;
/// More than a record and a flight of the handshake.
const UNSENT_BYTES_MAX: usize = 128 << 10;
