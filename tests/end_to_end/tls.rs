//! TLS: what is spoken through it, who is let in, and what happens to those who do it wrong.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;

use crate::support::{
    Authority, Client, Folder, Launch, Program, Router, Tunnel, binary, connect, dial, eventually, reset,
    status,
};

/// A router with a plain listener, and one with TLS for `localhost`; `more` are further lines about that.
pub struct Set {
    pub authority: Authority,
    pub folder: Folder,
    launch: Launch,
}

impl Set {
    pub fn new(driver: &str, name: &str, more: &str) -> Self {
        let authority = Authority::new();
        let folder = Folder::new(&format!("tls-{driver}-{name}"));
        authority.write(&folder, "a", &["localhost", "127.0.0.1"]);
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n\
             [listener.tls]\ncert = \"a.pem\"\nkey = \"a.key\"\n{more}\n"
        );
        let file = folder.write("fanwire.toml", &text);
        let launch = Launch::on(driver).argument("--config").argument(&file);
        Self { authority, folder, launch }
    }

    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.launch = self.launch.set(key, value);
        self
    }

    pub fn start(self) -> (Authority, Folder, Router) {
        let router = self.launch.start();
        (self.authority, self.folder, router)
    }
}

/// Where the router speaks TLS.
pub fn address(router: &Router) -> SocketAddr {
    let said = router.said();
    let rest = said.split("wss://").nth(1).expect("a listener with TLS");
    rest.split('/').next().expect("a path").parse().expect("an address")
}

/// How many handshakes have come to this end.
pub fn handshakes(router: &Router, outcome: &str) -> f64 {
    router.metric("fanwire_tls_handshakes_total", &format!("outcome=\"{outcome}\""))
}

/// A handshake, whatever comes of it, and the certificate that was shown.
fn shake_hands(address: SocketAddr, config: &Arc<ClientConfig>, host: &str) -> io::Result<Vec<u8>> {
    let mut stream = connect(address, config, host);
    stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error),
    }
    assert_eq!(status(&String::from_utf8_lossy(&answer)), 404);
    Ok(stream.conn.peer_certificates().expect("the handshake is over")[0].to_vec())
}

/// Reads to the end; what came.
fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

/// Ends the threads of a test also where it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes a single byte at a time.
struct Drip(TcpStream);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

on_both_drivers! {
    /// Each gets everything, once and in order, over several shards: with TLS, without, and who reads late.
    fn a_fan_out_reaches_tls_and_plain_subscribers_alike(driver: &str) {
        let set = Set::new(driver, "fanout", "").set("limits.outbox", "64MiB").set("limits.outbox_messages", "100000");
        let (authority, _folder, router) = set.start();
        let tunnel = Tunnel::to(address(&router), &authority.client());
        let mut subscribers: Vec<Client> = (0..12)
            .map(|index| if index % 2 == 0 { Client::join(tunnel.address) } else { Client::join(router.wamp) })
            .collect();
        let mut late = Client::join(tunnel.address);
        for client in subscribers.iter_mut().chain([&mut late]) {
            client.subscribe("com.fanwire.tls");
        }
        assert_eq!(router.metric("fanwire_tls_connections", ""), 7.0);
        let mut publisher = Client::join(tunnel.address);
        // More than sockets hold, in sizes about those of a record.
        let text = |number: usize| "x".repeat([10, 300, 5_000, 16_200, 16_384, 40_000, 70_000][number % 7]);
        let count = 300;
        for number in 0..count {
            publisher.publish("com.fanwire.tls", json!([number, text(number)]));
            if number % 20 == 19 {
                for client in &mut subscribers {
                    for expected in number - 19..=number {
                        assert_eq!(client.expect_event(), json!([expected, text(expected)]));
                    }
                }
            }
        }
        for expected in 0..count {
            assert_eq!(late.expect_event(), json!([expected, text(expected)]));
        }
        // Calls from one to the other.
        late.register("com.fanwire.tls.twice");
        publisher.send(json!([48, 9, {}, "com.fanwire.tls.twice", [21]]));
        let invocation = late.expect();
        late.send(json!([70, invocation[1], {}, [42]]));
        assert_eq!(publisher.expect()[3], json!([42]));
        for client in subscribers.iter_mut().chain([&mut late, &mut publisher]) {
            client.close(1000);
        }
        drop((subscribers, late, publisher));
        eventually("no connection being left", || {
            router.metric("fanwire_connections_open", "") == 0.0 && router.metric("fanwire_tls_connections", "") == 0.0
        });
        assert_eq!(router.metric("fanwire_events_dropped_total", ""), 0.0);
    }

    /// A subscriber that never reads is cut by its outbox's limit, as it would be without TLS.
    fn a_tls_subscriber_that_does_not_read_is_cut(driver: &str) {
        let (authority, _folder, router) = Set::new(driver, "stuck", "").start();
        let tunnel = Tunnel::to(address(&router), &authority.client());
        let mut stuck = Client::join(tunnel.address);
        let mut quick = Client::join(tunnel.address);
        for client in [&mut stuck, &mut quick] {
            client.subscribe("com.fanwire.tls");
        }
        let mut publisher = Client::join(router.wamp);
        let text = "x".repeat(100_000);
        let mut sent = 0;
        while router.metric("fanwire_slow_consumers_cut_total", "") == 0.0 {
            publisher.publish("com.fanwire.tls", json!([sent, text]));
            assert_eq!(quick.expect_event()[0], json!(sent));
            sent += 1;
            assert!(sent < 1_000, "100 MB and nobody is cut");
        }
        stuck.expect_end();
        let all = ["matched", "delivered"].map(|name| router.metric(&format!("fanwire_events_{name}_total"), ""));
        let dropped = router.metric("fanwire_events_dropped_total", "");
        assert_eq!(all[0], all[1] + dropped, "every event is accounted for");
        assert!(dropped > 0.0);
    }

    fn every_record_may_come_byte_by_byte(driver: &str) {
        let (authority, _folder, router) = Set::new(driver, "drip", "").start();
        let host = "localhost".try_into().expect("a host");
        let connection = ClientConnection::new(authority.client(), host).expect("a session");
        let mut stream = StreamOwned::new(connection, Drip(dial(address(&router))));
        stream.write_all(&Client::upgrade_request(address(&router))).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert_eq!(status(&String::from_utf8_lossy(&head)), 101);
        let hello = Client::frame(&json!([1, "realm1", {"roles": {"publisher": {}}}]));
        stream.write_all(&hello).expect("sent");
        let mut welcome = [0; 64];
        let count = stream.read(&mut welcome).expect("a welcome");
        assert!(welcome[..count].windows(3).any(|window| window == b"[2,"), "{welcome:?}");
        // Its close frame, masked with zeros: the answer, and then the end in words of TLS too, or reading would fail.
        stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xE8]).expect("sent");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an announced end");
        assert!(rest.ends_with(&[0x88, 2, 3, 0xE8]), "{rest:?}");
    }

    /// Also what had to wait when the client said that nothing follows.
    fn what_comes_before_the_end_is_heard(driver: &str) {
        let set = Set::new(driver, "end", "").set("limits.messages_per_second", "50").set("limits.messages_burst", "5");
        let (authority, _folder, router) = set.start();
        let mut subscriber = Client::join(router.wamp);
        subscriber.subscribe("com.fanwire.tls");
        let mut stream = connect(address(&router), &authority.client(), "localhost");
        let mut said = Client::upgrade_request(address(&router));
        said.extend(Client::frame(&json!([1, "realm1", {"roles": {"publisher": {}}}])));
        stream.write_all(&said).expect("sent");
        eventually("the session", || router.metric("fanwire_sessions", "") == 2.0);
        let frames: Vec<u8> =
            (0..40).flat_map(|number| Client::frame(&json!([16, number + 1, {}, "com.fanwire.tls", [number]]))).collect();
        stream.conn.writer().write_all(&frames).expect("room");
        stream.conn.send_close_notify();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).expect("sent");
        }
        for number in 0..40 {
            assert_eq!(subscriber.expect_event(), json!([number]));
        }
        eventually("its end", || router.metric("fanwire_sessions", "") == 1.0);
    }

    /// A client that goes between its last word of the handshake and the answer to that.
    fn a_reset_at_the_end_of_the_handshake_leaves_nothing(driver: &str) {
        let (authority, _folder, router) = Set::new(driver, "reset", "").start();
        for round in 1..=3 {
            let StreamOwned { mut conn, mut sock } = connect(address(&router), &authority.client(), "localhost");
            conn.write_tls(&mut sock).expect("sent");
            while conn.is_handshaking() {
                conn.read_tls(&mut sock).expect("an answer");
                conn.process_new_packets().expect("one that is right");
            }
            router.signal(Signal::STOP);
            eventually("the router being stopped", || {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", router.pid())).expect("it is there");
                stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
            });
            while conn.wants_write() {
                conn.write_tls(&mut sock).expect("sent");
            }
            reset(sock);
            router.signal(Signal::CONT);
            eventually("its end being counted", || {
                handshakes(&router, "completed") + handshakes(&router, "abandoned") == f64::from(round)
            });
        }
        eventually("nobody being left", || router.metric("fanwire_connections_open", "") == 0.0);
        assert_eq!(router.metric("fanwire_tls_connections", ""), 0.0);
    }

    fn the_small_clients_speak_tls(driver: &str) {
        let (authority, folder, router) = Set::new(driver, "cli", "").start();
        let (url, ca) = (format!("wss://{}/ws", address(&router)), folder.write("ca.pem", &authority.pem()));
        let there = ["--url", &url, "--ca", &ca];
        // Events about as large as what the client's side holds at once, and far larger.
        let sizes = [10, 16_384, 17_500, 20_000, 33_000, 400_000, 20_000, 5];
        let count = sizes.len().to_string();
        let mut reader = Program::start(&[&["sub", "com.fanwire.tls", "--json", "--count", &count], &there[..]].concat());
        eventually("its subscription", || router.metric("fanwire_subscriptions", "") == 1.0);
        let mut publisher = Client::join(router.wamp);
        for size in sizes {
            publisher.publish("com.fanwire.tls", json!(["x".repeat(size)]));
        }
        for size in sizes {
            let line = reader.heard().expect("an event");
            assert_eq!(line.matches("xxxxx").count(), size / 5, "{size}");
        }
        assert!(reader.finish().0.success());
        // More publications and acknowledgements than the sockets hold.
        let mut counted = Client::join(router.wamp);
        counted.subscribe("com.fanwire.lines");
        let mut writer = Program::start(&[&["pub", "com.fanwire.lines", "-"], &there[..]].concat());
        let text = "y".repeat(20_000);
        for number in 0..300 {
            writer.write(format!("{{\"n\":{number},\"text\":\"{text}\"}}\n").as_bytes());
            assert_eq!(counted.expect_event()[0]["n"], json!(number));
        }
        let (status, _, told) = writer.finish();
        assert!(status.success(), "{told}");
        let stranger = folder.write("stranger.pem", &Authority::new().pem());
        let refused = ["pub", "com.fanwire.lines", "5", "--url", &url, "--ca", &stranger];
        let output = Command::new(binary()).args(refused).output().expect("it starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && words.contains("no TLS with what answers"), "{words}");
    }

    /// Where only TLS is understood, nothing else is said.
    fn who_is_refused_at_accept_is_told_nothing(driver: &str) {
        let mut set = Set::new(driver, "full", "").set("limits.connections_per_shard", "1");
        set.launch = set.launch.argument("--shards").argument("1");
        let (authority, _folder, router) = set.start();
        let first = Client::join(Tunnel::to(address(&router), &authority.client()).address);
        assert_eq!(drain(&mut dial(address(&router))), b"");
        assert_eq!(status(&String::from_utf8_lossy(&drain(&mut dial(router.wamp)))), 503);
        assert_eq!(router.metric("fanwire_connections_rejected_total", "connections_max"), 2.0);
        drop(first);
    }

    fn what_is_no_tls_is_told_so_and_ended(driver: &str) {
        let set = Set::new(driver, "garbage", "").set("limits.handshake_time", "1s");
        let (authority, _folder, router) = set.start();
        // HTTP on a port for TLS.
        let mut plain = dial(address(&router));
        plain.write_all(&Client::upgrade_request(address(&router))).expect("sent");
        let answer = String::from_utf8_lossy(&drain(&mut plain)).into_owned();
        assert_eq!(status(&answer), 400);
        assert!(answer.contains("this port speaks TLS; use wss://"), "{answer}");
        // RawSocket has no word for it, and HTTP's would be read as one.
        let mut raw = dial(address(&router));
        raw.write_all(&[0x7F, 0xF1, 0, 0]).expect("sent");
        assert_eq!(drain(&mut raw), b"");
        let unencrypted = || router.metric("fanwire_rawsocket_handshakes_total", "outcome=\"tls\"");
        eventually("the handshake being counted", || unencrypted() == 1.0);
        // A message of a handshake that there is none of: an alert (21), and the end.
        let mut garbage = dial(address(&router));
        garbage.write_all(&[22, 3, 1, 0, 6, 9, 0, 0, 2, 9, 9]).expect("sent");
        assert_eq!(drain(&mut garbage).first(), Some(&21));
        eventually("the failure being counted", || handshakes(&router, "failed") == 1.0);
        // A record longer than any may be.
        let mut long = dial(address(&router));
        long.write_all(&[22, 3, 1, 255, 255, 1, 2, 3]).expect("sent");
        assert_eq!(drain(&mut long).first(), Some(&21));
        // The beginning of one, and then nothing.
        let mut half = dial(address(&router));
        half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).expect("sent");
        assert_eq!(drain(&mut half), b"");
        eventually("the deadline being counted", || handshakes(&router, "timeout") == 1.0);
        // Somebody who goes in the middle.
        let mut gone = dial(address(&router));
        gone.write_all(&[22, 3, 1]).expect("sent");
        drop(gone);
        eventually("the end being counted", || handshakes(&router, "abandoned") == 1.0);
        // Garbage behind the handshake.
        let mut stream = connect(address(&router), &authority.client(), "localhost");
        stream.write_all(&Client::upgrade_request(address(&router))).expect("sent");
        stream.read_exact(&mut [0; 12]).expect("an answer");
        stream.sock.write_all(&[23, 3, 3, 0, 30, 1, 2, 3]).expect("sent");
        stream.sock.write_all(&[7; 64]).expect("sent");
        drain(&mut stream.sock);
        eventually("nobody being left", || router.metric("fanwire_connections_open", "") == 0.0);
        assert_eq!(handshakes(&router, "completed"), 1.0);
        assert_eq!(router.metric("fanwire_decoder_panics_total", ""), 0.0);
    }

    fn keys_change_in_the_middle(driver: &str) {
        let (authority, _folder, router) = Set::new(driver, "keyupdate", "").start();
        let tunnel = Tunnel::that_changes_keys(address(&router), &authority.client());
        let mut client = Client::join(tunnel.address);
        client.subscribe("com.fanwire.tls");
        let mut publisher = Client::join(router.wamp);
        for number in 0..10 {
            client.subscribe("com.fanwire.tls");
            publisher.publish("com.fanwire.tls", json!([number]));
            assert_eq!(client.expect_event(), json!([number]));
        }
    }

    fn the_first_byte_tells_tls_from_plain_on_one_port(driver: &str) {
        let (authority, _folder, router) = Set::new(driver, "both", "plain = true").start();
        let mut over_tls = Client::join(Tunnel::to(address(&router), &authority.client()).address);
        over_tls.subscribe("com.fanwire.tls");
        let mut plain = Client::join(address(&router));
        plain.publish("com.fanwire.tls", json!(["hello"]));
        assert_eq!(over_tls.expect_event(), json!(["hello"]));
        let mut slow = dial(address(&router));
        for byte in Client::upgrade_request(address(&router)) {
            slow.write_all(&[byte]).expect("sent");
        }
        Client::upgraded(slow).hello();
    }

    fn the_certificate_is_the_one_of_the_host(driver: &str) {
        let more = "further = [{ cert = \"b.pem\", key = \"b.key\" }, { cert = \"c.pem\", key = \"c.key\" }]";
        let set = Set::new(driver, "sni", more);
        set.authority.write(&set.folder, "b", &["b.example", "*.b.example"]);
        set.authority.write(&set.folder, "c", &["c.example"]);
        let (authority, _folder, router) = set.start();
        let config = authority.client();
        let [a, b, c, any_b] = ["localhost", "b.example", "c.example", "x.b.example"]
            .map(|host| shake_hands(address(&router), &config, host).expect("its certificate is for that host"));
        assert!(a != b && b != c && a != c);
        assert_eq!(b, any_b);
        // For a host that none is for, the first one, which the client then refuses.
        let refused = shake_hands(address(&router), &config, "d.example").expect_err("no certificate is for it");
        assert!(refused.to_string().contains("not valid for name"), "{refused}");
    }

    fn client_certificates_are_asked_for_and_checked(driver: &str) {
        for required in [true, false] {
            let more = if required { "" } else { "client_certificates = \"optional\"" };
            let set = Set::new(driver, &format!("mtls-{required}"), &format!("client_ca = \"ca.pem\"\n{more}"));
            set.folder.write("ca.pem", &set.authority.pem());
            let (authority, _folder, router) = set.start();
            let known = authority.client_with(&authority.certify_client("alice"));
            Client::join(Tunnel::to(address(&router), &known).address).subscribe("com.fanwire.tls");
            let without = shake_hands(address(&router), &authority.client(), "localhost");
            assert_eq!(without.is_err(), required, "{without:?}");
            let stranger = authority.client_with(&Authority::new().certify_client("alice"));
            shake_hands(address(&router), &stranger, "localhost").expect_err("another authority's certificate");
            eventually("both being counted", || handshakes(&router, "failed") == if required { 2.0 } else { 1.0 });
        }
    }

    /// Silent clients hold all places; one that goes on gets in nevertheless.
    fn silent_clients_do_not_keep_others_out(driver: &str) {
        let set = Set::new(driver, "places", "").set("limits.tls_handshakes_per_shard", "2");
        let (authority, _folder, router) = set.start();
        let silent: Vec<_> = (0..12)
            .map(|_| {
                let mut stream = dial(address(&router));
                stream.write_all(&[22, 3, 1]).expect("sent");
                stream
            })
            .collect();
        eventually("somebody waiting", || router.metric("fanwire_tls_handshakes_waited_total", "") > 0.0);
        Client::join(Tunnel::to(address(&router), &authority.client()).address).subscribe("com.fanwire.tls");
        assert!(handshakes(&router, "timeout") > 0.0);
        drop(silent);
        eventually("nobody being left", || router.metric("fanwire_connections_open", "") == 0.0);
    }

    fn certificates_are_replaced_under_load_without_a_drop(driver: &str) {
        let (authority, folder, router) = Set::new(driver, "rotate", "").start();
        let config = authority.client();
        let tunnel = Tunnel::to(address(&router), &config);
        let mut subscriber = Client::join(tunnel.address);
        subscriber.subscribe("com.fanwire.tls");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (router, config, stop, tunnel) = (&router, &config, &stop, tunnel.address);
            let ending = Stop(stop);
            let publisher = scope.spawn(move || {
                let mut publisher = Client::join(tunnel);
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    publisher.publish("com.fanwire.tls", json!([sent]));
                    sent += 1;
                }
                sent
            });
            let newcomers = scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    Client::join(tunnel).close(1000);
                }
            });
            let mut shown = shake_hands(address(router), config, "localhost").expect("a certificate");
            for _ in 0..20 {
                // A certificate without its key is refused, and the old one stays.
                folder.write("a.key", "-----BEGIN PRIVATE KEY-----\n");
                let before = router.said().matches("SIGHUP: nothing was changed").count();
                router.signal(Signal::HUP);
                eventually("the log saying so", || {
                    router.said().matches("SIGHUP: nothing was changed").count() > before
                });
                assert_eq!(shake_hands(address(router), config, "localhost").expect("the old one"), shown);
                authority.write(&folder, "a", &["localhost"]);
                router.signal(Signal::HUP);
                eventually("the new certificate", || {
                    let now = shake_hands(address(router), config, "localhost").expect("a certificate");
                    std::mem::replace(&mut shown, now) != shown
                });
            }
            drop(ending);
            newcomers.join().expect("nobody is turned away");
            let sent = publisher.join().expect("the publisher stays");
            for expected in 0..sent {
                assert_eq!(subscriber.expect_event(), json!([expected]));
            }
        });
        assert!(router.said().contains("a.key: "), "the file is named: {}", router.said());
        assert_eq!(handshakes(&router, "failed"), 0.0);
    }

    fn a_stop_says_goodbye_through_tls(driver: &str) {
        let (authority, _folder, mut router) = Set::new(driver, "stop", "").start();
        let mut client = Client::join(Tunnel::to(address(&router), &authority.client()).address);
        router.signal(Signal::TERM);
        assert_eq!(client.expect()[0], 6, "GOODBYE");
        client.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
        client.expect_close(1001);
        drop(client);
        assert_eq!(router.wait(Duration::from_secs(60)).code(), Some(0));
    }

    fn openssl_speaks_to_it(driver: &str) {
        let (authority, folder, router) = Set::new(driver, "openssl", "").start();
        let ca = folder.write("ca.pem", &authority.pem());
        for version in ["-tls1_2", "-tls1_3"] {
            let mut child = Command::new("openssl")
                .args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost", version])
                .args(["-verify_hostname", "localhost", "-alpn", "http/1.1", "-CAfile", &ca])
                .args(["-connect", &address(&router).to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("openssl is there");
            let mut input = child.stdin.take().expect("piped");
            input.write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
            let output = child.wait_with_output().expect("it ends");
            drop(input);
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(status(&answer), 404, "{version}: {answer}\n{words}");
        }
        assert_eq!(handshakes(&router, "completed"), 2.0);
    }
}

#[test]
fn what_is_wrong_with_files_is_said_with_line_and_remedy() {
    let authority = Authority::new();
    let folder = Folder::new("tls-check");
    authority.write(&folder, "a", &["localhost"]);
    authority.write(&folder, "b", &["localhost"]);
    folder.write("empty.pem", "");
    let checked = |text: &str| {
        let file = folder.write("fanwire.toml", text);
        let output = Command::new(binary()).args(["config", "check", &file]).output().expect("it starts");
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), words)
    };
    let refused = |text: &str, said: &str| {
        let (code, words) = checked(text);
        assert!(code == Some(2) && words.contains(said), "{text}: {words}");
    };
    for (lines, said) in [
        ("cert = \"a.pem\"\nkey = \"b.key\"", "fanwire.toml:5:7: listener.0.tls.key: "),
        ("cert = \"a.pem\"\nkey = \"b.key\"", "the key does not belong to the certificate of "),
        ("cert = \"c.pem\"\nkey = \"b.key\"", "c.pem: there is no such file"),
        ("cert = \"empty.pem\"\nkey = \"b.key\"", "there is no certificate in it"),
        ("cert = \"a.pem\"\nkey = \"a.pem\"", "there is no private key in it"),
        ("cert = \"a.pem\"", "a certificate and its key belong together"),
        ("client_ca = \"a.pem\"", "this listener has no certificate"),
        ("cert = \"a.pem\"\nkey = \"a.key\"\nclient_ca = \"empty.pem\"", "listener.0.tls.client_ca: "),
    ] {
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[listener.tls]\n{lines}\n");
        refused(&text, said);
    }
    let pair = "[listener.tls]\ncert = \"a.pem\"\nkey = \"a.key\"";
    for (listener, said) in [
        (
            format!("bind = \"127.0.0.1:0\"\napi = true\n{pair}"),
            "fanwire.toml:3:7: listener.0.api: the HTTP API is not served over TLS",
        ),
        (
            format!("bind = \"unix:{}\"\n{pair}", folder.path("s")),
            "listener.0.tls.cert: a Unix socket is of this machine",
        ),
    ] {
        refused(&format!("[[listener]]\n{listener}\n"), said);
    }
    let both = format!("[[listener]]\nbind = \"127.0.0.1:0\"\napi = true\n{pair}\nplain = true\n");
    let (code, words) = checked(&both);
    assert_eq!(code, Some(0), "{words}");
}

/// A router of one shard with both kinds of listener, a tunnel to the one with TLS, and room for so many clients.
fn to_measure(clients: usize) -> (Router, Tunnel, Folder) {
    crate::support::allow_descriptors(3 * clients as u64 + 200);
    let set = Set::new("epoll", "cost", "").set("limits.tls_handshakes_per_shard", "1024");
    let launch = set.launch.argument("--shards").argument("1");
    let (authority, folder, router) = Set { launch, ..set }.start();
    let tunnel = Tunnel::to(address(&router), &authority.client());
    // Whatever is allocated once is allocated.
    let where_to = [tunnel.address, router.wamp];
    drop((0..50).map(|index| Client::join(where_to[index % 2])).collect::<Vec<_>>());
    (router, tunnel, folder)
}

/// Not a test: memory and CPU of connections with TLS beside plain ones, for `docs/performance.md`.
///
/// `FANWIRE_BIN=target/release/fanwire cargo nextest run --test end_to_end --run-ignored only what_tls_costs --no-capture`
#[test]
#[ignore = "measures, and asserts nothing about it"]
fn what_tls_costs_per_connection() {
    let connections: usize =
        std::env::var("CONNECTIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000);
    let (router, tunnel, _folder) = to_measure(connections);
    let mut idle = Vec::new();
    for (name, address) in [("plain", router.wamp), ("TLS", tunnel.address)].repeat(2) {
        let (before, cpu) = (router.resident_bytes(), router.cpu_time());
        idle.extend((0..connections / 2).map(|_| Client::join(address)));
        let bytes = (router.resident_bytes() - before) as usize / (connections / 2);
        let micros = (router.cpu_time() - cpu).as_micros() as usize / (connections / 2);
        println!("{name}: {bytes} bytes and {micros} us of CPU per connection with an open session");
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Reads until what has come since the call ends so, or has it somewhere.
fn read_until(stream: &mut impl Stream, is_it: impl Fn(&[u8]) -> bool) {
    let mut all = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !is_it(&all) {
        let count = stream.read(&mut buffer).expect("more");
        assert!(count > 0, "the router closes the connection");
        all.extend_from_slice(&buffer[..count]);
    }
}

/// A subscriber without a thread of its own: to wake one up costs the router more than a send.
fn subscribed(mut stream: Box<dyn Stream>, address: SocketAddr) -> Box<dyn Stream> {
    let has =
        |wanted: &'static [u8]| move |read: &[u8]| read.windows(wanted.len()).any(|part| part == wanted);
    stream.write_all(&Client::upgrade_request(address)).expect("sent");
    read_until(&mut stream, has(b"\r\n\r\n"));
    stream.write_all(&Client::frame(&json!([1, "realm1", {"roles": {"subscriber": {}}}]))).expect("sent");
    read_until(&mut stream, has(b"[2,"));
    stream.write_all(&Client::frame(&json!([32, 1, {}, "com.fanwire.cost"]))).expect("sent");
    read_until(&mut stream, has(b"[33,"));
    stream
}

/// Not a test either: CPU of a delivery.
#[test]
#[ignore = "measures, and asserts nothing about it"]
fn what_tls_costs_per_delivery() {
    let members = 100;
    crate::support::allow_descriptors(3 * members as u64 + 200);
    let set = Set::new("epoll", "delivery", "");
    let (authority, _folder, router) =
        Set { launch: set.launch.argument("--shards").argument("1"), ..set }.start();
    let config = authority.client();
    for (size, events) in [(100, 2_000), (1_000, 1_500), (10_000, 500)] {
        let text = "x".repeat(size);
        for name in ["plain", "TLS"].repeat(2) {
            let mut subscribers: Vec<Box<dyn Stream>> = (0..members)
                .map(|_| match name {
                    "TLS" => {
                        subscribed(Box::new(connect(address(&router), &config, "localhost")), router.wamp)
                    }
                    _ => subscribed(Box::new(dial(router.wamp)), router.wamp),
                })
                .collect();
            let mut publisher = Client::join(router.wamp);
            let before = router.cpu_time();
            for _ in 0..events {
                publisher.publish("com.fanwire.cost", json!([text]));
                for stream in &mut subscribers {
                    read_until(stream, |read| read.ends_with(b"\"]]"));
                }
            }
            let nanos = (router.cpu_time() - before).as_nanos() / (members * events) as u128;
            println!("{name}: {nanos} ns of CPU per delivery of {size} bytes to {members} subscribers");
        }
    }
}
