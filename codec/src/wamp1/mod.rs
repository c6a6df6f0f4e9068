//! WAMP version 1: the messages of its clients, and what they are told. JSON arrays in text messages, nothing else.
//!
//! ```text
//! bytes ─ decode ─▶ Message { strings, raw slices of JSON }        encode_* ─▶ bytes
//! ```
//!
//! Version 1 has no maintained specification; what is done here is what its clients need, and where its servers differ, what
//! Autobahn's does. Strings are borrowed unless they have escapes, and what is published or passed to a procedure stays the
//! sender's bytes. What a CURIE stands for is not decided here.
//!
//! Events, results and errors are one value here, and lists of arguments with keywords in version 2: [`encode_event`],
//! [`encode_result`] and [`encode_error`] say how.

mod decode;
mod encode;
mod error;

use std::borrow::Cow;

use crate::wamp2::ReceiverLists;

pub use decode::{decode, first_text};
pub use encode::{encode_error, encode_event, encode_refusal, encode_result, encode_welcome};
pub use error::{DecodeError, Refused, Violation};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "wamp";

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// From now on CURIEs with this prefix stand for what begins with this URI.
    Prefix {
        /// Without the colon.
        prefix: Cow<'a, str>,
        /// As the client sent it.
        uri: Cow<'a, str>,
    },
    /// A procedure is to be called.
    Call {
        /// The client's own name for the call, for the answer to repeat.
        call_id: Cow<'a, str>,
        /// A URI or a CURIE.
        procedure: Cow<'a, str>,
        /// The arguments with commas between them, without brackets; empty: none.
        args: &'a [u8],
    },
    /// Events of a topic are wanted.
    Subscribe {
        /// A URI or a CURIE.
        topic: Cow<'a, str>,
    },
    /// They are not any more.
    Unsubscribe {
        /// The same, or another name for it.
        topic: Cow<'a, str>,
    },
    /// An event for a topic's subscribers.
    Publish {
        /// A URI or a CURIE.
        topic: Cow<'a, str>,
        /// Any value.
        event: &'a [u8],
        /// Whether the publisher does not get it, though it is subscribed.
        exclude_me: bool,
        /// Whom it is for, unless for all subscribers.
        receivers: Option<Box<ReceiverLists<'static>>>,
    },
}

/// Codes of message types.
mod code {
    pub(super) const WELCOME: u64 = 0;
    pub(super) const PREFIX: u64 = 1;
    pub(super) const CALL: u64 = 2;
    pub(super) const CALLRESULT: u64 = 3;
    pub(super) const CALLERROR: u64 = 4;
    pub(super) const SUBSCRIBE: u64 = 5;
    pub(super) const UNSUBSCRIBE: u64 = 6;
    pub(super) const PUBLISH: u64 = 7;
    pub(super) const EVENT: u64 = 8;
}

/// The name of a message type.
fn type_name(code: u64) -> Option<&'static str> {
    Some(match code {
        code::WELCOME => "WELCOME",
        code::PREFIX => "PREFIX",
        code::CALL => "CALL",
        code::CALLRESULT => "CALLRESULT",
        code::CALLERROR => "CALLERROR",
        code::SUBSCRIBE => "SUBSCRIBE",
        code::UNSUBSCRIBE => "UNSUBSCRIBE",
        code::PUBLISH => "PUBLISH",
        code::EVENT => "EVENT",
        _ => return None,
    })
}
