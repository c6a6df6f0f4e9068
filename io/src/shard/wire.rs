//! The flush: bytes from the service to the sockets.

use std::io::IoSlice;

use fanwire_core::{Outlet, Sent, Wire};

use super::Shard;
use super::polls::Polls;
use super::tls::Tls;
use crate::counters::ShardCounters;
use crate::service::Service;
use crate::slots::{CloseReason, Hot, flag};
use crate::socket;

/// The shard's sockets as the service sees them.
struct Sockets<'a> {
    hot: &'a mut [Hot],
    polls: &'a mut Polls,
    tls: &'a mut Tls,
    broken: &'a mut Vec<u32>,
    sends: u64,
    short: u64,
    bytes: u64,
}

impl Wire for Sockets<'_> {
    #[inline]
    fn send(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        let hot = &mut self.hot[outlet.index()];
        let Some(socket) = &hot.socket else { return self.send_polled(outlet, pieces) };
        if hot.has(flag::TLS) {
            return self.send_encrypted(outlet, pieces);
        }
        self.sends += 1;
        match socket::send(socket, pieces) {
            Ok(taken) => {
                self.bytes += taken as u64;
                if taken < pieces.iter().map(|piece| piece.len()).sum() {
                    self.short += 1;
                    hot.set(flag::BLOCKED);
                }
                Sent::Took(taken)
            }
            // Reset, timed out, or no memory for it: the connection is over.
            Err(_) => {
                self.broken.push(outlet.0);
                Sent::Broken
            }
        }
    }
}

impl Sockets<'_> {
    #[cold]
    fn send_polled(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        self.polls.send(outlet.0, pieces)
    }

    #[inline(never)]
    fn send_encrypted(&mut self, outlet: Outlet, pieces: &[IoSlice<'_>]) -> Sent {
        match self.tls.send(outlet.0, &mut self.hot[outlet.index()], pieces) {
            Ok(written) => {
                self.sends += written.sends;
                self.short += u64::from(written.short);
                self.bytes += written.cipher as u64;
                Sent::Took(written.plain)
            }
            Err(_) => {
                self.broken.push(outlet.0);
                Sent::Broken
            }
        }
    }

    fn count(&self, counters: &ShardCounters) {
        if self.sends > 0 {
            counters.sends.add(self.sends);
            counters.sends_short.add(self.short);
            counters.sent_bytes.add(self.bytes);
        }
    }
}

impl<S: Service> Shard<S> {
    /// Sends within the turn's budget. True = there is more.
    pub(super) fn flush(&mut self) -> bool {
        let (hot, tls, broken) = (&mut self.slots.hot[..], &mut self.tls, &mut self.broken);
        let polls = &mut self.polls;
        let mut sockets = Sockets { hot, polls, tls, broken, sends: 0, short: 0, bytes: 0 };
        let more = self.service.flush(self.now, &mut sockets, &self.config.turn.flush);
        sockets.count(&self.links.counters);
        while let Some(slot) = self.broken.pop() {
            self.lose(slot, CloseReason::Lost);
        }
        more | self.answer_polls()
    }
}
