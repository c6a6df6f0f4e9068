//! One side of a comparison: a server, a load, and what a run of both gave.

use anyhow::{Context, Result};

use crate::measure::load::Report;
use crate::measure::metrics::Metrics;
use crate::measure::router::RouterSetup;

/// Who serves.
#[derive(Clone, Debug)]
pub enum Server {
    /// Fanwire, so started.
    Fanwire(RouterSetup),
    /// A rival of this name.
    Rival(&'static str),
}

/// A server and what it is loaded with.
#[derive(Clone, Debug)]
pub struct Side {
    /// Who serves.
    pub server: Server,
    /// Words for the load generator, the scenario first.
    pub load: Vec<String>,
    /// Read the router's counters while it is loaded. It costs the server's CPU some tenths of a millisecond.
    pub is_watched: bool,
    /// Server and generator go before the machine's other processes.
    pub is_real_time: bool,
}

impl Side {
    /// Fanwire with this load.
    pub fn fanwire(setup: RouterSetup, load: &str) -> Self {
        Self { server: Server::Fanwire(setup), load: words(load), is_watched: false, is_real_time: false }
    }

    /// A rival with this load.
    pub fn rival(name: &'static str, load: &str) -> Self {
        Self { server: Server::Rival(name), load: words(load), is_watched: false, is_real_time: false }
    }

    /// The same, with the router's counters.
    pub fn watched(self) -> Self {
        Self { is_watched: true, ..self }
    }

    /// The same, for latencies: before the machine's other processes, where this user may say so.
    pub fn real_time(self) -> Self {
        Self { is_real_time: true, ..self }
    }

    /// For progress lines.
    pub fn name(&self) -> String {
        match &self.server {
            Server::Rival(name) => (*name).to_owned(),
            Server::Fanwire(setup) => {
                let shards =
                    if setup.shards == 1 { String::new() } else { format!(" {} shards", setup.shards) };
                format!(
                    "fanwire {}{shards}{}",
                    setup.driver,
                    setup.set.iter().map(|set| format!(" {set}")).collect::<String>()
                )
            }
        }
    }
}

fn words(load: &str) -> Vec<String> {
    load.split_whitespace().map(str::to_owned).collect()
}

/// What one run gave.
#[derive(Clone, Debug)]
pub struct Run {
    /// The load generator's report.
    pub report: Report,
    /// The driver that Fanwire took; empty for a rival.
    pub driver: String,
    /// The router's counters twice under load.
    pub watched: Option<[Metrics; 2]>,
    /// Server and generator went before the machine's other processes.
    pub is_real_time: bool,
}

/// A figure of a run.
pub type Figure = fn(&Run) -> Result<f64>;

/// Runs of one side, in the order of the rounds; none if the side cannot be had here.
#[derive(Clone, Debug, Default)]
pub struct Series(pub Vec<Run>);

impl Series {
    /// A figure of each run.
    pub fn figures(&self, figure: Figure) -> Result<Vec<f64>> {
        self.0.iter().map(figure).collect()
    }

    /// What was wrong, each once.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.0.iter().filter_map(|run| run.report.fault()).collect();
        faults.sort();
        faults.dedup();
        faults.truncate(3);
        faults
    }
}

/// Server CPU nanoseconds per delivery, or per call.
pub fn cpu(run: &Run) -> Result<f64> {
    run.report.number("/server/cost/cpu_ns_per_delivery")
}

/// Deliveries per second.
pub fn rate(run: &Run) -> Result<f64> {
    run.report.number("/deliveries/per_second")
}

/// Median latency of deliveries.
pub fn p50(run: &Run) -> Result<f64> {
    run.report.number("/latency/p50_ns")
}

/// 99th percentile of the latency of deliveries.
pub fn p99(run: &Run) -> Result<f64> {
    run.report.number("/latency/p99_ns")
}

/// Nanoseconds per second that the server's threads waited for a CPU which something else had.
pub fn waited(run: &Run) -> Result<f64> {
    run.report.number("/server/cost/wait_ns_per_second")
}

/// Bytes that came for each delivery, frames included.
pub fn bytes(run: &Run) -> Result<f64> {
    Ok(run.report.number("/deliveries/received_bytes_per_second")? / rate(run)?)
}

/// Resident bytes per connection.
pub fn memory(run: &Run) -> Result<f64> {
    run.report.number("/server/rss_per_connection_bytes")
}

/// How much one counter of the router grew by each of another, while it was loaded.
pub fn growth(run: &Run, counter: &str, by: &[&str]) -> Result<f64> {
    let [before, after] = run.watched.as_ref().context("the counters of this run were not read")?;
    let grown = |name: &str| after.sum(name) - before.sum(name);
    Ok(grown(counter) / by.iter().map(|name| grown(name)).sum::<f64>())
}
