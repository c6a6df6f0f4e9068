//! Calls of this shard's sessions, from their CALL to their one final answer.
//!
//! ```text
//!            kill: the callee is interrupted               the callee has answered, or left
//! Waiting ─────────────────────────────────▶ Killed ──────────────────────────────▶ (forgotten)
//!    │ │                                                                                 ▲ ▲
//!    │ └───────── answer, killnowait, timeout with an interrupt ───────────────────────────┘ │
//!    └─ skip, timeout without ──▶ Answered ── the callee has answered, or left ──────────────┘
//! ```
//!
//! The caller has its final answer on each arrow that leaves `Waiting` or `Killed`, but for that between the two. `Answered`
//! calls count against their caller's limit: or one could burden a callee with any number of calls that nobody waits for. Who
//! was interrupted need not answer, so those are forgotten, but count for a second more: callee and router had work with them.

use std::time::Duration;

use fanwire_codec::payload::{OwnedPayload, SharedPayload};
use fanwire_codec::wamp2::{Payload, Serializer};

use super::reroute::{Reroute, Unrouted};
use super::{Part, Said, Window, no_form};
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::directory::{CalleeFeatures, Claim};
use crate::encoding::Source;
use crate::ids::{SessionId, ShardId};
use crate::mutation::{Mutation, planted};
use crate::parcel::{CallKey, Failure, Interrupt};
use crate::question::{Denial, Grant};
use crate::session::error;
use crate::shard::Shard;

/// A call of one of this shard's sessions that its caller or its callee has not done with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingCall {
    pub(super) caller: Caller,
    /// Who was asked; nobody's id where a hook answers.
    pub(super) callee: SessionId,
    pub(super) callee_shard: ShardId,
    pub(super) callee_features: CalleeFeatures,
    pub(super) standing: Standing,
    pub(super) takes_progress: bool,
    /// [`Shard::call_extras`] has something for it.
    pub(super) has_extras: bool,
}

const _: () =
    assert!(size_of::<PendingCall>() <= 32, "one is copied into a table and out of it for each call");

impl PendingCall {
    /// One that a hook answers.
    pub(super) fn asked(caller: Caller, shard: ShardId) -> Self {
        Self {
            caller,
            callee: SessionId::MAX,
            callee_shard: shard,
            callee_features: CalleeFeatures::default(),
            standing: Standing::Waiting,
            takes_progress: false,
            has_extras: false,
        }
    }
}

impl PendingCall {
    /// Whether somebody waits for its result in parts.
    pub(super) fn wants_parts(&self) -> bool {
        (self.takes_progress || planted(Mutation::PartsUnasked))
            && (self.standing != Standing::Answered || planted(Mutation::PartsAfterEnd))
    }
}

/// Who waits for a call's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// The session of this connection: its calls end with it.
    Session { outlet: Outlet, request: u64 },
    /// A request by API, known by the call's number.
    Api(u64),
    /// It has left; its callee still works on it, and others wait for their turn.
    Nobody,
}

impl Caller {
    pub(super) fn outlet(&self) -> Option<Outlet> {
        match self {
            Self::Session { outlet, .. } => Some(*outlet),
            Self::Api(_) | Self::Nobody => None,
        }
    }
}

/// Where a call stands; see the picture above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Waiting,
    Killed,
    Answered,
}

/// What few calls have.
#[derive(Debug, Default)]
pub(crate) struct CallExtras {
    pub(super) timer: Option<Timer>,
    /// More parts of it may come.
    pub(super) part: Option<Part>,
    /// Of its parts, what is under way to the callee's shard.
    pub(super) window: Window,
    /// It counts for its callee.
    pub(super) claim: Option<Claim>,
    /// What it takes to ask another callee.
    pub(super) reroute: Option<Reroute>,
}

/// When a call is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    pub(super) at: Instant,
    /// From the call, or the last part of its result, on.
    pub(super) time: Duration,
}

impl Timer {
    pub(super) fn new(now: Instant, time: Duration) -> Self {
        Self { at: now + time, time }
    }
}

impl Shard {
    /// Gives a call its number, by which its answer will find the caller.
    pub(crate) fn note_call(&mut self, call: impl FnOnce(u64) -> PendingCall) -> u64 {
        self.last_call += 1;
        let number = self.last_call;
        self.calls.insert(number, call(number));
        self.delivery.counters.calls += 1;
        self.delivery.counters.calls_pending += 1;
        number
    }

    /// The same, for one that a hook answers.
    pub(crate) fn note_asked_call(&mut self, caller: impl FnOnce(u64) -> Caller) -> u64 {
        let shard = self.id;
        self.note_call(|number| PendingCall::asked(caller(number), shard))
    }

    /// Forgets a call.
    #[inline]
    pub(super) fn take_call(&mut self, number: u64) -> Option<PendingCall> {
        let call = self.calls.remove(&number)?;
        self.delivery.counters.calls_pending -= 1;
        if call.has_extras {
            self.drop_extras(number, &call);
        }
        if let Caller::Session { outlet, request } = call.caller {
            let numbered = self.session_mut(outlet)?.calls.remove(&request);
            debug_assert_eq!(numbered, Some(number), "abandoned when the caller left");
        }
        Some(call)
    }

    /// Forgets a call that has its final answer now, from its callee's side; none if its caller does not wait for it any more.
    #[inline]
    pub(super) fn conclude_call(&mut self, number: u64) -> Option<PendingCall> {
        self.take_call(number).filter(|call| call.standing != Standing::Answered)
    }

    /// The one final answer of a call without a callee's words.
    pub(super) fn fail_call(&mut self, number: u64, why: Failure) {
        if !why.is_the_callees() {
            return self.end_call(number, why);
        }
        match self.reroute(number) {
            Ok(()) => {}
            Err(Unrouted::Nobody) => self.end_call(number, why),
            Err(Unrouted::Failed(why)) => self.end_call(number, why),
        }
    }

    /// The same, and nobody else is asked.
    fn end_call(&mut self, number: u64, why: Failure) {
        // None: the caller left or cancelled.
        let Some(call) = self.conclude_call(number) else { return };
        let (uri, words) = match why {
            Failure::Gone | Failure::NotThere => (error::CANCELED, "the callee left before it answered"),
            Failure::NotRegistered => (error::NO_SUCH_PROCEDURE, "the procedure was unregistered"),
            Failure::Untranslatable => {
                (error::INVALID_ARGUMENT, "the arguments have no form in the callee's serializer")
            }
            Failure::TooLong => (error::PAYLOAD_SIZE_EXCEEDED, "the call is longer than the callee takes"),
            Failure::Overloaded => (
                error::UNAVAILABLE,
                "the callee has too many calls waiting (limits.pending_invocations_per_session): try again later",
            ),
            Failure::NoRoom => (error::UNAVAILABLE, "the way to another callee is full: try again later"),
            Failure::Stuck => (error::UNAVAILABLE, "the callee takes the parts of the call too slowly"),
        };
        if why == Failure::Stuck {
            // Its callee was interrupted.
            self.count_interrupted(self.turn_at, call.caller);
        }
        self.refuse_call(call.caller, uri, words);
    }

    /// The callee's final answer.
    pub(super) fn answer_call(&mut self, number: u64, said: Said<'_>, source: &Source<'_>) {
        let mut said = said;
        // WAMP, "Call Re-Routing": its word for that, if it knows what it means.
        if let Said::Error(uri) = &mut said
            && *uri == error::UNAVAILABLE
            && self.callee_reroutes(number)
        {
            match self.reroute(number) {
                Ok(()) => return,
                Err(Unrouted::Failed(why)) => return self.end_call(number, why),
                Err(Unrouted::Nobody) => {}
            }
            *uri = error::NO_AVAILABLE_CALLEE;
        }
        // None: the caller left or cancelled.
        let Some(call) = self.conclude_call(number) else { return };
        if source.is_passthru() && !self.takes_passthru(call.caller) {
            return self.refuse_call(call.caller, error::FEATURE_NOT_SUPPORTED, NO_PASSTHRU);
        }
        let Caller::Session { outlet, request, .. } = call.caller else {
            return self.answer_api_call(number, said, source);
        };
        let encoding = self.session(outlet).expect("a call without its caller was abandoned").encoding;
        let Ok(payload) = source.get(encoding.serializer()) else {
            return self.refuse_call(call.caller, error::INVALID_ARGUMENT, &no_form(encoding.serializer()));
        };
        let said = match said {
            Said::Result => self.tell_result(outlet, encoding, request, payload),
            Said::Error(uri) => {
                self.delivery.counters.call_errors += 1;
                self.tell_call_error(outlet, encoding, request, uri, payload)
            }
        };
        if !said {
            self.refuse_call(call.caller, error::PAYLOAD_SIZE_EXCEEDED, TOO_LONG);
        }
    }

    /// A part of a result; others follow.
    pub(super) fn progress_call(&mut self, now: Instant, number: u64, source: &Source<'_>) {
        let Some(&call) = self.calls.get(&number).filter(|call| call.wants_parts()) else {
            self.delivery.counters.results_discarded += 1;
            return;
        };
        if source.is_passthru() && !self.takes_passthru(call.caller) {
            return self.give_up_call(now, number, error::FEATURE_NOT_SUPPORTED, NO_PASSTHRU);
        }
        let Caller::Session { outlet, request, .. } = call.caller else { return };
        let encoding = self.session(outlet).expect("a call without its caller was abandoned").encoding;
        let Ok(payload) = source.get(encoding.serializer()) else {
            let words = no_form(encoding.serializer());
            return self.give_up_call(now, number, error::INVALID_ARGUMENT, &words);
        };
        if !self.delivery.try_reply(outlet, |out| encoding.write_progress(request, payload, out)) {
            return self.give_up_call(now, number, error::PAYLOAD_SIZE_EXCEEDED, TOO_LONG);
        }
        self.delivery.counters.results_in_parts += 1;
        if call.has_extras {
            self.restart_timer(now, number);
            // What another callee says would not fit.
            let reroute = self.extras_of(number).reroute.take();
            self.drop_reroute(reroute);
        }
    }

    /// Whether a callee may answer what the router does not understand (WAMP, "Payload Passthru Mode").
    #[cold]
    fn takes_passthru(&self, caller: Caller) -> bool {
        let Caller::Session { outlet, .. } = caller else { return false };
        self.session(outlet).is_some_and(|session| session.announced.calls_passthru())
    }

    /// A hook has answered a call, or could not.
    pub(crate) fn answer_asked_call(&mut self, number: u64, outcome: Result<Grant, Denial>) {
        let nothing = || OwnedPayload::copy_from(Serializer::Json, &Payload::default());
        let (error, words) = match outcome {
            Ok(grant) => {
                let payload = SharedPayload::new(grant.payload().cloned().unwrap_or_else(nothing));
                return self.answer_call(number, Said::Result, &Source::Shared(&payload));
            }
            Err(Denial::Told(told)) => {
                let uri = told.error.as_deref().unwrap_or(error::NOT_AUTHORIZED);
                let payload = told
                    .message
                    .as_deref()
                    .map_or_else(nothing, |words| OwnedPayload::from_plain(words.as_bytes()));
                let payload = SharedPayload::new(payload);
                return self.answer_call(number, Said::Error(uri), &Source::Shared(&payload));
            }
            Err(Denial::Refused) => (error::NOT_AUTHORIZED, "the hook does not allow this call"),
            Err(Denial::Busy) => (
                error::UNAVAILABLE,
                "too many calls wait for the hook that answers this one: try again later",
            ),
            Err(Denial::Failed | Denial::Unavailable) => {
                (error::UNAVAILABLE, "who answers this call could not be asked: try again later")
            }
        };
        if let Some(call) = self.conclude_call(number) {
            self.refuse_call(call.caller, error, words);
        }
    }

    /// ERROR to a caller, of the router's own making.
    pub(super) fn refuse_call(&mut self, caller: Caller, uri: &'static str, words: &str) {
        let (outlet, request) = match caller {
            Caller::Session { outlet, request, .. } => (outlet, request),
            Caller::Api(number) => return self.refuse_api_call(number, uri, words),
            Caller::Nobody => return,
        };
        self.delivery.counters.call_errors += 1;
        let encoding = self.session(outlet).expect("a call without its caller was abandoned").encoding;
        self.tell_call_refusal(outlet, encoding, request, uri, words);
    }

    /// The caller left: nobody waits for these any more.
    pub(crate) fn abandon_calls(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            if self.calls.get(&number).is_some_and(|call| call.has_extras) && self.leave_call(number) {
                continue;
            }
            let Some(call) = self.calls.remove(&number) else { continue };
            self.delivery.counters.calls_pending -= 1;
            if planted(Mutation::PlaceLost)
                && let Some(extras) = self.call_extras.get_mut(&number)
            {
                std::mem::forget(extras.claim.take());
            }
            if call.has_extras && !planted(Mutation::ExtrasOutliveCaller) {
                self.drop_extras(number, &call);
            }
            if planted(Mutation::LeaverForgetsCallees) {
                continue;
            }
            // WAMP, "Caller Leaving During an RPC Invocation".
            if call.callee_features.call_canceling() {
                self.interrupt_callee(number, &call, Interrupt::KillNoWait);
            } else if call.takes_progress {
                self.interrupt_callee(number, &call, Interrupt::DropProgress);
            }
        }
    }

    pub(super) fn key_of(&self, number: u64) -> CallKey {
        CallKey { shard: self.id, number }
    }
}

const NO_PASSTHRU: &str =
    "the callee answered with ppt_ options, and this caller announced no payload_passthru_mode";
const TOO_LONG: &str = "the answer of the callee is longer than this client takes";
