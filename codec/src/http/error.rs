//! Why a request is refused: a status, and words for the person who sent it.

use std::borrow::Cow;
use std::fmt;

/// A refusal with its HTTP status. `Display` gives the words: what is wrong and what to do.
///
/// Write it with [`write_error`](super::write_error), then close the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    status: u16,
    words: Cow<'static, str>,
    headers: &'static [(&'static str, &'static str)],
}

impl HttpError {
    /// A refusal with `status` (400–599) and words that end without a full stop.
    pub fn new(status: u16, words: impl Into<Cow<'static, str>>) -> Self {
        debug_assert!((400..=599).contains(&status));
        Self { status, words: words.into(), headers: &[] }
    }

    /// With header fields that the status asks for, such as `Allow` with 405.
    #[must_use]
    pub fn with_headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    /// The status of the response.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Header fields that belong to the response.
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        self.headers
    }

    pub(crate) fn bad_request(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, words)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for HttpError {}

/// The phrase of a status line (RFC 9110, 15); empty where we have none, as RFC 9112, 4 allows.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
