//! Payloads of protocols that know plain bytes alone, such as Redis's: what becomes of them, and what they get.
//!
//! | bytes | payload | |
//! |---|---|---|
//! | UTF-8 that does not begin with U+0000 | one argument, a string | both ways, byte for byte |
//! | any others | one argument, binary | both ways, byte for byte |
//! | nothing | no arguments | from payload to bytes only; an empty message is an empty string |
//! | JSON text of the value | one argument that is neither | that way only |
//! | JSON text `{"args":[…],"kwargs":{…}}` | several arguments, or keywords | that way only; what is not there is left out |
//!
//! A string that begins with U+0000 would mean binary to receivers that use JSON; as binary it reaches them whole.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::{OwnedPayload, SharedPayload, TranscodeError};
use crate::json;
use crate::msgpack::{self, Head};
use crate::wamp2::{Payload, Serializer};

/// What receivers of plain bytes get of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// The bytes.
    pub bytes: Cow<'a, [u8]>,
    /// Whether they were sent as binary: they are UTF-8 for sure only if not.
    pub is_binary: bool,
}

impl<'a> Plain<'a> {
    /// Of a payload in MessagePack: the content of its one argument, if that is a string or binary.
    pub fn of_packed(payload: Payload<'a>) -> Option<Self> {
        let args = payload.args.filter(|_| payload.kwargs.is_none())?;
        let (Head::List(1), at) = msgpack::read_head(args, 0).ok()? else { return None };
        let (length, is_binary, at) = match msgpack::read_head(args, at).ok()? {
            (Head::String(length), at) => (length, false, at),
            (Head::Binary(length), at) => (length, true, at),
            _ => return None,
        };
        Some(Self { bytes: Cow::Borrowed(args.get(at..at + length)?), is_binary })
    }

    /// Text that had to be made.
    fn text(text: Vec<u8>) -> Self {
        Self { bytes: Cow::Owned(text), is_binary: false }
    }
}

impl SharedPayload {
    /// The plain bytes of the payload, by the table above. A translation that this needs is made once.
    ///
    /// # Errors
    ///
    /// What has no form in JSON, if it is not plain.
    pub fn plain(&self) -> Result<Plain<'_>, TranscodeError> {
        let original = self.original();
        let view = original.view();
        if view.args.is_none() && view.kwargs.is_none() {
            return Ok(Plain::text(Vec::new()));
        }
        // JSON says by its second byte already that there is no string.
        if (original.serializer() != Serializer::Json || may_be_one_string(view.args))
            // Integers that MessagePack does not have, for example, are no strings either.
            && let Ok(packed) = self.get(Serializer::MsgPack)
            && let Some(plain) = Plain::of_packed(packed.view())
        {
            return Ok(plain);
        }
        let text = self.get(Serializer::Json)?.view();
        if let (Some(args), None) = (text.args, text.kwargs)
            && let Some(value) = only_element(args.trim_ascii())
        {
            return Ok(Plain { bytes: Cow::Borrowed(value), is_binary: false });
        }
        let mut object = Vec::new();
        write_object(text, &mut object);
        Ok(Plain::text(object))
    }
}

/// Appends the arguments of a payload in MessagePack: one string, or binary, of these parts one after the other. The parts of a
/// string must be UTF-8; one that begins with U+0000 becomes binary.
pub fn write_packed_plain<'a>(
    out: &mut BytesMut,
    is_binary: bool,
    parts: impl Iterator<Item = &'a [u8]> + Clone,
) {
    let length = parts.clone().map(<[u8]>::len).sum::<usize>();
    out.reserve(length + HEADS_BYTES);
    msgpack::write_list_head(out, 1);
    let first = parts.clone().find_map(|part| part.first());
    if is_binary || first == Some(&0) {
        msgpack::write_binary_head(out, length);
    } else {
        msgpack::write_string_head(out, length);
    }
    parts.for_each(|part| out.put_slice(part));
}

impl OwnedPayload {
    /// The payload of plain bytes.
    ///
    ///     use fanwire_codec::{payload::OwnedPayload, wamp2::Serializer};
    ///     let payload = OwnedPayload::from_plain(b"data from PHP");
    ///     assert_eq!(payload.transcode(Serializer::Json).unwrap().view().args.unwrap(), b"[\"data from PHP\"]");
    ///     let mut plain = Vec::new();
    ///     payload.write_plain(&mut plain).unwrap();
    ///     assert_eq!(plain, b"data from PHP");
    pub fn from_plain(plain: &[u8]) -> Self {
        let mut out = BytesMut::with_capacity(plain.len() + HEADS_BYTES);
        msgpack::write_list_head(&mut out, 1);
        match simdutf8::basic::from_utf8(plain) {
            Ok(text) if !text.starts_with('\0') => msgpack::write_string(&mut out, text),
            _ => {
                msgpack::write_binary_head(&mut out, plain.len());
                out.put_slice(plain);
            }
        }
        let length = out.len();
        Self::new(Serializer::MsgPack, out, length, length)
    }

    /// The payload of bytes that came as binary, text or not: one argument, binary.
    pub fn from_plain_binary(plain: &[u8]) -> Self {
        let mut out = BytesMut::with_capacity(plain.len() + HEADS_BYTES);
        msgpack::write_list_head(&mut out, 1);
        msgpack::write_binary_head(&mut out, plain.len());
        out.put_slice(plain);
        let length = out.len();
        Self::new(Serializer::MsgPack, out, length, length)
    }

    /// The payload of JSON text: its value is the one argument. `None` if it is none.
    pub fn from_plain_json(plain: &[u8]) -> Option<Self> {
        json::validate(plain, json::DEPTH_MAX - 1).ok()?;
        let mut out = BytesMut::with_capacity(plain.len() + 2);
        out.put_u8(b'[');
        out.put_slice(plain);
        out.put_u8(b']');
        let length = out.len();
        Some(Self::new(Serializer::Json, out, length, length))
    }

    /// Appends the plain bytes of the payload, by the table above.
    ///
    /// # Errors
    ///
    /// What has no form in JSON, if it is not plain. Nothing is appended then.
    pub fn write_plain(&self, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        out.extend_from_slice(&SharedPayload::new(self.clone()).plain()?.bytes);
        Ok(())
    }

    /// Appends JSON text: of the one argument, strings too, or of an object of all of them.
    ///
    /// # Errors
    ///
    /// What has no form in JSON. Nothing is appended then.
    pub fn write_plain_json(&self, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let text = self.transcode(Serializer::Json)?;
        let view = text.view();
        match (view.args.map(<[u8]>::trim_ascii), view.kwargs) {
            (None, None) => out.extend_from_slice(b"null"),
            (Some(args), None) if let Some(value) = only_element(args) => out.extend_from_slice(value),
            _ => write_object(view, out),
        }
        Ok(())
    }
}

/// Appends all arguments of a payload in JSON.
fn write_object(view: Payload<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in [(&b"\"args\":"[..], view.args), (b"\"kwargs\":", view.kwargs)] {
        let Some(value) = value else { continue };
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.extend_from_slice(value.trim_ascii());
    }
    out.push(b'}');
}

/// Whether JSON arguments begin with a string.
fn may_be_one_string(args: Option<&[u8]>) -> bool {
    let inner = args.map(<[u8]>::trim_ascii_start).and_then(|args| args.strip_prefix(b"["));
    inner.is_some_and(|inner| inner.trim_ascii_start().starts_with(b"\""))
}

/// The element of a JSON list that has one.
fn only_element(list: &[u8]) -> Option<&[u8]> {
    let inner = list.strip_prefix(b"[")?.strip_suffix(b"]")?.trim_ascii();
    json::validate(inner, json::DEPTH_MAX).is_ok().then_some(inner)
}

/// Of a list of one and of the longest string.
const HEADS_BYTES: usize = 1 + 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(serializer: Serializer, args: Option<&[u8]>, kwargs: Option<&[u8]>) -> Vec<u8> {
        let payload = OwnedPayload::checked(serializer, args, kwargs).expect("well-formed");
        let mut out = b"before ".to_vec();
        payload.write_plain(&mut out).expect("it has a form");
        out.split_off(7)
    }

    #[test]
    fn strings_and_binary_go_as_they_are_and_the_rest_as_json() {
        let json = |args: &str, kwargs: Option<&str>| {
            let out = plain(Serializer::Json, Some(args.as_bytes()), kwargs.map(str::as_bytes));
            String::from_utf8(out).expect("text")
        };
        for (args, kwargs, expected) in [
            (r#"["hi"]"#, None, "hi"),
            (r#" [ "a\n\u00e9" ] "#, None, "a\né"),
            (r#"[""]"#, None, ""),
            (r#"["\u0000AAFi"]"#, None, "\0\u{1}b"),
            ("[1.50]", None, "1.50"),
            (r#"[{"a": [1, 2]}]"#, None, r#"{"a": [1, 2]}"#),
            ("[[]]", None, "[]"),
            ("[null]", None, "null"),
            ("[]", None, r#"{"args":[]}"#),
            (r#"["a","b"]"#, None, r#"{"args":["a","b"]}"#),
            ("[[1],[2]]", None, r#"{"args":[[1],[2]]}"#),
            (r#"["a"]"#, Some(r#"{"k":1}"#), r#"{"args":["a"],"kwargs":{"k":1}}"#),
            ("[-18446744073709551616]", None, "-18446744073709551616"),
        ] {
            assert_eq!(json(args, kwargs), expected, "{args} {kwargs:?}");
        }
        assert_eq!(plain(Serializer::MsgPack, Some(b"\x91\xc4\x03\0\xffb"), None), b"\0\xffb");
        assert_eq!(plain(Serializer::Cbor, Some(b"\x81\x62hi"), None), b"hi");
        assert_eq!(plain(Serializer::MsgPack, None, Some(b"\x81\xa1k\x01")), br#"{"kwargs":{"k":1}}"#);
        assert_eq!(plain(Serializer::Json, None, None), b"");
    }

    #[test]
    fn json_text_is_the_value() {
        let args = |text: &str| {
            OwnedPayload::from_plain_json(text.as_bytes())
                .map(|payload| String::from_utf8(payload.view().args.expect("one").to_vec()).expect("text"))
        };
        assert_eq!(args(r#"{"a":1}"#).as_deref(), Some(r#"[{"a":1}]"#));
        assert_eq!(args(" 1 ").as_deref(), Some("[ 1 ]"));
        assert_eq!(args("hello"), None);
        assert_eq!(args("1,2"), None);
        assert_eq!(args(""), None);
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(args(&deep(127)).is_some() && args(&deep(128)).is_none());
    }

    #[test]
    fn what_came_as_binary_stays_so_and_parts_are_one_value() {
        for (is_binary, parts, expected) in [
            (true, [&b"RECEIVED: "[..], b"\0\x01b"], &b"RECEIVED: \0\x01b"[..]),
            (true, [b"a", b"b"], b"ab"),
            (false, [b"", b""], b""),
            (false, [b"RECEIVED: ", &[b'x'; 300]], &[&b"RECEIVED: "[..], &[b'x'; 300]].concat()),
        ] {
            let mut args = BytesMut::new();
            write_packed_plain(&mut args, is_binary, parts.into_iter());
            let payload = OwnedPayload::checked(Serializer::MsgPack, Some(&args), None).expect("well-formed");
            for serializer in Serializer::ALL {
                let shared = SharedPayload::new(payload.transcode(serializer).expect("it has a form"));
                let plain = shared.plain().expect("it has a form");
                assert_eq!((&*plain.bytes, plain.is_binary), (expected, is_binary), "{serializer:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn plain_bytes_come_back_byte_for_byte_through_each_serializer(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                "\\PC{0,80}".prop_map(String::into_bytes),
                (0..70_000_usize).prop_map(|length| vec![b'x'; length]),
                "\0\\PC{0,9}".prop_map(String::into_bytes),
            ],
        ) {
            for serializer in Serializer::ALL {
                let payload = OwnedPayload::from_plain(&bytes).transcode(serializer).expect("it has a form");
                let mut out = Vec::new();
                payload.write_plain(&mut out).expect("it has a form");
                prop_assert_eq!(&out, &bytes);
            }
            let is_text = std::str::from_utf8(&bytes).is_ok_and(|text| !text.starts_with('\0'));
            for (payload, is_binary) in
                [(OwnedPayload::from_plain(&bytes), !is_text), (OwnedPayload::from_plain_binary(&bytes), true)]
            {
                let plain = Plain { bytes: Cow::Borrowed(&bytes), is_binary };
                prop_assert_eq!(Plain::of_packed(payload.view()), Some(plain));
            }
        }
    }
}
