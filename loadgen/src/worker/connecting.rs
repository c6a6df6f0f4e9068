//! Opens connections at their rate, and says why one could not be opened.

use rustix::event::epoll;
use rustix::io::Errno;

use super::{Worker, describe};
use crate::failure::Failure;
use crate::plan::Role;
use crate::scenario::Scenario;
use crate::shared::Phase;

impl<S: Scenario> Worker<S> {
    pub(super) fn connections_per_second(&self) -> f64 {
        self.plan.connect_rate / self.plan.threads as f64
    }

    pub(super) fn handshakes_max(&self) -> usize {
        self.plan.connect_in_flight.div_ceil(self.plan.threads)
    }

    /// When the next connection may be opened by the rate; `None` if there is none left or too many are under way.
    pub(super) fn next_connect_ns(&self) -> Option<u64> {
        let waits = self.phase == Phase::Connect
            && self.opened < self.residents
            && self.opened - self.settled < self.handshakes_max();
        waits.then(|| {
            self.connect_start_ns + (self.opened as f64 * 1e9 / self.connections_per_second()) as u64
        })
    }

    pub(super) fn connect_more(&mut self, now_ns: u64) -> Result<(), Failure> {
        while self.next_connect_ns().is_some_and(|due| due <= now_ns) {
            let index = self.opened;
            self.opened += 1;
            if let Err(error) = self.open(index)? {
                return Err(self.connect_failure(error));
            }
        }
        Ok(())
    }

    /// Begins to connect and to watch the socket.
    pub(super) fn open(&mut self, index: usize) -> Result<Result<(), Errno>, Failure> {
        let source = self.plan.assignments[self.thread][index].source;
        let connection = &mut self.connections[index];
        if let Err(error) = connection.open(self.plan.target_of(&connection.setup), source, &mut self.ports) {
            return Ok(Err(error));
        }
        let socket = connection.socket.as_ref().expect("it has just been opened");
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let is_express = matches!(
            connection.role,
            Role::Caller(_) | Role::Callee(_) | Role::Toggler(_) | Role::Prober(_) | Role::Probed(_)
        );
        let set = self.express.as_ref().filter(|_| is_express).unwrap_or(&self.epoll);
        epoll::add(set, socket, epoll::EventData::new_u64(index as u64), flags)
            .map_err(|error| Failure::usage(format!("a socket cannot be watched: {error}")))?;
        Ok(Ok(()))
    }

    pub(super) fn connect_failure(&self, error: Errno) -> Failure {
        let address = &self.plan.target.address;
        let remedy = match error {
            Errno::CONNREFUSED => "nothing listens there: start the server, or name it with --url",
            Errno::ADDRNOTAVAIL => {
                "no free local port, or --source is no address of this machine: give more of them, widen net.ipv4.ip_local_port_range, \
                 or wait a minute for old connections to be forgotten"
            }
            Errno::MFILE | Errno::NFILE => "no free file descriptor: raise the limit with `ulimit -n`",
            Errno::TIMEDOUT => {
                "no answer: is the server overloaded, or a firewall in between? try a lower --connect-rate"
            }
            Errno::NOENT => "there is no such socket: start the server, or name it with --url",
            Errno::AGAIN => "the socket's backlog is full: try a lower --connect-rate",
            Errno::CONNRESET => "the server threw the connection away: is its limit of connections reached?",
            _ => "check the address given with --url",
        };
        Failure::cannot_connect(format!(
            "cannot connect to {address} ({} of {} connections of this thread are ready): {}: {remedy}",
            self.settled,
            self.residents,
            describe(error)
        ))
    }
}
