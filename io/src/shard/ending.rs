//! How connections end: politely, after their last words are written and the peer has closed too, or at once.

use std::time::Duration;

use fanwire_core::Outlet;
use rustix::net::Shutdown;

use super::Shard;
use crate::counters::Count;
use crate::counters::ShardCounters;
use crate::service::{Effect, Service};
use crate::slots::{CloseReason, Stage, flag};
use crate::socket;

impl<S: Service> Shard<S> {
    /// Does what the service asks for. True = something was done that another turn has to look at.
    pub(super) fn act_on_effects(&mut self) -> bool {
        let mut acted = false;
        loop {
            let mut effects = std::mem::take(&mut self.effects);
            self.service.effects(&mut effects);
            if effects.is_empty() {
                self.effects = effects;
                return acted;
            }
            acted = true;
            for effect in effects.drain(..) {
                match effect {
                    Effect::Resume(outlet) => self.resume(outlet.0),
                    Effect::Established(outlet) => {
                        self.slots.hot[outlet.index()].set(flag::ESTABLISHED);
                        self.slots.cold[outlet.index()].input.hold_compressed(false);
                        self.ready.set_group(outlet.0, self.service.group(outlet));
                        self.look_later(outlet.0);
                    }
                    Effect::Dismissed(outlet) => self.await_goodbye(outlet.0, CloseReason::Service),
                    Effect::Finished(outlet) => self.finished(outlet.0),
                    Effect::Abort(outlet, _) => self.lose(outlet.0, CloseReason::Aborted),
                }
            }
            self.effects = effects;
        }
    }

    fn resume(&mut self, slot: u32) {
        let hot = &mut self.slots.hot[slot as usize];
        if hot.take(flag::PAUSED) && !matches!(hot.stage, Stage::Free | Stage::Dead) {
            hot.clear(flag::UNREAD);
            // Whether or not something is there: what came behind the pause, and a socket not read until empty.
            self.make_ready(slot);
        }
    }

    /// The peer was told goodbye in its own protocol: it may answer within a time.
    pub(super) fn await_goodbye(&mut self, slot: u32, why: CloseReason) {
        if self.slots.hot[slot as usize].stage != Stage::Open {
            return;
        }
        self.because(slot, why);
        let answer_by = self.now + self.config.deadlines.close.min(GOODBYE_WAIT);
        self.slots.hot[slot as usize].set(flag::LEAVING);
        self.slots.cold[slot as usize].stage_at = answer_by;
        self.wheel.enter(self.now, slot, answer_by);
    }

    /// The first reason is the one that counts.
    pub(super) fn because(&mut self, slot: u32, why: CloseReason) {
        let cold = &mut self.slots.cold[slot as usize];
        if cold.why == CloseReason::None {
            cold.why = why;
        }
    }

    /// Our last words are with the service: from now on the connection only waits for them to be written.
    pub(super) fn begin_closing(&mut self, slot: u32, why: CloseReason) {
        self.because(slot, why);
        let hot = &mut self.slots.hot[slot as usize];
        if hot.stage == Stage::Dead {
            return;
        }
        hot.stage = Stage::Closing;
        // Nobody will say "resume" to a connection that is closing, and its input is thrown away.
        if hot.take(flag::PAUSED) {
            self.make_ready(slot);
        }
        self.await_close(slot);
    }

    fn await_close(&mut self, slot: u32) {
        let close = self.config.deadlines.close;
        let wait = match self.slots.cold[slot as usize].why {
            // The words go out if the peer lives after all; a dead one is not waited for much longer.
            CloseReason::PongTimeout => close.min(AFTER_PONG_TIMEOUT),
            _ => close,
        };
        let deadline = self.now + wait;
        self.slots.cold[slot as usize].stage_at = deadline;
        self.wheel.enter(self.now, slot, deadline);
    }

    /// Everything was written and nothing follows.
    pub(super) fn finished(&mut self, slot: u32) {
        let hot = &self.slots.hot[slot as usize];
        match hot.stage {
            Stage::Free | Stage::Dead | Stage::Lingering => return,
            Stage::Head | Stage::Http | Stage::Open | Stage::Closing => {}
        }
        if self.finishes_later(slot) {
            return;
        }
        let hot = &mut self.slots.hot[slot as usize];
        if hot.socket.is_none() {
            self.because(slot, CloseReason::Service);
            if !self.finishes_by_poll(slot) {
                self.bury_later(slot);
            }
            return;
        }
        hot.set(flag::FINISHED);
        hot.stage = Stage::Lingering;
        if hot.take(flag::PAUSED) {
            self.make_ready(slot);
        }
        self.because(slot, CloseReason::Service);
        let hot = &self.slots.hot[slot as usize];
        if hot.has(flag::ENDED) {
            self.say_closed(slot);
            self.bury_later(slot);
            return;
        }
        self.await_close(slot);
        // RFC 6455, 7.1.1: who sent the first close frame waits for the other's before it closes the connection.
        let hot = &self.slots.hot[slot as usize];
        let is_raw = self.slots.cold[slot as usize].input.is_raw();
        let awaits_close_frame =
            hot.has(flag::UPGRADED) && !is_raw && !hot.has(flag::PEER_CLOSED | flag::DISCARD);
        if !awaits_close_frame {
            self.half_close(slot);
        }
    }

    /// Nothing more will be written; the peer should close now. Closing the socket at once would answer what it still
    /// sends with a reset, which may destroy our last words on their way.
    pub(super) fn half_close(&mut self, slot: u32) {
        self.say_closed(slot);
        let hot = &mut self.slots.hot[slot as usize];
        hot.set(flag::DISCARD);
        if let Some(socket) = &hot.socket {
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
        }
    }

    /// The socket is dead, or has to be now.
    pub(super) fn lose(&mut self, slot: u32, why: CloseReason) {
        let hot = &self.slots.hot[slot as usize];
        if matches!(hot.stage, Stage::Free | Stage::Dead) {
            return;
        }
        self.because(slot, why);
        // What is unsent is thrown away here and in the kernel, and the peer learns it at once.
        let hot = &self.slots.hot[slot as usize];
        if !hot.has(flag::ENDED)
            && let Some(socket) = &hot.socket
        {
            socket::cut(socket);
        }
        self.bury_later(slot);
    }

    /// The connection is over on both sides, or cut.
    pub(super) fn bury_later(&mut self, slot: u32) {
        let hot = &mut self.slots.hot[slot as usize];
        hot.stage = Stage::Dead;
        self.dying.push(slot);
        if !hot.has(flag::TOLD) {
            hot.set(flag::TOLD);
            self.service.peer_closed(self.now, Outlet(slot));
        }
        if !self.polls.is_empty() {
            self.forget_poll(slot);
        }
    }

    /// Frees the slots and descriptors of the turn's dead: not earlier, because an event of this turn's batch may name
    /// them. True = there were some.
    pub(super) fn bury(&mut self) -> bool {
        if self.dying.is_empty() {
            return false;
        }
        let mut dying = std::mem::take(&mut self.dying);
        for slot in dying.drain(..) {
            let cold = &mut self.slots.cold[slot as usize];
            if cold.input.is_raw() {
                let open = &self.links.counters.rawsocket_connections;
                open.set(open.get() - 1);
            }
            cold.input.discard(&mut self.pool);
            // What had no socket is no connection, unless it was given away.
            if self.slots.hot[slot as usize].socket.is_some() || cold.why == CloseReason::HandedOver {
                counter(&self.links.counters, cold.why).add(1);
            }
            self.wheel.cancel(slot);
            self.forget_tls(slot);
            self.service.release(self.now, Outlet(slot));
            self.slots.remove(slot);
            self.links.spread.loads.release(usize::from(self.id.get()));
            if !self.addresses.is_empty() {
                let address = self.addresses.remove(&slot);
                self.forget_address(address);
            }
        }
        self.dying = dying;
        true
    }
}

/// How long a session may take to answer a goodbye before its WebSocket is closed.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);
const AFTER_PONG_TIMEOUT: Duration = Duration::from_secs(1);

fn counter(counters: &ShardCounters, why: CloseReason) -> &Count {
    match why {
        CloseReason::Peer => &counters.closed_by_peer,
        CloseReason::None | CloseReason::Lost => &counters.closed_lost,
        CloseReason::Service => &counters.closed_by_service,
        CloseReason::ProtocolError => &counters.closed_protocol_error,
        CloseReason::HandshakeTimeout => &counters.closed_handshake_timeout,
        CloseReason::LoginTimeout => &counters.closed_login_timeout,
        CloseReason::MessageTimeout => &counters.closed_message_timeout,
        CloseReason::PongTimeout => &counters.closed_pong_timeout,
        CloseReason::Aborted => &counters.closed_aborted,
        CloseReason::Refused => &counters.closed_refused,
        CloseReason::Drain => &counters.closed_drain,
        CloseReason::Panic => &counters.closed_panic,
        CloseReason::Memory => &counters.closed_memory,
        CloseReason::Idle => &counters.closed_idle,
        CloseReason::HandedOver => &counters.handed_to_control,
    }
}
