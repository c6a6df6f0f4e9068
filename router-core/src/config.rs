//! What a shard must know before it starts. The only place where the core's defaults live.

use std::time::Duration;

use fanwire_codec::ws::deflate::DeflatePolicy;

use crate::access::Access;
use crate::directory::{HistoryLimits, RetentionLimits};
use crate::echo::EchoRooms;
use crate::handled::Handler;
use crate::message_center::MessageCenter;
use crate::meta::TestamentLimits;
use crate::wamp1::Wamp1;

/// Realms, permissions and limits; the same for all shards of a process.
#[derive(Debug)]
pub struct CoreConfig {
    /// The realms with their roles and permissions; a HELLO that names another realm is aborted.
    pub access: Access,
    /// Bounds of everything that grows.
    pub limits: Limits,
    /// How messages are compressed for clients that offer it; `None`: not at all.
    pub compression: Option<Compression>,
    /// Name and version announced in WELCOME (`agent`).
    pub agent: String,
    /// The channels of message-center clients.
    pub message_center: MessageCenter,
    /// The rooms of echo clients.
    pub echo: EchoRooms,
    /// Clients of WAMP version 1.
    pub wamp1: Wamp1,
    /// Programs beside the shards that decide on what happens to connections.
    pub handlers: Vec<Handler>,
}

/// permessage-deflate (RFC 7692).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// What is agreed to. With takeover each connection costs twice its window more, and what it is sent is compressed for
    /// it alone; without, once for all.
    pub policy: DeflatePolicy,
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// Frames that are shorter are sent as they are, but for connections with takeover.
    pub threshold_bytes: usize,
    /// Whether a client may send compressed messages before it is welcomed.
    pub before_login: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { policy: DeflatePolicy::default(), level: 1, threshold_bytes: 512, before_login: true }
    }
}

/// Every bound of the core. Worst-case memory is named where it is not obvious.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes waiting for one connection before it is cut. Tested before appending: an empty outbox takes one frame of
    /// any size. Worst case: connections × this, shared frames counted once per connection that holds them.
    pub outbox_bytes_max: usize,
    /// Messages waiting for one connection before it is cut.
    pub outbox_messages_max: u32,
    /// How long the oldest unsent byte may wait before the connection is cut.
    pub outbox_age_max: Duration,
    /// Bytes beyond `outbox_bytes_max` that replies and closings may still use.
    pub reply_reserve_bytes: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// Registrations of one session.
    pub registrations_max: usize,
    /// Subscriptions and registrations of one session by prefix or wildcard.
    pub patterns_per_session: usize,
    /// Different prefixes and wildcards of a realm's subscriptions, and as many of its registrations.
    pub patterns_per_realm: usize,
    /// Calls of one session without a final answer.
    pub calls_max: usize,
    /// Invocations of one callee without an answer. Larger than `calls_max`, because one callee serves many callers.
    pub invocations_max: usize,
    /// Bytes in a stream at which its publishers are parked.
    pub stream_congested_bytes: usize,
    /// Bytes in a stream at which frames are dropped and counted.
    pub stream_bytes_max: usize,
    /// Members up to which a stream is visited before large ones, and in one go while it has a single frame (slices cost some
    /// per cent at 100 members, and one frame gains nothing by them).
    pub small_stream_members: usize,
    /// How long an unacknowledged publication waits for room in a ring.
    pub park_max: Duration,
    /// How long an unacknowledged publication waits for a congested stream. Longer than `park_max`, because a stream of
    /// many thousand subscribers needs that long for one round while everything is in order.
    pub park_congested_max: Duration,
    /// How long publishers wait for one subscriber of a topic with [`SlowConsumer::PausePublisher`](crate::topics::SlowConsumer)
    /// before it is cut.
    pub pause_max: Duration,
    /// How long a question waits for its verdict before it is answered as if nobody could be asked. Longer than whoever is
    /// asked takes: this is for what must not happen.
    pub question_max: Duration,
    /// Slots of the ring between two shards; data sees it full while [`Self::ring_reserve`] slots are left.
    pub ring_capacity: usize,
    /// Payload bytes in the ring between two shards at which it takes no more data. It may hold one message more, and the
    /// answers of calls.
    pub ring_bytes_max: usize,
    /// How many retained events there may be, and how long together.
    pub retention: RetentionLimits,
    /// How long all histories may be together.
    pub history: HistoryLimits,
    /// Bytes of the logins that connections are remembered by, in the whole process. Beyond them the first is forgotten whose
    /// time is over.
    pub cookie_bytes_max: usize,
    /// What sessions may leave behind.
    pub testaments: TestamentLimits,
    /// Topics that a shard remembers (hits and misses).
    pub topic_cache_entries: usize,
}

impl Limits {
    /// Slots of a ring that only replies and other control items may use.
    pub fn ring_reserve(&self) -> usize {
        (self.ring_capacity / 4).min(32)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 1 << 20,
            outbox_messages_max: 8192,
            outbox_age_max: Duration::from_secs(10),
            reply_reserve_bytes: 64 << 10,
            subscriptions_max: 1024,
            registrations_max: 1024,
            patterns_per_session: 128,
            patterns_per_realm: 100_000,
            calls_max: 1024,
            invocations_max: 16_384,
            stream_congested_bytes: 64 << 10,
            stream_bytes_max: 1 << 20,
            small_stream_members: 256,
            park_max: Duration::from_millis(100),
            park_congested_max: Duration::from_secs(1),
            pause_max: Duration::from_secs(5),
            question_max: Duration::from_secs(30),
            ring_capacity: 1024,
            ring_bytes_max: 8 << 20,
            retention: RetentionLimits::default(),
            history: HistoryLimits::default(),
            cookie_bytes_max: 16 << 20,
            testaments: TestamentLimits::default(),
            topic_cache_entries: 16_384,
        }
    }
}
