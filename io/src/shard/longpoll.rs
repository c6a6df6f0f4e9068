//! WAMP over HTTP long-polling (WAMP, "HTTP Longpoll Transport"): paths, and what is asked by them.
//!
//! ```text
//! POST <path>/open              {"protocols": […]} ─▶ 200 {"protocol": …, "transport": …}, or 400
//! POST <path>/<id>/receive      ─▶ 200 a message or a batch; 204 nothing came in time; 404 no such session
//! POST <path>/<id>/send         a message or a batch ─▶ 204; 400 it is none; 404
//! POST <path>/<id>/close        ─▶ 204
//! ```
//!
//! The text says 202 "no content" of the last two. Those words are 204's, and the one client that there is, Autobahn for
//! browsers, takes 202 for a failure.
//!
//! A session lives on the shard that had the fewest connections when it was opened, as a slot without a socket
//! ([`polls`](super::polls)): a proxy may bring all of them by one connection. Its id says which shard that is, so a request that came to another one goes there and its answer back ([`Posts`](crate::posts::Posts)).

use std::fmt;

use fanwire_codec::http::HttpError;
use fanwire_codec::wamp2::longpoll::protocols;

use super::Shard;
use crate::config::{EndpointId, Listener};
use crate::handover::peer;
use crate::posts::{Answer, Ask, Asker, Opening, Post, TransportId};
use crate::pressure::Level;
use crate::request::longpoll_path;
use crate::service::Service;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Open(EndpointId),
    Receive(TransportId),
    Send(TransportId),
    Close(TransportId),
}

impl Wanted {
    /// The session that it is for.
    pub(super) fn transport(self) -> Option<TransportId> {
        match self {
            Self::Open(_) => None,
            Self::Receive(id) | Self::Send(id) | Self::Close(id) => Some(id),
        }
    }

    /// How long its body may be.
    pub(super) fn body_bytes_max(self, message_bytes_max: u64) -> usize {
        match self {
            Self::Send(_) => usize::try_from(message_bytes_max).unwrap_or(usize::MAX),
            _ => OTHER_BYTES_MAX,
        }
    }
}

/// What is asked for at a path of the listener.
pub(super) fn wanted(listener: &Listener, path: &str) -> Result<Wanted, HttpError> {
    let Some((endpoint, below)) = longpoll_path(listener, path) else {
        let words =
            "this connection has been used for long-polling; WebSocket and other paths need a new one";
        return Err(HttpError::new(421, words));
    };
    if below == "open" {
        return Ok(Wanted::Open(endpoint));
    }
    let (id, verb) = below.split_once('/').unwrap_or((below, ""));
    let wanted = match verb {
        "receive" => Wanted::Receive,
        "send" => Wanted::Send,
        "close" => Wanted::Close,
        _ => {
            let words = "below a path of long-polling there are open, ID/receive, ID/send and ID/close";
            return Err(HttpError::new(404, words));
        }
    };
    Ok(wanted(TransportId::parse(id).ok_or_else(gone)?))
}

pub(super) fn gone() -> HttpError {
    HttpError::new(404, "there is no such session, or it has ended; open another one")
}

impl TransportId {
    /// Reads what [`Display`](fmt::Display) has written.
    fn parse(text: &str) -> Option<Self> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != TRANSPORT_ID_CHARS || !text.bytes().all(digits) {
            return None;
        }
        Some(Self {
            shard: u8::from_str_radix(&text[..2], 16).ok()?,
            slot: u32::from_str_radix(&text[2..10], 16).ok()?,
            secret: u128::from_str_radix(&text[10..], 16).ok()?,
        })
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, slot, secret } = self;
        write!(f, "{shard:02x}{slot:08x}{secret:032x}")
    }
}

impl<S: Service> Shard<S> {
    /// Does what a request asks for, here or on the shard that can.
    pub(super) fn ask(&mut self, asker: Asker, wanted: Wanted, body: Vec<u8>) {
        let counters = &self.links.counters;
        let (counter, id, ask) = match wanted {
            Wanted::Open(endpoint) => {
                counters.longpoll_open.add(1);
                return self.open_longpoll(asker, endpoint, &body);
            }
            Wanted::Receive(id) => (&counters.longpoll_receive, id, Ask::Receive),
            Wanted::Send(id) => (&counters.longpoll_send, id, Ask::Send(body)),
            Wanted::Close(id) => (&counters.longpoll_close, id, Ask::Close),
        };
        counter.add(1);
        if id.shard == self.id.get() || !self.links.posts.has(id.shard) {
            return self.ask_session(asker, id, ask);
        }
        self.links.counters.http_forwarded.add(1);
        if self.links.posts.request(asker, id, ask, self.posted_bytes_max()) {
            self.touched[usize::from(id.shard)] = true;
        } else {
            self.links.counters.http_forward_refused.add(1);
            let words = "too many requests wait for the session's shard; try again in a second";
            let error = HttpError::new(503, words).with_headers(&[("Retry-After", "1")]);
            self.answer_asker(asker, Answer::of(&error));
        }
    }

    /// Bytes of requests that may wait for a shard.
    fn posted_bytes_max(&self) -> usize {
        usize::try_from(self.config.message_bytes_max).unwrap_or(usize::MAX).saturating_mul(POSTED_MESSAGES)
    }

    /// Whether this session would live here, and does not.
    pub(super) fn has_no_session(&self, id: TransportId) -> bool {
        id.shard == self.id.get() && !self.knows_session(id)
    }

    /// What other shards have sent, within the turn's budget. True = there may be more.
    pub(super) fn take_posts(&mut self) -> bool {
        let own = usize::from(self.id.get());
        let mut bytes = 0;
        for _ in 0..POSTS_PER_TURN {
            if bytes >= self.config.turn.receive_bytes {
                break;
            }
            let Some(post) = self.links.posts.pop(own) else { return false };
            self.worked = true;
            bytes += post.body_bytes();
            match post {
                Post::Open { from, opening } => self.open_polled(from, opening),
                Post::Request { from, to, ask } => self.ask_session(from, to, ask),
                Post::Gone { from, to } => self.poll_abandoned(from, to),
                Post::Answer { to, answer } => self.http_answer(to.slot, to.serial, answer),
            }
        }
        true
    }

    /// Does what a request asks of a session of this shard.
    fn ask_session(&mut self, asker: Asker, id: TransportId, ask: Ask) {
        if !self.knows_session(id) {
            // Who closes wants it to be over, which it is: Autobahn closes after GOODBYE, and waits for the answer.
            let is_over = matches!(ask, Ask::Close);
            let answer = if is_over { Answer::EMPTY } else { Answer::of(&gone()) };
            return self.answer_asker(asker, answer);
        }
        match ask {
            Ask::Receive => self.poll(id.slot, asker),
            Ask::Send(body) => self.queue_send(id.slot, asker, body),
            Ask::Close => {
                self.answer_asker(asker, Answer::EMPTY);
                self.close_polled(id.slot);
            }
        }
    }

    fn open_longpoll(&mut self, asker: Asker, endpoint: EndpointId, body: &[u8]) {
        match self.negotiate_longpoll(asker.slot, endpoint, body) {
            Ok(opening) => self.place_polled(asker, opening),
            Err(error) => self.answer_asker(asker, Answer::of(&error)),
        }
    }

    fn negotiate_longpoll(
        &mut self,
        connection: u32,
        endpoint: EndpointId,
        body: &[u8],
    ) -> Result<Opening, HttpError> {
        if self.memory.level() >= Level::Refuse {
            self.links.counters.rejected_memory.add(1);
            return Err(self.memory_refusal());
        }
        let offered = protocols(body).map_err(|error| HttpError::new(400, error.to_string()))?;
        let polling = self.service.negotiate_polling(endpoint, &mut offered.iter().map(|name| &**name))?;
        let asking = &self.slots.hot[connection as usize];
        let (listener, peer) = (asking.listener, asking.socket.as_ref().and_then(peer));
        Ok(Opening { endpoint, polling, listener, peer })
    }
}

/// As [`TransportId`] is written.
const TRANSPORT_ID_CHARS: usize = 2 + 8 + 32;
/// The names of all protocols have 200 bytes; nothing else has a body.
const OTHER_BYTES_MAX: usize = 4 << 10;
/// As many as items from one ring.
const POSTS_PER_TURN: u32 = 256;
/// Bodies of requests may wait for a shard as long as they have no more bytes than so many of the longest messages: the connections
/// that have read them may be gone, so nothing else counts them.
const POSTED_MESSAGES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is_one() {
        for id in [
            TransportId { shard: 0, slot: 0, secret: 0 },
            TransportId { shard: 62, slot: u32::MAX, secret: u128::MAX },
            TransportId { shard: 3, slot: 70_000, secret: 0x0123_4567_89ab_cdef },
        ] {
            let text = id.to_string();
            assert_eq!((text.len(), TransportId::parse(&text)), (TRANSPORT_ID_CHARS, Some(id)));
            assert_eq!(TransportId::parse(&text[1..]), None);
            assert_eq!(TransportId::parse(&format!("+{}", &text[1..])), None);
            assert_eq!(TransportId::parse(&format!("{text}0")), None);
        }
        let upper = TransportId { shard: 0, slot: 0, secret: 0xA }.to_string().to_uppercase();
        assert_eq!(TransportId::parse(&upper), None, "one session, one name");
    }
}
