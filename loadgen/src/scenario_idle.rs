//! `idle`: connections that are held. The loop answers their pings; nothing else happens.

use crate::connection::Connection;
use crate::meter::{Meter, Timing};
use crate::scenario::{Context, Scenario};
use crate::session;
use crate::shared::Shared;
use crate::verify::Faults;

/// The part of one thread.
#[derive(Debug, Default)]
pub struct Idle;

impl Scenario for Idle {
    fn begin(&mut self, _: Timing, _: &[Connection]) {}

    fn handle_message(
        &mut self,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        if let Some(script) = &context.tools.plan.dialect {
            script.answer(connection, message, &mut context.tools);
            return Ok(());
        }
        match session::read_farewell(connection.serializer, message) {
            Some(words) => {
                // WAMP, "Session Establishment": an ABORT is never answered.
                if !words.starts_with("ABORT") {
                    session::answer_goodbye(connection, &mut context.tools);
                }
                Err(words)
            }
            None => {
                // Nobody here publishes: whatever comes is somebody else's.
                context.meter.foreign += 1;
                Ok(())
            }
        }
    }

    fn settle(&mut self, _: &Shared) {}

    fn handle_ring(&mut self) {}

    fn send(&mut self, _: &mut [Connection], _: &mut Context<'_>) {}

    fn next_due_ns(&self) -> Option<u64> {
        None
    }

    fn faults(&self) -> Faults {
        Faults::default()
    }

    fn finish(&mut self, _: &Shared, _: &mut Meter) {}
}
