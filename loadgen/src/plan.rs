//! From the command line to who does what: every connection gets a role and a thread before the first one is opened.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanwire_codec::wamp2::Serializer;

use crate::args::{
    ChurnArgs, CommonArgs, ConnectArgs, FaninArgs, FanoutArgs, Format, Hold, IdleArgs, Leave, LoadArgs,
    PairsArgs, RpcArgs, ScenarioArgs, WindowRule,
};
use crate::failure::Failure;
use crate::stamp::{PUBLISHERS_MAX, STAMP_BYTES};
use crate::target::Target;

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

/// The scenario with its own numbers.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the command line's options of the same names")]
pub enum Scenario {
    Fanout {
        publishers: usize,
        subscribers: usize,
        stuck: usize,
        slow: usize,
        slow_read: usize,
        acknowledge: bool,
        rule: WindowRule,
    },
    Rpc {
        callers: usize,
        callees: usize,
    },
    Idle {
        connections: usize,
        hold: Hold,
    },
    Connect {
        in_flight: usize,
    },
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
    pub realm: String,
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
    pub load: Load,
    pub payload_bytes: usize,
    pub serializer: Serializer,
    pub publisher_serializer: Serializer,
    /// Topics that are published to: one for all, or one per publisher.
    pub topics: Vec<Arc<str>>,
    /// Publisher n sends to subscriber n alone.
    pub is_paired: bool,
    /// Procedures, one per callee.
    pub procedures: Vec<Arc<str>>,
    /// Tag of this run in each payload.
    pub run: u16,
    /// Connections that come and go while the load runs.
    pub visits: Option<VisitPlan>,
    /// Per thread, its connections; places for visitors last.
    pub assignments: Vec<Vec<Assignment>>,
}

impl Plan {
    /// Checks the command line and deals the connections out.
    pub fn new(args: &ScenarioArgs, run: u16) -> Result<Self, Failure> {
        let common = args.common();
        match args {
            ScenarioArgs::Fanout(args) => Self::fanout(common, args, run),
            ScenarioArgs::Fanin(args) => Self::fanin(common, args, run),
            ScenarioArgs::Pairs(args) => Self::pairs(common, args, run),
            ScenarioArgs::Churn(args) => Self::churn(common, args, run),
            ScenarioArgs::Rpc(args) => Self::rpc(common, args, run),
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

    /// Deliveries that each message sent must cause.
    pub fn deliveries_per_message(&self) -> u64 {
        match self.scenario {
            Scenario::Fanout { .. } if self.is_paired => 1,
            Scenario::Fanout { subscribers, .. } => subscribers as u64,
            Scenario::Rpc { .. } | Scenario::Connect { .. } => 1,
            Scenario::Idle { .. } => 0,
        }
    }

    fn fanout(common: &CommonArgs, args: &FanoutArgs, run: u16) -> Result<Self, Failure> {
        let FanoutArgs { publishers, subscribers, stuck, slow, .. } = *args;
        if publishers == 0 || subscribers == 0 {
            return Err(Failure::usage("fanout needs --publishers and --subscribers of at least 1"));
        }
        if publishers.saturating_mul(subscribers) > STREAMS_MAX {
            return Err(Failure::usage(format!(
                "--publishers {publishers} times --subscribers {subscribers} are more than {STREAMS_MAX} pairs to verify: \
                 use fewer of one kind"
            )));
        }
        let serializer = serializer(common.serializer);
        let publisher_serializer = args.publisher_serializer.map_or(serializer, self::serializer);
        let topic: Arc<str> = args.topic.as_str().into();
        let subscribe = |role| (role, Setup::Subscribe(topic.clone()), serializer);
        let mut roles = Vec::with_capacity(publishers + subscribers + stuck + slow);
        roles.extend((0..subscribers).map(|_| subscribe(Role::Subscriber(0))));
        roles.extend((0..stuck).map(|_| subscribe(Role::Stuck)));
        roles.extend((0..slow).map(|_| subscribe(Role::Slow)));
        roles.extend(
            (0..publishers).map(|n| (Role::Publisher(n as u32), Setup::Session, publisher_serializer)),
        );
        let scenario = Scenario::Fanout {
            publishers,
            subscribers,
            stuck,
            slow,
            slow_read: args.slow_read,
            acknowledge: args.acknowledge,
            rule: args.window_by,
        };
        let mut plan = Self::common(common, Some(&args.load), scenario, roles, run)?;
        plan.publisher_serializer = publisher_serializer;
        plan.topics = vec![topic];
        Ok(plan)
    }

    fn fanin(common: &CommonArgs, args: &FaninArgs, run: u16) -> Result<Self, Failure> {
        let FaninArgs { publishers, acknowledge, .. } = *args;
        if publishers == 0 {
            return Err(Failure::usage("fanin needs --publishers of at least 1"));
        }
        let serializer = serializer(common.serializer);
        let topic: Arc<str> = args.topic.as_str().into();
        let mut roles = vec![(Role::Subscriber(0), Setup::Subscribe(topic.clone()), serializer)];
        roles.extend((0..publishers).map(|n| (Role::Publisher(n as u32), Setup::Session, serializer)));
        let scenario = plain_fanout(publishers, 1, acknowledge);
        let mut plan = Self::common(common, Some(&args.load), scenario, roles, run)?;
        plan.name = "fanin";
        plan.topics = vec![topic];
        Ok(plan)
    }

    fn pairs(common: &CommonArgs, args: &PairsArgs, run: u16) -> Result<Self, Failure> {
        let PairsArgs { pairs, acknowledge, .. } = *args;
        if pairs == 0 {
            return Err(Failure::usage("pairs needs --pairs of at least 1"));
        }
        let serializer = serializer(common.serializer);
        let topics: Vec<Arc<str>> = (0..pairs).map(|n| format!("{}.t{n}", args.topic).into()).collect();
        let mut roles: Vec<_> = topics
            .iter()
            .map(|topic| (Role::Subscriber(0), Setup::Subscribe(topic.clone()), serializer))
            .collect();
        roles.extend((0..pairs).map(|n| (Role::Publisher(n as u32), Setup::Session, serializer)));
        let scenario = plain_fanout(pairs, pairs, acknowledge);
        let mut plan = Self::common(common, Some(&args.load), scenario, roles, run)?;
        plan.name = "pairs";
        plan.topics = topics;
        plan.is_paired = true;
        Ok(plan)
    }

    /// The pair of subscriber `number` of `thread`: connections are dealt out in turn, the subscribers first.
    pub fn pair_of(&self, thread: usize, number: u32) -> usize {
        number as usize * self.threads + thread
    }

    fn churn(common: &CommonArgs, args: &ChurnArgs, run: u16) -> Result<Self, Failure> {
        let ChurnArgs { publishers, subscribers, joins, stay, .. } = *args;
        if publishers == 0 || subscribers == 0 {
            return Err(Failure::usage("churn needs --publishers and --subscribers of at least 1"));
        }
        // Who joins, stays and leaves at once, and a second of slowness more.
        let places = (joins * (stay.as_secs_f64() + 1.0)).ceil() as usize + 1;
        if publishers.saturating_mul(subscribers.saturating_add(places)) > STREAMS_MAX {
            return Err(Failure::usage(format!(
                "--publishers {publishers} times --subscribers {subscribers} and {places} that come and go are more than \
                 {STREAMS_MAX} pairs to verify"
            )));
        }
        let serializer = serializer(common.serializer);
        let topic: Arc<str> = args.topic.as_str().into();
        let subscribe = |role| (role, Setup::Subscribe(topic.clone()), serializer);
        let mut roles = Vec::with_capacity(publishers + subscribers + places);
        roles.extend((0..subscribers).map(|_| subscribe(Role::Subscriber(0))));
        roles.extend((0..publishers).map(|n| (Role::Publisher(n as u32), Setup::Session, serializer)));
        roles.extend((0..places).map(|_| subscribe(Role::Visitor(0))));
        let scenario = Scenario::Fanout {
            publishers,
            subscribers,
            stuck: 0,
            slow: 0,
            slow_read: 0,
            acknowledge: false,
            rule: args.window_by,
        };
        let mut plan = Self::common(common, Some(&args.load), scenario, roles, run)?;
        plan.name = "churn";
        plan.topics = vec![topic];
        plan.visits = Some(VisitPlan {
            rate: joins,
            stay_ns: stay.as_nanos() as u64,
            login_timeout_ns: args.login_timeout.as_nanos() as u64,
            is_measured: false,
            cut: args.leave == Leave::Cut,
        });
        Ok(plan)
    }

    fn rpc(common: &CommonArgs, args: &RpcArgs, run: u16) -> Result<Self, Failure> {
        let RpcArgs { callers, callees, .. } = *args;
        if callers == 0 || callees == 0 {
            return Err(Failure::usage("rpc needs --callers and --callees of at least 1"));
        }
        if callers.saturating_mul(callees) > STREAMS_MAX {
            return Err(Failure::usage(format!(
                "--callers {callers} times --callees {callees} are more than {STREAMS_MAX} pairs to verify"
            )));
        }
        let serializer = serializer(common.serializer);
        let procedures: Vec<Arc<str>> =
            (0..callees).map(|n| format!("{}.r{run:04x}.p{n}", args.procedure).into()).collect();
        let mut roles = Vec::with_capacity(callers + callees);
        roles.extend(
            (0..callees)
                .map(|n| (Role::Callee(n as u32), Setup::Register(procedures[n].clone()), serializer)),
        );
        roles.extend((0..callers).map(|n| (Role::Caller(n as u32), Setup::Session, serializer)));
        let mut plan =
            Self::common(common, Some(&args.load), Scenario::Rpc { callers, callees }, roles, run)?;
        plan.procedures = procedures;
        Ok(plan)
    }

    fn idle(common: &CommonArgs, args: &IdleArgs, run: u16) -> Result<Self, Failure> {
        let IdleArgs { connections, hold, .. } = *args;
        if connections == 0 {
            return Err(Failure::usage("idle needs --connections of at least 1"));
        }
        let topic: Arc<str> = args.topic.as_str().into();
        let setup = |n: usize| match hold {
            Hold::Connection => Setup::Connection,
            Hold::Session => Setup::Session,
            Hold::Subscription => Setup::Subscribe(topic.clone()),
            Hold::OwnTopic => Setup::Subscribe(format!("{topic}.t{n}").into()),
        };
        let serializer = serializer(common.serializer);
        let roles = (0..connections).map(|n| (Role::Idle, setup(n), serializer)).collect();
        Self::common(common, None, Scenario::Idle { connections, hold }, roles, run)
    }

    fn connect(common: &CommonArgs, args: &ConnectArgs, run: u16) -> Result<Self, Failure> {
        let ConnectArgs { in_flight, rate, .. } = *args;
        if in_flight == 0 {
            return Err(Failure::usage("connect needs --in-flight of at least 1"));
        }
        let serializer = serializer(common.serializer);
        let roles = (0..in_flight).map(|_| (Role::Visitor(0), Setup::Session, serializer)).collect();
        let mut plan = Self::common(common, None, Scenario::Connect { in_flight }, roles, run)?;
        plan.load = Load::Open { rate };
        plan.visits = Some(VisitPlan {
            rate,
            stay_ns: 0,
            login_timeout_ns: args.login_timeout.as_nanos() as u64,
            is_measured: true,
            cut: false,
        });
        Ok(plan)
    }

    fn common(
        common: &CommonArgs,
        load: Option<&LoadArgs>,
        scenario: Scenario,
        roles: Vec<(Role, Setup, Serializer)>,
        run: u16,
    ) -> Result<Self, Failure> {
        let target = Target::parse(&common.url)?;
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
            assignments[thread].push(Assignment { role, setup, serializer, source });
        }
        let name = match scenario {
            Scenario::Fanout { .. } => "fanout",
            Scenario::Rpc { .. } => "rpc",
            Scenario::Idle { .. } => "idle",
            Scenario::Connect { .. } => "connect",
        };
        Ok(Self {
            name,
            target,
            realm: common.realm.clone(),
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
            topics: Vec::new(),
            is_paired: false,
            procedures: Vec::new(),
            run,
            visits: None,
            assignments,
        })
    }
}

fn plain_fanout(publishers: usize, subscribers: usize, acknowledge: bool) -> Scenario {
    let rule = WindowRule::Average;
    Scenario::Fanout { publishers, subscribers, stuck: 0, slow: 0, slow_read: 0, acknowledge, rule }
}

fn serializer(format: Format) -> Serializer {
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
        assert_eq!(plan.deliveries_per_message(), 5);
    }

    #[test]
    fn every_callee_has_a_procedure_of_this_run() {
        let plan = plan("x rpc --callers 3 --callees 2 --rate 10 --threads 1").unwrap();
        assert_eq!(&*plan.procedures[1], "com.fanwire.loadgen.r0007.p1");
        assert_eq!(plan.assignments[0][1].setup, Setup::Register(plan.procedures[1].clone()));
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
        let mut subscribers = 0;
        for (thread, assignments) in plan.assignments.iter().enumerate() {
            for assignment in assignments {
                let Role::Subscriber(number) = assignment.role else { continue };
                let topic = plan.topics[plan.pair_of(thread, number)].clone();
                assert_eq!(assignment.setup, Setup::Subscribe(topic));
                subscribers += 1;
            }
        }
        assert_eq!((subscribers, plan.connections(), plan.deliveries_per_message()), (5, 10, 1));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_words() {
        for (line, words) in [
            ("x fanout --payload 8", "room for sequence"),
            ("x fanout --window 0", "--window"),
            ("x fanout --subscribers 0", "--subscribers"),
            ("x fanout --publishers 100k --subscribers 100k", "pairs"),
            ("x churn --subscribers 0", "--subscribers"),
            ("x churn --publishers 100k --joins 10k", "pairs"),
            ("x fanin --publishers 0", "--publishers"),
            ("x pairs --pairs 0", "--pairs"),
            ("x rpc --callees 0", "--callees"),
            ("x idle --connections 0", "--connections"),
            ("x connect --in-flight 0", "--in-flight"),
            ("x idle --threads 0", "--threads"),
        ] {
            let failure = plan(line).unwrap_err();
            assert!(failure.words.contains(words), "{line}: {failure}");
        }
    }

    #[test]
    fn many_connections_get_several_sources() {
        let plan = plan("x idle --connections 60k --threads 2").unwrap();
        let mut sources: Vec<_> = plan.assignments.iter().flatten().map(|a| a.source.unwrap()).collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), 3);
    }
}
