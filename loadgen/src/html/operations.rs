//! The part of the page about what is counted beside the deliveries: calls, subscriptions.

use std::fmt::Write;

use super::plot::{Axis, Chart, Series, draw};
use super::{capital, escape, show_power};
use crate::report::Report;
use crate::table;
use crate::units::{show_count, show_nanos, show_rate};

/// Colours of the lines, in the order of the operations.
const CLASSES: [&str; 4] = ["a", "b", "c", "d"];

/// A table of all operations, and the latency of each second by second.
pub fn section(out: &mut String, report: &Report) {
    if report.operations.is_empty() {
        return;
    }
    out.push_str("<h2>Beside the deliveries</h2>\n");
    if let Some(words) = table::beside(report) {
        let _ = writeln!(out, "<p>{}.</p>", escape(&capital(&words)));
    }
    out.push_str(
        "<p class=\"dim\">Requests with an answer. Their latency counts from their planned time to the answer, whatever else \
         goes on.</p>\n<div class=\"scroll\"><table><thead><tr><th></th>",
    );
    for name in ["answers /s", "answered", "errors", "median", "99 %", "99.9 %", "slowest"] {
        let _ = write!(out, "<th class=\"n\">{name}</th>");
    }
    out.push_str("</tr></thead>");
    for operation in &report.operations {
        let latency = &operation.latency;
        let _ = write!(out, "<tr><th>{}</th>", operation.name);
        for words in [
            show_rate(operation.per_second),
            format!("{} of {}", show_count(operation.done), show_count(operation.begun)),
            show_count(operation.failed),
            show_nanos(latency.p50_ns),
            show_nanos(latency.p99_ns),
            show_nanos(latency.p999_ns),
            show_nanos(latency.max_ns),
        ] {
            let _ = write!(out, "<td class=\"n\">{words}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>\n");
    time_line(out, report);
}

fn time_line(out: &mut String, report: &Report) {
    let seconds = &report.timeline;
    if seconds.len() < 2 {
        return;
    }
    let series: Vec<Series> = report
        .operations
        .iter()
        .enumerate()
        .map(|(index, operation)| {
            let points = seconds.iter().filter_map(|second| {
                let figures = second.operations.get(index).filter(|figures| figures.count > 0)?;
                let number = second.second + 1;
                let words = format!(
                    "second {number}: {} 99 % {}, slowest {}",
                    operation.name,
                    show_nanos(figures.p99_ns),
                    show_nanos(figures.max_ns)
                );
                Some((number as f64, figures.p99_ns, words))
            });
            Series { name: operation.name.to_owned(), class: CLASSES[index % 4], points: points.collect() }
        })
        .collect();
    let all = || series.iter().flat_map(|series| &series.points).map(|point| point.1);
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(1_000.0, f64::max));
    let marks = report.parameters.alone_s.map(|alone| (alone + 1.0, "the broadcast begins".to_owned()));
    out.push_str("<p class=\"dim\"><b>99 % of each second</b></p>\n");
    draw(
        out,
        &Chart {
            name: "Latency of the operations by second",
            x: Axis::seconds(seconds.len()),
            y: Axis::log(low.min(high), high, show_power),
            series,
            marks: marks.into_iter().collect(),
            is_filled: false,
        },
    );
}
