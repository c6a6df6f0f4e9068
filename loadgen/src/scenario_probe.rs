//! Publications from one to one, beside a broadcast: what the broadcast costs those who have nothing to do with it, where
//! the server has no calls. And a flood: a publisher that keeps as much as its window allows under way to one subscriber.
//!
//! ```text
//! prober n ─ timetable ─▶ topic n ─▶ its subscriber: latency from the timetable, each once and in order
//! flooder ─── window ───▶ topic of the flood ─▶ its subscriber: the same checks, latency from sending
//! ```
//!
//! The sockets of probes are read between those of the broadcast, like those of callers; the flood's are not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanwire_codec::wamp2::{self, DecodeLimits, Message, Serializer};

use crate::connection::Connection;
use crate::meter::{Meter, Timing};
use crate::plan::{Plan, ProbePlan, Role};
use crate::reader::{Kind, Pattern};
use crate::scenario::{Context, Scenario};
use crate::scenario_fanout::write_publication;
use crate::schedule::Schedule;
use crate::script::{Finder, Found, Script};
use crate::session::{self, error_words};
use crate::shared::Shared;
use crate::stamp::Stamp;
use crate::verify::{Faults, Seen, Verifier};

/// Messages of the flood between two looks at the sockets.
const BURST_MAX: u32 = 64;
/// How often a closed window is looked at, if no receive of this thread does it.
const LOOK_NS: u64 = 100_000;

/// Places of the operations in the plan.
const ALONE: usize = 0;
const BESIDE: usize = 1;
const FLOOD: usize = 2;

/// Sender of one flow that is in this thread.
#[derive(Debug)]
struct Sender {
    number: u32,
    connection: usize,
    sent: u32,
    /// Messages that the timetable has called for.
    called: u32,
}

/// The part of one thread.
#[derive(Debug)]
pub struct Probes {
    run: u16,
    plan: ProbePlan,
    /// When the probes begin, and when the broadcast and the flood do.
    timing: Timing,
    beside_from_ns: u64,
    probers: Vec<Sender>,
    schedule: Option<Schedule>,
    flooder: Option<Sender>,
    /// When the flood is looked at again; `None` while its socket is full.
    flood_due_ns: Option<u64>,
    event: Pattern,
    foreign: Option<(Arc<Script>, Finder)>,
    /// Flows by the number of their sender, the flood's last. Those that end in this thread are marked.
    received: Verifier,
    ends_here: Vec<bool>,
    look_at: Vec<u32>,
}

impl Probes {
    /// For `thread`.
    pub fn new(plan: &Plan, thread: usize) -> Self {
        let probe = plan.probe.as_ref().expect("the plan and the scenario are made from the same arguments");
        let flows = probe.topics.len();
        let mut ends_here = vec![false; flows];
        for assignment in &plan.assignments[thread] {
            if let Role::Probed(number) | Role::Flooded(number) = assignment.role {
                ends_here[number as usize] = true;
            }
        }
        Self {
            run: plan.run,
            plan: probe.clone(),
            timing: Timing { start_ns: u64::MAX, ..Timing::default() },
            beside_from_ns: u64::MAX,
            probers: Vec::new(),
            schedule: None,
            flooder: None,
            flood_due_ns: None,
            event: Pattern::new(plan.serializer, plan.payload_bytes),
            foreign: plan.dialect.clone().map(|script| (script, Finder::new(plan.run, plan.payload_bytes))),
            received: Verifier::new(flows),
            ends_here,
            look_at: Vec::new(),
        }
    }

    /// When the broadcast begins, and the flood with it: probes meant for then or later are beside it.
    pub fn beside(&mut self, from_ns: u64) {
        self.beside_from_ns = from_ns;
    }

    fn operation(&self, number: u32, intended_ns: u64) -> usize {
        match number as usize {
            number if number >= self.plan.pairs => FLOOD,
            _ if intended_ns >= self.beside_from_ns => BESIDE,
            _ => ALONE,
        }
    }

    fn publish(
        &mut self,
        number: u32,
        sequence: u32,
        intended_ns: u64,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) {
        let stamp = Stamp { publisher: number, sequence, run: self.run, intended_ns };
        let topic = &self.plan.topics[number as usize];
        let tools = &mut context.tools;
        // Relaxed: read when all has been sent.
        tools.shared.probed[number as usize].sent.store(sequence + 1, Ordering::Relaxed);
        write_publication(&mut self.foreign, &mut self.event, false, connection, topic, &stamp, tools);
        let operation = self.operation(number, intended_ns);
        context.meter.operation_begun(operation, context.now_ns, intended_ns);
    }

    fn handle_event(&mut self, number: u32, stamp: Stamp, context: &mut Context<'_>) {
        if stamp.run != self.run {
            context.meter.foreign += 1;
            return;
        }
        if stamp.publisher != number {
            self.received.faults.corrupt += 1;
            return;
        }
        if self.received.see(number as usize, stamp.sequence) == Seen::Duplicate {
            return;
        }
        let operation = self.operation(number, stamp.intended_ns);
        context.meter.operations[operation].finish(context.now_ns, stamp.intended_ns);
        if operation == FLOOD {
            // Relaxed: a count that opens the window, nothing is published by it.
            context.tools.shared.probed[number as usize].arrived.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn handle_foreign(
        &mut self,
        number: Option<u32>,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) {
        let Some((script, finder)) = self.foreign.take() else { return };
        let mut next = finder.find(message, 0);
        if next.is_none() {
            script.answer(connection, message, &mut context.tools);
        }
        while let Some((found, at)) = next {
            match (number, found) {
                (Some(number), Found::Payload(stamp)) => self.handle_event(number, stamp, context),
                (Some(_), Found::Damaged) => self.received.faults.corrupt += 1,
                // Some servers send to the publisher too.
                (None, _) => {}
            }
            next = finder.find(message, at);
        }
        self.foreign = Some((script, finder));
    }

    /// A message that is not an event in the usual form.
    #[cold]
    fn handle_other(
        &mut self,
        number: Option<u32>,
        connection: &mut Connection,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let serializer: Serializer = connection.serializer;
        match wamp2::decode(serializer, bytes, &DecodeLimits::default()) {
            Ok(Message::Event { payload, .. }) => match (number, self.event.read_payload(&payload)) {
                (Some(number), Some(stamp)) => self.handle_event(number, stamp, context),
                _ => self.received.faults.corrupt += 1,
            },
            Ok(Message::Error { error, payload, .. }) => {
                context.meter.errors.note(&format!("PUBLISH: {error}{}", error_words(serializer, &payload)));
            }
            Ok(Message::Abort { reason, message }) => {
                return Err(format!("ABORT {reason}: {}", message.as_deref().unwrap_or("no words")));
            }
            Ok(Message::Goodbye { reason, .. }) => {
                session::answer_goodbye(connection, &mut context.tools);
                return Err(format!("GOODBYE {reason}"));
            }
            Ok(_) => {}
            Err(error) => return Err(format!("the server sent what is no WAMP message: {error}")),
        }
        Ok(())
    }

    fn probe(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        let until_ns = context.now_ns.min(self.timing.to_ns.saturating_sub(1));
        let Some(mut schedule) = self.schedule.take() else { return };
        while let Some(index) = schedule.take_due(until_ns) {
            let prober = &mut self.probers[index];
            prober.called += 1;
            if prober.called - prober.sent == 1 {
                self.look_at.push(index as u32);
            }
        }
        for index in std::mem::take(&mut self.look_at) {
            let Sender { number, connection, mut sent, called } = self.probers[index as usize];
            let connection = &mut connections[connection];
            while connection.has_room() && sent < called {
                self.publish(number, sent, schedule.intended_ns(number, sent), connection, context);
                sent += 1;
            }
            self.probers[index as usize].sent = sent;
            let _ = connection.flush();
            if sent < called && connection.socket.is_some() {
                self.look_at.push(index);
            }
        }
        self.schedule = Some(schedule);
    }

    fn flood(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        let is_over = context.now_ns >= self.timing.to_ns || context.now_ns < self.beside_from_ns;
        let Some(mut flooder) = self.flooder.take().filter(|_| !is_over) else { return };
        let connection = &mut connections[flooder.connection];
        let arrived = context.tools.shared.probed[flooder.number as usize].arrived.load(Ordering::Relaxed);
        let limit = arrived + self.plan.flood_window as u64;
        let until = limit.min(u64::from(flooder.sent) + u64::from(BURST_MAX));
        while connection.has_room() && u64::from(flooder.sent) < until {
            self.publish(flooder.number, flooder.sent, context.now_ns, connection, context);
            flooder.sent += 1;
        }
        let _ = connection.flush();
        // A full socket says when it is not, a closed window does not.
        let is_closed = u64::from(flooder.sent) >= limit;
        self.flood_due_ns =
            connection.has_room().then(|| if is_closed { context.now_ns + LOOK_NS } else { 0 });
        self.flooder = Some(flooder);
    }
}

impl Sender {
    fn new(number: u32, connection: usize) -> Self {
        Self { number, connection, sent: 0, called: 0 }
    }
}

impl Scenario for Probes {
    fn begin(&mut self, timing: Timing, connections: &[Connection]) {
        self.timing = timing;
        for (index, connection) in connections.iter().enumerate() {
            match connection.role {
                Role::Prober(number) => self.probers.push(Sender::new(number, index)),
                Role::Flooder(number) => self.flooder = Some(Sender::new(number, index)),
                _ => {}
            }
        }
        self.flood_due_ns = Some(self.beside_from_ns);
        let own = self.probers.iter().map(|prober| prober.number).collect();
        self.schedule = Some(Schedule::new(timing.start_ns, self.plan.rate, self.plan.pairs, own));
    }

    #[inline]
    fn handle_message(
        &mut self,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let number = match connection.role {
            Role::Probed(number) | Role::Flooded(number) => Some(number),
            _ => None,
        };
        if self.foreign.is_some() {
            self.handle_foreign(number, connection, message, context);
            return Ok(());
        }
        match (number, self.event.recognise(Kind::Event, message)) {
            (Some(number), Some((_, stamp, _))) => {
                self.handle_event(number, stamp, context);
                Ok(())
            }
            _ => self.handle_other(number, connection, message, context),
        }
    }

    fn settle(&mut self, _: &Shared) {}

    fn handle_ring(&mut self) {}

    fn send(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        if context.now_ns < self.timing.start_ns {
            return;
        }
        self.probe(connections, context);
        if context.now_ns >= self.beside_from_ns {
            self.flood(connections, context);
        }
    }

    fn next_due_ns(&self) -> Option<u64> {
        let probe = self.schedule.as_ref().and_then(Schedule::next_due_ns);
        let flood = self.flooder.as_ref().and(self.flood_due_ns);
        [probe, flood].into_iter().flatten().min().filter(|due| *due < self.timing.to_ns)
    }

    fn faults(&self) -> Faults {
        self.received.faults
    }

    fn finish(&mut self, shared: &Shared, meter: &mut Meter) {
        let late = |sender: &Sender| u64::from(sender.called.saturating_sub(sender.sent));
        meter.unsent += self.probers.iter().map(late).sum::<u64>();
        for number in (0..self.ends_here.len()).filter(|number| self.ends_here[*number]) {
            self.received.finish(number, shared.probed[number].sent.load(Ordering::Relaxed));
        }
    }
}
