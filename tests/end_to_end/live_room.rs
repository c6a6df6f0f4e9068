//! The live room of the tutorial, with its own client's program, against what `--preset echo` starts.
//!
//! `FANWIRE_NODE_MODULES` names a folder with what `tests/clients/package.json` names; `cargo xtask test` makes it.

use std::path::Path;
use std::process::Command;

use crate::support::{Console, Launch, Plain, Router, deaf_address, eventually, status};

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
