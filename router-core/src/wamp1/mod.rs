//! The session of WAMP version 1: messages in, the broker's and dealer's verbs out.
//!
//! ```text
//! WebSocket, subprotocol wamp ─▶ may it come in? ─▶ WELCOME, Open: all that it says is done or refused
//!                                     └ no: closed
//! ```
//!
//! Version 1 has no realms, so its clients are in the configured one, as that realm's role for anonymous clients, unless they log in
//! ([`login`]). Nothing but
//! a CALL has an answer: what else is refused is counted and not told. Who breaks the protocol is closed with 1002 and words,
//! and with 1003 where that is a binary message; there is no other farewell.
//!
//! | version 1 | the router's |
//! |---|---|
//! | PUBLISH, an event | a publication of one argument, not acknowledged |
//! | CALL, arguments | a call with these arguments, without keywords |
//! | EVENT, CALLRESULT | one argument: that value; none: `null`; else `{"args":[…],"kwargs":{…}}` |
//! | CALLERROR | the error's URI; its first argument if that is a string, else the URI; the rest |
//! | a session id | a session id in decimal digits |
//!
//! While a hook is asked about a subscription or a publication nothing comes in, so what a client says is done in its order.

pub(crate) mod frames;
mod login;
mod names;

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use fanwire_codec::wamp1::{self, DecodeError, Message, Refused};
use fanwire_codec::wamp2::Payload;
use fanwire_codec::ws;

use crate::access::Action;
use crate::broker::PublishRequest;
use crate::clock::Instant;
use crate::dealer::{CallRefusal, CallRequest};
use crate::delivery::Outlet;
use crate::encoding::Encoding;
use crate::login::Entrance;
use crate::mutation::{Mutation, planted};
use crate::question::Denial;
use crate::session::{Refusal, State, error};
use crate::shard::{Flow, Shard};
use crate::uri::{MatchPolicy, UriRule, check_topic};

pub use names::{NameMap, Wamp1};

pub(crate) use login::Login;
pub(crate) use names::Curies;

impl Shard {
    /// The handshake of a client of WAMP is over. One that speaks version 1 comes in, at once or when a hook has allowed it;
    /// version 2 begins with a message of the client's.
    pub fn enter_wamp(&mut self, now: Instant, outlet: Outlet) -> Flow {
        let is_version_1 =
            self.session(outlet).is_some_and(|session| matches!(session.encoding, Encoding::Wamp1(_)));
        if !is_version_1 {
            return Flow::Continue;
        }
        let entrance = self.config.wamp1.realm.and_then(|realm| {
            let role = self.config.access.anonymous_role(realm)?;
            Some(Entrance::anonymous(realm, role))
        });
        match entrance {
            Some(entrance) => self.let_in(now, outlet, entrance),
            None if self.takes_logins_by_call() => self.await_login(outlet),
            None => {
                self.close(now, outlet, 1008, "here nobody may come in without a login, and there is none")
            }
        }
        self.apply_notices(now);
        self.entered(outlet)
    }

    /// WELCOME to a session that is open.
    pub(crate) fn welcome_wamp1(&mut self, outlet: Outlet) {
        let session = self.session(outlet).expect("it was opened");
        let id = session.id;
        if session.words.as_deref().is_some_and(|words| words.login.is_some()) {
            return self.say_permissions(outlet);
        }
        let Self { delivery, config, .. } = self;
        delivery.reply(outlet, |out| frames::welcome(id, &config.agent, out));
    }

    /// It is not let in.
    pub(crate) fn deny_login_wamp1(&mut self, now: Instant, outlet: Outlet, denial: &Denial) {
        if self.refuse_login_call(now, outlet, denial) {
            return;
        }
        let (_, words, code) = Refusal::of_entrance(denial);
        self.close(now, outlet, code, words);
    }

    /// One transport message of a session of version 1.
    pub(crate) fn receive_wamp1(&mut self, now: Instant, outlet: Outlet, kind: ws::Kind, bytes: &[u8]) {
        // What a hook has allowed is handled for the second time.
        self.delivery.counters.wamp1.messages_received += u64::from(self.in_hand_allowed.is_none());
        let session = self.session(outlet).expect("the caller looked");
        let is_in = session.state == State::Open;
        if !is_in && !session.awaits_login_by_call() {
            return;
        }
        if kind != ws::Kind::Text {
            self.delivery.counters.violations += 1;
            return self.close(now, outlet, 1003, "messages of WAMP version 1 are text");
        }
        let Some(decoded) = self.decode(now, outlet, || wamp1::decode(bytes)) else { return };
        match decoded {
            Ok(message) if is_in => self.receive_message_wamp1(now, outlet, message),
            Ok(message) => self.receive_before_login(now, outlet, message),
            Err(DecodeError::Violation(why)) => {
                self.delivery.counters.violations += 1;
                self.close(now, outlet, 1002, &why.to_string());
            }
            Err(DecodeError::Request { call_id, why }) => {
                self.refuse_unread(now, outlet, call_id.as_deref(), why);
            }
        }
    }

    fn receive_message_wamp1(&mut self, now: Instant, outlet: Outlet, message: Message<'_>) {
        match message {
            Message::Prefix { prefix, uri } => self.define_prefix(now, outlet, &prefix, &uri),
            Message::Call { call_id, procedure, args } => {
                self.call_of_version_1(now, outlet, &call_id, &procedure, args);
            }
            Message::Subscribe { topic } => {
                if self.subscribe_by_name(now, outlet, &topic).is_err() {
                    self.delivery.counters.requests_refused += 1;
                }
            }
            Message::Unsubscribe { topic } => self.unsubscribe_by_name(now, outlet, &topic),
            Message::Publish { topic, event, exclude_me, receivers } => {
                let uri = self.topic_of(outlet, &topic);
                let args = self.in_a_list(event);
                let request = PublishRequest {
                    acknowledge: None,
                    exclude_me: exclude_me || planted(Mutation::PublisherAlwaysExcluded),
                    disclose_me: false,
                    receivers: receivers.as_deref().filter(|_| !planted(Mutation::ReceiversForgotten)),
                    conflate_key: None,
                    retain: false,
                    uri: &uri,
                    payload: Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY },
                    plain: false,
                };
                if self.publish(now, outlet, request).is_err() {
                    self.delivery.counters.requests_refused += 1;
                }
                self.keep_said(args);
            }
        }
    }

    fn define_prefix(&mut self, now: Instant, outlet: Outlet, prefix: &str, uri: &str) {
        let words = self.session_mut(outlet).expect("it speaks").words.get_or_insert_default();
        if let Err(wrong) = words.curies.define(prefix, uri) {
            self.delivery.counters.violations += 1;
            self.close(now, outlet, 1008, wrong);
        }
    }

    fn subscribe_by_name(&mut self, now: Instant, outlet: Outlet, said: &str) -> Result<(), Refusal> {
        let name = self.resolved(outlet, said);
        let topic = self.config.wamp1.names.to_topic(&name).into_owned();
        // Before it is looked for: what is looked for is remembered, and a name may be as long as a message.
        check_topic(&topic, UriRule::Version1)
            .map_err(|why| Refusal::new(error::INVALID_URI, why.to_string()))?;
        let asked = (Action::Subscribe, MatchPolicy::Exact, &*topic);
        if !planted(Mutation::NameUnasked) && self.ask_about_pattern(now, outlet, NO_REQUEST, asked) {
            return Ok(());
        }
        // What all call it needs no name of its own.
        let name: Option<Arc<str>> = (name != topic).then(|| (*name).into());
        match self.subscription_to(outlet, &topic) {
            // Each event comes once: of two names for one topic the newer one holds.
            Some((id, before)) if before != name && !planted(Mutation::OlderNameHolds) => {
                self.rename_subscription(now, outlet, id, name.as_ref())
            }
            Some(_) => {}
            None => _ = self.subscribe_as(outlet, MatchPolicy::Exact, &topic, name.as_ref())?,
        }
        Ok(())
    }

    fn unsubscribe_by_name(&mut self, now: Instant, outlet: Outlet, said: &str) {
        let name = self.resolved(outlet, said);
        let topic = self.config.wamp1.names.to_topic(&name).into_owned();
        if check_topic(&topic, UriRule::Version1).is_err() {
            self.delivery.counters.requests_refused += 1;
        } else if let Some((id, held)) = self.subscription_to(outlet, &topic)
            && held.as_deref().unwrap_or(&topic) == name
            && !planted(Mutation::NamedEndIgnored)
        {
            self.unsubscribe(now, outlet, id.get()).expect("the session holds it");
        }
    }

    fn call_of_version_1(
        &mut self,
        now: Instant,
        outlet: Outlet,
        call_id: &str,
        procedure: &str,
        args: &[u8],
    ) {
        if self.is_call_id_too_long(now, outlet, call_id)
            || self.is_login_call(now, outlet, call_id, procedure, args)
        {
            return;
        }
        // Who names two calls alike that are under way could not tell the answers apart, so the second one is refused.
        let said = if planted(Mutation::CallsAlike) { &call_id[..1] } else { call_id };
        let request = self.config.access.hasher().hash_one(said);
        let session = self.session_mut(outlet).expect("it is open");
        if session.calls.contains_key(&request) {
            let words = "a call with this callID has no answer yet";
            let refusal = Refusal::new(error::INVALID_ARGUMENT, words);
            return self.refuse_call_wamp1(outlet, call_id, &refusal);
        }
        // The answer may come before the call returns.
        session.words.get_or_insert_default().call_ids.insert(request, call_id.into());
        let uri = self.topic_of(outlet, procedure);
        let list = self.in_a_list(args);
        let payload = Payload { args: Some(&list), kwargs: None, ..Payload::EMPTY };
        let call = CallRequest {
            request,
            uri: &uri,
            disclose_me: false,
            receive_progress: false,
            more: false,
            time: None,
            payload,
        };
        let called = self.call(now, outlet, &call);
        self.keep_said(list);
        match called {
            Ok(()) => {}
            Err(CallRefusal::Refused(refusal)) => {
                self.delivery.counters.call_errors += 1;
                self.take_call_id(outlet, request);
                self.refuse_call_wamp1(outlet, call_id, &refusal);
            }
            Err(CallRefusal::Violation(_)) => unreachable!("only calls in parts can be that"),
        }
    }

    /// If so, the session is closed: its answers would have to repeat it.
    fn is_call_id_too_long(&mut self, now: Instant, outlet: Outlet, call_id: &str) -> bool {
        let is_too_long = call_id.len() > CALL_ID_BYTES_MAX;
        if is_too_long {
            self.delivery.counters.violations += 1;
            self.close(now, outlet, 1008, "CALL: callID has 255 bytes at most");
        }
        is_too_long
    }

    /// What cannot be passed on: the words go to who waits for an answer.
    fn refuse_unread(&mut self, now: Instant, outlet: Outlet, call_id: Option<&str>, why: Refused) {
        let Some(call_id) = call_id else {
            self.delivery.counters.requests_refused += 1;
            return;
        };
        if !self.is_call_id_too_long(now, outlet, call_id) {
            let refusal = Refusal::new(error::INVALID_ARGUMENT, why.to_string());
            self.refuse_call_wamp1(outlet, call_id, &refusal);
        }
    }

    fn refuse_call_wamp1(&mut self, outlet: Outlet, call_id: &str, refusal: &Refusal) {
        self.delivery.counters.requests_refused += 1;
        self.delivery.reply(outlet, |out| frames::refusal(call_id, refusal.uri, &refusal.words, out));
    }

    /// A call's result.
    pub(crate) fn tell_result_wamp1(&mut self, outlet: Outlet, request: u64, payload: Payload<'_>) {
        let call_id = self.take_call_id(outlet, request);
        self.delivery.reply(outlet, |out| frames::result(&call_id, payload, out));
    }

    /// A call's error of the callee's making.
    pub(crate) fn tell_call_error_wamp1(
        &mut self,
        outlet: Outlet,
        request: u64,
        error: &str,
        payload: Payload<'_>,
    ) {
        let call_id = self.take_call_id(outlet, request);
        let Self { delivery, config, .. } = self;
        let error = config.wamp1.names.of_realm(error);
        delivery.reply(outlet, |out| frames::call_error(&call_id, &error, payload, out));
    }

    /// A call's error of the router's making.
    pub(crate) fn tell_call_refusal_wamp1(&mut self, outlet: Outlet, request: u64, uri: &str, words: &str) {
        let call_id = self.take_call_id(outlet, request);
        self.delivery.reply(outlet, |out| frames::refusal(&call_id, uri, words, out));
    }

    /// The client's own name for a call that has its answer now.
    fn take_call_id(&mut self, outlet: Outlet, request: u64) -> Box<str> {
        let session = self.session_mut(outlet).expect("a call without its caller was abandoned");
        let words = session.words.as_mut().expect("the call was noted there");
        words.call_ids.remove(&request).expect("it was noted")
    }

    /// A name in full.
    fn resolved<'a>(&self, outlet: Outlet, said: &'a str) -> Cow<'a, str> {
        let words = self.session(outlet).and_then(|session| session.words.as_ref());
        words.map_or(Cow::Borrowed(said), |words| words.curies.resolve(said))
    }

    /// What the router calls a topic or a procedure.
    fn topic_of<'a>(&self, outlet: Outlet, said: &'a str) -> Cow<'a, str> {
        let names = &self.config.wamp1.names;
        match self.resolved(outlet, said) {
            Cow::Borrowed(name) => names.to_topic(name),
            Cow::Owned(name) => Cow::Owned(names.to_topic(&name).into_owned()),
        }
    }

    /// JSON as the router passes it on: in a list. In the buffer that the shard keeps for that.
    fn in_a_list(&mut self, values: &[u8]) -> bytes::BytesMut {
        let mut list = std::mem::take(&mut self.said);
        list.clear();
        list.reserve(values.len() + 2);
        list.extend_from_slice(b"[");
        list.extend_from_slice(values);
        list.extend_from_slice(b"]");
        list
    }
}

/// Nothing but a call is answered.
const NO_REQUEST: u64 = 0;

/// Of a call: longer ones would be a way to fill memory with the names of a thousand calls.
const CALL_ID_BYTES_MAX: usize = 255;
