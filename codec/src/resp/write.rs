//! Replies and messages. Each appends one value, or the head of one.

use bytes::{BufMut, BytesMut};

/// What a client has asked for with HELLO; at first the older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Messages are arrays like replies, so a subscriber may say little else.
    #[default]
    Resp2,
    /// Messages are of a type of their own.
    Resp3,
}

/// A status: `+OK`. No line ends in it.
pub fn write_simple(out: &mut BytesMut, text: &str) {
    line(out, b'+', text.as_bytes());
}

/// An error: a code of capitals, a blank and words. Line ends become blanks.
pub fn write_error(out: &mut BytesMut, text: &str) {
    out.reserve(text.len() + 3);
    out.put_u8(b'-');
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.put_slice(b"\r\n");
}

/// An integer.
pub fn write_integer(out: &mut BytesMut, value: u64) {
    head(out, b':', value);
}

/// A string of bytes.
pub fn write_bulk(out: &mut BytesMut, bytes: &[u8]) {
    head(out, b'$', bytes.len() as u64);
    out.reserve(bytes.len() + 2);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// Nothing.
pub fn write_null(out: &mut BytesMut, version: Version) {
    out.put_slice(match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// An array; so many values follow.
pub fn write_array_head(out: &mut BytesMut, count: usize) {
    head(out, b'*', count as u64);
}

/// A map; so many pairs follow. In version 2 an array of both.
pub fn write_map_head(out: &mut BytesMut, version: Version, pairs: usize) {
    match version {
        Version::Resp2 => head(out, b'*', 2 * pairs as u64),
        Version::Resp3 => head(out, b'%', pairs as u64),
    }
}

/// Something that was not asked for just now; so many values follow.
pub fn write_push_head(out: &mut BytesMut, version: Version, count: usize) {
    let kind = match version {
        Version::Resp2 => b'*',
        Version::Resp3 => b'>',
    };
    head(out, kind, count as u64);
}

/// A message of a channel, for one that is subscribed to it.
pub fn write_message(out: &mut BytesMut, version: Version, channel: &[u8], payload: &[u8]) {
    write_push_head(out, version, 3);
    write_bulk(out, b"message");
    write_bulk(out, channel);
    write_bulk(out, payload);
}

/// A message of a channel, for one that is subscribed to a pattern.
pub fn write_pattern_message(
    out: &mut BytesMut,
    version: Version,
    pattern: &[u8],
    channel: &[u8],
    payload: &[u8],
) {
    write_push_head(out, version, 4);
    write_bulk(out, b"pmessage");
    write_bulk(out, pattern);
    write_bulk(out, channel);
    write_bulk(out, payload);
}

/// What answers `subscribe`, `psubscribe` and their opposites, once for each name. `count`: what the client is subscribed to
/// then, patterns too. No name: the client wanted to leave all, and had none.
pub fn write_subscription(
    out: &mut BytesMut,
    version: Version,
    kind: &str,
    name: Option<&[u8]>,
    count: usize,
) {
    write_push_head(out, version, 3);
    write_bulk(out, kind.as_bytes());
    match name {
        Some(name) => write_bulk(out, name),
        None => write_null(out, version),
    }
    write_integer(out, count as u64);
}

fn line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    debug_assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "a line has one end");
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn head(out: &mut BytesMut, kind: u8, value: u64) {
    // 20 digits are the longest.
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line(out, kind, &digits[at..]);
}
