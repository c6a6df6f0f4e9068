//! The part of the page that says what was checked, how, and what came out.

use std::fmt::Write;

use super::escape;
use crate::report::Report;
use crate::units::{show_count, show_nanos, show_rate};

/// What the counts of the verdict mean. Every payload says who sent it and which one it is: nothing here trusts the server.
pub fn table(out: &mut String, report: &Report) {
    let deliveries = &report.deliveries;
    out.push_str("<h2>What was checked</h2>\n");
    let mut rows: Vec<(&str, u64, bool, String)> = Vec::new();
    let mut row =
        |name, count, is_fault: bool, words: &str| rows.push((name, count, is_fault, words.to_owned()));
    match report.parameters.loop_kind {
        "idle" => row("closed", deliveries.closed, true, "connections that the server closed"),
        _ if report.parameters.scenario == "connect" => {
            row("logins", deliveries.total, false, "sessions that were open after their WELCOME");
            row("failed", deliveries.errors, true, "refused, cut, or not in time");
            row("never begun", deliveries.unsent, false, "no place was free until the end of the run");
        }
        _ => {
            out.push_str(
                "<p class=\"dim\">Every payload carries who sent it, its number and when it was meant to leave. The counts \
                 come from these marks and are of the whole run, warm-up and drain included.</p>\n",
            );
            let answer = report.parameters.scenario == "rpc";
            row(
                "expected",
                deliveries.expected,
                false,
                match answer {
                    true => "one answer for each call",
                    false => "each message sent, once for each subscriber of its topic",
                },
            );
            row("came", deliveries.total, false, "of these, before the run ended");
            row(
                "lost",
                deliveries.lost,
                true,
                match answer {
                    true => "calls that were never answered",
                    false => "numbers that a subscriber never got, though the run waited for them at its end",
                },
            );
            row(
                "out of order",
                deliveries.out_of_order,
                true,
                match answer {
                    true => "calls that reached their callee after a later one of the same caller",
                    false => "came to a subscriber after a newer one of the same publisher",
                },
            );
            row("duplicates", deliveries.duplicates, true, "came to the same receiver again");
            row(
                "corrupt",
                deliveries.corrupt,
                true,
                "not the bytes that were sent, or sent to somebody else",
            );
            row("closed", deliveries.closed, true, "connections that the server closed during the run");
            row("errors", deliveries.errors, true, "requests that the server refused");
            if deliveries.unsent > 0 {
                row(
                    "not sent",
                    deliveries.unsent,
                    false,
                    "planned, but the server did not read them in time",
                );
            }
            if deliveries.foreign > 0 {
                row(
                    "foreign",
                    deliveries.foreign,
                    false,
                    "of another run on the same topic; not counted elsewhere",
                );
            }
        }
    }
    if let ("churn" | "mixed", Some(logins)) = (report.parameters.scenario, &report.logins) {
        rows.push((
            "joined",
            logins.completed,
            false,
            format!(
                "subscribers that came and left, {} /s; login to SUBSCRIBED: median {}, 99 % {}; {} of them failed",
                show_rate(logins.rate),
                show_nanos(logins.latency.p50_ns),
                show_nanos(logins.latency.p99_ns),
                show_count(logins.failed)
            ),
        ));
        let words = "what they got, checked from their SUBSCRIBED on".to_owned();
        rows.push(("visitors' events", logins.delivered, false, words));
    }
    if report.parameters.stuck + report.parameters.slow > 0 {
        let words = format!(
            "of {} subscribers that never read and {} that read slowly; they are not checked, and cutting them is no fault",
            report.parameters.stuck, report.parameters.slow
        );
        rows.push(("cut", deliveries.unverified_closed, false, words));
    }
    out.push_str("<table>");
    for (name, count, is_fault, words) in rows {
        let class = if is_fault && count > 0 { "n bad" } else { "n" };
        let _ = write!(
            out,
            "<tr><th>{name}</th><td class=\"{class}\">{}</td><td>{}</td></tr>",
            show_count(count),
            escape(&words)
        );
    }
    out.push_str("</table>\n");
    for (words, count) in deliveries.closed_by_words.iter().chain(&deliveries.errors_by_words) {
        let _ = writeln!(out, "<p class=\"dim\">{} × {}</p>", show_count(*count), escape(words));
    }
    let checks: Vec<String> = report
        .checks
        .iter()
        .filter(|check| check.is_named)
        .map(|check| match &check.missed {
            None => format!("{} held", check.threshold),
            Some(missed) => format!("missed: {missed}"),
        })
        .collect();
    if !checks.is_empty() {
        let _ = writeln!(out, "<p>Asked for with <code>--expect</code>: {}.</p>", escape(&checks.join("; ")));
    }
}
