//! The meta desk: who listens hears of all sessions, subscriptions and registrations, in an order that makes sense; what a
//! session leaves behind is published once; what is taken from a client is taken, and it is told if it can be.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, Op, Seen, Tag},
    meta::{Becomes, News},
    names::{self, META_FIRST, REALM_BIT},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Meta {
    subscribing: BTreeMap<(ClientId, u64), (u8, u64)>,
    registering: BTreeMap<(ClientId, u64), (u8, u64)>,
    /// What stands, since when: subscriptions, by client and topic or pattern.
    standing: BTreeMap<(ClientId, u8), u64>,
    /// When each client last wanted no more of a topic or pattern.
    unsubscribed: BTreeMap<(ClientId, u8), u64>,
    /// When each client said hello.
    came_at: BTreeMap<ClientId, u64>,
    /// What must be told unless nobody listens: since when somebody has to have listened.
    due: Vec<(u64, u8, News)>,
    told: BTreeSet<News>,
    /// Subscriptions and registrations of which something was told, and whether that was their end.
    entries: BTreeMap<(bool, u64), bool>,
    /// What sessions leave behind.
    testaments: BTreeMap<ClientId, [Vec<Tag>; 2]>,
    heirs: BTreeMap<ClientId, ClientId>,
    gone: BTreeSet<ClientId>,
    /// Who was sent away first by this, and is to be told so; and whose end nobody hears of.
    reasons: BTreeMap<ClientId, String>,
    hushed: BTreeSet<ClientId>,
    /// What was taken from whom, and when: subscriptions and registrations. Without a time where the client was asking for
    /// it again, and may have got it after that.
    taken: BTreeMap<(ClientId, bool, u8), Option<u64>>,
    /// What anybody ever wanted by force.
    forced: BTreeSet<u8>,
    /// How many of these each client is still to be told of.
    untold: BTreeMap<(ClientId, bool, u8), u64>,
    /// What ids stand for, by client.
    asked: BTreeMap<(ClientId, bool, u64), u8>,
    said_at: BTreeMap<Tag, u64>,
}

impl Checker for Meta {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::News { realm, news } => return self.news(*realm, news, facts),
            Event::Testament { client, is_detached, tag, outcome } => {
                return self.testament(*client, *is_detached, tag, outcome, facts);
            }
            Event::Flushed { client, is_detached } => {
                let kept = self.testaments.entry(*client).or_default();
                kept[usize::from(!*is_detached)].clear();
            }
            Event::Revoked { client, is_subscription, name } => {
                if *is_subscription {
                    self.standing.remove(&(*client, *name));
                }
                let asks_again = self.asks_for(*client, *is_subscription, *name);
                let at = (!asks_again).then_some(facts.line);
                self.taken.insert((*client, *is_subscription, *name), at);
                let abilities = facts.abilities(*client);
                let is_told =
                    if *is_subscription { abilities.subscriptions } else { abilities.registrations };
                *self.untold.entry((*client, *is_subscription, *name)).or_default() += u64::from(is_told);
            }
            Event::Killed { client, quietly, reason } => {
                if !facts.is_leaving(*client) {
                    self.reasons.insert(*client, reason.clone());
                }
                if *quietly {
                    self.hushed.insert(*client);
                }
            }
            Event::Draining { client } | Event::Ended { client, .. } => self.leaves(*client, facts),
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        for (since, realm, news) in &self.due {
            if self.told.contains(news) {
                continue;
            }
            let topic = (realm * REALM_BIT) | news.topic();
            let listens = |((client, asked), at): &(&(ClientId, u8), &u64)| {
                names::covers(*asked, topic) && *at < since && !facts.is_leaving(*client)
            };
            if let Some(((client, _), _)) = self.standing.iter().find(listens) {
                return Err(format!("{client:?} listens, and nobody told of {news:?}"));
            }
        }
        let is_due = |((client, is_subscription, name), count): &(&(ClientId, bool, u8), &u64)| {
            let is_known = *is_subscription || !self.forced.contains(name);
            **count > 0 && is_known && !facts.is_leaving(*client)
        };
        match self.untold.iter().find(is_due) {
            Some(((client, ..), _)) => {
                Err(format!("{client:?} was not told that something was taken from it"))
            }
            None => Ok(()),
        }
    }

    fn over(&mut self, _: &Facts) -> Verdict {
        let left = |(client, kept): &(&ClientId, &[Vec<Tag>; 2])| {
            !self.hushed.contains(client) && kept.iter().any(|tags| !tags.is_empty())
        };
        match self.testaments.iter().find(left) {
            Some((client, kept)) => Err(format!("{client:?} has gone, and nobody published {kept:?}")),
            None => Ok(()),
        }
    }
}

impl Meta {
    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Hello { .. } => {
                self.came_at.insert(client, facts.line);
            }
            Op::Subscribe { request, topic, .. } => {
                self.subscribing.insert((client, *request), (*topic, facts.line));
                self.taken.remove(&(client, true, *topic));
            }
            Op::Register { request, procedure, offer } => {
                if offer.force {
                    self.forced.insert(*procedure);
                }
                self.registering.insert((client, *request), (*procedure, facts.line));
                self.taken.remove(&(client, false, *procedure));
            }
            Op::Unsubscribe { topic: Some(topic), .. } => {
                self.standing.remove(&(client, *topic));
                self.unsubscribed.insert((client, *topic), facts.line);
            }
            Op::Publish { tag, .. } | Op::Call { tag, .. } => {
                self.said_at.insert(*tag, facts.line);
            }
            Op::Goodbye | Op::Violate => self.leaves(client, facts),
            _ => {}
        }
    }

    /// It is told that it has left, unless all are sent away.
    fn leaves(&mut self, client: ClientId, facts: &Facts) {
        self.standing.retain(|(holder, _), _| *holder != client);
        let is_first = self.gone.insert(client);
        if let Some(person) = facts.person(client).filter(|_| is_first && !self.hushed.contains(&client))
            && !facts.is_source(client)
            && person.session < FABLED
        {
            let realm = facts.realm(client);
            self.due.push((facts.line, realm, News::Left { session: person.session }));
        }
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Welcome(person) if person.session < FABLED => {
                let since = self.came_at.get(&client).copied().unwrap_or_default();
                self.due.push((since, facts.realm(client), News::Joined { session: person.session }));
            }
            Seen::Subscribed { request, subscription } => {
                if let Some((name, asked_at)) = self.subscribing.remove(&(client, *request)) {
                    let was_known = self.asked.insert((client, true, *subscription), name).is_some();
                    let is_wanted = self.unsubscribed.get(&(client, name)).is_none_or(|at| *at < asked_at)
                        && !self.taken.contains_key(&(client, true, name));
                    if is_wanted && !facts.is_leaving(client) {
                        self.standing.entry((client, name)).or_insert(facts.line);
                    }
                    self.joined(client, true, *subscription, (name, asked_at), was_known, facts);
                }
            }
            Seen::Registered { request, registration } => {
                if let Some((name, asked_at)) = self.registering.remove(&(client, *request)) {
                    let was_known = self.asked.insert((client, false, *registration), name).is_some();
                    self.joined(client, false, *registration, (name, asked_at), was_known, facts);
                }
            }
            Seen::Error { request, .. } => {
                self.subscribing.remove(&(client, *request));
                self.registering.remove(&(client, *request));
            }
            Seen::Revoked { is_subscription, id } => {
                let name = *self
                    .asked
                    .get(&(client, *is_subscription, *id))
                    .ok_or_else(|| format!("{client:?} saw {seen:?} of what it never had"))?;
                let owed = self.untold.entry((client, *is_subscription, name)).or_default();
                // By force others may have taken it, which it is told too.
                if *owed == 0 && (*is_subscription || !self.forced.contains(&name)) {
                    return Err(format!("{client:?} saw {seen:?}, and nothing was taken, or it is not told"));
                }
                *owed = owed.saturating_sub(1);
            }
            Seen::Event { subscription, tag, .. } => {
                return self.is_not_taken(client, true, *subscription, tag);
            }
            Seen::Invocation { registration, tag, .. } => {
                return self.is_not_taken(client, false, *registration, tag);
            }
            Seen::Goodbye { reason } => {
                if let Some(due) = self.reasons.get(&client).filter(|due| *due != reason) {
                    return Err(format!("{client:?} was sent away by {due} and told {reason}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn joined(
        &mut self,
        client: ClientId,
        is_subscription: bool,
        id: u64,
        (name, asked_at): (u8, u64),
        was_known: bool,
        facts: &Facts,
    ) {
        let person = facts.person(client).filter(|person| person.session < FABLED);
        // Nor are those of subscriptions in version 1.
        let is_news = !was_known && !names::is_meta(name) && id < FABLED;
        let Some(person) = person.filter(|_| is_news) else { return };
        let what = Becomes::Attached;
        let news = News::Entry { is_subscription, session: Some(person.session), id, what };
        self.due.push((asked_at, facts.realm(client), news));
    }

    /// Whether it has not been answered yet.
    fn asks_for(&self, client: ClientId, is_subscription: bool, name: u8) -> bool {
        let requests = if is_subscription { &self.subscribing } else { &self.registering };
        requests.range((client, 0)..=(client, u64::MAX)).any(|(_, (asked, _))| *asked == name)
    }

    /// What was published or called after it was taken does not come any more.
    fn is_not_taken(&self, client: ClientId, is_subscription: bool, id: u64, tag: &Tag) -> Verdict {
        // Who has lost it by force may have got it again, and not know of either.
        let is_known = |name: &&u8| is_subscription || !self.forced.contains(name);
        let name = self.asked.get(&(client, is_subscription, id)).filter(is_known);
        let taken = name.and_then(|name| *self.taken.get(&(client, is_subscription, *name))?);
        let is_after = taken.zip(self.said_at.get(tag)).is_some_and(|(taken, said)| *said > taken);
        if is_after {
            return Err(format!("{client:?} saw {tag:?} by {id}, which had been taken from it"));
        }
        Ok(())
    }

    fn news(&mut self, realm: u8, news: &News, facts: &Facts) -> Verdict {
        match news {
            News::Testaments(tags) => return self.inherited(tags),
            News::Joined { session } => {
                if self.told.contains(&News::Left { session: *session }) || self.told.contains(news) {
                    return Err(format!("{news:?} was told twice, or after the end"));
                }
            }
            News::Left { session } => {
                if self.told.contains(news) {
                    return Err(format!("{news:?} was told twice"));
                }
                let is_hushed =
                    |client: &ClientId| facts.person(*client).map(|one| one.session) == Some(*session);
                if self.hushed.iter().any(is_hushed) {
                    return Err(format!("{news:?} was told, though all were sent away"));
                }
            }
            News::Entry { is_subscription, id, what, .. } => {
                let known = self.entries.get(&(*is_subscription, *id)).copied();
                let is_late = known == Some(true) || known.is_some() && matches!(what, Becomes::Created(_));
                if is_late {
                    return Err(format!("{news:?} was told after others of it"));
                }
                self.entries.insert((*is_subscription, *id), *what == Becomes::Deleted);
                if let Becomes::Created(name) = what
                    && (names::is_meta(*name) || name & REALM_BIT != realm * REALM_BIT)
                {
                    return Err(format!("nobody should hear of {news:?}"));
                }
            }
        }
        self.told.insert(news.clone());
        Ok(())
    }

    fn testament(
        &mut self,
        client: ClientId,
        is_detached: bool,
        tag: &Tag,
        outcome: &Result<(), String>,
        facts: &Facts,
    ) -> Verdict {
        let may_publish = names::may_send(facts.role(client), tag.name) && !names::is_meta(tag.name);
        let is_allowed = may_publish && !(facts.hooked && names::is_hooked(tag.name));
        match outcome {
            Ok(()) if is_allowed => {
                self.heirs.insert(tag.from, client);
                self.testaments.entry(client).or_default()[usize::from(!is_detached)].push(*tag);
                Ok(())
            }
            Err(uri) if uri != "wamp.error.not_authorized" || !is_allowed => Ok(()),
            other => Err(format!("{client:?} left {tag:?} behind: {other:?}")),
        }
    }

    /// All that somebody left behind, in order, once.
    fn inherited(&mut self, tags: &[Tag]) -> Verdict {
        let first = tags.first().ok_or("nothing is left behind, and told")?;
        let client = self.heirs.get(&first.from).ok_or("testaments of nobody")?;
        let kept = std::mem::take(self.testaments.entry(*client).or_default());
        if self.hushed.contains(client) || kept.concat() != tags {
            return Err(format!("{client:?} left {kept:?} behind, and published are {tags:?}"));
        }
        Ok(())
    }
}

/// From here on the ids of sessions are made up: their clients are never told them.
const FABLED: u64 = 1 << 54;

const _: () = assert!(META_FIRST < REALM_BIT, "a topic of a realm");
