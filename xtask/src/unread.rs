//! `cargo xtask unread`: what one subscriber that stops reading does to a server and to everybody else on it.
//!
//! Fanwire and others in turn, each with the same load: a publisher, some subscribers that read, and one that never does. The
//! table and the plot of memory over time are written into `docs/performance.md` and `docs/unread.svg`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::measure::load::{Load, Report};
use crate::measure::machine;
use crate::measure::router::{Router, RouterSetup};
use crate::rivals;
use crate::run::Workplace;
use crate::tables::replace;

/// Options of the task.
#[derive(clap::Args)]
pub struct Options {
    /// Servers beside Fanwire (comma-separated or repeated).
    #[arg(long, value_delimiter = ',', default_value = "crossbar,nats,nchan,faye")]
    rivals: Vec<String>,
    /// Seconds that each is loaded.
    #[arg(long, default_value_t = 40)]
    seconds: u32,
    /// Publications a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Bytes of each.
    #[arg(long, default_value_t = 8_192)]
    payload: u32,
    /// Subscribers that read.
    #[arg(long, default_value_t = 5)]
    readers: u32,
    /// Prints the table and leaves the documents as they are.
    #[arg(long)]
    dry_run: bool,
}

/// What happened at one server.
struct Course {
    name: String,
    /// Resident memory at the end of each second, in MiB.
    memory: Vec<f64>,
    lost: f64,
    /// Of those who read, in milliseconds.
    p99: f64,
    cut: bool,
    fault: Option<String>,
}

/// Loads each server and writes what came of it.
pub fn unread(workplace: &Workplace, options: &Options) -> Result<()> {
    let built = workplace
        .cargo(["build", "--release", "--package", "fanwire", "--package", "fanwire-loadgen"])
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the build failed");
    let mut courses = vec![fanwire(workplace, options)?];
    for name in &options.rivals {
        match rivals::find(name)?.install(workplace) {
            Ok(rival) => {
                let running = rival.start(0)?;
                let mut arguments = vec!["--url".to_owned(), running.url.clone()];
                if let Some(target) = &running.target {
                    arguments.extend(["--target".to_owned(), target.display().to_string()]);
                }
                let name = format!("{name} {}", rival.version());
                courses.push(course(workplace, options, name, arguments, running.pid)?);
            }
            Err(why) => eprintln!("LEFT OUT: {why:#}"),
        }
    }
    let table = table(&courses);
    println!("{table}");
    if options.dry_run {
        return Ok(());
    }
    fs::write(workplace.root.join("docs/unread.svg"), plot(&courses))
        .context("cannot write docs/unread.svg")?;
    let path = workplace.root.join("docs/performance.md");
    let page = fs::read_to_string(&path).context("cannot read docs/performance.md")?;
    let how = format!(
        "{}; {} publications/s of {} B to {} subscribers that read and one that does not, {} s.",
        machine::describe(),
        options.rate,
        options.payload,
        options.readers,
        options.seconds
    );
    let picture = "![Memory of each server over time](unread.svg)";
    fs::write(&path, replace(&page, "unread", &format!("{how}\n\n{table}\n{picture}"))?)?;
    println!("written: docs/performance.md, docs/unread.svg");
    Ok(())
}

fn fanwire(workplace: &Workplace, options: &Options) -> Result<Course> {
    let router = Router::start(workplace, &RouterSetup::new("auto"))?;
    let arguments = vec!["--url".to_owned(), router.url.clone()];
    course(workplace, options, "Fanwire".to_owned(), arguments, router.pid())
}

fn course(
    workplace: &Workplace,
    options: &Options,
    name: String,
    server: Vec<String>,
    pid: u32,
) -> Result<Course> {
    let load = format!(
        "fanout --subscribers {} --stuck 1 --rate {} --payload {}B --duration {}s --topic unread",
        options.readers, options.rate, options.payload, options.seconds
    );
    let arguments: Vec<String> = load.split(' ').map(str::to_owned).chain(server).collect();
    eprintln!("{name} …");
    let report = Load::start(workplace, &arguments, pid)?.report().with_context(|| name.clone())?;
    Ok(Course {
        memory: memory(&report),
        lost: report.number("/deliveries/lost")?,
        p99: report.number("/latency/p99_ns")? / 1e6,
        cut: report.number("/deliveries/unverified_closed")? > 0.0,
        fault: report.fault(),
        name,
    })
}

/// Resident memory of the server, second by second, in MiB.
fn memory(report: &Report) -> Vec<f64> {
    let seconds = report.list("/timeline");
    seconds.iter().filter_map(|second| Some(second["server_rss_bytes"].as_f64()? / MIB)).collect()
}

const MIB: f64 = 1_048_576.0;

fn table(courses: &[Course]) -> String {
    let mut out = String::from(
        "| server | memory in the first second | at most | at the end | who does not read | lost by who reads | p99 of who reads |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for course in courses {
        let most = course.memory.iter().copied().fold(0.0, f64::max);
        let at = |memory: Option<&f64>| memory.map_or("?".to_owned(), |mib| format!("{mib:.1} MiB"));
        let lost = match &course.fault {
            Some(fault) if course.lost == 0.0 => format!("0 ({fault})"),
            _ => format!("{:.0}", course.lost),
        };
        // A String takes everything.
        let _ = writeln!(
            out,
            "| {} | {} | {most:.1} MiB | {} | {} | {lost} | {:.2} ms |",
            course.name,
            at(course.memory.first()),
            at(course.memory.last()),
            if course.cut { "is cut" } else { "stays" },
            course.p99
        );
    }
    out
}

/// Memory over time, a line for each server; readable on light and dark pages.
fn plot(courses: &[Course]) -> String {
    let seconds = courses.iter().map(|course| course.memory.len()).max().unwrap_or(0).max(2);
    let most = courses.iter().flat_map(|course| &course.memory).copied().fold(1.0, f64::max);
    let (high, step) = scale(most);
    let x = |second: usize| LEFT + second as f64 / (seconds - 1) as f64 * (WIDTH - LEFT - RIGHT);
    let y = |mib: f64| HEIGHT - BOTTOM - mib / high * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Resident memory of each server while one subscriber does not read\">\n<style>{STYLE}</style>\n"
    );
    // A String takes everything, here and below.
    let mut tick = 0.0;
    while tick <= high {
        let at = y(tick);
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick:.0} MiB</text>",
            LEFT - 6.0,
            at + 4.0
        );
        tick += step;
    }
    for second in (0..seconds).step_by((seconds / 8).max(1)) {
        let at = x(second);
        let under = HEIGHT - BOTTOM + 18.0;
        let _ =
            writeln!(out, "<text x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{} s</text>", second + 1);
    }
    for (index, course) in courses.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<_> = course
            .memory
            .iter()
            .enumerate()
            .map(|(second, mib)| format!("{:.1},{:.1}", x(second), y(*mib)))
            .collect();
        let _ = writeln!(out, "<polyline stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
        let at = LEFT + 14.0;
        let line = TOP + 16.0 * (index as f64 + 1.0);
        let _ = writeln!(
            out,
            "<rect x=\"{at}\" y=\"{:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>",
            line - 7.0
        );
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\">{}</text>", at + 18.0, line - 2.0, course.name);
    }
    out.push_str("</svg>\n");
    out
}

/// The end of the axis and the distance of its lines: at most six of them, at 1, 2 or 5 times a power of ten.
fn scale(most: f64) -> (f64, f64) {
    let power = 10f64.powf((most / 6.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| most / step <= 6.0);
    let step = step.unwrap_or(10.0 * power);
    ((most / step).ceil() * step, step)
}

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Told apart by people who see colours differently, on white and on black.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const STYLE: &str = "text{font:12px sans-serif;fill:#555}.grid{stroke:#8884;fill:none}polyline{fill:none;stroke-width:2.5}\
    @media(prefers-color-scheme:dark){text{fill:#bbb}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn course(memory: &[f64]) -> Course {
        Course { name: "x".into(), memory: memory.to_vec(), lost: 0.0, p99: 1.0, cut: true, fault: None }
    }

    #[test]
    fn axes_are_round_and_cover_everything() {
        assert_eq!(scale(1.0), (1.0, 0.2));
        assert_eq!(scale(57.0), (60.0, 10.0));
        assert_eq!(scale(301.0), (400.0, 100.0));
        for most in [0.3, 6.0, 7.0, 99.0, 100.0, 1234.5] {
            let (high, step) = scale(most);
            assert!(high >= most && high / step <= 6.5, "{most}: {high} {step}");
        }
    }

    #[test]
    fn every_server_has_a_line_and_a_row() {
        let courses = [course(&[1.0, 2.0]), course(&[5.0, 300.0])];
        assert_eq!(plot(&courses).matches("<polyline").count(), 2);
        let table = table(&courses);
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("| 5.0 MiB | 300.0 MiB | 300.0 MiB | is cut | 0 | 1.00 ms |"), "{table}");
    }
}
