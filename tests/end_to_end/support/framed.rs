//! A WAMP client in any framing and serializer, which says whatever bytes it is given.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::rawsocket::{self, FrameKind, MaxLength, Reply, Request, write_frame};
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::wamp2::batch::{Batch, begin_message, end_message};
use fanwire_codec::ws::handshake::{verify_response_with, write_request};
use fanwire_codec::ws::{self, Kind, Limits, Pool, Role};
use serde_json::Value;

use super::{dial, wire};

const KEY: [u8; 16] = *b"sixteen bytes...";

/// What its messages come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    WebSocket,
    Batches,
    RawSocket,
}

impl Framing {
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Batches, Self::RawSocket];
}

/// What it heard.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Message(Value),
    /// Code and reason of a close frame.
    Close(u16, String),
    End,
}

pub struct Framed {
    pub stream: TcpStream,
    framing: Framing,
    serializer: Serializer,
    input: Input,
    heard: VecDeque<Heard>,
}

enum Input {
    Web(ws::Receiver, Box<Pool>),
    Raw(rawsocket::Receiver),
}

impl Framed {
    /// Connects and shakes hands; says no HELLO.
    pub fn connect(address: SocketAddr, framing: Framing, serializer: Serializer) -> Self {
        let mut stream = dial(address);
        let input = match framing {
            Framing::RawSocket => {
                let request = Request { serializer, max_length: MaxLength::MOST };
                stream.write_all(&request.encode()).expect("sent");
                let mut reply = [0; 4];
                stream.read_exact(&mut reply).expect("an answer");
                assert!(matches!(Reply::decode(reply, serializer), Reply::Accepted(_)), "{reply:x?}");
                Input::Raw(rawsocket::Receiver::new(serializer.is_text()))
            }
            Framing::WebSocket => upgrade(&mut stream, address, serializer.subprotocol()),
            Framing::Batches => upgrade(&mut stream, address, serializer.batched_subprotocol()),
        };
        Self { stream, framing, serializer, input, heard: VecDeque::new() }
    }

    /// Connects and joins `realm1`.
    pub fn join(address: SocketAddr, framing: Framing, serializer: Serializer) -> Self {
        let mut client = Self::connect(address, framing, serializer);
        client.send(&[wire::hello()]);
        assert_eq!(client.expect()[0], 2);
        client
    }

    /// What a message is in its serializer; `None`: it is no list, or has no form there.
    pub fn written(&self, json: &str) -> Option<Vec<u8>> {
        if self.serializer.is_text() {
            return Some(json.as_bytes().to_vec());
        }
        let list = OwnedPayload::checked(Serializer::Json, Some(json.as_bytes()), None).ok()?;
        let list = list.transcode(self.serializer).ok()?;
        list.view().args.map(<[u8]>::to_vec)
    }

    /// Sends these messages, in one batch where it has batches.
    pub fn send(&mut self, messages: &[Value]) {
        let written = |message: &Value| self.written(&message.to_string()).expect("it has a form");
        let messages: Vec<_> = messages.iter().map(written).collect();
        self.send_written(&messages);
    }

    /// Sends these messages, one after the other.
    pub fn send_each(&mut self, messages: &[Value]) {
        messages.iter().for_each(|message| self.send(std::slice::from_ref(message)));
    }

    /// The same, as they are written.
    pub fn send_written(&mut self, messages: &[Vec<u8>]) {
        let kind = self.kind();
        match self.framing {
            Framing::WebSocket => {
                let mut frames = BytesMut::new();
                for message in messages {
                    ws::write_client_message(&mut frames, kind, &[message], wire::MASK);
                }
                self.send_bytes(&frames);
            }
            Framing::Batches => self.send_whole(kind, &batch(kind, messages)),
            Framing::RawSocket => {
                let mut frames = BytesMut::new();
                messages.iter().for_each(|message| write_frame(&mut frames, FrameKind::Message, message));
                self.send_bytes(&frames);
            }
        }
    }

    /// Sends one WebSocket message.
    pub fn send_whole(&mut self, kind: Kind, bytes: &[u8]) {
        let mut frame = BytesMut::new();
        ws::write_client_message(&mut frame, kind, &[bytes], wire::MASK);
        self.send_bytes(&frame);
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// What its WebSocket messages are.
    pub fn kind(&self) -> Kind {
        if self.serializer.is_text() { Kind::Text } else { Kind::Binary }
    }

    pub fn next(&mut self) -> Heard {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Heard::End,
                Ok(count) => self.take(&mut buffer[..count]),
            }
        }
    }

    pub fn expect(&mut self) -> Value {
        match self.next() {
            Heard::Message(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    fn take(&mut self, mut rest: &mut [u8]) {
        let (heard, serializer, is_batched) =
            (&mut self.heard, self.serializer, self.framing == Framing::Batches);
        while !rest.is_empty() {
            let used = match &mut self.input {
                Input::Web(receiver, pool) => {
                    let limits = Limits::default();
                    let (used, received) = receiver.receive(rest, &limits, pool).expect("sound frames");
                    match received {
                        Some(ws::Received::Message { kind, payload }) if is_batched => {
                            let mut batch = Batch::new(kind, payload);
                            while let Some(message) = batch.next_message().expect("a sound batch") {
                                heard.push_back(Heard::Message(read(serializer, message)));
                            }
                        }
                        Some(ws::Received::Message { payload, .. }) => {
                            heard.push_back(Heard::Message(read(serializer, payload)));
                        }
                        Some(ws::Received::Close(why)) => {
                            let (code, words) = why.unwrap_or((1005, ""));
                            // Whoever is answered needs not wait for the end.
                            let mut answer = BytesMut::new();
                            ws::write_client_close(&mut answer, code, "", wire::MASK);
                            _ = self.stream.write_all(&answer);
                            heard.push_back(Heard::Close(code, words.to_owned()));
                        }
                        _ => {}
                    }
                    used
                }
                Input::Raw(receiver) => {
                    let (used, received) = receiver.receive(rest, 1 << 24).expect("sound frames");
                    if let Some(rawsocket::Received::Message(message)) = received {
                        heard.push_back(Heard::Message(read(serializer, message)));
                    }
                    used
                }
            };
            rest = &mut rest[used..];
        }
    }
}

/// These messages in one batch.
pub fn batch(kind: Kind, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        begin_message(&mut out, kind, message.len() as u32);
        out.extend_from_slice(message);
        end_message(&mut out, kind);
    }
    out
}

fn upgrade(stream: &mut TcpStream, address: SocketAddr, subprotocol: &'static str) -> Input {
    let mut request = BytesMut::new();
    write_request(&mut request, &address.to_string(), "/ws", &[subprotocol], KEY, &[]).expect("sound");
    stream.write_all(&request).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let opened = verify_response_with(&head, &KEY, &[subprotocol], None).expect("upgraded");
    assert_eq!(opened.subprotocol, Some(subprotocol));
    Input::Web(ws::Receiver::new(Role::Client), Box::default())
}

fn read(serializer: Serializer, message: &[u8]) -> Value {
    let list = OwnedPayload::checked(serializer, Some(message), None).expect("a list");
    let list = list.transcode(Serializer::Json).expect("it has a form");
    serde_json::from_slice(list.view().args.expect("a list")).expect("JSON")
}
