//! Who is told who publishes or calls: as the permission for the name says, and where it leaves that open, as was asked.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, Event, NOT_TOLD, Op, Person, Seen, Tag},
    plan::disclosure,
};
use fanwire_core::access::Disclosure;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Disclosed {
    asked: BTreeMap<Tag, bool>,
    /// The same, of calls by their requests.
    calls: BTreeMap<(ClientId, u64), bool>,
    /// Who is in a room, or speaks version 1, and was disclosed; it does not know itself who it is.
    met: BTreeMap<ClientId, Person>,
    /// Requests that must be refused.
    refused: BTreeSet<(ClientId, u64)>,
}

impl Checker for Disclosed {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did {
                client,
                op: Op::Publish { tag, request, disclose, .. } | Op::Call { tag, request, disclose, .. },
            } => {
                self.asked.insert(*tag, *disclose);
                self.calls.insert((*client, *request), *disclose);
                if *disclose && disclosure(tag.name) == Disclosure::Never {
                    self.refused.insert((*client, *request));
                }
                Ok(())
            }
            // As the first part of the call.
            Event::Did { client, op: Op::CallOn { request, tag, .. } } => {
                let disclose = self.calls.get(&(*client, *request)).copied().unwrap_or_default();
                self.asked.insert(*tag, disclose);
                Ok(())
            }
            Event::Saw { client, seen } => match seen {
                Seen::Event { publication: NOT_TOLD, .. } => Ok(()),
                Seen::Event { tag, publisher, .. } => self.told(tag, publisher.as_ref(), facts),
                Seen::Invocation { tag, caller, .. } => self.told(tag, caller.as_ref(), facts),
                Seen::Published { request, .. } | Seen::Result { request, .. }
                    if self.refused.contains(&(*client, *request)) =>
                {
                    Err(format!(
                        "{client:?} asked to be disclosed where nobody is, and was not refused: {request}"
                    ))
                }
                Seen::Error { request, uri, .. } if uri == "wamp.error.option_disallowed.disclose_me" => {
                    if self.refused.remove(&(*client, *request)) {
                        return Ok(());
                    }
                    Err(format!("{client:?} was refused to be disclosed, and nothing forbids it: {request}"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Disclosed {
    fn told(&mut self, tag: &Tag, who: Option<&Person>, facts: &Facts) -> Verdict {
        let is_due = match (disclosure(tag.name), self.asked[tag]) {
            (Disclosure::Always, _) | (Disclosure::OnRequest, true) => true,
            (Disclosure::OnRequest, false) | (Disclosure::Never, false) => false,
            (Disclosure::Never, true) => return Err(format!("{tag:?} is to be refused, and came through")),
        };
        let mut due = facts.person(tag.from).filter(|_| is_due);
        let is_half_known = facts.is_echo(tag.from) || facts.is_version_1(tag.from);
        if let (Some(known), Some(who), true) = (due, who, is_half_known) {
            let is_its_session = facts.is_echo(tag.from) || who.session == known.session;
            let is_its_role = who.authrole == known.authrole && who.authid.starts_with("anonymous-");
            due = Some(self.met.entry(tag.from).or_insert_with(|| who.clone()))
                .filter(|_| is_its_role && is_its_session)
                .map(|met| &*met);
        }
        if who != due {
            return Err(format!("{tag:?} came from {who:?}, and that should be {due:?}"));
        }
        Ok(())
    }
}
