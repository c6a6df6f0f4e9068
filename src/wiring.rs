//! The configuration in the words of the crates that carry it out.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fanwire_codec::ws::deflate::DeflatePolicy;
use fanwire_control::api::connection::Times;
use fanwire_control::api::keys::{self, ApiKeys, Grant, Principal};
use fanwire_control::api::routes::PATH_PREFIXES;
use fanwire_control::api::{ApiConfig, ApiLimits};
use fanwire_control::bridge::{BridgeConfig, QueueLimits};
use fanwire_control::hooks::{BodyForm, HookConfig, Target};
use fanwire_control::login::LoginLimits;
use fanwire_control::login::jwt::TokenConfig;
use fanwire_control::login::users::{User, Users};
use fanwire_control::lua::{LuaConfig, Script};
use fanwire_control::queues::{QueueConfig, Queues};
use fanwire_control::resp::RespConfig;
use fanwire_control::tick::TickConfig;
use fanwire_core::access::{self, Access};
use fanwire_core::api::Actor;
use fanwire_core::directory::{HistoryLimits, RetentionLimits};
use fanwire_core::handled::{Handler, HandlerId, OnFailure as OnFailed};
use fanwire_core::hooks::{HookEvent, HookId, HookRule, HookScope};
use fanwire_core::ids::RealmId;
use fanwire_core::login::LoginMethod;
use fanwire_core::message_center::{MessageCenter, OnError};
use fanwire_core::meta::TestamentLimits;
use fanwire_core::topics::{Handling, HistoryBounds, TopicRule, TopicRules};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{CoreConfig, Limits as CoreLimits};
use fanwire_io as io;

use crate::config::Loaded;
use crate::config::api::ReadKey;
use crate::config::bind::Bind;
use crate::config::center;
use crate::config::hooks::ReadHook;
use crate::config::jwt::ReadJwt;
use crate::config::lua::Lua;
use crate::config::redis::{Bridge, ReadBridge};
use crate::config::schema::{
    Action, ApiKey, ApiRight, Compression, Config, Disclose, Driver, Endpoint, Hook, HookBody,
    HookEvent as Event, Jwt, Listener, Match, NO_FILE, NO_ROLE, ORIGIN_ANY, OnFailure, Permission, Protocol,
    Realm, Role, SameSite, Shards,
};
use crate::config::tick::Tick;
use crate::config::topics::Topic;
use crate::config::units::{Auto, Count, CpuList, Size};
use crate::config::users::RealmUser;

/// What the router calls itself in WELCOME.
pub const AGENT: &str = concat!("fanwire/", env!("CARGO_PKG_VERSION"));

/// For the shards.
pub fn io_config(config: &Config) -> io::Config {
    let limits = &config.limits;
    let defaults = io::Config::default();
    io::Config {
        listeners: {
            let mut endpoints = io::WampEndpoints::default();
            config.listener.iter().map(|one| listener(one, &config.lua, &mut endpoints)).collect()
        },
        shards: config.shards.count.given().map(|count| count.0 as usize),
        cpus: config.shards.cpus.given().map(|CpuList(cpus)| cpus.clone()),
        driver: match config.shards.driver {
            Driver::Auto => io::Driver::Auto,
            Driver::IoUring => io::Driver::IoUring,
            Driver::Epoll => io::Driver::Epoll,
        },
        deadlines: io::Deadlines {
            handshake: limits.handshake_time.0,
            login: limits.login_time.0,
            message: limits.message_time.0,
            ping_interval: limits.ping_interval.0,
            pong_wait: limits.pong_wait.0,
            close: limits.close_time.0,
            poll_wait: limits.poll_wait.0,
            poll_idle: limits.poll_idle.0,
            // Never less: the outbox is to say that it is too old before the kernel ends the connection without words.
            unread: limits.outbox_age.0.max(io::Deadlines::default().unread),
        },
        drain_time: config.shutdown.drain_time.0,
        head: fanwire_codec::http::HeadLimits {
            bytes_max: bytes(limits.request_head),
            fields_max: limits.request_head_fields.0 as usize,
        },
        message_bytes_max: limits.message.0,
        message_bytes_max_before_login: limits.before_login.0,
        balance: config.shards.balance,
        turn: turn(&config.shards),
        spin: config.shards.spin.0,
        connections_max_per_shard: limits.connections_per_shard.0.map(|count| count.0),
        polled_sessions_max_per_shard: limits.polled_sessions_per_shard.0,
        accept_rate: limits.accept_rate.0.map(|rate| rate_of(rate, Some(Count(rate.0.div_ceil(10))))),
        connections_per_address: limits.connections_per_address.0.map(|count| count.0),
        connects_per_address: limits.connects_per_address.0.map(|rate| rate_of(rate, None)),
        messages_rate: limits
            .messages_per_second
            .0
            .map(|rate| rate_of(rate, limits.messages_burst.given().copied())),
        bytes_rate: limits.bytes_per_second.0.map(|rate| io::Rate {
            per_second: rate.0,
            burst: limits.bytes_burst.given().map_or(rate.0, |burst| burst.0),
        }),
        tls_handshakes_max: limits.tls_handshakes_per_shard.0,
        ..defaults
    }
}

/// The same with what belongs to the process: TLS, rings, the allocator.
pub fn io_settings(loaded: &Loaded) -> io::Config {
    let mut io = io_config(&loaded.config);
    for (listener, tls) in io.listeners.iter_mut().zip(&loaded.tls) {
        listener.tls.clone_from(tls);
    }
    io.ring_items = Some(ring_items(&loaded.config, io.shard_count()));
    io.release_memory = Some(crate::allocator::release);
    io
}

/// Without a burst of its own, what comes in a second may come at once.
fn rate_of(per_second: Count, burst: Option<Count>) -> io::Rate {
    io::Rate { per_second: per_second.0.into(), burst: burst.unwrap_or(per_second).0.into() }
}

/// How much of each kind of work a turn does.
fn turn(shards: &Shards) -> io::TurnBudget {
    let mut turn = io::TurnBudget::default();
    // No topic has this many subscribers: so many sends are a whole round.
    turn.flush.slice_sends = shards.slice_sends.0.map_or(u32::MAX as usize, |sends| sends.0 as usize);
    turn
}

/// The owner and the group may connect.
const SOCKET_MODE: u32 = 0o660;

/// The rules of the WAMP endpoints, which [`io_config`] gives the same ids.
pub fn wamp_endpoints(config: &Config) -> io::WampEndpoints {
    let mut endpoints = io::WampEndpoints::default();
    config.listener.iter().for_each(|one| _ = listener(one, &config.lua, &mut endpoints));
    endpoints
}

/// What a WAMP endpoint offers.
pub fn wamp_rules(endpoint: &Endpoint) -> io::WampRules {
    io::WampRules {
        realm: endpoint.realm.clone(),
        serializers: endpoint.serializers.iter().flatten().map(|name| (*name).into()).collect(),
    }
}

/// The handler of this path; the first one where there is none, which is not started.
fn handler_id(handlers: &[Lua], path: &str) -> HandlerId {
    let place = handlers.iter().position(|lua| lua.path == path).unwrap_or_default();
    HandlerId(u8::try_from(place).expect("the number of handlers was checked"))
}

fn endpoint_id(
    path: &str,
    endpoint: &Endpoint,
    handlers: &[Lua],
    endpoints: &mut io::WampEndpoints,
) -> io::EndpointId {
    match endpoint.protocol {
        Protocol::Wamp | Protocol::WampLongpoll => endpoints.id(&wamp_rules(endpoint)),
        Protocol::MessageCenter => io::Router::MESSAGE_CENTER,
        Protocol::Echo => io::Router::ECHO,
        Protocol::Lua => io::Router::handled(handler_id(handlers, path)),
    }
}

fn listener(listener: &Listener, handlers: &[Lua], endpoints: &mut io::WampEndpoints) -> io::Listener {
    let mut endpoint = |(path, endpoint): (&String, &Endpoint)| {
        let (path, id) = (path.clone(), endpoint_id(path, endpoint, handlers, endpoints));
        io::Endpoint { path, id }
    };
    let (any, allowed): (Vec<_>, Vec<_>) =
        listener.allowed_origins.iter().cloned().partition(|origin| origin == ORIGIN_ANY);
    let (longpoll, websocket): (Vec<_>, Vec<_>) =
        listener.endpoints.iter().partition(|(_, endpoint)| endpoint.protocol == Protocol::WampLongpoll);
    io::Listener {
        address: match &listener.bind {
            Bind::Ip(address) => io::ListenAddress::Ip(address.0),
            Bind::Unix(path) => io::ListenAddress::Unix {
                path: path.clone(),
                mode: listener.mode.given().map_or(SOCKET_MODE, |mode| mode.0),
            },
        },
        backlog: listener.backlog.given().map(|count| count.0),
        endpoints: websocket.into_iter().map(&mut endpoint).collect(),
        longpoll: longpoll.into_iter().map(&mut endpoint).collect(),
        rawsocket: listener.rawsocket().map(|like| endpoint_id("", like, handlers, endpoints)),
        control: control_paths(listener),
        // Read and checked already: `Loaded::tls`.
        tls: None,
        origins: io::Origins { any: !any.is_empty(), allowed },
        cookie: listener.cookie.name().map(|name| io::CookieRule {
            name: name.to_owned(),
            same_site: match listener.cookie.same_site {
                SameSite::Strict => io::SameSite::Strict,
                SameSite::Lax => io::SameSite::Lax,
                SameSite::None => io::SameSite::None,
            },
            secure: listener.cookie.secure,
        }),
    }
}

/// Items of the ring from one shard to another, which io and core must agree on.
pub fn ring_items(config: &Config, shards: usize) -> usize {
    match config.limits.ring_items {
        Auto::Given(items) => items.0 as usize,
        // All rings of a shard together take about the same memory, however many there are.
        Auto::Auto => (RING_ITEMS_TOTAL / shards.max(1)).max(RING_ITEMS_MIN),
    }
}

const RING_ITEMS_TOTAL: usize = 8_192;
const RING_ITEMS_MIN: usize = 128;

/// Who may log in, in the words of the realms' and roles' ids.
pub fn users(
    config: &Config,
    users: &[Vec<RealmUser>],
    jwt: &[Vec<ReadJwt>],
    access: &Access,
    before: Option<&Users>,
    random: impl FnMut() -> u64,
) -> Users {
    let realm = |(index, realm): (usize, &Realm)| {
        let id = access.realm(&realm.name).expect("the realms are the same");
        let user = |user: &RealmUser| {
            let role = access.role(id, &user.role).expect("roles of users were checked");
            let (role_name, credentials) = (user.role.as_str().into(), user.credentials.clone());
            (user.name.as_str().into(), User { role, role_name, credentials })
        };
        (realm.name.clone(), users[index].iter().map(user).collect())
    };
    let tokens = config.realm.iter().zip(jwt).map(|(realm, read)| {
        let id = access.realm(&realm.name).expect("the realms are the same");
        realm.jwt.iter().zip(read).map(|(jwt, read)| tokens(realm, id, jwt, read, access)).collect()
    });
    Users::new(config.realm.iter().enumerate().map(realm), random).with_tokens(tokens, before)
}

/// Whose tokens are good, in the words of the roles' ids.
fn tokens(realm: &Realm, id: RealmId, jwt: &Jwt, read: &ReadJwt, access: &Access) -> TokenConfig {
    let role = |name: &str| access.role(id, name).expect("roles were checked");
    TokenConfig {
        name: jwt.issuer.clone().unwrap_or_else(|| jwt.keys.clone()),
        source: read.source.clone(),
        algorithms: read.algorithms.clone(),
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        authid_claim: jwt.authid_claim.clone(),
        role_claim: jwt.role_claim.clone(),
        role: jwt.role.as_deref().map(role),
        roles: realm.role.iter().map(|known| (known.name.clone(), role(&known.name))).collect(),
        leeway: jwt.leeway.0,
        ends_session: jwt.end_session,
        refresh: jwt.refresh.0,
    }
}

/// Bounds of the verification of logins. `cpus`: how many the process may use.
pub fn login_limits(config: &Config, cpus: usize) -> LoginLimits {
    let limits = &config.limits;
    LoginLimits {
        waiting: limits.logins_waiting.0 as usize,
        at_once: match limits.logins_at_once {
            Auto::Given(count) => count.0 as usize,
            Auto::Auto => (cpus / 2).clamp(1, LOGINS_AT_ONCE_MAX),
        },
    }
}

/// 76 MiB for key derivations are enough for 60 to 200 logins a second.
const LOGINS_AT_ONCE_MAX: usize = 4;

/// When the core asks a hook.
fn hook_rule(config: &Config, (hook, index): (&Hook, u16)) -> HookRule {
    HookRule {
        hook: HookId::new(index),
        events: hook.events.iter().map(|event| hook_event(*event)).collect(),
        realms: hook.realms.clone(),
        uri: hook.uri.clone(),
        match_policy: match_policy(hook.match_policy),
        // Headers have no room for it, and whoever is not asked about it can share its answer.
        payload: hook.payload && hook.body != HookBody::Header && hook.procedure.is_empty(),
        scope: HookScope {
            methods: hook_methods(hook),
            roles: hook.roles.clone(),
            procedure: hook
                .procedure_realm(config)
                .filter(|_| !hook.procedure.is_empty())
                .map(|realm| (realm.to_owned(), hook.procedure.clone())),
        },
    }
}

/// How clients may log in that a hook decides on.
fn hook_methods(hook: &Hook) -> Vec<LoginMethod> {
    if hook.methods.is_empty() {
        return vec![LoginMethod::Ticket];
    }
    hook.methods.iter().filter_map(|name| LoginMethod::from_name(name)).collect()
}

/// How the control thread asks the hooks.
pub fn hooks(loaded: &Loaded, access: &Access) -> Vec<HookConfig> {
    let hook = |(hook, read): (&Hook, &ReadHook)| self::hook(&loaded.config, hook, read, access);
    loaded.config.hook.iter().zip(&loaded.hooks).map(hook).collect()
}

/// How one hook is asked.
pub fn hook(config: &Config, hook: &Hook, read: &ReadHook, access: &Access) -> HookConfig {
    let procedure = || Target::Procedure {
        realm: hook.procedure_realm(config).and_then(|name| access.realm(name)).expect("realms were checked"),
        uri: hook.procedure.as_str().into(),
    };
    HookConfig {
        name: hook.name.clone(),
        target: read.url.clone().map_or_else(procedure, Target::Page),
        methods: hook_methods(hook),
        events: hook.events.iter().map(|event| hook_event(*event)).collect(),
        body: match hook.body {
            HookBody::Json => BodyForm::Json,
            HookBody::Form => BodyForm::Form,
            HookBody::Header => BodyForm::Header,
        },
        fields: hook.fields.clone(),
        headers: read.headers.clone(),
        timeout: hook.timeout.0,
        max_in_flight: hook.max_in_flight.0 as usize,
        queue: hook.queue.0 as usize,
        cache: hook.cache.0,
        allow_on_failure: hook.on_failure == OnFailure::Allow,
        role: (hook.role != NO_ROLE).then(|| hook.role.clone()),
    }
}

/// The bridges to Redis.
pub fn bridges(loaded: &Loaded, access: &Access) -> Vec<BridgeConfig> {
    let bridge = |(bridge, read): (&Bridge, &ReadBridge)| BridgeConfig {
        name: bridge.name.clone(),
        url: bridge.url.clone(),
        user: (bridge.user != NO_FILE).then(|| bridge.user.clone()),
        password_file: read.password_file.clone(),
        ca_file: read.ca_file.clone(),
        actor: actor(access, &bridge.realm, &bridge.role),
        routes: read.routes.clone(),
        notices: bridge.notices().map(str::to_owned),
        limits: QueueLimits {
            messages_max: bridge.queue_messages.0 as usize,
            bytes_max: bytes(bridge.queue),
        },
        message_max: bytes(loaded.config.limits.message),
    };
    loaded.config.bridge.iter().zip(&loaded.bridges).map(bridge).collect()
}

/// What is published by itself.
pub fn ticks(config: &Config, access: &Access) -> Vec<TickConfig> {
    let tick = |tick: &Tick| TickConfig {
        name: tick.name().to_owned(),
        actor: actor(access, &tick.realm, &tick.role),
        topic: tick.topic.clone(),
        interval: tick.interval.0,
        payload: tick.payload.clone(),
    };
    config.tick.iter().map(tick).collect()
}

/// The port for clients of Redis.
pub fn resp(loaded: &Loaded, access: &Access) -> RespConfig {
    let resp = &loaded.config.resp;
    RespConfig {
        actor: actor(access, &resp.realm, &resp.role),
        password: Arc::new(ArcSwap::from_pointee(loaded.resp_password.clone())),
        connections_max: resp.connections.0 as usize,
        command_bytes_max: bytes(resp.command.min(loaded.config.limits.message)),
        messages_max: resp.outbox_messages.0 as usize,
        bytes_max: bytes(resp.outbox),
    }
}

fn actor(access: &Access, realm: &str, role: &str) -> Actor {
    let realm = access.realm(realm).expect("realms were checked");
    Actor { realm, role: access.role(realm, role).expect("roles were checked") }
}

/// In the words of the core.
pub fn hook_event(event: Event) -> HookEvent {
    match event {
        Event::Connect => HookEvent::Connect,
        Event::Authenticate => HookEvent::Authenticate,
        Event::Subscribe => HookEvent::Subscribe,
        Event::Publish => HookEvent::Publish,
        Event::Call => HookEvent::Call,
        Event::Register => HookEvent::Register,
        Event::Message => HookEvent::Message,
        Event::Rpc => HookEvent::Rpc,
        Event::Disconnect => HookEvent::Disconnect,
    }
}

/// For the HTTP API.
pub fn api_config(loaded: &Loaded, io: &io::Config, core: &Arc<CoreConfig>) -> ApiConfig {
    let config = &loaded.config;
    let (api, limits) = (&config.http_api, &config.limits);
    let key = |(key, read): (&ApiKey, &ReadKey)| api_key(key, read, &core.access);
    ApiConfig {
        core: Arc::clone(core),
        keys: ApiKeys(api.key.iter().zip(&loaded.api_keys).map(key).collect()),
        mesh_realm: core.access.realm(mesh_realm(config)).unwrap_or(RealmId::new(0)),
        local: Principal::local(
            config.realm.iter().filter_map(|realm| local(realm, &core.access)).collect(),
            config.realm.len(),
        ),
        origins: io.listeners.iter().map(|listener| listener.origins.clone()).collect(),
        limits: ApiLimits {
            head: io.head,
            body_bytes_max: bytes(api.body),
            batch_max: api.batch.0 as usize,
            connections_max: api.connections.0.into(),
            times: Times { head: limits.handshake_time.0, body: limits.message_time.0, idle: API_IDLE_TIME },
            call_time_max: api.call_time.0,
            idempotency_window: api.idempotency_window.0,
            idempotency_entries_max: api.idempotency_keys.0 as usize,
        },
    }
}

/// The realm of the API's paths that name none.
pub fn mesh_realm(config: &Config) -> &str {
    if config.http_api.realm.is_empty() { &config.message_center.realm } else { &config.http_api.realm }
}

/// What is for the control thread at this listener.
fn control_paths(listener: &Listener) -> Vec<String> {
    let prefixes: &[&str] = if listener.offers_api() { &PATH_PREFIXES } else { &[] };
    prefixes.iter().map(|&prefix| prefix.to_owned()).collect()
}

/// What the core knows of a handler.
fn handler(lua: &Lua, access: &Access) -> Handler {
    let Actor { realm, role } = actor(access, &lua.realm, &lua.role);
    let on_failure = match lua.on_error {
        center::OnError::Close => OnFailed::Close,
        center::OnError::Keep => OnFailed::Keep,
    };
    Handler { realm, role, on_failure }
}

/// The Lua handlers.
pub fn lua(loaded: &Loaded, access: &Access, shards: usize) -> Vec<LuaConfig> {
    let handler = |(lua, script): (&Lua, &Script)| LuaConfig {
        name: lua.path.clone(),
        script: script.clone(),
        actor: actor(access, &lua.realm, &lua.role),
        limits: lua.limits(shards),
        options: lua.options.clone(),
    };
    loaded.config.lua.iter().zip(&loaded.scripts).map(handler).collect()
}

/// What takes the messages of the message center's clients.
pub fn queues(config: &Config) -> Queues {
    let queue = |queue: &center::Queue| QueueConfig { name: queue.name.clone(), size: queue.size.0 as usize };
    Queues::new(config.message_center.queue.iter().map(queue).collect())
}

/// Longer than the pools of most clients keep a connection, so that the client is the one who ends it.
const API_IDLE_TIME: std::time::Duration = std::time::Duration::from_secs(120);

fn api_key(key: &ApiKey, read: &ReadKey, access: &Access) -> keys::ApiKey {
    let grant = |name: &String| {
        let realm = access.realm(name).expect("realms of keys were checked");
        let role = access.role(realm, &key.role).expect("roles of keys were checked");
        Grant { realm, role, manages: true }
    };
    let right = |right: &ApiRight| match right {
        ApiRight::Publish => keys::Right::Publish,
        ApiRight::Call => keys::Right::Call,
        ApiRight::Read => keys::Right::Read,
        ApiRight::Disconnect => keys::Right::Disconnect,
        ApiRight::Clients => keys::Right::Clients,
        ApiRight::Reload => keys::Right::Reload,
    };
    let principal = Principal {
        name: format!("the key {:?}", key.name),
        rights: key.allow.iter().map(right).collect(),
        grants: key.realms.iter().map(grant).collect(),
    };
    keys::ApiKey { hash: read.hash, principal, addresses: read.addresses.clone() }
}

/// What programs of this machine are in a realm, if anonymous clients are something there. Who may do everything may look
/// around too; a smaller role must not learn by the API who is there, or send them away.
fn local(realm: &Realm, access: &Access) -> Option<Grant> {
    let anonymous = realm.anonymous()?;
    let id = access.realm(&realm.name).expect("the realms are the same");
    let role = access.role(id, &anonymous.name).expect("the roles are the same");
    Some(Grant { realm: id, role, manages: anonymous.may_do_everything() })
}

/// For the core of every shard. `ring_items` is what the rings between the shards really hold; `access` makes the permissions.
pub fn core_config(
    loaded: &Loaded,
    ring_items: usize,
    access: impl FnOnce(&[access::RealmConfig]) -> Result<Access, access::AccessError>,
) -> Result<CoreConfig, access::AccessError> {
    let config = &loaded.config;
    let realms: Vec<_> = config
        .realm
        .iter()
        .zip(&loaded.users)
        .map(|(realm, users)| self::realm(config, realm, users))
        .collect();
    let limits = &config.limits;
    let mut access = access(&realms)?;
    let hooks = config.hook.iter().zip(0..).map(|hook| hook_rule(config, hook));
    access.set_hooks(&hooks.collect::<Vec<_>>());
    Ok(CoreConfig {
        message_center: message_center(config, &access),
        // Without a realm it is at no path.
        echo: access.realm(&config.echo.realm).map(|realm| config.echo.read(realm)).unwrap_or_default(),
        wamp1: config.wamp1.read(config, &access),
        handlers: config.lua.iter().map(|lua| handler(lua, &access)).collect(),
        access,
        limits: CoreLimits {
            outbox_bytes_max: bytes(limits.outbox),
            outbox_messages_max: limits.outbox_messages.0,
            outbox_age_max: limits.outbox_age.0,
            pause_max: limits.pause.0,
            reply_reserve_bytes: bytes(limits.reply_reserve),
            subscriptions_max: limits.subscriptions_per_session.0 as usize,
            registrations_max: limits.registrations_per_session.0 as usize,
            patterns_per_session: limits.patterns_per_session.0 as usize,
            patterns_per_realm: limits.patterns_per_realm.0 as usize,
            retention: RetentionLimits {
                events_per_realm: limits.retained_per_realm.0 as usize,
                bytes_per_realm: bytes(limits.retained_bytes_per_realm),
                bytes: bytes(limits.retained_bytes),
            },
            history: HistoryLimits {
                bytes_per_realm: bytes(limits.history_bytes_per_realm),
                bytes: bytes(limits.history_bytes),
            },
            cookie_bytes_max: bytes(limits.cookie_bytes),
            calls_max: limits.pending_calls_per_session.0 as usize,
            invocations_max: limits.pending_invocations_per_session.0 as usize,
            testaments: TestamentLimits {
                count_per_session: limits.testaments_per_session.0 as usize,
                bytes_per_session: bytes(limits.testament_bytes_per_session),
                bytes_per_shard: bytes(limits.testament_bytes_per_shard),
            },
            ring_capacity: ring_items,
            ring_bytes_max: bytes(limits.ring),
            ..CoreLimits::default()
        },
        compression: config.compression.enabled.then(|| compression(&config.compression)),
        agent: AGENT.to_owned(),
    })
}

/// Without a realm it is at no path.
fn message_center(config: &Config, access: &Access) -> MessageCenter {
    let center = &config.message_center;
    let on_error = match center.on_error {
        center::OnError::Keep => OnError::Keep,
        center::OnError::Close => OnError::Close,
    };
    let rule = |rule: &center::Rule| rule.read().expect("the rules were checked");
    let Some(realm) = access.realm(&center.realm) else { return MessageCenter::default() };
    let role = access.role(realm, &center.role);
    MessageCenter::new(realm, on_error, center.rule.iter().map(rule).collect())
        .with_queues(role, center.queue.iter().map(center::Queue::read).collect())
}

fn compression(compression: &Compression) -> fanwire_core::Compression {
    let small = |count: Count| u8::try_from(count.0).expect("checked to be at most 15");
    fanwire_core::Compression {
        policy: DeflatePolicy { takeover: compression.takeover, window_bits: small(compression.window_bits) },
        level: small(compression.level),
        threshold_bytes: bytes(compression.threshold),
        before_login: compression.before_login,
    }
}

/// What the core is to know of a realm.
pub fn realm(config: &Config, realm: &Realm, users: &[RealmUser]) -> access::RealmConfig {
    access::RealmConfig {
        name: realm.name.clone(),
        roles: realm.role.iter().map(role).collect(),
        anonymous_role: (realm.anonymous_role != NO_ROLE).then(|| realm.anonymous_role.clone()),
        login_methods: login_methods(realm, users),
        tickets_say_who: !realm.jwt.is_empty(),
        cookie_time: Some(realm.cookie_time.0).filter(|time| !time.is_zero()),
        topics: topics(config, realm),
    }
}

/// What at least one of them can log in by; tokens are tickets.
fn login_methods(realm: &Realm, users: &[RealmUser]) -> Vec<LoginMethod> {
    let has = |method: &LoginMethod| {
        let is_token = *method == LoginMethod::Ticket && !realm.jwt.is_empty();
        is_token || users.iter().any(|user| user.credentials.offers(*method))
    };
    LoginMethod::ALL.into_iter().filter(has).collect()
}

fn topics(config: &Config, realm: &Realm) -> TopicRules {
    let default = *realm.slow_consumer.given().unwrap_or(&config.limits.slow_consumer);
    let rule = |topic: &Topic| TopicRule {
        uri: topic.uri.clone(),
        match_policy: match_policy(topic.match_policy),
        handling: Handling {
            slow_consumer: topic.slow_consumer.given().unwrap_or(&default).0,
            outbox_bytes_max: topic.outbox.given().map(|size| bytes(*size)),
            outbox_messages_max: topic.outbox_messages.given().map(|count| count.0),
        },
        history: topic.history.given().map(|events| HistoryBounds {
            events: events.0,
            bytes: bytes(topic.history_bytes),
            age: topic.history_age.0.map(|age| age.0),
        }),
    };
    TopicRules {
        default: Handling { slow_consumer: default.0, ..Handling::default() },
        rules: realm.topic.iter().map(rule).collect(),
    }
}

/// In the words of the core.
pub fn match_policy(policy: Match) -> MatchPolicy {
    match policy {
        Match::Exact => MatchPolicy::Exact,
        Match::Prefix => MatchPolicy::Prefix,
        Match::Wildcard => MatchPolicy::Wildcard,
    }
}

fn role(role: &Role) -> access::RoleConfig {
    access::RoleConfig {
        name: role.name.clone(),
        permissions: role
            .permission
            .iter()
            .map(|rule| permission(rule, role.trust_level.0.as_ref()))
            .collect(),
    }
}

/// `trust_level`: that of the role.
fn permission(permission: &Permission, trust_level: Option<&Count>) -> access::Permission {
    let allows = |action| permission.allow.contains(&action);
    access::Permission {
        uri: permission.uri.clone(),
        match_policy: match_policy(permission.match_policy),
        publish: allows(Action::Publish),
        subscribe: allows(Action::Subscribe),
        call: allows(Action::Call),
        register: allows(Action::Register),
        disclose: match permission.disclose {
            Disclose::OnRequest => access::Disclosure::OnRequest,
            Disclose::Always => access::Disclosure::Always,
            Disclose::Never => access::Disclosure::Never,
        },
        trust: permission.trust_level.given().or(trust_level).map(|level| access::TrustLevel(level.0)),
    }
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).expect("sizes are checked to be far below the address space")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Sources;

    fn start(realms: &[access::RealmConfig]) -> Result<Access, access::AccessError> {
        Access::new(realms, 0)
    }

    fn loaded() -> Loaded {
        Sources::default().load().expect("the defaults are right")
    }

    fn default() -> Config {
        loaded().config
    }

    /// There are three places with defaults, one per crate; they must say the same.
    #[test]
    fn the_defaults_agree_with_those_of_the_crates() {
        let (ours, theirs) = (io_config(&default()), io::Config::default());
        assert_eq!(format!("{:?}", ours.deadlines), format!("{:?}", theirs.deadlines));
        assert_eq!(format!("{:?}", ours.head), format!("{:?}", theirs.head));
        assert_eq!(ours.drain_time, theirs.drain_time);
        assert_eq!(ours.message_bytes_max, theirs.message_bytes_max);
        assert_eq!(ours.message_bytes_max_before_login, theirs.message_bytes_max_before_login);
        assert_eq!(ours.connections_max_per_shard, theirs.connections_max_per_shard);
        assert_eq!(ours.tls_handshakes_max, theirs.tls_handshakes_max);
        assert_eq!(ours.balance, theirs.balance);
        assert_eq!(format!("{:?}", ours.turn), format!("{:?}", theirs.turn));
        assert_eq!(ours.spin, theirs.spin);
        assert_eq!(ours.accept_rate, theirs.accept_rate);
        assert_eq!(ours.connections_per_address, theirs.connections_per_address);
        assert_eq!(ours.connects_per_address, theirs.connects_per_address);
        assert_eq!((ours.messages_rate, ours.bytes_rate), (theirs.messages_rate, theirs.bytes_rate));
        let ours = core_config(&loaded(), CoreLimits::default().ring_capacity, start)
            .expect("the defaults are right");
        assert_eq!(format!("{:?}", ours.limits), format!("{:?}", CoreLimits::default()));
        assert_eq!(ours.compression, Some(fanwire_core::Compression::default()));
    }

    #[test]
    fn rings_share_what_there_is() {
        assert_eq!([1, 2, 8, 63].map(|shards| ring_items(&default(), shards)), [8_192, 4_096, 1_024, 130]);
    }

    #[test]
    fn values_arrive() {
        let mut config = default();
        config.listener[0].allowed_origins = vec!["*".into(), "https://a.example".into()];
        config.limits.ping_interval = crate::config::units::Time(Duration::from_secs(7));
        config.shards.slice_sends = crate::config::units::Limit(Some(Count(9)));
        let io = io_config(&config);
        assert_eq!(io.turn.flush.slice_sends, 9);
        assert!(io.listeners[0].origins.any);
        assert_eq!(io.listeners[0].origins.allowed, ["https://a.example"]);
        assert_eq!(io.listeners[0].endpoints[0].path, "/ws");
        assert_eq!(io.deadlines.ping_interval, Duration::from_secs(7));
    }

    #[test]
    fn what_the_core_refuses_was_refused_with_its_line_before() {
        // `check` knows the rules for names and URIs by itself, in order to name line and key; here they meet the core's.
        for (uri, policy) in [("a.b", "exact"), ("a.", "prefix"), ("", "prefix"), ("a..c", "wildcard")] {
            let mut loaded = loaded();
            let config = &mut loaded.config;
            config.realm[0].role[0].permission[0].uri = uri.to_owned();
            config.realm[0].role[0].permission[0].match_policy = match policy {
                "exact" => Match::Exact,
                "prefix" => Match::Prefix,
                _ => Match::Wildcard,
            };
            assert!(core_config(&loaded, 128, start).is_ok(), "{uri} ({policy})");
        }
    }
}
