//! One client connection: a non-blocking socket, what waits to be written, and how far the set-up has come.
//!
//! ```text
//! Connecting ─writable─▶ Upgrading ─101─▶ Joining ─WELCOME─▶ Preparing ─SUBSCRIBED/REGISTERED─▶ Ready
//!                                      └ Setup::Connection ┴ Setup::Session ─────────────────▶ Ready
//! Ready (stuck or slow) ─ end of the run ─▶ Discarding: did the server cut it?
//! Ready (visitor) ─ its stay is over ─▶ Leaving ─ end of the connection ─▶ Closed, and open again with the next visit
//! any ─ error, end of file, close frame, ABORT, GOODBYE ─▶ Closed
//! ```
//!
//! It does no WAMP (see `session.rs`) and never waits: what the socket does not take stays in `out`.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use bytes::{Buf, BytesMut};
use fanwire_codec::rawsocket::{self, FrameKind};
use fanwire_codec::wamp2::{self, Message, Serializer};
use fanwire_codec::ws;
use fanwire_codec::ws::deflate::{
    Agreement, Context, Deflater, WINDOW_BITS_MAX, write_client_deflated_message,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use crate::plan::{Assignment, Role, Setup};
use crate::ports::Ports;
use crate::script::http::Answers;
use crate::target::{Address, Target};
use crate::wire::Wire;

/// Receive buffer of subscribers that never read: the smallest, so that the server's side fills soon.
const STUCK_RECEIVE_BYTES: usize = 4096;
/// Senders stop building messages when the socket has left this much unsent; more only adds delay.
pub const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// The generator's own effort when it compresses: the least.
const DEFLATE_LEVEL: u8 = 1;

/// How far the set-up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "drawn in the module's picture")]
pub enum Stage {
    Connecting,
    Upgrading,
    Joining,
    Preparing,
    Ready,
    Discarding,
    Leaving,
    Closed,
}

/// What the frames of a thread need: mask keys and a compressor.
///
/// The keys are seeded from the system's randomness. Masks protect proxies from scripts; between a load generator and a
/// server under test their strength does not matter, that they are not constant does.
#[derive(Debug)]
pub struct Masks {
    state: u64,
    /// One for all connections, made when the first of them needs it.
    deflater: Option<Deflater>,
}

impl Masks {
    /// Seeds the generator.
    pub fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { state: RandomState::new().hash_one(0u64) | 1, deflater: None }
    }

    /// The next 64 random bits (xorshift64).
    pub fn bits(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// The next mask key.
    pub fn key(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.bits().to_le_bytes();
        [a, b, c, d]
    }
}

impl Default for Masks {
    fn default() -> Self {
        Self::new()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket; `None` before it is opened and after it is closed.
    pub socket: Option<OwnedFd>,
    /// What it does.
    pub role: Role,
    /// What it has to have before.
    pub setup: Setup,
    /// How it writes and reads.
    pub serializer: Serializer,
    /// How far it has come.
    pub stage: Stage,
    /// What its messages come in.
    pub wire: Wire,
    /// They go out over RawSocket, without masks and close frames.
    pub is_raw: bool,
    /// Bytes that wait for the socket.
    pub out: BytesMut,
    /// Messages are compressed, those of this side with this context.
    deflate: Option<Option<Context>>,
    /// Whether it is in the worker's list of connections to read.
    pub is_queued: bool,
    /// The server has closed its side: read until the end, however short a read is.
    pub is_ending: bool,
    /// The step of the set-up that is under way, at a server that is no WAMP router.
    pub step: u8,
    /// What such a server calls this connection, if its file captures that.
    pub captured: Box<str>,
    /// There is no WebSocket, see [`Target::is_plain_tcp`].
    pub is_plain_tcp: bool,
    /// Bytes of such a stream that cannot be searched yet.
    pub held: Vec<u8>,
    /// Answers to what was posted.
    pub answers: Option<Box<Answers>>,
    /// Key and bytes of the answer so far, while the upgrade is under way.
    pub upgrade: Option<Box<Upgrade>>,
    /// WAMP request ids are counted from 1 per session (WAMP, "IDs").
    next_request: u64,
    can_write: bool,
}

/// State of an upgrade.
#[derive(Debug)]
pub struct Upgrade {
    /// The nonce sent.
    pub key: [u8; 16],
    /// The answer so far.
    pub head: Vec<u8>,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// The peer has closed its side.
    End,
}

impl Connection {
    /// A connection that is not open yet.
    pub fn new(assignment: &Assignment) -> Self {
        Self {
            socket: None,
            role: assignment.role,
            setup: assignment.setup.clone(),
            serializer: assignment.serializer,
            stage: Stage::Connecting,
            wire: Wire::web_socket(),
            is_raw: false,
            out: BytesMut::new(),
            deflate: None,
            is_queued: false,
            is_ending: false,
            step: 0,
            captured: Box::default(),
            is_plain_tcp: false,
            held: Vec::new(),
            answers: None,
            upgrade: None,
            next_request: 1,
            can_write: false,
        }
    }

    /// Begins to connect. Completion is a writable event.
    pub fn open(
        &mut self,
        target: &Target,
        source: Option<std::net::IpAddr>,
        ports: &mut Ports,
    ) -> Result<(), Errno> {
        let socket = match source {
            None => self.connect(target, None)?,
            Some(source) => {
                let mut tries = ports.tries();
                loop {
                    match self.connect(target, Some(SocketAddr::new(source, ports.take()))) {
                        // This port goes to this destination already, or somebody listens at it.
                        Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) if tries > 1 => tries -= 1,
                        result => break result?,
                    }
                }
            }
        };
        // A visitor's connection is used again and again.
        self.stage = Stage::Connecting;
        let kind = if self.serializer.is_text() { ws::Kind::Text } else { ws::Kind::Binary };
        self.is_raw = target.is_raw_socket;
        self.wire = if self.is_raw { Wire::raw_socket(kind) } else { Wire::web_socket() };
        self.deflate = None;
        self.is_ending = false;
        self.step = 0;
        self.captured = Box::default();
        self.is_plain_tcp = target.is_plain_tcp;
        self.held = Vec::new();
        self.answers = None;
        self.next_request = 1;
        self.socket = Some(socket);
        Ok(())
    }

    fn connect(&self, target: &Target, source: Option<SocketAddr>) -> Result<OwnedFd, Errno> {
        let (family, protocol) = match target.address {
            Address::Ip(SocketAddr::V4(_)) => (AddressFamily::INET, Some(ipproto::TCP)),
            Address::Ip(SocketAddr::V6(_)) => (AddressFamily::INET6, Some(ipproto::TCP)),
            Address::Unix(..) => (AddressFamily::UNIX, None),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, protocol)?;
        if protocol.is_some() {
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
        if self.role == Role::Stuck {
            sockopt::set_socket_recv_buffer_size(&socket, STUCK_RECEIVE_BYTES)?;
        }
        if let Some(source) = source {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &source)?;
        }
        let connected = match &target.address {
            Address::Ip(address) => rustix::net::connect(&socket, address),
            Address::Unix(address, _) => rustix::net::connect(&socket, address),
        };
        match connected {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    /// The socket has become writable. True if it has just been connected.
    pub fn handle_writable(&mut self) -> Result<bool, Errno> {
        self.can_write = true;
        if self.stage != Stage::Connecting {
            self.flush()?;
            return Ok(false);
        }
        let Some(socket) = &self.socket else { return Ok(false) };
        sockopt::socket_error(socket)??;
        // An event may come before the connection is there (EPOLLHUP of a fresh socket).
        Ok(rustix::net::getpeername(socket).is_ok_and(|peer| peer.is_some()))
    }

    /// Reads once into `buffer`, which is overwritten.
    pub fn receive(&mut self, buffer: &mut [u8], bytes_max: usize) -> Result<Read, Errno> {
        let Some(socket) = &self.socket else { return Ok(Read::Empty) };
        let room = bytes_max.min(buffer.len());
        match rustix::net::recv(socket, &mut buffer[..room], RecvFlags::empty()) {
            Ok((_, 0)) => Ok(Read::End),
            Ok((_, count)) => Ok(Read::Bytes(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Empty),
            Err(error) => Err(error),
        }
    }

    /// Writes as much of `out` as the socket takes.
    pub fn flush(&mut self) -> Result<(), Errno> {
        let Some(socket) = &self.socket else { return Ok(()) };
        while self.can_write && !self.out.is_empty() {
            match rustix::net::send(socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    // A short write means that the socket is full; the edge-triggered event tells when it is not.
                    self.can_write = count == self.out.len();
                    self.out.advance(count);
                }
                Err(Errno::AGAIN) => self.can_write = false,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        if self.out.is_empty() {
            self.out.clear();
        }
        Ok(())
    }

    /// Whether a sender may build more messages.
    pub fn has_room(&self) -> bool {
        self.stage == Stage::Ready && self.out.len() < UNSENT_BYTES_MAX
    }

    /// The id of the session's next request.
    pub fn take_request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request - 1
    }

    /// The id that the next request will have.
    pub fn next_request(&self) -> u64 {
        self.next_request
    }

    /// Appends a message to `out`. `scratch` saves an allocation.
    pub fn push(&mut self, message: &Message<'_>, scratch: &mut BytesMut, masks: &mut Masks) {
        scratch.clear();
        wamp2::encode(message, self.serializer, scratch);
        let kind = if self.serializer.is_text() { ws::Kind::Text } else { ws::Kind::Binary };
        self.push_frame(kind, scratch, masks);
    }

    /// Appends a message in one frame, compressed if that was agreed.
    pub fn push_frame(&mut self, kind: ws::Kind, message: &[u8], masks: &mut Masks) {
        if self.is_raw {
            return rawsocket::write_frame(&mut self.out, FrameKind::Message, message);
        }
        let key = masks.key();
        match &mut self.deflate {
            None => ws::write_client_message(&mut self.out, kind, &[message], key),
            Some(context) => {
                let deflater =
                    masks.deflater.get_or_insert_with(|| Deflater::new(DEFLATE_LEVEL, WINDOW_BITS_MAX));
                write_client_deflated_message(
                    &mut self.out,
                    kind,
                    &[message],
                    key,
                    deflater,
                    context.as_mut(),
                );
            }
        }
    }

    /// Appends the answer to a ping.
    pub fn push_pong(&mut self, payload: &[u8], masks: &mut Masks) {
        if self.is_raw {
            rawsocket::write_frame(&mut self.out, FrameKind::Pong, payload);
        } else {
            ws::write_client_control(&mut self.out, ws::Control::Pong, payload, masks.key());
        }
    }

    /// Appends a close frame, where there are such.
    pub fn push_close(&mut self, code: u16, masks: &mut Masks) {
        if !self.is_raw {
            ws::write_client_close(&mut self.out, code, "", masks.key());
        }
    }

    /// The handshake agreed on compression.
    pub fn use_compression(&mut self, agreement: &Agreement) {
        if let Wire::WebSocket(receiver) = &mut self.wire {
            receiver.use_compression(agreement);
        }
        self.deflate = Some(agreement.client.context());
    }

    /// Closes the socket.
    pub fn close(&mut self) {
        self.socket = None;
        self.stage = Stage::Closed;
        self.out = BytesMut::new();
        self.upgrade = None;
        self.can_write = false;
    }
}
