//! What histories have, asked as those do that answer for `wamp.subscription.get_events`.

use super::{Verdict, World};
use crate::{
    history::{Event, Remembered},
    names::{self, PATTERN_BIT, PATTERN_COUNT, REALM_BIT},
    speech,
};
use fanwire_core::{directory::HistoryCursor, ids::RealmId};

impl World {
    /// One topic's, or all of a realm and those of a pattern.
    pub(super) fn recall(&mut self) -> Verdict {
        let realm = self.rng.below(self.plan.realms) as u8 * REALM_BIT;
        if self.rng.chance(70) {
            let name = self.rng.below(self.plan.topics) as u8;
            return self.recall_one(realm | name);
        }
        self.recall_all(realm)?;
        let pattern = PATTERN_BIT | self.rng.below(PATTERN_COUNT) as u8;
        self.recall_one(realm | pattern)
    }

    pub(super) fn recall_all(&mut self, realm: u8) -> Verdict {
        (0..names::NAMES_MAX).try_for_each(|name| self.recall_one(realm | name))
    }

    /// From either end, in pages.
    fn recall_one(&mut self, asked: u8) -> Verdict {
        let is_backwards = self.rng.chance(50);
        let limit = self.rng.pick(&[1, 3, 1_000]);
        let (policy, uri) = names::request(asked);
        let realm = RealmId::new(u32::from(asked / REALM_BIT));
        let mut next = Some(if is_backwards { HistoryCursor::Newest } else { HistoryCursor::Oldest });
        let mut found = Vec::new();
        while let Some(from) = next {
            let page = self.directory.history(realm, (policy, &uri), from, limit);
            if page.events.len() > limit {
                return Err(format!("a page of {} events, and {limit} were asked for", page.events.len()));
            }
            for (number, event) in page.events {
                let tag = event.payload.view().args.and_then(speech::read_tag);
                let tag = tag.ok_or_else(|| format!("what {event:?} says was lost or changed"))?;
                let bytes = event.payload.len() + event.topic.len();
                let (publication, at) = (event.publication.get(), event.at);
                found.push(Remembered { number, tag, publication, bytes, at });
            }
            next = page.next;
        }
        if is_backwards {
            found.reverse();
        }
        self.tell(Event::Recalled { asked, found })
    }
}
