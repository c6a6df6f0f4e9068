//! Bridges to a real Redis, and the Redis port in its place.

mod clients;
mod faults;
mod port;

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::redis::{Redis, Resp, Value, bulk};
use crate::support::{Client, Folder, Launch, Router, eventually};

/// A router with a bridge, and the folder of its configuration.
fn bridged(driver: &str, name: &str, redis: &Redis, keys: &str) -> (Folder, Router) {
    bridged_by(Launch::on(driver), driver, name, redis, keys)
}

fn bridged_by(launch: Launch, driver: &str, name: &str, redis: &Redis, keys: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("redis-{name}-{driver}"));
    let text = format!("[[bridge]]\nname = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n{keys}\n", redis.port);
    let file = folder.write("fanwire.toml", &text);
    let router = launch.argument("--config").argument(&file).start();
    (folder, router)
}

fn is_up(router: &Router) -> bool {
    router.metric("fanwire_bridge_up", "bridge=\"redis\"") == 1.0
}

fn subscribe(client: &mut Resp, channel: &str) {
    let confirmed = client.ask(&format!("SUBSCRIBE {channel}"));
    assert_eq!(confirmed, Value::Array(vec![bulk("subscribe"), bulk(channel), Value::Integer(1)]));
}

on_both_drivers! {
    fn a_channel_is_a_topic_with_one_subscription_for_all_shards(driver: &str) {
        let redis = Redis::start(&[]);
        let (_folder, router) = bridged(driver, "in", &redis, "map = [{ channel = \"channel\" }, { pattern = \"n.*\", payload = \"json\" }]");
        assert!(is_up(&router), "it is subscribed before anybody can connect");
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        for client in [&mut alice, &mut bob] {
            client.subscribe("channel");
            client.subscribe("n.x");
        }
        let mut backend = redis.client();
        assert_eq!(backend.ask("PUBSUB NUMSUB channel"), Value::Array(vec![bulk("channel"), Value::Integer(1)]));
        backend.send(&[b"PUBLISH", b"channel", "data from é".as_bytes()]);
        assert_eq!(backend.hear(), Value::Integer(1));
        backend.send(&[b"PUBLISH", b"channel", b"\xff\x00"]);
        assert_eq!(backend.hear(), Value::Integer(1));
        backend.send(&[b"PUBLISH", b"n.x", b"{\"a\":[1]}"]);
        assert_eq!(backend.hear(), Value::Integer(1));
        for client in [&mut alice, &mut bob] {
            assert_eq!(client.expect_event(), json!(["data from é"]));
            assert_eq!(client.expect_event(), json!(["\u{0}/wA="]));
            assert_eq!(client.expect_event(), json!([{"a": [1]}]));
        }
        eventually("three messages that are counted", || {
            router.metric("fanwire_bridge_messages_total", "direction=\"in\"") == 3.0
        });
    }

    fn s1_05_a_message_of_redis_reaches_everybody_word_for_word(driver: &str) {
        let redis = Redis::start(&[]);
        let (_folder, router) = bridged(driver, "s1-05", &redis, "map = [{ channel = \"channel\" }]");
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        alice.subscribe("channel");
        bob.subscribe("channel");
        let port = redis.port.to_string();
        let said = Command::new("redis-cli").args(["-p", &port, "PUBLISH", "channel", "data from redis"]).output();
        let said = said.expect("redis-cli is installed: apt install redis-tools");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "1");
        for client in [&mut alice, &mut bob] {
            assert_eq!(client.expect_event(), json!(["data from redis"]));
        }
    }

    fn s1_07_one_subscription_however_many_shards(driver: &str) {
        let redis = Redis::start(&[]);
        for shards in ["1", "2", "4"] {
            let launch = Launch::on(driver).argument("--shards").argument(shards);
            let (_folder, router) = bridged_by(launch, driver, &format!("s1-07-{shards}"), &redis, "map = [{ channel = \"channel\" }]");
            assert!(is_up(&router));
            let mut clients: Vec<Client> = (0..8).map(|_| Client::join(router.wamp)).collect();
            clients.iter_mut().for_each(|client| _ = client.subscribe("channel"));
            assert_eq!(
                redis.client().ask("PUBSUB NUMSUB channel"),
                Value::Array(vec![bulk("channel"), Value::Integer(1)]),
                "{shards} shards"
            );
            assert_eq!(redis.client().ask("PUBLISH channel hello"), Value::Integer(1));
            for client in &mut clients {
                assert_eq!(client.expect_event(), json!(["hello"]));
            }
        }
    }

    fn s1_08_what_is_published_right_after_the_first_open_is_delivered(driver: &str) {
        let redis = Redis::start(&[]);
        let mut backend = redis.client();
        for start in 0..5 {
            let (_folder, router) = bridged(driver, &format!("s1-08-{start}"), &redis, "map = [{ channel = \"channel\" }]");
            let mut client = Client::join(router.wamp);
            client.subscribe("channel");
            for number in 0..1_000 {
                backend.send(&[b"PUBLISH", b"channel", number.to_string().as_bytes()]);
            }
            for number in 0..1_000 {
                assert_eq!(backend.hear(), Value::Integer(1));
                assert_eq!(client.expect_event(), json!([number.to_string()]));
            }
            drop(router);
            eventually("a Redis that has noticed", || {
                redis.client().ask("PUBSUB NUMSUB channel") == Value::Array(vec![bulk("channel"), Value::Integer(0)])
            });
        }
    }

    fn s1_14_of_three_routers_at_one_redis_each_hears_a_message_once(driver: &str) {
        let redis = Redis::start(&[]);
        let keys = "map = [{ channel = \"channel\", direction = \"both\" }]";
        let routers: Vec<(Folder, Router)> =
            (0..3).map(|node| bridged(driver, &format!("s1-14-{node}"), &redis, keys)).collect();
        let mut clients: Vec<Client> = routers.iter().map(|(_, router)| Client::join(router.wamp)).collect();
        clients.iter_mut().for_each(|client| _ = client.subscribe("channel"));
        let mut listener = redis.client();
        subscribe(&mut listener, "channel");
        for (node, (_, router)) in routers.iter().enumerate() {
            let mut publisher = Client::join(router.wamp);
            publisher.publish("channel", json!([format!("from {node}")]));
            for client in &mut clients {
                assert_eq!(client.expect_event(), json!([format!("from {node}")]));
            }
            listener.expect_message("channel", format!("from {node}").as_bytes());
        }
        // The last message is behind whatever might have gone round.
        assert_eq!(redis.client().ask("PUBLISH channel last"), Value::Integer(4));
        clients.iter_mut().for_each(|client| assert_eq!(client.expect_event(), json!(["last"])));
        listener.expect_message("channel", b"last");
    }

    fn a_pattern_that_comes_in_and_a_channel_that_goes_out_deliver_once(driver: &str) {
        let redis = Redis::start(&[]);
        let keys = "map = [{ pattern = \"*\" }, { channel = \"b\", direction = \"out\" }]";
        let (_folder, router) = bridged(driver, "in-and-out", &redis, keys);
        let (mut client, mut publisher) = (Client::join(router.wamp), Client::join(router.wamp));
        client.subscribe("b");
        publisher.publish("b", json!(["own"]));
        assert_eq!(client.expect_event(), json!(["own"]));
        eventually("the echo", || router.metric("fanwire_bridge_echoes_total", "redis") == 1.0);
        redis.client().ask("PUBLISH b theirs");
        assert_eq!(client.expect_event(), json!(["theirs"]));
    }

    fn s1_14_both_ways_each_message_is_heard_once_on_each_side(driver: &str) {
        let redis = Redis::start(&[]);
        let keys = "map = [{ channel = \"chat\", topic = \"room\", direction = \"both\" }, { pattern = \"p.*\", direction = \"both\" }]";
        let (_one_folder, one) = bridged(driver, "both1", &redis, keys);
        let (_two_folder, two) = bridged(driver, "both2", &redis, keys);
        let mut here = Client::join(one.wamp);
        let mut there = Client::join(two.wamp);
        let mut publisher = Client::join(one.wamp);
        for client in [&mut here, &mut there] {
            client.subscribe("room");
            client.subscribe("p.x");
        }
        let mut listener = redis.client();
        subscribe(&mut listener, "chat");
        for number in 0..20 {
            // Equal ones too: as many are heard as were said.
            publisher.publish("room", json!([format!("message {}", number / 2)]));
        }
        publisher.publish("p.x", json!([{"k": 1}]));
        for client in [&mut here, &mut there] {
            for number in 0..20 {
                assert_eq!(client.expect_event(), json!([format!("message {}", number / 2)]));
            }
        }
        assert_eq!(here.expect_event(), json!([{"k": 1}]));
        assert_eq!(there.expect_event(), json!(["{\"k\":1}"]), "as text, by Redis");
        for number in 0..20 {
            listener.expect_message("chat", format!("message {}", number / 2).as_bytes());
        }
        // What Redis's own clients say comes once too, and does not go back.
        assert_eq!(redis.client().ask("PUBLISH chat last"), Value::Integer(3));
        listener.expect_message("chat", b"last");
        for client in [&mut here, &mut there] {
            assert_eq!(client.expect_event(), json!(["last"]));
            assert_eq!(client.hear_within(Duration::from_millis(300)), None);
        }
        assert!(listener.has_nothing());
        eventually("echoes that are counted", || one.metric("fanwire_bridge_echoes_total", "redis") == 21.0);
    }
}
