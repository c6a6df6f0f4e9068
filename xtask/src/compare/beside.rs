//! Latency: of those who have nothing to do with a broadcast, and of a broadcast whose publishers do not wait.
//!
//! A 99th percentile near the length of a turn drowns in the machine's other processes: each of them that gets the server's or
//! the generator's CPU keeps it for milliseconds. So servers and generator go before them, both servers alike, and what the
//! same probes see without the broadcast, and how long the server waited for its CPU, is told beside each line.

use anyhow::{Result, ensure};

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::side::{self, Run, Series, Side};
use super::table::show;
use crate::measure::router::RouterSetup;
use crate::measure::statistics::median;

/// Events or calls per second beside the broadcast.
const PROBES: u32 = 500;
/// How long they are alone before it: 300 of them.
const ALONE: &str = "600ms";
const P99: Bounds = Bounds::at_most(0.05, 0.007);

/// The broadcast leaves at a part of what both servers can carry, at the same rate for both.
pub fn beside(bench: &mut Bench<'_>, load: f64) -> Result<()> {
    let subscribers = bench.count(10_000);
    let payload = bench.plain_payload("msgpack")?;
    let rate = load * capacity(bench, subscribers, payload)?;
    let scenario = format!(
        "broadcast+rpc --subscribers {subscribers} --rate {rate:.2} --calls {PROBES} --alone {ALONE}"
    );
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{scenario} --probe pubsub --serializer msgpack")).real_time(),
        Side::fanwire(bench.router(), &format!("{scenario} --serializer msgpack")).real_time(),
        Side::rival("uws", &format!("{scenario} --probe pubsub --payload {payload}")).real_time(),
    ])?;
    for (ours, figure, alone, name) in [
        (&series[0], probe_p99 as side::Figure, probe_alone_p99 as side::Figure, "1:1 event"),
        (&series[1], call_p99, call_alone_p99, "call"),
    ] {
        let what = What {
            what: format!(
                "p99 of a {name} beside a broadcast to {} at {:.0} % of the capacity",
                grouped(subscribers),
                load * 100.0
            ),
            figure: probe_p99,
            unit: Unit::Nanos,
            bounds: P99,
        };
        let (ours_are, theirs_are) = (ours.figures(figure)?, series[2].figures(probe_p99)?);
        if !theirs_are.is_empty() {
            bench.ratio_of(what, ours, &ours_are, "uWebSockets' 1:1 event", &series[2], &theirs_are)?;
            bench.remark(format!("{rate:.1} publications/s"));
            tell_floor(bench, &[("Fanwire", ours, alone), ("uWebSockets", &series[2], probe_alone_p99)])?;
        }
    }
    Ok(())
}

fn probe_p99(run: &Run) -> Result<f64> {
    run.report.operation_number("probe beside", "/latency/p99_ns")
}

fn call_p99(run: &Run) -> Result<f64> {
    run.report.operation_number("call beside", "/latency/p99_ns")
}

fn probe_alone_p99(run: &Run) -> Result<f64> {
    run.report.operation_number("probe alone", "/latency/p99_ns")
}

fn call_alone_p99(run: &Run) -> Result<f64> {
    run.report.operation_number("call alone", "/latency/p99_ns")
}

/// What the machine adds to the line that was made last: the same probes without anything beside them, and how long servers
/// waited for their CPU.
fn tell_floor(bench: &mut Bench<'_>, sides: &[(&str, &Series, side::Figure)]) -> Result<()> {
    for (name, series, alone_p99) in sides {
        let waited = median(&series.figures(side::waited)?) / 1e7;
        let alone = show(median(&series.figures(*alone_p99)?), Unit::Nanos);
        bench.remark(format!(
            "{name}: p99 {alone} before the broadcast, waited {waited:.1} % of the time for its CPU"
        ));
    }
    if !sides.iter().all(|(_, series, _)| series.0.iter().all(|run| run.is_real_time)) {
        bench.remark(
            "without real-time priority, so waits for other processes of the machine are in it".to_owned(),
        );
    }
    Ok(())
}

/// Publications per second that the slower of both can carry, one in flight.
fn capacity(bench: &mut Bench<'_>, subscribers: usize, payload: usize) -> Result<f64> {
    let rounds = bench.effort.pairs.min(3);
    let load = format!("fanout --subscribers {subscribers}");
    let series = bench.alternate_for(
        rounds,
        &[
            Side::fanwire(bench.router(), &format!("{load} --serializer msgpack")),
            Side::rival("uws", &format!("{load} --payload {payload}")),
        ],
    )?;
    let mut least = f64::INFINITY;
    for series in series.iter().filter(|series| !series.0.is_empty()) {
        least = least.min(median(&series.figures(side::rate)?) / subscribers as f64);
    }
    ensure!(least.is_finite() && least > 0.0, "the capacity could not be measured");
    Ok(least)
}

/// What it costs that a broadcast is sent in slices.
pub fn slices(bench: &mut Bench<'_>) -> Result<()> {
    let subscribers = bench.count(10_000);
    let load = format!("fanout --subscribers {subscribers} --serializer msgpack");
    let whole = RouterSetup { set: vec!["shards.slice_sends=none".to_owned()], ..bench.router() };
    let series = bench.alternate(&[Side::fanwire(bench.router(), &load), Side::fanwire(whole, &load)])?;
    let what = What {
        what: format!("CPU per delivery in slices, MessagePack to {}, one in flight", grouped(subscribers)),
        figure: side::cpu,
        unit: Unit::Nanos,
        bounds: Bounds::at_most(1.05, 1.02),
    };
    bench.ratio(what, &series[0], "unsliced", &series[1])
}

/// A publisher with a timetable.
pub fn open_loop(bench: &mut Bench<'_>) -> Result<()> {
    let subscribers = bench.count(1_000);
    let load = format!("fanout --subscribers {subscribers} --rate 1000");
    let payload = bench.plain_payload("msgpack")?;
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{load} --serializer msgpack")),
        Side::rival("uws", &format!("{load} --payload {payload}")),
    ])?;
    for (name, figure, bounds) in [
        ("p50", side::p50 as side::Figure, Bounds::at_most(0.6, 0.4)),
        ("p99", side::p99, Bounds::at_most(0.1, 0.01)),
    ] {
        let what = What {
            what: format!("{name} at 1,000 publications/s, MessagePack to {}", grouped(subscribers)),
            figure,
            unit: Unit::Nanos,
            bounds,
        };
        bench.ratio(what, &series[0], "uWebSockets", &series[1])?;
    }
    Ok(())
}

/// 1:1 events beside a broadcast and a publisher that floods a topic with one subscriber.
pub fn flood(bench: &mut Bench<'_>) -> Result<()> {
    let subscribers = bench.count(10_000);
    let payload = bench.plain_payload("msgpack")?;
    let scenario = format!(
        "broadcast+rpc --subscribers {subscribers} --rate 4 --calls {PROBES} --alone {ALONE} --probe pubsub --flood 20000"
    );
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{scenario} --serializer msgpack")).real_time(),
        Side::rival("uws", &format!("{scenario} --payload {payload}")).real_time(),
    ])?;
    let what = What {
        what: format!(
            "p99 of a 1:1 event beside a flood of a topic with one subscriber and 4 publications/s to {}",
            grouped(subscribers)
        ),
        figure: probe_p99,
        unit: Unit::Nanos,
        bounds: Bounds::at_most(0.01, 0.001),
    };
    bench.ratio(what, &series[0], "uWebSockets", &series[1])?;
    if series[1].0.is_empty() {
        return Ok(());
    }
    let alone = probe_alone_p99 as side::Figure;
    tell_floor(bench, &[("Fanwire", &series[0], alone), ("uWebSockets", &series[1], alone)])
}
