//! Close codes and the body of a close frame (RFC 6455, 5.5.1 and 7.4).

use super::{CONTROL_BYTES_MAX, ProtocolError};

/// Bytes of a close reason at most: a control frame less the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Whether `code` may stand in a close frame.
///
/// RFC 6455, 7.4.1 and 7.4.2, with the codes registered since (1012–1014). 1004 is reserved; 1005, 1006 and 1015 are
/// names for what an API reports and never cross the wire.
#[inline]
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the unmasked body of a close frame.
pub(super) fn parse(body: &[u8]) -> Result<Option<(u16, &str)>, ProtocolError> {
    match *body {
        [] => Ok(None),
        [_] => Err(ProtocolError::CloseBodyOfOneByte),
        [high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            if !is_close_code(code) {
                return Err(ProtocolError::InvalidCloseCode { code });
            }
            // RFC 6455, 5.5.1: the reason is UTF-8, though no human need read it.
            let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidCloseReason)?;
            Ok(Some((code, reason)))
        }
    }
}
