//! HTTP connections that stay with their shard: kept alive, one request after another.
//!
//! ```text
//! Head ─▶ Body ─▶ Waiting ─▶ answer ─▶ Head …
//!   └ refused, late ─▶ last words, close
//! ```
//!
//! A connection becomes one when its first request names a path below an endpoint of long-polling ([`Stage::Http`]). What it
//! has beside its slot is in a table, so others have no more than they had. Responses go through its outlet, as all that is
//! said to it. While a request waits for its answer the next one is kept, a little of it, but not begun; that the peer has gone
//! is noticed all the same.
//!
//! What requests mean is not said here but in [`longpoll`](super::longpoll).

use bytes::BytesMut;
use fanwire_codec::http::{
    Body, ChunkedBody, HeadScanner, HttpError, RequestHead, Version, parse_request, write_response,
};
use fanwire_core::Outlet;

use super::Shard;
use super::input::{Panicked, guarded};
use super::longpoll::{Wanted, gone, wanted};
use super::polls::Polls;
use super::unread::Unread;
use crate::config::Listener;
use crate::posts::{Answer, Asker, TransportId};
use crate::request::{RefusalReason, origin_refusal};
use crate::service::Service;
use crate::slots::{CloseReason, Stage, flag};

/// One connection, beside its slot.
pub(super) struct Connection {
    input: Unread,
    step: Step,
    /// Of the present request, or the last one; no other request of this shard has had it for very long.
    serial: u32,
    /// The page that the present request comes from, which may read the answer.
    origin: Option<Box<str>>,
    /// There may be another request after the present one.
    keep: bool,
    /// `input` may hold a whole request.
    has_more: bool,
}

enum Step {
    Head {
        scanner: HeadScanner,
        has_begun: bool,
    },
    Body(Reading),
    /// For the answer; of another shard's session, or this one's, if it is known which one.
    Waiting(Option<TransportId>),
}

impl Step {
    const NEXT: Self = Self::Head { scanner: HeadScanner::new(), has_begun: false };
}

/// A body on its way.
struct Reading {
    wanted: Wanted,
    left: Left,
    body: BytesMut,
    bytes_max: usize,
}

enum Left {
    Length(usize),
    Chunked(ChunkedBody),
}

impl Reading {
    /// Takes what there is of the body from the front of `input`. True: that is all of it.
    fn take(&mut self, input: &mut Unread) -> Result<bool, HttpError> {
        let rest = input.rest();
        let used = match &mut self.left {
            Left::Length(left) => {
                let count = rest.len().min(*left);
                self.body.extend_from_slice(&rest[..count]);
                *left -= count;
                count
            }
            Left::Chunked(chunked) => chunked.read(rest, &mut self.body, self.bytes_max + 1)?,
        };
        input.take(used);
        if self.body.len() > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        Ok(match &self.left {
            Left::Length(left) => *left == 0,
            Left::Chunked(chunked) => chunked.is_done(),
        })
    }
}

impl Connection {
    fn new() -> Self {
        let input = Unread::default();
        Self { input, step: Step::NEXT, serial: 0, origin: None, keep: true, has_more: false }
    }

    /// The session that it waits for.
    pub(super) fn waits_for(&self) -> Option<(u32, TransportId)> {
        if let Step::Waiting(Some(id)) = self.step { Some((self.serial, id)) } else { None }
    }

    /// What it was sent and was not worked off, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let body = if let Step::Body(reading) = &self.step { reading.body.capacity() } else { 0 };
        self.input.held_bytes() + body
    }
}

impl<S: Service> Shard<S> {
    /// The connection's first request is for long-polling.
    pub(super) fn begin_http(&mut self, slot: u32, head: &[u8]) {
        self.slots.hot[slot as usize].stage = Stage::Http;
        self.polls.connections.insert(slot, Box::new(Connection::new()));
        self.links.counters.http_connections.set(self.polls.connections.len() as u64);
        self.http_head(slot, head);
    }

    pub(super) fn http_input(&mut self, slot: u32, input: &[u8]) {
        let Some(connection) = self.polls.connections.get_mut(&slot) else { return };
        connection.input.push(input);
        self.http_requests(slot);
    }

    /// Whether requests were left for this turn. Then they were worked off, some of them.
    pub(super) fn http_goes_on(&mut self, slot: u32) -> bool {
        let more = |connection: &mut Box<Connection>| std::mem::take(&mut connection.has_more);
        let goes_on = self.polls.connections.get_mut(&slot).is_some_and(more);
        if goes_on {
            self.http_requests(slot);
            // The socket has its turn after the others'.
            self.make_ready(slot);
        }
        goes_on
    }

    /// Works off what has come, a few requests at once.
    fn http_requests(&mut self, slot: u32) {
        let mut step = || self.slots.hot[slot as usize].stage == Stage::Http && self.http_step(slot);
        let goes_on = (0..REQUESTS_AT_ONCE).all(|_| step());
        let Some(connection) = self.polls.connections.get_mut(&slot) else { return };
        connection.input.settle();
        if goes_on {
            connection.has_more = true;
            self.make_ready(slot);
        }
    }

    /// True: there may be more to do at once.
    fn http_step(&mut self, slot: u32) -> bool {
        let Self { polls, config, slots, .. } = self;
        let Some(connection) = polls.connections.get_mut(&slot) else { return false };
        let Connection { input, step, .. } = &mut **connection;
        match step {
            Step::Waiting(_) => {
                if input.rest().len() > PIPELINED_BYTES_MAX {
                    slots.hot[slot as usize].set(flag::PAUSED);
                }
                false
            }
            Step::Head { scanner, has_begun } => {
                if input.is_empty() {
                    return false;
                }
                match guarded(|| scanner.find_end(input.rest(), &config.head)) {
                    Ok(Ok(Some(end))) => {
                        let head = input.rest()[..end].to_vec();
                        input.take(end);
                        self.http_head(slot, &head);
                        true
                    }
                    Ok(Ok(None)) => {
                        if !std::mem::replace(has_begun, true) {
                            self.http_deadline(slot, self.config.deadlines.handshake);
                        }
                        false
                    }
                    Ok(Err(error)) => self.http_refuse(slot, &error),
                    Err(Panicked) => self.http_panicked(slot),
                }
            }
            Step::Body(reading) => match guarded(|| reading.take(input)) {
                Ok(Ok(true)) => {
                    let Step::Body(reading) = std::mem::replace(step, Step::Waiting(None)) else {
                        unreachable!("it was one")
                    };
                    self.http_ask(slot, reading.wanted, reading.body.into());
                    true
                }
                Ok(Ok(false)) => false,
                Ok(Err(error)) => self.http_refuse(slot, &error),
                Err(Panicked) => self.http_panicked(slot),
            },
        }
    }

    fn http_refuse(&mut self, slot: u32, error: &HttpError) -> bool {
        self.refuse_request(slot, error, RefusalReason::BadRequest);
        false
    }

    fn http_panicked(&mut self, slot: u32) -> bool {
        self.decoder_panicked(slot);
        false
    }

    /// A whole head.
    fn http_head(&mut self, slot: u32, head: &[u8]) {
        let config = self.config.clone();
        let listener = &config.listeners[usize::from(self.slots.hot[slot as usize].listener)];
        let request = match guarded(|| parse_request(head, &config.head)) {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => {
                self.http_refuse(slot, &error);
                return;
            }
            Err(Panicked) => return self.decoder_panicked(slot),
        };
        let has_drained = self.drain.is_some();
        let (origin, admitted) = match origin(listener, &request) {
            Ok(origin) => (origin, Admitted::of(listener, &request, |wanted| self.said_bytes_max(wanted))),
            Err(error) => (None, Err(error)),
        };
        let Polls { connections, requests, .. } = &mut self.polls;
        let Some(connection) = connections.get_mut(&slot) else { return };
        *requests = requests.wrapping_add(1);
        connection.serial = *requests;
        // An older client that stays wants to be told that it may; so rare that it is not worth a field.
        connection.keep = request.keep_alive() && request.version() == Version::Http11 && !has_drained;
        // Also for a refusal, or the page would see nothing but a lost connection.
        connection.origin = origin;
        connection.step = Step::Waiting(None);
        let serial = connection.serial;
        // Before its body is read. Of another shard's sessions only that one knows.
        let is_gone = match &admitted {
            Ok(Admitted { wanted: Some(Wanted::Send(id)), .. }) => self.has_no_session(*id),
            _ => false,
        };
        let Some(connection) = self.polls.connections.get_mut(&slot) else { return };
        match admitted {
            Ok(Admitted { wanted, left, bytes_max, continues }) => match (wanted, left) {
                (_, left) if is_gone => {
                    connection.keep &= left.is_none();
                    self.http_answer(slot, serial, Answer::of(&gone()));
                }
                (None, _) => self.http_answer(slot, serial, preflight()),
                (Some(wanted), None) => self.http_ask(slot, wanted, Vec::new()),
                (Some(wanted), Some(left)) => {
                    connection.step = Step::Body(Reading { wanted, left, body: BytesMut::new(), bytes_max });
                    if continues {
                        self.service.push(self.now, Outlet(slot), b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    self.http_deadline(slot, self.config.deadlines.message);
                }
            },
            Err(error) => {
                // Where the next request begins is not worth waiting for.
                connection.keep &= request.body() == Body::None && error.status() != 421;
                self.http_answer(slot, serial, Answer::of(&error));
            }
        }
    }

    fn http_deadline(&mut self, slot: u32, wait: std::time::Duration) {
        let at = self.now + wait;
        self.slots.cold[slot as usize].stage_at = at;
        self.wheel.enter(self.now, slot, at);
    }

    fn http_ask(&mut self, slot: u32, wanted: Wanted, body: Vec<u8>) {
        let Some(connection) = self.polls.connections.get_mut(&slot) else { return };
        connection.step = Step::Waiting(wanted.transport());
        let asker = Asker { shard: self.id.get(), slot, serial: connection.serial };
        self.ask(asker, wanted, body);
    }

    /// Answers a request, of whatever shard's connection.
    pub(super) fn answer_asker(&mut self, asker: Asker, answer: Answer) {
        if asker.shard == self.id.get() {
            return self.http_answer(asker.slot, asker.serial, answer);
        }
        self.touched[usize::from(asker.shard)] = true;
        self.links.posts.answer(asker, answer);
    }

    /// Answers a request of this shard's, unless its connection is gone.
    pub(super) fn http_answer(&mut self, slot: u32, serial: u32, answer: Answer) {
        let Self { polls, slots, frame, .. } = self;
        let waits = |connection: &&mut Box<Connection>| {
            connection.serial == serial && matches!(connection.step, Step::Waiting(_))
        };
        let Some(connection) = polls.connections.get_mut(&slot).filter(waits) else { return };
        let hot = &mut slots.hot[slot as usize];
        if hot.stage != Stage::Http {
            return;
        }
        let keep = connection.keep;
        frame.clear();
        write_answer(frame, &answer, connection.origin.as_deref(), !keep);
        connection.step = Step::NEXT;
        connection.has_more = !connection.input.is_empty();
        let goes_on = hot.take(flag::PAUSED) | connection.has_more;
        self.service.push(self.now, Outlet(slot), &self.frame);
        if keep {
            if goes_on {
                self.make_ready(slot);
            }
            self.http_deadline(slot, self.config.deadlines.poll_idle);
        } else {
            self.end_http(slot, CloseReason::Service);
        }
    }

    /// Nothing more of what the connection was sent is looked at. It may stay until its peer closes it.
    pub(super) fn forget_request(&mut self, slot: u32) {
        let Some(connection) = self.polls.connections.get_mut(&slot) else { return };
        connection.input = Unread::default();
        if matches!(connection.step, Step::Body(_)) {
            connection.step = Step::NEXT;
        }
    }

    /// Nothing follows what was said.
    fn end_http(&mut self, slot: u32, why: CloseReason) {
        self.forget_request(slot);
        self.service.finish(Outlet(slot));
        self.slots.hot[slot as usize].set(flag::DISCARD);
        self.begin_closing(slot, why);
    }

    /// The connection's deadline fired.
    pub(super) fn look_at_http(&mut self, slot: u32) {
        let deadline = self.slots.cold[slot as usize].stage_at;
        let Some(connection) = self.polls.connections.get(&slot) else { return };
        let is_idle = match &connection.step {
            Step::Waiting(_) => return,
            Step::Head { has_begun, .. } => !has_begun,
            Step::Body(_) => false,
        };
        if self.now < deadline {
            self.wheel.enter(self.now, slot, deadline);
        } else if is_idle && self.slots.hot[slot as usize].has(flag::BLOCKED) {
            // It still reads the last answer; for how long is the outbox's limit.
            self.http_deadline(slot, self.config.deadlines.poll_idle);
        } else if is_idle {
            self.end_http(slot, CloseReason::Idle);
        } else {
            self.links.counters.rejected_request.add(1);
            let error = HttpError::new(408, "the request was not complete in time");
            self.refuse(slot, &error, CloseReason::MessageTimeout);
        }
    }

    /// The router ends: the connection does after the request that is under way.
    pub(super) fn drain_http(&mut self, slot: u32) {
        let Some(connection) = self.polls.connections.get_mut(&slot) else { return };
        connection.keep = false;
        if matches!(connection.step, Step::Head { has_begun: false, .. }) && connection.input.is_empty() {
            self.end_http(slot, CloseReason::Drain);
        }
    }
}

/// What a head says.
struct Admitted {
    /// `None`: a browser asks whether it may ask.
    wanted: Option<Wanted>,
    /// The body, if there is one.
    left: Option<Left>,
    bytes_max: usize,
    /// The peer waits to be told that it may send the body.
    continues: bool,
}

impl Admitted {
    /// `message_bytes_max`: for whom a message is meant it may have so many bytes.
    fn of(
        listener: &Listener,
        request: &RequestHead<'_>,
        message_bytes_max: impl FnOnce(Wanted) -> u64,
    ) -> Result<Self, HttpError> {
        let wanted = wanted(listener, request.path())?;
        let is_preflight = request.method == "OPTIONS";
        if !is_preflight && request.method != "POST" {
            let words = format!("{} is no method of long-polling; use POST", request.method);
            return Err(HttpError::new(405, words).with_headers(&[("Allow", "POST, OPTIONS")]));
        }
        if is_preflight && request.body() != Body::None {
            return Err(HttpError::new(400, "a preflight request has no body"));
        }
        let expects = request.headers().unique("expect")?;
        if expects.is_some_and(|expected| !expected.eq_ignore_ascii_case("100-continue")) {
            return Err(HttpError::new(417, "only Expect: 100-continue is known here"));
        }
        let bytes_max = wanted.body_bytes_max(message_bytes_max(wanted));
        let left = match request.body() {
            Body::None => None,
            Body::Length(bytes) if bytes > bytes_max as u64 => return Err(too_large(bytes_max)),
            Body::Length(bytes) => Some(Left::Length(bytes as usize)),
            Body::Chunked => Some(Left::Chunked(ChunkedBody::default())),
        };
        Ok(Self {
            wanted: (!is_preflight).then_some(wanted),
            left,
            bytes_max,
            continues: expects.is_some() && request.version() == Version::Http11,
        })
    }
}

/// The page that asks, if a page does and may.
fn origin(listener: &Listener, request: &RequestHead<'_>) -> Result<Option<Box<str>>, HttpError> {
    let Some(origin) = request.headers().unique("origin")? else { return Ok(None) };
    match origin_refusal(&listener.origins, origin, request.host()) {
        Some(error) => Err(error),
        None => Ok(Some(origin.into())),
    }
}

fn too_large(bytes_max: usize) -> HttpError {
    let words = format!(
        "the body is over {bytes_max} bytes (limits.message, before login limits.before_login); send less at once"
    );
    HttpError::new(413, words)
}

impl Answer {
    /// Done, and nothing to say.
    pub(super) const EMPTY: Self = Self { status: 204, content: "", headers: &[], body: Vec::new() };

    /// A refusal, in words.
    pub(super) fn of(error: &HttpError) -> Self {
        let body = format!("{error}.\n").into_bytes();
        Self { status: error.status(), content: "text/plain; charset=utf-8", headers: error.headers(), body }
    }
}

fn preflight() -> Answer {
    let headers = &[
        ("Access-Control-Allow-Methods", "POST"),
        ("Access-Control-Allow-Headers", "Content-Type"),
        ("Access-Control-Max-Age", "600"),
    ];
    Answer { headers, ..Answer::EMPTY }
}

fn write_answer(out: &mut BytesMut, answer: &Answer, origin: Option<&str>, close: bool) {
    let mut headers: Vec<(&str, &str)> = Vec::with_capacity(9);
    if !answer.content.is_empty() {
        headers.push(("Content-Type", answer.content));
        headers.push(("X-Content-Type-Options", "nosniff"));
    }
    headers.push(("Cache-Control", "no-store"));
    if let Some(origin) = origin {
        headers.push(("Access-Control-Allow-Origin", origin));
        // Browsers send cookies along where a client asks for it, and want to be told that this is known.
        headers.push(("Access-Control-Allow-Credentials", "true"));
        headers.push(("Vary", "Origin"));
    }
    headers.extend_from_slice(answer.headers);
    write_response(out, answer.status, &headers, &answer.body, close)
        .expect("an origin is what a head's field was, the others are ours");
}

/// Requests of one connection that are worked off in one go.
const REQUESTS_AT_ONCE: u32 = 16;
/// What of the next requests is kept while one waits.
const PIPELINED_BYTES_MAX: usize = 8 << 10;
