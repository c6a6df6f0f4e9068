//! What a hook is asked about happens exactly if it was allowed; and it is told of the end of each session once.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, Op, Ruling, Seen, Tag},
    names,
    orders::ORDERED,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Hooks {
    /// The topic or pattern of each request to subscribe, and the request of each publication.
    subscribing: BTreeMap<(ClientId, u64), u8>,
    publishing: BTreeMap<Tag, u64>,
    rulings: BTreeMap<(ClientId, u64), Ruling>,
    /// Sessions whose end was told.
    told: BTreeSet<u64>,
}

impl Checker for Hooks {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        if !facts.hooked {
            return Ok(());
        }
        match event {
            Event::Did { client, op: Op::Subscribe { request, topic, .. } } => {
                self.subscribing.insert((*client, *request), *topic);
            }
            Event::Did { op: Op::Publish { request, tag, .. }, .. } => {
                self.publishing.insert(*tag, *request);
            }
            Event::Ruled { client, request, ruling } => {
                if let Some(before) = self.rulings.insert((*client, *request), *ruling) {
                    return Err(format!(
                        "the hook was asked twice about request {request} of {client:?}: {before:?}"
                    ));
                }
            }
            Event::Told { session } if !self.told.insert(*session) => {
                return Err(format!("the hook was told twice that session {session} has ended"));
            }
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            _ => {}
        }
        Ok(())
    }
}

impl Hooks {
    fn saw(&self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Subscribed { request, .. } => {
                let key = (client, *request);
                // Backends need nobody's leave.
                if request & ORDERED != 0 {
                    return Ok(());
                }
                let is_hooked = self.subscribing.get(&key).is_some_and(|topic| names::is_hooked(*topic));
                if is_hooked && self.rulings.get(&key) != Some(&Ruling::Allowed) {
                    return Err(format!(
                        "{client:?} saw {seen:?}; the hook said {:?}",
                        self.rulings.get(&key)
                    ));
                }
            }
            Seen::Event { tag, .. } if names::is_hooked(tag.name) && !facts.is_source(tag.from) => {
                let request = self.publishing.get(tag).ok_or("an event that nobody published")?;
                let ruling = self.rulings.get(&(tag.from, *request));
                if ruling != Some(&Ruling::Allowed) {
                    return Err(format!("{client:?} saw {tag:?}; the hook said {ruling:?}"));
                }
            }
            Seen::Error { request, uri, .. } if !facts.is_source(client) => {
                let expected = match self.rulings.get(&(client, *request)) {
                    Some(Ruling::Denied) => "wamp.error.not_authorized",
                    Some(Ruling::Failed) => "wamp.error.authorization_failed",
                    Some(Ruling::Allowed | Ruling::Full) | None
                        if uri != "wamp.error.authorization_failed" =>
                    {
                        return Ok(());
                    }
                    Some(Ruling::Allowed | Ruling::Full) | None => "something else",
                };
                if uri != expected {
                    return Err(format!(
                        "{client:?} saw {uri} for request {request} and should have seen {expected}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
