//! What was published, and by when it was done, as far as anybody can tell.
//!
//! What a hook is asked about and what comes by API is done at some time between its request and its answer; all else at
//! once. So what may have been earlier or later than something else proves nothing.

use super::Facts;
use crate::{
    history::{ClientId, Event, Keep, Lists, Op, Protocol, Ruling, Seen, Tag},
    names,
    plan::disclosure,
};
use fanwire_core::{Instant, access::Disclosure};
use std::collections::BTreeMap;

/// Publications by topic, in the order in which the shards were given them.
pub struct Publications {
    by_topic: BTreeMap<u8, Vec<Publication>>,
    /// Where each of them is.
    places: BTreeMap<Tag, usize>,
    requests: BTreeMap<(ClientId, u64), Tag>,
    /// Those alone that have to do with retention.
    only_kept: bool,
}

pub struct Publication {
    pub tag: Tag,
    /// Unless they say nothing.
    pub lists: Option<Box<Lists>>,
    /// Who does not hear it though it is subscribed.
    pub except: Option<ClientId>,
    pub keep: Keep,
    pub fate: Fate,
    /// The line at which its shard was given it.
    pub given: u64,
    pub given_at: Instant,
    /// As its publisher was told.
    pub id: Option<u64>,
    /// It was done at once.
    at_once: bool,
    /// It was done by then, if that is known.
    done: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is refused, lost with its session, or done.
    Possible,
    /// It was done; if it is to be kept and there was room, it was kept.
    Done,
    /// It was done, and kept if it is to be.
    Kept,
    Refused,
}

impl Publication {
    pub fn is_for(&self, client: ClientId, facts: &Facts) -> bool {
        self.lists.as_ref().is_none_or(|lists| facts.person(client).is_some_and(|one| lists.are_for(one)))
    }

    pub fn is_done_before(&self, line: u64) -> bool {
        self.done.is_some_and(|done| done <= line)
    }

    /// Certainly.
    pub fn is_done(&self) -> bool {
        matches!(self.fate, Fate::Done | Fate::Kept)
    }
}

impl Publications {
    pub fn all() -> Self {
        let (by_topic, places, requests) = Default::default();
        Self { by_topic, places, requests, only_kept: false }
    }

    pub fn only_kept() -> Self {
        Self { only_kept: true, ..Self::all() }
    }

    pub fn observe(&mut self, event: &Event, facts: &Facts) {
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen: Seen::Published { request, publication, .. } } => {
                if let Some(published) = self.of_request(*client, *request) {
                    published.fate = Fate::Kept;
                    published.id = Some(*publication);
                    published.done = Some(if published.at_once { published.given } else { facts.line });
                }
            }
            Event::Saw { client, seen: Seen::Error { request, uri, .. } } => {
                if let Some(published) = self.of_request(*client, *request) {
                    // There was no room to keep it, or none to publish it once it was kept.
                    let is_unclear = uri == "wamp.error.unavailable";
                    published.fate = if is_unclear { Fate::Possible } else { Fate::Refused };
                }
            }
            Event::Ruled { client, request, ruling } if *ruling != Ruling::Allowed => {
                if let Some(published) = self.of_request(*client, *request) {
                    published.fate = Fate::Refused;
                }
            }
            Event::Ended { client, .. } => self.ended(*client, facts),
            _ => {}
        }
    }

    pub fn get(&self, tag: &Tag) -> Option<&Publication> {
        self.places.get(tag).map(|place| &self.by_topic[&tag.name][*place])
    }

    pub fn of_topic(&self, name: u8) -> &[Publication] {
        self.by_topic.get(&name).map_or(&[], Vec::as_slice)
    }

    pub fn topics(&self) -> impl Iterator<Item = u8> {
        self.by_topic.keys().copied()
    }

    fn of_request(&mut self, client: ClientId, request: u64) -> Option<&mut Publication> {
        let tag = self.requests.get(&(client, request))?;
        self.by_topic.get_mut(&tag.name)?.get_mut(self.places[tag])
    }

    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        let Op::Publish { request, tag, acknowledge, exclude_me, disclose, lists, keep, .. } = op else {
            return;
        };
        if self.only_kept && *keep == Keep::No {
            return;
        }
        let is_source = facts.is_source(client);
        let may = if is_source {
            facts.may_ask_by_api(client, tag.name)
        } else {
            names::may_send(facts.role(client), tag.name)
        };
        let is_refused = !may || *disclose && disclosure(tag.name) == Disclosure::Never;
        let is_late = facts.protocol(client) != Protocol::Wamp || facts.is_leaving(client);
        let at_once = !(is_late || facts.hooked && names::is_hooked(tag.name));
        let may_find_no_room = facts.retention_is_small && *keep == Keep::Kept;
        let fate = match () {
            () if is_refused => Fate::Refused,
            () if !at_once || may_find_no_room && *acknowledge => Fate::Possible,
            () if may_find_no_room => Fate::Done,
            () => Fate::Kept,
        };
        let of_topic = self.by_topic.entry(tag.name).or_default();
        self.requests.insert((client, *request), *tag);
        self.places.insert(*tag, of_topic.len());
        of_topic.push(Publication {
            tag: *tag,
            lists: lists.clone().filter(|lists| **lists != Lists::default()),
            except: (*exclude_me && !is_source).then_some(client),
            keep: *keep,
            fate,
            given: facts.line,
            given_at: facts.now,
            id: None,
            at_once,
            done: at_once.then_some(facts.line),
        });
    }

    /// What its shard was given after it had cut it off, nobody has published.
    fn ended(&mut self, client: ClientId, facts: &Facts) {
        for (_, tag) in self.requests.range((client, 0)..=(client, u64::MAX)) {
            let of_topic = self.by_topic.get_mut(&tag.name).expect("it has a place");
            let published = &mut of_topic[self.places[tag]];
            if published.given_at == facts.now && published.fate != Fate::Refused {
                (published.fate, published.done) = (Fate::Possible, None);
            }
        }
    }
}
