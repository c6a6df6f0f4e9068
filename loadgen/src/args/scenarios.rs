//! The options of each scenario.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use fanwire_codec::wamp2::MatchPolicy;

use super::{CommonArgs, Format, LoadArgs, Mix, WindowRule};
use crate::topics::Skew;
use crate::units::{parse_bytes, parse_count, parse_duration, parse_rate};

/// Options of `fanout`.
#[derive(Clone, Debug, ClapArgs)]
pub struct FanoutArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    /// Sessions that publish.
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub publishers: usize,
    /// Sessions that subscribe and are verified.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub subscribers: usize,
    /// The topic; of several the beginning of their names, and a number follows.
    #[arg(long, default_value = "com.fanwire.loadgen.fanout")]
    pub topic: String,
    /// Topics. Each publication chooses one, each subscriber has one; needs --rate if there are several.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = parse_count)]
    pub topics: usize,
    /// How unequal the topics are, in traffic and in subscribers: none, or zipf:1.0.
    #[arg(long, default_value = "none", value_parser = Skew::parse)]
    pub skew: Skew,
    /// How the subscribers name the topic: exactly, by a prefix of it, or with its last component left open.
    #[arg(long = "match", value_enum, default_value = "exact")]
    pub matching: Match,
    /// Which subscribers open the closed loop's window again.
    #[arg(long, value_enum, default_value = "average")]
    pub window_by: WindowRule,
    /// Ask for PUBLISHED.
    #[arg(long)]
    pub acknowledge: bool,
    /// Serializer of the publishers, if another one than that of the subscribers: the router must transcode.
    #[arg(long, value_enum)]
    pub publisher_serializer: Option<Format>,
    /// Further subscribers that never read. They are not verified, and the server may cut them.
    #[arg(long, default_value = "0", value_parser = parse_count)]
    pub stuck: usize,
    /// Further subscribers that read slowly. They are not verified, and the server may cut them.
    #[arg(long, default_value = "0", value_parser = parse_count)]
    pub slow: usize,
    /// How much each slow subscriber reads per second.
    #[arg(long, visible_alias = "slow-rate", value_name = "BYTES", default_value = "16KiB", value_parser = parse_bytes)]
    pub slow_read: usize,
}

/// How a subscription names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Match {
    Exact,
    Prefix,
    Wildcard,
}

impl Match {
    /// The policy, and the URI to subscribe to for `topic`; `None` if the topic has only one component.
    pub fn pattern(self, topic: &str) -> Option<(MatchPolicy, &str)> {
        let front = || topic.rsplit_once('.').map(|(front, _)| front);
        Some(match self {
            Match::Exact => (MatchPolicy::Exact, topic),
            Match::Prefix => (MatchPolicy::Prefix, front()?),
            // An empty component matches any one.
            Match::Wildcard => (MatchPolicy::Wildcard, &topic[..=front()?.len()]),
        })
    }
}

/// Options of `rpc`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RpcArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    /// Sessions that call; caller number n calls procedure number n modulo --callees.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub callers: usize,
    /// Sessions that register one procedure each and echo what they are called with.
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub callees: usize,
    /// Beginning of the procedures' names; a tag of the run and a number follow.
    #[arg(long, default_value = "com.fanwire.loadgen")]
    pub procedure: String,
}

/// Options of `fanin`.
#[derive(Clone, Debug, ClapArgs)]
pub struct FaninArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    /// Sessions that publish.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub publishers: usize,
    /// The topic.
    #[arg(long, default_value = "com.fanwire.loadgen.fanin")]
    pub topic: String,
    /// Ask for PUBLISHED.
    #[arg(long)]
    pub acknowledge: bool,
}

/// Options of `pairs`.
#[derive(Clone, Debug, ClapArgs)]
pub struct PairsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    /// Pairs of a publisher and a subscriber.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub pairs: usize,
    /// Beginning of the topics' names; a number follows.
    #[arg(long, default_value = "com.fanwire.loadgen.pairs")]
    pub topic: String,
    /// Ask for PUBLISHED.
    #[arg(long)]
    pub acknowledge: bool,
}

/// Options of `rooms`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RoomsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    /// Rooms, each with a topic of its own.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub rooms: usize,
    /// Subscribers of a room; on average, if the rooms are unequal.
    #[arg(long, default_value = "10", value_parser = parse_count)]
    pub members: usize,
    /// Publishers of each room.
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub publishers: usize,
    /// How unequal the rooms' sizes are: none, or zipf:1.0.
    #[arg(long, default_value = "none", value_parser = Skew::parse)]
    pub skew: Skew,
    /// Beginning of the topics' names; a number follows.
    #[arg(long, default_value = "com.fanwire.loadgen.rooms")]
    pub topic: String,
    /// Ask for PUBLISHED.
    #[arg(long)]
    pub acknowledge: bool,
}

/// How a visitor leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Leave {
    /// GOODBYE and a close frame.
    Goodbye,
    /// The socket is closed without a word.
    Cut,
}

/// Options of `churn`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ChurnArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    /// Sessions that publish.
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub publishers: usize,
    /// Sessions that subscribe and stay.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub subscribers: usize,
    /// The topic.
    #[arg(long, default_value = "com.fanwire.loadgen.churn")]
    pub topic: String,
    /// Which of the subscribers that stay open the closed loop's window again.
    #[arg(long, value_enum, default_value = "average")]
    pub window_by: WindowRule,
    /// Subscribers that join per second; as many leave.
    #[arg(long, value_name = "RATE", default_value = "100", value_parser = parse_rate)]
    pub joins: f64,
    /// How long each of them stays.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub stay: Duration,
    /// How they leave.
    #[arg(long, value_enum, default_value = "goodbye")]
    pub leave: Leave,
    /// A login that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub login_timeout: Duration,
}

/// Options of `connect`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ConnectArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Logins per second: TCP, WebSocket and HELLO to WELCOME; latency counts from the planned time.
    #[arg(long, default_value = "500", value_parser = parse_rate)]
    pub rate: f64,
    /// Connections that may be open at once; a login beyond them waits, and its latency grows.
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = parse_count)]
    pub in_flight: usize,
    /// A login that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub login_timeout: Duration,
}

/// What an idle connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hold {
    /// A WebSocket on which nothing has been said. A router ends it when its login deadline has passed.
    Connection,
    /// A WAMP session.
    Session,
    /// A WAMP session with one subscription to a topic that all share.
    Subscription,
    /// A WAMP session with one subscription to a topic of its own.
    OwnTopic,
}

/// Options of `idle`.
#[derive(Clone, Debug, ClapArgs)]
pub struct IdleArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Connections to hold.
    #[arg(long, default_value = "1000", value_parser = parse_count)]
    pub connections: usize,
    /// What each of them is.
    #[arg(long, value_enum, default_value = "session")]
    pub hold: Hold,
    /// The topic that is subscribed to.
    #[arg(long, default_value = "com.fanwire.loadgen.idle")]
    pub topic: String,
}

/// What `broadcast+rpc` measures beside the broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Calls.
    Call,
    /// Publications from one to one: what every kind of server has.
    Pubsub,
}

/// Options of `broadcast+rpc`.
#[derive(Clone, Debug, ClapArgs)]
pub struct BroadcastRpcArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Of the broadcast.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Sessions that publish.
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub publishers: usize,
    /// Sessions that subscribe to the broadcast.
    #[arg(long, default_value = "1000", value_parser = parse_count)]
    pub subscribers: usize,
    /// The topic.
    #[arg(long, default_value = "com.fanwire.loadgen.broadcast")]
    pub topic: String,
    /// Which subscribers open the closed loop's window again.
    #[arg(long, value_enum, default_value = "average")]
    pub window_by: WindowRule,
    /// What is measured beside the broadcast.
    #[arg(long, value_enum, default_value = "call")]
    pub probe: Probe,
    /// One more publisher, which keeps so many messages under way to one subscriber of its own beside the broadcast; 0: none.
    /// Needs --probe pubsub.
    #[arg(long, value_name = "WINDOW", default_value = "0", value_parser = parse_count)]
    pub flood: usize,
    /// Calls (or publications) per second, of all callers together; their latency counts from the planned time.
    #[arg(long, value_name = "RATE", default_value = "200", value_parser = parse_rate)]
    pub calls: f64,
    /// So long the calls are measured before the broadcast begins; --duration is what is measured beside it.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub alone: Duration,
    /// Sessions that call (or publish, each to one subscriber on a topic of their own).
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub callers: usize,
    /// Sessions that register one procedure each and echo what they are called with.
    #[arg(long, default_value = "1", value_parser = parse_count)]
    pub callees: usize,
    /// Beginning of the procedures' names; a tag of the run and a number follow.
    #[arg(long, default_value = "com.fanwire.loadgen")]
    pub procedure: String,
}

/// Options of `mixed`.
#[derive(Clone, Debug, ClapArgs)]
pub struct MixedArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Operations per second, of all kinds together; all latencies count from the planned time.
    #[arg(long, default_value = "1000", value_parser = parse_rate)]
    pub rate: f64,
    /// Proportions of publish, call, subscribe (SUBSCRIBE and UNSUBSCRIBE in turn) and join (a login, which leaves later).
    #[arg(long, value_name = "LIST", default_value = "publish:70,call:20,subscribe:5,join:5", value_parser = Mix::parse)]
    pub mix: Mix,
    /// Bytes of the text that each message carries; at least 32.
    #[arg(long, default_value = "64", value_parser = parse_bytes)]
    pub payload: usize,
    /// Sessions that publish.
    #[arg(long, default_value = "10", value_parser = parse_count)]
    pub publishers: usize,
    /// Sessions that subscribe and stay.
    #[arg(long, default_value = "100", value_parser = parse_count)]
    pub subscribers: usize,
    /// Topics. Each publication chooses one, each subscriber has one.
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = parse_count)]
    pub topics: usize,
    /// How unequal the topics are, in traffic and in subscribers: none, or zipf:1.0.
    #[arg(long, default_value = "none", value_parser = Skew::parse)]
    pub skew: Skew,
    /// Beginning of the topics' names; a number follows.
    #[arg(long, default_value = "com.fanwire.loadgen.mixed")]
    pub topic: String,
    /// Sessions that call.
    #[arg(long, default_value = "10", value_parser = parse_count)]
    pub callers: usize,
    /// Sessions that register one procedure each and echo what they are called with.
    #[arg(long, default_value = "2", value_parser = parse_count)]
    pub callees: usize,
    /// Beginning of the procedures' names; a tag of the run and a number follow.
    #[arg(long, default_value = "com.fanwire.loadgen")]
    pub procedure: String,
    /// Sessions that subscribe and unsubscribe in turn.
    #[arg(long, default_value = "10", value_parser = parse_count)]
    pub togglers: usize,
    /// How long who joins stays.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub stay: Duration,
    /// A login that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub login_timeout: Duration,
}
