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
mod losses;
mod resolve;
mod routes;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, ApiRefusal, Ask, Receipt};
use fanwire_core::ids::ShardId;
use fanwire_core::inner::{InnerEvent, InnerId, InnerOutbox, InnerSubscription};
use fanwire_core::uri::MatchPolicy;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::Shards;
use crate::inner::{Inbound, Inbox, InboxLimits, Leaving, Outbox, ask, next_subscriber};
use backoff::Backoff;
use echo::Echoes;
pub use figures::BridgeFigures;
use figures::{Figures, Loss};
use link::{ANSWER_TIME, Link, Message, words};
use losses::{Losses, TELL_INTERVAL};
use resolve::Resolver;
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
    /// Bytes of one message from Redis: no more than clients may send.
    pub message_max: usize,
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
const SOUND_TIME: Duration = Duration::from_millis(250);
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
    let resolver = Resolver::default();
    let opened = Link::open(&config, &resolver).await;
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
    // Nobody else has set it.
    _ = figures.outbox.set(inbox.outbox());
    let bridge = Bridge {
        config,
        figures,
        shards,
        shard,
        subscriber,
        outbox: inbox.outbox(),
        resolver,
        echoes: Mutex::default(),
        losses: Losses::default(),
        unsubscribed: Mutex::default(),
    };
    bridge.subscribe().await;
    tokio::join!(bridge.live(&mut inbox, opened), bridge.tell_losses());
}

/// A bridge whose shards run.
struct Bridge {
    config: BridgeConfig,
    figures: Arc<Figures>,
    shards: Arc<dyn Shards>,
    shard: ShardId,
    subscriber: InnerId,
    outbox: Arc<Outbox>,
    resolver: Resolver,
    echoes: Mutex<Echoes>,
    losses: Losses,
    /// Routes whose topics may not be heard. Permissions may change, so it is asked for them again.
    unsubscribed: Mutex<BTreeSet<u32>>,
}

impl Bridge {
    /// Asks for the topics that go out.
    async fn subscribe(&self) {
        for (index, route) in self.config.routes.0.iter().enumerate() {
            if route.direction.goes_out() {
                self.ask_for(index as u32, route).await;
            }
        }
    }

    /// Asks again for those that were refused or withdrawn.
    async fn subscribe_again(&self) {
        let unsubscribed: Vec<u32> = lock(&self.unsubscribed).iter().copied().collect();
        for index in unsubscribed {
            self.ask_for(index, &self.config.routes.0[index as usize]).await;
        }
    }

    /// Asks for the topic of a route. The answer comes by the inbox.
    async fn ask_for(&self, index: u32, route: &Route) {
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
            tag: index,
            actor: self.config.actor,
            match_policy,
            uri: uri.into(),
            wants,
            outbox: Arc::clone(&self.outbox) as Arc<dyn InnerOutbox>,
        };
        let reply = self.outbox.reply(u64::from(index));
        ask(&*self.shards, self.shard, Ask::Subscribe(subscription), reply).await;
    }

    /// Connects again and again. `opened`: the first attempt.
    async fn live(&self, inbox: &mut Inbox, mut opened: Result<Link, String>) {
        let mut backoff = Backoff::new(RandomState::new().hash_one(&self.config.name));
        let mut had_link = false;
        // The last cause that was logged: the same one again is no news.
        let mut told = String::new();
        loop {
            match opened {
                Ok(link) => {
                    self.came_up(had_link).await;
                    had_link = true;
                    let since = Instant::now();
                    told = self.serve(link, inbox).await;
                    self.went_down(&told).await;
                    if since.elapsed() >= SOUND_TIME {
                        backoff.reset();
                    }
                }
                Err(why) => {
                    self.figures.failures.fetch_add(1, Ordering::Relaxed);
                    if told != why {
                        tracing::error!(
                            "bridge {:?} is not connected: {why}. It keeps trying",
                            self.config.name
                        );
                        told = why;
                    }
                }
            }
            tokio::time::sleep(backoff.wait()).await;
            opened = Link::open(&self.config, &self.resolver).await;
        }
    }

    async fn came_up(&self, again: bool) {
        self.figures.up.store(true, Ordering::Relaxed);
        self.figures.connects.fetch_add(1, Ordering::Relaxed);
        let gap = if again { "; what was published there meanwhile is missing" } else { "" };
        tracing::info!("bridge {:?} is connected to {}{gap}", self.config.name, self.config.url);
        self.notice(serde_json::json!({"bridge": self.config.name, "state": "up", "gap": again})).await;
    }

    async fn went_down(&self, why: &str) {
        self.figures.up.store(false, Ordering::Relaxed);
        self.figures.gaps.fetch_add(1, Ordering::Relaxed);
        lock(&self.echoes).clear();
        tracing::error!("bridge {:?} has lost its connection: {why}. It keeps trying", self.config.name);
        self.notice(serde_json::json!({"bridge": self.config.name, "state": "down"})).await;
    }

    /// Counts what had no room on its way out, and tells of all losses now and then.
    async fn tell_losses(&self) {
        let name = &self.config.name;
        loop {
            tokio::select! {
                () = self.outbox.overflowed() => {}
                () = self.losses.changed() => {}
            }
            let (lost, untold) = (self.outbox.take_lost(), self.losses.take());
            self.figures.lose(Loss::OutQueueFull, lost);
            for (direction, count) in [("in", untold.inward), ("out", lost)] {
                if count > 0 {
                    tracing::warn!(
                        "bridge {name:?}: {count} messages on their way {direction} had no room (bridge.queue, \
                         bridge.queue_messages)"
                    );
                    let lost = serde_json::json!({"bridge": name, "state": "lost", "direction": direction, "count": count});
                    self.notice(lost).await;
                }
            }
            if untold.refused > 0 {
                tracing::warn!("bridge {name:?}: Redis refused {} messages: {}", untold.refused, untold.why);
            }
            tokio::time::sleep(TELL_INTERVAL).await;
        }
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
            retain: false,
            receipt: false,
            from: Some(self.subscriber),
        }
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
        // What a shard that hangs does not take is counted as unknown.
        _ = tokio::time::timeout(SHARD_TIME, inward).await;
        why
    }

    /// From Redis, until nothing follows.
    async fn inward(&self, incoming: &link::Incoming) {
        let places = Arc::new(Semaphore::new(PARCELS_MAX));
        loop {
            let arrived = incoming.next().await;
            if arrived.lost > 0 {
                self.figures.lose(Loss::InQueueFull, arrived.lost);
                self.losses.add_inward(arrived.lost);
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
        _ = places.acquire_many(PARCELS_MAX as u32).await;
    }

    /// The publication that a message becomes.
    fn read(&self, message: &Message) -> Option<ApiPublication> {
        let Message { pattern, channel, payload } = message;
        if pattern.is_some() && std::str::from_utf8(channel).is_err() {
            // A pattern of ours has brought it, and no topic has such a name.
            self.figures.lose(Loss::InRefused, 1);
            return None;
        }
        let (route, topic) = self.config.routes.inward(pattern.as_deref(), channel)?;
        if lock(&self.echoes).is_echo(Instant::now(), channel, payload) {
            self.figures.echoes.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if payload.len() > self.config.message_max {
            self.figures.lose(Loss::InTooLarge, 1);
            return None;
        }
        let (payload, plain) = route.form.read(payload);
        Some(self.publication(topic, payload, plain))
    }

    /// Gives the shard a parcel; waits for an earlier one while too many are on the way.
    async fn submit(&self, parcel: Vec<ApiPublication>, places: &Arc<Semaphore>) {
        let place = Arc::clone(places).acquire_owned().await.expect("it is never closed");
        let (figures, count) = (Arc::clone(&self.figures), parcel.len() as u64);
        let mut in_flight = InFlight { figures, loss: Loss::InUnknown, count };
        let name = self.config.name.clone();
        let reply = Box::new(move |answer| {
            if let ApiAnswer::Published(outcomes) = answer {
                in_flight.count = 0;
                count_publications(&in_flight.figures, &name, &outcomes);
            }
            drop(place);
        });
        ask(&*self.shards, self.shard, Ask::Publish(parcel), reply).await;
    }

    /// To Redis; says why it cannot go on.
    async fn outward(&self, mut connection: MultiplexedConnection, inbox: &mut Inbox) -> String {
        let mut inbound = Vec::new();
        loop {
            inbox.receive(&mut inbound, PIPELINE_MAX).await;
            let mut pipeline = redis::pipe();
            // What comes back of it, if anything does.
            let mut echoes = Vec::with_capacity(inbound.len());
            for inbound in inbound.drain(..) {
                match inbound {
                    Inbound::Event(event) => self.add(&event, &mut pipeline, &mut echoes),
                    other => self.note(other),
                }
            }
            if echoes.is_empty() {
                continue;
            }
            let (figures, count) = (Arc::clone(&self.figures), echoes.len() as u64);
            figures.in_flight.store(count, Ordering::Relaxed);
            let mut in_flight = InFlight { figures, loss: Loss::OutUnknown, count };
            let answers =
                pipeline.ignore_errors().query_async::<Vec<RedisResult<u64>>>(&mut connection).await;
            self.figures.in_flight.store(0, Ordering::Relaxed);
            match answers {
                Ok(outcomes) => {
                    in_flight.count = 0;
                    self.count_outcomes(&outcomes, &echoes);
                }
                // Nobody knows what Redis has done with them.
                Err(error) => return words(&self.config, &error),
            }
        }
    }

    /// Counts what Redis has answered to messages. What it refused does not come back.
    fn count_outcomes(&self, outcomes: &[RedisResult<u64>], echoes: &[Option<u64>]) {
        let mut refused = 0;
        let mut why = None;
        for (outcome, echo) in outcomes.iter().zip(echoes) {
            let Err(error) = outcome else { continue };
            refused += 1;
            why = Some(error);
            if let Some(hash) = echo {
                lock(&self.echoes).forget(*hash);
            }
        }
        self.figures.went_out.fetch_add(outcomes.len() as u64 - refused, Ordering::Relaxed);
        if let Some(error) = why {
            self.figures.lose(Loss::OutRefused, refused);
            self.losses.add_refused(refused, words(&self.config, error));
        }
    }

    /// Adds an event to the pipeline, and what will come back of it.
    fn add(&self, event: &InnerEvent, pipeline: &mut redis::Pipeline, echoes: &mut Vec<Option<u64>>) {
        let routes = &self.config.routes;
        let Some((route, channel)) = routes.outward(event.tag as usize, event.topic()) else { return };
        let Ok(payload) = route.form.write(event.payload.original()) else {
            return self.figures.lose(Loss::OutUntranslatable, 1);
        };
        let bytes = channel.as_bytes();
        let comes_back = routes.of_channel(bytes).is_some_and(|(_, topic)| topic == event.topic());
        echoes.push(comes_back.then(|| lock(&self.echoes).expect(Instant::now(), bytes, &payload)));
        pipeline.cmd("PUBLISH").arg(channel).arg(payload);
    }

    /// What the shard says of the topics that go out.
    fn note(&self, inbound: Inbound) {
        let (name, names) = (&self.config.name, |tag: u32| &self.config.routes.0[tag as usize].names);
        match inbound {
            Inbound::Answer(tag, ApiAnswer::Subscribed(outcome)) => {
                let tag = tag as u32;
                let was_refused = lock(&self.unsubscribed).contains(&tag);
                match outcome {
                    Ok(()) if was_refused => {
                        lock(&self.unsubscribed).remove(&tag);
                        tracing::info!("bridge {name:?}: {:?} goes out now", names(tag));
                    }
                    Err(refusal) if !was_refused => {
                        lock(&self.unsubscribed).insert(tag);
                        tracing::error!("bridge {name:?}: nothing goes out for {:?}: {refusal}", names(tag));
                    }
                    _ => {}
                }
            }
            Inbound::Withdrawn(tag) => {
                lock(&self.unsubscribed).insert(tag);
                tracing::warn!(
                    "bridge {name:?}: newer permissions forbid what goes out for {:?}",
                    names(tag)
                );
            }
            Inbound::Answer(..) | Inbound::Event(_) => {}
        }
    }

    /// Asks now and then whether Redis is there; says why not.
    async fn stay_in_touch(&self, mut connection: MultiplexedConnection) -> String {
        loop {
            tokio::time::sleep(PING_INTERVAL).await;
            self.subscribe_again().await;
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

/// Messages that the other side has not answered: if that is not waited for to the end, nobody knows.
struct InFlight {
    figures: Arc<Figures>,
    loss: Loss,
    count: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.figures.lose(self.loss, self.count);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with one, and the tasks of one bridge alone have it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// WAMP's error of what there is no room for.
const UNAVAILABLE: &str = "wamp.error.unavailable";
