//! Awkward but legal traffic: all in one packet, byte by byte, large, slow to read, and much of it coming and going.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Heard, Launch, Router, dial, eventually, reset};

const TOPIC: &str = "com.fanwire.traffic";

fn hello() -> Value {
    json!([1, "realm1", {"roles": {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}}])
}

/// All that a client says in its life, in one piece.
fn whole_life(router: &Router) -> Vec<u8> {
    let mut bytes = Client::upgrade_request(router.wamp);
    for message in [
        hello(),
        json!([32, 1, {}, TOPIC]),
        json!([16, 2, {"acknowledge": true, "exclude_me": false}, TOPIC, ["mine"]]),
        json!([64, 3, {}, "com.fanwire.traffic.procedure"]),
        json!([6, {}, "wamp.close.close_realm"]),
    ] {
        bytes.extend_from_slice(&Client::frame(&message));
    }
    bytes
}

/// The answers to [`whole_life`], by their codes, in this order.
const WHOLE_LIFE_ANSWERS: [u64; 6] = [2, 33, 36, 17, 65, 6];

fn expect_whole_life(client: &mut Client) {
    for code in WHOLE_LIFE_ANSWERS {
        let message = client.expect();
        assert_eq!(message[0], code, "{message}");
    }
    client.close(1000);
    client.expect_close(1000);
}

/// A chain of pseudo-random numbers: which connection does what must be the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

on_both_drivers! {
    /// Frames may follow the request at once (the client need not wait for 101 to have written them).
    fn whole_life_in_one_packet(driver: &str) {
        let router = Router::on(driver);
        for _ in 0..8 {
            let mut stream = dial(router.wamp);
            stream.write_all(&whole_life(&router)).expect("sent");
            expect_whole_life(&mut Client::upgraded(stream));
        }
    }

    fn whole_life_byte_by_byte(driver: &str) {
        let router = Router::on(driver);
        let mut stream = dial(router.wamp);
        for byte in whole_life(&router) {
            stream.write_all(&[byte]).expect("sent");
        }
        expect_whole_life(&mut Client::upgraded(stream));
    }

    /// Eight megabytes in each direction through one call after the other, larger than any buffer on the way.
    fn large_calls_come_back_whole(driver: &str) {
        let router = Router::on(driver);
        let mut callee = Client::join(router.wamp);
        callee.register("com.fanwire.traffic.echo");
        let rounds = 8;
        let answering = thread::spawn(move || {
            for _ in 0..rounds {
                let invocation = callee.expect();
                assert_eq!(invocation[0], 68, "{}", invocation[0]);
                callee.send(json!([70, invocation[1], {}, invocation[4]]));
            }
        });
        let mut caller = Client::join(router.wamp);
        for round in 0..rounds {
            let text = format!("{round}{}", "ü😀x".repeat(140_000));
            let result = caller.call("com.fanwire.traffic.echo", json!([text]));
            assert_eq!(result[0], 50);
            assert!(result[3][0] == json!(text), "round {round} came back changed");
        }
        answering.join().expect("answered");
    }

    /// Slow, but within its limits: small and large events and its own replies come whole and in order.
    fn slow_reader_within_its_limits_loses_nothing(driver: &str) {
        let router = Launch::on(driver).set("limits.outbox", "128MiB").start();
        let mut slow = Client::join(router.wamp);
        slow.subscribe(TOPIC);
        let count = 1_000_u64;
        let address = router.wamp;
        let publishing = thread::spawn(move || {
            let mut publisher = Client::join(address);
            let mut dice = Dice(7);
            for number in 0..count {
                // Now and then more than a frame of its own, mostly little.
                let bytes = if dice.roll(4) == 0 { dice.roll(200_000) } else { dice.roll(200) };
                publisher.publish(TOPIC, json!([number, "y".repeat(bytes as usize)]));
            }
        });
        eventually("more than the kernel holds for it", || router.metric("fanwire_outbox_bytes", "") > 1e6);
        let mut next = 0;
        let mut asked = 0;
        let mut answered = 0;
        while next < count {
            if next % 10 == 0 && asked == answered {
                asked += 1;
                slow.send(json!([48, 10 + asked, {}, "com.fanwire.nobody"]));
                thread::sleep(Duration::from_millis(20));
            }
            let message = slow.expect();
            match message[0].as_u64() {
                Some(36) => {
                    assert_eq!(message[4][0], json!(next));
                    next += 1;
                }
                Some(8) => answered += 1,
                _ => panic!("{message}"),
            }
        }
        publishing.join().expect("nobody holds the publisher back");
        assert_eq!(router.metric("fanwire_slow_consumers_cut_total", ""), 0.0);
    }

    /// More than a stream holds is on its way to another shard before that shard can say so, all of it acknowledged.
    fn burst_of_large_publications_reaches_everybody(driver: &str) {
        let router = Launch::on(driver).set("limits.outbox", "128MiB").start();
        let count = 300_u64;
        let readers: Vec<_> = (0..6)
            .map(|_| {
                let mut client = Client::join(router.wamp);
                client.subscribe(TOPIC);
                thread::spawn(move || {
                    for number in 0..count {
                        assert_eq!(client.expect_event()[0], json!(number));
                    }
                })
            })
            .collect();
        let mut publisher = Client::join(router.wamp);
        let mut writer = publisher.writer();
        let burst: Vec<_> = (0..count)
            .flat_map(|number| {
                let event = json!([16, number + 1, {"acknowledge": true}, TOPIC, [number, "z".repeat(100_000)]]);
                Client::frame(&event)
            })
            .collect();
        let writing = thread::spawn(move || writer.write_all(&burst).expect("it is read"));
        for number in 0..count {
            assert_eq!(publisher.expect()[1], json!(number + 1));
        }
        writing.join().expect("written");
        for reader in readers {
            reader.join().expect("it lost something");
        }
        assert_eq!(router.metric("fanwire_events_dropped_total", ""), 0.0);
    }

    /// Who does not read the answers is not read either: memory stays bounded, and nothing is lost.
    fn unread_answers_stop_the_reading(driver: &str) {
        let router = Launch::on(driver).set("limits.message_time", "300s").start();
        let mut client = Client::join(router.wamp);
        let before = router.resident_bytes();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let writing = thread::spawn({
            let (mut writer, sent, stop) = (client.writer(), Arc::clone(&sent), Arc::clone(&stop));
            // Its refusal repeats the name, so that few requests fill whatever buffers the kernel gives.
            let procedure = format!("com.fanwire.{}", "nobody".repeat(40));
            move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    let call = Client::frame(&json!([48, number, {}, procedure]));
                    writer.write_all(&call).expect("it is not cut for this");
                    sent.store(number, Ordering::SeqCst);
                }
            }
        });
        eventually("it is not read any more", || {
            assert!(!writing.is_finished(), "the writer failed");
            router.metric("fanwire_connections_held_total", "") > 0.0
        });
        let growth = router.resident_bytes().saturating_sub(before);
        assert!(growth < 16 << 20, "unread answers cost {growth} bytes");
        stop.store(true, Ordering::SeqCst);
        let mut number = 1;
        loop {
            let is_over = writing.is_finished();
            if number <= sent.load(Ordering::SeqCst) {
                let answer = client.expect();
                assert_eq!((&answer[0], &answer[2]), (&json!(8), &json!(number)));
                number += 1;
            } else if is_over {
                break;
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        writing.join().expect("all was taken in the end");
    }

    /// Hundreds of sessions come, subscribe, register, publish, call and go in every way there is; a healthy pair
    /// misses nothing, and afterwards nothing is left.
    fn churn_leaves_nothing_behind(driver: &str) {
        let router = Router::on(driver);
        let stop = Arc::new(AtomicBool::new(false));
        let healthy = {
            let stop = Arc::clone(&stop);
            let address = router.wamp;
            thread::spawn(move || {
                let (mut publisher, mut subscriber) = (Client::join(address), Client::join(address));
                subscriber.subscribe(TOPIC);
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    publisher.publish(TOPIC, json!(["healthy", number]));
                    loop {
                        let event = subscriber.expect_event();
                        if event[0] == "healthy" {
                            assert_eq!(event[1], json!(number));
                            break;
                        }
                    }
                }
                number
            })
        };
        let crowd: Vec<_> = (1..=6)
            .map(|thread| {
                let address = router.wamp;
                thread::spawn(move || {
                    let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(thread));
                    for _ in 0..120 {
                        churn(address, &mut dice);
                    }
                })
            })
            .collect();
        for thread in crowd {
            thread.join().expect("each session ended as it should");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(healthy.join().expect("the healthy pair missed nothing") > 10);
        for gauge in [
            "fanwire_connections_open",
            "fanwire_sessions",
            "fanwire_subscriptions",
            "fanwire_registrations",
            "fanwire_calls_pending",
            "fanwire_event_streams",
            "fanwire_outbox_bytes",
        ] {
            eventually(&format!("{gauge} being 0"), || router.metric(gauge, "") == 0.0);
        }
        let (matched, delivered, dropped) = (
            router.metric("fanwire_events_matched_total", ""),
            router.metric("fanwire_events_delivered_total", ""),
            router.metric("fanwire_events_dropped_total", ""),
        );
        assert_eq!(matched, delivered + dropped, "every event is accounted for");
    }
}

/// One session's life: some requests, then an end of one of the kinds.
fn churn(address: std::net::SocketAddr, dice: &mut Dice) {
    let mut client = Client::join(address);
    // No answers are waited for: what is under way when it ends is the point.
    let mut writer = client.writer();
    for request in 1..=dice.roll(12) {
        let number = dice.roll(5);
        let message = match dice.roll(6) {
            0 => json!([32, request, {}, format!("com.fanwire.churn{number}")]),
            1 => json!([32, request, {}, TOPIC]),
            2 => json!([64, request, {}, format!("com.fanwire.churn{number}")]),
            3 => json!([48, request, {}, format!("com.fanwire.churn{number}"), [number]]),
            4 => {
                json!([16, request, {"exclude_me": false}, format!("com.fanwire.churn{number}"), ["z".repeat(3_000)]])
            }
            _ => json!([16, request, {"acknowledge": true}, TOPIC, ["noise"]]),
        };
        writer.write_all(&Client::frame(&message)).expect("it is served");
    }
    match dice.roll(6) {
        0 => reset(client.into_stream()),
        1 => drop(client),
        2 => {
            client.close(1000);
            while !matches!(client.hear(), Heard::End) {}
        }
        3 => {
            let _ = writer.write_all(&[0x81, 0xFE, 0x40]);
            drop(client);
        }
        4 => {
            let mut stream = client.into_stream();
            stream.shutdown(std::net::Shutdown::Write).expect("connected");
            let _ = stream.read_to_end(&mut Vec::new());
        }
        _ => {
            client.send(json!([6, {}, "wamp.close.close_realm"]));
            // Invocations, events and answers may be under way; GOODBYE comes last.
            while client.expect()[0] != 6 {}
            client.close(1000);
            client.expect_end();
        }
    }
}
