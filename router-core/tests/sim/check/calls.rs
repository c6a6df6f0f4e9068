//! O6, O7 and O9 of calls: a call reaches the callee that stands registered, the most precise one where patterns meet, and
//! its end is the callee's answer.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, Op, Ruling, Seen, Tag},
    names,
    speech::{CALLEE_ERROR, NO_AVAILABLE_CALLEE, UNAVAILABLE},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Calls {
    calls: BTreeMap<(ClientId, u64), Call>,
    /// Who has seen that it stands registered for a procedure or pattern.
    callees: BTreeMap<u8, BTreeSet<ClientId>>,
    /// What somebody took by force: who stands for it is not known.
    forced: BTreeSet<u8>,
    /// The procedure or pattern of each registration id.
    asked: BTreeMap<u64, u8>,
    unregistering: BTreeMap<(ClientId, u64), u8>,
    /// What each client asked last, by procedure or pattern, and may have.
    own: BTreeMap<(ClientId, u8), Own>,
    registering: BTreeMap<(ClientId, u64), u8>,
    /// How often callees began to take their registration of it back.
    withdrawn: BTreeMap<u8, u32>,
    /// By the call's tag.
    standing: BTreeMap<Tag, Vec<(u8, ClientId)>>,
    /// Who was called, and whom the hook was asked for.
    invoked: BTreeMap<Tag, Vec<ClientId>>,
    asked_about: BTreeSet<Tag>,
    /// Who has passed a call on.
    passed_on: BTreeSet<(Tag, ClientId)>,
    answers: BTreeMap<Tag, Answer>,
}

struct Call {
    tag: Tag,
    /// This one stood registered for this, and nobody else can be meant; it had begun so many withdrawals.
    callee: Option<(ClientId, u8, u32)>,
    /// The caller's own REGISTER, if that was its last word on the procedure.
    own_register: Option<u64>,
    /// How often callees had begun to take their registration of exactly this back.
    withdrawn: u32,
}

#[derive(Clone, Copy)]
enum Own {
    Register(u64),
    /// UNREGISTERED was not seen yet.
    Unregister,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Yield,
    Fail,
    PassOn,
    /// The hook cannot be asked.
    None,
}

impl Checker for Calls {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::Revoked { client, is_subscription: false, name } => {
                *self.withdrawn.entry(*name).or_default() += 1;
                self.own.insert((*client, *name), Own::Unregister);
                self.callees.entry(*name).or_default().remove(client);
            }
            Event::AskedToAnswer { tag, session } => return self.asked_to_answer(tag, *session, facts),
            Event::AnsweredCall { tag, ruling } => {
                let answer = match ruling {
                    Ruling::Allowed => Answer::Yield,
                    Ruling::Denied => Answer::Fail,
                    Ruling::Failed | Ruling::Full => Answer::None,
                };
                self.answers.entry(*tag).or_insert(answer);
            }
            Event::Ended { client, .. } => {
                self.calls.retain(|(caller, _), _| caller != client);
                self.callees.values_mut().for_each(|callees| callees.retain(|callee| callee != client));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Calls {
    /// The hook has to answer a call: once, whose it is, and no callee has it.
    fn asked_to_answer(&mut self, tag: &Tag, session: Option<u64>, facts: &Facts) -> Verdict {
        if !is_answered_by_hook(tag.name, facts) {
            return Err(format!("the hook is asked to answer {tag:?}, which is for callees"));
        }
        if !self.asked_about.insert(*tag) {
            return Err(format!("the hook is asked twice to answer {tag:?}"));
        }
        let caller = facts.person(tag.from).map(|person| person.session);
        if session != caller {
            return Err(format!("the hook is told that {session:?} calls {tag:?}, and it is {caller:?}"));
        }
        Ok(())
    }

    /// Who stands registered for the procedure, exactly or by a pattern, and may be called.
    fn standing_for(&self, name: u8, facts: &Facts) -> Vec<(u8, ClientId)> {
        let is_known = |by: &u8| names::covers(*by, name) && !self.forced.contains(by);
        let covering = self.callees.iter().filter(|(by, _)| is_known(by));
        let covering = covering.flat_map(|(by, callees)| callees.iter().map(|callee| (*by, *callee)));
        covering.filter(|(_, callee)| names::may_have(facts.role(*callee), name)).collect()
    }

    /// Of those that stand: the exact one, or the one pattern, if nobody else has asked for anything that covers the procedure.
    fn only_one(&self, name: u8, standing: &[(u8, ClientId)], facts: &Facts) -> Option<(u8, ClientId)> {
        if let Some(exact) = standing.iter().find(|(by, _)| *by == name) {
            return Some(*exact);
        }
        let others = self.own.keys().filter(|(client, by)| {
            names::covers(*by, name)
                && names::may_have(facts.role(*client), name)
                && !standing.contains(&(*by, *client))
        });
        match standing {
            [one] if others.count() == 0 => Some(*one),
            _ => None,
        }
    }

    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Register { request, procedure, offer } => {
                if offer.force {
                    self.forced.insert(*procedure);
                }
                self.registering.insert((client, *request), *procedure);
                // A second REGISTER of one's own is refused and changes nothing.
                if !matches!(self.own.get(&(client, *procedure)), Some(Own::Register(_))) {
                    self.own.insert((client, *procedure), Own::Register(*request));
                }
            }
            Op::Unregister { request, procedure: Some(procedure), .. } => {
                self.unregistering.insert((client, *request), *procedure);
                *self.withdrawn.entry(*procedure).or_default() += 1;
                self.own.insert((client, *procedure), Own::Unregister);
                self.callees.entry(*procedure).or_default().remove(&client);
            }
            Op::Call { request, tag, .. } => {
                let mut standing = self.standing_for(tag.name, facts);
                let is_answered_by_hook = is_answered_by_hook(tag.name, facts);
                if is_answered_by_hook {
                    standing.clear();
                }
                let callee = self
                    .only_one(tag.name, &standing, facts)
                    .map(|(by, callee)| (callee, by, self.withdrawn.get(&by).copied().unwrap_or_default()));
                self.standing.insert(*tag, standing);
                let own_register = match self.own.get(&(client, tag.name)) {
                    Some(Own::Register(request))
                        if !is_answered_by_hook && !self.forced.contains(&tag.name) =>
                    {
                        Some(*request)
                    }
                    _ => None,
                };
                let withdrawn = self.withdrawn.get(&tag.name).copied().unwrap_or_default();
                self.calls.insert((client, *request), Call { tag: *tag, callee, own_register, withdrawn });
            }
            Op::Yield { tag, .. } => {
                self.answers.insert(*tag, Answer::Yield);
            }
            Op::Fail { tag, .. } => {
                self.answers.insert(*tag, Answer::Fail);
            }
            Op::PassOn { tag, .. } => {
                self.answers.insert(*tag, Answer::PassOn);
                self.passed_on.insert((*tag, client));
            }
            _ => {}
        }
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Registered { request, registration } => {
                let procedure =
                    self.registering.remove(&(client, *request)).ok_or("REGISTERED out of nothing")?;
                self.asked.insert(*registration, procedure);
                if matches!(self.own.get(&(client, procedure)), Some(Own::Register(asked)) if asked == request)
                {
                    self.callees.entry(procedure).or_default().insert(client);
                }
                Ok(())
            }
            Seen::Error { request, .. } if self.registering.contains_key(&(client, *request)) => {
                let procedure = self.registering.remove(&(client, *request)).expect("the guard saw it");
                // The caller's own calls of meanwhile had no registration of its own to reach.
                for (_, call) in self.calls.range_mut((client, 0)..=(client, u64::MAX)) {
                    if call.own_register == Some(*request) {
                        call.own_register = None;
                    }
                }
                if matches!(self.own.get(&(client, procedure)), Some(Own::Register(asked)) if asked == request)
                {
                    self.own.remove(&(client, procedure));
                }
                Ok(())
            }
            Seen::Unregistered { request } => {
                if let Some(procedure) = self.unregistering.remove(&(client, *request))
                    && matches!(self.own.get(&(client, procedure)), Some(Own::Unregister))
                {
                    self.own.remove(&(client, procedure));
                }
                Ok(())
            }
            Seen::Invocation { registration, tag, .. } => {
                if is_answered_by_hook(tag.name, facts) {
                    return Err(format!("{client:?} was called for {tag:?}, which the hook answers"));
                }
                let before = self.invoked.entry(*tag).or_default();
                let passes_on = |callee: &ClientId| {
                    facts.abilities(*callee).reroute && self.passed_on.contains(&(*tag, *callee))
                };
                if before.contains(&client) || !before.iter().all(passes_on) {
                    return Err(format!("call {tag:?} was invoked at {client:?} and before at {before:?}"));
                }
                before.push(client);
                let by = self.asked.get(registration).copied().ok_or("an invocation of no registration")?;
                self.is_most_precise(client, by, tag, facts)
            }
            Seen::Result { request, tag } => self.ended(client, *request, Some(tag), Answer::Yield),
            Seen::Error { request, uri, tag, .. } if uri == CALLEE_ERROR => {
                self.ended(client, *request, tag.as_ref(), Answer::Fail)
            }
            Seen::Error { request, uri, tag: Some(tag), .. }
                if uri == UNAVAILABLE || uri == NO_AVAILABLE_CALLEE =>
            {
                let knows = self.invoked.get(tag).and_then(|callees| callees.last());
                let knows = knows.is_some_and(|callee| facts.abilities(*callee).reroute);
                if knows != (uri == NO_AVAILABLE_CALLEE) {
                    return Err(format!("{client:?} saw {uri} for {tag:?}, which a callee passed on"));
                }
                self.ended(client, *request, Some(tag), Answer::PassOn)
            }
            Seen::Error { request, uri, .. } => {
                let Some(call) = self.calls.remove(&(client, *request)) else { return Ok(()) };
                self.refused(client, &call, uri, facts)
            }
            _ => Ok(()),
        }
    }

    /// Nobody with precedence stood registered when the call was made.
    fn is_most_precise(&mut self, client: ClientId, by: u8, tag: &Tag, facts: &Facts) -> Verdict {
        let standing = self.standing.remove(tag).unwrap_or_default();
        let better = standing.iter().find(|(other, callee)| {
            names::precedence(*other) > names::precedence(by)
                && !facts.is_leaving(*callee)
                && !facts.abilities(*callee).reroute
        });
        match better {
            Some((other, callee)) => Err(format!(
                "{client:?} was called by {:?} for {tag:?}, though {callee:?} stood registered for {:?}",
                names::request(by),
                names::request(*other)
            )),
            None => Ok(()),
        }
    }

    fn ended(&mut self, client: ClientId, request: u64, tag: Option<&Tag>, answer: Answer) -> Verdict {
        let Some(call) = self.calls.remove(&(client, request)) else {
            return Err(format!("{client:?} saw the end of request {request}, which is no call"));
        };
        if tag != Some(&call.tag) {
            return Err(format!("O7: {client:?} called {:?} and got the answer to {tag:?}", call.tag));
        }
        if self.answers.get(&call.tag) != Some(&answer) {
            return Err(format!(
                "O7: {client:?} got {answer:?} of {tag:?}, which is not what the callee said"
            ));
        }
        Ok(())
    }

    fn refused(&self, client: ClientId, call: &Call, uri: &str, facts: &Facts) -> Verdict {
        let is_by_hook = is_answered_by_hook(call.tag.name, facts);
        if is_by_hook && uri == "wamp.error.no_such_procedure" {
            return Err(format!("{client:?} saw {uri} for {:?}, which the hook answers", call.tag));
        }
        if uri != "wamp.error.no_such_procedure" {
            return Ok(());
        }
        if let Some((callee, by, withdrawn)) = call.callee {
            let now = self.withdrawn.get(&by).copied().unwrap_or_default();
            if self.forced.contains(&by) {
                return Ok(());
            }
            if now == withdrawn && !facts.is_leaving(callee) {
                return Err(format!(
                    "O6: {client:?} did not reach {callee:?}, which stands registered: {:?}",
                    call.tag
                ));
            }
        }
        if let Some(request) = call.own_register {
            let stands = matches!(self.own.get(&(client, call.tag.name)), Some(Own::Register(asked)) if *asked == request);
            // Another one may have been picked, and gone.
            let withdrawn = self.withdrawn.get(&call.tag.name).copied().unwrap_or_default();
            let is_known = !self.forced.contains(&call.tag.name) && withdrawn == call.withdrawn;
            if is_known && stands && !self.registering.contains_key(&(client, request)) {
                return Err(format!("O9: {client:?} did not reach its own registration: {:?}", call.tag));
            }
        }
        Ok(())
    }
}

/// Whether calls of this procedure are the hook's to answer, whoever is registered.
fn is_answered_by_hook(name: u8, facts: &Facts) -> bool {
    facts.hooked && names::is_hooked(name)
}
