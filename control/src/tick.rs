//! Ticks: publications that come by themselves, one publisher for the process whatever the number of shards.
//!
//! ```text
//! configuration, reloads ──▶ TickSetting ──▶ a task for each tick ── Ask::Publish ──▶ one shard ──▶ all others
//! ```
//!
//! A tick whose last publication is not answered yet, or for which the shard has no room, is left out and counted: nothing queues
//! up. Ticks that a reload does not change go on as they are; one that it changes goes on with its count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanwire_codec::payload::OwnedPayload;
use fanwire_codec::wamp2::ReceiverLists;
use fanwire_core::api::{Actor, ApiAnswer, ApiPublication, ApiRequest, Ask};
use fanwire_core::ids::ShardId;
use fanwire_io::counters::ShardCounters;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Shards;
use crate::page::{Kind, Page, label, labels};

/// One tick, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickConfig {
    /// Unlike any other's.
    pub name: String,
    /// Whose permissions count.
    pub actor: Actor,
    /// The topic.
    pub topic: String,
    /// From one to the next.
    pub interval: Duration,
    /// What is published: JSON if it is JSON with everything filled in, else a string. `{seq}`, `{now_ms}` and `{connections}` are
    /// filled in.
    pub payload: String,
}

/// Where other ticks are put.
pub type TickSetting = watch::Sender<Vec<TickConfig>>;

/// What ticks have done, by their names.
#[derive(Clone, Debug, Default)]
pub struct TickFigures(Arc<Mutex<BTreeMap<String, Arc<Figures>>>>);

#[derive(Debug, Default)]
struct Figures {
    /// The number of the last one.
    seq: AtomicU64,
    published: AtomicU64,
    skipped: AtomicU64,
    refused: AtomicU64,
}

/// The ticks, before they begin.
pub struct TickDesk {
    setting: watch::Receiver<Vec<TickConfig>>,
    figures: TickFigures,
    counters: Vec<Arc<ShardCounters>>,
}

/// The desk of these ticks, and where others are put later. `counters` know how many connections there are.
pub fn desk(ticks: Vec<TickConfig>, counters: Vec<Arc<ShardCounters>>) -> (TickSetting, TickDesk) {
    let (sender, setting) = watch::channel(ticks);
    (sender, TickDesk { setting, figures: TickFigures::default(), counters })
}

impl TickDesk {
    /// For the metrics page.
    pub fn figures(&self) -> TickFigures {
        self.figures.clone()
    }

    /// Ticks until nobody can change the ticks any more.
    pub(crate) async fn run(mut self, shards: Arc<dyn Shards>) {
        let mut running: Vec<(TickConfig, AbortHandle)> = Vec::new();
        let counters = Arc::new(std::mem::take(&mut self.counters));
        loop {
            let wanted = self.setting.borrow_and_update().clone();
            running.retain(|(config, task)| {
                let is_wanted = wanted.contains(config);
                if !is_wanted {
                    task.abort();
                }
                is_wanted
            });
            self.figures.keep(&wanted);
            for config in wanted {
                if running.iter().all(|(other, _)| *other != config) {
                    let figures = self.figures.of(&config.name);
                    let (shards, counters) = (Arc::clone(&shards), Arc::clone(&counters));
                    let task = tokio::spawn(tick(config.clone(), figures, shards, counters));
                    running.push((config, task.abort_handle()));
                }
            }
            if self.setting.changed().await.is_err() {
                return;
            }
        }
    }
}

impl TickFigures {
    fn of(&self, name: &str) -> Arc<Figures> {
        Arc::clone(self.all().entry(name.to_owned()).or_default())
    }

    /// Forgets ticks that are gone.
    fn keep(&self, wanted: &[TickConfig]) {
        self.all().retain(|name, _| wanted.iter().any(|config| config.name == *name));
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Figures>>> {
        // Nothing panics with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn collect(&self, page: &mut Page) {
        let name = "fanwire_ticks_total";
        let help = "Publications that come by themselves, and those that did not.";
        page.declare(name, Kind::Counter, help);
        for (tick, figures) in &*self.all() {
            for (result, count) in [
                ("published", &figures.published),
                ("skipped", &figures.skipped),
                ("refused", &figures.refused),
            ] {
                let labels = labels(&label("tick", tick), &label("result", result));
                page.add(name, Kind::Counter, help, &labels, count.load(Ordering::Relaxed) as f64);
            }
        }
    }
}

async fn tick(
    config: TickConfig,
    figures: Arc<Figures>,
    shards: Arc<dyn Shards>,
    counters: Arc<Vec<Arc<ShardCounters>>>,
) {
    let mut interval = interval_at(Instant::now() + config.interval, config.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<Instant> = None;
    let mut told = String::new();
    loop {
        let due = interval.tick().await;
        if let Some(last) = last.replace(due) {
            let missed = (due - last).as_nanos() / config.interval.as_nanos().max(1);
            figures
                .skipped
                .fetch_add(u64::try_from(missed).unwrap_or(u64::MAX).saturating_sub(1), Ordering::Relaxed);
        }
        // After a stall the tick that was due comes at once, and the next in its time: two of them together say nothing.
        if due.elapsed() >= config.interval {
            figures.skipped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let connections = counters.iter().map(|shard| shard.connections_open.get()).sum();
        let seq = figures.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let text = fill(&config.payload, seq, now_ms(), connections);
        match publish(&*shards, &config, &text).await {
            Published::Done => _ = figures.published.fetch_add(1, Ordering::Relaxed),
            Published::NoRoom => _ = figures.skipped.fetch_add(1, Ordering::Relaxed),
            Published::Refused(words) => {
                figures.refused.fetch_add(1, Ordering::Relaxed);
                if words != told {
                    tracing::warn!("tick {:?} does not get through: {words}", config.name);
                    told = words;
                }
            }
            Published::Ended => return,
        }
    }
}

enum Published {
    Done,
    NoRoom,
    Refused(String),
    /// The shard has.
    Ended,
}

async fn publish(shards: &dyn Shards, config: &TickConfig, text: &str) -> Published {
    let json = OwnedPayload::from_plain_json(text.as_bytes());
    let plain = json.is_none();
    let publication = ApiPublication {
        actor: config.actor,
        topic: config.topic.as_str().into(),
        payload: json.unwrap_or_else(|| OwnedPayload::from_plain(text.as_bytes())),
        plain,
        receivers: ReceiverLists::default(),
        conflate_key: None,
        retain: false,
        receipt: false,
        from: None,
    };
    let (answer, answered) = oneshot::channel();
    let reply = Box::new(move |said| drop(answer.send(said)));
    let first = ShardId::new(0).expect("there is one at least");
    if shards.ask(first, ApiRequest { ask: Ask::Publish(vec![publication]), reply }).is_err() {
        return Published::NoRoom;
    }
    match answered.await {
        Ok(ApiAnswer::Published(outcomes)) => match outcomes.into_iter().next() {
            Some(Err(refusal)) => Published::Refused(refusal.to_string()),
            _ => Published::Done,
        },
        _ => Published::Ended,
    }
}

/// The payload of one tick. Other braces stand for themselves, so JSON needs no escapes.
fn fill(template: &str, seq: u64, now_ms: u64, connections: u64) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        let known = [("{seq}", seq), ("{now_ms}", now_ms), ("{connections}", connections)];
        match known.iter().find(|(name, _)| behind.starts_with(name)) {
            Some((name, value)) => {
                out.push_str(&value.to_string());
                rest = &behind[name.len()..];
            }
            None => {
                out.push('{');
                rest = &behind[1..];
            }
        }
    }
    out + rest
}

#[allow(clippy::disallowed_methods, reason = "it is told to people, and moves nothing")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_what_is_known_filled_in() {
        for (template, expected) in [
            ("{\"t\":{now_ms},\"n\":{seq},\"online\":{connections}}", "{\"t\":5,\"n\":7,\"online\":3}"),
            ("{{seq}} {x} {seq", "{7} {x} {seq"),
            ("checking ping", "checking ping"),
            ("", ""),
        ] {
            assert_eq!(fill(template, 7, 5, 3), expected);
        }
    }
}
