//! What asks of a shard without being a session: the HTTP API, bridges, and protocols that the control thread serves.
//!
//! ```text
//! control thread ── ApiRequest ──▶ mailbox of one shard ──▶ Shard::handle_api
//!        ▲                                                        │ the same way as a session's request
//!        └───────────── ApiAnswer, by the request's `reply` ◀─────┘
//! ```
//!
//! A source that keeps to one shard has its publications delivered in the order in which it asked: requests of a shard
//! are handled one after another. None of them comes from a session: there is nobody to be disclosed, and no publisher
//! to be excluded.

mod calls;
mod clients;
mod desk;
mod sessions;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ReceiverLists, Serializer};

use crate::delivery::Outlet;
use crate::ids::{
    ClientId, PublicationId, RealmId, RegistrationId, RoleId, SessionId, ShardId, SubscriptionId,
};
use crate::inner::{InnerId, InnerSubscription};
use crate::login::LoginMethod;
use crate::topics::SlowConsumer;

pub use fanwire_codec::wamp2::Revoked;

pub use crate::meta::{TestamentOrder, TestamentScope};
pub use clients::Order;
pub(crate) use desk::Desk;
pub use desk::Readiness;

/// Tells the other end of a connection.
pub type PeerOf<'a> = &'a dyn Fn(Outlet) -> Option<SocketAddr>;

/// Says the answer, exactly once, on the shard's thread: it must not block.
pub type ApiReply = Box<dyn FnOnce(ApiAnswer) + Send>;

/// Something that the control thread asks of one shard.
///
/// If `reply` is dropped instead of called, the shard has ended and nothing is known of the request.
pub struct ApiRequest {
    /// What is asked.
    pub ask: Ask,
    /// Called once.
    pub reply: ApiReply,
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiRequest").field("ask", &self.ask).finish_non_exhaustive()
    }
}

/// What can be asked of a shard. Topics are asked of the [`Directory`](crate::directory::Directory::topics).
#[derive(Debug)]
pub enum Ask {
    /// Publications of one source, in order. Each is checked for itself: [`ApiAnswer::Published`] has an entry for each.
    Publish(Vec<ApiPublication>),
    /// The same of what the router tells itself and of what sessions leave behind, for all realms one after the other: it waits
    /// for room, and not for a subscriber that asks its publishers for time.
    Announce(Vec<ApiPublication>),
    /// A call: [`ApiAnswer::Called`].
    Call(ApiCall),
    /// Some of this shard's open sessions: [`ApiAnswer::Sessions`].
    Sessions {
        /// Which ones.
        filter: SessionFilter,
        /// Where to go on: the default, or what the answer before said.
        after: SessionCursor,
        /// Most sessions of the answer.
        limit: usize,
    },
    /// The open sessions that most bytes wait for: [`ApiAnswer::Slow`].
    Slow {
        /// Most sessions of the answer.
        limit: usize,
    },
    /// Subscribes an inner subscriber, which gets events from then on, maybe before the answer: [`ApiAnswer::Subscribed`].
    Subscribe(InnerSubscription),
    /// Ends one of its subscriptions; nothing of it follows the answer: [`ApiAnswer::Unsubscribed`].
    Unsubscribe {
        /// Whose.
        subscriber: InnerId,
        /// Which one.
        tag: u32,
    },
    /// Ends all of them: [`ApiAnswer::Unsubscribed`]. To be asked of the shard that it lives on, also if it is gone itself.
    Leave {
        /// Whose.
        subscriber: InnerId,
    },
    /// Does something with one client: [`ApiAnswer::Ordered`].
    Order {
        /// Which one: a client of this shard.
        client: ClientId,
        /// The realm where it has to be; or it is as if it were not there.
        realm: RealmId,
        /// What.
        order: Order,
    },
    /// Changes what is published once a session of this shard has ended: [`ApiAnswer::Ordered`].
    Testament {
        /// Whose.
        session: SessionId,
        /// The realm where it has to be; or it is as if it were not there.
        realm: RealmId,
        /// How.
        order: TestamentOrder,
    },
    /// Takes a subscription or a registration from a session of this shard: [`ApiAnswer::Revoked`].
    Revoke(Box<Revocation>),
    /// Sends some of this shard's open sessions away: [`ApiAnswer::Dismissed`].
    Dismiss(Box<Dismissal>),
    /// Sends a session away with GOODBYE and this reason, such as [`CLOSE_KILLED`]: [`ApiAnswer::Disconnected`].
    Disconnect {
        /// Whom.
        session: SessionId,
        /// A URI.
        reason: Box<str>,
    },
}

/// What is taken from whom, and why.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// From whom.
    pub session: SessionId,
    /// The realm where it has to be; or it is as if it were not there.
    pub realm: RealmId,
    /// What.
    pub what: Revoked,
    /// Words or a URI, or nothing. Who has announced that it understands revocations is told.
    pub reason: Box<str>,
}

/// Which sessions of a shard are sent away, and what they are told.
#[derive(Clone, Debug)]
pub struct Dismissal {
    /// Which ones.
    pub filter: SessionFilter,
    /// But not this one.
    pub except: Option<SessionId>,
    /// A URI, such as [`CLOSE_KILLED`].
    pub reason: Box<str>,
    /// For people.
    pub message: Option<Box<str>>,
    /// Their testaments go with them, and nobody hears that they have left: all of a realm go (WAMP, "Session Meta API").
    pub quietly: bool,
    /// Where to go on: the default, or what the answer before said.
    pub after: SessionCursor,
    /// How many at most.
    pub limit: usize,
}

/// Reason of a GOODBYE to a session that an administrator ends (WAMP, "Session Meta API").
pub const CLOSE_KILLED: &str = "wamp.close.killed";

/// Whose permissions count. Both numbers are of this process's [`Access`](crate::access::Access), which knows no others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actor {
    /// Where it acts.
    pub realm: RealmId,
    /// As what; [`RoleId::ROUTER`] may publish and call whatever it wants.
    pub role: RoleId,
}

/// One publication.
#[derive(Clone, Debug)]
pub struct ApiPublication {
    /// Whose permissions count.
    pub actor: Actor,
    /// The topic's URI.
    pub topic: Box<str>,
    /// In any serializer.
    pub payload: OwnedPayload,
    /// It is one string, or bytes, that came without structure: who speaks plain text gets it as it is.
    pub plain: bool,
    /// Whom it is for; by default all subscribers.
    pub receivers: ReceiverLists<'static>,
    /// What it is about, for slow subscribers that want only the newest of each.
    pub conflate_key: Option<Box<str>>,
    /// It is kept for later subscribers.
    pub retain: bool,
    /// Asks every interested shard how many subscribers it matched. Otherwise the answer does not wait for them.
    pub receipt: bool,
    /// The inner subscriber that it comes from, which does not get it back.
    pub from: Option<InnerId>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct ApiCall {
    /// Whose permissions count.
    pub actor: Actor,
    /// The procedure's URI.
    pub procedure: Box<str>,
    /// In any serializer.
    pub payload: OwnedPayload,
    /// How long to wait for the callee, from when the shard takes the request.
    pub timeout: Duration,
}

/// Which sessions are meant: those that agree with everything that is there.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct SessionFilter {
    /// This realm.
    pub realm: Option<RealmId>,
    /// This role; role numbers belong to a realm, so name that too.
    pub role: Option<RoleId>,
    /// This authid.
    pub authid: Option<Box<str>>,
    /// This session alone.
    pub session: Option<SessionId>,
    /// Members of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Callees of this registration.
    pub registration: Option<RegistrationId>,
}

/// Where a listing of a shard's sessions stands. A session that is open from the first page to the last is in exactly one
/// of them; one that comes or goes meanwhile may be. The number may be told to clients and taken back from them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionCursor(pub u32);

/// What became of a request.
#[derive(Debug)]
pub enum ApiAnswer {
    /// For each publication its own outcome, in the order of the request.
    Published(Vec<Result<Receipt, ApiRefusal>>),
    /// The callee's result, in JSON, or why there is none.
    Called(Result<OwnedPayload, CallFailure>),
    /// Sessions, in no order that means anything.
    Sessions {
        /// Maybe fewer than asked for, or none, though more follow: a shard looks at some thousands in one go.
        page: Vec<SessionInfo>,
        /// Where to go on; `None` at the end.
        next: Option<SessionCursor>,
    },
    /// Those that were sent away.
    Dismissed {
        /// Who.
        sessions: Vec<SessionId>,
        /// Where to go on; `None` at the end.
        next: Option<SessionCursor>,
    },
    /// Whether the inner subscriber is subscribed.
    Subscribed(Result<(), ApiRefusal>),
    /// False: it had no such subscription.
    Unsubscribed(bool),
    /// The largest first.
    Slow(Vec<SlowSession>),
    /// False: this shard has no such session.
    Disconnected(bool),
    /// False: the session has none such.
    Revoked(bool),
    /// Whether it was done.
    Ordered(Result<(), ApiRefusal>),
}

/// The publication is in the streams of this shard and in the ring of every other interested one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The publication's id, as subscribers see it.
    pub publication: PublicationId,
    /// How many subscriptions' members it was for, if asked for. `None` also where a shard did not say so in time, or where
    /// lists of receivers leave that open until each subscriber's turn comes.
    pub matched: Option<u64>,
}

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiRefusal {
    /// WAMP's error URI, such as `wamp.error.not_authorized`.
    pub error: &'static str,
    /// For people: what, where and what to do.
    pub words: String,
}

impl fmt::Display for ApiRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.words)
    }
}

/// Why a call has no result.
#[derive(Debug)]
pub enum CallFailure {
    /// The callee answered with an error.
    Callee {
        /// Its URI.
        error: Box<str>,
        /// What it says, in JSON.
        payload: OwnedPayload,
    },
    /// The router could not do it, or the callee left.
    Refused(ApiRefusal),
    /// The callee did not answer in time. It may still do what it was asked.
    TimedOut,
}

/// One open session that does not read as fast as it is sent to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlowSession {
    /// Which one, with the bytes that wait for it.
    pub session: SessionInfo,
    /// How many messages that are.
    pub messages: u32,
    /// How long the oldest byte has waited that will not be dropped.
    pub waiting_for: Option<Duration>,
    /// Events dropped since something waits.
    pub dropped: u64,
    /// What is done with most of what waits.
    pub policy: SlowConsumer,
}

/// One open session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// Its connection.
    pub client: ClientId,
    /// Its realm.
    pub realm: RealmId,
    /// Its role there.
    pub role: RoleId,
    /// The user's name, or one like no other's.
    pub authid: Box<str>,
    /// How it logged in.
    pub method: LoginMethod,
    /// Who vouched for it, as `authprovider` says it.
    pub provider: &'static str,
    /// Where it lives.
    pub shard: ShardId,
    /// As in the metrics: `wamp2`.
    pub protocol: &'static str,
    /// What it wants to be called, in protocols where clients say so. Nobody has checked that.
    pub name: Option<Box<str>>,
    /// What its messages are written in; `None`: in nothing that has a name.
    pub serializer: Option<Serializer>,
    /// The other end of its connection, unless that is a Unix socket or gone.
    pub peer: Option<SocketAddr>,
    /// How long ago it was welcomed.
    pub open_for: Duration,
    /// What it is subscribed to.
    pub subscriptions: usize,
    /// What it has registered.
    pub registrations: usize,
    /// Bytes that wait for its socket.
    pub outbox_bytes: u64,
}
