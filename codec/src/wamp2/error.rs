//! Why a message was not decoded. Two very different cases: the peer broke the protocol and its session must end, or it
//! asked for something in a wrong way and gets an ERROR for that one request.

use std::fmt;

use super::message::type_name;
use crate::malformed::Malformed;

/// Why [`decode`](super::decode) gave no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// ABORT with `wamp.error.protocol_violation` and these words, then close (WAMP, "Protocol Errors").
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The message is sound as a whole; answer its request with an ERROR and go on.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A breach of the protocol. `Display` gives the words for ABORT's `message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Type code of the message, if it could be read.
    pub message_type: Option<u64>,
    /// What is wrong.
    pub kind: ViolationKind,
}

/// What is wrong with a message as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViolationKind {
    /// Not well-formed in its serializer.
    Malformed(Malformed),
    /// Well-formed, but not a list.
    NotAList,
    /// The type code is none that WAMP defines.
    UnknownType,
    /// The list ends before this element.
    Missing {
        /// The element, as the specification calls it.
        element: &'static str,
    },
    /// The list goes on behind its last element.
    TooLong,
    /// An element has the wrong type.
    WrongElement {
        /// The element, as the specification calls it.
        element: &'static str,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// A known key of a details dictionary has the wrong type or an unknown value, in a message that has no answer.
    WrongKey {
        /// The key.
        key: &'static str,
        /// What its value should be, with its article.
        expected: &'static str,
    },
    /// A key occurs twice in an options or details dictionary: check and use could see different values.
    DuplicateKey,
    /// More keys in an options or details dictionary than this.
    TooManyKeys {
        /// The limit.
        keys_max: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.message_type.and_then(type_name).unwrap_or("the message");
        match self.kind {
            ViolationKind::Malformed(malformed) => write!(f, "{name} has {malformed}"),
            ViolationKind::NotAList => f.write_str("the message is not a list"),
            ViolationKind::UnknownType => match self.message_type {
                Some(code) => write!(f, "{code} is no message type"),
                None => f.write_str("the message's type is no integer"),
            },
            ViolationKind::Missing { element } => write!(f, "{name} ends before {element}"),
            ViolationKind::TooLong => write!(f, "{name} has too many elements"),
            ViolationKind::WrongElement { element, expected } => {
                write!(f, "{name}: {element} must be {expected}")
            }
            ViolationKind::WrongKey { key, expected } => write!(f, "{name}: \"{key}\" must be {expected}"),
            ViolationKind::DuplicateKey => write!(f, "{name} has a key twice in its options or details"),
            ViolationKind::TooManyKeys { keys_max } => {
                write!(f, "{name} has more than {keys_max} keys in its options or details")
            }
        }
    }
}

impl std::error::Error for Violation {}

/// A request that can be refused alone. `Display` gives the words for the ERROR's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// Type code of the request, for ERROR's `REQUEST.Type`.
    pub request_type: u64,
    /// Id of the request.
    pub request: u64,
    /// The error to answer with.
    pub error_uri: &'static str,
    /// Whether the peer waits for an answer: false for a PUBLISH without `acknowledge`, whose publisher would take an
    /// ERROR for a breach of the protocol, and for a YIELD with a part of a result, whose call has failed.
    pub is_answered: bool,
    /// The key or element at fault, as the specification calls it.
    pub subject: &'static str,
    /// What it should be, with its article.
    pub expected: &'static str,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = type_name(self.request_type).unwrap_or("the request");
        write!(f, "{name}: \"{}\" must be {}", self.subject, self.expected)
    }
}

impl std::error::Error for RequestError {}

/// URI of the error for options and arguments of a wrong type.
pub(super) const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";

impl From<Malformed> for ViolationKind {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<ViolationKind> for DecodeError {
    /// Without the message's type, which the decoder adds.
    fn from(kind: ViolationKind) -> Self {
        Self::Violation(Violation { message_type: None, kind })
    }
}
