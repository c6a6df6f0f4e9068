//! The callee's side: invocations, interrupts, and what is said of them.

use fanwire_codec::wamp2::{CancelMode, Feature, Payload, Serializer};

use super::{Invoking, Said};
use crate::broker::Origin;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::encoding::Source;
use crate::ids::SessionId;
use crate::invocations::Invoked;
use crate::lanes::Item;
use crate::mutation::{Mutation, planted};
use crate::parcel::{
    Answer, CallKey, Errand, Failure, Interrupt, Interruption, Invocation, Outcome, Parcel, Sender,
};
use crate::session::{State, error};
use crate::shard::Shard;

impl Shard {
    /// Sends INVOCATION, or says why not.
    pub(super) fn invoke(&mut self, mut invoking: Invoking<'_>, source: &Source<'_>) -> Result<(), Failure> {
        let Invoking { call, registration, callee, .. } = invoking;
        let outlet = *self.outlets.get(&callee).ok_or(Failure::NotThere)?;
        let invocations_max = self.config.limits.invocations_max;
        let session = self.session_mut(outlet).ok_or(Failure::NotThere)?;
        if session.state != State::Open {
            return Err(Failure::NotThere);
        }
        // No INVOCATION after UNREGISTERED: the item may have been on its way.
        // The list is sorted.
        let stands = session.registrations.binary_search_by_key(&registration, |held| held.id()).is_ok();
        if !stands && !planted(Mutation::StaleInvocation) {
            return Err(Failure::NotRegistered);
        }
        if session.invocations.len() >= invocations_max {
            return Err(Failure::Overloaded);
        }
        let encoding = session.encoding;
        let Ok(payload) = source.get(encoding.serializer()) else {
            return Err(Failure::Untranslatable);
        };
        session.last_invocation += 1;
        let request = session.last_invocation;
        let takes_progress = invoking.asks.receive_progress;
        session.invocations.insert(request, Invoked { call, takes_progress });
        // Who has not announced it is not told, and may do so all the same: not all clients announce what they can.
        let is_told = takes_progress && session.announced.as_callee(Feature::ProgressiveCallResults);
        invoking.asks.receive_progress = is_told;
        let said = self
            .delivery
            .try_reply(outlet, |out| encoding.write_invocation(request, &invoking, payload, out));
        if !said {
            // Its number is the next one's: they have no gaps.
            let session = self.session_mut(outlet).expect("it was here");
            session.invocations.remove(request);
            session.last_invocation -= 1;
            return Err(Failure::TooLong);
        }
        self.delivery.counters.invocations += 1;
        Ok(())
    }

    /// Sends another part of what the callee was asked. It may have answered meanwhile: then it wants none.
    pub(super) fn invoke_part(
        &mut self,
        mut invoking: Invoking<'_>,
        source: &Source<'_>,
    ) -> Result<(), Failure> {
        let Some(&outlet) = self.outlets.get(&invoking.callee) else { return Ok(()) };
        let session = self.session_mut(outlet).expect("it has an id");
        let Some(request) = session.invocations.find(invoking.call) else { return Ok(()) };
        invoking.asks.receive_progress &= session.announced.as_callee(Feature::ProgressiveCallResults);
        let encoding = session.encoding;
        let why = match source.get(encoding.serializer()) {
            Err(_) => Failure::Untranslatable,
            Ok(payload) => {
                let write = |out: &mut _| encoding.write_invocation(request, &invoking, payload, out);
                if self.delivery.try_reply(outlet, write) {
                    return Ok(());
                }
                Failure::TooLong
            }
        };
        self.stop_invocation(outlet, request);
        Err(why)
    }

    /// INTERRUPT: nobody waits for its answer any more.
    fn stop_invocation(&mut self, outlet: Outlet, request: u64) {
        let session = self.session_mut(outlet).expect("it was asked");
        session.invocations.interrupt(request);
        let encoding = session.encoding;
        self.delivery.counters.interrupts += 1;
        self.delivery.reply(outlet, |out| encoding.write_interrupt(request, CancelMode::KillNoWait, out));
    }

    /// The same, for the invocation of this call, if it has no answer yet.
    pub(super) fn stop_invocation_of(&mut self, call: CallKey, callee: SessionId) {
        let Some(&outlet) = self.outlets.get(&callee) else { return };
        let session = self.session_mut(outlet).expect("it has an id");
        if let Some(request) = session.invocations.find(call) {
            self.stop_invocation(outlet, request);
        }
    }

    /// The caller has cancelled or left, or the call's time is over.
    pub(super) fn interrupt(&mut self, interruption: Interruption) {
        let Interruption { call, callee, why } = interruption;
        let Some(&outlet) = self.outlets.get(&callee) else { return };
        let session = self.session_mut(outlet).expect("it has an id");
        // None: its answer is on its way.
        let Some(request) = session.invocations.find(call) else { return };
        let encoding = session.encoding;
        let mode = match why {
            Interrupt::Kill => CancelMode::Kill,
            Interrupt::KillNoWait if planted(Mutation::LateAnswerIsViolation) => {
                session.invocations.remove(request);
                CancelMode::KillNoWait
            }
            Interrupt::KillNoWait => {
                session.invocations.interrupt(request);
                CancelMode::KillNoWait
            }
            Interrupt::DropProgress => return session.invocations.refuse_progress(request),
        };
        self.delivery.counters.interrupts += 1;
        self.delivery.reply(outlet, |out| encoding.write_interrupt(request, mode, out));
    }

    /// A callee's final YIELD or its ERROR. False if it answers nothing that it was asked.
    pub(crate) fn answer(
        &mut self,
        outlet: Outlet,
        invocation: u64,
        said: Said<'_>,
        payload: Payload<'_>,
    ) -> bool {
        let session = self.session_mut(outlet).expect("an open session answers");
        let Some(Invoked { call, .. }) = session.invocations.remove(invocation) else {
            return self.is_late_answer(outlet, invocation);
        };
        let serializer = session.encoding.serializer();
        if call.shard == self.id {
            self.answer_call(call.number, said, &Source::borrowed(serializer, payload));
            return true;
        }
        let outcome = match said {
            Said::Result => Outcome::Result,
            Said::Error(uri) => Outcome::Error(uri.into()),
        };
        self.send_answer(call, outcome, serializer, payload);
        true
    }

    /// A part of a callee's result. False as above. Where the caller takes no parts, only the last one counts.
    pub(crate) fn answer_part(
        &mut self,
        now: Instant,
        outlet: Outlet,
        invocation: u64,
        payload: Payload<'_>,
    ) -> bool {
        let session = self.session(outlet).expect("an open session answers");
        let Some(Invoked { call, takes_progress }) = session.invocations.get(invocation) else {
            return self.is_late_answer(outlet, invocation);
        };
        if !takes_progress && !planted(Mutation::PartsUnasked) {
            self.delivery.counters.results_discarded += 1;
            return true;
        }
        let (id, serializer) = (session.id, session.encoding.serializer());
        if call.shard == self.id && self.caller_takes_part(call.number, (serializer, payload.bytes_max())) {
            self.progress_call(now, call.number, &Source::borrowed(serializer, payload));
            return true;
        }
        let outcome = Outcome::Progress { invocation };
        let answer = Errand::Answer(Answer { number: call.number, outcome });
        let parcel = self.spares.pack(answer, serializer, payload);
        self.send_part(now, Origin::Session { outlet, session: id }, call.shard, parcel);
        true
    }

    fn caller_takes_part(&self, number: u64, part: (Serializer, usize)) -> bool {
        let caller = self.calls.get(&number).and_then(|call| call.caller.outlet());
        caller.is_none_or(|outlet| self.takes_part(outlet, part))
    }

    /// A part of a callee's result that cannot be sent on: the call fails, and the callee hears of it. False as above.
    pub(crate) fn fail_part(&mut self, outlet: Outlet, invocation: u64) -> bool {
        let session = self.session_mut(outlet).expect("an open session answers");
        let Some(Invoked { call, .. }) = session.invocations.get(invocation) else {
            return self.is_late_answer(outlet, invocation);
        };
        session.invocations.interrupt(invocation);
        let encoding = session.encoding;
        if session.announced.as_callee(Feature::CallCanceling) {
            self.delivery.counters.interrupts += 1;
            self.delivery
                .reply(outlet, |out| encoding.write_interrupt(invocation, CancelMode::KillNoWait, out));
        }
        let (uri, serializer, payload) = (error::INVALID_ARGUMENT, Serializer::Json, Payload::default());
        if call.shard == self.id {
            self.answer_call(call.number, Said::Error(uri), &Source::borrowed(serializer, payload));
        } else {
            self.send_answer(call, Outcome::Error(uri.into()), serializer, payload);
        }
        true
    }

    /// Whether it speaks of what was interrupted, which it may have done before it knew.
    #[cold]
    fn is_late_answer(&mut self, outlet: Outlet, invocation: u64) -> bool {
        let session = self.session_mut(outlet).expect("an open session answers");
        let is_late = session.invocations.is_late(invocation);
        self.delivery.counters.results_discarded += u64::from(is_late);
        is_late
    }

    /// The callee left: its callers hear of it at once.
    pub(crate) fn disown_invocations(&mut self, calls: impl Iterator<Item = CallKey>) {
        for call in calls {
            if planted(Mutation::GoneCalleeSilent) {
                continue;
            }
            self.send_failure(call, Failure::Gone);
        }
    }

    // --- between shards ----------------------------------------------------------------------------------------

    /// Does what a parcel was sent for.
    pub(super) fn open_parcel(&mut self, now: Instant, mut parcel: Box<Parcel>) {
        match parcel.take_errand() {
            Errand::Invoke(invocation) => {
                let invoking = Invoking::of(&invocation);
                let source = parcel.source();
                let done = if invocation.asks.continues {
                    self.invoke_part(invoking, &source)
                } else {
                    self.invoke(invoking, &source)
                };
                if let Err(why) = done {
                    self.send_failure(invocation.call, why);
                }
                let CallKey { shard, number } = invocation.call;
                self.tell_taken(shard, Sender::Caller { number }, parcel.credit);
            }
            Errand::Interrupt(interruption) => self.interrupt(interruption),
            Errand::Revoke { callee, registration } => self.revoke(callee, registration),
            Errand::Answer(Answer { number, outcome }) => match outcome {
                Outcome::Result => self.answer_call(number, Said::Result, &parcel.source()),
                Outcome::Progress { invocation } => {
                    if let Some(call) = self.calls.get(&number) {
                        let sender = Sender::Callee { session: call.callee, invocation };
                        self.tell_taken(call.callee_shard, sender, parcel.credit);
                    }
                    self.progress_call(now, number, &parcel.source());
                }
                Outcome::Error(uri) => self.answer_call(number, Said::Error(&uri), &parcel.source()),
                Outcome::Failed(why) => self.fail_call(number, why),
            },
            Errand::Credit(credit) => self.confirm_parts(credit),
        }
        self.spares.keep(parcel);
    }

    /// The call has no answer of this callee, which its caller's shard is to know.
    pub(super) fn send_failure(&mut self, call: CallKey, why: Failure) {
        if call.shard == self.id {
            return self.fail_call(call.number, why);
        }
        self.send_answer(call, Outcome::Failed(why), Serializer::Json, Payload::default());
    }

    fn send_answer(&mut self, call: CallKey, outcome: Outcome, serializer: Serializer, payload: Payload<'_>) {
        let answer = Errand::Answer(Answer { number: call.number, outcome });
        let parcel = self.spares.pack(answer, serializer, payload);
        self.lanes.stage(call.shard, Item::Call(parcel));
    }
}

impl<'a> Invoking<'a> {
    fn of(invocation: &'a Invocation) -> Self {
        let Invocation { call, registration, callee, ref procedure, ref caller, asks } = *invocation;
        let (procedure, caller) = (procedure.as_deref(), caller.as_ref());
        Self { call, registration, callee, procedure, caller, asks }
    }
}
