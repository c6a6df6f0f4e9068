//! The client's half of the negotiation.

use std::fmt;

use thiserror::Error;

use super::negotiate::Parameters;
use super::{Agreement, Direction, NAME, WINDOW_BITS_MAX, WINDOW_BITS_MIN, list};

/// What a client offers: the value of `Sec-WebSocket-Extensions` is its `Display`.
///
/// ```
/// use fanwire_codec::ws::deflate::Offer;
///
/// let offer = Offer::default();
/// assert_eq!(
///     offer.to_string(),
///     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
/// );
/// let agreed = offer.check("permessage-deflate; server_no_context_takeover")?;
/// assert!(!agreed.server.takeover && !agreed.client.takeover);
/// assert!(offer.check("permessage-deflate").is_err());
/// # Ok::<(), fanwire_codec::ws::deflate::OfferError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The server shall begin anew with each message, so that we need not keep a window for it.
    pub server_no_context_takeover: bool,
    /// We shall begin anew with each message, whatever the server answers.
    pub client_no_context_takeover: bool,
    /// The largest window that the server may use: 9 to 15. `None`: any.
    pub server_max_window_bits: Option<u8>,
    /// Allows the server to limit our window.
    pub client_max_window_bits: bool,
}

impl Default for Offer {
    /// No takeover in either direction, no word about windows.
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: None,
            client_max_window_bits: false,
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if self.client_max_window_bits {
            f.write_str("; client_max_window_bits")?;
        }
        Ok(())
    }
}

/// The server's answer does not fit the offer (RFC 7692, 7.1): the connection must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server's Sec-WebSocket-Extensions does not answer the offer of permessage-deflate")]
pub struct OfferError;

impl Offer {
    /// Checks the server's answer, the value of its `Sec-WebSocket-Extensions`.
    ///
    /// # Errors
    ///
    /// It names something that was not offered, leaves out what was demanded, or has a window that we cannot do.
    pub fn check(&self, answer: &str) -> Result<Agreement, OfferError> {
        let extensions = list::parse(answer).map_err(|_| OfferError)?;
        let [extension] = &extensions[..] else { return Err(OfferError) };
        let answered = Parameters::read(extension).filter(|_| extension.name == NAME).ok_or(OfferError)?;
        if self.server_no_context_takeover && !answered.server_no_takeover {
            return Err(OfferError);
        }
        let server_bits = match (self.server_max_window_bits, answered.server_bits) {
            (Some(most), Some(bits)) if bits <= most => bits,
            (Some(_), _) => return Err(OfferError),
            // Whatever it says, we can inflate it.
            (None, bits) => bits.unwrap_or(WINDOW_BITS_MAX),
        };
        let client_bits = match answered.client_bits {
            None => WINDOW_BITS_MAX,
            // RFC 7692, 7.1.2.2: in an answer it has a value, and only to those who allowed it.
            Some(Some(bits)) if self.client_max_window_bits && bits >= WINDOW_BITS_MIN => bits,
            Some(_) => return Err(OfferError),
        };
        Ok(Agreement {
            server: Direction { takeover: !answered.server_no_takeover, window_bits: server_bits },
            client: Direction {
                takeover: !(answered.client_no_takeover || self.client_no_context_takeover),
                window_bits: client_bits,
            },
        })
    }
}
