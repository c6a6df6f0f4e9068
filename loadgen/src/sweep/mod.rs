//! `--sweep rate=1k,2k,5k`: the same scenario with one option at several values, and where the knee is.
//!
//! ```text
//! command line ─▶ one command line per value, all read before the first run ─▶ run, run, run ─▶ table, CSV, JSON, page
//! ```
//!
//! The knee is the step with the greatest throughput per mean latency (Kleinrock's power): up to there more load brings
//! mostly throughput, beyond it mostly waiting. For an open loop it is also said up to which step the server follows.

pub mod outputs;
mod page;

use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::args::{Args, Command, ScenarioArgs};
use crate::failure::{Exit, Failure};
use crate::report::Report;
use crate::run;
use crate::table::many;
use crate::units::{parse_bytes, parse_duration, parse_rate, show_nanos, show_rate};

/// Version of the JSON's shape.
pub const SCHEMA: &str = "fanwire-loadgen-sweep/1";
/// A server that delivers less than this share of the plan in time does not follow.
const FOLLOWS_MIN: f64 = 0.95;
/// Between two runs: the server ends its connections.
const PAUSE: Duration = Duration::from_millis(300);
/// Steps of one sweep at most.
const STEPS_MAX: usize = 100;
/// Options that belong to the sweep as a whole. All take a value.
const OWN: [&str; 5] = ["--sweep", "--json", "--csv", "--html", "--hgrm"];

/// What `--sweep` says.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepSpec {
    /// The option, without its dashes.
    pub option: String,
    /// Its values.
    pub values: Vec<String>,
}

impl SweepSpec {
    /// `rate=1k,2k,5k`, or `rate=1k..16k`, which doubles.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (option, list) = text.split_once('=').ok_or_else(|| {
            format!("'{text}' names no values; write for example rate=1k,2k,5k or rate=1k..16k")
        })?;
        let option = option.trim().trim_start_matches("--").to_owned();
        let values = match list.split_once("..") {
            Some((from, to)) => {
                let (from, to) = (parse_rate(from)?, parse_rate(to)?);
                if from > to {
                    return Err(format!("'{list}' goes down; write the smaller value first"));
                }
                let doubled = std::iter::successors(Some(from), |value| Some(value * 2.0));
                doubled
                    .take_while(|value| *value <= to)
                    .take(STEPS_MAX + 1)
                    .map(|value| value.to_string())
                    .collect()
            }
            None => list
                .split(',')
                .map(|value| value.trim().to_owned())
                .filter(|v| !v.is_empty())
                .collect::<Vec<_>>(),
        };
        if values.is_empty() || values.len() > STEPS_MAX {
            return Err(format!("'{text}' has {} values; possible are 1 to {STEPS_MAX}", values.len()));
        }
        Ok(Self { option, values })
    }

    /// The command line of one step.
    fn line(&self, arguments: &[String], value: &str) -> Vec<String> {
        let swept = format!("--{}", self.option);
        let mut line = Vec::with_capacity(arguments.len() + 2);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.split('=').next().unwrap_or(argument);
            if OWN.contains(&name) || name == swept {
                if !argument.contains('=') {
                    rest.next();
                }
                continue;
            }
            line.push(argument.clone());
        }
        line.extend([swept, value.to_owned()]);
        line
    }
}

/// One value.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// As it was given.
    pub value: String,
    /// As a number; its place in the series if it is none.
    pub number: f64,
    /// What the run gave.
    pub report: Option<Report>,
    /// Why there is no report.
    pub failure: Option<String>,
    /// Share of the planned deliveries that came in time (open loop).
    pub followed: Option<f64>,
}

/// A whole sweep.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// Version of this shape.
    pub schema: &'static str,
    /// The option.
    pub option: String,
    /// Whether all values are numbers.
    pub is_numeric: bool,
    /// Its values, in the order given.
    pub steps: Vec<Step>,
    /// Index of the step with the greatest throughput per latency.
    pub knee: Option<usize>,
    /// Index of the last step before the first that the server does not follow; open loop only.
    pub follows_until: Option<usize>,
    /// The same in words.
    pub findings: Vec<String>,
    /// The command line, so that the sweep can be repeated.
    pub command_line: Vec<String>,
    /// Of the first step that did not end with 0.
    pub exit_code: u8,
}

/// Runs all steps. `arguments` is the command line as it was given.
pub fn run(spec: &SweepSpec, arguments: &[String]) -> Result<SweepReport, Failure> {
    // All are read before the first begins: the last value must not spoil an hour's work.
    let steps: Vec<(String, ScenarioArgs)> = spec
        .values
        .iter()
        .map(|value| read(spec, arguments, value).map(|args| (value.clone(), args)))
        .collect::<Result<_, _>>()?;
    let numbers: Option<Vec<f64>> = spec.values.iter().map(|value| number(value)).collect();
    let mut report = SweepReport {
        schema: SCHEMA,
        option: spec.option.clone(),
        is_numeric: numbers.is_some(),
        steps: Vec::new(),
        knee: None,
        follows_until: None,
        findings: Vec::new(),
        command_line: arguments.to_vec(),
        exit_code: Exit::Ok.code(),
    };
    for (index, (value, args)) in steps.into_iter().enumerate() {
        if !args.common().quiet {
            eprintln!("step {} of {}: --{} {value}", index + 1, spec.values.len(), spec.option);
        }
        if index > 0 {
            std::thread::sleep(PAUSE);
        }
        let number = numbers.as_ref().map_or(index as f64, |numbers| numbers[index]);
        let (step, exit_code) = match run::run(&args) {
            Ok(report) => {
                let (followed, exit_code) = (followed(&report), report.exit_code);
                (Step { value, number, report: Some(report), failure: None, followed }, exit_code)
            }
            // Nothing was measured at all: the address is wrong, not the load too high.
            Err(failure) if index == 0 => return Err(failure),
            Err(failure) => {
                let exit_code = failure.exit.code();
                (
                    Step { value, number, report: None, failure: Some(failure.words), followed: None },
                    exit_code,
                )
            }
        };
        let has_failed = step.failure.is_some();
        report.steps.push(step);
        if report.exit_code == 0 {
            report.exit_code = exit_code;
        }
        if has_failed {
            break;
        }
    }
    report.find();
    Ok(report)
}

fn read(spec: &SweepSpec, arguments: &[String], value: &str) -> Result<ScenarioArgs, Failure> {
    match Args::try_parse_from(spec.line(arguments, value)) {
        Ok(Args { command: Command::Scenario(args) }) => Ok(args),
        Ok(_) => Err(Failure::usage("--sweep: only a scenario can be run at several values")),
        Err(error) => {
            let words = error.to_string();
            let words = words.trim_start_matches("error: ").lines().next().unwrap_or("").to_owned();
            Err(Failure::usage(format!("--sweep {}={value}: {words}", spec.option)))
        }
    }
}

fn number(value: &str) -> Option<f64> {
    let bytes = || parse_bytes(value).map(|bytes| bytes as f64);
    let time = || parse_duration(value).map(|time| time.as_secs_f64());
    parse_rate(value).or_else(|_| bytes()).or_else(|_| time()).ok()
}

/// Share of the planned deliveries that came while the load ran.
fn followed(report: &Report) -> Option<f64> {
    let rate = report.parameters.rate?;
    let deliveries = &report.deliveries;
    if deliveries.sent == 0 {
        return Some(0.0);
    }
    let per_message = deliveries.expected as f64 / deliveries.sent as f64;
    (per_message > 0.0).then(|| deliveries.per_second / (rate * per_message))
}

impl SweepReport {
    fn find(&mut self) {
        let power = |step: &Step| {
            let report = step.report.as_ref()?;
            let latency = report.latency.mean_ns;
            (latency > 0.0).then(|| report.deliveries.per_second / latency)
        };
        let powers = self.steps.iter().enumerate().filter_map(|(index, step)| Some((index, power(step)?)));
        self.knee = powers.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index);
        if let Some((step, report)) =
            self.knee.and_then(|index| Some((&self.steps[index], self.steps[index].report.as_ref()?)))
        {
            let place = match self.knee {
                Some(0) if self.steps.len() > 1 => {
                    ", the first value: begin lower to see whether it is further down"
                }
                Some(last) if last + 1 == self.steps.len() => {
                    ", the last value: go further to see whether it is higher up"
                }
                _ => "",
            };
            self.findings.push(format!(
                "knee at {}={}: {} /s with a mean latency of {} (greatest throughput per latency){place}",
                self.option,
                step.value,
                show_rate(report.deliveries.per_second),
                show_nanos(report.latency.mean_ns)
            ));
        }
        let follows = |step: &Step| step.followed.is_some_and(|share| share >= FOLLOWS_MIN);
        if self.steps.iter().any(|step| step.followed.is_some()) {
            let first_behind = self.steps.iter().position(|step| !follows(step)).unwrap_or(self.steps.len());
            self.follows_until = first_behind.checked_sub(1);
            let until = self
                .follows_until
                .map_or("no step".to_owned(), |index| format!("{}={}", self.option, self.steps[index].value));
            self.findings.push(match self.steps.get(first_behind) {
                None => format!("the server follows all {}", many(self.steps.len(), "step")),
                Some(step) => format!(
                    "the server follows until {until}; at {} {:.0} % of what was planned came in time",
                    step.value,
                    step.followed.unwrap_or(0.0) * 100.0
                ),
            });
        }
        for step in &self.steps {
            if let Some(words) = &step.failure {
                self.findings.push(format!("the sweep ended at {}={}: {words}", self.option, step.value));
            }
        }
        let busy = |report: &Report| report.generator.busy_max > 0.9;
        if let Some(step) = self.steps.iter().find(|step| step.report.as_ref().is_some_and(busy)) {
            self.findings.push(format!(
                "from {}={} on the generator itself is busy all the time: what is beyond is its limit as much as the server's",
                self.option, step.value
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read() {
        let spec = SweepSpec::parse("rate=1k, 2k,5k").unwrap();
        assert_eq!((spec.option.as_str(), spec.values.len()), ("rate", 3));
        assert_eq!(SweepSpec::parse("--window=1..16").unwrap().values, ["1", "2", "4", "8", "16"]);
        for (text, words) in
            [("rate", "names no values"), ("rate=", "has 0 values"), ("rate=5..1", "goes down")]
        {
            assert!(SweepSpec::parse(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn the_line_of_a_step_has_its_value_and_no_files() {
        let spec = SweepSpec::parse("rate=1,2").unwrap();
        let line = "x fanout --rate 9 --sweep rate=1,2 --json a --html=b --quiet --subscribers 3";
        let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(spec.line(&line, "2").join(" "), "x fanout --quiet --subscribers 3 --rate 2");
        let failure = read(&SweepSpec::parse("bogus=1").unwrap(), &line, "1").unwrap_err();
        assert!(failure.words.contains("--sweep bogus=1: unexpected argument"), "{failure}");
    }

    #[test]
    fn values_are_numbers_of_any_unit() {
        assert_eq!(["2k", "1KiB", "500ms"].map(number), [Some(2e3), Some(1024.0), Some(0.5)]);
        assert_eq!(number("msgpack"), None);
    }
}
