//! The meta desk: what shards tell is published in one order, sessions are sent away and lose what they hold by request, and
//! leave something behind.

use super::{Verdict, World, api::Wish};
use crate::{
    history::{ClientId, Event, Protocol, Tag},
    meta::{self, News},
    names::{self, META_FIRST, REALM_BIT},
    speech,
};
use fanwire_codec::{
    payload::OwnedPayload,
    wamp2::{Payload, Serializer},
};
use fanwire_core::{
    Outlet, Readiness,
    api::{
        Actor, ApiAnswer, ApiPublication, ApiRequest, Ask, Dismissal, Revocation, Revoked, SessionCursor,
        SessionFilter, TestamentOrder, TestamentScope,
    },
    ids::{RealmId, RoleId, SessionId},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::mpsc::channel,
};

/// What the desk knows.
#[derive(Default)]
pub struct Desk {
    /// News that came before others that are older.
    waiting: BTreeMap<u64, (u8, News)>,
    /// Number of the last news that were published.
    last: u64,
    /// Who publishes what a session has left behind: a source of its own.
    heirs: BTreeMap<ClientId, Heir>,
}

/// Of one session.
#[derive(Clone, Copy)]
pub struct Heir {
    id: ClientId,
    source: usize,
    /// Testaments so far, by scope.
    added: [u32; 2],
}

/// An open session as its shard lists it.
struct Listed {
    client: ClientId,
    session: SessionId,
    realm: RealmId,
    role: RoleId,
    authid: Box<str>,
}

impl World {
    pub(super) fn meta(&mut self, at: usize) -> Verdict {
        match self.rng.below(20) {
            0..7 => self.add_testament(),
            7 | 8 => self.flush_testaments(),
            9..14 => self.remove_subscriber(),
            14..17 => self.remove_callee(),
            _ if self.rng.chance(self.plan.kills) => self.kill(at),
            _ => Ok(()),
        }
    }

    /// A shard's answer to something that is done at once; `None` while it takes no requests.
    pub(super) fn ask_at_once(&mut self, at: usize, ask: Ask) -> Option<ApiAnswer> {
        let shard = &mut self.homes[at].shard;
        shard.retry_parked(self.now);
        if shard.readiness() != Readiness::Now {
            return None;
        }
        let (sender, receiver) = channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is awaited"));
        // Known again by the number of its connection.
        let peer = |outlet: Outlet| Some(SocketAddr::from(([10, 0, 0, 1], outlet.0 as u16)));
        shard.handle_api(self.now, ApiRequest { ask, reply }, &peer).expect("it is ready");
        Some(receiver.try_recv().expect("it is answered at once"))
    }

    // --- news --------------------------------------------------------------------------------------------------

    /// What a shard tells, and what can be published by that.
    pub(super) fn hear_news(
        &mut self,
        realm: RealmId,
        number: u64,
        news: fanwire_core::meta::News,
    ) -> Verdict {
        let realm = realm.get() as u8;
        let news = meta::read(news, realm)?;
        if self.desk.waiting.insert(number, (realm, news)).is_some() || number <= self.desk.last {
            return Err(format!("news number {number} came twice"));
        }
        while let Some((realm, news)) = self.desk.waiting.remove(&(self.desk.last + 1)) {
            self.desk.last += 1;
            let ops = self.publications_of(realm, &news);
            self.tell(Event::News { realm, news })?;
            self.api.enqueue(0, ops);
        }
        Ok(())
    }

    /// At rest all numbers have come.
    pub(super) fn news_are_complete(&self) -> Verdict {
        match self.desk.waiting.first_key_value() {
            None => Ok(()),
            Some((number, _)) => Err(format!("news {} never came, and {number} did", self.desk.last + 1)),
        }
    }

    fn publications_of(&mut self, realm: u8, news: &News) -> Vec<Wish> {
        let News::Testaments(tags) = news else {
            let source = self.api.router_source(realm);
            let tag = self.api.tag(source, (realm * REALM_BIT) | news.topic());
            return vec![self.api.wish_of(source, tag)];
        };
        let source_of = |tag: &Tag| {
            let heir = self.desk.heirs.values().find(|heir| heir.id == tag.from);
            heir.expect("it was made with the testament").source
        };
        tags.iter().map(|tag| self.api.wish_of(source_of(tag), *tag)).collect()
    }

    // --- testaments --------------------------------------------------------------------------------------------

    /// Somebody with a session of WAMP that has been welcomed.
    fn somebody(&mut self) -> Option<(ClientId, SessionId)> {
        let client = self.someone()?;
        let is_wamp = self.clients[client.0 as usize].protocol == Protocol::Wamp;
        let person = self.jury.facts.person(client).filter(|_| is_wamp)?;
        Some((client, SessionId::new(person.session)?))
    }

    fn add_testament(&mut self) -> Verdict {
        let Some((client, session)) = self.somebody() else { return Ok(()) };
        let (at, realm) = (self.clients[client.0 as usize].shard, self.clients[client.0 as usize].realm);
        let mut heir = self.heir(client)?;
        let is_detached = self.rng.chance(50);
        let scope = if is_detached { TestamentScope::Detached } else { TestamentScope::Destroyed };
        // What the router itself says, nobody else may.
        let is_reserved = self.rng.chance(5);
        let topic = if is_reserved { META_FIRST } else { self.rng.below(self.plan.topics) as u8 };
        let name = (realm * REALM_BIT) | topic;
        let place = usize::from(!is_detached);
        heir.added[place] += 1;
        // Those for the detached session come before the others.
        let tag =
            Tag { from: heir.id, number: meta::TESTAMENTS_MAX * place as u32 + heir.added[place], name };
        let serializer = self.rng.pick(&Serializer::ALL);
        let args = speech::arguments(serializer, &tag, self.rng.pick(&self.plan.payload_bytes));
        let payload = OwnedPayload::copy_from(
            serializer,
            &Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY },
        );
        let realm = RealmId::new(realm.into());
        let publication = Box::new(ApiPublication {
            actor: Actor { realm, role: RoleId::new(0) },
            topic: names::uri(name).into(),
            payload,
            plain: false,
            receivers: Default::default(),
            conflate_key: None,
            retain: false,
            receipt: false,
            from: None,
        });
        let order = TestamentOrder::Add { scope, publication };
        match self.ask_at_once(at, Ask::Testament { session, realm, order }) {
            None => Ok(()),
            Some(ApiAnswer::Ordered(outcome)) => {
                self.desk.heirs.insert(client, heir);
                let outcome = outcome.map_err(|refusal| refusal.error.to_owned());
                self.tell(Event::Testament { client, is_detached, tag, outcome })
            }
            other => Err(format!("a testament was answered with {other:?}")),
        }
    }

    fn flush_testaments(&mut self) -> Verdict {
        let Some((client, session)) = self.somebody() else { return Ok(()) };
        let (at, realm) = (self.clients[client.0 as usize].shard, self.clients[client.0 as usize].realm);
        let is_detached = self.rng.chance(50);
        let scope = if is_detached { TestamentScope::Detached } else { TestamentScope::Destroyed };
        let (realm, order) = (RealmId::new(realm.into()), TestamentOrder::Flush { scope });
        match self.ask_at_once(at, Ask::Testament { session, realm, order }) {
            Some(ApiAnswer::Ordered(Ok(()))) => self.tell(Event::Flushed { client, is_detached }),
            _ => Ok(()),
        }
    }

    /// Who publishes what this client leaves behind.
    fn heir(&mut self, client: ClientId) -> Result<Heir, String> {
        if let Some(heir) = self.desk.heirs.get(&client) {
            return Ok(*heir);
        }
        let realm = self.clients[client.0 as usize].realm;
        let role = self.jury.facts.role(client);
        let (id, source) = self.introduce_source(0, realm, RoleId::new(role.into()))?;
        Ok(Heir { id, source, added: [0; 2] })
    }

    // --- revocations -------------------------------------------------------------------------------------------

    fn remove_subscriber(&mut self) -> Verdict {
        let Some((client, session)) = self.somebody() else { return Ok(()) };
        let Some((id, name)) = self.clients[client.0 as usize].some_subscription(&mut self.rng) else {
            return Ok(());
        };
        self.revoke(client, session, Revoked::Subscription(id), name)
    }

    fn remove_callee(&mut self) -> Verdict {
        let Some((client, session)) = self.somebody() else { return Ok(()) };
        let Some((id, name)) = self.clients[client.0 as usize].some_registration(&mut self.rng) else {
            return Ok(());
        };
        self.revoke(client, session, Revoked::Registration(id), name)
    }

    fn revoke(&mut self, client: ClientId, session: SessionId, what: Revoked, name: u8) -> Verdict {
        let (at, realm) = (self.clients[client.0 as usize].shard, self.clients[client.0 as usize].realm);
        let realm = RealmId::new(realm.into());
        let revocation = Revocation { session, realm, what, reason: "sim.revoked".into() };
        match self.ask_at_once(at, Ask::Revoke(Box::new(revocation))) {
            None => Ok(()),
            Some(ApiAnswer::Revoked(is_done)) => {
                let is_subscription = matches!(what, Revoked::Subscription(_));
                if !is_done {
                    return Ok(());
                }
                self.tell(Event::Revoked { client, is_subscription, name })
            }
            other => Err(format!("a revocation was answered with {other:?}")),
        }
    }

    // --- kills -------------------------------------------------------------------------------------------------

    /// Sessions are sent away as `wamp.session.kill` and its siblings do it, on one shard.
    fn kill(&mut self, at: usize) -> Verdict {
        let Some(listed) = self.list_open(at)? else { return Ok(()) };
        if listed.is_empty() {
            return Ok(());
        }
        let one = &listed[self.rng.below(listed.len())];
        let realm = Some(one.realm);
        let which = self.rng.below(8);
        let filter = match which {
            0..4 => SessionFilter { session: Some(one.session), realm, ..SessionFilter::default() },
            4 => SessionFilter { authid: Some(one.authid.clone()), realm, ..SessionFilter::default() },
            5 => SessionFilter { role: Some(one.role), realm, ..SessionFilter::default() },
            _ => SessionFilter { realm, ..SessionFilter::default() },
        };
        let quietly = which >= 6;
        let except = self.rng.chance(50).then(|| listed[self.rng.below(listed.len())].session);
        let is_meant = |one: &&Listed| {
            Some(one.session) != except
                && filter.session.is_none_or(|session| session == one.session)
                && filter.authid.as_ref().is_none_or(|authid| *authid == one.authid)
                && filter.role.is_none_or(|role| role == one.role)
                && filter.realm == Some(one.realm)
        };
        let due: BTreeSet<u64> = listed.iter().filter(is_meant).map(|one| one.session.get()).collect();
        let reason = ["sim.close.first", "sim.close.second"][self.rng.below(2)];
        for one in listed.iter().filter(is_meant) {
            self.tell(Event::Killed { client: one.client, quietly, reason: reason.to_owned() })?;
            self.tell(Event::Draining { client: one.client })?;
        }
        let limit = 1 + self.rng.below(3);
        let (mut gone, mut next) = (BTreeSet::new(), Some(SessionCursor::default()));
        while let Some(after) = next {
            let (filter, reason) = (filter.clone(), reason.into());
            let dismissal = Dismissal { filter, except, reason, message: None, quietly, after, limit };
            let Some(ApiAnswer::Dismissed { sessions, next: further }) =
                self.ask_at_once(at, Ask::Dismiss(Box::new(dismissal)))
            else {
                return Err(format!("shard {at} does not send sessions away"));
            };
            gone.extend(sessions.iter().map(|session| session.get()));
            next = further;
        }
        // What others are told when one goes may be too much for somebody's outbox, who has then gone before its page.
        let is_open = |open: &[Listed]| open.iter().any(|one| due.contains(&one.session.get()));
        let are_all_meant = gone.is_subset(&due);
        if !are_all_meant || gone != due && self.list_open(at)?.is_some_and(|open| is_open(&open)) {
            return Err(format!("shard {at} sent {gone:?} away, and meant were {due:?}"));
        }
        Ok(())
    }

    /// All open sessions of a shard.
    fn list_open(&mut self, at: usize) -> Result<Option<Vec<Listed>>, String> {
        let (filter, after) = (SessionFilter::default(), SessionCursor::default());
        let answer = self.ask_at_once(at, Ask::Sessions { filter, after, limit: usize::MAX });
        let Some(answer) = answer else { return Ok(None) };
        let ApiAnswer::Sessions { page, .. } = answer else {
            return Err(format!("a listing was answered with {answer:?}"));
        };
        let tenants = &self.homes[at].tenants;
        let listed = page.into_iter().map(|info| {
            let outlet = usize::from(info.peer.expect("it was told").port());
            let client = tenants[outlet].expect("only who is there has a session");
            Listed { client, session: info.session, realm: info.realm, role: info.role, authid: info.authid }
        });
        Ok(Some(listed.collect()))
    }
}
