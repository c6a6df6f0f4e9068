//! Sessions without a socket: what they say waits until an HTTP request asks for it.
//!
//! ```text
//! receive ─▶ waiting ─▶ Service::writable ─▶ flush: Wire ─▶ Answer ─▶ the request's response, after the flush
//! send ────▶ sends ──▶ ready list ─▶ Service::receive, as for what comes by a socket
//! ```
//!
//! Such a session is a slot whose socket is `None`. To the service it is a connection like any other, with the framing of
//! RawSocket; while no request waits its "socket" is full. So what waits for it is in its outbox, with the limits, the order and
//! the policy for slow consumers that all have, and only what an answer takes is taken from there. Here is never more than one answer.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::SocketAddr;

use fanwire_codec::http::HttpError;
use fanwire_codec::wamp2::longpoll;
use fanwire_codec::ws::Kind;
use fanwire_core::{Instant, Outlet, Sent};

use super::http::Connection;
use super::input::limits;
use super::longpoll::Wanted;
use super::ready::STRANGERS;
use super::{Links, Shard};
use crate::clock;
use crate::counters::{Count, ShardCounters};
use crate::loads::Claim;
use crate::posts::{Answer, Asker, Opening, TransportId};
use crate::service::Service;
use crate::slots::{CloseReason, Stage, flag};
use crate::transport::Input;

/// What a shard has for HTTP. Empty where nobody polls.
#[derive(Default)]
pub(super) struct Polls {
    sessions: HashMap<u32, Box<Polled>>,
    pub(super) connections: HashMap<u32, Box<Connection>>,
    /// Requests so far, of all connections: so a late answer never meets another connection's in the same slot.
    pub(super) requests: u32,
    /// Sessions that may have something for who waits, after the flush.
    answering: Vec<u32>,
    random: Option<Box<dyn FnMut() -> u64>>,
}

/// One session, beside its slot.
struct Polled {
    secret: u128,
    kind: Kind,
    /// Media type of what it says.
    content: &'static str,
    /// Where it was opened from.
    peer: Option<SocketAddr>,
    /// The request that waits, and until when.
    waiting: Option<(Asker, Instant)>,
    answer: longpoll::Answer,
    /// Said by its client and not handled.
    sends: VecDeque<(Asker, Vec<u8>)>,
    /// Whose batch is not worked off yet.
    working_off: Option<Asker>,
    /// All is said, but the last answer is still to be fetched.
    is_finished: bool,
}

impl Polled {
    /// Bytes of what its client has said and was not handled.
    fn said_bytes(&self) -> usize {
        self.sends.iter().map(|(_, body)| body.capacity()).sum()
    }
}

impl Polls {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.connections.is_empty()
    }

    /// Sessions that are polled.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The other end of the connection that opened the session.
    pub(super) fn peer(&self, slot: u32) -> Option<SocketAddr> {
        self.sessions.get(&slot)?.peer
    }

    /// Offers bytes to whoever waits for the session.
    #[cold]
    pub(super) fn send(&mut self, slot: u32, pieces: &[IoSlice<'_>]) -> Sent {
        let Some(session) = self.sessions.get_mut(&slot) else { return Sent::Broken };
        if session.waiting.is_none() {
            return Sent::Took(0);
        }
        let mut taken = 0;
        for piece in pieces {
            let count = session.answer.take(piece, ANSWER_BYTES_MAX);
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        if session.answer.is_ready() {
            self.answering.push(slot);
        }
        Sent::Took(taken)
    }

    fn secret(&mut self) -> u128 {
        let random = self.random.get_or_insert_with(|| Box::new(clock::random_source()));
        u128::from(random()) << 64 | u128::from(random())
    }
}

impl<S: Service> Shard<S> {
    /// Whether the session lives here.
    pub(super) fn knows_session(&self, id: TransportId) -> bool {
        let session = self.polls.sessions.get(&id.slot);
        id.shard == self.id.get() && session.is_some_and(|session| session.secret == id.secret)
    }

    /// Has a session opened by the shard that has the fewest connections.
    pub(super) fn place_polled(&mut self, asker: Asker, opening: Opening) {
        let own = usize::from(self.id.get());
        let max = self.config.connections_max_per_shard.unwrap_or(u32::MAX);
        let Links { spread, posts, .. } = &self.links;
        if self.drain.is_some() {
            return self.refuse_polled(asker);
        }
        match spread.claim(own, max) {
            Claim::Keep => self.open_polled(asker, opening),
            Claim::HandTo(to) if posts.open(to, asker, opening) => self.touched[to] = true,
            Claim::HandTo(to) => {
                spread.loads.release(to);
                if spread.loads.claim_own(own, max) {
                    self.open_polled(asker, opening);
                } else {
                    self.refuse_polled(asker);
                }
            }
            Claim::Full => self.refuse_polled(asker),
        }
    }

    fn refuse_polled(&mut self, asker: Asker) {
        let counters = &self.links.counters;
        let words = if self.drain.is_some() {
            counters.rejected_draining.add(1);
            "the router stops; try again later"
        } else {
            counters.rejected_full.add(1);
            "the router has no room for another session now; try again later"
        };
        let error = HttpError::new(503, words).with_headers(self.retry_after());
        self.answer_asker(asker, Answer::of(&error));
    }

    /// Opens a session that is counted for this shard.
    pub(super) fn open_polled(&mut self, asker: Asker, opening: Opening) {
        let Opening { endpoint, polling, listener, peer } = opening;
        let is_full = self.polls.sessions.len() >= self.config.polled_sessions_max_per_shard as usize;
        if self.drain.is_some() || is_full {
            self.links.spread.loads.release(usize::from(self.id.get()));
            return self.refuse_polled(asker);
        }
        let slot = self.slots.insert(None, self.now, listener);
        let outlet = Outlet(slot);
        let hot = &mut self.slots.hot[slot as usize];
        hot.stage = Stage::Open;
        hot.set(flag::UPGRADED);
        self.slots.cold[slot as usize].input = Input::bodies(polling.batched.then_some(polling.kind));
        self.ready.set_group(slot, STRANGERS);
        if let Some(throttle) = &mut self.throttle {
            throttle.begin(slot);
        }
        let id = TransportId { shard: self.id.get(), slot, secret: self.polls.secret() };
        let session = Polled {
            secret: id.secret,
            kind: polling.kind,
            content: polling.content,
            peer,
            waiting: None,
            answer: longpoll::Answer::new(polling.kind, polling.batched),
            sends: VecDeque::new(),
            working_off: None,
            is_finished: false,
        };
        self.polls.sessions.insert(slot, Box::new(session));
        self.links.counters.longpoll_opened.add(1);
        self.service.attach(self.now, outlet);
        self.enter_open_deadlines(slot);
        self.service.open_polling(self.now, outlet, endpoint, polling.protocol);
        let body = format!("{{\"protocol\":\"{}\",\"transport\":\"{id}\"}}", polling.protocol).into_bytes();
        let answer = Answer { status: 200, content: "application/json", headers: &[], body };
        self.answer_asker(asker, answer);
    }

    /// Somebody waits for what the session has to say.
    pub(super) fn poll(&mut self, slot: u32, asker: Asker) {
        self.slots.hot[slot as usize].heard_at = self.now;
        let until = self.now + self.config.deadlines.poll_wait;
        let session = self.polls.sessions.get_mut(&slot).expect("the caller knows it");
        let before = session.waiting.replace((asker, until));
        if session.answer.is_ready() {
            self.polls.answering.push(slot);
        } else {
            self.service.writable(Outlet(slot));
        }
        self.wheel.enter(self.now, slot, until);
        // One waits at a time: who asks again does not listen to the first one's answer any more, or has a proxy that cut it.
        if let Some((first, _)) = before {
            self.answer_asker(first, Answer::EMPTY);
        }
    }

    /// The connection of a request is not there any more.
    pub(super) fn poll_abandoned(&mut self, asker: Asker, id: TransportId) {
        if !self.knows_session(id) {
            return;
        }
        let session = self.polls.sessions.get_mut(&id.slot).expect("it is known");
        if session.waiting.take_if(|(waiting, _)| *waiting == asker).is_some() {
            self.slots.hot[id.slot as usize].heard_at = self.now;
            self.wheel.enter(self.now, id.slot, self.now + self.config.deadlines.poll_idle);
        }
    }

    /// Gives the answers that the flush has made. True = there were some, which are to be sent.
    pub(super) fn answer_polls(&mut self) -> bool {
        if self.polls.answering.is_empty() {
            return false;
        }
        let mut answering = std::mem::take(&mut self.polls.answering);
        for slot in answering.drain(..) {
            self.answer_poll(slot);
        }
        self.polls.answering = answering;
        true
    }

    fn answer_poll(&mut self, slot: u32) {
        let Some(session) = self.polls.sessions.get_mut(&slot) else { return };
        if !session.answer.is_ready() {
            return;
        }
        let Some((asker, _)) = session.waiting.take() else { return };
        let body = session.answer.finish();
        let answer = Answer { status: 200, content: session.content, headers: &[], body };
        let is_finished = session.is_finished;
        self.slots.hot[slot as usize].heard_at = self.now;
        self.wheel.enter(self.now, slot, self.now + self.config.deadlines.poll_idle);
        self.answer_asker(asker, answer);
        if is_finished {
            self.bury_later(slot);
        }
    }

    /// How long a message may be that a request wants to say: what holds for its session, where that is known here.
    pub(super) fn said_bytes_max(&self, wanted: Wanted) -> u64 {
        match wanted {
            Wanted::Send(id) if self.knows_session(id) => self.polled_bytes_max(id.slot),
            _ => self.config.message_bytes_max,
        }
    }

    fn polled_bytes_max(&self, slot: u32) -> u64 {
        let login = || self.service.login_bytes_max(Outlet(slot));
        limits(&self.config, &self.slots.hot[slot as usize], login).message_bytes_max
    }

    /// The session's client says something.
    pub(super) fn queue_send(&mut self, slot: u32, asker: Asker, body: Vec<u8>) {
        self.slots.hot[slot as usize].heard_at = self.now;
        let bytes_max = self.polled_bytes_max(slot);
        let hot = &self.slots.hot[slot as usize];
        let session = self.polls.sessions.get_mut(&slot).expect("the caller knows it");
        let refusal = if hot.stage != Stage::Open {
            HttpError::new(404, "the session has ended")
        } else if body.len() as u64 > bytes_max {
            let words =
                format!("the message is over {bytes_max} bytes; before login limits.before_login holds");
            HttpError::new(413, words)
        } else if session.sends.len() >= SENDS_MAX || session.said_bytes() > bytes_max as usize {
            let words = "too many messages of this session wait; send one after the other";
            HttpError::new(503, words).with_headers(&[("Retry-After", "1")])
        } else if session.kind == Kind::Text && std::str::from_utf8(&body).is_err() {
            HttpError::new(400, "the message is not UTF-8")
        } else {
            session.sends.push_back((asker, body));
            return self.make_ready(slot);
        };
        self.answer_asker(asker, Answer::of(&refusal));
    }

    /// The session has its turn: the next body. Returns what that cost, in bytes.
    #[cold]
    pub(super) fn take_send(&mut self, slot: u32) -> usize {
        self.finish_send(slot);
        if self.slots.hot[slot as usize].stage != Stage::Open {
            return 0;
        }
        let Some(session) = self.polls.sessions.get_mut(&slot) else { return 0 };
        let Some((asker, mut body)) = session.sends.pop_front() else { return 0 };
        let kind = session.kind;
        session.working_off = Some(asker);
        let cost = body.len();
        if let Some(throttle) = &mut self.throttle {
            throttle.take_bytes(slot, self.now, cost as u64);
        }
        self.body(slot, kind, &mut body);
        let left = &self.slots.cold[slot as usize].extra;
        if left.as_ref().is_some_and(|extra| extra.is_waiting()) {
            self.make_ready(slot);
        } else {
            self.finish_send(slot);
        }
        if self.polls.sessions.get(&slot).is_some_and(|session| !session.sends.is_empty()) {
            self.make_ready(slot);
        }
        cost
    }

    /// Answers the send whose body is worked off.
    fn finish_send(&mut self, slot: u32) {
        let session = self.polls.sessions.get_mut(&slot);
        let Some(asker) = session.and_then(|session| session.working_off.take()) else { return };
        let is_wrong = self.slots.hot[slot as usize].has(flag::DISCARD);
        let words = "the body is no batch of messages; the session has ended, and receive says why";
        let answer = if is_wrong { Answer::of(&HttpError::new(400, words)) } else { Answer::EMPTY };
        self.answer_asker(asker, answer);
    }

    /// The client wants no more.
    pub(super) fn close_polled(&mut self, slot: u32) {
        self.lose(slot, CloseReason::Peer);
    }

    /// Everything was said. True: but not everything was fetched.
    pub(super) fn finishes_by_poll(&mut self, slot: u32) -> bool {
        let Some(session) = self.polls.sessions.get_mut(&slot) else { return false };
        session.is_finished = session.answer.is_ready();
        session.is_finished
    }

    /// The session's deadline fired, and none that all have was due. Says when the next one is.
    pub(super) fn look_at_poll(&mut self, slot: u32) -> Option<Instant> {
        let session = self.polls.sessions.get_mut(&slot)?;
        if let Some((asker, until)) = session.waiting {
            if self.now < until {
                return Some(until);
            }
            session.waiting = None;
            self.slots.hot[slot as usize].heard_at = self.now;
            self.answer_asker(asker, Answer::EMPTY);
            return Some(self.now + self.config.deadlines.poll_idle);
        }
        let hot = &self.slots.hot[slot as usize];
        let idle_at = hot.heard_at + self.config.deadlines.poll_idle;
        if self.now < idle_at {
            return Some(idle_at);
        }
        self.lose(slot, CloseReason::Idle);
        None
    }

    /// The connection or session in this slot is over.
    #[cold]
    pub(super) fn forget_poll(&mut self, slot: u32) {
        let counters = &self.links.counters;
        if let Some(connection) = self.polls.connections.remove(&slot) {
            counters.http_connections.set(self.polls.connections.len() as u64);
            if let Some((serial, id)) = connection.waits_for() {
                let asker = Asker { shard: self.id.get(), slot, serial };
                if id.shard == asker.shard || !self.links.posts.has(id.shard) {
                    self.poll_abandoned(asker, id);
                } else {
                    self.links.posts.gone(asker, id);
                    self.touched[usize::from(id.shard)] = true;
                }
            }
            return;
        }
        let Some(session) = self.polls.sessions.remove(&slot) else { return };
        ended(counters, self.slots.cold[slot as usize].why).add(1);
        let waiting = session.waiting.map(|(asker, _)| asker);
        let sends = session.sends.into_iter().map(|(asker, _)| asker);
        for asker in waiting.into_iter().chain(session.working_off).chain(sends) {
            self.answer_asker(asker, Answer::of(&HttpError::new(404, "the session has ended")));
        }
    }

    /// Bytes that a connection or session of HTTP holds beside its slot.
    pub(super) fn polled_bytes(&self, slot: u32) -> usize {
        let Polls { sessions, connections, .. } = &self.polls;
        sessions.get(&slot).map_or(0, |session| session.said_bytes() + session.answer.bytes())
            + connections.get(&slot).map_or(0, |connection| connection.held_bytes())
    }
}

fn ended(counters: &ShardCounters, why: CloseReason) -> &Count {
    match why {
        CloseReason::Peer => &counters.longpoll_ended_by_client,
        CloseReason::Idle => &counters.longpoll_ended_idle,
        CloseReason::Aborted => &counters.longpoll_ended_slow,
        CloseReason::LoginTimeout => &counters.longpoll_ended_login,
        _ => &counters.longpoll_ended_by_router,
    }
}

/// A batch is full after the message that reaches this. The others wait in the outbox, where they are counted.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Bodies of one session that wait to be handled: browsers send on six connections at once. Together they have no more bytes than one
/// message may have, and one body more.
const SENDS_MAX: usize = 16;
