//! Inner subscribers: what sessions are promised of events, they are promised too, but for what their own outboxes refuse.
//!
//! | | |
//! |---|---|
//! | O1 | each publisher's events in their order, each once by each subscription |
//! | O2, O5 | none before the confirmation or after the end of a subscription |
//! | O6 | what is published after the confirmation comes, or had no room, or is counted as lost |
//! | – | nothing that came from itself, on whichever shard; nothing that lists of receivers keep from its role |

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, Inner, Lists, Op, Person, Ruling, Seen, Tag},
    names,
    plan::disclosure,
};
use fanwire_core::access::Disclosure;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Default)]
pub struct Inners {
    /// By their numbers: where they live.
    shards: BTreeMap<u32, usize>,
    /// What stands, and what was asked for.
    subscriptions: BTreeMap<(u32, u32), u8>,
    /// Number of the last event, by subscriber and publisher, and the subscriptions by which it came.
    events: BTreeMap<(u32, ClientId), (u32, Vec<u32>)>,
    /// By the inner subscriber that it comes from.
    said: BTreeMap<Tag, u32>,
    published: BTreeMap<Tag, Option<Box<Lists>>>,
    requests: BTreeMap<(ClientId, u64), Tag>,
    /// What is owed, by subscriber and publisher, oldest first.
    debts: BTreeMap<(u32, ClientId), VecDeque<Debt>>,
    /// Publications that a hook is asked about.
    asked_about: BTreeMap<ClientId, Tag>,
    /// (publication, shard) pairs that were missed by somebody.
    missed: BTreeSet<(Tag, usize)>,
}

struct Debt {
    tag: Tag,
    by: u32,
}

impl Checker for Inners {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Inner { inner, what } => return self.inner(*inner, what, facts),
            Event::Did {
                client,
                op: Op::Publish { request, tag, lists, disclose, keep, acknowledge, .. },
            } => {
                self.published.insert(*tag, lists.clone());
                let is_refused = facts.is_source(*client) && !facts.may_ask_by_api(*client, tag.name)
                    || *disclose && disclosure(tag.name) == Disclosure::Never;
                // What crosses the router's GOODBYE is ignored.
                if !facts.is_leaving(*client) && !is_refused {
                    self.requests.insert((*client, *request), *tag);
                    if !facts.is_uncertain(*keep, *acknowledge) {
                        self.owe(tag);
                    }
                    if facts.hooked && !facts.is_source(*client) && names::is_hooked(tag.name) {
                        self.asked_about.insert(*client, *tag);
                    }
                }
            }
            Event::Saw { client, seen: Seen::Error { request, .. } } => {
                if let Some(tag) = self.requests.get(&(*client, *request)).copied() {
                    self.void(tag);
                }
            }
            Event::Ruled { client, request, ruling } => {
                let tag = self.requests.get(&(*client, *request)).copied();
                if let Some(tag) = tag.filter(|tag| self.asked_about.get(client) == Some(tag)) {
                    self.asked_about.remove(client);
                    if *ruling != Ruling::Allowed {
                        self.void(tag);
                    }
                }
            }
            // It has left before the hook allowed what it published.
            Event::Draining { client } | Event::Ended { client, .. } => {
                if let Some(tag) = self.asked_about.remove(client) {
                    self.void(tag);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        let owed = std::mem::take(&mut self.debts);
        owed.into_iter().try_for_each(|((inner, _), debts)| {
            debts.iter().try_for_each(|debt| self.miss(inner, debt, "at rest", facts))
        })
    }
}

impl Inners {
    fn inner(&mut self, inner: u32, what: &Inner, facts: &Facts) -> Verdict {
        match what {
            Inner::Made { shard, .. } => {
                self.shards.insert(inner, *shard);
            }
            Inner::Subscribed { by, asked } => {
                self.subscriptions.insert((inner, *by), *asked);
            }
            Inner::Unsubscribed { by } => {
                self.subscriptions.remove(&(inner, *by)).ok_or("the end of no subscription")?;
                let own = self.debts.range_mut((inner, ClientId(0))..=(inner, ClientId(u32::MAX)));
                own.for_each(|(_, debts)| debts.retain(|debt| debt.by != *by));
            }
            Inner::Says { tag } => {
                self.said.insert(*tag, inner);
            }
            Inner::Heard { by, topic, tag, .. } => {
                if *topic != names::uri(tag.name) {
                    return Err(format!("inner subscriber {inner} heard {tag:?} as one of {topic}"));
                }
                self.came(inner, *by, tag, facts)?;
            }
            Inner::Lost { by, tag } => self.came(inner, *by, tag, facts)?,
        }
        Ok(())
    }

    /// To whom a publication is owed.
    fn owe(&mut self, tag: &Tag) {
        for ((inner, by), asked) in &self.subscriptions {
            if names::covers(*asked, tag.name) && self.is_for(*inner, tag) {
                self.debts.entry((*inner, tag.from)).or_default().push_back(Debt { tag: *tag, by: *by });
            }
        }
    }

    /// Whether it did not come from this one, and is for its role.
    fn is_for(&self, inner: u32, tag: &Tag) -> bool {
        let one = Person { session: 0, authid: String::new(), authrole: names::ROLES[0].to_owned() };
        let lists = self.published.get(tag).and_then(Option::as_deref);
        self.said.get(tag) != Some(&inner) && lists.is_none_or(|lists| lists.are_for(&one))
    }

    /// The event was offered to its outbox.
    fn came(&mut self, inner: u32, by: u32, tag: &Tag, facts: &Facts) -> Verdict {
        if !self.published.contains_key(tag) {
            return Err(format!(
                "inner subscriber {inner} was given an event that nobody published: {tag:?}"
            ));
        }
        let asked = self.subscriptions.get(&(inner, by));
        if !asked.is_some_and(|asked| names::covers(*asked, tag.name)) {
            return Err(format!(
                "O2, O5: inner subscriber {inner} was given {tag:?} outside its subscription {by}"
            ));
        }
        if !self.is_for(inner, tag) {
            return Err(format!("inner subscriber {inner} was given {tag:?}, which is not for it"));
        }
        let (number, came_by) = self.events.entry((inner, tag.from)).or_default();
        if *number > tag.number {
            return Err(format!("O1: event {tag:?} came to inner subscriber {inner} after number {number}"));
        }
        if *number < tag.number {
            (*number, *came_by) = (tag.number, Vec::new());
        }
        if came_by.contains(&by) {
            return Err(format!("event {tag:?} came to inner subscriber {inner} twice by subscription {by}"));
        }
        came_by.push(by);
        let debts = self.debts.entry((inner, tag.from)).or_default();
        let mut overtaken = Vec::new();
        while debts.front().is_some_and(|debt| debt.tag.number < tag.number) {
            overtaken.extend(debts.pop_front());
        }
        debts.retain(|debt| debt.tag.number != tag.number || debt.by != by);
        overtaken.iter().try_for_each(|debt| self.miss(inner, debt, "later ones came", facts))
    }

    fn miss(&mut self, inner: u32, debt: &Debt, when: &str, facts: &Facts) -> Verdict {
        self.missed.insert((debt.tag, self.shards[&inner]));
        if self.missed.len() as u64 > facts.losses {
            return Err(format!(
                "O6: inner subscriber {inner} never got {:?} ({when}); {} were counted as lost, but missed were {:?}",
                debt.tag, facts.losses, self.missed
            ));
        }
        Ok(())
    }

    /// Nobody is owed this publication.
    fn void(&mut self, tag: Tag) {
        self.debts.values_mut().for_each(|debts| debts.retain(|debt| debt.tag != tag));
    }
}
