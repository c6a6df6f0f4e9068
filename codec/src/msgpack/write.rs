//! MessagePack values into a buffer, each in its shortest form.

use bytes::{BufMut as _, BytesMut};

#[inline]
pub(crate) fn write_nil(out: &mut BytesMut) {
    out.put_u8(0xc0);
}

#[inline]
pub(crate) fn write_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { 0xc3 } else { 0xc2 });
}

#[inline]
pub(crate) fn write_u64(out: &mut BytesMut, value: u64) {
    match value {
        0..=0x7f => out.put_u8(value as u8),
        0x80..=0xff => put_sized(out, 0xcc, &(value as u8).to_be_bytes()),
        0x100..=0xffff => put_sized(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put_sized(out, 0xce, &(value as u32).to_be_bytes()),
        _ => put_sized(out, 0xcf, &value.to_be_bytes()),
    }
}

#[inline]
pub(crate) fn write_i64(out: &mut BytesMut, value: i64) {
    match value {
        0.. => write_u64(out, value.unsigned_abs()),
        -0x20..0 => out.put_i8(value as i8),
        -0x80..-0x20 => put_sized(out, 0xd0, &(value as i8).to_be_bytes()),
        -0x8000..-0x80 => put_sized(out, 0xd1, &(value as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => put_sized(out, 0xd2, &(value as i32).to_be_bytes()),
        _ => put_sized(out, 0xd3, &value.to_be_bytes()),
    }
}

#[inline]
pub(crate) fn write_f64(out: &mut BytesMut, value: f64) {
    put_sized(out, 0xcb, &value.to_be_bytes());
}

#[inline]
pub(crate) fn write_string(out: &mut BytesMut, text: &str) {
    write_string_head(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// The head of a string; its `length` bytes follow.
#[inline]
pub(crate) fn write_string_head(out: &mut BytesMut, length: usize) {
    match length {
        length @ 0..=31 => out.put_u8(0xa0 | length as u8),
        length @ 32..=0xff => put_sized(out, 0xd9, &(length as u8).to_be_bytes()),
        length @ 0x100..=0xffff => put_sized(out, 0xda, &(length as u16).to_be_bytes()),
        length => put_sized(out, 0xdb, &long_length(length).to_be_bytes()),
    }
}

/// The head of a binary value; its `length` bytes follow.
#[inline]
pub(crate) fn write_binary_head(out: &mut BytesMut, length: usize) {
    match length {
        0..=0xff => put_sized(out, 0xc4, &(length as u8).to_be_bytes()),
        0x100..=0xffff => put_sized(out, 0xc5, &(length as u16).to_be_bytes()),
        _ => put_sized(out, 0xc6, &long_length(length).to_be_bytes()),
    }
}

/// The head of a list; its `count` elements follow.
#[inline]
pub(crate) fn write_list_head(out: &mut BytesMut, count: u32) {
    match count {
        0..=15 => out.put_u8(0x90 | count as u8),
        16..=0xffff => put_sized(out, 0xdc, &(count as u16).to_be_bytes()),
        _ => put_sized(out, 0xdd, &count.to_be_bytes()),
    }
}

/// The head of a dictionary; its `count` pairs follow.
#[inline]
pub(crate) fn write_dict_head(out: &mut BytesMut, count: u32) {
    match count {
        0..=15 => out.put_u8(0x80 | count as u8),
        16..=0xffff => put_sized(out, 0xde, &(count as u16).to_be_bytes()),
        _ => put_sized(out, 0xdf, &count.to_be_bytes()),
    }
}

#[inline]
fn put_sized(out: &mut BytesMut, marker: u8, big_endian: &[u8]) {
    out.put_u8(marker);
    out.extend_from_slice(big_endian);
}

fn long_length(length: usize) -> u32 {
    u32::try_from(length).expect("messages are limited far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgpack::{Head, read_head};

    fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    #[test]
    fn integers_are_written_as_rmp_writes_them() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1, u64::MAX] {
                let mut expected = Vec::new();
                rmp::encode::write_uint(&mut expected, value).unwrap();
                assert_eq!(written(|out| write_u64(out, value)), expected);
                for signed in [value as i64, (value as i64).wrapping_neg()] {
                    let mut expected = Vec::new();
                    rmp::encode::write_sint(&mut expected, signed).unwrap();
                    let ours = written(|out| write_i64(out, signed));
                    assert_eq!(ours, expected, "{signed}");
                    let head =
                        if signed < 0 { Head::Negative(signed) } else { Head::Unsigned(signed as u64) };
                    assert_eq!(read_head(&ours, 0).unwrap(), (head, ours.len()));
                }
            }
        }
    }

    #[test]
    fn lengths_take_the_shortest_head() {
        for length in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let mut expected = Vec::new();
            rmp::encode::write_str(&mut expected, &"x".repeat(length)).unwrap();
            assert_eq!(written(|out| write_string(out, &"x".repeat(length))), expected);
            let mut expected = Vec::new();
            rmp::encode::write_bin_len(&mut expected, length as u32).unwrap();
            assert_eq!(written(|out| write_binary_head(out, length)), expected);
            let mut expected = Vec::new();
            rmp::encode::write_array_len(&mut expected, length as u32).unwrap();
            assert_eq!(written(|out| write_list_head(out, length as u32)), expected);
            let mut expected = Vec::new();
            rmp::encode::write_map_len(&mut expected, length as u32).unwrap();
            assert_eq!(written(|out| write_dict_head(out, length as u32)), expected);
        }
    }
}
