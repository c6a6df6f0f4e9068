//! The bytes of a WAMP client in JSON: what it sends, and what it makes of what it gets. No I/O, so that blocking clients and
//! crowds of asynchronous ones share it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BytesMut;
use fanwire_codec::ws::deflate::{Agreement, Offer};
use fanwire_codec::ws::{self, Control, Kind, Limits, Pool, Received, Receiver, Role, handshake};
use serde_json::{Value, json};

/// WAMP in JSON.
pub const SUBPROTOCOL: &str = "wamp.2.json";
/// The field of the handshake that compression is offered in.
pub const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const KEY: [u8; 16] = *b"sixteen bytes...";
/// The mask of all frames: that it is constant makes them comparable.
pub const MASK: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x99];

/// What a client heard.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A message.
    Message(Value),
    /// A close frame.
    Close(u16, String),
    /// The end of the connection: in order, or by a reset.
    End,
}

/// The bytes of a request for an upgrade, with further fields.
pub fn request(address: SocketAddr, extra: &[(&str, &str)]) -> Vec<u8> {
    request_to(address, "/ws", &[SUBPROTOCOL], extra)
}

/// The same for another path, and what is spoken there.
pub fn request_to(address: SocketAddr, path: &str, subprotocols: &[&str], extra: &[(&str, &str)]) -> Vec<u8> {
    let mut request = BytesMut::new();
    handshake::write_request(&mut request, &address.to_string(), path, subprotocols, KEY, extra)
        .expect("nothing in it breaks the head");
    request.to_vec()
}

/// The message that joins `realm1`.
pub fn hello() -> Value {
    let roles = json!({"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}});
    json!([1, "realm1", {"roles": roles}])
}

/// The bytes of a message as a frame.
pub fn frame(message: &Value) -> Vec<u8> {
    let mut frame = BytesMut::new();
    ws::write_client_message(&mut frame, Kind::Text, &[message.to_string().as_bytes()], MASK);
    frame.to_vec()
}

/// What one client hears.
pub struct Wire {
    receiver: Receiver,
    pool: Pool,
    heard: VecDeque<Heard>,
    /// Whether pings are answered.
    pub answers_pings: bool,
}

impl Wire {
    /// Checks the answer to [`request`]; also what was agreed on of `offer`.
    ///
    /// # Panics
    ///
    /// If it is not the answer of a router.
    pub fn opened(head: &[u8], offer: Option<&Offer>) -> (Self, Option<Agreement>) {
        Self::opened_for(head, &[SUBPROTOCOL], offer)
    }

    /// Checks the answer to [`request_to`]; also what was agreed on of `offer`.
    ///
    /// # Panics
    ///
    /// If it is not the answer of a router that speaks the first of them.
    pub fn opened_for(
        head: &[u8],
        subprotocols: &[&str],
        offer: Option<&Offer>,
    ) -> (Self, Option<Agreement>) {
        let opened = handshake::verify_response_with(head, &KEY, subprotocols, offer).expect("upgraded");
        assert_eq!(opened.subprotocol, subprotocols.first().copied());
        let mut receiver = Receiver::new(Role::Client);
        if let Some(agreement) = &opened.deflate {
            receiver.use_compression(agreement);
        }
        let wire = Self { receiver, pool: Pool::default(), heard: VecDeque::new(), answers_pings: true };
        (wire, opened.deflate)
    }

    /// The oldest thing that was heard and not asked for yet.
    #[allow(clippy::should_implement_trait, reason = "it goes on after `None`")]
    pub fn next(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// Bytes came; what has to be answered goes to `answers`.
    ///
    /// # Panics
    ///
    /// If the router breaks RFC 6455, or says something that is no JSON.
    pub fn take_in(&mut self, mut input: &mut [u8], answers: &mut BytesMut) {
        let limits = Limits { message_bytes_max: 32 << 20 };
        while !input.is_empty() {
            let (count, received) =
                self.receiver.receive(input, &limits, &mut self.pool).expect("the router keeps to RFC 6455");
            match received {
                Some(Received::Message { kind, payload }) => {
                    assert_eq!(kind, Kind::Text, "JSON is text");
                    self.heard.push_back(Heard::Message(serde_json::from_slice(payload).expect("JSON")));
                }
                Some(Received::Ping(payload)) if self.answers_pings => {
                    ws::write_client_control(answers, Control::Pong, payload, MASK);
                }
                Some(Received::Close(reason)) => {
                    let (code, words) = reason.unwrap_or((1005, ""));
                    // RFC 6455, 5.5.1: who gets a close frame answers it.
                    ws::write_client_close(answers, code, "", MASK);
                    self.heard.push_back(Heard::Close(code, words.to_owned()));
                }
                _ => {}
            }
            input = &mut input[count..];
        }
        self.receiver.recycle(&mut self.pool);
    }
}
