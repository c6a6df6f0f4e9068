//! Clients of both versions do things at random, and each hears exactly what a naive model says that it must.

use std::collections::HashMap;

use crate::support::{Client, Router};
use crate::version_1::{enter, router_of};

/// A generator of its own for each seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What a topic is called: by the router, and by clients of version 1 in full and as CURIEs.
const TOPICS: [(&str, &[&str]); 3] = [
    ("com.event.a", &["http://x/event#a", "e:a", "com.event.a", "com:event.a"]),
    ("com.event.b", &["http://x/event#b", "e:b", "com.event.b"]),
    ("http://x/c#d", &["http://x/c#d", "c:d"]),
];
const PREFIXES: [(&str, &str); 3] = [("e", "http://x/event#"), ("c", "http://x/c#"), ("com", "com.")];

fn in_full(name: &str) -> String {
    let known = PREFIXES.iter().find_map(|(prefix, uri)| {
        let rest = name.strip_prefix(prefix)?.strip_prefix(':')?;
        Some([uri, rest].concat())
    });
    known.unwrap_or_else(|| name.to_owned())
}

struct Someone {
    client: Client,
    id: String,
    is_old: bool,
    /// By topic: what it is called in EVENT, and the subscription's number in version 2.
    held: HashMap<usize, (String, String)>,
}

struct Model {
    router: Router,
    all: Vec<Someone>,
    chance: Chance,
    published: usize,
}

impl Model {
    fn new(seed: u64, shards: u8) -> Self {
        let mut router = router_of(shards, "realm1", &[("http://x/event#", "com.event.")]);
        let (mut all, mut chance) = (Vec::new(), Chance(seed));
        for number in 0..6 {
            let shard = chance.below(usize::from(shards));
            let is_old = number < 4;
            let (client, id) = if is_old {
                enter(&mut router, shard)
            } else {
                let client = router.join(shard);
                (client, router.session_id(client).expect("it is open").get().to_string())
            };
            for (prefix, uri) in PREFIXES.iter().filter(|_| is_old) {
                router.say(client, &format!(r#"[1,"{prefix}","{uri}"]"#));
            }
            all.push(Someone { client, id, is_old, held: HashMap::new() });
        }
        Self { router, all, chance, published: 0 }
    }

    fn step(&mut self) {
        let who = self.chance.below(self.all.len());
        // Version 2 cannot say all names.
        let topic = self.chance.below(if self.all[who].is_old { 3 } else { 2 });
        let Someone { client, is_old, ref mut held, .. } = self.all[who];
        match (self.chance.below(4), is_old) {
            (0, true) => {
                let name = self.chance.pick(TOPICS[topic].1);
                self.router.say(client, &format!(r#"[5,"{name}"]"#));
                held.insert(topic, (in_full(name), String::new()));
            }
            (0, false) => {
                self.router.say(client, &format!(r#"[32,1,{{}},"{}"]"#, TOPICS[topic].0));
                let subscribed = self.router.hear_one(client);
                let number =
                    subscribed.trim_end_matches(']').rsplit(',').next().expect("a number").to_owned();
                held.insert(topic, (String::new(), number));
            }
            (1, true) => {
                let name = self.chance.pick(TOPICS[topic].1);
                self.router.say(client, &format!(r#"[6,"{name}"]"#));
                if held.get(&topic).is_some_and(|(known, _)| *known == in_full(name)) {
                    held.remove(&topic);
                }
            }
            (1, false) => {
                if let Some((_, number)) = held.remove(&topic) {
                    self.router.say(client, &format!("[34,1,{number}]"));
                    assert_eq!(self.router.hear_one(client), "[35,1]");
                }
            }
            _ => self.publish(who, topic),
        }
    }

    fn some(&mut self) -> Vec<usize> {
        (0..self.all.len()).filter(|_| self.chance.below(2) == 0).collect()
    }

    fn publish(&mut self, who: usize, topic: usize) {
        let (mut excluded, mut eligible) = (vec![who], None);
        let kind = self.chance.below(5);
        match kind {
            0 => {}
            1 => excluded.clear(),
            2 => excluded = self.some(),
            _ => {
                excluded = self.some();
                eligible = Some(self.some());
            }
        }
        let ids = |of: &[usize], quote: &str| {
            let ids: Vec<String> =
                of.iter().map(|one| format!("{quote}{}{quote}", self.all[*one].id)).collect();
            format!("[{}]", ids.join(","))
        };
        self.published += 1;
        let Someone { client, is_old, .. } = self.all[who];
        let message = if is_old {
            let lists = match (kind, &eligible) {
                (0, _) => String::new(),
                (1, _) => ",false".to_owned(),
                (_, None) => format!(",{}", ids(&excluded, "\"")),
                (_, Some(eligible)) => format!(",{},{}", ids(&excluded, "\""), ids(eligible, "\"")),
            };
            let name = TOPICS[topic].1[self.published % TOPICS[topic].1.len()];
            format!(r#"[7,"{name}",{}{lists}]"#, self.published)
        } else {
            let eligible =
                eligible.as_ref().map_or_else(String::new, |of| format!(r#","eligible":{}"#, ids(of, "")));
            let excluded = ids(&excluded, "");
            let options = format!(r#"{{"exclude_me":false,"exclude":{excluded}{eligible}}}"#);
            format!(r#"[16,1,{options},"{}",[{}]]"#, TOPICS[topic].0, self.published)
        };
        self.router.say(client, &message);
        for (index, someone) in self.all.iter().enumerate() {
            let is_meant =
                !excluded.contains(&index) && eligible.as_ref().is_none_or(|of| of.contains(&index));
            let heard = self.router.hear(someone.client);
            match someone.held.get(&topic).filter(|_| is_meant) {
                None => assert!(heard.is_empty(), "{index} of {message}: {heard:?}"),
                Some((name, _)) if someone.is_old => {
                    assert_eq!(
                        heard,
                        [format!(r#"[8,"{name}",{}]"#, self.published)],
                        "{index} of {message}"
                    );
                }
                Some((_, number)) => {
                    let (begin, end) = (format!("[36,{number},"), format!(",{{}},[{}]]", self.published));
                    assert!(
                        heard.len() == 1 && heard[0].starts_with(&begin) && heard[0].ends_with(&end),
                        "{heard:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn everybody_hears_what_the_model_says() {
    for seed in 0..30 {
        for shards in [1, 2] {
            let mut model = Model::new(seed, shards);
            (0..60).for_each(|_| model.step());
            for someone in std::mem::take(&mut model.all) {
                model.router.vanish(someone.client);
            }
            model.router.settle();
            for shard in &model.router.shards {
                let counters = shard.counters();
                assert_eq!(
                    (counters.subscriptions, counters.streams, counters.sessions),
                    (0, 0, 0),
                    "{seed}"
                );
                assert_eq!((counters.violations, counters.requests_refused), (0, 0), "{seed}");
            }
        }
    }
}
