//! A publication in JSON, as `/v1/publish`, a batch and a line of a stream have it.

use std::borrow::Cow;

use fanwire_codec::malformed::Malformed;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::{ID_MAX, RECEIVERS_MAX, ReceiverLists, Serializer};
use fanwire_core::access::Access;
use fanwire_core::api::{Actor, ApiPublication};
use serde::Deserialize;

use super::error::{ApiError, Code};
use super::fields::{self, Field, Given};
use super::keys::Principal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publication<'a> {
    #[serde(borrow)]
    realm: Field<'a>,
    #[serde(borrow)]
    topic: Field<'a>,
    #[serde(borrow)]
    args: Field<'a>,
    #[serde(borrow)]
    kwargs: Field<'a>,
    #[serde(borrow, default)]
    data: Given<'a>,
    #[serde(borrow)]
    options: Field<'a>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options<'a> {
    #[serde(borrow)]
    acknowledge: Field<'a>,
    #[serde(borrow)]
    exclude: Field<'a>,
    #[serde(borrow)]
    exclude_authid: Field<'a>,
    #[serde(borrow)]
    exclude_authrole: Field<'a>,
    #[serde(borrow)]
    eligible: Field<'a>,
    #[serde(borrow)]
    eligible_authid: Field<'a>,
    #[serde(borrow)]
    eligible_authrole: Field<'a>,
    #[serde(borrow)]
    x_conflate_key: Field<'a>,
    #[serde(borrow)]
    retain: Field<'a>,
}

/// The options, read.
#[derive(Default)]
struct Read {
    receivers: ReceiverLists<'static>,
    conflate_key: Option<Box<str>>,
    retain: bool,
    receipt: bool,
}

/// Reads one. What the router decides is not decided here: whether the topic is a URI, and whether it is allowed.
pub fn read(text: &str, principal: &Principal, access: &Access) -> Result<ApiPublication, ApiError> {
    let publication: Publication<'_> = fields::object(text, "a publication: {\"topic\": …, \"args\": […]}")?;
    let actor = actor(publication.realm, principal, access)?;
    let topic = fields::required("topic", publication.topic)?;
    let payload = payload(publication.args, publication.kwargs, publication.data)?;
    let options = match publication.options {
        Some(options) => self::options(options.get()).map_err(|error| error.inside("options"))?,
        None => Read::default(),
    };
    let Read { receivers, conflate_key, retain, receipt } = options;
    let plain = false;
    Ok(ApiPublication {
        actor,
        topic: topic.into(),
        payload,
        plain,
        receivers,
        conflate_key,
        retain,
        receipt,
        from: None,
    })
}

/// Who acts: the principal, in the realm that is named, or in its only one.
pub fn actor(realm: Field<'_>, principal: &Principal, access: &Access) -> Result<Actor, ApiError> {
    let grant = match (realm, &principal.grants[..]) {
        (None, [only]) => only,
        (None, grants) => {
            let names: Vec<&str> = grants.iter().map(|grant| access.realm_name(grant.realm)).collect();
            let words = match names[..] {
                [] => "no realm lets anybody in who does not say who they are; configure an API key ([[http_api.key]])".to_owned(),
                _ => format!("the field \"realm\" must be there; it can be: {}", names.join(", ")),
            };
            let code = if names.is_empty() { Code::Forbidden } else { Code::MissingField };
            return Err(ApiError::new(code, words).field("realm"));
        }
        (Some(realm), _) => {
            let name = fields::string("realm", realm)?;
            access
                .realm(&name)
                .and_then(|realm| principal.grant(realm))
                .ok_or_else(|| no_such_realm(&name, principal, access))?
        }
    };
    Ok(Actor { realm: grant.realm, role: grant.role })
}

/// The same words whether the realm exists or not.
#[cold]
pub fn no_such_realm(name: &str, principal: &Principal, access: &Access) -> ApiError {
    let known: Vec<&str> = principal.grants.iter().map(|grant| access.realm_name(grant.realm)).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let words = format!("{} may not do this in a realm {name:?}; its realms: {known}", principal.name);
    ApiError::new(Code::Forbidden, words).field("realm")
}

/// The arguments: `args` and `kwargs`, or `data` as the only one.
pub fn payload(args: Field<'_>, kwargs: Field<'_>, data: Given<'_>) -> Result<OwnedPayload, ApiError> {
    let (args, kwargs) = (args.map(|raw| raw.get().as_bytes()), kwargs.map(|raw| raw.get().as_bytes()));
    let Some(data) = data.0 else { return checked(args, kwargs, "args") };
    if args.is_some() || kwargs.is_some() {
        let words = "\"data\" stands for the only argument; send it or args and kwargs, not both";
        return Err(ApiError::new(Code::InvalidField, words).field("data"));
    }
    checked(Some(format!("[{}]", data.get()).as_bytes()), None, "data")
}

fn checked(args: Option<&[u8]>, kwargs: Option<&[u8]>, name: &str) -> Result<OwnedPayload, ApiError> {
    OwnedPayload::checked(Serializer::Json, args, kwargs).map_err(|flaw| {
        let args_are_wrong = OwnedPayload::checked(Serializer::Json, args, None).is_err();
        malformed(flaw, if args_are_wrong { name } else { "kwargs" })
    })
}

/// JSON that the document's parser takes and receivers would not: too deep, lone surrogates, numbers beyond a double.
#[cold]
fn malformed(flaw: Malformed, name: &str) -> ApiError {
    let what = match name {
        "args" => "a list of values",
        "kwargs" => "an object",
        _ => "a value",
    };
    ApiError::new(
        Code::InvalidField,
        format!("{name:?} must be {what} that every receiver can read; it has {flaw}"),
    )
    .field(name)
}

fn options(text: &str) -> Result<Read, ApiError> {
    let options: Options<'_> = fields::object(text, "an object of options")?;
    let receivers = ReceiverLists {
        exclude: sessions("exclude", options.exclude)?,
        exclude_authid: names("exclude_authid", options.exclude_authid)?,
        exclude_authrole: names("exclude_authrole", options.exclude_authrole)?,
        eligible: sessions("eligible", options.eligible)?,
        eligible_authid: names("eligible_authid", options.eligible_authid)?,
        eligible_authrole: names("eligible_authrole", options.eligible_authrole)?,
    };
    let numbers = [&receivers.exclude, &receivers.eligible].map(|list| list.as_ref().map_or(0, Vec::len));
    let texts = [
        &receivers.exclude_authid,
        &receivers.exclude_authrole,
        &receivers.eligible_authid,
        &receivers.eligible_authrole,
    ]
    .map(|list| list.as_ref().map_or(0, Vec::len));
    let entries: usize = numbers.iter().chain(&texts).sum();
    if entries > RECEIVERS_MAX {
        let words =
            format!("the lists of receivers have {entries} entries; together they may have {RECEIVERS_MAX}");
        return Err(ApiError::new(Code::TooLarge, words).field("eligible"));
    }
    let key = options.x_conflate_key.map(|key| fields::string("x_conflate_key", key)).transpose()?;
    Ok(Read {
        receivers,
        conflate_key: key.map(Box::from),
        retain: fields::flag("retain", options.retain)?,
        receipt: fields::flag("acknowledge", options.acknowledge)?,
    })
}

fn sessions(name: &str, value: Field<'_>) -> Result<Option<Vec<u64>>, ApiError> {
    let what = "a list of session ids (whole numbers from 1 to 2^53)";
    let ids: Option<Vec<u64>> = fields::list(name, value, what)?;
    match ids.iter().flatten().all(|id| (1..=ID_MAX).contains(id)) {
        true => Ok(ids),
        false => Err(fields::invalid(name, what)),
    }
}

fn names(name: &str, value: Field<'_>) -> Result<Option<Vec<Cow<'static, str>>>, ApiError> {
    let names: Option<Vec<String>> = fields::list(name, value, "a list of strings")?;
    Ok(names.map(|names| names.into_iter().map(Cow::Owned).collect()))
}

#[cfg(test)]
mod tests {
    use fanwire_core::access::RealmConfig;

    use super::super::keys::{Grant, Right};
    use super::*;

    fn access() -> Access {
        Access::new(&["one", "two"].map(RealmConfig::open), 7).expect("the realms are right")
    }

    fn principal(access: &Access, realms: &[&str]) -> Principal {
        let grant = |name: &&str| {
            let realm = access.realm(name).expect("it is there");
            Grant { realm, role: access.role(realm, "anonymous").expect("it is there"), manages: true }
        };
        let grants = realms.iter().map(grant).collect();
        Principal { name: "the key \"test\"".to_owned(), rights: Right::ALL.to_vec(), grants }
    }

    fn parse(text: &str) -> Result<ApiPublication, ApiError> {
        let access = access();
        read(text, &principal(&access, &["one"]), &access)
    }

    #[test]
    fn a_publication_has_its_payload_as_it_came() {
        let publication = parse(r#"{"topic":"a.b","args":[1,  "x"],"kwargs":{"k":1e3}}"#).expect("right");
        assert_eq!(&*publication.topic, "a.b");
        let view = publication.payload.view();
        assert_eq!((view.args, view.kwargs), (Some(&b"[1,  \"x\"]"[..]), Some(&b"{\"k\":1e3}"[..])));
        assert!(!publication.receipt);
        for (data, args) in [("null", "[null]"), ("{\"a\":[]}", "[{\"a\":[]}]"), ("\"x\"", "[\"x\"]")] {
            let publication = parse(&format!("{{\"topic\":\"a\",\"data\":{data}}}")).expect(data);
            assert_eq!(publication.payload.view().args, Some(args.as_bytes()));
        }
    }

    #[test]
    fn options_are_read() {
        let text = r#"{"realm":"one","topic":"a","options":{"acknowledge":true,"exclude":[7],"eligible_authrole":["staff"],"x_conflate_key":"EUR"}}"#;
        let publication = parse(text).expect("right");
        assert!(publication.receipt && publication.payload.is_empty());
        assert_eq!(publication.receivers.exclude, Some(vec![7]));
        assert_eq!(publication.receivers.eligible_authrole, Some(vec!["staff".into()]));
        assert_eq!(publication.receivers.eligible, None);
        assert_eq!(publication.conflate_key.as_deref(), Some("EUR"));
    }

    #[test]
    fn errors_name_the_field() {
        for (text, code, field) in [
            (r#"{"args":[]}"#, Code::MissingField, "topic"),
            (r#"{"topic":5}"#, Code::InvalidField, "topic"),
            (r#"{"topic":"a","arg":[]}"#, Code::UnknownField, "arg"),
            (r#"{"topic":"a","args":{}}"#, Code::InvalidField, "args"),
            (r#"{"topic":"a","args":[],"kwargs":[]}"#, Code::InvalidField, "kwargs"),
            (r#"{"topic":"a","args":["\ud800"]}"#, Code::InvalidField, "args"),
            (r#"{"topic":"a","data":"\ud800"}"#, Code::InvalidField, "data"),
            (r#"{"topic":"a","data":1,"args":[]}"#, Code::InvalidField, "data"),
            (r#"{"topic":"a","realm":"two"}"#, Code::Forbidden, "realm"),
            (r#"{"topic":"a","realm":"three"}"#, Code::Forbidden, "realm"),
            (r#"{"topic":"a","options":{"acknowledged":true}}"#, Code::UnknownField, "options.acknowledged"),
            (r#"{"topic":"a","options":{"acknowledge":1}}"#, Code::InvalidField, "options.acknowledge"),
            (r#"{"topic":"a","options":{"exclude":[0]}}"#, Code::InvalidField, "options.exclude"),
            (r#"{"topic":"a","options":{"x_conflate_key":1}}"#, Code::InvalidField, "options.x_conflate_key"),
            (r#"{"topic":"a","options":{"eligible":["x"]}}"#, Code::InvalidField, "options.eligible"),
            (
                r#"{"topic":"a","options":{"eligible_authid":"x"}}"#,
                Code::InvalidField,
                "options.eligible_authid",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.code, error.field.as_deref()), (code, Some(field)), "{text}");
        }
        let ids = vec!["1"; RECEIVERS_MAX + 1].join(",");
        let long = format!("{{\"topic\":\"a\",\"options\":{{\"exclude\":[{ids}]}}}}");
        assert_eq!(parse(&long).expect_err("too long").code, Code::TooLarge);
    }

    #[test]
    fn the_realm_may_be_left_out_where_there_is_one() {
        let access = access();
        let read = |realms: &[&str]| read("{\"topic\":\"a\"}", &principal(&access, realms), &access);
        assert_eq!(Some(read(&["two"]).expect("one").actor.realm), access.realm("two"));
        assert_eq!(read(&["one", "two"]).expect_err("which one?").code, Code::MissingField);
        assert_eq!(read(&[]).expect_err("none").code, Code::Forbidden);
    }

    #[test]
    fn depth_is_bounded() {
        let nested =
            |depth: usize| format!("{{\"topic\":\"a\",\"args\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(128)).is_ok());
        assert_eq!(parse(&nested(129)).expect_err("too deep").code, Code::InvalidField);
        assert!(parse(&nested(100_000)).is_err());
    }
}
