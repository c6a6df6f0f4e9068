//! The server's half.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;

use super::super::deflate::{self, Accepted, Agreement, DeflatePolicy};
use super::accept_key;
use crate::http::{Body, Fields, HttpError, RequestHead, Version, is_token, tokens};

/// Subprotocols that a client may offer. Known clients offer up to 6.
pub const SUBPROTOCOLS_MAX: usize = 16;

/// Bytes of all `Sec-WebSocket-Protocol` values together.
pub const SUBPROTOCOLS_BYTES_MAX: usize = 1024;

/// A request that asks for a WebSocket in the way RFC 6455, 4.2.1 wants it.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    target: &'a str,
    key: &'a str,
    origin: Option<&'a str>,
    offers: [&'a str; SUBPROTOCOLS_MAX],
    offer_count: u8,
    fields: Fields<'a>,
    deflate: Option<Accepted>,
}

impl<'a> Upgrade<'a> {
    /// Checks everything that RFC 6455, 4.2.1 asks of the request.
    ///
    /// # Errors
    ///
    /// 405 for another method than GET, 505 for HTTP/1.0, 426 where no WebSocket or another version of it is asked
    /// for, else 400.
    pub fn from_request(request: &RequestHead<'a>) -> Result<Self, HttpError> {
        let fields = request.headers();
        if request.method != "GET" {
            return Err(HttpError::new(405, "a WebSocket begins with GET").with_headers(&[("Allow", "GET")]));
        }
        if request.version() != Version::Http11 {
            return Err(HttpError::new(505, "a WebSocket begins with HTTP/1.1"));
        }
        // A proxy that forwards the body before it saw the 101 would let it pass as frames, or frames as a request.
        if request.body() != Body::None {
            return Err(HttpError::bad_request("a WebSocket request has no body; leave it out"));
        }
        if !fields.has_token("upgrade", "websocket") {
            return Err(HttpError::new(
                426,
                "this is a WebSocket endpoint; connect with a WebSocket client (ws://)",
            )
            .with_headers(&[("Upgrade", "websocket"), ("Connection", "Upgrade")]));
        }
        if !fields.has_token("connection", "upgrade") {
            return Err(HttpError::bad_request(
                "the field Connection lacks `Upgrade`; a proxy in between must pass it on",
            ));
        }
        // RFC 6455, 4.4: the answer to another version names ours.
        if fields.unique("sec-websocket-version")? != Some("13") {
            return Err(HttpError::new(
                426,
                "only WebSocket version 13 is spoken here; send Sec-WebSocket-Version: 13",
            )
            .with_headers(&[("Sec-WebSocket-Version", "13")]));
        }
        let key = fields.unique("sec-websocket-key")?.unwrap_or("");
        if !is_key(key) {
            return Err(HttpError::bad_request("Sec-WebSocket-Key must be 16 bytes in base64, sent once"));
        }
        let origin = fields.unique("origin")?;
        let target = request.path_and_query();
        let offers = [""; SUBPROTOCOLS_MAX];
        let mut upgrade = Self { target, key, origin, offers, offer_count: 0, fields, deflate: None };
        let mut bytes = 0;
        for list in fields.all("sec-websocket-protocol") {
            bytes += list.len();
            if bytes > SUBPROTOCOLS_BYTES_MAX {
                return Err(HttpError::bad_request(format!(
                    "Sec-WebSocket-Protocol is over {SUBPROTOCOLS_BYTES_MAX} bytes; offer fewer subprotocols"
                )));
            }
            for offer in tokens(list) {
                upgrade.add_offer(offer)?;
            }
        }
        Ok(upgrade)
    }

    fn add_offer(&mut self, offer: &'a str) -> Result<(), HttpError> {
        if !is_token(offer) {
            return Err(HttpError::bad_request("Sec-WebSocket-Protocol must be a list of tokens"));
        }
        // RFC 6455, 4.1: each one once.
        if self.subprotocols().any(|earlier| earlier == offer) {
            return Err(HttpError::bad_request("Sec-WebSocket-Protocol offers a subprotocol twice"));
        }
        let Some(slot) = self.offers.get_mut(usize::from(self.offer_count)) else {
            return Err(HttpError::bad_request(format!(
                "more than {SUBPROTOCOLS_MAX} subprotocols are offered"
            )));
        };
        *slot = offer;
        self.offer_count += 1;
        Ok(())
    }

    /// The path and, behind a `?`, the query, as written (percent-encoded).
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The text of `Sec-WebSocket-Key`.
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// What the client offers, in its order of preference.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> + use<'a, '_> {
        self.offers[..usize::from(self.offer_count)].iter().copied()
    }

    /// The value of `Origin`: browsers always send it, and only they cannot lie about it.
    pub fn origin(&self) -> Option<&'a str> {
        self.origin
    }

    /// All fields of the request.
    pub fn fields(&self) -> &Fields<'a> {
        &self.fields
    }

    /// The values of `Sec-WebSocket-Extensions`, unread.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields.all("sec-websocket-extensions")
    }

    /// Agrees to the client's first acceptable offer of permessage-deflate, if it has one; [`write_accept`] says so. Not
    /// called, no extension is used.
    ///
    /// # Errors
    ///
    /// 400 when the field does not follow its grammar (RFC 6455, 9.1).
    pub fn negotiate_deflate(&mut self, policy: &DeflatePolicy) -> Result<Option<Agreement>, HttpError> {
        self.deflate = deflate::negotiate(self.extensions(), policy).map_err(|_| {
            HttpError::bad_request(
                "Sec-WebSocket-Extensions must be a list like: permessage-deflate; name=value",
            )
        })?;
        Ok(self.deflate_agreement())
    }

    /// What [`negotiate_deflate`](Self::negotiate_deflate) agreed to.
    pub fn deflate_agreement(&self) -> Option<Agreement> {
        self.deflate.map(|accepted| accepted.agreement)
    }
}

/// RFC 6455, 4.2.1: base64 of 16 bytes.
fn is_key(key: &str) -> bool {
    let mut nonce = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut nonce).is_ok_and(|size| size == 16)
}

/// Appends the 101 response. Where nothing was agreed no extension is named (an empty field confuses browsers).
///
/// # Panics
///
/// When `subprotocol` is none of those offered (RFC 6455, 4.2.2 forbids it).
pub fn write_accept(out: &mut BytesMut, upgrade: &Upgrade<'_>, subprotocol: Option<&str>) {
    write_accept_with(out, upgrade, subprotocol, None);
}

/// The same, setting a cookie: `cookie` is the value of `Set-Cookie` (RFC 6265, 4.1), of visible ASCII and spaces.
///
/// # Panics
///
/// As [`write_accept`].
pub fn write_accept_with(
    out: &mut BytesMut,
    upgrade: &Upgrade<'_>,
    subprotocol: Option<&str>,
    cookie: Option<&str>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    write!(out, "Sec-WebSocket-Accept: {}\r\n", accept_key(upgrade.key)).expect("BytesMut grows");
    if let Some(subprotocol) = subprotocol {
        assert!(
            upgrade.subprotocols().any(|offer| offer == subprotocol),
            "a subprotocol that was not offered"
        );
        write!(out, "Sec-WebSocket-Protocol: {subprotocol}\r\n").expect("BytesMut grows");
    }
    if let Some(accepted) = &upgrade.deflate {
        out.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        deflate::write_answer(out, accepted);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(cookie) = cookie {
        debug_assert!(cookie.bytes().all(|byte| matches!(byte, b' '..=b'~')), "it ends a line");
        write!(out, "Set-Cookie: {cookie}\r\n").expect("BytesMut grows");
    }
    out.extend_from_slice(b"\r\n");
}
