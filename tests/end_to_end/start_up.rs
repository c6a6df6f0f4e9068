//! What happens before the first connection, and what stops it.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::{Client, Launch, Program, Router, binary, deaf_address, eventually};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the binary starts")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A file with this text that lasts as long as the value.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanwire-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a writable temporary folder");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn port_in_use_is_said_and_ends_it() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("bound").to_string();
    let output = run(&["--bind", &address, "--admin", "none"]);
    let said = words(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[test]
fn admin_port_in_use_is_said_and_ends_it() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("bound").to_string();
    let output = run(&["--port", "0", "--admin", &address]);
    let said = words(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[test]
fn second_router_on_the_same_port_is_refused() {
    let first = Router::on("epoll");
    let output = run(&["--bind", &first.wamp.to_string(), "--admin", "none", "--driver", "epoll"]);
    assert!(!output.status.success(), "two routers share a port: {}", words(&output));
    let mut client = Client::join(first.wamp);
    client.publish("com.fanwire.still.here", json!([]));
}

#[test]
fn bad_configuration_is_refused_with_file_and_line() {
    let cases = [
        ("unknown-key", "[shards]\ncuont = 2\n", ":2", "cuont"),
        ("unknown-table", "\n\n[shrads]\ncount = 2\n", ":3", "shrads"),
        ("bad-size", "[limits]\n\nmessage = \"lots\"\n", ":3", "lots"),
        ("bad-driver", "[shards]\ndriver = \"kqueue\"\n", ":2", "kqueue"),
        ("bad-type", "[shards]\ncount = [1]\n", ":2", "count"),
        ("no-toml", "[shards\n", ":1", "shards"),
    ];
    for (name, text, line, what) in cases {
        let file = File::new(name, text);
        for arguments in [vec!["--config", file.path()], vec!["config", "check", file.path()]] {
            let output = run(&arguments);
            let said = words(&output);
            assert_eq!(output.status.code(), Some(2), "{name}: {said}");
            assert!(
                said.contains(&format!("{}{line}", file.path())) && said.contains(what),
                "{name}: {said}"
            );
        }
    }
}

#[test]
fn good_configuration_is_accepted() {
    let file = File::new("good", "[shards]\ncount = 1\n[limits]\nmessage = \"64KiB\"\n");
    let output = run(&["config", "check", file.path()]);
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn missing_configuration_file_is_refused() {
    let output = run(&["--config", "/no/such/fanwire.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("/no/such/fanwire.toml"), "{}", words(&output));
}

#[test]
fn open_realm_beyond_loopback_is_refused() {
    let output = run(&["--bind", "0.0.0.0:0", "--admin", "none"]);
    let said = words(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("allow_anonymous_everywhere"), "it must name the setting: {said}");
}

on_both_drivers! {
    fn configuration_is_obeyed(driver: &str) {
        let file = File::new(
            &format!("obeyed-{driver}"),
            r#"
            [[realm]]
            name = "realm1"
            [[realm.role]]
            name = "anonymous"
            [[realm.role.permission]]
            uri = "com.open."
            match = "prefix"
            allow = ["publish", "subscribe"]
            "#,
        );
        let router = Launch::on(driver).argument("--config").argument(file.path()).start();
        let mut client = Client::join(router.wamp);
        client.subscribe("com.open.topic");
        client.publish("com.open.topic", json!([1]));
        for (request, message) in [
            (32, json!([32, 7, {}, "com.closed.topic"])),
            (16, json!([16, 7, {"acknowledge": true}, "com.closed.topic"])),
            (64, json!([64, 7, {}, "com.open.procedure"])),
            (48, json!([48, 7, {}, "com.open.procedure"])),
        ] {
            client.send(message);
            let error = client.expect();
            assert_eq!((&error[0], &error[1], &error[4]),
                (&json!(8), &json!(request), &json!("wamp.error.not_authorized")), "{error}");
        }
    }

    fn banner_can_be_pasted(driver: &str) {
        let router = Router::on(driver);
        let said = router.said();
        assert!(said.contains(&router.url()), "{said}");
        assert!(said.contains("realm1"), "{said}");
        assert!(said.contains(driver), "it must say which driver it runs on: {said}");
    }
}

#[test]
fn without_io_uring_it_starts_on_epoll_and_says_so_once() {
    let router = Launch::on("auto").launched_with(&["--deny-io-uring"]).start();
    let said = router.said();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "one line about it: {said}");
    assert!(lines[0].contains("epoll"), "{said}");
    // Enough of them to meet on both shards.
    let mut clients: Vec<_> = (0..12).map(|_| Client::join(router.wamp)).collect();
    for client in &mut clients {
        client.subscribe("com.fanwire.epoll");
    }
    let mut publisher = Client::join(router.wamp);
    publisher.publish("com.fanwire.epoll", json!(["hello"]));
    for client in &mut clients {
        assert_eq!(client.expect_event(), json!(["hello"]));
    }
}

#[test]
fn io_uring_by_order_where_the_kernel_refuses_it_does_not_start() {
    let launch = Launch::on("io_uring").launched_with(&["--deny-io-uring"]);
    let output = launch.command().output().expect("it starts");
    let said = words(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("io_uring") && said.contains("epoll"), "it must say what to do: {said}");
}

#[test]
fn small_clients_work_from_the_command_line() {
    let router = Router::on("epoll");
    let url = router.url();
    let mut subscriber =
        Program::start(&["sub", "com.fanwire.shell", "--count", "1", "--json", "--url", &url]);
    let callee = Program::start(&["register", "com.fanwire.shell.echo", "--echo", "--url", &url]);
    for gauge in ["fanwire_subscriptions", "fanwire_registrations"] {
        eventually(gauge, || router.metric(gauge, "") == 1.0);
    }
    let called = run(&["call", "com.fanwire.shell.echo", "41", "--json", "--url", &url]);
    assert!(called.status.success() && words(&called).contains("41"), "{}", words(&called));
    let published = run(&["pub", "com.fanwire.shell", "hello", r#"{"n":1}"#, "--url", &url]);
    assert!(published.status.success(), "{}", words(&published));
    let (status, heard, _) = subscriber.finish();
    assert!(heard.contains("hello") && heard.contains(r#""n":1"#), "{heard}");
    assert!(status.success());
    drop(callee);
    let unknown = run(&["call", "com.fanwire.nobody", "--url", &url]);
    assert!(!unknown.status.success() && words(&unknown).contains("wamp.error.no_such_procedure"));
}

#[test]
fn client_without_router_says_so() {
    let (_bound, nobody) = deaf_address();
    let output = run(&["pub", "com.topic", "x", "--url", &format!("ws://{nobody}/ws")]);
    assert!(!output.status.success());
    assert!(words(&output).contains(&nobody.to_string()), "{}", words(&output));
}
