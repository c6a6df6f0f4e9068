//! The metrics page: the shards' counters, the process's, and a few facts.
//!
//! Read without a lock while the shards write: each number is whole, numbers of one moment they are not.

use std::sync::Arc;

use fanwire_core::directory::{CookieUsage, HistoryUsage, RetainedUsage};
use fanwire_io::counters::{self, Count, ShardCounters, TURN_BOUNDS};

use crate::api::figures::ApiFigures;
use crate::bridge::BridgeFigures;
use crate::hooks::HookFigures;
use crate::login::LoginFigures;
use crate::lua::LuaFigures;
use crate::memory::MemoryFigures;
use crate::meta::MetaFigures;
use crate::page::{Kind, Page, label, labels};
use crate::process::Process;
use crate::queues::Queues;
use crate::reload::Reloads;
use crate::resp::RespFigures;
use crate::tick::TickFigures;

/// Begins the name of every metric of the router.
const PREFIX: &str = "fanwire_";

/// Everything that the page shows.
pub struct Metrics {
    shards: Vec<Arc<ShardCounters>>,
    build: Build,
    log_lines_dropped: ReadNumber,
    logins: LoginFigures,
    api: Arc<ApiFigures>,
    certificates: ReadCertificates,
    hooks: Vec<(String, Arc<HookFigures>)>,
    lua: Vec<(String, Arc<LuaFigures>)>,
    bridges: BridgeFigures,
    queues: Queues,
    resp: Arc<RespFigures>,
    ticks: TickFigures,
    meta: Arc<MetaFigures>,
    kept: ReadKept,
    process: Process,
}

/// When a certificate ends.
#[derive(Clone, Debug)]
pub struct CertificateEnd {
    /// Index of the listener that shows it.
    pub listener: usize,
    /// Its file.
    pub file: String,
    /// In seconds since 1970.
    pub at: i64,
}

/// Tells the certificates that are shown now.
pub type ReadCertificates = Box<dyn Fn() -> Vec<CertificateEnd> + Send + Sync>;

/// Facts about this process, shown as labels of `fanwire_build_info`.
#[derive(Clone, Debug)]
pub struct Build {
    /// Version of the binary.
    pub version: String,
    /// `io_uring` or `epoll`.
    pub driver: String,
}

/// Tells how much is retained for later subscribers, how long all histories are, and how many logins are remembered.
pub type ReadKept = Box<dyn Fn() -> (RetainedUsage, HistoryUsage, CookieUsage) + Send + Sync>;

/// Reads one number that is kept elsewhere.
pub type ReadNumber = Box<dyn Fn() -> u64 + Send + Sync>;

impl Metrics {
    /// A page of these counters.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        build: Build,
        log_lines_dropped: ReadNumber,
        logins: LoginFigures,
        api: Arc<ApiFigures>,
        certificates: ReadCertificates,
    ) -> Self {
        Self {
            hooks: Vec::new(),
            lua: Vec::new(),
            bridges: BridgeFigures::default(),
            queues: Queues::default(),
            resp: Arc::default(),
            ticks: TickFigures::default(),
            meta: Arc::default(),
            kept: Box::new(<(RetainedUsage, HistoryUsage, CookieUsage)>::default),
            shards,
            build,
            log_lines_dropped,
            logins,
            api,
            certificates,
            process: Process::new(),
        }
    }

    /// With the figures of bridges, and of the Redis port if there is one.
    pub fn with_redis(self, bridges: BridgeFigures, resp: Option<Arc<RespFigures>>) -> Self {
        Self { bridges, resp: resp.unwrap_or_default(), ..self }
    }

    /// With the figures of ticks.
    pub fn with_ticks(self, ticks: TickFigures) -> Self {
        Self { ticks, ..self }
    }

    /// With the figures of the meta desk.
    pub fn with_meta(self, meta: Arc<MetaFigures>) -> Self {
        Self { meta, ..self }
    }

    /// With what the shards keep of publications together.
    pub fn with_kept(self, kept: ReadKept) -> Self {
        Self { kept, ..self }
    }

    /// With the queues of the message center.
    pub fn with_queues(self, queues: Queues) -> Self {
        Self { queues, ..self }
    }

    /// With the figures of hooks, by their names.
    pub fn with_hooks(self, hooks: Vec<(String, Arc<HookFigures>)>) -> Self {
        Self { hooks, ..self }
    }

    /// With the figures of Lua handlers, by their names.
    pub fn with_lua(self, lua: Vec<(String, Arc<LuaFigures>)>) -> Self {
        Self { lua, ..self }
    }

    /// The page as of now.
    pub fn render(&self, ready: bool, memory: &MemoryFigures, reloads: &Reloads) -> String {
        let mut page = Page::default();
        let build = labels(&label("version", &self.build.version), &label("driver", &self.build.driver));
        page.add("fanwire_build_info", Kind::Gauge, "Always 1; the labels say what is running.", &build, 1.0);
        page.add(
            "fanwire_ready",
            Kind::Gauge,
            "1 while /readyz answers 200.",
            "",
            f64::from(u8::from(ready)),
        );
        page.add(
            "fanwire_shards",
            Kind::Gauge,
            "Threads that carry connections.",
            "",
            self.shards.len() as f64,
        );
        for (index, shard) in self.shards.iter().enumerate() {
            collect_shard(&mut page, &label("shard", &index.to_string()), shard);
        }
        let dropped = (self.log_lines_dropped)() as f64;
        let help = "Log lines dropped because standard error was too slow.";
        page.add("fanwire_log_lines_dropped_total", Kind::Counter, help, "", dropped);
        collect_memory(&mut page, memory);
        collect_kept(&mut page, (self.kept)());
        reloads.collect(&mut page);
        collect_logins(&mut page, &self.logins);
        self.api.collect(&mut page);
        collect_certificates(&mut page, &(self.certificates)());
        self.bridges.collect(&mut page);
        self.resp.collect(&mut page);
        self.ticks.collect(&mut page);
        self.meta.collect(&mut page);
        self.queues.collect(&mut page);
        self.hooks.iter().for_each(|(name, figures)| figures.collect(&mut page, name));
        self.lua.iter().for_each(|(name, figures)| figures.collect(name, &mut page));
        self.process.collect(&mut page);
        page.finish()
    }
}

fn collect_memory(page: &mut Page, memory: &MemoryFigures) {
    let usage = memory.usage();
    let mut gauge = |name: &str, help: &str, value: f64| page.add(name, Kind::Gauge, help, "", value);
    gauge("fanwire_memory_budget_bytes", "Memory that may be used.", usage.budget as f64);
    gauge("fanwire_memory_used_bytes", "Memory that counts against it.", usage.used as f64);
    let help = "What is done about it: 0 nothing, 1 spare buffers are freed, 2 new clients are refused, 3 slow ones are cut.";
    gauge("fanwire_memory_level", help, f64::from(memory.level()));
}

fn collect_kept(page: &mut Page, (usage, history, cookies): (RetainedUsage, HistoryUsage, CookieUsage)) {
    let help = "Retained events of all realms.";
    page.add("fanwire_retained_events", Kind::Gauge, help, "", usage.events as f64);
    let help = "Bytes of retained events, with their topics, lists of receivers and overhead.";
    page.add("fanwire_retained_bytes", Kind::Gauge, help, "", usage.bytes as f64);
    let help = "Publications in the histories of topics.";
    page.add("fanwire_history_events", Kind::Gauge, help, "", history.events as f64);
    let help = "Bytes of these, with their topics, lists of receivers and overhead.";
    page.add("fanwire_history_bytes", Kind::Gauge, help, "", history.bytes as f64);
    let help = "Logins that are remembered by a cookie.";
    page.add("fanwire_cookie_logins", Kind::Gauge, help, "", cookies.logins as f64);
    let help = "Bytes of these, with 512 for each.";
    page.add("fanwire_cookie_login_bytes", Kind::Gauge, help, "", cookies.bytes as f64);
    let help = "Logins that were forgotten before their time, because their bytes were needed.";
    page.add("fanwire_cookie_logins_displaced_total", Kind::Counter, help, "", cookies.displaced as f64);
}

fn collect_logins(page: &mut Page, logins: &LoginFigures) {
    let help = "Logins that wait for a key derivation.";
    page.add("fanwire_logins_waiting", Kind::Gauge, help, "", logins.waiting() as f64);
    let help = "Key derivations of logins, for users that exist and for others.";
    let count = logins.derivations() as f64;
    page.add("fanwire_login_derivations_total", Kind::Counter, help, "", count);
    let help = "Time that the key derivations of logins took, of each its own.";
    let time = logins.derivation_time().as_secs_f64();
    page.add("fanwire_login_derivation_seconds_total", Kind::Counter, help, "", time);
}

fn collect_certificates(page: &mut Page, ends: &[CertificateEnd]) {
    let name = "fanwire_tls_certificate_expiry_timestamp_seconds";
    let help = "When a certificate ends, in seconds since 1970.";
    page.declare(name, Kind::Gauge, help);
    for end in ends {
        let labels = labels(&label("listener", &end.listener.to_string()), &label("file", &end.file));
        page.add(name, Kind::Gauge, help, &labels, end.at as f64);
    }
}

fn collect_shard(page: &mut Page, shard: &str, counters: &ShardCounters) {
    counters.each(|metric, value| {
        let (name, value) = exported(metric, value);
        let kind = match metric.kind {
            counters::Kind::Counter => Kind::Counter,
            counters::Kind::Gauge => Kind::Gauge,
        };
        page.add(&name, kind, metric.help, &labels(shard, metric.labels), value);
    });
    let bounds = TURN_BOUNDS.map(|bound| bound.as_secs_f64());
    let counts: Vec<u64> = counters.turns.iter().map(Count::get).collect();
    let busy = seconds(counters.busy_nanos.get());
    let help = "Turns of the shard's loop by duration; the sum is the time that the shard was busy.";
    page.histogram("fanwire_turn_seconds", help, shard, &bounds, &counts, busy);
}

/// Name and value as Prometheus wants them: base units, counters end in `_total`.
fn exported(metric: &counters::Metric, value: u64) -> (String, f64) {
    let (name, value) = match metric.name.strip_suffix("_nanoseconds") {
        Some(name) => (format!("{name}_seconds"), seconds(value)),
        None => (metric.name.to_owned(), value as f64),
    };
    let total = if metric.kind == counters::Kind::Counter { "_total" } else { "" };
    (format!("{PREFIX}{name}{total}"), value)
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
