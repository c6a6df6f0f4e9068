//! Sessions that subscribe and unsubscribe in turn, as a part of `mixed`.
//!
//! ```text
//!       timetable          SUBSCRIBED       timetable           UNSUBSCRIBED
//! Off ────────────▶ Joining ────────▶ On ────────────▶ Leaving ─────────────▶ Off
//!   an event here: to nobody  │ before its SUBSCRIBED │ verified              │
//! ```
//!
//! From SUBSCRIBED on nothing may be missing, as for visitors; no event may come before it or after UNSUBSCRIBED. What is
//! due while an answer is awaited waits, and the wait is in its latency.

use std::sync::atomic::Ordering;

use fanwire_codec::wamp2::{self, DecodeLimits, Message, SubscribeOptions, code};

use crate::connection::Connection;
use crate::meter::{Meter, Timing, operation};
use crate::plan::{Plan, Role, TogglePlan};
use crate::reader::{Kind, Pattern};
use crate::scenario::{Context, Scenario};
use crate::schedule::Schedule;
use crate::session::{self, error_words};
use crate::shared::Shared;
use crate::stamp::Stamp;
use crate::topics::{Streams, Topics};
use crate::verify::{Faults, Seen, Verifier};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Joining,
    On { subscription: u64 },
    Leaving { subscription: u64 },
}

#[derive(Debug)]
struct Toggler {
    number: u32,
    connection: usize,
    state: State,
    /// Requests that the schedule has called for, and of these the ones sent.
    called: u32,
    begun: u32,
    /// When the present request was meant to be sent.
    intended_ns: u64,
}

/// The part of one thread.
#[derive(Debug)]
pub struct Toggles {
    run: u16,
    plan: TogglePlan,
    timing: Timing,
    topics: Topics,
    event: Pattern,
    togglers: Vec<Toggler>,
    /// By number: its index in `togglers`, if it is of this thread.
    own: Vec<Option<u32>>,
    schedule: Option<Schedule>,
    streams: Streams,
    verifier: Verifier,
    /// Places of the two requests in the meter's operations.
    subscribe: usize,
    unsubscribe: usize,
}

impl Toggles {
    /// For `thread`.
    pub fn new(plan: &Plan, thread: usize) -> Self {
        const SAME: &str = "the plan and the scenario are made from the same arguments";
        let toggles = plan.toggles.expect(SAME);
        let topics = plan.fanout.as_ref().expect(SAME).topics.clone();
        let is_toggler = |role: &Role| matches!(role, Role::Toggler(_));
        let streams =
            Streams::new(&topics, &plan.assignments[thread], |assignment| is_toggler(&assignment.role));
        let place = |name| plan.operations.iter().position(|known| *known == name).expect(SAME);
        Self {
            run: plan.run,
            plan: toggles,
            timing: Timing { start_ns: u64::MAX, ..Timing::default() },
            event: Pattern::new(plan.serializer, plan.payload_bytes),
            togglers: Vec::new(),
            own: vec![None; toggles.togglers],
            schedule: None,
            verifier: Verifier::new(streams.count()),
            streams,
            topics,
            subscribe: place(operation::SUBSCRIBE),
            unsubscribe: place(operation::UNSUBSCRIBE),
        }
    }

    /// Sends the next request if one is due and none is under way.
    fn begin_next(&mut self, index: usize, connection: &mut Connection, context: &mut Context<'_>) {
        let topic = self.streams.topic_of(index);
        let Some(schedule) = &self.schedule else { return };
        let toggler = &mut self.togglers[index];
        if toggler.begun == toggler.called || !connection.has_room() {
            return;
        }
        let (message, state, which) = match toggler.state {
            State::Off => {
                let (request, options) = (connection.take_request(), SubscribeOptions::default());
                let topic = (&*self.topics.names[topic]).into();
                (Message::Subscribe { request, options, topic }, State::Joining, self.subscribe)
            }
            State::On { subscription } => {
                let request = connection.take_request();
                let message = Message::Unsubscribe { request, subscription };
                (message, State::Leaving { subscription }, self.unsubscribe)
            }
            State::Joining | State::Leaving { .. } => return,
        };
        toggler.intended_ns = schedule.intended_ns(toggler.number, toggler.begun);
        toggler.begun += 1;
        toggler.state = state;
        connection.push(&message, context.tools.scratch, context.tools.masks);
        context.meter.operation_begun(which, context.now_ns, toggler.intended_ns);
    }

    fn handle_event(&mut self, index: usize, stamp: Stamp, context: &mut Context<'_>) {
        if stamp.run != self.run {
            context.meter.foreign += 1;
            return;
        }
        let flow = stamp.publisher as usize;
        let stream = self.streams.at(flow, index).filter(|_| flow < self.topics.flows);
        match (self.togglers[index].state, stream) {
            (State::On { .. } | State::Leaving { .. }, Some(stream)) => {
                if self.verifier.see(stream, stamp.sequence) != Seen::Duplicate {
                    context.meter.visitor_delivered += 1;
                    context.meter.visitor_measured += u64::from(self.timing.is_measured(context.now_ns));
                }
            }
            (State::Joining, _) => self.verifier.faults.out_of_order += 1,
            (State::Off, _) | (_, None) => self.verifier.faults.corrupt += 1,
        }
    }

    fn handle_subscribed(&mut self, index: usize, subscription: u64, context: &mut Context<'_>) {
        let toggler = &mut self.togglers[index];
        toggler.state = State::On { subscription };
        context.meter.operations[self.subscribe].finish(context.now_ns, toggler.intended_ns);
        for flow in self.topics.flows_of(self.streams.topic_of(index)) {
            // Acquire: pairs with the publisher's store, see `scenario_fanout`.
            let first_max = context.tools.shared.sent[flow].load(Ordering::Acquire);
            let stream = self.streams.at(flow, index).expect("it is a flow of this topic");
            self.verifier.join(stream, first_max);
        }
    }
}

impl Scenario for Toggles {
    fn begin(&mut self, timing: Timing, connections: &[Connection]) {
        self.timing = timing;
        for (index, connection) in connections.iter().enumerate() {
            if let Role::Toggler(number) = connection.role {
                self.own[number as usize] = Some(self.togglers.len() as u32);
                let state = State::Off;
                let toggler =
                    Toggler { number, connection: index, state, called: 0, begun: 0, intended_ns: 0 };
                self.togglers.push(toggler);
            }
        }
        if self.plan.rate > 0.0 {
            let own = self.togglers.iter().map(|toggler| toggler.number).collect();
            self.schedule = Some(Schedule::new(timing.start_ns, self.plan.rate, self.plan.togglers, own));
        }
    }

    fn handle_message(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let Role::Toggler(number) = connection.role else { return Ok(()) };
        let Some(index) = self.own[number as usize] else { return Ok(()) };
        let index = index as usize;
        if let Some((_, stamp, _)) = self.event.recognise(Kind::Event, bytes) {
            self.handle_event(index, stamp, context);
            return Ok(());
        }
        let message = wamp2::decode(connection.serializer, bytes, &DecodeLimits::default())
            .map_err(|error| format!("the server sent what is no WAMP message: {error}"))?;
        match message {
            Message::Event { payload, .. } => match self.event.read_payload(&payload) {
                Some(stamp) => self.handle_event(index, stamp, context),
                None => self.verifier.faults.corrupt += 1,
            },
            Message::Subscribed { subscription, .. } => self.handle_subscribed(index, subscription, context),
            Message::Unsubscribed { .. } => {
                let toggler = &mut self.togglers[index];
                toggler.state = State::Off;
                context.meter.operations[self.unsubscribe].finish(context.now_ns, toggler.intended_ns);
            }
            Message::Error { request_type, error, payload, .. } => {
                let words = error_words(connection.serializer, &payload);
                let (name, which) = match request_type {
                    code::SUBSCRIBE => ("SUBSCRIBE", self.subscribe),
                    _ => ("UNSUBSCRIBE", self.unsubscribe),
                };
                context.meter.errors.note(&format!("{name}: {error}{words}"));
                context.meter.operations[which].failed += 1;
                self.togglers[index].state = State::Off;
            }
            Message::Abort { reason, message } => {
                return Err(format!("ABORT {reason}: {}", message.as_deref().unwrap_or("no words")));
            }
            Message::Goodbye { reason, .. } => {
                session::answer_goodbye(connection, &mut context.tools);
                return Err(format!("GOODBYE {reason}"));
            }
            _ => {}
        }
        // What has become due meanwhile.
        if context.now_ns < self.timing.to_ns {
            self.begin_next(index, connection, context);
        }
        Ok(())
    }

    fn settle(&mut self, _: &Shared) {}

    fn handle_ring(&mut self) {}

    fn send(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        let until_ns = context.now_ns.min(self.timing.to_ns.saturating_sub(1));
        while let Some(index) = self.schedule.as_mut().and_then(|schedule| schedule.take_due(until_ns)) {
            self.togglers[index].called += 1;
            let connection = &mut connections[self.togglers[index].connection];
            self.begin_next(index, connection, context);
            // An error here shows up at the next receive too.
            let _ = connection.flush();
        }
    }

    fn next_due_ns(&self) -> Option<u64> {
        self.schedule.as_ref().and_then(Schedule::next_due_ns).filter(|due| *due < self.timing.to_ns)
    }

    fn faults(&self) -> Faults {
        self.verifier.faults
    }

    fn finish(&mut self, _: &Shared, meter: &mut Meter) {
        meter.unsent +=
            self.togglers.iter().map(|toggler| u64::from(toggler.called - toggler.begun)).sum::<u64>();
        for toggler in &self.togglers {
            // A request that was never answered is lost like a call.
            let is_open = matches!(toggler.state, State::Joining | State::Leaving { .. });
            self.verifier.faults.lost += u64::from(is_open);
        }
    }
}
