//! The router as a [`Service`]: `fanwire_core`'s shard, driven by this crate's loop. Names only, no rules.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use fanwire_codec::http::HttpError;
use fanwire_codec::message_center::ErrorCode;
use fanwire_codec::rawsocket::{MaxLength, Request};
use fanwire_codec::wamp1;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_codec::ws::deflate::Agreement;
use fanwire_codec::ws::handshake::Upgrade;
use fanwire_core::api::{ApiRequest, PeerOf, Readiness};
use fanwire_core::directory::{Cookie, RetentionFull};
use fanwire_core::encoding::Framing;
use fanwire_core::handled::{Beginning, HandlerId};
use fanwire_core::ids::ShardId;
use fanwire_core::question::{Question, Verdict};
use fanwire_core::{
    CoreConfig, DropReason, Encoding, FlushBudget, Instant, LoginOutcome, Outlet, RingItem, RingSpace, Shard,
    Wire,
};

use crate::config::EndpointId;
use crate::cookies::{CookieCase, hash};
use crate::counters::{Count, Kind as MetricKind, Metric};
use crate::endpoints::{Subprotocol, WampEndpoints, WampRules};
use crate::handover::HandedOver;
use crate::service::{Effect, Flow, Polling, Service};

/// Hands a question to the control thread, which answers with [`Running::answer`](crate::Running::answer). Must not block;
/// answers at once when there is no room.
pub type SubmitQuestion = Box<dyn Fn(ShardId, Question) -> Result<(), Verdict> + Send>;

/// Hands a connection to the control thread. Must not block; gives it back when there is no room.
pub type HandOver = Box<dyn Fn(HandedOver) -> Result<(), HandedOver> + Send>;

/// One shard of the router.
pub struct Router {
    shard: Shard,
    submit_question: SubmitQuestion,
    hand_over: HandOver,
    endpoints: WampEndpoints,
    /// The time of this turn.
    now: Instant,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Router {
    /// Endpoints that speak WAMP, in any serializer to any realm, and version 1 where it has a realm; for others see
    /// [`WampEndpoints`].
    pub const WAMP: EndpointId = EndpointId(0);
    /// Endpoints of the message center.
    pub const MESSAGE_CENTER: EndpointId = EndpointId(1);
    /// Endpoints with echo rooms.
    pub const ECHO: EndpointId = EndpointId(2);

    /// Endpoints of this handler, of which there may be [`HANDLERS_MAX`](Self::HANDLERS_MAX).
    pub const fn handled(handler: HandlerId) -> EndpointId {
        assert!(handler.0 < Self::HANDLERS_MAX, "more handlers than numbers of endpoints");
        EndpointId(FIRST_HANDLER + handler.0)
    }

    /// Handlers with numbers of endpoints.
    pub const HANDLERS_MAX: u8 = 64;

    /// Drives `shard`.
    pub fn new(shard: Shard, submit_question: SubmitQuestion, hand_over: HandOver) -> Self {
        Self { shard, submit_question, hand_over, endpoints: WampEndpoints::default(), now: Instant::START }
    }

    /// With WAMP endpoints that do not offer everything.
    #[must_use]
    pub fn with_endpoints(self, endpoints: WampEndpoints) -> Self {
        Self { endpoints, ..self }
    }

    fn open_wamp2(&mut self, now: Instant, outlet: Outlet, endpoint: EndpointId, encoding: Encoding) {
        self.shard.open(now, outlet, encoding);
        if let Some(realm) = self.endpoints.rules(endpoint).and_then(|rules| rules.realm.as_deref()) {
            self.shard.confine(outlet, realm);
        }
    }

    /// Whether these endpoints take version 1: it is JSON, and its clients are in one realm.
    fn speaks_version_1(&self, rules: &WampRules) -> bool {
        let config = self.shard.config();
        config.wamp1.realm.is_some_and(|realm| {
            let only = rules.realm.as_deref();
            rules.allow(Serializer::Json) && only.is_none_or(|only| config.access.realm(only) == Some(realm))
        })
    }

    /// Sends questions on their way; those that find no room have their verdict at once, after which there may be others.
    fn submit_questions(&mut self, now: Instant) {
        let from = self.shard.id();
        while self.shard.has_questions() {
            let questions: Vec<Question> = self.shard.questions().collect();
            for question in questions {
                if let Err(verdict) = (self.submit_question)(from, question) {
                    self.shard.handle_verdict(now, verdict);
                }
            }
        }
    }
}

/// The endpoints of the handler 0, and behind it of the others.
const FIRST_HANDLER: u8 = u8::MAX - (Router::HANDLERS_MAX - 1);

/// The handler whose endpoint this is.
fn handler(endpoint: EndpointId) -> Option<HandlerId> {
    endpoint.0.checked_sub(FIRST_HANDLER).map(HandlerId)
}

fn beginning(request: &Upgrade<'_>, peer: Option<SocketAddr>) -> Beginning {
    let field = |(name, value): (&str, &str)| (name.into(), value.into());
    Beginning { target: request.target().into(), fields: request.fields().iter().map(field).collect(), peer }
}

impl Service for Router {
    type Item = RingItem;

    const METRICS: &'static [Metric] = METRICS;

    fn attach(&mut self, now: Instant, outlet: Outlet) {
        self.shard.attach(now, outlet);
    }

    fn push(&mut self, now: Instant, outlet: Outlet, bytes: &[u8]) {
        self.shard.push(now, outlet, bytes);
    }

    fn finish(&mut self, outlet: Outlet) {
        self.shard.finish(outlet);
    }

    fn negotiate(
        &mut self,
        endpoint: EndpointId,
        upgrade: &mut Upgrade<'_>,
    ) -> Result<Option<&'static str>, HttpError> {
        if let Some(compression) = self.shard.compression() {
            upgrade.negotiate_deflate(&compression.policy)?;
        }
        if endpoint == Self::MESSAGE_CENTER || handler(endpoint).is_some() {
            return Ok(None);
        }
        if endpoint == Self::ECHO {
            let rooms = &self.shard.config().echo;
            if rooms.topic(upgrade.target()).is_some() {
                return Ok(None);
            }
            let mut known: Vec<&str> = rooms.paths().take(PATHS_TOLD_MAX + 1).collect();
            if known.len() > PATHS_TOLD_MAX {
                known[PATHS_TOLD_MAX] = "…";
            }
            let words = format!("this path leads to no room; paths of rooms: {}", known.join(", "));
            return Err(HttpError::new(404, words));
        }
        // RFC 6455, 4.1: the client lists what it prefers first. Who speaks both versions is better off with the second.
        let everything = WampRules::default();
        let rules = self.endpoints.rules(endpoint).unwrap_or(&everything);
        let is_allowed = |known: &Subprotocol| rules.allow(known.serializer);
        if let Some(chosen) = upgrade.subprotocols().filter_map(Subprotocol::from_name).find(is_allowed) {
            return Ok(Some(chosen.name()));
        }
        let version_1 = self.speaks_version_1(rules).then_some(wamp1::SUBPROTOCOL);
        if version_1.is_some() && upgrade.subprotocols().any(|offered| Some(offered) == version_1) {
            return Ok(version_1);
        }
        let known: Vec<_> = rules.subprotocols().map(Subprotocol::name).chain(version_1).collect();
        let words = format!(
            "no subprotocol of this path was offered; send Sec-WebSocket-Protocol with one of: {}",
            known.join(", ")
        );
        Err(HttpError::new(400, words))
    }

    fn open(
        &mut self,
        now: Instant,
        outlet: Outlet,
        endpoint: EndpointId,
        subprotocol: Option<&'static str>,
    ) {
        if endpoint == Self::MESSAGE_CENTER {
            return self.shard.open(now, outlet, Encoding::MESSAGE_CENTER);
        }
        if endpoint == Self::ECHO {
            return self.shard.open(now, outlet, Encoding::ECHO);
        }
        if handler(endpoint).is_some() {
            return self.shard.open(now, outlet, Encoding::HANDLED);
        }
        if subprotocol == Some(wamp1::SUBPROTOCOL) {
            return self.shard.open(now, outlet, Encoding::WAMP1);
        }
        let Subprotocol { serializer, batched } =
            subprotocol.and_then(Subprotocol::from_name).expect("as negotiated");
        let framing = if batched { Framing::Batched } else { Framing::Plain };
        self.open_wamp2(now, outlet, endpoint, Encoding::Wamp2(serializer, framing));
    }

    fn batches(&self, subprotocol: Option<&'static str>) -> Option<Kind> {
        let chosen = subprotocol.and_then(Subprotocol::from_name).filter(|chosen| chosen.batched)?;
        Some(chosen.kind())
    }

    fn takes_rawsocket(&self, endpoint: EndpointId, serializer: Serializer) -> bool {
        self.endpoints.rules(endpoint).is_none_or(|rules| rules.allow(serializer))
    }

    fn open_rawsocket(&mut self, now: Instant, outlet: Outlet, endpoint: EndpointId, request: Request) {
        let Request { serializer, max_length } = request;
        self.open_wamp2(now, outlet, endpoint, Encoding::Wamp2(serializer, Framing::Raw(max_length)));
    }

    fn negotiate_polling(
        &mut self,
        endpoint: EndpointId,
        offered: &mut dyn Iterator<Item = &str>,
    ) -> Result<Polling, HttpError> {
        let everything = WampRules::default();
        let rules = self.endpoints.rules(endpoint).unwrap_or(&everything);
        let is_allowed = |known: &Subprotocol| rules.allow(known.serializer);
        if let Some(chosen) = offered.filter_map(Subprotocol::from_name).find(is_allowed) {
            let (Subprotocol { serializer, batched }, kind) = (chosen, chosen.kind());
            let content = match serializer {
                Serializer::Json => "application/json",
                _ if batched => "application/octet-stream",
                Serializer::MsgPack => "application/msgpack",
                Serializer::Cbor => "application/cbor",
            };
            return Ok(Polling { protocol: chosen.name(), kind, batched, content });
        }
        let known: Vec<_> = rules.subprotocols().map(Subprotocol::name).collect();
        let words = format!("no protocol of this path was offered; offer one of: {}", known.join(", "));
        Err(HttpError::new(400, words))
    }

    fn open_polling(&mut self, now: Instant, outlet: Outlet, endpoint: EndpointId, protocol: &'static str) {
        let chosen = Subprotocol::from_name(protocol).expect("as negotiated");
        let encoding = Encoding::Wamp2(chosen.serializer, Framing::Raw(MaxLength::MOST));
        self.open_wamp2(now, outlet, endpoint, encoding);
    }

    fn wants_channels(&self) -> bool {
        self.shard.wants_channels()
    }

    fn bind_channel(&mut self, outlet: Outlet, channel: [u8; 32]) {
        self.shard.bind_channel(outlet, channel);
    }

    fn choose_cookie(
        &mut self,
        now: Instant,
        subprotocol: Option<&'static str>,
        case: CookieCase<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Option<(Cookie, Option<String>)> {
        // Other protocols have no words to log in by it.
        subprotocol.and_then(Subprotocol::from_name)?;
        let time = self.shard.config().access.longest_cookie_time()?;
        if let Some(value) = case.brought(upgrade.fields()) {
            let id = hash(value);
            if self.shard.knows_cookie(now, id) {
                // Once more, because the browser would forget it at the time of the first login, and there may be a later one.
                return Some((Cookie { id, is_fresh: false }, Some(case.set(value, time))));
            }
        }
        // What is nobody's may have been planted, so it stays nobody's.
        let (id, set) = case.new_one(self.shard.new_cookie(), time);
        Some((Cookie { id, is_fresh: true }, Some(set)))
    }

    fn bind_cookie(&mut self, outlet: Outlet, cookie: Cookie) {
        self.shard.bind_cookie(outlet, cookie);
    }

    fn use_compression(&mut self, now: Instant, outlet: Outlet, agreement: &Agreement) {
        self.shard.use_compression(now, outlet, agreement);
    }

    fn enter(
        &mut self,
        now: Instant,
        outlet: Outlet,
        endpoint: EndpointId,
        request: &Upgrade<'_>,
        peer: &dyn Fn() -> Option<SocketAddr>,
    ) -> Flow {
        let flow = match (endpoint, handler(endpoint)) {
            (_, Some(handler)) => self.shard.enter_handled(now, outlet, handler, beginning(request, peer())),
            (Self::ECHO, None) => self.shard.enter_room(now, outlet, request.target()),
            (Self::MESSAGE_CENTER, None) => return Flow::Continue,
            (_, None) => self.shard.enter_wamp(now, outlet),
        };
        if self.shard.has_questions() {
            self.submit_questions(now);
        }
        flow
    }

    fn compressed_before_established(&self) -> bool {
        self.shard.compression().is_none_or(|compression| compression.before_login)
    }

    fn login_bytes_max(&self, outlet: Outlet) -> usize {
        self.shard.login_bytes_max(outlet)
    }

    fn hand_over(&mut self, connection: HandedOver) -> Result<(), HandedOver> {
        (self.hand_over)(connection)
    }

    fn receive(&mut self, now: Instant, outlet: Outlet, kind: Kind, message: &mut [u8]) -> Flow {
        let flow = self.shard.receive(now, outlet, kind, message);
        if self.shard.has_questions() {
            self.submit_questions(now);
        }
        flow
    }

    fn said_bytes(&self, outlet: Outlet) -> usize {
        self.shard.said_bytes(outlet)
    }

    fn violate(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.shard.violate(now, outlet, code, words);
    }

    fn peer_closed(&mut self, now: Instant, outlet: Outlet) {
        self.shard.peer_closed(now, outlet);
    }

    fn release(&mut self, now: Instant, outlet: Outlet) {
        self.shard.release(now, outlet);
    }

    fn shut_down(&mut self, now: Instant, outlet: Outlet) {
        self.shard.shut_down(now, outlet);
    }

    fn close(&mut self, now: Instant, outlet: Outlet, code: u16, words: &str) {
        self.shard.close(now, outlet, code, words);
    }

    fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.shard.retry_parked(now);
    }

    fn handle_item(&mut self, now: Instant, from: ShardId, item: Self::Item) {
        self.shard.handle_item(now, from, item);
    }

    fn takes_items(&self) -> bool {
        self.shard.takes_items()
    }

    fn set_ring_space(&mut self, to: ShardId, space: RingSpace) {
        self.shard.set_ring_space(to, space);
    }

    fn item_bytes(item: &RingItem) -> usize {
        item.bytes()
    }

    fn push_items(&mut self, push: &mut dyn FnMut(ShardId, Self::Item) -> Result<(), Self::Item>) {
        self.shard.push_items(push);
    }

    fn writable(&mut self, outlet: Outlet) {
        self.shard.writable(outlet);
    }

    fn flush(&mut self, now: Instant, wire: &mut impl Wire, budget: &FlushBudget) -> bool {
        self.shard.flush(now, wire, budget)
    }

    fn group(&self, outlet: Outlet) -> u16 {
        self.shard.group(outlet)
    }

    fn shed(&mut self, now: Instant, bytes: usize) -> usize {
        self.shard.shed(now, bytes)
    }

    fn drop_spares(&mut self) {
        self.shard.drop_spares();
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.shard.next_deadline()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.shard.handle_timeout(now);
    }

    fn renew(&mut self, now: Instant, core: Arc<CoreConfig>) {
        self.shard.renew(now, core);
    }

    fn handle_verdict(&mut self, now: Instant, verdict: Verdict) {
        self.shard.handle_verdict(now, verdict);
    }

    fn readiness(&self) -> Readiness {
        self.shard.readiness()
    }

    fn is_publishing(&self) -> bool {
        self.shard.is_publishing()
    }

    fn give_up_publishing(&mut self) {
        self.shard.give_up_publishing();
    }

    fn handle_api(&mut self, now: Instant, request: ApiRequest, peer: PeerOf<'_>) -> Result<(), ApiRequest> {
        self.shard.handle_api(now, request, peer)
    }

    fn effects(&mut self, effects: &mut Vec<Effect>) {
        // Some arise apart from what a client sends: by a verdict, by a deadline, when a connection ends.
        if self.shard.has_questions() {
            self.submit_questions(self.now);
        }
        effects.extend(self.shard.effects());
    }

    fn read_counters(&self, into: &[Count]) {
        let counters = self.shard.counters();
        let (center, echo) = (&counters.message_center, &counters.echo);
        let (v1, handled) = (&counters.wamp1, &counters.handled);
        let plain = [
            counters.sessions - center.sessions - echo.sessions - v1.sessions - handled.sessions,
            center.sessions,
            echo.sessions,
            v1.sessions,
            handled.sessions,
            counters.sessions_opened
                - center.sessions_opened
                - echo.sessions_opened
                - v1.sessions_opened
                - handled.sessions_opened,
            center.sessions_opened,
            echo.sessions_opened,
            v1.sessions_opened,
            handled.sessions_opened,
            counters.messages_received
                - center.messages_received
                - echo.messages_received
                - v1.messages_received
                - handled.messages_received,
            center.messages_received,
            echo.messages_received,
            v1.messages_received,
            handled.messages_received,
            counters.violations,
            counters.decoder_panics,
            counters.requests_refused,
            counters.publications,
            counters.publications_forwarded_in,
            counters.matched,
            counters.events_withheld,
            counters.delivered,
            counters.queued,
            counters.replies,
            counters.calls,
            counters.calls_pending,
            counters.invocations,
            counters.call_errors,
            counters.calls_rerouted,
            counters.interrupts,
            counters.results_in_parts,
            counters.results_discarded,
            counters.call_parts_discarded,
            counters.deflated_frames,
            counters.deflated_frames_alone,
            counters.deflated_bytes_in,
            counters.deflated_bytes_out,
            counters.outbox_bytes,
            counters.blocked,
            counters.slow_consumers_cut,
            counters.parked,
            counters.held,
            counters.pauses,
            counters.gap_notices,
            counters.subscriptions,
            counters.registrations,
            counters.withdrawn,
            counters.streams,
            counters.retained,
            counters.retained_said,
            counters.recorded,
            counters.history_displaced,
            counters.history_too_large,
        ];
        let by_label =
            counters.dropped.into_iter().chain(counters.logins).chain(counters.message_center_errors);
        let by_label = by_label.chain(counters.not_retained);
        for (into, value) in into.iter().zip(plain.into_iter().chain(by_label)) {
            into.set(value);
        }
    }
}

/// Of the paths of rooms, in the answer to one that is none.
const PATHS_TOLD_MAX: usize = 8;

const PLAIN: usize = 3 + 51;

const METRICS: &[Metric] = &{
    const fn counter(name: &'static str, help: &'static str) -> Metric {
        Metric { name, labels: "", help, kind: MetricKind::Counter }
    }
    const fn gauge(name: &'static str, help: &'static str) -> Metric {
        Metric { name, labels: "", help, kind: MetricKind::Gauge }
    }
    const fn of_wamp2(metric: Metric) -> Metric {
        Metric { labels: "protocol=\"wamp2\"", ..metric }
    }
    const fn of_center(metric: Metric) -> Metric {
        Metric { labels: "protocol=\"message_center\"", ..metric }
    }
    const fn of_echo(metric: Metric) -> Metric {
        Metric { labels: "protocol=\"echo\"", ..metric }
    }
    const fn of_wamp1(metric: Metric) -> Metric {
        Metric { labels: "protocol=\"wamp1\"", ..metric }
    }
    const fn of_handled(metric: Metric) -> Metric {
        Metric { labels: "protocol=\"handled\"", ..metric }
    }
    const fn deflated(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
        Metric { name, labels, help, kind: MetricKind::Counter }
    }
    const fn dropped(labels: &'static str) -> Metric {
        let help = "Events not delivered, by reason.";
        Metric { name: "events_dropped", labels, help, kind: MetricKind::Counter }
    }
    const fn login(labels: &'static str) -> Metric {
        let help = "Attempts to open a session, by method and outcome.";
        Metric { name: "logins", labels, help, kind: MetricKind::Counter }
    }
    const fn center_error(labels: &'static str) -> Metric {
        let help = "Errors told to message-center clients, by number and reason.";
        Metric { name: "message_center_errors", labels, help, kind: MetricKind::Counter }
    }
    const fn not_retained(labels: &'static str) -> Metric {
        let help = "Publications with retain that were not retained, because a limit is reached.";
        Metric { name: "not_retained", labels, help, kind: MetricKind::Counter }
    }
    const COUNT: usize = PLAIN
        + DropReason::ALL.len()
        + LoginOutcome::ALL.len()
        + ErrorCode::ALL.len()
        + RetentionFull::ALL.len();
    let metrics: [Metric; COUNT] = [
        of_wamp2(gauge("sessions", "Sessions that are open now.")),
        of_center(gauge("sessions", "Sessions that are open now.")),
        of_echo(gauge("sessions", "Sessions that are open now.")),
        of_wamp1(gauge("sessions", "Sessions that are open now.")),
        of_handled(gauge("sessions", "Sessions that are open now.")),
        of_wamp2(counter("sessions_opened", "Sessions welcomed.")),
        of_center(counter("sessions_opened", "Sessions welcomed.")),
        of_echo(counter("sessions_opened", "Sessions welcomed.")),
        of_wamp1(counter("sessions_opened", "Sessions welcomed.")),
        of_handled(counter("sessions_opened", "Sessions welcomed.")),
        of_wamp2(counter("messages_received", "Protocol messages received from clients.")),
        of_center(counter("messages_received", "Protocol messages received from clients.")),
        of_echo(counter("messages_received", "Protocol messages received from clients.")),
        of_wamp1(counter("messages_received", "Protocol messages received from clients.")),
        of_handled(counter("messages_received", "Protocol messages received from clients.")),
        counter("protocol_violations", "Protocol violations, each of which ended a session."),
        counter(
            "message_panics",
            "Messages whose decoding panicked, each of which ended a session: a bug of ours.",
        ),
        counter("requests_refused", "Requests that the router answered with an error."),
        counter("publications", "Publications accepted by this shard, from its sessions and by API."),
        counter("publications_forwarded", "Publications that came from other shards."),
        counter("events_matched", "Publications times their subscribers here."),
        counter(
            "events_withheld",
            "Events that a prefix or wildcard matched and the subscriber's role may not have.",
        ),
        counter("events_delivered", "Events handed to sockets completely."),
        gauge("events_queued", "Events that are due and not handed over yet."),
        counter("replies", "Replies and other frames for one connection alone."),
        counter("calls", "Calls accepted."),
        gauge("calls_pending", "Calls without a final answer."),
        counter("invocations", "Invocations sent to callees."),
        counter("call_errors", "Calls that ended in an error."),
        counter("calls_rerouted", "Times that a call was given to another callee."),
        counter("interrupts", "Interrupts sent to callees."),
        counter("results_in_parts", "Parts of results sent to callers, less the last one of each."),
        counter("results_discarded", "Results and parts of them that nobody waits for."),
        counter("call_parts_discarded", "Parts of calls that came when the call had ended."),
        deflated(
            "deflated_frames",
            "for=\"all\"",
            "Frames compressed, once for all who get them or for one connection.",
        ),
        deflated(
            "deflated_frames",
            "for=\"one\"",
            "Frames compressed, once for all who get them or for one connection.",
        ),
        deflated(
            "deflated_bytes",
            "layer=\"payload\"",
            "Bytes of messages sent compressed, before and after.",
        ),
        deflated("deflated_bytes", "layer=\"wire\"", "Bytes of messages sent compressed, before and after."),
        gauge("outbox_bytes", "Bytes that wait for sockets that are full."),
        gauge("connections_blocked", "Connections whose socket is full."),
        counter("slow_consumers_cut", "Connections cut because they did not read."),
        counter("requests_parked", "Requests that had to wait for room."),
        counter("connections_held", "Times that a connection was not read until it read its answers."),
        counter("publishers_paused", "Times that publishers had to wait for a slow subscriber of a topic."),
        counter("gap_notices", "Notices of lost events, for sessions that asked for them."),
        gauge("subscriptions", "Subscriptions of this shard's sessions."),
        gauge("registrations", "Registrations of this shard's sessions."),
        counter(
            "subscriptions_withdrawn",
            "Subscriptions and registrations withdrawn because a reload took the permission for them away.",
        ),
        gauge("event_streams", "Event streams alive."),
        counter("retained", "Publications retained for later subscribers."),
        counter(
            "retained_delivered",
            "Retained events for subscribers that asked for them; part of the matched events.",
        ),
        counter("history_recorded", "Publications kept in the history of their topic."),
        Metric {
            labels: "reason=\"limits\"",
            ..counter(
                "history_dropped",
                "Publications that are in no history, or not as long as their rule says.",
            )
        },
        Metric {
            labels: "reason=\"too_large\"",
            ..counter(
                "history_dropped",
                "Publications that are in no history, or not as long as their rule says.",
            )
        },
        dropped("reason=\"slow_consumer_bytes\""),
        dropped("reason=\"slow_consumer_messages\""),
        dropped("reason=\"slow_consumer_age\""),
        dropped("reason=\"slow_consumer_pause\""),
        dropped("reason=\"drop_oldest\""),
        dropped("reason=\"drop_newest\""),
        dropped("reason=\"conflated\""),
        dropped("reason=\"memory\""),
        dropped("reason=\"connection_gone\""),
        dropped("reason=\"stream_overflow\""),
        dropped("reason=\"ring_full\""),
        dropped("reason=\"stream_congested\""),
        dropped("reason=\"publisher_gone\""),
        dropped("reason=\"untranslatable\""),
        dropped("reason=\"inner_outbox_full\""),
        dropped("reason=\"message_too_long\""),
        login("method=\"anonymous\",outcome=\"welcomed\""),
        login("method=\"anonymous\",outcome=\"denied\""),
        login("method=\"anonymous\",outcome=\"unavailable\""),
        login("method=\"anonymous\",outcome=\"abandoned\""),
        login("method=\"ticket\",outcome=\"welcomed\""),
        login("method=\"ticket\",outcome=\"denied\""),
        login("method=\"ticket\",outcome=\"unavailable\""),
        login("method=\"ticket\",outcome=\"abandoned\""),
        login("method=\"wampcra\",outcome=\"welcomed\""),
        login("method=\"wampcra\",outcome=\"denied\""),
        login("method=\"wampcra\",outcome=\"unavailable\""),
        login("method=\"wampcra\",outcome=\"abandoned\""),
        login("method=\"wamp-scram\",outcome=\"welcomed\""),
        login("method=\"wamp-scram\",outcome=\"denied\""),
        login("method=\"wamp-scram\",outcome=\"unavailable\""),
        login("method=\"wamp-scram\",outcome=\"abandoned\""),
        login("method=\"scram\",outcome=\"welcomed\""),
        login("method=\"scram\",outcome=\"denied\""),
        login("method=\"scram\",outcome=\"unavailable\""),
        login("method=\"scram\",outcome=\"abandoned\""),
        login("method=\"cryptosign\",outcome=\"welcomed\""),
        login("method=\"cryptosign\",outcome=\"denied\""),
        login("method=\"cryptosign\",outcome=\"unavailable\""),
        login("method=\"cryptosign\",outcome=\"abandoned\""),
        login("method=\"cookie\",outcome=\"welcomed\""),
        login("method=\"cookie\",outcome=\"denied\""),
        login("method=\"cookie\",outcome=\"unavailable\""),
        login("method=\"cookie\",outcome=\"abandoned\""),
        login("method=\"none\",outcome=\"refused\""),
        center_error("code=\"1\",reason=\"not_auth\""),
        center_error("code=\"2\",reason=\"invalid_json\""),
        center_error("code=\"3\",reason=\"unknown_op\""),
        center_error("code=\"4\",reason=\"invalid_channel\""),
        center_error("code=\"5\",reason=\"auth_failed\""),
        center_error("code=\"6\",reason=\"auth_unavailable\""),
        center_error("code=\"7\",reason=\"limit_exceeded\""),
        center_error("code=\"8\",reason=\"permission_denied\""),
        center_error("code=\"9\",reason=\"text_only\""),
        not_retained("reason=\"realm_events\""),
        not_retained("reason=\"realm_bytes\""),
        not_retained("reason=\"bytes\""),
    ];
    metrics
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_labelled_with_their_reason_in_the_cores_order() {
        for (metric, reason) in METRICS[PLAIN..].iter().zip(DropReason::ALL) {
            assert_eq!(metric.labels, format!("reason=\"{}\"", reason.as_str()));
        }
    }

    #[test]
    fn logins_are_labelled_with_their_outcome_in_the_cores_order() {
        let metrics = &METRICS[PLAIN + DropReason::ALL.len()..];
        for (metric, outcome) in metrics.iter().zip(LoginOutcome::ALL) {
            let (method, outcome) = outcome.labels();
            assert_eq!(metric.labels, format!("method=\"{method}\",outcome=\"{outcome}\""));
        }
    }

    #[test]
    fn errors_of_the_message_center_are_labelled_in_the_order_of_their_numbers() {
        let metrics = &METRICS[PLAIN + DropReason::ALL.len() + LoginOutcome::ALL.len()..];
        for (metric, code) in metrics.iter().zip(ErrorCode::ALL) {
            assert!(metric.labels.starts_with(&format!("code=\"{}\"", code.number())));
        }
        let metrics = &metrics[ErrorCode::ALL.len()..];
        assert_eq!(metrics.len(), RetentionFull::ALL.len());
        for (metric, full) in metrics.iter().zip(RetentionFull::ALL) {
            assert_eq!(metric.labels, format!("reason=\"{}\"", full.as_str()));
        }
    }
}
