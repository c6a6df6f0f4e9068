//! Message-center messages of the router as whole WebSocket frames.

use bytes::BytesMut;
use fanwire_codec::message_center::{ErrorCode, encode_done, encode_error, encode_event};
use fanwire_codec::wamp2::Payload;
use fanwire_codec::ws;

/// One text frame around whatever `write` appends.
#[inline]
fn frame(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = ws::begin_frame(out, ws::Kind::Text);
    write(out);
    ws::end_frame(out, start);
}

pub(crate) fn event(name: &str, payload: Payload<'_>, out: &mut BytesMut) {
    frame(out, |out| encode_event(name, &payload, out));
}

pub(super) fn done(out: &mut BytesMut) {
    frame(out, encode_done);
}

pub(super) fn error(code: ErrorCode, out: &mut BytesMut) {
    frame(out, |out| encode_error(code, out));
}
