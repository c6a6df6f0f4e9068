//! Echo rooms: who is let in hears and is heard, and who is not, is told why by the close code and by nothing else.
//!
//! | why | close code |
//! |---|---|
//! | the hook denies the session or the room; its role may not hear the room, or not say anything in it | 1008 |
//! | the hook cannot be asked, or does not answer | 1013 |
//!
//! That who is in the room hears what is said there is `reach`'s, and in which order `order`'s.

use super::{Checker, Facts, Verdict};
use crate::{
    echo::{self, ROOM_REQUEST},
    history::{ClientId, Decision, Event, Heard, Op, Ruling, Seen, Tag},
    names,
};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Echo {
    /// Of those that are there.
    rooms: BTreeMap<ClientId, u8>,
    /// Who has to go, with which code.
    due: BTreeMap<ClientId, u16>,
}

impl Checker for Echo {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } if facts.is_echo(*client) => self.did(*client, op, facts),
            Event::Decided { client, verdict } if facts.is_echo(*client) => match verdict {
                Decision::Granted(role) if self.may_hear(*client, *role) => {}
                Decision::Granted(_) | Decision::Refused => self.must_go(*client, 1008),
                Decision::Busy => self.must_go(*client, 1013),
            },
            Event::Ruled { client, request: ROOM_REQUEST, ruling } if facts.is_echo(*client) => {
                match ruling {
                    Ruling::Allowed => {}
                    Ruling::Denied | Ruling::Full => self.must_go(*client, 1008),
                    Ruling::Failed => self.must_go(*client, 1013),
                }
            }
            Event::Saw { client, seen: Seen::Close { code } } if facts.is_echo(*client) => {
                let due = self.due.remove(client);
                if due.is_none() && !facts.is_leaving(*client) {
                    return Err(format!("{client:?} is told to leave its room ({code:?}), and may be there"));
                }
                if due.is_some() && due != *code && !facts.was_sent_away(*client) {
                    return Err(format!("{client:?} was to be closed with {due:?} and saw {code:?}"));
                }
            }
            Event::Saw { client, seen: Seen::Event { tag, heard, .. } } => {
                return heard_as_said(*client, tag, heard.as_ref(), facts);
            }
            Event::Ended { client, .. } => {
                self.rooms.remove(client);
                self.due.remove(client);
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, _: &Facts) -> Verdict {
        match self.due.first_key_value() {
            Some((client, code)) => Err(format!("{client:?} has to go with {code}, and is not told so")),
            None => Ok(()),
        }
    }
}

impl Echo {
    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Subscribe { topic, .. } => drop(self.rooms.insert(client, *topic)),
            Op::Publish { tag, .. } if !names::may_send(facts.role(client), tag.name) => {
                self.must_go(client, 1008);
            }
            _ => {}
        }
    }

    /// The first reason counts.
    fn must_go(&mut self, client: ClientId, code: u16) {
        if self.rooms.contains_key(&client) {
            self.due.entry(client).or_insert(code);
        }
    }

    fn may_hear(&self, client: ClientId, role: u8) -> bool {
        self.rooms.get(&client).is_some_and(|room| names::may_have(role, *room))
    }
}

/// What somebody said in a room comes as it was said, and under its name.
fn heard_as_said(client: ClientId, tag: &Tag, heard: Option<&Heard>, facts: &Facts) -> Verdict {
    let is_said = facts.is_echo(tag.from);
    if is_said && !names::may_send(facts.role(tag.from), tag.name) {
        return Err(format!("{client:?} heard {tag:?}, whose sender may say nothing there"));
    }
    let Some(heard) = heard else { return Ok(()) };
    let named = (is_said && facts.rooms_are_named).then(|| echo::named(tag.from));
    let expected = Heard { named, is_binary: is_said && echo::is_binary(tag) };
    if *heard != expected {
        return Err(format!("{client:?} heard {tag:?} as {heard:?}, and it should be {expected:?}"));
    }
    Ok(())
}
