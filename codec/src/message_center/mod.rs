//! The message center: JSON requests of a client, and what it is told.
//!
//! | from the client | answer |
//! |---|---|
//! | `{"op":"auth","token":"…"}` | `{"result":true}` or an error |
//! | `{"op":"subscribe","channel":"…"}` | `{"result":true}` or an error |
//! | `{"op":"unsubscribe","channel":"…"}` | `{"result":true}` or an error |
//! | anything else | an error: `{"code":1,"msg":"Not Auth"}` |
//!
//! An event is `{"event":"…","data":…}`: the channel in the words of the client's own subscription, and the published value
//! byte for byte. Each is one WebSocket text message. Answers name no request: they come in the order of the requests.
//!
//! Fields may stand in any order, others beside them are ignored. A known field that stands there twice makes the message
//! invalid, since two readers could take two different ones.
//!
//! What a channel means, and who may have it, is not decided here. Read [`Op`] and [`decode`] first.

mod context;
mod decode;
mod encode;
mod error;

/// A longer token is nobody's: it waits in memory until somebody has decided on it.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;

/// What a message with such a token needs: each character of it may have an escape, and there are fields around it.
pub const AUTH_BYTES_MAX: usize = 2 * TOKEN_BYTES_MAX + (1 << 10);

pub use context::scalars;
pub use decode::{Op, decode, is_op, op};
pub use encode::{encode_done, encode_error, encode_event};
pub use error::ErrorCode;
