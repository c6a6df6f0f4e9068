//! What becomes of a connection of the message center after an error: as configured it goes on, or is closed with the number of
//! that error, and nothing is said in between.

use super::{Checker, Facts, Verdict};
use crate::history::{ClientId, Event, Protocol, Seen};
use fanwire_codec::wamp2::code;
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Closing {
    /// Who was told an error, and has to be closed next.
    due: BTreeSet<ClientId>,
}

impl Checker for Closing {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Saw { client, seen } if facts.protocol(*client) == Protocol::Center => {
                self.saw(*client, seen, facts)
            }
            Event::Ended { client, .. } => {
                self.due.remove(client);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn settled(&mut self, _: &Facts) -> Verdict {
        match self.due.first() {
            Some(client) => Err(format!("{client:?} was told an error and is not closed")),
            None => Ok(()),
        }
    }
}

impl Closing {
    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        let is_due = self.due.remove(&client);
        let is_by_error = |code: &Option<u16>| code.is_some_and(|code| (4001..=4009).contains(&code));
        let is_error = match seen {
            Seen::Close { code } if is_due && !is_by_error(code) => {
                return Err(format!("{client:?} is closed with {code:?} after an error"));
            }
            // Who guesses tokens is closed in any case.
            Seen::Close { code } if is_by_error(code) && *code != Some(4005) && !facts.errors_close => {
                return Err(format!("{client:?} is closed with {code:?}, and errors close nothing"));
            }
            Seen::Close { .. } => false,
            _ if is_due => {
                return Err(format!("{client:?} was to be closed after an error, and saw {seen:?}"));
            }
            Seen::Answered { answer: Err(_), .. } | Seen::Abort { .. } => true,
            Seen::Error { request_type, .. } => *request_type == code::SUBSCRIBE,
            _ => false,
        };
        if is_error && facts.errors_close {
            self.due.insert(client);
        }
        Ok(())
    }
}
