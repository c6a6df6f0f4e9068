//! `cargo xtask scale`: what a router does with more shards, as a table.
//!
//! ```text
//! CPUs   0 … S-1: the router, a shard on each │ S …: the load generator, a thread on each
//! ```
//!
//! Numbers of shards alternate, so that what slows a shared machine for a while slows all of them, and medians are taken.
//! With `--one-cpu` all shards are on CPU 0: on a small machine this tells what passing messages between shards costs in CPU,
//! and nothing about how fast they are together.
//!
//! Where the generator is busy all the time, the rate is its own; what the router could do is then in the CPU per message.

use std::thread;

use anyhow::{Context, Result, ensure};

use crate::measure::load::Load;
use crate::measure::metrics::Metrics;
use crate::measure::router::{Router, RouterSetup};
use crate::measure::statistics::median;
use crate::measure::{SERVER_CPU, machine};
use crate::run::Workplace;

/// Options of the task.
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of shards. Those for which there are too few CPUs are left out, aloud.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,14")]
    shards: Vec<u32>,
    /// The load: a scenario of fanwire-loadgen with its options.
    #[arg(long, default_value = "fanout --subscribers 10000 --window 16 --serializer msgpack")]
    load: String,
    /// All shards on CPU 0, the load on the other CPUs.
    #[arg(long)]
    one_cpu: bool,
    /// Runs of each number of shards.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The router's driver.
    #[arg(long, default_value = "auto", value_parser = ["auto", "io_uring", "epoll"])]
    driver: String,
}

/// What one run gave.
struct Figures {
    per_second: f64,
    cpu_ns: f64,
    cpus: f64,
    generator: f64,
    wakes_per_item: f64,
}

/// Where the router and the load are.
struct Places {
    router: String,
    load: String,
    load_threads: usize,
}

/// Measures and prints the table.
pub fn scale(workplace: &Workplace, options: &Options) -> Result<()> {
    ensure!(options.runs > 0 && options.seconds >= 0.2, "at least one run of 0.2 s is needed");
    let cpus = thread::available_parallelism().context("how many CPUs are there?")?.get();
    let mut fitting = Vec::new();
    for &shards in &options.shards {
        ensure!(shards > 0, "a router has one shard at least");
        match places(shards as usize, cpus, options.one_cpu) {
            Some(places) => fitting.push((shards, places)),
            None => eprintln!(
                "LEFT OUT: {shards} shards and a load beside them need {} CPUs, here are {cpus}",
                shards + 1
            ),
        }
    }
    ensure!(!fitting.is_empty(), "no number of shards fits on {cpus} CPUs; see --one-cpu");
    let built = workplace
        .cargo(["build", "--release", "--package", "fanwire", "--package", "fanwire-loadgen"])
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the build failed");
    let mut runs: Vec<Vec<Figures>> = fitting.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.runs {
        for ((shards, places), runs) in fitting.iter().zip(&mut runs) {
            runs.push(run(workplace, options, *shards, places)?);
            eprint!(".");
        }
    }
    eprintln!();
    println!("{}; {}; `{}`\n", machine::describe(), placing(options.one_cpu), options.load);
    let shards: Vec<u32> = fitting.iter().map(|(shards, _)| *shards).collect();
    print!("{}", table(&shards, &runs));
    Ok(())
}

/// `None` if there is no CPU left for the load.
fn places(shards: usize, cpus: usize, one_cpu: bool) -> Option<Places> {
    let used = if one_cpu { 1 } else { shards };
    (used < cpus).then(|| Places {
        router: if used == 1 { SERVER_CPU.to_owned() } else { format!("0-{}", used - 1) },
        load: format!("{used}-{}", cpus - 1),
        load_threads: cpus - used,
    })
}

fn placing(one_cpu: bool) -> &'static str {
    if one_cpu {
        "all shards on one CPU, the load on the others"
    } else {
        "a CPU for each shard, the load on the others"
    }
}

fn run(workplace: &Workplace, options: &Options, shards: u32, places: &Places) -> Result<Figures> {
    let setup = RouterSetup { cpus: places.router.clone(), shards, ..RouterSetup::new(&options.driver) };
    let router = Router::start(workplace, &setup)?;
    let mut arguments: Vec<String> = options.load.split_whitespace().map(str::to_owned).collect();
    let own = ["--url", &router.url, "--duration", &format!("{}ms", (options.seconds * 1e3) as u64)];
    arguments.extend(own.map(str::to_owned));
    let load = Load::start_on(workplace, &places.load, places.load_threads, &arguments, router.pid())?;
    let report = load.report()?;
    if let Some(fault) = report.fault() {
        anyhow::bail!("with {shards} shards: {fault}");
    }
    Ok(Figures {
        per_second: report.number("/deliveries/per_second")?,
        cpu_ns: report.number("/server/cost/cpu_ns_per_delivery")?,
        cpus: report.number("/server/cost/cpus")?,
        generator: report.number("/generator/busy_max")?,
        wakes_per_item: wakes_per_item(&router.metrics()?),
    })
}

/// Of the whole run, connecting and all.
fn wakes_per_item(metrics: &Metrics) -> f64 {
    // Each item is counted where it leaves and where it arrives.
    let items = metrics.sum("fanwire_ring_items_total") / 2.0;
    if items > 0.0 { metrics.sum("fanwire_wakes_total") / items } else { 0.0 }
}

/// The first number of shards is what the others are compared with.
fn table(shards: &[u32], runs: &[Vec<Figures>]) -> String {
    let mut table = String::from(
        "| shards | messages/s | of linear | CPU per message | to the first | router's CPUs in use | load busy | wakes per message passed on |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let of = |runs: &[Figures], pick: fn(&Figures) -> f64| median(&runs.iter().map(pick).collect::<Vec<_>>());
    for (count, rows) in shards.iter().zip(runs) {
        let ratio = |pick: fn(&Figures) -> f64| {
            let ratios: Vec<f64> =
                rows.iter().zip(&runs[0]).map(|(run, first)| pick(run) / pick(first)).collect();
            median(&ratios)
        };
        let linear = ratio(|run| run.per_second) * f64::from(shards[0]) / f64::from(*count);
        table.push_str(&format!(
            "| {count} | {:.0}k | {linear:.2} | {:.3} µs | {:.2} | {:.1} | {:.0} % | {:.4} |\n",
            of(rows, |run| run.per_second) / 1e3,
            of(rows, |run| run.cpu_ns) / 1e3,
            ratio(|run| run.cpu_ns),
            of(rows, |run| run.cpus),
            of(rows, |run| run.generator) * 100.0,
            of(rows, |run| run.wakes_per_item),
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(per_second: f64, cpu_ns: f64) -> Figures {
        Figures { per_second, cpu_ns, cpus: 1.0, generator: 0.5, wakes_per_item: 0.01 }
    }

    #[test]
    fn shards_and_load_share_no_cpu() {
        let place = |shards, cpus, one| {
            places(shards, cpus, one).map(|places| (places.router, places.load, places.load_threads))
        };
        assert_eq!(place(14, 16, false), Some(("0-13".into(), "14-15".into(), 2)));
        assert_eq!(place(1, 2, false), Some(("0".into(), "1-1".into(), 1)));
        assert_eq!(place(2, 2, true), Some(("0".into(), "1-1".into(), 1)));
        assert_eq!(place(2, 2, false), None);
    }

    #[test]
    fn ratios_are_taken_run_by_run() {
        // The machine was half as fast in the second run.
        let one = vec![figures(1e6, 1000.0), figures(5e5, 2000.0), figures(1e6, 1000.0)];
        let four = vec![figures(36e5, 1100.0), figures(18e5, 2200.0), figures(36e5, 1100.0)];
        let table = table(&[1, 4], &[one, four]);
        assert!(table.contains("| 4 | 3600k | 0.90 | 1.100 µs | 1.10 |"), "{table}");
    }
}
