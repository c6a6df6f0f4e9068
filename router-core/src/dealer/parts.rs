//! Calls that come in parts (WAMP, "Progressive Call Invocations").
//!
//! The first part is a call like any other. The others follow it to the same callee, in order, by the same ring, and are told
//! with what the first one has said: which options they bring does not matter. How many there may be is up to `flow.rs`.

use fanwire_codec::wamp2::Serializer;

use super::calls::Standing;
use super::{CallRefusal, CallRequest, Invoking};
use crate::broker::Origin;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::encoding::Source;
use crate::ids::{RegistrationId, SessionId};
use crate::mutation::{Mutation, planted};
use crate::parcel::{Asks, Errand, Invocation};
use crate::session::{Provenance, error};
use crate::shard::Shard;

/// What the first part of a call said, for the others.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(super) uri: Box<str>,
    pub(super) registration: RegistrationId,
    pub(super) is_pattern: bool,
    pub(super) caller: Option<Provenance>,
    pub(super) asks: Asks,
}

impl Shard {
    /// Another part of a call that has no answer yet.
    #[cold]
    pub(super) fn call_on(
        &mut self,
        now: Instant,
        outlet: Outlet,
        number: u64,
        request: &CallRequest<'_>,
    ) -> Result<(), CallRefusal> {
        let call = self.calls[&number];
        let extras = self.call_extras.get_mut(&number);
        let Some(slot) = extras.map(|extras| &mut extras.part).filter(|slot| slot.is_some()) else {
            // WAMP, "Verification of CALL Request IDs".
            let words = format!(
                "request {} is a call that has no answer yet and no more parts: count request ids up",
                request.request
            );
            return Err(CallRefusal::Violation(words));
        };
        let part = slot.as_ref().expect("as above");
        if *part.uri != *request.uri || call.standing != Standing::Waiting {
            self.delivery.counters.call_parts_discarded += 1;
            return Ok(());
        }
        if request.payload.passthru.is_some() && !call.callee_features.payload_passthru_mode() {
            let words = "the callee takes no payload passthru: leave the ppt_ options out of all parts";
            self.give_up_call(now, number, error::FEATURE_NOT_SUPPORTED, words);
            return Ok(());
        }
        // The last part takes with it what was kept for it.
        let part = if request.more { part.clone() } else { slot.take().expect("as above") };
        let Part { uri, registration, is_pattern, caller, asks } = part;
        let more = request.more || planted(Mutation::LastPartUntold);
        let asks = Asks { more, continues: true, ..asks };
        let procedure = is_pattern.then_some(uri);
        let key = self.key_of(number);
        let session = self.session(outlet).expect("it calls");
        let (id, serializer) = (session.id, session.encoding.serializer());
        if call.callee_shard == self.id
            && self.callee_takes_part(call.callee, (serializer, request.payload.bytes_max()))
        {
            let (procedure, caller) = (procedure.as_deref(), caller.as_ref());
            let invoking = Invoking { call: key, registration, callee: call.callee, procedure, caller, asks };
            let source = Source::borrowed(serializer, request.payload);
            if let Err(why) = self.invoke_part(invoking, &source) {
                self.fail_call(number, why);
            }
            return Ok(());
        }
        let invocation = Invocation { call: key, registration, callee: call.callee, procedure, caller, asks };
        let parcel = self.spares.pack(Errand::Invoke(invocation), serializer, request.payload);
        self.send_part(now, Origin::Session { outlet, session: id }, call.callee_shard, parcel);
        Ok(())
    }

    fn callee_takes_part(&self, callee: SessionId, part: (Serializer, usize)) -> bool {
        self.outlets.get(&callee).is_none_or(|outlet| self.takes_part(*outlet, part))
    }

    /// Whether this is a part of a call that has ended; then it is ignored.
    #[cold]
    pub(super) fn is_late_part(&mut self, outlet: Outlet, request: &CallRequest<'_>) -> bool {
        let session = self.session_mut(outlet).expect("it calls");
        let late = session
            .ended_calls
            .as_mut()
            .is_some_and(|ended| ended.late_parts.meets(request.request, !request.more));
        self.delivery.counters.call_parts_discarded += u64::from(late);
        late
    }
}
