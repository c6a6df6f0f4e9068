//! `cargo xtask figures`: measures the router on this machine and writes the tables of `docs/performance.md`.
//!
//! The router is pinned to CPU 0 and the load generator to CPU 1. Each cell is run several times and the median is
//! taken; all are ratios or costs per message, because absolute rates of a shared machine say little.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::measure::load::{Load, Report};
use crate::measure::metrics::Metrics;
use crate::measure::router::{Router, RouterSetup};
use crate::measure::{machine, statistics};
use crate::run::Workplace;
use crate::tables::replace;

/// Options of the task.
#[derive(clap::Args)]
pub struct Options {
    /// Runs per cell; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Driver of the router.
    #[arg(long, default_value = "auto")]
    driver: String,
    /// Prints the tables and leaves docs/performance.md as it is.
    #[arg(long)]
    dry_run: bool,
}

/// One line of a table.
struct Cell {
    name: &'static str,
    arguments: &'static [&'static str],
}

const MESSAGES: &[Cell] = &[
    Cell { name: "fan-out to 100, window 1", arguments: &["fanout", "--subscribers", "100"] },
    Cell {
        name: "fan-out to 100, window 16",
        arguments: &["fanout", "--subscribers", "100", "--window", "16"],
    },
    Cell { name: "fan-out to 1,000, window 1", arguments: &["fanout", "--subscribers", "1000"] },
    Cell {
        name: "fan-out to 1,000, window 16",
        arguments: &["fanout", "--subscribers", "1000", "--window", "16"],
    },
    Cell { name: "fan-out to 10,000, window 1", arguments: &["fanout", "--subscribers", "10000"] },
    Cell {
        name: "fan-out to 10,000, window 16",
        arguments: &["fanout", "--subscribers", "10000", "--window", "16"],
    },
    Cell {
        name: "fan-out to 1,000, MessagePack, window 1",
        arguments: &["fanout", "--subscribers", "1000", "--serializer", "msgpack"],
    },
    Cell { name: "calls, 1 caller", arguments: &["rpc", "--callers", "1"] },
    Cell { name: "calls, 100 callers", arguments: &["rpc", "--callers", "100", "--callees", "4"] },
    Cell { name: "calls, 1,000 callers", arguments: &["rpc", "--callers", "1000", "--callees", "4"] },
];

const IDLE: &[Cell] = &[
    Cell {
        name: "connection (WebSocket, no session)",
        arguments: &["idle", "--connections", "9000", "--hold", "connection"],
    },
    Cell { name: "session", arguments: &["idle", "--connections", "9000", "--hold", "session"] },
    Cell {
        name: "session with one subscription",
        arguments: &["idle", "--connections", "9000", "--hold", "subscription"],
    },
];

/// What one run of a cell gave.
struct Figures {
    cpu_ns: f64,
    user_ns: f64,
    per_send: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Runs all cells and writes the tables.
pub fn figures(workplace: &Workplace, options: &Options) -> Result<()> {
    let built = workplace
        .cargo(["build", "--release", "--package", "fanwire", "--package", "fanwire-loadgen"])
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the build failed");
    let mut messages = String::from(
        "| case | CPU per message | of it user | messages per send | messages/s | p50 | p99 |\n|---|---|---|---|---|---|---|\n",
    );
    for cell in MESSAGES {
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            runs.push(measure(workplace, options, cell)?);
        }
        let median =
            |pick: fn(&Figures) -> f64| statistics::median(&runs.iter().map(pick).collect::<Vec<_>>());
        let line = format!(
            "| {} | {:.2} µs | {:.0} ns | {:.1} | {:.0}k | {:.2} ms | {:.2} ms |\n",
            cell.name,
            median(|run| run.cpu_ns) / 1e3,
            median(|run| run.user_ns),
            median(|run| run.per_send),
            median(|run| run.per_second) / 1e3,
            median(|run| run.p50_us) / 1e3,
            median(|run| run.p99_us) / 1e3,
        );
        eprint!("{line}");
        messages.push_str(&line);
    }
    let mut idle = String::from("| one idle … | bytes (RSS) | router CPU meanwhile |\n|---|---|---|\n");
    for cell in IDLE {
        let (report, _) = run(workplace, options, cell)?;
        let bytes = report.number("/server/rss_per_connection_bytes")?;
        let cpu = report.number("/server/cost/cpu_ns_per_second")? / 1e9 * 100.0;
        let line = format!("| {} | {bytes:.0} | {cpu:.1} % |\n", cell.name);
        eprint!("{line}");
        idle.push_str(&line);
    }
    let machine = machine(options);
    if options.dry_run {
        println!("{machine}\n\n{messages}\n{idle}");
        return Ok(());
    }
    let path = workplace.root.join("docs/performance.md");
    let page = fs::read_to_string(&path).context("cannot read docs/performance.md")?;
    let page = replace(&page, "machine", &machine)?;
    let page = replace(&page, "messages", &messages)?;
    let page = replace(&page, "idle", &idle)?;
    fs::write(&path, page).context("cannot write docs/performance.md")?;
    println!("written: docs/performance.md");
    Ok(())
}

fn measure(workplace: &Workplace, options: &Options, cell: &Cell) -> Result<Figures> {
    let (report, metrics) = run(workplace, options, cell)?;
    let messages = metrics.sum("fanwire_events_delivered_total") + metrics.sum("fanwire_replies_total");
    if let Some(fault) = report.fault() {
        bail!("{}: {fault}", cell.name);
    }
    Ok(Figures {
        cpu_ns: report.number("/server/cost/cpu_ns_per_delivery")?,
        user_ns: report.number("/server/cost/user_ns_per_delivery")?,
        per_send: messages / metrics.sum("fanwire_sends_total").max(1.0),
        per_second: report.number("/deliveries/per_second")?,
        p50_us: report.number("/latency/p50_ns")? / 1e3,
        p99_us: report.number("/latency/p99_ns")? / 1e3,
    })
}

/// A router of one shard, one load, and what both tell.
fn run(workplace: &Workplace, options: &Options, cell: &Cell) -> Result<(Report, Metrics)> {
    let router = Router::start(workplace, &RouterSetup::new(&options.driver))?;
    let mut arguments: Vec<String> = cell.arguments.iter().map(|word| (*word).to_owned()).collect();
    let seconds = format!("{}s", options.seconds);
    arguments.extend(["--url", &router.url, "--duration", &seconds].map(str::to_owned));
    let report = Load::start(workplace, &arguments, router.pid())?.report()?;
    let metrics = router.metrics()?;
    Ok((report, metrics))
}

fn machine(options: &Options) -> String {
    format!(
        "{}; router: 1 shard on CPU 0, driver {}; load: 1 thread on CPU 1; 64-byte payloads, JSON unless said; {} runs of {} s \
         per line, medians.",
        machine::describe(),
        options.driver,
        options.runs,
        options.seconds
    )
}
