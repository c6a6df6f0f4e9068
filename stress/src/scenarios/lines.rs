//! Bad lines: late, in small pieces, one-sided, silent.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::proxy::{Faults, Line, Proxy};
use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, eventually};

const TOPIC: &str = "com.fanwire.line";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "bad-lines",
            "who is far away on a jittery, narrow line gets every event once and in order, and is not cut",
            bad_lines,
        ),
        Scenario::new(
            "half-open",
            "peers that vanish without a word are noticed by their pings and freed",
            half_open,
        ),
        Scenario::new(
            "half-close",
            "who ends its own direction is served what it is owed and then closed, wherever that happens",
            half_close,
        ),
    ]
}

fn bad_lines(stage: &mut Stage) -> String {
    const CLIENTS: usize = 50;
    const EVENTS: u64 = 100;
    let router = stage.launch().start();
    let control = stage.control(&router);
    let faults = Faults {
        latency: Duration::from_millis(50),
        jitter: Duration::from_millis(10),
        // 200 kbit/s.
        bandwidth: NonZeroU64::new(25_000),
        slice: NonZeroUsize::new(1 + stage.random.below(100) as usize),
        ..Faults::default()
    };
    let slice = faults.slice;
    let proxy = Proxy::start(router.wamp, Line::both(faults), stage.random.bits()).expect("a free port");
    let mut clients: Vec<_> = std::thread::scope(|scope| {
        let joins: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::join_through(proxy.address(), router.wamp);
                    client.subscribe(TOPIC);
                    client
                })
            })
            .collect();
        joins.into_iter().map(|join| join.join().expect("it joins")).collect()
    });
    let begun = Instant::now();
    let mut publisher = Client::join(router.wamp);
    for number in 0..EVENTS {
        publisher.publish(TOPIC, json!([number, "x".repeat(300)]));
    }
    for client in &mut clients {
        for number in 0..EVENTS {
            assert_eq!(client.expect_event()[0], json!(number));
        }
    }
    let took = begun.elapsed();
    assert_eq!(router.metric("fanwire_events_dropped_total", ""), 0.0);
    stage.close(
        control,
        format_args!(
            "{CLIENTS} clients x {EVENTS} events by 50 ms +- 10, 25 kB/s, {slice:?} bytes at once: {:.1} s",
            took.as_secs_f64()
        ),
    )
}

fn half_open(stage: &mut Stage) -> String {
    const CLIENTS: usize = 50;
    let router = stage.launch().set("limits.ping_interval", "1s").set("limits.pong_wait", "2s").start();
    let control = stage.control(&router);
    let proxy = Proxy::start(router.wamp, Line::default(), stage.random.bits()).expect("a free port");
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| Client::join_through(proxy.address(), router.wamp)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.subscribe(TOPIC);
        client.register(&format!("com.fanwire.line.{number}"));
    }
    proxy.vanish();
    let begun = Instant::now();
    let cut = || router.metric("fanwire_connections_closed_total", "pong_timeout");
    eventually("the cuts", || cut() == CLIENTS as f64);
    let took = begun.elapsed();
    eventually("their subscriptions and registrations being freed", || {
        router.metric("fanwire_subscriptions", "") == 3.0 && router.metric("fanwire_registrations", "") == 0.0
    });
    // Somebody else can have what they had.
    Client::join(router.wamp).register("com.fanwire.line.0");
    stage.close(control, format_args!("{CLIENTS} vanished, all noticed after {:.1} s", took.as_secs_f64()))
}

fn half_close(stage: &mut Stage) -> String {
    const CLIENTS: u64 = 60;
    let router = stage.launch().start();
    let control = stage.control(&router);
    let first = stage.random.below(20);
    // Through the handshake, HELLO and SUBSCRIBE, and behind them.
    let choose = move |number| {
        let at = first + number * 15;
        Line::up(Faults { half_close_at: Some(at), ..Faults::default() })
    };
    let proxy = Proxy::start_with(router.wamp, std::sync::Arc::new(choose), stage.random.bits())
        .expect("a free port");
    let outcome = super::cuts::exchanges(&proxy, router.wamp, CLIENTS as usize, TOPIC);
    assert!(outcome.answered > 0, "none got as far as an answer");
    eventually("all of them being gone", || router.metric("fanwire_connections_open", "") == 4.0);
    stage.close(control, format_args!("{CLIENTS} half-closed, {} of them after an answer", outcome.answered))
}
