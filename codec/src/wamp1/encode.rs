//! What clients are told, appended to a buffer. Payloads are JSON that was validated.

use bytes::{BufMut, BytesMut};

use crate::json;
use crate::payload::{is_empty_dict, split_first, write_value};
use crate::wamp2::Payload;

/// The first message: the session's id, and who the server is.
pub fn encode_welcome(session: u64, server: &str, out: &mut BytesMut) {
    out.put_slice(br#"[0,""#);
    json::write_u64(out, session);
    out.put_slice(br#"",1,"#);
    json::write_string(out, server);
    out.put_u8(b']');
}

/// An event: one argument without keywords is the event itself, in the publisher's own bytes; no argument at all is `null`;
/// whatever else there may be is `{"args":[…],"kwargs":{…}}`.
pub fn encode_event(topic: &str, payload: &Payload<'_>, out: &mut BytesMut) {
    out.put_slice(b"[8,");
    json::write_string(out, topic);
    out.put_u8(b',');
    write_value(payload, out);
    out.put_u8(b']');
}

/// A call's result, which is a value in the same way.
pub fn encode_result(call_id: &str, payload: &Payload<'_>, out: &mut BytesMut) {
    out.put_slice(b"[3,");
    json::write_string(out, call_id);
    out.put_u8(b',');
    write_value(payload, out);
    out.put_u8(b']');
}

/// A call's error of the callee's making: if its first argument is a string that is the description, and the URI otherwise. What
/// else there is are the details, a value in the same way; none where there is nothing.
pub fn encode_error(call_id: &str, uri: &str, payload: &Payload<'_>, out: &mut BytesMut) {
    begin_error(call_id, uri, out);
    let args = payload.args.unwrap_or(b"[]");
    let is_empty = payload.kwargs.is_none_or(is_empty_dict);
    match split_first(args) {
        Some((description, rest)) if is_text(description) => {
            out.put_slice(description);
            if !rest.is_empty() || !is_empty {
                out.put_u8(b',');
                // A list again, and a value by the same rule.
                let rest = [b"[", rest, b"]"].concat();
                write_value(&Payload { args: Some(&rest), kwargs: payload.kwargs, ..Payload::EMPTY }, out);
            }
        }
        first => {
            json::write_string(out, uri);
            if first.is_some() || !is_empty {
                out.put_u8(b',');
                write_value(payload, out);
            }
        }
    }
    out.put_u8(b']');
}

/// A call's error of the router's making.
pub fn encode_refusal(call_id: &str, uri: &str, words: &str, out: &mut BytesMut) {
    begin_error(call_id, uri, out);
    json::write_string(out, words);
    out.put_u8(b']');
}

fn begin_error(call_id: &str, uri: &str, out: &mut BytesMut) {
    out.put_slice(b"[4,");
    json::write_string(out, call_id);
    out.put_u8(b',');
    json::write_string(out, uri);
    out.put_u8(b',');
}

/// A string, and not one that means binary (WAMP, "Binary support in JSON").
fn is_text(value: &[u8]) -> bool {
    value.starts_with(b"\"") && !value.starts_with(br#""\u0000"#)
}
