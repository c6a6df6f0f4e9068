//! The meta desk: answers WAMP's meta procedures, beside the shards.
//!
//! ```text
//! shards ─Question─▶ lane of the caller ─▶ directory, and a page of each shard at a time ─▶ Verdict ─▶ shard
//!            └ the lane is full: refused at once
//! ```
//!
//! A session always has the same lane, so its calls are answered in its order; one that asks for much holds up those of its
//! lane alone. What is long is done a page at a time, and others have their turn in between.
//!
//! Read [`desk`] and `Desk::answer`; `words` is what arguments and answers look like.

mod figures;
mod history;
mod news;
mod registrations;
mod sessions;
mod subscriptions;
mod testaments;
mod words;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::CoreConfig;
use fanwire_core::api::{ApiAnswer, Ask};
use fanwire_core::ids::{RealmId, RoleId, SessionId, ShardId};
use fanwire_core::question::{Answer, Denial, Grant, Question, Subject, Told, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Shards;
use crate::inner;
pub use figures::MetaFigures;
use figures::Outcome;
use news::{NewsDesk, NewsQueue};
use words::{Arguments, Refused, Said, error};

/// Lanes, and calls that may wait in each.
const LANES: usize = 8;
const LANE_CALLS_MAX: usize = 128;
/// Bytes of arguments of one call. Nothing that these procedures take is long.
const ARGUMENT_BYTES_MAX: usize = 256 << 10;
/// For each question to a shard. Far below the time after which the caller's shard gives the call up.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Where shards put calls of meta procedures.
#[derive(Clone, Debug)]
pub struct MetaQueue {
    lanes: Arc<[mpsc::Sender<Queued>]>,
    news: NewsQueue,
    figures: Arc<MetaFigures>,
}

#[derive(Debug)]
struct Queued {
    shard: ShardId,
    question: Question,
}

/// Takes calls from the lanes and answers them.
#[derive(Debug)]
pub struct MetaDesk {
    lanes: Vec<mpsc::Receiver<Queued>>,
    news: NewsDesk,
    figures: Arc<MetaFigures>,
}

/// A desk and the queue in front of it.
pub fn desk() -> (MetaQueue, MetaDesk) {
    let figures = Arc::<MetaFigures>::default();
    let (senders, lanes): (Vec<_>, Vec<_>) = (0..LANES).map(|_| mpsc::channel(LANE_CALLS_MAX)).unzip();
    let (news, news_desk) = news::queue(&figures);
    let queue = MetaQueue { lanes: senders.into(), news, figures: Arc::clone(&figures) };
    (queue, MetaDesk { lanes, news: news_desk, figures })
}

impl MetaQueue {
    /// Whether a question is for this desk.
    pub fn is_for(question: &Question) -> bool {
        matches!(question.subject, Subject::Meta { .. } | Subject::News { .. })
    }

    /// Queues a call, or news, which nobody waits for. Never blocks.
    ///
    /// # Errors
    ///
    /// The verdict, where there is no room for it.
    pub fn submit(&self, shard: ShardId, question: Question) -> Result<(), Verdict> {
        if let Subject::News { .. } = question.subject {
            self.news.submit(question);
            return Ok(());
        }
        let Subject::Meta { caller, payload, .. } = &question.subject else {
            return Err(question.verdict(Err(Denial::Failed)));
        };
        if payload.len() > ARGUMENT_BYTES_MAX {
            self.figures.count(Outcome::Refused);
            let words = format!("the arguments have {} bytes, more than {ARGUMENT_BYTES_MAX}", payload.len());
            return Err(question.verdict(Err(Refused::new(error::PAYLOAD_SIZE_EXCEEDED, words).into())));
        }
        // Ids are drawn at random. Programs have no order among themselves.
        let lane = caller.map_or(0, SessionId::get) as usize % LANES;
        self.lanes[lane].try_send(Queued { shard, question }).map_err(|error| {
            self.figures.count(Outcome::Busy);
            let words = "too many calls of meta procedures wait: try again later".to_owned();
            error.into_inner().question.verdict(Err(Refused::new(error::UNAVAILABLE, words).into()))
        })
    }
}

impl MetaDesk {
    /// For the metrics page.
    pub fn figures(&self) -> Arc<MetaFigures> {
        Arc::clone(&self.figures)
    }

    /// Answers until the shards have ended. `core` has the names of realms and roles, those of now.
    pub(crate) fn start(self, shards: &Arc<dyn Shards>, core: &Arc<ArcSwap<CoreConfig>>) {
        tokio::spawn(self.news.run(Arc::clone(shards), Arc::clone(core)));
        for lane in self.lanes {
            let desk = Desk {
                shards: Arc::clone(shards),
                core: Arc::clone(core),
                figures: Arc::clone(&self.figures),
            };
            tokio::spawn(desk.run(lane));
        }
    }
}

/// Works off one lane.
struct Desk {
    shards: Arc<dyn Shards>,
    core: Arc<ArcSwap<CoreConfig>>,
    figures: Arc<MetaFigures>,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
struct Caller {
    /// `None`: a program, by API.
    session: Option<SessionId>,
    realm: RealmId,
    /// A rule about `wamp.` itself allows it.
    is_express: bool,
}

impl Desk {
    async fn run(self, mut lane: mpsc::Receiver<Queued>) {
        while let Some(Queued { shard, question }) = lane.recv().await {
            if !question.is_wanted() {
                self.figures.count(Outcome::Abandoned);
                continue;
            }
            let outcome = self.answer(&question).await;
            self.figures.count(match &outcome {
                Ok(_) => Outcome::Done,
                Err(refused) if refused.is_ours() => Outcome::Failed,
                Err(_) => Outcome::Refused,
            });
            let outcome = outcome.map(Said::into_grant).map_err(Denial::from);
            if let Err(verdict) = self.shards.answer(shard, question.verdict(outcome)) {
                crate::login::answer(&*self.shards, shard, verdict).await;
            }
        }
    }

    async fn answer(&self, question: &Question) -> Result<Said, Refused> {
        let Subject::Meta { caller, role, is_express, uri, payload } = &question.subject else {
            unreachable!("submit has looked")
        };
        let serializer = payload.serializer();
        let payload = payload.transcode(Serializer::Json).map_err(|_| {
            Refused::new(
                error::INVALID_ARGUMENT,
                "the arguments have no form in JSON, which they need".into(),
            )
        })?;
        let arguments = Arguments::read(&payload)?;
        let caller = Caller { session: *caller, realm: question.realm, is_express: *is_express };
        match &**uri {
            "wamp.session.count" => self.count_sessions(caller, &arguments).await,
            "wamp.session.list" => self.list_sessions(caller, &arguments).await,
            "wamp.session.get" => self.get_session(caller, &arguments).await,
            "wamp.session.add_testament" => self.add_testament(caller, &arguments).await,
            "wamp.session.flush_testaments" => self.flush_testaments(caller, &arguments).await,
            "wamp.subscription.list" => self.list_subscriptions(caller, &arguments).await,
            "wamp.subscription.lookup" => self.lookup_subscription(caller, &arguments),
            "wamp.subscription.match" => self.match_subscriptions(caller, &arguments),
            "wamp.subscription.get" => self.get_subscription(caller, &arguments).await,
            "wamp.subscription.get_events" => self.get_events(caller, *role, serializer, &arguments).await,
            "wamp.subscription.list_subscribers" => self.list_subscribers(caller, &arguments).await,
            "wamp.subscription.count_subscribers" => self.count_subscribers(caller, &arguments).await,
            "wamp.subscription.remove_subscriber" => self.remove_subscriber(caller, &arguments).await,
            "wamp.registration.list" => self.list_registrations(caller, &arguments).await,
            "wamp.registration.lookup" => self.lookup_registration(caller, &arguments),
            "wamp.registration.match" => self.match_registration(caller, &arguments),
            "wamp.registration.get" => self.get_registration(caller, &arguments).await,
            "wamp.registration.list_callees" => self.list_callees(caller, &arguments).await,
            "wamp.registration.count_callees" => self.count_callees(caller, &arguments).await,
            "wamp.registration.remove_callee" => self.remove_callee(caller, &arguments).await,
            "wamp.session.kill" => self.kill(caller, &arguments).await,
            "wamp.session.kill_by_authid" => self.kill_by_authid(caller, &arguments).await,
            "wamp.session.kill_by_authrole" => self.kill_by_authrole(caller, &arguments).await,
            "wamp.session.kill_all" => self.kill_all(caller, &arguments).await,
            uri => Err(Refused::new(error::NO_SUCH_PROCEDURE, format!("the router has no procedure {uri}"))),
        }
    }

    /// All shards, one after another.
    fn each_shard(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.count()).filter_map(|index| ShardId::new(u8::try_from(index).ok()?))
    }

    /// Asks one shard; waits while it has no room for the question.
    async fn ask(&self, shard: ShardId, ask: Ask) -> Result<ApiAnswer, Refused> {
        let (answer, answered) = oneshot::channel();
        let reply = Box::new(move |said| drop(answer.send(said)));
        let asking = async {
            inner::ask(&*self.shards, shard, ask, reply).await;
            answered.await
        };
        match timeout(ANSWER_TIME, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => {
                let words = format!("shard {} did not answer in time: try again later", shard.get());
                Err(Refused::new(error::UNAVAILABLE, words))
            }
        }
    }

    /// The number of a role in the realm.
    fn role(&self, realm: RealmId, name: &str) -> Option<RoleId> {
        self.core.load().access.role(realm, name)
    }
}

/// Lets others of this thread have their turn.
#[allow(clippy::disallowed_methods, reason = "this is tokio's thread, and no shard's")]
async fn breathe() {
    tokio::task::yield_now().await;
}

impl From<Refused> for Denial {
    fn from(refused: Refused) -> Self {
        let Refused { uri, words } = refused;
        Self::Told(Box::new(Told { error: Some(uri.into()), message: Some(words.into()) }))
    }
}

impl Said {
    fn into_grant(self) -> Grant {
        let answer = self.0.map(|payload| Box::new(Answer::Payload(payload)));
        Grant { answer, ..Grant::default() }
    }
}
