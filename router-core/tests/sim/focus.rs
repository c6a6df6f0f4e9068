//! Seeds that look closely at one thing: a fault that needs many of the same, and nothing in between, is hardly ever met by
//! a run that does a little of everything.

use super::{
    plan::{ACTS, Act, Plan, STEPS, Step},
    rng::Rng,
    rules::Rules,
};
use fanwire_codec::wamp2::InvokePolicy;
use fanwire_core::{
    Limits,
    topics::{Handling, SlowConsumer},
};

/// What a seed looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// A little of everything, or of whatever the seed leaves.
    Everything,
    /// Few topics of which slow readers get a part, and are told which they do not.
    Gaps,
    /// Calls with little time, whose results come in parts.
    Time,
    /// Callees that take turns, and stay.
    Turns,
    /// The same of those of whom the one with the least to do is asked.
    Loads,
    /// Procedures that callees of two roles take from each other.
    Force,
}

impl Focus {
    pub fn new(rng: &mut Rng) -> Self {
        match rng.below(30) {
            0 => Self::Gaps,
            1 => Self::Time,
            2 => Self::Turns,
            3 => Self::Loads,
            4 => Self::Force,
            _ => Self::Everything,
        }
    }

    /// How events wait, where that matters.
    pub fn rules(self, rng: &mut Rng) -> Option<Rules> {
        let policies = [SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Conflate];
        (self == Self::Gaps).then(|| {
            Rules::all(Handling {
                slow_consumer: rng.pick(&policies),
                outbox_bytes_max: None,
                outbox_messages_max: Some(rng.pick(&[1, 3, 20])),
            })
        })
    }

    /// Limits that are met end what is looked at.
    pub fn limits(self, drawn: Limits) -> Limits {
        if self == Self::Everything { drawn } else { Limits { ring_capacity: 64, ..Limits::default() } }
    }

    /// What the plan has otherwise than the seed decided.
    pub fn apply(self, plan: &mut Plan, rng: &mut Rng) {
        if self == Self::Everything {
            return;
        }
        plan.realms = 1;
        plan.clients_max = rng.pick(&[3, 8]);
        plan.shards = rng.pick(&[1, 2]);
        (plan.echoing, plan.centered, plan.version_1) = (0, 0, 0);
        plan.socket_bytes = plan.socket_bytes.max(2_000);
        // Nobody leaves, or is made to.
        for step in [Step::Vanish, Step::Break, Step::Drain, Step::Shed, Step::Order, Step::Meta] {
            weigh_step(plan, step, 0);
        }
        for act in [Act::Goodbye, Act::Violate, Act::Unregister, Act::Unsubscribe] {
            weigh_act(plan, act, 0);
        }
        match self {
            Self::Everything => {}
            Self::Gaps => look_at_gaps(plan, rng),
            Self::Time => look_at_time(plan, rng),
            Self::Turns => look_at_choices(plan, InvokePolicy::RoundRobin, rng),
            Self::Loads => look_at_loads(plan, rng),
            Self::Force => look_at_force(plan, rng),
        }
    }
}

fn look_at_gaps(plan: &mut Plan, rng: &mut Rng) {
    plan.topics = rng.pick(&[1, 2]);
    plan.told_of_gaps = 100;
    plan.socket_bytes = rng.pick(&[300, 2_000]);
    plan.payload_bytes = rng.pick(&[[0; 4], [0, 10, 100, 100]]);
    plan.listed = 0;
    for act in [Act::Register, Act::Call, Act::Cancel, Act::Answer] {
        weigh_act(plan, act, 0);
    }
    weigh_act(plan, Act::Publish, 150);
    weigh_step(plan, Step::Act, 300);
    // What was published since the last flush is due together with what was lost before.
    weigh_step(plan, Step::Flush, 60);
    weigh_step(plan, Step::FlushDirty, 0);
    weigh_step(plan, Step::Stick, 10);
    weigh_step(plan, Step::Timer, 2);
}

fn look_at_time(plan: &mut Plan, rng: &mut Rng) {
    weigh_calls(plan);
    (plan.able, plan.in_parts, plan.timed) = (100, rng.pick(&[60, 90]), 100);
    (plan.limited_callees, plan.passed_on) = (0, 0);
    weigh_act(plan, Act::Cancel, 0);
    weigh_act(plan, Act::Answer, 150);
    weigh_step(plan, Step::Timer, 60);
}

fn look_at_choices(plan: &mut Plan, policy: InvokePolicy, rng: &mut Rng) {
    weigh_calls(plan);
    plan.procedures = rng.pick(&[1, 2]);
    (plan.shared, plan.policies) = (100, [policy; 4]);
    (plan.limited_callees, plan.passed_on, plan.limited) = (0, 0, 0);
}

fn look_at_loads(plan: &mut Plan, rng: &mut Rng) {
    look_at_choices(plan, InvokePolicy::LeastLoaded, rng);
    // What callees have to do is known while no call ends without their word.
    (plan.able, plan.timed) = (0, 0);
    weigh_act(plan, Act::Answer, 30);
}

fn look_at_force(plan: &mut Plan, rng: &mut Rng) {
    weigh_calls(plan);
    plan.clients_max = 8;
    plan.procedures = rng.pick(&[2, 4]);
    (plan.by_ticket, plan.wrong_ticket, plan.busy, plan.limited) = (100, 0, 0, 50);
    (plan.shared, plan.forced) = (rng.pick(&[0, 50]), 30);
    weigh_act(plan, Act::Register, 30);
    weigh_act(plan, Act::Unregister, 15);
}

/// Hardly anything but calls, of procedures that are registered at once and stay so.
fn weigh_calls(plan: &mut Plan) {
    (plan.patterns, plan.forced) = (0, 0);
    for (act, weight) in [(Act::Subscribe, 0), (Act::Publish, 0), (Act::Register, 3), (Act::Call, 60)] {
        weigh_act(plan, act, weight);
    }
    weigh_act(plan, Act::Answer, 60);
    weigh_step(plan, Step::Act, 300);
}

fn weigh_step(plan: &mut Plan, step: Step, weight: u32) {
    let place = STEPS.iter().position(|known| *known == step).expect("it is a step");
    plan.step_weights[place] = weight;
}

fn weigh_act(plan: &mut Plan, act: Act, weight: u32) {
    let place = ACTS.iter().position(|known| *known == act).expect("it is an act");
    plan.act_weights[place] = weight;
}
