//! A small blocking WebSocket client that speaks no protocol above it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use fanwire_codec::ws::{self, Control, Kind, Limits, Pool, Received, Receiver, Role, handshake};

use super::wire::MASK;
use super::{dial, status};

const KEY: [u8; 16] = *b"sixteen bytes...";

/// What was heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
    End,
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One connection that has been upgraded.
pub struct Plain {
    stream: TcpStream,
    receiver: Receiver,
    pool: Pool,
    heard: VecDeque<Said>,
    /// Whether pings are answered.
    pub answers_pings: bool,
}

impl Plain {
    /// Connects and upgrades.
    pub fn connect(address: SocketAddr, path: &str) -> Self {
        Self::try_connect(address, path, &[]).unwrap_or_else(|answer| panic!("{path} was refused: {answer}"))
    }

    /// The same with further fields in the request; the whole answer, where it is refused.
    pub fn try_connect(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Result<Self, String> {
        Self::try_upgrade(dial(address), address, path, &[], fields)
    }

    /// The same, which offers these subprotocols.
    pub fn try_offer(address: SocketAddr, path: &str, subprotocols: &[&str]) -> Result<Self, String> {
        Self::try_upgrade(dial(address), address, path, subprotocols, &[])
    }

    /// Upgrades a connection.
    pub fn upgrade(stream: TcpStream, address: SocketAddr, path: &str) -> Self {
        Self::try_upgrade(stream, address, path, &[], &[]).unwrap_or_else(|answer| panic!("{path}: {answer}"))
    }

    fn try_upgrade(
        mut stream: TcpStream,
        address: SocketAddr,
        path: &str,
        subprotocols: &[&str],
        fields: &[(&str, &str)],
    ) -> Result<Self, String> {
        let mut request = BytesMut::new();
        handshake::write_request(&mut request, &address.to_string(), path, subprotocols, KEY, fields)
            .expect("a request");
        stream.write_all(&request).expect("sent");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        if status(&String::from_utf8_lossy(&head)) != 101 {
            // Whoever refuses closes; what it says may be cut short by that.
            _ = stream.read_to_end(&mut head);
            return Err(String::from_utf8_lossy(&head).into_owned());
        }
        handshake::verify_response_with(&head, &KEY, subprotocols, None).expect("a sound answer");
        let (receiver, pool) = (Receiver::new(Role::Client), Pool::default());
        Ok(Self { stream, receiver, pool, heard: VecDeque::new(), answers_pings: true })
    }

    pub fn send_text(&mut self, text: &str) {
        self.send(Kind::Text, text.as_bytes());
    }

    pub fn send(&mut self, kind: Kind, message: &[u8]) {
        let mut frame = BytesMut::new();
        ws::write_client_message(&mut frame, kind, &[message], MASK);
        self.stream.write_all(&frame).expect("sent");
    }

    /// The next message, close frame or end.
    pub fn hear(&mut self) -> Said {
        loop {
            if let Some(said) = self.heard.pop_front() {
                return said;
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Said::End,
                Ok(count) => self.take_in(&mut buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Said::End;
                }
                Err(error) => panic!("nothing was heard: {error}"),
            }
        }
    }

    fn take_in(&mut self, mut input: &mut [u8]) {
        let (limits, mut answers) = (Limits { message_bytes_max: 32 << 20 }, BytesMut::new());
        while !input.is_empty() {
            let (used, received) =
                self.receiver.receive(input, &limits, &mut self.pool).expect("sound frames");
            match received {
                Some(Received::Message { kind: Kind::Text, payload }) => {
                    let text = String::from_utf8(payload.to_vec()).expect("text frames are UTF-8");
                    self.heard.push_back(Said::Text(text));
                }
                Some(Received::Message { kind: Kind::Binary, payload }) => {
                    self.heard.push_back(Said::Binary(payload.to_vec()));
                }
                Some(Received::Ping(payload)) if self.answers_pings => {
                    ws::write_client_control(&mut answers, Control::Pong, payload, MASK);
                }
                Some(Received::Close(reason)) => {
                    let (code, words) = reason.unwrap_or((1005, ""));
                    ws::write_client_close(&mut answers, code, "", MASK);
                    self.heard.push_back(Said::Close(code, words.to_owned()));
                }
                _ => {}
            }
            input = &mut input[used..];
        }
        self.receiver.recycle(&mut self.pool);
        // The router may be gone by now; then the end is heard next.
        _ = self.stream.write_all(&answers);
    }

    /// The socket, to do something odd with.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Another handle of the same connection, to say something while this one listens.
    pub fn clone_for_writing(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("a descriptor is left"),
            receiver: Receiver::new(Role::Client),
            pool: Pool::default(),
            heard: VecDeque::new(),
            answers_pings: false,
        }
    }
}
