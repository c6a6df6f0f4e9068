//! Calls that end before their callee has answered: cancelled by their callers, or because their time is over.

use std::collections::VecDeque;
use std::time::Duration;

use fanwire_codec::wamp2::{CancelMode, Payload, Serializer};

use super::calls::{CallExtras, Caller, PendingCall, Standing, Timer};
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::lanes::Item;
use crate::late::LateIds;
use crate::mutation::{Mutation, planted};
use crate::parcel::{Errand, Interrupt, Interruption};
use crate::session::error;
use crate::shard::Shard;

/// So long a call that was interrupted counts against its caller: else CALL and CANCEL in turns would be a way to send a callee
/// more than it can read.
const INTERRUPTED_COUNTS: Duration = Duration::from_secs(1);

/// What ended calls of one caller leave behind.
#[derive(Debug, Default)]
pub(crate) struct EndedCalls {
    /// Calls in parts that ended before their last part came.
    pub(super) late_parts: LateIds,
    /// Until when those that were interrupted count, in order; as many as it may make at most.
    interrupted: VecDeque<Instant>,
}

impl EndedCalls {
    fn add_interrupted(&mut self, until: Instant) {
        self.interrupted.push_back(until);
    }

    fn count_interrupted(&mut self, now: Instant) -> usize {
        while self.interrupted.front().is_some_and(|until| *until <= now) {
            self.interrupted.pop_front();
        }
        self.interrupted.len()
    }
}

impl Shard {
    /// The caller wants no answer any more (WAMP, "Call Canceling"). Without a mode it is `killnowait`: whoever can be
    /// interrupted need not work in vain. A callee that cannot be is left alone, in any mode.
    pub(crate) fn cancel(&mut self, now: Instant, outlet: Outlet, request: u64, mode: Option<CancelMode>) {
        let number = self.session(outlet).and_then(|session| session.calls.get(&request).copied());
        // None: the answer and the CANCEL crossed.
        let Some(number) = number else { return };
        let Some(call) = self.calls.get_mut(&number) else { return };
        let mode = match mode.unwrap_or(CancelMode::KillNoWait) {
            _ if !call.callee_features.call_canceling() && !planted(Mutation::InterruptsAnybody) => {
                CancelMode::Skip
            }
            CancelMode::Kill if planted(Mutation::KillAwaitsNothing) => CancelMode::KillNoWait,
            mode => mode,
        };
        match (call.standing, mode) {
            (Standing::Answered, _) | (Standing::Killed, CancelMode::Kill) => {}
            (Standing::Waiting, CancelMode::Kill) => {
                call.standing = Standing::Killed;
                let call = *call;
                self.interrupt_callee(number, &call, Interrupt::Kill);
            }
            (_, CancelMode::KillNoWait) => {
                self.give_up_call(now, number, error::CANCELED, "the caller cancelled the call");
            }
            (_, CancelMode::Skip) => {
                self.skip_call(number, error::CANCELED, "the caller cancelled the call");
            }
        }
    }

    /// Ends a call for its caller. Its callee is interrupted if it can be.
    pub(super) fn give_up_call(&mut self, now: Instant, number: u64, uri: &'static str, words: &str) {
        let Some(call) = self.calls.get(&number) else { return };
        // Its caller has its answer and waits no more, and its callee works on: it counts until that has answered.
        if call.standing == Standing::Answered {
            return;
        }
        if !call.callee_features.call_canceling() && !planted(Mutation::InterruptsAnybody) {
            return self.skip_call(number, uri, words);
        }
        let Some(call) = self.conclude_call(number) else { return };
        self.interrupt_callee(number, &call, Interrupt::KillNoWait);
        self.count_interrupted(now, call.caller);
        self.refuse_call(call.caller, uri, words);
    }

    /// A call that its callee has only just been told to leave counts a moment longer.
    pub(super) fn count_interrupted(&mut self, now: Instant, caller: Caller) {
        if let Caller::Session { outlet, .. } = caller
            && let Some(session) = self.session_mut(outlet)
        {
            session.ended_calls.get_or_insert_default().add_interrupted(now + INTERRUPTED_COUNTS);
        }
    }

    /// How many calls count against this caller: those without an answer, and those that were interrupted a moment ago.
    pub(super) fn calls_of(&mut self, now: Instant, outlet: Outlet) -> usize {
        let session = self.session_mut(outlet).expect("an open session calls");
        let interrupted = session.ended_calls.as_mut().map_or(0, |ended| ended.count_interrupted(now));
        session.calls.len() + interrupted
    }

    /// Ends a call for its caller. What its callee answers goes nowhere.
    fn skip_call(&mut self, number: u64, uri: &'static str, words: &str) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.standing == Standing::Answered {
            return;
        }
        if !planted(Mutation::CancelledStillAnswered) {
            call.standing = Standing::Answered;
        }
        let call = *call;
        if planted(Mutation::PlaceFreedEarly)
            && let Some(extras) = self.call_extras.get_mut(&number)
        {
            extras.claim = None;
        }
        if call.takes_progress && !planted(Mutation::PartsAfterEnd) {
            self.interrupt_callee(number, &call, Interrupt::DropProgress);
        }
        self.refuse_call(call.caller, uri, words);
    }

    /// Tells the callee's shard, behind the call itself: an item that is parked has not left, and never will.
    pub(super) fn interrupt_callee(&mut self, number: u64, call: &PendingCall, why: Interrupt) {
        let interruption = Interruption { call: self.key_of(number), callee: call.callee, why };
        if call.callee_shard == self.id {
            return self.interrupt(interruption);
        }
        let errand = Errand::Interrupt(interruption);
        let parcel = self.spares.pack(errand, Serializer::Json, Payload::default());
        self.lanes.stage(call.callee_shard, Item::Call(parcel));
    }

    /// For a call that has not left: whether its caller has its answer already. No callee will ever have one to give.
    pub(crate) fn forget_ended_call(&mut self, number: u64) -> bool {
        let has_ended = self.calls.get(&number).is_none_or(|call| call.standing == Standing::Answered);
        if has_ended {
            self.take_call(number);
        }
        has_ended
    }

    // --- time --------------------------------------------------------------------------------------------------

    /// Gives the call so much time from now on.
    pub(crate) fn start_timer(&mut self, now: Instant, number: u64, time: Duration) {
        self.use_timer(number, Some(Timer::new(now, time)));
    }

    /// The call is given up by this timer, if any, and by no other.
    pub(super) fn use_timer(&mut self, number: u64, timer: Option<Timer>) {
        let extras = self.extras_of(number);
        let before = std::mem::replace(&mut extras.timer, timer);
        if let Some(before) = before {
            self.call_timers.remove(&(before.at, number));
        }
        if let Some(timer) = timer
            && !planted(Mutation::TimeNeverOver)
        {
            self.call_timers.insert((timer.at, number));
        }
    }

    /// A part of the result has come (WAMP, "Progressive Call Results", "Timeouts").
    pub(super) fn restart_timer(&mut self, now: Instant, number: u64) {
        let timer = self.call_extras.get(&number).and_then(|extras| extras.timer);
        if let Some(Timer { time, .. }) = timer
            && !planted(Mutation::TimerNotRestarted)
        {
            self.start_timer(now, number, time);
        }
    }

    /// Ends calls whose time is over.
    pub(crate) fn expire_called(&mut self, now: Instant) {
        while let Some(&(at, number)) = self.call_timers.first()
            && at <= now
        {
            self.call_timers.pop_first();
            self.give_up_call(now, number, error::TIMEOUT, "the call's time is over");
        }
    }

    // --- what few calls have -----------------------------------------------------------------------------------

    pub(super) fn extras_of(&mut self, number: u64) -> &mut CallExtras {
        self.calls.get_mut(&number).expect("it is noted").has_extras = true;
        self.call_extras.entry(number).or_default()
    }

    /// The call has ended.
    #[cold]
    pub(super) fn drop_extras(&mut self, number: u64, call: &PendingCall) {
        let Some(extras) = self.call_extras.remove(&number) else { return };
        if let Some(timer) = extras.timer
            && !planted(Mutation::TimerOutlivesCall)
        {
            self.call_timers.remove(&(timer.at, number));
        }
        self.drop_reroute(extras.reroute);
        if let (Some(_), Caller::Session { outlet, request, .. }) = (extras.part, call.caller) {
            self.note_late_parts(outlet, request);
        }
    }

    /// Parts of this request that come from now on are ignored (WAMP, "Continuations on Completed Calls").
    pub(crate) fn note_late_parts(&mut self, outlet: Outlet, request: u64) {
        if planted(Mutation::LatePartIsCall) {
            return;
        }
        if let Some(session) = self.session_mut(outlet) {
            session.ended_calls.get_or_insert_default().late_parts.add(request);
        }
    }
}
