//! Clients that mean harm: each attack is bounded in memory and time, and the others do not notice it.
//!
//! The bounds that are asserted are promises with room to spare. What an attack really costs is printed; the table of
//! `docs/limits.md` was made with the release build and
//!
//! ```text
//! FANWIRE_HOSTILE=9000 cargo test --test end_to_end hostile -- --nocapture --test-threads 1
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Client, Heard, Launch, Router, allow_descriptors, dial, eventually, has_answered, http, reset, status,
};
use crate::tls::{self, Set};

const TOPIC: &str = "com.fanwire.hostile";

/// How many connections attack together.
fn attackers() -> usize {
    let wanted =
        std::env::var("FANWIRE_HOSTILE").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_usize);
    // Both ends need descriptors: this process has one of each connection, the router the other.
    let allowed = allow_descriptors(wanted as u64 + 200) as usize;
    wanted.min(allowed.saturating_sub(200))
}

/// A publisher and a subscriber who do what they should while others attack.
struct Healthy {
    publisher: Client,
    subscriber: Client,
    published: u64,
}

impl Healthy {
    fn on(router: &Router) -> Self {
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe(TOPIC);
        Self { publisher: Client::join(router.wamp), subscriber, published: 0 }
    }

    fn check(&mut self) {
        self.published += 1;
        self.publisher.publish(TOPIC, json!([self.published]));
        assert_eq!(self.subscriber.expect_event(), json!([self.published]));
    }
}

/// What an attack costs: measured from here on.
struct Cost<'a> {
    router: &'a Router,
    resident: u64,
    cpu: Duration,
    began: Instant,
    peak: u64,
}

impl<'a> Cost<'a> {
    fn of(router: &'a Router) -> Self {
        let resident = router.resident_bytes();
        Self { router, resident, cpu: router.cpu_time(), began: Instant::now(), peak: resident }
    }

    /// Looks at the memory now; the most that was seen counts.
    fn look(&mut self) -> u64 {
        self.peak = self.peak.max(self.router.resident_bytes());
        self.peak - self.resident
    }

    /// Prints a line of the table, and gives the bytes.
    fn print(&mut self, what: &str, times: usize) -> u64 {
        let bytes = self.look();
        println!(
            "figure: {what} | {times} | {} KiB | {} B each | {} ms CPU | {:.1} s",
            bytes >> 10,
            bytes / times as u64,
            (self.router.cpu_time() - self.cpu).as_millis(),
            self.began.elapsed().as_secs_f64()
        );
        bytes
    }
}

/// As many connections as later, and gone again: what the slots themselves cost is not what an attack costs.
fn warmed_up(router: &Router, connections: usize) {
    let warm: Vec<_> = (0..connections).map(|_| dial(router.wamp)).collect();
    eventually("all being accepted", || router.metric("fanwire_connections_open", "") >= connections as f64);
    warm.into_iter().for_each(reset);
    eventually("all being gone", || router.metric("fanwire_connections_open", "") == 0.0);
}

/// The header of a masked frame with a mask of zeros, so that its payload is sent as it is.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len() as u64), payload.to_vec()].concat()
}

/// Writes what the peer takes; it may cut us at any time.
fn pour(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

on_both_drivers! {
    /// Each of many sends a byte of its request now and then. The deadline is absolute: none of it helps.
    fn dripping_request_heads(driver: &str) {
        let count = attackers();
        let router = Launch::on(driver).set("limits.handshake_time", "4s").start();
        warmed_up(&router, count);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let mut streams: Vec<_> = (0..count).map(|_| dial(router.wamp)).collect();
        let request = Client::upgrade_request(router.wamp);
        // Half of the head at once, then byte by byte.
        let (front, rest) = request.split_at(request.len() / 2);
        streams.iter_mut().for_each(|stream| drop(stream.write_all(front)));
        for byte in rest.iter().cycle().take(600) {
            if streams.iter().all(has_answered) {
                break;
            }
            for stream in streams.iter_mut().filter(|stream| !has_answered(stream)) {
                // Never the end of the head.
                let byte = if byte.is_ascii_graphic() { *byte } else { b'x' };
                let _ = stream.write_all(&[byte]);
            }
            cost.look();
            healthy.check();
            std::thread::sleep(Duration::from_millis(100));
        }
        for stream in &mut streams {
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
        }
        let bytes = cost.print("dripping request heads", count);
        assert!(bytes < count as u64 * 4096 + (4 << 20), "{bytes} bytes for {count} of them");
        drop(streams);
        eventually("none being left", || router.metric("fanwire_connections_open", "") == 2.0);
        let cut = router.metric("fanwire_connections_closed_total", "handshake_timeout");
        assert!(cut >= count as f64, "{cut} of {count} were cut by the deadline");
        healthy.check();
    }

    /// Accepted, and silent ever after.
    fn silent_connections(driver: &str) {
        let count = attackers();
        let router = Launch::on(driver).set("limits.handshake_time", "3s").start();
        warmed_up(&router, count);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let mut streams: Vec<_> = (0..count).map(|_| dial(router.wamp)).collect();
        for stream in &mut streams {
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
        }
        let bytes = cost.print("silent connections", count);
        assert!(bytes < count as u64 * 2048 + (4 << 20), "{bytes} bytes for {count} of them");
        healthy.check();
    }

    /// The beginning of a TLS handshake and then nothing: most of them never get a place.
    fn half_a_tls_greeting(driver: &str) {
        let count = attackers();
        let (_authority, _folder, router) =
            Set::new(driver, "hostile", "").set("limits.handshake_time", "3s").start();
        warmed_up(&router, count);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let mut streams: Vec<_> = (0..count).map(|_| dial(tls::address(&router))).collect();
        for stream in &mut streams {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).expect("sent");
        }
        for stream in &mut streams {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert_eq!(answer, b"", "whoever has not shaken hands understands nothing");
        }
        let bytes = cost.print("half a TLS greeting", count);
        assert!(bytes < count as u64 * 2048 + (4 << 20), "{bytes} bytes for {count} of them");
        assert_eq!(tls::handshakes(&router, "timeout"), count as f64);
        healthy.check();
    }

    /// Upgraded, and never a HELLO.
    fn upgraded_connections_that_never_log_in(driver: &str) {
        let count = attackers();
        let router = Launch::on(driver).set("limits.login_time", "4s").start();
        warmed_up(&router, count);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let mut streams: Vec<_> = (0..count).map(|_| dial(router.wamp)).collect();
        let request = Client::upgrade_request(router.wamp);
        for stream in &mut streams {
            stream.write_all(&request).expect("sent");
        }
        for stream in &mut streams {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let close = answer.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..4] == 1008_u16.to_be_bytes());
            assert!(close, "closed with 1008: {}", String::from_utf8_lossy(&answer));
        }
        let bytes = cost.print("upgraded, no HELLO", count);
        assert!(bytes < count as u64 * 2048 + (4 << 20), "{bytes} bytes for {count} of them");
        healthy.check();
    }

    /// 8 KiB of request head in 8,000 segments: each byte is looked at once, not again with each that follows.
    fn request_heads_in_segments_of_one_byte(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let request = Client::upgrade_request(router.wamp);
        let field = format!("\r\nX-Long: {}\r\n\r\n", "x".repeat(7_900 - request.len()));
        let head = [&request[..request.len() - 4], field.as_bytes()].concat();
        let mut cost = Cost::of(&router);
        let count = 10;
        for _ in 0..count {
            let mut stream = dial(router.wamp);
            for byte in &head {
                stream.write_all(&[*byte]).expect("sent");
            }
            Client::upgraded(stream).hello();
        }
        let bytes = cost.print("a head of 8 KiB, byte by byte", count);
        assert!(bytes < 4 << 20, "{bytes} bytes");
        healthy.check();
    }

    /// A message of 250 KiB, each byte in a segment of its own.
    fn messages_in_segments_of_one_byte(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut client = Client::join(router.wamp);
        let message = json!([16, 1, {"acknowledge": true}, TOPIC, ["x".repeat(250 << 10)]]);
        let mut cost = Cost::of(&router);
        let mut writer = client.writer();
        for byte in Client::frame(&message) {
            writer.write_all(&[byte]).expect("sent");
        }
        assert_eq!(client.expect()[0], 17);
        let bytes = cost.print("a message of 250 KiB, byte by byte", 1);
        assert!(bytes < 8 << 20, "{bytes} bytes");
        assert_eq!(healthy.subscriber.expect_event()[0].as_str().map(str::len), Some(250 << 10));
        healthy.check();
    }

    /// Lengths that are claimed reserve nothing, and those that cannot be are refused at the header.
    fn the_table_of_lengths(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        // 126 and 127 say that the length follows in 2 and 8 bytes (RFC 6455, 5.2).
        let in_two = |length: u16| [&[0x81, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4]].concat();
        let in_eight = |length: u64| [&[0x81, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
        let mut cases = vec![
            ("0 in 2 bytes", in_two(0), Some(1002)),
            ("125 in 2 bytes", in_two(125), Some(1002)),
            ("126 in 8 bytes", in_eight(126), Some(1002)),
            ("2^16 - 1 in 8 bytes", in_eight(0xFFFF), Some(1002)),
            ("2^16 - 1", in_two(0xFFFF), None),
            ("2^16", in_eight(1 << 16), None),
            ("the limit", in_eight(1 << 20), None),
            ("one more", in_eight((1 << 20) + 1), Some(1009)),
        ];
        for bits in [31, 32, 53, 62] {
            cases.push(("much too long", in_eight(1 << bits), Some(1009)));
            cases.push(("much too long", in_eight((1 << bits) - 1), Some(1009)));
        }
        cases.push(("2^63 - 1", in_eight(u64::MAX >> 1), Some(1009)));
        // RFC 6455, 5.2: the most significant bit of a 64-bit length is 0.
        cases.push(("2^63", in_eight(1 << 63), Some(1002)));
        cases.push(("2^64 - 1", in_eight(u64::MAX), Some(1002)));
        cases.push(("a ping of 126", header(0x89, 126), Some(1002)));
        cases.push(("a ping of 2^64 - 1", [&[0x89, 0xFF][..], &[0xFF; 8], &[0; 4]].concat(), Some(1002)));
        let rounds = 50;
        let mut waiting = Vec::new();
        for (what, bytes, code) in &cases {
            for _ in 0..rounds {
                let mut client = Client::join(router.wamp);
                client.send_bytes(bytes);
                match code {
                    Some(code) => {
                        let heard = client.hear();
                        assert!(matches!(heard, Heard::Close(found, _) if found == *code), "{what}: {heard:?}");
                    }
                    None => waiting.push(client),
                }
            }
        }
        let bytes = cost.print("lengths claimed in frames", cases.len() * rounds);
        assert!(bytes < 8 << 20, "{bytes} bytes");
        healthy.check();
        drop(waiting);
    }

    /// The same one layer up: arrays, maps and strings that claim billions of elements.
    fn the_table_of_lengths_in_messages(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        // `[16, 1, {}, "com.topic", …` in MessagePack and in CBOR, then the claim.
        let msgpack = |claim: &[u8]| [&b"\x95\x10\x01\x80\xa9com.topic"[..], claim].concat();
        let cbor = |claim: &[u8]| [&b"\x85\x10\x01\xa0\x69com.topic"[..], claim].concat();
        let mut messages = Vec::new();
        for claim in [
            &b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\x91\xdb\xff\xff\xff\xff", b"\x91\xc6\xff\xff\xff\xff",
            b"\x91\xc9\xff\xff\xff\xff\x01", b"\xdc\xff\xff", b"\x91\xdd\x7f\xff\xff\xff\xc0",
        ] {
            messages.push(("wamp.2.msgpack", msgpack(claim)));
        }
        messages.push(("wamp.2.msgpack", b"\xdd\xff\xff\xff\xff\x10".to_vec()));
        for claim in [
            &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x81\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\x5b\x80\0\0\0\0\0\0\0", b"\x81\xbb\xff\xff\xff\xff\xff\xff\xff\xff", b"\x81\x9a\xff\xff\xff\xff", b"\x9f\x9f\x9f", b"\x81\x7f",
        ] {
            messages.push(("wamp.2.cbor", cbor(claim)));
        }
        messages.push(("wamp.2.cbor", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x10".to_vec()));
        let mut cost = Cost::of(&router);
        let rounds = 50;
        for (subprotocol, message) in &messages {
            for _ in 0..rounds {
                let answer = after_hello(router.wamp, subprotocol, message);
                let violation = b"wamp.error.protocol_violation";
                assert!(
                    answer.windows(violation.len()).any(|words| words == violation),
                    "{subprotocol} {message:02x?}: {}", String::from_utf8_lossy(&answer)
                );
            }
        }
        let bytes = cost.print("lengths claimed in messages", messages.len() * rounds);
        assert!(bytes < 8 << 20, "{bytes} bytes");
        healthy.check();
    }

    /// A message in fragments of one byte that never ends holds at most twice what has come, until its deadline.
    fn fragments_of_one_byte(driver: &str) {
        let router = Launch::on(driver).set("limits.message_time", "6s").start();
        let mut healthy = Healthy::on(&router);
        let mut client = Client::join(router.wamp);
        let mut stream = client.writer();
        let mut cost = Cost::of(&router);
        let flood: Vec<u8> = frame(0x00, b"x").repeat(10_000);
        let mut sent = 1_u64;
        assert!(pour(&mut stream, &frame(0x01, b"[")));
        // Just below the limit of a message. A slow machine meets the deadline before.
        for _ in 0..104 {
            if has_answered(&stream) || !pour(&mut stream, &flood) {
                break;
            }
            sent += 10_000;
            cost.look();
            healthy.check();
        }
        client.expect_close(1008);
        let bytes = cost.print(&format!("{sent} fragments of one byte"), 1);
        assert!(bytes < 2 * sent + (4 << 20), "{bytes} bytes for {sent} that had come");
        healthy.check();
    }

    /// Ten of them fill their messages to the limit in fragments; one byte more is 1009, at once.
    fn fragments_beyond_the_limit_of_a_message(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let piece = frame(0x00, &[b'x'; 1024]);
        let mut clients: Vec<_> = (0..10).map(|_| Client::join(router.wamp)).collect();
        for client in &mut clients {
            client.send_bytes(&frame(0x01, &[b'"'; 1024]));
            client.send_bytes(&piece.repeat(1023));
        }
        // Each has all of its limit: a ping that comes back says that all of it was received.
        for client in &mut clients {
            client.send_bytes(&frame(0x89, b"all"));
        }
        eventually("all of it being received", || {
            cost.look();
            router.metric("fanwire_received_bytes_total", "") >= 10.0 * 1024.0 * 1024.0
        });
        healthy.check();
        for client in &mut clients {
            client.send_bytes(&frame(0x00, b"x"));
            client.expect_close(1009);
        }
        let bytes = cost.print("messages filled to the limit and beyond", 10);
        assert!(bytes < 10 * (2 << 20) + (4 << 20), "{bytes} bytes");
        healthy.check();
    }

    /// More empty fragments in a row than any client sends.
    fn empty_fragments(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let count = 20;
        for _ in 0..count {
            let mut client = Client::join(router.wamp);
            client.send_bytes(&frame(0x01, b""));
            pour(&mut client.writer(), &frame(0x00, b"").repeat(100_000));
            client.expect_close(1008);
        }
        let bytes = cost.print("floods of empty fragments", count);
        assert!(bytes < 4 << 20, "{bytes} bytes");
        healthy.check();
    }

    /// Pings, pongs and empty messages from clients that read nothing of the answers.
    fn floods_of_small_frames(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        for (what, frames) in [
            ("pings", frame(0x89, &[b'p'; 125]).repeat(1_000)),
            ("pongs", frame(0x8A, b"").repeat(10_000)),
        ] {
            let mut cost = Cost::of(&router);
            let mut floods: Vec<_> = (0..10).map(|_| Client::join(router.wamp).into_stream()).collect();
            for stream in &mut floods {
                stream.set_write_timeout(Some(Duration::from_millis(100))).expect("a valid timeout");
            }
            for _ in 0..20 {
                for stream in &mut floods {
                    // What a full socket has not taken is the rest of a frame; this one floods no more.
                    let _ = stream.write_all(&frames);
                }
                cost.look();
                healthy.check();
            }
            let bytes = cost.print(&format!("floods of {what}"), 10);
            assert!(bytes < 10 * (256 << 10) + (4 << 20), "{bytes} bytes");
        }
        // A text message of no bytes is no WAMP message.
        let mut client = Client::join(router.wamp);
        client.send_bytes(&frame(0x81, b""));
        assert_eq!(client.expect()[0], 3);
        healthy.check();
    }

    /// Brackets in brackets: the depth is counted, not recursed into.
    fn depth_is_refused_and_costs_nothing(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let count = 20;
        let json = [&b"[16,1,{},\"com.topic\","[..], &b"[".repeat(900_000)].concat();
        let msgpack = [&b"\x95\x10\x01\x80\xa9com.topic"[..], &b"\x91".repeat(900_000)].concat();
        let cbor = [&b"\x85\x10\x01\xa0\x69com.topic"[..], &b"\x81".repeat(900_000)].concat();
        for (subprotocol, message) in
            [("wamp.2.json", &json), ("wamp.2.msgpack", &msgpack), ("wamp.2.cbor", &cbor)]
        {
            for _ in 0..count {
                let answer = after_hello(router.wamp, subprotocol, message);
                let violation = b"wamp.error.protocol_violation";
                assert!(answer.windows(violation.len()).any(|words| words == violation), "{subprotocol}");
            }
        }
        let bytes = cost.print("900,000 brackets in brackets", 3 * count);
        assert!(bytes < 16 << 20, "{bytes} bytes");
        healthy.check();
    }

    /// RFC 8259 allows lone surrogates and numbers beyond a double; strict readers do not. The request is refused and
    /// nobody's session ends: not the sender's, and not the receivers'.
    fn text_that_strict_readers_refuse(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut callee = Client::join(router.wamp);
        callee.register("com.fanwire.hostile.cut");
        let mut client = Client::join(router.wamp);
        for value in [r#""cut in half \ud83d""#, "1e400"] {
            client.send_bytes(&frame(0x81, format!(r#"[16,1,{{"acknowledge":true}},"{TOPIC}",[{value}]]"#).as_bytes()));
            let refused = client.expect();
            assert_eq!((&refused[0], &refused[1], &refused[4]), (&json!(8), &json!(16), &json!("wamp.error.invalid_argument")), "{refused}");
            // Without `acknowledge` nothing is said, and nothing is routed.
            client.send_bytes(&frame(0x81, format!(r#"[16,2,{{}},"{TOPIC}",[{value}]]"#).as_bytes()));
            client.send(json!([48, 3, {}, "com.fanwire.hostile.cut", [1]]));
            let invocation = callee.expect();
            callee.send_bytes(&frame(0x81, format!("[70,{},{{}},[{value}]]", invocation[1]).as_bytes()));
            let failed = client.expect();
            assert_eq!((&failed[0], &failed[1], &failed[4]), (&json!(8), &json!(48), &json!("wamp.error.invalid_argument")), "{failed}");
            healthy.check();
        }
    }

    /// Requests for something else, at the pace at which one client can make them.
    fn refused_requests(driver: &str) {
        let router = Router::on(driver);
        let mut healthy = Healthy::on(&router);
        let mut cost = Cost::of(&router);
        let count = 500;
        for _ in 0..count {
            assert_eq!(status(&http(router.wamp, b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")), 404);
        }
        let bytes = cost.print("refused requests", count);
        assert!(bytes < 4 << 20, "{bytes} bytes");
        healthy.check();
    }
}

/// What is answered to a message in this serializer behind a proper HELLO, until the end of the connection.
fn after_hello(address: SocketAddr, subprotocol: &str, message: &[u8]) -> Vec<u8> {
    // `[1, "realm1", {"roles": {"publisher": {}}}]`
    let (first, hello) = match subprotocol {
        "wamp.2.json" => (0x81, &b"[1,\"realm1\",{\"roles\":{\"publisher\":{}}}]"[..]),
        "wamp.2.msgpack" => (0x82, &b"\x93\x01\xa6realm1\x81\xa5roles\x81\xa9publisher\x80"[..]),
        _ => (0x82, &b"\x83\x01\x66realm1\xa1\x65roles\xa1\x69publisher\xa0"[..]),
    };
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    let mut stream = dial(address);
    stream.write_all(&[request.as_bytes(), &frame(first, hello)].concat()).expect("sent");
    let mut answer = Vec::new();
    let mut sent = false;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
        // Only after WELCOME may messages be larger than 16 KiB.
        if !sent
            && answer
                .windows(7)
                .any(|bytes| bytes == b"roles\":" || bytes == b"\xa5roles\x82" || bytes == b"\x65roles\xa2")
        {
            sent = true;
            let _ = stream.write_all(&frame(first, message));
        }
        // RFC 6455, 5.5.1: who gets a close frame answers it; then the router ends the connection.
        if answer.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..4] == 1002_u16.to_be_bytes()) {
            let _ = stream.write_all(&frame(0x88, &1002_u16.to_be_bytes()));
        }
    }
    answer
}
