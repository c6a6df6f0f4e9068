//! The message center: users that log in by a token, and hear what WAMP clients and HTTP requests publish for them.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Client, Folder, Heard, HookServer, Http, Launch, Reply, Router, eventually, get, status,
};

fn configuration(url: &str, more: &str) -> String {
    format!(
        r#"
[[listener]]
endpoints = {{ "/message-center" = "message-center", "/ws" = "wamp" }}
bind = "127.0.0.1:8080"
[message_center]
{more}
[[message_center.rule]]
match = "@user"
channel = "user:{{ctx.uid}}"
require_auth = true
[[message_center.rule]]
match = "{{video}}@video"
channel = "video:{{video}}"
[[hook]]
name = "users"
url = "{url}"
events = ["authenticate"]
role = "anonymous"
"#
    )
}

fn launch(driver: &str, name: &str, url: &str, more: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("center-{name}-{driver}"));
    let file = folder.write("fanwire.toml", &configuration(url, more));
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

/// Knows the users 1001, 1002 and so on by `token of 1001`; numbers are told as numbers.
fn users() -> HookServer {
    HookServer::start(|asked| {
        let token = asked.field("token");
        match token.as_str().and_then(|token| token.strip_prefix("token of ")) {
            Some(uid) => match uid.parse::<u64>() {
                Ok(number) => Reply::json(&json!({"uid": number})),
                Err(_) => Reply::json(&json!({"uid": uid})),
            },
            None => Reply::deny(),
        }
    })
}

fn connect(router: &Router) -> Client {
    Client::connect_to_center(router.wamp, "/message-center")
}

fn done() -> Value {
    json!({"result": true})
}

fn user(router: &Router, uid: &str) -> Client {
    let mut client = connect(router);
    assert_eq!(client.ask(json!({"op": "auth", "token": format!("token of {uid}")})), done());
    assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
    client
}

fn errors(router: &Router, reason: &str) -> f64 {
    router.metric("fanwire_message_center_errors_total", &format!("reason=\"{reason}\""))
}

on_both_drivers! {
    fn users_hear_what_is_published_for_them(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "users", &hook.url(), "");
        let mut early = connect(&router);
        for op in ["subscribe", "unsubscribe"] {
            assert_eq!(early.ask(json!({"op": op, "channel": "@user"})), json!({"code": 1, "msg": "Not Auth"}));
        }
        assert_eq!(early.ask(json!({"op": "auth", "token": "bad"})), json!({"code": 5, "msg": "Auth failed"}));
        // Enough devices that each shard has one.
        let mut devices: Vec<Client> = (0..6).map(|_| user(&router, "1001")).collect();
        let mut other = user(&router, "1002");
        let event = json!({"uid": 1001, "msg": "Hello,World!"});
        let mut api = Http::connect(router.wamp);
        api.post("/v1/publish", &json!({"topic": "user:1001", "args": [event]}));
        for client in &mut devices {
            assert_eq!(client.expect(), json!({"event": "@user", "data": event}));
        }
        let mut wamp = Client::join(router.wamp);
        wamp.subscribe("user:1001");
        Client::join(router.wamp).publish("user:1001", json!([1, 2]));
        for client in &mut devices {
            assert_eq!(client.expect(), json!({"event": "@user", "data": {"args": [1, 2], "kwargs": {}}}));
        }
        assert_eq!(wamp.expect_event(), json!([1, 2]));
        // What the other one hears next is its own.
        Client::join(router.wamp).publish("user:1002", json!(["yours"]));
        assert_eq!(other.expect(), json!({"event": "@user", "data": "yours"}));
        assert_eq!(other.ask(json!({"op": "unsubscribe", "channel": "@user"})), done());
        assert_eq!([errors(&router, "not_auth"), errors(&router, "auth_failed")], [2.0, 1.0]);
        assert_eq!(router.metric("fanwire_sessions", "protocol=\"message_center\""), 8.0);
        assert!(!router.said().contains("token of"), "a token was logged");
    }

    fn large_and_odd_uids_are_exact(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "uids", &hook.url(), "");
        for uid in ["9007199254740993", "18446744073709551615", "u-01"] {
            let mut client = user(&router, uid);
            Client::join(router.wamp).publish(&format!("user:{uid}"), json!([uid]));
            assert_eq!(client.expect(), json!({"event": "@user", "data": uid}));
        }
    }

    fn errors_close_the_connection_where_they_should(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "close", &hook.url(), "on_error = \"close\"");
        for (message, answer, code) in [
            (json!([]), json!({"code": 2, "msg": "Invalid JSON"}), 4002),
            (json!({"op": "join"}), json!({"code": 3, "msg": "Unknown op"}), 4003),
            (json!({"op": "subscribe", "channel": "user:1001"}), json!({"code": 4, "msg": "Invalid channel"}), 4004),
            (json!({"op": "auth", "token": "bad"}), json!({"code": 5, "msg": "Auth failed"}), 4005),
        ] {
            let mut client = connect(&router);
            assert_eq!(client.ask(message), answer);
            client.expect_close(code);
        }
        hook.set(|_| Reply::Status(500, String::new()));
        let mut client = connect(&router);
        assert_eq!(client.ask(json!({"op": "auth", "token": "x"})), json!({"code": 6, "msg": "Auth backend unavailable"}));
        client.expect_close(4006);
        let elsewhere = get(router.wamp, "/chat");
        assert!(status(&elsewhere) == 404 && elsewhere.contains("/message-center"), "{elsewhere}");
    }

    fn a_stop_closes_connections_with_words(driver: &str) {
        let hook = users();
        let (_folder, mut router) = launch(driver, "stop", &hook.url(), "");
        let mut client = user(&router, "1001");
        router.signal(rustix::process::Signal::TERM);
        assert!(matches!(client.hear(), Heard::Close(1001, _)));
        assert!(router.wait(crate::support::PATIENCE).success());
    }
}

/// The example of the page, as it stands there.
#[test]
fn the_example_of_the_documentation_works() {
    let page = include_str!("../../docs/message-center.md");
    let part = |language: &str| {
        let (_, rest) = page.split_once(&format!("```{language}\n")).expect("it is there");
        rest.split_once("```").expect("it ends").0.to_owned()
    };
    let folder = Folder::new("center-documented");
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a free port");
    let port = free.port().to_string();
    let script = folder.write("hook.py", &part("python").replace("8000", &port));
    let mut program = Command::new("python3").arg(script).spawn().expect("python3 is installed");
    eventually("the example listening", || std::net::TcpStream::connect(free).is_ok());
    // The rules of the second block come behind that of the first.
    let rules =
        page.split("```toml\n").nth(2).and_then(|rest| rest.split("```").next()).expect("it is there");
    let file = folder.write("fanwire.toml", &(part("toml").replace("8000", &port) + rules));
    let router = Launch::on("epoll").argument("--config").argument(&file).start();
    let mut joe = connect(&router);
    // Each line of the page's first table.
    for line in page.lines().filter(|line| line.starts_with("| `{\"op\"")) {
        let cells: Vec<&str> = line.split('`').collect();
        let text = |at: usize| serde_json::from_str::<Value>(cells[at]).expect("JSON");
        assert_eq!(joe.ask(text(1)), text(3), "{line}");
    }
    let (_, rest) = page.split_once(" -d '").expect("the request");
    let body: Value = serde_json::from_str(rest.split_once('\'').expect("its end").0).expect("JSON");
    Http::connect(router.wamp).post("/v1/publish", &body);
    let event = page.lines().find(|line| line.starts_with("| | `{\"event\"")).expect("the event");
    assert_eq!(
        joe.expect(),
        serde_json::from_str::<Value>(event.split('`').nth(1).expect("text")).expect("JSON")
    );
    for (channel, answer) in [
        ("100001@video", done()),
        ("BTCUSDT@depth", done()),
        ("@balance", done()),
        ("1002@balance", json!({"code": 4, "msg": "Invalid channel"})),
    ] {
        assert_eq!(joe.ask(json!({"op": "subscribe", "channel": channel})), answer, "{channel}");
    }
    Client::join(router.wamp).publish("ex:1001@balance", json!([7]));
    assert_eq!(joe.expect(), json!({"event": "@balance", "data": 7}));
    program.kill().expect("it runs");
    program.wait().expect("our own child");
}
