//! Logins: from a proof of identity to a session with a role.
//!
//! ```text
//! HELLO ─▶ CHALLENGE ─▶ AUTHENTICATE ─▶ LoginRequest ─▶ (control thread: users, hashes) ─▶ LoginVerdict ─▶ WELCOME or ABORT
//! ```
//!
//! A shard compares no secrets: that is slow on purpose. It hands a [`LoginRequest`] out, does not listen to the
//! session meanwhile, and goes on when the [`LoginVerdict`] comes. The client may have left by then and its outlet may
//! belong to another one, so each login has a number that no other one of its shard has.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::clock::Instant;
use crate::counters::LoginOutcome;
use crate::delivery::Outlet;
use crate::directory::SessionEntry;
use crate::ids::{RealmId, RoleId, SessionId};
use crate::mutation::{Mutation, planted};
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

/// Which login of a shard is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct LoginKey {
    outlet: Outlet,
    number: u64,
}

/// A question to whoever knows the users: is the proof good, and which role does it give?
///
/// Answer each with [`Shard::handle_verdict`] of the shard that asked, or not at all: then the session's login deadline
/// ends it.
#[derive(Debug)]
pub struct LoginRequest {
    key: LoginKey,
    /// The realm to log in to.
    pub realm: RealmId,
    /// Who the client says it is.
    pub authid: Box<str>,
    /// How it shows that.
    pub proof: Proof,
    wanted: Weak<()>,
}

impl LoginRequest {
    /// False once nobody waits for the verdict: the client has left or its time is over. Asked before the work begins.
    pub fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }

    /// The answer to this request.
    pub fn verdict(&self, outcome: Result<Grant, Denial>) -> LoginVerdict {
        LoginVerdict { key: self.key, outcome }
    }
}

/// The answer to a [`LoginRequest`].
#[derive(Debug)]
pub struct LoginVerdict {
    key: LoginKey,
    outcome: Result<Grant, Denial>,
}

/// The proof is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The user's role in the realm.
    pub role: RoleId,
    /// Who vouches for the user, as `authprovider` says it.
    pub provider: &'static str,
}

/// The client is not let in. Its words are the same whatever was wrong with the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Denial {
    /// No such user, or another secret.
    Refused,
    /// Too many logins wait: the client may come again.
    Busy,
    /// It could not be verified, which is never taken for good.
    Failed,
}

/// A login under way.
#[derive(Debug)]
pub(crate) struct Login {
    number: u64,
    pub(crate) realm: RealmId,
    pub(crate) authid: Box<str>,
    pub(crate) method: LoginMethod,
    /// Alive while somebody waits for the verdict.
    wanted: Arc<()>,
}

impl Shard {
    /// The session says who it is, and has to show it by this method.
    pub(crate) fn begin_login(&mut self, outlet: Outlet, realm: RealmId, method: LoginMethod, authid: &str) {
        self.last_login += 1;
        let number = self.last_login;
        let session = self.session_mut(outlet).expect("it says who it is");
        session.state = State::Challenged;
        session.login =
            Some(Box::new(Login { number, realm, authid: authid.into(), method, wanted: Arc::new(()) }));
    }

    /// The session shows who it is: asks whether that is so. It is not listened to until the verdict.
    pub(crate) fn request_login(&mut self, outlet: Outlet, proof: Proof) {
        let session = self.session_mut(outlet).expect("it answers a challenge");
        let login = session.login.as_ref().expect("a challenged session has a login");
        let request = LoginRequest {
            key: LoginKey { outlet, number: login.number },
            realm: login.realm,
            authid: login.authid.clone(),
            proof,
            wanted: Arc::downgrade(&login.wanted),
        };
        session.state = State::Verifying;
        session.parked = true;
        self.login_requests.push(request);
    }

    /// Whether [`login_requests`](Self::login_requests) has any.
    pub fn has_login_requests(&self) -> bool {
        !self.login_requests.is_empty()
    }

    /// What has to be verified, oldest first. Drain it after [`receive`](Self::receive), or once a turn.
    pub fn login_requests(&mut self) -> std::vec::Drain<'_, LoginRequest> {
        self.login_requests.drain(..)
    }

    /// The answer to a login request of this shard, however late: one that nobody waits for is ignored.
    pub fn handle_verdict(&mut self, now: Instant, verdict: LoginVerdict) {
        let LoginKey { outlet, number } = verdict.key;
        let Some(session) = self.session_mut(outlet) else { return };
        let is_meant = |login: &Login| login.number == number || planted(Mutation::VerdictOfAnother);
        if session.state != State::Verifying || !session.login.as_deref().is_some_and(is_meant) {
            return;
        }
        session.parked = false;
        let login = session.login.take().expect("it is verified");
        // A role that is newer than this shard's permissions is none here yet.
        let knows = |grant: &Grant| self.config.access.has_role(login.realm, grant.role);
        let mut outcome =
            verdict.outcome.and_then(|grant| if knows(&grant) { Ok(grant) } else { Err(Denial::Failed) });
        if planted(Mutation::DenialForgotten) {
            outcome = outcome.or(Ok(Grant { role: RoleId::new(0), provider: "static" }));
        }
        if !planted(Mutation::VerdictNotResumed) {
            self.listen_again(outlet);
        }
        match outcome {
            Ok(grant) => {
                let Login { realm, authid, method, .. } = *login;
                let principal = Principal { authid, method, provider: grant.provider };
                self.open_session(now, outlet, realm, grant.role, Some(Arc::new(principal)));
                self.delivery.counters.login(LoginOutcome::TicketWelcomed);
                self.welcome(outlet);
            }
            Err(denial) => {
                self.delivery.counters.login(match denial {
                    Denial::Refused => LoginOutcome::TicketDenied,
                    Denial::Busy | Denial::Failed => LoginOutcome::TicketUnavailable,
                });
                self.deny_login(now, outlet, denial);
            }
        }
        self.apply_notices(now);
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
        let label = session.label();
        self.delivery.set_label(outlet, label);
        self.outlets.insert(id, outlet);
        self.delivery.counters.sessions += 1;
        self.delivery.counters.sessions_opened += 1;
        self.effects.push(Effect::Established(outlet));
    }
}
