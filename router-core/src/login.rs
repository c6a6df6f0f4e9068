//! Logins: from a proof of identity to a session with a role.
//!
//! ```text
//! HELLO ─▶ Question ─▶ Challenge ─▶ CHALLENGE ─▶ AUTHENTICATE ─▶ Question ─▶ (users, or a hook) ─▶ Verdict ─▶ WELCOME or ABORT
//!   ├ ticket ─────────────────────────┘                                                           │
//!   └ anonymous ───────────────────────────────────▶ Question ─▶ (a hook, where there is one) ────┘
//! ```
//!
//! What a challenge is made of, and what its answer must be, a shard does not know: it carries the [`Exchange`] from the one
//! question to the next. A verdict may be another challenge. A ticket's is always the same, so nobody is asked for it.
//!
//! What is remembered by a cookie needs no proof: see [`cookies`](crate::cookies).
//!
//! A shard compares no secrets: that is slow on purpose. So it asks, as [`question`](crate::question) has it. Whoever has
//! shown who it is, or needs not, may still have to wait for the realm's `connect` hook.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanwire_codec::payload::OwnedPayload;

use crate::clock::Instant;
use crate::counters::{Arrival, LoginOutcome};
use crate::delivery::Outlet;
use crate::directory::{RememberedLogin, SessionEntry};
use crate::encoding::Encoding;
use crate::hooks::HookId;
use crate::ids::{RealmId, RoleId, SessionId};
use crate::mutation::{Mutation, planted};
use crate::question::{Asking, Denial, Grant, Matter, Remember, Subject};
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
    /// By a keyed hash of the challenge (WAMP, "Challenge Response Authentication").
    WampCra,
    /// As the specification has it (WAMP, "Salted Challenge Response Authentication").
    WampScram,
    /// The same as Autobahn speaks it.
    Scram,
    /// By a signature (WAMP, "Cryptosign-based Authentication").
    Cryptosign,
    /// By what its connection's cookie is remembered by (WAMP, "Cookie-based Authentication").
    Cookie,
}

impl LoginMethod {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Anonymous,
        Self::Ticket,
        Self::WampCra,
        Self::WampScram,
        Self::Scram,
        Self::Cryptosign,
        Self::Cookie,
    ];

    /// Its name in HELLO, CHALLENGE and WELCOME.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Ticket => "ticket",
            Self::WampCra => "wampcra",
            Self::WampScram => "wamp-scram",
            Self::Scram => "scram",
            Self::Cryptosign => "cryptosign",
            Self::Cookie => "cookie",
        }
    }

    /// The method of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Whether the client must say as whom. A key, or a cookie, can be known instead.
    pub const fn needs_authid(self) -> bool {
        !matches!(self, Self::Anonymous | Self::Cryptosign | Self::Cookie)
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
    /// The answer to a challenge.
    Answer(Answer),
    /// Nothing: it does not say who it is, and a hook decides as what it comes in.
    Nothing,
}

/// AUTHENTICATE, and what it answers.
#[derive(Debug)]
pub struct Answer {
    /// Its `Signature`.
    pub signature: Ticket,
    /// Its `Extra`: the keyword part is the dictionary.
    pub extra: OwnedPayload,
    /// What came with the challenge.
    pub exchange: Exchange,
}

/// What a client has to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// The method that was chosen.
    pub method: LoginMethod,
    /// CHALLENGE's `Extra`: the keyword part is the dictionary.
    pub extra: OwnedPayload,
    /// Comes back with the answer. `None`: a ticket, which is compared and not calculated.
    pub exchange: Option<Exchange>,
}

/// What whoever verifies logins wants to know again when a challenge is answered. Nobody else looks into it.
#[derive(Clone)]
pub struct Exchange(Arc<dyn Any + Send + Sync>);

impl Exchange {
    /// Keeps this.
    pub fn new(kept: impl Any + Send + Sync) -> Self {
        Self(Arc::new(kept))
    }

    /// What was kept, if it is one of these.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl PartialEq for Exchange {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Exchange {}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange(…)")
    }
}

/// What a TLS connection has in common with no other one: `tls-exporter` of RFC 9266.
pub type ChannelId = [u8; 32];

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
    /// The id that its session will have, where a challenge says it.
    session: Option<SessionId>,
    /// What the challenge that it has to answer came with.
    exchange: Option<Exchange>,
    /// Its HELLO's `authextra`, where a hook may decide on its ticket.
    pub(crate) said: Option<Box<OwnedPayload>>,
    /// How long the session may last.
    ends_after: Option<Duration>,
    /// What its connection's cookie has to do with it.
    cookie: CookiePart,
}

/// What a login has to do with the cookie of its connection.
#[derive(Debug, Default)]
pub(crate) enum CookiePart {
    /// Nothing.
    #[default]
    None,
    /// It asked for one, and shows who it is in another way.
    Asked,
    /// It may be remembered by it, if nobody's login is withdrawn after this epoch.
    Looked(u64),
    /// It will be.
    ToRemember(Box<RememberedLogin>, u64),
    /// It was.
    Remembered(Arc<RememberedLogin>),
}

impl Entrance {
    /// It has to show who it is.
    pub(crate) fn to_be_proved(realm: RealmId, method: LoginMethod, authid: Option<&str>) -> Self {
        let authid = authid.map(Into::into);
        Self {
            realm,
            authid,
            method,
            role: None,
            provider: "static",
            waits_for_uid: false,
            extra: None,
            context: Vec::new(),
            session: None,
            exchange: None,
            said: None,
            ends_after: None,
            cookie: CookiePart::None,
        }
    }

    /// It is to be remembered by its connection's cookie, if there is one.
    pub(crate) fn ask_for_cookie(&mut self) {
        self.cookie = CookiePart::Asked;
    }

    /// It was remembered.
    pub(crate) fn remembered(login: Arc<RememberedLogin>) -> Self {
        let unknown = Self::to_be_proved(login.realm, LoginMethod::Cookie, Some(&login.authid));
        Self {
            role: Some(login.role),
            provider: login.provider,
            extra: login.extra.as_deref().cloned(),
            cookie: CookiePart::Remembered(login),
            ..unknown
        }
    }

    /// It does not say who it is, and gets this role.
    pub(crate) fn anonymous(realm: RealmId, role: RoleId) -> Self {
        Self { role: Some(role), ..Self::to_be_proved(realm, LoginMethod::Anonymous, None) }
    }

    /// Takes what was granted. A login that gives no role, or nobody's name where there has to be one, cannot be told from a
    /// broken one.
    fn take(&mut self, grant: Grant) -> Result<(), Denial> {
        let is_login = self.role.is_none();
        let is_named = self.method != LoginMethod::Anonymous;
        let remember = grant.remember;
        if is_login || grant.authid.is_some() {
            self.provider = grant.provider;
        }
        self.role = grant.role.or(self.role);
        self.authid = grant.authid.or(self.authid.take());
        self.extra = grant.extra.map(|extra| *extra).or(self.extra.take());
        self.ends_after = grant.ends_after.or(self.ends_after);
        if self.role.is_none() || is_login && is_named && self.authid.is_none() {
            return Err(Denial::Failed);
        }
        if is_login && let Some(remember) = remember {
            self.remember(remember);
        }
        Ok(())
    }

    /// It has shown who it is: before a hook is asked what it may come in as, which is asked each time.
    fn remember(&mut self, remember: Remember) {
        let (CookiePart::Looked(epoch), Some(role), Some(authid)) = (&self.cookie, self.role, &self.authid)
        else {
            return;
        };
        let (realm, provider, extra) = (self.realm, self.provider, remember.extra);
        let login = RememberedLogin { realm, role, authid: authid.clone(), provider, extra };
        self.cookie = CookiePart::ToRemember(Box::new(login), *epoch);
    }
}

impl Shard {
    /// The session says who it is, and has to show it.
    pub(crate) fn begin_login(&mut self, outlet: Outlet, entrance: Entrance) {
        let session = self.session_mut(outlet).expect("it says who it is");
        session.state = State::Challenged;
        session.asking = Some(Asking::entrance(entrance));
    }

    /// The session says who it is: asks how it has to show that. It is not listened to until then.
    pub(crate) fn request_challenge(
        &mut self,
        now: Instant,
        outlet: Outlet,
        entrance: Entrance,
        methods: Vec<LoginMethod>,
        extra: OwnedPayload,
    ) {
        self.session_mut(outlet).expect("it says who it is").state = State::Verifying;
        let id = SessionId::from_random((self.random)());
        self.ask_for_challenge(now, outlet, entrance, id, (methods, extra));
    }

    /// The same of who stays what it is meanwhile. `id` is that of its session, once it is in.
    pub(crate) fn ask_for_challenge(
        &mut self,
        now: Instant,
        outlet: Outlet,
        mut entrance: Entrance,
        id: SessionId,
        (methods, extra): (Vec<LoginMethod>, OwnedPayload),
    ) {
        entrance.session = Some(id);
        let session = self.session_mut(outlet).expect("it says who it is");
        let version_1 = matches!(session.encoding, Encoding::Wamp1(_));
        let channel = session.take_channel();
        let (realm, authid) = (entrance.realm, entrance.authid.clone());
        let hooks = self.config.access.hooks(realm);
        let knows = |method: &LoginMethod| hooks.login_methods.contains(method);
        let hook = hooks.authenticate.filter(|_| methods.iter().any(knows));
        if hook.is_some() && methods.iter().any(|method| *method == LoginMethod::Ticket && knows(method)) {
            entrance.said = Some(Box::new(extra.clone()));
        }
        let subject = Subject::Hello { authid, methods, extra, session: id, channel, version_1 };
        self.ask(now, outlet, (hook, realm), subject, Matter::Entrance(entrance));
    }

    /// It has to answer this, for which it is listened to again.
    fn challenge(&mut self, now: Instant, outlet: Outlet, mut entrance: Entrance, grant: Grant) {
        let challenge = *grant.challenge.expect("it was seen");
        entrance.authid = grant.authid.or(entrance.authid);
        entrance.method = challenge.method;
        entrance.exchange = challenge.exchange;
        match self.session(outlet).expect("it logs in").encoding {
            Encoding::Wamp1(_) => self.await_signature(outlet, entrance),
            _ => self.begin_login(outlet, entrance),
        }
        if !planted(Mutation::VerdictNotResumed) {
            self.listen_again(outlet);
        }
        self.say_challenge(now, outlet, challenge.method, &challenge.extra);
    }

    /// What its connection alone has, for logins that are bound to it. Told before its first message.
    pub fn bind_channel(&mut self, outlet: Outlet, channel: ChannelId) {
        if let Some(session) = self.session_mut(outlet)
            && session.state == State::Waiting
            && matches!(session.encoding, Encoding::Wamp2(..))
        {
            session.words.get_or_insert_default().channel = Some(Box::new(channel));
        }
    }

    /// Whether [`bind_channel`](Self::bind_channel) can be of use to anybody.
    pub fn wants_channels(&self) -> bool {
        self.config.access.offers_bound_logins()
    }

    /// The session says nothing of who it is, and a hook decides as what it comes in.
    pub(crate) fn request_entrance(
        &mut self,
        now: Instant,
        outlet: Outlet,
        realm: RealmId,
        extra: OwnedPayload,
    ) {
        self.session_mut(outlet).expect("it says HELLO").state = State::Verifying;
        let mut entrance = Entrance::to_be_proved(realm, LoginMethod::Anonymous, None);
        entrance.said = Some(Box::new(extra));
        self.verify(now, outlet, entrance, Proof::Nothing);
    }

    /// The session shows who it is: asks whether that is so. It is not listened to until the verdict.
    pub(crate) fn request_login(
        &mut self,
        now: Instant,
        outlet: Outlet,
        signature: Ticket,
        extra: OwnedPayload,
    ) {
        let session = self.session_mut(outlet).expect("it answers a challenge");
        session.state = State::Verifying;
        let asking = session.asking.take().expect("a challenged session is on its way in");
        let Matter::Entrance(entrance) = asking.matter else { unreachable!("it has no requests yet") };
        self.answer_challenge(now, outlet, entrance, signature, extra);
    }

    /// Somebody who was challenged answers.
    pub(crate) fn answer_challenge(
        &mut self,
        now: Instant,
        outlet: Outlet,
        mut entrance: Entrance,
        signature: Ticket,
        extra: OwnedPayload,
    ) {
        let proof = match entrance.exchange.take() {
            Some(exchange) => Proof::Answer(Answer { signature, extra, exchange }),
            None => Proof::Ticket(signature),
        };
        self.verify(now, outlet, entrance, proof);
    }

    /// Asks whether the proof is good.
    pub(crate) fn verify(&mut self, now: Instant, outlet: Outlet, mut entrance: Entrance, proof: Proof) {
        let realm = entrance.realm;
        if matches!(entrance.cookie, CookiePart::Asked)
            && self.session(outlet).is_some_and(|session| session.cookie().is_some())
        {
            entrance.cookie = CookiePart::Looked(self.directory.cookies().epoch());
        }
        // What the answer to a challenge must be was found out before the challenge.
        let is_answer = matches!(proof, Proof::Answer(_));
        let extra = entrance.said.take();
        let subject = Subject::Login { authid: entrance.authid.clone(), proof, extra };
        let hooks = self.config.access.hooks(realm);
        let decides = hooks.login_methods.contains(&entrance.method);
        let hook = hooks.authenticate.filter(|_| !is_answer && decides);
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
        if was_verified && matches!(&outcome, Ok(grant) if grant.challenge.is_some()) {
            return self.challenge(now, outlet, entrance, outcome.expect("it was seen"));
        }
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
        let Entrance {
            realm,
            authid,
            method,
            role,
            provider,
            extra,
            context,
            session,
            ends_after,
            cookie,
            ..
        } = entrance;
        let role = role.expect("it was given one");
        let principal = authid.map(|authid| Arc::new(Principal { authid, method, provider }));
        let known = self.session(outlet).expect("it comes in");
        let (was_open, before) = (known.state == State::Open, known.role);
        if was_open {
            self.leave_session(now, outlet, principal.as_deref());
        }
        self.open_session(now, outlet, (realm, role), session, principal);
        if let Some(time) = ends_after {
            self.end_at(outlet, now + time);
        }
        if was_open {
            self.withdraw_what_the_role_forbids(now, outlet, before);
        }
        self.delivery.counters.login(LoginOutcome::of(method, Arrival::Welcomed));
        self.welcome(now, outlet, method, extra.as_ref(), context);
        self.note_login(now, outlet, cookie);
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
        (realm, role): (RealmId, RoleId),
        promised: Option<SessionId>,
        principal: Option<Arc<Principal>>,
    ) {
        let entry = SessionEntry { realm, role, shard: self.id };
        // Whatever was promised may be another one's by now, once in 2^53 times.
        let mut id = promised.unwrap_or_else(|| SessionId::from_random((self.random)()));
        while !self.directory.register_session(id, entry) {
            id = SessionId::from_random((self.random)());
        }
        let session = self.session_mut(outlet).expect("it logged in");
        session.state = State::Open;
        session.id = id;
        session.realm = realm;
        session.role = role;
        session.principal = principal;
        session.since = now;
        session.take_channel();
        // It was another session that was allowed that.
        session.words.iter_mut().for_each(|words| words.allowed = None);
        let (label, encoding) = (session.label(), session.encoding);
        self.delivery.set_label(outlet, label);
        self.outlets.insert(id, outlet);
        self.delivery.counters.session_opened(encoding);
        self.effects.push(Effect::Established(outlet));
        self.announce_begin(outlet);
    }
}
