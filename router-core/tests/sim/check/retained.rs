//! Retained events: who asks for them has first what is kept of each topic, once, and then what is newer.
//!
//! | | |
//! |---|---|
//! | order | of a topic, what is kept comes once per SUBSCRIBE, and before anything else after SUBSCRIBED |
//! | newest | nothing comes as kept that a newer publication had replaced or ended before SUBSCRIBE was given to the shard |
//! | nothing lost | what was kept by then, and nothing came after it, comes; else something of that topic does |
//! | once | what a replay has had its turn with does not come as a live event too, for as long as that is promised |
//!
//! That kept events are for whom they come to is said by `lists`, `order` (excluded publishers), `lifecycle` (roles) and
//! `disclosed`, as of any event.

use super::{
    Checker, Facts, Verdict,
    publications::{Fate, Publication, Publications},
};
use crate::{
    history::{ClientId, Event, Keep, Op, Seen, Tag},
    names::{self, REALM_BIT},
};
use fanwire_core::Instant;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub struct Retained {
    /// What was to be kept, or to end what is kept.
    publications: Publications,
    /// Topics of which something was published that is not kept: whoever has a replay may get some events twice there.
    disturbed: BTreeSet<u8>,
    /// SUBSCRIBEs without an answer; `None`: it does not ask for what is kept.
    asking: BTreeMap<(ClientId, u64), (u8, Option<Replay>)>,
    /// By what a client is subscribed, by the id.
    names: BTreeMap<(ClientId, u64), u8>,
    /// Whatever a client has ever asked for.
    ever_asked: BTreeSet<(ClientId, u8)>,
    unsubscribing: BTreeMap<(ClientId, u64), u8>,
    /// Of its newest SUBSCRIBE that asks for it, by client and by what it is subscribed to.
    replays: BTreeMap<(ClientId, u8), Replay>,
}

#[derive(Clone)]
struct Replay {
    /// SUBSCRIBE was given then, and done by then.
    given: u64,
    done: u64,
    at: Instant,
    /// A hook is asked about it.
    is_late: bool,
    topics: BTreeMap<u8, Heard>,
    /// The client unsubscribes, or was told to go.
    ending: bool,
}

/// What came of a topic since SUBSCRIBED.
#[derive(Clone, Copy, Default)]
struct Heard {
    kept: bool,
    live: bool,
}

/// Whether nothing is left of `older` when `newer` is done, kept or not.
fn replaces(newer: &Publication, older: &Publication) -> bool {
    newer.lists.is_none() || newer.lists == older.lists
}

impl Checker for Retained {
    fn observe(&mut self, event: &Event, facts: &Facts) -> Verdict {
        self.publications.observe(event, facts);
        match event {
            Event::Did { client, op } => self.did(*client, op, facts),
            Event::Saw { client, seen } => return self.saw(*client, seen, facts),
            Event::Revoked { client, is_subscription: true, name } => self.ends(*client, *name),
            _ => {}
        }
        Ok(())
    }

    fn settled(&mut self, facts: &Facts) -> Verdict {
        for ((client, by), replay) in &self.replays {
            if replay.ending || facts.is_leaving(*client) || facts.rules.drops(*by) {
                continue;
            }
            for name in self.publications.topics().filter(|name| names::covers(*by, *name)) {
                self.is_satisfied(*client, name, replay, facts)?;
            }
        }
        Ok(())
    }
}

impl Retained {
    pub fn new() -> Self {
        Self {
            publications: Publications::only_kept(),
            disturbed: BTreeSet::new(),
            asking: BTreeMap::new(),
            names: BTreeMap::new(),
            ever_asked: BTreeSet::new(),
            unsubscribing: BTreeMap::new(),
            replays: BTreeMap::new(),
        }
    }

    fn did(&mut self, client: ClientId, op: &Op, facts: &Facts) {
        match op {
            Op::Subscribe { request, topic, get_retained } => {
                self.ever_asked.insert((client, *topic));
                let is_late = facts.hooked && names::is_hooked(*topic);
                let replay = get_retained.then(|| Replay {
                    given: facts.line,
                    done: facts.line,
                    at: facts.now,
                    is_late,
                    topics: BTreeMap::new(),
                    ending: false,
                });
                self.asking.insert((client, *request), (*topic, replay));
            }
            Op::Unsubscribe { request, topic: Some(topic), .. } => {
                self.unsubscribing.insert((client, *request), *topic);
                self.ends(client, *topic);
            }
            // What finds no room is routed as if it were nothing to be kept.
            Op::Publish { tag, keep, acknowledge, .. }
                if *keep != Keep::Kept || facts.retention_is_small && !acknowledge =>
            {
                self.disturbed.insert(tag.name);
            }
            _ => {}
        }
    }

    /// Nothing of it is owed any more.
    fn ends(&mut self, client: ClientId, by: u8) {
        if let Some(replay) = self.replays.get_mut(&(client, by)) {
            replay.ending = true;
        }
        for (_, (name, replay)) in self.asking.range_mut((client, 0)..=(client, u64::MAX)) {
            if let Some(replay) = replay.as_mut().filter(|_| *name == by) {
                replay.ending = true;
            }
        }
    }

    fn saw(&mut self, client: ClientId, seen: &Seen, facts: &Facts) -> Verdict {
        match seen {
            Seen::Subscribed { request, subscription } => {
                let Some((by, replay)) = self.asking.remove(&(client, *request)) else { return Ok(()) };
                self.names.insert((client, *subscription), by);
                if let Some(mut replay) = replay {
                    if replay.is_late {
                        replay.done = facts.line;
                    }
                    self.replays.insert((client, by), replay);
                }
            }
            Seen::Unsubscribed { request } => {
                if let Some(by) = self.unsubscribing.remove(&(client, *request)) {
                    self.replays.remove(&(client, by));
                }
            }
            Seen::Revoked { is_subscription: true, id } => {
                if let Some(by) = self.names.get(&(client, *id)) {
                    self.replays.remove(&(client, *by));
                }
            }
            Seen::Error { request, .. } => drop(self.asking.remove(&(client, *request))),
            Seen::Event { subscription, tag, retained, .. } => {
                let by = self.names.get(&(client, *subscription)).copied();
                return match (by, retained) {
                    (Some(by), true) => self.heard_kept(client, by, tag, facts),
                    (Some(by), false) => self.heard_live(client, by, tag, facts),
                    (None, true) => Err(format!("{client:?} saw what is kept by no subscription: {tag:?}")),
                    (None, false) => Ok(()),
                };
            }
            Seen::Bare { subscription: Some(subscription), topic } => {
                let Some(by) = self.names.get(&(client, *subscription)).copied() else { return Ok(()) };
                let named = topic.as_ref().and_then(|uri| names::named(names::MatchPolicy::Exact, uri));
                let name = named.map_or(by, |name| name | (by & REALM_BIT));
                if let Some(replay) = self.replays.get_mut(&(client, by)) {
                    replay.topics.entry(name).or_default().live = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn heard_kept(&mut self, client: ClientId, by: u8, tag: &Tag, facts: &Facts) -> Verdict {
        let unasked = || format!("{client:?} saw {tag:?} as kept, and had not asked for that");
        let replay = self.replays.get(&(client, by)).ok_or_else(unasked)?;
        let heard = replay.topics.get(&tag.name).copied().unwrap_or_default();
        if heard.kept || heard.live {
            let what = if heard.kept { "another one that is kept" } else { "newer ones" };
            return Err(format!("{client:?} saw {tag:?} as kept after {what} of its topic"));
        }
        let publication = self.publications.get(tag).filter(|known| known.keep == Keep::Kept);
        let publication = publication.ok_or_else(|| format!("{tag:?} was not to be kept, and is"))?;
        if publication.fate == Fate::Refused {
            return Err(format!("{client:?} saw {tag:?} as kept, which was refused"));
        }
        if publication.given > replay.done {
            return Err(format!("{client:?} saw {tag:?} as kept, and had asked for that before"));
        }
        if let Some(newer) = self.replaced_by(client, publication, replay, facts) {
            return Err(format!("{client:?} saw {tag:?} as kept, in the place of {:?}", newer.tag));
        }
        let replay = self.replays.get_mut(&(client, by)).expect("it was there");
        replay.topics.entry(tag.name).or_default().kept = true;
        Ok(())
    }

    /// What came after it and before the replay, if that is certain.
    fn replaced_by(
        &self,
        client: ClientId,
        older: &Publication,
        replay: &Replay,
        facts: &Facts,
    ) -> Option<&Publication> {
        let of_topic = self.publications.of_topic(older.tag.name);
        let is_between = |newer: &&Publication| {
            let is_later = older.is_done_before(newer.given) && older.tag != newer.tag;
            is_later && newer.is_done_before(replay.given) && newer.is_done()
        };
        // For others it stays beside the older one, and may have gone again.
        let is_still_there = |newer: &Publication| {
            let is_later = |other: &Publication| {
                other.tag != newer.tag && other.fate != Fate::Refused && !other.is_done_before(newer.given)
            };
            !of_topic.iter().any(is_later)
        };
        let hides = |newer: &&Publication| {
            replaces(newer, older)
                || newer.keep == Keep::Kept
                    && newer.fate == Fate::Kept
                    && newer.is_for(client, facts)
                    && is_still_there(newer)
        };
        of_topic.iter().filter(is_between).find(hides)
    }

    fn heard_live(&mut self, client: ClientId, by: u8, tag: &Tag, facts: &Facts) -> Verdict {
        let Some(replay) = self.replays.get(&(client, by)) else { return Ok(()) };
        let heard = replay.topics.get(&tag.name).copied().unwrap_or_default();
        let has_another = || {
            let mut asked = self.ever_asked.range((client, 0)..=(client, u8::MAX));
            asked.any(|(_, other)| *other != by && names::covers(*other, tag.name))
        };
        let was_there = self.publications.get(tag).is_some_and(|known| {
            known.keep == Keep::Kept && known.fate == Fate::Kept && known.is_done_before(replay.given)
        });
        let is_promised = !self.disturbed.contains(&tag.name) && facts.now < replay.at + TWINS_EXPECTED;
        if heard.kept && was_there && is_promised && !has_another() {
            return Err(format!(
                "{client:?} saw {tag:?} live behind what was kept of its topic, and it is that or older"
            ));
        }
        if !heard.kept
            && !heard.live
            && !facts.rules.drops(by)
            && let Some(owed) = self.owed(client, tag.name, replay, u64::MAX, facts)
        {
            return Err(format!("{client:?} saw {tag:?} before {:?}, which is kept", owed.tag));
        }
        let replay = self.replays.get_mut(&(client, by)).expect("it was there");
        replay.topics.entry(tag.name).or_default().live = true;
        Ok(())
    }

    /// What is certainly the newest for this client of what was given before `line`, and was kept before the replay.
    fn owed(
        &self,
        client: ClientId,
        name: u8,
        replay: &Replay,
        line: u64,
        facts: &Facts,
    ) -> Option<&Publication> {
        if !names::may_have(facts.role(client), name) {
            return None;
        }
        let of_topic = self.publications.of_topic(name);
        let of_topic = &of_topic[..of_topic.partition_point(|publication| publication.given <= line)];
        let concerns = |publication: &&Publication| {
            publication.fate != Fate::Refused && publication.is_for(client, facts)
        };
        let newest = of_topic.iter().rposition(|publication| concerns(&publication))?;
        let owed = &of_topic[newest];
        let is_kept = owed.keep == Keep::Kept && owed.fate == Fate::Kept && owed.except != Some(client);
        if !is_kept || !owed.is_done_before(replay.given) {
            return None;
        }
        // Beyond so many lists the oldest makes room.
        let listed_since = of_topic[newest..].iter().filter(|other| other.lists.is_some()).count();
        if owed.lists.is_some() && listed_since >= LISTED_MAX {
            return None;
        }
        let mut before = of_topic[..newest].iter().filter(concerns);
        before.all(|older| older.is_done_before(owed.given)).then_some(owed)
    }

    /// At rest: what was kept came, or what has taken its place since.
    fn is_satisfied(&self, client: ClientId, name: u8, replay: &Replay, facts: &Facts) -> Verdict {
        let heard = replay.topics.get(&name).copied().unwrap_or_default();
        if heard.kept || heard.live {
            return Ok(());
        }
        if let Some(owed) = self.owed(client, name, replay, u64::MAX, facts) {
            return Err(format!("{client:?} asked for what is kept, and never saw {:?}", owed.tag));
        }
        let Some(owed) = self.owed(client, name, replay, replay.given, facts) else { return Ok(()) };
        let later = self.publications.of_topic(name).iter().filter(|other| other.given > replay.given);
        let mut later = later.filter(|other| other.fate != Fate::Refused && other.is_for(client, facts));
        let comes = |other: &Publication| {
            other.fate != Fate::Possible && other.given > replay.done && other.except != Some(client)
        };
        if facts.losses == 0 && later.all(comes) {
            return Err(format!(
                "{client:?} asked for what is kept, and saw neither {:?} nor what came later",
                owed.tag
            ));
        }
        Ok(())
    }
}

/// For so long nothing comes twice.
const TWINS_EXPECTED: Duration = Duration::from_secs(5);
/// Events of a topic that are for some only.
const LISTED_MAX: usize = 16;
