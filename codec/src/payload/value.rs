//! JSON payloads in protocols where an event or a result is one value.
//!
//! | payload | value |
//! |---|---|
//! | one argument and no keywords | the argument, byte for byte |
//! | neither | `null` |
//! | anything else | `{"args":[…],"kwargs":{…}}`, both of them always |

use bytes::BytesMut;

use crate::json;
use crate::wamp2::Payload;

/// Appends the value of a payload, which is JSON that was validated.
pub(crate) fn write_value(payload: &Payload<'_>, out: &mut BytesMut) {
    let args = payload.args.unwrap_or(b"[]");
    let kwargs = payload.kwargs.unwrap_or(b"{}");
    match (split_first(args), is_empty_dict(kwargs)) {
        (None, true) => out.extend_from_slice(b"null"),
        (Some((value, b"")), true) => out.extend_from_slice(value),
        _ => {
            for part in [&br#"{"args":"#[..], args, br#","kwargs":"#, kwargs, b"}"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// The first element of a list, and what is written behind its comma, without the bracket. That is not walked over.
pub(crate) fn split_first(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let list = list.trim_ascii();
    let inside = list.get(1..list.len() - 1)?.trim_ascii();
    let end = json::skip_value(inside, 0, json::DEPTH_MAX).ok()?;
    let rest = inside[end..].trim_ascii_start();
    Some((&inside[..end], rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start()))
}

/// Whether a dictionary has no pair.
pub(crate) fn is_empty_dict(dict: &[u8]) -> bool {
    let inside = json::skip_whitespace(dict, json::skip_whitespace(dict, 0) + 1);
    dict.get(inside) == Some(&b'}')
}
