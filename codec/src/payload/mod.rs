//! Application payload that outlives its message: copied once, shared between shards, put into another serializer at
//! most once each.
//!
//! ```text
//! Payload<'a> ─ copy ─▶ OwnedPayload ─▶ SharedPayload { as sent, as JSON?, as MessagePack?, as CBOR? }
//! ```
//!
//! Receivers with the sender's serializer get the sender's bytes. The others get a translation, which loses nothing or
//! does not take place: what has no counterpart is a [`TranscodeError`], for the router to answer or to count.
//!
//! | JSON | MessagePack | CBOR | |
//! |---|---|---|---|
//! | `null`, `true`, `false` | nil, true, false | null, true, false | all ways |
//! | `null` | extension of type 0 and one byte | *undefined* | becomes `null`, nil: what JavaScript packers send |
//! | integer in −2⁶³..2⁶⁴ | int | int | all ways, in the shortest width; all digits are kept, also beyond 2⁵³ |
//! | integer in −2⁶⁴..−2⁶³ | float 64, the nearest | int | JSON ⇄ CBOR; JSON → MessagePack; from CBOR to MessagePack an error |
//! | integer beyond that | float 64, the nearest | float 64, the nearest | from JSON only, as every double-based JSON parser reads it |
//! | `-0` | float 64 −0.0 | float 64 −0.0 | there is no other −0; comes back as `-0.0` |
//! | number with `.` or exponent | float 64, the nearest | float 64, the nearest | all ways; in JSON the shortest text that reads back the same |
//! | the shortest text of the same value | float 32 | float 32, float 16 | the others see it as float 64 |
//! | — | NaN, ±infinity | NaN, ±infinity | MessagePack ⇄ CBOR; to JSON an error: it has no word for them |
//! | string | str | text string | all ways; all escapes resolved, only the necessary ones written |
//! | `"\u0000"` + base64 | bin | byte string | all ways (WAMP, "Binary support in JSON"); padding may be missing in JSON |
//! | `"\u0000"` + something else | — | — | error: receivers would fail on it |
//! | — | str that begins with U+0000 | text that begins with U+0000 | MessagePack ⇄ CBOR; to JSON an error: it would turn into binary |
//! | array, object | array, map | array, map | all ways, order kept; indefinite lengths become definite |
//! | object key | str key | text key | all ways; never binary |
//! | the decimal digits as key | int key | int key | MessagePack ⇄ CBOR; to JSON that way only |
//! | — | other scalar as key | other scalar as key | MessagePack ⇄ CBOR; to JSON an error |
//! | — | array or map as key | array or map as key | error |
//! | `"\u0000"` + base64 | bin | tag 64 and a byte string | that way only: *Uint8Array* of JavaScript packers (RFC 8746) |
//! | — | other extensions, timestamps too | other tags, bignums and dates too; simple values without a meaning | error |
//!
//! Keys are not checked for duplicates: they are the sender's, and no receiver is worse off than without us.
//!
//! A translation takes at most some 7 times the bytes (strings of control characters, floats of 16 bits somewhat more).
//! It uses no tree: JSON is walked twice, once to count, because MessagePack wants the counts first; so are those parts of
//! CBOR that have no length. (A simd-json tape takes up to 34 bytes for each input byte and refuses integers beyond 64
//! bits.)

mod from_binary;
mod from_json;
mod plain;
mod shared;
mod sink;
mod value;

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::malformed::{Flaw, Malformed};
use crate::wamp2::{Passthru, Payload, Serializer};
use crate::{cbor, json, msgpack};

use from_binary::{CborSource, MsgPackSource};
pub use plain::{Plain, write_packed_plain};
pub use shared::SharedPayload;

use sink::{CborSink, JsonSink, MsgPackSink};
pub(crate) use value::{is_empty_dict, split_first, write_value};

/// A [`Payload`] with bytes of its own; cloning shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPayload {
    bytes: Bytes,
    /// Where the elements are in `bytes`; empty: not there (a value takes at least one byte).
    args: Range<u32>,
    kwargs: Range<u32>,
    /// A dictionary with the attributes of [`Passthru`] alone.
    passthru: Range<u32>,
    serializer: Serializer,
}

impl OwnedPayload {
    /// Copies a payload that [`decode`](crate::wamp2::decode) gave. No bytes, no allocation.
    pub fn copy_from(serializer: Serializer, payload: &Payload<'_>) -> Self {
        let args = payload.args.unwrap_or_default();
        let kwargs = payload.kwargs.unwrap_or_default();
        let passthru = payload.passthru.map(|passthru| passthru.to_dict(serializer)).unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(args.len() + kwargs.len() + passthru.len());
        bytes.extend_from_slice(args);
        bytes.extend_from_slice(kwargs);
        bytes.extend_from_slice(&passthru);
        Self::new(serializer, bytes, args.len(), args.len() + kwargs.len())
    }

    /// Checks and copies a payload from elsewhere, such as a command line.
    ///
    ///     use fanwire_codec::{payload::OwnedPayload, wamp2::Serializer};
    ///     let payload = OwnedPayload::checked(Serializer::Json, Some(b"[1.5, \"hi\"]"), None).unwrap();
    ///     let packed = payload.transcode(Serializer::MsgPack).unwrap();
    ///     assert_eq!(packed.view().args.unwrap(), b"\x92\xcb\x3f\xf8\0\0\0\0\0\0\xa2hi");
    ///     assert!(OwnedPayload::checked(Serializer::Json, Some(b"{}"), None).is_err());
    pub fn checked(
        serializer: Serializer,
        args: Option<&[u8]>,
        kwargs: Option<&[u8]>,
    ) -> Result<Self, Malformed> {
        if let Some(args) = args {
            validate(serializer, args)?;
            if !is_list(serializer, args) {
                return Err(Malformed::new(Flaw::ArgsNoList, 0));
            }
        }
        if let Some(kwargs) = kwargs {
            validate(serializer, kwargs)?;
            if !is_dict(serializer, kwargs) {
                return Err(Malformed::new(Flaw::KwargsNoDict, 0));
            }
        }
        Ok(Self::copy_from(serializer, &Payload { args, kwargs, passthru: None }))
    }

    /// The elements end at these places, the last one with the bytes.
    fn new(serializer: Serializer, bytes: BytesMut, args_end: usize, kwargs_end: usize) -> Self {
        let position = |at: usize| u32::try_from(at).expect("messages are limited far below 4 GiB");
        let args = 0..position(args_end);
        let kwargs = args.end..position(kwargs_end);
        let passthru = kwargs.end..position(bytes.len());
        Self { bytes: bytes.freeze(), args, kwargs, passthru, serializer }
    }

    /// What the bytes are written in.
    pub fn serializer(&self) -> Serializer {
        self.serializer
    }

    /// The payload, for encoding it.
    pub fn view(&self) -> Payload<'_> {
        Payload {
            args: self.element(&self.args),
            kwargs: self.element(&self.kwargs),
            passthru: self.element(&self.passthru).map(Passthru::in_dict),
        }
    }

    fn element(&self, range: &Range<u32>) -> Option<&[u8]> {
        (!range.is_empty()).then(|| &self.bytes[range.start as usize..range.end as usize])
    }

    /// Bytes of all elements, and of what is said of them.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there are no arguments, or only empty lists of them.
    pub fn has_no_arguments(&self) -> bool {
        let view = self.view();
        [view.args, view.kwargs].into_iter().flatten().all(|value| is_empty(self.serializer, value))
    }

    /// The same payload in another serializer, by the table above.
    pub fn transcode(&self, to: Serializer) -> Result<Self, TranscodeError> {
        if to == self.serializer {
            return Ok(self.clone());
        }
        let view = self.view();
        let mut out = BytesMut::with_capacity(self.len() + self.len() / 4);
        transcode_value(self.serializer, to, view.args, &mut out)?;
        let args_end = out.len();
        transcode_value(self.serializer, to, view.kwargs, &mut out)?;
        let kwargs_end = out.len();
        transcode_value(self.serializer, to, self.element(&self.passthru), &mut out)?;
        Ok(Self::new(to, out, args_end, kwargs_end))
    }
}

/// Appends a validated value in another serializer.
fn transcode_value(
    from: Serializer,
    to: Serializer,
    value: Option<&[u8]>,
    out: &mut BytesMut,
) -> Result<(), TranscodeError> {
    let Some(value) = value else { return Ok(()) };
    use Serializer::{Cbor, Json, MsgPack};
    match (from, to) {
        (Json, MsgPack) => from_json::transcode(value, &mut MsgPackSink(out)),
        (Json, Cbor) => from_json::transcode(value, &mut CborSink(out)),
        (MsgPack, Json) => from_binary::transcode(MsgPackSource::new(value), &mut JsonSink(out)),
        (MsgPack, Cbor) => from_binary::transcode(MsgPackSource::new(value), &mut CborSink(out)),
        (Cbor, Json) => from_binary::transcode(CborSource::new(value), &mut JsonSink(out)),
        (Cbor, MsgPack) => from_binary::transcode(CborSource::new(value), &mut MsgPackSink(out)),
        (Json, Json) | (MsgPack, MsgPack) | (Cbor, Cbor) => {
            out.extend_from_slice(value);
            Ok(())
        }
    }
}

/// Checks that `bytes` are one value in `serializer`, nested at most 128 deep.
pub fn validate(serializer: Serializer, bytes: &[u8]) -> Result<(), Malformed> {
    match serializer {
        Serializer::Json => json::validate(bytes, json::DEPTH_MAX),
        Serializer::MsgPack => msgpack::validate(bytes, msgpack::DEPTH_MAX),
        Serializer::Cbor => cbor::validate(bytes, cbor::DEPTH_MAX),
    }
}

fn is_list(serializer: Serializer, value: &[u8]) -> bool {
    match serializer {
        Serializer::Json => value.trim_ascii_start().first() == Some(&b'['),
        Serializer::MsgPack => matches!(msgpack::read_head(value, 0), Ok((msgpack::Head::List(_), _))),
        Serializer::Cbor => matches!(cbor::read_head(value, 0), Ok((cbor::Head::List(_), _))),
    }
}

fn is_dict(serializer: Serializer, value: &[u8]) -> bool {
    match serializer {
        Serializer::Json => value.trim_ascii_start().first() == Some(&b'{'),
        Serializer::MsgPack => matches!(msgpack::read_head(value, 0), Ok((msgpack::Head::Dict(_), _))),
        Serializer::Cbor => matches!(cbor::read_head(value, 0), Ok((cbor::Head::Dict(_), _))),
    }
}

/// Whether a validated list or dictionary has no element.
fn is_empty(serializer: Serializer, value: &[u8]) -> bool {
    match serializer {
        Serializer::Json => {
            let value = value.trim_ascii();
            value.get(1..value.len().saturating_sub(1)).is_some_and(|inside| inside.trim_ascii().is_empty())
        }
        Serializer::MsgPack => {
            use msgpack::Head::{Dict, List};
            matches!(msgpack::read_head(value, 0), Ok((List(0) | Dict(0), _)))
        }
        Serializer::Cbor => {
            use cbor::Head::{Dict, List};
            match cbor::read_head(value, 0) {
                Ok((List(Some(0)) | Dict(Some(0)), _)) => true,
                // Of indefinite length, and its end follows.
                Ok((List(None) | Dict(None), at)) => value.get(at) == Some(&0xff),
                _ => false,
            }
        }
    }
}

/// Why a payload has no form in another serializer. `Display` gives words for the publisher or the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TranscodeError {
    /// NaN or an infinity, for JSON.
    #[error("NaN and infinity cannot be sent to receivers that use JSON")]
    NotFinite,
    /// An extension type, for another serializer.
    #[error("MessagePack extension type {0} cannot be sent to receivers that use another serializer")]
    Extension(i8),
    /// A tag, for another serializer.
    #[error("CBOR tag {0} cannot be sent to receivers that use another serializer")]
    Tag(u64),
    /// A simple value, for another serializer.
    #[error("CBOR simple value {0} cannot be sent to receivers that use another serializer")]
    Simple(u8),
    /// An integer below −2⁶³, for MessagePack.
    #[error("integers below -2^63 cannot be sent to receivers that use MessagePack")]
    Integer,
    /// A map key that is neither string nor integer, for JSON.
    #[error("only strings and integers can be keys for receivers that use JSON")]
    Key,
    /// A list or dictionary as key.
    #[error("lists and dictionaries as keys cannot be sent to receivers that use another serializer")]
    NestedKey,
    /// A string that begins with U+0000, for JSON.
    #[error(
        "a string that begins with U+0000 cannot be sent to receivers that use JSON, where it means binary"
    )]
    NulString,
    /// A JSON string that begins with U+0000 without base64 behind it.
    #[error("a string that begins with U+0000 must go on with base64 (it means binary)")]
    Base64,
    /// The payload is not well-formed, which [`decode`](crate::wamp2::decode) would have noticed.
    #[error("the payload has {0}")]
    Malformed(#[from] Malformed),
}
