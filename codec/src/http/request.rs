//! Request heads.

use std::mem::MaybeUninit;

use super::scan::too_many_fields;
use super::{FIELDS_CAPACITY, Fields, HeadLimits, HttpError, tokens};

/// The versions of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no `Host` needed, closes by default, never upgraded.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What follows a head (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: the next byte belongs to the next request.
    None,
    /// This many bytes, at least 1.
    Length(u64),
    /// Chunks (RFC 9112, 7.1).
    Chunked,
}

/// A request head in which nothing is ambiguous.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method as written; methods have case.
    pub method: &'a str,
    /// The request target as written.
    pub target: &'a str,
    version: Version,
    path_and_query: &'a str,
    body: Body,
    fields: Fields<'a>,
}

impl<'a> RequestHead<'a> {
    /// The version of the request line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The path and, behind a `?`, the query, as written (percent-encoded).
    pub fn path_and_query(&self) -> &'a str {
        self.path_and_query
    }

    /// The path, as written (percent-encoded), without the query; `*` for `OPTIONS *`.
    pub fn path(&self) -> &'a str {
        self.path_and_query.split_once('?').map_or(self.path_and_query, |(path, _)| path)
    }

    /// The query, as written, without its `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.path_and_query.split_once('?').map(|(_, query)| query)
    }

    /// The first value of a field; its name is compared without case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.fields.get(name)
    }

    /// All fields.
    pub fn headers(&self) -> Fields<'a> {
        self.fields
    }

    /// The value of `Host`: given once, or never in HTTP/1.0.
    pub fn host(&self) -> Option<&'a str> {
        self.fields.get("host")
    }

    /// What follows the head.
    pub fn body(&self) -> Body {
        self.body
    }

    /// Whether the peer expects the connection to stay open (RFC 9112, 9.3).
    pub fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.fields.has_token("connection", "close"),
            Version::Http10 => self.fields.has_token("connection", "keep-alive"),
        }
    }
}

/// Reads a head that [`HeadScanner`](super::HeadScanner) has found: all of `head`, with its empty line.
///
/// Refused, because parsers differ about them: bare CR or LF, NUL and other control bytes, folded lines, blanks before
/// a colon, bytes that are not UTF-8, `Content-Length` twice or with `Transfer-Encoding`, a transfer coding other than
/// exactly `chunked`, any in HTTP/1.0, no `Host` or two in HTTP/1.1, a target that is no path.
///
/// # Errors
///
/// The status and words of the refusal. Close the connection after it: where the next request begins is unknown.
pub fn parse_request<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<RequestHead<'a>, HttpError> {
    if head.len() > limits.bytes_max {
        return Err(HttpError::new(431, format!("the request head is over {} bytes", limits.bytes_max)));
    }
    let text = check_bytes(head)?;
    // httparse skips empty lines before the request line; `HeadScanner` and `field_lines` do not.
    if !head.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(HttpError::bad_request("the head does not begin with a method"));
    }
    let mut storage = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
    let fields_max = limits.fields_max.min(FIELDS_CAPACITY);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut storage[..fields_max]) {
        Ok(httparse::Status::Complete(size)) if size == head.len() => {}
        Ok(httparse::Status::Complete(_)) => {
            return Err(HttpError::bad_request("bytes follow the empty line of the head"));
        }
        Ok(httparse::Status::Partial) => {
            return Err(HttpError::bad_request("the head has no end; finish it with an empty line"));
        }
        Err(error) => return Err(grammar_error(error, head, fields_max)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HttpError::bad_request("the request line is incomplete"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = Fields::new(field_lines(text));
    debug_assert_eq!(fields.iter().count(), parsed.headers.len());
    let host = check_host(&fields, version)?;
    let path_and_query = check_target(method, target, host)?;
    let body = check_body(&fields, version)?;
    Ok(RequestHead { method, target, version, path_and_query, body, fields })
}

/// Refuses the bytes that must not be in a head at all, and gives it as text.
pub(super) fn check_bytes(head: &[u8]) -> Result<&str, HttpError> {
    let mut previous = 0;
    for (index, &byte) in head.iter().enumerate() {
        let legal = match byte {
            b'\n' => previous == b'\r',
            b'\r' => head.get(index + 1) == Some(&b'\n'),
            b'\t' => true,
            0..=0x1F | 0x7F => false,
            _ => true,
        };
        if !legal {
            return Err(HttpError::bad_request(format!(
                "byte {byte:#04x} at {index} must not be in a head; end lines with CR LF and send no control bytes"
            )));
        }
        previous = byte;
    }
    simdutf8::basic::from_utf8(head)
        .map_err(|_| HttpError::bad_request("the head is not UTF-8; encode other bytes, as %XX in a path"))
}

/// The lines between the first line and the empty one.
pub(super) fn field_lines(text: &str) -> &str {
    let after_first = text.split_once("\r\n").map_or("", |(_, rest)| rest);
    after_first.strip_suffix("\r\n").unwrap_or(after_first)
}

#[cold]
fn grammar_error(error: httparse::Error, head: &[u8], fields_max: usize) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => too_many_fields(fields_max),
        httparse::Error::Version => {
            // Only a well-formed request line with another version is "not supported"; the rest is just broken.
            let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
            let mut words = line.split(|&byte| byte == b' ').skip(2);
            if let (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) =
                (words.next(), words.next())
                && major.is_ascii_digit()
                && minor.is_ascii_digit()
            {
                HttpError::new(505, "this HTTP version is not spoken here; use HTTP/1.1")
            } else {
                HttpError::bad_request("the request line must be: method, blank, target, blank, HTTP/1.1")
            }
        }
        httparse::Error::HeaderName => HttpError::bad_request(
            "a header name is no token; send `name: value`, with no blank before the colon and no folded lines",
        ),
        httparse::Error::HeaderValue => {
            HttpError::bad_request("a header value holds a byte that it must not")
        }
        httparse::Error::Token => {
            HttpError::bad_request("the request line must be: method, blank, target, blank, HTTP/1.1")
        }
        _ => HttpError::bad_request("lines must end with CR LF"),
    }
}

/// RFC 9112, 3.2: exactly one `Host` in HTTP/1.1.
fn check_host<'a>(fields: &Fields<'a>, version: Version) -> Result<Option<&'a str>, HttpError> {
    let host = fields.unique("host")?;
    match host {
        None if version == Version::Http11 => {
            Err(HttpError::bad_request("HTTP/1.1 needs the field Host; send it once"))
        }
        Some(host)
            if !host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&byte)) =>
        {
            Err(HttpError::bad_request("the field Host must be a name or an address, and a port"))
        }
        host => Ok(host),
    }
}

/// RFC 9112, 3.2: a path; a whole URL only if it names the same host; `*` only for OPTIONS.
fn check_target<'a>(method: &str, target: &'a str, host: Option<&str>) -> Result<&'a str, HttpError> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(HttpError::bad_request(
            "the request target must be ASCII without blanks and `#`; use %XX",
        ));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(target);
    }
    let url = ["http://", "https://", "ws://", "wss://"].iter().find_map(|scheme| {
        target.get(..scheme.len())?.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    });
    let Some(url) = url else {
        return Err(HttpError::bad_request("the request target must be a path that begins with `/`"));
    };
    let (authority, path) = url.split_at(url.find(['/', '?']).unwrap_or(url.len()));
    if !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return Err(HttpError::bad_request("the request target names another host than the field Host"));
    }
    match path {
        "" => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(HttpError::bad_request("the URL in the request line has no path before `?`; write `/?`")),
    }
}

/// RFC 9112, 6.1–6.3, without the leniency.
fn check_body(fields: &Fields<'_>, version: Version) -> Result<Body, HttpError> {
    let coding = fields.unique("transfer-encoding")?;
    let length = fields.unique("content-length")?;
    if let Some(coding) = coding {
        if length.is_some() {
            return Err(HttpError::bad_request(
                "Content-Length and Transfer-Encoding exclude each other; send one",
            ));
        }
        if version == Version::Http10 {
            return Err(HttpError::bad_request("HTTP/1.0 has no Transfer-Encoding; send Content-Length"));
        }
        if coding.eq_ignore_ascii_case("chunked") {
            return Ok(Body::Chunked);
        }
        let known = |coding: &str| {
            ["chunked", "gzip", "deflate", "compress"].contains(&&*coding.to_ascii_lowercase())
        };
        return Err(if tokens(coding).all(known) && tokens(coding).next().is_some() {
            HttpError::new(501, "the only transfer coding spoken here is chunked; send the body so, once")
        } else {
            HttpError::bad_request("Transfer-Encoding must be exactly `chunked`")
        });
    }
    match length {
        None => Ok(Body::None),
        // `parse` would also take a sign.
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            match digits.parse::<u64>() {
                Ok(0) => Ok(Body::None),
                Ok(length) if length <= i64::MAX as u64 => Ok(Body::Length(length)),
                _ => Err(HttpError::new(413, "Content-Length is larger than any body accepted here")),
            }
        }
        Some(_) => Err(HttpError::bad_request("Content-Length must be one decimal number")),
    }
}
