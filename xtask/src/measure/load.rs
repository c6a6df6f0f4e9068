//! The load generator on a CPU of its own, and its report.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::LOAD_CPU;
use crate::run::Workplace;

/// A run of the load generator that is under way.
pub struct Load {
    child: Option<Child>,
    what: String,
}

/// What a run has found, in the shape of the generator's `--json`.
#[derive(Clone, Debug)]
pub struct Report(Value);

impl Load {
    /// Starts it with these arguments, the scenario first, against a server of this process.
    pub fn start(workplace: &Workplace, arguments: &[String], server_pid: u32) -> Result<Self> {
        Self::start_on(workplace, LOAD_CPU, 1, arguments, server_pid)
    }

    /// The same on other CPUs, as `taskset` writes them, with so many threads.
    pub fn start_on(
        workplace: &Workplace,
        cpus: &str,
        threads: usize,
        arguments: &[String],
        server_pid: u32,
    ) -> Result<Self> {
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", cpus])
            .arg(workplace.released("fanwire-loadgen"))
            .args(arguments)
            .args(["--threads", &threads.to_string(), "--quiet", "--json", "-"])
            .args(["--server-pid", &server_pid.to_string()]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run the load generator")?;
        Ok(Self { child: Some(child), what: arguments.join(" ") })
    }

    /// The process; `taskset` becomes what it starts.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Waits for the report. That something was lost is in the report, and no error here.
    pub fn report(mut self) -> Result<Report> {
        let child = self.child.take().context("a run is waited for once")?;
        let output = child.wait_with_output().context("the load generator cannot be waited for")?;
        match serde_json::from_slice(&output.stdout) {
            Ok(report) => Ok(Report(report)),
            Err(_) => bail!(
                "`fanwire-loadgen {}` ended with {} and no report: {}",
                self.what,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Report {
    /// The number at a JSON pointer.
    pub fn number(&self, pointer: &str) -> Result<f64> {
        self.value(pointer).with_context(|| format!("the report has no number at {pointer}"))
    }

    /// The number at a JSON pointer, if there is one.
    pub fn value(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer).and_then(Value::as_f64)
    }

    /// The list at a JSON pointer; empty if there is none.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.0.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// A figure of one kind of requests: `("call beside", "/latency/p99_ns")`.
    pub fn operation(&self, name: &str, pointer: &str) -> Option<f64> {
        let operations = self.0.pointer("/operations")?.as_array()?;
        let operation = operations.iter().find(|operation| operation["name"] == name)?;
        operation.pointer(pointer)?.as_f64()
    }

    /// The same; that there is none is an error.
    pub fn operation_number(&self, name: &str, pointer: &str) -> Result<f64> {
        self.operation(name, pointer).with_context(|| format!("the report has no `{name}` with a {pointer}"))
    }

    /// What was not as it should be, in words; `None` if every message came once, in order, undamaged.
    pub fn fault(&self) -> Option<String> {
        let count = |name: &str| self.value(&format!("/deliveries/{name}")).unwrap_or(f64::NAN);
        let kinds = [
            ("lost", "lost"),
            ("out_of_order", "out of order"),
            ("duplicates", "doubled"),
            ("corrupt", "damaged"),
            ("closed", "connections closed"),
            ("errors", "errors"),
        ];
        let mut words: Vec<String> = kinds
            .into_iter()
            .filter(|(name, _)| count(name) != 0.0)
            .map(|(name, words)| format!("{} {words}", count(name)))
            .collect();
        if count("total") != count("expected") {
            words.push(format!("{} of {} delivered", count("total"), count("expected")));
        }
        if let Some(why) = self.0.pointer("/ended_early").and_then(Value::as_str) {
            words.push(format!("ended early: {why}"));
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Report;

    #[test]
    fn what_a_run_lost_is_said() {
        let report = |lost: u64, total: u64, early: Option<&str>| {
            Report(json!({
                "deliveries": { "lost": lost, "out_of_order": 0, "duplicates": 0, "corrupt": 0, "closed": 0,
                    "errors": 0, "total": total, "expected": 10 },
                "ended_early": early,
                "operations": [{ "name": "call", "latency": { "p99_ns": 5.0 } }],
            }))
        };
        assert_eq!(report(0, 10, None).fault(), None);
        assert_eq!(report(1, 9, None).fault().unwrap(), "1 lost, 9 of 10 delivered");
        assert_eq!(report(0, 10, Some("it was slow")).fault().unwrap(), "ended early: it was slow");
        assert_eq!(report(0, 10, None).operation("call", "/latency/p99_ns"), Some(5.0));
        assert_eq!(report(0, 10, None).operation("probe", "/latency/p99_ns"), None);
        assert!(Report(json!({})).fault().is_some(), "a report without counts proves nothing");
    }
}
