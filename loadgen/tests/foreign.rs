//! `--target`: a server that is no WAMP router, in miniature, and what the generator makes of it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use fanwire_codec::http::{HeadLimits, parse_request};
use fanwire_codec::ws::handshake::{Upgrade, write_accept};
use fanwire_codec::ws::{self, Kind, Limits, Pool, Received, Receiver, Role};
use serde_json::{Value, json};

/// Subscribers by topic, and how many publications there were.
#[derive(Default)]
struct Hub {
    topics: HashMap<String, Vec<TcpStream>>,
    published: u64,
    /// The tenth publication is not delivered.
    loses: bool,
}

impl Hub {
    fn publish(&mut self, topic: &str, payload: &str) {
        self.published += 1;
        if self.loses && self.published == 10 {
            return;
        }
        let text = json!({"topic": topic, "data": payload}).to_string();
        for socket in self.topics.get_mut(topic).into_iter().flatten() {
            let _ = socket.write_all(&frame(&text));
        }
    }
}

fn frame(text: &str) -> BytesMut {
    let mut frame = BytesMut::new();
    ws::write_message(&mut frame, Kind::Text, &[text.as_bytes()]);
    frame
}

/// Starts the server; it runs until the test process ends.
fn start(loses: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Arc::new(Mutex::new(Hub { loses, ..Hub::default() }));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let hub = hub.clone();
            thread::spawn(move || serve(socket, &hub));
        }
    });
    address
}

fn serve(mut socket: TcpStream, hub: &Mutex<Hub>) -> Option<()> {
    socket.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
    socket.set_nodelay(true).ok()?;
    loop {
        let head = read_head(&mut socket)?;
        let request = parse_request(&head, &HeadLimits::default()).ok()?;
        if request.method == "POST" {
            let length = request.headers().unique("Content-Length").ok()??.parse::<usize>().ok()?;
            let mut body = vec![0; length];
            socket.read_exact(&mut body).ok()?;
            let topic = request.target.strip_prefix("/pub/")?;
            hub.lock().unwrap().publish(topic, &String::from_utf8(body).ok()?);
            socket.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nok\n").ok()?;
            continue;
        }
        let upgrade = Upgrade::from_request(&request).expect("the generator asks for a WebSocket properly");
        let mut out = BytesMut::new();
        write_accept(&mut out, &upgrade, None);
        socket.write_all(&out).ok()?;
        return converse(socket, hub);
    }
}

fn read_head(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(head)
}

/// Nobody is served who has not answered the question.
fn converse(mut socket: TcpStream, hub: &Mutex<Hub>) -> Option<()> {
    socket.write_all(&frame("are you there?")).ok()?;
    let (mut receiver, limits, mut pool) = (Receiver::new(Role::Server), Limits::default(), Pool::default());
    let (mut buffer, mut has_answered) = (vec![0; 16 * 1024], false);
    loop {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut rest = &mut buffer[..count];
        while !rest.is_empty() {
            let (consumed, received) = receiver.receive(rest, &limits, &mut pool).expect("no rule is broken");
            if let Some(Received::Message { payload, .. }) = received {
                if payload == b"yes" {
                    has_answered = true;
                    socket.write_all(&frame("welcome")).ok()?;
                } else if has_answered {
                    let message: Value =
                        serde_json::from_slice(payload).expect("the target's file sends JSON");
                    handle(&message, &mut socket, &mut hub.lock().unwrap())?;
                }
            }
            rest = &mut rest[consumed..];
        }
    }
}

fn handle(message: &Value, socket: &mut TcpStream, hub: &mut Hub) -> Option<()> {
    if let Some(topic) = message["subscribe"].as_str() {
        hub.topics.entry(topic.to_owned()).or_default().push(socket.try_clone().ok()?);
        socket.write_all(&frame(r#"{"subscribed":true}"#)).ok()?;
    } else if let Some(topic) = message["publish"].as_str() {
        hub.publish(topic, message["data"].as_str()?);
    }
    Some(())
}

const FRAMES: &str = r#"
name = "the hub"
[connect]
ready = "welcome"
[subscribe]
send = ['{"id":{n},"subscribe":"{topic}"}']
ready = '"subscribed":true'
[publish]
send = '{"publish":"{topic}","data":"{payload}"}'
[[answer]]
to = "are you there?"
send = "yes"
"#;

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("fanwire-foreign-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

fn generator(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanwire-loadgen")).args(line.split_whitespace()).output().unwrap()
}

fn run(address: SocketAddr, target: &str, name: &str, line: &str) -> (i32, Value, String) {
    let path = file(name, target);
    let output = generator(&format!(
        "{line} --duration 400ms --warmup 50ms --drain-timeout 5s --threads 2 --quiet --json - --url ws://{address}/ --target {}",
        path.display()
    ));
    let _ = std::fs::remove_file(path);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr)
}

#[test]
fn other_servers_are_driven_by_what_their_file_says() {
    let posts = |address: SocketAddr| {
        let (frames, _) = FRAMES.split_once("[publish]").unwrap();
        format!(
            "{frames}[publish]\npost = \"http://{address}/pub/{{topic}}\"\n[[answer]]\nto = \"are you there?\"\nsend = \"yes\"\n"
        )
    };
    for (index, line) in [
        "fanout --subscribers 4 --rate 100",
        "fanout --subscribers 4 --publishers 2 --window 2 --payload 300",
        "pairs --pairs 3 --window 1",
        "rooms --rooms 2 --members 3 --rate 100",
        "fanout --subscribers 5 --topics 3 --skew zipf:1 --rate 100",
        "churn --subscribers 2 --rate 100 --joins 50 --stay 50ms",
    ]
    .into_iter()
    .enumerate()
    {
        for by_http in [false, true] {
            let address = start(false);
            let target = if by_http { posts(address) } else { FRAMES.to_owned() };
            let (code, report, stderr) = run(address, &target, &format!("good-{index}-{by_http}"), line);
            let deliveries = &report["deliveries"];
            assert_eq!(code, 0, "{line}: {stderr} {report:#}");
            assert!(deliveries["total"].as_u64().unwrap() > 10, "{line}: {report:#}");
            assert_eq!(deliveries["total"], deliveries["expected"], "{line}: {report:#}");
            assert_eq!(report["parameters"]["target"], "the hub");
            if by_http {
                assert_eq!(deliveries["acknowledged"], deliveries["sent"], "{line}: {report:#}");
            }
        }
    }
}

#[test]
fn publications_from_one_to_one_are_measured_alone_and_beside_a_broadcast() {
    let line = "broadcast+rpc --probe pubsub --subscribers 3 --rate 50 --calls 100 --callers 2 --flood 5 --alone 300ms";
    let (code, report, stderr) = run(start(false), FRAMES, "probe", line);
    assert_eq!(code, 0, "{stderr} {report:#}");
    for (operation, name) in
        report["operations"].as_array().unwrap().iter().zip(["probe alone", "probe beside", "flood"])
    {
        assert_eq!(operation["name"], name);
        assert!(operation["latency"]["count"].as_u64().unwrap() > 3, "{report:#}");
        assert_eq!(operation["begun"], operation["done"], "{report:#}");
    }
    // What is lost of a probe is lost: the tenth publication is one of those alone.
    let (code, report, stderr) = run(start(true), FRAMES, "probe-loses", line);
    assert_eq!((code, report["deliveries"]["lost"].as_u64()), (1, Some(1)), "{stderr} {report:#}");
}

const LINES: &str = r#"
name = "lines over TCP"
[subscribe]
send = ["SUB {topic}\n"]
ready = "OK"
[publish]
send = "PUB {topic} {payload.size} {payload}\n"
"#;

/// A server of lines over TCP. What it sends comes in two parts, cut elsewhere each time.
fn start_lines() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let subscribers = Arc::new(Mutex::new(Vec::<(String, TcpStream)>::new()));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let subscribers = subscribers.clone();
            thread::spawn(move || {
                socket.set_nodelay(true).unwrap();
                for (number, line) in BufReader::new(&socket).lines().map_while(Result::ok).enumerate() {
                    let mut words = line.split(' ');
                    let (verb, topic) = (words.next().unwrap(), words.next().unwrap().to_owned());
                    if verb == "SUB" {
                        subscribers.lock().unwrap().push((topic, socket.try_clone().unwrap()));
                        (&socket).write_all(b"O").unwrap();
                        (&socket).write_all(b"K\n").unwrap();
                        continue;
                    }
                    let (size, payload) = (words.next().unwrap(), words.next().unwrap());
                    assert_eq!(size, payload.len().to_string());
                    let message = format!("MSG {topic} {payload}\n");
                    let (head, tail) = message.split_at(number % message.len());
                    for (_, subscriber) in subscribers.lock().unwrap().iter_mut().filter(|one| one.0 == topic)
                    {
                        let _ = subscriber
                            .write_all(head.as_bytes())
                            .and_then(|()| subscriber.write_all(tail.as_bytes()));
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_server_without_websocket_is_a_stream() {
    let url = format!("tcp://{}", start_lines());
    let target = format!("url = \"{url}\"\n{LINES}");
    for (name, line) in [
        ("tcp-fanout", "fanout --subscribers 3 --window 3"),
        ("tcp-probe", "broadcast+rpc --probe pubsub --subscribers 2 --rate 50 --alone 200ms"),
    ] {
        let path = file(name, &target);
        let output = generator(&format!(
            "{line} --duration 400ms --warmup 50ms --threads 2 --quiet --json - --target {}",
            path.display()
        ));
        let _ = std::fs::remove_file(path);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {report:#}");
        assert!(report["deliveries"]["total"].as_u64().unwrap() > 10, "{line}: {report:#}");
        assert_eq!(report["deliveries"]["total"], report["deliveries"]["expected"], "{line}: {report:#}");
    }
}

#[test]
fn what_another_server_loses_is_counted() {
    let address = start(true);
    let (code, report, stderr) = run(address, FRAMES, "loses", "fanout --subscribers 4 --rate 100");
    assert_eq!((code, report["deliveries"]["lost"].as_u64()), (1, Some(4)), "{stderr} {report:#}");
}

#[test]
fn sessions_are_opened_and_held() {
    for (name, line) in
        [("idle", "idle --connections 5 --hold subscription"), ("connect", "connect --rate 50")]
    {
        let (code, report, stderr) = run(start(false), FRAMES, name, line);
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
    }
}

#[test]
fn what_cannot_work_is_said() {
    let address = start(false);
    // The server waits for an answer that this file does not give.
    let silent = FRAMES.replace("are you there?", "nobody says this");
    let line = "fanout --subscribers 1 --connect-timeout 1s";
    let (code, _, stderr) = run(address, &silent, "silent", line);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("it said last: are you there?"), "{stderr}");
    for (name, line, words) in [
        ("rpc", "rpc --callers 1", "only WAMP routers have calls"),
        ("ack", "fanout --acknowledge", "PUBLISHED"),
    ] {
        let (code, _, stderr) = run(address, FRAMES, name, line);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    let (code, _, stderr) = run(address, "name = 'x'\nbogus = 1", "bad", "fanout");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("unknown field `bogus`") && stderr.contains("docs/loadgen.md"), "{stderr}");
}
