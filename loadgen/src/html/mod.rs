//! `--html`: the report as one page that needs nothing but itself: no script, no font, no picture from elsewhere.
//!
//! ```text
//! what was run, verdict ─▶ key figures ─▶ latency by percentile ─▶ time lines ─▶ what was checked ─▶ tables, the command
//! ```
//!
//! The plots are inline SVG in the page's own colours, light and dark. Whatever a server or a command line has said is
//! escaped. The words beside the figures are here, what is computed is in `report.rs`.

mod checked;
mod operations;
pub mod plot;

use std::fmt::Write;

use plot::{Axis, Chart, Series, draw};

use crate::report::Report;
use crate::table;
use crate::timeline::Second;
use crate::units::{show_bytes, show_count, show_nanos, show_rate, show_utc};

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn html(report: &Report) -> String {
    let mut out = String::with_capacity(48 * 1024);
    begin(&mut out, &table::headline(report));
    let verdict = table::verdict(report);
    let (word, words) = verdict.split_once(": ").unwrap_or(("", &verdict));
    let class = if report.exit_code == 0 { "" } else { " fail" };
    // A String takes everything, here and below.
    let _ = writeln!(out, "<p class=\"verdict{class}\"><b>{word}</b><span>{}</span></p>", escape(words));
    let _ = writeln!(
        out,
        "<p class=\"dim\">{} at {}, {}</p>",
        escape(report.server_agent.as_deref().unwrap_or("a server without a name")),
        escape(&report.parameters.url),
        show_utc(report.machine.started_unix_s)
    );
    let warnings = report.ended_early.iter().chain(&report.warnings);
    for words in warnings.chain(report.checks.iter().filter_map(|check| check.missed.as_ref())) {
        let _ = writeln!(out, "<p class=\"warning\">{}</p>", escape(words));
    }
    figures(&mut out, report);
    if report.parameters.loop_kind != "idle" {
        percentiles(&mut out, report);
        time_line(&mut out, report);
        operations::section(&mut out, report);
    }
    checked::table(&mut out, report);
    reading(&mut out, report);
    surroundings(&mut out, report);
    repeat(&mut out, report);
    end(&mut out);
    out
}

/// Up to the title.
pub fn begin(out: &mut String, title: &str) {
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{0}</title>\n\
         <style>\n{STYLE}</style></head>\n<body><main>\n<h1>{0}</h1>\n",
        escape(title)
    );
}

/// The end of a page.
pub fn end(out: &mut String) {
    out.push_str("</main></body></html>\n");
}

/// Text as it may stand in the page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// With a capital letter, as a sentence begins.
pub fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Rows of a name and words.
pub fn table_of(out: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = write!(out, "<h2>{title}</h2>\n<table>");
    for (name, words) in rows {
        let _ = write!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(words));
    }
    out.push_str("</table>\n");
}

fn figures(out: &mut String, report: &Report) {
    let (deliveries, latency) = (&report.deliveries, &report.latency);
    let made = made(report);
    let mut figures = Vec::new();
    if report.parameters.loop_kind != "idle" {
        figures.push((show_rate(deliveries.per_second), format!("{made} per second")));
        figures.push((show_nanos(latency.p50_ns), "median latency".to_owned()));
        figures.push((show_nanos(latency.p99_ns), "99 % are not slower".to_owned()));
        figures.push((show_nanos(latency.max_ns), "the slowest".to_owned()));
    }
    if let Some(server) = &report.server {
        if let Some(cost) = &server.cost {
            match cost.cpu_ns_per_delivery {
                Some(cpu) => {
                    figures.push((show_nanos(cpu), format!("of server CPU for each of the {made}")));
                    figures.push((format!("{:.2}", cost.cpus), "CPUs busy with the server".to_owned()));
                }
                None => figures.push((
                    show_nanos(cost.cpu_ns_per_second),
                    "of server CPU per second while nothing happens".to_owned(),
                )),
            }
        }
        // Logins leave again: nothing is held that memory could be divided by.
        if report.parameters.scenario != "connect" {
            let memory = show_bytes(server.rss_per_connection_bytes);
            figures.push((memory, "server memory per connection".to_owned()));
        }
    }
    if report.parameters.loop_kind == "idle" {
        figures.insert(0, (show_count(report.parameters.connections as u64), "connections held".to_owned()));
        figures.insert(1, (show_nanos(report.connect_s * 1e9), "until all were ready".to_owned()));
    }
    out.push_str("<div class=\"figures\">");
    for (figure, words) in figures {
        let _ = write!(out, "<div><b>{figure}</b><span>{words}</span></div>");
    }
    out.push_str("</div>\n");
}

/// What the run is about, in the plural.
fn made(report: &Report) -> &'static str {
    match report.parameters.scenario {
        "rpc" => "results",
        "connect" => "logins",
        _ => "deliveries",
    }
}

/// Latency over the share of messages, the share as 1/(1-p): each nine is as wide as the one before.
fn percentiles(out: &mut String, report: &Report) {
    out.push_str("<h2>Latency by percentile</h2>\n");
    let _ = writeln!(
        out,
        "<p class=\"dim\">How long the share of the {} on the horizontal axis took at most, counted from {}. Each further \
         nine is a tenth of the {0} before; the steps of the vertical axis are tenfold.</p>",
        made(report),
        from(report)
    );
    // The largest of a count of n is drawn where 1/n of all is left.
    let nines_of = |quantile: f64| (1.0 / (1.0 - quantile)).log10();
    let nines_max = (report.latency.count.max(10) as f64).log10();
    let points: Vec<(f64, f64, String)> = report
        .latency_by_percentile
        .iter()
        .map(|point| {
            let x = nines_of(point.quantile).min(nines_max);
            (x, point.nanos, format!("{:.4} %: {}", point.quantile * 100.0, show_nanos(point.nanos)))
        })
        .collect();
    if points.is_empty() {
        out.push_str("<p>Nothing was measured.</p>\n");
        return;
    }
    let ticks = (0..=nines_max.ceil() as usize).map(|nines| (nines as f64, show_nines(nines))).collect();
    let (low, high) = (points[0].1, points[points.len() - 1].1);
    let chart = Chart {
        name: "Latency by percentile",
        x: Axis::at(ticks, false),
        y: Axis::log(low, high, show_power),
        series: vec![Series { name: "latency".to_owned(), class: "a", points }],
        marks: Vec::new(),
        is_filled: false,
    };
    draw(out, &chart);
    let latency = &report.latency;
    let columns = [
        ("mean", latency.mean_ns),
        ("50 %", latency.p50_ns),
        ("90 %", latency.p90_ns),
        ("99 %", latency.p99_ns),
        ("99.9 %", latency.p999_ns),
        ("99.99 %", latency.p9999_ns),
        ("slowest", latency.max_ns),
    ];
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for (name, _) in columns {
        let _ = write!(out, "<th class=\"n\">{name}</th>");
    }
    out.push_str("</tr></thead><tr>");
    for (_, nanos) in columns {
        let _ = write!(out, "<td class=\"n\">{}</td>", show_nanos(nanos));
    }
    out.push_str("</tr></table></div>\n");
}

fn show_nines(nines: usize) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        n => format!("99.{} %", "9".repeat(n - 2)),
    }
}

/// Rate, latencies and CPU, second by second.
fn time_line(out: &mut String, report: &Report) {
    out.push_str("<h2>Second by second</h2>\n");
    let seconds = &report.timeline;
    if seconds.len() < 2 {
        out.push_str(
            "<p class=\"dim\">It takes two whole seconds (<code>--duration 2s</code>) to draw one.</p>\n",
        );
        return;
    }
    let made = made(report);
    let _ = writeln!(
        out,
        "<p class=\"dim\">The measured part, without the warm-up. A server that stalls shows as a dip in the {made} and a \
         peak in the latencies of the same second.</p>"
    );
    let x = Axis::seconds(seconds.len());
    let line = |name: &str, class, which: &dyn Fn(&Second) -> Option<(f64, String)>| Series {
        name: name.to_owned(),
        class,
        points: seconds
            .iter()
            .filter_map(|second| {
                let (value, words) = which(second)?;
                let number = second.second + 1;
                Some((number as f64, value, format!("second {number}: {words}")))
            })
            .collect(),
    };
    let plot = |out: &mut String, name: &str, y, series, is_filled| {
        draw(out, &Chart { name, x: x.clone(), y, series, marks: Vec::new(), is_filled });
    };
    let _ = writeln!(out, "<p class=\"dim\"><b>{made} per second</b></p>");
    let peak = seconds.iter().map(|second| second.deliveries).max().unwrap_or(0) as f64;
    let rate = line(made, "a", &|second| {
        Some((second.deliveries as f64, format!("{} {made}", show_count(second.deliveries))))
    });
    plot(out, "Rate by second", Axis::linear(peak, show_short), vec![rate], true);
    out.push_str("<p class=\"dim\"><b>latency</b></p>\n");
    let low =
        seconds.iter().map(|second| second.p50_ns).filter(|nanos| *nanos > 0.0).fold(f64::MAX, f64::min);
    let high = seconds.iter().map(|second| second.max_ns).fold(1_000.0, f64::max);
    let latency = |name: &str, class, which: fn(&Second) -> f64| {
        line(name, class, &|second| {
            let nanos = which(second);
            (nanos > 0.0).then(|| (nanos, format!("{name} {}", show_nanos(nanos))))
        })
    };
    let lines = vec![
        latency("median", "a", |second| second.p50_ns),
        latency("99 %", "b", |second| second.p99_ns),
        latency("slowest", "c", |second| second.max_ns),
    ];
    plot(out, "Latency by second", Axis::log(low.min(high), high, show_power), lines, false);
    let mut lines = Vec::new();
    if seconds.iter().any(|second| second.server_cpus.is_some()) {
        lines.push(line("server, all its threads", "a", &|second| {
            second.server_cpus.map(|cpus| (cpus, format!("server {cpus:.2} CPUs")))
        }));
    }
    lines.push(line("generator, its busiest thread", "b", &|second| {
        Some((second.generator_busy, format!("generator {:.0} % of one CPU", second.generator_busy * 100.0)))
    }));
    let high = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.5, f64::max);
    let words =
        if lines.len() > 1 { "CPUs busy" } else { "CPUs busy (the server's with <code>--server-pid</code>)" };
    let _ = writeln!(out, "<p class=\"dim\"><b>{words}</b></p>");
    plot(out, "CPUs busy by second", Axis::linear(high, |cpus| format!("{cpus:.1}")), lines, false);
}

/// How to read the figures: the rule that they depend on.
fn reading(out: &mut String, report: &Report) {
    let parameters = &report.parameters;
    out.push_str("<h2>How to read it</h2>\n");
    let words = match (parameters.scenario, parameters.loop_kind) {
        ("connect", _) => {
            "Logins have a timetable that no answer can delay, and their latency counts from the timetable to WELCOME: TCP, \
             WebSocket and HELLO, and the wait for a free place if the server is too slow for the rate."
        }
        (_, "closed") => {
            "Closed loop: each sender waits for what it has sent before, so a slow server slows the load too. The rate is \
             what the server can do at this window; the latency counts from sending and says little about a server that \
             is not at its limit. For latencies give a <code>--rate</code>."
        }
        (_, "open") => {
            "Open loop: messages have a timetable that no answer can delay, and latency counts from the timetable, not from \
             the moment of sending. So waiting of any kind is in it: in the server, in the network, and in the generator, \
             whose own part is the <i>send lag</i> below."
        }
        _ => {
            "Connections were held and nothing was sent; the server's memory and CPU time are what this costs."
        }
    };
    let _ = writeln!(out, "<p>{words}</p>");
    match parameters.window_by {
        Some("average") => out.push_str(
            "<p>Window by average: a publication counts as arrived in proportion to the subscribers that have it. A server \
             may run ahead with some of them, which flatters coalescing and rate; <code>--window-by slowest</code> does \
             not allow that.</p>\n",
        ),
        Some(_) => out.push_str(
            "<p>Window by slowest: a publication counts as arrived when the last subscriber has it.</p>\n",
        ),
        None => {}
    }
    if report.server.is_some() {
        out.push_str(
            "<p>The server's CPU time is that of its process, kernel included. On one machine (loopback) the kernel bills \
             the receiver's half of each message to the sender. Memory is resident memory; the kernel's socket buffers \
             come on top.</p>\n",
        );
    }
    out.push_str(
        "<p>A generator that shares CPUs with the server measures both. Two runs of one server differ too, in the slowest \
         of a thousand easily by half: repeat them before you believe a difference.</p>\n",
    );
}

fn surroundings(out: &mut String, report: &Report) {
    let (parameters, deliveries) = (&report.parameters, &report.deliveries);
    let (generator, machine) = (&report.generator, &report.machine);
    let mut rows = Vec::new();
    if parameters.loop_kind != "idle" {
        rows.push((
            "measured part",
            format!("{:.1} s, after {:.1} s of the same load", deliveries.measured_s, parameters.warmup_s),
        ));
    }
    if deliveries.messages_per_receive > 0.0 && parameters.scenario != "connect" {
        rows.push((
            "coalescing",
            format!(
                "{:.2} messages for each receive of a subscriber, {:.1} B received for each message",
                deliveries.messages_per_receive,
                deliveries.received_bytes_per_second / deliveries.per_second.max(1.0)
            ),
        ));
    }
    if let Some(server) = &report.server {
        rows.push((
            "server memory",
            format!(
                "{} before, {} with {} connections",
                show_bytes(server.rss_before_bytes as f64),
                show_bytes(server.rss_ready_bytes as f64),
                show_count(parameters.connections as u64)
            ),
        ));
        if let Some(cost) = &server.cost {
            let user = cost.user_ns_per_delivery.map_or(String::new(), |user| {
                format!("{} in user mode for each of the {}; ", show_nanos(user), made(report))
            });
            rows.push((
                "server process",
                format!(
                    "{user}{} threads, {} voluntary and {} involuntary context switches per second",
                    cost.threads,
                    show_rate(cost.voluntary_switches_per_second),
                    show_rate(cost.involuntary_switches_per_second)
                ),
            ));
        }
    }
    if let Some(count) = report.compressed_connections {
        rows.push(("compression", format!("agreed on {} connections", show_count(count))));
    }
    let lag = if parameters.loop_kind == "open" {
        format!(
            ", send lag 99 % {}, slowest {}",
            show_nanos(generator.send_lag.p99_ns),
            show_nanos(generator.send_lag.max_ns)
        )
    } else {
        String::new()
    };
    rows.push((
        "generator",
        format!(
            "{} {}, {}, busiest {:.0} %{lag}",
            machine.generator_version,
            machine.generator_profile,
            table::many(parameters.threads, "thread"),
            generator.busy_max * 100.0
        ),
    ));
    rows.push((
        "machine",
        format!("{}, {} CPUs, {}", machine.cpu, machine.cpus, show_bytes(machine.memory_bytes as f64)),
    ));
    rows.push((
        "system",
        format!(
            "{}, {}, clock {}, governor {}",
            machine.kernel,
            machine.architecture,
            machine.clock_source.as_deref().unwrap_or("not known"),
            machine.cpu_governor.as_deref().unwrap_or("not known")
        ),
    ));
    table_of(out, "Where and how it was measured", &rows);
}

fn repeat(out: &mut String, report: &Report) {
    let command = report.machine.command_line.join(" ");
    let _ = writeln!(out, "<h2>To repeat it</h2>\n<pre>{}</pre>", escape(&command));
    if let Some(server) = &report.server {
        let command = escape(&server.command_line.join(" "));
        let _ = writeln!(out, "<p class=\"dim\">against a server started as</p>\n<pre>{command}</pre>");
    }
}

/// Where a latency counts from.
fn from(report: &Report) -> &'static str {
    match (report.parameters.scenario, report.parameters.loop_kind) {
        ("connect", _) => "the planned time of the login to its WELCOME",
        (_, "open") => "the planned time of sending",
        _ => "sending",
    }
}

/// A power of ten nanoseconds for an axis.
pub fn show_power(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 999.0 => format!("{nanos:.0} ns"),
        nanos if nanos < 999e3 => format!("{:.0} µs", nanos / 1e3),
        nanos if nanos < 999e6 => format!("{:.0} ms", nanos / 1e6),
        nanos => format!("{:.0} s", nanos / 1e9),
    }
}

/// A rate for an axis.
pub fn show_short(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{} M", (rate / 1e4).round() / 100.0),
        rate if rate >= 1e3 => format!("{} k", (rate / 10.0).round() / 100.0),
        rate => format!("{}", (rate * 10.0).round() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_cannot_become_markup() {
        assert_eq!(escape("<script>\"&\""), "&lt;script&gt;&quot;&amp;&quot;");
    }

    #[test]
    fn rates_on_an_axis_are_short() {
        assert_eq!([1e3, 1e5, 1e7, 1e9].map(show_power), ["1 µs", "100 µs", "10 ms", "1 s"]);
        assert_eq!([0.0, 0.5, 250.0, 1_500.0, 2.5e6].map(show_short), ["0", "0.5", "250", "1.5 k", "2.5 M"]);
    }

    #[test]
    fn the_style_asks_nobody_for_anything() {
        for words in ["url(", "@import", "http", "<"] {
            assert!(!STYLE.contains(words), "{words}");
        }
    }
}
