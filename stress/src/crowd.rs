//! Many clients on one thread.
//!
//! One address of this machine has some 28,000 ports; a crowd comes from several, 127.0.0.2 and up, like real ones do.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::sockopt;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::testbed::PATIENCE;
use crate::testbed::wire::{self, Heard, Wire};

/// Addresses that a crowd comes from.
const SOURCES: usize = 16;

/// The thread's runtime, which the guests belong to.
pub struct Crowd(Runtime);

impl Crowd {
    /// Nobody yet.
    pub fn new() -> Self {
        Self(
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a descriptor is left"),
        )
    }

    /// Does the same with each of them at once, and gives what came of it, in order.
    ///
    /// # Panics
    ///
    /// As the first of them that does.
    pub fn each<A: 'static, T: 'static, F: Future<Output = T> + 'static>(
        &self,
        those: impl IntoIterator<Item = A>,
        act: impl Fn(A) -> F,
    ) -> Vec<T> {
        LocalSet::new().block_on(&self.0, async {
            let tasks: Vec<_> = those.into_iter().map(|one| tokio::task::spawn_local(act(one))).collect();
            let mut results = Vec::with_capacity(tasks.len());
            for task in tasks {
                results.push(task.await.unwrap_or_else(|error| resume_unwind(error.into_panic())));
            }
            results
        })
    }

    /// So many sessions, all opened at once, each with a subscription to `topic`.
    pub fn join(&self, address: SocketAddr, count: usize, topic: &'static str) -> Vec<Guest> {
        self.each(0..count, move |index| async move {
            let mut guest = Guest::join(address, index).await;
            guest.subscribe(topic).await;
            guest
        })
    }
}

impl Default for Crowd {
    fn default() -> Self {
        Self::new()
    }
}

/// One session of a crowd. What does not happen as it should panics, as with [`Client`](crate::testbed::Client).
pub struct Guest {
    stream: TcpStream,
    wire: Wire,
}

impl Guest {
    /// Connects, upgrades and joins `realm1`; the index picks the address that it comes from.
    pub async fn join(address: SocketAddr, index: usize) -> Self {
        let mut stream = dial(address, index).await.expect("the router accepts");
        write(&mut stream, &wire::request(address, &[])).await.expect("sent");
        let head = read_head(&mut stream).await.expect("an answer to the upgrade");
        let (wire, _) = Wire::opened(&head, None);
        let mut guest = Self { stream, wire };
        guest.send(&wire::hello()).await;
        let welcome = guest.expect().await;
        assert_eq!(welcome[0], 2, "{welcome}");
        guest
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Value) {
        write(&mut self.stream, &wire::frame(message)).await.expect("sent");
    }

    /// Subscribes and waits for the answer.
    pub async fn subscribe(&mut self, topic: &str) {
        self.send(&json!([32, 1, {}, topic])).await;
        let answer = self.expect().await;
        assert_eq!((&answer[0], &answer[1]), (&json!(33), &json!(1)), "{answer}");
    }

    /// The next message, close frame or end.
    pub async fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.wire.next() {
                return heard;
            }
            match within(read(&mut self.stream)).await {
                Ok(mut bytes) if !bytes.is_empty() => {
                    let mut answers = BytesMut::new();
                    self.wire.take_in(&mut bytes, &mut answers);
                    // The router may be gone by now; then the end is heard next.
                    _ = write(&mut self.stream, &answers).await;
                }
                Ok(_) => return Heard::End,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("nothing was heard: {error}"),
                Err(_) => return Heard::End,
            }
        }
    }

    /// The next thing must be a message.
    pub async fn expect(&mut self) -> Value {
        match self.hear().await {
            Heard::Message(message) => message,
            other => panic!("expected a message, heard {other:?}"),
        }
    }

    /// The next message must be an event; its arguments.
    pub async fn expect_event(&mut self) -> Value {
        let mut event = self.expect().await;
        assert_eq!(event[0], 36, "{event}");
        event[4].take()
    }

    /// Ends it by a reset.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a TCP socket");
    }
}

/// A connection from the address of this index.
///
/// # Errors
///
/// As `connect`, or if it takes longer than [`PATIENCE`].
pub async fn dial(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCES) as u8);
    socket.bind((source, 0).into())?;
    let stream = within(socket.connect(address)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, what).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing happened for {PATIENCE:?}"))),
    }
}

/// What there is to read; nothing at the end.
///
/// # Errors
///
/// As `recv`.
pub async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        stream.readable().await?;
        // Not held while it waits: ten thousand wait.
        let mut buffer = [0; 16 << 10];
        match stream.try_read(&mut buffer) {
            Ok(count) => return Ok(buffer[..count].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes all of it.
///
/// # Errors
///
/// As `send`, or if it takes longer than [`PATIENCE`].
pub async fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        within(stream.writable()).await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the head of the answer to an upgrade; a router says nothing more before it is spoken to.
///
/// # Errors
///
/// As `recv`, or if it ends before the head does, or takes longer than [`PATIENCE`].
pub async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let more = within(read(stream)).await?;
        if more.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&more);
    }
    Ok(head)
}
