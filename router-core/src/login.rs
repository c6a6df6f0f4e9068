//! Logins: from a proof of identity to a session with a role.
//!
//! ```text
//! HELLO ─▶ CHALLENGE ─▶ AUTHENTICATE ─▶ Question ─▶ (users, or a hook) ─▶ Verdict ─▶ WELCOME or ABORT
//!   └ anonymous ─────────────────────────────▶ Question ─▶ (a hook, where there is one) ─┘
//! ```
//!
//! A shard compares no secrets: that is slow on purpose. So it asks, as [`question`](crate::question) has it. Whoever has
//! shown who it is, or needs not, may still have to wait for the realm's `connect` hook.

use std::fmt;
use std::sync::Arc;

use fanwire_codec::payload::OwnedPayload;

use crate::clock::Instant;
use crate::counters::{Arrival, LoginOutcome};
use crate::delivery::Outlet;
use crate::directory::SessionEntry;
use crate::hooks::HookId;
use crate::ids::{RealmId, RoleId, SessionId};
use crate::mutation::{Mutation, planted};
use crate::question::{Asking, Denial, Grant, Matter, Subject};
use crate::session::{Principal, State};
use crate::shard::{Effect, Shard};

/// How a client shows who it is. The names are WAMP's `authmethod`s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum LoginMethod {
    /// It does not say.
    Anonymous,
    /// By a secret that it sends as it is (WAMP, "Ticket-based Authentication").
    Ticket,
}

impl LoginMethod {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Anonymous, Self::Ticket];

    /// Its name in HELLO, CHALLENGE and WELCOME.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Ticket => "ticket",
        }
    }

    /// The method of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// A secret as the client sent it. Never shown, not even by `Debug`.
pub struct Ticket(Box<str>);

impl Ticket {
    /// Takes the client's words.
    pub fn new(ticket: &str) -> Self {
        Self(ticket.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// What the client brought to show who it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Proof {
    /// The secret.
    Ticket(Ticket),
}

/// Somebody on its way from HELLO to WELCOME.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) realm: RealmId,
    /// Who it says it is, or was found to be.
    pub(crate) authid: Option<Box<str>>,
    pub(crate) method: LoginMethod,
    /// Once its proof was found good, or if it needs none.
    role: Option<RoleId>,
    provider: &'static str,
    /// It waits until a backend says who it is, and nobody else is asked.
    pub(crate) waits_for_uid: bool,
    /// What WELCOME tells as `authextra`.
    pub(crate) extra: Option<OwnedPayload>,
    /// What a backend has said of it meanwhile. It is known once it is in, and never of who it was before.
    pub(crate) context: Vec<(Box<str>, Box<str>)>,
}

impl Entrance {
    /// It has to show who it is.
    pub(crate) fn to_be_proved(realm: RealmId, method: LoginMethod, authid: Option<&str>) -> Self {
        let authid = authid.map(Into::into);
        Self { authid, method, role: None, ..Self::anonymous(realm, RoleId::new(0)) }
    }

    /// It does not say who it is, and gets this role.
    pub(crate) fn anonymous(realm: RealmId, role: RoleId) -> Self {
        let method = LoginMethod::Anonymous;
        Self {
            realm,
            authid: None,
            method,
            role: Some(role),
            provider: "static",
            waits_for_uid: false,
            extra: None,
            context: Vec::new(),
        }
    }

    /// Takes what was granted. A login that gives no role, or nobody's name, cannot be told from a broken one.
    fn take(&mut self, grant: Grant) -> Result<(), Denial> {
        let is_login = self.role.is_none();
        if is_login || grant.authid.is_some() {
            self.provider = grant.provider;
        }
        self.role = grant.role.or(self.role);
        self.authid = grant.authid.or(self.authid.take());
        self.extra = grant.extra.or(self.extra.take());
        if self.role.is_none() || is_login && self.authid.is_none() { Err(Denial::Failed) } else { Ok(()) }
    }
}

impl Shard {
    /// The session says who it is, and has to show it.
    pub(crate) fn begin_login(&mut self, outlet: Outlet, entrance: Entrance) {
        let session = self.session_mut(outlet).expect("it says who it is");
        session.state = State::Challenged;
        session.asking = Some(Asking::entrance(entrance));
    }

    /// The session shows who it is: asks whether that is so. It is not listened to until the verdict.
    pub(crate) fn request_login(&mut self, now: Instant, outlet: Outlet, proof: Proof) {
        let session = self.session_mut(outlet).expect("it answers a challenge");
        session.state = State::Verifying;
        let asking = session.asking.take().expect("a challenged session is on its way in");
        let Matter::Entrance(entrance) = asking.matter else { unreachable!("it has no requests yet") };
        self.verify(now, outlet, entrance, proof);
    }

    /// Asks whether the proof is good.
    pub(crate) fn verify(&mut self, now: Instant, outlet: Outlet, entrance: Entrance, proof: Proof) {
        let realm = entrance.realm;
        let subject = Subject::Login { authid: entrance.authid.clone(), proof };
        let hook = self.config.access.hooks(realm).authenticate;
        self.ask(now, outlet, (hook, realm), subject, Matter::Entrance(entrance));
    }

    /// Who needs no proof is asked about where the realm has a hook for that, else welcomed.
    pub(crate) fn let_in(&mut self, now: Instant, outlet: Outlet, entrance: Entrance) {
        match self.config.access.hooks(entrance.realm).connect {
            Some(hook) => self.ask_to_connect(now, outlet, hook, entrance),
            None => self.admit(now, outlet, entrance),
        }
    }

    fn ask_to_connect(&mut self, now: Instant, outlet: Outlet, hook: HookId, mut entrance: Entrance) {
        // Who it is has been told: told once more, that is no answer to this question.
        entrance.waits_for_uid = false;
        let session = self.session_mut(outlet).expect("it comes in");
        // Who is there already and says now who it is stays there meanwhile.
        if session.state != State::Open {
            session.state = State::Admitting;
        }
        let Entrance { authid, method, role, realm, .. } = &entrance;
        let role = role.expect("it was given one");
        let subject = Subject::Connect { authid: authid.clone(), role, method: *method };
        let asked = (Some(hook), *realm);
        self.ask(now, outlet, asked, subject, Matter::Entrance(entrance));
    }

    /// The verdict on somebody who comes in.
    pub(crate) fn decide_entrance(
        &mut self,
        now: Instant,
        outlet: Outlet,
        mut entrance: Entrance,
        outcome: Result<Grant, Denial>,
    ) {
        // It had to show who it is, and now that is decided on.
        let was_verified = entrance.role.is_none();
        let method = entrance.method;
        let mut outcome = outcome;
        if planted(Mutation::DenialForgotten) {
            outcome = outcome.or(Ok(Grant::of_user(RoleId::new(0))));
        }
        // A role that is newer than this shard's permissions is none here yet.
        let knows = |role: RoleId| self.config.access.has_role(entrance.realm, role);
        let outcome = outcome
            .and_then(|grant| if grant.role.is_none_or(knows) { Ok(grant) } else { Err(Denial::Failed) });
        match outcome.and_then(|grant| entrance.take(grant)) {
            Ok(()) => match self.config.access.hooks(entrance.realm).connect {
                Some(hook) if was_verified => self.ask_to_connect(now, outlet, hook, entrance),
                _ => {
                    self.admit(now, outlet, entrance);
                    // Unless what it wants at once has to wait for another verdict.
                    if !planted(Mutation::VerdictNotResumed) {
                        self.listen_again(outlet);
                    }
                }
            },
            Err(denial) => {
                let arrival = match denial {
                    Denial::Refused | Denial::Told(_) => Arrival::Denied,
                    Denial::Busy | Denial::Failed | Denial::Unavailable => Arrival::Unavailable,
                };
                self.delivery.counters.login(LoginOutcome::of(method, arrival));
                if !planted(Mutation::VerdictNotResumed) {
                    self.listen_again(outlet);
                }
                self.deny_login(now, outlet, was_verified, &denial);
            }
        }
    }

    /// Welcomes it.
    fn admit(&mut self, now: Instant, outlet: Outlet, entrance: Entrance) {
        let Entrance { realm, authid, method, role, provider, extra, context, waits_for_uid: _ } = entrance;
        let role = role.expect("it was given one");
        let principal = authid.map(|authid| Arc::new(Principal { authid, method, provider }));
        let was_open = self.session(outlet).expect("it comes in").state == State::Open;
        if was_open {
            self.leave_session(now, outlet, principal.as_deref());
        }
        self.open_session(now, outlet, realm, role, principal);
        if was_open {
            self.withdraw_what_the_role_forbids(now, outlet);
        }
        self.delivery.counters.login(LoginOutcome::of(method, Arrival::Welcomed));
        self.welcome(now, outlet, method, extra.as_ref(), context);
    }

    /// The session ends because another one of its connection follows. That one has the subscriptions, unless it is another
    /// user's.
    fn leave_session(&mut self, now: Instant, outlet: Outlet, next: Option<&Principal>) {
        let session = self.session(outlet).expect("it is open");
        let realm = session.realm;
        let is_other = |was: &Arc<Principal>| next.is_none_or(|next| next.authid != was.authid);
        let is_other = session.principal.as_ref().is_some_and(is_other);
        self.tell_end(outlet, realm);
        // What was routed to the session that ends is for that one: lists of receivers are asked about who it was.
        self.delivery.settle_due(now, outlet);
        if is_other || planted(Mutation::LoginForgetsChannels) {
            self.part_all_subscriptions(now, outlet);
        }
        self.deregister_session(outlet);
    }

    /// From now on the session exists for others.
    pub(crate) fn open_session(
        &mut self,
        now: Instant,
        outlet: Outlet,
        realm: RealmId,
        role: RoleId,
        principal: Option<Arc<Principal>>,
    ) {
        let entry = SessionEntry { realm, role, shard: self.id };
        let id = loop {
            let id = SessionId::from_random((self.random)());
            if self.directory.register_session(id, entry) {
                break id;
            }
        };
        let session = self.session_mut(outlet).expect("it logged in");
        session.state = State::Open;
        session.id = id;
        session.realm = realm;
        session.role = role;
        session.principal = principal;
        session.since = now;
        let (label, encoding) = (session.label(), session.encoding);
        self.delivery.set_label(outlet, label);
        self.outlets.insert(id, outlet);
        self.delivery.counters.session_opened(encoding);
        self.effects.push(Effect::Established(outlet));
    }
}
