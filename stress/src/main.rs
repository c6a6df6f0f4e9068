//! `fanwire-stress`: plays the scenarios, each on a router of its own and on both drivers.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fanwire_loadgen::units::{parse_count, parse_duration};
use fanwire_stress::runner::{Settings, play};
use fanwire_stress::scenario::Scenario;
use fanwire_stress::scenarios;

/// Mistreats routers of its own; healthy clients beside each mischief must notice nothing
#[derive(Debug, Parser)]
#[command(name = "fanwire-stress", version, after_help = AFTER_HELP)]
struct Cli {
    /// Only scenarios whose names begin so (comma-separated or repeated)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// One driver only
    #[arg(long, value_name = "NAME")]
    driver: Option<Driver>,
    /// Play each scenario on both drivers at once: half the time, more of the machine
    #[arg(long)]
    together: bool,
    /// Repeats the chances of a run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Rounds; each has the next seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u64,
    /// Clients that make a crowd; with 10k one run takes some minutes
    #[arg(long, value_name = "N", default_value = "10k", value_parser = parse_count)]
    crowd: usize,
    /// How late an event of the healthy clients may be
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    slack: Duration,
    /// For one scenario on one driver
    #[arg(long, value_name = "TIME", default_value = "3min", value_parser = parse_duration)]
    limit: Duration,
    /// Prints the scenarios and the promise that each proves
    #[arg(long)]
    list: bool,
}

const AFTER_HELP: &str = "\
The router is the one that FANWIRE_BIN names, else `fanwire` beside this program; FANWIRE_TEST_SHARDS is how many shards
it has (2). Exit status: 0 all went well, 1 something failed, 2 the command line is wrong.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Driver {
    #[value(name = "io_uring")]
    IoUring,
    Epoll,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let all = scenarios::all();
    if cli.list {
        for Scenario { name, promise, .. } in &all {
            println!("{name:24} {promise}");
        }
        return ExitCode::SUCCESS;
    }
    let chosen = match choose(all, &cli.only) {
        Ok(chosen) => chosen,
        Err(words) => {
            eprintln!("error: {words}");
            return ExitCode::from(2);
        }
    };
    let settings = Settings {
        drivers: cli.driver.map_or_else(|| vec!["io_uring", "epoll"], |driver| vec![driver.name()]),
        together: cli.together,
        seed: cli.seed,
        repeat: cli.repeat,
        crowd: cli.crowd,
        slack: cli.slack,
        limit: cli.limit,
    };
    let score = play(chosen, &settings);
    println!("{} passed, {} failed", score.passed, score.failed);
    if score.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Those whose names begin with one of `only`; all if there is none.
fn choose(all: Vec<Scenario>, only: &[String]) -> Result<Vec<Scenario>, String> {
    for wanted in only {
        if !all.iter().any(|scenario| scenario.name.starts_with(wanted.as_str())) {
            let names: Vec<_> = all.iter().map(|scenario| scenario.name.as_str()).collect();
            return Err(format!("no scenario `{wanted}`; the scenarios are {}", names.join(", ")));
        }
    }
    let is_wanted =
        |name: &str| only.is_empty() || only.iter().any(|wanted| name.starts_with(wanted.as_str()));
    Ok(all.into_iter().filter(|scenario| is_wanted(&scenario.name)).collect())
}
