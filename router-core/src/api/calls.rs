//! Calls by API: the caller is a reply instead of a session.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;

use super::desk::Desk;
use super::{ApiAnswer, ApiCall, ApiRefusal, ApiReply, CallFailure};
use crate::access::Action;
use crate::broker::Origin;
use crate::clock::Instant;
use crate::dealer::{Caller, Outgoing, PendingCall, Said, Wanted, no_form};
use crate::encoding::Source;
use crate::ids::RoleId;
use crate::meta;
use crate::mutation::{Mutation, planted};
use crate::parcel::Asks;
use crate::question::Subject;
use crate::session::{Refusal, error};
use crate::shard::Shard;
use crate::uri::{UriRule, check_topic};

impl Desk {
    /// The reply of a call that has no answer yet.
    fn take_call(&mut self, number: u64) -> Option<ApiReply> {
        let (deadline, reply) = self.calls.remove(&number)?;
        self.call_deadlines.remove(&(deadline, number));
        Some(reply)
    }
}

impl Shard {
    pub(super) fn call_for_api(&mut self, now: Instant, call: ApiCall, reply: ApiReply) {
        let ApiCall { actor, procedure, payload, timeout } = call;
        let permitted = if actor.role == RoleId::ROUTER {
            // It asks whom the configuration names; who answers must have been allowed to register that.
            check_topic(&procedure, UriRule::Loose)
                .map(|()| None)
                .map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))
        } else {
            self.permit(actor.realm, actor.role, Action::Call, &procedure).map(|permit| permit.trust)
        };
        let trust = permitted.as_ref().ok().copied().flatten();
        let permitted = permitted.and_then(|_| self.desk.has_room_for_calls());
        if let Some(hook) = self.hook_of_call(actor.realm, &procedure)
            && permitted.is_ok()
        {
            let number = self.note_asked_call(Caller::Api);
            self.await_api_call(number, now + timeout, reply);
            let subject = Subject::Rpc { who: None, uri: procedure, payload };
            return self.ask_for_result(now, Some(hook), actor.realm, number, subject);
        }
        let mut picked = permitted.and_then(|()| self.pick(actor.realm, &procedure, Wanted::ANYBODY));
        if picked.as_ref().is_err_and(|why| why.uri == error::NO_SUCH_PROCEDURE)
            && meta::is_procedure(&procedure)
        {
            match self.meta_caller(actor.realm, actor.role, &procedure) {
                Ok(is_express) => {
                    let number = self.note_asked_call(Caller::Api);
                    self.await_api_call(number, now + timeout, reply);
                    let role = actor.role;
                    let subject = Subject::Meta { caller: None, role, is_express, uri: procedure, payload };
                    return self.ask_for_result(now, None, actor.realm, number, subject);
                }
                Err(refusal) => picked = Err(refusal),
            }
        }
        let mut picked = match picked {
            Ok(picked) => picked,
            Err(refusal) => {
                self.delivery.counters.call_errors += 1;
                self.delivery.counters.requests_refused += 1;
                return reply(ApiAnswer::Called(Err(CallFailure::Refused(refusal.into()))));
            }
        };
        let number = self.note_call(|number| PendingCall::of(Caller::Api(number), &picked, false));
        self.await_api_call(number, now + timeout, reply);
        let (serializer, view) = (payload.serializer(), payload.view());
        let (uri, asks) = (&*procedure, Asks::default());
        let caller = self.provenance(Origin::Api, false, trust);
        let outgoing = Outgoing { number, picked: &mut picked, uri, caller, asks };
        self.send_call(now, Origin::Api, outgoing, serializer, view);
    }

    /// Somebody waits for the answer of a call until then.
    fn await_api_call(&mut self, number: u64, deadline: Instant, reply: ApiReply) {
        self.desk.calls.insert(number, (deadline, reply));
        self.desk.call_deadlines.insert((deadline, number));
    }

    /// The callee has answered.
    pub(crate) fn answer_api_call(&mut self, number: u64, said: Said<'_>, source: &Source<'_>) {
        let Ok(payload) = source.get(Serializer::Json) else {
            return self.refuse_api_call(number, error::INVALID_ARGUMENT, &no_form(Serializer::Json));
        };
        let Some(reply) = self.desk.take_call(number) else { return };
        let payload = OwnedPayload::copy_from(Serializer::Json, &payload);
        reply(ApiAnswer::Called(match said {
            Said::Result => Ok(payload),
            Said::Error(uri) => {
                self.delivery.counters.call_errors += 1;
                Err(CallFailure::Callee { error: uri.into(), payload })
            }
        }));
    }

    /// The callee left, or never had it.
    pub(crate) fn refuse_api_call(&mut self, number: u64, error: &'static str, words: &str) {
        self.delivery.counters.call_errors += 1;
        if let Some(reply) = self.desk.take_call(number) {
            let refusal = ApiRefusal { error, words: words.to_owned() };
            reply(ApiAnswer::Called(Err(CallFailure::Refused(refusal))));
        }
    }

    /// Ends calls whose time is over. What the callee still says finds no call. Unlike a cancelled call of a session this one
    /// counts no more against its caller, which is a key of the operator's; the callee's own limit protects the callee.
    pub(super) fn expire_calls(&mut self, now: Instant) {
        while let Some((at, number)) = self.desk.call_deadlines.first().copied()
            && at <= now
        {
            self.desk.call_deadlines.pop_first();
            if planted(Mutation::ApiCallNeverTimesOut) {
                continue;
            }
            self.abandon_calls(std::iter::once(number));
            self.delivery.counters.call_errors += 1;
            if let Some((_, reply)) = self.desk.calls.remove(&number) {
                reply(ApiAnswer::Called(Err(CallFailure::TimedOut)));
            }
        }
    }
}

impl Desk {
    fn has_room_for_calls(&self) -> Result<(), Refusal> {
        if self.calls.len() < CALLS_MAX {
            return Ok(());
        }
        let words = format!("{CALLS_MAX} calls by API wait on this shard, the most allowed: try again later");
        Err(Refusal::new(error::UNAVAILABLE, words))
    }
}

/// Calls by API of one shard without an answer: as those of four busy sessions.
const CALLS_MAX: usize = 4_096;
