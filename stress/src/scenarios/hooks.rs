//! Hooks that are slow, fail, are down or talk nonsense, and a herd of logins that a hook decides on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, HookServer, Reply, Router, eventually};

/// What the hook is asked about, and what it is not.
const ASKED: &str = "ask.topic";
const FREE: &str = "com.fanwire.free";

pub(super) fn scenarios() -> Vec<Scenario> {
    let fails = |name: &str, mode: Mode| Scenario {
        name: format!("hook/{name}"),
        promise: "while a hook fails, who waits for it is refused in time, and nobody else notices",
        play: Box::new(move |stage| fails(stage, mode)),
    };
    vec![
        fails("slow", || Some(Reply::Never)),
        fails("5xx", || Some(Reply::Status(503, "overloaded".into()))),
        fails("down", || None),
        fails("garbage", || Some(Reply::Bytes(vec![0x7f; 100_000]))),
        Scenario::new(
            "hook/herd",
            "a herd of logins reaches a hook a few at a time, each ticket once, and all are let in",
            herd,
        ),
    ]
}

/// What the hook does; `None`: it is not there.
type Mode = fn() -> Option<Reply>;

/// As `--set` takes it.
fn hook(url: &str, events: &str, more: &str) -> String {
    format!("[{{name=\"backend\",url=\"{url}\",events=[{events}],uri=\"ask.\",{more}}}]")
}

fn fails(stage: &mut Stage, mode: Mode) -> String {
    const CLIENTS: usize = 50;
    const ROUNDS: u64 = 20;
    const TIMEOUT: Duration = Duration::from_millis(500);
    let mut server = Some(HookServer::start(|_| Reply::allow()));
    let address = server.as_ref().expect("just made").address();
    let url = format!("http://{address}/hook");
    let router =
        stage.launch().set("hook", &hook(&url, "\"publish\"", "timeout=\"500ms\",max_in_flight=16")).start();
    let control = stage.control(&router);
    match mode() {
        Some(reply) => server.as_ref().expect("as above").set(move |_| reply.clone()),
        None => server = None,
    }
    let longest = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| refused(&router, ROUNDS))).collect();
        let longest = clients.into_iter().map(|client| client.join().expect("it is refused in words"));
        longest.max().unwrap_or_default()
    });
    // It waits for its turn and for its reply.
    assert!(longest < TIMEOUT * 2 + stage.slack, "somebody waited {longest:?} for a refusal");
    let spared = router.metric("fanwire_hook_requests_total", "result=\"breaker_open\"");
    match &server {
        Some(server) => server.set(|_| Reply::allow()),
        None => server = Some(HookServer::at(address, |_| Reply::allow())),
    }
    let mut client = Client::join(router.wamp);
    eventually("the hook being found again", || publish(&mut client, 1, ASKED)[0] == 17);
    drop(server);
    stage.close(
        control,
        format_args!(
            "{} questions refused, {spared} of them without a request, after {} ms at most",
            CLIENTS as u64 * ROUNDS,
            longest.as_millis()
        ),
    )
}

/// Asks and is refused, and does between what needs no question. The longest time that a refusal took.
fn refused(router: &Router, rounds: u64) -> Duration {
    let mut client = Client::join(router.wamp);
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let began = Instant::now();
        let answer = publish(&mut client, 2 * round + 1, ASKED);
        longest = longest.max(began.elapsed());
        assert_eq!(answer[4], "wamp.error.authorization_failed", "{answer}");
        assert_eq!(publish(&mut client, 2 * round + 2, FREE)[0], 17);
    }
    longest
}

fn publish(client: &mut Client, request: u64, topic: &str) -> Value {
    client.ask(json!([16, request, {"acknowledge": true}, topic, [request]]))
}

fn herd(stage: &mut Stage) -> String {
    const IN_FLIGHT: usize = 64;
    const THREADS: usize = 8;
    /// Clients with the same ticket.
    const ALIKE: usize = 4;
    let clients = (stage.crowd / 4).clamp(THREADS * ALIKE, 2_000) / (THREADS * ALIKE) * (THREADS * ALIKE);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, peak) = (Arc::clone(&now), Arc::clone(&most));
    let server = HookServer::start(move |question| {
        peak.fetch_max(asked.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(5));
        asked.fetch_sub(1, Ordering::SeqCst);
        Reply::json(&json!({"uid": question.field("token"), "role": "anonymous"}))
    });
    let more = format!("timeout=\"10s\",max_in_flight={IN_FLIGHT},queue=100000,cache=\"1h\"");
    let router = stage.launch().set("hook", &hook(&server.url(), "\"authenticate\"", &more)).start();
    let control = stage.control(&router);
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let router = &router;
            scope.spawn(move || {
                log_in(router, thread * clients / THREADS..(thread + 1) * clients / THREADS, ALIKE)
            });
        }
    });
    let took = began.elapsed();
    let (most, requests) = (most.load(Ordering::SeqCst), server.count("authenticate"));
    assert!(most <= IN_FLIGHT, "{most} requests at once");
    assert_eq!(requests, clients / ALIKE, "requests for {clients} logins");
    stage.close(
        control,
        format_args!(
            "{clients} logins with {} tickets in {:.1} s, {requests} requests, {most} at once at most",
            clients / ALIKE,
            took.as_secs_f64()
        ),
    )
}

/// All of them are on their way before the first is welcomed.
fn log_in(router: &Router, numbers: std::ops::Range<usize>, alike: usize) {
    let mut clients: Vec<_> = numbers
        .map(|number| {
            let mut client = Client::connect(router.wamp);
            client.send(json!([1, "realm1", {"roles": {"caller": {}}, "authmethods": ["ticket"]}]));
            (client, format!("user-{}", number / alike))
        })
        .collect();
    for (client, ticket) in &mut clients {
        assert_eq!(client.expect()[0], 4);
        client.send(json!([5, ticket, {}]));
    }
    for (client, ticket) in &mut clients {
        let welcome = client.expect();
        assert_eq!(welcome[2]["authid"], **ticket, "{welcome}");
    }
}
