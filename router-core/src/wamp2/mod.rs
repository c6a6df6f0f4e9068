//! The WAMP v2 session: messages in, the broker's and dealer's verbs out.
//!
//! | in \ state | Waiting | Challenged | Open | Closing |
//! |---|---|---|---|---|
//! | HELLO | WELCOME, CHALLENGE or ABORT | violation | violation | ignored |
//! | AUTHENTICATE | violation | verified: WELCOME or ABORT | violation | ignored |
//! | GOODBYE | violation | violation | answered, over | over |
//! | ABORT | over | over | over | over |
//! | PUBLISH … YIELD, ERROR of an invocation | violation | violation | done | ignored |
//! | messages of a router, and what is none | violation | violation | violation | ignored |
//!
//! While a login is verified, or a hook is asked about a request, nothing comes in: the session is not read.
//!
//! A violation is answered with ABORT `wamp.error.protocol_violation` and words, then the WebSocket is closed
//! (WAMP, "Protocol Violations"). What a client sends while our GOODBYE is under way crossed it and is ignored.

pub(crate) mod frames;
mod login;

use std::time::Duration;

use fanwire_codec::wamp2::{
    self, DecodeError, DecodeLimits, Feature, FeatureSet, Message, Revoked, Roles, Serializer, code,
};
use fanwire_codec::ws;

use crate::access::Action;
use crate::announced::Announced;
use crate::broker::{PublishRequest, Published};
use crate::clock::Instant;
use crate::dealer::{CallRefusal, CallRequest, Said};
use crate::delivery::Outlet;
use crate::encoding::{Encoding, Framing};
use crate::mutation::{Mutation, planted};
use crate::session::{Refusal, State, error};
use crate::shard::Shard;
use crate::uri::{self, UriRule};

/// The encodings of this protocol, in the order of [`Encoding::index`].
pub(crate) const ENCODINGS: [Encoding; Encoding::ALIKE] = [
    Encoding::Wamp2(Serializer::Json, Framing::Plain),
    Encoding::Wamp2(Serializer::MsgPack, Framing::Plain),
    Encoding::Wamp2(Serializer::Cbor, Framing::Plain),
    Encoding::Wamp2(Serializer::Json, Framing::Deflated),
    Encoding::Wamp2(Serializer::MsgPack, Framing::Deflated),
    Encoding::Wamp2(Serializer::Cbor, Framing::Deflated),
];

/// What WELCOME announces. Nothing stands here that does not work.
const ROLES: Roles = Roles {
    broker: Some(FeatureSet::of(&[
        Feature::EventHistory,
        Feature::EventRetention,
        Feature::PatternBasedSubscription,
        Feature::PayloadPassthruMode,
        Feature::PublicationTrustlevels,
        Feature::PublisherExclusion,
        Feature::PublisherIdentification,
        Feature::SessionMetaApi,
        Feature::SubscriberBlackwhiteListing,
        Feature::SubscriptionMetaApi,
        Feature::SubscriptionRevocation,
        Feature::TopicReflection,
    ])),
    dealer: Some(FeatureSet::of(&[
        Feature::CallCanceling,
        Feature::CallReroute,
        Feature::CallTimeout,
        Feature::CallTrustlevels,
        Feature::CallerIdentification,
        Feature::PatternBasedRegistration,
        Feature::PayloadPassthruMode,
        Feature::ProcedureReflection,
        Feature::ProgressiveCallInvocations,
        Feature::ProgressiveCallResults,
        Feature::RegistrationMetaApi,
        Feature::RegistrationRevocation,
        Feature::SessionMetaApi,
        Feature::SharedRegistration,
        Feature::TestamentMetaApi,
    ])),
    publisher: None,
    subscriber: None,
    caller: None,
    callee: None,
};

impl Shard {
    /// One transport message of a WAMP v2 session.
    pub(crate) fn receive_wamp2(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        kind: ws::Kind,
        bytes: &[u8],
    ) {
        let state = self.session(outlet).expect("the caller looked").state;
        if state == State::Over {
            return;
        }
        if (kind == ws::Kind::Text) != serializer.is_text() {
            let words = format!("{} messages are {}", serializer.subprotocol(), frame_kind(serializer));
            self.delivery.counters.violations += 1;
            return self.close(now, outlet, 1003, &words);
        }
        let decode = || wamp2::decode(serializer, bytes, &DecodeLimits::default());
        let Some(decoded) = self.decode(now, outlet, decode) else { return };
        // By reference from here on: a message is some hundred bytes, which would be moved at each step.
        match &decoded {
            Ok(message) => self.receive_message(now, outlet, serializer, state, message),
            Err(_) if state == State::Closing => {}
            Err(DecodeError::Request(refused)) if state == State::Open => {
                self.delivery.counters.requests_refused += 1;
                if refused.request_type == code::YIELD && !self.fail_part(outlet, refused.request) {
                    let words = not_pending(refused.request);
                    self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
                } else if refused.is_answered {
                    let words = refused.to_string();
                    self.delivery.reply(outlet, |out| {
                        let (kind, request) = (refused.request_type, refused.request);
                        frames::refusal(serializer, kind, request, refused.error_uri, &words, out);
                    });
                }
            }
            Err(why) => self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &why.to_string()),
        }
    }

    fn receive_message(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        state: State,
        message: &Message<'_>,
    ) {
        match state {
            State::Waiting => self.receive_first(now, outlet, serializer, message),
            State::Challenged => self.receive_proof(now, outlet, serializer, message),
            State::Open => self.receive_open(now, outlet, serializer, message),
            State::Closing => {
                if let Message::Goodbye { .. } | Message::Abort { .. } = message {
                    let code = self.session(outlet).expect("as above").close_code;
                    self.close(now, outlet, code, "");
                }
            }
            State::Verifying | State::Admitting | State::Over => {}
        }
    }

    fn receive_open(&mut self, now: Instant, outlet: Outlet, serializer: Serializer, message: &Message<'_>) {
        match *message {
            Message::Publish { request, ref options, ref topic, payload } => {
                if payload.passthru.is_some() && !self.announced(outlet).publishes_passthru() {
                    return self.abort_passthru(now, outlet, serializer, "PUBLISH", "publisher");
                }
                let publish = PublishRequest {
                    acknowledge: options.acknowledge.then_some(request),
                    exclude_me: options.exclude_me.unwrap_or(true),
                    disclose_me: options.disclose_me.unwrap_or(false),
                    receivers: options.receivers.as_deref(),
                    conflate_key: options.conflate_key.as_deref(),
                    retain: options.retain == Some(true),
                    uri: topic,
                    payload,
                    plain: false,
                };
                match self.publish(now, outlet, publish) {
                    Ok(Published::Done(publication)) => {
                        if options.acknowledge {
                            self.delivery.reply(outlet, |out| {
                                frames::published(serializer, request, publication, out)
                            });
                        }
                    }
                    Ok(Published::Parked) => {}
                    // An ERROR that the publisher did not ask for would look to it like a violation of ours.
                    Err(refusal) if options.acknowledge => {
                        self.refuse(outlet, serializer, code::PUBLISH, request, &refusal);
                    }
                    Err(_) => self.delivery.counters.requests_refused += 1,
                }
            }
            Message::Subscribe { request, options, ref topic } => {
                let wish = (Action::Subscribe, options.match_policy, &**topic);
                if self.ask_about_pattern(now, outlet, request, wish) {
                    return;
                }
                let done = self.subscribe(outlet, options.match_policy, topic);
                let retained_of = done.as_ref().ok().filter(|_| options.get_retained == Some(true)).copied();
                self.reply_or_refuse(outlet, serializer, code::SUBSCRIBE, request, done, |subscription| {
                    Message::Subscribed { request, subscription: subscription.get() }
                });
                if let Some(subscription) = retained_of {
                    self.replay_retained(now, outlet, subscription);
                }
            }
            #[cfg(feature = "mutations")]
            Message::Unsubscribe { request, subscription }
                if planted(Mutation::UnsubscribedBeforeDue)
                    && self.holds_subscription(outlet, subscription) =>
            {
                let reply = Message::Unsubscribed { request };
                self.delivery.reply(outlet, |out| frames::message(serializer, &reply, out));
                self.delivery.backdate_last_reply(outlet);
                self.unsubscribe(now, outlet, subscription).expect("it was there");
            }
            Message::Unsubscribe { request, subscription } => {
                let done = self.unsubscribe(now, outlet, subscription);
                self.reply_or_refuse(outlet, serializer, code::UNSUBSCRIBE, request, done, |()| {
                    Message::Unsubscribed { request }
                });
            }
            Message::Register { request, ref options, ref procedure } => {
                let wish = (Action::Register, options.match_policy, &**procedure);
                if self.ask_about_pattern(now, outlet, request, wish) {
                    return;
                }
                let done = self.register(outlet, procedure, options);
                self.reply_or_refuse(outlet, serializer, code::REGISTER, request, done, |registration| {
                    Message::Registered { request, registration: registration.get() }
                });
            }
            Message::Unregister { request, registration } => {
                let done = self.unregister(outlet, registration);
                self.reply_or_refuse(outlet, serializer, code::UNREGISTER, request, done, |()| {
                    Message::Unregistered { request }
                });
            }
            Message::Call { request, ref options, ref procedure, payload } => {
                if payload.passthru.is_some() && !self.announced(outlet).calls_passthru() {
                    return self.abort_passthru(now, outlet, serializer, "CALL", "caller");
                }
                let call = CallRequest {
                    request,
                    uri: procedure,
                    disclose_me: options.disclose_me.unwrap_or(false),
                    receive_progress: options.receive_progress.unwrap_or(false),
                    more: options.progress.unwrap_or(false),
                    // WAMP, "Call Timeouts": 0 is none.
                    time: options.timeout_ms.filter(|time| *time != 0).map(Duration::from_millis),
                    payload,
                };
                match self.call(now, outlet, &call) {
                    Ok(()) => {}
                    Err(CallRefusal::Refused(refusal)) => {
                        self.delivery.counters.call_errors += 1;
                        self.refuse(outlet, serializer, code::CALL, request, &refusal);
                    }
                    Err(CallRefusal::Violation(words)) => {
                        self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
                    }
                }
            }
            Message::Cancel { request, mode } => self.cancel(now, outlet, request, mode),
            Message::Yield { payload, .. }
            | Message::Error { request_type: code::INVOCATION, payload, .. }
                if payload.passthru.is_some()
                    && !self.announced(outlet).as_callee(Feature::PayloadPassthruMode) =>
            {
                self.abort_passthru(now, outlet, serializer, message.name(), "callee");
            }
            Message::Yield { request, ref options, payload } => {
                let is_known = if options.progress == Some(true) {
                    self.answer_part(now, outlet, request, payload)
                } else {
                    self.answer(outlet, request, Said::Result, payload)
                };
                if !is_known {
                    let words = not_pending(request);
                    self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
                }
            }
            Message::Error { request_type: code::INVOCATION, request, error: ref uri, payload } => {
                // Clients end their sessions over an error whose name is no URI: its caller must not pay for that.
                let is_uri = uri::check_topic(uri, UriRule::Loose).is_ok();
                let said = Said::Error(if is_uri { uri } else { error::INVALID_URI });
                if !self.answer(outlet, request, said, payload) {
                    let words = not_pending(request);
                    self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
                }
            }
            Message::Goodbye { ref reason, .. } => {
                if reason == error::CLOSE_LOGOUT {
                    self.log_out(now, outlet);
                }
                self.end_session(now, outlet);
                let goodbye = Message::Goodbye { reason: error::CLOSE_GOODBYE_AND_OUT.into(), message: None };
                self.delivery.reply(outlet, |out| frames::message(serializer, &goodbye, out));
                self.close(now, outlet, 1000, "");
            }
            Message::Abort { .. } => self.close(now, outlet, 1000, ""),
            ref other => {
                let words = match other {
                    Message::Hello { .. } => "HELLO came a second time".to_owned(),
                    Message::Error { request_type, .. } => {
                        format!("ERROR of a client answers INVOCATION only, not message type {request_type}")
                    }
                    Message::Authenticate { .. } => "AUTHENTICATE came without CHALLENGE".to_owned(),
                    other => format!("{} is sent by routers only", other.name()),
                };
                self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
            }
        }
    }

    #[cold]
    fn announced(&self, outlet: Outlet) -> Announced {
        self.session(outlet).expect("an open session").announced
    }

    /// WAMP, "Payload Passthru Mode": who has not announced it must not use it.
    #[cold]
    fn abort_passthru(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        message: &str,
        role: &str,
    ) {
        let words =
            format!("{message} has ppt_ options, and HELLO announced no payload_passthru_mode as {role}");
        self.abort(now, outlet, serializer, error::PROTOCOL_VIOLATION, &words);
    }

    /// GOODBYE of ours, without a message where there are no words: the close code follows when the client answers.
    pub(crate) fn say_goodbye_wamp2(
        &mut self,
        now: Instant,
        outlet: Outlet,
        reason: &str,
        words: &str,
        close_code: u16,
    ) {
        let Some(session) = self.session(outlet) else { return };
        let serializer = session.encoding.serializer();
        self.end_session(now, outlet);
        let session = self.session_mut(outlet).expect("ended, not gone");
        session.state = State::Closing;
        session.close_code = close_code;
        let message = (!words.is_empty()).then(|| words.into());
        let goodbye = Message::Goodbye { reason: reason.into(), message };
        self.delivery.reply(outlet, |out| frames::message(serializer, &goodbye, out));
    }

    fn abort(&mut self, now: Instant, outlet: Outlet, serializer: Serializer, reason: &str, words: &str) {
        self.delivery.counters.violations += u64::from(reason == error::PROTOCOL_VIOLATION);
        let code = if reason == error::PROTOCOL_VIOLATION { 1002 } else { 1008 };
        self.abort_with(now, outlet, serializer, reason, words, code);
    }

    /// ABORT, then a close frame with this code.
    fn abort_with(
        &mut self,
        now: Instant,
        outlet: Outlet,
        serializer: Serializer,
        reason: &str,
        words: &str,
        code: u16,
    ) {
        self.end_session(now, outlet);
        let abort = Message::Abort { reason: reason.into(), message: Some(words.into()) };
        self.delivery.reply(outlet, |out| frames::message(serializer, &abort, out));
        self.close(now, outlet, code, "");
    }

    /// ABORT for what else a close frame would say, unless the session is over already, or was told so.
    pub(crate) fn say_last_words_wamp2(&mut self, outlet: Outlet, close_code: u16, words: &str) {
        let Some(session) = self.session(outlet) else { return };
        if matches!(session.state, State::Closing | State::Over) {
            return;
        }
        let serializer = session.encoding.serializer();
        let reason = match close_code {
            1000 => error::CLOSE_NORMAL,
            1001 => error::CLOSE_SYSTEM_SHUTDOWN,
            1008 => error::TIMEOUT,
            1009 => error::PAYLOAD_SIZE_EXCEEDED,
            1011 => error::RUNTIME_ERROR,
            1013 => error::UNAVAILABLE,
            _ => error::PROTOCOL_VIOLATION,
        };
        let abort = Message::Abort { reason: reason.into(), message: Some(words.into()) };
        self.delivery.reply(outlet, |out| frames::message(serializer, &abort, out));
    }

    fn refuse(&mut self, outlet: Outlet, serializer: Serializer, kind: u64, request: u64, refusal: &Refusal) {
        self.delivery.counters.requests_refused += 1;
        self.delivery.reply(outlet, |out| {
            frames::refusal(serializer, kind, request, refusal.uri, &refusal.words, out)
        });
    }

    /// UNSUBSCRIBED or UNREGISTERED that was not asked for.
    pub(crate) fn tell_revoked_wamp2(&mut self, outlet: Outlet, what: Revoked, reason: &str) {
        let session = self.session(outlet).expect("it was its own");
        let serializer = session.encoding.serializer();
        let understands = match what {
            Revoked::Subscription(_) => session.announced.subscription_revocation(),
            Revoked::Registration(_) => session.announced.as_callee(Feature::RegistrationRevocation),
        };
        if understands || planted(Mutation::RevocationToldToAll) {
            self.delivery.reply(outlet, |out| frames::revoked(serializer, what, reason, out));
        }
    }

    /// ERROR for a request that was handled before.
    pub(crate) fn refuse_request_wamp2(
        &mut self,
        outlet: Outlet,
        kind: u64,
        request: u64,
        uri: &str,
        words: &str,
    ) {
        let serializer = self.session(outlet).expect("it has waited").encoding.serializer();
        self.delivery.reply(outlet, |out| frames::refusal(serializer, kind, request, uri, words, out));
    }

    fn reply_or_refuse<T>(
        &mut self,
        outlet: Outlet,
        serializer: Serializer,
        kind: u64,
        request: u64,
        done: Result<T, Refusal>,
        reply: impl FnOnce(T) -> Message<'static>,
    ) {
        match done {
            Ok(value) => {
                let reply = reply(value);
                self.delivery.reply(outlet, |out| frames::message(serializer, &reply, out));
            }
            Err(refusal) => self.refuse(outlet, serializer, kind, request, &refusal),
        }
    }
}

fn not_pending(request: u64) -> String {
    format!("what is answered is no invocation: {request} is not pending")
}

fn frame_kind(serializer: Serializer) -> &'static str {
    if serializer.is_text() { "text" } else { "binary" }
}

/// At most 64 bytes of a client's string, for words.
fn shorten(text: &str) -> &str {
    let mut end = text.len().min(64);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
