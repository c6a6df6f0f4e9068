//! O1, O3, no duplicates, no event for the excluded publisher, and nothing that nobody sent.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, NOT_TOLD, Op, Seen, Tag},
    names,
};
use fanwire_codec::wamp2::InvokePolicy;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Order {
    /// Number of the last event, by subscriber and publisher, and the subscriptions by which it came.
    events: BTreeMap<(ClientId, ClientId), (u32, Vec<u64>)>,
    /// Number of the last invocation, by callee and caller.
    invocations: BTreeMap<(ClientId, ClientId), u32>,
    published: BTreeMap<(ClientId, u32), Published>,
    called: BTreeMap<(ClientId, u32), Tag>,
    parts: BTreeSet<Tag>,
    /// What somebody shares who may pass calls on: they come later to others.
    loose: BTreeSet<u8>,
}

struct Published {
    tag: Tag,
    request: u64,
    exclude_me: bool,
    id: Option<u64>,
}

impl Checker for Order {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op: Op::Register { procedure, offer, .. } } => {
                if offer.invoke != InvokePolicy::Single && facts.abilities(*client).reroute {
                    self.loose.insert(*procedure);
                }
                Ok(())
            }
            Event::Did { op: Op::Publish { tag, exclude_me, request, .. }, .. } => {
                let published = Published { tag: *tag, request: *request, exclude_me: *exclude_me, id: None };
                self.published.insert((tag.from, tag.number), published);
                Ok(())
            }
            // Parts of a call have their own order; other calls may pass them where their callee is slow.
            Event::Did { op: Op::CallOn { tag, .. }, .. } => {
                self.parts.insert(*tag);
                Ok(())
            }
            Event::Did { op: Op::Call { tag, .. }, .. } => {
                self.called.insert((tag.from, tag.number), *tag);
                Ok(())
            }
            Event::Saw { client, seen: Seen::Event { subscription, publication, tag, retained, .. } } => {
                self.is_published(*client, *publication, tag)?;
                // What is kept comes as often as it is asked for.
                if *retained { Ok(()) } else { self.comes_in_order(*client, *subscription, tag) }
            }
            Event::Saw { client, seen: Seen::Published { request, publication, .. } } => {
                let published = self.published.range_mut((*client, 0)..=(*client, u32::MAX));
                let mut of_request = published.filter(|(_, published)| published.request == *request);
                match of_request.next() {
                    Some((_, published)) => published.has_id(*publication),
                    None => Err(format!(
                        "{client:?} saw PUBLISHED for request {request}, which published nothing"
                    )),
                }
            }
            Event::Saw { seen: Seen::Invocation { tag, .. }, .. } if self.parts.contains(tag) => Ok(()),
            Event::Saw { client, seen: Seen::Invocation { tag, .. } } => {
                if self.called.get(&(tag.from, tag.number)) != Some(tag) {
                    return Err(format!("{client:?} saw an invocation that nobody called: {tag:?}"));
                }
                let is_loose = self.loose.iter().any(|by| names::covers(*by, tag.name));
                let last = self.invocations.get(&(*client, tag.from)).copied().unwrap_or_default();
                if is_loose && last > tag.number {
                    return Ok(());
                }
                advance(&mut self.invocations, "O3: invocation", *client, tag)
            }
            _ => Ok(()),
        }
    }
}

impl Order {
    fn is_published(&mut self, client: ClientId, publication: u64, tag: &Tag) -> Verdict {
        let Some(published) =
            self.published.get_mut(&(tag.from, tag.number)).filter(|known| known.tag == *tag)
        else {
            return Err(format!("{client:?} saw an event that nobody published: {tag:?}"));
        };
        if published.exclude_me && tag.from == client {
            return Err(format!("{client:?} excluded itself and yet saw its own event {tag:?}"));
        }
        if publication != NOT_TOLD {
            published.has_id(publication)?;
        }
        Ok(())
    }

    fn comes_in_order(&mut self, client: ClientId, subscription: u64, tag: &Tag) -> Verdict {
        let (number, came_by) = self.events.entry((client, tag.from)).or_default();
        if *number > tag.number {
            return Err(format!("O1: event {tag:?} came to {client:?} after number {number}"));
        }
        if *number < tag.number {
            (*number, *came_by) = (tag.number, Vec::new());
        }
        if came_by.contains(&subscription) {
            return Err(format!("event {tag:?} came to {client:?} twice by subscription {subscription}"));
        }
        came_by.push(subscription);
        Ok(())
    }
}

impl Published {
    fn has_id(&mut self, id: u64) -> Verdict {
        match self.id.replace(id) {
            Some(known) if known != id => {
                Err(format!("publication {:?} has two ids, {known} and {id}", self.tag))
            }
            _ => Ok(()),
        }
    }
}

fn advance(last: &mut BTreeMap<(ClientId, ClientId), u32>, what: &str, to: ClientId, tag: &Tag) -> Verdict {
    match last.insert((to, tag.from), tag.number) {
        Some(number) if number == tag.number => Err(format!("{what} {tag:?} came to {to:?} twice")),
        Some(number) if number > tag.number => {
            Err(format!("{what} {tag:?} came to {to:?} after number {number}"))
        }
        _ => Ok(()),
    }
}
