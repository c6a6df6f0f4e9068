//! A rival's process: pinned to a CPU, waited for until it accepts connections, ended when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Crossbar needs the longest: some 5 s on a fast machine.
const START_TIME: Duration = Duration::from_secs(90);
/// Ten thousand connections need descriptors. Not more than this, though allowed: some servers have a table as large as the limit.
const RAISE_LIMIT: &str = r#"ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$@""#;
const PAUSE: Duration = Duration::from_millis(20);

/// How a rival is started.
pub struct Launch {
    /// The program with its arguments; it stays in the foreground.
    pub command: Command,
    /// Where clients connect, without scheme and host: `/ws`.
    pub path: &'static str,
    /// The process that does the work, if it is a descendant of the one that is started: a word of its command line.
    pub worker: Option<&'static str>,
}

/// A rival that accepts connections.
pub struct Running {
    /// The process whose CPU time and memory are what the service costs.
    pub pid: u32,
    /// For the load generator's `--url`.
    pub url: String,
    /// For its `--target`; `None` where the rival speaks WAMP.
    pub target: Option<PathBuf>,
    child: Child,
}

impl Running {
    pub(super) fn begin(
        launch: Launch,
        target: Option<PathBuf>,
        port: u16,
        cpu: usize,
        home: &Path,
    ) -> Result<Self> {
        let log = home.join("log");
        let output = File::create(&log)?;
        let program = &launch.command;
        // Who ends this process with a signal ends the server too.
        let mut command = Command::new("sh");
        command.args(["-c", RAISE_LIMIT, "sh", "setpriv", "--pdeathsig", "KILL"]);
        command.args(["taskset", "--cpu-list", &cpu.to_string()]);
        command.arg(program.get_program()).args(program.get_args());
        command.current_dir(program.get_current_dir().unwrap_or(home));
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("cannot run setpriv and taskset (of util-linux)")?;
        let url = match &target {
            // The file says it, with the places in it.
            Some(file) => url_of(file)?,
            None => format!("ws://127.0.0.1:{port}{}", launch.path),
        };
        let mut running = Self { pid: child.id(), url, target, child };
        running.wait(port).with_context(|| last_words(&log))?;
        if let Some(word) = launch.worker {
            running.pid = descendant(running.pid, word)
                .with_context(|| format!("it has no process with {word} in its command line"))?;
        }
        Ok(running)
    }

    fn wait(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("it does not listen after {} s", START_TIME.as_secs());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group has its workers too.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The `url` of a target's file.
fn url_of(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("url = \"")?.split('"').next());
    Ok(line.with_context(|| format!("{} has no url", file.display()))?.to_owned())
}

/// A process below `root` that has `word` in its command line.
fn descendant(root: u32, word: &str) -> Option<u32> {
    let mut found = Vec::from([root]);
    while let Some(pid) = found.pop() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if pid != root && String::from_utf8_lossy(&line).contains(word) {
            return Some(pid);
        }
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    None
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
