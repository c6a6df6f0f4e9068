//! Subscribers that read slowly or not at all, under each policy, beside others who must notice nothing.
//!
//! `FANWIRE_SLOW=50` makes them fifty of each kind; the kernel holds some megabytes for each.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fanwire_stress::control::Control;
use serde_json::{Value, json};

use crate::support::{
    Client, Folder, Heard, Launch, PATIENCE, Program, Router, eventually, get, has_answered,
};

const TOPIC: &str = "com.fanwire.slow";
const GAPS: &str = "fanwire.gap";
/// 16 KiB in one event.
const BLOCK_BYTES: usize = 16 << 10;
/// Blocks in all: several times what the kernel and an outbox of 256 KiB hold.
const BLOCKS: u64 = 500;
/// Blocks that the publisher may be ahead of the healthy reader, well within that outbox.
const AHEAD: u64 = 6;

/// How many are slow, and as many are stuck.
fn crowd_size() -> usize {
    std::env::var("FANWIRE_SLOW").ok().and_then(|count| count.parse().ok()).unwrap_or(12)
}

/// A client that is told of its gaps.
fn told_client(router: &Router) -> Client {
    let mut client = Client::join(router.wamp);
    client.subscribe(GAPS);
    client.subscribe(TOPIC);
    client
}

/// What a slow client got.
#[derive(Default)]
struct Got {
    numbers: Vec<u64>,
    lost: u64,
    answered: bool,
    ended: bool,
}

impl Got {
    fn hear(&mut self, client: &mut Client, reason: &str) {
        match client.hear() {
            Heard::Message(message) if message[0] == 8 => self.answered = true,
            Heard::Message(event) if event[5]["lost"].is_u64() => {
                assert_eq!(event[5]["reason"], reason, "{event}");
                self.lost += event[5]["lost"].as_u64().expect("checked");
            }
            Heard::Message(event) => {
                assert_eq!(event[0], 36, "{event}");
                let number = event[4][0].as_u64().expect("a number");
                let last = self.numbers.last().copied();
                assert!(last.is_none_or(|last| last < number), "{number} came after {last:?}");
                assert_eq!(event[4][1].as_str().map(str::len), Some(BLOCK_BYTES), "a whole block");
                // Told before what follows the gap: nothing is missing that was not told.
                assert_eq!(self.numbers.len() as u64 + self.lost, number, "missing before {number}");
                self.numbers.push(number);
            }
            Heard::Close(..) => {}
            Heard::End => self.ended = true,
        }
    }
}

/// Publishes the blocks while one healthy subscriber reads all of them, and slow ones a little now and then.
fn publish_to(router: &Router, slow: &mut [(Client, Got)], policy: &str) {
    let read = Arc::new(AtomicU64::new(0));
    let mut healthy = Client::join(router.wamp);
    healthy.subscribe(TOPIC);
    let reading = {
        let read = Arc::clone(&read);
        thread::spawn(move || {
            for number in 0..BLOCKS {
                assert_eq!(healthy.expect_event()[0], json!(number), "the healthy one lost something");
                read.store(number + 1, Ordering::Relaxed);
            }
        })
    };
    let address = router.wamp;
    let publishing = thread::spawn(move || {
        let mut publisher = Client::join(address);
        let block = "x".repeat(BLOCK_BYTES);
        for number in 0..BLOCKS {
            publisher.publish(TOPIC, json!([number, block]));
            while read.load(Ordering::Relaxed) + AHEAD < number && !reading.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        reading.join().expect("the healthy one got all");
    });
    while !publishing.is_finished() {
        for (client, got) in slow.iter_mut().filter(|(_, got)| !got.ended) {
            if has_answered(&client.writer()) {
                got.hear(client, policy);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    publishing.join().expect("all were published and acknowledged");
}

/// Slow and stuck subscribers; gives what the slow ones had got when everything was said.
fn crowd(driver: &str, policy: &str, inspect: impl FnOnce(&Router)) -> Vec<Got> {
    let router = Launch::on(driver)
        .set("limits.outbox", "256KiB")
        .set("limits.slow_consumer", policy)
        .set("limits.pause", "5s")
        // The stuck ones must outlive the publishing, unless their policy cuts them.
        .set("limits.outbox_age", "300s")
        .start();
    let stuck: Vec<Client> = (0..crowd_size()).map(|_| told_client(&router)).collect();
    let mut slow: Vec<_> = (0..crowd_size()).map(|_| (told_client(&router), Got::default())).collect();
    let control = Control::start(&router);
    publish_to(&router, &mut slow, policy);
    inspect(&router);
    for (client, got) in slow.iter_mut().filter(|(_, got)| !got.ended) {
        // Its answer comes after all that was due, and is never dropped.
        // Its connection may be gone already: that is what it hears then.
        let _ = client.writer().write_all(&Client::frame(&json!([48, 77, {}, "com.fanwire.nobody"])));
        while !got.ended && (!got.answered || got.numbers.len() as u64 + got.lost < BLOCKS) {
            got.hear(client, policy);
        }
    }
    control.go_on(10);
    control.finish(PATIENCE);
    drop(stuck);
    slow.into_iter().map(|(_, got)| got).collect()
}

fn dropped(router: &Router, reason: &str) -> f64 {
    router.metric("fanwire_events_dropped_total", &format!("reason=\"{reason}\""))
}

on_both_drivers! {
    fn drop_oldest_keeps_the_newest_and_tells_each_gap(driver: &str) {
        let all = crowd(driver, "drop_oldest", |router| {
            assert!(dropped(router, "drop_oldest") > 0.0);
            assert_eq!(router.metric("fanwire_slow_consumers_cut_total", ""), 0.0);
        });
        for got in all {
            assert!(!got.ended);
            assert_eq!(got.numbers.last(), Some(&(BLOCKS - 1)), "the newest is kept");
            assert_eq!(got.numbers.len() as u64 + got.lost, BLOCKS);
        }
    }

    fn drop_newest_keeps_what_waits_and_tells_each_gap(driver: &str) {
        let all = crowd(driver, "drop_newest", |router| assert!(dropped(router, "drop_newest") > 0.0));
        for got in all {
            assert!(!got.ended);
            assert_eq!(got.numbers.first(), Some(&0));
            assert_eq!(got.numbers.len() as u64 + got.lost, BLOCKS);
        }
    }

    fn conflate_keeps_the_newest_alone(driver: &str) {
        let all = crowd(driver, "conflate", |router| {
            assert!(dropped(router, "conflated") > 0.0);
            // One event for each of them, and what is about to be sent.
            let most = (2 * crowd_size() * 4 * BLOCK_BYTES) as f64;
            assert!(router.metric("fanwire_outbox_bytes", "") < most);
        });
        for got in all {
            assert_eq!(got.numbers.last(), Some(&(BLOCKS - 1)));
            assert_eq!(got.numbers.len() as u64 + got.lost, BLOCKS);
        }
    }

    /// Publishers wait for those that read, however slowly; who does not read at all is cut.
    fn pause_publisher_loses_nothing_and_cuts_who_never_reads(driver: &str) {
        let all = crowd(driver, "pause_publisher", |router| {
            eventually("the stuck ones being cut", || {
                router.metric("fanwire_slow_consumers_cut_total", "") >= crowd_size() as f64
            });
            assert!(dropped(router, "slow_consumer_pause") > 0.0);
            assert!(router.metric("fanwire_publishers_paused_total", "") > 0.0);
        });
        for got in all {
            assert_eq!((got.numbers.len() as u64, got.lost), (BLOCKS, 0));
        }
    }

    fn disconnect_cuts_who_never_reads(driver: &str) {
        let all = crowd(driver, "disconnect", |router| {
            eventually("the stuck ones being cut", || {
                router.metric("fanwire_slow_consumers_cut_total", "") >= crowd_size() as f64
            });
        });
        assert!(all.iter().all(|got| got.lost == 0), "nothing is dropped while the connection stays");
    }

    /// The rule of the topic and not the default, keys of the publisher, a list of who is slow.
    fn rules_go_by_topic_and_conflation_by_key(driver: &str) {
        let folder = Folder::new(&format!("slow-{driver}"));
        let config = folder.write(
            "fanwire.toml",
            "[limits]\noutbox = \"256KiB\"\n\
             [[realm]]\nname = \"realm1\"\n\
             [[realm.role]]\nname = \"anonymous\"\n\
             [[realm.role.permission]]\nuri = \"com.\"\nmatch = \"prefix\"\nallow = [\"publish\", \"subscribe\"]\n\
             [[realm.topic]]\nuri = \"com.fanwire.\"\nmatch = \"prefix\"\nslow_consumer = \"drop_newest\"\n\
             [[realm.topic]]\nuri = \"com.fanwire.slow\"\nslow_consumer = \"conflate\"\noutbox = \"1MiB\"\n",
        );
        let router = Launch::on(driver).argument("--config").argument(&config).start();
        let mut slow = told_client(&router);
        let mut publisher = Client::join(router.wamp);
        let block = "x".repeat(BLOCK_BYTES);
        for number in 0..BLOCKS {
            let key = ["EUR", "USD", "CHF"][number as usize % 3];
            let options = json!({"acknowledge": true, "x_conflate_key": key});
            let answer = publisher.ask(json!([16, number + 1, options, TOPIC, [number, block]]));
            assert_eq!(answer[0], 17, "{answer}");
        }
        assert!(dropped(&router, "conflated") > 0.0);
        let listed = get(router.admin, "/slow?limit=5");
        let listed: Value = serde_json::from_str(listed.split_once("\r\n\r\n").expect("a body").1).expect("JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!((&listed[0]["policy"], &listed[0]["realm"]), (&json!("conflate"), &json!("realm1")));
        assert!(listed[0]["bytes"].as_u64() > Some(0) && listed[0]["dropped"].as_u64() > Some(0), "{listed}");
        assert!(listed[0]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{listed}");
        let (status, table, told) = Program::start(&["slow", "--address", &router.admin.to_string()]).finish();
        assert!(status.success() && table.contains(" conflate "), "{table}\n{told}");
        assert_eq!(dropped(&router, "drop_newest") + dropped(&router, "drop_oldest"), 0.0);
        let mut got = Got::default();
        while got.numbers.len() as u64 + got.lost < BLOCKS {
            got.hear(&mut slow, "conflate");
        }
        assert!(got.numbers.ends_with(&[BLOCKS - 3, BLOCKS - 2, BLOCKS - 1]), "{:?}", got.numbers);
    }

    /// They are the router's own, and everybody's to subscribe to.
    fn nobody_publishes_gaps(driver: &str) {
        let router = Router::on(driver);
        let mut client = Client::join(router.wamp);
        let answer: Value = client.ask(json!([16, 1, {"acknowledge": true}, GAPS, [], {"lost": 1}]));
        assert_eq!((&answer[0], &answer[4]), (&json!(8), &json!("wamp.error.not_authorized")), "{answer}");
    }
}
