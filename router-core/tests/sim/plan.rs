//! What a seed decides before the first step: sizes, limits, and which operations there are at all.
//!
//! Each seed takes another subset (swarm): a fault that needs a full ring *and* no disconnects is only met by runs that
//! have the one and lack the other.

use super::{
    center,
    echo::Rooms,
    focus::Focus,
    messages::Queues,
    names::{self, REALM_BIT},
    past::Past,
    retention::Retention,
    rng::Rng,
    rules::Rules,
    wamp1,
};
use fanwire_codec::wamp2::{InvokePolicy, MatchPolicy};
use fanwire_codec::ws::deflate::{Agreement, DeflatePolicy, Direction, WINDOW_BITS_MIN};
use fanwire_core::message_center::{MessageCenter, OnError};
use fanwire_core::{
    Compression, CoreConfig, Limits,
    access::{Access, Disclosure},
    hooks::{HookEvent, HookId, HookRule},
};
use std::{sync::Arc, time::Duration};

pub const REALMS: [&str; 2] = ["sim", "elsewhere"];

/// One kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Connect,
    Act,
    Hand,
    Deliver,
    Push,
    FlushDirty,
    FlushSmall,
    FlushSlice,
    Flush,
    Writable,
    Read,
    Timer,
    Vanish,
    Break,
    Stick,
    Reap,
    Drain,
    Ping,
    Decide,
    Api,
    Shed,
    Inner,
    Order,
    Meta,
    Recall,
}

pub const STEPS: [Step; 25] = [
    Step::Connect,
    Step::Act,
    Step::Hand,
    Step::Deliver,
    Step::Push,
    Step::FlushDirty,
    Step::FlushSmall,
    Step::FlushSlice,
    Step::Flush,
    Step::Writable,
    Step::Read,
    Step::Timer,
    Step::Vanish,
    Step::Break,
    Step::Stick,
    Step::Reap,
    Step::Drain,
    Step::Ping,
    Step::Decide,
    Step::Api,
    Step::Shed,
    Step::Inner,
    Step::Order,
    Step::Meta,
    Step::Recall,
];

/// One kind of client operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Subscribe,
    Unsubscribe,
    Publish,
    Register,
    Unregister,
    Call,
    Cancel,
    Answer,
    Goodbye,
    Violate,
}

pub const ACTS: [Act; 10] = [
    Act::Subscribe,
    Act::Unsubscribe,
    Act::Publish,
    Act::Register,
    Act::Unregister,
    Act::Call,
    Act::Cancel,
    Act::Answer,
    Act::Goodbye,
    Act::Violate,
];

#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub steps: usize,
    pub shards: usize,
    pub realms: usize,
    pub clients_max: usize,
    /// Percent of clients that are in echo rooms, and of the others that are at the message center.
    pub echoing: usize,
    pub centered: usize,
    /// Percent of those that are neither that speak version 1.
    pub version_1: usize,
    pub rooms: Rooms,
    pub queues: Queues,
    /// Percent of clients that log in by ticket, of these with another ticket than theirs, and of their logins that find
    /// the control thread busy.
    pub by_ticket: usize,
    pub wrong_ticket: usize,
    pub busy: usize,
    pub topics: usize,
    /// Operations that a client writes at once, at most.
    pub burst: usize,
    pub procedures: usize,
    /// Percent of subscriptions and registrations that are by pattern, and of clients that log in to a role that is limited.
    pub patterns: usize,
    pub limited: usize,
    pub socket_bytes: usize,
    /// Percent of sends that take less than there is room for.
    pub short_writes: usize,
    /// Percent of ring pushes refused although there is room.
    pub early_full: usize,
    /// Percent of publications with acknowledge, and with `exclude_me` false.
    pub acknowledge: usize,
    pub include_me: usize,
    /// Percent of publications with lists of receivers.
    pub listed: usize,
    /// Percent of publications and calls with `disclose_me`.
    pub disclosed: usize,
    /// Percent of clients that can do what a client may leave out, of calls and results in parts, and of calls with a timeout.
    pub able: usize,
    pub in_parts: usize,
    pub timed: usize,
    /// Percent of registrations that share their procedure, by the policy that each has, that take so many calls at a time,
    /// and that take it from whoever has it; and percent of calls that a callee passes on.
    pub shared: usize,
    pub policies: [InvokePolicy; 4],
    pub limited_callees: usize,
    pub forced: usize,
    pub passed_on: usize,
    /// Percent of subscriptions to what the router itself says, times two.
    pub meta: usize,
    /// Percent of thoughts of sending sessions away by the meta API that are acted upon.
    pub kills: usize,
    /// Whether there is a time in which no callee says anything.
    pub hushed: bool,
    /// Whether there is a hook, percent of its questions that it denies, fails to answer, and never answers.
    pub hooked: bool,
    pub denied: usize,
    pub failed: usize,
    pub unanswered: usize,
    /// Who asks by API, and percent of an operator's thoughts of sending somebody away that it acts upon.
    pub sources: usize,
    pub dismissals: usize,
    /// Inner subscribers, events that may wait for each, and percent of publications by API that come from one.
    pub inners: usize,
    pub inner_room: usize,
    pub inner_says: usize,
    /// Percent of publications with a key by which they replace each other, of clients that want to be told of gaps, and how
    /// events wait.
    pub keyed: usize,
    pub told_of_gaps: usize,
    pub rules: Rules,
    /// Which publications are kept.
    pub retention: Retention,
    /// What histories have.
    pub past: Past,
    pub payload_bytes: [usize; 4],
    pub step_weights: [u32; STEPS.len()],
    pub act_weights: [u32; ACTS.len()],
    pub config: Arc<CoreConfig>,
}

impl Plan {
    /// What a handshake agrees on: nothing, what is everybody's, or something of this connection alone.
    pub fn agreement(&self, rng: &mut Rng) -> Option<Agreement> {
        let policy = self.config.compression?.policy;
        if rng.chance(30) {
            return None;
        }
        let takeover = policy.takeover && rng.chance(70);
        let window_bits = if rng.chance(80) { policy.window_bits } else { WINDOW_BITS_MIN };
        let direction = Direction { takeover, window_bits };
        Some(Agreement { server: direction, client: direction })
    }

    pub fn new(seed: u64, steps: usize) -> Self {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let step_weights = STEPS.map(|step| match step {
            Step::Connect => rng.pick(&[10, 40]),
            Step::Act => rng.pick(&[100, 300, 600]),
            Step::Hand => 60,
            Step::Deliver => rng.pick(&[20, 100, 300]),
            Step::Push => rng.pick(&[20, 100, 200]),
            Step::FlushDirty => rng.pick(&[0, 10, 60]),
            Step::FlushSmall => rng.pick(&[0, 10, 60]),
            Step::FlushSlice => rng.pick(&[10, 60, 200]),
            Step::Flush => rng.pick(&[20, 60]),
            Step::Writable => rng.pick(&[20, 100]),
            Step::Read => rng.pick(&[100, 300]),
            Step::Timer => rng.pick(&[2, 20]),
            Step::Vanish => rng.pick(&[0, 0, 2, 10]),
            Step::Break => rng.pick(&[0, 0, 1, 4]),
            Step::Stick => rng.pick(&[0, 0, 2, 10]),
            Step::Reap => 20,
            Step::Drain => rng.pick(&[0, 0, 1, 4]),
            Step::Ping => rng.pick(&[0, 2, 10]),
            Step::Decide => rng.pick(&[4, 20, 100]),
            Step::Api => rng.pick(&[0, 0, 30, 100, 300]),
            Step::Shed => rng.pick(&[0, 0, 2, 10]),
            Step::Inner => rng.pick(&[0, 20, 60]),
            Step::Order => rng.pick(&[0, 20, 60]),
            Step::Meta => rng.pick(&[0, 0, 20, 60]),
            // Decided below.
            Step::Recall => 0,
        });
        // Else there are few callees, and nearly all calls find none.
        let calling = rng.chance(40);
        let act_weights = ACTS.map(|act| match act {
            Act::Subscribe | Act::Publish if calling => rng.pick(&[0, 10]),
            Act::Register if calling => rng.pick(&[15, 40]),
            Act::Unregister if calling => rng.pick(&[0, 0, 3, 15]),
            Act::Call if calling => rng.pick(&[60, 150, 300]),
            Act::Cancel if calling => rng.pick(&[0, 10, 40]),
            Act::Answer if calling => rng.pick(&[20, 60, 200]),
            Act::Subscribe => rng.pick(&[20, 60]),
            Act::Unsubscribe => rng.pick(&[0, 5, 30, 80]),
            Act::Publish => rng.pick(&[4, 20, 60, 150]),
            Act::Register => rng.pick(&[0, 5, 20]),
            Act::Unregister => rng.pick(&[0, 3, 15, 60]),
            Act::Call => rng.pick(&[0, 20, 60]),
            Act::Cancel => rng.pick(&[0, 0, 2, 10, 30]),
            Act::Answer => rng.pick(&[5, 20, 60]),
            Act::Goodbye => rng.pick(&[0, 0, 1]),
            Act::Violate => rng.pick(&[0, 0, 1]),
        });
        // Levels above 1 only take longer.
        let compression = rng.chance(70).then(|| Compression {
            policy: DeflatePolicy { takeover: rng.chance(50), window_bits: rng.pick(&[9, 12, 15]) },
            level: 1,
            threshold_bytes: rng.pick(&[0, 60, 300, 5_000]),
            before_login: true,
        });
        let shards = rng.pick(&[1, 1, 2, 2, 3, 4]);
        // Of its own chance, so that other seeds stay what they are.
        let focus_rng = &mut Rng::new(seed ^ 0xf0c5);
        let focus = Focus::new(focus_rng);
        let drawn = Rules::new(rng);
        let rules = focus.rules(focus_rng).unwrap_or(drawn);
        let (retention, past) = match focus {
            Focus::Everything => (Retention::new(seed, &rules), Past::new(seed)),
            _ => (Retention::NONE, Past::NONE),
        };
        let retention = if past.bounds.is_some() { retention.without_ends() } else { retention };
        let rooms = Rooms::new(rng);
        let queues = Queues::new(rng);
        let on_error = rng.pick(&[OnError::Keep, OnError::Keep, OnError::Keep, OnError::Close]);
        let topics = rules.configured(past.bounds);
        let hooked = rng.chance(40);
        let mut access =
            Access::new(&REALMS.map(|name| names::realm(name, &topics)), seed).expect("the realm is sound");
        if hooked {
            access.set_hooks(&[hook()]);
        }
        let first = access.realm(REALMS[0]).expect("it is there");
        let message_center = MessageCenter::new(first, on_error, center::rules());
        let message_center = message_center.with_queues(None, queues.configured());
        let mut plan = Self {
            seed,
            steps,
            shards,
            realms: if calling { 1 } else { rng.pick(&[1, 1, 2]) },
            clients_max: rng.pick(&[3, 8, 20, 60]),
            echoing: if calling { 0 } else { rng.pick(&[0, 0, 30, 70]) },
            centered: if calling { 0 } else { rng.pick(&[0, 0, 30, 70]) },
            version_1: Rng::new(seed ^ 0x0076_0001).pick(&[0, 0, 0, 20, 60]),
            rooms,
            queues,
            by_ticket: rng.pick(&[0, 50, 100, 100]),
            wrong_ticket: rng.pick(&[0, 10, 50]),
            busy: rng.pick(&[0, 0, 20]),
            topics: rng.pick(&[1, 2, 4, 30]),
            burst: rng.pick(&[1, 3, 12]),
            procedures: rng.pick(&[1, 2, 4]),
            patterns: rng.pick(&[0, 0, 20, 60]),
            limited: rng.pick(&[0, 0, 30, 60]),
            socket_bytes: rng.pick(&[200, 2_000, 20_000, 1_000_000]),
            short_writes: rng.pick(&[0, 5, 30]),
            early_full: rng.pick(&[0, 0, 20]),
            acknowledge: rng.pick(&[0, 30, 100]),
            include_me: rng.pick(&[0, 30, 100]),
            listed: rng.pick(&[0, 10, 60]),
            disclosed: rng.pick(&[0, 30]),
            able: rng.pick(&[0, 50, 80, 100]),
            in_parts: rng.pick(&[0, 0, 30, 70]),
            timed: rng.pick(&[0, 0, 20, 60]),
            shared: rng.pick(&[0, 0, 80, 100]),
            policies: [(); 4].map(|()| rng.pick(&InvokePolicy::ALL)),
            limited_callees: rng.pick(&[0, 0, 0, 100, 50]),
            forced: rng.pick(&[0, 0, 0, 20]),
            passed_on: rng.pick(&[0, 0, 30]),
            meta: rng.pick(&[0, 0, 0, 30, 100]),
            kills: rng.pick(&[0, 5, 30]),
            hushed: rng.chance(25),
            hooked,
            denied: rng.pick(&[0, 20]),
            failed: rng.pick(&[0, 0, 20]),
            unanswered: rng.pick(&[0, 0, 5]),
            sources: rng.pick(&[1, 2, 4]),
            dismissals: rng.pick(&[0, 0, 5]),
            inners: rng.pick(&[0, 1, 3]),
            inner_room: rng.pick(&[1, 4, 1_000]),
            inner_says: rng.pick(&[0, 50]),
            keyed: rng.pick(&[0, 0, 50]),
            told_of_gaps: rng.pick(&[0, 50, 100]),
            rules,
            retention,
            past,
            payload_bytes: rng.pick(&[
                [0; 4],
                [0, 10, 100, 100],
                [0, 100, 5_000, 300],
                [50, 300, 3_000, 70_000],
            ]),
            step_weights,
            act_weights,
            config: Arc::new(CoreConfig {
                access,
                limits: focus.limits(limits(&retention, &past, rng)),
                compression,
                agent: String::new(),
                message_center,
                echo: rooms.configured(first),
                wamp1: wamp1::configured(first),
                handlers: Vec::new(),
            }),
        };
        focus.apply(&mut plan, focus_rng);
        if past.bounds.is_some() {
            plan.step_weights[STEPS.len() - 1] = RECALLS;
        }
        plan
    }
}

/// It is asked about everything that a hook can be asked about, but for some topics only.
fn hook() -> HookRule {
    HookRule {
        hook: HookId::new(0),
        events: vec![
            HookEvent::Authenticate,
            HookEvent::Connect,
            HookEvent::Subscribe,
            HookEvent::Publish,
            HookEvent::Message,
            HookEvent::Rpc,
            HookEvent::Disconnect,
        ],
        realms: Vec::new(),
        uri: names::HOOKED_PREFIX.to_owned(),
        match_policy: MatchPolicy::Prefix,
        payload: false,
        scope: Default::default(),
    }
}

/// The permissions' word on who publishes to a topic or calls a procedure. Names are numbers.
pub fn disclosure(name: u8) -> Disclosure {
    match name & !REALM_BIT {
        name if name % 4 == 1 => Disclosure::Always,
        name if name % 4 == 3 => Disclosure::Never,
        _ => Disclosure::OnRequest,
    }
}

fn limits(retention: &Retention, past: &Past, rng: &mut Rng) -> Limits {
    let defaults = Limits::default();
    let tight = rng.chance(50);
    let small_stream_members = rng.pick(&[0, 1, 3, defaults.small_stream_members]);
    let pause_max = Duration::from_millis(rng.pick(&[1, 1, 5, 5_000]));
    let mut or_default = |small: &[usize], default: usize| {
        if tight && rng.chance(50) { rng.pick(small) } else { default }
    };
    let stream_congested_bytes = or_default(&[100, 1_000, 8_000], defaults.stream_congested_bytes);
    let ring_capacity = or_default(&[2, 3, 4, 8], 64);
    let ring_bytes_max = or_default(&[1, 100, 1_000], defaults.ring_bytes_max);
    Limits {
        ring_bytes_max,
        outbox_bytes_max: or_default(&[300, 3_000, 30_000], defaults.outbox_bytes_max),
        outbox_messages_max: or_default(&[2, 10, 100], defaults.outbox_messages_max as usize) as u32,
        outbox_age_max: Duration::from_millis(or_default(&[5, 50, 1_000], 10_000) as u64),
        reply_reserve_bytes: or_default(&[500, 4_000], defaults.reply_reserve_bytes),
        subscriptions_max: or_default(&[1, 2, 4], defaults.subscriptions_max),
        registrations_max: or_default(&[1, 2], defaults.registrations_max),
        patterns_per_session: or_default(&[1, 3], defaults.patterns_per_session),
        patterns_per_realm: or_default(&[1, 4], defaults.patterns_per_realm),
        retention: retention.limits.unwrap_or(defaults.retention),
        history: past.limits.unwrap_or(defaults.history),
        cookie_bytes_max: defaults.cookie_bytes_max,
        testaments: defaults.testaments,
        calls_max: or_default(&[1, 2, 4], defaults.calls_max),
        invocations_max: or_default(&[1, 3, 8], defaults.invocations_max),
        stream_congested_bytes,
        stream_bytes_max: or_default(
            &[2 * stream_congested_bytes, 16 * stream_congested_bytes],
            defaults.stream_bytes_max,
        ),
        small_stream_members,
        park_max: Duration::from_millis(or_default(&[1, 20], 100) as u64),
        pause_max,
        park_congested_max: Duration::from_millis(or_default(&[1, 20], 1_000) as u64),
        question_max: Duration::from_millis(or_default(&[5, 50], 1_000) as u64),
        ring_capacity,
        topic_cache_entries: or_default(&[1, 8], 64),
    }
}

/// The weight of looks into histories, where there are any.
const RECALLS: u32 = 6;
