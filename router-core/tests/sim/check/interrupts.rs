//! Who is interrupted: callees that can be, for a reason, once; and those whose callers wait no more, at last.

use super::{Checker, Facts, Verdict};
use crate::history::{ClientId, Event, Op, Seen, Tag};
use fanwire_codec::wamp2::CancelMode;
use fanwire_core::Instant;
use std::{collections::BTreeMap, time::Duration};

#[derive(Default)]
pub struct Interrupts {
    calls: BTreeMap<(ClientId, u64), Call>,
    /// By the tag of its first part.
    requests: BTreeMap<Tag, (ClientId, u64)>,
    /// By callee and invocation.
    work: BTreeMap<(ClientId, u64), Work>,
}

#[derive(Default)]
struct Call {
    /// The line of the first CANCEL by `kill`, and of the first one by another mode.
    killed: Option<u64>,
    cancelled: Option<u64>,
    /// Its parts may wait too long for who takes them.
    in_parts: bool,
    /// When its time is over, at the earliest.
    due: Option<Instant>,
}

struct Work {
    call: (ClientId, u64),
    /// The line of the callee's final word.
    answered: Option<u64>,
    interrupted: Vec<CancelMode>,
}

impl Checker for Interrupts {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen: Seen::Invocation { request, tag, .. } } => {
                if let Some(call) = self.requests.get(tag) {
                    let work = Work { call: *call, answered: None, interrupted: Vec::new() };
                    self.work.insert((*client, *request), work);
                }
            }
            Event::Saw { client, seen: Seen::Interrupt { request, mode } } => {
                return self.interrupted(*client, *request, *mode, facts);
            }
            Event::Saw { client, seen: Seen::Abort { reason } }
                if reason == "wamp.error.protocol_violation" && !facts.is_leaving(*client) =>
            {
                return Err(format!("{client:?} has broken no rule, and was aborted for that"));
            }
            _ => {}
        }
        Ok(())
    }

    /// WAMP, "Caller Leaving During an RPC Invocation".
    fn hushed(&mut self, facts: &Facts) -> Verdict {
        let works_in_vain = |((callee, _), work): &(&(ClientId, u64), &Work)| {
            let has_caller = !facts.is_leaving(work.call.0) || facts.is_source(work.call.0);
            let was_told = work.interrupted.contains(&CancelMode::KillNoWait);
            let can_be = facts.abilities(*callee).canceling && !facts.is_leaving(*callee);
            work.answered.is_none() && !has_caller && !was_told && can_be
        };
        match self.work.iter().find(works_in_vain) {
            Some(((callee, id), work)) => Err(format!(
                "{callee:?} works on invocation {id} for {:?}, which has gone, and is not interrupted",
                work.call.0
            )),
            None => Ok(()),
        }
    }
}

impl Interrupts {
    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Call { request, tag, wants, .. } => {
                let time = wants.timeout_ms.filter(|time| *time != 0);
                let due = time.map(|time| facts.now + Duration::from_millis(time));
                let in_parts = wants.progress || wants.more;
                self.calls.insert((client, *request), Call { in_parts, due, ..Call::default() });
                self.requests.insert(*tag, (client, *request));
            }
            Op::Cancel { request, mode } => {
                if let Some(call) = self.calls.get_mut(&(client, *request)) {
                    let is_kill = *mode == Some(CancelMode::Kill);
                    let line = if is_kill { &mut call.killed } else { &mut call.cancelled };
                    line.get_or_insert(facts.line);
                }
            }
            Op::Yield { invocation, .. } | Op::Fail { invocation, .. } | Op::PassOn { invocation, .. } => {
                if let Some(work) = self.work.get_mut(&(client, *invocation)) {
                    work.answered.get_or_insert(facts.line);
                }
            }
            _ => {}
        }
    }

    fn interrupted(&mut self, callee: ClientId, id: u64, mode: CancelMode, facts: &Facts) -> Verdict {
        let work = self.work.get_mut(&(callee, id)).ok_or("INTERRUPT of no invocation")?;
        if !facts.abilities(callee).canceling {
            return Err(format!("{callee:?} cannot be interrupted, and was at invocation {id}"));
        }
        if work.interrupted.contains(&mode) || work.interrupted.contains(&CancelMode::KillNoWait) {
            return Err(format!(
                "{callee:?} was interrupted again at {id}: {:?}, {mode:?}",
                work.interrupted
            ));
        }
        work.interrupted.push(mode);
        let (caller, request) = work.call;
        let call = &self.calls[&work.call];
        let answered = work.answered.unwrap_or(u64::MAX);
        let before = |line: Option<u64>| line.is_some_and(|line| line < answered);
        let has_reason = match mode {
            CancelMode::Kill => before(call.killed),
            CancelMode::KillNoWait => {
                before(call.cancelled)
                    || call.in_parts
                    || facts.is_leaving(caller)
                    || facts.is_source(caller)
                    || call.due.is_some_and(|due| due <= facts.now)
            }
            CancelMode::Skip => false,
        };
        if has_reason {
            return Ok(());
        }
        Err(format!("{callee:?} was interrupted by {mode:?} at call {request} of {caller:?} for no reason"))
    }
}
