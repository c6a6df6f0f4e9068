//! One topic, many subscribers: what a delivery costs.

use anyhow::Result;

use super::bench::{Bench, What};
use super::line::{Bounds, Unit};
use super::side::{self, Side};
use crate::measure::router::RouterSetup;

/// A fan-out that is compared with uWebSockets.
pub struct Shape {
    /// Subscribers of the topic.
    pub subscribers: usize,
    /// Publications in flight.
    pub window: usize,
    /// Which subscribers open the window: `average` or `slowest`.
    pub window_by: &'static str,
    /// Serializer of Fanwire's sessions.
    pub serializer: &'static str,
    /// Of the CPU per delivery.
    pub bounds: Bounds,
}

/// Fanwire with each driver against plain frames of uWebSockets, which have as many bytes on the wire.
pub fn fan_out(bench: &mut Bench<'_>, shape: &Shape) -> Result<()> {
    let subscribers = bench.count(shape.subscribers);
    let load = format!(
        "fanout --subscribers {subscribers} --window {} --window-by {}",
        shape.window, shape.window_by
    );
    let payload = bench.plain_payload(shape.serializer)?;
    let mut sides: Vec<Side> = bench
        .drivers()
        .iter()
        .map(|driver| {
            Side::fanwire(RouterSetup::new(driver), &format!("{load} --serializer {}", shape.serializer))
        })
        .collect();
    sides.push(Side::rival("uws", &format!("{load} --payload {payload}")));
    let series = bench.alternate(&sides)?;
    let Some((theirs, ours)) = series.split_last() else { return Ok(()) };
    let rule = if shape.window_by == "average" { "" } else { ", the last subscriber opens the window" };
    let what = |name: &str, figure, unit, bounds| What {
        what: format!(
            "{name}, {} to {}, {} in flight{rule}",
            in_words(shape.serializer),
            grouped(subscribers),
            shape.window
        ),
        figure,
        unit,
        bounds,
    };
    let cpu = |bounds| what("CPU per delivery", side::cpu, Unit::Nanos, bounds);
    for ours in ours {
        bench.ratio(cpu(shape.bounds), ours, "uWebSockets", theirs)?;
    }
    bench.between_drivers(cpu(Bounds::NONE), ours)?;
    let rate = what("deliveries", side::rate, Unit::PerSecond, Bounds::NONE);
    bench.ratio(rate, &ours[0], "uWebSockets", theirs)
}

/// Against a program that does nothing but send the same bytes.
pub fn floor(bench: &mut Bench<'_>, window: usize, bounds: Bounds) -> Result<()> {
    let subscribers = bench.count(1_000);
    let load = format!("fanout --subscribers {subscribers} --window {window}");
    let payload = bench.plain_payload("msgpack")?;
    let floor = if window == 1 { "floor" } else { "floor16" };
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{load} --serializer msgpack")),
        Side::rival(floor, &format!("{load} --payload {payload}")),
    ])?;
    let what = What {
        what: format!("CPU per delivery, MessagePack to {}, {window} in flight", grouped(subscribers)),
        figure: side::cpu,
        unit: Unit::Nanos,
        bounds,
    };
    let name = if window == 1 { "bare sends" } else { "bare sends of 16 messages" };
    bench.ratio(what, &series[0], name, &series[1])
}

/// Against a server that speaks a protocol of its own, with payloads of 64 bytes.
pub fn other(bench: &mut Bench<'_>, window: usize, rival: &'static str, bounds: Bounds) -> Result<()> {
    let subscribers = bench.count(1_000);
    let load = format!("fanout --subscribers {subscribers} --window {window}");
    let series = bench.alternate(&[Side::fanwire(bench.router(), &load), Side::rival(rival, &load)])?;
    let what = What {
        what: format!("CPU per delivery, JSON to {}, {window} in flight", grouped(subscribers)),
        figure: side::cpu,
        unit: Unit::Nanos,
        bounds,
    };
    bench.ratio(what, &series[0], rival, &series[1])
}

/// Messages per send, by the router's own counters under load.
pub fn coalescing(bench: &mut Bench<'_>, subscribers: usize, bounds: Bounds) -> Result<()> {
    let subscribers = bench.count(subscribers);
    let load = format!("fanout --subscribers {subscribers} --window 16 --serializer msgpack");
    let series = bench.alternate(&[Side::fanwire(bench.router(), &load).watched()])?;
    let what = What {
        what: format!("messages per send, MessagePack to {}, 16 in flight", grouped(subscribers)),
        figure: |run| side::growth(run, "fanwire_events_delivered_total", &["fanwire_sends_total"]),
        unit: Unit::Count,
        bounds,
    };
    bench.value(what, &series[0])
}

/// The same fan-out with and without subscribers that never read.
pub fn stuck(bench: &mut Bench<'_>) -> Result<()> {
    let subscribers = bench.count(1_000);
    let load = format!("fanout --subscribers {subscribers} --window 16 --serializer msgpack");
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &format!("{load} --stuck 10")),
        Side::fanwire(bench.router(), &load),
    ])?;
    for (figure, name, unit, bounds) in [
        (side::cpu as side::Figure, "CPU per delivery", Unit::Nanos, Bounds::at_most(1.05, 1.05)),
        (side::rate, "deliveries", Unit::PerSecond, Bounds::at_least(0.95, 0.95)),
    ] {
        let what = What {
            what: format!(
                "{name} to {} that read, beside 10 that never do, 16 in flight",
                grouped(subscribers)
            ),
            figure,
            unit,
            bounds,
        };
        bench.ratio(what, &series[0], "without those", &series[1])?;
    }
    Ok(())
}

/// A serializer's name as people write it.
pub fn in_words(serializer: &str) -> &'static str {
    match serializer {
        "json" => "JSON",
        "msgpack" => "MessagePack",
        _ => "CBOR",
    }
}

/// `10,000`.
pub fn grouped(count: usize) -> String {
    match count {
        ..1_000 => count.to_string(),
        _ => format!("{},{:03}", grouped(count / 1_000), count % 1_000),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_grouped() {
        assert_eq!([7, 1_000, 10_012, 1_000_000].map(super::grouped), ["7", "1,000", "10,012", "1,000,000"]);
    }
}
