//! O7 of what comes in parts: parts of a result, to callers that want them, and parts of a call, to the callee that has the first one.

use super::{Checker, Facts, Verdict};
use crate::history::{Asked, ClientId, Event, Op, Seen, Tag, Wants};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Parts {
    calls: BTreeMap<(ClientId, u64), Call>,
    /// Who works on what: by callee and invocation.
    work: BTreeMap<(ClientId, u64), Work>,
    /// The call of each part, and its place there.
    parts: BTreeMap<Tag, ((ClientId, u64), usize)>,
    /// Parts of its result that callees have said, by the call.
    said: BTreeMap<Tag, u32>,
    /// Whether the callee wants to know of timeouts, and since which line it does, by its request and by its registration.
    registering: BTreeMap<(ClientId, u64), (bool, u64)>,
    forwards: BTreeMap<(ClientId, u64), (bool, u64)>,
}

struct Call {
    tag: Tag,
    made_at: u64,
    wants: Wants,
    /// Its parts, and whether more followed each.
    parts: Vec<(Tag, bool)>,
    /// Parts of its result that came.
    came: u32,
    /// Its callee, and how many parts that has seen.
    callee: Option<(ClientId, usize)>,
    /// More of it goes nowhere.
    was_cancelled: bool,
    has_ended: bool,
}

struct Work {
    call: (ClientId, u64),
    /// Whether its callee wanted to know of timeouts when it was called; it may have registered again since.
    is_forwarded: bool,
}

impl Checker for Parts {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::Ended { client, .. } => {
                for (_, call) in self.calls.range_mut((*client, 0)..=(*client, u64::MAX)) {
                    call.has_ended = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hushed(&mut self, facts: &Facts) -> Verdict {
        for ((caller, request), call) in &self.calls {
            let Some((callee, seen)) = call.callee else { continue };
            let is_over = call.has_ended || call.was_cancelled;
            let is_left = facts.is_leaving(*caller) || facts.is_leaving(callee);
            if !is_over && !is_left && seen != call.parts.len() {
                return Err(format!(
                    "{callee:?} has {seen} parts of call {request} of {caller:?}, which said {}",
                    call.parts.len()
                ));
            }
        }
        Ok(())
    }
}

impl Parts {
    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Call { request, tag, wants, .. } => {
                let parts = vec![(*tag, wants.more)];
                let call = Call {
                    tag: *tag,
                    made_at: facts.line,
                    wants: *wants,
                    parts,
                    came: 0,
                    callee: None,
                    was_cancelled: false,
                    has_ended: false,
                };
                self.calls.insert((client, *request), call);
                self.parts.insert(*tag, ((client, *request), 0));
            }
            Op::CallOn { request, tag, more } => {
                let call = self.calls.get_mut(&(client, *request)).expect("it has a first part");
                self.parts.insert(*tag, ((client, *request), call.parts.len()));
                call.parts.push((*tag, *more));
            }
            Op::Cancel { request, .. } => {
                if let Some(call) = self.calls.get_mut(&(client, *request)) {
                    call.was_cancelled = true;
                }
            }
            Op::YieldPart { tag, part, .. } => {
                self.said.insert(*tag, *part + 1);
            }
            Op::Register { request, offer, .. } => {
                self.registering.insert((client, *request), (offer.forward_timeout, facts.line));
            }
            _ => {}
        }
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Registered { request, registration } => {
                let forwards = self.registering.get(&(client, *request)).copied().unwrap_or_default();
                self.forwards.insert((client, *registration), forwards);
                Ok(())
            }
            Seen::Invocation { request, registration, tag, asked, .. } => {
                self.invoked(client, (*request, *registration), tag, asked, facts)
            }
            Seen::Part { request, tag, part } => self.part_came(client, *request, tag, *part),
            Seen::Result { request, .. } => self.ended(client, *request, true),
            Seen::Error { request, tag, .. } => self.ended(client, *request, tag.is_some()),
            _ => Ok(()),
        }
    }

    fn invoked(
        &mut self,
        callee: ClientId,
        (id, registration): (u64, u64),
        tag: &Tag,
        asked: &Asked,
        facts: &Facts,
    ) -> Verdict {
        let (key, place) = *self.parts.get(tag).ok_or("an invocation that nobody called")?;
        let call = self.calls.get_mut(&key).expect("it has parts");
        let abilities = facts.abilities(callee);
        // What is on its way to a callee that registers again goes by what it wanted before.
        let is_asked = asked.timeout_ms.is_some();
        let forwards = || match self.forwards.get(&(callee, registration)) {
            Some((_, since)) if call.made_at < *since => is_asked,
            Some((forwards, _)) => *forwards,
            None => false,
        };
        let is_forwarded = match self.work.get(&(callee, id)) {
            None if place > 0 => {
                return Err(format!("{callee:?} was called by {tag:?}, which is but a part of a call"));
            }
            None => {
                let is_forwarded = abilities.timeout && forwards();
                self.work.insert((callee, id), Work { call: key, is_forwarded });
                call.callee = Some((callee, 1));
                is_forwarded
            }
            Some(work) => {
                let due = call.callee.map(|(_, seen)| seen);
                if work.call != key || due != Some(place) {
                    return Err(format!("{callee:?} saw {tag:?}, and part {due:?} of its call was next"));
                }
                call.callee = Some((callee, place + 1));
                work.is_forwarded
            }
        };
        if place > 0 && !(abilities.parts && abilities.canceling) {
            return Err(format!("{callee:?} takes no calls in parts, and saw {tag:?}"));
        }
        let time = call.wants.timeout_ms.filter(|time| *time != 0);
        let due = Asked {
            progress: call.wants.progress && abilities.progress,
            more: call.parts[place].1,
            timeout_ms: time.filter(|_| is_forwarded),
        };
        if *asked != due {
            return Err(format!("{callee:?} is asked {asked:?} for {tag:?}, and that should be {due:?}"));
        }
        Ok(())
    }

    fn part_came(&mut self, client: ClientId, request: u64, tag: &Tag, part: u32) -> Verdict {
        let call = self.calls.get_mut(&(client, request)).ok_or("a part of the result of no call")?;
        if call.has_ended {
            return Err(format!("O7: {client:?} saw part {part} of {tag:?} after the end"));
        }
        if call.tag != *tag {
            return Err(format!("O7: {client:?} called {:?} and got a part of {tag:?}", call.tag));
        }
        if !call.wants.progress {
            return Err(format!("{client:?} saw a part of {tag:?}, and wanted none"));
        }
        if call.came != part {
            return Err(format!("O7: {client:?} saw part {part} of {tag:?} where {} was next", call.came));
        }
        if self.said.get(tag).is_none_or(|said| *said <= part) {
            return Err(format!("{client:?} saw part {part} of {tag:?}, which nobody has said"));
        }
        call.came += 1;
        Ok(())
    }

    /// The final answer. What the callee has said before it has come.
    fn ended(&mut self, client: ClientId, request: u64, is_the_callees: bool) -> Verdict {
        let Some(call) = self.calls.get_mut(&(client, request)) else { return Ok(()) };
        call.has_ended = true;
        let said = self.said.get(&call.tag).copied().unwrap_or_default();
        if is_the_callees && call.wants.progress && call.came != said {
            let Call { tag, came, .. } = call;
            return Err(format!("O7: of {tag:?} {said} parts were said before the end, and {came} came"));
        }
        Ok(())
    }
}
