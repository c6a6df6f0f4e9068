//! A blocking WAMP session over a WebSocket or RawSocket of the client side.
//!
//! One thread reads; any may send through a [`Sender`]. Pings are answered while reading.

use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::rawsocket::{self, FrameKind, MaxLength};
use fanwire_codec::wamp2::{self, DecodeLimits, HelloDetails, Message, Payload, Roles, Serializer};
use fanwire_codec::ws::deflate::{Deflater, Offer, write_client_deflated_message};
use fanwire_codec::ws::{self, Kind, Place, Received, Receiver, Role, Url, UrlError, handshake};

use super::failure::Failure;
use super::login::Login;
use super::stream::Stream;
use super::tls::{self, TlsStream};
use crate::cli;
use crate::users::plain;

/// Where `fanwire` serves WAMP unless configured otherwise.
const DEFAULT_PATH: &str = "/ws";
/// For the connection, the upgrade and the login, each.
const PATIENCE: Duration = Duration::from_secs(10);
/// A router may have many logins to verify; its own deadline ends it before.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);
/// The answer to a goodbye is a courtesy; nobody waits long for it.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// A router may send larger messages than it takes.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// A response head beyond this comes from something else.
const HEAD_BYTES_MAX: usize = 16 << 10;
const READ_BYTES: usize = 64 << 10;
/// Of compression: a network is worth more time than a loop is.
const LEVEL: u8 = 6;

/// A joined session.
pub struct Connection {
    stream: Stream,
    sender: Sender,
    receiver: Receiver,
    /// Over RawSocket, instead.
    raw: Option<rawsocket::Receiver>,
    pool: ws::Pool,
    limits: ws::Limits,
    /// Bytes read and not consumed: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    serializer: Serializer,
    /// The router's own name of the session.
    pub session: u64,
}

/// The sending half, for all threads.
#[derive(Clone)]
pub struct Sender {
    outgoing: Arc<Mutex<Outgoing>>,
    serializer: Serializer,
}

struct Outgoing {
    stream: Stream,
    /// Where compression was agreed on.
    deflater: Option<Deflater>,
    /// Over RawSocket: the longest message that the router takes.
    raw: Option<MaxLength>,
}

impl Sender {
    /// Sends one message, and blocks until the kernel has taken it.
    pub fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let mut body = BytesMut::new();
        wamp2::encode(message, self.serializer, &mut body);
        let kind = kind(self.serializer);
        let mut frame = BytesMut::new();
        let key = random()?;
        let mut outgoing = self.lock();
        if let Some(max_length) = outgoing.raw {
            if body.len() > max_length.bytes() {
                let words = format!("the message has {} bytes, the router takes {max_length}", body.len());
                return Err(Failure::Refused(words));
            }
            rawsocket::write_frame(&mut frame, FrameKind::Message, &body);
            return outgoing.stream.write_all(&frame).map_err(|error| lost(&error));
        }
        match &mut outgoing.deflater {
            Some(deflater) => {
                write_client_deflated_message(&mut frame, kind, &[&body], key, deflater, None);
            }
            None => ws::write_client_message(&mut frame, kind, &[&body], key),
        }
        outgoing.stream.write_all(&frame).map_err(|error| lost(&error))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.lock().stream.write_all(bytes).map_err(|error| lost(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().expect("no thread panics while it sends")
    }
}

impl Connection {
    /// Connects, upgrades, joins the realm.
    pub fn open(connect: &cli::Connect) -> Result<Self, Failure> {
        let Address { url, is_tls, is_raw } = Address::parse(&connect.url)?;
        let serializer = match connect.serializer {
            cli::Serializer::Json => Serializer::Json,
            cli::Serializer::Msgpack => Serializer::MsgPack,
            cli::Serializer::Cbor => Serializer::Cbor,
        };
        // Before anybody has to wait for a person.
        let login = Login::from_flags(connect)?;
        let mut stream = dial(&connect.url, &url)?;
        if is_tls {
            stream = encrypt(stream, connect, &url)?;
        }
        let sender = Sender {
            outgoing: Arc::new(Mutex::new(Outgoing {
                stream: stream.try_clone().map_err(|error| lost(&error))?,
                deflater: None,
                raw: None,
            })),
            serializer,
        };
        let mut connection = Self {
            stream,
            sender,
            receiver: Receiver::new(Role::Client),
            raw: None,
            pool: ws::Pool::default(),
            limits: ws::Limits { message_bytes_max: MESSAGE_BYTES_MAX },
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            serializer,
            session: 0,
        };
        if is_raw {
            connection.shake_hands(&connect.url)?;
        } else {
            connection.upgrade(&connect.url, &url, connect.compression.then(Offer::default))?;
        }
        connection.join(&connect.realm, login.as_ref())?;
        Ok(connection)
    }

    /// The handshake of RawSocket.
    fn shake_hands(&mut self, named: &str) -> Result<(), Failure> {
        let request = rawsocket::Request { serializer: self.serializer, max_length: MaxLength::MOST };
        self.sender.write(&request.encode())?;
        let deadline = Instant::now() + PATIENCE;
        let reply = loop {
            if let Some(reply) = self.buffer[..self.end].first_chunk::<{ rawsocket::HANDSHAKE_BYTES }>() {
                break rawsocket::Reply::decode(*reply, self.serializer);
            }
            if !self.read(Some(deadline))? {
                return Err(Failure::Connect(format!(
                    "{named} closed the connection without an answer; does it take RawSocket?"
                )));
            }
        };
        self.start = rawsocket::HANDSHAKE_BYTES;
        let rawsocket::Reply::Accepted(max_length) = reply else {
            return Err(Failure::Connect(format!("{named}: {reply}")));
        };
        self.raw = Some(rawsocket::Receiver::new(self.serializer.is_text()));
        self.sender.lock().raw = Some(max_length);
        Ok(())
    }

    fn upgrade(&mut self, named: &str, url: &Url, offer: Option<Offer>) -> Result<(), Failure> {
        let key: [u8; 16] = random()?;
        let offered = [self.serializer.subprotocol()];
        let mut request = BytesMut::new();
        let extension = offer.map(|offer| offer.to_string());
        let extra: Vec<_> =
            extension.iter().map(|offer| ("Sec-WebSocket-Extensions", offer.as_str())).collect();
        handshake::write_request(&mut request, &url.authority, &url.target, &offered, key, &extra)
            .map_err(|error| Failure::Usage(format!("--url {named}: {error}")))?;
        self.sender.write(&request)?;
        let deadline = Instant::now() + PATIENCE;
        let head_end = loop {
            let read = &self.buffer[..self.end];
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.end >= HEAD_BYTES_MAX {
                return Err(Failure::Connect(format!("what answers at {named} is no WebSocket server")));
            }
            match self.read(Some(deadline)) {
                Ok(true) => {}
                Ok(false) => {
                    return Err(Failure::Connect(format!(
                        "{named} closed the connection without an answer; is it a WebSocket server?"
                    )));
                }
                Err(Failure::Timeout(_)) => {
                    return Err(Failure::Timeout(format!(
                        "{named} did not answer in {} s; is it a WebSocket server?",
                        PATIENCE.as_secs()
                    )));
                }
                Err(failure) => return Err(failure),
            }
        };
        let head = self.buffer[..head_end].to_vec();
        self.start = head_end;
        let opened =
            handshake::verify_response_with(&head, &key, &offered, offer.as_ref()).map_err(|error| {
                let words = match &error {
                    handshake::HandshakeError::Refused { status, reason } => {
                        // Our own refusals begin with the status; other servers' bodies may say anything.
                        let body = self.refusal();
                        if body.starts_with(&status.to_string()) {
                            body
                        } else {
                            let colon = if body.is_empty() { "" } else { ": " };
                            format!("what answers is no WebSocket endpoint ({status} {reason}{colon}{body})")
                        }
                    }
                    _ => format!("{error}; is it a WebSocket server?"),
                };
                Failure::Connect(format!("{named}: {words}"))
            })?;
        match &opened.deflate {
            Some(agreement) => {
                self.receiver.use_compression(agreement);
                self.sender.lock().deflater = Some(Deflater::new(LEVEL, agreement.client.window_bits));
            }
            None if offer.is_some() => eprintln!("{named} does not compress"),
            None => {}
        }
        match opened.subprotocol {
            Some(_) => Ok(()),
            None => Err(Failure::Connect(format!("{named} does not speak {}", offered[0]))),
        }
    }

    /// The first line of a refusal's body, for people.
    fn refusal(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_millis(500);
        while self.end - self.start < 512 && matches!(self.read(Some(deadline)), Ok(true)) {}
        let end = self.end.min(self.start + 512);
        let body = String::from_utf8_lossy(&self.buffer[self.start..end]);
        let line = body.trim().lines().next().unwrap_or_default();
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn join(&mut self, realm: &str, login: Option<&Login>) -> Result<(), Failure> {
        let mut prover = login.map(|login| login.prover(random()?)).transpose()?;
        let methods = prover.iter().flat_map(|prover| prover.methods());
        let extra = prover.as_ref().map(|prover| self.dictionary(&prover.hello()));
        let details = HelloDetails {
            roles: Roles::CLIENT,
            agent: Some(concat!("fanwire/", env!("CARGO_PKG_VERSION")).into()),
            authid: login.map(|login| login.user.as_str().into()),
            authmethods: methods.map(|method| method.name().into()).collect(),
            authextra: extra.as_ref().and_then(|extra| extra.view().kwargs),
            ..HelloDetails::default()
        };
        self.sender.send(&Message::Hello { realm: realm.into(), details })?;
        let mut answer = self.receive(Some(Instant::now() + PATIENCE))?;
        if let (Message::Challenge { method, extra }, Some(prover)) = (self.decode(&answer)?, &mut prover) {
            let (signature, extra) = prover
                .answer(&method, &self.object(Some(extra))?)
                .map_err(|wrong| Failure::Refused(format!("we cannot log in: {wrong}")))?;
            let extra = self.dictionary(&extra);
            let extra = extra.view().kwargs.unwrap_or_default();
            self.sender.send(&Message::Authenticate { signature: signature.into(), extra })?;
            answer = self.receive(Some(Instant::now() + LOGIN_PATIENCE))?;
        }
        match self.decode(&answer)? {
            Message::Welcome { session, details } => {
                let shown = self.object(details.authextra)?;
                if prover.is_some_and(|prover| !prover.trusts(&shown)) {
                    let words = "the router does not know our password: it is not the one that we know";
                    return Err(Failure::Refused(words.to_owned()));
                }
                self.session = session;
                Ok(())
            }
            Message::Abort { reason, message } => Err(Failure::Refused(format!(
                "the router does not let us into realm {realm:?}: {reason}{}{}",
                words(message.as_deref()),
                login_advice(&reason, login)
            ))),
            other => Err(Failure::Refused(format!("the router answered our HELLO with {}", other.name()))),
        }
    }

    /// A dictionary in what is spoken.
    fn dictionary(&self, value: &serde_json::Value) -> OwnedPayload {
        let json = value.to_string();
        let payload = Payload { args: None, kwargs: Some(json.as_bytes()), ..Payload::EMPTY };
        let payload = OwnedPayload::copy_from(Serializer::Json, &payload).transcode(self.serializer);
        payload.expect("strings and numbers have a form everywhere")
    }

    /// The same the other way; what is not there is empty.
    fn object(&self, bytes: Option<&[u8]>) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
        let wrong = || Failure::Refused("the router sent a dictionary that we cannot read".to_owned());
        let kwargs = bytes.filter(|bytes| !bytes.is_empty());
        let payload =
            OwnedPayload::copy_from(self.serializer, &Payload { args: None, kwargs, ..Payload::EMPTY });
        let json = payload.transcode(Serializer::Json).map_err(|_| wrong())?;
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| wrong());
        json.view().kwargs.map_or_else(|| Ok(serde_json::Map::new()), read)
    }

    /// The sending half.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// What is spoken.
    pub fn serializer(&self) -> Serializer {
        self.serializer
    }

    /// Reads a message that [`receive`](Self::receive) gave.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Message<'a>, Failure> {
        wamp2::decode(self.serializer, bytes, &DecodeLimits::default())
            .map_err(|error| Failure::Refused(format!("the router sent what we cannot read: {error}")))
    }

    /// The next message that is not the end of the session.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Vec<u8>, Failure> {
        let bytes = self.receive(deadline)?;
        match self.decode(&bytes)? {
            Message::Goodbye { reason, message } => {
                // WAMP, "Session Closing": a GOODBYE is answered by one.
                _ = self.sender.send(&Message::Goodbye {
                    reason: Cow::Borrowed("wamp.close.goodbye_and_out"),
                    message: None,
                });
                Err(Failure::Refused(format!(
                    "the router says goodbye: {reason}{}",
                    words(message.as_deref())
                )))
            }
            Message::Abort { reason, message } => {
                Err(Failure::Refused(format!("the router broke off: {reason}{}", words(message.as_deref()))))
            }
            _ => Ok(bytes),
        }
    }

    /// Leaves politely.
    pub fn leave(mut self) {
        let goodbye = Message::Goodbye { reason: Cow::Borrowed("wamp.close.close_realm"), message: None };
        if self.sender.send(&goodbye).is_err() {
            return;
        }
        let deadline = Instant::now() + GOODBYE_TIME;
        while let Ok(bytes) = self.receive(Some(deadline)) {
            if matches!(self.decode(&bytes), Ok(Message::Goodbye { .. }) | Err(_)) {
                break;
            }
        }
        if self.raw.is_none()
            && let Ok(key) = random()
        {
            let mut frame = BytesMut::new();
            ws::write_client_close(&mut frame, 1000, "", key);
            _ = self.sender.write(&frame);
        }
    }

    /// The next data message, whole.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Vec<u8>, Failure> {
        loop {
            while self.start < self.end {
                let input = &mut self.buffer[self.start..self.end];
                let (consumed, received) = match &mut self.raw {
                    None => self.receiver.receive(input, &self.limits, &mut self.pool).map_err(|error| {
                        Failure::Refused(format!("the router broke the WebSocket protocol: {error}"))
                    })?,
                    Some(raw) => raw
                        .receive(input, self.limits.message_bytes_max)
                        .map(|(consumed, received)| {
                            let kind = kind(self.serializer);
                            (consumed, received.map(|received| received.over_websocket(kind)))
                        })
                        .map_err(|error| {
                            Failure::Refused(format!("the router broke the RawSocket protocol: {error}"))
                        })?,
                };
                self.start += consumed;
                match received {
                    Some(Received::Message { payload, .. }) => {
                        let message = payload.to_vec();
                        self.receiver.recycle(&mut self.pool);
                        return Ok(message);
                    }
                    Some(Received::Ping(payload)) => {
                        let mut frame = BytesMut::new();
                        if self.sender.lock().raw.is_some() {
                            rawsocket::write_frame(&mut frame, FrameKind::Pong, payload);
                        } else {
                            ws::write_client_control(&mut frame, ws::Control::Pong, payload, random()?);
                        }
                        self.sender.write(&frame)?;
                    }
                    Some(Received::Close(reason)) => {
                        let words = match reason {
                            Some((code, "")) => format!(" ({code})"),
                            Some((code, reason)) => format!(" ({code}: {reason})"),
                            None => String::new(),
                        };
                        return Err(Failure::Refused(format!("the router closed the connection{words}")));
                    }
                    Some(Received::Pong(_)) | None => {}
                }
            }
            (self.start, self.end) = (0, 0);
            if !self.read(deadline)? {
                return Err(Failure::Refused("the router closed the connection without a word".into()));
            }
        }
    }

    /// Reads more behind `end`. False at the end of the stream.
    fn read(&mut self, deadline: Option<Instant>) -> Result<bool, Failure> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Failure::Timeout("the router did not answer in time".into()));
            }
            self.stream.set_read_timeout(left).map_err(|error| lost(&error))?;
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}

/// What `--url` says.
struct Address {
    url: Url,
    is_tls: bool,
    is_raw: bool,
}

impl Address {
    fn parse(named: &str) -> Result<Self, Failure> {
        let (scheme, rest) = named.split_once("://").unwrap_or(("", named));
        let (is_tls, is_raw) = (matches!(scheme, "wss" | "rss"), matches!(scheme, "rs" | "rss"));
        let url = match is_raw && rest.starts_with("unix:") {
            true if is_tls => Err(UrlError::Tls),
            true => Url::parse(rest, "/"),
            false if is_tls => Url::parse_tls(rest, DEFAULT_PATH),
            false if is_raw => Url::parse_ip(rest, DEFAULT_PATH),
            false => Url::parse(named, DEFAULT_PATH),
        };
        let example = if is_raw { "rs://127.0.0.1:8080" } else { "ws://127.0.0.1:8080/ws" };
        let url =
            url.map_err(|why| Failure::Usage(format!("--url {named}: {why}; write it like {example}")))?;
        Ok(Self { url, is_tls, is_raw })
    }
}

fn kind(serializer: Serializer) -> Kind {
    if serializer.is_text() { Kind::Text } else { Kind::Binary }
}

fn dial(named: &str, url: &Url) -> Result<Stream, Failure> {
    let what_to_do = "is the router running? Start it with `fanwire`, or name another one with --url";
    Stream::connect(&url.place, PATIENCE)
        .map_err(|why| Failure::Connect(format!("cannot connect to {named}: {why}; {what_to_do}")))
}

fn encrypt(stream: Stream, connect: &cli::Connect, url: &Url) -> Result<Stream, Failure> {
    let (Stream::Tcp(socket), Place::Ip { host, .. }) = (stream, &url.place) else {
        unreachable!("wss:// and rss:// name a host")
    };
    let config = tls::config(connect.ca.as_deref()).map_err(Failure::Usage)?;
    TlsStream::connect(socket, config, host, PATIENCE)
        .map(Stream::Tls)
        .map_err(|why| Failure::Connect(format!("{}: {why}", connect.url)))
}

fn lost(error: &std::io::Error) -> Failure {
    Failure::Refused(format!("the connection broke: {}", plain(error)))
}

fn words(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(": {message}"))
}

/// What to do about a login that is refused.
fn login_advice(reason: &str, login: Option<&Login>) -> &'static str {
    match (reason, login) {
        ("wamp.error.authentication_required" | "wamp.error.no_matching_auth_method", None) => {
            "; log in with --user NAME"
        }
        ("wamp.error.no_matching_auth_method", Some(_)) => "; leave --user out if it is open to everybody",
        ("wamp.error.authentication_denied", Some(_)) => "; check --user and its ticket, password or key",
        _ => "",
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Refused(format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}
