//! Each request has exactly one reply, and of its own kind; a publication that asked for none has none.

use super::{Checker, Facts, Verdict};
use crate::history::{ClientId, Event, Op, Seen};
use fanwire_codec::wamp2::code;
use std::collections::BTreeMap;

/// In the place of the type code that a message at the message center has not.
const MESSAGE: u64 = 0;

#[derive(Default)]
pub struct Replies {
    /// Type code of each request that waits.
    waiting: BTreeMap<(ClientId, u64), u64>,
    /// What a client may see at last: HELLO and GOODBYE are answered too.
    greeting: BTreeMap<ClientId, ()>,
}

impl Checker for Replies {
    fn observe(&mut self, event: &Event, _facts: &Facts) -> Verdict {
        match event {
            Event::Did { client, op } => {
                let asked = match op {
                    Op::Hello { .. } => {
                        self.greeting.insert(*client, ());
                        return Ok(());
                    }
                    Op::Subscribe { request, .. } => Some((*request, code::SUBSCRIBE)),
                    Op::Unsubscribe { request, .. } => Some((*request, code::UNSUBSCRIBE)),
                    Op::Publish { request, acknowledge: true, .. } => Some((*request, code::PUBLISH)),
                    Op::Register { request, .. } => Some((*request, code::REGISTER)),
                    Op::Unregister { request, .. } => Some((*request, code::UNREGISTER)),
                    Op::Say { request, .. } => Some((*request, MESSAGE)),
                    Op::Call { request, .. } => Some((*request, code::CALL)),
                    _ => None,
                };
                if let Some((request, code)) = asked {
                    self.waiting.insert((*client, request), code);
                }
                Ok(())
            }
            Event::Saw { client, seen } => {
                let (request, code) = match seen {
                    Seen::Subscribed { request, .. } => (*request, code::SUBSCRIBE),
                    Seen::Unsubscribed { request } => (*request, code::UNSUBSCRIBE),
                    Seen::Published { request, .. } => (*request, code::PUBLISH),
                    Seen::Registered { request, .. } => (*request, code::REGISTER),
                    Seen::Unregistered { request } => (*request, code::UNREGISTER),
                    Seen::Answered { request, .. } => (*request, MESSAGE),
                    Seen::Result { request, .. } => (*request, code::CALL),
                    Seen::Error { request, request_type, .. } => (*request, *request_type),
                    Seen::Welcome { .. } | Seen::Abort { .. } => {
                        self.greeting.remove(client);
                        return Ok(());
                    }
                    _ => return Ok(()),
                };
                match self.waiting.remove(&(*client, request)) {
                    Some(asked) if asked == code => Ok(()),
                    Some(asked) => {
                        Err(format!("{client:?} asked {asked} as request {request} and saw {seen:?}"))
                    }
                    None => Err(format!("{client:?} saw {seen:?}, but no reply to it was due")),
                }
            }
            Event::Ended { client, .. } => {
                let gone: Vec<_> =
                    self.waiting.range((*client, 0)..=(*client, u64::MAX)).map(|(key, _)| *key).collect();
                for key in gone {
                    self.waiting.remove(&key);
                }
                self.greeting.remove(client);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        for ((client, request), code) in &self.waiting {
            if !facts.is_leaving(*client) {
                return Err(format!("{client:?} has no reply to its request {request} of type {code}"));
            }
        }
        match self.greeting.keys().find(|client| !facts.is_leaving(**client)) {
            Some(client) => Err(format!("{client:?} was neither welcomed nor refused")),
            None => Ok(()),
        }
    }
}
