//! `/ws/v1`: requests one after the other on a WebSocket, many at once, answered in their order.
//!
//! ```text
//! frames ─▶ requests ─┬ publications: some hundred in one parcel ─▶ the connection's shard ─┐
//!                     └ orders ─▶ the client's shard ──────────────────────────────────────┤
//!                                                                                          ▼
//!        output ◀─ answers that are there, up to the first that is not ◀──────── pending, in order
//! ```
//!
//! Publications of one connection are delivered in their order, and orders for one client are carried out in theirs. What
//! comes before a request of the other kind is answered before that begins, so a client that is subscribed gets what is
//! published next. While too much is pending, or the peer does not read its answers, nothing more is read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use fanwire_codec::http::RequestHead;
use fanwire_codec::ws;
use fanwire_codec::ws::handshake::{Upgrade, write_accept};
use fanwire_core::api::{ApiAnswer, ApiPublication, ApiRefusal, Ask, Order, Receipt};
use fanwire_core::ids::{ClientId, ShardId};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::connection::{Connection, Exchanged, Failure, Gone};
use super::super::error::{ApiError, Code};
use super::super::keys::{KeyHash, Principal, Right};
use super::super::{ANSWER_TIME, Api, Caller, Reply, SUBMIT_TRIES, figures};
use super::check_right;
use super::http::reached;
use super::requests::{self, Request};
use super::words::{self, Answer};
use crate::queues::{ConsumerId, NotConsumed};

/// Publications of one parcel: enough that waking the shard costs each of them nothing.
const PARCEL_MAX: usize = 256;
/// Requests without an answer.
const PENDING_MAX: usize = 4_096;
/// Their bytes, unless one alone has more.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Answers that wait for the peer to read.
const OUTPUT_MAX: usize = 256 << 10;

/// What clients have said is added up to here, so that a queue that is never empty does not keep requests from being read.
const POPPED_MAX: usize = OUTPUT_MAX / 2;

/// Opens the WebSocket and serves it until it ends.
pub(in crate::api) async fn serve(
    api: &Api,
    connection: &mut Connection,
    caller: &Caller<'_>,
    head: &RequestHead<'_>,
) -> Result<Reply, Failure> {
    let upgrade = Upgrade::from_request(head).map_err(ApiError::from)?;
    write_accept(connection.buffers().1, &upgrade, None);
    let who = Who {
        key: caller.key,
        principal: caller.principal.clone(),
        address: caller.address,
        shard: caller.shard,
    };
    Socket::new(api.clone(), who).run(connection).await?;
    Ok(Reply::Streamed { complete: false })
}

/// Who asks, for as long as the connection lasts.
struct Who {
    key: Option<KeyHash>,
    principal: Principal,
    address: Option<std::net::IpAddr>,
    shard: ShardId,
}

impl Who {
    fn caller(&self) -> Caller<'_> {
        Caller { key: self.key, principal: &self.principal, address: self.address, shard: self.shard }
    }
}

/// A request that has no answer in the output.
struct Pending {
    /// Requests that it stands for, and their bytes.
    count: usize,
    bytes: usize,
    what: Awaited,
}

enum Awaited {
    /// Its frame is there.
    Nothing(BytesMut),
    /// The same, and what clients say follows.
    Consuming(BytesMut),
    /// What becomes of publications, by the ids of their requests.
    Publications(Vec<Box<str>>, Question),
    Order(Box<str>, u16, Question),
}

struct Question {
    answer: oneshot::Receiver<ApiAnswer>,
    until: Instant,
    /// What it was, once that is known.
    said: Option<Result<ApiAnswer, ApiError>>,
}

impl Question {
    /// The answer, if it is there.
    fn take(&mut self) -> Option<Result<ApiAnswer, ApiError>> {
        match self.said.take() {
            Some(said) => Some(said),
            None => match self.answer.try_recv() {
                Ok(answer) => Some(Ok(answer)),
                Err(oneshot::error::TryRecvError::Closed) => Some(Err(ends())),
                Err(oneshot::error::TryRecvError::Empty) => None,
            },
        }
    }
}

/// What is asked of shards: one kind at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Publications,
    Orders,
}

struct Socket {
    api: Api,
    who: Who,
    receiver: ws::Receiver,
    pool: ws::Pool,
    /// A request that waits until those of the other kind are answered.
    held: Option<(Kind, Waiting)>,
    parcel: Vec<ApiPublication>,
    /// Of the requests in the parcel.
    ids: Vec<Box<str>>,
    parcel_bytes: usize,
    pending: VecDeque<Pending>,
    pending_count: usize,
    pending_bytes: usize,
    /// Of what is asked and not answered.
    asked: usize,
    kind: Kind,
    /// How often a shard without room is asked again.
    tries: u32,
    /// When the peer was heard, and when it took something of the output.
    heard: Instant,
    pinged: bool,
    sent: Instant,
    /// As whom it consumes queues, and whether that was answered.
    consumer: Option<ConsumerId>,
    pops: bool,
    wake: Arc<Notify>,
    /// The close frame that is said when all is answered.
    close: Option<(Option<u16>, &'static str)>,
}

/// A request on its way to a shard.
enum Waiting {
    Publication(Box<str>, Box<ApiPublication>),
    /// With its bytes.
    Order(Box<str>, u16, (ClientId, Order), usize),
}

impl Socket {
    fn new(api: Api, who: Who) -> Self {
        let now = Instant::now();
        Self {
            api,
            who,
            receiver: ws::Receiver::new(ws::Role::Server),
            pool: ws::Pool::new(1, 0),
            held: None,
            parcel: Vec::new(),
            ids: Vec::new(),
            parcel_bytes: 0,
            pending: VecDeque::new(),
            pending_count: 0,
            pending_bytes: 0,
            asked: 0,
            kind: Kind::Publications,
            tries: SUBMIT_TRIES,
            heard: now,
            pinged: false,
            sent: now,
            consumer: None,
            pops: false,
            wake: Arc::default(),
            close: None,
        }
    }

    async fn run(mut self, connection: &mut Connection) -> Result<(), Gone> {
        let readiness = Arc::clone(&self.api.readiness);
        let ended = readiness.ended();
        tokio::pin!(ended);
        loop {
            self.renew();
            self.read(connection).await;
            self.settle(connection.buffers().1);
            self.pop(connection.buffers().1);
            if let Some((code, words)) = self.close
                && self.pending.is_empty()
            {
                let output = connection.buffers().1;
                match code {
                    Some(code) => ws::write_close(output, code, words),
                    None => ws::write_close_reply(output, None),
                }
                return connection.flush().await;
            }
            let (input, output) = connection.buffers();
            let is_full = output.len() >= OUTPUT_MAX;
            let reads = self.close.is_none() && input.is_empty() && !is_full && self.has_room();
            if !reads {
                // Whose words are not read is not silent.
                (self.heard, self.pinged) = (Instant::now(), false);
            }
            let deadline = self.deadline(!output.is_empty());
            let (wake, pops) = (Arc::clone(&self.wake), self.pops && self.close.is_none());
            tokio::select! {
                biased;
                () = self.hear_front(), if !is_full => {}
                exchanged = connection.exchange(reads) => match exchanged? {
                    Exchanged::Sent => self.sent = Instant::now(),
                    Exchanged::Received => (self.heard, self.pinged) = (Instant::now(), false),
                    Exchanged::Ended => return Err(Gone),
                },
                () = wake.notified(), if pops && !is_full => {}
                () = &mut ended, if self.close.is_none() => self.close = Some((Some(1001), "the router stops")),
                () = sleep_until(deadline) => self.be_late(connection.buffers().1)?,
            }
        }
    }

    /// When something is late: the peer does not read, or is silent.
    fn deadline(&self, writes: bool) -> Instant {
        let times = &self.api.config.limits.times;
        let silent = self.heard + if self.pinged { times.idle } else { times.idle / 2 };
        if writes { silent.min(self.sent + times.body) } else { silent }
    }

    fn be_late(&mut self, output: &mut BytesMut) -> Result<(), Gone> {
        let times = &self.api.config.limits.times;
        let now = Instant::now();
        let does_not_read = !output.is_empty() && now >= self.sent + times.body;
        if does_not_read || now >= self.heard + times.idle {
            return Err(Gone);
        }
        if !self.pinged && now >= self.heard + times.idle / 2 {
            self.pinged = true;
            ws::write_control(output, ws::Control::Ping, b"");
        }
        Ok(())
    }

    /// Takes on what a reload has changed. Who is nobody any more has to go.
    fn renew(&mut self) {
        let Some(newer) = self.api.newer() else { return };
        self.api = newer;
        let config = &self.api.config;
        let still = match self.who.key {
            None => config.keys.0.is_empty().then_some(&config.local),
            Some(hash) => {
                let is_same = |key: &&super::super::keys::ApiKey| {
                    key.hash == hash && key.may_come_from(self.who.address)
                };
                config.keys.0.iter().find(is_same).map(|key| &key.principal)
            }
        };
        match still {
            Some(principal) => {
                self.who.principal = principal.clone();
                if self.consumer.is_some() && self.may_consume().is_err() {
                    self.leave_queues();
                    self.close = Some((Some(1008), "a reload has taken the right to consume queues away"));
                }
            }
            None => {
                self.leave_queues();
                self.close = Some((Some(1008), "a reload has taken the key away"));
            }
        }
    }

    fn has_room(&self) -> bool {
        let (count, bytes) = (self.pending_count + self.ids.len(), self.pending_bytes + self.parcel_bytes);
        self.held.is_none() && count < PENDING_MAX && bytes < PENDING_BYTES_MAX
    }

    /// Works off the input, as far as there is room.
    async fn read(&mut self, connection: &mut Connection) {
        self.tries = SUBMIT_TRIES;
        if let Some((kind, waiting)) = self.held.take() {
            self.ask_or_hold(kind, waiting).await;
        }
        while self.close.is_none() && self.has_room() {
            let (input, output) = connection.buffers();
            if input.is_empty() || output.len() >= OUTPUT_MAX {
                break;
            }
            let limits = ws::Limits { message_bytes_max: self.api.config.limits.body_bytes_max as u64 };
            let (used, bytes, came) = match self.receiver.receive(input, &limits, &mut self.pool) {
                Err(error) => {
                    self.close = Some((Some(error.close_code()), "the WebSocket protocol was broken"));
                    break;
                }
                Ok((used, None)) => (used, 0, None),
                Ok((used, Some(ws::Received::Message { kind, payload }))) => {
                    (used, payload.len(), Some(requests::read(kind, payload)))
                }
                Ok((used, Some(ws::Received::Ping(payload)))) => {
                    ws::write_control(output, ws::Control::Pong, payload);
                    (used, 0, None)
                }
                Ok((used, Some(ws::Received::Pong(_)))) => (used, 0, None),
                Ok((used, Some(ws::Received::Close(code)))) => {
                    self.close = Some((code.map(|(code, _)| code), ""));
                    (used, 0, None)
                }
            };
            input.advance(used);
            if input.is_empty() {
                self.receiver.recycle(&mut self.pool);
            }
            if let Some((id, request)) = came {
                self.begin(id, request, bytes).await;
            }
        }
        self.submit_parcel().await;
    }

    async fn begin(&mut self, id: Box<str>, request: Result<Request, ApiError>, bytes: usize) {
        let failed = request.as_ref().map_or(words::SEND_FAILED, Request::failed);
        let request = match request {
            Ok(Request::Pop(names)) => return self.begin_to_pop(&id, &names).await,
            Ok(Request::Unpop) => return self.unpop(&id).await,
            other => other,
        };
        let waiting = match request.and_then(|request| self.prepare(&id, request, bytes)) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return self.say(|out| out.extend_from_slice(b"pong")).await,
            Err(error) => return self.refuse(&id, failed, &error).await,
        };
        let kind = match waiting {
            Waiting::Publication(..) => Kind::Publications,
            Waiting::Order(..) => Kind::Orders,
        };
        if kind == Kind::Publications {
            self.parcel_bytes += bytes;
        }
        self.ask_or_hold(kind, waiting).await;
    }

    /// Checks who asks. `None`: it is a ping, and no other.
    fn prepare(&self, id: &str, request: Request, bytes: usize) -> Result<Option<Waiting>, ApiError> {
        let caller = self.who.caller();
        match request {
            Request::Ping | Request::Pop(_) | Request::Unpop => Ok(None),
            Request::Publish { topic, payload } => {
                check_right(&caller, Right::Publish)?;
                let publication = self.api.mesh_publication(caller.principal, topic, payload)?;
                Ok(Some(Waiting::Publication(id.into(), Box::new(publication))))
            }
            Request::Order { client, order, failed } => {
                check_right(&caller, Right::Clients)?;
                self.api.check_manages(caller.principal)?;
                self.api.shard_of(client)?;
                Ok(Some(Waiting::Order(id.into(), failed, (client, order), bytes)))
            }
        }
    }

    fn may_consume(&self) -> Result<(), ApiError> {
        check_right(&self.who.caller(), Right::Clients)?;
        self.api.check_manages(&self.who.principal)
    }

    async fn begin_to_pop(&mut self, id: &str, names: &[Box<str>]) {
        if let Err(error) = self.may_consume() {
            return self.refuse(id, words::POP_FAILED, &error).await;
        }
        let outcome = self.api.queues.consume(self.consumer, &self.wake, names);
        let mut frame = BytesMut::new();
        let answer = match &outcome {
            Ok(consumer) => {
                self.consumer = Some(*consumer);
                (None, String::new())
            }
            Err(NotConsumed::Unknown(name)) => {
                (Some(words::POP_FAILED), format!("there is no queue {name:?} ([[message_center.queue]])"))
            }
            Err(NotConsumed::Already(name)) => {
                (Some(words::POPPED_ALREADY), format!("this connection consumes {name:?} already"))
            }
        };
        let answer = answer.0.map_or(Answer::Done, |number| Answer::Refused(number, &answer.1));
        write(&mut frame, |out| answer.write(Some(id), out));
        self.submit_parcel().await;
        self.add(Pending { count: 1, bytes: frame.len(), what: Awaited::Consuming(frame) });
    }

    async fn unpop(&mut self, id: &str) {
        self.submit_parcel().await;
        let had = self.leave_queues();
        let nothing = Answer::Refused(words::UNPOP_FAILED, "this connection consumes nothing");
        self.add_answer(if had { &Answer::Done } else { &nothing }, id);
    }

    /// Consumes nothing any more; whether it did.
    fn leave_queues(&mut self) -> bool {
        self.pops = false;
        self.consumer.take().is_some_and(|consumer| self.api.queues.leave(consumer))
    }

    /// Takes what clients have said, as far as there is room for it.
    fn pop(&mut self, output: &mut BytesMut) {
        let Some(consumer) = self.consumer.filter(|_| self.pops && self.close.is_none()) else { return };
        while output.len() < POPPED_MAX
            && let Some((item, queue)) = self.api.queues.take(consumer)
        {
            write(output, |out| words::write_item(&item, &queue, out));
        }
    }

    async fn ask_or_hold(&mut self, kind: Kind, waiting: Waiting) {
        if kind != self.kind {
            self.submit_parcel().await;
            if self.asked > 0 {
                self.held = Some((kind, waiting));
                return;
            }
            self.kind = kind;
        }
        match waiting {
            Waiting::Publication(id, publication) => {
                self.parcel.push(*publication);
                self.ids.push(id);
                if self.parcel.len() >= PARCEL_MAX {
                    self.submit_parcel().await;
                }
            }
            Waiting::Order(id, failed, (client, order), bytes) => {
                let ask = Ask::Order { client, realm: self.api.mesh_realm(), order };
                match self.submit(client.shard(), ask).await {
                    Ok(answer) => {
                        self.expect(1, bytes, |question| Awaited::Order(id, failed, question), answer)
                    }
                    Err(error) => self.refuse(&id, failed, &error).await,
                }
            }
        }
    }

    /// Once a shard had no room for long, the rest of what has come is asked once: hundreds of requests that wait one after the
    /// other would keep the connection from being served.
    async fn submit(&mut self, shard: ShardId, ask: Ask) -> Result<oneshot::Receiver<ApiAnswer>, ApiError> {
        let submitted = self.api.submit_within(self.tries, shard, ask).await;
        if submitted.is_err() {
            self.tries = 1;
        }
        submitted
    }

    async fn submit_parcel(&mut self) {
        if self.parcel.is_empty() {
            return;
        }
        let (parcel, ids) = (std::mem::take(&mut self.parcel), std::mem::take(&mut self.ids));
        let bytes = std::mem::take(&mut self.parcel_bytes);
        match self.submit(self.who.shard, Ask::Publish(parcel)).await {
            Ok(answer) => {
                self.expect(ids.len(), bytes, |question| Awaited::Publications(ids, question), answer)
            }
            Err(error) => {
                for id in ids {
                    self.add_refusal(&id, words::SEND_FAILED, &error);
                }
            }
        }
    }

    fn expect(
        &mut self,
        count: usize,
        bytes: usize,
        what: impl FnOnce(Question) -> Awaited,
        answer: oneshot::Receiver<ApiAnswer>,
    ) {
        let what = what(Question { answer, until: Instant::now() + ANSWER_TIME, said: None });
        self.asked += 1;
        self.add(Pending { count, bytes, what });
    }

    fn add(&mut self, pending: Pending) {
        self.pending_count += pending.count;
        self.pending_bytes += pending.bytes;
        self.pending.push_back(pending);
    }

    async fn refuse(&mut self, id: &str, failed: u16, error: &ApiError) {
        self.submit_parcel().await;
        self.add_refusal(id, failed, error);
    }

    fn add_refusal(&mut self, id: &str, failed: u16, error: &ApiError) {
        self.api.figures.refused(error.code);
        self.add_answer(&Answer::Refused(words::number(error, failed), &error.message), id);
    }

    fn add_answer(&mut self, answer: &Answer<'_>, id: &str) {
        let mut frame = BytesMut::new();
        write(&mut frame, |out| answer.write(Some(id), out));
        self.add(Pending { count: 1, bytes: frame.len(), what: Awaited::Nothing(frame) });
    }

    /// Answers in its turn what needs no router.
    async fn say(&mut self, words: impl FnOnce(&mut BytesMut)) {
        self.submit_parcel().await;
        let mut frame = BytesMut::new();
        write(&mut frame, words);
        self.add(Pending { count: 1, bytes: frame.len(), what: Awaited::Nothing(frame) });
    }

    /// Writes the answers that are there, up to the first that is not.
    fn settle(&mut self, output: &mut BytesMut) {
        while output.len() < OUTPUT_MAX
            && let Some(front) = self.pending.front_mut()
        {
            let outcome = match &mut front.what {
                Awaited::Nothing(_) | Awaited::Consuming(_) => Ok(None),
                Awaited::Publications(_, question) | Awaited::Order(.., question) => match question.take() {
                    Some(said) => said.map(Some),
                    None => return,
                },
            };
            self.answer_front(outcome, output);
        }
    }

    /// Waits for the answer to the first request that has none.
    async fn hear_front(&mut self) {
        let front = self.pending.front_mut().map(|front| &mut front.what);
        let Some(Awaited::Publications(_, question) | Awaited::Order(.., question)) = front else {
            return std::future::pending().await;
        };
        let said = timeout_at(question.until, &mut question.answer).await;
        question.said = Some(said.ok().and_then(Result::ok).ok_or_else(ends));
    }

    fn answer_front(&mut self, outcome: Result<Option<ApiAnswer>, ApiError>, output: &mut BytesMut) {
        let Some(Pending { count, bytes, what }) = self.pending.pop_front() else { return };
        self.pending_count -= count;
        self.pending_bytes -= bytes;
        match (what, outcome) {
            (Awaited::Nothing(frame), _) => output.extend_from_slice(&frame),
            (Awaited::Consuming(frame), _) => {
                output.extend_from_slice(&frame);
                self.pops = self.consumer.is_some();
            }
            (Awaited::Publications(ids, _), outcome) => {
                self.asked -= 1;
                self.answer_publications(&ids, outcome, output);
            }
            (Awaited::Order(id, failed, _), outcome) => {
                self.asked -= 1;
                let outcome = match outcome {
                    Ok(Some(ApiAnswer::Ordered(outcome))) => outcome.map_err(ApiError::from),
                    Ok(_) => unreachable!("an order is answered as one"),
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => write(output, |out| Answer::Done.write(Some(&id), out)),
                    Err(error) => self.write_refusal(&id, failed, &error, output),
                }
            }
        }
    }

    fn answer_publications(
        &self,
        ids: &[Box<str>],
        outcome: Result<Option<ApiAnswer>, ApiError>,
        output: &mut BytesMut,
    ) {
        let outcomes: Vec<Result<Receipt, ApiRefusal>> = match outcome {
            Ok(Some(ApiAnswer::Published(outcomes))) => outcomes,
            Ok(_) => unreachable!("publications are answered as such"),
            Err(error) => {
                return ids.iter().for_each(|id| self.write_refusal(id, words::SEND_FAILED, &error, output));
            }
        };
        let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        figures::add(&self.api.figures.publications, taken as u64);
        for (id, outcome) in ids.iter().zip(outcomes) {
            match reached(outcome) {
                Ok(count) => write(output, |out| Answer::Reached(count).write(Some(id), out)),
                Err(error) => self.write_refusal(id, words::SEND_FAILED, &error, output),
            }
        }
    }

    fn write_refusal(&self, id: &str, failed: u16, error: &ApiError, output: &mut BytesMut) {
        self.api.figures.refused(error.code);
        let number = words::number(error, failed);
        write(output, |out| Answer::Refused(number, &error.message).write(Some(id), out));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer {
            self.api.queues.leave(consumer);
        }
    }
}

/// Appends one text frame.
fn write(out: &mut BytesMut, words: impl FnOnce(&mut BytesMut)) {
    let frame = ws::begin_frame(out, ws::Kind::Text);
    words(out);
    ws::end_frame(out, frame);
}

#[cold]
fn ends() -> ApiError {
    ApiError::new(
        Code::ShuttingDown,
        "the router ends, or has not answered in time; what was asked may have happened",
    )
}
