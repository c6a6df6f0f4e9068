//! Sources that ask by API: publications, calls, listings and disconnects among the sessions.
//!
//! The judges know a source as a client that is never welcomed. What it asks counts from when its shard takes the request.

use super::{Home, Verdict, World};
use crate::{
    client,
    history::{ClientId, Event, Keep, Lists, Op, Seen, Tag, Wants},
    names::{self, REALM_BIT},
    speech,
};
use fanwire_codec::{
    payload::OwnedPayload,
    wamp2::{Payload, Serializer, code},
};
use fanwire_core::{
    Instant, Readiness,
    api::{
        Actor, ApiAnswer, ApiCall, ApiPublication, ApiRequest, Ask, CLOSE_KILLED, CallFailure, SessionCursor,
        SessionFilter, SessionInfo,
    },
    ids::{RealmId, RoleId, SessionId},
    inner::InnerId,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

/// All sources, and what they wait for.
pub struct Sources {
    sources: Vec<Source>,
    /// By shard: what was not handled yet.
    queues: Vec<VecDeque<Wish>>,
    waiting: BTreeMap<u64, Waiting>,
    last_token: u64,
    answers: (Sender<Answered>, Receiver<Answered>),
    /// The sources that are the router itself, by realm.
    pub routers: Vec<usize>,
    /// Clients that are none, at the beginning.
    pub first_clients: usize,
}

/// Which question, and its answer.
type Answered = (u64, ApiAnswer);

struct Source {
    id: ClientId,
    shard: usize,
    realm: u8,
    role: RoleId,
    last_request: u64,
    last_number: u32,
}

/// Publications, or one call, of one source.
pub struct Wish {
    source: usize,
    ops: Vec<(Op, usize)>,
}

struct Waiting {
    source: ClientId,
    shard: usize,
    ops: Vec<Op>,
    deadline: Option<Instant>,
}

impl Sources {
    pub fn new(shards: usize) -> Self {
        let queues = (0..shards).map(|_| VecDeque::new()).collect();
        Self {
            sources: Vec::new(),
            queues,
            waiting: BTreeMap::new(),
            last_token: 0,
            answers: channel(),
            routers: Vec::new(),
            first_clients: 0,
        }
    }

    /// One more; its number.
    pub fn add(&mut self, id: ClientId, shard: usize, realm: u8, role: RoleId) -> usize {
        self.sources.push(Source { id, shard, realm, role, last_request: 0, last_number: 0 });
        self.sources.len() - 1
    }

    /// What comes from the router itself in this realm.
    pub fn router_source(&self, realm: u8) -> usize {
        self.routers[usize::from(realm)]
    }

    /// The next tag of a source.
    pub fn tag(&mut self, source: usize, name: u8) -> Tag {
        self.sources[source].tag(name)
    }

    /// The publication of this.
    pub fn wish_of(&mut self, source: usize, tag: Tag) -> Wish {
        let publish = Op::Publish {
            request: self.sources[source].request(),
            tag,
            acknowledge: true,
            exclude_me: true,
            disclose: false,
            lists: None,
            receipt: false,
            key: None,
            keep: Keep::No,
        };
        Wish { source, ops: vec![(publish, 0)] }
    }

    /// One shard is to do this, whatever waits for it already.
    pub fn enqueue(&mut self, shard: usize, wishes: Vec<Wish>) {
        self.queues[shard].extend(wishes);
    }

    /// At rest nobody waits for an answer.
    pub fn are_answered(&self) -> Verdict {
        match self.waiting.values().next() {
            None if self.queues.iter().all(VecDeque::is_empty) => Ok(()),
            None => Err("a request by API waits, and nothing is in its way".to_owned()),
            Some(Waiting { source, ops, .. }) => {
                Err(format!("{source:?} asked by API and was never answered: {ops:?}"))
            }
        }
    }
}

impl Source {
    fn tag(&mut self, name: u8) -> Tag {
        self.last_number += 1;
        Tag { from: self.id, number: self.last_number, name }
    }

    fn request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }
}

impl World {
    /// One of the things that come by API.
    pub(super) fn api(&mut self, at: usize) -> Verdict {
        match self.rng.below(20) {
            0 => self.list_sessions(at)?,
            1 if self.rng.chance(self.plan.dismissals) => self.dismiss_somebody()?,
            _ => self.wish(),
        }
        let count = 1 + self.rng.below(4);
        self.hand_requests(at, count)
    }

    fn wish(&mut self) {
        let Self { rng, plan, api, people, .. } = self;
        if api.sources.is_empty() {
            return;
        }
        let index = rng.below(plan.sources);
        let source = &mut api.sources[index];
        if api.queues[source.shard].len() >= QUEUE_MAX {
            return;
        }
        let realm = source.realm * REALM_BIT;
        let ops = if rng.chance(20) {
            let tag = source.tag(realm | rng.below(plan.procedures) as u8);
            vec![(
                Op::Call { request: source.request(), tag, disclose: false, wants: Wants::default() },
                rng.pick(&plan.payload_bytes),
            )]
        } else {
            let count = 1 + rng.below(plan.burst);
            let publish = |_| {
                let tag = source.tag(realm | rng.below(plan.topics) as u8);
                let lists = rng.chance(plan.listed / 2);
                let lists = lists.then(|| Box::new(client::lists(people.make_contiguous(), rng)));
                let keep = plan.retention.keep(rng);
                let publish = Op::Publish {
                    request: source.request(),
                    tag,
                    acknowledge: true,
                    exclude_me: true,
                    disclose: false,
                    lists,
                    // Who got what has no tag, nobody can count.
                    receipt: rng.chance(50) && keep != Keep::Ends,
                    key: rng.chance(plan.keyed).then(|| rng.below(3) as u8),
                    keep,
                };
                (publish, rng.pick(&plan.payload_bytes))
            };
            (0..count).map(publish).collect()
        };
        api.queues[source.shard].push_back(Wish { source: index, ops });
    }

    /// The shard is given what waits for it, as long as it takes more.
    pub(super) fn hand_requests(&mut self, at: usize, count: usize) -> Verdict {
        for _ in 0..count {
            if self.rng.chance(80) {
                self.show_ring_space(at);
            }
            if self.rng.chance(50) {
                self.homes[at].shard.retry_parked(self.now);
            }
            if self.homes[at].shard.readiness() != Readiness::Now {
                return Ok(());
            }
            let Some(Wish { source, ops }) = self.api.queues[at].pop_front() else { return Ok(()) };
            let Source { id, realm, role, .. } = self.api.sources[source];
            let actor = Actor { realm: RealmId::new(realm.into()), role };
            let is_plain = source < self.plan.sources;
            let speaker = if is_plain { self.speaker(realm) } else { None };
            let (ask, deadline) = self.ask(actor, &ops, speaker.map(|which| self.inners[which].id()));
            for (op, _) in &ops {
                if let (Some(which), Op::Publish { tag, .. }) = (speaker, op) {
                    self.says(which, *tag)?;
                }
                self.tell(Event::Did { client: id, op: op.clone() })?;
            }
            self.api.last_token += 1;
            let token = self.api.last_token;
            let ops = ops.into_iter().map(|(op, _)| op).collect();
            self.api.waiting.insert(token, Waiting { source: id, shard: at, ops, deadline });
            let answers = self.api.answers.0.clone();
            let reply = Box::new(move |answer| answers.send((token, answer)).expect("the world listens"));
            let request = ApiRequest { ask, reply };
            if self.homes[at].shard.handle_api(self.now, request, &|_| None).is_err() {
                return Err(format!("shard {at} said that it is ready and takes no request"));
            }
        }
        Ok(())
    }

    fn ask(&mut self, actor: Actor, ops: &[(Op, usize)], from: Option<InnerId>) -> (Ask, Option<Instant>) {
        let serializer = self.rng.pick(&Serializer::ALL);
        let payload = |tag: &Tag, padding: usize| {
            let args = speech::arguments(serializer, tag, padding);
            OwnedPayload::copy_from(
                serializer,
                &Payload { args: Some(&args), kwargs: None, ..Payload::EMPTY },
            )
        };
        let nothing = || OwnedPayload::copy_from(serializer, &Payload::EMPTY);
        if let [(Op::Call { tag, .. }, padding)] = ops {
            let timeout = Duration::from_nanos(self.rng.pick(&[1_000_000, 50_000_000, 10_000_000_000]));
            let (procedure, payload) = (names::uri(tag.name).into(), payload(tag, *padding));
            return (Ask::Call(ApiCall { actor, procedure, payload, timeout }), Some(self.now + timeout));
        }
        let publication = |(op, padding): &(Op, usize)| {
            let Op::Publish { tag, lists, key, receipt, keep, .. } = op else {
                unreachable!("calls come alone")
            };
            ApiPublication {
                actor,
                topic: names::uri(tag.name).into(),
                payload: if *keep == Keep::Ends { nothing() } else { payload(tag, *padding) },
                plain: false,
                receivers: lists.as_deref().map(Lists::to_owned_receivers).unwrap_or_default(),
                conflate_key: key.map(|key| speech::conflate_key(key).into()),
                retain: *keep != Keep::No,
                receipt: *receipt,
                from,
            }
        };
        (Ask::Publish(ops.iter().map(publication).collect()), None)
    }

    /// What the shards have answered.
    pub(super) fn hear_answers(&mut self) -> Verdict {
        while let Ok((token, answer)) = self.api.answers.1.try_recv() {
            let Waiting { source, ops, .. } =
                self.api.waiting.remove(&token).ok_or("a request by API was answered twice")?;
            match answer {
                ApiAnswer::Published(outcomes) if outcomes.len() == ops.len() => {
                    for (op, outcome) in ops.iter().zip(outcomes) {
                        let Op::Publish { request, .. } = *op else { unreachable!("it was a publication") };
                        let seen = match outcome {
                            Ok(receipt) => Seen::Published {
                                request,
                                publication: receipt.publication.get(),
                                matched: receipt.matched,
                            },
                            Err(refusal) => refused(code::PUBLISH, request, refusal.error, None),
                        };
                        self.tell(Event::Saw { client: source, seen })?;
                    }
                }
                ApiAnswer::Called(outcome) => {
                    let [Op::Call { request, .. }] = ops[..] else {
                        return Err(format!("the answer to a call came for {ops:?}"));
                    };
                    let tag = |payload: &OwnedPayload| payload.view().args.and_then(speech::read_tag);
                    let seen = match outcome {
                        Ok(payload) => {
                            let tag = tag(&payload).ok_or("a result was lost or changed")?;
                            Seen::Result { request, tag }
                        }
                        Err(CallFailure::Callee { error, payload }) => {
                            refused(code::CALL, request, &error, tag(&payload))
                        }
                        Err(CallFailure::Refused(refusal)) => {
                            refused(code::CALL, request, refusal.error, None)
                        }
                        Err(CallFailure::TimedOut) => refused(code::CALL, request, "timed out", None),
                    };
                    self.tell(Event::Saw { client: source, seen })?;
                }
                other => return Err(format!("{other:?} answers {ops:?}")),
            }
        }
        Ok(())
    }

    /// A shard that was told the time has ended the calls whose time is over.
    pub(super) fn calls_are_given_up(&self, at: usize) -> Verdict {
        let is_late = |waiting: &&Waiting| {
            waiting.shard == at && waiting.deadline.is_some_and(|deadline| deadline <= self.now)
        };
        match self.api.waiting.values().find(is_late) {
            None => Ok(()),
            Some(Waiting { source, ops, .. }) => Err(format!("the time of {source:?} is over for {ops:?}")),
        }
    }

    /// Each open session of the shard is in one page.
    fn list_sessions(&mut self, at: usize) -> Verdict {
        let limit = 1 + self.rng.below(5);
        let Self { homes, now, .. } = self;
        let Home { shard, .. } = &mut homes[at];
        let (mut listed, mut next) = (BTreeSet::new(), Some(SessionCursor::default()));
        while let Some(after) = next {
            shard.retry_parked(*now);
            if shard.readiness() != Readiness::Now {
                return Ok(());
            }
            let (sender, receiver) = channel();
            let ask = Ask::Sessions { filter: SessionFilter::default(), after, limit };
            let reply = Box::new(move |answer| sender.send(answer).expect("it is awaited"));
            shard.handle_api(*now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
            let Ok(ApiAnswer::Sessions { page, next: further }) = receiver.try_recv() else {
                return Err(format!("shard {at} does not list its sessions"));
            };
            let twice = page.iter().find(|info: &&SessionInfo| !listed.insert(info.session));
            if let Some(info) = twice {
                return Err(format!("shard {at} lists {} twice", info.session));
            }
            next = further;
        }
        if listed.len() as u64 != shard.counters().sessions {
            return Err(format!("shard {at} lists {} of its sessions", listed.len()));
        }
        Ok(())
    }

    /// An operator sends a session away.
    fn dismiss_somebody(&mut self) -> Verdict {
        let Some(client) = self.someone() else { return Ok(()) };
        let at = self.clients[client.0 as usize].shard;
        let Some(session) = self.jury.facts.person(client).and_then(|person| SessionId::new(person.session))
        else {
            return Ok(());
        };
        self.homes[at].shard.retry_parked(self.now);
        if self.homes[at].shard.readiness() != Readiness::Now {
            return Ok(());
        }
        self.tell(Event::Draining { client })?;
        let (sender, receiver) = channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("it is awaited"));
        let ask = Ask::Disconnect { session, reason: CLOSE_KILLED.into() };
        let (shard, now) = (&mut self.homes[at].shard, self.now);
        shard.handle_api(now, ApiRequest { ask, reply }, &|_| None).expect("it is ready");
        match receiver.try_recv() {
            Ok(ApiAnswer::Disconnected(_)) => Ok(()),
            other => Err(format!("sending {client:?} away was answered with {other:?}")),
        }
    }
}

fn refused(request_type: u64, request: u64, uri: &str, tag: Option<Tag>) -> Seen {
    Seen::Error { request_type, request, uri: uri.to_owned(), tag }
}

/// Requests that wait for one shard.
const QUEUE_MAX: usize = 8;
