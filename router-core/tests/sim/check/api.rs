//! Publications by API: none that its role may not make, and receipts say how many events there are.
//!
//! A receipt is judged when all is at rest. It never says fewer than were seen. Where nothing was lost and nobody left, it says
//! as many, and those that were dropped by rule. Who has left before the publication counts too: the shard may learn of it later and match them still.

use super::{Checker, Facts, Verdict};
use crate::history::{Event, Inner, Lists, Op, Seen, Tag};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Api {
    by_request: BTreeMap<(crate::history::ClientId, u64), Tag>,
    receipts: BTreeMap<Tag, Receipt>,
    /// Somebody began to leave, or left.
    departed: bool,
}

struct Receipt {
    is_asked: bool,
    said: Option<u64>,
    seen: u64,
}

impl Checker for Api {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op: Op::Publish { tag, request, receipt, lists, .. } }
                if facts.is_source(*client) =>
            {
                self.by_request.insert((*client, *request), *tag);

                let is_asked = *receipt && lists.as_ref().is_none_or(|lists| **lists == Lists::default());
                let receipt = Receipt { is_asked, said: None, seen: 0 };
                self.receipts.insert(*tag, receipt);
            }
            Event::Did { op: Op::Goodbye | Op::Violate, .. }
            | Event::Draining { .. }
            | Event::Ended { .. } => self.departed = true,
            Event::Saw { client, seen: Seen::Published { request, matched, .. } }
                if facts.is_source(*client) =>
            {
                let tag = self.by_request.get(&(*client, *request)).ok_or("PUBLISHED out of nothing")?;
                let receipt = self.receipts.get_mut(tag).expect("both are noted at once");
                receipt.said = *matched;
                if matched.is_some() && !receipt.is_asked {
                    return Err(format!("{client:?} has a receipt for {tag:?} that it cannot have"));
                }
                if !facts.may_ask_by_api(*client, tag.name) {
                    return Err(format!("{client:?} may not publish {tag:?}, and was not refused"));
                }
            }
            Event::Saw { client, seen: Seen::Event { tag, retained: false, .. } }
                if facts.is_source(tag.from) =>
            {
                if !facts.may_ask_by_api(tag.from, tag.name) {
                    return Err(format!("{client:?} saw {tag:?}, which its publisher may not publish"));
                }
                self.receipts.get_mut(tag).ok_or("an event that nobody published")?.seen += 1;
            }
            Event::Inner { what: Inner::Heard { tag, .. } | Inner::Lost { tag, .. }, .. }
                if facts.is_source(tag.from) =>
            {
                self.receipts.get_mut(tag).ok_or("an event that nobody published")?.seen += 1;
            }
            Event::Saw { client, seen: Seen::Invocation { tag, .. } }
                if facts.is_source(tag.from) && !facts.may_ask_by_api(tag.from, tag.name) =>
            {
                return Err(format!("{client:?} saw {tag:?}, which its caller may not call"));
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        let nothing_lost = facts.losses == 0 && !self.departed;
        // What was matched may be dropped for something newer.
        let mut may_lack = facts.shed;
        for (tag, receipt) in &self.receipts {
            let Some(said) = receipt.said else { continue };
            let lacks = said.saturating_sub(receipt.seen);
            if receipt.seen > said || nothing_lost && lacks > may_lack {
                return Err(format!("{tag:?} matched {said} by its receipt, and {} were seen", receipt.seen));
            }
            may_lack = may_lack.saturating_sub(lacks);
        }
        Ok(())
    }
}
