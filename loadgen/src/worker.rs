//! One thread of the generator: an epoll set, its connections, and the loop around them.
//!
//! ```text
//! turn: wait ─▶ writable sockets ─▶ receive once per readable socket ─▶ settle, send ─▶ slices, gauges
//! ```
//!
//! Sockets are edge-triggered and registered once. A socket that filled the buffer stays in the ready list. Between two
//! receives the clock is read once, which serves for the latencies of all messages of that receive and for the question
//! whether something must be sent: so what is received never delays a send by more than one receive.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use bytes::BytesMut;
use fanwire_codec::ws::{self, Control, Limits, Pool, Received};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;

use crate::connection::{Connection, Masks, Read, Stage};
use crate::failure::Failure;
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::plan::{Plan, Role};
use crate::reader;
use crate::scenario::{Context, Scenario};
use crate::session::{self, Tools};
use crate::shared::{Phase, Shared};
use crate::verify::Faults;
use crate::visits::{Place, Visits};

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
/// The event of the doorbell; the others carry a connection's index.
const DOORBELL: u64 = u64::MAX;
/// What the server may send in one message.
const LIMITS: Limits = Limits { message_bytes_max: 64 * 1024 * 1024 };

/// What a thread tells the coordinator while it runs.
#[derive(Debug)]
pub enum Note {
    /// A second of the time line is over.
    Slice {
        /// Number of the second in the measured part.
        second: u64,
        /// Latencies of this thread in it.
        latencies: Box<Latencies>,
        /// Deliveries of this thread in it.
        deliveries: u64,
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
    phase: Phase,
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
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .and_then(|set| {
                let data = epoll::EventData::new_u64(DOORBELL);
                epoll::add(&set, shared.doorbell(thread), data, epoll::EventFlags::IN)?;
                Ok(set)
            })
            .map_err(|error| Failure::usage(format!("no epoll set for the generator's thread: {error}")))?;
        let connections = plan.assignments[thread].iter().map(Connection::new).collect();
        let places = plan.count(thread, |role| matches!(role, Role::Visitor(_)));
        let residents = plan.assignments[thread].len() - places;
        let visits = plan.visits.map(|visits| Visits::new(visits, thread, plan.threads, residents, places));
        Ok(Self {
            thread,
            plan,
            scenario,
            notes,
            epoll,
            connections,
            ready: VecDeque::new(),
            slow: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES],
            encode: BytesMut::new(),
            pool: Pool::default(),
            masks: Masks::new(),
            meter: Meter::default(),
            phase: Phase::Connect,
            opened: 0,
            settled: 0,
            connect_start_ns: shared.now_ns(),
            next_tick_ns: 0,
            slice: 0,
            close_deadline_ns: u64::MAX,
            receives: 0,
            residents,
            visits,
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
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.wait(&mut events)?;
            let woke_ns = self.shared.now_ns();
            self.follow_phase(woke_ns);
            if self.phase == Phase::Close && (self.is_all_closed() || woke_ns >= self.close_deadline_ns) {
                return Ok(());
            }
            for event in &events {
                self.handle_event(event.data.u64(), event.flags)?;
            }
            if self.phase == Phase::Connect {
                self.connect_more(woke_ns)?;
            }
            for _ in 0..self.ready.len() {
                let Some(index) = self.ready.pop_front() else { break };
                self.receive(index as usize, RECEIVE_BYTES)?;
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
            if self.meter.timing.is_measured(woke_ns) {
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
        if phase == self.phase {
            return;
        }
        if phase >= Phase::Load && self.phase < Phase::Load {
            let timing = self.shared.timing();
            self.meter.timing = timing;
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

    fn is_all_closed(&self) -> bool {
        self.connections.iter().all(|connection| connection.socket.is_none())
    }

    fn handle_event(&mut self, data: u64, flags: epoll::EventFlags) -> Result<(), Failure> {
        if data == DOORBELL {
            self.shared.hush(self.thread);
            self.scenario.handle_ring();
            return Ok(());
        }
        let index = data as usize;
        let connection = &mut self.connections[index];
        if connection.socket.is_none() {
            return Ok(());
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
                    let _ = connection.flush();
                }
                Ok(false) => {}
                Err(error) if connection.stage == Stage::Connecting && index < self.residents => {
                    return Err(self.connect_failure(error));
                }
                Err(error) => return self.lose(index, &describe(error)),
            }
        }
        let ending = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let connection = &mut self.connections[index];
        if flags.intersects(ending) {
            connection.is_ending = true;
            if connection.role == Role::Stuck && connection.stage == Stage::Ready {
                return self.lose(index, "end of a stuck subscriber");
            }
            if connection.stage == Stage::Connecting && flags.contains(epoll::EventFlags::ERR) {
                let error = connection.handle_writable().err().unwrap_or(Errno::CONNREFUSED);
                if index >= self.residents {
                    return self.lose(index, &describe(error));
                }
                return Err(self.connect_failure(error));
            }
        }
        if flags.intersects(epoll::EventFlags::IN | ending)
            && !connection.is_queued
            && connection.reads_at_once()
        {
            connection.is_queued = true;
            self.ready.push_back(index as u32);
        }
        Ok(())
    }

    /// Receives once from a connection and handles what came.
    fn receive(&mut self, index: usize, bytes_max: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.is_queued = false;
        let stage_before = connection.stage;
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = connection.receive(&mut buffer, bytes_max);
        let now_ns = self.shared.now_ns();
        let result = match read {
            Ok(Read::Bytes(count)) => {
                // Acknowledgements and invocations would blur how well deliveries are coalesced.
                if self.meter.timing.is_measured(now_ns)
                    && matches!(connection.role, Role::Subscriber(_) | Role::Caller(_))
                {
                    self.meter.receives_measured += 1;
                    self.meter.bytes_measured += count as u64;
                }
                if (count == bytes_max || connection.is_ending) && connection.reads_at_once() {
                    connection.is_queued = true;
                    self.ready.push_back(index as u32);
                }
                match self.process(index, &mut buffer[..count], now_ns) {
                    Ok(()) => Ok(()),
                    Err(Ended::Connection(words)) => self.lose(index, &words),
                    Err(Ended::Run(failure)) if index >= self.residents => self.lose(index, &failure.words),
                    Err(Ended::Run(failure)) => Err(failure),
                }
            }
            Ok(Read::Empty) => Ok(()),
            Ok(Read::End) => self.lose(index, "the server ended the connection without a word"),
            Err(error) => self.lose(index, &describe(error)),
        };
        self.buffer = buffer;
        let connection = &mut self.connections[index];
        if !connection.out.is_empty() {
            // An error here shows up at the next receive too, with everything that the server said before.
            let _ = connection.flush();
        }
        if index >= self.residents && stage_before != Stage::Ready && connection.stage == Stage::Ready {
            self.visitor_is_ready(index, now_ns);
        }
        self.receives += 1;
        if self.receives.is_multiple_of(SETTLE_RECEIVES) {
            self.scenario.settle(&self.shared);
            self.send(now_ns);
            self.visit(now_ns)?;
        } else if self.scenario.next_due_ns().is_some_and(|due| due <= now_ns) {
            self.send(now_ns);
        }
        result
    }

    /// Handles the bytes of one receive.
    fn process(&mut self, index: usize, input: &mut [u8], now_ns: u64) -> Result<(), Ended> {
        let Self { plan, shared, scenario, connections, encode, pool, masks, meter, .. } = self;
        let connection = &mut connections[index];
        if matches!(connection.stage, Stage::Discarding | Stage::Leaving) {
            return Ok(());
        }
        let mut context = Context { now_ns, meter, tools: Tools { plan, shared, masks, scratch: encode } };
        let mut at = 0;
        if connection.stage == Stage::Upgrading {
            match session::handle_upgrade(connection, input, &mut context.tools).map_err(Ended::Run)? {
                Some(behind) => at = behind,
                None => return Ok(()),
            }
            if connection.stage == Stage::Ready && !matches!(connection.role, Role::Visitor(_)) {
                self.settled += 1;
            }
        }
        while at < input.len() {
            if connection.stage == Stage::Ready
                && !connection.receiver.is_mid_message()
                && let Some((start, end)) = reader::whole_frame(&input[at..])
            {
                scenario
                    .handle_message(connection, &input[at + start..at + end], &mut context)
                    .map_err(Ended::Connection)?;
                at += end;
                continue;
            }
            // The receiver lends its buffer out, and the connection is needed beside it.
            let mut receiver =
                std::mem::replace(&mut connection.receiver, ws::Receiver::new(ws::Role::Client));
            let step = receiver.receive(&mut input[at..], &LIMITS, pool).map_err(|error| {
                Ended::Connection(format!("the server broke the WebSocket protocol: {error}"))
            })?;
            at += step.0;
            match step.1 {
                None => {}
                Some(Received::Message { payload, .. }) if connection.stage == Stage::Ready => {
                    scenario.handle_message(connection, payload, &mut context).map_err(Ended::Connection)?;
                }
                Some(Received::Message { payload, .. }) => {
                    session::handle_message(connection, payload, &mut context.tools).map_err(Ended::Run)?;
                    match (connection.stage, connection.role) {
                        (Stage::Ready, Role::Visitor(_)) => scenario.handle_join(connection, shared),
                        (Stage::Ready, role) => {
                            self.settled += 1;
                            if role == Role::Slow {
                                self.slow.push(index as u32);
                            }
                        }
                        _ => {}
                    }
                }
                Some(Received::Ping(payload)) => {
                    ws::write_client_control(
                        &mut connection.out,
                        Control::Pong,
                        payload,
                        context.tools.masks.key(),
                    );
                }
                Some(Received::Pong(_)) => {}
                Some(Received::Close(close)) => {
                    // RFC 6455, 5.5.1: the peer's code is sent back.
                    let code = close.map_or(1000, |(code, _)| code);
                    ws::write_client_close(&mut connection.out, code, "", context.tools.masks.key());
                    return Err(Ended::Connection(match close {
                        Some((code, "")) => format!("the server closed with code {code}"),
                        Some((code, reason)) => format!("the server closed with code {code}: {reason}"),
                        None => "the server closed without a code".to_owned(),
                    }));
                }
            }
            receiver.recycle(pool);
            connection.receiver = receiver;
        }
        Ok(())
    }

    /// A connection is over. Before it was ready this ends the run, afterwards it is counted.
    fn lose(&mut self, index: usize, words: &str) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let stage = connection.stage;
        // The answer to a good-bye or close frame, if there is one.
        let _ = connection.flush();
        connection.close();
        if stage == Stage::Discarding {
            self.meter.unverified_closed += 1;
            return Ok(());
        }
        if self.phase == Phase::Close {
            return Ok(());
        }
        if let Some(visits) = self.visits.as_mut().filter(|_| index >= self.residents) {
            match visits.end(index) {
                Place::Joining => self.fail_login(words),
                // A visitor has not asked for this end.
                Place::Staying => self.meter.closed.note(words),
                Place::Leaving | Place::Vacant => {}
            }
            return Ok(());
        }
        if stage == Stage::Closed {
            return Ok(());
        }
        if stage != Stage::Ready {
            return Err(Failure::cannot_connect(format!(
                "{}: connection lost in stage {stage:?} (number {} of {} of this thread): {words}",
                self.plan.target.host,
                index + 1,
                self.residents
            )));
        }
        match connection.role {
            Role::Stuck | Role::Slow => self.meter.unverified_closed += 1,
            _ => self.meter.closed.note(words),
        }
        Ok(())
    }

    fn send(&mut self, now_ns: u64) {
        if self.phase != Phase::Load {
            return;
        }
        let Self { plan, shared, scenario, connections, encode, masks, meter, .. } = self;
        let mut context = Context { now_ns, meter, tools: Tools { plan, shared, masks, scratch: encode } };
        scenario.send(connections, &mut context);
    }

    /// Lets visitors come and go.
    fn visit(&mut self, now_ns: u64) -> Result<(), Failure> {
        if self.visits.is_none() || !(Phase::Load..Phase::Close).contains(&self.phase) {
            return Ok(());
        }
        while let Some(index) = self.visits.as_mut().and_then(|visits| visits.take_leave(now_ns)) {
            self.leave(index);
        }
        if self.phase != Phase::Load {
            return Ok(());
        }
        while let Some(begin) = self.visits.as_mut().and_then(|visits| visits.take_begin(now_ns)) {
            if self.plan.visits.is_some_and(|plan| plan.is_measured) {
                // The wait for a free place is the server's, the rest is ours.
                let sent_ns = if begin.has_waited { begin.intended_ns } else { now_ns };
                self.meter.message_sent(sent_ns, begin.intended_ns);
            }
            if let Err(error) = self.open(begin.index)? {
                self.lose(begin.index, &describe(error))?;
            }
        }
        Ok(())
    }

    /// A visitor's time is over. The server ends the connection after the good-bye, and keeps the port's wait time.
    fn leave(&mut self, index: usize) {
        let Self { connections, plan, shared, masks, encode, visits, .. } = self;
        let connection = &mut connections[index];
        if plan.visits.is_some_and(|plan| plan.cut) {
            connection.close();
            if let Some(visits) = visits {
                visits.end(index);
            }
            return;
        }
        session::say_goodbye(connection, &mut Tools { plan, shared, masks, scratch: encode });
        connection.stage = Stage::Leaving;
        // An error here shows up at the next receive too.
        let _ = connection.flush();
    }

    fn visitor_is_ready(&mut self, index: usize, now_ns: u64) {
        let Some(visits) = &mut self.visits else { return };
        let intended_ns = visits.handle_ready(index, now_ns);
        self.meter.logins += 1;
        if self.meter.timing.is_measured(intended_ns) {
            self.meter.login_latencies.record(now_ns.saturating_sub(intended_ns));
        }
        if self.plan.visits.is_some_and(|plan| plan.is_measured) {
            self.meter.delivery(now_ns, intended_ns);
            self.meter.advanced += 1;
        }
    }

    fn fail_login(&mut self, words: &str) {
        self.meter.failed_logins.note(words);
        self.meter.errors.note(&format!("login: {words}"));
        if self.plan.visits.is_some_and(|plan| plan.is_measured) {
            self.meter.advanced += 1;
        }
    }

    fn end_overdue_visits(&mut self, now_ns: u64) {
        let overdue = self.visits.as_ref().map_or_else(Vec::new, |visits| visits.overdue(now_ns));
        for index in overdue {
            self.connections[index].close();
            if self.visits.as_mut().map(|visits| visits.end(index)) == Some(Place::Joining) {
                self.fail_login("no session in time; see --login-timeout");
            }
        }
    }

    /// The run is over: what is still under way has failed only if the logins are what is measured.
    fn finish_visits(&mut self) {
        let Some(visits) = &self.visits else { return };
        let (joining, unbegun) = (visits.joining(), visits.unbegun());
        self.meter.unbegun = unbegun;
        if self.plan.visits.is_some_and(|plan| plan.is_measured) {
            self.meter.unsent += unbegun;
            for _ in 0..joining {
                self.fail_login("no session before the end of the run");
            }
        }
    }

    /// Gives each slow subscriber its share of this tick.
    fn read_slowly(&mut self) -> Result<(), Failure> {
        let crate::plan::Scenario::Fanout { slow_read, .. } = self.plan.scenario else { return Ok(()) };
        let share = (slow_read as u64 * TICK_NS / 1_000_000_000).clamp(1, RECEIVE_BYTES as u64) as usize;
        let slow = std::mem::take(&mut self.slow);
        let result = slow.iter().try_for_each(|index| self.receive(*index as usize, share));
        self.slow = slow;
        self.slow.retain(|index| self.connections[*index as usize].socket.is_some());
        result
    }

    fn connections_per_second(&self) -> f64 {
        self.plan.connect_rate / self.plan.threads as f64
    }

    fn handshakes_max(&self) -> usize {
        self.plan.connect_in_flight.div_ceil(self.plan.threads)
    }

    /// When the next connection may be opened by the rate; `None` if there is none left or too many are under way.
    fn next_connect_ns(&self) -> Option<u64> {
        let waits = self.phase == Phase::Connect
            && self.opened < self.residents
            && self.opened - self.settled < self.handshakes_max();
        waits.then(|| {
            self.connect_start_ns + (self.opened as f64 * 1e9 / self.connections_per_second()) as u64
        })
    }

    fn connect_more(&mut self, now_ns: u64) -> Result<(), Failure> {
        while self.next_connect_ns().is_some_and(|due| due <= now_ns) {
            let index = self.opened;
            self.opened += 1;
            if let Err(error) = self.open(index)? {
                return Err(self.connect_failure(error));
            }
        }
        Ok(())
    }

    /// Begins to connect and to watch the socket.
    fn open(&mut self, index: usize) -> Result<Result<(), Errno>, Failure> {
        let source = self.plan.assignments[self.thread][index].source;
        let connection = &mut self.connections[index];
        if let Err(error) = connection.open(&self.plan.target, source) {
            return Ok(Err(error));
        }
        let socket = connection.socket.as_ref().expect("it has just been opened");
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(index as u64), flags)
            .map_err(|error| Failure::usage(format!("a socket cannot be watched: {error}")))?;
        Ok(Ok(()))
    }

    fn connect_failure(&self, error: Errno) -> Failure {
        let address = self.plan.target.address;
        let remedy = match error {
            Errno::CONNREFUSED => "nothing listens there: start the server, or name it with --url",
            Errno::ADDRNOTAVAIL => {
                "no free local port: give more local addresses with --source, widen net.ipv4.ip_local_port_range, \
                 or wait a minute for old connections to be forgotten"
            }
            Errno::MFILE | Errno::NFILE => "no free file descriptor: raise the limit with `ulimit -n`",
            Errno::TIMEDOUT => {
                "no answer: is the server overloaded, or a firewall in between? try a lower --connect-rate"
            }
            Errno::CONNRESET => "the server threw the connection away: is its limit of connections reached?",
            _ => "check the address given with --url",
        };
        Failure::cannot_connect(format!(
            "cannot connect to {address} ({} of {} connections of this thread are ready): {}: {remedy}",
            self.settled,
            self.residents,
            describe(error)
        ))
    }

    fn end_turn(&mut self, now_ns: u64) {
        let timing = self.meter.timing;
        if self.phase >= Phase::Load && now_ns >= timing.from_ns {
            let second = (now_ns.min(timing.to_ns) - timing.from_ns) / 1_000_000_000;
            if second > self.slice {
                let (latencies, deliveries) = self.meter.take_slice();
                let _ = self.notes.send(Note::Slice {
                    second: self.slice,
                    latencies: Box::new(latencies),
                    deliveries,
                });
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

/// What ended while bytes were handled.
enum Ended {
    Connection(String),
    Run(Failure),
}

fn describe(error: Errno) -> String {
    match error {
        Errno::CONNRESET => "connection reset by the server".to_owned(),
        Errno::PIPE => "the server does not read any more (broken pipe)".to_owned(),
        error => std::io::Error::from(error).to_string(),
    }
}

impl Connection {
    /// Whether its bytes are read as they come: a stuck subscriber's never are, a slow one's by the tick.
    fn reads_at_once(&self) -> bool {
        self.stage != Stage::Ready || !matches!(self.role, Role::Stuck | Role::Slow)
    }
}

const _: () = assert!(RECEIVE_BYTES >= 16 * 1024, "a turn's receive should take many events");
