//! What translations write to: one value after the other, in any serializer.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::BytesMut;

use super::TranscodeError;
use crate::{cbor, json, msgpack};

/// A value, or the beginning of a list or dictionary.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// CBOR has integers from −2⁶⁴ to 2⁶⁴ − 1, the others fewer.
    Integer(i128),
    Float(f64),
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// Its number of elements.
    List(u32),
    /// Its number of pairs.
    Dict(u32),
}

/// Where a value stands, for what has to be written before it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    First,
    Next,
    BehindKey,
}

/// Takes values in the order in which they are written.
pub(super) trait Sink {
    /// The least integer that has a form; the largest is 2⁶⁴ − 1 for all.
    const INTEGER_MIN: i128;

    /// Comes before each value and key.
    fn place(&mut self, _place: Place) {}
    /// Comes behind the last element of each list and dictionary.
    fn close(&mut self, _is_dict: bool) {}
    /// A value that is no key.
    fn value(&mut self, value: &Value<'_>) -> Result<(), TranscodeError>;
    /// A key that is neither list nor dictionary.
    fn key(&mut self, key: &Value<'_>) -> Result<(), TranscodeError> {
        self.value(key)
    }
}

/// Compact JSON.
pub(super) struct JsonSink<'o>(pub(super) &'o mut BytesMut);

impl JsonSink<'_> {
    fn integer(&mut self, value: i128) {
        if let Ok(value) = u64::try_from(value) {
            json::write_u64(self.0, value);
        } else if let Ok(value) = i64::try_from(value) {
            json::write_i64(self.0, value);
        } else {
            write!(self.0, "{value}").expect("BytesMut grows");
        }
    }
}

impl Sink for JsonSink<'_> {
    const INTEGER_MIN: i128 = i128::MIN;

    fn place(&mut self, place: Place) {
        match place {
            Place::First => {}
            Place::Next => self.0.extend_from_slice(b","),
            Place::BehindKey => self.0.extend_from_slice(b":"),
        }
    }

    fn close(&mut self, is_dict: bool) {
        self.0.extend_from_slice(if is_dict { b"}" } else { b"]" });
    }

    fn value(&mut self, value: &Value<'_>) -> Result<(), TranscodeError> {
        match value {
            Value::Null => self.0.extend_from_slice(b"null"),
            Value::Bool(value) => self.0.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Integer(value) => self.integer(*value),
            Value::Float(value) if value.is_finite() => json::write_f64(self.0, *value),
            Value::Float(_) => return Err(TranscodeError::NotFinite),
            Value::Text(text) if text.starts_with('\0') => return Err(TranscodeError::NulString),
            Value::Text(text) => json::write_string(self.0, text),
            Value::Binary(binary) => json::write_base64(self.0, binary),
            Value::List(_) => self.0.extend_from_slice(b"["),
            Value::Dict(_) => self.0.extend_from_slice(b"{"),
        }
        Ok(())
    }

    fn key(&mut self, key: &Value<'_>) -> Result<(), TranscodeError> {
        match key {
            Value::Text(text) => json::write_string(self.0, text),
            Value::Integer(value) => {
                self.0.extend_from_slice(b"\"");
                self.integer(*value);
                self.0.extend_from_slice(b"\"");
            }
            _ => return Err(TranscodeError::Key),
        }
        Ok(())
    }
}

/// MessagePack.
pub(super) struct MsgPackSink<'o>(pub(super) &'o mut BytesMut);

impl Sink for MsgPackSink<'_> {
    const INTEGER_MIN: i128 = i64::MIN as i128;

    fn value(&mut self, value: &Value<'_>) -> Result<(), TranscodeError> {
        match value {
            Value::Null => msgpack::write_nil(self.0),
            Value::Bool(value) => msgpack::write_bool(self.0, *value),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => msgpack::write_u64(self.0, value),
                (_, Ok(value)) => msgpack::write_i64(self.0, value),
                _ => return Err(TranscodeError::Integer),
            },
            Value::Float(value) => msgpack::write_f64(self.0, *value),
            Value::Text(text) => msgpack::write_string(self.0, text),
            Value::Binary(binary) => {
                msgpack::write_binary_head(self.0, binary.len());
                self.0.extend_from_slice(binary);
            }
            Value::List(count) => msgpack::write_list_head(self.0, *count),
            Value::Dict(count) => msgpack::write_dict_head(self.0, *count),
        }
        Ok(())
    }
}

/// CBOR.
pub(super) struct CborSink<'o>(pub(super) &'o mut BytesMut);

impl Sink for CborSink<'_> {
    const INTEGER_MIN: i128 = -(1 << 64);

    fn value(&mut self, value: &Value<'_>) -> Result<(), TranscodeError> {
        match value {
            Value::Null => cbor::write_null(self.0),
            Value::Bool(value) => cbor::write_bool(self.0, *value),
            Value::Integer(value) => match (u64::try_from(*value), u64::try_from(-1 - *value)) {
                (Ok(value), _) => cbor::write_u64(self.0, value),
                (_, Ok(negative)) => cbor::write_negative(self.0, negative),
                _ => return Err(TranscodeError::Integer),
            },
            Value::Float(value) => cbor::write_f64(self.0, *value),
            Value::Text(text) => cbor::write_string(self.0, text),
            Value::Binary(binary) => {
                cbor::write_binary_head(self.0, binary.len());
                self.0.extend_from_slice(binary);
            }
            Value::List(count) => cbor::write_list_head(self.0, *count),
            Value::Dict(count) => cbor::write_dict_head(self.0, *count),
        }
        Ok(())
    }
}
