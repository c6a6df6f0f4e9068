//! One modelled client: what it knows from what it saw, and hence what it can sensibly ask next. It judges nothing.

mod calls;
mod wamp1;

use super::{
    echo::ROOM_REQUEST,
    history::{Abilities, ClientId, Keep, Lists, Op, Person, Protocol, Say, Seen, Tag},
    names::{GAPS, META_COUNT, META_FIRST, PATTERN_BIT, PATTERN_COUNT, REALM_BIT, is_gaps},
    plan::{Act, Plan},
    rng::Rng,
    wamp1::{Known, UNKNOWN_AUTHID},
};
use calls::Work;
pub use calls::{TIMEOUT_MAX_MS, abilities};
use fanwire_codec::wamp2::Serializer;
use fanwire_core::Outlet;
use std::collections::{BTreeMap, VecDeque};

pub struct Client {
    pub id: ClientId,
    pub shard: usize,
    pub outlet: Outlet,
    pub realm: u8,
    /// The name by which backends know its connection, once they have found it.
    pub known_as: Option<fanwire_core::ids::ClientId>,
    /// Messages of backends to it, and requests in its place.
    pub last_sent: u32,
    pub last_ordered: u64,
    pub serializer: Serializer,
    pub protocol: Protocol,
    /// The room that it has asked for, if it is an echo client.
    pub room: Option<u8>,
    /// It is not let into its room, and will be told so.
    pub refused: bool,
    /// It was not let in there, and so it goes.
    pub wants_out: bool,
    /// Whether it has the right ticket, if it logs in by one.
    by_ticket: Option<bool>,
    /// It wants to be told of gaps.
    pub told_of_gaps: bool,
    /// The role of its user, by index in `names::ROLES`.
    pub role: u8,
    /// What it has written and the shard was not given yet.
    pub pipeline: VecDeque<(Op, usize)>,
    /// The shard wants no input of it now.
    pub paused: bool,
    /// The shard wants no input of it ever.
    pub deaf: bool,
    /// It reads nothing for a while.
    pub stuck: bool,
    /// WELCOME was seen, and no end yet.
    pub joined: bool,
    /// It was sent away and has not answered yet.
    pub must_answer_goodbye: bool,
    /// Its GOODBYE was given to the shard.
    pub said_goodbye: bool,
    last_request: u64,
    last_number: u32,
    asked: BTreeMap<u64, Asked>,
    subscriptions: BTreeMap<u64, u8>,
    registrations: BTreeMap<u64, u8>,
    work: Work,
    abilities: Abilities,
    /// If it speaks version 1.
    pub version_1: Known,
}

/// Who a client says that it is, and what it can do.
#[derive(Clone, Copy, Default)]
pub struct Greeting {
    pub by_ticket: Option<bool>,
    pub role: u8,
    pub abilities: Abilities,
}

#[derive(Clone, Copy)]
enum Asked {
    Subscribe(u8),
    Register(u8),
    /// More parts of it may follow, to this procedure.
    Call {
        more: Option<u8>,
    },
}

/// More than this many operations ahead of the router, no client writes.
const PIPELINE_MAX: usize = 32;

impl Client {
    pub fn new(
        id: ClientId,
        shard: usize,
        outlet: Outlet,
        serializer: Serializer,
        realm: u8,
        greeting: Greeting,
    ) -> Self {
        let Greeting { by_ticket, role, abilities } = greeting;
        Self {
            id,
            shard,
            outlet,
            realm,
            serializer,
            protocol: Protocol::Wamp,
            known_as: None,
            last_sent: 0,
            last_ordered: 0,
            room: None,
            refused: false,
            wants_out: false,
            pipeline: VecDeque::from([(Op::Hello { realm, by_ticket, abilities }, 0)]),
            by_ticket,
            told_of_gaps: false,
            role,
            paused: false,
            deaf: false,
            stuck: false,
            joined: false,
            must_answer_goodbye: false,
            said_goodbye: false,
            // The first one is for a room.
            last_request: ROOM_REQUEST,
            last_number: 0,
            asked: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            registrations: BTreeMap::new(),
            work: Work::default(),
            abilities,
            version_1: Known::default(),
        }
    }

    pub fn can_hand(&self) -> bool {
        !self.paused && !self.deaf && !self.refused && !self.pipeline.is_empty()
    }

    pub fn is_centered(&self) -> bool {
        self.protocol == Protocol::Center
    }

    pub fn has_invocations(&self) -> bool {
        self.work.has_invocations()
    }

    /// Takes note of what it saw.
    pub fn saw(&mut self, seen: &Seen) {
        match seen {
            Seen::Challenge => {
                let right = self.by_ticket.unwrap_or_default();
                self.pipeline.push_back((Op::Authenticate { right }, 0));
            }
            Seen::Welcome { .. } => {
                self.joined = true;
                if self.told_of_gaps {
                    let topic = (self.realm * REALM_BIT) | GAPS;
                    let request = self.ask(Some(Asked::Subscribe(topic)));
                    self.pipeline.push_back((Op::Subscribe { request, topic, get_retained: false }, 0));
                }
            }
            Seen::Goodbye { .. } => {
                self.joined = false;
                self.must_answer_goodbye = !self.said_goodbye;
            }
            Seen::Abort { .. } | Seen::Close { .. } => {
                self.joined = false;
                self.wants_out |= self.is_centered() && matches!(seen, Seen::Abort { .. });
            }
            Seen::Subscribed { request, subscription } => {
                // From its gaps no client unsubscribes, nor any from its room.
                if let Some(Asked::Subscribe(topic)) = self.asked.remove(request)
                    && !is_gaps(topic)
                {
                    self.subscriptions.insert(*subscription, topic);
                }
            }
            Seen::Revoked { is_subscription: true, id } => drop(self.subscriptions.remove(id)),
            Seen::Revoked { is_subscription: false, id } => drop(self.registrations.remove(id)),
            Seen::Registered { request, registration } => {
                if let Some(Asked::Register(procedure)) = self.asked.remove(request) {
                    self.registrations.insert(*registration, procedure);
                }
            }
            Seen::Invocation { request, tag, asked, .. } => self.work.invoked(*request, *tag, asked),
            Seen::Interrupt { request, mode } => self.work.interrupted(*request, *mode),
            Seen::Result { request, .. } | Seen::Error { request, .. } => drop(self.asked.remove(request)),
            _ => {}
        }
    }

    /// Writes one operation of this kind, if it can. `people` are those that it may put on lists.
    pub fn act(&mut self, act: Act, plan: &Plan, people: &[Person], rng: &mut Rng) {
        if self.pipeline.len() >= PIPELINE_MAX {
            return;
        }
        // It need not wait until it is in its room, and is not told.
        if let Some(room) = self.room {
            return self.say(act, room, plan, rng);
        }
        if self.protocol == Protocol::Wamp1 {
            return self.act_in_version_1(act, plan, people, rng);
        }
        // Nor who says something too early at the message center.
        let is_too_early = self.is_centered() && act == Act::Call && rng.chance(20);
        if !self.joined && !is_too_early {
            return;
        }
        if self.is_centered() && act == Act::Call {
            let say = rng.pick(&[Say::Work, Say::Chat]);
            let request = self.ask(None);
            return self.pipeline.push_back((Op::Say { request, say }, 0));
        }
        if self.is_centered() && !matches!(act, Act::Subscribe | Act::Unsubscribe) {
            if act == Act::Register && self.by_ticket.is_some() {
                self.pipeline.push_back((Op::Authenticate { right: rng.chance(70) }, 0));
            }
            return;
        }
        let realm = self.realm * REALM_BIT;
        let topic = realm | rng.below(plan.topics) as u8;
        let procedure = realm | rng.below(plan.procedures) as u8;
        let padding = rng.pick(&plan.payload_bytes);
        let op = match act {
            Act::Subscribe => {
                let topic = match () {
                    () if self.is_centered() => topic,
                    () if rng.chance(plan.meta / 2) => realm | (META_FIRST + rng.below(META_COUNT) as u8),
                    () => self.or_pattern(topic, plan, rng),
                };
                let request = self.ask(Some(Asked::Subscribe(topic)));
                let get_retained = !self.is_centered() && plan.retention.asks(rng);
                Op::Subscribe { request, topic, get_retained }
            }
            Act::Unsubscribe => {
                let Some((subscription, topic)) = take_one(&mut self.subscriptions, rng) else { return };
                if self.is_centered() && topic.is_none() {
                    return;
                }
                Op::Unsubscribe { request: self.ask(None), subscription, topic }
            }
            Act::Publish => {
                let tag = self.tag(topic);
                let acknowledge = rng.chance(plan.acknowledge);
                let keep = plan.retention.keep(rng);
                Op::Publish {
                    request: self.ask(None),
                    tag,
                    acknowledge,
                    exclude_me: !rng.chance(plan.include_me),
                    disclose: rng.chance(plan.disclosed),
                    lists: rng.chance(plan.listed).then(|| Box::new(lists(people, rng))),
                    receipt: false,
                    key: rng.chance(plan.keyed).then(|| rng.below(3) as u8),
                    keep,
                }
            }
            Act::Register => {
                let procedure = self.or_pattern(procedure, plan, rng);
                let request = self.ask(Some(Asked::Register(procedure)));
                Op::Register { request, procedure, offer: calls::offer(procedure, plan, rng) }
            }
            Act::Unregister => {
                let Some((registration, procedure)) = take_one(&mut self.registrations, rng) else { return };
                Op::Unregister { request: self.ask(None), registration, procedure }
            }
            Act::Call => self.call(procedure, plan, rng),
            Act::Cancel => {
                let Some(cancel) = self.cancel(rng) else { return };
                cancel
            }
            Act::Answer => {
                let Some(answer) = self.work.answer(plan, rng) else { return };
                answer
            }
            Act::Goodbye => {
                self.joined = false;
                Op::Goodbye
            }
            Act::Violate => {
                self.joined = false;
                Op::Violate
            }
        };
        self.pipeline.push_back((op, padding));
    }

    /// In a room one can say something, or go.
    fn say(&mut self, act: Act, room: u8, plan: &Plan, rng: &mut Rng) {
        match act {
            Act::Publish | Act::Call | Act::Answer => {
                let publish = Op::Publish {
                    request: self.ask(None),
                    tag: self.tag(room),
                    acknowledge: false,
                    exclude_me: !plan.rooms.includes_sender,
                    disclose: false,
                    lists: None,
                    receipt: false,
                    key: None,
                    keep: Keep::No,
                };
                self.pipeline.push_back((publish, rng.pick(&plan.payload_bytes)));
            }
            Act::Goodbye => self.wants_out = true,
            _ => {}
        }
    }

    /// One of its subscriptions.
    pub fn some_subscription(&self, rng: &mut Rng) -> Option<(u64, u8)> {
        some(&self.subscriptions, rng)
    }

    /// One of its registrations.
    pub fn some_registration(&self, rng: &mut Rng) -> Option<(u64, u8)> {
        some(&self.registrations, rng)
    }

    /// Answers the router's GOODBYE.
    pub fn answer_goodbye(&mut self) {
        self.must_answer_goodbye = false;
        self.pipeline.clear();
        self.pipeline.push_back((Op::Goodbye, 0));
    }

    fn or_pattern(&self, name: u8, plan: &Plan, rng: &mut Rng) -> u8 {
        if rng.chance(plan.patterns) {
            (self.realm * REALM_BIT) | PATTERN_BIT | rng.below(PATTERN_COUNT) as u8
        } else {
            name
        }
    }

    fn ask(&mut self, asked: Option<Asked>) -> u64 {
        self.last_request += 1;
        if let Some(asked) = asked {
            self.asked.insert(self.last_request, asked);
        }
        self.last_request
    }

    fn tag(&mut self, name: u8) -> Tag {
        self.last_number += 1;
        Tag { from: self.id, number: self.last_number, name }
    }
}

fn some(held: &BTreeMap<u64, u8>, rng: &mut Rng) -> Option<(u64, u8)> {
    let place = if held.is_empty() { return None } else { rng.below(held.len()) };
    held.iter().nth(place).map(|(id, name)| (*id, *name))
}

/// Mostly one list, sometimes any of them.
pub fn lists(people: &[Person], rng: &mut Rng) -> Lists {
    let only = rng.below(8);
    let mut list = |number: usize| {
        let is_there = if only < 6 { only == number } else { rng.chance(40) };
        is_there.then(|| {
            let count = rng.pick(&[0, 1, 1, 2, 4, 16]);
            let mut somebody = || match people.len() {
                0 => stranger(),
                _ if rng.chance(5) => stranger(),
                count => people[rng.below(count)].clone(),
            };
            (0..count).map(|_| somebody()).collect::<Vec<Person>>()
        })
    };
    let sessions = |list: Option<Vec<Person>>| list.map(|list| list.iter().map(|one| one.session).collect());
    let authid = |one: Person| if one.authid == UNKNOWN_AUTHID { stranger().authid } else { one.authid };
    let authids = |list: Option<Vec<Person>>| list.map(|list| list.into_iter().map(authid).collect());
    let authroles =
        |list: Option<Vec<Person>>| list.map(|list| list.into_iter().map(|one| one.authrole).collect());
    Lists {
        exclude: sessions(list(0)),
        exclude_authid: authids(list(1)),
        exclude_authrole: authroles(list(2)),
        eligible: sessions(list(3)),
        eligible_authid: authids(list(4)),
        eligible_authrole: authroles(list(5)),
    }
}

/// Nobody who was ever here.
fn stranger() -> Person {
    Person { session: 1 << 53, authid: "anonymous-7".to_owned(), authrole: "stranger".to_owned() }
}

/// One of what it holds; now and then something that it does not hold.
fn take_one(held: &mut BTreeMap<u64, u8>, rng: &mut Rng) -> Option<(u64, Option<u8>)> {
    if rng.chance(5) {
        return Some((1 << 40, None));
    }
    if held.is_empty() {
        return None;
    }
    let id = *held.keys().nth(rng.below(held.len())).expect("below the count");
    held.remove(&id).map(|name| (id, Some(name)))
}
