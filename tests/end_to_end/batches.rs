//! Batched WebSocket subprotocols: several messages in one frame, and what is no batch.

use std::net::SocketAddr;

use fanwire_codec::wamp2::Serializer;
use serde_json::{Value, json};

use crate::support::{Client, Framed, Framing, Launch, eventually, wire};

const TOPIC: &str = "com.fanwire.batches";

/// A client of `wamp.2.json.batched`.
fn connect(address: SocketAddr) -> Framed {
    Framed::connect(address, Framing::Batches, Serializer::Json)
}

fn publish(request: u64, text: &str) -> Value {
    json!([16, request, {"acknowledge": true}, TOPIC, [text]])
}

on_both_drivers! {
    fn all_messages_of_a_batch_are_handled_in_order(driver: &str) {
        let router = Launch::on(driver).start();
        let mut web = Client::join(router.wamp);
        web.subscribe(TOPIC);
        let mut client = connect(router.wamp);
        // HELLO and all that follows at once: that is what the batch is for.
        // Strangers may say 16 KiB.
        let publications: Vec<Value> = (1..=700).map(|number| publish(number, &number.to_string())).collect();
        let (first, second) = publications.split_at(200);
        client.send(&[&[wire::hello(), json!([32, 9, {}, "other"])], first].concat());
        assert_eq!(client.expect()[0], 2);
        client.send(second);
        assert_eq!(client.expect()[0], 33);
        for number in 1..=700 {
            assert_eq!(client.expect()[1], number);
            assert_eq!(web.expect_event(), json!([number.to_string()]));
        }
    }

    /// A session that has to wait in the middle of a batch goes on there.
    fn a_batch_goes_on_where_its_session_had_to_wait(driver: &str) {
        // So slow that a batch is read in many pieces.
        let router = Launch::on(driver)
            .set("limits.messages_per_second", "200")
            .set("limits.messages_burst", "10")
            .start();
        let mut client = connect(router.wamp);
        client.send(&[wire::hello()]);
        assert_eq!(client.expect()[0], 2);
        let batches = [1..=40, 41..=60].map(|range| range.map(|number| publish(number, "x")).collect::<Vec<_>>());
        batches.iter().for_each(|batch| client.send(batch));
        for number in 1..=60 {
            assert_eq!(client.expect()[1], number, "in order, and none left out");
        }
        assert!(router.metric("fanwire_connections_throttled_total", "") > 0.0);
    }

    /// One batch of 48,000 calls has some 16 MB of answers: they wait for their reader, and so does what comes behind them.
    fn a_long_batch_waits_for_the_reader_of_its_answers(driver: &str) {
        const CALLS: u64 = 48_000;
        let router = Launch::on(driver).set("limits.message", "16MiB").start();
        let mut client = connect(router.wamp);
        client.send(&[wire::hello()]);
        assert_eq!(client.expect()[0], 2);
        // Its refusal repeats the name: more than whatever buffers the kernel gives.
        let procedure = format!("com.fanwire.{}", "nobody".repeat(40));
        client.send(&(1..=CALLS).map(|number| json!([48, number, {}, procedure])).collect::<Vec<_>>());
        client.send(&[publish(1, "behind it")]);
        eventually("it is left in the middle", || router.metric("fanwire_connections_held_total", "") > 0.0);
        assert!(router.metric("fanwire_outbox_bytes", "") < 4e6, "most of it is not answered yet");
        for number in 1..=CALLS {
            assert_eq!(client.expect()[2], number, "in order, and none left out");
        }
        assert_eq!(client.expect()[0], 17);
    }
}
