//! What an inner subscriber of this thread hears: events and answers of its shard, in the shard's order, in one bounded queue.
//!
//! ```text
//! shard: offer, reply ──▶ Inbox ──▶ Inbound, many at once, on the control thread
//! ```
//!
//! Answers come by the same queue as events, so that who subscribes hears that it is subscribed before its first event. They
//! are not counted against its bound: there are no more of them than questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fanwire_core::api::{ApiAnswer, ApiReply, ApiRequest, Ask};
use fanwire_core::ids::ShardId;
use fanwire_core::inner::{InnerEvent, InnerId, InnerOutbox};
use tokio::sync::{Notify, mpsc};

use crate::Shards;

/// What comes from the shard.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// An event of one of the subscriptions.
    Event(InnerEvent),
    /// The answer to the question with this number.
    Answer(u64, ApiAnswer),
    /// The subscription with this tag is forbidden now.
    Withdrawn(u32),
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimits {
    pub(crate) messages_max: usize,
    /// Of payloads. An empty inbox takes one of any size.
    pub(crate) bytes_max: usize,
}

/// The shard's side of an inbox.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::UnboundedSender<Inbound>,
    limits: InboxLimits,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// Events without room that nobody was told of.
    lost: AtomicU64,
    /// Says that there are some, whether or not the inbox is being read.
    overflow: Notify,
}

impl InnerOutbox for Outbox {
    fn offer(&self, event: InnerEvent) -> Result<(), InnerEvent> {
        let bytes = event.payload.original().len();
        // Relaxed: one shard alone adds, so what it reads is at most too much.
        let messages = self.messages.load(Ordering::Relaxed);
        let is_full = messages >= self.limits.messages_max
            || messages > 0 && self.bytes.load(Ordering::Relaxed) + bytes > self.limits.bytes_max;
        if is_full {
            if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                self.overflow.notify_one();
            }
            return Err(event);
        }
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sender.send(Inbound::Event(event)).map_err(|gone| match gone.0 {
            Inbound::Event(event) => event,
            _ => unreachable!("it was an event"),
        })
    }

    fn withdrawn(&self, tag: u32) {
        _ = self.sender.send(Inbound::Withdrawn(tag));
    }
}

/// The subscriber's side.
#[derive(Debug)]
pub(crate) struct Inbox {
    outbox: Arc<Outbox>,
    receiver: mpsc::UnboundedReceiver<Inbound>,
}

impl Inbox {
    pub(crate) fn new(limits: InboxLimits) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (messages, bytes, lost) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        let overflow = Notify::new();
        Self { outbox: Arc::new(Outbox { sender, limits, messages, bytes, lost, overflow }), receiver }
    }

    /// Whether nothing waits, neither events nor answers.
    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// For the shard.
    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    /// Waits until there is something, and appends at most `most` of it. Nothing is lost if it is not waited for to the end.
    pub(crate) async fn receive(&mut self, into: &mut Vec<Inbound>, most: usize) {
        let before = into.len();
        // Never 0: this side holds a sender.
        self.receiver.recv_many(into, most).await;
        let (mut messages, mut bytes) = (0, 0);
        for inbound in &into[before..] {
            if let Inbound::Event(event) = inbound {
                messages += 1;
                bytes += event.payload.original().len();
            }
        }
        self.outbox.messages.fetch_sub(messages, Ordering::Relaxed);
        self.outbox.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Outbox {
    /// Waits until events have no room. One waits at a time.
    pub(crate) async fn overflowed(&self) {
        self.overflow.notified().await;
    }

    /// How many had none since this was last asked.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Bytes of events that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// A reply that comes by the inbox under a number.
    pub(crate) fn reply(self: &Arc<Self>, number: u64) -> ApiReply {
        let outbox = Arc::clone(self);
        // Who does not listen any more does not miss it.
        Box::new(move |answer| _ = outbox.sender.send(Inbound::Answer(number, answer)))
    }
}

/// Asks a shard; waits while it has no room for another question.
pub(crate) async fn ask(shards: &dyn Shards, shard: ShardId, ask: Ask, reply: ApiReply) {
    let mut request = ApiRequest { ask, reply };
    while let Err(back) = shards.ask(shard, request) {
        request = back;
        tokio::time::sleep(ASK_RETRY).await;
    }
}

/// A shard that has a thousand requests before it needs about this long for some of them.
const ASK_RETRY: Duration = Duration::from_millis(1);

/// Ends all subscriptions of an inner subscriber when it is dropped.
pub(crate) struct Leaving {
    pub(crate) shards: Arc<dyn Shards>,
    pub(crate) shard: ShardId,
    pub(crate) subscriber: InnerId,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let (shards, shard, subscriber) = (Arc::clone(&self.shards), self.shard, self.subscriber);
        let leave = async move {
            ask(&*shards, shard, Ask::Leave { subscriber }, Box::new(drop)).await;
        };
        // Without a runtime the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(leave);
        }
    }
}

/// Numbers of inner subscribers: one sequence for the process.
pub(crate) fn next_subscriber() -> InnerId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    InnerId::new(LAST.fetch_add(1, Ordering::Relaxed) + 1).expect("not 0")
}
