//! What a connection holds while a frame or a message is incomplete.
//!
//! ```text
//! message bytes:  0 ........ filled ........ bytes.len() ........ capacity
//!                 received,  initialised by an      not initialised
//!                 unmasked   earlier message or 0
//! ```
//!
//! Invariant: `filled <= bytes.len()`, and `capacity <= max(4 KiB, 2 × filled)` when the buffer was made for this
//! message: the declared length alone never reserves more than [`FIRST_RESERVATION_BYTES_MAX`].

use super::deflate::{Context, Inflater};
use super::header::{Opcode, Parsed};
use super::mask::{Unmasker, rotate};
use super::utf8::Utf8Stream;
use super::{CONTROL_BYTES_MAX, Kind, Limits, ProtocolError};

/// What a declared length may reserve before the bytes have come.
const FIRST_RESERVATION_BYTES_MAX: usize = 4 * 1024;

/// A frame of this size is large: the rest of it is received straight into its message, if all of the rest has a place there
/// or at least as much as this.
const LARGE_FRAME_BYTES_MIN: usize = 16 * 1024;

/// What may be received behind a large frame: where another one follows, this much of it is copied.
const BEHIND_BYTES_MAX: usize = 4 * 1024;

/// What is copied and then unmasked at once: it stays in the first cache between the two. A multiple of the key's length.
const TILE_BYTES: usize = 4 * 1024;

/// 1,024: no known client sends more than one, and a flood of them costs us 6 bytes of input each.
const EMPTY_FRAGMENTS_MAX: u16 = 1024;

/// An incomplete message, an incomplete frame, or both: a control frame may be cut inside a fragmented message.
#[derive(Debug)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    filled: usize,
    /// The kind of the unfinished message.
    message: Option<Kind>,
    /// Its bytes are to be inflated when all have come.
    compressed: bool,
    utf8: Utf8Stream,
    empty_fragments: u16,
    /// The frame of which not all bytes have come.
    frame: Option<Frame>,
    control: [u8; CONTROL_BYTES_MAX],
    control_len: u8,
    unmasker: Unmasker,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// At least [`LARGE_FRAME_BYTES_MIN`] of a message.
    large: bool,
    missing: u64,
    /// Rotated: `key[0]` meets the next byte.
    key: [u8; 4],
}

/// Where the next read from the socket should go.
#[derive(Debug)]
pub struct DirectRoom<'a> {
    /// First here: the next bytes of the frame in progress belong here. Never empty.
    pub bytes: &'a mut [u8],
    /// Then so many bytes at most into a buffer of the caller's, for [`Receiver::receive`](super::Receiver::receive): they
    /// follow the frame. 0 where `bytes` is not all of its rest.
    pub behind_bytes_max: usize,
}

/// What a finished frame completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completed {
    Message(Kind),
    /// A message as it came, still to be inflated.
    Compressed(Kind),
    Control(Opcode),
}

impl Partial {
    pub(super) fn new(unmasker: Unmasker) -> Self {
        Self {
            bytes: Vec::new(),
            filled: 0,
            message: None,
            compressed: false,
            utf8: Utf8Stream::default(),
            empty_fragments: 0,
            frame: None,
            control: [0; CONTROL_BYTES_MAX],
            control_len: 0,
            unmasker,
        }
    }

    /// Forgets everything, and the buffer too if it is larger than `kept_bytes_max`.
    pub(super) fn reset(&mut self, kept_bytes_max: usize) {
        self.filled = 0;
        self.message = None;
        self.frame = None;
        if self.bytes.capacity() > kept_bytes_max {
            self.bytes = Vec::new();
        }
    }

    /// Nothing is incomplete: what was completed has been handed out.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.message.is_none() && self.frame.is_none()
    }

    #[inline]
    pub(super) fn is_mid_message(&self) -> bool {
        self.message.is_some()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    pub(super) fn is_mid_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Text that is checked while it comes.
    fn is_plain_text(&self) -> bool {
        self.message == Some(Kind::Text) && !self.compressed
    }

    /// Holds the message that `input` inflates to, instead of anything else.
    pub(super) fn inflate(
        &mut self,
        input: &[u8],
        context: Option<&Context>,
        inflater: &mut Inflater,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        debug_assert!(self.is_spent());
        self.filled = inflater.inflate(input, context, &mut self.bytes, limits)?;
        Ok(())
    }

    pub(super) fn message_bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.filled]
    }

    pub(super) fn control_bytes(&self) -> &[u8] {
        &self.control[..usize::from(self.control_len)]
    }

    /// Begins a frame whose header is legal here. The limit is checked before anything is kept.
    pub(super) fn begin(&mut self, header: &Parsed, limits: &Limits) -> Result<(), ProtocolError> {
        debug_assert!(self.frame.is_none());
        match header.opcode {
            Opcode::Text => self.begin_message(Kind::Text, header.compressed),
            Opcode::Binary => self.begin_message(Kind::Binary, header.compressed),
            Opcode::Continuation => {}
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control_len = 0,
        }
        if !header.opcode.is_control() {
            self.limits(limits).check(self.filled as u64, header.length)?;
            if header.length > 0 {
                self.empty_fragments = 0;
            } else if !header.fin {
                self.empty_fragments += 1;
                if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                    return Err(ProtocolError::EmptyFragments);
                }
            }
        }
        self.frame = Some(Frame {
            opcode: header.opcode,
            fin: header.fin,
            large: header.length >= LARGE_FRAME_BYTES_MIN as u64,
            missing: header.length,
            key: header.key,
        });
        Ok(())
    }

    /// What holds for the bytes of the message as they come.
    fn limits(&self, limits: &Limits) -> Limits {
        if self.compressed { limits.compressed() } else { *limits }
    }

    fn begin_message(&mut self, kind: Kind, compressed: bool) {
        debug_assert!(self.message.is_none());
        self.message = Some(kind);
        self.compressed = compressed;
        self.filled = 0;
        self.utf8 = Utf8Stream::default();
        self.empty_fragments = 0;
    }

    /// Takes bytes of the frame in progress from the front of `input`. Returns how many.
    pub(super) fn feed(&mut self, input: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
        let frame = self.frame.as_mut().expect("called inside a frame only");
        let count = input.len().min(usize::try_from(frame.missing).unwrap_or(usize::MAX));
        let came = &input[..count];
        let key = frame.key;
        frame.key = rotate(key, count);
        frame.missing -= count as u64;
        if frame.opcode.is_control() {
            let at = usize::from(self.control_len);
            let control = &mut self.control[at..at + count];
            control.copy_from_slice(came);
            self.unmasker.apply(control, key);
            self.control_len += count as u8;
        } else {
            let limits = self.limits(limits);
            let start = self.filled;
            let is_ascii = self.append(came, key, &limits);
            self.check_text(start, is_ascii)?;
        }
        Ok(count)
    }

    /// Checks the text that came last, from `start` on.
    fn check_text(&mut self, start: usize, is_ascii: bool) -> Result<(), ProtocolError> {
        if !self.is_plain_text() {
            return Ok(());
        }
        let came = &self.bytes[start..self.filled];
        let checked = if is_ascii { self.utf8.push_ascii(came.len()) } else { self.utf8.push(came) };
        checked.map_err(|offset_bytes| ProtocolError::InvalidUtf8 { offset_bytes })
    }

    /// Copies to the end of the message and unmasks there; says whether it is all ASCII. Grows by doubling, but never beyond
    /// what is known to come.
    fn append(&mut self, came: &[u8], key: [u8; 4], limits: &Limits) -> bool {
        let needed = self.filled + came.len();
        if needed > self.bytes.capacity() {
            let frame = self.frame.as_ref().expect("called inside a frame only");
            let end_max = if frame.fin { needed as u64 + frame.missing } else { limits.message_bytes_max };
            let grown = (2 * needed).max(FIRST_RESERVATION_BYTES_MAX);
            let target = needed.max(grown.min(usize::try_from(end_max).unwrap_or(usize::MAX)));
            self.bytes.truncate(self.filled);
            self.bytes.reserve_exact(target - self.filled);
        }
        let mut is_ascii = true;
        for tile in came.chunks(TILE_BYTES) {
            let start = self.filled;
            let (over_old, new) = tile.split_at(tile.len().min(self.bytes.len() - start));
            self.bytes[start..start + over_old.len()].copy_from_slice(over_old);
            self.bytes.extend_from_slice(new);
            self.filled += tile.len();
            is_ascii &= self.unmasker.apply_to_text(&mut self.bytes[start..self.filled], key);
        }
        is_ascii
    }

    /// Ends the frame if all its bytes are here; says what that completes.
    pub(super) fn finish_frame(&mut self) -> Result<Option<Completed>, ProtocolError> {
        let Some(frame) = self.frame.filter(|frame| frame.missing == 0) else { return Ok(None) };
        self.frame = None;
        if frame.opcode.is_control() {
            return Ok(Some(Completed::Control(frame.opcode)));
        }
        if !frame.fin {
            return Ok(None);
        }
        let kind = self.message.take().expect("a data frame belongs to a message");
        if self.compressed {
            return Ok(Some(Completed::Compressed(kind)));
        }
        if kind == Kind::Text {
            self.utf8.finish().map_err(|offset_bytes| ProtocolError::InvalidUtf8 { offset_bytes })?;
        }
        Ok(Some(Completed::Message(kind)))
    }

    /// Room for the next bytes of a large frame. Memory stays below twice what has come, unless an earlier message left more.
    pub(super) fn direct_room(&mut self) -> Option<DirectRoom<'_>> {
        let frame = self.frame.as_ref().filter(|frame| frame.large)?;
        // What has to be inflated is copied anyway.
        if self.compressed {
            return None;
        }
        let missing = usize::try_from(frame.missing).unwrap_or(usize::MAX);
        let size = missing.min(self.filled.max(self.bytes.capacity() - self.filled));
        let is_rest = size == missing;
        if !is_rest && size < LARGE_FRAME_BYTES_MIN {
            return None;
        }
        let end = self.filled + size;
        if end > self.bytes.len() {
            self.bytes.reserve_exact(end - self.bytes.len());
            self.bytes.resize(end, 0);
        }
        let behind_bytes_max = if is_rest { BEHIND_BYTES_MAX } else { 0 };
        Some(DirectRoom { bytes: &mut self.bytes[self.filled..end], behind_bytes_max })
    }

    /// `count` bytes have been read into the direct room.
    pub(super) fn direct_filled(&mut self, count: usize) -> Result<(), ProtocolError> {
        let end = self.filled + count;
        let frame = self.frame.as_mut().expect("direct room was given inside a frame");
        assert!(
            end <= self.bytes.len() && count as u64 <= frame.missing,
            "more bytes than the direct room has"
        );
        let start = self.filled;
        let is_ascii = self.unmasker.apply_to_text(&mut self.bytes[start..end], frame.key);
        frame.key = rotate(frame.key, count);
        frame.missing -= count as u64;
        self.filled = end;
        self.check_text(start, is_ascii)
    }
}
