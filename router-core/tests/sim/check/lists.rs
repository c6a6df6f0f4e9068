//! Who gets a publication that has lists of receivers is meant by them. That who is meant gets it, is `reach`'s.

use super::{Checker, Facts, Verdict};
use crate::history::{Event, Lists, Op, Seen, Tag};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Receivers {
    published: BTreeMap<Tag, Box<Lists>>,
}

impl Checker for Receivers {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { op: Op::Publish { tag, lists: Some(lists), .. }, .. } => {
                self.published.insert(*tag, lists.clone());
            }
            Event::Saw { client, seen: Seen::Event { tag, .. } } => {
                let person = facts.person(*client).ok_or("an EVENT before WELCOME")?;
                if let Some(lists) = self.published.get(tag)
                    && !lists.are_for(person)
                {
                    return Err(format!("{client:?} is {person:?} and saw {tag:?}, which is for {lists:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
