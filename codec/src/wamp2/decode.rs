//! Bytes to [`Message`]: one pass, element by element, in the order that WAMP writes them.

use std::borrow::Cow;

use super::dict::{Fault, Values, walk_dict};
use super::error::{DecodeError, INVALID_ARGUMENT, RequestError, Violation, ViolationKind};
use super::message::{Message, Payload, code, type_name};
use super::options::{
    CallOptions, CancelMode, EventDetails, HelloDetails, InterruptOptions, InvocationDetails, InvokePolicy,
    MatchPolicy, PublishOptions, RECEIVERS_MAX, ReceiverLists, RegisterOptions, ResultDetails,
    SubscribeOptions, WelcomeDetails, YieldOptions,
};
use super::passthru::{Found, Passthru};
use super::read::{Items, Kind, Reader};
use super::read_cbor::CborReader;
use super::read_json::JsonReader;
use super::read_msgpack::MsgPackReader;
use super::usual::{CborForm, JsonForm, MsgPackForm, Usual};
use super::{ID_MAX, Serializer};
use crate::json;

/// Bounds of what is read. The size of a message is bounded by the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Nested lists and dictionaries in one payload element or option, itself included. At most 128, which is the
    /// default: deeper ones crash receivers that recurse. Costs nothing.
    pub depth_max: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { depth_max: json::DEPTH_MAX }
    }
}

/// Reads one message. The payload's grammar and UTF-8 are validated; its bytes stay where they are.
///
///     use fanwire_codec::wamp2::{DecodeLimits, Message, Serializer, decode};
///     let bytes = br#"[16, 7, {"acknowledge": true}, "com.room.4", ["hi", {"n": 1}]]"#;
///     let Ok(Message::Publish { request, options, topic, payload }) =
///         decode(Serializer::Json, bytes, &DecodeLimits::default())
///     else {
///         panic!("that is a PUBLISH");
///     };
///     assert_eq!((request, options.acknowledge, &*topic), (7, true, "com.room.4"));
///     assert_eq!(payload.args, Some(&br#"["hi", {"n": 1}]"#[..]));
pub fn decode<'a>(
    serializer: Serializer,
    bytes: &'a [u8],
    limits: &DecodeLimits,
) -> Result<Message<'a>, DecodeError> {
    let usual = match serializer {
        Serializer::Json => Usual::decode(JsonForm::new(bytes, limits.depth_max)),
        Serializer::MsgPack => Usual::decode(MsgPackForm::new(bytes, limits.depth_max)),
        Serializer::Cbor => Usual::decode(CborForm::new(bytes, limits.depth_max)),
    };
    // Made in the caller's place: messages are large enough for copies to show.
    if let Some(usual) = usual {
        return Ok(usual.message());
    }
    decode_any(serializer, bytes, limits)
}

/// Reads a message of any form.
pub(super) fn decode_any<'a>(
    serializer: Serializer,
    bytes: &'a [u8],
    limits: &DecodeLimits,
) -> Result<Message<'a>, DecodeError> {
    match serializer {
        Serializer::Json => decode_from(JsonReader::new(bytes, limits.depth_max)),
        Serializer::MsgPack => decode_from(MsgPackReader::new(bytes, limits.depth_max)),
        Serializer::Cbor => decode_from(CborReader::new(bytes, limits.depth_max)),
    }
}

fn decode_from<'a, R: Reader<'a>>(reader: R) -> Result<Message<'a>, DecodeError> {
    let mut elements = Elements {
        reader,
        items: Items(0),
        ended: false,
        message_type: None,
        passthru: None,
        fault: None,
        unportable: false,
    };
    // One place for the result from here to the caller: messages are large enough for copies to show.
    let mut result = elements.message();
    match &mut result {
        Ok(message) => {
            if let Some(fault) = elements.fault {
                if elements.unportable
                    && let Some(failure) = failure(message)
                {
                    return Ok(failure);
                }
                return Err(refuse(message, fault));
            }
        }
        Err(DecodeError::Violation(violation)) => violation.message_type = elements.message_type,
        Err(DecodeError::Request(_)) => {}
    }
    result
}

/// A sound message with a wrong option: an answer to a request, else a breach of the protocol.
#[cold]
fn refuse(message: &Message<'_>, fault: Fault) -> DecodeError {
    let (request, is_answered) = match message {
        // WAMP, "Publish ERROR": only sent for an acknowledged publication. Who got `acknowledge` itself wrong waits.
        Message::Publish { request, options, .. } => {
            (*request, options.acknowledge || fault.subject == "acknowledge")
        }
        Message::Subscribe { request, .. }
        | Message::Call { request, .. }
        | Message::Register { request, .. } => (*request, true),
        Message::Yield { request, options: YieldOptions { progress: Some(true) }, .. }
            if fault.expected == PORTABLE =>
        {
            (*request, false)
        }
        other => {
            let kind = ViolationKind::WrongKey { key: fault.subject, expected: fault.expected };
            return Violation { message_type: Some(other.type_code()), kind }.into();
        }
    };
    DecodeError::Request(RequestError {
        request_type: message.type_code(),
        request,
        error_uri: INVALID_ARGUMENT,
        is_answered,
        subject: fault.subject,
        expected: fault.expected,
    })
}

/// What a callee has said if its words cannot be sent on: its call fails, and its session goes on. A part of a result is no
/// last word, and is refused.
#[cold]
fn failure<'a>(message: &mut Message<'a>) -> Option<Message<'a>> {
    let (request, error) = match message {
        Message::Yield { options: YieldOptions { progress: Some(true) }, .. } => return None,
        Message::Yield { request, .. } => (*request, INVALID_ARGUMENT.into()),
        Message::Error { request_type: code::INVOCATION, request, error, .. } => {
            (*request, std::mem::take(error))
        }
        _ => return None,
    };
    Some(Message::Error { request_type: code::INVOCATION, request, error, payload: Payload::EMPTY })
}

/// One of the lists of receivers; false if the key is none of theirs.
#[cold]
fn receiver_list<'a, R: Reader<'a>>(
    values: &mut Values<'_, R>,
    key: &str,
    lists: &mut Option<Box<ReceiverLists<'a>>>,
    room: &mut usize,
) -> Result<bool, ViolationKind> {
    match key {
        "exclude" => set(lists, values.ids("exclude", room)?, |lists| &mut lists.exclude),
        "exclude_authid" => {
            set(lists, values.names("exclude_authid", room)?, |lists| &mut lists.exclude_authid)
        }
        "exclude_authrole" => {
            set(lists, values.names("exclude_authrole", room)?, |lists| &mut lists.exclude_authrole)
        }
        "eligible" => set(lists, values.ids("eligible", room)?, |lists| &mut lists.eligible),
        "eligible_authid" => {
            set(lists, values.names("eligible_authid", room)?, |lists| &mut lists.eligible_authid)
        }
        "eligible_authrole" => {
            set(lists, values.names("eligible_authrole", room)?, |lists| &mut lists.eligible_authrole)
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Nothing is boxed for a key that counts as not there.
fn set<'a, T>(
    lists: &mut Option<Box<ReceiverLists<'a>>>,
    list: Option<T>,
    slot: impl for<'l> FnOnce(&'l mut ReceiverLists<'a>) -> &'l mut Option<T>,
) {
    if list.is_some() {
        *slot(lists.get_or_insert_default()) = list;
    }
}

const PORTABLE: &str = "readable for everybody: without lone surrogates and without numbers beyond a double";

/// The elements of one message, taken from left to right.
struct Elements<'a, R> {
    reader: R,
    items: Items,
    /// The end of the list was met; it must not be asked for more.
    ended: bool,
    message_type: Option<u64>,
    /// What the options or details say of the payload.
    passthru: Option<Passthru<'a>>,
    /// The first wrong option. Reading goes on, so that the rest is known to be sound.
    fault: Option<Fault>,
    /// The payload is [`Malformed::is_only_unportable`]: it was not read to its end, and the fault says so.
    unportable: bool,
}

impl<'a, R: Reader<'a>> Elements<'a, R> {
    fn message(&mut self) -> Result<Message<'a>, DecodeError> {
        let type_code = self.begin()?;
        let result = self.body(type_code);
        if result.is_ok() && !self.unportable {
            self.end()?;
        }
        result
    }

    fn begin(&mut self) -> Result<u64, ViolationKind> {
        if self.reader.kind()? != Kind::List {
            return Err(ViolationKind::NotAList);
        }
        self.items = self.reader.list()?;
        if self.next("its type")? != Kind::Number {
            return Err(ViolationKind::UnknownType);
        }
        self.message_type = self.reader.integer()?;
        self.message_type.ok_or(ViolationKind::UnknownType)
    }

    #[inline]
    fn body(&mut self, type_code: u64) -> Result<Message<'a>, DecodeError> {
        Ok(match type_code {
            code::PUBLISH => Message::Publish {
                request: self.id("Request")?,
                options: self.publish_options()?,
                topic: self.string("Topic")?,
                payload: self.payload()?,
            },
            code::EVENT => Message::Event {
                subscription: self.id("Subscription")?,
                publication: self.id("Publication")?,
                details: self.event_details()?,
                payload: self.payload()?,
            },
            code::CALL => Message::Call {
                request: self.id("Request")?,
                options: self.call_options()?,
                procedure: self.string("Procedure")?,
                payload: self.payload()?,
            },
            code::INVOCATION => Message::Invocation {
                request: self.id("Request")?,
                registration: self.id("Registration")?,
                details: self.invocation_details()?,
                payload: self.payload()?,
            },
            code::YIELD => Message::Yield {
                request: self.id("Request")?,
                options: YieldOptions { progress: self.progress("Options")? },
                payload: self.payload()?,
            },
            code::RESULT => Message::Result {
                request: self.id("Request")?,
                details: ResultDetails { progress: self.progress("Details")? },
                payload: self.payload()?,
            },
            code::ERROR => self.error()?,
            code::PUBLISHED => {
                Message::Published { request: self.id("Request")?, publication: self.id("Publication")? }
            }
            code::SUBSCRIBE => Message::Subscribe {
                request: self.id("Request")?,
                options: self.subscribe_options()?,
                topic: self.string("Topic")?,
            },
            code::SUBSCRIBED => {
                Message::Subscribed { request: self.id("Request")?, subscription: self.id("Subscription")? }
            }
            code::UNSUBSCRIBE => {
                let (request, subscription) = (self.id("Request")?, self.id("Subscription")?);
                self.optional_options()?;
                Message::Unsubscribe { request, subscription }
            }
            code::UNSUBSCRIBED => Message::Unsubscribed { request: self.id("Request")? },
            code::REGISTER => Message::Register {
                request: self.id("Request")?,
                options: self.register_options()?,
                procedure: self.string("Procedure")?,
            },
            code::REGISTERED => {
                Message::Registered { request: self.id("Request")?, registration: self.id("Registration")? }
            }
            code::UNREGISTER => {
                let (request, registration) = (self.id("Request")?, self.id("Registration")?);
                self.optional_options()?;
                Message::Unregister { request, registration }
            }
            code::UNREGISTERED => Message::Unregistered { request: self.id("Request")? },
            code::HELLO => Message::Hello { realm: self.string("Realm")?, details: self.hello_details()? },
            code::WELCOME => {
                Message::Welcome { session: self.id("Session")?, details: self.welcome_details()? }
            }
            code::ABORT => {
                let message = self.words()?;
                let reason = self.string("Reason")?;
                // An ABORT may have arguments; nobody reads them.
                self.payload()?;
                Message::Abort { reason, message }
            }
            code::GOODBYE => {
                let message = self.words()?;
                Message::Goodbye { reason: self.string("Reason")?, message }
            }
            code::CHALLENGE => {
                Message::Challenge { method: self.string("AuthMethod")?, extra: self.raw_dict("Extra")? }
            }
            code::AUTHENTICATE => {
                Message::Authenticate { signature: self.string("Signature")?, extra: self.raw_dict("Extra")? }
            }
            code::CANCEL => Message::Cancel { request: self.id("Request")?, mode: self.cancel_mode()? },
            code::INTERRUPT => {
                Message::Interrupt { request: self.id("Request")?, options: self.interrupt_options()? }
            }
            _ => return Err(ViolationKind::UnknownType.into()),
        })
    }

    fn error(&mut self) -> Result<Message<'a>, ViolationKind> {
        let request_type = self.id("REQUEST.Type")?;
        if type_name(request_type).is_none() {
            return Err(ViolationKind::WrongElement { element: "REQUEST.Type", expected: "a message type" });
        }
        let request = self.id("REQUEST.Request")?;
        self.payload_dict("Details", |_, _| Ok(false))?;
        Ok(Message::Error { request_type, request, error: self.string("Error")?, payload: self.payload()? })
    }

    /// Moves to the next element, which must be there.
    #[inline]
    fn next(&mut self, element: &'static str) -> Result<Kind, ViolationKind> {
        if !self.reader.next_element(&mut self.items)? {
            self.ended = true;
            return Err(ViolationKind::Missing { element });
        }
        Ok(self.reader.kind()?)
    }

    /// Checks that the list and the message end here.
    #[inline]
    fn end(&mut self) -> Result<(), ViolationKind> {
        if !self.ended && self.reader.next_element(&mut self.items)? {
            return Err(ViolationKind::TooLong);
        }
        Ok(self.reader.finish()?)
    }

    #[inline]
    fn id(&mut self, element: &'static str) -> Result<u64, ViolationKind> {
        if self.next(element)? == Kind::Number
            && let Some(id @ 1..=ID_MAX) = self.reader.integer()?
        {
            return Ok(id);
        }
        Err(ViolationKind::WrongElement { element, expected: "an integer from 1 to 2^53" })
    }

    #[inline]
    fn string(&mut self, element: &'static str) -> Result<Cow<'a, str>, ViolationKind> {
        if self.next(element)? == Kind::String {
            Ok(self.reader.string()?)
        } else {
            Err(ViolationKind::WrongElement { element, expected: "a string" })
        }
    }

    /// Reads a dictionary. `on_key` reads the values of the keys that it knows; for others it returns false.
    #[inline]
    fn dict(
        &mut self,
        element: &'static str,
        on_key: impl FnMut(&mut Values<'_, R>, &str) -> Result<bool, ViolationKind>,
    ) -> Result<(), ViolationKind> {
        let kind = self.next(element)?;
        self.dict_of(kind, element, on_key)
    }

    #[inline]
    fn dict_of(
        &mut self,
        kind: Kind,
        element: &'static str,
        on_key: impl FnMut(&mut Values<'_, R>, &str) -> Result<bool, ViolationKind>,
    ) -> Result<(), ViolationKind> {
        match kind {
            Kind::Dict => walk_dict(&mut self.reader, &mut self.fault, on_key),
            Kind::Absent => Ok(self.reader.skip().map(drop)?),
            _ => Err(ViolationKind::WrongElement { element, expected: "a dictionary" }),
        }
    }

    /// Reads the dictionary of a message with a payload, of which it may say something.
    #[inline]
    fn payload_dict(
        &mut self,
        element: &'static str,
        mut on_key: impl FnMut(&mut Values<'_, R>, &str) -> Result<bool, ViolationKind>,
    ) -> Result<(), ViolationKind> {
        let kind = self.next(element)?;
        let start = self.reader.position();
        let mut found = Found::default();
        self.dict_of(kind, element, |values, key| Ok(on_key(values, key)? || found.key(values, key)?))?;
        match found.is_passthru() {
            Ok(false) => {}
            Ok(true) => {
                self.reader.rewind(start);
                self.passthru = Some(Passthru::in_dict(self.reader.skip()?));
            }
            Err((subject, expected)) => drop(self.fault.get_or_insert(Fault { subject, expected })),
        }
        Ok(())
    }

    fn raw_dict(&mut self, element: &'static str) -> Result<&'a [u8], ViolationKind> {
        match self.next(element)? {
            Kind::Dict => Ok(self.reader.skip()?),
            Kind::Absent => Ok(self.reader.skip().map(|_| &[][..])?),
            _ => Err(ViolationKind::WrongElement { element, expected: "a dictionary" }),
        }
    }

    /// Some clients append options to messages that have none in the basic profile.
    fn optional_options(&mut self) -> Result<(), ViolationKind> {
        match self.dict("Options", |_, _| Ok(false)) {
            Err(ViolationKind::Missing { .. }) => Ok(()),
            other => other,
        }
    }

    #[inline]
    fn payload(&mut self) -> Result<Payload<'a>, ViolationKind> {
        let args = self.payload_element(Kind::List, "Arguments", "a list")?;
        let kwargs = self.payload_element(Kind::Dict, "ArgumentsKw", "a dictionary")?;
        Ok(Payload { args, kwargs, passthru: self.passthru })
    }

    #[inline]
    fn payload_element(
        &mut self,
        kind: Kind,
        element: &'static str,
        expected: &'static str,
    ) -> Result<Option<&'a [u8]>, ViolationKind> {
        if self.ended || !self.reader.next_element(&mut self.items)? {
            self.ended = true;
            return Ok(None);
        }
        let found = self.reader.kind()?;
        let bytes = match self.reader.skip() {
            Ok(bytes) => bytes,
            // Nobody depends on the rest of the message: its frame has ended.
            Err(malformed) if malformed.is_only_unportable() => {
                (self.ended, self.unportable) = (true, true);
                self.fault.get_or_insert(Fault { subject: element, expected: PORTABLE });
                return Ok(None);
            }
            Err(malformed) => return Err(malformed.into()),
        };
        if found == kind {
            return Ok(Some(bytes));
        }
        if found != Kind::Absent {
            self.fault.get_or_insert(Fault { subject: element, expected });
        }
        Ok(None)
    }

    fn publish_options(&mut self) -> Result<PublishOptions<'a>, ViolationKind> {
        let mut options = PublishOptions::default();
        let mut room = RECEIVERS_MAX;
        self.payload_dict("Options", |values, key| {
            match key {
                "acknowledge" => options.acknowledge = values.bool("acknowledge")?.unwrap_or(false),
                "exclude_me" => options.exclude_me = values.bool("exclude_me")?,
                "disclose_me" => options.disclose_me = values.bool("disclose_me")?,
                "retain" => options.retain = values.bool("retain")?,
                "x_conflate_key" => options.conflate_key = values.string("x_conflate_key")?,
                other => return receiver_list(values, other, &mut options.receivers, &mut room),
            }
            Ok(true)
        })?;
        Ok(options)
    }

    fn subscribe_options(&mut self) -> Result<SubscribeOptions, ViolationKind> {
        let mut options = SubscribeOptions::default();
        self.dict("Options", |values, key| {
            match key {
                "match" => options.match_policy = values.match_policy()?,
                "get_retained" => options.get_retained = values.bool("get_retained")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(options)
    }

    fn event_details(&mut self) -> Result<EventDetails<'a>, ViolationKind> {
        let mut details = EventDetails::default();
        self.payload_dict("Details", |values, key| {
            match key {
                "topic" => details.topic = values.string("topic")?,
                "publisher" => details.publisher = values.id("publisher")?,
                "publisher_authid" => details.publisher_authid = values.string("publisher_authid")?,
                "publisher_authrole" => details.publisher_authrole = values.string("publisher_authrole")?,
                "retained" => details.retained = values.bool("retained")?,
                "trustlevel" => details.trust_level = values.integer("trustlevel")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(details)
    }

    fn call_options(&mut self) -> Result<CallOptions, ViolationKind> {
        let mut options = CallOptions::default();
        self.payload_dict("Options", |values, key| {
            match key {
                "timeout" => options.timeout_ms = values.integer("timeout")?,
                "receive_progress" => options.receive_progress = values.bool("receive_progress")?,
                "progress" => options.progress = values.bool("progress")?,
                "disclose_me" => options.disclose_me = values.bool("disclose_me")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(options)
    }

    fn register_options(&mut self) -> Result<RegisterOptions, ViolationKind> {
        let mut options = RegisterOptions::default();
        self.dict("Options", |values, key| {
            match key {
                "match" => options.match_policy = values.match_policy()?,
                "invoke" => {
                    const EXPECTED: &str =
                        "one of single, roundrobin, random, first, last, queue_least_loaded";
                    let invoke = values.choice("invoke", EXPECTED, InvokePolicy::from_name)?;
                    options.invoke = invoke.unwrap_or_default();
                }
                "disclose_caller" => options.disclose_caller = values.bool("disclose_caller")?,
                "concurrency" => options.concurrency = values.id("concurrency")?,
                "force_reregister" => options.force_reregister = values.bool("force_reregister")?,
                "forward_timeout" => options.forward_timeout = values.bool("forward_timeout")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(options)
    }

    fn invocation_details(&mut self) -> Result<InvocationDetails<'a>, ViolationKind> {
        let mut details = InvocationDetails::default();
        self.payload_dict("Details", |values, key| {
            match key {
                "procedure" => details.procedure = values.string("procedure")?,
                "caller" => details.caller = values.id("caller")?,
                "caller_authid" => details.caller_authid = values.string("caller_authid")?,
                "caller_authrole" => details.caller_authrole = values.string("caller_authrole")?,
                "receive_progress" => details.receive_progress = values.bool("receive_progress")?,
                "progress" => details.progress = values.bool("progress")?,
                "timeout" => details.timeout_ms = values.integer("timeout")?,
                "trustlevel" => details.trust_level = values.integer("trustlevel")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(details)
    }

    fn progress(&mut self, element: &'static str) -> Result<Option<bool>, ViolationKind> {
        let mut progress = None;
        self.payload_dict(element, |values, key| {
            if key == "progress" {
                progress = values.bool("progress")?;
            }
            Ok(key == "progress")
        })?;
        Ok(progress)
    }

    fn words(&mut self) -> Result<Option<Cow<'a, str>>, ViolationKind> {
        let mut words = None;
        self.dict("Details", |values, key| {
            if key == "message" {
                words = values.string("message")?;
            }
            Ok(key == "message")
        })?;
        Ok(words)
    }

    fn cancel_mode(&mut self) -> Result<Option<CancelMode>, ViolationKind> {
        let mut mode = None;
        self.dict("Options", |values, key| {
            if key == "mode" {
                mode = values.cancel_mode()?;
            }
            Ok(key == "mode")
        })?;
        Ok(mode)
    }

    fn interrupt_options(&mut self) -> Result<InterruptOptions<'a>, ViolationKind> {
        let mut options = InterruptOptions::default();
        self.dict("Options", |values, key| {
            match key {
                "mode" => options.mode = values.cancel_mode()?,
                "reason" => options.reason = values.string("reason")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(options)
    }

    fn hello_details(&mut self) -> Result<HelloDetails<'a>, ViolationKind> {
        let mut details = HelloDetails::default();
        self.dict("Details", |values, key| {
            match key {
                "roles" => details.roles = values.roles()?,
                "agent" => details.agent = values.string("agent")?,
                "authid" => details.authid = values.string("authid")?,
                "authrole" => details.authrole = values.string("authrole")?,
                "authmethods" => details.authmethods = values.strings("authmethods")?,
                "authextra" => details.authextra = values.raw_dict("authextra")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(details)
    }

    fn welcome_details(&mut self) -> Result<WelcomeDetails<'a>, ViolationKind> {
        let mut details = WelcomeDetails::default();
        self.dict("Details", |values, key| {
            match key {
                "realm" => details.realm = values.string("realm")?,
                "authid" => details.authid = values.string("authid")?,
                "authrole" => details.authrole = values.string("authrole")?,
                "authmethod" => details.authmethod = values.string("authmethod")?,
                "authprovider" => details.authprovider = values.string("authprovider")?,
                "authextra" => details.authextra = values.raw_dict("authextra")?,
                "agent" => details.agent = values.string("agent")?,
                "roles" => details.roles = values.roles()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(details)
    }
}

impl<R> Values<'_, R> {
    fn match_policy<'a>(&mut self) -> Result<MatchPolicy, ViolationKind>
    where
        R: Reader<'a>,
    {
        const EXPECTED: &str = "one of exact, prefix, wildcard";
        Ok(self.choice("match", EXPECTED, MatchPolicy::from_name)?.unwrap_or_default())
    }

    fn cancel_mode<'a>(&mut self) -> Result<Option<CancelMode>, ViolationKind>
    where
        R: Reader<'a>,
    {
        self.choice("mode", "one of skip, kill, killnowait", CancelMode::from_name)
    }
}
