//! What the meta desk has done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::news::Kind;
use crate::page::{self, Page, label};

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// It has its result.
    Done,
    /// It was wrong, or not permitted.
    Refused,
    /// A shard did not answer.
    Failed,
    /// There was no room.
    Busy,
    /// Its caller has gone.
    Abandoned,
}

/// What became of a meta event or a testament.
#[derive(Clone, Copy, Debug)]
pub(super) enum Announced {
    /// It is on its way to its subscribers.
    Published,
    /// Its role may not publish it any more.
    Refused,
    /// Some of its subscribers do not get it: a part of the router had no room.
    Failed,
    /// There was no room for it here.
    Dropped,
}

/// Counters of the meta desk.
#[derive(Debug, Default)]
pub struct MetaFigures {
    calls: [AtomicU64; 5],
    events: [AtomicU64; 4],
    testaments: [AtomicU64; 4],
}

impl MetaFigures {
    pub(super) fn count(&self, outcome: Outcome) {
        self.calls[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_announced(&self, kind: Kind, announced: Announced, count: usize) {
        let counters = if kind == Kind::Event { &self.events } else { &self.testaments };
        counters[announced as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn collect(&self, page: &mut Page) {
        let name = "fanwire_meta_calls_total";
        let help = "Calls of WAMP's meta procedures that the control thread took, by what became of them.";
        page.declare(name, page::Kind::Counter, help);
        let results = ["done", "refused", "failed", "busy", "abandoned"];
        for (result, count) in results.into_iter().zip(&self.calls) {
            let count = count.load(Ordering::Relaxed) as f64;
            page.add(name, page::Kind::Counter, help, &label("result", result), count);
        }
        for (name, help, counters) in [
            ("fanwire_meta_events_total", "WAMP's meta events, by what became of them.", &self.events),
            (
                "fanwire_testaments_total",
                "Testaments of sessions that ended, by what became of them.",
                &self.testaments,
            ),
        ] {
            page.declare(name, page::Kind::Counter, help);
            let results = ["published", "refused", "failed", "dropped"];
            for (result, count) in results.into_iter().zip(counters) {
                let count = count.load(Ordering::Relaxed) as f64;
                page.add(name, page::Kind::Counter, help, &label("result", result), count);
            }
        }
    }
}
