//! The connections of one shard, in two parallel arrays.
//!
//! ```text
//! slot        0      1      2     …
//! hot      [16 B] [16 B] [16 B]      what each send and each event touches
//! cold     [≤96 B][≤96 B][≤96 B]     what a receive or a deadline touches
//! extra      ·      ■      ·         only while something is incomplete or waits
//! ```
//!
//! A slot's number is the core's `Outlet` and the name in its epoll events. It is used again only after the turn in
//! which its connection ended, so that a stale event of the same batch meets nobody.
//!
//! The life of a connection:
//!
//! ```text
//! Head ──upgrade──▶ Open ──last words──▶ Closing ──written──▶ Lingering ──▶ Dead ──end of turn──▶ Free
//!   └──refused, late──────────────────▶ ┘                         ▲
//!   (any) ──socket dead, cut, late────────────────────────────────┘
//! ```
//!
//! Head: its request is not complete, or ─▶ Http, which lasts until its last words. Open: frames go both ways; the socket is missing
//! where they are fetched and brought by requests of other connections. Closing: nothing more is said, something may be
//! unwritten. Lingering: all is written; waits for the peer to close too. Dead: forgotten at the end of the turn.

use std::os::fd::OwnedFd;

use fanwire_codec::http::HeadScanner;
use fanwire_codec::ws::Kind;
use fanwire_core::{Instant, Outlet};

use crate::transport::Input;

/// See the module's picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    Free,
    Head,
    /// Its requests are answered one after another.
    Http,
    Open,
    Closing,
    Lingering,
    Dead,
}

/// One bit each of [`Hot::flags`].
pub(crate) mod flag {
    /// In the ready list.
    pub(crate) const READY: u16 = 1 << 0;
    /// The service wants no more input for now.
    pub(crate) const PAUSED: u16 = 1 << 1;
    /// The socket took less than was offered; cleared by the next EPOLLOUT.
    pub(crate) const BLOCKED: u16 = 1 << 2;
    /// The peer has said that nothing more comes: a short read does not mean drained, it ends with 0 or an error.
    pub(crate) const HANGUP: u16 = 1 << 3;
    /// The session is welcomed: the login deadline is off, the larger message limit applies.
    pub(crate) const ESTABLISHED: u16 = 1 << 4;
    /// Input is thrown away unparsed.
    pub(crate) const DISCARD: u16 = 1 << 5;
    /// End of input was read.
    pub(crate) const ENDED: u16 = 1 << 6;
    /// The peer's close frame came.
    pub(crate) const PEER_CLOSED: u16 = 1 << 7;
    /// The service knows that the connection is over.
    pub(crate) const TOLD: u16 = 1 << 8;
    /// A ping is out, sent at `Cold::ping_at`.
    pub(crate) const PINGED: u16 = 1 << 9;
    /// It was told goodbye; `Cold::stage_at` is when that must have been answered.
    pub(crate) const LEAVING: u16 = 1 << 10;
    /// Readable while paused: to be read when resumed.
    pub(crate) const UNREAD: u16 = 1 << 11;
    /// Its handshake is over: a WebSocket, which ends with close frames, or a RawSocket.
    pub(crate) const UPGRADED: u16 = 1 << 12;
    /// A message is incomplete; `Cold::message_at` holds.
    pub(crate) const MID_MESSAGE: u16 = 1 << 13;
    /// Everything is written.
    pub(crate) const FINISHED: u16 = 1 << 14;
    /// Speaks TLS: has a session in the shard's table of those.
    pub(crate) const TLS: u16 = 1 << 15;
}

/// What each send and each event touches.
#[derive(Debug)]
pub(crate) struct Hot {
    /// When the peer was last heard.
    pub(crate) heard_at: Instant,
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) flags: u16,
    pub(crate) stage: Stage,
    /// Index of the listener that it came by.
    pub(crate) listener: u8,
}

const _: () = assert!(size_of::<Hot>() == 16, "ten thousand of them stay in the second-level cache");

impl Hot {
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }

    /// Clears the flag and tells whether it was set.
    pub(crate) fn take(&mut self, flag: u16) -> bool {
        let was = self.has(flag);
        self.clear(flag);
        was
    }
}

/// What a receive or a deadline touches.
#[derive(Debug)]
pub(crate) struct Cold {
    pub(crate) input: Input,
    pub(crate) extra: Option<Box<Extra>>,
    /// The deadline of the stage: handshake, login, goodbye or close.
    pub(crate) stage_at: Instant,
    /// The deadline of the message that is incomplete.
    pub(crate) message_at: Instant,
    pub(crate) ping_at: Instant,
    /// What the peer had acknowledged when it was pinged, or when the pong was last overdue.
    pub(crate) acked: u32,
    pub(crate) why: CloseReason,
}

const _: () = assert!(size_of::<Cold>() <= 96, "an idle connection stays small");

/// What a connection has only at times.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Received and not yet looked at: an incomplete request head, or what came behind a pause.
    pub(crate) carry: Vec<u8>,
    /// What is not worked off of the batch before [`carry`](Self::carry).
    pub(crate) batch: Option<BatchRest>,
    pub(crate) head: HeadScanner,
    /// Payload of a WebSocket's latest ping, while the socket takes no pong.
    pub(crate) pong: Option<Vec<u8>>,
}

impl Extra {
    /// Whether something that was received waits to be handled.
    pub(crate) fn is_waiting(&self) -> bool {
        self.batch.is_some() || !self.carry.is_empty()
    }

    /// Bytes that are kept of what was received.
    pub(crate) fn held_bytes(&self) -> usize {
        self.carry.capacity() + self.batch.as_ref().map_or(0, |batch| batch.bytes.capacity())
    }
}

/// The rest of a batch, `bytes[at..]`, which are unmasked and were checked.
#[derive(Debug)]
pub(crate) struct BatchRest {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: usize,
}

/// Who or what ended a connection; the first reason counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    None,
    Peer,
    Lost,
    Service,
    ProtocolError,
    HandshakeTimeout,
    LoginTimeout,
    MessageTimeout,
    PongTimeout,
    Aborted,
    Refused,
    Drain,
    Panic,
    /// There was not enough memory for it.
    Memory,
    /// Nobody has asked for anything for a while.
    Idle,
    /// It goes on elsewhere.
    HandedOver,
}

/// All connections of a shard.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) hot: Vec<Hot>,
    pub(crate) cold: Vec<Cold>,
    free: Vec<u32>,
}

impl Slots {
    /// No connections.
    pub(crate) fn new() -> Self {
        let room = Outlet::FORESEEN;
        Self { hot: Vec::with_capacity(room), cold: Vec::with_capacity(room), free: Vec::new() }
    }

    /// Connections that have a slot.
    pub(crate) fn open(&self) -> usize {
        self.hot.len() - self.free.len()
    }

    /// A slot for a new connection, in stage [`Stage::Head`]; without a socket: for what is polled.
    pub(crate) fn insert(&mut self, socket: Option<OwnedFd>, now: Instant, listener: u8) -> u32 {
        let hot = Hot { heard_at: now, socket, flags: 0, stage: Stage::Head, listener };
        let cold = Cold {
            input: Input::new(),
            extra: None,
            stage_at: now,
            message_at: now,
            ping_at: now,
            acked: 0,
            why: CloseReason::None,
        };
        match self.free.pop() {
            Some(slot) => {
                self.hot[slot as usize] = hot;
                self.cold[slot as usize] = cold;
                slot
            }
            None => {
                let slot = u32::try_from(self.hot.len()).expect("descriptors are 32-bit numbers");
                self.hot.push(hot);
                self.cold.push(cold);
                slot
            }
        }
    }

    /// Frees the slot and closes its socket. The socket leaves the epoll set by that, as it has no duplicates.
    pub(crate) fn remove(&mut self, slot: u32) {
        let hot = &mut self.hot[slot as usize];
        debug_assert!(hot.stage != Stage::Free, "freed twice");
        hot.socket = None;
        hot.stage = Stage::Free;
        hot.flags = 0;
        let cold = &mut self.cold[slot as usize];
        cold.extra = None;
        // A free slot keeps no window of its last connection's messages.
        cold.input = Input::new();
        self.free.push(slot);
    }

    /// Slots of all connections.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.hot).filter(|(_, hot)| hot.stage != Stage::Free).map(|(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn slots_are_used_again_and_counted() {
        let mut slots = Slots::new();
        let first = slots.insert(Some(socket()), Instant::START, 0);
        let second = slots.insert(Some(socket()), Instant::START, 0);
        assert_eq!((first, second, slots.open()), (0, 1, 2));
        slots.hot[0].set(flag::READY | flag::PAUSED);
        slots.remove(first);
        assert_eq!(slots.all().collect::<Vec<_>>(), [1]);
        assert_eq!(slots.insert(Some(socket()), Instant::START, 3), first);
        assert_eq!((slots.hot[0].flags, slots.hot[0].stage, slots.hot[0].listener), (0, Stage::Head, 3));
        assert_eq!(slots.open(), 2);
    }

    #[test]
    fn taking_a_flag_clears_it_alone() {
        let mut slots = Slots::new();
        slots.insert(Some(socket()), Instant::START, 0);
        let hot = &mut slots.hot[0];
        hot.set(flag::READY | flag::BLOCKED);
        assert!(hot.take(flag::READY));
        assert!(!hot.take(flag::READY));
        assert!(hot.has(flag::BLOCKED));
    }
}
