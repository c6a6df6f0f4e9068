//! Echo rooms: what one says, all in the room hear. Also the live-room article's own scenario and its client's program.

use std::time::{Duration, Instant};

use fanwire_codec::ws::Kind;
use serde_json::{Value, json};

use crate::support::{
    Client, Folder, Http, Launch, Plain, Program, Router, Said, eventually, get, reset, status,
};

/// Every path is a room's, but for `/ws`.
const ENDPOINTS: &str = "{ \"*\" = \"echo\", \"/ws\" = \"wamp\" }";
const HELLO: &str = "RECEIVED: hello world!";

fn launch(driver: &str) -> Launch {
    Launch::on(driver).set("listener.0.endpoints", ENDPOINTS)
}

fn sessions(router: &Router) -> f64 {
    router.metric("fanwire_sessions", "protocol=\"echo\"")
}

on_both_drivers! {
    fn s1_03_any_path_is_the_room(driver: &str) {
        let router = launch(driver).start();
        let mut clients: Vec<Plain> =
            ["/", "/any/path?x=1", "/", "/chat"].into_iter().map(|path| Plain::connect(router.wamp, path)).collect();
        eventually("all of them in the room", || sessions(&router) == 4.0);
        clients[0].send_text("hello world!");
        for client in &mut clients {
            assert_eq!(client.hear(), HELLO.into());
        }
    }

    fn s1_18_binary_stays_binary_with_its_prefix(driver: &str) {
        let router = launch(driver).start();
        let (mut a, mut b) = (Plain::connect(router.wamp, "/"), Plain::connect(router.wamp, "/"));
        a.send(Kind::Binary, b"\0\x01b");
        for client in [&mut a, &mut b] {
            assert_eq!(client.hear(), Said::Binary(b"RECEIVED: \0\x01b".to_vec()));
        }
    }

    fn a_room_is_a_topic_for_wamp_and_http(driver: &str) {
        let router = launch(driver)
            .set("echo.room", "[{ match = \"/room/{room}\", channel = \"room:{room}\" }]")
            .set("echo.template", "{name}: {payload}")
            .start();
        let mut ann = Plain::connect(router.wamp, "/room/%E7%9B%B4?name=Ann");
        let mut nobody = Plain::connect(router.wamp, "/room/%E7%9B%B4");
        let mut elsewhere = Plain::connect(router.wamp, "/room/2");
        let mut wamp = Client::join(router.wamp);
        wamp.subscribe("room:直");
        ann.send_text("hi");
        for client in [&mut ann, &mut nobody] {
            assert_eq!(client.hear(), "Ann: hi".into());
        }
        assert_eq!(wamp.expect_event(), json!(["Ann: hi"]));
        nobody.send_text("oh");
        assert_eq!(ann.hear(), "匿名: oh".into());
        let mut api = Http::connect(router.wamp);
        api.post("/v1/publish", &json!({"topic": "room:直", "args": ["data from PHP"]}));
        api.post("/v1/publish", &json!({"topic": "room:2", "args": [{"n": 1}]}));
        assert_eq!(ann.hear(), "data from PHP".into());
        assert_eq!(elsewhere.hear(), "{\"n\":1}".into());
        let refused = Plain::try_connect(router.wamp, "/chat", &[]).err().expect("there is no such room");
        assert!(status(&refused) == 404 && refused.contains("/room/{room}"), "{refused}");
    }

    fn s1_10_dead_peers_cost_nobody_a_message(driver: &str) {
        let router = launch(driver).start();
        let mut live = Plain::connect(router.wamp, "/");
        let dead: Vec<Plain> = (0..2).map(|_| Plain::connect(router.wamp, "/")).collect();
        eventually("all of them in the room", || sessions(&router) == 3.0);
        dead.into_iter().for_each(|peer| reset(peer.into_stream()));
        for number in 0..12 {
            live.send_text(&number.to_string());
            assert_eq!(live.hear(), Said::Text(format!("RECEIVED: {number}")));
        }
        eventually("the dead being gone", || sessions(&router) == 1.0);
    }

    fn s1_12_who_answers_no_ping_is_gone(driver: &str) {
        let router = launch(driver).set("limits.ping_interval", "500ms").set("limits.pong_wait", "1s").start();
        let mut silent = Plain::connect(router.wamp, "/");
        silent.answers_pings = false;
        let mut live = Plain::connect(router.wamp, "/");
        // The live one answers pings while it listens.
        let listener = std::thread::spawn(move || (live.hear(), live));
        let end = silent.hear();
        assert!(matches!(end, Said::Close(..) | Said::End), "{end:?}");
        eventually("the count", || router.metric("fanwire_connections_closed_total", "reason=\"pong_timeout\"") == 1.0);
        Client::join(router.wamp).publish("echo", json!(["still here?"]));
        let (heard, _live) = listener.join().expect("it listens");
        assert_eq!(heard, "still here?".into());
        assert_eq!(sessions(&router), 1.0);
    }

    fn s1_04_pages_of_other_origins_are_refused_with_the_setting(driver: &str) {
        let origin = |value| [("Origin", value)];
        let router = launch(driver).set("listener.0.allowed_origins", "[\"*\"]").start();
        for fields in [&[][..], &origin("null"), &origin("https://anywhere.example")] {
            Plain::try_connect(router.wamp, "/", fields).unwrap_or_else(|answer| panic!("{fields:?}: {answer}"));
        }
        let router = launch(driver).set("listener.0.allowed_origins", "[\"https://app.example.org\"]").start();
        for (fields, allowed) in [
            (&[][..], true),
            (&origin("https://app.example.org"), true),
            (&origin("https://evil.example"), false),
            (&origin("null"), false),
        ] {
            match Plain::try_connect(router.wamp, "/", fields) {
                Ok(_) => assert!(allowed, "{fields:?}"),
                Err(answer) => {
                    assert!(!allowed && status(&answer) == 403, "{fields:?}: {answer}");
                    assert!(answer.contains("allowed_origins"), "{answer}");
                }
            }
        }
    }

    fn s2_14_other_paths_are_404_and_list_what_there_is(driver: &str) {
        let router = Launch::on(driver)
            .set("listener.0.endpoints", "{ \"/chat\" = \"echo\", \"/ws\" = \"wamp\" }")
            .start();
        let answer = get(router.wamp, "/elsewhere");
        assert!(status(&answer) == 404 && answer.contains("/chat, /ws"), "{answer}");
        Plain::connect(router.wamp, "/chat");
    }
}

/// Half of the peers die by a reset while there is a lot to hear: the others miss nothing, in order.
#[test]
fn s1_10_a_hundred_thousand_messages_while_half_of_the_peers_die() {
    const MESSAGES: usize = 100_000;
    const EACH: usize = 4;
    let router = launch("epoll").start();
    let sender = Plain::connect(router.wamp, "/");
    let mut dying: Vec<Plain> = (0..EACH + 1).map(|_| Plain::connect(router.wamp, "/")).collect();
    let listen = |mut client: Plain| {
        std::thread::spawn(move || {
            for number in 0..MESSAGES {
                assert_eq!(client.hear(), Said::Text(format!("RECEIVED: {number}")));
            }
        })
    };
    let mut listeners: Vec<_> = (0..EACH).map(|_| listen(Plain::connect(router.wamp, "/"))).collect();
    eventually("all of them in the room", || sessions(&router) == (2 * EACH + 2) as f64);
    let mut words = sender.clone_for_writing();
    listeners.push(listen(sender));
    for number in 0..MESSAGES {
        words.send_text(&number.to_string());
        if number % (MESSAGES / (EACH + 2)) == MESSAGES / (EACH + 2) - 1
            && let Some(peer) = dying.pop()
        {
            reset(peer.into_stream());
        }
    }
    assert!(dying.is_empty(), "all of them died");
    drop(words);
    listeners.into_iter().for_each(|listener| listener.join().expect("it heard everything"));
    eventually("everybody being gone", || sessions(&router) == 0.0);
}

on_both_drivers! {
    fn s1_11_a_tick_comes_once_to_everybody(driver: &str) {
        const CLIENTS: usize = 100;
        const INTERVAL: Duration = Duration::from_secs(1);
        /// What an interval may be off; five times that here.
        const JITTER: Duration = Duration::from_millis(5);
        const TENS_MAX: usize = 4;
        let folder = Folder::new(&format!("echo-tick-{driver}"));
        let file = |payload: &str| {
            let tick = format!("[[tick]]\nname = \"clock\"\ntopic = \"echo\"\ninterval = \"1s\"\npayload = '{payload}'\n");
            let listener = format!("[[listener]]\nbind = \"127.0.0.1:0\"\nendpoints = {ENDPOINTS}\n");
            folder.write("fanwire.toml", &(listener + &tick))
        };
        let path = file("{\"n\":{seq},\"online\":{connections},\"at\":{now_ms}}");
        let router = Launch::on(driver).argument("--config").argument(&path).start();
        let mut clients: Vec<Plain> = (0..CLIENTS).map(|_| Plain::connect(router.wamp, "/")).collect();
        eventually("all of them in the room", || sessions(&router) == CLIENTS as f64);
        let said = |client: &mut Plain| match client.hear() {
            Said::Text(text) => serde_json::from_str::<Value>(&text).expect("JSON"),
            other => panic!("{other:?}"),
        };
        // The first that is for all of them.
        let mut last = said(&mut clients[0]);
        while last["online"].as_u64() < Some(CLIENTS as u64) {
            last = said(&mut clients[0]);
        }
        let mut last = last["n"].as_u64().expect("a number");
        let mut came = vec![Instant::now(); CLIENTS];
        for (client, came) in clients[1..].iter_mut().zip(&mut came[1..]) {
            while said(client)["n"] != last {}
            *came = Instant::now();
        }
        // Ten in a row: once each, in order, and a second apart. A busy machine makes some late, so the best of a few tens counts.
        let late = (0..TENS_MAX).map(|_| {
            let mut late: Vec<Duration> = Vec::with_capacity(10 * CLIENTS);
            for _ in 0..10 {
                last += 1;
                for (client, came) in clients.iter_mut().zip(&mut came) {
                    assert_eq!(said(client)["n"], last, "once each, and in order");
                    let since = std::mem::replace(came, Instant::now()).elapsed();
                    late.push(since.abs_diff(INTERVAL));
                }
            }
            late.sort_unstable();
            let p99 = late[late.len() * 99 / 100];
            println!("jitter: p50 {:?}, p99 {p99:?}", late[late.len() / 2]);
            p99
        });
        let late: Vec<Duration> = late.take_while(|p99| *p99 > 5 * JITTER).collect();
        assert!(late.len() < TENS_MAX, "the 99th of a hundred intervals is off by {late:?}");
        let published = router.metric("fanwire_ticks_total", "tick=\"clock\",result=\"published\"");
        assert!(published >= last as f64, "one publisher for all shards: {published}");
        // A reload changes it, and it goes on counting.
        file("tock {seq}");
        Program::start(&["reload", "--address", &router.admin.to_string()]).finish();
        let tock = loop {
            match clients[0].hear() {
                Said::Text(text) if text.starts_with("tock ") => break text,
                Said::Text(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(tock[5..].parse::<u64>().is_ok_and(|n| n > last), "{tock}");
        folder.write("fanwire.toml", &format!("[[listener]]\nbind = \"127.0.0.1:0\"\nendpoints = {ENDPOINTS}\n"));
        Program::start(&["reload", "--address", &router.admin.to_string()]).finish();
        eventually("its end", || !get(router.admin, "/metrics").contains("tick=\"clock\""));
    }

    fn s1_13_names_are_in_the_list_of_connections(driver: &str) {
        let router = launch(driver).start();
        let _nobody = Plain::connect(router.wamp, "/");
        let _ann = Plain::connect(router.wamp, "/?name=Ann");
        let _wamp = Client::join(router.wamp);
        eventually("both in the room", || sessions(&router) == 2.0);
        let address = router.admin.to_string();
        let (status, output, error) = Program::start(&["conn", "list", "--json", "--address", &address]).finish();
        assert!(status.success(), "{error}");
        let rows: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let mut names: Vec<(&str, Option<&str>)> = rows
            .iter()
            .map(|row| (row["protocol"].as_str().expect("a protocol"), row["name"].as_str()))
            .collect();
        names.sort_unstable();
        assert_eq!(names, [("echo", Some("Ann")), ("echo", Some("匿名")), ("wamp2", None)]);
        assert!(rows.iter().all(|row| row["session"].is_u64() && row["peer"].is_string()), "{rows:?}");
        // For people, and the first one alone.
        let (_, output, _) = Program::start(&["conn", "list", "-n", "1", "--address", &address]).finish();
        assert_eq!(output.lines().count(), 2, "{output}");
        assert!(output.starts_with("         SESSION NAME "), "{output}");
        // Presence by the HTTP API.
        let answer = get(router.wamp, "/v1/sessions");
        assert!(answer.contains("\"name\":\"匿名\""), "{answer}");
    }
}
