//! HELLO to WELCOME: which method a client logs in by, and what it is told.

use std::borrow::Cow;

use fanwire_codec::wamp2::{HelloDetails, Message, Serializer, WelcomeDetails};

use super::{ROLES, frames, shorten};
use crate::clock::Instant;
use crate::counters::LoginOutcome;
use crate::delivery::Outlet;
use crate::ids::RealmId;
use crate::login::{Denial, LoginMethod, Proof, Ticket};
use crate::session::{Refusal, error};
use crate::shard::Shard;

impl Shard {
    /// The first message of a session.
    pub(super) fn receive_first(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        message: Message<'_>,
    ) {
        match message {
            Message::Hello { realm, details } => self.hello(now, outlet, serializer, &realm, &details),
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
        message: Message<'_>,
    ) {
        match message {
            Message::Authenticate { signature, .. } => {
                self.request_login(outlet, Proof::Ticket(Ticket::new(&signature)));
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
        let chosen = self
            .config
            .access
            .realm(realm_name)
            .ok_or_else(|| {
                let words = format!("there is no realm \"{}\" here", shorten(realm_name));
                Refusal::new(error::NO_SUCH_REALM, words)
            })
            .and_then(|realm| Ok((realm, self.choose_method(realm, details)?)));
        match chosen {
            Err(refusal) => {
                self.delivery.counters.login(LoginOutcome::Refused);
                self.abort(now, outlet, serializer, refusal.uri, &refusal.words);
            }
            Ok((realm, LoginMethod::Anonymous)) => {
                let role = self.config.access.anonymous_role(realm).expect("the realm offers it");
                self.open_session(now, outlet, realm, role, None);
                self.delivery.counters.login(LoginOutcome::AnonymousWelcomed);
                self.welcome(outlet);
            }
            Ok((realm, method)) => {
                let authid = details.authid.as_deref().expect("asked for by the choice");
                self.begin_login(outlet, realm, method, authid);
                let challenge = Message::Challenge { method: method.name().into(), extra: &[] };
                self.delivery.reply(outlet, |out| frames::message(serializer, &challenge, out));
            }
        }
    }

    /// The first method of the client's list by which it can log in to the realm. No list means anonymous.
    fn choose_method(&self, realm: RealmId, details: &HelloDetails<'_>) -> Result<LoginMethod, Refusal> {
        let access = &self.config.access;
        let names: Vec<&str> = details.authmethods.iter().map(|name| &**name).collect();
        let names = if names.is_empty() { &[LoginMethod::Anonymous.name()][..] } else { &names };
        let mut lacks_authid = false;
        for method in names.iter().filter_map(|name| LoginMethod::from_name(name)) {
            if !access.offers(realm, method) {
                continue;
            }
            // WAMP, "Ticket-based Authentication": the authid must be given.
            if method == LoginMethod::Anonymous || details.authid.as_deref().is_some_and(|id| !id.is_empty())
            {
                return Ok(method);
            }
            lacks_authid = true;
        }
        let offered = LoginMethod::ALL.into_iter().filter(|method| access.offers(realm, *method));
        let offered: Vec<&str> = offered.map(LoginMethod::name).collect();
        let realm = access.realm_name(realm);
        Err(if lacks_authid {
            let words = "HELLO has no authid: it must say which user logs in";
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

    /// WELCOME to a session that is open.
    pub(crate) fn welcome(&mut self, outlet: Outlet) {
        let session = self.session(outlet).expect("it was opened");
        let serializer = session.encoding.serializer();
        let access = &self.config.access;
        let (method, provider) = match &session.principal {
            Some(principal) => (principal.method, principal.provider),
            None => (LoginMethod::Anonymous, "static"),
        };
        let agent = self.config.agent.as_str();
        let details = WelcomeDetails {
            realm: Some(Cow::Owned(access.realm_name(session.realm).to_owned())),
            authid: Some(Cow::Owned(session.authid().into_owned())),
            authrole: Some(Cow::Owned(access.role_name(session.realm, session.role).to_owned())),
            authmethod: Some(Cow::Borrowed(method.name())),
            authprovider: Some(Cow::Borrowed(provider)),
            agent: (!agent.is_empty()).then_some(Cow::Borrowed(agent)),
            roles: ROLES,
        };
        let welcome = Message::Welcome { session: session.id.get(), details };
        self.delivery.reply(outlet, |out| frames::message(serializer, &welcome, out));
    }

    /// ABORT for a login that was not granted. Whoever guesses learns nothing from the words.
    pub(crate) fn deny_login(&mut self, now: Instant, outlet: Outlet, denial: Denial) {
        let serializer = self.session(outlet).expect("it is logging in").encoding.serializer();
        let (reason, words, code) = match denial {
            Denial::Refused => {
                let words = "there is no such user, or the ticket is another one";
                (error::AUTHENTICATION_DENIED, words, 1008)
            }
            // RFC 6455, 7.4 and its registry: 1013 means "try again later", 1011 an error of the server.
            Denial::Busy => {
                let words = "too many logins are being verified: try again later";
                (error::AUTHENTICATION_FAILED, words, 1013)
            }
            Denial::Failed => {
                let words = "the router could not verify the login";
                (error::AUTHENTICATION_FAILED, words, 1011)
            }
        };
        self.abort_with(now, outlet, serializer, reason, words, code);
    }
}

fn quoted_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(" or ")
}
