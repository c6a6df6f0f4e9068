//! Publishers that send more than can be delivered.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::slow_readers::balance;
use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, Heard, PATIENCE, Router, eventually, subscribed};

const TOPIC: &str = "com.fanwire.flood";
const READERS: usize = 8;
const PUBLISHERS: usize = 3;
/// Payload of a publication.
const BYTES: usize = 512;
/// How long the publishers send at three times the pace.
const TIME: Duration = Duration::from_secs(3);
/// How long the pace is measured.
const PACE_TIME: Duration = Duration::from_secs(1);
/// Publications on their way while the pace is measured.
const WINDOW: u64 = 64;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "fast-publishers",
        "publishers three times too fast are slowed down; memory stays bounded and every event is accounted for",
        fast_publishers,
    )]
}

fn fast_publishers(stage: &mut Stage) -> String {
    let router = stage.launch().start();
    let control = stage.control(&router);
    let read = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let client = subscribed(&router, TOPIC);
            let (read, stop) = (Arc::clone(&read), Arc::clone(&stop));
            thread::spawn(move || read_all(client, &read, &stop))
        })
        .collect();
    let pace = pace(&router, &read);
    let before = router.resident_bytes();
    let writers: Vec<_> = (0..PUBLISHERS)
        .map(|index| {
            let client = Client::join(router.wamp);
            thread::spawn(move || flood(client, index, pace))
        })
        .collect();
    let mut most = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        most = most.max(router.resident_bytes());
        thread::sleep(Duration::from_millis(20));
    }
    let sent: u64 = writers.into_iter().map(|writer| writer.join().expect("a publisher was cut")).sum();
    eventually("all events being delivered or dropped", || {
        router.metric("fanwire_events_queued", "") == 0.0 && balance(&router) == 0.0
    });
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("events of one publisher keep their order");
    }
    let memory = most.saturating_sub(before);
    // Eight outboxes of 1 MiB, rings and streams of some MiB each, and what the allocator keeps.
    assert!(memory < 96 << 20, "{memory} bytes more");
    let dropped = router.metric("fanwire_events_dropped_total", "");
    let parked = router.metric("fanwire_requests_parked_total", "");
    stage.close(
        control,
        format_args!(
            "{} KiB/s wanted, {sent} sent, held {parked} times, {dropped} events dropped, {} KiB more memory",
            pace * 3 * BYTES as u64 / 1024,
            memory >> 10
        ),
    )
}

/// Publications a second that all readers take, with one publisher that waits for its answers.
fn pace(router: &Router, read: &AtomicU64) -> u64 {
    let mut client = Client::join(router.wamp);
    let (begun, mut sent) = (Instant::now(), 0);
    let have = read.load(Ordering::Relaxed);
    while begun.elapsed() < PACE_TIME {
        for _ in 0..WINDOW {
            sent += 1;
            client.send(publication(sent, PUBLISHERS, true));
        }
        (0..WINDOW).for_each(|_| assert_eq!(client.expect()[0], 17));
        let deadline = Instant::now() + PATIENCE;
        while read.load(Ordering::Relaxed) - have < sent * READERS as u64 {
            assert!(Instant::now() < deadline, "the readers are not served");
            thread::sleep(Duration::from_micros(200));
        }
    }
    (sent as f64 / begun.elapsed().as_secs_f64()) as u64
}

/// Sends three times the pace, all publishers together, as long as the router takes it; what it does not take waits.
fn flood(mut client: Client, index: usize, pace: u64) -> u64 {
    let mut writer = client.writer();
    writer.set_write_timeout(Some(PATIENCE)).expect("a valid timeout");
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        let due = (begun.elapsed().as_secs_f64() * pace as f64 * 3.0 / PUBLISHERS as f64) as u64;
        if sent >= due {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let until = due.min(sent + 256);
        let frames: Vec<u8> =
            (sent..until).flat_map(|number| Client::frame(&publication(number + 1, index, false))).collect();
        match writer.write_all(&frames) {
            Ok(()) => sent = until,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("a publisher was cut: {error}"),
        }
    }
    // Its answer says that all before it are routed.
    client.send(publication(sent + 1, index, true));
    assert_eq!(client.expect()[0], 17);
    sent + 1
}

fn publication(number: u64, publisher: usize, acknowledge: bool) -> Value {
    json!([16, number, {"acknowledge": acknowledge}, TOPIC, [publisher, number, "x".repeat(BYTES)]])
}

/// Reads until told; the numbers of each publisher only grow, and a cut is a fair end for who is too slow.
fn read_all(mut client: Client, read: &AtomicU64, stop: &AtomicBool) {
    let mut last = [0; PUBLISHERS + 1];
    while !stop.load(Ordering::Relaxed) {
        match client.hear_within(Duration::from_millis(100)) {
            Some(Heard::Message(event)) => {
                let number = |index: usize| event[4][index].as_u64().expect("as it was published");
                let (publisher, number) = (number(0) as usize, number(1));
                assert!(number > last[publisher], "{number} of {publisher} after {}", last[publisher]);
                last[publisher] = number;
                read.fetch_add(1, Ordering::Relaxed);
            }
            Some(Heard::End) => return,
            Some(Heard::Close(..)) | None => {}
        }
    }
}
