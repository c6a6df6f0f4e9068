//! HTTP/1.1 heads, read strictly, and plain responses (RFC 9110, RFC 9112).
//!
//! ```text
//! bytes ──▶ HeadScanner::find_end ──▶ parse_request ──▶ RequestHead ──▶ ws::handshake::Upgrade, or a response
//! ```
//!
//! Strict means: what two parsers could read in two ways is refused (see [`parse_request`]), and after an error the
//! connection is closed. The grammar itself is `httparse`'s.
//!
//! [`RequestHead::body`] says what follows the head; reading or refusing it is the caller's part, by [`ChunkedBody`] where it
//! comes in chunks.

mod chunked;
mod error;
mod fields;
mod request;
mod response;
mod scan;

pub use chunked::{ChunkedBody, PASSED_OVER_BYTES_MAX};
pub use error::{HttpError, reason_phrase};
pub(crate) use fields::is_token;
pub use fields::{Fields, tokens};
pub use request::{Body, RequestHead, Version, parse_request};
pub(crate) use response::check_header;
pub use response::{InvalidHeader, ResponseError, ResponseHead, parse_response, write_error, write_response};
pub use scan::HeadScanner;

/// What a head may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the head with its final empty line; beyond it the answer is 431 (414 within the first line).
    /// Default 8 KiB. Worst case memory: this, for each connection that is still in its handshake.
    pub bytes_max: usize,
    /// Header fields; beyond it the answer is 431. Default 64; more than 128 are never read.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: 8 * 1024, fields_max: 64 }
    }
}

/// Room for parsed fields on the stack: 128 × 32 bytes.
pub(crate) const FIELDS_CAPACITY: usize = 128;
