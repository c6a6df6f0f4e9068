//! Echo rooms whose clients come, talk and go, beside WAMP clients that publish there: who was there all the while hears
//! everything that was said in its room, once and in each speaker's order, whatever becomes of the others.

use std::collections::{BTreeMap, BTreeSet};

use fanwire_codec::ws::Kind;
use fanwire_codec::ws::deflate::{Agreement, Direction};
use fanwire_core::Flow;
use proptest::prelude::*;

use crate::echo::rooms;
use crate::support::{Client, Router};

const ROOMS: usize = 3;
/// Few, so that much happens to each.
const CLIENTS_MAX: usize = 6;

type Index = prop::sample::Index;

#[derive(Clone, Debug)]
enum Step {
    Enter {
        shard: usize,
        room: usize,
        is_compressed: bool,
    },
    Say {
        who: Index,
        is_binary: bool,
    },
    /// By a WAMP client.
    Publish {
        shard: usize,
        room: usize,
    },
    /// What is between the shards arrives.
    Exchange,
    /// Its socket takes nothing, or everything again.
    Fill {
        who: Index,
        is_full: bool,
    },
    Hear,
    Vanish {
        who: Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = any::<Index>;
    prop_oneof![
        3 => (0..2usize, 0..ROOMS, any::<bool>())
            .prop_map(|(shard, room, is_compressed)| Step::Enter { shard, room, is_compressed }),
        8 => (who(), any::<bool>()).prop_map(|(who, is_binary)| Step::Say { who, is_binary }),
        2 => (0..2usize, 0..ROOMS).prop_map(|(shard, room)| Step::Publish { shard, room }),
        2 => Just(Step::Exchange),
        2 => (who(), any::<bool>()).prop_map(|(who, is_full)| Step::Fill { who, is_full }),
        2 => Just(Step::Hear),
        2 => who().prop_map(|who| Step::Vanish { who }),
    ]
}

/// Who said it, and how many messages had been said.
type Message = (Client, u64);

struct Modelled {
    client: Client,
    room: usize,
    must_hear: BTreeMap<u64, Client>,
    /// On its way to the room when it came.
    may_hear: BTreeMap<u64, Client>,
    heard: Vec<u64>,
}

struct Stage {
    router: Router,
    includes_sender: bool,
    publishers: [Client; 2],
    clients: Vec<Modelled>,
    /// Since the shards exchanged what they have for each other.
    under_way: Vec<(usize, Message)>,
    said: u64,
}

impl Stage {
    fn new(includes_sender: bool) -> Self {
        let mut router = rooms("realm1", includes_sender, &[]);
        let publishers = [router.join(0), router.join(1)];
        Self { router, includes_sender, publishers, clients: Vec::new(), under_way: Vec::new(), said: 0 }
    }

    fn do_step(&mut self, step: &Step) {
        let index = |who: &Index| who.index(self.clients.len());
        match step {
            Step::Enter { shard, room, is_compressed } if self.clients.len() < CLIENTS_MAX => {
                self.enter(*shard, *room, *is_compressed);
            }
            Step::Publish { shard, room } => {
                let publisher = self.publishers[*shard];
                let number = self.note(publisher, *room, true);
                let message = format!(r#"[16,1,{{}},"room.{room}",["RECEIVED: {number}"]]"#);
                assert_eq!(self.router.say(publisher, &message), Flow::Continue);
            }
            Step::Exchange => self.exchange(),
            Step::Enter { .. } => {}
            _ if self.clients.is_empty() => {}
            Step::Hear => self.hear(),
            Step::Say { who, is_binary } => {
                let Modelled { client, room, .. } = self.clients[index(who)];
                let number = self.note(client, room, self.includes_sender);
                let kind = if *is_binary { Kind::Binary } else { Kind::Text };
                let flow = self.router.say_bytes(client, kind, number.to_string().as_bytes());
                assert_eq!(flow, Flow::Continue);
            }
            Step::Fill { who, is_full } => {
                let client = self.clients[index(who)].client;
                self.router.fill(client, *is_full);
            }
            Step::Vanish { who } => {
                let index = index(who);
                self.vanish(index);
            }
        }
        for shard in &self.router.shards {
            assert_eq!(shard.counters().balance(), 0);
        }
    }

    fn enter(&mut self, shard: usize, room: usize, is_compressed: bool) {
        let direction = Direction { window_bits: 15, takeover: false };
        let agreement = Agreement { server: direction, client: direction };
        let agreement = is_compressed.then_some(&agreement);
        let (client, flow) = self.router.connect_to_room(shard, &format!("/room/{room}"), agreement);
        assert_eq!(flow, Flow::Continue);
        let on_its_way = self.under_way.iter().filter(|(to, _)| *to == room);
        let may_hear = on_its_way.map(|(_, (who, number))| (*number, *who)).collect();
        self.clients.push(Modelled { client, room, must_hear: BTreeMap::new(), may_hear, heard: Vec::new() });
    }

    /// Somebody says something in a room: its number, and who must hear it.
    fn note(&mut self, speaker: Client, room: usize, includes_speaker: bool) -> u64 {
        self.said += 1;
        let there = self.clients.iter_mut().filter(|modelled| modelled.room == room);
        for modelled in there.filter(|modelled| includes_speaker || modelled.client != speaker) {
            modelled.must_hear.insert(self.said, speaker);
        }
        self.under_way.push((room, (speaker, self.said)));
        self.said
    }

    fn exchange(&mut self) {
        for shard in [0, 1, 0, 1] {
            self.router.exchange(shard);
        }
        self.under_way.clear();
    }

    fn hear(&mut self) {
        for modelled in &mut self.clients {
            let heard = self.router.hear_now(modelled.client);
            modelled.heard.extend(heard.iter().map(|text| number_of(text)));
        }
    }

    fn vanish(&mut self, index: usize) {
        let gone = self.clients.swap_remove(index);
        self.router.vanish(gone.client);
    }

    fn end(mut self) {
        self.exchange();
        for modelled in &self.clients {
            self.router.fill(modelled.client, false);
        }
        self.hear();
        self.clients.iter().for_each(Modelled::check);
        while !self.clients.is_empty() {
            self.vanish(0);
        }
        for shard in &self.router.shards {
            let counters = shard.counters();
            let left = (counters.subscriptions, counters.streams, counters.queued, counters.echo.sessions);
            assert_eq!(left, (0, 0, 0, 0));
        }
    }
}

impl Modelled {
    fn check(&self) {
        let mut last: BTreeMap<(usize, u32), u64> = BTreeMap::new();
        for number in &self.heard {
            let speaker = self.must_hear.get(number).or_else(|| self.may_hear.get(number));
            let Client(shard, outlet) = speaker.unwrap_or_else(|| panic!("{number} was not said here"));
            let before = last.insert((*shard, outlet.0), *number);
            assert!(before.is_none_or(|before| before < *number), "{number} comes after {before:?}");
        }
        let heard: BTreeSet<u64> = self.heard.iter().copied().collect();
        let missing: Vec<&u64> = self.must_hear.keys().filter(|number| !heard.contains(number)).collect();
        assert!(missing.is_empty(), "{missing:?} were not heard");
    }
}

/// Of a message as text, or as the bytes of a binary one.
fn number_of(heard: &str) -> u64 {
    let prefix = "RECEIVED: ";
    let text = match heard.strip_prefix(prefix) {
        Some(text) => text.to_owned(),
        None => {
            let byte = |at: usize| u8::from_str_radix(&heard[at..at + 2], 16).expect("bytes");
            let bytes: Vec<u8> = (0..heard.len()).step_by(2).map(byte).collect();
            let text = String::from_utf8(bytes).expect("digits");
            text.strip_prefix(prefix).expect("the prefix is kept").to_owned()
        }
    };
    text.parse().expect("a number")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn who_is_there_hears_everything_once_and_in_order(
        includes_sender in any::<bool>(), steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut stage = Stage::new(includes_sender);
        steps.iter().for_each(|step| stage.do_step(step));
        stage.end();
    }
}
