//! Each way in which a session ends, a row a case, with exactly what its client is told: over WebSocket, in batches and over RawSocket.
//!
//! A role that a reload takes away ends no session (`reload`), and a realm goes with a restart alone. Who reads nothing is cut without
//! words (`slow_consumers`), and a session that is good for a time ends as one that is killed (`login_tokens`).

use fanwire_codec::wamp2::Serializer;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    CHEAP_HASH, Folder, Framed, FramedHeard as Heard, Framing, Http, Launch, PATIENCE, Router, wire,
};

/// All that comes until the end; a GOODBYE is answered.
fn last_words(client: &mut Framed) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        heard.push(match client.next() {
            Heard::Message(message) => {
                if message[0] == 6 && message[2] != "wamp.close.goodbye_and_out" {
                    client.send(&[json!([6, {}, "wamp.close.goodbye_and_out"])]);
                }
                message.to_string()
            }
            Heard::Close(code, words) => format!("close {code} {words}").trim_end().to_owned(),
            Heard::End => return heard,
        });
    }
}

/// In its batches and frames each hears what it is told; RawSocket has no close frames, and ABORT for what they would say alone.
fn told(router: &Router, how: &str, websocket: &[&str], raw: &[&str], end: impl Fn(Framed, Value) -> Framed) {
    for framing in Framing::ALL {
        let mut client = Framed::connect(router.wamp, framing, Serializer::Json);
        client.send(&[wire::hello()]);
        let welcome = client.expect();
        assert_eq!(welcome[0], 2, "{welcome}");
        let mut client = end(client, welcome);
        let expected = if framing == Framing::RawSocket { raw } else { websocket };
        assert_eq!(last_words(&mut client), expected, "{how}, {framing:?}");
    }
}

/// The same of somebody who is not in.
fn told_stranger(router: &Router, how: &str, said: &[Value], websocket: &[&str], raw: &[&str]) {
    for framing in Framing::ALL {
        let mut client = Framed::connect(router.wamp, framing, Serializer::Json);
        client.send_each(said);
        let expected = if framing == Framing::RawSocket { raw } else { websocket };
        assert_eq!(last_words(&mut client), expected, "{how}, {framing:?}");
    }
}

on_both_drivers! {
    fn who_is_sent_away_is_told_why(driver: &str) {
        let router = Launch::on(driver).set("limits.message", "64KiB").start();
        let mut operator = Framed::join(router.wamp, Framing::WebSocket, Serializer::Json);
        let operator = std::cell::RefCell::new(&mut operator);
        let call = |procedure: &str, args: Value, kwargs: Value| {
            let mut operator = operator.borrow_mut();
            operator.send(&[json!([48, 7, {}, procedure, args, kwargs])]);
            assert_eq!(operator.expect()[0], 50, "{procedure}");
        };
        let reason = || json!({"reason": "com.example.banned", "message": "not here"});
        let killed: [&[&str]; 2] = [&[r#"[6,{},"wamp.close.killed"]"#, "close 1000"], &[r#"[6,{},"wamp.close.killed"]"#]];
        let banned: [&[&str]; 2] = [
            &[r#"[6,{"message":"not here"},"com.example.banned"]"#, "close 1000"],
            &[r#"[6,{"message":"not here"},"com.example.banned"]"#],
        ];
        for (kwargs, [websocket, raw]) in [(json!({}), killed), (reason(), banned)] {
            type Args = fn(&Value) -> Value;
            let by: [(&str, Args); 4] = [
                ("wamp.session.kill", |welcome| json!([welcome[1]])),
                ("wamp.session.kill_by_authid", |welcome| json!([welcome[2]["authid"]])),
                ("wamp.session.kill_by_authrole", |welcome| json!([welcome[2]["authrole"]])),
                ("wamp.session.kill_all", |_| json!([])),
            ];
            for (procedure, args) in by {
                told(&router, procedure, websocket, raw, |client, welcome| {
                    call(procedure, args(&welcome), kwargs.clone());
                    client
                });
            }
        }
        for (query, reason) in [("", "wamp.close.killed"), ("?reason=com.example.banned", "com.example.banned")] {
            let goodbye = format!(r#"[6,{{"message":"an administrator ended this session"}},"{reason}"]"#);
            told(&router, "by the HTTP API", &[&goodbye, "close 1000"], &[&goodbye], |client, welcome| {
                let answer = Http::connect(router.wamp).ask("DELETE", &format!("/v1/sessions/{}{query}", welcome[1]));
                assert_eq!(answer.status, 200);
                client
            });
        }
    }

    fn who_ends_it_is_answered(driver: &str) {
        let router = Launch::on(driver).set("limits.message", "64KiB").start();
        let goodbye = r#"[6,{},"wamp.close.goodbye_and_out"]"#;
        let says = |message: Value| move |mut client: Framed, _: Value| {
            client.send(std::slice::from_ref(&message));
            client
        };
        told(&router, "GOODBYE", &[goodbye, "close 1000"], &[goodbye], says(json!([6, {}, "wamp.close.close_realm"])));
        told(&router, "ABORT", &["close 1000"], &[], says(json!([3, {}, "com.example.enough"])));
        let violation = r#"[3,{"message":"WELCOME is sent by routers only"},"wamp.error.protocol_violation"]"#;
        told(&router, "a violation", &[violation, "close 1002"], &[violation], says(json!([2, 1, {}])));
        let second = r#"[3,{"message":"HELLO came a second time"},"wamp.error.protocol_violation"]"#;
        told(&router, "a second HELLO", &[second, "close 1002"], &[second], says(wire::hello()));
        // How long it is at least differs by what is around it.
        let long = says(json!([16, 1, {}, "a.b", ["x".repeat(64 << 10)]]));
        for framing in Framing::ALL {
            let client = Framed::join(router.wamp, framing, Serializer::Json);
            let heard = last_words(&mut long(client, Value::Null));
            let is_told = match framing {
                Framing::RawSocket => heard[0].ends_with(r#","wamp.error.payload_size_exceeded"]"#),
                _ => heard[0].starts_with("close 1009 the message has at least 6555"),
            };
            assert!(is_told && heard.len() == 1, "{framing:?}: {heard:?}");
        }
    }

    fn who_does_not_come_in_is_told_why(driver: &str) {
        let folder = Folder::new(&format!("ends-{driver}"));
        folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\n"));
        let text = "[[realm]]\nname = \"realm1\"\nanonymous_role = \"none\"\nusers_file = \"users.txt\"\n[[realm.role]]\nname = \"member\"\n";
        let file = folder.write("fanwire.toml", text);
        let router = Launch::on(driver).argument("--config").argument(&file).set("limits.login_time", "1s").start();
        let hello = |realm: &str, details: Value| {
            let mut all = json!({"roles": {"caller": {}}});
            all.as_object_mut().expect("a dictionary").extend(details.as_object().expect("another").clone());
            json!([1, realm, all])
        };
        let ticket = json!({"authmethods": ["ticket"], "authid": "joe"});
        let challenge = r#"[4,"ticket",{}]"#;
        let late = r#"[3,{"message":"no login within 1 s"},"wamp.error.timeout"]"#;
        let denied = r#"[3,{"message":"there is no such user, or its ticket, secret or key is another one"},"wamp.error.authentication_denied"]"#;
        let nowhere = r#"[3,{"message":"there is no realm \"nowhere\" here"},"wamp.error.no_such_realm"]"#;
        let no_method = r#"[3,{"message":"realm \"realm1\" offers only the method \"ticket\""},"wamp.error.no_matching_auth_method"]"#;
        let nobody = r#"[3,{"message":"realm \"realm1\" takes no anonymous sessions: log in by method \"ticket\""},"wamp.error.authentication_required"]"#;
        let early = r#"[3,{"message":"PUBLISH came before HELLO"},"wamp.error.protocol_violation"]"#;
        let login_time = "close 1008 no login within 1 s";
        for (how, said, websocket, raw) in [
            ("silence", vec![], vec![login_time], vec![late]),
            ("no answer to CHALLENGE", vec![hello("realm1", ticket.clone())], vec![challenge, login_time], vec![challenge, late]),
            (
                "a wrong ticket",
                vec![hello("realm1", ticket), json!([5, "wrong", {}])],
                vec![challenge, denied, "close 1008"],
                vec![challenge, denied],
            ),
            ("no such realm", vec![hello("nowhere", json!({}))], vec![nowhere, "close 1008"], vec![nowhere]),
            (
                "no method in common",
                vec![hello("realm1", json!({"authmethods": ["scram"]}))],
                vec![no_method, "close 1008"],
                vec![no_method],
            ),
            ("nobody in particular", vec![hello("realm1", json!({}))], vec![nobody, "close 1008"], vec![nobody]),
            ("something else before HELLO", vec![json!([16, 1, {}, "a.b"])], vec![early, "close 1002"], vec![early]),
        ] {
            told_stranger(&router, how, &said, &websocket, &raw);
        }
    }

    fn who_takes_too_long_is_told_so(driver: &str) {
        let router = Launch::on(driver).set("limits.message_time", "300ms").start();
        let abort = |words: &str| format!(r#"[3,{{"message":"{words}"}},"wamp.error.timeout"]"#);
        let words = "a message was not complete within 300 ms";
        told(&router, "half a message", &[&format!("close 1008 {words}")], &[&abort(words)], |mut client, _| {
            let is_raw = client.framing() == Framing::RawSocket;
            client.send_bytes(if is_raw { &[0, 0, 0, 9, b'['] } else { &[0x81, 0x89, 1, 2, 3, 4, 5] });
            client
        });
        // This client answers no pings.
        let router = Launch::on(driver).set("limits.ping_interval", "300ms").set("limits.pong_wait", "300ms").start();
        let words = "no sign of life within 300 ms of a ping";
        told(&router, "pings without an answer", &[&format!("close 1008 {words}")], &[&abort(words)], |client, _| client);
    }

    fn the_end_of_the_router_is_told_to_all(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "1s").start();
        let members = Framing::ALL.map(|framing| Framed::join(router.wamp, framing, Serializer::Json));
        let strangers = Framing::ALL.map(|framing| Framed::connect(router.wamp, framing, Serializer::Json));
        router.signal(Signal::TERM);
        let goodbye = r#"[6,{"message":"the router stops"},"wamp.close.system_shutdown"]"#;
        let abort = r#"[3,{"message":"the router stops"},"wamp.close.system_shutdown"]"#;
        for (mut client, expected) in members.into_iter().zip([&[goodbye, "close 1001"][..], &[goodbye, "close 1001"], &[goodbye]]) {
            assert_eq!(last_words(&mut client), expected);
        }
        for (mut client, expected) in strangers.into_iter().zip([&["close 1001 the router stops"][..], &["close 1001 the router stops"], &[abort]]) {
            assert_eq!(last_words(&mut client), expected);
        }
        assert!(router.wait(PATIENCE).success());
    }
}
