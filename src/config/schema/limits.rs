//! Bounds on what one connection, and all of them, can cost.

use fanwire_core::topics::SlowConsumer;
use serde::{Deserialize, Serialize};

use crate::config::describe::described;
use crate::config::topics::Policy;
use crate::config::units::{Auto, Count, Limit, Size, Time};

described! {
    /// Bounds on what one peer can cost.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Limits {
        /// Memory that the process may use. `auto`: what its control group allows, else the machine's.
        ///
        /// Measured is the resident memory, and for each control group with a limit of its own what the kernel counts there,
        /// without pages of files; whatever is nearest to its limit decides. At 85 % new clients are refused (503, close 1013),
        /// at 95 % clients that read too slowly are cut, those with the largest outboxes first. See
        /// [operators](operators.md#overload).
        #[acts(now)]
        pub memory: Auto<Size>,
        /// One WebSocket message, all its frames together, inflated if it is compressed.
        ///
        /// Larger ones close the connection with 1009. An incomplete message holds at most twice what has arrived.
        #[acts(now)]
        pub message: Size,
        /// HTTP request head; larger ones are answered 431.
        #[acts(now)]
        pub request_head: Size,
        /// Header fields in a request head.
        #[acts(now)]
        pub request_head_fields: Count,
        /// A message of, and output to, a connection that has not joined a realm; inflated if it is compressed.
        ///
        /// A message-center client may send 129 KiB, as a token of 64 KiB can need.
        #[acts(now)]
        pub before_login: Size,
        /// From accept to the end of the WebSocket upgrade.
        #[acts(new_connections)]
        pub handshake_time: Time,
        /// From the upgrade to the welcome.
        #[acts(new_connections)]
        pub login_time: Time,
        /// From the first byte of a message to its last.
        #[acts(now)]
        pub message_time: Time,
        /// From our last word to the end of the connection.
        #[acts(now)]
        pub close_time: Time,
        /// How long a long-polling request waits for something to be answered with.
        ///
        /// Then the answer is empty and the client asks again. Shorter than what clients (Autobahn 12 s) and proxies wait.
        #[acts(now)]
        pub poll_wait: Time,
        /// How long a polled session is kept while no request of its waits, and an HTTP connection without requests.
        #[acts(now)]
        pub poll_idle: Time,
        /// A connection that was silent for this long is pinged.
        #[acts(now)]
        pub ping_interval: Time,
        /// Without an answer to the ping for this long the connection is cut.
        #[acts(now)]
        pub pong_wait: Time,
        /// Bytes that may wait for a connection that reads too slowly.
        ///
        /// Worst case: connections × this. An empty outbox takes one message of any size.
        #[acts(now)]
        pub outbox: Size,
        /// Messages that may wait for such a connection.
        #[acts(now)]
        pub outbox_messages: Count,
        /// How long the oldest of them may wait.
        ///
        /// Beyond one of the three the connection is cut, and what it had not got is counted; or what `limits.slow_consumer`
        /// says happens. Who takes nothing at all for this long is cut in any case.
        #[acts(now)]
        pub outbox_age: Time,
        /// What happens to events that a subscriber does not read in time, unless its realm or topic says otherwise.
        ///
        /// `disconnect` (beyond one of the three limits), `drop_oldest`, `drop_newest`, `conflate` (a new event replaces the one of
        /// its topic, or of its topic and `x_conflate_key`), or `pause_publisher`. See
        /// [slow consumers](operators.md#slow-consumers).
        #[acts(new_connections)]
        pub slow_consumer: Policy,
        /// How long publishers wait for one subscriber with `pause_publisher` before it is cut.
        #[acts(now)]
        pub pause: Time,
        /// Room for replies and goodbyes beyond `limits.outbox`.
        #[acts(now)]
        pub reply_reserve: Size,
        /// Subscriptions of one session.
        #[acts(now)]
        pub subscriptions_per_session: Count,
        /// Registrations of one session.
        #[acts(now)]
        pub registrations_per_session: Count,
        /// Subscriptions and registrations of one session by prefix or wildcard, together.
        #[acts(now)]
        pub patterns_per_session: Count,
        /// Different prefixes and wildcards that sessions of one realm are subscribed to, and as many registered ones.
        ///
        /// About 300 bytes each. What a publication costs hangs on those that match it, not on their number.
        #[acts(now)]
        pub patterns_per_realm: Count,
        /// Retained events of one realm.
        ///
        /// [Retained events](wamp.md#retained-events) says what becomes of publications beyond these three bounds. 0: none is
        /// retained.
        #[acts(now)]
        pub retained_per_realm: Count,
        /// Bytes of one realm's retained events: payloads, topics, lists of receivers, and 200 for each event.
        ///
        /// Less than `retained_bytes`, so that no realm leaves others without room.
        #[acts(now)]
        pub retained_bytes_per_realm: Size,
        /// The same of all realms together. It is part of `limits.memory`.
        #[acts(now)]
        pub retained_bytes: Size,
        /// Bytes of the [histories](wamp.md#event-history) of one realm.
        ///
        /// Payloads, topics, lists of receivers, and 250 for each publication. Beyond it the realm's oldest one makes room. Less
        /// than `history_bytes`, so that no realm leaves others without room.
        #[acts(now)]
        pub history_bytes_per_realm: Size,
        /// The same of all realms together. It is part of `limits.memory`.
        #[acts(now)]
        pub history_bytes: Size,
        /// Bytes of the logins that are remembered by [cookies](logins.md#cookies): names, `authextra`, and 640 for each.
        ///
        /// Beyond it the oldest login is forgotten. It is part of `limits.memory`.
        #[acts(now)]
        pub cookie_bytes: Size,
        /// Calls of one session that are not answered yet.
        #[acts(now)]
        pub pending_calls_per_session: Count,
        /// Invocations of one callee that it has not answered yet.
        #[acts(now)]
        pub pending_invocations_per_session: Count,
        /// [Testaments](wamp.md#testaments) of one session.
        #[acts(now)]
        pub testaments_per_session: Count,
        /// Bytes of one session's testaments: topics, payloads, lists of receivers, and about 250 for each.
        #[acts(now)]
        pub testament_bytes_per_session: Size,
        /// The same of all sessions of a shard.
        #[acts(now)]
        pub testament_bytes_per_shard: Size,
        /// Logins that may wait to be challenged or verified; further ones are refused: try again later.
        #[acts(restart)]
        pub logins_waiting: Count,
        /// Tickets verified at once, each with 19 MiB of memory and a CPU for 20 to 70 ms.
        ///
        /// `auto`: half of the CPUs that the process may use, 1 to 4. The threads give way to the shards.
        #[acts(restart)]
        pub logins_at_once: Auto<Count>,
        /// Connections of one shard; further ones are answered 503.
        ///
        /// Without it, the limit of open files decides.
        #[acts(new_connections)]
        pub connections_per_shard: Limit<Count>,
        /// Sessions of one shard that are polled by HTTP requests; further ones are answered 503.
        ///
        /// They have no descriptor that would bound them. About 1 KiB each, without what waits for them.
        #[acts(new_connections)]
        pub polled_sessions_per_shard: Count,
        /// New connections that the process accepts in a second; more wait in the backlog.
        ///
        /// A tenth of it may come at once. For storms, when thousands come back after a fault; see `listener.backlog`.
        #[acts(now)]
        pub accept_rate: Limit<Count>,
        /// Connections of one address at once; further ones are answered 429. An IPv6 address counts by its first 64 bits.
        ///
        /// Not for a router behind a proxy, where everybody has the proxy's address. Connections to the HTTP API do not count.
        #[acts(new_connections)]
        pub connections_per_address: Limit<Count>,
        /// New connections of one address in a second, and as many at once; further ones are answered 429.
        #[acts(new_connections)]
        pub connects_per_address: Limit<Count>,
        /// Messages of one connection in a second, WebSocket control frames too.
        ///
        /// Who sends more is not read until it may again: nothing is lost, its own socket fills up.
        #[acts(now)]
        pub messages_per_second: Limit<Count>,
        /// Messages that a connection may send at once after a silence. `auto`: those of a second.
        ///
        /// At least those of a thirtieth of a second, which is how often connections that wait are looked at.
        #[acts(now)]
        pub messages_burst: Auto<Count>,
        /// Bytes of one connection in a second, as they come on the wire; beyond that as with `limits.messages_per_second`.
        #[acts(now)]
        pub bytes_per_second: Limit<Size>,
        /// Bytes that a connection may send at once after a silence. `auto`: those of a second.
        ///
        /// At least those of a thirtieth of a second. One receive more is possible, of 64 KiB, or 256 KiB of a large message, and has to be waited for afterwards.
        #[acts(now)]
        pub bytes_burst: Auto<Size>,
        /// TLS handshakes of one shard that may be under way at once, 1 to 65536; further clients wait.
        ///
        /// One that makes others wait gives its place up: after 250 ms if its greeting is not complete, else after a second
        /// without an answer.
        #[acts(now)]
        pub tls_handshakes_per_shard: Count,
        /// Payload bytes on the way from one shard to another, beyond which publishers wait, as for a slow subscriber.
        ///
        /// One more message may be on its way, of any size. Answers of calls are bounded by their number.
        #[acts(restart)]
        pub ring: Size,
        /// Items on the way from one shard to another.
        ///
        /// `auto`: 8192 divided by the shards, at least 128.
        #[acts(restart)]
        pub ring_items: Auto<Count>,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Auto::Auto,
            message: Size(1 << 20),
            request_head: Size(8 << 10),
            request_head_fields: Count(64),
            before_login: Size(16 << 10),
            handshake_time: Time::seconds(5),
            login_time: Time::seconds(10),
            message_time: Time::seconds(30),
            close_time: Time::seconds(5),
            poll_wait: Time::seconds(10),
            poll_idle: Time::seconds(30),
            ping_interval: Time::seconds(25),
            pong_wait: Time::seconds(8),
            outbox: Size(1 << 20),
            outbox_messages: Count(8_192),
            outbox_age: Time::seconds(10),
            slow_consumer: Policy(SlowConsumer::Disconnect),
            pause: Time::seconds(5),
            reply_reserve: Size(64 << 10),
            subscriptions_per_session: Count(1_024),
            registrations_per_session: Count(1_024),
            patterns_per_session: Count(128),
            patterns_per_realm: Count(100_000),
            retained_per_realm: Count(100_000),
            retained_bytes_per_realm: Size(32 << 20),
            retained_bytes: Size(64 << 20),
            history_bytes_per_realm: Size(32 << 20),
            history_bytes: Size(64 << 20),
            cookie_bytes: Size(16 << 20),
            pending_calls_per_session: Count(1_024),
            pending_invocations_per_session: Count(16_384),
            testaments_per_session: Count(64),
            testament_bytes_per_session: Size(64 << 10),
            testament_bytes_per_shard: Size(64 << 20),
            logins_waiting: Count(256),
            logins_at_once: Auto::Auto,
            connections_per_shard: Limit(None),
            polled_sessions_per_shard: Count(1 << 16),
            accept_rate: Limit(None),
            connections_per_address: Limit(None),
            connects_per_address: Limit(None),
            messages_per_second: Limit(None),
            messages_burst: Auto::Auto,
            bytes_per_second: Limit(None),
            bytes_burst: Auto::Auto,
            tls_handshakes_per_shard: Count(64),
            ring: Size(8 << 20),
            ring_items: Auto::Auto,
        }
    }
}
