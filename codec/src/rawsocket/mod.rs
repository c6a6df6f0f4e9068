//! WAMP over RawSocket (WAMP, "RawSocket Transport"), both sides, without I/O.
//!
//! ```text
//! 4 bytes ──▶ Request ──▶ Reply, 4 bytes            who speaks what, and the longest message that each side takes
//! bytes   ──▶ Receiver::receive ──▶ Received::{Message, Ping, Pong}
//! write_frame ──▶ bytes for the socket; reframe: what was written as a WebSocket frame
//! ```
//!
//! A frame is a head of 4 bytes and a payload. There are no fragments, no masks and no close frame: whoever has nothing more
//! to say ends the stream.
//!
//! Read first: [`Request`], [`Receiver`].

mod frame;
mod handshake;
mod receiver;

pub use frame::{FrameKind, HEAD_BYTES, head, length, reframe, write_frame};
pub use handshake::{HANDSHAKE_BYTES, MAGIC, MaxLength, Refusal, Reply, Request};
pub use receiver::{ProtocolError, Received, Receiver};
