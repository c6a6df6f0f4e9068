//! Sessions of WAMP version 1: an event comes by the name under which its topic stood subscribed when it was published, or came
//! to do so later; and nothing comes that was published after the end of the subscription.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, Op, Seen, Tag},
    wamp1::full_name,
};
use std::collections::BTreeMap;

/// Since a line of the history, a topic has this name, or none.
type Named = (u64, Option<String>);

#[derive(Default)]
pub struct Names {
    asked: BTreeMap<(ClientId, u64), u8>,
    held: BTreeMap<(ClientId, u8), Vec<Named>>,
    /// When each publication was given to its shard.
    published: BTreeMap<Tag, u64>,
}

impl Checker for Names {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { op: Op::Publish { tag, .. }, .. } => {
                self.published.insert(*tag, facts.line);
            }
            Event::Did {
                client,
                op: Op::Subscribe { request, topic, .. } | Op::Unsubscribe { request, topic: Some(topic), .. },
            } if facts.is_version_1(*client) => {
                self.asked.insert((*client, *request), *topic);
            }
            Event::Saw { client, seen } if facts.is_version_1(*client) => {
                return self.saw(*client, seen, facts);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Names {
    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Subscribed { request, .. } => {
                let topic = self.asked[&(client, *request)];
                let name = full_name(client, *request, topic);
                self.held.entry((client, topic)).or_default().push((facts.line, Some(name)));
                Ok(())
            }
            Seen::Unsubscribed { request } => {
                let topic = self.asked[&(client, *request)];
                self.held.entry((client, topic)).or_default().push((facts.line, None));
                Ok(())
            }
            Seen::Event { tag, topic: Some(told), .. } => self.is_called(client, tag, told),
            Seen::Event { tag, .. } => Err(format!("{client:?} was not told the topic of {tag:?}")),
            _ => Ok(()),
        }
    }

    fn is_called(&self, client: ClientId, tag: &Tag, told: &str) -> Verdict {
        let published = self.published.get(tag).ok_or("an event that nobody published")?;
        let held = self.held.get(&(client, tag.name)).map_or(&[][..], Vec::as_slice);
        let since = held.iter().rposition(|(line, _)| line < published).unwrap_or(0);
        if held[since..].iter().any(|(_, name)| name.as_deref() == Some(told)) {
            return Ok(());
        }
        Err(format!(
            "{client:?} saw {tag:?} as one of {told}; since it was published it had {:?}",
            &held[since..]
        ))
    }
}
