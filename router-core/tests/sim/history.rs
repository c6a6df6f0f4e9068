//! What happened, as the clients know it: the checkers judge by this alone, and the trace hash is over it.

use super::meta::News;
use fanwire_codec::wamp2::{CancelMode, InvokePolicy, ReceiverLists};
use fanwire_core::Instant;
use std::borrow::Cow;

/// One connection with its session; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// How a client speaks to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A source, which has no session.
    Api,
    Wamp,
    /// The message center's.
    Center,
    /// In a room.
    Echo,
    /// WAMP's, in its first version.
    Wamp1,
}

/// What a payload says of itself: who published or called, its how manieth, and on which topic or procedure.
///
/// Names of topics and procedures are numbers, see `names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    pub from: ClientId,
    pub number: u32,
    pub name: u8,
}

/// Who a client is, as WELCOME says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Person {
    pub session: u64,
    pub authid: String,
    pub authrole: String,
}

/// The publication of an event whose protocol does not say which one it is, nor who published it.
pub const NOT_TOLD: u64 = 0;

/// The lists of receivers of a publication, as they go on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lists {
    pub exclude: Option<Vec<u64>>,
    pub exclude_authid: Option<Vec<String>>,
    pub exclude_authrole: Option<Vec<String>>,
    pub eligible: Option<Vec<u64>>,
    pub eligible_authid: Option<Vec<String>>,
    pub eligible_authrole: Option<Vec<String>>,
}

impl Lists {
    /// The six rules of WAMP, "Subscriber Black- and Whitelisting", one by one.
    pub fn are_for(&self, person: &Person) -> bool {
        let Person { session, authid, authrole } = person;
        if self.eligible.as_ref().is_some_and(|list| !list.contains(session)) {
            return false;
        }
        if self.eligible_authid.as_ref().is_some_and(|list| !list.contains(authid)) {
            return false;
        }
        if self.eligible_authrole.as_ref().is_some_and(|list| !list.contains(authrole)) {
            return false;
        }
        if self.exclude.as_ref().is_some_and(|list| list.contains(session)) {
            return false;
        }
        if self.exclude_authid.as_ref().is_some_and(|list| list.contains(authid)) {
            return false;
        }
        !self.exclude_authrole.as_ref().is_some_and(|list| list.contains(authrole))
    }
}

impl Lists {
    /// As the core is given them.
    pub fn to_owned_receivers(&self) -> ReceiverLists<'static> {
        let names = |list: &Option<Vec<String>>| {
            list.as_ref().map(|names| names.iter().map(|name| Cow::Owned(name.clone())).collect())
        };
        ReceiverLists {
            exclude: self.exclude.clone(),
            exclude_authid: names(&self.exclude_authid),
            exclude_authrole: names(&self.exclude_authrole),
            eligible: self.eligible.clone(),
            eligible_authid: names(&self.eligible_authid),
            eligible_authrole: names(&self.eligible_authrole),
        }
    }
}

/// Whether a publication is kept for later subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    No,
    Kept,
    /// It has no arguments: what was kept before is kept no more.
    Ends,
}

/// What a client says in HELLO that it can do: all but the last as a callee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Abilities {
    /// It can be interrupted.
    pub canceling: bool,
    /// It says results in parts.
    pub progress: bool,
    /// It takes calls in parts.
    pub parts: bool,
    /// It looks after timeouts.
    pub timeout: bool,
    /// What it does not want goes to another one.
    pub reroute: bool,
    /// It understands that registrations, and as a subscriber that subscriptions, are taken from it.
    pub registrations: bool,
    pub subscriptions: bool,
    /// As a caller: it may send calls in parts.
    pub calls_in_parts: bool,
}

/// What a caller wants beside an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wants {
    /// The result in parts, if the callee likes.
    pub progress: bool,
    /// More parts of the call follow.
    pub more: bool,
    pub timeout_ms: Option<u64>,
}

/// How a callee registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offer {
    /// It wants to be told of timeouts.
    pub forward_timeout: bool,
    pub invoke: InvokePolicy,
    /// Calls that it takes at a time.
    pub concurrency: Option<u64>,
    /// Whoever has it loses it.
    pub force: bool,
}

/// What an invocation says beside the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The caller takes the result in parts.
    pub progress: bool,
    /// More parts of the call follow.
    pub more: bool,
    pub timeout_ms: Option<u64>,
}

/// What a client asked of the router. It counts from when the shard was given the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// With `Some` it logs in as the user that its id names; the value is whether it has the right ticket.
    Hello {
        realm: u8,
        by_ticket: Option<bool>,
        abilities: Abilities,
    },
    Authenticate {
        right: bool,
    },
    /// To a topic or a pattern.
    Subscribe {
        request: u64,
        topic: u8,
        /// What is kept of it comes first.
        get_retained: bool,
    },
    Unsubscribe {
        request: u64,
        subscription: u64,
        topic: Option<u8>,
    },
    Publish {
        request: u64,
        tag: Tag,
        acknowledge: bool,
        exclude_me: bool,
        disclose: bool,
        lists: Option<Box<Lists>>,
        /// By API: whether its source wants to hear whom it matched.
        receipt: bool,
        key: Option<u8>,
        keep: Keep,
    },
    /// A procedure or a pattern.
    Register {
        request: u64,
        procedure: u8,
        offer: Offer,
    },
    Unregister {
        request: u64,
        registration: u64,
        procedure: Option<u8>,
    },
    Call {
        request: u64,
        tag: Tag,
        disclose: bool,
        wants: Wants,
    },
    /// Another part of a call.
    CallOn {
        request: u64,
        tag: Tag,
        more: bool,
    },
    Cancel {
        request: u64,
        mode: Option<CancelMode>,
    },
    /// A part of a result, the how manieth; counted from 0.
    YieldPart {
        invocation: u64,
        tag: Tag,
        part: u32,
    },
    Yield {
        invocation: u64,
        tag: Tag,
    },
    Fail {
        invocation: u64,
        tag: Tag,
    },
    /// Another one should do it.
    PassOn {
        invocation: u64,
        tag: Tag,
    },
    /// At the message center, something that is none of its requests.
    Say {
        request: u64,
        say: Say,
    },
    /// In version 1: from now on a prefix stands for a beginning of names.
    Prefix {
        prefix: usize,
        beginning: usize,
    },
    Goodbye,
    Violate,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Say {
    Work,
    Chat,
}

/// Who is asked about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answerer {
    Queue(usize),
    Hook,
}

/// One message that a client received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    Challenge,
    Welcome(Person),
    Abort {
        reason: String,
    },
    Goodbye {
        reason: String,
    },
    Subscribed {
        request: u64,
        subscription: u64,
    },
    Unsubscribed {
        request: u64,
    },
    Published {
        request: u64,
        publication: u64,
        /// By API: how many subscribers, where that is known.
        matched: Option<u64>,
    },
    Event {
        subscription: u64,
        publication: u64,
        topic: Option<String>,
        tag: Tag,
        publisher: Option<Person>,
        /// How it sounds to receivers of plain bytes.
        heard: Option<Heard>,
        /// It was kept, and is not what happens now.
        retained: bool,
    },
    /// An event without arguments, hence without a tag. Receivers of bytes are not told the subscription.
    Bare {
        subscription: Option<u64>,
        topic: Option<String>,
    },
    /// Events of a subscription of the client's were lost.
    Gap {
        subscription: u64,
        of: u64,
        lost: u64,
    },
    Registered {
        request: u64,
        registration: u64,
    },
    Unregistered {
        request: u64,
    },
    Invocation {
        request: u64,
        registration: u64,
        procedure: Option<String>,
        tag: Tag,
        caller: Option<Person>,
        asked: Asked,
    },
    /// The callee should come to an end.
    Interrupt {
        request: u64,
        mode: CancelMode,
    },
    /// A part of a result.
    Part {
        request: u64,
        tag: Tag,
        part: u32,
    },
    Result {
        request: u64,
        tag: Tag,
    },
    Error {
        request_type: u64,
        request: u64,
        uri: String,
        tag: Option<Tag>,
    },
    /// The verdict on a message, or in which words a hook answers it.
    Answered {
        request: u64,
        answer: Result<Option<u64>, u16>,
    },
    /// A subscription, or a registration, was taken from it.
    Revoked {
        is_subscription: bool,
        id: u64,
    },
    /// A backend's message.
    Sent {
        to: ClientId,
        number: u32,
    },
    /// Who has logged in logs in once more, as the same or in vain, and keeps what it has.
    Stayed,
    Ping,
    Close {
        code: Option<u16>,
    },
}

/// What plain bytes say beside the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heard {
    /// Whose name stands before it.
    pub named: Option<ClientId>,
    pub is_binary: bool,
}

/// What a backend does with one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The how manieth message for it.
    Send {
        number: u32,
    },
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    Dismiss,
}

/// What a login came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// With this role, by index in `names::ROLES`.
    Granted(u8),
    Refused,
    Busy,
}

/// What a hook says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    Allowed,
    Denied,
    /// It cannot be asked, or never answers.
    Failed,
    /// A queue has no room.
    Full,
}

/// Why the harness took a connection away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The client vanished.
    Vanished,
    /// The same, and the router hears of it later.
    Broken,
    /// The router cut it.
    Cut,
    /// The router had said everything.
    Finished,
}

/// What happens to an inner subscriber, which is no client: it is known by its number alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inner {
    Made {
        shard: usize,
        realm: u8,
    },
    /// The shard has confirmed it: to a topic or a pattern.
    Subscribed {
        by: u32,
        asked: u8,
    },
    Unsubscribed {
        by: u32,
    },
    /// What is given to a shard next comes from it.
    Says {
        tag: Tag,
    },
    Heard {
        by: u32,
        publication: u64,
        topic: String,
        tag: Tag,
    },
    /// Its outbox had no room.
    Lost {
        by: u32,
        tag: Tag,
    },
}

/// What a topic's history has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remembered {
    pub number: u64,
    pub tag: Tag,
    pub publication: u64,
    /// Of payload and name.
    pub bytes: usize,
    pub at: Instant,
}

/// One line of history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Opened {
        client: ClientId,
        shard: usize,
        protocol: Protocol,
    },
    Did {
        client: ClientId,
        op: Op,
    },
    Saw {
        client: ClientId,
        seen: Seen,
    },
    /// The router was told to send this client away.
    Draining {
        client: ClientId,
    },
    /// The control thread's answer to this client's login left it.
    Decided {
        client: ClientId,
        verdict: Decision,
    },
    /// A hook's answer to this client's request left it, and somebody waits for it. What it never answers is told when the
    /// harness knows.
    Ruled {
        client: ClientId,
        /// A SUBSCRIBE or PUBLISH.
        request: u64,
        ruling: Ruling,
    },
    /// A queue or a hook was asked about a message of this client.
    Asked {
        client: ClientId,
        request: u64,
        answerer: Answerer,
    },
    /// The hook was asked to answer a call of this session, or of no session.
    AskedToAnswer {
        tag: Tag,
        session: Option<u64>,
    },
    /// And what it says, if anybody waits.
    AnsweredCall {
        tag: Tag,
        ruling: Ruling,
    },
    /// The router told the hook that this session has ended.
    Told {
        session: u64,
    },
    Inner {
        inner: u32,
        what: Inner,
    },
    /// All that the histories of a topic or pattern have, oldest first.
    Recalled {
        asked: u8,
        found: Vec<Remembered>,
    },
    /// A backend's order was answered; `is_here`: it was looked for in its own realm.
    Ordered {
        client: ClientId,
        order: Order,
        is_here: bool,
        outcome: Result<(), String>,
    },
    /// A backend asked for all of a user's clients.
    Found {
        uid: String,
        clients: Vec<ClientId>,
    },
    /// The meta desk hears of something; in the order in which it publishes that.
    News {
        realm: u8,
        news: News,
    },
    /// A session of this client's leaves something behind, for when it is detached or destroyed.
    Testament {
        client: ClientId,
        is_detached: bool,
        tag: Tag,
        outcome: Result<(), String>,
    },
    /// It leaves nothing of this scope.
    Flushed {
        client: ClientId,
        is_detached: bool,
    },
    /// A subscription, or a registration, was taken from it.
    Revoked {
        client: ClientId,
        is_subscription: bool,
        name: u8,
    },
    /// It is about to be sent away; `quietly`: nobody hears of it.
    Killed {
        client: ClientId,
        quietly: bool,
        reason: String,
    },
    /// The connection is no more. What it had not read is lost.
    Ended {
        client: ClientId,
        end: End,
    },
}
