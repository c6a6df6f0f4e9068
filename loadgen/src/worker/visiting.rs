//! Connections that come and go while the load runs: what `visits.rs` asks for is done here.

use super::{Worker, describe};
use crate::connection::Stage;
use crate::failure::Failure;
use crate::meter::UNDER_WAY;
use crate::scenario::Scenario;
use crate::session::{self, Tools};
use crate::shared::Phase;
use crate::visits::Place;

impl<S: Scenario> Worker<S> {
    /// Lets visitors come and go.
    pub(super) fn visit(&mut self, now_ns: u64) -> Result<(), Failure> {
        if self.visits.is_none() || !(Phase::Load..Phase::Close).contains(&self.phase) {
            return Ok(());
        }
        while let Some(index) = self.visits.as_mut().and_then(|visits| visits.take_leave(now_ns)) {
            self.leave(index);
        }
        if !self.begins() {
            return Ok(());
        }
        while let Some(begin) = self.visits.as_mut().and_then(|visits| visits.take_begin(now_ns)) {
            if self.plan.visits.is_some_and(|plan| plan.is_measured) {
                // The wait for a free place is the server's, the rest is ours.
                let sent_ns = if begin.has_waited { begin.intended_ns } else { now_ns };
                self.meter.message_sent(sent_ns, begin.intended_ns);
            }
            if let Err(error) = self.open(begin.index)? {
                self.lose(begin.index, &describe(error))?;
            }
        }
        Ok(())
    }

    /// A visitor's time is over. The server ends the connection after the good-bye, and keeps the port's wait time.
    pub(super) fn leave(&mut self, index: usize) {
        let Self { connections, plan, shared, masks, encode, visits, .. } = self;
        let connection = &mut connections[index];
        if plan.visits.is_some_and(|plan| plan.cut) {
            connection.close();
            if let Some(visits) = visits {
                visits.end(index);
            }
            return;
        }
        session::say_goodbye(connection, &mut Tools { plan, shared, masks, scratch: encode });
        connection.stage = Stage::Leaving;
        // An error here shows up at the next receive too.
        let _ = connection.flush();
    }

    pub(super) fn visitor_is_ready(&mut self, index: usize, now_ns: u64) {
        let Some(visits) = &mut self.visits else { return };
        let intended_ns = visits.handle_ready(index, now_ns);
        self.meter.logins += 1;
        if self.meter.timing.is_measured(intended_ns) {
            self.meter.login_latencies.record(now_ns.saturating_sub(intended_ns));
        }
        if self.plan.visits.is_some_and(|plan| plan.is_measured) {
            self.meter.delivery(now_ns, intended_ns);
            self.meter.advanced += 1;
        }
    }

    pub(super) fn fail_login(&mut self, words: &str) {
        self.meter.failed_logins.note(words);
        self.meter.errors.note(&format!("login: {words}"));
        if self.plan.visits.is_some_and(|plan| plan.is_measured) {
            self.meter.advanced += 1;
        }
    }

    pub(super) fn end_overdue_visits(&mut self, now_ns: u64) {
        let overdue = self.visits.as_ref().map_or_else(Vec::new, |visits| visits.overdue(now_ns));
        for index in overdue {
            self.connections[index].close();
            if self.visits.as_mut().map(|visits| visits.end(index)) == Some(Place::Joining) {
                self.fail_login("no session in time; see --login-timeout");
            }
        }
    }

    /// The run is over: what is still under way has failed only if the logins are what is measured.
    pub(super) fn finish_visits(&mut self) {
        let Some(visits) = &self.visits else { return };
        let (joining, unbegun) = (visits.joining(), visits.unbegun());
        self.meter.unbegun = unbegun;
        if self.plan.visits.is_some_and(|plan| plan.is_measured) {
            self.meter.unsent += unbegun;
            for _ in 0..joining {
                self.fail_login(UNDER_WAY);
            }
        }
    }
}
