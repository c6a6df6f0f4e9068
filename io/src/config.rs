//! Everything an operator can say about sockets, threads and deadlines, and the only place of their defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fanwire_codec::http::HeadLimits;
use fanwire_core::FlushBudget;

use crate::cookies::CookieRule;
use crate::rate::Rate;
use crate::tls::Acceptor;

/// How the shards run and what they listen on.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the process listens on.
    pub listeners: Vec<Listener>,
    /// Number of shards, 1..=63. `None`: one per CPU of the process's affinity mask, cut by the cgroup's CPU quota.
    pub shards: Option<usize>,
    /// CPUs that the shards are pinned to, in order, used again from the start if there are more shards. `None`: the
    /// CPUs of the affinity mask, if there is a shard for each of them; otherwise no pinning (a container with a quota
    /// shares its CPUs with others that would choose the same first ones).
    pub cpus: Option<Vec<usize>>,
    /// The runtime's way to wait.
    pub driver: Driver,
    /// When to give up waiting.
    pub deadlines: Deadlines,
    /// How long [`Running::drain`](crate::Running::drain) may take. Many connections are closed evenly spread over most
    /// of it, so that their clients do not all come back in one moment.
    pub drain_time: Duration,
    /// Bounds of an HTTP request head.
    pub head: HeadLimits,
    /// Bytes of one WebSocket message of a logged-in connection; more ends it with close 1009. Worst case: connections
    /// × this, for peers that leave a message incomplete until the message deadline.
    pub message_bytes_max: u64,
    /// The same before login.
    pub message_bytes_max_before_login: u64,
    /// Connections of one shard; further ones are answered 503. `None`: as many as there are descriptors.
    pub connections_max_per_shard: Option<u32>,
    /// Sessions of one shard that are polled by HTTP requests; further ones are answered 503. They have no descriptor that would
    /// bound them.
    pub polled_sessions_max_per_shard: u32,
    /// TLS handshakes of one shard that may be under way at once; further ones wait unread until one of those ends.
    pub tls_handshakes_max: u32,
    /// Whether a shard that accepts a connection hands it to the one that has the fewest, before a byte is read. Without
    /// it a connection stays where the kernel put it, by a hash of its addresses.
    pub balance: bool,
    /// How long a shard that has nothing to do looks for more before it sleeps, while messages come that often. Zero: not
    /// at all. It costs a whole CPU per busy shard and saves each message the wake-up.
    pub spin: Duration,
    /// Items of the ring of one ordered pair of shards. `None`: 8,192 / shards, at least 128.
    pub ring_items: Option<usize>,
    /// New connections that the process accepts; more wait in the backlog. `None`: as many as come.
    pub accept_rate: Option<Rate>,
    /// Connections of one address (IPv6: of one network of 64 bits) at once; further ones are answered 429.
    pub connections_per_address: Option<u32>,
    /// New connections of one address; further ones are answered 429.
    pub connects_per_address: Option<Rate>,
    /// Messages of one connection, control frames too. Who sends more is not read for a while.
    pub messages_rate: Option<Rate>,
    /// Bytes of one connection, as they come on the wire. Who sends more is not read for a while.
    pub bytes_rate: Option<Rate>,
    /// Asks the allocator to give freed memory back to the system. Called on a shard's thread, after it freed something because
    /// memory is short; it may take a millisecond.
    pub release_memory: Option<fn()>,
    /// Bounds of one turn of a shard's loop.
    pub turn: TurnBudget,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            shards: None,
            cpus: None,
            driver: Driver::Auto,
            deadlines: Deadlines::default(),
            drain_time: Duration::from_secs(30),
            head: HeadLimits::default(),
            message_bytes_max: 1 << 20,
            message_bytes_max_before_login: 16 << 10,
            connections_max_per_shard: None,
            polled_sessions_max_per_shard: 1 << 16,
            tls_handshakes_max: 64,
            balance: true,
            spin: Duration::ZERO,
            ring_items: None,
            accept_rate: None,
            connections_per_address: None,
            connects_per_address: None,
            messages_rate: None,
            bytes_rate: None,
            release_memory: None,
            turn: TurnBudget::default(),
        }
    }
}

/// One address and what is served there.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen.
    pub address: ListenAddress,
    /// Connections that may wait in the kernel, per listening socket, until the shard accepts them. The kernel cuts it
    /// at `net.core.somaxconn`; `None`: as many as that.
    pub backlog: Option<u32>,
    /// WebSocket paths.
    pub endpoints: Vec<Endpoint>,
    /// Paths below which sessions are opened and polled by HTTP requests. None is `*`.
    pub longpoll: Vec<Endpoint>,
    /// What WAMP over RawSocket is here: a connection whose first byte says so is served as one of this endpoint. `None`: it is
    /// taken for a bad request.
    pub rawsocket: Option<EndpointId>,
    /// Which web pages may connect.
    pub origins: Origins,
    /// How clients are known again that have logged in. `None`: they are not.
    pub cookie: Option<CookieRule>,
    /// Beginnings of paths that the control thread serves: a connection whose first request names one leaves its shard
    /// ([`Service::hand_over`](crate::Service::hand_over)). Empty: there are none.
    pub control: Vec<String>,
    /// `None`: no TLS.
    pub tls: Option<ListenerTls>,
}

/// TLS at a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// What its clients are shown.
    pub acceptor: Arc<Acceptor>,
    /// Whether connections without TLS are served too; the first byte tells.
    pub plain: bool,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and port. Port 0 is chosen by the system, the same for all shards.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Where its file is.
        path: PathBuf,
        /// The file's permissions: who may write may connect.
        mode: u32,
    },
}

impl ListenAddress {
    /// The IP address and port, unless it is a Unix socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A path that is upgraded to WebSocket, or below which sessions are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Exact path, beginning with a slash. `*` serves every path that no other endpoint names.
    pub path: String,
    /// Given to the service, which knows what it means.
    pub id: EndpointId,
}

/// The service's name for what is served at a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointId(pub u8);

/// Which `Origin` headers are accepted. An absent one always is: it comes from a program, not from a browser. So are the
/// same host as in `Host` and loopback hosts; everything else must be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Accept every origin.
    pub any: bool,
    /// Further origins, as browsers write them: `https://app.example.org`, with a port where it is not the default one.
    pub allowed: Vec<String>,
}

impl Origins {
    /// Whether a page of this origin may ask. `host`: the value of `Host`.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        crate::request::origin_allowed(self, origin, host)
    }
}

/// What a shard waits with. The data path is the same system calls in both cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Driver {
    /// io_uring where the kernel allows it, otherwise epoll.
    #[default]
    Auto,
    /// io_uring, or an error at the start.
    IoUring,
    /// epoll.
    Epoll,
}

/// When to give up waiting. All are measured on the monotonic clock, at a resolution of 16 ms.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// From accept to the end of the request head, absolute: one byte per second does not extend it.
    pub handshake: Duration,
    /// From the upgrade until the session is established.
    pub login: Duration,
    /// From the first byte of a WebSocket message to its last.
    pub message: Duration,
    /// A connection that has been silent for this long is sent a ping.
    pub ping_interval: Duration,
    /// How long it may then stay silent.
    pub pong_wait: Duration,
    /// How long a closing may take: for the peer to read our last words, and then to answer.
    pub close: Duration,
    /// How long a long-polling request waits for something to be answered with.
    pub poll_wait: Duration,
    /// How long a session is kept while none of its requests waits, and an HTTP connection without a request.
    pub poll_idle: Duration,
    /// How long a peer's kernel may take nothing of what was sent to it (TCP_USER_TIMEOUT): it has stopped reading, or is
    /// not there any more. Not less than what its outbox allows, or that would never count.
    pub unread: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            login: Duration::from_secs(10),
            message: Duration::from_secs(30),
            ping_interval: Duration::from_secs(25),
            pong_wait: Duration::from_secs(8),
            close: Duration::from_secs(5),
            poll_wait: Duration::from_secs(10),
            poll_idle: Duration::from_secs(30),
            unread: Duration::from_secs(10),
        }
    }
}

/// How much of each kind of work one turn does before the others have theirs.
#[derive(Clone, Debug)]
pub struct TurnBudget {
    /// Receives.
    pub receives: u32,
    /// Bytes received.
    pub receive_bytes: usize,
    /// Connections accepted.
    pub accepts: u32,
    /// Items taken from one ring.
    pub ring_items: u32,
    /// Sends.
    pub flush: FlushBudget,
}

impl Default for TurnBudget {
    fn default() -> Self {
        // DESIGN §4: 64 receives, 256 KiB. A turn of small messages is then about 0.1 ms of receives.
        Self {
            receives: 64,
            receive_bytes: 256 << 10,
            accepts: 32,
            ring_items: 256,
            flush: FlushBudget::default(),
        }
    }
}

/// Most shards of a process: a topic's interest mask has 64 bits, and one of them says that it is retired.
pub const SHARDS_MAX: usize = 63;
