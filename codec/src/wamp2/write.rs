//! What the encoder needs from a serializer: values in order, into the caller's buffer.

use bytes::BytesMut;

use crate::{cbor, json, msgpack};

/// Writes one value after the other. Lists and dictionaries are announced with their number of elements or pairs,
/// which some serializers need and others ignore.
pub(super) trait Writer {
    fn begin_list(&mut self, count: u32);
    fn end_list(&mut self);
    fn begin_dict(&mut self, count: u32);
    fn end_dict(&mut self);
    fn key(&mut self, key: &str);
    fn uint(&mut self, value: u64);
    fn bool(&mut self, value: bool);
    fn str(&mut self, value: &str);
    /// A value that is already in this serializer.
    fn raw(&mut self, value: &[u8]);
    /// An empty dictionary.
    fn empty_dict(&mut self);
}

/// Something that writes its pairs into a dictionary. It runs twice: once to be counted, once to be written.
pub(super) trait Pairs {
    fn write(&self, writer: &mut impl Writer);
}

/// Writes a whole dictionary.
#[inline]
pub(super) fn write_dict(writer: &mut impl Writer, pairs: &impl Pairs) {
    let mut counter = Counter::default();
    pairs.write(&mut counter);
    if counter.keys == 0 {
        return writer.empty_dict();
    }
    writer.begin_dict(counter.keys);
    pairs.write(writer);
    writer.end_dict();
}

/// Counts the keys of the outermost dictionary.
#[derive(Default)]
struct Counter {
    keys: u32,
    depth: u32,
}

impl Writer for Counter {
    fn begin_list(&mut self, _count: u32) {}
    fn end_list(&mut self) {}
    fn begin_dict(&mut self, _count: u32) {
        self.depth += 1;
    }
    fn end_dict(&mut self) {
        self.depth -= 1;
    }
    fn key(&mut self, _key: &str) {
        if self.depth == 0 {
            self.keys += 1;
        }
    }
    fn uint(&mut self, _value: u64) {}
    fn bool(&mut self, _value: bool) {}
    fn str(&mut self, _value: &str) {}
    fn raw(&mut self, _value: &[u8]) {}
    fn empty_dict(&mut self) {}
}

/// Compact JSON.
pub(super) struct JsonWriter<'o> {
    out: &'o mut BytesMut,
    /// The next value or key follows another one.
    comma: bool,
}

impl<'o> JsonWriter<'o> {
    pub(super) fn new(out: &'o mut BytesMut) -> Self {
        Self { out, comma: false }
    }

    #[inline]
    fn separate(&mut self) {
        if self.comma {
            self.out.extend_from_slice(b",");
        }
        self.comma = true;
    }
}

impl Writer for JsonWriter<'_> {
    #[inline]
    fn begin_list(&mut self, _count: u32) {
        self.separate();
        self.out.extend_from_slice(b"[");
        self.comma = false;
    }

    #[inline]
    fn end_list(&mut self) {
        self.out.extend_from_slice(b"]");
        self.comma = true;
    }

    #[inline]
    fn begin_dict(&mut self, _count: u32) {
        self.separate();
        self.out.extend_from_slice(b"{");
        self.comma = false;
    }

    #[inline]
    fn end_dict(&mut self) {
        self.out.extend_from_slice(b"}");
        self.comma = true;
    }

    #[inline]
    fn key(&mut self, key: &str) {
        self.str(key);
        self.out.extend_from_slice(b":");
        self.comma = false;
    }

    #[inline]
    fn uint(&mut self, value: u64) {
        if self.comma {
            json::write_next_u64(self.out, value);
        } else {
            json::write_u64(self.out, value);
        }
        self.comma = true;
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        self.separate();
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    #[inline]
    fn str(&mut self, value: &str) {
        self.separate();
        json::write_string(self.out, value);
    }

    #[inline]
    fn raw(&mut self, value: &[u8]) {
        self.separate();
        self.out.extend_from_slice(value);
    }

    #[inline]
    fn empty_dict(&mut self) {
        self.out.extend_from_slice(if self.comma { b",{}" } else { b"{}" });
        self.comma = true;
    }
}

/// MessagePack, each value in its shortest form.
pub(super) struct MsgPackWriter<'o> {
    out: &'o mut BytesMut,
}

impl<'o> MsgPackWriter<'o> {
    pub(super) fn new(out: &'o mut BytesMut) -> Self {
        Self { out }
    }
}

impl Writer for MsgPackWriter<'_> {
    #[inline]
    fn begin_list(&mut self, count: u32) {
        msgpack::write_list_head(self.out, count);
    }

    #[inline]
    fn end_list(&mut self) {}

    #[inline]
    fn begin_dict(&mut self, count: u32) {
        msgpack::write_dict_head(self.out, count);
    }

    #[inline]
    fn end_dict(&mut self) {}

    #[inline]
    fn key(&mut self, key: &str) {
        msgpack::write_string(self.out, key);
    }

    #[inline]
    fn uint(&mut self, value: u64) {
        msgpack::write_u64(self.out, value);
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        msgpack::write_bool(self.out, value);
    }

    #[inline]
    fn str(&mut self, value: &str) {
        msgpack::write_string(self.out, value);
    }

    #[inline]
    fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    #[inline]
    fn empty_dict(&mut self) {
        msgpack::write_dict_head(self.out, 0);
    }
}

/// CBOR, each value in its shortest form and with its length.
pub(super) struct CborWriter<'o> {
    out: &'o mut BytesMut,
}

impl<'o> CborWriter<'o> {
    pub(super) fn new(out: &'o mut BytesMut) -> Self {
        Self { out }
    }
}

impl Writer for CborWriter<'_> {
    #[inline]
    fn begin_list(&mut self, count: u32) {
        cbor::write_list_head(self.out, count);
    }

    #[inline]
    fn end_list(&mut self) {}

    #[inline]
    fn begin_dict(&mut self, count: u32) {
        cbor::write_dict_head(self.out, count);
    }

    #[inline]
    fn end_dict(&mut self) {}

    #[inline]
    fn key(&mut self, key: &str) {
        cbor::write_string(self.out, key);
    }

    #[inline]
    fn uint(&mut self, value: u64) {
        cbor::write_u64(self.out, value);
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        cbor::write_bool(self.out, value);
    }

    #[inline]
    fn str(&mut self, value: &str) {
        cbor::write_string(self.out, value);
    }

    #[inline]
    fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    #[inline]
    fn empty_dict(&mut self) {
        cbor::write_dict_head(self.out, 0);
    }
}
