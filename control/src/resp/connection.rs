//! One client's socket: bytes to commands, questions to the shard, and what comes from there back to bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fanwire_codec::resp::read_command;
use fanwire_codec::wamp2::ReceiverLists;
use fanwire_core::api::{ApiAnswer, ApiPublication, Ask};
use fanwire_core::ids::ShardId;
use fanwire_core::inner::{InnerId, InnerOutbox, InnerSubscription};
use fanwire_core::uri::MatchPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::figures::Ended;
use super::names::Names;
use super::session::{Question, Session, Wanted};
use super::{RespConfig, RespFigures};
use crate::Shards;
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
    shards: Arc<dyn Shards>,
    config: Arc<RespConfig>,
    figures: Arc<RespFigures>,
    session: Session,
    inbox: Inbox,
    input: BytesMut,
    words: Vec<Range<usize>>,
    asked: HashMap<u64, Asked>,
    last_asked: u64,
    /// Parcels that the shard has.
    parcels: usize,
    /// The client sends nothing more.
    input_ended: bool,
    _leaving: Leaving,
    _place: Place,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        number: u64,
        shard: ShardId,
        shards: Arc<dyn Shards>,
        config: Arc<RespConfig>,
        figures: Arc<RespFigures>,
        names: Arc<Names>,
    ) -> Self {
        let subscriber = next_subscriber();
        Self {
            stream,
            shard,
            subscriber,
            session: Session::new(
                number,
                Option::clone(&config.password.load()),
                names,
                Arc::clone(&figures),
            ),
            inbox: Inbox::new(config.inbox_limits()),
            input: BytesMut::new(),
            words: Vec::new(),
            asked: HashMap::new(),
            last_asked: 0,
            parcels: 0,
            input_ended: false,
            _leaving: Leaving { shards: Arc::clone(&shards), shard, subscriber },
            shards,
            config,
            _place: Place::taken(&figures),
            figures,
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let outcome = self.serve().await;
        if let Err(why) = outcome {
            self.figures.end(why);
        }
        let Self { mut stream, mut session, inbox, _leaving: leaving, _place, .. } = self;
        let rest = session.output.out.split();
        // It is subscribed no more, whatever is still to be said.
        drop((session, inbox, leaving));
        // Who has not read what came before does not read this.
        if outcome != Err(Ended::Slow) {
            _ = tokio::time::timeout(LAST_WORDS_TIME, stream.write_all(&rest)).await;
            _ = stream.shutdown().await;
        }
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let login_deadline = Instant::now() + LOGIN_TIME;
        let mut inbound = Vec::new();
        loop {
            if self.work_off().await? == Pause::More {
                give_way().await;
                continue;
            }
            // What it has asked before the end is still answered.
            if self.input_ended && self.may_handle() {
                self.session.closing = true;
            }
            let output = &self.session.output;
            if self.session.closing && output.waiting() == 0 {
                return Ok(());
            }
            if output.bytes() > self.config.bytes_max {
                return Err(Ended::Slow);
            }
            let has_room = output.out.len() < OUT_BYTES_SOFT;
            let may_read = !self.input_ended && self.may_handle();
            let has_output = !output.out.is_empty();
            let is_known = self.session.is_known();
            let (mut reader, mut writer) = self.stream.split();
            let out = &mut self.session.output.out;
            // Messages are missing: as in Redis the client learns it by the end of its connection.
            let outbox = self.inbox.outbox();
            tokio::select! {
                () = outbox.overflowed() => return Err(Ended::Slow),
                written = writer.write(out), if has_output => match written {
                    Ok(count) => out.advance(count),
                    Err(_) => return Ok(()),
                },
                () = self.inbox.receive(&mut inbound, INBOUND_MAX), if has_room => {
                    for inbound in inbound.drain(..) {
                        self.hear(inbound)?;
                    }
                }
                read = read_some(&mut reader, &mut self.input), if may_read => match read {
                    Ok(0) => self.input_ended = true,
                    Ok(_) => {}
                    Err(_) => return Ok(()),
                },
                () = tokio::time::sleep_until(login_deadline), if !is_known => return Err(Ended::Login),
            }
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
            let limits = self.config.command_limits(self.session.is_known());
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
        self.ask_all().await;
        Ok(pause)
    }

    /// Asks the shard what the commands have asked; publications in a row share a parcel.
    async fn ask_all(&mut self) {
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
                    self.ask(Ask::Publish(parcel), Asked::Publish(slots)).await;
                }
                Question::Subscribe { slot, tag, names } => match self.subscription(tag, names) {
                    Some(subscription) => {
                        self.ask(Ask::Subscribe(subscription), Asked::Subscribe { slot, tag }).await;
                    }
                    None => {
                        let refusal = fanwire_core::api::ApiRefusal {
                            error: "wamp.error.invalid_uri",
                            words: "a pattern here begins like the name of a topic, in UTF-8".to_owned(),
                        };
                        self.session.subscribed(slot, tag, &Err(refusal));
                    }
                },
                Question::Unsubscribe { slot, tag } => {
                    let subscriber = self.subscriber;
                    self.ask(Ask::Unsubscribe { subscriber, tag }, Asked::Unsubscribe { slot, tag }).await;
                }
            }
        }
    }

    fn publication(&self, topic: Box<str>, payload: fanwire_codec::payload::OwnedPayload) -> ApiPublication {
        ApiPublication {
            actor: self.config.actor,
            topic,
            payload,
            plain: true,
            receivers: ReceiverLists::default(),
            conflate_key: None,
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
        let (subscriber, actor) = (self.subscriber, self.config.actor);
        Some(InnerSubscription { subscriber, tag, actor, match_policy, uri, wants, outbox })
    }

    async fn ask(&mut self, question: Ask, asked: Asked) {
        self.last_asked += 1;
        self.asked.insert(self.last_asked, asked);
        ask(&*self.shards, self.shard, question, self.inbox.outbox().reply(self.last_asked)).await;
    }

    fn hear(&mut self, inbound: Inbound) -> Result<(), Ended> {
        match inbound {
            Inbound::Event(event) => self.session.message(&event),
            Inbound::Withdrawn(tag) => self.session.withdrawn(tag),
            Inbound::Answer(number, answer) => {
                let asked = self.asked.remove(&number).expect("each question has one answer");
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
        self.0.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Lets other tasks of this thread have a turn.
#[expect(clippy::disallowed_methods, reason = "this is tokio's runtime, where it starves nobody")]
async fn give_way() {
    tokio::task::yield_now().await;
}

/// Reads some bytes behind those that are there.
async fn read_some(reader: &mut (impl AsyncReadExt + Unpin), input: &mut BytesMut) -> std::io::Result<usize> {
    input.reserve(READ_BYTES);
    reader.read_buf(input).await
}
