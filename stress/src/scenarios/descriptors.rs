//! A router that runs out of descriptors.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, PATIENCE, allow_descriptors, eventually};

/// That the router may have.
const DESCRIPTORS: &str = "256";
/// That want to connect.
const CROWD: usize = 1_000;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "descriptors",
        "out of descriptors it turns new clients away, serves those it has, does not spin, and recovers by itself",
        descriptors,
    )]
}

fn descriptors(stage: &mut Stage) -> String {
    allow_descriptors(CROWD as u64 + 500);
    let router = stage.launch().launched_with(&["--nofile", DESCRIPTORS]).start();
    let control = stage.control(&router);
    // Each is accepted, waits in the kernel or is turned away; none hangs.
    let crowd: Vec<_> = (0..CROWD)
        .filter_map(|_| match TcpStream::connect_timeout(&router.wamp, PATIENCE) {
            Ok(stream) => Some(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => panic!("the accept queue hangs"),
            Err(_) => None,
        })
        .collect();
    let before = router.cpu_time();
    control.go_on(100);
    let used = router.cpu_time() - before;
    // A second of control traffic costs some 20 ms, a loop that spins costs two CPUs.
    assert!(used < Duration::from_millis(700), "it spins: {used:?} of CPU in about a second");
    let connected = crowd.len();
    drop(crowd);
    // Those that waited are accepted and found dead first.
    eventually("room again", || {
        thread::sleep(Duration::from_millis(50));
        router.metric("fanwire_connections_open", "") == 4.0
    });
    let mut late = Client::join(router.wamp);
    late.subscribe("com.fanwire.late");
    let turned = router.metric("fanwire_connections_rejected_total", "descriptors");
    assert!(turned > 0.0, "nobody was turned away");
    stage.close(
        control,
        format_args!("{connected} connected with {DESCRIPTORS} descriptors, {turned} turned away"),
    )
}
