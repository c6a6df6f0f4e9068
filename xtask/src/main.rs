//! Developer tasks. `cargo xtask test` is everything that CI runs; `.ci/run` calls it.
//!
//! ```text
//! cargo xtask test                    all stages, in order, with a summary
//! cargo xtask test --list             the stages and what each one proves
//! cargo xtask test --only clippy,unit
//! cargo xtask test --skip autobahn
//! cargo xtask test --full             the long matrices too
//! cargo xtask figures                 measures and writes the tables of docs/performance.md
//! cargo xtask compare                 measures it beside other servers; --list has the rows
//! cargo xtask unread                  what a subscriber that stops reading does to it and to other servers
//! cargo xtask conformance             runs the suites of clients against it and Crossbar; writes docs/conformance.md
//! cargo xtask scale                   measures it with 1, 2, 4 and more shards, where there are CPUs for them
//! cargo xtask rivals                  installs the servers that Fanwire is measured against; --start NAME runs one
//! cargo xtask instructions            counts what the hot functions execute, for the table there
//! cargo xtask instructions --check    compares with that table
//! ```
//!
//! Needs Rust, a C compiler, Python 3 and Node; what else it uses it installs, pinned, under `target/tools`. Where
//! something cannot be had, a stage is skipped aloud; with `CI=true` that is a failure.

#![allow(clippy::disallowed_methods, reason = "runs commands and waits for them; no shard is near")]

mod causes;
mod compare;
mod conformance;
mod deploy;
mod figures;
mod instructions;
mod measure;
mod rivals;
mod run;
mod scale;
mod stages;
mod tables;
mod tools;
mod unread;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use run::{Outcome, Workplace};
use stages::{STAGES, Stage};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of Fanwire")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs everything that CI runs.
    Test(TestOptions),
    /// Measures the router on this machine and writes the tables of docs/performance.md.
    Figures(figures::Options),
    /// Measures Fanwire beside other servers and writes the table of docs/performance.md.
    Compare(compare::Options),
    /// Shows what a subscriber that stops reading does to Fanwire and to other servers.
    Unread(unread::Options),
    /// Runs the suites of real clients against Fanwire and Crossbar, and writes docs/conformance.md.
    Conformance(conformance::Options),
    /// Measures the router with one shard and with more, and prints a table.
    Scale(scale::Options),
    /// Installs the servers that Fanwire is measured against, or starts one.
    Rivals(rivals::Options),
    /// Counts by valgrind what the hot functions execute; writes the table of docs/performance.md, or compares with it.
    Instructions(instructions::Options),
}

#[derive(clap::Args)]
struct TestOptions {
    /// The long matrices too: Autobahn 9, more seeds, one and two shards, long load runs.
    #[arg(long)]
    full: bool,
    /// Only these stages (comma-separated or repeated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Not these stages.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
    /// Prints the stages and ends.
    #[arg(long)]
    list: bool,
    /// Ends at the first stage that fails.
    #[arg(long)]
    fail_fast: bool,
}

fn main() -> ExitCode {
    let options = match Cli::parse().task {
        Task::Test(options) => options,
        Task::Figures(options) => return end(figures::figures(&Workplace::find(false), &options)),
        Task::Compare(options) => return end(compare::compare(&Workplace::find(false), &options)),
        Task::Unread(options) => return end(unread::unread(&Workplace::find(false), &options)),
        Task::Conformance(options) => {
            return end(conformance::conformance(&Workplace::find(false), &options));
        }
        Task::Scale(options) => return end(scale::scale(&Workplace::find(false), &options)),
        Task::Rivals(options) => return end(rivals::rivals(&Workplace::find(false), &options)),
        Task::Instructions(options) => {
            return end(instructions::instructions(&Workplace::find(false), &options));
        }
    };
    if options.list {
        for stage in STAGES {
            println!("{:10} {}", stage.name, stage.about);
        }
        return ExitCode::SUCCESS;
    }
    match chosen(&options) {
        Ok(stages) => test(&stages, &options),
        Err(words) => {
            eprintln!("error: {words}");
            ExitCode::from(2)
        }
    }
}

fn end(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The stages that the options name, in the order of [`STAGES`].
fn chosen(options: &TestOptions) -> Result<Vec<&'static Stage>, String> {
    for name in options.only.iter().chain(&options.skip) {
        if !STAGES.iter().any(|stage| stage.name == name) {
            let names: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
            return Err(format!("no stage `{name}`; the stages are {}", names.join(", ")));
        }
    }
    let named = |list: &[String], stage: &Stage| list.iter().any(|name| name == stage.name);
    let wanted = |stage: &&Stage| {
        (options.only.is_empty() || named(&options.only, stage)) && !named(&options.skip, stage)
    };
    Ok(STAGES.iter().filter(wanted).collect())
}

/// What became of one stage.
struct Report {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

fn test(stages: &[&'static Stage], options: &TestOptions) -> ExitCode {
    let place = Workplace::find(options.full);
    let started = Instant::now();
    let mut reports = Vec::new();
    for stage in stages {
        if place.deadline <= Instant::now() {
            let outcome = Outcome::failed("no time was left for it");
            reports.push(Report { name: stage.name, took: Duration::ZERO, outcome });
            continue;
        }
        println!("\n=== {}: {}", stage.name, stage.about);
        let begun = Instant::now();
        let outcome = match (stage.run)(&place) {
            Ok(outcome) => outcome,
            Err(error) => {
                println!("error: {error:#}");
                Outcome::failed(format!("{error:#}"))
            }
        };
        let outcome = outcome.strict_if(place.ci);
        let broke = outcome.is_failure();
        reports.push(Report { name: stage.name, took: begun.elapsed(), outcome });
        if broke && options.fail_fast {
            break;
        }
    }
    summarise(&reports, started.elapsed())
}

/// The table, then what failed and why, then the one line that a machine reads. A stage without counts of its own
/// counts as one test.
fn summarise(reports: &[Report], total: Duration) -> ExitCode {
    println!("\n=== summary");
    let (mut passed, mut failed) = (0, 0);
    for Report { name, took, outcome } in reports {
        let seconds = took.as_secs_f64();
        match outcome {
            Outcome::Ran { passed: p, failed: f, words } => {
                passed += p;
                failed += f;
                let verdict = if *f == 0 { "ok" } else { "FAILED" };
                println!("{verdict:8} {name:10} {seconds:7.1} s  {p} passed, {f} failed{}", dash(words));
            }
            Outcome::Skipped(why) => println!("skipped  {name:10} {seconds:7.1} s  {}", first_line(why)),
        }
    }
    println!("{:8} {:10} {:7.1} s", "", "total", total.as_secs_f64());
    for report in reports {
        if let Outcome::Ran { failed: 1.., words, .. } = &report.outcome {
            println!("\n=== what failed in {}\n{words}", report.name);
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn dash(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" - {}", first_line(words)) }
}

/// The rest follows under the table.
fn first_line(words: &str) -> &str {
    words.lines().next().unwrap_or_default()
}
