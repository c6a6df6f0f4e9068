//! What a session and a realm may have, a row a limit: beyond it there is an error that names its key, and the session goes on as before.

use serde_json::{Value, json};

use crate::support::{Client, Folder, Launch, Router};

const DOCUMENT: &str = include_str!("../../docs/limits.md");

/// A client that calls and is called in parts.
fn join(router: &Router) -> Client {
    let mut client = Client::connect(router.wamp);
    let able = json!({"features": {"progressive_call_invocations": true, "progressive_call_results": true, "call_canceling": true}});
    let roles = json!({"publisher": {}, "subscriber": {}, "caller": able, "callee": able});
    assert_eq!(client.ask(json!([1, "realm1", {"roles": roles}]))[0], 2);
    client
}

/// A callee that never answers, with a procedure of this name.
fn callee(router: &Router, procedure: &str) -> Client {
    let mut callee = join(router);
    callee.register(procedure);
    callee
}

/// All digits are one, since sizes of things kept in memory are nothing that a client counts on.
fn without_numbers(words: &str) -> String {
    let mut out = String::new();
    for character in words.chars() {
        match character {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            other => out.push(other),
        }
    }
    out
}

/// What is done at once, and one more, which is refused with these words.
struct Row {
    key: &'static str,
    done: Vec<Value>,
    refused: Value,
    words: &'static str,
}

fn each(count: u64, message: impl Fn(u64) -> Value) -> Vec<Value> {
    (1..=count).map(message).collect()
}

fn testament(request: u64, text: &str) -> Value {
    json!([48, request, {}, "wamp.session.add_testament", ["com.fanwire.last", [text], {}]])
}

fn rows() -> Vec<Row> {
    let call = |request: u64, options: Value| json!([48, request, options, "com.fanwire.never"]);
    let retained = |request: u64, text: &str| json!([16, request, {"acknowledge": true, "retain": true}, format!("com.fanwire.kept{request}"), [text]]);
    vec![
        Row {
            key: "limits.subscriptions_per_session",
            done: each(3, |n| json!([32, n, {}, format!("com.fanwire.{n}")])),
            refused: json!([32, 9, {}, "com.fanwire.more"]),
            words: "this session has N subscriptions, the most allowed (limits.subscriptions_per_session)",
        },
        Row {
            key: "limits.registrations_per_session",
            done: each(3, |n| json!([64, n, {}, format!("com.fanwire.{n}")])),
            refused: json!([64, 9, {}, "com.fanwire.more"]),
            words: "this session has N registrations, the most allowed (limits.registrations_per_session)",
        },
        Row {
            key: "limits.patterns_per_session",
            done: vec![
                json!([32, 1, {"match": "prefix"}, "com.fanwire.a"]),
                json!([64, 2, {"match": "wildcard"}, "com..a"]),
            ],
            refused: json!([32, 9, {"match": "wildcard"}, "com..b"]),
            words: "this session has N subscriptions and registrations by prefix or wildcard, the most allowed \
                    (limits.patterns_per_session)",
        },
        Row {
            key: "limits.patterns_per_realm",
            // Another session has as many.
            done: vec![],
            refused: json!([32, 9, {"match": "prefix"}, "com.fanwire.more"]),
            words: "the realm has N different patterns, the most allowed (limits.patterns_per_realm)",
        },
        Row {
            key: "limits.pending_calls_per_session",
            done: each(3, |n| call(n, json!({}))),
            refused: call(9, json!({})),
            words: "N calls of this session are waiting or were interrupted a moment ago, the most allowed \
                    (limits.pending_calls_per_session)",
        },
        Row {
            key: "limits.pending_calls_per_session",
            // Each is in parts, and their parts are no further calls.
            done: [
                each(3, |n| call(n, json!({"progress": true}))),
                each(3, |n| call(n, json!({"progress": true}))),
            ]
            .concat(),
            refused: call(9, json!({"progress": true})),
            words: "N calls of this session are waiting or were interrupted a moment ago, the most allowed \
                    (limits.pending_calls_per_session)",
        },
        Row {
            key: "limits.pending_invocations_per_session",
            done: vec![],
            refused: json!([48, 9, {}, "com.fanwire.busy"]),
            words: "the callee has too many calls waiting (limits.pending_invocations_per_session): try again later",
        },
        Row {
            key: "limits.retained_bytes_per_realm",
            done: vec![retained(1, "short")],
            refused: retained(9, &"x".repeat(5_000)),
            words: "there is no room to retain this event, which is not published: N bytes of retained events in the realm are \
                    the most allowed (limits.retained_bytes_per_realm). A publication with retain and without arguments \
                    frees its topic's",
        },
        Row {
            key: "limits.retained_per_realm",
            done: each(2, |n| retained(n, "short")),
            refused: retained(9, "short"),
            words: "there is no room to retain this event, which is not published: N retained events in the realm are the most \
                    allowed (limits.retained_per_realm). A publication with retain and without arguments frees its topic's",
        },
        Row {
            key: "limits.testaments_per_session",
            done: each(2, |n| testament(n, "short")),
            refused: testament(9, "short"),
            words: "this session has N testaments, the most allowed (limits.testaments_per_session): flush some with \
                    wamp.session.flush_testaments",
        },
        Row {
            key: "limits.testament_bytes_per_session",
            done: vec![testament(1, "short")],
            refused: testament(9, &"x".repeat(4 << 10)),
            words: "the testaments of this session would have N bytes, more than N (limits.testament_bytes_per_session): flush \
                    some with wamp.session.flush_testaments",
        },
        Row {
            key: "limits.testament_bytes_per_shard",
            // Another session has left as much.
            done: vec![],
            refused: testament(9, &"x".repeat(3_000)),
            words: "the testaments of all sessions here would have N bytes, more than N (limits.testament_bytes_per_shard): try \
                    again later",
        },
    ]
}

/// Others have filled it.
fn fill(key: &str, router: &Router) -> Vec<Client> {
    match key {
        "limits.patterns_per_realm" => {
            let two = |first: u64| {
                let mut client = Client::join(router.wamp);
                for n in first..first + 2 {
                    let prefix = format!("com.fanwire.pattern{n}");
                    assert_eq!(client.ask(json!([32, n, {"match": "prefix"}, prefix]))[0], 33);
                }
                client
            };
            [1, 3].map(two).into()
        }
        "limits.pending_invocations_per_session" => {
            let busy = callee(router, "com.fanwire.busy");
            let mut callers = [Client::join(router.wamp), Client::join(router.wamp)];
            for caller in &mut callers {
                for n in 1..=2 {
                    caller.send(json!([48, n, {}, "com.fanwire.busy"]));
                }
                // Both have been passed on when this is answered.
                caller.subscribe("com.fanwire.unheard");
            }
            [busy].into_iter().chain(callers).collect()
        }
        "limits.testament_bytes_per_shard" => {
            let mut client = Client::join(router.wamp);
            assert_eq!(client.ask(testament(1, &"x".repeat(3_000)))[0], 50);
            vec![client]
        }
        _ => vec![callee(router, "com.fanwire.never")],
    }
}

on_both_drivers! {
    fn each_limit_is_met_with_an_error_and_the_session_goes_on(driver: &str) {
        let mut wrong = Vec::new();
        for Row { key, done, refused, words } in rows() {
            assert!(DOCUMENT.contains(&format!("`{key}`")), "docs/limits.md does not tell of {key}");
            let router = Launch::on(driver)
                .argument("--shards")
                .argument("1")
                .set("limits.subscriptions_per_session", "3")
                .set("limits.registrations_per_session", "3")
                .set("limits.patterns_per_session", "2")
                .set("limits.patterns_per_realm", "4")
                .set("limits.pending_calls_per_session", "3")
                .set("limits.pending_invocations_per_session", "4")
                .set("limits.retained_per_realm", "2")
                .set("limits.retained_bytes_per_realm", "4KiB")
                .set("limits.testaments_per_session", "2")
                .set("limits.testament_bytes_per_session", "4KiB")
                .set("limits.testament_bytes_per_shard", "5KiB")
                .start();
            let _others = fill(key, &router);
            let mut client = join(&router);
            for message in done {
                let is_call = message[0] == 48 && message[3] == "com.fanwire.never";
                client.send(message.clone());
                if !is_call {
                    let answer = client.expect();
                    assert_ne!(answer[0], 8, "{key}: {message}: {answer}");
                }
            }
            let error = client.ask(refused.clone());
            let expected = json!([8, refused[0], refused[1], {}, "wamp.error.unavailable"]);
            assert_eq!(error[0], 8, "{key}: {error}");
            assert_eq!(json!(error.as_array().expect("ERROR")[..5]), expected, "{key}: {error}");
            let found = without_numbers(error[5][0].as_str().expect("words"));
            if found != words {
                wrong.push(format!("{key}: {found}"));
            }
            // All that it had it still has.
            let answer = client.ask(json!([16, 99, {"acknowledge": true}, "com.fanwire.probe"]));
            assert_eq!((&answer[0], &answer[1]), (&json!(17), &json!(99)), "{key}: {answer}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// What is bounded by forgetting what is oldest refuses nothing.
    fn a_history_is_full_when_its_oldest_events_make_room(driver: &str) {
        let folder = Folder::new(&format!("limits-{driver}"));
        let text = "[[realm]]\nname = \"realm1\"\n[[realm.topic]]\nuri = \"com.fanwire.\"\nmatch = \"prefix\"\nhistory = 2\n\
            [[realm.role]]\nname = \"anonymous\"\n[[realm.role.permission]]\nuri = \"\"\nmatch = \"prefix\"\n\
            allow = [\"publish\", \"subscribe\", \"call\"]\n";
        let router = Launch::on(driver).argument("--config").argument(&folder.write("fanwire.toml", text)).start();
        let mut client = Client::join(router.wamp);
        let id = client.subscribe("com.fanwire.log");
        for number in 1..=4 {
            assert_eq!(client.ask(json!([16, number, {"acknowledge": true}, "com.fanwire.log", [number]]))[0], 17);
        }
        let answer = client.ask(json!([48, 9, {}, "wamp.subscription.get_events", [id]]));
        let kept: Vec<_> = answer[3][0].as_array().expect("events").iter().map(|event| event["args"][0].clone()).collect();
        assert_eq!(kept, [3, 4], "{answer}");
    }

    /// Room that was given back can be used again, and what a session has already is no further one.
    fn room_that_was_given_back_is_used_again(driver: &str) {
        let router = Launch::on(driver)
            .set("limits.subscriptions_per_session", "1")
            .set("limits.testaments_per_session", "1")
            .set("limits.retained_per_realm", "1")
            .start();
        let mut client = Client::join(router.wamp);
        client.subscribe("com.fanwire.a");
        let again = client.subscribe("com.fanwire.a");
        assert_eq!(client.ask(json!([34, 20, again]))[0], 35);
        client.subscribe("com.fanwire.b");
        assert_eq!(client.ask(testament(21, "one"))[0], 50);
        assert_eq!(client.ask(testament(22, "two"))[0], 8);
        assert_eq!(client.ask(json!([48, 23, {}, "wamp.session.flush_testaments"]))[0], 50);
        assert_eq!(client.ask(testament(24, "three"))[0], 50);
        let retain = |request: u64, topic: &str, args: Value| json!([16, request, {"acknowledge": true, "retain": true}, topic, args]);
        assert_eq!(client.ask(retain(25, "com.fanwire.c", json!([1])))[0], 17);
        assert_eq!(client.ask(retain(26, "com.fanwire.d", json!([1])))[0], 8);
        assert_eq!(client.ask(json!([16, 27, {"acknowledge": true, "retain": true}, "com.fanwire.c"]))[0], 17);
        assert_eq!(client.ask(retain(28, "com.fanwire.d", json!([1])))[0], 17);
    }
}
