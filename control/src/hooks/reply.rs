//! What a hook's reply means.
//!
//! | status | body | |
//! |---|---|---|
//! | 200 | empty | allowed |
//! | 200 | a JSON object | allowed, unless it has `"allow": false`, or `error` without `"allow": true` |
//! | 204 | | allowed |
//! | 401, 403 | anything; a JSON object may have `error` and `message` | denied |
//! | anything else | | a failure |
//!
//! For a login, a reply that names nobody and does not say `"allow": true` is a failure.

use std::fmt;

use bytes::Bytes;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::ANONYMOUS_AUTHID_PREFIX;
use fanwire_core::access::Access;
use fanwire_core::login::Proof;
use fanwire_core::question::{Answer, Denial, Grant, Question, Remember, Subject, Told};
use fanwire_core::uri::{UriRule, check_topic};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An answer that came over the network, whole.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A hook's decision. It is the same for all equal questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply(pub(super) Result<Grant, Denial>);

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No reply in time.
    Timeout,
    /// No connection, or it broke off.
    Unreachable(String),
    /// It sends elsewhere, which is not followed.
    Redirect(u16),
    /// A status that says neither yes nor no.
    Status(u16),
    /// A reply of more than 64 KiB.
    TooLarge,
    /// A reply that cannot be understood.
    Invalid(String),
    /// It was not asked, because what the client says has no form in which it could be. The client is told these words.
    Untranslatable(&'static str),
    /// It was not asked, because it has failed too often.
    BreakerOpen,
    /// The shard had no room to call the procedure in time.
    NotCalled,
    /// The procedure's callee answered with this error.
    Callee(String),
    /// A bug of the router's.
    Panicked,
}

impl Failure {
    /// Whether it says that the hook does not work. What a client can bring about does not: else one client could make the
    /// hook be left alone, and all others be refused.
    pub(super) fn is_of_hook(&self) -> bool {
        match self {
            // Request timeout and too many requests are about the hook's load, all others about this one request.
            Self::Status(status) => !(400..=499).contains(status) || matches!(status, 408 | 429),
            // What a callee raises may be about this one client.
            Self::Untranslatable(_)
            | Self::NotCalled
            | Self::BreakerOpen
            | Self::Panicked
            | Self::Callee(_) => false,
            _ => true,
        }
    }

    /// Whether it was asked: then its silence, or its nonsense, may be about this one client.
    pub(super) fn was_asked(&self) -> bool {
        matches!(self, Self::Timeout | Self::TooLarge | Self::Invalid(_) | Self::Callee(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no reply in time"),
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::Redirect(status) => {
                write!(
                    f,
                    "it redirects (status {status}), which is not followed: configure the address itself"
                )
            }
            Self::Status(status) => {
                write!(f, "status {status} is no answer: 200 and 204 allow, 401 and 403 deny")
            }
            Self::TooLarge => f.write_str("the reply has more than 64 KiB"),
            Self::Invalid(why) => write!(f, "the reply cannot be understood: {why}"),
            Self::Untranslatable(why) => write!(f, "it cannot be asked that: {why}"),
            Self::BreakerOpen => f.write_str("it has failed too often to be asked now"),
            Self::NotCalled => f.write_str("it could not be called in time: the shard is behind"),
            Self::Callee(error) => write!(f, "its callee answers with the error {error}"),
            Self::Panicked => f.write_str("the router panicked over it"),
        }
    }
}

/// Of the hook's words for a client.
const MESSAGE_CHARACTERS_MAX: usize = 512;
/// Of a name that a hook gives somebody.
const NAME_BYTES_MAX: usize = 255;

/// The fields of a body that are looked at. Others may be there.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    pub(super) allow: Option<bool>,
    pub(super) uid: Option<Name>,
    pub(super) authid: Option<Name>,
    pub(super) role: Option<String>,
    pub(super) extra: Option<Box<RawValue>>,
    pub(super) disclose: Option<bool>,
    pub(super) cache: Option<bool>,
    pub(super) error: Option<String>,
    pub(super) message: Option<String>,
}

/// Databases like numbers.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    Text(String),
    Number(i64),
    Large(u64),
}

impl Default for Reply {
    fn default() -> Self {
        Self(Ok(Grant { provider: "hook", ..Grant::default() }))
    }
}

impl From<Result<Grant, Denial>> for Reply {
    fn from(outcome: Result<Grant, Denial>) -> Self {
        Self(outcome)
    }
}

impl Reply {
    /// Roughly what keeping it takes, beside a fixed size.
    pub(super) fn bytes(&self) -> usize {
        let of = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        match &self.0 {
            Ok(grant) => {
                let remembered = grant.remember.as_ref().and_then(|remember| remember.extra.as_deref());
                let payloads = grant.extra.as_deref().into_iter().chain(remembered).chain(grant.payload());
                of(&grant.authid) + payloads.map(OwnedPayload::len).sum::<usize>()
            }
            Err(Denial::Told(told)) => of(&told.error) + of(&told.message),
            Err(_) => 0,
        }
    }

    /// The verdict for one of the questions.
    pub(super) fn outcome(&self) -> Result<Grant, Denial> {
        self.0.clone()
    }

    /// Whether it says yes.
    pub(super) fn is_allowed(&self) -> bool {
        self.0.is_ok()
    }

    /// What was decided on this question. `role` is that of who is let in without one.
    pub(super) fn understand(
        received: &Received,
        question: &Question,
        access: &Access,
        role: Option<&str>,
    ) -> Result<Self, Failure> {
        let asked =
            Asked { access, realm: access.realm_name(question.realm), subject: &question.subject, role };
        asked.understand(received)
    }
}

/// What the meaning of a reply hangs on.
pub(super) struct Asked<'a> {
    pub(super) access: &'a Access,
    pub(super) realm: &'a str,
    pub(super) subject: &'a Subject,
    pub(super) role: Option<&'a str>,
}

impl Asked<'_> {
    pub(super) fn understand(&self, received: &Received) -> Result<Reply, Failure> {
        let body = received.body.trim_ascii();
        match received.status {
            200 | 204 if matches!(self.subject, Subject::Message { .. }) => answer_to_message(body),
            200 | 204 if matches!(self.subject, Subject::Rpc { .. }) => answer_to_call(body),
            // Nobody waits for what it says.
            200..=299 if matches!(self.subject, Subject::Disconnect { .. }) => Ok(Reply::default()),
            200 if !body.is_empty() => {
                let fields = object(body).map_err(|why| {
                    Failure::Invalid(format!("the body is not the JSON object of an answer: {why}"))
                })?;
                // Who writes an error means no, even where he leaves out to say it.
                if fields.allow == Some(false) || fields.error.is_some() && fields.allow != Some(true) {
                    return Ok(Reply(Err(denial(fields))));
                }
                self.grant(fields)
            }
            200 | 204 => self.grant(Fields::default()),
            401 | 403 => Ok(Reply(Err(denial(object(body).unwrap_or_default())))),
            status @ 300..=399 => Err(Failure::Redirect(status)),
            status => Err(Failure::Status(status)),
        }
    }

    pub(super) fn grant(&self, fields: Fields) -> Result<Reply, Failure> {
        let (is_login, claimed) = match self.subject {
            Subject::Login { authid, .. } | Subject::Hello { authid, .. } => (true, authid.as_deref()),
            Subject::Connect { authid, .. } => (false, authid.as_deref()),
            Subject::Publish { .. }
            | Subject::Call { .. }
            | Subject::Subscribe { .. }
            | Subject::Register { .. } => {
                // What is kept is the URI: who decides by what is published has to see the next one.
                let by_payload = matches!(self.subject, Subject::Publish { payload: Some(_), .. });
                let (disclose, keep) = (fields.disclose, fields.cache == Some(true) && !by_payload);
                return Ok(Reply(Ok(Grant { provider: "hook", disclose, keep, ..Grant::default() })));
            }
            // About anything else there is no more to say than yes.
            _ => return Ok(Reply::default()),
        };
        // The client's fault, which must not make the hook look broken, not even one that gives the name back.
        if is_login && claimed.is_some_and(|claimed| !is_name(claimed)) {
            return Ok(Reply(Err(Denial::Refused)));
        }
        let allow = fields.allow;
        let authid = fields.authid.or(fields.uid).map(|name| match name {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
            Name::Large(number) => number.to_string(),
        });
        match (&authid, claimed) {
            (Some(authid), _) if !is_name(authid) => {
                let rule =
                    "it has 1 to 255 bytes, no control characters, and does not begin with \"anonymous-\"";
                return Err(Failure::Invalid(format!("{authid:?} cannot be an authid: {rule}")));
            }
            (None, None) if is_login && !self.is_anonymous() => {
                let words =
                    "it lets somebody in whom neither client nor reply names: it needs \"authid\" or \"uid\"";
                return Err(Failure::Invalid(words.to_owned()));
            }
            // "200 {}" is what many a page says to whatever it is asked.
            (None, Some(_)) if is_login && allow != Some(true) => {
                let words = "it neither names who logs in nor says \"allow\": true: it needs \"authid\", \"uid\" or that";
                return Err(Failure::Invalid(words.to_owned()));
            }
            _ => {}
        }
        let role = match fields.role.as_deref().or(self.role.filter(|_| is_login)) {
            Some(name) => {
                let realm = self.access.realm(self.realm).expect("it is a realm's name");
                let role = self.access.role(realm, name);
                let unknown = || format!("realm {:?} has no role {name:?}", self.realm);
                Some(role.ok_or_else(|| Failure::Invalid(unknown()))?)
            }
            None if is_login => {
                let words =
                    "it lets somebody in without a role: it needs \"role\", or set the hook's key role";
                return Err(Failure::Invalid(words.to_owned()));
            }
            None => None,
        };
        let dictionary = |extra: Box<RawValue>| {
            OwnedPayload::checked(Serializer::Json, None, Some(extra.get().as_bytes()))
                .map(Box::new)
                .map_err(|_| Failure::Invalid("\"extra\" is not an object".to_owned()))
        };
        let extra = fields.extra.map(dictionary).transpose()?;
        let authid = authid.map(Into::into);
        // Whoever has no name cannot be known again.
        let remember = (is_login && !self.is_anonymous()).then(|| Remember { extra: extra.clone() });
        Ok(Reply(Ok(Grant { role, authid, provider: "hook", extra, remember, ..Grant::default() })))
    }
}

impl Asked<'_> {
    /// Who comes in need not have a name.
    fn is_anonymous(&self) -> bool {
        matches!(self.subject, Subject::Login { proof: Proof::Nothing, .. })
    }
}

/// What a client is told, as it stands there.
fn answer_to_message(body: &[u8]) -> Result<Reply, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::Invalid("the answer is no text".to_owned()))?;
    let payload = || Box::new(Answer::Payload(OwnedPayload::from_plain(text.as_bytes())));
    let answer = (!text.is_empty()).then(payload);
    Ok(Reply(Ok(Grant { provider: "hook", answer, ..Grant::default() })))
}

/// The result of a call: an object of `args` and `kwargs`, or any other value as the only argument. An object with `error` is an
/// error.
fn answer_to_call(body: &[u8]) -> Result<Reply, Failure> {
    if body.is_empty() {
        return Ok(Reply::default());
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Arguments<'a> {
        #[serde(borrow)]
        args: Option<&'a RawValue>,
        #[serde(borrow)]
        kwargs: Option<&'a RawValue>,
    }
    if let Ok(fields) = object(body)
        && fields.error.is_some()
        && fields.allow != Some(true)
    {
        return Ok(Reply(Err(denial(fields))));
    }
    let whole =
        |body: &[u8]| OwnedPayload::checked(Serializer::Json, Some(&[b"[", body, b"]"].concat()), None);
    let payload = match serde_json::from_slice::<Arguments<'_>>(body) {
        Ok(Arguments { args, kwargs })
            if body.first() == Some(&b'{') && (args.is_some() || kwargs.is_some()) =>
        {
            let part = |part: Option<&'_ RawValue>| part.map(|part| part.get().as_bytes().to_vec());
            OwnedPayload::checked(Serializer::Json, part(args).as_deref(), part(kwargs).as_deref())
        }
        _ => whole(body),
    };
    let payload =
        payload.map_err(|flaw| Failure::Invalid(format!("the result is not JSON: it has {flaw}")))?;
    Ok(Reply(Ok(Grant {
        provider: "hook",
        answer: Some(Box::new(Answer::Payload(payload))),
        ..Grant::default()
    })))
}

/// Only an object: a list would be taken for its fields, and an empty one for yes.
pub(super) fn object(body: &[u8]) -> Result<Fields, String> {
    if body.first() != Some(&b'{') {
        return Err("it does not begin with {".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !name.starts_with(ANONYMOUS_AUTHID_PREFIX)
}

pub(super) fn denial(fields: Fields) -> Denial {
    let error = fields.error.filter(|uri| check_topic(uri, UriRule::Loose).is_ok());
    let message = fields.message.map(|text| text.chars().take(MESSAGE_CHARACTERS_MAX).collect::<String>());
    if error.is_none() && message.is_none() {
        return Denial::Refused;
    }
    Denial::Told(Box::new(Told { error: error.map(Into::into), message: message.map(Into::into) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_core::access::RealmConfig;
    use fanwire_core::ids::{RoleId, SessionId};
    use fanwire_core::login::{LoginMethod, Proof, Ticket};
    use fanwire_core::question::Identity;

    fn understand(subject: &Subject, role: Option<&str>, status: u16, body: &str) -> Result<Reply, Failure> {
        let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("it is sound");
        let received = Received { status, body: Bytes::copy_from_slice(body.as_bytes()) };
        Asked { access: &access, realm: "realm1", subject, role }.understand(&received)
    }

    fn login(authid: Option<&str>) -> Subject {
        Subject::Login { authid: authid.map(Into::into), proof: Proof::Ticket(Ticket::new("x")), extra: None }
    }

    fn subscribe() -> Subject {
        let who = Identity { session: SessionId::MAX, authid: "joe".into(), authrole: "member".into() };
        Subject::Subscribe { who, uri: "a.b".into(), policy: fanwire_core::uri::MatchPolicy::Exact }
    }

    #[test]
    fn statuses_and_bodies() {
        let about = subscribe();
        let says = |status, body: &str| understand(&about, None, status, body);
        for (status, body) in
            [(200, ""), (200, " \n"), (204, ""), (200, "{}"), (200, r#"{"allow":true,"x":[1]}"#)]
        {
            assert_eq!(says(status, body), Ok(Reply::default()), "{status} {body}");
        }
        let told = |error: Option<&str>, message: Option<&str>| {
            Ok(Reply(Err(Denial::Told(Box::new(Told {
                error: error.map(Into::into),
                message: message.map(Into::into),
            })))))
        };
        assert_eq!(says(200, r#"{"allow":false}"#), Ok(Reply(Err(Denial::Refused))));
        assert_eq!(says(403, "<html>"), Ok(Reply(Err(Denial::Refused))));
        assert_eq!(says(401, r#"{"message":"no"}"#), told(None, Some("no")));
        assert_eq!(
            says(200, r#"{"allow":false,"error":"com.full","message":"no"}"#),
            told(Some("com.full"), Some("no"))
        );
        assert_eq!(says(403, r#"{"error":"not a URI"}"#), Ok(Reply(Err(Denial::Refused))));
        assert_eq!(says(200, r#"{"error":"com.full"}"#), told(Some("com.full"), None));
        assert_eq!(says(200, r#"{"error":"not a URI"}"#), Ok(Reply(Err(Denial::Refused))));
        assert_eq!(says(200, r#"{"error":"com.full","allow":true}"#), Ok(Reply::default()));
        assert_eq!(says(302, ""), Err(Failure::Redirect(302)));
        for status in [100, 201, 400, 404, 429, 500, 503] {
            assert_eq!(says(status, r#"{"allow":true}"#), Err(Failure::Status(status)));
        }
        for body in ["ok", "[]", "true", r#"{"allow":"yes"}"#, r#"{"allow":true"#, "\u{0}"] {
            assert!(matches!(says(200, body), Err(Failure::Invalid(_))), "{body}");
        }
    }

    #[test]
    fn what_a_client_can_bring_about_is_no_fault_of_the_hook() {
        let is_fault = |status| Failure::Status(status).is_of_hook();
        assert!([408, 429, 500, 503, 201].into_iter().all(is_fault));
        assert!(![400, 404, 413, 414, 422, 431].into_iter().any(is_fault));
        assert!(Failure::Timeout.is_of_hook() && !Failure::Untranslatable("").is_of_hook());
        // A shard that is held up by a subscriber has not called anybody.
        assert!(!Failure::NotCalled.is_of_hook() && !Failure::NotCalled.was_asked());
    }

    #[test]
    fn a_login_needs_a_name_and_a_role() {
        let role = Some(RoleId::new(0));
        let granted = |authid: Option<&str>, extra: Option<&str>| {
            let extra = extra.map(|extra| {
                Box::new(OwnedPayload::checked(Serializer::Json, None, Some(extra.as_bytes())).expect("JSON"))
            });
            Ok(Reply(Ok(Grant {
                role,
                authid: authid.map(Into::into),
                provider: "hook",
                remember: Some(Remember { extra: extra.clone() }),
                extra,
                ..Grant::default()
            })))
        };
        let default = Some("anonymous");
        assert_eq!(understand(&login(None), default, 200, r#"{"uid":1001}"#), granted(Some("1001"), None));
        let said = r#"{"allow":true}"#;
        assert_eq!(understand(&login(Some("joe")), default, 200, said), granted(None, None));
        for (status, body) in [
            (204, ""),
            (200, ""),
            (200, "{}"),
            (200, r#"{"allowed":false}"#),
            (200, r#"{"role":"anonymous"}"#),
        ] {
            let says = understand(&login(Some("joe")), default, status, body);
            assert!(matches!(says, Err(Failure::Invalid(_))), "{status} {body}: {says:?}");
        }
        let whole = r#"{"authid":"joe","role":"anonymous","extra":{"a":1}}"#;
        assert_eq!(understand(&login(Some("x")), None, 200, whole), granted(Some("joe"), Some(r#"{"a":1}"#)));
        for (subject, role, body) in [
            (login(Some("joe")), None, r#"{"allow":true}"#),
            (login(Some("joe")), None, r#"{"allow":true,"role":"king"}"#),
            (login(None), default, "{}"),
            (login(None), default, r#"{"uid":""}"#),
            (login(None), default, r#"{"uid":"anonymous-1f"}"#),
            (login(None), default, r#"{"uid":"a\u0000"}"#),
            (login(None), default, r#"{"uid":1.5}"#),
            (login(Some("joe")), default, r#"{"allow":true,"extra":[1]}"#),
        ] {
            assert!(matches!(understand(&subject, role, 200, body), Err(Failure::Invalid(_))), "{body}");
        }
        // No failure of the hook's, or clients could open its breaker.
        for body in [r#"{"allow":true}"#, r#"{"authid":"anonymous-1f"}"#, r#"{"uid":"joe"}"#] {
            let says = understand(&login(Some("anonymous-1f")), default, 200, body);
            assert_eq!(says, Ok(Reply(Err(Denial::Refused))), "{body}");
        }
    }

    #[test]
    fn a_yes_to_one_payload_is_none_to_the_next() {
        let payload = |text: &[u8]| OwnedPayload::checked(Serializer::Json, Some(text), None).expect("JSON");
        let publish = |payload| {
            let who = Identity { session: SessionId::MAX, authid: "joe".into(), authrole: "member".into() };
            Subject::Publish { who, uri: "a.b".into(), payload }
        };
        for (subject, is_kept) in
            [(publish(Some(payload(b"[1]"))), false), (publish(None), true), (subscribe(), true)]
        {
            let Ok(Reply(Ok(grant))) = understand(&subject, None, 200, r#"{"cache":true}"#) else {
                panic!("it is allowed")
            };
            assert_eq!(grant.keep, is_kept, "{subject:?}");
        }
    }

    #[test]
    fn who_connects_keeps_what_the_reply_does_not_change() {
        let subject = Subject::Connect { authid: None, role: RoleId::new(0), method: LoginMethod::Anonymous };
        assert_eq!(understand(&subject, Some("king"), 200, "{}"), Ok(Reply::default()));
        assert!(understand(&subject, None, 200, r#"{"role":"king"}"#).is_err());
        let Ok(Reply(Ok(grant))) = understand(&subject, None, 200, r#"{"uid":"joe"}"#) else {
            panic!("it is allowed")
        };
        assert_eq!((grant.authid.as_deref(), grant.role), (Some("joe"), None));
    }
}
