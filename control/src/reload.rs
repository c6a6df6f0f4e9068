//! Reading the configuration again while the router runs: what was found, how it is told, and that one is done at a time.
//!
//! ```text
//! SIGHUP, POST /v1/reload, POST /reload ─▶ Reloads ─▶ Shards::reload, on a thread of its own ─▶ Report or Refused
//! ```
//!
//! What a key means and when it acts is not known here: that is the binary's.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, oneshot};

use crate::Shards;
use crate::page::{Kind, Page, label};
use crate::state::Readiness;

/// When a changed key acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Acts {
    /// Everywhere, before the answer to the reload.
    Now,
    /// For connections, logins and subscriptions that begin from now on; those that are there stay as they are.
    NewConnections,
    /// After a restart.
    Restart,
}

impl Acts {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::NewConnections => "for new connections",
            Self::Restart => "after a restart",
        }
    }
}

/// One key whose value is another than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The key, such as `limits.message` or `realm[realm1].role[guest]`.
    pub key: String,
    /// What it was; `null`: it was not there.
    pub old: Value,
    /// What it is; `null`: it is not there any more.
    pub new: Value,
    /// When it acts.
    pub acts: Acts,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new, .. } = self;
        match (old, new) {
            (Value::Null, new) => write!(f, "{key}: added {new}"),
            (old, Value::Null) => write!(f, "{key}: removed, was {old}"),
            (old, new) => write!(f, "{key}: {old} -> {new}"),
        }
    }
}

/// A reload that was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Nothing was done: it was only asked what would be.
    pub check_only: bool,
    /// In the order of the configuration.
    pub changes: Vec<Change>,
    /// What should not stay as it is.
    pub warnings: Vec<String>,
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let verb = if self.check_only { "a reload would be done" } else { "reloaded" };
        match self.changes.len() {
            0 => line(&mut out, format_args!("{verb}; nothing has changed")),
            1 => line(&mut out, format_args!("{verb}; 1 change:")),
            count => line(&mut out, format_args!("{verb}; {count} changes:")),
        }
        for acts in [Acts::Now, Acts::NewConnections, Acts::Restart] {
            for change in self.changes.iter().filter(|change| change.acts == acts) {
                line(&mut out, format_args!("  {:<20} {change}", acts.words()));
            }
        }
        for words in &self.warnings {
            line(&mut out, format_args!("  {:<20} {words}", "warning"));
        }
        out
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// The file, as the operator named it; or the variable or flag, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// In a file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The key, if one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What may be written, or what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [self.place.clone(), self.line.map(|n| n.to_string()), self.column.map(|n| n.to_string())]
        {
            part.map_or(Ok(()), |part| write!(f, "{part}:"))?;
        }
        if self.place.is_some() {
            f.write_str(" ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "\n    {help}"))
    }
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The configuration is wrong. Never empty.
    Flaws(Vec<Flaw>),
    /// It cannot be done now.
    Unable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unable(words) => write!(f, "error: {words}"),
            Self::Flaws(flaws) => {
                let lines: Vec<String> = flaws.iter().map(|flaw| format!("error: {flaw}")).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

/// What a reload came to.
pub type Outcome = Result<Report, Refused>;

/// Changes that are logged, each on a line of its own; the log has a bound too.
const LINES_MAX: usize = 100;

/// Reloads that may be asked for at once; one is as good as the next.
const WAITING_MAX: usize = 16;

/// Does reloads, one after the other, and counts them.
pub struct Reloads {
    shards: Arc<dyn Shards>,
    readiness: Arc<Readiness>,
    turn: Mutex<()>,
    /// For those that wait, or are done.
    places: Semaphore,
    done: AtomicU64,
    refused: AtomicU64,
    last_done: AtomicU64,
}

impl Reloads {
    /// None yet; the start counts as the last good one.
    pub fn new(shards: Arc<dyn Shards>, readiness: Arc<Readiness>) -> Self {
        let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let (turn, places) = (Mutex::new(()), Semaphore::new(WAITING_MAX));
        Self { shards, readiness, turn, places, done, refused, last_done: AtomicU64::new(now()) }
    }

    /// Reads the configuration again, after those who asked earlier. `by`: who asks, for the log. With `check_only` nothing is
    /// changed, whatever was read.
    ///
    /// It is done, logged and counted to its end whether or not who asked waits for it.
    pub async fn reload(self: &Arc<Self>, by: &str, check_only: bool) -> Outcome {
        let (this, by) = (Arc::clone(self), by.to_owned());
        let work = tokio::spawn(async move { this.reload_in_turn(&by, check_only).await });
        work.await.unwrap_or_else(|_| unable("the reload was ended, as the router is"))
    }

    async fn reload_in_turn(&self, by: &str, check_only: bool) -> Outcome {
        let Ok(_place) = self.places.try_acquire() else {
            return unable("many reloads are asked for already; try again when they are done");
        };
        let _turn = self.turn.lock().await;
        let outcome = match self.readiness.reason() {
            Some(_) => unable("the router is ending, and goes on with what it has until then"),
            None => self.on_a_thread(check_only).await,
        };
        if !check_only {
            self.note(by, &outcome);
        }
        outcome
    }

    async fn on_a_thread(&self, check_only: bool) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let shards = Arc::clone(&self.shards);
        // A thread of its own: files are read, certificates parsed, shards waited for. Those of logins give way to everybody.
        let thread = std::thread::Builder::new().name("fanwire-reload".into());
        let spawned = thread.spawn(move || answer.send(shards.reload(check_only)).is_ok());
        match spawned {
            Ok(_) => answered.await.unwrap_or_else(|_| unable("the reload panicked, which is a bug")),
            Err(error) => unable(format!("there is no thread for it: {error}")),
        }
    }

    fn note(&self, by: &str, outcome: &Outcome) {
        match outcome {
            Ok(report) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.last_done.store(now(), Ordering::Relaxed);
                let waiting = report.changes.iter().filter(|change| change.acts == Acts::Restart).count();
                let changes = report.changes.len();
                tracing::info!(
                    "{by}: the configuration was reloaded; changes: {changes}, of them after a restart: {waiting}"
                );
                for change in report.changes.iter().take(LINES_MAX) {
                    tracing::info!("{by}: {}: {change}", change.acts.words());
                }
                if changes > LINES_MAX {
                    tracing::info!("{by}: and {} more changes", changes - LINES_MAX);
                }
                report.warnings.iter().for_each(|words| tracing::warn!("{by}: {words}"));
            }
            Err(refused) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                match refused {
                    Refused::Unable(words) => tracing::error!("{by}: nothing was changed: {words}"),
                    Refused::Flaws(flaws) => flaws.iter().for_each(|flaw| {
                        let words = flaw.to_string().replace("\n   ", ";");
                        tracing::error!("{by}: nothing was changed: {words}");
                    }),
                }
            }
        }
    }

    /// For the metrics page.
    pub fn collect(&self, page: &mut Page) {
        let help =
            "Reloads of the configuration, by whether they changed anything or were refused as a whole.";
        for (outcome, count) in [("done", &self.done), ("refused", &self.refused)] {
            let count = count.load(Ordering::Relaxed) as f64;
            page.add("fanwire_config_reloads_total", Kind::Counter, help, &label("outcome", outcome), count);
        }
        let help = "When the configuration was last read without an error, in seconds since 1970.";
        let last = self.last_done.load(Ordering::Relaxed) as f64;
        page.add("fanwire_config_last_reload_timestamp_seconds", Kind::Gauge, help, "", last);
    }
}

fn unable(words: impl Into<String>) -> Outcome {
    Err(Refused::Unable(words.into()))
}

#[allow(clippy::disallowed_methods, reason = "a time for operators")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string succeeds");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(key: &str, old: Value, new: Value, acts: Acts) -> Change {
        Change { key: key.to_owned(), old, new, acts }
    }

    #[test]
    fn a_report_reads_well() {
        let changes = vec![
            change("shards.count", json!("auto"), json!(4), Acts::Restart),
            change("limits.message", json!("1MiB"), json!("2MiB"), Acts::Now),
            change("realm[a].role[b]", Value::Null, json!({"name": "b"}), Acts::Now),
        ];
        let report = Report { changes, warnings: vec!["a file is old".to_owned()], check_only: false };
        let text = "reloaded; 3 changes:\n  \
                    now                  limits.message: \"1MiB\" -> \"2MiB\"\n  \
                    now                  realm[a].role[b]: added {\"name\":\"b\"}\n  \
                    after a restart      shards.count: \"auto\" -> 4\n  \
                    warning              a file is old\n";
        assert_eq!(report.text(), text);
        let nothing = Report { check_only: true, ..Report::default() };
        assert_eq!(nothing.text(), "a reload would be done; nothing has changed\n");
    }

    #[test]
    fn a_flaw_says_where_it_is() {
        let flaw = Flaw {
            place: Some("a.toml".to_owned()),
            line: Some(3),
            column: Some(7),
            key: Some("limits.message".to_owned()),
            message: "\"x\" is no size".to_owned(),
            help: vec!["allowed: 1MiB".to_owned()],
        };
        assert_eq!(flaw.to_string(), "a.toml:3:7: limits.message: \"x\" is no size\n    allowed: 1MiB");
        let bare = Flaw { place: None, line: None, column: None, key: None, ..flaw };
        assert_eq!(Refused::Flaws(vec![bare]).to_string(), "error: \"x\" is no size\n    allowed: 1MiB");
    }
}
