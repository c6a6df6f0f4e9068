//! Logins by several steps, with each field of each step missing, wrong, of another type, or from another login: the exact ABORT.

use std::time::{Duration, Instant};

use fanwire_control::login::prover::Prover;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

use crate::logins::aborted;
use crate::passwd::{done, private_key};

use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Launch, Router, connect, eventually};
use crate::tls::Set;

/// Cheap for clients.
const SCRAM: &str = "scram-pbkdf2";

fn launch(driver: &str, folder: &Folder) -> (Router, String) {
    let file = folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\n"));
    let file = file.as_str();
    done(&[file, "ann", "--role", "member", "--method", "wampcra", "--rounds", "1000"], "her secret");
    done(&[file, "ann", "--method", SCRAM, "--rounds", "4096"], "her secret");
    let key = private_key(&[file, "ann", "--method", "cryptosign"]);
    let text = r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
"#;
    let launch = Launch::on(driver).argument("--config").argument(&folder.write("fanwire.toml", text));
    (launch.start(), key)
}

fn hello(method: &str, authid: Option<&str>, extra: &Value) -> Value {
    let mut details = json!({"roles": {"caller": {}}, "authmethods": [method], "authextra": extra});
    if let Some(authid) = authid {
        details["authid"] = authid.into();
    }
    json!([1, "realm1", details])
}

/// A client that has said HELLO.
fn greeting(router: &Router, method: &str, authid: Option<&str>, extra: &Value) -> Client {
    let mut client = Client::connect(router.wamp);
    client.send(hello(method, authid, extra));
    client
}

fn prover(method: &str, authid: &str, key: &str) -> Prover {
    match method {
        "cryptosign" => Prover::with_key(authid, key, [7; 16]).expect("a key"),
        _ => Prover::with_password(authid, "her secret", [7; 16]),
    }
}

/// A client that is challenged, and what would be right to answer.
fn challenged(router: &Router, method: &str, authid: &str, key: &str) -> (Client, String, Value) {
    let mut prover = prover(method, authid, key);
    let mut client = greeting(router, method, Some(authid), &prover.hello());
    let challenge = client.expect();
    assert_eq!((&challenge[0], &challenge[1]), (&json!(4), &json!(method)), "{challenge}");
    let (signature, extra) =
        prover.answer(method, challenge[2].as_object().expect("a dictionary")).expect("it can");
    (client, signature, extra)
}

/// What an unknown user is shown, without what differs each time.
fn shown(router: &Router, method: &str, authid: &str) -> Map<String, Value> {
    let extra = prover(method, authid, &"11".repeat(32)).hello();
    let challenge = greeting(router, method, Some(authid), &extra).expect();
    let mut shown = challenge[2].as_object().expect("a dictionary").clone();
    let differs = if method == "wamp-scram" { "nonce" } else { "challenge" };
    assert!(shown.remove(differs).is_some(), "{shown:?}");
    shown
}

const FAILED: &str = "wamp.error.authentication_failed";
const DENIED: &str = "wamp.error.authentication_denied";
const VIOLATION: &str = "wamp.error.protocol_violation";

on_both_drivers! {
    fn each_wrong_hello_is_told_what_is_wrong(driver: &str) {
        let folder = Folder::new(&format!("steps-hello-{driver}"));
        let (router, _) = launch(driver, &folder);
        let nonce = |nonce: Value| json!({ "nonce": nonce });
        let bound = |binding: Value| json!({"nonce": "AAAA", "channel_binding": binding});
        let keyed = |key: Value| json!({ "pubkey": key });
        let weak = format!("01{}", "0".repeat(62));
        for (method, authid, extra, uri, code, words) in [
            ("wamp-scram", Some("ann"), json!({}), FAILED, 1008, "no nonce"),
            ("wamp-scram", Some("ann"), nonce(json!(null)), FAILED, 1008, "no nonce"),
            ("wamp-scram", Some("nobody"), json!({}), FAILED, 1008, "no nonce"),
            ("wamp-scram", Some("ann"), nonce(json!(7)), FAILED, 1008, "another type"),
            ("wamp-scram", Some("ann"), nonce(json!("")), FAILED, 1008, "not base64"),
            ("wamp-scram", Some("ann"), nonce(json!("a,b")), FAILED, 1008, "not base64"),
            ("wamp-scram", Some("ann"), nonce(json!("A".repeat(257))), FAILED, 1008, "not base64"),
            ("wamp-scram", Some("ann"), bound(json!("tls-unique")), FAILED, 1008, "use \"tls-exporter\""),
            ("wamp-scram", Some("ann"), bound(json!("tls-exporter")), FAILED, 1008, "needs TLS 1.3"),
            ("wamp-scram", Some("ann"), bound(json!("other")), FAILED, 1008, "not known"),
            ("wamp-scram", Some("ann"), bound(json!(1)), FAILED, 1008, "another type"),
            ("wamp-scram", Some("ann"), json!([]), VIOLATION, 1002, "authextra"),
            ("wamp-scram", None, nonce(json!("AAAA")), "wamp.error.authentication_required", 1008, "authid"),
            ("wampcra", None, json!({}), "wamp.error.authentication_required", 1008, "authid"),
            ("wampcra", Some("ann"), json!("x"), VIOLATION, 1002, "authextra"),
            ("cryptosign", Some("ann"), json!({}), FAILED, 1008, "no pubkey"),
            ("cryptosign", None, json!({}), FAILED, 1008, "no pubkey"),
            ("cryptosign", None, keyed(json!(1)), FAILED, 1008, "another type"),
            ("cryptosign", None, keyed(json!("00")), FAILED, 1008, "no Ed25519 key"),
            ("cryptosign", None, keyed(json!("zz".repeat(32))), FAILED, 1008, "no Ed25519 key"),
            ("cryptosign", None, keyed(json!(weak)), FAILED, 1008, "no Ed25519 key"),
            ("cryptosign", Some("ann"), json!({"pubkey": "22".repeat(32), "channel_binding": "tls-unique"}), FAILED, 1008, "use \"tls-exporter\""),
            ("scram", Some("ann"), nonce(json!("AAAA")), "wamp.error.no_matching_auth_method", 1008, "offers only"),
            ("nonsense", Some("ann"), json!({}), "wamp.error.no_matching_auth_method", 1008, "offers only"),
        ] {
            let told = aborted(&mut greeting(&router, method, authid, &extra), code);
            assert!(told.0 == uri && told.1.contains(words), "{method} {authid:?} {extra}: {told:?}");
        }
    }

    fn each_wrong_answer_is_denied_and_nobody_else_is_harmed(driver: &str) {
        let folder = Folder::new(&format!("steps-answer-{driver}"));
        let (router, key) = launch(driver, &folder);
        let (mut bystander, signature, extra) = challenged(&router, "wampcra", "ann", &key);
        for method in ["wampcra", "wamp-scram", "cryptosign"] {
            // Of another login, which is still open: replayed.
            let (_other, replayed, _) = challenged(&router, method, "ann", &key);
            let (_, right, _) = challenged(&router, method, "ann", &key);
            for signature in ["", "AAAA", "no base64!", &replayed, &right[1..], &format!("{right}0")] {
                let (mut client, _, extra) = challenged(&router, method, "ann", &key);
                client.send(json!([5, signature, extra]));
                assert_eq!(aborted(&mut client, 1008).0, DENIED, "{method} {signature}");
            }
            for (message, uri, code) in [
                (json!([5]), VIOLATION, 1002),
                (json!([5, null, {}]), VIOLATION, 1002),
                (json!([5, 7, {}]), VIOLATION, 1002),
                (json!([5, right, []]), VIOLATION, 1002),
                (json!([5, right, "extra"]), VIOLATION, 1002),
                (hello(method, Some("ann"), &json!({})), VIOLATION, 1002),
                (json!([48, 1, {}, "a.b"]), VIOLATION, 1002),
            ] {
                let (mut client, ..) = challenged(&router, method, "ann", &key);
                client.send(message.clone());
                assert_eq!(aborted(&mut client, code).0, uri, "{method} {message}");
            }
            // Twice: the first is good, the second comes to an open session.
            let (mut client, signature, extra) = challenged(&router, method, "ann", &key);
            let welcome = client.ask(json!([5, signature, extra]));
            assert_eq!((&welcome[0], &welcome[2]["authmethod"]), (&json!(2), &json!(method)), "{welcome}");
            client.send(json!([5, signature, extra]));
            assert_eq!(aborted(&mut client, 1002).0, VIOLATION);
        }
        let nonce = |extra: &Value, key: &str, value: Value| {
            let mut extra = extra.clone();
            extra[key] = value;
            extra
        };
        for (field, value, words) in [
            ("nonce", json!(null), "no nonce"),
            ("nonce", json!("BwcHBwcHBwcHBwcHBwcHBw=="), "another nonce"),
            ("nonce", json!(1), "another type"),
            ("channel_binding", json!("tls-exporter"), "another channel_binding"),
            ("channel_binding", json!(1), "another type"),
            ("cbind_data", json!("AAAA"), "without a channel_binding"),
        ] {
            let (mut client, signature, extra) = challenged(&router, "wamp-scram", "ann", &key);
            client.send(json!([5, signature, nonce(&extra, field, value.clone())]));
            let told = aborted(&mut client, 1008);
            assert!(told.0 == FAILED && told.1.contains(words), "{field} {value}: {told:?}");
        }
        // Whoever was challenged before all that is let in.
        assert_eq!(bystander.ask(json!([5, signature, extra]))[0], 2);
    }

    fn the_router_shows_that_it_knows_the_password_too(driver: &str) {
        let folder = Folder::new(&format!("steps-verifier-{driver}"));
        let (router, key) = launch(driver, &folder);
        let mut prover = prover("wamp-scram", "ann", &key);
        let mut client = greeting(&router, "wamp-scram", Some("ann"), &prover.hello());
        let challenge = client.expect();
        let (signature, extra) =
            prover.answer("wamp-scram", challenge[2].as_object().expect("a dictionary")).expect("it can");
        let welcome = client.ask(json!([5, signature, extra]));
        let shown = welcome[2]["authextra"].as_object().expect("a dictionary");
        assert!(prover.trusts(shown), "{welcome}");
        assert!(!prover.trusts(&Map::new()));
    }

    /// WAMP-CRA says which session it will be.
    fn the_challenge_of_wampcra_says_the_sessions_id(driver: &str) {
        let folder = Folder::new(&format!("steps-id-{driver}"));
        let (router, key) = launch(driver, &folder);
        let mut prover = prover("wampcra", "ann", &key);
        let mut client = greeting(&router, "wampcra", Some("ann"), &json!({}));
        let challenge = client.expect();
        let said: Value = serde_json::from_str(challenge[2]["challenge"].as_str().expect("text")).expect("JSON");
        for (key, value) in [("authid", "ann"), ("authrole", "member"), ("authmethod", "wampcra"), ("authprovider", "static")] {
            assert_eq!(said[key], value, "{said}");
        }
        let (signature, extra) =
            prover.answer("wampcra", challenge[2].as_object().expect("a dictionary")).expect("it can");
        assert_eq!(client.ask(json!([5, signature, extra]))[1], said["session"]);
    }

    /// What an unknown name is shown is what a user could have, the same each time, and after a restart.
    fn nobody_looks_like_somebody(driver: &str) {
        let folder = Folder::new(&format!("steps-nobody-{driver}"));
        let (router, _) = launch(driver, &folder);
        let names: Vec<String> = (0..6).map(|number| format!("nobody{number}")).collect();
        let look = |router: &Router| -> Vec<Map<String, Value>> {
            let each = |name: &String| ["wampcra", "wamp-scram"].map(|method| shown(router, method, name));
            names.iter().flat_map(each).collect()
        };
        let before = look(&router);
        assert_eq!(before, look(&router), "it changes by itself");
        let of_ann = [shown(&router, "wampcra", "ann"), shown(&router, "wamp-scram", "ann")];
        for (seen, known) in before.iter().zip(of_ann.iter().cycle()) {
            assert_eq!(seen.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
            for (key, value) in known {
                assert_eq!(seen[key] == *value, key != "salt", "{key}: {seen:?} {known:?}");
            }
        }
        drop(router);
        let config = folder.path("fanwire.toml");
        let again = Launch::on(driver).argument("--config").argument(&config).start();
        assert_eq!(before, look(&again), "a restart changed it");
    }

    /// Unknown names take as long as wrong secrets. Only a difference that a clock sees over a network fails.
    fn nobody_takes_as_long_as_somebody(driver: &str) {
        let folder = Folder::new(&format!("steps-time-{driver}"));
        let (router, key) = launch(driver, &folder);
        let took = |method: &str, authid: &str| {
            let mut times: Vec<Duration> = (0..15).map(|_| {
                let began = Instant::now();
                let (mut client, ..) = challenged(&router, method, authid, &key);
                client.send(json!([5, "AAAA", {"nonce": null}]));
                assert_eq!(client.expect()[0], 3);
                began.elapsed()
            }).collect();
            times.sort();
            times[times.len() / 2]
        };
        for method in ["wampcra", "wamp-scram", "cryptosign"] {
            let (somebody, nobody) = (took(method, "ann"), took(method, "nobody"));
            let slack = Duration::from_millis(100);
            assert!(nobody < 3 * somebody + slack && somebody < 3 * nobody + slack, "{method}: {somebody:?} {nobody:?}");
        }
    }

    /// Bound to its TLS connection, and to another one.
    fn a_login_is_good_for_its_own_connection_alone(driver: &str) {
        let set = Set::new(driver, "bound", "");
        let file = set.folder.path("users.txt");
        done(&[&file, "ann", "--role", "anonymous", "--method", SCRAM, "--rounds", "4096"], "her secret");
        let key = private_key(&[&file, "ann", "--method", "cryptosign"]);
        let (authority, _folder, router) = set.set("realm.0.users_file", &file).start();
        for method in ["wamp-scram", "cryptosign"] {
            for is_own in [true, false] {
                let mut stream = connect(crate::tls::address(&router), &authority.client(), "localhost");
                stream.conn.complete_io(&mut stream.sock).expect("a handshake");
                let label = b"EXPORTER-Channel-Binding";
                let mut channel = stream.conn.export_keying_material([0; 32], label, Some(&[])).expect("TLS 1.3");
                channel[0] ^= u8::from(!is_own);
                let mut request = "wss://localhost/ws".into_client_request().expect("a request");
                request.headers_mut().insert("Sec-WebSocket-Protocol", "wamp.2.json".parse().expect("a header"));
                let (mut socket, _) = tungstenite::client(request, stream).expect("a WebSocket");
                let mut ask = |message: Value| -> Value {
                    socket.send(Message::text(message.to_string())).expect("it is open");
                    let heard = socket.read().expect("an answer");
                    serde_json::from_str(heard.to_text().expect("text")).expect("JSON")
                };
                let mut prover = prover(method, "ann", &key).bound_to(channel);
                let challenge = ask(hello(method, Some("ann"), &prover.hello()));
                assert_eq!(challenge[0], 4, "{challenge}");
                let extra = challenge[2].as_object().expect("a dictionary");
                let (signature, extra) = prover.answer(method, extra).expect("it can");
                let end = ask(json!([5, signature, extra]));
                assert_eq!(end[0], if is_own { 2 } else { 3 }, "{method}: {end}");
            }
        }
    }

    fn an_answer_that_comes_late_is_none(driver: &str) {
        let folder = Folder::new(&format!("steps-late-{driver}"));
        let (router, key) = launch(driver, &folder);
        drop(router);
        let config = folder.path("fanwire.toml");
        let router = Launch::on(driver).argument("--config").argument(&config).set("limits.login_time", "500ms").start();
        let (mut client, ..) = challenged(&router, "wampcra", "ann", &key);
        client.expect_close(1008);
        let mut joe = Client::connect(router.wamp);
        joe.send(hello("ticket", Some("joe"), &json!({})));
        assert_eq!(joe.expect()[0], 4);
        assert_eq!(joe.ask(json!([5, CHEAP_TICKET, {}]))[0], 2);
    }

    /// A user whose secret is changed between challenge and answer has to begin anew.
    fn a_secret_that_changes_meanwhile_is_not_the_old_one(driver: &str) {
        let folder = Folder::new(&format!("steps-change-{driver}"));
        let (router, key) = launch(driver, &folder);
        let (mut client, signature, extra) = challenged(&router, "wampcra", "ann", &key);
        let file = folder.path("users.txt");
        done(&[&file, "ann", "--method", "wampcra", "--rounds", "1000"], "another secret");
        router.signal(Signal::HUP);
        eventually("the reload", || router.said().contains("SIGHUP: the configuration was reloaded"));
        client.send(json!([5, signature, extra]));
        let abort = client.expect();
        assert_eq!((&abort[0], &abort[2]), (&json!(3), &json!(FAILED)), "{abort}");
        client.expect_close(1013);
    }
}
