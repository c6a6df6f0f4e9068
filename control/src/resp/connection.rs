//! One client's socket: bytes to commands, questions to the shard, and what comes from there back to bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fanwire_codec::resp::read_command;
use fanwire_codec::wamp2::ReceiverLists;
use fanwire_core::api::{ApiAnswer, ApiPublication, ApiRefusal, Ask};
use fanwire_core::ids::ShardId;
use fanwire_core::inner::{InnerId, InnerOutbox, InnerSubscription};
use fanwire_core::uri::MatchPolicy;
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::figures::Ended;
use super::outboxes::Held;
use super::session::{Question, Session, Wanted};
use super::{Port, RespFigures};
use crate::inner::{Inbound, Inbox, Leaving, ask, next_subscriber};

/// Answers that may be outstanding before no more commands are handled.
const WAITING_MAX: usize = 1_024;
/// Parcels of publications that the shard may have: one that it works on while the next is made.
const PARCELS_MAX: usize = 2;
/// Payloads of one parcel, and one payload of any size more.
const PARCEL_BYTES: usize = 1 << 20;
/// Commands handled in one go: others have this thread too.
const COMMANDS_MAX: usize = 1_024;
/// Bytes to be written before nothing more is handled, neither commands nor messages.
const OUT_BYTES_SOFT: usize = 256 << 10;
/// Taken from the shard in one go.
const INBOUND_MAX: usize = 256;
/// Received in one go.
const READ_BYTES: usize = 64 << 10;
/// For the password.
const LOGIN_TIME: Duration = Duration::from_secs(10);
/// For what is left to be said at the end.
const LAST_WORDS_TIME: Duration = Duration::from_secs(10);

/// Who sends nothing for so long has stopped, or has nothing to say.
const SILENCE: Duration = Duration::from_millis(100);

/// Why no more commands are handled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// There are no more, or there is no room.
    Done,
    /// It is somebody else's turn.
    More,
}

/// A question that the shard has.
enum Asked {
    /// The places of a parcel's answers.
    Publish(Vec<u64>),
    Subscribe {
        slot: u64,
        tag: u32,
    },
    Unsubscribe {
        slot: u64,
        tag: u32,
    },
}

/// One client.
pub(super) struct Connection {
    stream: TcpStream,
    shard: ShardId,
    subscriber: InnerId,
    port: Port,
    held: Arc<Held>,
    session: Session,
    inbox: Inbox,
    input: BytesMut,
    words: Vec<Range<usize>>,
    asked: HashMap<u64, Asked>,
    last_asked: u64,
    /// Parcels that the shard has.
    parcels: usize,
    /// The client sends nothing more.
    has_left: bool,
    /// The same, or what it sends now comes too late.
    input_ended: bool,
    /// The router ends: what has come is still answered.
    is_last_call: bool,
    /// Nobody answers any more, and no more events come.
    is_over: bool,
    _leaving: Leaving,
    _place: Place,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, number: u64, shard: ShardId, port: Port) -> Self {
        let subscriber = next_subscriber();
        let password = Option::clone(&port.config.password.load());
        let inbox = Inbox::new(port.config.inbox_limits());
        Self {
            stream,
            shard,
            subscriber,
            session: Session::new(number, password, Arc::clone(&port.names), Arc::clone(&port.figures)),
            held: port.outboxes.add(inbox.outbox()),
            inbox,
            input: BytesMut::new(),
            words: Vec::new(),
            asked: HashMap::new(),
            last_asked: 0,
            parcels: 0,
            has_left: false,
            input_ended: false,
            is_last_call: false,
            is_over: false,
            _leaving: Leaving { shards: Arc::clone(&port.shards), shard, subscriber },
            _place: Place::taken(&port.figures),
            port,
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let outcome = self.serve().await;
        if let Err(why) = outcome {
            self.port.figures.end(why);
        }
        let Self { mut stream, mut session, inbox, held, port, _leaving: leaving, _place, .. } = self;
        let (rest, said) = (session.output.out.split(), session.output.messages());
        let unheard = inbox.outbox().waiting();
        // It is subscribed no more, whatever is still to be said.
        drop((session, inbox, held, leaving));
        // Who has not read what came before does not read this.
        let is_read = !matches!(outcome, Err(Ended::Slow | Ended::Memory));
        let last_words = tokio::time::timeout(LAST_WORDS_TIME, stream.write_all(&rest));
        let is_said = is_read && matches!(last_words.await, Ok(Ok(())));
        port.figures.drop_messages(outcome.err(), unheard + if is_said { 0 } else { said });
        if is_read && stream.shutdown().await.is_ok() {
            _ = tokio::time::timeout(LAST_WORDS_TIME, discard_rest(&mut stream)).await;
        }
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let login_deadline = Instant::now() + LOGIN_TIME;
        let mut inbound = Vec::new();
        let (held, readiness) = (Arc::clone(&self.held), Arc::clone(&self.port.readiness));
        let (ended, mut over) = (readiness.ended(), self.port.over.clone());
        tokio::pin!(ended);
        loop {
            self.refuse_unanswered();
            if self.work_off().await? == Pause::More {
                give_way().await;
                continue;
            }
            if self.is_last_call && !self.input_ended && !self.still_listens() && self.may_handle() {
                self.read_the_rest();
                continue;
            }
            // What it has asked before the end is still answered.
            if self.input_ended && self.may_handle() && !self.still_listens() {
                self.session.closing = true;
            }
            let output = &self.session.output;
            let is_unheard = self.is_over && self.inbox.outbox().waiting() > 0;
            if self.session.closing && output.waiting() == 0 && !is_unheard {
                return Ok(());
            }
            held.said.store(output.bytes(), Ordering::Relaxed);
            if output.bytes() > self.port.config.bytes_max {
                return Err(Ended::Slow);
            }
            let has_room = output.out.len() < OUT_BYTES_SOFT;
            let may_read = (!self.input_ended || self.still_listens()) && self.may_handle();
            let has_output = !output.out.is_empty();
            let is_known = self.session.is_known();
            let (mut reader, mut writer) = self.stream.split();
            let out = &self.session.output.out;
            // Messages are missing: as in Redis the client learns it by the end of its connection.
            let outbox = self.inbox.outbox();
            tokio::select! {
                () = outbox.overflowed() => return Err(Ended::Slow),
                () = held.shed.notified() => return Err(Ended::Memory),
                () = &mut ended, if !self.is_last_call => self.is_last_call = true,
                _ = over.wait_for(|over| *over), if !self.is_over => self.is_over = true,
                written = writer.write(out), if has_output => match written {
                    Ok(count) => self.session.output.wrote(count),
                    Err(_) => return Ok(()),
                },
                () = self.inbox.receive(&mut inbound, INBOUND_MAX), if has_room => {
                    for inbound in inbound.drain(..) {
                        self.hear(inbound)?;
                    }
                }
                read = read_some(&mut reader, &mut self.input), if may_read => match read {
                    Ok(0) => (self.has_left, self.input_ended) = (true, true),
                    Ok(_) => {}
                    Err(_) => return Ok(()),
                },
                () = tokio::time::sleep_until(login_deadline), if !is_known => return Err(Ended::Login),
            }
        }
    }

    /// Takes what the client has sent until now, and no more than that.
    fn read_the_rest(&mut self) {
        let mut rest = vec![0; READ_BYTES];
        // Not by the runtime: some may have come that it was not told of yet.
        match rustix::net::recv(&self.stream, &mut rest[..], RecvFlags::DONTWAIT) {
            Ok((count @ 1.., _)) => self.input.extend_from_slice(&rest[..count]),
            // Ended, empty, or broken: writing will tell.
            _ => self.input_ended = true,
        }
    }

    /// While the router ends, subscribers hear what others still publish, and are read as before: some ask for signs of life.
    fn still_listens(&self) -> bool {
        self.is_last_call && !self.is_over && !self.has_left && !self.session.subscriptions.is_empty()
    }

    /// Nobody will answer what is asked any more, once the answers that had come are heard: the client is told so.
    fn refuse_unanswered(&mut self) {
        if !self.is_over || self.asked.is_empty() || !self.inbox.is_empty() {
            return;
        }
        let mut asked: Vec<(u64, Asked)> = self.asked.drain().collect();
        asked.sort_unstable_by_key(|(number, _)| *number);
        asked.into_iter().for_each(|(_, asked)| self.refuse(asked));
    }

    fn refuse(&mut self, asked: Asked) {
        let refusal = || ApiRefusal {
            error: "wamp.error.unavailable",
            words: "the router ends; what was asked may have happened".to_owned(),
        };
        match asked {
            Asked::Publish(slots) => {
                self.parcels -= 1;
                slots.into_iter().for_each(|slot| self.session.published(slot, &Err(refusal())));
            }
            Asked::Subscribe { slot, tag } => self.session.subscribed(slot, tag, &Err(refusal())),
            Asked::Unsubscribe { slot, tag } => self.session.unsubscribed(slot, tag),
        }
    }

    /// Whether there is room for the answers to more commands, and for what they ask of the shard.
    fn may_handle(&self) -> bool {
        let Session { output, questions, closing, .. } = &self.session;
        !closing
            && output.waiting() < WAITING_MAX
            && output.bytes() < OUT_BYTES_SOFT
            && (self.parcels < PARCELS_MAX || !questions.is_empty())
    }

    /// Handles the commands that are complete, as far as there is room.
    async fn work_off(&mut self) -> Result<Pause, Ended> {
        let (mut handled, mut bytes) = (0, 0);
        let mut pause = Pause::Done;
        while self.may_handle() {
            if handled == COMMANDS_MAX || bytes > PARCEL_BYTES {
                pause = Pause::More;
                break;
            }
            let limits = self.port.config.command_limits(self.session.is_known());
            let used = match read_command(&self.input, &limits, &mut self.words) {
                Ok(Some(used)) => used,
                Ok(None) => break,
                Err(error) => {
                    self.session.refuse(&format!("ERR {error}"));
                    return Err(Ended::Protocol);
                }
            };
            if !self.words.is_empty() {
                let words: Vec<&[u8]> = self.words.iter().map(|word| &self.input[word.clone()]).collect();
                self.session.handle(&words);
                if self.session.is_foreign {
                    tracing::warn!(
                        "the Redis port was spoken to in HTTP, by a web page maybe; the connection is ended"
                    );
                    return Err(Ended::Protocol);
                }
            }
            self.input.advance(used);
            (handled, bytes) = (handled + 1, bytes + used);
        }
        self.ask_all().await?;
        Ok(pause)
    }

    /// Asks the shard what the commands have asked; publications in a row share a parcel.
    async fn ask_all(&mut self) -> Result<(), Ended> {
        let mut questions = std::mem::take(&mut self.session.questions).into_iter().peekable();
        while let Some(question) = questions.next() {
            match question {
                Question::Publish { slot, channel, payload } => {
                    let mut slots = vec![slot];
                    let mut parcel = vec![self.publication(channel, payload)];
                    let is_publication = |next: &Question| matches!(next, Question::Publish { .. });
                    while let Some(Question::Publish { slot, channel, payload }) =
                        questions.next_if(is_publication)
                    {
                        slots.push(slot);
                        parcel.push(self.publication(channel, payload));
                    }
                    self.parcels += 1;
                    self.ask(Ask::Publish(parcel), Asked::Publish(slots)).await?;
                }
                Question::Subscribe { slot, tag, names } => match self.subscription(tag, names) {
                    Some(subscription) => {
                        self.ask(Ask::Subscribe(subscription), Asked::Subscribe { slot, tag }).await?;
                    }
                    None => {
                        let refusal = ApiRefusal {
                            error: "wamp.error.invalid_uri",
                            words: "a pattern here begins like the name of a topic, in UTF-8".to_owned(),
                        };
                        self.session.subscribed(slot, tag, &Err(refusal));
                    }
                },
                Question::Unsubscribe { slot, tag } => {
                    let subscriber = self.subscriber;
                    self.ask(Ask::Unsubscribe { subscriber, tag }, Asked::Unsubscribe { slot, tag }).await?;
                }
            }
        }
        Ok(())
    }

    fn publication(&self, topic: Box<str>, payload: fanwire_codec::payload::OwnedPayload) -> ApiPublication {
        ApiPublication {
            actor: self.port.config.actor,
            topic,
            payload,
            plain: true,
            receivers: ReceiverLists::default(),
            conflate_key: None,
            retain: false,
            receipt: true,
            // As in Redis, who publishes gets its own messages.
            from: None,
        }
    }

    fn subscription(&self, tag: u32, wanted: Wanted) -> Option<InnerSubscription> {
        let (match_policy, uri, wants) = match wanted {
            Wanted::Channel(channel) => (MatchPolicy::Exact, channel, None),
            Wanted::Pattern(glob) => {
                let prefix = String::from_utf8(glob.literal_prefix()).ok()?;
                let wants = Arc::new(move |topic: &str| glob.matches(topic.as_bytes())) as Arc<_>;
                (MatchPolicy::Prefix, prefix.into(), Some(wants))
            }
        };
        let outbox = self.inbox.outbox() as Arc<dyn InnerOutbox>;
        let (subscriber, actor) = (self.subscriber, self.port.config.actor);
        Some(InnerSubscription { subscriber, tag, actor, match_policy, uri, wants, outbox })
    }

    /// Waits while the shard has no room for another question, unless the connection has to go meanwhile, or nobody answers any
    /// more.
    async fn ask(&mut self, question: Ask, asked: Asked) -> Result<(), Ended> {
        if self.is_over {
            self.refuse(asked);
            return Ok(());
        }
        self.last_asked += 1;
        self.asked.insert(self.last_asked, asked);
        let (outbox, mut over) = (self.inbox.outbox(), self.port.over.clone());
        let reply = outbox.reply(self.last_asked);
        tokio::select! {
            biased;
            () = ask(&*self.port.shards, self.shard, question, reply) => {}
            () = outbox.overflowed() => return Err(Ended::Slow),
            () = self.held.shed.notified() => return Err(Ended::Memory),
            // What was not asked is refused with all that has no answer.
            _ = over.wait_for(|over| *over) => self.is_over = true,
        }
        Ok(())
    }

    fn hear(&mut self, inbound: Inbound) -> Result<(), Ended> {
        match inbound {
            Inbound::Event(event) => self.session.message(&event),
            Inbound::Withdrawn(tag) => self.session.withdrawn(tag),
            Inbound::Answer(number, answer) => {
                // Of a question that was given up.
                let Some(asked) = self.asked.remove(&number) else { return Ok(()) };
                match (asked, answer) {
                    (Asked::Publish(slots), ApiAnswer::Published(outcomes)) => {
                        self.parcels -= 1;
                        for (slot, outcome) in slots.into_iter().zip(&outcomes) {
                            self.session.published(slot, outcome);
                        }
                    }
                    (Asked::Subscribe { slot, tag }, ApiAnswer::Subscribed(outcome)) => {
                        self.session.subscribed(slot, tag, &outcome);
                    }
                    (Asked::Unsubscribe { slot, tag }, ApiAnswer::Unsubscribed(_)) => {
                        self.session.unsubscribed(slot, tag);
                    }
                    _ => unreachable!("answers are of the kind of their questions"),
                }
            }
        }
        Ok(())
    }
}

/// One of the connections that are counted.
struct Place(Arc<RespFigures>);

impl Place {
    fn taken(figures: &Arc<RespFigures>) -> Self {
        RespFigures::add(&figures.connections, 1);
        Self(Arc::clone(figures))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets other tasks of this thread have a turn.
#[expect(clippy::disallowed_methods, reason = "this is tokio's runtime, where it starves nobody")]
async fn give_way() {
    tokio::task::yield_now().await;
}

/// Throws away what the client still sends, until it is silent: a socket that ends with unread input is reset, which may overtake the
/// last answers.
async fn discard_rest(stream: &mut TcpStream) {
    let mut sink = vec![0; READ_BYTES];
    while let Ok(Ok(1..)) = tokio::time::timeout(SILENCE, stream.read(&mut sink)).await {}
}

/// Reads some bytes behind those that are there.
async fn read_some(reader: &mut (impl AsyncReadExt + Unpin), input: &mut BytesMut) -> std::io::Result<usize> {
    input.reserve(READ_BYTES);
    reader.read_buf(input).await
}
