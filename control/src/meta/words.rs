//! What arguments of meta procedures look like, and what is answered. All of it is JSON here, whatever the caller speaks.

use std::collections::HashMap;

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::ids::SessionId;
use fanwire_core::uri::{self, MatchPolicy, UriRule};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Error URIs (WAMP, "Predefined URIs" and "Meta API").
pub(super) mod error {
    pub(crate) const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";
    pub(crate) const INVALID_URI: &str = "wamp.error.invalid_uri";
    pub(crate) const NOT_AUTHORIZED: &str = "wamp.error.not_authorized";
    pub(crate) const NO_SUCH_PROCEDURE: &str = "wamp.error.no_such_procedure";
    pub(crate) const NO_SUCH_REGISTRATION: &str = "wamp.error.no_such_registration";
    pub(crate) const NO_SUCH_PUBLICATION: &str = "wamp.error.no_such_publication";
    pub(crate) const NO_SUCH_SUBSCRIPTION: &str = "wamp.error.no_such_subscription";
    pub(crate) const NO_SUCH_SESSION: &str = "wamp.error.no_such_session";
    pub(crate) const PAYLOAD_SIZE_EXCEEDED: &str = "wamp.error.payload_size_exceeded";
    pub(crate) const UNAVAILABLE: &str = "wamp.error.unavailable";
}

/// Why a call has no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// One of [`error`].
    pub(super) uri: &'static str,
    /// For people: what, where and what to do.
    pub(super) words: String,
}

impl Refused {
    pub(super) fn new(uri: &'static str, words: String) -> Self {
        Self { uri, words }
    }

    /// It is no mistake of the caller's.
    pub(super) fn is_ours(&self) -> bool {
        self.uri == error::UNAVAILABLE
    }

    pub(super) fn argument(words: String) -> Self {
        Self::new(error::INVALID_ARGUMENT, words)
    }
}

/// What a result has, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said(pub(super) Option<OwnedPayload>);

impl Said {
    pub(super) const NOTHING: Self = Self(None);

    /// One value.
    pub(super) fn one(value: &impl Serialize) -> Self {
        let args = serde_json::to_string(&[value]).expect("answers are plain values");
        let payload = OwnedPayload::checked(Serializer::Json, Some(args.as_bytes()), None);
        Self(Some(payload.expect("it was written as a list")))
    }
}

/// The arguments of a call.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    args: Vec<&'a RawValue>,
    kwargs: HashMap<String, &'a RawValue>,
}

impl<'a> Arguments<'a> {
    /// `payload`: in JSON.
    pub(super) fn read(payload: &'a OwnedPayload) -> Result<Self, Refused> {
        let view = payload.view();
        let wrong =
            |error: serde_json::Error| Refused::argument(format!("the arguments cannot be read: {error}"));
        let args = view.args.map(serde_json::from_slice).transpose().map_err(wrong)?.unwrap_or_default();
        let kwargs = view.kwargs.map(serde_json::from_slice).transpose().map_err(wrong)?.unwrap_or_default();
        Ok(Self { args, kwargs })
    }

    /// Refuses what nobody asked for: a misspelt name must not look as if it had acted.
    pub(super) fn expect(&self, args_max: usize, keywords: &[&str]) -> Result<(), Refused> {
        if self.args.len() > args_max {
            let words =
                format!("there are {} positional arguments, and {args_max} are known", self.args.len());
            return Err(Refused::argument(words));
        }
        match self.kwargs.keys().find(|name| !keywords.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if keywords.is_empty() => {
                Err(Refused::argument(format!("there is no keyword argument {name:?}, nor any other")))
            }
            Some(name) => {
                let known = keywords.join(", ");
                Err(Refused::argument(format!("there is no keyword argument {name:?}; known: {known}")))
            }
        }
    }

    /// The positional argument at this place, if it is there and not null.
    pub(super) fn positional(&self, place: usize) -> Option<&'a RawValue> {
        self.args.get(place).copied().filter(|value| value.get() != "null")
    }

    /// The keyword argument of this name, if it is there and not null.
    pub(super) fn keyword(&self, name: &str) -> Option<&'a RawValue> {
        self.kwargs.get(name).copied().filter(|value| value.get() != "null")
    }

    /// The id at this place. `what` it is one of.
    pub(super) fn id(&self, place: usize, what: &str) -> Result<u64, Refused> {
        let id = self.positional(place).and_then(|value| whole(value.get()));
        id.filter(|id| (1..=SessionId::MAX.get()).contains(id)).ok_or_else(|| {
            Refused::argument(format!(
                "positional argument {place} must be the id of a {what}, a whole number from 1 to 2^53"
            ))
        })
    }

    /// The string at this place. `what` it is.
    pub(super) fn text(&self, place: usize, what: &str) -> Result<String, Refused> {
        let text = self.positional(place).and_then(|value| serde_json::from_str(value.get()).ok());
        text.ok_or_else(|| Refused::argument(format!("positional argument {place} must be {what}, a string")))
    }

    /// The list of strings at this place, if it is there.
    pub(super) fn texts(&self, place: usize, what: &str) -> Result<Option<Vec<String>>, Refused> {
        let list = || format!("positional argument {place} must be {what}, a list of strings, or left out");
        self.positional(place).map(|value| parse(value, list)).transpose()
    }

    /// The keyword argument of this name, a string, if it is there.
    pub(super) fn text_of(&self, name: &str) -> Result<Option<String>, Refused> {
        self.keyword(name).map(|value| parse(value, || format!("{name} must be a string"))).transpose()
    }

    /// The URI of a topic or procedure at this place.
    pub(super) fn uri(&self, place: usize, what: &str) -> Result<String, Refused> {
        let uri = self.text(place, what)?;
        match uri::check_topic(&uri, UriRule::Loose) {
            Ok(()) => Ok(uri),
            Err(why) => Err(Refused::new(error::INVALID_URI, format!("{uri:?}: {why}"))),
        }
    }

    /// The policy of the options at this place, which are those of SUBSCRIBE or REGISTER.
    pub(super) fn policy(&self, place: usize) -> Result<MatchPolicy, Refused> {
        #[derive(Deserialize)]
        struct Options {
            #[serde(rename = "match")]
            policy: Option<String>,
        }
        let dictionary =
            || format!("positional argument {place} must be the options, a dictionary, or left out");
        let options: Option<Options> =
            self.positional(place).map(|value| parse_dict(value, dictionary)).transpose()?;
        match options.and_then(|options| options.policy) {
            None => Ok(MatchPolicy::Exact),
            Some(name) => MatchPolicy::from_name(&name).ok_or_else(|| {
                Refused::argument(format!("match is {name:?}, and must be exact, prefix or wildcard"))
            }),
        }
    }

    /// The `reason` of a revocation, at this place or by its name: words or a URI, as one likes.
    pub(super) fn reason_at(&self, place: usize) -> Result<Box<str>, Refused> {
        let Some(value) = self.positional(place).or_else(|| self.keyword("reason")) else {
            return Ok(Box::default());
        };
        let reason: Box<str> = parse(value, || "reason must be a string".to_owned())?;
        if reason.len() > MESSAGE_BYTES_MAX {
            return Err(Refused::argument(format!("reason has more than {MESSAGE_BYTES_MAX} bytes")));
        }
        Ok(reason)
    }

    /// The `reason` and `message` with which something is taken from somebody.
    pub(super) fn reason(&self, default: &str) -> Result<(Box<str>, Option<Box<str>>), Refused> {
        let reason = match self.keyword("reason") {
            None => default.into(),
            Some(value) => {
                let reason: Option<Box<str>> = serde_json::from_str(value.get()).ok();
                reason.filter(|reason| uri::check_topic(reason, UriRule::Loose).is_ok()).ok_or_else(|| {
                    let words = format!(
                        "reason is {}, and must be a URI such as \"com.example.banned\"",
                        value.get()
                    );
                    Refused::new(error::INVALID_URI, words)
                })?
            }
        };
        let text = || "message must be a string".to_owned();
        let message: Option<Box<str>> =
            self.keyword("message").map(|value| parse(value, text)).transpose()?;
        if message.as_ref().is_some_and(|message| message.len() > MESSAGE_BYTES_MAX) {
            return Err(Refused::argument(format!("message has more than {MESSAGE_BYTES_MAX} bytes")));
        }
        Ok((reason, message))
    }
}

/// The whole number that this JSON says. Clients for JavaScript have one type of numbers, and send great ones as floats.
pub(super) fn whole(json: &str) -> Option<u64> {
    let exact = || json.parse().ok();
    let float = || json.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && *number >= 0.0);
    exact().or_else(|| float().map(|number| number as u64))
}

/// A dictionary as this type, or words that say what it must be. Lists would do for the parser.
pub(super) fn parse_dict<T: DeserializeOwned>(
    value: &RawValue,
    words: impl FnOnce() -> String,
) -> Result<T, Refused> {
    if value.get().starts_with('{') { parse(value, words) } else { Err(Refused::argument(words())) }
}

/// A value of this type, or words that say what it must be.
pub(super) fn parse<T: DeserializeOwned>(
    value: &RawValue,
    words: impl FnOnce() -> String,
) -> Result<T, Refused> {
    serde_json::from_str(value.get()).map_err(|_| Refused::argument(words()))
}

/// It goes to each session that is sent away.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn whole_numbers_may_be_written_as_floats() {
        for (json, number) in [
            ("1", Some(1)),
            ("7.0", Some(7)),
            ("9007199254740992.0", Some(1 << 53)),
            ("9007199254740992", Some(1 << 53)),
            ("3e3", Some(3000)),
            ("1.5", None),
            ("-1.0", None),
            ("-1", None),
            ("\"1\"", None),
            ("true", None),
        ] {
            assert_eq!(whole(json), number, "{json}");
        }
    }
}
