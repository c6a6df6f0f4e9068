//! What `cargo xtask test` runs, in this order: what fails soonest comes first, what takes longest last.
//!
//! Three builds serve all stages: the check for clippy, the tests without optimisation, and one release build of all
//! binaries and examples, which the conformance suite, the clients, the process tests and the load runs share. loom
//! needs a build of its own, because a flag changes every crate.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::deploy;
use crate::run::{Outcome, Workplace, exists, run, run_twice};
use crate::tools;

/// One stage.
pub struct Stage {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it proves.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Workplace) -> Result<Outcome>,
}

/// All stages.
pub const STAGES: &[Stage] = &[
    Stage { name: "fmt", about: "the code is formatted", run: fmt },
    Stage { name: "clippy", about: "no warnings, in any target", run: clippy },
    Stage { name: "deny", about: "licences, sources and banned versions of dependencies", run: deny },
    Stage { name: "unit", about: "unit, property and integration tests", run: unit },
    Stage { name: "doc", about: "examples in the documentation, and its links", run: doc },
    Stage { name: "vectors", about: "the published WAMP test vectors", run: vectors },
    Stage { name: "loom", about: "rings, doorbell and directory in every order", run: loom },
    Stage { name: "build", about: "the release build that the following stages use", run: build },
    Stage {
        name: "simulation",
        about: "10,000 seeds of 2,000 steps, and planted bugs that must be found",
        run: simulation,
    },
    Stage {
        name: "process",
        about: "the real process: stuck, reset and slow clients, signals, limits",
        run: process,
    },
    Stage {
        name: "stress",
        about: "healthy clients notice nothing of slow, cut, damaged and very many other ones",
        run: stress,
    },
    Stage {
        name: "deploy",
        about: "alert rules, dashboard, systemd unit and container recipe",
        run: deploy::deploy,
    },
    Stage { name: "clients", about: "unmodified clients of Python and npm, and broken rules", run: clients },
    Stage { name: "autobahn", about: "WebSocket conformance of the echo example", run: autobahn },
    Stage { name: "load", about: "the load generator loses, doubles and reorders nothing", run: load },
];

pub const MINUTE: Duration = Duration::from_secs(60);
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

fn fmt(place: &Workplace) -> Result<Outcome> {
    run(place, place.cargo(["fmt", "--all", "--", "--check"]), MINUTE)
}

fn clippy(place: &Workplace) -> Result<Outcome> {
    let command = place.cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    run(place, command, 15 * MINUTE)
}

fn deny(place: &Workplace) -> Result<Outcome> {
    match tools::cargo_deny(place) {
        Ok(binary) => {
            let mut command = place.command(binary);
            command.args(["--locked", "check", "bans", "licenses", "sources"]);
            run(place, command, 5 * MINUTE)
        }
        Err(why) => Ok(Outcome::Skipped(format!("no cargo-deny: {why}"))),
    }
}

/// Tests of these targets: by nextest where it is installed, because it runs them beside each other.
///
/// Always of the whole workspace, so that every stage meets the same features and nothing is built twice.
struct Tests<'a> {
    /// In cargo's words: which targets.
    targets: &'a [&'a str],
    /// In nextest's words: which tests. Without nextest all tests of the targets run.
    filter: &'a str,
    release: bool,
    environment: &'a [(&'a str, String)],
    limit: Duration,
}

impl Tests<'_> {
    fn run(&self, place: &Workplace) -> Result<Outcome> {
        let nextest = exists("cargo-nextest");
        let mut command = if nextest { place.cargo(["nextest", "run"]) } else { place.cargo(["test"]) };
        command.args(["--workspace", "--locked", "--no-fail-fast"]).args(self.targets);
        if self.release {
            command.arg("--release");
        }
        if nextest {
            command.args(["--status-level", "slow", "--no-tests", "fail", "-E", self.filter]);
        }
        for (name, value) in self.environment {
            command.env(name, value);
        }
        run(place, command, self.limit)
    }
}

fn unit(place: &Workplace) -> Result<Outcome> {
    Tests {
        targets: &["--lib", "--bins", "--examples", "--tests"],
        filter: "not (binary(end_to_end) or binary(sim) or binary(wamp_vectors))",
        release: false,
        // Where nextest does not leave the simulation out, let it be a short one.
        environment: &[("FANWIRE_SIM_SEEDS", "20".to_owned())],
        limit: 20 * MINUTE,
    }
    .run(place)
}

fn doc(place: &Workplace) -> Result<Outcome> {
    let examples =
        run(place, place.cargo(["test", "--workspace", "--locked", "--doc", "--quiet"]), 10 * MINUTE)?;
    let mut command = place.cargo(["doc", "--workspace", "--locked", "--no-deps", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    Ok(examples.and(run(place, command, 10 * MINUTE)?))
}

fn vectors(place: &Workplace) -> Result<Outcome> {
    let here = place.root.join("../shared/vectors/wamp");
    if env::var_os("FANWIRE_VECTORS").is_none() && !here.exists() {
        return Ok(Outcome::Skipped("no WAMP vectors; FANWIRE_VECTORS names their folder".to_owned()));
    }
    Tests {
        targets: &["--test", "wamp_vectors"],
        filter: "all()",
        release: false,
        environment: &[],
        limit: 10 * MINUTE,
    }
    .run(place)
}

/// Each crate apart: the flag must reach no dependency that knows it too and has no loom then.
fn loom(place: &Workplace) -> Result<Outcome> {
    let models = |package: &str, target: &[&str]| {
        let mut command = place.cargo(["test", "--release", "--locked", "--quiet", "-p", package]);
        command.args(target);
        command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", place.target.join("loom"));
        // What loom explores is the same without link-time optimisation, and built sooner.
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        run(place, command, 10 * MINUTE)
    };
    Ok(models("fanwire-core", &["--test", "loom_directory"])?.and(models("fanwire-io", &["--lib"])?))
}

fn build(place: &Workplace) -> Result<Outcome> {
    run(place, released_build(place), 20 * MINUTE)
}

fn released_build(place: &Workplace) -> Command {
    place.cargo(["build", "--release", "--workspace", "--locked", "--bins", "--examples", "--quiet"])
}

/// The release binaries, built now if the stage runs alone.
pub fn ensure_built(place: &Workplace) -> Result<()> {
    match run(place, released_build(place), 20 * MINUTE)? {
        ran if ran.is_failure() => bail!("the release build failed"),
        _ => Ok(()),
    }
}

fn simulation(place: &Workplace) -> Result<Outcome> {
    let seeds = if place.full { "100000" } else { "10000" };
    let sound = Tests {
        targets: &["--test", "sim"],
        filter: "all()",
        release: true,
        environment: &[("FANWIRE_SIM_SEEDS", seeds.to_owned()), ("FANWIRE_SIM_STEPS", "2000".to_owned())],
        limit: if place.full { 90 * MINUTE } else { 15 * MINUTE },
    }
    .run(place)?;
    // The bugs are in a build of the core of their own, which nothing else ever sees.
    let mut planted = place.cargo([
        "test",
        "--release",
        "--package",
        "fanwire-core",
        "--features",
        "mutations",
        "--test",
        "sim",
        "--test",
        "wamp2",
        "--locked",
    ]);
    planted.env("FANWIRE_SIM_SEEDS", "20");
    Ok(sound.and(run(place, planted, 15 * MINUTE)?))
}

/// How many shards the routers of the tests have.
fn shard_counts(place: &Workplace) -> &'static [u8] {
    if place.full { &[2, 1] } else { &[2] }
}

/// The end-to-end tests with programs of others: their clients, Redis, PHP, a browser.
const FOREIGN: &str = "test(/^(articles|clients|live_room|queues|redis|server_api|suites|wamp1)::/)";

fn process(place: &Workplace) -> Result<Outcome> {
    ensure_built(place)?;
    let mut total = Outcome::nothing();
    for shards in shard_counts(place) {
        total = total.and(end_to_end(place, &format!("not {FOREIGN}"), *shards, &[])?);
    }
    Ok(total)
}

fn stress(place: &Workplace) -> Result<Outcome> {
    ensure_built(place)?;
    let attempt = || {
        let mut command = place.command(place.released("fanwire-stress"));
        // Few enough to take about a minute; the default is ten thousand.
        let arguments: &[&str] = if place.full {
            &["--repeat", "3"]
        } else {
            &["--crowd", "1000", "--together", "--slack", "30s"]
        };
        command.args(arguments);
        Ok(command)
    };
    run_twice(place, attempt, if place.full { 60 * MINUTE } else { 10 * MINUTE })
}

fn clients(place: &Workplace) -> Result<Outcome> {
    let installed =
        tools::python(place).and_then(|python| Ok((python, tools::node(place)?, tools::wamp_async(place)?)));
    let (python, node, wamp_async) = match installed {
        Ok(installed) => installed,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    if let Err(why) = tools::programs(place) {
        return Ok(Outcome::Skipped(why));
    }
    // Few machines still have that; its client is one of many.
    let python2 = tools::python2(place);
    ensure_built(place)?;
    let mut total = Outcome::nothing();
    for shards in shard_counts(place) {
        let mut tools = vec![
            ("FANWIRE_PYTHON", python.display().to_string()),
            ("FANWIRE_NODE_MODULES", node.display().to_string()),
            ("FANWIRE_WAMP_ASYNC", wamp_async.display().to_string()),
        ];
        match &python2 {
            Ok((python, modules)) => tools.extend([
                ("FANWIRE_PYTHON2", python.display().to_string()),
                ("FANWIRE_PYTHON2_MODULES", modules.display().to_string()),
            ]),
            Err(why) => println!("SKIPPED: the client of WAMP version 1: {why}"),
        }
        total = total.and(end_to_end(place, FOREIGN, *shards, &tools)?);
    }
    Ok(total)
}

fn end_to_end(place: &Workplace, filter: &str, shards: u8, tools: &[(&str, String)]) -> Result<Outcome> {
    let mut environment = vec![
        ("FANWIRE_BIN", place.released("fanwire").display().to_string()),
        ("FANWIRE_TEST_SHARDS", shards.to_string()),
    ];
    environment.extend_from_slice(tools);
    if place.full {
        environment.push(("FANWIRE_FULL", "1".to_owned()));
    }
    let filter = format!("binary(end_to_end) and ({filter})");
    Tests {
        targets: &["--test", "end_to_end"],
        filter: &filter,
        release: false,
        environment: &environment,
        limit: 20 * MINUTE,
    }
    .run(place)
}

fn autobahn(place: &Workplace) -> Result<Outcome> {
    ensure_built(place)?;
    let mut total = Outcome::nothing();
    for (driver, takeover) in DRIVERS.into_iter().zip(["off", "on"]) {
        let flags = ["--listen", "127.0.0.1:0", "--driver", driver, "--takeover", takeover];
        let echo = Server::start(place, "examples/echo", &flags)?;
        let mut command = place.command("bash");
        command.arg("tests/conformance/autobahn.sh").arg(&echo.url);
        let cases = if place.full {
            "1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.*,10.*,12.1.*,12.2.*,12.3.*,12.4.*,12.5.*,13.1.*,13.2.*,13.3.*,13.4.*,13.5.*,13.6.*,13.7.*"
        } else {
            "1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*,12.*,13.*"
        };
        if !place.full {
            // Of compression every data set and every offer, with messages of up to 4 KiB, and of 8 KiB in fragments.
            let left_out = [6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18];
            let left_out = left_out.map(|size| format!("12.*.{size},13.*.{size}"));
            command.args(["--exclude", &left_out.join(",")]);
        }
        command.args(["--cases", cases, "--strict", "6.4.3,6.4.4", "--jobs", "2", "--agent", driver]);
        command.env("FANWIRE_TOOLS", &place.tools);
        let limit = if place.full { 90 * MINUTE } else { 15 * MINUTE };
        command.args(["--timeout", &(limit - MINUTE).as_secs().to_string()]);
        total = total.and(run(place, command, limit)?);
        drop(echo);
    }
    Ok(total)
}

/// What the generator is told beyond where the router is.
const LOADS: &[&[&str]] = &[
    &["fanout", "--subscribers", "1000", "--publishers", "2", "--duration", "5s"],
    // The payload is large so that those who do not read are cut within the run.
    &[
        "fanout",
        "--subscribers",
        "100",
        "--stuck",
        "10",
        "--payload",
        "16KiB",
        "--serializer",
        "msgpack",
        "--duration",
        "5s",
    ],
    &["rpc", "--callers", "200", "--callees", "4", "--duration", "5s"],
    &["broadcast+rpc", "--subscribers", "1000", "--rate", "20", "--alone", "2s", "--duration", "3s"],
    &["mixed", "--rate", "1k", "--skew", "zipf:1.0", "--duration", "4s"],
    &[RAWSOCKET, "fanout", "--subscribers", "200", "--serializer", "cbor", "--duration", "2s"],
];
/// In front of a scenario: over RawSocket instead of WebSocket.
const RAWSOCKET: &str = "rs";
/// The same at full size.
const LONG_LOADS: &[&[&str]] = &[
    &["fanout", "--subscribers", "10000", "--duration", "60s"],
    &["fanout", "--subscribers", "10000", "--stuck", "10", "--duration", "60s"],
    &["fanout", "--subscribers", "1000", "--publisher-serializer", "msgpack", "--duration", "30s"],
    &["rpc", "--callers", "1000", "--callees", "8", "--duration", "60s"],
    &[RAWSOCKET, "rpc", "--callers", "1000", "--callees", "8", "--duration", "30s"],
    &["broadcast+rpc", "--subscribers", "10000", "--rate", "5", "--alone", "10s", "--duration", "30s"],
    &[
        "mixed",
        "--rate",
        "5k",
        "--skew",
        "zipf:1.0",
        "--topics",
        "1000",
        "--subscribers",
        "5000",
        "--duration",
        "60s",
    ],
    &[
        "rooms",
        "--rooms",
        "500",
        "--members",
        "10",
        "--skew",
        "zipf:1.0",
        "--rate",
        "2k",
        "--duration",
        "60s",
    ],
];

fn load(place: &Workplace) -> Result<Outcome> {
    ensure_built(place)?;
    let mut total = Outcome::nothing();
    for driver in DRIVERS {
        for shards in shard_counts(place) {
            for scenario in if place.full { LONG_LOADS } else { LOADS } {
                let shards = shards.to_string();
                let mut router = None;
                let attempt = || {
                    router = None;
                    let arguments =
                        ["--port", "0", "--admin", "none", "--driver", driver, "--shards", &shards];
                    let router = router.insert(Server::start(place, "fanwire", &arguments)?);
                    let mut command = place.command(place.released("fanwire-loadgen"));
                    let (scenario, url) = match scenario.split_first() {
                        Some((&RAWSOCKET, scenario)) => (scenario, router.rawsocket()),
                        _ => (*scenario, router.url.clone()),
                    };
                    command.args(scenario).args(["--url", &url, "--quiet"]);
                    command.args(["--expect", "lost=0,dup=0,order=0,corrupt=0,closed=0,errors=0"]);
                    command.args(["--server-pid", &router.child.id().to_string()]);
                    Ok(command)
                };
                total = total.and(run_twice(place, attempt, 5 * MINUTE)?);
            }
        }
    }
    Ok(total)
}

/// A server that ends with this value.
pub struct Server {
    child: Child,
    /// The first `ws://` that it printed.
    pub url: String,
}

impl Server {
    /// Starts a program of the release build and waits for the `ws://` that it prints.
    fn start(place: &Workplace, program: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_program(place, &place.released(program), arguments)
    }

    /// The same of any program.
    pub fn start_program(place: &Workplace, program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = place.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("piped above")?).lines();
        let mut server = Self { child, url: String::new() };
        let (sender, receiver) = channel();
        // It reads on, because what is said later must not fill the pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(url) = line.split_whitespace().find(|word| word.starts_with("ws://")) {
                    let _ = sender.send(url.to_owned());
                }
            }
        });
        match receiver.recv_timeout(MINUTE) {
            Ok(url) => server.url = url,
            Err(_) => bail!("{} did not say where it listens", program.display()),
        }
        Ok(server)
    }

    /// The same address, for RawSocket.
    pub fn rawsocket(&self) -> String {
        let address = self.url.trim_start_matches("ws://");
        format!("rs://{}", address.split('/').next().unwrap_or(address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
