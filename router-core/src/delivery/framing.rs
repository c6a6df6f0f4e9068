//! From plain WebSocket frames, as every protocol writes them, to what goes to connections with another framing: compressed
//! frames, batches, RawSocket frames. Made when a frame is appended to a stream or said to a connection, so once for all who
//! get it.

use bytes::BytesMut;
use fanwire_codec::rawsocket;
use fanwire_codec::wamp2::batch;

use super::compress::{Compressors, Encoder};
use super::{Delivery, Outlet};
use crate::counters::Counters;
use crate::encoding::Framing;

impl Compressors {
    /// Makes the frame at `out[at..]` what `framing` says. False: it is too long for that, and nothing is left of it.
    pub(super) fn frame_for_all(
        &mut self,
        framing: Framing,
        out: &mut BytesMut,
        at: usize,
        counters: &mut Counters,
    ) -> bool {
        match framing {
            Framing::Plain => {}
            Framing::Deflated => self.compress_for_all(out, at, counters),
            Framing::Batched => batch::make_batch(out, at),
            Framing::BatchedDeflated => {
                batch::make_batch(out, at);
                self.compress_for_all(out, at, counters);
            }
            Framing::Raw(max) => return rawsocket::reframe(out, at, max),
        }
        true
    }
}

impl Delivery {
    /// Messages to this connection are framed so from now on.
    pub fn use_framing(&mut self, outlet: Outlet, framing: Framing) {
        if framing != Framing::Plain && !self.is_closed(outlet) {
            self.set_encoder(outlet, Encoder::Shared(framing));
        }
    }
}
