//! Frames for the wire, appended to the caller's buffer.
//!
//! We never fragment: a frame is a message. Server frames are not masked, so a payload is copied once and never
//! touched; the `client` variants mask what they have appended.

use bytes::{BufMut, BytesMut};

use super::header::{Opcode, header};
use super::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, Control, Kind, is_close_code, mask};

/// Room that [`begin_frame`] leaves: the header of a payload of 126 bytes to 64 KiB, so that the usual event is not
/// moved. A shorter payload moves down by 2 (at most 125 bytes), a longer one up by 6.
const HEADER_ROOM: usize = 4;

/// Appends one message of the server: a header, then the parts one after the other.
pub fn write_message(out: &mut BytesMut, kind: Kind, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let header = header(kind.into(), length as u64);
    out.reserve(header.as_bytes().len() + length);
    out.put_slice(header.as_bytes());
    for part in parts {
        out.put_slice(part);
    }
}

/// Appends one ping or pong of the server.
///
/// # Panics
///
/// When `payload` has more than 125 bytes. What a peer sent in a ping never has.
pub fn write_control(out: &mut BytesMut, control: Control, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "RFC 6455, 5.5: a control frame carries at most 125 bytes");
    write_frame(out, control.into(), &[payload]);
}

/// Appends the close frame of the server; a reason over 123 bytes is cut at a character.
///
/// # Panics
///
/// When `code` must not be sent, see [`is_close_code`].
pub fn write_close(out: &mut BytesMut, code: u16, reason: &str) {
    write_frame(out, Opcode::Close, &[&close_code_bytes(code), close_reason(reason)]);
}

/// Appends the server's answer to a close frame: the peer's code, or none if it gave none (RFC 6455, 5.5.1).
///
/// # Panics
///
/// When `code` must not be sent. What a [`Receiver`](super::Receiver) gave may be.
pub fn write_close_reply(out: &mut BytesMut, code: Option<u16>) {
    match code {
        Some(code) => write_close(out, code, ""),
        None => write_frame(out, Opcode::Close, &[]),
    }
}

/// Appends one message of the client, masked. Take each key from a strong random source (RFC 6455, 5.3).
pub fn write_client_message(out: &mut BytesMut, kind: Kind, parts: &[&[u8]], mask_key: [u8; 4]) {
    write_masked_frame(out, kind.into(), parts, mask_key);
}

/// Appends one ping or pong of the client, masked.
///
/// # Panics
///
/// When `payload` has more than 125 bytes.
pub fn write_client_control(out: &mut BytesMut, control: Control, payload: &[u8], mask_key: [u8; 4]) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "RFC 6455, 5.5: a control frame carries at most 125 bytes");
    write_masked_frame(out, control.into(), &[payload], mask_key);
}

/// Appends the close frame of the client, masked; a reason over 123 bytes is cut at a character.
///
/// # Panics
///
/// When `code` must not be sent, see [`is_close_code`].
pub fn write_client_close(out: &mut BytesMut, code: u16, reason: &str, mask_key: [u8; 4]) {
    write_masked_frame(out, Opcode::Close, &[&close_code_bytes(code), close_reason(reason)], mask_key);
}

/// A frame of the server that is being written: its payload goes to the end of the buffer.
#[derive(Debug)]
#[must_use = "the frame has no header until `end_frame`"]
pub struct FrameStart {
    at: usize,
    opcode: Opcode,
}

/// Begins a message whose length is not known yet. Append the payload to `out`, then call [`end_frame`].
///
/// ```
/// use fanwire_codec::ws::{Kind, begin_frame, end_frame};
///
/// let mut out = bytes::BytesMut::new();
/// let frame = begin_frame(&mut out, Kind::Text);
/// out.extend_from_slice(b"Hello");
/// end_frame(&mut out, frame);
/// assert_eq!(&out[..], b"\x81\x05Hello");
/// ```
#[inline]
pub fn begin_frame(out: &mut BytesMut, kind: Kind) -> FrameStart {
    let at = out.len();
    out.put_bytes(0, HEADER_ROOM);
    FrameStart { at, opcode: kind.into() }
}

/// Ends the frame: everything in `out` after [`begin_frame`] is its payload. Returns where in `out` the frame begins.
///
/// # Panics
///
/// When `out` is shorter than it was after [`begin_frame`].
#[inline]
pub fn end_frame(out: &mut BytesMut, frame: FrameStart) -> usize {
    let FrameStart { at, opcode } = frame;
    let payload = at + HEADER_ROOM;
    let length = out.len().checked_sub(payload).expect("the frame's room is still in the buffer");
    let header = header(opcode, length as u64);
    let header = header.as_bytes();
    if header.len() < HEADER_ROOM {
        out.copy_within(payload.., at + header.len());
        out.truncate(at + header.len() + length);
    } else if header.len() > HEADER_ROOM {
        out.put_bytes(0, header.len() - HEADER_ROOM);
        out.copy_within(payload..payload + length, at + header.len());
    }
    out[at..at + header.len()].copy_from_slice(header);
    at
}

fn write_frame(out: &mut BytesMut, opcode: Opcode, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.put_slice(header(opcode, length as u64).as_bytes());
    for part in parts {
        out.put_slice(part);
    }
}

fn write_masked_frame(out: &mut BytesMut, opcode: Opcode, parts: &[&[u8]], mask_key: [u8; 4]) {
    let start = out.len();
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let header = header(opcode, length as u64);
    out.reserve(header.as_bytes().len() + mask_key.len() + length);
    out.put_slice(header.as_bytes());
    out[start + 1] |= 0x80;
    out.put_slice(&mask_key);
    let payload = out.len();
    for part in parts {
        out.put_slice(part);
    }
    mask::apply(&mut out[payload..], mask_key, 0);
}

fn close_code_bytes(code: u16) -> [u8; 2] {
    assert!(is_close_code(code), "RFC 6455, 7.4: close code {code} must not be sent");
    code.to_be_bytes()
}

fn close_reason(reason: &str) -> &[u8] {
    &reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)]
}

impl From<Control> for Opcode {
    fn from(control: Control) -> Self {
        match control {
            Control::Ping => Self::Ping,
            Control::Pong => Self::Pong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begun_and_whole_frames_are_the_same_bytes() {
        for length in [0, 1, 124, 125, 126, 127, 1000, 65_535, 65_536, 65_537, 200_000] {
            let payload: Vec<u8> = (0..length).map(|index| (index * 31) as u8).collect();
            let (left, right) = payload.split_at(length / 3);
            for kind in [Kind::Text, Kind::Binary] {
                let mut whole = BytesMut::from(&b"before"[..]);
                write_message(&mut whole, kind, &[left, b"", right]);
                let mut begun = BytesMut::from(&b"before"[..]);
                let frame = begin_frame(&mut begun, kind);
                begun.extend_from_slice(&payload);
                assert_eq!(end_frame(&mut begun, frame), 6);
                assert!(begun == whole, "{length}");
                assert_eq!(
                    whole.len() - 6 - length,
                    [2, 4, 10][(length > 125) as usize + (length > 65_535) as usize]
                );
            }
        }
    }

    #[test]
    fn frames_follow_one_another() {
        let mut out = BytesMut::new();
        for text in ["one", &"two".repeat(50)] {
            let frame = begin_frame(&mut out, Kind::Text);
            out.extend_from_slice(text.as_bytes());
            end_frame(&mut out, frame);
        }
        write_control(&mut out, Control::Ping, b"p");
        write_close(&mut out, 1001, "bye");
        write_close_reply(&mut out, None);
        let expected = [
            b"\x81\x03one\x81\x7e\x00\x96",
            "two".repeat(50).as_bytes(),
            b"\x89\x01p\x88\x05\x03\xe9bye\x88\x00",
        ]
        .concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn client_frames_are_masked() {
        let mut out = BytesMut::new();
        let key = [0x37, 0xfa, 0x21, 0x3d];
        write_client_message(&mut out, Kind::Text, &[b"Hel", b"lo"], key);
        write_client_control(&mut out, Control::Pong, b"Hello", key);
        write_client_close(&mut out, 1000, "", key);
        assert_eq!(
            &out[..],
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\
              \x88\x82\x37\xfa\x21\x3d\x34\x12"
        );
    }

    #[test]
    fn a_long_close_reason_is_cut_at_a_character() {
        let mut out = BytesMut::new();
        write_close(&mut out, 1002, &format!("{}€", "x".repeat(121)));
        assert_eq!(out.len(), 2 + 2 + 121);
        out.clear();
        write_close(&mut out, 1002, &format!("{}€", "x".repeat(120)));
        assert_eq!(out.len(), 2 + 125);
    }

    #[test]
    #[should_panic(expected = "must not be sent")]
    fn a_reserved_close_code_is_our_fault() {
        write_close(&mut BytesMut::new(), 1006, "");
    }
}
