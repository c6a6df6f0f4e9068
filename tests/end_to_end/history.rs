//! `wamp.subscription.get_events` on the real process: its filters, and who may ask.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Launch, Router, eventually};

const GET_EVENTS: &str = "wamp.subscription.get_events";

/// All topics below `log.` have a history; `reader` may not hear of `log.secret.`.
const CONFIG: &str = r#"
[[realm]]
name = "realm1"
users_file = "USERS"

[[realm.topic]]
uri = "log."
match = "prefix"
history = 1000
history_bytes = "2MiB"

[[realm.topic]]
uri = "log.short"
history = 3

[[realm.role]]
name = "anonymous"
permission = [{ uri = "", match = "prefix", allow = ["publish", "subscribe", "call"] }]

[[realm.role]]
name = "reader"

[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["subscribe", "call"]

[[realm.role.permission]]
uri = "log.secret."
match = "prefix"
allow = []
"#;

fn start(driver: &str) -> Router {
    let folder = Folder::new(&format!("history-{driver}-{:?}", std::thread::current().id()));
    let users = folder.write("users.txt", &format!("peter:reader:{CHEAP_HASH}\nanna:reader:{CHEAP_HASH}\n"));
    let file = folder.write("fanwire.toml", &CONFIG.replace("USERS", &users));
    Launch::on(driver).argument("--shards").argument("2").argument("--config").argument(&file).start()
}

fn log_in(router: &Router, user: &str) -> Client {
    let mut client = Client::connect(router.wamp);
    let hello = json!({"roles": {"caller": {}, "subscriber": {}}, "authmethods": ["ticket"], "authid": user});
    assert_eq!(client.ask(json!([1, "realm1", hello]))[0], 4);
    assert_eq!(client.ask(json!([5, CHEAP_TICKET, {}]))[0], 2);
    client
}

fn publish(client: &mut Client, options: Value, topic: &str, args: Value) -> u64 {
    let Value::Object(mut options) = options else { panic!("a dictionary") };
    options.insert("acknowledge".to_owned(), json!(true));
    let published = client.ask(json!([16, 7, options, topic, args]));
    assert_eq!(published[0], 17, "{published}");
    published[2].as_u64().expect("an id")
}

fn subscribe(client: &mut Client, policy: &str, topic: &str) -> u64 {
    let subscribed = client.ask(json!([32, 7, {"match": policy}, topic]));
    assert_eq!(subscribed[0], 33, "{subscribed}");
    subscribed[2].as_u64().expect("an id")
}

/// The whole RESULT, or ERROR's URI.
fn ask(client: &mut Client, subscription: u64, filters: &Value) -> Result<Value, String> {
    let answer = client.ask(json!([48, 9, {}, GET_EVENTS, [subscription], filters]));
    match answer[0].as_u64() {
        Some(50) => Ok(answer),
        Some(8) => Err(answer[4].as_str().expect("a URI").to_owned()),
        _ => panic!("{answer}"),
    }
}

fn events(client: &mut Client, subscription: u64, filters: &Value) -> Vec<Value> {
    let answer = ask(client, subscription, filters).unwrap_or_else(|error| panic!("{filters}: {error}"));
    answer[3][0].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["args"][0].as_str().expect("a text")).collect()
}

/// By the letter of the specification, on the list of all events of the subscription.
fn filtered(all: &[Value], filters: &Map<String, Value>) -> Vec<Value> {
    let place = |name: &str| {
        let id = filters.get(name)?;
        all.iter().position(|event| event["publication"] == *id)
    };
    let time = |name: &str| filters.get(name).and_then(Value::as_str);
    let mut found: Vec<Value> = all
        .iter()
        .enumerate()
        .filter(|(at, event)| {
            // All of them are in one form, so they are in order as texts.
            let when = event["timestamp"].as_str().expect("a time");
            time("from_time").is_none_or(|from| when >= from)
                && time("after_time").is_none_or(|after| when > after)
                && time("before_time").is_none_or(|before| when < before)
                && time("until_time").is_none_or(|until| when <= until)
                && place("from_publication").is_none_or(|from| *at >= from)
                && place("after_publication").is_none_or(|after| *at > after)
                && place("before_publication").is_none_or(|before| *at < before)
                && place("until_publication").is_none_or(|until| *at <= until)
                && filters.get("topic").is_none_or(|topic| event["details"]["topic"] == *topic)
        })
        .map(|(_, event)| event.clone())
        .collect();
    if filters.get("reverse") == Some(&json!(true)) {
        found.reverse();
    }
    found.truncate(filters.get("limit").and_then(Value::as_u64).unwrap_or(u64::MAX) as usize);
    found
}

/// A number that follows from the last one: the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

on_both_drivers! {
    fn events_of_a_subscription_are_listed_in_their_order(driver: &str) {
        let router = start(driver);
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        let first = publish(&mut alice, json!({}), "log.a", json!(["before anybody listened", 1]));
        let ids = [subscribe(&mut bob, "exact", "log.a"), subscribe(&mut bob, "prefix", "log."), subscribe(&mut bob, "wildcard", "log.")];
        let second = publish(&mut alice, json!({}), "log.b", json!(["to another topic"]));
        bob.expect();
        bob.expect();
        publish(&mut alice, json!({}), "other", json!(["not kept"]));
        let exact = events(&mut bob, ids[0], &json!({}));
        assert_eq!(exact.len(), 1, "{exact:?}");
        let event = &exact[0];
        assert_eq!((&event["subscription"], &event["publication"]), (&json!(ids[0]), &json!(first)));
        assert_eq!((&event["details"], &event["args"]), (&json!({}), &json!(["before anybody listened", 1])));
        let time = event["timestamp"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
        assert_eq!(event.get("kwargs"), None);
        for id in &ids[1..] {
            let all = events(&mut bob, *id, &json!({}));
            assert_eq!(texts(&all), ["before anybody listened", "to another topic"]);
            assert_eq!(all[1]["publication"], json!(second));
            assert_eq!(all[1]["details"], json!({"topic": "log.b"}));
        }
        assert_eq!(router.metric("fanwire_history_events", ""), 2.0);
        for number in 0..5 {
            publish(&mut alice, json!({}), "log.short", json!([number.to_string()]));
            bob.expect();
            bob.expect();
        }
        let short = subscribe(&mut bob, "exact", "log.short");
        assert_eq!(texts(&events(&mut bob, short, &json!({"reverse": true}))), ["4", "3", "2"]);
    }

    /// Two hundred queries of all filters, each compared with what the specification says, word by word.
    fn filters_do_what_the_specification_says(driver: &str) {
        let router = start(driver);
        let mut publisher = Client::join(router.wamp);
        let topics = ["log.a", "log.b", "log.a.c"];
        let mut dice = Dice(7);
        for number in 0..60 {
            publish(&mut publisher, json!({}), topics[dice.below(3)], json!([number.to_string()]));
            if dice.below(4) == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let mut caller = Client::join(router.wamp);
        for (policy, pattern) in [("prefix", "log."), ("wildcard", "log."), ("exact", "log.a")] {
            let id = subscribe(&mut caller, policy, pattern);
            let all = events(&mut caller, id, &json!({}));
            assert!(all.len() >= 10, "{policy}: {}", all.len());
            for _ in 0..70 {
                let mut filters = Map::new();
                for name in ["from_time", "after_time", "before_time", "until_time"] {
                    if dice.below(6) == 0 {
                        filters.insert(name.to_owned(), all[dice.below(all.len())]["timestamp"].clone());
                    }
                }
                for name in ["from_publication", "after_publication", "before_publication", "until_publication"] {
                    if dice.below(6) == 0 {
                        filters.insert(name.to_owned(), all[dice.below(all.len())]["publication"].clone());
                    }
                }
                if dice.below(3) == 0 {
                    filters.insert("limit".to_owned(), json!(1 + dice.below(8)));
                }
                if dice.below(2) == 0 {
                    filters.insert("reverse".to_owned(), json!(dice.below(3) > 0));
                }
                if policy != "exact" && dice.below(5) == 0 {
                    filters.insert("topic".to_owned(), json!(topics[dice.below(3)]));
                }
                let found = events(&mut caller, id, &Value::Object(filters.clone()));
                assert_eq!(found, filtered(&all, &filters), "{policy} {filters:?}");
            }
        }
        // Times in another zone and without parts of a second are the same times.
        let id = subscribe(&mut caller, "prefix", "log.");
        assert_eq!(events(&mut caller, id, &json!({"from_time": "2020-01-01T00:00:00+02:00"})).len(), 60);
        assert!(events(&mut caller, id, &json!({"until_time": "2020-01-01T00:00:00Z"})).is_empty());
    }

    fn who_may_not_hear_it_is_not_told(driver: &str) {
        let router = start(driver);
        let mut publisher = Client::join(router.wamp);
        publish(&mut publisher, json!({}), "log.a", json!(["for all"]));
        let secret = publish(&mut publisher, json!({}), "log.secret.b", json!(["secret"]));
        publish(&mut publisher, json!({"eligible_authid": ["peter"]}), "log.a", json!(["peter"]));
        let anna_only = publish(&mut publisher, json!({"exclude_authid": ["peter"]}), "log.a", json!(["not peter"]));
        publish(&mut publisher, json!({"eligible_authrole": ["anonymous"]}), "log.a", json!(["anonymous"]));
        publish(&mut publisher, json!({"exclude": [4711]}), "log.a", json!(["names a session"]));
        for (name, expected) in [
            ("peter", vec!["for all", "peter"]),
            ("anna", vec!["for all", "not peter"]),
        ] {
            let mut reader = log_in(&router, name);
            let id = subscribe(&mut reader, "prefix", "log.");
            assert_eq!(texts(&events(&mut reader, id, &json!({}))), expected, "{name}");
            // For who may not hear it, it is not there.
            assert_eq!(ask(&mut reader, id, &json!({"from_publication": secret})), Err("wamp.error.no_such_publication".to_owned()));
            let found = ask(&mut reader, id, &json!({"from_publication": anna_only}));
            assert_eq!(found.is_ok(), name == "anna", "{found:?}");
        }
        let mut anonymous = Client::join(router.wamp);
        let id = subscribe(&mut anonymous, "exact", "log.secret.b");
        assert_eq!(events(&mut anonymous, id, &json!({})).len(), 1);
        let mut peter = log_in(&router, "peter");
        assert_eq!(ask(&mut peter, id, &json!({})), Err("wamp.error.not_authorized".to_owned()));
        let id = subscribe(&mut anonymous, "prefix", "log.");
        assert_eq!(texts(&events(&mut anonymous, id, &json!({}))), ["for all", "secret", "not peter", "anonymous"]);
    }

    fn wrong_questions_are_refused_by_name(driver: &str) {
        let router = start(driver);
        let mut client = Client::join(router.wamp);
        publish(&mut client, json!({}), "log.a", json!(["x"]));
        let id = subscribe(&mut client, "exact", "log.a");
        for (filters, error) in [
            (json!({"limit": 0}), "wamp.error.invalid_argument"),
            (json!({"limit": -1}), "wamp.error.invalid_argument"),
            (json!({"limit": "ten"}), "wamp.error.invalid_argument"),
            (json!({"limit": 1.5}), "wamp.error.invalid_argument"),
            (json!({"reverse": 1}), "wamp.error.invalid_argument"),
            (json!({"from_time": "yesterday"}), "wamp.error.invalid_argument"),
            (json!({"from_time": 1_700_000_000}), "wamp.error.invalid_argument"),
            (json!({"until_time": "2026-02-30T00:00:00Z"}), "wamp.error.invalid_argument"),
            (json!({"topic": "not a topic"}), "wamp.error.invalid_uri"),
            (json!({"topic": 7}), "wamp.error.invalid_argument"),
            (json!({"from_publication": 0}), "wamp.error.invalid_argument"),
            (json!({"after_publication": 1u64 << 53}), "wamp.error.no_such_publication"),
            (json!({"before_publication": (1u64 << 53) + 1}), "wamp.error.invalid_argument"),
            (json!({"form_time": "2026-01-01T00:00:00Z"}), "wamp.error.invalid_argument"),
        ] {
            assert_eq!(ask(&mut client, id, &filters), Err(error.to_owned()), "{filters}");
        }
        assert_eq!(ask(&mut client, 1 << 53, &json!({})), Err("wamp.error.no_such_subscription".to_owned()));
        assert_eq!(events(&mut client, id, &json!({"limit": null, "topic": "log.a"})).len(), 1, "null is nothing");
        assert!(events(&mut client, id, &json!({"topic": "log.b"})).is_empty());
        let answer = client.ask(json!([48, 9, {}, GET_EVENTS]));
        assert_eq!(answer[4], json!("wamp.error.invalid_argument"), "{answer}");
    }

    /// Three thousand events, of which a thousand are kept: an answer says that there is more, and pages bring all of them, while
    /// others are served.
    fn a_long_history_comes_in_pages(driver: &str) {
        let router = start(driver);
        let mut publisher = Client::join(router.wamp);
        for number in 0..3_000 {
            publisher.send(json!([16, 7, {}, "log.bomb", [number.to_string(), "x".repeat(1_000)]]));
        }
        eventually("all of it", || router.metric("fanwire_history_recorded_total", "") == 3_000.0);
        let events_kept = router.metric("fanwire_history_events", "");
        assert_eq!(events_kept, 1_000.0);
        assert!(router.metric("fanwire_history_bytes", "") <= f64::from(2 << 20));
        let mut caller = Client::join(router.wamp);
        let id = subscribe(&mut caller, "exact", "log.bomb");
        let answer = ask(&mut caller, id, &json!({})).expect("a part of it");
        assert_eq!(answer[4], json!({"more": true}), "it says so");
        for is_reverse in [false, true] {
            let mut numbers: Vec<u64> = Vec::new();
            let mut last = Value::Null;
            loop {
                let name = if is_reverse { "before_publication" } else { "after_publication" };
                let mut filters = json!({"reverse": is_reverse});
                filters[name] = last.clone();
                let answer = ask(&mut caller, id, &filters).expect("a page");
                let page = answer[3][0].as_array().expect("a list").clone();
                assert!(answer.to_string().len() < 400 << 10, "a page is bounded");
                numbers.extend(texts(&page).iter().map(|text| text.parse::<u64>().expect("a number")));
                if answer.get(4).is_none() {
                    break;
                }
                last = page.last().expect("a page that is cut has events")["publication"].clone();
            }
            if is_reverse {
                numbers.reverse();
            }
            assert_eq!(numbers, (2_000..3_000).collect::<Vec<_>>());
        }
        assert_eq!(router.metric("fanwire_slow_consumers_cut_total", ""), 0.0);
    }

    /// Without another publication: what the rules of before have kept is bounded by those of now, on all shards.
    fn newer_rules_hold_at_once_for_what_is_kept(driver: &str) {
        let realm = r#"
[[realm]]
name = "realm1"
[[realm.role]]
name = "anonymous"
permission = [{ uri = "", match = "prefix", allow = ["publish", "subscribe", "call"] }]
"#;
        let rule = |uri: &str, most: u32| {
            format!("[[realm.topic]]\nuri = \"{uri}\"\nmatch = \"prefix\"\nhistory = {most}\n")
        };
        let folder = Folder::new(&format!("history-rules-{driver}"));
        let file = folder.write("fanwire.toml", &[realm, &rule("log.", 1_000), &rule("more.", 1_000)].concat());
        let router = Launch::on(driver).argument("--shards").argument("2").argument("--config").argument(&file).start();
        let mut clients = [Client::join(router.wamp), Client::join(router.wamp)];
        for number in 0..600 {
            for (client, topic) in clients.iter_mut().zip(["log.a", "more.a"]) {
                client.send(json!([16, 7, {}, topic, [number.to_string()]]));
            }
        }
        eventually("all of it", || router.metric("fanwire_history_events", "") == 1_200.0);
        folder.write("fanwire.toml", &[realm, &rule("log.", 7)].concat());
        router.signal(rustix::process::Signal::HUP);
        eventually("as few as they allow now", || router.metric("fanwire_history_events", "") == 7.0);
        let id = subscribe(&mut clients[0], "exact", "log.a");
        let kept = events(&mut clients[0], id, &json!({}));
        assert_eq!(texts(&kept), ["593", "594", "595", "596", "597", "598", "599"]);
    }
}
