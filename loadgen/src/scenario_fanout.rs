//! Publishers → subscribers, in all scenarios that have any. `fanout`: one topic, or several that each publication chooses
//! from. `fanin`: with one subscriber. `pairs`, `rooms`: each publisher has a topic. `churn`, `mixed`: further subscribers
//! come and go.
//!
//! ```text
//! publisher's thread                         subscribers' threads
//! limit (window) or schedule (rate)          EVENT ─▶ stamp ─▶ stream (flow, subscriber) ─▶ verify
//!   └▶ PUBLISH [stamp, filler] ──▶ router ──▶          └▶ latency from the intended time ─▶ position ─▶ window
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanwire_codec::wamp2::{self, DecodeLimits, Message, Payload, PublishOptions};

use crate::args::WindowRule;
use crate::connection::Connection;
use crate::familiar::Familiar;
use crate::flow::Floor;
use crate::meter::{Meter, Timing};
use crate::plan::{Load, Plan, Role};
use crate::reader::{Kind, Pattern};
use crate::scenario::{Context, Scenario};
use crate::schedule::Schedule;
use crate::script::{Finder, Found, Script};
use crate::session::{self, Tools, error_words};
use crate::shared::Shared;
use crate::stamp::Stamp;
use crate::topics::{Streams, Topics};
use crate::verify::{Faults, Seen, Verifier};

/// Messages that one publisher builds before the socket is asked; together they are one write.
const BURST_MAX: u32 = 256;

/// Appends a publication to what the connection has to write.
pub fn write_publication(
    foreign: &mut Option<(Arc<Script>, Finder)>,
    pattern: &mut Pattern,
    acknowledge: bool,
    connection: &mut Connection,
    topic: &str,
    stamp: &Stamp,
    tools: &mut Tools<'_>,
) {
    match foreign {
        Some((script, finder)) => script.publish(connection, topic, finder.stamped(stamp), tools),
        None => {
            let options = PublishOptions { acknowledge, ..PublishOptions::default() };
            let payload = Payload { args: Some(pattern.stamped(stamp)), kwargs: None, ..Payload::EMPTY };
            let request = connection.take_request();
            let message = Message::Publish { request, options, topic: topic.into(), payload };
            connection.push(&message, tools.scratch, tools.masks);
        }
    }
}

/// One publisher of this thread.
#[derive(Debug)]
struct Publisher {
    number: u32,
    connection: usize,
    /// Messages sent, over all topics.
    sent: u32,
    /// Messages that the schedule has called for (open loop).
    called: u32,
    /// Sleeps until its window opens (closed loop).
    is_waiting: bool,
}

/// The part of one thread.
#[derive(Debug)]
pub struct Fanout {
    thread: usize,
    run: u16,
    acknowledge: bool,
    load: Load,
    timing: Timing,
    publishers: Vec<Publisher>,
    /// By publisher number: its index in `publishers`, if it is of this thread.
    own: Vec<Option<u32>>,
    schedule: Option<Schedule>,
    /// What events look like (the subscribers' serializer), and what is published (the publishers').
    event: Pattern,
    publish: Pattern,
    /// The server is no WAMP router.
    foreign: Option<(Arc<Script>, Finder)>,
    topics: Topics,
    publisher_count: usize,
    /// What each flow of this thread's publishers has sent, by flow; only where publications choose their topic.
    sent: Vec<u32>,
    /// Verified subscribers of this thread.
    streams: Streams,
    verifier: Verifier,
    /// Frames that every subscriber gets; only where there is one flow, whose order is then everybody's.
    familiar: Option<Familiar>,
    /// The event of the message in hand, if it was its only one and the next of its stream.
    fresh: Option<Stamp>,
    /// Places for visitors of this thread. Each visit begins their streams anew.
    visitor_streams: Streams,
    visitors: Verifier,
    /// Steps of all subscribers since the last settle, per flow, and which flows have any.
    steps: Vec<u64>,
    touched: Vec<u32>,
    floors: Vec<Floor>,
    /// A window that some publisher of this thread waits for may be open.
    look_at_all: bool,
    /// Publishers to look at.
    look_at: Vec<u32>,
    /// Some publisher stopped at the bound of a burst, not at its socket or its window.
    has_more: bool,
    /// The first messages of the closed loop were sent.
    has_begun: bool,
}

impl Fanout {
    /// For `thread`.
    pub fn new(plan: &Plan, thread: usize) -> Self {
        let fanout =
            plan.fanout.as_ref().expect("the plan and the scenario are made from the same arguments");
        let topics = fanout.topics.clone();
        let streams = |is: fn(&Role) -> bool| {
            Streams::new(&topics, &plan.assignments[thread], |assignment| is(&assignment.role))
        };
        let subscribers = streams(|role| matches!(role, Role::Subscriber(_)));
        let visitors = streams(|role| matches!(role, Role::Visitor(_)));
        let floors = match (fanout.load, fanout.rule) {
            (Load::Closed { window }, WindowRule::Slowest) => (0..topics.flows)
                .map(|flow| Floor::new(subscribers.receivers_of(topics.of_flow(flow)), window))
                .collect(),
            _ => Vec::new(),
        };
        Self {
            thread,
            run: plan.run,
            acknowledge: fanout.acknowledge,
            load: fanout.load,
            timing: Timing { start_ns: u64::MAX, ..Timing::default() },
            publishers: Vec::new(),
            own: vec![None; fanout.publishers],
            schedule: None,
            event: Pattern::new(plan.serializer, plan.payload_bytes),
            publish: Pattern::new(plan.publisher_serializer, plan.payload_bytes),
            foreign: plan.dialect.clone().map(|script| (script, Finder::new(plan.run, plan.payload_bytes))),
            publisher_count: fanout.publishers,
            sent: vec![0; if topics.has_choice() { topics.flows } else { 0 }],
            verifier: Verifier::new(subscribers.count()),
            familiar: (topics.flows == 1).then(Familiar::default),
            fresh: None,
            streams: subscribers,
            visitors: Verifier::new(visitors.count()),
            visitor_streams: visitors,
            steps: vec![0; topics.flows],
            touched: Vec::new(),
            floors,
            look_at_all: false,
            look_at: Vec::new(),
            has_more: false,
            has_begun: false,
            topics,
        }
    }

    #[inline]
    fn handle_event(&mut self, subscriber: u32, stamp: Stamp, context: &mut Context<'_>) {
        if stamp.run != self.run {
            context.meter.foreign += 1;
            return;
        }
        let flow = stamp.publisher as usize;
        let stream = self.streams.at(flow, subscriber as usize).filter(|_| flow < self.topics.flows);
        let Some(stream) = stream else {
            // Of nobody, or of another topic: not what was sent to here.
            self.verifier.faults.corrupt += 1;
            return;
        };
        let steps = match self.verifier.see(stream, stamp.sequence) {
            Seen::InOrder => {
                self.fresh = Some(stamp);
                1
            }
            Seen::Gap(missing) => u64::from(missing) + 1,
            Seen::Late => 0,
            // A duplicate is no delivery: it would hide a loss in the count.
            Seen::Duplicate => return,
        };
        context.meter.delivery(context.now_ns, stamp.intended_ns);
        if steps == 0 {
            return;
        }
        let next = stamp.sequence + 1;
        self.note_steps(flow, next - steps as u32..next, context);
    }

    /// A subscriber has come past these sequences of a flow.
    #[inline]
    fn note_steps(&mut self, flow: usize, sequences: Range<u32>, context: &mut Context<'_>) {
        let steps = sequences.len() as u64;
        context.meter.advanced += steps;
        if self.steps[flow] == 0 {
            self.touched.push(flow as u32);
        }
        self.steps[flow] += steps;
        if let Some(floor) = self.floors.get_mut(flow) {
            sequences.for_each(|sequence| floor.pass(sequence));
        }
    }

    /// Visitors are verified from their SUBSCRIBED on, and open no window.
    fn handle_visitor_event(&mut self, visitor: u32, stamp: Stamp, context: &mut Context<'_>) {
        if stamp.run != self.run {
            context.meter.foreign += 1;
            return;
        }
        let flow = stamp.publisher as usize;
        let stream = self.visitor_streams.at(flow, visitor as usize).filter(|_| flow < self.topics.flows);
        let Some(stream) = stream else {
            self.visitors.faults.corrupt += 1;
            return;
        };
        if self.visitors.see(stream, stamp.sequence) != Seen::Duplicate {
            context.meter.visitor_delivered += 1;
            context.meter.visitor_measured += u64::from(self.timing.is_measured(context.now_ns));
        }
    }

    /// A message of a server that is no WAMP router: it may have any number of payloads in it.
    fn handle_foreign(&mut self, connection: &mut Connection, message: &[u8], context: &mut Context<'_>) {
        let Some((script, finder)) = self.foreign.take() else { return };
        let mut next = finder.find(message, 0);
        let mut found_any = false;
        if next.is_none() {
            script.answer(connection, message, &mut context.tools);
        }
        while let Some((found, at)) = next {
            match (connection.role, found) {
                (Role::Subscriber(number), Found::Payload(stamp)) => {
                    self.handle_event(number, stamp, context)
                }
                (Role::Visitor(number), Found::Payload(stamp)) => {
                    self.handle_visitor_event(number, stamp, context);
                }
                (Role::Subscriber(_), Found::Damaged) => self.verifier.faults.corrupt += 1,
                (Role::Visitor(_), Found::Damaged) => self.visitors.faults.corrupt += 1,
                (Role::Slow, _) => context.meter.slow_delivered += 1,
                // Some servers send to the publisher too.
                _ => {}
            }
            if std::mem::replace(&mut found_any, true) {
                self.fresh = None;
            }
            next = finder.find(message, at);
        }
        self.foreign = Some((script, finder));
    }

    /// A message that is not an event of ours in the usual form.
    #[cold]
    fn handle_other(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        match wamp2::decode(connection.serializer, bytes, &DecodeLimits::default()) {
            Ok(Message::Event { payload, .. }) => match connection.role {
                Role::Subscriber(subscriber) => match self.event.read_payload(&payload) {
                    Some(stamp) => self.handle_event(subscriber, stamp, context),
                    None => self.verifier.faults.corrupt += 1,
                },
                Role::Visitor(visitor) => match self.event.read_payload(&payload) {
                    Some(stamp) => self.handle_visitor_event(visitor, stamp, context),
                    None => self.visitors.faults.corrupt += 1,
                },
                Role::Slow => context.meter.slow_delivered += 1,
                _ => {}
            },
            Ok(Message::Published { .. }) => context.meter.acknowledged += 1,
            Ok(Message::Error { error, payload, .. }) => {
                let words = error_words(connection.serializer, &payload);
                context.meter.errors.note(&format!("PUBLISH: {error}{words}"));
            }
            Ok(Message::Abort { reason, message }) => {
                return Err(format!("ABORT {reason}: {}", message.as_deref().unwrap_or("no words")));
            }
            Ok(Message::Goodbye { reason, .. }) => {
                session::answer_goodbye(connection, &mut context.tools);
                return Err(format!("GOODBYE {reason}"));
            }
            Ok(_) => {}
            Err(error) => {
                self.verifier.faults.corrupt += 1;
                return Err(format!("the server sent what is no WAMP message: {error}"));
            }
        }
        Ok(())
    }

    /// Publishes the next message of a publisher; it is only appended to what the connection has to write.
    fn publish(
        &mut self,
        index: usize,
        intended_ns: u64,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) {
        let publisher = &mut self.publishers[index];
        let tools = &mut context.tools;
        let flow = self.topics.choose(publisher.number, tools.masks.bits());
        // With one topic per publisher its own count is the flow's.
        let sent = self.sent.get_mut(flow).unwrap_or(&mut publisher.sent);
        let stamp = Stamp { publisher: flow as u32, sequence: *sent, run: self.run, intended_ns };
        *sent += 1;
        // Release, and before the flush: pairs with whoever joins. Who is told that it is subscribed sees at least what was
        // written before the server told it.
        tools.shared.sent[flow].store(*sent, Ordering::Release);
        if !self.sent.is_empty() {
            publisher.sent += 1;
        }
        let topic = self.topics.of_flow(flow);
        let name = &*self.topics.names[topic];
        let Self { foreign, publish, acknowledge, .. } = self;
        write_publication(foreign, publish, *acknowledge, connection, name, &stamp, tools);
        context.meter.message_sent(context.now_ns, intended_ns);
        context.meter.expected += self.topics.sizes[topic] as u64;
    }

    /// Sends what publisher `index` may send: up to its window, or what the schedule has called for.
    fn serve(&mut self, index: usize, connections: &mut [Connection], context: &mut Context<'_>) {
        let Publisher { number, connection, .. } = self.publishers[index];
        let connection = &mut connections[connection];
        let mut burst = 0;
        while burst < BURST_MAX && connection.has_room() {
            let sent = self.publishers[index].sent;
            let intended_ns = match (&self.schedule, &context.tools.shared.flows) {
                (Some(schedule), _) if sent < self.publishers[index].called => {
                    schedule.intended_ns(number, sent)
                }
                (None, Some(flows)) if context.now_ns < self.timing.to_ns => {
                    if u64::from(sent) >= flows.limit(number as usize)
                        && flows.wait(number as usize, u64::from(sent))
                    {
                        self.publishers[index].is_waiting = true;
                        break;
                    }
                    self.publishers[index].is_waiting = false;
                    context.now_ns
                }
                _ => break,
            };
            self.publish(index, intended_ns, connection, context);
            burst += 1;
        }
        if burst > 0 {
            let _ = connection.flush();
        }
        // What the socket or the burst's bound has left is looked at in the next round.
        let publisher = &self.publishers[index];
        let has_more = match self.schedule {
            Some(_) => publisher.sent < publisher.called,
            None => {
                context.tools.shared.flows.is_some()
                    && !publisher.is_waiting
                    && context.now_ns < self.timing.to_ns
            }
        };
        if has_more && connection.socket.is_some() {
            self.look_at.push(index as u32);
            self.has_more |= connection.has_room();
        }
    }
}

impl Scenario for Fanout {
    fn begin(&mut self, timing: Timing, connections: &[Connection]) {
        self.timing = timing;
        for (index, connection) in connections.iter().enumerate() {
            if let Role::Publisher(number) = connection.role {
                self.own[number as usize] = Some(self.publishers.len() as u32);
                self.publishers.push(Publisher {
                    number,
                    connection: index,
                    sent: 0,
                    called: 0,
                    is_waiting: false,
                });
            }
        }
        if let Load::Open { rate } = self.load {
            let own = self.publishers.iter().map(|publisher| publisher.number).collect();
            self.schedule = Some(Schedule::new(timing.start_ns, rate, self.publisher_count, own));
        }
    }

    fn handle_join(&mut self, connection: &Connection, shared: &Shared) {
        let Role::Visitor(visitor) = connection.role else { return };
        for flow in self.topics.flows_of(self.visitor_streams.topic_of(visitor as usize)) {
            // What is not sent yet is published after SUBSCRIBED, hence must come. Acquire: see `publish`.
            let first_max = shared.sent[flow].load(Ordering::Acquire);
            let stream = self.visitor_streams.at(flow, visitor as usize).expect("it is a flow of this topic");
            self.visitors.join(stream, first_max);
        }
    }

    #[inline]
    fn handle_message(
        &mut self,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        self.fresh = None;
        if self.foreign.is_some() {
            self.handle_foreign(connection, message, context);
            return Ok(());
        }
        if let Role::Subscriber(number) | Role::Visitor(number) = connection.role
            && let Some((_, stamp, _)) = self.event.recognise(Kind::Event, message)
        {
            match connection.role {
                Role::Visitor(_) => self.handle_visitor_event(number, stamp, context),
                _ => self.handle_event(number, stamp, context),
            }
            return Ok(());
        }
        self.handle_other(connection, message, context)
    }

    #[inline]
    fn note_frame(&mut self, connection: &Connection, frame: &[u8]) {
        if let Role::Subscriber(_) = connection.role
            && let (Some(familiar), Some(stamp)) = (&mut self.familiar, self.fresh.take())
        {
            familiar.remember(stamp.sequence, stamp.intended_ns, frame);
        }
    }

    #[inline]
    fn handle_familiar(&mut self, connection: &Connection, input: &[u8], context: &mut Context<'_>) -> usize {
        let (Role::Subscriber(subscriber), Some(familiar)) = (connection.role, &self.familiar) else {
            return 0;
        };
        let Some(stream) = self.streams.at(0, subscriber as usize) else { return 0 };
        let next = self.verifier.position(stream);
        let Some((bytes, frames)) = familiar.recognise(next, input) else { return 0 };
        let count = frames.len() as u32;
        context.meter.deliveries(context.now_ns, familiar.intended_ns(frames));
        self.verifier.advance(stream, count);
        self.note_steps(0, next..next + count, context);
        bytes
    }

    fn searchable(&self, stream: &[u8]) -> usize {
        self.foreign.as_ref().map_or(stream.len(), |(_, finder)| finder.searchable(stream))
    }

    fn settle(&mut self, shared: &Shared) {
        let Some(flows) = &shared.flows else {
            self.touched.iter().for_each(|publisher| self.steps[*publisher as usize] = 0);
            self.touched.clear();
            return;
        };
        for publisher in self.touched.drain(..) {
            let number = publisher as usize;
            let steps = std::mem::take(&mut self.steps[number]);
            let floor = self.floors.get(number).map_or(0, Floor::get);
            match flows.advance(number, self.thread, steps, floor) {
                Some(thread) if thread == self.thread => {
                    self.look_at.push(self.own[number].expect("the window's owner is this thread"));
                }
                Some(thread) => shared.ring(thread),
                None => {}
            }
        }
    }

    fn handle_ring(&mut self) {
        self.look_at_all = true;
    }

    fn send(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        if context.now_ns < self.timing.start_ns {
            return;
        }
        if let Some(schedule) = &mut self.schedule {
            let until_ns = context.now_ns.min(self.timing.to_ns.saturating_sub(1));
            while let Some(index) = schedule.take_due(until_ns) {
                let publisher = &mut self.publishers[index];
                publisher.called += 1;
                if publisher.called - publisher.sent == 1 {
                    self.look_at.push(index as u32);
                }
            }
        } else if self.look_at_all || !self.has_begun {
            self.look_at_all = false;
            self.has_begun = true;
            self.look_at.clear();
            self.look_at.extend(0..self.publishers.len() as u32);
        }
        self.has_more = false;
        let look_at = std::mem::take(&mut self.look_at);
        for index in &look_at {
            self.serve(*index as usize, connections, context);
        }
        if self.look_at.is_empty() {
            // Keep the list's memory.
            self.look_at = look_at;
            self.look_at.clear();
        }
    }

    fn next_due_ns(&self) -> Option<u64> {
        if self.publishers.is_empty() {
            return None;
        }
        if self.has_more {
            return Some(0);
        }
        // Publishers that wait for their socket get a writable event, those that wait for their window a ring.
        match &self.schedule {
            Some(schedule) => schedule.next_due_ns().filter(|due| *due < self.timing.to_ns),
            None => (!self.has_begun).then_some(self.timing.start_ns),
        }
    }

    fn faults(&self) -> Faults {
        let mut faults = self.verifier.faults;
        faults.add(&self.visitors.faults);
        faults
    }

    fn finish(&mut self, shared: &Shared, meter: &mut Meter) {
        meter.unsent += self
            .publishers
            .iter()
            .map(|publisher| u64::from(publisher.called.saturating_sub(publisher.sent)))
            .sum::<u64>();
        for subscriber in 0..self.streams.receivers() {
            for flow in self.topics.flows_of(self.streams.topic_of(subscriber)) {
                let stream = self.streams.at(flow, subscriber).expect("it is a flow of this topic");
                self.verifier.finish(stream, shared.sent[flow].load(Ordering::Relaxed));
            }
        }
    }
}
