//! One connection to Redis: RESP3, subscribed, and what comes by it in a bounded queue.
//!
//! ```text
//! the crate's task ─ push ─▶ Incoming::take ─ bounded ─▶ Incoming::next ─▶ pump
//! ```
//!
//! The crate reads whatever Redis sends and hands it over at once, so there is nobody to hold back: what finds no room is
//! dropped and counted. Redis would do the same a little later, and cut us.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, TlsCertificates, Value,
};
use tokio::sync::Notify;

use super::BridgeConfig;
use super::resolve::Resolver;
use super::routes::Names;
use crate::resp::{PROCESS_KEY, process_name};

/// A message of a channel.
#[derive(Debug)]
pub(super) struct Message {
    /// The pattern by which it came.
    pub(super) pattern: Option<Vec<u8>>,
    pub(super) channel: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// What has come and was not taken yet.
#[derive(Debug)]
pub(super) struct Incoming {
    waiting: Mutex<Waiting>,
    changed: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: Vec<Message>,
    bytes: usize,
    lost: u64,
    ended: bool,
}

/// Some of what has come.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) messages: Vec<Message>,
    /// Messages that had no room, somewhere among these.
    pub(super) lost: u64,
    /// Nothing follows.
    pub(super) ended: bool,
}

impl Incoming {
    fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Notify::new(), messages_max, bytes_max }
    }

    fn take(&self, info: PushInfo) -> Result<(), SendError> {
        match info.kind {
            PushKind::Message | PushKind::PMessage => {
                if let Some(message) = message(info.data) {
                    self.put(message);
                }
            }
            PushKind::Disconnection => self.end(),
            // Confirmations are answers to who has asked.
            _ => {}
        }
        Ok(())
    }

    fn put(&self, message: Message) {
        let mut waiting = self.lock();
        let bytes = message.channel.len() + message.payload.len();
        let is_full = waiting.messages.len() >= self.messages_max
            || !waiting.messages.is_empty() && waiting.bytes + bytes > self.bytes_max;
        if is_full {
            waiting.lost += 1;
        } else {
            waiting.bytes += bytes;
            waiting.messages.push(message);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Nothing follows; what is there is still given.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Waits until there is something, and takes all of it.
    pub(super) async fn next(&self) -> Arrived {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.lock();
                if !waiting.messages.is_empty() || waiting.lost > 0 || waiting.ended {
                    let Waiting { messages, lost, ended, .. } = &mut *waiting;
                    let arrived = Arrived {
                        messages: std::mem::take(messages),
                        lost: std::mem::take(lost),
                        ended: *ended,
                    };
                    waiting.bytes = 0;
                    return arrived;
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing panics with it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `[channel, payload]`, or `[pattern, channel, payload]`.
fn message(data: Vec<Value>) -> Option<Message> {
    let mut parts = data.into_iter().rev().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let (payload, channel) = (parts.next()??, parts.next()??);
    Some(Message { pattern: parts.next().flatten(), channel, payload })
}

/// A connection that is subscribed to all that comes in.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) incoming: Arc<Incoming>,
}

/// Why there is none: the cause, and the setting to look at.
pub(super) type NoLink = String;

impl Link {
    /// Connects, says who we are, and subscribes. When this returns, every message published from then on comes.
    pub(super) async fn open(config: &BridgeConfig, resolver: &Resolver) -> Result<Self, NoLink> {
        let client = client(config).await?;
        let limits = config.limits;
        let incoming = Arc::new(Incoming::new(limits.messages_max, limits.bytes_max));
        let queue = Arc::clone(&incoming);
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIME))
            .set_response_timeout(Some(ANSWER_TIME))
            .set_dns_resolver(resolver.clone())
            .set_push_sender(move |info| queue.take(info));
        let connection = client.get_multiplexed_async_connection_with_config(&settings).await;
        let mut connection = connection.map_err(|error| words(config, &error))?;
        refuse_ourselves(config, &mut connection).await?;
        let (mut channels, mut patterns) = (Vec::new(), Vec::new());
        for route in config.routes.0.iter().filter(|route| route.direction.comes_in()) {
            match &route.names {
                Names::One { channel, .. } => channels.push(channel.as_str()),
                Names::Pattern { text, .. } => patterns.push(text.as_str()),
            }
        }
        if !channels.is_empty() {
            connection.subscribe(channels).await.map_err(|error| words(config, &error))?;
        }
        if !patterns.is_empty() {
            connection.psubscribe(patterns).await.map_err(|error| words(config, &error))?;
        }
        Ok(Self { connection, incoming })
    }
}

/// A bridge to the Redis port of its own process would bring in what it hears there, for ever.
async fn refuse_ourselves(
    config: &BridgeConfig,
    connection: &mut MultiplexedConnection,
) -> Result<(), NoLink> {
    let hello = redis::cmd("HELLO").query_async::<HashMap<String, Value>>(connection).await;
    let hello = hello.map_err(|error| words(config, &error))?;
    match hello.get(PROCESS_KEY) {
        Some(Value::BulkString(name)) if name == process_name().as_bytes() => Err(format!(
            "{} is the Redis port of this very process, which needs no bridge; look at bridge.url and resp.bind",
            config.url
        )),
        _ => Ok(()),
    }
}

/// The files are read each time: a new password or certificate acts with the next connection.
async fn client(config: &BridgeConfig) -> Result<Client, NoLink> {
    let wrong = |error: &RedisError| format!("{error}; look at bridge.url");
    let info = config.url.as_str().into_connection_info().map_err(|error| wrong(&error))?;
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &config.user {
        settings = settings.set_username(user);
    }
    if let Some(file) = &config.password_file {
        let password = read(file, "bridge.password_file").await?;
        let password = String::from_utf8(password)
            .map_err(|_| format!("{} is no UTF-8; look at bridge.password_file", file.display()))?;
        settings = settings.set_password(password.trim_end_matches(['\r', '\n']));
    }
    let info = info.set_redis_settings(settings);
    let root_cert = match &config.ca_file {
        Some(file) => Some(read(file, "bridge.ca_file").await?),
        None => None,
    };
    let client = match root_cert {
        Some(_) => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }),
        None => Client::open(info),
    };
    client.map_err(|error| wrong(&error))
}

/// A small file of this machine: reading it takes less than handing it to another thread.
async fn read(file: &PathBuf, key: &str) -> Result<Vec<u8>, NoLink> {
    std::fs::read(file).map_err(|error| format!("cannot read {}: {error}; look at {key}", file.display()))
}

/// Cause and setting.
pub(super) fn words(config: &BridgeConfig, error: &RedisError) -> NoLink {
    let code = error.code().unwrap_or_default();
    let remedy = if matches!(error.kind(), ErrorKind::AuthenticationFailed)
        || matches!(code, "WRONGPASS" | "NOAUTH")
    {
        "look at bridge.user and bridge.password_file"
    } else if code == "NOPERM" {
        "its user there needs the commands subscribe, psubscribe and publish, and the channels of bridge.map"
    } else if code == "NOPROTO" || matches!(error.kind(), ErrorKind::RESP3NotSupported) {
        "RESP3 is needed: Redis 6 or later"
    } else {
        "is Redis there, and reachable? look at bridge.url"
    };
    format!("{}: {error}; {remedy}", config.url)
}

const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Redis answers in microseconds; one that hangs this long is as good as gone.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, words: &[&str]) -> PushInfo {
        let data = words.iter().map(|word| Value::BulkString(word.as_bytes().to_vec())).collect();
        PushInfo { kind, data }
    }

    #[tokio::test]
    async fn messages_come_in_their_order_and_the_end_after_them() {
        let incoming = Incoming::new(10, 1_000);
        incoming.take(push(PushKind::Subscribe, &["a"])).expect("it listens");
        incoming.take(push(PushKind::Message, &["a", "1"])).expect("it listens");
        incoming.take(push(PushKind::PMessage, &["a*", "ab", "2"])).expect("it listens");
        incoming.take(push(PushKind::Disconnection, &[])).expect("it listens");
        let arrived = incoming.next().await;
        let told: Vec<_> = arrived
            .messages
            .iter()
            .map(|message| (message.pattern.as_deref(), &message.channel[..], &message.payload[..]))
            .collect();
        assert_eq!(told, [(None, &b"a"[..], &b"1"[..]), (Some(&b"a*"[..]), b"ab", b"2")]);
        assert!(arrived.ended && arrived.lost == 0);
    }

    #[tokio::test]
    async fn what_has_no_room_is_counted_and_one_of_any_size_has() {
        let incoming = Incoming::new(3, 10);
        incoming
            .take(push(PushKind::Message, &["a", "a long payload, longer than that"]))
            .expect("it listens");
        incoming.take(push(PushKind::Message, &["a", "1"])).expect("it listens");
        let arrived = incoming.next().await;
        assert_eq!((arrived.messages.len(), arrived.lost, arrived.ended), (1, 1, false));
        for _ in 0..5 {
            incoming.take(push(PushKind::Message, &["a", ""])).expect("it listens");
        }
        let arrived = incoming.next().await;
        assert_eq!((arrived.messages.len(), arrived.lost), (3, 2));
        let silence = tokio::time::timeout(Duration::from_millis(5), incoming.next()).await;
        assert!(silence.is_err(), "there is nothing more");
    }
}
