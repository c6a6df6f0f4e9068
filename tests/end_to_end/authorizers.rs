//! Dynamic authorizers: a procedure decides what sessions may do, and what they are told when it fails.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::authenticators::{Answering, backend};
use crate::clients::{script, tool};
use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Launch, Router, eventually};

/// Anonymous clients may do what the program of Joe's allows them, in the same realm.
const CONFIGURATION: &str = r#"
[[realm]]
name = "realm1"
users_file = "users.txt"
[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = "com.topic."
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = "com."
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role.permission]]
uri = "com.shop.authorize"
match = "exact"
allow = ["register"]

[[hook]]
name = "rules"
procedure = "com.shop.authorize"
events = ["subscribe", "publish", "call", "register"]
timeout = "400ms"
"#;

fn launch(driver: &str, test: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("authorizers-{test}-{driver}"));
    folder.write("users.txt", &format!("joe:backend:{CHEAP_HASH}\n"));
    let file = folder.write("fanwire.toml", CONFIGURATION);
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

/// The four requests about this URI, by their message types.
fn requests(uri: &str) -> [(u64, &'static str, Value); 4] {
    [
        (32, "subscribe", json!([32, 11, {}, uri])),
        (16, "publish", json!([16, 12, {"acknowledge": true}, uri, ["x"]])),
        (64, "register", json!([64, 13, {}, uri])),
        (48, "call", json!([48, 14, {}, uri])),
    ]
}

/// The error of a request.
fn error(answer: &Value, kind: u64) -> &str {
    assert_eq!((&answer[0], &answer[1]), (&json!(8), &json!(kind)), "{answer}");
    answer[4].as_str().expect("a URI")
}

on_both_drivers! {
    fn a_procedure_decides_what_sessions_may_do(driver: &str) {
        let (_folder, router) = launch(driver, "decides");
        let mut ann = Client::join(router.wamp);
        // Nobody decides, so nothing is allowed.
        for (kind, _, request) in requests("com.topic.yes") {
            assert_eq!(error(&ann.ask(request), kind), "wamp.error.authorization_failed");
        }
        // Whoever may register the procedure is not asked about, or it could not begin.
        let program = Answering::start(backend(&router, "realm1"), "com.shop.authorize", |args| {
            match args[1].as_str().expect("a URI") {
                "com.topic.yes" => Some(json!(true)),
                "com.topic.dictionary" => Some(json!({"allow": true, "disclose": true})),
                "com.topic.no" => Some(json!({"allow": false})),
                "com.topic.told" => Some(json!({"allow": false, "error": "com.shop.closed", "message": "come later"})),
                "com.topic.broken" => Some(json!({"raise": "wamp.error.runtime_error"})),
                "com.topic.nonsense" => Some(json!("yes")),
                "com.topic.empty" => Some(json!({})),
                "com.topic.silent" => None,
                _ => Some(json!(false)),
            }
        });
        for uri in ["com.topic.yes", "com.topic.dictionary"] {
            let mut ann = Client::join(router.wamp);
            for ((_, _, request), expected) in requests(uri).into_iter().zip([33, 17, 65, 68]) {
                let answer = ann.ask(request);
                assert_eq!(answer[0], expected, "{uri}: {answer}");
                let is_disclosed = answer[3]["caller"].is_u64();
                assert_eq!(is_disclosed, expected == 68 && uri.ends_with("dictionary"), "{answer}");
            }
        }
        let mut ann = Client::join(router.wamp);
        for (uri, expected) in [
            ("com.topic.no", "wamp.error.not_authorized"),
            ("com.topic.else", "wamp.error.not_authorized"),
            ("com.topic.told", "com.shop.closed"),
            ("com.topic.broken", "wamp.error.authorization_failed"),
            ("com.topic.nonsense", "wamp.error.authorization_failed"),
            ("com.topic.empty", "wamp.error.authorization_failed"),
            ("com.topic.silent", "wamp.error.authorization_failed"),
        ] {
            for (kind, action, request) in requests(uri) {
                assert_eq!(error(&ann.ask(request), kind), expected, "{action} {uri}");
            }
        }
        let asked = program.asked();
        let first = &asked[0];
        assert_eq!((&first[1], &first[2], &first[3]), (&json!("com.topic.yes"), &json!("subscribe"), &json!({"match": "exact"})));
        assert_eq!((&first[0]["realm"], &first[0]["authrole"]), (&json!("realm1"), &json!("anonymous")));
        assert!(first[0]["session"].is_u64() && first[0]["authid"].is_string(), "{first}");
        // What the role may not do is not asked about.
        assert_eq!(error(&ann.ask(json!([48, 20, {}, "com.shop.other"])), 48), "wamp.error.not_authorized");
        assert_eq!(program.asked().len(), asked.len());
        // And the program's role may do what it may.
        let mut joe = backend(&router, "realm1");
        assert_eq!(joe.ask(json!([32, 1, {}, "com.topic.no"]))[0], 33);
        assert_eq!(program.asked().len(), asked.len());
    }

    fn messages_of_a_session_keep_their_order(driver: &str) {
        let (_folder, router) = launch(driver, "order");
        let program = Answering::start(backend(&router, "realm1"), "com.shop.authorize", |args| {
            Some(json!({"allow": true, "cache": args[1] == "com.topic.cached"}))
        });
        let mut joe = backend(&router, "realm1");
        for topic in ["com.topic.cached", "com.topic.asked"] {
            joe.subscribe(topic);
        }
        let mut ann = Client::join(router.wamp);
        for number in 0..50 {
            let topic = if number % 2 == 0 { "com.topic.asked" } else { "com.topic.cached" };
            ann.publish(topic, json!([number]));
        }
        for number in 0..50 {
            assert_eq!(joe.expect_event(), json!([number]));
        }
        let asked = program.asked();
        let about = |topic: &str| asked.iter().filter(|asked| asked[1] == topic).count();
        assert_eq!((about("com.topic.asked"), about("com.topic.cached")), (25, 1));
        // What is remembered is one session's.
        Client::join(router.wamp).publish("com.topic.cached", json!(["other"]));
        assert_eq!(joe.expect_event(), json!(["other"]));
        assert_eq!(program.asked().len(), asked.len() + 1);
        let labels = "event=\"publish\",result=\"allowed\"";
        eventually("the figures", || router.metric("fanwire_hook_requests_total", labels) == 27.0);
    }

    fn who_has_begun_to_wait_is_told_when_the_program_leaves(driver: &str) {
        let (_folder, router) = launch(driver, "leaves");
        let answers = Arc::new(AtomicBool::new(false));
        let program = Answering::start(backend(&router, "realm1"), "com.shop.authorize", {
            let answers = Arc::clone(&answers);
            move |_| answers.load(Ordering::Relaxed).then_some(Value::Bool(true))
        });
        let mut ann = Client::join(router.wamp);
        ann.send(json!([32, 1, {}, "com.topic.a"]));
        eventually("the question", || program.asked().len() == 1);
        drop(program);
        assert_eq!(error(&ann.expect(), 32), "wamp.error.authorization_failed");
    }

    fn an_authorizer_in_autobahn_decides(driver: &str) {
        let Some(python) = tool("FANWIRE_PYTHON") else { return };
        let (_folder, router) = launch(driver, "autobahn");
        for serializer in ["json", "msgpack", "cbor"] {
            let mut command = Command::new(&python);
            command.arg(script("authorizers.py")).args(["--url", &router.url(), "--ticket", CHEAP_TICKET]);
            let output = command.args(["--serializer", serializer]).output().expect("the interpreter starts");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            println!("{said}");
            assert!(output.status.success(), "{serializer}:\n{said}\n{}", router.said());
        }
    }
}
