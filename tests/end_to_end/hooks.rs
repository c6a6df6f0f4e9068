//! Hooks: a program of the operator's decides who may come in, subscribe and publish; and what it does to others when it fails.

use std::collections::HashSet;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanwire_stress::control::Control;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Asked, Client, Folder, HookServer, Launch, PATIENCE, Reply, Router, binary, eventually,
};

/// Far more than anything healthy waits, on a machine that does much else.
const SLACK: Duration = Duration::from_secs(20);

/// A router whose hook is asked about these events, for topics below `ask.`.
fn launch(driver: &str, name: &str, url: &str, events: &[&str], more: &str) -> (Folder, Launch) {
    let folder = Folder::new(&format!("hooks-{name}-{driver}"));
    let file = folder.write("fanwire.toml", &configuration(url, events, more));
    let launch = Launch::on(driver).argument("--config").argument(&file);
    (folder, launch)
}

fn configuration(url: &str, events: &[&str], more: &str) -> String {
    format!(
        r#"
[[realm]]
name = "realm1"
[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe"]
[[hook]]
name = "backend"
url = "{url}"
events = {events:?}
uri = "ask."
{more}
"#
    )
}

/// Says HELLO to log in by this ticket, and sends it.
fn log_in(router: &Router, ticket: &str) -> Client {
    let mut client = Client::connect(router.wamp);
    let roles = json!({"publisher": {}, "subscriber": {}});
    let challenge = client.ask(json!([1, "realm1", {"roles": roles, "authmethods": ["ticket"]}]));
    assert_eq!(challenge, json!([4, "ticket", {}]));
    client.send(json!([5, ticket, {}]));
    client
}

/// What ERROR says for this request.
fn error(answer: &Value, request: u64) -> String {
    assert_eq!((&answer[0], &answer[2]), (&json!(8), &json!(request)), "{answer}");
    answer[4].as_str().expect("a URI").to_owned()
}

fn aborted(client: &mut Client, code: u16) -> String {
    let abort = client.expect();
    assert_eq!(abort[0], 3, "{abort}");
    client.expect_close(code);
    abort[2].as_str().expect("a URI").to_owned()
}

fn results(router: &Router, event: &str, result: &str) -> f64 {
    let labels = format!("event=\"{event}\",result=\"{result}\"");
    router.metric("fanwire_hook_requests_total", &labels)
}

on_both_drivers! {
    fn a_hook_decides_who_logs_in(driver: &str) {
        let hook = HookServer::start(|asked| match asked.field("token").as_str() {
            Some("good \"é\"\n") => Reply::json(&json!({"uid": 1001, "extra": {"name": "Joe"}})),
            Some("king") => Reply::json(&json!({"uid": "joe", "role": "king"})),
            Some("full") => Reply::json(&json!({"allow": false, "error": "com.shop.full", "message": "come later"})),
            _ => Reply::Status(401, "<html>".into()),
        });
        let (_folder, launch) = launch(driver, "logins", &hook.url(), &["authenticate"], "role = \"member\"");
        let router = launch.start();
        let mut joe = log_in(&router, "good \"é\"\n");
        let welcome = joe.expect();
        let expected = json!({"authid": "1001", "authrole": "member", "authmethod": "ticket", "authprovider": "hook", "authextra": {"name": "Joe"}});
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(&welcome[2][key], value, "{welcome}");
        }
        joe.subscribe("com.topic");
        assert_eq!(aborted(&mut log_in(&router, "bad"), 1008), "wamp.error.authentication_denied");
        assert_eq!(aborted(&mut log_in(&router, "full"), 1008), "com.shop.full");
        // A role that does not exist is no answer, and nobody is let in by no answer.
        assert_eq!(aborted(&mut log_in(&router, "king"), 1013), "wamp.error.authentication_failed");
        let asked = hook.asked();
        assert!(asked[0].head.starts_with("POST /hook HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[0].head.to_lowercase().contains("content-type: application/json\r\n"), "{asked:?}");
        let body: Value = serde_json::from_str(&asked[0].body).expect("JSON");
        let client = body["client"].as_str().expect("a text");
        assert!(client.parse::<u64>().is_ok(), "{client}");
        let expected = json!({"event": "authenticate", "realm": "realm1", "client": client, "token": "good \"é\"\n"});
        assert_eq!(body, expected);
        eventually("two refusals being logged", || router.said().matches("login refused").count() == 2);
        assert_eq!([results(&router, "authenticate", "allowed"), results(&router, "authenticate", "denied"), results(&router, "authenticate", "invalid")], [1.0, 2.0, 1.0]);
        assert!(!router.said().contains("good"), "a ticket was logged");
        // Anonymous clients are none of its business.
        Client::join(router.wamp);
    }

    fn a_hook_is_told_the_fields_that_it_wants(driver: &str) {
        let hook = HookServer::start(|_| Reply::json(&json!({"uid": 1001})));
        let (_folder, launch) = launch(driver, "fields", &hook.url(), &["authenticate"], "role = \"member\"\nfields = [\"token\"]");
        assert_eq!(log_in(&launch.start(), "***").expect()[0], 2);
        assert_eq!(hook.asked()[0].body, "{\"token\":\"***\"}");
    }

    fn a_hook_decides_on_requests_and_their_order_is_kept(driver: &str) {
        let hook = HookServer::start(|asked| match asked.field("topic").as_str() {
            Some("ask.no") => Reply::deny(),
            Some("ask.words") => Reply::json(&json!({"allow": false, "error": "com.shop.closed", "message": "closed"})),
            _ => Reply::After(Duration::from_millis(100), Box::new(Reply::allow())),
        });
        let (_folder, launch) = launch(driver, "requests", &hook.url(), &["subscribe", "publish"], "");
        let router = launch.start();
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        bob.subscribe("ask.yes");
        bob.subscribe("free");
        assert_eq!(error(&bob.ask(json!([32, 7, {}, "ask.no"])), 7), "wamp.error.not_authorized");
        let refused = bob.ask(json!([32, 8, {"match": "prefix"}, "ask.no"]));
        assert_eq!(error(&refused, 8), "wamp.error.not_authorized", "a pattern is no way round");
        assert_eq!(error(&bob.ask(json!([32, 9, {}, "ask.words"])), 9), "com.shop.closed");
        // In one go: each waits for the one before, whoever is asked about it.
        let frames: Vec<u8> = (0..10)
            .flat_map(|number| {
                let topic = if number % 2 == 0 { "ask.yes" } else { "free" };
                Client::frame(&json!([16, number + 1, {"acknowledge": true}, topic, [number]]))
            })
            .collect();
        alice.send_bytes(&frames);
        for number in 0..10 {
            assert_eq!(alice.expect()[1], json!(number + 1));
            assert_eq!(bob.expect_event(), json!([number]));
        }
        assert_eq!(error(&alice.ask(json!([16, 11, {"acknowledge": true}, "ask.no", [1]])), 11), "wamp.error.not_authorized");
        let published = hook.asked().into_iter().find(|asked| asked.field("event") == "publish").expect("it was asked");
        assert_eq!((published.field("args"), published.field("role")), (json!([0]), json!("anonymous")));
        assert!(published.field("session").is_u64() && published.field("authid").as_str().is_some_and(|authid| authid.starts_with("anonymous-")));
        assert_eq!(hook.count("publish"), 6, "nobody asks about other topics");
        assert_eq!(results(&router, "publish", "allowed"), 5.0);
    }

    fn a_hook_lets_sessions_in_and_hears_of_their_end(driver: &str) {
        let is_full = Arc::new(AtomicU64::new(0));
        let full = Arc::clone(&is_full);
        let hook = HookServer::start(move |asked| match asked.field("event").as_str() {
            Some("connect") if full.load(Ordering::Relaxed) == 1 => Reply::deny(),
            Some("connect") => Reply::json(&json!({"authid": "guest-7", "role": "member"})),
            _ => Reply::Status(500, "nobody cares".into()),
        });
        let (_folder, launch) = launch(driver, "connect", &hook.url(), &["connect", "disconnect"], "");
        let mut router = launch.start();
        let mut alice = Client::connect(router.wamp);
        let welcome = alice.ask(json!([1, "realm1", {"roles": {"publisher": {}}}]));
        let details = &welcome[2];
        assert_eq!((&details["authid"], &details["authrole"], &details["authmethod"]), (&json!("guest-7"), &json!("member"), &json!("anonymous")), "{welcome}");
        is_full.store(1, Ordering::Relaxed);
        let mut bob = Client::connect(router.wamp);
        bob.send(json!([1, "realm1", {"roles": {"publisher": {}}}]));
        assert_eq!(aborted(&mut bob, 1008), "wamp.error.not_authorized");
        alice.close(1000);
        eventually("the end being told", || hook.count("disconnect") == 1);
        let told = hook.asked().into_iter().find(|asked| asked.field("event") == "disconnect").expect("as above");
        assert_eq!((told.field("session"), told.field("authid")), (welcome[1].clone(), json!("guest-7")));
        // What is told at the very end is told, too.
        is_full.store(0, Ordering::Relaxed);
        let mut carol = Client::join(router.wamp);
        router.signal(Signal::TERM);
        assert_eq!(carol.expect()[0], 6);
        carol.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
        carol.expect_close(1001);
        assert!(router.wait(PATIENCE).success());
        assert_eq!(hook.count("disconnect"), 2);
    }

    /// Slow, failing, talking nonsense, too much, or elsewhere: who waits for it is refused, and nobody else notices.
    fn a_hook_that_fails_harms_only_who_waits_for_it(driver: &str) {
        let elsewhere = HookServer::start(|_| Reply::json(&json!({"uid": 1, "role": "member"})));
        let hook = HookServer::start(|_| Reply::allow());
        // Nothing that is counted as something else runs out of this time, however busy the machine.
        let more = "role = \"member\"\ntimeout = \"2s\"";
        let events = ["authenticate", "subscribe", "publish"];
        let (_folder, launch) = launch(driver, "fails", &hook.url(), &events, more);
        let router = launch.start();
        let control = Control::start(&router);
        let mut victim = Client::join(router.wamp);
        let redirect = format!("HTTP/1.1 307 X\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
        let huge = format!("HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n{{\"uid\":1,\"x\":\"{}\"}}", "x".repeat(1_000_000));
        let endless = format!("HTTP/1.1 200 X\r\n{}", "x-field: more\r\n".repeat(100_000));
        let modes: [(&str, Reply); 9] = [
            ("timeout", Reply::Never),
            ("status", Reply::Status(500, "{\"uid\":1,\"role\":\"member\"}".into())),
            ("invalid", Reply::Status(200, "<html>it works</html>".into())),
            ("invalid", Reply::Bytes(b"\x00\x01\x02 no HTTP at all\r\n\r\n".to_vec())),
            ("too_large", Reply::Bytes(huge.into_bytes())),
            ("invalid", Reply::Bytes(endless.into_bytes())),
            ("redirect", Reply::Bytes(redirect.into_bytes())),
            ("unreachable", Reply::Bytes(b"HTTP/1.1 200 X\r\nContent-Length: 30\r\n\r\n{\"uid\"".to_vec())),
            ("timeout", Reply::After(Duration::from_secs(6), Box::new(Reply::allow()))),
        ];
        let mut request = 100;
        for (result, reply) in modes {
            hook.set(|_| Reply::json(&json!({"uid": 1, "role": "member"})));
            // The breaker is closed again, and has nothing to remember.
            for _ in 0..20 {
                eventually("a good answer", || log_in(&router, "x").expect()[0] == 2);
            }
            let before = results(&router, "subscribe", result) + results(&router, "publish", result);
            hook.set(move |_| reply.clone());
            request += 2;
            assert_eq!(error(&victim.ask(json!([32, request, {}, "ask.a"])), request), "wamp.error.authorization_failed");
            let publish = json!([16, request + 1, {"acknowledge": true}, "ask.a", [1]]);
            assert_eq!(error(&victim.ask(publish), request + 1), "wamp.error.authorization_failed");
            assert_eq!(aborted(&mut log_in(&router, "x"), 1013), "wamp.error.authentication_failed", "{result}");
            let now = results(&router, "subscribe", result) + results(&router, "publish", result);
            assert_eq!(now, before + 2.0, "{result} was not counted");
            // Its session goes on, with what nobody is asked about.
            victim.publish("free", json!([1]));
        }
        assert_eq!(elsewhere.asked().len(), 0, "a redirect was followed");
        // Down.
        drop(hook);
        eventually("a refused connection", || {
            request += 1;
            error(&victim.ask(json!([32, request, {}, "ask.a"])), request) == "wamp.error.authorization_failed"
                && results(&router, "subscribe", "unreachable") > 0.0
        });
        control.go_on(50);
        control.finish(SLACK);
        assert_eq!(router.metric("fanwire_hook_in_flight", ""), 0.0);
    }

    fn a_hook_that_fails_is_left_alone_and_found_again(driver: &str) {
        let hook = HookServer::start(|_| Reply::Status(503, String::new()));
        let (_folder, launch) = launch(driver, "breaker", &hook.url(), &["subscribe"], "");
        let router = launch.start();
        let mut client = Client::join(router.wamp);
        for request in 1..=20 {
            assert_eq!(error(&client.ask(json!([32, request, {}, "ask.a"])), request), "wamp.error.authorization_failed");
        }
        assert_eq!(router.metric("fanwire_hook_breaker_open", ""), 1.0);
        let (asked, began) = (hook.asked().len(), Instant::now());
        for request in 21..=120 {
            assert_eq!(error(&client.ask(json!([32, request, {}, "ask.a"])), request), "wamp.error.authorization_failed");
        }
        let spared = results(&router, "subscribe", "breaker_open");
        assert_eq!(spared, (120 - hook.asked().len()) as f64);
        let tried = hook.asked().len() - asked;
        assert!(tried as u64 <= began.elapsed().as_secs() + 1, "{tried} in {:?}", began.elapsed());
        hook.set(|_| Reply::allow());
        let mut request = 200;
        eventually("the hook being asked again", || {
            request += 1;
            client.ask(json!([32, request, {}, "ask.a"]))[0] == 33
        });
        assert_eq!(router.metric("fanwire_hook_breaker_open", ""), 0.0);
        eventually("both being logged", || {
            let said = router.said();
            said.contains("the hook fails") && said.contains("the hook answers again")
        });
    }

    /// One is asked, one waits, and the others are told at once that it is too much.
    fn questions_have_a_bound(driver: &str) {
        let hook = HookServer::start(|_| Reply::Never);
        let more = "max_in_flight = 1\nqueue = 1\ntimeout = \"5s\"";
        let (_folder, launch) = launch(driver, "bound", &hook.url(), &["publish"], more);
        let router = launch.start();
        let mut clients: Vec<_> = (0..10).map(|_| Client::join(router.wamp)).collect();
        for client in &mut clients {
            client.send(json!([16, 1, {"acknowledge": true}, "ask.a", []]));
        }
        for client in &mut clients {
            assert_eq!(error(&client.expect(), 1), "wamp.error.authorization_failed");
        }
        let busy = results(&router, "publish", "busy");
        assert!((6.0..10.0).contains(&busy), "{busy}");
        assert_eq!(hook.asked().len() as f64 + busy, 10.0);
    }

    fn equal_questions_are_asked_once(driver: &str) {
        let hook = HookServer::start(|asked| {
            let reply = Reply::json(&json!({"uid": asked.field("token"), "role": "member"}));
            Reply::After(Duration::from_millis(300), Box::new(reply))
        });
        let (_folder, launch) = launch(driver, "once", &hook.url(), &["authenticate"], "cache = \"1h\"");
        let router = launch.start();
        let tokens = ["ann", "bob"];
        let mut clients: Vec<_> = (0..20).map(|number| log_in(&router, tokens[number % 2])).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let welcome = client.expect();
            assert_eq!(welcome[2]["authid"], tokens[number % 2], "{welcome}");
        }
        assert_eq!(hook.asked().len(), 2);
        let spared = results(&router, "authenticate", "coalesced") + results(&router, "authenticate", "cached");
        assert_eq!(spared, 18.0);
        assert_eq!(log_in(&router, "bob").expect()[2]["authid"], "bob");
        assert_eq!(hook.asked().len(), 2);
        assert_eq!(log_in(&router, "eve").expect()[2]["authid"], "eve");
        assert_eq!(hook.asked().len(), 3);
    }

    /// `on_failure = "allow"` is for requests; nobody logs in by an outage.
    fn an_outage_may_count_as_yes_but_not_for_logins(driver: &str) {
        let hook = HookServer::start(|_| Reply::allow());
        let url = hook.url();
        drop(hook);
        let more = "on_failure = \"allow\"\nrole = \"member\"";
        let (_folder, launch) = launch(driver, "outage", &url, &["connect", "subscribe", "authenticate"], more);
        let router = launch.start();
        let mut client = Client::join(router.wamp);
        client.subscribe("ask.a");
        assert_eq!(aborted(&mut log_in(&router, "x"), 1013), "wamp.error.authentication_failed");
        assert!(router.said().contains("everything that it would decide on is allowed"), "{}", router.said());
    }

    /// A client can bring about refusals and strange questions, but not that the hook is left alone.
    fn a_client_cannot_make_the_hook_look_broken(driver: &str) {
        let hook = HookServer::start(|asked| match asked.field("topic").as_str() {
            Some("ask.strange") => Reply::Status(422, "what is that?".into()),
            _ => Reply::allow(),
        });
        let (_folder, launch) = launch(driver, "client", &hook.url(), &["publish"], "");
        let router = launch.start();
        let mut client = Client::join(router.wamp);
        for request in 1..=40 {
            let answer = client.ask(json!([16, request, {"acknowledge": true}, "ask.strange", []]));
            assert_eq!(error(&answer, request), "wamp.error.authorization_failed");
        }
        assert_eq!(client.ask(json!([16, 41, {"acknowledge": true}, "ask.a", []]))[0], 17);
        assert_eq!(results(&router, "publish", "status"), 40.0);
        assert_eq!(router.metric("fanwire_hook_breaker_open", ""), 0.0);
    }

    /// What cannot be asked is refused and not asked about in part, even where an outage counts as yes.
    fn what_has_no_form_is_refused(driver: &str) {
        let hook = HookServer::start(|_| Reply::json(&json!({"allow": true, "role": "member"})));
        let more = "body = \"header\"\non_failure = \"allow\"";
        let (_folder, launch) = launch(driver, "form", &hook.url(), &["authenticate"], more);
        let router = launch.start();
        let log_in = |bytes: usize| {
            let mut client = Client::connect(router.wamp);
            let details = json!({"roles": {"publisher": {}}, "authmethods": ["ticket"], "authid": "joe"});
            assert_eq!(client.ask(json!([1, "realm1", details])), json!([4, "ticket", {}]));
            client.send(json!([5, "x".repeat(bytes), {}]));
            client
        };
        assert_eq!(aborted(&mut log_in(4_097), 1008), "wamp.error.invalid_argument");
        assert_eq!(hook.asked().len(), 0);
        assert_eq!(results(&router, "authenticate", "untranslatable"), 1.0);
        assert_eq!(log_in(4_096).expect()[2]["authid"], "joe");
    }

    /// What is known already does not wait behind what is not.
    fn a_known_answer_waits_for_nobody(driver: &str) {
        let hook = HookServer::start(|asked| match asked.field("event").as_str() {
            Some("publish") => Reply::Never,
            _ => Reply::json(&json!({"uid": 1, "role": "member"})),
        });
        let more = "max_in_flight = 1\ntimeout = \"10s\"\ncache = \"1h\"";
        let (_folder, launch) = launch(driver, "known", &hook.url(), &["authenticate", "publish"], more);
        let router = launch.start();
        assert_eq!(log_in(&router, "x").expect()[0], 2);
        let mut others: Vec<_> = (0..3).map(|_| Client::join(router.wamp)).collect();
        for client in &mut others {
            client.send(json!([16, 1, {"acknowledge": true}, "ask.a", []]));
        }
        eventually("one being asked about", || hook.count("publish") == 1);
        for _ in 0..5 {
            assert_eq!(log_in(&router, "x").expect()[0], 2);
        }
        let answered = ["timeout", "busy"].map(|result| results(&router, "publish", result));
        assert_eq!((answered, hook.count("authenticate")), ([0.0, 0.0], 1), "they came first");
    }

    /// Where answers do not hold, each ticket is asked about for itself: it may be good for once.
    fn a_ticket_for_one_login_is_asked_about_each_time(driver: &str) {
        let hook = HookServer::start(|_| Reply::After(Duration::from_millis(200), Box::new(Reply::json(&json!({"uid": 1, "role": "member"})))));
        let (_folder, launch) = launch(driver, "tickets", &hook.url(), &["authenticate"], "");
        let router = launch.start();
        let mut clients: Vec<_> = (0..5).map(|_| log_in(&router, "once")).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.expect()[0], 2));
        assert_eq!(hook.asked().len(), 5);
    }

    /// Two anonymous clients are not one, whatever the hook makes of them.
    fn anonymous_clients_are_told_apart(driver: &str) {
        let count = AtomicU64::new(0);
        let hook = HookServer::start(move |_| {
            let reply = Reply::json(&json!({"uid": format!("guest-{}", count.fetch_add(1, Ordering::Relaxed))}));
            Reply::After(Duration::from_millis(200), Box::new(reply))
        });
        let (_folder, launch) = launch(driver, "apart", &hook.url(), &["connect"], "cache = \"1h\"");
        let router = launch.start();
        let mut clients: Vec<_> = (0..5).map(|_| Client::connect(router.wamp)).collect();
        for client in &mut clients {
            client.send(json!([1, "realm1", {"roles": {"publisher": {}}}]));
        }
        let names: HashSet<String> = clients.iter_mut().map(|client| client.expect()[2]["authid"].to_string()).collect();
        assert_eq!(names.len(), 5, "{names:?}");
    }

    /// A server may close a kept connection just when the next request comes.
    fn a_closed_connection_is_no_failure(driver: &str) {
        let count = AtomicU64::new(0);
        let hook = HookServer::start(move |_| match count.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Reply::Bytes(Vec::new()),
            _ => Reply::allow(),
        });
        let (_folder, launch) = launch(driver, "closed", &hook.url(), &["publish"], "");
        let router = launch.start();
        let mut client = Client::join(router.wamp);
        for request in 1..=3 {
            assert_eq!(client.ask(json!([16, request, {"acknowledge": true}, "ask.a", []]))[0], 17);
        }
        assert_eq!((hook.asked().len(), results(&router, "publish", "allowed")), (6, 3.0));
    }

    /// The process ends in its time while sessions wait, and those that leave leave nothing.
    fn nobody_waits_for_who_has_left(driver: &str) {
        let hook = HookServer::start(|_| Reply::Never);
        let (_folder, launch) = launch(driver, "leaves", &hook.url(), &["connect", "publish"], "timeout = \"10s\"");
        let mut router = launch.start();
        // Too few for the breaker.
        for number in 0..15 {
            let mut client = Client::connect(router.wamp);
            client.send(json!([1, "realm1", {"roles": {"publisher": {}}}]));
            if number % 2 == 0 {
                client.close(1000);
            }
        }
        eventually("all being gone", || router.metric("fanwire_connections_open", "") == 0.0);
        let asked = hook.asked().len();
        let mut waiting = Client::connect(router.wamp);
        waiting.send(json!([1, "realm1", {"roles": {"publisher": {}}}]));
        eventually("it being asked about", || hook.asked().len() > asked);
        router.signal(Signal::TERM);
        waiting.expect_close(1001);
        assert!(router.wait(PATIENCE).success());
    }
}

/// The same question in its three forms.
#[test]
fn bodies_are_json_forms_or_headers() {
    let hook = HookServer::start(|_| Reply::allow());
    for (body, in_head, in_body) in [
        ("json", "content-type: application/json\r\n", "\"topic\":\"ask.a\",\"args\":[\"ä b\"]"),
        (
            "form",
            "content-type: application/x-www-form-urlencoded\r\n",
            "&topic=ask.a&args=%5B%22%C3%A4+b%22%5D",
        ),
        ("header", "x-fanwire-topic: ask.a\r\n", ""),
    ] {
        let more = format!("body = \"{body}\"\nheaders = {{ authorization = \"Bearer xyz\" }}");
        let (_folder, launch) = launch("epoll", body, &hook.url(), &["publish"], &more);
        let router = launch.start();
        Client::join(router.wamp).publish("ask.a", json!(["ä b"]));
        let Asked { head, body } = hook.asked().pop().expect("it was asked");
        let head = head.to_lowercase();
        assert!(head.contains(in_head) && head.contains("authorization: bearer xyz\r\n"), "{head}");
        assert!(body.contains(in_body) && body.is_empty() == in_body.is_empty(), "{body}");
    }
}

/// What it says, and how it exits.
fn hook_test(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary()).args(["hook", "test"]).args(arguments).output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("UTF-8"))
}

#[test]
fn hook_test_shows_question_answer_and_verdict() {
    let hook = HookServer::start(|asked| match asked.field("token").as_str() {
        Some("secret") => Reply::json(&json!({"uid": 1001, "extra": {"a": 1}})),
        _ => Reply::Status(403, "{\"message\":\"not you\"}".into()),
    });
    let folder = Folder::new("hook-test");
    let config = configuration(&hook.url(), &["authenticate", "publish"], "role = \"member\"");
    let file = folder.write("fanwire.toml", &config);
    let (status, said) = hook_test(&["-c", &file, "--authid", ""]);
    assert_eq!(status, Some(0), "{said}");
    for part in [
        "hook \"backend\" is asked about authenticate\n",
        &format!("> POST {}\n", hook.url()),
        "> {\"event\":\"authenticate\",\"realm\":\"realm1\",\"client\":\"4503599627370497\",\"token\":\"secret\"}\n",
        "< status 200\n",
        "< {\"extra\":{\"a\":1},\"uid\":1001}\n",
        "authid \"1001\", role \"member\", extra {\"a\":1}\n",
    ] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    let (status, said) = hook_test(&["-c", &file, "--event", "publish"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("\"topic\":\"ask.demo\",\"args\":[\"hello\",1]")
            && said.contains("denied after")
            && said.contains("not you"),
        "{said}"
    );
    let (status, said) = hook_test(&["--url", "http://127.0.0.1:1/"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("refused") && said.contains("a router would take that for: denied"), "{said}");
    for (arguments, words) in [
        (&["-c", &file, "--name", "other"][..], "there is no hook \"other\"; hooks: backend"),
        (&["-c", &file, "--event", "connect"], "no hook of the configuration is asked about that"),
        (&[], "the configuration has no hook"),
        (&["--url", "ftp://a/"], "does not begin with http:// or https://"),
        (&["-c", &file, "--args", "{}"], "is not a list in JSON"),
    ] {
        let (status, said) = hook_test(arguments);
        assert!(status == Some(2) && said.contains(words), "{said}");
    }
}

/// The example of the page, as it stands there.
#[test]
fn the_example_of_the_documentation_works() {
    let page = include_str!("../../docs/hooks.md");
    let part = |language: &str| {
        let (_, rest) = page.split_once(&format!("```{language}\n")).expect("it is there");
        rest.split_once("```").expect("it ends").0.to_owned()
    };
    let folder = Folder::new("hooks-documented");
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a free port");
    let port = free.port().to_string();
    let script = folder.write("hook.py", &part("python").replace("8000", &port));
    let _program = Running(Command::new("python3").arg(script).spawn().expect("python3 is installed"));
    eventually("the example listening", || std::net::TcpStream::connect(free).is_ok());
    let file = folder.write("fanwire.toml", &part("toml").replace("8000", &port));
    let router = Launch::on("epoll").argument("--config").argument(&file).start();
    let mut joe = log_in_to(&router, "shop", "joe's token");
    assert_eq!(joe.expect()[2]["authid"], "joe");
    assert_eq!(error(&joe.ask(json!([32, 1, {}, "shop.user.ann"])), 1), "wamp.error.not_authorized");
    joe.subscribe("shop.user.joe");
    assert_eq!(
        aborted(&mut log_in_to(&router, "shop", "nobody's"), 1008),
        "wamp.error.authentication_denied"
    );
}

/// Ended with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn log_in_to(router: &Router, realm: &str, ticket: &str) -> Client {
    let mut client = Client::connect(router.wamp);
    let challenge = client.ask(json!([1, realm, {"roles": {"subscriber": {}}, "authmethods": ["ticket"]}]));
    assert_eq!(challenge, json!([4, "ticket", {}]));
    client.send(json!([5, ticket, {}]));
    client
}
