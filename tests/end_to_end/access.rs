//! Who gets what: permissions and lists of receivers among users who have logged in, on the real process.

use serde_json::{Value, json};

use crate::logins::logged_in;
use crate::support::{CHEAP_HASH, Client, Folder, Launch, Router, eventually};

/// Joe is a member, who may hear `com.` but not `com.secret.`; ann and eve are operators and may do everything.
fn launch(driver: &str, folder: &Folder) -> Router {
    let users = [("joe", "member"), ("ann", "operator"), ("eve", "operator")];
    let users = users.map(|(name, role)| format!("{name}:{role}:{CHEAP_HASH}\n")).concat();
    folder.write("users.txt", &users);
    let text = r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = "com."
match = "prefix"
allow = ["subscribe", "register"]
[[realm.role.permission]]
uri = "com.secret."
match = "prefix"
allow = []
[[realm.role]]
name = "operator"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
"#;
    Launch::on(driver).argument("--config").argument(&folder.write("fanwire.toml", text)).start()
}

/// Publishes and waits until it is published, so that what follows is later everywhere.
fn publish(publisher: &mut Client, mut options: Value, topic: &str, word: &str) {
    options["acknowledge"] = json!(true);
    let published = publisher.ask(json!([16, 1, options, topic, [word]]));
    assert_eq!(published[0], 17, "{published}");
}

/// The next event's word.
fn word(client: &mut Client) -> String {
    let event = client.expect();
    assert_eq!(event[0], 36, "{event}");
    event[4][0].as_str().expect("a word").to_owned()
}

on_both_drivers! {
    fn a_pattern_brings_nothing_that_its_role_may_not_ask_for(driver: &str) {
        let folder = Folder::new(&format!("pattern-{driver}"));
        let router = launch(driver, &folder);
        let [mut joe, mut ann, mut eve] = ["joe", "ann", "eve"].map(|user| logged_in(&router, "realm1", user).0);
        for client in [&mut joe, &mut ann] {
            let subscribed = client.ask(json!([32, 1, {"match": "prefix"}, "com."]));
            assert_eq!(subscribed[0], 33, "{subscribed}");
        }
        let refused = joe.ask(json!([32, 2, {"match": "prefix"}, "com.secret."]));
        assert_eq!((&refused[0], &refused[4]), (&json!(8), &json!("wamp.error.not_authorized")), "{refused}");
        publish(&mut eve, json!({}), "com.secret.plan", "secret");
        publish(&mut eve, json!({}), "com.news", "open");
        assert_eq!([word(&mut ann), word(&mut ann)], ["secret", "open"]);
        assert_eq!(word(&mut joe), "open");
        eventually("the event kept from joe being counted", || {
            router.metric("fanwire_events_withheld_total", "") == 1.0
        });

        // The same for calls: a callee by pattern gets those that it might have registered for by name.
        let registered = joe.ask(json!([64, 3, {"match": "prefix"}, "com."]));
        assert_eq!(registered[0], 65, "{registered}");
        let refused = eve.ask(json!([48, 2, {}, "com.secret.code"]));
        assert_eq!((&refused[0], &refused[4]), (&json!(8), &json!("wamp.error.no_such_procedure")), "{refused}");
        eve.send(json!([48, 3, {}, "com.code"]));
        let invocation = joe.expect();
        assert_eq!((&invocation[0], &invocation[3]["procedure"]), (&json!(68), &json!("com.code")), "{invocation}");
    }

    fn lists_of_receivers_go_by_user_and_role(driver: &str) {
        let folder = Folder::new(&format!("lists-{driver}"));
        let router = launch(driver, &folder);
        let [mut joe, mut ann, mut eve] = ["joe", "ann", "eve"].map(|user| logged_in(&router, "realm1", user).0);
        joe.subscribe("com.news");
        ann.subscribe("com.news");
        for (word, options) in [
            ("not joe", json!({"exclude_authid": ["joe"]})),
            ("members", json!({"eligible_authrole": ["member"]})),
            ("not operators", json!({"exclude_authrole": ["operator"]})),
            ("ann", json!({"eligible_authid": ["ann", "nobody"]})),
            ("nobody", json!({"eligible_authid": []})),
            ("both lists agree on nobody", json!({"eligible_authid": ["ann"], "eligible_authrole": ["member"]})),
            ("all", json!({})),
        ] {
            publish(&mut eve, options, "com.news", word);
        }
        assert_eq!([word(&mut joe), word(&mut joe), word(&mut joe)], ["members", "not operators", "all"]);
        assert_eq!([word(&mut ann), word(&mut ann), word(&mut ann)], ["not joe", "ann", "all"]);
    }
}
