//! WAMP's meta API on the real process.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Heard, Launch, Router, eventually};

/// A client, with its session's id.
pub struct Member {
    pub client: Client,
    pub id: u64,
    pub requests: u64,
}

impl Member {
    pub fn join(router: &Router, realm: &str) -> Self {
        let mut client = Client::connect(router.wamp);
        let welcome = client.ask(json!([1, realm, {"roles": roles()}]));
        Self::welcomed(client, &welcome)
    }

    /// Announces nothing.
    pub fn join_plain(router: &Router) -> Self {
        let mut client = Client::connect(router.wamp);
        let roles = json!({"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}});
        let welcome = client.ask(json!([1, "realm1", {"roles": roles}]));
        Self::welcomed(client, &welcome)
    }

    /// The next event of a subscription by pattern: its topic and its arguments.
    pub fn meta_event(&mut self) -> (String, Value) {
        let mut event = self.client.expect();
        assert_eq!(event[0], 36, "{event}");
        (event[3]["topic"].as_str().expect("a topic").to_owned(), event[4].take())
    }

    pub fn log_in(router: &Router, user: &str) -> Self {
        let mut client = Client::connect(router.wamp);
        let hello = json!({"roles": roles(), "authmethods": ["ticket"], "authid": user});
        let challenge = client.ask(json!([1, "realm1", hello]));
        assert_eq!(challenge[0], 4, "{challenge}");
        let welcome = client.ask(json!([5, CHEAP_TICKET, {}]));
        Self::welcomed(client, &welcome)
    }

    fn welcomed(client: Client, welcome: &Value) -> Self {
        assert_eq!(welcome[0], 2, "{welcome}");
        Self { client, id: welcome[1].as_u64().expect("an id"), requests: 0 }
    }

    pub fn subscribe(&mut self, topic: &str, policy: &str) -> u64 {
        self.requests += 1;
        let subscribed = self.client.ask(json!([32, self.requests, {"match": policy}, topic]));
        assert_eq!(subscribed[0], 33, "{subscribed}");
        subscribed[2].as_u64().expect("an id")
    }

    /// The next event: its topic by the subscription's id, and its arguments.
    fn event(&mut self) -> (u64, Value) {
        let mut event = self.client.expect();
        assert_eq!(event[0], 36, "{event}");
        (event[1].as_u64().expect("an id"), event[4].take())
    }

    /// The end of a session in this way, and whoever has it ends.
    pub fn end(mut self, how: End) {
        match how {
            End::Goodbye => {
                let goodbye = self.client.ask(json!([6, {}, "wamp.close.close_realm"]));
                assert_eq!(goodbye[0], 6, "{goodbye}");
                self.client.expect_close(1000);
            }
            End::Abort => {
                self.client.send(json!([3, {}, "com.example.enough"]));
                self.client.expect_close(1000);
            }
            End::Violation => {
                self.client.send(json!([2, 1, {}]));
                self.client.expect_end();
            }
            End::Close => {
                self.client.close(1000);
                self.client.expect_end();
            }
            End::Cut => drop(self),
        }
    }

    pub fn say_call(&mut self, procedure: &str, args: Value, kwargs: Value) -> u64 {
        self.requests += 1;
        self.client.send(json!([48, self.requests, {}, procedure, args, kwargs]));
        self.requests
    }

    /// RESULT's arguments, or ERROR's URI.
    pub fn call_with(&mut self, procedure: &str, args: Value, kwargs: Value) -> Result<Value, String> {
        let request = self.say_call(procedure, args, kwargs);
        let answer = self.client.expect();
        match answer[0].as_u64() {
            Some(50) if answer[1] == request => Ok(answer.get(3).cloned().unwrap_or(Value::Null)),
            Some(8) if answer[2] == request => {
                assert!(answer[5][0].is_string(), "an error has words: {answer}");
                Err(answer[4].as_str().expect("a URI").to_owned())
            }
            _ => panic!("{procedure}: {answer}"),
        }
    }

    pub fn call(&mut self, procedure: &str, args: Value) -> Value {
        self.call_with(procedure, args, json!({})).unwrap_or_else(|error| panic!("{procedure}: {error}"))
    }

    pub fn refused(&mut self, procedure: &str, args: Value) -> String {
        self.call_with(procedure, args, json!({})).expect_err(procedure)
    }

    /// GOODBYE's reason and message; then the end, if it answers.
    fn goodbye(self) -> (Value, Value) {
        self.goodbye_at(1000)
    }

    fn goodbye_at(mut self, code: u16) -> (Value, Value) {
        let mut goodbye = self.client.expect();
        assert_eq!(goodbye[0], 6, "{goodbye}");
        self.client.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
        self.client.expect_close(code);
        (goodbye[2].take(), goodbye[1].take())
    }
}

#[derive(Clone, Copy, Debug)]
pub enum End {
    Goodbye,
    Abort,
    Violation,
    Close,
    Cut,
}

const ENDS: [End; 5] = [End::Goodbye, End::Abort, End::Violation, End::Close, End::Cut];

fn roles() -> Value {
    let revocable = json!({"features": {"subscription_revocation": true, "registration_revocation": true}});
    json!({"publisher": {}, "subscriber": revocable, "caller": {}, "callee": revocable})
}

pub fn sorted(ids: &Value) -> Vec<u64> {
    let mut ids: Vec<u64> =
        ids.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id")).collect();
    ids.sort_unstable();
    ids
}

/// On one shard and on two.
pub fn each(driver: &str, check: impl Fn(&Router)) {
    for shards in ["1", "2"] {
        check(&Launch::on(driver).argument("--shards").argument(shards).start());
    }
}

pub const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";
pub const INVALID_URI: &str = "wamp.error.invalid_uri";
pub const NO_SUCH_SESSION: &str = "wamp.error.no_such_session";

on_both_drivers! {
    fn sessions_are_counted_listed_and_described(driver: &str) {
        each(driver, |router| {
            let mut members: Vec<Member> = (0..12).map(|_| Member::join(router, "realm1")).collect();
            let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
            ids.sort_unstable();
            let member = &mut members[3];
            assert_eq!(member.call("wamp.session.count", json!([])), json!([12]));
            assert_eq!(member.call("wamp.session.count", json!([["anonymous", "x"]])), json!([12]));
            assert_eq!(member.call("wamp.session.count", json!([["x"]])), json!([0]));
            assert_eq!(member.call("wamp.session.count", json!([[]])), json!([0]));
            assert_eq!(member.call("wamp.session.count", json!([null])), json!([12]));
            assert_eq!(sorted(&member.call("wamp.session.list", json!([]))[0]), ids);
            assert_eq!(member.call("wamp.session.list", json!([["x"]])), json!([[]]));
            for id in ids {
                let details = member.call("wamp.session.get", json!([id]))[0].take();
                let named = format!("anonymous-{id:x}");
                for (key, value) in [
                    ("session", json!(id)), ("authid", json!(named)), ("authrole", json!("anonymous")),
                    ("authmethod", json!("anonymous")), ("authprovider", json!("static")),
                ] {
                    assert_eq!(details[key], value, "{details}");
                }
                let transport = &details["transport"];
                assert_eq!((&transport["protocol"], &transport["serializer"]), (&json!("wamp2"), &json!("json")));
                assert!(transport["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{details}");
            }
            assert!(router.metric("fanwire_meta_calls_total", "result=\"done\"") >= 19.0);
        });
    }

    fn sessions_are_killed_one_by_one_and_by_what_they_are(driver: &str) {
        each(driver, |router| {
            let mut killer = Member::join(router, "realm1");
            let mut members: Vec<Member> = (0..9).map(|_| Member::join(router, "realm1")).collect();
            let mut next = || members.pop().expect("there are enough");
            let victim = next();
            assert_eq!(killer.call("wamp.session.kill", json!([victim.id])), Value::Null);
            assert_eq!(killer.refused("wamp.session.get", json!([victim.id])), NO_SUCH_SESSION);
            assert_eq!(victim.goodbye(), (json!("wamp.close.killed"), json!({})));
            let victim = next();
            let words = json!({"reason": "com.example.banned", "message": "not here"});
            killer.call_with("wamp.session.kill", json!([victim.id]), words).expect("it is killed");
            assert_eq!(victim.goodbye(), (json!("com.example.banned"), json!({"message": "not here"})));
            let victim = next();
            let authid = format!("anonymous-{:x}", victim.id);
            assert_eq!(killer.call("wamp.session.kill_by_authid", json!([authid])), json!([[victim.id]]));
            assert_eq!(victim.goodbye().0, "wamp.close.killed");
            assert_eq!(killer.call("wamp.session.kill_by_authid", json!([authid])), json!([[]]));
            assert_eq!(killer.call("wamp.session.kill_by_authrole", json!(["nobody"])), json!([0]));
            assert_eq!(killer.call("wamp.session.kill_by_authrole", json!(["anonymous"])), json!([6]));
            let mut more: Vec<Member> = (0..5).map(|_| Member::join(router, "realm1")).collect();
            members.drain(..).for_each(|member| assert_eq!(member.goodbye().0, "wamp.close.killed"));
            assert_eq!(killer.call("wamp.session.kill_all", json!([])), json!([5]));
            more.drain(..).for_each(|member| assert_eq!(member.goodbye().0, "wamp.close.killed"));
            assert_eq!(killer.call("wamp.session.kill_all", json!([])), json!([0]));
            assert_eq!(killer.call("wamp.session.list", json!([])), json!([[killer.id]]));
            assert_eq!(killer.refused("wamp.session.kill", json!([killer.id])), NO_SUCH_SESSION);
        });
    }

    fn a_crowd_is_killed_at_once(driver: &str) {
        let router = Launch::on(driver).start();
        let mut killer = Member::join(&router, "realm1");
        let crowd: Vec<Member> = (0..400).map(|_| Member::join(&router, "realm1")).collect();
        assert_eq!(killer.call("wamp.session.kill_all", json!([])), json!([400]));
        assert_eq!(killer.call("wamp.session.count", json!([])), json!([1]));
        for member in crowd {
            assert_eq!(member.goodbye().0, "wamp.close.killed");
        }
    }

    fn bad_arguments_have_their_errors(driver: &str) {
        let router = Launch::on(driver).start();
        let mut member = Member::join(&router, "realm1");
        let other = Member::join(&router, "realm1");
        let id = other.id;
        let long = "x".repeat(5_000);
        let cases: &[(&str, Value, Value, &str)] = &[
            ("count", json!(["anonymous"]), json!({}), INVALID_ARGUMENT),
            ("count", json!([[1]]), json!({}), INVALID_ARGUMENT),
            ("count", json!([[], 1]), json!({}), INVALID_ARGUMENT),
            ("count", json!([]), json!({"roles": []}), INVALID_ARGUMENT),
            ("list", json!([{}]), json!({}), INVALID_ARGUMENT),
            ("get", json!([]), json!({}), INVALID_ARGUMENT),
            ("get", json!([null]), json!({}), INVALID_ARGUMENT),
            ("get", json!(["1"]), json!({}), INVALID_ARGUMENT),
            ("get", json!([0]), json!({}), INVALID_ARGUMENT),
            ("get", json!([-1]), json!({}), INVALID_ARGUMENT),
            ("get", json!([1.5]), json!({}), INVALID_ARGUMENT),
            ("get", json!([9_007_199_254_740_993_u64]), json!({}), INVALID_ARGUMENT),
            ("get", json!([9_007_199_254_740_992_u64]), json!({}), NO_SUCH_SESSION),
            ("kill", json!([]), json!({}), INVALID_ARGUMENT),
            ("kill", json!([id, id]), json!({}), INVALID_ARGUMENT),
            ("kill", json!([9_007_199_254_740_992_u64]), json!({}), NO_SUCH_SESSION),
            ("kill", json!([id]), json!({"reason": ""}), INVALID_URI),
            ("kill", json!([id]), json!({"reason": "a..b"}), INVALID_URI),
            ("kill", json!([id]), json!({"reason": "a b"}), INVALID_URI),
            ("kill", json!([id]), json!({"reason": 7}), INVALID_URI),
            ("kill", json!([id]), json!({"message": 7}), INVALID_ARGUMENT),
            ("kill", json!([id]), json!({"message": long}), INVALID_ARGUMENT),
            ("kill", json!([id]), json!({"reasons": "a.b"}), INVALID_ARGUMENT),
            ("kill_by_authid", json!([]), json!({}), INVALID_ARGUMENT),
            ("kill_by_authid", json!([id]), json!({}), INVALID_ARGUMENT),
            ("kill_by_authid", json!(["x"]), json!({"reason": "#"}), INVALID_URI),
            ("kill_by_authrole", json!([["anonymous"]]), json!({}), INVALID_ARGUMENT),
            ("kill_by_authrole", json!(["anonymous"]), json!({"reason": "."}), INVALID_URI),
            ("kill_by_authrole", json!(["nobody"]), json!({"reason": "."}), INVALID_URI),
            ("kill_all", json!([1]), json!({}), INVALID_ARGUMENT),
            ("kill_all", json!([]), json!({"reason": " "}), INVALID_URI),
        ];
        for (name, args, kwargs, expected) in cases {
            let error = member.call_with(&format!("wamp.session.{name}"), args.clone(), kwargs.clone());
            assert_eq!(error, Err((*expected).to_owned()), "{name} {args} {kwargs}");
        }
        // Nobody was harmed by any of them.
        assert_eq!(member.call("wamp.session.count", json!([])), json!([2]));
    }

    fn another_realm_is_not_seen(driver: &str) {
        let folder = Folder::new(&format!("meta-realms-{driver}"));
        let rules = r#"
[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role.permission]]
uri = "wamp."
match = "prefix"
allow = ["call", "subscribe"]
"#;
        let text = format!("[[realm]]\nname = \"one\"\n{rules}\n[[realm]]\nname = \"two\"\n{rules}");
        let file = folder.write("fanwire.toml", &text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let mut one = Member::join(&router, "one");
        let mut others: Vec<Member> = (0..4).map(|_| Member::join(&router, "two")).collect();
        assert_eq!(one.call("wamp.session.list", json!([])), json!([[one.id]]));
        for other in &others {
            assert_eq!(one.refused("wamp.session.get", json!([other.id])), NO_SUCH_SESSION);
            assert_eq!(one.refused("wamp.session.kill", json!([other.id])), NO_SUCH_SESSION);
        }
        assert_eq!(one.call("wamp.session.kill_all", json!([])), json!([0]));
        assert_eq!(others[0].call("wamp.session.count", json!([])), json!([4]));
    }

    fn who_may_call_everything_may_kill_nobody(driver: &str) {
        let folder = Folder::new(&format!("meta-roles-{driver}"));
        folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\nann:admin:{CHEAP_HASH}\n"));
        let text = r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role]]
name = "admin"
[[realm.role.permission]]
uri = "wamp."
match = "prefix"
allow = ["call", "subscribe"]
"#;
        let file = folder.write("fanwire.toml", text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let (mut joe, mut ann) = (Member::log_in(&router, "joe"), Member::log_in(&router, "ann"));
        for (name, args) in [
            ("kill", json!([ann.id])), ("kill_all", json!([])), ("kill_by_authid", json!(["ann"])),
            ("kill_by_authrole", json!(["admin"])),
        ] {
            assert_eq!(joe.refused(&format!("wamp.session.{name}"), args), "wamp.error.not_authorized");
        }
        let details = joe.call("wamp.session.get", json!([ann.id]))[0].take();
        assert_eq!((&details["authid"], &details["authmethod"]), (&json!("ann"), &json!("ticket")));
        assert!(details["transport"].get("peer").is_none(), "addresses are not for everybody: {details}");
        assert_eq!(ann.call("wamp.session.count", json!([["member"]])), json!([1]));
        assert_eq!(ann.call("wamp.session.kill_by_authrole", json!(["member"])), json!([1]));
        assert_eq!(joe.goodbye().0, "wamp.close.killed");
        assert!(ann.client.hear_within(Duration::from_millis(50)).is_none_or(|heard| heard == Heard::End));
    }

    fn who_comes_and_goes_is_told(driver: &str) {
        each(driver, |router| {
            let mut observer = Member::join(router, "realm1");
            let join = observer.subscribe("wamp.session.on_join", "exact");
            let leave = observer.subscribe("wamp.session.on_leave", "exact");
            for round in 0..4 {
                for how in ENDS {
                    let member = Member::join(router, "realm1");
                    let (id, authid) = (member.id, format!("anonymous-{:x}", member.id));
                    let (subscription, event) = observer.event();
                    assert_eq!(subscription, join, "{round}: {event}");
                    let transport = json!({"protocol": "wamp2", "serializer": "json"});
                    assert_eq!(event, json!([{
                        "session": id, "authid": authid, "authrole": "anonymous", "authmethod": "anonymous",
                        "authprovider": "static", "transport": transport,
                    }]));
                    member.end(how);
                    assert_eq!(observer.event(), (leave, json!([id, authid, "anonymous"])), "{how:?}");
                }
            }
            let victim = Member::join(router, "realm1");
            let id = victim.id;
            assert_eq!(observer.event().0, join);
            observer.say_call("wamp.session.kill", json!([id]), json!({}));
            let (mut results, mut events) = (0, 0);
            while (results, events) != (1, 1) {
                let heard = observer.client.expect();
                match heard[0].as_u64() {
                    Some(50) => results += 1,
                    Some(36) if heard[1] == leave && heard[4][0] == id => events += 1,
                    _ => panic!("{heard}"),
                }
            }
            eventually("all being counted", || {
                router.metric("fanwire_meta_events_total", "result=\"published\"") >= 42.0
            });
            assert_eq!(router.metric("fanwire_meta_events_total", "result=\"dropped\""), 0.0);
        });
    }

    fn a_pattern_brings_meta_events_too_and_killing_all_is_quiet(driver: &str) {
        let router = Launch::on(driver).start();
        let mut observer = Member::join(&router, "realm1");
        observer.subscribe("wamp.session.", "prefix");
        let members: Vec<Member> = (0..6).map(|_| Member::join(&router, "realm1")).collect();
        let joined: Vec<Value> = members.iter().map(|_| observer.event().1[0]["session"].take()).collect();
        assert_eq!(sorted(&json!(joined)).len(), 6);
        assert_eq!(observer.call("wamp.session.kill_all", json!([])), json!([6]));
        members.into_iter().for_each(|member| drop(member.goodbye()));
        let last = Member::join(&router, "realm1");
        assert_eq!(observer.event().1[0]["session"], last.id, "nobody has left before that");
    }

    fn testaments_are_published_however_a_session_ends(driver: &str) {
        each(driver, |router| {
            let mut heir = Member::join(router, "realm1");
            let will = heir.subscribe("com.will", "exact");
            let other = heir.subscribe("com.will.", "prefix");
            for how in ENDS {
                let mut testator = Member::join(router, "realm1");
                let id = testator.id;
                let add = "wamp.session.add_testament";
                for (args, kwargs) in [
                    (json!(["com.will", [id, "second"], {"k": 1}]), json!({})),
                    (json!(["com.will.too", [id, "third"]]), json!({"scope": "destroyed"})),
                    (json!(["com.will", [id, "first"], null]), json!({"scope": "detached"})),
                    (json!(["com.will", [id, "not for the heir"]]), json!({"publish_options": {"exclude": [heir.id]}})),
                    (json!(["com.will", [id, "last"]]), json!({"publish_options": {"eligible": heir.id}})),
                ] {
                    assert_eq!(testator.call_with(add, args, kwargs), Ok(Value::Null));
                }
                testator.end(how);
                for (subscription, word) in [(will, "first"), (will, "second"), (other, "third"), (will, "last")] {
                    assert_eq!(heir.event(), (subscription, json!([id, word])), "{how:?}");
                }
            }
            // Killed, and flushed before that.
            let mut killer = Member::join(router, "realm1");
            let mut testator = Member::join(router, "realm1");
            for (scope, word) in [("detached", "kept"), ("destroyed", "flushed")] {
                let args = json!(["com.will", [word]]);
                testator.call_with("wamp.session.add_testament", args, json!({"scope": scope})).expect("added");
            }
            assert_eq!(testator.call("wamp.session.flush_testaments", json!([])), Value::Null);
            killer.call("wamp.session.kill", json!([testator.id]));
            assert_eq!(heir.event(), (will, json!(["kept"])));
            assert_eq!(testator.goodbye().0, "wamp.close.killed");
            eventually("all being counted", || {
                router.metric("fanwire_testaments_total", "result=\"published\"") == 26.0
            });
        });
    }

    fn testaments_of_a_router_that_stops_reach_who_is_still_there(driver: &str) {
        let router = Launch::on(driver).argument("--shards").argument("1").set("shutdown.drain_time", "2s").start();
        let mut heir = Member::join(&router, "realm1");
        heir.subscribe("com.will", "exact");
        let mut crowd: Vec<Member> = (0..40).map(|_| Member::join(&router, "realm1")).collect();
        for member in &mut crowd {
            let args = json!(["com.will", [member.id]]);
            member.call("wamp.session.add_testament", args);
        }
        router.signal(Signal::TERM);
        // Sessions are told goodbye one after the other, and the heir is one of them.
        let mut wills = 0;
        let ended = loop {
            match heir.client.hear() {
                Heard::Message(message) if message[0] == 36 => wills += 1,
                other => break other,
            }
        };
        let Heard::Message(goodbye) = ended else { panic!("{ended:?}") };
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.system_shutdown")));
        println!("{wills} of 40 testaments came before the heir had to go");
        crowd.into_iter().for_each(|member| drop(member.goodbye_at(1001)));
    }

    fn testaments_are_bounded_and_checked(driver: &str) {
        let router = Launch::on(driver).start();
        let mut member = Member::join(&router, "realm1");
        let add = "wamp.session.add_testament";
        let unavailable = Err("wamp.error.unavailable".to_owned());
        for (args, kwargs, expected) in [
            (json!([]), json!({}), INVALID_ARGUMENT),
            (json!([7]), json!({}), INVALID_ARGUMENT),
            (json!([""]), json!({}), INVALID_URI),
            (json!(["a..b"]), json!({}), INVALID_URI),
            (json!(["wamp.session.on_join"]), json!({}), "wamp.error.not_authorized"),
            (json!(["a.b", {}]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b", [], []]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b", [], {}, 1]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b"]), json!({"scope": "attached"}), INVALID_ARGUMENT),
            (json!(["a.b"]), json!({"scope": 1}), INVALID_ARGUMENT),
            (json!(["a.b"]), json!({"publish_options": []}), INVALID_ARGUMENT),
            (json!(["a.b"]), json!({"publish_options": {"eligible": "x"}}), INVALID_ARGUMENT),
            (json!(["a.b"]), json!({"publish_options": {"exclude_authid": 7}}), INVALID_ARGUMENT),
            (json!(["a.b"]), json!({"options": {}}), INVALID_ARGUMENT),
        ] {
            let answer = member.call_with(add, args.clone(), kwargs.clone());
            assert_eq!(answer, Err(expected.to_owned()), "{args} {kwargs}");
        }
        let flush = |member: &mut Member, kwargs| member.call_with("wamp.session.flush_testaments", json!([]), kwargs);
        assert_eq!(flush(&mut member, json!({"scope": "x"})), Err(INVALID_ARGUMENT.to_owned()));
        for number in 0..64 {
            assert_eq!(member.call(add, json!(["a.b", [number]])), Value::Null);
        }
        assert_eq!(member.call_with(add, json!(["a.b"]), json!({"scope": "detached"})), unavailable);
        assert_eq!(flush(&mut member, json!({})), Ok(Value::Null));
        let large = "x".repeat(40_000);
        assert_eq!(member.call(add, json!(["a.b", [large]])), Value::Null);
        assert_eq!(member.call_with(add, json!(["a.b", [large]]), json!({})), unavailable);
        assert_eq!(flush(&mut member, json!({})), Ok(Value::Null));
        assert_eq!(member.call(add, json!(["a.b", [large]])), Value::Null);
        let huge = "x".repeat(300_000);
        let error = member.call_with(add, json!(["a.b", [huge]]), json!({}));
        assert_eq!(error, Err("wamp.error.payload_size_exceeded".to_owned()));
    }

    fn subscriptions_are_listed_found_and_described(driver: &str) {
        each(driver, |router| {
            let mut members: Vec<Member> = (0..6).map(|_| Member::join(router, "realm1")).collect();
            let exact = members[0].subscribe("com.a.b", "exact");
            let prefix = members[1].subscribe("com.a", "prefix");
            let wildcard = members[2].subscribe("com..b", "wildcard");
            for member in &mut members[3..] {
                assert_eq!(member.subscribe("com.a.b", "exact"), exact);
            }
            let mut asking = Member::join(router, "realm1");
            let lists = json!([{"exact": [exact], "prefix": [prefix], "wildcard": [wildcard]}]);
            assert_eq!(asking.call("wamp.subscription.list", json!([])), lists);
            for (args, found) in [
                (json!(["com.a.b"]), json!(exact)),
                (json!(["com.a.b", {}]), json!(exact)),
                (json!(["com.a.b", {"match": "exact"}]), json!(exact)),
                (json!(["com.a", {"match": "prefix", "other": 1}]), json!(prefix)),
                (json!(["com..b", {"match": "wildcard"}]), json!(wildcard)),
                (json!(["com.a"]), json!(null)),
                (json!(["com.a.b", {"match": "prefix"}]), json!(null)),
            ] {
                assert_eq!(asking.call("wamp.subscription.lookup", args.clone()), json!([found]), "{args}");
            }
            for (topic, found) in [
                ("com.a.b", vec![exact, prefix, wildcard]), ("com.ab", vec![prefix]), ("com.x.b", vec![wildcard]),
            ] {
                let matching = asking.call("wamp.subscription.match", json!([topic]));
                let mut found = found.clone();
                found.sort_unstable();
                assert_eq!(sorted(&matching[0]), found, "{topic}");
            }
            assert_eq!(asking.call("wamp.subscription.match", json!(["org.x"])), json!([null]));
            for (id, uri, policy, count) in
                [(exact, "com.a.b", "exact", 4), (prefix, "com.a", "prefix", 1), (wildcard, "com..b", "wildcard", 1)]
            {
                let details = asking.call("wamp.subscription.get", json!([id]))[0].take();
                let created = details["created"].as_str().expect("a string");
                assert!(created.len() == 20 && created.starts_with("20") && created.ends_with('Z'), "{created}");
                assert_eq!(details, json!({"id": id, "created": created, "uri": uri, "match": policy}));
                assert_eq!(asking.call("wamp.subscription.count_subscribers", json!([id])), json!([count]));
            }
            let mut ids: Vec<u64> = members[3..].iter().chain(&members[..1]).map(|member| member.id).collect();
            ids.sort_unstable();
            assert_eq!(sorted(&asking.call("wamp.subscription.list_subscribers", json!([exact]))[0]), ids);
        });
    }

    fn what_becomes_of_subscriptions_is_told_in_order(driver: &str) {
        each(driver, |router| {
            let mut observer = Member::join(router, "realm1");
            // One subscription for all four, whose events name their topic.
            observer.subscribe("wamp.subscription.", "prefix");
            let mut members: Vec<Member> = (0..8).map(|_| Member::join(router, "realm1")).collect();
            for (topic, policy) in [("com.a", "exact"), ("com.", "prefix"), ("com..b", "wildcard")] {
                let id = members[0].subscribe(topic, policy);
                let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
                members[1..].iter_mut().for_each(|member| _ = member.subscribe(topic, policy));
                let mut told: Vec<(String, Value)> = (0..9).map(|_| observer.meta_event()).collect();
                let (first, mut created) = told.remove(0);
                assert_eq!((first.as_str(), &created[0]), ("wamp.subscription.on_create", &json!(ids[0])));
                let details = created[1].take();
                assert_eq!((&details["id"], &details["uri"], &details["match"]), (&json!(id), &json!(topic), &json!(policy)));
                for ((event, args), session) in told.iter().zip(&ids) {
                    assert_eq!((event.as_str(), args), ("wamp.subscription.on_subscribe", &json!([session, id])));
                }
                // A second time is no second subscription.
                assert_eq!(members[3].subscribe(topic, policy), id);
                for member in &mut members {
                    member.requests += 1;
                    let unsubscribed = member.client.ask(json!([34, member.requests, id]));
                    assert_eq!(unsubscribed[0], 35, "{unsubscribed}");
                }
                for session in &ids {
                    let told = observer.meta_event();
                    assert_eq!(told, ("wamp.subscription.on_unsubscribe".to_owned(), json!([session, id])));
                }
                let last = ids.last().expect("there are some");
                assert_eq!(observer.meta_event(), ("wamp.subscription.on_delete".to_owned(), json!([last, id])));
            }
            // Whoever goes leaves; and of the meta API's own topics nothing is told.
            let id = members[5].subscribe("com.left", "exact");
            members[5].subscribe("wamp.session.on_join", "exact");
            let member = members.swap_remove(5);
            let session = member.id;
            assert_eq!(observer.meta_event().0, "wamp.subscription.on_create");
            assert_eq!(observer.meta_event().0, "wamp.subscription.on_subscribe");
            member.end(End::Cut);
            for event in ["wamp.subscription.on_unsubscribe", "wamp.subscription.on_delete"] {
                assert_eq!(observer.meta_event(), (event.to_owned(), json!([session, id])));
            }
            assert!(observer.client.hear_within(Duration::from_millis(50)).is_none());
        });
    }

    fn subscriptions_that_come_and_go_at_once_are_told_in_order(driver: &str) {
        let router = Launch::on(driver).start();
        let mut observer = Member::join(&router, "realm1");
        observer.subscribe("wamp.subscription.", "prefix");
        let members: Vec<Member> = (0..6).map(|_| Member::join(&router, "realm1")).collect();
        let rounds = 60;
        let threads: Vec<_> = members
            .into_iter()
            .map(|mut member| {
                std::thread::spawn(move || {
                    for _ in 0..rounds {
                        let id = member.subscribe("com.busy", "exact");
                        member.requests += 1;
                        let unsubscribed = member.client.ask(json!([34, member.requests, id]));
                        assert_eq!(unsubscribed[0], 35, "{unsubscribed}");
                    }
                    member
                })
            })
            .collect();
        let mut attached = 0;
        let mut alive: Option<(u64, i32)> = None;
        while attached < 6 * rounds || alive.is_some() {
            let (event, args) = observer.meta_event();
            let id = args[1].as_u64().or_else(|| args[1]["id"].as_u64()).expect("an id");
            match (event.as_str(), &mut alive) {
                ("wamp.subscription.on_create", None) => alive = Some((id, 0)),
                ("wamp.subscription.on_subscribe", Some((known, members))) if *known == id => {
                    *members += 1;
                    attached += 1;
                }
                ("wamp.subscription.on_unsubscribe", Some((known, members))) if *known == id => *members -= 1,
                ("wamp.subscription.on_delete", Some((known, 0))) if *known == id => alive = None,
                other => panic!("{other:?} {args}"),
            }
        }
        for thread in threads {
            drop(thread.join().expect("it has no complaints"));
        }
    }

    fn a_subscription_is_taken_from_its_subscriber(driver: &str) {
        each(driver, |router| {
            let mut members: Vec<Member> = (0..4).map(|_| Member::join(router, "realm1")).collect();
            let mut plain = Member::join_plain(router);
            let ids: Vec<u64> = members.iter_mut().map(|member| member.subscribe("com.a", "exact")).collect();
            let id = ids[0];
            assert_eq!(plain.subscribe("com.a", "exact"), id);
            let mut admin = Member::join(router, "realm1");
            let remove = "wamp.subscription.remove_subscriber";
            let words = json!({"reason": "no longer wanted"});
            assert_eq!(admin.call_with(remove, json!([id, members[0].id]), words), Ok(Value::Null));
            let told = members[0].client.expect();
            assert_eq!(told, json!([35, 0, {"subscription": id, "reason": "no longer wanted"}]));
            assert_eq!(admin.call(remove, json!([id, members[1].id])), Value::Null);
            assert_eq!(members[1].client.expect(), json!([35, 0, {"subscription": id}]));
            assert_eq!(admin.call(remove, json!([id, plain.id, "x"])), Value::Null);
            for session in [members[0].id, plain.id, admin.id] {
                assert_eq!(admin.refused(remove, json!([id, session])), NO_SUCH_SESSION);
            }
            admin.client.publish("com.a", json!(["for those who are left"]));
            for member in &mut members[2..] {
                assert_eq!(member.event().0, id);
            }
            // Who has not announced it was told nothing, and gets nothing.
            assert_eq!(plain.call("wamp.subscription.count_subscribers", json!([id])), json!([2]));
        });
    }

    fn bad_arguments_about_subscriptions_have_their_errors(driver: &str) {
        let router = Launch::on(driver).start();
        let mut member = Member::join(&router, "realm1");
        let id = member.subscribe("com.a", "exact");
        let unknown = 9_007_199_254_740_992_u64;
        let none = "wamp.error.no_such_subscription";
        let session = member.id;
        let cases: &[(&str, Value, &str)] = &[
            ("list", json!([1]), INVALID_ARGUMENT),
            ("lookup", json!([]), INVALID_ARGUMENT),
            ("lookup", json!([7]), INVALID_ARGUMENT),
            ("lookup", json!(["a..b"]), INVALID_URI),
            ("lookup", json!(["a.b", 1]), INVALID_ARGUMENT),
            ("lookup", json!(["a.b", {"match": "regex"}]), INVALID_ARGUMENT),
            ("lookup", json!(["a.b", {"match": 1}]), INVALID_ARGUMENT),
            ("match", json!([]), INVALID_ARGUMENT),
            ("match", json!(["a b"]), INVALID_URI),
            ("match", json!(["a.b", {}]), INVALID_ARGUMENT),
            ("get", json!([]), INVALID_ARGUMENT),
            ("get", json!([0]), INVALID_ARGUMENT),
            ("get", json!([unknown]), none),
            ("list_subscribers", json!(["x"]), INVALID_ARGUMENT),
            ("list_subscribers", json!([unknown]), none),
            ("count_subscribers", json!([-5]), INVALID_ARGUMENT),
            ("count_subscribers", json!([unknown]), none),
            ("remove_subscriber", json!([id]), INVALID_ARGUMENT),
            ("remove_subscriber", json!([unknown, session]), none),
            ("remove_subscriber", json!([id, unknown]), NO_SUCH_SESSION),
            ("remove_subscriber", json!([id, session, 7]), INVALID_ARGUMENT),
        ];
        for (name, args, expected) in cases {
            assert_eq!(&member.refused(&format!("wamp.subscription.{name}"), args.clone()), expected, "{name} {args}");
        }
        assert_eq!(member.call("wamp.subscription.list_subscribers", json!([id])), json!([[session]]));
    }
}
