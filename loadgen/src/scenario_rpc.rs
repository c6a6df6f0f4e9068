//! `rpc`: callers → callees, which echo their argument.
//!
//! ```text
//! CALL [stamp, filler] ─▶ router ─▶ INVOCATION ─▶ order per caller is verified ─▶ YIELD, the same bytes
//! RESULT ◀─ router ◀─ …  is it the answer to that very request, once, with the same bytes? latency
//! ```
//!
//! A caller always calls the same procedure. WAMP promises that its calls reach the callee in their order, which is
//! checked there; the order of results is not promised and only counted.

use std::sync::Arc;

use fanwire_codec::wamp2::{self, CallOptions, DecodeLimits, Message, Payload, YieldOptions, code};

use crate::connection::Connection;
use crate::meter::{Meter, Timing};
use crate::plan::{Load, Plan, Role, RpcPlan};
use crate::reader::{Kind, Pattern};
use crate::scenario::{Context, Scenario};
use crate::schedule::Schedule;
use crate::session::{self, error_words};
use crate::shared::Shared;
use crate::stamp::Stamp;
use crate::verify::{Faults, Seen, Verifier};

/// One caller of this thread.
#[derive(Debug)]
struct Caller {
    number: u32,
    connection: usize,
    sent: u32,
    /// Calls that the schedule has called for (open loop).
    called: u32,
    /// Request id of sequence 0.
    first_request: u64,
}

/// Where calls are counted.
#[derive(Clone, Copy, Debug)]
enum Tally {
    /// Their results are the deliveries that the run is about.
    Main,
    /// They are operations beside something else: the first of the plan, and from this time on the second.
    Operations { second_from_ns: u64 },
}

impl Tally {
    fn operation(self, intended_ns: u64) -> Option<usize> {
        match self {
            Tally::Main => None,
            Tally::Operations { second_from_ns } => Some(usize::from(intended_ns >= second_from_ns)),
        }
    }
}

/// The part of one thread.
#[derive(Debug)]
pub struct Rpc {
    run: u16,
    load: Load,
    tally: Tally,
    /// One per callee.
    procedures: Vec<Arc<str>>,
    timing: Timing,
    callers: Vec<Caller>,
    /// By caller number: its index in `callers`, if it is of this thread.
    own: Vec<Option<u32>>,
    caller_count: usize,
    schedule: Option<Schedule>,
    pattern: Pattern,
    /// Invocations that callees of this thread got; stream: number of the caller.
    invocations: Verifier,
    /// Answers that callers of this thread got; stream: index of the caller.
    answers: Verifier,
    look_at: Vec<u32>,
    has_begun: bool,
}

impl Rpc {
    /// For `thread`.
    pub fn new(plan: &Plan, thread: usize) -> Self {
        let rpc = plan.rpc.as_ref().expect("the plan and the scenario are made from the same arguments");
        let RpcPlan { callers: caller_count, load, ref procedures } = *rpc;
        let callers = plan.count(thread, |role| matches!(role, Role::Caller(_)));
        let has_callees = plan.count(thread, |role| matches!(role, Role::Callee(_))) > 0;
        Self {
            run: plan.run,
            load,
            tally: Tally::Main,
            procedures: procedures.clone(),
            timing: Timing { start_ns: u64::MAX, ..Timing::default() },
            callers: Vec::with_capacity(callers),
            own: vec![None; caller_count],
            caller_count,
            schedule: None,
            pattern: Pattern::new(plan.serializer, plan.payload_bytes),
            invocations: Verifier::new(if has_callees { caller_count } else { 0 }),
            answers: Verifier::new(callers),
            look_at: Vec::new(),
            has_begun: false,
        }
    }

    /// Counts the calls as operations beside something else; those meant for `second_from_ns` or later as the second.
    pub fn beside(&mut self, second_from_ns: u64) {
        self.tally = Tally::Operations { second_from_ns };
    }

    /// Calls once more; it is only appended to what the connection has to write.
    fn call(
        &mut self,
        index: usize,
        intended_ns: u64,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) {
        let caller = &mut self.callers[index];
        let stamp = Stamp { publisher: caller.number, sequence: caller.sent, run: self.run, intended_ns };
        caller.sent += 1;
        let payload = Payload { args: Some(self.pattern.stamped(&stamp)), kwargs: None, ..Payload::EMPTY };
        let request = connection.take_request();
        let tools = &mut context.tools;
        let procedure = (&*self.procedures[caller.number as usize % self.procedures.len()]).into();
        let message = Message::Call { request, options: CallOptions::default(), procedure, payload };
        connection.push(&message, tools.scratch, tools.masks);
        match self.tally.operation(intended_ns) {
            Some(index) => context.meter.operation_begun(index, context.now_ns, intended_ns),
            None => {
                context.meter.message_sent(context.now_ns, intended_ns);
                context.meter.expected += 1;
            }
        }
    }

    fn handle_invocation(
        &mut self,
        connection: &mut Connection,
        request: u64,
        stamp: Stamp,
        payload: Payload<'_>,
        context: &mut Context<'_>,
    ) {
        if stamp.run != self.run || stamp.publisher as usize >= self.caller_count {
            self.invocations.faults.corrupt += 1;
        } else {
            self.invocations.see(stamp.publisher as usize, stamp.sequence);
        }
        let tools = &mut context.tools;
        let answer = Message::Yield { request, options: YieldOptions::default(), payload };
        connection.push(&answer, tools.scratch, tools.masks);
    }

    /// `stamp` is what the answer carries; an ERROR carries none.
    fn handle_answer(
        &mut self,
        connection: &mut Connection,
        caller: u32,
        request: u64,
        stamp: Option<Stamp>,
        context: &mut Context<'_>,
    ) {
        let Some(index) = self.own[caller as usize] else { return };
        let index = index as usize;
        let Caller { first_request, sent, .. } = self.callers[index];
        let sequence = request.wrapping_sub(first_request);
        // An answer to what was never asked, or another caller's or call's bytes.
        let is_ours = sequence < u64::from(sent)
            && stamp.is_none_or(|stamp| {
                stamp.publisher == caller && u64::from(stamp.sequence) == sequence && stamp.run == self.run
            });
        if !is_ours {
            self.answers.faults.corrupt += 1;
            return;
        }
        match self.answers.see(index, sequence as u32) {
            Seen::Duplicate => return,
            Seen::Late => context.meter.results_reordered += 1,
            Seen::InOrder | Seen::Gap(_) => {}
        }
        match (stamp, self.tally) {
            (Some(stamp), Tally::Main) => context.meter.delivery(context.now_ns, stamp.intended_ns),
            (Some(stamp), tally) => {
                let index = tally.operation(stamp.intended_ns).expect("this tally has operations");
                context.meter.operations[index].finish(context.now_ns, stamp.intended_ns);
            }
            (None, Tally::Main) => {}
            // An error does not say when its call was meant to be sent.
            (None, tally) => {
                let index = tally.operation(context.now_ns).expect("this tally has operations");
                context.meter.operations[index].failed += 1;
            }
        }
        context.meter.advanced += u64::from(matches!(self.tally, Tally::Main));
        if matches!(self.load, Load::Closed { .. }) && context.now_ns < self.timing.to_ns {
            self.call(index, context.now_ns, connection, context);
        }
    }

    /// A message that is not an invocation or result of ours in the usual form.
    #[cold]
    fn handle_other(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let message = wamp2::decode(connection.serializer, bytes, &DecodeLimits::default())
            .map_err(|error| format!("the server sent what is no WAMP message: {error}"))?;
        match (connection.role, message) {
            (Role::Callee(_), Message::Invocation { request, payload, .. }) => {
                match self.pattern.read_payload(&payload) {
                    Some(stamp) => self.handle_invocation(connection, request, stamp, payload, context),
                    None => self.invocations.faults.corrupt += 1,
                }
            }
            (Role::Caller(caller), Message::Result { request, payload, .. }) => {
                match self.pattern.read_payload(&payload) {
                    Some(stamp) => self.handle_answer(connection, caller, request, Some(stamp), context),
                    None => self.answers.faults.corrupt += 1,
                }
            }
            (Role::Caller(caller), Message::Error { request_type: code::CALL, request, error, payload }) => {
                let words = error_words(connection.serializer, &payload);
                context.meter.errors.note(&format!("CALL: {error}{words}"));
                self.handle_answer(connection, caller, request, None, context);
            }
            (_, Message::Error { error, payload, .. }) => {
                let words = error_words(connection.serializer, &payload);
                context.meter.errors.note(&format!("{error}{words}"));
            }
            (_, Message::Abort { reason, message }) => {
                return Err(format!("ABORT {reason}: {}", message.as_deref().unwrap_or("no words")));
            }
            (_, Message::Goodbye { reason, .. }) => {
                session::answer_goodbye(connection, &mut context.tools);
                return Err(format!("GOODBYE {reason}"));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Scenario for Rpc {
    fn begin(&mut self, timing: Timing, connections: &[Connection]) {
        self.timing = timing;
        for (index, connection) in connections.iter().enumerate() {
            if let Role::Caller(number) = connection.role {
                self.own[number as usize] = Some(self.callers.len() as u32);
                let first_request = connection.next_request();
                self.callers.push(Caller { number, connection: index, sent: 0, called: 0, first_request });
            }
        }
        if let Load::Open { rate } = self.load {
            let own = self.callers.iter().map(|caller| caller.number).collect();
            self.schedule = Some(Schedule::new(timing.start_ns, rate, self.caller_count, own));
        }
    }

    #[inline]
    fn handle_message(
        &mut self,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        match connection.role {
            Role::Caller(caller) => {
                if let Some((request, stamp, _)) = self.pattern.recognise(Kind::Result, message) {
                    self.handle_answer(connection, caller, request, Some(stamp), context);
                    return Ok(());
                }
            }
            Role::Callee(_) => {
                if let Some((request, stamp, args)) = self.pattern.recognise(Kind::Invocation, message) {
                    let payload = Payload { args: Some(args), kwargs: None, ..Payload::EMPTY };
                    self.handle_invocation(connection, request, stamp, payload, context);
                    return Ok(());
                }
            }
            _ => {}
        }
        self.handle_other(connection, message, context)
    }

    fn settle(&mut self, _: &Shared) {}

    fn handle_ring(&mut self) {}

    fn send(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        if context.now_ns < self.timing.start_ns {
            return;
        }
        match (self.load, &mut self.schedule) {
            (Load::Open { .. }, Some(schedule)) => {
                let until_ns = context.now_ns.min(self.timing.to_ns.saturating_sub(1));
                while let Some(index) = schedule.take_due(until_ns) {
                    let caller = &mut self.callers[index];
                    caller.called += 1;
                    if caller.called - caller.sent == 1 {
                        self.look_at.push(index as u32);
                    }
                }
                for index in std::mem::take(&mut self.look_at) {
                    let index = index as usize;
                    let connection = &mut connections[self.callers[index].connection];
                    while connection.has_room() && self.callers[index].sent < self.callers[index].called {
                        let schedule = self.schedule.as_ref().expect("this is the open loop");
                        let intended_ns =
                            schedule.intended_ns(self.callers[index].number, self.callers[index].sent);
                        self.call(index, intended_ns, connection, context);
                    }
                    let _ = connection.flush();
                    if self.callers[index].sent < self.callers[index].called && connection.socket.is_some() {
                        self.look_at.push(index as u32);
                    }
                }
            }
            (Load::Closed { window }, _) if !self.has_begun => {
                self.has_begun = true;
                for index in 0..self.callers.len() {
                    let connection = &mut connections[self.callers[index].connection];
                    for _ in 0..window {
                        self.call(index, context.now_ns, connection, context);
                    }
                    let _ = connection.flush();
                }
            }
            _ => {}
        }
    }

    fn next_due_ns(&self) -> Option<u64> {
        match &self.schedule {
            Some(schedule) => schedule.next_due_ns().filter(|due| *due < self.timing.to_ns),
            None => (!self.has_begun && !self.callers.is_empty()).then_some(self.timing.start_ns),
        }
    }

    fn faults(&self) -> Faults {
        let (calls, answers) = (&self.invocations.faults, &self.answers.faults);
        Faults {
            // What was lost on the way to the callee is missing at the caller too.
            lost: answers.lost,
            out_of_order: calls.out_of_order,
            duplicates: calls.duplicates + answers.duplicates,
            corrupt: calls.corrupt + answers.corrupt,
        }
    }

    fn finish(&mut self, _: &Shared, meter: &mut Meter) {
        for (index, caller) in self.callers.iter().enumerate() {
            self.answers.finish(index, caller.sent);
            meter.unsent += u64::from(caller.called.saturating_sub(caller.sent));
        }
    }
}
