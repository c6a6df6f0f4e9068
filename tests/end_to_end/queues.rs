//! What clients say to backends: by queues, and by hooks for messages and calls.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::message_center::{connect, done, launch, user, users};
use crate::server_api::backend;
use crate::support::{Beside, Client, Folder, Heard, HookServer, Http, Launch, Reply, eventually};

/// A queue, as the configuration of the message center has it.
fn queue(name: &str, ops: &str, size: u32) -> String {
    format!("[[message_center.queue]]\nname = \"{name}\"\nops = {ops}\nsize = {size}\n")
}

/// The next message of a queue: whose, and what.
fn popped(backend: &mut Client, topic: &str) -> (Value, Value, Value) {
    let mut event = backend.expect();
    assert_eq!(
        (&event["e"], &event["id"], &event["p"]["t"], &event["p"]["n"]),
        (&json!("queue.pop"), &json!(null), &json!(topic), &json!(1)),
        "{event}"
    );
    let frame = &event["p"]["d"]["frame"];
    assert_eq!((&frame["type"], &frame["finish"]), (&json!("text"), &json!(true)), "{event}");
    let said = serde_json::from_str(frame["data"].as_str().expect("text")).expect("JSON");
    (event["p"]["c"].take(), said, event["p"]["d"]["uid"].take())
}

on_both_drivers! {
    fn s2_12_backends_consume_what_clients_say_in_order(driver: &str) {
        let hook = users();
        let queues = queue("chat", "[\"say\"]", 5_000) + &queue("rest", "[]", 3);
        let (_folder, router) = launch(driver, "queues", &hook.url(), &queues);
        let mut clients = [user(&router, "1001"), user(&router, "1002")];
        // The first waits for a backend to come.
        assert_eq!(clients[0].ask(json!({"op": "say", "n": 0})), done());
        let mut taking = backend(&router);
        assert_eq!(taking.ask(json!({"m": "queue.pop", "p": {"t": ["nothing"]}, "i": 1}))["E"]["c"], 201);
        assert_eq!(taking.ask(json!({"m": "queue.pop", "p": ["chat"], "i": 2})), json!({"E": null, "r": {"s": true}, "i": 2}));
        let (first, said, uid) = popped(&mut taking, "chat");
        assert_eq!((said["n"].as_u64(), uid), (Some(0), json!("1001")));
        taking.send(json!({"m": "queue.pop", "p": {"t": ["chat"]}, "i": 3}));
        assert_eq!(taking.expect()["E"]["c"], 202);
        for n in 1..1_000 {
            clients.iter_mut().for_each(|client| client.send(json!({"op": "say", "n": n})));
        }
        let mut next = [1, 1];
        for _ in 0..2 * 999 {
            let (client, said, _) = popped(&mut taking, "chat");
            let next = &mut next[usize::from(client != first)];
            assert_eq!(said["n"], *next, "{client}");
            *next += 1;
        }
        for _ in 1..1_000 {
            clients.iter_mut().for_each(|client| assert_eq!(client.expect(), done()));
        }
        // The backend answers the one that spoke.
        assert_eq!(taking.ask(json!({"m": "mesh.send", "p": {"c": first, "d": "{\"heard\":1}"}, "i": 4}))["r"]["s"], true);
        assert_eq!(clients[0].expect(), json!({"heard": 1}));
        assert_eq!(taking.ask(json!({"m": "queue.unpop", "p": {}, "i": 5}))["r"]["s"], true);
        assert_eq!(taking.ask(json!({"m": "queue.unpop", "p": [], "i": 6}))["E"]["c"], 203);
        // What nobody takes is bounded.
        for _ in 0..3 {
            assert_eq!(clients[1].ask(json!({"op": "wave"})), done());
        }
        assert_eq!(clients[1].ask(json!({"op": "wave"})), json!({"code": 7, "msg": "Limit exceeded"}));
        assert_eq!(router.metric("fanwire_queue_refused_total", "queue=\"rest\",reason=\"queue_full\""), 1.0);
        assert_eq!(router.metric("fanwire_queue_waiting", "queue=\"rest\""), 3.0);
        // Known requests go on, and a backend that has gone leaves what it has not taken.
        assert_eq!(clients[1].ask(json!({"op": "unsubscribe", "channel": "@user"})), done());
        let mut other = backend(&router);
        assert_eq!(other.ask(json!({"m": "queue.pop", "p": ["rest"], "i": 7}))["r"]["s"], true);
        assert_eq!(popped(&mut other, "rest").1, json!({"op": "wave"}));
        drop(other);
        eventually("nobody consuming", || router.metric("fanwire_queue_consumers", "queue=\"rest\"") == 0.0);
    }

    fn s2_12_a_backend_says_who_a_client_is(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "uid", &hook.url(), &queue("logins", "[\"auth\"]", 100));
        let mut taking = backend(&router);
        assert_eq!(taking.ask(json!({"m": "queue.pop", "p": {"t": ["logins"]}, "i": 1}))["r"]["s"], true);
        let mut joe = connect(&router);
        joe.send(json!({"op": "auth", "token": "of joe"}));
        joe.send(json!({"op": "subscribe", "channel": "@user"}));
        let (client, said, uid) = popped(&mut taking, "logins");
        assert_eq!((&said["token"], uid), (&json!("of joe"), json!(null)));
        let call = |client: &Value, key: &str, value: Value| json!({"m": "conn.call", "p": {"c": client, "f": "set_context_value", "a": [key, value]}, "i": 2});
        assert_eq!(taking.ask(call(&client, "uid", json!("anonymous-1")))["E"]["c"], 101);
        assert_eq!(taking.ask(call(&client, "uid", json!(9_007_199_254_740_993_u64)))["r"]["s"], true);
        assert_eq!([joe.expect(), joe.expect()], [done(), done()]);
        let answer = taking.ask(json!({"m": "mesh.publish", "p": {"c": "user:9007199254740993", "d": "{\"to\":\"joe\"}"}, "i": 3}));
        assert_eq!(answer["r"]["s"], 1);
        assert_eq!(joe.expect(), json!({"to": "joe"}));
        // Once.
        assert_eq!(taking.ask(call(&client, "uid", json!(7)))["E"]["c"], 101);
        // Who goes while it waits leaves nothing behind.
        let mut ann = connect(&router);
        ann.send(json!({"op": "auth", "token": "of ann"}));
        let (client, ..) = popped(&mut taking, "logins");
        drop(ann);
        eventually("her being gone", || taking.ask(call(&client, "uid", json!(8)))["E"]["c"] == 301);
    }

    fn who_a_client_is_may_be_told_twice_and_is_still_asked_about(driver: &str) {
        let hook = HookServer::start(|_| Reply::After(Duration::from_millis(500), Box::new(Reply::deny())));
        let door = format!("[[hook]]\nname = \"door\"\nurl = {:?}\nevents = [\"connect\"]\n", hook.url());
        let (_folder, router) = launch(driver, "twice", &hook.url(), &(queue("logins", "[\"auth\"]", 100) + &door));
        let mut taking = backend(&router);
        assert_eq!(taking.ask(json!({"m": "queue.pop", "p": {"t": ["logins"]}, "i": 1}))["r"]["s"], true);
        let mut joe = connect(&router);
        joe.send(json!({"op": "auth", "token": "of joe"}));
        let (client, ..) = popped(&mut taking, "logins");
        let call = json!({"m": "conn.call", "p": {"c": client, "f": "set_context_value", "a": ["uid", 7]}, "i": 2});
        assert_eq!(taking.ask(call.clone())["r"]["s"], true);
        assert_eq!(taking.ask(call)["E"]["c"], 101);
        assert_eq!(joe.expect()["code"], 5);
        assert_eq!(joe.ask(json!({"op": "subscribe", "channel": "@user"}))["code"], 1);
    }

    fn what_is_said_of_a_client_at_the_door_is_known_inside(driver: &str) {
        let hook = HookServer::start(|_| Reply::After(Duration::from_millis(500), Box::new(Reply::allow())));
        let door = format!("[[hook]]\nname = \"door\"\nurl = {:?}\nevents = [\"connect\"]\n", hook.url());
        let rule = "[[message_center.rule]]\nmatch = \"@team\"\nchannel = \"team:{ctx.team}\"\nrequire_auth = true\n";
        let (_folder, router) = launch(driver, "door", &hook.url(), &(queue("logins", "[\"auth\"]", 100) + &door + rule));
        let mut taking = backend(&router);
        assert_eq!(taking.ask(json!({"m": "queue.pop", "p": {"t": ["logins"]}, "i": 1}))["r"]["s"], true);
        for team in ["before", "beside", "behind"] {
            let mut joe = connect(&router);
            joe.send(json!({"op": "auth", "token": "of joe"}));
            let (client, ..) = popped(&mut taking, "logins");
            let know = |values: Value| {
                let call = json!({"m": "conn.call", "p": {"c": client, "f": "set_context", "a": [values]}, "i": 2});
                assert_eq!(taking.ask(call)["r"]["s"], true, "{team}");
            };
            // While it waits for its uid, with that, and while the hook is asked.
            match team {
                "before" => [json!({"team": team}), json!({"uid": 7})].map(know),
                "beside" => [json!({"team": "another"}), json!({"uid": 7, "team": team})].map(know),
                _ => [json!({"uid": 7}), json!({"team": team})].map(know),
            };
            assert_eq!(joe.expect(), done());
            assert_eq!(joe.ask(json!({"op": "subscribe", "channel": "@team"})), done(), "{team}");
            Client::join(router.wamp).publish(&format!("team:{team}"), json!([team]));
            assert_eq!(joe.expect(), json!({"event": "@team", "data": team}));
        }
    }

    fn a_queue_may_take_everything(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "all", &hook.url(), &queue("all", "[\"*\"]", 10));
        let mut taking = backend(&router);
        assert_eq!(taking.ask(json!({"m": "queue.pop", "p": {"t": ["all"]}, "i": 1}))["r"]["s"], true);
        let mut client = connect(&router);
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        assert_eq!(popped(&mut taking, "all").1, json!({"op": "subscribe", "channel": "@user"}));
        assert_eq!(client.ask(json!([1])), done());
        assert_eq!(popped(&mut taking, "all").1, json!([1]));
        // A binary frame of three bytes, masked with nothing.
        client.send_bytes(b"\x82\x83\0\0\0\0\x00\x01b");
        assert_eq!(client.expect(), done());
        assert_eq!(taking.expect()["p"]["d"]["frame"], json!({"type": "binary", "data": "AAFi", "finish": true}));
    }

    fn a_hook_answers_what_clients_say(driver: &str) {
        let hook = HookServer::start(|asked| {
            if asked.field("event") == "authenticate" {
                return Reply::json(&json!({"uid": 1001}));
            }
            let said: Value = serde_json::from_str(asked.field("message").as_str().expect("text")).expect("JSON");
            match said["op"].as_str() {
                Some("add") => Reply::json(&json!({"sum": said["a"].as_i64().unwrap_or(0) + 1, "for": asked.field("authid")})),
                Some("nothing") => Reply::Status(204, String::new()),
                Some("broken") => Reply::Status(500, String::new()),
                _ => Reply::deny(),
            }
        });
        let folder = Folder::new(&format!("hook-message-{driver}"));
        let file = folder.write("fanwire.toml", &format!(
            "[[listener]]\nbind = \"127.0.0.1:8080\"\nendpoints = {{ \"/message-center\" = \"message-center\" }}\n\
             [[message_center.rule]]\nmatch = \"@user\"\nchannel = \"user:{{ctx.uid}}\"\n\
             [[hook]]\nname = \"h\"\nurl = \"{}\"\nevents = [\"authenticate\", \"message\"]\nrole = \"anonymous\"\non_failure = \"allow\"\n", hook.url()));
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let mut client = connect(&router);
        assert_eq!(client.ask(json!({"op": "auth", "token": "x"})), done());
        // All at once, answered in their order.
        for message in [json!({"op": "add", "a": 41}), json!({"op": "nothing"}), json!({"op": "other"}), json!({"op": "broken"}), json!({"op": "subscribe", "channel": "@user"})] {
            client.send(message);
        }
        for answer in [json!({"sum": 42, "for": "1001"}), done(), json!({"code": 8, "msg": "Permission denied"}), json!({"code": 6, "msg": "Auth backend unavailable"}), done()] {
            assert_eq!(client.expect(), answer);
        }
    }

    fn a_hook_answers_calls(driver: &str) {
        let hook = HookServer::start(|asked| match asked.field("procedure").as_str() {
            Some("shop.plain") => Reply::json(&json!([1, {"a": asked.field("args")}])),
            Some("shop.both") => Reply::json(&json!({"args": [1, 2], "kwargs": {"k": null}})),
            Some("shop.nothing") => Reply::Status(204, String::new()),
            Some("shop.wrong") => Reply::json(&json!({"error": "shop.error.sold_out", "message": "no coffee"})),
            Some("shop.broken") => Reply::Status(502, String::new()),
            _ => Reply::deny(),
        });
        let router = Launch::on(driver).set("hook", &format!("[{{name=\"h\",url=\"{}\",events=[\"rpc\"],uri=\"shop.\"}}]", hook.url())).start();
        let mut client = Client::join(router.wamp);
        assert_eq!(client.call("shop.plain", json!([7])), json!([50, 1, {}, [[1, {"a": [7]}]]]));
        // Several at once, with another request between them.
        for (number, name) in [(11, "both"), (12, "nothing"), (13, "wrong"), (14, "broken"), (15, "forbidden")] {
            client.send(json!([48, number, {}, format!("shop.{name}")]));
        }
        client.send(json!([48, 16, {}, "elsewhere"]));
        let mut answers: Vec<Value> = (0..6).map(|_| client.expect()).collect();
        answers.sort_by_key(|answer| answer[if answer[0] == 50 { 1 } else { 2 }].as_u64());
        assert_eq!(answers[0], json!([50, 11, {}, [1, 2], {"k": null}]));
        assert_eq!(answers[1], json!([50, 12, {}]));
        assert_eq!(answers[2], json!([8, 48, 13, {}, "shop.error.sold_out", ["no coffee"]]));
        assert_eq!([&answers[3][4], &answers[4][4], &answers[5][4]], ["wamp.error.unavailable", "wamp.error.not_authorized", "wamp.error.no_such_procedure"]);
        // By the HTTP API too.
        let mut api = Http::connect(router.wamp);
        assert_eq!(api.post("/v1/call", &json!({"procedure": "shop.both"})).json(), json!({"args": [1, 2], "kwargs": {"k": null}}));
        let refused = api.post("/v1/call", &json!({"procedure": "shop.wrong"}));
        assert_eq!((refused.status, &refused.json()["error"]["uri"]), (422, &json!("shop.error.sold_out")));
    }
}

/// The page of `docs/hooks.md`, served by PHP itself.
#[test]
fn s1_17_a_php_page_answers_a_clients_call() {
    let page = include_str!("../../docs/hooks.md");
    let part = |language: &str| {
        let (_, rest) = page.split_once(&format!("```{language}\n")).expect("it is there");
        rest.split_once("```").expect("it ends").0.to_owned()
    };
    let (_, calls) = page.split_once("```php").expect("it is there");
    let hook =
        calls.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("its hook").0;
    let folder = Folder::new("hooks-php");
    folder.write("calls.php", &part("php"));
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a free port");
    let php = Command::new("php")
        .args(["-S", &free.to_string(), "-t", &folder.path(".")])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("php is installed");
    let _php = Beside(php);
    eventually("php listening", || std::net::TcpStream::connect(free).is_ok());
    let file = folder.write("fanwire.toml", &hook.replace("127.0.0.1:8000", &free.to_string()));
    let router = Launch::on("epoll").argument("--config").argument(&file).start();
    let mut client = Client::join(router.wamp);
    assert_eq!(client.call("shop.sum", json!([40, 2])), json!([50, 1, {}, [42]]));
    client.send(json!([48, 2, {}, "shop.who"]));
    let Heard::Message(who) = client.hear() else { panic!("no answer") };
    assert!(who[3][0].as_str().is_some_and(|name| name.starts_with("anonymous-")), "{who}");
    client.send(json!([48, 3, {}, "shop.other"]));
    assert_eq!(client.expect(), json!([8, 48, 3, {}, "shop.error.unknown", ["no such procedure"]]));
}
