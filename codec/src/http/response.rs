//! Responses: written by the server side, read by the client side.

use std::fmt::Write as _;
use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::request::{check_bytes, field_lines};
use super::{FIELDS_CAPACITY, Fields, HttpError, is_token, reason_phrase};

/// A header that would break the head it is written into. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "header {name:?} cannot be written: names are tokens, values hold no CR, LF, NUL or other control bytes"
)]
pub struct InvalidHeader {
    /// The name that was given.
    pub name: String,
}

/// Appends a whole response: status line, the given fields, `Content-Length`, `Connection: close` if asked, body.
///
/// # Errors
///
/// A header would break the head (response splitting); `out` is unchanged then.
pub fn write_response(
    out: &mut BytesMut,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    close: bool,
) -> Result<(), InvalidHeader> {
    for (name, value) in headers {
        check_header(name, value)?;
    }
    write_status_line(out, status);
    write_fields(out, headers);
    // RFC 9110, 8.6: no Content-Length in 1xx and 204.
    if status >= 200 && status != 204 {
        write!(out, "Content-Length: {}\r\n", body.len()).expect("BytesMut grows");
    }
    if close {
        out.put_slice(b"Connection: close\r\n");
    }
    out.put_slice(b"\r\n");
    out.put_slice(body);
    Ok(())
}

/// Appends the response for a refusal: its words as plain text, and `Connection: close`.
pub fn write_error(out: &mut BytesMut, error: &HttpError) {
    let (status, phrase) = (error.status(), reason_phrase(error.status()));
    let body = format!("{status} {phrase}: {error}.\n");
    write_status_line(out, status);
    write_fields(out, error.headers());
    write_fields(
        out,
        &[("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")],
    );
    write!(out, "Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).expect("BytesMut grows");
}

fn write_status_line(out: &mut BytesMut, status: u16) {
    write!(out, "HTTP/1.1 {status:03} {}\r\n", reason_phrase(status)).expect("BytesMut grows");
}

fn write_fields(out: &mut BytesMut, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n").expect("BytesMut grows");
    }
}

/// RFC 9110, 5.1 and 5.5: what may be written into a head.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), InvalidHeader> {
    let legal = |byte: u8| byte == b'\t' || (byte >= 0x20 && byte != 0x7F);
    if is_token(name) && value.bytes().all(legal) {
        Ok(())
    } else {
        Err(InvalidHeader { name: name.to_owned() })
    }
}

/// Why a server's response head cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the response head is broken: {words}")]
pub struct ResponseError {
    words: String,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status, 100–999.
    pub status: u16,
    /// The phrase after it, for people.
    pub reason: &'a str,
    fields: Fields<'a>,
}

impl<'a> ResponseHead<'a> {
    /// The first value of a field; its name is compared without case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.fields.get(name)
    }

    /// All fields.
    pub fn headers(&self) -> Fields<'a> {
        self.fields
    }
}

/// Reads a response head, all of `head`, with its empty line. As strict about bytes and lines as
/// [`parse_request`](super::parse_request).
///
/// # Errors
///
/// The bytes are no HTTP/1 response head.
pub fn parse_response(head: &[u8]) -> Result<ResponseHead<'_>, ResponseError> {
    let broken = |words: &str| ResponseError { words: words.to_owned() };
    let text = check_bytes(head).map_err(|error| ResponseError { words: error.to_string() })?;
    // httparse skips empty lines before the status line; `field_lines` does not.
    if !head.starts_with(b"HTTP/1.") {
        return Err(broken("it does not begin with HTTP/1"));
    }
    let mut storage = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
    let mut parsed = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        &mut storage,
    ) {
        Ok(httparse::Status::Complete(size)) if size == head.len() => {}
        Ok(_) => return Err(broken("it does not end with its empty line")),
        Err(error) => return Err(broken(&error.to_string())),
    }
    match (parsed.code, parsed.reason) {
        (Some(status @ 100..), reason) => {
            Ok(ResponseHead { status, reason: reason.unwrap_or(""), fields: Fields::new(field_lines(text)) })
        }
        _ => Err(broken("it has no status")),
    }
}
