//! What a hook is asked: the same fields as JSON, as a form, or as headers.

use std::fmt::Write;

use bytes::Bytes;
use fanwire_codec::wamp2::Serializer;
use fanwire_core::access::Access;
use fanwire_core::hooks::HookEvent;
use fanwire_core::login::Proof;
use fanwire_core::question::{Identity, Question, Subject};
use hyper::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use serde_json::value::RawValue;

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

/// The fields of a question, in the order in which they are written.
#[derive(Debug)]
pub(super) struct Message {
    fields: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    Number(u64),
    /// A JSON text.
    Json(String),
}

impl Message {
    /// The fields of this question.
    pub(super) fn of(question: &Question, access: &Access) -> Self {
        let mut message = Self::about(question.subject.event(), access.realm_name(question.realm));
        match &question.subject {
            Subject::Login { authid, proof: Proof::Ticket(ticket) } => {
                message.text_if("authid", authid.as_deref());
                message.text("token", ticket.expose());
            }
            Subject::Connect { authid, role, method } => {
                message.text_if("authid", authid.as_deref());
                message.text("role", access.role_name(question.realm, *role));
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
                // What has no form in JSON is not told; the hook sees that it is missing.
                let payload = payload.as_ref().and_then(|payload| payload.transcode(Serializer::Json).ok());
                if let Some(payload) = payload {
                    let view = payload.view();
                    message.json_if("args", view.args);
                    message.json_if("kwargs", view.kwargs);
                }
            }
            Subject::Disconnect { who } => message.who(who),
            // Subjects that hooks are not asked about.
            _ => {}
        }
        message
    }

    /// Only what all questions have.
    pub(super) fn about(event: HookEvent, realm: &str) -> Self {
        let mut message = Self { fields: Vec::with_capacity(8) };
        message.text("event", event.name());
        message.text("realm", realm);
        message
    }

    fn who(&mut self, who: &Identity) {
        self.number("session", who.session.get());
        self.text("authid", &who.authid);
        self.text("role", &who.authrole);
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.fields.push((name, Value::Text(text.to_owned())));
    }

    pub(super) fn text_if(&mut self, name: &'static str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(name, text));
    }

    pub(super) fn number(&mut self, name: &'static str, number: u64) {
        self.fields.push((name, Value::Number(number)));
    }

    pub(super) fn json_if(&mut self, name: &'static str, json: Option<&[u8]>) {
        let text = json.and_then(|json| std::str::from_utf8(json).ok());
        self.fields.extend(text.map(|text| (name, Value::Json(text.to_owned()))));
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
                    let Some(text) = value.short() else { continue };
                    let name =
                        HeaderName::try_from(format!("x-fanwire-{name}")).expect("our own names are fine");
                    let value = HeaderValue::try_from(visible(&text)).expect("it is visible ASCII");
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
        out + "}"
    }

    fn form(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.fields {
            out.append_pair(name, &value.any());
        }
        out.finish()
    }
}

impl Value {
    fn any(&self) -> String {
        match self {
            Self::Text(text) | Self::Json(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    /// Unless it is a payload, which may be larger than any head.
    fn short(&self) -> Option<String> {
        (!matches!(self, Self::Json(_))).then(|| self.any())
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

/// Checks that a JSON text is one value, and gives it without the spaces around it.
pub(super) fn one_json(text: &str) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

const INFALLIBLE: &str = "writing to a string succeeds";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const USER_AGENT: &str = concat!("fanwire/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let mut message = Message::about(HookEvent::Publish, "realm1");
        message.number("session", 7);
        message.text("authid", "jo \"é\" 50%\n");
        message.json_if("args", Some(b"[1, {\"a\": null}]"));
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
}
