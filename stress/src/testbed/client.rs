//! A small blocking WAMP client, so that a test reads as a conversation.
//!
//! Messages are JSON values as they are on the wire: `alice.send(json!([32, 1, {}, "com.topic"]))`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use fanwire_codec::ws;
use fanwire_codec::ws::deflate::{Agreement, Context, Deflater, Offer, write_client_deflated_message};
use serde_json::{Value, json};

use super::wire::{self, Heard, MASK, Wire};
use super::{PATIENCE, dial};

/// One connection that has been upgraded.
pub struct Client {
    stream: TcpStream,
    wire: Wire,
    last_request: u64,
    /// Where compression was agreed on, and what our next message may refer to.
    compressed: Option<(Deflater, Option<Context>)>,
}

impl Client {
    /// Connects and upgrades; says no HELLO.
    pub fn connect(address: SocketAddr) -> Self {
        Self::upgrade(dial(address), address)
    }

    /// The same at another path than `/ws`.
    pub fn connect_to(address: SocketAddr, path: &str) -> Self {
        let mut stream = dial(address);
        stream.write_all(&wire::request_to(address, path, &[wire::SUBPROTOCOL], &[])).expect("sent");
        Self::upgraded(stream)
    }

    /// The same with further fields, and what the head of the answer says.
    pub fn connect_with(address: SocketAddr, fields: &[(&str, &str)]) -> (Self, String) {
        let mut stream = dial(address);
        stream.write_all(&wire::request(address, fields)).expect("sent");
        let head = read_head(&mut stream);
        let (wire, agreement) = Wire::opened(&head, None);
        (Self::agreed(stream, wire, agreement), String::from_utf8_lossy(&head).into_owned())
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
        stream.write_all(&wire::request(address, &[(wire::EXTENSIONS, &offer.to_string())])).expect("sent");
        Self::upgraded_with(stream, Some(offer))
    }

    /// Connects to a path at which JSON is spoken without a subprotocol, as at a message center.
    pub fn connect_to_center(address: SocketAddr, path: &str) -> Self {
        Self::connect_to_center_with(address, path, None)
    }

    /// The same with an offer of compression.
    pub fn connect_to_center_with(address: SocketAddr, path: &str, offer: Option<&Offer>) -> Self {
        let mut stream = dial(address);
        let offered = offer.map(Offer::to_string);
        let extension: Vec<(&str, &str)> =
            offered.iter().map(|offered| (wire::EXTENSIONS, offered.as_str())).collect();
        stream.write_all(&wire::request_to(address, path, &[], &extension)).expect("sent");
        let head = read_head(&mut stream);
        let (wire, agreement) = Wire::opened_for(&head, &[], offer);
        Self::agreed(stream, wire, agreement)
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
        write_client_deflated_message(&mut frame, ws::Kind::Text, &parts, MASK, deflater, context.as_mut());
        self.stream.write_all(&frame).expect("sent");
    }

    fn upgraded_with(mut stream: TcpStream, offer: Option<&Offer>) -> Self {
        let head = read_head(&mut stream);
        let (wire, agreement) = Wire::opened(&head, offer);
        Self::agreed(stream, wire, agreement)
    }

    fn agreed(stream: TcpStream, wire: Wire, agreement: Option<Agreement>) -> Self {
        let compressed = agreement
            .map(|agreement| (Deflater::new(9, agreement.client.window_bits), agreement.client.context()));
        Self { stream, wire, compressed, last_request: 0 }
    }

    /// Whether pings are answered. They are, unless told otherwise.
    pub fn answer_pings(&mut self, answer: bool) {
        self.wire.answers_pings = answer;
    }

    /// The bytes of the request for an upgrade.
    pub fn upgrade_request(address: SocketAddr) -> Vec<u8> {
        wire::request(address, &[])
    }

    /// Connects and joins `realm1`.
    pub fn join(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.hello();
        client
    }

    /// The same through somebody at another address, such as a proxy.
    pub fn join_through(address: SocketAddr, router: SocketAddr) -> Self {
        let mut client = Self::upgrade(dial(address), router);
        client.hello();
        client
    }

    /// Joins `realm1`.
    pub fn hello(&mut self) {
        self.send(wire::hello());
        let welcome = self.expect();
        assert_eq!(welcome[0], 2, "{welcome}");
    }

    /// The bytes of a message as a frame.
    pub fn frame(message: &Value) -> Vec<u8> {
        wire::frame(message)
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
        self.listen().unwrap_or_else(|error| panic!("nothing was heard: {error}"))
    }

    /// The same, if it comes in time.
    pub fn hear_within(&mut self, time: Duration) -> Option<Heard> {
        self.stream.set_read_timeout(Some(time)).expect("a valid timeout");
        let heard = self.listen();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        match heard {
            Ok(heard) => Some(heard),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("nothing was heard: {error}"),
        }
    }

    fn listen(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(heard) = self.wire.next() {
                return Ok(heard);
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Heard::End),
                Ok(count) => {
                    let mut answers = BytesMut::new();
                    self.wire.take_in(&mut buffer[..count], &mut answers);
                    // The router may be gone by now; then the end is heard next.
                    let _ = self.stream.write_all(&answers);
                }
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(Heard::End);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
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

fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer to the upgrade");
        head.push(byte[0]);
    }
    head
}
