//! Unmodified clients of Redis, at the Redis port and at a real Redis with a bridge.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::json;

use super::port::with_port;
use super::{bridged, subscribe};
use crate::clients::{script, tool};
use crate::support::redis::{Redis, Resp, Value, bulk};
use crate::support::{Client, Folder, eventually};

/// The article's publisher, but for the port: that of a test is free, 6379 may not be.
const PUBLISH_PHP: &str = r#"<?php
$redis = new Redis();
$redis->pconnect("localhost", 6379);
var_dump($redis->publish("channel", "data from PHP"));
"#;

/// Runs the article's publisher; what it prints.
fn publish_by_php(folder: &Folder, port: u16) -> Option<String> {
    let file = folder.write("publish.php", &PUBLISH_PHP.replace("6379", &port.to_string()));
    let Ok(output) = Command::new("php").arg(&file).output() else {
        eprintln!("SKIPPED: no php; `cargo xtask test --only clients` installs php-cli and php-redis");
        return None;
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if said.contains("Class \"Redis\" not found") {
        eprintln!("SKIPPED: php has no Redis; `cargo xtask test --only clients` installs php-redis");
        return None;
    }
    Some(said.trim().to_owned())
}

/// Runs a script of `tests/clients` against the Redis port; it must succeed.
fn passes(program: &std::ffi::OsStr, name: &str, address: SocketAddr) {
    let output =
        Command::new(program).arg(script(name)).args(["--port", &address.port().to_string()]).output();
    let output = output.expect("the interpreter starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name}:\n{said}");
}

on_both_drivers! {
    fn s1_06_the_php_publisher_reaches_everybody_by_redis(driver: &str) {
        let redis = Redis::start(&[]);
        let (folder, router) = bridged(driver, "s1-06", &redis, "map = [{ channel = \"channel\" }]");
        let (mut alice, mut bob) = (Client::join(router.wamp), Client::join(router.wamp));
        alice.subscribe("channel");
        bob.subscribe("channel");
        let Some(said) = publish_by_php(&folder, redis.port) else { return };
        assert_eq!(said, "int(1)");
        for client in [&mut alice, &mut bob] {
            assert_eq!(client.expect_event(), json!(["data from PHP"]));
        }
    }

    fn s1_16_the_php_publisher_needs_no_redis(driver: &str) {
        let (router, address) = with_port(driver, |launch| launch);
        let folder = Folder::new(&format!("redis-php-{driver}"));
        let mut client = Client::join(router.wamp);
        client.subscribe("channel");
        let Some(said) = publish_by_php(&folder, address.port()) else { return };
        assert_eq!(said, "int(1)", "the number of receivers");
        assert_eq!(client.expect_event(), json!(["data from PHP"]));
    }

    fn s1_16_redis_cli_subscribes_and_redis_benchmark_pings(driver: &str) {
        let (router, address) = with_port(driver, |launch| launch);
        let port = address.port().to_string();
        let listener = Command::new("redis-cli").args(["-p", &port, "SUBSCRIBE", "channel"]).stdout(Stdio::piped()).spawn();
        let mut listener = listener.expect("redis-cli is installed: apt install redis-tools");
        let mut backend = Resp::connect(address);
        eventually("its subscription", || {
            backend.ask("PUBSUB NUMSUB channel") == Value::Array(vec![bulk("channel"), Value::Integer(1)])
        });
        backend.send(&[b"PUBLISH", b"channel", b"data from redis"]);
        assert_eq!(backend.hear(), Value::Integer(1));
        eventually("the message", || router.metric("fanwire_resp_messages_total", "") == 1.0);
        // It is told that the connection has ended, and writes what it has.
        drop(router);
        _ = listener.kill();
        let heard = listener.wait_with_output().expect("it ends").stdout;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(heard.contains("data from redis"), "{heard:?}");
        let (_router, address) = with_port(driver, |launch| launch);
        let port = address.port().to_string();
        let pings = Command::new("redis-benchmark").args(["-p", &port, "-t", "ping", "-n", "2000", "-c", "10", "-q"]).output();
        let pings = pings.expect("redis-benchmark is installed: apt install redis-tools");
        let said = String::from_utf8_lossy(&[pings.stdout, pings.stderr].concat()).into_owned();
        assert!(pings.status.success() && said.contains("PING_INLINE") && said.contains("PING_MBULK"), "{said}");
        assert!(!said.contains("WARN") && !said.contains("rror"), "{said}");
    }

    fn s1_16_redis_py_publishes_and_subscribes(driver: &str) {
        let Some(python) = tool("FANWIRE_PYTHON") else { return };
        let (_router, address) = with_port(driver, |launch| launch);
        passes(&python, "redis_python.py", address);
    }

    fn s1_16_ioredis_publishes_and_subscribes(driver: &str) {
        let Some(modules) = tool("FANWIRE_NODE_MODULES") else { return };
        let (_router, address) = with_port(driver, |launch| launch);
        let mut command = Command::new("node");
        command.arg(script("redis_ioredis.cjs")).env("NODE_PATH", modules);
        let output = command.args(["--port", &address.port().to_string()]).output().expect("node is installed");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        let mut listener = Resp::connect(address);
        subscribe(&mut listener, "channel");
    }
}
