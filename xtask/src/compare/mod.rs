//! `cargo xtask compare`: Fanwire beside other servers, and what it is held to.
//!
//! ```text
//! rows ─▶ sides (server + load) ─▶ A B A B … ─▶ ratios of each round ─▶ lines ─▶ target/compare.json ─▶ docs/performance.md
//! ```
//!
//! Servers are pinned to CPU 0, the load generator to CPU 1. Every run has a server that was just started. The two runs of a
//! pair follow each other at once, and the ratio is taken of each pair: what slows a shared machine for a while slows both.
//! Rows can be measured one at a time (`--only`); what they give takes the place of what they gave before.

mod bench;
mod beside;
mod calls;
mod fanin;
mod fanout;
mod idle;
mod instructions;
mod line;
mod results;
mod rows;
mod shards;
mod side;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::run::Workplace;
use crate::tables::replace;
use bench::{Bench, Effort};
use line::Verdict;
use results::Results;
use rows::{ROWS, Row};

/// Options of the task.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds; each runs every side of a row once, and the median of their ratios counts.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only these rows, by name or the beginning of it up to a dash (comma-separated or repeated). What other rows gave
    /// before stays.
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    only: Vec<String>,
    /// Only beside these rivals (comma-separated or repeated); `none` for none of them.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    rivals: Vec<String>,
    /// The router's driver, everywhere. Without it, rows where it may matter take both.
    #[arg(long)]
    driver: Option<String>,
    /// Prints the rows and ends.
    #[arg(long)]
    list: bool,
    /// One short round with few connections: shows that everything works, measures nothing, and leaves the documents alone.
    #[arg(long)]
    quick: bool,
    /// Measures what the last release build made.
    #[arg(long)]
    no_build: bool,
    /// Where the results are kept [default: compare.json in the target folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures nothing: writes the table of what was measured so far.
    #[arg(long)]
    table: bool,
    /// Leaves docs/performance.md as it is.
    #[arg(long)]
    dry_run: bool,
}

/// Measures the rows and writes the table.
pub fn compare(workplace: &Workplace, options: &Options) -> Result<()> {
    if options.list {
        for row in ROWS {
            println!("{:22} {}", row.name, row.about);
        }
        return Ok(());
    }
    let rows = if options.table { Vec::new() } else { chosen(&options.only)? };
    ensure!(options.pairs > 0 && options.seconds >= 0.2, "at least one pair of 0.2 s is needed");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    ensure!(
        cpus >= 2,
        "two CPUs are needed: one for the server, one for the load; this process may use {cpus}"
    );
    if !(options.no_build || options.table) {
        build(workplace)?;
    }
    let name = if options.quick { "compare-quick.json" } else { "compare.json" };
    let path = options.json.clone().unwrap_or_else(|| workplace.target.join(name));
    let mut results = Results::read(&path)?;
    let mut bench = Bench::new(workplace, effort(options), options.driver.clone(), options.rivals.clone());
    let mut broken = Vec::new();
    for row in &rows {
        eprintln!("{}: {}", row.name, row.about);
        match bench.measure(row) {
            Ok((lines, runs)) => results.take(row.name, lines, runs),
            Err(error) => {
                eprintln!("BROKE: {}: {error:#}", row.name);
                broken.push(format!("{}: {error:#}", row.name));
            }
        }
        results.versions.extend(bench.versions());
        results.arrange(&ROWS.iter().map(|row| row.name).collect::<Vec<_>>());
        results.write(&path)?;
    }
    let markdown = table::markdown(&results);
    println!("{markdown}");
    println!("results: {}", path.display());
    if !(options.dry_run || options.quick) {
        let path = workplace.root.join("docs/performance.md");
        let page = fs::read_to_string(&path).context("cannot read docs/performance.md")?;
        fs::write(&path, replace(&page, "compare", &markdown)?)
            .context("cannot write docs/performance.md")?;
        println!("written: docs/performance.md");
    }
    for words in bench.missing() {
        println!("missing: {words}");
    }
    summarise(&results, &rows);
    ensure!(broken.is_empty(), "not everything could be measured:\n{}", broken.join("\n"));
    Ok(())
}

fn effort(options: &Options) -> Effort {
    match options.quick {
        true => Effort { pairs: 1, seconds: 0.5, count_max: 200 },
        false => Effort { pairs: options.pairs, seconds: options.seconds, count_max: usize::MAX },
    }
}

/// The rows that `--only` names, in the order of the table.
fn chosen(only: &[String]) -> Result<Vec<&'static Row>> {
    if let Some(name) = only.iter().find(|name| !ROWS.iter().any(|row| row.is_meant_by(name))) {
        bail!("no row `{name}`; `cargo xtask compare --list` has them all");
    }
    let wanted = |row: &&Row| only.is_empty() || only.iter().any(|name| row.is_meant_by(name));
    Ok(ROWS.iter().filter(wanted).collect())
}

fn build(workplace: &Workplace) -> Result<()> {
    let built = workplace
        .cargo(["build", "--release", "--locked", "--package", "fanwire", "--package", "fanwire-loadgen"])
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the build failed");
    Ok(())
}

/// How many lines of these rows are as they must be.
fn summarise(results: &Results, rows: &[&Row]) {
    let lines = || results.lines.iter().filter(|line| rows.iter().any(|row| row.name == line.row));
    let count = |verdict| lines().filter(|line| line.verdict() == verdict).count();
    println!(
        "{} at the aim, {} as they must be, {} missed, {} not exact",
        count(Verdict::Aim),
        count(Verdict::Must),
        count(Verdict::Missed),
        count(Verdict::NotExact)
    );
}
