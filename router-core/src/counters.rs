//! What a shard has done so far, in plain numbers. One writer, the shard; whoever drives it copies them out.

use fanwire_codec::message_center::ErrorCode;

use crate::directory::RetentionFull;
use crate::encoding::Encoding;
use crate::login::LoginMethod;

/// Why a delivery did not happen. Every drop is counted under exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The receiver's outbox passed its limit of bytes (`limits.outbox_bytes_max`).
    SlowConsumerBytes,
    /// The receiver's outbox passed its limit of messages (`limits.outbox_messages_max`).
    SlowConsumerMessages,
    /// The oldest unsent byte waited longer than `limits.outbox_age_max`.
    SlowConsumerAge,
    /// Publishers waited for the receiver longer than `limits.pause` (topics with `pause_publisher`).
    SlowConsumerPause,
    /// It waited longest when there was no room for another one (topics with `drop_oldest` or `conflate`).
    DropOldest,
    /// There was no room for it (topics with `drop_newest`).
    DropNewest,
    /// A newer event of the same key took its place (topics with `conflate`).
    Conflated,
    /// The process was short of memory (`limits.memory`), and the receiver's outbox was among the largest.
    Memory,
    /// The connection went away with frames still unsent.
    ConnectionGone,
    /// The event stream of the topic held more than `limits.stream_bytes_max`.
    StreamOverflow,
    /// The ring to another shard stayed full longer than `limits.park_max` (unacknowledged publications only).
    RingFull,
    /// A stream of the topic stayed congested longer than `limits.park_congested_max` (unacknowledged publications only).
    StreamCongested,
    /// The publisher left while its publication still waited for room.
    PublisherGone,
    /// The payload has no form in the receiver's serializer.
    Untranslatable,
    /// The outbox of an inner subscriber, such as a bridge, was full.
    InnerOutboxFull,
    /// It is longer than its receiver has said that it takes (RawSocket).
    MessageTooLong,
}

impl DropReason {
    /// All reasons, in the order of [`Counters::dropped`].
    pub const ALL: [Self; 16] = [
        Self::SlowConsumerBytes,
        Self::SlowConsumerMessages,
        Self::SlowConsumerAge,
        Self::SlowConsumerPause,
        Self::DropOldest,
        Self::DropNewest,
        Self::Conflated,
        Self::Memory,
        Self::ConnectionGone,
        Self::StreamOverflow,
        Self::RingFull,
        Self::StreamCongested,
        Self::PublisherGone,
        Self::Untranslatable,
        Self::InnerOutboxFull,
        Self::MessageTooLong,
    ];

    /// Whether it drops a publication for a whole shard, whose subscribers nobody counted; all others drop events.
    pub const fn acts_before_matching(self) -> bool {
        matches!(self, Self::RingFull | Self::StreamCongested | Self::PublisherGone)
    }

    /// The value of the metric's `reason` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumerBytes => "slow_consumer_bytes",
            Self::SlowConsumerMessages => "slow_consumer_messages",
            Self::SlowConsumerAge => "slow_consumer_age",
            Self::SlowConsumerPause => "slow_consumer_pause",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Conflated => "conflated",
            Self::Memory => "memory",
            Self::ConnectionGone => "connection_gone",
            Self::StreamOverflow => "stream_overflow",
            Self::RingFull => "ring_full",
            Self::StreamCongested => "stream_congested",
            Self::PublisherGone => "publisher_gone",
            Self::Untranslatable => "untranslatable",
            Self::InnerOutboxFull => "inner_outbox_full",
            Self::MessageTooLong => "message_too_long",
        }
    }
}

/// How an attempt to open a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct LoginOutcome(u8);

impl LoginOutcome {
    /// There is no such realm, or the realm offers no method that the client does.
    pub const REFUSED: Self = Self((LoginMethod::ALL.len() * Arrival::ALL.len()) as u8);

    /// All of them, in the order of [`Counters::logins`].
    pub const ALL: [Self; LoginMethod::ALL.len() * Arrival::ALL.len() + 1] = {
        let mut all = [Self::REFUSED; LoginMethod::ALL.len() * Arrival::ALL.len() + 1];
        let mut index = 0;
        while index < all.len() {
            all[index] = Self(index as u8);
            index += 1;
        }
        all
    };

    /// How it ended for a client that logs in by this method.
    pub const fn of(method: LoginMethod, arrival: Arrival) -> Self {
        Self((method as usize * Arrival::ALL.len() + arrival as usize) as u8)
    }

    /// Its place in [`Counters::logins`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The values of the metric's `method` and `outcome` labels.
    pub const fn labels(self) -> (&'static str, &'static str) {
        if self.index() == Self::REFUSED.index() {
            return ("none", "refused");
        }
        let (method, arrival) = (self.index() / Arrival::ALL.len(), self.index() % Arrival::ALL.len());
        (LoginMethod::ALL[method].name(), Arrival::ALL[arrival].name())
    }
}

/// How it ends for somebody who has said by which method it comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It has a session.
    Welcomed,
    /// No such user, or another secret, or a hook did not let it in.
    Denied,
    /// It could not be verified, or too many wait for that already, or a hook could not be asked.
    Unavailable,
    /// The client left, or ran out of time, before the verdict.
    Abandoned,
}

impl Arrival {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Welcomed, Self::Denied, Self::Unavailable, Self::Abandoned];

    const fn name(self) -> &'static str {
        match self {
            Self::Welcomed => "welcomed",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Totals since the shard started, and a few present sizes.
///
/// Accounting identity, true after every step: `matched = delivered + queued + sum(dropped, less the reasons that
/// act before matching)`, see [`Counters::balance`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions welcomed and not yet ended.
    pub sessions: u64,
    /// Sessions welcomed, in all.
    pub sessions_opened: u64,
    /// Logins, by [`LoginOutcome`].
    pub logins: [u64; LoginOutcome::ALL.len()],
    /// Messages received from clients.
    pub messages_received: u64,
    /// Protocol violations answered with ABORT.
    pub violations: u64,
    /// Messages whose decoding panicked; each ended its session only.
    pub decoder_panics: u64,
    /// Requests answered with ERROR by the router itself.
    pub requests_refused: u64,
    /// What the message center has of `sessions`, `sessions_opened` and `messages_received`.
    pub message_center: ProtocolShare,
    /// And echo rooms.
    pub echo: ProtocolShare,
    /// And version 1 of WAMP.
    pub wamp1: ProtocolShare,
    /// And endpoints with handlers; version 2 has the rest.
    pub handled: ProtocolShare,
    /// Errors told to message-center clients, by number: the first is that of [`ErrorCode::NotAuth`].
    pub message_center_errors: [u64; ErrorCode::ALL.len()],
    /// Publications accepted by this shard, from its sessions and by API.
    pub publications: u64,
    /// Publications that came from other shards.
    pub publications_forwarded_in: u64,
    /// (publication, subscriber) pairs found on this shard.
    pub matched: u64,
    /// (publication, subscriber) pairs by a prefix or wildcard that the subscriber's role may not have. Not part of
    /// `matched`.
    pub events_withheld: u64,
    /// Events handed to sockets completely.
    pub delivered: u64,
    /// Events dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Events not yet handed over: due in streams or waiting in outboxes.
    pub queued: u64,
    /// Replies and other frames for one connection alone, in all.
    pub replies: u64,
    /// CALLs accepted.
    pub calls: u64,
    /// Calls without a final answer yet.
    pub calls_pending: u64,
    /// INVOCATIONs sent to callees.
    pub invocations: u64,
    /// Calls that ended in an error, of the callee's or the router's.
    pub call_errors: u64,
    /// Times that a call was given to another callee.
    pub calls_rerouted: u64,
    /// INTERRUPTs sent to callees.
    pub interrupts: u64,
    /// Parts of results sent to callers, less the last one of each.
    pub results_in_parts: u64,
    /// Results and parts of them that nobody waits for: of cancelled calls, or parts for a caller that takes none.
    pub results_discarded: u64,
    /// Parts of calls that came when the call had ended.
    pub call_parts_discarded: u64,
    /// Sends tried (system calls of the data path).
    pub sends: u64,
    /// Sends that took less than offered.
    pub sends_short: u64,
    /// Bytes taken by sockets.
    pub sent_bytes: u64,
    /// Frames compressed once for all who get them.
    pub deflated_frames: u64,
    /// Frames compressed for one connection alone, by its own encoder.
    pub deflated_frames_alone: u64,
    /// Payload bytes of both before they were compressed.
    pub deflated_bytes_in: u64,
    /// And after.
    pub deflated_bytes_out: u64,
    /// Bytes waiting in outboxes now.
    pub outbox_bytes: u64,
    /// Connections whose socket takes no more now.
    pub blocked: u64,
    /// Connections cut as slow consumers.
    pub slow_consumers_cut: u64,
    /// Requests parked for want of room, in all.
    pub parked: u64,
    /// Times that a connection was not read because it did not read its answers.
    pub held: u64,
    /// Notices of gaps written for sessions that want them.
    pub gap_notices: u64,
    /// Times that a connection made the publishers of a topic wait.
    pub pauses: u64,
    /// Subscriptions held by this shard's sessions now.
    pub subscriptions: u64,
    /// Registrations held by this shard's sessions now.
    pub registrations: u64,
    /// Subscriptions and registrations withdrawn because newer permissions forbid them.
    pub withdrawn: u64,
    /// Publications that were kept for later subscribers.
    pub retained: u64,
    /// Those that were to be kept and were not, by [`RetentionFull`].
    pub not_retained: [u64; RetentionFull::ALL.len()],
    /// Retained events given to subscribers; part of `matched`.
    pub retained_said: u64,
    /// Publications that were kept in the history of their topic.
    pub recorded: u64,
    /// Publications of topics with a history that alone are larger than it may be.
    pub history_too_large: u64,
    /// Publications that left a history before their rule would have let them go, because all histories are full.
    pub history_displaced: u64,
    /// Event streams alive now.
    pub streams: u64,
}

/// One protocol's part of what is counted for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtocolShare {
    /// Sessions welcomed and not yet ended.
    pub sessions: u64,
    /// Sessions welcomed, in all.
    pub sessions_opened: u64,
    /// Messages received from clients.
    pub messages_received: u64,
}

impl Counters {
    /// Counts a session that is open from now on.
    pub(crate) fn session_opened(&mut self, encoding: Encoding) {
        self.sessions += 1;
        self.sessions_opened += 1;
        if let Some(share) = self.share(encoding) {
            share.sessions += 1;
            share.sessions_opened += 1;
        }
    }

    /// Counts its end.
    pub(crate) fn session_ended(&mut self, encoding: Encoding) {
        self.sessions -= 1;
        if let Some(share) = self.share(encoding) {
            share.sessions -= 1;
        }
    }

    fn share(&mut self, encoding: Encoding) -> Option<&mut ProtocolShare> {
        match encoding {
            Encoding::Wamp2(..) => None,
            Encoding::MessageCenter(_) => Some(&mut self.message_center),
            Encoding::Echo(_) => Some(&mut self.echo),
            Encoding::Wamp1(_) => Some(&mut self.wamp1),
            Encoding::Handled(_) => Some(&mut self.handled),
        }
    }

    /// Counts one login.
    pub(crate) fn login(&mut self, outcome: LoginOutcome) {
        self.logins[outcome.index()] += 1;
    }

    /// Adds `count` events dropped for `reason`.
    pub(crate) fn drop_events(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// `matched - delivered - queued - dropped after matching`: zero, always.
    pub fn balance(&self) -> i128 {
        let after_matching: u64 = DropReason::ALL
            .iter()
            .filter(|reason| !reason.acts_before_matching())
            .map(|reason| self.dropped[*reason as usize])
            .sum();
        i128::from(self.matched)
            - i128::from(self.delivered)
            - i128::from(self.queued)
            - i128::from(after_matching)
    }
}
