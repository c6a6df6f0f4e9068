//! A router of ours on CPUs of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::metrics::Metrics;
use super::{SERVER_CPU, metrics};
use crate::run::Workplace;

/// How a router is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSetup {
    /// CPUs that the process may use, as `taskset` writes them.
    pub cpus: String,
    /// Shards.
    pub shards: u32,
    /// `auto`, `io_uring` or `epoll`.
    pub driver: String,
    /// Settings of the configuration: `limits.ping_interval=1s`.
    pub set: Vec<String>,
    /// Words before the router's own: a program that runs it, such as valgrind.
    pub under: Vec<String>,
}

impl RouterSetup {
    /// One shard on the servers' CPU.
    pub fn new(driver: &str) -> Self {
        Self {
            cpus: SERVER_CPU.to_owned(),
            shards: 1,
            driver: driver.to_owned(),
            set: Vec::new(),
            under: Vec::new(),
        }
    }
}

/// A router that runs; killed when dropped.
pub struct Router {
    child: Child,
    /// Where clients connect.
    pub url: String,
    /// Where its metrics are, without the scheme.
    pub admin: String,
}

impl Router {
    /// Starts the release build and waits for its banner.
    pub fn start(workplace: &Workplace, setup: &RouterSetup) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &setup.cpus]).args(&setup.under).arg(workplace.released("fanwire"));
        command.args(["--port", "0", "--admin", "127.0.0.1:0", "--driver", &setup.driver]);
        command.args(["--shards", &setup.shards.to_string()]);
        command.args(setup.set.iter().flat_map(|setting| ["--set", setting]));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the router (is `taskset` of util-linux there?)")?;
        let mut complaints = child.stderr.take().context("standard error is piped")?;
        let mut lines = BufReader::new(child.stdout.take().context("the banner is piped")?).lines();
        let (mut url, mut admin) = (None, None);
        for line in lines.by_ref().map_while(Result::ok) {
            for word in line.split_whitespace() {
                if word.starts_with("ws://") && url.is_none() {
                    url = Some(word.to_owned());
                }
                if let Some(address) = word.strip_prefix("http://") {
                    admin.get_or_insert(address.split('/').next().unwrap_or(address).to_owned());
                }
            }
            if url.is_some() && admin.is_some() {
                break;
            }
        }
        match (url, admin) {
            (Some(url), Some(admin)) => {
                // The rest of the banner and the log must have a reader.
                std::thread::spawn(move || lines.for_each(drop));
                std::thread::spawn(move || std::io::copy(&mut complaints, &mut std::io::sink()));
                Ok(Self { child, url, admin })
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let mut words = String::new();
                let _ = complaints.read_to_string(&mut words);
                bail!(
                    "the router did not start: its banner names no WebSocket or no admin address\n{}",
                    words.trim_end()
                )
            }
        }
    }

    /// The process. `taskset` and valgrind become what they start.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its admin port tells now.
    pub fn metrics(&self) -> Result<Metrics> {
        metrics::fetch(&self.admin)
    }

    /// Asks it to end, as an operator does, and waits for it.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().context("cannot run kill")?;
        self.child.wait().context("the router cannot be waited for")?;
        Ok(())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
