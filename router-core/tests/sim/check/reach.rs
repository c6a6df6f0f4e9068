//! O6, O8, O9 of publications: who must get an event, gets it, and before what.
//!
//! A publication is owed to a subscriber, once for each of its subscriptions that covers the topic, if the subscriber had seen SUBSCRIBED when the publication was given to its
//! shard (O6), or if it is the publisher itself, which asked to subscribe before (O9). A debt ends when the event is
//! seen, when the subscriber begins to unsubscribe or to leave, or when the router counted the loss: then one
//! publication may be missing on one shard per counted loss.

use super::{Checker, Facts, Verdict, gaps::Gaps};
use crate::{
    history::{ClientId, Event, Keep, Op, Ruling, Seen, Tag},
    names,
    orders::ORDERED,
    plan::disclosure,
};
use fanwire_core::access::Disclosure;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Default)]
pub struct Reach {
    /// Subscribers that have seen SUBSCRIBED and not begun to unsubscribe, by topic or pattern.
    subscribed: BTreeMap<u8, BTreeSet<ClientId>>,
    subscribing: BTreeMap<(ClientId, u64), u8>,
    /// Those requests that ask for what is kept.
    kept: BTreeSet<(ClientId, u64)>,
    /// The topic or pattern of each subscription id.
    asked: BTreeMap<u64, u8>,
    /// What each client asked last, by topic: the request, and whether to subscribe.
    own: BTreeMap<(ClientId, u8), (u64, bool)>,
    /// What is owed, by subscriber and publisher, oldest first.
    debts: BTreeMap<(ClientId, ClientId), VecDeque<Debt>>,
    /// By publisher and request: the publication, and the line at which it was given to the shard.
    publications: BTreeMap<(ClientId, u64), Tag>,
    done_at: BTreeMap<Tag, u64>,
    /// Owed publications whose publisher saw PUBLISHED, by subscriber: the publication and the line of PUBLISHED.
    acknowledged: BTreeMap<ClientId, Vec<(Tag, u64)>>,
    /// Publications that a hook is asked about.
    asked_about: BTreeMap<ClientId, Tag>,
    /// (publication, shard) pairs that were missed by somebody.
    missed: BTreeSet<(Tag, usize)>,
    gaps: Gaps,
}

struct Debt {
    tag: Tag,
    /// The topic or pattern by which it is owed.
    by: u8,
    void: bool,
    /// It is kept: who asks for that has it so, or something newer.
    kept: bool,
    /// Owed only if this SUBSCRIBE of the publisher itself is granted.
    subscribe: Option<u64>,
}

impl Checker for Reach {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        self.gaps.observe(event, facts)?;
        match event {
            Event::Did { client, op } => {
                self.did(*client, op, facts);
                if facts.is_leaving(*client) {
                    self.forget_subscriber(*client);
                }
            }
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::Revoked { client, is_subscription: true, name } => self.withdraw(*client, *name, 0),
            Event::Draining { client } => {
                self.forget_subscriber(*client);
                self.never_routed(*client);
            }
            Event::Ruled { client, request, ruling } => {
                let tag = self.publications.get(&(*client, *request)).copied();
                if let Some(tag) = tag.filter(|tag| self.asked_about.get(client) == Some(tag)) {
                    self.asked_about.remove(client);
                    if *ruling != Ruling::Allowed {
                        self.void(tag);
                    }
                }
            }
            Event::Ended { client, .. } => {
                self.forget_subscriber(*client);
                self.never_routed(*client);
                // What the publisher had still parked is counted as lost, or it arrives.
                self.publications.retain(|(publisher, _), _| publisher != client);
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        let owed: Vec<_> = self
            .debts
            .iter_mut()
            .flat_map(|(key, debts)| debts.drain(..).map(|debt| (key.0, debt)))
            .collect();
        owed.into_iter().try_for_each(|(subscriber, debt)| self.miss(subscriber, &debt, "at rest", facts))?;
        self.gaps.settled(&self.asked, facts)
    }
}

impl Reach {
    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Subscribe { request, topic, get_retained } => {
                if *get_retained {
                    self.kept.insert((client, *request));
                    self.void_kept(client, *topic);
                }
                self.subscribing.insert((client, *request), *topic);
                if !matches!(self.own.get(&(client, *topic)), Some((_, true))) {
                    self.own.insert((client, *topic), (*request, true));
                }
            }
            Op::Unsubscribe { request, topic: Some(topic), .. } => {
                self.withdraw(client, *topic, *request);
            }
            // What crosses the router's GOODBYE is ignored.
            Op::Publish { tag, .. } if facts.is_leaving(client) => {
                self.done_at.insert(*tag, facts.line);
            }
            // Whoever hears it cannot tell which one it is; or it may be refused for want of room.
            Op::Publish { request, tag, keep, acknowledge, .. }
                if facts.is_uncertain(*keep, *acknowledge) =>
            {
                self.publications.insert((client, *request), *tag);
                self.done_at.insert(*tag, facts.line);
            }
            Op::Publish { request, tag, exclude_me, lists, disclose, keep, .. } => {
                self.publications.insert((client, *request), *tag);
                self.done_at.insert(*tag, facts.line);
                let mut owed_to = self.owed(client, tag.name, *exclude_me);
                owed_to.retain(|(subscriber, _), _| names::may_have(facts.role(*subscriber), tag.name));
                if let Some(lists) = lists {
                    owed_to.retain(|(subscriber, _), _| {
                        facts.person(*subscriber).is_some_and(|one| lists.are_for(one))
                    });
                }
                let is_refused = facts.is_source(client) && !facts.may_ask_by_api(client, tag.name);
                if is_refused || *disclose && disclosure(tag.name) == Disclosure::Never {
                    owed_to.clear();
                } else if facts.hooked && !facts.is_source(client) && names::is_hooked(tag.name) {
                    self.asked_about.insert(client, *tag);
                }
                for ((subscriber, by), subscribe) in owed_to {
                    let debt = Debt { tag: *tag, by, void: false, kept: *keep == Keep::Kept, subscribe };
                    self.debts.entry((subscriber, client)).or_default().push_back(debt);
                }
            }
            _ => {}
        }
    }

    /// The client gets nothing more by this topic or pattern.
    fn withdraw(&mut self, client: ClientId, topic: u8, request: u64) {
        self.own.insert((client, topic), (request, false));
        self.subscribed.entry(topic).or_default().remove(&client);
        for (_, debts) in self.debts.range_mut((client, ClientId(0))..=(client, ClientId(u32::MAX))) {
            debts.iter_mut().filter(|debt| debt.by == topic).for_each(|debt| debt.void = true);
        }
    }

    /// What is kept and on its way may come as such, or not at all where something newer is kept: `retained` judges that.
    fn void_kept(&mut self, client: ClientId, topic: u8) {
        for (_, debts) in self.debts.range_mut((client, ClientId(0))..=(client, ClientId(u32::MAX))) {
            debts.iter_mut().filter(|debt| debt.kept && debt.by == topic).for_each(|debt| debt.void = true);
        }
    }

    /// To whom and by which topic or pattern; and if by the publisher's own wish that is not granted yet, its request.
    fn owed(&self, publisher: ClientId, name: u8, exclude_me: bool) -> BTreeMap<(ClientId, u8), Option<u64>> {
        let covering = self.subscribed.iter().filter(|(by, _)| names::covers(**by, name));
        let mut owed: BTreeMap<_, _> = covering
            .flat_map(|(by, subscribers)| subscribers.iter().map(|subscriber| ((*subscriber, *by), None)))
            .collect();
        if exclude_me {
            owed.retain(|(subscriber, _), _| *subscriber != publisher);
            return owed;
        }
        for ((_, by), (request, subscribes)) in self.own.range((publisher, 0)..=(publisher, u8::MAX)) {
            if *subscribes && names::covers(*by, name) {
                owed.entry((publisher, *by)).or_insert(Some(*request));
            }
        }
        owed
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Subscribed { request, subscription } => {
                let topic =
                    self.subscribing.remove(&(client, *request)).ok_or("SUBSCRIBED out of nothing")?;
                self.asked.insert(*subscription, topic);
                if self.kept.remove(&(client, *request)) {
                    self.void_kept(client, topic);
                }
                self.gaps.subscribed(client, names::is_gaps(topic));
                // Unless it has begun to unsubscribe since.
                // Requests of backends are numbered apart.
                let is_own = request & ORDERED == 0;
                let stands = matches!(self.own.get(&(client, topic)), Some((asked, true))
                    if asked == request || asked < request && is_own);
                if stands && !facts.is_leaving(client) {
                    self.subscribed.entry(topic).or_default().insert(client);
                }
                Ok(())
            }
            Seen::Error { request, .. } => {
                if let Some(topic) = self.subscribing.remove(&(client, *request)) {
                    if self.own.get(&(client, topic)) == Some(&(*request, true)) {
                        self.own.remove(&(client, topic));
                    }
                    for debt in self.debts.entry((client, client)).or_default() {
                        debt.void |= debt.subscribe == Some(*request);
                    }
                } else if let Some(tag) = self.publications.get(&(client, *request)).copied() {
                    // The publication was refused: nobody gets it.
                    self.void(tag);
                }
                Ok(())
            }
            Seen::Published { request, .. } => self.published(client, *request, facts),
            Seen::Event { subscription, tag, retained: false, .. } => {
                let by = self.asked.get(subscription).copied().ok_or("an event of no subscription")?;
                self.gaps.saw(client, by, tag);
                self.event(client, by, tag, facts)
            }
            _ => Ok(()),
        }
    }

    /// O8: the publisher's own event comes before PUBLISHED; the others' are on their way.
    fn published(&mut self, client: ClientId, request: u64, facts: &Facts) -> Verdict {
        let Some(tag) = self.publications.get(&(client, request)).copied() else { return Ok(()) };
        let waiting = |debts: &VecDeque<Debt>| {
            debts.iter().any(|debt| debt.tag == tag && !debt.void && !facts.rules.drops(debt.by))
        };
        if facts.losses == 0 && self.debts.get(&(client, client)).is_some_and(waiting) {
            return Err(format!("O8: {client:?} saw PUBLISHED before its own event {tag:?}"));
        }
        for ((subscriber, publisher), debts) in &self.debts {
            if *publisher == client && waiting(debts) {
                self.acknowledged.entry(*subscriber).or_default().push((tag, facts.line));
            }
        }
        Ok(())
    }

    fn event(&mut self, client: ClientId, by: u8, tag: &Tag, facts: &Facts) -> Verdict {
        // O1 is another checker's: an event that came makes what was owed before it missed.
        let debts = self.debts.entry((client, tag.from)).or_default();
        let mut overtaken = Vec::new();
        while debts.front().is_some_and(|debt| debt.tag.number < tag.number) {
            overtaken.extend(debts.pop_front());
        }
        debts.retain(|debt| debt.tag.number != tag.number || debt.by != by);
        overtaken.iter().try_for_each(|debt| self.miss(client, debt, "later ones came", facts))?;
        self.gaps.told_before(client, by, &self.asked, facts)?;
        self.ring_is_fifo(client, tag, facts)
    }

    /// O8: PUBLISHED means that the event is in the ring of each interested shard. So whatever the publisher's shard was
    /// given afterwards, by whichever client, comes later on that ring.
    fn ring_is_fifo(&mut self, client: ClientId, tag: &Tag, facts: &Facts) -> Verdict {
        let Some(acknowledged) = self.acknowledged.get_mut(&client) else { return Ok(()) };
        let debts = &self.debts;
        let still_owed = |owed: &Tag| {
            debts.get(&(client, owed.from)).is_some_and(|debts| {
                debts.iter().any(|debt| debt.tag == *owed && !debt.void && !facts.rules.drops(debt.by))
            })
        };
        acknowledged.retain(|(owed, _)| still_owed(owed));
        let done_at = self.done_at[tag];
        let overtaken = acknowledged
            .iter()
            .find(|(owed, seen_at)| facts.shard(owed.from) == facts.shard(tag.from) && done_at > *seen_at);
        match overtaken {
            Some((owed, _)) if facts.losses == 0 => Err(format!(
                "O8: {owed:?} was PUBLISHED before {tag:?} was even sent, and {client:?} lacks it"
            )),
            _ => Ok(()),
        }
    }

    fn miss(&mut self, subscriber: ClientId, debt: &Debt, when: &str, facts: &Facts) -> Verdict {
        if debt.void || facts.is_leaving(subscriber) {
            return Ok(());
        }
        if facts.rules.drops(debt.by) {
            self.gaps.miss(subscriber, debt.tag, debt.by);
            return Ok(());
        }
        self.missed.insert((debt.tag, facts.shard(subscriber)));
        if self.missed.len() as u64 > facts.losses {
            let missed: Vec<_> =
                self.missed.iter().map(|(tag, shard)| format!("{tag:?} on shard {shard}")).collect();
            return Err(format!(
                "O6, O9: {subscriber:?} never saw {:?} ({when}); {} were counted as lost, but missed were {}",
                debt.tag,
                facts.losses,
                missed.join(", ")
            ));
        }
        Ok(())
    }

    /// Nobody is owed this publication.
    fn void(&mut self, tag: Tag) {
        for debt in self.debts.values_mut().flatten() {
            debt.void |= debt.tag == tag;
        }
    }

    /// The publisher has left before the hook allowed what it published.
    fn never_routed(&mut self, publisher: ClientId) {
        if let Some(tag) = self.asked_about.remove(&publisher) {
            self.void(tag);
        }
    }

    fn forget_subscriber(&mut self, client: ClientId) {
        for subscribers in self.subscribed.values_mut() {
            subscribers.remove(&client);
        }
        self.debts.retain(|(subscriber, _), _| *subscriber != client);
        self.acknowledged.remove(&client);
        self.gaps.forget(client);
    }
}
