//! Calls that another callee is asked (WAMP, "Call Re-Routing").
//!
//! A callee that announced `call_reroute` may answer `wamp.error.unavailable`; then the next one of those that share the
//! registration is asked, as its policy says, as if those before did not exist. So it is where the callee has left, or has
//! given the registration back, while the call was on its way.
//!
//! What is kept for that is bounded: a call with more arguments than that is the first callee's alone.

use std::num::NonZeroU64;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{Payload, Serializer};

use super::calls::{Caller, PendingCall, Standing, Timer};
use super::{Invoking, Picked, Wanted};
use crate::access::Permit;
use crate::broker::Origin;
use crate::directory::{Callee, CalleeFeatures};
use crate::encoding::Source;
use crate::ids::{RealmId, SessionId};
use crate::lanes::Item;
use crate::mutation::{Mutation, planted};
use crate::parcel::{Asks, Errand, Failure, Interrupt, Invocation};
use crate::shard::Shard;

/// What a caller wants of whoever answers. What a callee is asked follows from this and from what it has announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) realm: RealmId,
    /// The caller is disclosed to any callee.
    pub(super) disclosed: bool,
    pub(super) permit: Permit,
    pub(super) receive_progress: bool,
    pub(super) more: bool,
    pub(super) time: Option<Duration>,
}

impl Wishes {
    /// Whether this callee is told who calls. It may ask for it too, where nothing forbids it (WAMP, "Caller Identification").
    pub(super) fn disclosed_to(&self, callee: &Callee) -> bool {
        self.disclosed || callee.disclose_caller && self.permit.disclosure.decide(true) == Some(true)
    }

    /// What this callee is asked.
    pub(super) fn asks_of(&self, callee: &Callee) -> Asks {
        let is_told = callee.features.forward_timeout() || planted(Mutation::TimeoutToldToAll);
        let forwarded = self.time.filter(|_| is_told);
        let timeout_ms = forwarded.and_then(|time| NonZeroU64::new(time.as_millis() as u64));
        Asks { receive_progress: self.receive_progress, more: self.more, timeout_ms, ..Asks::default() }
    }
}

/// What it takes to ask another callee.
#[derive(Debug)]
pub(crate) struct Reroute {
    wishes: Wishes,
    uri: Box<str>,
    /// For callees that do not keep the time themselves: it runs from the call on.
    timer: Option<Timer>,
    payload: OwnedPayload,
    /// Those that had it before.
    asked: Vec<SessionId>,
}

/// Why no other callee has the call.
pub(super) enum Unrouted {
    /// There is none, or nobody waits for the answer.
    Nobody,
    /// The last one that was asked could not take it.
    Failed(Failure),
}

/// Longer arguments are not kept.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// So many bytes of arguments are kept by one shard, for all its callers.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// So many other callees are asked for one call.
const HOPS_MAX: usize = 8;

impl Shard {
    /// Keeps what it takes to ask another callee, if there is room for it.
    pub(super) fn keep_for_rerouting(
        &mut self,
        number: u64,
        wishes: Wishes,
        uri: &str,
        timer: Option<Timer>,
        serializer: Serializer,
        payload: &Payload<'_>,
    ) {
        let bytes = payload.bytes_max();
        if bytes > PAYLOAD_BYTES_MAX || self.rerouting_bytes + bytes > KEPT_BYTES_MAX {
            return;
        }
        let payload = OwnedPayload::copy_from(serializer, payload);
        self.rerouting_bytes += payload.len();
        let reroute = Reroute { wishes, uri: uri.into(), timer, payload, asked: Vec::new() };
        self.extras_of(number).reroute = Some(reroute);
    }

    /// Nobody else will be asked.
    pub(super) fn drop_reroute(&mut self, reroute: Option<Reroute>) {
        if !planted(Mutation::KeptBytesStay) {
            self.rerouting_bytes -= reroute.map_or(0, |reroute| reroute.payload.len());
        }
    }

    pub(super) fn callee_reroutes(&self, number: u64) -> bool {
        let reroutes =
            |features: CalleeFeatures| features.call_reroute() || planted(Mutation::AnybodyReroutes);
        self.calls.get(&number).is_some_and(|call| reroutes(call.callee_features))
    }

    /// Asks other callees, one after the other, until one has the call.
    pub(super) fn reroute(&mut self, number: u64) -> Result<(), Unrouted> {
        let waits = |call: &&PendingCall| call.has_extras && call.standing == Standing::Waiting;
        let Some(&call) = self.calls.get(&number).filter(waits) else { return Err(Unrouted::Nobody) };
        let Some(extras) = self.call_extras.get_mut(&number) else { return Err(Unrouted::Nobody) };
        // Who has answered works on it no more.
        extras.claim = None;
        let Some(mut reroute) = extras.reroute.take() else { return Err(Unrouted::Nobody) };
        let done = self.ask_others(number, call, &mut reroute);
        if done.is_ok() {
            self.extras_of(number).reroute = Some(reroute);
        } else {
            self.drop_reroute(Some(reroute));
        }
        done
    }

    fn ask_others(
        &mut self,
        number: u64,
        mut call: PendingCall,
        reroute: &mut Reroute,
    ) -> Result<(), Unrouted> {
        let mut end = Unrouted::Nobody;
        while reroute.asked.len() < HOPS_MAX {
            reroute.asked.push(call.callee);
            let passthru = reroute.payload.view().passthru.is_some();
            let wanted = Wanted { passthru, asked: &reroute.asked };
            let Ok(picked) = self.pick(reroute.wishes.realm, &reroute.uri, wanted) else {
                return Err(end);
            };
            let Picked { callee, .. } = picked;
            if callee.shard != self.id && !self.lanes.has_room(callee.shard) {
                return Err(Unrouted::Failed(Failure::NoRoom));
            }
            call.callee = callee.session;
            call.callee_shard = callee.shard;
            call.callee_features = callee.features;
            match self.call_again(number, call, picked, reroute) {
                Ok(()) => return Ok(()),
                Err(why) if why.is_the_callees() => end = Unrouted::Failed(why),
                Err(why) => return Err(Unrouted::Failed(why)),
            }
        }
        Err(end)
    }

    fn call_again(
        &mut self,
        number: u64,
        call: PendingCall,
        picked: Picked,
        reroute: &Reroute,
    ) -> Result<(), Failure> {
        let Picked { registration, callee, is_pattern, claim, .. } = picked;
        self.calls.insert(number, call);
        self.delivery.counters.calls_rerouted += 1;
        self.extras_of(number).claim = claim;
        let (wishes, payload) = (reroute.wishes, &reroute.payload);
        self.use_timer(number, reroute.timer.filter(|_| !callee.features.forward_timeout()));
        let caller = match call.caller {
            Caller::Session { outlet, .. } => {
                let session = self.session(outlet).expect("a call without its caller was abandoned").id;
                let origin = Origin::Session { outlet, session };
                self.provenance(origin, wishes.disclosed_to(&callee), wishes.permit.trust)
            }
            Caller::Api(_) | Caller::Nobody => None,
        };
        let (asks, key) = (wishes.asks_of(&callee), self.key_of(number));
        let procedure = is_pattern.then_some(&*reroute.uri);
        let (shard, callee) = (callee.shard, callee.session);
        if shard == self.id {
            let caller = caller.as_ref();
            let invoking = Invoking { call: key, registration, callee, procedure, caller, asks };
            return self.invoke(invoking, &Source::borrowed(payload.serializer(), payload.view()));
        }
        let procedure = procedure.map(Box::from);
        let invocation = Invocation { call: key, registration, callee, procedure, caller, asks };
        let parcel = self.spares.pack(Errand::Invoke(invocation), payload.serializer(), payload.view());
        self.lanes.stage(shard, Item::Call(parcel));
        Ok(())
    }

    /// The caller has left a call that counts for a callee which cannot be interrupted: that goes on until it has answered.
    /// False: it may be forgotten.
    pub(super) fn leave_call(&mut self, number: u64) -> bool {
        let Some(call) = self.calls.get_mut(&number) else { return false };
        let Some(extras) = self.call_extras.get_mut(&number) else { return false };
        let left = *call;
        if extras.claim.is_none() || call.callee_features.call_canceling() {
            return false;
        }
        call.caller = Caller::Nobody;
        call.standing = Standing::Answered;
        call.takes_progress = false;
        if let Some(timer) = extras.timer.take() {
            self.call_timers.remove(&(timer.at, number));
        }
        extras.part = None;
        let reroute = extras.reroute.take();
        self.drop_reroute(reroute);
        if left.takes_progress {
            self.interrupt_callee(number, &left, Interrupt::DropProgress);
        }
        true
    }
}
