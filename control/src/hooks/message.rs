//! What a hook is asked: the same fields as JSON, as a form, or as headers.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::access::Access;
use fanwire_core::hooks::HookEvent;
use fanwire_core::ids::{ClientId, RealmId};
use fanwire_core::login::Proof;
use fanwire_core::question::{Identity, Subject};
use hyper::http::{HeaderName, HeaderValue, Method, Request, Uri, header};

use super::reply::Failure;
use crate::login::exchange::object;

/// How the fields of a question are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BodyForm {
    /// A JSON object.
    #[default]
    Json,
    /// As a web form is sent; payloads as JSON within.
    Form,
    /// As headers, without a body; payloads are left out.
    Header,
}

/// What a question may tell beside the payload of a publication, in whatever form.
pub const FIELDS: [&str; 12] = [
    "event",
    "realm",
    "client",
    "authid",
    "token",
    "authextra",
    "role",
    "method",
    "session",
    "topic",
    "procedure",
    "match",
];

/// The fields of a question, in the order in which they are written. Not to be printed: a ticket may be among them.
pub(super) struct Message {
    fields: Vec<(&'static str, Value)>,
    /// What is published, in JSON; its parts are the last fields.
    payload: Option<OwnedPayload>,
}

enum Value {
    Text(String),
    Number(u64),
    Json(String),
}

impl Message {
    /// The fields of a question about this; where some are listed in `only`, those alone.
    ///
    /// # Errors
    ///
    /// If something of it has no form in which the hook could be told. It is never asked about less than what is there: it
    /// would allow what it has not seen.
    pub(super) fn of(
        (realm, client): (RealmId, Option<ClientId>),
        subject: &Subject,
        access: &Access,
        form: BodyForm,
        only: &[String],
    ) -> Result<Self, Failure> {
        let mut message = Self::about(subject.event(), access.realm_name(realm));
        match subject {
            Subject::Login { authid, proof: Proof::Ticket(ticket), extra } => {
                message.client(client);
                message.text_if("authid", authid.as_deref());
                message.text("token", ticket.expose());
                // Most clients say nothing there.
                if let Some(said) = extra.as_deref().filter(|extra| !extra.is_empty()) {
                    let said = object(said).map_err(|why| Failure::Untranslatable(why.words()))?;
                    if !said.is_empty() {
                        let said = serde_json::Value::from(said).to_string();
                        message.fields.push(("authextra", Value::Json(said)));
                    }
                }
            }
            Subject::Connect { authid, role, method } => {
                message.text_if("authid", authid.as_deref());
                message.text("role", access.role_name(realm, *role));
                message.text("method", method.name());
            }
            Subject::Subscribe { who, uri, policy } => {
                message.who(who);
                message.text("topic", uri);
                message.text("match", policy.name());
            }
            Subject::Publish { who, uri, payload } => {
                message.who(who);
                message.text("topic", uri);
                if let Some(payload) = payload {
                    message.publishes(payload)?;
                }
            }
            Subject::Call { who, uri } => {
                message.who(who);
                message.text("procedure", uri);
            }
            Subject::Register { who, uri, policy } => {
                message.who(who);
                message.text("procedure", uri);
                message.text("match", policy.name());
            }
            Subject::Message { who, client, bytes, .. } => {
                message.client(Some(*client));
                who.iter().for_each(|who| message.who(who));
                let text = std::str::from_utf8(bytes).map_err(|_| Failure::Untranslatable(NO_TEXT))?;
                message.text("message", text);
            }
            Subject::Rpc { who, uri, payload } => {
                who.iter().for_each(|who| message.who(who));
                message.text("procedure", uri);
                if form != BodyForm::Header {
                    message.publishes(payload)?;
                } else if !payload.is_empty() {
                    return Err(Failure::Untranslatable(TOO_LONG));
                }
            }
            Subject::Disconnect { who } => {
                message.client(client);
                message.who(who);
            }
            // Subjects that hooks are not asked about.
            _ => {}
        }
        if !only.is_empty() {
            message.fields.retain(|(name, _)| only.iter().any(|kept| kept == name));
        }
        let fits = |(_, value): &(_, Value)| visible(&value.text()).len() <= HEADER_BYTES_MAX;
        if form == BodyForm::Header && !message.fields.iter().all(fits) {
            return Err(Failure::Untranslatable(TOO_LONG));
        }
        Ok(message)
    }

    /// Only what all questions have.
    fn about(event: HookEvent, realm: &str) -> Self {
        let mut message = Self { fields: Vec::with_capacity(8), payload: None };
        message.text("event", event.name());
        message.text("realm", realm);
        message
    }

    fn who(&mut self, who: &Identity) {
        self.number("session", who.session.get());
        self.text("authid", &who.authid);
        self.text("role", &who.authrole);
    }

    /// As text, since a number of 64 bits is not one in every language's JSON.
    fn client(&mut self, client: Option<ClientId>) {
        self.text_if("client", client.map(|client| client.get().to_string()).as_deref());
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.fields.push((name, Value::Text(text.to_owned())));
    }

    fn text_if(&mut self, name: &'static str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(name, text));
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.fields.push((name, Value::Number(number)));
    }

    fn publishes(&mut self, payload: &OwnedPayload) -> Result<(), Failure> {
        let payload = payload.transcode(Serializer::Json).map_err(|_| Failure::Untranslatable(NO_JSON))?;
        self.payload = Some(payload);
        Ok(())
    }

    /// What is published, as JSON texts.
    fn payload(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let view = self.payload.as_ref().map(OwnedPayload::view).unwrap_or_default();
        let parts = [("args", view.args), ("kwargs", view.kwargs)].into_iter();
        parts.filter_map(|(name, part)| {
            Some((name, std::str::from_utf8(part?).expect("JSON is UTF-8, and was checked")))
        })
    }

    /// The request that asks it.
    pub(super) fn request(
        &self,
        url: &Uri,
        form: BodyForm,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Request<Bytes> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        let fields = request.headers_mut();
        fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        fields.insert(header::ACCEPT, HeaderValue::from_static(JSON));
        let (media_type, body) = match form {
            BodyForm::Json => (Some(JSON), self.json()),
            BodyForm::Form => (Some(FORM), self.form()),
            BodyForm::Header => {
                for (name, value) in &self.fields {
                    let name =
                        HeaderName::try_from(format!("x-fanwire-{name}")).expect("our own names are fine");
                    let value = HeaderValue::try_from(visible(&value.text())).expect("it is visible ASCII");
                    fields.insert(name, value);
                }
                (None, String::new())
            }
        };
        if let Some(media_type) = media_type {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        for (name, value) in headers {
            fields.insert(name.clone(), value.clone());
        }
        *request.body_mut() = Bytes::from(body);
        request
    }

    fn json(&self) -> String {
        let mut out = String::from("{");
        for (index, (name, value)) in self.fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}\"{name}\":").expect(INFALLIBLE);
            match value {
                Value::Text(text) => {
                    out += &serde_json::to_string(text).expect("a string has a form in JSON")
                }
                Value::Number(number) => write!(out, "{number}").expect(INFALLIBLE),
                Value::Json(json) => out += json,
            }
        }
        for (name, json) in self.payload() {
            write!(out, ",\"{name}\":{json}").expect(INFALLIBLE);
        }
        out + "}"
    }

    fn form(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.fields {
            out.append_pair(name, &value.text());
        }
        for (name, json) in self.payload() {
            out.append_pair(name, json);
        }
        out.finish()
    }
}

impl Value {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Json(text) => text.into(),
            Self::Number(number) => number.to_string().into(),
        }
    }
}

/// For a header: what is not visible ASCII, and `%`, as in URLs.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(byte.into());
        } else {
            write!(out, "%{byte:02X}").expect(INFALLIBLE);
        }
    }
    out
}

/// Of one field, as it is sent. Servers take some 8 KiB for all of them, and refuse more.
const HEADER_BYTES_MAX: usize = 4 << 10;
const TOO_LONG: &str = "a field is too long for a header, which is how the hook is asked";
const NO_TEXT: &str = "the message is no text";
const NO_JSON: &str = "the payload has no form in JSON, which the hook needs";

const INFALLIBLE: &str = "writing to a string succeeds";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const USER_AGENT: &str = concat!("fanwire/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_core::access::RealmConfig;
    use fanwire_core::login::Ticket;

    fn message() -> Message {
        let mut message = Message::about(HookEvent::Publish, "realm1");
        message.number("session", 7);
        message.text("authid", "jo \"é\" 50%\n");
        let args = OwnedPayload::checked(Serializer::Json, Some(b"[1, {\"a\": null}]"), None);
        message.publishes(&args.expect("JSON")).expect("JSON is JSON");
        message
    }

    fn request(form: BodyForm) -> Request<Bytes> {
        let url = Uri::from_static("http://127.0.0.1:1/x?y=z");
        let key = (HeaderName::from_static("x-key"), HeaderValue::from_static("s"));
        message().request(&url, form, &[key])
    }

    fn text(request: &Request<Bytes>, name: &str) -> String {
        request.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned()).unwrap_or_default()
    }

    #[test]
    fn json_holds_for_any_text() {
        let request = request(BodyForm::Json);
        let body: serde_json::Value = serde_json::from_slice(request.body()).expect("JSON");
        let expected = serde_json::json!({
            "event": "publish", "realm": "realm1", "session": 7, "authid": "jo \"é\" 50%\n", "args": [1, {"a": null}]
        });
        assert_eq!(body, expected);
        assert_eq!((text(&request, "content-type"), text(&request, "x-key")), (JSON.into(), "s".into()));
        assert_eq!(request.method(), Method::POST);
    }

    #[test]
    fn what_hello_says_beside_a_ticket_is_told() {
        let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("an open realm is right");
        let realm = access.realm("realm1").expect("it is there");
        for (said, told) in [("{}", None), (r#"{"device":7}"#, Some(serde_json::json!({"device": 7})))] {
            let extra = OwnedPayload::checked(Serializer::Json, None, Some(said.as_bytes())).expect("JSON");
            let proof = Proof::Ticket(Ticket::new("x"));
            let subject = Subject::Login { authid: None, proof, extra: Some(Box::new(extra)) };
            let message = Message::of((realm, None), &subject, &access, BodyForm::Json, &[]).expect("JSON");
            let body: serde_json::Value = serde_json::from_str(&message.json()).expect("JSON");
            assert_eq!(body.get("authextra"), told.as_ref());
            let form = message.form();
            let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes()).collect();
            assert_eq!(
                pairs.iter().any(|(name, value)| name == "authextra" && value == said),
                told.is_some()
            );
        }
    }

    #[test]
    fn a_form_and_headers_have_the_same_fields() {
        let form = request(BodyForm::Form);
        let pairs: Vec<_> = form_urlencoded::parse(form.body()).collect();
        assert_eq!(pairs[3], ("authid".into(), "jo \"é\" 50%\n".into()));
        assert_eq!(pairs[4], ("args".into(), "[1, {\"a\": null}]".into()));
        let header = request(BodyForm::Header);
        assert!(header.body().is_empty());
        assert_eq!(text(&header, "x-fanwire-event"), "publish");
        assert_eq!(text(&header, "x-fanwire-authid"), "jo%20\"%C3%A9\"%2050%25%0A");
        assert_eq!(
            (text(&header, "x-fanwire-args"), text(&header, "content-type")),
            (String::new(), String::new())
        );
    }

    #[test]
    fn headers_are_short() {
        let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("it is sound");
        let ask = |bytes: usize, form| {
            let subject = Subject::Login {
                authid: None,
                proof: Proof::Ticket(Ticket::new(&"é".repeat(bytes / 6))),
                extra: None,
            };
            Message::of((RealmId::new(0), None), &subject, &access, form, &[]).map(|_| ())
        };
        assert_eq!(ask(HEADER_BYTES_MAX, BodyForm::Header), Ok(()));
        assert_eq!(ask(HEADER_BYTES_MAX + 6, BodyForm::Header), Err(Failure::Untranslatable(TOO_LONG)));
        assert_eq!(ask(HEADER_BYTES_MAX + 6, BodyForm::Form), Ok(()));
    }

    #[test]
    fn only_the_fields_that_are_wanted_are_told() {
        let access = Access::new(&[RealmConfig::open("realm1")], 1).expect("it is sound");
        let subject =
            Subject::Login { authid: None, proof: Proof::Ticket(Ticket::new("a \"token\"")), extra: None };
        let json = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            Message::of((RealmId::new(0), None), &subject, &access, BodyForm::Json, &only)
                .expect("it has a form")
                .json()
        };
        assert_eq!(json(&["token"]), r#"{"token":"a \"token\""}"#);
        assert_eq!(json(&[]), r#"{"event":"authenticate","realm":"realm1","token":"a \"token\""}"#);
    }

    #[test]
    fn what_has_no_form_is_not_told_in_part() {
        // A list with NaN, as MessagePack.
        let payload = OwnedPayload::checked(Serializer::MsgPack, Some(b"\x91\xca\x7f\xc0\x00\x00"), None);
        let told = Message::about(HookEvent::Publish, "realm1").publishes(&payload.expect("it is a list"));
        assert_eq!(told, Err(Failure::Untranslatable(NO_JSON)));
    }
}
