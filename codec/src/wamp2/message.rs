//! The messages themselves.

use std::borrow::Cow;

use super::options::{
    CallOptions, CancelMode, EventDetails, HelloDetails, InterruptOptions, InvocationDetails, PublishOptions,
    RegisterOptions, ResultDetails, SubscribeOptions, WelcomeDetails, YieldOptions,
};
use super::passthru::Passthru;

/// Application payload: the bytes of `Arguments` and `ArgumentsKw` in the message's serializer, validated, untouched.
///
/// `None` is an element that is not there (or null, which some clients send).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// A list.
    pub args: Option<&'a [u8]>,
    /// A dictionary.
    pub kwargs: Option<&'a [u8]>,
    /// What is said of it in options or details, where it is for its receivers alone to understand.
    pub passthru: Option<Passthru<'a>>,
}

impl Payload<'_> {
    /// No arguments at all.
    pub const EMPTY: Payload<'static> = Payload { args: None, kwargs: None, passthru: None };

    /// Bytes of both, without what is said of them.
    pub fn bytes(&self) -> usize {
        self.args.map_or(0, <[u8]>::len) + self.kwargs.map_or(0, <[u8]>::len)
    }

    /// The same with what is said of them, which may be as long as any argument.
    pub fn bytes_max(&self) -> usize {
        self.bytes() + self.passthru.map_or(0, Passthru::bytes_max)
    }
}

/// One WAMP message. Names are the specification's; ids are in 1..=2^53; URIs are any string, their rules are the
/// router's. Messages of both directions are here, since the load generator and the command line are clients.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the elements that WAMP defines under these names")]
pub enum Message<'a> {
    /// Opens a session; the first message of a client.
    Hello {
        realm: Cow<'a, str>,
        details: HelloDetails<'a>,
    },
    /// The session is open.
    Welcome {
        session: u64,
        details: WelcomeDetails<'a>,
    },
    /// The session is refused or broken off; never answered. `message` are words for people.
    Abort {
        reason: Cow<'a, str>,
        message: Option<Cow<'a, str>>,
    },
    /// The router asks for a proof of identity. `extra` are the bytes of a dictionary (empty: none).
    Challenge {
        method: Cow<'a, str>,
        extra: &'a [u8],
    },
    /// The proof. `extra` are the bytes of a dictionary (empty: none).
    Authenticate {
        signature: Cow<'a, str>,
        extra: &'a [u8],
    },
    /// Closes a session; answered by another one.
    Goodbye {
        reason: Cow<'a, str>,
        message: Option<Cow<'a, str>>,
    },
    /// The request of this type and id failed.
    Error {
        request_type: u64,
        request: u64,
        error: Cow<'a, str>,
        payload: Payload<'a>,
    },
    Publish {
        request: u64,
        options: PublishOptions<'a>,
        topic: Cow<'a, str>,
        payload: Payload<'a>,
    },
    Published {
        request: u64,
        publication: u64,
    },
    Subscribe {
        request: u64,
        options: SubscribeOptions,
        topic: Cow<'a, str>,
    },
    Subscribed {
        request: u64,
        subscription: u64,
    },
    Unsubscribe {
        request: u64,
        subscription: u64,
    },
    Unsubscribed {
        request: u64,
    },
    Event {
        subscription: u64,
        publication: u64,
        details: EventDetails<'a>,
        payload: Payload<'a>,
    },
    Call {
        request: u64,
        options: CallOptions,
        procedure: Cow<'a, str>,
        payload: Payload<'a>,
    },
    /// The caller wants no result any more.
    Cancel {
        request: u64,
        mode: Option<CancelMode>,
    },
    Result {
        request: u64,
        details: ResultDetails,
        payload: Payload<'a>,
    },
    Register {
        request: u64,
        options: RegisterOptions,
        procedure: Cow<'a, str>,
    },
    Registered {
        request: u64,
        registration: u64,
    },
    Unregister {
        request: u64,
        registration: u64,
    },
    Unregistered {
        request: u64,
    },
    Invocation {
        request: u64,
        registration: u64,
        details: InvocationDetails<'a>,
        payload: Payload<'a>,
    },
    /// The callee should stop working on the invocation.
    Interrupt {
        request: u64,
        options: InterruptOptions<'a>,
    },
    Yield {
        request: u64,
        options: YieldOptions,
        payload: Payload<'a>,
    },
}

impl Message<'_> {
    /// The code in the first element.
    pub fn type_code(&self) -> u64 {
        match self {
            Self::Hello { .. } => code::HELLO,
            Self::Welcome { .. } => code::WELCOME,
            Self::Abort { .. } => code::ABORT,
            Self::Challenge { .. } => code::CHALLENGE,
            Self::Authenticate { .. } => code::AUTHENTICATE,
            Self::Goodbye { .. } => code::GOODBYE,
            Self::Error { .. } => code::ERROR,
            Self::Publish { .. } => code::PUBLISH,
            Self::Published { .. } => code::PUBLISHED,
            Self::Subscribe { .. } => code::SUBSCRIBE,
            Self::Subscribed { .. } => code::SUBSCRIBED,
            Self::Unsubscribe { .. } => code::UNSUBSCRIBE,
            Self::Unsubscribed { .. } => code::UNSUBSCRIBED,
            Self::Event { .. } => code::EVENT,
            Self::Call { .. } => code::CALL,
            Self::Cancel { .. } => code::CANCEL,
            Self::Result { .. } => code::RESULT,
            Self::Register { .. } => code::REGISTER,
            Self::Registered { .. } => code::REGISTERED,
            Self::Unregister { .. } => code::UNREGISTER,
            Self::Unregistered { .. } => code::UNREGISTERED,
            Self::Invocation { .. } => code::INVOCATION,
            Self::Interrupt { .. } => code::INTERRUPT,
            Self::Yield { .. } => code::YIELD,
        }
    }

    /// The specification's name of the message, for logs and words.
    pub fn name(&self) -> &'static str {
        type_name(self.type_code()).expect("every message has a name")
    }
}

/// Type codes (WAMP, "Message Codes and Direction" and "Additional Messages").
#[allow(missing_docs, reason = "the names say it all")]
pub mod code {
    pub const HELLO: u64 = 1;
    pub const WELCOME: u64 = 2;
    pub const ABORT: u64 = 3;
    pub const CHALLENGE: u64 = 4;
    pub const AUTHENTICATE: u64 = 5;
    pub const GOODBYE: u64 = 6;
    pub const ERROR: u64 = 8;
    pub const PUBLISH: u64 = 16;
    pub const PUBLISHED: u64 = 17;
    pub const SUBSCRIBE: u64 = 32;
    pub const SUBSCRIBED: u64 = 33;
    pub const UNSUBSCRIBE: u64 = 34;
    pub const UNSUBSCRIBED: u64 = 35;
    pub const EVENT: u64 = 36;
    pub const CALL: u64 = 48;
    pub const CANCEL: u64 = 49;
    pub const RESULT: u64 = 50;
    pub const REGISTER: u64 = 64;
    pub const REGISTERED: u64 = 65;
    pub const UNREGISTER: u64 = 66;
    pub const UNREGISTERED: u64 = 67;
    pub const INVOCATION: u64 = 68;
    pub const INTERRUPT: u64 = 69;
    pub const YIELD: u64 = 70;
}

/// The specification's name of a type code, if it is one.
pub fn type_name(type_code: u64) -> Option<&'static str> {
    Some(match type_code {
        code::HELLO => "HELLO",
        code::WELCOME => "WELCOME",
        code::ABORT => "ABORT",
        code::CHALLENGE => "CHALLENGE",
        code::AUTHENTICATE => "AUTHENTICATE",
        code::GOODBYE => "GOODBYE",
        code::ERROR => "ERROR",
        code::PUBLISH => "PUBLISH",
        code::PUBLISHED => "PUBLISHED",
        code::SUBSCRIBE => "SUBSCRIBE",
        code::SUBSCRIBED => "SUBSCRIBED",
        code::UNSUBSCRIBE => "UNSUBSCRIBE",
        code::UNSUBSCRIBED => "UNSUBSCRIBED",
        code::EVENT => "EVENT",
        code::CALL => "CALL",
        code::CANCEL => "CANCEL",
        code::RESULT => "RESULT",
        code::REGISTER => "REGISTER",
        code::REGISTERED => "REGISTERED",
        code::UNREGISTER => "UNREGISTER",
        code::UNREGISTERED => "UNREGISTERED",
        code::INVOCATION => "INVOCATION",
        code::INTERRUPT => "INTERRUPT",
        code::YIELD => "YIELD",
        _ => return None,
    })
}
