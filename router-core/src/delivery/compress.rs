//! Compression of what goes out (RFC 7692), in three ways:
//!
//! * a *compressed stream*'s frames are compressed when they are appended: once for all of its members;
//! * the replies of their connections are compressed when they are said, each for itself;
//! * a connection with an [`Encoder`] of its own, because its messages refer to those before them or its window is not
//!   everybody's, is a member of plain streams; what it is due is compressed for it alone when it is written, in the
//!   order of the wire. Only there a context that both sides keep can be right.

use bytes::BytesMut;
use fanwire_codec::ws::deflate::{Agreement, Context, Deflater, WINDOW_BITS_MIN, compress_frame};

use super::outbox::{Body, Outbox};
use super::{Delivery, Outlet, Run, flag};
use crate::clock::Instant;
use crate::config::Compression;
use crate::counters::Counters;
use crate::encoding::Framing;
use crate::mutation::{Mutation, planted};

/// The compressors of a shard, made when they are needed first: two windows, those of the policy and the smallest.
#[derive(Debug, Default)]
pub(super) struct Compressors {
    config: Option<Compression>,
    by_window: [Option<Box<Deflater>>; WINDOWS],
    /// A frame on its way through an encoder.
    scratch: BytesMut,
}

/// How frames are made for one connection, unless they are plain.
#[derive(Debug)]
pub(super) enum Encoder {
    /// As for all: replies when they are said, events with their stream.
    Shared(Framing),
    /// They are compressed when they are written; what they are before that, as for all.
    Own { window_bits: u8, context: Option<Context>, before: Framing },
}

impl Compressors {
    pub(super) fn new(config: Option<Compression>) -> Self {
        Self { config, ..Self::default() }
    }

    /// Compresses the frame at `out[at..]` as all members of a compressed stream get it.
    pub(super) fn compress_for_all(&mut self, out: &mut BytesMut, at: usize, counters: &mut Counters) {
        let Some(config) = &self.config else { return };
        if out.len() - at < config.threshold_bytes {
            return;
        }
        let (level, window_bits) = (config.level, config.policy.window_bits);
        let deflater = deflater(&mut self.by_window, level, window_bits);
        if let Some((before, after)) = compress_frame(out, at, deflater, None) {
            counters.deflated_frames += 1;
            counters.deflated_bytes_in += before as u64;
            counters.deflated_bytes_out += after as u64;
        }
    }

    /// `frame` as one connection gets it.
    fn compress_for_one(
        &mut self,
        frame: &[u8],
        window_bits: u8,
        context: Option<&mut Context>,
        counters: &mut Counters,
    ) -> &[u8] {
        self.scratch.clear();
        self.scratch.extend_from_slice(frame);
        if let Some(config) = &self.config
            && (context.is_some() || frame.len() >= config.threshold_bytes)
        {
            let deflater = deflater(&mut self.by_window, config.level, window_bits);
            if let Some((before, after)) = compress_frame(&mut self.scratch, 0, deflater, context) {
                counters.deflated_frames_alone += 1;
                counters.deflated_bytes_in += before as u64;
                counters.deflated_bytes_out += after as u64;
            }
        }
        &self.scratch
    }
}

fn deflater(by_window: &mut [Option<Box<Deflater>>; WINDOWS], level: u8, window_bits: u8) -> &mut Deflater {
    by_window[usize::from(window_bits - WINDOW_BITS_MIN)]
        .get_or_insert_with(|| Box::new(Deflater::new(level, window_bits)))
}

impl Delivery {
    /// What is agreed to in handshakes; `None`: nothing is compressed.
    pub fn compression(&self) -> Option<&Compression> {
        self.compressors.config.as_ref()
    }

    /// Compresses from now on what goes to this connection. True: it takes part in compressed streams.
    pub fn use_compression(&mut self, now: Instant, outlet: Outlet, agreement: &Agreement) -> bool {
        let Some(policy) = self.compression().map(|config| config.policy) else { return false };
        if self.is_closed(outlet) {
            return false;
        }
        let server = agreement.server;
        let before = self.framing_of_replies(outlet);
        let shared = !server.takeover && server.window_bits == policy.window_bits;
        let encoder = if shared {
            Encoder::Shared(before.deflated())
        } else {
            // What was said before, the answer to the handshake, goes as it is.
            self.settle_due(now, outlet);
            self.flags[outlet.index()] |= flag::ENCODED;
            Encoder::Own { window_bits: server.window_bits, context: server.context(), before }
        };
        self.set_encoder(outlet, encoder);
        shared
    }

    pub(super) fn set_encoder(&mut self, outlet: Outlet, encoder: Encoder) {
        if self.encoders.len() <= outlet.index() {
            self.encoders.resize_with(outlet.index() + 1, || None);
        }
        self.encoders[outlet.index()] = Some(Box::new(encoder));
    }

    /// The connection's frames are as they were written again.
    pub(super) fn forget_encoder(&mut self, outlet: Outlet) {
        if planted(Mutation::EncoderOutlivesConnection) {
            return;
        }
        if let Some(encoder) = self.encoders.get_mut(outlet.index()) {
            *encoder = None;
        }
    }

    /// What replies are made when they are said.
    #[inline]
    pub(super) fn framing_of_replies(&self, outlet: Outlet) -> Framing {
        match self.encoders.get(outlet.index()) {
            Some(Some(encoder)) => match **encoder {
                Encoder::Shared(framing) | Encoder::Own { before: framing, .. } => framing,
            },
            _ => Framing::Plain,
        }
    }

    /// Compresses the reply at `at` for a connection with an encoder of its own when it is said: a planted bug.
    #[cfg(feature = "mutations")]
    pub(super) fn encode_too_early(&mut self, outlet: Outlet, at: usize) {
        let Self { outlets, encoders, compressors, counters, .. } = self;
        let encoder = encoders.get_mut(outlet.index()).and_then(Option::as_deref_mut);
        let Some(Encoder::Own { window_bits, context: Some(context), .. }) = encoder else { return };
        let outbox = outlets[outlet.index()].outbox.as_mut().expect("it has a reply");
        let reply = outbox.replies.split_off(at);
        let encoded = compressors.compress_for_one(&reply, *window_bits, Some(context), counters);
        outbox.replies.extend_from_slice(encoded);
        outbox.marks.last_mut().expect("as above").end = outbox.replies.len();
    }

    /// One frame as a connection with an encoder of its own gets it next.
    pub(super) fn encode_frame(&mut self, outlet: Outlet, frame: &[u8]) -> Body {
        let Self { encoders, compressors, counters, .. } = self;
        let Some(Encoder::Own { window_bits, context, .. }) = encoders[outlet.index()].as_deref_mut() else {
            unreachable!("the flag says that it has an encoder");
        };
        let encoded = compressors.compress_for_one(frame, *window_bits, context.as_mut(), counters);
        Body::Owned(BytesMut::from(encoded))
    }

    /// Moves a run's frames into the backlog of a connection with an encoder of its own.
    pub(super) fn encode(&mut self, now: Instant, outlet: Outlet, run: Run) {
        let Self { streams, outlets, encoders, compressors, counters, .. } = self;
        let outbox = outlets[outlet.index()].outbox.as_mut().expect("the caller has put it there");
        let Some(Encoder::Own { window_bits, context, .. }) = encoders[outlet.index()].as_deref_mut() else {
            unreachable!("the flag says that it has an encoder");
        };
        let ages = run.event_of.is_some();
        let replies = std::mem::take(&mut outbox.replies);
        let start =
            |frame: u64, outbox: &Outbox| if frame == 0 { 0 } else { outbox.marks[frame as usize - 1].end };
        for frame in run.from..run.to {
            let reply = match run.source {
                None => start(frame, outbox)..start(frame + 1, outbox),
                Some(_) => 0..0,
            };
            let mut each = |bytes: &[u8]| {
                if let Some(waiting) = outbox.waiting.as_mut().filter(|waiting| !waiting.is_empty()) {
                    // Behind what may still be dropped: the context must not have it before.
                    counters.outbox_bytes += bytes.len() as u64;
                    return waiting.push_fixed_copy(now, bytes, ages, true);
                }
                let bytes = compressors.compress_for_one(bytes, *window_bits, context.as_mut(), counters);
                counters.outbox_bytes += bytes.len() as u64;
                outbox.push_copy(bytes, ages, now);
            };
            match run.source {
                None => each(&replies[reply]),
                // A frame lies in one chunk.
                Some(id) => {
                    let stream = streams[id.index()].as_ref().expect("the stream is alive");
                    stream.for_each_slice(frame, frame + 1, 0, each);
                }
            }
            outbox.credit(u64::from(run.event_of.is_some()), 1);
        }
        outbox.replies = replies;
    }
}

/// From the smallest window to the largest.
const WINDOWS: usize = 7;
