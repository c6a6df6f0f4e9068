//! Remote procedure calls.
//!
//! The caller's shard finds the registration and sends one item; it alone decides the call's one final answer. The
//! callee's shard answers every invocation exactly once: with what the callee says, or that it is gone.

use std::sync::Arc;

use fanwire_codec::payload::{OwnedPayload, SharedPayload};
use fanwire_codec::wamp2::{Payload, Serializer};

use crate::access::Action;
use crate::broker::Origin;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::directory::{Callee, Candidates, RegisterError, Registration};
use crate::encoding::Source;
use crate::ids::{RealmId, RegistrationId, SessionId, ShardId};
use crate::lanes::Item;
use crate::mutation::{Mutation, planted};
use crate::parcel::{Answer, CallKey, Errand, Failure, Invocation, Outcome, Parcel};
use crate::question::{Denial, Grant, Subject};
use crate::session::{Identity, Refusal, State, error};
use crate::shard::Shard;
use crate::subscription::too_many_patterns;
use crate::uri::{self, MatchPolicy, UriRule};

/// A call of one of this shard's sessions that has no final answer yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingCall {
    caller: Caller,
    /// The caller has its answer; the callee's is still owed, and counts against `calls_max` until it comes.
    cancelled: bool,
}

/// Who waits for a call's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    Session {
        session: SessionId,
        outlet: Outlet,
        request: u64,
    },
    /// A request by API, known by the call's number.
    Api(u64),
}

/// What a callee says, still in its message.
pub(crate) enum Said<'a> {
    Result,
    Error(&'a str),
}

impl Shard {
    // --- registrations -----------------------------------------------------------------------------------------

    /// Registers a procedure, or all that a pattern covers and nobody else has registered more precisely.
    pub(crate) fn register(
        &mut self,
        outlet: Outlet,
        policy: MatchPolicy,
        uri: &str,
        disclose_caller: bool,
    ) -> Result<RegistrationId, Refusal> {
        uri::check_pattern(uri, policy, UriRule::Loose)
            .map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))?;
        let session = self.session(outlet).expect("an open session registers");
        let (realm, role, id) = (session.realm, session.role, session.id);
        if !self.config.access.authorize_pattern(realm, role, Action::Register, policy, uri) {
            return Err(self.not_authorized(realm, role, Action::Register, policy, uri));
        }
        if session.registrations.len() >= self.config.limits.registrations_max {
            return Err(Refusal::new(
                error::UNAVAILABLE,
                format!("this session has {} registrations, the most allowed", session.registrations.len()),
            ));
        }
        let limits = &self.config.limits;
        if policy != MatchPolicy::Exact && session.patterns as usize >= limits.patterns_per_session {
            return Err(too_many_patterns(session.patterns));
        }
        let callee = Callee { shard: self.id, session: id, role, disclose_caller, outlet: outlet.0 };
        let registration = self
            .directory
            .register(realm, policy, uri, callee, limits.patterns_per_realm)
            .map_err(|why| match why {
                RegisterError::AlreadyRegistered => {
                    let what = if policy == MatchPolicy::Exact { "procedure" } else { policy.name() };
                    let words = format!("{what} \"{uri}\" is registered already");
                    Refusal::new(error::PROCEDURE_ALREADY_EXISTS, words)
                }
                RegisterError::TooManyPatterns(why) => Refusal::new(error::UNAVAILABLE, why.to_string()),
            })?;
        let number = registration.id();
        let session = self.session_mut(outlet).expect("as above");
        session.registrations.push(registration);
        session.patterns += u32::from(policy != MatchPolicy::Exact);
        self.delivery.counters.registrations += 1;
        Ok(number)
    }

    pub(crate) fn unregister(&mut self, outlet: Outlet, number: u64) -> Result<(), Refusal> {
        let session = self.session_mut(outlet).expect("an open session unregisters");
        let Some(place) = session.registrations.binary_search_by_key(&number, |held| held.id().get()).ok()
        else {
            return Err(Refusal::new(
                error::NO_SUCH_REGISTRATION,
                format!("this session has no registration {number}"),
            ));
        };
        let registration = session.registrations.remove(place);
        session.patterns -= u32::from(registration.policy() != MatchPolicy::Exact);
        self.delivery.counters.registrations -= 1;
        if !planted(Mutation::RegistrationLeft) {
            self.directory.unregister(&registration);
        }
        Ok(())
    }

    // --- the caller's side -------------------------------------------------------------------------------------

    pub(crate) fn call(
        &mut self,
        now: Instant,
        outlet: Outlet,
        request: u64,
        uri: &str,
        disclose_me: bool,
        payload: Payload<'_>,
    ) -> Result<(), Refusal> {
        let session = self.session(outlet).expect("an open session calls");
        let (realm, role, encoding, id) = (session.realm, session.role, session.encoding, session.id);
        let disclosure = self.permit(realm, role, Action::Call, uri)?;
        let disclosed = self.discloses(realm, role, disclosure, disclose_me, uri)?;
        let session = self.session(outlet).expect("as above");
        if session.calls.len() >= self.config.limits.calls_max {
            return Err(Refusal::new(
                error::UNAVAILABLE,
                format!("{} calls of this session are waiting, the most allowed", session.calls.len()),
            ));
        }
        if session.calls.contains_key(&request) {
            return Err(Refusal::new(
                error::INVALID_ARGUMENT,
                format!("request {request} is a call that has no answer yet: count request ids up"),
            ));
        }
        if let Some(hook) = self.config.access.hooks(realm).of_call(uri) {
            let who = Some(session.identity(&self.config.access));
            let payload = OwnedPayload::copy_from(encoding.serializer(), &payload);
            let number = self.note_call(|_| Caller::Session { session: id, outlet, request });
            self.session_mut(outlet).expect("as above").calls.insert(request, number);
            self.ask_for_result(now, hook, realm, number, Subject::Rpc { who, uri: uri.into(), payload });
            return Ok(());
        }
        let picked = self.pick(realm, uri)?;
        // WAMP, "Caller Identification": the callee may ask for it too, where nothing forbids it.
        let disclosed = disclosed || picked.callee.disclose_caller && disclosure.decide(true) == Some(true);
        let number = self.note_call(|_| Caller::Session { session: id, outlet, request });
        self.session_mut(outlet).expect("as above").calls.insert(request, number);
        let origin = Origin::Session { outlet, session: id };
        let caller = self.disclosed(origin, disclosed);
        self.send_call(now, origin, number, &picked, uri, caller, encoding.serializer(), payload);
        Ok(())
    }

    /// Gives a call its number, by which its answer will find the caller.
    pub(crate) fn note_call(&mut self, caller: impl FnOnce(u64) -> Caller) -> u64 {
        self.last_call += 1;
        let number = self.last_call;
        self.calls.insert(number, PendingCall { caller: caller(number), cancelled: false });
        self.delivery.counters.calls += 1;
        self.delivery.counters.calls_pending += 1;
        number
    }

    /// Invokes the procedure, or sends an item to the callee's shard.
    #[expect(
        clippy::too_many_arguments,
        reason = "all that a call has; a struct would be taken apart at once"
    )]
    pub(crate) fn send_call(
        &mut self,
        now: Instant,
        origin: Origin,
        number: u64,
        picked: &Picked,
        uri: &str,
        caller: Option<Identity>,
        serializer: Serializer,
        payload: Payload<'_>,
    ) {
        let call = CallKey { shard: self.id, number };
        let Picked { registration, callee, is_pattern } = *picked;
        // WAMP, "Pattern-based Registrations": who registered a pattern is told what was called.
        let procedure = is_pattern.then_some(uri);
        if callee.shard == self.id {
            let source = Source::borrowed(serializer, payload);
            let callee = callee.session;
            if let Err(why) = self.invoke(call, registration, callee, procedure, caller.as_ref(), &source) {
                self.fail_call(number, why);
            }
            return;
        }
        let procedure = procedure.map(Box::from);
        let invocation = Invocation { call, registration, callee: callee.session, procedure, caller };
        let parcel = self.spares.pack(Errand::Invoke(invocation), serializer, payload);
        if self.lanes.has_room(callee.shard) {
            self.lanes.stage(callee.shard, Item::Call(parcel));
        } else {
            self.park_call(now, origin, callee.shard, parcel, number);
        }
    }

    /// Who answers a call of this procedure, and whether by a pattern.
    ///
    /// A pattern's callee gets only what its role might have registered by name; or a broad pattern would be a way to
    /// procedures that narrower rules keep from it.
    pub(crate) fn pick(&mut self, realm: RealmId, uri: &str) -> Result<Picked, Refusal> {
        let nobody = || Refusal::new(error::NO_SUCH_PROCEDURE, format!("nobody has registered {uri}"));
        let matches = match self.procedures.get(&self.directory, realm, uri) {
            Candidates::Nobody => return Err(nobody()),
            Candidates::Exact(registration) => return Ok(Picked::new(registration, false)),
            Candidates::Patterns(matches) => matches,
        };
        let access = &self.config.access;
        let may = |registration: &&Arc<Registration>| {
            let role = registration.callee().role;
            matches
                .permits(access.generation(), role, || access.authorize(realm, role, Action::Register, uri))
                || planted(Mutation::CalleeUnchecked)
        };
        let picked = if planted(Mutation::LeastPreciseCallee) {
            matches.entries().iter().rev().find(may)
        } else {
            matches.entries().iter().find(may)
        };
        picked.map(|registration| Picked::new(registration, true)).ok_or_else(nobody)
    }

    /// The caller wants no answer any more. The callee is not told (WAMP, "Call Canceling", mode `skip`); its answer is
    /// dropped when it comes, and until then the call counts against its caller's limit: or one could burden a callee
    /// with any number of calls that nobody waits for.
    pub(crate) fn cancel(&mut self, outlet: Outlet, request: u64) {
        let number = self.session(outlet).and_then(|session| session.calls.get(&request).copied());
        // None: the answer and the CANCEL crossed.
        let Some(call) = number.and_then(|number| self.calls.get_mut(&number)) else { return };
        if std::mem::replace(&mut call.cancelled, !planted(Mutation::CancelledStillAnswered)) {
            return;
        }
        let call = *call;
        self.refuse_call(call, error::CANCELED, "the caller cancelled the call");
    }

    /// The one final answer of a call without a callee's words.
    fn fail_call(&mut self, number: u64, why: Failure) {
        // None: the caller left or cancelled.
        let Some(call) = self.take_call(number) else { return };
        let (uri, words) = match why {
            Failure::Gone => (error::CANCELED, "the callee left before it answered"),
            Failure::NotRegistered => (error::NO_SUCH_PROCEDURE, "the procedure was unregistered"),
            Failure::Untranslatable => {
                (error::INVALID_ARGUMENT, "the arguments have no form in the callee's serializer")
            }
            Failure::TooLong => (error::PAYLOAD_SIZE_EXCEEDED, "the call is longer than the callee takes"),
            Failure::Overloaded => {
                (error::UNAVAILABLE, "the callee has too many calls waiting: try again later")
            }
        };
        self.refuse_call(call, uri, words);
    }

    fn answer_call(&mut self, number: u64, said: Said<'_>, source: &Source<'_>) {
        // None: the caller left or cancelled.
        let Some(call) = self.take_call(number) else { return };
        let Caller::Session { outlet, request, .. } = call.caller else {
            return self.answer_api_call(number, said, source);
        };
        let encoding = self.session(outlet).expect("a call without its caller was abandoned").encoding;
        let Ok(payload) = source.get(encoding.serializer()) else {
            return self.refuse_call(call, error::INVALID_ARGUMENT, &no_form(encoding.serializer()));
        };
        let said = match said {
            Said::Result => {
                self.delivery.try_reply(outlet, |out| encoding.write_result(request, payload, out))
            }
            Said::Error(uri) => {
                self.delivery.counters.call_errors += 1;
                self.delivery.try_reply(outlet, |out| encoding.write_call_error(request, uri, payload, out))
            }
        };
        if !said {
            let words = "the answer of the callee is longer than this client takes";
            self.refuse_call(call, error::PAYLOAD_SIZE_EXCEEDED, words);
        }
    }

    /// A hook has answered a call, or could not.
    pub(crate) fn answer_asked_call(&mut self, number: u64, outcome: Result<Grant, Denial>) {
        let nothing = || OwnedPayload::copy_from(Serializer::Json, &Payload::default());
        let (error, words) = match outcome {
            Ok(grant) => {
                let payload = SharedPayload::new(grant.answer.map_or_else(nothing, |answer| *answer));
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
                (error::UNAVAILABLE, "the hook that answers this call could not be asked: try again later")
            }
        };
        if let Some(call) = self.take_call(number) {
            self.refuse_call(call, error, words);
        }
    }

    fn refuse_call(&mut self, call: PendingCall, uri: &'static str, words: &str) {
        let (outlet, request) = match call.caller {
            Caller::Session { outlet, request, .. } => (outlet, request),
            Caller::Api(number) => return self.refuse_api_call(number, uri, words),
        };
        self.delivery.counters.call_errors += 1;
        let encoding = self.session(outlet).expect("a call without its caller was abandoned").encoding;
        self.delivery.reply(outlet, |out| encoding.write_call_refusal(request, uri, words, out));
    }

    /// Ends a call; none if its caller left or has its answer already.
    fn take_call(&mut self, number: u64) -> Option<PendingCall> {
        let call = self.calls.remove(&number)?;
        self.delivery.counters.calls_pending -= 1;
        if let Caller::Session { session, outlet, request } = call.caller {
            debug_assert_eq!(self.outlets.get(&session), Some(&outlet), "abandoned when the caller left");
            self.session_mut(outlet)?.calls.remove(&request);
        }
        (!call.cancelled).then_some(call)
    }

    /// The caller left: nobody waits for these any more.
    pub(crate) fn abandon_calls(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            if self.calls.remove(&number).is_some() {
                self.delivery.counters.calls_pending -= 1;
            }
        }
    }

    // --- the callee's side -------------------------------------------------------------------------------------

    /// Sends INVOCATION, or says why not.
    pub(crate) fn invoke(
        &mut self,
        call: CallKey,
        registration: RegistrationId,
        callee: SessionId,
        procedure: Option<&str>,
        caller: Option<&Identity>,
        source: &Source<'_>,
    ) -> Result<(), Failure> {
        let outlet = *self.outlets.get(&callee).ok_or(Failure::Gone)?;
        let invocations_max = self.config.limits.invocations_max;
        let session = self.session_mut(outlet).ok_or(Failure::Gone)?;
        if session.state != State::Open {
            return Err(Failure::Gone);
        }
        // No INVOCATION after UNREGISTERED: the item may have been on its way.
        // The list is sorted: ids only grow, and each new one goes to its end.
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
        let invocation = session.last_invocation;
        session.invocations.insert(invocation, call);
        let said = self.delivery.try_reply(outlet, |out| {
            encoding.write_invocation(invocation, registration, procedure, caller, payload, out);
        });
        if !said {
            // Its number is the next one's: they have no gaps.
            let session = self.session_mut(outlet).expect("it was here");
            session.invocations.remove(&invocation);
            session.last_invocation -= 1;
            return Err(Failure::TooLong);
        }
        self.delivery.counters.invocations += 1;
        Ok(())
    }

    /// A callee's YIELD or ERROR. False if it answers nothing that it was asked.
    pub(crate) fn answer(
        &mut self,
        outlet: Outlet,
        invocation: u64,
        said: Said<'_>,
        payload: Payload<'_>,
    ) -> bool {
        let session = self.session_mut(outlet).expect("an open session answers");
        let Some(call) = session.invocations.remove(&invocation) else { return false };
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

    /// The callee left: its callers hear of it at once.
    pub(crate) fn disown_invocations(&mut self, calls: impl Iterator<Item = CallKey>) {
        for call in calls {
            if planted(Mutation::GoneCalleeSilent) {
                continue;
            }
            if call.shard == self.id {
                self.fail_call(call.number, Failure::Gone);
            } else {
                self.send_failure(call, Failure::Gone);
            }
        }
    }

    // --- between shards ----------------------------------------------------------------------------------------

    /// A call from another shard, or the end of one from here.
    pub(crate) fn handle_parcel(&mut self, from: ShardId, mut parcel: Box<Parcel>) {
        match parcel.take_errand() {
            Errand::Invoke(invocation) => {
                debug_assert_eq!(invocation.call.shard, from, "the caller's shard sends its own invocations");
                let Invocation { call, registration, callee, procedure, caller } = &invocation;
                let (procedure, caller) = (procedure.as_deref(), caller.as_ref());
                let source = parcel.source();
                if let Err(why) = self.invoke(*call, *registration, *callee, procedure, caller, &source) {
                    self.send_failure(*call, why);
                }
            }
            Errand::Answer(Answer { number, outcome }) => match outcome {
                Outcome::Result => self.answer_call(number, Said::Result, &parcel.source()),
                Outcome::Error(uri) => self.answer_call(number, Said::Error(&uri), &parcel.source()),
                Outcome::Failed(why) => self.fail_call(number, why),
            },
        }
        self.spares.keep(parcel);
    }

    fn send_failure(&mut self, call: CallKey, why: Failure) {
        self.send_answer(call, Outcome::Failed(why), Serializer::Json, Payload::default());
    }

    fn send_answer(&mut self, call: CallKey, outcome: Outcome, serializer: Serializer, payload: Payload<'_>) {
        let answer = Errand::Answer(Answer { number: call.number, outcome });
        let parcel = self.spares.pack(answer, serializer, payload);
        self.lanes.stage(call.shard, Item::Call(parcel));
    }
}

/// The registration that a call goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked {
    registration: RegistrationId,
    callee: Callee,
    /// By a prefix or wildcard.
    is_pattern: bool,
}

impl Picked {
    fn new(registration: &Registration, is_pattern: bool) -> Self {
        Self { registration: registration.id(), callee: registration.callee(), is_pattern }
    }
}

/// The words for an answer that its caller could not read.
pub(crate) fn no_form(serializer: Serializer) -> String {
    format!("the callee's answer has no form in {serializer}")
}
