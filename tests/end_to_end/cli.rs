//! Commands that need no router, and the small clients.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Folder, Launch, Program, Router, binary, deaf_address, eventually};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the binary starts")
}

/// Standard output of a command that must succeed.
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_default_file_is_what_is_in_effect_without_one() {
    let folder = Folder::new("default");
    let file = folder.path("fanwire.toml");
    let text = printed(&["config", "default"]);
    assert!(text.contains("\n[limits]\n# "), "{text}");
    std::fs::write(&file, &text).expect("a writable temporary folder");
    let values = |text: &str| -> Vec<String> {
        let values =
            text.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned());
        values.filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(values(&printed(&["config", "show", &file])), values(&printed(&["config", "show"])));
}

#[test]
fn the_reference_is_markdown() {
    let text = printed(&["config", "doc"]);
    assert!(text.contains("\n| `limits.message` | `\"1MiB\"` | "), "{text}");
}

#[test]
fn completions_are_what_the_shell_understands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completion", shell]);
        assert!(script.contains("fanwire") && script.contains("register"), "{shell}: {script}");
    }
    // The one shell that every machine with tests has.
    let mut bash = Command::new("bash");
    let script = printed(&["completion", "bash"]);
    let question = format!(
        "{script}\nCOMP_WORDS=(fanwire config de) COMP_CWORD=2\n_fanwire fanwire de config\necho \"${{COMPREPLY[@]}}\""
    );
    let output = bash.args(["--norc", "-c", &question]).stdin(Stdio::null()).output().expect("bash starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "default", "{}", said(&output));
    let unknown = run(&["completion", "tcsh"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).contains("bash, zsh, fish"), "{}", said(&unknown));
}

#[test]
fn man_pages_go_to_standard_output_or_a_folder() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH fanwire 1"), "{page}");
    let folder = Folder::new("man");
    printed(&["man", &folder.path("man1")]);
    for name in ["fanwire.1", "fanwire-pub.1", "fanwire-config-check.1"] {
        let page = std::fs::read_to_string(folder.path(&format!("man1/{name}"))).expect(name);
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let nowhere = run(&["man", "/dev/null/man"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(said(&nowhere).contains("cannot write man pages to /dev/null/man"), "{}", said(&nowhere));
}

/// The arguments of the next events, in order.
fn events(client: &mut Client, count: usize) -> Vec<Value> {
    (0..count).map(|_| client.expect_event()).collect()
}

#[test]
fn a_template_is_filled_at_the_asked_rate() {
    let router = Router::on("epoll");
    let mut subscriber = Client::join(router.wamp);
    subscriber.subscribe("com.fanwire.tick");
    let started = Instant::now();
    let template = r#"{"n":{{seq}},"at":{{now_ms}}}"#;
    let url = router.url();
    let arguments =
        ["pub", "com.fanwire.tick", "--count", "5", "--rate", "20", "--template", template, "--url", &url];
    let output = run(&arguments);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).starts_with("published 5 times to com.fanwire.tick"), "{}", said(&output));
    // The first at once, the others 50 ms after each other.
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    let events = events(&mut subscriber, 5);
    let numbers: Vec<&Value> = events.iter().map(|event| &event[0]["n"]).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    let time = |event: &Value| event[0]["at"].as_u64().expect("milliseconds");
    assert!(events.iter().all(|event| time(event) > 1_700_000_000_000), "{events:?}");
}

#[test]
fn each_line_of_standard_input_is_an_event() {
    let router = Router::on("epoll");
    let mut subscriber = Client::join(router.wamp);
    subscriber.subscribe("com.fanwire.lines");
    let mut publisher = Program::start(&["pub", "com.fanwire.lines", "-", "--url", &router.url()]);
    // A line is published when it is written, not at the end of the input.
    publisher.write(b"{\"n\":1}\r\n");
    assert_eq!(subscriber.expect_event(), json!([{"n": 1}]));
    publisher.write(b"two words\n\n3");
    publisher.end_input();
    assert_eq!(events(&mut subscriber, 3), [json!(["two words"]), json!([""]), json!([3])]);
    let (status, _, said) = publisher.finish();
    assert!(status.success(), "{said}");
    assert!(said.starts_with("published 4 times"), "{said}");
}

#[test]
fn a_publisher_that_waits_answers_pings() {
    let router =
        Launch::on("epoll").set("limits.ping_interval", "300ms").set("limits.pong_wait", "4s").start();
    let url = router.url();
    let topic = "com.fanwire.slow";
    let mut subscriber = Program::start(&["sub", topic, "-n", "3", "--url", &url]);
    assert!(subscriber.told().is_some_and(|line| line.starts_with("subscribed")));
    let mut by_line = Program::start(&["pub", topic, "-", "--url", &url]);
    let mut by_rate = Program::start(&["pub", topic, "rate", "-n", "2", "--rate", "0.16", "--url", &url]);
    assert_eq!(subscriber.heard().as_deref(), Some("#1 \"rate\""));
    assert_eq!(subscriber.heard().as_deref(), Some("#2 \"rate\""));
    // Six seconds have passed in which nobody typed either, longer than the interval and the wait together.
    by_line.write(b"line\n");
    by_line.end_input();
    assert_eq!(subscriber.heard().as_deref(), Some("#3 \"line\""));
    for program in [&mut subscriber, &mut by_rate, &mut by_line] {
        let (status, _, said) = program.finish();
        assert!(status.success(), "{said}");
    }
}

#[test]
fn a_subscriber_tells_how_much_arrives() {
    let router = Router::on("epoll");
    let url = router.url();
    let topic = "com.fanwire.stats";
    let mut subscriber = Program::start(&["sub", topic, "--stats", "--quiet", "-n", "200", "--url", &url]);
    let rate = |line: &String| line.contains(" messages/s");
    let told = std::iter::from_fn(|| subscriber.told()).find(rate).expect("a line each second");
    assert!(told.contains("0 messages/s"), "nothing is published yet: {told}");
    eventually("the subscription", || router.metric("fanwire_subscriptions", "") == 1.0);
    printed(&["pub", topic, "x", "--count", "200", "--url", &url]);
    let (status, output, told) = subscriber.finish();
    assert!(status.success(), "{told}");
    assert!(told.lines().any(|line| line.starts_with("200 messages in ")), "{told}");
    assert!(output.is_empty(), "{output:?}");
}

#[test]
fn subscriptions_by_pattern_show_their_topics() {
    let router = Router::on("epoll");
    let url = router.url();
    let mut prefix = Program::start(&["sub", "com.fan", "--match", "prefix", "-n", "2", "--url", &url]);
    let mut wildcard =
        Program::start(&["sub", "com..b", "--match", "wildcard", "-n", "1", "--json", "--url", &url]);
    let told = prefix.told().expect("a line");
    assert!(told.contains("subscribed to all that begin with \"com.fan\""), "{told}");
    let told = wildcard.told().expect("a line");
    assert!(told.contains("subscribed to all that match \"com..b\""), "{told}");
    printed(&["pub", "com.fanwire.a", "1", "--url", &url]);
    printed(&["pub", "com.fanwire.b", "2", "--url", &url]);
    assert_eq!(prefix.heard().as_deref(), Some("#1 com.fanwire.a 1"));
    assert_eq!(prefix.heard().as_deref(), Some("#2 com.fanwire.b 2"));
    let heard = wildcard.heard().expect("a line");
    let event: Value = serde_json::from_str(&heard).expect("JSON");
    assert_eq!((&event["topic"], &event["args"]), (&json!("com.fanwire.b"), &json!([2])));
    for program in [&mut prefix, &mut wildcard] {
        let (status, _, said) = program.finish();
        assert!(status.success(), "{said}");
    }
}

#[test]
fn registrations_by_pattern_tell_their_program_what_was_called() {
    let router = Router::on("epoll");
    let url = router.url();
    let arguments =
        ["register", "com.tools.", "--match", "prefix", "--exec", "cat", "-n", "1", "--url", &url];
    let mut callee = Program::start(&arguments);
    let told = callee.told().expect("a line");
    assert!(told.contains("registered all that begin with \"com.tools.\""), "{told}");
    let answer = printed(&["call", "com.tools.hammer", "5", "--url", &url]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["procedure"], &answer["args"]), (&json!("com.tools.hammer"), &json!([5])));
    assert_eq!(callee.heard().as_deref(), Some("#1 com.tools.hammer 5"));
    let (status, _, said) = callee.finish();
    assert!(status.success(), "{said}");
}

#[test]
fn who_means_a_pattern_is_told_how() {
    let router = Router::on("epoll");
    let url = router.url();
    let output = run(&["sub", "com.", "--url", &url]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("--match prefix"), "{}", said(&output));
    let mut starred = Program::start(&["sub", "com.*", "--url", &url]);
    let told = starred.told().expect("a line");
    assert!(told.contains("any one component is an empty one"), "{told}");
    drop(starred);
    let output = run(&["sub", "com.", "--match", "glob", "--url", &url]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("[possible values: exact, prefix, wildcard]"), "{}", said(&output));
}

#[test]
fn publications_that_make_no_sense_are_refused_before_the_connection() {
    // What is wrong with the words is told first.
    let (_bound, nowhere) = deaf_address();
    let url = format!("ws://{nowhere}/ws");
    for (arguments, words) in [
        (["--rate", "fast"], "--rate fast: this is no rate; allowed: publications per second"),
        (["--template", "{{sequence}}"], "{{sequence}} is unknown; allowed: {{seq}}"),
    ] {
        let output = run(&[&["pub", "com.topic", "--url", &url][..], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

const DISCLOSING: &str = r#"
[[realm]]
name = "realm1"
[[realm.role]]
name = "anonymous"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role.permission]]
uri = "told."
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
disclose = "always"
[[realm.role.permission]]
uri = "secret."
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
disclose = "never"
"#;

#[test]
fn flags_choose_receivers_and_disclose_within_the_permissions() {
    let folder = Folder::new("disclosing");
    let file = folder.path("fanwire.toml");
    std::fs::write(&file, DISCLOSING).expect("a writable temporary folder");
    let router = Launch::on("epoll").argument("--config").argument(&file).start();
    let url = router.url();
    let listen = |command: &str, name: &str, more: &[&str]| {
        let mut program = Program::start(&[&[command, name, "--json", "--url", &url][..], more].concat());
        assert!(program.told().is_some_and(|line| line.contains(name)), "it tells when it stands");
        program
    };
    let heard = |program: &mut Program| -> Value {
        let line = program.heard().expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let mut subscriber = listen("sub", "open.topic", &["-n", "2"]);
    let publish = |more: &[&str]| drop(printed(&[&["pub", "open.topic", "--url", &url][..], more].concat()));
    publish(&["nobody", "--eligible-authrole", "nobody"]);
    publish(&["others", "--exclude-authrole", "anonymous"]);
    publish(&["all", "--exclude-authid", "peter", "--exclude", "7"]);
    let event = heard(&mut subscriber);
    assert_eq!((&event["args"], &event["publisher"]), (&json!(["all"]), &Value::Null));
    publish(&["me", "--disclose"]);
    let event = heard(&mut subscriber);
    let publisher = &event["publisher"];
    let session = publisher["session"].as_u64().expect("a session id");
    assert_eq!(publisher["authid"], json!(format!("anonymous-{session:x}")));
    assert_eq!(publisher["authrole"], json!("anonymous"));

    let mut told = listen("sub", "told.topic", &["-n", "1"]);
    printed(&["pub", "told.topic", "x", "--url", &url]);
    assert_eq!(heard(&mut told)["publisher"]["authrole"], json!("anonymous"));
    let refused = run(&["pub", "secret.topic", "x", "--disclose", "--url", &url]);
    assert_eq!(refused.status.code(), Some(1));
    let words = said(&refused);
    assert!(words.contains("wamp.error.option_disallowed.disclose_me"), "{words}");
    assert!(words.contains("leave disclose_me out"), "{words}");

    let mut callee = listen("register", "open.procedure", &["--echo", "-n", "2"]);
    printed(&["call", "open.procedure", "1", "--url", &url]);
    printed(&["call", "open.procedure", "2", "--disclose", "--url", &url]);
    assert_eq!(heard(&mut callee)["caller"], Value::Null);
    assert_eq!(heard(&mut callee)["caller"]["authrole"], json!("anonymous"));
    let refused = run(&["call", "secret.procedure", "--disclose", "--url", &url]);
    assert!(said(&refused).contains("wamp.error.option_disallowed.disclose_me"), "{}", said(&refused));
}
