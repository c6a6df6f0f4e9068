//! What comes of input that is wrong, or nearly: `bad_input.txt`, a row a case, in each serializer and framing.
//!
//! Each row is said by a client in some state of its session, and all that the client hears of it is the last column. A
//! session that is not ended must go on as before, and another one must notice nothing.

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::rawsocket::MaxLength;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::ws::Kind;
use fanwire_core::encoding::Framing;
use fanwire_core::{Effect, Encoding, Limits};

use crate::support::{Client, Router, number};

const TABLE: &str = include_str!("bad_input.txt");

/// What the client has announced, in each of its roles.
const FEATURES: &str = r#"{"features":{"call_canceling":true,"call_timeout":true,"payload_passthru_mode":true,"progressive_call_invocations":true,"progressive_call_results":true}}"#;

/// What the other one hears when the session ends.
const LEFT: &str = r#"[69,1,{"mode":"killnowait"}] [69,2,{"mode":"killnowait"}] [8,48,1,{},"wamp.error.canceled",["the callee left before it answered"]]"#;

struct Row {
    state: &'static str,
    message: &'static str,
    /// What it hears, or `-`.
    expected: &'static str,
    /// What the other side of its calls and invocations hears of it.
    other: Option<&'static str>,
}

fn rows() -> impl Iterator<Item = (usize, Row)> {
    TABLE.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(
        |(index, line)| {
            let mut columns = line.split(" | ").map(str::trim);
            let mut column = || columns.next().unwrap_or_else(|| panic!("line {}: {line}", index + 1));
            let (state, message, expected) = (column(), column(), column());
            (index + 1, Row { state, message, expected, other: columns.next() })
        },
    )
}

/// A router with a client in the state of the row, and a healthy one.
struct Scene {
    router: Router,
    serializer: Serializer,
    framing: Framing,
    client: Client,
    other: Client,
    /// What placeholders stand for.
    subscription: u64,
    registration: u64,
    /// Of the other one's second procedure.
    second: u64,
}

impl Scene {
    fn new(state: &str, serializer: Serializer, framing: Framing) -> Self {
        // Small ones, because each row has a router of its own.
        let limits = Limits { topic_cache_entries: 16, ring_capacity: 128, ..Limits::default() };
        let mut router = Router::with(2, limits);
        let other = router.join_able(
            1,
            &["progressive_call_invocations"],
            &["progressive_call_invocations", "call_canceling"],
        );
        router.say(other, r#"[64,1,{},"other.procedure"]"#);
        router.say(other, r#"[64,2,{},"other.second"]"#);
        let second = number(&router.hear(other)[1], 2);
        let client = router.connect(0, Encoding::Wamp2(serializer, framing));
        let mut scene =
            Self { router, serializer, framing, client, other, subscription: 0, registration: 0, second };
        match state {
            "waiting" => {}
            "challenged" => {
                scene.say(r#"[1,"named",{"roles":{"caller":{}},"authmethods":["ticket"],"authid":"joe"}]"#);
                assert_eq!(scene.hear_one(), r#"[4,"ticket",{}]"#);
            }
            "bare" => scene.join("{}"),
            "open" => scene.open(),
            "closing" => {
                scene.open();
                scene.router.shards[0].shut_down(scene.router.now, client.1);
                assert!(scene.hear_one().starts_with("[6,"));
            }
            other => panic!("no state {other}"),
        }
        scene
    }

    fn join(&mut self, features: &str) {
        let roles =
            ["publisher", "subscriber", "caller", "callee"].map(|role| format!(r#""{role}":{features}"#));
        self.say(&format!(r#"[1,"realm1",{{"roles":{{{}}}}}]"#, roles.join(",")));
        assert!(self.hear_one().starts_with("[2,"));
    }

    /// A session with a subscription, a registration, a call that waits (7), one in parts (8) and an invocation (1).
    fn open(&mut self) {
        self.join(FEATURES);
        self.say(r#"[32,1,{},"a.topic"]"#);
        self.subscription = number(&self.hear_one(), 2);
        self.say(r#"[64,2,{},"a.procedure"]"#);
        self.registration = number(&self.hear_one(), 2);
        self.say(r#"[48,7,{},"other.procedure"]"#);
        self.say(r#"[48,8,{"progress":true},"other.second"]"#);
        assert_eq!(self.router.hear(self.other).len(), 2);
        self.router.say(self.other, r#"[48,1,{},"a.procedure"]"#);
        assert!(self.hear_one().starts_with("[68,1,"));
    }

    /// Says a list that is written in JSON. False: it has no form in this serializer.
    fn say(&mut self, json: &str) -> bool {
        if self.serializer == Serializer::Json {
            self.router.say(self.client, json);
            return true;
        }
        let Ok(list) = OwnedPayload::checked(Serializer::Json, Some(json.as_bytes()), None) else {
            return false;
        };
        let Ok(list) = list.transcode(self.serializer) else { return false };
        let bytes = list.view().args.expect("a list");
        self.router.say_bytes(self.client, Kind::Binary, bytes);
        true
    }

    /// What was heard, in JSON. Batches are of one message each.
    fn hear(&mut self) -> Vec<String> {
        let mut heard = self.router.hear(self.client);
        if self.framing == Framing::Batched {
            for message in heard.iter_mut().filter(|message| !message.starts_with("close ")) {
                assert_eq!(message.pop(), Some('\x1e'), "{message}");
            }
        }
        let serializer = self.serializer;
        heard.into_iter().map(|message| as_json(serializer, message)).collect()
    }

    /// A text with the ids that are drawn.
    fn with_ids(&self, text: &str) -> String {
        [("@sub", self.subscription), ("@reg", self.registration), ("@second", self.second)]
            .iter()
            .fold(text.to_owned(), |text, (name, id)| text.replace(name, &id.to_string()))
    }

    /// What the framing has of what the table expects: RawSocket has no close frames.
    fn expected(&self, expected: &str) -> String {
        let expected = &self.with_ids(expected);
        match (self.framing, expected.rsplit_once("close ")) {
            (Framing::Raw(_), Some(("", _))) => "-".to_owned(),
            (Framing::Raw(_), Some((before, _))) => before.trim_end().to_owned(),
            _ => expected.to_owned(),
        }
    }

    /// Its connection ends.
    fn is_over(&self, expected: &str) -> bool {
        let finished = self.router.effects.contains(&(0, Effect::Finished(self.client.1)));
        if matches!(self.framing, Framing::Raw(_)) { finished } else { expected.contains("close ") }
    }

    fn hear_one(&mut self) -> String {
        let mut heard = self.hear();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// The session is as it was; `-` was heard in `state`.
    fn check_alive(&mut self, state: &str, row: &str) {
        match state {
            "open" | "bare" => {
                self.say(r#"[16,999,{"acknowledge":true},"a.probe"]"#);
                let heard = self.hear_one();
                assert!(heard.starts_with("[17,999,"), "{row}: {heard}");
            }
            "closing" => {
                self.say(r#"[6,{},"wamp.close.goodbye_and_out"]"#);
                let heard = summary(&self.hear());
                assert_eq!(heard, self.expected("close 1001"), "{row}");
            }
            _ => {}
        }
    }

    fn check_other(&mut self, row: &str) {
        self.router.say(self.other, r#"[16,999,{"acknowledge":true},"other.probe"]"#);
        let heard = self.router.hear(self.other);
        assert!(heard.last().is_some_and(|last| last.starts_with("[17,999,")), "{row}: {heard:?}");
    }
}

fn as_json(serializer: Serializer, message: String) -> String {
    if serializer == Serializer::Json || message.starts_with("close ") {
        return message;
    }
    let byte = |at: usize| u8::from_str_radix(&message[at..at + 2], 16).expect("hexadecimal");
    let bytes: Vec<u8> = (0..message.len()).step_by(2).map(byte).collect();
    let list = OwnedPayload::checked(serializer, Some(&bytes), None).expect("a list");
    let list = list.transcode(Serializer::Json).expect("it has a form");
    String::from_utf8(list.view().args.expect("a list").to_vec()).expect("UTF-8")
}

/// What is too long to be written into a row.
fn filled(message: &str, scene: &Scene) -> String {
    let nested = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    let keys = |count: usize| (0..count).map(|key| format!("\"k{key}\":1")).collect::<Vec<_>>().join(",");
    let list = |value: &str, count: usize| format!("[{}]", vec![value; count].join(","));
    scene
        .with_ids(message)
        .replace("@depth128", &nested(128))
        .replace("@depth129", &nested(129))
        .replace("@keys64", &keys(64))
        .replace("@keys65", &keys(65))
        .replace("@ids65537", &list("7", 65_537))
        .replace("@names33", &list("\"ticket\"", 33))
        .replace("@uri255", &format!("\"{}\"", "u".repeat(255)))
        .replace("@uri256", &format!("\"{}\"", "u".repeat(256)))
        .replace("@wildcard33", &format!("\"{}\"", vec!["w"; 33].join(".")))
}

/// All that was heard, without what is a matter of chance.
fn summary(heard: &[String]) -> String {
    let one = |message: &String| {
        let ids = |shown: usize| {
            let parts: Vec<&str> = message.trim_matches(['[', ']']).split(',').take(shown).collect();
            format!("[{},…]", parts.join(","))
        };
        match message.split([',', ']']).next() {
            // Ids of publications, subscriptions, registrations and sessions are drawn.
            Some("[17" | "[33" | "[65") => ids(2),
            Some("[2") => ids(1),
            Some("[36") => "[36,…]".to_owned(),
            _ => message.clone(),
        }
    };
    if heard.is_empty() { "-".to_owned() } else { heard.iter().map(one).collect::<Vec<_>>().join(" ") }
}

/// Where something is wrong in the bytes is another place in each serializer.
fn without_place(summary: &str) -> String {
    let Some((before, rest)) = summary.split_once(" at byte ") else { return summary.to_owned() };
    format!("{before} at byte N{}", rest.trim_start_matches(|character: char| character.is_ascii_digit()))
}

#[test]
fn each_row_of_the_table_is_what_comes_of_bad_input_in_json() {
    check_table(Serializer::Json, Framing::Plain);
}

#[test]
fn each_row_of_the_table_is_what_comes_of_bad_input_in_messagepack() {
    check_table(Serializer::MsgPack, Framing::Plain);
}

#[test]
fn each_row_of_the_table_is_what_comes_of_bad_input_in_cbor() {
    check_table(Serializer::Cbor, Framing::Plain);
}

#[test]
fn each_row_of_the_table_is_what_comes_of_bad_input_in_batches() {
    check_table(Serializer::Json, Framing::Batched);
}

#[test]
fn each_row_of_the_table_is_what_comes_of_bad_input_over_rawsocket() {
    check_table(Serializer::Json, Framing::Raw(MaxLength::MOST));
}

fn check_table(serializer: Serializer, framing: Framing) {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (line, Row { state, message, expected, other }) in rows() {
        let mut scene = Scene::new(state, serializer, framing);
        let said = filled(message, &scene);
        let row = format!("line {line}, {serializer}: {state} | {message}");
        if !scene.say(&said) {
            continue;
        }
        let heard = scene.hear();
        let found = without_place(&summary(&heard));
        if found != scene.expected(expected) {
            wrong.push(format!("{row} | {found} instead of {expected}"));
        }
        let heard_there = scene.router.hear(scene.other);
        if let Some(other) = other
            && summary(&heard_there) != scene.with_ids(other).replace("@left", LEFT)
        {
            wrong.push(format!("{row}: the other one hears {} instead of {other}", summary(&heard_there)));
        }
        let is_over = scene.is_over(&found);
        if is_over != expected.contains("close ") {
            wrong.push(format!("{row} | its connection is over: {is_over}"));
        }
        if !is_over {
            scene.check_alive(state, &row);
        }
        scene.check_other(&row);
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} are otherwise:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 650, "{count} rows were said");
}

/// Each of these is one too many, after as many as the limits allow.
#[test]
fn what_a_session_may_have_is_bounded_and_the_error_says_by_what() {
    let limits = Limits {
        subscriptions_max: 3,
        registrations_max: 3,
        patterns_per_session: 2,
        calls_max: 3,
        invocations_max: 3,
        ..Limits::default()
    };
    let each = |count: usize, message: &dyn Fn(usize) -> String| (1..=count).map(message).collect::<Vec<_>>();
    for (before, last, expected) in [
        (
            each(3, &|n| format!(r#"[32,{n},{{}},"a.{n}"]"#)),
            r#"[32,9,{},"a.last"]"#,
            r#"[8,32,9,{},"wamp.error.unavailable",["this session has 3 subscriptions, the most allowed (limits.subscriptions_per_session)"]]"#,
        ),
        (
            each(3, &|n| format!(r#"[64,{n},{{}},"a.{n}"]"#)),
            r#"[64,9,{},"a.last"]"#,
            r#"[8,64,9,{},"wamp.error.unavailable",["this session has 3 registrations, the most allowed (limits.registrations_per_session)"]]"#,
        ),
        (
            each(2, &|n| format!(r#"[32,{n},{{"match":"prefix"}},"a.{n}"]"#)),
            r#"[64,9,{"match":"wildcard"},"a..b"]"#,
            r#"[8,64,9,{},"wamp.error.unavailable",["this session has 2 subscriptions and registrations by prefix or wildcard, the most allowed"#,
        ),
        (
            each(3, &|n| format!(r#"[48,{n},{{}},"other.procedure"]"#)),
            r#"[48,9,{},"other.procedure"]"#,
            r#"[8,48,9,{},"wamp.error.unavailable",["3 calls of this session are waiting"#,
        ),
        // What was cancelled and cannot be interrupted is still worked on.
        (
            [
                each(3, &|n| format!(r#"[48,{n},{{}},"other.procedure"]"#)),
                each(3, &|n| format!("[49,{n},{{}}]")),
            ]
            .concat(),
            r#"[48,9,{},"other.procedure"]"#,
            r#"[8,48,9,{},"wamp.error.unavailable",["3 calls of this session are waiting"#,
        ),
        (
            each(1, &|n| format!(r#"[48,{n},{{}},"other.procedure"]"#)),
            r#"[48,9,{},"other.busy"]"#,
            r#"[8,48,9,{},"wamp.error.unavailable",["the callee has too many calls waiting (limits.pending_invocations_per_session): try again later"]]"#,
        ),
    ] {
        for callee_shard in 0..2 {
            let mut router = Router::with(2, limits.clone());
            let callee = router.join_able(callee_shard, &[], &[]);
            router.say(callee, r#"[64,1,{},"other.procedure"]"#);
            // Others keep this one busy.
            let (busy, others) = (router.join(callee_shard), router.join(1));
            router.say(busy, r#"[64,1,{},"other.busy"]"#);
            for request in 1..=3 {
                router.say(others, &format!(r#"[48,{request},{{}},"other.busy"]"#));
            }
            router.settle();
            let client = router.join(0);
            for message in &before {
                router.say(client, message);
                let heard = router.hear(client);
                let refused = heard.iter().any(|heard| heard.contains("unavailable"));
                assert!(!refused, "{message}: {heard:?}");
            }
            router.say(client, last);
            let heard = router.hear_one(client);
            assert!(heard.starts_with(expected), "{last}: {heard}");
            router.say(client, r#"[16,999,{"acknowledge":true},"a.probe"]"#);
            assert!(router.hear_one(client).starts_with("[17,999,"));
        }
    }
}
