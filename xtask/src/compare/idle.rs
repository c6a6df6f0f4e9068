//! Connections on which nothing happens: memory, CPU, pings.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::bench::{Bench, What};
use super::fanout::grouped;
use super::line::{Bounds, Unit};
use super::rows::bounds;
use super::side::{self, Run, Series, Side};
use crate::measure::cpu;
use crate::measure::load::Load;
use crate::measure::router::{Router, RouterSetup};

/// For all connections to be there.
const CONNECT_TIME: Duration = Duration::from_secs(60);
/// Everybody is.
const OFTEN: [&str; 2] = ["limits.ping_interval=1s", "limits.pong_wait=1s"];
/// Nobody is pinged.
const NO_PINGS: &str = "limits.ping_interval=1h";

/// Resident memory per connection, beside that of uWebSockets.
pub fn memory(bench: &mut Bench<'_>) -> Result<()> {
    let connections = bench.count(10_000);
    let load = |hold: &str| format!("idle --connections {connections} --hold {hold} --duration 200ms");
    let series = bench.alternate(&[
        Side::fanwire(bench.router(), &load("connection")),
        Side::fanwire(bench.router(), &load("subscription")),
        Side::rival("uws", &load("connection")),
        Side::rival("uws", &load("subscription")),
    ])?;
    for (at, name, bounds) in
        [(0, "connection", bounds::CONNECTION), (1, "WAMP session with one subscription", bounds::SESSION)]
    {
        let what = format!("memory per idle {name}, {} of them", grouped(connections));
        let what = |bounds| What { what: what.clone(), figure: side::memory, unit: Unit::Bytes, bounds };
        bench.value(what(bounds), &series[at])?;
        bench.ratio(what(Bounds::NONE), &series[at], "uWebSockets", &series[at + 2])?;
    }
    Ok(())
}

/// CPU in two seconds without pings.
pub fn idle(bench: &mut Bench<'_>) -> Result<()> {
    let connections = bench.count(10_000);
    let load = format!("idle --connections {connections} --hold session --duration 2s");
    let sides: Vec<Side> =
        bench.drivers().iter().map(|driver| Side::fanwire(without_pings(driver), &load)).collect();
    for series in bench.alternate(&sides)? {
        let what = What {
            what: format!("CPU in 2 s of {} idle sessions, nobody pinged", grouped(connections)),
            figure: |run| Ok(run.report.number("/server/cost/cpu_ns_per_second")? * 2.0),
            unit: Unit::Nanos,
            bounds: bounds::IDLE,
        };
        bench.value(what, &series)?;
    }
    Ok(())
}

fn without_pings(driver: &str) -> RouterSetup {
    RouterSetup { set: vec![NO_PINGS.to_owned()], ..RouterSetup::new(driver) }
}

/// What the router spends more with pings than without, for each of them.
pub fn ping(bench: &mut Bench<'_>) -> Result<()> {
    let connections = bench.count(10_000);
    let drivers = bench.drivers();
    let mut costs = vec![(Series::default(), Vec::new()); drivers.len()];
    for _ in 0..bench.effort.pairs {
        for (driver, (series, figures)) in drivers.iter().zip(&mut costs) {
            let (_, silent, _) = hold(bench, connections, &without_pings(driver))?;
            let often = RouterSetup { set: OFTEN.map(str::to_owned).to_vec(), ..RouterSetup::new(driver) };
            let (run, spent, pings) = hold(bench, connections, &often)?;
            ensure!(pings > 0.0, "nobody was pinged");
            let cost = (spent - silent).max(0.0) / pings;
            eprintln!("  {driver}: {cost:.0} ns for each of {pings} pings");
            series.0.push(run);
            figures.push(cost);
        }
    }
    for (series, figures) in costs {
        let what = What {
            what: format!(
                "CPU of one ping and its pong, {} sessions, limits.ping_interval = 1s",
                grouped(connections)
            ),
            figure: side::cpu,
            unit: Unit::Nanos,
            bounds: bounds::PING,
        };
        bench.value_of(what, &series, &figures)?;
    }
    Ok(())
}

/// CPU nanoseconds and pings of some seconds in which nothing else happens.
fn hold(bench: &mut Bench<'_>, connections: usize, setup: &RouterSetup) -> Result<(Run, f64, f64)> {
    let interval = Duration::from_secs_f64(bench.effort.seconds.max(2.0));
    let router = Router::start(bench.workplace, setup)?;
    let duration = format!("{}ms", interval.as_millis() + 1_500);
    let load = format!(
        "idle --connections {connections} --hold session --connect-rate 10k --warmup 0s --duration {duration} --url {}",
        router.url
    );
    let load: Vec<String> = load.split_whitespace().map(str::to_owned).collect();
    let mut under_way = Load::start(bench.workplace, &load, router.pid())?;
    let deadline = Instant::now() + CONNECT_TIME;
    while router.metrics()?.sum("fanwire_sessions") < connections as f64 {
        ensure!(Instant::now() < deadline && !under_way.has_ended(), "the sessions were not opened");
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_millis(500));
    let before = router.metrics()?.sum("fanwire_pings_total");
    let begun = cpu::time_ns(router.pid())?;
    thread::sleep(interval);
    let spent = cpu::time_ns(router.pid())?.saturating_sub(begun);
    let metrics = router.metrics()?;
    let pings = metrics.sum("fanwire_pings_total") - before;
    let driver = metrics.label("fanwire_build_info", "driver").unwrap_or_default().to_owned();
    let report = under_way.report()?;
    bench.note_run(&report);
    Ok((Run { report, driver, watched: None, is_real_time: false }, spent as f64, pings))
}
