//! Message-center clients that come, log in, subscribe under several names and go, beside a model of what each must hear.

use std::collections::BTreeMap;

use fanwire_core::Limits;
use fanwire_core::message_center::OnError;
use proptest::prelude::*;

use crate::message_center::{DONE, NOT_AUTH, center, granted};
use crate::support::{Client, Router};

/// Two names for one topic, channels for everybody, and some that are one user's.
const NAMES: [&str; 6] = ["@user", "me", "@balance", "1@video", "2@video", "BTC@depth"];
const USERS: [&str; 3] = ["1", "2", "9007199254740993"];

#[derive(Clone, Debug)]
enum Step {
    Connect { shard: usize },
    LogIn { who: prop::sample::Index, user: usize },
    FailToLogIn { who: prop::sample::Index },
    Subscribe { who: prop::sample::Index, name: usize },
    Unsubscribe { who: prop::sample::Index, name: usize },
    Publish { name: usize, user: usize },
    Vanish { who: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    let who = any::<prop::sample::Index>;
    prop_oneof![
        2 => (0..2usize).prop_map(|shard| Step::Connect { shard }),
        2 => (who(), 0..USERS.len()).prop_map(|(who, user)| Step::LogIn { who, user }),
        1 => who().prop_map(|who| Step::FailToLogIn { who }),
        5 => (who(), 0..NAMES.len()).prop_map(|(who, name)| Step::Subscribe { who, name }),
        2 => (who(), 0..NAMES.len()).prop_map(|(who, name)| Step::Unsubscribe { who, name }),
        5 => (0..NAMES.len(), 0..USERS.len()).prop_map(|(name, user)| Step::Publish { name, user }),
        1 => who().prop_map(|who| Step::Vanish { who }),
    ]
}

/// The topic that a client means, in words of its own.
fn topic(name: &str, user: Option<&str>) -> Option<String> {
    match name {
        "@user" | "me" => Some(format!("user:{}", user?)),
        "@balance" => Some(format!("ex:{}@balance", user?)),
        "BTC@depth" => Some("ex:BTC@depth".to_owned()),
        video => video.strip_suffix("@video").map(|number| format!("video:{number}")),
    }
}

/// What a client must be.
struct Modelled {
    client: Client,
    user: Option<&'static str>,
    /// Its name for each topic.
    names: BTreeMap<String, &'static str>,
}

struct Stage {
    router: Router,
    publisher: Client,
    clients: Vec<Modelled>,
    published: u32,
}

impl Stage {
    fn new() -> Self {
        let mut router = center("both", OnError::Keep, Limits::default(), &[]);
        let publisher = router.join_realm(1, "both");
        Self { router, publisher, clients: Vec::new(), published: 0 }
    }

    fn do_step(&mut self, step: &Step) {
        let index = |who: &prop::sample::Index| who.index(self.clients.len());
        match step {
            Step::Connect { shard } => {
                let client = self.router.connect_to_center(*shard);
                self.clients.push(Modelled { client, user: None, names: BTreeMap::new() });
            }
            Step::Publish { name, user } => self.publish(NAMES[*name], USERS[*user]),
            _ if self.clients.is_empty() => {}
            Step::LogIn { who, user } => {
                let index = index(who);
                let modelled = &mut self.clients[index];
                assert_eq!(self.router.log_in(modelled.client, granted(USERS[*user], "{}")), DONE);
                if modelled.user.is_some_and(|before| before != USERS[*user]) {
                    modelled.names.clear();
                }
                modelled.user = Some(USERS[*user]);
            }
            Step::FailToLogIn { who } => {
                let client = self.clients[index(who)].client;
                let answer = self.router.log_in(client, Err(fanwire_core::question::Denial::Refused));
                assert_eq!(answer, r#"{"code":5,"msg":"Auth failed"}"#);
            }
            Step::Subscribe { who, name } => {
                let index = index(who);
                let (modelled, name) = (&mut self.clients[index], NAMES[*name]);
                let topic = topic(name, modelled.user);
                let expected = if topic.is_some() { DONE } else { NOT_AUTH };
                assert_eq!(self.router.subscribe_to(modelled.client, name), expected);
                modelled.names.extend(topic.map(|topic| (topic, name)));
            }
            Step::Unsubscribe { who, name } => {
                let index = index(who);
                let (modelled, name) = (&mut self.clients[index], NAMES[*name]);
                let topic = topic(name, modelled.user);
                let expected = if topic.is_some() { DONE } else { NOT_AUTH };
                assert_eq!(self.router.unsubscribe_from(modelled.client, name), expected);
                if let Some(topic) = topic.filter(|topic| modelled.names.get(topic) == Some(&name)) {
                    modelled.names.remove(&topic);
                }
            }
            Step::Vanish { who } => {
                let index = index(who);
                let gone = self.clients.swap_remove(index);
                self.router.vanish(gone.client);
            }
        }
    }

    /// Who is subscribed hears it once under its own name, and nobody else anything.
    fn publish(&mut self, name: &str, user: &str) {
        self.published += 1;
        let topic = topic(name, Some(user)).expect("it has a user");
        self.router.say(self.publisher, &format!(r#"[16,1,{{}},"{topic}",[{}]]"#, self.published));
        for modelled in &self.clients {
            let event = |name| format!(r#"{{"event":"{name}","data":{}}}"#, self.published);
            let expected: Vec<String> = modelled.names.get(&topic).map(event).into_iter().collect();
            assert_eq!(self.router.hear(modelled.client), expected, "{topic}");
        }
    }

    fn end(mut self) {
        assert_eq!(self.router.directory.session_count(), self.clients.len() + 1);
        for modelled in std::mem::take(&mut self.clients) {
            self.router.vanish(modelled.client);
        }
        for shard in &self.router.shards {
            let counters = shard.counters();
            assert_eq!(
                (counters.subscriptions, counters.streams, counters.message_center.sessions),
                (0, 0, 0)
            );
        }
        assert_eq!(self.router.directory.session_count(), 1);
    }
}

proptest! {
    #[test]
    fn each_client_hears_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut stage = Stage::new();
        steps.iter().for_each(|step| stage.do_step(step));
        stage.end();
    }
}
