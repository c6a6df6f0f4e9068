//! Options and details dictionaries: the keys that we know, typed. Unknown keys are skipped when reading (WAMP,
//! "Extensibility"). `None` and the defaults mean "key not there".

use std::borrow::Cow;

use super::features::FeatureSet;

/// How the URI of a subscription, registration or permission is compared with a topic's or procedure's (WAMP,
/// "Pattern-based Subscriptions").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchPolicy {
    /// The same string.
    #[default]
    Exact,
    /// All that begin with it.
    Prefix,
    /// Component by component; an empty component matches any one.
    Wildcard,
}

impl MatchPolicy {
    /// The value of the `match` key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Prefix => "prefix",
            Self::Wildcard => "wildcard",
        }
    }

    /// The policy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Exact, Self::Prefix, Self::Wildcard].into_iter().find(|policy| policy.name() == name)
    }
}

/// How a dealer picks one of several callees (WAMP, "Shared Registration").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InvokePolicy {
    /// There is only one.
    #[default]
    Single,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The one that registered first.
    First,
    /// The one that registered last.
    Last,
    /// The one with the fewest invocations that it has not answered: an extension that Bondy has.
    LeastLoaded,
}

impl InvokePolicy {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Single, Self::RoundRobin, Self::Random, Self::First, Self::Last, Self::LeastLoaded];

    /// The value of the `invoke` key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::RoundRobin => "roundrobin",
            Self::Random => "random",
            Self::First => "first",
            Self::Last => "last",
            Self::LeastLoaded => "queue_least_loaded",
        }
    }

    /// The policy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// What cancelling does to the invocation (WAMP, "Call Canceling").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelMode {
    /// The caller gets its error now, the callee is not disturbed.
    Skip,
    /// The callee is interrupted, its answer ends the call.
    Kill,
    /// The caller gets its error now, the callee is interrupted.
    KillNoWait,
}

impl CancelMode {
    /// The value of the `mode` key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Kill => "kill",
            Self::KillNoWait => "killnowait",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Skip, Self::Kill, Self::KillNoWait].into_iter().find(|mode| mode.name() == name)
    }
}

/// Roles that a peer announces, each with its features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the roles that WAMP defines")]
pub struct Roles {
    pub publisher: Option<FeatureSet>,
    pub subscriber: Option<FeatureSet>,
    pub caller: Option<FeatureSet>,
    pub callee: Option<FeatureSet>,
    pub broker: Option<FeatureSet>,
    pub dealer: Option<FeatureSet>,
}

impl Roles {
    /// A client with all four roles and no announced features.
    pub const CLIENT: Self = Self {
        publisher: Some(FeatureSet::EMPTY),
        subscriber: Some(FeatureSet::EMPTY),
        caller: Some(FeatureSet::EMPTY),
        callee: Some(FeatureSet::EMPTY),
        broker: None,
        dealer: None,
    };

    /// Whether one of the client roles is there; HELLO must have one (WAMP, "Session Establishment").
    pub fn has_client_role(&self) -> bool {
        self.publisher.is_some()
            || self.subscriber.is_some()
            || self.caller.is_some()
            || self.callee.is_some()
    }
}

/// HELLO's details.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HelloDetails<'a> {
    /// Roles of the client.
    pub roles: Roles,
    /// Software of the client, for people.
    pub agent: Option<Cow<'a, str>>,
    /// Who the client says it is; proves nothing.
    pub authid: Option<Cow<'a, str>>,
    /// The role that the client wishes for; proves nothing.
    pub authrole: Option<Cow<'a, str>>,
    /// Methods by which it can prove its identity, in its order of preference; at most 32.
    pub authmethods: Vec<Cow<'a, str>>,
    /// Dictionary for the methods, as bytes in the message's serializer.
    pub authextra: Option<&'a [u8]>,
}

/// WELCOME's details.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WelcomeDetails<'a> {
    /// The realm, which is the one asked for unless the router chose.
    pub realm: Option<Cow<'a, str>>,
    /// Identity that the session has now.
    pub authid: Option<Cow<'a, str>>,
    /// Role that the session has now.
    pub authrole: Option<Cow<'a, str>>,
    /// Method that proved the identity.
    pub authmethod: Option<Cow<'a, str>>,
    /// Who vouched for it.
    pub authprovider: Option<Cow<'a, str>>,
    /// What whoever vouched for it has to say: a dictionary, as bytes in the message's serializer.
    pub authextra: Option<&'a [u8]>,
    /// Software of the router, for people.
    pub agent: Option<Cow<'a, str>>,
    /// Roles of the router.
    pub roles: Roles,
}

/// PUBLISH's options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions<'a> {
    /// The publisher waits for PUBLISHED or ERROR.
    pub acknowledge: bool,
    /// Unless `Some(false)` the publisher itself gets no event (WAMP, "Publisher Exclusion").
    pub exclude_me: Option<bool>,
    /// The publisher asks to be named to the subscribers.
    pub disclose_me: Option<bool>,
    /// The event shall be kept for later subscribers.
    pub retain: Option<bool>,
    /// Which subscribers it is for. Boxed, since hardly any publication says so.
    pub receivers: Option<Box<ReceiverLists<'a>>>,
    /// `x_conflate_key`, an extension of Fanwire: what the event is about. A slow subscriber of a topic that conflates gets
    /// only the newest event of each key.
    pub conflate_key: Option<Cow<'a, str>>,
}

/// Subscribers that shall not get an event, and those that alone may (WAMP, "Subscriber Black- and Whitelisting").
///
/// `None`: the key is not there, and the list says nothing. An empty list of eligible ones is there, and means nobody. All
/// six together have at most [`RECEIVERS_MAX`] entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the lists are the options that WAMP defines under these names")]
pub struct ReceiverLists<'a> {
    pub exclude: Option<Vec<u64>>,
    pub exclude_authid: Option<Vec<Cow<'a, str>>>,
    pub exclude_authrole: Option<Vec<Cow<'a, str>>>,
    pub eligible: Option<Vec<u64>>,
    pub eligible_authid: Option<Vec<Cow<'a, str>>>,
    pub eligible_authrole: Option<Vec<Cow<'a, str>>>,
}

/// Entries in all [`ReceiverLists`] of one PUBLISH. As many ids as fit into half a message of the default size; read, they
/// take 1.5 MiB at most.
pub const RECEIVERS_MAX: usize = 65_536;

/// SUBSCRIBE's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// How the topic matches.
    pub match_policy: MatchPolicy,
    /// The subscriber asks for the retained event.
    pub get_retained: Option<bool>,
}

/// EVENT's details.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventDetails<'a> {
    /// The topic published to, for pattern subscriptions.
    pub topic: Option<Cow<'a, str>>,
    /// The publisher's session, if disclosed.
    pub publisher: Option<u64>,
    /// The publisher's identity, if disclosed.
    pub publisher_authid: Option<Cow<'a, str>>,
    /// The publisher's role, if disclosed.
    pub publisher_authrole: Option<Cow<'a, str>>,
    /// The event was kept from before the subscription.
    pub retained: Option<bool>,
    /// How far the router trusts the publisher: 0 is the least.
    pub trust_level: Option<u64>,
}

/// CALL's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// The call shall end in an error after this time; 0 and `None` mean never (WAMP, "Call Timeouts").
    pub timeout_ms: Option<u64>,
    /// The caller takes results in parts.
    pub receive_progress: Option<bool>,
    /// More parts of the call will follow.
    pub progress: Option<bool>,
    /// The caller asks to be named to the callee.
    pub disclose_me: Option<bool>,
}

/// RESULT's details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultDetails {
    /// More results will follow.
    pub progress: Option<bool>,
}

/// REGISTER's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterOptions {
    /// How the procedure matches.
    pub match_policy: MatchPolicy,
    /// How one of several callees is picked.
    pub invoke: InvokePolicy,
    /// The callee asks that callers be named to it.
    pub disclose_caller: Option<bool>,
    /// The callee looks after the timeouts of calls itself (WAMP, "Call Timeouts").
    pub forward_timeout: Option<bool>,
    /// Invocations that the callee works on at a time, 1 or more: an extension that Crossbar has.
    pub concurrency: Option<u64>,
    /// Whoever has registered the procedure before loses it: an extension that Crossbar has.
    pub force_reregister: Option<bool>,
}

/// INVOCATION's details.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationDetails<'a> {
    /// The procedure called, for pattern registrations.
    pub procedure: Option<Cow<'a, str>>,
    /// The caller's session, if disclosed.
    pub caller: Option<u64>,
    /// The caller's identity, if disclosed.
    pub caller_authid: Option<Cow<'a, str>>,
    /// The caller's role, if disclosed.
    pub caller_authrole: Option<Cow<'a, str>>,
    /// The caller takes results in parts.
    pub receive_progress: Option<bool>,
    /// More parts of the call will follow.
    pub progress: Option<bool>,
    /// The callee has this much time.
    pub timeout_ms: Option<u64>,
    /// How far the router trusts the caller: 0 is the least.
    pub trust_level: Option<u64>,
}

/// INTERRUPT's options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterruptOptions<'a> {
    /// Whether an answer is awaited.
    pub mode: Option<CancelMode>,
    /// Why, as an error URI.
    pub reason: Option<Cow<'a, str>>,
}

/// YIELD's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct YieldOptions {
    /// More results will follow.
    pub progress: Option<bool>,
}
