//! Batched WebSocket subprotocols: several messages in one frame, and what is no batch.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use fanwire_codec::wamp2::Serializer;
use fanwire_codec::wamp2::batch::Batch;
use fanwire_codec::ws::handshake::{verify_response_with, write_request};
use fanwire_codec::ws::{self, Kind, Limits, Pool, Received, Receiver, Role};
use serde_json::{Value, json};

use crate::support::{Client, Launch, dial, eventually, wire};

const TOPIC: &str = "com.fanwire.batches";
const KEY: [u8; 16] = *b"sixteen bytes...";

/// A client of `wamp.2.json.batched`.
struct Batched {
    stream: TcpStream,
    receiver: Receiver,
    pool: Pool,
    heard: std::collections::VecDeque<Heard>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Message(Value),
    Close(u16),
    End,
}

impl Batched {
    fn connect(address: SocketAddr) -> Self {
        let subprotocols = [Serializer::Json.batched_subprotocol()];
        let mut stream = dial(address);
        let mut request = BytesMut::new();
        write_request(&mut request, &address.to_string(), "/ws", &subprotocols, KEY, &[]).expect("sound");
        stream.write_all(&request).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let opened = verify_response_with(&head, &KEY, &subprotocols, None).expect("upgraded");
        assert_eq!(opened.subprotocol, Some("wamp.2.json.batched"));
        Self { stream, receiver: Receiver::new(Role::Client), pool: Pool::default(), heard: [].into() }
    }

    /// Sends these messages in one batch.
    fn send(&mut self, messages: &[Value]) {
        let batch: String = messages.iter().map(|message| format!("{message}\x1e")).collect();
        self.send_text(&batch);
    }

    fn send_text(&mut self, text: &str) {
        let mut frame = BytesMut::new();
        ws::write_client_message(&mut frame, Kind::Text, &[text.as_bytes()], wire::MASK);
        self.stream.write_all(&frame).expect("sent");
    }

    fn next(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            let mut buffer = vec![0; 64 << 10];
            let count = match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Heard::End,
                Ok(count) => count,
            };
            let mut rest = &mut buffer[..count];
            while !rest.is_empty() {
                let limits = Limits::default();
                let (used, received) =
                    self.receiver.receive(rest, &limits, &mut self.pool).expect("sound frames");
                match received {
                    Some(Received::Message { kind, payload }) => {
                        let mut batch = Batch::new(kind, payload);
                        while let Some(message) = batch.next_message().expect("a sound batch") {
                            let message = serde_json::from_slice(message).expect("JSON");
                            self.heard.push_back(Heard::Message(message));
                        }
                    }
                    Some(Received::Close(reason)) => {
                        self.heard.push_back(Heard::Close(reason.map_or(1005, |(code, _)| code)));
                    }
                    _ => {}
                }
                rest = &mut rest[used..];
            }
        }
    }

    fn expect(&mut self) -> Value {
        match self.next() {
            Heard::Message(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }
}

fn publish(request: u64, text: &str) -> Value {
    json!([16, request, {"acknowledge": true}, TOPIC, [text]])
}

on_both_drivers! {
    fn all_messages_of_a_batch_are_handled_in_order(driver: &str) {
        let router = Launch::on(driver).start();
        let mut web = Client::join(router.wamp);
        web.subscribe(TOPIC);
        let mut client = Batched::connect(router.wamp);
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
        let mut client = Batched::connect(router.wamp);
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
        let mut client = Batched::connect(router.wamp);
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

    fn what_is_no_batch_ends_the_connection_after_what_came_before(driver: &str) {
        let router = Launch::on(driver).start();
        for (text, answers) in [
            ("", 0),
            ("[32,1,{},\"a\"]", 0),
            ("[32,1,{},\"a\"]\x1e[32,2", 1),
            ("[32,1,{},\"a\"]\x1e[32,2,{},\"b\"]\x1e ", 2),
        ] {
            let mut client = Batched::connect(router.wamp);
            client.send(&[wire::hello()]);
            assert_eq!(client.expect()[0], 2);
            client.send_text(text);
            for number in 1..=answers {
                assert_eq!(client.expect()[1], number, "{text:?}");
            }
            assert_eq!(client.next(), Heard::Close(1002), "{text:?}");
        }
        // A message that is none: the ones before it were handled, those behind it are not.
        let mut client = Batched::connect(router.wamp);
        client.send(&[wire::hello()]);
        assert_eq!(client.expect()[0], 2);
        client.send_text("[32,1,{},\"a\"]\x1e[99]\x1e[32,2,{},\"b\"]\x1e");
        assert_eq!(client.expect()[0], 33);
        assert_eq!(client.expect()[2], "wamp.error.protocol_violation");
        assert_eq!(client.next(), Heard::Close(1002));
    }
}
