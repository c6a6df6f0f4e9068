//! Receiving: from the socket to a request head or to messages, and what follows from them.
//!
//! All bytes go through the shard's scratch buffer and are unmasked, parsed and routed there; a connection owns a buffer
//! only while its request head is incomplete, a message is (that one is the codec's), or it was paused in the middle of
//! what had been received. Large messages are received straight into their place.
//!
//! Decoding is guarded: a panic in it ends that connection with 1011 and is counted. The service is not guarded.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fanwire_codec::http::{HeadScanner, HttpError, RequestHead, parse_request};
use fanwire_codec::ws::handshake::{Upgrade, write_accept_with};
use fanwire_codec::ws::{Control, DirectRoom, Kind, Limits, Received, write_control};
use fanwire_core::directory::Cookie;
use fanwire_core::{Instant, Outlet};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recv, recvmsg};

use super::Shard;
use super::talk::{Done, Outcome, SAID_BYTES_AT_ONCE, Talk};
use super::throttle::Throttle;
use crate::config::EndpointId;
use crate::handover::{HandedOver, is_for_control, peer};
use crate::pressure::Level;
use crate::request::{Refusal, RefusalReason, longpoll_path, route};
use crate::service::{Flow, Service};
use crate::slots::{BatchRest, CloseReason, Cold, Hot, Stage, flag};
use crate::transport::Input;

impl<S: Service> Shard<S> {
    /// Receives within the turn's budget from the connections that have something, round-robin.
    pub(super) fn receive(&mut self) {
        let mut receives = self.config.turn.receives;
        let mut bytes = self.config.turn.receive_bytes;
        while receives > 0
            && bytes > 0
            && let Some(slot) = self.ready.pop()
        {
            // A stale entry of an earlier connection in this slot, or one that was served meanwhile.
            if !self.slots.hot[slot as usize].take(flag::READY) {
                continue;
            }
            receives -= 1;
            let inflated = self.pool.inflated().bytes_out;
            bytes = bytes.saturating_sub(self.receive_from(slot));
            bytes = bytes.saturating_sub((self.pool.inflated().bytes_out - inflated) as usize);
        }
    }

    /// One receive, or what was left over by a pause. Returns how many bytes that were.
    pub(super) fn receive_from(&mut self, slot: u32) -> usize {
        let hot = &mut self.slots.hot[slot as usize];
        if matches!(hot.stage, Stage::Free | Stage::Dead) {
            return 0;
        }
        if hot.has(flag::PAUSED) {
            hot.set(flag::UNREAD);
            return 0;
        }
        if self.is_throttled(slot) {
            return 0;
        }
        let hot = &mut self.slots.hot[slot as usize];
        if hot.has(flag::UPGRADED)
            && !hot.has(flag::DISCARD)
            && let Some(extra) = &mut self.slots.cold[slot as usize].extra
            && extra.is_waiting()
        {
            if self.service.said_bytes(Outlet(slot)) >= SAID_BYTES_AT_ONCE {
                // In the next turn: this one's flush comes first.
                self.make_ready(slot);
                return 0;
            }
            let cost = match extra.batch.take() {
                Some(batch) => self.rest_of_batch(slot, batch),
                None => {
                    let mut carry = std::mem::take(&mut extra.carry);
                    self.frames(slot, &mut carry);
                    carry.len()
                }
            };
            // The socket has its turn after the others'.
            self.make_ready(slot);
            return cost;
        }
        if hot.stage == Stage::Http && self.http_goes_on(slot) {
            return HTTP_REQUESTS_COST;
        }
        let hot = &self.slots.hot[slot as usize];
        if hot.has(flag::TLS) {
            return self.receive_tls(slot);
        }
        if self.is_to_be_sniffed(slot)
            && let Some(cost) = self.sniff(slot)
        {
            return cost;
        }
        let hot = &self.slots.hot[slot as usize];
        let Some(socket) = &hot.socket else { return self.take_send(slot) };
        let input = &mut self.slots.cold[slot as usize].input;
        let direct = if hot.stage == Stage::Open { input.direct_room() } else { None };
        self.links.counters.receives.add(1);
        let mut into = Into { direct: 0, all: self.scratch.len() };
        let received = match direct {
            Some(room) => {
                let (bytes, behind) = shares(room, &mut self.scratch, self.config.turn.receive_bytes);
                into = Into { direct: bytes.len(), all: bytes.len() + behind.len() };
                receive_in_two(socket, bytes, behind)
            }
            None => recv(socket, &mut self.scratch[..], RecvFlags::DONTWAIT).map(|(count, _)| count),
        };
        let Some(count) = self.came(slot, received) else { return 0 };
        let direct = count.min(into.direct);
        if direct > 0 {
            self.frames_direct(slot, direct);
        }
        if count > direct {
            let mut scratch = std::mem::take(&mut self.scratch);
            self.input(slot, &mut scratch[..count - direct]);
            self.scratch = scratch;
        }
        // A short receive means that the socket is empty, and the next byte will be an edge; but after a hang-up the
        // edge has been, and only a receive of nothing, or an error, is the end.
        if count == into.all || self.slots.hot[slot as usize].has(flag::HANGUP) {
            self.make_ready(slot);
        }
        count
    }

    /// What a receive brought, if that is anything to look at.
    pub(super) fn came(&mut self, slot: u32, received: Result<usize, Errno>) -> Option<usize> {
        match received {
            Ok(0) => self.end_of_input(slot),
            Ok(count) => {
                self.links.counters.received_bytes.add(count as u64);
                if let Some(throttle) = &mut self.throttle {
                    throttle.take_bytes(slot, self.now, count as u64);
                }
                self.slots.hot[slot as usize].heard_at = self.now;
                return Some(count);
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR) => self.make_ready(slot),
            Err(_) => self.lose(slot, CloseReason::Lost),
        }
        None
    }

    /// The peer will send nothing more.
    pub(super) fn end_of_input(&mut self, slot: u32) {
        let hot = &mut self.slots.hot[slot as usize];
        hot.set(flag::ENDED | flag::DISCARD);
        match hot.stage {
            Stage::Free | Stage::Dead => {}
            // Who waits for an answer reads it, as long as it may ask further.
            Stage::Head | Stage::Http | Stage::Lingering => {
                self.because(slot, CloseReason::Peer);
                self.bury_later(slot);
            }
            // It may still read: what is due goes out first, within the time of a close.
            Stage::Open => self.close(slot, 1000, "", CloseReason::Lost),
            Stage::Closing => {}
        }
    }

    pub(super) fn input(&mut self, slot: u32, input: &mut [u8]) {
        let hot = &self.slots.hot[slot as usize];
        if hot.has(flag::DISCARD) {
            return;
        }
        if hot.stage == Stage::Http {
            return self.http_input(slot, input);
        }
        // The large frame before these bytes has paused the connection, or is a batch that is not worked off.
        let extra = &mut self.slots.cold[slot as usize].extra;
        if hot.has(flag::PAUSED) || extra.as_ref().is_some_and(|extra| extra.batch.is_some()) {
            extra.get_or_insert_default().carry.extend_from_slice(input);
            return;
        }
        match hot.stage {
            Stage::Head => self.head(slot, input),
            Stage::Open | Stage::Closing | Stage::Lingering => self.frames(slot, input),
            Stage::Free | Stage::Dead | Stage::Http => {}
        }
    }

    // --- the request head --------------------------------------------------------------------------------------

    fn head(&mut self, slot: u32, input: &mut [u8]) {
        if self.begins_raw(slot, input) {
            let used = self.raw_handshake(slot, input);
            return self.input_after_head(slot, &mut input[used..]);
        }
        let limits = self.config.head;
        let listener = &self.config.listeners[usize::from(self.slots.hot[slot as usize].listener)];
        let cold = &mut self.slots.cold[slot as usize];
        match &mut cold.extra {
            None if is_for_control(listener, input) => self.hand_over(slot, input.to_vec()),
            // The usual case: the whole head in one receive.
            None => {
                let mut scanner = HeadScanner::new();
                match guarded(|| scanner.find_end(input, &limits)) {
                    Ok(Ok(Some(end))) => {
                        let (head, rest) = input.split_at_mut(end);
                        self.answer(slot, head);
                        self.input_after_head(slot, rest);
                    }
                    Ok(Ok(None)) => {
                        let extra = cold.extra.insert(Box::default());
                        extra.carry = input.to_vec();
                        extra.head = scanner;
                    }
                    Ok(Err(error)) => self.refuse_request(slot, &error, RefusalReason::BadRequest),
                    Err(Panicked) => self.decoder_panicked(slot),
                }
            }
            Some(extra) => {
                extra.carry.extend_from_slice(input);
                if is_for_control(listener, &extra.carry) {
                    let read = std::mem::take(&mut extra.carry);
                    return self.hand_over(slot, read);
                }
                let (carry, scanner) = (&extra.carry, &mut extra.head);
                match guarded(|| scanner.find_end(carry, &limits)) {
                    Ok(Ok(Some(end))) => {
                        let mut carry = std::mem::take(&mut extra.carry);
                        cold.extra = None;
                        let (head, rest) = carry.split_at_mut(end);
                        self.answer(slot, head);
                        self.input_after_head(slot, rest);
                    }
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => self.refuse_request(slot, &error, RefusalReason::BadRequest),
                    Err(Panicked) => self.decoder_panicked(slot),
                }
            }
        }
    }

    /// Bytes right behind the head: frames of a hasty client, or a body. Never another request, but where several are served.
    fn input_after_head(&mut self, slot: u32, rest: &mut [u8]) {
        let stage = self.slots.hot[slot as usize].stage;
        if !rest.is_empty() && matches!(stage, Stage::Open | Stage::Closing | Stage::Http) {
            self.input(slot, rest);
        }
    }

    /// Upgrades the connection, or refuses its request.
    fn answer(&mut self, slot: u32, head: &[u8]) {
        let config = self.config.clone();
        let listener = &config.listeners[usize::from(self.slots.hot[slot as usize].listener)];
        let routed = guarded(|| {
            let request: RequestHead<'_> = parse_request(head, &config.head)
                .map_err(|error| Refusal { error, reason: RefusalReason::BadRequest })?;
            let is_polled = longpoll_path(listener, request.path()).is_some();
            if is_polled { Ok(None) } else { route(listener, &request).map(Some) }
        });
        match routed {
            Ok(Ok(None)) => self.begin_http(slot, head),
            Ok(Ok(Some(_))) if self.memory.level() >= Level::Refuse => {
                let error = self.memory_refusal();
                self.refuse_request(slot, &error, RefusalReason::Memory);
            }
            Ok(Ok(Some((endpoint, mut upgrade)))) => match self.service.negotiate(endpoint, &mut upgrade) {
                Ok(subprotocol) => self.upgrade(slot, endpoint, &upgrade, subprotocol),
                Err(error) => {
                    let reason =
                        if error.status() == 404 { RefusalReason::Path } else { RefusalReason::Subprotocol };
                    self.refuse_request(slot, &error, reason);
                }
            },
            Ok(Err(refusal)) => self.refuse_request(slot, &refusal.error, refusal.reason),
            Err(Panicked) => self.decoder_panicked(slot),
        }
    }

    fn upgrade(
        &mut self,
        slot: u32,
        endpoint: EndpointId,
        upgrade: &Upgrade<'_>,
        subprotocol: Option<&'static str>,
    ) {
        let outlet = Outlet(slot);
        self.frame.clear();
        let cookie = self.cookie(slot, upgrade, subprotocol);
        let set = cookie.as_ref().and_then(|(_, set)| set.as_deref());
        write_accept_with(&mut self.frame, upgrade, subprotocol, set);
        self.service.push(self.now, outlet, &self.frame);
        let hot = &mut self.slots.hot[slot as usize];
        hot.stage = Stage::Open;
        hot.set(flag::UPGRADED);
        self.enter_open_deadlines(slot);
        if let Input::WebSocket { batches, .. } = &mut self.slots.cold[slot as usize].input {
            *batches = self.service.batches(subprotocol);
        }
        self.service.open(self.now, outlet, endpoint, subprotocol);
        self.bind_channel(slot);
        if let Some((cookie, _)) = cookie {
            self.service.bind_cookie(outlet, cookie);
        }
        if let Some(agreement) = upgrade.deflate_agreement() {
            let input = &mut self.slots.cold[slot as usize].input;
            input.use_compression(&agreement);
            input.hold_compressed(!self.service.compressed_before_established());
            self.service.use_compression(self.now, outlet, &agreement);
        }
        let socket = self.slots.hot[slot as usize].socket.as_ref();
        let peer_of = || socket.and_then(peer);
        match self.service.enter(self.now, outlet, endpoint, upgrade, &peer_of) {
            Flow::Continue => {}
            Flow::Pause => self.slots.hot[slot as usize].set(flag::PAUSED),
            Flow::Closing => self.begin_closing(slot, CloseReason::Service),
        }
    }

    /// The client's cookie, and what sets it, where the listener has a rule for it.
    fn cookie(
        &mut self,
        slot: u32,
        upgrade: &Upgrade<'_>,
        subprotocol: Option<&'static str>,
    ) -> Option<(Cookie, Option<String>)> {
        let hot = &self.slots.hot[slot as usize];
        let listener = &self.config.listeners[usize::from(hot.listener)];
        let case = listener.cookie.as_ref()?.over(hot.has(flag::TLS));
        if !case.allows(&listener.origins, upgrade) {
            return None;
        }
        self.service.choose_cookie(self.now, subprotocol, case, upgrade)
    }

    /// Gives the connection to the control thread, with what was received of it.
    fn hand_over(&mut self, slot: u32, read: Vec<u8>) {
        let hot = &mut self.slots.hot[slot as usize];
        if hot.has(flag::TLS) {
            let words = "this is not served over TLS; use a listener without";
            return self.refuse_request(slot, &HttpError::new(421, words), RefusalReason::BadRequest);
        }
        let listener = usize::from(hot.listener);
        let Some(stream) = hot.socket.take() else { return };
        // First: once somebody else has it, its number may be another connection's. It fails only if it is not in the set.
        let _ = epoll::delete(&self.epoll, &stream);
        let peer = peer(&stream);
        let connection = HandedOver { stream, read, peer, shard: self.id, listener };
        let Err(connection) = self.service.hand_over(connection) else {
            self.because(slot, CloseReason::HandedOver);
            return self.bury_later(slot);
        };
        let watched = self.watch(slot, &connection.stream);
        self.slots.hot[slot as usize].socket = Some(connection.stream);
        if watched.is_err() {
            // No memory for that: then nobody would learn whether the answer is written.
            return self.lose(slot, CloseReason::Lost);
        }
        let words = "the router has no room for another request of this kind now; try again in a second";
        let error = HttpError::new(503, words).with_headers(&[("Retry-After", "1")]);
        self.refuse_request(slot, &error, RefusalReason::ControlBusy);
    }

    pub(super) fn refuse_request(&mut self, slot: u32, error: &HttpError, reason: RefusalReason) {
        let counters = &self.links.counters;
        let counter = match reason {
            RefusalReason::BadRequest => &counters.rejected_request,
            RefusalReason::Origin => &counters.rejected_origin,
            RefusalReason::Path => &counters.rejected_path,
            RefusalReason::Upgrade => &counters.rejected_upgrade,
            RefusalReason::Subprotocol => &counters.rejected_subprotocol,
            RefusalReason::ControlBusy => &counters.rejected_control,
            RefusalReason::Memory => &counters.rejected_memory,
        };
        counter.add(1);
        self.refuse(slot, error, CloseReason::Refused);
    }

    // --- frames ------------------------------------------------------------------------------------------------

    /// Input of a WebSocket or RawSocket, all of it in `input`.
    fn frames(&mut self, slot: u32, input: &mut [u8]) {
        let Self { config, service, slots, pool, frame, links, now, throttle, .. } = self;
        let messages_left = messages_left(throttle.as_deref(), slot, *now);
        let cold = &mut slots.cold[slot as usize];
        let hot = &mut slots.hot[slot as usize];
        let limits = limits(config, hot, || service.login_bytes_max(Outlet(slot)));
        let mut talk = Talk::new(*now, Outlet(slot), service, hot, frame, &cold.input, messages_left);
        let mut at = 0;
        let inflated = pool.inflated().bytes_out;
        let outcome = loop {
            // Decoding is all that the guard covers.
            let step = guarded(|| cold.input.receive(&mut input[at..], &limits, pool));
            match step {
                Ok(Ok((consumed, received))) => {
                    at += consumed;
                    match received {
                        None => break Outcome::Consumed,
                        Some(received) => {
                            if let Some(outcome) = talk.hear(received).ends(at) {
                                break outcome;
                            }
                        }
                    }
                }
                Ok(Err(error)) => break Outcome::Violated(error),
                Err(Panicked) => break Outcome::Panicked,
            }
            if at == input.len() {
                break Outcome::Consumed;
            }
            // A few bytes may have become a megabyte each time: the others have their turn between two of those.
            if (pool.inflated().bytes_out - inflated) as usize >= config.turn.receive_bytes
                || talk.is_enough()
            {
                break Outcome::Enough(at);
            }
        };
        let mut done = talk.done(&links.counters);
        keep_batch(cold, &mut done);
        if let Outcome::Paused(at) | Outcome::Enough(at) = outcome
            && at < input.len()
        {
            cold.extra.get_or_insert_default().carry.extend_from_slice(&input[at..]);
        }
        self.after_frames(slot, done, outcome);
    }

    /// `count` bytes were received straight into the incomplete message.
    fn frames_direct(&mut self, slot: u32, count: usize) {
        let Self { service, slots, frame, links, now, throttle, .. } = self;
        let cold = &mut slots.cold[slot as usize];
        let hot = &mut slots.hot[slot as usize];
        let messages_left = messages_left(throttle.as_deref(), slot, *now);
        let mut talk = Talk::new(*now, Outlet(slot), service, hot, frame, &cold.input, messages_left);
        let outcome = match guarded(|| cold.input.direct_filled(count)) {
            Ok(Ok(None)) => Outcome::Consumed,
            Ok(Ok(Some(received))) => talk.hear(received).ends(count).unwrap_or(Outcome::Consumed),
            Ok(Err(error)) => Outcome::Violated(error),
            Err(Panicked) => Outcome::Panicked,
        };
        let mut done = talk.done(&links.counters);
        keep_batch(cold, &mut done);
        self.after_frames(slot, done, outcome);
    }

    /// A message or batch that did not come in frames.
    pub(super) fn body(&mut self, slot: u32, kind: Kind, payload: &mut [u8]) {
        let Self { service, slots, frame, links, now, throttle, .. } = self;
        let cold = &mut slots.cold[slot as usize];
        let hot = &mut slots.hot[slot as usize];
        let messages_left = messages_left(throttle.as_deref(), slot, *now);
        let mut talk = Talk::new(*now, Outlet(slot), service, hot, frame, &cold.input, messages_left);
        let at = payload.len();
        let outcome = talk.hear(Received::Message { kind, payload }).ends(at).unwrap_or(Outcome::Consumed);
        let mut done = talk.done(&links.counters);
        keep_batch(cold, &mut done);
        self.after_frames(slot, done, outcome);
    }

    /// Works off another piece of a batch. Returns what it cost, in bytes.
    fn rest_of_batch(&mut self, slot: u32, mut batch: BatchRest) -> usize {
        let Self { service, slots, frame, links, now, throttle, .. } = self;
        let cold = &mut slots.cold[slot as usize];
        let hot = &mut slots.hot[slot as usize];
        // Nothing of it would be handled any more.
        if hot.stage != Stage::Open {
            return 0;
        }
        let messages_left = messages_left(throttle.as_deref(), slot, *now);
        let mut talk = Talk::new(*now, Outlet(slot), service, hot, frame, &cold.input, messages_left);
        let (heard, rest_bytes) = talk.hear_piece(batch.kind, &mut batch.bytes[batch.at..]);
        let handled = batch.bytes.len() - batch.at - rest_bytes;
        let outcome = heard.ends(handled).unwrap_or(Outcome::Consumed);
        let done = talk.done(&links.counters);
        let cost = handled.max(done.messages as usize * BATCHED_MESSAGE_COST);
        if rest_bytes > 0 {
            batch.at += handled;
            cold.extra.get_or_insert_default().batch = Some(batch);
        }
        self.after_frames(slot, done, outcome);
        cost
    }

    fn after_frames(&mut self, slot: u32, done: Done, outcome: Outcome) {
        if let Some(throttle) = &mut self.throttle {
            throttle.take_messages(slot, self.now, done.heard());
        }
        let cold = &mut self.slots.cold[slot as usize];
        if matches!(outcome, Outcome::Panicked) {
            cold.input.forget();
        }
        cold.input.recycle(&mut self.pool);
        self.watch_message(slot, done.messages > 0);
        if let Some(payload) = done.pong_kept {
            self.slots.cold[slot as usize].extra.get_or_insert_default().pong = Some(payload);
        }
        if done.service_closed {
            self.begin_closing(slot, CloseReason::Service);
        }
        match outcome {
            Outcome::Consumed => {}
            Outcome::Paused(_) => self.slots.hot[slot as usize].set(flag::PAUSED),
            Outcome::Enough(_) => self.make_ready(slot),
            Outcome::PeerCloses(code) => {
                self.slots.hot[slot as usize].set(flag::PEER_CLOSED);
                self.close(slot, code, "", CloseReason::Peer);
            }
            Outcome::PeerAnswers => {
                let hot = &mut self.slots.hot[slot as usize];
                hot.set(flag::PEER_CLOSED);
                if hot.has(flag::FINISHED) {
                    self.half_close(slot);
                }
            }
            Outcome::Violated(error) => {
                let open = self.slots.hot[slot as usize].stage == Stage::Open;
                self.slots.hot[slot as usize].set(flag::DISCARD);
                if open {
                    let words = error.to_string();
                    self.service.violate(self.now, Outlet(slot), error.close_code(), &words);
                    self.begin_closing(slot, CloseReason::ProtocolError);
                } else if self.slots.hot[slot as usize].has(flag::FINISHED) {
                    // We closed first and the answer is garbage: enough.
                    self.half_close(slot);
                }
            }
            Outcome::Panicked => self.decoder_panicked(slot),
        }
    }

    /// Keeps the deadline of the message that is incomplete now, if one is.
    fn watch_message(&mut self, slot: u32, completed_one: bool) {
        let cold = &mut self.slots.cold[slot as usize];
        let hot = &mut self.slots.hot[slot as usize];
        if !cold.input.is_mid_message() {
            hot.clear(flag::MID_MESSAGE);
        } else if completed_one || !hot.has(flag::MID_MESSAGE) {
            hot.set(flag::MID_MESSAGE);
            cold.message_at = self.now + self.config.deadlines.message;
            if hot.stage == Stage::Open {
                self.wheel.enter(self.now, slot, cold.message_at);
            }
        }
    }

    /// Our bug: this connection's input made the decoder panic.
    pub(super) fn decoder_panicked(&mut self, slot: u32) {
        self.links.counters.decoder_panics.add(1);
        let outlet = Outlet(slot);
        let hot = &mut self.slots.hot[slot as usize];
        hot.set(flag::DISCARD);
        match hot.stage {
            Stage::Head | Stage::Http => {
                let error = HttpError::new(500, "this request met a bug in the server; it has been counted");
                self.refuse(slot, &error, CloseReason::Panic);
            }
            Stage::Open => {
                self.service.close(self.now, outlet, 1011, "this message met a bug in the server");
                self.begin_closing(slot, CloseReason::Panic);
            }
            _ => self.lose(slot, CloseReason::Panic),
        }
    }

    /// Answers the latest of the pings that came while the socket took nothing.
    pub(super) fn pong_when_writable(&mut self, slot: u32) {
        let Some(extra) = &mut self.slots.cold[slot as usize].extra else { return };
        if let Some(payload) = extra.pong.take()
            && self.slots.hot[slot as usize].stage == Stage::Open
        {
            self.frame.clear();
            write_control(&mut self.frame, Control::Pong, &payload);
            self.service.push(self.now, Outlet(slot), &self.frame);
        }
    }
}

/// Keeps what is left of a batch. It is worked off before what came behind it.
fn keep_batch(cold: &mut Cold, done: &mut Done) {
    if let Some(batch) = done.batch_rest.take() {
        cold.extra.get_or_insert_default().batch = Some(batch);
    }
}

/// How many bytes a receive may bring straight into an incomplete message, and in all.
struct Into {
    direct: usize,
    all: usize,
}

/// Where one receive goes that begins in `room`: not more there than a turn takes, and behind it the front of `scratch`.
fn shares<'a>(room: DirectRoom<'a>, scratch: &'a mut [u8], bytes_max: usize) -> (&'a mut [u8], &'a mut [u8]) {
    let whole = room.bytes.len();
    let share = whole.min(bytes_max);
    let behind = if share == whole { room.behind_bytes_max.min(scratch.len()) } else { 0 };
    (&mut room.bytes[..share], &mut scratch[..behind])
}

/// One receive into two buffers, the second when the first is full.
fn receive_in_two(socket: &OwnedFd, first: &mut [u8], second: &mut [u8]) -> Result<usize, Errno> {
    if second.is_empty() {
        return recv(socket, first, RecvFlags::DONTWAIT).map(|(count, _)| count);
    }
    let mut parts = [IoSliceMut::new(first), IoSliceMut::new(second)];
    let received = recvmsg(socket, &mut parts, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT)?;
    Ok(received.bytes)
}

/// The message limit that holds for the connection now. `login` is what its protocol needs for a login.
pub(super) fn limits(config: &crate::config::Config, hot: &Hot, login: impl FnOnce() -> usize) -> Limits {
    let message_bytes_max = if hot.has(flag::ESTABLISHED) {
        config.message_bytes_max
    } else {
        config.message_bytes_max_before_login.max(login() as u64).min(config.message_bytes_max)
    };
    Limits { message_bytes_max }
}

/// How many messages the connection may still send now.
fn messages_left(throttle: Option<&Throttle>, slot: u32, now: Instant) -> u64 {
    throttle.map_or(u64::MAX, |throttle| throttle.messages_left(slot, now))
}

/// The decoder panicked.
pub(super) struct Panicked;

/// Runs a piece of decoding; a panic in it is the end of one connection only. What the closure touches belongs to that
/// connection, which is thrown away then, or is a pool that only gives and takes buffers.
pub(super) fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, Panicked> {
    #[cfg(test)]
    let decode = || {
        assert!(!super::tests::BUG.swap(false, std::sync::atomic::Ordering::SeqCst), "a planted bug");
        decode()
    };
    catch_unwind(AssertUnwindSafe(decode)).map_err(|_| Panicked)
}

/// What a message of a batch takes at least of a turn's bytes: the shortest have a dozen, and answers of a hundred.
const BATCHED_MESSAGE_COST: usize = 64;

/// What a few requests that came together count in a turn's budget of received bytes.
const HTTP_REQUESTS_COST: usize = 4 << 10;
