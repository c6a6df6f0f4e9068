//! Inflating: one machine for all connections of a shard, bounded by the message limit.

use std::fmt;

use zlib_rs::{InflateFlush, Status};

use super::super::{Limits, ProtocolError};
use super::{Context, TAIL, WINDOW_BITS_MAX};

/// What has been inflated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inflated {
    /// Compressed messages.
    pub messages: u64,
    /// Their bytes as they came.
    pub bytes_in: u64,
    /// Their bytes as they were handed out.
    pub bytes_out: u64,
}

/// Inflates whole messages. Memory: 48 KiB.
pub(in super::super) struct Inflater {
    machine: zlib_rs::Inflate,
    pub(in super::super) done: Inflated,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        // The largest window reads what was made for any.
        Self { machine: zlib_rs::Inflate::new(false, WINDOW_BITS_MAX), done: Inflated::default() }
    }
}

/// How a piece of input ended.
enum Ended {
    /// All of it is read, the stream goes on.
    Input,
    /// A final block came; what is left of the piece is not part of its stream.
    Stream,
}

impl Inflater {
    /// Inflates the message `input` to the front of `out`, and returns its length. Growing, `out` gets never longer than
    /// the message limit and one byte.
    pub(in super::super) fn inflate(
        &mut self,
        input: &[u8],
        context: Option<&Context>,
        out: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<usize, ProtocolError> {
        let before = context.map_or(&[][..], Context::bytes);
        let mut output = Output::new(out, input.len(), limits);
        self.restart(before);
        let mut rest = input;
        let mut streams = 1;
        while !rest.is_empty() {
            match self.feed(&mut rest, &mut output)? {
                Ended::Input => break,
                // RFC 7692, 7.2.3.5: a final block ends a stream, not the message. Peers are known to end a message with
                // it, without the byte of an empty block after it.
                Ended::Stream if rest.is_empty() => return Ok(self.count(input, &output)),
                Ended::Stream => {
                    streams += 1;
                    if streams > STREAMS_MAX {
                        return Err(ProtocolError::InvalidDeflate);
                    }
                    self.restart(&[before, output.bytes()].concat());
                }
            }
        }
        // An empty payload has no block of which the tail could be the end; it is taken for an empty message.
        if !input.is_empty() {
            let mut tail = &TAIL_AND_END[..];
            match self.feed(&mut tail, &mut output)? {
                Ended::Stream if tail.is_empty() => {}
                _ => return Err(ProtocolError::InvalidDeflate),
            }
        }
        Ok(self.count(input, &output))
    }

    fn count(&mut self, input: &[u8], output: &Output<'_>) -> usize {
        self.done.messages += 1;
        self.done.bytes_in += input.len() as u64;
        self.done.bytes_out += output.filled as u64;
        output.filled
    }

    /// A fresh stream that may refer to the end of `before`.
    fn restart(&mut self, before: &[u8]) {
        self.machine.reset(false);
        if !before.is_empty() {
            let window = &before[before.len().saturating_sub(1 << WINDOW_BITS_MAX)..];
            self.machine.set_dictionary(window).expect("a raw stream takes a dictionary");
        }
    }

    /// Reads from the front of `input` until its end or that of the stream.
    fn feed(&mut self, input: &mut &[u8], output: &mut Output<'_>) -> Result<Ended, ProtocolError> {
        loop {
            let room = output.room();
            let (read, written) = (self.machine.total_in(), self.machine.total_out());
            let status = self
                .machine
                .decompress(input, room, InflateFlush::NoFlush)
                .map_err(|_| ProtocolError::InvalidDeflate)?;
            let read = (self.machine.total_in() - read) as usize;
            let written = (self.machine.total_out() - written) as usize;
            let room_left = room.len() > written;
            *input = &input[read..];
            output.fill(written)?;
            match status {
                Status::StreamEnd => return Ok(Ended::Stream),
                // With room to write, all that was read has been written.
                Status::Ok | Status::BufError if input.is_empty() && (room_left || written == 0) => {
                    return Ok(Ended::Input);
                }
                Status::Ok | Status::BufError if read == 0 && written == 0 => {
                    return Err(ProtocolError::InvalidDeflate);
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

/// Where a message is inflated to.
struct Output<'a> {
    out: &'a mut Vec<u8>,
    filled: usize,
    bytes_max: u64,
    first_bytes: usize,
}

impl<'a> Output<'a> {
    fn new(out: &'a mut Vec<u8>, input_bytes: usize, limits: &Limits) -> Self {
        let first_bytes = input_bytes.saturating_mul(RATIO_EXPECTED).max(FIRST_BYTES_MIN);
        Self { out, filled: 0, bytes_max: limits.message_bytes_max, first_bytes }
    }

    fn bytes(&self) -> &[u8] {
        &self.out[..self.filled]
    }

    /// At least one byte; `filled` is at most the limit.
    fn room(&mut self) -> &mut [u8] {
        let most = usize::try_from(self.bytes_max.saturating_add(1)).unwrap_or(usize::MAX);
        if self.filled == self.out.len() {
            let length = self.out.capacity().max(self.first_bytes).max(2 * self.filled).min(most);
            self.out.reserve_exact(length - self.filled);
            self.out.resize(length, 0);
        }
        let end = self.out.len().min(most);
        &mut self.out[self.filled..end]
    }

    fn fill(&mut self, written: usize) -> Result<(), ProtocolError> {
        self.filled += written;
        let (bytes, bytes_max) = (self.filled as u64, self.bytes_max);
        if bytes > bytes_max { Err(ProtocolError::MessageTooLarge { bytes, bytes_max }) } else { Ok(()) }
    }
}

/// The tail that the sender left out (RFC 7692, 7.2.2), then an empty final block of ours: only a message that was
/// whole makes the stream end exactly there.
const TAIL_AND_END: [u8; 6] = {
    let [a, b, c, d] = TAIL;
    [a, b, c, d, 0x03, 0x00]
};

/// Streams that a message may consist of. No known client sends more than one, and each costs us a new beginning.
const STREAMS_MAX: u32 = 16;

/// How much a message is expected to grow: one allocation for most.
const RATIO_EXPECTED: usize = 4;

const FIRST_BYTES_MIN: usize = 1024;
