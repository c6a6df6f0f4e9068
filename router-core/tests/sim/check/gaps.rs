//! What slow subscribers lose: only what their rules let them lose, and they are told of each event.
//!
//! `reach` finds what never came though it was owed, and hands it over here. At rest there may not be more of that than was
//! dropped, and for those that asked to be told, not more than they were told; who wants the newest of each key must have it.

use super::{Facts, Verdict};
use crate::history::{ClientId, Event, Op, Seen, Tag};
use fanwire_core::topics::SlowConsumer;
use std::collections::{BTreeMap, BTreeSet};

/// Subscriber, topic or pattern, topic, and key.
type Topic = (ClientId, u8, u8, Option<u8>);

#[derive(Default)]
pub struct Gaps {
    /// Owed and not seen, though the subscriber is there: by subscriber, and by which topic or pattern.
    missed: BTreeMap<ClientId, Vec<(Tag, u8)>>,
    /// Events that were lost, as told, by subscriber and subscription.
    told: BTreeMap<(ClientId, u64), u64>,
    told_in_all: u64,
    /// Who is told, from before its first subscription on.
    listeners: BTreeSet<ClientId>,
    subscribers: BTreeSet<ClientId>,
    /// Somebody left, or left a subscription: what it was not told of by then, it never is.
    somebody_left: bool,
    /// Of each publication its key, and the line at which it was given to its shard.
    published: BTreeMap<Tag, (Option<u8>, u64)>,
    /// The newest event seen of each publisher, by subscriber, topic or pattern, topic, and key.
    newest: BTreeMap<Topic, BTreeMap<ClientId, Tag>>,
}

impl Gaps {
    pub fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { op: Op::Publish { tag, key, .. }, .. } => {
                self.published.insert(*tag, (*key, facts.line));
            }
            Event::Did { client, op: Op::Unsubscribe { topic, .. } } => {
                self.somebody_left = true;
                if let (Some(topic), Some(missed)) = (topic, self.missed.get_mut(client)) {
                    missed.retain(|(_, by)| by != topic);
                }
            }
            Event::Did { op: Op::Goodbye | Op::Violate, .. }
            | Event::Ended { .. }
            | Event::Draining { .. } => self.somebody_left = true,
            Event::Saw { client, seen: Seen::Gap { of, lost, .. } } => {
                if *lost == 0 {
                    return Err(format!("{client:?} was told of a gap of nothing in {of}"));
                }
                *self.told.entry((*client, *of)).or_default() += lost;
                self.told_in_all += lost;
            }
            _ => {}
        }
        Ok(())
    }

    pub fn subscribed(&mut self, client: ClientId, to_gaps: bool) {
        if to_gaps && !self.subscribers.contains(&client) {
            self.listeners.insert(client);
        }
        self.subscribers.insert(client);
    }

    pub fn saw(&mut self, client: ClientId, by: u8, tag: &Tag) {
        let (key, _) = self.published[tag];
        // Of one publisher they come in order.
        self.newest.entry((client, by, tag.name, key)).or_default().insert(tag.from, *tag);
    }

    /// Nothing more is owed to it.
    pub fn forget(&mut self, client: ClientId) {
        self.missed.remove(&client);
    }

    pub fn miss(&mut self, client: ClientId, tag: Tag, by: u8) {
        self.missed.entry(client).or_default().push((tag, by));
    }

    /// An event came: what is missing before it, by the same topic or pattern, was told before it.
    pub fn told_before(&self, client: ClientId, by: u8, asked: &BTreeMap<u64, u8>, facts: &Facts) -> Verdict {
        // What is lost between shards is not told.
        let Some(missed) = self.missed.get(&client).filter(|_| facts.losses == 0) else { return Ok(()) };
        if !self.listeners.contains(&client) {
            return Ok(());
        }
        let its: Vec<_> = missed.iter().filter(|(_, name)| *name == by).copied().collect();
        self.is_told(client, &its, asked)
    }

    /// Everything has come to rest. `asked` says which topic or pattern each subscription id stands for.
    pub fn settled(&self, asked: &BTreeMap<u64, u8>, facts: &Facts) -> Verdict {
        if self.told_in_all > facts.shed {
            return Err(format!("{} events were dropped, and {} told as lost", facts.shed, self.told_in_all));
        }
        // Whose publications were lost as a whole, nobody can tell from what was dropped here.
        if facts.losses > 0 {
            return Ok(());
        }
        let missed: u64 = self.missed.values().map(|missed| missed.len() as u64).sum();
        if missed > facts.shed {
            return Err(format!("{missed} events never came, and {} were counted as dropped", facts.shed));
        }
        let all_listen = self.subscribers.iter().all(|client| self.listeners.contains(client));
        if all_listen && !self.somebody_left && self.told_in_all != facts.shed {
            return Err(format!(
                "everybody is told of gaps, {} events were dropped, and {} told",
                facts.shed, self.told_in_all
            ));
        }
        let mut unexplained = 0;
        for (client, missed) in &self.missed {
            if self.listeners.contains(client) {
                self.is_told(*client, missed, asked)?;
            }
            // One that was dropped for want of room may have replaced others of its key before.
            let mut keys = BTreeSet::new();
            for (tag, by) in missed.iter().filter(|(tag, by)| !self.is_outdated(*client, tag, *by, facts)) {
                match facts.rules.of(*by).slow_consumer {
                    SlowConsumer::Conflate => drop(keys.insert((*by, tag.name, self.published[tag].0))),
                    _ => unexplained += 1,
                }
            }
            unexplained += keys.len();
        }
        if unexplained as u64 > facts.shed_for_room {
            return Err(format!(
                "{unexplained} events never came that no newer one of their key replaced, and {} were dropped for want of room",
                facts.shed_for_room
            ));
        }
        Ok(())
    }

    fn is_told(&self, client: ClientId, missed: &[(Tag, u8)], asked: &BTreeMap<u64, u8>) -> Verdict {
        let mut by_name: BTreeMap<u8, u64> = BTreeMap::new();
        for (_, by) in missed {
            *by_name.entry(*by).or_default() += 1;
        }
        for (name, count) in by_name {
            // A topic may have had several subscription ids one after the other.
            let its = |((of, subscription), _): &(&(ClientId, u64), &u64)| {
                *of == client && asked.get(subscription) == Some(&name)
            };
            let told: u64 = self.told.iter().filter(its).map(|(_, lost)| lost).sum();
            if told < count {
                return Err(format!(
                    "{client:?} never saw {count} events by {name:#x}, and was told of {told}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a newer event of the same key came. Of two publishers the newer one is known where both are on one shard, and
    /// nothing that was given to it had to wait, for room or for a hook.
    fn is_outdated(&self, client: ClientId, tag: &Tag, by: u8, facts: &Facts) -> bool {
        if facts.rules.of(by).slow_consumer != SlowConsumer::Conflate {
            return false;
        }
        let (key, line) = self.published[tag];
        let is_newer = |seen: &Tag| {
            let nothing_waited = facts.parked == 0 && !facts.hooked;
            let is_known = nothing_waited && facts.shard(seen.from) == facts.shard(tag.from);
            match seen.from == tag.from {
                true => seen.number > tag.number,
                false => !is_known || self.published[seen].1 > line,
            }
        };
        let seen = self.newest.get(&(client, by, tag.name, key));
        seen.is_some_and(|seen| seen.values().any(is_newer))
    }
}
