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
mod reflection;
mod registrations;
mod sessions;
mod subscriptions;
mod testaments;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
use reflection::Definitions;
use words::{Arguments, Refused, Said, error};

/// Lanes of those who may ask, and as many of those who may also end something of others: who floods the first ones does not keep
/// an operator from sending it away.
const LANES: usize = 8;
/// Calls that may wait in each lane, and those of one session among them.
const LANE_CALLS_MAX: usize = 128;
const SESSION_CALLS_MAX: u32 = 64;
/// Bytes of arguments of one call. Nothing that these procedures take is long.
const ARGUMENT_BYTES_MAX: usize = 256 << 10;
/// For each question to a shard. Far below the time after which the caller's shard gives the call up.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Where shards put calls of meta procedures.
#[derive(Clone, Debug)]
pub struct MetaQueue {
    lanes: Arc<[LaneEnd]>,
    news: NewsQueue,
    figures: Arc<MetaFigures>,
}

/// Where calls are put.
#[derive(Debug)]
struct LaneEnd {
    sender: mpsc::Sender<Queued>,
    waiting: Arc<Waiting>,
}

/// Where they come out.
#[derive(Debug)]
struct Lane {
    receiver: mpsc::Receiver<Queued>,
    waiting: Arc<Waiting>,
}

/// How many calls of each session wait in a lane.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<SessionId, u32>>);

#[derive(Debug)]
struct Queued {
    shard: ShardId,
    question: Question,
}

/// Takes calls from the lanes and answers them.
#[derive(Debug)]
pub struct MetaDesk {
    lanes: Vec<Lane>,
    news: NewsDesk,
    /// Where the desk itself puts news.
    own_news: NewsQueue,
    figures: Arc<MetaFigures>,
}

/// A desk and the queue in front of it.
pub fn desk() -> (MetaQueue, MetaDesk) {
    let figures = Arc::<MetaFigures>::default();
    let (ends, lanes): (Vec<_>, Vec<_>) = (0..2 * LANES).map(|_| lane()).unzip();
    let (news, news_desk) = news::queue(&figures);
    let own_news = news.clone();
    let queue = MetaQueue { lanes: ends.into(), news, figures: Arc::clone(&figures) };
    (queue, MetaDesk { lanes, news: news_desk, own_news, figures })
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
        let Subject::Meta { caller, is_express, payload, .. } = &question.subject else {
            return Err(question.verdict(Err(Denial::Failed)));
        };
        if payload.len() > ARGUMENT_BYTES_MAX {
            self.figures.count(Outcome::Refused);
            let words = format!("the arguments have {} bytes, more than {ARGUMENT_BYTES_MAX}", payload.len());
            return Err(question.verdict(Err(Refused::new(error::PAYLOAD_SIZE_EXCEEDED, words).into())));
        }
        // Ids are drawn at random. Programs have no order among themselves.
        let lane = caller.map_or(0, SessionId::get) as usize % LANES;
        let lane = &self.lanes[if *is_express { LANES + lane } else { lane }];
        let busy = |question: Question| {
            self.figures.count(Outcome::Busy);
            let words = "too many calls of meta procedures wait: try again later".to_owned();
            question.verdict(Err(Refused::new(error::UNAVAILABLE, words).into()))
        };
        let caller = *caller;
        if !lane.waiting.enter(caller) {
            return Err(busy(question));
        }
        lane.sender.try_send(Queued { shard, question }).map_err(|error| {
            lane.waiting.leave(caller);
            busy(error.into_inner().question)
        })
    }
}

fn lane() -> (LaneEnd, Lane) {
    let (sender, receiver) = mpsc::channel(LANE_CALLS_MAX);
    let waiting = Arc::<Waiting>::default();
    (LaneEnd { sender, waiting: Arc::clone(&waiting) }, Lane { receiver, waiting })
}

impl Waiting {
    /// One more, unless the caller has as many as it may. Programs are the operator's.
    fn enter(&self, caller: Option<SessionId>) -> bool {
        let Some(session) = caller else { return true };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(session).or_default();
        let has_room = *count < SESSION_CALLS_MAX;
        *count += u32::from(has_room);
        has_room
    }

    fn leave(&self, caller: Option<SessionId>) {
        let Some(session) = caller else { return };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&session);
            }
        }
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
        let definitions = Definitions::default();
        for lane in self.lanes {
            let desk = Desk {
                definitions: definitions.clone(),
                news: self.own_news.clone(),
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
    definitions: Definitions,
    news: NewsQueue,
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
    role: RoleId,
    /// A rule about `wamp.` itself allows it.
    is_express: bool,
}

impl Desk {
    async fn run(self, mut lane: Lane) {
        while let Some(Queued { shard, question }) = lane.receiver.recv().await {
            if let Subject::Meta { caller, .. } = &question.subject {
                lane.waiting.leave(*caller);
            }
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
        let caller = Caller { session: *caller, realm: question.realm, role: *role, is_express: *is_express };
        match &**uri {
            "wamp.session.count" => self.count_sessions(caller, &arguments).await,
            "wamp.session.list" => self.list_sessions(caller, &arguments).await,
            "wamp.session.get" => self.get_session(caller, &arguments).await,
            "wamp.session.add_testament" => self.add_testament(caller, &arguments).await,
            "wamp.session.flush_testaments" => self.flush_testaments(caller, &arguments).await,
            "wamp.subscription.list" => self.list_subscriptions(caller, &arguments).await,
            "wamp.subscription.lookup" => self.lookup_subscription(caller, &arguments),
            "wamp.subscription.match" => self.match_subscriptions(caller, &arguments),
            "wamp.subscription.get" => self.get_subscription(caller, &arguments),
            "wamp.subscription.get_events" => self.get_events(caller, *role, serializer, &arguments).await,
            "wamp.subscription.list_subscribers" => self.list_subscribers(caller, &arguments).await,
            "wamp.subscription.count_subscribers" => self.count_subscribers(caller, &arguments).await,
            "wamp.subscription.remove_subscriber" => self.remove_subscriber(caller, &arguments).await,
            "wamp.registration.list" => self.list_registrations(caller, &arguments).await,
            "wamp.registration.lookup" => self.lookup_registration(caller, &arguments),
            "wamp.registration.match" => self.match_registration(caller, &arguments),
            "wamp.registration.get" => self.get_registration(caller, &arguments),
            "wamp.registration.list_callees" => self.list_callees(caller, &arguments).await,
            "wamp.registration.count_callees" => self.count_callees(caller, &arguments).await,
            "wamp.registration.remove_callee" => self.remove_callee(caller, &arguments).await,
            "wamp.session.kill" => self.kill(caller, &arguments).await,
            "wamp.session.kill_by_authid" => self.kill_by_authid(caller, &arguments).await,
            "wamp.session.kill_by_authrole" => self.kill_by_authrole(caller, &arguments).await,
            "wamp.session.kill_all" => self.kill_all(caller, &arguments).await,
            "wamp.reflect.define" => self.define(caller, &arguments),
            "wamp.reflect.describe" => self.describe_all(caller, &arguments),
            uri => match reflection::reflecting(uri) {
                Some((kind, verb)) => self.reflect(caller, &arguments, kind, verb).await,
                None => {
                    let words = format!("the router has no procedure {uri}");
                    Err(Refused::new(error::NO_SUCH_PROCEDURE, words))
                }
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_does_not_fill_a_lane() {
        let waiting = Waiting::default();
        let [one, other] = [1, 2].map(SessionId::new);
        assert!((0..SESSION_CALLS_MAX).all(|_| waiting.enter(one)));
        assert!(!waiting.enter(one), "it has as many as it may");
        assert!(waiting.enter(other) && waiting.enter(None), "others may wait");
        waiting.leave(one);
        assert!(waiting.enter(one) && !waiting.enter(one));
        (0..SESSION_CALLS_MAX).for_each(|_| waiting.leave(one));
        waiting.leave(other);
        assert!(waiting.0.lock().expect("nobody panicked").is_empty(), "who waits no more is forgotten");
    }
}
