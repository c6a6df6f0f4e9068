//! The fast way for the messages that nearly all traffic is made of, in the form in which nearly all clients write them:
//!
//! ```text
//! [PUBLISH | CALL, request, {}, uri, args?, kwargs?]      [YIELD | RESULT, request, {}, args?, kwargs?]
//! ```
//!
//! Without white space, escapes and odd lengths such an envelope is compared and copied rather than parsed. What is not of
//! this form, each error too, is left to the decoder of any form, which is the oracle of the tests: what both read is equal.

use std::borrow::Cow;

use super::ID_MAX;
use super::message::{Message, Payload, code};
use super::options::{CallOptions, PublishOptions, ResultDetails, YieldOptions};
use crate::utf8::to_str;
use crate::{cbor, json, msgpack};

/// A cursor over one message. Each method reads the next element if it is of the usual form; `None` ends the attempt.
pub(super) trait Form<'a> {
    /// The message's type.
    fn begin(&mut self) -> Option<u64>;
    /// An id of 1 to 2^53.
    fn id(&mut self) -> Option<u64>;
    /// An empty dictionary (false), or one that only asks for an acknowledgement (true).
    fn options(&mut self) -> Option<bool>;
    /// A string.
    fn string(&mut self) -> Option<&'a str>;
    /// What is left: nothing, a list, or a list and a dictionary. Both are validated.
    fn payload(&mut self) -> Option<Payload<'a>>;
}

/// What a message of the usual form says.
pub(super) struct Usual<'a> {
    type_code: u64,
    request: u64,
    acknowledge: bool,
    /// Of PUBLISH and CALL.
    uri: &'a str,
    payload: Payload<'a>,
}

impl<'a> Usual<'a> {
    /// Reads a message of the usual form.
    #[inline(always)]
    pub(super) fn decode(mut form: impl Form<'a>) -> Option<Self> {
        let type_code = form.begin()?;
        let has_uri = match type_code {
            code::PUBLISH | code::CALL => true,
            code::YIELD | code::RESULT => false,
            _ => return None,
        };
        let request = form.id()?;
        let acknowledge = form.options()?;
        // Only PUBLISH knows that key.
        if acknowledge && type_code != code::PUBLISH {
            return None;
        }
        let uri = if has_uri { form.string()? } else { "" };
        Some(Self { type_code, request, acknowledge, uri, payload: form.payload()? })
    }

    #[inline(always)]
    pub(super) fn message(self) -> Message<'a> {
        let Self { type_code, request, acknowledge, uri, payload } = self;
        match type_code {
            code::PUBLISH => {
                let options = PublishOptions { acknowledge, ..PublishOptions::default() };
                Message::Publish { request, options, topic: Cow::Borrowed(uri), payload }
            }
            code::CALL => {
                let options = CallOptions::default();
                Message::Call { request, options, procedure: Cow::Borrowed(uri), payload }
            }
            code::YIELD => Message::Yield { request, options: YieldOptions::default(), payload },
            _ => Message::Result { request, details: ResultDetails::default(), payload },
        }
    }
}

/// The bytes of a message, and how far they are read.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    depth_max: u32,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next byte.
    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// The next `N` bytes.
    #[inline(always)]
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(taken)
    }

    /// Whether these bytes come next; then they are read.
    #[inline(always)]
    fn takes<const N: usize>(&mut self, expected: &[u8; N]) -> bool {
        let found = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) == Some(expected);
        self.at += if found { N } else { 0 };
        found
    }

    /// The next `length` bytes as text.
    #[inline(always)]
    fn text(&mut self, length: usize) -> Option<&'a str> {
        let text = to_str(self.bytes.get(self.at..)?.get(..length)?).ok()?;
        self.at += length;
        Some(text)
    }

    /// The value that ends at `end`.
    #[inline(always)]
    fn value(&mut self, end: usize) -> Option<&'a [u8]> {
        let value = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(value)
    }

    #[inline(always)]
    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

pub(super) struct JsonForm<'a>(Cursor<'a>);

impl<'a> JsonForm<'a> {
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], depth_max: u32) -> Self {
        Self(Cursor { bytes, at: 0, depth_max })
    }

    #[inline(always)]
    fn element(&mut self, open: u8) -> Option<&'a [u8]> {
        if self.0.peek()? != open {
            return None;
        }
        let end = json::skip_value(self.0.bytes, self.0.at, self.0.depth_max).ok()?;
        self.0.value(end)
    }
}

/// Each element but the first is read with the comma before it.
impl<'a> Form<'a> for JsonForm<'a> {
    #[inline(always)]
    fn begin(&mut self) -> Option<u64> {
        match &self.0.take::<3>()? {
            b"[16" => Some(code::PUBLISH),
            b"[48" => Some(code::CALL),
            b"[70" => Some(code::YIELD),
            b"[50" => Some(code::RESULT),
            _ => None,
        }
    }

    #[inline(always)]
    fn id(&mut self) -> Option<u64> {
        // 2^53 has 16 digits: fewer are surely below it. What else could belong to a number is refused by `options`.
        const DIGITS_MAX: usize = 15;
        let [b',', first @ b'1'..=b'9'] = self.0.take()? else { return None };
        let mut id = u64::from(first - b'0');
        for _ in 1..DIGITS_MAX {
            let Some(digit @ b'0'..=b'9') = self.0.peek() else { break };
            id = id * 10 + u64::from(digit - b'0');
            self.0.at += 1;
        }
        Some(id)
    }

    #[inline(always)]
    fn options(&mut self) -> Option<bool> {
        if self.0.takes(b",{}") {
            return Some(false);
        }
        self.0.takes(br#",{"acknowledge":true}"#).then_some(true)
    }

    #[inline(always)]
    fn string(&mut self) -> Option<&'a str> {
        if !self.0.takes(b",\"") {
            return None;
        }
        let text = json::plain_string(self.0.bytes, self.0.at)?;
        self.0.at += text.len() + 1;
        Some(text)
    }

    #[inline(always)]
    fn payload(&mut self) -> Option<Payload<'a>> {
        let mut payload = Payload::EMPTY;
        if self.0.peek()? == b',' {
            self.0.at += 1;
            payload.args = Some(self.element(b'[')?);
            if self.0.peek()? == b',' {
                self.0.at += 1;
                payload.kwargs = Some(self.element(b'{')?);
            }
        }
        (self.0.byte()? == b']' && self.0.is_at_end()).then_some(payload)
    }
}

pub(super) struct MsgPackForm<'a> {
    cursor: Cursor<'a>,
    /// Elements that are not read yet.
    left: u8,
}

impl<'a> MsgPackForm<'a> {
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], depth_max: u32) -> Self {
        Self { cursor: Cursor { bytes, at: 0, depth_max }, left: 0 }
    }
}

impl<'a> Form<'a> for MsgPackForm<'a> {
    #[inline(always)]
    fn begin(&mut self) -> Option<u64> {
        // A list of up to 15 elements, and a type below 128.
        let [list @ 0x93..=0x96, type_code @ 0x00..=0x7f] = self.cursor.take()? else { return None };
        self.left = (list & 0x0f) - 1;
        Some(type_code.into())
    }

    #[inline(always)]
    fn id(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let id = match self.cursor.byte()? {
            small @ 0x01..=0x7f => small.into(),
            0xcc => u8::from_be_bytes(self.cursor.take()?).into(),
            0xcd => u16::from_be_bytes(self.cursor.take()?).into(),
            0xce => u32::from_be_bytes(self.cursor.take()?).into(),
            0xcf => u64::from_be_bytes(self.cursor.take()?),
            _ => return None,
        };
        (1..=ID_MAX).contains(&id).then_some(id)
    }

    #[inline(always)]
    fn options(&mut self) -> Option<bool> {
        self.left = self.left.checked_sub(1)?;
        if self.cursor.takes(b"\x80") {
            return Some(false);
        }
        self.cursor.takes(b"\x81\xabacknowledge\xc3").then_some(true)
    }

    #[inline(always)]
    fn string(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let length = match self.cursor.byte()? {
            short @ 0xa0..=0xbf => short & 0x1f,
            0xd9 => self.cursor.byte()?,
            _ => return None,
        };
        self.cursor.text(length.into())
    }

    #[inline(always)]
    fn payload(&mut self) -> Option<Payload<'a>> {
        let mut payload = Payload::EMPTY;
        let Cursor { bytes, depth_max, .. } = self.cursor;
        if self.left > 0 {
            let (0x90..=0x9f | 0xdc | 0xdd) = self.cursor.peek()? else { return None };
            let end = msgpack::skip_value(bytes, self.cursor.at, depth_max).ok()?;
            payload.args = Some(self.cursor.value(end)?);
        }
        if self.left > 1 {
            let (0x80..=0x8f | 0xde | 0xdf) = self.cursor.peek()? else { return None };
            let end = msgpack::skip_value(bytes, self.cursor.at, depth_max).ok()?;
            payload.kwargs = Some(self.cursor.value(end)?);
        }
        (self.left <= 2 && self.cursor.is_at_end()).then_some(payload)
    }
}

pub(super) struct CborForm<'a> {
    cursor: Cursor<'a>,
    /// Elements that are not read yet.
    left: u8,
}

impl<'a> CborForm<'a> {
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], depth_max: u32) -> Self {
        Self { cursor: Cursor { bytes, at: 0, depth_max }, left: 0 }
    }

    /// A number that is not negative: CBOR writes small ones into the head.
    #[inline(always)]
    fn unsigned(&mut self) -> Option<u64> {
        Some(match self.cursor.byte()? {
            small @ 0x00..=0x17 => small.into(),
            0x18 => u8::from_be_bytes(self.cursor.take()?).into(),
            0x19 => u16::from_be_bytes(self.cursor.take()?).into(),
            0x1a => u32::from_be_bytes(self.cursor.take()?).into(),
            0x1b => u64::from_be_bytes(self.cursor.take()?),
            _ => return None,
        })
    }
}

impl<'a> Form<'a> for CborForm<'a> {
    #[inline(always)]
    fn begin(&mut self) -> Option<u64> {
        let list @ 0x83..=0x86 = self.cursor.byte()? else { return None };
        self.left = (list & 0x1f) - 1;
        self.unsigned()
    }

    #[inline(always)]
    fn id(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.unsigned().filter(|id| (1..=ID_MAX).contains(id))
    }

    #[inline(always)]
    fn options(&mut self) -> Option<bool> {
        self.left = self.left.checked_sub(1)?;
        if self.cursor.takes(b"\xa0") {
            return Some(false);
        }
        self.cursor.takes(b"\xa1\x6backnowledge\xf5").then_some(true)
    }

    #[inline(always)]
    fn string(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let length = match self.cursor.byte()? {
            short @ 0x60..=0x77 => short & 0x1f,
            0x78 => self.cursor.byte()?,
            _ => return None,
        };
        self.cursor.text(length.into())
    }

    #[inline(always)]
    fn payload(&mut self) -> Option<Payload<'a>> {
        let mut payload = Payload::EMPTY;
        let Cursor { bytes, depth_max, .. } = self.cursor;
        if self.left > 0 {
            let (0x80..=0x9b | 0x9f) = self.cursor.peek()? else { return None };
            let end = cbor::skip_value(bytes, self.cursor.at, depth_max).ok()?;
            payload.args = Some(self.cursor.value(end)?);
        }
        if self.left > 1 {
            let (0xa0..=0xbb | 0xbf) = self.cursor.peek()? else { return None };
            let end = cbor::skip_value(bytes, self.cursor.at, depth_max).ok()?;
            payload.kwargs = Some(self.cursor.value(end)?);
        }
        (self.left <= 2 && self.cursor.is_at_end()).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::OwnedPayload;
    use crate::wamp2::decode::decode_any;
    use crate::wamp2::{DecodeLimits, Serializer, decode, encode};
    use bytes::BytesMut;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn usual(serializer: Serializer, bytes: &[u8], depth_max: u32) -> Option<Message<'_>> {
        match serializer {
            Serializer::Json => Usual::decode(JsonForm::new(bytes, depth_max)),
            Serializer::MsgPack => Usual::decode(MsgPackForm::new(bytes, depth_max)),
            Serializer::Cbor => Usual::decode(CborForm::new(bytes, depth_max)),
        }
        .map(Usual::message)
    }

    /// What is read the fast way is what the decoder of any form reads.
    fn check(serializer: Serializer, bytes: &[u8], depth_max: u32) -> Result<(), TestCaseError> {
        if let Some(message) = usual(serializer, bytes, depth_max) {
            prop_assert_eq!(decode_any(serializer, bytes, &DecodeLimits { depth_max }), Ok(message));
        }
        Ok(())
    }

    const ARGS: [Option<&str>; 6] = [
        None,
        Some("[]"),
        Some("[1,-2.5,\"é\\n\"]"),
        Some("[[[]]]"),
        Some("[{\"a\":[null]}]"),
        Some("[true ]"),
    ];
    const KWARGS: [Option<&str>; 4] =
        [None, Some("{}"), Some("{\"k\":[1,{}]}"), Some("{\"\":\"\\u0000AA==\"}")];

    /// Messages of the four types, as [`encode`] writes them.
    fn messages(serializer: Serializer) -> impl Strategy<Value = Vec<u8>> {
        let id = prop_oneof![1..=ID_MAX, 1..300u64, select(vec![1, 999_999_999_999_999, ID_MAX])];
        let uri = prop_oneof!["[a-z.]{0,40}", "\\PC{0,8}", "[a-z]{250,260}"];
        (0..4, id, uri, any::<bool>(), select(&ARGS[..]), select(&KWARGS[..])).prop_map(
            move |(kind, request, uri, acknowledge, args, kwargs)| {
                let payload = Payload {
                    args: args.map(str::as_bytes),
                    kwargs: args.and(kwargs).map(str::as_bytes),
                    ..Payload::EMPTY
                };
                let owned = OwnedPayload::copy_from(Serializer::Json, &payload).transcode(serializer);
                let owned = owned.expect("the payloads above are sound");
                let (uri, payload) = (Cow::from(uri), owned.view());
                let options = PublishOptions { acknowledge, ..PublishOptions::default() };
                let message = match kind {
                    0 => Message::Publish { request, options, topic: uri, payload },
                    1 => Message::Call { request, options: CallOptions::default(), procedure: uri, payload },
                    2 => Message::Yield { request, options: YieldOptions::default(), payload },
                    _ => Message::Result { request, details: ResultDetails::default(), payload },
                };
                let mut out = BytesMut::new();
                encode(&message, serializer, &mut out);
                out.to_vec()
            },
        )
    }

    fn serializer_and_message() -> impl Strategy<Value = (Serializer, Vec<u8>)> {
        select(Serializer::ALL.to_vec())
            .prop_flat_map(|serializer| messages(serializer).prop_map(move |bytes| (serializer, bytes)))
    }

    proptest! {
        #[test]
        fn usual_messages_read_as_by_the_decoder_of_any_form(
            (serializer, bytes) in serializer_and_message(),
            depth_max in select(vec![1, 2, 128]),
        ) {
            check(serializer, &bytes, depth_max)?;
            let any = decode_any(serializer, &bytes, &DecodeLimits { depth_max });
            prop_assert_eq!(decode(serializer, &bytes, &DecodeLimits { depth_max }), any);
        }

        /// One byte is another one, is missing or is twice there; or the message is cut.
        #[test]
        fn damaged_messages_read_as_by_the_decoder_of_any_form(
            (serializer, bytes) in serializer_and_message(),
            place in any::<prop::sample::Index>(),
            byte in prop_oneof![any::<u8>(), select(b" ,:[]{}\"\\0918-.e".to_vec())],
        ) {
            let place = place.index(bytes.len());
            let (before, behind) = bytes.split_at(place);
            check(serializer, &[before, &[byte], &behind[1..]].concat(), 128)?;
            check(serializer, &[before, &behind[1..]].concat(), 128)?;
            check(serializer, &[before, &[byte], behind].concat(), 128)?;
            check(serializer, before, 128)?;
        }
    }

    #[test]
    fn what_clients_write_is_read_the_fast_way() {
        for (serializer, bytes) in [
            (Serializer::Json, &br#"[16,7,{},"com.room.4",["hi"]]"#[..]),
            (Serializer::Json, br#"[16,999999999999999,{"acknowledge":true},"com.room.4",[],{"a":1}]"#),
            (Serializer::Json, br#"[48,7,{},"com.add"]"#),
            (Serializer::Json, b"[70,7,{},[5]]"),
            (Serializer::Json, b"[50,7,{}]"),
            (Serializer::MsgPack, b"\x94\x10\xcd\x01\x00\x80\xa1t"),
            (Serializer::MsgPack, b"\x96\x10\x07\x81\xabacknowledge\xc3\xd9\x01t\x91\x05\x81\xa1k\x01"),
            (Serializer::MsgPack, b"\x94\x46\x07\x80\x90"),
            (Serializer::Cbor, b"\x85\x10\x19\x01\x00\xa0\x61t\x81\x05"),
            (Serializer::Cbor, b"\x83\x18\x46\x07\xa0"),
        ] {
            assert!(usual(serializer, bytes, 128).is_some(), "{bytes:02x?}");
            check(serializer, bytes, 128).expect("both decoders agree");
        }
    }

    #[test]
    fn other_forms_are_left_to_the_other_decoder() {
        for (serializer, bytes) in [
            (Serializer::Json, &br#"[16,7,{}, "com.room.4"]"#[..]),
            (Serializer::Json, br#"[16,9007199254740993,{},"t"]"#),
            (Serializer::Json, br#"[16,07,{},"t"]"#),
            (Serializer::Json, br#"[16,7.0,{},"t"]"#),
            (Serializer::Json, br#"[16,7,{},"\u0074"]"#),
            (Serializer::Json, br#"[16,7,{},"t",null]"#),
            (Serializer::Json, br#"[16,7,{},"t",[],{},0]"#),
            (Serializer::Json, br#"[48,7,{"acknowledge":true},"t"]"#),
            (Serializer::Json, br#"[16,7,{},"t"] "#),
            (Serializer::MsgPack, b"\x94\x10\x00\x80\xa1t"),
            (Serializer::MsgPack, b"\x93\x10\x07\x80"),
            (Serializer::MsgPack, b"\x96\x46\x07\x80\x90\x80\x01"),
            (Serializer::Cbor, b"\x9f\x10\x07\xa0\x61t\xff"),
        ] {
            assert!(usual(serializer, bytes, 128).is_none(), "{bytes:02x?}");
        }
    }
}
