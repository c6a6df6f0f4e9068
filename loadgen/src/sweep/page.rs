//! `--sweep … --html`: one plot for each figure, over the values of the option.

use std::fmt::Write;

use super::outputs::{cells, columns, headline};
use super::{Step, SweepReport};
use crate::html::plot::{Axis, Chart, Series, draw};
use crate::html::{begin, capital, end, escape, show_power, show_short, table_of};
use crate::report::Report;
use crate::table;
use crate::units::{show_bytes, show_nanos, show_rate, show_utc};

/// Values that lie further apart than this get a logarithmic axis.
const LOG_RATIO: f64 = 20.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Something that has a value in each step.
type Figure<'a> = &'a dyn Fn(&Report) -> Option<f64>;

/// The page.
pub fn page(sweep: &SweepReport) -> String {
    let mut out = String::with_capacity(48 * 1024);
    begin(&mut out, &headline(sweep));
    let (class, word) = if sweep.exit_code == 0 { ("", "PASS") } else { (" fail", "FAIL") };
    // A String takes everything, here and below.
    let _ = writeln!(
        out,
        "<p class=\"verdict{class}\"><b>{word}</b><span>{} of {} steps were without fault</span></p>",
        sweep
            .steps
            .iter()
            .filter(|step| step.report.as_ref().is_some_and(|report| report.exit_code == 0))
            .count(),
        sweep.steps.len()
    );
    let first = sweep.steps.iter().find_map(|step| step.report.as_ref());
    if let Some(report) = first {
        let _ = writeln!(
            out,
            "<p class=\"dim\">{} at {}, {}; first step: {}</p>",
            escape(report.server_agent.as_deref().unwrap_or("a server without a name")),
            escape(&report.parameters.url),
            show_utc(report.machine.started_unix_s),
            escape(&table::headline(report))
        );
    }
    out.push_str("<h2>What was found</h2>\n");
    for words in &sweep.findings {
        let _ = writeln!(out, "<p>{}.</p>", escape(&capital(words)));
    }
    out.push_str(
        "<p class=\"dim\">The knee is where throughput divided by mean latency is greatest: up to there more load brings mostly \
         throughput, beyond it mostly waiting.</p>\n",
    );
    steps(&mut out, sweep);
    if let Some(report) = first {
        plots(&mut out, sweep, report);
        surroundings(&mut out, report);
    }
    let _ = writeln!(out, "<h2>To repeat it</h2>\n<pre>{}</pre>", escape(&sweep.command_line.join(" ")));
    end(&mut out);
    out
}

fn steps(out: &mut String, sweep: &SweepReport) {
    let _ = write!(
        out,
        "<h2>The steps</h2>\n<div class=\"scroll\"><table><thead><tr><th>{}</th>",
        escape(&sweep.option)
    );
    for name in columns() {
        let _ = write!(out, "<th class=\"n\">{name}</th>");
    }
    out.push_str("</tr></thead>");
    for (index, step) in sweep.steps.iter().enumerate() {
        let knee = if sweep.knee == Some(index) { " (knee)" } else { "" };
        let _ = write!(out, "<tr><th>{}{knee}</th>", escape(&step.value));
        for cell in cells(step) {
            let class = if cell.starts_with("FAIL") { "n bad" } else { "n" };
            let _ = write!(out, "<td class=\"{class}\">{cell}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>\n");
}

fn plots(out: &mut String, sweep: &SweepReport, first: &Report) {
    let open = first.parameters.rate.is_some();
    let planned = |report: &Report| {
        let deliveries = &report.deliveries;
        let per_message = deliveries.expected as f64 / deliveries.sent.max(1) as f64;
        report.parameters.rate.map(|rate| rate * per_message)
    };
    let mut lines: Vec<(&str, &'static str, Figure<'_>)> =
        vec![("came", "a", &|report| Some(report.deliveries.per_second))];
    if open {
        lines.push(("planned", "b", &planned));
    }
    plot(out, sweep, "Throughput, per second", &lines, Scale::Linear(show_short), show_rate);
    let lines: [(&str, &'static str, Figure<'_>); 3] = [
        ("median", "a", &|report| Some(report.latency.p50_ns)),
        ("99 %", "b", &|report| Some(report.latency.p99_ns)),
        ("slowest", "c", &|report| Some(report.latency.max_ns)),
    ];
    let from = if open { "Latency, from the planned time of sending" } else { "Latency, from sending" };
    plot(out, sweep, from, &lines, Scale::Log, show_nanos);
    for name in first.operations.iter().map(|operation| operation.name) {
        let of = |report: &Report, which: fn(&crate::latency::LatencySummary) -> f64| {
            let operation = report.operations.iter().find(|operation| operation.name == name)?;
            (operation.latency.count > 0).then(|| which(&operation.latency))
        };
        let lines: [(&str, &'static str, Figure<'_>); 3] = [
            ("median", "a", &|report| of(report, |latency| latency.p50_ns)),
            ("99 %", "b", &|report| of(report, |latency| latency.p99_ns)),
            ("slowest", "c", &|report| of(report, |latency| latency.max_ns)),
        ];
        plot(out, sweep, &format!("Latency of: {name}"), &lines, Scale::Log, show_nanos);
    }
    let cost = |report: &Report| report.server.as_ref().and_then(|server| server.cost.clone());
    let lines: [(&str, &'static str, Figure<'_>); 2] = [
        ("server, each delivery", "a", &|report| cost(report)?.cpu_ns_per_delivery),
        ("of it in user mode", "b", &|report| cost(report)?.user_ns_per_delivery),
    ];
    plot(out, sweep, "Server CPU time", &lines, Scale::Linear(show_nanos), show_nanos);
    let cpus = |cpus: f64| format!("{cpus:.2}");
    let lines: [(&str, &'static str, Figure<'_>); 2] = [
        ("server, all its threads", "a", &|report| Some(cost(report)?.cpus)),
        ("generator, its busiest thread", "b", &|report| Some(report.generator.busy_max)),
    ];
    plot(out, sweep, "CPUs busy", &lines, Scale::Linear(|cpus| format!("{cpus:.1}")), cpus);
    let lines: [(&str, &'static str, Figure<'_>); 1] =
        [("messages for each receive", "a", &|report| Some(report.deliveries.messages_per_receive))];
    let times = |times: f64| format!("{times:.2}");
    plot(out, sweep, "Coalescing, messages for each receive", &lines, Scale::Linear(show_short), times);
    let lines: [(&str, &'static str, Figure<'_>); 1] =
        [("memory", "a", &|report| Some(report.server.as_ref()?.cost.as_ref()?.rss_bytes as f64 / MIB))];
    let mib = |mib: f64| format!("{mib:.1} MiB");
    plot(
        out,
        sweep,
        "Server memory at the end, resident",
        &lines,
        Scale::Linear(|mib| format!("{mib} MiB")),
        mib,
    );
}

enum Scale {
    Linear(fn(f64) -> String),
    Log,
}

fn plot(
    out: &mut String,
    sweep: &SweepReport,
    name: &str,
    lines: &[(&str, &'static str, Figure<'_>)],
    scale: Scale,
    show: impl Fn(f64) -> String,
) {
    let point = |step: &Step, figure: Figure<'_>, line: &str| {
        let value = figure(step.report.as_ref()?).filter(|value| value.is_finite())?;
        let words = format!("{} {}: {line} {}", sweep.option, step.value, show(value));
        Some((step.number, value, words))
    };
    let series: Vec<Series> = lines
        .iter()
        .map(|(line, class, figure)| Series {
            name: (*line).to_owned(),
            class,
            points: sweep.steps.iter().filter_map(|step| point(step, *figure, line)).collect(),
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let all = || series.iter().flat_map(|series| &series.points).map(|point| point.1);
    if all().next().is_none() {
        return;
    }
    let high = all().fold(0.0, f64::max);
    let y = match scale {
        Scale::Linear(show) => Axis::linear(high, show),
        Scale::Log => Axis::log(all().fold(f64::MAX, f64::min).max(1.0), high.max(10.0), show_power),
    };
    let knee = sweep.knee.map(|index| (sweep.steps[index].number, "knee".to_owned()));
    let _ = writeln!(out, "<h2>{}</h2>", escape(name));
    let chart =
        Chart { name, x: values(sweep), y, series, marks: knee.into_iter().collect(), is_filled: false };
    draw(out, &chart);
}

/// The axis of the option.
fn values(sweep: &SweepReport) -> Axis {
    let mut ticks: Vec<(f64, String)> =
        sweep.steps.iter().map(|step| (step.number, escape(&step.value))).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (low, high) = (ticks[0].0, ticks[ticks.len() - 1].0);
    Axis::at(ticks, sweep.is_numeric && low > 0.0 && high / low >= LOG_RATIO)
}

fn surroundings(out: &mut String, report: &Report) {
    let machine = &report.machine;
    let rows = [
        (
            "each step",
            format!(
                "{:.1} s after {:.1} s of warm-up",
                report.parameters.duration_s, report.parameters.warmup_s
            ),
        ),
        (
            "machine",
            format!("{}, {} CPUs, {}", machine.cpu, machine.cpus, show_bytes(machine.memory_bytes as f64)),
        ),
        ("system", format!("{}, {}", machine.kernel, machine.architecture)),
        (
            "generator",
            format!(
                "{} {}, {}",
                machine.generator_version,
                machine.generator_profile,
                table::many(report.parameters.threads, "thread")
            ),
        ),
    ];
    table_of(out, "Where it was measured", &rows);
}
