//! Trust levels on the real process, as its configuration says them.

use serde_json::{Value, json};

use crate::meta::Member;
use crate::support::{CHEAP_HASH, Folder, Launch};

const CONFIGURATION: &str = r#"
[[realm]]
name = "realm1"
users_file = "users.txt"

[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]

[[realm.role]]
name = "staff"
trust_level = 5
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "call"]
[[realm.role.permission]]
uri = "gossip."
match = "prefix"
allow = ["publish", "call"]
trust_level = 0
"#;

on_both_drivers! {
    fn subscribers_and_callees_are_told_how_far_to_trust(driver: &str) {
        let folder = Folder::new(&format!("trust-{driver}"));
        folder.write("users.txt", &format!("joe:staff:{CHEAP_HASH}\n"));
        let file = folder.write("fanwire.toml", CONFIGURATION);
        for shards in ["1", "2"] {
            let router = Launch::on(driver).argument("--config").argument(&file).argument("--shards").argument(shards).start();
            let mut hearers: Vec<Member> = (0..4).map(|_| Member::join(&router, "realm1")).collect();
            let (mut staff, mut guest) = (Member::log_in(&router, "joe"), Member::join(&router, "realm1"));
            for hearer in &mut hearers {
                hearer.subscribe("news.a", "exact");
                hearer.subscribe("gossip.a", "exact");
            }
            for (number, hearer) in hearers.iter_mut().enumerate() {
                for base in ["news", "gossip"] {
                    hearer.requests += 1;
                    let registered = hearer.client.ask(json!([64, hearer.requests, {}, format!("{base}.{number}")]));
                    assert_eq!(registered[0], 65, "{registered}");
                }
            }
            for (topic, by_staff, expected) in [
                ("news.a", true, json!(5)), ("gossip.a", true, json!(0)), ("news.a", false, Value::Null),
            ] {
                let by = if by_staff { &mut staff } else { &mut guest };
                by.client.publish(topic, json!([1]));
                for hearer in &mut hearers {
                    let event = hearer.client.expect();
                    assert_eq!(event[0], 36, "{event}");
                    assert_eq!(event[3].get("trustlevel").cloned().unwrap_or_default(), expected, "{event}");
                }
                for (number, hearer) in hearers.iter_mut().enumerate() {
                    let request = by.say_call(&topic.replace(".a", &format!(".{number}")), json!([]), json!({}));
                    let invocation = hearer.client.expect();
                    assert_eq!(invocation[0], 68, "{invocation}");
                    assert_eq!(invocation[3].get("trustlevel").cloned().unwrap_or_default(), expected, "{invocation}");
                    hearer.client.send(json!([70, invocation[1], {}]));
                    assert_eq!(by.client.expect(), json!([50, request, {}]));
                }
            }
        }
    }
}
