//! WAMP-CRA of WAMP version 1: by raw messages, and by the last Autobahn that spoke it.

use std::net::SocketAddr;
use std::process::Command;

use fanwire_control::login::prover::Prover;
use serde_json::{Value, json};

use crate::clients::{script, tool};
use crate::passwd::done;
use crate::support::{Folder, Launch, Plain, Router, Said};

const AUTHREQ: &str = "http://api.wamp.ws/procedure#authreq";
const AUTH: &str = "http://api.wamp.ws/procedure#auth";
const ERROR: &str = "http://api.wamp.ws/error#";

/// A realm of which Ann is a user; `anonymous` is the role of who does not say who it is.
fn launch(driver: &str, test: &str, anonymous: &str) -> (Folder, Router) {
    launch_with(driver, test, anonymous, "")
}

/// The same with more in the configuration.
fn launch_with(driver: &str, test: &str, anonymous: &str, more: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("wamp1-login-{test}-{driver}"));
    let file = folder.path("users.txt");
    done(&[&file, "ann", "--role", "member", "--method", "wampcra", "--rounds", "1000"], "her secret");
    done(&[&file, "bob", "--role", "member", "--method", "wampcra-plain"], "his secret");
    let text = format!(
        r#"
[wamp1]
realm = "realm1"
[[wamp1.name]]
v1 = "http://example.com/event#"
v2 = "com.event."

[[realm]]
name = "realm1"
anonymous_role = {anonymous:?}
users_file = "users.txt"
[[realm.role]]
name = "guest"
[[realm.role.permission]]
uri = "com.event.public"
match = "exact"
allow = ["publish", "subscribe"]
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = "com.event."
match = "prefix"
allow = ["publish", "subscribe", "call"]
[[realm.role.permission]]
uri = "demo.sum"
match = "exact"
allow = ["call"]
{more}
"#
    );
    let file = folder.write("fanwire.toml", &text);
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

fn connect(address: SocketAddr) -> (Plain, String) {
    let mut client = Plain::try_offer(address, "/ws", &["wamp"]).unwrap_or_else(|answer| panic!("{answer}"));
    let welcome = hear(&mut client);
    assert_eq!(welcome[0], 0, "{welcome}");
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

fn ask(client: &mut Plain, procedure: &str, args: &[Value]) -> Value {
    let mut call = vec![json!(2), json!("c"), json!(procedure)];
    call.extend_from_slice(args);
    say(client, &Value::Array(call));
    let answer = hear(client);
    assert_eq!(answer[1], "c", "{answer}");
    answer
}

/// The error of a call.
fn error(answer: &Value) -> String {
    assert_eq!(answer[0], 4, "{answer}");
    answer[2].as_str().expect("a URI").replace(ERROR, "#")
}

fn result(answer: &Value) -> &Value {
    assert_eq!(answer[0], 3, "{answer}");
    &answer[2]
}

/// What `authreq` answers, and the signature that it wants.
fn challenge(client: &mut Plain, name: &str, secret: &str) -> (Value, String) {
    let answer = ask(client, AUTHREQ, &[json!(name), json!({})]);
    let text = result(&answer).as_str().expect("a text").to_owned();
    let challenge: Value = serde_json::from_str(&text).expect("JSON in a text");
    let mut extra = challenge["authextra"].as_object().cloned().unwrap_or_default();
    extra.insert("challenge".to_owned(), text.into());
    let mut prover = Prover::with_password(name, secret, [7; 16]);
    let (signature, _) = prover.answer("wampcra", &extra).expect("it can");
    (challenge, signature)
}

on_both_drivers! {
    fn who_has_to_log_in_can_do_nothing_before(driver: &str) {
        let (_folder, router) = launch(driver, "only", "none");
        let (mut ann, id) = connect(router.wamp);
        say(&mut ann, &json!([5, "http://example.com/event#chat"]));
        say(&mut ann, &json!([7, "http://example.com/event#chat", "early", false]));
        assert_eq!(error(&ask(&mut ann, "demo.sum", &[json!(1)])), "wamp.error.not_authorized");
        assert_eq!(error(&ask(&mut ann, AUTH, &[json!("x")])), "#no-authentication-requested");
        assert_eq!(error(&ask(&mut ann, AUTHREQ, &[])), "#anonymous-auth-forbidden");
        assert_eq!(error(&ask(&mut ann, AUTHREQ, &[json!(7)])), "#invalid-argument");
        assert_eq!(error(&ask(&mut ann, AUTHREQ, &[json!("")])), "#invalid-argument");
        assert_eq!(router.metric("fanwire_sessions", "protocol=\"wamp1\""), 0.0);
        // A prefix holds before as well.
        say(&mut ann, &json!([1, "api", "http://api.wamp.ws/procedure#"]));
        let answer = ask(&mut ann, "api:authreq", &[json!("ann"), json!({})]);
        assert!(result(&answer).as_str().expect("a text").contains("\"authkey\":\"ann\""), "{answer}");
        assert_eq!(error(&ask(&mut ann, AUTHREQ, &[json!("ann")])), "#authentication-already-requested");
        assert_eq!(error(&ask(&mut ann, AUTH, &[json!("wrong")])), "#invalid-signature");
        // What was to be signed is good for one try.
        assert_eq!(error(&ask(&mut ann, AUTH, &[json!("wrong")])), "#no-authentication-requested");
        let (challenge, signature) = challenge(&mut ann, "ann", "her secret");
        assert_eq!((&challenge["sessionid"], &challenge["authextra"]["keylen"]), (&json!(id), &json!(32)), "{challenge}");
        let answer = ask(&mut ann, AUTH, &[json!(signature)]);
        let expected = json!({
            "pubsub": [
                {"uri": "http://example.com/event#", "prefix": true, "pub": true, "sub": true},
                {"uri": "demo.sum", "prefix": false, "pub": false, "sub": false},
            ],
            "rpc": [
                {"uri": "http://example.com/event#", "prefix": true, "call": true},
                {"uri": "demo.sum", "prefix": false, "call": true},
            ],
        });
        assert_eq!(result(&answer), &expected);
        say(&mut ann, &json!([5, "http://example.com/event#chat"]));
        say(&mut ann, &json!([7, "http://example.com/event#chat", "now", false]));
        assert_eq!(hear(&mut ann), json!([8, "http://example.com/event#chat", "now"]));
        assert_eq!(error(&ask(&mut ann, AUTHREQ, &[json!("bob")])), "#already-authenticated");
        assert_eq!(error(&ask(&mut ann, AUTH, &[json!("x")])), "#already-authenticated");
        assert_eq!(error(&ask(&mut ann, "demo.sum", &[])), "#NoSuchRPCEndpoint");
        // A name that nobody has is challenged, and refused like a wrong signature.
        let (mut nobody, _) = connect(router.wamp);
        let (shown, signature) = self::challenge(&mut nobody, "nobody", "her secret");
        assert!(shown["authid"].is_string() && shown["timestamp"].is_string(), "{shown}");
        let refused = ask(&mut nobody, AUTH, &[json!(signature)]);
        let (_, signature) = self::challenge(&mut nobody, "ann", "another secret");
        assert_eq!(ask(&mut nobody, AUTH, &[json!(signature)]), refused);
        let (_, signature) = self::challenge(&mut nobody, "bob", "his secret");
        result(&ask(&mut nobody, AUTH, &[json!(signature)]));
        let welcomed = "method=\"wampcra\",outcome=\"welcomed\"";
        crate::support::eventually("the figures", || router.metric("fanwire_logins_total", welcomed) == 2.0);
    }

    fn an_anonymous_client_becomes_a_user_and_keeps_what_it_has(driver: &str) {
        let (_folder, router) = launch(driver, "both", "guest");
        let (mut ann, _) = connect(router.wamp);
        say(&mut ann, &json!([5, "http://example.com/event#public"]));
        say(&mut ann, &json!([7, "http://example.com/event#public", 1, false]));
        assert_eq!(hear(&mut ann), json!([8, "http://example.com/event#public", 1]));
        assert_eq!(error(&ask(&mut ann, "demo.sum", &[])), "wamp.error.not_authorized");
        // Between the two calls it is what it was, and it stays that where it fails.
        let (_, wrong) = challenge(&mut ann, "ann", "another");
        say(&mut ann, &json!([7, "http://example.com/event#public", 2, false]));
        assert_eq!(hear(&mut ann), json!([8, "http://example.com/event#public", 2]));
        assert_eq!(error(&ask(&mut ann, AUTH, &[json!(wrong)])), "#invalid-signature");
        say(&mut ann, &json!([7, "http://example.com/event#public", 3, false]));
        assert_eq!(hear(&mut ann), json!([8, "http://example.com/event#public", 3]));
        // Or it says that it is nobody in particular.
        assert_eq!(result(&ask(&mut ann, AUTHREQ, &[])), &Value::Null);
        let guest = json!({
            "pubsub": [{"uri": "http://example.com/event#public", "prefix": false, "pub": true, "sub": true}],
            "rpc": [{"uri": "http://example.com/event#public", "prefix": false, "call": false}],
        });
        assert_eq!(result(&ask(&mut ann, AUTH, &[Value::Null])), &guest);
        let (_, signature) = challenge(&mut ann, "ann", "her secret");
        result(&ask(&mut ann, AUTH, &[json!(signature)]));
        assert_eq!(error(&ask(&mut ann, "demo.sum", &[])), "#NoSuchRPCEndpoint");
        say(&mut ann, &json!([7, "http://example.com/event#public", 4, false]));
        assert_eq!(hear(&mut ann), json!([8, "http://example.com/event#public", 4]), "its subscription stays");
        // Who guesses is sent away.
        let (mut thief, _) = connect(router.wamp);
        for guess in 0..10 {
            challenge(&mut thief, "ann", "guess");
            assert_eq!(error(&ask(&mut thief, AUTH, &[json!(format!("guess {guess}"))])), "#invalid-signature");
        }
        assert!(matches!(thief.hear(), Said::Close(1008, _)), "it may not go on");
    }

    /// What it had as a guest it has not been asked about, and might not have been given as a member.
    fn who_logs_in_asks_anew_for_what_a_hook_decides_on(driver: &str) {
        let hook = "[[hook]]\nname = \"a\"\nurl = \"http://127.0.0.1:9/\"\nevents = [\"subscribe\"]\nroles = [\"member\"]\nuri = \"com.event.\"";
        let (_folder, router) = launch_with(driver, "hook", "guest", hook);
        let (mut ann, _) = connect(router.wamp);
        say(&mut ann, &json!([5, "http://example.com/event#public"]));
        say(&mut ann, &json!([7, "http://example.com/event#public", 1, false]));
        assert_eq!(hear(&mut ann), json!([8, "http://example.com/event#public", 1]));
        let (_, signature) = challenge(&mut ann, "ann", "her secret");
        result(&ask(&mut ann, AUTH, &[json!(signature)]));
        say(&mut ann, &json!([7, "http://example.com/event#public", 2, false]));
        assert_eq!(error(&ask(&mut ann, "demo.sum", &[])), "#NoSuchRPCEndpoint", "no event came before");
    }

    fn the_last_autobahn_of_version_1_logs_in(driver: &str) {
        let (Some(python), Some(_)) = (tool("FANWIRE_PYTHON2"), tool("FANWIRE_PYTHON2_MODULES")) else { return };
        let (_folder, router) = launch(driver, "autobahn", "none");
        let output = Command::new(&python).arg(script("login_v1.py")).args(["--url", &router.url()]).output();
        let output = output.expect("the interpreter starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        println!("{said}");
        assert!(output.status.success(), "{said}\n{}", router.said());
    }
}
