//! Crowds that come, come back and are sent away, all at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::control::said_goodbye;
use crate::crowd::{Crowd, Guest};
use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, Heard, PATIENCE, Router, allow_descriptors, eventually};

const TOPIC: &str = "com.fanwire.crowd";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "reconnect-storm",
            "a crowd that loses its connections and comes back at once is served, and costs the others no event",
            reconnect_storm,
        ),
        Scenario::new(
            "restart",
            "after a crash the port is free at once, and the whole crowd comes back by itself",
            restart,
        ),
        Scenario::new(
            "drain",
            "SIGTERM tells everybody goodbye, spread over the drain time, and ends with status 0",
            drain,
        ),
    ]
}

/// Descriptors for a crowd in this process; the router raises its own.
fn make_room(stage: &Stage) {
    let wanted = stage.crowd as u64 + 500;
    let have = allow_descriptors(wanted);
    assert!(have >= wanted, "a crowd of {} needs {wanted} descriptors, and {have} are allowed", stage.crowd);
}

/// Everybody gets this event, and nothing else before it.
fn tell_all(router: &Router, crowd: &Crowd, guests: Vec<Guest>, word: &'static str) -> Vec<Guest> {
    Client::join(router.wamp).publish(TOPIC, json!([word]));
    crowd.each(guests, move |mut guest| async move {
        assert_eq!(guest.expect_event().await, json!([word]));
        guest
    })
}

fn reconnect_storm(stage: &mut Stage) -> String {
    make_room(stage);
    let router = stage.launch().start();
    let control = stage.control(&router);
    let (crowd, count) = (Crowd::new(), stage.crowd);
    let begun = Instant::now();
    let guests = crowd.join(router.wamp, count, TOPIC);
    let first = begun.elapsed();
    let guests = tell_all(&router, &crowd, guests, "first");
    guests.into_iter().for_each(Guest::reset);
    let begun = Instant::now();
    let guests = crowd.join(router.wamp, count, TOPIC);
    let second = begun.elapsed();
    let guests = tell_all(&router, &crowd, guests, "second");
    drop(guests);
    // Four of the control.
    eventually("the crowd being gone", || router.metric("fanwire_sessions", "") == 4.0);
    assert_eq!(router.metric("fanwire_subscriptions", ""), 3.0);
    stage.close(
        control,
        format_args!(
            "{count} sessions in {:.1} s, all again in {:.1} s",
            first.as_secs_f64(),
            second.as_secs_f64()
        ),
    )
}

fn restart(stage: &mut Stage) -> String {
    make_room(stage);
    let mut router = stage.launch().start();
    let address = router.wamp;
    let (crowd, count) = (Crowd::new(), stage.crowd);
    let guests = crowd.join(address, count, TOPIC);
    router.signal(Signal::KILL);
    router.wait(PATIENCE);
    let begun = Instant::now();
    drop(crowd.each(guests, |mut guest| async move { while guest.hear().await != Heard::End {} }));
    let router = stage.launch().argument("--bind").argument(&address.to_string()).start();
    let up = begun.elapsed();
    assert_eq!(router.wamp, address);
    let control = stage.control(&router);
    let begun = Instant::now();
    let guests = crowd.join(address, count, TOPIC);
    let back = begun.elapsed();
    tell_all(&router, &crowd, guests, "again");
    stage.close(
        control,
        format_args!(
            "{count} sessions cut by SIGKILL, ready again after {:.1} s, all back in {:.1} s more",
            up.as_secs_f64(),
            back.as_secs_f64()
        ),
    )
}

fn drain(stage: &mut Stage) -> String {
    const DRAIN: Duration = Duration::from_secs(4);
    make_room(stage);
    let mut router = stage.launch().set("shutdown.drain_time", "4s").start();
    let control = stage.control(&router);
    let crowd = Crowd::new();
    let guests = crowd.join(router.wamp, stage.crowd, TOPIC);
    let guests = tell_all(&router, &crowd, guests, "before");
    control.may_end();
    router.signal(Signal::TERM);
    let asked = Instant::now();
    let mut times = crowd.each(guests, move |mut guest| async move {
        let goodbye = guest.expect().await;
        let heard = asked.elapsed();
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.system_shutdown")));
        guest.send(&said_goodbye()).await;
        match guest.hear().await {
            Heard::Close(1001, _) => {}
            other => panic!("expected close 1001, heard {other:?}"),
        }
        assert_eq!(guest.hear().await, Heard::End);
        heard
    });
    times.sort_unstable();
    let status = router.wait(PATIENCE);
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", router.said());
    let spread = times[times.len() - 1] - times[0];
    assert!(spread >= DRAIN / 4, "{} goodbyes within {spread:?}: not spread over {DRAIN:?}", times.len());
    stage.close(
        control,
        format_args!(
            "{} goodbyes spread over {:.1} s, each closed with 1001, ended after {:.1} s with status 0",
            times.len(),
            spread.as_secs_f64(),
            took.as_secs_f64()
        ),
    )
}
