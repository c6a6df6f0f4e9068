//! Several kinds of traffic at once, each by its own scenario: `broadcast+rpc` and `mixed`.
//!
//! ```text
//! broadcast+rpc   calls (or probes) ─────────────────────────────────────────────────▶
//!                 start ─ warm-up ─┬─ alone ─┬─ warm-up ─┬─ beside ─┐
//!                                  │         └ broadcast ─────────────────▶
//!                 measured: calls ─┘                     └ calls, deliveries
//! ```
//!
//! A connection's role says whose it is; the parts share the thread, its clock and its counters.

use crate::connection::Connection;
use crate::meter::{Meter, Timing};
use crate::plan::{Plan, Role};
use crate::scenario::{Context, Scenario};
use crate::scenario_fanout::Fanout;
use crate::scenario_probe::Probes;
use crate::scenario_rpc::Rpc;
use crate::scenario_toggle::Toggles;
use crate::shared::Shared;
use crate::verify::Faults;

/// The part of one thread.
#[derive(Debug)]
pub struct Mixed {
    fanout: Fanout,
    rpc: Option<Rpc>,
    probes: Option<Probes>,
    toggles: Option<Toggles>,
    /// From the run's times to those of the publishers.
    fanout_timing: Timing,
    has_alone: bool,
}

impl Mixed {
    /// For `thread`.
    pub fn new(plan: &Plan, thread: usize) -> Self {
        Self {
            fanout: Fanout::new(plan, thread),
            rpc: plan.rpc.as_ref().map(|_| Rpc::new(plan, thread)),
            probes: plan.probe.as_ref().map(|_| Probes::new(plan, thread)),
            toggles: plan.toggles.map(|_| Toggles::new(plan, thread)),
            fanout_timing: Timing::default(),
            has_alone: plan.alone.is_some(),
        }
    }
}

impl Scenario for Mixed {
    fn set_main(&mut self, timing: Timing) {
        self.fanout_timing = timing;
    }

    fn begin(&mut self, timing: Timing, connections: &[Connection]) {
        self.fanout.begin(self.fanout_timing, connections);
        // What is called while the broadcast warms up is beside it too, though not measured.
        let beside_from_ns = if self.has_alone { self.fanout_timing.start_ns } else { u64::MAX };
        if let Some(rpc) = &mut self.rpc {
            rpc.beside(beside_from_ns);
            rpc.begin(timing, connections);
        }
        if let Some(probes) = &mut self.probes {
            probes.beside(beside_from_ns);
            probes.begin(timing, connections);
        }
        if let Some(toggles) = &mut self.toggles {
            toggles.begin(timing, connections);
        }
    }

    fn handle_join(&mut self, connection: &Connection, shared: &Shared) {
        self.fanout.handle_join(connection, shared);
    }

    #[inline]
    fn handle_message(
        &mut self,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let part: Option<&mut dyn Scenario> = match connection.role {
            Role::Caller(_) | Role::Callee(_) => self.rpc.as_mut().map(|rpc| rpc as _),
            Role::Prober(_) | Role::Probed(_) | Role::Flooder(_) | Role::Flooded(_) => {
                self.probes.as_mut().map(|probes| probes as _)
            }
            Role::Toggler(_) => self.toggles.as_mut().map(|toggles| toggles as _),
            _ => return self.fanout.handle_message(connection, message, context),
        };
        part.expect("a connection has a role of a part that the plan has")
            .handle_message(connection, message, context)
    }

    #[inline]
    fn note_frame(&mut self, connection: &Connection, frame: &[u8]) {
        self.fanout.note_frame(connection, frame);
    }

    #[inline]
    fn handle_familiar(&mut self, connection: &Connection, input: &[u8], context: &mut Context<'_>) -> usize {
        self.fanout.handle_familiar(connection, input, context)
    }

    fn searchable(&self, stream: &[u8]) -> usize {
        self.fanout.searchable(stream)
    }

    fn settle(&mut self, shared: &Shared) {
        self.fanout.settle(shared);
    }

    fn handle_ring(&mut self) {
        self.fanout.handle_ring();
    }

    fn send(&mut self, connections: &mut [Connection], context: &mut Context<'_>) {
        if let Some(rpc) = &mut self.rpc {
            rpc.send(connections, context);
        }
        if let Some(probes) = &mut self.probes {
            probes.send(connections, context);
        }
        if let Some(toggles) = &mut self.toggles {
            toggles.send(connections, context);
        }
        self.fanout.send(connections, context);
    }

    fn next_due_ns(&self) -> Option<u64> {
        let rpc = self.rpc.as_ref().and_then(Scenario::next_due_ns);
        let probes = self.probes.as_ref().and_then(Scenario::next_due_ns);
        let toggles = self.toggles.as_ref().and_then(Scenario::next_due_ns);
        [self.fanout.next_due_ns(), rpc, probes, toggles].into_iter().flatten().min()
    }

    fn faults(&self) -> Faults {
        let mut faults = self.fanout.faults();
        faults.add(&self.rpc.as_ref().map_or_else(Faults::default, Scenario::faults));
        faults.add(&self.probes.as_ref().map_or_else(Faults::default, Scenario::faults));
        faults.add(&self.toggles.as_ref().map_or_else(Faults::default, Scenario::faults));
        faults
    }

    fn finish(&mut self, shared: &Shared, meter: &mut Meter) {
        self.fanout.finish(shared, meter);
        if let Some(rpc) = &mut self.rpc {
            rpc.finish(shared, meter);
        }
        if let Some(probes) = &mut self.probes {
            probes.finish(shared, meter);
        }
        if let Some(toggles) = &mut self.toggles {
            toggles.finish(shared, meter);
        }
    }
}
