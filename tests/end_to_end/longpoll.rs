//! WAMP over HTTP long-polling: sessions beside those of WebSockets, on whichever shard; and what breaks the rules.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::clients::{script, tool};
use crate::http_api_described::{examples, run};
use crate::support::{Answer, Client, Folder, Http, Launch, PATIENCE, Router, connect, eventually};
use crate::tls::{self, Set};

const TOPIC: &str = "com.fanwire.polled";
/// For [`Launch::set`].
pub const ENDPOINTS: [&str; 2] = ["listener.0.endpoints", "{\"/ws\"=\"wamp\",\"/poll\"=\"wamp-longpoll\"}"];

/// A router whose clients may poll below `/poll`.
pub fn launch(driver: &str) -> Launch {
    let [key, value] = ENDPOINTS;
    Launch::on(driver).set(key, value).set("limits.poll_idle", "300s")
}

/// A session that is polled. What it asks for and what it says go by connections of their own, which are of two shards where
/// there are two.
pub struct Polled {
    pub asking: Http,
    saying: Http,
    pub base: String,
}

impl Polled {
    pub fn open(address: SocketAddr, protocol: &str) -> Self {
        let mut asking = Http::connect(address);
        let answer = asking.post("/poll/open", &json!({ "protocols": [protocol] }));
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
        let opened = answer.json();
        assert_eq!(opened["protocol"], protocol);
        let base = format!("/poll/{}", opened["transport"].as_str().expect("an id"));
        Self { asking, saying: Http::connect(address), base }
    }

    pub fn join(address: SocketAddr) -> Self {
        let mut polled = Self::open(address, "wamp.2.json");
        let roles = json!({ "subscriber": {}, "publisher": {}, "caller": {}, "callee": {} });
        polled.say(&json!([1, "realm1", { "roles": roles }]));
        assert_eq!(polled.hear()[0], 2);
        polled
    }

    pub fn send(&mut self, body: &str) -> Answer {
        self.saying.post_as(&format!("{}/send", self.base), "application/json", body)
    }

    pub fn say(&mut self, message: &Value) {
        let answer = self.send(&message.to_string());
        assert_eq!((answer.status, &answer.body[..]), (204, &b""[..]), "{answer:?}");
    }

    /// Asks for something, and waits for the answer.
    pub fn receive(&mut self) -> Answer {
        self.asking.ask("POST", &format!("{}/receive", self.base))
    }

    /// Asks for something.
    pub fn begin_receive(&mut self) {
        let request = format!("POST {}/receive HTTP/1.1\r\n{}\r\n", self.base, self.asking.fields);
        self.asking.send(request.as_bytes());
    }

    /// The next message, however often that must be asked for.
    pub fn hear(&mut self) -> Value {
        loop {
            let answer = self.receive();
            match answer.status {
                200 => return answer.json(),
                204 => {}
                _ => panic!("{answer:?}"),
            }
        }
    }

    pub fn subscribe(&mut self, topic: &str) {
        self.say(&json!([32, 1, {}, topic]));
        assert_eq!(self.hear()[0], 33);
    }

    pub fn close(&mut self) -> Answer {
        self.saying.ask("POST", &format!("{}/close", self.base))
    }
}

pub fn ended(router: &Router, reason: &str) -> f64 {
    router.metric("fanwire_longpoll_sessions_ended_total", &format!("reason=\"{reason}\""))
}

fn sessions(router: &Router) -> f64 {
    router.metric("fanwire_longpoll_sessions", "")
}

on_both_drivers! {
    fn polled_sessions_and_websockets_share_topics_and_procedures(driver: &str) {
        for shards in ["1", "2"] {
            let router = launch(driver).argument("--shards").argument(shards).start();
            let mut polled = Polled::join(router.wamp);
            let mut other = Polled::join(router.wamp);
            let mut web = Client::join(router.wamp);
            polled.subscribe(TOPIC);
            web.subscribe(TOPIC);
            web.publish(TOPIC, json!(["from the web"]));
            assert_eq!(polled.hear()[4], json!(["from the web"]));
            polled.say(&json!([16, 7, { "acknowledge": true }, TOPIC, ["polled"]]));
            let published = polled.hear();
            assert_eq!((&published[0], &published[1]), (&json!(17), &json!(7)));
            assert_eq!(web.expect_event(), json!(["polled"]));

            polled.say(&json!([64, 8, {}, "com.fanwire.twice"]));
            assert_eq!(polled.hear()[0], 65);
            for caller in ["web", "polled"] {
                // It waits for the call before there is one.
                polled.begin_receive();
                let call = json!([48, 9, {}, "com.fanwire.twice", [caller]]);
                if caller == "web" { web.send(call) } else { other.say(&call) }
                let invocation = polled.asking.answer("POST").json();
                assert_eq!((&invocation[0], &invocation[4]), (&json!(68), &json!([caller])));
                polled.say(&json!([70, invocation[1], {}, [caller, caller]]));
                let result = if caller == "web" { web.expect() } else { other.hear() };
                assert_eq!(result, json!([50, 9, {}, [caller, caller]]));
            }
            assert_eq!(sessions(&router), 2.0);
            polled.say(&json!([6, {}, "wamp.close.normal"]));
            assert_eq!(polled.hear(), json!([6, {}, "wamp.close.goodbye_and_out"]));
            eventually("the end of the session", || sessions(&router) == 1.0);
            assert_eq!(polled.receive().status, 404);
            // Autobahn closes what has said goodbye, and waits for the answer.
            assert_eq!(polled.close().status, 204);
            assert_eq!(other.close().status, 204);
            eventually("the end of the other one", || sessions(&router) == 0.0);
            assert_eq!((ended(&router, "router"), ended(&router, "client")), (1.0, 1.0));
            let forwarded = router.metric("fanwire_http_requests_forwarded_total", "outcome=\"sent\"");
            assert_eq!(forwarded > 0.0, shards == "2", "{forwarded} on {shards} shards");
        }
    }

    fn events_of_one_publisher_come_in_order_however_they_are_fetched(driver: &str) {
        let router = launch(driver).start();
        let mut polled = Polled::join(router.wamp);
        polled.subscribe(TOPIC);
        let mut web = Client::join(router.wamp);
        for number in 0..300 {
            web.publish(TOPIC, json!([number, "x".repeat(number)]));
        }
        for number in 0..300 {
            assert_eq!(polled.hear()[4][0], number);
        }
    }

    fn a_batch_brings_all_that_waits_and_takes_several(driver: &str) {
        let router = launch(driver).start();
        let mut polled = Polled::open(router.wamp, "wamp.2.json.batched");
        let roles = json!({ "subscriber": {}, "publisher": {} });
        let hello = json!([1, "realm1", { "roles": roles }]);
        let publish = json!([16, 2, { "acknowledge": true, "exclude_me": false }, TOPIC, ["all"]]);
        // Behind HELLO, as over WebSocket.
        let batch = format!("{hello}\x1e{}\x1e{publish}\x1e", json!([32, 1, {}, TOPIC]));
        assert_eq!(polled.send(&batch).status, 204);
        let mut codes = Vec::new();
        while codes.len() < 4 {
            let answer = polled.receive();
            assert_eq!(answer.status, 200);
            let text = String::from_utf8(answer.body).expect("JSON");
            for message in text.strip_suffix('\x1e').expect("a batch").split('\x1e') {
                codes.push(serde_json::from_str::<Value>(message).expect("JSON")[0].clone());
            }
        }
        assert_eq!(codes, [2, 33, 36, 17]);
        let answer = polled.send("[16,3,{},\"a\"]");
        assert_eq!(answer.status, 400, "it does not end with 0x1E");
        assert!(String::from_utf8_lossy(&polled.receive().body).contains("[3,"), "ABORT");
        assert_eq!(polled.receive().status, 404);
    }

    fn the_binary_serializers_are_spoken(driver: &str) {
        let router = launch(driver).start();
        let msgpack = b"\x93\x01\xa6realm1\x81\xa5roles\x81\xaasubscriber\x80";
        let cbor = b"\x83\x01\x66realm1\xa1\x65roles\xa1\x6asubscriber\xa0";
        for (protocol, hello, welcome, content) in [
            ("wamp.2.msgpack", &msgpack[..], b"\x93\x02", "application/msgpack"),
            ("wamp.2.cbor", cbor, b"\x83\x02", "application/cbor"),
            ("wamp.2.msgpack.batched", msgpack, b"\x93\x02", "application/octet-stream"),
            ("wamp.2.cbor.batched", cbor, b"\x83\x02", "application/octet-stream"),
        ] {
            let mut polled = Polled::open(router.wamp, protocol);
            let prefix = if protocol.ends_with("batched") { &[0, 0, 0, hello.len() as u8][..] } else { &[] };
            let body = [prefix, hello].concat();
            let head = format!("POST {}/send HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", polled.base, body.len());
            polled.asking.send(&[head.as_bytes(), &body].concat());
            assert_eq!(polled.asking.answer("POST").status, 204);
            let answer = polled.receive();
            assert_eq!((answer.status, answer.field("content-type")), (200, Some(content)));
            assert_eq!(answer.body[prefix.len()..][..2], *welcome);
            if !prefix.is_empty() {
                let length = u32::from_be_bytes(answer.body[..4].try_into().unwrap());
                assert_eq!(length as usize, answer.body.len() - 4);
            }
        }
    }

    fn requests_of_a_connection_are_answered_one_after_another(driver: &str) {
        let router = launch(driver).start();
        let polled = Polled::join(router.wamp);
        let mut client = Http::connect(router.wamp);
        // All at once, with a body in chunks; the one that waits is answered before what comes behind it.
        let (base, count) = (&polled.base, 40);
        let mut requests = String::new();
        for number in 0..count {
            let message = json!([16, number + 1, { "acknowledge": true }, TOPIC]).to_string();
            requests += &format!("POST {base}/send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            let (first, second) = message.split_at(5);
            requests += &format!("5\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", second.len());
            requests += &format!("POST {base}/receive?x={number} HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        client.send(requests.as_bytes());
        for number in 0..count {
            assert_eq!(client.answer("POST").status, 204);
            assert_eq!(client.answer("POST").json()[1], number + 1);
        }
        client.begin(&format!("{base}/send"), "Content-Length: 15");
        client.send(b"[32,1,{},\"abc\"]");
        assert_eq!(client.answer("POST").status, 204);
        client.send(format!("POST {base}/receive HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(client.answer("POST").json()[0], 33);
        assert!(client.has_ended());
        let mut older = Http::connect(router.wamp);
        older.send(format!("POST {base}/send HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n").as_bytes());
        let answer = older.answer("POST");
        assert_eq!((answer.status, answer.field("connection")), (204, Some("close")));
        assert!(older.has_ended(), "it is not told that it may stay");
    }

    fn what_is_no_request_of_long_polling_is_told_so(driver: &str) {
        let router = launch(driver).start();
        let mut polled = Polled::join(router.wamp);
        let (base, gone) = (polled.base.clone(), format!("/poll/3f{}", "0".repeat(40)));
        let other_secret = format!("{}{}", &base[..base.len() - 1], if base.ends_with('0') { '1' } else { '0' });
        let cases: &[(&str, String, &str, u16)] = &[
            ("POST", "/poll/open".into(), "", 400),
            ("POST", "/poll/open".into(), "{}", 400),
            ("POST", "/poll/open".into(), "{\"protocols\":[]}", 400),
            ("POST", "/poll/open".into(), "{\"protocols\":[\"wamp.2.flatbuffers\"]}", 400),
            ("POST", "/poll/open".into(), "[\"wamp.2.json\"]", 400),
            ("GET", "/poll/open".into(), "", 405),
            ("GET", format!("{base}/receive"), "", 405),
            ("POST", "/poll/".into(), "", 404),
            ("POST", "/poll/abc/receive".into(), "", 404),
            ("POST", format!("{base}/fetch"), "", 404),
            ("POST", base.clone(), "", 404),
            ("POST", format!("{gone}/receive"), "", 404),
            ("POST", format!("{gone}/send"), "[]", 404),
            ("POST", format!("{gone}/close"), "", 204),
            ("POST", format!("{other_secret}/receive"), "", 404),
        ];
        for (method, path, body, status) in cases {
            let mut client = Http::connect(router.wamp);
            let answer = if *method == "POST" { client.post_as(path, "text/plain", body) } else { client.ask(method, path) };
            assert_eq!(answer.status, *status, "{method} {path} {body}: {answer:?}");
            assert_eq!(answer.body.is_empty(), *status == 204);
        }
        // Its session has noticed nothing.
        polled.subscribe(TOPIC);
        let mut client = Http::connect(router.wamp);
        client.send(format!("POST {base}/send HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").as_bytes());
        client.send(b"[\"\xC3]");
        assert_eq!(client.answer("POST").status, 400, "it is not UTF-8");
        assert_eq!(client.post(&format!("{base}/send"), &json!([32, 2, {}, TOPIC])).status, 204);
        let too_long = "x".repeat((1 << 20) + 1);
        assert_eq!(polled.send(&too_long).status, 413);
        let mut elsewhere = Http::connect(router.wamp);
        assert_eq!(elsewhere.ask("POST", &format!("{gone}/receive")).status, 404);
        assert_eq!(elsewhere.ask("POST", "/ws").status, 421);
        assert!(elsewhere.has_ended());
        // What is no message at all ends the session, which is told why.
        let mut wrong = Polled::join(router.wamp);
        assert_eq!(wrong.send("{}").status, 204);
        assert_eq!(wrong.hear()[0], 3, "ABORT");
        assert_eq!(wrong.receive().status, 404);
    }

    fn pages_of_other_origins_are_let_in_where_that_is_configured(driver: &str) {
        let router = launch(driver).set("listener.0.allowed_origins", "[\"https://app.example\"]").start();
        let ask = |origin: &str, method: &str, path: &str| {
            Http::connect(router.wamp).with(&format!("Origin: {origin}")).ask(method, path)
        };
        let preflight = ask("https://app.example", "OPTIONS", "/poll/open");
        assert_eq!(preflight.status, 204);
        for (field, value) in [
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "Content-Type"),
            ("access-control-allow-credentials", "true"),
            ("vary", "Origin"),
        ] {
            assert_eq!(preflight.field(field), Some(value));
        }
        let refused = ask("https://evil.example", "OPTIONS", "/poll/open");
        assert_eq!((refused.status, refused.field("access-control-allow-origin")), (403, None));
        assert!(String::from_utf8_lossy(&refused.body).contains("listener.allowed_origins"));
        assert_eq!(ask("https://evil.example", "POST", "/poll/open").status, 403);
        let wrong = ask("https://app.example", "POST", "/poll/open");
        assert_eq!((wrong.status, wrong.field("access-control-allow-origin")), (400, Some("https://app.example")));
        // The page is to see why, also where the head alone is refused.
        let wrong = ask("https://app.example", "GET", "/poll/open");
        assert_eq!((wrong.status, wrong.field("access-control-allow-origin")), (405, Some("https://app.example")));
        assert_eq!(sessions(&router), 0.0);
    }

    fn it_works_over_tls(driver: &str) {
        let endpoints = ENDPOINTS[1];
        let (authority, _folder, router) = Set::new(driver, "longpoll", "").set("listener.1.endpoints", endpoints).start();
        let mut stream = connect(tls::address(&router), &authority.client(), "localhost");
        speaks(&mut stream);
        assert!(router.said().contains("https://"), "{}", router.said());
    }

    fn it_works_on_unix_sockets(driver: &str) {
        let folder = Folder::new(&format!("longpoll-{driver}"));
        let socket = folder.path("a.sock");
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{socket}\"\n\
             endpoints = {{ \"/poll\" = \"wamp-longpoll\" }}\n"
        );
        let _router = Launch::on(driver).argument("--config").argument(&folder.write("a.toml", &text)).start();
        let mut stream = UnixStream::connect(&socket).expect("the router accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        speaks(&mut stream);
    }

    fn an_endpoint_may_be_for_one_realm_and_some_serializers(driver: &str) {
        let endpoints = "{\"/ws\"=\"wamp\",\"/poll\"={protocol=\"wamp-longpoll\",realm=\"realm2\",serializers=[\"json\"]}}";
        let router = launch(driver)
            .set(ENDPOINTS[0], endpoints)
            .set("realm", "[{name=\"realm1\",role=[{name=\"anonymous\"}]},{name=\"realm2\",role=[{name=\"anonymous\"}]}]")
            .start();
        let mut client = Http::connect(router.wamp);
        let refused = client.post("/poll/open", &json!({ "protocols": ["wamp.2.cbor"] }));
        assert_eq!(refused.status, 400);
        assert!(String::from_utf8_lossy(&refused.body).contains("wamp.2.json.batched"));
        let mut polled = Polled::open(router.wamp, "wamp.2.json");
        polled.say(&json!([1, "realm1", { "roles": { "caller": {} } }]));
        assert_eq!(polled.hear()[2], "wamp.error.no_such_realm");
    }

    /// The session of `docs/transports.md`, with curl.
    fn the_examples_of_the_page_work(driver: &str) {
        let router = launch(driver).start();
        let folder = Folder::new(&format!("longpoll-page-{driver}"));
        let page = include_str!("../../docs/transports.md");
        let (_, chapter) = page.split_once("## Long-polling").expect("a chapter");
        let (chapter, _) = chapter.split_once("\n## ").expect("it ends");
        let mut id = String::new();
        let mut count = 0;
        for (command, expected) in examples(chapter) {
            let ran = run(&folder, &command.replace("$ID", &id), &router, None);
            if let Some(expected) = &expected {
                ran.check(&command, Some(expected));
            } else {
                assert!(ran.output().ends_with("204"), "{command}: {}", ran.output());
            }
            if id.is_empty() {
                id = serde_json::from_str::<Value>(ran.output()).expect("JSON")["transport"].as_str().expect("an id").to_owned();
            }
            count += 1;
        }
        assert!(count > 4);
    }

    fn autobahn_for_browsers_speaks_it(driver: &str) {
        let Some(node) = tool("FANWIRE_NODE_MODULES").map(|_| "node") else { return };
        for shards in ["1", "2"] {
            let router = launch(driver).argument("--shards").argument(shards).start();
            let output = Command::new(node)
                .arg(script("longpoll.mjs"))
                .args(["--poll", &format!("http://{}/poll", router.wamp), "--url", &router.url()])
                .output()
                .expect("node starts");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            println!("{said}");
            assert!(output.status.success(), "{said}");
            eventually("the end of all sessions", || sessions(&router) == 0.0);
            assert_eq!(ended(&router, "idle"), 0.0);
        }
    }
}

/// Opens a session, says hello and hears WELCOME, all by one connection.
fn speaks(stream: &mut (impl Read + Write)) {
    let mut ask = |path: &str, body: &str| {
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            answer.push(byte[0]);
        }
        let head = String::from_utf8(answer).expect("text");
        let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        stream.read_exact(&mut body).expect("a body");
        (head, body)
    };
    let (_, opened) = ask("/poll/open", "{\"protocols\":[\"wamp.2.json\"]}");
    let opened: Value = serde_json::from_slice(&opened).expect("JSON");
    let base = format!("/poll/{}", opened["transport"].as_str().expect("an id"));
    let (head, _) = ask(&format!("{base}/send"), "[1,\"realm1\",{\"roles\":{\"caller\":{}}}]");
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let (_, welcome) = ask(&format!("{base}/receive"), "");
    assert!(welcome.starts_with(b"[2,"), "{}", String::from_utf8_lossy(&welcome));
}
