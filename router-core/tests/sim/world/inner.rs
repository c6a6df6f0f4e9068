//! Inner subscribers among the sessions: they subscribe and leave, take what comes or have no room for it, and some
//! publications by API come from one.

use super::{Verdict, World};
use crate::{
    history::{Event, Inner as What, Tag},
    names::{self, PATTERN_BIT, PATTERN_COUNT, REALM_BIT},
    speech,
};
use fanwire_core::{
    Readiness,
    api::{Actor, ApiAnswer, ApiRequest, Ask},
    ids::{RealmId, RoleId},
    inner::{InnerEvent, InnerId, InnerOutbox, InnerSubscription},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc::channel},
};

/// One of them.
pub struct Inner {
    number: u32,
    shard: usize,
    realm: u8,
    outbox: Arc<Outbox>,
    /// By tags: what was asked for.
    subscriptions: BTreeMap<u32, u8>,
    last_tag: u32,
    /// Events that its outbox took, and that it refused.
    pub heard: u64,
    pub refused: u64,
}

/// Has room for so many, until they are taken.
struct Outbox {
    room: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: usize,
    /// All that was offered and not told yet, and whether there was room.
    offered: Vec<(InnerEvent, bool)>,
}

impl InnerOutbox for Outbox {
    fn offer(&self, event: InnerEvent) -> Result<(), InnerEvent> {
        let mut state = self.state.lock().expect("no step panics with it");
        let has_room = state.waiting < self.room;
        state.waiting += usize::from(has_room);
        state.offered.push((event.clone(), has_room));
        if has_room { Ok(()) } else { Err(event) }
    }

    fn withdrawn(&self, _: u32) {
        unreachable!("no permission changes");
    }
}

impl Inner {
    pub fn id(&self) -> InnerId {
        InnerId::new(u64::from(self.number) + 1).expect("not 0")
    }
}

impl World {
    pub(super) fn introduce_inners(&mut self) -> Verdict {
        for number in 0..self.plan.inners as u32 {
            let (shard, realm) = (self.rng.below(self.plan.shards), self.rng.below(self.plan.realms) as u8);
            let outbox = Arc::new(Outbox { room: self.plan.inner_room, state: Mutex::default() });
            let subscriptions = BTreeMap::new();
            let inner =
                Inner { number, shard, realm, outbox, subscriptions, last_tag: 0, heard: 0, refused: 0 };
            self.inners.push(inner);
            self.tell(Event::Inner { inner: number, what: What::Made { shard, realm } })?;
        }
        Ok(())
    }

    /// Something that one of them does.
    pub(super) fn inner(&mut self) -> Verdict {
        if self.inners.is_empty() {
            return Ok(());
        }
        let which = self.rng.below(self.inners.len());
        match self.rng.below(10) {
            0..4 => self.subscribe_inner(which),
            4..6 => self.unsubscribe_inner(which),
            6 if self.rng.chance(20) => self.leave_inner(which),
            _ => {
                let outbox = &self.inners[which].outbox;
                outbox.state.lock().expect("no step panics with it").waiting = 0;
                Ok(())
            }
        }
    }

    /// The shard's answer; `None` while it takes no requests.
    fn ask_for_inner(&mut self, which: usize, ask: Ask) -> Option<ApiAnswer> {
        let at = self.inners[which].shard;
        self.show_ring_space(at);
        let shard = &mut self.homes[at].shard;
        shard.retry_parked(self.now);
        if shard.readiness() != Readiness::Now {
            return None;
        }
        let (sender, receiver) = channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is awaited"));
        shard.handle_api(self.now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
        Some(receiver.try_recv().expect("it is answered at once"))
    }

    fn subscribe_inner(&mut self, which: usize) -> Verdict {
        let Self { rng, plan, .. } = self;
        let name = match rng.chance(plan.patterns) {
            true => PATTERN_BIT | rng.below(PATTERN_COUNT) as u8,
            false => rng.below(plan.topics) as u8,
        };
        let inner = &mut self.inners[which];
        inner.last_tag += 1;
        let (number, tag, asked) = (inner.number, inner.last_tag, name | (inner.realm * REALM_BIT));
        let (match_policy, uri) = names::request(asked);
        let subscription = InnerSubscription {
            subscriber: inner.id(),
            tag,
            actor: Actor { realm: RealmId::new(inner.realm.into()), role: RoleId::new(0) },
            match_policy,
            uri: uri.into(),
            wants: None,
            outbox: Arc::clone(&inner.outbox) as Arc<dyn InnerOutbox>,
        };
        match self.ask_for_inner(which, Ask::Subscribe(subscription)) {
            None => Ok(()),
            Some(ApiAnswer::Subscribed(Ok(()))) => {
                self.inners[which].subscriptions.insert(tag, asked);
                self.tell(Event::Inner { inner: number, what: What::Subscribed { by: tag, asked } })
            }
            // It has, or the realm has, as many as it may.
            Some(ApiAnswer::Subscribed(Err(refusal))) if refusal.error == "wamp.error.unavailable" => Ok(()),
            other => Err(format!("inner subscriber {number} asked for {asked} and was answered {other:?}")),
        }
    }

    fn unsubscribe_inner(&mut self, which: usize) -> Verdict {
        let inner = &self.inners[which];
        let held: Vec<u32> = inner.subscriptions.keys().copied().collect();
        if held.is_empty() {
            return Ok(());
        }
        let (number, subscriber) = (inner.number, inner.id());
        let tag = self.rng.pick(&held);
        match self.ask_for_inner(which, Ask::Unsubscribe { subscriber, tag }) {
            None => Ok(()),
            Some(ApiAnswer::Unsubscribed(true)) => {
                self.hear_inners()?;
                self.inners[which].subscriptions.remove(&tag);
                self.tell(Event::Inner { inner: number, what: What::Unsubscribed { by: tag } })
            }
            other => Err(format!("inner subscriber {number} ended {tag} and was answered {other:?}")),
        }
    }

    /// It ends all that it has.
    fn leave_inner(&mut self, which: usize) -> Verdict {
        let (number, subscriber) = (self.inners[which].number, self.inners[which].id());
        match self.ask_for_inner(which, Ask::Leave { subscriber }) {
            None => Ok(()),
            Some(ApiAnswer::Unsubscribed(true)) => {
                self.hear_inners()?;
                let held = std::mem::take(&mut self.inners[which].subscriptions);
                held.into_keys().try_for_each(|by| {
                    self.tell(Event::Inner { inner: number, what: What::Unsubscribed { by } })
                })
            }
            other => Err(format!("inner subscriber {number} left and was answered {other:?}")),
        }
    }

    /// At rest.
    pub(super) fn all_inners_leave(&mut self) -> Verdict {
        for which in 0..self.inners.len() {
            self.leave_inner(which)?;
            if !self.inners[which].subscriptions.is_empty() {
                return Err("a shard at rest takes no requests".to_owned());
            }
        }
        Ok(())
    }

    /// The inner subscriber that a publication in this realm comes from, if it comes from one.
    pub(super) fn speaker(&mut self, realm: u8) -> Option<usize> {
        if self.inners.is_empty() || !self.rng.chance(self.plan.inner_says) {
            return None;
        }
        let which = self.rng.below(self.inners.len());
        (self.inners[which].realm == realm).then_some(which)
    }

    pub(super) fn says(&mut self, which: usize, tag: Tag) -> Verdict {
        let inner = self.inners[which].number;
        self.tell(Event::Inner { inner, what: What::Says { tag } })
    }

    /// What was offered since this was last done.
    pub(super) fn hear_inners(&mut self) -> Verdict {
        for which in 0..self.inners.len() {
            let inner = &mut self.inners[which];
            let mut state = inner.outbox.state.lock().expect("no step panics with it");
            let offered = std::mem::take(&mut state.offered);
            drop(state);
            let number = inner.number;
            for (event, has_room) in offered {
                let counter =
                    if has_room { &mut self.inners[which].heard } else { &mut self.inners[which].refused };
                *counter += 1;
                // Without arguments it has no tag.
                if event.payload.view().args.is_none_or(speech::is_empty) {
                    continue;
                }
                let tag = event.payload.view().args.and_then(speech::read_tag);
                let tag = tag.ok_or("a payload was lost or changed on its way to an inner subscriber")?;
                let (by, publication, topic) = (event.tag, event.publication.get(), event.topic().to_owned());
                let what = match has_room {
                    true => What::Heard { by, publication, topic, tag },
                    false => What::Lost { by, tag },
                };
                self.tell(Event::Inner { inner: number, what })?;
            }
        }
        Ok(())
    }

    /// Events that outboxes of this shard's inner subscribers took, and that they refused.
    pub(super) fn heard_on(&self, at: usize) -> (u64, u64) {
        let here = self.inners.iter().filter(|inner| inner.shard == at);
        here.fold((0, 0), |(heard, refused), inner| (heard + inner.heard, refused + inner.refused))
    }
}
