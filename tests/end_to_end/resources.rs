//! Many connections at once, and too many.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Launch, PATIENCE, Router, allow_descriptors, eventually};

const TOPIC: &str = "com.fanwire.crowd";

on_both_drivers! {
    fn a_thousand_connects_at_once_are_served(driver: &str) {
        allow_descriptors(4_000);
        let router = Router::on(driver);
        let address = router.wamp;
        // First all connections, at once, and only then their handshakes.
        let threads: Vec<_> = (0..20)
            .map(|_| {
                thread::spawn(move || {
                    let streams: Vec<_> = (0..50).map(|_| crate::support::dial(address)).collect();
                    let join = |stream: TcpStream| {
                        let mut client = Client::upgrade(stream, address);
                        client.hello();
                        client.subscribe(TOPIC);
                        client
                    };
                    streams.into_iter().map(join).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut clients: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("served")).collect();
        eventually("1,000 sessions", || router.metric("fanwire_sessions", "") == 1_000.0);
        Client::join(address).publish(TOPIC, json!(["all"]));
        for client in &mut clients {
            assert_eq!(client.expect_event(), json!(["all"]));
        }
        drop(clients);
        eventually("all being gone", || router.metric("fanwire_sessions", "") == 0.0);
    }

    /// Out of descriptors it serves those whom it has, does not spin, and takes new ones when others have left.
    fn running_out_of_descriptors_is_survived(driver: &str) {
        let router = Launch::on(driver).launched_with(&["--nofile", "128"]).start();
        let address = router.wamp;
        let mut early = Client::join(address);
        early.subscribe(TOPIC);
        let mut publisher = Client::join(address);
        let crowd: Vec<_> = (0..300)
            .filter_map(|_| {
                // Whoever is not accepted waits in the backlog or is turned away; neither may hang.
                let stream = TcpStream::connect_timeout(&address, PATIENCE);
                assert!(!matches!(&stream, Err(error) if error.kind() == ErrorKind::TimedOut), "the accept queue hangs");
                stream.ok()
            })
            .collect();
        let before = router.cpu_time();
        thread::sleep(Duration::from_secs(1));
        let used = router.cpu_time() - before;
        assert!(used < Duration::from_millis(300), "it spins: {used:?} of CPU in one second");
        for number in 0..20 {
            publisher.publish(TOPIC, json!([number]));
            assert_eq!(early.expect_event(), json!([number]));
        }
        drop(crowd);
        eventually("room for new ones", || {
            let Ok(stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return false };
            stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
            let _ = std::io::Write::write_all(&mut &stream, &Client::upgrade_request(address));
            let mut answer = [0; 12];
            std::io::Read::read_exact(&mut &stream, &mut answer).is_ok() && &answer == b"HTTP/1.1 101"
        });
        Client::join(address).publish(TOPIC, json!(["again"]));
        assert_eq!(early.expect_event(), json!(["again"]));
    }

    /// Lengths that are only claimed reserve nothing: 400 connections that each announce 1 MiB.
    fn claimed_lengths_cost_no_memory(driver: &str) {
        allow_descriptors(4_000);
        let router = Router::on(driver);
        // As many as later, and gone again: what a connection itself costs is not what is measured here.
        let warm: Vec<_> = (0..400).map(|_| Client::join(router.wamp)).collect();
        drop(warm);
        eventually("all being gone", || router.metric("fanwire_connections_open", "") == 0.0);
        let before = router.resident_bytes();
        let mut claim = vec![0x81, 0x80 | 127];
        claim.extend_from_slice(&(1_u64 << 20).to_be_bytes());
        claim.extend_from_slice(&[0; 4]);
        claim.extend_from_slice(b"[16, 1, {}, \"com.topic\", [\"");
        let clients: Vec<_> = (0..400)
            .map(|_| {
                let mut client = Client::join(router.wamp);
                client.send_bytes(&claim);
                client
            })
            .collect();
        Client::join(router.wamp).publish(TOPIC, json!([]));
        let growth = router.resident_bytes().saturating_sub(before);
        assert!(growth < 8 << 20, "400 claims of 1 MiB cost {growth} bytes");
        drop(clients);
    }

    /// Publishing creates no state: 60,000 topics that nobody subscribes to.
    fn topics_without_subscribers_cost_no_memory(driver: &str) {
        let router = Router::on(driver);
        let mut publisher = Client::join(router.wamp);
        let flood = |publisher: &mut Client, from: u64, count: u64| {
            for number in from..from + count {
                publisher.send(json!([16, number, {}, format!("com.fanwire.bomb.topic{number}"), [number]]));
            }
            let answer = publisher.ask(json!([16, from + count, {"acknowledge": true}, "com.fanwire.bomb.last"]));
            assert_eq!(answer[0], 17, "{answer}");
        };
        // The caches of the shard are bounded; let them be full before measuring.
        flood(&mut publisher, 1, 20_000);
        let before = router.resident_bytes();
        flood(&mut publisher, 100_000, 60_000);
        let growth = router.resident_bytes().saturating_sub(before);
        assert!(growth < 2 << 20, "60,000 topics cost {growth} bytes");
    }

    /// An idle router with idle sessions sleeps.
    fn idle_router_uses_no_cpu(driver: &str) {
        let router = Router::on(driver);
        let clients: Vec<_> = (0..50).map(|_| Client::join(router.wamp)).collect();
        thread::sleep(Duration::from_millis(300));
        let before = router.cpu_time();
        thread::sleep(Duration::from_secs(2));
        let used = router.cpu_time() - before;
        assert!(used <= Duration::from_millis(40), "{used:?} of CPU in two idle seconds");
        drop(clients);
    }
}
