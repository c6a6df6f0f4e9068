//! The fields of requests, and the answers to them.
//!
//! | field | |
//! |---|---|
//! | `c` | a channel, that is a topic; or a client's id, as a string or a number |
//! | `d` | what is sent: a string as it is, anything else as compact JSON; base64 where `t` is `binary` |
//! | `t` | `text` (if left out) or `binary` |
//!
//! | number of an error | |
//! |---|---|
//! | 101 | the request cannot be what it is |
//! | 201, 202, 203 | topics are not consumed, are already, or are not given up |
//! | 301 | nothing was done with the client |
//! | 401 | it was not sent |

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::{json, ws};
use fanwire_core::ids::ClientId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::{ApiError, Code};
use super::super::fields::{self, Field};
use crate::queues::Item;

/// The number of this node, as clients know it.
pub const NODE: u64 = 1;
/// Number of an error: the request cannot be what it is.
const INVALID: u16 = 101;
/// It was not sent.
pub const SEND_FAILED: u16 = 401;
/// A queue is not consumed.
pub const POP_FAILED: u16 = 201;
/// It is already.
pub const POPPED_ALREADY: u16 = 202;
/// Nothing was consumed that could be given up.
pub const UNPOP_FAILED: u16 = 203;
/// Nothing was done with the client.
pub const CALL_FAILED: u16 = 301;

/// The number of an error. `failed`: of the request's kind, where the request itself was right.
pub fn number(error: &ApiError, failed: u16) -> u16 {
    match error.code {
        Code::BadRequest
        | Code::InvalidJson
        | Code::UnknownField
        | Code::MissingField
        | Code::InvalidField
        | Code::InvalidQuery
        | Code::TooLarge
        | Code::UnsupportedMediaType => INVALID,
        _ => failed,
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// It reached so many.
    Reached(u64),
    /// It was done.
    Done,
    /// It was not.
    Refused(u16, &'a str),
}

impl Answer<'_> {
    /// Appends the answer. `id`: of its request, as JSON.
    pub fn write(&self, id: Option<&str>, out: &mut BytesMut) {
        match self {
            Self::Reached(count) => {
                out.extend_from_slice(br#"{"E":null,"r":{"s":"#);
                json::write_u64(out, *count);
                out.extend_from_slice(br#","f":0}"#);
            }
            Self::Done => out.extend_from_slice(br#"{"E":null,"r":{"s":true}"#),
            Self::Refused(number, words) => {
                out.extend_from_slice(br#"{"E":{"c":"#);
                json::write_u64(out, (*number).into());
                out.extend_from_slice(br#","m":"#);
                json::write_string(out, words);
                out.extend_from_slice(b"}");
            }
        }
        if let Some(id) = id {
            out.extend_from_slice(br#","i":"#);
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(b"}");
    }

    /// The answer to a request without an id.
    pub fn body(&self) -> BytesMut {
        let mut out = BytesMut::new();
        self.write(None, &mut out);
        out
    }
}

/// Appends the event that hands a client's message to a consumer.
pub fn write_item(item: &Item, queue: &str, out: &mut BytesMut) {
    out.extend_from_slice(br#"{"e":"queue.pop","p":{"n":"#);
    json::write_u64(out, NODE);
    out.extend_from_slice(br#","c":""#);
    json::write_u64(out, item.client.get());
    out.extend_from_slice(br#"","t":"#);
    json::write_string(out, queue);
    match (item.kind, std::str::from_utf8(&item.bytes)) {
        (ws::Kind::Text, Ok(text)) => {
            out.extend_from_slice(br#","d":{"frame":{"type":"text","data":"#);
            json::write_string(out, text);
        }
        _ => {
            out.extend_from_slice(br#","d":{"frame":{"type":"binary","data":"#);
            json::write_string(out, &STANDARD.encode(&item.bytes));
        }
    }
    out.extend_from_slice(br#","finish":true}"#);
    if let Some(uid) = &item.uid {
        out.extend_from_slice(br#","uid":"#);
        json::write_string(out, uid);
    }
    out.extend_from_slice(br#"}},"id":null}"#);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sending<'a> {
    #[serde(borrow)]
    c: Field<'a>,
    #[serde(borrow)]
    d: Field<'a>,
    #[serde(borrow)]
    t: Field<'a>,
}

/// A publication: its topic and payload.
pub fn publication(text: &str) -> Result<(Box<str>, OwnedPayload), ApiError> {
    let sending: Sending<'_> = fields::object(text, "a publication: {\"c\": channel, \"d\": …}")?;
    let topic = fields::required("c", sending.c)?;
    let (kind, bytes) = message(sending.d, sending.t)?;
    let payload = match kind {
        ws::Kind::Text => OwnedPayload::from_plain(&bytes),
        ws::Kind::Binary => OwnedPayload::from_plain_binary(&bytes),
    };
    Ok((topic.into(), payload))
}

/// A message for one client.
pub fn sending(text: &str) -> Result<(ClientId, ws::Kind, Box<[u8]>), ApiError> {
    let sending: Sending<'_> = fields::object(text, "a message: {\"c\": client id, \"d\": …}")?;
    let client = client("c", sending.c)?;
    let (kind, bytes) = message(sending.d, sending.t)?;
    Ok((client, kind, bytes.into()))
}

/// Whose connections are meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// All of a user's.
    User(Box<str>),
    /// This one.
    Client(ClientId),
}

/// Who is to be sent away.
pub fn target(text: &str) -> Result<Target, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Away<'a> {
        #[serde(borrow)]
        uid: Field<'a>,
        #[serde(borrow)]
        c: Field<'a>,
    }
    let away: Away<'_> = fields::object(text, "an object: {\"uid\": user} or {\"c\": client id}")?;
    match (away.uid, away.c) {
        (Some(uid), None) => name("uid", uid).map(|uid| Target::User(uid.into())),
        (None, c @ Some(_)) => client("c", c).map(Target::Client),
        (None, None) => Err(missing("uid")),
        (Some(_), Some(_)) => {
            let words = "either \"uid\" or \"c\" says who is meant; send one of them";
            Err(ApiError::new(Code::InvalidField, words).field("c"))
        }
    }
}

/// A string, or an integer as one: to the last digit.
pub fn name<'a>(field: &str, value: &'a RawValue) -> Result<Cow<'a, str>, ApiError> {
    let text = value.get();
    if text.starts_with('"') {
        return fields::string(field, value);
    }
    let is_integer = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
    if is_integer {
        Ok(text.into())
    } else {
        Err(fields::invalid(field, "a string or an integer of 64 bits"))
    }
}

/// A client's id.
pub fn client(field: &str, value: Field<'_>) -> Result<ClientId, ApiError> {
    let value = value.ok_or_else(|| missing(field))?;
    let number = name(field, value).ok().and_then(|text| text.parse().ok());
    number.and_then(ClientId::from_number).ok_or_else(|| {
        fields::invalid(field, "a client's id, as it was told: a string of digits, or the number")
    })
}

#[cold]
fn missing(field: &str) -> ApiError {
    ApiError::new(Code::MissingField, format!("the field {field:?} must be there")).field(field)
}

/// What is to be sent, and as what.
fn message<'a>(d: Field<'a>, t: Field<'a>) -> Result<(ws::Kind, Cow<'a, [u8]>), ApiError> {
    let d = d.ok_or_else(|| missing("d"))?;
    let kind = match t.map(|t| fields::string("t", t)).transpose()?.as_deref() {
        None | Some("text") => ws::Kind::Text,
        Some("binary") => ws::Kind::Binary,
        Some(_) => return Err(fields::invalid("t", "\"text\" or \"binary\"")),
    };
    let bytes = match kind {
        ws::Kind::Binary => {
            let text = fields::string("d", d)?;
            let bytes = STANDARD.decode(text.as_bytes());
            Cow::Owned(
                bytes
                    .map_err(|why| fields::invalid("d", &format!("base64, with \"t\": \"binary\": {why}")))?,
            )
        }
        ws::Kind::Text if d.get().starts_with('"') => into_bytes(fields::string("d", d)?),
        ws::Kind::Text => into_bytes(compact(d.get())),
    };
    Ok((kind, bytes))
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// JSON without white space between its tokens; else as it was written.
fn compact(text: &str) -> Cow<'_, str> {
    let is_white = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    if !text.contains(is_white) {
        return text.into();
    }
    let (mut in_string, mut is_escaped) = (false, false);
    let keep = |c: &char| {
        let keep = in_string || !is_white(*c);
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        keep
    };
    text.chars().filter(keep).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &Answer<'_>, id: Option<&str>) -> String {
        let mut out = BytesMut::new();
        answer.write(id, &mut out);
        String::from_utf8(out.to_vec()).expect("JSON is text")
    }

    #[test]
    fn answers_are_as_documented() {
        for (answer, id, text) in [
            (Answer::Reached(9), None, r#"{"E":null,"r":{"s":9,"f":0}}"#),
            (Answer::Reached(0), Some("12345"), r#"{"E":null,"r":{"s":0,"f":0},"i":12345}"#),
            (Answer::Done, None, r#"{"E":null,"r":{"s":true}}"#),
            (Answer::Done, Some("\"a\""), r#"{"E":null,"r":{"s":true},"i":"a"}"#),
            (Answer::Refused(401, "a \"b\""), None, r#"{"E":{"c":401,"m":"a \"b\""}}"#),
            (Answer::Refused(101, "x"), Some("1"), r#"{"E":{"c":101,"m":"x"},"i":1}"#),
        ] {
            assert_eq!(written(&answer, id), text);
        }
    }

    #[test]
    fn what_is_sent_is_sent_as_it_is() {
        let plain = |d: &str, t: &str| {
            let (topic, payload) = publication(&format!(r#"{{"c":"user:1001","d":{d}{t}}}"#)).expect(d);
            assert_eq!(&*topic, "user:1001");
            let mut out = Vec::new();
            payload.write_plain(&mut out).expect("it is plain");
            out
        };
        for (d, wanted) in [
            (r#""{\"event\":\"@user\"}""#, r#"{"event":"@user"}"#),
            (r#""  a \u00e9\n""#, "  a é\n"),
            ("\"\"", ""),
            (r#"{"a": [1.50, "x  \" y"],  "b":{} }"#, r#"{"a":[1.50,"x  \" y"],"b":{}}"#),
            ("[ ]", "[]"),
            ("17", "17"),
            (r#"["\\", " "]"#, r#"["\\"," "]"#),
        ] {
            assert_eq!(String::from_utf8(plain(d, "")).expect("text"), wanted);
            assert_eq!(plain(d, r#","t":"text""#), wanted.as_bytes());
        }
        assert_eq!(plain("\"AAFi\"", r#","t":"binary""#), [0, 1, 0x62]);
        let (client, kind, bytes) =
            sending(r#"{"c":4611686018427387905,"d":"AAFi","t":"binary"}"#).expect("right");
        assert_eq!(
            (client.get(), kind, &*bytes),
            (4_611_686_018_427_387_905, ws::Kind::Binary, &[0, 1, 0x62][..])
        );
        assert_eq!(sending(r#"{"c":"4611686018427387905","d":"x"}"#).expect("right").0, client);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, field) in [
            (r#"{"d":"x"}"#, Some("c")),
            (r#"{"c":"a"}"#, Some("d")),
            (r#"{"c":"a","d":null}"#, Some("d")),
            (r#"{"c":5,"d":"x"}"#, Some("c")),
            (r#"{"c":"a","d":"x","t":"blob"}"#, Some("t")),
            (r#"{"c":"a","d":"*","t":"binary"}"#, Some("d")),
            (r#"{"c":"a","d":{},"t":"binary"}"#, Some("d")),
            (r#"{"c":"a","d":"x","x":1}"#, Some("x")),
            ("[]", None),
        ] {
            let error = publication(text).expect_err(text);
            assert_eq!((error.field.as_deref(), number(&error, SEND_FAILED)), (field, 101), "{text}");
        }
        for id in ["0", "-1", "\"\"", "\"x\"", "1.5", "18446744073709551616", "9223372036854775808"] {
            let error = sending(&format!(r#"{{"c":{id},"d":"x"}}"#)).expect_err(id);
            assert_eq!(error.field.as_deref(), Some("c"), "{id}");
        }
    }

    #[test]
    fn users_are_named_by_strings_or_numbers() {
        let user = |text: &str| Target::User(text.into());
        assert_eq!(target(r#"{"uid":1001}"#).expect("a number"), user("1001"));
        assert_eq!(
            target(r#"{"uid":18446744073709551615}"#).expect("a large one"),
            user("18446744073709551615")
        );
        assert_eq!(target(r#"{"uid":"u-01"}"#).expect("a string"), user("u-01"));
        assert!(matches!(target(r#"{"c":"536870913"}"#), Ok(Target::Client(id)) if id.get() == 536_870_913));
        for wrong in ["{}", r#"{"uid":1.5}"#, r#"{"uid":[1]}"#, r#"{"uid":1,"c":"5"}"#, r#"{"user":1}"#] {
            assert_eq!(number(&target(wrong).expect_err(wrong), SEND_FAILED), 101, "{wrong}");
        }
    }
}
