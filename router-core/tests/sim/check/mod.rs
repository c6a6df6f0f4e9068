//! The judges. They see the history and nothing of the router's inside or of the workload's intentions.
//!
//! | rule | what it says | where |
//! |---|---|---|
//! | O1 | events of one publisher reach one subscriber in publish order, also across topics; no duplicates | `order` |
//! | O2, O5 | no EVENT before SUBSCRIBED or after UNSUBSCRIBED | `lifecycle` |
//! | O3 | invocations of one caller reach one callee in call order, also across procedures | `order` |
//! | O4, O5 | no INVOCATION before REGISTERED or after UNREGISTERED | `lifecycle` |
//! | O6 | who publishes (calls) after somebody saw SUBSCRIBED (REGISTERED) reaches them | `reach`, `calls` |
//! | O7 | exactly one final RESULT or ERROR, and it is the callee's answer, or there is a reason for another one | `replies`, `calls`, `endings` |
//! | O7 | parts of a result, and of a call, come in order, all of them, and none after the end; only to who wants them | `parts` |
//! | – | callees are interrupted for a reason, and only those that can be; who is left alone works on | `interrupts` |
//! | – | callees share a procedure as their policy says, and none has more calls than it takes; a free one is found | `shared` |
//! | – | a call is with one callee at a time, and goes on to another one by the word of one that knows it | `calls` |
//! | – | a call whose time is over, or that was cancelled, ends though its callee says nothing | `endings` |
//! | O8 | PUBLISHED is never before its effects | `reach` |
//! | O9 | a session's own requests take effect in order | `reach`, `calls` |
//! | O10 | GOODBYE, ABORT and the close frame are last | `lifecycle`, and for bytes the modelled sockets |
//! | – | who logs in is welcomed exactly if its own proof was granted, as who it is, with the role granted | `logins` |
//! | – | what a hook is asked about happens exactly if it was allowed, and each end is told it once | `hooks` |
//! | – | each request has exactly one reply of its kind | `replies` |
//! | – | the excluded publisher gets nothing | `order` |
//! | – | lists of receivers: who is not meant gets nothing, who is meant gets it | `lists`, `reach` |
//! | – | publishers and callers are disclosed as they asked and as the permissions say | `disclosed` |
//! | – | one event per subscription that covers the topic, one call to the most precise registration | `reach`, `order`, `calls` |
//! | – | by a pattern comes nothing that a direct request would have been refused, and its name is told | `lifecycle` |
//! | – | by API comes nothing that the source's role may not ask for; receipts are what was matched | `api` |
//! | – | events are dropped only where a rule says so, for newer ones of their key or for want of room; who asks is told | `gaps` |
//! | – | at the message center: each is told its own name for the topic, and keeps its channels through another login | `center`, `reach` |
//! | – | in echo rooms: who may not come or say something is told by the close code, and all is heard as it was said | `echo` |
//! | – | each message at the message center is one question or one refusal, and has its answer | `messages` |
//! | – | the message center closes after an error, if it is to, and with its number | `closing` |
//! | – | who listens hears of sessions, subscriptions and registrations, in order; testaments are published once | `meta` |
//! | – | what is taken from a client brings nothing any more, and it is told if it understands | `meta`, `reach` |
//! | – | calls that a hook answers are asked once, by whom they are, and end with its answer | `calls` |
//! | – | what a backend orders is done to exactly whom it is for, and nothing where it is refused | `orders`, `reach` |
//! | – | in version 1: an event has the name under which its subscriber asked for it, and none comes after the end | `wamp1` |
//! | – | inner subscribers get what sessions get, but for what their own outboxes refuse | `inner` |
//! | – | who asks has first what is kept of each topic, then what is newer; and nothing that a newer one has replaced | `retained` |
//! | – | histories have the last publications of their topics, in order, as many as their rules say | `past` |
//! | – | matched = delivered + queued + dropped, after every step; delivered is what sockets took | `accounting` |
//! | – | nothing is left when everybody has gone | `accounting` |

pub mod accounting;
mod api;
mod calls;
mod closing;
mod disclosed;
mod echo;
mod endings;
mod gaps;
mod hooks;
mod inner;
mod interrupts;
mod lifecycle;
mod lists;
mod logins;
mod messages;
mod meta;
mod order;
mod orders;
mod parts;
mod past;
mod publications;
mod reach;
mod replies;
mod retained;
mod shared;
mod wamp1;

use super::{
    history::{Abilities, ClientId, Event, Keep, Op, Person, Protocol, Seen},
    messages::Queues,
    names,
    past::Past,
    rules::Rules,
};
use fanwire_core::Instant;
use std::collections::BTreeMap;

/// What all judges need to know of the clients.
pub struct Facts {
    /// How events wait.
    pub rules: Rules,
    /// Events that were dropped by such a rule, and those of them that no newer one replaced; known at rest.
    pub shed: u64,
    pub shed_for_room: u64,
    /// Requests that had to wait for room, in all; known at rest.
    pub parked: u64,
    clients: Vec<ClientFacts>,
    /// Losses that the router has counted and that no connection's end explains.
    pub losses: u64,
    /// As what sources ask by API, by index in `names::ROLES`.
    pub source_roles: BTreeMap<ClientId, u8>,
    /// Whether there is a hook.
    pub hooked: bool,
    /// The longest padding of a publication.
    pub payload_max: usize,
    /// Whether what is kept may find no room.
    pub retention_is_small: bool,
    /// Whether the message center closes connections that it tells an error.
    pub errors_close: bool,
    /// Whether what is said in rooms comes with its sender's name.
    pub rooms_are_named: bool,
    /// Lines of history so far.
    pub line: u64,
    /// When the last one was written.
    pub now: Instant,
}

struct ClientFacts {
    shard: usize,
    protocol: Protocol,
    leaving: bool,
    /// Somebody told the router to send it away.
    sent_away: bool,
    person: Option<Person>,
    abilities: Abilities,
    realm: u8,
}

impl Facts {
    /// Whether it asks by API and is no session.
    pub fn is_source(&self, client: ClientId) -> bool {
        self.protocol(client) == Protocol::Api
    }

    /// Whether this source may publish to this topic, or call this procedure.
    pub fn may_ask_by_api(&self, source: ClientId, name: u8) -> bool {
        self.source_roles.get(&source).is_some_and(|role| names::may_send(*role, name))
    }

    /// The realm that its HELLO has named.
    pub fn realm(&self, client: ClientId) -> u8 {
        self.clients[client.0 as usize].realm
    }

    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        (0..self.clients.len() as u32).map(ClientId)
    }

    pub fn protocol(&self, client: ClientId) -> Protocol {
        self.clients[client.0 as usize].protocol
    }

    /// Whether it is in a room, or on its way there.
    pub fn is_echo(&self, client: ClientId) -> bool {
        self.protocol(client) == Protocol::Echo
    }

    /// Whether it speaks version 1.
    pub fn is_version_1(&self, client: ClientId) -> bool {
        self.protocol(client) == Protocol::Wamp1
    }

    /// Whether the router was told to send it away.
    pub fn was_sent_away(&self, client: ClientId) -> bool {
        self.clients[client.0 as usize].sent_away
    }

    pub fn shard(&self, client: ClientId) -> usize {
        self.clients[client.0 as usize].shard
    }

    /// Who the client is, from its WELCOME on.
    pub fn person(&self, client: ClientId) -> Option<&Person> {
        self.clients[client.0 as usize].person.as_ref()
    }

    /// What its HELLO has announced.
    pub fn abilities(&self, client: ClientId) -> Abilities {
        self.clients[client.0 as usize].abilities
    }

    /// Index in `names::ROLES`; before its WELCOME a client has none, and nothing.
    pub fn role(&self, client: ClientId) -> u8 {
        let role =
            self.person(client).map(|person| names::ROLES.iter().position(|name| *name == person.authrole));
        role.flatten().map_or(0, |at| at as u8)
    }

    /// Whether nobody can say who must hear of a publication: it may be refused for want of room, or has no tag.
    pub fn is_uncertain(&self, keep: Keep, acknowledge: bool) -> bool {
        match keep {
            Keep::No => false,
            Keep::Kept => self.retention_is_small && acknowledge,
            Keep::Ends => true,
        }
    }

    /// Whether the client has begun to go, or is gone: nothing more is owed to it.
    pub fn is_leaving(&self, client: ClientId) -> bool {
        self.clients[client.0 as usize].leaving
    }

    fn observe(&mut self, event: &Event) {
        self.line += 1;
        match event {
            Event::Opened { client, shard, protocol } => {
                assert_eq!(
                    client.0 as usize,
                    self.clients.len(),
                    "clients are numbered in the order of opening"
                );
                self.clients.push(ClientFacts {
                    shard: *shard,
                    protocol: *protocol,
                    leaving: false,
                    sent_away: false,
                    person: None,
                    abilities: Abilities::default(),
                    realm: 0,
                });
            }
            Event::Did { client, op: Op::Hello { abilities, realm, .. } } => {
                let client = &mut self.clients[client.0 as usize];
                (client.abilities, client.realm) = (*abilities, *realm);
            }
            // Who says in a room what its role may not say has to go.
            Event::Did { client, op: Op::Publish { tag, .. } }
                if self.is_echo(*client) && !names::may_send(self.role(*client), tag.name) =>
            {
                self.clients[client.0 as usize].leaving = true;
            }
            Event::Draining { client } => {
                let client = &mut self.clients[client.0 as usize];
                (client.leaving, client.sent_away) = (true, true);
            }
            Event::Did { client, op: Op::Goodbye | Op::Violate } | Event::Ended { client, .. } => {
                self.clients[client.0 as usize].leaving = true;
            }
            Event::Saw { client, seen: Seen::Welcome(person) } => {
                self.clients[client.0 as usize].person = Some(person.clone());
            }
            Event::Did { .. }
            | Event::Saw { .. }
            | Event::Decided { .. }
            | Event::Ruled { .. }
            | Event::Inner { .. }
            | Event::Asked { .. }
            | Event::AskedToAnswer { .. }
            | Event::AnsweredCall { .. }
            | Event::News { .. }
            | Event::Testament { .. }
            | Event::Flushed { .. }
            | Event::Revoked { .. }
            | Event::Killed { .. }
            | Event::Ordered { .. }
            | Event::Found { .. }
            | Event::Recalled { .. }
            | Event::Told { .. } => {}
        }
    }
}

/// `Err` has the rule and the words.
pub type Verdict = Result<(), String>;

/// One judge.
trait Checker {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict;

    /// The same, but that no callee has said anything for longer than any call waits.
    fn hushed(&mut self, _facts: &Facts) -> Verdict {
        Ok(())
    }

    /// Everybody has gone.
    fn over(&mut self, _facts: &Facts) -> Verdict {
        Ok(())
    }

    /// Everything has come to rest with its clients still there: what is still owed, is lost.
    fn settled(&mut self, _facts: &Facts) -> Verdict {
        Ok(())
    }
}

/// All judges that go by the history.
pub struct Jury {
    pub facts: Facts,
    checkers: Vec<Box<dyn Checker>>,
}

impl Jury {
    pub fn new(rules: Rules, queues: Queues, past: Past) -> Self {
        Self {
            facts: Facts {
                hooked: false,
                payload_max: 0,
                retention_is_small: false,
                errors_close: false,
                rooms_are_named: false,
                rules,
                shed: 0,
                shed_for_room: 0,
                parked: 0,
                clients: Vec::new(),
                losses: 0,
                line: 0,
                now: Instant::START,
                source_roles: BTreeMap::new(),
            },
            checkers: vec![
                Box::new(order::Order::default()),
                Box::new(lifecycle::Lifecycle::default()),
                Box::new(lists::Receivers::default()),
                Box::new(disclosed::Disclosed::default()),
                Box::new(echo::Echo::default()),
                Box::new(hooks::Hooks::default()),
                Box::new(logins::Logins::default()),
                Box::new(reach::Reach::default()),
                Box::new(replies::Replies::default()),
                Box::new(calls::Calls::default()),
                Box::new(parts::Parts::default()),
                Box::new(interrupts::Interrupts::default()),
                Box::new(endings::Endings::default()),
                Box::new(shared::Shared::default()),
                Box::new(meta::Meta::default()),
                Box::new(api::Api::default()),
                Box::new(closing::Closing::default()),
                Box::new(orders::Orders::default()),
                Box::new(messages::Messages::new(queues)),
                Box::new(inner::Inners::default()),
                Box::new(wamp1::Names::default()),
                Box::new(retained::Retained::new()),
                Box::new(past::Past::new(past)),
            ],
        }
    }

    pub fn observe(&mut self, event: &Event) -> Verdict {
        self.facts.observe(event);
        self.checkers.iter_mut().try_for_each(|checker| checker.observe(event, &self.facts))
    }

    pub fn over(&mut self) -> Verdict {
        self.checkers.iter_mut().try_for_each(|checker| checker.over(&self.facts))
    }

    pub fn hushed(&mut self) -> Verdict {
        self.checkers.iter_mut().try_for_each(|checker| checker.hushed(&self.facts))
    }

    pub fn settled(&mut self) -> Verdict {
        self.checkers.iter_mut().try_for_each(|checker| checker.settled(&self.facts))
    }
}
