//! `mix.http.request`: what a script asks for, as a request, and the answer as a table.

use std::fmt::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::http::{HeaderName, HeaderValue, Method, Request, header};
use mlua::{Lua, LuaString, MultiValue, Table, Value};

use crate::hooks::{Fetched, HookUrl};

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct HttpRequest {
    pub(super) request: Request<Bytes>,
    pub(super) timeout: Option<Duration>,
    pub(super) is_tls: bool,
}

/// Says how the request is sent, which is not to be chosen.
const OWN_HEADERS: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::HOST];

impl HttpRequest {
    /// Of what a script says: `method, url [, options]`.
    pub(super) fn read(method: &str, url: &str, options: Option<&Table>) -> Result<Self, String> {
        let mut url = url.to_owned();
        let get = |name: &str| -> Result<Option<Value>, String> {
            let Some(options) = options else { return Ok(None) };
            let value: Value = options.get(name).map_err(|error| error.to_string())?;
            Ok((!value.is_nil()).then_some(value))
        };
        if let Some(query) = get("query")? {
            let query = match &query {
                Value::Table(_) => {
                    let encoded = |(name, value): (String, String)| {
                        format!("{}={}", url_encoded(name.as_bytes()), url_encoded(value.as_bytes()))
                    };
                    let mut parts: Vec<String> = pairs("query", &query)?.into_iter().map(encoded).collect();
                    // A table has no order, and the same should be the same.
                    parts.sort_unstable();
                    parts.join("&")
                }
                other => text("query", other)?,
            };
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&query);
        }
        let address: HookUrl = url.parse()?;
        let mut request = Request::new(Bytes::new());
        let name = method.to_ascii_uppercase();
        *request.method_mut() =
            Method::from_bytes(name.as_bytes()).map_err(|_| format!("{method:?} is no method"))?;
        *request.uri_mut() = address.uri().clone();
        let user_agent = concat!("fanwire/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(user_agent));
        if let Some(body) = get("body")? {
            *request.body_mut() = match body {
                Value::String(body) => Bytes::copy_from_slice(&body.as_bytes()),
                other => {
                    return Err(format!("options.body is a {}, and must be a string", other.type_name()));
                }
            };
        }
        if let Some(headers) = get("headers")? {
            for (name, value) in pairs("headers", &headers)? {
                insert(&mut request, &name, &value)?;
            }
        }
        if let Some(cookies) = get("cookies")? {
            let cookies: Vec<String> =
                pairs("cookies", &cookies)?.iter().map(cookie).collect::<Result<_, _>>()?;
            insert(&mut request, "cookie", &cookies.join("; "))?;
        }
        if let Some(auth) = get("auth")? {
            let auth = pairs("auth", &auth)?;
            let find = |names: [&str; 2]| {
                let found = auth.iter().find(|(name, _)| names.contains(&name.as_str()));
                found.map_or("", |(_, value)| value.as_str())
            };
            let credentials = format!("{}:{}", find(["username", "user"]), find(["password", "pass"]));
            insert(&mut request, "authorization", &format!("Basic {}", STANDARD.encode(credentials)))?;
        }
        let timeout = get("timeout")?.map(|value| duration(&value)).transpose()?;
        Ok(Self { request, timeout, is_tls: address.is_tls() })
    }
}

/// As it may stand in a part of a path, or of a query: all but letters, digits and `-._~` is written as `%` and two digits.
pub(super) fn url_encoded(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => out.push(char::from(*byte)),
            byte => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// One that cannot become two (RFC 6265, 4.1.1).
fn cookie((name, value): &(String, String)) -> Result<String, String> {
    let breaks = |text: &str, more: &[u8]| {
        text.bytes().any(|byte| !byte.is_ascii_graphic() || b"\",;\\".contains(&byte) || more.contains(&byte))
    };
    if breaks(name, b"=") || breaks(value, b"") {
        return Err(format!("the cookie {name:?} has a character that ends a cookie: encode it"));
    }
    Ok(format!("{name}={value}"))
}

fn insert(request: &mut Request<Bytes>, name: &str, value: &str) -> Result<(), String> {
    let parsed = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
    if OWN_HEADERS.contains(&parsed) {
        return Err(format!("the header {name} says how the request is sent: leave it out"));
    }
    let value =
        HeaderValue::try_from(value).map_err(|_| format!("the value of {name} cannot stand in a header"))?;
    request.headers_mut().append(parsed, value);
    Ok(())
}

fn text(what: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => {
            text.to_str().map(|text| text.to_owned()).map_err(|_| format!("{what} is not UTF-8"))
        }
        Value::Integer(number) => Ok(number.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{what} is a {}, and must be a string", other.type_name())),
    }
}

fn pairs(what: &str, value: &Value) -> Result<Vec<(String, String)>, String> {
    let Value::Table(table) = value else {
        return Err(format!("options.{what} is a {}, and must be a table", value.type_name()));
    };
    let pairs = table.pairs::<Value, Value>().map(|pair| {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        Ok((text(what, &name)?, text(what, &value)?))
    });
    pairs.collect()
}

/// Seconds, or a text such as `500ms`, `2s`, `1m`.
pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    let wrong = || "a time is a number of seconds, or a text such as \"500ms\" or \"2s\"".to_owned();
    let seconds = match value {
        Value::Integer(seconds) => *seconds as f64,
        Value::Number(seconds) => *seconds,
        Value::String(text) => {
            let text = text.to_str().map_err(|_| wrong())?;
            let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.');
            let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
            let unit = match unit {
                "ms" => 0.001,
                "" | "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return Err(wrong()),
            };
            number.parse::<f64>().map_err(|_| wrong())? * unit
        }
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// What a script gets: the answer as a table, or nil and why there is none.
pub(super) fn answer(lua: &Lua, url: &str, fetched: Result<Fetched, String>) -> mlua::Result<MultiValue> {
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(words) => {
            let words: LuaString = lua.create_string(words)?;
            return Ok(MultiValue::from_iter([Value::Nil, Value::String(words)]));
        }
    };
    let answer = lua.create_table()?;
    answer.raw_set("status_code", fetched.status)?;
    answer.raw_set("body_size", fetched.body.len())?;
    answer.raw_set("body", lua.create_string(&fetched.body)?)?;
    answer.raw_set("url", url)?;
    let headers = lua.create_table()?;
    for (name, value) in &fetched.headers {
        headers.raw_set(name.as_str(), lua.create_string(value.as_bytes())?)?;
    }
    answer.raw_set("headers", headers)?;
    Ok(MultiValue::from_iter([Value::Table(answer)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, url: &str, options: &str) -> Result<HttpRequest, String> {
        let lua = Lua::new();
        let options: Table = lua.load(format!("return {options}")).eval().expect(options);
        HttpRequest::read(method, url, Some(&options))
    }

    #[test]
    fn options_become_a_request() {
        let options = "{ body = 'a\\0b', query = 'x=1', headers = { ['X-Key'] = 5 }, timeout = '500ms', \
                       auth = { user = 'joe', pass = 's' }, cookies = { a = 'b' } }";
        let HttpRequest { request, timeout, is_tls } =
            read("post", "http://127.0.0.1:1/a", options).expect("a request");
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::POST, "http://127.0.0.1:1/a?x=1".into())
        );
        assert_eq!(
            (&request.body()[..], timeout, is_tls),
            (&b"a\0b"[..], Some(Duration::from_millis(500)), false)
        );
        let field = |name: &str| request.headers()[name].to_str().expect("ASCII").to_owned();
        assert_eq!([field("x-key"), field("authorization"), field("cookie")], ["5", "Basic am9lOnM=", "a=b"]);
    }

    #[test]
    fn what_a_client_says_stays_one_value() {
        let options = "{ query = { ['a&b'] = 'x&admin=1/../\\u{ff}' }, cookies = { a = '1' } }";
        let HttpRequest { request, .. } = read("get", "http://127.0.0.1:1/a?z", options).expect("a request");
        assert_eq!(request.uri().to_string(), "http://127.0.0.1:1/a?z&a%26b=x%26admin%3D1%2F..%2F%C3%BF");
        assert!(read("get", "http://127.0.0.1:1/a", "{ cookies = { a = '1; admin=1' } }").is_err());
        assert!(read("get", "http://127.0.0.1:1/a", "{ cookies = { ['a=b'] = '1' } }").is_err());
    }

    #[test]
    fn mistakes_are_told() {
        for (method, url, options) in [
            ("G T", "http://a/", "{}"),
            ("GET", "ftp://a/", "{}"),
            ("GET", "", "{}"),
            ("GET", "http://a/", "{ body = {} }"),
            ("GET", "http://a/", "{ headers = 'x' }"),
            ("GET", "http://a/", "{ headers = { Host = 'b' } }"),
            ("GET", "http://a/", "{ headers = { ['a b'] = 'b' } }"),
            ("GET", "http://a/", "{ headers = { a = 'b\\r\\nc: d' } }"),
            ("GET", "http://a/", "{ timeout = 'soon' }"),
            ("GET", "http://a/", "{ timeout = -1 }"),
        ] {
            assert!(read(method, url, options).is_err(), "{method} {url} {options}");
        }
    }
}
