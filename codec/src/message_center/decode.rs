//! A message's bytes to what it asks for.

use std::borrow::Cow;

use super::ErrorCode;
use crate::json;
use crate::wamp2::{JsonReader, Kind, Reader};

/// What a client asks for. Strings are borrowed unless they have escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// To be let in, as whoever the token stands for.
    Auth {
        /// As the client sent it.
        token: Cow<'a, str>,
    },
    /// To get the events of a channel.
    Subscribe {
        /// Its name, in the client's words.
        channel: Cow<'a, str>,
    },
    /// To get them no more.
    Unsubscribe {
        /// The same name.
        channel: Cow<'a, str>,
    },
}

/// Reads one message.
///
///     use fanwire_codec::message_center::{ErrorCode, Op, decode};
///     let op = decode(br#"{"op": "subscribe", "channel": "@user"}"#);
///     assert_eq!(op, Ok(Op::Subscribe { channel: "@user".into() }));
///     assert_eq!(decode(br#"{"op": "publish"}"#), Err(ErrorCode::UnknownOp));
///
/// # Errors
///
/// The one that the client is to be told.
pub fn decode(bytes: &[u8]) -> Result<Op<'_>, ErrorCode> {
    let Fields { op, token, channel } = Fields::read(&mut JsonReader::new(bytes, json::DEPTH_MAX))?;
    let channel = || channel.text().ok_or(ErrorCode::InvalidChannel);
    match op.text().as_deref() {
        Some("auth") => Ok(Op::Auth { token: token.text().ok_or(ErrorCode::AuthFailed)? }),
        Some("subscribe") => Ok(Op::Subscribe { channel: channel()? }),
        Some("unsubscribe") => Ok(Op::Unsubscribe { channel: channel()? }),
        _ => Err(ErrorCode::UnknownOp),
    }
}

/// What a message says that it is, if it is an object and says so.
pub fn op(bytes: &[u8]) -> Option<Cow<'_, str>> {
    Fields::read(&mut JsonReader::new(bytes, json::DEPTH_MAX)).ok()?.op.text()
}

/// Whether this is an `op` of the protocol.
pub fn is_op(op: &str) -> bool {
    matches!(op, "auth" | "subscribe" | "unsubscribe")
}

/// The fields that are looked at.
#[derive(Default)]
struct Fields<'a> {
    op: Field<'a>,
    token: Field<'a>,
    channel: Field<'a>,
}

#[derive(Default)]
enum Field<'a> {
    #[default]
    Missing,
    Text(Cow<'a, str>),
    /// There, and not a string.
    Other,
}

impl<'a> Field<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl<'a> Fields<'a> {
    /// Reads the whole message: what follows the last field that matters must be JSON too.
    fn read(reader: &mut JsonReader<'a>) -> Result<Self, ErrorCode> {
        if reader.kind()? != Kind::Dict {
            return Err(ErrorCode::InvalidJson);
        }
        let mut fields = Self::default();
        let mut pairs = reader.dict()?;
        while let Some(key) = reader.next_key(&mut pairs)? {
            let field = match &*key {
                "op" => &mut fields.op,
                "token" => &mut fields.token,
                "channel" => &mut fields.channel,
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            if !matches!(field, Field::Missing) {
                return Err(ErrorCode::InvalidJson);
            }
            *field = if reader.kind()? == Kind::String {
                Field::Text(reader.string()?)
            } else {
                reader.skip()?;
                Field::Other
            };
        }
        reader.finish()?;
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_any_order_and_with_escapes() {
        let channel = || Cow::Borrowed("@user");
        for (text, op) in [
            (r#"{"op":"auth","token":"***"}"#, Op::Auth { token: "***".into() }),
            (r#"{"token":"a\"\u00e9\\","op":"auth"}"#, Op::Auth { token: "a\"é\\".into() }),
            (r#"{"op":"auth","token":""}"#, Op::Auth { token: "".into() }),
            (r#"{"op":"subscribe","channel":"@user"}"#, Op::Subscribe { channel: channel() }),
            (
                " {\"channel\" : \"@user\",\r\n\t\"op\":\"unsubscribe\" } ",
                Op::Unsubscribe { channel: channel() },
            ),
            (
                r#"{"id":[{"op":1}],"op":"subscribe","channel":"@user","x":null}"#,
                Op::Subscribe { channel: channel() },
            ),
            (r#"{"\u006fp":"subscribe","channel":"\u0040user"}"#, Op::Subscribe { channel: channel() }),
        ] {
            assert_eq!(decode(text.as_bytes()), Ok(op), "{text}");
        }
    }

    #[test]
    fn each_mistake_has_its_error() {
        use ErrorCode::{AuthFailed, InvalidChannel, InvalidJson, UnknownOp};
        for (text, code) in [
            (&b""[..], InvalidJson),
            (b"hello", InvalidJson),
            (br#"["op","auth"]"#, InvalidJson),
            (br#"{"op":"auth","token":"a"} x"#, InvalidJson),
            (br#"{"op":"auth","token":"a""#, InvalidJson),
            (br#"{"op":"auth","token":"a",}"#, InvalidJson),
            (b"{\"op\":\"auth\",\"token\":\"\xff\"}", InvalidJson),
            // As the article prints it.
            ("{“op”:“auth”,“token”:“a”}".as_bytes(), InvalidJson),
            (br#"{"op":"auth","op":"subscribe","channel":"@user","token":"a"}"#, InvalidJson),
            (br#"{"op":"subscribe","channel":"@user","channel":"@other"}"#, InvalidJson),
            (b"{}", UnknownOp),
            (br#"{"op":7}"#, UnknownOp),
            (br#"{"op":"Auth","token":"a"}"#, UnknownOp),
            (br#"{"op":"publish","channel":"@user"}"#, UnknownOp),
            (br#"{"op":"auth"}"#, AuthFailed),
            (br#"{"op":"auth","token":null}"#, AuthFailed),
            (br#"{"op":"subscribe"}"#, InvalidChannel),
            (br#"{"op":"unsubscribe","channel":["@user"]}"#, InvalidChannel),
        ] {
            assert_eq!(decode(text), Err(code), "{}", String::from_utf8_lossy(text));
        }
    }
}
