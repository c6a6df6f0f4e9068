//! Lua handlers: scripts that decide on what happens to the connections of an endpoint.
//!
//! ```text
//! shards ─Question─▶ line of a thread ─▶ connection's turn ─▶ VM ⇄ (HTTP, orders, publications) ─▶ Verdict with orders ─▶ shard
//!            └ no room: refused at once                        └ error, budget, time: refused, logged with file and line
//! ```
//!
//! Scripts run on threads of their own, some for each handler, and never on a shard's: a budget of instructions ends a loop in Lua,
//! but nothing ends a call into Lua's own library, and a shard that waited for one would hold up thousands of connections of other
//! endpoints. The price is a message to a thread and back. A connection has one thread for its life, by its shard; threads share
//! nothing but the script's text, so no lock is held while a script runs.
//!
//! A connection's events are one after another, since its shard does not read it meanwhile; what a script says of it comes in the
//! order in which it says so. What an event that fails wanted to say since it last waited is not said.
//!
//! The *keeper* looks at files now and then, and replaces a thread that hangs; what each thread has is its *tenure*. Read [`desk`], then
//! `worker` and `vm`.

mod context;
mod event;
mod figures;
mod http;
mod json;
mod keeper;
mod library;
mod pattern;
mod script;
mod strings;
mod tenure;
mod vm;
mod worker;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, mpsc as sync};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use fanwire_core::api::Actor;
use fanwire_core::handled::Happening;
use fanwire_core::ids::ShardId;
use fanwire_core::question::{Denial, Question, Subject, Verdict};
use tokio::sync::mpsc;

use crate::Shards;
use crate::queues::Queues;
pub use figures::LuaFigures;
use figures::Outcome;
use keeper::Keeper;
pub use script::{Script, ScriptError};
use tenure::{Tenure, Waiting};
use worker::Worker;

/// Bounds of one handler.
#[derive(Clone, Debug, PartialEq)]
pub struct LuaLimits {
    /// Threads, each with a VM.
    pub threads: usize,
    /// Lua instructions of one event.
    pub instructions: u64,
    /// Bytes of one VM.
    pub memory: usize,
    /// How long one event may take with all that it waits for.
    pub time: Duration,
    /// Events of one thread that wait or are under way.
    pub events_max: usize,
    /// Requests by HTTP at once, of all threads.
    pub http_max: u64,
    /// How long a request by HTTP may take.
    pub http_timeout: Duration,
}

impl Default for LuaLimits {
    fn default() -> Self {
        Self {
            threads: 1,
            instructions: 1_000_000,
            memory: 64 << 20,
            time: Duration::from_secs(10),
            events_max: 10_000,
            http_max: 256,
            http_timeout: Duration::from_secs(5),
        }
    }
}

/// A handler, as configured.
#[derive(Clone, Debug)]
pub struct LuaConfig {
    /// The path of its endpoint: its name in metrics and in the log.
    pub name: String,
    /// What it runs.
    pub script: Script,
    /// As whom it publishes.
    pub actor: Actor,
    /// Its bounds.
    pub limits: LuaLimits,
    /// What scripts find with `mix.server.option`.
    pub options: BTreeMap<String, String>,
}

/// What scripts of one handler share with the router.
#[derive(Clone, Debug)]
struct Surroundings {
    handler: Arc<str>,
    options: Arc<BTreeMap<String, String>>,
    queues: Queues,
    /// A script that is only checked logs nothing.
    is_silent: bool,
}

impl Surroundings {
    fn nowhere(options: &BTreeMap<String, String>) -> Self {
        let (options, queues) = (Arc::new(options.clone()), Queues::default());
        Self { handler: "".into(), options, queues, is_silent: true }
    }
}

/// A handler at work.
#[derive(Debug)]
struct Handler {
    name: Arc<str>,
    actor: Actor,
    limits: LuaLimits,
    surroundings: Surroundings,
    script: ArcSwap<Script>,
    figures: Arc<LuaFigures>,
    lines: Vec<Arc<Line>>,
}

/// One thread's queue, and what the keeper knows of the thread.
#[derive(Debug)]
struct Line {
    receiver: Mutex<mpsc::UnboundedReceiver<Queued>>,
    /// Of the thread that it has.
    tenure: ArcSwap<Tenure>,
    /// A script that its VM could not load.
    refused: ArcSwapOption<Script>,
}

/// Something for a thread.
#[derive(Debug)]
struct Queued {
    shard: ShardId,
    question: Question,
    /// None: it is let in in any case.
    _place: Option<Waiting>,
}

/// Where shards put what handlers are to decide.
#[derive(Clone, Debug)]
pub struct LuaQueue(Arc<[Door]>);

/// The way to one handler's threads.
#[derive(Debug)]
struct Door {
    handler: Arc<Handler>,
    senders: Vec<mpsc::UnboundedSender<Queued>>,
}

impl LuaQueue {
    /// Queues a question that names a handler. Never blocks.
    ///
    /// # Errors
    ///
    /// The verdict, if there is no room.
    pub fn submit(&self, from: ShardId, question: Question) -> Result<(), Verdict> {
        let handler = question.handler.expect("the question is for a handler");
        let Door { handler, senders } = &self.0[usize::from(handler.0)];
        let thread = usize::from(from.get()) % senders.len();
        let Subject::Handled { happening, .. } = &question.subject else {
            return Err(question.verdict(Err(Denial::Failed)));
        };
        let mut place = None;
        // There are no more ends than connections, and a lost one would be remembered forever.
        if !matches!(happening, Happening::Ends) {
            let tenure = handler.lines[thread].tenure.load();
            if !tenure.is_stuck() {
                place = tenure.wait(happening.bytes(), handler.limits.events_max);
            }
            if place.is_none() {
                handler.figures.count(Outcome::Busy);
                let is_told = matches!(happening, Happening::Told(_));
                return if is_told { Ok(()) } else { Err(question.verdict(Err(Denial::Busy))) };
            }
        }
        senders[thread].send(Queued { shard: from, question, _place: place }).map_err(|error| {
            handler.figures.count(Outcome::Panic);
            error.0.question.verdict(Err(Denial::Failed))
        })
    }
}

/// Runs the handlers, on threads of their own.
#[derive(Debug)]
pub struct LuaDesk(Vec<Arc<Handler>>);

/// The scripts in use, to be replaced. Clones are the same.
#[derive(Clone, Debug)]
pub struct LuaScripts(Vec<Arc<Handler>>);

/// A desk for these handlers, in the order of their [`HandlerId`](fanwire_core::handled::HandlerId)s, and the queue in front of it.
pub fn desk(handlers: Vec<LuaConfig>, queues: &Queues) -> (LuaQueue, LuaDesk) {
    let (mut queue, mut desk) = (Vec::new(), Vec::new());
    for config in handlers {
        let name: Arc<str> = config.name.into();
        let (mut senders, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..config.limits.threads.max(1) {
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.push(sender);
            lines.push(Arc::new(Line::new(receiver)));
        }
        let surroundings = Surroundings {
            handler: Arc::clone(&name),
            options: Arc::new(config.options),
            queues: queues.clone(),
            is_silent: false,
        };
        let handler = Arc::new(Handler {
            name,
            actor: config.actor,
            limits: config.limits,
            surroundings,
            script: ArcSwap::from_pointee(config.script),
            figures: Arc::default(),
            lines,
        });
        queue.push(Door { handler: Arc::clone(&handler), senders });
        desk.push(handler);
    }
    (LuaQueue(queue.into()), LuaDesk(desk))
}

impl Line {
    fn new(receiver: mpsc::UnboundedReceiver<Queued>) -> Self {
        Self {
            receiver: Mutex::new(receiver),
            tenure: ArcSwap::from_pointee(Tenure::over()),
            refused: ArcSwapOption::empty(),
        }
    }

    /// Whether nothing can come any more.
    fn is_closed(&self) -> bool {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).is_closed()
    }
}

impl LuaScripts {
    /// The handler of this name goes by another script from its next event on.
    pub fn replace(&self, name: &str, script: Script) {
        if let Some(handler) = self.0.iter().find(|handler| *handler.name == *name) {
            handler.use_script(script);
        }
    }
}

impl Handler {
    fn use_script(&self, script: Script) {
        if **self.script.load() != script {
            tracing::info!(handler = &*self.name, file = %script.path.display(), "the script is used from now on");
            self.figures.count_load(true);
            self.script.store(Arc::new(script));
        }
    }

    /// How long a thread may be in Lua without an end: longer than the hook lets anything of Lua's run.
    fn hang_time(&self) -> Duration {
        HANG_TIME + self.limits.lua_time()
    }
}

impl LuaLimits {
    /// How long Lua may run in one go: far longer than the instructions need, also on a slow machine, without optimisation, while
    /// others have its cores.
    fn lua_time(&self) -> Duration {
        let needed = Duration::from_millis(self.instructions / INSTRUCTIONS_PER_MILLISECOND);
        needed.min(self.time).max(LUA_TIME_MIN)
    }
}

/// What a call into Lua's library may take beyond that.
const HANG_TIME: Duration = Duration::from_secs(5);
const LUA_TIME_MIN: Duration = Duration::from_secs(2);
const INSTRUCTIONS_PER_MILLISECOND: u64 = 1_000;

/// The desk's threads.
#[derive(Debug)]
pub(crate) struct LuaThreads {
    stop: sync::Sender<()>,
    handlers: Vec<Arc<Handler>>,
}

impl LuaThreads {
    /// Waits until what was queued is done, for a while: by now no shard queues more.
    #[allow(clippy::disallowed_methods, reason = "no shard is left that could be held up")]
    pub(crate) fn finish(self) {
        drop(self.stop);
        let lines = || self.handlers.iter().flat_map(|handler| &handler.lines);
        for _ in 0..FINISH_LOOKS {
            if lines().all(|line| !line.tenure.load().is_alive()) {
                return;
            }
            std::thread::sleep(FINISH_INTERVAL);
        }
    }
}

/// Two seconds in all.
const FINISH_LOOKS: u32 = 400;
const FINISH_INTERVAL: Duration = Duration::from_millis(5);

impl LuaDesk {
    /// What the metrics page reads, by the names of the handlers.
    pub fn figures(&self) -> Vec<(String, Arc<LuaFigures>)> {
        self.0.iter().map(|handler| (handler.name.to_string(), Arc::clone(&handler.figures))).collect()
    }

    /// Where newer scripts are put.
    pub fn scripts(&self) -> LuaScripts {
        LuaScripts(self.0.clone())
    }

    /// Starts the threads, which end when the shards have, and the keeper.
    pub(crate) fn start(self, shards: Arc<dyn Shards>) -> std::io::Result<LuaThreads> {
        for handler in &self.0 {
            for line in &handler.lines {
                start_thread(handler, line, &shards)?;
            }
        }
        let (stop, stopped) = sync::channel::<()>();
        let handlers = self.0.clone();
        std::thread::Builder::new().name("fanwire-lua-keep".into()).spawn(move || {
            let mut keepers: Vec<Keeper> = self.0.into_iter().map(Keeper::new).collect();
            while stopped.recv_timeout(KEEPER_INTERVAL) == Err(sync::RecvTimeoutError::Timeout) {
                for keeper in &mut keepers {
                    // What goes wrong with one of them must not end the care for the others.
                    if catch_unwind(AssertUnwindSafe(|| keeper.look(&shards))).is_err() {
                        tracing::error!("a bug: the keeper of a Lua handler panicked");
                    }
                }
            }
        })?;
        Ok(LuaThreads { stop, handlers })
    }
}

const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a thread for a line, which is given a tenure of its own.
fn start_thread(handler: &Arc<Handler>, line: &Arc<Line>, shards: &Arc<dyn Shards>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS_MAX)
        .build()?;
    let tenure = Arc::new(Tenure::new());
    let (handler, shards, line) = (Arc::clone(handler), Arc::clone(shards), Arc::clone(line));
    handler.figures.add(&tenure);
    line.tenure.store(Arc::clone(&tenure));
    let of_thread = Arc::clone(&tenure);
    let spawned = std::thread::Builder::new().name("fanwire-lua".into()).spawn(move || {
        let _alive = of_thread.begin();
        let local = tokio::task::LocalSet::new();
        let worker = Worker::new(handler, line, of_thread, shards);
        local.block_on(&runtime, async move { Rc::new(worker).run().await });
        drop(local);
        runtime.shutdown_background();
    });
    spawned.map(drop).inspect_err(|_| tenure.end())
}

/// Threads that wait for name servers.
const LOOKUPS_MAX: usize = 4;
