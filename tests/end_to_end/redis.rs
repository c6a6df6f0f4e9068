//! Bridges to a real Redis, and the Redis port in its place.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::redis::{Redis, Resp, Value, bulk};
use crate::support::{Client, Folder, Launch, Router, eventually};

fn bridged(driver: &str, name: &str, redis: &Redis, keys: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("redis-{name}-{driver}"));
    let text = format!("[[bridge]]\nname = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n{keys}\n", redis.port);
    let file = folder.write("fanwire.toml", &text);
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

fn is_up(router: &Router) -> bool {
    router.metric("fanwire_bridge_up", "bridge=\"redis\"") == 1.0
}

/// A router with a Redis port, and where that is.
fn with_port(driver: &str, launch: impl FnOnce(Launch) -> Launch) -> (Router, SocketAddr) {
    let router = launch(Launch::on(driver).set("resp.bind", "127.0.0.1:0")).start();
    let address = Resp::port_of(&router);
    (router, address)
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

    fn both_ways_each_message_is_heard_once_on_each_side(driver: &str) {
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

    fn without_redis_everything_else_goes_on_and_it_comes_back_by_itself(driver: &str) {
        let mut redis = Redis::absent(&[]);
        let (_folder, router) = bridged(driver, "away", &redis, "notices = \"notices\"\nmap = [{ channel = \"channel\", direction = \"both\" }]");
        assert!(!is_up(&router));
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        let mut observer = Client::join(router.wamp);
        alice.subscribe("channel");
        observer.subscribe("notices");
        bob.publish("channel", json!(["local"]));
        assert_eq!(alice.expect_event(), json!(["local"]));
        for round in 0..3 {
            redis.start_again();
            eventually("a bridge that is up", || is_up(&router));
            assert_eq!(observer.expect_event()[0]["state"], "up");
            assert_eq!(redis.client().ask(&format!("PUBLISH channel round-{round}")), Value::Integer(1));
            assert_eq!(alice.expect_event(), json!([format!("round-{round}")]), "once");
            redis.kill();
            eventually("a bridge that is down", || !is_up(&router));
            assert_eq!(observer.expect_event()[0]["state"], "down");
        }
        assert_eq!(alice.hear_within(Duration::from_millis(100)), None);
        assert!(router.metric("fanwire_bridge_gaps_total", "redis") >= 3.0);
        let said = router.said();
        assert!(said.contains("look at bridge.url"), "{said}");
    }

    fn a_wrong_password_is_told_once_and_the_right_one_acts_without_a_restart(driver: &str) {
        let redis = Redis::start(&["--requirepass", "right"]);
        let folder = Folder::new(&format!("redis-password-{driver}"));
        let password = folder.write("redis.password", "wrong\n");
        let text = format!(
            "[[bridge]]\nname = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\npassword_file = \"redis.password\"\nmap = [{{ channel = \"channel\" }}]\n",
            redis.port
        );
        let file = folder.write("fanwire.toml", &text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        assert!(!is_up(&router));
        eventually("a second attempt", || router.metric("fanwire_bridge_failures_total", "redis") >= 3.0);
        assert_eq!(router.said().matches("bridge.password_file").count(), 1, "{}", router.said());
        std::fs::write(password, "right\n").expect("written");
        eventually("a bridge that is up", || is_up(&router));
        assert!(!router.said().contains("right"), "a password was logged");
    }

    fn the_redis_port_serves_subscribers_of_all_kinds(driver: &str) {
        let (router, address) = with_port(driver, |launch| launch);
        let mut wamp = Client::join(router.wamp);
        wamp.subscribe("channel");
        let (mut one, mut two) = (Resp::connect(address), Resp::connect(address));
        subscribe(&mut one, "channel");
        assert_eq!(two.ask("PSUBSCRIBE ch?n*"), Value::Array(vec![bulk("psubscribe"), bulk("ch?n*"), Value::Integer(1)]));
        let mut backend = Resp::connect(address);
        assert_eq!(backend.ask("PING"), Value::Simple("PONG".to_owned()));
        assert_eq!(backend.ask("PUBLISH channel hello"), Value::Integer(3));
        one.expect_message("channel", b"hello");
        assert_eq!(two.hear(), Value::Array(vec![bulk("pmessage"), bulk("ch?n*"), bulk("channel"), bulk("hello")]));
        assert_eq!(wamp.expect_event(), json!(["hello"]));
        wamp.publish("channel", json!(["from wamp"]));
        one.expect_message("channel", b"from wamp");
        assert_eq!(backend.ask("PUBLISH nobody hello"), Value::Integer(0));
        assert_eq!(backend.ask("PUBSUB NUMSUB channel"), Value::Array(vec![bulk("channel"), Value::Integer(1)]));
        assert_eq!(one.ask("UNSUBSCRIBE"), Value::Array(vec![bulk("unsubscribe"), bulk("channel"), Value::Integer(0)]));
        assert_eq!(backend.ask("PUBLISH channel hello"), Value::Integer(2));
        drop(two);
        eventually("a subscriber that is gone", || backend.ask("PUBLISH channel hello") == Value::Integer(1));
        // Pipelined commands are answered in their order, whatever takes longer.
        for number in 0..2_000 {
            backend.send(&[b"PUBLISH", b"channel", number.to_string().as_bytes()]);
            backend.send(&[b"PING", number.to_string().as_bytes()]);
        }
        for number in 0..2_000 {
            assert_eq!(backend.hear(), Value::Integer(1));
            assert_eq!(backend.hear(), bulk(&number.to_string()));
        }
    }

    fn the_redis_port_speaks_version_3_and_asks_for_its_password(driver: &str) {
        let folder = Folder::new(&format!("redis-port-{driver}"));
        let password = folder.write("password", "secret\n");
        let (_router, address) = with_port(driver, |launch| launch.set("resp.password_file", &password));
        let mut client = Resp::connect(address);
        assert_eq!(client.ask("PUBLISH a b"), Value::Error("NOAUTH Authentication required.".to_owned()));
        assert!(matches!(client.ask("HELLO 3 AUTH default wrong"), Value::Error(words) if words.starts_with("WRONGPASS")));
        assert!(matches!(client.ask("HELLO 3 AUTH default secret"), Value::Map(_)));
        assert_eq!(client.ask("SUBSCRIBE a"), Value::Push(vec![bulk("subscribe"), bulk("a"), Value::Integer(1)]));
        // In version 3 a subscriber may say everything.
        assert_eq!(client.ask("PUBLISH a b"), Value::Integer(1));
        assert_eq!(client.hear(), Value::Push(vec![bulk("message"), bulk("a"), bulk("b")]));
        client.send(&[b"PUBLISH", b"no topic", b"x"]);
        assert!(matches!(client.hear(), Value::Error(words) if words.starts_with("ERR ")));
        client.send(&[b"QUIT"]);
        assert_eq!(client.hear(), Value::Simple("OK".to_owned()));
    }

    fn the_command_line_client_of_redis_finds_what_it_needs(driver: &str) {
        let (_router, address) = with_port(driver, |launch| launch);
        let mut listener = Resp::connect(address);
        subscribe(&mut listener, "channel");
        let port = address.port().to_string();
        let said = Command::new("redis-cli").args(["-p", &port, "PUBLISH", "channel", "data from redis"]).output();
        let said = said.expect("redis-cli is installed: apt install redis-tools");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "1");
        listener.expect_message("channel", b"data from redis");
    }
}
