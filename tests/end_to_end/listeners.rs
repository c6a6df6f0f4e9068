//! Several listeners of one router: addresses, Unix sockets, bursts.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Client, Launch, Router, binary, eventually};

/// A folder of its own that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanwire-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable temporary folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a writable temporary folder");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A router with a TCP listener and the Unix socket `a.sock` in the folder.
fn with_socket(driver: &str, folder: &Folder) -> (Router, PathBuf) {
    let socket = folder.0.join("a.sock");
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{}\"\nmode = \"0600\"\n",
        socket.display()
    );
    let file = folder.file("fanwire.toml", &text);
    (Launch::on(driver).argument("--config").argument(&file).start(), socket)
}

on_both_drivers! {
    fn a_unix_socket_serves_the_small_clients(driver: &str) {
        let folder = Folder::new(&format!("unix-{driver}"));
        let (mut router, socket) = with_socket(driver, &folder);
        let url = format!("unix:{}", socket.display());
        assert!(router.said().contains(&format!("{url}:/ws")), "the banner names it: {}", router.said());
        let metadata = std::fs::symlink_metadata(&socket).expect("it is there");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.mode() & 0o777, 0o600);

        // From one listener to the other.
        let mut over_tcp = Client::join(router.wamp);
        over_tcp.subscribe("com.fanwire.unix");
        let sent = run(&["pub", "com.fanwire.unix", "hello", "--url", &url]);
        assert!(sent.status.success(), "{}", words(&sent));
        assert_eq!(over_tcp.expect_event(), json!(["hello"]));

        router.signal(Signal::TERM);
        drop(over_tcp);
        assert_eq!(router.wait(Duration::from_secs(40)).code(), Some(0));
        assert!(!socket.exists(), "the file is gone");
        let late = run(&["pub", "com.fanwire.unix", "hello", "--url", &url]);
        assert_eq!(late.status.code(), Some(3), "{}", words(&late));
    }

    fn the_socket_of_a_killed_router_is_taken_over_and_that_of_a_live_one_is_not(driver: &str) {
        let folder = Folder::new(&format!("stale-{driver}"));
        let (mut first, socket) = with_socket(driver, &folder);
        first.signal(Signal::KILL);
        first.wait(Duration::from_secs(10));
        assert!(socket.exists(), "nobody could remove it");
        let (second, socket) = with_socket(driver, &folder);
        UnixStream::connect(&socket).expect("it listens");

        let third = run(&["--bind", &format!("unix:{}", socket.display()), "--admin", "none"]);
        let said = words(&third);
        assert_eq!(third.status.code(), Some(1), "{said}");
        let owner = format!("unix:{} is in use by pid {} (fanwire)", socket.display(), second.pid());
        assert!(said.contains(&owner), "{said}");
        UnixStream::connect(&socket).expect("it still listens");
    }

    /// Out of descriptors, clients of both listeners get an answer, and both recover.
    fn both_listeners_survive_running_out_of_descriptors(driver: &str) {
        let folder = Folder::new(&format!("nofile-{driver}"));
        let socket = folder.0.join("a.sock");
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{}\"\n", socket.display()
        );
        let file = folder.file("fanwire.toml", &text);
        let router = Launch::on(driver)
            .launched_with(&["--nofile", "128"])
            .argument("--config")
            .argument(&file)
            .start();
        let mut early = Client::join(router.wamp);
        // On both, until each has turned somebody away.
        let mut crowd: Vec<Box<dyn ReadWrite>> = Vec::new();
        let mut refused = [0, 0];
        for _ in 0..300 {
            let tcp = crate::support::dial(router.wamp);
            let unix = UnixStream::connect(&socket).expect("it listens");
            unix.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid time");
            let both: [Box<dyn ReadWrite>; 2] = [Box::new(tcp), Box::new(unix)];
            for (mut stream, refused) in both.into_iter().zip(&mut refused) {
                let mut answer = [0; 12];
                let asked = stream.write_all(&Client::upgrade_request(router.wamp)).is_ok();
                if asked && stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 101" {
                    crowd.push(stream);
                } else {
                    *refused += 1;
                }
            }
            if refused.iter().all(|refused| *refused > 3) {
                break;
            }
        }
        assert!(refused.iter().all(|refused| *refused > 3), "{refused:?}");
        assert!(router.metric("fanwire_connections_rejected_total", "reason=\"descriptors\"") >= 6.0);
        early.subscribe("com.fanwire.crowd");
        drop(crowd);
        eventually("room for new ones", || router.metric("fanwire_connections_open", "") == 1.0);
        let url = format!("unix:{}", socket.display());
        let sent = run(&["pub", "com.fanwire.crowd", "again", "--url", &url]);
        assert!(sent.status.success(), "{}", words(&sent));
        assert_eq!(early.expect_event(), json!(["again"]));
    }

    /// All of 5,000 that come at once are served, and one who is there already is served meanwhile.
    fn a_burst_of_connections_is_served_and_starves_nobody(driver: &str) {
        const BURST: usize = 5_000;
        const THREADS: usize = 10;
        crate::support::allow_descriptors(BURST as u64 + 1_000);
        let router = Launch::on(driver).set("limits.handshake_time", "120s").set("limits.login_time", "120s").start();
        let address = router.wamp;
        let mut early = Client::join(address);
        let over = AtomicBool::new(false);
        let (clients, mut waits) = thread::scope(|scope| {
            let early = scope.spawn(|| {
                let mut waits = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    early.publish("com.fanwire.burst", json!([]));
                    waits.push(asked.elapsed());
                    thread::sleep(Duration::from_millis(2));
                }
                waits
            });
            let crowd: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(move || {
                        let dial = |_| crate::support::dial(address);
                        let streams: Vec<_> = (0..BURST / THREADS).map(dial).collect();
                        streams.into_iter().map(|stream| Client::upgrade(stream, address)).collect::<Vec<_>>()
                    })
                })
                .collect();
            let clients: Vec<_> = crowd.into_iter().flat_map(|thread| thread.join().expect("all are served")).collect();
            over.store(true, Ordering::Relaxed);
            (clients, early.join().expect("it is served too"))
        });
        assert_eq!(clients.len(), BURST);
        assert_eq!(router.metric("fanwire_connections_accepted_total", ""), BURST as f64 + 1.0);
        waits.sort_unstable();
        // A figure for the log, no promise: the machine may be busy with other things.
        eprintln!("{driver}: {} answers during the burst, p50 {:?}, p99 {:?}, longest {:?}",
            waits.len(), waits[waits.len() / 2], waits[waits.len() * 99 / 100], waits[waits.len() - 1]);
    }

    /// Few connections are as many on each shard, and the metrics show it.
    fn connections_are_spread_evenly(driver: &str) {
        let router = Launch::on(driver).argument("--shards").argument("4").start();
        let clients: Vec<_> = (0..8).map(|_| Client::join(router.wamp)).collect();
        eventually("two on each shard", || {
            (0..4).all(|shard| router.metric("fanwire_connections_open", &format!("shard=\"{shard}\"")) == 2.0)
        });
        assert_eq!(router.metric("fanwire_connections_accepted_total", ""), 8.0);
        assert!(router.metric("fanwire_connections_handed_over_total", "to=\"shard\"") <= 8.0);
        drop(clients);
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_port_in_use_names_the_listener() {
    let folder = Folder::new("in-use");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"{address}\"\n");
    let output = run(&["--config", &folder.file("fanwire.toml", &text), "--admin", "none"]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("listener.1.bind: {address} is in use by pid {} (", std::process::id());
    assert!(said.contains(&expected) && said.contains("Use --set listener.1.bind="), "{said}");
}

#[test]
fn listeners_that_want_the_same_are_refused_with_both_names() {
    let folder = Folder::new("same");
    for (one, other, wrong) in [
        ("127.0.0.1:7001", "127.0.0.1:7001", "127.0.0.1:7001 is the address of listener.0.bind too"),
        (
            "0.0.0.0:7001",
            "127.0.0.1:7001",
            "127.0.0.1:7001 and 0.0.0.0:7001 of listener.0.bind want the same port",
        ),
        ("unix:/tmp/a", "unix:/tmp/a", "unix:/tmp/a is the address of listener.0.bind too"),
    ] {
        let text = format!("[[listener]]\nbind = \"{one}\"\n[[listener]]\nbind = \"{other}\"\n");
        let output = run(&["config", "check", &folder.file("fanwire.toml", &text)]);
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("listener.1.bind: {wrong}")), "{said}");
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("precious");
    let path = folder.file("precious", "keep me");
    let output = run(&["--bind", &format!("unix:{path}"), "--admin", "none"]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is there already and is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(path).expect("it is there"), "keep me");
}
