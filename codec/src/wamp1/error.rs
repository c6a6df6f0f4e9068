//! Why a message was not decoded.

use std::borrow::Cow;
use std::fmt;

use super::type_name;
use crate::malformed::Malformed;
use crate::wamp2::RECEIVERS_MAX;

/// Why [`decode`](super::decode) gave no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError<'a> {
    /// The session must end: close 1002 with these words.
    #[error("{0}")]
    Violation(Violation),
    /// The message is sound as a whole, and its request alone is refused.
    #[error("{why}")]
    Request {
        /// Of a CALL, which has an answer; nothing else has.
        call_id: Option<Cow<'a, str>>,
        /// What is wrong.
        why: Refused,
    },
}

/// A breach of the protocol. `Display` gives the words for a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Not well-formed.
    Malformed(Malformed),
    /// Well-formed, but no array.
    NoArray,
    /// The first element is no integer.
    NoType,
    /// There is no such type of messages.
    UnknownType(u64),
    /// Only servers say that.
    OfServers(u64),
    /// The array ends before this element.
    Missing {
        /// The message's type.
        of: u64,
        /// What is missing.
        element: &'static str,
    },
    /// An element is of another type than it should be.
    Wrong {
        /// The message's type.
        of: u64,
        /// Which one.
        element: &'static str,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// PUBLISH goes on behind its last element.
    TooLong,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |code: u64| type_name(code).unwrap_or("the message");
        match *self {
            Self::Malformed(malformed) => write!(f, "the message has {malformed}"),
            Self::NoArray => f.write_str("the message is no array"),
            Self::NoType => f.write_str("the message's type is no integer"),
            Self::UnknownType(code) => write!(f, "{code} is no message type of WAMP version 1"),
            Self::OfServers(code) => write!(f, "{} is sent by servers only", name(code)),
            Self::Missing { of, element } => write!(f, "{} ends before {element}", name(of)),
            Self::Wrong { of, element, expected } => {
                write!(f, "{}: {element} must be {expected}", name(of))
            }
            Self::TooLong => f.write_str("PUBLISH has too many elements"),
        }
    }
}

impl std::error::Error for Violation {}

impl From<Malformed> for Violation {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl<T: Into<Violation>> From<T> for DecodeError<'_> {
    fn from(violation: T) -> Self {
        Self::Violation(violation.into())
    }
}

/// Why a request is refused alone. `Display` gives words for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// [`Malformed::is_only_unportable`]: what is published or passed on has it, and would break the receivers.
    Unportable(Malformed),
    /// More than [`RECEIVERS_MAX`] sessions are excluded and eligible.
    TooManyReceivers,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unportable(malformed) => write!(f, "the message has {malformed}, which few can read"),
            Self::TooManyReceivers => {
                write!(f, "PUBLISH excludes and names more than {RECEIVERS_MAX} sessions")
            }
        }
    }
}
