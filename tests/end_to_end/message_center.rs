//! The message center: users that log in by a token, and hear what WAMP clients and HTTP requests publish for them.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fanwire_codec::ws;
use serde_json::{Value, json};

use crate::support::redis::{self, Resp};
use crate::support::{
    Beside, Client, Folder, Heard, HookServer, Http, Launch, Reply, Router, eventually, get, status,
};

/// Its `center` keys, and what stands behind the hook's own.
pub fn configuration(url: &str, center: &str, behind: &str) -> String {
    format!(
        r#"
[[listener]]
endpoints = {{ "/message-center" = "message-center", "/ws" = "wamp" }}
bind = "127.0.0.1:8080"
[message_center]
{center}
[[message_center.rule]]
match = "@user"
channel = "user:{{ctx.uid}}"
require_auth = true
[[message_center.rule]]
match = "{{video}}@video"
channel = "video:{{video}}"
[[message_center.rule]]
match = "@{{kind:balance|order|position|account}}"
channel = "ex:{{ctx.uid}}@{{kind}}"
require_auth = true
[[message_center.rule]]
match = "{{symbol}}@{{kind:depth|trades|markprice|ticker|kline}}"
channel = "ex:{{symbol}}@{{kind}}"
[[hook]]
name = "users"
url = "{url}"
events = ["authenticate"]
role = "anonymous"
{behind}
"#
    )
}

pub fn launch(driver: &str, name: &str, url: &str, center: &str) -> (Folder, Router) {
    launch_with(driver, name, url, center, "")
}

pub fn launch_with(driver: &str, name: &str, url: &str, center: &str, behind: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("center-{name}-{driver}"));
    let file = folder.write("fanwire.toml", &configuration(url, center, behind));
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

/// Knows the users 1001, 1002 and so on by `token of 1001`; numbers are told as numbers.
pub fn users() -> HookServer {
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

pub fn connect(router: &Router) -> Client {
    Client::connect_to_center(router.wamp, "/message-center")
}

pub fn done() -> Value {
    json!({"result": true})
}

pub fn user(router: &Router, uid: &str) -> Client {
    let mut client = connect(router);
    assert_eq!(client.ask(json!({"op": "auth", "token": format!("token of {uid}")})), done());
    assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
    client
}

/// Bytes of a client's message.
pub fn frame(kind: ws::Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    ws::write_client_message(&mut out, kind, &[payload], [1, 2, 3, 4]);
    out.to_vec()
}

fn errors(router: &Router, reason: &str) -> f64 {
    router.metric("fanwire_message_center_errors_total", &format!("reason=\"{reason}\""))
}

on_both_drivers! {
    fn s2_02_the_hook_is_asked_in_json_whatever_the_token(driver: &str) {
        let hook = HookServer::start(|_| Reply::json(&json!({"uid": 1})));
        let more = "fields = [\"token\"]";
        let (_folder, router) = launch_with(driver, "tokens", &hook.url().replace("/hook", "/websocket_auth"), "", more);
        let long = "x".repeat(64 << 10);
        for token in ["***", "", "a \"quoted\" \\ one", "\u{1}\n\té\u{1f600}", "{}", &long] {
            let mut client = connect(&router);
            assert_eq!(client.ask(json!({"op": "auth", "token": token})), done());
            let asked = hook.asked().pop().expect("it was asked");
            assert!(asked.head.starts_with("POST /websocket_auth HTTP/1.1\r\n"), "{}", asked.head);
            assert!(asked.head.to_ascii_lowercase().contains("\r\ncontent-type: application/json\r\n"), "{}", asked.head);
            let body: Value = serde_json::from_str(&asked.body).expect("valid JSON");
            assert_eq!(body, json!({"token": token}));
        }
        assert_eq!(hook.asked()[0].body, r#"{"token":"***"}"#);
    }

    fn s2_02_the_hook_may_be_asked_by_form_or_header(driver: &str) {
        for (form, says) in [("form", "token=a%20b%26%C3%A9"), ("header", "x-fanwire-token: a%20b&%C3%A9\r\n")] {
            let hook = HookServer::start(|_| Reply::json(&json!({"uid": 1})));
            let more = format!("fields = [\"token\"]\nbody = \"{form}\"");
            let (_folder, router) = launch_with(driver, form, &hook.url(), "", &more);
            assert_eq!(connect(&router).ask(json!({"op": "auth", "token": "a b&é"})), done());
            let asked = hook.asked().pop().expect("it was asked");
            let all = asked.head + &asked.body;
            assert!(all.contains(says) || all.contains(&says.replace("%20", "+")), "{all}");
        }
    }

    fn s2_03_before_a_login_both_ops_are_not_auth_and_nothing_else_happens(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "early", &hook.url(), "");
        let mut client = connect(&router);
        for op in ["subscribe", "unsubscribe"] {
            client.send(json!({"op": op, "channel": "@user"}));
            assert_eq!(client.expect(), json!({"code": 1, "msg": "Not Auth"}));
        }
        assert_eq!(client.ask(json!({"op": "auth", "token": "bad"})), json!({"code": 5, "msg": "Auth failed"}));
        assert_eq!(client.ask(json!({"op": "auth", "token": "token of 1001"})), done());
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        let counted = || [errors(&router, "not_auth"), errors(&router, "auth_failed")];
        eventually("the errors counted", || counted() == [2.0, 1.0]);
        let refused = "the hook \\\"users\\\" does not allow it";
        eventually("the refusal being logged", || router.said().contains("login refused") && router.said().contains(refused));
        assert!(!router.said().contains("token of"), "a token was logged");
    }

    fn hooks_are_told_which_client_logs_in_and_leaves(driver: &str) {
        let hook = users();
        let (_folder, router) = launch_with(driver, "who", &hook.url(), "", "[[hook]]\nname = \"ends\"\nurl = \"URL\"\nevents = [\"disconnect\"]".replace("URL", &hook.url()).as_str());
        let client = user(&router, "1001");
        let id = hook.asked().pop().expect("it was asked").field("client");
        let mut api = Http::connect(router.wamp);
        assert_eq!(api.post("/v1/mesh/send", &json!({"c": id, "d": "for you alone"})).json()["r"]["s"], true);
        drop(client);
        eventually("the end being told", || hook.asked().iter().any(|asked| asked.field("event") == "disconnect" && asked.field("client") == id));
    }

    fn s2_04_no_client_can_name_another_users_channel(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "others", &hook.url(), "");
        let mut client = user(&router, "1001");
        let said = ["user:1002", "1002@user", "@user:1002", "user:1002@user", "@user ", "@1002", "user:{ctx.uid}", "", "@user\u{0}"];
        for channel in said {
            let answer = client.ask(json!({"op": "subscribe", "channel": channel}));
            assert_eq!(answer, json!({"code": 4, "msg": "Invalid channel"}), "{channel:?}");
        }
        // Nor does saying who one is, or having been somebody else.
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user", "uid": 1002, "ctx": {"uid": 1002}})), done());
        assert_eq!(client.ask(json!({"op": "auth", "token": "token of 1003", "uid": 1002})), done());
        Client::join(router.wamp).publish("user:1002", json!(["not yours"]));
        Client::join(router.wamp).publish("user:1001", json!(["no longer yours"]));
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        Client::join(router.wamp).publish("user:1003", json!(["yours"]));
        assert_eq!(client.expect(), json!({"event": "@user", "data": "yours"}));
    }

    fn s2_05_all_devices_of_a_user_hear_and_nobody_else(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "users", &hook.url(), "");
        // Enough devices that each shard has one.
        let mut devices: Vec<Client> = (0..6).map(|_| user(&router, "1001")).collect();
        let mut other = user(&router, "1002");
        let event = json!({"uid": 1001, "msg": "Hello,World!"});
        let mut api = Http::connect(router.wamp);
        let answer = api.post("/v1/publish", &json!({"topic": "user:1001", "args": [event], "options": {"acknowledge": true}}));
        assert_eq!(answer.json()["matched"], json!(6));
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
        let sessions = || router.metric("fanwire_sessions", "protocol=\"message_center\"");
        eventually("each session counted", || sessions() == 7.0);
    }

    fn s2_06_unsubscribe_stops_delivery_and_may_be_said_twice(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "unsubscribe", &hook.url(), "");
        let mut client = user(&router, "1001");
        let mut publisher = Client::join(router.wamp);
        publisher.publish("user:1001", json!([1]));
        assert_eq!(client.expect(), json!({"event": "@user", "data": 1}));
        for _ in 0..2 {
            assert_eq!(client.ask(json!({"op": "unsubscribe", "channel": "@user"})), done());
        }
        publisher.publish("user:1001", json!([2]));
        // The next thing that it hears is not that.
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), done());
        publisher.publish("user:1001", json!([3]));
        assert_eq!(client.expect(), json!({"event": "@user", "data": 3}));
    }

    fn s2_07_each_mistake_has_its_error_and_its_counter(driver: &str) {
        for on_error in ["keep", "close"] {
            let hook = users();
            let more = "timeout = \"300ms\"";
            let (_folder, router) = launch_with(driver, on_error, &hook.url(), &format!("on_error = \"{on_error}\""), more);
            let mut client = connect(&router);
            let mut check = |frame: &[u8], code: u16, words: &str, reason: &str| {
                client.send_bytes(frame);
                assert_eq!(client.expect(), json!({"code": code, "msg": words}));
                eventually("a counted error", || errors(&router, reason) == 1.0);
                if on_error == "close" {
                    client.expect_close(4000 + code);
                    client = connect(&router);
                }
            };
            let text = |text: &str| frame(ws::Kind::Text, text.as_bytes());
            check(&frame(ws::Kind::Binary, br#"{"op":"auth","token":"x"}"#), 9, "Text frames only", "text_only");
            check(&text("{\u{201c}op\u{201d}:1}"), 2, "Invalid JSON", "invalid_json");
            check(&text(r#"{"op":"join"}"#), 3, "Unknown op", "unknown_op");
            check(&text(r#"{"op":"subscribe","channel":"@other"}"#), 4, "Invalid channel", "invalid_channel");
            let auth = text(r#"{"op":"auth","token":"x"}"#);
            hook.set(|_| Reply::Status(401, String::new()));
            check(&auth, 5, "Auth failed", "auth_failed");
            // A hook that cannot be asked lets nobody in, whatever is wrong with it.
            let failures = [
                Reply::Status(500, String::new()),
                Reply::Never,
                Reply::Status(200, "garbage".to_owned()),
                Reply::Bytes(b"no HTTP at all\r\n\r\n".to_vec()),
            ];
            for (before, reply) in failures.into_iter().enumerate() {
                hook.set(move |_| reply.clone());
                let mut client = connect(&router);
                client.send_bytes(&auth);
                assert_eq!(client.expect(), json!({"code": 6, "msg": "Auth backend unavailable"}));
                eventually("a counted failure", || errors(&router, "auth_unavailable") == (before + 1) as f64);
                if on_error == "close" {
                    client.expect_close(4006);
                } else {
                    assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), json!({"code": 1, "msg": "Not Auth"}));
                    assert_eq!(client.ask(json!({"op": "subscribe", "channel": "1@video"})), done());
                }
            }
        }
    }

    fn s2_08_large_and_odd_uids_are_exact(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "uids", &hook.url(), "");
        for uid in ["9007199254740993", "18446744073709551615", "u-01"] {
            let mut client = user(&router, uid);
            Client::join(router.wamp).publish(&format!("user:{uid}"), json!([uid]));
            assert_eq!(client.expect(), json!({"event": "@user", "data": uid}));
        }
    }

    fn s2_09_plain_text_is_delivered_byte_for_byte(driver: &str) {
        let hook = users();
        let (_folder, router) = launch_with(driver, "plain", &hook.url(), "", "[resp]\nbind = \"127.0.0.1:0\"");
        let mut backend = Resp::connect(Resp::port_of(&router));
        let devices: Vec<Client> = (0..4).map(|_| user(&router, "1001")).collect();
        let mut streams: Vec<TcpStream> = devices.into_iter().map(Client::into_stream).collect();
        let article = r#"{"event":"@user","data":{"uid":1001,"msg":"Hello,World!"}}"#;
        for (said, kind) in [(article.as_bytes(), 1), (b" {\"a\":1.50 }\n", 1), (b"", 1), ("é".as_bytes(), 1), (b"\0\x01b\xff", 2)] {
            backend.send(&[b"PUBLISH", b"user:1001", said]);
            assert_eq!(backend.hear(), redis::Value::Integer(4));
            for stream in &mut streams {
                let mut heard = vec![0; 2 + said.len()];
                stream.read_exact(&mut heard).expect("it comes");
                assert_eq!(heard[..2], [0x80 | kind, said.len() as u8], "one whole frame");
                assert_eq!(heard[2..], *said);
            }
        }
    }

    fn s2_14_other_paths_are_told_which_ones_there_are(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "paths", &hook.url(), "");
        let elsewhere = get(router.wamp, "/chat");
        assert!(status(&elsewhere) == 404 && elsewhere.contains("/message-center"), "{elsewhere}");
    }

    /// As many tokens as users, each on several devices, and all come back at once.
    fn s2_16_a_herd_logs_in(driver: &str) {
        const USERS: usize = 2_500;
        const DEVICES: usize = 4;
        // What a client may wait with such a hook; five times that on a machine that does other things.
        const WAIT_MAX: Duration = Duration::from_secs(10);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let hook = {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            HookServer::start(move |asked| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                now.fetch_sub(1, Ordering::SeqCst);
                Reply::json(&json!({"uid": asked.field("token")}))
            })
        };
        let more = "max_in_flight = 32\nqueue = 16384\ncache = \"10m\"\ntimeout = \"10s\"";
        let (_folder, router) = launch_with(driver, "herd", &hook.url(), "", more);
        let mut clients: Vec<Client> = (0..USERS * DEVICES).map(|_| connect(&router)).collect();
        let began = Instant::now();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(json!({"op": "auth", "token": (number % USERS).to_string()}));
            client.send(json!({"op": "subscribe", "channel": "@user"}));
        }
        let mut longest = Duration::ZERO;
        for client in &mut clients {
            assert_eq!([client.expect(), client.expect()], [done(), done()]);
            longest = longest.max(began.elapsed());
        }
        println!("{} clients were in after {longest:?}", clients.len());
        assert!(longest <= 5 * WAIT_MAX, "{longest:?}");
        assert_eq!(hook.asked().len(), USERS, "equal tokens are asked about once");
        assert!(most.load(Ordering::SeqCst) <= 32, "{most:?} requests at once");
        // Each hears its own.
        let mut publisher = Client::join(router.wamp);
        for uid in [0, USERS / 2, USERS - 1] {
            publisher.publish(&format!("user:{uid}"), json!([uid]));
            for device in 0..DEVICES {
                assert_eq!(clients[uid + device * USERS].expect(), json!({"event": "@user", "data": uid}));
            }
        }
    }

    fn s2_18_the_barrage_and_the_exchange(driver: &str) {
        let hook = users();
        let (_folder, router) = launch(driver, "examples", &hook.url(), "");
        let mut publisher = Client::join(router.wamp);
        // Without a login, as the barrage has it.
        let mut viewer = connect(&router);
        assert_eq!(viewer.ask(json!({"op": "subscribe", "channel": "100001@video"})), done());
        publisher.publish("video:100001", json!([{"uid": 1, "msg": "666"}]));
        assert_eq!(viewer.expect(), json!({"event": "100001@video", "data": {"uid": 1, "msg": "666"}}));
        for kind in ["depth", "trades", "markprice", "ticker", "kline"] {
            let channel = format!("BTCUSDT@{kind}");
            assert_eq!(viewer.ask(json!({"op": "subscribe", "channel": channel})), done());
            publisher.publish(&format!("ex:{channel}"), json!([kind]));
            assert_eq!(viewer.expect(), json!({"event": channel, "data": kind}));
        }
        for kind in ["balance", "order", "position", "account"] {
            let channel = format!("@{kind}");
            assert_eq!(viewer.ask(json!({"op": "subscribe", "channel": channel})), json!({"code": 1, "msg": "Not Auth"}));
        }
        assert_eq!(viewer.ask(json!({"op": "auth", "token": "token of 1001"})), done());
        for kind in ["balance", "order", "position", "account"] {
            let channel = format!("@{kind}");
            assert_eq!(viewer.ask(json!({"op": "subscribe", "channel": channel})), done());
            publisher.publish(&format!("ex:1001@{kind}"), json!([kind]));
            assert_eq!(viewer.expect(), json!({"event": channel, "data": kind}));
            let other = format!("1002@{kind}");
            assert_eq!(viewer.ask(json!({"op": "subscribe", "channel": other})), json!({"code": 4, "msg": "Invalid channel"}));
        }
        // The login took no channel away.
        publisher.publish("video:100001", json!(["still there"]));
        assert_eq!(viewer.expect(), json!({"event": "100001@video", "data": "still there"}));
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
    let _program = Beside(Command::new("python3").arg(script).spawn().expect("python3 is installed"));
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
    Http::connect(router.wamp).post("/v1/publish", &json!({"topic": "ex:1001@balance", "args": [7]}));
    assert_eq!(joe.expect(), json!({"event": "@balance", "data": 7}));
}
