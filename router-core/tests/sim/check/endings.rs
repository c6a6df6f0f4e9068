//! How calls end that have no answer of their callee: each error has its reason, and no call stays without one.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{Asked, ClientId, Event, Op, Seen, Tag},
    names,
    speech::{CALLEE_ERROR, NO_AVAILABLE_CALLEE},
};
use fanwire_codec::wamp2::CancelMode;
use fanwire_core::Instant;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

#[derive(Default)]
pub struct Endings {
    /// Those without their final answer.
    calls: BTreeMap<(ClientId, u64), Call>,
    requests: BTreeMap<Tag, (ClientId, u64)>,
    /// Who has asked for which procedure or pattern.
    registered: BTreeSet<(u8, ClientId)>,
    limited: BTreeSet<(u8, ClientId)>,
    /// When each part of a result was said.
    said: BTreeMap<(Tag, u32), Instant>,
}

struct Call {
    tag: Tag,
    in_parts: bool,
    time: Option<Duration>,
    /// From when its time counts, at the earliest.
    since: Instant,
    /// By `kill`, and by another mode.
    killed: bool,
    cancelled: bool,
    work: Option<Work>,
}

/// Who works on a call.
struct Work {
    callee: ClientId,
    id: u64,
    asked: Asked,
    answered: bool,
}

impl Checker for Endings {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::Ended { client, .. } => self.calls.retain(|(caller, _), _| caller != client),
            _ => {}
        }
        Ok(())
    }

    fn hushed(&mut self, facts: &Facts) -> Verdict {
        for ((caller, request), call) in &self.calls {
            let is_by_hook = facts.hooked && names::is_hooked(call.tag.name);
            if facts.is_leaving(*caller) || facts.is_source(*caller) || is_by_hook {
                continue;
            }
            if let Some(why) = call.should_have_ended(facts) {
                return Err(format!("request {request} of {caller:?} has no answer, though {why}"));
            }
        }
        Ok(())
    }
}

impl Call {
    /// Nothing is on its way, and no callee has said anything for long.
    fn should_have_ended(&self, facts: &Facts) -> Option<&'static str> {
        let Some(work) = &self.work else { return Some("nobody works on it") };
        if facts.is_leaving(work.callee) {
            return Some("its callee has gone");
        }
        if work.answered {
            return Some("its callee has answered");
        }
        if self.time.is_some() && work.asked.timeout_ms.is_none() {
            return Some("its time is over");
        }
        if self.cancelled || self.killed && !facts.abilities(work.callee).canceling {
            return Some("it was cancelled");
        }
        None
    }
}

impl Endings {
    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Call { request, tag, wants, .. } => {
                let time = wants.timeout_ms.filter(|time| *time != 0).map(Duration::from_millis);
                let call = Call {
                    tag: *tag,
                    in_parts: wants.more,
                    time,
                    since: facts.now,
                    killed: false,
                    cancelled: false,
                    work: None,
                };
                self.calls.insert((client, *request), call);
                self.requests.insert(*tag, (client, *request));
            }
            Op::Cancel { request, mode } => {
                if let Some(call) = self.calls.get_mut(&(client, *request)) {
                    let is_kill = *mode == Some(CancelMode::Kill);
                    *(if is_kill { &mut call.killed } else { &mut call.cancelled }) = true;
                }
            }
            Op::Register { procedure, offer, .. } => {
                self.registered.insert((*procedure, client));
                if offer.concurrency.is_some() {
                    self.limited.insert((*procedure, client));
                }
            }
            Op::YieldPart { tag, part, .. } => {
                self.said.insert((*tag, *part), facts.now);
            }
            Op::Yield { invocation, tag } | Op::Fail { invocation, tag } | Op::PassOn { invocation, tag } => {
                let call = self.requests.get(tag).and_then(|request| self.calls.get_mut(request));
                if let Some(work) = call.and_then(|call| call.work.as_mut())
                    && (work.callee, work.id) == (client, *invocation)
                {
                    work.answered = true;
                }
            }
            _ => {}
        }
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Invocation { request, tag, asked, .. } => {
                let call = self.requests.get(tag).and_then(|request| self.calls.get_mut(request));
                if let Some(call) = call {
                    call.work = Some(Work { callee: client, id: *request, asked: *asked, answered: false });
                }
                Ok(())
            }
            Seen::Part { request, tag, part } => {
                if let Some(call) = self.calls.get_mut(&(client, *request))
                    && let Some(said) = self.said.get(&(*tag, *part))
                {
                    call.since = call.since.max(*said);
                }
                Ok(())
            }
            Seen::Result { request, .. } => {
                self.calls.remove(&(client, *request));
                Ok(())
            }
            Seen::Error { request, uri, .. } => match self.calls.remove(&(client, *request)) {
                Some(call) => self.has_reason(client, &call, uri, facts),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn has_reason(&self, caller: ClientId, call: &Call, uri: &str, facts: &Facts) -> Verdict {
        let has_reason = match uri {
            "wamp.error.timeout" => call.time.is_some_and(|time| call.since + time <= facts.now),
            // A source hears that its callee was cut before anybody else does.
            "wamp.error.canceled" => {
                facts.is_source(caller)
                    || call.cancelled
                    || call.killed && !self.is_awaited_callee(call, facts)
                    || self.may_lack_callee(call, facts)
            }
            "wamp.error.feature_not_supported" => call.in_parts,
            CALLEE_ERROR
            | "wamp.error.no_such_procedure"
            | "wamp.error.not_authorized"
            | "wamp.error.option_disallowed.disclose_me"
            | "wamp.error.unavailable" => true,
            NO_AVAILABLE_CALLEE => self.may_find_nobody(call, facts),
            "timed out" => facts.is_source(caller),
            _ => false,
        };
        if has_reason {
            return Ok(());
        }
        Err(format!("{caller:?} saw {uri} for {:?}, for no reason", call.tag))
    }

    /// Somebody works on it who was asked by `kill` to come to an end.
    fn is_awaited_callee(&self, call: &Call, facts: &Facts) -> bool {
        call.work.as_ref().is_some_and(|work| facts.abilities(work.callee).canceling)
    }

    /// Somebody takes so many calls only, or passes them on.
    fn may_find_nobody(&self, call: &Call, facts: &Facts) -> bool {
        let mut covering = self.registered.iter().filter(|(by, _)| names::covers(*by, call.tag.name));
        covering
            .any(|(by, callee)| self.limited.contains(&(*by, *callee)) || facts.abilities(*callee).reroute)
    }

    /// One of those who may have had it has left.
    fn may_lack_callee(&self, call: &Call, facts: &Facts) -> bool {
        let mut covering = self.registered.iter().filter(|(by, _)| names::covers(*by, call.tag.name));
        covering.any(|(_, callee)| facts.is_leaving(*callee))
    }
}
