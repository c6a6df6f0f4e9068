//! Runs commands: echoes what they say, counts the tests in it, and ends them when they take too long.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::causes::Causes;

/// Where everything is, and how strict we are.
pub struct Workplace {
    /// The repository.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    /// Installed tools: `target/tools`.
    pub tools: PathBuf,
    /// A skipped stage is a failure.
    pub ci: bool,
    /// The long matrices too.
    pub full: bool,
    /// When nothing may go on any more: a run that somebody else ends tells nobody what failed.
    pub deadline: Instant,
}

impl Workplace {
    /// Cargo tells where this package is; the repository is its parent.
    pub fn find(full: bool) -> Self {
        let package =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
        // Started by hand in the repository, the parent of `xtask` is an empty path, which is no folder.
        let parent = package.parent().filter(|parent| !parent.as_os_str().is_empty());
        let root = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let time = if full { FULL_TIME } else { WHOLE_TIME };
        Self { tools: target.join("tools"), root, target, ci, full, deadline: Instant::now() + time }
    }

    /// A command that runs in the repository.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// `cargo` with these arguments.
    pub fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Cargo gave these to this package; a build script or test of another must not see them.
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
        command.args(arguments);
        command
    }

    /// A program that the release build made.
    pub fn released(&self, path: &str) -> PathBuf {
        self.target.join("release").join(path)
    }
}

/// For everything together. Below the 45 minutes that a pipeline commonly has.
const WHOLE_TIME: Duration = Duration::from_secs(43 * 60);
const FULL_TIME: Duration = Duration::from_secs(6 * 60 * 60);

/// What became of a stage.
pub enum Outcome {
    /// It ran; `words` say what failed.
    Ran {
        /// Tests that passed.
        passed: u64,
        /// Tests that failed.
        failed: u64,
        /// What failed, or nothing: a line for the table, and under it what was said about the cause.
        words: String,
    },
    /// It could not run here.
    Skipped(String),
}

impl Outcome {
    /// What there is before the first command ran.
    pub fn nothing() -> Self {
        Self::Ran { passed: 0, failed: 0, words: String::new() }
    }

    /// One failure, in words.
    pub fn failed(words: impl Into<String>) -> Self {
        Self::Ran { passed: 0, failed: 1, words: words.into() }
    }

    /// Whether anything failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Ran { failed, .. } if *failed > 0)
    }

    /// In CI nothing may be skipped.
    pub fn strict_if(self, ci: bool) -> Self {
        match self {
            Self::Skipped(why) if ci => Self::failed(format!("skipped, which CI does not allow: {why}")),
            Self::Skipped(why) => {
                println!("SKIPPED: {why}");
                Self::Skipped(why)
            }
            ran => ran,
        }
    }

    /// Both together; a skipped part makes the whole skipped only if nothing failed.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ran { passed: a, failed: b, words: c }, Self::Ran { passed: d, failed: e, words: f }) => {
                let words = [c, f].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join("\n");
                Self::Ran { passed: a + d, failed: b + e, words }
            }
            (skipped @ Self::Skipped(_), ran) | (ran, skipped @ Self::Skipped(_)) => {
                if ran.is_failure() {
                    ran
                } else {
                    skipped
                }
            }
        }
    }
}

/// Exit status of a script that cannot run on this machine.
const CANNOT_RUN: i32 = 77;

/// Runs a command whose output is shown and searched for counts of tests.
pub fn run(place: &Workplace, mut command: Command, limit: Duration) -> Result<Outcome> {
    let shown = show(&command);
    println!("$ {shown}");
    let limit = limit.min(place.deadline.saturating_duration_since(Instant::now()));
    let Heard { status, seen } = hear(place, &mut command, limit, true)?;
    let Seen { passed, failed, causes, .. } = &*seen.lock().expect("no reader panics while it counts");
    let (passed, failed) = (*passed, *failed);
    let words = |why: &str| format!("{why}`{shown}`\n{causes}");
    Ok(match status {
        None => Outcome::Ran {
            passed,
            failed: failed + 1,
            words: words(&format!("ended after {} s: ", limit.as_secs())),
        },
        Some(Some(0)) if failed == 0 => Outcome::Ran { passed: passed.max(1), failed, words: String::new() },
        Some(Some(CANNOT_RUN)) => {
            Outcome::Skipped(format!("`{shown}` cannot run on this machine (see above)"))
        }
        Some(_) => Outcome::Ran { passed, failed: failed.max(1), words: words("") },
    })
}

/// As [`run`], and once more if it failed: for what lives in real time, on machines that do other things too.
pub fn run_twice(
    place: &Workplace,
    mut make: impl FnMut() -> Result<Command>,
    limit: Duration,
) -> Result<Outcome> {
    let first = run(place, make()?, limit)?;
    if !first.is_failure() {
        return Ok(first);
    }
    println!("FLAKY? It failed; once more. If it passes now, that is a bug to be looked at.");
    run(place, make()?, limit)
}

/// Runs a command whose output nobody wants unless it fails. It is ended after `limit`.
pub fn run_quietly(place: &Workplace, mut command: Command, limit: Duration) -> Result<()> {
    let shown = show(&command);
    println!("$ {shown}");
    let Heard { status, seen } = hear(place, &mut command, limit, false)?;
    let why = match status {
        Some(Some(0)) => return Ok(()),
        Some(_) => "failed".to_owned(),
        None => format!("was ended after {} s", limit.as_secs()),
    };
    let seen = seen.lock().expect("no reader panics while it counts");
    anyhow::bail!("`{shown}` {why}:\n{}", seen.causes)
}

/// How a command ended, and what it said.
struct Heard {
    /// None: it was ended. None inside: by a signal.
    status: Option<Option<i32>>,
    seen: Arc<Mutex<Seen>>,
}

fn hear(place: &Workplace, command: &mut Command, limit: Duration, aloud: bool) -> Result<Heard> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if place.ci {
        // So that a time-out ends grandchildren too. Not on a terminal, where ^C must reach them.
        command.process_group(0);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", show(command)))?;
    let is_nextest = command.get_args().any(|word| word == "nextest");
    let seen = Arc::new(Mutex::new(Seen { is_nextest, ..Seen::default() }));
    let readers = [
        child.stdout.take().map(|pipe| read(pipe, Arc::clone(&seen), aloud)),
        child.stderr.take().map(|pipe| read(pipe, Arc::clone(&seen), aloud)),
    ];
    let status = wait(&mut child, limit, place.ci);
    // A grandchild that lives on may hold the pipe.
    let patience = Instant::now() + READER_TIME;
    for reader in readers.into_iter().flatten() {
        while !reader.is_finished() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(Heard { status, seen })
}

/// For the last lines, when the command has ended.
const READER_TIME: Duration = Duration::from_secs(10);

/// Whether a program can be started.
pub fn exists(program: &str) -> bool {
    succeeds(&[program, "--version"])
}

/// Whether a command succeeds; what it says is of no interest.
pub fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // Cargo hands over its own path, which tells a reader nothing.
    let words: Vec<_> =
        words.iter().map(|word| if word.ends_with("/cargo") { "cargo" } else { word }).collect();
    words.join(" ")
}

/// The exit code when it ended in time (`None` inside: by a signal).
fn wait(child: &mut Child, limit: Duration, own_group: bool) -> Option<Option<i32>> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            _ => {
                if own_group {
                    let _ = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).status();
                }
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// What was seen in the output of a command.
#[derive(Default)]
struct Seen {
    /// Only nextest's summary counts: it also shows what each failed attempt printed, and another may pass.
    is_nextest: bool,
    passed: u64,
    failed: u64,
    causes: Causes,
}

fn read(pipe: impl Read + Send + 'static, seen: Arc<Mutex<Seen>>, aloud: bool) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if aloud {
                let _ = std::io::stdout().lock().write_all(&line);
            }
            let words = String::from_utf8_lossy(&line);
            let mut seen = seen.lock().expect("no reader panics while it counts");
            seen.causes.look_at(words.trim_end());
            if let Some((passed, failed)) = count(&words, seen.is_nextest) {
                seen.passed += passed;
                seen.failed += failed;
            }
            drop(seen);
            line.clear();
        }
    })
}

/// Reads the summaries of `cargo test`, `cargo nextest` and of our own scripts.
fn count(line: &str, is_nextest: bool) -> Option<(u64, u64)> {
    let line = line.trim();
    let nextest = line.contains("tests run: ") || line.contains("test run: ");
    if is_nextest && !(nextest && line.starts_with("Summary")) {
        return None;
    }
    let ours = line.starts_with(|c: char| c.is_ascii_digit())
        && line.ends_with("failed")
        && line.contains(" passed, ");
    if !(ours || line.contains("test result: ") || nextest) {
        return None;
    }
    let words: Vec<_> =
        line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let before = |name: &str| -> u64 {
        let pairs = words.windows(2).filter(|pair| pair[1] == name);
        pairs.filter_map(|pair| pair[0].parse::<u64>().ok()).sum()
    };
    // nextest says "1 timed out" and "1 exec failed" beside "1 failed".
    Some((before("passed"), before("failed") + before("timed")))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn summaries_of_each_kind_are_counted() {
        let libtest = "test result: ok. 3 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out";
        assert_eq!(count(libtest, false), Some((3, 1)));
        assert_eq!(count("301 passed, 0 failed", false), Some((301, 0)));
        for (line, counts) in [
            ("     Summary [   0.5s] 12 tests run: 10 passed (1 slow), 2 failed, 5 skipped", (10, 2)),
            ("  Summary [   0.5s] 1 test run: 0 passed, 1 timed out, 0 skipped", (0, 1)),
            ("     Summary [   3.2s] 9 tests run: 9 passed (1 flaky), 0 skipped", (9, 0)),
        ] {
            assert_eq!(count(line, true), Some(counts), "{line}");
        }
    }

    #[test]
    fn what_a_failed_attempt_printed_is_not_counted() {
        assert_eq!(count("    test result: FAILED. 0 passed; 1 failed; 0 ignored", true), None);
        assert_eq!(count("    301 passed, 1 failed", true), None);
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(count("test a_passed_b ... ok", false), None);
        assert_eq!(count("deadline passed, 3 failed attempts", false), None);
    }
}
