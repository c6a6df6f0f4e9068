//! Each scenario's constructor: which connections there are, and what is expected of them.

use std::sync::Arc;

use fanwire_codec::wamp2::Serializer;

use super::{
    FanoutPlan, Load, Part, Plan, ProbePlan, Role, RpcPlan, STREAMS_MAX, Scenario, Setup, TogglePlan,
    VisitPlan,
};
use crate::args::{
    BroadcastRpcArgs, ChurnArgs, CommonArgs, ConnectArgs, FaninArgs, FanoutArgs, Hold, IdleArgs, Leave,
    LoadArgs, Match, MixedArgs, PairsArgs, Probe, RoomsArgs, RpcArgs, WindowRule,
};
use crate::failure::Failure;
use crate::meter::operation;
use crate::topics::{Skew, Topics};

/// Connections and what they are for, as a scenario collects them.
#[derive(Debug)]
struct Parts {
    serializer: Serializer,
    list: Vec<Part>,
    /// Topic of each entry that receives, by index in `list`.
    topics: Vec<(usize, u32)>,
}

impl Parts {
    fn new(common: &CommonArgs) -> Self {
        Self { serializer: super::serializer(common.serializer), list: Vec::new(), topics: Vec::new() }
    }

    fn subscribe(&mut self, role: Role, topics: &Topics, topic: usize) {
        self.topics.push((self.list.len(), topic as u32));
        self.list.push((role, Setup::Subscribe(topics.names[topic].clone()), self.serializer));
    }

    fn subscribers(&mut self, topics: &Topics) {
        for topic in topics.of_subscribers() {
            self.subscribe(Role::Subscriber(0), topics, topic);
        }
    }

    fn publishers(&mut self, count: usize, serializer: Serializer) {
        self.list.extend((0..count).map(|n| (Role::Publisher(n as u32), Setup::Session, serializer)));
    }

    fn callers(&mut self, rpc: &RpcPlan) {
        let serializer = self.serializer;
        for (number, procedure) in rpc.procedures.iter().enumerate() {
            self.list.push((Role::Callee(number as u32), Setup::Register(procedure.clone()), serializer));
        }
        self.list.extend((0..rpc.callers).map(|n| (Role::Caller(n as u32), Setup::Session, serializer)));
    }

    fn probes(&mut self, probe: &ProbePlan) {
        let serializer = self.serializer;
        for (number, topic) in probe.topics.iter().enumerate() {
            let n = number as u32;
            let (sender, receiver) = match number < probe.pairs {
                true => (Role::Prober(n), Role::Probed(n)),
                false => (Role::Flooder(n), Role::Flooded(n)),
            };
            self.list.push((receiver, Setup::Subscribe(topic.clone()), serializer));
            self.list.push((sender, Setup::Session, serializer));
        }
    }

    /// Deals them out.
    fn plan(
        self,
        common: &CommonArgs,
        load: Option<&LoadArgs>,
        scenario: Scenario,
        run: u16,
    ) -> Result<Plan, Failure> {
        let mut plan = Plan::common(common, load, scenario, self.list, run)?;
        for (index, topic) in self.topics {
            plan.assignments[index % plan.threads][index / plan.threads].topic = topic;
        }
        Ok(plan)
    }
}

/// A plain fan-out over `topics`.
fn fanout_plan(publishers: usize, subscribers: usize, topics: Topics) -> FanoutPlan {
    FanoutPlan {
        publishers,
        subscribers,
        stuck: 0,
        slow: 0,
        slow_read: 0,
        acknowledge: false,
        rule: WindowRule::Average,
        load: Load::Idle,
        topics,
    }
}

fn check_streams(topics: &Topics, visitors: usize) -> Result<(), Failure> {
    let streams = topics.streams().saturating_add(topics.flows.saturating_mul(visitors));
    if streams > STREAMS_MAX {
        return Err(Failure::usage(format!(
            "that is {streams} pairs of a publisher and a subscriber to verify, at most {STREAMS_MAX} are possible: use fewer \
             of one kind"
        )));
    }
    if topics.flows > crate::stamp::PUBLISHERS_MAX {
        return Err(Failure::usage(format!(
            "--publishers times --topics are {}: at most {} can be told apart",
            topics.flows,
            crate::stamp::PUBLISHERS_MAX
        )));
    }
    Ok(())
}

/// The topics of publishers that choose one for each message.
fn topics_of(
    name: &str,
    publishers: usize,
    subscribers: usize,
    count: usize,
    skew: Skew,
    load: &LoadArgs,
) -> Result<Topics, Failure> {
    match count {
        0 => Err(Failure::usage("--topics must be at least 1")),
        1 => Ok(Topics::one(name, publishers, subscribers)),
        _ if load.rate.is_none() => Err(Failure::usage(
            "--topics needs --rate: a window is kept by topic, and one topic would close it for the others; \
             for a closed loop over many topics use rooms",
        )),
        _ => Ok(Topics::chosen(name, publishers, subscribers, count, skew)),
    }
}

/// Places for visitors: who joins, stays and leaves at once, and a second of slowness more.
fn places(rate: f64, stay: std::time::Duration) -> usize {
    (rate * (stay.as_secs_f64() + 1.0)).ceil() as usize + 1
}

fn procedures(prefix: &str, callees: usize, run: u16) -> Vec<Arc<str>> {
    (0..callees).map(|n| format!("{prefix}.r{run:04x}.p{n}").into()).collect()
}

impl Plan {
    pub(super) fn fanout(common: &CommonArgs, args: &FanoutArgs, run: u16) -> Result<Self, Failure> {
        let FanoutArgs { publishers, subscribers, stuck, slow, .. } = *args;
        if publishers == 0 || subscribers == 0 {
            return Err(Failure::usage("fanout needs --publishers and --subscribers of at least 1"));
        }
        if args.matching != Match::Exact && (args.topics > 1 || args.matching.pattern(&args.topic).is_none())
        {
            return Err(Failure::usage(
                "--match prefix and wildcard need one --topic with at least two components",
            ));
        }
        let topics = topics_of(&args.topic, publishers, subscribers, args.topics, args.skew, &args.load)?;
        check_streams(&topics, 0)?;
        let mut parts = Parts::new(common);
        let publisher_serializer = args.publisher_serializer.map_or(parts.serializer, super::serializer);
        parts.subscribers(&topics);
        for (role, count) in [(Role::Stuck, stuck), (Role::Slow, slow)] {
            // The most popular topics have them too.
            (0..count).for_each(|n| parts.subscribe(role, &topics, n % topics.count()));
        }
        parts.publishers(publishers, publisher_serializer);
        let mut plan = parts.plan(common, Some(&args.load), Scenario::Fanout, run)?;
        plan.publisher_serializer = publisher_serializer;
        plan.matching = args.matching;
        plan.fanout = Some(FanoutPlan {
            stuck,
            slow,
            slow_read: args.slow_read,
            acknowledge: args.acknowledge,
            rule: args.window_by,
            load: plan.load,
            ..fanout_plan(publishers, subscribers, topics)
        });
        Ok(plan)
    }

    pub(super) fn fanin(common: &CommonArgs, args: &FaninArgs, run: u16) -> Result<Self, Failure> {
        let FaninArgs { publishers, acknowledge, .. } = *args;
        if publishers == 0 {
            return Err(Failure::usage("fanin needs --publishers of at least 1"));
        }
        let topics = Topics::one(&args.topic, publishers, 1);
        Self::grouped("fanin", common, &args.load, topics, acknowledge, run)
    }

    pub(super) fn pairs(common: &CommonArgs, args: &PairsArgs, run: u16) -> Result<Self, Failure> {
        let PairsArgs { pairs, acknowledge, .. } = *args;
        if pairs == 0 {
            return Err(Failure::usage("pairs needs --pairs of at least 1"));
        }
        let topics = Topics::own(&args.topic, pairs, vec![1; pairs]);
        Self::grouped("pairs", common, &args.load, topics, acknowledge, run)
    }

    pub(super) fn rooms(common: &CommonArgs, args: &RoomsArgs, run: u16) -> Result<Self, Failure> {
        let RoomsArgs { rooms, members, publishers, acknowledge, skew, .. } = *args;
        if rooms == 0 || members == 0 || publishers == 0 {
            return Err(Failure::usage("rooms needs --rooms, --members and --publishers of at least 1"));
        }
        let sizes = skew.deal(rooms.saturating_mul(members), rooms);
        let topics = Topics::own(&args.topic, rooms.saturating_mul(publishers), sizes);
        Self::grouped("rooms", common, &args.load, topics, acknowledge, run)
    }

    /// Publishers that each have a topic.
    fn grouped(
        name: &'static str,
        common: &CommonArgs,
        load: &LoadArgs,
        topics: Topics,
        acknowledge: bool,
        run: u16,
    ) -> Result<Self, Failure> {
        check_streams(&topics, 0)?;
        let (publishers, subscribers) = (topics.flows, topics.sizes.iter().sum());
        let mut parts = Parts::new(common);
        let serializer = parts.serializer;
        parts.subscribers(&topics);
        parts.publishers(publishers, serializer);
        let mut plan = parts.plan(common, Some(load), Scenario::Fanout, run)?;
        plan.name = name;
        let load = plan.load;
        plan.fanout = Some(FanoutPlan { acknowledge, load, ..fanout_plan(publishers, subscribers, topics) });
        Ok(plan)
    }

    pub(super) fn churn(common: &CommonArgs, args: &ChurnArgs, run: u16) -> Result<Self, Failure> {
        let ChurnArgs { publishers, subscribers, joins, stay, .. } = *args;
        if publishers == 0 || subscribers == 0 {
            return Err(Failure::usage("churn needs --publishers and --subscribers of at least 1"));
        }
        let places = places(joins, stay);
        let topics = Topics::one(&args.topic, publishers, subscribers);
        check_streams(&topics, places)?;
        let mut parts = Parts::new(common);
        let serializer = parts.serializer;
        parts.subscribers(&topics);
        parts.publishers(publishers, serializer);
        (0..places).for_each(|_| parts.subscribe(Role::Visitor(0), &topics, 0));
        let mut plan = parts.plan(common, Some(&args.load), Scenario::Fanout, run)?;
        plan.name = "churn";
        plan.fanout = Some(FanoutPlan {
            rule: args.window_by,
            load: plan.load,
            ..fanout_plan(publishers, subscribers, topics)
        });
        plan.visits = Some(VisitPlan {
            rate: joins,
            stay_ns: stay.as_nanos() as u64,
            login_timeout_ns: args.login_timeout.as_nanos() as u64,
            is_measured: false,
            cut: args.leave == Leave::Cut,
        });
        Ok(plan)
    }

    pub(super) fn rpc(common: &CommonArgs, args: &RpcArgs, run: u16) -> Result<Self, Failure> {
        let RpcArgs { callers, callees, .. } = *args;
        check_calls("rpc", callers, callees)?;
        let procedures = procedures(&args.procedure, callees, run);
        let mut rpc = RpcPlan { callers, load: Load::Idle, procedures };
        let mut parts = Parts::new(common);
        parts.callers(&rpc);
        let mut plan = parts.plan(common, Some(&args.load), Scenario::Rpc, run)?;
        rpc.load = plan.load;
        plan.rpc = Some(rpc);
        Ok(plan)
    }

    pub(super) fn broadcast_rpc(
        common: &CommonArgs,
        args: &BroadcastRpcArgs,
        run: u16,
    ) -> Result<Self, Failure> {
        let BroadcastRpcArgs {
            publishers, subscribers, callers, callees, calls, alone, probe, flood, ..
        } = *args;
        if publishers == 0 || subscribers == 0 {
            return Err(Failure::usage("broadcast+rpc needs --publishers and --subscribers of at least 1"));
        }
        check_calls("broadcast+rpc", callers, callees)?;
        if flood > 0 && probe == Probe::Call {
            return Err(Failure::usage("--flood needs --probe pubsub"));
        }
        let topics = Topics::one(&args.topic, publishers, subscribers);
        check_streams(&topics, 0)?;
        let mut parts = Parts::new(common);
        let serializer = parts.serializer;
        let (mut rpc, mut probes) = (None, None);
        let mut operations = match probe {
            Probe::Call => {
                let procedures = procedures(&args.procedure, callees, run);
                let calls = RpcPlan { callers, load: Load::Open { rate: calls }, procedures };
                parts.callers(&calls);
                rpc = Some(calls);
                vec![operation::CALL_ALONE, operation::CALL_BESIDE]
            }
            Probe::Pubsub => {
                let count = callers + usize::from(flood > 0);
                let topics = (0..count).map(|n| format!("{}.r{run:04x}.probe{n}", args.topic).into());
                let plan =
                    ProbePlan { pairs: callers, rate: calls, flood_window: flood, topics: topics.collect() };
                parts.probes(&plan);
                probes = Some(plan);
                vec![operation::PROBE_ALONE, operation::PROBE_BESIDE]
            }
        };
        operations.extend((flood > 0).then_some(operation::FLOOD));
        parts.subscribers(&topics);
        parts.publishers(publishers, serializer);
        let mut plan = parts.plan(common, Some(&args.load), Scenario::Mixed, run)?;
        plan.name = "broadcast+rpc";
        plan.operations = operations;
        plan.alone = Some(alone);
        plan.rpc = rpc;
        plan.probe = probes;
        plan.fanout = Some(FanoutPlan {
            rule: args.window_by,
            load: plan.load,
            ..fanout_plan(publishers, subscribers, topics)
        });
        Ok(plan)
    }

    pub(super) fn mixed(common: &CommonArgs, args: &MixedArgs, run: u16) -> Result<Self, Failure> {
        let MixedArgs { publishers, subscribers, callers, callees, togglers, rate, stay, .. } = *args;
        if publishers == 0 || subscribers == 0 || togglers == 0 {
            return Err(Failure::usage(
                "mixed needs --publishers, --subscribers and --togglers of at least 1; leave a kind out with --mix",
            ));
        }
        check_calls("mixed", callers, callees)?;
        let shares = args.mix.shares();
        let part = |share: f64| if share > 0.0 { Load::Open { rate: rate * share } } else { Load::Idle };
        let load = LoadArgs { window: 1, rate: Some(rate), payload: args.payload };
        let topics = topics_of(&args.topic, publishers, subscribers, args.topics, args.skew, &load)?;
        let (joins, places) = match shares.join * rate {
            joins if joins > 0.0 => (Some(joins), places(joins, stay)),
            _ => (None, 0),
        };
        check_streams(&topics, places + togglers)?;
        let procedures = procedures(&args.procedure, callees, run);
        let rpc = RpcPlan { callers, load: part(shares.call), procedures };
        let mut parts = Parts::new(common);
        let serializer = parts.serializer;
        parts.subscribers(&topics);
        parts.publishers(publishers, serializer);
        parts.callers(&rpc);
        // Who comes and goes is spread over the topics like the subscribers.
        let spread = |count: usize| {
            let sizes = args.skew.deal(count, topics.count());
            sizes.into_iter().enumerate().flat_map(|(topic, size)| std::iter::repeat_n(topic, size))
        };
        for (number, topic) in spread(togglers).enumerate() {
            parts.topics.push((parts.list.len(), topic as u32));
            parts.list.push((Role::Toggler(number as u32), Setup::Session, serializer));
        }
        for topic in spread(places) {
            parts.subscribe(Role::Visitor(0), &topics, topic);
        }
        let mut plan = parts.plan(common, Some(&load), Scenario::Mixed, run)?;
        plan.mix = Some(args.mix.to_string());
        plan.operations = vec![operation::CALL, operation::SUBSCRIBE, operation::UNSUBSCRIBE];
        plan.rpc = Some(rpc);
        plan.toggles = Some(TogglePlan { togglers, rate: rate * shares.subscribe });
        plan.fanout =
            Some(FanoutPlan { load: part(shares.publish), ..fanout_plan(publishers, subscribers, topics) });
        plan.visits = joins.map(|rate| VisitPlan {
            rate,
            stay_ns: stay.as_nanos() as u64,
            login_timeout_ns: args.login_timeout.as_nanos() as u64,
            is_measured: false,
            cut: false,
        });
        Ok(plan)
    }

    pub(super) fn idle(common: &CommonArgs, args: &IdleArgs, run: u16) -> Result<Self, Failure> {
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
        let mut parts = Parts::new(common);
        let serializer = parts.serializer;
        parts.list.extend((0..connections).map(|n| (Role::Idle, setup(n), serializer)));
        parts.plan(common, None, Scenario::Idle { hold }, run)
    }

    pub(super) fn connect(common: &CommonArgs, args: &ConnectArgs, run: u16) -> Result<Self, Failure> {
        let ConnectArgs { in_flight, rate, .. } = *args;
        if in_flight == 0 {
            return Err(Failure::usage("connect needs --in-flight of at least 1"));
        }
        let mut parts = Parts::new(common);
        let serializer = parts.serializer;
        parts.list.extend((0..in_flight).map(|_| (Role::Visitor(0), Setup::Session, serializer)));
        let mut plan = parts.plan(common, None, Scenario::Connect, run)?;
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
}

fn check_calls(name: &str, callers: usize, callees: usize) -> Result<(), Failure> {
    if callers == 0 || callees == 0 {
        return Err(Failure::usage(format!("{name} needs --callers and --callees of at least 1")));
    }
    if callers.saturating_mul(callees) > STREAMS_MAX {
        return Err(Failure::usage(format!(
            "--callers {callers} times --callees {callees} are more than {STREAMS_MAX} pairs to verify"
        )));
    }
    Ok(())
}
