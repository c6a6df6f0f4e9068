//! Calls of one modelled client, and what it is called for.

use super::{Asked, Client};
use crate::{
    history::{self, Abilities, Offer, Op, Tag, Wants},
    plan::Plan,
    rng::Rng,
};
use fanwire_codec::wamp2::{CancelMode, InvokePolicy};

/// What a client has been called for.
#[derive(Default)]
pub struct Work {
    invocations: Vec<Invocation>,
    /// What it works on though nobody waits for it.
    late: Vec<Invocation>,
    /// Id of the last one: what comes with an older id goes on.
    last: u64,
}

#[derive(Clone, Copy)]
struct Invocation {
    id: u64,
    tag: Tag,
    /// Parts of its result so far.
    parts: u32,
    /// The caller wants the result in parts, and it was told.
    progress: bool,
}

/// Interrupted invocations that a client remembers.
const LATE_MAX: usize = 8;

/// How a client registers.
pub fn offer(procedure: u8, plan: &Plan, rng: &mut Rng) -> Offer {
    // Most agree on the policy of a procedure.
    let other = usize::from(rng.chance(5));
    let policy = plan.policies[(usize::from(procedure) + other) % plan.policies.len()];
    Offer {
        forward_timeout: rng.chance(30),
        invoke: if rng.chance(plan.shared) { policy } else { InvokePolicy::Single },
        concurrency: rng.chance(plan.limited_callees).then(|| 1 + rng.below(3) as u64),
        force: rng.chance(plan.forced),
    }
}

/// What a client can do.
pub fn abilities(plan: &Plan, rng: &mut Rng) -> Abilities {
    let mut has = || rng.chance(plan.able);
    Abilities {
        canceling: has(),
        progress: has(),
        parts: has(),
        timeout: has(),
        calls_in_parts: has(),
        registrations: has(),
        subscriptions: has(),
        reroute: plan.passed_on > 0 && has(),
    }
}

impl Work {
    pub fn has_invocations(&self) -> bool {
        !self.invocations.is_empty()
    }

    pub fn invoked(&mut self, id: u64, tag: Tag, asked: &history::Asked) {
        if id > self.last {
            self.last = id;
            self.invocations.push(Invocation { id, tag, parts: 0, progress: asked.progress });
        }
    }

    /// After `kill` its answer is awaited; else it may say what it likes, or nothing.
    pub fn interrupted(&mut self, id: u64, mode: CancelMode) {
        let Some(place) = self.invocations.iter().position(|one| one.id == id) else { return };
        if mode == CancelMode::Kill {
            return;
        }
        self.late.push(self.invocations.swap_remove(place));
        if self.late.len() > LATE_MAX {
            self.late.remove(0);
        }
    }

    /// Something of what is due, or not any more.
    pub fn answer(&mut self, plan: &Plan, rng: &mut Rng) -> Option<Op> {
        let is_late = !self.late.is_empty() && (self.invocations.is_empty() || rng.chance(20));
        let from = if is_late { &mut self.late } else { &mut self.invocations };
        if from.is_empty() {
            return None;
        }
        let place = rng.below(from.len());
        let one = &mut from[place];
        let Invocation { id: invocation, tag, parts: part, progress } = *one;
        // Parts that nobody asked for go nowhere.
        if part < PARTS_MAX && rng.chance(if progress { plan.in_parts } else { plan.in_parts / 8 }) {
            one.parts += 1;
            return Some(Op::YieldPart { invocation, tag, part });
        }
        from.swap_remove(place);
        if rng.chance(plan.passed_on) {
            return Some(Op::PassOn { invocation, tag });
        }
        Some(if rng.chance(80) { Op::Yield { invocation, tag } } else { Op::Fail { invocation, tag } })
    }
}

/// Parts of one result; so that each comes to its end.
const PARTS_MAX: u32 = 20;

impl Client {
    /// A call, or another part of one.
    pub(super) fn call(&mut self, procedure: u8, plan: &Plan, rng: &mut Rng) -> Op {
        let open: Vec<(u64, u8)> = self
            .asked
            .iter()
            .filter_map(|(request, asked)| match asked {
                Asked::Call { more } => more.map(|name| (*request, name)),
                _ => None,
            })
            .collect();
        if !open.is_empty() && rng.chance(60) {
            let (request, name) = rng.pick(&open);
            let (tag, more) = (self.tag(name), rng.chance(60));
            let more_of = more.then_some(name);
            self.asked.insert(request, Asked::Call { more: more_of });
            return Op::CallOn { request, tag, more };
        }
        let tag = self.tag(procedure);
        let wants = Wants {
            progress: rng.chance(plan.in_parts),
            more: self.abilities.calls_in_parts && rng.chance(plan.in_parts),
            timeout_ms: rng.chance(plan.timed).then(|| rng.pick(&[0, 1, 5, TIMEOUT_MAX_MS])),
        };
        let disclose = rng.chance(plan.disclosed);
        let asked = Asked::Call { more: wants.more.then_some(procedure) };
        Op::Call { request: self.ask(Some(asked)), tag, disclose, wants }
    }

    /// Nothing where nothing is to be cancelled. Now and then what has ended already.
    pub(super) fn cancel(&mut self, rng: &mut Rng) -> Option<Op> {
        let calls = self.asked.iter().filter(|(_, asked)| matches!(asked, Asked::Call { .. }));
        let calls: Vec<u64> = calls.map(|(request, _)| *request).collect();
        if calls.is_empty() {
            return None;
        }
        let modes = [
            None,
            Some(CancelMode::Skip),
            Some(CancelMode::Kill),
            Some(CancelMode::Kill),
            Some(CancelMode::KillNoWait),
        ];
        Some(Op::Cancel { request: rng.pick(&calls), mode: rng.pick(&modes) })
    }
}

/// No call asks for more time.
pub const TIMEOUT_MAX_MS: u64 = 50;
