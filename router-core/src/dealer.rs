//! Remote procedure calls.
//!
//! The caller's shard finds the registration and sends one item; it alone decides the call's one final answer. The
//! callee's shard answers every invocation exactly once: with what the callee says, or that it is gone. Only one that nobody
//! waits for may stay without an answer.

mod callee;
mod calls;
mod cancel;
mod flow;
mod parts;
mod reroute;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{Feature, Payload, RegisterOptions, Revoked, Serializer};

use crate::access::Action;
use crate::broker::Origin;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::directory::{
    Callee, CalleeFeatures, Candidates, Choice, Claim, Offer, RegisterError, Registration,
};
use crate::encoding::Source;
use crate::hooks::Hooked;
use crate::ids::{RealmId, RegistrationId, SessionId};
use crate::lanes::Item;
use crate::meta;
use crate::mutation::{Mutation, planted};
use crate::parcel::{Asks, CallKey, Errand, Invocation};
use crate::question::Subject;
use crate::session::{Provenance, Refusal, error};
use crate::shard::Shard;
use crate::subscription::too_many_patterns;
use crate::uri::{self, MatchPolicy, UriRule};
pub(crate) use calls::{CallExtras, Caller, PendingCall};
use calls::{Standing, Timer};
pub(crate) use cancel::EndedCalls;
pub(crate) use flow::{HeldParts, Window};
use parts::Part;
use reroute::Wishes;

impl Shard {
    // --- registrations -----------------------------------------------------------------------------------------

    /// Registers a procedure, or all that a pattern covers and nobody else has registered more precisely.
    pub(crate) fn register(
        &mut self,
        outlet: Outlet,
        uri: &str,
        options: &RegisterOptions,
    ) -> Result<RegistrationId, Refusal> {
        let policy = options.match_policy;
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
                format!(
                    "this session has {} registrations, the most allowed (limits.registrations_per_session)",
                    session.registrations.len()
                ),
            ));
        }
        let limits = &self.config.limits;
        if policy != MatchPolicy::Exact && session.patterns as usize >= limits.patterns_per_session {
            return Err(too_many_patterns(session.patterns));
        }
        let has = |feature| session.announced.as_callee(feature);
        let features = CalleeFeatures::default()
            .with(CalleeFeatures::CALL_CANCELING, has(Feature::CallCanceling))
            .with(
                CalleeFeatures::PROGRESSIVE_CALL_INVOCATIONS,
                // WAMP, "Progressive Call Invocations": without call canceling it counts as not having them.
                has(Feature::ProgressiveCallInvocations) && has(Feature::CallCanceling),
            )
            .with(
                CalleeFeatures::FORWARD_TIMEOUT,
                options.forward_timeout == Some(true) && has(Feature::CallTimeout),
            )
            .with(CalleeFeatures::CALL_REROUTE, has(Feature::CallReroute))
            .with(CalleeFeatures::PAYLOAD_PASSTHRU_MODE, has(Feature::PayloadPassthruMode));
        let disclose_caller = options.disclose_caller.unwrap_or(false);
        let callee =
            Callee { shard: self.id, session: id, role, disclose_caller, features, outlet: outlet.0 };
        let offer = Offer {
            invoke: options.invoke,
            concurrency: options.concurrency.and_then(NonZeroU64::new),
            force: options.force_reregister == Some(true),
            at: self.turn_at,
            heard: self.heard_of_registration(realm, uri),
        };
        let limits = &self.config.limits;
        let registered = self
            .directory
            .register(realm, policy, uri, callee, &offer, limits.patterns_per_realm)
            .map_err(|why| {
                let what = if policy == MatchPolicy::Exact { "procedure" } else { policy.name() };
                let words = format!("{what} \"{uri}\" {why}");
                match why {
                    RegisterError::TooManyPatterns(why) => Refusal::new(error::UNAVAILABLE, why.to_string()),
                    RegisterError::TooManyCallees => Refusal::new(error::UNAVAILABLE, words),
                    _ => Refusal::new(error::PROCEDURE_ALREADY_EXISTS, words),
                }
            })?;
        self.tell_notes(registered.notes);
        if let Some(displaced) = registered.displaced {
            self.revoke_all(&displaced);
        }
        let registration = registered.registration;
        let number = registration.id();
        let session = self.session_mut(outlet).expect("as above");
        // Who joins others has an older id.
        let place = session.registrations.partition_point(|held| held.id() < number);
        session.registrations.insert(place, registration);
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
        let id = session.id;
        let registration = session.registrations.remove(place);
        session.patterns -= u32::from(registration.policy() != MatchPolicy::Exact);
        self.delivery.counters.registrations -= 1;
        if !planted(Mutation::RegistrationLeft) {
            self.leave_registration(&registration, id);
        }
        Ok(())
    }

    /// A session of this shard, which has forgotten it, is no callee of this registration any more.
    pub(crate) fn leave_registration(&mut self, registration: &Registration, session: SessionId) {
        let heard = self.heard_of_registration(registration.realm(), registration.uri());
        let notes = self.directory.unregister(registration, session, heard);
        self.tell_notes(notes);
    }

    /// All callees of an entry that is no more lose their registration.
    fn revoke_all(&mut self, displaced: &Registration) {
        for callee in displaced.callees() {
            let (shard, registration) = (callee.shard, displaced.id());
            if shard == self.id {
                self.revoke(callee.session, registration);
                continue;
            }
            let errand = Errand::Revoke { callee: callee.session, registration };
            let parcel = self.spares.pack(errand, Serializer::Json, Payload::default());
            self.lanes.stage(shard, Item::Call(parcel));
        }
    }

    /// A session's registration is another one's now, and it is told if it understands that. What it was asked before, it may
    /// still answer.
    fn revoke(&mut self, callee: SessionId, registration: RegistrationId) {
        let Some(&outlet) = self.outlets.get(&callee) else { return };
        let session = self.session_mut(outlet).expect("it has an id");
        let Ok(place) = session.registrations.binary_search_by_key(&registration, |held| held.id()) else {
            return;
        };
        let lost = session.registrations.remove(place);
        session.patterns -= u32::from(lost.policy() != MatchPolicy::Exact);
        self.delivery.counters.registrations -= 1;
        self.delivery.counters.withdrawn += 1;
        self.tell_revoked(outlet, Revoked::Registration(registration.get()), FORCED_OUT);
    }

    // --- calls -------------------------------------------------------------------------------------------------

    pub(crate) fn call(
        &mut self,
        now: Instant,
        outlet: Outlet,
        request: &CallRequest<'_>,
    ) -> Result<(), CallRefusal> {
        let session = self.session(outlet).expect("an open session calls");
        if let Some(&number) = session.calls.get(&request.request) {
            return self.call_on(now, outlet, number, request);
        }
        if session.ended_calls.is_some() && self.is_late_part(outlet, request) {
            return Ok(());
        }
        if !request.more {
            return Ok(self.call_anew(now, outlet, request)?);
        }
        let session = self.session(outlet).expect("as above");
        if !session.announced.calls_in_parts() {
            let words = "CALL has \"progress\", and HELLO did not announce progressive_call_invocations";
            return Err(CallRefusal::Violation(words.to_owned()));
        }
        let called = self.call_anew(now, outlet, request);
        if called.is_err() {
            // What else there is of it may be on its way already.
            self.note_late_parts(outlet, request.request);
        }
        Ok(called?)
    }

    /// A call that is not a part of another one.
    fn call_anew(&mut self, now: Instant, outlet: Outlet, request: &CallRequest<'_>) -> Result<(), Refusal> {
        let CallRequest { uri, payload, .. } = *request;
        let session = self.session(outlet).expect("an open session calls");
        let (realm, role, encoding, id) = (session.realm, session.role, session.encoding, session.id);
        let permit = self.permit_as(encoding.uri_rule(), realm, role, Action::Call, uri)?;
        let mut disclosed = self.discloses(realm, role, permit.disclosure, request.disclose_me, uri)?;
        let pending = self.calls_of(now, outlet);
        if pending >= self.config.limits.calls_max {
            let words = format!(
                "{pending} calls of this session are waiting or were interrupted a moment ago, the most allowed \
                 (limits.pending_calls_per_session)"
            );
            return Err(Refusal::new(error::UNAVAILABLE, words));
        }
        if self.config.access.hooks(realm).of_call(role, uri).is_some() {
            match self.ask_about_call(now, outlet, request) {
                Hooked::Asked => return Ok(()),
                Hooked::Allowed { disclose } => disclosed = disclose.unwrap_or(disclosed),
                Hooked::Free => {}
            }
        }
        let session = self.session(outlet).expect("as above");
        let caller = Caller::Session { outlet, request: request.request };
        let wanted = Wanted { passthru: payload.passthru.is_some(), asked: &[] };
        if let Some(hook) = self.hook_of_call(realm, uri) {
            if wanted.passthru {
                return Err(no_passthru("the hook that answers it takes no payload passthru"));
            }
            if request.more {
                return Err(Refusal::new(error::FEATURE_NOT_SUPPORTED, "a hook takes no calls in parts"));
            }
            let who = Some(session.identity(&self.config.access));
            let payload = OwnedPayload::copy_from(encoding.serializer(), &payload);
            let number = self.note_asked_call(|_| caller);
            self.session_mut(outlet).expect("as above").calls.insert(request.request, number);
            if let Some(time) = request.time {
                self.start_timer(now, number, time);
            }
            let subject = Subject::Rpc { who, uri: uri.into(), payload };
            self.ask_for_result(now, Some(hook), realm, number, subject);
            return Ok(());
        }
        let mut picked = match self.pick(realm, uri, wanted) {
            Err(_) if meta::is_procedure(uri) => {
                if wanted.passthru {
                    return Err(no_passthru("the router's own procedures take no payload passthru"));
                }
                return self.call_meta(now, outlet, request);
            }
            picked => picked?,
        };
        let features = picked.callee.features;
        if request.more && !features.progressive_call_invocations() {
            let words = format!("the callee of {uri} takes no calls in parts");
            return Err(Refusal::new(error::FEATURE_NOT_SUPPORTED, words));
        }
        let CallRequest { receive_progress, more, time, .. } = *request;
        let wishes = Wishes { realm, disclosed, permit, receive_progress, more, time };
        let number = self.note_call(|_| PendingCall::of(caller, &picked, request.receive_progress));
        self.session_mut(outlet).expect("as above").calls.insert(request.request, number);
        let origin = Origin::Session { outlet, session: id };
        let caller = self.provenance(origin, wishes.disclosed_to(&picked.callee), permit.trust);
        let asks = wishes.asks_of(&picked.callee);
        let timer = time.map(|time| Timer::new(now, time));
        if timer.is_some() && !features.forward_timeout() {
            self.use_timer(number, timer);
        }
        if request.more {
            let part = Part::of(&picked, uri, caller.clone(), asks);
            self.extras_of(number).part = Some(part);
        }
        if picked.is_shared && features.call_reroute() && !request.more {
            self.keep_for_rerouting(number, wishes, uri, timer, encoding.serializer(), &payload);
        }
        let outgoing = Outgoing { number, picked: &mut picked, uri, caller, asks };
        self.send_call(now, origin, outgoing, encoding.serializer(), payload);
        Ok(())
    }

    /// Invokes the procedure, or sends an item to the callee's shard.
    pub(crate) fn send_call(
        &mut self,
        now: Instant,
        origin: Origin,
        outgoing: Outgoing<'_>,
        serializer: Serializer,
        payload: Payload<'_>,
    ) {
        let Outgoing { number, picked, uri, caller, asks } = outgoing;
        let call = self.key_of(number);
        if picked.claim.is_some() {
            self.extras_of(number).claim = picked.claim.take();
        }
        let Picked { registration, callee, is_pattern, .. } = *picked;
        // WAMP, "Pattern-based Registrations": who registered a pattern is told what was called.
        let procedure = is_pattern.then_some(uri);
        let (shard, callee) = (callee.shard, callee.session);
        if shard == self.id {
            let source = Source::borrowed(serializer, payload);
            let caller = caller.as_ref();
            let invoking = Invoking { call, registration, callee, procedure, caller, asks };
            if let Err(why) = self.invoke(invoking, &source) {
                self.fail_call(number, why);
            }
            return;
        }
        let procedure = procedure.map(Box::from);
        let invocation = Invocation { call, registration, callee, procedure, caller, asks };
        let parcel = self.spares.pack(Errand::Invoke(invocation), serializer, payload);
        if self.lanes.has_room(shard) {
            self.lanes.stage(shard, Item::Call(parcel));
        } else {
            self.park_call(now, origin, shard, parcel, number);
        }
    }

    /// Who answers a call of this procedure, but for those that were `asked` before.
    ///
    /// A pattern's callee gets only what its role might have registered by name; or a broad pattern would be a way to
    /// procedures that narrower rules keep from it.
    pub(crate) fn pick(&mut self, realm: RealmId, uri: &str, wanted: Wanted<'_>) -> Result<Picked, Refusal> {
        let nobody = || Refusal::new(error::NO_SUCH_PROCEDURE, format!("nobody has registered {uri}"));
        // Nobody of those who might be asked.
        let nobody_of =
            || if wanted.passthru { no_passthru("no callee takes payload passthru") } else { nobody() };
        let random = &mut self.random;
        let matches = match self.procedures.get(&self.directory, realm, uri) {
            Candidates::Nobody => return Err(nobody()),
            Candidates::Exact(registration) if registration.members().is_none() && wanted.is_anybody() => {
                return Ok(Picked::new(registration, registration.callee(), false, None));
            }
            Candidates::Exact(registration) => {
                let choice = registration.choose(random, |callee| wanted.admits(callee));
                return Picked::chosen(registration, false, choice).unwrap_or_else(|| Err(nobody_of()));
            }
            Candidates::Patterns(matches) => matches,
        };
        let access = &self.config.access;
        let may = |callee: &Callee| {
            let role = callee.role;
            matches
                .permits(access.generation(), role, || access.authorize(realm, role, Action::Register, uri))
                || planted(Mutation::CalleeUnchecked)
        };
        let choose = |registration: &Arc<Registration>| {
            let choice = registration.choose(&mut *random, |callee| wanted.admits(callee) && may(callee));
            // Who cannot take it does not make room for the callees of a less precise pattern: they mean something else.
            let mut others = registration.callees().filter(|callee| wanted.is_new(callee) && may(callee));
            let mut knows_none = || wanted.passthru && others.next().is_some();
            Picked::chosen(registration, true, choice)
                .or_else(|| knows_none().then(|| Err(no_passthru("no callee takes payload passthru"))))
        };
        let picked = if planted(Mutation::LeastPreciseCallee) {
            matches.entries().iter().rev().find_map(choose)
        } else {
            matches.entries().iter().find_map(choose)
        };
        picked.unwrap_or_else(|| Err(nobody()))
    }
}

/// Which callees may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Those alone that take what the router does not understand (WAMP, "Payload Passthru Mode").
    pub(crate) passthru: bool,
    /// None of those that had the call before.
    pub(crate) asked: &'a [SessionId],
}

impl Wanted<'_> {
    /// Any callee at all.
    pub(crate) const ANYBODY: Wanted<'static> = Wanted { passthru: false, asked: &[] };

    fn is_anybody(&self) -> bool {
        self.asked.is_empty() && !self.passthru
    }

    fn admits(&self, callee: &Callee) -> bool {
        (!self.passthru || callee.features.payload_passthru_mode()) && self.is_new(callee)
    }

    fn is_new(&self, callee: &Callee) -> bool {
        self.asked.is_empty() || !self.asked.contains(&callee.session) || planted(Mutation::RefuserAskedAgain)
    }
}

/// WAMP, "Payload Passthru Mode": the callee would not know what it got.
#[cold]
fn no_passthru(why: &str) -> Refusal {
    let words = format!("{why}: leave the ppt_ options out");
    Refusal::new(error::FEATURE_NOT_SUPPORTED, words)
}

/// What a session asks for when it calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallRequest<'a> {
    pub(crate) request: u64,
    pub(crate) uri: &'a str,
    pub(crate) disclose_me: bool,
    /// It takes results in parts.
    pub(crate) receive_progress: bool,
    /// More parts of the call follow.
    pub(crate) more: bool,
    /// It waits for so long.
    pub(crate) time: Option<Duration>,
    pub(crate) payload: Payload<'a>,
}

/// Why a call is not made.
#[derive(Debug)]
pub(crate) enum CallRefusal {
    Refused(Refusal),
    /// The caller has broken the protocol.
    Violation(String),
}

impl From<Refusal> for CallRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A call that has its number, on its way to the callee that was picked.
pub(crate) struct Outgoing<'a> {
    pub(crate) number: u64,
    pub(crate) picked: &'a mut Picked,
    pub(crate) uri: &'a str,
    /// What is told of the caller.
    pub(crate) caller: Option<Provenance>,
    pub(crate) asks: Asks,
}

/// What a callee is asked; its arguments are elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invoking<'a> {
    pub(crate) call: CallKey,
    pub(crate) registration: RegistrationId,
    pub(crate) callee: SessionId,
    /// What was called, for a registration by prefix or wildcard.
    pub(crate) procedure: Option<&'a str>,
    /// What is told of the caller.
    pub(crate) caller: Option<&'a Provenance>,
    pub(crate) asks: Asks,
}

/// What a callee says, still in its message.
pub(crate) enum Said<'a> {
    Result,
    Error(&'a str),
}

/// The registration that a call goes to, and who answers.
#[derive(Debug)]
pub(crate) struct Picked {
    registration: RegistrationId,
    callee: Callee,
    /// By a prefix or wildcard.
    is_pattern: bool,
    /// There are other callees.
    is_shared: bool,
    claim: Option<Claim>,
}

impl Picked {
    fn new(registration: &Registration, callee: Callee, is_pattern: bool, claim: Option<Claim>) -> Self {
        let (is_shared, registration) = (registration.is_shared(), registration.id());
        Self { registration, callee, is_pattern, is_shared, claim }
    }

    /// `None`: nobody may have it. An error: they all are busy.
    fn chosen(
        registration: &Registration,
        is_pattern: bool,
        choice: Choice,
    ) -> Option<Result<Self, Refusal>> {
        match choice {
            Choice::Callee(callee, claim) => Some(Ok(Self::new(registration, callee, is_pattern, claim))),
            Choice::AllBusy => {
                let words = format!("each callee of {} has as many calls as it takes", registration.uri());
                Some(Err(Refusal::new(error::NO_AVAILABLE_CALLEE, words)))
            }
            Choice::Nobody => None,
        }
    }
}

impl PendingCall {
    /// A call that goes to who was picked.
    pub(crate) fn of(caller: Caller, picked: &Picked, takes_progress: bool) -> Self {
        Self {
            caller,
            callee: picked.callee.session,
            callee_shard: picked.callee.shard,
            callee_features: picked.callee.features,
            standing: Standing::Waiting,
            takes_progress,
            has_extras: false,
        }
    }
}

impl Part {
    fn of(picked: &Picked, uri: &str, caller: Option<Provenance>, asks: Asks) -> Self {
        let Picked { registration, is_pattern, .. } = *picked;
        Self { uri: uri.into(), registration, is_pattern, caller, asks }
    }
}

/// The words for an answer that its caller could not read.
pub(crate) fn no_form(serializer: Serializer) -> String {
    format!("the callee's answer has no form in {serializer}")
}

/// What a callee is told whose registration another one has forced from it. Crossbar says so too, and clients expect a URI.
const FORCED_OUT: &str = "wamp.error.unregistered";
