//! Clients that stop, reset, dawdle or never answer: each harms itself alone.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, Heard, Launch, PATIENCE, Program, Router, dial, drip, eventually, has_answered, publish_blocks,
    publish_to_readers, reset, status, subscribed,
};

const TOPIC: &str = "com.fanwire.fault";
on_both_drivers! {
    /// Its outbox fills up to the limit, then it is cut; the others get every event in order.
    fn client_that_never_reads_is_cut_and_the_others_lose_nothing(driver: &str) {
        let router = Launch::on(driver).set("limits.outbox", "256KiB").start();
        let mut stuck: Vec<_> = (0..4).map(|_| subscribed(&router, TOPIC)).collect();
        let count = 4_000;
        let healthy = (0..6).map(|_| subscribed(&router, TOPIC)).collect();
        publish_to_readers(&router, TOPIC, healthy, count);
        eventually("the four being cut", || router.metric("fanwire_sessions", "") == 0.0);
        assert!(router.metric("fanwire_events_dropped_total", "") > 0.0, "what they did not get is counted");
        for client in &mut stuck {
            // What had been sent before is whole and in order; then the connection ends.
            let mut expected = 0;
            loop {
                match client.hear() {
                    Heard::Message(event) => assert_eq!(event[4][0], json!(expected)),
                    Heard::Close(..) => continue,
                    Heard::End => break,
                }
                expected += 1;
            }
            assert!(expected < count, "it was not cut");
        }
    }

    /// Each of the three bounds of an outbox cuts by itself, and is counted by its name.
    fn each_bound_of_the_outbox_cuts(driver: &str) {
        for (reason, bytes, messages, age) in [
            ("slow_consumer_bytes", "64KiB", "1000000", "60s"),
            ("slow_consumer_messages", "1GiB", "16", "60s"),
            ("slow_consumer_age", "1GiB", "1000000", "1s"),
        ] {
            let router = Launch::on(driver)
                .set("limits.outbox", bytes)
                .set("limits.outbox_messages", messages)
                .set("limits.outbox_age", age)
                .start();
            let stuck = subscribed(&router, TOPIC);
            let mut publisher = Client::join(router.wamp);
            let mut next = 0;
            eventually(&format!("being cut by {reason}"), || {
                publish_blocks(&mut publisher, TOPIC, next..next + 200);
                next += 200;
                router.metric("fanwire_slow_consumers_cut_total", "") == 1.0
            });
            assert!(router.metric("fanwire_events_dropped_total", reason) > 0.0, "{reason}");
            assert_eq!(router.metric("fanwire_sessions", ""), 1.0, "the publisher stays");
            drop(stuck);
        }
    }

    /// As above with a process that is stopped by a signal, the way a debugger or a suspended laptop does it.
    fn stopped_process_is_cut(driver: &str) {
        let router = Launch::on(driver).set("limits.outbox", "256KiB").start();
        let process = Program::start(&["sub", TOPIC, "--url", &router.url()]);
        eventually("its subscription", || router.metric("fanwire_subscriptions", "") == 1.0);
        process.signal(Signal::STOP);
        publish_to_readers(&router, TOPIC, vec![subscribed(&router, TOPIC)], 4_000);
        eventually("the stopped one being cut", || router.metric("fanwire_sessions", "") == 0.0);
        assert_eq!(router.metric("fanwire_slow_consumers_cut_total", ""), 1.0);
    }

    /// Whatever the byte at which the reset comes, nothing of the message is routed and all that the session had is freed.
    fn reset_in_mid_frame_harms_nobody(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = subscribed(&router, TOPIC);
        let mut publisher = Client::join(router.wamp);
        let frame = Client::frame(&json!([16, 3, {}, TOPIC, ["must not arrive", "x".repeat(300)]]));
        for (round, cut) in (0..frame.len()).step_by(23).enumerate() {
            let mut victim = subscribed(&router, TOPIC);
            victim.register("com.fanwire.fault.procedure");
            victim.send_bytes(&frame[..cut]);
            reset(victim.into_stream());
            publisher.publish(TOPIC, json!([round]));
            assert_eq!(healthy.expect_event(), json!([round]), "cut at byte {cut}");
            eventually("its registration being freed", || {
                let answer = publisher.call("com.fanwire.fault.procedure", json!([]));
                answer[4] == "wamp.error.no_such_procedure"
            });
        }
        eventually("all being gone", || router.metric("fanwire_sessions", "") == 2.0);
    }

    /// The one call that was pending is answered when its callee is reset.
    fn reset_of_a_callee_answers_the_call(driver: &str) {
        let router = Router::on(driver);
        for _ in 0..6 {
            let mut callee = Client::join(router.wamp);
            callee.register("com.fanwire.fault.dies");
            let address = router.wamp;
            let caller = thread::spawn(move || Client::join(address).call("com.fanwire.fault.dies", json!([1])));
            assert_eq!(callee.expect()[0], 68);
            reset(callee.into_stream());
            let answer = caller.join().expect("an answer");
            assert_eq!((&answer[0], &answer[4]), (&json!(8), &json!("wamp.error.canceled")), "{answer}");
        }
    }

    /// 64 of them drip one byte at a time; they are cut at the deadline, and meanwhile others come in as ever.
    fn handshake_of_one_byte_at_a_time_is_cut(driver: &str) {
        let router = Launch::on(driver).set("limits.handshake_time", "2s").start();
        let request = Client::upgrade_request(router.wamp);
        let started = Instant::now();
        let mut dripping: Vec<_> = (0..64).map(|_| dial(router.wamp)).collect();
        let mut silent = dial(router.wamp);
        // At this pace none of them would have said all before half a minute is over.
        for byte in &request {
            let mut writable = dripping.iter_mut().filter(|stream| !has_answered(stream)).peekable();
            if writable.peek().is_none() {
                break;
            }
            writable.for_each(|stream| drop(stream.write_all(&[*byte])));
            Client::join(router.wamp);
            thread::sleep(Duration::from_millis(150));
        }
        for stream in dripping.iter_mut().chain([&mut silent]) {
            let mut answer = String::new();
            // An answer of the kind 408 or nothing, then the end.
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
        }
        let took = started.elapsed();
        assert!(took > Duration::from_millis(1_900), "cut before the deadline: {took:?}");
        eventually("no connection being left", || router.metric("fanwire_connections_open", "") == 0.0);
    }

    fn connection_without_hello_is_closed(driver: &str) {
        let router = Launch::on(driver).set("limits.login_time", "1s").start();
        let started = Instant::now();
        let mut lazy = Client::connect(router.wamp);
        lazy.expect_close(1008);
        assert!(started.elapsed() > Duration::from_millis(900), "cut before the deadline");
    }

    /// The deadline is of the message, not of the silence: sending a byte now and then does not help.
    fn message_of_one_byte_at_a_time_is_cut(driver: &str) {
        let router = Launch::on(driver).set("limits.message_time", "1s").start();
        let mut slow = Client::join(router.wamp);
        // Half a minute's worth of bytes.
        let frame = Client::frame(&json!([16, 1, {}, "com.topic", ["x".repeat(300)]]));
        assert!(drip(&mut slow.writer(), &frame, Duration::from_millis(100)), "the whole message was waited for");
        slow.expect_close(1008);
        Client::join(router.wamp).subscribe("com.fanwire.others");
    }

    fn unanswered_ping_ends_the_connection_and_an_answered_one_does_not(driver: &str) {
        let router =
            Launch::on(driver).set("limits.ping_interval", "1s").set("limits.pong_wait", "5s").start();
        let mut dead = Client::join(router.wamp);
        dead.answer_pings(false);
        let mut alive = subscribed(&router, TOPIC);
        let address = router.wamp;
        let publisher = thread::spawn(move || {
            // In silence, longer than interval and wait together. A client that is blocked in a read answers pings.
            let mut publisher = Client::join(address);
            publisher.answer_pings(true);
            for number in 0..4 {
                thread::sleep(Duration::from_millis(1_800));
                publisher.publish(TOPIC, json!([number]));
            }
        });
        for number in 0..4 {
            assert_eq!(alive.expect_event(), json!([number]));
        }
        publisher.join().expect("the publisher was cut");
        dead.expect_end();
    }

    /// A client that shuts down its writing side is done; what it was owed before may still come.
    fn half_closed_connection_ends(driver: &str) {
        let router = Router::on(driver);
        let client = subscribed(&router, TOPIC);
        let mut stream = client.into_stream();
        stream.shutdown(std::net::Shutdown::Write).expect("connected");
        let mut rest = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        let _ = stream.read_to_end(&mut rest);
        eventually("its session being gone", || router.metric("fanwire_sessions", "") == 0.0);
    }

    /// A hundred thousand pings without reading a pong cost bounded memory and nobody else's time.
    fn flood_of_pings_harms_nobody(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = subscribed(&router, TOPIC);
        let mut publisher = Client::join(router.wamp);
        let mut flood = Client::join(router.wamp).into_stream();
        flood.set_write_timeout(Some(Duration::from_millis(200))).expect("a valid timeout");
        let mut pings = Vec::new();
        for _ in 0..1_000 {
            pings.extend_from_slice(&[0x89, 0x80 | 4, 1, 2, 3, 4, b'p' ^ 1, b'i' ^ 2, b'n' ^ 3, b'g' ^ 4]);
        }
        for number in 0..100 {
            let _ = flood.write_all(&pings);
            publisher.publish(TOPIC, json!([number]));
            assert_eq!(healthy.expect_event(), json!([number]));
        }
    }
}

/// Events of one publisher keep their order on every subscriber though publisher and subscribers are on all shards.
#[test]
fn order_holds_under_load_on_both_drivers() {
    for driver in ["io_uring", "epoll"] {
        let router = Launch::on(driver).start();
        let count = 2_000_u64;
        let publishers = 4_u64;
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let mut subscriber = subscribed(&router, TOPIC);
                thread::spawn(move || {
                    let mut next = vec![0; publishers as usize];
                    for _ in 0..count * publishers {
                        let event = subscriber.expect_event();
                        let publisher = event[0].as_u64().expect("a number") as usize;
                        assert_eq!(event[1], json!(next[publisher]), "order of publisher {publisher}");
                        next[publisher] += 1;
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..publishers)
            .map(|publisher| {
                let mut client = Client::join(router.wamp);
                thread::spawn(move || {
                    for number in 0..count {
                        if number % 64 == 63 {
                            client.publish(TOPIC, json!([publisher, number]));
                        } else {
                            client.send(unacknowledged(number + 10_000, publisher, number));
                        }
                    }
                })
            })
            .collect();
        for thread in writers.into_iter().chain(readers) {
            thread.join().expect("nothing lost, doubled or out of order");
        }
    }
}

fn unacknowledged(request: u64, publisher: u64, number: u64) -> Value {
    json!([16, request, {}, TOPIC, [publisher, number]])
}
