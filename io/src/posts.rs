//! HTTP requests that came to one shard and are for a session of another one, and the answers.
//!
//! ```text
//! connection's shard ── Open, Request, Gone ─▶ queue of the session's shard
//!                    ◀─ Answer ─────────────── queue of the connection's shard
//! ```
//!
//! A shard has one queue, first in, first out, that all others push into. Requests that wait in it are bounded, in number and in
//! bytes; what finds no room is refused. Answers and *gone* always find room: a connection has one request under way, so there are never more of them than
//! connections. These queues are not the rings of the core, whose items are in order with publications and wait for room; a
//! request needs neither.
//!
//! No shard ends while another one has connections, so whatever waits is taken.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;

use crate::config::EndpointId;
use crate::service::Polling;

/// Who is to be answered: a request of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asker {
    /// Index of the connection's shard.
    pub(crate) shard: u8,
    /// The connection's slot.
    pub(crate) slot: u32,
    /// Which of its requests.
    pub(crate) serial: u32,
}

/// Names a session that is polled, as its client does. Who knows it is the client: 128 of its bits are random.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TransportId {
    /// Index of the session's shard.
    pub(crate) shard: u8,
    /// The session's slot.
    pub(crate) slot: u32,
    pub(crate) secret: u128,
}

/// What is asked of a session.
#[derive(Debug)]
pub(crate) enum Ask {
    /// What it has for its client; waits until there is something.
    Receive,
    /// To handle a message, or a batch of them.
    Send(Vec<u8>),
    /// To end.
    Close,
}

/// A session that is to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) endpoint: EndpointId,
    pub(crate) polling: Polling,
    /// Index of the listener that was asked.
    pub(crate) listener: u8,
    /// The other end of the connection that asked.
    pub(crate) peer: Option<SocketAddr>,
}

/// A response without what belongs to the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Media type of the body, if there is one.
    pub(crate) content: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: Vec<u8>,
}

/// What one shard tells another.
#[derive(Debug)]
pub(crate) enum Post {
    /// A session for it. It is counted as one of its connections.
    Open { from: Asker, opening: Opening },
    /// A request for one of its sessions.
    Request { from: Asker, to: TransportId, ask: Ask },
    /// The connection of a request that may still wait is not there any more.
    Gone { from: Asker, to: TransportId },
    /// The answer to a request of one of its connections.
    Answer { to: Asker, answer: Answer },
}

impl Post {
    /// Memory of what a client says with it.
    pub(crate) fn body_bytes(&self) -> usize {
        if let Self::Request { ask: Ask::Send(body), .. } = self { body.capacity() } else { 0 }
    }
}

/// The queues, by receiving shard.
pub(crate) struct Posts(Box<[CachePadded<Inbox>]>);

#[derive(Default)]
struct Inbox {
    queue: SegQueue<Post>,
    /// Requests in the queue, or about to be.
    requests: AtomicUsize,
    /// Their bodies' memory.
    bytes: AtomicUsize,
}

impl Inbox {
    /// A request that was counted does not wait any more.
    fn forget(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Posts {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::new(Inbox::default())).collect())
    }

    /// Whether there is such a shard.
    pub(crate) fn has(&self, shard: u8) -> bool {
        usize::from(shard) < self.0.len()
    }

    /// Sends a request to the shard of `to`. False: too many wait there, or more than so many bytes would, and nothing was sent.
    #[must_use]
    pub(crate) fn request(&self, from: Asker, to: TransportId, ask: Ask, bytes_max: usize) -> bool {
        self.push_bounded(usize::from(to.shard), Post::Request { from, to, ask }, bytes_max)
    }

    /// Has another shard open a session. False: too many requests wait there, and nothing was sent.
    #[must_use]
    pub(crate) fn open(&self, shard: usize, from: Asker, opening: Opening) -> bool {
        self.push_bounded(shard, Post::Open { from, opening }, usize::MAX)
    }

    fn push_bounded(&self, shard: usize, post: Post, bytes_max: usize) -> bool {
        let (inbox, bytes) = (&self.0[shard], post.body_bytes());
        // Relaxed: bounds, not an order.
        let requests = inbox.requests.fetch_add(1, Ordering::Relaxed);
        let before = inbox.bytes.fetch_add(bytes, Ordering::Relaxed);
        // What has no body waits whatever the others have; a body that is alone always may.
        let is_too_much = bytes > 0 && before > 0 && before.saturating_add(bytes) > bytes_max;
        if requests >= REQUESTS_MAX || is_too_much {
            inbox.forget(bytes);
            return false;
        }
        inbox.queue.push(post);
        true
    }

    /// Sends an answer.
    pub(crate) fn answer(&self, to: Asker, answer: Answer) {
        self.0[usize::from(to.shard)].queue.push(Post::Answer { to, answer });
    }

    /// Says that nobody waits for the answer any more.
    pub(crate) fn gone(&self, from: Asker, to: TransportId) {
        self.0[usize::from(to.shard)].queue.push(Post::Gone { from, to });
    }

    /// The next one for this shard.
    pub(crate) fn pop(&self, shard: usize) -> Option<Post> {
        let inbox = &self.0[shard];
        let post = inbox.queue.pop()?;
        if matches!(post, Post::Request { .. } | Post::Open { .. }) {
            inbox.forget(post.body_bytes());
        }
        Some(post)
    }

    /// Whether there is none for this shard.
    pub(crate) fn is_empty(&self, shard: usize) -> bool {
        self.0[shard].queue.is_empty()
    }
}

/// Requests that may wait for one shard: what it takes in four turns.
const REQUESTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Asker = Asker { shard: 0, slot: 1, serial: 2 };
    const MAX: usize = usize::MAX;
    const TO: TransportId = TransportId { shard: 1, slot: 3, secret: 4 };

    #[test]
    fn requests_are_bounded_and_what_else_there_is_always_finds_room() {
        let posts = Posts::new(2);
        assert!((0..REQUESTS_MAX).all(|_| posts.request(FROM, TO, Ask::Receive, MAX)));
        assert!(!posts.request(FROM, TO, Ask::Receive, MAX));
        posts.gone(FROM, TO);
        assert!(!posts.request(FROM, TO, Ask::Close, MAX), "only a request makes room for a request");
        assert!(matches!(posts.pop(1), Some(Post::Request { from: FROM, to: TO, ask: Ask::Receive })));
        assert!(posts.request(FROM, TO, Ask::Close, MAX));
        assert_eq!((posts.is_empty(0), posts.is_empty(1)), (true, false));
        let left = std::iter::from_fn(|| posts.pop(1)).count();
        assert_eq!(left, REQUESTS_MAX + 1);
        assert!(
            (0..REQUESTS_MAX).all(|_| posts.request(FROM, TO, Ask::Receive, MAX)),
            "all room is there again"
        );
    }

    #[test]
    fn the_memory_of_bodies_is_bounded_too_but_one_always_finds_room() {
        let posts = Posts::new(2);
        let send = |bytes, bytes_max| posts.request(FROM, TO, Ask::Send(vec![0; bytes]), bytes_max);
        assert!(send(1_000, 100), "it is alone");
        assert!(!send(1, 100));
        assert!(posts.request(FROM, TO, Ask::Receive, 100), "it has no body");
        assert!(posts.pop(1).is_some());
        assert!(send(60, 100) && send(40, 100));
        assert!(!send(1, 100), "what was refused is not counted, what waits is");
        assert!(std::iter::from_fn(|| posts.pop(1)).count() == 3 && send(100, 100));
    }

    #[test]
    fn what_one_shard_says_stays_in_order() {
        let posts = Posts::new(2);
        assert!(posts.request(FROM, TO, Ask::Receive, MAX));
        posts.gone(FROM, TO);
        assert!(matches!(posts.pop(1), Some(Post::Request { .. })));
        assert!(matches!(posts.pop(1), Some(Post::Gone { .. })));
    }
}
