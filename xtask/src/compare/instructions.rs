//! User instructions per delivery, counted by callgrind: the same on a quiet and on a noisy machine.
//!
//! What starting, connecting and ending cost is the same in a short and in a long run, so the difference of both is divided
//! by the difference of their deliveries.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::side::{self, Run, Series};
use crate::measure::load::Load;
use crate::measure::router::{Router, RouterSetup};
use crate::run::exists;
use crate::tools::apt;

/// Measured seconds of the two runs. Under callgrind everything takes some fifty times as long.
const SECONDS: [f64; 2] = [1.0, 6.0];

/// One router under callgrind for each of two runs of different length; the instructions of all its threads.
pub fn instructions(bench: &mut Bench<'_>, window: usize, bounds: Bounds) -> Result<()> {
    if !exists("valgrind") && !apt(bench.workplace, &["valgrind"]) {
        bail!("valgrind is missing: install it to count instructions");
    }
    let subscribers = bench.count(1_000);
    let mut counts = Vec::new();
    for seconds in SECONDS {
        counts.push(count(bench, subscribers, window, seconds)?);
    }
    let [(_, short, few), (run, long, many)] = &counts[..] else { bail!("there are two runs") };
    let each = (long - short) / (many - few);
    eprintln!("  {each:.1} instructions: ({long} - {short}) / ({many} - {few} deliveries)");
    let what = What {
        what: format!(
            "user instructions per delivery, MessagePack to {}, {window} in flight",
            grouped(subscribers)
        ),
        figure: side::cpu,
        unit: Unit::Count,
        bounds,
    };
    bench.value_of(what, &Series(vec![run.clone()]), &[each])
}

/// A run, the instructions of the router's whole life, and its deliveries.
fn count(bench: &mut Bench<'_>, subscribers: usize, window: usize, seconds: f64) -> Result<(Run, f64, f64)> {
    let log = bench.workplace.target.join(format!("callgrind-{}.log", std::process::id()));
    // Valgrind does not know io_uring.
    let mut setup = RouterSetup::new("epoll");
    setup.under =
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"].map(str::to_owned).to_vec();
    setup.under.push(format!("--log-file={}", log.display()));
    let router = Router::start(bench.workplace, &setup)?;
    let load = format!(
        "fanout --subscribers {subscribers} --window {window} --serializer msgpack --connect-rate 2k --warmup 300ms \
         --drain-timeout 60s --duration {seconds}s --url {}",
        router.url
    );
    let load: Vec<String> = load.split_whitespace().map(str::to_owned).collect();
    let report = Load::start(bench.workplace, &load, router.pid())?.report()?;
    bench.note_run(&report);
    let metrics = router.metrics()?;
    let deliveries = metrics.sum("fanwire_events_delivered_total");
    let driver = metrics.label("fanwire_build_info", "driver").unwrap_or_default().to_owned();
    router.stop()?;
    let instructions = collected(&log)?;
    fs::remove_file(&log)?;
    eprintln!("  {seconds} s: {deliveries} deliveries, {instructions} instructions");
    Ok((Run { report, driver, watched: None, is_real_time: false }, instructions, deliveries))
}

/// What callgrind says at the end: `==42== Collected : 123456`.
fn collected(log: &Path) -> Result<f64> {
    let text = fs::read_to_string(log).context("valgrind wrote no log")?;
    total(&text).with_context(|| format!("valgrind tells no number of instructions:\n{text}"))
}

fn total(text: &str) -> Option<f64> {
    let line = text.lines().rev().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_read() {
        let text = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(super::total(text), Some(123_456.0));
        assert_eq!(super::total("==7== nothing"), None);
    }
}
