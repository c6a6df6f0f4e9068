//! Every key of the configuration, with its default and its meaning.
//!
//! The comments of the fields are what `fanwire config doc`, `docs/configuration.md` and `fanwire config default` say; each
//! begins with a paragraph of one line (see [`describe`](super::describe)). They are for operators.
//!
//! Only what a single value may be is decided by the types here; how values must agree with each other is in
//! [`check`](super::check).

use std::collections::BTreeMap;

use fanwire_core::topics::SlowConsumer;
use serde::{Deserialize, Serialize};

use super::bind::{Bind, FileMode};
use super::describe::described;
use super::topics::{Policy, Topic};
use super::units::{Address, Auto, Count, CpuList, Limit, Size, Time};

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
            hook: Vec::new(),
            limits: Limits::default(),
            compression: Compression::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
        }
    }
}

described! {
    /// One address where clients connect.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Listener {
        /// IP address and port where clients connect, or a Unix socket: `"unix:/run/fanwire.sock"`.
        ///
        /// Port 0 takes a free one, which the banner prints. `[::]` takes IPv4 too. The file of a Unix socket is removed at
        /// the end, and at the start if nobody listens there any more; its folder must exist.
        #[acts(restart)]
        pub bind: Bind,
        /// Permissions of the file of a Unix socket; who may write may connect. `auto`: `"0660"`, the owner and the group.
        #[acts(restart)]
        #[serde(default = "Listener::default_mode")]
        pub mode: Auto<FileMode>,
        /// Connections that may wait in the kernel until a shard accepts them, for each shard. `auto`: `net.core.somaxconn`.
        ///
        /// The kernel cuts it at that (4096 on most systems). Beyond it a client tries again after a second or more; on a Unix
        /// socket it waits, or is refused if it does not want to. Raise both where thousands connect in one moment.
        #[acts(restart)]
        #[serde(default = "Listener::default_backlog")]
        pub backlog: Auto<Count>,
        /// Further web pages that may connect: origins such as `"https://app.example.org"`, or `"*"` for all.
        ///
        /// Pages loaded from the same host or from this machine always may, and so may programs, which send no Origin. Others
        /// are answered 403.
        #[acts(new_connections)]
        #[serde(default)]
        pub allowed_origins: Vec<String>,
        /// Path → protocol. `wamp` is WAMP version 2.
        ///
        /// Its subprotocols are `wamp.2.json`, `wamp.2.msgpack` and `wamp.2.cbor`.
        #[acts(restart)]
        #[serde(default = "Listener::default_endpoints")]
        pub endpoints: BTreeMap<String, Protocol>,
        /// Whether the HTTP API is here, at `/v1/`: `true`, `false`, or `auto`: where only this machine can connect.
        ///
        /// It is not served over TLS, so not where `tls` is without `plain`. Where other machines can connect it needs a key, `[[http_api.key]]`, or Fanwire does not start.
        #[acts(restart)]
        #[serde(default = "Listener::default_api")]
        pub api: Auto<bool>,
        /// TLS, for `wss://`: on where `cert` and `key` are named.
        #[acts(inside)]
        #[serde(default)]
        pub tls: Tls,
    }
}

described! {
    /// TLS of a listener.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Tls {
        /// File with the certificate in PEM, and behind it those that lead to its authority; `"none"`: no TLS.
        ///
        /// A relative path begins at the folder of the file that names it. The files are read again with each
        /// [reload](operators.md#reload).
        #[acts(new_connections)]
        pub cert: String,
        /// File with its private key in PEM, without a passphrase.
        #[acts(new_connections)]
        pub key: String,
        /// Certificates for other names: `further = [{ cert = "…", key = "…" }]`.
        ///
        /// A client gets the one that is for the host it asks for, also by a wildcard such as `*.example.org`; if none is, or
        /// it names no host, the first.
        #[acts(new_connections)]
        pub further: Vec<CertificatePair>,
        /// Whether clients without TLS are served at this port too; the first byte tells.
        ///
        /// Without it they are answered 400, in words.
        #[acts(new_connections)]
        pub plain: bool,
        /// File with the authorities of client certificates, in PEM; `"none"`: clients are asked for none.
        ///
        /// Who connects without TLS shows no certificate: leave `plain` out where it counts.
        #[acts(new_connections)]
        pub client_ca: String,
        /// Whether a client must show a certificate of `client_ca`: `required` or `optional`.
        #[acts(new_connections)]
        pub client_certificates: ClientCertificates,
    }
}

impl Default for Tls {
    fn default() -> Self {
        let none = || NO_FILE.to_owned();
        Self {
            cert: none(),
            key: none(),
            further: Vec::new(),
            plain: false,
            client_ca: none(),
            client_certificates: ClientCertificates::Required,
        }
    }
}

impl Tls {
    /// The certificate's file.
    pub fn cert(&self) -> Option<&str> {
        (self.cert != NO_FILE).then_some(self.cert.as_str())
    }

    /// The key's file.
    pub fn key(&self) -> Option<&str> {
        (self.key != NO_FILE).then_some(self.key.as_str())
    }

    /// Both, if this listener speaks TLS.
    pub fn pair(&self) -> Option<(&str, &str)> {
        Some((self.cert()?, self.key()?))
    }

    /// The file with the authorities of client certificates.
    pub fn client_ca(&self) -> Option<&str> {
        (self.client_ca != NO_FILE).then_some(self.client_ca.as_str())
    }
}

/// A certificate and its key. Explained at `listener.tls.further`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// File with the certificate.
    pub cert: String,
    /// File with its private key.
    pub key: String,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// Who has none is refused.
    Required,
    /// Who has none is let in; a wrong one is refused.
    Optional,
}

impl Listener {
    /// A listener with everything but the address at its default.
    pub fn at(bind: Bind) -> Self {
        let (mode, backlog) = (Auto::Auto, Auto::Auto);
        let (allowed_origins, endpoints) = (Vec::new(), Self::default_endpoints());
        let (api, tls) = (Self::default_api(), Tls::default());
        Self { bind, mode, backlog, allowed_origins, endpoints, api, tls }
    }

    /// Whether the HTTP API is here.
    pub fn offers_api(&self) -> bool {
        self.api.given().copied().unwrap_or_else(|| self.bind.is_local() && self.speaks_plain())
    }

    /// Whether connections without TLS are served.
    pub fn speaks_plain(&self) -> bool {
        self.tls.plain || self.tls.pair().is_none()
    }

    fn default_api() -> Auto<bool> {
        Auto::Auto
    }

    fn default_mode() -> Auto<FileMode> {
        Auto::Auto
    }

    fn default_backlog() -> Auto<Count> {
        Auto::Auto
    }

    fn default_endpoints() -> BTreeMap<String, Protocol> {
        BTreeMap::from([("/ws".to_owned(), Protocol::Wamp)])
    }
}

/// In `allowed_origins`: every page on the web.
pub const ORIGIN_ANY: &str = "*";

/// What is spoken at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// WAMP version 2 over WebSocket.
    Wamp,
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
        /// Who may use it: `[[http_api.key]]` with `name`, `key_hash`, `realms`, `role`, `allow` and `addresses`.
        ///
        /// `fanwire apikey` makes a key and prints such a table. `role` is the role whose permissions its publications and calls
        /// need; `allow` has some of `publish`, `call`, `read`, `disconnect`, `reload`; `addresses` has addresses and ranges such as
        /// `10.0.0.0/8`, and may be left out. With one key or more nobody may use the API without one.
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

described! {
    /// A world of topics and procedures.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Realm {
        /// The name that clients ask for.
        #[acts(restart)]
        pub name: String,
        /// Role of a client that does not say who it is; `"none"` refuses such clients.
        ///
        /// Users log in by ticket: see `realm.user` and `realm.users_file`.
        #[acts(new_connections)]
        #[serde(default = "Realm::default_anonymous_role")]
        pub anonymous_role: String,
        /// Permits an anonymous role that may do everything on an address that other machines can reach.
        ///
        /// Without it Fanwire does not start in such a configuration.
        #[acts(now)]
        #[serde(default)]
        pub allow_anonymous_everywhere: bool,
        /// File with users who log in by ticket, made by `fanwire passwd`; `"none"`: no file.
        ///
        /// It is read again with each [reload](operators.md#reload). A relative path begins at the folder of the file that names it. See [logins](logins.md).
        #[acts(new_connections)]
        #[serde(default = "Realm::default_users_file")]
        pub users_file: String,
        /// Users who log in by ticket, besides those of `users_file`: `[[realm.user]]` with `name`, `role`, `ticket_hash`.
        ///
        /// `fanwire passwd - NAME --role ROLE` prints such a table. A ticket itself cannot stand in a configuration.
        #[acts(new_connections)]
        #[serde(default)]
        pub user: Vec<User>,
        /// What happens to events that a subscriber does not read in time; `auto`: what `limits.slow_consumer` says.
        #[acts(new_connections)]
        #[serde(default = "Realm::default_slow_consumer")]
        pub slow_consumer: Auto<Policy>,
        /// The same by topic: `[[realm.topic]]` with `uri`, `match`, `slow_consumer`, `outbox`, `outbox_messages`.
        ///
        /// Only `uri` must be there. The most specific rule decides that covers all of a subscription. `outbox` and
        /// `outbox_messages` bound what waits of one subscription for one connection. See
        /// [slow consumers](operators.md#slow-consumers).
        #[acts(new_connections)]
        #[serde(default)]
        pub topic: Vec<Topic>,
        /// Who may do what. What no permission mentions is refused.
        #[acts(now)]
        #[serde(default)]
        pub role: Vec<Role>,
    }
}

/// The word for "no role".
pub const NO_ROLE: &str = "none";
/// The word for "no file".
pub const NO_FILE: &str = "none";

impl Realm {
    /// The realm that exists when none is configured: whoever can connect may do everything.
    pub fn open() -> Self {
        Self {
            name: "realm1".to_owned(),
            anonymous_role: Self::default_anonymous_role(),
            allow_anonymous_everywhere: false,
            users_file: Self::default_users_file(),
            user: Vec::new(),
            slow_consumer: Auto::Auto,
            topic: Vec::new(),
            role: vec![Role {
                name: Self::default_anonymous_role(),
                permission: vec![Permission::everything()],
            }],
        }
    }

    fn default_anonymous_role() -> String {
        "anonymous".to_owned()
    }

    fn default_slow_consumer() -> Auto<Policy> {
        Auto::Auto
    }

    fn default_users_file() -> String {
        NO_FILE.to_owned()
    }

    /// The file with users, if there is one.
    pub fn users_file(&self) -> Option<&str> {
        (self.users_file != NO_FILE).then_some(self.users_file.as_str())
    }

    /// The declared role of a client that does not say who it is.
    pub fn anonymous(&self) -> Option<&Role> {
        self.role.iter().find(|role| role.name == self.anonymous_role)
    }
}

/// A user who logs in by ticket. Explained at `realm.user`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What the client says as `authid`.
    pub name: String,
    /// The role of its sessions.
    pub role: String,
    /// What `fanwire passwd` made of its ticket.
    pub ticket_hash: String,
}

described! {
    /// A named set of permissions. What no permission allows is refused.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Role {
        /// The role's name.
        #[acts(now)]
        pub name: String,
        /// Actions that are allowed at URIs. The most specific permission decides.
        #[acts(now)]
        #[serde(default)]
        pub permission: Vec<Permission>,
    }
}

impl Role {
    /// Whether members may do all actions at all URIs.
    pub fn may_do_everything(&self) -> bool {
        Action::ALL.iter().all(|action| {
            self.permission.iter().any(|permission| {
                permission.uri.is_empty()
                    && permission.match_policy == Match::Prefix
                    && permission.allow.contains(action)
            })
        })
    }
}

described! {
    /// Actions allowed at the URIs that a pattern matches.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Permission {
        /// URI or pattern.
        #[acts(now)]
        pub uri: String,
        /// How `uri` is compared: `exact` (if left out in a file), `prefix` or `wildcard`.
        ///
        /// In a wildcard an empty component stands for any, such as in `a..c`.
        #[acts(now)]
        #[serde(rename = "match", default)]
        pub match_policy: Match,
        /// What is allowed there: `publish`, `subscribe`, `call`, `register`; an empty list forbids.
        #[acts(now)]
        pub allow: Vec<Action>,
        /// Whether subscribers and callees are told who publishes or calls there: `on_request`, `always` or `never`.
        ///
        /// They are told session, authid and authrole. `on_request`: if the client sets `disclose_me`, or the callee registered
        /// with `disclose_caller`. `never`: who sets `disclose_me` is refused with
        /// `wamp.error.option_disallowed.disclose_me`.
        #[acts(now)]
        #[serde(default)]
        pub disclose: Disclose,
    }
}

impl Permission {
    fn everything() -> Self {
        Self {
            uri: String::new(),
            match_policy: Match::Prefix,
            allow: Action::ALL.to_vec(),
            disclose: Disclose::OnRequest,
        }
    }
}

/// Whether others are told who publishes or calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Disclose {
    /// If it asks for it.
    #[default]
    OnRequest,
    /// Whatever it asks for.
    Always,
    /// Never.
    Never,
}

/// How the URI of a permission is compared with the URI of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Equal.
    #[default]
    Exact,
    /// The request's begins with it.
    Prefix,
    /// Component by component; an empty component stands for any.
    Wildcard,
}

/// What a session may do with a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Publish to a topic.
    Publish,
    /// Subscribe to a topic.
    Subscribe,
    /// Call a procedure.
    Call,
    /// Register a procedure.
    Register,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Subscribe, Self::Call, Self::Register];
}

described! {
    /// A program that is asked, or told, by HTTP.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Hook {
        /// Its name, in metrics and in the log; unlike any other's.
        #[acts(restart)]
        pub name: String,
        /// Where it is asked, by POST: `http://` or `https://`. It is not followed elsewhere, and no proxy is used.
        #[acts(restart)]
        pub url: String,
        /// What it is asked about: some of `connect`, `authenticate`, `subscribe`, `publish`, `disconnect`.
        ///
        /// `authenticate` decides on tickets, in place of the realm's users; `connect` on every session before its welcome;
        /// `subscribe` and `publish` after the role's permissions have allowed it. `disconnect` is told, not asked.
        #[acts(restart)]
        pub events: Vec<HookEvent>,
        /// Realms that it is for; an empty list: all.
        #[acts(restart)]
        #[serde(default)]
        pub realms: Vec<String>,
        /// Topics that it is asked about, for `subscribe` and `publish`: URI or pattern.
        ///
        /// All others cost nothing. A subscription by pattern is asked about if any topic could match both.
        #[acts(restart)]
        #[serde(default)]
        pub uri: String,
        /// How `uri` is compared: `prefix` (if left out in a file), `exact` or `wildcard`.
        #[acts(restart)]
        #[serde(rename = "match", default = "Hook::default_match")]
        pub match_policy: Match,
        /// How it is asked: `json`, `form` (as a web form) or `header` (`X-Fanwire-…` and no body).
        #[acts(restart)]
        #[serde(default)]
        pub body: HookBody,
        /// Whether `publish` tells what is published.
        ///
        /// With `false`, and with `body = "header"`, it tells who publishes where, and equal questions can be asked once.
        #[acts(restart)]
        #[serde(default = "Hook::default_payload")]
        pub payload: bool,
        /// How long a question may wait for its turn, and then for its reply, each.
        #[acts(restart)]
        #[serde(default = "Hook::default_timeout")]
        pub timeout: Time,
        /// Requests at once.
        #[acts(restart)]
        #[serde(default = "Hook::default_max_in_flight")]
        pub max_in_flight: Count,
        /// Questions that may wait for their turn, or for the answer to an equal one; further ones fail at once.
        ///
        /// The end of a session finds room in half of it only.
        #[acts(restart)]
        #[serde(default = "Hook::default_queue")]
        pub queue: Count,
        /// How long a reply holds for equal questions; `"0s"`: only for those that come while it is asked.
        ///
        /// Questions of one user in one role are equal, whichever its session; logins with one ticket are with a cache only.
        /// Denials hold for 1 s at most, failures do not hold.
        #[acts(restart)]
        #[serde(default = "Hook::default_cache")]
        pub cache: Time,
        /// What it counts as if the hook cannot be asked: `deny` or `allow`. Logins are always denied.
        #[acts(restart)]
        #[serde(default)]
        pub on_failure: OnFailure,
        /// Role of who is let in by `authenticate` where the reply names none; `"none"`: the reply must name it.
        #[acts(restart)]
        #[serde(default = "Hook::default_role")]
        pub role: String,
        /// Sent with each request, such as `{ authorization = "Bearer …" }`. `fanwire config show` prints them.
        #[acts(restart)]
        #[serde(default)]
        pub headers: BTreeMap<String, String>,
    }
}

impl Hook {
    /// One that is told of ends, with everything else at its default.
    pub fn at(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            events: vec![HookEvent::Disconnect],
            realms: Vec::new(),
            uri: String::new(),
            match_policy: Self::default_match(),
            body: HookBody::default(),
            payload: Self::default_payload(),
            timeout: Self::default_timeout(),
            max_in_flight: Self::default_max_in_flight(),
            queue: Self::default_queue(),
            cache: Self::default_cache(),
            on_failure: OnFailure::default(),
            role: Self::default_role(),
            headers: BTreeMap::new(),
        }
    }

    fn default_match() -> Match {
        Match::Prefix
    }

    fn default_payload() -> bool {
        true
    }

    fn default_timeout() -> Time {
        Time::seconds(2)
    }

    fn default_max_in_flight() -> Count {
        Count(256)
    }

    fn default_queue() -> Count {
        Count(1_024)
    }

    fn default_cache() -> Time {
        Time::seconds(0)
    }

    fn default_role() -> String {
        NO_ROLE.to_owned()
    }
}

/// What a hook is asked about, or told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HookEvent {
    // Not documented for clap, as `ApiRight`.
    Connect,
    Authenticate,
    Subscribe,
    Publish,
    Disconnect,
}

/// How a hook is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HookBody {
    // Not documented for clap, as `ApiRight`.
    #[default]
    Json,
    Form,
    Header,
}

/// What a question counts as if the hook cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// No.
    #[default]
    Deny,
    /// Yes.
    Allow,
}

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
        /// Calls of one session that are not answered yet.
        #[acts(now)]
        pub pending_calls_per_session: Count,
        /// Logins that may wait for their ticket to be verified; further ones are refused: try again later.
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
            pending_calls_per_session: Count(1_024),
            logins_waiting: Count(256),
            logins_at_once: Auto::Auto,
            connections_per_shard: Limit(None),
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
