//! A service that obeys its clients, and a client that speaks bytes.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "the client side of the tests lives in real time")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant as Clock};

use fanwire_codec::http::HttpError;
use fanwire_codec::ws::handshake::{Upgrade, verify_response, write_request};
use fanwire_codec::ws::{self, Kind, Received, Receiver, Role};
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask, PeerOf, SessionCursor};
use fanwire_core::delivery::{Delivery, Notice};
use fanwire_core::ids::ShardId;
use fanwire_core::{FlushBudget, Instant, Limits, Outlet, RingSpace, Wire};
use fanwire_io::counters::{Count, Kind as MetricKind};
use fanwire_io::{
    Config, Deadlines, Driver, Effect, Endpoint, EndpointId, Flow, HandedOver, ListenAddress, Listener,
    Metric, Origins, Running, Service, ShardCounters, start,
};

/// What `page` is answered with.
pub const PAGE_BYTES: usize = 1_000;

/// A shard stands still until this is false again.
pub static STALLED: AtomicBool = AtomicBool::new(false);

/// Echoes, except for these texts: `stall` holds the shard up, `login` establishes the session, `pause…` stops the input for 50 ms, `close` ends with
/// 4000, `panic` panics, `where` tells the shard, `count` the messages so far, `page` says a page, `said` how
/// much was said to one connection at once at most, `group N` establishes the session in that group, `to N …` goes to all connections of shard N.
///
/// `stall N` keeps its whole shard from doing anything for N milliseconds, as a machine does that is busy elsewhere.
pub struct Puppet {
    id: ShardId,
    delivery: Delivery,
    outlets: Vec<Outlet>,
    paused: Vec<(Instant, Outlet)>,
    items: Vec<(ShardId, String)>,
    effects: Vec<Effect>,
    messages: u64,
    /// The most that was said to one connection between two flushes, in bytes.
    said_max: usize,
    groups: Vec<(Outlet, u16)>,
    /// Where connections go whose first request is for the control thread.
    pub control: Option<SyncSender<HandedOver>>,
}

impl Puppet {
    pub fn new(id: ShardId) -> Self {
        let limits = Limits { outbox_bytes_max: 64 << 20, outbox_messages_max: 1 << 20, ..Limits::default() };
        Self {
            id,
            delivery: Delivery::new(limits),
            outlets: Vec::new(),
            paused: Vec::new(),
            items: Vec::new(),
            effects: Vec::new(),
            messages: 0,
            said_max: 0,
            groups: Vec::new(),
            control: None,
        }
    }

    fn say(&mut self, outlet: Outlet, kind: Kind, words: &[u8]) {
        self.delivery.reply(outlet, |out| ws::write_message(out, kind, &[words]));
    }

    fn take_notices(&mut self) {
        for notice in self.delivery.notices() {
            match notice {
                Notice::Finished(outlet) => self.effects.push(Effect::Finished(outlet)),
                Notice::Cut(outlet, reason) => self.effects.push(Effect::Abort(outlet, reason)),
                Notice::Congested { .. }
                | Notice::Paused { .. }
                | Notice::Relieved(_)
                | Notice::Unsayable(_) => {}
            }
        }
    }
}

impl Service for Puppet {
    type Item = String;

    const METRICS: &'static [Metric] =
        &[Metric { name: "puppet_messages", labels: "", help: "Messages.", kind: MetricKind::Counter }];

    fn attach(&mut self, _now: Instant, outlet: Outlet) {
        self.delivery.attach(outlet);
    }

    fn push(&mut self, _now: Instant, outlet: Outlet, bytes: &[u8]) {
        self.delivery.reply(outlet, |out| out.extend_from_slice(bytes));
    }

    fn finish(&mut self, outlet: Outlet) {
        self.delivery.finish(outlet);
    }

    fn negotiate(
        &mut self,
        _endpoint: EndpointId,
        upgrade: &mut Upgrade<'_>,
    ) -> Result<Option<&'static str>, HttpError> {
        match upgrade.subprotocols().next() {
            None => Ok(None),
            Some("puppet") => Ok(Some("puppet")),
            Some(_) => Err(HttpError::new(400, "no known subprotocol was offered; there is: puppet")),
        }
    }

    fn open(
        &mut self,
        _now: Instant,
        outlet: Outlet,
        _endpoint: EndpointId,
        subprotocol: Option<&'static str>,
    ) {
        self.outlets.push(outlet);
        if subprotocol.is_none() {
            self.effects.push(Effect::Established(outlet));
        }
    }

    fn hand_over(&mut self, connection: HandedOver) -> Result<(), HandedOver> {
        let Some(control) = &self.control else { return Err(connection) };
        control.try_send(connection).map_err(|error| match error {
            TrySendError::Full(connection) | TrySendError::Disconnected(connection) => connection,
        })
    }

    /// Answers with the number of connections that have a peer, or sends the connection of this number (and one) away.
    fn handle_api(&mut self, _now: Instant, request: ApiRequest, peer: PeerOf<'_>) -> Result<(), ApiRequest> {
        match request.ask {
            Ask::Disconnect { session, .. } => {
                let outlet = Outlet(session.get() as u32 - 1);
                self.say(outlet, Kind::Text, b"goodbye");
                self.effects.push(Effect::Dismissed(outlet));
                (request.reply)(ApiAnswer::Disconnected(true));
            }
            _ => {
                let known = self.outlets.iter().filter(|outlet| peer(**outlet).is_some()).count();
                (request.reply)(ApiAnswer::Sessions {
                    page: Vec::new(),
                    next: Some(SessionCursor(known as u32)),
                });
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant, outlet: Outlet, kind: Kind, message: &mut [u8]) -> Flow {
        self.messages += 1;
        match &*message {
            b"login" => self.effects.push(Effect::Established(outlet)),
            pause if pause.starts_with(b"pause") => {
                self.say(outlet, kind, message);
                self.paused.push((now + Duration::from_millis(50), outlet));
                return Flow::Pause;
            }
            b"close" => {
                self.close(now, outlet, 4000, "as you wish");
                return Flow::Closing;
            }
            b"panic" => panic!("a test asked for it"),
            b"stall" => {
                STALLED.store(true, Ordering::SeqCst);
                while STALLED.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            stall if stall.starts_with(b"stall ") => {
                let milliseconds = std::str::from_utf8(&stall[6..]).unwrap().parse().unwrap();
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
            b"page" => self.say(outlet, kind, &[b'p'; PAGE_BYTES]),
            b"said" => self.say(outlet, Kind::Text, self.said_max.to_string().as_bytes()),
            b"count" => self.say(outlet, Kind::Text, self.messages.to_string().as_bytes()),
            group if group.starts_with(b"group ") => {
                self.groups.push((outlet, std::str::from_utf8(&group[6..]).unwrap().parse().unwrap()));
                self.effects.push(Effect::Established(outlet));
                self.say(outlet, kind, message);
            }
            b"where" => self.say(outlet, Kind::Text, self.id.get().to_string().as_bytes()),
            command if command.starts_with(b"to ") => {
                let (to, words) = std::str::from_utf8(&command[3..]).unwrap().split_once(' ').unwrap();
                self.items.push((ShardId::new(to.parse().unwrap()).unwrap(), words.to_owned()));
            }
            _ => self.say(outlet, kind, message),
        }
        self.said_max = self.said_max.max(self.delivery.said_bytes(outlet));
        Flow::Continue
    }

    fn said_bytes(&self, outlet: Outlet) -> usize {
        self.delivery.said_bytes(outlet)
    }

    fn violate(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.close(now, outlet, code, words);
    }

    fn group(&self, outlet: Outlet) -> u16 {
        self.groups.iter().rev().find(|(known, _)| *known == outlet).map_or(0, |(_, group)| *group)
    }

    fn peer_closed(&mut self, now: Instant, outlet: Outlet) {
        self.outlets.retain(|known| *known != outlet);
        self.paused.retain(|(_, known)| *known != outlet);
        self.delivery.detach(now, outlet);
    }

    fn release(&mut self, now: Instant, outlet: Outlet) {
        self.peer_closed(now, outlet);
    }

    fn shut_down(&mut self, _now: Instant, outlet: Outlet) {
        // Says something and waits, as WAMP's GOODBYE does; the loop has to close in the end.
        self.say(outlet, Kind::Text, b"goodbye");
    }

    fn close(&mut self, _now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.delivery.reply(outlet, |out| ws::write_close(out, code, words));
        self.delivery.finish(outlet);
    }

    fn begin_turn(&mut self, _now: Instant) {}

    fn handle_item(&mut self, _now: Instant, _from: ShardId, item: String) {
        for outlet in self.outlets.clone() {
            self.say(outlet, Kind::Text, item.as_bytes());
        }
    }

    fn set_ring_space(&mut self, _to: ShardId, _space: RingSpace) {}

    fn item_bytes(item: &String) -> usize {
        item.len()
    }

    fn push_items(&mut self, push: &mut dyn FnMut(ShardId, String) -> Result<(), String>) {
        for (to, item) in self.items.drain(..) {
            push(to, item).expect("the tests do not fill a ring");
        }
    }

    fn writable(&mut self, outlet: Outlet) {
        self.delivery.writable(outlet);
    }

    fn flush(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) -> bool {
        let more = self.delivery.flush(now, wire, budget);
        self.take_notices();
        more
    }

    fn next_deadline(&self) -> Option<Instant> {
        let paused = self.paused.iter().map(|(at, _)| *at).min();
        paused.into_iter().chain(self.delivery.next_deadline()).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        let effects = &mut self.effects;
        self.paused.retain(|(at, outlet)| {
            let wait = *at > now;
            if !wait {
                effects.push(Effect::Resume(*outlet));
            }
            wait
        });
        self.delivery.handle_timeout(now);
        self.take_notices();
    }

    fn effects(&mut self, effects: &mut Vec<Effect>) {
        effects.append(&mut self.effects);
    }

    fn read_counters(&self, into: &[Count]) {
        into[0].set(self.messages);
    }
}

/// No answer takes longer; so long that a machine with other things to do does not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration for tests: a free port, one shard, the path `/ws`, and no deadline that comes while a test waits. Who
/// tests a deadline shortens that one.
pub fn config(driver: Driver) -> Config {
    Config {
        listeners: vec![Listener {
            address: ListenAddress::Ip((Ipv4Addr::LOCALHOST, 0).into()),
            backlog: None,
            endpoints: vec![Endpoint { path: "/ws".into(), id: EndpointId(0) }],
            longpoll: Vec::new(),
            rawsocket: None,
            control: Vec::new(),
            tls: None,
            cookie: None,
            origins: Origins::default(),
        }],
        shards: Some(1),
        driver,
        deadlines: Deadlines {
            handshake: PATIENCE,
            login: PATIENCE,
            message: PATIENCE,
            ping_interval: PATIENCE,
            pong_wait: PATIENCE,
            close: PATIENCE,
            unread: PATIENCE,
            ..Deadlines::default()
        },
        ..Config::default()
    }
}

pub fn run(config: Config) -> Running {
    start(config, |id, _| Puppet::new(id)).expect("the shards start")
}

/// A WebSocket client on a blocking socket. Panics where the server surprises it.
pub struct Client {
    pub socket: TcpStream,
    receiver: Receiver,
    unread: Vec<u8>,
    seen: usize,
}

/// What a client hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>),
    End,
}

pub fn text(words: &str) -> Word {
    Word::Text(words.to_owned())
}

impl Client {
    pub fn raw(running: &Running) -> TcpStream {
        connect(address(running))
    }

    /// Upgraded, without a subprotocol: established at once.
    pub fn new(running: &Running) -> Self {
        Self::with(Self::raw(running), &[])
    }

    pub fn with(mut socket: TcpStream, subprotocols: &[&str]) -> Self {
        let mut request = bytes::BytesMut::new();
        write_request(&mut request, "localhost", "/ws", subprotocols, KEY, &[]).unwrap();
        socket.write_all(&request).unwrap();
        Self::upgraded(socket, subprotocols)
    }

    /// The request has been sent: reads the answer.
    pub fn upgraded(mut socket: TcpStream, subprotocols: &[&str]) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(socket.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        verify_response(&head, &KEY, subprotocols).unwrap();
        Self { socket, receiver: Receiver::new(Role::Client), unread: Vec::new(), seen: 0 }
    }

    pub fn send_text(&mut self, words: &str) {
        self.socket.write_all(&frame(Kind::Text, words.as_bytes())).unwrap();
    }

    pub fn send_close(&mut self, code: u16) {
        let mut out = bytes::BytesMut::new();
        ws::write_client_close(&mut out, code, "", MASK);
        self.socket.write_all(&out).unwrap();
    }

    pub fn send_ping(&mut self, payload: &[u8]) {
        let mut out = bytes::BytesMut::new();
        ws::write_client_control(&mut out, ws::Control::Ping, payload, MASK);
        self.socket.write_all(&out).unwrap();
    }

    pub fn send_pong(&mut self) {
        let mut out = bytes::BytesMut::new();
        ws::write_client_control(&mut out, ws::Control::Pong, b"", MASK);
        self.socket.write_all(&out).unwrap();
    }

    /// The next thing that the server says.
    pub fn hear(&mut self) -> Word {
        self.try_hear().expect("the server answers in time")
    }

    pub fn try_hear(&mut self) -> io::Result<Word> {
        let limits = ws::Limits { message_bytes_max: 64 << 20 };
        let mut pool = ws::Pool::default();
        loop {
            while self.seen < self.unread.len() {
                let (consumed, received) =
                    self.receiver.receive(&mut self.unread[self.seen..], &limits, &mut pool).unwrap();
                self.seen += consumed;
                if let Some(received) = received {
                    return Ok(match received {
                        Received::Message { kind: Kind::Text, payload } => {
                            Word::Text(String::from_utf8(payload.to_vec()).unwrap())
                        }
                        Received::Message { kind: Kind::Binary, payload } => Word::Binary(payload.to_vec()),
                        Received::Ping(_) => Word::Ping,
                        Received::Pong(payload) => Word::Pong(payload.to_vec()),
                        Received::Close(body) => Word::Close(body.map(|(code, _)| code)),
                    });
                }
            }
            self.unread.resize(64 << 10, 0);
            self.seen = 0;
            let count = self.socket.read(&mut self.unread)?;
            self.unread.truncate(count);
            if count == 0 {
                return Ok(Word::End);
            }
        }
    }
}

/// Where the first listener with an IP address is.
pub fn address(running: &Running) -> SocketAddr {
    running.addresses().iter().find_map(ListenAddress::ip).expect("there is one")
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    ws::write_client_message(&mut out, kind, &[payload], MASK);
    out.to_vec()
}

pub fn upgrade_request() -> Vec<u8> {
    let mut request = bytes::BytesMut::new();
    write_request(&mut request, "localhost", "/ws", &[], KEY, &[]).unwrap();
    request.to_vec()
}

/// Sends `request` and reads until the server closes.
pub fn exchange(running: &Running, request: &[u8]) -> String {
    let mut socket = Client::raw(running);
    socket.write_all(request).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = Clock::now() + PATIENCE;
    while !condition() {
        assert!(Clock::now() < patience, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The sum over all shards.
pub fn counter(running: &Running, name: &str, labels: &str) -> u64 {
    counters(running, name, labels).iter().sum()
}

/// By shard.
pub fn counters(running: &Running, name: &str, labels: &str) -> Vec<u64> {
    let of_shard = |counters: &std::sync::Arc<ShardCounters>| {
        let mut found = 0;
        counters.each(|metric, value| {
            if metric.name == name && metric.labels == labels {
                found = value;
            }
        });
        found
    };
    running.counters().iter().map(of_shard).collect()
}

/// Ends the connection at once, without a goodbye.
pub fn reset(socket: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
}

pub const KEY: [u8; 16] = *b"sixteen bytes ok";
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
