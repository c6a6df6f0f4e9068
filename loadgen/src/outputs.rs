//! Files that a run leaves behind. They are opened before the run: an hour's measurement is not lost to a wrong path.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::args::CommonArgs;
use crate::failure::{Exit, Failure};
use crate::html::html;
use crate::report::Report;
use crate::sweep::{SweepReport, outputs as sweep};

/// How a result is written down.
type Render<T> = fn(&T) -> String;

struct Output<T> {
    option: &'static str,
    name: String,
    /// `None` is the standard output.
    file: Option<File>,
    render: Render<T>,
}

/// All that the command line asks for of one kind of result.
pub struct Outputs<T>(Vec<Output<T>>);

impl Outputs<Report> {
    /// Opens the files of a run.
    pub fn of_run(common: &CommonArgs) -> Result<Self, Failure> {
        Self::open([
            ("--json", &common.json, json),
            ("--csv", &common.csv, csv),
            ("--hgrm", &common.hgrm, hgrm),
            ("--html", &common.html, html),
        ])
    }
}

impl Outputs<SweepReport> {
    /// Opens the files of a sweep.
    pub fn of_sweep(common: &CommonArgs) -> Result<Self, Failure> {
        if common.hgrm.is_some() {
            return Err(Failure::usage(
                "--hgrm has the latencies of one run: run the step of interest without --sweep",
            ));
        }
        Self::open([
            ("--json", &common.json, sweep::json),
            ("--csv", &common.csv, sweep::csv),
            ("--html", &common.html, sweep::html),
        ])
    }
}

impl<T> Outputs<T> {
    fn open<const N: usize>(
        wanted: [(&'static str, &Option<PathBuf>, Render<T>); N],
    ) -> Result<Self, Failure> {
        let mut outputs = Vec::new();
        for (option, path, render) in wanted {
            let Some(path) = path else { continue };
            let name = path.display().to_string();
            let file = if path == Path::new("-") {
                None
            } else {
                Some(File::create(path).map_err(|error| {
                    Failure::usage(format!("{option} {name}: cannot be written: {error}"))
                })?)
            };
            outputs.push(Output { option, name, file, render });
        }
        if outputs.iter().filter(|output| output.file.is_none()).count() > 1 {
            return Err(Failure::usage(
                "only one of --json, --csv, --hgrm and --html can be the standard output",
            ));
        }
        Ok(Self(outputs))
    }

    /// Whether one of them takes the place of the table.
    pub fn has_stdout(&self) -> bool {
        self.0.iter().any(|output| output.file.is_none())
    }

    /// Writes them all.
    pub fn write(self, result: &T) -> Result<(), Failure> {
        for Output { option, name, file, render } in self.0 {
            let text = render(result);
            let Some(file) = file else {
                // A reader that went away (a closed pipe) is no failure of the run.
                let _ = std::io::stdout().lock().write_all(text.as_bytes());
                continue;
            };
            let mut file = BufWriter::new(file);
            file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(|error| Failure {
                exit: Exit::FailedCheck,
                words: format!("{option} {name}: cannot be written: {error}"),
            })?;
        }
        Ok(())
    }
}

fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report has only names as keys");
    text.push('\n');
    text
}

/// The time line: one row per second of the measured part; what was not measured is empty. What belongs to the whole run is in the JSON.
pub fn csv(report: &Report) -> String {
    let mut out =
        String::from("second,deliveries,p50_us,p99_us,max_us,server_cpus,server_rss_bytes,generator_busy\n");
    for second in &report.timeline {
        // A String takes everything.
        let _ = writeln!(
            out,
            "{},{},{:.1},{:.1},{:.1},{},{},{:.3}",
            second.second,
            second.deliveries,
            second.p50_ns / 1e3,
            second.p99_ns / 1e3,
            second.max_ns / 1e3,
            second.server_cpus.map_or(String::new(), |cpus| format!("{cpus:.3}")),
            second.server_rss_bytes.map_or(String::new(), |bytes| bytes.to_string()),
            second.generator_busy
        );
    }
    out
}

/// The percentiles as HdrHistogram's own tools write and plot them, values in milliseconds.
pub fn hgrm(report: &Report) -> String {
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for point in &report.latency_by_percentile {
        let _ = write!(out, "{:>12.4} {:>14.12} {:>10}", point.nanos / 1e6, point.quantile, point.count);
        // The last line has no inverse; the format leaves the column out.
        let _ = if point.quantile < 1.0 {
            writeln!(out, " {:>14.2}", 1.0 / (1.0 - point.quantile))
        } else {
            writeln!(out)
        };
    }
    let latency = &report.latency;
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.4}, StdDeviation   = {:>12.4}]",
        latency.mean_ns / 1e6,
        latency.stdev_ns / 1e6
    );
    let _ =
        writeln!(out, "#[Max     = {:>12.4}, Total count    = {:>12}]", latency.max_ns / 1e6, latency.count);
    out
}
