//! The messages of `/ws/v1`: `{"m": method, "p": parameters, "i": id}`.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::ws;
use fanwire_core::api::Order;
use fanwire_core::ids::ClientId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::{ApiError, Code};
use super::super::fields::{self, Field};
use super::words;

/// What is asked for.
#[derive(Debug)]
pub enum Request {
    /// Nothing: the peer wants to know whether we are there.
    Ping,
    /// To publish.
    Publish {
        /// The topic.
        topic: Box<str>,
        /// Plain.
        payload: OwnedPayload,
    },
    /// To do something with a client.
    Order {
        /// Which one.
        client: ClientId,
        /// What.
        order: Order,
        /// The number of an error, if that cannot be done.
        failed: u16,
    },
    /// To consume queues.
    Pop(Vec<Box<str>>),
    /// To consume nothing any more.
    Unpop,
}

impl Request {
    /// The number of an error, where the request itself was right.
    pub fn failed(&self) -> u16 {
        match self {
            Self::Order { failed, .. } => *failed,
            Self::Pop(_) => words::POP_FAILED,
            Self::Unpop => words::UNPOP_FAILED,
            Self::Ping | Self::Publish { .. } => words::SEND_FAILED,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(borrow)]
    m: Field<'a>,
    #[serde(borrow)]
    p: Field<'a>,
    #[serde(borrow)]
    i: Field<'a>,
    /// Some documents call it so.
    #[serde(borrow)]
    id: Field<'a>,
}

/// Reads a message: the id of its request, as JSON, and what it asks for.
pub fn read(kind: ws::Kind, bytes: &[u8]) -> (Box<str>, Result<Request, ApiError>) {
    let nobody = || Box::from("null");
    let text = match (kind, std::str::from_utf8(bytes)) {
        (ws::Kind::Text, Ok(text)) => text,
        _ => {
            let words = "requests are text, and this message was binary";
            return (nobody(), Err(ApiError::new(Code::InvalidJson, words)));
        }
    };
    if text == "ping" {
        return (nobody(), Ok(Request::Ping));
    }
    let what = "a request: {\"m\": method, \"p\": {…}, \"i\": id}";
    let message: Message<'_> = match fields::object(text, what) {
        Ok(message) => message,
        Err(error) => return (nobody(), Err(error)),
    };
    match message.i.or(message.id).map(id).transpose() {
        Ok(id) => (id.unwrap_or_else(nobody), request(message.m, message.p)),
        Err(error) => (nobody(), Err(error)),
    }
}

/// An id goes back as it came.
fn id(value: &RawValue) -> Result<Box<str>, ApiError> {
    let text = value.get();
    if text.len() > ID_BYTES_MAX || text.starts_with(['{', '[']) {
        return Err(fields::invalid("i", "a number or a string, of at most 128 bytes"));
    }
    Ok(text.into())
}

const ID_BYTES_MAX: usize = 128;

fn request(method: Field<'_>, parameters: Field<'_>) -> Result<Request, ApiError> {
    let method = fields::required("m", method)?;
    let parameters = parameters.map_or("{}", RawValue::get);
    let inside = |error: ApiError| error.inside("p");
    match &*method {
        "mesh.publish" => {
            let (topic, payload) = words::publication(parameters).map_err(inside)?;
            Ok(Request::Publish { topic, payload })
        }
        "mesh.send" => {
            let (client, kind, bytes) = words::sending(parameters).map_err(inside)?;
            let order = Order::Send { kind, bytes };
            Ok(Request::Order { client, order, failed: words::SEND_FAILED })
        }
        "conn.call" => {
            let (client, order) = call(parameters).map_err(inside)?;
            Ok(Request::Order { client, order, failed: words::CALL_FAILED })
        }
        "queue.pop" => queues(parameters).map(Request::Pop).map_err(inside),
        "queue.unpop" => Ok(Request::Unpop),
        other => {
            let words = format!(
                "there is no method {other:?}; known: mesh.publish, mesh.send, conn.call, queue.pop, queue.unpop"
            );
            Err(ApiError::new(Code::InvalidField, words).field("m"))
        }
    }
}

/// The names of queues: `{"t": […]}`, or the list alone, as some libraries have it.
fn queues(text: &str) -> Result<Vec<Box<str>>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Topics<'a> {
        #[serde(borrow)]
        t: Field<'a>,
    }
    let what = "a list of 1 to 100 names";
    let list: Option<Vec<Box<str>>> = if text.trim_start().starts_with('[') {
        Some(serde_json::from_str(text).map_err(|_| fields::invalid("t", what))?)
    } else {
        let topics: Topics<'_> = fields::object(text, "an object: {\"t\": [names]}")?;
        fields::list("t", topics.t, what)?
    };
    list.filter(|names| (1..=100).contains(&names.len())).ok_or_else(|| fields::invalid("t", what))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call<'a> {
    #[serde(borrow)]
    c: Field<'a>,
    #[serde(borrow)]
    f: Field<'a>,
    #[serde(borrow)]
    a: Field<'a>,
}

fn call(text: &str) -> Result<(ClientId, Order), ApiError> {
    let call: Call<'_> = fields::object(text, "a call: {\"c\": client id, \"f\": function, \"a\": […]}")?;
    let client = words::client("c", call.c)?;
    let function = fields::required("f", call.f)?;
    let arguments: Vec<&RawValue> = fields::list("a", call.a, "a list of arguments")?.unwrap_or_default();
    let order = match &*function {
        "subscribe" => Order::Subscribe(names(&arguments)?),
        "unsubscribe" => Order::Unsubscribe(names(&arguments)?),
        "set_context_value" => match arguments[..] {
            [key, value] => Order::SetContext(vec![(fields::string("a", key)?.into(), scalar(value)?)]),
            _ => return Err(fields::invalid("a", "a list of a key and a value")),
        },
        "set_context" => match arguments[..] {
            [values] => Order::SetContext(pairs(values)?),
            _ => return Err(fields::invalid("a", "a list of one object")),
        },
        other => {
            let words = format!(
                "there is no function {other:?}; known: set_context_value, set_context, subscribe, unsubscribe"
            );
            return Err(ApiError::new(Code::InvalidField, words).field("f"));
        }
    };
    Ok((client, order))
}

fn names(arguments: &[&RawValue]) -> Result<Vec<Box<str>>, ApiError> {
    if arguments.is_empty() || arguments.len() > NAMES_MAX {
        return Err(fields::invalid("a", "a list of 1 to 1000 channels"));
    }
    arguments.iter().map(|name| fields::string("a", name).map(Box::from)).collect()
}

/// A client may have more subscriptions, by several calls.
const NAMES_MAX: usize = 1_000;

/// What can be part of a topic's name: strings, numbers to the last digit, and the words for yes, no and nothing.
fn scalar(value: &RawValue) -> Result<Box<str>, ApiError> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => fields::string("a", value).map(Box::from),
        Some(b'{' | b'[') => Err(fields::invalid("a", "of strings, numbers, true, false and null")),
        _ => Ok(text.into()),
    }
}

/// A key and its value.
type Pair = (Box<str>, Box<str>);

fn pairs(values: &RawValue) -> Result<Vec<Pair>, ApiError> {
    let what = "a list of one object, of strings and numbers";
    let values: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(values.get()).map_err(|_| fields::invalid("a", what))?;
    values.into_iter().map(|(key, value)| Ok((key.into(), scalar(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Box<str>, Result<Request, ApiError>) {
        super::read(ws::Kind::Text, text.as_bytes())
    }

    #[test]
    fn requests_are_read_with_their_ids() {
        for (text, id) in [
            (r#"{"m":"mesh.publish","p":{"c":"a","d":"x"},"i":12345}"#, "12345"),
            (r#"{"m":"mesh.publish","p":{"c":"a","d":"x"},"id":"b"}"#, "\"b\""),
            (r#"{"m":"mesh.publish","p":{"c":"a","d":"x"}}"#, "null"),
            (r#"{"m":"mesh.send","p":{"c":5,"d":"x"},"i":18446744073709551616}"#, "18446744073709551616"),
            (r#"{"m":"conn.call","p":{"c":"5","f":"subscribe","a":["x","y"]},"i":1}"#, "1"),
            (r#"{"m":"queue.pop","p":{"t":["a"]},"i":1}"#, "1"),
            (r#"{"m":"queue.pop","p":["a","b"],"i":1}"#, "1"),
            (r#"{"m":"queue.unpop","p":[],"i":1}"#, "1"),
            (r#"{"m":"queue.unpop","i":1}"#, "1"),
            ("ping", "null"),
        ] {
            let (found, request) = read(text);
            assert_eq!(&*found, id, "{text}");
            assert!(request.is_ok(), "{text}: {request:?}");
        }
    }

    #[test]
    fn context_has_strings_and_numbers() {
        let context = |arguments: &str| {
            let text = format!(r#"{{"m":"conn.call","p":{{"c":5,{arguments}}},"i":1}}"#);
            match read(&text).1 {
                Ok(Request::Order { order: Order::SetContext(values), failed: 301, .. }) => Ok(values),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.field),
            }
        };
        let pair = |key: &str, value: &str| (Box::from(key), Box::from(value));
        assert_eq!(
            context(r#""f":"set_context_value","a":["uid",9007199254740993]"#),
            Ok(vec![pair("uid", "9007199254740993")])
        );
        assert_eq!(
            context(r#""f":"set_context","a":[{"uid":"u-01","team":7}]"#),
            Ok(vec![pair("team", "7"), pair("uid", "u-01")])
        );
        for wrong in [
            r#""f":"set_context_value","a":["uid"]"#,
            r#""f":"set_context_value","a":["uid",{}]"#,
            r#""f":"set_context","a":[[]]"#,
            r#""f":"set_context","a":{}"#,
        ] {
            assert_eq!(context(wrong), Err(Some("p.a".to_owned())), "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, field) in [
            ("[]", None),
            ("{", None),
            (r#"{"p":{},"i":1}"#, Some("m")),
            (r#"{"m":"mesh.shout","i":1}"#, Some("m")),
            (r#"{"m":"mesh.publish","i":[1]}"#, Some("i")),
            (r#"{"m":"mesh.publish","p":{"d":"x"},"i":1}"#, Some("p.c")),
            (r#"{"m":"mesh.publish","x":1}"#, Some("x")),
            (r#"{"m":"queue.pop","p":{},"i":1}"#, Some("p.t")),
            (r#"{"m":"queue.pop","p":[1],"i":1}"#, Some("p.t")),
            (r#"{"m":"conn.call","p":{"c":5,"f":"close"},"i":1}"#, Some("p.f")),
            (r#"{"m":"conn.call","p":{"c":5,"f":"subscribe","a":[]},"i":1}"#, Some("p.a")),
        ] {
            let error = read(text).1.expect_err(text);
            assert_eq!(error.field.as_deref(), field, "{text}");
        }
        assert!(super::read(ws::Kind::Binary, b"ping").1.is_err());
    }
}
