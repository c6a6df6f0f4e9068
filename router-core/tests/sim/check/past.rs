//! Histories: the last publications of each topic, in order, as many as its rule says.
//!
//! | | |
//! |---|---|
//! | order | numbers ascend, and so do each publisher's publications; what was done before something else was given comes before it |
//! | bounds | no more events, bytes and time than the rule says |
//! | what | nothing refused, nothing twice, and nothing whose lists name sessions or that is for nobody |
//! | nothing lost | what is missing had to make room: newer ones are as many, or as long, as the rule says, or it is too old |
//! | once gone | what made room never comes back, and numbers stay |
//! | patterns | have what the topics have that they cover |

use super::{
    Checker, Facts, Verdict,
    publications::{Fate, Publication, Publications},
};
use crate::{
    history::{Event, Keep, Lists, Remembered},
    names,
    past::Past as Plan,
};
use std::collections::{BTreeMap, BTreeSet};

pub struct Past {
    plan: Plan,
    publications: Publications,
    /// What was found last, by topic.
    found: BTreeMap<u8, Vec<Remembered>>,
}

impl Past {
    pub fn new(plan: Plan) -> Self {
        Self { plan, publications: Publications::all(), found: BTreeMap::new() }
    }
}

impl Checker for Past {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        if self.plan.bounds.is_none() {
            return Ok(());
        }
        self.publications.observe(event, facts);
        match event {
            Event::Recalled { asked, found } if names::is_pattern(*asked) => self.is_covered(*asked, found),
            Event::Recalled { asked, found } => {
                let wrong = |words| format!("the history of {asked:#x} has {found:?}: {words}");
                self.is_right(*asked, found, facts).map_err(wrong)?;
                self.found.insert(*asked, found.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Past {
    fn is_right(&self, name: u8, found: &[Remembered], facts: &Facts) -> Verdict {
        let mut seen = BTreeSet::new();
        for one in found {
            let Some(published) = self.publications.get(&one.tag).filter(|_| one.tag.name == name) else {
                return Err(format!("nobody published {:?} there", one.tag));
            };
            if published.fate == Fate::Refused || is_left_out(published.lists.as_deref()) {
                return Err(format!("{:?} was refused, or is for nobody or for sessions", one.tag));
            }
            if published.id.is_some_and(|id| id != one.publication) || !seen.insert(one.tag) {
                return Err(format!("{:?} is there twice, or by another number", one.tag));
            }
        }
        self.is_in_order(found)?;
        self.is_within_bounds(found)?;
        self.goes_on(name, found)?;
        self.is_complete(name, found, &seen, facts)
    }

    fn is_in_order(&self, found: &[Remembered]) -> Verdict {
        for (at, later) in found.iter().enumerate() {
            for earlier in &found[..at] {
                let same = earlier.tag.from == later.tag.from;
                let (one, other) = (self.publications.get(&earlier.tag), self.publications.get(&later.tag));
                let is_turned = one.zip(other).is_some_and(|(one, other)| other.is_done_before(one.given));
                if earlier.number >= later.number
                    || same && earlier.tag.number > later.tag.number
                    || !same && is_turned
                {
                    return Err(format!("{:?} comes before {:?}", earlier.tag, later.tag));
                }
            }
        }
        Ok(())
    }

    fn is_within_bounds(&self, found: &[Remembered]) -> Verdict {
        let Some(bounds) = self.plan.bounds else { return Ok(()) };
        let bytes: usize = found.iter().map(|one| one.bytes).sum();
        let is_old =
            found.first().zip(found.last()).is_some_and(|(first, last)| bounds.is_over(first.at, last.at));
        if found.len() > bounds.events as usize || bytes > bounds.bytes || is_old {
            return Err(format!("too many, of {bytes} bytes, or too old for {bounds:?}"));
        }
        Ok(())
    }

    /// Of what was found before, the newest are there still; and nothing has come between them.
    fn goes_on(&self, name: u8, found: &[Remembered]) -> Verdict {
        let Some(before) = self.found.get(&name) else { return Ok(()) };
        let Some(newest) = before.last() else { return Ok(()) };
        let known: Vec<&Remembered> = found.iter().filter(|one| one.number <= newest.number).collect();
        let left = before.iter().skip(before.len().saturating_sub(known.len()));
        if known.len() > before.len() || !left.eq(known) {
            return Err(format!("before that it had {before:?}"));
        }
        Ok(())
    }

    fn is_complete(
        &self,
        name: u8,
        found: &[Remembered],
        seen: &BTreeSet<crate::history::Tag>,
        facts: &Facts,
    ) -> Verdict {
        let Some(bounds) = self.plan.bounds else { return Ok(()) };
        let of_topic = self.publications.of_topic(name);
        let longest = facts.payload_max + OVERHEAD_MAX;
        let oldest = found.first().and_then(|one| self.publications.get(&one.tag));
        let may_be_there =
            |other: &&Publication| other.fate != Fate::Refused && !is_left_out(other.lists.as_deref());
        for missing in of_topic {
            // What has lists may be for nobody: of a role that there is not.
            let is_certain = missing.is_done() && missing.lists.is_none() && missing.keep != Keep::Ends;
            if !is_certain || !missing.is_done_before(facts.line) || seen.contains(&missing.tag) {
                continue;
            }
            let is_long = longest > bounds.bytes || self.plan.limits.is_some();
            if !is_long && oldest.is_some_and(|oldest| oldest.is_done_before(missing.given)) {
                return Err(format!("{:?} is missing, and newer than others", missing.tag));
            }
            let later = of_topic
                .iter()
                .filter(|other| other.tag != missing.tag && !other.is_done_before(missing.given));
            let later = later.filter(may_be_there).count();
            let is_full = later >= bounds.events as usize || (later + 1) * longest > bounds.bytes;
            let may_be_old = bounds.age.is_some_and(|age| facts.now.since(missing.given_at) > age);
            if !is_full && !may_be_old && self.plan.limits.is_none() {
                return Err(format!("{:?} is missing, and only {later} came since", missing.tag));
            }
        }
        Ok(())
    }

    /// All topics were asked for right before.
    fn is_covered(&self, asked: u8, found: &[Remembered]) -> Verdict {
        let covered = self.found.iter().filter(|(name, _)| names::covers(asked, **name));
        let mut due: Vec<&Remembered> = covered.flat_map(|(_, found)| found).collect();
        due.sort_by_key(|one| one.number);
        if !found.iter().eq(due.iter().copied()) {
            return Err(format!("the history of {asked:#x} has {found:?}, and its topics have {due:?}"));
        }
        Ok(())
    }
}

/// Names sessions, or says that it is for nobody.
fn is_left_out(lists: Option<&Lists>) -> bool {
    let Some(lists) = lists else { return false };
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
    lists.eligible.is_some()
        || lists.exclude.as_ref().is_some_and(|list| !list.is_empty())
        || is_empty(&lists.eligible_authid)
        || is_empty(&lists.eligible_authrole)
}

/// What a publication without lists takes beside its padding, at most.
const OVERHEAD_MAX: usize = 600;
