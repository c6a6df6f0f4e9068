//! What a connection's messages come in: WebSocket frames, or RawSocket frames.

use fanwire_codec::rawsocket;
use fanwire_codec::ws::{self, Kind, Limits, Pool, Received, Role};

use crate::reader;

/// The codec's state of what comes.
#[derive(Debug)]
pub enum Wire {
    /// A WebSocket, or what becomes one.
    WebSocket(ws::Receiver),
    /// A RawSocket; what its messages are.
    RawSocket(rawsocket::Receiver, Kind),
}

impl Wire {
    /// Of a fresh connection to a WebSocket server.
    pub fn web_socket() -> Self {
        Self::WebSocket(ws::Receiver::new(Role::Client))
    }

    /// Of a fresh connection by RawSocket.
    pub fn raw_socket(kind: Kind) -> Self {
        Self::RawSocket(rawsocket::Receiver::new(kind == Kind::Text), kind)
    }

    /// As [`ws::Receiver::receive`]; the error is in words.
    pub fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        pool: &mut Pool,
    ) -> Result<(usize, Option<Received<'a>>), String> {
        match self {
            Self::WebSocket(receiver) => receiver
                .receive(input, limits, pool)
                .map_err(|error| format!("the server broke the WebSocket protocol: {error}")),
            Self::RawSocket(receiver, kind) => {
                let (used, received) = receiver
                    .receive(input, limits.message_bytes_max)
                    .map_err(|error| format!("the server broke the RawSocket protocol: {error}"))?;
                let received = received.map(|received| received.over_websocket(*kind));
                Ok((used, received))
            }
        }
    }

    /// Whether a message has begun and is not complete.
    pub fn is_mid_message(&self) -> bool {
        match self {
            Self::WebSocket(receiver) => receiver.is_mid_message(),
            Self::RawSocket(receiver, _) => receiver.is_mid_message(),
        }
    }

    /// Gives the buffer of a message that was handled back.
    pub fn recycle(&mut self, pool: &mut Pool) {
        match self {
            Self::WebSocket(receiver) => receiver.recycle(pool),
            Self::RawSocket(receiver, _) => receiver.recycle(),
        }
    }

    /// The first whole message in `input`: where its payload begins and ends.
    #[inline]
    pub fn whole_frame(&self, input: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::WebSocket(_) => reader::whole_frame(input),
            Self::RawSocket(..) => reader::whole_raw_frame(input),
        }
    }
}
