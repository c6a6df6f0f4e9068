//! Backends that do something with single clients: by the id of the connection, or with all of a user's.

use super::{Verdict, World};
use crate::{
    center,
    history::{ClientId, Event, Op, Order},
    names,
    orders::{self, ORDERED},
    plan::REALMS,
    speech,
};
use fanwire_core::{
    Outlet, Readiness,
    api::{self, ApiAnswer, ApiRequest, Ask, SessionCursor, SessionFilter, SessionInfo},
    ids::{self, RealmId},
};
use std::{net::SocketAddr, sync::mpsc::channel};

impl World {
    /// Something that a backend wants of a client, which may have gone.
    pub(super) fn order(&mut self) -> Verdict {
        if self.rng.chance(15) {
            return self.send_by_uid();
        }
        let gone = self.rng.chance(15) && self.clients.len() > self.api.first_clients;
        let client = match gone {
            true => {
                let others = self.clients.len() - self.api.first_clients;
                Some(ClientId((self.api.first_clients + self.rng.below(others)) as u32))
            }
            false => self.someone(),
        };
        let Some(client) = client else { return Ok(()) };
        let at = self.clients[client.0 as usize].shard;
        if self.clients[client.0 as usize].known_as.is_none()
            && self.list(at, &SessionFilter::default()).is_none()
        {
            return Ok(());
        }
        let Some(known_as) = self.clients[client.0 as usize].known_as else { return Ok(()) };
        let order = match self.rng.below(10) {
            0..4 => self.message_to(client),
            4..7 => Order::Subscribe(self.some_topics()),
            7..9 => Order::Unsubscribe(self.some_topics()),
            _ if self.rng.chance(self.plan.dismissals) => Order::Dismiss,
            _ => self.message_to(client),
        };
        let is_here = self.rng.chance(95);
        self.give_order(client, known_as, order, is_here)
    }

    fn message_to(&mut self, client: ClientId) -> Order {
        let state = &mut self.clients[client.0 as usize];
        state.last_sent += 1;
        Order::Send { number: state.last_sent }
    }

    fn some_topics(&mut self) -> Vec<u8> {
        let count = self.rng.pick(&[1, 1, 2, 3]);
        (0..count).map(|_| self.rng.below(self.plan.topics) as u8).collect()
    }

    /// `is_here`: the backend looks for it in its realm.
    fn give_order(
        &mut self,
        client: ClientId,
        known_as: ids::ClientId,
        order: Order,
        is_here: bool,
    ) -> Verdict {
        let state = &self.clients[client.0 as usize];
        let (at, realm) = (state.shard, usize::from(state.realm));
        let realm = RealmId::new(if is_here { realm } else { (realm + 1) % REALMS.len() } as u32);
        let names = |topics: &[u8]| topics.iter().map(|topic| names::uri(*topic).into()).collect();
        let asked = match &order {
            Order::Send { number } => {
                let bytes = orders::message(client, *number).into_bytes().into();
                api::Order::Send { kind: orders::kind(u64::from(*number)), bytes }
            }
            Order::Subscribe(topics) => api::Order::Subscribe(names(topics)),
            Order::Unsubscribe(topics) => api::Order::Unsubscribe(names(topics)),
            Order::Dismiss => api::Order::Dismiss,
        };
        self.homes[at].shard.retry_parked(self.now);
        let Some(outcome) = self.ask_to_order(at, known_as, realm, asked)? else { return Ok(()) };
        let is_done = outcome.is_ok();
        self.tell(Event::Ordered { client, order: order.clone(), is_here, outcome })?;
        // What is refused changes nothing.
        if !is_done || !self.live.contains(&client) {
            return Ok(());
        }
        let mut request = || self.clients[client.0 as usize].request_of_backend();
        let ops: Vec<(u64, Op)> = match order {
            Order::Dismiss => return self.tell(Event::Draining { client }),
            Order::Send { .. } => return Ok(()),
            Order::Subscribe(topics) => {
                let get_retained = false;
                let op = |request, topic| (request, Op::Subscribe { request, topic, get_retained });
                topics.into_iter().map(|topic| op(request(), topic)).collect()
            }
            Order::Unsubscribe(topics) => {
                let op = |request, topic| {
                    let subscription = center::subscription(topic);
                    (request, Op::Unsubscribe { request, subscription, topic: Some(topic) })
                };
                topics.into_iter().map(|topic| op(request(), topic)).collect()
            }
        };
        ops.into_iter().try_for_each(|(request, op)| self.count_as(client, (known_as, realm), request, op))
    }

    /// For the judges the order was a request of the client, which hears of it by a message.
    fn count_as(
        &mut self,
        client: ClientId,
        (known_as, realm): (ids::ClientId, RealmId),
        request: u64,
        op: Op,
    ) -> Verdict {
        let state = &self.clients[client.0 as usize];
        let (at, outlet) = (state.shard, state.outlet);
        self.homes[at].sockets.ordered(outlet, request, &op);
        self.tell(Event::Did { client, op })?;
        let bytes = orders::done(client, request).into_bytes().into();
        let order = api::Order::Send { kind: orders::kind(request), bytes };
        match self.ask_to_order(at, known_as, realm, order)? {
            Some(Ok(())) => Ok(()),
            // What it was due by then was too much for it, so it was cut.
            Some(Err(uri)) if uri == NOT_HERE => Ok(()),
            other => Err(format!("{client:?} was subscribed by order, and to send to it is {other:?}")),
        }
    }

    /// `None` while the shard takes no requests.
    fn ask_to_order(
        &mut self,
        at: usize,
        client: ids::ClientId,
        realm: RealmId,
        order: api::Order,
    ) -> Result<Option<Result<(), String>>, String> {
        let (shard, now) = (&mut self.homes[at].shard, self.now);
        if shard.readiness() != Readiness::Now {
            return Ok(None);
        }
        let (sender, receiver) = channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is awaited"));
        let ask = Ask::Order { client, realm, order };
        shard.handle_api(now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
        match receiver.try_recv() {
            Ok(ApiAnswer::Ordered(outcome)) => Ok(Some(outcome.map_err(|refusal| refusal.error.to_owned()))),
            other => Err(format!("an order was answered with {other:?}")),
        }
    }

    /// A message to each session of a user, on whichever shard.
    fn send_by_uid(&mut self) -> Verdict {
        if self.clients.len() == self.api.first_clients {
            return Ok(());
        }
        let uid = speech::authid(ClientId(self.rng.below(self.clients.len()) as u32));
        let filter = SessionFilter { authid: Some(uid.clone().into()), ..SessionFilter::default() };
        let mut found = Vec::new();
        for at in 0..self.homes.len() {
            let Some(page) = self.list(at, &filter) else { return Ok(()) };
            found.extend(page);
        }
        self.tell(Event::Found { uid, clients: found.iter().map(|(client, _)| *client).collect() })?;
        found.into_iter().try_for_each(|(client, known_as)| {
            let order = self.message_to(client);
            self.give_order(client, known_as, order, true)
        })
    }

    /// All open sessions of a shard that the filter admits. How each is known is remembered.
    fn list(&mut self, at: usize, filter: &SessionFilter) -> Option<Vec<(ClientId, ids::ClientId)>> {
        let home = &mut self.homes[at];
        home.shard.retry_parked(self.now);
        if home.shard.readiness() != Readiness::Now {
            return None;
        }
        let (sender, receiver) = channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is awaited"));
        let (filter, after) = (filter.clone(), SessionCursor::default());
        let ask = Ask::Sessions { filter, after, limit: usize::MAX };
        // Known again by the number of its connection.
        let peer = |outlet: Outlet| Some(SocketAddr::from(([10, 0, 0, 1], outlet.0 as u16)));
        home.shard.handle_api(self.now, ApiRequest { ask, reply }, &peer).expect("it is ready");
        let Ok(ApiAnswer::Sessions { page, .. }) = receiver.try_recv() else { return None };
        let known = |info: &SessionInfo| {
            let outlet = usize::from(info.peer.expect("it was told").port());
            let client = home.tenants[outlet].expect("only who is there has a session");
            (client, info.client)
        };
        let found: Vec<_> = page.iter().map(known).collect();
        for (client, known_as) in &found {
            self.clients[client.0 as usize].known_as = Some(*known_as);
        }
        Some(found)
    }
}

impl crate::client::Client {
    /// The next request that a backend makes in its place.
    fn request_of_backend(&mut self) -> u64 {
        self.last_ordered += 1;
        ORDERED + self.last_ordered
    }
}

/// What is answered of a client that has gone.
const NOT_HERE: &str = "wamp.error.no_such_session";
