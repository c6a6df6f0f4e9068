//! What the Redis port has done, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::page::{Kind, Page, label};

/// Why a connection was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It did not read its messages in time.
    Slow,
    /// It sent what is no command.
    Protocol,
    /// It did not say its password in time.
    Login,
    /// Memory is short, and it had the most to read.
    Memory,
}

impl Ended {
    const ALL: [Self; 4] = [Self::Slow, Self::Protocol, Self::Login, Self::Memory];

    fn label(self) -> &'static str {
        match self {
            Self::Slow => "slow_consumer",
            Self::Protocol => "protocol",
            Self::Login => "login_time",
            Self::Memory => "memory",
        }
    }
}

/// Counters of the port.
#[derive(Debug, Default)]
pub struct RespFigures {
    pub(super) connections: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) untranslatable: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
    /// Messages that waited for a client when its connection ended, by why; the last one: the client has gone, or the router.
    dropped: [AtomicU64; Ended::ALL.len() + 1],
}

impl RespFigures {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn end(&self, why: Ended) {
        Self::add(&self.ended[why as usize], 1);
    }

    /// Messages are lost because a connection has ended; `None`: not by us.
    pub(super) fn drop_messages(&self, why: Option<Ended>, count: usize) {
        Self::add(&self.dropped[why.map_or(Ended::ALL.len(), |why| why as usize)], count as u64);
    }

    /// Adds them to the page.
    pub fn collect(&self, page: &mut Page) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "Connections of the Redis port.";
        page.add("fanwire_resp_connections", Kind::Gauge, help, "", of(&self.connections));
        let counters = [
            ("fanwire_resp_connections_refused_total", "Connections beyond resp.connections.", &self.refused),
            ("fanwire_resp_commands_total", "Commands of clients of the Redis port.", &self.commands),
            ("fanwire_resp_errors_total", "Commands that were answered with an error.", &self.errors),
            ("fanwire_resp_messages_total", "Messages for subscribers at the Redis port.", &self.messages),
        ];
        let (name, help) =
            ("fanwire_resp_untranslatable_total", "Messages whose payload has no form in Redis.");
        page.add(name, Kind::Counter, help, "", of(&self.untranslatable));
        for (name, help, counter) in counters {
            page.add(name, Kind::Counter, help, "", of(counter));
        }
        let help = "Connections of the Redis port that the router ended, by reason.";
        for why in Ended::ALL {
            let (labels, count) = (label("reason", why.label()), of(&self.ended[why as usize]));
            page.add("fanwire_resp_connections_ended_total", Kind::Counter, help, &labels, count);
        }
        let help =
            "Messages that waited for a client of the Redis port when its connection ended, by reason.";
        let reasons = Ended::ALL.map(Ended::label).into_iter().chain(["disconnected"]);
        for (reason, count) in reasons.zip(&self.dropped) {
            let labels = label("reason", reason);
            page.add("fanwire_resp_messages_dropped_total", Kind::Counter, help, &labels, of(count));
        }
    }
}
