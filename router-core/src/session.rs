//! One session of one connection: where it stands, who it is, and what it holds.
//!
//! ```text
//!          HELLO (anonymous)           GOODBYE (client's)
//! Waiting ───────▶ Admitting ──▶ Open ───────────────────▶ Over
//!    │ HELLO           ▲   │      │  GOODBYE (ours)  GOODBYE  ▲
//!    ▼  AUTHENTICATE   │   │      └──────────▶ Closing ───────┤
//! Challenged ───────┐  │   └ denied by the hook ──────────────┤
//!    ▲ a challenge  ▼  │ granted                              │
//!    └────────── Verifying ── denied ─────────────────────────┤
//!  (any) ── ABORT, violation, close ──────────────────────────┘
//! ```
//!
//! Who logs in by another method than a ticket is `Verifying` first, and challenged then. `Admitting` passes at once where no hook is asked. It and `Verifying` are not listened to. `Over` says nothing more: its
//! last frames are being written, then the connection goes.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::access::{Access, TrustLevel};
use crate::announced::Announced;
use crate::clock::Instant;
use crate::dealer::EndedCalls;
use crate::directory::{Cookie, Registration};
use crate::echo::Place;
use crate::encoding::Encoding;
use crate::handled::Handled;
use crate::hooks::AllowedFor;
use crate::ids::{RealmId, RegistrationId, RoleId, SessionId, SubscriptionId};

use crate::invocations::Invocations;
use crate::login::{ChannelId, LoginMethod};
use crate::question::Asking;
use crate::wamp1::{self, Curies};

/// Where a session stands; see the picture above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Waiting,
    Challenged,
    Verifying,
    Admitting,
    Open,
    Closing,
    Over,
}

pub(crate) type IdMap<V> = HashMap<u64, V, foldhash::fast::FixedState>;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: State,
    pub(crate) encoding: Encoding,
    /// Part of its [`ClientId`](crate::ids::ClientId).
    pub(crate) number: u32,
    /// The realm that it may join, where its endpoint is for one alone.
    pub(crate) only_realm: Option<RealmId>,
    /// Valid from `Open` on, like `realm` and `role`.
    pub(crate) id: SessionId,
    pub(crate) realm: RealmId,
    pub(crate) role: RoleId,
    /// Who it proved to be; `None` if it brought no credentials.
    pub(crate) principal: Option<Arc<Principal>>,
    /// From `Challenged` to `Admitting`, and while a hook is asked about a request.
    pub(crate) asking: Option<Box<Asking>>,
    /// When it was welcomed.
    pub(crate) since: Instant,
    /// Sorted.
    pub(crate) subscriptions: Vec<SubscriptionId>,
    /// In protocols where clients have words of their own.
    pub(crate) words: Option<Box<Words>>,
    pub(crate) registrations: Vec<Arc<Registration>>,
    /// How many of its subscriptions and registrations are by prefix or wildcard.
    pub(crate) patterns: u32,
    /// Request id of the last INVOCATION; session scope, counted by the router (WAMP, "IDs").
    pub(crate) last_invocation: u64,
    /// As callee: invocations not answered yet.
    pub(crate) invocations: Invocations,
    /// As caller: the call number by request id.
    pub(crate) calls: IdMap<u64>,
    /// As caller: what few calls leave behind.
    pub(crate) ended_calls: Option<Box<EndedCalls>>,
    /// What its HELLO said that it can do.
    pub(crate) announced: Announced,
    /// Something of this session waits, for room or for a verdict: its input is not read.
    pub(crate) parked: bool,
    /// Close code for when the peer answers our GOODBYE.
    pub(crate) close_code: u16,
}

const _: () = assert!(size_of::<Session>() <= 224, "allocators round up to this much");

impl Session {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self {
            state: State::Waiting,
            encoding,
            number: 0,
            only_realm: None,
            id: SessionId::MAX,
            realm: RealmId::new(0),
            role: RoleId::new(0),
            principal: None,
            asking: None,
            since: Instant::START,
            subscriptions: Vec::new(),
            words: None,
            registrations: Vec::new(),
            patterns: 0,
            last_invocation: 0,
            invocations: Invocations::default(),
            calls: IdMap::default(),
            ended_calls: None,
            announced: Announced::default(),
            parked: false,
            close_code: 1000,
        }
    }

    /// The room that it is in, or comes to, in protocols with rooms.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.words.as_ref()?.place.as_ref()
    }

    /// What its client can be remembered by.
    pub(crate) fn cookie(&self) -> Option<Cookie> {
        self.words.as_ref()?.cookie
    }

    /// What its connection alone has, once.
    pub(crate) fn take_channel(&mut self) -> Option<Box<ChannelId>> {
        let words = self.words.as_mut()?;
        let channel = words.channel.take()?;
        let is_all = words.names.is_empty() && words.context.is_empty() && words.placed.is_empty();
        if is_all && words.place.is_none() && words.cookie.is_none() {
            self.words = None;
        }
        Some(channel)
    }

    /// What it calls the topic of this subscription.
    pub(crate) fn name_of(&self, id: SubscriptionId) -> Option<Arc<str>> {
        let names = &self.words.as_ref()?.names;
        let place = names.binary_search_by_key(&id, |(named, _)| *named).ok()?;
        Some(Arc::clone(&names[place].1))
    }

    /// It calls the topic of this subscription so.
    pub(crate) fn note_name(&mut self, id: SubscriptionId, name: &Arc<str>) {
        let names = &mut self.words.get_or_insert_default().names;
        let place = names.partition_point(|(named, _)| *named < id);
        names.insert(place, (id, Arc::clone(name)));
    }

    /// The same, for the last time.
    pub(crate) fn forget_name(&mut self, id: SubscriptionId) -> Option<Arc<str>> {
        let words = self.words.as_mut()?;
        words.placed.retain(|placed| *placed != id);
        let names = &mut words.names;
        let place = names.binary_search_by_key(&id, |(named, _)| *named).ok()?;
        Some(names.remove(place).1)
    }

    /// The name that it goes by from `Open` on: a user's, or one like no other's.
    pub(crate) fn authid(&self) -> Cow<'_, str> {
        match &self.principal {
            Some(principal) => Cow::Borrowed(&principal.authid),
            None => Cow::Owned(anonymous_authid(self.id)),
        }
    }

    /// Whether it has this registration.
    pub(crate) fn registers(&self, id: RegistrationId) -> bool {
        self.registrations.binary_search_by_key(&id, |held| held.id()).is_ok()
    }

    /// Who vouched for it.
    pub(crate) fn provider(&self) -> &'static str {
        self.principal.as_ref().map_or(UNPROVED, |principal| principal.provider)
    }

    /// Who it is, for lists of receivers.
    pub(crate) fn label(&self) -> Label {
        Label { session: self.id, role: self.role, principal: self.principal.clone() }
    }

    /// Who it is, for others that are told.
    pub(crate) fn identity(&self, access: &Access) -> Identity {
        let authrole = access.role_name(self.realm, self.role).into();
        Identity { session: self.id, authid: self.authid().into(), authrole }
    }
}

/// What a client calls its topics, and what of it goes into their names.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// What it calls the topics of its subscriptions. Sorted.
    pub(crate) names: Vec<(SubscriptionId, Arc<str>)>,
    /// What whoever vouched for it said of it beside who it is, as far as names of topics need it.
    pub(crate) context: Vec<(Box<str>, Box<str>)>,
    /// The room to which its path leads.
    pub(crate) place: Option<Place>,
    /// Whoever decides on what happens to it.
    pub(crate) handled: Option<Handled>,
    /// Subscriptions that a backend made for it, which no rule of channels gives or takes.
    pub(crate) placed: Vec<SubscriptionId>,
    /// What stands for the beginnings of its names.
    pub(crate) curies: Curies,
    /// What it calls its calls that have no answer yet, by their request ids.
    pub(crate) call_ids: IdMap<Box<str>>,
    /// Tokens that were not accepted since one was.
    pub(crate) refused_tokens: u8,
    /// What a hook has allowed it for as long as it lasts.
    pub(crate) allowed: Option<Box<AllowedFor>>,
    /// How far its login has come, where that is by calls.
    pub(crate) login: Option<Box<wamp1::Login>>,
    /// What its connection alone has, until it says who it is.
    pub(crate) channel: Option<Box<ChannelId>>,
    /// What its client can be remembered by.
    pub(crate) cookie: Option<Cookie>,
}

/// Who a session proved to be, and how.
#[derive(Debug)]
pub(crate) struct Principal {
    pub(crate) authid: Box<str>,
    pub(crate) method: LoginMethod,
    /// Who vouched for it, as `authprovider` says it.
    pub(crate) provider: &'static str,
}

/// Who a connection's session is, where lists of receivers are asked. Each connection has one.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) session: SessionId,
    pub(crate) role: RoleId,
    pub(crate) principal: Option<Arc<Principal>>,
}

const _: () = assert!(size_of::<Label>() == 24, "part of what an idle connection costs");

impl Label {
    /// Of a connection without a session.
    pub(crate) const NOBODY: Self = Self { session: SessionId::MAX, role: RoleId::new(0), principal: None };
}

/// Who a session is, as told to others where it is disclosed, and to hooks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its id.
    pub session: SessionId,
    /// Its name: a user's, or one like no other's.
    pub authid: Box<str>,
    /// Its role.
    pub authrole: Box<str>,
}

/// What others are told of who publishes or calls. Where they are told nothing, there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Provenance {
    /// Who it is, if it is disclosed.
    pub(crate) identity: Option<Identity>,
    /// How far it is trusted, if the configuration says so.
    pub(crate) trust: Option<TrustLevel>,
}

/// The `authprovider` of who brought no credentials: the configuration lets it in.
const UNPROVED: &str = "static";

/// Begins the authid of every session that brought no credentials; no user may be named so.
pub const ANONYMOUS_AUTHID_PREFIX: &str = "anonymous-";

fn anonymous_authid(session: SessionId) -> String {
    format!("{ANONYMOUS_AUTHID_PREFIX}{:x}", session.get())
}

/// The session that has this authid if it brought no credentials.
pub(crate) fn anonymous_session(authid: &str) -> Option<SessionId> {
    let number = u64::from_str_radix(authid.strip_prefix(ANONYMOUS_AUTHID_PREFIX)?, 16).ok()?;
    SessionId::new(number).filter(|session| anonymous_authid(*session) == authid)
}

/// Why the router refuses a request: becomes the protocol's ERROR.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// One of [`error`].
    pub(crate) uri: &'static str,
    /// For people: what, where and what to do.
    pub(crate) words: String,
}

impl Refusal {
    pub(crate) fn new(uri: &'static str, words: impl Into<String>) -> Self {
        Self { uri, words: words.into() }
    }
}

/// Error and close URIs that the router itself uses (WAMP, "Predefined URIs").
pub(crate) mod error {
    pub(crate) const AUTHENTICATION_DENIED: &str = "wamp.error.authentication_denied";
    pub(crate) const AUTHENTICATION_FAILED: &str = "wamp.error.authentication_failed";
    pub(crate) const AUTHENTICATION_REQUIRED: &str = "wamp.error.authentication_required";
    pub(crate) const AUTHORIZATION_FAILED: &str = "wamp.error.authorization_failed";
    pub(crate) const CANCELED: &str = "wamp.error.canceled";
    pub(crate) const FEATURE_NOT_SUPPORTED: &str = "wamp.error.feature_not_supported";
    pub(crate) const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";
    pub(crate) const INVALID_URI: &str = "wamp.error.invalid_uri";
    pub(crate) const DISCLOSE_ME_DISALLOWED: &str = "wamp.error.option_disallowed.disclose_me";
    pub(crate) const NO_MATCHING_AUTH_METHOD: &str = "wamp.error.no_matching_auth_method";
    pub(crate) const NO_SUCH_PROCEDURE: &str = "wamp.error.no_such_procedure";
    pub(crate) const NO_SUCH_SESSION: &str = "wamp.error.no_such_session";
    pub(crate) const NO_SUCH_REALM: &str = "wamp.error.no_such_realm";
    pub(crate) const NO_SUCH_REGISTRATION: &str = "wamp.error.no_such_registration";
    pub(crate) const NO_SUCH_SUBSCRIPTION: &str = "wamp.error.no_such_subscription";
    pub(crate) const NO_AVAILABLE_CALLEE: &str = "wamp.error.no_available_callee";
    pub(crate) const NOT_AUTHORIZED: &str = "wamp.error.not_authorized";
    pub(crate) const PAYLOAD_SIZE_EXCEEDED: &str = "wamp.error.payload_size_exceeded";
    pub(crate) const PROCEDURE_ALREADY_EXISTS: &str = "wamp.error.procedure_already_exists";
    pub(crate) const PROTOCOL_VIOLATION: &str = "wamp.error.protocol_violation";
    pub(crate) const RUNTIME_ERROR: &str = "wamp.error.runtime_error";
    pub(crate) const TIMEOUT: &str = "wamp.error.timeout";
    pub(crate) const UNAVAILABLE: &str = "wamp.error.unavailable";
    pub(crate) const CLOSE_GOODBYE_AND_OUT: &str = "wamp.close.goodbye_and_out";
    pub(crate) const CLOSE_NORMAL: &str = "wamp.close.normal";
    pub(crate) const CLOSE_KILLED: &str = "wamp.close.killed";
    pub(crate) const CLOSE_LOGOUT: &str = "wamp.close.logout";
    pub(crate) const CLOSE_SYSTEM_SHUTDOWN: &str = "wamp.close.system_shutdown";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anonymous_authid_leads_back_to_its_session() {
        for number in [1, 0x1f, 1 << 53] {
            let session = SessionId::new(number).expect("an id");
            assert_eq!(anonymous_session(&anonymous_authid(session)), Some(session));
        }
        for authid in
            ["anonymous-0", "anonymous-01f", "anonymous-1F", "anonymous-+1", "anonymous-", "peter", "1f"]
        {
            assert_eq!(anonymous_session(authid), None, "{authid}");
        }
    }
}
