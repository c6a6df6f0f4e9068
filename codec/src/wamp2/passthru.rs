//! What is said of a payload that only its receivers understand (WAMP, "Payload Passthru Mode").
//!
//! The attributes travel with the payload as one more raw value, in the same serializer: they are checked once, where the
//! message is read, and copied into the options or details of each message that carries the payload.

use bytes::BytesMut;

use super::Serializer;
use super::dict::Values;
use super::error::ViolationKind;
use super::read::{Kind, Reader};
use super::read_cbor::CborReader;
use super::read_json::JsonReader;
use super::read_msgpack::MsgPackReader;
use super::write::{CborWriter, JsonWriter, MsgPackWriter, Pairs, Writer, write_dict};
use crate::json;
use crate::malformed::Malformed;

/// The keys of the attributes; all are strings. Without the first one there is no passthru.
const KEYS: [&str; 4] = ["ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid"];

/// The `ppt_` attributes of a payload: the dictionary that has them, as bytes in the payload's serializer. Whatever else
/// stands in it has nothing to do with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passthru<'a>(&'a [u8]);

impl<'a> Passthru<'a> {
    /// The attributes in a dictionary that was validated before.
    pub fn in_dict(dict: &'a [u8]) -> Self {
        Self(dict)
    }

    /// As many bytes as they have at most.
    pub fn bytes_max(self) -> usize {
        self.0.len()
    }

    /// A dictionary with the attributes alone, in the `serializer` in which they are.
    pub fn to_dict(self, serializer: Serializer) -> BytesMut {
        let mut out = BytesMut::new();
        let about = About { passthru: self, serializer };
        match serializer {
            Serializer::Json => write_dict(&mut JsonWriter::new(&mut out), &about),
            Serializer::MsgPack => write_dict(&mut MsgPackWriter::new(&mut out), &about),
            Serializer::Cbor => write_dict(&mut CborWriter::new(&mut out), &about),
        }
        out
    }

    fn for_each(self, serializer: Serializer, put: impl FnMut(&'static str, &'a [u8])) {
        let depth_max = json::DEPTH_MAX;
        match serializer {
            Serializer::Json => walk(JsonReader::new(self.0, depth_max), put),
            Serializer::MsgPack => walk(MsgPackReader::new(self.0, depth_max), put),
            Serializer::Cbor => walk(CborReader::new(self.0, depth_max), put),
        }
        .expect("the dictionary was validated");
    }
}

/// The attributes, with their values as they were written.
fn walk<'a, R: Reader<'a>>(
    mut reader: R,
    mut put: impl FnMut(&'static str, &'a [u8]),
) -> Result<(), Malformed> {
    let mut items = reader.dict()?;
    while let Some(key) = reader.next_key(&mut items)? {
        let kind = reader.kind()?;
        let value = reader.skip()?;
        if let Some(key) = known(&key)
            && kind != Kind::Absent
        {
            put(key, value);
        }
    }
    Ok(())
}

fn known(key: &str) -> Option<&'static str> {
    KEYS.into_iter().find(|known| *known == key)
}

/// The attributes as pairs of a dictionary in their own serializer.
pub(super) struct About<'a> {
    pub(super) passthru: Passthru<'a>,
    pub(super) serializer: Serializer,
}

impl Pairs for About<'_> {
    fn write(&self, writer: &mut impl Writer) {
        self.passthru.for_each(self.serializer, |key, value| {
            writer.key(key);
            writer.raw(value);
        });
    }
}

/// Which of the attributes a dictionary has.
#[derive(Default)]
pub(super) struct Found {
    /// Any of them.
    any: bool,
    /// A scheme that says something.
    scheme: bool,
    /// One that begins with U+0000: in JSON that is binary, and other serializers would get it as such.
    binary: Option<&'static str>,
}

impl Found {
    /// Reads one of the attributes; false if the key is none of theirs.
    #[cold]
    pub(super) fn key<'a, R: Reader<'a>>(
        &mut self,
        values: &mut Values<'_, R>,
        key: &str,
    ) -> Result<bool, ViolationKind> {
        let Some(key) = known(key) else { return Ok(false) };
        let value = values.string(key)?;
        self.any |= value.is_some();
        if value.as_ref().is_some_and(|text| text.starts_with('\0')) {
            self.binary.get_or_insert(key);
        }
        self.scheme |= key == KEYS[0] && value.is_some_and(|scheme| !scheme.is_empty());
        Ok(true)
    }

    /// Whether the payload is passed through. An error names what is missing: the others mean nothing without a scheme.
    pub(super) fn is_passthru(&self) -> Result<bool, (&'static str, &'static str)> {
        if let Some(key) = self.binary {
            return Err((key, "a string that does not begin with U+0000, which means binary"));
        }
        if self.any && !self.scheme {
            return Err((KEYS[0], "a string that is not empty, since there are attributes of a payload"));
        }
        Ok(self.scheme)
    }
}
