//! The Redis port: publish and subscribe as Redis's clients speak it, with no Redis.
//!
//! ```text
//! client ─ commands ─▶ Connection ─ Ask::Publish, Ask::Subscribe ─▶ one shard
//!    ▲                     │ Output: in the order of the commands       │
//!    └─ replies, messages ─┴───────────── Inbox ◀── events, answers ────┘
//! ```
//!
//! A channel is the topic of the same name, in one realm and by the permissions of one role. A client's connection belongs to
//! this thread and asks one shard, always the same, so that what it publishes keeps its order; its subscriptions are those of
//! an inner subscriber there.
//!
//! It is on this thread, and not on the shards, because those who speak it are backends: a few connections that bring whole
//! batches. What they need of the shards, they get by the mailbox, as the HTTP API does; and one thread is what Redis has, too.
//! A subscriber here costs its shard one reference to the payload for each message, where a stream costs nothing: for crowds
//! there is WebSocket.
//!
//! Read [`serve`], then `connection.rs`, then `session.rs` and `pubsub.rs` for what commands mean.

mod connection;
mod figures;
mod names;
mod outboxes;
mod output;
mod pubsub;
mod session;

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_codec::resp::CommandLimits;
use fanwire_core::api::Actor;
use fanwire_core::ids::ShardId;
use rustix::net::sockopt;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, watch};

use crate::Shards;
use crate::inner::InboxLimits;
use crate::memory::MemoryFigures;
use crate::state::{Readiness, Reason};
use connection::Connection;
pub use figures::RespFigures;
use names::Names;
pub use outboxes::Outboxes;

/// What the port is made of.
#[derive(Clone, Debug)]
pub struct RespConfig {
    /// Whose permissions count.
    pub actor: Actor,
    /// What new clients must say; `None`: nothing. May be replaced while the port is open.
    pub password: Arc<ArcSwap<Option<Password>>>,
    /// Connections at once.
    pub connections_max: usize,
    /// Of one command. Most words of a command are fixed.
    pub command_bytes_max: usize,
    /// Messages that may wait for a client that does not read; beyond that its connection is ended.
    pub messages_max: usize,
    /// The same in bytes. Worst case: three times this for each connection.
    pub bytes_max: usize,
}

/// A password, hashed at once: a fast hash, since it is compared with each AUTH and never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; 32]);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(not shown)")
    }
}

impl Password {
    /// From what is in a file: line ends at its end do not count.
    pub fn from_file(bytes: &[u8]) -> Self {
        let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        Self(Sha256::digest(&bytes[..end]).into())
    }

    fn is(&self, said: &[u8]) -> bool {
        let said: [u8; 32] = Sha256::digest(said).into();
        self.0.ct_eq(&said).into()
    }
}

impl RespConfig {
    fn command_limits(&self, is_known: bool) -> CommandLimits {
        let (words_max, bytes_max) =
            if is_known { (WORDS_MAX, self.command_bytes_max) } else { (8, 4 << 10) };
        CommandLimits { words_max, word_bytes_max: bytes_max, command_bytes_max: bytes_max }
    }

    fn inbox_limits(&self) -> InboxLimits {
        InboxLimits { messages_max: self.messages_max, bytes_max: self.bytes_max }
    }
}

/// What HELLO says this process is, so that a bridge of its own finds out whom it has reached.
pub(crate) fn process_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("{:016x}", RandomState::new().hash_one(std::process::id())))
}

/// Its key in the answer to HELLO.
pub(crate) const PROCESS_KEY: &str = "process";

/// Channels of one SUBSCRIBE, and one word more.
const WORDS_MAX: usize = 1_025;

/// The port before it is served.
#[derive(Debug)]
pub struct RespDesk {
    listener: TcpListener,
    config: RespConfig,
    figures: Arc<RespFigures>,
    outboxes: Arc<Outboxes>,
}

impl RespDesk {
    /// `listener` listens already, so that a port in use is found before any shard runs.
    pub fn new(listener: TcpListener, config: RespConfig) -> Self {
        Self { listener, config, figures: Arc::default(), outboxes: Arc::default() }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// What new clients must say, to be replaced.
    pub fn password(&self) -> Arc<ArcSwap<Option<Password>>> {
        Arc::clone(&self.config.password)
    }

    /// What the metrics page reads.
    pub fn figures(&self) -> Arc<RespFigures> {
        Arc::clone(&self.figures)
    }

    /// What waits for its clients.
    pub fn outboxes(&self) -> Arc<Outboxes> {
        Arc::clone(&self.outboxes)
    }

    pub(crate) fn into_listening(self) -> std::io::Result<Listening> {
        let Self { listener, config, figures, outboxes } = self;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(config.connections_max));
        Ok(Listening { listener, config, figures, outboxes, places })
    }
}

impl Listening {
    /// Waits until nobody is connected; nobody can be from then on.
    pub(crate) fn left(&self) -> impl Future<Output = ()> + use<> {
        let (places, all) = (Arc::clone(&self.places), self.config.connections_max);
        async move { _ = places.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)).await }
    }
}

/// What all connections of the port have in common.
#[derive(Clone)]
struct Port {
    shards: Arc<dyn Shards>,
    config: Arc<RespConfig>,
    figures: Arc<RespFigures>,
    names: Arc<Names>,
    outboxes: Arc<Outboxes>,
    readiness: Arc<Readiness>,
    /// Nobody answers any more: the shards have ended.
    over: watch::Receiver<bool>,
}

/// The port, on its runtime.
pub(crate) struct Listening {
    listener: tokio::net::TcpListener,
    config: RespConfig,
    figures: Arc<RespFigures>,
    outboxes: Arc<Outboxes>,
    places: Arc<Semaphore>,
}

/// Serves until the task is dropped. Who comes while the router ends, or while memory is short, is sent away.
pub(crate) async fn serve(
    listening: Listening,
    shards: Arc<dyn Shards>,
    readiness: Arc<Readiness>,
    memory: Arc<MemoryFigures>,
    over: watch::Receiver<bool>,
) {
    let Listening { listener, config, figures, outboxes, places } = listening;
    let (config, names) = (Arc::new(config), Arc::default());
    let port = Port { shards, config, figures, names, outboxes, readiness, over };
    for number in 1_u64.. {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the Redis port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let reason = port.readiness.reason().map(Reason::words).or_else(|| memory.reason());
        let place = match (Arc::clone(&places).try_acquire_owned(), reason) {
            (Ok(place), None) => place,
            (_, reason) => {
                RespFigures::add(&port.figures.refused, 1);
                let words = reason.unwrap_or("max number of clients reached (resp.connections)");
                // As Redis says it. A new socket takes these few bytes at once, or they are lost.
                _ = stream.try_write(format!("-ERR {words}\r\n").as_bytes());
                continue;
            }
        };
        _ = stream.set_nodelay(true);
        _ = sockopt::set_socket_keepalive(&stream, true);
        _ = sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE);
        let shard = ShardId::new((number % port.shards.count() as u64) as u8).expect("there are as many");
        let port = port.clone();
        tokio::spawn(async move {
            Connection::new(stream, number, shard, port).run().await;
            drop(place);
        });
    }
}

/// When descriptors have run out, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that is gone without a word is found out by the kernel.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
