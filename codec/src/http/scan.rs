//! Finding the end of a head while it trickles in, looking at each byte once.

use super::{HeadLimits, HttpError};

/// Remembers how far a head has been searched.
///
/// It also stops early: at the first byte that begins no request, at a line that ends in a bare LF, at a line or a
/// field too many. So a peer that will never send a valid head is not waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// No byte before this is looked at again.
    scanned: u32,
    /// Where the line begins that is not finished yet.
    line_start: u32,
    /// Finished lines.
    lines: u32,
}

impl HeadScanner {
    /// A scanner for a head that begins with the first byte given to [`find_end`](Self::find_end).
    pub const fn new() -> Self {
        Self { scanned: 0, line_start: 0, lines: 0 }
    }

    /// Where the head ends: the index after its empty line. `None` when it is not complete yet; call again with the
    /// same bytes and more after them.
    ///
    /// # Errors
    ///
    /// The bytes cannot become a head within `limits`: answer and close.
    pub fn find_end(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HttpError> {
        let window = &bytes[..bytes.len().min(limits.bytes_max).min(u32::MAX as usize)];
        if self.scanned == 0
            && let Some(&first) = window.first()
            && !first.is_ascii_alphabetic()
        {
            // RFC 9112, 2.2 lets a server skip empty lines before a request; what proxies skip differs, so we do not.
            return Err(HttpError::bad_request("the first byte begins no HTTP request; send a method first"));
        }
        let from = (self.scanned as usize).min(window.len());
        for feed in memchr::memchr_iter(b'\n', &window[from..]) {
            let feed = from + feed;
            let line_start = self.line_start as usize;
            // RFC 9112, 2.2 lets a recipient take a bare LF; smuggling lives on that difference.
            if feed == line_start || window[feed - 1] != b'\r' {
                return Err(HttpError::bad_request("a line ends in a bare LF; end lines with CR LF"));
            }
            self.line_start = feed as u32 + 1;
            if feed == line_start + 1 {
                return Ok(Some(feed + 1));
            }
            self.lines += 1;
            if self.lines as usize > limits.fields_max.saturating_add(1) {
                return Err(too_many_fields(limits.fields_max));
            }
        }
        self.scanned = window.len() as u32;
        if window.len() < limits.bytes_max {
            return Ok(None);
        }
        Err(if self.lines == 0 {
            HttpError::new(414, format!("the request line is over {} bytes; shorten it", limits.bytes_max))
        } else {
            HttpError::new(
                431,
                format!("the request head is over {} bytes; send fewer or shorter fields", limits.bytes_max),
            )
        })
    }
}

pub(super) fn too_many_fields(fields_max: usize) -> HttpError {
    HttpError::new(431, format!("more than {fields_max} header fields; send fewer"))
}
