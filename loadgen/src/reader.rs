//! The cheap way through the messages that come by the million.
//!
//! Every message of a run carries a payload of one known size, one text argument of `[stamp, filler]`, and the usual
//! router sends it with empty details. That one picture is compared byte for byte. Whatever does not fit it exactly goes
//! to the codec: this reader may say "I do not know", but it never says something else than the codec; a test
//! compares the two.
//!
//! ```text
//! JSON          [36,SUB,PUB,{},["fw……filler"]]
//! MessagePack   95 24 SUB PUB 80 91 d9 LEN fw……filler
//! CBOR       85 18 24 SUB PUB a0 81 78 LEN fw……filler
//!               └────── front ──┘└─ args ───────────┘
//! ```

use fanwire_codec::rawsocket;
use fanwire_codec::wamp2::{ID_MAX, Payload, Serializer};

use crate::stamp::{self, STAMP_BYTES, Stamp};

/// The first header byte of a whole, unfragmented text or binary frame.
const FRAME_TEXT: u8 = 0x81;
const FRAME_BINARY: u8 = 0x82;

/// A type of message that is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "WAMP's names")]
pub enum Kind {
    /// `[36, subscription, publication, details, args]`
    Event,
    /// `[50, request, details, args]`
    Result,
    /// `[68, request, registration, details, args]`
    Invocation,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Kind::Event => 36,
            Kind::Result => 50,
            Kind::Invocation => 68,
        }
    }

    const fn ids(self) -> usize {
        match self {
            Kind::Event | Kind::Invocation => 2,
            Kind::Result => 1,
        }
    }
}

/// Finds the first whole frame of the server in `input`: where its payload begins and ends.
///
/// `None`: cut, fragmented, masked, a control frame or a reserved bit; the codec's receiver knows what to do.
#[inline]
pub fn whole_frame(input: &[u8]) -> Option<(usize, usize)> {
    let [first, second, rest @ ..] = input else { return None };
    if *first != FRAME_TEXT && *first != FRAME_BINARY {
        return None;
    }
    let (start, length): (usize, usize) = match *second {
        length @ 0..=125 => (2, usize::from(length)),
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        _ => return None,
    };
    let end = start.checked_add(length)?;
    (end <= input.len()).then_some((start, end))
}

/// The same over RawSocket.
#[inline]
pub fn whole_raw_frame(input: &[u8]) -> Option<(usize, usize)> {
    let head = input.first_chunk::<{ rawsocket::HEAD_BYTES }>()?;
    let length = u32::from_be_bytes(*head);
    // A message of less than 16 MiB has nothing but its length there.
    let end = rawsocket::HEAD_BYTES + usize::try_from(length).ok().filter(|length| length >> 24 == 0)?;
    (end <= input.len()).then_some((rawsocket::HEAD_BYTES, end))
}

/// What the args of this run look like in one serializer.
#[derive(Clone, Debug)]
pub struct Pattern {
    serializer: Serializer,
    /// Args element of a message, with a zero stamp in it.
    args: Vec<u8>,
    /// Where in `args` the stamp begins.
    stamp_at: usize,
}

impl Pattern {
    /// The args of a payload of `payload_bytes`.
    pub fn new(serializer: Serializer, payload_bytes: usize) -> Self {
        assert!(payload_bytes >= STAMP_BYTES, "the command line was checked for this");
        let mut text = vec![b'0'; STAMP_BYTES];
        text.extend(stamp::filler(payload_bytes - STAMP_BYTES));
        let (args, stamp_at) = match serializer {
            Serializer::Json => ([b"[\"", &text[..], b"\"]"].concat(), 2),
            _ => {
                // A stamp is longer than what the shortest headers can say.
                let (list, headers) = match serializer {
                    Serializer::Cbor => (0x81, [0x78, 0x79, 0x7a]),
                    _ => (0x91, [0xd9, 0xda, 0xdb]),
                };
                let mut args = vec![list];
                match text.len() {
                    n @ 0..=0xff => args.extend([headers[0], n as u8]),
                    n @ 0x100..=0xffff => args.extend([&headers[1..2], &(n as u16).to_be_bytes()].concat()),
                    n => args.extend([&headers[2..], &(n as u32).to_be_bytes()].concat()),
                }
                let stamp_at = args.len();
                args.extend(text);
                (args, stamp_at)
            }
        };
        Self { serializer, args, stamp_at }
    }

    /// The args element that carries `stamp`; valid until the next call.
    pub fn stamped(&mut self, stamp: &Stamp) -> &[u8] {
        let place =
            self.args[self.stamp_at..].first_chunk_mut().expect("the args were made with room for a stamp");
        stamp.write(place);
        &self.args
    }

    /// The stamp of a message of type `kind`, if the message looks exactly as expected, with its first id and raw args.
    #[inline]
    pub fn recognise<'a>(&self, kind: Kind, message: &'a [u8]) -> Option<(u64, Stamp, &'a [u8])> {
        let (id, args) = match self.serializer {
            Serializer::Json => {
                let (id, rest) = front_json(kind, message)?;
                (id, rest.strip_suffix(b"]")?)
            }
            Serializer::Cbor => front_cbor(kind, message)?,
            _ => front_msgpack(kind, message)?,
        };
        Some((id, self.read_args(args)?, args))
    }

    /// The stamp of a decoded message's payload; `None` means that the payload is not what was sent.
    pub fn read_payload(&self, payload: &Payload<'_>) -> Option<Stamp> {
        let args = payload.args?;
        // Empty kwargs say nothing; some routers add them.
        if payload.kwargs.is_some_and(|kwargs| !matches!(kwargs, b"{}" | b"\x80" | b"\xa0")) {
            return None;
        }
        self.read_args(args).or_else(|| self.read_args_otherwise_written(args))
    }

    /// Everything but the stamp must be as it was made.
    #[inline]
    fn read_args(&self, args: &[u8]) -> Option<Stamp> {
        let behind = self.stamp_at + STAMP_BYTES;
        if args.len() != self.args.len()
            || args[..self.stamp_at] != self.args[..self.stamp_at]
            || args[behind..] != self.args[behind..]
        {
            return None;
        }
        Stamp::read(&args[self.stamp_at..])
    }

    /// The same text, but written with blanks, escapes or other binary headers.
    #[cold]
    fn read_args_otherwise_written(&self, args: &[u8]) -> Option<Stamp> {
        let json: Vec<String>;
        let text: &[u8] = match self.serializer {
            Serializer::Json => {
                json = serde_json::from_slice(args).ok()?;
                json.first().filter(|_| json.len() == 1)?.as_bytes()
            }
            Serializer::Cbor => {
                let text = match args {
                    [0x81, text @ ..] | [0x98, 1, text @ ..] | [0x99, 0, 1, text @ ..] => text,
                    [0x9f, text @ .., 0xff] => text,
                    _ => return None,
                };
                let header = match text.first()? {
                    0x78 | 0x58 => 2,
                    0x79 | 0x59 => 3,
                    0x7a | 0x5a => 5,
                    0x7b | 0x5b => 9,
                    _ => 1,
                };
                text.get(header..)?
            }
            _ => {
                let text = match args {
                    [0x91, text @ ..] | [0xdc, 0, 1, text @ ..] | [0xdd, 0, 0, 0, 1, text @ ..] => text,
                    _ => return None,
                };
                let header = match text.first()? {
                    0xd9 | 0xc4 => 2,
                    0xda | 0xc5 => 3,
                    0xdb | 0xc6 => 5,
                    _ => 1,
                };
                text.get(header..)?
            }
        };
        let trailer = usize::from(self.serializer == Serializer::Json) * 2;
        let expected = &self.args[self.stamp_at + STAMP_BYTES..self.args.len() - trailer];
        if text.get(STAMP_BYTES..)? != expected {
            return None;
        }
        Stamp::read(text)
    }
}

/// Up to and with the comma behind the details: the first id and the rest.
#[inline]
fn front_json(kind: Kind, message: &[u8]) -> Option<(u64, &[u8])> {
    let code = kind.code();
    let mut rest = message.strip_prefix(&[b'[', b'0' + code / 10, b'0' + code % 10, b','])?;
    let first;
    (first, rest) = decimal(rest)?;
    if kind.ids() == 2 {
        (_, rest) = decimal(rest)?;
    }
    Some((first, rest.strip_prefix(b"{},")?))
}

#[inline]
fn front_msgpack(kind: Kind, message: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = message.strip_prefix(&[0x93 + kind.ids() as u8, kind.code()])?;
    let first;
    (first, rest) = unsigned(rest)?;
    if kind.ids() == 2 {
        (_, rest) = unsigned(rest)?;
    }
    Some((first, rest.strip_prefix(b"\x80")?))
}

#[inline]
fn front_cbor(kind: Kind, message: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = message.strip_prefix(&[0x83 + kind.ids() as u8, 0x18, kind.code()])?;
    let first;
    (first, rest) = unsigned_cbor(rest)?;
    if kind.ids() == 2 {
        (_, rest) = unsigned_cbor(rest)?;
    }
    Some((first, rest.strip_prefix(b"\xa0")?))
}

/// An id as JSON writes it, and what is behind its comma.
#[inline]
fn decimal(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(17) {
        match byte {
            // JSON has no leading zeros, and 0 is no id.
            b'0' if index == 0 => return None,
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            b',' if index > 0 => return check_id(value, &bytes[index + 1..]),
            _ => return None,
        }
    }
    None
}

#[inline]
fn unsigned(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0..=0x7f => check_id(u64::from(*first), rest),
        0xcc => check_id(u64::from(*rest.first()?), &rest[1..]),
        0xcd => check_id(u64::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        0xce => check_id(u64::from(u32::from_be_bytes(*rest.first_chunk()?)), &rest[4..]),
        0xcf => check_id(u64::from_be_bytes(*rest.first_chunk()?), &rest[8..]),
        _ => None,
    }
}

#[inline]
fn unsigned_cbor(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0..=0x17 => check_id(u64::from(*first), rest),
        0x18 => check_id(u64::from(*rest.first()?), &rest[1..]),
        0x19 => check_id(u64::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        0x1a => check_id(u64::from(u32::from_be_bytes(*rest.first_chunk()?)), &rest[4..]),
        0x1b => check_id(u64::from_be_bytes(*rest.first_chunk()?), &rest[8..]),
        _ => None,
    }
}

#[inline]
fn check_id(id: u64, rest: &[u8]) -> Option<(u64, &[u8])> {
    (1..=ID_MAX).contains(&id).then_some((id, rest))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use fanwire_codec::wamp2::{
        DecodeLimits, EventDetails, InvocationDetails, Message, ResultDetails, decode, encode,
    };
    use fanwire_codec::ws;

    use super::*;

    const KINDS: [Kind; 3] = [Kind::Event, Kind::Result, Kind::Invocation];

    fn message<'a>(kind: Kind, id: u64, payload: Payload<'a>) -> Message<'a> {
        match kind {
            Kind::Event => Message::Event {
                subscription: id,
                publication: 9_007_199_254_740_992,
                details: EventDetails::default(),
                payload,
            },
            Kind::Result => Message::Result { request: id, details: ResultDetails::default(), payload },
            Kind::Invocation => Message::Invocation {
                request: id,
                registration: 300,
                details: InvocationDetails::default(),
                payload,
            },
        }
    }

    fn kind_and_id<'a>(message: &Message<'a>) -> Option<(Kind, u64, Payload<'a>)> {
        match message {
            Message::Event { subscription, payload, .. } => Some((Kind::Event, *subscription, *payload)),
            Message::Result { request, payload, .. } => Some((Kind::Result, *request, *payload)),
            Message::Invocation { request, payload, .. } => Some((Kind::Invocation, *request, *payload)),
            _ => None,
        }
    }

    #[test]
    fn what_the_codec_writes_is_recognised() {
        for serializer in Serializer::ALL {
            for payload_bytes in [32, 64, 255, 256, 1024, 70_000] {
                let mut pattern = Pattern::new(serializer, payload_bytes);
                let stamp = Stamp { publisher: 5, sequence: 77, run: 0xabc, intended_ns: 123_456_789 };
                let args = pattern.stamped(&stamp).to_vec();
                for kind in KINDS {
                    for id in [1, 100, 128, 40_000, 1 << 20, ID_MAX] {
                        let mut bytes = BytesMut::new();
                        encode(
                            &message(kind, id, Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY }),
                            serializer,
                            &mut bytes,
                        );
                        assert_eq!(
                            pattern.recognise(kind, &bytes),
                            Some((id, stamp, &args[..])),
                            "{serializer} {kind:?} {id} {payload_bytes}"
                        );
                    }
                }
            }
        }
    }

    /// Any byte of a message changed to any other: the reader knows nothing or says what the codec says.
    #[test]
    fn the_reader_never_disagrees_with_the_codec() {
        for serializer in Serializer::ALL {
            let mut pattern = Pattern::new(serializer, 40);
            let stamp = Stamp { publisher: 5, sequence: 77, run: 0xabc, intended_ns: 123_456_789 };
            let args = pattern.stamped(&stamp).to_vec();
            for kind in KINDS {
                let mut good = BytesMut::new();
                encode(
                    &message(kind, 1_000, Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY }),
                    serializer,
                    &mut good,
                );
                for at in 0..good.len() {
                    for byte in 0..=255 {
                        let mut bytes = good.clone();
                        bytes[at] = byte;
                        for asked in KINDS {
                            let Some((id, stamp, _)) = pattern.recognise(asked, &bytes) else { continue };
                            let decoded = decode(serializer, &bytes, &DecodeLimits::default())
                                .unwrap_or_else(|error| panic!("{bytes:?}: the codec says {error}"));
                            let (kind, codec_id, payload) = kind_and_id(&decoded).expect("one of the three");
                            assert_eq!((kind, codec_id), (asked, id), "{bytes:?}");
                            assert_eq!(pattern.read_payload(&payload), Some(stamp), "{bytes:?}");
                        }
                    }
                }
                for cut in 0..good.len() {
                    assert_eq!(pattern.recognise(kind, &good[..cut]), None);
                }
            }
        }
    }

    #[test]
    fn other_spellings_are_read_by_way_of_the_codec() {
        let stamp = Stamp { publisher: 1, sequence: 2, run: 3, intended_ns: 4 };
        let mut json = Pattern::new(Serializer::Json, 40);
        let args = String::from_utf8(json.stamped(&stamp).to_vec()).unwrap();
        for text in [
            format!("[36, 1, 2, {{}}, {args}]"),
            format!("[36,1,2,{{\"topic\":\"a.b\"}},{args}]"),
            format!("[36,1,2,{{}},{args},{{}}]"),
            format!("[36,1,2,{{}},{}]", args.replace("fw", "\\u0066w").replace("[\"", "[ \"")),
        ] {
            assert_eq!(json.recognise(Kind::Event, text.as_bytes()), None, "{text}");
            let Message::Event { payload, .. } =
                decode(Serializer::Json, text.as_bytes(), &DecodeLimits::default()).unwrap()
            else {
                panic!("{text} is an event")
            };
            assert_eq!(json.read_payload(&payload), Some(stamp), "{text}");
        }
        let mut msgpack = Pattern::new(Serializer::MsgPack, 40);
        let args = msgpack.stamped(&stamp).to_vec();
        let longer = [&[0xdc, 0, 1, 0xda, 0, 40][..], &args[3..]].concat();
        assert_eq!(
            msgpack.read_payload(&Payload { args: Some(&longer), kwargs: None, ..Payload::EMPTY }),
            Some(stamp)
        );
        let mut cbor = Pattern::new(Serializer::Cbor, 40);
        let args = cbor.stamped(&stamp).to_vec();
        let open = [&[0x9f, 0x79, 0, 40][..], &args[3..], b"\xff"].concat();
        assert_eq!(
            cbor.read_payload(&Payload { args: Some(&open), kwargs: None, ..Payload::EMPTY }),
            Some(stamp)
        );
    }

    #[test]
    fn a_damaged_payload_is_not_read() {
        let stamp = Stamp { publisher: 1, sequence: 2, run: 3, intended_ns: 4 };
        for serializer in Serializer::ALL {
            let mut pattern = Pattern::new(serializer, 64);
            let good = pattern.stamped(&stamp).to_vec();
            for damage in [good.len() - 4, 40] {
                let mut args = good.clone();
                args[damage] = b'~';
                assert_eq!(
                    pattern.read_payload(&Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY }),
                    None
                );
            }
            assert_eq!(pattern.read_payload(&Payload { args: None, kwargs: None, ..Payload::EMPTY }), None);
            assert_eq!(
                pattern.read_payload(&Payload {
                    args: Some(&good),
                    kwargs: Some(b"{\"a\":1}"),
                    ..Payload::EMPTY
                }),
                None
            );
        }
    }

    #[test]
    fn whole_frames_are_found_and_others_left_to_the_codec() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut frame = BytesMut::new();
            ws::write_message(&mut frame, ws::Kind::Binary, &[&vec![7; length]]);
            let (start, end) = whole_frame(&frame).unwrap();
            assert_eq!((end, end - start), (frame.len(), length));
            assert_eq!(whole_frame(&frame[..frame.len() - 1]), None);
        }
        let mut other = BytesMut::new();
        ws::write_control(&mut other, ws::Control::Ping, b"x");
        assert_eq!(whole_frame(&other), None);
        assert_eq!(whole_frame(b"\x01\x01a"), None, "the first fragment of a message");
        assert_eq!(whole_frame(b"\x81\x81abcda"), None, "masked");
        assert_eq!(whole_frame(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "absurdly long");
    }
}
