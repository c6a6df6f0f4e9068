//! How clients come: by connections of each protocol, and by API.

use super::{Verdict, World};
use crate::{
    center,
    client::{self, Client, Greeting},
    echo::{self, ROOM_REQUEST},
    history::{Abilities, ClientId, Event, Op, Person, Protocol, Seen},
    names,
    plan::REALMS,
    wire::Tongue,
};
use fanwire_codec::wamp2::Serializer;
use fanwire_core::{Encoding, Flow, Outlet, ids::RoleId};

impl World {
    /// The first clients are no connections: they ask by API.
    pub(super) fn introduce_sources(&mut self) -> Verdict {
        for index in 0..self.plan.sources as u32 {
            let (shard, realm) = (self.rng.below(self.plan.shards), self.rng.below(self.plan.realms) as u8);
            let role = names::source_role(ClientId(index));
            self.introduce_source(shard, realm, RoleId::new(role.into()))?;
        }
        // The router itself, in each realm.
        for realm in 0..REALMS.len() as u8 {
            let (_, source) = self.introduce_source(0, realm, RoleId::ROUTER)?;
            self.api.routers.push(source);
        }
        self.api.first_clients = self.clients.len();
        Ok(())
    }

    /// One that asks by API, as this role; its id, and its number among the sources.
    pub(super) fn introduce_source(
        &mut self,
        shard: usize,
        realm: u8,
        role: RoleId,
    ) -> Result<(ClientId, usize), String> {
        let (id, outlet) = (ClientId(self.clients.len() as u32), Outlet(u32::MAX));
        let mut source = Client::new(id, shard, outlet, Serializer::Json, realm, Greeting::default());
        source.protocol = Protocol::Api;
        self.clients.push(source);
        let known_role = if role == RoleId::ROUTER { 0 } else { role.index() as u8 };
        self.jury.facts.source_roles.insert(id, known_role);
        self.tell(Event::Opened { client: id, shard, protocol: Protocol::Api })?;
        Ok((id, self.api.add(id, shard, realm, role)))
    }

    pub(super) fn connect(&mut self, at: usize) -> Verdict {
        if self.live.len() >= self.plan.clients_max {
            return Ok(());
        }
        let client = ClientId(self.clients.len() as u32);
        let serializer = self.rng.pick(&Serializer::ALL);
        let home = &mut self.homes[at];
        let outlet = home.free.pop().unwrap_or(Outlet(home.tenants.len() as u32));
        home.tenants.resize(home.tenants.len().max(outlet.index() + 1), None);
        home.tenants[outlet.index()] = Some(client);
        let protocol = match () {
            () if self.rng.chance(self.plan.echoing) => Protocol::Echo,
            () if self.rng.chance(self.plan.centered) => Protocol::Center,
            () if self.plan.version_1 > 0 && self.rng.chance(self.plan.version_1) => Protocol::Wamp1,
            () => Protocol::Wamp,
        };
        let by_ticket =
            self.rng.chance(self.plan.by_ticket).then(|| !self.rng.chance(self.plan.wrong_ticket));
        // At the message center a hook decides on logins, and where there is one, nobody else comes in. In a room nobody logs in.
        let by_ticket = match protocol {
            Protocol::Center => self.plan.hooked.then(|| by_ticket.unwrap_or(true)),
            Protocol::Echo | Protocol::Wamp1 => None,
            Protocol::Wamp | Protocol::Api => by_ticket,
        };
        // Who does not log in has the realm's first role.
        let role = u8::from(by_ticket.is_some() && self.rng.chance(self.plan.limited));
        home.shard.attach(self.now, outlet);
        let (tongue, encoding) = match protocol {
            Protocol::Center => (Tongue::Center(center::Ear::new(client, role)), Encoding::MESSAGE_CENTER),
            Protocol::Echo => (Tongue::Echo, Encoding::ECHO),
            Protocol::Wamp1 => (Tongue::Wamp1, Encoding::WAMP1),
            Protocol::Wamp | Protocol::Api => (Tongue::Wamp(serializer), serializer.into()),
        };
        home.sockets.open(outlet, tongue);
        home.shard.open(self.now, outlet, encoding);
        if let Some(agreement) = self.plan.agreement(&mut self.rng) {
            home.sockets.use_compression(outlet, &agreement);
            home.shard.use_compression(self.now, outlet, &agreement);
        }
        let realm = if protocol == Protocol::Wamp { self.rng.below(self.plan.realms) as u8 } else { 0 };
        let can = client::abilities(&self.plan, &mut self.rng);
        let abilities = if protocol == Protocol::Wamp1 { Abilities::default() } else { can };
        let greeting = Greeting { by_ticket, role, abilities };
        let mut newcomer = Client::new(client, at, outlet, serializer, realm, greeting);
        newcomer.protocol = protocol;
        newcomer.told_of_gaps = protocol == Protocol::Wamp && self.rng.chance(self.plan.told_of_gaps);
        if let Some(right) = by_ticket.filter(|_| protocol == Protocol::Center) {
            newcomer.pipeline.push_back((Op::Authenticate { right }, 0));
        }
        self.clients.push(newcomer);
        self.live.push(client);
        self.tell(Event::Opened { client, shard: at, protocol })?;
        match protocol {
            Protocol::Center => self.enter_center(client),
            Protocol::Echo => self.enter_room(client),
            Protocol::Wamp1 => self.enter_wamp1(client),
            Protocol::Wamp | Protocol::Api => Ok(()),
        }
    }

    /// At the message center nobody says hello: who needs no login is in by then.
    fn enter_center(&mut self, client: ClientId) -> Verdict {
        let Client { shard, outlet, .. } = self.clients[client.0 as usize];
        let (op, _) =
            self.clients[client.0 as usize].pipeline.pop_front().expect("a newcomer begins with HELLO");
        self.homes[shard].sockets.said(outlet, &op);
        self.tell(Event::Did { client, op })
    }

    /// The path of the connection asks for a room; nobody is told that it is in.
    fn enter_room(&mut self, client: ClientId) -> Verdict {
        let room = self.rng.below(self.plan.topics) as u8;
        let state = &mut self.clients[client.0 as usize];
        state.room = Some(room);
        let (at, outlet) = (state.shard, state.outlet);
        let (hello, _) = state.pipeline.pop_front().expect("a newcomer begins with HELLO");
        self.tell(Event::Did { client, op: hello })?;
        self.tell(Event::Did {
            client,
            op: Op::Subscribe { request: ROOM_REQUEST, topic: room, get_retained: false },
        })?;
        let flow = self.homes[at].shard.enter_room(self.now, outlet, &echo::target(client, room));
        self.take_questions(at, Some((client, None)))?;
        match flow {
            Flow::Continue => self.is_let_in(client, 0),
            Flow::Pause => {
                self.clients[client.0 as usize].paused = true;
                Ok(())
            }
            Flow::Closing => Err(format!("{client:?} is not let into a room, and nothing forbids it")),
        }
    }

    /// The session of an echo client is open, with this role; it is in its room unless a hook has to be asked, or the role
    /// may not hear it.
    pub(super) fn is_let_in(&mut self, client: ClientId, role: u8) -> Verdict {
        let authid = format!("anonymous-in-a-room-{}", client.0);
        let authrole = names::ROLES[usize::from(role)].to_owned();
        let person = Person { session: (1 << 54) + u64::from(client.0), authid, authrole };
        self.client_saw(client, Seen::Welcome(person))?;
        let state = &mut self.clients[client.0 as usize];
        let room = state.room.expect("it is in one");
        if !names::may_have(role, room) {
            state.refused = true;
            return Ok(());
        }
        if self.plan.hooked && names::is_hooked(room) { Ok(()) } else { self.is_in_room(client) }
    }

    /// From now on it hears what is said there.
    pub(super) fn is_in_room(&mut self, client: ClientId) -> Verdict {
        let room = self.clients[client.0 as usize].room.expect("it is in one");
        let subscription = center::subscription(room);
        self.client_saw(client, Seen::Subscribed { request: ROOM_REQUEST, subscription })
    }
}
