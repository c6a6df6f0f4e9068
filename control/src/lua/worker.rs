//! One thread with one VM: what happens to its connections, one after another for each of them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fanwire_codec::wamp2::ReceiverLists;
use fanwire_codec::ws;
use fanwire_core::api::{ApiAnswer, ApiPublication, Ask, Order};
use fanwire_core::handled::{Beginning, Happening};
use fanwire_core::ids::{ClientId, ShardId};
use fanwire_core::question::{Answer as Said, Denial, Grant, Subject};
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Value};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::event::{Beside, Conn, Event, Wait};
use super::figures::{Outcome, Requested};
use super::http::{self, HttpRequest};
use super::tenure::{InFlight, Tenure};
use super::vm::{Failure, Step, Vm};
use super::{Handler, Line, Queued};
use crate::Shards;
use crate::hooks::{Client, Failure as HttpFailure, Fetched};

/// A thread's own state.
pub(super) struct Worker {
    handler: Arc<Handler>,
    line: Arc<Line>,
    tenure: Arc<Tenure>,
    shards: Arc<dyn Shards>,
    vm: RefCell<Option<Rc<Vm>>>,
    conns: RefCell<HashMap<ClientId, Rc<Connected>>>,
    plain: OnceCell<Result<Client, String>>,
    tls: OnceCell<Result<Client, String>>,
    working: Cell<usize>,
    /// Said when it comes back and another thread has its place.
    given_up: Notify,
}

type Connected = Conn<Job>;

/// What waits for its turn at a connection.
pub(super) enum Job {
    Asked(Queued),
    /// The answer to a request that was made beside an event.
    Answered {
        vm: Rc<Vm>,
        callback: Function,
        url: String,
        fetched: Result<Fetched, String>,
        /// Until it was looked at, it is memory that somebody asked for.
        _in_flight: Option<InFlight>,
        _place: Beside,
    },
}

/// What a script that has waited goes on with.
enum Answer {
    /// Nothing, or words.
    Done(Result<(), String>),
    Publication(Result<u64, String>),
    Http(String, Result<Fetched, String>),
    Context(Box<str>),
    TimeIsOver,
}

/// Replies of more bytes are no answer.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// What is taken from the queue in one go.
const BATCH_MAX: usize = 64;
/// How long what has begun may take once no shard is there any more.
const FINISH_TIME: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn new(
        handler: Arc<Handler>,
        line: Arc<Line>,
        tenure: Arc<Tenure>,
        shards: Arc<dyn Shards>,
    ) -> Self {
        let worker = Self {
            handler,
            line,
            tenure,
            shards,
            vm: RefCell::default(),
            conns: RefCell::default(),
            plain: OnceCell::new(),
            tls: OnceCell::new(),
            working: Cell::new(0),
            given_up: Notify::new(),
        };
        worker.load_newer();
        worker
    }

    /// Until the shards have ended, or another thread takes its place.
    pub(super) async fn run(self: Rc<Self>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.next_batch(&mut batch).await > 0 {
            for queued in batch.drain(..) {
                self.take(queued);
            }
        }
        let finished = async {
            while self.working.get() > 0 && !self.tenure.is_given_up() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        _ = tokio::time::timeout(FINISH_TIME, finished).await;
    }

    async fn next_batch(&self, batch: &mut Vec<Queued>) -> usize {
        tokio::select! {
            biased;
            () = self.given_up.notified() => 0,
            count = poll_fn(|context| self.poll_batch(context, batch)) => count,
        }
    }

    /// Runs some Lua, which the keeper sees. None: another thread has this one's place.
    fn run_lua<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        let result = self.tenure.run(run);
        if result.is_none() {
            self.given_up.notify_one();
        }
        result
    }

    /// Takes what has come, if it is still this thread's. The receiver is locked for that alone: while it waits another thread may
    /// take its place.
    fn poll_batch(&self, context: &mut Context<'_>, batch: &mut Vec<Queued>) -> Poll<usize> {
        let mut receiver = self.line.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tenure.is_given_up() {
            return Poll::Ready(0);
        }
        receiver.poll_recv_many(context, batch, BATCH_MAX)
    }

    /// Something has happened to a connection.
    fn take(self: &Rc<Self>, queued: Queued) {
        let Subject::Handled { client, happening } = &queued.question.subject else { return };
        let known = self.conns.borrow().get(client).cloned();
        let conn = match (known, happening) {
            (None, Happening::Begins(beginning)) => {
                let conn = Rc::new(Connected::new(*client));
                conn.peer.set(beginning.peer);
                self.conns.borrow_mut().insert(*client, Rc::clone(&conn));
                conn
            }
            (None, Happening::Says { .. }) => {
                self.handler.figures.count(Outcome::Lost);
                let close =
                    Order::Close { code: 1011, words: "what was known of the connection is lost".into() };
                return self.grant(queued, Some(close));
            }
            (None, Happening::Told(_) | Happening::Ends) => return,
            (Some(conn), Happening::Told(values)) => {
                let mut context = conn.context.borrow_mut();
                for (key, value) in values {
                    if let Err(words) = context.set_text(key, value) {
                        let handler = &*self.handler.name;
                        tracing::warn!(
                            handler,
                            client = client.get(),
                            key = &**key,
                            "not known of the client: {words}"
                        );
                    }
                }
                conn.changed.notify_waiters();
                return;
            }
            (Some(conn), _) => conn,
        };
        if matches!(happening, Happening::Ends) {
            self.conns.borrow_mut().remove(client);
        }
        self.give(&conn, Job::Asked(queued));
    }

    fn give(self: &Rc<Self>, conn: &Rc<Connected>, job: Job) {
        conn.jobs.borrow_mut().push_back(job);
        if !conn.is_busy.replace(true) {
            self.working.set(self.working.get() + 1);
            tokio::task::spawn_local(Rc::clone(self).serve(Rc::clone(conn)));
        }
    }

    /// Works off what waits at a connection.
    async fn serve(self: Rc<Self>, conn: Rc<Connected>) {
        // Whatever happens here, it is not busy for ever.
        let _serving = Serving(&self, &conn);
        loop {
            let job = conn.jobs.borrow_mut().pop_front();
            match job {
                Some(Job::Asked(queued)) => {
                    let mut asked = Asked { worker: &self, queued: Some(queued) };
                    self.answer(&conn, &mut asked).await;
                }
                Some(Job::Answered { vm, callback, url, fetched, .. }) => {
                    let event = self.event(&conn);
                    let values = move |lua: &Lua| http::answer(lua, &url, fetched);
                    let result = self.call(&vm, &conn, &event, &callback, values).await;
                    self.end(&conn, "a callback", &result);
                    if let (Ok(_), Some(order)) = (result, event.take_orders(None)) {
                        self.do_without_waiting(conn.client, order).await;
                    }
                }
                None => return,
            }
            give_way().await;
        }
    }

    fn event(&self, conn: &Rc<Connected>) -> Rc<Event> {
        let conn: Rc<Connected> = Rc::clone(conn);
        Rc::new(Event::new(conn, self.handler.limits.instructions))
    }

    async fn answer(self: &Rc<Self>, conn: &Rc<Connected>, asked: &mut Asked<'_>) {
        let Some(queued) = &asked.queued else { return };
        let Subject::Handled { happening, .. } = &queued.question.subject else { return };
        let is_told = matches!(happening, Happening::Ends);
        if !is_told && !queued.question.is_wanted() {
            return;
        }
        let Some(vm) = self.load_newer() else {
            self.handler.figures.count(Outcome::Error);
            return asked.deny(Denial::Failed);
        };
        let event = self.event(conn);
        let (name, result) = self.handle(&vm, conn, &event, happening).await;
        self.end(conn, name, &result);
        if is_told {
            asked.queued = None;
            return;
        }
        match result {
            Ok(true) => asked.grant(event.take_orders(None)),
            Ok(false) => asked.deny(Denial::Refused),
            Err(failure) => {
                asked.deny(Denial::Failed);
                if failure.outcome == Outcome::Memory && !vm.recovers(self.handler.limits.memory) {
                    tracing::warn!(handler = &*self.handler.name, "its memory stays full, so it begins anew");
                    drop(self.vm.take());
                    self.load_newer();
                }
            }
        }
    }

    /// Calls the script's function for it. False: the connection is refused.
    async fn handle(
        self: &Rc<Self>,
        vm: &Rc<Vm>,
        conn: &Rc<Connected>,
        event: &Rc<Event>,
        happening: &Happening,
    ) -> (&'static str, Result<bool, Failure>) {
        let id = conn.client.get();
        let functions = &vm.functions;
        match happening {
            Happening::Begins(beginning) => {
                if let Some(function) = &functions.on_connect {
                    let new_conn = vm.new_conn.clone();
                    let values = move |lua: &Lua| new_conn.call::<Value>(id)?.into_lua_multi(lua);
                    match self.call(vm, conn, event, function, values).await {
                        Ok(values) if is_refusal(&values) => return ("on_connect", Ok(false)),
                        Ok(_) => {}
                        Err(failure) => return ("on_connect", Err(failure)),
                    }
                }
                let Some(function) = &functions.on_handshake else { return ("on_handshake", Ok(true)) };
                let result = self.call(vm, conn, event, function, |lua| handshake(lua, id, beginning)).await;
                ("on_handshake", result.map(|values| !is_refusal(&values)))
            }
            Happening::Says { kind, bytes } => {
                let Some(function) = &functions.on_message else { return ("on_message", Ok(true)) };
                let new_conn = vm.new_conn.clone();
                let values = |lua: &Lua| {
                    let message = lua.create_table()?;
                    message.raw_set("type", if *kind == ws::Kind::Binary { "binary" } else { "text" })?;
                    message.raw_set("data", lua.create_string(bytes)?)?;
                    message.raw_set("finish", true)?;
                    (message, new_conn.call::<Value>(id)?).into_lua_multi(lua)
                };
                ("on_message", self.call(vm, conn, event, function, values).await.map(|_| true))
            }
            Happening::Ends => {
                let Some(function) = &functions.on_close else { return ("on_close", Ok(true)) };
                let values = |lua: &Lua| id.into_lua_multi(lua);
                ("on_close", self.call(vm, conn, event, function, values).await.map(|_| true))
            }
            Happening::Told(_) => ("", Ok(true)),
        }
    }

    /// Calls a function, and waits for what it waits for, until it has ended or its time is over.
    async fn call(
        self: &Rc<Self>,
        vm: &Rc<Vm>,
        conn: &Rc<Connected>,
        event: &Rc<Event>,
        function: &Function,
        arguments: impl FnOnce(&Lua) -> mlua::Result<MultiValue>,
    ) -> Result<MultiValue, Failure> {
        let begun = self.run_lua(|| Ok(vm.begin(function, event, vm.values(arguments)?)));
        let (thread, mut step) = begun.unwrap_or_else(|| Err(replaced()))?;
        loop {
            self.tenure.note_memory(vm.memory());
            for (request, callback, place) in event.detached.take() {
                self.request_beside(vm, conn, request, callback, place);
            }
            let wait = match step {
                Step::Done(values) => return Ok(values),
                Step::Failed(failure) => return Err(failure),
                Step::Waits(wait) => wait,
            };
            let deadline = event.began + self.handler.limits.time;
            let answer = tokio::time::timeout_at(deadline, self.wait_for(conn, event, wait)).await;
            let answer = answer.map_err(|_| Failure {
                outcome: Outcome::Time,
                words: format!("it took longer than {:?}", self.handler.limits.time),
            })?;
            let thread = thread.as_ref().expect("it has begun");
            let resumed = self.run_lua(|| {
                let arguments = vm.values(|lua| answer.values(lua, conn))?;
                Ok(vm.resume(thread, event, arguments))
            });
            step = resumed.unwrap_or_else(|| Err(replaced()))?;
        }
    }

    async fn wait_for(&self, conn: &Rc<Connected>, event: &Event, wait: Wait) -> Answer {
        let client = conn.client;
        match wait {
            Wait::Order(order) => {
                let order = event.take_orders(Some(order)).expect("there is one");
                Answer::Done(self.order(client, order).await)
            }
            Wait::Other(other, order) => {
                self.flush(client, event).await;
                Answer::Done(self.order(other, order).await)
            }
            Wait::Publication { topic, payload } => {
                self.flush(client, event).await;
                let publication = ApiPublication {
                    actor: self.handler.actor,
                    topic,
                    payload,
                    plain: true,
                    receivers: ReceiverLists::default(),
                    conflate_key: None,
                    retain: false,
                    receipt: true,
                    from: None,
                };
                let answer = self.ask(client.shard(), Ask::Publish(vec![publication])).await;
                Answer::Publication(match answer {
                    Some(ApiAnswer::Published(mut outcomes)) => match outcomes.pop() {
                        Some(Ok(receipt)) => Ok(receipt.matched.unwrap_or(0)),
                        Some(Err(refusal)) => Err(refusal.to_string()),
                        None => Err(STOPPING.to_owned()),
                    },
                    _ => Err(STOPPING.to_owned()),
                })
            }
            Wait::Http(request) => {
                self.flush(client, event).await;
                let url = request.request.uri().to_string();
                Answer::Http(url, self.request(*request).await.0)
            }
            Wait::Context { key, time } => {
                self.flush(client, event).await;
                // Where that is longer than the event may take, the event's end comes first.
                let time = time.filter(|time| *time < self.handler.limits.time);
                let until = time.map(|time| Instant::now() + time);
                loop {
                    let changed = conn.changed.notified();
                    if conn.context.borrow().has(&key) {
                        return Answer::Context(key);
                    }
                    match until {
                        None => changed.await,
                        Some(until) => {
                            if tokio::time::timeout_at(until, changed).await.is_err() {
                                return Answer::TimeIsOver;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Has done what was said so far. What is asked of the shard after that comes after that.
    async fn flush(&self, client: ClientId, event: &Event) {
        if let Some(order) = event.take_orders(None) {
            self.do_without_waiting(client, order).await;
        }
    }

    async fn do_without_waiting(&self, client: ClientId, order: Order) {
        let ask = Ask::Order { client, realm: self.handler.actor.realm, order };
        crate::inner::ask(&*self.shards, client.shard(), ask, Box::new(drop)).await;
    }

    async fn order(&self, client: ClientId, order: Order) -> Result<(), String> {
        if usize::from(client.shard().get()) >= self.shards.count() {
            return Err("there is no such client".to_owned());
        }
        let ask = Ask::Order { client, realm: self.handler.actor.realm, order };
        match self.ask(client.shard(), ask).await {
            Some(ApiAnswer::Ordered(outcome)) => outcome.map_err(|refusal| refusal.to_string()),
            _ => Err(STOPPING.to_owned()),
        }
    }

    /// Asks a shard. None: it has ended.
    async fn ask(&self, shard: ShardId, ask: Ask) -> Option<ApiAnswer> {
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |answer| _ = sender.send(answer));
        crate::inner::ask(&*self.shards, shard, ask, reply).await;
        receiver.await.ok()
    }

    /// Makes a request, and has the function called with its answer, in the order of the connection's events.
    fn request_beside(
        self: &Rc<Self>,
        vm: &Rc<Vm>,
        conn: &Rc<Connected>,
        request: HttpRequest,
        callback: Function,
        place: Beside,
    ) {
        let (worker, vm, conn) = (Rc::clone(self), Rc::clone(vm), Rc::clone(conn));
        tokio::task::spawn_local(async move {
            let url = request.request.uri().to_string();
            let (fetched, _in_flight) = worker.request(request).await;
            let is_there = worker.conns.borrow().contains_key(&conn.client);
            if is_there {
                let _place = place;
                worker.give(&conn, Job::Answered { vm, callback, url, fetched, _in_flight, _place });
            }
        });
    }

    /// Makes a request, if there is a place for it, which is given back with the answer.
    async fn request(&self, request: HttpRequest) -> (Result<Fetched, String>, Option<InFlight>) {
        let (figures, limits) = (&self.handler.figures, &self.handler.limits);
        let Some(in_flight) = figures.request(&self.tenure, limits.http_max) else {
            figures.count_request(Requested::Busy);
            let words = format!("{} requests are under way, the most allowed", limits.http_max);
            return (Err(words), None);
        };
        (self.fetch(request).await, Some(in_flight))
    }

    async fn fetch(&self, request: HttpRequest) -> Result<Fetched, String> {
        let (figures, limits) = (&self.handler.figures, &self.handler.limits);
        let client = if request.is_tls { &self.tls } else { &self.plain };
        let client = client.get_or_init(|| Client::anywhere(request.is_tls, limits.http_max as usize));
        let client = client.as_ref().map_err(|why| format!("this machine trusts no certificates{why}"))?;
        let timeout = request.timeout.map_or(limits.http_timeout, |timeout| timeout.min(limits.http_timeout));
        // What may not be done twice is not sent twice.
        let may_repeat = request.request.method().is_idempotent();
        let fetched = client.fetch(|| clone_of(&request), may_repeat, timeout, REPLY_BYTES_MAX).await;
        figures.count_request(match &fetched {
            Ok(_) => Requested::Answered,
            Err(HttpFailure::Timeout) => Requested::Timeout,
            Err(_) => Requested::Failed,
        });
        fetched.map_err(|failure| match failure {
            HttpFailure::Timeout => format!("no answer within {timeout:?}"),
            HttpFailure::TooLarge => format!("an answer of more than {REPLY_BYTES_MAX} bytes"),
            other => other.to_string(),
        })
    }

    /// The VM with the script of now: a newer one is loaded if there is one.
    fn load_newer(&self) -> Option<Rc<Vm>> {
        let script = self.handler.script.load();
        if let Some(vm) = &*self.vm.borrow()
            && (*vm.script() == **script
                || self.line.refused.load().as_ref().is_some_and(|refused| **refused == **script))
        {
            return Some(Rc::clone(vm));
        }
        let load = || Vm::load(&script, &self.handler.limits, self.handler.surroundings.clone());
        match self.run_lua(load)? {
            Ok(vm) => {
                self.tenure.note_memory(vm.memory());
                self.vm.replace(Some(Rc::new(vm)));
            }
            Err(words) => {
                self.line.refused.store(Some(Arc::clone(&script)));
                tracing::error!(handler = &*self.handler.name, "the script cannot be loaded: {words}");
            }
        }
        self.vm.borrow().clone()
    }

    /// Counts what became of an event, and logs what went wrong.
    fn end<T>(&self, conn: &Connected, name: &str, result: &Result<T, Failure>) {
        let outcome = result.as_ref().map_or_else(|failure| failure.outcome, |_| Outcome::Done);
        self.handler.figures.count(outcome);
        if let Err(failure) = result {
            let (handler, client) = (&*self.handler.name, conn.client.get());
            tracing::error!(handler, client, "{name}: {}", failure.words);
        }
    }

    fn grant(&self, queued: Queued, order: Option<Order>) {
        let answer = order.map(|order| Box::new(Said::Order(order)));
        self.decide(queued, Ok(Grant { answer, ..Grant::default() }));
    }

    fn decide(&self, queued: Queued, outcome: Result<Grant, Denial>) {
        let shard = queued.shard;
        if let Err(verdict) = self.shards.answer(shard, queued.question.verdict(outcome)) {
            // Its mailbox is full for a moment.
            let shards = Arc::clone(&self.shards);
            tokio::task::spawn_local(async move { crate::login::answer(&*shards, shard, verdict).await });
        }
    }
}

/// Nobody answers while the router ends.
const STOPPING: &str = "the router stops";

/// A connection that is being served.
struct Serving<'a>(&'a Worker, &'a Connected);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.1.is_busy.set(false);
        self.0.working.set(self.0.working.get() - 1);
    }
}

/// A question that is being answered. It always is: a panic on the way is a failure.
struct Asked<'a> {
    worker: &'a Worker,
    queued: Option<Queued>,
}

impl Asked<'_> {
    fn grant(&mut self, order: Option<Order>) {
        if let Some(queued) = self.queued.take() {
            self.worker.grant(queued, order);
        }
    }

    fn deny(&mut self, denial: Denial) {
        if let Some(queued) = self.queued.take() {
            self.worker.decide(queued, Err(denial));
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.handler.figures.count(Outcome::Panic);
            self.deny(Denial::Failed);
        }
    }
}

/// One connection's callbacks may have others without end.
#[allow(
    clippy::disallowed_methods,
    reason = "this runtime, unlike that of shards, goes on with the others first"
)]
async fn give_way() {
    tokio::task::yield_now().await;
}

/// Another thread has this one's connections.
fn replaced() -> Failure {
    Failure { outcome: Outcome::Lost, words: "it took so long that another thread was started".to_owned() }
}

fn clone_of(request: &HttpRequest) -> hyper::http::Request<Bytes> {
    request.request.clone()
}

/// Whether a script said no.
fn is_refusal(values: &MultiValue) -> bool {
    matches!(values.front(), Some(Value::Boolean(false)))
}

/// What `on_handshake` gets: the id, the fields of the request by their names in small letters, and `mix.server`.
fn handshake(lua: &Lua, id: u64, beginning: &Beginning) -> mlua::Result<MultiValue> {
    let fields = lua.create_table()?;
    for (name, value) in &beginning.fields {
        fields.raw_set(name.to_ascii_lowercase(), &**value)?;
    }
    // Names of fields have no case (RFC 9110, 5.1).
    let meta = lua.create_table()?;
    let find =
        |_: &Lua, (fields, name): (mlua::Table, String)| fields.raw_get::<Value>(name.to_ascii_lowercase());
    meta.raw_set("__index", lua.create_function(find)?)?;
    fields.set_metatable(Some(meta))?;
    let server = lua.create_table()?;
    let mix: mlua::Table = lua.globals().get("mix")?;
    for pair in mix.get::<mlua::Table>("server")?.pairs::<Value, Value>() {
        let (key, value) = pair?;
        server.raw_set(key, value)?;
    }
    server.raw_set("target", &*beginning.target)?;
    (id, fields, server).into_lua_multi(lua)
}

impl Answer {
    fn values(self, lua: &Lua, conn: &Connected) -> mlua::Result<MultiValue> {
        match self {
            Self::Done(Ok(())) | Self::TimeIsOver => Ok(MultiValue::new()),
            Self::Done(Err(words)) => words.into_lua_multi(lua),
            Self::Publication(Ok(count)) => (count, 0).into_lua_multi(lua),
            Self::Publication(Err(words)) => (0, 0, words).into_lua_multi(lua),
            Self::Http(url, fetched) => http::answer(lua, &url, fetched),
            Self::Context(key) => conn.context.borrow().get(lua, &key)?.into_lua_multi(lua),
        }
    }
}
