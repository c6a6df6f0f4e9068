//! From the command line to who does what: every connection gets a role and a thread before the first one is opened.
//!
//! Here: what a plan is, and what all scenarios have in common. `scenarios.rs` has a constructor for each of them.

mod login;
mod scenarios;

pub use login::Login;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanwire_codec::wamp2::Serializer;

use crate::args::{
    BroadcastRpcArgs, CommonArgs, Compression, FaninArgs, FanoutArgs, Format, Hold, LoadArgs, Match,
    PairsArgs, Probe, RoomsArgs, ScenarioArgs, WindowRule,
};
use crate::failure::Failure;
use crate::meter::Timing;
use crate::script::{Dialect, file};
use crate::stamp::{PUBLISHERS_MAX, STAMP_BYTES};
use crate::target::Target;
use crate::topics::Topics;

/// The largest payload: the codec's reader here accepts messages up to 64 MiB.
const PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// (publisher, subscriber) pairs: each is verified apart and costs 4 bytes.
const STREAMS_MAX: usize = 500_000_000;

/// What a connection does once it is ready. Numbers are global for senders and per thread for receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes; its global number.
    Publisher(u32),
    /// Receives and is verified; its number among the verified ones of its thread.
    Subscriber(u32),
    /// Never reads.
    Stuck,
    /// Reads slowly.
    Slow,
    /// Calls; its global number.
    Caller(u32),
    /// Answers; its global number.
    Callee(u32),
    /// Subscribes and unsubscribes in turn; its global number.
    Toggler(u32),
    /// Publishes to one subscriber by a timetable, beside a broadcast; its global number.
    Prober(u32),
    /// Receives what the prober of the same number publishes.
    Probed(u32),
    /// Publishes to one subscriber as much as its window allows; numbered as one more prober.
    Flooder(u32),
    /// Receives the flood.
    Flooded(u32),
    /// Does nothing.
    Idle,
    /// Comes and goes while the load runs; its number among those of its thread.
    Visitor(u32),
}

/// How far a connection is brought before it counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The WebSocket only.
    Connection,
    /// A WAMP session.
    Session,
    /// A session with this subscription.
    Subscribe(Arc<str>),
    /// A session with this registration.
    Register(Arc<str>),
    /// No WebSocket: an HTTP connection that publishes.
    Post,
}

impl Setup {
    /// The topic that it subscribes to.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Setup::Subscribe(topic) => Some(topic),
            _ => None,
        }
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What it does.
    pub role: Role,
    /// What it has to have before.
    pub setup: Setup,
    /// How it writes and reads.
    pub serializer: Serializer,
    /// Index of the topic that it receives, if it is a receiver.
    pub topic: u32,
    /// Where it connects from.
    pub source: Option<IpAddr>,
}

/// Closed or open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many messages in flight per sender.
    Closed {
        /// Messages in flight.
        window: usize,
    },
    /// So many messages per second in total.
    Open {
        /// Messages per second.
        rate: f64,
    },
    /// None at all.
    Idle,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Publishers and subscribers: `fanout`, `fanin`, `pairs`, `rooms`, `churn`.
    Fanout,
    /// Callers and callees.
    Rpc,
    /// Both, and whoever else the plan has: `broadcast+rpc`, `mixed`.
    Mixed,
    /// Connections that do nothing.
    Idle {
        /// What each is.
        hold: Hold,
    },
    /// Visitors alone.
    Connect,
}

/// Publishers and subscribers.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the command line's options of the same names")]
pub struct FanoutPlan {
    pub publishers: usize,
    pub subscribers: usize,
    pub stuck: usize,
    pub slow: usize,
    pub slow_read: usize,
    pub acknowledge: bool,
    pub rule: WindowRule,
    pub load: Load,
    pub topics: Topics,
}

/// Callers and callees.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the command line's options of the same names")]
pub struct RpcPlan {
    pub callers: usize,
    pub load: Load,
    /// One per callee.
    pub procedures: Vec<Arc<str>>,
}

/// Publications from one to one beside a broadcast.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// Probers, each with a subscriber.
    pub pairs: usize,
    /// Publications per second, of all probers together.
    pub rate: f64,
    /// Publications that the flooder may have under way; 0 if there is none.
    pub flood_window: usize,
    /// One per prober, then the flood's.
    pub topics: Vec<Arc<str>>,
}

/// Sessions that subscribe and unsubscribe in turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TogglePlan {
    /// How many sessions.
    pub togglers: usize,
    /// SUBSCRIBEs and UNSUBSCRIBEs per second, of all together.
    pub rate: f64,
}

/// How visitors come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisitPlan {
    /// Visits per second, of all threads together.
    pub rate: f64,
    /// From the session to the good-bye.
    pub stay_ns: u64,
    /// A session that is not ready after this is a failed login.
    pub login_timeout_ns: u64,
    /// The logins are what the run measures: each counts as a delivery.
    pub is_measured: bool,
    /// They leave by closing the socket, without a word.
    pub cut: bool,
}

/// Everything that the threads need to know.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the command line's options of the same names")]
pub struct Plan {
    /// The scenario as the command line calls it; several are a kind of fan-out.
    pub name: &'static str,
    pub target: Target,
    /// How a server that is no WAMP router is spoken to, and where publications are posted to.
    pub dialect: Dialect,
    pub post_target: Option<Target>,
    /// The address as it was given.
    pub url: String,
    pub compression: Compression,
    pub realm: String,
    /// The user as whom sessions log in, and its ticket; no report shows it.
    pub login: Option<Login>,
    pub threads: usize,
    pub cpus: Vec<usize>,
    pub spin: bool,
    pub connect_rate: f64,
    pub connect_in_flight: usize,
    pub connect_timeout: Duration,
    pub duration: Duration,
    pub warmup: Duration,
    pub drain_timeout: Duration,
    pub scenario: Scenario,
    /// The load that the run's main figures are of.
    pub load: Load,
    pub payload_bytes: usize,
    pub serializer: Serializer,
    pub publisher_serializer: Serializer,
    /// How subscribers name their topics.
    pub matching: Match,
    pub fanout: Option<FanoutPlan>,
    pub rpc: Option<RpcPlan>,
    pub toggles: Option<TogglePlan>,
    pub probe: Option<ProbePlan>,
    /// So long the calls are measured before the publishers begin.
    pub alone: Option<Duration>,
    /// Proportions of the operations, for the report.
    pub mix: Option<String>,
    /// What is counted beside the deliveries, each with latencies of its own.
    pub operations: Vec<&'static str>,
    /// Tag of this run in each payload.
    pub run: u16,
    /// Connections that come and go while the load runs.
    pub visits: Option<VisitPlan>,
    /// Per thread, its connections; places for visitors last.
    pub assignments: Vec<Vec<Assignment>>,
}

/// A connection that is to be dealt out.
type Part = (Role, Setup, Serializer);

impl Plan {
    /// Checks the command line and deals the connections out.
    pub fn new(args: &ScenarioArgs, run: u16) -> Result<Self, Failure> {
        let common = args.common();
        if common.target.is_some() {
            check_foreign(args)?;
        }
        match args {
            ScenarioArgs::Fanout(args) => Self::fanout(common, args, run),
            ScenarioArgs::Fanin(args) => Self::fanin(common, args, run),
            ScenarioArgs::Pairs(args) => Self::pairs(common, args, run),
            ScenarioArgs::Rooms(args) => Self::rooms(common, args, run),
            ScenarioArgs::Churn(args) => Self::churn(common, args, run),
            ScenarioArgs::Rpc(args) => Self::rpc(common, args, run),
            ScenarioArgs::BroadcastRpc(args) => Self::broadcast_rpc(common, args, run),
            ScenarioArgs::Mixed(args) => Self::mixed(common, args, run),
            ScenarioArgs::Idle(args) => Self::idle(common, args, run),
            ScenarioArgs::Connect(args) => Self::connect(common, args, run),
        }
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.assignments.iter().map(Vec::len).sum()
    }

    /// Connections that are there before the load begins and stay.
    pub fn residents(&self) -> usize {
        let is_resident = |role: &Role| !matches!(role, Role::Visitor(_));
        (0..self.threads).map(|thread| self.count(thread, is_resident)).sum()
    }

    /// Connections of `thread` whose role `is` wanted.
    pub fn count(&self, thread: usize, is: impl Fn(&Role) -> bool) -> usize {
        self.assignments[thread].iter().filter(|assignment| is(&assignment.role)).count()
    }

    /// The thread of each publisher, by its number.
    pub fn publisher_threads(&self) -> Vec<usize> {
        let mut threads = Vec::new();
        for (thread, assignments) in self.assignments.iter().enumerate() {
            for assignment in assignments {
                if let Role::Publisher(number) = assignment.role {
                    threads.resize(threads.len().max(number as usize + 1), 0);
                    threads[number as usize] = thread;
                }
            }
        }
        threads
    }

    /// When the publishers begin, and from when on their deliveries are measured. They may begin later than the run.
    pub fn main_timing(&self, timing: Timing) -> Timing {
        let Some(alone) = self.alone else { return timing };
        let start_ns = timing.from_ns + alone.as_nanos() as u64;
        let from_ns = start_ns + self.warmup.as_nanos() as u64;
        Timing { start_ns, from_ns, to_ns: timing.to_ns }
    }

    /// Where a connection goes.
    pub fn target_of(&self, setup: &Setup) -> &Target {
        self.post_target.as_ref().filter(|_| *setup == Setup::Post).unwrap_or(&self.target)
    }

    /// Length of the measured part, of whatever is measured in it.
    pub fn measured(&self) -> Duration {
        self.duration + self.alone.map_or(Duration::ZERO, |alone| alone + self.warmup)
    }

    fn common(
        common: &CommonArgs,
        load: Option<&LoadArgs>,
        scenario: Scenario,
        roles: Vec<Part>,
        run: u16,
    ) -> Result<Self, Failure> {
        let dialect: Dialect = common.target.as_deref().map(file::read).transpose()?.map(Arc::new);
        let url = common.url.as_deref().or(dialect.as_ref().and_then(|script| script.url.as_deref()));
        let url = url.unwrap_or(crate::args::URL).to_owned();
        // Without a path a WAMP router is asked where most of them serve, another server at its root.
        let default_path = if dialect.is_none() { "/ws" } else { "/" };
        let target = Target::parse(&url, default_path)?;
        if target.is_plain_tcp && dialect.is_none() {
            return Err(Failure::usage("--url tcp://…: only a --target's file says what is sent there"));
        }
        let post = dialect.as_ref().and_then(|script| script.posts());
        let post_target = post.map(|post| Target::parse_http(&post.origin)).transpose()?;
        let posts = post_target.is_some();
        let sources = target.source_addresses(roles.len(), &common.source)?;
        let cpus = common.cpus.as_ref().map(|list| list.0.clone()).unwrap_or_default();
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = common.threads.unwrap_or(if cpus.is_empty() { available } else { cpus.len() });
        if wanted == 0 {
            return Err(Failure::usage("--threads must be at least 1"));
        }
        let threads = wanted.min(roles.len());
        let payload_bytes = load.map_or(STAMP_BYTES, |load| load.payload);
        if !(STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&payload_bytes) {
            return Err(Failure::usage(format!(
                "--payload {payload_bytes}: allowed are {STAMP_BYTES} (room for sequence and time) to {PAYLOAD_BYTES_MAX} bytes"
            )));
        }
        let senders =
            roles.iter().filter(|role| matches!(role.0, Role::Publisher(_) | Role::Caller(_))).count();
        if senders > PUBLISHERS_MAX {
            return Err(Failure::usage(format!(
                "{senders} senders: at most {PUBLISHERS_MAX} can be told apart"
            )));
        }
        let load = match load {
            None => Load::Idle,
            Some(LoadArgs { rate: Some(rate), .. }) => Load::Open { rate: *rate },
            Some(LoadArgs { window: 0, .. }) => return Err(Failure::usage("--window must be at least 1")),
            Some(LoadArgs { window, .. }) => Load::Closed { window: *window },
        };
        if common.connect_in_flight == 0 {
            return Err(Failure::usage("--connect-in-flight must be at least 1"));
        }
        let serializer = serializer(common.serializer);
        let count = roles.len();
        let mut assignments: Vec<Vec<Assignment>> =
            (0..threads).map(|_| Vec::with_capacity(count.div_ceil(threads))).collect();
        let (mut verified, mut visitors) = (vec![0; threads], vec![0; threads]);
        for (number, (mut role, setup, serializer)) in roles.into_iter().enumerate() {
            let thread = number % threads;
            let counter = match role {
                Role::Visitor(_) => &mut visitors[thread],
                _ => &mut verified[thread],
            };
            if let Role::Subscriber(number) | Role::Visitor(number) = &mut role {
                *number = *counter;
                *counter += 1;
            }
            let source = (!sources.is_empty()).then(|| sources[number * sources.len() / count]);
            let setup = match role {
                Role::Publisher(_) | Role::Prober(_) | Role::Flooder(_) if posts => Setup::Post,
                _ => setup,
            };
            assignments[thread].push(Assignment { role, setup, serializer, topic: 0, source });
        }
        let name = match scenario {
            Scenario::Fanout => "fanout",
            Scenario::Rpc => "rpc",
            Scenario::Mixed => "mixed",
            Scenario::Idle { .. } => "idle",
            Scenario::Connect => "connect",
        };
        Ok(Self {
            name,
            target,
            dialect,
            post_target,
            url,
            compression: common.compression,
            realm: common.realm.clone(),
            login: Login::from_args(common)?,
            threads,
            cpus,
            spin: common.spin,
            connect_rate: common.connect_rate,
            connect_in_flight: common.connect_in_flight,
            connect_timeout: common.connect_timeout,
            duration: common.duration,
            warmup: common.warmup,
            drain_timeout: common.drain_timeout,
            scenario,
            load,
            payload_bytes,
            serializer,
            publisher_serializer: serializer,
            matching: Match::Exact,
            fanout: None,
            rpc: None,
            toggles: None,
            probe: None,
            alone: None,
            mix: None,
            operations: Vec::new(),
            run,
            visits: None,
            assignments,
        })
    }
}

/// What only a WAMP router has.
fn check_foreign(args: &ScenarioArgs) -> Result<(), Failure> {
    let words = match args {
        ScenarioArgs::BroadcastRpc(BroadcastRpcArgs { probe: Probe::Pubsub, .. }) => return Ok(()),
        ScenarioArgs::Rpc(_) | ScenarioArgs::BroadcastRpc(_) | ScenarioArgs::Mixed(_) => {
            "--target: only WAMP routers have calls; there are fanout, fanin, pairs, rooms, churn, connect, idle, and \
             broadcast+rpc with --probe pubsub"
        }
        ScenarioArgs::Fanout(FanoutArgs { acknowledge: true, .. })
        | ScenarioArgs::Fanin(FaninArgs { acknowledge: true, .. })
        | ScenarioArgs::Pairs(PairsArgs { acknowledge: true, .. })
        | ScenarioArgs::Rooms(RoomsArgs { acknowledge: true, .. }) => {
            "--target: --acknowledge asks for WAMP's PUBLISHED; leave it out"
        }
        ScenarioArgs::Fanout(FanoutArgs { matching: Match::Prefix | Match::Wildcard, .. }) => {
            "--target: --match is WAMP's; the target's file says how to subscribe"
        }
        ScenarioArgs::Fanout(FanoutArgs { publisher_serializer: Some(_), .. }) => {
            "--target: --publisher-serializer is WAMP's; the target's file says what is sent"
        }
        _ => return Ok(()),
    };
    Err(Failure::usage(words))
}

/// The codec's name of a format.
pub fn serializer(format: Format) -> Serializer {
    match format {
        Format::Json => Serializer::Json,
        Format::Msgpack => Serializer::MsgPack,
        Format::Cbor => Serializer::Cbor,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn plan(line: &str) -> Result<Plan, Failure> {
        match Args::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Scenario(scenario) => Plan::new(&scenario, 7),
            Command::Compare(_) => panic!("{line} is no scenario"),
        }
    }

    #[test]
    fn connections_are_dealt_out_evenly_and_numbered() {
        let plan = plan("x fanout --subscribers 5 --publishers 2 --stuck 1 --threads 2").unwrap();
        assert_eq!(plan.connections(), 8);
        assert_eq!(plan.assignments[0].len(), 4);
        assert_eq!(plan.count(0, |role| matches!(role, Role::Subscriber(_))), 3);
        assert_eq!(plan.assignments[0][2].role, Role::Subscriber(2));
        assert_eq!(plan.publisher_threads(), [0, 1]);
        assert_eq!(plan.fanout.unwrap().topics.sizes, [5]);
    }

    #[test]
    fn every_callee_has_a_procedure_of_this_run() {
        let plan = plan("x rpc --callers 3 --callees 2 --rate 10 --threads 1").unwrap();
        let procedures = &plan.rpc.as_ref().unwrap().procedures;
        assert_eq!(&*procedures[1], "com.fanwire.loadgen.r0007.p1");
        assert_eq!(plan.assignments[0][1].setup, Setup::Register(procedures[1].clone()));
        assert_eq!(plan.load, Load::Open { rate: 10.0 });
    }

    #[test]
    fn places_for_visitors_are_no_residents() {
        let plan = plan("x connect --rate 2k --in-flight 5 --threads 2").unwrap();
        assert_eq!((plan.connections(), plan.residents()), (5, 0));
        assert_eq!(plan.assignments[0][2].role, Role::Visitor(2));
        assert_eq!(plan.visits.unwrap().rate, 2_000.0);
    }

    #[test]
    fn a_pair_shares_a_topic() {
        let plan = plan("x pairs --pairs 5 --threads 2").unwrap();
        let topics = &plan.fanout.as_ref().unwrap().topics;
        let mut subscribers = 0;
        for assignment in plan.assignments.iter().flatten() {
            if let Role::Subscriber(_) = assignment.role {
                let name = topics.names[assignment.topic as usize].clone();
                assert_eq!(assignment.setup, Setup::Subscribe(name));
                subscribers += 1;
            }
        }
        assert_eq!((subscribers, plan.connections(), topics.flows), (5, 10, 5));
    }

    #[test]
    fn rooms_are_unequal_and_have_their_publishers() {
        let plan =
            plan("x rooms --rooms 10 --members 20 --publishers 2 --skew zipf:1.0 --threads 3").unwrap();
        let topics = &plan.fanout.as_ref().unwrap().topics;
        assert_eq!((topics.sizes.iter().sum::<usize>(), topics.flows, plan.connections()), (200, 20, 220));
        assert!(topics.sizes[0] > 5 * topics.sizes[9], "{:?}", topics.sizes);
        assert_eq!(topics.streams(), 400);
    }

    #[test]
    fn a_mix_has_all_kinds_and_a_broadcast_begins_after_the_calls() {
        let plan = plan("x mixed --rate 1k --topics 4 --mix publish:1,join:1 --threads 2").unwrap();
        assert_eq!(plan.fanout.as_ref().unwrap().load, Load::Open { rate: 500.0 });
        assert_eq!((plan.rpc.as_ref().unwrap().load, plan.visits.unwrap().rate), (Load::Idle, 500.0));
        assert_eq!(plan.count(0, |role| matches!(role, Role::Toggler(_))), 5);
        let plan = self::plan("x broadcast+rpc --alone 2s --duration 3s --warmup 1s --rate 5").unwrap();
        let second = 1_000_000_000;
        let timing = Timing { start_ns: 0, from_ns: second, to_ns: 7 * second };
        let main = plan.main_timing(timing);
        assert_eq!((main.start_ns, main.from_ns, plan.measured().as_secs()), (3 * second, 4 * second, 6));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_words() {
        for (line, words) in [
            ("x fanout --payload 8", "room for sequence"),
            ("x fanout --window 0", "--window"),
            ("x fanout --subscribers 0", "--subscribers"),
            ("x fanout --publishers 100k --subscribers 100k", "pairs"),
            ("x fanout --topics 5", "--topics needs --rate"),
            ("x fanout --topics 0 --rate 1", "--topics"),
            ("x fanout --match prefix --topic one", "two components"),
            ("x rooms --members 0", "--members"),
            ("x broadcast+rpc --callers 0", "--callers"),
            ("x mixed --togglers 0", "--mix"),
            ("x churn --subscribers 0", "--subscribers"),
            ("x churn --publishers 100k --joins 10k", "pairs"),
            ("x fanin --publishers 0", "--publishers"),
            ("x pairs --pairs 0", "--pairs"),
            ("x rpc --callees 0", "--callees"),
            ("x idle --connections 0", "--connections"),
            ("x connect --in-flight 0", "--in-flight"),
            ("x idle --threads 0", "--threads"),
            ("x fanout --url tcp://127.0.0.1:1", "--target"),
            ("x broadcast+rpc --flood 5", "--probe pubsub"),
        ] {
            let failure = plan(line).unwrap_err();
            assert!(failure.words.contains(words), "{line}: {failure}");
        }
    }

    #[test]
    fn many_connections_get_several_sources() {
        let connections = 2 * crate::ports::connections_per_source() + 1;
        let plan = plan(&format!("x idle --connections {connections} --threads 2")).unwrap();
        let mut sources: Vec<_> = plan.assignments.iter().flatten().map(|a| a.source.unwrap()).collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), 3);
    }
}
