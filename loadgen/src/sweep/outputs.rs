//! The results of a sweep as a table, as CSV and as JSON.

use std::fmt::Write;

use super::{Step, SweepReport};
use crate::report::Report;
use crate::table;
use crate::units::{show_nanos, show_rate};

/// The columns of table, page and CSV have the same figures in different words.
const COLUMNS: [&str; 9] =
    ["/s", "of planned", "p50", "p99", "max", "CPU each", "server CPUs", "generator", "verdict"];

/// The cells of one step.
pub fn cells(step: &Step) -> [String; 9] {
    let Some(report) = &step.report else {
        return [""; 9].map(str::to_owned);
    };
    let cost = report.server.as_ref().and_then(|server| server.cost.as_ref());
    let none = || "-".to_owned();
    [
        show_rate(report.deliveries.per_second),
        step.followed.map_or_else(none, |share| format!("{:.0} %", share * 100.0)),
        show_nanos(report.latency.p50_ns),
        show_nanos(report.latency.p99_ns),
        show_nanos(report.latency.max_ns),
        cost.and_then(|cost| cost.cpu_ns_per_delivery).map_or_else(none, show_nanos),
        cost.map_or_else(none, |cost| format!("{:.2}", cost.cpus)),
        format!("{:.0} %", report.generator.busy_max * 100.0),
        verdict(report),
    ]
}

/// The names of the cells.
pub fn columns() -> [&'static str; 9] {
    COLUMNS
}

fn verdict(report: &Report) -> String {
    match report.exit_code {
        0 => "PASS".to_owned(),
        code => format!("FAIL ({code})"),
    }
}

/// What was swept.
pub fn headline(sweep: &SweepReport) -> String {
    let values: Vec<&str> = sweep.steps.iter().map(|step| step.value.as_str()).collect();
    let scenario = sweep
        .steps
        .iter()
        .find_map(|step| step.report.as_ref())
        .map_or("", |report| report.parameters.scenario);
    format!("{scenario}: {} = {}", sweep.option, values.join(", "))
}

/// The final table.
pub fn table(sweep: &SweepReport) -> String {
    let mut rows =
        vec![[&[sweep.option.as_str()][..], &COLUMNS[..]].concat().iter().map(|s| (*s).to_owned()).collect()];
    for (index, step) in sweep.steps.iter().enumerate() {
        let mark = if sweep.knee == Some(index) { " <-" } else { "" };
        let mut row: Vec<String> = vec![format!("{}{mark}", step.value)];
        row.extend(cells(step));
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
    let mut out = format!("{}\n", headline(sweep));
    if let Some(report) = sweep.steps.first().and_then(|step| step.report.as_ref()) {
        let _ = writeln!(out, "  first step: {}", table::headline(report));
    }
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
    for words in &sweep.findings {
        let _ = writeln!(out, "  {words}");
    }
    out
}

/// One row per step; what was not measured is empty.
pub fn csv(sweep: &SweepReport) -> String {
    let mut out = String::from(
        "option,value,sent_per_second,deliveries_per_second,followed,mean_us,p50_us,p90_us,p99_us,p999_us,max_us,lost,\
         out_of_order,duplicates,corrupt,closed,errors,messages_per_receive,server_cpu_ns_per_delivery,\
         server_user_ns_per_delivery,server_cpus,server_rss_bytes_per_connection,generator_busy,send_lag_p99_us,call_p50_us,\
         call_p99_us,exit_code\n",
    );
    for step in &sweep.steps {
        let Some(report) = &step.report else { continue };
        let (deliveries, latency) = (&report.deliveries, &report.latency);
        let cost = report.server.as_ref().and_then(|server| server.cost.as_ref());
        let known = |figure: Option<f64>| figure.map_or(String::new(), |figure| format!("{figure:.3}"));
        let micros = |nanos: f64| known(Some(nanos / 1e3));
        // The calls (or probes) beside the rest, the last of the operations of that kind.
        let is_call = |name: &str| name.starts_with("call") || name.starts_with("probe");
        let calls = report.operations.iter().rfind(|operation| is_call(operation.name));
        let row = [
            sweep.option.clone(),
            step.value.clone(),
            known(Some(deliveries.sent_per_second)),
            known(Some(deliveries.per_second)),
            known(step.followed),
            micros(latency.mean_ns),
            micros(latency.p50_ns),
            micros(latency.p90_ns),
            micros(latency.p99_ns),
            micros(latency.p999_ns),
            micros(latency.max_ns),
            deliveries.lost.to_string(),
            deliveries.out_of_order.to_string(),
            deliveries.duplicates.to_string(),
            deliveries.corrupt.to_string(),
            deliveries.closed.to_string(),
            deliveries.errors.to_string(),
            known(Some(deliveries.messages_per_receive)),
            known(cost.and_then(|cost| cost.cpu_ns_per_delivery)),
            known(cost.and_then(|cost| cost.user_ns_per_delivery)),
            known(cost.map(|cost| cost.cpus)),
            known(report.server.as_ref().map(|server| server.rss_per_connection_bytes)),
            known(Some(report.generator.busy_max)),
            micros(report.generator.send_lag.p99_ns),
            known(calls.map(|calls| calls.latency.p50_ns / 1e3)),
            known(calls.map(|calls| calls.latency.p99_ns / 1e3)),
            report.exit_code.to_string(),
        ];
        let _ = writeln!(out, "{}", row.join(","));
    }
    out
}

/// Everything.
pub fn json(sweep: &SweepReport) -> String {
    let mut text = serde_json::to_string_pretty(sweep).expect("a report has only names as keys");
    text.push('\n');
    text
}

/// A page with a plot per figure.
pub fn html(sweep: &SweepReport) -> String {
    super::page::page(sweep)
}
