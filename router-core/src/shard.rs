//! One shard: all state of one core's connections.

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fanwire_codec::ws;
use fanwire_codec::ws::deflate::Agreement;
use hashbrown::HashMap;

use crate::api::Desk;
use crate::clock::Instant;
use crate::config::{Compression, CoreConfig};
use crate::counters::{Arrival, Counters, DropReason, LoginOutcome};
use crate::dealer::{CallExtras, HeldParts, PendingCall};
use crate::delivery::{Delivery, FlushBudget, Notice, Outlet, Wire};
use crate::directory::{Directory, RegistrationCache, TopicCache};
use crate::encoding::Encoding;
use crate::ending::Endings;
use crate::handled::Happening;
use crate::hooks::AllowedNow;
use crate::ids::{ClientId, SessionId, ShardId, SubscriptionId};
use crate::inner::InnerId;
use crate::lanes::{Item, Lanes, RingItem, RingSpace};
use crate::meta::AllTestaments;
use crate::mutation::{self, Mutation, planted};
use crate::parcel::Spares;
use crate::question::{Matter, Question, QuestionKey};
use crate::retained::Replays;
use crate::session::{IdMap, Session, State, error};
use crate::subscription::LocalSubscription;

/// What the driver must do, or may do again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Input of this connection may be handed over again, after [`Flow::Pause`].
    Resume(Outlet),
    /// The session is open: its login deadline is over.
    Established(Outlet),
    /// It was told goodbye by request: [`close`](Shard::close) it if it does not answer in time.
    Dismissed(Outlet),
    /// Everything was written and nothing follows: half-close, wait for the peer, then `peer_closed` and `release`.
    Finished(Outlet),
    /// Close the socket now: it passed a limit or is dead. The core has forgotten the connection; `release` it.
    Abort(Outlet, DropReason),
}

/// What to do with the next input of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Hand over nothing more, and do not read the socket, until [`Effect::Resume`].
    Pause,
    /// Discard whatever still comes.
    Closing,
}

/// The whole state of one shard's connections: sessions, subscriptions, calls and what waits to be sent.
///
/// # Driving it
///
/// The driver owns sockets and rings. One turn is:
///
/// ```text
/// for each other shard: set_ring_space(to, space)
/// for each item of an inbound ring:     handle_item(now, from, item)
/// for each verdict of the control thread: handle_verdict(now, verdict)
/// while readiness() says so, for each request of the control thread: handle_api(now, request, …)
/// for each connection with input:       receive(now, outlet, …)      obey its Flow
/// push_items(push into the outbound rings, wake their owners)
/// while flush(now, wire, budget) and nothing new came in: …
/// for each of effects(): obey; each of questions() goes to the control thread
/// at next_deadline(): handle_timeout(now)
/// ```
///
/// A connection is `attach`ed when accepted, `open`ed when its WebSocket handshake is done, told `peer_closed` when its
/// socket or the WebSocket ended, and `release`d when its number may be used again. All bytes to it go through the
/// shard, also handshake answers, pongs and pings (`push`), so nothing is written into the middle of a frame.
///
/// Nothing blocks, nothing is sent outside `flush`, and `now` never goes back.
pub struct Shard {
    pub(crate) config: Arc<CoreConfig>,
    pub(crate) id: ShardId,
    pub(crate) directory: Arc<Directory>,
    pub(crate) random: Box<dyn FnMut() -> u64 + Send>,
    pub(crate) delivery: Delivery,
    /// By outlet; none before `open` and after the session ended.
    sessions: Vec<Option<Box<Session>>>,
    pub(crate) outlets: HashMap<SessionId, Outlet, foldhash::fast::FixedState>,
    pub(crate) topics: TopicCache,
    pub(crate) procedures: RegistrationCache,
    pub(crate) subscriptions: HashMap<SubscriptionId, LocalSubscription, foldhash::fast::FixedState>,
    /// What each inner subscriber is subscribed to, by its tags.
    pub(crate) inner: HashMap<InnerId, Vec<(u32, SubscriptionId)>, foldhash::fast::FixedState>,
    pub(crate) calls: IdMap<PendingCall>,
    pub(crate) last_call: u64,
    pub(crate) call_extras: IdMap<CallExtras>,
    /// When calls are given up; as many as there are calls at most.
    pub(crate) call_timers: BTreeSet<(Instant, u64)>,
    /// Bytes of arguments that are kept to ask another callee.
    pub(crate) rerouting_bytes: usize,
    pub(crate) held_parts: HeldParts,
    pub(crate) lanes: Lanes,
    pub(crate) spares: Spares,
    pub(crate) parked: VecDeque<crate::broker::Parked>,
    /// When the turn began. Parked requests and unpushed items are looked at again [`RETRY`] later, if the driver has no other
    /// reason for a turn.
    pub(crate) turn_at: Instant,
    pub(crate) effects: Vec<Effect>,
    last_client: u32,
    pub(crate) last_question: u64,
    pub(crate) questions: Vec<Question>,
    /// Questions under way, and some that are answered, with their deadlines, which are in order.
    pub(crate) awaited: VecDeque<(Instant, QuestionKey)>,
    /// Sessions that end by themselves.
    pub(crate) endings: Endings,
    /// Calls that a hook answers, by the numbers of the questions: their own numbers, and that somebody waits.
    pub(crate) asked_calls: IdMap<(u64, Arc<()>)>,
    /// What a hook has allowed of the message in hand, which is handled once more for that.
    pub(crate) in_hand_allowed: Option<AllowedNow>,
    /// The connections from this one on are still to be looked through, because names of channels mean something else.
    pub(crate) renamed_from: Option<Outlet>,
    pub(crate) desk: Desk,
    /// What sessions leave behind, of those that leave something.
    pub(crate) testaments: AllTestaments,
    /// Sessions that end now do so without testaments, and nobody is told.
    pub(crate) is_hushed: bool,
    /// Where what a client says is made a publication's or a call's arguments, in protocols without lists of them.
    pub(crate) said: BytesMut,
    /// Retained events that sessions have asked for.
    pub(crate) replays: Replays,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id)
            .field("counters", self.counters())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// A shard without connections. `random` gives 64 uniform bits per call; session and publication ids come from it.
    ///
    /// # Panics
    ///
    /// If `shards` is no shard count or `id` is not below it.
    pub fn new(
        config: Arc<CoreConfig>,
        id: ShardId,
        shards: u8,
        directory: Arc<Directory>,
        random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        assert!(id.get() < shards && shards <= crate::ids::SHARD_COUNT_MAX, "shard {id:?} of {shards}");
        let limits = config.limits.clone();
        let mut delivery = Delivery::with_compression(limits.clone(), config.compression);
        delivery.seed_gaps(config.access.hasher().hash_one(id.get()));
        Self {
            id,
            directory,
            random,
            sessions: Vec::with_capacity(Outlet::FORESEEN),
            outlets: HashMap::default(),
            topics: TopicCache::new(limits.topic_cache_entries),
            procedures: RegistrationCache::new(limits.topic_cache_entries),
            subscriptions: HashMap::default(),
            inner: HashMap::default(),
            calls: IdMap::default(),
            last_call: 0,
            call_extras: IdMap::default(),
            call_timers: BTreeSet::new(),
            rerouting_bytes: 0,
            held_parts: HeldParts::default(),
            lanes: Lanes::new(usize::from(shards), limits.ring_reserve(), limits.ring_bytes_max),
            spares: Spares::default(),
            parked: VecDeque::new(),
            turn_at: Instant::START,
            effects: Vec::new(),
            // Other numbers in each process: what a backend remembers of the one before is nobody here.
            last_client: ClientId::next_number(config.access.hasher().hash_one((CLIENTS, id.get())) as u32),
            last_question: 0,
            questions: Vec::new(),
            awaited: VecDeque::new(),
            endings: Endings::default(),
            asked_calls: IdMap::default(),
            in_hand_allowed: None,
            renamed_from: None,
            desk: Desk::default(),
            testaments: AllTestaments::default(),
            is_hushed: false,
            said: BytesMut::new(),
            replays: Replays::default(),
            delivery,
            config,
        }
    }

    /// This shard's number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    // --- connections -------------------------------------------------------------------------------------------

    /// A connection was accepted and has this number.
    pub fn attach(&mut self, _now: Instant, outlet: Outlet) {
        self.delivery.attach(outlet);
        if outlet.index() >= self.sessions.len() {
            self.sessions.resize_with(outlet.index() + 1, || None);
        }
        debug_assert!(self.sessions[outlet.index()].is_none(), "released before it is attached again");
    }

    /// Raw bytes for a connection, whole frames or an HTTP response, after everything routed to it before.
    pub fn push(&mut self, _now: Instant, outlet: Outlet, bytes: &[u8]) {
        self.delivery.push(outlet, bytes);
    }

    /// Nothing more will be said to the connection; [`Effect::Finished`] comes when all is written.
    pub fn finish(&mut self, outlet: Outlet) {
        self.delivery.finish(outlet);
    }

    /// The WebSocket or RawSocket is open, and this is what it speaks: a [`Serializer`](fanwire_codec::wamp2::Serializer) of WAMP v2, or
    /// [`Encoding::MESSAGE_CENTER`], [`Encoding::ECHO`], [`Encoding::WAMP1`] or [`Encoding::HANDLED`]. The session waits for the
    /// client's first message, or is open where it needs none; the last three come in by [`enter_room`](Self::enter_room),
    /// [`enter_wamp`](Self::enter_wamp) and [`enter_handled`](Self::enter_handled), once compression is agreed on.
    pub fn open(&mut self, now: Instant, outlet: Outlet, encoding: impl Into<Encoding>) {
        // Whoever had this outlet before had another number, but for one of half a billion.
        self.last_client = ClientId::next_number(self.last_client);
        let encoding = encoding.into();
        self.delivery.use_framing(outlet, encoding.framing());
        let session = Session { number: self.last_client, ..Session::new(encoding) };
        self.sessions[outlet.index()] = Some(Box::new(session));
        self.greet(now, outlet);
    }

    /// The session that was just opened may join this realm alone.
    pub fn confine(&mut self, outlet: Outlet, realm: &str) {
        let realm = self.config.access.realm(realm).expect("the realms of endpoints were checked");
        if let Some(session) = self.session_mut(outlet) {
            session.only_realm = Some(realm);
        }
    }

    /// Realms, permissions and limits as this shard knows them.
    pub fn config(&self) -> &Arc<CoreConfig> {
        &self.config
    }

    /// What is agreed to in handshakes; `None`: nothing.
    pub fn compression(&self) -> Option<&Compression> {
        self.delivery.compression()
    }

    /// The handshake agreed on compression: messages to the connection are compressed from now on. To be called right after
    /// [`open`](Self::open). What comes from it is inflated before it is handed to [`receive`](Self::receive).
    pub fn use_compression(&mut self, now: Instant, outlet: Outlet, agreement: &Agreement) {
        let shared = self.delivery.use_compression(now, outlet, agreement);
        if let Some(session) = self.session_mut(outlet).filter(|_| shared) {
            session.encoding = session.encoding.deflated();
        }
    }

    /// One message of the peer.
    #[must_use = "a paused connection must not be read"]
    pub fn receive(&mut self, now: Instant, outlet: Outlet, kind: ws::Kind, message: &mut [u8]) -> Flow {
        let Some(session) = self.session(outlet) else { return Flow::Closing };
        debug_assert!(
            !session.parked && !self.delivery.is_held(outlet),
            "paused connections hand over nothing"
        );
        let encoding = session.encoding;
        self.delivery.counters.messages_received += 1;
        let unsaid = self.delivery.unsaid(outlet);
        match encoding {
            Encoding::Wamp2(serializer, _) => self.receive_wamp2(now, outlet, serializer, kind, message),
            Encoding::MessageCenter(_) => self.receive_message_center(now, outlet, kind, message),
            Encoding::Echo(_) => self.receive_echo(now, outlet, kind, message),
            Encoding::Wamp1(_) => self.receive_wamp1(now, outlet, kind, message),
            Encoding::Handled(_) => self.receive_handled(now, outlet, kind, message),
        }
        self.apply_notices(now);
        match self.session(outlet) {
            None | Some(Session { state: State::Over, .. }) => Flow::Closing,
            Some(session) => {
                let parked = session.parked;
                if parked || planted(Mutation::AskedStillRead) {
                    self.keep_message(outlet, kind, message);
                }
                let held = unsaid.is_some_and(|before| self.delivery.hold(outlet, before));
                if parked || held { Flow::Pause } else { Flow::Continue }
            }
        }
    }

    /// Bytes that were said to the connection and that no flush has looked at.
    pub fn said_bytes(&self, outlet: Outlet) -> usize {
        self.delivery.said_bytes(outlet)
    }

    /// Decodes a message. A bug in that is one connection's misfortune: nothing is routed yet, so no state is in doubt. The
    /// connection is closed then, and there is nothing to handle.
    pub(crate) fn decode<T>(
        &mut self,
        now: Instant,
        outlet: Outlet,
        decode: impl FnOnce() -> T,
    ) -> Option<T> {
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            assert!(!planted(Mutation::DecoderPanics), "a planted bug");
            decode()
        }));
        if decoded.is_err() {
            self.delivery.counters.decoder_panics += 1;
            self.close(now, outlet, 1011, "the router failed to read the message");
        }
        decoded.ok()
    }

    /// The peer broke the WebSocket protocol: the session ends, the close frame with `code` is the last thing said.
    pub fn violate(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.delivery.counters.violations += 1;
        self.close(now, outlet, code, words);
    }

    /// Ends the session and says goodbye on the WebSocket level only; over RawSocket, which has none, by ABORT where there are
    /// words and nothing like it was said.
    pub fn close(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str) {
        if self.delivery.is_closed(outlet) {
            return;
        }
        self.say_last_words(outlet, code, words);
        self.end_session(now, outlet);
        self.delivery.reply(outlet, |out| ws::write_close(out, code, words));
        self.delivery.finish(outlet);
        self.apply_notices(now);
    }

    /// The peer closed the WebSocket or its socket is dead: nothing more can be said.
    pub fn peer_closed(&mut self, now: Instant, outlet: Outlet) {
        self.forget(now, outlet);
        // At once: the number of a connection that this cut may belong to another one by the next call.
        self.apply_notices(now);
    }

    fn forget(&mut self, now: Instant, outlet: Outlet) {
        self.end_session(now, outlet);
        if let Some(slot) = self.sessions.get_mut(outlet.index()) {
            *slot = None;
            self.delivery.detach(now, outlet);
        }
    }

    /// The connection's number may be used for another one. Call it at the end of a turn.
    pub fn release(&mut self, now: Instant, outlet: Outlet) {
        self.peer_closed(now, outlet);
    }

    /// The router stops: GOODBYE, and close code 1001 once the peer answered, or when the driver calls
    /// [`close`](Self::close).
    pub fn shut_down(&mut self, now: Instant, outlet: Outlet) {
        match self.session(outlet).map(|session| session.state) {
            Some(State::Open) => {
                self.say_goodbye(now, outlet, error::CLOSE_SYSTEM_SHUTDOWN, "the router stops", 1001);
            }
            Some(State::Closing | State::Over) => {}
            Some(State::Waiting | State::Challenged | State::Verifying | State::Admitting) | None => {
                self.close(now, outlet, 1001, "the router stops")
            }
        }
        self.apply_notices(now);
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, outlet: Outlet) {
        self.delivery.writable(outlet);
    }

    /// One more than the greatest number of a connection so far.
    pub(crate) fn outlet_count(&self) -> u32 {
        self.sessions.len() as u32
    }

    pub(crate) fn session(&self, outlet: Outlet) -> Option<&Session> {
        self.sessions.get(outlet.index())?.as_deref()
    }

    /// The connection that backends know by this id, unless it has gone.
    pub(crate) fn client(&self, id: ClientId) -> Option<Outlet> {
        let outlet = Outlet(id.outlet());
        let session = self.session(outlet).filter(|session| session.state != State::Over)?;
        let is_it = id.number() == session.number || planted(Mutation::OrderForAnother);
        (id.shard() == self.id && is_it).then_some(outlet)
    }

    /// The id by which backends know a connection with a session.
    pub(crate) fn client_id(&self, outlet: Outlet) -> ClientId {
        let number = self.session(outlet).expect("it has a session").number;
        ClientId::new(self.id, outlet.0, number)
    }

    pub(crate) fn session_mut(&mut self, outlet: Outlet) -> Option<&mut Session> {
        self.sessions.get_mut(outlet.index())?.as_deref_mut()
    }

    /// Takes back everything that a session holds: subscriptions, registrations, calls, invocations. What it is due
    /// stays due, so the reason of its end can follow.
    pub(crate) fn end_session(&mut self, now: Instant, outlet: Outlet) {
        let Some(session) = self.session_mut(outlet) else { return };
        let was = std::mem::replace(&mut session.state, State::Over);
        let realm = session.realm;
        let (was_parked, asking) = (std::mem::take(&mut session.parked), session.asking.take());
        let was_held = self.delivery.release(outlet);
        if (was_parked || was_held) && !planted(Mutation::ParkedNeverResumed) {
            // What is parked is an orphan now. The peer's GOODBYE or close frame must still be read.
            self.effects.push(Effect::Resume(outlet));
        }
        if let Some(Matter::Entrance(entrance)) = asking.map(|asking| asking.matter) {
            self.delivery.counters.login(LoginOutcome::of(entrance.method, Arrival::Abandoned));
        }
        if was != State::Open {
            return;
        }
        self.tell_end(outlet, realm);
        self.tell_handler(outlet, Happening::Ends);
        self.part_all_subscriptions(now, outlet);
        let session = self.session_mut(outlet).expect("it was here");
        let id = session.id;
        let registrations = std::mem::take(&mut session.registrations);
        let invocations = std::mem::take(&mut session.invocations);
        let calls = std::mem::take(&mut session.calls);
        session.patterns = 0;
        for registration in registrations {
            self.delivery.counters.registrations -= 1;
            self.leave_registration(&registration, id);
        }
        self.abandon_calls(calls.into_values());
        self.disown_invocations(invocations.into_calls());
        self.deregister_session(outlet);
    }

    /// From now on the session does not exist for others.
    pub(crate) fn deregister_session(&mut self, outlet: Outlet) {
        self.announce_end(outlet);
        let session = self.session(outlet).expect("it ends now");
        let (id, encoding, cookie) = (session.id, session.encoding, session.cookie());
        if let Some(cookie) = cookie {
            self.directory.cookies().leave(cookie.id, id);
        }
        self.outlets.remove(&id);
        self.directory.remove_session(id);
        self.delivery.counters.session_ended(encoding);
    }

    // --- other shards ------------------------------------------------------------------------------------------

    /// One item of the ring from shard `from`.
    pub fn handle_item(&mut self, now: Instant, from: ShardId, item: RingItem) {
        match item.0 {
            Item::Publish(publication) => {
                self.delivery.counters.publications_forwarded_in += 1;
                let before = self.matched_by_publications();
                let is_left_out = publication.plain && planted(Mutation::EchoSenderLeftOutElsewhere);
                self.deliver_publication(&publication, is_left_out.then_some(Outlet(0)));
                if let Some(number) = publication.receipt {
                    let matched = self.matched_by_publications() - before;
                    let matched = u32::try_from(matched).unwrap_or(u32::MAX);
                    self.lanes.stage(from, Item::Receipt { number, matched });
                }
            }
            Item::Receipt { number, matched } => self.receipt_came(number, from, matched),
            Item::Call(parcel) => self.handle_parcel(now, parcel),
            Item::LoggedOut(session) => self.end_logged_out(now, session),
        }
        self.apply_notices(now);
    }

    /// Whether [`handle_item`](Self::handle_item) should be called now. While it says no, a flush makes room; what waits in
    /// the rings meanwhile is not lost, and holds back whoever fills them.
    pub fn takes_items(&self) -> bool {
        self.delivery.takes_more()
    }

    /// How full the ring to shard `to` is. Call it at the start of a turn.
    pub fn set_ring_space(&mut self, to: ShardId, space: RingSpace) {
        self.lanes.set_space(to, space);
    }

    /// Pushes what this turn routed to other shards. `push` gives back an item that does not fit; it stays, in order.
    pub fn push_items(&mut self, push: &mut dyn FnMut(ShardId, RingItem) -> Result<(), RingItem>) {
        mutation::do_later();
        self.lanes.push(push);
    }

    /// Tries parked requests again. Part of every turn's beginning, after `set_ring_space`.
    pub fn retry_parked(&mut self, now: Instant) {
        if !self.parked.is_empty() {
            self.try_parked(now);
            self.apply_notices(now);
        }
        if !self.held_parts.is_empty() {
            self.try_held(now);
            self.apply_notices(now);
        }
        self.continue_requests(now);
        self.resume_replays(now);
        self.turn_at = now;
    }

    // --- the flush ---------------------------------------------------------------------------------------------

    /// Sends: dirty connections, small streams, one slice of a large stream. Returns whether work is left.
    pub fn flush(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) -> bool {
        let left = self.delivery.flush(now, wire, budget);
        self.apply_notices(now);
        left || self.delivery.has_work()
    }

    /// The first part of [`flush`](Self::flush) alone.
    pub fn flush_dirty(&mut self, now: Instant, wire: &mut impl Wire) {
        self.delivery.flush_dirty(now, wire);
        self.apply_notices(now);
    }

    /// The second part of [`flush`](Self::flush) alone.
    pub fn flush_small(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) {
        self.delivery.flush_small(now, wire, budget);
        self.apply_notices(now);
    }

    /// The third part of [`flush`](Self::flush) alone.
    pub fn flush_slice(&mut self, now: Instant, wire: &mut impl Wire, sends: usize) {
        self.delivery.flush_slice(now, wire, sends);
        self.apply_notices(now);
    }

    /// Whether a flush would send something.
    pub fn has_work(&self) -> bool {
        self.delivery.has_work()
    }

    /// Items that wait for room in a ring.
    pub fn staged_items(&self) -> usize {
        self.lanes.staged()
    }

    /// Replays of retained events that are not over.
    pub fn replays(&self) -> usize {
        self.replays.under_way()
    }

    // --- time, effects, figures --------------------------------------------------------------------------------

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waits = !(self.parked.is_empty() && self.held_parts.is_empty() && self.lanes.is_empty());
        let retry = waits.then_some(self.turn_at + RETRY);
        let asked = self.next_question_deadline();
        let renamed = self.renamed_from.map(|_| Instant::START);
        let called = self.call_timers.first().map(|(at, _)| *at);
        let ending = self.endings.next_deadline();
        let replays = self.replays.next_deadline();
        let (delivery, desk) = (self.delivery.next_deadline(), self.desk.next_deadline());
        [retry, asked, renamed, called, ending, replays, delivery, desk].into_iter().flatten().min()
    }

    /// Does what is due by now: parked requests, calls whose time is over, consumers that are too slow, what new rules
    /// withdraw.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.retry_parked(now);
        self.expire_requests(now);
        self.expire_called(now);
        self.expire_questions(now);
        self.end_sessions(now);
        self.withdraw_lost_channels(now);
        self.delivery.handle_timeout(now);
        self.apply_notices(now);
    }

    /// The realm of a connection's session, as a number from 1 on; 0 without a session.
    pub fn group(&self, outlet: Outlet) -> u16 {
        match self.session(outlet) {
            Some(session) if session.state == State::Open => {
                u16::try_from(session.realm.get()).map_or(u16::MAX, |realm| realm.saturating_add(1))
            }
            _ => 0,
        }
    }

    /// The process is short of memory: cuts connections whose socket is full, the largest outboxes first, until so many bytes
    /// are given up, a slice of them at a time. Returns how many were: 0 when there is nothing left to give up.
    pub fn shed(&mut self, now: Instant, bytes: usize) -> usize {
        let freed = self.delivery.shed(bytes);
        self.apply_notices(now);
        freed
    }

    /// How much there is in each table that is empty when nobody is connected. Cheap; for tests.
    pub fn table_sizes(&self) -> [(&'static str, usize); 10] {
        [
            ("calls", self.calls.len()),
            ("calls with extras", self.call_extras.len()),
            ("call timers", self.call_timers.len()),
            ("bytes kept for re-routing", self.rerouting_bytes),
            ("parked requests", self.parked.len()),
            ("held parts", usize::from(!self.held_parts.is_empty())),
            ("sessions by id", self.outlets.len()),
            ("subscriptions", self.subscriptions.len()),
            ("sessions with testaments", self.testaments.len()),
            ("endings", self.endings.next_deadline().map_or(0, |_| 1)),
        ]
    }

    /// Gives back memory that is only kept to be used again.
    pub fn drop_spares(&mut self) {
        self.delivery.drop_spares();
        self.spares = Spares::default();
    }

    /// Connections whose socket is full, and the bytes that wait for each.
    pub fn backlogs(&self) -> impl Iterator<Item = (Outlet, usize)> {
        self.delivery.backlogs()
    }

    /// What the driver must act on, oldest first. Drain it once a turn.
    pub fn effects(&mut self) -> std::vec::Drain<'_, Effect> {
        self.effects.drain(..)
    }

    /// Whether [`effects`](Self::effects) has any.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// What this shard did so far.
    pub fn counters(&self) -> &Counters {
        &self.delivery.counters
    }

    /// The session waits for nothing any more; unless it waits for something else, its connection is read again.
    pub(crate) fn listen_again(&mut self, outlet: Outlet) {
        let parked = self.session(outlet).is_some_and(|session| session.parked);
        if !parked && !self.delivery.is_held(outlet) {
            self.effects.push(Effect::Resume(outlet));
        }
    }

    /// Acts on what the delivery noticed: congestion goes to the directory, ends of connections to the driver.
    pub(crate) fn apply_notices(&mut self, now: Instant) {
        while self.delivery.has_notices() {
            let notices: Vec<Notice> = self.delivery.notices().collect();
            for notice in notices {
                match notice {
                    Notice::Congested { tag, congested } => self.note_congestion(tag, congested),
                    Notice::Paused { tag, paused } => self.note_pause(tag, paused),
                    Notice::Relieved(_) if planted(Mutation::HeldNeverResumed) => {}
                    Notice::Relieved(outlet) => self.listen_again(outlet),
                    Notice::Unsayable(outlet) => self.close(now, outlet, 1009, UNSAYABLE),
                    Notice::Finished(outlet) => self.effects.push(Effect::Finished(outlet)),
                    Notice::Cut(outlet, reason) => {
                        self.forget(now, outlet);
                        self.effects.push(Effect::Abort(outlet, reason));
                    }
                }
            }
        }
    }
}

/// Why a session ends to which something cannot be said.
const UNSAYABLE: &str = "a message for this session is longer than its client takes; let it take longer ones";
/// Tells this hash from others of a shard's number.
const CLIENTS: &str = "clients";
/// How often room is looked for while nothing else happens: far below `park_max`, far above the cost of a turn.
const RETRY: Duration = Duration::from_millis(1);
