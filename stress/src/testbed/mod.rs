//! A router in a process of its own, and clients that speak to it.
//!
//! For tests: what does not happen as it should panics and says what. Every wait is bounded by [`PATIENCE`].

mod client;
mod folder;
mod hook;
mod program;
mod router;
mod traffic;
pub mod wire;

pub use client::Client;
pub use folder::Folder;
pub use hook::{Asked, HookServer, Reply};
pub use program::Program;
pub use router::{Launch, Router, binary, kill_all, sum_of};
pub use traffic::{BLOCK_BYTES, publish_blocks, publish_to_readers, subscribed};
pub use wire::Heard;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No answer takes longer; so long that a loaded machine does not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A ticket whose hash takes no time: what a test is not about should not slow it down.
pub const CHEAP_TICKET: &str = "secret!!!";
/// The hash of [`CHEAP_TICKET`].
pub const CHEAP_HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$zqAx3F3Lqezq8pucowjmzylXkadhK6uFkWmvJrZD8oE";

/// Asks until the answer is yes.
pub fn eventually(what: &str, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !question() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP connection whose reads do not wait for ever.
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the router accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// The same from this address of ours.
pub fn dial_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let unbound = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor is left");
    bind(&unbound, &SocketAddr::new(source, 0)).expect("an address of this machine");
    connect(&unbound, &address).expect("the router accepts");
    let stream = TcpStream::from(unbound);
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    stream
}

/// The same as [`dial`] with the smallest receive buffer: who sends to it has nowhere to put it soon.
pub fn dial_narrow(address: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let narrow = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor is left");
    // Before the connection is made, because it decides the window that is offered.
    sockopt::set_socket_recv_buffer_size(&narrow, 4 << 10).expect("a valid size");
    connect(&narrow, &address).expect("the router accepts");
    let stream = TcpStream::from(narrow);
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Sends one HTTP request as it is and reads until the server ends the connection.
pub fn http(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = dial(address);
    // A server that refuses early may close before the last byte has left.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection was neither answered nor ended: {error}"),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends byte by byte until something comes back. False = all was sent before.
pub fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> bool {
    for byte in bytes {
        if has_answered(stream) || stream.write_all(&[*byte]).is_err() {
            return true;
        }
        std::thread::sleep(pause);
    }
    false
}

/// Descriptors that this process may have: at least `count`, if the hard limit allows it. It holds the other ends of the
/// router's connections, so it needs as many.
pub fn allow_descriptors(count: u64) -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(limit.maximum.map_or(count, |maximum| maximum.min(count)));
        setrlimit(Resource::Nofile, limit).expect("no more than the hard limit");
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Whether there is something to read: bytes or the end.
pub fn has_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a TCP socket");
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("a TCP socket");
    !matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// An address of this machine that nobody listens on, as long as the socket lives.
pub fn deaf_address() -> (std::os::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let bound = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor is left");
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = getsockname(&bound).expect("bound").try_into().expect("an IP address");
    (bound, address)
}

/// `GET path`, on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> String {
    http(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
}

/// The status of an HTTP response; 0 where there is none.
pub fn status(response: &str) -> u16 {
    let words = response.strip_prefix("HTTP/1.1 ").or_else(|| response.strip_prefix("HTTP/1.0 "));
    words.and_then(|words| words.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Ends a connection by a reset, as a peer does whose machine has forgotten it.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a TCP socket");
    drop(stream);
}
