//! Bridges to Redis: channels there, topics here.
//!
//! ```text
//!                   ┌──────────────── one task for each bridge ────────────────┐
//! Redis ─ push ─▶ Incoming ─▶ routes, echoes ─▶ Ask::Publish, parcels ─▶ shard │
//! Redis ◀─ PUBLISH, pipelined ─ routes, echoes ◀─ Inbox ◀─ inner subscriber ◀──┘
//! ```
//!
//! The process has one connection for each bridge, so one subscription, whatever the number of shards. What a bridge publishes
//! comes in by one shard and keeps its order; its inner subscriber lives there too and never hears what the bridge itself has
//! published, nor does the bridge hear from Redis what it has sent there (see `echo.rs`): so there are no loops.
//!
//! A bridge connects before the shards listen ([`Early`](crate::Early)), and what comes meanwhile waits. Afterwards it tries
//! again for as long as the process lives; nobody else notices.
//!
//! Nothing is promised beyond what Redis promises: messages that are published while there is no connection are missing. That
//! is counted, logged, and told to subscribers of the topic `notices`.

mod backoff;
mod echo;
mod figures;
mod link;
mod routes;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, ApiRefusal, Ask, Receipt};
use fanwire_core::ids::ShardId;
use fanwire_core::inner::{InnerId, InnerOutbox, InnerSubscription};
use fanwire_core::uri::MatchPolicy;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::Shards;
use crate::inner::{Inbound, Inbox, InboxLimits, Leaving, ask, next_subscriber};
use backoff::Backoff;
use echo::Echoes;
pub use figures::BridgeFigures;
use figures::{Figures, Loss};
use link::{ANSWER_TIME, Link, Message, words};
pub use routes::{Direction, Form, Names, Route, Routes};

/// One bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// In logs and metrics.
    pub name: String,
    /// Such as `redis://127.0.0.1:6379/0`, `rediss://…` for TLS, `redis+unix:///run/redis.sock`.
    pub url: String,
    /// Its name there (ACL); `None`: the default user.
    pub user: Option<String>,
    /// File with its password.
    pub password_file: Option<PathBuf>,
    /// File with the authorities of Redis's certificate, in PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whose permissions count here.
    pub actor: Actor,
    /// What goes where.
    pub routes: Routes,
    /// The topic that is told of gaps.
    pub notices: Option<String>,
    /// How much may wait, in each direction.
    pub limits: QueueLimits,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Messages.
    pub messages_max: usize,
    /// Their bytes. An empty queue takes one message of any size.
    pub bytes_max: usize,
}

/// Publications of one parcel: enough that waking the shard costs each of them nothing.
const PARCEL_MAX: usize = 512;
/// Parcels on the way: one that the shard works on while the next is made.
const PARCELS_MAX: usize = 2;
/// Messages that are published before their answers are waited for.
const PIPELINE_MAX: usize = 512;
/// After this long without a word Redis is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A Redis that takes us and ends us at once, again and again, is not asked any faster than one that is away.
const SOUND_TIME: Duration = Duration::from_secs(1);
/// A shard that takes longer hangs.
const SHARD_TIME: Duration = Duration::from_secs(30);

/// What the tasks learn once the shards run.
pub(crate) type WhenRunning = watch::Receiver<Option<Arc<dyn Shards>>>;

/// Starts the bridges. Each of the receivers hears when its bridge is subscribed, or has failed once.
pub(crate) fn spawn(
    configs: Vec<BridgeConfig>,
    running: &WhenRunning,
) -> (BridgeFigures, Vec<oneshot::Receiver<()>>) {
    let (mut figures, mut tried) = (Vec::new(), Vec::new());
    for (index, config) in configs.into_iter().enumerate() {
        let own = Arc::new(Figures::default());
        figures.push((config.name.clone(), Arc::clone(&own)));
        let (first, told) = oneshot::channel();
        tried.push(told);
        tokio::spawn(run(index, config, own, running.clone(), first));
    }
    (BridgeFigures(figures), tried)
}

async fn run(
    index: usize,
    config: BridgeConfig,
    figures: Arc<Figures>,
    mut running: WhenRunning,
    first: oneshot::Sender<()>,
) {
    let opened = Link::open(&config).await;
    // Nobody waits that long any more if it took too long.
    _ = first.send(());
    let Ok(shards) = running.wait_for(Option::is_some).await.map(|shards| shards.clone().expect("just seen"))
    else {
        return;
    };
    let shard = ShardId::new((index % shards.count()) as u8).expect("there are as many");
    let subscriber = next_subscriber();
    let _leaving = Leaving { shards: Arc::clone(&shards), shard, subscriber };
    let QueueLimits { messages_max, bytes_max } = config.limits;
    let mut inbox = Inbox::new(InboxLimits { messages_max, bytes_max });
    let echoes = Mutex::default();
    let mut bridge = Bridge { config, figures, shards, shard, subscriber, echoes, told: String::new() };
    bridge.subscribe(&inbox).await;
    bridge.live(&mut inbox, opened).await;
}

/// A bridge whose shards run.
struct Bridge {
    config: BridgeConfig,
    figures: Arc<Figures>,
    shards: Arc<dyn Shards>,
    shard: ShardId,
    subscriber: InnerId,
    echoes: Mutex<Echoes>,
    /// The last cause that was logged: the same one again is no news.
    told: String,
}

impl Bridge {
    /// Asks for the topics that go out. The answers come by the inbox.
    async fn subscribe(&self, inbox: &Inbox) {
        let routes = self.config.routes.0.iter().enumerate().filter(|(_, route)| route.direction.goes_out());
        for (index, route) in routes {
            let (match_policy, uri, wants) = match &route.names {
                Names::One { topic, .. } => (MatchPolicy::Exact, topic.clone(), None),
                Names::Pattern { glob, .. } => {
                    let prefix = String::from_utf8_lossy(&glob.literal_prefix()).into_owned();
                    let glob = glob.clone();
                    let wants = Arc::new(move |topic: &str| glob.matches(topic.as_bytes())) as Arc<_>;
                    (MatchPolicy::Prefix, prefix, Some(wants))
                }
            };
            let subscription = InnerSubscription {
                subscriber: self.subscriber,
                tag: index as u32,
                actor: self.config.actor,
                match_policy,
                uri: uri.into(),
                wants,
                outbox: inbox.outbox() as Arc<dyn InnerOutbox>,
            };
            let reply = inbox.reply(index as u64);
            ask(&*self.shards, self.shard, Ask::Subscribe(subscription), reply).await;
        }
    }

    /// Connects again and again. `opened`: the first attempt.
    async fn live(&mut self, inbox: &mut Inbox, mut opened: Result<Link, String>) {
        let mut backoff = Backoff::new(u64::from(std::process::id()) << 32 | u64::from(self.shard.get()));
        let mut had_link = false;
        loop {
            match opened {
                Ok(link) => {
                    self.came_up(had_link).await;
                    had_link = true;
                    let since = Instant::now();
                    let why = self.serve(link, inbox).await;
                    self.went_down(&why).await;
                    if since.elapsed() >= SOUND_TIME {
                        backoff.reset();
                    }
                }
                Err(why) => {
                    self.figures.failures.fetch_add(1, Ordering::Relaxed);
                    if self.told != why {
                        tracing::error!(
                            "bridge {:?} is not connected: {why}. It keeps trying",
                            self.config.name
                        );
                        self.told = why;
                    }
                }
            }
            tokio::time::sleep(backoff.wait()).await;
            opened = Link::open(&self.config).await;
        }
    }

    async fn came_up(&mut self, again: bool) {
        self.told.clear();
        self.figures.up.store(true, Ordering::Relaxed);
        self.figures.connects.fetch_add(1, Ordering::Relaxed);
        let gap = if again { "; what was published there meanwhile is missing" } else { "" };
        tracing::info!("bridge {:?} is connected to {}{gap}", self.config.name, self.config.url);
        self.notice(serde_json::json!({"bridge": self.config.name, "state": "up", "gap": again})).await;
    }

    async fn went_down(&mut self, why: &str) {
        self.figures.up.store(false, Ordering::Relaxed);
        self.figures.gaps.fetch_add(1, Ordering::Relaxed);
        self.echoes().clear();
        tracing::error!("bridge {:?} has lost its connection: {why}. It keeps trying", self.config.name);
        why.clone_into(&mut self.told);
        self.notice(serde_json::json!({"bridge": self.config.name, "state": "down"})).await;
    }

    /// Tells the topic of notices, if there is one. Nobody waits for what becomes of it.
    async fn notice(&self, notice: serde_json::Value) {
        let Some(topic) = &self.config.notices else { return };
        let args = serde_json::json!([notice]).to_string();
        let payload = OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None);
        let publication = self.publication(topic, payload.expect("it was just written"), false);
        let name = self.config.name.clone();
        let reply = Box::new(move |answer| {
            if let ApiAnswer::Published(outcomes) = answer
                && let Some(Err(refusal)) = outcomes.into_iter().next()
            {
                tracing::warn!("bridge {name:?}: its notice was refused: {refusal}; look at bridge.notices");
            }
        });
        ask(&*self.shards, self.shard, Ask::Publish(vec![publication]), reply).await;
    }

    fn publication(&self, topic: &str, payload: OwnedPayload, plain: bool) -> ApiPublication {
        ApiPublication {
            actor: self.config.actor,
            topic: topic.into(),
            payload,
            plain,
            receivers: ReceiverLists::default(),
            conflate_key: None,
            receipt: false,
            from: Some(self.subscriber),
        }
    }

    fn echoes(&self) -> MutexGuard<'_, Echoes> {
        // Nothing panics with it, and one task alone has it.
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries messages until the connection ends; says why it did. What has come by then is delivered first.
    async fn serve(&self, link: Link, inbox: &mut Inbox) -> String {
        let Link { connection, incoming } = link;
        let inward = self.inward(&incoming);
        tokio::pin!(inward);
        let why = tokio::select! {
            () = &mut inward => return "Redis has closed it".to_owned(),
            why = self.outward(connection.clone(), inbox) => why,
            why = self.stay_in_touch(connection.clone()) => why,
        };
        incoming.end();
        inward.await;
        why
    }

    /// From Redis, until nothing follows.
    async fn inward(&self, incoming: &link::Incoming) {
        let places = Arc::new(Semaphore::new(PARCELS_MAX));
        loop {
            let arrived = incoming.next().await;
            if arrived.lost > 0 {
                self.lost_inward(arrived.lost).await;
            }
            let mut parcel = Vec::new();
            for message in &arrived.messages {
                parcel.extend(self.read(message));
                if parcel.len() == PARCEL_MAX {
                    self.submit(std::mem::take(&mut parcel), &places).await;
                }
            }
            if !parcel.is_empty() {
                self.submit(parcel, &places).await;
            }
            if arrived.ended {
                break;
            }
        }
        // A shard that hangs is waited for no longer.
        _ = tokio::time::timeout(SHARD_TIME, places.acquire_many(PARCELS_MAX as u32)).await;
    }

    /// The publication that a message becomes.
    fn read(&self, message: &Message) -> Option<ApiPublication> {
        let Message { pattern, channel, payload } = message;
        let (route, topic) = self.config.routes.inward(pattern.as_deref(), channel)?;
        if route.direction.goes_out() && self.echoes().is_echo(channel, payload) {
            self.figures.echoes.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (payload, plain) = route.form.read(payload);
        Some(self.publication(topic, payload, plain))
    }

    /// Gives the shard a parcel; waits for an earlier one while too many are on the way.
    async fn submit(&self, parcel: Vec<ApiPublication>, places: &Arc<Semaphore>) {
        let place = Arc::clone(places).acquire_owned().await.expect("it is never closed");
        let (figures, name) = (Arc::clone(&self.figures), self.config.name.clone());
        let reply = Box::new(move |answer| {
            if let ApiAnswer::Published(outcomes) = answer {
                count_publications(&figures, &name, &outcomes);
            }
            drop(place);
        });
        ask(&*self.shards, self.shard, Ask::Publish(parcel), reply).await;
    }

    async fn lost_inward(&self, count: u64) {
        self.figures.lose(Loss::InQueueFull, count);
        tracing::warn!(
            "bridge {:?}: {count} messages from Redis had no room (bridge.queue, bridge.queue_messages)",
            self.config.name
        );
        self.notice(serde_json::json!({"bridge": self.config.name, "state": "lost", "count": count})).await;
    }

    /// To Redis; says why it cannot go on.
    async fn outward(&self, mut connection: MultiplexedConnection, inbox: &mut Inbox) -> String {
        let mut inbound = Vec::new();
        loop {
            inbox.receive(&mut inbound, PIPELINE_MAX).await;
            let mut pipeline = redis::pipe();
            let mut count = 0;
            for inbound in inbound.drain(..) {
                count += u64::from(self.add(inbound, &mut pipeline));
            }
            if count == 0 {
                continue;
            }
            let mut in_flight = InFlight { figures: &self.figures, count };
            match pipeline.ignore_errors().query_async::<Vec<RedisResult<u64>>>(&mut connection).await {
                Ok(outcomes) => {
                    in_flight.count = 0;
                    self.count_outcomes(&outcomes);
                }
                // Nobody knows what Redis has done with them.
                Err(error) => return words(&self.config, &error),
            }
        }
    }

    /// Counts what Redis has answered to messages.
    fn count_outcomes(&self, outcomes: &[RedisResult<u64>]) {
        let refused: Vec<&RedisError> =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        let went_out = outcomes.len() - refused.len();
        self.figures.went_out.fetch_add(went_out as u64, Ordering::Relaxed);
        if let Some(first) = refused.first() {
            self.figures.lose(Loss::OutRefused, refused.len() as u64);
            let (name, count) = (&self.config.name, refused.len());
            tracing::warn!("bridge {name:?}: Redis refused {count} messages: {}", words(&self.config, first));
        }
    }

    /// Adds what has come to the pipeline; whether it is something to publish.
    fn add(&self, inbound: Inbound, pipeline: &mut redis::Pipeline) -> bool {
        let name = &self.config.name;
        match inbound {
            Inbound::Event(event) => {
                let routes = &self.config.routes;
                let Some((route, channel)) = routes.outward(event.tag as usize, event.topic()) else {
                    return false;
                };
                let Ok(payload) = route.form.write(&event.payload) else {
                    self.figures.lose(Loss::OutUntranslatable, 1);
                    return false;
                };
                if routes.of_channel(channel.as_bytes()).is_some_and(|(route, _)| route.direction.goes_out())
                {
                    self.echoes().expect(Instant::now(), channel.as_bytes(), &payload);
                }
                pipeline.cmd("PUBLISH").arg(channel).arg(payload);
                return true;
            }
            Inbound::Lost(count) => {
                self.figures.lose(Loss::OutQueueFull, count);
                tracing::warn!(
                    "bridge {name:?}: {count} events for Redis had no room (bridge.queue, bridge.queue_messages)"
                );
            }
            Inbound::Answer(index, ApiAnswer::Subscribed(Err(refusal))) => {
                let route = &self.config.routes.0[index as usize];
                tracing::error!("bridge {name:?}: nothing goes out for {:?}: {refusal}", route.names);
            }
            Inbound::Answer(..) => {}
            Inbound::Withdrawn(tag) => {
                let route = &self.config.routes.0[tag as usize];
                tracing::warn!(
                    "bridge {name:?}: newer permissions forbid what goes out for {:?}",
                    route.names
                );
            }
        }
        false
    }

    /// Asks now and then whether Redis is there; says why not.
    async fn stay_in_touch(&self, mut connection: MultiplexedConnection) -> String {
        loop {
            tokio::time::sleep(PING_INTERVAL).await;
            if let Err(error) = redis::cmd("PING").query_async::<()>(&mut connection).await {
                return format!("no answer to PING within {ANSWER_TIME:?}: {error}");
            }
        }
    }
}

/// Counts what became of messages from Redis.
fn count_publications(figures: &Figures, name: &str, outcomes: &[Result<Receipt, ApiRefusal>]) {
    let mut done = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => done += 1,
            Err(refusal) if refusal.error == UNAVAILABLE => figures.lose(Loss::InUnavailable, 1),
            Err(refusal) => {
                figures.lose(Loss::InRefused, 1);
                tracing::debug!("bridge {name:?}: a message was refused: {refusal}");
            }
        }
    }
    figures.came_in.fetch_add(done, Ordering::Relaxed);
}

/// Messages that Redis has not answered: if that is not waited for to the end, nobody knows.
struct InFlight<'a> {
    figures: &'a Figures,
    count: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.figures.lose(Loss::OutUnknown, self.count);
    }
}

/// WAMP's error of what there is no room for.
const UNAVAILABLE: &str = "wamp.error.unavailable";
