//! `cargo xtask instructions`: counts what the hot functions execute, by valgrind, and keeps the counts as a table in
//! `docs/performance.md`.
//!
//! Times of a shared machine say little; counts are the same on a busy one. Each case of `bench/benches/instructions.rs`
//! runs N times and 2 N times, and the difference is divided by N: what the process does before and after cancels.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::{Workplace, exists};
use crate::tables::replace;

/// Options of the task.
#[derive(clap::Args)]
pub struct Options {
    /// Compares with the table of docs/performance.md and fails where more is executed than it says.
    #[arg(long)]
    check: bool,
    /// Percent that a count may rise above the table.
    #[arg(long, default_value_t = 5.0)]
    tolerance: f64,
    /// Only cases with this in their name; the table stays as it is.
    #[arg(long)]
    only: Option<String>,
}

/// Name of the table, and of its markers.
const TABLE: &str = "instructions";

/// Instructions of one case, per thing that it does.
struct Count {
    name: String,
    instructions: f64,
}

/// Counts, then writes the table or compares with it.
pub fn instructions(workplace: &Workplace, options: &Options) -> Result<()> {
    ensure!(
        exists("valgrind"),
        "no valgrind here, and without it nothing can be counted (Debian: apt install valgrind)"
    );
    let program = build(workplace)?;
    let page_path = workplace.root.join("docs/performance.md");
    let page = fs::read_to_string(&page_path).context("cannot read docs/performance.md")?;
    let mut counts = Vec::new();
    for line in text_of(Command::new(&program))?.lines() {
        let (name, things) = line.split_once('\t').context("a case without its number of things")?;
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let instructions = count(&program, name)? / things.parse::<f64>()?;
        eprintln!("{instructions:>12.1}  {name}");
        counts.push(Count { name: name.to_owned(), instructions });
    }
    ensure!(!counts.is_empty(), "no case has that in its name");
    if options.check {
        return compare(&counts, &committed(&page)?, options.tolerance);
    }
    if options.only.is_none() {
        fs::write(&page_path, replace(&page, TABLE, &table(&counts))?)?;
    }
    Ok(())
}

/// The program with the cases, optimised as the router is.
fn build(workplace: &Workplace) -> Result<PathBuf> {
    let mut command = workplace.cargo(["bench", "--package", "fanwire-bench", "--bench", "instructions"]);
    command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let messages = text_of(command)?;
    let is_ours = |message: &Value| message["target"]["name"] == "instructions";
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(is_ours)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo built no program `instructions`")
}

/// Instructions of one iteration.
fn count(program: &PathBuf, name: &str) -> Result<f64> {
    // A count's share of chance (addresses, when a table grows) should be small in what is executed.
    const INSTRUCTIONS_MIN: f64 = 2_000_000.0;
    const ITERATIONS_MAX: u64 = 2_000;
    let probe = (executed(program, name, 20)? - executed(program, name, 10)?) / 10.0;
    let iterations = ((INSTRUCTIONS_MIN / probe.max(1.0)) as u64).clamp(10, ITERATIONS_MAX);
    let difference = executed(program, name, 2 * iterations)? - executed(program, name, iterations)?;
    Ok(difference / iterations as f64)
}

/// Instructions of a whole run.
fn executed(program: &PathBuf, name: &str, iterations: u64) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = command.args([name, &iterations.to_string()]).stdin(Stdio::null()).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{name}` under valgrind ended with {}:\n{words}", output.status);
    let collected = words.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.with_context(|| format!("valgrind did not say what it counted:\n{words}"))?;
    Ok(number.trim().parse()?)
}

fn text_of(mut command: Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn table(counts: &[Count]) -> String {
    let mut table = String::from("| what | instructions |\n|---|---|\n");
    for Count { name, instructions } in counts {
        table.push_str(&format!("| {name} | {} |\n", rounded(*instructions)));
    }
    table
}

/// Small counts keep a digit behind the point.
fn rounded(instructions: f64) -> String {
    if instructions < 100.0 { format!("{instructions:.1}") } else { format!("{instructions:.0}") }
}

/// The table of the page.
fn committed(page: &str) -> Result<Vec<Count>> {
    let (begin, end) = (format!("<!-- {TABLE} -->\n"), format!("<!-- /{TABLE} -->"));
    let table = page.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let (table, _) = table.with_context(|| format!("docs/performance.md has no {begin}"))?;
    let counts: Vec<Count> = table.lines().skip(2).filter_map(row).collect();
    ensure!(!counts.is_empty(), "the table of instructions in docs/performance.md is empty");
    Ok(counts)
}

fn row(line: &str) -> Option<Count> {
    let (name, instructions) = line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | ")?;
    Some(Count { name: name.to_owned(), instructions: instructions.parse().ok()? })
}

/// Says what rose, what fell and what the table does not have; an error if anything rose.
fn compare(counts: &[Count], committed: &[Count], tolerance: f64) -> Result<()> {
    let (mut rose, mut others) = (Vec::new(), Vec::new());
    for Count { name, instructions } in counts {
        let Some(before) = committed.iter().find(|count| count.name == *name) else {
            others.push(format!("new:  {name}"));
            continue;
        };
        let percent = 100.0 * (instructions / before.instructions - 1.0);
        let words = format!(
            "{name}: {} instead of {} ({percent:+.1} %)",
            rounded(*instructions),
            rounded(before.instructions)
        );
        if percent > tolerance {
            rose.push(words);
        } else if percent < -tolerance {
            others.push(format!("fell: {words}"));
        }
    }
    if !others.is_empty() {
        println!("The table is to be written again (`cargo xtask instructions`):\n{}", others.join("\n"));
    }
    if !rose.is_empty() {
        bail!("more is executed than docs/performance.md says:\n{}", rose.join("\n"));
    }
    println!("{} counts, none above the table by more than {tolerance} %", counts.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, instructions: f64) -> Count {
        Count { name: name.to_owned(), instructions }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let counts = [count("receive, 64 B", 71.28), count("a call", 12_345.6)];
        let page = format!("words\n<!-- instructions -->\n{}<!-- /instructions -->\nwords", table(&counts));
        let read = committed(&page).expect("it is there");
        let read: Vec<_> = read.iter().map(|count| (count.name.as_str(), count.instructions)).collect();
        assert_eq!(read, [("receive, 64 B", 71.3), ("a call", 12_346.0)]);
    }

    #[test]
    fn only_what_rose_beyond_the_tolerance_is_an_error() {
        let table = [count("a", 100.0), count("b", 100.0)];
        assert!(compare(&[count("a", 104.9), count("b", 50.0), count("new", 1e9)], &table, 5.0).is_ok());
        let error = compare(&[count("a", 99.0), count("b", 105.2)], &table, 5.0).unwrap_err().to_string();
        assert!(error.contains("b: 105 instead of 100 (+5.2 %)") && !error.contains("a:"), "{error}");
    }
}
