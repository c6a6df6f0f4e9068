//! Publications that are checked by whoever gets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Client, Router};

/// In one event.
pub const BLOCK_BYTES: usize = 4 << 10;

/// Publishes the blocks with these numbers, all of them at once, and waits for the acknowledgements.
pub fn publish_blocks(publisher: &mut Client, topic: &str, numbers: std::ops::Range<u64>) {
    let block = "x".repeat(BLOCK_BYTES);
    for number in numbers.clone() {
        publisher.send(json!([16, number + 1, {"acknowledge": true}, topic, [number, block]]));
    }
    for number in numbers {
        let answer = publisher.expect();
        assert_eq!((&answer[0], &answer[1]), (&json!(17), &json!(number + 1)), "{answer}");
    }
}

/// Blocks that a publisher may be ahead of a healthy reader: well within an outbox of 256 KiB.
const AHEAD: u64 = 128 * 1024 / BLOCK_BYTES as u64;
/// Of them, what it publishes before it waits for the answers.
const AT_ONCE: u64 = 16;

/// Publishes `count` blocks and checks that each of `healthy` gets all of them, once and in order.
///
/// The publisher keeps within what an outbox holds, so that a reader to which the machine gives no time is not taken for
/// one that does not read.
pub fn publish_to_readers(router: &Router, topic: &str, healthy: Vec<Client>, count: u64) {
    let read: Arc<Vec<AtomicU64>> = Arc::new(healthy.iter().map(|_| AtomicU64::new(0)).collect());
    let readers: Vec<_> = healthy
        .into_iter()
        .enumerate()
        .map(|(index, mut reader)| {
            let read = Arc::clone(&read);
            thread::spawn(move || {
                for number in 0..count {
                    assert_eq!(reader.expect_event()[0], json!(number));
                    read[index].store(number + 1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut publisher = Client::join(router.wamp);
    for number in (0..count).step_by(AT_ONCE as usize) {
        publish_blocks(&mut publisher, topic, number..number + AT_ONCE);
        while read.iter().any(|read| read.load(Ordering::Relaxed) + AHEAD < number)
            && !readers.iter().any(thread::JoinHandle::is_finished)
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
    for reader in readers {
        reader.join().expect("a healthy subscriber lost something");
    }
}

/// A session with a subscription.
pub fn subscribed(router: &Router, topic: &str) -> Client {
    let mut client = Client::join(router.wamp);
    client.subscribe(topic);
    client
}
