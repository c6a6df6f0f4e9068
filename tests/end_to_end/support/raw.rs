//! A WAMP client over RawSocket, in JSON, on whatever stream.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use fanwire_codec::rawsocket::{FrameKind, MaxLength, Received, Receiver, Reply, Request, write_frame};
use fanwire_codec::wamp2::Serializer;
use serde_json::{Value, json};

use super::{dial, wire};

/// What a client heard.
#[derive(Debug, PartialEq)]
pub enum Said {
    Message(Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// In order, or by a reset.
    End,
}

/// One connection after its handshake.
pub struct Raw<S> {
    pub stream: S,
    receiver: Receiver,
    heard: VecDeque<Said>,
    /// Whether pings are answered.
    pub answers_pings: bool,
}

impl Raw<TcpStream> {
    /// Connects and shakes hands; says no HELLO.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(dial(address), MaxLength::MOST)
    }

    /// Connects and joins `realm1`.
    pub fn join(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        raw.hello();
        raw
    }
}

impl<S: Read + Write> Raw<S> {
    /// Shakes hands on a stream; takes messages of this length.
    pub fn over(mut stream: S, max_length: MaxLength) -> Self {
        let request = Request { serializer: Serializer::Json, max_length };
        stream.write_all(&request.encode()).expect("sent");
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).expect("an answer");
        let reply = Reply::decode(reply, Serializer::Json);
        assert!(matches!(reply, Reply::Accepted(_)), "{reply}");
        Self { stream, receiver: Receiver::new(true), heard: VecDeque::new(), answers_pings: true }
    }

    /// Joins `realm1`; returns WELCOME.
    pub fn hello(&mut self) -> Value {
        self.send(&wire::hello());
        let welcome = self.expect();
        assert_eq!(welcome[0], 2, "{welcome}");
        welcome
    }

    pub fn send(&mut self, message: &Value) {
        self.send_frame(FrameKind::Message, message.to_string().as_bytes());
    }

    pub fn send_frame(&mut self, kind: FrameKind, payload: &[u8]) {
        let mut frame = BytesMut::new();
        write_frame(&mut frame, kind, payload);
        self.stream.write_all(&frame).expect("sent");
    }

    /// Subscribes; returns the id.
    pub fn subscribe(&mut self, topic: &str) -> u64 {
        self.send(&json!([32, 1, {}, topic]));
        let subscribed = self.expect();
        assert_eq!(subscribed[0], 33, "{subscribed}");
        subscribed[2].as_u64().expect("an id")
    }

    /// The next message.
    pub fn expect(&mut self) -> Value {
        match self.next() {
            Said::Message(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// ABORT with this reason, then the end.
    pub fn expect_abort(&mut self, reason: &str) {
        let abort = self.expect();
        assert_eq!((&abort[0], &abort[2]), (&json!(3), &json!(reason)), "{abort}");
        assert!(abort[1]["message"].as_str().is_some_and(|words| !words.is_empty()), "{abort}");
        assert_eq!(self.next(), Said::End);
    }

    /// The next thing of any kind but pings that are answered.
    pub fn next(&mut self) -> Said {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(said) = self.heard.pop_front() {
                match said {
                    Said::Ping(payload) if self.answers_pings => self.send_frame(FrameKind::Pong, &payload),
                    said => return said,
                }
                continue;
            }
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Said::End,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Said::End,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Said::End,
                Err(error) => panic!("nothing came, not even the end: {error}"),
            };
            let mut rest = &mut buffer[..count];
            while !rest.is_empty() {
                let (used, received) = self.receiver.receive(rest, 1 << 24).expect("sound frames");
                self.heard.extend(received.map(|received| match received {
                    Received::Message(message) => {
                        Said::Message(serde_json::from_slice(message).expect("JSON"))
                    }
                    Received::Ping(payload) => Said::Ping(payload.to_vec()),
                    Received::Pong(payload) => Said::Pong(payload.to_vec()),
                }));
                rest = &mut rest[used..];
            }
        }
    }
}
