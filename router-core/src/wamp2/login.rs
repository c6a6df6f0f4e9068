//! HELLO to WELCOME: which method a client logs in by, and what it is told.

use std::borrow::Cow;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{HelloDetails, Message, Payload, Serializer, WelcomeDetails};

use super::{ROLES, frames, shorten};
use crate::announced::Announced;
use crate::clock::Instant;
use crate::counters::LoginOutcome;
use crate::delivery::Outlet;
use crate::ids::RealmId;
use crate::login::{Entrance, LoginMethod, Ticket};
use crate::question::Denial;
use crate::session::{Refusal, error};
use crate::shard::Shard;

impl Shard {
    /// The first message of a session.
    pub(super) fn receive_first(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        message: &Message<'_>,
    ) {
        match message {
            Message::Hello { realm, details } => self.hello(now, outlet, serializer, realm, details),
            Message::Abort { .. } => self.close(now, outlet, 1000, ""),
            other => {
                let words = format!("{} came before HELLO", other.name());
                self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
            }
        }
    }

    /// What comes after CHALLENGE.
    pub(super) fn receive_proof(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        message: &Message<'_>,
    ) {
        match message {
            Message::Authenticate { signature, extra } => {
                let extra = dictionary(serializer, Some(*extra));
                self.request_login(now, outlet, Ticket::new(signature), extra);
            }
            Message::Abort { .. } => self.close(now, outlet, 1000, ""),
            other => {
                let words = format!("{} came before AUTHENTICATE", other.name());
                self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
            }
        }
    }

    fn hello(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        realm_name: &str,
        details: &HelloDetails<'_>,
    ) {
        if !details.roles.has_client_role() {
            let words = "HELLO announces no role: it needs publisher, subscriber, caller or callee";
            return self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, words);
        }
        self.session_mut(outlet).expect("it says HELLO").announced = Announced::of(&details.roles);
        let chosen = self
            .config
            .access
            .realm(realm_name)
            .ok_or_else(|| {
                let words = format!("there is no realm \"{}\" here", shorten(realm_name));
                Refusal::new(error::NO_SUCH_REALM, words)
            })
            .and_then(|realm| self.check_endpoint(outlet, realm));
        let remembered = chosen.as_ref().ok().and_then(|realm| self.remembered(now, outlet, *realm, details));
        if let Some(entrance) = remembered {
            return self.let_in(now, outlet, entrance);
        }
        let chosen = chosen.and_then(|realm| Ok((realm, self.choose_methods(realm, details)?)));
        match chosen {
            Err(refusal) => {
                self.delivery.counters.login(LoginOutcome::REFUSED);
                self.abort(now, outlet, serializer, refusal.uri, &refusal.words);
            }
            Ok((realm, methods)) => self.enter_by(now, outlet, serializer, realm, &methods, details),
        }
    }

    /// The realm, if the session's endpoint leads to it.
    fn check_endpoint(&self, outlet: Outlet, realm: RealmId) -> Result<RealmId, Refusal> {
        let only = self.session(outlet).and_then(|session| session.only_realm);
        if let Some(only) = only.filter(|only| *only != realm) {
            let words = format!("this endpoint is for the realm \"{}\"", self.config.access.realm_name(only));
            return Err(Refusal::new(error::NO_SUCH_REALM, words));
        }
        Ok(realm)
    }

    /// The methods by which it can log in to the realm, in the client's order; anonymous is alone. No list means anonymous.
    fn choose_methods(
        &self,
        realm: RealmId,
        details: &HelloDetails<'_>,
    ) -> Result<Vec<LoginMethod>, Refusal> {
        let access = &self.config.access;
        let names: Vec<&str> = details.authmethods.iter().map(|name| &**name).collect();
        let names = if names.is_empty() { &[LoginMethod::Anonymous.name()][..] } else { &names };
        let has_authid = details.authid.as_deref().is_some_and(|id| !id.is_empty());
        // WAMP, "Ticket-based Authentication": the authid must be given. But a ticket can say it too.
        let is_nameless = |method: LoginMethod| {
            method == LoginMethod::Ticket && access.tickets_say_who(realm) || !method.needs_authid()
        };
        let (mut lacks_authid, mut is_forgotten) = (false, false);
        let mut methods = Vec::new();
        for method in names.iter().filter_map(|name| LoginMethod::from_name(name)) {
            if !access.offers(realm, method) || methods.contains(&method) {
                continue;
            }
            if method == LoginMethod::Cookie {
                // Or it would be in by now.
                is_forgotten = true;
                continue;
            }
            if method == LoginMethod::Anonymous {
                // Who could log in has to: whether it has another method as well is nobody's business.
                if methods.is_empty() {
                    methods.push(method);
                }
                break;
            }
            if has_authid || is_nameless(method) {
                methods.push(method);
            } else {
                lacks_authid = true;
            }
        }
        if !methods.is_empty() {
            return Ok(methods);
        }
        let offered = LoginMethod::ALL.into_iter().filter(|method| access.offers(realm, *method));
        let offered: Vec<&str> = offered.map(LoginMethod::name).collect();
        let realm = access.realm_name(realm);
        Err(if lacks_authid {
            let words = "HELLO has no authid: it must say which user logs in";
            Refusal::new(error::AUTHENTICATION_REQUIRED, words)
        } else if is_forgotten {
            let words = "no login is remembered by the cookie of this connection, or it has all sessions that one may have: log in by \
                         another method";
            Refusal::new(error::AUTHENTICATION_REQUIRED, words)
        } else if offered.is_empty() {
            let words = format!("realm \"{realm}\" takes no sessions");
            Refusal::new(error::NO_MATCHING_AUTH_METHOD, words)
        } else if details.authmethods.is_empty() {
            let words = format!(
                "realm \"{realm}\" takes no anonymous sessions: log in by method {}",
                quoted_list(&offered)
            );
            Refusal::new(error::AUTHENTICATION_REQUIRED, words)
        } else {
            let words = format!("realm \"{realm}\" offers only the method {}", quoted_list(&offered));
            Refusal::new(error::NO_MATCHING_AUTH_METHOD, words)
        })
    }

    fn enter_by(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        realm: RealmId,
        methods: &[LoginMethod],
        details: &HelloDetails<'_>,
    ) {
        let first = methods[0];
        if first == LoginMethod::Anonymous {
            if self.config.access.hooks(realm).login_methods.contains(&first) {
                let extra = dictionary(serializer, details.authextra);
                return self.request_entrance(now, outlet, realm, extra);
            }
            let role = self.config.access.anonymous_role(realm).expect("the realm offers it");
            return self.let_in(now, outlet, Entrance::anonymous(realm, role));
        }
        let authid = details.authid.as_deref().filter(|authid| !authid.is_empty());
        let mut entrance = Entrance::to_be_proved(realm, first, authid);
        if details.authmethods.iter().any(|name| name == LoginMethod::Cookie.name()) {
            entrance.ask_for_cookie();
        }
        // A ticket's challenge says nothing, so nobody needs to be asked for it.
        if methods == [LoginMethod::Ticket] {
            if self.config.access.hooks(realm).login_methods.contains(&first) {
                entrance.said = Some(Box::new(dictionary(serializer, details.authextra)));
            }
            self.begin_login(outlet, entrance);
            let challenge = Message::Challenge { method: first.name().into(), extra: &[] };
            return self.delivery.reply(outlet, |out| frames::message(serializer, &challenge, out));
        }
        let extra = dictionary(serializer, details.authextra);
        self.request_challenge(now, outlet, entrance, methods.to_vec(), extra);
    }

    /// CHALLENGE.
    pub(crate) fn say_challenge_wamp2(
        &mut self,
        now: Instant,
        outlet: Outlet,
        method: LoginMethod,
        extra: &OwnedPayload,
    ) {
        let serializer = self.session(outlet).expect("it logs in").encoding.serializer();
        let Ok(extra) = extra.transcode(serializer) else {
            return self.deny_login_wamp2(now, outlet, true, &Denial::Failed);
        };
        let extra = extra.view().kwargs.unwrap_or_default();
        let challenge = Message::Challenge { method: method.name().into(), extra };
        self.delivery.reply(outlet, |out| frames::message(serializer, &challenge, out));
    }

    /// WELCOME to a session that is open.
    pub(crate) fn welcome_wamp2(
        &mut self,
        outlet: Outlet,
        method: LoginMethod,
        extra: Option<&OwnedPayload>,
    ) {
        let session = self.session(outlet).expect("it was opened");
        let serializer = session.encoding.serializer();
        let access = &self.config.access;
        let provider = session.provider();
        // What has no form in the client's serializer is left out; a hook speaks JSON, so that is nothing.
        let extra = extra.and_then(|extra| extra.transcode(serializer).ok());
        let agent = self.config.agent.as_str();
        let details = WelcomeDetails {
            realm: Some(Cow::Owned(access.realm_name(session.realm).to_owned())),
            authid: Some(Cow::Owned(session.authid().into_owned())),
            authrole: Some(Cow::Owned(access.role_name(session.realm, session.role).to_owned())),
            authmethod: Some(Cow::Borrowed(method.name())),
            authprovider: Some(Cow::Borrowed(provider)),
            authextra: extra.as_ref().and_then(|extra| extra.view().kwargs),
            agent: (!agent.is_empty()).then_some(Cow::Borrowed(agent)),
            roles: ROLES,
        };
        let welcome = Message::Welcome { session: session.id.get(), details };
        self.delivery.reply(outlet, |out| frames::message(serializer, &welcome, out));
    }

    /// ABORT for who is not let in. Whoever guesses a secret learns nothing from the words.
    pub(crate) fn deny_login_wamp2(
        &mut self,
        now: Instant,
        outlet: Outlet,
        was_verified: bool,
        denial: &Denial,
    ) {
        let serializer = self.session(outlet).expect("it is logging in").encoding.serializer();
        let (reason, words, code) = match denial {
            Denial::Refused if was_verified => {
                let words = "there is no such user, or its ticket, secret or key is another one";
                (error::AUTHENTICATION_DENIED, words, 1008)
            }
            Denial::Told(told) if was_verified && told.error.is_none() => {
                let words = told.message.as_deref().unwrap_or("the ticket is not accepted");
                (error::AUTHENTICATION_DENIED, words, 1008)
            }
            Denial::Failed if was_verified => {
                (error::AUTHENTICATION_FAILED, "the router could not verify the login", 1011)
            }
            other => Refusal::of_entrance(other),
        };
        self.abort_with(now, outlet, serializer, reason, words, code);
    }
}

/// A dictionary of a client's, kept as it wrote it.
fn dictionary(serializer: Serializer, bytes: Option<&[u8]>) -> OwnedPayload {
    let kwargs = bytes.filter(|bytes| !bytes.is_empty());
    OwnedPayload::copy_from(serializer, &Payload { args: None, kwargs, ..Payload::EMPTY })
}

fn quoted_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(" or ")
}
