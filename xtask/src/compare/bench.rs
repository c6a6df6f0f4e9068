//! Runs the sides of a row in turn, and makes lines of what they gave.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::line::{Bounds, Line, Unit};
use super::results::Runs;
use super::rows::Row;
use super::side::{Figure, Run, Series, Server, Side, bytes};
use crate::measure::load::{Load, Report};
use crate::measure::machine;
use crate::measure::metrics::Metrics;
use crate::measure::priority;
use crate::measure::router::{Router, RouterSetup};
use crate::measure::statistics::Summary;
use crate::rivals::{self, Installed};
use crate::run::Workplace;

/// How thoroughly it is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Rounds: each runs every side once.
    pub pairs: usize,
    /// Seconds measured in each run.
    pub seconds: f64,
    /// At most so many subscribers and connections.
    pub count_max: usize,
}

/// What rows measure with.
pub struct Bench<'a> {
    /// Where everything is.
    pub workplace: &'a Workplace,
    /// How thoroughly.
    pub effort: Effort,
    driver: Option<String>,
    only_rivals: Vec<String>,
    installed: BTreeMap<&'static str, Result<Installed, String>>,
    event_bytes: BTreeMap<&'static str, usize>,
    /// Real-time priority was asked for and refused, which has been told.
    is_refused: bool,
    row: &'static str,
    lines: Vec<Line>,
    runs: Runs,
}

/// What a line says.
pub struct What {
    /// In words.
    pub what: String,
    /// The figure.
    pub figure: Figure,
    /// What it counts.
    pub unit: Unit,
    /// What it is held to.
    pub bounds: Bounds,
}

impl<'a> Bench<'a> {
    /// Without a driver rows that are about them take both, the others what the router takes by itself. Without names all
    /// rivals are compared with.
    pub fn new(
        workplace: &'a Workplace,
        effort: Effort,
        driver: Option<String>,
        rivals: Vec<String>,
    ) -> Self {
        Self {
            workplace,
            effort,
            driver,
            only_rivals: rivals,
            installed: BTreeMap::new(),
            event_bytes: BTreeMap::new(),
            is_refused: false,
            row: "",
            lines: Vec::new(),
            runs: Runs::default(),
        }
    }

    /// Measures one row.
    pub fn measure(&mut self, row: &Row) -> Result<(Vec<Line>, Runs)> {
        self.row = row.name;
        self.runs = Runs::default();
        self.lines.clear();
        row.run(self)?;
        Ok((std::mem::take(&mut self.lines), self.runs))
    }

    /// Drivers for rows that say which one is faster.
    pub fn drivers(&self) -> Vec<String> {
        match &self.driver {
            Some(driver) => vec![driver.clone()],
            None => vec!["io_uring".to_owned(), "epoll".to_owned()],
        }
    }

    /// A router of one shard, with the driver that is asked for.
    pub fn router(&self) -> RouterSetup {
        RouterSetup::new(self.driver.as_deref().unwrap_or("auto"))
    }

    /// So many, unless a quick run takes fewer.
    pub fn count(&self, wanted: usize) -> usize {
        wanted.min(self.effort.count_max)
    }

    /// The rival, installed; `None`, and why is told once, where it cannot be had or is not asked for.
    pub fn rival(&mut self, name: &'static str) -> Option<&Installed> {
        if !(self.only_rivals.is_empty() || self.only_rivals.iter().any(|only| only == name)) {
            return None;
        }
        let workplace = self.workplace;
        let installed = self.installed.entry(name).or_insert_with(|| {
            let installed = rivals::find(name).and_then(|rival| rival.install(workplace));
            installed.map_err(|error| {
                let words = format!("{error:#}");
                eprintln!("MISSING: {words}");
                words
            })
        });
        installed.as_ref().ok()
    }

    /// The rivals that could not be had, and why.
    pub fn missing(&self) -> impl Iterator<Item = &String> {
        self.installed.values().filter_map(|installed| installed.as_ref().err())
    }

    /// Runs each side once per round, in turn. A rival that cannot be had has no runs; one that breaks loses its runs.
    pub fn alternate(&mut self, sides: &[Side]) -> Result<Vec<Series>> {
        self.alternate_for(self.effort.pairs, sides)
    }

    /// The same for so many rounds.
    pub fn alternate_for(&mut self, rounds: usize, sides: &[Side]) -> Result<Vec<Series>> {
        let mut series = vec![Series::default(); sides.len()];
        let mut broken = vec![false; sides.len()];
        for (side, broken) in sides.iter().zip(&mut broken) {
            if let Server::Rival(name) = side.server {
                *broken = self.rival(name).is_none();
            }
        }
        for round in 1..=rounds {
            for (at, side) in sides.iter().enumerate().filter(|(at, _)| !broken[*at]).collect::<Vec<_>>() {
                eprint!("  {} {round}/{rounds} {}: ", self.row, side.name());
                match self.run(side) {
                    Ok(run) => {
                        eprintln!("{}", tell(&run));
                        series[at].0.push(run);
                    }
                    Err(error) if matches!(side.server, Server::Rival(_)) => {
                        eprintln!("BROKE: {error:#}");
                        broken[at] = true;
                        series[at].0.clear();
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(series)
    }

    /// Starts the server of a side anew and loads it once.
    pub fn run(&mut self, side: &Side) -> Result<Run> {
        let mut load = side.load.clone();
        let mut add = |name: &str, value: String| {
            if !load.iter().any(|word| word == name) {
                load.extend([name.to_owned(), value]);
            }
        };
        add("--duration", format!("{}ms", (self.effort.seconds * 1e3).round()));
        add("--warmup", format!("{}ms", WARMUP.as_millis()));
        add("--connect-rate", CONNECT_RATE.to_owned());
        match &side.server {
            Server::Fanwire(setup) => {
                let router = Router::start(self.workplace, setup)?;
                add("--url", router.url.clone());
                let mut under_way = Load::start(self.workplace, &load, router.pid())?;
                let is_real_time = self.hasten(side, &[Some(router.pid()), under_way.pid()]);
                let seconds = Duration::from_secs_f64(self.effort.seconds);
                let watched =
                    if side.is_watched { Some(watch(&router, &mut under_way, seconds)?) } else { None };
                let report = under_way.report()?;
                let driver =
                    router.metrics()?.label("fanwire_build_info", "driver").unwrap_or_default().to_owned();
                self.note_run(&report);
                Ok(Run { report, driver, watched, is_real_time })
            }
            Server::Rival(name) => {
                let installed = self.rival(name).with_context(|| format!("{name} cannot be had"))?;
                let server = installed.start(SERVER_CPU)?;
                add("--url", server.url.clone());
                if let Some(target) = &server.target {
                    add("--target", target.display().to_string());
                }
                let under_way = Load::start(self.workplace, &load, server.pid)?;
                let is_real_time = self.hasten(side, &[Some(server.pid), under_way.pid()]);
                let report = under_way.report()?;
                Ok(Run { report, driver: String::new(), watched: None, is_real_time })
            }
        }
    }

    /// Puts the processes of a side that asks for it before all others. False where it does not, or this user may not.
    fn hasten(&mut self, side: &Side, pids: &[Option<u32>]) -> bool {
        if !side.is_real_time || self.is_refused {
            return false;
        }
        let result = pids.iter().flatten().try_for_each(|pid| priority::real_time(*pid));
        if let Err(error) = &result {
            eprintln!(
                "latencies will hold waits for the machine's other processes: no real-time priority: {error:#}"
            );
            self.is_refused = true;
        }
        result.is_ok()
    }

    /// Counts a run of Fanwire that a row has made itself.
    pub fn note_run(&mut self, report: &Report) {
        self.runs.total += 1;
        self.runs.exact += usize::from(report.fault().is_none());
    }

    /// Payload with which a message of the plain protocol has as many bytes on the wire, frame included, as an event of
    /// Fanwire that carries 64 bytes has. Events are measured, not computed: they have numbers of varying length in them.
    pub fn plain_payload(&mut self, serializer: &'static str) -> Result<usize> {
        if let Some(bytes) = self.event_bytes.get(serializer) {
            return Ok(*bytes);
        }
        let load = format!("fanout --subscribers 10 --window 4 --serializer {serializer} --duration 300ms");
        let run = self.run(&Side::fanwire(self.router(), &load))?;
        let payload = payload_of_frame(bytes(&run)?);
        eprintln!(
            "  an event in {serializer} has {:.1} bytes on the wire, as a plain payload of {payload}",
            bytes(&run)?
        );
        self.event_bytes.insert(serializer, payload);
        Ok(payload)
    }

    /// A line that compares Fanwire with a rival, pair by pair; none if the rival has no runs.
    pub fn ratio(&mut self, what: What, ours: &Series, rival: &str, theirs: &Series) -> Result<()> {
        if theirs.0.is_empty() {
            return Ok(());
        }
        let (our_figures, their_figures) = (ours.figures(what.figure)?, theirs.figures(what.figure)?);
        self.ratio_of(what, ours, &our_figures, rival, theirs, &their_figures)
    }

    /// A line that compares the first driver with the second, if there are two.
    pub fn between_drivers(&mut self, what: What, ours: &[Series]) -> Result<()> {
        match ours {
            [first, second] => {
                let name = second.0.first().map_or("", |run| &run.driver).to_owned();
                self.ratio(what, first, &name, second)
            }
            _ => Ok(()),
        }
    }

    /// The same of figures that are not in one report.
    pub fn ratio_of(
        &mut self,
        what: What,
        ours: &Series,
        our_figures: &[f64],
        rival: &str,
        theirs: &Series,
        their_figures: &[f64],
    ) -> Result<()> {
        let said = what.what.clone();
        let not_measured = || format!("{said}: something was not measured");
        let mut line = self.begin(what, ours, our_figures)?;
        line.rival = Some(rival.to_owned());
        line.theirs = Some(Summary::of(their_figures).with_context(not_measured)?);
        line.ratio = Some(Summary::of_ratios(our_figures, their_figures).with_context(not_measured)?);
        line.notes = theirs.faults().into_iter().map(|fault| format!("{rival}: {fault}")).collect();
        self.push(line)
    }

    /// A line whose figure is judged by itself.
    pub fn value(&mut self, what: What, ours: &Series) -> Result<()> {
        let figures = ours.figures(what.figure)?;
        self.value_of(what, ours, &figures)
    }

    /// The same of figures that are not in one report.
    pub fn value_of(&mut self, what: What, ours: &Series, figures: &[f64]) -> Result<()> {
        let line = self.begin(what, ours, figures)?;
        self.push(line)
    }

    fn begin(&self, what: What, ours: &Series, figures: &[f64]) -> Result<Line> {
        let driver = ours.0.first().map(|run| run.driver.clone()).unwrap_or_default();
        Ok(Line {
            row: self.row.to_owned(),
            ours: Summary::of(figures)
                .with_context(|| format!("{}: something was not measured", what.what))?,
            what: what.what,
            driver,
            unit: what.unit,
            rival: None,
            theirs: None,
            ratio: None,
            bounds: what.bounds,
            faults: ours.faults(),
            notes: Vec::new(),
            seconds: self.effort.seconds,
            origin: String::new(),
        })
    }

    /// Says something about the line that was made last.
    pub fn remark(&mut self, words: String) {
        if let Some(line) = self.lines.last_mut() {
            line.notes.push(words);
        }
    }

    fn push(&mut self, mut line: Line) -> Result<()> {
        // Without a date: the same effort on the same machine gives the same words.
        line.origin =
            format!("{}; {} pairs of {} s each", machine::describe(), self.effort.pairs, self.effort.seconds);
        eprint!("{}", super::table::row(&line, None));
        self.lines.push(line);
        Ok(())
    }

    /// Versions of the rivals that were used, as they say themselves.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let there =
            self.installed.iter().filter_map(|(name, installed)| Some((name, installed.as_ref().ok()?)));
        there.map(|(name, installed)| ((*name).to_owned(), installed.version().to_owned())).collect()
    }
}

/// Time of the same load before it is measured.
const WARMUP: Duration = Duration::from_millis(400);
/// New connections per second: what the slowest rival takes without refusing any.
const CONNECT_RATE: &str = "10k";
const SERVER_CPU: usize = 0;
/// For the first message to arrive.
const WATCH_TIME: Duration = Duration::from_secs(60);

/// Reads the counters when the load runs, and again shortly before it ends.
fn watch(router: &Router, load: &mut Load, seconds: Duration) -> Result<[Metrics; 2]> {
    let has_begun = |metrics: &Metrics| {
        metrics.sum("fanwire_events_delivered_total") + metrics.sum("fanwire_invocations_total") > 0.0
    };
    let deadline = Instant::now() + WATCH_TIME;
    while !has_begun(&router.metrics()?) {
        ensure!(Instant::now() < deadline && !load.has_ended(), "the load did not begin");
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(WARMUP / 2);
    let before = router.metrics()?;
    thread::sleep(seconds);
    Ok([before, router.metrics()?])
}

/// The payload of a WebSocket frame of so many bytes from a server (RFC 6455, 5.2).
fn payload_of_frame(bytes: f64) -> usize {
    let bytes = bytes.round() as usize;
    if bytes <= 2 + 125 { bytes.saturating_sub(2) } else { bytes - 4 }
}

/// For the progress lines.
fn tell(run: &Run) -> String {
    let number = |pointer: &str| run.report.value(pointer).unwrap_or(f64::NAN);
    let fault = run.report.fault().map_or_else(String::new, |fault| format!("; NOT EXACT: {fault}"));
    format!(
        "{:.0} /s, {:.0} ns CPU each, p50 {:.0} µs, p99 {:.0} µs, generator {:.0} %{fault}",
        number("/deliveries/per_second"),
        number("/server/cost/cpu_ns_per_delivery"),
        number("/latency/p50_ns") / 1e3,
        number("/latency/p99_ns") / 1e3,
        number("/generator/busy_max") * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::payload_of_frame;

    #[test]
    fn frames_are_as_long_as_events() {
        assert_eq!(payload_of_frame(102.4), 100);
        assert_eq!(payload_of_frame(127.0), 125);
        assert_eq!(payload_of_frame(130.2), 126);
    }
}
