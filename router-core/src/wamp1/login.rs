//! WAMP-CRA of version 1: a client shows who it is by two calls.
//!
//! ```text
//! authreq(name) ─▶ Question ─▶ a text to be signed ─▶ auth(signature) ─▶ Question ─▶ what it may do
//!                      └ error: authreq may be called again ◀──────────────────┘
//! ```
//!
//! Where the realm has a role for anonymous clients, a client is one of these before, and stays it where its signature is wrong. Where
//! it has none, a client is told WELCOME and can do nothing else than log in, for which it has as long as any client. Its session's id is
//! the same before and after, as WELCOME has said it.
//!
//! Who signs is asked about as for version 2 ([`login`](crate::login)); only the challenge is another one.

use bytes::BytesMut;
use fanwire_codec::json::write_string;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp1::{Message, first_text};
use fanwire_codec::wamp2::{Payload, Serializer};

use super::frames;
use crate::access::Action;
use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::ids::SessionId;
use crate::login::{Entrance, LoginMethod, Ticket};
use crate::question::Denial;
use crate::session::{Refusal, Session, State, error};
use crate::shard::Shard;

/// How far a login has come.
#[derive(Debug, Default)]
pub(crate) struct Login {
    /// The session's id, as WELCOME has said it to somebody who is not in yet.
    promised: Option<SessionId>,
    /// The call that is answered next.
    call: Option<Box<str>>,
    step: Step,
    /// Signatures that were wrong.
    refused: u8,
}

#[derive(Debug, Default)]
enum Step {
    /// It has said nothing.
    #[default]
    None,
    /// It says that it is nobody in particular.
    Anonymous,
    /// It has to sign.
    Challenged(Box<Entrance>),
}

const AUTHREQ: &str = "http://api.wamp.ws/procedure#authreq";
const AUTH: &str = "http://api.wamp.ws/procedure#auth";

/// As Autobahn's server says them.
mod told {
    pub(super) const ALREADY: &str = "http://api.wamp.ws/error#already-authenticated";
    pub(super) const REQUESTED: &str = "http://api.wamp.ws/error#authentication-already-requested";
    pub(super) const NOT_REQUESTED: &str = "http://api.wamp.ws/error#no-authentication-requested";
    pub(super) const FORBIDDEN: &str = "http://api.wamp.ws/error#anonymous-auth-forbidden";
    pub(super) const ARGUMENT: &str = "http://api.wamp.ws/error#invalid-argument";
    pub(super) const SIGNATURE: &str = "http://api.wamp.ws/error#invalid-signature";
}

/// Whoever guesses has to connect again after so many.
const REFUSED_MAX: u8 = 10;

type Told = (&'static str, &'static str);

impl Session {
    /// It was told WELCOME, and has to log in by calls.
    pub(super) fn awaits_login_by_call(&self) -> bool {
        let login = self.words.as_deref().and_then(|words| words.login.as_deref());
        self.state == State::Waiting && login.is_some_and(|login| login.promised.is_some())
    }

    fn login(&mut self) -> &mut Login {
        self.words.get_or_insert_default().login.get_or_insert_default()
    }
}

impl Shard {
    /// Whether clients of version 1 can show who they are.
    pub(super) fn takes_logins_by_call(&self) -> bool {
        let realm = self.config.wamp1.realm;
        realm.is_some_and(|realm| self.config.access.offers(realm, LoginMethod::WampCra))
    }

    /// WELCOME to somebody who has to log in.
    pub(super) fn await_login(&mut self, outlet: Outlet) {
        let id = SessionId::from_random((self.random)());
        self.session_mut(outlet).expect("it comes").login().promised = Some(id);
        let Self { delivery, config, .. } = self;
        delivery.reply(outlet, |out| frames::welcome(id, &config.agent, out));
    }

    /// What is said by somebody who has to log in.
    pub(super) fn receive_before_login(&mut self, now: Instant, outlet: Outlet, message: Message<'_>) {
        match message {
            Message::Prefix { prefix, uri } => self.define_prefix(now, outlet, &prefix, &uri),
            Message::Call { call_id, procedure, args } => {
                if !self.is_call_id_too_long(now, outlet, &call_id)
                    && !self.is_login_call(now, outlet, &call_id, &procedure, args)
                {
                    let words = "log in first, by the procedures authreq and auth";
                    self.refuse_call_wamp1(outlet, &call_id, &Refusal::new(error::NOT_AUTHORIZED, words));
                }
            }
            Message::Subscribe { .. } | Message::Unsubscribe { .. } | Message::Publish { .. } => {
                self.delivery.counters.requests_refused += 1;
            }
        }
    }

    /// Does what a call wants that is one of a login; false: it is none.
    pub(super) fn is_login_call(
        &mut self,
        now: Instant,
        outlet: Outlet,
        call_id: &str,
        said: &str,
        args: &[u8],
    ) -> bool {
        if !(said.ends_with("authreq") || said.ends_with("auth")) || !self.takes_logins_by_call() {
            return false;
        }
        let name = self.resolved(outlet, said);
        let begins = *name == *AUTHREQ;
        if !begins && *name != *AUTH {
            return false;
        }
        let list = self.in_a_list(args);
        let text = first_text(&list).map(|text| text.map(|text| text.into_owned()));
        self.keep_said(list);
        let done = match text {
            Err(wrong) => Err((told::ARGUMENT, wrong)),
            Ok(name) if begins => self.begin_login_by_call(now, outlet, call_id, name),
            Ok(signature) => self.end_login_by_call(now, outlet, call_id, signature),
        };
        if let Err((uri, words)) = done {
            self.delivery.counters.requests_refused += 1;
            self.delivery.reply(outlet, |out| frames::refusal(call_id, uri, words, out));
        }
        true
    }

    fn begin_login_by_call(
        &mut self,
        now: Instant,
        outlet: Outlet,
        call_id: &str,
        name: Option<String>,
    ) -> Result<(), Told> {
        let realm = self.config.wamp1.realm.expect("it takes logins");
        let session = self.session_mut(outlet).expect("it calls");
        let (is_open, is_known, id) = (session.state == State::Open, session.principal.is_some(), session.id);
        let login = session.login();
        if is_known {
            return Err((told::ALREADY, "already authenticated"));
        }
        if !matches!(login.step, Step::None) {
            return Err((told::REQUESTED, "what authreq has answered was not signed yet"));
        }
        match name.as_deref() {
            Some("") => Err((told::ARGUMENT, "authKey is empty")),
            Some(name) => {
                login.call = Some(call_id.into());
                let id = login.promised.unwrap_or(id);
                let entrance = Entrance::to_be_proved(realm, LoginMethod::WampCra, Some(name));
                let extra = OwnedPayload::copy_from(Serializer::Json, &Payload::EMPTY);
                self.ask_for_challenge(now, outlet, entrance, id, (vec![LoginMethod::WampCra], extra));
                Ok(())
            }
            None if !is_open => Err((told::FORBIDDEN, "nobody comes in here without a name")),
            None => {
                login.step = Step::Anonymous;
                let nothing = Payload { args: Some(b"[null]"), ..Payload::EMPTY };
                self.delivery.reply(outlet, |out| frames::result(call_id, nothing, out));
                Ok(())
            }
        }
    }

    /// It has to sign what it is told now.
    pub(crate) fn await_signature(&mut self, outlet: Outlet, entrance: Entrance) {
        let session = self.session_mut(outlet).expect("it logs in");
        session.login().step = Step::Challenged(Box::new(entrance));
    }

    fn end_login_by_call(
        &mut self,
        now: Instant,
        outlet: Outlet,
        call_id: &str,
        signature: Option<String>,
    ) -> Result<(), Told> {
        let session = self.session_mut(outlet).expect("it calls");
        let is_known = session.principal.is_some();
        let login = session.login();
        // What was to be signed is good for one try.
        match std::mem::take(&mut login.step) {
            Step::None if is_known => Err((told::ALREADY, "already authenticated")),
            Step::None => Err((told::NOT_REQUESTED, "authreq comes first")),
            Step::Anonymous if signature.is_some() => Err((told::SIGNATURE, INVALID)),
            Step::Anonymous => {
                login.call = Some(call_id.into());
                self.say_permissions(outlet);
                Ok(())
            }
            Step::Challenged(entrance) => {
                login.call = Some(call_id.into());
                let signature = Ticket::new(signature.as_deref().unwrap_or_default());
                let extra = OwnedPayload::copy_from(Serializer::Json, &Payload::EMPTY);
                self.answer_challenge(now, outlet, *entrance, signature, extra);
                Ok(())
            }
        }
    }

    /// The result of the call that waits.
    pub(crate) fn answer_login_call(&mut self, outlet: Outlet, payload: Payload<'_>) {
        let call = self.session_mut(outlet).and_then(|session| session.login().call.take());
        if let Some(call_id) = call {
            self.delivery.reply(outlet, |out| frames::result(&call_id, payload, out));
        }
    }

    /// It is in, as whom it has said: what it may do. Rules by wildcards have no form in version 1.
    pub(super) fn say_permissions(&mut self, outlet: Outlet) {
        let session = self.session_mut(outlet).expect("it is open");
        let (realm, role) = (session.realm, session.role);
        let names = &self.config.wamp1.names;
        let (mut topics, mut procedures) = (BytesMut::new(), BytesMut::new());
        for (uri, is_prefix, allows) in self.config.access.permissions(realm, role) {
            let begin = |out: &mut BytesMut| {
                out.extend_from_slice(if out.is_empty() { b"{\"uri\":" } else { b",{\"uri\":" });
                write_string(out, &names.of_realm(uri));
                out.extend_from_slice(format!(",\"prefix\":{is_prefix}").as_bytes());
            };
            begin(&mut topics);
            let may = (allows(Action::Publish), allows(Action::Subscribe));
            topics.extend_from_slice(format!(",\"pub\":{},\"sub\":{}}}", may.0, may.1).as_bytes());
            begin(&mut procedures);
            procedures.extend_from_slice(format!(",\"call\":{}}}", allows(Action::Call)).as_bytes());
        }
        let told = [b"[{\"pubsub\":[", &topics[..], b"],\"rpc\":[", &procedures, b"]}]"].concat();
        self.answer_login_call(outlet, Payload { args: Some(&told), ..Payload::EMPTY });
    }

    /// Its login is denied, and it stays what it was; false: it has called nothing of a login.
    pub(super) fn refuse_login_call(&mut self, now: Instant, outlet: Outlet, denial: &Denial) -> bool {
        let session = self.session_mut(outlet).expect("it logs in");
        if session.words.as_deref().is_none_or(|words| words.login.is_none()) {
            return false;
        }
        let Some(call_id) = session.login().call.take() else { return false };
        if session.state == State::Admitting {
            session.state = State::Waiting;
        }
        let login = session.login();
        let (uri, words, _) = match denial {
            Denial::Refused => (told::SIGNATURE, INVALID, 1008),
            other => Refusal::of_entrance(other),
        };
        login.refused += u8::from(matches!(denial, Denial::Refused | Denial::Told(_)));
        let guesses = login.refused >= REFUSED_MAX;
        self.delivery.reply(outlet, |out| frames::refusal(&call_id, uri, words, out));
        if guesses {
            self.close(now, outlet, 1008, "too many signatures were wrong");
        }
        true
    }
}

const INVALID: &str = "there is no such user, or its secret is another one";
