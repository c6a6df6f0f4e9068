//! Messages of WAMP version 1 as whole WebSocket frames.

use bytes::BytesMut;
use fanwire_codec::wamp1::{encode_error, encode_event, encode_refusal, encode_result, encode_welcome};
use fanwire_codec::wamp2::Payload;
use fanwire_codec::ws;

use crate::ids::{SessionId, SubscriptionId};
use crate::session::error;

/// One text frame around whatever `write` appends.
#[inline]
fn frame(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = ws::begin_frame(out, ws::Kind::Text);
    write(out);
    ws::end_frame(out, start);
}

pub(super) fn welcome(session: SessionId, server: &str, out: &mut BytesMut) {
    frame(out, |out| encode_welcome(session.get(), server, out));
}

pub(crate) fn event(topic: &str, payload: Payload<'_>, out: &mut BytesMut) {
    frame(out, |out| encode_event(topic, &payload, out));
}

/// An event that says what of another subscription was lost.
pub(crate) fn gap(topic: &str, of: SubscriptionId, lost: u64, reason: &str, out: &mut BytesMut) {
    let args = format!(r#"[{{"subscription":{},"lost":{lost},"reason":"{reason}"}}]"#, of.get());
    event(topic, Payload { args: Some(args.as_bytes()), kwargs: None, ..Payload::EMPTY }, out);
}

pub(super) fn result(call_id: &str, payload: Payload<'_>, out: &mut BytesMut) {
    frame(out, |out| encode_result(call_id, &payload, out));
}

pub(super) fn call_error(call_id: &str, uri: &str, payload: Payload<'_>, out: &mut BytesMut) {
    frame(out, |out| encode_error(call_id, in_version_1(uri), &payload, out));
}

/// An error of the router's own making; the words are its description.
pub(super) fn refusal(call_id: &str, uri: &str, words: &str, out: &mut BytesMut) {
    frame(out, |out| encode_refusal(call_id, in_version_1(uri), words, out));
}

/// The one error that both versions have and call otherwise.
fn in_version_1(uri: &str) -> &str {
    if uri == error::NO_SUCH_PROCEDURE { NO_SUCH_ENDPOINT } else { uri }
}

const NO_SUCH_ENDPOINT: &str = "http://api.wamp.ws/error#NoSuchRPCEndpoint";
