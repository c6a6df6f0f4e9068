//! The Redis port, spoken to as it is on the wire.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use super::subscribe;
use crate::support::redis::{Resp, Value, bulk};
use crate::support::{Client, Folder, Launch, PATIENCE, Router, eventually, get, status};

/// A router with a Redis port, and where that is.
pub fn with_port(driver: &str, launch: impl FnOnce(Launch) -> Launch) -> (Router, SocketAddr) {
    let router = launch(Launch::on(driver).set("resp.bind", "127.0.0.1:0")).start();
    let address = Resp::port_of(&router);
    (router, address)
}

on_both_drivers! {
    fn s1_16_the_redis_port_serves_subscribers_of_all_kinds(driver: &str) {
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

    fn s1_16_the_redis_port_speaks_version_3_and_asks_for_its_password(driver: &str) {
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

    fn s1_16_a_new_password_acts_at_the_reload(driver: &str) {
        let folder = Folder::new(&format!("redis-port-reload-{driver}"));
        let password = folder.write("password", "leaked\n");
        let (router, address) = with_port(driver, |launch| launch.set("resp.password_file", &password));
        let mut before = Resp::connect(address);
        assert_eq!(before.ask("AUTH leaked"), Value::Simple("OK".to_owned()));
        folder.write("password", "mended\n");
        router.signal(Signal::HUP);
        eventually("the reload", || router.said().contains("resp.password_file"));
        assert!(matches!(Resp::connect(address).ask("AUTH leaked"), Value::Error(words) if words.starts_with("WRONGPASS")));
        assert_eq!(Resp::connect(address).ask("AUTH mended"), Value::Simple("OK".to_owned()));
        assert_eq!(before.ask("PUBLISH a b"), Value::Integer(0), "who is there stays");
        assert!(!router.said().contains("mended"), "a password was logged");
    }

    fn s1_16_what_speaks_http_publishes_nothing(driver: &str) {
        let (router, address) = with_port(driver, |launch| launch);
        let mut wamp = Client::join(router.wamp);
        wamp.subscribe("channel");
        let body = "PUBLISH channel evil\r\n";
        for head in ["POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n", "PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\n"] {
            let mut page = Resp::connect(address);
            page.send_bytes(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
            eventually("the end", || !page.hears_more());
        }
        assert_eq!(Resp::connect(address).ask("PUBLISH channel good"), Value::Integer(1));
        assert_eq!(wamp.expect_event(), json!(["good"]));
        assert_eq!(router.metric("fanwire_resp_connections_ended_total", "protocol"), 2.0);
    }

    fn s1_16_what_is_asked_before_the_end_is_answered(driver: &str) {
        let (_router, address) = with_port(driver, |launch| launch);
        let mut client = Resp::connect(address);
        for _ in 0..5_000 {
            client.send_bytes(b"PUBLISH a b\r\nPING\r\n");
        }
        client.end_output();
        for _ in 0..5_000 {
            assert_eq!(client.hear(), Value::Integer(0));
            assert_eq!(client.hear(), Value::Simple("PONG".to_owned()));
        }
        assert!(!client.hears_more());
    }

    fn s1_16_who_does_not_read_is_cut_and_nobody_else_misses_anything(driver: &str) {
        let (router, address) = with_port(driver, |launch| launch.set("resp.outbox", "256KiB"));
        let (mut lazy, mut good) = (Resp::connect(address), Resp::connect(address));
        subscribe(&mut lazy, "channel");
        subscribe(&mut good, "channel");
        let mut backend = Resp::connect(address);
        let payload = vec![b'x'; 8 << 10];
        let mut sent = 0;
        while router.metric("fanwire_resp_connections_ended_total", "slow_consumer") == 0.0 {
            backend.send(&[b"PUBLISH", b"channel", &payload]);
            assert!(matches!(backend.hear(), Value::Integer(1 | 2)));
            good.expect_message("channel", &payload);
            sent += 1;
            assert!(sent < 10_000, "80 MB for somebody who does not read");
        }
        assert!(router.metric("fanwire_resp_messages_dropped_total", "slow_consumer") >= 1.0);
        eventually("one subscriber", || backend.ask("PUBSUB NUMSUB channel") == Value::Array(vec![bulk("channel"), Value::Integer(1)]));
    }

    fn s1_16_what_was_asked_before_a_stop_is_answered(driver: &str) {
        let (mut router, address) = with_port(driver, |launch| launch);
        let (mut client, mut listener) = (Resp::connect(address), Resp::connect(address));
        subscribe(&mut listener, "channel");
        assert_eq!(client.ask("PUBLISH channel first"), Value::Integer(1));
        // Few enough to be in the router's socket by then, whatever it has read.
        for _ in 0..1_000 {
            client.send_bytes(b"PUBLISH channel more\r\n");
        }
        router.signal(Signal::TERM);
        let mut reached = 0;
        for _ in 0..1_000 {
            match client.hear() {
                Value::Integer(count) => reached += count,
                Value::Error(words) => assert!(words.contains("the router ends"), "{words}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(!client.hears_more());
        listener.expect_message("channel", b"first");
        (0..reached).for_each(|_| listener.expect_message("channel", b"more"));
        assert!(!listener.hears_more(), "what was refused was not published");
        assert!(router.wait(PATIENCE).success());
    }

    /// The shards' sessions may take long to go. Until then subscribers hear what is published, and are heard.
    fn s1_16_subscribers_are_served_until_the_shards_have_ended(driver: &str) {
        let (mut router, address) = with_port(driver, |launch| {
            launch.set("shutdown.drain_time", "300s").set("limits.close_time", "300s")
        });
        // It does not answer GOODBYE.
        let stays = Client::join(router.wamp);
        let (mut listener, mut leaver) = (Resp::connect(address), Resp::connect(address));
        subscribe(&mut listener, "channel");
        subscribe(&mut leaver, "channel");
        router.signal(Signal::TERM);
        eventually("the end having begun", || status(&get(router.admin, "/readyz")) == 503);
        for _ in 0..3 {
            assert_eq!(listener.ask("PING"), Value::Array(vec![bulk("pong"), bulk("")]));
        }
        drop(leaver);
        eventually("its leaving", || router.metric("fanwire_resp_connections", "") == 1.0);
        assert_eq!(listener.ask("PING still"), Value::Array(vec![bulk("pong"), bulk("still")]));
        drop(stays);
        assert!(!listener.hears_more());
        assert!(router.wait(PATIENCE).success());
    }

    /// A client that does not read is cut when memory is short, long before its outbox is full; what it misses is counted.
    fn s1_16_outboxes_are_shed_when_memory_is_short(driver: &str) {
        let budget = (Router::on(driver).resident_bytes() >> 20) + 64;
        let (router, address) = with_port(driver, |launch| {
            launch.set("limits.memory", &format!("{budget}MiB")).set("resp.outbox", "1GiB")
        });
        let (mut lazy, mut good) = (Resp::connect(address), Resp::connect(address));
        subscribe(&mut lazy, "channel");
        subscribe(&mut good, "channel");
        let mut backend = Resp::connect(address);
        let mut payload = vec![b'x'; 256 << 10];
        let ended = |reason: &str| router.metric("fanwire_resp_connections_ended_total", &format!("reason=\"{reason}\""));
        let mut sent = 0_u32;
        while ended("memory") == 0.0 {
            payload[..4].copy_from_slice(&sent.to_le_bytes());
            backend.send(&[b"PUBLISH", b"channel", &payload]);
            assert!(matches!(backend.hear(), Value::Integer(1 | 2)));
            good.expect_message("channel", &payload);
            sent += 1;
            assert!(sent < 4_000, "1 GB for somebody who does not read");
        }
        assert_eq!(ended("slow_consumer"), 0.0);
        let dropped = || router.metric("fanwire_resp_messages_dropped_total", "reason=\"memory\"");
        eventually("what it misses being counted", || dropped() >= 1.0 && dropped() <= f64::from(sent));
        eventually("room again", || router.metric("fanwire_memory_level", "") < 2.0);
        assert_eq!(backend.ask("PUBLISH channel last"), Value::Integer(1));
        good.expect_message("channel", b"last");
    }

    fn s1_16_the_command_line_client_of_redis_finds_what_it_needs(driver: &str) {
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
