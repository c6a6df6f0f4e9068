//! The programs with the cases, what they are run with, and what they say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::run::Workplace;
use crate::tools;

/// One case, of all clients that have it. Without a name it is all that the feature has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// As in `features.rs`.
    pub feature: String,
    /// Its sentence, with underscores.
    pub name: String,
}

/// What came of a case, over all runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Clients that could express it.
    pub clients: Vec<String>,
    /// Clients that could not, in no run, and why.
    pub cannot: BTreeMap<String, String>,
    /// Whether it passed for one of them, in one serializer.
    pub passed: bool,
    /// Why it failed, for the first client for which it did.
    pub failure: Option<String>,
}

impl Verdict {
    /// Whether a client found something else than the case says.
    pub fn is_failure(&self) -> bool {
        self.failure.is_some()
    }

    /// For people.
    pub fn words(&self) -> &str {
        self.failure.as_deref().unwrap_or("yes")
    }
}

/// Verdicts by case.
pub type Results = BTreeMap<Case, Verdict>;

/// The programs, ready to run.
pub struct Installed {
    python: PathBuf,
    node_modules: PathBuf,
    wamp_async: PathBuf,
}

/// Installs what the suites need.
pub fn install(place: &Workplace) -> Result<Installed> {
    let tool = |tool: tools::Tool| tool.map_err(anyhow::Error::msg);
    Ok(Installed {
        python: tool(tools::python(place))?,
        node_modules: tool(tools::node(place))?,
        wamp_async: tool(tools::wamp_async(place))?,
    })
}

/// Each client over WebSocket, and in another serializer over RawSocket where it speaks it.
const RUNS: [(&str, &str, Transport); 14] = [
    ("autobahn-asyncio", "json", Transport::WebSocket),
    ("autobahn-asyncio", "cbor", Transport::RawSocket),
    ("autobahn-twisted", "msgpack", Transport::WebSocket),
    ("autobahn-twisted", "json", Transport::RawSocket),
    ("xconn", "cbor", Transport::WebSocket),
    ("xconn", "msgpack", Transport::RawSocket),
    ("wampproto", "json", Transport::WebSocket),
    ("wampproto", "cbor", Transport::RawSocket),
    ("autobahn", "json", Transport::WebSocket),
    ("autobahn", "msgpack", Transport::WebSocket),
    ("wampy", "json", Transport::WebSocket),
    ("wampy", "cbor", Transport::WebSocket),
    ("wamp_async", "json", Transport::WebSocket),
    ("wamp_async", "msgpack", Transport::RawSocket),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    WebSocket,
    RawSocket,
}

/// A line of a suite.
#[derive(Deserialize)]
struct Line {
    feature: String,
    case: String,
    result: String,
    #[serde(default)]
    why: String,
}

/// A suite takes a minute if all hangs that can; one that does not end by itself is ended.
const SUITE_TIME: &str = "900";

/// Runs the suites, each against a router of its own, with what else they are asked: what one leaves behind is no other's
/// fault. `start` gives the router, and its address for WebSocket.
pub fn run<Router>(
    place: &Workplace,
    clients: &Installed,
    start: impl Fn() -> Result<(Router, String)>,
    asked: &[String],
) -> Result<Results> {
    let mut results = Results::new();
    for (client, serializer, transport) in RUNS {
        let (_router, url) = start()?;
        let raw = url.replacen("ws://", "rs://", 1);
        let url = if transport == Transport::WebSocket { &*url } else { raw.trim_end_matches("/ws") };
        println!("{client} in {serializer} at {url}");
        let mut arguments: Vec<&str> = vec!["--url", url, "--serializer", serializer];
        arguments.extend(asked.iter().map(String::as_str));
        for line in lines(place, clients, client, &arguments)? {
            take(&mut results, client, serializer, line)?;
        }
    }
    Ok(results)
}

fn lines(place: &Workplace, installed: &Installed, client: &str, arguments: &[&str]) -> Result<Vec<Line>> {
    let mut command = Command::new("timeout");
    command.arg(SUITE_TIME).current_dir(&place.root);
    match client {
        "autobahn" | "wampy" => command.args(["node", "tests/clients/javascript.mjs"]),
        "wamp_async" => command.arg(&installed.wamp_async),
        _ => command.arg(&installed.python).arg("tests/clients/suite"),
    };
    command.args(["--client", client]).args(arguments);
    command.env("FANWIRE_NODE_MODULES", &installed.node_modules).stderr(Stdio::null());
    let output = command.output().context("cannot run `timeout` (of coreutils)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let mut lines: Vec<Line> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    if !said.contains(" passed, ") {
        let case = "the_suite_runs_to_its_end".to_owned();
        let why = format!(
            "it did not, at {}: {:?}",
            lines.last().map_or("first", |line| &line.case),
            output.status
        );
        lines.push(Line { feature: "sessions".to_owned(), case, result: "failed".to_owned(), why });
    }
    Ok(lines)
}

fn take(results: &mut Results, client: &str, serializer: &str, line: Line) -> Result<()> {
    let verdict = results.entry(Case { feature: line.feature, name: line.case }).or_default();
    match line.result.as_str() {
        "skipped" => {
            if !verdict.clients.iter().any(|known| known == client) {
                verdict.cannot.insert(client.to_owned(), line.why);
            }
            return Ok(());
        }
        "passed" => verdict.passed = true,
        "failed" => {
            // Without the stack.
            let words: Vec<_> =
                line.why.lines().take_while(|line| !line.trim_start().starts_with("at ")).collect();
            let why = words.join(" ");
            verdict.failure.get_or_insert_with(|| format!("{client} in {serializer}: {why}"));
        }
        other => bail!("{client} says {other:?} of a case"),
    }
    verdict.cannot.remove(client);
    if !verdict.clients.iter().any(|known| known == client) {
        verdict.clients.push(client.to_owned());
    }
    Ok(())
}
