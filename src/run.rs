//! `fanwire run`: from a configuration to a running router, and to its end.

use std::fmt::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fanwire_codec::wamp2::Serializer;
use fanwire_control::memory::{MemoryBudget, MemoryWatch};
use fanwire_control::meta::{self, MetaQueue};
use fanwire_control::metrics::{Build, Metrics, ReadNumber};
use fanwire_control::reload::Outcome;
use fanwire_control::resp::{Outboxes, RespDesk};
use fanwire_control::{Desks, Early, api, hooks, login, lua, tick};
use fanwire_core::Shard;
use fanwire_core::access::Access;
use fanwire_core::api::ApiRequest;
use fanwire_core::directory::Directory;
use fanwire_core::ids::ShardId;
use fanwire_core::question::Verdict;
use fanwire_io::{ListenAddress, Machine, Router, Rung, Running};

use crate::certificates::Certificates;
use crate::config::units::ranges;
use crate::config::{Config, Loaded, Sources, schema, wamp1};
use crate::log::{Level, Log};
use crate::refusal::{self, Refusal};
use crate::reload::{Holders, Reloader};
use crate::{limits, notify, wiring};

/// Runs until told to end.
#[allow(clippy::disallowed_methods, reason = "the banner tells how long the start took")]
pub fn run(loaded: Loaded, sources: Sources) -> ExitCode {
    let started = Instant::now();
    let log = Log::start(&loaded.config.log);
    // std ignores SIGPIPE from the start, so a write to a closed pipe or socket is an error and no death.
    limits::use_small_pages();
    let open_files = limits::raise_open_files();
    let (router, loaded) = match Parts::start(loaded, sources, Box::new(log.dropped()), log.level()) {
        Ok(started) => started,
        Err(refusal) => {
            drop(log);
            eprintln!("error: {refusal}");
            return ExitCode::from(EXIT_CANNOT_START);
        }
    };
    let banner = banner(&loaded, &router, open_files, started.elapsed());
    tracing::debug!(addresses = ?router.running.addresses(), admin = ?router.control.admin_address, "started");
    // A closed standard output (a service without one) is no reason not to run.
    _ = std::io::Write::write_all(&mut std::io::stdout(), banner.as_bytes());
    notify::ready(banner.lines().next().unwrap_or_default());
    if let Err(error) = notify::reassure(&router.running) {
        tracing::warn!(%error, "no thread for the service manager's watchdog, which will end this process");
    }
    router.running.wait();
    tracing::info!("all shards have ended; good bye");
    router.control.stop();
    ExitCode::SUCCESS
}

/// A start that failed for reasons of the machine, such as a port in use.
const EXIT_CANNOT_START: u8 = 1;

struct Parts {
    running: Arc<Running>,
    control: fanwire_control::Control,
}

/// What the control thread may do with the shards.
struct Orders {
    running: Arc<Running>,
    directory: Arc<Directory>,
    reloader: Arc<Reloader>,
}

impl fanwire_control::Shards for Orders {
    fn drain(&self) {
        notify::stopping();
        self.running.drain();
    }

    fn stop_now(&self) {
        notify::stopping();
        self.running.stop_now();
    }

    fn reload(&self, check_only: bool) -> Outcome {
        self.reloader.reload(check_only)
    }

    fn answer(&self, shard: ShardId, verdict: Verdict) -> Result<(), Verdict> {
        self.running.answer(shard, verdict)
    }

    fn count(&self) -> usize {
        self.running.shards().len()
    }

    fn ask(&self, shard: ShardId, request: ApiRequest) -> Result<(), ApiRequest> {
        self.running.ask(shard, request)
    }

    fn directory(&self) -> &Directory {
        &self.directory
    }
}

impl Parts {
    /// Gives the configuration back, for the banner.
    fn start(
        loaded: Loaded,
        sources: Sources,
        log_lines_dropped: ReadNumber,
        log_level: Level,
    ) -> Result<(Self, Loaded), Refusal> {
        let config = &loaded.config;
        let admin = match &config.admin.bind.0 {
            None => None,
            Some(bind) => Some(TcpListener::bind(bind.0).map_err(|error| refusal::of_admin(bind.0, &error))?),
        };
        let resp = match &config.resp.bind.0 {
            None => None,
            Some(bind) => Some(TcpListener::bind(bind.0).map_err(|error| refusal::of_resp(bind.0, &error))?),
        };
        let io = wiring::io_settings(&loaded);
        let ring_items = wiring::ring_items(config, io.shard_count());
        let mut random = fanwire_io::random_source();
        let seed = random();
        let core = wiring::core_config(&loaded, ring_items, |realms| Access::new(realms, seed));
        let core = Arc::new(core.map_err(|error| Refusal(error.to_string()))?);
        let users = wiring::users(config, &loaded.users, &loaded.jwt, &core.access, None, &mut random);
        let (logins, desk) = login::desk(users, wiring::login_limits(config, Machine::detect().shards()));
        let figures = desk.figures(&logins);
        let (api_queue, api_desk) = api::desk(wiring::api_config(&loaded, &io, &core));
        let api_figures = api_desk.figures();
        let directory = Arc::new(Directory::new(random()));
        let shared = Arc::clone(&directory);
        let names = Arc::new(ArcSwap::new(Arc::clone(&core)));
        let hooks = wiring::hooks(&loaded, &core.access);
        let (hook_queue, hook_desk) =
            hooks::desk(hooks, Arc::clone(&names)).map_err(|e| Refusal(e.to_string()))?;
        let hook_figures = hook_desk.figures();
        let (meta_queue, meta_desk) = meta::desk();
        let resp = resp.map(|listener| RespDesk::new(listener, wiring::resp(&loaded, &core.access)));
        // Subscribed before anybody can connect, or what is published right then would be missing.
        let early = Early::begin(desk.at_once(), wiring::bridges(&loaded, &core.access))
            .map_err(|error| Refusal(format!("the control thread cannot start: {error}")))?;
        let queues = wiring::queues(config);
        let (lua_queue, lua_desk) =
            lua::desk(wiring::lua(&loaded, &names.load().access, io.shard_count()), &queues);
        let (lua_figures, scripts) = (lua_desk.figures(), lua_desk.scripts());
        let (api_desk, taken_from) = (api_desk.with_queues(queues.clone()), queues.clone());
        let endpoints = wiring::wamp_endpoints(config);
        let running = fanwire_io::start(io, move |id, shards| {
            let shards = u8::try_from(shards).expect("at most 63 shards");
            let random = Box::new(fanwire_io::random_source());
            let (logins, hooks, api_queue) = (logins.clone(), hook_queue.clone(), api_queue.clone());
            let (queues, lua, meta) = (queues.clone(), lua_queue.clone(), meta_queue.clone());
            let router = Router::new(
                Shard::new(Arc::clone(&core), id, shards, Arc::clone(&directory), random),
                Box::new(move |from, mut question| match (question.queue, question.hook) {
                    _ if question.handler.is_some() => lua.submit(from, question),
                    (Some(_), _) => queues.submit(&question),
                    (None, Some(_)) if logins.knows(&question) => {
                        question.is_taken = !logins.offers(&question);
                        if question.is_taken {
                            hooks.submit(from, question)
                        } else {
                            logins.submit(from, question)
                        }
                    }
                    (None, Some(_)) => hooks.submit(from, question),
                    (None, None) if MetaQueue::is_for(&question) => meta.submit(from, question),
                    (None, None) => logins.submit(from, question),
                }),
                Box::new(move |connection| api_queue.submit(connection)),
            );
            router.with_endpoints(endpoints.clone())
        })
        .map_err(|error| refusal::of_shards(error, config.listener.len()))?;
        let running = Arc::new(running);
        let build = Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: running.shards().first().map_or("none", |shard| shard.driver.rung.driver()).to_owned(),
        };
        let certificates = Certificates::new(&loaded.tls);
        let ends = {
            let certificates = certificates.clone();
            Box::new(move || certificates.ends())
        };
        let counters = running.counters().to_vec();
        let (ticks, tick_desk) = tick::desk(wiring::ticks(config, &names.load().access), counters.clone());
        let metrics = Metrics::new(counters, build, log_lines_dropped, figures, api_figures, ends)
            .with_queues(taken_from)
            .with_hooks(hook_figures)
            .with_lua(lua_figures)
            .with_meta(meta_desk.figures())
            .with_kept({
                let directory = Arc::clone(&shared);
                Box::new(move || {
                    let cookies = directory.cookies().usage();
                    (directory.retained_usage(), directory.history_usage(), cookies)
                })
            })
            .with_ticks(tick_desk.figures())
            .with_redis(early.bridges(), resp.as_ref().map(RespDesk::figures));
        let budget = MemoryBudget::new(config.limits.memory.given().map(|size| size.0));
        let holders = Holders {
            running: Arc::clone(&running),
            names: Arc::clone(&names),
            users: desk.users(),
            directory: Arc::clone(&shared),
            api: api_desk.settings(),
            ticks,
            certificates,
            memory: budget.setting(),
            resp_password: resp.as_ref().map(RespDesk::password),
            scripts,
            log: log_level,
        };
        let reloader = Arc::new(Reloader::new(sources, loaded.clone(), holders));
        let orders = Orders { running: Arc::clone(&running), directory: shared, reloader };
        let outboxes = resp.as_ref().map(RespDesk::outboxes);
        let memory = memory_watch(budget, Arc::clone(&running), outboxes);
        let hook_desk = (!config.hook.is_empty()).then_some(hook_desk);
        let lua = (!config.lua.is_empty()).then_some(lua_desk);
        let desks = Desks {
            logins: desk,
            api: Some(api_desk),
            hooks: hook_desk,
            lua,
            meta: Some(meta_desk),
            resp,
            ticks: Some(tick_desk),
        };
        let control = fanwire_control::start(early, admin, orders, metrics, desks, names, memory)
            .map_err(|error| Refusal(error.to_string()))?;
        Ok((Self { running, control }, loaded))
    }
}

/// Tells the shards when memory is short.
fn memory_watch(budget: MemoryBudget, running: Arc<Running>, outboxes: Option<Arc<Outboxes>>) -> MemoryWatch {
    let tell = move |level, shed_bytes| {
        running.set_pressure(level, shed_bytes);
        // Not less for the shards: the events that wait there are held once for all who wait for them, so that the end of one
        // of these may free nothing.
        if let Some(outboxes) = &outboxes {
            outboxes.shed(shed_bytes);
        }
    };
    MemoryWatch::new(budget, Box::new(tell))
}

fn handler_file(config: &Config, path: &str) -> String {
    let lua = config.lua.iter().find(|lua| lua.path == path);
    lua.map_or_else(String::new, |lua| format!("{}, realm {:?}", lua.file, lua.realm))
}

/// What a person reads first. Lines that name an address or a command can be pasted.
fn banner(loaded: &Loaded, parts: &Parts, open_files: u64, took: Duration) -> String {
    let config = &loaded.config;
    let mut out = String::new();
    let reports = parts.running.shards();
    let cpus: Option<Vec<usize>> = reports.iter().map(|report| report.cpu).collect();
    let place = cpus.map_or_else(|| "not pinned".to_owned(), |cpus| format!("on cpus {}", ranges(&cpus)));
    let driver = reports.first().map_or("none", |report| report.driver.rung.driver());
    line(
        &mut out,
        format_args!(
            "fanwire {}  shards {} {place} ({driver})  pid {}  started in {} ms",
            env!("CARGO_PKG_VERSION"),
            reports.len(),
            std::process::id(),
            took.as_millis(),
        ),
    );
    let realms: Vec<String> = config.realm.iter().map(|realm| format!("{:?}", realm.name)).collect();
    let realms = format!("{} {}", if realms.len() == 1 { "realm" } else { "realms" }, realms.join(", "));
    let mut first_url = None;
    for (listener, address) in config.listener.iter().zip(parts.running.addresses()) {
        for (path, endpoint) in &listener.endpoints {
            let spoken = match endpoint.protocol {
                schema::Protocol::Wamp => wamp(endpoint, &realms, wamp1::realm(config)),
                schema::Protocol::WampLongpoll => format!("long-polling, {}", wamp(endpoint, &realms, None)),
                schema::Protocol::MessageCenter => {
                    format!("message center, realm {:?}", config.message_center.realm)
                }
                schema::Protocol::Lua => format!("Lua handler {}", handler_file(config, path)),
                schema::Protocol::Echo => format!("echo rooms, realm {:?}", config.echo.realm),
            };
            let tls = listener.tls.pair().is_some();
            let is_polled = endpoint.protocol == schema::Protocol::WampLongpoll;
            let (plain, secure) = if is_polled { ("http", "https") } else { ("ws", "wss") };
            let schemes: &[&str] = match (tls, listener.tls.plain) {
                (true, true) => &[plain, secure],
                (true, false) => &[secure],
                (false, _) => &[plain],
            };
            for scheme in schemes {
                // Any path will do.
                let path = if path == "*" { "/" } else { path.as_str() };
                let url = match address {
                    ListenAddress::Ip(address) => format!("{scheme}://{}{path}", reachable(*address)),
                    unix @ ListenAddress::Unix { .. } => format!("{unix}:{path}"),
                };
                line(&mut out, format_args!("  {scheme:<8} {url:<39} {spoken}"));
                // For `fanwire sub` and its siblings, which speak WAMP.
                if endpoint.protocol == schema::Protocol::Wamp {
                    first_url.get_or_insert(url);
                }
            }
        }
        if let Some(like) = listener.rawsocket() {
            let tls = listener.tls.pair().is_some();
            for scheme in [(tls, "rss"), (listener.speaks_plain(), "rs")].iter().filter(|(on, _)| *on) {
                let scheme = scheme.1;
                let url = match address {
                    ListenAddress::Ip(address) => format!("{scheme}://{}", reachable(*address)),
                    unix @ ListenAddress::Unix { .. } => format!("{scheme}://{unix}"),
                };
                line(&mut out, format_args!("  {scheme:<8} {url:<39} {}", wamp(like, &realms, None)));
            }
        }
    }
    if let Some(address) = parts.control.admin_address {
        let url = format!("http://{}/metrics", reachable(address));
        line(&mut out, format_args!("  admin    {url:<39} also /readyz /livez"));
    }
    if let Some(address) = parts.control.resp_address {
        let url = format!("redis://{}", reachable(address));
        line(&mut out, format_args!("  redis    {url:<39} publish and subscribe for clients of Redis"));
    }
    for bridge in &config.bridge {
        line(&mut out, format_args!("  bridge   {:<39} {:?}", bridge.url, bridge.name));
    }
    let api =
        config.listener.iter().zip(parts.running.addresses()).filter(|(listener, _)| listener.offers_api());
    for (_, address) in api {
        let url = match address {
            ListenAddress::Ip(address) => format!("http://{}/v1/publish", reachable(*address)),
            unix @ ListenAddress::Unix { .. } => format!("{unix}, /v1/publish"),
        };
        let who = if config.http_api.key.is_empty() { "programs of this machine" } else { "with a key" };
        line(&mut out, format_args!("  api      {url:<39} {who}; docs/http-api.md"));
    }
    if let Some(url) = first_url {
        // What the small clients use by themselves need not be typed.
        let mut flags = if url == "ws://127.0.0.1:8080/ws" { String::new() } else { format!(" --url {url}") };
        if let Some(realm) = config.realm.first().filter(|realm| realm.name != "realm1") {
            flags.push_str(&format!(" --realm {}", realm.name));
        }
        let users = loaded.users.first().filter(|_| config.realm[0].anonymous().is_none());
        if let Some(user) = users.and_then(|users| users.first()) {
            flags.push_str(&format!(" --user {}", user.name));
        }
        // As it was called, so that the lines can be pasted also where the program is not in PATH.
        let program = std::env::args().next().unwrap_or_else(|| "fanwire".to_owned());
        line(&mut out, format_args!("  try      {program} sub demo{flags}"));
        line(&mut out, format_args!("           {program} pub demo hello{flags}"));
    }
    if config.listener.iter().all(|listener| listener.bind.is_local()) {
        line(
            &mut out,
            format_args!(
                "  note     only this machine can connect; docs/configuration.md shows how to open it"
            ),
        );
    } else if config.realm.iter().any(|realm| realm.anonymous().is_some_and(schema::Role::may_do_everything))
    {
        line(
            &mut out,
            format_args!(
                "  warning  whoever can connect may do everything (allow_anonymous_everywhere = true)"
            ),
        );
    }
    if let Some(words) = driver_words(config, parts) {
        line(&mut out, format_args!("  note     {words}"));
    }
    if config.admin.bind.0.is_some_and(|bind| !bind.is_loopback()) {
        line(
            &mut out,
            format_args!(
                "  warning  other machines can reach the admin port, and it asks nobody who they are"
            ),
        );
    }
    for words in &loaded.warnings {
        line(&mut out, format_args!("  warning  {words}"));
    }
    for (index, listener) in config.listener.iter().enumerate() {
        if let Some(words) = listener.backlog.given().and_then(|backlog| limits::warn_backlog(backlog.0)) {
            line(&mut out, format_args!("  warning  listener.{index}.backlog: {words}"));
        }
    }
    if let Some(words) = limits::warn_open_files(open_files) {
        line(&mut out, format_args!("  warning  {words}"));
    }
    out
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string succeeds");
}

/// What a WAMP endpoint offers, in a line.
fn wamp(endpoint: &schema::Endpoint, realms: &str, version_1: Option<&schema::Realm>) -> String {
    let rules = wiring::wamp_rules(endpoint);
    let allowed = Serializer::ALL.into_iter().filter(|serializer| rules.allow(*serializer));
    let names: Vec<String> = allowed.map(|serializer| serializer.to_string()).collect();
    let is_only = |name: &String| rules.realm.as_ref().is_none_or(|only| only == name);
    let version_1 = version_1.filter(|realm| rules.allow(Serializer::Json) && is_only(&realm.name));
    let version_1 = version_1.map_or_else(String::new, |realm| format!("; v1 in {:?}", realm.name));
    let realm = rules.realm.map_or_else(|| realms.to_owned(), |realm| format!("realm {realm:?}"));
    format!("WAMP v2 ({}), {realm}{version_1}", names.join(" "))
}

/// An address that a client on this machine can use.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}

/// One line when io_uring was wanted and is not there.
fn driver_words(config: &Config, parts: &Parts) -> Option<String> {
    let report = parts.running.shards().iter().find(|report| report.driver.rung == Rung::Epoll)?;
    if config.shards.driver == schema::Driver::Epoll {
        return None;
    }
    let (_, why) = report.driver.refused.last()?;
    let why = why.split(" (os error").next().unwrap_or_default();
    let advice = if why.contains("not permitted") {
        "; look at the container's seccomp profile and at kernel.io_uring_disabled"
    } else if why.contains("not implemented") {
        "; it needs Linux 5.7"
    } else {
        ""
    };
    Some(format!("using epoll, because the kernel refuses io_uring ({why}){advice}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::config::Flag;

    fn config(flags: &[&str]) -> Loaded {
        let flags = flags.iter().map(|flag| Flag::Set((*flag).to_owned())).collect();
        Sources { flags, ..Sources::default() }.load().expect("the flags are right")
    }

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }

    fn started(config: Loaded) -> Result<(Parts, Loaded), Refusal> {
        Parts::start(config, Sources::default(), Box::new(|| 0), Arc::new(|_| {}))
    }

    /// Every documented metric exists, every metric is documented, with its type; and so are the reasons.
    #[test]
    fn the_documentation_lists_each_metric() {
        let config = config(&[
            "listener.0.bind=127.0.0.1:0",
            "admin.bind=127.0.0.1:0",
            "shards.count=1",
            "shards.driver=epoll",
            "message_center.queue=[{name=\"q\"}]",
            "hook=[{name=\"h\",url=\"http://127.0.0.1:9/\",events=[\"connect\"]}]",
            "listener.0.endpoints={\"/ws\"=\"wamp\",\"/lua\"=\"lua\"}",
            "lua=[{path=\"/lua\",file=\"examples/message-center.lua\",options={auth_url=\"http://127.0.0.1:9/\"}}]",
        ]);
        let (parts, _) = started(config).map_err(|refusal| refusal.0).expect("it starts");
        let page = get(parts.control.admin_address.expect("it has one"), "/metrics");
        parts.running.stop_now();
        parts.running.wait();
        parts.control.stop();
        let documented = include_str!("../docs/monitoring.md");
        let mut rows: Vec<(&str, &str)> = documented
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .filter(|(name, _)| name.starts_with("fanwire_") || name.starts_with("process_"))
            .filter_map(|(name, rest)| Some((name, rest.split(" |").next()?)))
            .collect();
        let mut metrics: Vec<(&str, &str)> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        rows.sort_unstable();
        metrics.sort_unstable();
        assert_eq!(rows, metrics);
        for result in page.split("result=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(documented.contains(&format!("`{result}`")), "result {result} is not documented");
        }
        for reason in page.split("reason=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(documented.contains(&format!("`{reason}`")), "reason {reason} is not documented");
        }
    }

    #[test]
    fn a_port_in_use_names_its_owner_and_the_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound");
        let me = std::fs::read_to_string("/proc/self/comm").expect("it has a name");
        let owner = format!("{address} is in use by pid {} ({})", std::process::id(), me.trim());
        for (key, start, remedy) in [
            ("listener.0.bind", "", "--port 0 for a free port or --bind 127.0.0.1:"),
            ("admin.bind", "the admin port ", "--admin 127.0.0.1:0 for a free port, or --admin none."),
        ] {
            let mut flags = vec!["admin.bind=none".to_owned(), "listener.0.bind=127.0.0.1:0".to_owned()];
            flags.push(format!("{key}={address}"));
            let config = config(&flags.iter().map(String::as_str).collect::<Vec<_>>());
            let Err(Refusal(words)) = started(config) else { panic!("{key}: it started") };
            assert!(words.starts_with(&format!("{start}{owner}. Use {remedy}")), "{words}");
        }
    }

    #[test]
    fn unspecified_addresses_are_shown_as_one_can_connect_to_them() {
        let shown = |address: &str| reachable(address.parse().expect("an address")).to_string();
        assert_eq!(shown("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(shown("[::]:80"), "[::1]:80");
        assert_eq!(shown("10.0.0.1:80"), "10.0.0.1:80");
    }
}
