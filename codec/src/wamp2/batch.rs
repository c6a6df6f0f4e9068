//! Batches: several messages in one WebSocket message (WAMP, "Message Batching").
//!
//! ```text
//! text     message 0x1E │ message 0x1E │ …
//! binary   length, u32 │ message │ length, u32 │ message │ …
//! ```

use bytes::{BufMut, BytesMut};
use memchr::memchr;
use thiserror::Error;

use crate::ws::{Kind, Opcode, header, server_frame};

/// Ends each message of a text batch. It cannot stand in JSON unless it is escaped.
const RECORD_SEPARATOR: u8 = 0x1E;
/// Bytes of the length before each message of a binary batch.
const LENGTH_BYTES: usize = 4;

/// A batch that is none. Each ends the connection; the messages before it count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BatchError {
    /// Not a single message.
    #[error("a batch has one message at least, this one is empty")]
    Empty,
    /// A text batch does not end with a record separator.
    #[error("each message of a batch ends with the byte 0x1E, the last one does not")]
    Unterminated,
    /// A binary batch ends within a length.
    #[error("{rest_bytes} bytes follow the last message of a batch; a length has 4")]
    CutLength {
        /// What is left.
        rest_bytes: usize,
    },
    /// A length says more than there is.
    #[error("a message of a batch is said to have {length} bytes, but {rest_bytes} are left")]
    CutMessage {
        /// What the length says.
        length: u32,
        /// What is left.
        rest_bytes: usize,
    },
}

/// The messages of one batch, from its front.
///
/// ```
/// use fanwire_codec::wamp2::batch::Batch;
/// use fanwire_codec::ws::Kind;
///
/// let mut bytes = *b"[5]\x1e[6]\x1e";
/// let mut batch = Batch::new(Kind::Text, &mut bytes);
/// assert_eq!(batch.next_message()?, Some(&mut b"[5]".to_owned()[..]));
/// assert_eq!(batch.rest(), b"[6]\x1e");
/// # Ok::<(), fanwire_codec::wamp2::batch::BatchError>(())
/// ```
#[derive(Debug)]
pub struct Batch<'a> {
    kind: Kind,
    rest: &'a mut [u8],
    has_begun: bool,
}

impl<'a> Batch<'a> {
    /// The messages of the WebSocket message `bytes`.
    pub fn new(kind: Kind, bytes: &'a mut [u8]) -> Self {
        Self { kind, rest: bytes, has_begun: false }
    }

    /// The next message; `None` after the last one.
    ///
    /// # Errors
    ///
    /// No message follows, though one should.
    pub fn next_message(&mut self) -> Result<Option<&'a mut [u8]>, BatchError> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return if self.has_begun { Ok(None) } else { Err(BatchError::Empty) };
        }
        self.has_begun = true;
        let (message, rest) = match self.kind {
            Kind::Text => {
                let end = memchr(RECORD_SEPARATOR, rest).ok_or(BatchError::Unterminated)?;
                let (message, rest) = rest.split_at_mut(end);
                (message, &mut rest[1..])
            }
            Kind::Binary => {
                let rest_bytes = rest.len();
                let Some((length, rest)) = rest.split_first_chunk_mut::<LENGTH_BYTES>() else {
                    return Err(BatchError::CutLength { rest_bytes });
                };
                let (length, rest_bytes) = (u32::from_be_bytes(*length), rest.len());
                rest.split_at_mut_checked(length as usize)
                    .ok_or(BatchError::CutMessage { length, rest_bytes })?
            }
        };
        self.rest = rest;
        Ok(Some(message))
    }

    /// What has not been handed out: a batch of its own, unless it is empty.
    pub fn rest(&self) -> &[u8] {
        self.rest
    }
}

/// Appends what stands before a message of so many bytes in a batch.
pub fn begin_message(out: &mut Vec<u8>, kind: Kind, length: u32) {
    if kind == Kind::Binary {
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// Appends what stands behind it.
pub fn end_message(out: &mut Vec<u8>, kind: Kind) {
    if kind == Kind::Text {
        out.push(RECORD_SEPARATOR);
    }
}

/// Makes the server's frame at `out[at..]`, one message, a batch of one. Control frames stay as they are.
pub fn make_batch(out: &mut BytesMut, at: usize) {
    let Some((opcode, payload)) = server_frame(&out[at..]) else { return };
    let kind = match opcode {
        Opcode::Text => Kind::Text,
        Opcode::Binary => Kind::Binary,
        _ => return,
    };
    let length = payload.len() as u32;
    let prefix = length.to_be_bytes();
    let (prefix, suffix) = match kind {
        Kind::Text => (&[][..], &[RECORD_SEPARATOR][..]),
        Kind::Binary => (&prefix[..], &[][..]),
    };
    let header = header(opcode, (prefix.len() + payload.len() + suffix.len()) as u64);
    let parts = [header.as_bytes(), prefix].map(<[u8]>::len);
    let to = at + parts.iter().sum::<usize>();
    let end = to + payload.len();
    out.put_bytes(0, end + suffix.len() - out.len());
    out.copy_within(at + payload.start..at + payload.end, to);
    out[end..].copy_from_slice(suffix);
    out[at + parts[0]..to].copy_from_slice(prefix);
    out[at..at + parts[0]].copy_from_slice(header.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::{Control, write_control, write_message};

    fn messages(kind: Kind, bytes: &[u8]) -> (Vec<Vec<u8>>, Result<(), BatchError>) {
        let mut bytes = bytes.to_vec();
        let mut batch = Batch::new(kind, &mut bytes);
        let mut messages = Vec::new();
        loop {
            match batch.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => return (messages, Ok(())),
                Err(error) => return (messages, Err(error)),
            }
        }
    }

    #[test]
    fn what_is_before_a_flaw_is_handed_out() {
        for (kind, bytes, expected, outcome) in [
            (Kind::Text, &b"a\x1ebc\x1e"[..], &["a", "bc"][..], Ok(())),
            (Kind::Text, b"\x1e", &[""], Ok(())),
            (Kind::Text, b"", &[], Err(BatchError::Empty)),
            (Kind::Text, b"a\x1eb", &["a"], Err(BatchError::Unterminated)),
            (Kind::Binary, b"\0\0\0\x01a\0\0\0\x02bc", &["a", "bc"], Ok(())),
            (Kind::Binary, b"\0\0\0\0", &[""], Ok(())),
            (Kind::Binary, b"", &[], Err(BatchError::Empty)),
            (Kind::Binary, b"\0\0\0\x01a\0\0", &["a"], Err(BatchError::CutLength { rest_bytes: 2 })),
            (
                Kind::Binary,
                b"\0\0\0\x01a\0\0\0\x02b",
                &["a"],
                Err(BatchError::CutMessage { length: 2, rest_bytes: 1 }),
            ),
            (
                Kind::Binary,
                b"\xFF\xFF\xFF\xFFa",
                &[],
                Err(BatchError::CutMessage { length: u32::MAX, rest_bytes: 1 }),
            ),
        ] {
            let (found, end) = messages(kind, bytes);
            let expected: Vec<_> = expected.iter().map(|message| message.as_bytes().to_vec()).collect();
            assert_eq!((found, end), (expected, outcome), "{bytes:x?}");
        }
    }

    #[test]
    fn a_message_made_a_batch_is_a_batch_of_it() {
        for length in [0, 1, 121, 122, 124, 125, 126, 65_531, 65_532, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            for kind in [Kind::Text, Kind::Binary] {
                let mut out = BytesMut::from(&b"before"[..]);
                write_message(&mut out, kind, &[&payload]);
                make_batch(&mut out, 6);
                let (opcode, range) = server_frame(&out[6..]).expect("a whole frame");
                assert_eq!((&out[..6], opcode), (&b"before"[..], kind.into()));
                assert_eq!(messages(kind, &out[6..][range]), (vec![payload.clone()], Ok(())), "{length}");
            }
        }
    }

    #[test]
    fn control_frames_are_no_batches() {
        let mut out = BytesMut::new();
        write_control(&mut out, Control::Ping, b"a");
        make_batch(&mut out, 0);
        assert_eq!(&out[..], b"\x89\x01a");
    }
}
