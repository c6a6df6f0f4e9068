//! WAMP's registration meta API on the real process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::meta::{End, INVALID_ARGUMENT, INVALID_URI, Member, NO_SUCH_SESSION, each, sorted};
use crate::support::Launch;

impl Member {
    fn register(&mut self, procedure: &str, options: Value) -> u64 {
        self.requests += 1;
        let registered = self.client.ask(json!([64, self.requests, options, procedure]));
        assert_eq!(registered[0], 65, "{registered}");
        registered[2].as_u64().expect("an id")
    }

    fn unregister(&mut self, id: u64) {
        self.requests += 1;
        let unregistered = self.client.ask(json!([66, self.requests, id]));
        assert_eq!(unregistered[0], 67, "{unregistered}");
    }
}

on_both_drivers! {
    fn registrations_are_listed_found_and_described(driver: &str) {
        each(driver, |router| {
            let mut members: Vec<Member> = (0..6).map(|_| Member::join(router, "realm1")).collect();
            let shared = |policy| json!({"invoke": "roundrobin", "match": policy});
            let exact = members[0].register("com.a.b", shared("exact"));
            let prefix = members[1].register("com.a", json!({"match": "prefix"}));
            let wildcard = members[2].register("com..b", json!({"match": "wildcard", "invoke": "last"}));
            for member in &mut members[3..] {
                assert_eq!(member.register("com.a.b", shared("exact")), exact);
            }
            let mut asking = Member::join(router, "realm1");
            let lists = json!([{"exact": [exact], "prefix": [prefix], "wildcard": [wildcard]}]);
            assert_eq!(asking.call("wamp.registration.list", json!([])), lists);
            for (args, found) in [
                (json!(["com.a.b"]), json!(exact)),
                (json!(["com.a.b", {"match": "exact", "invoke": "first"}]), json!(exact)),
                (json!(["com.a", {"match": "prefix"}]), json!(prefix)),
                (json!(["com..b", {"match": "wildcard"}]), json!(wildcard)),
                (json!(["com.a"]), json!(null)),
                (json!(["com.a.b", {"match": "prefix"}]), json!(null)),
            ] {
                assert_eq!(asking.call("wamp.registration.lookup", args.clone()), json!([found]), "{args}");
            }
            for (procedure, found) in [
                ("com.a.b", json!(exact)), ("com.ab", json!(prefix)), ("com.x.b", json!(wildcard)), ("org.x", json!(null)),
            ] {
                assert_eq!(asking.call("wamp.registration.match", json!([procedure])), json!([found]), "{procedure}");
            }
            for (id, uri, policy, invoke, count) in [
                (exact, "com.a.b", "exact", "roundrobin", 4),
                (prefix, "com.a", "prefix", "single", 1),
                (wildcard, "com..b", "wildcard", "last", 1),
            ] {
                let details = asking.call("wamp.registration.get", json!([id]))[0].take();
                let created = details["created"].as_str().expect("a string");
                assert!(created.len() == 20 && created.starts_with("20") && created.ends_with('Z'), "{created}");
                let expected = json!({"id": id, "created": created, "uri": uri, "match": policy, "invoke": invoke});
                assert_eq!(details, expected);
                assert_eq!(asking.call("wamp.registration.count_callees", json!([id])), json!([count]));
            }
            let mut ids: Vec<u64> = members[3..].iter().chain(&members[..1]).map(|member| member.id).collect();
            ids.sort_unstable();
            assert_eq!(sorted(&asking.call("wamp.registration.list_callees", json!([exact]))[0]), ids);
        });
    }

    fn what_becomes_of_registrations_is_told_in_order(driver: &str) {
        each(driver, |router| {
            let mut observer = Member::join(router, "realm1");
            observer.subscribe("wamp.registration.", "prefix");
            let mut members: Vec<Member> = (0..8).map(|_| Member::join(router, "realm1")).collect();
            let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
            for (procedure, policy) in [("com.a", "exact"), ("com.", "prefix"), ("com..b", "wildcard")] {
                let options = json!({"match": policy, "invoke": "random"});
                let id = members[0].register(procedure, options.clone());
                members[1..].iter_mut().for_each(|member| _ = member.register(procedure, options.clone()));
                let (first, mut created) = observer.meta_event();
                assert_eq!((first.as_str(), &created[0]), ("wamp.registration.on_create", &json!(ids[0])));
                let details = created[1].take();
                assert_eq!(details, members[1].call("wamp.registration.get", json!([id]))[0]);
                for session in &ids {
                    let told = observer.meta_event();
                    assert_eq!(told, ("wamp.registration.on_register".to_owned(), json!([session, id])));
                }
                members.iter_mut().for_each(|member| member.unregister(id));
                for session in &ids {
                    let told = observer.meta_event();
                    assert_eq!(told, ("wamp.registration.on_unregister".to_owned(), json!([session, id])));
                }
                let last = ids.last().expect("there are some");
                assert_eq!(observer.meta_event(), ("wamp.registration.on_delete".to_owned(), json!([last, id])));
            }
            // Whoever goes leaves, and whoever takes it by force ends it.
            let mut member = members.swap_remove(5);
            let (id, session) = (member.register("com.left", json!({})), member.id);
            let usurper = &mut members[0];
            let new = usurper.register("com.left", json!({"force_reregister": true}));
            assert_eq!(member.client.expect(), json!([67, 0, {"registration": id, "reason": "wamp.error.unregistered"}]));
            member.end(End::Cut);
            usurper.unregister(new);
            let by = usurper.id;
            let events: Vec<(String, Value)> = (0..8).map(|_| observer.meta_event()).collect();
            let ends = |session: u64, id: u64| {
                ["on_unregister", "on_delete"].map(|event| (format!("wamp.registration.{event}"), json!([session, id])))
            };
            assert_eq!((&events[0].1[1]["id"], &events[1].1), (&json!(id), &json!([session, id])));
            assert_eq!(events[2..4], ends(session, id));
            assert_eq!((&events[4].1[1]["id"], &events[5].1), (&json!(new), &json!([by, new])));
            assert_eq!(events[6..], ends(by, new));
            assert!(observer.client.hear_within(Duration::from_millis(50)).is_none());
        });
    }

    fn registrations_that_come_and_go_at_once_are_told_in_order(driver: &str) {
        let router = Launch::on(driver).start();
        let mut observer = Member::join(&router, "realm1");
        observer.subscribe("wamp.registration.", "prefix");
        let members: Vec<Member> = (0..6).map(|_| Member::join(&router, "realm1")).collect();
        let rounds = 60;
        let threads: Vec<_> = members
            .into_iter()
            .map(|mut member| {
                std::thread::spawn(move || {
                    for _ in 0..rounds {
                        let id = member.register("com.busy", json!({"invoke": "first"}));
                        member.unregister(id);
                    }
                    member
                })
            })
            .collect();
        let mut attached = 0;
        let mut alive: Option<(u64, Vec<u64>)> = None;
        while attached < 6 * rounds || alive.is_some() {
            let (event, args) = observer.meta_event();
            let session = args[0].as_u64().expect("an id");
            let id = args[1].as_u64().or_else(|| args[1]["id"].as_u64()).expect("an id");
            match (event.as_str(), &mut alive) {
                ("wamp.registration.on_create", None) => alive = Some((id, Vec::new())),
                ("wamp.registration.on_register", Some((known, callees))) if *known == id => {
                    callees.push(session);
                    attached += 1;
                }
                ("wamp.registration.on_unregister", Some((known, callees)))
                    if *known == id && callees.contains(&session) =>
                {
                    callees.retain(|callee| *callee != session);
                }
                ("wamp.registration.on_delete", Some((known, callees))) if *known == id && callees.is_empty() => {
                    alive = None;
                }
                other => panic!("{other:?} {args}"),
            }
        }
        for thread in threads {
            drop(thread.join().expect("it has no complaints"));
        }
    }

    fn a_registration_is_taken_from_its_callee(driver: &str) {
        each(driver, |router| {
            let mut members: Vec<Member> = (0..3).map(|_| Member::join(router, "realm1")).collect();
            let mut plain = Member::join_plain(router);
            let shared = || json!({"invoke": "first"});
            let id = members[0].register("com.a", shared());
            members[1..].iter_mut().for_each(|member| assert_eq!(member.register("com.a", shared()), id));
            assert_eq!(plain.register("com.a", shared()), id);
            let (mut admin, mut caller) = (Member::join(router, "realm1"), Member::join(router, "realm1"));
            let remove = "wamp.registration.remove_callee";
            let call = caller.say_call("com.a", json!([]), json!({}));
            let invocation = members[0].client.expect();
            assert_eq!((&invocation[0], &invocation[2]), (&json!(68), &json!(id)));
            let words = json!({"reason": "com.example.moved"});
            assert_eq!(admin.call_with(remove, json!([id, members[0].id]), words), Ok(Value::Null));
            let told = members[0].client.expect();
            assert_eq!(told, json!([67, 0, {"registration": id, "reason": "com.example.moved"}]));
            assert_eq!(admin.call(remove, json!([id, members[1].id])), Value::Null);
            assert_eq!(members[1].client.expect(), json!([67, 0, {"registration": id}]));
            // What was asked before is still answered, and once.
            members[0].client.send(json!([70, invocation[1], {}, ["late"]]));
            assert_eq!(caller.client.expect(), json!([50, call, {}, ["late"]]));
            let call = caller.say_call("com.a", json!([]), json!({}));
            let invocation = members[2].client.expect();
            members[2].client.send(json!([70, invocation[1], {}, ["next"]]));
            assert_eq!(caller.client.expect(), json!([50, call, {}, ["next"]]));
            assert_eq!(admin.call(remove, json!([id, plain.id, "com.example.x"])), Value::Null);
            for session in [members[0].id, plain.id, admin.id] {
                assert_eq!(admin.refused(remove, json!([id, session])), NO_SUCH_SESSION);
            }
            // Who has not announced it was told nothing, and has none any more.
            assert_eq!(plain.call("wamp.registration.count_callees", json!([id])), json!([1]));
            assert_eq!(admin.call(remove, json!([id, members[2].id])), Value::Null);
            assert_eq!(caller.refused("com.a", json!([])), "wamp.error.no_such_procedure");
            assert_eq!(admin.refused(remove, json!([id, members[2].id])), "wamp.error.no_such_registration");
        });
    }

    fn bad_arguments_about_registrations_have_their_errors(driver: &str) {
        let router = Launch::on(driver).start();
        let mut member = Member::join(&router, "realm1");
        let id = member.register("com.a", json!({}));
        let unknown = 9_007_199_254_740_992_u64;
        let none = "wamp.error.no_such_registration";
        let session = member.id;
        let cases: &[(&str, Value, &str)] = &[
            ("list", json!([1]), INVALID_ARGUMENT),
            ("lookup", json!([]), INVALID_ARGUMENT),
            ("lookup", json!(["a..b"]), INVALID_URI),
            ("lookup", json!(["a.b", {"match": "regex"}]), INVALID_ARGUMENT),
            ("match", json!(["a b"]), INVALID_URI),
            ("match", json!(["a.b", {}]), INVALID_ARGUMENT),
            ("get", json!([]), INVALID_ARGUMENT),
            ("get", json!([unknown]), none),
            ("list_callees", json!(["x"]), INVALID_ARGUMENT),
            ("list_callees", json!([unknown]), none),
            ("count_callees", json!([-5]), INVALID_ARGUMENT),
            ("count_callees", json!([unknown]), none),
            ("remove_callee", json!([id]), INVALID_ARGUMENT),
            ("remove_callee", json!([unknown, session]), none),
            ("remove_callee", json!([id, unknown]), NO_SUCH_SESSION),
            ("remove_callee", json!([id, session, 7]), INVALID_ARGUMENT),
        ];
        for (name, args, expected) in cases {
            let name = format!("wamp.registration.{name}");
            assert_eq!(&member.refused(&name, args.clone()), expected, "{name} {args}");
        }
        assert_eq!(member.call("wamp.registration.list_callees", json!([id])), json!([[session]]));
    }
}
