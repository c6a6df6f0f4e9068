//! Brings one connection from the TCP handshake to the session, subscription or registration that its role needs.

use bytes::BytesMut;
use fanwire_codec::rawsocket::{self, MaxLength};
use fanwire_codec::wamp2::{
    self, DecodeLimits, HelloDetails, Message, Payload, RegisterOptions, Roles, Serializer, SubscribeOptions,
};
use fanwire_codec::ws::handshake::{self, HandshakeError};

use crate::connection::{Connection, Masks, Stage, Upgrade};
use crate::failure::Failure;
use crate::plan::{Plan, Setup};
use crate::script::Script;
use crate::shared::Shared;

/// The answer to the upgrade at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a session needs from its worker.
#[derive(Debug)]
pub struct Tools<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// What the threads share.
    pub shared: &'a Shared,
    /// Mask keys.
    pub masks: &'a mut Masks,
    /// Room to encode a message in.
    pub scratch: &'a mut BytesMut,
}

/// TCP is connected: asks for the WebSocket.
pub fn begin_upgrade(connection: &mut Connection, tools: &mut Tools<'_>) -> Result<(), Failure> {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&tools.masks.bits().to_le_bytes());
    key[8..].copy_from_slice(&tools.masks.bits().to_le_bytes());
    let target = tools.plan.target_of(&connection.setup);
    if connection.setup == Setup::Post {
        connection.answers = Some(Box::default());
        connection.stage = Stage::Ready;
        return Ok(());
    }
    if let Some(script) = tools.plan.dialect.as_deref().filter(|_| connection.is_plain_tcp) {
        script.advance(connection, tools);
        return Ok(());
    }
    if target.is_raw_socket {
        let request = rawsocket::Request { serializer: connection.serializer, max_length: MaxLength::MOST };
        connection.out.extend_from_slice(&request.encode());
        connection.upgrade = Some(Box::new(Upgrade { key, head: Vec::new() }));
        connection.stage = Stage::Upgrading;
        return Ok(());
    }
    let path = target.path.replace("{topic}", connection.setup.topic().unwrap_or(""));
    let script = tools.plan.dialect.as_deref();
    let offer = tools.plan.compression.offer().map(|offer| offer.to_string());
    let mut headers: Vec<(&str, &str)> = script
        .into_iter()
        .flat_map(|script| &script.headers)
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    headers.extend(offer.as_deref().map(|offer| ("Sec-WebSocket-Extensions", offer)));
    let offered: Vec<&str> = offered(connection.serializer, script).into_iter().collect();
    handshake::write_request(&mut connection.out, &target.host, &path, &offered, key, &headers)
        .map_err(|error| Failure::usage(format!("--url: {error}")))?;
    connection.upgrade = Some(Box::new(Upgrade { key, head: Vec::new() }));
    connection.stage = Stage::Upgrading;
    Ok(())
}

/// The subprotocol to offer, if any.
fn offered(serializer: Serializer, script: Option<&Script>) -> Option<&str> {
    match script {
        Some(script) => script.subprotocol.as_deref(),
        None => Some(serializer.subprotocol()),
    }
}

/// Bytes of the answer came. Returns what of `input` is behind the head, once the head is whole and good.
pub fn handle_upgrade(
    connection: &mut Connection,
    input: &[u8],
    tools: &mut Tools<'_>,
) -> Result<Option<usize>, Failure> {
    let mut upgrade = connection.upgrade.take().expect("an upgrade is under way in this stage");
    let before = upgrade.head.len();
    upgrade.head.extend_from_slice(input);
    if connection.is_raw {
        let Some(reply) = upgrade.head.first_chunk::<{ rawsocket::HANDSHAKE_BYTES }>() else {
            connection.upgrade = Some(upgrade);
            return Ok(None);
        };
        match rawsocket::Reply::decode(*reply, connection.serializer) {
            rawsocket::Reply::Accepted(_) => join(connection, tools),
            refused => return Err(Failure::cannot_connect(format!("{}: {refused}", tools.plan.target.host))),
        }
        return Ok(Some(rawsocket::HANDSHAKE_BYTES - before));
    }
    let Some(end) = upgrade.head.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4) else {
        if upgrade.head.len() > HEAD_BYTES_MAX {
            return Err(Failure::cannot_connect(format!(
                "{} answered the upgrade with more than {HEAD_BYTES_MAX} bytes and no end of the head: is it a WebSocket server?",
                tools.plan.target.host
            )));
        }
        connection.upgrade = Some(upgrade);
        return Ok(None);
    };
    let script = tools.plan.dialect.as_deref();
    let offered: Vec<&str> = offered(connection.serializer, script).into_iter().collect();
    let offer = tools.plan.compression.offer();
    match handshake::verify_response_with(&upgrade.head[..end], &upgrade.key, &offered, offer.as_ref()) {
        // Servers of other kinds need not choose a subprotocol.
        Ok(opened) if opened.subprotocol.is_some() || script.is_some() => {
            if let Some(agreement) = &opened.deflate {
                connection.use_compression(agreement);
            }
            if offer.is_some() {
                tools.shared.count_compression(opened.deflate.is_some());
            }
        }
        Ok(_) => {
            let offered = offered.join(", ");
            return Err(Failure::cannot_connect(format!(
                "{}{} opened a WebSocket but does not speak {offered}: give the path of its WAMP endpoint with --url, \
                 or another --serializer",
                tools.plan.target.host, tools.plan.target.path
            )));
        }
        Err(error) => {
            let body =
                String::from_utf8_lossy(&upgrade.head[end..]).trim().chars().take(300).collect::<String>();
            let remedy = match &error {
                HandshakeError::Refused { status: 404, .. } => {
                    "; give the path of the WAMP endpoint with --url"
                }
                HandshakeError::Refused { status: 503 | 429, .. } => "; try a lower --connect-rate",
                _ => "",
            };
            return Err(Failure::cannot_connect(format!(
                "{}{}: {error}{}{body}{remedy}",
                tools.plan.target.host,
                tools.plan.target.path,
                if body.is_empty() { "" } else { ": " },
            )));
        }
    }
    match script {
        Some(script) => script.advance(connection, tools),
        None => join(connection, tools),
    }
    Ok(Some(end - before))
}

/// A message came before the connection was ready.
pub fn handle_message(
    connection: &mut Connection,
    bytes: &[u8],
    tools: &mut Tools<'_>,
) -> Result<(), Failure> {
    if let Some(script) = &tools.plan.dialect {
        script.handle_setup(connection, bytes, tools);
        return Ok(());
    }
    let message = wamp2::decode(connection.serializer, bytes, &DecodeLimits::default()).map_err(|error| {
        Failure::cannot_connect(format!("the server sent what is no WAMP message: {error}"))
    })?;
    match (connection.stage, message) {
        (Stage::Joining, Message::Welcome { details, .. }) => {
            if let Some(agent) = details.agent {
                tools.shared.agent.get_or_init(|| agent.into_owned());
            }
            prepare(connection, tools);
        }
        (Stage::Preparing, Message::Subscribed { .. } | Message::Registered { .. }) => {
            connection.stage = Stage::Ready;
        }
        (Stage::Joining, Message::Challenge { method, .. }) => match &tools.plan.login {
            Some(login) if method == METHOD_TICKET => {
                let proof = Message::Authenticate { signature: login.ticket.as_str().into(), extra: &[] };
                connection.push(&proof, tools.scratch, tools.masks);
            }
            _ => {
                return Err(Failure::cannot_connect(format!(
                    "realm '{}' wants a login by {method}: name a user with --user, or allow anonymous sessions",
                    tools.plan.realm
                )));
            }
        },
        (_, Message::Abort { reason, message }) => {
            return Err(Failure::cannot_connect(format!(
                "the server refused the session in realm '{}': {reason}{}{} (choose the realm with --realm)",
                tools.plan.realm,
                if message.is_some() { ": " } else { "" },
                message.as_deref().unwrap_or("")
            )));
        }
        (_, Message::Error { error, payload, .. }) => {
            let what = match &connection.setup {
                Setup::Subscribe(topic) => format!("to subscribe to '{topic}'"),
                Setup::Register(procedure) => format!("to register '{procedure}'"),
                _ => "a request".to_owned(),
            };
            let words = error_words(connection.serializer, &payload);
            return Err(Failure::cannot_connect(format!("the server refused {what}: {error}{words}")));
        }
        (_, Message::Goodbye { reason, .. }) => {
            return Err(Failure::cannot_connect(format!(
                "the server said good-bye while the connections were set up: {reason}"
            )));
        }
        // Events of another run on the same topic may come as soon as we are subscribed.
        (Stage::Preparing, Message::Event { .. }) => {}
        (stage, message) => {
            return Err(Failure::cannot_connect(format!(
                "the server sent {} while the connection was in stage {stage:?}",
                message.name()
            )));
        }
    }
    Ok(())
}

/// Why the server ended a session, if `bytes` say so.
pub fn read_farewell(serializer: Serializer, bytes: &[u8]) -> Option<String> {
    match wamp2::decode(serializer, bytes, &DecodeLimits::default()) {
        Ok(Message::Abort { reason, message }) => Some(match message {
            Some(message) => format!("ABORT {reason}: {message}"),
            None => format!("ABORT {reason}"),
        }),
        Ok(Message::Goodbye { reason, .. }) => Some(format!("GOODBYE {reason}")),
        _ => None,
    }
}

/// The server said GOODBYE: it is answered and the WebSocket closed (WAMP, "Session Closing").
pub fn answer_goodbye(connection: &mut Connection, tools: &mut Tools<'_>) {
    let goodbye = Message::Goodbye { reason: "wamp.close.goodbye_and_out".into(), message: None };
    connection.push(&goodbye, tools.scratch, tools.masks);
    connection.push_close(1000, tools.masks);
}

/// Ends the session politely: GOODBYE and a close frame, without waiting for the answers.
pub fn say_goodbye(connection: &mut Connection, tools: &mut Tools<'_>) {
    if connection.setup == Setup::Post || connection.is_plain_tcp {
        connection.close();
        return;
    }
    if connection.setup != Setup::Connection && tools.plan.dialect.is_none() {
        let goodbye = Message::Goodbye { reason: "wamp.close.close_realm".into(), message: None };
        connection.push(&goodbye, tools.scratch, tools.masks);
    }
    connection.push_close(1000, tools.masks);
}

/// The first argument of an ERROR, which holds words for people in most routers.
pub fn error_words(serializer: Serializer, payload: &Payload<'_>) -> String {
    match (serializer, payload.args) {
        (Serializer::Json, Some(args)) if args.len() > 2 => format!(" {}", String::from_utf8_lossy(args)),
        (_, Some(args)) if args.len() > 2 => {
            // The printable part of MessagePack is good enough for a message to people.
            let text: String = String::from_utf8_lossy(args)
                .chars()
                .filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER)
                .collect();
            format!(" {text}")
        }
        _ => String::new(),
    }
}

const METHOD_TICKET: &str = "ticket";

fn join(connection: &mut Connection, tools: &mut Tools<'_>) {
    if connection.setup == Setup::Connection {
        connection.stage = Stage::Ready;
        return;
    }
    let login = tools.plan.login.as_ref();
    let details = HelloDetails {
        roles: Roles::CLIENT,
        agent: Some(concat!("fanwire-loadgen-", env!("CARGO_PKG_VERSION")).into()),
        authid: login.map(|login| login.user.as_str().into()),
        authmethods: login.map(|_| METHOD_TICKET.into()).into_iter().collect(),
        ..HelloDetails::default()
    };
    let hello = Message::Hello { realm: tools.plan.realm.as_str().into(), details };
    connection.push(&hello, tools.scratch, tools.masks);
    connection.stage = Stage::Joining;
}

fn prepare(connection: &mut Connection, tools: &mut Tools<'_>) {
    let setup = connection.setup.clone();
    let request = connection.next_request();
    let message = match &setup {
        Setup::Subscribe(topic) => {
            let pattern = tools.plan.matching.pattern(topic).expect("the command line was checked for this");
            let options = SubscribeOptions { match_policy: pattern.0, ..SubscribeOptions::default() };
            Message::Subscribe { request, options, topic: pattern.1.into() }
        }
        Setup::Register(procedure) => Message::Register {
            request,
            options: RegisterOptions::default(),
            procedure: (&**procedure).into(),
        },
        Setup::Session | Setup::Connection | Setup::Post => {
            connection.stage = Stage::Ready;
            return;
        }
    };
    connection.take_request();
    connection.push(&message, tools.scratch, tools.masks);
    connection.stage = Stage::Preparing;
}
