//! Unmodified public clients against the real process, and raw sockets that break the rules.
//!
//! The scripts are in `tests/clients`. `FANWIRE_PYTHON` names a Python that has `requirements.txt`, and
//! `FANWIRE_NODE_MODULES` a folder with what `package.json` names; `cargo xtask test` makes both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{CHEAP_HASH, CHEAP_TICKET, Folder, Launch, Router, eventually};
use crate::tls::Set;

/// What the cases of the suites need: a topic with history, permissions, users. No listener, so it may stand behind one.
pub const REALM: &str = include_str!("../clients/routers/fanwire.toml");

pub fn tool(variable: &str) -> Option<OsString> {
    let tool = std::env::var_os(variable);
    if tool.is_none() {
        eprintln!("SKIPPED: {variable} is not set; `cargo xtask test --only clients` installs the clients");
    }
    tool
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a script against a router of its own; it must succeed.
fn passes(driver: &str, program: &OsString, name: &str, arguments: &[&str]) {
    // On one driver each message is compressed for itself, on the other after those before it.
    let takeover = (driver == "epoll").to_string();
    let router = Launch::on(driver).set("compression.takeover", &takeover).start();
    passes_with(router, program, name, arguments);
}

/// Every session logs in by ticket, to a realm that takes nobody else.
fn passes_logged_in(driver: &str, program: &OsString, name: &str, arguments: &[&str]) {
    let folder = Folder::new(&format!("clients-{driver}-{name}-{}", arguments.join("")));
    // A user for each of the sessions that are there at once.
    let users: String = (0..40).map(|number| format!("joe{number}:anonymous:{CHEAP_HASH}\n")).collect();
    let users = folder.write("users.txt", &users);
    let router = Launch::on(driver)
        .argument("--config")
        .argument(&folder.write("fanwire.toml", REALM))
        .set("realm.0.anonymous_role", "none")
        .set("realm.0.users_file", &users)
        // A run has a hundred logins, many of them at once.
        .set("limits.logins_waiting", "1000")
        .start();
    let login = ["--users", "40", "--ticket", CHEAP_TICKET];
    passes_with(router, program, name, &[arguments, &login].concat());
}

/// Over TLS, trusting one authority by the client's own means.
fn passes_over_tls(driver: &str, program: &OsString, name: &str, arguments: &[&str]) {
    let (authority, folder, router) = Set::new(driver, &format!("clients-{name}"), REALM).start();
    let ca = folder.write("ca.pem", &authority.pem());
    let url = format!("wss://{}/ws", crate::tls::address(&router));
    let trust = [("NODE_EXTRA_CA_CERTS", ca.as_str()), ("SSL_CERT_FILE", ca.as_str())];
    passes_at(&url, &trust, router, program, name, arguments);
}

fn passes_with(router: Router, program: &OsString, name: &str, arguments: &[&str]) {
    passes_at(&router.url(), &[], router, program, name, arguments);
}

fn passes_at(
    url: &str,
    environment: &[(&str, &str)],
    router: Router,
    program: &OsString,
    name: &str,
    arguments: &[&str],
) {
    let mut command = Command::new(program);
    command.arg(script(name)).args(["--url", url]).args(arguments).envs(environment.iter().copied());
    let output = command.output().expect("the interpreter starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{name} {arguments:?}:\n{said}");
    left_nothing_behind(&router);
}

/// Sessions were on several shards, and nothing of them is left.
pub fn left_nothing_behind(router: &Router) {
    for panics in ["fanwire_decoder_panics_total", "fanwire_message_panics_total"] {
        assert_eq!(router.metric(panics, ""), 0.0, "{panics}: a panic was contained");
    }
    let shards = router.metric("fanwire_shards", "") as usize;
    let opened =
        |shard: &usize| router.metric("fanwire_sessions_opened_total", &format!("shard=\"{shard}\"")) > 0.0;
    let used = (0..shards).filter(opened).count();
    assert!(used >= shards.min(2), "all sessions were on one shard: this run proved nothing across shards");
    for gauge in [
        "fanwire_connections_open",
        "fanwire_sessions",
        "fanwire_subscriptions",
        "fanwire_registrations",
        "fanwire_calls_pending",
        "fanwire_event_streams",
        "fanwire_outbox_bytes",
    ] {
        eventually(&format!("{gauge} being 0"), || router.metric(gauge, "") == 0.0);
    }
}

fn python(driver: &str, name: &str, arguments: &[&str]) {
    if let Some(program) = tool("FANWIRE_PYTHON") {
        passes(driver, &program, name, arguments);
    }
}

on_both_drivers! {
    fn autobahn_for_python_over_tls(driver: &str) {
        if let Some(program) = tool("FANWIRE_PYTHON") {
            passes_over_tls(driver, &program, "suite", &["--serializer", "msgpack"]);
        }
    }

    fn autobahn_for_javascript_over_tls(driver: &str) {
        if tool("FANWIRE_NODE_MODULES").is_some() {
            let arguments = ["--client", "autobahn", "--serializer", "json"];
            passes_over_tls(driver, &OsString::from("node"), "javascript.mjs", &arguments);
        }
    }

    fn wampy_over_tls(driver: &str) {
        if tool("FANWIRE_NODE_MODULES").is_some() {
            let arguments = ["--client", "wampy", "--serializer", "cbor"];
            passes_over_tls(driver, &OsString::from("node"), "javascript.mjs", &arguments);
        }
    }

    fn autobahn_for_python_logs_in(driver: &str) {
        if let Some(program) = tool("FANWIRE_PYTHON") {
            passes_logged_in(driver, &program, "suite", &["--serializer", "json"]);
        }
    }

    fn autobahn_for_javascript_logs_in(driver: &str) {
        if tool("FANWIRE_NODE_MODULES").is_some() {
            let arguments = ["--client", "autobahn", "--serializer", "msgpack"];
            passes_logged_in(driver, &OsString::from("node"), "javascript.mjs", &arguments);
        }
    }

    fn wampy_logs_in(driver: &str) {
        if tool("FANWIRE_NODE_MODULES").is_some() {
            let arguments = ["--client", "wampy", "--serializer", "cbor"];
            passes_logged_in(driver, &OsString::from("node"), "javascript.mjs", &arguments);
        }
    }

    fn autobahn_for_python_over_rawsocket_and_tls(driver: &str) {
        let Some(program) = tool("FANWIRE_PYTHON") else { return };
        let (authority, folder, router) = Set::new(driver, "clients-raw", REALM).start();
        let ca = folder.write("ca.pem", &authority.pem());
        let url = format!("rss://{}", crate::tls::address(&router));
        let arguments = ["--serializer", "cbor"];
        passes_at(&url, &[("SSL_CERT_FILE", ca.as_str())], router, &program, "suite", &arguments);
    }

    fn all_clients_with_each_other(driver: &str) {
        if tool("FANWIRE_NODE_MODULES").is_some() {
            python(driver, "cross.py", &[]);
        }
    }

    fn broken_rules_are_answered_as_prescribed(driver: &str) {
        python(driver, "violations.py", &[]);
    }

    fn payloads_pass_through_untouched(driver: &str) {
        python(driver, "passthru.py", &[]);
    }

    fn noise_harms_nobody(driver: &str) {
        python(driver, "noise.py", &[]);
    }
}
