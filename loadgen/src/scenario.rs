//! What a scenario has to say to the loop of a thread.

use crate::connection::Connection;
use crate::meter::{Meter, Timing};
use crate::session::Tools;
use crate::shared::Shared;
use crate::verify::Faults;

/// What the loop lends to a scenario.
#[derive(Debug)]
pub struct Context<'a> {
    /// The clock, read after the receive or at the begin of the step.
    pub now_ns: u64,
    /// Counters of this thread.
    pub meter: &'a mut Meter,
    /// To write messages with.
    pub tools: Tools<'a>,
}

/// The part of one thread in a scenario. The loop calls, in each turn:
///
/// `handle_join` for every visitor, `handle_message` for every message → `settle` every few receives → `send` when the time has come or `settle` said so.
pub trait Scenario {
    /// Before `begin`: the times of the traffic that the run is about, where they differ from the run's.
    fn set_main(&mut self, _: Timing) {}

    /// All connections everywhere are ready; the load begins at `timing.start_ns`.
    fn begin(&mut self, timing: Timing, connections: &[Connection]);

    /// The session of a visitor is ready; messages may follow.
    fn handle_join(&mut self, _: &Connection, _: &Shared) {}

    /// A message came on a ready connection. An answer may be pushed to it; it is flushed afterwards.
    ///
    /// An error is the words with which the server ended the session.
    fn handle_message(
        &mut self,
        connection: &mut Connection,
        message: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), String>;

    /// `frame`, header and all, was the message just handled on the connection.
    fn note_frame(&mut self, _: &Connection, _frame: &[u8]) {}

    /// Handles the frames at the front of `input` that are known from another connection; says how many bytes these are.
    fn handle_familiar(&mut self, _: &Connection, _input: &[u8], _: &mut Context<'_>) -> usize {
        0
    }

    /// How much of a stream without messages can be handled as a message now; the rest is given again with what follows.
    fn searchable(&self, stream: &[u8]) -> usize {
        stream.len()
    }

    /// Tells the other threads how far this one's receivers have come.
    fn settle(&mut self, shared: &Shared);

    /// Another thread rang: a window may be open again.
    fn handle_ring(&mut self);

    /// Sends what is due or allowed now.
    fn send(&mut self, connections: &mut [Connection], context: &mut Context<'_>);

    /// When `send` has something to do by the clock alone. 0 means at once.
    fn next_due_ns(&self) -> Option<u64>;

    /// What was wrong so far.
    fn faults(&self) -> Faults;

    /// The load is over and everything that will come has come: counts what is missing.
    fn finish(&mut self, shared: &Shared, meter: &mut Meter);
}
