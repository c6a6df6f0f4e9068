//! What scripts find beside Lua's own library: `mix` and the methods of connections.
//!
//! Functions that can fail give back what the callers of CONNMIX expect: nothing and words, or words alone. Only arguments of the
//! wrong type raise an error.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::ws;
use fanwire_core::api::Order;
use fanwire_core::ids::ClientId;
use hyper::http::Uri;
use md5::{Digest, Md5};
use mlua::{
    FromLuaMulti, Function, IntoLua, IntoLuaMulti, LightUserData, Lua, LuaString, MultiValue, Table, Value,
    Variadic,
};
use sha1::Sha1;

use super::event::{BESIDE_MAX, Event, Wait};
use super::http::{self, HttpRequest};
use super::vm::State;
use super::{json, strings};

/// Begins the places in traces that are of `prelude.lua`.
pub(super) const PRELUDE_NAME: &str = "fanwire prelude";

/// Makes a state what scripts expect. Gives back what makes the object of a connection of its id.
pub(super) fn install(lua: &Lua, state: &Rc<State>) -> mlua::Result<Function> {
    let mix = lua.create_table()?;
    plain(lua, &mix)?;
    surroundings(lua, &mix, state)?;
    for part in ["mesh", "http"] {
        mix.raw_set(part, lua.create_table()?)?;
    }
    lua.globals().raw_set("mix", mix)?;
    strings::install(lua, state)?;
    let native = lua.create_table()?;
    connection(lua, &native, state)?;
    waiting(lua, &native, state)?;
    let prelude = lua.load(include_str!("prelude.lua")).set_name(format!("={PRELUDE_NAME}"));
    prelude.call(native)
}

/// A function of the table.
pub(super) fn function<A: FromLuaMulti, R: IntoLuaMulti>(
    lua: &Lua,
    table: &Table,
    name: &str,
    function: impl Fn(&Lua, A) -> mlua::Result<R> + 'static,
) -> mlua::Result<()> {
    table.raw_set(name, lua.create_function(function)?)
}

/// Nothing and words.
fn problem(lua: &Lua, words: impl AsRef<[u8]>) -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([Value::Nil, Value::String(lua.create_string(words)?)]))
}

/// A value, or nothing and words.
fn or_problem<T: IntoLua>(lua: &Lua, result: Result<T, String>) -> mlua::Result<MultiValue> {
    match result {
        Ok(value) => Ok(MultiValue::from_iter([value.into_lua(lua)?])),
        Err(words) => problem(lua, words),
    }
}

/// What needs nothing but its arguments.
fn plain(lua: &Lua, mix: &Table) -> mlua::Result<()> {
    mix.raw_set("null", Value::LightUserData(LightUserData(std::ptr::null_mut())))?;
    function(lua, mix, "json_encode", |lua, value: Value| or_problem(lua, json::encode(&value)))?;
    function(lua, mix, "json_decode", |lua, text: LuaString| {
        or_problem(lua, json::decode(lua, &text.as_bytes()))
    })?;
    function(lua, mix, "base64_encode", |_, data: LuaString| Ok(STANDARD.encode(&*data.as_bytes())))?;
    function(lua, mix, "base64_decode", |lua, text: LuaString| match STANDARD.decode(&*text.as_bytes()) {
        Ok(data) => Ok(MultiValue::from_iter([Value::String(lua.create_string(data)?)])),
        Err(error) => problem(lua, error.to_string()),
    })?;
    function(lua, mix, "md5", |_, data: LuaString| Ok(hex(&Md5::digest(&*data.as_bytes()))))?;
    function(lua, mix, "md5_bin", |lua, data: LuaString| lua.create_string(Md5::digest(&*data.as_bytes())))?;
    function(lua, mix, "sha1", |_, data: LuaString| Ok(hex(&Sha1::digest(&*data.as_bytes()))))?;
    function(lua, mix, "sha1_bin", |lua, data: LuaString| {
        lua.create_string(Sha1::digest(&*data.as_bytes()))
    })?;
    function(lua, mix, "str_split", |lua, (text, separator): (LuaString, LuaString)| {
        let (text, separator) = (text.as_bytes(), separator.as_bytes());
        // One at a time: many values at once take room in the state that never comes back.
        let parts = lua.create_table()?;
        for (place, part) in (1..).zip(split(&text, &separator)) {
            parts.raw_set(place, lua.create_string(part)?)?;
        }
        Ok(parts)
    })?;
    function(lua, mix, "url_encode", |_, text: LuaString| Ok(http::url_encoded(&text.as_bytes())))?;
    function(lua, mix, "bytes_tostring", |lua, bytes: Vec<u8>| lua.create_string(bytes))?;
    for name in ["url_parse", "parse_url"] {
        function(lua, mix, name, |lua, url: String| or_problem(lua, parse_url(lua, &url)))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parts between separators, one more than those; without a separator each byte.
fn split<'a>(text: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    if separator.is_empty() {
        return text.chunks(1).collect();
    }
    let (mut parts, mut from) = (Vec::new(), 0);
    for at in memchr::memmem::find_iter(text, separator) {
        parts.push(&text[from..at]);
        from = at + separator.len();
    }
    parts.push(&text[from..]);
    parts
}

fn parse_url(lua: &Lua, url: &str) -> Result<Table, String> {
    let (before, fragment) =
        url.split_once('#').map_or((url, None), |(before, behind)| (before, Some(behind)));
    let uri: Uri = before.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let user =
        uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| user);
    let (name, password) = user.map_or((None, None), |user| match user.split_once(':') {
        Some((name, password)) => (Some(name), Some(password)),
        None => (Some(user), None),
    });
    let make = || {
        let table = lua.create_table()?;
        for (key, value) in [
            ("scheme", uri.scheme_str()),
            ("host", uri.host()),
            ("path", Some(uri.path())),
            ("query", uri.query()),
            ("fragment", fragment),
            ("username", name),
            ("password", password),
        ] {
            table.raw_set(key, value)?;
        }
        table.raw_set("port", uri.port_u16())?;
        Ok::<Table, mlua::Error>(table)
    };
    make().map_err(|error| error.to_string())
}

/// The log, the queues, the options, modules.
fn surroundings(lua: &Lua, mix: &Table, state: &Rc<State>) -> mlua::Result<()> {
    for level in ["DEBUG", "INFO", "WARN", "ERROR"] {
        mix.raw_set(level, level)?;
    }
    let of = Rc::clone(state);
    function(lua, mix, "log", move |_, (level, words): (String, Value)| {
        log(&of, &level, &shown(&words));
        Ok(true)
    })?;
    let of = Rc::clone(state);
    function(lua, &lua.globals(), "print", move |_, values: Variadic<Value>| {
        let words: Vec<String> = values.iter().map(shown).collect();
        log(&of, "INFO", &words.join("\t"));
        Ok(())
    })?;
    let server = lua.create_table()?;
    let of = Rc::clone(state);
    function(lua, &server, "option", move |_, name: String| Ok(of.surroundings.options.get(&name).cloned()))?;
    mix.raw_set("server", server)?;
    let queue = lua.create_table()?;
    let of = Rc::clone(state);
    function(lua, &queue, "push", move |lua, (topic, data): (String, Value)| {
        or_problem(lua, push(&of, &topic, &data).map(|()| 1))
    })?;
    // Queues are in the configuration.
    function(lua, &queue, "new", |_, _: MultiValue| Ok(()))?;
    mix.raw_set("queue", queue)
}

fn push(state: &State, topic: &str, data: &Value) -> Result<(), String> {
    let event = state.event.borrow();
    let event = event.as_ref().ok_or("there is no connection while the script is loaded")?;
    let text = match data {
        Value::String(text) => text.to_str().map_err(|_| "the data is not UTF-8".to_owned())?.to_owned(),
        other => json::encode(other)?,
    };
    let uid = event.conn.context().borrow().text("uid");
    state.surroundings.queues.push_text(topic, event.conn.client(), uid, &text)
}

/// A value for people: tables as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string_lossy(),
        table @ Value::Table(_) => json::encode(table).unwrap_or_else(|_| "table".to_owned()),
        other => other.to_string().unwrap_or_else(|_| other.type_name().to_owned()),
    }
}

fn log(state: &State, level: &str, words: &str) {
    if state.surroundings.is_silent {
        return;
    }
    let end = words.char_indices().map(|(at, _)| at).nth(LOGGED_MAX).unwrap_or(words.len());
    let words = &words[..end];
    let handler = &*state.surroundings.handler;
    let client = state.event.borrow().as_ref().map_or(0, |event| event.conn.client().get());
    match level {
        "ERROR" => tracing::error!(handler, client, "{words}"),
        "WARN" => tracing::warn!(handler, client, "{words}"),
        "DEBUG" => tracing::debug!(handler, client, "{words}"),
        _ => tracing::info!(handler, client, "{words}"),
    }
}

/// Characters of one line of the log.
const LOGGED_MAX: usize = 4_096;

/// The event in hand, if it is that of this connection.
fn event_of(state: &State, conn: &Table) -> Result<Rc<Event>, String> {
    let id: Option<i64> = conn.raw_get("id").ok();
    let event = state.event.borrow();
    let event = event.as_ref().ok_or("there is no connection while the script is loaded")?;
    if id == Some(event.conn.client().get() as i64) {
        return Ok(Rc::clone(event));
    }
    Err("this connection is not the one in hand: call mix.websocket() in each function".to_owned())
}

/// Methods of connections that need not wait.
fn connection(lua: &Lua, native: &Table, state: &Rc<State>) -> mlua::Result<()> {
    let of = Rc::clone(state);
    function(lua, native, "spent", move |_, ()| Ok(of.is_spent()))?;
    let of = Rc::clone(state);
    function(lua, native, "spent_words", move |_, ()| Ok(of.spent_words()))?;
    let of = Rc::clone(state);
    function(lua, native, "require", move |lua, name: String| match of.script.module(&name) {
        Ok(text) => {
            of.modules.borrow_mut().insert(name.clone(), std::sync::Arc::clone(&text));
            Ok((lua.create_string(text.as_bytes())?, format!("@{name}.lua")).into_lua_multi(lua)?)
        }
        Err(words) => problem(lua, words),
    })?;
    let of = Rc::clone(state);
    function(lua, native, "current", move |lua, ()| match &*of.event.borrow() {
        Some(event) => event.conn.client().get().into_lua_multi(lua),
        None => problem(lua, "there is no connection while the script is loaded"),
    })?;
    let of = Rc::clone(state);
    function(lua, native, "remote_addr", move |_, conn: Table| {
        let peer = event_of(&of, &conn).map_err(mlua::Error::runtime)?.conn.peer();
        Ok(peer.map(|peer| peer.to_string()))
    })?;
    let of = Rc::clone(state);
    function(lua, native, "context", move |lua, conn: Table| {
        event_of(&of, &conn).map_err(mlua::Error::runtime)?.conn.context().borrow().all(lua)
    })?;
    let of = Rc::clone(state);
    function(lua, native, "context_value", move |lua, (conn, key): (Table, String)| {
        event_of(&of, &conn).map_err(mlua::Error::runtime)?.conn.context().borrow().get(lua, &key)
    })?;
    let of = Rc::clone(state);
    function(lua, native, "set_context_value", move |_, (conn, key, value): (Table, String, Value)| {
        let set = |event: Rc<Event>| event.conn.context().borrow_mut().set(&key, &value);
        Ok(event_of(&of, &conn).and_then(set).err())
    })?;
    let of = Rc::clone(state);
    function(lua, native, "set_context", move |_, (conn, values): (Table, Table)| {
        let event = match event_of(&of, &conn) {
            Ok(event) => event,
            Err(words) => return Ok(Some(words)),
        };
        for pair in values.pairs::<String, Value>() {
            let (key, value) = pair?;
            if let Err(words) = event.conn.context().borrow_mut().set(&key, &value) {
                return Ok(Some(words));
            }
        }
        Ok(None)
    })?;
    let of = Rc::clone(state);
    function(lua, native, "send", move |_, (conn, data, kind): (Table, LuaString, Option<String>)| {
        let sent = event_of(&of, &conn).and_then(|event| {
            let (kind, bytes) = message(&data, kind.as_deref())?;
            let size = bytes.len();
            event.order(Order::Send { kind, bytes }, size)
        });
        Ok(sent.err())
    })?;
    let of = Rc::clone(state);
    function(lua, native, "close", move |_, conn: Table| {
        let closed = event_of(&of, &conn).and_then(|event| {
            event.order(Order::Close { code: 1000, words: "".into() }, 0)?;
            event.is_closed.set(true);
            Ok(())
        });
        Ok(closed.err())
    })
}

/// A message of a script: text unless it says `binary`.
fn message(data: &LuaString, kind: Option<&str>) -> Result<(ws::Kind, Box<[u8]>), String> {
    let bytes = data.as_bytes();
    match kind {
        Some("binary") => Ok((ws::Kind::Binary, (*bytes).into())),
        None | Some("text") if std::str::from_utf8(&bytes).is_ok() => Ok((ws::Kind::Text, (*bytes).into())),
        None | Some("text") => Err("the data is not UTF-8: send it as \"binary\"".to_owned()),
        Some(other) => Err(format!("{other:?} is no type of messages: \"text\" or \"binary\"")),
    }
}

/// Calls that wait: they say whether they do, or what the caller gets at once.
fn waiting(lua: &Lua, native: &Table, state: &Rc<State>) -> mlua::Result<()> {
    let of = Rc::clone(state);
    function(lua, native, "subscribe", move |lua, (conn, names): (Table, Variadic<String>)| {
        let wait = event_of(&of, &conn).and_then(|event| {
            let names = channels(&names)?;
            Ok((event, Wait::Order(Order::Subscribe(names))))
        });
        begin(lua, wait, &[])
    })?;
    let of = Rc::clone(state);
    function(lua, native, "unsubscribe", move |lua, (conn, names): (Table, Variadic<String>)| {
        let wait = event_of(&of, &conn).and_then(|event| {
            let names = channels(&names)?;
            Ok((event, Wait::Order(Order::Unsubscribe(names))))
        });
        begin(lua, wait, &[])
    })?;
    let of = Rc::clone(state);
    function(
        lua,
        native,
        "wait_context_value",
        move |lua, (conn, key, time): (Table, String, Option<Value>)| {
            let event = match event_of(&of, &conn) {
                Ok(event) => event,
                Err(words) => return begin(lua, Err(words), &[Value::Nil]),
            };
            if event.conn.context().borrow().has(&key) {
                let value = event.conn.context().borrow().get(lua, &key)?;
                return Ok(MultiValue::from_iter([Value::Boolean(false), value]));
            }
            let time = time.map(|time| http::duration(&time)).transpose();
            begin(lua, time.map(|time| (event, Wait::Context { key: key.into(), time })), &[Value::Nil])
        },
    )?;
    let of = Rc::clone(state);
    function(
        lua,
        native,
        "send_to",
        move |lua, (client, data, kind): (Value, LuaString, Option<String>)| {
            let wait = in_hand(&of).and_then(|event| {
                let client = match &client {
                    Value::Integer(number) => u64::try_from(*number).ok(),
                    Value::String(digits) => digits.to_str().ok().and_then(|digits| digits.parse().ok()),
                    _ => None,
                };
                let client = client.and_then(ClientId::from_number).ok_or("there is no such client id")?;
                let (kind, bytes) = message(&data, kind.as_deref())?;
                Ok((event, Wait::Other(client, Order::Send { kind, bytes })))
            });
            begin(lua, wait, &[])
        },
    )?;
    let of = Rc::clone(state);
    function(
        lua,
        native,
        "publish",
        move |lua, (topic, data, kind): (String, LuaString, Option<String>)| {
            let wait = in_hand(&of).and_then(|event| {
                let (kind, bytes) = message(&data, kind.as_deref())?;
                let payload = match kind {
                    ws::Kind::Text => OwnedPayload::from_plain(&bytes),
                    ws::Kind::Binary => OwnedPayload::from_plain_binary(&bytes),
                };
                Ok((event, Wait::Publication { topic: topic.into(), payload }))
            });
            begin(lua, wait, &[Value::Integer(0), Value::Integer(0)])
        },
    )?;
    let of = Rc::clone(state);
    type Request = (String, String, Option<Value>, Option<Function>);
    function(lua, native, "request", move |lua, (method, url, options, callback): Request| {
        // The function may stand in the place of the options.
        let (options, callback) = match options {
            Some(Value::Function(function)) => (None, Some(function)),
            Some(Value::Table(table)) => (Some(table), callback),
            _ => (None, callback),
        };
        let asked =
            in_hand(&of).and_then(|event| Ok((event, HttpRequest::read(&method, &url, options.as_ref())?)));
        match (asked, callback) {
            (Ok((event, request)), Some(callback)) => {
                let Some(place) = event.conn.beside() else {
                    let words = format!("{BESIDE_MAX} requests of this connection wait for their callbacks");
                    return begin(lua, Err(words), &[Value::Nil]);
                };
                event.detached.borrow_mut().push((request, callback, place));
                Ok(MultiValue::from_iter([Value::Boolean(false)]))
            }
            (asked, _) => begin(
                lua,
                asked.map(|(event, request)| (event, Wait::Http(Box::new(request)))),
                &[Value::Nil],
            ),
        }
    })
}

fn in_hand(state: &State) -> Result<Rc<Event>, String> {
    state.event.borrow().clone().ok_or_else(|| "there is no connection while the script is loaded".to_owned())
}

fn channels(names: &[String]) -> Result<Vec<Box<str>>, String> {
    if names.is_empty() || names.len() > CHANNELS_MAX {
        return Err(format!("1 to {CHANNELS_MAX} channels at once"));
    }
    Ok(names.iter().map(|name| name.as_str().into()).collect())
}

const CHANNELS_MAX: usize = 1_000;

/// Notes what the script waits for from here on; or that it does not wait, with what it gets: `before`, and the words.
fn begin(lua: &Lua, wait: Result<(Rc<Event>, Wait), String>, before: &[Value]) -> mlua::Result<MultiValue> {
    match wait {
        Ok((event, wait)) => {
            event.wait.replace(Some(wait));
            Ok(MultiValue::from_iter([Value::Boolean(true)]))
        }
        Err(words) => {
            let words = Value::String(lua.create_string(words)?);
            let no = std::iter::once(Value::Boolean(false));
            Ok(MultiValue::from_iter(no.chain(before.iter().cloned()).chain([words])))
        }
    }
}
