//! Latency: of those who have nothing to do with a broadcast, and of a broadcast whose publishers do not wait.

use anyhow::{Result, ensure};

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::side::{self, Run, Side};
use crate::measure::router::RouterSetup;
use crate::measure::statistics::median;

/// Events or calls per second beside the broadcast.
const PROBES: u32 = 500;
const P99: Bounds = Bounds::at_most(0.05, 0.007);

/// The broadcast leaves at a part of what both servers can carry, at the same rate for both.
pub fn beside(bench: &mut Bench<'_>, load: f64) -> Result<()> {
    let subscribers = bench.count(10_000);
    let payload = bench.plain_payload("msgpack")?;
    let rate = load * capacity(bench, subscribers, payload)?;
    let scenario =
        format!("broadcast+rpc --subscribers {subscribers} --rate {rate:.2} --calls {PROBES} --alone 300ms");
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{scenario} --probe pubsub --serializer msgpack")),
        Side::fanwire(bench.router(), &format!("{scenario} --serializer msgpack")),
        Side::rival("uws", &format!("{scenario} --probe pubsub --payload {payload}")),
    ])?;
    for (ours, figure, name) in
        [(&series[0], probe_p99 as side::Figure, "1:1 event"), (&series[1], call_p99, "call")]
    {
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
        "broadcast+rpc --subscribers {subscribers} --rate 4 --calls {PROBES} --alone 300ms --probe pubsub --flood 20000"
    );
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{scenario} --serializer msgpack")),
        Side::rival("uws", &format!("{scenario} --payload {payload}")),
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
    bench.ratio(what, &series[0], "uWebSockets", &series[1])
}
