//! `fanwire-loadgen`: command line in, report and exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use fanwire_loadgen::args::{Args, Command, ScenarioArgs};
use fanwire_loadgen::failure::Failure;
use fanwire_loadgen::outputs::Outputs;
use fanwire_loadgen::sweep::{self, SweepSpec};
use fanwire_loadgen::{compare, run, table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // clap ends with 2 by itself when the command line cannot be read.
    let args = match Args::parse().command {
        Command::Scenario(args) => args,
        Command::Compare(files) => {
            return match compare::run(&files.a, &files.b) {
                Ok(words) => {
                    let _ = write!(std::io::stdout(), "{words}");
                    ExitCode::SUCCESS
                }
                Err(failure) => fail(&failure),
            };
        }
    };
    let result = match &args.common().sweep {
        None => run_once(&args),
        Some(spec) => run_sweep(spec, &args),
    };
    match result {
        Ok(exit_code) => ExitCode::from(exit_code),
        Err(failure) => fail(&failure),
    }
}

fn run_once(args: &ScenarioArgs) -> Result<u8, Failure> {
    // Before the run: an hour's measurement is not lost to a wrong path.
    let outputs = Outputs::of_run(args.common())?;
    let report = run::run(args)?;
    if !outputs.has_stdout() {
        // A reader that went away (a closed pipe) is no failure of the run.
        let _ = write!(std::io::stdout(), "{}", table::table(&report));
    }
    outputs.write(&report)?;
    Ok(report.exit_code)
}

fn run_sweep(spec: &SweepSpec, args: &ScenarioArgs) -> Result<u8, Failure> {
    let outputs = Outputs::of_sweep(args.common())?;
    let arguments: Vec<String> = std::env::args().collect();
    let report = sweep::run(spec, &arguments)?;
    if !outputs.has_stdout() {
        let _ = write!(std::io::stdout(), "{}", sweep::outputs::table(&report));
    }
    outputs.write(&report)?;
    Ok(report.exit_code)
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("fanwire-loadgen: {failure}");
    ExitCode::from(failure.exit.code())
}
