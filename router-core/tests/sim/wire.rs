//! Modelled sockets of one shard: bounded, sometimes short, sometimes dead. What a socket took is parsed at once into
//! messages, which the client reads later.

use super::{
    center::Ear,
    echo,
    history::{Op, Seen},
    rng::Rng,
    speech, wamp1,
};
use bytes::BytesMut;
use fanwire_codec::{
    wamp2::Serializer,
    ws::{Kind, Limits, Pool, Received, Receiver, Role, deflate::Agreement},
};
use fanwire_core::{Outlet, Sent, Wire};
use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    io::IoSlice,
};

/// The sockets of one shard.
pub struct Sockets {
    pub sockets: Vec<Socket>,
    pub rng: Rng,
    pub capacity_bytes: usize,
    pub short_writes: usize,
    /// Events that sockets took completely, and bytes; the shard must have counted the same.
    pub events_taken: u64,
    pub bytes_taken: u64,
    /// What is wrong with the bytes themselves.
    pub fault: Option<String>,
    pool: Pool,
    taken: BytesMut,
    hash: DefaultHasher,
}

pub struct Socket {
    receiver: Receiver,
    tongue: Tongue,
    /// Messages that lie in the socket, with their bytes.
    inbox: VecDeque<(Seen, usize)>,
    /// Bytes of complete messages in the socket; what is incomplete the client has already read.
    unread_bytes: usize,
    /// Bytes of the message that has begun.
    begun_bytes: usize,
    open: bool,
    broken: bool,
    closed_by_router: bool,
    /// A send took less than was offered: `writable` is due.
    wants_writable: bool,
}

/// What the client understands.
pub enum Tongue {
    Wamp(Serializer),
    Center(Ear),
    Echo,
    Wamp1,
}

impl Tongue {
    fn understand(&mut self, kind: Kind, bytes: &[u8]) -> Result<Seen, String> {
        match self {
            Self::Wamp(serializer) => speech::understand(*serializer, kind, bytes),
            Self::Center(ear) => ear.understand(kind, bytes),
            Self::Echo => echo::hear(kind, bytes),
            Self::Wamp1 => wamp1::understand(kind, bytes),
        }
    }
}

impl Sockets {
    pub fn new(seed: u64, capacity_bytes: usize, short_writes: usize) -> Self {
        Self {
            sockets: Vec::new(),
            rng: Rng::new(seed),
            capacity_bytes,
            short_writes,
            events_taken: 0,
            bytes_taken: 0,
            fault: None,
            pool: Pool::default(),
            taken: BytesMut::new(),
            hash: DefaultHasher::new(),
        }
    }

    pub fn open(&mut self, outlet: Outlet, tongue: Tongue) {
        let socket = Socket {
            receiver: Receiver::new(Role::Client),
            tongue,
            inbox: VecDeque::new(),
            unread_bytes: 0,
            begun_bytes: 0,
            open: true,
            broken: false,
            closed_by_router: false,
            wants_writable: false,
        };
        if outlet.index() == self.sockets.len() {
            self.sockets.push(socket);
        } else {
            assert!(!self.sockets[outlet.index()].open, "the harness uses a slot twice");
            self.sockets[outlet.index()] = socket;
        }
    }

    /// The handshake agreed on compression.
    pub fn use_compression(&mut self, outlet: Outlet, agreement: &Agreement) {
        self.sockets[outlet.index()].receiver.use_compression(agreement);
    }

    pub fn close(&mut self, outlet: Outlet) {
        self.sockets[outlet.index()].open = false;
    }

    pub fn break_off(&mut self, outlet: Outlet) {
        self.sockets[outlet.index()].broken = true;
    }

    pub fn is_broken(&self, outlet: Outlet) -> bool {
        self.sockets[outlet.index()].broken
    }

    /// The client says this at the message center.
    pub fn said(&mut self, outlet: Outlet, op: &Op) {
        let socket = &mut self.sockets[outlet.index()];
        if let Tongue::Center(ear) = &mut socket.tongue
            && let Some(seen) = ear.said(op)
        {
            socket.inbox.push_back((seen, 0));
        }
    }

    /// A backend has done this in the client's place, and says so by a message that follows.
    pub fn ordered(&mut self, outlet: Outlet, request: u64, op: &Op) {
        if let Tongue::Center(ear) = &mut self.sockets[outlet.index()].tongue {
            ear.ordered(request, op);
        }
    }

    /// The client reads its next message.
    pub fn read(&mut self, outlet: Outlet) -> Option<Seen> {
        let socket = &mut self.sockets[outlet.index()];
        let (seen, bytes) = socket.inbox.pop_front()?;
        socket.unread_bytes -= bytes;
        Some(seen)
    }

    /// Whether epoll would say that the socket takes bytes again; asked once for each short send.
    pub fn take_writable(&mut self, outlet: Outlet) -> bool {
        let has_room = self.sockets[outlet.index()].unread_bytes < self.capacity_bytes;
        has_room && std::mem::take(&mut self.sockets[outlet.index()].wants_writable)
    }

    /// A hash of every byte that was taken.
    pub fn trace(&self) -> u64 {
        self.hash.finish()
    }

    fn take(&mut self, outlet: Outlet, bytes: usize, pieces: &[IoSlice<'_>]) {
        self.taken.clear();
        let mut rest = bytes;
        for piece in pieces {
            let part = piece.len().min(rest);
            self.taken.extend_from_slice(&piece[..part]);
            rest -= part;
        }
        self.taken[..].hash(&mut self.hash);
        self.bytes_taken += bytes as u64;
        let Self { taken, pool, fault, sockets, events_taken, .. } = self;
        let socket = &mut sockets[outlet.index()];
        let mut input = &mut taken[..];
        while !input.is_empty() {
            if socket.closed_by_router {
                fault.get_or_insert_with(|| format!("O10: {outlet:?} was sent bytes after the close frame"));
                return;
            }
            let (consumed, received) = match socket.receiver.receive(input, &Limits::default(), pool) {
                Ok(done) => done,
                Err(error) => {
                    fault.get_or_insert_with(|| format!("{outlet:?} was sent garbled frames: {error}"));
                    return;
                }
            };
            socket.begun_bytes += consumed;
            let seen = match received {
                None => None,
                Some(Received::Ping(_) | Received::Pong(_)) => Some(Seen::Ping),
                Some(Received::Close(close)) => Some(Seen::Close { code: close.map(|(code, _)| code) }),
                Some(Received::Message { kind, payload }) => match socket.tongue.understand(kind, payload) {
                    Ok(seen) => Some(seen),
                    Err(words) => {
                        fault.get_or_insert(words);
                        return;
                    }
                },
            };
            if let Some(seen) = seen {
                socket.closed_by_router |= matches!(seen, Seen::Close { .. });
                *events_taken += u64::from(matches!(seen, Seen::Event { .. } | Seen::Bare { .. }));
                let bytes = std::mem::take(&mut socket.begun_bytes);
                socket.unread_bytes += bytes;
                socket.inbox.push_back((seen, bytes));
                socket.receiver.recycle(pool);
            }
            input = &mut input[consumed..];
        }
    }
}

impl Wire for Sockets {
    fn send(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let socket = &mut self.sockets[outlet.index()];
        if offered == 0 {
            self.fault
                .get_or_insert_with(|| format!("{outlet:?} was offered nothing: a system call for no byte"));
        }
        if !socket.open {
            self.fault.get_or_insert_with(|| format!("{outlet:?} was sent bytes after it was released"));
        }
        if socket.broken || !socket.open {
            return Sent::Broken;
        }
        if socket.wants_writable && self.rng.chance(50) {
            // EAGAIN until somebody says writable, as a full socket does.
            return Sent::Took(0);
        }
        let room = self.capacity_bytes.saturating_sub(socket.unread_bytes);
        let mut taken = offered.min(room);
        if self.rng.chance(self.short_writes) {
            taken = self.rng.below(taken + 1);
        }
        socket.wants_writable |= taken < offered;
        self.take(outlet, taken, pieces);
        Sent::Took(taken)
    }
}
