//! `compare A.json B.json`: the figures of two runs side by side, with the ratio B/A.
//!
//! Only runs of the same scenario with the same parameters are compared: a ratio of anything else looks like a result
//! and is none. The address and what the generator does on its own side may differ; the latter is said.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;
use crate::report::SCHEMA;
use crate::units::{show_bytes, show_count, show_nanos, show_rate};

/// Parameters that may differ without a word: where the server is.
const FREE: [&str; 1] = ["url"];
/// Parameters of the generator itself: they may differ, with a warning.
const OWN: [&str; 3] = ["threads", "cpus", "spin"];

/// Parameters in which servers of two kinds cannot but differ.
const FOREIGN: [&str; 3] = ["target", "serializer", "publisher_serializer"];

#[derive(Clone, Copy)]
enum Unit {
    Nanos,
    Bytes,
    Rate,
    Count,
    Share,
}

#[derive(Clone, Copy)]
enum Better {
    Less,
    More,
    /// It depends.
    Neither,
}

impl Better {
    fn words(self) -> &'static str {
        match self {
            Better::Less => "less is better",
            Better::More => "more is better",
            Better::Neither => "",
        }
    }
}

/// Name, place in the file, unit, and which direction is better.
const FIGURES: &[(&str, &str, Unit, Better)] = &[
    ("deliveries /s", "/deliveries/per_second", Unit::Rate, Better::More),
    ("sent /s", "/deliveries/sent_per_second", Unit::Rate, Better::More),
    ("latency p50", "/latency/p50_ns", Unit::Nanos, Better::Less),
    ("latency p90", "/latency/p90_ns", Unit::Nanos, Better::Less),
    ("latency p99", "/latency/p99_ns", Unit::Nanos, Better::Less),
    ("latency p99.9", "/latency/p999_ns", Unit::Nanos, Better::Less),
    ("latency max", "/latency/max_ns", Unit::Nanos, Better::Less),
    ("login p50", "/logins/latency/p50_ns", Unit::Nanos, Better::Less),
    ("login p99", "/logins/latency/p99_ns", Unit::Nanos, Better::Less),
    ("logins failed", "/logins/failed", Unit::Count, Better::Less),
    ("call alone p50", "/operations/call alone/latency/p50_ns", Unit::Nanos, Better::Less),
    ("call alone p99", "/operations/call alone/latency/p99_ns", Unit::Nanos, Better::Less),
    ("call beside p50", "/operations/call beside/latency/p50_ns", Unit::Nanos, Better::Less),
    ("call beside p99", "/operations/call beside/latency/p99_ns", Unit::Nanos, Better::Less),
    ("probe alone p50", "/operations/probe alone/latency/p50_ns", Unit::Nanos, Better::Less),
    ("probe alone p99", "/operations/probe alone/latency/p99_ns", Unit::Nanos, Better::Less),
    ("probe beside p50", "/operations/probe beside/latency/p50_ns", Unit::Nanos, Better::Less),
    ("probe beside p99", "/operations/probe beside/latency/p99_ns", Unit::Nanos, Better::Less),
    ("call p50", "/operations/call/latency/p50_ns", Unit::Nanos, Better::Less),
    ("call p99", "/operations/call/latency/p99_ns", Unit::Nanos, Better::Less),
    ("subscribe p99", "/operations/subscribe/latency/p99_ns", Unit::Nanos, Better::Less),
    ("unsubscribe p99", "/operations/unsubscribe/latency/p99_ns", Unit::Nanos, Better::Less),
    ("lost", "/deliveries/lost", Unit::Count, Better::Less),
    ("out of order", "/deliveries/out_of_order", Unit::Count, Better::Less),
    ("duplicates", "/deliveries/duplicates", Unit::Count, Better::Less),
    ("corrupt", "/deliveries/corrupt", Unit::Count, Better::Less),
    ("closed", "/deliveries/closed", Unit::Count, Better::Less),
    ("errors", "/deliveries/errors", Unit::Count, Better::Less),
    ("per receive", "/deliveries/messages_per_receive", Unit::Rate, Better::Neither),
    ("CPU/delivery", "/server/cost/cpu_ns_per_delivery", Unit::Nanos, Better::Less),
    ("user/delivery", "/server/cost/user_ns_per_delivery", Unit::Nanos, Better::Less),
    ("CPU per second", "/server/cost/cpu_ns_per_second", Unit::Nanos, Better::Neither),
    ("RSS/connection", "/server/rss_per_connection_bytes", Unit::Bytes, Better::Less),
    ("generator busy", "/generator/busy_max", Unit::Share, Better::Neither),
];

/// Reads both files and compares them.
pub fn run(a: &Path, b: &Path) -> Result<String, Failure> {
    let (left, right) = (read(a)?, read(b)?);
    compare(&left, &right, &a.display().to_string(), &b.display().to_string())
}

fn read(path: &Path) -> Result<Value, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{name}: cannot be read: {error}")))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{name}: is no JSON: {error}; give what --json has written"))
    })?;
    match value["schema"].as_str() {
        Some(SCHEMA) => Ok(value),
        Some(other) => {
            Err(Failure::usage(format!("{name}: its shape is {other}, this program reads {SCHEMA}")))
        }
        None => {
            Err(Failure::usage(format!("{name}: is no result of this program; give what --json has written")))
        }
    }
}

/// The figure at `place`; operations are found by their name.
fn look_up<'a>(report: &'a Value, place: &str) -> Option<&'a Value> {
    let Some((name, rest)) = place.strip_prefix("/operations/").and_then(|place| place.split_once('/'))
    else {
        return report.pointer(place);
    };
    let operations = report["operations"].as_array()?;
    operations.iter().find(|operation| operation["name"] == name)?.pointer(&format!("/{rest}"))
}

fn compare(a: &Value, b: &Value, a_name: &str, b_name: &str) -> Result<String, Failure> {
    let (left, right) = (&a["parameters"], &b["parameters"]);
    let mut names: Vec<&String> =
        [left, right].iter().filter_map(|v| v.as_object()).flat_map(|o| o.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differing: Vec<&str> =
        names.into_iter().map(String::as_str).filter(|name| left[*name] != right[*name]).collect();
    let is_foreign = left["target"] != right["target"];
    let show = |name: &str| format!("{name}: {} and {}", left[name], right[name]);
    let refused: Vec<String> = differing
        .iter()
        .filter(|name| !FREE.contains(name) && !OWN.contains(name))
        .filter(|name| !(is_foreign && FOREIGN.contains(name)))
        .map(|name| show(name))
        .collect();
    if !refused.is_empty() {
        return Err(Failure::usage(format!(
            "{a_name} and {b_name} are not the same measurement, a ratio would mean nothing; they differ in\n  {}",
            refused.join("\n  ")
        )));
    }
    let mut out = String::new();
    let scenario = left["scenario"].as_str().unwrap_or("?");
    // A String takes everything.
    let _ = writeln!(out, "compare: {scenario}, A = {a_name}, B = {b_name}");
    let _ = writeln!(out, "  {:<15} {:>12} {:>12} {:>8}", "", "A", "B", "B/A");
    for (name, place, unit, better) in FIGURES {
        let figure = |report: &Value| look_up(report, place)?.as_f64();
        let (Some(left), Some(right)) = (figure(a), figure(b)) else { continue };
        // A fault that neither has is no news.
        if matches!(unit, Unit::Count) && left == 0.0 && right == 0.0 {
            continue;
        }
        let ratio = if left == 0.0 { None } else { Some(right / left) };
        let _ = writeln!(
            out,
            "  {name:<15} {:>12} {:>12} {:>8}  {}",
            unit.show(left),
            unit.show(right),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            better.words()
        );
    }
    for words in warnings(a, b, &differing) {
        let _ = writeln!(out, "  WARNING         {words}");
    }
    // Two runs of one server differ by half in p99.9 on a small machine: a verdict from one pair would be invented.
    let _ = writeln!(
        out,
        "  One run each: a ratio has the noise of both in it; repeat them before one is called better."
    );
    // No blanks at the ends of lines: people paste this.
    Ok(out.lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Nanos => show_nanos(value),
            Unit::Bytes => show_bytes(value),
            Unit::Rate => show_rate(value),
            Unit::Count => show_count(value as u64),
            Unit::Share => format!("{:.0} %", value * 100.0),
        }
    }
}

/// What a reader should know before he believes the ratios.
fn warnings(a: &Value, b: &Value, differing: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    if differing.contains(&"target") {
        let kind = |report: &Value| report["parameters"]["target"].as_str().unwrap_or("WAMP").to_owned();
        warnings.push(format!(
            "they speak differently, {} and {}: the bytes of a message differ too",
            kind(a),
            kind(b)
        ));
    }
    for name in differing.iter().filter(|name| OWN.contains(name)) {
        warnings.push(format!(
            "the generator's {name} differ: {} and {}",
            a["parameters"][*name], b["parameters"][*name]
        ));
    }
    for name in ["cpu", "cpus", "kernel", "generator_version", "generator_profile"] {
        let (left, right) = (&a["machine"][name], &b["machine"][name]);
        if left != right {
            warnings.push(format!("machine.{name} differs: {left} and {right}"));
        }
    }
    for (letter, report) in [("A", a), ("B", b)] {
        if report["exit_code"] != 0 {
            warnings.push(format!(
                "{letter} ended with exit code {}: its figures are of a failed run",
                report["exit_code"]
            ));
        }
        for words in report["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            warnings.push(format!("{letter}: {words}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(rate: f64, p99_ns: f64) -> Value {
        json!({
            "schema": SCHEMA,
            "machine": { "cpu": "x", "cpus": 2 },
            "parameters": { "scenario": "fanout", "url": "ws://a/", "receivers": 10, "threads": 2 },
            "deliveries": { "per_second": rate, "lost": 0, "errors": 0 },
            "latency": { "p99_ns": p99_ns },
            "exit_code": 0, "warnings": [],
        })
    }

    #[test]
    fn ratios_are_of_b_to_a_and_say_which_direction_is_better() {
        let words = compare(&report(1_000.0, 2e6), &report(1_500.0, 3e6), "a", "b").unwrap();
        let line = |name: &str| words.lines().find(|line| line.contains(name)).unwrap().to_owned();
        assert!(line("deliveries /s").ends_with("1.500  more is better"), "{words}");
        assert!(line("latency p99").ends_with("1.500  less is better"), "{words}");
        assert!(!words.contains("lost") && !words.contains("WARNING"), "{words}");
        let mut lossy = report(1_000.0, 2e6);
        lossy["deliveries"]["lost"] = 3.into();
        let words = compare(&report(1_000.0, 2e6), &lossy, "a", "b").unwrap();
        assert!(words.lines().any(|line| line.contains("lost") && line.contains(" 3 ")), "{words}");
    }

    #[test]
    fn other_scenarios_and_parameters_are_refused_by_name() {
        let mut other = report(1.0, 1.0);
        other["parameters"]["receivers"] = 20.into();
        other["parameters"]["scenario"] = "rpc".into();
        other["parameters"]["window"] = 5.into();
        let failure = compare(&report(1.0, 1.0), &other, "a", "b").unwrap_err();
        for words in ["receivers: 10 and 20", "scenario: \"fanout\" and \"rpc\"", "window: null and 5"] {
            assert!(failure.words.contains(words), "{failure}");
        }
    }

    #[test]
    fn servers_of_two_kinds_may_be_compared() {
        let mut other = report(1.0, 1.0);
        other["parameters"]["target"] = "ws on Node.js".into();
        other["parameters"]["serializer"] = "ws on Node.js".into();
        let words = compare(&report(1.0, 1.0), &other, "a", "b").unwrap();
        assert!(words.contains("WAMP and ws on Node.js"), "{words}");
    }

    #[test]
    fn another_address_is_fine_and_another_machine_or_a_failed_run_is_said() {
        let mut other = report(1.0, 1.0);
        other["parameters"]["url"] = "ws://b/".into();
        other["parameters"]["threads"] = 1.into();
        other["machine"]["cpu"] = "y".into();
        other["exit_code"] = 1.into();
        let words = compare(&report(1.0, 1.0), &other, "a", "b").unwrap();
        for part in ["threads differ", "machine.cpu", "B ended with exit code 1"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
