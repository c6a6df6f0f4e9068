//! WAMP v2 messages: bytes of one transport message ⇄ [`Message`].
//!
//! ```text
//! bytes ─ decode ─▶ Message { ids, options, URI, payload: raw slices } ─ encode ─▶ bytes
//! ```
//!
//! The envelope (type, ids, options, URIs) is read by a splitter of our own; arguments are validated once and stay the
//! sender's bytes. Nothing is allocated for a message whose strings have no escapes. What a message *means*, the order of
//! messages, and whether a URI is well-formed is not decided here.
//!
//! Read [`Message`] first, then [`decode`], [`encode`] and, for the hot path, [`encode_event`] and its siblings.
//!
//! What is tolerated, because real clients send it: ids and other integers as integral floats (`1.0`); `null`, and
//! *undefined* (of CBOR, and as a MessagePack extension of type 0 and one byte), where a dictionary, an option's value or a
//! payload element is due (all mean "absent"); a dictionary behind UNSUBSCRIBE and UNREGISTER. In CBOR, lengths may be
//! indefinite everywhere. Tags may be in payloads and in options that we do not know, and nowhere else.

pub mod batch;
mod decode;
mod dict;
mod encode;
mod error;
mod features;
mod history;
pub mod longpoll;
mod message;
mod options;
mod passthru;
mod read;
mod read_cbor;
mod read_json;
mod read_msgpack;
mod usual;
mod write;

use std::fmt;

pub use decode::{DecodeLimits, decode};
pub use encode::{
    Revoked, encode, encode_error, encode_event, encode_invocation, encode_published, encode_result,
    encode_revocation, encode_string, payload_parts,
};
pub use error::{DecodeError, RequestError, Violation, ViolationKind};
pub use features::{Feature, FeatureSet};
pub use history::{PastEvent, history_arguments, write_past_event};
pub use message::{Message, Payload, code, type_name};
pub use options::{
    CallOptions, CancelMode, EventDetails, HelloDetails, InterruptOptions, InvocationDetails, InvokePolicy,
    MatchPolicy, PublishOptions, RECEIVERS_MAX, ReceiverLists, RegisterOptions, ResultDetails, Roles,
    SubscribeOptions, WelcomeDetails, YieldOptions,
};
pub use passthru::Passthru;

// A JSON message is read alike in every protocol.
pub(crate) use read::{Items, Kind, Reader};
pub(crate) use read_json::JsonReader;

/// How the messages of one session are serialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// RFC 8259, in text messages.
    Json,
    /// MessagePack (version 5: strings and binary differ), in binary messages.
    MsgPack,
    /// RFC 8949, in binary messages.
    Cbor,
}

impl Serializer {
    /// How many there are; [`index`](Self::index) is below it.
    pub const COUNT: usize = 3;
    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [Self; Self::COUNT] = [Self::Json, Self::MsgPack, Self::Cbor];

    /// The WebSocket subprotocol that stands for WAMP in this serializer (WAMP, "WebSocket Transport").
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "wamp.2.json",
            Self::MsgPack => "wamp.2.msgpack",
            Self::Cbor => "wamp.2.cbor",
        }
    }

    /// The serializer that a WebSocket subprotocol asks for.
    ///
    ///     use fanwire_codec::wamp2::Serializer;
    ///     assert_eq!(Serializer::from_subprotocol("wamp.2.msgpack"), Some(Serializer::MsgPack));
    ///     assert_eq!(Serializer::from_subprotocol("wamp"), None);
    pub fn from_subprotocol(subprotocol: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|serializer| serializer.subprotocol() == subprotocol)
    }

    /// The same for batches of messages (WAMP, "Message Batching").
    pub fn batched_subprotocol(self) -> &'static str {
        match self {
            Self::Json => "wamp.2.json.batched",
            Self::MsgPack => "wamp.2.msgpack.batched",
            Self::Cbor => "wamp.2.cbor.batched",
        }
    }

    /// Whether its messages travel as WebSocket text; else as binary. The other kind is a protocol error.
    pub fn is_text(self) -> bool {
        self == Self::Json
    }

    /// Its name for people and programs, such as `json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MsgPack => "msgpack",
            Self::Cbor => "cbor",
        }
    }

    /// Dense number, for arrays by serializer.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Serializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Largest id (WAMP, "IDs"): doubles hold every integer up to here.
pub const ID_MAX: u64 = 1 << 53;
