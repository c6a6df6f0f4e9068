//! `cargo xtask figures`: measures the router on this machine and writes the tables of `docs/performance.md`.
//!
//! The router is pinned to CPU 0 and the load generator to CPU 1. Each cell is run several times and the median is
//! taken; all are ratios or costs per message, because absolute rates of a shared machine say little.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

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
        let median = |pick: fn(&Figures) -> f64| median(runs.iter().map(pick).collect());
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
        let mut server = Server::start(workplace, options)?;
        let report = server.load(workplace, options, cell)?;
        let bytes = number(&report, "/server/rss_per_connection_bytes")?;
        let cpu = number(&report, "/server/cost/cpu_ns_per_second")? / 1e9 * 100.0;
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
    let mut server = Server::start(workplace, options)?;
    let report = server.load(workplace, options, cell)?;
    let metrics = server.metrics()?;
    let messages = sum(&metrics, "fanwire_events_delivered_total") + sum(&metrics, "fanwire_replies_total");
    let lost = number(&report, "/deliveries/lost")? + number(&report, "/deliveries/out_of_order")?;
    ensure!(lost == 0.0, "{}: messages were lost or reordered", cell.name);
    Ok(Figures {
        cpu_ns: number(&report, "/server/cost/cpu_ns_per_delivery")?,
        user_ns: number(&report, "/server/cost/user_ns_per_delivery")?,
        per_send: messages / sum(&metrics, "fanwire_sends_total").max(1.0),
        per_second: number(&report, "/deliveries/per_second")?,
        p50_us: number(&report, "/latency/p50_ns")? / 1e3,
        p99_us: number(&report, "/latency/p99_ns")? / 1e3,
    })
}

/// A router of one shard on CPU 0; killed when dropped.
struct Server {
    child: Child,
    url: String,
    admin: String,
}

impl Server {
    fn start(workplace: &Workplace, options: &Options) -> Result<Self> {
        let mut child = Command::new("taskset")
            .args(["--cpu-list", "0"])
            .arg(workplace.released("fanwire"))
            .args(["--port", "0", "--admin", "127.0.0.1:0", "--shards", "1", "--driver", &options.driver])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the router (is `taskset` of util-linux there?)")?;
        let (mut url, mut admin) = (None, None);
        let mut lines = BufReader::new(child.stdout.take().context("the banner is piped")?).lines();
        for line in lines.by_ref() {
            let line = line.context("cannot read the banner")?;
            for word in line.split_whitespace() {
                if word.starts_with("ws://") && url.is_none() {
                    url = Some(word.to_owned());
                }
                if let Some(address) = word.strip_prefix("http://") {
                    admin.get_or_insert(address.split('/').next().unwrap_or(address).to_owned());
                }
            }
            if url.is_some() && admin.is_some() {
                break;
            }
        }
        // The rest of the banner must have a reader.
        std::thread::spawn(move || lines.for_each(drop));
        match (url, admin) {
            (Some(url), Some(admin)) => Ok(Self { child, url, admin }),
            _ => {
                let _ = child.kill();
                bail!("the router's banner names no WebSocket or no admin address")
            }
        }
    }

    fn load(&mut self, workplace: &Workplace, options: &Options, cell: &Cell) -> Result<Value> {
        let output = Command::new("taskset")
            .args(["--cpu-list", "1"])
            .arg(workplace.released("fanwire-loadgen"))
            .args(cell.arguments)
            .args(["--threads", "1", "--json", "-", "--url", &self.url])
            .args(["--duration", &format!("{}s", options.seconds)])
            .args(["--server-pid", &self.child.id().to_string()])
            .stderr(Stdio::null())
            .output()
            .context("cannot run the load generator")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{}: the load generator ended with {}:\n{text}",
            cell.name,
            output.status
        );
        serde_json::from_str(&text).context("the load generator's report is no JSON")
    }

    fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.admin).context("the admin port does not answer")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a metric over its labels.
fn sum(page: &str, name: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn number(report: &Value, pointer: &str) -> Result<f64> {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("the report has no number at {pointer}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn machine(options: &Options) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .find(|line| line.starts_with("model name"))?
                .split_once(": ")
                .map(|(_, name)| name.to_owned())
        })
        .unwrap_or_else(|| "unknown CPU".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cpu}, kernel {}, loopback; router: 1 shard on CPU 0, driver {}; load: 1 thread on CPU 1; 64-byte payloads, JSON \
         unless said; {} runs of {} s per line, medians.",
        kernel.trim(),
        options.driver,
        options.runs,
        options.seconds
    )
}
