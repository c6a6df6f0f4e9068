//! What is sent: text, bytes, and the places that are filled for each message.

use bytes::{BufMut, BytesMut};

/// Text with places in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(Vec<u8>),
    /// The topic.
    Topic,
    /// The payload.
    Payload,
    /// The number of the message.
    Number,
    /// What the server's answer to `connect` said: `connect.capture`.
    Captured,
    /// Length of the topic, in decimal digits.
    TopicSize,
    /// Length of the payload, in decimal digits.
    PayloadSize,
    /// Length of the topic, in two bytes, the higher one first.
    TopicU16,
    /// Length of all that follows, seven bits to a byte, the lowest first (MQTT 3.1.1, 2.2.3).
    RestVarint,
}

/// What the places are filled with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// The mark and what follows it.
    pub payload: &'a [u8],
    /// Counts a connection's messages from 1.
    pub number: u64,
    /// Empty without `connect.capture`.
    pub captured: &'a str,
}

const PLACES: &[(&str, Piece)] = &[
    ("{topic}", Piece::Topic),
    ("{payload}", Piece::Payload),
    ("{n}", Piece::Number),
    ("{captured}", Piece::Captured),
    ("{topic.size}", Piece::TopicSize),
    ("{payload.size}", Piece::PayloadSize),
    ("{topic.u16}", Piece::TopicU16),
    ("{rest.varint}", Piece::RestVarint),
];

impl Template {
    /// The places are those of `PLACES`, and `{0x8200}` for bytes; every other brace is a brace.
    pub fn parse(text: &str) -> Self {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), Vec::new(), text);
        while !rest.is_empty() {
            if let Some((place, piece)) = PLACES.iter().find(|(place, _)| rest.starts_with(place)) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(piece.clone());
                rest = &rest[place.len()..];
            } else if let Some((bytes, length)) = hexadecimal(rest) {
                plain.extend(bytes);
                rest = &rest[length..];
            } else {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                plain.extend_from_slice(&rest.as_bytes()[..length]);
                rest = &rest[length..];
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self(pieces)
    }

    /// Whether the place is in it.
    pub fn has(&self, piece: &Piece) -> bool {
        self.0.contains(piece)
    }

    /// The bytes, if there is no place in it.
    pub fn plain(&self) -> Option<&[u8]> {
        match &self.0[..] {
            [] => Some(b""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the text.
    pub fn write(&self, out: &mut BytesMut, values: Values<'_>) {
        let Values { topic, payload, number, captured } = values;
        for (index, piece) in self.0.iter().enumerate() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Topic => out.extend_from_slice(topic.as_bytes()),
                Piece::Payload => out.extend_from_slice(payload),
                Piece::Number => out.extend_from_slice(number.to_string().as_bytes()),
                Piece::Captured => out.extend_from_slice(captured.as_bytes()),
                Piece::TopicSize => out.extend_from_slice(topic.len().to_string().as_bytes()),
                Piece::PayloadSize => out.extend_from_slice(payload.len().to_string().as_bytes()),
                Piece::TopicU16 => out.put_u16(topic.len() as u16),
                Piece::RestVarint => {
                    let behind = Template(self.0[index + 1..].to_vec());
                    let mut rest = BytesMut::new();
                    behind.write(&mut rest, values);
                    put_varint(out, rest.len());
                    out.extend_from_slice(&rest);
                    return;
                }
            }
        }
    }
}

/// `{0x8200}` at the begin of `text`: the bytes, and the length of their text.
fn hexadecimal(text: &str) -> Option<(Vec<u8>, usize)> {
    let digits = text.strip_prefix("{0x")?.split_once('}')?.0.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    let is_whole = !digits.is_empty() && digits.len() % 2 == 0;
    is_whole.then(|| (bytes, digits.len() + "{0x}".len()))
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value > 0x7f {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, topic: &str, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        Template::parse(text).write(&mut out, Values { topic, payload, number: 7, captured: "me" });
        out
    }

    #[test]
    fn places_are_filled_and_other_braces_stay() {
        let text = r#"{"id":{n},"publish":{"to":"{topic}","by":"{captured}","data":"{payload}"},"ä":{}}"#;
        let out = written(text, "news", b"fw01");
        assert_eq!(
            String::from_utf8_lossy(&out),
            r#"{"id":7,"publish":{"to":"news","by":"me","data":"fw01"},"ä":{}}"#
        );
        assert!(Template::parse(text).has(&Piece::Payload));
        assert!(!Template::parse("{payload").has(&Piece::Payload));
    }

    #[test]
    fn lengths_and_bytes_are_written() {
        assert_eq!(&written("PUB {topic} {payload.size}\r\n", "a.b", &[b'x'; 300])[..], b"PUB a.b 300\r\n");
        assert_eq!(&written("${topic.size}|{0x}|{0xa}|{0x00fF}", "a.b", b"")[..], b"$3|{0x}|{0xa}|\x00\xff");
        assert_eq!(
            &written("{0x30}{rest.varint}{topic.u16}{topic}{payload}", "ab", b"c")[..],
            b"0\x05\x00\x02abc"
        );
        let long = written("{rest.varint}{payload}", "", &[b'x'; 321]);
        assert_eq!((&long[..2], long.len()), (&[0xc1, 0x02][..], 323));
    }
}
