//! From a readable socket to messages, and what happens when a connection is over.

use fanwire_codec::ws::Received;

use super::{LIMITS, RECEIVE_BYTES, SETTLE_RECEIVES, TICK_NS, Worker, describe};
use crate::connection::{Connection, Read, Stage};
use crate::failure::Failure;
use crate::plan::Role;
use crate::scenario::{Context, Scenario};
use crate::session::{self, Tools};
use crate::shared::{Phase, Shared};
use crate::visits::Place;
use crate::wire::Wire;

impl<S: Scenario> Worker<S> {
    /// Receives once from a connection and handles what came.
    pub(super) fn receive(&mut self, index: usize, bytes_max: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.is_queued = false;
        let stage_before = connection.stage;
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = connection.receive(&mut buffer, bytes_max);
        let now_ns = self.shared.now_ns();
        let result = match read {
            Ok(Read::Bytes(count)) => {
                // Acknowledgements and invocations would blur how well deliveries are coalesced.
                if self.meter.timing.is_measured(now_ns)
                    && matches!(connection.role, Role::Subscriber(_) | Role::Caller(_))
                {
                    self.meter.receives_measured += 1;
                    self.meter.bytes_measured += count as u64;
                }
                if (count == bytes_max || connection.is_ending) && connection.reads_at_once() {
                    connection.is_queued = true;
                    self.ready.push_back(index as u32);
                }
                match self.process(index, &mut buffer[..count], now_ns) {
                    Ok(()) => Ok(()),
                    Err(Ended::Connection(words)) => self.lose(index, &words),
                    Err(Ended::Run(failure)) if index >= self.residents => self.lose(index, &failure.words),
                    Err(Ended::Run(failure)) => Err(failure),
                }
            }
            Ok(Read::Empty) => Ok(()),
            Ok(Read::End) => self.lose(index, "the server ended the connection without a word"),
            Err(error) => self.lose(index, &describe(error)),
        };
        self.buffer = buffer;
        let connection = &mut self.connections[index];
        if !connection.out.is_empty() {
            // An error here shows up at the next receive too, with everything that the server said before.
            let _ = connection.flush();
        }
        if index >= self.residents && stage_before != Stage::Ready && connection.stage == Stage::Ready {
            self.visitor_is_ready(index, now_ns);
        }
        self.receives += 1;
        if self.receives.is_multiple_of(SETTLE_RECEIVES) {
            self.scenario.settle(&self.shared);
            self.send(now_ns);
            self.visit(now_ns)?;
        } else if self.scenario.next_due_ns().is_some_and(|due| due <= now_ns) {
            self.send(now_ns);
        }
        result
    }

    /// Handles the bytes of one receive.
    fn process(&mut self, index: usize, input: &mut [u8], now_ns: u64) -> Result<(), Ended> {
        let Self { plan, shared, scenario, connections, encode, pool, masks, meter, .. } = self;
        let connection = &mut connections[index];
        if matches!(connection.stage, Stage::Discarding | Stage::Leaving) {
            return Ok(());
        }
        let mut context = Context { now_ns, meter, tools: Tools { plan, shared, masks, scratch: encode } };
        let mut at = 0;
        if connection.stage == Stage::Upgrading {
            match session::handle_upgrade(connection, input, &mut context.tools).map_err(Ended::Run)? {
                Some(behind) => at = behind,
                None => return Ok(()),
            }
            if connection.stage == Stage::Ready {
                note_ready(index, connection, scenario, shared, (&mut self.settled, &mut self.slow));
            }
        }
        if let Some(answers) = &mut connection.answers {
            return answers
                .receive(input, |status| match status {
                    200..=299 => context.meter.acknowledged += 1,
                    status => context.meter.errors.note(&format!("POST was answered by {status}")),
                })
                .map_err(Ended::Connection);
        }
        if connection.is_plain_tcp {
            let was_ready = connection.stage == Stage::Ready;
            let result = stream(connection, input, scenario, &mut context);
            if !was_ready && connection.stage == Stage::Ready {
                note_ready(index, connection, scenario, shared, (&mut self.settled, &mut self.slow));
            }
            return result;
        }
        while at < input.len() {
            if connection.stage == Stage::Ready && !connection.wire.is_mid_message() {
                let familiar = scenario.handle_familiar(connection, &input[at..], &mut context);
                if familiar > 0 {
                    at += familiar;
                    continue;
                }
                if let Some((start, end)) = connection.wire.whole_frame(&input[at..]) {
                    scenario
                        .handle_message(connection, &input[at + start..at + end], &mut context)
                        .map_err(Ended::Connection)?;
                    scenario.note_frame(connection, &input[at..at + end]);
                    at += end;
                    continue;
                }
            }
            // The receiver lends its buffer out, and the connection is needed beside it.
            let mut wire = std::mem::replace(&mut connection.wire, Wire::web_socket());
            let step = wire.receive(&mut input[at..], &LIMITS, pool).map_err(Ended::Connection)?;
            at += step.0;
            match step.1 {
                None => {}
                Some(Received::Message { payload, .. }) if connection.stage == Stage::Ready => {
                    scenario.handle_message(connection, payload, &mut context).map_err(Ended::Connection)?;
                }
                Some(Received::Message { payload, .. }) => {
                    session::handle_message(connection, payload, &mut context.tools).map_err(Ended::Run)?;
                    if connection.stage == Stage::Ready {
                        note_ready(index, connection, scenario, shared, (&mut self.settled, &mut self.slow));
                    }
                }
                Some(Received::Ping(payload)) => {
                    connection.push_pong(payload, context.tools.masks);
                }
                Some(Received::Pong(_)) => {}
                Some(Received::Close(close)) => {
                    // RFC 6455, 5.5.1: the peer's code is sent back.
                    let code = close.map_or(1000, |(code, _)| code);
                    connection.push_close(code, context.tools.masks);
                    return Err(Ended::Connection(match close {
                        Some((code, "")) => format!("the server closed with code {code}"),
                        Some((code, reason)) => format!("the server closed with code {code}: {reason}"),
                        None => "the server closed without a code".to_owned(),
                    }));
                }
            }
            wire.recycle(pool);
            connection.wire = wire;
        }
        Ok(())
    }

    /// A connection is over. Before it was ready this ends the run, afterwards it is counted.
    pub(super) fn lose(&mut self, index: usize, words: &str) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let stage = connection.stage;
        // The answer to a good-bye or close frame, if there is one.
        let _ = connection.flush();
        connection.close();
        if stage == Stage::Discarding {
            self.meter.unverified_closed += 1;
            return Ok(());
        }
        if self.phase == Phase::Close {
            return Ok(());
        }
        if let Some(visits) = self.visits.as_mut().filter(|_| index >= self.residents) {
            match visits.end(index) {
                Place::Joining => self.fail_login(words),
                // A visitor has not asked for this end.
                Place::Staying => self.meter.closed.note(words),
                Place::Leaving | Place::Vacant => {}
            }
            return Ok(());
        }
        if stage == Stage::Closed {
            return Ok(());
        }
        if stage != Stage::Ready {
            return Err(Failure::cannot_connect(format!(
                "{}: connection lost in stage {stage:?} (number {} of {} of this thread): {words}",
                self.plan.target.host,
                index + 1,
                self.residents
            )));
        }
        match connection.role {
            Role::Stuck | Role::Slow => self.meter.unverified_closed += 1,
            _ => self.meter.closed.note(words),
        }
        Ok(())
    }

    /// Gives each slow subscriber its share of this tick.
    pub(super) fn read_slowly(&mut self) -> Result<(), Failure> {
        let Some(fanout) = &self.plan.fanout else { return Ok(()) };
        let share =
            (fanout.slow_read as u64 * TICK_NS / 1_000_000_000).clamp(1, RECEIVE_BYTES as u64) as usize;
        let slow = std::mem::take(&mut self.slow);
        let result = slow.iter().try_for_each(|index| self.receive(*index as usize, share));
        self.slow = slow;
        self.slow.retain(|index| self.connections[*index as usize].socket.is_some());
        result
    }
}

/// Bytes came of a server without messages that we know: what may be cut is held back.
fn stream<S: Scenario>(
    connection: &mut Connection,
    input: &[u8],
    scenario: &mut S,
    context: &mut Context<'_>,
) -> Result<(), Ended> {
    let mut held = std::mem::take(&mut connection.held);
    let bytes = if held.is_empty() {
        input
    } else {
        held.extend_from_slice(input);
        &held
    };
    let whole = if connection.stage == Stage::Ready {
        let whole = scenario.searchable(bytes);
        scenario.handle_message(connection, &bytes[..whole], context).map_err(Ended::Connection)?;
        whole
    } else {
        session::handle_message(connection, bytes, &mut context.tools).map_err(Ended::Run)?;
        // An answer may come in parts; once it is whole, what was read with it is of no use.
        if connection.stage == Stage::Ready || bytes.len() > HELD_BYTES_MAX { bytes.len() } else { 0 }
    };
    connection.held = bytes[whole..].to_vec();
    Ok(())
}

/// Of an answer that does not become what is waited for.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The set-up of a connection is over.
fn note_ready<S: Scenario>(
    index: usize,
    connection: &Connection,
    scenario: &mut S,
    shared: &Shared,
    (settled, slow): (&mut usize, &mut Vec<u32>),
) {
    match connection.role {
        Role::Visitor(_) => scenario.handle_join(connection, shared),
        role => {
            *settled += 1;
            if role == Role::Slow {
                slow.push(index as u32);
            }
        }
    }
}

/// What ended while bytes were handled.
enum Ended {
    Connection(String),
    Run(Failure),
}

impl Connection {
    /// Whether its bytes are read as they come: a stuck subscriber's never are, a slow one's by the tick.
    pub(super) fn reads_at_once(&self) -> bool {
        self.stage != Stage::Ready || !matches!(self.role, Role::Stuck | Role::Slow)
    }
}
