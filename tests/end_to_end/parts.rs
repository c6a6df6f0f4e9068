//! Calls and results in parts between clients of which one reads slowly: the fast one waits, and nobody is cut.

use std::io::Write;
use std::net::TcpStream;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::support::{Client, Launch, Router, eventually};

/// Several times what two sockets and an outbox of 256 KiB hold.
const PARTS: u64 = 500;
const PART_BYTES: usize = 64 << 10;

/// All shards serve all connections, and one shard serves both.
const SHARDS: [&str; 2] = ["2", "1"];

fn launch(driver: &str, shards: &str) -> Router {
    Launch::on(driver)
        .set("shards.count", shards)
        .set("limits.outbox", "256KiB")
        // However busy the machine is, nobody is slow for its age alone.
        .set("limits.outbox_age", "300s")
        .start()
}

/// A session that announces all that calls in parts need.
fn join(router: &Router) -> Client {
    let mut client = Client::connect(router.wamp);
    let features = json!({"progressive_call_invocations": true, "progressive_call_results": true, "call_canceling": true});
    let roles = json!({"caller": {"features": features}, "callee": {"features": features}});
    let welcome = client.ask(json!([1, "realm1", {"roles": roles}]));
    assert_eq!(welcome[0], 2, "{welcome}");
    client
}

/// Sends what `message` makes of each part and whether it is the last, on a thread: its socket may take nothing for a while.
fn send_parts(
    mut writer: TcpStream,
    message: impl Fn(bool, Value) -> Value + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let block = "x".repeat(PART_BYTES);
        for number in 0..PARTS {
            let frame = Client::frame(&message(number + 1 == PARTS, json!([number, block])));
            writer.write_all(&frame).expect("its session lives on");
        }
    })
}

/// Reads nothing until somebody waits for that, then everything.
fn read_parts(router: &Router, slow: &mut Client, details: usize) {
    eventually("the fast one has to wait", || router.metric("fanwire_requests_parked_total", "") > 0.0);
    for number in 0..PARTS {
        let message = slow.expect();
        let arguments = &message[details + 1];
        assert_eq!(
            (arguments[0].as_u64(), arguments[1].as_str().map(str::len)),
            (Some(number), Some(PART_BYTES))
        );
        assert_eq!(
            message[details]["progress"] == json!(true),
            number + 1 < PARTS,
            "the last one is the last"
        );
    }
}

on_both_drivers! {
    fn a_caller_waits_for_a_callee_that_reads_slowly(driver: &str) {
        for shards in SHARDS {
            let router = launch(driver, shards);
            let (mut callee, mut caller) = (join(&router), join(&router));
            callee.register("com.upload");
            let sending = send_parts(caller.writer(), |is_last, arguments| {
                json!([48, 1, {"progress": !is_last}, "com.upload", arguments])
            });
            read_parts(&router, &mut callee, 3);
            sending.join().expect("all is sent");
            callee.send(json!([70, 1, {}, ["thanks"]]));
            assert_eq!(caller.expect(), json!([50, 1, {}, ["thanks"]]));
        }
    }

    fn a_callee_waits_for_a_caller_that_reads_slowly(driver: &str) {
        for shards in SHARDS {
            let router = launch(driver, shards);
            let (mut callee, mut caller) = (join(&router), join(&router));
            callee.register("com.download");
            caller.send(json!([48, 1, {"receive_progress": true}, "com.download"]));
            assert_eq!(callee.expect()[0], 68);
            let sending =
                send_parts(callee.writer(), |is_last, arguments| json!([70, 1, {"progress": !is_last}, arguments]));
            read_parts(&router, &mut caller, 2);
            sending.join().expect("all is sent");
            assert_eq!(caller.call("wamp.session.count", json!([]))[3], json!([2]), "its session lives on");
        }
    }
}
