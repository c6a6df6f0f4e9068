//! What a shard's loop drives: the router, or in an example something smaller.
//!
//! The loop owns sockets, time and threads; the service owns what messages mean and every byte that goes out. They meet
//! in [`Service`], whose methods are the driving contract of `fanwire_core::Shard`.

use std::net::SocketAddr;
use std::sync::Arc;

use fanwire_codec::http::HttpError;
use fanwire_codec::rawsocket::Request;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_codec::ws::deflate::Agreement;
use fanwire_codec::ws::handshake::Upgrade;
use fanwire_core::api::{ApiRequest, PeerOf, Readiness};
use fanwire_core::clock::Instant;
use fanwire_core::directory::Cookie;
use fanwire_core::ids::ShardId;
use fanwire_core::question::Verdict;
use fanwire_core::{CoreConfig, FlushBudget, Outlet, RingSpace, Wire};
pub use fanwire_core::{Effect, Flow};

use crate::config::EndpointId;
use crate::cookies::CookieCase;
use crate::counters::{Count, Metric};
use crate::handover::HandedOver;

/// What is agreed on when a session is opened that is polled by HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The protocol, by its name.
    pub protocol: &'static str,
    /// What its messages are.
    pub kind: Kind,
    /// Each body is a batch of messages.
    pub batched: bool,
    /// Media type of what the session says.
    pub content: &'static str,
}

/// One shard's share of the application: a plain state machine that never blocks.
///
/// # The life of an outlet
///
/// `attach` — `push` of an HTTP response and `finish`, or `push` of the 101 and `open`, or of a handshake and `open_rawsocket` — `receive` … — `violate`, `close`
/// or `shut_down` — `peer_closed` — `release`. Between `attach` and `release` the outlet may be named in every call;
/// what no longer makes sense is ignored. `peer_closed` and `release` come for every outlet, the others need not.
///
/// # One turn
///
/// `set_ring_space` and `begin_turn`, `handle_item` for what came by ring, `handle_verdict` and `handle_api`, `handle_timeout` if it is time, `receive` for
/// what came by socket, then `push_items`, `flush`, and `effects` until there are none; then sleep, or the next turn.
pub trait Service: 'static {
    /// What one shard sends to another.
    type Item: Send + 'static;

    /// The numbers of [`read_counters`](Self::read_counters).
    const METRICS: &'static [Metric];

    /// A connection was accepted.
    fn attach(&mut self, now: Instant, outlet: Outlet);

    /// Sends `bytes`, which are complete frames or an HTTP response, in order with everything else for `outlet`.
    fn push(&mut self, now: Instant, outlet: Outlet, bytes: &[u8]);

    /// Nothing more will be said to `outlet`: [`Effect::Finished`] when all is written.
    fn finish(&mut self, outlet: Outlet);

    /// Which of the offered subprotocols is spoken at `endpoint`. Compression is used if
    /// [`Upgrade::negotiate_deflate`] is called here and agrees.
    ///
    /// # Errors
    ///
    /// The response that refuses the upgrade, in words that name what is supported.
    fn negotiate(
        &mut self,
        endpoint: EndpointId,
        upgrade: &mut Upgrade<'_>,
    ) -> Result<Option<&'static str>, HttpError>;

    /// The WebSocket is open; the 101 has been pushed. `subprotocol` is what [`negotiate`](Self::negotiate) chose.
    fn open(&mut self, now: Instant, outlet: Outlet, endpoint: EndpointId, subprotocol: Option<&'static str>);

    /// Bytes that were said to `outlet` and that no flush has looked at.
    fn said_bytes(&self, _outlet: Outlet) -> usize {
        0
    }

    /// Of what kind the messages of a WebSocket with this subprotocol, chosen by [`negotiate`](Self::negotiate), are batches (WAMP,
    /// "Message Batching"), if they are; [`receive`](Self::receive) gets their messages one by one.
    fn batches(&self, _subprotocol: Option<&'static str>) -> Option<Kind> {
        None
    }

    /// Whether WAMP over RawSocket with this serializer is spoken at `endpoint`.
    fn takes_rawsocket(&self, _endpoint: EndpointId, _serializer: Serializer) -> bool {
        false
    }

    /// The RawSocket that asked for `request` is open; the answer has been pushed. Its messages come by
    /// [`receive`](Self::receive) as a WebSocket's.
    fn open_rawsocket(&mut self, _now: Instant, _outlet: Outlet, _endpoint: EndpointId, _request: Request) {}

    /// Which of the offered protocols a session speaks that is opened by long-polling at `endpoint`.
    ///
    /// # Errors
    ///
    /// The response that refuses it, in words that name what is supported.
    fn negotiate_polling(
        &mut self,
        _endpoint: EndpointId,
        _offered: &mut dyn Iterator<Item = &str>,
    ) -> Result<Polling, HttpError> {
        Err(HttpError::new(404, "nothing is polled here"))
    }

    /// The session that agreed on `protocol` is open, and was attached. Its messages come by [`receive`](Self::receive); what is said to
    /// it goes out in RawSocket frames, when its client asks for it.
    fn open_polling(
        &mut self,
        _now: Instant,
        _outlet: Outlet,
        _endpoint: EndpointId,
        _protocol: &'static str,
    ) {
    }

    /// Whether [`bind_channel`](Self::bind_channel) is of use to anybody.
    fn wants_channels(&self) -> bool {
        false
    }

    /// What the TLS connection of `outlet` has in common with no other one (RFC 9266). Comes right after [`open`](Self::open)
    /// or [`open_rawsocket`](Self::open_rawsocket).
    fn bind_channel(&mut self, _outlet: Outlet, _channel: [u8; 32]) {}

    /// Which cookie a client has that asks for `upgrade`, and what sets it if that has to be: the value of `Set-Cookie`. `None`: it
    /// has none, and gets none. Only where the listener has a rule for it, and the page that asks may use it.
    fn choose_cookie(
        &mut self,
        _now: Instant,
        _subprotocol: Option<&'static str>,
        _case: CookieCase<'_>,
        _upgrade: &Upgrade<'_>,
    ) -> Option<(Cookie, Option<String>)> {
        None
    }

    /// What [`choose_cookie`](Self::choose_cookie) has chosen. Comes right after [`open`](Self::open).
    fn bind_cookie(&mut self, _outlet: Outlet, _cookie: Cookie) {}

    /// What [`negotiate`](Self::negotiate) agreed to: from now on messages to `outlet` may be compressed. Comes right
    /// after [`open`](Self::open). Those from it are inflated by the loop.
    fn use_compression(&mut self, _now: Instant, _outlet: Outlet, _agreement: &Agreement) {}

    /// Comes last of all that a handshake brings: this was the client's request, and `peer` tells the other end. Whether it is
    /// listened to.
    fn enter(
        &mut self,
        _now: Instant,
        _outlet: Outlet,
        _endpoint: EndpointId,
        _request: &Upgrade<'_>,
        _peer: &dyn Fn() -> Option<SocketAddr>,
    ) -> Flow {
        Flow::Continue
    }

    /// Whether a peer that is not established yet may send compressed messages; otherwise they end it with 1008.
    fn compressed_before_established(&self) -> bool {
        true
    }

    /// How many bytes a message may have that `outlet` needs to become established, where that may be more than others are
    /// allowed before.
    fn login_bytes_max(&self, _outlet: Outlet) -> usize {
        0
    }

    /// The first request of a connection is for the control thread ([`Listener::control`](crate::Listener)). What is given
    /// back is answered 503. The outlet is over either way.
    fn hand_over(&mut self, connection: HandedOver) -> Result<(), HandedOver> {
        Err(connection)
    }

    /// A whole message. It may be scribbled on.
    fn receive(&mut self, now: Instant, outlet: Outlet, kind: Kind, message: &mut [u8]) -> Flow;

    /// The peer broke its transport's protocol: a close frame with `code` and `words`, or what stands for it, then finished.
    fn violate(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str);

    /// The socket is dead: nothing more can be said, and everything that the connection held is gone.
    fn peer_closed(&mut self, now: Instant, outlet: Outlet);

    /// The slot may be used for another connection from now on.
    fn release(&mut self, now: Instant, outlet: Outlet);

    /// Begins a polite goodbye in the connection's own protocol; [`close`](Self::close) follows if it takes too long.
    fn shut_down(&mut self, now: Instant, outlet: Outlet);

    /// A close frame with `code` and `words`, then finished. Also the answer to the peer's close frame.
    fn close(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str);

    /// Called at the start of each turn, after [`set_ring_space`](Self::set_ring_space).
    fn begin_turn(&mut self, now: Instant);

    /// Something from another shard.
    fn handle_item(&mut self, now: Instant, from: ShardId, item: Self::Item);

    /// Whether it has room for what [`handle_item`](Self::handle_item) brings. While it says no it has something to flush.
    fn takes_items(&self) -> bool {
        true
    }

    /// So many slots of the ring to `to` are free.
    fn set_ring_space(&mut self, to: ShardId, space: RingSpace);

    /// Bytes of memory that an item in a ring holds. The ring adds them up for [`set_ring_space`](Self::set_ring_space).
    fn item_bytes(item: &Self::Item) -> usize;

    /// Hands items for other shards to `push`, in order. What `push` hands back stays for the next turn.
    fn push_items(&mut self, push: &mut dyn FnMut(ShardId, Self::Item) -> Result<(), Self::Item>);

    /// The answer to a question of this shard. A service that asks nothing gets none.
    fn handle_verdict(&mut self, _now: Instant, _verdict: Verdict) {}

    /// Other permissions and limits. A service without any has nothing to do.
    fn renew(&mut self, _now: Instant, _core: Arc<CoreConfig>) {}

    /// Whether [`handle_api`](Self::handle_api) may be called now. After [`Readiness::NextTurn`] the next turn follows at once.
    fn readiness(&self) -> Readiness {
        Readiness::Now
    }

    /// Whether publications that were begun by [`handle_api`](Self::handle_api) are not answered yet. The shard does not end by itself
    /// meanwhile, for a moment.
    fn is_publishing(&self) -> bool {
        false
    }

    /// The shard ends: such publications are answered with what is known of them.
    fn give_up_publishing(&mut self) {}

    /// A request of the control thread; what is given back stays at the head of the queue. `peer` tells the other end of a
    /// connection. A service without an API drops what it gets: whoever asked sees that nobody answers.
    fn handle_api(
        &mut self,
        _now: Instant,
        _request: ApiRequest,
        _peer: PeerOf<'_>,
    ) -> Result<(), ApiRequest> {
        Ok(())
    }

    /// The socket of `outlet` takes bytes again.
    fn writable(&mut self, outlet: Outlet);

    /// Sends within the budget. True = there is more to send that no socket refuses.
    fn flush(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) -> bool;

    /// Which connections have their turn to be read one after another: 0 for those without a session, another number for each
    /// realm. Asked once, when a connection is established. Groups take turns.
    fn group(&self, _outlet: Outlet) -> u16 {
        0
    }

    /// The process is short of memory: gives up about so many bytes of what waits to be sent, the largest outboxes first, a
    /// slice of it. Returns how many it were; 0 if there is nothing to give up.
    fn shed(&mut self, _now: Instant, _bytes: usize) -> usize {
        0
    }

    /// Frees what is only kept to be used again.
    fn drop_spares(&mut self) {}

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called. Whoever waits for something that changes without
    /// a call on this shard (room in a ring, another shard's congestion) asks for a moment soon.
    fn next_deadline(&self) -> Option<Instant>;

    /// The deadline has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// Moves what the loop has to do into `effects`.
    fn effects(&mut self, effects: &mut Vec<Effect>);

    /// Copies the service's numbers, in the order of [`METRICS`](Self::METRICS).
    fn read_counters(&self, into: &[Count]);
}
