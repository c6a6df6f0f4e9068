//! When to give up waiting for a peer, and when to ask whether it is still there.

use std::time::Duration;

use fanwire_codec::http::{HttpError, write_error};
use fanwire_codec::rawsocket::{FrameKind, Refusal, write_frame};
use fanwire_codec::ws::{Control, write_control};
use fanwire_core::{Instant, Outlet};

use super::Shard;
use crate::service::Service;
use crate::slots::{CloseReason, Cold, Hot, Stage, flag};
use crate::tcp_info::Taking;

impl<S: Service> Shard<S> {
    /// Everything that is due now.
    pub(super) fn handle_deadlines(&mut self) {
        if self.service.next_deadline().is_some_and(|at| at <= self.now) {
            self.service.handle_timeout(self.now);
        }
        self.continue_draining();
        self.admit_handshakes();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now, &mut due);
        for slot in due.drain(..) {
            // A thread that was kept waiting is late itself: what has come meanwhile counts before the clock does.
            if self.slots.hot[slot as usize].take(flag::READY) {
                self.receive_from(slot);
                self.act_on_effects();
            }
            self.look_at_deadlines(slot);
        }
        self.due = due;
    }

    /// The earliest moment at which something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().map(|drain| drain.next_at());
        let service = self.service.next_deadline();
        [self.wheel.next(), service, self.acceptor.again_at, self.tls.handshakes.next_deadline(), drain]
            .into_iter()
            .flatten()
            .min()
    }

    /// A deadline is off: the connection's entry moves to the next one, so that it does not fire for nothing.
    pub(super) fn look_later(&mut self, slot: u32) {
        self.wheel.cancel(slot);
        self.look_at_deadlines(slot);
    }

    /// The connection's entry fired: does what is due, and enters the next deadline.
    fn look_at_deadlines(&mut self, slot: u32) {
        match self.slots.hot[slot as usize].stage {
            Stage::Free | Stage::Dead => {}
            Stage::Head => {
                let deadline = self.slots.cold[slot as usize].stage_at;
                // Over RawSocket there is no word for that either.
                let is_raw = self.begins_raw(slot, &[]);
                let reads_no_answer = is_raw || self.is_shaking_hands(slot) || self.awaits_handshake(slot);
                if self.now >= deadline && reads_no_answer {
                    self.links.counters.rawsocket_late.add(u64::from(is_raw));
                    self.lose(slot, CloseReason::HandshakeTimeout);
                } else if self.now >= deadline {
                    self.links.counters.rejected_request.add(1);
                    let wait = self.config.deadlines.handshake;
                    let words = format!("the request was not complete within {}", seconds(wait));
                    self.refuse(slot, &HttpError::new(408, words), CloseReason::HandshakeTimeout);
                } else {
                    self.wheel.enter(self.now, slot, deadline);
                }
            }
            Stage::Http => self.look_at_http(slot),
            Stage::Open => self.look_at_open(slot),
            Stage::Closing | Stage::Lingering => {
                let deadline = self.slots.cold[slot as usize].stage_at;
                if self.now < deadline {
                    self.wheel.enter(self.now, slot, deadline);
                } else if self.slots.hot[slot as usize].has(flag::FINISHED) {
                    // Said all, and the peer does not close: its turn is over.
                    self.bury_later(slot);
                } else {
                    self.lose(slot, CloseReason::Lost);
                }
            }
        }
    }

    fn look_at_open(&mut self, slot: u32) {
        let throttled_until = self.end_throttling(slot);
        let deadlines = &self.config.deadlines;
        let batch = ping_batch(deadlines.ping_interval, self.slots.open());
        let hot = &self.slots.hot[slot as usize];
        let cold = &mut self.slots.cold[slot as usize];
        let mut next = throttled_until;
        if hot.has(flag::LEAVING) {
            if self.now >= cold.stage_at {
                let (code, words) = match cold.why {
                    CloseReason::Drain => (1001, "the router stops"),
                    _ => (1000, "an administrator ended this session"),
                };
                self.close(slot, code, words, CloseReason::Service);
                return;
            }
            next = earlier(next, cold.stage_at);
        } else if !hot.has(flag::ESTABLISHED) {
            if self.now >= cold.stage_at {
                let words = format!("no login within {}", seconds(deadlines.login));
                self.close(slot, 1008, &words, CloseReason::LoginTimeout);
                return;
            }
            next = earlier(next, cold.stage_at);
        }
        if hot.socket.is_none() {
            let next = self.look_at_poll(slot).and_then(|at| earlier(next, at));
            return next.into_iter().for_each(|at| self.wheel.enter(self.now, slot, at));
        }
        // While we do not read, the peer cannot finish a message or show that it lives.
        let paused = hot.has(flag::PAUSED) || throttled_until.is_some();
        if hot.has(flag::MID_MESSAGE) && !paused {
            if self.now >= cold.message_at {
                let words = format!("a message was not complete within {}", seconds(deadlines.message));
                self.close(slot, 1008, &words, CloseReason::MessageTimeout);
                return;
            }
            next = earlier(next, cold.message_at);
        }
        let pinged = hot.has(flag::PINGED) && hot.heard_at < cold.ping_at;
        if paused || hot.has(flag::READY) {
            // Something of its may be waiting for us.
            next = earlier(next, self.now + deadlines.ping_interval.min(deadlines.pong_wait));
        } else if pinged {
            let at = cold.ping_at + deadlines.pong_wait;
            if self.now >= at && (hot.has(flag::BLOCKED) || still_takes(hot, cold)) {
                // Our ping waits behind data, in the outbox or in the kernel, that the peer is still taking; how long that
                // may last is the outbox's limit, and a peer that takes nothing is ended by TCP's own timeout.
                next = earlier(next, self.now + self.config.deadlines.pong_wait);
            } else if self.now >= at {
                let words = format!("no sign of life within {} of a ping", seconds(deadlines.pong_wait));
                self.close(slot, 1008, &words, CloseReason::PongTimeout);
                return;
            } else {
                next = earlier(next, at);
            }
        } else {
            let at = hot.heard_at + deadlines.ping_interval;
            if self.now >= at {
                next = earlier(next, self.now + deadlines.pong_wait);
                self.ping(slot);
            } else {
                next = earlier(next, Instant::from_nanos(at.as_nanos().next_multiple_of(batch)));
            }
        }
        if let Some(next) = next {
            self.wheel.enter(self.now, slot, next);
        }
    }

    fn ping(&mut self, slot: u32) {
        let taking = self.slots.hot[slot as usize].socket.as_ref().and_then(Taking::of);
        self.slots.cold[slot as usize].acked = taking.map_or(0, |taking| taking.acked);
        self.slots.hot[slot as usize].set(flag::PINGED);
        self.slots.cold[slot as usize].ping_at = self.now;
        self.frame.clear();
        if self.slots.cold[slot as usize].input.is_raw() {
            write_frame(&mut self.frame, FrameKind::Ping, b"");
        } else {
            write_control(&mut self.frame, Control::Ping, b"");
        }
        self.service.push(self.now, Outlet(slot), &self.frame);
        self.links.counters.pings.add(1);
    }

    /// Ends an open WebSocket with a close frame, a RawSocket with what stands for it.
    pub(super) fn close(&mut self, slot: u32, code: u16, words: &str, why: CloseReason) {
        self.service.close(self.now, Outlet(slot), code, words);
        self.begin_closing(slot, why);
    }

    /// Ends a connection that is no WebSocket yet with an HTTP error; one that has begun as a RawSocket with its likes.
    pub(super) fn refuse(&mut self, slot: u32, error: &HttpError, why: CloseReason) {
        if self.begins_raw(slot, &[]) {
            return self.refuse_raw(slot, Refusal::TooManyConnections, why);
        }
        self.frame.clear();
        write_error(&mut self.frame, error);
        self.service.push(self.now, Outlet(slot), &self.frame);
        self.service.finish(Outlet(slot));
        // After an error nobody knows where the next request would begin.
        self.slots.hot[slot as usize].set(flag::DISCARD);
        self.slots.cold[slot as usize].extra = None;
        self.forget_request(slot);
        self.begin_closing(slot, why);
    }

    /// When the connection's open WebSocket has to be looked at for the first time.
    pub(super) fn enter_open_deadlines(&mut self, slot: u32) {
        let deadlines = &self.config.deadlines;
        let login = self.now + deadlines.login;
        self.slots.cold[slot as usize].stage_at = login;
        self.wheel.enter(self.now, slot, login.min(self.now + deadlines.ping_interval));
    }
}

/// Whether the peer has taken some of our data since the last look, while more waits in the kernel for want of room on its
/// side. If nothing waits there, it has our ping and should have answered.
fn still_takes(hot: &Hot, cold: &mut Cold) -> bool {
    let taking = hot.socket.as_ref().and_then(Taking::of);
    taking.is_some_and(|Taking { acked, unsent }| {
        unsent > 0 && std::mem::replace(&mut cold.acked, acked) != acked
    })
}

/// Pings leave at multiples of this many nanoseconds, those of many connections in one turn: a wake-up for each would cost
/// more than the ping. Late by 1/64 of the interval at most, and so that about [`PINGS_TOGETHER`] come together: more of them
/// would hold up a turn.
fn ping_batch(interval: Duration, connections: usize) -> u64 {
    let parts = (connections as u64 / PINGS_TOGETHER).max(64);
    (interval.as_nanos() as u64 / parts).max(1)
}

fn earlier(known: Option<Instant>, at: Instant) -> Option<Instant> {
    Some(known.map_or(at, |known| known.min(at)))
}

fn seconds(wait: Duration) -> String {
    if wait.subsec_nanos() == 0 {
        format!("{} s", wait.as_secs())
    } else {
        format!("{} ms", wait.as_millis())
    }
}

/// A third of a millisecond of sends.
const PINGS_TOGETHER: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_come_together_as_many_as_a_turn_bears_and_hardly_late() {
        let interval = Duration::from_secs(25);
        for (connections, millis) in [(1, 390), (4096, 390), (10_000, 160), (1_000_000, 1)] {
            let batch = ping_batch(interval, connections);
            assert_eq!(batch / 1_000_000, millis, "{connections}");
            let in_batch = connections as u64 * batch / interval.as_nanos() as u64;
            assert!(in_batch <= PINGS_TOGETHER, "{in_batch} of {connections}");
        }
        assert_eq!(ping_batch(Duration::ZERO, 1), 1, "a multiple of it exists");
    }
}
