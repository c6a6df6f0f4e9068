//! What a TLS 1.3 connection has in common with no other one, and both of its ends know: `tls-exporter` (RFC 9266).
//!
//! rustls exports keying material of its buffered connections alone. But it tells all secrets of a handshake to a
//! [`KeyLog`], on the thread that drives it: so the exporter's secret is caught here while the handshake goes on, made into the
//! channel's id at once, and forgotten. All other secrets are not even asked for.

use std::cell::Cell;

use hmac::{Hmac, KeyInit, Mac};
use rustls::KeyLog;
use sha2::{Digest, Sha256, Sha384};

/// Told by rustls.
#[derive(Debug)]
pub(super) struct Exporters;

thread_local! {
    /// Of the handshake that this thread drives now.
    static CHANNEL: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
}

impl KeyLog for Exporters {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == EXPORTER {
            CHANNEL.set(channel(secret));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER
    }
}

/// The id of the channel whose handshake this thread has just gone on with, if its secret came by.
pub(super) fn take() -> Option<[u8; 32]> {
    CHANNEL.take()
}

/// In TLS 1.3 alone. The secret is as long as a hash of the connection's suite.
const EXPORTER: &str = "EXPORTER_SECRET";
/// RFC 9266, section 4.2.
const LABEL: &str = "EXPORTER-Channel-Binding";

/// RFC 8446, 7.5, with an empty context.
fn channel(secret: &[u8]) -> Option<[u8; 32]> {
    let hmac: fn(&[u8], &[u8]) -> Vec<u8> = match secret.len() {
        32 => |key, info| mac(Hmac::<Sha256>::new_from_slice(key).expect("any length is a key"), info),
        48 => |key, info| mac(Hmac::<Sha384>::new_from_slice(key).expect("any length is a key"), info),
        _ => return None,
    };
    let nothing = if secret.len() == 32 { Sha256::digest([]).to_vec() } else { Sha384::digest([]).to_vec() };
    let derived = hmac(secret, &label(secret.len(), LABEL, &nothing));
    hmac(&derived, &label(32, "exporter", &nothing)).get(..32)?.try_into().ok()
}

/// RFC 8446, 7.1: `HkdfLabel`, and the number of the first block, which is all that is needed (RFC 5869, 2.3).
fn label(length: usize, label: &str, context: &[u8]) -> Vec<u8> {
    let label = [b"tls13 ", label.as_bytes()].concat();
    let length = [0, length as u8];
    [&length[..], &[label.len() as u8], &label, &[context.len() as u8], context, &[1]].concat()
}

fn mac(mut mac: impl Mac, message: &[u8]) -> Vec<u8> {
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}
