//! One shard: the loop that moves bytes for a [`Service`].
//!
//! ```text
//! rings, mailbox ─▶ epoll_wait(0) ─▶ timers, waiting handshakes ─▶ accept ─▶ receive and route ─▶ push items ─▶ flush ─▶ bury
//!       ▲                                                                                                             │
//!       └──────────── busy: at once, breathing every 32 turns; idle: asleep ◀─────────────────────────────────────────┘
//! ```
//!
//! One turn takes a bounded piece of each kind of work, so no peer, no ring and no broadcast holds up the others
//! (DESIGN §4.5; `fanout.md` §7 has the measurements). All descriptors of the shard are in one edge-triggered epoll set:
//! what was not read until empty stays in the ready list, for no second edge will tell of it.
//!
//! The turn is plain code without a runtime; only [`run`] knows that something has to wait between two turns.
//!
//! Read first: [`Shard::turn`], then [`input`] for a receive, [`ending`] for how connections end.

mod accept;
mod arrivals;
mod deadlines;
mod drain;
mod ending;
mod handshakes;
mod http;
mod input;
mod longpoll;
mod memory;
mod polls;
mod rawsocket;
mod ready;
mod renewal;
mod sharing;
mod spin;
mod talk;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;
mod unread;
mod wire;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::BytesMut;
use crossbeam_queue::ArrayQueue;
use fanwire_codec::ws::Pool;
use fanwire_core::api::{ApiRequest, Readiness};
use fanwire_core::ids::ShardId;
use fanwire_core::question::Verdict;
use fanwire_core::{Instant, Outlet, RingSpace};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::addresses::Address;
use crate::clock;
use crate::config::Config;
use crate::counters::ShardCounters;
use crate::doorbell::{Bell, Doorbell};
use crate::handover::peer;
use crate::listen::Listening;
use crate::park::Park;
use crate::posts::Posts;
use crate::pressure::Pressure;
use crate::ring::Ring;
use crate::service::{Effect, Service};
use crate::slots::{CloseReason, Slots, Stage, flag};
use crate::timers::Wheel;

use accept::Acceptor;
pub(crate) use arrivals::Spread;
use drain::Drain;
use memory::Memory;
use polls::Polls;
use ready::Ready;
pub(crate) use renewal::Settings;
use sharing::Sharing;
use spin::Spin;
use throttle::Throttle;
use tls::Tls;

/// What wakes a shard in the program.
pub(crate) struct EventFd(pub(crate) OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }
}

impl Bell for EventFd {
    fn signal(&self) {
        // Can only fail when 2^64 - 2 signals were not read; the set is edge-triggered, so nobody reads them, and the
        // process will not live that long.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// An order of the control thread.
pub(crate) enum Order {
    /// Say goodbye to everybody and end.
    Drain,
    /// End now.
    Stop,
    /// Go on with other settings.
    Renew(Box<Settings>),
}

/// What the control thread has said and the shard has not read yet. Apart, so that verdicts never crowd out an order.
pub(crate) struct Mailbox {
    pub(crate) orders: ArrayQueue<Order>,
    pub(crate) verdicts: ArrayQueue<Verdict>,
    /// Boxed, so that an empty queue is small.
    pub(crate) requests: ArrayQueue<Box<ApiRequest>>,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self {
            orders: ArrayQueue::new(MAILBOX_ORDERS),
            verdicts: ArrayQueue::new(MAILBOX_VERDICTS),
            requests: ArrayQueue::new(MAILBOX_REQUESTS),
        }
    }

    /// Whether there is something to do. `later`: requests must wait for others.
    fn is_empty(&self, later: bool) -> bool {
        self.orders.is_empty() && self.verdicts.is_empty() && (later || self.requests.is_empty())
    }
}

/// What a shard shares with others.
pub(crate) struct Links<T> {
    /// By producer.
    pub(crate) inbound: Vec<Ring<T>>,
    /// By consumer.
    pub(crate) outbound: Vec<Ring<T>>,
    /// Of all shards.
    pub(crate) doorbells: Arc<[Doorbell<EventFd>]>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) spread: Arc<Spread>,
    pub(crate) posts: Arc<Posts>,
    /// Other shards that share this one's CPU.
    pub(crate) beside: Vec<usize>,
    pub(crate) pressure: Arc<Pressure>,
}

/// What follows a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// More to do.
    Busy,
    /// Nothing to do until something happens.
    Idle,
    /// The shard has ended.
    Done,
}

/// The state of one shard's loop.
pub(crate) struct Shard<S: Service> {
    id: ShardId,
    config: Arc<Config>,
    service: S,
    links: Links<S::Item>,
    slots: Slots,
    wheel: Wheel,
    pool: Pool,
    tls: Tls,
    polls: Polls,
    acceptor: Acceptor,
    drain: Option<Drain>,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// What the timerfd is set to.
    timer_at: Option<Instant>,
    /// Connections that may have unread input, each once.
    ready: Ready,
    /// Connections in [`Stage::Dead`].
    dying: Vec<u32>,
    /// The time of the present turn.
    now: Instant,
    /// The ring that is drained first in the next turn.
    first_ring: usize,
    spin: Spin,
    sharing: Sharing,
    memory: Memory,
    throttle: Option<Box<Throttle>>,
    /// By slot, where connections are counted by address.
    addresses: HashMap<u32, Address>,
    /// This turn found something to do.
    worked: bool,
    /// Turns since the service's counters were copied.
    unpublished_turns: u32,
    /// All receives go here.
    scratch: Vec<u8>,
    /// For what the loop itself says: pongs, handshakes, HTTP responses.
    frame: BytesMut,
    events: Vec<epoll::Event>,
    effects: Vec<Effect>,
    due: Vec<u32>,
    broken: Vec<u32>,
    touched: Vec<bool>,
}

impl<S: Service> Shard<S> {
    /// A shard that accepts from `listeners`. To be called on its thread.
    pub(crate) fn new(
        id: ShardId,
        config: Arc<Config>,
        service: S,
        links: Links<S::Item>,
        listeners: Vec<Listening>,
    ) -> io::Result<Self> {
        let now = clock::now();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        // Neither is ever read: each new signal is a new edge.
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TOKEN_TIMER), edge)?;
        let doorbell = &links.doorbells[usize::from(id.get())];
        epoll::add(&epoll, &doorbell.bell().0, epoll::EventData::new_u64(TOKEN_DOORBELL), edge)?;
        for (token, listener) in (TOKEN_LISTENERS..).zip(&listeners) {
            epoll::add(&epoll, &listener.socket, epoll::EventData::new_u64(token), edge)?;
        }
        Ok(Self {
            id,
            service,
            slots: Slots::new(),
            wheel: Wheel::new(now),
            pool: Pool::default(),
            tls: Tls::new(config.tls_handshakes_max),
            polls: Polls::default(),
            acceptor: Acceptor::new(listeners)?,
            drain: None,
            epoll,
            timer,
            timer_at: None,
            ready: Ready::new(),
            memory: Memory::default(),
            throttle: Throttle::new(&config),
            addresses: HashMap::new(),
            dying: Vec::new(),
            now,
            first_ring: 0,
            spin: Spin::new(config.spin, now),
            sharing: Sharing::new(links.beside.len()),
            worked: false,
            unpublished_turns: 0,
            scratch: vec![0; SCRATCH_BYTES],
            frame: BytesMut::with_capacity(FRAME_BYTES),
            events: Vec::with_capacity(EVENTS_PER_TURN),
            effects: Vec::new(),
            due: Vec::new(),
            broken: Vec::new(),
            touched: vec![false; links.outbound.len()],
            links,
            config,
        })
    }

    /// One pass of the loop. Never waits.
    pub(crate) fn turn(&mut self) -> After {
        let began = clock::now();
        self.now = began;
        self.offer_ring_space();
        self.service.begin_turn(self.now);
        let mut busy = self.drain_rings();
        busy |= self.handle_verdicts();
        if self.obey_orders() {
            self.end();
            return After::Done;
        }
        busy |= self.handle_requests();
        // Before the deadlines: what came while this thread had no time is no silence.
        busy |= self.harvest();
        self.handle_deadlines();
        busy |= self.relieve_memory();
        busy |= self.take_arrivals();
        busy |= self.take_posts();
        busy |= self.accept();
        self.receive();
        self.act_on_effects();
        self.push_items();
        busy |= self.flush();
        // What the flush finished or broke may free others' input and has to be told to other shards.
        busy |= self.act_on_effects();
        busy |= self.bury();
        busy |= !self.ready.is_empty();
        let ended = clock::now();
        self.links.counters.turn(ended.since(began));
        if std::mem::take(&mut self.worked) || busy {
            self.spin.worked(began, ended);
        }
        if self.frame.capacity() > FRAME_BYTES_KEPT {
            self.frame = BytesMut::with_capacity(FRAME_BYTES);
        }
        self.unpublished_turns += 1;
        if self.unpublished_turns >= TURNS_BETWEEN_PUBLISHING {
            self.publish_counters();
        }
        if self.drain_ended() {
            self.end();
            return After::Done;
        }
        if busy { After::Busy } else { After::Idle }
    }

    /// Between two turns: lets the shards that share this CPU have theirs, if there are any and they are awake.
    pub(crate) fn give_way(&mut self) {
        let Self { sharing, links: Links { beside, doorbells, .. }, .. } = self;
        if sharing.gives_way(|| beside.iter().any(|shard| !doorbells[*shard].is_parked())) {
            let before = clock::now();
            rustix::thread::sched_yield();
            sharing.gave_way(clock::now().since(before));
        }
    }

    /// Before sleep: looks for something to do as long as that pays. True = there is something. Not longer than
    /// [`Config::spin`], nor past a deadline.
    pub(crate) fn look_on(&mut self) -> bool {
        let Some(mut until) = self.spin.idle_until() else { return false };
        if let Some(deadline) = self.next_deadline() {
            until = until.min(deadline);
        }
        self.publish_counters();
        loop {
            self.harvest();
            if self.worked || self.has_mail() {
                self.links.counters.spins_paid.add(1);
                return true;
            }
            if clock::now() >= until {
                self.links.counters.spins_vain.add(1);
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Whether another thread has left something for this one.
    fn has_mail(&self) -> bool {
        let Links { inbound, mailbox, spread, posts, .. } = &self.links;
        let own = usize::from(self.id.get());
        !mailbox.is_empty(self.service.readiness() == Readiness::Later)
            || spread.has_arrivals(own)
            || !posts.is_empty(own)
            || self.has_memory_news()
            || inbound.iter().any(|ring| !ring.is_empty())
    }

    /// Prepares to sleep: the timer is set, the doorbell knows. False = something came in meanwhile.
    #[must_use]
    pub(crate) fn may_sleep(&mut self) -> bool {
        self.publish_counters();
        if let Some(at) = self.next_deadline() {
            let now = clock::now();
            if at <= now {
                return false;
            }
            self.set_timer(now, at);
        }
        let sleep = self.links.doorbells[usize::from(self.id.get())].park(|| self.has_mail());
        if sleep {
            self.links.counters.parks.add(1);
        }
        sleep
    }

    /// Awake again.
    pub(crate) fn woke(&self) {
        self.links.doorbells[usize::from(self.id.get())].unpark();
    }

    /// The set that [`Park`] waits for.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    fn offer_ring_space(&mut self) {
        for (to, ring) in self.links.outbound.iter().enumerate() {
            if to != usize::from(self.id.get()) {
                let space = RingSpace { slots: ring.free(), bytes_queued: ring.bytes() };
                self.service.set_ring_space(shard_id(to), space);
            }
        }
    }

    /// Items of the other shards, a budget from each, beginning with another one each turn. True = some are left.
    fn drain_rings(&mut self) -> bool {
        let count = self.links.inbound.len();
        let budget = self.config.turn.ring_items;
        let counters = &self.links.counters;
        let mut left = false;
        let mut taken = 0;
        self.first_ring = (self.first_ring + 1) % count;
        for step in 0..count {
            let from = (self.first_ring + step) % count;
            let ring = &self.links.inbound[from];
            if ring.is_empty() {
                continue;
            }
            counters.ring_depth_max.raise(ring.len() as u64);
            let mut rest = budget;
            let mut bytes = 0;
            while rest > 0
                && self.service.takes_items()
                && let Some(item) = ring.pop()
            {
                bytes += S::item_bytes(&item);
                self.service.handle_item(self.now, shard_id(from), item);
                rest -= 1;
            }
            ring.remove_bytes(bytes);
            taken += u64::from(budget - rest);
            left |= rest == 0 || !self.service.takes_items();
        }
        if taken > 0 {
            counters.ring_items_in.add(taken);
            self.worked = true;
        }
        left
    }

    /// What was decided on questions. True = there is more to do at once.
    fn handle_verdicts(&mut self) -> bool {
        for _ in 0..VERDICTS_PER_TURN {
            let Some(verdict) = self.links.mailbox.verdicts.pop() else { return false };
            self.service.handle_verdict(self.now, verdict);
        }
        true
    }

    /// What the control thread wants. True = end now.
    fn obey_orders(&mut self) -> bool {
        while let Some(order) = self.links.mailbox.orders.pop() {
            match order {
                Order::Drain => self.start_draining(),
                Order::Renew(settings) => self.renew(*settings),
                Order::Stop => {
                    self.stop();
                    return true;
                }
            }
        }
        false
    }

    /// Requests of the control thread, as many as the service takes in a turn. True = there is more to do at once.
    fn handle_requests(&mut self) -> bool {
        if self.drain.as_ref().is_some_and(Drain::is_nobody_left) {
            self.drop_requests();
            // What was begun goes on.
            return self.service.readiness() == Readiness::NextTurn;
        }
        let Self { service, links, slots, polls, now, worked, .. } = self;
        let hot = &slots.hot;
        let peer = |outlet: Outlet| match &hot.get(outlet.index())?.socket {
            Some(socket) => peer(socket),
            None => polls.peer(outlet.0),
        };
        loop {
            match service.readiness() {
                Readiness::Later => return false,
                Readiness::NextTurn => return true,
                Readiness::Now => {}
            }
            let Some(request) = links.mailbox.requests.pop() else { return false };
            *worked = true;
            let handled = service.handle_api(*now, *request, &peer);
            debug_assert!(handled.is_ok(), "it has just said that it takes one");
        }
    }

    /// Takes the events that have come, without waiting. True = there may be more.
    fn harvest(&mut self) -> bool {
        self.events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, Some(&Timespec::default())) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the shard's epoll set is broken: {error}"),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let (token, flags) = (event.data.u64(), event.flags);
            match u32::try_from(token) {
                Ok(slot) => self.connection_event(slot, flags),
                Err(_) if token == TOKEN_DOORBELL || token == TOKEN_TIMER => {}
                Err(_) => self.acceptor.readable((token - TOKEN_LISTENERS) as usize),
            }
        }
        let full = events.len() == EVENTS_PER_TURN;
        self.worked |= !events.is_empty();
        self.events = events;
        full
    }

    fn connection_event(&mut self, slot: u32, flags: epoll::EventFlags) {
        use epoll::EventFlags;
        let hot = &mut self.slots.hot[slot as usize];
        if matches!(hot.stage, Stage::Free | Stage::Dead) {
            return;
        }
        if flags.contains(EventFlags::OUT) && hot.has(flag::BLOCKED) && self.flush_cipher(slot) {
            self.slots.hot[slot as usize].clear(flag::BLOCKED);
            self.service.writable(Outlet(slot));
            self.pong_when_writable(slot);
        }
        let hot = &mut self.slots.hot[slot as usize];
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            hot.set(flag::HANGUP);
            let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            let unread = hot.has(flag::PAUSED)
                || self.tls.handshakes.is_waiting(slot)
                || self.throttle.as_ref().is_some_and(|throttle| throttle.waits_until(slot).is_some());
            if unread && gone {
                // Both directions are gone: nobody would ever learn of it by reading.
                self.lose(slot, CloseReason::Lost);
                return;
            }
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.make_ready(slot);
        }
    }

    /// Puts the connection into the ready list, unless it is there.
    fn make_ready(&mut self, slot: u32) {
        let hot = &mut self.slots.hot[slot as usize];
        if !hot.has(flag::READY) {
            hot.set(flag::READY);
            self.ready.push(slot);
        }
    }

    /// Hands what was routed to the other shards, and wakes those that sleep: also those that were handed a connection.
    fn push_items(&mut self) {
        let Self { links, service, touched, .. } = self;
        let mut pushed = 0;
        service.push_items(&mut |to, item| {
            let to = usize::from(to.get());
            let bytes = S::item_bytes(&item);
            links.outbound[to].push(item)?;
            links.outbound[to].add_bytes(bytes);
            touched[to] = true;
            pushed += 1;
            Ok(())
        });
        self.ring_touched();
        if pushed > 0 {
            self.links.counters.ring_items_out.add(pushed);
            self.offer_ring_space();
        }
    }

    /// Wakes each shard that sleeps and was left something, once.
    fn ring_touched(&mut self) {
        let Self { links, touched, .. } = self;
        for (touched, doorbell) in touched.iter_mut().zip(links.doorbells.iter()) {
            if std::mem::take(touched) && doorbell.ring() {
                links.counters.wakes.add(1);
            }
        }
    }

    /// Copies the service's figures to where the control thread reads them.
    fn publish_counters(&mut self) {
        self.unpublished_turns = 0;
        let counters = &self.links.counters;
        self.service.read_counters(&counters.service);
        let inflated = self.pool.inflated();
        counters.inflated_messages.set(inflated.messages);
        counters.inflated_bytes_wire.set(inflated.bytes_in);
        counters.inflated_bytes_payload.set(inflated.bytes_out);
        let sessions = self.polls.sessions();
        counters.connections_open.set((self.slots.open() - sessions) as u64);
        counters.longpoll_sessions.set(sessions as u64);
        counters.ring_bytes.set(self.links.inbound.iter().map(|ring| ring.bytes() as u64).sum());
        counters.ring_depth.set(self.links.inbound.iter().map(|ring| ring.len() as u64).sum());
    }

    /// Sets the timerfd, if it would ring too late or for nothing much earlier.
    fn set_timer(&mut self, now: Instant, at: Instant) {
        if self.timer_at == Some(at) {
            return;
        }
        let wait = at.since(now);
        let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once) {
            panic!("the shard's timer is broken: {error}");
        }
        self.timer_at = Some(at);
    }
}

/// Runs the shard to its end.
pub(crate) async fn run<S: Service>(mut shard: Shard<S>, park: Park) {
    let mut wakeful_turns = 0u32;
    // Last, so that it is dropped first when something panics: nothing of the shard's doubtful state runs any more.
    let _guard = AbortOnPanic;
    loop {
        let wakeful = match shard.turn() {
            After::Done => return,
            After::Busy => true,
            After::Idle => shard.look_on(),
        };
        if wakeful {
            wakeful_turns += 1;
            shard.give_way();
            if wakeful_turns.is_multiple_of(TURNS_BETWEEN_BREATHS) {
                park.breathe().await;
            }
        } else if shard.may_sleep() {
            park.sleep().await;
            shard.woke();
        }
    }
}

/// A panic in routing leaves state in doubt that other shards rely on: the process ends, and its supervisor starts it
/// again (DESIGN §3). Panics while decoding input are caught before they come here.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fanwire: a shard panicked while routing; its state is in doubt, the process ends");
            std::process::abort();
        }
    }
}

/// The shard with this index, which is one of the process's.
pub(crate) fn shard_id(index: usize) -> ShardId {
    u8::try_from(index).ok().and_then(ShardId::new).expect("the number of shards was checked at the start")
}

/// A slot's token is its number; these are above all of them.
const TOKEN_LISTENERS: u64 = 1 << 32;
const TOKEN_TIMER: u64 = u64::MAX - 1;
const TOKEN_DOORBELL: u64 = u64::MAX;

/// More than anybody says before they are obeyed.
const MAILBOX_ORDERS: usize = 64;
/// The control thread waits for room: a shard reads all of them each turn.
const MAILBOX_VERDICTS: usize = 256;
/// What the control thread asks for: four turns' worth, so that a shard never waits for it. 16 KiB while it is empty.
const MAILBOX_REQUESTS: usize = 1_024;
/// One receive: large enough that a busy peer's backlog comes in one call, small enough for the second-level cache.
const SCRATCH_BYTES: usize = 64 << 10;
/// Pings and refusals fit.
const FRAME_BYTES: usize = 1 << 10;
/// One response to a poll may have as many bytes as the longest message; the next may never be as long.
const FRAME_BYTES_KEPT: usize = 64 << 10;
const EVENTS_PER_TURN: usize = 256;
/// A verdict may route a whole publication, to thousands; others have their turn between.
const VERDICTS_PER_TURN: usize = 64;
/// With the measured turn of a broadcast (64 sends, about 0.3 ms) the runtime breathes every 10 ms.
const TURNS_BETWEEN_BREATHS: u32 = 32;
const TURNS_BETWEEN_PUBLISHING: u32 = 64;
