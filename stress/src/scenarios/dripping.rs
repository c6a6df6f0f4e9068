//! Clients that send a byte a second, at each listener and in each stage of a connection.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crowd::{self, Crowd};
use crate::proxy::{Faults, Line, Proxy};
use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, Folder, PATIENCE, Router, allow_descriptors, eventually, status, wire};

/// Of each kind.
const CLIENTS: usize = 100;
/// The deadlines of the router. A request takes minutes at this pace.
const DEADLINE: &str = "3s";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "dripping-handshake",
            "a handshake of one byte a second ends at its deadline, at TCP and Unix listeners and the admin port",
            handshake,
        ),
        Scenario::new(
            "dripping-frame",
            "a message of one byte a second ends at its deadline, counted from its first byte",
            frame,
        ),
    ]
}

/// One byte a second from the client to the router.
fn dripping(to: SocketAddr, stage: &mut Stage) -> Proxy {
    let line = Line::up(Faults { bandwidth: NonZeroU64::new(1), ..Faults::default() });
    Proxy::start(to, line, stage.random.bits()).expect("a free port")
}

fn handshake(stage: &mut Stage) -> String {
    allow_descriptors(CLIENTS as u64 * 6 + 200);
    let folder = Folder::new(&format!("dripping-{}-{}", stage.driver, stage.random.bits()));
    let socket = folder.path("fanwire.sock");
    let file = folder.write(
        "fanwire.toml",
        &format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{socket}\"\n"),
    );
    let router =
        stage.launch().argument("--config").argument(&file).set("limits.handshake_time", DEADLINE).start();
    let control = stage.control(&router);
    let (wamp, admin) = (dripping(router.wamp, stage), dripping(router.admin, stage));
    let request = wire::request(router.wamp, &[]);
    let unix = std::thread::spawn({
        let request = request.clone();
        move || drip_unix(&socket, &request)
    });
    let begun = Instant::now();
    let crowd = Crowd::new();
    // The admin port has 64 places; with half of them taken it must still answer.
    let all = (0..CLIENTS).map(|_| wamp.address()).chain((0..32).map(|_| admin.address()));
    let answers = crowd.each(all, |address| {
        let request = request.clone();
        async move {
            let mut stream = crowd::dial(address, 0).await.expect("the proxy accepts");
            crowd::write(&mut stream, &request).await.expect("sent");
            let mut answer = Vec::new();
            while let Ok(bytes @ [_, ..]) = crowd::read(&mut stream).await.as_deref() {
                answer.extend_from_slice(bytes);
            }
            String::from_utf8_lossy(&answer).into_owned()
        }
    });
    for answer in &answers {
        assert!(answer.is_empty() || status(answer) == 408, "{answer}");
    }
    unix.join().expect("the Unix socket cuts too");
    let took = begun.elapsed();
    assert_eq!(status(&crate::testbed::get(router.admin, "/livez")), 200);
    drop((wamp, admin));
    eventually("nobody but the control clients", || router.metric("fanwire_connections_open", "") == 4.0);
    let at = CLIENTS as f64 * 2.0;
    eventually("each is cut at the deadline", || closed(&router, "handshake_timeout") == at);
    stage.close(
        control,
        format_args!(
            "{} dripped, {at} of them at listeners and cut at the deadline, the last gone after {:.1} s",
            answers.len() + CLIENTS,
            took.as_secs_f64()
        ),
    )
}

/// The same at a Unix socket, which the proxy does not do.
fn drip_unix(path: &str, request: &[u8]) {
    let mut streams: Vec<_> =
        (0..CLIENTS).map(|_| UnixStream::connect(path).expect("the router accepts")).collect();
    let deadline = Instant::now() + PATIENCE;
    for byte in request {
        // What was cut takes no more.
        streams.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        if streams.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{} still drip", streams.len());
        std::thread::sleep(Duration::from_secs(1));
    }
    panic!("{} handshakes came through at one byte a second", streams.len())
}

fn frame(stage: &mut Stage) -> String {
    let router = stage.launch().set("limits.message_time", DEADLINE).start();
    let control = stage.control(&router);
    let message = wire::frame(&json!([16, 1, {}, "com.fanwire.drip", ["x".repeat(300)]]));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::join(router.wamp)).collect();
    let begun = Instant::now();
    let mut open: Vec<_> = clients.iter().map(Client::writer).collect();
    for byte in &message {
        open.retain_mut(|stream| !crate::testbed::has_answered(stream) && stream.write_all(&[*byte]).is_ok());
        if open.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{} still drip", open.len());
        std::thread::sleep(Duration::from_secs(1));
    }
    let took = begun.elapsed();
    clients.iter_mut().for_each(|client| client.expect_close(1008));
    // A shard's figures are told when it goes to sleep, or after some turns.
    eventually("each is cut at the deadline", || closed(&router, "message_timeout") == CLIENTS as f64);
    stage.close(control, format_args!("{CLIENTS} dripped, all cut after {:.1} s", took.as_secs_f64()))
}

fn closed(router: &Router, reason: &str) -> f64 {
    router.metric("fanwire_connections_closed_total", reason)
}
