//! permessage-deflate (RFC 7692): messages that are compressed before they are framed.
//!
//! ```text
//! server: Upgrade::negotiate_deflate ──▶ Agreement ──▶ Receiver::use_compression, Deflater and its writers
//! client: Offer in the request ──▶ verify_response_with ──▶ Agreement ──▶ the same
//! ```
//!
//! By default each message stands for itself ("no context takeover"): then one [`Deflater`] and the [`Pool`]'s one
//! inflater serve all connections of a shard, and a connection costs nothing more than without compression. Where a side
//! takes its context over, a connection keeps a [`Context`], the last bytes of its messages, which the shared machines
//! are given as a dictionary: at most 2^window bits bytes for each direction instead of a machine of its own, which is
//! 48 KiB to inflate and up to 370 KiB to deflate.
//!
//! What is received is inflated to the message limit and one byte more at most, whatever a message claims or holds.
//!
//! [`Pool`]: super::Pool

mod agreement;
mod context;
mod deflater;
mod inflater;
mod list;
mod negotiate;
mod offer;

pub use agreement::{Agreement, Direction};
pub use context::Context;
pub use deflater::{Deflater, compress_frame, write_client_deflated_message, write_deflated_message};
pub use inflater::Inflated;
pub use negotiate::DeflatePolicy;
pub use offer::{Offer, OfferError};

pub(super) use inflater::Inflater;
pub(super) use negotiate::{Accepted, negotiate, write_answer};

/// The extension's name (RFC 7692, 7).
const NAME: &str = "permessage-deflate";

/// Smallest window that is agreed to, as a power of two. RFC 7692 knows 8 too, which zlib cannot do for raw DEFLATE.
pub const WINDOW_BITS_MIN: u8 = 9;

/// Largest window, and what holds where nothing else is said.
pub const WINDOW_BITS_MAX: u8 = 15;

/// RFC 7692, 7.2.1: a message's last bytes on their way out of the compressor are these, and are left out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
