//! What is measured: one row for each thing that Fanwire is held to.
//!
//! A row takes less than two minutes with the usual effort, so that a shared machine can be had for one at a time.

use anyhow::Result;

use super::bench::Bench;
use super::line::Bounds;
use super::{beside, calls, fanin, fanout, idle, instructions, shards};

/// A thing that is measured.
pub struct Row {
    /// As `--only` names it.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    kind: Kind,
}

/// How it is measured.
enum Kind {
    FanOut(fanout::Shape),
    Floor { window: usize, bounds: Bounds },
    Other { window: usize, rival: &'static str, bounds: Bounds },
    Coalescing { subscribers: usize, bounds: Bounds },
    Stuck,
    Instructions { window: usize, bounds: Bounds },
    FanIn { publishers: usize, window: usize, bounds: Bounds },
    Beside { load: f64 },
    Slices,
    OpenLoop,
    Flood,
    Memory,
    Idle,
    Ping,
    Calls,
    CallsAcross,
    Wakes,
    TwoShards,
}

impl Row {
    /// Measures it.
    pub fn run(&self, bench: &mut Bench<'_>) -> Result<()> {
        match &self.kind {
            Kind::FanOut(shape) => fanout::fan_out(bench, shape),
            Kind::Floor { window, bounds } => fanout::floor(bench, *window, *bounds),
            Kind::Other { window, rival, bounds } => fanout::other(bench, *window, rival, *bounds),
            Kind::Coalescing { subscribers, bounds } => fanout::coalescing(bench, *subscribers, *bounds),
            Kind::Stuck => fanout::stuck(bench),
            Kind::Instructions { window, bounds } => instructions::instructions(bench, *window, *bounds),
            Kind::FanIn { publishers, window, bounds } => fanin::fan_in(bench, *publishers, *window, *bounds),
            Kind::Beside { load } => beside::beside(bench, *load),
            Kind::Slices => beside::slices(bench),
            Kind::OpenLoop => beside::open_loop(bench),
            Kind::Flood => beside::flood(bench),
            Kind::Memory => idle::memory(bench),
            Kind::Idle => idle::idle(bench),
            Kind::Ping => idle::ping(bench),
            Kind::Calls => calls::calls(bench),
            Kind::CallsAcross => calls::across(bench),
            Kind::Wakes => shards::wakes(bench),
            Kind::TwoShards => shards::two(bench),
        }
    }

    /// Whether `--only NAME` means this row: its name, or the beginning of it up to a dash.
    pub fn is_meant_by(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// One in flight: what each delivery costs by itself.
const fn one(subscribers: usize, serializer: &'static str, aim: f64) -> Kind {
    Kind::FanOut(fanout::Shape {
        subscribers,
        window: 1,
        window_by: "average",
        serializer,
        bounds: Bounds::at_most(1.05, aim),
    })
}

/// Sixteen in flight.
const fn sixteen(subscribers: usize, serializer: &'static str, must: f64, aim: f64) -> Kind {
    Kind::FanOut(fanout::Shape {
        subscribers,
        window: 16,
        window_by: "average",
        serializer,
        bounds: Bounds::at_most(must, aim),
    })
}

/// Against a server with a protocol of its own.
const fn other(window: usize, rival: &'static str, bounds: Bounds) -> Kind {
    Kind::Other { window, rival, bounds }
}

macro_rules! rows {
    ($($name:literal, $about:literal, $kind:expr;)*) => {
        &[$(Row { name: $name, about: $about, kind: $kind }),*]
    };
}

const KIB: f64 = 1024.0;
const MS: f64 = 1e6;
const US: f64 = 1e3;

/// All rows, in the order of the table.
pub const ROWS: &[Row] = rows! {
    "fanout-1-100-msgpack", "CPU per delivery to 100, one in flight", one(100, "msgpack", 0.95);
    "fanout-1-100-json", "the same in JSON", one(100, "json", 0.95);
    "fanout-1-1000-msgpack", "to 1,000", one(1_000, "msgpack", 0.92);
    "fanout-1-1000-json", "the same in JSON", one(1_000, "json", 0.92);
    "fanout-1-10000-msgpack", "to 10,000", one(10_000, "msgpack", 0.85);
    "fanout-1-10000-json", "the same in JSON", one(10_000, "json", 0.85);
    "fanout-16-100-msgpack", "CPU per delivery to 100, sixteen in flight", sixteen(100, "msgpack", 1.0, 0.80);
    "fanout-16-100-json", "the same in JSON", sixteen(100, "json", 1.0, 0.80);
    "fanout-16-1000-msgpack", "to 1,000", sixteen(1_000, "msgpack", 0.70, 0.45);
    "fanout-16-1000-json", "the same in JSON", sixteen(1_000, "json", 0.70, 0.45);
    "fanout-16-10000-msgpack", "to 10,000", sixteen(10_000, "msgpack", 0.70, 0.45);
    "fanout-16-10000-json", "the same in JSON", sixteen(10_000, "json", 0.70, 0.45);
    "slowest-1000", "sixteen in flight, where the last subscriber opens the window", Kind::FanOut(fanout::Shape {
        subscribers: 1_000,
        window: 16,
        window_by: "slowest",
        serializer: "msgpack",
        bounds: Bounds::NONE,
    });
    "floor-1", "CPU per delivery against bare sends, one in flight",
        Kind::Floor { window: 1, bounds: Bounds::at_most(1.20, 1.08) };
    "floor-16", "the same with sixteen in flight and sixteen messages per send",
        Kind::Floor { window: 16, bounds: Bounds::at_most(1.20, 1.10) };
    "instructions-1", "user instructions per delivery, one in flight (callgrind)",
        Kind::Instructions { window: 1, bounds: Bounds::at_most(600.0, 250.0) };
    "instructions-16", "the same with sixteen in flight",
        Kind::Instructions { window: 16, bounds: Bounds::at_most(80.0, 25.0) };
    "fanin-1000", "CPU per message of 1,000 publishers to one subscriber",
        Kind::FanIn { publishers: 1_000, window: 1, bounds: Bounds::at_most(1.0, 0.8) };
    "fanin-100", "the same of 100 busy ones",
        Kind::FanIn { publishers: 100, window: 10, bounds: Bounds::at_most(0.6, 0.25) };
    "beside-50", "1:1 events and calls beside a broadcast to 10,000 at half of the capacity", Kind::Beside { load: 0.5 };
    "beside-80", "the same at 80 % of it", Kind::Beside { load: 0.8 };
    "slices", "what slicing a broadcast costs", Kind::Slices;
    "open-loop", "latency at 1,000 publications per second to 1,000", Kind::OpenLoop;
    "flood", "1:1 events while a publisher floods", Kind::Flood;
    "memory", "resident memory of 10,000 idle connections and sessions", Kind::Memory;
    "idle", "CPU of 10,000 idle connections", Kind::Idle;
    "ping", "CPU of one ping and its pong", Kind::Ping;
    "coalescing-100", "messages per send to 100, sixteen in flight",
        Kind::Coalescing { subscribers: 100, bounds: Bounds::at_least(12.0, 16.0) };
    "coalescing-1000", "to 1,000", Kind::Coalescing { subscribers: 1_000, bounds: Bounds::at_least(20.0, 29.0) };
    "coalescing-10000", "to 10,000", Kind::Coalescing { subscribers: 10_000, bounds: Bounds::at_least(20.0, 29.0) };
    "others-1-nchan", "CPU per delivery against nchan, one in flight", other(1, "nchan", Bounds::at_most(0.9, 0.8));
    "others-16-nchan", "CPU per delivery against nchan, sixteen in flight", other(16, "nchan", Bounds::at_most(0.2, 0.1));
    "others-1-nats", "CPU per delivery against nats-server, one in flight", other(1, "nats", Bounds::at_most(0.6, 0.4));
    "others-16-nats", "CPU per delivery against nats-server, sixteen in flight", other(16, "nats", Bounds::at_most(0.6, 0.3));
    "others-1-crossbar", "CPU per delivery against Crossbar, one in flight", other(1, "crossbar", Bounds::at_most(0.25, 0.15));
    "others-16-crossbar", "CPU per delivery against Crossbar, sixteen in flight", other(16, "crossbar", Bounds::at_most(0.05, 0.02));
    "others-1-tokio", "CPU per delivery against fastwebsockets on tokio, one in flight", other(1, "tokio", Bounds::NONE);
    "others-16-tokio", "CPU per delivery against fastwebsockets on tokio, sixteen in flight", other(16, "tokio", Bounds::NONE);
    "others-1-ws", "CPU per delivery against ws on Node.js, one in flight", other(1, "ws", Bounds::NONE);
    "others-16-ws", "CPU per delivery against ws on Node.js, sixteen in flight", other(16, "ws", Bounds::NONE);
    "others-1-redis", "CPU per delivery against Redis Pub/Sub over TCP, one in flight", other(1, "redis", Bounds::NONE);
    "others-16-redis", "CPU per delivery against Redis Pub/Sub over TCP, sixteen in flight", other(16, "redis", Bounds::NONE);
    "others-1-mosquitto", "CPU per delivery against mosquitto over WebSocket, one in flight", other(1, "mosquitto", Bounds::NONE);
    "others-16-mosquitto", "CPU per delivery against mosquitto over WebSocket, sixteen in flight", other(16, "mosquitto", Bounds::NONE);
    "calls", "calls per CPU second against Crossbar", Kind::Calls;
    "calls-across", "CPU per call across two shards against within one", Kind::CallsAcross;
    "wakes", "wakes per message between two busy shards", Kind::Wakes;
    "two-shards", "CPU per delivery with two shards against one", Kind::TwoShards;
    "stuck", "CPU per delivery with ten subscribers that never read", Kind::Stuck;
};

/// Bounds of rows whose figures are absolute.
pub mod bounds {
    use super::{Bounds, KIB, MS, US};

    /// Bytes of an idle connection.
    pub const CONNECTION: Bounds = Bounds::at_most(700.0, 450.0);
    /// Bytes of an idle session with one subscription.
    pub const SESSION: Bounds = Bounds::at_most(2.0 * KIB, KIB);
    /// CPU of 10,000 idle connections in two seconds.
    pub const IDLE: Bounds = Bounds::at_most(10.0 * MS, MS);
    /// CPU of a ping and its pong.
    pub const PING: Bounds = Bounds::at_most(15.0 * US, 8.0 * US);
}

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn a_name_means_one_row_or_a_group() {
        let meant = |name: &str| ROWS.iter().filter(|row| row.is_meant_by(name)).count();
        assert_eq!((meant("fanout"), meant("fanout-16"), meant("fanout-1"), meant("idle")), (12, 6, 6, 1));
        assert_eq!(meant("fan"), 0);
        for row in ROWS {
            assert_eq!(ROWS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        }
    }
}
