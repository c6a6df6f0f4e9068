//! Publishes what shards tell: meta events and testaments, in one order.
//!
//! ```text
//! shards ── News with its number ──▶ queue ──▶ in order of the numbers ──▶ batches to one shard, one after the other
//!              └ no room: dropped and counted
//! ```
//!
//! Two shards may tell in another order than things happened; numbers without a gap say which one is missing. What has not come
//! after [`GAP_TIME`] was dropped, and the rest goes on without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};
use fanwire_core::CoreConfig;
use fanwire_core::access::Access;
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, Ask};
use fanwire_core::ids::{RealmId, RoleId, ShardId};
use fanwire_core::meta::{Change, News, ON_JOIN, ON_LEAVE};
use fanwire_core::question::{Question, Subject};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::figures::{Announced, MetaFigures};
use super::sessions::{SessionDetails, Transport};
use super::subscriptions::EntryRow;
use crate::{Shards, inner};

/// News that may wait, and bytes of testaments and definitions among them.
const NEWS_MAX: usize = 65_536;
const BYTES_MAX: usize = 32 << 20;
/// Of [`NEWS_MAX`], what only beginnings and ends of sessions and their testaments may fill.
const KEPT_ROOM: usize = NEWS_MAX / 4;
/// Of [`BYTES_MAX`], what definitions may fill, which any client can say anew as often as it likes.
const DEFINITION_BYTES_MAX: usize = BYTES_MAX / 4;
/// For how long a number may be missing. Shards tell what they have before they do anything else.
const GAP_TIME: Duration = Duration::from_millis(100);
/// Publications of one request.
const BATCH: usize = 64;

/// Where shards put news.
#[derive(Clone, Debug)]
pub(super) struct NewsQueue {
    sender: mpsc::Sender<Told>,
    held_bytes: Arc<AtomicUsize>,
    figures: Arc<MetaFigures>,
}

#[derive(Debug)]
struct Told {
    number: u64,
    realm: RealmId,
    news: News,
}

/// The other end.
#[derive(Debug)]
pub(super) struct NewsDesk {
    receiver: mpsc::Receiver<Told>,
    held_bytes: Arc<AtomicUsize>,
    figures: Arc<MetaFigures>,
}

pub(super) fn queue(figures: &Arc<MetaFigures>) -> (NewsQueue, NewsDesk) {
    let (sender, receiver) = mpsc::channel(NEWS_MAX);
    let held_bytes = Arc::<AtomicUsize>::default();
    let queue = NewsQueue { sender, held_bytes: Arc::clone(&held_bytes), figures: Arc::clone(figures) };
    (queue, NewsDesk { receiver, held_bytes, figures: Arc::clone(figures) })
}

impl NewsQueue {
    /// Queues what a shard tells, if there is room.
    pub(super) fn submit(&self, question: Question) {
        let realm = question.realm;
        let Subject::News { number, news } = question.subject else { unreachable!("the caller looked") };
        self.tell(number, realm, news);
    }

    /// Queues it, if there is room. What any client can do as often as it likes leaves a part of the room to who comes and goes.
    pub(super) fn tell(&self, number: u64, realm: RealmId, news: News) {
        let (kind, count, bytes) = match &news {
            News::Testaments(all) => {
                (Kind::Testament, all.len(), all.iter().map(ApiPublication::bytes).sum())
            }
            News::Own { args, .. } => (Kind::Event, 1, args.len()),
            _ => (Kind::Event, 1, 0),
        };
        let is_cheap = matches!(news, News::Entry { .. } | News::Own { .. });
        let bytes_max = if matches!(news, News::Own { .. }) { DEFINITION_BYTES_MAX } else { BYTES_MAX };
        let fits = |held: usize| (bytes == 0 || held + bytes <= bytes_max).then_some(held + bytes);
        let has_room = !(is_cheap && self.sender.capacity() <= KEPT_ROOM)
            && self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if has_room && self.sender.try_send(Told { number, realm, news }).is_ok() {
            return;
        }
        if has_room {
            self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.figures.count_announced(kind, Announced::Dropped, count);
    }
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    Testament,
}

/// Puts news in the order of their numbers.
#[derive(Debug)]
struct Order {
    /// The number that is next.
    next: u64,
    /// With when each came.
    waiting: BTreeMap<u64, (Instant, Told)>,
    /// When the number that is missing has been waited for long enough.
    deadline: Option<Instant>,
}

impl Order {
    fn new() -> Self {
        Self { next: 1, waiting: BTreeMap::new(), deadline: None }
    }

    fn insert(&mut self, now: Instant, told: Told) {
        self.waiting.insert(told.number, (now, told));
    }

    /// What may be published by now: what comes next, what is late, since it has been waited for, and what is behind numbers that
    /// did not come in time. Each waits for its own time at most, so many gaps take no longer than one.
    fn release(&mut self, now: Instant) -> Vec<Told> {
        let mut released = Vec::new();
        self.deadline = None;
        loop {
            let is_full = self.waiting.len() >= NEWS_MAX;
            let Some(entry) = self.waiting.first_entry() else { break };
            let due = entry.get().0 + GAP_TIME;
            if *entry.key() > self.next && due > now && !is_full {
                self.deadline = Some(due);
                break;
            }
            self.next = self.next.max(entry.key() + 1);
            released.push(entry.remove().1);
        }
        released
    }
}

impl NewsDesk {
    /// Publishes until nobody can tell any more. `core` has the names of roles, those of now.
    pub(super) async fn run(mut self, shards: Arc<dyn Shards>, core: Arc<ArcSwap<CoreConfig>>) {
        let mut order = Order::new();
        let mut came = Vec::new();
        loop {
            let deadline = order.deadline;
            tokio::select! {
                count = self.receiver.recv_many(&mut came, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            let now = Instant::now();
            came.drain(..).for_each(|told| order.insert(now, told));
            let mut publications = Vec::new();
            for told in order.release(Instant::now()) {
                self.write(told, &core.load().access, &mut publications);
            }
            while !publications.is_empty() {
                let rest = publications.split_off(publications.len().min(BATCH));
                self.publish(&*shards, std::mem::replace(&mut publications, rest)).await;
            }
        }
    }

    /// As what it is published.
    fn write(&self, told: Told, access: &Access, out: &mut Vec<(Kind, ApiPublication)>) {
        let Told { realm, news, .. } = told;
        let (topic, args) = match news {
            News::Own { topic, args } => {
                self.held_bytes.fetch_sub(args.len(), Ordering::Relaxed);
                (topic, args.into_string())
            }
            News::Testaments(all) => {
                return out.extend(all.into_iter().map(|one| (Kind::Testament, one)));
            }
            News::Joined { session, authid, role, method, provider, protocol, serializer } => {
                let serializer = serializer.map(Serializer::name);
                let details = SessionDetails {
                    session: session.get(),
                    authid: &authid,
                    authrole: access.role_name(realm, role),
                    authmethod: method.name(),
                    authprovider: provider,
                    transport: Transport { protocol, serializer, peer: None },
                };
                (ON_JOIN, json(&[details]))
            }
            News::Left { session, authid, role } => {
                (ON_LEAVE, json(&(session.get(), &authid, access.role_name(realm, role))))
            }
            News::Entry { kind, session, id, change } => {
                let session = session.map_or(0, |session| session.get());
                let topic = change.topic(kind);
                match change {
                    Change::Created(details) => (topic, json(&(session, EntryRow::of_news(id, &details)))),
                    Change::Attached | Change::Detached | Change::Deleted => (topic, json(&(session, id))),
                }
            }
            // What is newer than this desk is not published by it.
            _ => return,
        };
        out.push((Kind::Event, event(realm, topic, &args)));
    }

    /// Waits until it is published: what comes meanwhile queues up, up to its bound.
    async fn publish(&self, shards: &dyn Shards, batch: Vec<(Kind, ApiPublication)>) {
        let testaments = batch.iter().filter(|(kind, _)| *kind == Kind::Testament);
        let bytes = testaments.map(|(_, one)| one.bytes()).sum();
        self.publish_all(shards, batch).await;
        // Not before: what waits for its turn is held too.
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    async fn publish_all(&self, shards: &dyn Shards, batch: Vec<(Kind, ApiPublication)>) {
        let (kinds, publications): (Vec<Kind>, Vec<ApiPublication>) = batch.into_iter().unzip();
        let (answer, answered) = oneshot::channel();
        let reply = Box::new(move |said| drop(answer.send(said)));
        let first = ShardId::new(0).expect("there is one at least");
        inner::ask(shards, first, Ask::Announce(publications), reply).await;
        let Ok(ApiAnswer::Published(outcomes)) = answered.await else { return };
        for (kind, outcome) in kinds.into_iter().zip(outcomes) {
            let announced = match outcome {
                Ok(_) => Announced::Published,
                Err(refusal) if refusal.error == super::words::error::UNAVAILABLE => Announced::Failed,
                Err(_) => Announced::Refused,
            };
            self.figures.count_announced(kind, announced, 1);
        }
    }
}

/// A publication of the router's own.
fn event(realm: RealmId, topic: &str, args: &str) -> ApiPublication {
    let payload = OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None);
    ApiPublication {
        actor: Actor { realm, role: RoleId::ROUTER },
        topic: topic.into(),
        payload: payload.expect("it was written as a list"),
        plain: false,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: false,
        receipt: false,
        from: None,
    }
}

fn json(args: &impl Serialize) -> String {
    serde_json::to_string(args).expect("news are plain values")
}

#[cfg(test)]
mod tests {
    use fanwire_core::access::RealmConfig;

    use super::*;

    fn told(number: u64) -> Told {
        Told { number, realm: RealmId::new(0), news: News::Testaments(Vec::new()) }
    }

    fn numbers(released: Vec<Told>) -> Vec<u64> {
        released.into_iter().map(|told| told.number).collect()
    }

    #[tokio::test]
    async fn news_come_in_the_order_of_their_numbers() {
        let (mut order, now) = (Order::new(), Instant::now());
        for (came, released) in [(2, vec![]), (3, vec![]), (1, vec![1, 2, 3]), (4, vec![4]), (6, vec![])] {
            order.insert(now, told(came));
            assert_eq!(numbers(order.release(now)), released, "{came}");
        }
        assert_eq!(order.deadline, Some(now + GAP_TIME));
        order.insert(now, told(5));
        assert_eq!(numbers(order.release(now)), [5, 6]);
        assert_eq!(order.deadline, None);
    }

    #[tokio::test]
    async fn what_does_not_come_is_waited_for_a_while_only() {
        let (mut order, now) = (Order::new(), Instant::now());
        for (number, came) in [(2, now), (3, now), (7, now + GAP_TIME / 2), (9, now + GAP_TIME / 2)] {
            order.insert(came, told(number));
        }
        assert_eq!(numbers(order.release(now)), [0; 0]);
        assert_eq!(numbers(order.release(now + GAP_TIME / 2)), [0; 0]);
        assert_eq!(numbers(order.release(now + GAP_TIME)), [2, 3]);
        assert_eq!(numbers(order.release(now + GAP_TIME)), [0; 0], "7 waits for its own time");
        order.insert(now + GAP_TIME, told(1));
        assert_eq!(numbers(order.release(now + GAP_TIME)), [1], "late is better than never");
        assert_eq!(
            numbers(order.release(now + GAP_TIME * 3 / 2)),
            [7, 9],
            "two gaps take no longer than one"
        );
        order.insert(now + GAP_TIME * 2, told(8));
        assert_eq!(numbers(order.release(now + GAP_TIME * 2)), [8]);
    }

    fn held(queue: &NewsQueue) -> (usize, usize) {
        (NEWS_MAX - queue.sender.capacity(), queue.held_bytes.load(Ordering::Relaxed))
    }

    #[test]
    fn what_anybody_can_do_does_not_crowd_out_who_comes_and_goes() {
        let (queue, _desk) = queue(&Arc::default());
        let realm = RealmId::new(0);
        let cheap = || News::Own { topic: "wamp.reflect.on_define", args: "[]".into() };
        (0..NEWS_MAX as u64).for_each(|number| queue.tell(number, realm, cheap()));
        assert_eq!(held(&queue).0, NEWS_MAX - KEPT_ROOM);
        queue.tell(1, realm, News::Testaments(vec![event(realm, "a.b", "[]")]));
        assert_eq!(held(&queue).0, NEWS_MAX - KEPT_ROOM + 1, "there is room for this");
    }

    #[test]
    fn definitions_count_with_their_bytes_until_they_are_published() {
        let (queue, mut desk) = queue(&Arc::default());
        let realm = RealmId::new(0);
        let long = format!("[\"{}\"]", "x".repeat(16 << 10));
        let own = || News::Own { topic: "wamp.reflect.on_define", args: long.clone().into() };
        (0..5_000).for_each(|number| queue.tell(number, realm, own()));
        let (count, bytes) = held(&queue);
        assert!(bytes <= DEFINITION_BYTES_MAX && bytes == count * long.len(), "{count} of {bytes} bytes");
        queue.tell(5_000, realm, News::Testaments(vec![event(realm, "a.b", &long)]));
        assert_eq!(held(&queue).0, count + 1, "there is room for this");
        let access = Access::new(&[RealmConfig::open("r")], 1).expect("the realm is sound");
        let mut out = Vec::new();
        while let Ok(told) = desk.receiver.try_recv() {
            desk.write(told, &access, &mut out);
        }
        assert_eq!(out.len(), count + 1);
        let testament = out.pop().expect("the last one").1.bytes();
        assert_eq!(held(&queue).1, testament, "it is given back when it is published");
    }

    #[test]
    fn a_testament_counts_with_all_that_it_holds() {
        let (queue, _desk) = queue(&Arc::default());
        let realm = RealmId::new(0);
        let exclude = Some((1..=8_000).collect());
        let receivers = ReceiverLists { exclude, ..ReceiverLists::default() };
        let testament = ApiPublication { receivers, ..event(realm, "a.b", "[]") };
        for number in 0..1_000 {
            queue.tell(number, realm, News::Testaments(vec![testament.clone()]));
        }
        let (count, bytes) = held(&queue);
        assert!(bytes <= BYTES_MAX && bytes >= count * 64_000, "{count} of {bytes} bytes");
        assert!((400..600).contains(&count), "{count} testaments of 64 KiB fit");
    }
}
