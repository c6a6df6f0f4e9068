//! The live room of the tutorial, with its own client's program, against what `--preset echo` starts.
//!
//! `FANWIRE_NODE_MODULES` names a folder with what `tests/clients/package.json` names; `cargo xtask test` makes it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    Console, Launch, Plain, Router, deaf_address, dial_from, eventually, namespace, status,
};

/// As the preset has it, but at a free port, and without a Redis.
fn preset(driver: &str) -> (Router, std::os::fd::OwnedFd) {
    let (held, nowhere) = deaf_address();
    let url = format!("redis://{nowhere}");
    let router = Launch::on(driver).argument("--preset").argument("echo").set("bridge.0.url", &url).start();
    (router, held)
}

fn passes(driver: &str, place: &str) {
    let Some(modules) = std::env::var_os("FANWIRE_NODE_MODULES") else {
        eprintln!(
            "SKIPPED: FANWIRE_NODE_MODULES is not set; `cargo xtask test --only clients` installs the clients"
        );
        return;
    };
    let (router, _held) = preset(driver);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/live_room.mjs");
    let mut command = Command::new("node");
    command.arg(script).args([place, "--url", &format!("ws://localhost:{}", router.wamp.port())]);
    let output = command.env("FANWIRE_NODE_MODULES", modules).output().expect("node is installed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{place}:\n{said}");
}

on_both_drivers! {
    fn s1_01_two_clients_of_npm_hear_what_one_says(driver: &str) {
        passes(driver, "ws");
    }

    fn s1_02_the_tutorials_client_works_in_node(driver: &str) {
        passes(driver, "node");
    }

    fn s1_02_the_tutorials_client_works_in_two_tabs_of_a_browser(driver: &str) {
        if !Console::is_here() {
            return;
        }
        let (router, _held) = preset(driver);
        let program = include_str!("../clients/live_room.js").replace(":1234", &format!(":{}", router.wamp.port()));
        // The last line sends, which nobody can before the connection is open: in a console it is typed later.
        let (set_up, send) = program.trim().rsplit_once('\n').expect("lines");
        let mut tabs = ["a", "b"].map(|tab| Console::open(&format!("{tab}-{driver}")));
        for tab in &mut tabs {
            tab.evaluate(set_up);
            assert_eq!(tab.heard(), "Connected to WebSocket server.");
        }
        tabs[0].evaluate(send);
        for tab in &tabs {
            assert_eq!(tab.heard(), "Retrieved data from server: RECEIVED: hello world!");
        }
    }

    /// A peer that is half open: its packets vanish, as behind a cable that was pulled.
    fn s1_12_a_peer_that_can_no_more_be_reached_is_gone_in_time(driver: &str) {
        const INTERVAL: Duration = Duration::from_millis(500);
        const WAIT: Duration = Duration::from_millis(500);
        // For its last words, which are on their way while the room has forgotten it.
        const GOODBYE: Duration = Duration::from_secs(1);
        const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        let test = format!("live_room::s1_12_a_peer_that_can_no_more_be_reached_is_gone_in_time::{driver}");
        if !namespace::has_programs(&["unshare", "ip", "python3"]) || !namespace::is_inside(&test) {
            return;
        }
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let router = Launch::on(driver)
            .argument("--preset")
            .argument("echo")
            .set("bridge.0.url", "redis://127.0.0.1:1")
            .set("limits.ping_interval", &time(INTERVAL))
            .set("limits.pong_wait", &time(WAIT))
            .set("limits.close_time", "60s")
            .start();
        let mut live = Plain::connect(router.wamp, "/");
        let mut lost = Plain::upgrade(dial_from(PEER, router.wamp), router.wamp, "/");
        let mut voice = live.clone_for_writing();
        let sessions = || router.metric("fanwire_sessions", "protocol=\"echo\"");
        eventually("both in the room", || sessions() == 2.0);
        voice.send_text("before");
        assert_eq!([live.hear(), lost.hear()], ["RECEIVED: before".into(), "RECEIVED: before".into()]);
        // It answers pings while it listens.
        let listener = std::thread::spawn(move || assert_eq!(live.hear(), "RECEIVED: still here?".into()));
        let gone = || router.metric("fanwire_connections_closed_total", "reason=\"pong_timeout\"");
        assert_eq!(gone(), 0.0);
        namespace::drop_packets_to(&PEER.to_string());
        let dropped = Instant::now();
        eventually("the count", || gone() == 1.0);
        let took = dropped.elapsed();
        println!("it was given up {took:?} after its packets were dropped");
        assert!(took <= 5 * (INTERVAL + WAIT + GOODBYE), "{took:?} is much more than a ping and its wait");
        assert_eq!(sessions(), 1.0);
        voice.send_text("still here?");
        listener.join().expect("it heard that");
        assert_eq!(gone(), 1.0);
    }

    fn s1_04_the_preset_takes_pages_of_any_origin_and_nothing_else_is_there(driver: &str) {
        let (router, _held) = preset(driver);
        let clients: Vec<Plain> = [&[][..], &[("Origin", "null")], &[("Origin", "https://anywhere.example")]]
            .into_iter()
            .map(|fields| Plain::try_connect(router.wamp, "/", fields).unwrap_or_else(|answer| panic!("{answer}")))
            .collect();
        eventually("all of them in the room", || {
            router.metric("fanwire_sessions", "protocol=\"echo\"") == clients.len() as f64
        });
        // The API is for this machine alone, and this port is not.
        let answer = crate::support::get(router.wamp, "/v1/sessions");
        assert_eq!(status(&answer), 426, "{answer}");
    }
}
