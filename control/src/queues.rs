//! Queues of client messages: shards put in what clients say, and backends on `/ws/v1` take it out.
//!
//! ```text
//! shards ─push─▶ queue ─┬─▶ consumer ─▶ its WebSocket, while that takes more
//!    └ full: refused    └─▶ consumer      a client's messages go to one consumer, in order
//! ```
//!
//! Everything is behind one lock, held for the time of a push or a take. A queue is bounded in messages, all together in bytes;
//! what finds no room is refused and counted, and its client is told. What a consumer has taken is its own: if it goes before it
//! has read that, it is lost.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanwire_codec::ws;
use fanwire_core::ANONYMOUS_AUTHID_PREFIX;
use fanwire_core::ids::ClientId;
use fanwire_core::question::{Denial, Grant, Identity, Question, Subject, Verdict};
use tokio::sync::Notify;

use crate::page::{Kind, Page, label, labels};

/// Bytes of messages in all queues.
const BYTES_MAX: usize = 64 << 20;

/// A queue, as configured.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// What its consumers call it.
    pub name: String,
    /// Messages that may wait.
    pub size: usize,
}

/// A message of a client, on its way to a backend.
#[derive(Debug)]
pub struct Item {
    /// The queue's place in the configuration.
    pub queue: usize,
    /// Who said it.
    pub client: ClientId,
    /// Who that is, if it has logged in.
    pub uid: Option<Box<str>>,
    /// Text or binary.
    pub kind: ws::Kind,
    /// What it said.
    pub bytes: Box<[u8]>,
    /// Counts up.
    number: u64,
}

/// All queues. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Queues(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct State {
    queues: Vec<Queue>,
    consumers: Vec<Consumer>,
    last_consumer: u64,
    last_item: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Queue {
    config: QueueConfig,
    /// What no consumer is there for.
    waiting: VecDeque<Item>,
    /// What waits, here and at its consumers.
    count: usize,
    pushed: u64,
    taken: u64,
    full: u64,
    no_memory: u64,
}

#[derive(Debug)]
struct Consumer {
    id: ConsumerId,
    queues: Vec<usize>,
    items: VecDeque<Item>,
    wake: Arc<Notify>,
}

/// A consumer, as the queues know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId(u64);

/// Why somebody does not consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConsumed {
    /// There is no such queue.
    Unknown(String),
    /// It does already.
    Already(String),
}

impl Queues {
    /// These queues, empty.
    pub fn new(queues: Vec<QueueConfig>) -> Self {
        let new = |config| Queue {
            config,
            waiting: VecDeque::new(),
            count: 0,
            pushed: 0,
            taken: 0,
            full: 0,
            no_memory: 0,
        };
        let state = State { queues: queues.into_iter().map(new).collect(), ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(state), hasher: RandomState::new() }))
    }

    /// Takes a question that is for a queue: its message goes in. Never waits for anybody but for the lock.
    ///
    /// # Errors
    ///
    /// The verdict: it is in, or there is no room. `Ok` where a backend will say what is to become of it.
    pub fn submit(&self, question: &Question) -> Result<(), Verdict> {
        let Subject::Message { who, client, kind, bytes, waits_for_uid } = &question.subject else {
            return Err(question.verdict(Err(Denial::Failed)));
        };
        // Who has not logged in has a name, too, and that says nothing.
        let is_user = |who: &&Identity| !who.authid.starts_with(ANONYMOUS_AUTHID_PREFIX);
        let uid = who.as_ref().filter(is_user).map(|who| who.authid.clone());
        let queue = question.queue.expect("it is for a queue");
        match self.push(queue, *client, uid, *kind, bytes) {
            Err(()) => Err(question.verdict(Err(Denial::Busy))),
            Ok(()) if *waits_for_uid => Ok(()),
            Ok(()) => Err(question.verdict(Ok(Grant::default()))),
        }
    }

    /// Takes what a program of ours says of a client, in the queue of this name.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub fn push_text(
        &self,
        name: &str,
        client: ClientId,
        uid: Option<Box<str>>,
        text: &str,
    ) -> Result<(), String> {
        let queue = self.state().queues.iter().position(|queue| queue.config.name == name);
        let queue = queue.ok_or_else(|| format!("there is no queue {name:?}: see message_center.queue"))?;
        self.push(queue, client, uid, ws::Kind::Text, text.as_bytes())
            .map_err(|()| format!("the queue {name:?} is full"))
    }

    fn push(
        &self,
        queue: usize,
        client: ClientId,
        uid: Option<Box<str>>,
        kind: ws::Kind,
        bytes: &[u8],
    ) -> Result<(), ()> {
        let mut state = self.state();
        let has_room = state.bytes + bytes.len() <= BYTES_MAX;
        state.last_item += 1;
        let number = state.last_item;
        let entry = state.queues.get_mut(queue).ok_or(())?;
        if entry.count >= entry.config.size || !has_room {
            *(if has_room { &mut entry.full } else { &mut entry.no_memory }) += 1;
            return Err(());
        }
        entry.count += 1;
        entry.pushed += 1;
        state.bytes += bytes.len();
        self.assign(&mut state, Item { queue, client, uid, kind, bytes: bytes.into(), number });
        Ok(())
    }

    /// Gives an item to the consumer that has its client, or lets it wait for one.
    fn assign(&self, state: &mut State, item: Item) {
        // Who comes or goes changes only whose clients it takes or leaves.
        let weight = |consumer: &&mut Consumer| self.0.hasher.hash_one((consumer.id, item.client));
        let consumers = state.consumers.iter_mut().filter(|consumer| consumer.queues.contains(&item.queue));
        match consumers.max_by_key(weight) {
            Some(consumer) => {
                consumer.items.push_back(item);
                consumer.wake.notify_one();
            }
            None => state.queues[item.queue].waiting.push_back(item),
        }
    }

    /// Assigns all that waits in these queues again, in its order.
    fn assign_again(&self, state: &mut State, queues: &[usize], left: VecDeque<Item>) {
        let mut items: Vec<Item> = left.into();
        for consumer in &mut state.consumers {
            let all = std::mem::take(&mut consumer.items);
            let (theirs, others) = all.into_iter().partition(|item| queues.contains(&item.queue));
            let theirs: VecDeque<Item> = theirs;
            consumer.items = others;
            items.extend(theirs);
        }
        for queue in queues {
            items.extend(std::mem::take(&mut state.queues[*queue].waiting));
        }
        items.sort_unstable_by_key(|item| item.number);
        for item in items {
            self.assign(state, item);
        }
    }

    /// Begins to consume queues by their names. `as_who`: a consumer that does already.
    ///
    /// # Errors
    ///
    /// Then nothing is changed.
    pub fn consume(
        &self,
        as_who: Option<ConsumerId>,
        wake: &Arc<Notify>,
        names: &[Box<str>],
    ) -> Result<ConsumerId, NotConsumed> {
        let mut state = self.state();
        let mut wanted = Vec::new();
        for name in names {
            let found = state.queues.iter().position(|queue| *queue.config.name == **name);
            let queue = found.ok_or_else(|| NotConsumed::Unknown(name.to_string()))?;
            let has = |consumer: &Consumer| Some(consumer.id) == as_who && consumer.queues.contains(&queue);
            if wanted.contains(&queue) || state.consumers.iter().any(has) {
                return Err(NotConsumed::Already(name.to_string()));
            }
            wanted.push(queue);
        }
        let id = as_who.unwrap_or_else(|| {
            state.last_consumer += 1;
            ConsumerId(state.last_consumer)
        });
        match state.consumers.iter_mut().find(|consumer| consumer.id == id) {
            Some(consumer) => consumer.queues.extend(&wanted),
            None => state.consumers.push(Consumer {
                id,
                queues: wanted.clone(),
                items: VecDeque::new(),
                wake: Arc::clone(wake),
            }),
        }
        self.assign_again(&mut state, &wanted, VecDeque::new());
        Ok(id)
    }

    /// Ends it: what the consumer has not taken is for the others. False: there is no such one.
    pub fn leave(&self, id: ConsumerId) -> bool {
        let mut state = self.state();
        let Some(place) = state.consumers.iter().position(|consumer| consumer.id == id) else { return false };
        let Consumer { queues, items, .. } = state.consumers.remove(place);
        self.assign_again(&mut state, &queues, items);
        true
    }

    /// The next message for a consumer, with the name of its queue. It is the consumer's from then on.
    pub fn take(&self, id: ConsumerId) -> Option<(Item, String)> {
        let mut state = self.state();
        let item = state.consumers.iter_mut().find(|consumer| consumer.id == id)?.items.pop_front()?;
        state.bytes -= item.bytes.len();
        let queue = &mut state.queues[item.queue];
        queue.count -= 1;
        queue.taken += 1;
        let name = queue.config.name.clone();
        Some((item, name))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between can only lose or repeat what was in hand.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the metrics.
    pub fn collect(&self, page: &mut Page) {
        let state = self.state();
        for (index, queue) in state.queues.iter().enumerate() {
            let name = label("queue", &queue.config.name);
            let consumers =
                state.consumers.iter().filter(|consumer| consumer.queues.contains(&index)).count();
            let mut add = |metric: &str, kind: Kind, help: &str, labels: &str, value: u64| {
                page.add(metric, kind, help, labels, value as f64);
            };
            let help = "Messages of clients that were put into a queue.";
            add("fanwire_queue_messages_total", Kind::Counter, help, &name, queue.pushed);
            let help = "Messages that a consumer has taken out of a queue.";
            add("fanwire_queue_taken_total", Kind::Counter, help, &name, queue.taken);
            let help = "Messages of clients that found no room, by reason.";
            for (reason, count) in [("queue_full", queue.full), ("memory", queue.no_memory)] {
                let labels = labels(&name, &label("reason", reason));
                add("fanwire_queue_refused_total", Kind::Counter, help, &labels, count);
            }
            let help = "Messages that wait in a queue.";
            add("fanwire_queue_waiting", Kind::Gauge, help, &name, queue.count as u64);
            let help = "Consumers of a queue.";
            add("fanwire_queue_consumers", Kind::Gauge, help, &name, consumers as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(size: usize) -> Queues {
        let config = |name: &str| QueueConfig { name: name.to_owned(), size };
        Queues::new(vec![config("one"), config("two")])
    }

    fn client(number: u64) -> ClientId {
        ClientId::from_number(number).expect("an id")
    }

    fn push(queues: &Queues, queue: usize, from: u64, text: &str) -> bool {
        queues.push(queue, client(from), None, ws::Kind::Text, text.as_bytes()).is_ok()
    }

    fn consume(
        queues: &Queues,
        as_who: Option<ConsumerId>,
        names: &[&str],
    ) -> Result<ConsumerId, NotConsumed> {
        let names: Vec<Box<str>> = names.iter().map(|&name| name.into()).collect();
        queues.consume(as_who, &Arc::default(), &names)
    }

    fn taken(queues: &Queues, id: ConsumerId) -> Vec<(u64, String)> {
        let items = std::iter::from_fn(|| queues.take(id));
        items
            .map(|(item, _)| (item.client.get(), String::from_utf8_lossy(&item.bytes).into_owned()))
            .collect()
    }

    #[test]
    fn what_waits_is_for_whoever_comes() {
        let queues = queues(2);
        assert!(push(&queues, 0, 5, "a") && push(&queues, 0, 5, "b"));
        assert!(!push(&queues, 0, 5, "c"), "it is full");
        assert!(push(&queues, 1, 5, "of another"));
        let one = consume(&queues, None, &["one"]).expect("there is one");
        assert_eq!(taken(&queues, one), [(5, "a".to_owned()), (5, "b".to_owned())]);
        assert!(push(&queues, 0, 5, "d"), "there is room again");
        assert_eq!(consume(&queues, Some(one), &["two", "one"]), Err(NotConsumed::Already("one".to_owned())));
        assert_eq!(consume(&queues, None, &["three"]), Err(NotConsumed::Unknown("three".to_owned())));
        assert_eq!(consume(&queues, Some(one), &["two"]), Ok(one));
        assert_eq!(taken(&queues, one), [(5, "d".to_owned()), (5, "of another".to_owned())]);
        assert!(queues.leave(one) && !queues.leave(one));
        assert_eq!(queues.state().bytes, 0);
    }

    #[test]
    fn a_clients_messages_stay_in_order_whoever_comes_and_goes() {
        let queues = queues(10_000);
        let mut seen: Vec<Vec<(u64, String)>> = Vec::new();
        let mut consumers: Vec<ConsumerId> = Vec::new();
        for round in 0..300_u64 {
            for from in 1..20 {
                assert!(push(&queues, 0, from, &format!("{round:04}")));
            }
            match round % 3 {
                0 => consumers.push(consume(&queues, None, &["one"]).expect("there is one")),
                1 if consumers.len() > 2 => assert!(queues.leave(consumers.remove(round as usize % 3))),
                _ => seen.extend(consumers.iter().map(|id| taken(&queues, *id))),
            }
        }
        seen.extend(consumers.iter().map(|id| taken(&queues, *id)));
        for from in 1..20 {
            let order: Vec<&String> =
                seen.iter().flatten().filter(|(client, _)| *client == from).map(|(_, n)| n).collect();
            assert!(order.is_sorted() && order.len() == 300, "client {from}: {} messages", order.len());
        }
    }

    #[test]
    fn memory_is_bounded_for_all_queues_together() {
        let queues = queues(100);
        let large = "x".repeat(BYTES_MAX / 2);
        assert!(push(&queues, 0, 1, &large) && push(&queues, 1, 1, &large));
        assert!(!push(&queues, 0, 1, "x"));
        assert_eq!(queues.state().queues[0].no_memory, 1);
        let one = consume(&queues, None, &["one"]).expect("there is one");
        assert!(queues.take(one).is_some() && push(&queues, 1, 1, "x"));
    }
}
