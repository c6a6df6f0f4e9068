//! Compressing: one machine for all connections of a shard.

use std::fmt;

use bytes::{BufMut, BytesMut};
use zlib_rs::{DeflateFlush, Status};

use super::super::header::{self, Opcode};
use super::super::{Kind, mask};
use super::{Context, TAIL, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// Compresses messages, each for itself or, with a [`Context`], after what went before on its connection.
///
/// Memory: about 300 KiB for a window of 15 bits, and a buffer of the largest message, kept up to 64 KiB. One serves
/// any number of connections; where a [`Context`] is used, both have to be made for the agreed window.
pub struct Deflater {
    machine: zlib_rs::Deflate,
    /// Where the compressed bytes come to lie until it is known how many they are.
    scratch: Vec<u8>,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// A compressor of `level` 1 (fast) to 9 (small) that refers back 2^`window_bits` bytes at most.
    ///
    /// # Panics
    ///
    /// When `level` is not in 1..=9 or `window_bits` not in 9..=15.
    pub fn new(level: u8, window_bits: u8) -> Self {
        assert!((1..=9).contains(&level), "level {level} of 1 to 9");
        assert!(
            (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits),
            "window bits {window_bits} of 9 to 15"
        );
        Self { machine: zlib_rs::Deflate::new(i32::from(level), false, window_bits), scratch: Vec::new() }
    }

    /// The message `parts`, compressed, without the tail (RFC 7692, 7.2.1), and then a part of `context`. `None` when that
    /// makes it no smaller: then send it as it is. With a context it may grow a little, because the messages after it
    /// gain by that.
    fn compress(&mut self, parts: &[&[u8]], context: Option<&mut Context>) -> Option<&[u8]> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let most = if context.is_some() { length + length / 16 + 16 } else { length.checked_sub(1)? };
        self.machine.reset();
        if let Some(context) = &context
            && !context.bytes().is_empty()
        {
            self.machine.set_dictionary(context.bytes()).expect("a fresh machine takes a dictionary");
        }
        self.scratch.clear();
        let room = length + length / 8 + ROOM_BYTES;
        if self.scratch.capacity() > KEEP_BYTES && room <= KEEP_BYTES {
            self.scratch = Vec::new();
        }
        self.scratch.reserve(room);
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            self.feed(part, if last { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush });
        }
        let compressed = self.scratch.strip_suffix(&TAIL).filter(|compressed| compressed.len() <= most)?;
        if let Some(context) = context {
            parts.iter().for_each(|part| context.push(part));
        }
        // RFC 7692, 7.2.3.6: never nothing, an empty message is the first byte of an empty block.
        debug_assert!(!compressed.is_empty());
        Some(compressed)
    }

    /// Feeds one part whole. Not given up before that, however little comes of it: zlib-rs 0.6.8 does not forget all of
    /// what it has not written at a reset, and panics later.
    fn feed(&mut self, mut part: &[u8], flush: DeflateFlush) {
        loop {
            self.scratch.reserve(ROOM_BYTES);
            let used = self.scratch.len();
            let spare = self.scratch.spare_capacity_mut();
            let offered = spare.len();
            let (read, written) = (self.machine.total_in(), self.machine.total_out());
            let status = self.machine.compress_uninit(part, spare, flush).expect("the machine is sound");
            debug_assert_ne!(status, Status::StreamEnd);
            let read = (self.machine.total_in() - read) as usize;
            let written = (self.machine.total_out() - written) as usize;
            // SAFETY: the machine has written this many bytes at the front of the spare capacity.
            unsafe { self.scratch.set_len(used + written) };
            part = &part[read..];
            if part.is_empty() && written < offered {
                return;
            }
        }
    }
}

/// Compresses the frame at `out[at..]`, one whole unmasked message as the server's writers append it, where that makes it
/// smaller. Anything else stays as it is: control frames, a message that is compressed already. Returns the payload's
/// length before and after if it was compressed.
pub fn compress_frame(
    out: &mut BytesMut,
    at: usize,
    deflater: &mut Deflater,
    context: Option<&mut Context>,
) -> Option<(usize, usize)> {
    let frame = &out[at..];
    let (opcode, payload) = header::server_frame(frame).filter(|(opcode, _)| !opcode.is_control())?;
    let payload = &frame[payload];
    let before = payload.len();
    let compressed = deflater.compress(&[payload], context)?;
    out.truncate(at);
    put_compressed(out, opcode, compressed, None);
    Some((before, compressed.len()))
}

/// Appends one message of the server, compressed where that makes it smaller. `context` is that of
/// [`Direction::context`](super::Direction::context), if the server takes it over.
pub fn write_deflated_message(
    out: &mut BytesMut,
    kind: Kind,
    parts: &[&[u8]],
    deflater: &mut Deflater,
    context: Option<&mut Context>,
) {
    match deflater.compress(parts, context) {
        Some(compressed) => put_compressed(out, kind.into(), compressed, None),
        None => super::super::write_message(out, kind, parts),
    }
}

/// Appends one message of the client, masked, compressed where that makes it smaller.
pub fn write_client_deflated_message(
    out: &mut BytesMut,
    kind: Kind,
    parts: &[&[u8]],
    mask_key: [u8; 4],
    deflater: &mut Deflater,
    context: Option<&mut Context>,
) {
    match deflater.compress(parts, context) {
        Some(compressed) => put_compressed(out, kind.into(), compressed, Some(mask_key)),
        None => super::super::write_client_message(out, kind, parts, mask_key),
    }
}

fn put_compressed(out: &mut BytesMut, opcode: Opcode, compressed: &[u8], mask_key: Option<[u8; 4]>) {
    let start = out.len();
    let header = header::header(opcode, compressed.len() as u64);
    out.reserve(header.as_bytes().len() + 4 + compressed.len());
    out.put_slice(header.as_bytes());
    // RFC 7692, 6: RSV1 says that the message is compressed.
    out[start] |= header::RSV1;
    if let Some(key) = mask_key {
        out[start + 1] |= 0x80;
        out.put_slice(&key);
    }
    let payload = out.len();
    out.put_slice(compressed);
    if let Some(key) = mask_key {
        mask::apply(&mut out[payload..], key, 0);
    }
}

/// More than the tail and what DEFLATE adds to a short message.
const ROOM_BYTES: usize = 64;

/// A buffer above this is given up when the next message needs less.
const KEEP_BYTES: usize = 64 * 1024;
