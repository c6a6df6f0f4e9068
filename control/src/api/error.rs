//! Why a request has no result: a stable code, a status, and words that name the field and say what to do.

use std::borrow::Cow;

use fanwire_codec::http::HttpError;
use fanwire_core::api::ApiRefusal;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::reload::{Flaw, Refused};

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $name:literal,)*) => {
        /// What programs tell errors apart by. Never changes its name or status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// As it stands in answers and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }

            /// The status of a response that is about this alone.
            pub const fn status(self) -> u16 {
                match self { $(Self::$code => $status,)* }
            }
        }
    };
}

codes! {
    /// The head or the framing of the body is no HTTP/1.1 that can be read in one way only.
    BadRequest = 400 "bad_request",
    /// The body is no JSON, or no object where one is due.
    InvalidJson = 400 "invalid_json",
    /// A field that does not exist, or twice.
    UnknownField = 400 "unknown_field",
    /// A field that must be there.
    MissingField = 400 "missing_field",
    /// A field's value cannot be what it is.
    InvalidField = 400 "invalid_field",
    /// A parameter of the query is unknown or wrong.
    InvalidQuery = 400 "invalid_query",
    /// No key, or a wrong one.
    Unauthorized = 401 "unauthorized",
    /// The key may not do this, or not in this realm, or not from this address, or a web page asks.
    Forbidden = 403 "forbidden",
    /// The role has no permission at this URI.
    NotAuthorized = 403 "not_authorized",
    /// Nothing is at this path.
    NotFound = 404 "not_found",
    /// No session with this id in a realm that the key may see.
    NoSuchSession = 404 "no_such_session",
    /// Nobody has registered the procedure.
    NoSuchProcedure = 404 "no_such_procedure",
    /// The path is right, the method is not.
    MethodNotAllowed = 405 "method_not_allowed",
    /// The request came too slowly.
    RequestTimeout = 408 "request_timeout",
    /// The idempotency key was used for another request.
    IdempotencyConflict = 409 "idempotency_conflict",
    /// The request with this idempotency key is being done.
    IdempotencyInProgress = 409 "idempotency_in_progress",
    /// The body, a line or a list is too long.
    TooLarge = 413 "too_large",
    /// The body's type is not the one that is read here.
    UnsupportedMediaType = 415 "unsupported_media_type",
    /// `Expect` with something else than `100-continue`.
    ExpectationFailed = 417 "expectation_failed",
    /// The connection is for the API; WebSocket and other paths need one of their own.
    Misdirected = 421 "misdirected",
    /// The callee answered with an error.
    CalleeError = 422 "callee_error",
    /// The configuration has errors; `problems` lists them.
    InvalidConfiguration = 422 "invalid_configuration",
    /// The router refused for a reason that `uri` names.
    Refused = 422 "refused",
    /// The callee has left, or its answer could not be passed on.
    CalleeFailed = 502 "callee_failed",
    /// Too much at once; try again.
    Overloaded = 503 "overloaded",
    /// The router ends.
    ShuttingDown = 503 "shutting_down",
    /// There was no answer in time; what was asked may still happen.
    Timeout = 504 "timeout",
}

/// An error, as it is answered.
#[derive(Debug)]
pub struct ApiError {
    /// What programs look at.
    pub code: Code,
    /// What people read: what is wrong and what to do.
    pub message: Cow<'static, str>,
    /// Path of the field, such as `options.eligible` or `publications[3].topic`.
    pub field: Option<String>,
    /// Where the JSON ends to be JSON: line and column, from 1.
    pub position: Option<(usize, usize)>,
    /// The error URI of WAMP or of the callee.
    pub uri: Option<Cow<'static, str>>,
    /// What a callee sent with its error: args and kwargs, JSON.
    pub payload: Option<Box<Payload>>,
    /// What is wrong with the configuration.
    pub problems: Option<Box<Problems>>,
    /// Overrides the code's status: those of a head that cannot be read.
    pub status: Option<u16>,
}

/// What is wrong with the configuration. An error is handed on by value, so it is kept small.
#[derive(Debug, Serialize)]
pub struct Problems(Vec<Flaw>);

/// Arguments in JSON, as they came.
#[derive(Debug, Default, Serialize)]
pub struct Payload {
    /// A list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
    /// An object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kwargs: Option<Box<RawValue>>,
}

impl ApiError {
    /// An error that is about no field.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let (field, position, uri, payload) = (None, None, None, None);
        Self { code, message, field, position, uri, payload, problems: None, status: None }
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Puts the field inside another.
    #[must_use]
    pub fn inside(mut self, outer: &str) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("{outer}.{field}"),
            None => outer.to_owned(),
        });
        self
    }

    /// The status of a response that is about this alone.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.code.status())
    }

    /// `{"error": {…}}`
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&Body { error: self }).expect("strings and numbers are written")
    }
}

/// What the router's refusal of a publication or a call is here.
impl From<ApiRefusal> for ApiError {
    fn from(refusal: ApiRefusal) -> Self {
        let code = match refusal.error {
            "wamp.error.not_authorized" => Code::NotAuthorized,
            "wamp.error.invalid_uri" => Code::InvalidField,
            "wamp.error.invalid_argument" => Code::InvalidField,
            "wamp.error.no_such_procedure" => Code::NoSuchProcedure,
            "wamp.error.no_such_session" => Code::NoSuchSession,
            "wamp.error.canceled" => Code::CalleeFailed,
            "wamp.error.unavailable" | "wamp.error.network_failure" => Code::Overloaded,
            _ => Code::Refused,
        };
        Self { uri: Some(refusal.error.into()), ..Self::new(code, refusal.words) }
    }
}

/// A reload that changed nothing.
impl From<&Refused> for ApiError {
    fn from(refused: &Refused) -> Self {
        match refused {
            Refused::Unable(words) => Self::new(Code::Overloaded, words.clone()),
            Refused::Flaws(flaws) => {
                let words = match flaws.len() {
                    1 => "nothing was changed: the configuration has an error".to_owned(),
                    count => format!("nothing was changed: the configuration has {count} errors"),
                };
                let problems = Some(Box::new(Problems(flaws.clone())));
                Self { problems, ..Self::new(Code::InvalidConfiguration, words) }
            }
        }
    }
}

/// A head that cannot be read.
impl From<HttpError> for ApiError {
    fn from(error: HttpError) -> Self {
        let code = match error.status() {
            413 | 414 | 431 => Code::TooLarge,
            _ => Code::BadRequest,
        };
        Self { status: Some(error.status()), ..Self::new(code, error.to_string()) }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a ApiError,
}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code.name())?;
        map.serialize_entry("message", &self.message)?;
        if let Some(field) = &self.field {
            map.serialize_entry("field", field)?;
        }
        if let Some((line, column)) = self.position {
            map.serialize_entry("line", &line)?;
            map.serialize_entry("column", &column)?;
        }
        if let Some(uri) = &self.uri {
            map.serialize_entry("uri", uri)?;
        }
        if let Some(problems) = &self.problems {
            map.serialize_entry("problems", problems)?;
        }
        if let Some(payload) = &self.payload {
            if let Some(args) = &payload.args {
                map.serialize_entry("args", args)?;
            }
            if let Some(kwargs) = &payload.kwargs {
                map.serialize_entry("kwargs", kwargs)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_an_object_that_names_the_field() {
        let error = ApiError::new(Code::InvalidField, "not a URI").field("topic").inside("publications[3]");
        assert_eq!(
            String::from_utf8(error.body()).expect("JSON is text"),
            r#"{"error":{"code":"invalid_field","message":"not a URI","field":"publications[3].topic"}}"#
        );
        assert_eq!(error.status(), 400);
    }

    #[test]
    fn the_description_has_each_code() {
        let described: serde_json::Value = serde_json::from_str(super::super::OPENAPI).expect("it is JSON");
        let codes = &described["components"]["schemas"]["Error"]["properties"]["code"]["enum"];
        let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(*codes, serde_json::json!(names));
    }

    #[test]
    fn codes_are_different_words() {
        let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let reason = fanwire_codec::http::reason_phrase(code.status());
            assert!(!reason.is_empty(), "{} has no reason phrase", code.status());
        }
    }
}
