//! SIGTERM is polite, a second one is not.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Heard, Http, Launch, PATIENCE, dial, eventually, get, status};

const TOPIC: &str = "com.fanwire.drain";

on_both_drivers! {
    /// Everybody is told GOODBYE, whoever answers is closed with 1001, and the process ends with 0; all that while
    /// others publish as fast as it is read.
    fn sigterm_under_load_says_goodbye(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "5s").start();
        let read: Arc<Vec<AtomicU64>> = Arc::new((0..20).map(|_| AtomicU64::new(0)).collect());
        let subscribers: Vec<_> = (0..20)
            .map(|index| {
                let mut client = Client::join(router.wamp);
                client.subscribe(TOPIC);
                let read = Arc::clone(&read);
                thread::spawn(move || {
                    let mut events = 0_u64;
                    loop {
                        let message = client.expect();
                        match message[0].as_u64() {
                            Some(36) => {
                                events += 1;
                                read[index].store(events, Ordering::Relaxed);
                            }
                            Some(6) => {
                                assert_eq!(message[2], "wamp.close.system_shutdown", "{message}");
                                client.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
                                client.expect_close(1001);
                                return events;
                            }
                            _ => panic!("{message}"),
                        }
                    }
                })
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let publishers: Vec<_> = (0..3)
            .map(|_| {
                let mut client = Client::join(router.wamp);
                let (stop, written, read) = (Arc::clone(&stop), Arc::clone(&written), Arc::clone(&read));
                thread::spawn(move || {
                    let mut writer = client.writer();
                    let mut request = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        // Well within an outbox: a reader to which the machine gives no time is no slow consumer.
                        let slowest = read.iter().map(|read| read.load(Ordering::Relaxed)).min().unwrap_or(0);
                        if written.load(Ordering::Relaxed) > slowest + 2_000 {
                            thread::sleep(Duration::from_millis(1));
                            continue;
                        }
                        request += 1;
                        written.fetch_add(1, Ordering::Relaxed);
                        let frame = Client::frame(&json!([16, request, {}, TOPIC, [request]]));
                        if writer.write_all(&frame).is_err() {
                            break;
                        }
                    }
                    // It never answers GOODBYE, so it is closed when its time is up.
                    client.expect_end();
                })
            })
            .collect();
        eventually("load", || read.iter().all(|read| read.load(Ordering::Relaxed) > 1_000));
        router.signal(Signal::TERM);
        for subscriber in subscribers {
            subscriber.join().expect("a polite end");
        }
        let status = router.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", router.said());
        stop.store(true, Ordering::Relaxed);
        for publisher in publishers {
            publisher.join().expect("it ends too");
        }
    }

    /// The goodbyes are spread over the drain time, and while it lasts the router is not ready and takes nobody new.
    fn drain_is_spread_and_visible(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "60s").start();
        let stays = Client::join(router.wamp);
        let clients: Vec<_> = (0..40).map(|_| Client::join(router.wamp)).collect();
        let asked = Instant::now();
        router.signal(Signal::TERM);
        let times: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    let goodbye = client.expect();
                    let heard = asked.elapsed();
                    assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.system_shutdown")));
                    client.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
                    client.expect_close(1001);
                    heard
                })
            })
            .collect();
        eventually("not ready", || status(&get(router.admin, "/readyz")) == 503);
        assert_eq!(status(&get(router.admin, "/livez")), 200);
        let mut times: Vec<_> = times.into_iter().map(|time| time.join().expect("a goodbye")).collect();
        times.sort();
        let spread = times[times.len() - 1] - times[0];
        assert!(spread > Duration::from_millis(400), "all at once: {spread:?}");
        drop(stays);
        assert_eq!(router.wait(PATIENCE).code(), Some(0));
    }

    fn sigint_is_polite_too(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "60s").start();
        let mut client = Client::join(router.wamp);
        router.signal(Signal::INT);
        assert_eq!(client.expect()[2], "wamp.close.system_shutdown");
        client.close(1000);
        loop {
            match client.hear() {
                Heard::End => break,
                Heard::Close(code, _) => assert!(code == 1000 || code == 1001, "{code}"),
                Heard::Message(message) => panic!("{message}"),
            }
        }
        drop(client);
        assert_eq!(router.wait(PATIENCE).code(), Some(0));
    }

    fn second_sigterm_ends_it_now(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "300s").start();
        let mut silent = Client::join(router.wamp);
        router.signal(Signal::TERM);
        eventually("the drain", || status(&get(router.admin, "/readyz")) == 503);
        let asked = Instant::now();
        router.signal(Signal::TERM);
        router.wait(PATIENCE);
        assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
        silent.expect_end();
    }

    /// Whoever does not take part is cut when the time is up: one that never reads, one in mid-handshake, one without
    /// HELLO, one in mid-message, one that does not answer.
    fn drain_does_not_wait_for_those_who_do_not_answer(driver: &str) {
        let mut router = Launch::on(driver)
            .set("shutdown.drain_time", "2s")
            .set("limits.outbox", "64MiB")
            .start();
        let mut stuck = Client::join(router.wamp);
        stuck.subscribe(TOPIC);
        let mut half = dial(router.wamp);
        half.write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n").expect("sent");
        let _dumb = Client::connect(router.wamp);
        let mut cut = Client::join(router.wamp);
        cut.send_bytes(&[0x81, 0xFE, 0x01]);
        let _silent = Client::join(router.wamp);
        let mut publisher = Client::join(router.wamp);
        for _ in 0..800 {
            publisher.publish(TOPIC, json!(["x".repeat(20_000)]));
        }
        let asked = Instant::now();
        router.signal(Signal::TERM);
        assert_eq!(router.wait(PATIENCE).code(), Some(0), "{}", router.said());
        assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    }

    /// A restart must not wait for old connections of the kernel's to be forgotten.
    fn port_can_be_taken_again_at_once(driver: &str) {
        let mut first = Launch::on(driver).set("shutdown.drain_time", "60s").start();
        let address = first.wamp;
        let clients: Vec<_> = (0..20).map(|_| Client::join(address)).collect();
        first.signal(Signal::TERM);
        for mut client in clients {
            assert_eq!(client.expect()[0], 6);
            client.close(1000);
            client.expect_end();
        }
        assert_eq!(first.wait(PATIENCE).code(), Some(0));
        let mut second = Launch::on(driver).argument("--bind").argument(&address.to_string()).start();
        assert_eq!(second.wamp, address);
        Client::join(address);
        // Also after a death without any goodbye.
        second.signal(Signal::KILL);
        second.wait(PATIENCE);
        let third = Launch::on(driver).argument("--bind").argument(&address.to_string()).start();
        Client::join(third.wamp);
    }

    /// What somebody leaves behind is published by a shard that may have nobody any more.
    fn who_is_still_there_hears_the_last_words_of_who_leaves(driver: &str) {
        let mut router =
            Launch::on(driver).argument("--shards").argument("2").set("shutdown.drain_time", "300s").start();
        let roles = json!({"roles": {"subscriber": {}, "caller": {}}});
        let mut clients: Vec<(Client, Value)> = (0..8)
            .map(|_| {
                let mut client = Client::connect(router.wamp);
                let welcome = client.ask(json!([1, "realm1", roles]));
                (client, welcome[1].clone())
            })
            .collect();
        let sessions = Http::connect(router.wamp).ask("GET", "/v1/sessions?limit=100").json();
        let shard = |id: &Value| {
            let all = sessions["sessions"].as_array().expect("a list");
            all.iter().find(|session| session["session"] == *id).expect("it is listed")["shard"].clone()
        };
        clients.retain(|(_, id)| shard(id) == 1);
        assert!(clients.len() >= 2, "connections are spread: {sessions}");
        // They are told one after the other.
        let (mut stays, _) = clients.pop().expect("one");
        let (mut leaves, _) = clients.pop().expect("and another");
        stays.subscribe(TOPIC);
        leaves.call("wamp.session.add_testament", json!([TOPIC, ["farewell"], {}]));
        router.signal(Signal::TERM);
        assert_eq!(stays.expect_event(), json!(["farewell"]));
        clients.extend([(leaves, Value::Null), (stays, Value::Null)]);
        for (client, _) in &mut clients {
            assert_eq!(client.expect()[2], "wamp.close.system_shutdown");
            client.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
        }
        assert_eq!(router.wait(PATIENCE).code(), Some(0), "{}", router.said());
    }

    fn without_connections_it_ends_at_once(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "300s").start();
        router.signal(Signal::TERM);
        assert_eq!(router.wait(PATIENCE).code(), Some(0));
    }
}
