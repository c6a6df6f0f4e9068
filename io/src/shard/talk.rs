//! What is heard in a piece of input: messages for the service, control frames that are answered here.

use bytes::BytesMut;
use fanwire_codec::rawsocket;
use fanwire_codec::wamp2::batch::Batch;
use fanwire_codec::ws::{Control, Kind, Received, write_control};
use fanwire_core::{Instant, Outlet};

use crate::counters::ShardCounters;
use crate::service::{Flow, Service};
use crate::slots::{BatchRest, Hot, Stage, flag};
use crate::transport::{Input, Violation};

/// How the handling of a piece of input ended.
pub(super) enum Outcome {
    /// All of it was consumed.
    Consumed,
    /// The service paused the connection; so many bytes were consumed.
    Paused(usize),
    /// Enough for one turn; so many bytes were consumed.
    Enough(usize),
    /// The peer's close frame came while we had said nothing of the kind.
    PeerCloses(u16),
    /// The peer's close frame answers ours.
    PeerAnswers,
    Violated(Violation),
    Panicked,
}

/// Ping floods: answers of at most 127 bytes each, 2 KiB a receive.
const PONGS_AT_ONCE: u32 = 16;

/// A batch is left after so many messages or bytes of it, and goes on when others had their turn: one large message may
/// hold 100,000 of them, and nothing is sent while they are routed.
const BATCH_MESSAGES_AT_ONCE: u64 = 256;
const BATCH_BYTES_AT_ONCE: usize = 64 << 10;

/// Once so much was said in answer, the rest waits until that was sent: only the flush finds out that a client does not read. Looked at
/// after so many messages, since it is hardly ever so.
pub(super) const SAID_BYTES_AT_ONCE: usize = 64 << 10;
const MESSAGES_BETWEEN_LOOKS: u64 = 256;

/// What is heard in one piece of input, on its way to the service.
pub(super) struct Talk<'a, S> {
    now: Instant,
    outlet: Outlet,
    service: &'a mut S,
    hot: &'a mut Hot,
    frame: &'a mut BytesMut,
    batches: Option<Kind>,
    /// `None`: a WebSocket. Else the longest ping that can be answered.
    raw_ping_bytes_max: Option<usize>,
    /// How many messages may be heard now; a batch is left where it holds more.
    messages_left: u64,
    /// After so many it is looked at whether that is enough.
    look_at: u64,
    done: Done,
}

/// What was heard in a piece of input, and what is left to do about it.
#[derive(Default)]
pub(super) struct Done {
    pub(super) messages: u64,
    controls: u64,
    pongs: u32,
    /// The latest ping, not answered yet.
    pub(super) pong_kept: Option<Vec<u8>>,
    /// What was not handled of a batch.
    pub(super) batch_rest: Option<BatchRest>,
    /// Bytes of batches that were handled.
    batch_bytes: usize,
    pub(super) service_closed: bool,
}

impl Done {
    pub(super) fn heard(&self) -> u64 {
        self.messages + self.controls
    }
}

/// What follows from one message or control frame.
pub(super) enum Heard {
    GoOn,
    Pause,
    Enough,
    Stop(Outcome),
}

impl Heard {
    /// How the input ends with it, if it does, of which `at` bytes were consumed.
    pub(super) fn ends(self, at: usize) -> Option<Outcome> {
        match self {
            Self::GoOn => None,
            Self::Pause => Some(Outcome::Paused(at)),
            Self::Enough => Some(Outcome::Enough(at)),
            Self::Stop(outcome) => Some(outcome),
        }
    }
}

impl<'a, S: Service> Talk<'a, S> {
    pub(super) fn new(
        now: Instant,
        outlet: Outlet,
        service: &'a mut S,
        hot: &'a mut Hot,
        frame: &'a mut BytesMut,
        input: &Input,
        messages_left: u64,
    ) -> Self {
        let (batches, raw_ping_bytes_max, done) = (input.batches(), input.ping_bytes_max(), Done::default());
        let look_at = messages_left.min(MESSAGES_BETWEEN_LOOKS);
        Self { now, outlet, service, hot, frame, batches, raw_ping_bytes_max, messages_left, look_at, done }
    }

    pub(super) fn hear(&mut self, received: Received<'_>) -> Heard {
        let open = self.hot.stage == Stage::Open && !self.done.service_closed;
        match received {
            Received::Message { kind, payload } if self.batches == Some(kind) => {
                self.hear_batch(kind, payload)
            }
            // Also one of the wrong kind where batches are due: it is refused as anywhere.
            Received::Message { kind, payload } => self.hear_message(kind, payload),
            Received::Ping(payload) => {
                self.done.controls += 1;
                match self.raw_ping_bytes_max {
                    _ if !open => Heard::GoOn,
                    None => {
                        self.pong(payload);
                        Heard::GoOn
                    }
                    Some(bytes_max) => self.raw_pong(payload, bytes_max),
                }
            }
            // Whatever comes shows that the peer lives; which ping it answers does not matter.
            Received::Pong(_) => {
                self.done.controls += 1;
                Heard::GoOn
            }
            Received::Close(body) => {
                self.done.controls += 1;
                if open {
                    Heard::Stop(Outcome::PeerCloses(body.map_or(1000, |(code, _)| code)))
                } else {
                    Heard::Stop(Outcome::PeerAnswers)
                }
            }
        }
    }

    /// Whether as much was heard as may be for now.
    pub(super) fn is_enough(&mut self) -> bool {
        self.done.heard() >= self.look_at && self.look_closer()
    }

    #[cold]
    fn look_closer(&mut self) -> bool {
        let heard = self.done.heard();
        self.look_at = self.messages_left.min(heard + MESSAGES_BETWEEN_LOOKS);
        heard >= self.messages_left || self.service.said_bytes(self.outlet) >= SAID_BYTES_AT_ONCE
    }

    fn hear_message(&mut self, kind: Kind, message: &mut [u8]) -> Heard {
        self.done.messages += 1;
        if self.hot.stage != Stage::Open || self.done.service_closed {
            return Heard::GoOn;
        }
        match self.service.receive(self.now, self.outlet, kind, message) {
            Flow::Continue => Heard::GoOn,
            Flow::Pause => Heard::Pause,
            Flow::Closing => {
                // Only the peer's close frame is looked for from now on.
                self.done.service_closed = true;
                Heard::GoOn
            }
        }
    }

    /// The messages of a batch; where it has to be left, the rest of it is kept.
    fn hear_batch(&mut self, kind: Kind, batch: &mut [u8]) -> Heard {
        let (heard, rest_bytes) = self.hear_piece(kind, batch);
        if rest_bytes > 0 {
            let bytes = batch[batch.len() - rest_bytes..].to_vec();
            self.done.batch_rest = Some(BatchRest { kind, bytes, at: 0 });
        }
        heard
    }

    /// As many messages of a batch as may be handled at once, and how many of its bytes are left to be handled.
    pub(super) fn hear_piece(&mut self, kind: Kind, batch: &mut [u8]) -> (Heard, usize) {
        let mut batch = Batch::new(kind, batch);
        let mut left = batch.rest().len();
        loop {
            let message = match batch.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => return (Heard::GoOn, 0),
                Err(error) => return (Heard::Stop(Outcome::Violated(Violation::Batch(error))), 0),
            };
            let heard = self.hear_message(kind, message);
            let rest = batch.rest().len();
            self.done.batch_bytes += std::mem::replace(&mut left, rest) - rest;
            if !matches!(heard, Heard::GoOn) {
                return (heard, rest);
            }
            let is_piece =
                self.done.messages >= BATCH_MESSAGES_AT_ONCE || self.done.batch_bytes >= BATCH_BYTES_AT_ONCE;
            if self.is_enough() || (is_piece && rest > 0) {
                return (Heard::Enough, rest);
            }
        }
    }

    /// WAMP, "RawSocket Transport": each ping has its pong. Who sends them and reads nothing is cut as any slow consumer.
    fn raw_pong(&mut self, payload: &[u8], bytes_max: usize) -> Heard {
        if payload.len() > bytes_max {
            let (bytes, bytes_max) = (payload.len() as u64, bytes_max as u64);
            let error = rawsocket::ProtocolError::Unanswerable { bytes, bytes_max };
            return Heard::Stop(Outcome::Violated(Violation::RawSocket(error)));
        }
        self.frame.clear();
        rawsocket::write_frame(self.frame, rawsocket::FrameKind::Pong, payload);
        self.service.push(self.now, self.outlet, self.frame);
        Heard::GoOn
    }

    /// RFC 6455, 5.5.3: only the latest ping has to be answered. So a flood of them cannot fill the outbox: a few are
    /// answered at once; beyond that, or while the socket takes nothing, the latest is kept.
    fn pong(&mut self, payload: &[u8]) {
        if self.hot.has(flag::BLOCKED) || self.done.pongs >= PONGS_AT_ONCE {
            self.done.pong_kept = Some(payload.to_vec());
            return;
        }
        self.done.pongs += 1;
        self.frame.clear();
        write_control(self.frame, Control::Pong, payload);
        self.service.push(self.now, self.outlet, self.frame);
    }

    pub(super) fn done(mut self, counters: &ShardCounters) -> Done {
        if !self.hot.has(flag::BLOCKED)
            && let Some(payload) = self.done.pong_kept.take()
        {
            self.done.pongs = 0;
            self.pong(&payload);
        }
        if self.done.messages > 0 {
            counters.received_messages.add(self.done.messages);
        }
        if self.done.controls > 0 {
            counters.received_control_frames.add(self.done.controls);
        }
        self.done
    }
}
