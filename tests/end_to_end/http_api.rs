//! The HTTP API: what programs publish and call without a session, and who may.

use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Client, Folder, Heard, Http, Launch, Router, binary, eventually};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

fn publication(topic: &str, data: impl Into<Value>) -> Value {
    json!({"topic": topic, "data": data.into()})
}

/// Code and field of an error.
fn is(code: &str, field: Option<&str>, status: u16) -> (u16, String, Option<String>) {
    (status, code.to_owned(), field.map(str::to_owned))
}

/// A key with these rights, as the configuration wants it, and the key itself.
fn make_key(arguments: &[&str]) -> (String, String) {
    let output = Command::new(binary()).arg("apikey").args(arguments).output().expect("the binary starts");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    let key = told.trim().rsplit(' ').next().expect("a key").to_owned();
    (String::from_utf8(output.stdout).expect("UTF-8"), key)
}

/// A realm whose `backend` may publish and call below `shop.`, and whose anonymous clients may do what they like.
const REALM: &str = r#"
[[realm]]
name = "realm1"
[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = "shop."
match = "prefix"
allow = ["publish", "call"]
"#;

on_both_drivers! {
    fn publications_reach_subscribers_in_order(driver: &str) {
        let router = Router::on(driver);
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("com.fanwire.api");
        let mut api = Http::connect(router.wamp);
        let first = api.post("/v1/publish", &json!({"topic": "com.fanwire.api", "args": [0, {"a": null}], "kwargs": {"k": 1.5}}));
        assert_eq!(first.status, 200, "{first:?}");
        assert!(first.json()["publication"].as_u64().is_some_and(|id| id > 0), "{first:?}");
        let event = subscriber.expect();
        assert_eq!((&event[4], &event[5]), (&json!([0, {"a": null}]), &json!({"k": 1.5})));
        for number in 1..200 {
            let answer = api.post("/v1/publish", &publication("com.fanwire.api", number));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for number in 1..200 {
            assert_eq!(subscriber.expect_event(), json!([number]));
        }
        assert_eq!(router.metric("fanwire_api_publications_total", ""), 200.0);
        assert_eq!(router.metric("fanwire_api_requests_total", "route=\"publish\",status=\"2xx\""), 200.0);
    }

    fn receipts_count_subscribers(driver: &str) {
        let router = Router::on(driver);
        let mut subscribers: Vec<_> = (0..5).map(|_| Client::join(router.wamp)).collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe("com.fanwire.counted");
        }
        let mut api = Http::connect(router.wamp);
        let answer = api.post("/v1/publish", &json!({"topic": "com.fanwire.counted", "options": {"acknowledge": true}}));
        assert_eq!(answer.json()["matched"], 5, "{answer:?}");
        let answer = api.post("/v1/publish", &json!({"topic": "com.fanwire.nobody", "options": {"acknowledge": true}}));
        assert_eq!(answer.json()["matched"], 0, "{answer:?}");
        let answer = api.post("/v1/publish", &json!({"topic": "com.fanwire.counted"}));
        assert_eq!(answer.json().get("matched"), None, "{answer:?}");
    }

    fn lists_of_receivers_are_obeyed(driver: &str) {
        let router = Router::on(driver);
        let (mut one, mut other) = (Client::connect(router.wamp), Client::join(router.wamp));
        let roles = json!({"subscriber": {}});
        let welcome = one.ask(json!([1, "realm1", {"roles": roles}]));
        let id = welcome[1].as_u64().expect("a session id");
        one.subscribe("com.fanwire.listed");
        other.subscribe("com.fanwire.listed");
        let mut api = Http::connect(router.wamp);
        for (options, number) in [(json!({"exclude": [id]}), 1), (json!({"eligible": [id]}), 2), (json!({"eligible_authrole": ["staff"]}), 3)] {
            let body = json!({"topic": "com.fanwire.listed", "data": number, "options": options});
            assert_eq!(api.post("/v1/publish", &body).status, 200);
        }
        assert_eq!(api.post("/v1/publish", &publication("com.fanwire.listed", 4)).status, 200);
        assert_eq!((one.expect_event(), one.expect_event()), (json!([2]), json!([4])));
        assert_eq!((other.expect_event(), other.expect_event()), (json!([1]), json!([4])));
    }

    fn a_batch_answers_each_by_itself(driver: &str) {
        let router = Launch::on(driver).set("http_api.batch", "3").start();
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("com.fanwire.batch");
        let mut api = Http::connect(router.wamp);
        let batch = json!([publication("com.fanwire.batch", 1), {"topic": "com.fanwire.batch", "arg": []}, publication("com.fanwire.batch", 2)]);
        let answer = api.post("/v1/publish/batch", &batch).json();
        assert_eq!((&answer["published"], &answer["failed"]), (&json!(2), &json!(1)), "{answer}");
        assert_eq!(answer["results"][1]["error"]["field"], "[1].arg");
        assert!(answer["results"][2]["publication"].is_u64());
        assert_eq!((subscriber.expect_event(), subscriber.expect_event()), (json!([1]), json!([2])));
        let refused = api.post("/v1/publish/batch", &json!([{}, {}, {}, {}]));
        assert_eq!(refused.error(), is("too_large", None, 413));
        let wrong = api.post("/v1/publish/batch", &json!([{"topic": "..", "data": 1}])).json();
        assert_eq!(wrong["results"][0]["error"]["uri"], "wamp.error.invalid_uri", "{wrong}");
        assert_eq!(api.post("/v1/publish/batch", &json!([])).json()["published"], 0);
        assert_eq!(api.post("/v1/publish/batch", &json!({})).error(), is("invalid_json", None, 400));
    }

    fn a_stream_of_lines_is_published_in_order(driver: &str) {
        let router = Router::on(driver);
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("com.fanwire.stream");
        let count = 5_000;
        let lines: String = (0..count).map(|number| format!("{}\n", publication("com.fanwire.stream", number))).collect();
        let reader = std::thread::spawn(move || {
            for number in 0..count {
                assert_eq!(subscriber.expect_event(), json!([number]));
            }
            subscriber
        });
        let mut api = Http::connect(router.wamp);
        let answer = api.post_as("/v1/publish", NDJSON, &lines);
        assert_eq!(answer.lines(), [json!({"summary": {"lines": count, "published": count, "failed": 0}})]);
        let _subscriber = reader.join().expect("all came, in order");
        // The connection can go on, and what goes wrong is told line by line.
        let lines = format!(
            "{}\n\n{{\"topic\":5}}\r\n{}",
            json!({"topic": "com.fanwire.stream", "options": {"acknowledge": true}}),
            json!({"topic": "", "data": 1})
        );
        let mut answers = api.post_as("/v1/publish", NDJSON, &lines).lines();
        let last = answers.pop().expect("a summary");
        assert_eq!(last, json!({"summary": {"lines": 4, "published": 1, "failed": 2}}));
        answers.sort_by_key(|answer| answer["line"].as_u64());
        assert_eq!((&answers[0]["line"], &answers[0]["matched"]), (&json!(1), &json!(1)), "{answers:?}");
        assert_eq!((&answers[1]["line"], &answers[1]["error"]["field"]), (&json!(3), &json!("topic")));
        assert_eq!((&answers[2]["line"], &answers[2]["error"]["uri"]), (&json!(4), &json!("wamp.error.invalid_uri")));
        assert_eq!(router.metric("fanwire_api_stream_lines_total", ""), f64::from(count) + 4.0);
    }

    /// A stream in chunks that never ends is answered while it goes on.
    fn failures_of_a_stream_are_told_at_once(driver: &str) {
        let router = Router::on(driver);
        let mut api = Http::connect(router.wamp);
        let head = format!(
            "POST /v1/publish HTTP/1.1\r\n{}Content-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            api.fields
        );
        api.send(head.as_bytes());
        assert_eq!(api.answer("POST").status, 100);
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        api.send(chunk("{\"topic\":\"a.b\"}\n{\"to").as_bytes());
        while !api.line().is_empty() {}
        api.send(chunk("pic\":\"..\"}\n").as_bytes());
        let told: Value = serde_json::from_slice(&api.chunk().expect("not the end")).expect("JSON");
        assert_eq!((&told["line"], &told["error"]["field"]), (&json!(2), &json!("topic")), "{told}");
        api.send(b"0\r\n\r\n");
        let last: Value = serde_json::from_slice(&api.chunk().expect("not the end")).expect("JSON");
        assert_eq!(last["summary"], json!({"lines": 2, "published": 1, "failed": 1}));
        assert!(api.chunk().is_none());
    }

    fn a_line_that_is_too_long_ends_its_stream(driver: &str) {
        let router = Launch::on(driver).set("http_api.body", "1KiB").start();
        let mut api = Http::connect(router.wamp);
        let lines = format!("{}\n{}", publication("a.b", 1), "x".repeat(600 << 10));
        let answer = api.post_as("/v1/publish", NDJSON, &lines);
        let summary = &answer.lines().pop().expect("a summary")["summary"];
        assert_eq!((&summary["published"], &summary["error"]["code"]), (&json!(1), &json!("too_large")), "{summary}");
        assert!(api.has_ended());
        let mut api = Http::connect(router.wamp);
        assert_eq!(api.post_as("/v1/publish", JSON, &" ".repeat(1_025)).error(), is("too_large", None, 413));
    }

    fn the_same_request_is_done_once(driver: &str) {
        let router = Router::on(driver);
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("com.fanwire.once");
        let mut api = Http::connect(router.wamp).with("Idempotency-Key: k-1");
        let first = api.post("/v1/publish", &publication("com.fanwire.once", 1));
        let again = Http::connect(router.wamp).with("Idempotency-Key: k-1").post("/v1/publish", &publication("com.fanwire.once", 1));
        assert_eq!((first.status, first.json()), (again.status, again.json()));
        assert_eq!(again.field("idempotent-replayed"), Some("true"));
        let other = api.post("/v1/publish", &publication("com.fanwire.once", 2));
        assert_eq!(other.error(), is("idempotency_conflict", None, 409));
        let streamed = api.post_as("/v1/publish", NDJSON, "");
        assert_eq!(streamed.error(), is("invalid_field", Some("Idempotency-Key"), 400));
        // What failed was not done, and may be mended.
        let mut api = Http::connect(router.wamp).with("Idempotency-Key: k-2");
        assert_eq!(api.post("/v1/publish", &json!({"topic": ".."})).status, 400);
        assert_eq!(api.post("/v1/publish", &publication("com.fanwire.once", 3)).status, 200);
        assert_eq!((subscriber.expect_event(), subscriber.expect_event()), (json!([1]), json!([3])));
        assert_eq!(router.metric("fanwire_api_repeated_total", ""), 1.0);
    }

    fn calls_are_answered_by_callees(driver: &str) {
        let router = Router::on(driver);
        let mut callee = Client::join(router.wamp);
        for procedure in ["com.fanwire.answer", "com.fanwire.fail", "com.fanwire.silent"] {
            callee.register(procedure);
        }
        let writer = std::thread::spawn(move || {
            let invocation = callee.expect();
            assert_eq!(invocation[4], json!([1, 2]));
            callee.send(json!([70, invocation[1], {}, [3], {"k": "v"}]));
            let invocation = callee.expect();
            callee.send(json!([8, 68, invocation[1], {}, "com.example.sold_out", ["coffee"]]));
            callee.expect();
            // Never answered; the next thing is its cancellation or nothing.
            callee
        });
        let mut api = Http::connect(router.wamp);
        let answer = api.post("/v1/call", &json!({"procedure": "com.fanwire.answer", "args": [1, 2]}));
        assert_eq!((answer.status, answer.json()), (200, json!({"args": [3], "kwargs": {"k": "v"}})));
        let failed = api.post("/v1/call", &json!({"procedure": "com.fanwire.fail"}));
        assert_eq!(failed.error(), is("callee_error", None, 422));
        assert_eq!((&failed.json()["error"]["uri"], &failed.json()["error"]["args"]), (&json!("com.example.sold_out"), &json!(["coffee"])));
        let silent = api.post("/v1/call", &json!({"procedure": "com.fanwire.silent", "timeout": 0.2}));
        assert_eq!(silent.error().1, "timeout", "{silent:?}");
        assert_eq!(silent.status, 504);
        let nobody = api.post("/v1/call", &json!({"procedure": "com.fanwire.nobody"}));
        assert_eq!(nobody.error(), is("no_such_procedure", Some("procedure"), 404));
        assert_eq!(api.post("/v1/call", &json!({"procedure": "a", "timeout": 0})).error(), is("invalid_field", Some("timeout"), 400));
        drop(writer.join().expect("the callee was called"));
    }

    fn sessions_are_listed_and_sent_away(driver: &str) {
        let router = Router::on(driver);
        let mut clients: Vec<_> = (0..7).map(|_| Client::join(router.wamp)).collect();
        clients[3].subscribe("com.fanwire.listed");
        let mut api = Http::connect(router.wamp);
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.ask("GET", &format!("/v1/sessions?realm=realm1&role=anonymous&limit=2{cursor}")).json();
            found.extend(page["sessions"].as_array().expect("a list").clone());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let mut ids: Vec<u64> = found.iter().map(|session| session["session"].as_u64().expect("an id")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 7, "{found:?}");
        let subscribed = found.iter().filter(|session| session["subscriptions"] == 1).count();
        assert_eq!(subscribed, 1, "{found:?}");
        assert!(found.iter().all(|session| session["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:"))));
        // One alone, by its authid.
        let authid = found[0]["authid"].as_str().expect("a name");
        let page = api.ask("GET", &format!("/v1/sessions?authid={authid}")).json();
        assert_eq!(page["sessions"].as_array().map(Vec::len), Some(1), "{page}");
        let id = ids[0];
        let gone = api.ask("DELETE", &format!("/v1/sessions/{id}?reason=com.example.banned"));
        assert_eq!((gone.status, gone.json()), (200, json!({"disconnected": true})));
        // Exactly one of them is told.
        eventually("six are left", || router.metric("fanwire_sessions", "") == 6.0);
        assert_eq!(api.ask("DELETE", &format!("/v1/sessions/{id}")).error(), is("no_such_session", Some("id"), 404));
        for (target, field) in [
            ("/v1/sessions?realm=nowhere", "realm"),
            ("/v1/sessions?role=nobody", "role"),
            ("/v1/sessions?limit=0", "limit"),
            ("/v1/sessions?limit=1001", "limit"),
            ("/v1/sessions?cursor=x", "cursor"),
            ("/v1/sessions?name=x", "name"),
            ("/v1/sessions?realm=a&realm=b", "realm"),
        ] {
            let refused = api.ask("GET", target);
            assert_eq!(refused.error().2.as_deref(), Some(field), "{target}");
        }
        assert_eq!(api.ask("DELETE", "/v1/sessions/x").error(), is("invalid_query", Some("id"), 400));
        assert_eq!(api.ask("DELETE", "/v1/sessions/1?reason=a%20b").error(), is("invalid_query", Some("reason"), 400));
    }

    fn a_session_is_told_why_it_is_sent_away(driver: &str) {
        let router = Router::on(driver);
        let mut client = Client::join(router.wamp);
        let mut api = Http::connect(router.wamp);
        let page = api.ask("GET", "/v1/sessions").json();
        let id = &page["sessions"][0]["session"];
        assert_eq!(api.ask("DELETE", &format!("/v1/sessions/{id}?reason=com.example.banned")).status, 200);
        let goodbye = client.expect();
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("com.example.banned")), "{goodbye}");
        while !matches!(client.hear(), Heard::End) {}
    }

    fn topics_are_listed_by_pages(driver: &str) {
        let router = Router::on(driver);
        let mut client = Client::join(router.wamp);
        for number in 0..25 {
            client.subscribe(&format!("com.fanwire.t{number}"));
        }
        client.subscribe("com.other");
        assert_eq!(client.ask(json!([32, 99, {"match": "prefix"}, "com.fanwire."]))[0], 33);
        let mut api = Http::connect(router.wamp);
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.ask("GET", &format!("/v1/topics?prefix=com.fanwire.&limit=10{cursor}")).json();
            found.extend(page["topics"].as_array().expect("a list").iter().map(|topic| (topic["topic"].clone(), topic["match"].clone())));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found.len(), 26, "{found:?}");
        assert!(found.contains(&(json!("com.fanwire."), json!("prefix"))) && found.contains(&(json!("com.fanwire.t24"), json!("exact"))));
    }

    fn keys_say_who_may_do_what(driver: &str) {
        let folder = Folder::new(&format!("api-keys-{driver}"));
        let (shop, shop_key) = make_key(&["shop", "--role", "backend", "--allow", "publish,call"]);
        let (ops, ops_key) = make_key(&["ops", "--role", "anonymous", "--allow", "read,disconnect"]);
        let (far, far_key) = make_key(&["far", "--role", "anonymous", "--address", "192.0.2.0/24"]);
        let file = folder.write("fanwire.toml", &format!("{REALM}\n{shop}\n{ops}\n{far}"));
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let with = |key: &str| Http::connect(router.wamp).with(&format!("Authorization: Bearer {key}"));
        let mut shop = with(&shop_key);
        assert_eq!(shop.post("/v1/publish", &publication("shop.order", 1)).status, 200);
        let refused = shop.post("/v1/publish", &publication("com.other", 1));
        assert_eq!(refused.error(), is("not_authorized", Some("topic"), 403));
        assert_eq!(refused.json()["error"]["uri"], "wamp.error.not_authorized");
        assert_eq!(shop.post("/v1/call", &json!({"procedure": "com.other"})).error(), is("not_authorized", Some("procedure"), 403));
        assert_eq!(shop.ask("GET", "/v1/sessions").error(), is("forbidden", None, 403));
        assert_eq!(shop.ask("DELETE", "/v1/sessions/1").error(), is("forbidden", None, 403));
        let mut ops = with(&ops_key);
        assert_eq!(ops.ask("GET", "/v1/topics").status, 200);
        assert_eq!(ops.post("/v1/publish", &publication("shop.order", 1)).error(), is("forbidden", None, 403));
        assert_eq!(with(&far_key).post("/v1/publish", &publication("a.b", 1)).error(), is("forbidden", None, 403));
        let wrong = format!("{}x", &shop_key[..shop_key.len() - 1]);
        for fields in [String::new(), "Authorization: Basic abc".into(), "Authorization: Bearer".into(), format!("Authorization: Bearer {wrong}")] {
            let mut api = Http::connect(router.wamp);
            if !fields.is_empty() {
                api = api.with(&fields);
            }
            let refused = api.post("/v1/publish", &publication("shop.order", 1));
            assert_eq!(refused.error(), is("unauthorized", None, 401), "{fields}");
            assert_eq!(refused.field("www-authenticate"), Some("Bearer realm=\"fanwire\""));
        }
        assert_eq!(router.metric("fanwire_api_refused_total", "reason=\"unauthorized\""), 4.0);
    }

    /// Web pages, proxies and names that were made to point here are not programs of this machine.
    fn without_keys_only_this_machine_is_served(driver: &str) {
        let router = Router::on(driver);
        let post = |field: &str| {
            let mut api = Http::connect(router.wamp).with(field);
            api.post("/v1/publish", &publication("a.b", 1)).error()
        };
        assert_eq!(post("Origin: https://evil.example"), is("forbidden", None, 403));
        assert_eq!(post("Origin: null"), is("forbidden", None, 403));
        assert_eq!(post("X-Forwarded-For: 192.0.2.7"), is("forbidden", None, 403));
        assert_eq!(post("Forwarded: for=192.0.2.7"), is("forbidden", None, 403));
        let mut api = Http::connect(router.wamp);
        api.fields = "Host: evil.example:8080\r\n".into();
        assert_eq!(api.post("/v1/publish", &publication("a.b", 1)).error(), is("forbidden", None, 403));
        api.fields = "Host: localhost:8080\r\nOrigin: http://localhost:3000\r\n".into();
        assert_eq!(api.post("/v1/publish", &publication("a.b", 1)).status, 200);
    }

    fn a_small_anonymous_role_cannot_look_around(driver: &str) {
        let folder = Folder::new(&format!("api-small-{driver}"));
        let realm = "[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n[[realm.role.permission]]\nuri = \"a.b\"\nallow = [\"publish\"]\n";
        let file = folder.write("fanwire.toml", realm);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let mut api = Http::connect(router.wamp);
        assert_eq!(api.post("/v1/publish", &publication("a.b", 1)).status, 200);
        assert_eq!(api.post("/v1/publish", &publication("a.c", 1)).status, 403);
        assert_eq!(api.ask("GET", "/v1/sessions").error(), is("forbidden", Some("realm"), 403));
        let _client = Client::join(router.wamp);
        assert_eq!(api.ask("DELETE", "/v1/sessions/1").status, 404);
    }

    fn a_unix_socket_has_the_api(driver: &str) {
        let folder = Folder::new(&format!("api-unix-{driver}"));
        let path = folder.path("fanwire.sock");
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{path}\"\n");
        let file = folder.write("fanwire.toml", &text);
        let router = Launch::on(driver).argument("--config").argument(&file).argument("--bind").argument("127.0.0.1:0").start();
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("a.b");
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "60", "--unix-socket", &path, "http://any.name/v1/publish"])
            .args(["-H", "Content-Type: application/json", "-d", "{\"topic\":\"a.b\",\"data\":1}"])
            .output()
            .expect("curl is installed");
        assert!(output.status.success() && output.stdout.starts_with(b"{\"publication\":"), "{output:?}");
        assert_eq!(subscriber.expect_event(), json!([1]));
        drop(UnixStream::connect(&path).expect("it listens"));
    }

    fn a_connection_is_for_the_api_or_for_websocket(driver: &str) {
        let router = Router::on(driver);
        let mut api = Http::connect(router.wamp);
        assert_eq!(api.ask("GET", "/v1/topics").status, 200);
        api.send(&Client::upgrade_request(router.wamp));
        assert_eq!(api.answer("GET").error(), is("misdirected", None, 421));
        assert!(api.has_ended());
        let mut api = Http::connect(router.wamp).with("Connection: Upgrade\r\nUpgrade: websocket");
        assert_eq!(api.ask("GET", "/v1/topics").error(), is("misdirected", None, 421));
        assert!(api.has_ended());
        assert_eq!(Client::join(router.wamp).call("com.nobody", json!([]))[0], 8);
    }

    fn paths_methods_and_types_are_told_apart(driver: &str) {
        let router = Router::on(driver);
        let mut api = Http::connect(router.wamp);
        let refused = api.ask("GET", "/v1/publish");
        assert_eq!(refused.error(), is("method_not_allowed", None, 405));
        assert_eq!(refused.field("allow"), Some("POST"));
        let refused = api.ask("OPTIONS", "/v1/topics");
        assert_eq!((refused.status, refused.field("allow")), (405, Some("GET, HEAD")));
        assert_eq!(api.ask("GET", "/v1/nothing").error(), is("not_found", None, 404));
        let head = api.ask("HEAD", "/v1/topics");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert!(head.field("content-length").is_some_and(|length| length != "0"));
        for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let refused = api.post_as("/v1/publish", media_type, "{\"topic\":\"a.b\"}");
            assert_eq!(refused.error(), is("unsupported_media_type", None, 415), "{media_type}");
        }
        assert_eq!(api.post_as("/v1/publish", "application/json; charset=utf-8", "{\"topic\":\"a.b\"}").status, 200);
        let broken = api.post_as("/v1/publish", JSON, "{\n  \"topic\" \"a.b\"}");
        assert_eq!(broken.error(), is("invalid_json", None, 400));
        assert_eq!((&broken.json()["error"]["line"], &broken.json()["error"]["column"]), (&json!(2), &json!(11)));
    }

    /// What two parsers could read in two ways is refused, and nothing behind it is read.
    fn smuggled_requests_are_not_heard(driver: &str) {
        let router = Router::on(driver);
        let second = "GET /v1/topics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for (fields, body) in [
            ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "0\r\n\r\n"),
            ("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
            ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n"),
            ("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"),
            ("Content-Length: +2\r\n", "{}"),
        ] {
            // As the first request of a connection, and as a later one.
            for first in ["", "GET /v1/topics HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
                let mut api = Http::connect(router.wamp);
                if !first.is_empty() {
                    api.send(first.as_bytes());
                    assert_eq!(api.answer("GET").status, 200);
                }
                api.send(format!("POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n{fields}\r\n{body}{second}").as_bytes());
                let refused = api.answer("POST");
                assert!([400, 501].contains(&refused.status), "{fields:?}: {refused:?}");
                assert!(api.has_ended(), "{fields:?}");
            }
        }
    }

    fn pipelined_requests_are_answered_in_order(driver: &str) {
        let router = Router::on(driver);
        let mut api = Http::connect(router.wamp);
        let body = "{\"topic\":\"a.b\"}";
        let post = format!("POST /v1/publish HTTP/1.1\r\n{}Content-Type: {JSON}\r\nContent-Length: {}\r\n\r\n{body}", api.fields, body.len());
        let get = format!("GET /v1/nothing HTTP/1.1\r\n{}\r\n", api.fields);
        api.send(format!("{post}{get}").repeat(20).as_bytes());
        for _ in 0..20 {
            assert_eq!(api.answer("POST").status, 200);
            assert_eq!(api.answer("GET").status, 404);
        }
    }

    fn too_many_connections_are_told_so(driver: &str) {
        let router = Launch::on(driver).set("http_api.connections", "2").start();
        let mut open: Vec<_> = (0..2).map(|_| Http::connect(router.wamp)).collect();
        for api in &mut open {
            assert_eq!(api.ask("GET", "/v1/topics").status, 200);
        }
        let refused = Http::connect(router.wamp).ask("GET", "/v1/topics");
        assert_eq!(refused.error(), is("overloaded", None, 503));
        assert!(refused.field("retry-after").is_some());
        drop(open.pop());
        eventually("a place is free", || Http::connect(router.wamp).ask("GET", "/v1/topics").status == 200);
    }

    fn the_api_ends_with_the_router(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "0s").start();
        let mut api = Http::connect(router.wamp);
        assert_eq!(api.ask("GET", "/v1/topics").status, 200);
        router.signal(rustix::process::Signal::TERM);
        assert!(api.has_ended());
        assert!(router.wait(crate::support::PATIENCE).success());
    }
}

#[test]
fn an_address_that_others_can_reach_needs_a_key() {
    let folder = Folder::new("api-public");
    let text = "[[realm]]\nname = \"realm1\"\nallow_anonymous_everywhere = true\n[[realm.role]]\nname = \"anonymous\"\n\
                [[listener]]\nbind = \"0.0.0.0:0\"\napi = true\n";
    let check = |text: &str| {
        let file = folder.write("fanwire.toml", text);
        Command::new(binary()).args(["config", "check", &file]).output().expect("the binary starts")
    };
    let refused = check(text);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(
        words.contains("fanwire.toml:8")
            && words.contains("fanwire apikey NAME --realm realm1 --role anonymous"),
        "{words}"
    );
    let (table, _) = make_key(&["shop", "--role", "anonymous"]);
    let allowed = check(&format!("{text}{table}"));
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    assert!(check(&text.replace("api = true\n", "")).status.success(), "the API is off there by itself");
}
