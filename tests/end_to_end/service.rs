//! What runs the router around it: a service manager, health checks, dashboards and alert rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Client, Folder, Launch, PATIENCE, binary, eventually, get, status};

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

/// `fanwire health`: its exit status, and what it said.
fn health(arguments: &[&str]) -> (i32, String) {
    let output = run(&[&["health"], arguments].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&said).into_owned())
}

on_both_drivers! {
    fn service_manager_is_told_of_start_life_and_end(driver: &str) {
        let folder = Folder::new(&format!("notify-{driver}"));
        let path = folder.path("notify.sock");
        let manager = UnixDatagram::bind(&path).expect("a writable folder");
        manager.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        let heard = || {
            let mut buffer = [0; 4096];
            let count = manager.recv(&mut buffer).expect("the router tells how it is");
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        };
        let mut router = Launch::on(driver)
            .environment("NOTIFY_SOCKET", &path)
            .environment("WATCHDOG_USEC", "300000")
            .start();
        let ready = heard();
        assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
        assert!(ready.contains("STATUS=fanwire "), "{ready}");
        // Idle shards sleep; they are alive all the same.
        for _ in 0..3 {
            assert_eq!(heard().trim_end(), "WATCHDOG=1");
        }
        router.signal(Signal::HUP);
        eventually("the word that it reloads", || heard().lines().any(|line| line == "RELOADING=1"));
        eventually("the word that it is ready again", || heard().lines().any(|line| line == "READY=1"));
        let client = Client::join(router.wamp);
        router.signal(Signal::TERM);
        eventually("the word that it stops", || heard().lines().any(|line| line == "STOPPING=1"));
        drop(client);
        assert_eq!(router.wait(PATIENCE).code(), Some(0));
    }

    fn health_command_says_how_the_router_is(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "60s").start();
        let admin = router.admin.to_string();
        assert_eq!(health(&["--address", &admin]), (0, "ok\n".to_owned()));
        assert_eq!(health(&["--live", "--admin", &admin]), (0, "ok\n".to_owned()));
        let client = Client::join(router.wamp);
        router.signal(Signal::TERM);
        eventually("the drain", || status(&get(router.admin, "/readyz")) == 503);
        let (code, said) = health(&["--address", &admin]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("draining"), "{said}");
        assert_eq!(health(&["--live", "--address", &admin]).0, 0);
        drop(client);
        router.wait(PATIENCE);
        let (code, said) = health(&["--address", &admin]);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(&admin) && said.contains("is the router running"), "{said}");
    }
}

#[test]
fn health_command_without_anybody_to_ask_says_so() {
    let (code, said) = health(&["--admin", "none"]);
    assert!(code == 2 && said.contains("admin.bind"), "{code} {said}");
    let (code, said) = health(&["--admin", "127.0.0.1:0"]);
    assert!(code == 2 && said.contains("--address"), "{code} {said}");
    let (code, said) = health(&["--address", "127.0.0.1:1", "--timeout", "soon"]);
    assert!(code == 2 && said.contains("--timeout"), "{code} {said}");
    // It is connected, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    assert_eq!(health(&["--address", &address, "--timeout", "200ms"]).0, 4);
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

#[test]
fn sample_configuration_is_right() {
    let output = run(&["config", "check", deploy("fanwire.toml").to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Of each metric, the labels and their values.
type Samples = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Every sample of the page; those of histograms by their own names.
fn samples(page: &str) -> Samples {
    let mut samples = Samples::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let labels = samples.entry(name.to_owned()).or_default();
        for (label, value) in labels_of(line) {
            labels.entry(label).or_default().insert(value);
        }
    }
    samples
}

/// The `label="value"`, `label!="value"` and so on that a line or an expression begins with braces.
fn labels_of(text: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = text.split_once('{') else { return Vec::new() };
    let inside = rest.split_once('}').map_or(rest, |(inside, _)| inside);
    let inside = inside.replace("!~", "=~");
    let parts = inside.split("\", ").flat_map(|part| part.split("\","));
    parts
        .filter_map(|part| part.split_once('='))
        .map(|(label, value)| {
            let label = label.trim().trim_end_matches('!').to_owned();
            (label, value.trim_start_matches('~').trim_matches('"').to_owned())
        })
        .collect()
}

/// What an expression asks for: names, each with its labels and values.
fn asked_for(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["fanwire_", "process_"].iter().filter_map(|prefix| rest.find(prefix)).min() {
        let here = &rest[at..];
        let name = &here[..here.find(|c| !is_name(c)).unwrap_or(here.len())];
        let behind = &here[name.len()..];
        found.push((name.to_owned(), if behind.starts_with('{') { labels_of(behind) } else { Vec::new() }));
        rest = behind;
    }
    found
}

/// All strings under the key `expr`.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// A renamed metric, label or reason would leave a panel empty and an alert silent for ever.
#[test]
fn dashboard_and_alerts_ask_only_for_what_there_is() {
    // What is there only with a hook is asked for, too.
    let hook = "[{name=\"backend\",url=\"http://127.0.0.1:1/\",events=[\"connect\"]}]";
    let router = Launch::on("epoll").set("hook", hook).start();
    let samples = samples(&get(router.admin, "/metrics"));
    let mut all = Vec::new();
    expressions(&serde_json::from_str(&text("grafana/fanwire.json")).expect("JSON"), &mut all);
    assert!(all.len() > 40, "only {} expressions in the dashboard", all.len());
    let alerts = text("prometheus/alerts.yml");
    all.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned));
    for expression in &all {
        for (name, selected) in asked_for(expression) {
            let labels = samples.get(&name).unwrap_or_else(|| panic!("no metric {name}: {expression}"));
            for (label, wanted) in selected {
                // Prometheus adds these.
                if ["job", "instance"].contains(&label.as_str()) {
                    continue;
                }
                let values =
                    labels.get(&label).unwrap_or_else(|| panic!("{name} has no {label}: {expression}"));
                for one in wanted.split('|') {
                    let there = match one.strip_suffix(".*") {
                        Some(prefix) => values.iter().any(|value| value.starts_with(prefix)),
                        None => values.contains(one),
                    };
                    assert!(there, "no {label}=\"{one}\" in {values:?}: {expression}");
                }
            }
        }
    }
}
