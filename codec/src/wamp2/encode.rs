//! [`Message`] to bytes, appended to the caller's buffer.
//!
//! A message is a *head* (everything before the payload) and its payload parts, of which JSON needs the last one, the
//! closing bracket, for every message. The hot messages have functions of their own that allocate nothing; so does
//! [`encode`], which is made of the same parts.

use bytes::BytesMut;

use super::Serializer;
use super::features::FeatureSet;
use super::message::{Message, Payload, code};
use super::options::{
    CallOptions, CancelMode, EventDetails, HelloDetails, InterruptOptions, InvocationDetails, InvokePolicy,
    MatchPolicy, PublishOptions, ReceiverLists, RegisterOptions, ResultDetails, Roles, SubscribeOptions,
    WelcomeDetails, YieldOptions,
};
use super::passthru::About;
use super::write::{CborWriter, JsonWriter, MsgPackWriter, Pairs, Writer, write_dict};
use crate::{cbor, json, msgpack};

/// Appends `message`. Its payload and raw dictionaries must already be in `serializer`
/// (see [`OwnedPayload::transcode`](crate::payload::OwnedPayload::transcode)).
///
///     use fanwire_codec::wamp2::{Message, Serializer, encode};
///     let mut out = bytes::BytesMut::new();
///     encode(&Message::Published { request: 7, publication: 4429313566 }, Serializer::Json, &mut out);
///     assert_eq!(&out[..], b"[17,7,4429313566]");
pub fn encode(message: &Message<'_>, serializer: Serializer, out: &mut BytesMut) {
    let payload = payload_of(message);
    let about = about(serializer, &payload);
    match serializer {
        Serializer::Json => write_head(message, about, &mut JsonWriter::new(out)),
        Serializer::MsgPack => write_head(message, about, &mut MsgPackWriter::new(out)),
        Serializer::Cbor => write_head(message, about, &mut CborWriter::new(out)),
    }
    append_payload(serializer, &payload, out);
}

/// For messages of which something is said of the payload: through the encoder of any message, so that others pay nothing.
#[cold]
#[inline(never)]
fn encode_cold(message: &Message<'_>, serializer: Serializer, out: &mut BytesMut) {
    encode(message, serializer, out);
}

/// Appends an EVENT.
#[inline]
pub fn encode_event(
    serializer: Serializer,
    subscription: u64,
    publication: u64,
    details: &EventDetails<'_>,
    payload: &Payload<'_>,
    out: &mut BytesMut,
) {
    if payload.passthru.is_some() {
        let (details, payload) = (details.clone(), *payload);
        return encode_cold(&Message::Event { subscription, publication, details, payload }, serializer, out);
    }
    reserve(payload, out);
    let elements = 4 + element_count(payload);
    with_writer(serializer, out, Ids([code::EVENT, subscription, publication], elements), details);
    append_payload(serializer, payload, out);
}

/// Appends an INVOCATION.
#[inline]
pub fn encode_invocation(
    serializer: Serializer,
    request: u64,
    registration: u64,
    details: &InvocationDetails<'_>,
    payload: &Payload<'_>,
    out: &mut BytesMut,
) {
    if payload.passthru.is_some() {
        let (details, payload) = (details.clone(), *payload);
        return encode_cold(
            &Message::Invocation { request, registration, details, payload },
            serializer,
            out,
        );
    }
    reserve(payload, out);
    let elements = 4 + element_count(payload);
    with_writer(serializer, out, Ids([code::INVOCATION, request, registration], elements), details);
    append_payload(serializer, payload, out);
}

/// Appends a RESULT.
#[inline]
pub fn encode_result(
    serializer: Serializer,
    request: u64,
    details: &ResultDetails,
    payload: &Payload<'_>,
    out: &mut BytesMut,
) {
    if payload.passthru.is_some() {
        return encode_cold(
            &Message::Result { request, details: *details, payload: *payload },
            serializer,
            out,
        );
    }
    reserve(payload, out);
    let elements = 3 + element_count(payload);
    with_writer(serializer, out, Ids([code::RESULT, request], elements), details);
    append_payload(serializer, payload, out);
}

/// Appends a PUBLISHED.
#[inline]
pub fn encode_published(serializer: Serializer, request: u64, publication: u64, out: &mut BytesMut) {
    encode(&Message::Published { request, publication }, serializer, out);
}

/// Appends an ERROR that the router itself gives; `words`, if any, become the only argument.
pub fn encode_error(
    serializer: Serializer,
    request_type: u64,
    request: u64,
    error: &str,
    words: Option<&str>,
    out: &mut BytesMut,
) {
    fn write(writer: &mut impl Writer, request_type: u64, request: u64, error: &str, words: Option<&str>) {
        writer.begin_list(if words.is_some() { 6 } else { 5 });
        [code::ERROR, request_type, request].into_iter().for_each(|id| writer.uint(id));
        writer.empty_dict();
        writer.str(error);
        if let Some(words) = words {
            writer.begin_list(1);
            writer.str(words);
            writer.end_list();
        }
        writer.end_list();
    }
    match serializer {
        Serializer::Json => write(&mut JsonWriter::new(out), request_type, request, error, words),
        Serializer::MsgPack => write(&mut MsgPackWriter::new(out), request_type, request, error, words),
        Serializer::Cbor => write(&mut CborWriter::new(out), request_type, request, error, words),
    }
}

/// Appends UNSUBSCRIBED or UNREGISTERED for something that nobody asked to end: with request 0, and details that say what has
/// ended and why (WAMP, "Subscription Revocation" and "Registration Revocation").
pub fn encode_revocation(serializer: Serializer, revoked: Revoked, reason: &str, out: &mut BytesMut) {
    let (code, details) = match revoked {
        Revoked::Subscription(id) => (code::UNSUBSCRIBED, Revocation { key: "subscription", id, reason }),
        Revoked::Registration(id) => (code::UNREGISTERED, Revocation { key: "registration", id, reason }),
    };
    with_writer(serializer, out, Ids([code, 0], 3), &details);
    append_payload(serializer, &Payload::default(), out);
}

/// What has been taken from a client, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// A subscription.
    Subscription(u64),
    /// A registration.
    Registration(u64),
}

struct Revocation<'a> {
    key: &'static str,
    id: u64,
    reason: &'a str,
}

impl Pairs for Revocation<'_> {
    fn write(&self, writer: &mut impl Writer) {
        put_uint(writer, self.key, Some(self.id));
        put_str(writer, "reason", (!self.reason.is_empty()).then_some(self.reason));
    }
}

/// Appends a string value, for payloads made by hand.
pub fn encode_string(serializer: Serializer, text: &str, out: &mut BytesMut) {
    match serializer {
        Serializer::Json => json::write_string(out, text),
        Serializer::MsgPack => msgpack::write_string(out, text),
        Serializer::Cbor => cbor::write_string(out, text),
    }
}

/// The pieces that follow a head, in order: separator, args, separator, kwargs, end. Some are empty.
#[inline]
pub fn payload_parts<'a>(serializer: Serializer, payload: &Payload<'a>) -> [&'a [u8]; 5] {
    let (comma, empty_list, end): (&[u8], &[u8], &[u8]) = match serializer {
        Serializer::Json => (b",", b"[]", b"]"),
        Serializer::MsgPack => (b"", b"\x90", b""),
        Serializer::Cbor => (b"", b"\x80", b""),
    };
    match (payload.args, payload.kwargs) {
        (None, None) => [b"", b"", b"", b"", end],
        (Some(args), None) => [comma, args, b"", b"", end],
        // Keyword arguments come after the positional ones, so these must be there.
        (args, Some(kwargs)) => [comma, args.unwrap_or(empty_list), comma, kwargs, end],
    }
}

#[inline]
fn append_payload(serializer: Serializer, payload: &Payload<'_>, out: &mut BytesMut) {
    for part in payload_parts(serializer, payload) {
        out.extend_from_slice(part);
    }
}

/// Room for the whole message at once; heads without strings are shorter than this.
#[inline]
fn reserve(payload: &Payload<'_>, out: &mut BytesMut) {
    const HEAD_BYTES: usize = 96;
    out.reserve(HEAD_BYTES + payload.args.map_or(0, <[u8]>::len) + payload.kwargs.map_or(0, <[u8]>::len));
}

#[inline]
fn element_count(payload: &Payload<'_>) -> u32 {
    match (payload.args, payload.kwargs) {
        (None, None) => 0,
        (Some(_), None) => 1,
        (_, Some(_)) => 2,
    }
}

/// The integers at the beginning of a message, and how many elements it has in all.
struct Ids<const N: usize>([u64; N], u32);

/// What the dictionary of a message has to say of its payload.
#[inline]
pub(super) fn about<'a>(serializer: Serializer, payload: &Payload<'a>) -> Option<About<'a>> {
    payload.passthru.map(|passthru| About { passthru, serializer })
}

#[inline]
fn with_writer<const N: usize>(
    serializer: Serializer,
    out: &mut BytesMut,
    ids: Ids<N>,
    details: &impl Pairs,
) {
    match serializer {
        Serializer::Json => write_ids_and_dict(&mut JsonWriter::new(out), ids, details),
        Serializer::MsgPack => write_ids_and_dict(&mut MsgPackWriter::new(out), ids, details),
        Serializer::Cbor => write_ids_and_dict(&mut CborWriter::new(out), ids, details),
    }
}

#[inline]
fn write_ids_and_dict<const N: usize>(
    writer: &mut impl Writer,
    Ids(ids, elements): Ids<N>,
    dict: &impl Pairs,
) {
    write_ids(writer, ids, elements);
    write_dict(writer, dict);
}

/// The same with what is said of the payload, if anything is.
fn write_ids_and_about<const N: usize>(
    writer: &mut impl Writer,
    ids: Ids<N>,
    dict: &impl Pairs,
    about: Option<About<'_>>,
) {
    match about {
        None => write_ids_and_dict(writer, ids, dict),
        Some(about) => write_ids_and_dict(writer, ids, &Both(dict, about)),
    }
}

/// The pairs of a message's dictionary, and those about its payload.
pub(super) struct Both<'a, 'p, P>(pub(super) &'a P, pub(super) About<'p>);

impl<P: Pairs> Pairs for Both<'_, '_, P> {
    fn write(&self, writer: &mut impl Writer) {
        self.0.write(writer);
        self.1.write(writer);
    }
}

#[inline]
fn write_ids<const N: usize>(writer: &mut impl Writer, ids: [u64; N], elements: u32) {
    writer.begin_list(elements);
    for id in ids {
        writer.uint(id);
    }
}

fn payload_of<'a>(message: &Message<'a>) -> Payload<'a> {
    match message {
        Message::Error { payload, .. }
        | Message::Publish { payload, .. }
        | Message::Event { payload, .. }
        | Message::Call { payload, .. }
        | Message::Result { payload, .. }
        | Message::Invocation { payload, .. }
        | Message::Yield { payload, .. } => *payload,
        _ => Payload::EMPTY,
    }
}

/// Writes everything before the payload; JSON's list stays open.
fn write_head(message: &Message<'_>, about: Option<About<'_>>, writer: &mut impl Writer) {
    let code = message.type_code();
    let more = element_count(&payload_of(message));
    match message {
        Message::Hello { realm, details } => {
            write_ids(writer, [code], 3);
            writer.str(realm);
            write_dict(writer, details);
        }
        Message::Welcome { session, details } => {
            write_ids_and_about(writer, Ids([code, *session], 3), details, about)
        }
        Message::Abort { reason, message } | Message::Goodbye { reason, message } => {
            write_ids_and_about(writer, Ids([code], 3), &Words(message.as_deref()), about);
            writer.str(reason);
        }
        Message::Challenge { method: string, extra } | Message::Authenticate { signature: string, extra } => {
            write_ids(writer, [code], 3);
            writer.str(string);
            if extra.is_empty() { writer.empty_dict() } else { writer.raw(extra) }
        }
        Message::Error { request_type, request, error, .. } => {
            write_ids_and_about(writer, Ids([code, *request_type, *request], 5 + more), &Words(None), about);
            writer.str(error);
        }
        Message::Publish { request, options, topic, .. } => {
            write_ids_and_about(writer, Ids([code, *request], 4 + more), options, about);
            writer.str(topic);
        }
        Message::Subscribe { request, options, topic } => {
            write_ids_and_about(writer, Ids([code, *request], 4), options, about);
            writer.str(topic);
        }
        Message::Call { request, options, procedure, .. } => {
            write_ids_and_about(writer, Ids([code, *request], 4 + more), options, about);
            writer.str(procedure);
        }
        Message::Register { request, options, procedure } => {
            write_ids_and_about(writer, Ids([code, *request], 4), options, about);
            writer.str(procedure);
        }
        Message::Published { request: first, publication: second }
        | Message::Subscribed { request: first, subscription: second }
        | Message::Unsubscribe { request: first, subscription: second }
        | Message::Registered { request: first, registration: second }
        | Message::Unregister { request: first, registration: second } => {
            write_ids(writer, [code, *first, *second], 3);
        }
        Message::Unsubscribed { request } | Message::Unregistered { request } => {
            write_ids(writer, [code, *request], 2);
        }
        Message::Event { subscription, publication, details, .. } => {
            write_ids_and_about(writer, Ids([code, *subscription, *publication], 4 + more), details, about);
        }
        Message::Invocation { request, registration, details, .. } => {
            write_ids_and_about(writer, Ids([code, *request, *registration], 4 + more), details, about);
        }
        Message::Cancel { request, mode } => {
            write_ids_and_about(writer, Ids([code, *request], 3), &Mode(*mode), about)
        }
        Message::Interrupt { request, options } => {
            write_ids_and_about(writer, Ids([code, *request], 3), options, about)
        }
        Message::Result { request, details, .. } => {
            write_ids_and_about(writer, Ids([code, *request], 3 + more), details, about);
        }
        Message::Yield { request, options, .. } => {
            write_ids_and_about(writer, Ids([code, *request], 3 + more), options, about);
        }
    }
}

fn put_bool(writer: &mut impl Writer, key: &str, value: Option<bool>) {
    if let Some(value) = value {
        writer.key(key);
        writer.bool(value);
    }
}

fn put_uint(writer: &mut impl Writer, key: &str, value: Option<u64>) {
    if let Some(value) = value {
        writer.key(key);
        writer.uint(value);
    }
}

fn put_str(writer: &mut impl Writer, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        writer.key(key);
        writer.str(value);
    }
}

fn put_list<W: Writer, T>(writer: &mut W, key: &str, values: Option<&[T]>, put: impl Fn(&mut W, &T)) {
    if let Some(values) = values {
        writer.key(key);
        writer.begin_list(u32::try_from(values.len()).expect("messages are limited far below 4 GiB"));
        values.iter().for_each(|value| put(writer, value));
        writer.end_list();
    }
}

/// The words for people in ABORT's and GOODBYE's details.
struct Words<'a>(Option<&'a str>);

impl Pairs for Words<'_> {
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "message", self.0);
    }
}

/// CANCEL's options.
struct Mode(Option<CancelMode>);

impl Pairs for Mode {
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "mode", self.0.map(CancelMode::name));
    }
}

impl Pairs for PublishOptions<'_> {
    #[inline]
    fn write(&self, writer: &mut impl Writer) {
        put_bool(writer, "acknowledge", self.acknowledge.then_some(true));
        put_bool(writer, "exclude_me", self.exclude_me);
        put_bool(writer, "disclose_me", self.disclose_me);
        put_bool(writer, "retain", self.retain);
        put_str(writer, "x_conflate_key", self.conflate_key.as_deref());
        if let Some(receivers) = &self.receivers {
            receivers.write(writer);
        }
    }
}

impl Pairs for ReceiverLists<'_> {
    fn write(&self, writer: &mut impl Writer) {
        put_list(writer, "exclude", self.exclude.as_deref(), |writer, id| writer.uint(*id));
        put_list(writer, "exclude_authid", self.exclude_authid.as_deref(), |writer, name| writer.str(name));
        put_list(writer, "exclude_authrole", self.exclude_authrole.as_deref(), |writer, name| {
            writer.str(name)
        });
        put_list(writer, "eligible", self.eligible.as_deref(), |writer, id| writer.uint(*id));
        put_list(writer, "eligible_authid", self.eligible_authid.as_deref(), |writer, name| writer.str(name));
        put_list(writer, "eligible_authrole", self.eligible_authrole.as_deref(), |writer, name| {
            writer.str(name)
        });
    }
}

impl Pairs for SubscribeOptions {
    fn write(&self, writer: &mut impl Writer) {
        let policy = (self.match_policy != MatchPolicy::Exact).then(|| self.match_policy.name());
        put_str(writer, "match", policy);
        put_bool(writer, "get_retained", self.get_retained);
    }
}

impl Pairs for RegisterOptions {
    fn write(&self, writer: &mut impl Writer) {
        let policy = (self.match_policy != MatchPolicy::Exact).then(|| self.match_policy.name());
        put_str(writer, "match", policy);
        let invoke = (self.invoke != InvokePolicy::Single).then(|| self.invoke.name());
        put_str(writer, "invoke", invoke);
        put_bool(writer, "disclose_caller", self.disclose_caller);
        put_bool(writer, "forward_timeout", self.forward_timeout);
        put_uint(writer, "concurrency", self.concurrency);
        put_bool(writer, "force_reregister", self.force_reregister);
    }
}

impl Pairs for EventDetails<'_> {
    #[inline]
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "topic", self.topic.as_deref());
        put_uint(writer, "publisher", self.publisher);
        put_str(writer, "publisher_authid", self.publisher_authid.as_deref());
        put_str(writer, "publisher_authrole", self.publisher_authrole.as_deref());
        put_bool(writer, "retained", self.retained);
        put_uint(writer, "trustlevel", self.trust_level);
    }
}

impl Pairs for CallOptions {
    #[inline]
    fn write(&self, writer: &mut impl Writer) {
        put_uint(writer, "timeout", self.timeout_ms);
        put_bool(writer, "receive_progress", self.receive_progress);
        put_bool(writer, "progress", self.progress);
        put_bool(writer, "disclose_me", self.disclose_me);
    }
}

impl Pairs for ResultDetails {
    #[inline]
    fn write(&self, writer: &mut impl Writer) {
        put_bool(writer, "progress", self.progress);
    }
}

impl Pairs for YieldOptions {
    #[inline]
    fn write(&self, writer: &mut impl Writer) {
        put_bool(writer, "progress", self.progress);
    }
}

impl Pairs for InvocationDetails<'_> {
    #[inline]
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "procedure", self.procedure.as_deref());
        put_uint(writer, "caller", self.caller);
        put_str(writer, "caller_authid", self.caller_authid.as_deref());
        put_str(writer, "caller_authrole", self.caller_authrole.as_deref());
        put_bool(writer, "receive_progress", self.receive_progress);
        put_bool(writer, "progress", self.progress);
        put_uint(writer, "timeout", self.timeout_ms);
        put_uint(writer, "trustlevel", self.trust_level);
    }
}

impl Pairs for InterruptOptions<'_> {
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "mode", self.mode.map(CancelMode::name));
        put_str(writer, "reason", self.reason.as_deref());
    }
}

impl Pairs for HelloDetails<'_> {
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "agent", self.agent.as_deref());
        writer.key("roles");
        write_dict(writer, &self.roles);
        put_str(writer, "authid", self.authid.as_deref());
        put_str(writer, "authrole", self.authrole.as_deref());
        let methods = (!self.authmethods.is_empty()).then_some(&self.authmethods[..]);
        put_list(writer, "authmethods", methods, |writer, method| writer.str(method));
        if let Some(extra) = self.authextra {
            writer.key("authextra");
            writer.raw(extra);
        }
    }
}

impl Pairs for WelcomeDetails<'_> {
    fn write(&self, writer: &mut impl Writer) {
        put_str(writer, "agent", self.agent.as_deref());
        put_str(writer, "realm", self.realm.as_deref());
        put_str(writer, "authid", self.authid.as_deref());
        put_str(writer, "authrole", self.authrole.as_deref());
        put_str(writer, "authmethod", self.authmethod.as_deref());
        put_str(writer, "authprovider", self.authprovider.as_deref());
        if let Some(extra) = self.authextra {
            writer.key("authextra");
            writer.raw(extra);
        }
        writer.key("roles");
        write_dict(writer, &self.roles);
    }
}

impl Pairs for Roles {
    fn write(&self, writer: &mut impl Writer) {
        let roles = [
            ("subscriber", self.subscriber),
            ("publisher", self.publisher),
            ("caller", self.caller),
            ("callee", self.callee),
            ("broker", self.broker),
            ("dealer", self.dealer),
        ];
        for (name, features) in roles {
            if let Some(features) = features {
                writer.key(name);
                write_dict(writer, &Role(features));
            }
        }
    }
}

/// One role's dictionary.
struct Role(FeatureSet);

impl Pairs for Role {
    fn write(&self, writer: &mut impl Writer) {
        if !self.0.is_empty() {
            writer.key("features");
            write_dict(writer, &Features(self.0));
        }
    }
}

/// The dictionary under `features`.
struct Features(FeatureSet);

impl Pairs for Features {
    fn write(&self, writer: &mut impl Writer) {
        for feature in self.0.iter() {
            put_bool(writer, feature.name(), Some(true));
        }
    }
}
