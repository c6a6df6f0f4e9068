//! Frame headers (RFC 6455, 5.2): 2 bytes, then the longer length, then the mask key.
//!
//! ```text
//! FIN RSV1-3 opcode │ MASK length7 │ [u16 | u64 length] │ [key]
//! ```
//!
//! Everything that a header can say wrong is found here, in the order of the bytes, so that the same bytes give the
//! same error however they are cut.

use std::ops::Range;

use super::{Kind, ProtocolError, Role};

/// Bytes of a header at most: 2, a 64-bit length, a mask key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The first reserved bit of the first byte.
pub(super) const RSV1: u8 = 0x40;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A later fragment of the open message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The close handshake.
    Close = 0x8,
    /// A ping.
    Ping = 0x9,
    /// A pong.
    Pong = 0xA,
}

impl Opcode {
    /// Close, ping or pong: never fragmented, at most 125 bytes, allowed between the fragments of a message.
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    #[inline]
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

impl From<Kind> for Opcode {
    #[inline]
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

/// The bytes of one header without a mask key, ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; 10],
    size: u8,
}

impl FrameHeader {
    /// The header's bytes: 2, 4 or 10.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}

/// The header of a frame that is a whole message (FIN set) and not masked.
///
/// # Panics
///
/// When `length` has its top bit set, or is over 125 for a control frame.
#[inline]
pub fn header(opcode: Opcode, length: u64) -> FrameHeader {
    assert!(length <= if opcode.is_control() { 125 } else { i64::MAX as u64 }, "no frame has this length");
    let mut bytes = [0; 10];
    bytes[0] = 0x80 | opcode as u8;
    // RFC 6455, 5.2: the length is written in the fewest bytes.
    let size = match length {
        0..=125 => {
            bytes[1] = length as u8;
            2
        }
        126..=0xFFFF => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&length.to_be_bytes());
            10
        }
    };
    FrameHeader { bytes, size }
}

/// A header as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub opcode: Opcode,
    pub fin: bool,
    /// RSV1: the message that begins here is compressed (RFC 7692, 6).
    pub compressed: bool,
    /// Length of the payload as declared: not to be trusted for a reservation.
    pub length: u64,
    /// Zero where the frame is not masked.
    pub key: [u8; 4],
    /// Bytes of the header itself.
    pub size: usize,
}

/// What decides which headers are legal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Ours.
    pub role: Role,
    /// A message is unfinished.
    pub mid_message: bool,
    /// Compression was negotiated.
    pub rsv1: bool,
}

/// Reads the header of a whole, masked, not compressed message, if it is at the front of at least [`HEADER_BYTES_MAX`] bytes
/// and sound; for all else there is [`parse`], which reads it alike.
#[inline(always)]
pub(super) fn parse_usual(bytes: &[u8]) -> Option<Parsed> {
    let bytes = bytes.first_chunk::<HEADER_BYTES_MAX>()?;
    let opcode = match bytes[0] {
        0x81 => Opcode::Text,
        0x82 => Opcode::Binary,
        _ => return None,
    };
    let [_, _, a, b, c, d, e, f, g, h, ..] = *bytes;
    let (length, key, size) = match bytes[1] {
        second @ 0x80..=0xFD => (u64::from(second & 0x7F), [a, b, c, d], 6),
        0xFE => {
            let length = u16::from_be_bytes([a, b]).into();
            (if length < 126 { return None } else { length }, [c, d, e, f], 8)
        }
        0xFF => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            if length <= 0xFFFF || length >> 63 != 0 {
                return None;
            }
            let [.., w, x, y, z] = *bytes;
            (length, [w, x, y, z], 14)
        }
        _ => return None,
    };
    Some(Parsed { opcode, fin: true, compressed: false, length, key, size })
}

/// Reads the header at the front of `bytes`; `None` when it is cut.
#[inline]
pub(super) fn parse(bytes: &[u8], expected: Expected) -> Result<Option<Parsed>, ProtocolError> {
    let Expected { role, mid_message, rsv1 } = expected;
    let Some(&first) = bytes.first() else { return Ok(None) };
    let reserved = first & 0x70;
    if reserved != 0 && (reserved != RSV1 || !rsv1) {
        return Err(ProtocolError::ReservedBits { bits: first >> 4 & 0x7 });
    }
    let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
        return Err(ProtocolError::ReservedOpcode { opcode: first & 0x0F });
    };
    let fin = first & 0x80 != 0;
    if opcode.is_control() {
        // RFC 6455, 5.5: control frames are never fragmented.
        if !fin {
            return Err(ProtocolError::FragmentedControl);
        }
    } else if (opcode == Opcode::Continuation) != mid_message {
        // RFC 6455, 5.4: fragments of different messages are not interleaved.
        return Err(match opcode {
            Opcode::Continuation => ProtocolError::UnexpectedContinuation,
            _ => ProtocolError::UnfinishedMessage,
        });
    }
    let compressed = reserved != 0;
    if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(ProtocolError::MisplacedRsv1);
    }

    let Some(&second) = bytes.get(1) else { return Ok(None) };
    let masked = second & 0x80 != 0;
    if masked != (role == Role::Server) {
        return Err(if masked { ProtocolError::Masked } else { ProtocolError::NotMasked });
    }
    let length7 = second & 0x7F;
    if opcode.is_control() && length7 > 125 {
        return Err(ProtocolError::ControlTooLong);
    }
    let (length, at) = match length7 {
        126 => {
            let Some(&wide) = bytes.get(2..).and_then(|rest| rest.first_chunk::<2>()) else {
                return Ok(None);
            };
            let length = u64::from(u16::from_be_bytes(wide));
            if length < 126 {
                return Err(ProtocolError::LengthNotMinimal { length });
            }
            (length, 4)
        }
        127 => {
            let Some(&wide) = bytes.get(2..).and_then(|rest| rest.first_chunk::<8>()) else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(wide);
            if length >> 63 != 0 {
                return Err(ProtocolError::LengthOutOfRange);
            }
            if length <= 0xFFFF {
                return Err(ProtocolError::LengthNotMinimal { length });
            }
            (length, 10)
        }
        short => (u64::from(short), 2),
    };
    let (key, size) = if masked {
        let Some(&key) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        (key, at + 4)
    } else {
        ([0; 4], at)
    };
    Ok(Some(Parsed { opcode, fin, compressed, length, key, size }))
}

/// What the server's whole frame at the front of `bytes`, which nothing follows, is, and where its payload lies; `None`: it is
/// none, or compressed.
pub fn server_frame(bytes: &[u8]) -> Option<(Opcode, Range<usize>)> {
    let expected = Expected { role: Role::Client, mid_message: false, rsv1: false };
    let parsed = parse(bytes, expected).ok().flatten()?;
    let is_whole = parsed.fin && (bytes.len() - parsed.size) as u64 == parsed.length;
    is_whole.then_some((parsed.opcode, parsed.size..bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every two first bytes, and each border of the longer lengths behind them.
    #[test]
    fn usual_headers_read_as_all_headers() {
        let expected = Expected { role: Role::Server, mid_message: false, rsv1: true };
        let lengths =
            [0, 1, 125, 126, 0xFFFF, 0x1_0000, (1 << 63) - 1, 1 << 63, u64::MAX].map(u64::to_be_bytes);
        let mut usual = 0;
        for (first, second) in (0..=255).flat_map(|first| (0..=255).map(move |second| (first, second))) {
            for length in &lengths {
                for longer in [&length[6..], &length[..]] {
                    let bytes = [&[first, second], longer, b"keys and more bytes"].concat();
                    if let Some(parsed) = parse_usual(&bytes) {
                        assert_eq!(parse(&bytes, expected), Ok(Some(parsed)), "{bytes:02x?}");
                        usual += 1;
                    }
                    assert_eq!(parse_usual(&bytes[..HEADER_BYTES_MAX - 1]), None);
                }
            }
        }
        // Both opcodes with 126 short lengths, three of two bytes, two of eight and what their bytes mean as the others.
        assert!(usual > 2 * 126 * lengths.len(), "{usual}");
    }
}
