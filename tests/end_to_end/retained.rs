//! Events that are kept for those who subscribe later, on the real process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Folder, Http, Launch, Router, eventually};

/// Publishes an event that is kept.
fn retain(client: &mut Client, topic: &str, args: &Value) {
    let published = client.ask(json!([16, 7, {"acknowledge": true, "retain": true}, topic, args]));
    assert_eq!(published[0], 17, "{published}");
}

/// Asks for retained events; they follow.
fn ask_for_retained(client: &mut Client, policy: &str, topic: &str) {
    let subscribed = client.ask(json!([32, 7, {"match": policy, "get_retained": true}, topic]));
    assert_eq!(subscribed[0], 33, "{subscribed}");
}

/// Its details and arguments.
fn next_event(client: &mut Client) -> (Value, Value) {
    let mut event = client.expect();
    assert_eq!(event[0], 36, "{event}");
    (event[3].take(), event[4].take())
}

/// One after the other on each shard.
fn spread(router: &Router) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    eventually("a client on each shard", || {
        clients.push(Client::join(router.wamp));
        let used = |shard: &&str| router.metric("fanwire_sessions", &format!("shard=\"{shard}\"")) > 0.0;
        ["0", "1"].into_iter().filter(used).count() == 2
    });
    clients
}

on_both_drivers! {
    fn who_comes_later_is_told_the_newest(driver: &str) {
        let router = Launch::on(driver).argument("--shards").argument("2").start();
        let mut publisher = Client::join(router.wamp);
        retain(&mut publisher, "com.lamp.1", &json!(["off"]));
        retain(&mut publisher, "com.lamp.1", &json!(["on"]));
        // What the HTTP API publishes can be kept as well.
        let body = json!({"topic": "com.lamp.2", "data": "dim", "options": {"retain": true}});
        assert_eq!(Http::connect(router.wamp).post("/v1/publish", &body).status, 200);
        for mut client in spread(&router) {
            ask_for_retained(&mut client, "exact", "com.lamp.1");
            assert_eq!(next_event(&mut client), (json!({"retained": true}), json!(["on"])));
            ask_for_retained(&mut client, "wildcard", "com.lamp.");
            let of = |topic: &str| json!({"topic": topic, "retained": true});
            assert_eq!(next_event(&mut client), (of("com.lamp.1"), json!(["on"])));
            assert_eq!(next_event(&mut client), (of("com.lamp.2"), json!(["dim"])));
        }
        assert_eq!(router.metric("fanwire_retained_events", ""), 2.0);
        // And be forgotten.
        let body = json!({"topic": "com.lamp.2", "options": {"retain": true}});
        assert_eq!(Http::connect(router.wamp).post("/v1/publish", &body).status, 200);
        assert_eq!(router.metric("fanwire_retained_events", ""), 1.0);
        let wrong = json!({"topic": "com.lamp.2", "options": {"retain": 1}});
        assert_eq!(Http::connect(router.wamp).post("/v1/publish", &wrong).status, 400);
    }

    /// A last will that stays: who subscribes later sees that somebody has gone.
    fn a_testament_may_be_kept(driver: &str) {
        let router = Router::on(driver);
        let mut testator = Client::join(router.wamp);
        let testament = json!(["com.anna", ["gone"], {}]);
        testator.send(json!([48, 1, {}, "wamp.session.add_testament", testament, {"publish_options": {"retain": true}}]));
        assert_eq!(testator.expect()[0], 50);
        drop(testator);
        eventually("the testament being kept", || router.metric("fanwire_retained_events", "") == 1.0);
        let mut heir = Client::join(router.wamp);
        ask_for_retained(&mut heir, "exact", "com.anna");
        assert_eq!(next_event(&mut heir), (json!({"retained": true}), json!(["gone"])));
    }

    /// Twenty thousand of them, one more than there may be, and a subscriber of all: it is told each once, while others are
    /// served as ever.
    fn many_are_bounded_and_told_in_pages(driver: &str) {
        const MOST: usize = 20_000;
        let most = MOST.to_string();
        let router = Launch::on(driver).argument("--shards").argument("2").set("limits.retained_per_realm", &most).start();
        let mut publisher = Client::join(router.wamp);
        for index in 0..MOST + 50 {
            publisher.send(json!([16, 1, {"retain": true}, format!("com.bomb.{index:05}"), ["x".repeat(100)]]));
        }
        let refused = publisher.ask(json!([16, 2, {"acknowledge": true, "retain": true}, "com.bomb.more", ["x"]]));
        assert_eq!((&refused[0], &refused[4]), (&json!(8), &json!("wamp.error.unavailable")), "{refused}");
        assert!(refused[5][0].as_str().is_some_and(|words| words.contains("limits.retained_per_realm")), "{refused}");
        let body = json!({"topic": "com.bomb.http", "data": 1, "options": {"retain": true}});
        let answer = Http::connect(router.wamp).post("/v1/publish", &body);
        assert_eq!(answer.error().1, "overloaded", "{answer:?}");
        assert_eq!(router.metric("fanwire_retained_events", ""), MOST as f64);
        assert_eq!(router.metric("fanwire_not_retained_total", "realm_events"), 52.0);
        let bytes = router.metric("fanwire_retained_bytes", "");
        assert!((300.0..400.0).contains(&(bytes / MOST as f64)), "{bytes} bytes");

        let mut healthy = Client::join(router.wamp);
        healthy.subscribe("com.healthy");
        let mut subscriber = Client::join(router.wamp);
        subscriber.send(json!([32, 1, {"match": "prefix", "get_retained": true}, "com.bomb."]));
        for number in 0..20 {
            publisher.publish("com.healthy", json!([number]));
            assert_eq!(healthy.expect_event(), json!([number]));
        }
        assert_eq!(subscriber.expect()[0], 33);
        for index in 0..MOST {
            let (details, _) = next_event(&mut subscriber);
            assert_eq!(details, json!({"topic": format!("com.bomb.{index:05}"), "retained": true}));
        }
        assert_eq!(subscriber.hear_within(Duration::from_millis(100)), None, "no more");
        assert_eq!(router.metric("fanwire_slow_consumers_cut_total", ""), 0.0);
        assert_eq!(router.metric("fanwire_retained_delivered_total", ""), MOST as f64);
    }

    /// A reload makes room, and what is beyond a smaller limit stays until it is replaced.
    fn limits_change_by_a_reload(driver: &str) {
        let folder = Folder::new(&format!("retained-{driver}"));
        let file = folder.write("fanwire.toml", "[limits]\nretained_per_realm = 0\n");
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let mut client = Client::join(router.wamp);
        let refused = client.ask(json!([16, 1, {"acknowledge": true, "retain": true}, "com.a", [1]]));
        assert_eq!(refused[4], json!("wamp.error.unavailable"), "{refused}");
        folder.write("fanwire.toml", "[limits]\nretained_per_realm = 1\n");
        router.signal(rustix::process::Signal::HUP);
        eventually("room for one", || {
            client.ask(json!([16, 1, {"acknowledge": true, "retain": true}, "com.a", [1]]))[0] == 17
        });
    }
}
