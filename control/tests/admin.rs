//! The admin port over a real socket.
#![allow(clippy::disallowed_methods, reason = "tests on real sockets live in real time")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use fanwire_control::login::users::Users;
use fanwire_control::login::{LoginLimits, desk};
use fanwire_control::memory::{MemoryBudget, MemoryWatch};
use fanwire_control::metrics::{Build, Metrics};
use fanwire_control::{Control, Desks, Early, Shards, reload, start};
use fanwire_core::access::Access;
use fanwire_core::api::{ApiAnswer, ApiRequest, Ask};
use fanwire_core::directory::Directory;
use fanwire_core::ids::ShardId;
use fanwire_core::message_center::MessageCenter;
use fanwire_core::question::Verdict;
use fanwire_core::{CoreConfig, Limits};

/// One of them answers, one has no room, one never answers; the last two only where `deaf`.
struct NoShards {
    directory: Directory,
    deaf: bool,
    /// Only the first reload is good.
    reloaded: AtomicBool,
    /// Reloads wait while somebody has it.
    hold: Arc<Mutex<()>>,
}

impl Shards for NoShards {
    fn reload(&self, check_only: bool) -> reload::Outcome {
        drop(self.hold.lock());
        let acts = reload::Acts::Restart;
        let change = reload::Change { key: "a.b".into(), old: 1.into(), new: 2.into(), acts };
        if self.reloaded.swap(true, Ordering::Relaxed) {
            return Err(reload::Refused::Unable("not twice".into()));
        }
        Ok(reload::Report { check_only, changes: vec![change], warnings: Vec::new() })
    }

    fn drain(&self) {}
    fn stop_now(&self) {}
    fn answer(&self, _: ShardId, _: Verdict) -> Result<(), Verdict> {
        Ok(())
    }
    fn count(&self) -> usize {
        if self.deaf { 3 } else { 1 }
    }
    fn ask(&self, shard: ShardId, request: ApiRequest) -> Result<(), ApiRequest> {
        let Ask::Slow { limit } = request.ask else { return Err(request) };
        assert!(limit <= 1_000);
        match shard.get() {
            0 => (request.reply)(ApiAnswer::Slow(Vec::new())),
            1 => return Err(request),
            // A shard that ends drops what it was asked.
            _ => drop(request),
        }
        Ok(())
    }
    fn directory(&self) -> &Directory {
        &self.directory
    }
}

fn control() -> (Control, SocketAddr) {
    control_of(false)
}

fn control_of(deaf: bool) -> (Control, SocketAddr) {
    control_with(deaf, Arc::default())
}

fn control_with(deaf: bool, hold: Arc<Mutex<()>>) -> (Control, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let build = Build { version: "1.2.3".into(), driver: "epoll".into() };
    let (queue, desk) = desk(Users::new([], || 1), LoginLimits { waiting: 1, at_once: 1 });
    let metrics = Metrics::new(
        Vec::new(),
        build,
        Box::new(|| 7),
        desk.figures(&queue),
        Default::default(),
        Box::new(Vec::new),
    );
    let core = Arc::new(ArcSwap::from_pointee(CoreConfig {
        access: Access::new(&[], 1).expect("nothing is wrong with nothing"),
        limits: Limits::default(),
        compression: None,
        agent: String::new(),
        message_center: MessageCenter::default(),
        echo: Default::default(),
        wamp1: Default::default(),
        handlers: Vec::new(),
    }));
    let memory = MemoryWatch::new(MemoryBudget::new(None), Box::new(|_, _| {}));
    let early = Early::begin(1, Vec::new()).expect("there are resources");
    let control = start(
        early,
        Some(listener),
        NoShards { directory: Directory::new(1), deaf, reloaded: AtomicBool::new(false), hold },
        metrics,
        Desks { logins: desk, api: None, hooks: None, lua: None, meta: None, resp: None, ticks: None },
        core,
        memory,
    )
    .expect("it starts");
    let address = control.admin_address.expect("it was given a listener");
    (control, address)
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
}

#[test]
fn a_reload_is_asked_for_by_programs_of_this_machine() {
    let (control, address) = control();
    let post = |path: &str, more: &str| {
        ask(address, &format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n"))
    };
    assert!(get(address, "/reload").starts_with("HTTP/1.1 405 "), "a link must not do it");
    assert!(post("/reload", "Origin: http://127.0.0.1\r\n").starts_with("HTTP/1.1 403 "));
    assert!(post("/reload?chek=true", "").starts_with("HTTP/1.1 400 "));
    let done = post("/reload?format=text", "");
    assert!(done.starts_with("HTTP/1.1 200 ") && done.contains("after a restart      a.b: 1 -> 2"), "{done}");
    let refused = post("/reload", "");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("not twice"), "{refused}");
    let page = get(address, "/metrics");
    for outcome in ["done", "refused"] {
        assert!(
            page.contains(&format!("fanwire_config_reloads_total{{outcome=\"{outcome}\"}} 1\n")),
            "{page}"
        );
    }
    control.stop();
}

/// Reloads that nobody waits for any more go on, so they count for the bound, and for those who watch.
#[test]
fn a_reload_whose_asker_leaves_is_done_and_counted() {
    const WAITING_MAX: usize = 16;
    let hold = Arc::new(Mutex::new(()));
    let (control, address) = control_with(false, Arc::clone(&hold));
    let held = hold.lock().expect("nobody panicked");
    let request = "POST /reload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..WAITING_MAX {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200 "), "the request was taken before this one");
        drop(stream);
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200 "), "and so was its end");
    }
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is long enough");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut refused = String::new();
    stream.read_to_string(&mut refused).expect("it is answered while the others wait");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("try again"), "{refused}");
    drop(held);
    let counted = |outcome: &str, count: usize| {
        let line = format!("fanwire_config_reloads_total{{outcome=\"{outcome}\"}} {count}\n");
        get(address, "/metrics").contains(&line)
    };
    let begun = Instant::now();
    while !counted("done", 1) || !counted("refused", WAITING_MAX - 1) {
        assert!(begun.elapsed() < PATIENCE, "{}", get(address, "/metrics"));
        std::thread::sleep(Duration::from_millis(10));
    }
    control.stop();
}

/// On a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn every_page_answers() {
    let (control, address) = control();
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(get(address, "/readyz").ends_with("\r\n\r\nok\n"));
    assert!(get(address, "/").contains("/metrics"));
    assert!(get(address, "/nothing").starts_with("HTTP/1.1 404 "));
    assert!(
        ask(address, "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 405 ")
    );
    assert!(get(address, "/slow").ends_with("\r\n\r\n[]\n"));
    assert!(get(address, "/slow?limit=3&format=text").ends_with("\r\n\r\nnobody is slow\n"));
    assert!(get(address, "/slow?limit=0").starts_with("HTTP/1.1 400 "));
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\nfanwire_build_info{version=\"1.2.3\",driver=\"epoll\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nfanwire_ready 1\n"), "{metrics}");
    assert!(metrics.contains("\nfanwire_log_lines_dropped_total 7\n"), "{metrics}");
    control.stop();
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}

#[test]
fn shards_that_do_not_answer_are_not_taken_for_empty_ones() {
    let (control, address) = control_of(true);
    let json = get(address, "/slow");
    assert!(json.starts_with("HTTP/1.1 503 "), "{json}");
    assert!(json.ends_with("\r\n\r\n2 of 3 shards did not answer\n"), "{json}");
    let text = get(address, "/slow?format=text");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.ends_with("\r\n\r\n2 of 3 shards did not answer\n"), "{text}");
    control.stop();
}

#[test]
fn nonsense_ends_one_connection() {
    let (control, address) = control();
    assert!(ask(address, "\x16\x03\x01 nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    let mut stream = TcpStream::connect(address).expect("it listens");
    // The answer may overtake the request; then the rest of the request meets a closed socket.
    _ = stream.write_all(long.as_bytes());
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200 OK\r\n"));
    control.stop();
}
