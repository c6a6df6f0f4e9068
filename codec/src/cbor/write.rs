//! CBOR values into a buffer: definite lengths, heads in their shortest form, floats as doubles.

use bytes::{BufMut as _, BytesMut};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const LIST: u8 = 4 << 5;
const DICT: u8 = 5 << 5;

#[inline]
pub(crate) fn write_null(out: &mut BytesMut) {
    out.put_u8(0xf6);
}

#[inline]
pub(crate) fn write_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { 0xf5 } else { 0xf4 });
}

#[inline]
pub(crate) fn write_u64(out: &mut BytesMut, value: u64) {
    put_head(out, UNSIGNED, value);
}

/// Writes −1 − `value`, as CBOR puts it.
#[inline]
pub(crate) fn write_negative(out: &mut BytesMut, value: u64) {
    put_head(out, NEGATIVE, value);
}

#[inline]
pub(crate) fn write_f64(out: &mut BytesMut, value: f64) {
    put_sized(out, 0xfb, &value.to_be_bytes());
}

#[inline]
pub(crate) fn write_string(out: &mut BytesMut, text: &str) {
    put_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The head of a byte string; its `length` bytes follow.
#[inline]
pub(crate) fn write_binary_head(out: &mut BytesMut, length: usize) {
    put_head(out, BYTES, length as u64);
}

/// The head of a list; its `count` elements follow.
#[inline]
pub(crate) fn write_list_head(out: &mut BytesMut, count: u32) {
    put_head(out, LIST, count.into());
}

/// The head of a dictionary; its `count` pairs follow.
#[inline]
pub(crate) fn write_dict_head(out: &mut BytesMut, count: u32) {
    put_head(out, DICT, count.into());
}

#[inline]
fn put_head(out: &mut BytesMut, major: u8, argument: u64) {
    match argument {
        0..=23 => out.put_u8(major | argument as u8),
        24..=0xff => put_sized(out, major | 24, &(argument as u8).to_be_bytes()),
        0x100..=0xffff => put_sized(out, major | 25, &(argument as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put_sized(out, major | 26, &(argument as u32).to_be_bytes()),
        _ => put_sized(out, major | 27, &argument.to_be_bytes()),
    }
}

#[inline]
fn put_sized(out: &mut BytesMut, first: u8, big_endian: &[u8]) {
    out.put_u8(first);
    out.extend_from_slice(big_endian);
}

#[cfg(test)]
mod tests {
    use ciborium::Value;

    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    fn theirs(value: impl Into<Value>) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(&value.into(), &mut out).unwrap();
        out
    }

    #[test]
    fn integers_are_written_as_ciborium_writes_them() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1, 23, 24, u64::MAX] {
                assert_eq!(written(|out| write_u64(out, value)), theirs(value));
                let negative = Value::Integer((-1 - i128::from(value)).try_into().unwrap());
                assert_eq!(written(|out| write_negative(out, value)), theirs(negative));
            }
        }
    }

    #[test]
    fn lengths_take_the_shortest_head() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            assert_eq!(written(|out| write_string(out, &"x".repeat(length))), theirs("x".repeat(length)));
            let head = written(|out| write_binary_head(out, length));
            assert_eq!([head, vec![7; length]].concat(), theirs(vec![7u8; length]));
            let head = written(|out| write_list_head(out, length as u32));
            assert_eq!([head, vec![0xf6; length]].concat(), theirs(vec![Value::Null; length]));
            let head = written(|out| write_dict_head(out, length as u32));
            let pairs = vec![(Value::Null, Value::Bool(true)); length];
            assert_eq!([head, [0xf6, 0xf5].repeat(length)].concat(), theirs(Value::Map(pairs)));
        }
    }
}
