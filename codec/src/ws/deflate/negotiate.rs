//! The server's half of the negotiation (RFC 7692, 5 and 7.1).

use std::fmt::Write as _;

use bytes::BytesMut;

use super::list::{self, Extension, Malformed};
use super::{Agreement, Direction, NAME, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// What a server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// Whether a message may refer to earlier ones, where the client agrees. False: both sides are told to begin anew
    /// with each message, and all connections share one compressor and one inflater.
    pub takeover: bool,
    /// The window of what we compress and, with takeover, of what the client compresses: 9 to 15. What a connection
    /// keeps with takeover is twice this many bytes at most, or 32 KiB more for a client that does not let us limit it.
    pub window_bits: u8,
}

impl Default for DeflatePolicy {
    /// No takeover, the largest window.
    fn default() -> Self {
        Self { takeover: false, window_bits: WINDOW_BITS_MAX }
    }
}

/// An agreement with what its answer has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Accepted {
    pub(in super::super) agreement: Agreement,
    names_server_bits: bool,
    names_client_bits: bool,
}

/// The first offer of all `fields` that is acceptable (RFC 7692, 5: the client lists what it prefers first).
pub(in super::super) fn negotiate<'a>(
    fields: impl Iterator<Item = &'a str>,
    policy: &DeflatePolicy,
) -> Result<Option<Accepted>, Malformed> {
    debug_assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&policy.window_bits));
    let mut accepted = None;
    for field in fields {
        // All of them are read: what is malformed fails the handshake, wherever it stands (RFC 6455, 9.1).
        for extension in list::parse(field)? {
            if accepted.is_none() && extension.name == NAME {
                accepted = Parameters::read(&extension).and_then(|offered| offered.accept(policy));
            }
        }
    }
    Ok(accepted)
}

/// Appends the value of the response's field: nothing in it that the offer does not allow.
pub(in super::super) fn write_answer(out: &mut BytesMut, accepted: &Accepted) {
    out.extend_from_slice(NAME.as_bytes());
    let Agreement { server, client } = accepted.agreement;
    // RFC 7692, 7.1.1: these two may be answered unasked.
    if !server.takeover {
        out.extend_from_slice(b"; server_no_context_takeover");
    }
    if !client.takeover {
        out.extend_from_slice(b"; client_no_context_takeover");
    }
    if accepted.names_server_bits {
        write!(out, "; server_max_window_bits={}", server.window_bits).expect("BytesMut grows");
    }
    if accepted.names_client_bits {
        write!(out, "; client_max_window_bits={}", client.window_bits).expect("BytesMut grows");
    }
}

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) server_no_takeover: bool,
    pub(super) client_no_takeover: bool,
    pub(super) server_bits: Option<u8>,
    /// `Some(None)`: named without a value.
    pub(super) client_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` where the offer must be declined: a parameter is unknown, given twice or has a wrong value (RFC 7692, 7.1).
    pub(super) fn read(extension: &Extension<'_>) -> Option<Self> {
        let mut read = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let first = match *name {
                "server_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut read.server_no_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut read.client_no_takeover, true)
                }
                "server_max_window_bits" => read.server_bits.replace(window_bits(value?)?).is_none(),
                "client_max_window_bits" => {
                    let bits = match value {
                        Some(value) => Some(window_bits(value)?),
                        None => None,
                    };
                    read.client_bits.replace(bits).is_none()
                }
                _ => return None,
            };
            if !first {
                return None;
            }
        }
        Some(read)
    }

    /// Our answer to this offer; `None` declines it.
    fn accept(self, policy: &DeflatePolicy) -> Option<Accepted> {
        // zlib cannot compress raw DEFLATE with a window of 2^8.
        let server_bits = match self.server_bits {
            Some(bits) if bits < WINDOW_BITS_MIN => return None,
            // Whoever wants a smaller window than ours gets the smallest, so that two compressors serve everybody.
            Some(bits) if bits < policy.window_bits => WINDOW_BITS_MIN,
            _ => policy.window_bits,
        };
        let client_takeover = policy.takeover && !self.client_no_takeover;
        let offered = self.client_bits.map(|bits| bits.unwrap_or(WINDOW_BITS_MAX));
        // A limit is worth asking for only where we keep the window, and must not be answered unasked (7.1.2.2).
        let limited = offered.is_some_and(|bits| client_takeover && bits > policy.window_bits);
        let client_bits = if limited { policy.window_bits } else { offered.unwrap_or(WINDOW_BITS_MAX) };
        Some(Accepted {
            agreement: Agreement {
                server: Direction {
                    takeover: policy.takeover && !self.server_no_takeover,
                    window_bits: server_bits,
                },
                client: Direction { takeover: client_takeover, window_bits: client_bits },
            },
            names_server_bits: self.server_bits.is_some(),
            names_client_bits: limited,
        })
    }
}

/// RFC 7692, 7.1.2: a decimal number from 8 to 15 without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    value.parse().ok().filter(|bits: &u8| (8..=WINDOW_BITS_MAX).contains(bits) && bits.to_string() == value)
}
