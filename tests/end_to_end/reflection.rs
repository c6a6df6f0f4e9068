//! WAMP's reflection on the real process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::meta::{INVALID_ARGUMENT, INVALID_URI, Member, each};
use crate::support::{CHEAP_HASH, Folder, Launch};

const DEFINE: &str = "wamp.reflect.define";
const NOT_AUTHORIZED: &str = "wamp.error.not_authorized";

impl Member {
    fn define(&mut self, kind: &str, args: Value) {
        assert_eq!(self.call_with(DEFINE, args, json!({"type": kind})), Ok(Value::Null));
    }

    fn described(&mut self, kind: &str, uri: &str) -> Value {
        self.call(&format!("wamp.reflection.{kind}.describe"), json!([uri]))[0].take()
    }

    fn listed(&mut self, kind: &str) -> Vec<String> {
        let list = self.call(&format!("wamp.reflection.{kind}.list"), json!([]))[0].take();
        serde_json::from_value(list).expect("a list of strings")
    }
}

on_both_drivers! {
    fn what_is_defined_is_listed_described_and_told(driver: &str) {
        each(driver, |router| {
            let mut observer = Member::join(router, "realm1");
            observer.subscribe("wamp.reflect.", "prefix");
            let (mut member, mut other) = (Member::join(router, "realm1"), Member::join(router, "realm1"));
            let own = (member.listed("procedure"), member.listed("topic"));
            assert!(own.0.contains(&"wamp.session.count".to_owned()) && own.1.contains(&"wamp.session.on_join".to_owned()));
            assert!(own.0.iter().chain(&own.1).all(|uri| uri.starts_with("wamp.")), "nothing else is there: {own:?}");
            let definition = json!({"args": ["integer", {"unit": "m"}], "description": "adds \u{e4}"});
            for (kind, uri) in [("procedure", "com.a.add"), ("topic", "com.a.added"), ("error", "com.a.overflow")] {
                assert_eq!(other.described(kind, uri), Value::Null, "nothing is known of it");
                member.define(kind, json!([uri, definition]));
                let told = observer.meta_event();
                assert_eq!(told, ("wamp.reflect.on_define".to_owned(), json!([uri, kind, definition])));
                assert_eq!(other.described(kind, uri), json!({"uri": uri, "type": kind, "definition": definition}));
                let listed = other.listed(kind);
                assert_eq!(listed.iter().filter(|listed| !listed.starts_with("wamp.")).collect::<Vec<_>>(), [uri]);
                assert!(listed.is_sorted());
                let described = other.call("wamp.reflect.describe", json!([uri]))[0].take();
                assert_eq!(described, json!({kind: {"uri": uri, "type": kind, "definition": definition}}));
            }
            assert_eq!(other.call_with(DEFINE, json!(["com.a.add", {"version": 2}]), json!({})), Ok(Value::Null));
            assert_eq!(observer.meta_event().1, json!(["com.a.add", "procedure", {"version": 2}]));
            // Who is there now is told too, described or not.
            for procedure in ["com.a.add", "com.b"] {
                member.requests += 1;
                let registered = member.client.ask(json!([64, member.requests, {}, procedure]));
                let described = other.described("procedure", procedure);
                assert_eq!(described["registration"], registered[2], "{described}");
            }
            let subscription = other.subscribe("com.c", "exact");
            assert_eq!(other.described("topic", "com.c")["subscription"], subscription);
            assert!(other.listed("procedure").contains(&"com.b".to_owned()));
            assert!(other.listed("topic").contains(&"com.c".to_owned()));
            // A definition is the realm's: it stays when its author goes.
            drop(member);
            while other.described("procedure", "com.b") != Value::Null {
                std::thread::yield_now();
            }
            assert_eq!(other.described("procedure", "com.a.add")["definition"], json!({"version": 2}));
            for (kind, args) in [("procedure", json!(["com.a.add"])), ("topic", json!(["com.a.added", {}]))] {
                other.define(kind, args.clone());
                assert_eq!(observer.meta_event(), ("wamp.reflect.on_undefine".to_owned(), json!([args[0], kind])));
                other.define(kind, args.clone());
                assert_eq!(other.described(kind, args[0].as_str().expect("a URI")), Value::Null);
            }
            assert!(observer.client.hear_within(Duration::from_millis(50)).is_none(), "nothing more was taken back");
            assert_eq!(other.listed("error"), ["com.a.overflow"]);
        });
    }

    fn who_may_not_provide_it_does_not_say_what_it_is(driver: &str) {
        let folder = Folder::new(&format!("reflection-{driver}"));
        folder.write("users.txt", &format!("joe:backend:{CHEAP_HASH}\n"));
        let text = r#"
[[realm]]
name = "realm1"
users_file = "users.txt"
[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = "com."
match = "prefix"
allow = ["subscribe", "call"]
[[realm.role.permission]]
uri = "wamp."
match = "prefix"
allow = ["call"]
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "register", "call"]
[[hook]]
name = "rules"
url = "http://127.0.0.1:9/"
events = ["publish", "register"]
uri = "net."
match = "prefix"
"#;
        let file = folder.write("fanwire.toml", text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let (mut backend, mut guest) = (Member::log_in(&router, "joe"), Member::join(&router, "realm1"));
        for kind in ["procedure", "topic", "error"] {
            for uri in ["com.a", "org.a"] {
                backend.define(kind, json!([uri, {"a": 1}]));
            }
            let refused = guest.call_with(DEFINE, json!(["com.a", {"a": 2}]), json!({"type": kind}));
            assert_eq!(refused, Err(NOT_AUTHORIZED.to_owned()));
            assert_eq!(guest.described(kind, "com.a")["definition"], json!({"a": 1}));
            assert_eq!(guest.described(kind, "org.a"), Value::Null, "it may do nothing with it");
            let listed = guest.listed(kind);
            assert!(listed.contains(&"com.a".to_owned()) && !listed.contains(&"org.a".to_owned()), "{listed:?}");
            let refused = backend.call_with(DEFINE, json!(["wamp.session.count", {"a": 2}]), json!({"type": kind}));
            assert_eq!(refused, Err(NOT_AUTHORIZED.to_owned()), "the router's own");
            let refused = backend.call_with(DEFINE, json!(["net.a", {"a": 2}]), json!({"type": kind}));
            assert_eq!(refused, Err(NOT_AUTHORIZED.to_owned()), "a hook decides who may provide it");
        }
        let topics = guest.listed("topic");
        assert!(!topics.iter().any(|topic| topic.starts_with("wamp.")), "it may not subscribe there: {topics:?}");
    }

    fn bad_arguments_about_definitions_have_their_errors(driver: &str) {
        let router = Launch::on(driver).start();
        let mut member = Member::join(&router, "realm1");
        let long = "x".repeat(17 << 10);
        let deep = (0..70).fold(json!([]), |inner, _| json!([inner]));
        for (args, kwargs, expected) in [
            (json!([]), json!({}), INVALID_ARGUMENT),
            (json!([7]), json!({}), INVALID_ARGUMENT),
            (json!(["a b"]), json!({}), INVALID_URI),
            (json!(["a.b", 7]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b", [1]]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b", {}, 1]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b", {}]), json!({"type": "thing"}), INVALID_ARGUMENT),
            (json!(["a.b", {}]), json!({"type": 1}), INVALID_ARGUMENT),
            (json!(["a.b", {}]), json!({"kind": "topic"}), INVALID_ARGUMENT),
            (json!(["a.b", {"a": long}]), json!({}), "wamp.error.payload_size_exceeded"),
            (json!(["a.b", {"a": deep}]), json!({}), INVALID_ARGUMENT),
            (json!(["a.b", {"a": "\0no base64"}]), json!({}), INVALID_ARGUMENT),
        ] {
            let answer = member.call_with(DEFINE, args.clone(), kwargs.clone());
            assert_eq!(answer, Err(expected.to_owned()), "{kwargs}");
        }
        for (procedure, args, expected) in [
            ("wamp.reflect.describe", json!([]), INVALID_ARGUMENT),
            ("wamp.reflection.topic.describe", json!(["a b"]), INVALID_URI),
            ("wamp.reflection.topic.list", json!([1]), INVALID_ARGUMENT),
            ("wamp.reflection.things.list", json!([]), "wamp.error.no_such_procedure"),
        ] {
            assert_eq!(member.refused(procedure, args), expected, "{procedure}");
        }
        let mut members: Vec<Member> = (0..4).map(|_| Member::join(&router, "realm1")).collect();
        for number in 0..4_096 {
            // A session has a quarter of its realm's.
            let member = &mut members[number / 1_024];
            member.say_call(DEFINE, json!([format!("a.{number}"), {"a": 1}]), json!({}));
            assert_eq!(member.client.expect()[0], 50, "{number}");
            if number == 1_023 {
                assert_eq!(member.refused(DEFINE, json!(["a.b", {"a": 1}])), "wamp.error.unavailable");
            }
        }
        assert_eq!(member.refused(DEFINE, json!(["a.b", {"a": 1}])), "wamp.error.unavailable");
        assert_eq!(member.call(DEFINE, json!(["a.7"])), Value::Null);
        assert_eq!(member.call(DEFINE, json!(["a.b", {"a": 1}])), Value::Null);
    }
}
