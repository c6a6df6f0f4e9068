//! A small blocking WAMP client, so that a test reads as a conversation.
//!
//! Messages are JSON values as they are on the wire: `alice.send(json!([32, 1, {}, "com.topic"]))`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use fanwire_codec::ws::deflate::{Context, Deflater, Offer, write_client_deflated_message};
use fanwire_codec::ws::{self, Control, Kind, Limits, Pool, Received, Receiver, Role, handshake};
use serde_json::{Value, json};

use super::dial;

const SUBPROTOCOL: &str = "wamp.2.json";
/// The field of the handshake that compression is offered in.
pub const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const KEY: [u8; 16] = *b"sixteen bytes...";
const MASK: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x99];

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

/// One connection that has been upgraded.
pub struct Client {
    stream: TcpStream,
    receiver: Receiver,
    pool: Pool,
    heard: VecDeque<Heard>,
    last_request: u64,
    /// Where compression was agreed on, and what our next message may refer to.
    compressed: Option<(Deflater, Option<Context>)>,
    /// Whether pings are answered.
    pub answers_pings: bool,
}

impl Client {
    /// Connects and upgrades; says no HELLO.
    pub fn connect(address: SocketAddr) -> Self {
        Self::upgrade(dial(address), address)
    }

    /// Upgrades a connection.
    pub fn upgrade(mut stream: TcpStream, address: SocketAddr) -> Self {
        stream.write_all(&Self::upgrade_request(address)).expect("sent");
        Self::upgraded(stream)
    }

    /// Takes the answer to an upgrade that was asked for.
    pub fn upgraded(stream: TcpStream) -> Self {
        Self::upgraded_with(stream, None)
    }

    /// Connects with this offer of compression, and joins `realm1`. `send` still sends as it is.
    pub fn join_compressed(address: SocketAddr, offer: &Offer) -> Self {
        let mut client = Self::connect_compressed(address, offer);
        client.hello();
        client
    }

    /// Connects with this offer of compression; says no HELLO.
    pub fn connect_compressed(address: SocketAddr, offer: &Offer) -> Self {
        let mut stream = dial(address);
        stream.write_all(&Self::request_with(address, &[(EXTENSIONS, &offer.to_string())])).expect("sent");
        Self::upgraded_with(stream, Some(offer))
    }

    /// Whether the router agreed to compress.
    pub fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// Sends a message compressed, if that makes it smaller.
    pub fn send_compressed(&mut self, message: &Value) {
        let mut frame = BytesMut::new();
        let (deflater, context) = self.compressed.as_mut().expect("agreed on");
        let parts = [message.to_string()];
        let parts = parts.each_ref().map(|part| part.as_bytes());
        write_client_deflated_message(&mut frame, Kind::Text, &parts, MASK, deflater, context.as_mut());
        self.stream.write_all(&frame).expect("sent");
    }

    fn upgraded_with(mut stream: TcpStream, offer: Option<&Offer>) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer to the upgrade");
            head.push(byte[0]);
        }
        let opened = handshake::verify_response_with(&head, &KEY, &[SUBPROTOCOL], offer).expect("upgraded");
        assert_eq!(opened.subprotocol, Some(SUBPROTOCOL));
        let mut receiver = Receiver::new(Role::Client);
        let compressed = opened.deflate.map(|agreement| {
            receiver.use_compression(&agreement);
            (Deflater::new(9, agreement.client.window_bits), agreement.client.context())
        });
        Self {
            stream,
            receiver,
            compressed,
            pool: Pool::default(),
            heard: VecDeque::new(),
            last_request: 0,
            answers_pings: true,
        }
    }

    /// The bytes of the request for an upgrade.
    pub fn upgrade_request(address: SocketAddr) -> Vec<u8> {
        Self::request_with(address, &[])
    }

    fn request_with(address: SocketAddr, extra: &[(&str, &str)]) -> Vec<u8> {
        let mut request = BytesMut::new();
        handshake::write_request(&mut request, &address.to_string(), "/ws", &[SUBPROTOCOL], KEY, extra)
            .expect("nothing in it breaks the head");
        request.to_vec()
    }

    /// Connects and joins `realm1`.
    pub fn join(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.hello();
        client
    }

    /// Joins `realm1`.
    pub fn hello(&mut self) {
        let roles = json!({"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}});
        self.send(json!([1, "realm1", {"roles": roles}]));
        let welcome = self.expect();
        assert_eq!(welcome[0], 2, "{welcome}");
    }

    /// The bytes of a message as a frame.
    pub fn frame(message: &Value) -> Vec<u8> {
        let mut frame = BytesMut::new();
        ws::write_client_message(&mut frame, Kind::Text, &[message.to_string().as_bytes()], MASK);
        frame.to_vec()
    }

    /// Sends a message.
    pub fn send(&mut self, message: Value) {
        self.stream.write_all(&Self::frame(&message)).expect("sent");
    }

    /// Sends a request for which no method stands here, and gives its answer.
    pub fn ask(&mut self, message: Value) -> Value {
        self.send(message);
        self.expect()
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends a close frame.
    pub fn close(&mut self, code: u16) {
        let mut frame = BytesMut::new();
        ws::write_client_close(&mut frame, code, "", MASK);
        self.stream.write_all(&frame).expect("sent");
    }

    /// The next message, close frame or end.
    pub fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.heard.push_back(Heard::End),
                Ok(count) => self.take_in(&mut buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    self.heard.push_back(Heard::End);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing was heard: {error}"),
            }
        }
    }

    fn take_in(&mut self, mut input: &mut [u8]) {
        let limits = Limits { message_bytes_max: 32 << 20 };
        let mut answers = BytesMut::new();
        while !input.is_empty() {
            let (count, received) =
                self.receiver.receive(input, &limits, &mut self.pool).expect("the router keeps to RFC 6455");
            match received {
                Some(Received::Message { kind, payload }) => {
                    assert_eq!(kind, Kind::Text, "JSON is text");
                    self.heard.push_back(Heard::Message(serde_json::from_slice(payload).expect("JSON")));
                }
                Some(Received::Ping(payload)) if self.answers_pings => {
                    ws::write_client_control(&mut answers, Control::Pong, payload, MASK);
                }
                Some(Received::Close(reason)) => {
                    let (code, words) = reason.unwrap_or((1005, ""));
                    // RFC 6455, 5.5.1: who gets a close frame answers it.
                    ws::write_client_close(&mut answers, code, "", MASK);
                    self.heard.push_back(Heard::Close(code, words.to_owned()));
                }
                _ => {}
            }
            input = &mut input[count..];
        }
        self.receiver.recycle(&mut self.pool);
        // The router may be gone by now; then the end is heard next.
        let _ = self.stream.write_all(&answers);
    }

    /// The next thing must be a message.
    pub fn expect(&mut self) -> Value {
        match self.hear() {
            Heard::Message(message) => message,
            other => panic!("expected a message, heard {other:?}"),
        }
    }

    /// Messages may come, then a close frame with this code, then the end.
    pub fn expect_close(&mut self, code: u16) {
        loop {
            match self.hear() {
                Heard::Message(_) => {}
                Heard::Close(found, words) => {
                    assert_eq!(found, code, "{words}");
                    break;
                }
                Heard::End => panic!("the connection ended without a close frame"),
            }
        }
        assert_eq!(self.hear(), Heard::End);
    }

    /// Whatever comes, it ends.
    pub fn expect_end(&mut self) {
        while self.hear() != Heard::End {}
    }

    fn request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&mut self, topic: &str) -> u64 {
        let request = self.request();
        self.send(json!([32, request, {}, topic]));
        let answer = self.expect();
        assert_eq!((&answer[0], &answer[1]), (&json!(33), &json!(request)), "{answer}");
        answer[2].as_u64().expect("a subscription id")
    }

    /// Publishes and waits for the answer.
    pub fn publish(&mut self, topic: &str, arguments: Value) {
        let request = self.request();
        self.send(json!([16, request, {"acknowledge": true}, topic, arguments]));
        let answer = self.expect();
        assert_eq!((&answer[0], &answer[1]), (&json!(17), &json!(request)), "{answer}");
    }

    /// The next message must be an event; its arguments.
    pub fn expect_event(&mut self) -> Value {
        let mut event = self.expect();
        assert_eq!(event[0], 36, "{event}");
        event[4].take()
    }

    /// Registers and waits for the answer.
    pub fn register(&mut self, procedure: &str) {
        let request = self.request();
        self.send(json!([64, request, {}, procedure]));
        let answer = self.expect();
        assert_eq!((&answer[0], &answer[1]), (&json!(65), &json!(request)), "{answer}");
    }

    /// Calls and waits for the answer: RESULT or ERROR.
    pub fn call(&mut self, procedure: &str, arguments: Value) -> Value {
        let request = self.request();
        self.send(json!([48, request, {}, procedure, arguments]));
        self.expect()
    }

    /// A second handle of the socket, to write bytes as one likes.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor is left")
    }

    /// The socket, to do something odd with.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
