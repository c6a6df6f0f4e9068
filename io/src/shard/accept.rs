//! New connections, and what to do when there is no descriptor for them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use fanwire_codec::http::{HttpError, write_error};
use fanwire_core::{Instant, Outlet};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use super::Shard;
use super::arrivals::Arrival;
use super::ready::STRANGERS;
use crate::addresses::{Address, AddressLimits, Met};
use crate::handover::peer;
use crate::listen::Listening;
use crate::pressure::Level;
use crate::service::Service;
use crate::socket;

/// The listening sockets of a shard.
pub(super) struct Acceptor {
    listeners: Vec<Pending>,
    /// The one whose turn it is first.
    first: usize,
    /// A descriptor that can be given up to take a connection that there is no other one for, and to refuse it. Without
    /// that the connection would stay in the backlog, and its client would wait for nothing. Needed only if others than
    /// connections use up what is kept back for this ([`Spread`](super::Spread)), or the whole system has none.
    spare: Option<OwnedFd>,
    /// Not even the spare one helped (another thread was quicker, or the whole system has none): wait.
    pub(super) again_at: Option<Instant>,
}

struct Pending {
    socket: Listening,
    /// Not accepted until empty: no edge will tell.
    pending: bool,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listening>) -> io::Result<Self> {
        // The first look is made without an edge.
        let listeners = listeners.into_iter().map(|socket| Pending { socket, pending: true }).collect();
        Ok(Self { listeners, first: 0, spare: Some(spare()?), again_at: None })
    }

    /// The listener with this index has connections.
    pub(super) fn readable(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.pending = true;
        }
    }

    /// The listening sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.listeners.iter().map(|listener| &listener.socket.socket)
    }

    /// Closes the listening sockets.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.again_at = None;
    }
}

fn spare() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC)
}

/// What one attempt to accept led to.
pub(super) enum Accepted {
    Connection,
    Refused,
    /// That connection is gone; the next one may be there.
    Gone,
    Empty,
    /// No descriptors, none to be had.
    Exhausted,
}

impl<S: Service> Shard<S> {
    /// Accepts within the turn's budget, beginning with another listener each turn, so that a flood of one does not keep
    /// the others waiting. True = there may be more.
    pub(super) fn accept(&mut self) -> bool {
        if self.acceptor.again_at.is_some_and(|at| self.now < at) {
            return false;
        }
        self.acceptor.again_at = None;
        let mut budget = self.config.turn.accepts;
        let count = self.acceptor.listeners.len();
        self.acceptor.first = (self.acceptor.first + 1).checked_rem(count).unwrap_or(0);
        for step in 0..count {
            let index = (self.acceptor.first + step) % count;
            while self.acceptor.listeners[index].pending {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                if let Some(rate) = self.config.accept_rate
                    && let Err(at) = self.links.spread.admission.take(rate, self.now)
                {
                    // In the backlog they wait without costing anything.
                    self.acceptor.again_at = Some(at.max(self.now + ADMISSION_WAIT));
                    return false;
                }
                match self.accept_one(index) {
                    Accepted::Connection | Accepted::Refused | Accepted::Gone => {}
                    Accepted::Empty => {
                        self.acceptor.listeners[index].pending = false;
                        if let Some(rate) = self.config.accept_rate {
                            self.links.spread.admission.give_back(rate);
                        }
                    }
                    Accepted::Exhausted => {
                        self.acceptor.again_at = Some(self.now + EXHAUSTED_WAIT);
                        return false;
                    }
                }
            }
        }
        false
    }

    fn accept_one(&mut self, index: usize) -> Accepted {
        let listening = &self.acceptor.listeners[index].socket;
        let listener = listening.listener;
        match socket::accept(&listening.socket) {
            Ok(socket) if socket.as_raw_fd() >= self.links.spread.reserved_from => {
                self.links.counters.rejected_descriptors.add(1);
                self.refuse_unread(socket, listener);
                Accepted::Refused
            }
            Ok(socket) if self.memory.level() == Level::Shed => {
                self.links.counters.rejected_memory.add(1);
                let refusal = self.memory_refusal();
                self.refuse_at_accept(socket, listener, &refusal)
            }
            Ok(socket) => match self.count_address(&socket) {
                Ok(address) => self.place(Arrival { socket, listener, address }),
                Err(error) => self.refuse_at_accept(socket, listener, &error),
            },
            Err(Errno::AGAIN) => Accepted::Empty,
            Err(Errno::MFILE | Errno::NFILE) => self.refuse_with_spare(index),
            Err(Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted,
            // accept(2): network errors of the new connection come out here and concern nobody else.
            Err(_) => Accepted::Gone,
        }
    }

    /// Serves a connection that is counted for this shard.
    pub(super) fn welcome(&mut self, arrival: Arrival) -> Accepted {
        let Arrival { socket, listener, address } = arrival;
        let slot = self.slots.insert(Some(socket), self.now, listener);
        let socket = self.slots.hot[slot as usize].socket.as_ref().expect("just inserted");
        if self.watch(slot, socket).is_err() {
            // No memory, or the user's limit of watches.
            self.links.counters.rejected_descriptors.add(1);
            let socket = self.slots.hot[slot as usize].socket.take().expect("just inserted");
            self.refuse_unread(socket, listener);
            self.slots.remove(slot);
            self.forget_address(address);
            self.links.spread.loads.release(usize::from(self.id.get()));
            return Accepted::Refused;
        }
        self.ready.set_group(slot, STRANGERS);
        if let Some(throttle) = &mut self.throttle {
            throttle.begin(slot);
        }
        if let Some(address) = address {
            self.addresses.insert(slot, address);
        }
        self.links.counters.connections_accepted.add(1);
        self.service.attach(self.now, Outlet(slot));
        let deadline = self.now + self.config.deadlines.handshake;
        self.slots.cold[slot as usize].stage_at = deadline;
        self.wheel.enter(self.now, slot, deadline);
        Accepted::Connection
    }

    /// Counts the connection for its address, if there is a limit for that.
    fn count_address(&mut self, socket: &OwnedFd) -> Result<Option<Address>, HttpError> {
        let (connections_max, rate) = (self.config.connections_per_address, self.config.connects_per_address);
        if connections_max.is_none() && rate.is_none() {
            return Ok(None);
        }
        // A Unix socket has none.
        let Some(address) = peer(socket).map(Address::of) else { return Ok(None) };
        let limits = AddressLimits { connections_max, rate };
        let words = match self.links.spread.addresses.admit(limits, self.now, address) {
            Ok(counted) => return Ok(counted.then_some(address)),
            Err(Met::Connections) => {
                "this address has as many connections as it may (limits.connections_per_address)"
            }
            Err(Met::Rate) => "too many new connections come from this address (limits.connects_per_address)",
        };
        self.links.counters.rejected_address.add(1);
        Err(HttpError::new(429, words).with_headers(self.retry_after()))
    }

    /// Refuses a connection before a byte of it is read: cheaper than to serve it, and its answer may be lost if it has sent
    /// a request that comes later.
    fn refuse_at_accept(&mut self, socket: OwnedFd, listener: u8, error: &HttpError) -> Accepted {
        self.frame.clear();
        if self.speaks_plain(listener) {
            write_error(&mut self.frame, error);
        }
        socket::refuse(socket, &self.frame, self.takes_raw(listener));
        Accepted::Refused
    }

    /// The same, because there is no room for it.
    pub(super) fn refuse_unread(&self, socket: OwnedFd, listener: u8) {
        let answer = if self.speaks_plain(listener) { socket::FULL } else { b"" };
        socket::refuse(socket, answer, self.takes_raw(listener));
    }

    fn takes_raw(&self, listener: u8) -> bool {
        self.config.listeners[usize::from(listener)].rawsocket.is_some()
    }

    /// Whether a client of this listener may understand what is said without a handshake.
    fn speaks_plain(&self, listener: u8) -> bool {
        self.config.listeners[usize::from(listener)].tls.as_ref().is_none_or(|tls| tls.plain)
    }

    /// Puts the connection's socket into the shard's set.
    pub(super) fn watch(&self, slot: u32, socket: &OwnedFd) -> Result<(), Errno> {
        use epoll::EventFlags;
        // EPOLLOUT from the start costs nothing: it is only signalled after a send found the socket full.
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(u64::from(slot)), events)
    }

    fn refuse_with_spare(&mut self, index: usize) -> Accepted {
        if self.acceptor.spare.take().is_none() {
            // Given up earlier and not got back.
            self.acceptor.spare = spare().ok();
            if self.acceptor.spare.take().is_none() {
                return Accepted::Exhausted;
            }
        }
        let listening = &self.acceptor.listeners[index].socket;
        let outcome = match socket::accept(&listening.socket) {
            Ok(socket) => {
                self.links.counters.rejected_descriptors.add(1);
                self.refuse_unread(socket, listening.listener);
                Accepted::Refused
            }
            Err(Errno::AGAIN) => Accepted::Empty,
            Err(_) => Accepted::Exhausted,
        };
        self.acceptor.spare = spare().ok();
        outcome
    }
}

/// A tenth of the burst of `accept_rate`: several are accepted by one wake-up, and none is lost to the rate.
const ADMISSION_WAIT: Duration = Duration::from_millis(10);
/// Ten times a second costs nothing, and a client hardly notices.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);
