//! Message-center clients that come, log in as one and as another, subscribe under several names and go, beside a model of what
//! each must hear: also of what is on its way meanwhile, in a ring between shards, in a stream, or behind a full socket.

use std::collections::{BTreeMap, VecDeque};

use fanwire_core::Limits;
use fanwire_core::ids::SessionId;
use fanwire_core::message_center::OnError;
use fanwire_core::question::Denial;
use proptest::prelude::*;

use crate::message_center::{DONE, NOT_AUTH, center, granted};
use crate::support::{Client, Router};

/// Two names for one topic, channels for everybody, and some that are one user's or one team's.
const NAMES: [&str; 7] = ["@user", "me", "@team", "@balance", "1@video", "2@video", "BTC@depth"];
const USERS: [&str; 3] = ["1", "2", "9007199254740993"];
/// The last one is none.
const TEAMS: [&str; 3] = ["red", "blue", ""];
/// Few, so that much happens to each.
const CLIENTS_MAX: usize = 4;
const AUTH_FAILED: &str = r#"{"code":5,"msg":"Auth failed"}"#;
const PERMISSION_DENIED: &str = r#"{"code":8,"msg":"Permission denied"}"#;

type Index = prop::sample::Index;

#[derive(Clone, Debug)]
enum Step {
    Connect {
        shard: usize,
    },
    LogIn {
        who: Index,
        user: usize,
        team: usize,
    },
    FailToLogIn {
        who: Index,
    },
    Subscribe {
        who: Index,
        name: usize,
    },
    Unsubscribe {
        who: Index,
        name: usize,
    },
    Publish {
        shard: usize,
        name: usize,
        user: usize,
        lists: Lists,
    },
    /// What is between the shards arrives.
    Exchange,
    /// Its socket takes nothing, or everything again.
    Fill {
        who: Index,
        is_full: bool,
    },
    /// All that has arrived is sent, and is what it must be.
    Hear,
    Vanish {
        who: Index,
    },
}

/// Whom a publication is for.
#[derive(Clone, Copy, Debug)]
enum Lists {
    Everybody,
    Users { user: usize },
    AllButUser { user: usize },
    Session { who: Index },
    AllButSession { who: Index },
}

fn step() -> impl Strategy<Value = Step> {
    let who = any::<Index>;
    let user = || 0..USERS.len();
    let lists = prop_oneof![
        3 => Just(Lists::Everybody),
        1 => user().prop_map(|user| Lists::Users { user }),
        1 => user().prop_map(|user| Lists::AllButUser { user }),
        1 => who().prop_map(|who| Lists::Session { who }),
        2 => who().prop_map(|who| Lists::AllButSession { who }),
    ];
    let publish = (0..2usize, 0..NAMES.len(), user(), lists);
    prop_oneof![
        2 => (0..2usize).prop_map(|shard| Step::Connect { shard }),
        3 => (who(), user(), 0..TEAMS.len()).prop_map(|(who, user, team)| Step::LogIn { who, user, team }),
        1 => who().prop_map(|who| Step::FailToLogIn { who }),
        5 => (who(), 0..NAMES.len()).prop_map(|(who, name)| Step::Subscribe { who, name }),
        2 => (who(), 0..NAMES.len()).prop_map(|(who, name)| Step::Unsubscribe { who, name }),
        6 => publish.prop_map(|(shard, name, user, lists)| Step::Publish { shard, name, user, lists }),
        2 => Just(Step::Exchange),
        2 => (who(), any::<bool>()).prop_map(|(who, is_full)| Step::Fill { who, is_full }),
        2 => Just(Step::Hear),
        1 => who().prop_map(|who| Step::Vanish { who }),
    ]
}

/// What is known of a client that has logged in.
#[derive(Clone, Copy, PartialEq)]
struct User {
    uid: &'static str,
    team: &'static str,
}

/// The topic that a client means, in words of its own; else what it is told.
fn topic(name: &str, user: Option<User>) -> Result<String, &'static str> {
    let user = user.ok_or(NOT_AUTH);
    Ok(match name {
        "@user" | "me" => format!("user:{}", user?.uid),
        "@team" => match user?.team {
            "" => return Err(PERMISSION_DENIED),
            team => format!("team:{team}"),
        },
        "@balance" => format!("ex:{}@balance", user?.uid),
        "BTC@depth" => "ex:BTC@depth".to_owned(),
        video => format!("video:{}", video.strip_suffix("@video").expect("all others are videos")),
    })
}

/// What a client must be.
struct Modelled {
    client: Client,
    user: Option<User>,
    session: SessionId,
    /// Its name for each topic.
    names: BTreeMap<String, &'static str>,
    is_full: bool,
    /// What it has to hear, in this order.
    due: VecDeque<String>,
    /// Tokens that were refused since it came, or since one was accepted.
    refused: u32,
}

/// On its way.
#[derive(Clone, Debug)]
struct Publication {
    topic: String,
    /// Of the topic's entry: who subscribes after the last one has left is not among those it was for.
    generation: u32,
    number: u32,
    lists: Filter,
}

#[derive(Clone, Copy, Debug)]
enum Filter {
    Everybody,
    User(&'static str),
    AllButUser(&'static str),
    Session(SessionId),
    AllButSession(SessionId),
}

impl Modelled {
    fn arrives(&mut self, publication: &Publication) {
        let Some(name) = self.names.get(&publication.topic) else { return };
        let uid = self.user.map(|user| user.uid);
        let is_for_it = match publication.lists {
            Filter::Everybody => true,
            Filter::User(user) => uid == Some(user),
            Filter::AllButUser(user) => uid != Some(user),
            Filter::Session(session) => self.session == session,
            Filter::AllButSession(session) => self.session != session,
        };
        if is_for_it {
            self.due.push_back(format!(r#"{{"event":"{name}","data":{}}}"#, publication.number));
        }
    }
}

struct Stage {
    router: Router,
    /// One on each shard.
    publishers: Vec<Client>,
    clients: Vec<Modelled>,
    published: u32,
    /// How often nobody was subscribed any more.
    generations: BTreeMap<String, u32>,
    /// What is on its way to each shard.
    rings: [VecDeque<Publication>; 2],
}

impl Stage {
    fn new() -> Self {
        let mut router = center("both", OnError::Keep, Limits::default(), &[]);
        let publishers = (0..2).map(|shard| router.join_realm(shard, "both")).collect();
        let (clients, generations, rings) = (Vec::new(), BTreeMap::new(), Default::default());
        Self { router, publishers, clients, published: 0, generations, rings }
    }

    fn do_step(&mut self, step: &Step) {
        let count = self.clients.len();
        let index = |who: &Index| who.index(count);
        match step {
            Step::Connect { shard } if count < CLIENTS_MAX => self.connect(*shard),
            Step::Connect { .. } => {}
            Step::Exchange => self.exchange(),
            Step::Hear => self.hear(),
            _ if self.clients.is_empty() => {}
            Step::Publish { shard, name, user, lists } => {
                self.publish(*shard, NAMES[*name], USERS[*user], *lists);
            }
            Step::LogIn { who, user, team } => {
                self.log_in(index(who), User { uid: USERS[*user], team: TEAMS[*team] });
            }
            // One more would end it.
            Step::FailToLogIn { who } if self.clients[index(who)].refused == 9 => {}
            Step::FailToLogIn { who } => {
                let modelled = &mut self.clients[index(who)];
                self.router.decide_login(modelled.client, Err(Denial::Refused));
                modelled.due.push_back(AUTH_FAILED.to_owned());
                modelled.refused += 1;
            }
            Step::Subscribe { who, name } => {
                let (modelled, name) = (&mut self.clients[index(who)], NAMES[*name]);
                self.router.say_of(modelled.client, "subscribe", name);
                let topic = topic(name, modelled.user);
                modelled.due.push_back(topic.as_ref().map_or_else(|error| *error, |_| DONE).to_owned());
                modelled.names.extend(topic.map(|topic| (topic, name)));
            }
            Step::Unsubscribe { who, name } => {
                let (modelled, name) = (&mut self.clients[index(who)], NAMES[*name]);
                self.router.say_of(modelled.client, "unsubscribe", name);
                let topic = topic(name, modelled.user);
                modelled.due.push_back(topic.as_ref().map_or_else(|error| *error, |_| DONE).to_owned());
                if let Ok(topic) = topic
                    && modelled.names.get(&topic) == Some(&name)
                {
                    modelled.names.remove(&topic);
                }
            }
            Step::Fill { who, is_full } => {
                let modelled = &mut self.clients[index(who)];
                modelled.is_full = *is_full;
                self.router.fill(modelled.client, *is_full);
            }
            Step::Vanish { who } => {
                let index = index(who);
                self.vanish(index);
            }
        }
        self.count_generations();
        self.check_balance();
    }

    fn connect(&mut self, shard: usize) {
        let client = self.router.connect_to_center(shard);
        let session = self.router.session_id(client).expect("it needs no login");
        let (names, due) = (BTreeMap::new(), VecDeque::new());
        self.clients.push(Modelled { client, user: None, session, names, is_full: false, due, refused: 0 });
    }

    fn log_in(&mut self, index: usize, user: User) {
        let modelled = &mut self.clients[index];
        let extra =
            if user.team.is_empty() { "{}".to_owned() } else { format!(r#"{{"team":"{}"}}"#, user.team) };
        self.router.decide_login(modelled.client, granted(user.uid, &extra));
        modelled.due.push_back(DONE.to_owned());
        if modelled.user.is_some_and(|before| before.uid != user.uid) {
            modelled.names.clear();
        }
        // What its name does not mean any more.
        modelled.names.retain(|known, name| topic(name, Some(user)).as_ref() == Ok(known));
        let session = self.router.session_id(modelled.client).expect("it is open");
        assert_ne!(session, modelled.session, "a session is one user's");
        (modelled.user, modelled.session, modelled.refused) = (Some(user), session, 0);
    }

    fn publish(&mut self, shard: usize, name: &str, user: &'static str, lists: Lists) {
        let topic = topic(name, Some(User { uid: user, team: TEAMS[self.published as usize % 2] }));
        let topic = topic.expect("all is known");
        let session = |who: Index| self.clients[who.index(self.clients.len())].session;
        let (options, lists) = match lists {
            Lists::Everybody => (String::new(), Filter::Everybody),
            Lists::Users { user } => {
                (format!(r#""eligible_authid":["{}"]"#, USERS[user]), Filter::User(USERS[user]))
            }
            Lists::AllButUser { user } => {
                (format!(r#""exclude_authid":["{}"]"#, USERS[user]), Filter::AllButUser(USERS[user]))
            }
            Lists::Session { who } => {
                (format!(r#""eligible":[{}]"#, session(who).get()), Filter::Session(session(who)))
            }
            Lists::AllButSession { who } => {
                (format!(r#""exclude":[{}]"#, session(who).get()), Filter::AllButSession(session(who)))
            }
        };
        self.published += 1;
        let number = self.published;
        self.router.say(self.publishers[shard], &format!(r#"[16,1,{{{options}}},"{topic}",[{number}]]"#));
        let generation = self.generations.get(&topic).copied().unwrap_or_default();
        let publication = Publication { topic, generation, number, lists };
        let is_there = |modelled: &Modelled| modelled.names.contains_key(&publication.topic);
        if self.clients.iter().any(|modelled| modelled.client.0 != shard && is_there(modelled)) {
            self.rings[1 - shard].push_back(publication.clone());
        }
        self.arrive(shard, &publication);
    }

    fn arrive(&mut self, shard: usize, publication: &Publication) {
        let of_shard = self.clients.iter_mut().filter(|modelled| modelled.client.0 == shard);
        of_shard.for_each(|modelled| modelled.arrives(publication));
    }

    fn exchange(&mut self) {
        for shard in [0, 1, 0, 1] {
            self.router.exchange(shard);
        }
        for shard in 0..2 {
            for publication in std::mem::take(&mut self.rings[shard]) {
                let now = self.generations.get(&publication.topic).copied().unwrap_or_default();
                if now == publication.generation {
                    self.arrive(shard, &publication);
                }
            }
        }
    }

    /// Each hears what it is due, under its own names, and nothing else.
    fn hear(&mut self) {
        for modelled in &mut self.clients {
            let heard = self.router.hear_now(modelled.client);
            let count = if modelled.is_full { heard.len() } else { modelled.due.len() };
            let due: Vec<String> = modelled.due.drain(..count.min(modelled.due.len())).collect();
            assert_eq!(heard, due, "{:?}", modelled.client);
        }
    }

    fn vanish(&mut self, index: usize) {
        let gone = self.clients.swap_remove(index);
        self.router.vanish(gone.client);
    }

    /// Where nobody is left, those who come later begin anew.
    fn count_generations(&mut self) {
        let names = self.clients.iter().flat_map(|modelled| modelled.names.keys());
        names.for_each(|topic| _ = self.generations.entry(topic.clone()).or_default());
        for (topic, generation) in &mut self.generations {
            let is_there = |modelled: &Modelled| modelled.names.contains_key(topic);
            *generation += u32::from(!self.clients.iter().any(is_there));
        }
    }

    fn check_balance(&self) {
        for shard in &self.router.shards {
            let counters = shard.counters();
            let dropped: u64 = counters.dropped.iter().sum();
            assert_eq!(counters.matched, counters.delivered + counters.queued + dropped);
        }
    }

    fn end(mut self) {
        self.exchange();
        for modelled in &mut self.clients {
            modelled.is_full = false;
            self.router.fill(modelled.client, false);
        }
        self.hear();
        assert_eq!(self.router.directory.session_count(), self.clients.len() + 2);
        while !self.clients.is_empty() {
            self.vanish(0);
        }
        self.check_balance();
        for shard in &self.router.shards {
            let counters = shard.counters();
            assert_eq!(
                (counters.subscriptions, counters.streams, counters.queued, counters.message_center.sessions),
                (0, 0, 0, 0)
            );
        }
        assert_eq!(self.router.directory.session_count(), 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn each_client_hears_what_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut stage = Stage::new();
        steps.iter().for_each(|step| stage.do_step(step));
        stage.end();
    }
}
