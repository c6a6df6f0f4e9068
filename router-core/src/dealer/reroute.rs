//! Calls that another callee is asked (WAMP, "Call Re-Routing").
//!
//! A callee that announced `call_reroute` may answer `wamp.error.unavailable`; then the next one of those that share the
//! registration is asked, as its policy says, as if those before did not exist. So it is where the callee has left, or has
//! given the registration back, while the call was on its way.

use fanwire_codec::payload::OwnedPayload;

use super::calls::{CallExtras, Caller, PendingCall, Standing};
use super::{Invoking, Part, Picked};
use crate::directory::CalleeFeatures;
use crate::encoding::Source;
use crate::ids::{RealmId, SessionId};
use crate::lanes::Item;
use crate::parcel::{Errand, Invocation};
use crate::shard::Shard;

/// What it takes to ask another callee.
#[derive(Debug)]
pub(crate) struct Reroute {
    pub(super) realm: RealmId,
    pub(super) part: Part,
    pub(super) payload: OwnedPayload,
    /// Those that had it before.
    pub(super) asked: Vec<SessionId>,
}

impl Shard {
    pub(super) fn callee_reroutes(&self, number: u64) -> bool {
        let reroutes = |features: CalleeFeatures| features.call_reroute();
        self.calls.get(&number).is_some_and(|call| reroutes(call.callee_features))
    }

    /// Asks another callee. False if there is none, or nobody waits for the answer.
    pub(super) fn reroute(&mut self, number: u64) -> bool {
        let Some(&call) = self.calls.get(&number).filter(|call| call.has_extras) else { return false };
        if call.standing != Standing::Waiting {
            return false;
        }
        let Some(extras) = self.call_extras.get_mut(&number) else { return false };
        // Who has answered works on it no more.
        extras.claim = None;
        let Some(mut reroute) = extras.reroute.take() else { return false };
        reroute.asked.push(call.callee);
        let Ok(picked) = self.pick(reroute.realm, &reroute.part.uri, &reroute.asked) else { return false };
        self.call_again(number, call, picked, reroute);
        true
    }

    fn call_again(&mut self, number: u64, call: PendingCall, picked: Picked, reroute: Reroute) {
        let Picked { registration, callee, is_pattern, claim, .. } = picked;
        let again = PendingCall {
            callee: callee.session,
            callee_shard: callee.shard,
            callee_features: callee.features,
            ..call
        };
        self.calls.insert(number, again);
        self.delivery.counters.calls_rerouted += 1;
        let Part { uri, caller, asks, .. } = reroute.part.clone();
        let payload = reroute.payload.clone();
        let extras: &mut CallExtras = self.extras_of(number);
        extras.claim = claim;
        extras.reroute = Some(reroute);
        let (key, procedure) = (self.key_of(number), is_pattern.then_some(uri));
        if callee.shard == self.id {
            let (procedure, caller) = (procedure.as_deref(), caller.as_ref());
            let callee = callee.session;
            let invoking = Invoking { call: key, registration, callee, procedure, caller, asks };
            let source = Source::borrowed(payload.serializer(), payload.view());
            if let Err(why) = self.invoke(invoking, &source) {
                self.fail_call(number, why);
            }
            return;
        }
        let shard = callee.shard;
        let invocation =
            Invocation { call: key, registration, callee: callee.session, procedure, caller, asks };
        let parcel = self.spares.pack(Errand::Invoke(invocation), payload.serializer(), payload.view());
        // Whether there is room is not asked: it takes the place of an answer, of which there are as many as calls.
        self.lanes.stage(shard, Item::Call(parcel));
    }

    /// The caller has left a call that counts for a callee which cannot be interrupted: that goes on until it has answered.
    /// False: it may be forgotten.
    pub(super) fn leave_call(&mut self, number: u64) -> bool {
        let Some(call) = self.calls.get_mut(&number) else { return false };
        let Some(extras) = self.call_extras.get_mut(&number) else { return false };
        if extras.claim.is_none() || call.callee_features.call_canceling() {
            return false;
        }
        call.caller = Caller::Nobody;
        call.standing = Standing::Answered;
        if let Some(timer) = extras.timer.take() {
            self.call_timers.remove(&(timer.at, number));
        }
        (extras.reroute, extras.part) = (None, None);
        true
    }
}
