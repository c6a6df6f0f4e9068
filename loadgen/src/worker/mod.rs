//! One thread of the generator: an epoll set, its connections, and the loop around them.
//!
//! ```text
//! turn: wait ─▶ writable sockets ─▶ receive once per readable socket ─▶ settle, send ─▶ slices, gauges
//! ```
//!
//! Sockets are edge-triggered and registered once. A socket that filled the buffer stays in the ready list. Between two
//! receives the clock is read once, which serves for the latencies of all messages of that receive and for the question
//! whether something must be sent: so what is received never delays a send by more than one receive.
//!
//! Here: the loop. `connecting.rs` opens, `input.rs` receives, `visiting.rs` has those who come and go.

mod connecting;
mod input;
mod visiting;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use bytes::BytesMut;
use fanwire_codec::ws::{Limits, Pool};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;

use crate::connection::{Connection, Masks, Stage};
use crate::failure::Failure;
use crate::meter::{Meter, Operation, Slice, Timing, operation};
use crate::plan::{self, Plan, Role};
use crate::ports::Ports;
use crate::scenario::{Context, Scenario};
use crate::session::{self, Tools};
use crate::shared::{Phase, Shared};
use crate::verify::Faults;
use crate::visits::Visits;

/// Receive buffer of a thread. 64 KiB stay in the second-level cache and hold a thousand small events.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 512;
/// Receives between two reports of progress: windows open early enough, and the shared counters stay cheap.
const SETTLE_RECEIVES: u32 = 16;
/// Longest sleep, and the pace of slow readers.
const TICK_NS: u64 = 100_000_000;
/// How long the answers to our good-byes are waited for.
const CLOSE_NS_MAX: u64 = 2_000_000_000;
/// The event of the doorbell and of the express set; the others carry a connection's index.
const DOORBELL: u64 = u64::MAX;
const EXPRESS: u64 = u64::MAX - 1;
/// What the server may send in one message.
const LIMITS: Limits = Limits { message_bytes_max: 64 * 1024 * 1024 };

/// What a thread tells the coordinator while it runs.
#[derive(Debug)]
pub enum Note {
    /// A second of the time line is over.
    Slice {
        /// Number of the second in the measured part.
        second: u64,
        /// What this thread has counted in it.
        slice: Box<Slice>,
    },
    /// The run cannot go on.
    Failed(Failure),
}

/// What a thread has at its end.
#[derive(Debug)]
pub struct Outcome {
    /// Its counters.
    pub meter: Meter,
    /// What was wrong.
    pub faults: Faults,
}

/// One thread.
#[derive(Debug)]
pub struct Worker<S> {
    thread: usize,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    scenario: S,
    notes: Sender<Note>,
    epoll: OwnedFd,
    /// Connections that a broadcast's receivers must not hold up: asked between their receives, not after them.
    express: Option<OwnedFd>,
    connections: Vec<Connection>,
    /// Connections to read, in turn.
    ready: VecDeque<u32>,
    /// Ready connections that read slowly.
    slow: Vec<u32>,
    buffer: Vec<u8>,
    encode: BytesMut,
    pool: Pool,
    masks: Masks,
    meter: Meter,
    /// Times of the run; what the run is about may begin later, see `Plan::main_timing`.
    timing: Timing,
    phase: Phase,
    /// The load has just ended, and what was due until then may not have been looked at: this thread can be late.
    catches_up: bool,
    ports: Ports,
    /// Connections opened so far, and of these those that are ready or gone.
    opened: usize,
    settled: usize,
    connect_start_ns: u64,
    next_tick_ns: u64,
    slice: u64,
    close_deadline_ns: u64,
    receives: u32,
    /// Connections of the connect phase; those behind them are for visitors.
    residents: usize,
    visits: Option<Visits>,
}

impl<S: Scenario> Worker<S> {
    /// A thread that has not begun.
    pub fn new(
        thread: usize,
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        scenario: S,
        notes: Sender<Note>,
    ) -> Result<Self, Failure> {
        let express = (plan.scenario == plan::Scenario::Mixed)
            .then(|| epoll::create(epoll::CreateFlags::CLOEXEC))
            .transpose()
            .map_err(|error| Failure::usage(format!("no epoll set for the generator's thread: {error}")))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .and_then(|set| {
                let data = epoll::EventData::new_u64;
                epoll::add(&set, shared.doorbell(thread), data(DOORBELL), epoll::EventFlags::IN)?;
                if let Some(express) = &express {
                    epoll::add(&set, express, data(EXPRESS), epoll::EventFlags::IN)?;
                }
                Ok(set)
            })
            .map_err(|error| Failure::usage(format!("no epoll set for the generator's thread: {error}")))?;
        let connections = plan.assignments[thread].iter().map(Connection::new).collect();
        let places = plan.count(thread, |role| matches!(role, Role::Visitor(_)));
        let residents = plan.assignments[thread].len() - places;
        let visits = plan.visits.map(|visits| Visits::new(visits, thread, plan.threads, residents, places));
        Ok(Self {
            thread,
            scenario,
            notes,
            epoll,
            express,
            connections,
            ready: VecDeque::new(),
            slow: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES],
            encode: BytesMut::new(),
            pool: Pool::default(),
            masks: Masks::new(),
            meter: Meter {
                operations: vec![Operation::default(); plan.operations.len()],
                ..Meter::default()
            },
            timing: Timing::default(),
            phase: Phase::Connect,
            catches_up: false,
            ports: Ports::new(thread, plan.threads),
            opened: 0,
            settled: 0,
            connect_start_ns: shared.now_ns(),
            next_tick_ns: 0,
            slice: 0,
            close_deadline_ns: u64::MAX,
            receives: 0,
            residents,
            visits,
            plan,
            shared,
        })
    }

    /// Runs until the coordinator says that all is over.
    pub fn run(mut self) -> Option<Outcome> {
        self.pin();
        // Waits end when they should, not 50 µs later (the default slack of timers).
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        match self.turns() {
            Ok(()) => {
                self.meter.take_slice();
                Some(Outcome { faults: self.scenario.faults(), meter: self.meter })
            }
            Err(failure) => {
                // The coordinator may have given up already.
                let _ = self.notes.send(Note::Failed(failure));
                None
            }
        }
    }

    fn turns(&mut self) -> Result<(), Failure> {
        let (mut events, mut express) = (Vec::with_capacity(EVENTS_MAX), Vec::with_capacity(EVENTS_MAX));
        loop {
            self.wait(&mut events)?;
            let woke_ns = self.shared.now_ns();
            self.follow_phase(woke_ns);
            if self.phase == Phase::Close && (self.is_all_closed() || woke_ns >= self.close_deadline_ns) {
                return Ok(());
            }
            for event in &events {
                if event.data.u64() == EXPRESS {
                    self.serve_express(&mut express)?;
                } else if let Some(index) = self.handle_event(event.data.u64(), event.flags)? {
                    self.ready.push_back(index as u32);
                }
            }
            if self.phase == Phase::Connect {
                self.connect_more(woke_ns)?;
            }
            for _ in 0..self.ready.len() {
                let Some(index) = self.ready.pop_front() else { break };
                self.receive(index as usize, RECEIVE_BYTES)?;
                if self.receives.is_multiple_of(SETTLE_RECEIVES) {
                    self.serve_express(&mut express)?;
                }
            }
            let now_ns = self.shared.now_ns();
            if now_ns >= self.next_tick_ns {
                self.next_tick_ns = now_ns + TICK_NS;
                self.read_slowly()?;
                self.end_overdue_visits(now_ns);
            }
            self.scenario.settle(&self.shared);
            self.send(now_ns);
            self.visit(now_ns)?;
            let end_ns = self.shared.now_ns();
            if self.timing.is_measured(woke_ns) {
                self.meter.busy_ns += end_ns - woke_ns;
                self.meter.turn_ns_max = self.meter.turn_ns_max.max(end_ns - woke_ns);
            }
            self.end_turn(end_ns);
        }
    }

    /// Sleeps until a socket, the doorbell or the clock asks for something.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        events.clear();
        let now_ns = self.shared.now_ns();
        let sleep_ns = if !self.ready.is_empty() || self.plan.spin {
            0
        } else {
            let visit =
                self.visits.as_ref().filter(|_| self.phase == Phase::Load).and_then(Visits::next_due_ns);
            let due = [self.scenario.next_due_ns(), self.next_connect_ns(), visit, Some(self.next_tick_ns)];
            due.into_iter().flatten().min().map_or(TICK_NS, |due| due.saturating_sub(now_ns).min(TICK_NS))
        };
        if sleep_ns > 0 {
            // epoll_wait counts in milliseconds; a rate needs better.
            let timeout = Timespec { tv_sec: 0, tv_nsec: sleep_ns as _ };
            let mut set = [PollFd::new(&self.epoll, PollFlags::IN)];
            match rustix::event::poll(&mut set, Some(&timeout)) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::usage(format!("waiting for sockets failed: {error}"))),
            }
        }
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::usage(format!("waiting for sockets failed: {error}"))),
        }
    }

    fn follow_phase(&mut self, now_ns: u64) {
        let phase = self.shared.phase();
        self.catches_up =
            self.phase < Phase::Drain && phase == Phase::Drain && now_ns >= self.shared.timing().to_ns;
        if phase == self.phase {
            return;
        }
        if phase >= Phase::Load && self.phase < Phase::Load {
            let timing = self.shared.timing();
            self.timing = timing;
            self.set_timings(timing);
            self.scenario.begin(timing, &self.connections);
            if let Some(visits) = &mut self.visits {
                visits.begin(timing);
            }
        }
        if phase == Phase::Close {
            self.scenario.finish(&self.shared, &mut self.meter);
            self.finish_visits();
            self.close_deadline_ns = now_ns + CLOSE_NS_MAX;
            let Self { connections, plan, shared, masks, encode, ready: unread, .. } = self;
            let open =
                connections.iter_mut().enumerate().filter(|(_, connection)| connection.socket.is_some());
            for (index, connection) in open {
                match (connection.stage, connection.role) {
                    // The end that a cut left behind the unread bytes is seen only by reading them.
                    (Stage::Ready, Role::Stuck | Role::Slow) => {
                        connection.stage = Stage::Discarding;
                        connection.is_ending = true;
                        unread.push_back(index as u32);
                    }
                    (Stage::Ready, _) => {
                        session::say_goodbye(connection, &mut Tools { plan, shared, masks, scratch: encode });
                        let _ = connection.flush();
                    }
                    _ => connection.close(),
                }
            }
        }
        self.phase = phase;
    }

    /// Each thing is measured in its own part of the run.
    fn set_timings(&mut self, timing: Timing) {
        let main = self.plan.main_timing(timing);
        self.meter.timing = main;
        self.scenario.set_main(main);
        for (name, counters) in self.plan.operations.iter().zip(&mut self.meter.operations) {
            counters.timing = match *name {
                operation::CALL_ALONE | operation::PROBE_ALONE => Timing { to_ns: main.start_ns, ..timing },
                _ => main,
            };
        }
    }

    fn is_all_closed(&self) -> bool {
        self.connections.iter().all(|connection| connection.socket.is_none())
    }

    /// Reads the connections of the express set that have something to say.
    fn serve_express(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        let Some(set) = &self.express else { return Ok(()) };
        events.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(set, rustix::buffer::spare_capacity(events), Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::usage(format!("waiting for sockets failed: {error}"))),
        }
        for event in events {
            if let Some(index) = self.handle_event(event.data.u64(), event.flags)? {
                self.receive(index, RECEIVE_BYTES)?;
            }
        }
        Ok(())
    }

    /// Returns the connection if it has to be read.
    fn handle_event(&mut self, data: u64, flags: epoll::EventFlags) -> Result<Option<usize>, Failure> {
        if data == DOORBELL {
            self.shared.hush(self.thread);
            self.scenario.handle_ring();
            return Ok(None);
        }
        let index = data as usize;
        let connection = &mut self.connections[index];
        if connection.socket.is_none() {
            return Ok(None);
        }
        if flags.contains(epoll::EventFlags::OUT) {
            match connection.handle_writable() {
                Ok(true) => {
                    let mut tools = Tools {
                        plan: &self.plan,
                        shared: &self.shared,
                        masks: &mut self.masks,
                        scratch: &mut self.encode,
                    };
                    session::begin_upgrade(connection, &mut tools)?;
                    // Who posts is ready by being connected.
                    self.settled += usize::from(connection.stage == Stage::Ready);
                    let _ = connection.flush();
                }
                Ok(false) => {}
                Err(error) if connection.stage == Stage::Connecting && index < self.residents => {
                    return Err(self.connect_failure(error));
                }
                Err(error) => return self.lose(index, &describe(error)).map(|()| None),
            }
        }
        let ending = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let connection = &mut self.connections[index];
        if flags.intersects(ending) {
            connection.is_ending = true;
            if connection.role == Role::Stuck && connection.stage == Stage::Ready {
                return self.lose(index, "end of a stuck subscriber").map(|()| None);
            }
            if connection.stage == Stage::Connecting && flags.contains(epoll::EventFlags::ERR) {
                let error = connection.handle_writable().err().unwrap_or(Errno::CONNREFUSED);
                if index >= self.residents {
                    return self.lose(index, &describe(error)).map(|()| None);
                }
                return Err(self.connect_failure(error));
            }
        }
        if flags.intersects(epoll::EventFlags::IN | ending)
            && !connection.is_queued
            && connection.reads_at_once()
        {
            connection.is_queued = true;
            return Ok(Some(index));
        }
        Ok(None)
    }

    fn send(&mut self, now_ns: u64) {
        if !self.begins() {
            return;
        }
        let Self { plan, shared, scenario, connections, encode, masks, meter, .. } = self;
        let mut context = Context { now_ns, meter, tools: Tools { plan, shared, masks, scratch: encode } };
        scenario.send(connections, &mut context);
    }

    /// Whether what the timetable has is begun in this turn.
    fn begins(&self) -> bool {
        self.phase == Phase::Load || self.catches_up
    }

    fn end_turn(&mut self, now_ns: u64) {
        let timing = self.timing;
        if self.phase >= Phase::Load && now_ns >= timing.from_ns {
            let second = (now_ns.min(timing.to_ns) - timing.from_ns) / 1_000_000_000;
            if second > self.slice {
                let slice = Box::new(self.meter.take_slice());
                let _ = self.notes.send(Note::Slice { second: self.slice, slice });
                self.slice = second;
            }
        }
        let gauges = &self.shared.gauges[self.thread];
        gauges.show(&self.meter, &self.scenario.faults());
        gauges.ready.store(self.settled as u64, Ordering::Relaxed);
        gauges.handshaking.store((self.opened - self.settled) as u64, Ordering::Relaxed);
        gauges.busy_ns.store(self.meter.busy_ns, Ordering::Relaxed);
        // Release: who sees that this thread has seen the phase sees its counters of the time before.
        gauges.phase.store(self.phase as u8, Ordering::Release);
    }

    fn pin(&self) {
        if self.plan.cpus.is_empty() {
            return;
        }
        let mut set = rustix::thread::CpuSet::new();
        set.set(self.plan.cpus[self.thread % self.plan.cpus.len()]);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            let _ = self.notes.send(Note::Failed(Failure::usage(format!(
                "--cpus: thread {} cannot be pinned to CPU {}: {error}; see `nproc` and the cgroup's cpuset",
                self.thread,
                self.plan.cpus[self.thread % self.plan.cpus.len()]
            ))));
        }
    }
}

fn describe(error: Errno) -> String {
    match error {
        Errno::CONNRESET => "connection reset by the server".to_owned(),
        Errno::PIPE => "the server does not read any more (broken pipe)".to_owned(),
        error => std::io::Error::from(error).to_string(),
    }
}

const _: () = assert!(RECEIVE_BYTES >= 16 * 1024, "a turn's receive should take many events");
