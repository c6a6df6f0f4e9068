//! Subscribers that do not read, or not fast enough, under each policy of the router.

use std::num::NonZeroU64;

use crate::proxy::{Faults, Line, Proxy};
use crate::scenario::{Scenario, Stage};
use crate::testbed::{
    Client, Heard, Router, dial_narrow, eventually, get, publish_to_readers, subscribed, sum_of,
};

const TOPIC: &str = "com.fanwire.load";
/// Who never reads, and who reads too slowly; each as many.
const STUCK: usize = 50;
const SLOW: usize = 50;
/// What a slow one reads in a second.
const SLOW_BYTES: NonZeroU64 = NonZeroU64::new(20 << 10).expect("not 0");
/// Of 4 KiB; many times what an outbox and the kernel's buffers hold.
const BLOCKS: u64 = 1_024;
const OUTBOX_BYTES: u64 = 256 << 10;
/// For the kernel's share, pieces of buffers and the allocator, beyond the outboxes themselves.
const MEMORY_SLACK: u64 = 48 << 20;

/// How a router treats them, and what must become of them.
struct Policy {
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    /// What must have become of one that never read.
    check: fn(Client),
}

/// A further policy is a line here.
const POLICIES: &[Policy] = &[Policy { name: "disconnect", settings: &[], check: was_cut }];

pub(super) fn scenarios() -> Vec<Scenario> {
    let scenario = |policy: &'static Policy| Scenario {
        name: format!("slow-readers/{}", policy.name),
        promise: "50 subscribers that never read and 50 slow ones cost a bounded memory, and nobody else an event",
        play: Box::new(move |stage| slow_readers(stage, policy)),
    };
    POLICIES.iter().map(scenario).collect()
}

fn slow_readers(stage: &mut Stage, policy: &Policy) -> String {
    let mut launch = stage.launch().set("limits.outbox", &format!("{OUTBOX_BYTES}B"));
    for (key, value) in policy.settings {
        launch = launch.set(key, value);
    }
    let router = launch.start();
    let control = stage.control(&router);
    let stuck: Vec<_> = (0..STUCK).map(|_| narrow(&router)).collect();
    let line =
        Line::down(Faults { bandwidth: Some(SLOW_BYTES), ..Faults::default() }).receive_buffer(8 << 10);
    let proxy = Proxy::start(router.wamp, line, stage.random.bits()).expect("a free port");
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = Client::join_through(proxy.address(), router.wamp);
            client.subscribe(TOPIC);
            client
        })
        .collect();
    let healthy = (0..4).map(|_| subscribed(&router, TOPIC)).collect();
    let before = router.resident_bytes();
    publish_to_readers(&router, TOPIC, healthy, BLOCKS);
    let memory = router.resident_bytes().saturating_sub(before);
    let most = (STUCK + SLOW) as u64 * OUTBOX_BYTES + MEMORY_SLACK;
    assert!(memory <= most, "{memory} bytes for {} slow subscribers, {most} at most", STUCK + SLOW);
    // Everybody whom the policy is for has met it; the control clients are 4 sessions.
    if policy.name == "disconnect" {
        eventually("the cuts", || router.metric("fanwire_sessions", "") == 4.0);
    }
    assert!(router.metric("fanwire_events_dropped_total", "") > 0.0, "what they did not get is not counted");
    stuck.into_iter().for_each(policy.check);
    drop((slow, proxy));
    eventually("all events being accounted for", || balance(&router) == 0.0);
    let cut = router.metric("fanwire_slow_consumers_cut_total", "");
    stage.close(control, format_args!("{cut} cut, {} KiB more memory", memory >> 10))
}

/// What was matched and neither delivered, queued nor dropped: never anything, once it is quiet.
pub(super) fn balance(router: &Router) -> f64 {
    let page = get(router.admin, "/metrics");
    let sum = |name, label| sum_of(&page, name, label);
    // These count publications for a whole shard, before anybody is matched.
    let before: f64 = ["ring_full", "stream_congested", "publisher_gone"]
        .into_iter()
        .map(|reason| sum("fanwire_events_dropped_total", reason))
        .sum();
    sum("fanwire_events_matched_total", "") + before
        - sum("fanwire_events_delivered_total", "")
        - sum("fanwire_events_queued", "")
        - sum("fanwire_events_dropped_total", "")
}

/// A subscriber with the smallest receive buffer: the router's side is full soon.
fn narrow(router: &Router) -> Client {
    let mut client = Client::upgrade(dial_narrow(router.wamp), router.wamp);
    client.hello();
    client.subscribe(TOPIC);
    client
}

/// What was sent before is whole and in order; then comes the end.
fn was_cut(mut client: Client) {
    let mut next = 0;
    loop {
        match client.hear() {
            Heard::Message(event) => assert_eq!(event[4][0], next, "not in order"),
            Heard::Close(..) => continue,
            Heard::End => break,
        }
        next += 1;
    }
    assert!(next < BLOCKS, "it was not cut");
}
