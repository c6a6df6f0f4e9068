//! New permissions and limits while sessions go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fanwire_core::access::{Permission, RealmConfig, RoleConfig};
use fanwire_core::uri::MatchPolicy;
use fanwire_core::{CoreConfig, Limits};

use crate::support::{Client, Router, number, realms};

/// The realms, but that anonymous sessions of `realm1` may do what these rules say, each a prefix.
fn with_rules(rules: &[(&str, &str)]) -> Vec<RealmConfig> {
    let mut realms = realms().to_vec();
    realms[0].roles[0].permissions = rules.iter().map(|(uri, allowed)| rule(uri, allowed)).collect();
    realms
}

/// What may be done below a prefix: some of p(ublish), s(ubscribe), c(all), r(egister).
fn rule(uri: &str, allowed: &str) -> Permission {
    let everything = RealmConfig::open("r").roles.remove(0).permissions.remove(0);
    let may = |letter| allowed.contains(letter);
    Permission {
        uri: uri.to_owned(),
        publish: may('p'),
        subscribe: may('s'),
        call: may('c'),
        register: may('r'),
        ..everything
    }
}

fn renew_all(router: &mut Router, rules: &[(&str, &str)], limits: Limits) {
    let config = router.renewed(0, &with_rules(rules), limits);
    (0..router.shards.len()).for_each(|shard| router.renew(shard, &config));
}

fn ask(router: &mut Router, client: Client, message: &str) -> String {
    router.say(client, message);
    router.hear_one(client)
}

#[test]
fn what_is_forbidden_is_refused_from_the_next_message_on() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    let id = number(&ask(&mut router, alice, r#"[32,1,{},"a.b"]"#), 2);
    renew_all(&mut router, &[("", "psc"), ("a.", "s")], Limits::default());
    assert!(ask(&mut router, bob, r#"[16,1,{"acknowledge":true},"a.b",[1]]"#).contains("not_authorized"));
    assert!(ask(&mut router, bob, r#"[64,2,{},"a.c"]"#).contains("not_authorized"));
    renew_all(&mut router, &[("", "ps")], Limits::default());
    assert!(ask(&mut router, bob, r#"[16,3,{"acknowledge":true},"a.b",[2]]"#).starts_with("[17,3,"));
    assert!(router.hear_one(alice).starts_with(&format!("[36,{id},")), "the subscription went on");
}

#[test]
fn subscriptions_and_registrations_that_are_forbidden_are_withdrawn() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    let lost = number(&ask(&mut router, alice, r#"[32,1,{},"a.b"]"#), 2);
    ask(&mut router, alice, r#"[32,2,{"match":"prefix"},"a."]"#);
    ask(&mut router, alice, r#"[32,3,{},"b.b"]"#);
    ask(&mut router, alice, r#"[64,4,{},"a.call"]"#);
    ask(&mut router, alice, r#"[64,5,{},"b.call"]"#);
    router.say(bob, r#"[16,1,{},"a.b",["due"]]"#);
    router.exchange(1);
    router.exchange(0);
    renew_all(&mut router, &[("", "pscr"), ("a.", "pc")], Limits::default());
    router.say(bob, r#"[16,2,{},"a.b",["forbidden"]]"#);
    router.say(bob, r#"[16,3,{},"b.b",["allowed"]]"#);
    let heard = router.hear(alice);
    let words: Vec<_> = heard.iter().map(|event| event.rsplit('[').next().unwrap_or_default()).collect();
    assert_eq!(words, [r#""due"]]"#, r#""due"]]"#, r#""allowed"]]"#], "what was routed before is due");
    assert!(ask(&mut router, alice, &format!("[34,6,{lost}]")).contains("no_such_subscription"));
    assert!(ask(&mut router, bob, r#"[48,4,{},"a.call"]"#).contains("no_such_procedure"));
    router.say(bob, r#"[48,5,{},"b.call"]"#);
    assert!(router.hear_one(alice).starts_with("[68,"));
    assert_eq!(router.shards[0].counters().withdrawn, 3);
    assert_eq!(
        (router.shards[0].counters().subscriptions, router.shards[0].counters().registrations),
        (1, 1)
    );
}

#[test]
fn a_pattern_that_stays_is_called_only_as_far_as_its_callee_might_register() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    ask(&mut router, alice, r#"[64,1,{"match":"prefix"},"a."]"#);
    // Once before, so that what is remembered of it has to be forgotten.
    router.say(bob, r#"[48,1,{},"a.x"]"#);
    let invocation = number(&router.hear_one(alice), 1);
    router.say(alice, &format!("[70,{invocation},{{}}]"));
    assert_eq!(router.hear_one(bob), "[50,1,{}]");
    renew_all(&mut router, &[("", "pscr"), ("a.x", "psc")], Limits::default());
    assert!(ask(&mut router, bob, r#"[48,2,{},"a.x"]"#).contains("no_such_procedure"));
    router.say(bob, r#"[48,3,{},"a.y"]"#);
    assert!(router.hear_one(alice).starts_with("[68,"), "the registration is there");
}

#[test]
fn a_call_in_flight_is_answered_though_its_procedure_is_withdrawn() {
    let mut router = Router::new(2);
    let (alice, bob) = (router.join(0), router.join(1));
    ask(&mut router, alice, r#"[64,1,{},"a.call"]"#);
    router.say(bob, r#"[48,1,{},"a.call"]"#);
    let invocation = number(&router.hear_one(alice), 1);
    renew_all(&mut router, &[("", "")], Limits::default());
    router.say(alice, &format!(r#"[70,{invocation},{{}},["done"]]"#));
    assert_eq!(router.hear_one(bob), r#"[50,1,{},["done"]]"#);
}

#[test]
fn limits_hold_for_what_comes() {
    let mut router = Router::new(1);
    let alice = router.join(0);
    ask(&mut router, alice, r#"[32,1,{},"a"]"#);
    ask(&mut router, alice, r#"[32,2,{},"b"]"#);
    renew_all(&mut router, &[("", "s")], Limits { subscriptions_max: 1, ..Limits::default() });
    assert!(ask(&mut router, alice, r#"[32,3,{},"c"]"#).contains("unavailable"));
    assert_eq!(router.shards[0].counters().subscriptions, 2, "those that are there stay");
}

#[test]
fn a_role_that_the_shard_does_not_know_yet_is_nobodys() {
    let mut router = Router::new(1);
    let client = router.challenged(0, "named", "ann");
    router.say(client, r#"[5,"x",{}]"#);
    let request = router.question(0);
    router.grant(0, &request, 2);
    assert!(router.hear(client)[0].contains("authentication_failed"));
    let mut newer = realms();
    newer[3].roles.push(RoleConfig { name: "new".to_owned(), permissions: Vec::new() });
    let config = router.renewed(0, &newer, Limits::default());
    router.renew(0, &config);
    let client = router.challenged(0, "named", "ann");
    router.say(client, r#"[5,"x",{}]"#);
    let request = router.question(0);
    router.grant(0, &request, 2);
    assert!(router.hear_one(client).contains(r#""authrole":"new""#));
}

// --- a simulation ----------------------------------------------------------------------------------------------

const TOPICS: [&str; 4] = ["a.x", "a.y", "b.x", "b.y"];
/// Topics, then prefixes, each of which has a rule of its own; the last one covers the rest.
const RULED: [&str; 7] = ["a.x", "a.y", "b.x", "b.y", "a.", "b.", ""];
/// What is subscribed to: as above, and a wildcard, which only the last rule covers.
const ASKED: usize = 8;
const SHARDS: usize = 3;
const ROLES: usize = 2;

/// By role and rule: may publish, may subscribe.
type Table = [[(bool, bool); RULED.len()]; ROLES];

/// The same steps for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }
}

/// A subscriber's hold on something; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Hold {
    client: usize,
    asked: usize,
    number: u64,
}

/// A publication on its way to one shard.
#[derive(Clone, Debug)]
struct Sent {
    topic: usize,
    tag: u64,
    /// Who was subscribed when it was accepted.
    owed: BTreeSet<Hold>,
}

struct World {
    router: Router,
    chance: Chance,
    clients: Vec<(Client, usize)>,
    tables: Vec<Table>,
    newest: Arc<CoreConfig>,
    /// The table that each shard knows.
    knows: [usize; SHARDS],
    holds: BTreeSet<Hold>,
    last: u64,
    /// By subscription id.
    asked: BTreeMap<u64, usize>,
    staged: [Vec<Sent>; SHARDS],
    rings: [[VecDeque<Sent>; SHARDS]; SHARDS],
    /// Events that a client may see, and those that it must: client, what it asked for, tag.
    may: BTreeSet<(usize, usize, u64)>,
    must: BTreeSet<(usize, usize, u64)>,
    seen: BTreeSet<(usize, usize, u64)>,
}

fn permissions(table: &Table) -> Vec<RealmConfig> {
    let mut realms = realms().to_vec();
    for (role, rules) in realms[3].roles.iter_mut().zip(table) {
        let permission = |(uri, (publish, subscribe)): (&&str, &(bool, bool))| Permission {
            match_policy: if TOPICS.contains(uri) { MatchPolicy::Exact } else { MatchPolicy::Prefix },
            publish: *publish,
            subscribe: *subscribe,
            ..rule(uri, "")
        };
        role.permissions = RULED.iter().zip(rules).map(permission).collect();
    }
    realms
}

fn covers(asked: usize, topic: usize) -> bool {
    match asked {
        0..4 => asked == topic,
        4 | 5 => TOPICS[topic].starts_with(RULED[asked]),
        6 => true,
        _ => TOPICS[topic].ends_with('x'),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut router = Router::new(SHARDS as u8);
        let mut clients = Vec::new();
        for index in 0..2 * SHARDS {
            let (shard, role) = (index % SHARDS, index / SHARDS);
            let client = router.challenged(shard, "named", "somebody");
            router.say(client, r#"[5,"x",{}]"#);
            let request = router.question(shard);
            router.grant(shard, &request, role as u16);
            assert!(router.hear_one(client).starts_with("[2,"));
            clients.push((client, role));
        }
        let newest = Arc::clone(router.shards[0].config());
        Self {
            router,
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            clients,
            tables: vec![[[(true, true); RULED.len()]; ROLES]],
            newest,
            knows: [0; SHARDS],
            holds: BTreeSet::new(),
            last: 0,
            asked: BTreeMap::new(),
            staged: Default::default(),
            rings: Default::default(),
            may: BTreeSet::new(),
            must: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    fn run(mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            match self.chance.below(12) {
                0 => self.change(),
                1 | 2 => self.renew(),
                3 | 4 => self.subscribe()?,
                5 => self.unsubscribe(),
                6..9 => self.publish()?,
                _ => self.turn(),
            }
        }
        // What waits in a shard needs a turn, in a ring another one.
        (0..2 * SHARDS).for_each(|shard| self.turn_of(shard % SHARDS));
        (0..self.clients.len()).try_for_each(|client| self.listen(client).map(drop))?;
        match self.must.difference(&self.seen).next() {
            Some((client, asked, tag)) => {
                Err(format!("client {client} never saw {tag} by {asked}, and might"))
            }
            None => Ok(()),
        }
    }

    fn may_hear(&self, shard: usize, role: usize, asked: usize) -> bool {
        self.tables[self.knows[shard]][role][asked.min(6)].1
    }

    /// There are new permissions, and no shard knows them.
    fn change(&mut self) {
        let mut table = self.tables[self.tables.len() - 1];
        for _ in 0..1 + self.chance.below(4) {
            let place = &mut table[self.chance.below(ROLES)][self.chance.below(RULED.len())];
            *place = (self.chance.below(3) > 0, self.chance.below(3) > 0);
        }
        let access = self.newest.access.renewed(&permissions(&table)).expect("the realms are sound");
        let (limits, agent) = (self.newest.limits.clone(), self.newest.agent.clone());
        let (message_center, echo, wamp1) = Default::default();
        self.newest = Arc::new(CoreConfig {
            access,
            limits,
            compression: None,
            agent,
            message_center,
            echo,
            wamp1,
            handlers: Vec::new(),
        });
        self.tables.push(table);
    }

    fn renew(&mut self) {
        let shard = self.chance.below(SHARDS);
        self.router.renew(shard, &self.newest);
        self.knows[shard] = self.tables.len() - 1;
        let lost: Vec<Hold> = self
            .holds
            .iter()
            .copied()
            .filter(|hold| {
                let (client, role) = self.clients[hold.client];
                client.0 == shard && !self.may_hear(shard, role, hold.asked)
            })
            .collect();
        lost.iter().for_each(|hold| _ = self.holds.remove(hold));
    }

    fn subscribe(&mut self) -> Result<(), String> {
        let (index, asked) = (self.chance.below(self.clients.len()), self.chance.below(ASKED));
        let (client, role) = self.clients[index];
        let (policy, uri) = match asked {
            0..4 => ("exact", RULED[asked]),
            4..7 => ("prefix", RULED[asked]),
            _ => ("wildcard", ".x"),
        };
        self.router.say(client, &format!(r#"[32,1,{{"match":"{policy}"}},"{uri}"]"#));
        let answer = self.listen(index)?;
        let granted = answer.starts_with("[33,");
        if granted != self.may_hear(client.0, role, asked) {
            return Err(format!("client {index} asked for {uri:?} ({policy}) and heard {answer}"));
        }
        if granted {
            self.asked.insert(number(&answer, 2), asked);
            if !self.holds.iter().any(|hold| (hold.client, hold.asked) == (index, asked)) {
                self.last += 1;
                self.holds.insert(Hold { client: index, asked, number: self.last });
            }
        }
        Ok(())
    }

    fn unsubscribe(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let hold = *self.holds.iter().nth(self.chance.below(self.holds.len())).expect("below the count");
        let id = self.asked.iter().filter(|(_, asked)| **asked == hold.asked).map(|(id, _)| *id).next_back();
        self.holds.remove(&hold);
        let id = id.expect("it was granted");
        self.router.say(self.clients[hold.client].0, &format!("[34,1,{id}]"));
    }

    fn publish(&mut self) -> Result<(), String> {
        let (index, topic) = (self.chance.below(self.clients.len()), self.chance.below(TOPICS.len()));
        let (client, role) = self.clients[index];
        self.last += 1;
        let tag = self.last;
        let uri = TOPICS[topic];
        let options = r#"{"acknowledge":true,"exclude_me":false}"#;
        self.router.say(client, &format!(r#"[16,1,{options},"{uri}",[{tag}]]"#));
        let may = self.tables[self.knows[client.0]][role][topic].0;
        if may {
            let owed = self.holds.iter().copied().filter(|hold| covers(hold.asked, topic)).collect();
            let sent = Sent { topic, tag, owed };
            self.arrive(client.0, &sent);
            self.staged[client.0].push(sent);
        }
        let answer = self.listen(index)?;
        if answer.starts_with("[17,") != may {
            return Err(format!("client {index} published to {uri} and heard {answer}"));
        }
        Ok(())
    }

    /// A shard routes it to its own subscribers, by what it knows then.
    fn arrive(&mut self, shard: usize, sent: &Sent) {
        for hold in &self.holds {
            let (client, role) = self.clients[hold.client];
            if client.0 == shard && covers(hold.asked, sent.topic) && self.may_hear(shard, role, sent.topic) {
                let event = (hold.client, hold.asked, sent.tag);
                self.may.insert(event);
                if sent.owed.contains(hold) {
                    self.must.insert(event);
                }
            }
        }
    }

    fn turn(&mut self) {
        let shard = self.chance.below(SHARDS);
        self.turn_of(shard);
    }

    fn turn_of(&mut self, shard: usize) {
        for from in 0..SHARDS {
            while let Some(sent) = self.rings[from][shard].pop_front() {
                self.arrive(shard, &sent);
            }
        }
        for sent in std::mem::take(&mut self.staged[shard]) {
            for to in (0..SHARDS).filter(|to| *to != shard) {
                self.rings[shard][to].push_back(sent.clone());
            }
        }
        self.router.exchange(shard);
    }

    /// Judges the events that came, and gives the last answer.
    fn listen(&mut self, index: usize) -> Result<String, String> {
        let mut answer = String::new();
        for heard in self.router.hear_now(self.clients[index].0) {
            if !heard.starts_with("[36,") {
                answer = heard;
                continue;
            }
            let tag = heard.rsplit('[').next().and_then(|rest| rest.trim_end_matches(']').parse().ok());
            let event = (index, self.asked[&number(&heard, 1)], tag.expect("a number"));
            if !self.may.contains(&event) {
                return Err(format!("client {index} saw what its shard knew to be forbidden: {heard}"));
            }
            self.seen.insert(event);
        }
        Ok(answer)
    }
}

/// Permissions change, and shards learn of it one after the other, while everything goes on.
#[test]
fn each_shard_goes_by_the_newest_permissions_that_it_knows() {
    for seed in 0..300 {
        World::new(seed).run(400).unwrap_or_else(|words| panic!("seed {seed}: {words}"));
    }
}

#[cfg(feature = "mutations")]
#[test]
fn planted_bugs_of_renewals_are_found() {
    use fanwire_core::mutation::{Mutation, plant};
    for mutation in [Mutation::OldVerdictsKept, Mutation::ForbiddenSubscriptionKept] {
        plant(Some(mutation));
        let found = (0..300).find_map(|seed| World::new(seed).run(400).err());
        plant(None);
        println!("{mutation:?}: {}", found.unwrap_or_else(|| panic!("{mutation:?} was not found")));
    }
}

#[test]
fn an_echo_client_whose_room_is_forbidden_is_sent_away() {
    let mut router = crate::echo::rooms("realm1", true, &[]);
    let (lobby, room) = (router.connect_to_room(0, "/", None).0, router.connect_to_room(1, "/ok/1", None).0);
    renew_all(&mut router, &[("ok.", "ps")], Limits::default());
    assert_eq!(router.hear_one(lobby), "close 1008");
    router.say(room, "x");
    assert_eq!(router.hear_one(room), "RECEIVED: x");
}
