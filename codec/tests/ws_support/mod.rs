//! Frames built by hand, a driver for [`Receiver`], and a decoder to compare it with.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod reference;

use fanwire_codec::ws::{Kind, Limits, Pool, ProtocolError, Received, Receiver, Role, mask};

/// What a receiver gave, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Failed(ProtocolError),
}

impl From<Received<'_>> for Event {
    fn from(received: Received<'_>) -> Self {
        match received {
            Received::Message { kind: Kind::Text, payload } => Self::Text(payload.to_vec()),
            Received::Message { kind: Kind::Binary, payload } => Self::Binary(payload.to_vec()),
            Received::Ping(payload) => Self::Ping(payload.to_vec()),
            Received::Pong(payload) => Self::Pong(payload.to_vec()),
            Received::Close(close) => Self::Close(close.map(|(code, reason)| (code, reason.to_owned()))),
        }
    }
}

/// One frame, legal or not, field by field.
#[derive(Clone, Debug)]
pub struct Frame {
    pub fin: bool,
    pub rsv: u8,
    pub opcode: u8,
    pub key: Option<[u8; 4]>,
    /// `None`: the shortest form for the payload. `Some`: this form (125, 126 or 127) with this value.
    pub length: Option<(u8, u64)>,
    pub payload: Vec<u8>,
}

/// A masked frame, as a client sends it.
pub fn frame(fin: bool, opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    let payload = payload.as_ref().to_vec();
    Frame { fin, rsv: 0, opcode, key: Some([0x37, 0xfa, 0x21, 0x3d]), length: None, payload }
}

impl Frame {
    pub fn unmasked(mut self) -> Self {
        self.key = None;
        self
    }

    pub fn declared(mut self, form: u8, value: u64) -> Self {
        self.length = Some((form, value));
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        let count = self.payload.len() as u64;
        let (form, value) = self.length.unwrap_or(match count {
            0..=125 => (count as u8, count),
            126..=0xFFFF => (126, count),
            _ => (127, count),
        });
        let mask_bit = u8::from(self.key.is_some()) << 7;
        match form {
            126 => {
                out.push(mask_bit | 126);
                out.extend((value as u16).to_be_bytes());
            }
            127 => {
                out.push(mask_bit | 127);
                out.extend(value.to_be_bytes());
            }
            _ => out.push(mask_bit | value as u8),
        }
        out.extend(self.key.into_iter().flatten());
        let at = out.len();
        out.extend(&self.payload);
        if let Some(key) = self.key {
            mask::apply_scalar(&mut out[at..], key, 0);
        }
        out
    }
}

/// Feeds `bytes` cut at `cuts`, as io does it, with direct reads when `direct` allows them.
pub struct Driver {
    pub receiver: Receiver,
    pub limits: Limits,
    pub events: Vec<Event>,
    pub failed: bool,
}

impl Driver {
    pub fn new(role: Role, message_bytes_max: u64) -> Self {
        let limits = Limits { message_bytes_max };
        Self { receiver: Receiver::new(role), limits, events: Vec::new(), failed: false }
    }

    /// One read from the socket.
    pub fn feed(&mut self, bytes: &[u8], pool: &mut Pool) {
        let mut read = bytes.to_vec();
        let mut rest = &mut read[..];
        while !rest.is_empty() {
            let offered = rest.len();
            match self.receiver.receive(rest, &self.limits, pool) {
                Ok((consumed, received)) => {
                    assert!(consumed <= offered);
                    assert!(received.is_some() || consumed == offered, "exhausted, but bytes are left");
                    assert!(consumed > 0, "no progress");
                    self.events.extend(received.map(Event::from));
                    rest = &mut rest[consumed..];
                }
                Err(error) => {
                    assert!(!self.failed, "an error is reported once");
                    self.failed = true;
                    self.events.push(Event::Failed(error));
                    rest = &mut [];
                }
            }
        }
        self.receiver.recycle(pool);
    }

    /// One read from the socket that begins in the message buffer, if that is offered, and may go on behind it. Returns the
    /// bytes read.
    pub fn feed_direct(&mut self, bytes: &[u8], pool: &mut Pool) -> usize {
        let Some(room) = self.receiver.direct_room() else { return 0 };
        let count = room.bytes.len().min(bytes.len());
        let behind =
            if count == room.bytes.len() { room.behind_bytes_max.min(bytes.len() - count) } else { 0 };
        room.bytes[..count].copy_from_slice(&bytes[..count]);
        match self.receiver.direct_filled(count) {
            Ok(received) => self.events.extend(received.map(Event::from)),
            Err(error) => {
                self.failed = true;
                self.events.push(Event::Failed(error));
            }
        }
        if behind == 0 {
            self.receiver.recycle(pool);
        } else {
            self.feed(&bytes[count..count + behind], pool);
        }
        count + behind
    }
}

/// All events of `bytes`, fed whole.
pub fn events(role: Role, bytes: &[u8]) -> Vec<Event> {
    let mut driver = Driver::new(role, 1024 * 1024);
    driver.feed(bytes, &mut Pool::default());
    driver.events
}

/// All events of frames that a client sent.
pub fn server_events(frames: &[Frame]) -> Vec<Event> {
    events(Role::Server, &frames.iter().flat_map(Frame::encode).collect::<Vec<_>>())
}
