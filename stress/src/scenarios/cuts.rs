//! Connections that are reset at each byte of an exchange, or whose bits are damaged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::crowd::{self, Crowd};
use crate::proxy::{Choose, Faults, Line, Proxy};
use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, allow_descriptors, eventually, subscribed, wire};

const TOPIC: &str = "com.fanwire.cut.events";
/// Exchanges at once. Some wait in vain for an answer, so many should do that together.
const AT_ONCE: usize = 256;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "reset-each-byte",
            "a reset at any byte of an exchange delivers no part of a message and leaves nothing behind",
            reset_each_byte,
        ),
        Scenario::new(
            "corruption",
            "a damaged bit anywhere costs the damaged connection at most, and never the process",
            corruption,
        ),
    ]
}

fn reset_each_byte(stage: &mut Stage) -> String {
    allow_descriptors(1_000);
    let router = stage.launch().start();
    let control = stage.control(&router);
    let mut watcher = subscribed(&router, TOPIC);
    let length = sent_length(router.wamp) as u64;
    let reset = |at| Faults { reset_at: Some(at), ..Faults::default() };
    let up: Choose = Arc::new(move |number| Line::up(reset(number)));
    let proxy = Proxy::start_with(router.wamp, up, stage.random.bits()).expect("a free port");
    let ups = exchanges(&proxy, router.wamp, length as usize, TOPIC);
    assert_eq!(ups.complete, 0, "each was cut before its last byte");
    drop(proxy);
    // The router's answers: the head, WELCOME, SUBSCRIBED, REGISTERED, PUBLISHED. What it has been sent by then counts.
    let down: Choose = Arc::new(move |number| Line::down(reset(number)));
    let proxy = Proxy::start_with(router.wamp, down, stage.random.bits()).expect("a free port");
    let downs = exchanges(&proxy, router.wamp, 600, "com.fanwire.cut.unwatched");
    drop(proxy);
    eventually("all of them being gone", || router.metric("fanwire_connections_open", "") == 5.0);
    eventually("their registrations being gone", || router.metric("fanwire_registrations", "") == 0.0);
    // The first event that the watcher ever gets is one that was sent whole.
    Client::join(router.wamp).publish(TOPIC, json!(["whole"]));
    assert_eq!(watcher.expect_event(), json!(["whole"]), "a part of a publication was delivered");
    stage.close(
        control,
        format_args!(
            "{length} cut while sending, 600 while reading ({} of them before the end)",
            600 - downs.complete
        ),
    )
}

fn corruption(stage: &mut Stage) -> String {
    allow_descriptors(1_000);
    const CONNECTIONS: usize = 1_000;
    let router = stage
        .launch()
        .set("limits.handshake_time", "5s")
        .set("limits.login_time", "5s")
        .set("limits.message_time", "5s")
        .start();
    let control = stage.control(&router);
    let bits = sent_length(router.wamp) as u64 * 8;
    let seed = stage.random.bits();
    let choose: Choose = Arc::new(move |number| {
        let bit = crate::random::Random::part(seed, number).below(bits);
        Line::up(Faults { corrupt_bits: vec![bit], ..Faults::default() })
    });
    let proxy = Proxy::start_with(router.wamp, choose, seed).expect("a free port");
    let outcome = exchanges(&proxy, router.wamp, CONNECTIONS, TOPIC);
    drop(proxy);
    eventually("all of them being gone", || router.metric("fanwire_connections_open", "") == 4.0);
    for panics in ["fanwire_decoder_panics_total", "fanwire_message_panics_total"] {
        assert_eq!(router.metric(panics, ""), 0.0, "{panics}");
    }
    // A bit of a mask or of an argument harms nobody, so some get through.
    assert!(outcome.complete < CONNECTIONS, "no damage was done");
    stage.close(
        control,
        format_args!(
            "{CONNECTIONS} connections with a wrong bit, {} of them served all the same",
            outcome.complete
        ),
    )
}

/// What became of some exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    /// Had at least one answer.
    pub(super) answered: usize,
    /// Had all answers.
    pub(super) complete: usize,
}

/// What a session says after the handshake: it joins, subscribes, registers and publishes to the topic.
fn words(topic: &str) -> [Vec<u8>; 4] {
    [
        wire::hello(),
        json!([32, 1, {}, "com.fanwire.cut.own"]),
        json!([64, 2, {"invoke": "roundrobin"}, "com.fanwire.cut.procedure"]),
        json!([16, 3, {"acknowledge": true}, topic, ["must not come", "x".repeat(200)]]),
    ]
    .map(|message| wire::frame(&message))
}

/// Bytes that an exchange sends.
fn sent_length(router: SocketAddr) -> usize {
    wire::request(router, &[]).len() + words(TOPIC).iter().map(Vec::len).sum::<usize>()
}

/// Makes so many exchanges through the proxy, one after the other as the proxy counts them, some at once. Whatever happens to
/// them is no failure.
pub(super) fn exchanges(proxy: &Proxy, router: SocketAddr, count: usize, topic: &'static str) -> Exchanged {
    let (crowd, through) = (Crowd::new(), proxy.address());
    let mut total = Exchanged::default();
    for first in (0..count).step_by(AT_ONCE) {
        let some = first..count.min(first + AT_ONCE);
        for answers in crowd.each(some, move |_| exchange(through, router, topic)) {
            total.answered += usize::from(answers > 0);
            total.complete += usize::from(answers == 5);
        }
    }
    total
}

/// Long enough for an answer; one that is damaged may be waited for in vain.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// How many answers came: of the handshake, and of the four messages.
async fn exchange(through: SocketAddr, router: SocketAddr, topic: &str) -> usize {
    let Ok(mut stream) = crowd::dial(through, 0).await else { return 0 };
    let mut answers = 0;
    let request = wire::request(router, &[]);
    if crowd::write(&mut stream, &request).await.is_err() {
        return answers;
    }
    match timeout(ANSWER_TIME, crowd::read_head(&mut stream)).await {
        Ok(Ok(head)) if head.starts_with(b"HTTP/1.1 101") => answers += 1,
        _ => return answers,
    }
    for message in words(topic) {
        if crowd::write(&mut stream, &message).await.is_err() {
            return answers;
        }
        match timeout(ANSWER_TIME, crowd::read(&mut stream)).await {
            Ok(Ok(answer)) if answer.first() == Some(&0x81) => answers += 1,
            _ => return answers,
        }
    }
    answers
}
