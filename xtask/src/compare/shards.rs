//! Two shards: what passing publications between them costs.

use anyhow::Result;

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::side::{self, Side};
use crate::measure::router::RouterSetup;
use crate::measure::{LOAD_CPU, SERVER_CPU};

/// Wakes per item that passed between two shards, each of which is busy on a CPU of its own; the load has to share one.
pub fn wakes(bench: &mut Bench<'_>) -> Result<()> {
    let pairs = bench.count(100);
    let load = format!("pairs --pairs {pairs} --window 64 --serializer msgpack");
    let setup = RouterSetup { shards: 2, cpus: format!("{SERVER_CPU},{LOAD_CPU}"), ..bench.router() };
    let series = bench.alternate(&[Side::fanwire(setup, &load).watched()])?;
    let what = What {
        what: format!("wakes per message between two shards, {} pairs, 64 in flight each", grouped(pairs)),
        figure: |run| side::growth(run, "fanwire_wakes_total", &["fanwire_publications_forwarded_total"]),
        unit: Unit::Count,
        bounds: Bounds::at_most(0.1, 0.02),
    };
    bench.value(what, &series[0])
}

/// Half of the subscribers on each of two shards that share a CPU, against one shard.
pub fn two(bench: &mut Bench<'_>) -> Result<()> {
    let subscribers = bench.count(1_000);
    for window in [1, 16] {
        let load = format!("fanout --subscribers {subscribers} --window {window} --serializer msgpack");
        let two = RouterSetup { shards: 2, ..bench.router() };
        let series = bench.alternate(&[Side::fanwire(two, &load), Side::fanwire(bench.router(), &load)])?;
        let what = What {
            what: format!(
                "CPU per delivery, MessagePack to {} on two shards of one CPU, {window} in flight",
                grouped(subscribers)
            ),
            figure: side::cpu,
            unit: Unit::Nanos,
            bounds: Bounds::at_most(1.15, 1.03),
        };
        bench.ratio(what, &series[0], "one shard", &series[1])?;
    }
    Ok(())
}
