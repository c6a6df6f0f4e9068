//! Calls: CALL, INVOCATION, YIELD, RESULT.

use anyhow::Result;

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::side::{self, Run, Side};
use crate::measure::router::RouterSetup;

/// Calls per CPU second against the other WAMP router, with each driver.
pub fn calls(bench: &mut Bench<'_>) -> Result<()> {
    let callers = bench.count(1_000);
    let load = format!("rpc --callers {callers} --callees 4");
    let mut sides: Vec<Side> =
        bench.drivers().iter().map(|driver| Side::fanwire(RouterSetup::new(driver), &load)).collect();
    sides.push(Side::rival("crossbar", &load));
    let series = bench.alternate(&sides)?;
    let Some((theirs, ours)) = series.split_last() else { return Ok(()) };
    let what = |bounds| What {
        what: format!("calls per CPU second, JSON, {} in flight", grouped(callers)),
        figure: |run| Ok(1e9 / side::cpu(run)?),
        unit: Unit::PerSecond,
        bounds,
    };
    for ours in ours {
        bench.ratio(what(Bounds::at_least(15.0, 40.0)), ours, "Crossbar", theirs)?;
    }
    bench.between_drivers(what(Bounds::NONE), ours)
}

/// CPU per call where caller and callee are on different shards, against calls within one.
///
/// Callers are spread evenly over both shards and there is one callee, so half of the calls cross. What a call across costs is
/// therefore twice the mean less a call within, which the router of one shard tells.
pub fn across(bench: &mut Bench<'_>) -> Result<()> {
    let callers = bench.count(1_000);
    let load = format!("rpc --callers {callers} --callees 1");
    let two = RouterSetup { shards: 2, ..bench.router() };
    let series = bench.alternate(&[Side::fanwire(two, &load), Side::fanwire(bench.router(), &load)])?;
    let within = series[1].figures(side::cpu)?;
    let figures = |figure: fn(&Run) -> Result<f64>| series[0].figures(figure);
    let across: Vec<f64> =
        figures(side::cpu)?.iter().zip(&within).map(|(mean, within)| 2.0 * mean - within).collect();
    let what = |words: &str, bounds| What {
        what: format!("CPU per call, {words}, JSON, {} in flight", grouped(callers)),
        figure: side::cpu,
        unit: Unit::Nanos,
        bounds,
    };
    bench.ratio_of(
        what("across two shards on one CPU", Bounds::at_most(1.6, 1.2)),
        &series[0],
        &across,
        "within one",
        &series[1],
        &within,
    )?;
    bench.ratio(what("half of them across", Bounds::NONE), &series[0], "all within one", &series[1])
}
