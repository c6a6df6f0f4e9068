//! The suites of cases by unmodified clients: each client in each serializer, over each transport that it has, with one
//! shard and with two, on both drivers.
//!
//! Of all combinations so many are run that each pair of two values comes together once, always the same ones;
//! `cargo xtask test --full` runs all. The cases are in `tests/clients/suite` and `tests/clients/javascript`; what each
//! router makes of them is in `docs/conformance.md`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::Command;

use crate::clients::{REALM, left_nothing_behind, script, tool};
use crate::support::{Folder, Launch, Router};

/// The programs: as their option `--client` has it, the transports that they speak, and what runs them.
const CLIENTS: [Client; 7] = [
    Client {
        name: "autobahn-asyncio",
        transports: &["ws", "deflate", "batched", "rs", "unix"],
        runs: PYTHON,
    },
    Client {
        name: "autobahn-twisted",
        transports: &["ws", "deflate", "batched", "rs", "unix"],
        runs: PYTHON,
    },
    Client { name: "xconn", transports: &["ws", "rs", "unix"], runs: PYTHON },
    Client { name: "wampproto", transports: &["ws", "rs", "unix"], runs: PYTHON },
    Client { name: "autobahn", transports: &["ws", "deflate", "poll"], runs: NODE },
    Client { name: "wampy", transports: &["ws", "deflate"], runs: NODE },
    Client { name: "wamp_async", transports: &["ws", "rs"], runs: WAMP_ASYNC },
];
const PYTHON: Runs = Runs { variable: "FANWIRE_PYTHON", program: None, script: Some("suite") };
const NODE: Runs =
    Runs { variable: "FANWIRE_NODE_MODULES", program: Some("node"), script: Some("javascript.mjs") };
const WAMP_ASYNC: Runs = Runs { variable: "FANWIRE_WAMP_ASYNC", program: None, script: None };
const SERIALIZERS: [&str; 3] = ["json", "msgpack", "cbor"];
/// WebSocket, the same with permessage-deflate, the same in batches; RawSocket over TCP and over a Unix socket; HTTP long-polling.
const TRANSPORTS: [&str; 6] = ["ws", "deflate", "batched", "rs", "unix", "poll"];
const SHARDS: [&str; 2] = ["2", "1"];
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

struct Client {
    name: &'static str,
    transports: &'static [&'static str],
    runs: Runs,
}

/// How a suite is run.
#[derive(Clone, Copy)]
struct Runs {
    /// The variable that says where what it needs is installed.
    variable: &'static str,
    /// The program; where there is none it is what the variable names.
    program: Option<&'static str>,
    /// What it interprets.
    script: Option<&'static str>,
}

/// One value of each: client, serializer, transport, shards, driver.
type Combination = [&'static str; 5];

fn all() -> Vec<Combination> {
    let mut found = Vec::new();
    for client in &CLIENTS {
        for serializer in SERIALIZERS {
            for transport in TRANSPORTS.into_iter().filter(|name| client.transports.contains(name)) {
                // There Autobahn ends messages with 0x18, where the specification says 0x1E.
                if (serializer, transport) == ("json", "batched") {
                    continue;
                }
                if transport == "poll" && serializer != "json" {
                    continue; // Autobahn polls in no other
                }
                if (client.name, serializer) == ("wamp_async", "cbor") {
                    continue; // it has none
                }
                for shards in SHARDS {
                    found.extend(DRIVERS.map(|driver| [client.name, serializer, transport, shards, driver]));
                }
            }
        }
    }
    found
}

/// Its pairs of two values, each with its place.
fn pairs(combination: &Combination) -> impl Iterator<Item = [(usize, &'static str); 2]> {
    let values: Vec<_> = combination.iter().copied().enumerate().collect();
    (0..values.len()).flat_map(move |second| {
        let values = values.clone();
        (0..second).map(move |first| [values[first], values[second]])
    })
}

/// A few combinations that have all pairs of `all`: each time the one with the most that are missing.
fn cover(all: &[Combination]) -> Vec<Combination> {
    let mut missing: BTreeSet<_> = all.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let gain =
            |combination: &&Combination| pairs(combination).filter(|pair| missing.contains(pair)).count();
        // `max_by_key` takes the last of equals; the first ones are the plainest.
        let best = *all.iter().rev().max_by_key(gain).expect("something is missing");
        for pair in pairs(&best) {
            missing.remove(&pair);
        }
        chosen.push(best);
    }
    chosen
}

#[test]
fn a_few_combinations_have_each_pair() {
    let (all, chosen) = (all(), cover(&all()));
    let of = |combinations: &[Combination]| combinations.iter().flat_map(pairs).collect::<BTreeSet<_>>();
    assert_eq!(of(&chosen), of(&all));
    assert!(chosen.len() * 5 < all.len(), "{} of {} combinations are not few", chosen.len(), all.len());
    println!("{} of {} combinations", chosen.len(), all.len());
}

/// Those of this run. With `--full` there is a run for each number of shards.
fn combinations() -> Vec<Combination> {
    if std::env::var_os("FANWIRE_FULL").is_none() {
        return cover(&all());
    }
    let shards = std::env::var("FANWIRE_TEST_SHARDS").ok();
    let is_now = |combination: &Combination| shards.as_deref().is_none_or(|shards| shards == combination[3]);
    all().into_iter().filter(is_now).collect()
}

/// Runs the suite of one client in its combinations on this driver.
fn passes(driver: &str, name: &str) {
    let client = CLIENTS.iter().find(|client| client.name == name).expect("one of the clients");
    let Some(installed) = tool(client.runs.variable) else { return };
    let chosen = combinations().into_iter().filter(|chosen| chosen[0] == name && chosen[4] == driver);
    let mut are_any = false;
    for combination in chosen {
        are_any = true;
        let [_, serializer, transport, ..] = combination;
        let what = combination.join(", ");
        println!("=== {what}");
        let mut arguments = vec!["--client", name, "--serializer", serializer];
        arguments.extend(match transport {
            "deflate" => &["--compression"][..],
            "batched" => &["--batched"],
            _ => &[],
        });
        let (router, url, _folder) = start(combination);
        let program = client.runs.program.map_or_else(|| installed.clone(), OsString::from);
        let mut command = Command::new(program);
        command.args(client.runs.script.map(script)).args(["--url", &url]).args(&arguments);
        let output = command.output().expect("the interpreter starts");
        let said = String::from_utf8_lossy(&output.stdout);
        // What passed is of no interest.
        let lines: Vec<&str> = said.lines().filter(|line| !line.contains("\"passed\"")).collect();
        println!("{}", lines.join("\n"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}:\n{}\n{errors}", lines.join("\n"));
        assert!(!said.contains("\n0 passed"), "{what}: no case was run");
        if transport == "deflate" {
            for used in ["fanwire_inflated_messages_total", "fanwire_deflated_frames_total"] {
                assert!(router.metric(used, "") > 0.0, "{what}: {used}: nothing was compressed");
            }
        }
        left_nothing_behind(&router);
    }
    assert!(are_any, "{name} has no combination on {driver}");
}

/// A router of its own, where it is reached over this transport, and what must live as long.
fn start([name, _, transport, shards, driver]: Combination) -> (Router, String, Folder) {
    let folder = Folder::new(&format!("suite-{name}-{transport}-{shards}-{driver}"));
    // On one driver each message is compressed for itself, on the other after those before it.
    let takeover = (driver == "epoll").to_string();
    let launch = Launch::on(driver).argument("--shards").argument(shards);
    if transport == "unix" {
        let socket = folder.path("a.sock");
        let text =
            format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[listener]]\nbind = \"unix:{socket}\"\n{REALM}");
        let file = folder.write("fanwire.toml", &text);
        return (launch.argument("--config").argument(&file).start(), format!("rs://unix:{socket}"), folder);
    }
    let launch = launch.argument("--config").argument(&folder.write("fanwire.toml", REALM));
    let mut launch = launch.set("compression.takeover", &takeover);
    if (name, transport) == ("wamp_async", "rs") {
        // It asks for messages of 16 MiB, and takes any other answer for a refusal.
        launch = launch.set("limits.message", "16MiB");
    }
    if transport == "poll" {
        let [key, endpoints] = crate::longpoll::ENDPOINTS;
        let router = launch.set(key, endpoints).start();
        let url = format!("http://{}/poll", router.wamp);
        return (router, url, folder);
    }
    let router = launch.start();
    let url = if transport == "rs" { format!("rs://{}", router.wamp) } else { router.url() };
    (router, url, folder)
}

on_both_drivers! {
    fn autobahn_for_python_on_asyncio(driver: &str) {
        passes(driver, "autobahn-asyncio");
    }

    fn autobahn_for_python_on_twisted(driver: &str) {
        passes(driver, "autobahn-twisted");
    }

    fn xconn_for_python(driver: &str) {
        passes(driver, "xconn");
    }

    fn wampproto_for_python(driver: &str) {
        passes(driver, "wampproto");
    }

    fn autobahn_for_javascript(driver: &str) {
        passes(driver, "autobahn");
    }

    fn wampy(driver: &str) {
        passes(driver, "wampy");
    }

    fn wamp_async_for_rust(driver: &str) {
        passes(driver, "wamp_async");
    }
}
