//! WebSocket framing (RFC 6455), both sides, without I/O.
//!
//! ```text
//! bytes from the socket ──▶ Receiver::receive ──▶ Received::{Message, Ping, Pong, Close}
//! write_message / begin_frame … end_frame / write_control / write_close ──▶ bytes for the socket
//! ```
//!
//! A [`Receiver`] is all that one connection keeps of its input: 40 bytes while nothing is incomplete. A frame that
//! lies whole in the caller's buffer is unmasked, checked and handed out there; only what is cut by the end of the
//! buffer or by fragmentation is copied, into a buffer of the shard's [`Pool`]. The rest of a large frame is read from the
//! socket straight into that buffer ([`DirectRoom`]).
//!
//! What this module does not do: it owns no socket, no timer and no policy. When to ping, how long a message or a
//! close handshake may take and what a message means belongs to its callers. The one extension is [`deflate`]; where it
//! is not negotiated each reserved bit is refused.
//!
//! Read first: [`Receiver`], [`Received`], then [`handshake`].

mod close;
pub mod deflate;
mod error;
pub mod handshake;
mod header;
pub mod mask;
mod partial;
mod pool;
mod receiver;
mod url;
mod utf8;
mod write;

pub use close::{CLOSE_REASON_BYTES_MAX, is_close_code};
pub use error::ProtocolError;
pub use header::{FrameHeader, HEADER_BYTES_MAX, Opcode, header, server_frame};
pub use partial::DirectRoom;
pub use pool::Pool;
pub use receiver::{Limits, Received, Receiver};
pub use url::{Place, Url, UrlError};
pub use write::{
    FrameStart, begin_frame, end_frame, write_client_close, write_client_control, write_client_message,
    write_close, write_close_reply, write_control, write_message,
};

/// Which side of the connection this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We accepted the connection: the peer's frames must be masked, ours never are (RFC 6455, 5.1).
    Server,
    /// We opened the connection: the peer's frames must not be masked, ours always are.
    Client,
}

/// What a data message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text. A received payload of this kind has been checked: it is UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// The control frames that a caller writes by itself; closing has functions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// Asks the peer for a pong.
    Ping,
    /// Answers a ping with the ping's payload, or is a heartbeat of one direction.
    Pong,
}

/// Payload of a control frame at most (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
