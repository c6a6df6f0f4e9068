//! WAMP over HTTP long-polling (WAMP, "HTTP Longpoll Transport"): the body that opens a session, and messages as bodies.

use std::borrow::Cow;

use thiserror::Error;

use super::batch;
use super::{JsonReader, Kind as ValueKind, Reader};
use crate::json;
use crate::malformed::Malformed;
use crate::rawsocket::{self, HEAD_BYTES};
use crate::ws::Kind;

/// A body that opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "the body must be a JSON object with the list \"protocols\", such as {{\"protocols\": [\"wamp.2.json\"]}}"
)]
pub struct OpenError;

/// The protocols that a client offers in the body of its first request, in its order.
///
///     use fanwire_codec::wamp2::longpoll::protocols;
///     assert_eq!(protocols(br#"{"protocols": ["wamp.2.json"]}"#).unwrap(), ["wamp.2.json"]);
///     assert!(protocols(br#"["wamp.2.json"]"#).is_err());
///
/// # Errors
///
/// The body is something else. Fields that are not known are passed over.
pub fn protocols(body: &[u8]) -> Result<Vec<Cow<'_, str>>, OpenError> {
    // The reader takes UTF-8 for granted.
    let is_text = std::str::from_utf8(body).is_ok();
    is_text.then(|| read_protocols(body).ok().flatten()).flatten().ok_or(OpenError)
}

fn read_protocols(body: &[u8]) -> Result<Option<Vec<Cow<'_, str>>>, Malformed> {
    let mut reader = JsonReader::new(body, json::DEPTH_MAX);
    if reader.kind()? != ValueKind::Dict {
        return Ok(None);
    }
    let mut found = None;
    let mut pairs = reader.dict()?;
    while let Some(key) = reader.next_key(&mut pairs)? {
        if key != "protocols" || reader.kind()? != ValueKind::List {
            reader.skip()?;
            continue;
        }
        let mut offered = Vec::new();
        let mut items = reader.list()?;
        while reader.next_element(&mut items)? {
            if reader.kind()? != ValueKind::String {
                return Ok(None);
            }
            offered.push(reader.string()?);
        }
        found = Some(offered);
    }
    reader.finish()?;
    Ok(found)
}

/// What goes into the body of an answer: RawSocket frames, as they come in pieces of any size, made one message or one batch.
#[derive(Debug)]
pub struct Answer {
    kind: Kind,
    batched: bool,
    body: Vec<u8>,
    /// The body's whole messages end here.
    whole: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have come.
    head_len: usize,
    /// Bytes of the payload that have not come.
    payload_left: usize,
}

impl Answer {
    /// Nothing yet. `kind`: whether the messages are text. `batched`: whether a body may have several of them.
    pub fn new(kind: Kind, batched: bool) -> Self {
        let (body, head) = (Vec::new(), [0; HEAD_BYTES]);
        Self { kind, batched, body, whole: 0, head, head_len: 0, payload_left: 0 }
    }

    /// Whether there is something to be answered with.
    pub fn is_ready(&self) -> bool {
        self.whole > 0
    }

    /// Whether a message has begun and not ended.
    pub fn is_cut(&self) -> bool {
        self.head_len > 0
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.body.capacity()
    }

    /// Takes from `piece` what belongs into this body, and tells how many bytes that were: as many messages as there are, but
    /// none after the first without batches, nor after `bytes_max`. A message that has begun is always taken on.
    pub fn take(&mut self, piece: &[u8], bytes_max: usize) -> usize {
        let mut at = 0;
        while at < piece.len() && (self.is_cut() || !self.is_full(bytes_max)) {
            at += if self.head_len < HEAD_BYTES {
                self.take_head(&piece[at..])
            } else {
                self.take_payload(&piece[at..])
            };
        }
        at
    }

    fn is_full(&self, bytes_max: usize) -> bool {
        self.is_ready() && (!self.batched || self.whole >= bytes_max)
    }

    fn take_head(&mut self, piece: &[u8]) -> usize {
        let count = piece.len().min(HEAD_BYTES - self.head_len);
        self.head[self.head_len..self.head_len + count].copy_from_slice(&piece[..count]);
        self.head_len += count;
        if self.head_len == HEAD_BYTES {
            self.payload_left = rawsocket::length(self.head);
            if self.batched {
                batch::begin_message(&mut self.body, self.kind, self.payload_left as u32);
            }
            // No message of WAMP is empty, but nothing would end one.
            if self.payload_left == 0 {
                self.end_message();
            }
        }
        count
    }

    fn take_payload(&mut self, piece: &[u8]) -> usize {
        let count = piece.len().min(self.payload_left);
        self.body.extend_from_slice(&piece[..count]);
        self.payload_left -= count;
        if self.payload_left == 0 {
            self.end_message();
        }
        count
    }

    fn end_message(&mut self) {
        if self.batched {
            batch::end_message(&mut self.body, self.kind);
        }
        self.whole = self.body.len();
        self.head_len = 0;
    }

    /// Gives the body of the whole messages. What has begun behind them stays for the next one.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = self.body.split_off(self.whole);
        self.whole = 0;
        std::mem::replace(&mut self.body, rest)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::rawsocket::{FrameKind, write_frame};
    use crate::wamp2::batch::Batch;

    #[test]
    fn bodies_that_open_and_bodies_that_do_not() {
        let offered = |body: &str| protocols(body.as_bytes()).map(|list| list.join(" "));
        for (body, expected) in [
            (r#"{"protocols":["wamp.2.json"]}"#, "wamp.2.json"),
            (r#" { "x" : [1,{}], "protocols" : [ "a" , "b\u0063" ] } "#, "a bc"),
            (r#"{"protocols":[]}"#, ""),
        ] {
            assert_eq!(offered(body).as_deref(), Ok(expected), "{body}");
        }
        for body in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"protocols":"wamp.2.json"}"#,
            r#"{"protocols":["wamp.2.json",1]}"#,
            r#"{"protocols":["wamp.2.json"]"#,
            r#"{"protocols":["wamp.2.json"]}}"#,
        ] {
            assert_eq!(offered(body), Err(OpenError), "{body}");
        }
        assert!(protocols(b"{\"protocols\":[\"\xFF\"]}").is_err());
    }

    #[test]
    fn without_batches_a_body_has_one_message() {
        let mut frames = BytesMut::new();
        for message in ["[1]", "[2,3]"] {
            write_frame(&mut frames, FrameKind::Message, message.as_bytes());
        }
        let mut answer = Answer::new(Kind::Text, false);
        let taken = answer.take(&frames, usize::MAX);
        assert_eq!((taken, answer.take(&frames[taken..], usize::MAX)), (7, 0));
        assert_eq!(answer.finish(), b"[1]");
        assert_eq!(answer.take(&frames[taken..], usize::MAX), 9);
        assert_eq!(answer.finish(), b"[2,3]");
    }

    #[test]
    fn a_full_batch_takes_no_message_more() {
        let mut frames = BytesMut::new();
        (0..4).for_each(|_| write_frame(&mut frames, FrameKind::Message, &[b'x'; 10]));
        let mut answer = Answer::new(Kind::Text, true);
        assert_eq!(answer.take(&frames, 12), 28);
        assert_eq!(answer.finish(), b"xxxxxxxxxx\x1exxxxxxxxxx\x1e");
    }

    proptest! {
        /// In whatever pieces frames come and whenever answers are given, the bodies have all messages in order.
        #[test]
        fn nothing_is_lost_between_bodies(
            lengths in prop::collection::vec(1usize..300, 1..12),
            cuts in prop::collection::vec(1usize..200, 1..40),
            batched: bool,
            text: bool,
            bytes_max in 1usize..400,
        ) {
            let kind = if text { Kind::Text } else { Kind::Binary };
            let messages: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(at, length)| vec![b'a' + at as u8; *length]).collect();
            let mut frames = BytesMut::new();
            messages.iter().for_each(|message| write_frame(&mut frames, FrameKind::Message, message));
            let mut answer = Answer::new(kind, batched);
            let (mut heard, mut rest, mut cuts) = (Vec::new(), &frames[..], cuts.iter().cycle());
            while !rest.is_empty() || answer.is_ready() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                rest = &rest[answer.take(piece, bytes_max)..];
                if answer.is_ready() {
                    let mut body = answer.finish();
                    if batched {
                        let mut batch = Batch::new(kind, &mut body);
                        while let Some(message) = batch.next_message().unwrap() {
                            heard.push(message.to_vec());
                        }
                    } else {
                        heard.push(body);
                    }
                }
            }
            prop_assert_eq!(heard, messages);
            prop_assert!(!answer.is_cut());
        }
    }
}
