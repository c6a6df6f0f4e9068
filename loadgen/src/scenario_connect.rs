//! `connect`: sessions are opened at a rate and left again. The visits of the worker do it all; here only what the
//! server says to a session that is open for that moment.

use crate::connection::Connection;
use crate::meter::{Meter, Timing};
use crate::scenario::{Context, Scenario};
use crate::session;
use crate::shared::Shared;
use crate::verify::Faults;

/// The part of one thread.
#[derive(Debug, Default)]
pub struct Connect;

impl Scenario for Connect {
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
        session::read_farewell(connection.serializer, message).map_or(Ok(()), Err)
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
