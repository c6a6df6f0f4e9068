//! Hooks: programs of the operator's that are asked, or told, by HTTP, or by a call of a procedure that they have registered.
//!
//! ```text
//! shards ─Question─▶ queue of the hook ─▶ known already? joins an equal one? is the hook down? ─▶ POST, or CALL ─▶ Verdict ─▶ shard
//!            └ no room: answered at once, as `on_failure` says
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
mod procedure;
mod reply;
mod room;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_core::CoreConfig;
use fanwire_core::hooks::HookEvent;
use fanwire_core::ids::{RealmId, ShardId};
use fanwire_core::login::{LoginMethod, Proof};
use fanwire_core::question::{Denial, Grant, Question, Subject, Told, Verdict};
pub use hyper::http::{HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::Shards;
use crate::login::dynamic::Likeness;
use crate::login::exchange::asks_for_ticket;
use crate::login::refusals::Refusals;
use breaker::{Breaker, Pass};
pub(crate) use client::{Client, Fetched, fetch};
pub use client::{HookUrl, TlsError};
pub use figures::HookFigures;
use figures::Outcome;
use memory::{Key, Memory};
use message::Message;
pub use message::{BodyForm, FIELDS};
pub use probe::{Decision, Probe, Sample, probe, run};
pub use reply::Failure;
use reply::Reply;
use room::bytes_of;
pub(crate) use room::{Place, Room};

/// One hook, as configured.
#[derive(Clone, Debug)]
pub struct HookConfig {
    /// Its name, for metrics and the log.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// What it is asked about.
    pub events: Vec<HookEvent>,
    /// How it is asked.
    pub body: BodyForm,
    /// The [`FIELDS`] that it is told; empty: all.
    pub fields: Vec<String>,
    /// Sent with each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long a question may wait for its turn, and then a request for its reply.
    pub timeout: Duration,
    /// Requests at once.
    pub max_in_flight: usize,
    /// Questions that may wait for their turn, or for the answer to an equal one; further ones fail at once.
    pub queue: usize,
    /// How long an answer holds for equal questions; zero: it does not. Denials hold for a second at most.
    pub cache: Duration,
    /// What a failure counts as, but for logins.
    pub allow_on_failure: bool,
    /// Role of who is let in where the reply names none.
    pub role: Option<String>,
    /// How clients may log in that it decides on.
    pub methods: Vec<LoginMethod>,
}

/// Where a hook is asked.
#[derive(Clone, Debug)]
pub enum Target {
    /// By HTTP.
    Page(HookUrl),
    /// By a call.
    Procedure {
        /// The realm where it is registered.
        realm: RealmId,
        /// Its URI.
        uri: Box<str>,
    },
}

impl Target {
    /// The address, if there is one.
    pub fn url(&self) -> Option<&HookUrl> {
        match self {
            Self::Page(url) => Some(url),
            Self::Procedure { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(url) => url.fmt(f),
            Self::Procedure { uri, .. } => write!(f, "procedure {uri}"),
        }
    }
}

impl HookConfig {
    /// What a question is answered with if the hook cannot be asked. Logins fail closed, whatever is configured.
    fn on_failure(&self, event: HookEvent, denial: Denial) -> Result<Grant, Denial> {
        // Who logs in is nobody by an outage, and what nobody has answered is not answered.
        let needs_answer = matches!(event, HookEvent::Authenticate | HookEvent::Message | HookEvent::Rpc);
        if self.allow_on_failure && !needs_answer { Ok(Grant::default()) } else { Err(denial) }
    }
}

/// Where shards put what hooks are to decide.
#[derive(Clone, Debug)]
pub struct HookQueue(Arc<[Line]>);

#[derive(Debug)]
struct Line {
    config: Arc<HookConfig>,
    figures: Arc<HookFigures>,
    room: Arc<Room>,
    /// Bounded by `room`.
    sender: mpsc::UnboundedSender<Queued>,
}

#[derive(Debug)]
struct Queued {
    shard: ShardId,
    question: Question,
    since: Instant,
    place: Place,
}

impl Queued {
    fn event(&self) -> HookEvent {
        self.question.subject.event()
    }

    /// Whether nobody waits for an answer anyway.
    fn is_told(&self) -> bool {
        self.event() == HookEvent::Disconnect
    }
}

impl HookQueue {
    /// Queues a question that names a hook. Never blocks.
    ///
    /// # Errors
    ///
    /// The verdict, if there is no room, or nobody who would ask.
    pub fn submit(&self, from: ShardId, question: Question) -> Result<(), Verdict> {
        let line = &self.0[question.hook.expect("the question is for a hook").index()];
        let event = question.subject.event();
        let is_told = event == HookEvent::Disconnect;
        // Who leaves must not keep others from coming in.
        let share = if is_told { line.config.queue / 2 } else { line.config.queue };
        let bytes = bytes_of(&question.subject) + question.held;
        let Some(place) = line.room.enter(bytes, share.max(1)) else {
            line.figures.count(event, Outcome::Busy);
            let verdict = || question.verdict(line.config.on_failure(event, Denial::Busy));
            return if is_told { Ok(()) } else { Err(verdict()) };
        };
        let queued = Queued { shard: from, question, since: Instant::now(), place };
        // Its task has panicked, or the process ends. A bug is no outage: nothing is allowed by it.
        line.sender.send(queued).map_err(|error| {
            line.figures.count(event, Outcome::Invalid);
            error.0.question.verdict(Err(Denial::Failed))
        })
    }
}

/// Takes questions from the queues and answers them, on a thread of its own.
#[derive(Debug)]
pub struct HookDesk {
    core: Arc<ArcSwap<CoreConfig>>,
    client: Client,
    hooks: Vec<(Arc<HookConfig>, Arc<HookFigures>, mpsc::UnboundedReceiver<Queued>)>,
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
        let (sender, receiver) = mpsc::unbounded_channel();
        let figures = Arc::new(HookFigures::new(&config.events));
        let config = Arc::new(config);
        desks.push((Arc::clone(&config), Arc::clone(&figures), receiver));
        lines.push(Line { config, figures, room: Arc::default(), sender });
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
            .max_blocking_threads(LOOKUPS_OF_ONE * self.hooks.len().max(1))
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
                        refusals: Refusals::default(),
                        likeness: RefCell::default(),
                        config,
                        figures,
                    };
                    let name = hook.config.name.clone();
                    (name, tokio::task::spawn_local(Rc::new(hook).run(receiver)))
                });
                for (name, hook) in hooks.collect::<Vec<_>>() {
                    if hook.await.is_err() {
                        tracing::error!(
                            hook = name,
                            "the hook is not asked any more, because the router panicked over it"
                        );
                    }
                }
            });
            _ = ended.send(());
            runtime.shutdown_background();
        })?;
        Ok(HookThread(end))
    }
}

/// Threads that wait for name servers, for each hook: one whose name cannot be resolved should not hold up the others.
const LOOKUPS_OF_ONE: usize = 2;

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
    refusals: Refusals,
    /// How those look whom it does not know.
    likeness: RefCell<Likeness>,
}

/// A question that needs a request, and what equal ones are known by.
type Waiting = (Queued, Option<Key>);

impl Hook {
    /// Until all shards have ended and everything is answered.
    async fn run(self: Rc<Self>, mut questions: mpsc::UnboundedReceiver<Queued>) {
        let (mut asked, mut told) = (VecDeque::<Waiting>::new(), VecDeque::<Waiting>::new());
        let mut is_open = true;
        while is_open || !asked.is_empty() || !told.is_empty() {
            let deadline = asked.front().map(|(first, _)| first.since + self.config.timeout);
            tokio::select! {
                queued = questions.recv(), if is_open => match queued {
                    Some(queued) => {
                        let key = self.key(&queued.question);
                        if let Some(waiting) = self.answer_at_once((queued, key)) {
                            if waiting.0.is_told() { &mut told } else { &mut asked }.push_back(waiting);
                        }
                    }
                    None => is_open = false,
                },
                permit = Arc::clone(&self.in_flight).acquire_owned(), if !asked.is_empty() || !told.is_empty() => {
                    // Somebody waits for what is asked, and for the others nobody does.
                    let next = asked.pop_front().or_else(|| told.pop_front()).expect("one of them has one");
                    self.begin(next, permit.expect("it is never closed"));
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let (late, _) = asked.pop_front().expect("its deadline is over");
                    self.fail(&late, Outcome::Busy, Denial::Busy);
                }
            }
        }
        // All permits are back when all requests are done.
        _ = self.in_flight.acquire_many(u32::try_from(self.config.max_in_flight).unwrap_or(u32::MAX)).await;
    }

    /// What equal questions are known by. A ticket may be good for one login only, so logins are equal only where it is
    /// configured that answers hold.
    fn key(&self, question: &Question) -> Option<Key> {
        // A procedure is told which session asks, and may answer each as it likes.
        let is_told_session = self.config.target.url().is_none();
        let is_own = question.subject.event() == HookEvent::Authenticate || is_told_session;
        if is_own && self.config.cache.is_zero() { None } else { Key::of(question, is_told_session) }
    }

    /// Answers what needs no request, and gives back the rest.
    fn answer_at_once(&self, (queued, key): Waiting) -> Option<Waiting> {
        let (event, now) = (queued.event(), Instant::now());
        if !queued.question.is_wanted() && !queued.is_told() {
            self.figures.count(event, Outcome::Abandoned);
            return None;
        }
        if let Some(outcome) = self.known_beforehand(&queued.question) {
            self.figures.count(event, Outcome::Cached);
            self.give_verdict(&queued, outcome);
            return None;
        }
        let queued = match &key {
            Some(key) => self.answer_as_equal(queued, key, now)?,
            None => queued,
        };
        if !self.breaker.borrow().would_admit(now) {
            self.fail(&queued, Outcome::BreakerOpen, Denial::Unavailable);
            return None;
        }
        Some((queued, key))
    }

    /// What needs no asking: a ticket's challenge is always the same, and what it does not decide on it does not allow.
    fn known_beforehand(&self, question: &Question) -> Option<Result<Grant, Denial>> {
        match &question.subject {
            Subject::Hello { .. } if self.method_of(question) == Some(LoginMethod::Ticket) => {
                Some(Ok(asks_for_ticket()))
            }
            Subject::Hello { .. } | Subject::Login { .. } if self.method_of(question).is_none() => {
                Some(Err(Denial::Refused))
            }
            _ => None,
        }
    }

    /// How somebody logs in: the first of the client's methods that the hook decides on.
    fn method_of(&self, question: &Question) -> Option<LoginMethod> {
        let knows = |method: &LoginMethod| self.config.methods.contains(method);
        match &question.subject {
            Subject::Hello { methods, .. } => methods.iter().copied().find(knows),
            Subject::Login { proof: Proof::Ticket(_), .. } => Some(LoginMethod::Ticket).filter(knows),
            Subject::Login { proof: Proof::Nothing, .. } => Some(LoginMethod::Anonymous).filter(knows),
            _ => None,
        }
    }

    /// Answers it if the answer to an equal question holds, or when the one comes that is being asked; else gives it back.
    fn answer_as_equal(&self, queued: Queued, key: &Key, now: Instant) -> Option<Queued> {
        let event = queued.event();
        let known = self.memory.borrow_mut().find(key, now).map(Reply::outcome);
        if let Some(outcome) = known {
            self.figures.count(event, Outcome::Cached);
            self.give_verdict(&queued, outcome);
            return None;
        }
        let joined = self.memory.borrow_mut().join(key, queued);
        if joined.is_ok() {
            self.figures.count(event, Outcome::Coalesced);
        }
        joined.err()
    }

    /// It is its turn. Much may have changed while it waited.
    fn begin(self: &Rc<Self>, waiting: Waiting, permit: OwnedSemaphorePermit) {
        let Some((mut queued, key)) = self.answer_at_once(waiting) else { return };
        if queued.since.elapsed() > self.config.timeout && !queued.is_told() {
            return self.fail(&queued, Outcome::Busy, Denial::Busy);
        }
        if let Some(key) = key {
            self.memory.borrow_mut().begin(key);
        }
        queued.place.leave_queue();
        let hook = Rc::clone(self);
        tokio::task::spawn_local(async move {
            hook.ask(queued, key).await;
            drop(permit);
        });
    }

    /// One request, whose answer is also that of all equal questions which came meanwhile.
    async fn ask(self: Rc<Self>, queued: Queued, key: Option<Key>) {
        let (event, queued) = (queued.event(), Rc::new(queued));
        let exchange = tokio::task::spawn_local(Rc::clone(&self).exchange(Rc::clone(&queued)));
        // A panic is a bug of ours, and must not leave those waiting who ask the same.
        let outcome = exchange.await.unwrap_or(Err(Failure::Panicked));
        let joined = key.map(|key| self.memory.borrow_mut().end(key, outcome.as_ref().ok(), Instant::now()));
        self.figures.count(event, Outcome::of(&outcome));
        if outcome == Err(Failure::Panicked) {
            tracing::error!(hook = self.config.name, %event, "the router panicked over a question");
        }
        for queued in std::iter::once(&*queued).chain(joined.iter().flatten()) {
            let verdict = self.outcome(&queued.question, &outcome);
            self.log_refusal(&queued.question, &verdict, outcome.as_ref().err());
            self.send_verdict(queued, verdict);
        }
    }

    /// What follows for who asked.
    fn outcome(&self, question: &Question, outcome: &Result<Reply, Failure>) -> Result<Grant, Denial> {
        let event = question.subject.event();
        match outcome {
            // Whoever bears a name of the configuration's users there, it is not the one who is known here.
            Ok(_) if question.is_taken && matches!(question.subject, Subject::Hello { .. }) => {
                self.challenge_nobody(question)
            }
            // Nobody learns whether that is because of the name.
            Ok(Reply(Err(Denial::Refused))) if matches!(question.subject, Subject::Hello { .. }) => {
                self.challenge_nobody(question)
            }
            Ok(reply) => reply.outcome(),
            Err(failure) if self.is_of_procedure(event) && failure.was_asked() => match question.subject {
                Subject::Hello { .. } => self.challenge_nobody(question),
                _ => Err(Denial::Refused),
            },
            // Whatever `on_failure` says: it is for outages, and these are none.
            Err(Failure::Untranslatable(why)) => {
                let (error, message) = (Some(INVALID_ARGUMENT.into()), Some((*why).into()));
                Err(Denial::Told(Box::new(Told { error, message })))
            }
            Err(Failure::Panicked) => Err(Denial::Failed),
            Err(_) => self.config.on_failure(event, Denial::Unavailable),
        }
    }

    /// Whether it is a login that a procedure decides on.
    fn is_of_procedure(&self, event: HookEvent) -> bool {
        event == HookEvent::Authenticate && self.config.target.url().is_none()
    }

    async fn exchange(self: Rc<Self>, queued: Rc<Queued>) -> Result<Reply, Failure> {
        let question = &queued.question;
        if let Target::Procedure { realm, uri } = &self.config.target {
            return self.call(queued.shard, (*realm, uri), question).await;
        }
        let core = self.core.load_full();
        // Before the breaker is asked: what cannot be sent must not use up the one question of a second.
        let message = Message::of(
            (question.realm, question.client),
            &question.subject,
            &core.access,
            self.config.body,
            &self.config.fields,
        )?;
        if queued.is_told() {
            // What clients bring about by leaving says nothing about what others wait for.
            let is_open = self.breaker.borrow().is_open();
            return if is_open { Err(Failure::BreakerOpen) } else { self.post(question, &message).await };
        }
        let pass = self.breaker.borrow_mut().admits(Instant::now()).ok_or(Failure::BreakerOpen)?;
        let outcome = self.post(question, &message).await;
        self.note(pass, &outcome);
        outcome
    }

    async fn post(&self, question: &Question, message: &Message) -> Result<Reply, Failure> {
        let may_repeat = question.subject.event() != HookEvent::Disconnect;
        let began = Instant::now();
        self.figures.begin();
        let url = self.config.target.url().expect("procedures are called");
        let received = self.client.ask(&self.config, url, message, may_repeat).await;
        self.figures.end(began.elapsed());
        // Roles may be others by now.
        let core = self.core.load();
        Reply::understand(&received?, question, &core.access, self.config.role.as_deref())
    }

    /// For the breaker, and for the log when things change.
    fn note(&self, pass: Pass, outcome: &Result<Reply, Failure>) {
        let mut breaker = self.breaker.borrow_mut();
        let was_open = breaker.is_open();
        if outcome.as_ref().err().is_none_or(Failure::is_of_hook) {
            breaker.note(pass, outcome.is_ok(), Instant::now());
        }
        self.figures.set_open(breaker.is_open());
        let (hook, url) = (&self.config.name, &self.config.target);
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
    fn fail(&self, queued: &Queued, outcome: Outcome, denial: Denial) {
        let event = queued.event();
        self.figures.count(event, outcome);
        self.give_verdict(queued, self.config.on_failure(event, denial));
    }

    /// Of a login that the hook does not want, or that a procedure leaves without an answer: who is challenged for that has to be
    /// found in the log, too.
    fn log_refusal(&self, question: &Question, outcome: &Result<Grant, Denial>, failure: Option<&Failure>) {
        let (Subject::Login { authid, .. } | Subject::Hello { authid, .. }) = &question.subject else {
            return;
        };
        let name = &self.config.name;
        let why = match (outcome, failure) {
            (Ok(_) | Err(Denial::Refused), Some(failure)) => format!("hook {name:?}: {failure}"),
            (Err(Denial::Refused | Denial::Told(_)), _) => format!("the hook {name:?} does not allow it"),
            _ => return,
        };
        let (core, user) = (self.core.load(), authid.as_deref().unwrap_or_default());
        self.refusals.log(core.access.realm_name(question.realm), user, &why);
    }

    fn give_verdict(&self, queued: &Queued, outcome: Result<Grant, Denial>) {
        self.log_refusal(&queued.question, &outcome, None);
        self.send_verdict(queued, outcome);
    }

    fn send_verdict(&self, queued: &Queued, outcome: Result<Grant, Denial>) {
        if queued.is_told() {
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

/// WAMP, "Predefined URIs": what is asked for has no valid form.
const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";
