//! Many publishers, one subscriber: what reading costs.

use anyhow::Result;

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::side::{self, Side};
use crate::measure::router::RouterSetup;

/// Fanwire with each driver against uWebSockets. `window` messages of each publisher are in flight.
pub fn fan_in(bench: &mut Bench<'_>, publishers: usize, window: usize, bounds: Bounds) -> Result<()> {
    let publishers = bench.count(publishers);
    let load = format!("fanin --publishers {publishers} --window {window}");
    let payload = bench.plain_payload("msgpack")?;
    let mut sides: Vec<Side> = bench
        .drivers()
        .iter()
        .map(|driver| Side::fanwire(RouterSetup::new(driver), &format!("{load} --serializer msgpack")))
        .collect();
    sides.push(Side::rival("uws", &format!("{load} --payload {payload}")));
    let series = bench.alternate(&sides)?;
    let Some((theirs, ours)) = series.split_last() else { return Ok(()) };
    let what = |bounds| What {
        what: format!(
            "CPU per message, MessagePack of {} publishers to one subscriber, {} in flight",
            grouped(publishers),
            grouped(publishers * window)
        ),
        figure: side::cpu,
        unit: Unit::Nanos,
        bounds,
    };
    for ours in ours {
        bench.ratio(what(bounds), ours, "uWebSockets", theirs)?;
    }
    bench.between_drivers(what(Bounds::NONE), ours)
}
