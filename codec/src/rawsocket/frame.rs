//! Frames: a head of 4 bytes, then the payload.
//!
//! ```text
//! RRRR XTTT │ length, 24 bits     X: the length's 25th bit, for exactly 2^24; R: reserved, 0
//! ```

use bytes::{BufMut, BytesMut};

use super::MaxLength;
use crate::ws::{Opcode, server_frame};

/// Bytes before each payload.
pub const HEAD_BYTES: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// A WAMP message.
    Message = 0,
    /// To be answered at once by a pong with the same payload.
    Ping = 1,
    /// The answer.
    Pong = 2,
}

impl FrameKind {
    pub(super) fn from_bits(bits: u8) -> Option<Self> {
        [Self::Message, Self::Ping, Self::Pong].into_iter().find(|kind| *kind as u8 == bits)
    }
}

/// The head of a frame.
///
/// # Panics
///
/// When `length` is over 2^24: no frame has it.
#[inline]
pub fn head(kind: FrameKind, length: usize) -> [u8; HEAD_BYTES] {
    assert!(length <= MaxLength::MOST.bytes(), "no frame has {length} bytes");
    // The 25th bit is where X stands.
    ((kind as u32) << 24 | (length as u32 & 0x00FF_FFFF) | ((length as u32 >> 24) << 27)).to_be_bytes()
}

/// How long the payload is behind a head that [`head`] made.
pub fn length(head: [u8; HEAD_BYTES]) -> usize {
    let word = u32::from_be_bytes(head);
    ((word >> 27 & 1) << 24 | (word & 0x00FF_FFFF)) as usize
}

/// Appends one frame.
///
/// # Panics
///
/// As [`head`].
pub fn write_frame(out: &mut BytesMut, kind: FrameKind, payload: &[u8]) {
    out.reserve(HEAD_BYTES + payload.len());
    out.put_slice(&head(kind, payload.len()));
    out.put_slice(payload);
}

/// Makes the server's WebSocket frame at `out[at..]` the same message, ping or pong over RawSocket. Nothing is left of a close
/// frame, since there is none here, nor of what has over `max` bytes; whether it could be said.
pub fn reframe(out: &mut BytesMut, at: usize, max: MaxLength) -> bool {
    let Some((opcode, payload)) = server_frame(&out[at..]) else {
        debug_assert!(false, "the server's writers append whole frames");
        out.truncate(at);
        return false;
    };
    let kind = match opcode {
        Opcode::Ping => FrameKind::Ping,
        Opcode::Pong => FrameKind::Pong,
        Opcode::Close => {
            out.truncate(at);
            return true;
        }
        Opcode::Text | Opcode::Binary | Opcode::Continuation => FrameKind::Message,
    };
    let length = payload.len();
    if length > max.bytes() {
        out.truncate(at);
        return false;
    }
    // Most have a head of 4 bytes before and after.
    if payload.start < HEAD_BYTES {
        out.put_bytes(0, HEAD_BYTES - payload.start);
    }
    let from = at + payload.start;
    if payload.start != HEAD_BYTES {
        out.copy_within(from..from + length, at + HEAD_BYTES);
    }
    out.truncate(at + HEAD_BYTES + length);
    out[at..at + HEAD_BYTES].copy_from_slice(&head(kind, length));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::{Control, Kind, write_close, write_control, write_message};

    #[test]
    fn heads_have_25_bits_of_length() {
        for (kind, length, bytes) in [
            (FrameKind::Message, 0, [0, 0, 0, 0]),
            (FrameKind::Ping, 5, [1, 0, 0, 5]),
            (FrameKind::Pong, 0x01_02_03, [2, 1, 2, 3]),
            (FrameKind::Message, (1 << 24) - 1, [0, 0xFF, 0xFF, 0xFF]),
            (FrameKind::Message, 1 << 24, [0x08, 0, 0, 0]),
            (FrameKind::Pong, 1 << 24, [0x0A, 0, 0, 0]),
        ] {
            assert_eq!((head(kind, length), super::length(bytes)), (bytes, length));
        }
    }

    #[test]
    fn a_reframed_message_is_the_message() {
        for length in [0, 1, 125, 126, 1000, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
            for kind in [Kind::Text, Kind::Binary] {
                let (mut out, mut expected) =
                    (BytesMut::from(&b"before"[..]), BytesMut::from(&b"before"[..]));
                write_message(&mut out, kind, &[&payload]);
                assert!(reframe(&mut out, 6, MaxLength::MOST));
                write_frame(&mut expected, FrameKind::Message, &payload);
                assert!(out == expected, "{length}");
            }
        }
    }

    #[test]
    fn pings_and_pongs_stay_what_they_are_and_a_close_frame_is_nothing() {
        let mut out = BytesMut::new();
        write_control(&mut out, Control::Ping, b"a");
        assert!(reframe(&mut out, 0, MaxLength::LEAST));
        let at = out.len();
        write_control(&mut out, Control::Pong, b"");
        assert!(reframe(&mut out, at, MaxLength::LEAST));
        let at = out.len();
        write_close(&mut out, 1000, "bye");
        assert!(reframe(&mut out, at, MaxLength::LEAST));
        assert_eq!(&out[..], b"\x01\0\0\x01a\x02\0\0\0");
    }

    #[test]
    fn what_is_too_long_is_not_said() {
        for (length, fits) in [(512, true), (513, false)] {
            let mut out = BytesMut::from(&b"before"[..]);
            write_message(&mut out, Kind::Text, &[&vec![b'x'; length]]);
            assert_eq!(reframe(&mut out, 6, MaxLength::LEAST), fits);
            assert_eq!(out.len(), if fits { 6 + 4 + length } else { 6 });
        }
    }
}
