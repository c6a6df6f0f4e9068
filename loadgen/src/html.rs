//! `--html`: the report as one page that needs nothing but itself: no script, no font, no picture from elsewhere.
//!
//! ```text
//! what was run, verdict ─▶ four figures ─▶ latency by percentile ─▶ time line ─▶ tables, how to read it, the command
//! ```
//!
//! The plots are inline SVG in the page's own colours, light and dark. Whatever a server or a command line has said is
//! escaped.

use std::fmt::Write;

use crate::report::Report;
use crate::table;
use crate::units::{show_bytes, show_count, show_nanos, show_rate};

/// Size of a plot and its margins, in SVG units.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b2126;--dim:#5b6670;--line:#d5dbe0;--page:#fbfcfd;--card:#fff;--a:#0b66c3;--b:#b4530a;--c:#7a3fb5;--good:#12733b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaee;--dim:#9aa6b1;--line:#364049;--page:#14181c;--card:#1b2126;--a:#5aa9f5;--b:#eda15a;--c:#c094ee;--good:#58c98a;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:940px;margin:0 auto;padding:28px 20px 60px}h1{font-size:22px;margin:0 0 6px}h2{font-size:17px;margin:34px 0 6px}
p{margin:6px 0}.dim{color:var(--dim)}.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:18px 0}
.figures div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.figures b{display:block;font-size:22px;font-variant-numeric:tabular-nums}.figures span{color:var(--dim);font-size:13px}
svg{display:block;width:100%;height:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;margin:10px 0}
svg text{fill:var(--dim);font:12px system-ui,sans-serif}.grid{stroke:var(--line);stroke-width:1}
.a{stroke:var(--a)}.b{stroke:var(--b)}.c{stroke:var(--c)}polyline{fill:none;stroke-width:2}
svg text.a{fill:var(--a);stroke:none}svg text.b{fill:var(--b);stroke:none}svg text.c{fill:var(--c);stroke:none}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}td,th{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:500;color:var(--dim);width:220px}pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere}
.warning{border-left:4px solid var(--bad);padding:2px 12px;margin:10px 0}";

/// The page.
pub fn html(report: &Report) -> String {
    let mut out = String::with_capacity(32 * 1024);
    let headline = table::headline(report);
    let class = if report.exit_code == 0 { "pass" } else { "fail" };
    // A String takes everything, here and below.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{0}</title>\
         <style>{STYLE}</style></head><body><main>\n<h1>{0}</h1>\n<p class=\"{class}\">{1}</p>\n",
        escape(&headline),
        escape(&table::verdict(report))
    );
    let warnings = report.ended_early.iter().chain(&report.warnings);
    for words in warnings.chain(report.checks.iter().filter_map(|check| check.missed.as_ref())) {
        let _ = writeln!(out, "<p class=\"warning\">{}</p>", escape(words));
    }
    if report.parameters.loop_kind != "idle" {
        figures(&mut out, report);
        percentiles(&mut out, report);
        time_line(&mut out, report);
    }
    tables(&mut out, report);
    out.push_str("</main></body></html>\n");
    out
}

fn figures(out: &mut String, report: &Report) {
    let (deliveries, latency) = (&report.deliveries, &report.latency);
    let cost = report.server.as_ref().and_then(|server| server.cost.as_ref());
    let made = made(report);
    let mut figures = vec![
        (show_rate(deliveries.per_second), format!("{made} per second")),
        (show_nanos(latency.p50_ns), "median latency".to_owned()),
        (show_nanos(latency.p99_ns), "99 % are not slower".to_owned()),
    ];
    if let Some(cpu) = cost.and_then(|cost| cost.cpu_ns_per_delivery) {
        figures.push((show_nanos(cpu), format!("server CPU for each of the {made}")));
    } else {
        figures.push((show_nanos(latency.max_ns), "slowest".to_owned()));
    }
    out.push_str("<div class=\"figures\">");
    for (figure, words) in figures {
        let _ = write!(out, "<div><b>{figure}</b><span>{words}</span></div>");
    }
    out.push_str("</div>\n");
}

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
        "<p class=\"dim\">How long the share of {} on the horizontal axis took at most, counted from {}. Both axes are \
         logarithmic; each further nine is a tenth of the {0} before.</p>",
        made(report),
        from(report)
    );
    let points: Vec<(f64, f64)> = report
        .latency_by_percentile
        .iter()
        .filter(|point| point.quantile < 1.0)
        .map(|point| ((1.0 / (1.0 - point.quantile)).log10(), point.nanos.max(1.0).log10()))
        .collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        out.push_str("<p>Nothing was measured.</p>\n");
        return;
    };
    // Beyond one of all there is nothing to see.
    let nines = last.0.min((report.latency.count as f64).log10()).ceil().max(1.0);
    let (low, high) = (first.1.floor(), last.1.ceil().max(first.1.floor() + 1.0));
    let plot = Plot { x: (0.0, nines), y: (low, high), top: TOP, bottom: HEIGHT - BOTTOM };
    begin(out, "Latency by percentile", HEIGHT);
    for nine in 0..=nines as i32 {
        let words = match nine {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            n => format!("99.{} %", "9".repeat(n as usize - 2)),
        };
        plot.tick_x(out, f64::from(nine), &words);
    }
    for power in low as i32..=high as i32 {
        plot.tick_y(out, f64::from(power), &show_nanos(10f64.powi(power)));
    }
    plot.line(out, "a", points.into_iter().filter(|point| point.0 <= nines));
    out.push_str("</svg>\n");
}

/// Rate above, latencies below, second by second.
fn time_line(out: &mut String, report: &Report) {
    out.push_str("<h2>Time line</h2>\n");
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
        "<p class=\"dim\">Above the {made} of each second, below their latencies (logarithmic). A server that stalls \
         shows as a dip above and a peak below.</p>"
    );
    let x = (0.0, (seconds.len() - 1) as f64);
    let middle = HEIGHT * 0.75;
    let height = HEIGHT * 1.6;
    begin(out, "Time line", height);
    let peak = seconds.iter().map(|second| second.deliveries).max().unwrap_or(0).max(1) as f64;
    let rate = Plot { x, y: (0.0, peak * 1.1), top: TOP, bottom: middle - 32.0 };
    for share in [0.0, 0.5, 1.0] {
        rate.tick_y(out, peak * share, &show_rate(peak * share));
    }
    rate.line(out, "a", seconds.iter().enumerate().map(|(n, second)| (n as f64, second.deliveries as f64)));
    let log = |nanos: f64| nanos.max(1_000.0).log10();
    let low = seconds.iter().map(|second| log(second.p50_ns)).fold(f64::MAX, f64::min).floor();
    let high = seconds.iter().map(|second| log(second.max_ns)).fold(low + 1.0, f64::max).ceil();
    let latency = Plot { x, y: (low, high), top: middle, bottom: height - BOTTOM };
    for power in low as i32..=high as i32 {
        latency.tick_y(out, f64::from(power), &show_nanos(10f64.powi(power)));
    }
    let step = seconds.len().div_ceil(10);
    for second in (0..seconds.len()).step_by(step) {
        latency.tick_x(out, second as f64, &format!("{} s", second + 1));
    }
    let at = |which: fn(&crate::report::Second) -> f64| {
        seconds.iter().enumerate().map(move |(n, second)| (n as f64, log(which(second))))
    };
    latency.line(out, "a", at(|second| second.p50_ns));
    latency.line(out, "b", at(|second| second.p99_ns));
    latency.line(out, "c", at(|second| second.max_ns));
    for (index, (class, words)) in [("a", "median"), ("b", "99 %"), ("c", "slowest")].into_iter().enumerate()
    {
        let place = WIDTH - RIGHT - 190.0 + 70.0 * index as f64;
        let _ = write!(out, "<text class=\"{class}\" x=\"{place}\" y=\"{}\">{words}</text>", middle - 10.0);
    }
    out.push_str("</svg>\n");
}

fn tables(out: &mut String, report: &Report) {
    let (parameters, deliveries, latency) = (&report.parameters, &report.deliveries, &report.latency);
    let is_idle = parameters.loop_kind == "idle";
    let mut rows: Vec<(&str, String)> = Vec::new();
    if !is_idle {
        rows.push((
            "latency",
            [
                ("mean", latency.mean_ns),
                ("p50", latency.p50_ns),
                ("p90", latency.p90_ns),
                ("p99", latency.p99_ns),
                ("p99.9", latency.p999_ns),
                ("p99.99", latency.p9999_ns),
                ("max", latency.max_ns),
            ]
            .map(|(name, nanos)| format!("{name} {}", show_nanos(nanos)))
            .join(", "),
        ));
        rows.push(("counted from", from(report).to_owned()));
        rows.push((
            "in the whole run",
            format!(
                "{} of {} {}",
                show_count(deliveries.total),
                show_count(deliveries.expected),
                made(report)
            ),
        ));
        rows.push((
            "measured",
            format!("{:.1} s after {:.1} s of warm-up", deliveries.measured_s, parameters.warmup_s),
        ));
    }
    if let Some(logins) = &report.logins {
        rows.push((
            "logins",
            format!(
                "{} at {} /s, {} failed, p50 {}, p99 {}",
                show_count(logins.completed),
                show_rate(logins.rate),
                show_count(logins.failed),
                show_nanos(logins.latency.p50_ns),
                show_nanos(logins.latency.p99_ns)
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
            rows.push(("server CPUs busy", format!("{:.2}", cost.cpus)));
        }
    }
    for (words, count) in deliveries.closed_by_words.iter().chain(&deliveries.errors_by_words) {
        rows.push(("cause", format!("{} x {words}", show_count(*count))));
    }
    table_of(out, "Figures", &rows);
    let generator = &report.generator;
    let machine = &report.machine;
    table_of(
        out,
        "Where it was measured",
        &[
            (
                "machine",
                format!(
                    "{}, {} CPUs, {}",
                    machine.cpu,
                    machine.cpus,
                    show_bytes(machine.memory_bytes as f64)
                ),
            ),
            ("kernel", format!("{}, {}", machine.kernel, machine.architecture)),
            (
                "clock and governor",
                format!(
                    "{}, {}",
                    machine.clock_source.as_deref().unwrap_or("clock not known"),
                    machine.cpu_governor.as_deref().unwrap_or("governor not known")
                ),
            ),
            (
                "server",
                format!(
                    "{} at {}",
                    report.server_agent.as_deref().unwrap_or("without a name"),
                    parameters.url
                ),
            ),
            (
                "generator",
                format!(
                    "{} {}, {} threads, busiest {:.0} %, send lag p99 {}",
                    machine.generator_version,
                    machine.generator_profile,
                    parameters.threads,
                    generator.busy_max * 100.0,
                    show_nanos(generator.send_lag.p99_ns)
                ),
            ),
            ("started", format!("{} s after 1970-01-01 UTC", machine.started_unix_s)),
        ],
    );
    out.push_str("<h2>How to read it</h2>\n");
    let reading = match parameters.loop_kind {
        "closed" => {
            "Closed loop: each sender waits for what it has sent, so a slow server slows the load too. Good for capacity \
             and CPU cost, not for latency."
        }
        "open" => {
            "Open loop: what is sent has a timetable that no answer can delay, and latency counts from the timetable: \
             waiting of any kind is in it. Send lag is the part that the generator itself caused."
        }
        _ => "Connections were held and nothing was sent.",
    };
    let _ = writeln!(out, "<p>{reading}</p>");
    out.push_str(
        "<p>Every payload says who sent it and which one it is; the counts in the verdict come from these marks, not from \
         the server. A generator on the server's own CPUs measures both.</p>\n",
    );
    let command = machine.command_line.join(" ");
    let _ = writeln!(out, "<h2>To repeat it</h2>\n<pre>{}</pre>", escape(&command));
    if let Some(server) = &report.server {
        let _ = writeln!(out, "<pre>{}</pre>", escape(&server.command_line.join(" ")));
    }
}

fn table_of(out: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = write!(out, "<h2>{title}</h2>\n<table>");
    for (name, words) in rows {
        let _ = write!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(words));
    }
    out.push_str("</table>\n");
}

fn from(report: &Report) -> &'static str {
    match (report.parameters.scenario, report.parameters.loop_kind) {
        ("connect", _) => "the planned time of the login to its WELCOME",
        (_, "open") => "the planned time of sending",
        _ => "sending (closed loop)",
    }
}

fn begin(out: &mut String, name: &str, height: f64) {
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{name}\">");
}

/// Maps figures to places.
struct Plot {
    x: (f64, f64),
    y: (f64, f64),
    top: f64,
    bottom: f64,
}

impl Plot {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| ((value - low) / (high - low)).clamp(0.0, 1.0);
        (
            LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT),
            self.bottom - share(y, self.y) * (self.bottom - self.top),
        )
    }

    fn tick_x(&self, out: &mut String, value: f64, words: &str) {
        let (x, _) = self.place((value, self.y.0));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{words}</text>",
            self.top,
            self.bottom,
            self.bottom + 20.0
        );
    }

    fn tick_y(&self, out: &mut String, value: f64, words: &str) {
        let (_, y) = self.place((self.x.0, value));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{words}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0
        );
    }

    fn line(&self, out: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let _ = write!(out, "<polyline class=\"{class}\" points=\"");
        for point in points {
            let (x, y) = self.place(point);
            let _ = write!(out, "{x:.1},{y:.1} ");
        }
        out.push_str("\"/>");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_cannot_become_markup() {
        assert_eq!(escape("<script>\"&\""), "&lt;script&gt;&quot;&amp;&quot;");
    }

    #[test]
    fn figures_stay_inside_the_plot() {
        let plot = Plot { x: (0.0, 2.0), y: (0.0, 10.0), top: 10.0, bottom: 110.0 };
        assert_eq!(plot.place((0.0, 0.0)), (LEFT, 110.0));
        assert_eq!(plot.place((2.0, 10.0)), (WIDTH - RIGHT, 10.0));
        assert_eq!(plot.place((9.0, 99.0)), (WIDTH - RIGHT, 10.0));
    }
}
