//! What a connection's input is once its handshake is over: WebSocket frames, or RawSocket frames.
//!
//! Whoever reads it hears the same things of both ([`Received`]); RawSocket has no close frames, so it never hears of one.

use std::fmt;

use fanwire_codec::rawsocket::{self, MaxLength};
use fanwire_codec::wamp2::batch::BatchError;
use fanwire_codec::ws::deflate::Agreement;
use fanwire_codec::ws::{DirectRoom, Kind, Limits, Pool, ProtocolError, Received, Receiver, Role};

/// State of one connection's input.
#[derive(Debug)]
pub(crate) enum Input {
    /// `batches`: each message of this kind is a batch of messages.
    WebSocket {
        receiver: Receiver,
        batches: Option<Kind>,
    },
    RawSocket {
        receiver: rawsocket::Receiver,
        kind: Kind,
        lengths: Lengths,
    },
}

/// What both sides of a RawSocket have said that they take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub(crate) ours: MaxLength,
    pub(crate) peers: MaxLength,
}

/// How the peer broke the rules of its transport.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Violation {
    WebSocket(ProtocolError),
    RawSocket(rawsocket::ProtocolError),
    Batch(BatchError),
}

impl Input {
    /// A WebSocket, or what may become one.
    pub(crate) const fn new() -> Self {
        Self::WebSocket { receiver: Receiver::new(Role::Server), batches: None }
    }

    /// Messages come whole, or in batches, and in no frames.
    pub(crate) const fn bodies(batches: Option<Kind>) -> Self {
        Self::WebSocket { receiver: Receiver::new(Role::Server), batches }
    }

    pub(crate) fn raw_socket(kind: Kind, lengths: Lengths) -> Self {
        Self::RawSocket { receiver: rawsocket::Receiver::new(kind == Kind::Text), kind, lengths }
    }

    pub(crate) fn is_raw(&self) -> bool {
        matches!(self, Self::RawSocket { .. })
    }

    /// Of what kind messages are that are batches of messages, if there are any.
    pub(crate) fn batches(&self) -> Option<Kind> {
        match self {
            Self::WebSocket { batches, .. } => *batches,
            Self::RawSocket { .. } => None,
        }
    }

    /// The longest ping that can be answered; `None`: any that comes.
    pub(crate) fn ping_bytes_max(&self) -> Option<usize> {
        match self {
            Self::WebSocket { .. } => None,
            Self::RawSocket { lengths, .. } => Some(lengths.peers.bytes()),
        }
    }

    /// As [`Receiver::receive`].
    #[inline]
    pub(crate) fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<(usize, Option<Received<'a>>), Violation> {
        match self {
            Self::WebSocket { receiver, .. } => {
                receiver.receive(input, limits, pool).map_err(Violation::WebSocket)
            }
            Self::RawSocket { receiver, kind, lengths } => {
                let bytes_max = limits.message_bytes_max.min(lengths.ours.bytes() as u64);
                let (consumed, received) =
                    receiver.receive(input, bytes_max).map_err(Violation::RawSocket)?;
                Ok((consumed, received.map(|received| received.over_websocket(*kind))))
            }
        }
    }

    /// As [`Receiver::direct_room`].
    pub(crate) fn direct_room(&mut self) -> Option<DirectRoom<'_>> {
        match self {
            Self::WebSocket { receiver, .. } => receiver.direct_room(),
            Self::RawSocket { receiver, .. } => receiver.direct_room(),
        }
    }

    /// As [`Receiver::direct_filled`].
    pub(crate) fn direct_filled(&mut self, count: usize) -> Result<Option<Received<'_>>, Violation> {
        match self {
            Self::WebSocket { receiver, .. } => receiver.direct_filled(count).map_err(Violation::WebSocket),
            Self::RawSocket { receiver, kind, .. } => {
                let received = receiver.direct_filled(count).map_err(Violation::RawSocket)?;
                Ok(received.map(|received| received.over_websocket(*kind)))
            }
        }
    }

    pub(crate) fn use_compression(&mut self, agreement: &Agreement) {
        if let Self::WebSocket { receiver, .. } = self {
            receiver.use_compression(agreement);
        }
    }

    pub(crate) fn hold_compressed(&mut self, held: bool) {
        if let Self::WebSocket { receiver, .. } = self {
            receiver.hold_compressed(held);
        }
    }

    pub(crate) fn is_mid_message(&self) -> bool {
        match self {
            Self::WebSocket { receiver, .. } => receiver.is_mid_message(),
            Self::RawSocket { receiver, .. } => receiver.is_mid_message(),
        }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::WebSocket { receiver, .. } => receiver.held_bytes(),
            Self::RawSocket { receiver, .. } => receiver.held_bytes(),
        }
    }

    pub(crate) fn recycle(&mut self, pool: &mut Pool) {
        match self {
            Self::WebSocket { receiver, .. } => receiver.recycle(pool),
            Self::RawSocket { receiver, .. } => receiver.recycle(),
        }
    }

    pub(crate) fn discard(&mut self, pool: &mut Pool) {
        match self {
            Self::WebSocket { receiver, .. } => receiver.discard(pool),
            Self::RawSocket { receiver, .. } => receiver.discard(),
        }
    }

    /// Throws its state away, which is in doubt: nothing of it goes back to a pool, and no rule says where a frame begins.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::WebSocket { receiver, .. } => *receiver = Receiver::new(Role::Server),
            Self::RawSocket { receiver, .. } => receiver.discard(),
        }
    }
}

impl Violation {
    /// What a WebSocket is closed with for it.
    pub(crate) fn close_code(&self) -> u16 {
        match self {
            Self::WebSocket(error) => error.close_code(),
            Self::RawSocket(error) => error.close_code(),
            Self::Batch(_) => 1002,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebSocket(error) => error.fmt(f),
            Self::RawSocket(error) => error.fmt(f),
            Self::Batch(error) => error.fmt(f),
        }
    }
}
