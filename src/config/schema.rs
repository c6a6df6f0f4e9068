//! Every key of the configuration, with its default and its meaning.
//!
//! The comments of the fields are what `fanwire config doc`, `docs/configuration.md` and `fanwire config default` say; each
//! begins with a paragraph of one line (see [`describe`](super::describe)). They are for operators.
//!
//! Only what a single value may be is decided by the types here; how values must agree with each other is in
//! [`check`](super::check).

mod endpoint;
mod hook;
mod limits;
mod listener;
mod realm;

use serde::{Deserialize, Serialize};

use crate::config::bind::Bind;
use crate::config::center::MessageCenter;
use crate::config::describe::described;
use crate::config::echo::Echo;
use crate::config::lua::Lua;
use crate::config::redis::{Bridge, Resp};
use crate::config::tick::Tick;
use crate::config::units::{Address, Auto, Count, CpuList, Limit, Size, Time};
use crate::config::wamp1::Wamp1;

pub use endpoint::{Endpoint, Protocol};
pub use hook::{Hook, HookBody, HookEvent, OnFailure};
pub use limits::Limits;
pub use listener::{
    CertificatePair, ClientCertificates, Listener, ORIGIN_ANY, RAWSOCKET_AUTO, RAWSOCKET_OFF, SameSite, Tls,
};
pub use realm::{Action, Disclose, Jwt, Match, Permission, Realm, Role, User};

described! {
    /// The whole configuration. An empty file is valid and means [`Config::default`].
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Config {
        /// Where clients connect. A file that has `[[listener]]` replaces the default one.
        ///
        /// Several of them make several addresses; every one is served by all shards.
        #[acts(restart)]
        pub listener: Vec<Listener>,
        /// The port for the operator: health and metrics.
        #[acts(inside)]
        pub admin: Admin,
        /// Threads that carry connections.
        ///
        /// A connection stays on its shard for life.
        #[acts(inside)]
        pub shards: Shards,
        /// Publishing, calling and looking around by HTTP requests, for programs that hold no connection.
        ///
        /// [HTTP API](http-api.md) has all of it. Without a key only programs of this machine may use it, as the realm's anonymous
        /// role.
        #[acts(inside)]
        pub http_api: HttpApi,
        /// Worlds of topics and procedures that do not see each other. A file that has `[[realm]]` replaces the default one.
        #[acts(restart)]
        pub realm: Vec<Realm>,
        /// Programs that are asked, or told, by HTTP: who may come in, subscribe and publish. None by default.
        ///
        /// [Hooks](hooks.md) has examples, requests and replies. Where several hooks are for the same event, realm and topic, the
        /// first one is asked. `fanwire hook test` asks one and shows everything.
        #[acts(restart)]
        pub hook: Vec<Hook>,
        /// Channels for clients that speak plain JSON and know no WAMP.
        ///
        /// [Message center](message-center.md) has all of it. It is served at the paths that a listener's `endpoints` name for it.
        #[acts(inside)]
        pub message_center: MessageCenter,
        /// Rooms in which all hear what one says, in plain messages without any protocol.
        ///
        /// [Echo rooms](echo.md) has all of it. They are served at the paths that a listener's `endpoints` name for them.
        #[acts(inside)]
        pub echo: Echo,
        /// Clients of WAMP version 1, at the paths of WAMP; their subprotocol is `wamp`.
        ///
        /// [WAMP version 1](wamp1.md) has all of it.
        #[acts(inside)]
        pub wamp1: Wamp1,
        /// Scripts that decide on what happens to the connections of an endpoint. None by default.
        ///
        /// [Lua handlers](lua.md) has all of it. They are for what the rules of `message_center` cannot say.
        #[acts(restart)]
        pub lua: Vec<Lua>,
        /// Publications that come by themselves. None by default.
        ///
        /// [Echo rooms](echo.md#ticks) has an example. Each is published once, whatever the number of shards.
        #[acts(now)]
        pub tick: Vec<Tick>,
        /// Bridges to Redis: its channels are topics here. None by default.
        ///
        /// [Redis](redis.md) has examples. Each has one connection, by RESP3 (Redis 6 or later), and connects again for as long as the
        /// router runs.
        #[acts(restart)]
        pub bridge: Vec<Bridge>,
        /// A port where clients of Redis publish and subscribe, with no Redis.
        ///
        /// A channel is the topic of the same name. [Redis](redis.md) says which commands there are.
        #[acts(inside)]
        pub resp: Resp,
        /// Bounds on what one connection can cost, in memory and in time.
        ///
        /// What a peer is told when it meets one is in its protocol's own words (close 1009, `wamp.error.…`), and
        /// `fanwire_events_dropped_total` counts it. Fixed in this version: a URI has at most 255 bytes, a payload at most
        /// 128 arrays and objects in each other, and the lists of receivers of a publication 65,536 entries together.
        #[acts(inside)]
        pub limits: Limits,
        /// Compressed messages: permessage-deflate (RFC 7692), for clients that offer it.
        ///
        /// Browsers always do, most libraries where they are told to.
        #[acts(inside)]
        pub compression: Compression,
        /// What happens at SIGTERM and SIGINT.
        #[acts(inside)]
        pub shutdown: Shutdown,
        /// What is written to standard error.
        ///
        /// A thread of its own writes it. If that cannot keep up, lines are dropped and counted in
        /// `fanwire_log_lines_dropped_total`; a shard never waits for it.
        #[acts(inside)]
        pub log: Log,
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listener: vec![Listener::at(Bind::Ip(Address::loopback(8080)))],
            admin: Admin::default(),
            shards: Shards::default(),
            http_api: HttpApi::default(),
            realm: vec![Realm::open()],
            message_center: MessageCenter::default(),
            echo: Echo::default(),
            wamp1: Wamp1::default(),
            lua: Vec::new(),
            tick: Vec::new(),
            hook: Vec::new(),
            bridge: Vec::new(),
            resp: Resp::default(),
            limits: Limits::default(),
            compression: Compression::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
        }
    }
}

described! {
    /// The port for the operator: health and metrics.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Admin {
        /// Where `/livez`, `/readyz` and `/metrics` are; `"none"` turns them off.
        ///
        /// See [monitoring](monitoring.md). It asks nobody who they are: keep it off public addresses.
        #[acts(restart)]
        pub bind: Limit<Address>,
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { bind: Limit(Some(Address::loopback(8081))) }
    }
}

described! {
    /// Publishing, calling and looking around by HTTP requests.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct HttpApi {
        /// A request's body, and a line of a stream of publications; larger ones are answered 413.
        #[acts(now)]
        pub body: Size,
        /// Publications in one batch.
        #[acts(now)]
        pub batch: Count,
        /// Connections at once; further ones are answered 503. Worst case in memory: each has two bodies.
        #[acts(now)]
        pub connections: Count,
        /// Longest time that a call may wait for its callee, and the time of calls that do not say.
        #[acts(now)]
        pub call_time: Time,
        /// How long the answer to a request with an `Idempotency-Key` is kept, to be given again.
        #[acts(now)]
        pub idempotency_window: Time,
        /// How many such answers are kept, of 16 MiB together; beyond it the oldest is forgotten.
        #[acts(now)]
        pub idempotency_keys: Count,
        /// The realm of [its paths](server-api.md) `/v1/mesh/…`, `/v1/conn/…` and `/ws/v1`; `""`: that of the message center.
        #[acts(now)]
        pub realm: String,
        /// Who may use it: `[[http_api.key]]` with `name`, `key_hash`, `realms`, `role`, `allow` and `addresses`.
        ///
        /// `fanwire apikey` makes a key and prints such a table. `role` is the role whose permissions its publications and calls
        /// need; `allow` has some of `publish`, `call`, `read`, `disconnect`, `clients`, `reload`; `addresses` has addresses and
        /// ranges such as `10.0.0.0/8`, and may be left out. With one key or more nobody may use the API without one.
        #[acts(now)]
        pub key: Vec<ApiKey>,
    }
}

impl Default for HttpApi {
    fn default() -> Self {
        Self {
            body: Size(1 << 20),
            batch: Count(1_000),
            connections: Count(256),
            call_time: Time::seconds(30),
            idempotency_window: Time::seconds(300),
            idempotency_keys: Count(10_000),
            realm: String::new(),
            key: Vec::new(),
        }
    }
}

/// A key of the HTTP API. Explained at `http_api.key`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Whose key it is.
    pub name: String,
    /// What `fanwire apikey` made of it.
    pub key_hash: String,
    /// Where it may be used.
    pub realms: Vec<String>,
    /// The role, in each of the realms, whose permissions it needs.
    pub role: String,
    /// What it may be used for.
    pub allow: Vec<ApiRight>,
    /// From where it may be used; empty: from everywhere.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// What a key of the HTTP API may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ApiRight {
    // Not documented for clap: a line each would make the help longer and no clearer.
    Publish,
    Call,
    Read,
    Disconnect,
    Clients,
    Reload,
}

described! {
    /// Threads that carry connections.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Shards {
        /// How many, 1 to 63. `auto`: as many as the CPUs that the process may use.
        ///
        /// That is its affinity, cut by the CPU quota of its control group.
        #[acts(restart)]
        pub count: Auto<Count>,
        /// CPUs to pin the shards to, such as `"0-3,8"`.
        ///
        /// `auto` takes the CPUs that the process may use, if there are as many as shards; otherwise nothing is pinned.
        #[acts(restart)]
        pub cpus: Auto<CpuList>,
        /// What a shard waits with: `io_uring`, `epoll`, or `auto`.
        ///
        /// The banner says which one `auto` took, and why.
        #[acts(restart)]
        pub driver: Driver,
        /// Whether a new connection goes to the shard that has the fewest.
        ///
        /// The kernel spreads connections by a hash of their addresses, which is uneven when there are few. A shard that
        /// accepted one and has over 1/32 more than another hands it to that one, before a byte is read. With `false` each
        /// stays where the kernel put it.
        #[acts(restart)]
        pub balance: bool,
        /// Sends of a large topic's events before everybody else has a turn, 1 to 65536; `"none"`: the topic's whole round.
        ///
        /// A call or an event of a small topic waits for this many sends at most, each 2 to 4 µs. Fewer make it wait less;
        /// more make the large topic's own events slightly cheaper. Topics of up to 256 subscribers come first, and are split,
        /// at half as many sends, only while several of their events wait.
        #[acts(now)]
        pub slice_sends: Limit<Count>,
        /// How long a shard that has nothing to do looks for more before it sleeps, such as `"50us"`; `"0s"`: not at all.
        ///
        /// To be woken takes microseconds, in a virtual machine tens of them. A shard only looks on while messages come that
        /// often; then it uses its CPU whole, for which nothing else on this machine should have a use. Otherwise, and when
        /// nothing happens, it sleeps as ever. At most 1 ms. [Performance](performance.md#looking-on-before-sleeping) has
        /// figures.
        #[acts(now)]
        pub spin: Time,
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            count: Auto::Auto,
            cpus: Auto::Auto,
            driver: Driver::Auto,
            balance: true,
            slice_sends: Limit(Some(Count(64))),
            spin: Time::seconds(0),
        }
    }
}

/// What a shard waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    /// io_uring, or refuse to start.
    IoUring,
    /// epoll.
    Epoll,
}

/// The word for "no role".
pub const NO_ROLE: &str = "none";
/// The word for "no file".
pub const NO_FILE: &str = "none";

described! {
    /// Compressed messages.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Compression {
        /// Whether an offer is accepted.
        ///
        /// An event is compressed once for all its subscribers on a shard, and a connection costs no more memory for it.
        #[acts(restart)]
        pub enabled: bool,
        /// Messages and events below this size are sent as they are.
        ///
        /// Short ones do not get smaller. With `takeover` they do, so there everything is compressed.
        #[acts(restart)]
        pub threshold: Size,
        /// 1 (fast) to 9 (small).
        #[acts(restart)]
        pub level: Count,
        /// Whether messages may refer to those before them on their connection, where the client agrees.
        ///
        /// Short messages that resemble each other become several times smaller. But each event is compressed for each
        /// subscriber, and a connection costs up to twice `window_bits` of memory: 64 KiB with 15, 8 KiB with 12.
        #[acts(restart)]
        pub takeover: bool,
        /// How far back a message may refer, as a power of two: 9 to 15.
        ///
        /// Clients that want it smaller get the smallest, 9.
        #[acts(restart)]
        pub window_bits: Count,
        /// Whether a client may compress what it sends before it is welcomed.
        ///
        /// With `false` a compressed message before that ends the connection with 1008, so that nobody unknown makes the
        /// router inflate. With `true` it may inflate to `limits.before_login`.
        #[acts(restart)]
        pub before_login: bool,
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold: Size(512),
            level: Count(1),
            takeover: false,
            window_bits: Count(15),
            before_login: true,
        }
    }
}

described! {
    /// What happens at SIGTERM.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Shutdown {
        /// How long the goodbyes to the sessions are spread.
        ///
        /// Each is told in its protocol (WAMP GOODBYE, close 1001); then the process ends with exit 0. A second signal ends it at
        /// once.
        #[acts(now)]
        pub drain_time: Time,
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_time: Time::seconds(30) }
    }
}

described! {
    /// What is written to standard error.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Log {
        /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or per part: `"info,fanwire_io=debug"`.
        #[acts(now)]
        pub level: String,
        /// `text`, or `json`: one object per line.
        #[acts(restart)]
        pub format: LogFormat,
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object each.
    Json,
}
