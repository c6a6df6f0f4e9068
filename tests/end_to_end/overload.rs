//! More than there is room for: memory, connections, messages. Who behaves must not notice.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fanwire_stress::control::Control;
use serde_json::json;

use crate::support::{
    Client, Launch, PATIENCE, Raw, Router, allow_descriptors, dial, dial_narrow, eventually, get, http,
    status, subscribed,
};

const TOPIC: &str = "com.fanwire.overload";

/// Session that will not read: with a small receive buffer and a subscription of its own topic.
fn stuck(router: &Router, topic: &str) -> TcpStream {
    let mut client = Client::upgrade(dial_narrow(router.wamp), router.wamp);
    client.hello();
    client.subscribe(topic);
    client.into_stream()
}

/// The status and the words with which an upgrade is refused; `None`: it is not.
fn refused(address: SocketAddr) -> Option<(u16, String)> {
    let mut stream = dial(address);
    let _ = stream.write_all(&Client::upgrade_request(address));
    let mut answer = Vec::new();
    let mut byte = [0];
    // An upgraded connection says nothing behind its head.
    while !answer.ends_with(b"\r\n\r\n") {
        match std::io::Read::read(&mut stream, &mut byte) {
            Ok(1) => answer.push(byte[0]),
            _ => break,
        }
    }
    let head = String::from_utf8_lossy(&answer).into_owned();
    if status(&head) == 101 {
        return None;
    }
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    Some((status(&head), String::from_utf8_lossy(&answer).into_owned()))
}

/// The seconds of `Retry-After`.
fn retry_after(answer: &str) -> u32 {
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("Retry-After: "))
        .expect("it says when to come back");
    line.trim().parse().expect("a number of seconds")
}

/// Publishes 64 KiB to each of the topics in turn until `enough`.
fn fill(router: &Router, publisher: &mut Client, topics: usize, mut enough: impl FnMut() -> bool) {
    let block = "x".repeat(64 << 10);
    // Each byte is validated, by a build that may not be optimised.
    let deadline = Instant::now() + 4 * PATIENCE;
    let mut number = 0_u64;
    while !enough() {
        assert!(Instant::now() < deadline, "the memory was not filled:\n{}", get(router.admin, "/metrics"));
        for _ in 0..8 {
            number += 1;
            let topic = format!("{TOPIC}{}", number as usize % topics);
            // Every one is another, so that nothing is shared.
            let answer = publisher.ask(json!([16, number, {"acknowledge": true}, topic, [number, block]]));
            assert_eq!(answer[0], 17, "{answer}");
        }
    }
}

/// A router that may have 64 MiB more than it has at its start, and its budget in MiB.
fn short_of_memory(driver: &str) -> (u64, Router) {
    let budget = (Router::on(driver).resident_bytes() >> 20) + 64;
    let router = Launch::on(driver)
        .set("limits.memory", &format!("{budget}MiB"))
        .set("limits.outbox", "64MiB")
        .set("limits.outbox_messages", "1000000")
        .start();
    (budget, router)
}

on_both_drivers! {
    /// Slow readers fill a small budget: new clients are refused, the largest outboxes go, nobody else notices, and when they
    /// are gone all is as before.
    fn memory_budget_refuses_then_sheds_and_recovers(driver: &str) {
        let (budget, router) = short_of_memory(driver);
        assert_eq!(router.metric("fanwire_memory_budget_bytes", ""), (budget << 20) as f64);
        let control = Control::start(&router);
        let mut publisher = Client::join(router.wamp);
        // Upgraded, and no word of who it is.
        let mut strangers = (Client::connect(router.wamp), Raw::connect(router.wamp));
        let stuck: Vec<_> = (0..40).map(|number| stuck(&router, &format!("{TOPIC}{number}"))).collect();
        let mut met = [false; 2];
        fill(&router, &mut publisher, 40, || {
            met[0] |= router.metric("fanwire_memory_level", "") >= 2.0;
            met[1] |= router.metric("fanwire_events_dropped_total", "reason=\"memory\"") > 0.0;
            met == [true; 2]
        });
        strangers.0.expect_close(1013);
        strangers.1.expect_abort("wamp.error.unavailable");
        let said = router.said();
        assert!(said.contains("new clients are refused (limits.memory)") || said.contains("are cut (limits.memory)"), "{said}");
        eventually("the close being counted", || {
            router.metric("fanwire_connections_closed_total", "reason=\"memory\"") >= 1.0
        });
        // Those who stay to be stuck go by and by; then new ones are welcome.
        drop(stuck);
        eventually("new clients being welcome", || status(&get(router.admin, "/readyz")) == 200);
        eventually("a new session", || refused(router.wamp).is_none());
        Client::join(router.wamp).publish(TOPIC, json!([]));
        assert!((router.resident_bytes() >> 20) < budget, "it has more than it may");
        control.finish(PATIENCE);
    }

    /// Between the two marks nobody is cut, but nobody new comes in, and each is told when to come back.
    fn refusal_says_what_is_short_and_when_to_come_back(driver: &str) {
        let (_, router) = short_of_memory(driver);
        let control = Control::start(&router);
        let mut publisher = Client::join(router.wamp);
        let stuck: Vec<_> = (0..16).map(|number| stuck(&router, &format!("{TOPIC}{number}"))).collect();
        fill(&router, &mut publisher, 16, || router.metric("fanwire_memory_level", "") >= 2.0);
        let ready = get(router.admin, "/readyz");
        assert!(status(&ready) == 503 && ready.contains("limits.memory"), "{ready}");
        assert_eq!(router.metric("fanwire_ready", ""), 0.0);
        let answers: Vec<_> = (0..5).filter_map(|_| refused(router.wamp)).collect();
        assert!(!answers.is_empty(), "an upgrade went through while memory was short");
        for (status, answer) in answers {
            assert!(status == 503 && answer.contains("limits.memory"), "{answer}");
            assert!((1..=30).contains(&retry_after(&answer)), "{answer}");
        }
        eventually("the refusals being counted", || {
            router.metric("fanwire_connections_rejected_total", "reason=\"memory\"") >= 1.0
        });
        drop(stuck);
        eventually("new clients being welcome", || refused(router.wamp).is_none());
        control.finish(PATIENCE);
    }

    /// Twice as fast as it may: it takes its time, and everything arrives, in order.
    fn who_sends_too_fast_is_slowed_down_and_loses_nothing(driver: &str) {
        for (key, value, burst, seconds) in [
            // 240 publications and an answer for each; 40 at once.
            ("limits.messages_per_second", "100", ("limits.messages_burst", "40"), 1.9),
            // Some 240 KiB; 64 KiB at once, and what one receive brings.
            ("limits.bytes_per_second", "64KiB", ("limits.bytes_burst", "64KiB"), 1.5),
        ] {
            let router = Launch::on(driver).set(key, value).set(burst.0, burst.1).start();
            let mut subscriber = subscribed(&router, TOPIC);
            let mut publisher = Client::join(router.wamp);
            let started = Instant::now();
            let count = 240;
            let mut all = Vec::new();
            for number in 0..count {
                let block = "x".repeat(950);
                all.extend(Client::frame(&json!([16, number + 1, {}, TOPIC, [number, block]])));
            }
            let mut writer = publisher.writer();
            let sender = thread::spawn(move || writer.write_all(&all).expect("it is read by and by"));
            for number in 0..count {
                assert_eq!(subscriber.expect_event()[0], json!(number), "{key}");
            }
            sender.join().expect("sent");
            let took = started.elapsed();
            assert!(took > Duration::from_secs_f64(seconds), "{key}: not slowed down, it took {took:?}");
            eventually("it being counted", || router.metric("fanwire_connections_throttled_total", "") >= 1.0);
            // It is still there, and is heard.
            publisher.publish(TOPIC, json!([count]));
            assert_eq!(subscriber.expect_event(), json!([count]));
        }
    }

    fn connections_of_one_address_are_limited(driver: &str) {
        let router = Launch::on(driver).set("limits.connections_per_address", "3").start();
        let mut three: Vec<_> = (0..3).map(|_| Client::join(router.wamp)).collect();
        let answer = http(router.wamp, b"");
        assert!(status(&answer) == 429 && answer.contains("limits.connections_per_address"), "{answer}");
        assert!((1..=30).contains(&retry_after(&answer)), "{answer}");
        let refused = || router.metric("fanwire_connections_rejected_total", "reason=\"address\"");
        eventually("the refusals being counted", || refused() >= 1.0);
        // Another address of this machine is another one.
        let other = dial_from([127, 0, 0, 2].into(), router.wamp);
        let mut other = Client::upgrade(other, router.wamp);
        other.hello();
        three.pop();
        eventually("room for another one", || refused_once(router.wamp).is_none());
        drop((three, other));
    }

    fn new_connections_of_one_address_come_at_a_rate(driver: &str) {
        let router = Launch::on(driver).set("limits.connects_per_address", "2").start();
        let answers: Vec<_> = (0..8).map(|_| http(router.wamp, b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        let limited: Vec<_> = answers.iter().filter(|answer| status(answer) == 429).collect();
        assert!(!limited.is_empty(), "{answers:?}");
        assert!(limited.iter().all(|answer| answer.contains("limits.connects_per_address")), "{answers:?}");
        assert!(answers.iter().any(|answer| status(answer) == 404), "{answers:?}");
        eventually("another one coming in", || refused_once(router.wamp).is_none());
    }

    /// 60 that come at once get in at the pace that was set, and waiting for it takes no CPU.
    fn storm_is_let_in_at_its_rate(driver: &str) {
        let router = Launch::on(driver).set("limits.accept_rate", "20").start();
        let address = router.wamp;
        let started = Instant::now();
        let streams: Vec<_> = (0..60).map(|_| dial(address)).collect();
        let before = router.cpu_time();
        let mut clients: Vec<_> = streams.into_iter().map(|stream| Client::upgrade(stream, address)).collect();
        let took = started.elapsed();
        assert!(took > Duration::from_millis(2_500), "60 at 20 per second took {took:?}");
        let used = router.cpu_time() - before;
        assert!(used < took / 4, "it spins: {used:?} of CPU in {took:?}");
        clients.iter_mut().for_each(Client::hello);
    }
}

/// The status and words of the first answer to an upgrade, on one connection.
fn refused_once(address: SocketAddr) -> Option<(u16, String)> {
    let mut stream = dial(address);
    let _ = stream.write_all(&Client::upgrade_request(address));
    let mut head = [0; 12];
    match std::io::Read::read_exact(&mut stream, &mut head) {
        Ok(()) if &head == b"HTTP/1.1 101" => None,
        _ => Some((status(&String::from_utf8_lossy(&head)), String::new())),
    }
}

/// A connection from another address of this machine.
fn dial_from(source: std::net::IpAddr, address: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor is left");
    bind(&stream, &SocketAddr::new(source, 0)).expect("all of 127/8 is ours");
    connect(&stream, &address).expect("the router accepts");
    let stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    stream
}

/// A control group with a limit of memory; removed when dropped.
struct Cage(PathBuf);

impl Cage {
    const BYTES: u64 = 512 << 20;

    /// `None` where this process may not make one.
    fn new(name: &str) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own =
            groups.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path.to_owned()));
        let (parent, file) = match own {
            Some(path) => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
            None => {
                let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
                (format!("/sys/fs/cgroup{path}"), "memory.max")
            }
        };
        let folder = PathBuf::from(parent).join(format!("fanwire-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let cage = Self(folder);
        std::fs::write(cage.0.join(file), Self::BYTES.to_string()).ok()?;
        Some(cage)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Its process has ended, but may not have left yet.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

on_both_drivers! {
    /// 300 stuck readers with a topic each, and 350 messages of 1 MiB that are never finished, in a group of 512 MiB: the kernel
    /// has no reason to kill, the control pair loses nothing, and afterwards all is as before.
    fn abuse_in_a_control_group_of_512_mib_is_survived(driver: &str) {
        allow_descriptors(4_000);
        let Some(cage) = Cage::new(driver) else {
            eprintln!("SKIPPED: this process may not make a control group with a limit of memory");
            return;
        };
        let folder = cage.0.to_string_lossy().into_owned();
        let router = Launch::on(driver)
            .launched_with(&["--cgroup", &folder])
            .set("limits.outbox", "8MiB")
            .set("limits.outbox_messages", "1000000")
            .start();
        assert_eq!(router.metric("fanwire_memory_budget_bytes", ""), Cage::BYTES as f64);
        let control = Control::start(&router);
        let mut publisher = Client::join(router.wamp);
        let mut abusers: Vec<_> = (0..300).map(|number| stuck(&router, &format!("{TOPIC}{number}"))).collect();
        // A frame of nearly 1 MiB, the most that a message may have, less its end.
        let mut unfinished = vec![0x81, 0x80 | 127];
        unfinished.extend_from_slice(&1_000_000_u64.to_be_bytes());
        unfinished.extend_from_slice(&[0; 4]);
        unfinished.resize(unfinished.len() + 990_000, b' ');
        for _ in 0..350 {
            let mut client = Client::join(router.wamp);
            client.send_bytes(&unfinished);
            abusers.push(client.into_stream());
        }
        fill(&router, &mut publisher, 300, || {
            router.metric("fanwire_events_dropped_total", "reason=\"memory\"") > 0.0
        });
        // And on: as much again, at the limit.
        let (mut most, mut rounds) = (0, 0);
        fill(&router, &mut publisher, 300, || {
            most = most.max(router.resident_bytes());
            rounds += 1;
            rounds > 200
        });
        assert!(most < Cage::BYTES, "{most} bytes");
        drop(abusers);
        eventually("new clients being welcome", || refused(router.wamp).is_none());
        control.finish(PATIENCE);
        let mut last = subscribed(&router, TOPIC);
        Client::join(router.wamp).publish(TOPIC, json!(["again"]));
        assert_eq!(last.expect_event(), json!(["again"]));
        drop(router);
        drop(cage);
    }
}
