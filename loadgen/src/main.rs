//! `fanwire-loadgen`: command line in, report and exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use fanwire_loadgen::args::{Args, Command};
use fanwire_loadgen::failure::Failure;
use fanwire_loadgen::outputs::Outputs;
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
    // Before the run: an hour's measurement is not lost to a wrong path.
    let outputs = match Outputs::open(args.common()) {
        Ok(outputs) => outputs,
        Err(failure) => return fail(&failure),
    };
    let report = match run::run(&args) {
        Ok(report) => report,
        Err(failure) => return fail(&failure),
    };
    if !outputs.has_stdout() {
        // A reader that went away (a closed pipe) is no failure of the run.
        let _ = write!(std::io::stdout(), "{}", table::table(&report));
    }
    if let Err(failure) = outputs.write(&report) {
        return fail(&failure);
    }
    ExitCode::from(report.exit_code)
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("fanwire-loadgen: {failure}");
    ExitCode::from(failure.exit.code())
}
