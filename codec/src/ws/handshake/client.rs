//! The client's half.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use thiserror::Error;

use super::super::deflate::{Agreement, Offer};
use super::accept_key;
use crate::http::{Fields, InvalidHeader, ResponseError, check_header, is_token, parse_response};

/// Appends the request that asks for a WebSocket. Take `key` from a strong random source (RFC 6455, 4.1).
///
/// # Errors
///
/// The host, the path, a subprotocol or a header of `extra` would break the head; `out` is unchanged then.
pub fn write_request(
    out: &mut BytesMut,
    host: &str,
    path: &str,
    subprotocols: &[&str],
    key: [u8; 16],
    extra: &[(&str, &str)],
) -> Result<(), InvalidHeader> {
    let invalid = |name: &str| InvalidHeader { name: name.to_owned() };
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("Host"));
    }
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("request target"));
    }
    if !subprotocols.iter().all(|subprotocol| is_token(subprotocol)) {
        return Err(invalid("Sec-WebSocket-Protocol"));
    }
    for (name, value) in extra {
        check_header(name, value)?;
    }
    write!(
        out,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
        STANDARD.encode(key)
    )
    .expect("BytesMut grows");
    for (index, subprotocol) in subprotocols.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"Sec-WebSocket-Protocol: " } else { b", " });
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if !subprotocols.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in extra {
        write!(out, "{name}: {value}\r\n").expect("BytesMut grows");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Why a server's answer opens no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The answer is no HTTP response.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The server refused; the response's body may say why.
    #[error("the server answered {status} {reason} instead of 101")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its phrase.
        reason: String,
    },
    /// A field of the 101 is missing, given twice or wrong (RFC 6455, 4.1).
    #[error("the server's 101 has a wrong or missing {name}")]
    Field {
        /// The field's name.
        name: &'static str,
    },
}

/// What the server chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// One of the subprotocols offered.
    pub subprotocol: Option<&'a str>,
    /// What it made of the offer of permessage-deflate; for [`Receiver::use_compression`] and
    /// [`write_client_deflated_message`].
    ///
    /// [`Receiver::use_compression`]: super::super::Receiver::use_compression
    /// [`write_client_deflated_message`]: super::super::deflate::write_client_deflated_message
    pub deflate: Option<Agreement>,
}

/// Checks the server's answer, all of `head` with its empty line, against the key and the subprotocols of the
/// request (RFC 6455, 4.1). Gives the subprotocol that the server chose. No extension was offered.
///
/// # Errors
///
/// The connection is no WebSocket: close it.
pub fn verify_response<'a>(
    head: &'a [u8],
    key: &[u8; 16],
    offered: &[&str],
) -> Result<Option<&'a str>, HandshakeError> {
    verify_response_with(head, key, offered, None).map(|opened| opened.subprotocol)
}

/// As [`verify_response`], for a request whose field `Sec-WebSocket-Extensions` was `deflate`.
///
/// # Errors
///
/// The connection is no WebSocket, or the server uses an extension that was not offered so: close it.
pub fn verify_response_with<'a>(
    head: &'a [u8],
    key: &[u8; 16],
    offered: &[&str],
    deflate: Option<&Offer>,
) -> Result<Opened<'a>, HandshakeError> {
    let response = parse_response(head)?;
    if response.status != 101 {
        return Err(HandshakeError::Refused { status: response.status, reason: response.reason.to_owned() });
    }
    let fields = response.headers();
    if !unique(&fields, "Upgrade")?.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(HandshakeError::Field { name: "Upgrade" });
    }
    if !fields.has_token("connection", "upgrade") {
        return Err(HandshakeError::Field { name: "Connection" });
    }
    if unique(&fields, "Sec-WebSocket-Accept")? != Some(&*accept_key(&STANDARD.encode(key))) {
        return Err(HandshakeError::Field { name: "Sec-WebSocket-Accept" });
    }
    let deflate = match unique(&fields, EXTENSIONS)? {
        None => None,
        // What was not offered must not be in use.
        Some(answer) => {
            let wrong = HandshakeError::Field { name: EXTENSIONS };
            Some(deflate.and_then(|offer| offer.check(answer).ok()).ok_or(wrong)?)
        }
    };
    let subprotocol = unique(&fields, "Sec-WebSocket-Protocol")?;
    if subprotocol.is_some_and(|chosen| !offered.contains(&chosen)) {
        return Err(HandshakeError::Field { name: "Sec-WebSocket-Protocol" });
    }
    Ok(Opened { subprotocol, deflate })
}

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

fn unique<'a>(fields: &Fields<'a>, name: &'static str) -> Result<Option<&'a str>, HandshakeError> {
    fields.unique(name).map_err(|_| HandshakeError::Field { name })
}
