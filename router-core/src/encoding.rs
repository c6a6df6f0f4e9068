//! How events, replies and invocations look to a session: protocol × serializer × framing.
//!
//! The broker and the dealer speak their own vocabulary and hand it to a session's [`Encoding`]; they never ask which
//! protocol it is. Each protocol adds a variant here and a module that writes its frames.

use bytes::BytesMut;
use fanwire_codec::payload::{OwnedPayload, Plain, SharedPayload, TranscodeError};
use fanwire_codec::rawsocket::MaxLength;
use fanwire_codec::wamp2::{CancelMode, Payload, Serializer};
use fanwire_codec::ws;

use crate::dealer::Invoking;
use crate::ids::{PublicationId, SubscriptionId};
use crate::message_center;
use crate::session::Provenance;
use crate::topics::GAP_TOPIC;
use crate::uri::UriRule;
use crate::wamp1;
use crate::wamp2::frames;

/// How messages become frames, each for itself, and so once for all who get them. They are written as plain WebSocket frames;
/// what else they are is made of those when they are appended or said (`delivery/framing.rs`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Framing {
    /// WebSocket frames; also for connections that have them compressed by an encoder of their own.
    Plain,
    /// permessage-deflate without context takeover (RFC 7692).
    Deflated,
    /// Each message is a batch of one (WAMP, "Message Batching").
    Batched,
    /// The same, compressed.
    BatchedDeflated,
    /// RawSocket, of clients that take messages of this length at most: they are not sent what is longer.
    Raw(MaxLength),
}

impl Framing {
    /// The same, compressed once for all. RawSocket knows no compression.
    pub(crate) fn deflated(self) -> Self {
        match self {
            Self::Plain | Self::Deflated => Self::Deflated,
            Self::Batched | Self::BatchedDeflated => Self::BatchedDeflated,
            Self::Raw(_) => self,
        }
    }

    /// The same, not compressed.
    pub(crate) fn inflated(self) -> Self {
        match self {
            Self::Plain | Self::Deflated => Self::Plain,
            Self::Batched | Self::BatchedDeflated => Self::Batched,
            Self::Raw(_) => self,
        }
    }

    /// Whether a message can be too long for it.
    pub(crate) fn is_limited(self) -> bool {
        matches!(self, Self::Raw(_))
    }
}

/// One way to encode messages. Members of a subscription with the same encoding share one event stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Encoding {
    /// WAMP v2 over WebSocket or RawSocket.
    Wamp2(Serializer, Framing),
    /// The message center's JSON over WebSocket.
    MessageCenter(Framing),
    /// Plain messages over WebSocket.
    Echo(Framing),
    /// WAMP v1, JSON over WebSocket.
    Wamp1(Framing),
    /// The same, where a handler decides what is said.
    Handled(Framing),
}

impl From<Serializer> for Encoding {
    /// WAMP v2 as it is before anything was agreed on compression.
    fn from(serializer: Serializer) -> Self {
        Self::Wamp2(serializer, Framing::Plain)
    }
}

impl Encoding {
    /// The message center as it is before anything was agreed on compression.
    pub const MESSAGE_CENTER: Self = Self::MessageCenter(Framing::Plain);
    /// Echo rooms as they are before anything was agreed on compression.
    pub const ECHO: Self = Self::Echo(Framing::Plain);
    /// WAMP v1 as it is before anything was agreed on compression.
    pub const WAMP1: Self = Self::Wamp1(Framing::Plain);
    /// Endpoints with handlers as they are before anything was agreed on compression.
    pub const HANDLED: Self = Self::Handled(Framing::Plain);

    /// How many there are that each subscription has a place for.
    pub(crate) const ALIKE: usize = 2 * Serializer::COUNT;

    /// Number below [`Self::ALIKE`], for arrays; `None` for encodings that have no place in each subscription: because their events
    /// have the subscriber's own name for the topic, so that only those who call it the same get the same bytes, or because few
    /// topics have subscribers with it.
    pub(crate) fn index(self) -> Option<usize> {
        match self {
            Self::Wamp2(serializer, Framing::Plain) => Some(serializer.index()),
            Self::Wamp2(serializer, Framing::Deflated) => Some(Serializer::COUNT + serializer.index()),
            Self::Wamp2(..) | Self::MessageCenter(_) | Self::Echo(_) | Self::Wamp1(_) | Self::Handled(_) => {
                None
            }
        }
    }

    /// The same, compressed once for all.
    pub(crate) fn deflated(self) -> Self {
        match self {
            Self::Wamp2(serializer, framing) => Self::Wamp2(serializer, framing.deflated()),
            Self::MessageCenter(framing) => Self::MessageCenter(framing.deflated()),
            Self::Echo(framing) => Self::Echo(framing.deflated()),
            Self::Wamp1(framing) => Self::Wamp1(framing.deflated()),
            Self::Handled(framing) => Self::Handled(framing.deflated()),
        }
    }

    /// How its messages become frames.
    pub(crate) fn framing(self) -> Framing {
        match self {
            Self::Wamp2(_, framing)
            | Self::MessageCenter(framing)
            | Self::Echo(framing)
            | Self::Wamp1(framing)
            | Self::Handled(framing) => framing,
        }
    }

    /// Whether its connections are no WebSockets, which end with close frames.
    pub(crate) fn is_raw(self) -> bool {
        matches!(self.framing(), Framing::Raw(_))
    }

    /// The value of the metrics' `protocol` label.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Wamp2(..) => "wamp2",
            Self::MessageCenter(_) => "message_center",
            Self::Echo(_) => "echo",
            Self::Wamp1(_) => "wamp1",
            Self::Handled(_) => "handled",
        }
    }

    /// The serializer of the payloads that this encoding carries.
    pub(crate) fn serializer(self) -> Serializer {
        match self {
            Self::Wamp2(serializer, _) => serializer,
            Self::MessageCenter(_) | Self::Wamp1(_) => Serializer::Json,
            // A string and binary are what they are in it.
            Self::Echo(_) | Self::Handled(_) => Serializer::MsgPack,
        }
    }

    /// The same, unless its clients know nothing of it.
    pub(crate) fn named_serializer(self) -> Option<Serializer> {
        match self {
            Self::Wamp2(..) | Self::MessageCenter(_) | Self::Wamp1(_) => Some(self.serializer()),
            Self::Echo(_) | Self::Handled(_) => None,
        }
    }

    /// Which names its clients may give to topics and procedures.
    pub(crate) fn uri_rule(self) -> UriRule {
        match self {
            Self::Wamp1(_) => UriRule::Version1,
            Self::Wamp2(..) | Self::MessageCenter(_) | Self::Echo(_) | Self::Handled(_) => UriRule::Loose,
        }
    }

    /// One event of a subscription. `topic` is what its members are told that it is about: the topic, where they subscribed by
    /// pattern, or their own name for it.
    pub(crate) fn write_event(
        self,
        subscription: SubscriptionId,
        publication: PublicationId,
        topic: Option<&str>,
        publisher: Option<&Provenance>,
        payload: Payload<'_>,
        out: &mut BytesMut,
    ) {
        match self {
            Self::Wamp2(serializer, _) => {
                frames::event(serializer, subscription, publication, topic, publisher, payload, out);
            }
            Self::MessageCenter(_) => {
                message_center::frames::event(topic.expect("its members have a name for it"), payload, out);
            }
            Self::Wamp1(_) => {
                wamp1::frames::event(topic.expect("they are told which topic it is"), payload, out);
            }
            Self::Echo(_) | Self::Handled(_) => unreachable!("its events are written of plain bytes"),
        }
    }

    /// An event that was kept from before the subscription.
    pub(crate) fn write_retained(
        self,
        subscription: SubscriptionId,
        publication: PublicationId,
        topic: Option<&str>,
        publisher: Option<&Provenance>,
        payload: Payload<'_>,
        out: &mut BytesMut,
    ) {
        match self {
            Self::Wamp2(serializer, _) => {
                frames::retained(serializer, subscription, publication, topic, publisher, payload, out);
            }
            Self::MessageCenter(_) | Self::Echo(_) | Self::Wamp1(_) | Self::Handled(_) => {
                unreachable!("its sessions do not ask for retained events")
            }
        }
    }

    /// Says that `lost` events of subscription `of` are missing from here on, and by which policy; as an event of the
    /// session's subscription to its own gaps.
    pub(crate) fn write_gap(
        self,
        subscription: SubscriptionId,
        publication: PublicationId,
        of: SubscriptionId,
        lost: u64,
        reason: &str,
        out: &mut BytesMut,
    ) {
        match self {
            Self::Wamp2(serializer, _) => {
                frames::gap(serializer, subscription, publication, of, lost, reason, out);
            }
            Self::Wamp1(_) => wamp1::frames::gap(GAP_TOPIC, of, lost, reason, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Handled(_) => {
                unreachable!("no rule leads to the topic of gaps")
            }
        }
    }

    /// The acknowledgement of a publication.
    pub(crate) fn write_published(self, request: u64, publication: PublicationId, out: &mut BytesMut) {
        match self {
            Self::Wamp2(serializer, _) => frames::published(serializer, request, publication, out),
            Self::MessageCenter(_) | Self::Handled(_) => unreachable!("its sessions do not publish"),
            // They have no words for that.
            Self::Echo(_) | Self::Wamp1(_) => {}
        }
    }

    /// A call, for its callee, which knows it by `request`.
    pub(crate) fn write_invocation(
        self,
        request: u64,
        invoking: &Invoking<'_>,
        payload: Payload<'_>,
        out: &mut BytesMut,
    ) {
        match self {
            Self::Wamp2(serializer, _) => frames::invocation(serializer, request, invoking, payload, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Wamp1(_) | Self::Handled(_) => {
                unreachable!("its sessions do not register")
            }
        }
    }

    /// The callee should stop working on an invocation.
    pub(crate) fn write_interrupt(self, request: u64, mode: CancelMode, out: &mut BytesMut) {
        match self {
            Self::Wamp2(serializer, _) => frames::interrupt(serializer, request, mode, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Wamp1(_) | Self::Handled(_) => {
                unreachable!("its sessions do not register")
            }
        }
    }

    /// A part of a call's result, for its caller.
    pub(crate) fn write_progress(self, request: u64, payload: Payload<'_>, out: &mut BytesMut) {
        match self {
            Self::Wamp2(serializer, _) => frames::progress(serializer, request, payload, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Wamp1(_) | Self::Handled(_) => {
                unreachable!("its sessions do not take results in parts")
            }
        }
    }

    /// A call's result, for its caller.
    pub(crate) fn write_result(self, request: u64, payload: Payload<'_>, out: &mut BytesMut) {
        match self {
            Self::Wamp2(serializer, _) => frames::result(serializer, request, payload, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Handled(_) => {
                unreachable!("its sessions do not call")
            }
            Self::Wamp1(_) => unreachable!("the answer names the call as its client does"),
        }
    }

    /// A call's error of the callee's making, for its caller.
    pub(crate) fn write_call_error(
        self,
        request: u64,
        error: &str,
        payload: Payload<'_>,
        out: &mut BytesMut,
    ) {
        match self {
            Self::Wamp2(serializer, _) => frames::call_error(serializer, request, error, payload, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Handled(_) => {
                unreachable!("its sessions do not call")
            }
            Self::Wamp1(_) => unreachable!("the answer names the call as its client does"),
        }
    }

    /// A call's error of the router's making, with words for people.
    pub(crate) fn write_call_refusal(self, request: u64, error: &str, words: &str, out: &mut BytesMut) {
        match self {
            Self::Wamp2(serializer, _) => frames::call_refusal(serializer, request, error, words, out),
            Self::MessageCenter(_) | Self::Echo(_) | Self::Handled(_) => {
                unreachable!("its sessions do not call")
            }
            Self::Wamp1(_) => unreachable!("the answer names the call as its client does"),
        }
    }
}

/// One message of plain bytes, as a whole WebSocket frame: text, or binary of what was sent as binary.
pub(crate) fn write_plain(plain: &Plain<'_>, out: &mut BytesMut) {
    let kind = if plain.is_binary { ws::Kind::Binary } else { ws::Kind::Text };
    ws::write_message(out, kind, &[&plain.bytes]);
}

/// A payload on its way: still in the sender's buffer, or already shared between shards. Transcoded once per serializer.
pub(crate) enum Source<'a> {
    /// Lies in the message that is being routed.
    Borrowed { serializer: Serializer, payload: Payload<'a>, copy: std::cell::OnceCell<SharedPayload> },
    /// Lies in a publication or answer.
    Shared(&'a SharedPayload),
}

impl<'a> Source<'a> {
    /// The payload of a message in `serializer`.
    pub(crate) fn borrowed(serializer: Serializer, payload: Payload<'a>) -> Self {
        Self::Borrowed { serializer, payload, copy: std::cell::OnceCell::new() }
    }

    /// The payload in `serializer`; the sender's own bytes where that is the sender's.
    pub(crate) fn get(&self, serializer: Serializer) -> Result<Payload<'_>, TranscodeError> {
        match self {
            Self::Borrowed { serializer: own, payload, .. } if *own == serializer => Ok(*payload),
            Self::Borrowed { serializer: own, payload, copy } => {
                let shared = copy.get_or_init(|| SharedPayload::new(OwnedPayload::copy_from(*own, payload)));
                shared.get(serializer).map(OwnedPayload::view)
            }
            Self::Shared(shared) => shared.get(serializer).map(OwnedPayload::view),
        }
    }

    /// What receivers that know nothing but plain bytes get of it, whatever it is.
    pub(crate) fn as_plain(&self) -> Result<Plain<'_>, TranscodeError> {
        match self {
            Self::Borrowed { serializer, payload, copy } => {
                // What is plain already needs no copy.
                let packed = *serializer == Serializer::MsgPack;
                if let Some(plain) = packed.then(|| Plain::of_packed(*payload)).flatten() {
                    return Ok(plain);
                }
                copy.get_or_init(|| SharedPayload::new(OwnedPayload::copy_from(*serializer, payload))).plain()
            }
            Self::Shared(shared) => shared.plain(),
        }
    }

    /// Whether only its receivers understand it.
    #[inline]
    pub(crate) fn is_passthru(&self) -> bool {
        match self {
            Self::Borrowed { payload, .. } => payload.passthru.is_some(),
            Self::Shared(shared) => shared.view().passthru.is_some(),
        }
    }

    /// How long it is as it came.
    pub(crate) fn bytes(&self) -> usize {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        match self {
            Self::Borrowed { payload, .. } => length(payload.args) + length(payload.kwargs),
            Self::Shared(shared) => shared.original().len(),
        }
    }

    /// What receivers of plain bytes get of it, if it is one string or binary.
    pub(crate) fn plain(&self) -> Option<Plain<'_>> {
        self.get(Serializer::MsgPack).ok().and_then(Plain::of_packed)
    }

    /// The payload as it came, with bytes of its own.
    pub(crate) fn to_owned_payload(&self) -> OwnedPayload {
        match self {
            Self::Borrowed { serializer, payload, .. } => OwnedPayload::copy_from(*serializer, payload),
            Self::Shared(shared) => shared.original().clone(),
        }
    }

    /// The payload as something that other shards can hold.
    pub(crate) fn to_shared(&self) -> SharedPayload {
        SharedPayload::new(self.to_owned_payload())
    }
}
