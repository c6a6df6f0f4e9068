//! The keys of `[[bridge]]` and `[resp]`, as [`schema`](super::super::schema) has all others.

use serde::{Deserialize, Serialize};

use super::super::describe::described;
use super::super::schema::NO_FILE;
use super::super::units::{Address, Count, Limit, Size};

described! {
    /// A bridge to Redis.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Bridge {
        /// Its name, in metrics and in the log; unlike any other's.
        #[acts(restart)]
        pub name: String,
        /// Where Redis is: `redis://HOST:PORT`, `rediss://…` for TLS, or `redis+unix:///PATH`.
        ///
        /// It has no password: that is in `password_file`.
        #[acts(restart)]
        pub url: String,
        /// The bridge's user there (ACL); `"none"`: the default one.
        #[acts(restart)]
        #[serde(default = "Bridge::none")]
        pub user: String,
        /// File with its password; `"none"`: it needs none.
        ///
        /// It is read with each connection, so a new password acts with the next one.
        #[acts(restart)]
        #[serde(default = "Bridge::none")]
        pub password_file: String,
        /// File with the authorities of Redis's certificate, in PEM; `"none"`: those of the system.
        #[acts(restart)]
        #[serde(default = "Bridge::none")]
        pub ca_file: String,
        /// The realm of the topics.
        #[acts(restart)]
        #[serde(default = "Bridge::default_realm")]
        pub realm: String,
        /// The role whose permissions it needs: to publish what comes in, to subscribe to what goes out.
        #[acts(restart)]
        #[serde(default = "Bridge::default_role")]
        pub role: String,
        /// What goes where: `map = [{ channel = "chat", topic = "room.1", direction = "both" }]`.
        ///
        /// `pattern` in place of `channel` has all channels that it matches, as Redis compares them; they are topics of the same
        /// names. `topic` may be left out: the channel's name. `direction`: `in` (from Redis; if left out), `out` or `both`.
        /// `payload`: `text` (if left out: a string is the payload as it is, other values become JSON) or `json`. The first entry
        /// that fits decides.
        #[acts(restart)]
        #[serde(default)]
        pub map: Vec<BridgeMap>,
        /// Topic that is told when the connection comes, goes, and when messages were lost; `"none"`: nobody is.
        #[acts(restart)]
        #[serde(default = "Bridge::none")]
        pub notices: String,
        /// Bytes of messages that may wait, for each direction; further ones are dropped and counted.
        #[acts(restart)]
        #[serde(default = "Bridge::default_queue")]
        pub queue: Size,
        /// The same as a number of messages.
        #[acts(restart)]
        #[serde(default = "Bridge::default_queue_messages")]
        pub queue_messages: Count,
    }
}

impl Bridge {
    /// One with everything but name and address at its default.
    pub fn at(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            user: Self::none(),
            password_file: Self::none(),
            ca_file: Self::none(),
            realm: Self::default_realm(),
            role: Self::default_role(),
            map: Vec::new(),
            notices: Self::none(),
            queue: Self::default_queue(),
            queue_messages: Self::default_queue_messages(),
        }
    }

    /// The topic that is told of what happens to the connection.
    pub fn notices(&self) -> Option<&str> {
        (self.notices != NO_FILE).then_some(self.notices.as_str())
    }

    fn none() -> String {
        NO_FILE.to_owned()
    }

    fn default_realm() -> String {
        "realm1".to_owned()
    }

    fn default_role() -> String {
        "anonymous".to_owned()
    }

    fn default_queue() -> Size {
        Size(16 << 20)
    }

    fn default_queue_messages() -> Count {
        Count(65_536)
    }
}

/// What goes where. Explained at `bridge.map`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeMap {
    /// One channel; empty: `pattern` says which.
    #[serde(default)]
    pub channel: String,
    /// Channels by a pattern of Redis's.
    #[serde(default)]
    pub pattern: String,
    /// The channel's topic; empty: the channel's name.
    #[serde(default)]
    pub topic: String,
    /// Which way messages go.
    #[serde(default)]
    pub direction: BridgeDirection,
    /// What they look like in Redis.
    #[serde(default)]
    pub payload: BridgePayload,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeDirection {
    /// From Redis.
    #[default]
    In,
    /// To Redis.
    Out,
    /// Both.
    Both,
}

/// What messages look like in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgePayload {
    /// As they are.
    #[default]
    Text,
    /// JSON text.
    Json,
}

described! {
    /// A port where clients of Redis publish and subscribe.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Resp {
        /// Where it is, such as `"127.0.0.1:6379"`; `"none"`: nowhere.
        ///
        /// Where other machines can connect it needs `password_file`, or Fanwire does not start.
        #[acts(restart)]
        pub bind: Limit<Address>,
        /// The realm of the channels.
        #[acts(restart)]
        pub realm: String,
        /// The role whose permissions its clients have.
        #[acts(restart)]
        pub role: String,
        /// File with the password that clients say with AUTH; `"none"`: they need none.
        ///
        /// What is in it acts at a reload, for new clients.
        #[acts(restart)]
        pub password_file: String,
        /// Connections at once.
        #[acts(restart)]
        pub connections: Count,
        /// One command, all its words together; never more than `limits.message`.
        #[acts(restart)]
        pub command: Size,
        /// Bytes that may wait for a client that does not read; beyond them its connection is ended.
        ///
        /// Worst case in memory: connections × three times this.
        #[acts(restart)]
        pub outbox: Size,
        /// Messages that may wait for it.
        #[acts(restart)]
        pub outbox_messages: Count,
    }
}

impl Default for Resp {
    fn default() -> Self {
        Self {
            bind: Limit(None),
            realm: Bridge::default_realm(),
            role: Bridge::default_role(),
            password_file: Bridge::none(),
            connections: Count(1_024),
            command: Size(1 << 20),
            outbox: Size(8 << 20),
            outbox_messages: Count(65_536),
        }
    }
}

impl Resp {
    /// The file with the password, if there is one.
    pub fn password_file(&self) -> Option<&str> {
        (self.password_file != NO_FILE).then_some(self.password_file.as_str())
    }
}
