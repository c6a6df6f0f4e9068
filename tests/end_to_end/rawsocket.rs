//! WAMP over RawSocket: on the port of WebSocket and HTTP, over TLS, on Unix sockets; and what breaks its rules.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fanwire_codec::rawsocket::{FrameKind, MaxLength};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, Folder, Launch, PATIENCE, Program, Raw, RawSaid as Said, Router, connect, dial, eventually, get,
    status, sum_of,
};
use crate::tls::{self, Set};

const TOPIC: &str = "com.fanwire.raw";

fn handshakes(router: &Router, outcome: &str) -> f64 {
    router.metric("fanwire_rawsocket_handshakes_total", &format!("outcome=\"{outcome}\""))
}

/// Sends these bytes as a handshake and reads to the end, or four bytes if it does not come.
fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(address);
    stream.write_all(bytes).expect("sent");
    let mut answer = vec![0; 4];
    let count = stream.read(&mut answer).expect("an answer or the end");
    answer.truncate(count);
    answer
}

fn reads_end(stream: &mut impl Read) -> bool {
    let mut rest = Vec::new();
    // Cut or closed: it is over.
    stream.read_to_end(&mut rest).is_err() || rest.is_empty()
}

/// Says hello, publishes to a WebSocket client and hears it.
fn speaks<S: Read + Write>(mut raw: Raw<S>, router: &Router) {
    raw.hello();
    raw.subscribe(TOPIC);
    let mut web = Client::join(router.wamp);
    web.subscribe(TOPIC);
    web.publish(TOPIC, json!(["from the web"]));
    assert_eq!(raw.expect()[4], json!(["from the web"]));
    raw.send(&json!([16, 7, {"acknowledge": true}, TOPIC, ["from raw"]]));
    assert_eq!(raw.expect()[0], 17);
    assert_eq!(web.expect_event(), json!(["from raw"]));
    raw.send(&json!([6, {}, "wamp.close.normal"]));
    assert_eq!(raw.expect(), json!([6, {}, "wamp.close.goodbye_and_out"]));
    assert_eq!(raw.next(), Said::End);
}

on_both_drivers! {
    fn one_port_serves_rawsocket_websocket_and_http(driver: &str) {
        let router = Launch::on(driver).start();
        speaks(Raw::connect(router.wamp), &router);
        assert_eq!(status(&get(router.wamp, "/v1/topics")), 200);
        assert_eq!(handshakes(&router, "accepted"), 1.0);
        eventually("the connection being gone", || router.metric("fanwire_rawsocket_connections", "") == 0.0);
        assert!(router.said().contains(&format!("rs://{}", router.wamp)), "{}", router.said());
    }

    fn it_works_over_tls(driver: &str) {
        let (authority, _folder, router) = Set::new(driver, "rawsocket", "").set("listener.0.tls.plain", "true").start();
        let stream = connect(tls::address(&router), &authority.client(), "localhost");
        speaks(Raw::over(stream, MaxLength::MOST), &router);
        speaks(Raw::connect(router.wamp), &router);
    }

    fn it_works_on_unix_sockets(driver: &str) {
        let folder = Folder::new(&format!("rawsocket-{driver}"));
        let socket = folder.path("a.sock");
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{socket}\"\n");
        let router = Launch::on(driver).argument("--config").argument(&folder.write("a.toml", &text)).start();
        let stream = UnixStream::connect(&socket).expect("the router accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        speaks(Raw::over(stream, MaxLength::MOST), &router);
    }

    /// Each value of each byte: the serializers that there are, the lengths, the reserved bytes; what is no magic is HTTP.
    fn every_byte_of_the_handshake_is_looked_at(driver: &str) {
        let router = Launch::on(driver).start();
        let (mut accepted, mut serializer, mut length) = (0, 0, 0);
        for second in 0..=u8::MAX {
            let reply = answer(router.wamp, &[0x7F, second, 0, 0]);
            let known = (1..=3).contains(&(second & 0x0F));
            if !known {
                assert_eq!(reply, [0x7F, 0x10, 0, 0], "{second:#x}");
                serializer += 1;
            } else if second >> 4 == 0 {
                assert_eq!(reply, [0x7F, 0x20, 0, 0], "{second:#x}: 512 bytes are too few");
                length += 1;
            } else {
                // 1 MiB is what the router takes.
                assert_eq!(reply, [0x7F, 0xB0 | second & 0x0F, 0, 0], "{second:#x}");
                accepted += 1;
            }
        }
        let mut reserved = 0;
        for bit in 0..16 {
            let [third, fourth] = (1_u16 << bit).to_be_bytes();
            assert_eq!(answer(router.wamp, &[0x7F, 0xF1, third, fourth]), [0x7F, 0x30, 0, 0]);
            reserved += 1;
        }
        for first in (0..=u8::MAX).filter(|first| *first != 0x7F) {
            let mut stream = dial(router.wamp);
            stream.write_all(&[first, 0xF1, 0, 0]).expect("sent");
            stream.shutdown(Shutdown::Write).expect("it is open");
            let mut reply = Vec::new();
            let _ = stream.read_to_end(&mut reply);
            assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 4"), "{first:#x}: {reply:x?}");
        }
        for (outcome, count) in
            [("accepted", accepted), ("serializer", serializer), ("length", length), ("reserved_bits", reserved)]
        {
            assert_eq!(handshakes(&router, outcome), f64::from(count), "{outcome}");
        }
        speaks(Raw::connect(router.wamp), &router);
    }

    fn a_handshake_may_come_byte_by_byte_and_with_what_follows(driver: &str) {
        let router = Launch::on(driver).start();
        let hello = json!([1, "realm1", {"roles": {"caller": {}}}]).to_string();
        let bytes = [&[0x7F, 0xF1, 0, 0, 0, 0, 0, hello.len() as u8], hello.as_bytes()].concat();
        for at_once in [1, 3, 5, bytes.len()] {
            let mut stream = dial(router.wamp);
            for piece in bytes.chunks(at_once) {
                stream.write_all(piece).expect("sent");
            }
            let mut reply = [0; 9];
            stream.read_exact(&mut reply).expect("a handshake and a message");
            assert_eq!(reply[..4], [0x7F, 0xB1, 0, 0]);
            assert_eq!(&reply[8..], b"[", "WELCOME");
        }
    }

    fn the_small_clients_speak_it(driver: &str) {
        let folder = Folder::new(&format!("raw-cli-{driver}"));
        let socket = folder.path("a.sock");
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{socket}\"\n");
        let router = Launch::on(driver).argument("--config").argument(&folder.write("a.toml", &text)).start();
        let urls = [format!("rs://{}", router.wamp), format!("rs://unix:{socket}")];
        for (number, serializer) in ["json", "msgpack", "cbor"].iter().enumerate() {
            let options = ["--serializer", serializer, "--url", &urls[number % 2]];
            let mut subscriber = Program::start(&[&["sub", TOPIC, "-n", "1"], &options[..]].concat());
            eventually("the subscription", || router.metric("fanwire_subscriptions", "") == 1.0);
            let mut publisher = Program::start(&[&["pub", TOPIC, "hello"], &options[..]].concat());
            let (status, _, told) = publisher.finish();
            assert!(status.success(), "{told}");
            let (status, heard, told) = subscriber.finish();
            assert!(status.success() && heard.contains("hello"), "{heard}{told}");
            eventually("both being gone", || router.metric("fanwire_connections_open", "") == 0.0);
        }
    }

    fn a_listener_may_refuse_rawsocket(driver: &str) {
        let router = Launch::on(driver).set("listener.0.rawsocket", "off").start();
        let reply = answer(router.wamp, &[0x7F, 0xF1, 0, 0]);
        assert_eq!(reply, b"HTTP", "the head of a bad request");
        assert!(!router.said().contains("rs://"), "{}", router.said());
    }

    fn a_connection_may_be_cut_in_every_state(driver: &str) {
        let router = Launch::on(driver).start();
        let hello = json!([1, "realm1", {"roles": {"caller": {}}}]).to_string();
        let subscribe = json!([32, 1, {}, TOPIC]).to_string();
        let framed = |text: &str| [&[0, 0, 0, text.len() as u8], text.as_bytes()].concat();
        let whole = [vec![0x7F, 0xF1, 0, 0], framed(&hello), framed(&subscribe)].concat();
        for reset in [false, true] {
            for length in 0..=whole.len() {
                let mut stream = dial(router.wamp);
                stream.write_all(&whole[..length]).expect("sent");
                if reset {
                    crate::support::reset(stream);
                }
            }
        }
        for gauge in ["fanwire_connections_open", "fanwire_rawsocket_connections", "fanwire_sessions", "fanwire_subscriptions"] {
            eventually(&format!("{gauge} being 0"), || router.metric(gauge, "") == 0.0);
        }
        speaks(Raw::connect(router.wamp), &router);
    }

    /// The peer has said all, and still reads: what it is due goes out, and then the end.
    fn who_half_closes_gets_what_is_due(driver: &str) {
        let router = Launch::on(driver).start();
        let mut raw = Raw::join(router.wamp);
        raw.send(&json!([32, 5, {}, TOPIC]));
        raw.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(raw.expect()[0], 33);
        assert_eq!(raw.next(), Said::End);
    }

    fn each_ping_has_its_pong(driver: &str) {
        let router = Launch::on(driver).start();
        let mut raw = Raw::connect(router.wamp);
        let payloads: Vec<Vec<u8>> = (0..100).map(|length| vec![length as u8; length * 50]).collect();
        for payload in &payloads {
            raw.send_frame(FrameKind::Ping, payload);
        }
        for payload in payloads {
            assert_eq!(raw.next(), Said::Pong(payload));
        }
        // Its pong would be longer than what this client takes.
        let mut short = Raw::over(dial(router.wamp), MaxLength::at_most(1024));
        short.send_frame(FrameKind::Ping, &[7; 1024]);
        assert_eq!(short.next(), Said::Pong(vec![7; 1024]));
        short.send_frame(FrameKind::Ping, &[7; 1025]);
        short.expect_abort("wamp.error.payload_size_exceeded");
    }

    fn silent_clients_are_pinged_and_dead_ones_sent_away(driver: &str) {
        let router = Launch::on(driver)
            .set("limits.ping_interval", "300ms")
            .set("limits.pong_wait", "300ms")
            .start();
        let mut lively = Raw::join(router.wamp);
        let mut dead = Raw::join(router.wamp);
        dead.answers_pings = false;
        assert_eq!(dead.next(), Said::Ping(Vec::new()));
        // The other one is still there when this one is not.
        let stream = lively.stream.try_clone().expect("a descriptor is left");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a valid timeout");
        let answering = std::thread::spawn(move || {
            lively.stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
            lively.subscribe(TOPIC);
            lively.expect()
        });
        dead.expect_abort("wamp.error.timeout");
        let mut web = Client::join(router.wamp);
        eventually("the subscription", || router.metric("fanwire_subscriptions", "") == 1.0);
        web.publish(TOPIC, json!([1]));
        assert_eq!(answering.join().expect("it answers its pings")[4], json!([1]));
    }

    fn nobody_may_take_for_ever(driver: &str) {
        let router = Launch::on(driver)
            .set("limits.handshake_time", "300ms")
            .set("limits.login_time", "300ms")
            .set("limits.message_time", "300ms")
            .start();
        let mut half = dial(router.wamp);
        half.write_all(&[0x7F, 0xF1]).expect("sent");
        assert!(reads_end(&mut half), "there is no word for that");
        eventually("the handshake being counted", || handshakes(&router, "timeout") == 1.0);
        Raw::connect(router.wamp).expect_abort("wamp.error.timeout");
        let mut slow = Raw::join(router.wamp);
        slow.stream.write_all(&[0, 0, 0, 9, b'[']).expect("sent");
        slow.expect_abort("wamp.error.timeout");
    }

    fn the_end_of_the_router_is_told(driver: &str) {
        let mut router = Launch::on(driver).set("shutdown.drain_time", "1s").start();
        let (mut open, mut strange) = (Raw::join(router.wamp), Raw::connect(router.wamp));
        router.signal(Signal::TERM);
        let goodbye = open.expect();
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.system_shutdown")));
        open.send(&json!([6, {}, "wamp.close.goodbye_and_out"]));
        assert_eq!(open.next(), Said::End);
        strange.expect_abort("wamp.close.system_shutdown");
        assert!(router.wait(PATIENCE).success());
    }

    fn who_reads_nothing_is_cut_as_any_slow_consumer(driver: &str) {
        let router = Launch::on(driver).set("limits.outbox", "256 KiB").start();
        let mut slow = Raw::over(crate::support::dial_narrow(router.wamp), MaxLength::MOST);
        slow.hello();
        slow.subscribe(TOPIC);
        let mut publisher = Raw::join(router.wamp);
        let block = "x".repeat(32 << 10);
        eventually("the slow one being cut", || {
            publisher.send(&json!([16, 1, {"acknowledge": true}, TOPIC, [block]]));
            assert_eq!(publisher.expect()[0], 17);
            router.metric("fanwire_slow_consumers_cut_total", "") > 0.0
        });
        eventually("its session being gone", || router.metric("fanwire_sessions", "") == 1.0);
    }

    fn events_are_no_longer_than_the_client_takes(driver: &str) {
        let router = Launch::on(driver).start();
        let mut short = Raw::over(dial(router.wamp), MaxLength::at_most(1024));
        short.hello();
        short.subscribe(TOPIC);
        let mut long = Raw::join(router.wamp);
        long.subscribe(TOPIC);
        let mut web = Client::join(router.wamp);
        for text in ["y".repeat(2_000), "z".repeat(100)] {
            web.publish(TOPIC, json!([text]));
        }
        assert_eq!(long.expect()[4][0].as_str().map(str::len), Some(2_000));
        assert_eq!(long.expect()[4][0].as_str().map(str::len), Some(100));
        assert_eq!(short.expect()[4][0].as_str().map(str::len), Some(100));
        let page = get(router.admin, "/metrics");
        assert_eq!(sum_of(&page, "fanwire_events_dropped_total", "reason=\"message_too_long\""), 1.0);
    }

    /// Large messages in both directions, in whatever pieces the sockets make of them.
    fn large_messages_come_through(driver: &str) {
        let router = Launch::on(driver).set("limits.message", "16 MiB").set("limits.outbox", "64 MiB").start();
        let mut subscriber = Raw::join(router.wamp);
        subscriber.subscribe(TOPIC);
        let mut publisher = Raw::join(router.wamp);
        for bytes in [15 << 10, 17 << 10, 70 << 10, 1 << 20, 6 << 20] {
            let text: String = "0123456789abcdef".chars().cycle().take(bytes).collect();
            publisher.send(&json!([16, 1, {}, TOPIC, [text]]));
            assert_eq!(subscriber.expect()[4][0], Value::String(text), "{bytes}");
        }
    }

    fn a_full_router_says_so(driver: &str) {
        // On two shards.
        let router = Launch::on(driver).set("limits.connections_per_shard", "1").start();
        let _there = [Raw::join(router.wamp), Raw::join(router.wamp)];
        // Whoever is refused unread gets the words of its protocol if its handshake was there by then, and else HTTP's.
        let mut stream = dial(router.wamp);
        let _ = stream.write_all(&[0x7F, 0xF1, 0, 0]);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(reply == [0x7F, 0x40, 0, 0] || reply.starts_with(b"HTTP/1.1 503 "), "{reply:x?}");
    }

    fn an_endpoint_may_be_for_one_realm_and_some_serializers(driver: &str) {
        let folder = Folder::new(&format!("endpoints-{driver}"));
        let text = "[[listener]]\nbind = \"127.0.0.1:0\"\nrawsocket = \"/devices\"\n[listener.endpoints]\n\"/ws\" = \"wamp\"\n\
            \"/devices\" = { protocol = \"wamp\", realm = \"devices\", serializers = [\"json\", \"cbor\"] }\n\
            [[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n\
            [[realm]]\nname = \"devices\"\n[[realm.role]]\nname = \"anonymous\"\n";
        let router = Launch::on(driver).argument("--config").argument(&folder.write("a.toml", text)).start();
        let hello = |realm: &str| json!([1, realm, {"roles": {"caller": {}}}]);
        for (path, realm, welcome) in
            [("/ws", "realm1", true), ("/ws", "devices", true), ("/devices", "realm1", false), ("/devices", "devices", true)]
        {
            let mut client = Client::connect_to(router.wamp, path);
            client.send(hello(realm));
            let heard = client.expect();
            assert_eq!(heard[0] == 2, welcome, "{path} {realm}: {heard}");
            if !welcome {
                assert_eq!(heard[2], "wamp.error.no_such_realm");
            }
        }
        let refused = crate::support::http(
            router.wamp,
            &crate::support::wire::request_to(router.wamp, "/devices", &["wamp.2.msgpack"], &[]),
        );
        assert_eq!(status(&refused), 400);
        assert!(refused.contains("wamp.2.json, wamp.2.json.batched, wamp.2.cbor, wamp.2.cbor.batched"), "{refused}");
        // RawSocket is as `/devices`.
        assert_eq!(answer(router.wamp, &[0x7F, 0xF2, 0, 0]), [0x7F, 0x10, 0, 0]);
        let mut raw = Raw::connect(router.wamp);
        raw.send(&hello("realm1"));
        raw.expect_abort("wamp.error.no_such_realm");
        let mut raw = Raw::connect(router.wamp);
        raw.send(&hello("devices"));
        assert_eq!(raw.expect()[0], 2);
    }
}
