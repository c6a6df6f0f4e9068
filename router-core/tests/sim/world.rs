//! The world: shards of the real core, rings, sockets, clients and a clock, in one thread. One seed decides each step.
//!
//! What a shard's turn does in one go, is here many steps in any order, with other shards' and clients' steps between.

mod api;
mod arrivals;
mod ends;
mod inner;
mod meta;
mod orders;
mod past;
mod questions;
mod rest;
mod wamp1;

use super::{
    center,
    check::{Jury, Verdict, accounting},
    client::Client,
    coverage::Coverage,
    echo,
    history::{ClientId, End, Event, Op, Person, Protocol, Seen},
    plan::{ACTS, Act, Plan, STEPS, Step},
    rng::Rng,
    speech,
    wire::Sockets,
};
use api::Sources;
use bytes::BytesMut;
use fanwire_codec::ws::{Control, Kind, write_control};
use fanwire_core::message_center::OnError;
use fanwire_core::{
    DropReason, Effect, Flow, FlushBudget, Instant, Outlet, RingItem, RingSpace, Shard, directory::Directory,
    ids::ShardId,
};
use inner::Inner;
use questions::Asked;
use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use wamp1::Unanswered;

pub struct World {
    pub plan: Plan,
    rng: Rng,
    now: Instant,
    directory: Arc<Directory>,
    homes: Vec<Home>,
    /// From, to.
    rings: Vec<Vec<VecDeque<Cargo>>>,
    clients: Vec<Client>,
    /// What is to be decided, and some that is.
    questions: Vec<Asked>,
    /// Until then the deadline of a call goes on that a hook never answers.
    unanswered_until: Option<Instant>,
    /// Clients with a connection, in no order.
    live: Vec<ClientId>,
    /// Who was welcomed of late, there still or not.
    people: VecDeque<Person>,
    api: Sources,
    desk: meta::Desk,
    inners: Vec<Inner>,
    jury: Jury,
    hash: DefaultHasher,
    pub log: Vec<Event>,
    pub steps_done: usize,
    /// Things that happened, to see whether a settling world still moves.
    moves: u64,
    /// A planted bug of the harness: publications go by way of the shard that owns their topic.
    pub route_by_topic_owner: bool,
}

/// What lies in a ring.
enum Cargo {
    Direct(RingItem),
    /// On its way to the shard that owns its topic; from there it goes on, as if it came from `from`.
    Relayed {
        from: usize,
        to: usize,
        item: RingItem,
    },
    Forwarded {
        from: usize,
        item: RingItem,
    },
}

impl Cargo {
    fn item(&self) -> &RingItem {
        match self {
            Self::Direct(item) | Self::Relayed { item, .. } | Self::Forwarded { item, .. } => item,
        }
    }
}

fn bytes_queued(ring: &VecDeque<Cargo>) -> usize {
    ring.iter().map(|cargo| cargo.item().bytes()).sum()
}

/// One shard with what its driver keeps.
struct Home {
    shard: Shard,
    sockets: Sockets,
    /// Who is connected, by outlet.
    tenants: Vec<Option<ClientId>>,
    /// Outlets that can be used again, the last one first.
    free: Vec<Outlet>,
    /// Outlets whose connection is no more, until the end of the turn.
    dead: Vec<Outlet>,
    /// Outlets to which everything was said.
    finished: Vec<Outlet>,
}

#[cfg(feature = "mutations")]
fn topic_owner(item: &RingItem, shards: usize) -> Option<usize> {
    item.subscription().map(|subscription| subscription as usize % shards)
}

#[cfg(not(feature = "mutations"))]
fn topic_owner(_: &RingItem, _: usize) -> Option<usize> {
    None
}

fn shard_id(index: usize) -> ShardId {
    ShardId::new(index as u8).expect("a plan has few shards")
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let shards = plan.shards;
        let mut rng = Rng::new(plan.seed ^ 0x5eed);
        let jury = Jury::new(plan.rules.clone(), plan.queues, plan.past);
        let directory = Arc::new(Directory::new(rng.next()));
        let homes = (0..plan.shards)
            .map(|index| {
                let mut random = Rng::new(rng.next());
                let shard = Shard::new(
                    Arc::clone(&plan.config),
                    shard_id(index),
                    plan.shards as u8,
                    Arc::clone(&directory),
                    Box::new(move || random.next()),
                );
                let sockets = Sockets::new(rng.next(), plan.socket_bytes, plan.short_writes);
                Home {
                    shard,
                    sockets,
                    tenants: Vec::new(),
                    free: Vec::new(),
                    dead: Vec::new(),
                    finished: Vec::new(),
                }
            })
            .collect();
        let rings = (0..plan.shards).map(|_| (0..plan.shards).map(|_| VecDeque::new()).collect()).collect();
        Self {
            plan,
            rng,
            now: Instant::START,
            directory,
            homes,
            rings,
            clients: Vec::new(),
            questions: Vec::new(),
            unanswered_until: None,
            live: Vec::new(),
            people: VecDeque::new(),
            api: Sources::new(shards),
            desk: meta::Desk::default(),
            inners: Vec::new(),
            jury,
            hash: DefaultHasher::new(),
            log: Vec::new(),
            steps_done: 0,
            moves: 0,
            route_by_topic_owner: false,
        }
    }

    /// All steps, rest, everybody's leaving, rest. Returns the trace hash.
    pub fn run(&mut self) -> Result<u64, String> {
        self.jury.facts.hooked = self.plan.hooked;
        self.jury.facts.payload_max = self.plan.payload_bytes.into_iter().max().unwrap_or_default();
        self.jury.facts.retention_is_small = self.plan.retention.limits.is_some();
        self.jury.facts.errors_close = self.plan.config.message_center.on_error == OnError::Close;
        self.jury.facts.rooms_are_named = self.plan.rooms.named;
        self.introduce_sources()?;
        self.introduce_inners()?;
        for _ in 0..self.plan.steps {
            let step = STEPS[self.rng.weighted(&self.plan.step_weights)];
            self.step(step)?;
            self.steps_done += 1;
        }
        if self.plan.hushed {
            self.hush()?;
        }
        self.settle()?;
        self.jury.facts.losses = self.losses();
        (self.jury.facts.shed, self.jury.facts.shed_for_room) = self.shed();
        self.jury.facts.parked = self.homes.iter().map(|home| home.shard.counters().parked).sum();
        self.jury.settled()?;
        if self.plan.past.bounds.is_some() {
            self.recall_all(0)?;
        }
        accounting::no_claims(&self.directory)?;
        self.everybody_leaves()?;
        self.jury.over()?;
        Ok(self.trace())
    }

    /// What this run met.
    pub fn coverage(&self) -> Coverage {
        Coverage::of(&self.log, self.homes.iter().map(|home| home.shard.counters()))
    }

    fn trace(&self) -> u64 {
        let mut hash = self.hash.clone();
        for home in &self.homes {
            home.sockets.trace().hash(&mut hash);
        }
        hash.finish()
    }

    fn losses(&self) -> u64 {
        self.homes.iter().map(|home| accounting::losses(home.shard.counters())).sum()
    }

    /// Events that were dropped so that others can come, and those of them that no newer one replaced.
    fn shed(&self) -> (u64, u64) {
        let count = |reason| {
            let dropped = self.homes.iter().map(|home| home.shard.counters().dropped[reason as usize]);
            dropped.sum::<u64>()
        };
        let for_room = count(DropReason::DropOldest) + count(DropReason::DropNewest);
        (for_room + count(DropReason::Conflated), for_room)
    }

    fn tell(&mut self, event: Event) -> Verdict {
        event.hash(&mut self.hash);
        self.jury.facts.losses = self.losses();
        self.jury.facts.now = self.now;
        self.moves += 1;
        let verdict = self.jury.observe(&event);
        self.log.push(event);
        verdict
    }

    // --- steps -------------------------------------------------------------------------------------------------

    fn step(&mut self, step: Step) -> Verdict {
        self.now = self.now + Duration::from_nanos(self.rng.below(20_000) as u64);
        let at = self.rng.below(self.plan.shards);
        match step {
            Step::Connect => self.connect(at)?,
            Step::Act => self.act()?,
            Step::Hand => {
                if let Some(client) = self.someone() {
                    self.hand(client, 4)?;
                }
            }
            Step::Deliver => {
                let (from, count) = (self.rng.below(self.plan.shards), 1 + self.rng.below(4));
                self.deliver(from, at, count);
            }
            Step::Push => self.push(at)?,
            Step::FlushDirty => {
                let home = &mut self.homes[at];
                home.shard.flush_dirty(self.now, &mut home.sockets);
            }
            Step::FlushSmall => {
                let budget =
                    FlushBudget { small_sends: 1 + self.rng.below(4), slice_sends: 1 + self.rng.below(6) };
                let home = &mut self.homes[at];
                home.shard.flush_small(self.now, &mut home.sockets, &budget);
            }
            Step::FlushSlice => {
                let sends = 1 + self.rng.below(3);
                let home = &mut self.homes[at];
                home.shard.flush_slice(self.now, &mut home.sockets, sends);
            }
            Step::Flush => {
                let budget =
                    FlushBudget { small_sends: self.rng.below(8), slice_sends: 1 + self.rng.below(4) };
                let home = &mut self.homes[at];
                home.shard.flush(self.now, &mut home.sockets, &budget);
            }
            Step::Writable => {
                if let Some(client) = self.someone() {
                    self.writable(client);
                }
            }
            Step::Read => {
                let count = 1 + self.rng.below(6);
                if let Some(client) = self.someone()
                    && !self.clients[client.0 as usize].stuck
                {
                    self.read(client, count)?;
                }
            }
            Step::Timer => {
                let nanos = self.rng.pick(&[1_000, 1_000_000, 10_000_000, 60_000_000]) as usize;
                self.now = self.now + Duration::from_nanos(self.rng.below(nanos) as u64);
                self.fire(at)?;
            }
            Step::Vanish => {
                if let Some(client) = self.someone() {
                    self.vanish(client)?;
                }
            }
            Step::Break => {
                if let Some(client) = self.someone() {
                    let Client { shard, outlet, .. } = self.clients[client.0 as usize];
                    self.homes[shard].sockets.break_off(outlet);
                    self.ended(client, End::Broken)?;
                }
            }
            Step::Stick => {
                if let Some(client) = self.someone() {
                    let stuck = &mut self.clients[client.0 as usize].stuck;
                    *stuck = !*stuck;
                }
            }
            Step::Reap => self.reap(at)?,
            Step::Drain => {
                if let Some(client) = self.someone() {
                    self.drain(client)?;
                }
            }
            Step::Decide => self.decide()?,
            Step::Api => self.api(at)?,
            Step::Shed => self.run_short(at)?,
            Step::Inner => self.inner()?,
            Step::Order => self.order()?,
            Step::Recall => self.recall()?,
            Step::Meta => {
                self.meta(at)?;
                self.hand_requests(0, 4)?;
            }
            Step::Ping => {
                if let Some(client) = self.someone() {
                    let Client { shard, outlet, .. } = self.clients[client.0 as usize];
                    let mut frame = BytesMut::new();
                    write_control(&mut frame, Control::Ping, b"sim");
                    if !self.clients[client.0 as usize].deaf {
                        self.homes[shard].shard.push(self.now, outlet, &frame);
                    }
                }
            }
        }
        self.obey()
    }

    /// After each step: effects, what sockets found wrong, the books.
    fn obey(&mut self) -> Verdict {
        self.hear_inners()?;
        self.hear_answers()?;
        for at in 0..self.homes.len() {
            self.take_questions(at, None)?;
            let effects: Vec<Effect> = self.homes[at].shard.effects().collect();
            for effect in effects {
                self.moves += 1;
                match effect {
                    Effect::Resume(outlet) => {
                        if let Some(client) = self.homes[at].tenants[outlet.index()] {
                            self.clients[client.0 as usize].paused = false;
                        }
                    }
                    Effect::Established(_) | Effect::Dismissed(_) => {}
                    Effect::Finished(outlet) => self.homes[at].finished.push(outlet),
                    Effect::Abort(outlet, _) => {
                        if let Some(client) = self.homes[at].tenants[outlet.index()] {
                            self.gone(client, End::Cut)?;
                        }
                    }
                }
            }
            let home = &self.homes[at];
            if let Some(fault) = &home.sockets.fault {
                return Err(fault.clone());
            }
            accounting::step(at, home.shard.counters(), &home.sockets, self.heard_on(at))?;
        }
        accounting::retained(&self.directory, &self.plan.config.limits.retention)?;
        accounting::past(&self.directory, &self.plan.config.limits.history)
    }

    fn someone(&mut self) -> Option<ClientId> {
        (!self.live.is_empty()).then(|| self.live[self.rng.below(self.live.len())])
    }

    fn act(&mut self) -> Verdict {
        let Some(client) = self.someone() else { return Ok(()) };
        for _ in 0..1 + self.rng.below(self.plan.burst) {
            let mut act = ACTS[self.rng.weighted(&self.plan.act_weights)];
            let state = &mut self.clients[client.0 as usize];
            if act == Act::Call && state.has_invocations() && self.rng.chance(30) {
                act = Act::Answer;
            }
            state.act(act, &self.plan, self.people.make_contiguous(), &mut self.rng);
        }
        if self.rng.chance(70) {
            let count = 1 + self.rng.below(2 * self.plan.burst);
            self.hand(client, count)?;
        }
        Ok(())
    }

    /// The shard is given what the client wrote, until it wants no more.
    fn hand(&mut self, client: ClientId, count: usize) -> Verdict {
        for _ in 0..count {
            let state = &mut self.clients[client.0 as usize];
            if state.wants_out {
                return self.vanish(client);
            }
            if state.must_answer_goodbye {
                state.answer_goodbye();
            }
            if !state.can_hand() {
                return Ok(());
            }
            let (op, padding) = state.pipeline.pop_front().expect("can_hand looked");
            let (at, outlet, serializer) = (state.shard, state.outlet, state.serializer);
            state.said_goodbye |= op == Op::Goodbye;
            let request = questions::request_of(&op);
            let unanswered = Unanswered::of(state.protocol, &op);
            let message = match (state.protocol, &op) {
                (Protocol::Wamp1, op) => state.version_1.speak(client, op, padding),
                (Protocol::Center, op) => center::speak(client, op).map(|bytes| (Kind::Text, bytes)),
                (Protocol::Echo, Op::Publish { tag, .. }) => Some(echo::say(tag, padding)),
                (Protocol::Echo | Protocol::Api, _) => None,
                (Protocol::Wamp, op) => {
                    Some((speech::kind(serializer), speech::speak(client, serializer, op, padding)))
                }
            };
            self.homes[at].sockets.said(outlet, &op);
            self.tell(Event::Did { client, op })?;
            let Some((kind, mut bytes)) = message else { continue };
            if self.rng.chance(80) {
                self.show_ring_space(at);
            }
            let refused = self.homes[at].shard.counters().requests_refused;
            let flow = self.homes[at].shard.receive(self.now, outlet, kind, &mut bytes);
            self.take_questions(at, Some((client, request)))?;
            if let Some(unanswered) = unanswered {
                self.was_given(client, unanswered, refused)?;
            }
            let state = &mut self.clients[client.0 as usize];
            match flow {
                Flow::Continue => {}
                Flow::Pause => state.paused = true,
                Flow::Closing => state.deaf = true,
            }
        }
        Ok(())
    }

    fn show_ring_space(&mut self, at: usize) {
        for to in (0..self.plan.shards).filter(|to| *to != at) {
            let ring = &self.rings[at][to];
            let slots = self.plan.config.limits.ring_capacity.saturating_sub(ring.len());
            let space = RingSpace { slots, bytes_queued: bytes_queued(ring) };
            self.homes[at].shard.set_ring_space(shard_id(to), space);
        }
    }

    /// No ring takes data while it holds so many bytes.
    fn push(&mut self, at: usize) -> Verdict {
        self.show_ring_space(at);
        if self.rng.chance(70) {
            self.homes[at].shard.retry_parked(self.now);
        }
        let limits = &self.plan.config.limits;
        let (capacity, bytes_max) = (limits.ring_capacity, limits.ring_bytes_max);
        let mut overfull = Ok(());
        let by_owner = self.route_by_topic_owner;
        let Self { rings, rng, plan, moves, homes, .. } = self;
        homes[at].shard.push_items(&mut |to, item| {
            let to = to.index();
            let owner = if by_owner { topic_owner(&item, plan.shards).unwrap_or(to) } else { to };
            let detour = owner != to && owner != at;
            let ring = &mut rings[at][if detour { owner } else { to }];
            if ring.len() >= capacity || rng.chance(plan.early_full) {
                return Err(item);
            }
            if !item.is_answer() && bytes_queued(ring) >= bytes_max {
                overfull = Err(format!(
                    "data goes from shard {at} into a ring that holds {bytes_max} bytes or more"
                ));
            }
            *moves += 1;
            ring.push_back(if detour { Cargo::Relayed { from: at, to, item } } else { Cargo::Direct(item) });
            Ok(())
        });
        overfull
    }

    fn deliver(&mut self, from: usize, to: usize, count: usize) {
        for _ in 0..count {
            let Some(cargo) = self.rings[from][to].pop_front() else { return };
            self.moves += 1;
            let (from, item) = match cargo {
                Cargo::Direct(item) => (from, item),
                Cargo::Forwarded { from, item } => (from, item),
                Cargo::Relayed { from, to: further, item } => {
                    self.rings[to][further].push_back(Cargo::Forwarded { from, item });
                    continue;
                }
            };
            self.homes[to].shard.handle_item(self.now, shard_id(from), item);
        }
    }

    fn writable(&mut self, client: ClientId) {
        let Client { shard, outlet, .. } = self.clients[client.0 as usize];
        let home = &mut self.homes[shard];
        if home.sockets.take_writable(outlet) {
            self.moves += 1;
            home.shard.writable(outlet);
        }
    }

    fn read(&mut self, client: ClientId, count: usize) -> Verdict {
        for _ in 0..count {
            let Client { shard, outlet, .. } = self.clients[client.0 as usize];
            let Some(seen) = self.homes[shard].sockets.read(outlet) else { return Ok(()) };
            self.clients[client.0 as usize].saw(&seen);
            // Nobody knows the session of who is at the message center.
            if let Seen::Welcome(person) = &seen
                && matches!(self.clients[client.0 as usize].protocol, Protocol::Wamp | Protocol::Wamp1)
            {
                self.people.push_back(person.clone());
                if self.people.len() > self.plan.clients_max * 3 / 2 {
                    self.people.pop_front();
                }
            }
            self.tell(Event::Saw { client, seen })?;
        }
        Ok(())
    }

    fn fire(&mut self, at: usize) -> Verdict {
        let mut is_told = false;
        let is_due = self.homes[at].shard.next_deadline().is_some_and(|deadline| deadline <= self.now);
        if is_due || self.rng.chance(5) {
            self.questions_are_given_up(at)?;
            let (shard, now) = (&mut self.homes[at].shard, self.now);
            shard.handle_timeout(now);
            is_told = true;
            let is_due = |shard: &Shard| shard.next_deadline().is_some_and(|deadline| deadline <= now);
            // Of what is kept, each turn says so much and no more.
            let mut turns = 0;
            while is_due(shard) && shard.replays() > 0 && turns < TURNS_MAX {
                shard.handle_timeout(now);
                turns += 1;
            }
            if is_due(shard) {
                return Err(format!(
                    "shard {at} asks for a timeout that it has just had: its driver would spin"
                ));
            }
        }
        if is_told {
            self.hear_answers()?;
            self.calls_are_given_up(at)?;
        }
        Ok(())
    }

    /// Memory is short: the largest outboxes go, no more of them than was asked for.
    fn run_short(&mut self, at: usize) -> Verdict {
        let asked = self.rng.pick(&[1, 500, 5_000, usize::MAX]);
        let shard = &mut self.homes[at].shard;
        let mut largest: Vec<(Outlet, usize)> = shard.backlogs().collect();
        largest.sort_by_key(|(outlet, bytes)| (std::cmp::Reverse(*bytes), outlet.0));
        let freed = shard.shed(self.now, asked);
        let mut due = 0;
        for (outlet, bytes) in largest {
            if due >= asked {
                break;
            }
            due += bytes.max(1);
            // Others may go too: who moves into the place of one that goes is given what it is due, which may be too much.
            if shard.backlogs().any(|(left, _)| left == outlet) {
                return Err(format!("shard {at} kept an outbox of {bytes} bytes, and was asked for {asked}"));
            }
        }
        if freed != due {
            return Err(format!(
                "shard {at} gave up {freed} bytes where {due} were due, of {asked} asked for"
            ));
        }
        Ok(())
    }

    fn drain(&mut self, client: ClientId) -> Verdict {
        let Client { shard, outlet, joined, .. } = self.clients[client.0 as usize];
        self.tell(Event::Draining { client })?;
        let shard = &mut self.homes[shard].shard;
        match self.rng.below(if joined { 10 } else { 4 }) {
            0 => shard.close(self.now, outlet, 1001, "the drain time is over"),
            1 => shard.violate(self.now, outlet, 1002, "the frame has a reserved bit"),
            _ => shard.shut_down(self.now, outlet),
        }
        Ok(())
    }

    /// What a person needs to understand a failure.
    pub fn last_words(&self, lines: usize) -> String {
        let from = self.log.len().saturating_sub(lines);
        self.log[from..].iter().map(|event| format!("  {event:?}\n")).collect()
    }
}

/// In so many turns a shard has said all that is kept, as far as connections have room.
const TURNS_MAX: usize = 1_000;
