//! Everything slow or operator-facing, on one thread of its own with tokio: the admin port, the HTTP API and the signals.
//!
//! ```text
//! SIGTERM, SIGINT ──▶ ┌─────────┐ ──drain, then stop_now──▶ shards
//! SIGHUP ───────────▶ │         │ ──new settings──────────▶ shards
//! GET /readyz ──────▶ │ control │ ◀──counters, lock-free─── shards
//! GET /metrics ─────▶ │         │ ◀──login requests──────── shards
//! key derivations ◀─▶ │         │ ──verdicts──────────────▶ shards
//! meta procedures ◀─▶ │         │ ◀──calls, verdicts──────▶ shards
//! hooks, by HTTP ◀──▶ a thread of its own ◀──questions, verdicts──▶ shards
//! Lua handlers ◀─────▶ threads of their own ◀─questions, verdicts──▶ shards
//! /v1/… ◀───────────▶ └─────────┘ ◀──API requests, answers▶ shards
//! ```
//!
//! Nothing here is ever on the way of a session's message, but where a hook is to decide on it; and no shard waits for it.
//! Read [`start`], then [`login`], [`hooks`], [`api`], [`meta`],
//! [`reload`] and [`metrics`].

pub mod admin;
pub mod api;
pub mod bridge;
mod calendar;
pub mod connections;
mod early;
pub mod hooks;
mod inner;
pub mod login;
pub mod lua;
pub mod memory;
pub mod meta;
pub mod metrics;
pub mod page;
pub mod process;
pub mod queues;
pub mod reload;
pub mod resp;
mod sessions;
mod signals;
pub mod slow;
pub mod state;
pub mod tick;

pub use early::Early;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::CoreConfig;
use fanwire_core::api::ApiRequest;
use fanwire_core::directory::Directory;
use fanwire_core::ids::ShardId;
use fanwire_core::question::Verdict;
use tokio::sync::{oneshot, watch};

use crate::admin::Admin;
use crate::api::{Api, ApiDesk};
use crate::connections::Connections;
use crate::hooks::{HookDesk, HookThread};
use crate::login::LoginDesk;
use crate::lua::{LuaDesk, LuaThreads};
use crate::memory::{MemoryFigures, MemoryWatch};
use crate::meta::MetaDesk;
use crate::metrics::Metrics;
use crate::reload::Reloads;
use crate::resp::RespDesk;
use crate::slow::SlowList;
use crate::state::{Readiness, Reason};
use crate::tick::TickDesk;

/// What the control thread may tell the shards.
pub trait Shards: Send + Sync + 'static {
    /// Tell all sessions goodbye, spread over the drain time, then end.
    fn drain(&self);
    /// End now.
    fn stop_now(&self);
    /// Reads the configuration again and lets it act, or only says what would. Takes its time.
    fn reload(&self, check_only: bool) -> reload::Outcome;
    /// Answers a question; gives the verdict back while the shard has no room for it.
    fn answer(&self, shard: ShardId, verdict: Verdict) -> Result<(), Verdict>;
    /// How many there are.
    fn count(&self) -> usize;
    /// Asks a shard; gives the request back while the shard has no room for it.
    fn ask(&self, shard: ShardId, request: ApiRequest) -> Result<(), ApiRequest>;
    /// What the shards share.
    fn directory(&self) -> &Directory;
}

/// The running control thread.
#[derive(Debug)]
pub struct Control {
    /// Where the admin port is.
    pub admin_address: Option<SocketAddr>,
    /// Where the port for clients of Redis is.
    pub resp_address: Option<SocketAddr>,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    hooks: Option<HookThread>,
    lua: Option<LuaThreads>,
}

impl Control {
    /// Ends the thread and waits for it.
    pub fn stop(self) {
        self.readiness.end(Reason::Stopped);
        // If the thread is gone already, nobody listens, and that is as good.
        _ = self.stop.send(());
        _ = self.thread.join();
        self.hooks.into_iter().for_each(HookThread::finish);
        self.lua.into_iter().for_each(LuaThreads::finish);
    }
}

/// Why the control thread did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its thread or runtime could not be made, or signals could not be taken.
    #[error("the control thread cannot start: {0}")]
    Thread(#[from] io::Error),
}

/// Where requests of clients and of shards are worked off.
pub struct Desks {
    /// Logins of users of the configuration.
    pub logins: LoginDesk,
    /// The HTTP API; without it nothing serves what shards hand over.
    pub api: Option<ApiDesk>,
    /// Hooks; without it there must be none that shards ask.
    pub hooks: Option<HookDesk>,
    /// Lua handlers; without it there must be none that shards ask.
    pub lua: Option<LuaDesk>,
    /// WAMP's meta procedures; without it nobody answers them.
    pub meta: Option<MetaDesk>,
    /// The port for clients of Redis.
    pub resp: Option<RespDesk>,
    /// What is published by itself.
    pub ticks: Option<TickDesk>,
}

/// Starts the thread, which goes on with what is `early`. When this returns, signals are handled and the admin port answers.
///
/// The admin port is bound by the caller, so that a port in use is found before any shard runs.
pub fn start(
    early: Early,
    admin: Option<TcpListener>,
    shards: impl Shards,
    metrics: Metrics,
    desks: Desks,
    core: Arc<ArcSwap<CoreConfig>>,
    memory: MemoryWatch,
) -> Result<Control, StartError> {
    let Desks { logins, api, hooks, lua, meta, resp, ticks } = desks;
    let shards = Arc::new(shards);
    let asks = |desk: HookDesk| desk.start(Arc::clone(&shards) as Arc<dyn Shards>);
    let hooks = hooks.map(asks).transpose()?;
    let lua = lua.map(|desk| desk.start(Arc::clone(&shards) as Arc<dyn Shards>)).transpose()?;
    let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let resp_address = resp.as_ref().map(RespDesk::address).transpose()?;
    let readiness = Arc::new(Readiness::default());
    let connections = Connections::new(Arc::clone(&shards) as Arc<dyn Shards>, Arc::clone(&core));
    let slow = SlowList::new(Arc::clone(&shards) as Arc<dyn Shards>, Arc::clone(&core));
    let figures = Arc::new(MemoryFigures::default());
    let reloads = Arc::new(Reloads::new(Arc::clone(&shards) as Arc<dyn Shards>, Arc::clone(&readiness)));
    let state = Arc::new(Admin {
        metrics,
        readiness: Arc::clone(&readiness),
        slow,
        connections,
        memory: Arc::clone(&figures),
        reloads,
    });
    let Early { runtime, running, bridges } = early;
    let (stop, stopped) = oneshot::channel();
    let (started, start) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("fanwire-control".into()).spawn(move || {
        runtime.block_on(async move {
            let resp = resp.map(RespDesk::into_listening).transpose();
            let result = resp.and_then(|resp| Ok((prepare(admin, Arc::clone(&state))?, resp)));
            let (signals, resp) = match result {
                Ok(prepared) => {
                    _ = started.send(Ok(()));
                    prepared
                }
                Err(error) => {
                    _ = started.send(Err(error));
                    return;
                }
            };
            tokio::spawn(logins.run(Arc::clone(&shards)));
            if let Some(desk) = api {
                let shards = Arc::clone(&shards) as Arc<dyn Shards>;
                let (readiness, reloads) = (Arc::clone(&state.readiness), Arc::clone(&state.reloads));
                tokio::spawn(Api::run(desk, shards, readiness, reloads));
            }
            if let Some(desk) = meta {
                desk.start(&(Arc::clone(&shards) as Arc<dyn Shards>), &core);
            }
            let (over, is_over) = watch::channel(false);
            let mut resp_left = None;
            if let Some(listening) = resp {
                resp_left = Some(listening.left());
                let (shards, memory) = (Arc::clone(&shards) as Arc<dyn Shards>, Arc::clone(&figures));
                tokio::spawn(resp::serve(listening, shards, Arc::clone(&state.readiness), memory, is_over));
            }
            if let Some(ticks) = ticks {
                tokio::spawn(ticks.run(Arc::clone(&shards) as Arc<dyn Shards>));
            }
            // The bridges go on. Nobody listens if there is none.
            _ = running.send(Some(Arc::clone(&shards) as Arc<dyn Shards>));
            tokio::spawn(memory.run(figures));
            tokio::select! {
                () = signals.handle(&*shards, &state.readiness, &state.reloads) => {}
                _ = stopped => {}
            }
            over.send_replace(true);
            let last_words = async {
                // Publishers were told that it is published.
                bridges.drained().await;
                if let Some(left) = resp_left {
                    left.await;
                }
            };
            _ = tokio::time::timeout(LAST_WORDS_TIME, last_words).await;
        });
        // A derivation that still runs ends with the process.
        runtime.shutdown_background();
    })?;
    start.recv().map_err(|_| io::Error::other("its thread ended"))??;
    Ok(Control { admin_address, resp_address, readiness, stop, thread, hooks, lua })
}

/// A Redis that answers takes milliseconds, and so does a client of the Redis port that reads.
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

fn prepare(admin: Option<TcpListener>, state: Arc<Admin>) -> io::Result<signals::Signals> {
    let signals = signals::Signals::take()?;
    if let Some(listener) = admin {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        // Dropped with the runtime.
        tokio::spawn(admin::serve(listener, state));
    }
    Ok(signals)
}
