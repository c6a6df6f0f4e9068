//! The opening handshake (RFC 6455, 4): an HTTP request that becomes a WebSocket connection.
//!
//! ```text
//! server: parse_request ──▶ Upgrade::from_request ──▶ write_accept
//! client: write_request ──▶ (response head) ──▶ verify_response, verify_response_with
//! ```
//!
//! Whether an origin is welcome and which subprotocol is chosen is decided by the caller.

mod client;
mod server;

pub use client::{HandshakeError, Opened, verify_response, verify_response_with, write_request};
pub use server::{SUBPROTOCOLS_BYTES_MAX, SUBPROTOCOLS_MAX, Upgrade, write_accept, write_accept_with};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// RFC 6455, 1.3: what only a WebSocket server appends to the key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Accept` for the text of a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize())
}
