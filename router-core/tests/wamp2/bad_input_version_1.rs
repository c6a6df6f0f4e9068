//! What comes of input of WAMP version 1 that is wrong, or nearly: `bad_input_version_1.txt`, a row a case.
//!
//! Version 1 answers nothing but calls. What else is not done is counted, so each row says what the counters have beside what the
//! client hears. A session that is not closed must go on as before, and another one must notice nothing.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::ids::RoleId;
use fanwire_core::login::{Challenge, Exchange, LoginMethod};
use fanwire_core::question::{Denial, Grant};
use fanwire_core::{Arrival, Flow, Limits, LoginOutcome};

use crate::support::{Client, Router};
use crate::version_1::enter;

const TABLE: &str = include_str!("bad_input_version_1.txt");

struct Row {
    state: &'static str,
    message: &'static str,
    /// What it hears, or `-`.
    expected: &'static str,
    /// What is counted of it, or `-`.
    counted: &'static str,
}

fn rows() -> impl Iterator<Item = (usize, Row)> {
    TABLE.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(
        |(index, line)| {
            let columns: Vec<_> = line.split(" | ").map(str::trim).collect();
            let [state, message, expected, counted] = columns[..] else {
                panic!("line {}: {line}", index + 1)
            };
            (index + 1, Row { state, message, expected, counted })
        },
    )
}

/// A router with a client in the state of the row, and a healthy one.
struct Scene {
    router: Router,
    client: Client,
    /// Of version 1 where the realm lets it in without a login.
    other: Client,
    /// It has the calls of `open`.
    callee: Option<Client>,
}

impl Scene {
    fn new(state: &str) -> Self {
        let realm = match state {
            "welcome" | "challenged" | "guessing" | "member" => "signed",
            "guest" | "asked" => "every",
            "confined" => "closed",
            _ => "realm1",
        };
        // Small ones, because each row has a router of its own.
        let limits = Limits {
            topic_cache_entries: 16,
            ring_capacity: 128,
            subscriptions_max: 2,
            calls_max: 2,
            ..Limits::default()
        };
        let mut router = Router::with_version_1(2, limits, &[], realm, &[], |_| Default::default());
        let (other, flow) = router.connect_version_1(1, None);
        assert_eq!(flow, Flow::Continue);
        let (client, _) = enter(&mut router, 0);
        let mut scene = Self { router, client, other, callee: None };
        if realm == "signed" {
            scene.log_in(other, 1);
        }
        scene.router.hear(other);
        scene.router.say(other, r#"[5,"ok.healthy"]"#);
        match state {
            "welcome" | "guest" | "confined" => {}
            "challenged" => scene.be_challenged(client, 0),
            "guessing" => {
                for _ in 0..9 {
                    scene.be_challenged(client, 0);
                    scene.router.say(client, r#"[2,"b","http://api.wamp.ws/procedure#auth","wrong"]"#);
                    scene.decide(0, Err(Denial::Refused));
                    assert!(scene.router.hear_one(client).contains("#invalid-signature"));
                }
                scene.be_challenged(client, 0);
            }
            "member" => scene.log_in(client, 0),
            "asked" => {
                scene.router.say(client, r#"[2,"a","http://api.wamp.ws/procedure#authreq"]"#);
                assert_eq!(scene.router.hear_one(client), r#"[3,"a",null]"#);
            }
            "open" => scene.open(),
            "prefixed" => {
                scene.open();
                for number in 0..63 {
                    scene.router.say(client, &format!(r#"[1,"{number}","b."]"#));
                }
            }
            "full" => {
                scene.open();
                scene.router.say(client, r#"[5,"second"]"#);
                scene.router.say(client, r#"[2,"c2","other.second"]"#);
            }
            "closing" => {
                scene.router.shards[0].shut_down(scene.router.now, client.1);
                assert_eq!(scene.router.hear_one(client), "close 1001");
            }
            other => panic!("no state {other}"),
        }
        scene
    }

    fn decide(&mut self, shard: usize, outcome: Result<Grant, Denial>) {
        let question = self.router.question(shard);
        self.router.shards[shard].handle_verdict(self.router.now, question.verdict(outcome));
    }

    fn be_challenged(&mut self, client: Client, shard: usize) {
        let said = r#"[2,"a","http://api.wamp.ws/procedure#authreq","joe"]"#;
        assert_eq!(self.router.say(client, said), Flow::Pause);
        let extra = OwnedPayload::checked(Serializer::Json, Some(br#"["sign this"]"#), None).expect("sound");
        let exchange = Some(Exchange::new(17_u32));
        let challenge = Some(Box::new(Challenge { method: LoginMethod::WampCra, extra, exchange }));
        self.decide(shard, Ok(Grant { challenge, ..Grant::default() }));
        assert_eq!(self.router.hear_one(client), r#"[3,"a","sign this"]"#);
    }

    fn log_in(&mut self, client: Client, shard: usize) {
        self.router.hear(client);
        self.be_challenged(client, shard);
        let said = r#"[2,"b","http://api.wamp.ws/procedure#auth","signed"]"#;
        assert_eq!(self.router.say(client, said), Flow::Pause);
        self.decide(shard, Ok(Grant::of_user(RoleId::new(0))));
        assert!(self.router.hear_one(client).starts_with(r#"[3,"b",{"pubsub""#));
    }

    /// With a prefix `p`, a subscription to `a.topic` and a call `c1` that waits.
    fn open(&mut self) {
        let callee = self.router.join(1);
        for (request, procedure) in [(1, "other.procedure"), (2, "other.second")] {
            self.router.say(callee, &format!(r#"[64,{request},{{}},"{procedure}"]"#));
        }
        assert_eq!(self.router.hear(callee).len(), 2);
        for said in [r#"[1,"p","a."]"#, r#"[5,"a.topic"]"#, r#"[2,"c1","other.procedure"]"#] {
            assert_eq!(self.router.say(self.client, said), Flow::Continue);
        }
        assert_eq!(self.router.hear(callee).len(), 1);
        self.callee = Some(callee);
    }

    fn say(&mut self, message: &str) -> Flow {
        if let Some(hexadecimal) = message.strip_prefix("@binary:") {
            return self.router.say_bytes(self.client, Kind::Binary, hexadecimal.as_bytes());
        }
        let Some(raw) = message.strip_prefix("@text:") else { return self.router.say(self.client, message) };
        let byte = |at: usize| u8::from_str_radix(&raw[at..at + 2], 16).expect("hexadecimal");
        let bytes: Vec<u8> = (0..raw.len()).step_by(2).map(byte).collect();
        self.router.say_bytes(self.client, Kind::Text, &bytes)
    }

    /// All that the client hears, with the words of a close frame.
    fn hear(&mut self) -> String {
        let heard = self.router.hear(self.client);
        let with_words = |message: &String| match &self.router.farewells.get(&self.client) {
            Some(words) if message.starts_with("close ") => format!("{message} {words}"),
            _ => message.clone(),
        };
        if heard.is_empty() {
            "-".to_owned()
        } else {
            heard.iter().map(with_words).collect::<Vec<_>>().join(" ")
        }
    }

    /// What was counted until now, each with its word.
    fn counts(&self) -> [(&'static str, u64); 3] {
        let counters = self.router.shards[0].counters();
        let denied = LoginOutcome::of(LoginMethod::WampCra, Arrival::Denied);
        [
            ("refused", counters.requests_refused),
            ("violation", counters.violations),
            ("denied", counters.logins[denied.index()]),
        ]
    }

    /// The session is as it was.
    fn check_alive(&mut self, state: &str, row: &str) {
        match state {
            // Its call has its answer, and its subscription its event.
            "open" | "full" | "prefixed" => {
                let callee = self.callee.expect("it was opened");
                self.router.say(callee, "[70,1,{},[7]]");
                assert!(self.router.hear(self.client).contains(&r#"[3,"c1",7]"#.to_owned()), "{row}");
                self.router.say(callee, r#"[16,999,{},"a.topic",["probe"]]"#);
                assert_eq!(self.router.hear_one(self.client), r#"[8,"a.topic","probe"]"#, "{row}");
            }
            // It can log in.
            "welcome" => self.log_in(self.client, 0),
            "member" | "guest" | "confined" | "asked" => {
                self.router.say(self.client, r#"[2,"probe","ok.nothing"]"#);
                let heard = self.router.hear_one(self.client);
                assert!(
                    heard.starts_with(r#"[4,"probe","http://api.wamp.ws/error#NoSuchRPCEndpoint""#),
                    "{row}: {heard}"
                );
            }
            "challenged" | "guessing" => {
                self.router.say(self.client, r#"[2,"probe","p"]"#);
                let heard = self.router.hear_one(self.client);
                assert!(heard.starts_with(r#"[4,"probe","wamp.error.not_authorized""#), "{row}: {heard}");
            }
            _ => {}
        }
    }

    fn check_other(&mut self, row: &str) {
        self.router.hear(self.other);
        self.router.say(self.other, r#"[7,"ok.healthy","probe",false]"#);
        assert_eq!(self.router.hear(self.other), [r#"[8,"ok.healthy","probe"]"#], "{row}");
    }
}

/// What is too long to be written into a row.
fn filled(message: &str) -> String {
    let nested = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    message
        .replace("@depth126", &nested(126))
        .replace("@authreq", "\"http://api.wamp.ws/procedure#authreq\"")
        .replace("@auth", "\"http://api.wamp.ws/procedure#auth\"")
        .replace("@depth127", &nested(127))
        .replace("@depth128", &nested(128))
        .replace("@ids65536", &format!("[{}]", vec!["\"7\""; 65_536].join(",")))
        .replace("@ids65537", &format!("[{}]", vec!["\"7\""; 65_537].join(",")))
        .replace("@long255", &format!("\"{}\"", "u".repeat(255)))
        .replace("@long256", &format!("\"{}\"", "u".repeat(256)))
}

#[test]
fn each_row_of_the_table_is_what_comes_of_bad_input_in_version_1() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (line, Row { state, message, expected, counted }) in rows() {
        let mut scene = Scene::new(state);
        let before = scene.counts();
        let row = format!("line {line}: {state} | {message}");
        let flow = scene.say(&filled(message));
        let mut found = scene.hear().replace(&"u".repeat(255), "@u255");
        if flow == Flow::Pause && found == "-" {
            // Whoever knows the users is asked, who has never heard of this one.
            scene.decide(0, Err(Denial::Refused));
            found = format!("asked: {}", scene.hear());
        }
        let after = scene.counts();
        let more = after.iter().zip(before).map(|(after, before)| (after.0, after.1 - before.1));
        let more: Vec<_> = more.filter(|(_, count)| *count > 0).collect();
        let found_counted = match more[..] {
            [] => "-",
            [(word, 1)] => word,
            _ => panic!("{row}: {more:?}"),
        };
        if (found.as_str(), found_counted) != (expected, counted) {
            wrong.push(format!("{row} | {found} | {found_counted}"));
        }
        let is_closed = found.contains("close ");
        assert!(flow != Flow::Closing || is_closed || state == "closing", "{row}: {found}");
        if !is_closed {
            scene.check_alive(state, &row);
        }
        scene.check_other(&row);
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} are otherwise:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 600, "{count} rows were said");
}
