//! WAMP v2 messages of the router as whole WebSocket frames.

use std::borrow::Cow;
use std::num::NonZeroU64;

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{
    self, CancelMode, EventDetails, InterruptOptions, InvocationDetails, Message, Payload, ResultDetails,
    Revoked, Serializer, code,
};
use fanwire_codec::ws;

use crate::dealer::Invoking;
use crate::ids::{PublicationId, SubscriptionId};
use crate::parcel::Asks;
use crate::session::Provenance;

/// One frame around whatever `write` appends.
#[inline]
fn frame(serializer: Serializer, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let kind = if serializer.is_text() { ws::Kind::Text } else { ws::Kind::Binary };
    let start = ws::begin_frame(out, kind);
    write(out);
    ws::end_frame(out, start);
}

/// Any message, for those that are not frequent.
pub(crate) fn message(serializer: Serializer, message: &Message<'_>, out: &mut BytesMut) {
    frame(serializer, out, |out| wamp2::encode(message, serializer, out));
}

pub(crate) fn event(
    serializer: Serializer,
    subscription: SubscriptionId,
    publication: PublicationId,
    topic: Option<&str>,
    publisher: Option<&Provenance>,
    payload: Payload<'_>,
    out: &mut BytesMut,
) {
    let details = event_details(topic, publisher);
    frame(serializer, out, |out| {
        wamp2::encode_event(serializer, subscription.get(), publication.get(), &details, &payload, out);
    });
}

#[inline]
fn event_details<'a>(topic: Option<&'a str>, publisher: Option<&'a Provenance>) -> EventDetails<'a> {
    let identity = publisher.and_then(|told| told.identity.as_ref());
    EventDetails {
        topic: topic.map(Cow::Borrowed),
        publisher: identity.map(|identity| identity.session.get()),
        publisher_authid: identity.map(|identity| Cow::Borrowed(&*identity.authid)),
        publisher_authrole: identity.map(|identity| Cow::Borrowed(&*identity.authrole)),
        trust_level: publisher.and_then(|told| told.trust).map(|level| u64::from(level.0)),
        ..EventDetails::default()
    }
}

/// An event that was kept from before the subscription.
pub(crate) fn retained(
    serializer: Serializer,
    subscription: SubscriptionId,
    publication: PublicationId,
    topic: Option<&str>,
    publisher: Option<&Provenance>,
    payload: Payload<'_>,
    out: &mut BytesMut,
) {
    let details = EventDetails { retained: Some(true), ..event_details(topic, publisher) };
    let (subscription, publication) = (subscription.get(), publication.get());
    message(serializer, &Message::Event { subscription, publication, details, payload }, out);
}

/// An event whose keywords say what of another subscription was lost.
pub(crate) fn gap(
    serializer: Serializer,
    subscription: SubscriptionId,
    publication: PublicationId,
    of: SubscriptionId,
    lost: u64,
    reason: &str,
    out: &mut BytesMut,
) {
    let kwargs = format!(r#"{{"subscription":{},"lost":{lost},"reason":"{reason}"}}"#, of.get());
    let payload = Payload { args: Some(b"[]"), kwargs: Some(kwargs.as_bytes()), ..Payload::EMPTY };
    let payload = OwnedPayload::copy_from(Serializer::Json, &payload);
    let payload = payload.transcode(serializer).expect("numbers and words have a form everywhere");
    event(serializer, subscription, publication, None, None, payload.view(), out);
}

pub(crate) fn published(
    serializer: Serializer,
    request: u64,
    publication: PublicationId,
    out: &mut BytesMut,
) {
    frame(serializer, out, |out| wamp2::encode_published(serializer, request, publication.get(), out));
}

pub(crate) fn invocation(
    serializer: Serializer,
    request: u64,
    invoking: &Invoking<'_>,
    payload: Payload<'_>,
    out: &mut BytesMut,
) {
    let Invoking { registration, procedure, caller, asks, .. } = *invoking;
    let identity = caller.and_then(|told| told.identity.as_ref());
    let details = InvocationDetails {
        procedure: procedure.map(Cow::Borrowed),
        caller: identity.map(|identity| identity.session.get()),
        caller_authid: identity.map(|identity| Cow::Borrowed(&*identity.authid)),
        caller_authrole: identity.map(|identity| Cow::Borrowed(&*identity.authrole)),
        trust_level: caller.and_then(|told| told.trust).map(|level| u64::from(level.0)),
        ..InvocationDetails::default()
    };
    if asks != Asks::default() {
        // Through the encoder of any message, so that nearly all calls do not ask for each of them.
        let details = InvocationDetails {
            receive_progress: asks.receive_progress.then_some(true),
            progress: asks.more.then_some(true),
            timeout_ms: asks.timeout_ms.map(NonZeroU64::get),
            ..details
        };
        let registration = registration.get();
        return message(serializer, &Message::Invocation { request, registration, details, payload }, out);
    }
    frame(serializer, out, |out| {
        wamp2::encode_invocation(serializer, request, registration.get(), &details, &payload, out);
    });
}

pub(crate) fn interrupt(serializer: Serializer, request: u64, mode: CancelMode, out: &mut BytesMut) {
    let options = InterruptOptions { mode: Some(mode), reason: None };
    message(serializer, &Message::Interrupt { request, options }, out);
}

/// Through the encoder of any message, so that this is not in the way of plain results.
pub(crate) fn progress(serializer: Serializer, request: u64, payload: Payload<'_>, out: &mut BytesMut) {
    let details = ResultDetails { progress: Some(true) };
    message(serializer, &Message::Result { request, details, payload }, out);
}

pub(crate) fn result(serializer: Serializer, request: u64, payload: Payload<'_>, out: &mut BytesMut) {
    frame(serializer, out, |out| {
        wamp2::encode_result(serializer, request, &ResultDetails::default(), &payload, out);
    });
}

pub(crate) fn call_error(
    serializer: Serializer,
    request: u64,
    error: &str,
    payload: Payload<'_>,
    out: &mut BytesMut,
) {
    message(
        serializer,
        &Message::Error { request_type: code::CALL, request, error: error.into(), payload },
        out,
    );
}

pub(crate) fn call_refusal(
    serializer: Serializer,
    request: u64,
    error: &str,
    words: &str,
    out: &mut BytesMut,
) {
    refusal(serializer, code::CALL, request, error, words, out);
}

/// An ERROR of the router's own making; the words are its only argument.
pub(crate) fn refusal(
    serializer: Serializer,
    request_type: u64,
    request: u64,
    error: &str,
    words: &str,
    out: &mut BytesMut,
) {
    frame(serializer, out, |out| {
        wamp2::encode_error(serializer, request_type, request, error, Some(words), out);
    });
}

/// Something was taken from the client that nobody asked to end.
pub(crate) fn revoked(serializer: Serializer, what: Revoked, reason: &str, out: &mut BytesMut) {
    frame(serializer, out, |out| wamp2::encode_revocation(serializer, what, reason, out));
}
