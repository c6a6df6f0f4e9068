//! Helpers of the WAMP tests: packers and unpackers of their own with trees (MessagePack on `rmp`, CBOR on `ciborium`), and
//! a view of messages as JSON values, so that serializers can be compared.
#![allow(dead_code, reason = "each test file uses its part")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use fanwire_codec::wamp2::{DecodeError, DecodeLimits, Message, Payload, Serializer, decode, encode};
use rmp::Marker;
use serde_json::{Map, Number, Value, json};

pub fn decoded(serializer: Serializer, bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    decode(serializer, bytes, &DecodeLimits::default())
}

pub fn encoded(message: &Message<'_>, serializer: Serializer) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(message, serializer, &mut out);
    out.to_vec()
}

/// The bytes of a JSON value in `serializer`.
pub fn serialized(serializer: Serializer, value: &Value) -> Vec<u8> {
    match serializer {
        Serializer::Json => value.to_string().into_bytes(),
        Serializer::MsgPack => pack(value),
        Serializer::Cbor => cbor(value, Lengths::Definite),
    }
}

/// The JSON value of bytes in `serializer`.
pub fn parsed(serializer: Serializer, bytes: &[u8]) -> Value {
    match serializer {
        Serializer::Json => serde_json::from_slice(bytes).expect("valid JSON"),
        Serializer::MsgPack => {
            let mut rest = bytes;
            let value = unpack(&mut rest).expect("valid MessagePack");
            assert!(rest.is_empty(), "bytes behind the value");
            value
        }
        Serializer::Cbor => {
            let mut rest = bytes;
            let value = uncbor(&mut rest).expect("valid CBOR");
            assert!(rest.is_empty(), "bytes behind the value");
            value
        }
    }
}

/// MessagePack of a JSON value; `"\u0000" + base64` becomes binary.
pub fn pack(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    pack_into(value, &mut out);
    out
}

fn pack_into(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => rmp::encode::write_nil(out).unwrap(),
        Value::Bool(value) => rmp::encode::write_bool(out, *value).unwrap(),
        Value::Number(number) => {
            if let Some(value) = number.as_u64() {
                rmp::encode::write_uint(out, value).unwrap();
            } else if let Some(value) = number.as_i64() {
                rmp::encode::write_sint(out, value).unwrap();
            } else {
                rmp::encode::write_f64(out, number.as_f64().unwrap()).unwrap();
            }
        }
        Value::String(text) => match text.strip_prefix('\0') {
            Some(base64) => rmp::encode::write_bin(out, &STANDARD.decode(base64).unwrap()).unwrap(),
            None => rmp::encode::write_str(out, text).unwrap(),
        },
        Value::Array(values) => {
            rmp::encode::write_array_len(out, values.len() as u32).unwrap();
            values.iter().for_each(|value| pack_into(value, out));
        }
        Value::Object(pairs) => {
            rmp::encode::write_map_len(out, pairs.len() as u32).unwrap();
            for (key, value) in pairs {
                rmp::encode::write_str(out, key).unwrap();
                pack_into(value, out);
            }
        }
    }
}

/// A JSON value of MessagePack, or `None` if it is malformed or has no JSON form. Recursive: for tests only.
pub fn unpack(rest: &mut &[u8]) -> Option<Value> {
    use rmp::decode::RmpRead as _;
    let marker = rmp::decode::read_marker(rest).ok()?;
    Some(match marker {
        Marker::Null => Value::Null,
        Marker::True => json!(true),
        Marker::False => json!(false),
        Marker::FixPos(value) => json!(value),
        Marker::FixNeg(value) => json!(value),
        Marker::U8 => json!(rest.read_data_u8().ok()?),
        Marker::U16 => json!(rest.read_data_u16().ok()?),
        Marker::U32 => json!(rest.read_data_u32().ok()?),
        Marker::U64 => json!(rest.read_data_u64().ok()?),
        Marker::I8 => json!(rest.read_data_i8().ok()?),
        Marker::I16 => json!(rest.read_data_i16().ok()?),
        Marker::I32 => json!(rest.read_data_i32().ok()?),
        Marker::I64 => json!(rest.read_data_i64().ok()?),
        Marker::F32 => Value::Number(Number::from_f64(rest.read_data_f32().ok()?.into())?),
        Marker::F64 => Value::Number(Number::from_f64(rest.read_data_f64().ok()?)?),
        Marker::FixStr(length) => string(rest, length.into())?,
        Marker::Str8 => {
            let length = rest.read_data_u8().ok()?.into();
            string(rest, length)?
        }
        Marker::Str16 => {
            let length = rest.read_data_u16().ok()?.into();
            string(rest, length)?
        }
        Marker::Str32 => {
            let length = rest.read_data_u32().ok()? as usize;
            string(rest, length)?
        }
        Marker::Bin8 => {
            let length = rest.read_data_u8().ok()?.into();
            binary(rest, length)?
        }
        Marker::Bin16 => {
            let length = rest.read_data_u16().ok()?.into();
            binary(rest, length)?
        }
        Marker::Bin32 => {
            let length = rest.read_data_u32().ok()? as usize;
            binary(rest, length)?
        }
        Marker::FixArray(count) => list(rest, count.into())?,
        Marker::Array16 => {
            let count = rest.read_data_u16().ok()?.into();
            list(rest, count)?
        }
        Marker::Array32 => {
            let count = rest.read_data_u32().ok()?;
            list(rest, count)?
        }
        Marker::FixMap(count) => dict(rest, count.into())?,
        Marker::Map16 => {
            let count = rest.read_data_u16().ok()?.into();
            dict(rest, count)?
        }
        Marker::Map32 => {
            let count = rest.read_data_u32().ok()?;
            dict(rest, count)?
        }
        _ => return None,
    })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn string(rest: &mut &[u8], length: usize) -> Option<Value> {
    Some(json!(std::str::from_utf8(take(rest, length)?).ok()?))
}

fn binary(rest: &mut &[u8], length: usize) -> Option<Value> {
    Some(json!(format!("\0{}", STANDARD.encode(take(rest, length)?))))
}

fn list(rest: &mut &[u8], count: u32) -> Option<Value> {
    (0..count).map(|_| unpack(rest)).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn dict(rest: &mut &[u8], count: u32) -> Option<Value> {
    let mut pairs = Map::new();
    for _ in 0..count {
        let key = match unpack(rest)? {
            Value::String(key) => key,
            Value::Number(key) if !key.is_f64() => key.to_string(),
            _ => return None,
        };
        pairs.insert(key, unpack(rest)?);
    }
    Some(Value::Object(pairs))
}

/// The whole message as the JSON list that WAMP would send, whatever serializer it came in.
pub fn as_json(message: &Message<'_>, serializer: Serializer) -> Value {
    let translate = |bytes: &[u8]| parsed(serializer, bytes).to_string().into_bytes();
    let mut message = message.clone();
    let (args, kwargs);
    match &mut message {
        Message::Publish { payload, .. }
        | Message::Event { payload, .. }
        | Message::Call { payload, .. }
        | Message::Invocation { payload, .. }
        | Message::Yield { payload, .. }
        | Message::Result { payload, .. }
        | Message::Error { payload, .. } => {
            args = payload.args.map(translate);
            kwargs = payload.kwargs.map(translate);
            *payload = Payload { args: args.as_deref(), kwargs: kwargs.as_deref(), ..Payload::EMPTY };
            parsed(Serializer::Json, &encoded(&message, Serializer::Json))
        }
        Message::Challenge { extra, .. } | Message::Authenticate { extra, .. } => {
            args = Some(translate(extra));
            *extra = args.as_deref().unwrap();
            parsed(Serializer::Json, &encoded(&message, Serializer::Json))
        }
        Message::Hello { details, .. } => {
            args = details.authextra.map(translate);
            details.authextra = args.as_deref();
            parsed(Serializer::Json, &encoded(&message, Serializer::Json))
        }
        Message::Welcome { details, .. } => {
            args = details.authextra.map(translate);
            details.authextra = args.as_deref();
            parsed(Serializer::Json, &encoded(&message, Serializer::Json))
        }
        _ => parsed(Serializer::Json, &encoded(&message, Serializer::Json)),
    }
}

pub fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// How [`cbor`] writes strings, lists and dictionaries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lengths {
    Definite,
    /// Up to a break; strings in a chunk for each character or byte.
    Indefinite,
}

/// CBOR of a JSON value; `"\u0000" + base64` becomes a byte string.
pub fn cbor(value: &Value, lengths: Lengths) -> Vec<u8> {
    let mut out = Vec::new();
    cbor_into(value, lengths, &mut out);
    out
}

fn cbor_into(value: &Value, lengths: Lengths, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(value) => out.push(0xf4 + u8::from(*value)),
        Value::Number(number) => {
            if let Some(value) = number.as_u64() {
                cbor_head(0, value, out);
            } else if let Some(value) = number.as_i64() {
                cbor_head(1, (-1 - value) as u64, out);
            } else {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap().to_be_bytes());
            }
        }
        Value::String(text) => match text.strip_prefix('\0') {
            Some(base64) => {
                let binary = STANDARD.decode(base64).unwrap();
                cbor_string(2, &binary, binary.chunks(1), lengths, out);
            }
            None => cbor_text(text, lengths, out),
        },
        Value::Array(values) => {
            cbor_begin(4, values.len(), lengths, out);
            values.iter().for_each(|value| cbor_into(value, lengths, out));
            cbor_end(lengths, out);
        }
        Value::Object(pairs) => {
            cbor_begin(5, pairs.len(), lengths, out);
            for (key, value) in pairs {
                cbor_text(key, lengths, out);
                cbor_into(value, lengths, out);
            }
            cbor_end(lengths, out);
        }
    }
}

fn cbor_text(text: &str, lengths: Lengths, out: &mut Vec<u8>) {
    let characters = text.split("").filter(|piece| !piece.is_empty()).map(str::as_bytes);
    cbor_string(3, text.as_bytes(), characters, lengths, out);
}

fn cbor_string<'a>(
    major: u8,
    whole: &[u8],
    pieces: impl Iterator<Item = &'a [u8]>,
    lengths: Lengths,
    out: &mut Vec<u8>,
) {
    cbor_begin(major, whole.len(), lengths, out);
    if lengths == Lengths::Definite {
        out.extend(whole);
    } else {
        for piece in pieces {
            cbor_head(major, piece.len() as u64, out);
            out.extend(piece);
        }
    }
    cbor_end(lengths, out);
}

fn cbor_begin(major: u8, count: usize, lengths: Lengths, out: &mut Vec<u8>) {
    match lengths {
        Lengths::Definite => cbor_head(major, count as u64, out),
        Lengths::Indefinite => out.push(major << 5 | 31),
    }
}

fn cbor_end(lengths: Lengths, out: &mut Vec<u8>) {
    if lengths == Lengths::Indefinite {
        out.push(0xff);
    }
}

fn cbor_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    let (low, from) = match argument {
        0..=23 => (argument as u8, 8),
        24..=0xff => (24, 7),
        0x100..=0xffff => (25, 6),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 0),
    };
    out.push(major << 5 | low);
    out.extend(&bytes[from..]);
}

/// A JSON value of CBOR, or `None` if it is malformed or has no JSON form. For tests only.
pub fn uncbor(rest: &mut &[u8]) -> Option<Value> {
    uncbor_tree(ciborium::from_reader(rest).ok()?)
}

fn uncbor_tree(tree: ciborium::Value) -> Option<Value> {
    use ciborium::Value as Tree;
    Some(match tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => json!(value),
        Tree::Integer(value) => {
            let value = i128::from(value);
            match u64::try_from(value) {
                Ok(value) => json!(value),
                Err(_) => json!(i64::try_from(value).ok()?),
            }
        }
        Tree::Float(value) => Value::Number(Number::from_f64(value)?),
        Tree::Text(text) => json!(text),
        Tree::Bytes(bytes) => json!(format!("\0{}", STANDARD.encode(bytes))),
        Tree::Array(values) => values.into_iter().map(uncbor_tree).collect::<Option<Vec<_>>>()?.into(),
        Tree::Map(pairs) => {
            let mut map = Map::new();
            for (key, value) in pairs {
                let key = match key {
                    Tree::Text(key) => key,
                    Tree::Integer(key) => i128::from(key).to_string(),
                    _ => return None,
                };
                map.insert(key, uncbor_tree(value)?);
            }
            Value::Object(map)
        }
        _ => return None,
    })
}
