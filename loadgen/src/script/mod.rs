//! `--target FILE`: servers that speak something else than WAMP, as a few lines of TOML describe it.
//!
//! ```text
//! subscriber   WebSocket ─ connect.send … connect.ready ─ subscribe.send … subscribe.ready ─▶ deliveries
//! publisher    WebSocket ─ connect.send … connect.ready ─▶ publish.send
//!              or HTTP/1.1 ─▶ POST publish.post, publish.body          (`http.rs`)
//! ```
//!
//! With an address `tcp://…` there is no WebSocket: what is sent is written as it is, and what comes is one stream.
//!
//! A delivery is whatever message has a payload of this run in it, wherever that stands; the mark in the payload says who
//! sent it and which one it is, and the bytes behind the mark are compared too. So nothing has to be said about the form
//! of a delivery, and several in one message are found one after the other.

pub mod file;
pub mod http;
mod template;

use std::sync::Arc;

use fanwire_codec::ws::Kind;
use memchr::memmem;
pub use template::{Piece, Template, Values};

use crate::connection::{Connection, Stage};
use crate::plan::Setup;
use crate::session::Tools;
use crate::stamp::{self, STAMP_BYTES, Stamp};

/// What is said, and what the answer has in it.
#[derive(Clone, Debug, Default)]
pub struct Step {
    send: Vec<Template>,
    /// Without it the step is done at once.
    ready: Option<Vec<u8>>,
}

/// Where a server names what it calls a connection: between two texts.
#[derive(Clone, Debug)]
pub struct Capture {
    after: Vec<u8>,
    until: Vec<u8>,
}

impl Capture {
    /// The first text between the two in `message`.
    fn find<'a>(&self, message: &'a [u8]) -> Option<&'a str> {
        let from = memmem::find(message, &self.after)? + self.after.len();
        let length = memmem::find(&message[from..], &self.until)?;
        std::str::from_utf8(&message[from..from + length]).ok()
    }
}

/// How to publish.
#[derive(Clone, Debug)]
pub enum Publish {
    /// A frame on the publisher's WebSocket.
    Frame(Template),
    /// A request on the publisher's HTTP connection.
    Post(http::Post),
}

/// A server, as its file describes it.
#[derive(Debug)]
pub struct Script {
    /// What it is called in reports.
    pub name: String,
    /// Where it is, unless `--url` says something else; may have `{topic}` in its path.
    pub url: Option<String>,
    /// Offered in the handshake.
    pub subprotocol: Option<String>,
    /// Further fields of the handshake.
    pub headers: Vec<(String, String)>,
    /// Frames are binary.
    pub is_binary: bool,
    connect: Step,
    /// What of the answer to `connect` is said again later.
    capture: Option<Capture>,
    subscribe: Step,
    /// How to publish.
    pub publish: Publish,
    /// Messages of the server that want an answer, whole.
    answers: Vec<(Vec<u8>, Template)>,
}

/// What a message has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A payload of this run, undamaged.
    Payload(Stamp),
    /// The mark of one, and behind it something else than was sent.
    Damaged,
}

impl Script {
    fn kind(&self) -> Kind {
        if self.is_binary { Kind::Binary } else { Kind::Text }
    }

    /// The steps of a connection, in order.
    fn step(&self, setup: &Setup, number: u8) -> Option<&Step> {
        match (setup, number) {
            (Setup::Session | Setup::Subscribe(_), 0) => Some(&self.connect),
            (Setup::Subscribe(_), 1) => Some(&self.subscribe),
            _ => None,
        }
    }

    fn push(&self, connection: &mut Connection, template: &Template, topic: &str, tools: &mut Tools<'_>) {
        tools.scratch.clear();
        let number = connection.take_request();
        let captured = &connection.captured;
        template.write(tools.scratch, Values { topic, payload: b"", number, captured });
        self.send(connection, tools);
    }

    /// Appends what is in the scratch buffer to what the connection has to write.
    fn send(&self, connection: &mut Connection, tools: &mut Tools<'_>) {
        match connection.is_plain_tcp {
            true => connection.out.extend_from_slice(tools.scratch),
            false => connection.push_frame(self.kind(), tools.scratch, tools.masks),
        }
    }

    /// Goes through the steps from the connection's present one, as far as no answer has to be awaited.
    pub fn advance(&self, connection: &mut Connection, tools: &mut Tools<'_>) {
        let setup = connection.setup.clone();
        let topic = setup.topic().unwrap_or("");
        while let Some(step) = self.step(&setup, connection.step) {
            step.send.iter().for_each(|template| self.push(connection, template, topic, tools));
            if step.ready.is_some() {
                connection.stage = Stage::Preparing;
                return;
            }
            connection.step += 1;
        }
        connection.stage = Stage::Ready;
    }

    /// A message came before the connection was ready.
    pub fn handle_setup(&self, connection: &mut Connection, message: &[u8], tools: &mut Tools<'_>) {
        if self.answer(connection, message, tools) {
            return;
        }
        let ready = self.step(&connection.setup, connection.step).and_then(|step| step.ready.as_deref());
        if ready.is_some_and(|ready| memmem::find(message, ready).is_some()) {
            if connection.step == 0
                && let Some(capture) = &self.capture
            {
                connection.captured = capture.find(message).unwrap_or_default().into();
            }
            connection.step += 1;
            self.advance(connection, tools);
            return;
        }
        // If the connection never becomes ready, these are probably the server's reasons.
        let words: String = String::from_utf8_lossy(message).chars().take(200).collect();
        *tools.shared.last_words.lock().expect("nobody panics while holding it") = Some(words);
    }

    /// Answers a message that wants it.
    pub fn answer(&self, connection: &mut Connection, message: &[u8], tools: &mut Tools<'_>) -> bool {
        let Some((_, template)) = self.answers.iter().find(|(to, _)| to == message) else { return false };
        self.push(connection, template, "", tools);
        true
    }

    /// Publishes once: `payload` is the mark and what follows it.
    pub fn publish(&self, connection: &mut Connection, topic: &str, payload: &[u8], tools: &mut Tools<'_>) {
        let number = connection.take_request();
        let values = Values { topic, payload, number, captured: &connection.captured };
        match &self.publish {
            Publish::Frame(template) => {
                tools.scratch.clear();
                template.write(tools.scratch, values);
                self.send(connection, tools);
            }
            Publish::Post(post) => {
                let values = Values { captured: "", ..values };
                post.write(&mut connection.out, values, tools.scratch);
            }
        }
    }

    /// Whether publishers speak HTTP.
    pub fn posts(&self) -> Option<&http::Post> {
        match &self.publish {
            Publish::Post(post) => Some(post),
            Publish::Frame(_) => None,
        }
    }
}

/// The payloads of a run in other servers' messages.
#[derive(Debug)]
pub struct Finder {
    run: u16,
    filler: Vec<u8>,
    mark: memmem::Finder<'static>,
    payload: Vec<u8>,
}

impl Finder {
    /// For payloads of `payload_bytes`.
    pub fn new(run: u16, payload_bytes: usize) -> Self {
        let filler = stamp::filler(payload_bytes - STAMP_BYTES);
        let payload = [&[b'0'; STAMP_BYTES][..], &filler].concat();
        Self { run, filler, mark: memmem::Finder::new(b"fw"), payload }
    }

    /// The bytes to publish; valid until the next call.
    pub fn stamped(&mut self, stamp: &Stamp) -> &[u8] {
        stamp.write(self.payload.first_chunk_mut().expect("it was made with room for a stamp"));
        &self.payload
    }

    /// How much of a stream's bytes can be searched now: what behind it may be the begin of a payload needs more bytes.
    pub fn searchable(&self, stream: &[u8]) -> usize {
        // A mark this near to the end is none, or its payload is cut: neither the stamp nor the filler has another in it.
        let from = stream.len().saturating_sub(self.payload.len() - 1);
        match self.mark.find(&stream[from..]) {
            Some(at) => from + at,
            None if stream.last() == Some(&b'f') => stream.len() - 1,
            None => stream.len(),
        }
    }

    /// The next payload in `message` from `at` on, and where to go on. Marks of other runs are passed over.
    pub fn find(&self, message: &[u8], mut at: usize) -> Option<(Found, usize)> {
        while let Some(found) = self.mark.find(&message[at..]) {
            at += found;
            match Stamp::read(&message[at..]) {
                Some(stamp) if stamp.run == self.run => {
                    let behind = at + STAMP_BYTES;
                    let end = behind + self.filler.len();
                    return Some(match message.get(behind..end) {
                        Some(filler) if filler == self.filler => (Found::Payload(stamp), end),
                        _ => (Found::Damaged, behind),
                    });
                }
                _ => at += 2,
            }
        }
        None
    }
}

/// Shared by all threads; `None` where the server speaks WAMP.
pub type Dialect = Option<Arc<Script>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_found_wherever_they_are() {
        let mut finder = Finder::new(0xabc, 48);
        let stamp = |sequence| Stamp { publisher: 1, sequence, run: 0xabc, intended_ns: 9 };
        let one = finder.stamped(&stamp(1)).to_vec();
        let two = finder.stamped(&stamp(2)).to_vec();
        let other = Finder::new(0xabd, 48).stamped(&Stamp { run: 0xabd, ..stamp(3) }).to_vec();
        let message = [b"{\"fw\":\"", &one[..], b"\"}\nfw", &other, b" ", &two, b"fw"].concat();
        let (found, at) = finder.find(&message, 0).unwrap();
        assert_eq!(found, Found::Payload(stamp(1)));
        let (found, at) = finder.find(&message, at).unwrap();
        assert_eq!(found, Found::Payload(stamp(2)), "the other run is passed over");
        assert_eq!(finder.find(&message, at), None);
        let mut damaged = one.clone();
        damaged[40] = b'~';
        assert_eq!(finder.find(&damaged, 0).unwrap().0, Found::Damaged);
        assert_eq!(finder.find(&one[..40], 0).unwrap().0, Found::Damaged, "cut off");
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let mut finder = Finder::new(0xabc, 48);
        let stamp = |sequence| Stamp { publisher: 1, sequence, run: 0xabc, intended_ns: 9 };
        let mut stream = b"+OK ff f".to_vec();
        for sequence in 0..3 {
            stream.extend_from_slice(b"message fw ");
            stream.extend_from_slice(finder.stamped(&stamp(sequence)));
            stream.extend_from_slice(b"\r\n");
        }
        for cut in 0..stream.len() {
            let (mut found, mut held) = (Vec::new(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                held.extend_from_slice(part);
                let whole = finder.searchable(&held);
                let mut next = finder.find(&held[..whole], 0);
                while let Some((one, at)) = next {
                    found.push(one);
                    next = finder.find(&held[..whole], at);
                }
                held.drain(..whole);
            }
            assert_eq!(found, [0, 1, 2].map(|sequence| Found::Payload(stamp(sequence))), "cut at {cut}");
        }
    }
}
