//! What backends do with single clients: an order that is done is seen by exactly that client, in order; who is found by
//! a user's name is all of that user's; and who is not there, or elsewhere, gets nothing.
//!
//! What a client gets of topics that a backend subscribed it to, is `reach`'s and `lifecycle`'s: it counts as its own request.

use super::{Checker, Facts, Verdict};
use crate::{
    history::{ClientId, End, Event, Order, Protocol, Seen},
    names,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Default)]
pub struct Orders {
    /// Numbers of the messages on their way.
    sent: BTreeMap<ClientId, VecDeque<u32>>,
    ended: BTreeMap<ClientId, End>,
    /// It was said to be gone, so it has to go.
    must_end: BTreeSet<ClientId>,
}

impl Checker for Orders {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        match event {
            Event::Ordered { client, order, is_here, outcome } => {
                self.is_as_expected(*client, order, *is_here, outcome, facts)?;
                if let (Order::Send { number }, Ok(())) = (order, outcome) {
                    self.sent.entry(*client).or_default().push_back(*number);
                }
            }
            Event::Found { uid, clients } => return self.are_all(uid, clients, facts),
            Event::Saw { client, seen: Seen::Sent { to, number } } => {
                let due = self.sent.get_mut(client).and_then(VecDeque::pop_front);
                if (to, Some(*number)) != (client, due) {
                    return Err(format!(
                        "{client:?} got message {number} for {to:?} of a backend, where {due:?} is due"
                    ));
                }
            }
            Event::Ended { client, end } => {
                self.ended.insert(*client, *end);
                self.sent.remove(client);
                self.must_end.remove(client);
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        let lost = self.sent.iter().find(|(client, sent)| !sent.is_empty() && !facts.is_leaving(**client));
        if let Some((client, sent)) = lost {
            return Err(format!("{client:?} was sent {sent:?} by a backend, and never got it"));
        }
        match self.must_end.first() {
            Some(client) => Err(format!("a backend was told that {client:?} has gone, and it has not")),
            None => Ok(()),
        }
    }
}

const NOT_HERE: &str = "wamp.error.no_such_session";
const IMPOSSIBLE: &str = "wamp.error.invalid_argument";

impl Orders {
    fn is_as_expected(
        &mut self,
        client: ClientId,
        order: &Order,
        is_here: bool,
        outcome: &Result<(), String>,
        facts: &Facts,
    ) -> Verdict {
        let said = outcome.as_ref().copied().map_err(String::as_str);
        let may_have = |topic: &u8| names::may_have(facts.role(client), *topic);
        let expected: &[Result<(), &str>] = match (self.ended.get(&client), facts.protocol(client), order) {
            _ if !is_here => &[Err(NOT_HERE)],
            (Some(End::Vanished | End::Cut | End::Finished), ..) => &[Err(NOT_HERE)],
            // The router need not know yet.
            (Some(End::Broken), ..) => return Ok(()),
            _ if facts.is_leaving(client) => return Ok(()),
            (None, ..) if said == Err(NOT_HERE) => {
                self.must_end.insert(client);
                return Ok(());
            }
            (None, _, Order::Dismiss) => &[Ok(())],
            (None, Protocol::Center | Protocol::Echo, Order::Send { .. }) => &[Ok(())],
            (None, Protocol::Wamp | Protocol::Wamp1 | Protocol::Echo | Protocol::Api, _) => {
                &[Err(IMPOSSIBLE)]
            }
            (None, Protocol::Center, Order::Unsubscribe(_)) => &[Ok(())],
            // Its role is not known yet.
            (None, Protocol::Center, Order::Subscribe(_)) if facts.person(client).is_none() => return Ok(()),
            (None, Protocol::Center, Order::Subscribe(topics)) if topics.iter().all(may_have) => {
                &[Ok(()), Err("wamp.error.unavailable")]
            }
            (None, Protocol::Center, Order::Subscribe(_)) => {
                &[Err("wamp.error.not_authorized"), Err("wamp.error.unavailable")]
            }
        };
        if expected.contains(&said) {
            return Ok(());
        }
        Err(format!("{order:?} for {client:?} was answered {said:?}, where {expected:?} is right"))
    }

    /// Who knows to be this user is among those that were found, or about to be closed; and nobody who is another one.
    fn are_all(&mut self, uid: &str, found: &[ClientId], facts: &Facts) -> Verdict {
        let is = |client: ClientId| facts.person(client).map(|person| person.authid == uid);
        if let Some(other) = found.iter().find(|client| is(**client) == Some(false)) {
            return Err(format!("{other:?} was found as {uid}, and is {:?}", facts.person(*other)));
        }
        let is_lacking = |client: &ClientId| {
            is(*client) == Some(true) && !facts.is_leaving(*client) && !found.contains(client)
        };
        self.must_end.extend(facts.clients().filter(is_lacking));
        Ok(())
    }
}
