//! The server API in CONNMIX's words: what backends of the message center publish and send, and whom they send away.

use std::io::{Read, Write};
use std::process::Command;

use serde_json::{Value, json};

use crate::message_center::{done, launch, user, users};
use crate::support::{Client, Folder, Http, Launch, Router, eventually};

/// The WebSocket of the API.
pub fn backend(router: &Router) -> Client {
    Client::connect_to_center(router.wamp, "/ws/v1")
}

pub fn reached(count: u64) -> String {
    format!(r#"{{"E":null,"r":{{"s":{count},"f":0}}}}"#)
}

const DONE: &str = r#"{"E":null,"r":{"s":true}}"#;

/// The article's request, as the article has it, but for the port.
pub const CURL: &str = r#"curl --request POST 'http://127.0.0.1:6789/v1/mesh/publish' \
--header 'Content-Type: application/json' \
--data-raw '{
    "c": "user:1001",
    "d": "{\"event\":\"@user\",\"data\":{\"uid\":1001,\"msg\":\"Hello,World!\"}}"
}'"#;

/// What a shell prints.
pub fn shell(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output().expect("bash is installed");
    assert!(output.status.success(), "{script}\n{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The ids of the clients that have logged in as this user.
fn clients_of(router: &Router, uid: &str) -> Vec<String> {
    let sessions =
        Http::connect(router.wamp).ask("GET", &format!("/v1/sessions?realm=realm1&authid={uid}")).json();
    let sessions = sessions["sessions"].as_array().expect("a page").iter();
    sessions.map(|session| session["client"].as_str().expect("an id").to_owned()).collect()
}

/// Number and words of an error.
fn error(text: &str) -> (u64, String) {
    let answer: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let error = &answer["E"];
    (
        error["c"].as_u64().unwrap_or_else(|| panic!("no error: {text}")),
        error["m"].as_str().expect("words").to_owned(),
    )
}

fn text(answer: &crate::support::Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("UTF-8")
}

on_both_drivers! {
    fn s2_05_all_devices_of_a_user_are_reached_and_counted(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "mesh", &hook.url(), "");
        // Connections are spread over the shards.
        let mut devices: Vec<Client> = (0..3).map(|_| user(&router, "1001")).collect();
        let mut other = user(&router, "1002");
        let printed = shell(&CURL.replace("127.0.0.1:6789", &router.wamp.to_string()).replace("curl ", "curl -sS "));
        assert_eq!(printed, reached(3));
        let event = json!({"event": "@user", "data": {"uid": 1001, "msg": "Hello,World!"}});
        for device in &mut devices {
            assert_eq!(device.expect(), event);
        }
        let mut api = Http::connect(router.wamp);
        assert_eq!(text(&api.post("/v1/mesh/publish", &json!({"c": "user:1002", "d": {"n": 1}}))), reached(1));
        // That is the first that it hears, and it is what was sent: compact JSON as it is.
        assert_eq!(other.expect(), json!({"n": 1}));
        assert_eq!(text(&api.post("/v1/mesh/publish", &json!({"c": "user:9", "d": "x"}))), reached(0));
    }

    fn s2_10_a_message_reaches_one_client(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "send", &hook.url(), "");
        let (mut one, mut other) = (user(&router, "1001"), user(&router, "1001"));
        let ids = clients_of(&router, "1001");
        assert_eq!(ids.len(), 2);
        let mut api = Http::connect(router.wamp);
        // Whichever of the two it is: as digits, and as a number.
        for (id, n) in ids.iter().zip(1..) {
            assert_eq!(text(&api.post("/v1/mesh/send", &json!({"c": id, "d": format!("{{\"n\":{n}}}")}))), DONE);
            let number: u64 = id.parse().expect("digits");
            assert_eq!(text(&api.post("/v1/mesh/send", &json!({"c": number, "d": {"n": n + 10}}))), DONE);
        }
        let mut heard = [one.expect(), one.expect(), other.expect(), other.expect()].map(|said| said["n"].as_u64().expect("a number"));
        heard.sort_unstable();
        assert_eq!(heard, [1, 2, 11, 12]);
        // It stays the same when the user logs in again.
        assert_eq!(one.ask(json!({"op": "auth", "token": "token of 1001"})), done());
        let mut after = clients_of(&router, "1001");
        let mut before = ids.clone();
        after.sort();
        before.sort();
        assert_eq!(after, before);
        for (body, number, word) in [
            (json!({"c": "536870913", "d": "x"}), 401, "no client 536870913"),
            (json!({"d": "x"}), 101, "\"c\""),
            (json!({"c": "536870913"}), 101, "\"d\""),
            (json!({"c": "536870913", "d": "x", "to": 1}), 101, "\"to\""),
            (json!({"c": "nobody", "d": "x"}), 101, "\"c\""),
            (json!([]), 101, "must be"),
        ] {
            let answer = api.post("/v1/mesh/send", &body);
            let (found, words) = error(&text(&answer));
            assert!(found == number && words.contains(word), "{body}: {answer:?}");
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
        let mut wamp = Client::join(router.wamp);
        wamp.subscribe("a.b");
        let sessions = api.ask("GET", "/v1/sessions?realm=realm1").json();
        let wamp_id = sessions["sessions"].as_array().expect("a page").iter().find(|session| session["protocol"] == "wamp2");
        let refused = api.post("/v1/mesh/send", &json!({"c": wamp_id.expect("it is there")["client"], "d": "x"}));
        assert!(error(&text(&refused)).1.contains("WAMP"), "{refused:?}");
    }

    fn s2_19_a_user_is_sent_away(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "away", &hook.url(), "");
        let mut devices: Vec<Client> = (0..4).map(|_| user(&router, "1001")).collect();
        let mut other = user(&router, "1002");
        let mut api = Http::connect(router.wamp);
        assert_eq!(text(&api.post("/v1/conn/disconnect", &json!({"uid": 1001}))), reached(4));
        devices.iter_mut().for_each(|device| device.expect_close(1000));
        assert_eq!(text(&api.post("/v1/conn/disconnect", &json!({"uid": "1001"}))), reached(0));
        assert_eq!(other.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        let id = clients_of(&router, "1002").remove(0);
        assert_eq!(text(&api.post("/v1/conn/disconnect", &json!({"c": id}))), reached(1));
        other.expect_close(1000);
        eventually("the client being gone", || {
            error(&text(&Http::connect(router.wamp).post("/v1/mesh/send", &json!({"c": id, "d": "x"})))).0 == 401
        });
    }

    fn s2_12_a_socket_takes_many_publications_at_once(driver: &str) {
        const COUNT: u64 = 100_000;
        let router = Router::on(driver);
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("user:1001");
        let hearing = std::thread::spawn(move || {
            for number in 0..COUNT {
                assert_eq!(subscriber.expect_event(), json!([number.to_string()]));
            }
        });
        let mut backend = backend(&router);
        let mut writer = backend.writer();
        let sending = std::thread::spawn(move || {
            for part in 0..COUNT / 100 {
                let frames: Vec<u8> = (part * 100..part * 100 + 100)
                    .flat_map(|number| Client::frame(&json!({"m": "mesh.publish", "p": {"c": "user:1001", "d": number.to_string()}, "i": number})))
                    .collect();
                writer.write_all(&frames).expect("it reads");
            }
        });
        for number in 0..COUNT {
            assert_eq!(backend.expect(), json!({"E": null, "r": {"s": 1, "f": 0}, "i": number}));
        }
        sending.join().expect("all were sent");
        hearing.join().expect("all came, in order");
        assert_eq!(router.metric("fanwire_api_publications_total", ""), COUNT as f64);
    }

    fn a_socket_answers_each_request_with_its_id(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "socket", &hook.url(), "");
        let mut joe = user(&router, "1001");
        let id = clients_of(&router, "1001").remove(0);
        let mut backend = backend(&router);
        // Byte for byte.
        backend.send_bytes(b"\x81\x84\0\0\0\0ping");
        backend.send(json!({"m": "mesh.publish", "p": {"c": "nobody", "d": "x"}, "i": 12345}));
        backend.send(json!({"m": "mesh.send", "p": {"c": id, "d": "{}"}, "i": 7}));
        let answers = ["pong", r#"{"E":null,"r":{"s":0,"f":0},"i":12345}"#, r#"{"E":null,"r":{"s":true},"i":7}"#];
        let mut heard = vec![0; answers.iter().map(|answer| answer.len() + 2).sum()];
        backend.writer().read_exact(&mut heard).expect("it answers");
        let wanted: Vec<u8> =
            answers.iter().flat_map(|answer| [&[0x81, answer.len() as u8], answer.as_bytes()].concat()).collect();
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&wanted));
        assert_eq!(joe.expect(), json!({}));
        // A client that is subscribed gets what is published next, and after its end nothing.
        let channels = json!(["news.one", "news.two"]);
        let call = |function: &str, id: &Value, channels: &Value| json!({"m": "conn.call", "p": {"c": id, "f": function, "a": channels}, "i": "s"});
        let publish = |topic: &str, number: u64| json!({"m": "mesh.publish", "p": {"c": topic, "d": number.to_string()}, "i": number});
        let client = json!(id.parse::<u64>().expect("digits"));
        backend.send(call("subscribe", &client, &channels));
        backend.send(publish("news.two", 1));
        backend.send(call("unsubscribe", &client, &json!(["news.two"])));
        backend.send(publish("news.two", 2));
        backend.send(publish("news.one", 3));
        backend.send(call("set_context", &client, &json!([{"team": 7}])));
        for (s, i) in [(json!(true), json!("s")), (json!(1), json!(1)), (json!(true), json!("s")), (json!(0), json!(2)), (json!(1), json!(3)), (json!(true), json!("s"))] {
            let answer = backend.expect();
            assert_eq!((&answer["r"]["s"], &answer["i"]), (&s, &i), "{answer}");
        }
        assert_eq!([joe.expect(), joe.expect()], [json!(1), json!(3)]);
        for (request, number) in [
            (json!({"m": "mesh.shout", "p": {}, "i": 1}), 101),
            (json!({"m": "mesh.publish", "p": {"c": "a"}, "i": 1}), 101),
            (json!({"m": "mesh.publish", "p": {"c": "..", "d": "x"}, "i": 1}), 101),
            (call("subscribe", &json!("536870913"), &channels), 301),
            (call("set_context_value", &client, &json!(["uid", 7])), 101),
            (json!({"m": "queue.pop", "p": {"t": ["nothing"]}, "i": 1}), 201),
            (json!({"m": "queue.unpop", "p": {}, "i": 1}), 203),
            (call("close", &client, &channels), 101),
            (json!({"m": "mesh.send", "p": {"c": 536_870_913, "d": "x"}, "i": 1}), 401),
            (json!([]), 101),
        ] {
            let answer = backend.ask(request.clone());
            assert_eq!(answer["E"]["c"], number, "{request}: {answer}");
            assert!(answer["E"]["m"].as_str().is_some_and(|words| !words.is_empty()) && answer.get("r").is_none(), "{answer}");
        }
        backend.close(1000);
        backend.expect_close(1000);
    }

    fn s2_15_beyond_this_machine_the_server_api_needs_a_key(driver: &str) {
        let folder = Folder::new(&format!("mesh-keys-{driver}"));
        let file = folder.write("open.toml", "[[listener]]\nbind = \"0.0.0.0:0\"\napi = true\n[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n");
        let output = Command::new(crate::support::binary()).args(["config", "check", &file]).output().expect("it starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains("fanwire apikey"), "{words}");
        let made = |allow: &str| {
            let output = Command::new(crate::support::binary())
                .args(["apikey", allow, "--role", "anonymous", "--allow", allow]).output().expect("it starts");
            let key = String::from_utf8_lossy(&output.stderr).trim().rsplit(' ').next().expect("a key").to_owned();
            (String::from_utf8(output.stdout).expect("UTF-8"), key)
        };
        let ((publish, publisher), (clients, manager)) = (made("publish"), made("clients"));
        let realm = "[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n[[realm.role.permission]]\nuri = \"user:\"\nmatch = \"prefix\"\nallow = [\"publish\", \"subscribe\"]\n";
        let file = folder.write("keyed.toml", &format!("{realm}{publish}{clients}"));
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let message = json!({"c": "user:1", "d": "x"});
        let mut without = Http::connect(router.wamp);
        let answer = without.post("/v1/mesh/publish", &message);
        assert_eq!((answer.status, error(&text(&answer)).0), (401, 401));
        // Where to ask is no secret.
        assert_eq!(text(&without.ask("GET", "/version")), r#"{"apis":["v1"]}"#);
        let mut publisher = Http::connect(router.wamp).with(&format!("Authorization: Bearer {publisher}"));
        assert_eq!(text(&publisher.post("/v1/mesh/publish", &message)), reached(0));
        assert_eq!(publisher.post("/v1/mesh/publish", &json!({"c": "other", "d": "x"})).status, 403);
        assert_eq!(publisher.post("/v1/mesh/send", &json!({"c": "536870913", "d": "x"})).status, 403);
        assert_eq!(publisher.post("/v1/conn/disconnect", &json!({"uid": 1})).status, 403);
        let mut manager = Http::connect(router.wamp).with(&format!("Authorization: Bearer {manager}"));
        assert_eq!(manager.post("/v1/mesh/send", &json!({"c": "536870913", "d": "x"})).status, 404);
        assert_eq!(manager.post("/v1/mesh/publish", &message).status, 403);
    }

    /// What the PHP library of CONNMIX sends, in its own forms: lists for parameters, and numbers for ids.
    fn s2_13_what_its_php_library_sends_is_answered(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "php", &hook.url(), "");
        let mut api = Http::connect(router.wamp);
        assert_eq!(text(&api.ask("GET", "/version")), r#"{"apis":["v1"]}"#);
        let nodes = api.ask("GET", "/v1/nodes").json();
        assert_eq!(nodes, json!({"nodes": [{"id": 1, "api_server": router.wamp.to_string()}]}));
        let mut joe = user(&router, "1001");
        let id: u64 = clients_of(&router, "1001").remove(0).parse().expect("digits");
        let mut backend = backend(&router);
        let mut ids = 0..;
        let mut ask = |method: &str, parameters: Value| {
            let id = ids.next();
            let answer = backend.ask(json!({"m": method, "p": parameters, "i": id}));
            assert_eq!(answer["i"], json!(id), "{answer}");
            answer["r"]["s"].clone()
        };
        assert_eq!(ask("mesh.send", json!({"c": id, "d": "{\"received\":1}"})), true);
        assert_eq!(joe.expect(), json!({"received": 1}));
        assert_eq!(ask("conn.call", json!({"c": id, "f": "set_context_value", "a": ["user_id", 10000]})), true);
        assert_eq!(ask("conn.call", json!({"c": id, "f": "set_context", "a": [{"user_id": 10000}]})), true);
        assert_eq!(ask("conn.call", json!({"c": id, "f": "subscribe", "a": ["channel1", "channel2"]})), true);
        assert_eq!(ask("mesh.publish", json!({"c": "channel1", "d": "{\"all\":1}"})), 1);
        assert_eq!(joe.expect(), json!({"all": 1}));
        assert_eq!(ask("conn.call", json!({"c": id, "f": "unsubscribe", "a": ["channel1", "channel2"]})), true);
        assert_eq!(ask("mesh.publish", json!({"c": "channel1", "d": "x"})), 0);
    }
}

/// The examples of the page, as they stand there.
#[test]
fn the_examples_of_the_documentation_work() {
    const PAGE: &str = include_str!("../../docs/server-api.md");
    const QUEUE: &str = "[[message_center.queue]]\nname = \"chat\"\nops = [\"join\", \"say\"]\n";
    let hook = users();
    let (folder, router) = launch("epoll", "page", &hook.url(), QUEUE);
    let mut joe = user(&router, "1001");
    assert!(PAGE.contains(QUEUE));
    for (command, expected) in crate::http_api_described::examples(PAGE) {
        crate::http_api_described::run(&folder, &command, &router, None).check(&command, expected.as_ref());
    }
    assert_eq!(joe.expect(), json!({"event": "@user", "data": {"uid": 1001, "msg": "Hello,World!"}}));
    assert_eq!(joe.expect(), json!("only for you"));
    joe.expect_close(1000);
    let mut backend = backend(&router);
    let mut count = 0;
    for block in PAGE.split("```ws\n").skip(1).map(|rest| rest.split_once("```").expect("it ends").0) {
        for line in block.lines() {
            let said: Value = serde_json::from_str(&line[2..]).expect("JSON");
            match &line[..2] {
                "> " => backend.send(said),
                _ => assert_eq!(backend.expect(), said),
            }
            count += 1;
        }
    }
    assert!(count >= 6, "{count} lines");
}

/// A peer that sends and does not read is not listened to for ever.
#[test]
fn who_does_not_read_its_answers_is_not_read() {
    let router = Launch::on("epoll").set("limits.message_time", "2s").start();
    let backend = backend(&router);
    let mut stream = backend.into_stream();
    stream.set_write_timeout(Some(crate::support::PATIENCE)).expect("a timeout");
    let frames =
        Client::frame(&json!({"m": "mesh.publish", "p": {"c": "a", "d": "x"}, "i": 1})).repeat(1_000);
    // It is cut in the end, or nothing more is taken.
    let mut sent = 0;
    while sent < 10_000 && stream.write_all(&frames).is_ok() {
        sent += 1;
    }
    assert!(sent < 10_000, "all of it was read");
}
