//! Subscribers that do not read, or not fast enough, under each policy of the router.

use std::num::NonZeroU64;

use crate::proxy::{Faults, Line, Proxy};
use crate::scenario::{Scenario, Stage};
use crate::testbed::{
    Client, Heard, Router, dial_narrow, eventually, get, publish_to_readers, subscribed, sum_of,
};

const TOPIC: &str = "com.fanwire.load";
/// Where the router tells a session what it lost.
const GAPS: &str = "fanwire.gap";
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
    /// Whether those that do not keep up lose their connection, rather than events.
    cuts: bool,
    /// What must have become of one that never read until all was published.
    check: fn(Got),
}

const POLICIES: &[Policy] = &[
    Policy { name: "disconnect", cuts: true, check: was_cut },
    Policy { name: "pause_publisher", cuts: true, check: was_cut },
    Policy { name: "drop_oldest", cuts: false, check: has_the_newest },
    Policy { name: "drop_newest", cuts: false, check: has_the_oldest },
    Policy { name: "conflate", cuts: false, check: has_the_newest },
];

pub(super) fn scenarios() -> Vec<Scenario> {
    let scenario = |policy: &'static Policy| Scenario {
        name: format!("slow-readers/{}", policy.name),
        promise: "50 subscribers that never read and 50 slow ones cost a bounded memory, and nobody else an event",
        play: Box::new(move |stage| slow_readers(stage, policy)),
    };
    POLICIES.iter().map(scenario).collect()
}

fn slow_readers(stage: &mut Stage, policy: &Policy) -> String {
    let router = stage
        .launch()
        .set("limits.outbox", &format!("{OUTBOX_BYTES}B"))
        .set("limits.slow_consumer", policy.name)
        .set("limits.pause", "1s")
        // Who takes nothing is to stay until it is looked at, unless the policy cuts it.
        .set("limits.outbox_age", "300s")
        .start();
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
    if policy.cuts {
        eventually("the cuts", || router.metric("fanwire_sessions", "") == 4.0);
    }
    assert!(router.metric("fanwire_events_dropped_total", "") > 0.0, "what they did not get is not counted");
    stuck.into_iter().map(Got::hear_all).for_each(policy.check);
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
    client.subscribe(GAPS);
    client.subscribe(TOPIC);
    client
}

/// What a subscriber got after all was published.
#[derive(Default)]
struct Got {
    first: Option<u64>,
    last: Option<u64>,
    /// Events that it got, and that it was told of as lost.
    known: u64,
    /// Its connection ended before it knew of all.
    cut: bool,
}

impl Got {
    /// Reads until every event was either got or told as lost, or to the end.
    fn hear_all(mut client: Client) -> Self {
        let mut got = Self::default();
        while got.known < BLOCKS && !got.cut {
            match client.hear() {
                Heard::Message(event) if event[5]["lost"].is_u64() => {
                    got.known += event[5]["lost"].as_u64().expect("just seen");
                }
                Heard::Message(event) => {
                    // Whole, in order, and whatever is missing before it was told before it.
                    assert_eq!(event[4][0], got.known, "after {:?}", got.last);
                    got.last = Some(got.known);
                    got.first.get_or_insert(got.known);
                    got.known += 1;
                }
                Heard::Close(..) => {}
                Heard::End => got.cut = true,
            }
        }
        got
    }
}

fn was_cut(got: Got) {
    assert!(got.cut, "it was not cut");
}

fn has_the_newest(got: Got) {
    assert!(!got.cut, "it was cut after {:?}", got.last);
    assert_eq!(got.last, Some(BLOCKS - 1), "the newest");
}

fn has_the_oldest(got: Got) {
    assert!(!got.cut, "it was cut after {:?}", got.last);
    assert_eq!(got.first, Some(0), "the oldest");
    assert!(got.last < Some(BLOCKS - 1), "nothing was dropped");
}
