//! Several callees of one procedure: they share one registration, and who of them is asked follows from the policy where the
//! order of things is known. None has more calls than it takes, and no call is refused while one of them is surely free.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, Offer, Op, Seen, Tag},
    names,
    speech::NO_AVAILABLE_CALLEE,
};
use fanwire_codec::wamp2::{CancelMode, InvokePolicy};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Shared {
    registering: BTreeMap<(ClientId, u64), (u8, Offer, u64)>,
    /// What each registration id stands for.
    asked: BTreeMap<u64, u8>,
    /// Who has seen that it stands for which procedure or pattern, and has not begun to take it back.
    standing: BTreeMap<u8, BTreeMap<ClientId, Member>>,
    /// Who ever asked for it, and when that was last.
    last_asked: BTreeMap<(u8, ClientId), u64>,
    /// When it was last taken from somebody, or given back.
    lost: BTreeMap<(ClientId, u8), u64>,
    /// When that last changed, or may have.
    changed: BTreeMap<u8, u64>,
    /// Who took it by force: when that was asked, and seen.
    taken: BTreeMap<u8, (ClientId, u64, u64)>,
    /// What anybody ever wanted by force, and when: the order of its callees is not known.
    forced: BTreeMap<u8, Vec<u64>>,
    calls: BTreeMap<Tag, Call>,
    requests: BTreeMap<(ClientId, u64), Tag>,
    /// Calls that may count for a callee.
    open: BTreeSet<Tag>,
    /// By callee and invocation: the call, by which registration, and when it was seen. Those without an answer.
    work: BTreeMap<(ClientId, u64), (Tag, u8, u64)>,
}

/// A callee that stands.
struct Member {
    offer: Offer,
    /// The lines of REGISTER and of REGISTERED.
    asked_at: u64,
    seen_at: u64,
    registration: u64,
}

struct Call {
    made_at: u64,
    /// It ends early, or may.
    is_hasty: bool,
    ended_at: Option<u64>,
    /// When the first callee saw it.
    asked_at: Option<u64>,
    /// Who was called, in order.
    callees: Vec<ClientId>,
    /// The least and most that callees had to do when it was made, where the one with the least is asked.
    loads: BTreeMap<ClientId, (usize, usize)>,
    /// Somebody who could take it when it was made.
    free: Option<ClientId>,
}

impl Call {
    /// Whether it was made before, and what became of it is known only since.
    fn is_under_way(&self, since: u64) -> bool {
        self.made_at <= since && self.asked_at.or(self.ended_at).is_none_or(|at| at > since)
    }
}

impl Checker for Shared {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::Revoked { client, is_subscription: false, name } => {
                self.changed.insert(*name, facts.line);
                self.lost.insert((*client, *name), facts.line);
                self.standing.entry(*name).or_default().remove(client);
            }
            Event::Draining { client } | Event::Ended { client, .. } => self.left(*client, facts.line),
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        for (by, members) in &self.standing {
            self.took_turns(*by, members, facts)?;
        }
        Ok(())
    }
}

impl Shared {
    fn left(&mut self, client: ClientId, line: u64) {
        let own = self.last_asked.keys().filter(|(_, asker)| *asker == client).map(|(by, _)| *by);
        self.changed.extend(own.map(|by| (by, line)));
        self.standing.values_mut().for_each(|members| members.retain(|callee, _| *callee != client));
    }

    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Register { request, procedure, offer } => {
                self.registering.insert((client, *request), (*procedure, *offer, facts.line));
                self.last_asked.insert((*procedure, client), facts.line);
                self.changed.insert(*procedure, facts.line);
                if offer.force {
                    self.forced.entry(*procedure).or_default().push(facts.line);
                }
            }
            Op::Unregister { procedure: Some(procedure), .. } => {
                self.changed.insert(*procedure, facts.line);
                self.lost.insert((client, *procedure), facts.line);
                self.standing.entry(*procedure).or_default().remove(&client);
            }
            Op::Goodbye | Op::Violate => self.left(client, facts.line),
            Op::Call { request, tag, wants, .. } => {
                let is_hasty = wants.timeout_ms.is_some_and(|time| time != 0) || facts.is_source(client);
                let (loads, free) = self.look(tag.name, facts);
                let call = Call {
                    made_at: facts.line,
                    is_hasty,
                    ended_at: None,
                    asked_at: None,
                    callees: Vec::new(),
                    loads,
                    free,
                };
                self.calls.insert(*tag, call);
                self.requests.insert((client, *request), *tag);
                self.open.insert(*tag);
            }
            Op::Cancel { request, mode } if *mode != Some(CancelMode::Kill) => {
                let call = self.requests.get(&(client, *request)).and_then(|tag| self.calls.get_mut(tag));
                if let Some(call) = call {
                    call.is_hasty = true;
                }
            }
            Op::Yield { invocation, .. } | Op::Fail { invocation, .. } | Op::PassOn { invocation, .. } => {
                self.work.remove(&(client, *invocation));
            }
            _ => {}
        }
    }

    /// What callees of exactly this procedure have to do now, and one that is free.
    fn look(&self, name: u8, facts: &Facts) -> (BTreeMap<ClientId, (usize, usize)>, Option<ClientId>) {
        let Some(members) = self.standing.get(&name).filter(|_| !self.forced.contains_key(&name)) else {
            return Default::default();
        };
        let load = |(callee, member): (&ClientId, &Member)| {
            (*callee, (self.least_load(*callee, name, member, facts), self.most_load(*callee, name)))
        };
        let loads: BTreeMap<_, _> = members.iter().map(load).collect();
        let has_room = |(callee, member): &(&ClientId, &Member)| {
            member.offer.concurrency.is_none_or(|max| (loads[*callee].1 as u64) < max)
        };
        let free = members.iter().find(has_room).map(|(callee, _)| *callee);
        (loads, free)
    }

    /// Calls that surely count for a callee.
    fn least_load(&self, callee: ClientId, by: u8, member: &Member, facts: &Facts) -> usize {
        let can_be_interrupted = facts.abilities(callee).canceling;
        let counts = |(tag, at, since): &&(Tag, u8, u64)| {
            let call = &self.calls[tag];
            let may_be_over = call.ended_at.is_some() || call.is_hasty || facts.is_leaving(tag.from);
            // What was on its way to it before it registered again counts for the registration that it had then.
            let is_its_own = *since > member.seen_at && call.made_at > member.asked_at;
            *at == by && is_its_own && !(can_be_interrupted && may_be_over)
        };
        self.work.range((callee, 0)..=(callee, u64::MAX)).filter(|(_, work)| counts(work)).count()
    }

    /// Calls that may count for it.
    fn most_load(&self, callee: ClientId, name: u8) -> usize {
        let may_have = |tag: &&Tag| {
            tag.name == name && self.calls[*tag].callees.last().is_none_or(|last| *last == callee)
        };
        self.open.iter().filter(may_have).count()
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Registered { request, registration } => {
                let known = self.registering.remove(&(client, *request));
                let (by, offer, asked_at) = known.ok_or("REGISTERED out of nothing")?;
                self.asked.insert(*registration, by);
                // It was taken away before its client knew that it had it, or goes back by the id that it had before.
                let is_lost = self.lost.get(&(client, by)).is_some_and(|at| *at > asked_at);
                self.changed.insert(by, facts.line);
                if is_lost {
                    return Ok(());
                }
                let member = Member { offer, asked_at, seen_at: facts.line, registration: *registration };
                self.joined(client, by, member, facts)
            }
            Seen::Error { request, .. } if self.registering.contains_key(&(client, *request)) => {
                self.registering.remove(&(client, *request));
                Ok(())
            }
            Seen::Invocation { request, registration, tag, .. } if self.calls.contains_key(tag) => {
                let by = *self.asked.get(registration).ok_or("an invocation of no registration")?;
                self.work.insert((client, *request), (*tag, by, facts.line));
                self.invoked(client, by, tag, facts)?;
                let call = self.calls.get_mut(tag).expect("the guard looked");
                call.asked_at.get_or_insert(facts.line);
                call.callees.push(client);
                Ok(())
            }
            Seen::Result { request, .. } => self.ended(client, *request, None, true, facts),
            Seen::Error { request, uri, tag, .. } => {
                self.ended(client, *request, Some(uri), tag.is_some(), facts)
            }
            _ => Ok(()),
        }
    }

    /// Who else stands shares the registration, or has lost it.
    fn joined(&mut self, client: ClientId, by: u8, member: Member, facts: &Facts) -> Verdict {
        let members = self.standing.entry(by).or_default();
        let forced = self.forced.get(&by).map_or(&[][..], Vec::as_slice);
        let stands = |(other, held): &(&ClientId, &Member)| {
            let was_taken = forced.iter().any(|at| (held.asked_at + 1..member.asked_at).contains(at));
            **other != client && held.seen_at < member.asked_at && !was_taken && !facts.is_leaving(**other)
        };
        if member.offer.force {
            if let Some((other, _)) =
                members.iter().filter(stands).find(|(other, _)| facts.role(**other) != facts.role(client))
            {
                return Err(format!("{client:?} took {by} by force from {other:?}, whose role is another"));
            }
            self.taken.insert(by, (client, member.asked_at, member.seen_at));
            members.clear();
        } else if forced.is_empty() {
            let shares = |held: &Member| {
                held.registration == member.registration
                    && held.offer.invoke == member.offer.invoke
                    && held.offer.invoke != InvokePolicy::Single
            };
            if let Some((other, held)) = members.iter().filter(stands).find(|(_, held)| !shares(held)) {
                let (own, theirs) = (member.offer, held.offer);
                return Err(format!("{client:?} has {by} by {own:?} beside {other:?} with {theirs:?}"));
            }
        }
        members.insert(client, member);
        Ok(())
    }

    fn invoked(&self, callee: ClientId, by: u8, tag: &Tag, facts: &Facts) -> Verdict {
        let call = &self.calls[tag];
        if let Some((taker, asked_at, seen_at)) = self.taken.get(&by) {
            let had = self.last_asked.get(&(by, callee)).is_some_and(|asked| asked < asked_at);
            if callee != *taker && had && call.made_at > *seen_at {
                return Err(format!(
                    "{callee:?} was called for {tag:?}, and {taker:?} had taken {by} from it"
                ));
            }
        }
        let Some(members) = self.standing.get(&by).filter(|_| !self.forced.contains_key(&by)) else {
            return Ok(());
        };
        let Some(own) = members.get(&callee) else { return Ok(()) };
        let load = self.least_load(callee, by, own, facts);
        if own.offer.concurrency.is_some_and(|max| load as u64 > max) {
            return Err(format!(
                "{callee:?} has {load} calls of {by} and takes {:?}: {tag:?}",
                own.offer.concurrency
            ));
        }
        let could_have_it = |(other, member): &(&ClientId, &Member)| {
            **other != callee
                && member.seen_at < call.made_at
                // It may have been due to it when the call was made, and it has registered again.
                && own.asked_at < call.made_at
                && member.offer.concurrency.is_none()
                && !facts.abilities(**other).reroute
                && !facts.is_leaving(**other)
                && names::may_have(facts.role(**other), tag.name)
        };
        let is_better = |(other, member): &(&ClientId, &Member)| match own.offer.invoke {
            InvokePolicy::First => member.seen_at < own.asked_at,
            InvokePolicy::Last => member.asked_at > own.seen_at,
            InvokePolicy::LeastLoaded => match (call.loads.get(*other), call.loads.get(&callee)) {
                (Some((_, most)), Some((least, _))) => most < least && by == tag.name,
                _ => false,
            },
            InvokePolicy::Single => true,
            InvokePolicy::RoundRobin | InvokePolicy::Random => false,
        };
        match members.iter().filter(could_have_it).find(is_better) {
            // Somebody had it before, and who was due next could take no more.
            Some(_) if self.may_pass_on(tag.name, facts) => Ok(()),
            Some((other, _)) => Err(format!(
                "{callee:?} was called for {tag:?}, and by {:?} it was {other:?} that was due",
                own.offer.invoke
            )),
            None => Ok(()),
        }
    }

    /// Whether it may come to others than the first one that was asked.
    fn may_pass_on(&self, name: u8, facts: &Facts) -> bool {
        let passes_on =
            |(by, asker): &(u8, ClientId)| names::covers(*by, name) && facts.abilities(*asker).reroute;
        self.last_asked.keys().any(passes_on)
    }

    /// `is_callees`: it is the callee's own word.
    fn ended(
        &mut self,
        client: ClientId,
        request: u64,
        uri: Option<&str>,
        is_callees: bool,
        facts: &Facts,
    ) -> Verdict {
        let Some(tag) = self.requests.get(&(client, request)) else { return Ok(()) };
        let call = self.calls.get_mut(tag).expect("both are noted at once");
        call.ended_at.get_or_insert(facts.line);
        let is_refused = call.callees.is_empty() && uri == Some(NO_AVAILABLE_CALLEE);
        if is_callees || is_refused || uri == Some("wamp.error.no_such_procedure") {
            self.open.remove(tag);
        }
        let Some(free) = call.free.filter(|_| is_refused) else { return Ok(()) };
        let members = &self.standing[&tag.name];
        let stood = members.get(&free).is_some_and(|member| member.seen_at < call.made_at);
        let may_pass_on = self.may_pass_on(tag.name, facts);
        if may_pass_on || !stood || self.forced.contains_key(&tag.name) || facts.is_leaving(free) {
            return Ok(());
        }
        Err(format!("{client:?} saw {NO_AVAILABLE_CALLEE} for {tag:?}, though {free:?} was free"))
    }

    /// Since nobody came or left, each was called as often as any other.
    fn took_turns(&self, by: u8, members: &BTreeMap<ClientId, Member>, facts: &Facts) -> Verdict {
        let is_plain = |(callee, member): (&ClientId, &Member)| {
            member.offer.invoke == InvokePolicy::RoundRobin
                && member.offer.concurrency.is_none()
                && !facts.abilities(*callee).reroute
        };
        let is_known = !names::is_pattern(by) && !self.forced.contains_key(&by);
        if members.len() < 2 || !is_known || !members.iter().all(is_plain) {
            return Ok(());
        }
        let since = self.changed[&by];
        let calls = self.calls.iter().filter(|(tag, call)| tag.name == by && call.made_at > since);
        let mut counts: BTreeMap<ClientId, u64> = members.keys().map(|callee| (*callee, 0)).collect();
        // What was on its way then may have had its turn before or since.
        let mut unseen =
            self.calls.iter().filter(|(tag, call)| tag.name == by && call.is_under_way(since)).count() as u64;
        for (_, call) in calls {
            match call.callees.first() {
                Some(callee) => *counts.entry(*callee).or_default() += 1,
                None => unseen += 1,
            }
        }
        let (most, least) = (counts.values().max(), counts.values().min());
        if most.zip(least).is_some_and(|(most, least)| *most > least + 1 + unseen) {
            return Err(format!("callees of {by} take turns, and were called so often: {counts:?}"));
        }
        Ok(())
    }
}
