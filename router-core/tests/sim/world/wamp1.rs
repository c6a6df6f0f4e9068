//! Clients of WAMP version 1: how they come in, and what becomes of requests that are never answered. That follows from what
//! the shard counts as refused.

use super::{Verdict, World};
use crate::{
    client::Client,
    history::{ClientId, Event, Op, Protocol, Ruling, Seen},
    wamp1,
};
use fanwire_codec::wamp2::code;
use fanwire_core::Flow;

/// A request without an answer, with its topic.
#[derive(Clone, Copy)]
pub enum Unanswered {
    Subscribe(u64, u8),
    Unsubscribe(u64, u8),
}

impl Unanswered {
    pub fn of(protocol: Protocol, op: &Op) -> Option<Self> {
        match op {
            _ if protocol != Protocol::Wamp1 => None,
            Op::Subscribe { request, topic, .. } => Some(Self::Subscribe(*request, *topic)),
            Op::Unsubscribe { request, topic, .. } => Some(Self::Unsubscribe(*request, (*topic)?)),
            _ => None,
        }
    }
}

impl World {
    /// Nobody says hello: who may come in is welcomed, now or when a hook has allowed it.
    pub(super) fn enter_wamp1(&mut self, client: ClientId) -> Verdict {
        let state = &mut self.clients[client.0 as usize];
        let (at, outlet) = (state.shard, state.outlet);
        let (hello, _) = state.pipeline.pop_front().expect("a newcomer begins with HELLO");
        self.tell(Event::Did { client, op: hello })?;
        let flow = self.homes[at].shard.enter_wamp(self.now, outlet);
        self.take_questions(at, Some((client, None)))?;
        match flow {
            Flow::Continue => Ok(()),
            Flow::Pause => {
                self.clients[client.0 as usize].paused = true;
                Ok(())
            }
            Flow::Closing => Err(format!("{client:?} of version 1 is not let in, and nothing forbids it")),
        }
    }

    /// Requests that the client's shard has refused so far.
    pub(super) fn refused_for(&self, client: ClientId) -> u64 {
        let Client { shard, .. } = self.clients[client.0 as usize];
        self.homes[shard].shard.counters().requests_refused
    }

    /// The shard was given the request, and had refused so many before.
    pub(super) fn was_given(&mut self, client: ClientId, request: Unanswered, before: u64) -> Verdict {
        if self.jury.facts.is_leaving(client) {
            return Ok(());
        }
        match request {
            Unanswered::Subscribe(request, topic) if self.is_asked_about(client, request) => {
                self.clients[client.0 as usize].version_1.waiting = Some((request, topic));
                Ok(())
            }
            Unanswered::Subscribe(request, topic) => self.became_of(client, request, topic, before),
            Unanswered::Unsubscribe(request, topic) => {
                let seen = self.clients[client.0 as usize].version_1.unsubscribed(client, request, topic);
                self.client_saw(client, seen)
            }
        }
    }

    /// The hook's word on a request has come, or never will. The shard had refused so many requests before.
    pub(super) fn is_ruled(&mut self, client: ClientId, ruling: Ruling, before: u64) -> Verdict {
        let Some((request, topic)) = self.clients[client.0 as usize].version_1.waiting.take() else {
            return Ok(());
        };
        // The router may not know yet that it has gone.
        if !self.live.contains(&client) || self.jury.facts.is_leaving(client) {
            return Ok(());
        }
        let uri = match ruling {
            Ruling::Allowed => return self.became_of(client, request, topic, before),
            Ruling::Denied => "wamp.error.not_authorized",
            Ruling::Failed | Ruling::Full => "wamp.error.authorization_failed",
        };
        self.client_saw(client, wamp1::refused(code::SUBSCRIBE, request, uri))
    }

    fn became_of(&mut self, client: ClientId, request: u64, topic: u8, before: u64) -> Verdict {
        let seen = if self.refused_for(client) == before {
            self.clients[client.0 as usize].version_1.subscribed(client, request, topic)
        } else {
            wamp1::refused(code::SUBSCRIBE, request, "wamp.error.unavailable")
        };
        self.client_saw(client, seen)
    }

    /// What follows from what the router did, without a message that says so.
    pub(super) fn client_saw(&mut self, client: ClientId, seen: Seen) -> Verdict {
        self.clients[client.0 as usize].saw(&seen);
        self.tell(Event::Saw { client, seen })
    }
}
