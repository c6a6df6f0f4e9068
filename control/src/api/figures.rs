//! What the API has done, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Code;
use super::routes::ROUTES;
use crate::page::{Kind, Page, label, labels};

/// Classes of statuses, as labels.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];
/// The label of requests that are for no route.
const OTHER: &str = "other";

/// Counted by the tasks of connections, read by the page.
#[derive(Debug)]
pub struct ApiFigures {
    /// By route, the last one for no route, and by class.
    requests: Vec<[AtomicU64; CLASSES.len()]>,
    /// By code, in the order of [`Code::ALL`].
    refused: Vec<AtomicU64>,
    pub(super) publications: AtomicU64,
    pub(super) lines: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) forgotten: AtomicU64,
}

impl Default for ApiFigures {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: (0..=ROUTES.len()).map(|_| std::array::from_fn(|_| zero())).collect(),
            refused: Code::ALL.iter().map(|_| zero()).collect(),
            publications: zero(),
            lines: zero(),
            connections: zero(),
            connections_refused: zero(),
            repeated: zero(),
            forgotten: zero(),
        }
    }
}

impl ApiFigures {
    /// A request was answered.
    pub(super) fn answered(&self, route: Option<usize>, status: u16) {
        let class = match status {
            400..=499 => 1,
            500.. => 2,
            _ => 0,
        };
        add(&self.requests[route.unwrap_or(ROUTES.len())][class], 1);
    }

    /// A request, or one publication of several, was refused.
    pub(super) fn refused(&self, code: Code) {
        let index = Code::ALL.iter().position(|other| *other == code).expect("all are there");
        add(&self.refused[index], 1);
    }

    /// Adds the metrics.
    pub fn collect(&self, page: &mut Page) {
        let help = "Requests to the HTTP API that were answered, by route and class of status.";
        let names = ROUTES.iter().map(|route| route.name).chain([OTHER]);
        for (name, classes) in names.zip(&self.requests) {
            for (class, count) in CLASSES.iter().zip(classes) {
                let labels = labels(&label("route", name), &label("status", class));
                page.add("fanwire_api_requests_total", Kind::Counter, help, &labels, read(count));
            }
        }
        let help = "Requests and publications that the HTTP API refused, by the code of the error.";
        for (code, count) in Code::ALL.iter().zip(&self.refused) {
            let labels = label("reason", code.name());
            page.add("fanwire_api_refused_total", Kind::Counter, help, &labels, read(count));
        }
        let mut counter = |name: &str, help: &str, count: &AtomicU64| {
            page.add(name, Kind::Counter, help, "", read(count));
        };
        counter(
            "fanwire_api_publications_total",
            "Publications by the HTTP API that the router took.",
            &self.publications,
        );
        counter("fanwire_api_stream_lines_total", "Lines of streams of publications.", &self.lines);
        counter(
            "fanwire_api_repeated_total",
            "Requests that were answered again from the table of idempotency keys.",
            &self.repeated,
        );
        counter(
            "fanwire_api_idempotency_forgotten_total",
            "Answers forgotten before their time, because the table of idempotency keys was full.",
            &self.forgotten,
        );
        counter(
            "fanwire_api_connections_refused_total",
            "Connections answered 503, because the HTTP API had too many.",
            &self.connections_refused,
        );
        let help = "Connections of the HTTP API.";
        page.add("fanwire_api_connections", Kind::Gauge, help, "", read(&self.connections));
    }
}

fn read(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

/// Counters are read one by one, so nothing hangs on their order.
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
