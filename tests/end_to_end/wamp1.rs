//! WAMP version 1 as the real process speaks it: to raw sockets, and to the last Autobahn that spoke it.
//!
//! `FANWIRE_PYTHON2` names a Python 2.7, and `FANWIRE_PYTHON2_MODULES` a folder with what `requirements-python2.txt` names;
//! `cargo xtask test` makes both where there is such a Python.

use std::net::SocketAddr;
use std::process::Command;

use fanwire_codec::ws::Kind;
use serde_json::{Value, json};

use crate::clients::{script, tool};
use crate::support::{Client, Heard, Http, Launch, PATIENCE, Plain, Router, Said, eventually};

/// A client of version 1, and its session's id.
fn connect(address: SocketAddr) -> (Plain, String) {
    let mut client = Plain::try_offer(address, "/ws", &["wamp"]).unwrap_or_else(|answer| panic!("{answer}"));
    let welcome = hear(&mut client);
    assert_eq!((&welcome[0], &welcome[2]), (&json!(0), &json!(1)), "{welcome}");
    assert!(welcome[3].as_str().expect("its name").starts_with("fanwire/"));
    (client, welcome[1].as_str().expect("an id").to_owned())
}

fn say(client: &mut Plain, message: &Value) {
    client.send_text(&message.to_string());
}

fn hear(client: &mut Plain) -> Value {
    match client.hear() {
        Said::Text(text) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

/// All that it has said before is done.
fn settle(client: &mut Plain) {
    say(client, &json!([2, "settle", "nobody.registers.this"]));
    let answer = hear(client);
    assert_eq!((&answer[0], &answer[1]), (&json!(4), &json!("settle")), "{answer}");
}

/// Answers calls with their arguments until its connection ends.
fn serve(address: SocketAddr, procedure: &str) -> std::net::TcpStream {
    let mut callee = Client::join(address);
    callee.register(procedure);
    let stream = callee.writer();
    std::thread::spawn(move || {
        while let Some(Heard::Message(message)) = callee.hear_within(PATIENCE) {
            let args = message.get(4).cloned().unwrap_or_else(|| json!([]));
            callee.send(json!([70, message[1], {}, args]));
        }
    });
    stream
}

on_both_drivers! {
    fn both_versions_are_spoken_at_one_path(driver: &str) {
        let router = Launch::on(driver).start();
        let (mut old, id) = connect(router.wamp);
        let mut new = Client::join(router.wamp);
        new.subscribe("demo.chat");
        say(&mut old, &json!([5, "demo.chat"]));
        say(&mut old, &json!([7, "demo.chat", {"text": "hi"}, false]));
        assert_eq!(hear(&mut old), json!([8, "demo.chat", {"text": "hi"}]));
        assert_eq!(new.expect_event(), json!([{"text": "hi"}]));
        new.publish("demo.chat", json!(["answer"]));
        assert_eq!(hear(&mut old), json!([8, "demo.chat", "answer"]));
        Http::connect(router.wamp).post("/v1/publish", &json!({"topic": "demo.chat", "args": [1, 2]}));
        assert_eq!(hear(&mut old), json!([8, "demo.chat", {"args": [1, 2], "kwargs": {}}]));
        let callee = serve(router.wamp, "demo.echo");
        say(&mut old, &json!([1, "demo", "demo."]));
        say(&mut old, &json!([2, "call 1", "demo:echo", [1, "2"]]));
        assert_eq!(hear(&mut old), json!([3, "call 1", [1, "2"]]));
        drop(callee);
        assert_eq!(router.metric("fanwire_sessions", "protocol=\"wamp1\""), 1.0);
        let listed = Http::connect(router.wamp).ask("GET", "/v1/sessions").body;
        let listed: Value = serde_json::from_slice(&listed).expect("JSON");
        let is_it = |session: &&Value| session["protocol"] == "wamp1";
        let session = listed["sessions"].as_array().expect("a list").iter().find(is_it).expect("it is listed");
        assert_eq!(session["session"].to_string().trim_matches('"'), id);
        drop(old);
        eventually("its end", || router.metric("fanwire_sessions", "protocol=\"wamp1\"") == 0.0);
    }

    fn the_newer_version_is_taken_where_both_are_offered(driver: &str) {
        let router = Launch::on(driver).start();
        let mut both = Plain::try_offer(router.wamp, "/ws", &["wamp", "wamp.2.json"]).expect("it is known");
        say(&mut both, &json!([1, "realm1", {"roles": {"caller": {}}}]));
        assert_eq!(hear(&mut both)[0], 2);
        let refused = Plain::try_offer(router.wamp, "/ws", &["wamp.1"]).err().expect("nobody speaks that");
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.trim_end().ends_with("batched, wamp."), "{refused}");
        // Version 1 is JSON, and an endpoint may be without.
        let endpoints = "{ \"/one\" = { protocol = \"wamp\", realm = \"realm1\" }, \"/two\" = { protocol = \"wamp\", serializers = [\"cbor\"] } }";
        let router = Launch::on(driver).set("listener.0.endpoints", endpoints).start();
        let mut one = Plain::try_offer(router.wamp, "/one", &["wamp"]).expect("it is its realm");
        assert_eq!(hear(&mut one)[0], 0);
        let refused = Plain::try_offer(router.wamp, "/two", &["wamp"]).err().expect("there is no JSON");
        assert!(refused.trim_end().ends_with("one of: wamp.2.cbor, wamp.2.cbor.batched."), "{refused}");
        // Where it is turned off, and where nobody may come in without a login.
        for (key, value) in [("wamp1.realm", "none"), ("realm.0.anonymous_role", "none")] {
            let router = Launch::on(driver).set(key, value).start();
            let refused = Plain::try_offer(router.wamp, "/ws", &["wamp"]).err().expect("it is not spoken");
            assert!(refused.starts_with("HTTP/1.1 400 ") && refused.trim_end().ends_with("cbor.batched."), "{refused}");
        }
    }

    fn configured_names_are_topics_and_procedures_of_version_2(driver: &str) {
        let names = "[{ v1 = \"http://example.com/event#\", v2 = \"com.example.event.\" }]";
        let router = Launch::on(driver).set("wamp1.name", names).start();
        let (mut old, _) = connect(router.wamp);
        let mut new = Client::join(router.wamp);
        new.subscribe("com.example.event.chat");
        say(&mut old, &json!([1, "event", "http://example.com/event#"]));
        say(&mut old, &json!([5, "event:chat"]));
        say(&mut old, &json!([7, "event:chat", 1, false]));
        assert_eq!(hear(&mut old), json!([8, "http://example.com/event#chat", 1]));
        assert_eq!(new.expect_event(), json!([1]));
        let _callee = serve(router.wamp, "com.example.event.echo");
        say(&mut old, &json!([2, "1", "event:echo", null]));
        assert_eq!(hear(&mut old), json!([3, "1", null]));
    }

    fn who_breaks_the_protocol_is_told_and_nobody_else_is_disturbed(driver: &str) {
        let router = Launch::on(driver).start();
        let (mut bystander, _) = connect(router.wamp);
        say(&mut bystander, &json!([5, "t"]));
        settle(&mut bystander);
        for (kind, message, code, words) in [
            (Kind::Text, &b"hello"[..], 1002, "the message has something that is no JSON value at byte 0"),
            (Kind::Text, b"[5]", 1002, "SUBSCRIBE ends before topicURI"),
            (Kind::Text, br#"[2,7,"p"]"#, 1002, "CALL: callID must be a string"),
            (Kind::Text, br#"[7,"t",1,[],[],1]"#, 1002, "PUBLISH has too many elements"),
            (Kind::Text, br#"[48,1,{},"p"]"#, 1002, "48 is no message type of WAMP version 1"),
            (Kind::Text, br#"[8,"t",1]"#, 1002, "EVENT is sent by servers only"),
            (Kind::Binary, br#"[5,"t"]"#, 1003, "messages of WAMP version 1 are text"),
        ] {
            let (mut client, _) = connect(router.wamp);
            client.send(kind, message);
            assert_eq!(client.hear(), Said::Close(code, words.to_owned()));
            assert_eq!(client.hear(), Said::End);
        }
        let (mut publisher, _) = connect(router.wamp);
        say(&mut publisher, &json!([7, "t", "still here?"]));
        assert_eq!(hear(&mut bystander), json!([8, "t", "still here?"]));
        assert_eq!(router.metric("fanwire_protocol_violations_total", ""), 7.0);
    }

    fn the_last_autobahn_of_version_1(driver: &str) {
        if let Some((python, modules)) = tool("FANWIRE_PYTHON2").zip(tool("FANWIRE_PYTHON2_MODULES")) {
            let router = Launch::on(driver).start();
            let _callee = serve(router.wamp, "demo.echo");
            let answering = answer_in_version_2(&router);
            let mut command = Command::new(python);
            // Variables of the other Python's would lead this one to modules that it cannot read.
            command.env_remove("PYTHONHOME").env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1");
            command.env("FANWIRE_PYTHON2_MODULES", modules);
            let output = command.arg(script("autobahn_v1.py")).args(["--url", &router.url()]).output();
            let output = output.expect("the interpreter starts");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            println!("{said}");
            assert!(output.status.success(), "{said}");
            answering.shutdown(std::net::Shutdown::Both).expect("it is open");
            eventually("all of them having gone", || router.metric("fanwire_sessions", "protocol=\"wamp1\"") == 0.0);
        }
    }
}

/// Publishes what comes to `demo.ask` to `demo.reply`, in version 2.
fn answer_in_version_2(router: &Router) -> std::net::TcpStream {
    let mut client = Client::join(router.wamp);
    client.subscribe("demo.ask");
    let stream = client.writer();
    std::thread::spawn(move || {
        while let Some(Heard::Message(message)) = client.hear_within(PATIENCE) {
            client.send(json!([16, 2, {}, "demo.reply", message[4]]));
        }
    });
    stream
}
