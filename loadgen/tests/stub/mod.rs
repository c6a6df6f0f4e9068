//! A small WAMP router for tests of the generator: one thread per connection, one lock, faults on order.
//!
//! It is no example of a router: it is slow, blocks, and checks nothing. It is here because the generator must prove
//! that it notices a router which loses, doubles, reorders or damages events.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use fanwire_codec::http::{HeadLimits, parse_request, write_response};
use fanwire_codec::wamp2::{
    self, DecodeLimits, EventDetails, InvocationDetails, MatchPolicy, Message, Payload, ResultDetails,
    Serializer, WelcomeDetails, code,
};
use fanwire_codec::ws::deflate::{Agreement, Context, DeflatePolicy, Deflater, compress_frame};
use fanwire_codec::ws::handshake::{Upgrade, write_accept};
use fanwire_codec::ws::{self, Kind, Limits, Pool, Received, Receiver, Role};

/// What the stub does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The first subscriber does not get the tenth event.
    LoseOne,
    /// The first subscriber gets the tenth event twice.
    DoubleOne,
    /// The first subscriber gets the tenth event after the eleventh.
    SwapTwo,
    /// A letter of the first subscriber's tenth event is another one.
    DamageOne,
    /// The first subscriber is cut at the tenth event.
    CutOne,
    /// Every event comes in two fragments with a ping in between.
    Fragment,
    /// HELLO is answered by ABORT.
    RefuseSession,
    /// Every tenth HELLO is answered by ABORT.
    RefuseSome,
    /// Who subscribes while events are published gets SUBSCRIBED, but not the next three events.
    SubscribeLate,
    /// It agrees to compress, with takeover where that is offered.
    Compress,
    /// Who has unsubscribed gets events still.
    KeepSending,
    /// The tenth event goes to the subscribers of another topic.
    MixTopics,
    /// HELLO is not answered.
    SayNothing,
    /// The upgrade is answered by 404.
    NotFound,
    /// Every tenth call is answered by an error.
    FailCalls,
    /// The tenth result is sent twice.
    DoubleResult,
    /// Events carry details that a cheap reader does not expect.
    TalkativeDetails,
}

/// The ordinal of the event that is treated badly.
const CHOSEN: u64 = 10;

struct Peer {
    socket: TcpStream,
    serializer: Serializer,
    deflate: Option<(Deflater, Option<Context>)>,
}

#[derive(Default)]
struct Router {
    peers: HashMap<u64, Peer>,
    topics: HashMap<String, Vec<u64>>,
    patterns: HashMap<String, Vec<u64>>,
    procedures: HashMap<String, u64>,
    /// Invocation id → caller and its request.
    pending: HashMap<u64, (u64, u64)>,
    next_id: u64,
    published: u64,
    results: u64,
    hellos: u64,
    /// Peers that have agreed on compression.
    agreements: HashMap<u64, Agreement>,
    /// Events that a subscriber still misses.
    misses: HashMap<u64, u32>,
    held: Option<(u64, BytesMut)>,
}

/// Starts the stub; it runs until the test process ends.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let router = Arc::new(Mutex::new(Router { next_id: 1, ..Router::default() }));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let router = router.clone();
            thread::spawn(move || {
                let number = {
                    let mut router = router.lock().unwrap();
                    router.next_id += 1;
                    router.next_id
                };
                serve(socket, number, &router, fault);
                router.lock().unwrap().remove(number);
            });
        }
    });
    address
}

fn serve(mut socket: TcpStream, number: u64, router: &Mutex<Router>, fault: Fault) -> Option<()> {
    // A peer that does not read must not hold the lock for long.
    socket.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    socket.set_nodelay(true).ok()?;
    let (serializer, agreement) = upgrade(&mut socket, fault)?;
    let (mut receiver, limits, mut pool) = (Receiver::new(Role::Server), Limits::default(), Pool::default());
    if let Some(agreement) = &agreement {
        receiver.use_compression(agreement);
        router.lock().unwrap().agreements.insert(number, *agreement);
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut rest = &mut buffer[..count];
        while !rest.is_empty() {
            let (consumed, received) =
                receiver.receive(rest, &limits, &mut pool).expect("the generator breaks no rule");
            match received {
                Some(Received::Message { payload, .. }) => {
                    let message = wamp2::decode(serializer, payload, &DecodeLimits::default())
                        .expect("the generator sends proper WAMP");
                    router.lock().unwrap().handle(number, &socket, serializer, message, fault)?;
                }
                Some(Received::Close(_)) => return None,
                _ => {}
            }
            rest = &mut rest[consumed..];
        }
    }
}

/// Of the user joe.
pub const TICKET: &str = "the ticket";

fn upgrade(socket: &mut TcpStream, fault: Fault) -> Option<(Serializer, Option<Agreement>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let mut out = BytesMut::new();
    if fault == Fault::NotFound {
        write_response(&mut out, 404, &[], b"no WAMP here", true).unwrap();
        socket.write_all(&out).ok()?;
        return None;
    }
    let request = parse_request(&head, &HeadLimits::default()).expect("the generator sends a proper request");
    let mut upgrade = Upgrade::from_request(&request).expect("the generator asks for a WebSocket properly");
    let serializer = upgrade.subprotocols().find_map(Serializer::from_subprotocol)?;
    let agreement = match fault {
        Fault::Compress => {
            let policy = DeflatePolicy { takeover: true, ..DeflatePolicy::default() };
            upgrade.negotiate_deflate(&policy).expect("the generator offers properly")
        }
        _ => None,
    };
    write_accept(&mut out, &upgrade, Some(serializer.subprotocol()));
    socket.write_all(&out).ok()?;
    Some((serializer, agreement))
}

impl Router {
    fn handle(
        &mut self,
        from: u64,
        socket: &TcpStream,
        serializer: Serializer,
        message: Message<'_>,
        fault: Fault,
    ) -> Option<()> {
        match message {
            Message::Hello { .. } if fault == Fault::SayNothing => {}
            Message::Hello { .. } if fault == Fault::RefuseSession || self.refuses(fault) => {
                self.greet(from, socket, serializer)?;
                let message = Some("nobody comes in today".into());
                self.send(from, &Message::Abort { reason: "wamp.error.no_such_realm".into(), message });
            }
            Message::Hello { details, .. } if !details.authmethods.is_empty() => {
                assert_eq!(
                    (&details.authmethods[..], details.authid.as_deref()),
                    (&["ticket".into()][..], Some("joe"))
                );
                self.greet(from, socket, serializer)?;
                self.send(from, &Message::Challenge { method: "ticket".into(), extra: &[] });
            }
            Message::Authenticate { signature, .. } if signature == TICKET => {
                self.send(from, &Message::Welcome { session: from, details: WelcomeDetails::default() });
            }
            Message::Authenticate { .. } => {
                let reason = "wamp.error.authentication_denied".into();
                self.send(from, &Message::Abort { reason, message: None });
            }
            Message::Hello { .. } => {
                self.greet(from, socket, serializer)?;
                self.send(from, &Message::Welcome { session: from, details: WelcomeDetails::default() });
            }
            Message::Subscribe { request, topic, options } => {
                if options.match_policy != MatchPolicy::Exact {
                    self.patterns.entry(topic.into_owned()).or_default().push(from);
                    self.send(from, &Message::Subscribed { request, subscription: 7 });
                    return Some(());
                }
                if fault == Fault::SubscribeLate && self.published > 0 {
                    self.misses.insert(from, 3);
                }
                self.topics.entry(topic.into_owned()).or_default().push(from);
                self.send(from, &Message::Subscribed { request, subscription: 7 });
            }
            Message::Unsubscribe { request, .. } => {
                if fault != Fault::KeepSending {
                    self.topics.values_mut().for_each(|members| members.retain(|member| *member != from));
                }
                self.send(from, &Message::Unsubscribed { request });
            }
            Message::Publish { request, options, topic, payload } => {
                self.publish(&topic, &payload, fault);
                if options.acknowledge {
                    self.send(from, &Message::Published { request, publication: self.published });
                }
            }
            Message::Register { request, procedure, .. } => {
                self.procedures.insert(procedure.into_owned(), from);
                self.send(from, &Message::Registered { request, registration: from });
            }
            Message::Call { request, procedure, payload, .. } => {
                self.published += 1;
                if fault == Fault::FailCalls && self.published.is_multiple_of(CHOSEN) {
                    let error = Message::Error {
                        request_type: code::CALL,
                        request,
                        error: "com.stub.refused".into(),
                        payload: Payload::EMPTY,
                    };
                    self.send(from, &error);
                    return Some(());
                }
                let callee = *self.procedures.get(&*procedure)?;
                self.next_id += 1;
                let id = self.next_id;
                self.pending.insert(id, (from, request));
                let details = InvocationDetails::default();
                self.send(
                    callee,
                    &Message::Invocation { request: id, registration: callee, details, payload },
                );
            }
            Message::Yield { request, payload, .. } => {
                let (caller, request) = self.pending.remove(&request)?;
                self.results += 1;
                let times = if fault == Fault::DoubleResult && self.results == CHOSEN { 2 } else { 1 };
                for _ in 0..times {
                    self.send(
                        caller,
                        &Message::Result { request, details: ResultDetails::default(), payload },
                    );
                }
            }
            Message::Goodbye { .. } => {
                self.send(
                    from,
                    &Message::Goodbye { reason: "wamp.close.goodbye_and_out".into(), message: None },
                );
            }
            other => panic!("the generator sent {}", other.name()),
        }
        Some(())
    }

    fn greet(&mut self, from: u64, socket: &TcpStream, serializer: Serializer) -> Option<()> {
        let deflate = self
            .agreements
            .get(&from)
            .map(|agreement| (Deflater::new(1, agreement.server.window_bits), agreement.server.context()));
        self.peers.insert(from, Peer { socket: socket.try_clone().ok()?, serializer, deflate });
        Some(())
    }

    fn refuses(&mut self, fault: Fault) -> bool {
        self.hellos += 1;
        fault == Fault::RefuseSome && self.hellos.is_multiple_of(CHOSEN)
    }

    fn publish(&mut self, topic: &str, payload: &Payload<'_>, fault: Fault) {
        self.published += 1;
        let chosen = self.published == CHOSEN;
        let other = self.topics.keys().find(|known| *known != topic).cloned();
        let topic = match other.as_deref() {
            Some(other) if fault == Fault::MixTopics && chosen => other,
            _ => topic,
        };
        // Prefixes and patterns with an open end are the same to a stub.
        let matching = self.patterns.iter().filter(|(pattern, _)| topic.starts_with(&***pattern));
        let matching: Vec<u64> = matching.flat_map(|(_, members)| members).copied().collect();
        let exact = self.topics.get(topic).cloned().unwrap_or_default();
        for (index, subscriber) in exact.into_iter().chain(matching).enumerate() {
            let Some(serializer) = self.peers.get(&subscriber).map(|peer| peer.serializer) else { continue };
            if let Some(misses) = self.misses.get_mut(&subscriber).filter(|misses| **misses > 0) {
                *misses -= 1;
                continue;
            }
            let details = match fault {
                Fault::TalkativeDetails => {
                    EventDetails { topic: Some(topic.into()), ..EventDetails::default() }
                }
                _ => EventDetails::default(),
            };
            let event =
                Message::Event { subscription: 7, publication: self.published, details, payload: *payload };
            let mut frame = frame(&event, serializer);
            if index > 0 || !(chosen || self.held.is_some()) {
                if fault == Fault::Fragment {
                    frame = fragment(&event, serializer);
                }
                self.write(subscriber, &frame);
                continue;
            }
            match fault {
                Fault::LoseOne => {}
                Fault::DoubleOne => {
                    self.write(subscriber, &frame);
                    self.write(subscriber, &frame);
                }
                Fault::SwapTwo if chosen => self.held = Some((subscriber, frame)),
                Fault::SwapTwo => {
                    self.write(subscriber, &frame);
                    if let Some((subscriber, frame)) = self.held.take() {
                        self.write(subscriber, &frame);
                    }
                }
                Fault::DamageOne => {
                    let at = frame.len() - 5;
                    frame[at] = b'~';
                    self.write(subscriber, &frame);
                }
                Fault::CutOne => self.remove(subscriber),
                _ => self.write(subscriber, &frame),
            }
        }
    }

    fn send(&mut self, to: u64, message: &Message<'_>) {
        let Some(serializer) = self.peers.get(&to).map(|peer| peer.serializer) else { return };
        let frame = frame(message, serializer);
        self.write(to, &frame);
    }

    /// A peer that does not take its bytes is cut, as a router would do with a slow consumer.
    fn write(&mut self, to: u64, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let mut frame = BytesMut::from(bytes);
        if let Some((deflater, context)) = &mut peer.deflate {
            compress_frame(&mut frame, 0, deflater, context.as_mut());
        }
        if peer.socket.write_all(&frame).is_err() {
            self.remove(to);
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(peer) = self.peers.remove(&number) {
            let _ = peer.socket.shutdown(Shutdown::Both);
        }
    }
}

fn frame(message: &Message<'_>, serializer: Serializer) -> BytesMut {
    let (mut bytes, mut frame) = (BytesMut::new(), BytesMut::new());
    wamp2::encode(message, serializer, &mut bytes);
    let kind = if serializer.is_text() { Kind::Text } else { Kind::Binary };
    ws::write_message(&mut frame, kind, &[&bytes]);
    frame
}

/// The same message in two fragments, with a ping in between.
fn fragment(message: &Message<'_>, serializer: Serializer) -> BytesMut {
    let mut bytes = BytesMut::new();
    wamp2::encode(message, serializer, &mut bytes);
    let (front, back) = bytes.split_at(20);
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&[u8::from(!serializer.is_text()) + 1, front.len() as u8]);
    frame.extend_from_slice(front);
    ws::write_control(&mut frame, ws::Control::Ping, b"are you there?");
    assert!(back.len() < 126);
    frame.extend_from_slice(&[0x80, back.len() as u8]);
    frame.extend_from_slice(back);
    frame
}
