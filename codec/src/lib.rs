//! Bytes, frames and messages: what travels, without I/O.
//!
//! ```text
//! bytes ──▶ http (request heads) ──▶ ws, rawsocket (frames) ──▶ wamp2, wamp1, message_center (messages) ──▶ router-core
//! ```
//!
//! The crate holds no socket, no clock, no randomness and no state beyond one connection's framing. Input is borrowed,
//! output is appended to a buffer of the caller, and neither allocates for complete frames (`tests/ws_alloc.rs`).
//!
//! Read first: [`ws::Receiver`], then [`http::parse_request`].

pub mod cbor;
pub mod http;
pub mod json;
pub mod malformed;
pub mod message_center;
pub mod msgpack;
pub mod payload;
pub mod rawsocket;
pub mod resp;
mod utf8;
pub mod wamp1;
pub mod wamp2;
pub mod ws;
