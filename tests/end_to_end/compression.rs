//! permessage-deflate: everybody gets the same, whatever they agreed on, and hostile input harms nobody else.

use bytes::BytesMut;
use fanwire_codec::ws::Kind;
use fanwire_codec::ws::deflate::{Deflater, Offer, write_client_deflated_message};
use serde_json::{Value, json};

use crate::support::{Client, Heard, Launch, Router, eventually};

const TOPIC: &str = "com.fanwire.quotes";
/// Labels of metrics.
const PAYLOAD: &str = "layer=\"payload\"";
const WIRE: &str = "layer=\"wire\"";

/// With takeover both ways, as browsers offer it.
const TAKEOVER: Offer = Offer {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: true,
};

/// About 2 KiB that compress well.
fn quotes(number: u64) -> Value {
    let quote = |index: u64| json!({"symbol": format!("AC{index}"), "price": (number * 7 + index) % 90, "at": number});
    json!([number, (0..40).map(quote).collect::<Vec<_>>()])
}

/// A frame of few bytes that inflates to `bytes`.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut frame = BytesMut::new();
    let (zeros, key) = (vec![b' '; bytes], [1, 2, 3, 4]);
    write_client_deflated_message(&mut frame, Kind::Text, &[&zeros], key, &mut Deflater::new(9, 15), None);
    assert!(frame.len() < bytes / 100 && frame[0] & 0x40 != 0);
    frame.to_vec()
}

on_both_drivers! {
    fn every_kind_of_client_gets_every_event_and_reply(driver: &str) {
        for takeover in ["false", "true"] {
            let router = Launch::on(driver).set("compression.takeover", takeover).start();
            let small_window = Offer { server_max_window_bits: Some(10), ..Offer::default() };
            let mut clients = vec![Client::join(router.wamp)];
            for offer in [Offer::default(), Offer::default(), TAKEOVER, TAKEOVER, small_window] {
                let client = Client::join_compressed(router.wamp, &offer);
                assert!(client.is_compressed());
                clients.push(client);
            }
            for client in &mut clients {
                client.subscribe(TOPIC);
            }
            let mut publisher = Client::join_compressed(router.wamp, &TAKEOVER);
            publisher.register("com.fanwire.echo");
            let count = 50;
            for number in 0..count {
                publisher.send_compressed(&json!([16, 100 + number, {"acknowledge": true}, TOPIC, quotes(number)]));
                assert_eq!(publisher.expect()[0], 17);
            }
            for (index, client) in clients.iter_mut().enumerate() {
                for number in 0..count {
                    assert_eq!(client.expect_event(), quotes(number), "client {index}, takeover {takeover}");
                }
                // A long reply, behind a long invocation.
                let call = json!([48, 7, {}, "com.fanwire.echo", quotes(9)]);
                if client.is_compressed() { client.send_compressed(&call) } else { client.send(call) }
                let invocation = publisher.expect();
                assert_eq!(invocation[4], quotes(9), "{invocation}");
                publisher.send_compressed(&json!([70, invocation[1], {}, invocation[4]]));
                assert_eq!(client.expect()[3], quotes(9));
            }
            let (plain, wire) = (
                router.metric("fanwire_deflated_bytes_total", PAYLOAD),
                router.metric("fanwire_deflated_bytes_total", WIRE),
            );
            assert!(wire > 0.0 && wire < plain / 3.0, "{wire} of {plain}");
            assert!(router.metric("fanwire_deflated_frames_total", "all") >= if takeover == "true" { 0.0 } else { 50.0 });
            assert!(router.metric("fanwire_deflated_frames_total", "one") >= 50.0);
            assert!(router.metric("fanwire_inflated_messages_total", "") >= 60.0);
            let wire = router.metric("fanwire_inflated_bytes_total", WIRE);
            assert!(wire < router.metric("fanwire_inflated_bytes_total", PAYLOAD) / 3.0);
        }
    }

    /// One compressed frame serves all subscribers of a shard.
    fn an_event_is_compressed_once_for_all(driver: &str) {
        let router = Router::on(driver);
        let mut clients: Vec<_> =
            (0..40).map(|_| Client::join_compressed(router.wamp, &Offer::default())).collect();
        for client in &mut clients {
            client.subscribe(TOPIC);
        }
        let before = router.metric("fanwire_deflated_frames_total", "all");
        let mut publisher = Client::join(router.wamp);
        for number in 0..20 {
            publisher.publish(TOPIC, quotes(number));
        }
        for client in &mut clients {
            for number in 0..20 {
                assert_eq!(client.expect_event(), quotes(number));
            }
        }
        let shards = router.metric("fanwire_shards", "");
        // A shard counts what it did before it next sleeps.
        let compressed = || router.metric("fanwire_deflated_frames_total", "all") - before;
        eventually("the count", || compressed() >= 20.0);
        assert!(compressed() <= 20.0 * shards, "{} frames for 20 events on {shards} shards", compressed());
    }

    fn short_messages_stay_as_they_are(driver: &str) {
        let router = Router::on(driver);
        let mut client = Client::join_compressed(router.wamp, &Offer::default());
        client.subscribe(TOPIC);
        // WELCOME is not short.
        let deflated = || router.metric("fanwire_deflated_frames_total", "");
        let before = deflated();
        for number in 0..5 {
            Client::join(router.wamp).publish(TOPIC, json!([number, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]));
            assert_eq!(client.expect_event()[0], number);
        }
        assert_eq!(deflated(), before);
    }

    /// 1009 at the limit that holds for the sender, and nobody else notices.
    fn bombs_end_their_senders_only(driver: &str) {
        let router = Router::on(driver);
        let mut bystander = Client::join(router.wamp);
        bystander.subscribe(TOPIC);
        let mut publisher = Client::join(router.wamp);
        // Each is refused at 16 KiB, however large it would be.
        let (before_login, after_login) = (bomb(20 << 20), bomb((1 << 20) + 1));
        let warm: Vec<_> = (0..100).map(|_| Client::join_compressed(router.wamp, &TAKEOVER)).collect();
        drop(warm);
        eventually("all being gone", || router.metric("fanwire_connections_open", "") == 2.0);
        let resident = router.resident_bytes();
        for round in 0..3_u64 {
            let mut strangers: Vec<_> =
                (0..50).map(|_| Client::connect_compressed(router.wamp, &Offer::default())).collect();
            let mut members: Vec<_> =
                (0..50).map(|_| Client::join_compressed(router.wamp, &TAKEOVER)).collect();
            strangers.iter_mut().for_each(|client| client.send_bytes(&before_login));
            members.iter_mut().for_each(|client| client.send_bytes(&after_login));
            publisher.publish(TOPIC, quotes(round));
            assert_eq!(bystander.expect_event(), quotes(round));
            for client in strangers.iter_mut().chain(&mut members) {
                client.expect_close(1009);
            }
        }
        let growth = router.resident_bytes().saturating_sub(resident);
        // What 100 members may leave in pools; the bombs would have been 4.6 GiB.
        assert!(growth < 32 << 20, "the bombs cost {growth} bytes");
        eventually("the count of what was inflated", || {
            router.metric("fanwire_connections_closed_total", "protocol_error") == 300.0
        });
    }

    /// Messages of nearly the limit, in 64 KiB of input: the rest of it waits while others are served.
    fn many_large_messages_in_few_bytes_arrive_one_after_the_other(driver: &str) {
        let router = Router::on(driver);
        let mut other = Client::join(router.wamp);
        let mut client = Client::join_compressed(router.wamp, &Offer::default());
        client.register("com.fanwire.large");
        let text = " ".repeat(900_000);
        let mut frames = BytesMut::new();
        let mut deflater = Deflater::new(9, 15);
        for request in 0..40 {
            let message = format!("[16,{},{{\"acknowledge\":true}},\"{TOPIC}\",[\"{text}\"]]", 100 + request);
            let parts = [message.as_bytes()];
            write_client_deflated_message(&mut frames, Kind::Text, &parts, [1, 2, 3, 4], &mut deflater, None);
        }
        assert!(frames.len() < 64 << 10);
        client.send_bytes(&frames);
        other.subscribe("com.fanwire.other");
        for request in 0..40 {
            let answer = client.expect();
            assert_eq!((&answer[0], &answer[1]), (&json!(17), &json!(100 + request)), "{answer}");
        }
    }

    fn garbage_ends_the_connection_with_1007(driver: &str) {
        let router = Router::on(driver);
        let mut client = Client::join_compressed(router.wamp, &Offer::default());
        client.send_bytes(&[0xC1, 0x84, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        client.expect_close(1007);
        let mut client = Client::join(router.wamp);
        client.send_bytes(&[0xC1, 0x81, 0, 0, 0, 0, 0]);
        client.expect_close(1002);
    }

    fn compression_is_refused_before_login_where_that_is_configured(driver: &str) {
        let router = Launch::on(driver).set("compression.before_login", "false").start();
        let hello = json!([1, "realm1", {"roles": {"publisher": {}, "subscriber": {}}, "agent": "a".repeat(500)}]);
        let mut client = Client::connect_compressed(router.wamp, &Offer::default());
        client.send_compressed(&hello);
        client.expect_close(1008);
        // After the welcome it is as good as any.
        let mut client = Client::connect_compressed(router.wamp, &Offer::default());
        client.send(hello);
        assert_eq!(client.expect()[0], 2);
        client.send_compressed(&json!([16, 1, {"acknowledge": true}, TOPIC, quotes(1)]));
        assert_eq!(client.expect()[0], 17);
    }

    fn offers_that_cannot_be_met_are_declined_and_the_connection_is_plain(driver: &str) {
        let router = Router::on(driver);
        let window_of_256 = Offer { server_max_window_bits: Some(8), ..Offer::default() };
        let mut client = Client::join_compressed(router.wamp, &window_of_256);
        assert!(!client.is_compressed());
        client.publish(TOPIC, quotes(1));
        let router = Launch::on(driver).set("compression.enabled", "false").start();
        let mut client = Client::join_compressed(router.wamp, &Offer::default());
        assert!(!client.is_compressed());
        client.publish(TOPIC, quotes(1));
        client.send_bytes(&bomb(100_000));
        client.expect_close(1002);
    }

    /// A subscriber that takes over its context and does not read is cut like any other; what it had got is right.
    fn slow_client_with_takeover_is_cut_and_was_sent_what_is_right(driver: &str) {
        let router = Launch::on(driver)
            .set("compression.takeover", "true")
            .set("limits.outbox", "64KiB")
            .set("limits.outbox_age", "2s")
            .start();
        let mut slow = Client::join_compressed(router.wamp, &TAKEOVER);
        slow.subscribe(TOPIC);
        let mut publisher = Client::join(router.wamp);
        let noise = |number: u64| -> Value {
            let word = |index: u64| (number * 1_000 + index).wrapping_mul(6_364_136_223_846_793_005);
            json!([number, (0..1_000).map(word).collect::<Vec<_>>()])
        };
        let mut sent = 0;
        eventually("being cut", || {
            for _ in 0..50 {
                publisher.publish(TOPIC, noise(sent));
                sent += 1;
            }
            router.metric("fanwire_slow_consumers_cut_total", "") == 1.0
        });
        let mut expected = 0;
        loop {
            match slow.hear() {
                Heard::Message(event) => assert_eq!(event[4], noise(expected)),
                Heard::Close(..) => continue,
                Heard::End => break,
            }
            expected += 1;
        }
        assert!(expected < sent, "it was not cut");
    }
}
