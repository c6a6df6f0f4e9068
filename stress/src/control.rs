//! The control pair: a healthy publisher and healthy subscribers beside every mischief.
//!
//! They must notice nothing: every event comes once and in order, and none is later than the slack that a busy machine
//! needs. Latencies count from the time at which the publication was due, so that a publisher that is held up shows it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::testbed::{Client, Heard, PATIENCE, Router};

const TOPIC: &str = "com.fanwire.control";
/// Subscribers: enough that both shards of a router have some.
const READERS: usize = 3;
/// Between two publications.
const INTERVAL: Duration = Duration::from_millis(10);
/// Publications before the mischief begins, which tell what is usual here.
const QUIET: u64 = 50;

/// The healthy clients of a scenario.
pub struct Control {
    publisher: JoinHandle<u64>,
    readers: Vec<JoinHandle<Vec<Duration>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// A GOODBYE is the end, and no failure.
    may_end: AtomicBool,
    /// Publications that each reader has.
    read: [AtomicU64; READERS],
    /// Publications in all, once that is known.
    total: AtomicU64,
}

impl Control {
    /// Connects them, and waits until they have worked for a while in quiet.
    pub fn start(router: &Router) -> Self {
        let shared = Arc::new(Shared { total: AtomicU64::new(u64::MAX), ..Shared::default() });
        let epoch = Instant::now();
        let readers = (0..READERS)
            .map(|index| {
                let mut client = Client::join(router.wamp);
                client.subscribe(TOPIC);
                let shared = Arc::clone(&shared);
                thread::spawn(move || read(client, index, epoch, &shared))
            })
            .collect();
        let client = Client::join(router.wamp);
        let publisher = thread::spawn({
            let shared = Arc::clone(&shared);
            move || publish(client, epoch, &shared)
        });
        let control = Self { publisher, readers, shared };
        control.reach(QUIET);
        control
    }

    /// Waits until so many publications more have come to all.
    pub fn go_on(&self, publications: u64) {
        let have = self.slowest();
        self.reach(have + publications);
    }

    fn slowest(&self) -> u64 {
        self.shared.read.iter().map(|read| read.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn reach(&self, publications: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.slowest() < publications {
            let ended = self.readers.iter().any(JoinHandle::is_finished) || self.publisher.is_finished();
            assert!(!ended, "a control client ended");
            assert!(
                Instant::now() < deadline,
                "the control clients are not served: {} events",
                self.slowest()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// From now on a goodbye of the router is no failure.
    pub fn may_end(&self) {
        self.shared.may_end.store(true, Ordering::Relaxed);
    }

    /// Ends it, and checks that all events have come.
    ///
    /// # Panics
    ///
    /// If one was lost, doubled or out of order, or if one came later than `slack`.
    pub fn finish(self, slack: Duration) -> Quality {
        self.shared.stop.store(true, Ordering::Relaxed);
        let events = self.publisher.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        self.shared.total.store(events, Ordering::Release);
        let (mut quiet, mut all) = (Vec::new(), Vec::new());
        for reader in self.readers {
            let times = reader.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            quiet.extend(times.iter().take(QUIET as usize).copied());
            all.extend(times.into_iter().skip(QUIET as usize));
        }
        quiet.sort_unstable();
        all.sort_unstable();
        let quality = Quality {
            events,
            quiet: percentile(&quiet, 99),
            disturbed: percentile(&all, 99),
            worst: percentile(&all, 100),
        };
        assert!(quality.worst <= slack, "the control clients waited longer than {slack:?}: {quality}");
        quality
    }
}

fn publish(mut client: Client, epoch: Instant, shared: &Shared) -> u64 {
    let mut number = 0;
    let mut due = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let micros = u64::try_from((due - epoch).as_micros()).expect("short of centuries");
        client.send(json!([16, number + 1, {"acknowledge": true}, TOPIC, [number, micros]]));
        match client.hear() {
            Heard::Message(answer) if answer[0] == 17 => assert_eq!(answer[1], json!(number + 1), "{answer}"),
            end => {
                leave(&mut client, end, shared);
                break;
            }
        }
        number += 1;
        due += INTERVAL;
    }
    number
}

fn read(mut client: Client, index: usize, epoch: Instant, shared: &Shared) -> Vec<Duration> {
    let mut times = Vec::new();
    // The publisher ends before the total is known, so the last event may be here already: one that is awaited would be
    // one too many. A silence therefore asks again.
    while (times.len() as u64) < shared.total.load(Ordering::Acquire) {
        let Some(heard) = client.hear_within(Duration::from_millis(100)) else { continue };
        let event = match heard {
            Heard::Message(event) if event[0] == 36 => event,
            end => {
                leave(&mut client, end, shared);
                break;
            }
        };
        let expected = times.len() as u64;
        assert_eq!(event[4][0], json!(expected), "a control event was lost, doubled or out of order");
        let due = epoch + Duration::from_micros(event[4][1].as_u64().expect("as it was published"));
        times.push(due.elapsed());
        shared.read[index].store(expected + 1, Ordering::Relaxed);
    }
    times
}

/// The router said goodbye, if it may.
fn leave(client: &mut Client, heard: Heard, shared: &Shared) {
    let Heard::Message(goodbye) = heard else { panic!("a control client heard {heard:?}") };
    let is_goodbye = goodbye[0] == 6 && goodbye[2] == "wamp.close.system_shutdown";
    assert!(is_goodbye && shared.may_end.load(Ordering::Relaxed), "a control client heard {goodbye}");
    client.send(said_goodbye());
    client.expect_close(1001);
}

/// The answer to GOODBYE.
pub fn said_goodbye() -> Value {
    json!([6, {}, "wamp.close.goodbye_and_out"])
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// How the control clients were served.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Publications, each of which came to all.
    pub events: u64,
    /// Latency before the mischief, 99th percentile.
    pub quiet: Duration,
    /// Latency from then on, 99th percentile.
    pub disturbed: Duration,
    /// The longest latency from then on.
    pub worst: Duration,
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        write!(
            f,
            "control {} events, p99 {:.1} ms (quiet {:.1}), worst {:.1} ms",
            self.events,
            ms(self.disturbed),
            ms(self.quiet),
            ms(self.worst)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_there_is() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 99), Duration::from_millis(99));
        assert_eq!(percentile(&times, 100), Duration::from_millis(100));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
