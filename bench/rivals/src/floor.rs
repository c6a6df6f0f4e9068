//! What the kernel alone costs: a publication is one prepared buffer that a plain `send` writes to each subscriber.
//!
//! `send-floor PORT [--coalesce COUNT]`. Up to COUNT messages that were received together go out in one send (1 if it is not
//! given). There is nothing else: no queues, no limits, no timers. A subscriber whose socket is full is waited for.
//!
//! ```text
//! epoll ─▶ recv ─▶ frames ─▶ S: topic's list of descriptors
//!                        └─▶ P: frame appended to the topic's buffer ─▶ COUNT of them, or the input's end ─▶ send to all
//! ```

mod handshake;
mod protocol;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use protocol::{Request, SUBSCRIBED};
use rustix::event::{PollFd, PollFlags, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Bytes of one receive.
const RECEIVE_BYTES: usize = 64 * 1024;
/// The event of the listener; the others carry their descriptor.
const LISTENER: u64 = u64::MAX;

struct Client {
    socket: OwnedFd,
    is_open: bool,
    /// What has come and is not whole yet.
    input: Vec<u8>,
}

#[derive(Default)]
struct Topic {
    /// Descriptors of open clients only: a client that ends leaves its topics first.
    subscribers: Vec<RawFd>,
    /// Frames that wait to be sent.
    buffer: Vec<u8>,
    messages: usize,
}

struct Server {
    clients: HashMap<RawFd, Client>,
    numbers: HashMap<Vec<u8>, usize>,
    topics: Vec<Topic>,
    /// Topics with something in their buffer.
    waiting: Vec<usize>,
    coalesce: usize,
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse().expect("usage: send-floor PORT [--coalesce COUNT]");
    let port = arguments.first().map(number).expect("usage: send-floor PORT [--coalesce COUNT]");
    let coalesce =
        arguments.iter().position(|word| word == "--coalesce").map_or(1, |at| number(&arguments[at + 1]));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port as u16))?;
    // The standard library's backlog is too short for ten thousand clients at once.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut server = Server {
        clients: HashMap::new(),
        numbers: HashMap::new(),
        topics: Vec::new(),
        waiting: Vec::new(),
        coalesce: coalesce as usize,
    };
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        events.clear();
        match epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept(&listener, &set)?,
                descriptor => server.receive(descriptor as RawFd, &mut buffer),
            }
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, set: &OwnedFd) -> std::io::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let socket = OwnedFd::from(stream);
            let descriptor = socket.as_raw_fd();
            epoll::add(set, &socket, epoll::EventData::new_u64(descriptor as u64), epoll::EventFlags::IN)?;
            self.clients.insert(descriptor, Client { socket, is_open: false, input: Vec::new() });
        }
        Ok(())
    }

    fn receive(&mut self, descriptor: RawFd, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(&descriptor) else { return };
        let count = match rustix::net::recv(&client.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, count)) if count > 0 => count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => return self.end(descriptor),
        };
        // Usually everything before is done with, and frames are read where they were received.
        let mut held = std::mem::take(&mut client.input);
        let input = if held.is_empty() {
            &mut buffer[..count]
        } else {
            held.extend_from_slice(&buffer[..count]);
            &mut held[..]
        };
        match self.handle(descriptor, input) {
            Some(at) => {
                let rest = input[at..].to_vec();
                if let Some(client) = self.clients.get_mut(&descriptor) {
                    client.input = rest;
                }
            }
            None => self.end(descriptor),
        }
        for topic in std::mem::take(&mut self.waiting) {
            self.topics[topic].send();
        }
    }

    /// Returns how far it came, or `None` when the client wants to end.
    fn handle(&mut self, descriptor: RawFd, input: &mut [u8]) -> Option<usize> {
        let client = self.clients.get_mut(&descriptor)?;
        let mut at = 0;
        if !client.is_open {
            let Some((answer, end)) = handshake::answer(input) else { return Some(0) };
            write(client.socket.as_fd(), answer.as_bytes());
            client.is_open = true;
            at = end;
        }
        while let Some((opcode, start, end)) = unmask(&mut input[at..]) {
            if opcode == 8 {
                return None;
            }
            self.handle_message(descriptor, &input[at + start..at + end]);
            at += end;
        }
        Some(at)
    }

    fn handle_message(&mut self, descriptor: RawFd, message: &[u8]) {
        match Request::read(message) {
            Some(Request::Subscribe(topic)) => {
                let number = self.number(topic);
                self.topics[number].subscribers.push(descriptor);
                let mut answer = Vec::new();
                push_frame(&mut answer, SUBSCRIBED.as_bytes());
                write(self.clients[&descriptor].socket.as_fd(), &answer);
            }
            Some(Request::Publish { topic, payload }) => {
                let number = self.number(topic);
                let topic = &mut self.topics[number];
                if topic.messages == 0 {
                    self.waiting.push(number);
                }
                push_frame(&mut topic.buffer, payload);
                topic.messages += 1;
                if topic.messages == self.coalesce {
                    topic.send();
                    self.waiting.retain(|waiting| *waiting != number);
                }
            }
            None => {}
        }
    }

    fn number(&mut self, topic: &[u8]) -> usize {
        if let Some(number) = self.numbers.get(topic) {
            return *number;
        }
        self.topics.push(Topic::default());
        self.numbers.insert(topic.to_vec(), self.topics.len() - 1);
        self.topics.len() - 1
    }

    fn end(&mut self, descriptor: RawFd) {
        for topic in &mut self.topics {
            topic.subscribers.retain(|subscriber| *subscriber != descriptor);
        }
        self.clients.remove(&descriptor);
    }
}

impl Topic {
    fn send(&mut self) {
        for subscriber in &self.subscribers {
            // SAFETY: a descriptor is in this list only while its client is in `Server::clients`, which owns it.
            let socket = unsafe { BorrowedFd::borrow_raw(*subscriber) };
            write(socket, &self.buffer);
        }
        self.buffer.clear();
        self.messages = 0;
    }
}

/// Writes everything. A client that has gone is noticed when it is read.
fn write(socket: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => {
                let _ = rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None);
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// A text frame from a server (RFC 6455, 5.2).
fn push_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match payload.len() {
        length @ ..126 => out.push(length as u8),
        length @ ..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The first frame of a client, if it is whole: opcode, begin and end of its payload, which is unmasked where it lies.
fn unmask(input: &mut [u8]) -> Option<(u8, usize, usize)> {
    let length = usize::from(input.get(1)? & 0x7f);
    let (length, key_at) = match length {
        126 => (usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(input.get(2..10)?.try_into().ok()?) as usize, 10),
        length => (length, 2),
    };
    let start = key_at + 4;
    let end = start + length;
    if input.len() < end {
        return None;
    }
    let key: [u8; 4] = input[key_at..start].try_into().ok()?;
    for (byte, key) in input[start..end].iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    Some((input[0] & 0x0f, start, end))
}
