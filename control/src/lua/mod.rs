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
//! The *keeper* looks at files now and then, and replaces a thread that hangs. Read [`desk`], then `worker` and `vm`.

mod context;
mod event;
mod figures;
mod http;
mod json;
mod library;
mod script;
mod vm;
mod worker;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc as sync};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use fanwire_core::api::Actor;
use fanwire_core::handled::Happening;
use fanwire_core::ids::ShardId;
use fanwire_core::question::{Denial, Question, Subject, Verdict};
use tokio::sync::mpsc;

use crate::Shards;
use crate::hooks::{Place, Room};
use crate::queues::Queues;
pub use figures::LuaFigures;
use figures::Outcome;
pub use script::{Script, ScriptError};
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
    fn nowhere() -> Self {
        let (options, queues) = (Arc::default(), Queues::default());
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
    room: Arc<Room>,
    receiver: Mutex<mpsc::UnboundedReceiver<Queued>>,
    /// Counts the threads that it has had.
    generation: AtomicU64,
    /// When it began with the Lua that it is in, in milliseconds from 1; 0: it is in none.
    since: AtomicU64,
    started: Instant,
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

/// A place in a line, counted.
#[derive(Debug)]
struct Waiting(#[expect(dead_code, reason = "given back when it is dropped")] Place, Arc<LuaFigures>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.1.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    /// Runs some Lua, which the keeper sees.
    fn timed<T>(&self, run: impl FnOnce() -> T) -> T {
        self.since.store(self.now(), Ordering::Relaxed);
        let result = run();
        self.since.store(0, Ordering::Relaxed);
        result
    }

    #[allow(clippy::disallowed_methods, reason = "how long a thread hangs is real time")]
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }
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
            place = handler.lines[thread].room.enter(happening.bytes(), handler.limits.events_max);
            if place.is_none() {
                handler.figures.count(Outcome::Busy);
                let is_told = matches!(happening, Happening::Told(_));
                return if is_told { Ok(()) } else { Err(question.verdict(Err(Denial::Busy))) };
            }
        }
        let place = place.map(|place| {
            handler.figures.waiting.fetch_add(1, Ordering::Relaxed);
            Waiting(place, Arc::clone(&handler.figures))
        });
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
    #[allow(clippy::disallowed_methods, reason = "how long a thread hangs is real time")]
    fn new(receiver: mpsc::UnboundedReceiver<Queued>) -> Self {
        Self {
            room: Arc::default(),
            receiver: Mutex::new(receiver),
            generation: AtomicU64::new(0),
            since: AtomicU64::new(0),
            started: Instant::now(),
            refused: ArcSwapOption::empty(),
        }
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

    /// How long a thread may be in Lua without an end: far more than its instructions need.
    fn hang_time(&self) -> u64 {
        HANG_TIME.as_millis() as u64 + self.limits.instructions / INSTRUCTIONS_PER_MILLISECOND
    }
}

const HANG_TIME: Duration = Duration::from_secs(5);
/// On a slow machine, without optimisation, while others have its cores.
const INSTRUCTIONS_PER_MILLISECOND: u64 = 1_000;

/// The desk's threads.
#[derive(Debug)]
pub(crate) struct LuaThreads {
    stop: sync::Sender<()>,
    ends: Vec<sync::Receiver<()>>,
}

impl LuaThreads {
    /// Waits until what was queued is done, for a while: by now no shard queues more.
    pub(crate) fn finish(self) {
        drop(self.stop);
        for end in self.ends {
            _ = end.recv_timeout(FINISH_TIME);
        }
    }
}

const FINISH_TIME: Duration = Duration::from_secs(2);

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
        let mut ends = Vec::new();
        for handler in &self.0 {
            for place in 0..handler.lines.len() {
                ends.push(start_thread(handler, place, &shards)?);
            }
        }
        let (stop, stopped) = sync::channel::<()>();
        std::thread::Builder::new().name("fanwire-lua-keep".into()).spawn(move || {
            let mut keepers: Vec<Keeper> = self.0.into_iter().map(Keeper::new).collect();
            while stopped.recv_timeout(KEEPER_INTERVAL) == Err(sync::RecvTimeoutError::Timeout) {
                for keeper in &mut keepers {
                    keeper.look(&shards);
                }
            }
        })?;
        Ok(LuaThreads { stop, ends })
    }
}

const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

fn start_thread(
    handler: &Arc<Handler>,
    place: usize,
    shards: &Arc<dyn Shards>,
) -> std::io::Result<sync::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS_MAX)
        .build()?;
    let (ended, end) = sync::sync_channel(1);
    let (handler, shards) = (Arc::clone(handler), Arc::clone(shards));
    let line = Arc::clone(&handler.lines[place]);
    std::thread::Builder::new().name("fanwire-lua".into()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move { Rc::new(Worker::new(handler, line, shards)).run().await });
        _ = ended.send(());
        drop(local);
        runtime.shutdown_background();
    })?;
    Ok(end)
}

/// Threads that wait for name servers.
const LOOKUPS_MAX: usize = 4;

/// Looks after one handler: its files, and its threads.
struct Keeper {
    handler: Arc<Handler>,
    stamp: script::Stamp,
}

impl Keeper {
    fn new(handler: Arc<Handler>) -> Self {
        let stamp = handler.script.load().stamp();
        Self { handler, stamp }
    }

    fn look(&mut self, shards: &Arc<dyn Shards>) {
        self.look_at_files();
        for place in 0..self.handler.lines.len() {
            self.look_at_thread(place, shards);
        }
    }

    fn look_at_files(&mut self) {
        let script = self.handler.script.load_full();
        let stamp = script.stamp();
        if stamp == self.stamp {
            return;
        }
        match Script::read(&script.path) {
            Ok(newer) => {
                // From before it was read, unless it has other files now: what changes meanwhile is seen the next time.
                self.stamp = if newer.has_the_files_of(&script) { stamp } else { newer.stamp() };
                self.handler.use_script(newer);
            }
            Err(error) => {
                self.stamp = stamp;
                self.handler.figures.count_load(false);
                let handler = &*self.handler.name;
                tracing::error!(
                    handler,
                    "the script was changed and cannot be used; the one before stays: {error}"
                );
            }
        }
    }

    fn look_at_thread(&self, place: usize, shards: &Arc<dyn Shards>) {
        let line = &self.handler.lines[place];
        let since = line.since.load(Ordering::Relaxed);
        if since == 0 || line.now().saturating_sub(since) < self.handler.hang_time() {
            return;
        }
        // What it has begun with is never answered, and has its deadline in the shard.
        line.generation.fetch_add(1, Ordering::AcqRel);
        line.since.store(0, Ordering::Relaxed);
        self.handler.figures.count_hung_thread();
        let handler = &*self.handler.name;
        tracing::error!(
            handler,
            "a call into Lua's library does not end, such as a search by a pattern that goes through everything; \
             another thread goes on, and its connections have to come again"
        );
        if let Err(error) = start_thread(&self.handler, place, shards) {
            tracing::error!(handler, %error, "there is no thread to go on");
        }
    }
}
