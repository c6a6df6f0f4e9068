//! WAMP's meta API, as far as a shard has to do with it: which procedures are the router's own, and who may call them.
//!
//! ```text
//! CALL wamp.session.count ─▶ nobody has registered it ─▶ Question ─▶ (the meta desk) ─▶ Verdict ─▶ RESULT or ERROR
//! ```
//!
//! A shard answers none of them by itself: what they ask for is known by other shards too, and listing a million sessions
//! takes its time. Nobody can register below `wamp.`, so a call that finds a callee needs not be looked at.

use fanwire_codec::payload::OwnedPayload;

use crate::access::Action;
use crate::clock::Instant;
use crate::dealer::{CallRequest, Caller};
use crate::delivery::Outlet;
use crate::hooks::HookId;
use crate::ids::{RealmId, RoleId};
use crate::question::Subject;
use crate::session::{Refusal, error};
use crate::shard::Shard;

mod news;
mod testaments;

pub use news::{Change, EntryDetails, EntryEvent, EntryKind, News, ON_JOIN, ON_LEAVE};
pub(crate) use testaments::AllTestaments;
pub use testaments::{TestamentLimits, TestamentOrder, TestamentScope};

/// Those that anybody may call whose role may call them.
const ASKING: &[&str] = &[
    "wamp.reflect.define",
    "wamp.reflect.describe",
    "wamp.reflection.error.describe",
    "wamp.reflection.error.list",
    "wamp.reflection.procedure.describe",
    "wamp.reflection.procedure.list",
    "wamp.reflection.topic.describe",
    "wamp.reflection.topic.list",
    "wamp.registration.count_callees",
    "wamp.registration.get",
    "wamp.registration.list",
    "wamp.registration.list_callees",
    "wamp.registration.lookup",
    "wamp.registration.match",
    "wamp.session.add_testament",
    "wamp.session.count",
    "wamp.session.flush_testaments",
    "wamp.session.get",
    "wamp.session.list",
    "wamp.subscription.count_subscribers",
    "wamp.subscription.get",
    "wamp.subscription.get_events",
    "wamp.subscription.list",
    "wamp.subscription.list_subscribers",
    "wamp.subscription.lookup",
    "wamp.subscription.match",
];

/// Those that do something to others, and need a rule of their own.
const ENDING: &[&str] = &[
    "wamp.registration.remove_callee",
    "wamp.session.kill",
    "wamp.session.kill_all",
    "wamp.session.kill_by_authid",
    "wamp.session.kill_by_authrole",
    "wamp.subscription.remove_subscriber",
];

/// All procedures that the router itself answers.
pub fn procedures() -> impl Iterator<Item = &'static str> {
    ASKING.iter().chain(ENDING).copied()
}

/// All topics to which the router itself publishes in a realm.
pub fn topics() -> impl Iterator<Item = &'static str> {
    let others = [ON_JOIN, ON_LEAVE, "wamp.reflect.on_define", "wamp.reflect.on_undefine"];
    news::ENTRY_TOPICS.iter().flatten().copied().chain(others)
}

/// Whether the router itself answers this procedure.
pub(crate) fn is_procedure(uri: &str) -> bool {
    uri.starts_with("wamp.") && (ASKING.contains(&uri) || ENDING.contains(&uri))
}

impl Shard {
    /// The hook that answers calls of this procedure. What the router answers is no hook's.
    pub(crate) fn hook_of_call(&self, realm: RealmId, uri: &str) -> Option<HookId> {
        self.config.access.hooks(realm).of_rpc(uri).filter(|_| !is_procedure(uri))
    }

    /// Whether a rule about `wamp.` itself is what allows it to call this procedure, which it may call.
    pub(crate) fn meta_caller(&self, realm: RealmId, role: RoleId, uri: &str) -> Result<bool, Refusal> {
        let access = &self.config.access;
        let is_express = access.permits_expressly(realm, role, Action::Call, uri);
        if is_express || !ENDING.contains(&uri) {
            return Ok(is_express);
        }
        let words = format!(
            "role \"{}\" may call {uri} only by a permission of its own: one whose uri begins with \"wamp.\", such as \
             uri = \"{uri}\", allow = [\"call\"]",
            access.role_name(realm, role)
        );
        Err(Refusal::new(error::NOT_AUTHORIZED, words))
    }

    /// A session, which may, calls one of the router's own procedures.
    pub(crate) fn call_meta(
        &mut self,
        now: Instant,
        outlet: Outlet,
        request: &CallRequest<'_>,
    ) -> Result<(), Refusal> {
        if request.more {
            let words = "the router's own procedures take no calls in parts";
            return Err(Refusal::new(error::FEATURE_NOT_SUPPORTED, words));
        }
        let session = self.session(outlet).expect("an open session calls");
        let (realm, role, id) = (session.realm, session.role, session.id);
        let payload = OwnedPayload::copy_from(session.encoding.serializer(), &request.payload);
        let is_express = self.meta_caller(realm, role, request.uri)?;
        let caller = Caller::Session { outlet, request: request.request };
        let number = self.note_asked_call(|_| caller);
        self.session_mut(outlet).expect("as above").calls.insert(request.request, number);
        if let Some(time) = request.time {
            self.start_timer(now, number, time);
        }
        let uri = request.uri.into();
        let subject = Subject::Meta { caller: Some(id), role, is_express, uri, payload };
        self.ask_for_result(now, None, realm, number, subject);
        Ok(())
    }
}
