//! Hooks: programs of the operator's that are asked, or told, by HTTP.
//!
//! ```text
//! shards ─Question─▶ queue of the hook ─▶ known already? joins an equal one? is the hook down? ─▶ POST ─▶ Verdict ─▶ shard
//!            └ full: answered at once, as `on_failure` says
//! ```
//!
//! A hook is slow, or down, or answers nonsense, and nobody but who waits for its answer may notice. So each hook has its
//! own queue and its own number of requests at once, and all of them have a thread of their own, where looking up a host's
//! name blocks nobody's login. What comes from a hook is bounded in time and bytes; no redirect is followed, no proxy is
//! used, and the URL is the configuration's, whatever a client says.
//!
//! Read [`desk`] and `ask` here, then `message` for what is asked and `reply` for what is understood.

mod breaker;
mod client;
mod figures;
mod memory;
mod message;
mod probe;
mod reply;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::CoreConfig;
use fanwire_core::hooks::HookEvent;
use fanwire_core::ids::ShardId;
use fanwire_core::question::{Denial, Grant, Question, Verdict};
pub use hyper::http::{HeaderName, HeaderValue};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::Shards;
use breaker::Breaker;
use client::Client;
pub use client::{HookUrl, TlsError};
pub use figures::HookFigures;
use figures::Outcome;
use memory::{Key, Memory};
pub use message::BodyForm;
pub use probe::{Decision, Probe, Sample, probe, run};
pub use reply::Failure;
use reply::Reply;

/// One hook, as configured.
#[derive(Clone, Debug)]
pub struct HookConfig {
    /// Its name, for metrics and the log.
    pub name: String,
    /// Where it is.
    pub url: HookUrl,
    /// What it is asked about.
    pub events: Vec<HookEvent>,
    /// How it is asked.
    pub body: BodyForm,
    /// Sent with each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long a question may wait for its turn, and then a request for its reply.
    pub timeout: Duration,
    /// Requests at once.
    pub max_in_flight: usize,
    /// Questions that may wait for their turn; further ones fail at once.
    pub queue: usize,
    /// How long an answer holds for equal questions; zero: it does not.
    pub cache: Duration,
    /// What a failure counts as, but for logins.
    pub allow_on_failure: bool,
    /// Role of who is let in where the reply names none.
    pub role: Option<String>,
}

impl HookConfig {
    /// What a question is answered with if the hook cannot be asked. Logins fail closed, whatever is configured.
    fn on_failure(&self, event: HookEvent, denial: Denial) -> Result<Grant, Denial> {
        if self.allow_on_failure && event != HookEvent::Authenticate {
            Ok(Grant::default())
        } else {
            Err(denial)
        }
    }
}

/// Where shards put what hooks are to decide.
#[derive(Clone, Debug)]
pub struct HookQueue(Arc<[Line]>);

#[derive(Debug)]
struct Line {
    config: Arc<HookConfig>,
    figures: Arc<HookFigures>,
    sender: mpsc::Sender<Queued>,
}

#[derive(Debug)]
struct Queued {
    shard: ShardId,
    question: Question,
    since: Instant,
}

impl HookQueue {
    /// Queues a question that names a hook. Never blocks.
    ///
    /// # Errors
    ///
    /// The verdict, if there is no room.
    pub fn submit(&self, from: ShardId, question: Question) -> Result<(), Verdict> {
        let line = &self.0[question.hook.expect("the question is for a hook").index()];
        let event = question.subject.event();
        let queued = Queued { shard: from, question, since: Instant::now() };
        line.sender.try_send(queued).map_err(|error| {
            line.figures.count(event, Outcome::Busy);
            error.into_inner().question.verdict(line.config.on_failure(event, Denial::Busy))
        })
    }
}

/// Takes questions from the queues and answers them, on a thread of its own.
#[derive(Debug)]
pub struct HookDesk {
    core: Arc<ArcSwap<CoreConfig>>,
    client: Client,
    hooks: Vec<(Arc<HookConfig>, Arc<HookFigures>, mpsc::Receiver<Queued>)>,
}

/// A desk for these hooks, in the order of their [`HookId`](fanwire_core::hooks::HookId)s, and the queue in front of it. `core`
/// has the names of realms and roles, those of now.
///
/// # Errors
///
/// If a hook is at an `https` address and there is nobody to trust.
pub fn desk(
    hooks: Vec<HookConfig>,
    core: Arc<ArcSwap<CoreConfig>>,
) -> Result<(HookQueue, HookDesk), TlsError> {
    let client = Client::new(&hooks)?;
    let (mut lines, mut desks) = (Vec::new(), Vec::new());
    for config in hooks {
        let (sender, receiver) = mpsc::channel(config.queue.max(1));
        let figures = Arc::new(HookFigures::new(&config.events));
        let config = Arc::new(config);
        desks.push((Arc::clone(&config), Arc::clone(&figures), receiver));
        lines.push(Line { config, figures, sender });
    }
    Ok((HookQueue(lines.into()), HookDesk { core, client, hooks: desks }))
}

/// The desk's thread.
#[derive(Debug)]
pub(crate) struct HookThread(sync::Receiver<()>);

impl HookThread {
    /// Waits until what was queued is told, for a while: by now no shard queues more.
    pub(crate) fn finish(self) {
        _ = self.0.recv_timeout(FINISH_TIME);
    }
}

/// A stop should not take long, and a hook that is down should not make it.
const FINISH_TIME: Duration = Duration::from_secs(2);

impl HookDesk {
    /// What the metrics page reads, by the names of the hooks.
    pub fn figures(&self) -> Vec<(String, Arc<HookFigures>)> {
        self.hooks.iter().map(|(config, figures, _)| (config.name.clone(), Arc::clone(figures))).collect()
    }

    /// Starts the thread, which ends when the shards have.
    pub(crate) fn start(self, shards: Arc<dyn Shards>) -> std::io::Result<HookThread> {
        // The blocking threads look up host names, and nothing else.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("fanwire-lookup")
            .max_blocking_threads(LOOKUPS_AT_ONCE)
            .build()?;
        let (ended, end) = sync::sync_channel(1);
        std::thread::Builder::new().name("fanwire-hooks".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let hooks = self.hooks.into_iter().map(|(config, figures, receiver)| {
                    let hook = Hook {
                        breaker: RefCell::new(Breaker::default()),
                        memory: RefCell::new(Memory::new(config.cache)),
                        in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
                        core: Arc::clone(&self.core),
                        client: self.client.clone(),
                        shards: Arc::clone(&shards),
                        config,
                        figures,
                    };
                    tokio::task::spawn_local(Rc::new(hook).run(receiver))
                });
                for hook in hooks.collect::<Vec<_>>() {
                    _ = hook.await;
                }
            });
            _ = ended.send(());
            runtime.shutdown_background();
        })?;
        Ok(HookThread(end))
    }
}

/// Threads that wait for name servers.
const LOOKUPS_AT_ONCE: usize = 4;

/// One hook at work.
struct Hook {
    config: Arc<HookConfig>,
    core: Arc<ArcSwap<CoreConfig>>,
    client: Client,
    shards: Arc<dyn Shards>,
    figures: Arc<HookFigures>,
    breaker: RefCell<Breaker>,
    memory: RefCell<Memory<Queued>>,
    in_flight: Arc<Semaphore>,
}

impl Hook {
    /// Until all shards have ended and everything is answered.
    async fn run(self: Rc<Self>, mut questions: mpsc::Receiver<Queued>) {
        while let Some(queued) = questions.recv().await {
            let Some((queued, key)) = self.answer_at_once(queued) else { continue };
            let permit = Arc::clone(&self.in_flight).acquire_owned().await.expect("it is never closed");
            if queued.since.elapsed() > self.config.timeout && !is_told(&queued.question) {
                self.fail(queued, Outcome::Busy, Denial::Busy);
                continue;
            }
            if let Some(key) = key {
                self.memory.borrow_mut().begin(key);
            }
            let hook = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                hook.ask(queued, key).await;
                drop(permit);
            });
        }
        // All permits are back when all requests are done.
        _ = self.in_flight.acquire_many(u32::try_from(self.config.max_in_flight).unwrap_or(u32::MAX)).await;
    }

    /// Answers what needs no request; gives back the rest, with what equal questions are known by.
    fn answer_at_once(&self, queued: Queued) -> Option<(Queued, Option<Key>)> {
        let question = &queued.question;
        let event = question.subject.event();
        if !question.is_wanted() && !is_told(question) {
            self.figures.count(event, Outcome::Abandoned);
            return None;
        }
        let key = Key::of(question);
        let mut memory = self.memory.borrow_mut();
        let (queued, key) = match key {
            None => (queued, None),
            Some(key) => {
                if let Some(reply) = memory.find(&key, Instant::now()) {
                    let reply = reply.clone();
                    drop(memory);
                    self.figures.count(event, Outcome::Cached);
                    self.give_verdict(&queued, reply.outcome());
                    return None;
                }
                match memory.join(&key, queued) {
                    Ok(()) => {
                        self.figures.count(event, Outcome::Coalesced);
                        return None;
                    }
                    Err(queued) => (queued, Some(key)),
                }
            }
        };
        drop(memory);
        if !self.breaker.borrow_mut().admits(Instant::now()) {
            self.fail(queued, Outcome::BreakerOpen, Denial::Unavailable);
            return None;
        }
        Some((queued, key))
    }

    /// One request, whose answer is also that of all equal questions which came meanwhile.
    async fn ask(self: Rc<Self>, queued: Queued, key: Option<Key>) {
        let (event, queued) = (queued.question.subject.event(), Rc::new(queued));
        let began = Instant::now();
        self.figures.begin();
        let exchange = tokio::task::spawn_local(Rc::clone(&self).exchange(Rc::clone(&queued)));
        // A panic is a bug of ours, and must not leave those waiting who ask the same.
        let panicked = |_| Err(Failure::Invalid("the router panicked over it".to_owned()));
        let outcome = exchange.await.unwrap_or_else(panicked);
        self.figures.end(began.elapsed());
        self.figures.count(event, Outcome::of(&outcome));
        self.note(&outcome);
        let now = Instant::now();
        let joined = key.map(|key| self.memory.borrow_mut().end(key, outcome.as_ref().ok(), now));
        for queued in std::iter::once(&*queued).chain(joined.iter().flatten()) {
            match &outcome {
                Ok(reply) => self.give_verdict(queued, reply.outcome()),
                Err(_) => self.give_verdict(queued, self.config.on_failure(event, Denial::Unavailable)),
            }
        }
    }

    async fn exchange(self: Rc<Self>, queued: Rc<Queued>) -> Result<Reply, Failure> {
        let message = message::Message::of(&queued.question, &self.core.load().access);
        let received = self.client.ask(&self.config, &message).await?;
        let core = self.core.load();
        Reply::understand(&received, &queued.question, &core.access, self.config.role.as_deref())
    }

    /// For the breaker, and for the log when things change.
    fn note(&self, outcome: &Result<Reply, Failure>) {
        let mut breaker = self.breaker.borrow_mut();
        let was_open = breaker.is_open();
        breaker.note(outcome.is_ok(), Instant::now());
        self.figures.set_open(breaker.is_open());
        let (hook, url) = (&self.config.name, &self.config.url);
        match outcome {
            Err(failure) if breaker.is_open() && !was_open => {
                tracing::warn!(hook, %url, %failure, "the hook fails, and is tried once a second from now on");
            }
            Err(failure) => tracing::debug!(hook, %url, %failure, "the hook failed"),
            Ok(_) if was_open && !breaker.is_open() => tracing::info!(hook, %url, "the hook answers again"),
            Ok(_) => {}
        }
    }

    /// No request is made for it.
    fn fail(&self, queued: Queued, outcome: Outcome, denial: Denial) {
        let event = queued.question.subject.event();
        self.figures.count(event, outcome);
        self.give_verdict(&queued, self.config.on_failure(event, denial));
    }

    fn give_verdict(&self, queued: &Queued, outcome: Result<Grant, Denial>) {
        if is_told(&queued.question) {
            return;
        }
        let shard = queued.shard;
        if let Err(verdict) = self.shards.answer(shard, queued.question.verdict(outcome)) {
            // Its mailbox is full for a moment.
            let shards = Arc::clone(&self.shards);
            tokio::task::spawn_local(async move { crate::login::answer(&*shards, shard, verdict).await });
        }
    }
}

/// Whether nobody waits for an answer anyway.
fn is_told(question: &Question) -> bool {
    question.subject.event() == HookEvent::Disconnect
}
