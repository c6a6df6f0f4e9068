//! One connection's input over RawSocket: bytes in, messages, pings and pongs out.
//!
//! ```text
//! idle ──cut head──▶ stash ──rest of it──┐
//!  │                                     ▼
//!  ├──whole frame──▶ handed out in place  frame cut ──▶ Partial ──last byte──▶ idle
//!  └──error──▶ done: everything that follows is discarded
//! ```

use thiserror::Error;

use super::frame::{FrameKind, HEAD_BYTES};
use crate::utf8;
use crate::ws::{self, DirectRoom};

/// The peer broke the framing or a limit: the connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// One of the first four bits of a head is set.
    #[error("reserved bits {bits:#06b} of a frame's head are set; they must be 0")]
    ReservedBits {
        /// The four bits.
        bits: u8,
    },
    /// Frame type 3 to 7.
    #[error("frame type {kind} is reserved; use 0 (message), 1 (ping) or 2 (pong)")]
    ReservedKind {
        /// The type that came.
        kind: u8,
    },
    /// The 25th bit of the length, with others below it.
    #[error("bit 25 of a frame's length stands for exactly 16777216 bytes: the others must be 0, not {rest}")]
    LengthOutOfRange {
        /// The other 24 bits.
        rest: u32,
    },
    /// Longer than was announced in the handshake, or than is accepted before login.
    #[error("the frame has {bytes} bytes, at most {bytes_max} are accepted")]
    TooLong {
        /// What its head says.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A ping whose pong would be longer than its sender takes. Found by whoever answers.
    #[error("a ping of {bytes} bytes cannot be answered: the handshake says that {bytes_max} are taken")]
    Unanswerable {
        /// The ping's payload.
        bytes: u64,
        /// What its sender takes.
        bytes_max: u64,
    },
    /// A message of a text serializer is not UTF-8.
    #[error("the message is not UTF-8 at byte {offset_bytes}")]
    InvalidUtf8 {
        /// Where in the message the first broken sequence begins.
        offset_bytes: u64,
    },
}

impl ProtocolError {
    /// What a WebSocket would be closed with for the same.
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 { .. } => 1007,
            Self::TooLong { .. } | Self::Unanswerable { .. } => 1009,
            _ => 1002,
        }
    }
}

/// One complete thing from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A message; UTF-8 where the serializer is text. It may be scribbled on.
    Message(&'a mut [u8]),
    /// To be answered by exactly one pong with the same payload.
    Ping(&'a [u8]),
    /// Answer to a ping.
    Pong(&'a [u8]),
}

impl<'a> Received<'a> {
    /// The same, in the words of a WebSocket. `kind`: what messages are.
    pub fn over_websocket(self, kind: ws::Kind) -> ws::Received<'a> {
        match self {
            Self::Message(payload) => ws::Received::Message { kind, payload },
            Self::Ping(payload) => ws::Received::Ping(payload),
            Self::Pong(payload) => ws::Received::Pong(payload),
        }
    }
}

/// State of one connection's input, after the handshake.
///
/// The driving contract is that of [`ws::Receiver`](crate::ws::Receiver): hand over what was read, from its front, until all of
/// it is consumed; each call returns at most one thing. Then, if [`direct_room`](Self::direct_room) offers room, the next read
/// may go there.
///
/// ```
/// use fanwire_codec::rawsocket::{Received, Receiver};
///
/// let mut receiver = Receiver::new(true);
/// let mut read = *b"\0\0\0\x05Hello\x01\0\0\0";
/// let (consumed, received) = receiver.receive(&mut read, 512)?;
/// assert_eq!((consumed, received), (9, Some(Received::Message(&mut b"Hello".to_owned()))));
/// # Ok::<(), fanwire_codec::rawsocket::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Receiver {
    partial: Option<Box<Partial>>,
    /// The beginning of a head that was cut by the end of the input.
    stash: [u8; HEAD_BYTES],
    stash_len: u8,
    /// Messages are text.
    is_text: bool,
    /// A violation came: nothing is read any more.
    done: bool,
}

const _: () = assert!(size_of::<Receiver>() <= 16, "an idle connection's input state stays small");

/// A frame of which not all has come; or all, and it was handed out.
#[derive(Debug)]
struct Partial {
    kind: FrameKind,
    /// `filled` of these have come. Never more than twice that, or [`FIRST_RESERVATION_BYTES_MAX`].
    bytes: Vec<u8>,
    filled: usize,
    length: usize,
}

#[derive(Clone, Copy)]
struct Head {
    kind: FrameKind,
    length: usize,
}

impl Receiver {
    /// The input of a connection after its handshake. `is_text`: its messages are text.
    pub const fn new(is_text: bool) -> Self {
        Self { partial: None, stash: [0; HEAD_BYTES], stash_len: 0, is_text, done: false }
    }

    /// Consumes from the front of `input` until one thing is complete. `bytes_max`: of a frame's payload.
    ///
    /// Returns the bytes consumed and what is complete; `None` means that all of `input` was consumed (a cut tail is kept
    /// inside). After an error everything is consumed and discarded.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol: end the connection.
    #[inline]
    pub fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        bytes_max: u64,
    ) -> Result<(usize, Option<Received<'a>>), ProtocolError> {
        // The way of nearly all frames: nothing is pending, and the frame is whole.
        if self.partial.is_none()
            && self.stash_len == 0
            && !self.done
            && let Some(bytes) = input.first_chunk::<HEAD_BYTES>()
        {
            let head = self.checked(parse(*bytes, bytes_max))?;
            let end = HEAD_BYTES + head.length;
            if end <= input.len() {
                let (payload, done) = (&mut input[HEAD_BYTES..end], &mut self.done);
                return Ok((end, Some(hand_out(head.kind, payload, self.is_text, done)?)));
            }
        }
        self.receive_slowly(input, bytes_max)
    }

    fn receive_slowly<'a>(
        &'a mut self,
        input: &'a mut [u8],
        bytes_max: u64,
    ) -> Result<(usize, Option<Received<'a>>), ProtocolError> {
        self.recycle();
        if self.done {
            return Ok((input.len(), None));
        }
        let mut position = 0;
        if self.partial.is_none() {
            let stashed = usize::from(self.stash_len);
            position = (HEAD_BYTES - stashed).min(input.len());
            self.stash[stashed..stashed + position].copy_from_slice(&input[..position]);
            if stashed + position < HEAD_BYTES {
                self.stash_len += position as u8;
                return Ok((position, None));
            }
            self.stash_len = 0;
            let head = self.checked(parse(self.stash, bytes_max))?;
            let end = position + head.length;
            if end <= input.len() {
                let (is_text, done) = (self.is_text, &mut self.done);
                return Ok((end, Some(hand_out(head.kind, &mut input[position..end], is_text, done)?)));
            }
            let first = head.length.min(FIRST_RESERVATION_BYTES_MAX);
            let bytes = Vec::with_capacity(first);
            self.partial = Some(Box::new(Partial { kind: head.kind, bytes, filled: 0, length: head.length }));
        }
        let partial = self.partial.as_mut().expect("it was there, or has just begun");
        position += partial.feed(&input[position..]);
        Ok((position, self.completed()?))
    }

    /// Where the next read goes while a large frame (16 KiB or more) is incomplete: straight into its message. Then call
    /// [`direct_filled`](Self::direct_filled), and [`receive`](Self::receive) for what has come behind the frame. The room is
    /// never larger than what has come.
    pub fn direct_room(&mut self) -> Option<DirectRoom<'_>> {
        let partial = self.partial.as_mut()?;
        let missing = partial.length - partial.filled;
        if partial.length < LARGE_FRAME_BYTES_MIN || missing == 0 {
            return None;
        }
        let size = missing.min(partial.filled.max(partial.bytes.capacity() - partial.filled));
        let is_rest = size == missing;
        if !is_rest && size < LARGE_FRAME_BYTES_MIN {
            return None;
        }
        let end = partial.filled + size;
        if end > partial.bytes.len() {
            partial.bytes.reserve_exact(end - partial.bytes.len());
            partial.bytes.resize(end, 0);
        }
        let behind_bytes_max = if is_rest { BEHIND_BYTES_MAX } else { 0 };
        Some(DirectRoom { bytes: &mut partial.bytes[partial.filled..end], behind_bytes_max })
    }

    /// `count` bytes have been read into the room given by [`direct_room`](Self::direct_room).
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    ///
    /// # Panics
    ///
    /// When no room was given or `count` is larger than it.
    pub fn direct_filled(&mut self, count: usize) -> Result<Option<Received<'_>>, ProtocolError> {
        let partial = self.partial.as_mut().expect("direct room was given");
        let filled = partial.filled + count;
        assert!(filled <= partial.bytes.len().min(partial.length), "more bytes than the direct room has");
        partial.filled = filled;
        self.completed()
    }

    /// Something has begun and is not complete: a head or a frame. For the message deadline.
    pub fn is_mid_message(&self) -> bool {
        !self.done && (self.stash_len > 0 || self.partial.as_ref().is_some_and(|partial| !partial.is_whole()))
    }

    /// Bytes of memory that an incomplete frame holds.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes.capacity())
    }

    /// Frees the buffer of a message that was handled. Cheap; call it when the input is exhausted.
    #[inline]
    pub fn recycle(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| self.done || partial.is_whole()) {
            self.partial = None;
        }
    }

    /// Ends the input: frees the buffer of an unfinished frame, and discards what still comes.
    pub fn discard(&mut self) {
        self.done = true;
        self.stash_len = 0;
        self.partial = None;
    }

    fn checked<T>(&mut self, parsed: Result<T, ProtocolError>) -> Result<T, ProtocolError> {
        self.done |= parsed.is_err();
        parsed
    }

    /// What the last byte completes.
    fn completed(&mut self) -> Result<Option<Received<'_>>, ProtocolError> {
        let Self { partial, is_text, done, .. } = self;
        let Some(partial) = partial.as_mut().filter(|partial| partial.is_whole()) else { return Ok(None) };
        hand_out(partial.kind, &mut partial.bytes[..partial.length], *is_text, done).map(Some)
    }
}

impl Partial {
    fn is_whole(&self) -> bool {
        self.filled == self.length
    }

    /// Takes what of `input` belongs to the frame; returns how much that is.
    fn feed(&mut self, input: &[u8]) -> usize {
        let count = input.len().min(self.length - self.filled);
        let end = self.filled + count;
        if end > self.bytes.capacity() {
            // Never more than twice what has come, whatever the head says.
            let room = (2 * end).min(self.length);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        if end > self.bytes.len() {
            self.bytes.truncate(self.filled);
            self.bytes.extend_from_slice(&input[..count]);
        } else {
            self.bytes[self.filled..end].copy_from_slice(&input[..count]);
        }
        self.filled = end;
        count
    }
}

/// In the order of the bits, so that the same bytes give the same error however they are cut.
#[inline]
fn parse(bytes: [u8; HEAD_BYTES], bytes_max: u64) -> Result<Head, ProtocolError> {
    let word = u32::from_be_bytes(bytes);
    let (reserved, kind, rest) = (bytes[0] >> 4, bytes[0] & 0b111, word & 0x00FF_FFFF);
    if reserved != 0 {
        return Err(ProtocolError::ReservedBits { bits: reserved });
    }
    let Some(kind) = FrameKind::from_bits(kind) else { return Err(ProtocolError::ReservedKind { kind }) };
    let is_longest = bytes[0] & 0b1000 != 0;
    if is_longest && rest != 0 {
        return Err(ProtocolError::LengthOutOfRange { rest });
    }
    let length = if is_longest { 1 << 24 } else { rest };
    if u64::from(length) > bytes_max {
        return Err(ProtocolError::TooLong { bytes: length.into(), bytes_max });
    }
    Ok(Head { kind, length: length as usize })
}

#[inline]
fn hand_out<'a>(
    kind: FrameKind,
    payload: &'a mut [u8],
    is_text: bool,
    done: &mut bool,
) -> Result<Received<'a>, ProtocolError> {
    if kind == FrameKind::Message
        && is_text
        && let Err(at) = utf8::to_str(payload)
    {
        *done = true;
        return Err(ProtocolError::InvalidUtf8 { offset_bytes: at as u64 });
    }
    Ok(match kind {
        FrameKind::Message => Received::Message(payload),
        FrameKind::Ping => Received::Ping(payload),
        FrameKind::Pong => Received::Pong(payload),
    })
}

/// What a declared length may reserve before the bytes have come.
const FIRST_RESERVATION_BYTES_MAX: usize = 4 * 1024;
/// A frame of this size is large: the rest of it is received straight into its message.
const LARGE_FRAME_BYTES_MIN: usize = 16 * 1024;
/// What may be received behind a large frame: where another one follows, this much of it is copied.
const BEHIND_BYTES_MAX: usize = 4 * 1024;
