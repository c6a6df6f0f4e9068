//! The HTTP API: publications, calls and a look at sessions and topics, for programs that hold no session.
//!
//! ```text
//! shard ─HandedOver─▶ Connection ─▶ route, origin, key ─▶ handler ─ApiRequest─▶ the shard that it came from
//!                        ▲                                    │                         │
//!                        └──────────── response ◀─────────────┴───────ApiAnswer─────────┘
//! ```
//!
//! A shard hands over a connection whose first request is for a path below one of [`routes::PATH_PREFIXES`], with what it has read.
//! Whatever one connection publishes goes through that one shard, so it arrives in the order of its requests.
//!
//! What this module does not do: it decides nothing about topics and procedures. The router does, by the permissions of the
//! key's role, as for a session of that role. Read [`Api`], then [`routes`] and the module `publish`.

mod call;
pub mod connection;
pub mod error;
mod fields;
pub mod figures;
mod idempotency;
pub mod keys;
mod listing;
mod mesh;
mod publication;
mod publish;
pub mod routes;
mod stream;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_codec::http::{HeadLimits, RequestHead, parse_request};
use fanwire_core::CoreConfig;
use fanwire_core::access::Access;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask};
use fanwire_core::ids::{RealmId, ShardId};
use fanwire_io::{HandedOver, Origins};
use tokio::sync::{mpsc, oneshot};

use crate::Shards;
use crate::queues::Queues;
use crate::reload::Reloads;
use crate::state::Readiness;
use connection::{Connection, Failure, Gone, Response, Times};
use error::{ApiError, Code};
use figures::ApiFigures;
use idempotency::Idempotency;
use keys::{ApiKey, ApiKeys, KeyHash, Principal};
use mesh::words::{self, Answer};
use routes::{Endpoint, Found, ROUTES};

/// The description of the API, for clients and their generators.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What the API is made of.
#[derive(Debug)]
pub struct ApiConfig {
    /// Realms and roles by name.
    pub core: Arc<CoreConfig>,
    /// Who may use it.
    pub keys: ApiKeys,
    /// Where those of its paths act that name no realm.
    pub mesh_realm: RealmId,
    /// Who uses it without a key, from this machine, while there are no keys.
    pub local: Principal,
    /// Which web pages may use each listener.
    pub origins: Vec<Origins>,
    /// Bounds.
    pub limits: ApiLimits,
}

/// Bounds of the API.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// Of request heads.
    pub head: HeadLimits,
    /// Of a body that is read whole, and of a line of a stream.
    pub body_bytes_max: usize,
    /// Publications of a batch.
    pub batch_max: usize,
    /// Connections at once. Worst case: this times twice the body.
    pub connections_max: u64,
    /// How long a peer may take.
    pub times: Times,
    /// Longest time that a call waits for its callee, and the time of one that does not say.
    pub call_time_max: Duration,
    /// How long answers are kept under their idempotency keys.
    pub idempotency_window: Duration,
    /// How many of them.
    pub idempotency_entries_max: usize,
}

/// Bytes of answers that are kept under idempotency keys.
const IDEMPOTENCY_BYTES_MAX: usize = 16 << 20;

/// What serves the API, before it runs.
pub struct ApiDesk {
    settings: Arc<ArcSwap<ApiConfig>>,
    handed_over: mpsc::Receiver<HandedOver>,
    queues: Queues,
    figures: Arc<ApiFigures>,
}

/// Where shards put connections.
#[derive(Clone, Debug)]
pub struct HandOverQueue(mpsc::Sender<HandedOver>);

impl HandOverQueue {
    /// Queues a connection. Never blocks; gives it back when there is no room, or nobody serves any more.
    ///
    /// # Errors
    ///
    /// The connection.
    pub fn submit(&self, connection: HandedOver) -> Result<(), HandedOver> {
        self.0.try_send(connection).map_err(mpsc::error::TrySendError::into_inner)
    }
}

/// The API, and the queue in front of it.
pub fn desk(config: ApiConfig) -> (HandOverQueue, ApiDesk) {
    let (queue, handed_over) = mpsc::channel(HANDED_OVER_MAX);
    let settings = Arc::new(ArcSwap::from_pointee(config));
    (
        HandOverQueue(queue),
        ApiDesk { settings, handed_over, queues: Queues::default(), figures: Arc::default() },
    )
}

impl ApiDesk {
    /// With these queues for backends to consume.
    #[must_use]
    pub fn with_queues(self, queues: Queues) -> Self {
        Self { queues, ..self }
    }

    /// Where another configuration is put: for all requests that come from then on.
    pub fn settings(&self) -> Arc<ArcSwap<ApiConfig>> {
        Arc::clone(&self.settings)
    }

    /// What the metrics page reads.
    pub fn figures(&self) -> Arc<ApiFigures> {
        Arc::clone(&self.figures)
    }
}

/// Connections that wait to be served. The control thread takes them as fast as it turns.
const HANDED_OVER_MAX: usize = 256;

/// The API by one configuration; shared by the tasks of its connections.
#[derive(Clone)]
pub struct Api {
    config: Arc<ApiConfig>,
    /// Where a newer one is, if there is one.
    settings: Arc<ArcSwap<ApiConfig>>,
    shards: Arc<dyn Shards>,
    readiness: Arc<Readiness>,
    reloads: Arc<Reloads>,
    queues: Queues,
    figures: Arc<ApiFigures>,
    idempotency: Arc<Mutex<Idempotency>>,
}

impl Api {
    /// Serves what is handed over, until nobody hands over any more.
    pub(crate) async fn run(
        desk: ApiDesk,
        shards: Arc<dyn Shards>,
        readiness: Arc<Readiness>,
        reloads: Arc<Reloads>,
    ) {
        let ApiDesk { settings, mut handed_over, queues, figures } = desk;
        let config = settings.load_full();
        let limits = &config.limits;
        let (window, entries) = (limits.idempotency_window, limits.idempotency_entries_max);
        let idempotency = Arc::new(Mutex::new(Idempotency::new(window, entries, IDEMPOTENCY_BYTES_MAX)));
        let mut api =
            Arc::new(Self { config, settings, shards, readiness, reloads, queues, figures, idempotency });
        while let Some(handed) = handed_over.recv().await {
            if let Some(newer) = api.newer() {
                api = Arc::new(newer);
            }
            tokio::spawn(Arc::clone(&api).serve(handed));
        }
    }

    /// The API by the newest configuration, where that is not this one.
    fn newer(&self) -> Option<Self> {
        let newest = self.settings.load();
        (!Arc::ptr_eq(&newest, &self.config)).then(|| Self { config: Arc::clone(&newest), ..self.clone() })
    }

    async fn serve(self: Arc<Self>, handed: HandedOver) {
        let open = self.figures.connections.fetch_add(1, Ordering::Relaxed);
        let guard = Leaving(&self.figures);
        let Ok(mut connection) = Connection::new(handed.stream, &handed.read, self.config.limits.times)
        else {
            return;
        };
        let peer = Peer { address: handed.peer, listener: handed.listener, shard: handed.shard };
        let most = self.config.limits.connections_max;
        if open >= 2 * most {
            // Even to be told so takes a place for a moment.
            figures::add(&self.figures.connections_refused, 1);
            return;
        }
        if open >= most {
            figures::add(&self.figures.connections_refused, 1);
            let words = "the HTTP API has as many connections as it may (http_api.connections); try again";
            self.refuse(&mut connection, &ApiError::new(Code::Overloaded, words));
        } else {
            let mut api = Arc::clone(&self);
            while let Ok(true) = Self::serve_one(&mut api, &mut connection, &peer).await {}
        }
        if connection.flush().await.is_ok() {
            connection.close().await;
        }
        drop(guard);
    }

    /// One request. True: there may be another.
    async fn serve_one(this: &mut Arc<Self>, connection: &mut Connection, peer: &Peer) -> Result<bool, Gone> {
        let head = match connection.head(&this.config.limits.head, this.readiness.ended()).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(Failure::Refused(error)) => {
                this.refuse(connection, &error);
                return Ok(false);
            }
            Err(Failure::Gone(gone)) => return Err(gone),
        };
        // The wait for the request may have been long: what holds now is what counts.
        if let Some(newer) = this.newer() {
            *this = Arc::new(newer);
        }
        this.serve_request(connection, peer, &head).await
    }

    /// The same, from its head on.
    async fn serve_request(
        &self,
        connection: &mut Connection,
        peer: &Peer,
        head: &[u8],
    ) -> Result<bool, Gone> {
        let head = match parse_request(head, &self.config.limits.head) {
            Ok(head) => head,
            Err(error) => {
                self.refuse(connection, &error.into());
                return Ok(false);
            }
        };
        let route = find(&head);
        let index = route.as_ref().ok().map(|(index, _)| *index);
        let mut keep = head.keep_alive() && self.readiness.reason().is_none();
        let outcome = match route {
            Ok((index, part)) => self.handle(connection, peer, &head, index, part, keep).await,
            Err(error) => {
                keep &= error.error.code != Code::Misdirected;
                Err(error)
            }
        };
        let status = match outcome {
            Ok(Reply::Whole(response)) => {
                keep &= connection.skip_body();
                connection.write(&response, !keep, head.method == "HEAD");
                response.status
            }
            Ok(Reply::Streamed { complete }) => {
                keep &= complete;
                200
            }
            Err(Refused { error, allow }) => {
                self.figures.refused(error.code);
                keep &= connection.skip_body();
                let mut response = Response::of(&error);
                if index.is_some_and(|index| ROUTES[index].endpoint.is_mesh()) {
                    let number = words::number(&error, words::SEND_FAILED);
                    response.body = Answer::Refused(number, &error.message).body().freeze();
                }
                response.headers.extend(allow.map(|allow| ("Allow", allow)));
                connection.write(&response, !keep, head.method == "HEAD");
                response.status
            }
        };
        self.figures.answered(index, status);
        connection.flush().await?;
        Ok(keep)
    }

    /// Answers what cannot be read far enough to be a request of some route.
    fn refuse(&self, connection: &mut Connection, error: &ApiError) {
        self.figures.refused(error.code);
        self.figures.answered(None, error.status());
        connection.write(&Response::of(error), true, false);
    }
}

/// Counts a connection out.
struct Leaving<'a>(&'a ApiFigures);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The other end of a connection, and where it came in.
struct Peer {
    /// `None`: it came by a Unix socket.
    address: Option<SocketAddr>,
    /// Index of the listener.
    listener: usize,
    /// Where its publications go in.
    shard: ShardId,
}

/// What a handler has done.
enum Reply {
    Whole(Response),
    /// The response was written by the handler. `complete`: and the request's body is used up.
    Streamed {
        complete: bool,
    },
}

/// A refusal, with the methods that there are.
struct Refused {
    error: Box<ApiError>,
    allow: Option<String>,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self { error: Box::new(error), allow: None }
    }
}

/// The route of a request, or why there is none.
fn find<'a>(head: &RequestHead<'a>) -> Result<(usize, &'a str), Refused> {
    let path = head.path();
    let is_ours = routes::PATH_PREFIXES.iter().any(|prefix| path.starts_with(prefix));
    if !is_ours || path != routes::WEBSOCKET && head.headers().has_token("upgrade", "websocket") {
        let words =
            "this connection has been used for the HTTP API; WebSocket and other paths need a new one";
        return Err(ApiError::new(Code::Misdirected, words).into());
    }
    match routes::find(head.method, path) {
        Found::Route(index, part) => Ok((index, part)),
        Found::OtherMethods(methods) => {
            let words = format!("{} is no method of {path}; it has {methods}", head.method);
            let error = Box::new(ApiError::new(Code::MethodNotAllowed, words));
            Err(Refused { error, allow: Some(methods) })
        }
        Found::Nothing => {
            let words = format!("there is nothing at {path}; /v1/openapi.json tells what there is");
            Err(ApiError::new(Code::NotFound, words).into())
        }
    }
}

impl Api {
    async fn handle(
        &self,
        connection: &mut Connection,
        peer: &Peer,
        head: &RequestHead<'_>,
        index: usize,
        part: &str,
        keep: bool,
    ) -> Result<Reply, Refused> {
        let route = &ROUTES[index];
        connection.begin_body(head)?;
        self.check_origin(peer, head)?;
        match route.endpoint {
            Endpoint::OpenApi => return Ok(Reply::Whole(Response::ok(OPENAPI))),
            Endpoint::Version => return Ok(Reply::Whole(Response::ok(mesh::VERSION))),
            Endpoint::Nodes => return Ok(Reply::Whole(Response::ok(mesh::nodes(head)))),
            _ => {}
        }
        let caller = self.authenticate(peer, head)?;
        if let Some(right) = route.right {
            mesh::check_right(&caller, right)?;
        }
        let outcome = match route.endpoint {
            Endpoint::Publish if publish::is_stream(head) => {
                stream::serve(self, connection, &caller, head, keep).await
            }
            Endpoint::Publish => self.publish(connection, &caller, head).await,
            Endpoint::Batch => self.publish_batch(connection, &caller, head).await,
            Endpoint::Call => self.call(connection, &caller, head).await,
            Endpoint::Sessions => self.sessions(&caller, head).await,
            Endpoint::Disconnect => self.disconnect(&caller, head, part).await,
            Endpoint::Topics => self.topics(&caller, head),
            Endpoint::Reload => self.reload(&caller, head).await,
            Endpoint::MeshPublish => self.mesh_publish(connection, &caller, head).await,
            Endpoint::MeshSend => self.mesh_send(connection, &caller, head).await,
            Endpoint::ConnDisconnect => self.conn_disconnect(connection, &caller, head).await,
            Endpoint::Socket => mesh::socket::serve(self, connection, &caller, head).await,
            Endpoint::OpenApi | Endpoint::Version | Endpoint::Nodes => unreachable!("answered above"),
        };
        match outcome {
            Ok(reply) => Ok(reply),
            Err(Failure::Refused(error)) => Err(error.into()),
            // Nobody reads this, and flushing it fails.
            Err(Failure::Gone(_)) => Ok(Reply::Streamed { complete: false }),
        }
    }

    /// The rule of WebSocket upgrades. Whoever sends no Origin is a program.
    fn check_origin(&self, peer: &Peer, head: &RequestHead<'_>) -> Result<(), ApiError> {
        let Some(origin) = head.headers().unique("origin")? else { return Ok(()) };
        let origins = self.config.origins.get(peer.listener);
        if origins.is_some_and(|origins| origins.allow(origin, head.host())) {
            return Ok(());
        }
        let words = format!(
            "pages of {origin} may not use the API: only pages of this host and of loopback hosts may, and those listed in \
             the setting listener.allowed_origins"
        );
        Err(ApiError::new(Code::Forbidden, words))
    }

    /// Who asks.
    fn authenticate<'a>(&'a self, peer: &Peer, head: &RequestHead<'_>) -> Result<Caller<'a>, ApiError> {
        let keys = &self.config.keys;
        let address = peer.address.map(|address| address.ip());
        if keys.0.is_empty() {
            check_local(peer, head)?;
            return Ok(Caller { key: None, principal: &self.config.local, address, shard: peer.shard });
        }
        let wrong = |words: &'static str| ApiError::new(Code::Unauthorized, words);
        let Some(given) = head.headers().unique("authorization")? else {
            return Err(wrong("a key must come with each request: Authorization: Bearer KEY"));
        };
        let key = match given.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim_matches(' '),
            _ => return Err(wrong("the field Authorization must be: Bearer KEY")),
        };
        let index =
            keys.find(key).ok_or_else(|| wrong("no key is like this one; `fanwire apikey` makes keys"))?;
        let key = &keys.0[index];
        if !key.may_come_from(address) {
            let words =
                format!("{} may not be used from this address (http_api.key.addresses)", key.principal.name);
            return Err(ApiError::new(Code::Forbidden, words));
        }
        Ok(Caller { key: Some(key.hash), principal: &key.principal, address, shard: peer.shard })
    }

    /// Refuses who is not by the newest configuration who it was when its request began: before what comes late acts.
    fn check_still(&self, caller: &Caller<'_>) -> Result<(), ApiError> {
        let newest = self.settings.load();
        let is_caller = |key: &ApiKey| {
            Some(key.hash) == caller.key
                && key.principal == *caller.principal
                && key.may_come_from(caller.address)
        };
        let is_still = Arc::ptr_eq(&newest, &self.config)
            || match caller.key {
                None => newest.keys.0.is_empty() && newest.local == *caller.principal,
                Some(_) => newest.keys.0.iter().any(is_caller),
            };
        if is_still {
            return Ok(());
        }
        let words = "a reload has changed who may do this while the request came; ask again from here on";
        Err(ApiError::new(Code::Unauthorized, words))
    }

    async fn reload(&self, caller: &Caller<'_>, head: &RequestHead<'_>) -> Result<Reply, Failure> {
        // It has no body whose type a browser would ask about first, so any page of this machine could have it done.
        if caller.key.is_none() && head.header("origin").is_some() {
            let words = "without a key only programs may ask for a reload, not web pages";
            return Err(ApiError::new(Code::Forbidden, words).into());
        }
        let query = listing::Query::read(head, &["check"])?;
        let check_only = match query.get("check") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let words = format!("check={other}: it can be true or false");
                return Err(ApiError::new(Code::InvalidQuery, words).field("check").into());
            }
        };
        let outcome = self.reloads.reload(&caller.principal.name, check_only).await;
        let report = outcome.map_err(|refused| ApiError::from(&refused))?;
        Ok(Reply::Whole(Response::ok(publish::json(&report))))
    }

    fn access(&self) -> &Access {
        &self.config.core.access
    }

    /// Asks a shard, and waits.
    async fn ask(&self, shard: ShardId, ask: Ask, time: Duration) -> Result<ApiAnswer, ApiError> {
        let answer = self.submit(shard, ask).await?;
        received(answer, time).await
    }

    /// Asks a shard. Its answers come in the order of the questions. Waits while it has no room for another question.
    async fn submit(&self, shard: ShardId, ask: Ask) -> Result<oneshot::Receiver<ApiAnswer>, ApiError> {
        self.submit_within(SUBMIT_TRIES, shard, ask).await
    }

    /// The same, for so many milliseconds.
    async fn submit_within(
        &self,
        tries: u32,
        shard: ShardId,
        ask: Ask,
    ) -> Result<oneshot::Receiver<ApiAnswer>, ApiError> {
        let (reply, answer) = oneshot::channel();
        // Who does not wait any more does not listen.
        let mut request = ApiRequest { ask, reply: Box::new(move |answer| _ = reply.send(answer)) };
        for _ in 0..tries {
            match self.shards.ask(shard, request) {
                Ok(()) => return Ok(answer),
                Err(back) => request = back,
            }
            tokio::time::sleep(SUBMIT_RETRY).await;
        }
        Err(ApiError::new(
            Code::Overloaded,
            "the router has had no room for another request for a while; try again",
        ))
    }

    fn idempotency(&self) -> MutexGuard<'_, Idempotency> {
        // A panic in between would leave it whole: each of its methods changes it in one go.
        let mut table = self.idempotency.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Not those of a request that began before the last reload.
        let settings = self.settings.load();
        let limits = &settings.limits;
        table.set_bounds(limits.idempotency_window, limits.idempotency_entries_max);
        table
    }
}

const SUBMIT_RETRY: Duration = Duration::from_millis(1);
const SUBMIT_TRIES: u32 = 3_000;
/// A shard answers within its own deadlines, the longest of which is a parked publication's; this is for one that hangs.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The answer to a question.
async fn received(
    answer: impl Future<Output = Result<ApiAnswer, oneshot::error::RecvError>>,
    time: Duration,
) -> Result<ApiAnswer, ApiError> {
    match tokio::time::timeout(time, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => {
            Err(ApiError::new(Code::ShuttingDown, "the router ends; ask another one, or this one later"))
        }
        Err(_) => Err(ApiError::new(
            Code::Timeout,
            "the router has not answered in time; what was asked may still happen",
        )),
    }
}

/// Who asks, and by which shard.
struct Caller<'a> {
    /// Its key, if it needs one. Idempotency keys are each client's own.
    key: Option<KeyHash>,
    principal: &'a Principal,
    /// From where; `None`: by a Unix socket.
    address: Option<IpAddr>,
    shard: ShardId,
}

/// Without keys the API is for programs of this machine. What comes by a proxy, or from a web page that got a name of its own
/// to point here, is none.
fn check_local(peer: &Peer, head: &RequestHead<'_>) -> Result<(), ApiError> {
    const REMEDY: &str = "configure a key: `fanwire apikey` makes one ([[http_api.key]])";
    if !connection::is_local(peer.address) {
        let words = format!("without API keys only programs of this machine may use the API; {REMEDY}");
        return Err(ApiError::new(Code::Forbidden, words));
    }
    if ["forwarded", "x-forwarded-for"].iter().any(|name| head.header(name).is_some()) {
        let words = format!(
            "the request came by a proxy, and without API keys the API is for this machine alone; {REMEDY}"
        );
        return Err(ApiError::new(Code::Forbidden, words));
    }
    let host_is_local = || head.host().is_none_or(fanwire_io::is_loopback_authority);
    if peer.address.is_some() && !host_is_local() {
        let words = format!(
            "without API keys the API answers to localhost, 127.0.0.1 and [::1] alone, not to other names; {REMEDY}"
        );
        return Err(ApiError::new(Code::Forbidden, words));
    }
    Ok(())
}

/// Checks that the body is what its reader reads. Browsers cannot send this type across origins without asking first.
fn check_json(head: &RequestHead<'_>) -> Result<(), ApiError> {
    if media_type(head)?.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let words = "the body must be JSON, and say so: Content-Type: application/json";
    Err(ApiError::new(Code::UnsupportedMediaType, words))
}

fn media_type<'a>(head: &RequestHead<'a>) -> Result<&'a str, ApiError> {
    let given = head.headers().unique("content-type")?.unwrap_or_default();
    Ok(given.split_once(';').map_or(given, |(media_type, _)| media_type).trim())
}
