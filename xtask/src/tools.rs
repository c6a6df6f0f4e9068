//! What the tests need beside Rust: installed once, pinned, under `target/tools`.
//!
//! Versions are in `tests/clients/requirements.txt`, `requirements-python2.txt` and `package-lock.json`. A stamp beside each installation holds
//! the pins it was made from; where they differ it is made anew. System packages are touched only by root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::{Workplace, exists, run_quietly, succeeds};

/// For one installation. A registry that answers at all needs a fifth of it.
const INSTALL_TIME: Duration = Duration::from_secs(8 * 60);
/// Between attempts: a registry that hiccups is no reason to fail a build.
const PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

/// Checks licences, sources and banned crates.
const CARGO_DENY: &str = "0.20.2";

/// A tool, or why there is none.
pub type Tool = Result<PathBuf, String>;

/// `cargo-deny`: the pinned one under `target/tools`, else one that is installed, else it is built.
pub fn cargo_deny(place: &Workplace) -> Tool {
    let home = place.tools.join("cargo-deny");
    let binary = home.join("bin/cargo-deny");
    if is_current(&home, CARGO_DENY) && binary.exists() {
        return Ok(binary);
    }
    if !place.ci && exists("cargo-deny") {
        return Ok(PathBuf::from("cargo-deny"));
    }
    println!("installing cargo-deny {CARGO_DENY} into target/tools (a minute or two, once)");
    let make = || {
        let mut command =
            place.cargo(["install", "--quiet", "--locked", "--debug", "cargo-deny", "--version"]);
        command.arg(format!("={CARGO_DENY}")).arg("--root").arg(&home);
        // An optimised build takes five times as long as all the checks that it will ever run.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_TARGET_DIR", home.join("build"));
        command.env_remove("RUSTFLAGS");
        run_quietly(place, command, INSTALL_TIME)
    };
    repeatedly(make).map_err(|error| format!("{error:#}"))?;
    let _ = fs::remove_dir_all(home.join("build"));
    stamp(&home, CARGO_DENY).map_err(|error| format!("{error:#}"))?;
    Ok(binary)
}

/// `promtool`: the installed one, else that of Debian's package, which is unpacked under `target/tools` and not installed,
/// because that would start a server.
pub fn promtool(place: &Workplace) -> Tool {
    if exists("promtool") {
        return Ok(PathBuf::from("promtool"));
    }
    let home = place.tools.join("prometheus");
    let binary = home.join("usr/bin/promtool");
    if binary.exists() {
        return Ok(binary);
    }
    if !(exists("apt-get") && exists("dpkg")) {
        return Err("no promtool here, and no Debian package of it".to_owned());
    }
    println!("unpacking Debian's prometheus into target/tools (once)");
    let script = r#"
        set -e
        rm -rf "$1" && mkdir -p "$1/package"
        # A warning that another user than root cannot write here is of no account.
        cd "$1/package"
        apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }
        dpkg -x prometheus_*.deb "$1"
        rm -rf "$1/package" "$1/usr/bin/prometheus"
    "#;
    let make = || {
        let mut command = place.command("sh");
        command.args(["-c", script, "sh"]).arg(&home);
        run_quietly(place, command, INSTALL_TIME)
    };
    repeatedly(make).map_err(|error| format!("no promtool: {error:#}"))?;
    Ok(binary)
}

/// Programs of the system that tests start beside the router, how it shows that one is here, and Debian's packages of it.
const PROGRAMS: [(&[&str], &[&str]); 7] = [
    (&["redis-server", "--version"], &["redis-server"]),
    (&["redis-cli", "--version"], &["redis-tools"]),
    (&["php", "-r", "new Redis;"], &["php-cli", "php-redis"]),
    (&["chromium", "--version"], &["chromium"]),
    (&["curl", "--version"], &["curl"]),
    (&["unshare", "--version"], &["util-linux"]),
    (&["ip", "-V"], &["iproute2"]),
];

/// Sees that the [`PROGRAMS`] are here; one that is neither here nor can be had is an error.
pub fn programs(place: &Workplace) -> Result<(), String> {
    let missing = || PROGRAMS.iter().filter(|(probe, _)| !succeeds(probe));
    let packages: Vec<&str> = missing().flat_map(|(_, packages)| *packages).copied().collect();
    if !packages.is_empty() {
        println!("installing {} (once)", packages.join(", "));
        apt(place, &packages);
    }
    match missing().next() {
        None => Ok(()),
        Some((probe, packages)) => {
            Err(format!("`{}` fails here; Debian has it in {}", probe.join(" "), packages.join(", ")))
        }
    }
}

/// A Python with the pinned clients of `tests/clients/requirements.txt`.
pub fn python(place: &Workplace) -> Tool {
    if !exists("python3") {
        apt(place, &["python3", "python3-venv"]);
    }
    if !exists("python3") {
        return Err("no python3 here".to_owned());
    }
    let pins = place.root.join("tests/clients/requirements.txt");
    install(place, "python", &pins, |home| {
        let make = || {
            let mut command = place.command("python3");
            command.args(["-m", "venv", "--clear"]).arg(home);
            run_quietly(place, command, INSTALL_TIME)
        };
        // Debian ships `venv` apart from Python.
        make().or_else(|error| if apt(place, &["python3-venv"]) { make() } else { Err(error) })?;
        let mut pip = place.command(home.join("bin/python"));
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "-r"])
            .arg(&pins);
        run_quietly(place, pip, INSTALL_TIME)
    })
    .map(|home| home.join("bin/python"))
}

/// A Python 2.7 with pip, and the folder with the pinned client of `tests/clients/requirements-python2.txt`.
pub fn python2(place: &Workplace) -> Result<(PathBuf, PathBuf), String> {
    // pyenv's command of this name runs nothing unless it is told the version; others do not know the variable.
    let python2 = || {
        let mut command = place.command("python2.7");
        command.env("PYENV_VERSION", "2.7.18");
        command
    };
    let asked = python2().args(["-c", "import pip, sys; print(sys.executable)"]).output();
    let asked = asked.ok().filter(|output| output.status.success());
    let path = asked.and_then(|output| String::from_utf8(output.stdout).ok());
    let Some(path) = path else { return Err("no Python 2.7 with pip here".to_owned()) };
    let pins = place.root.join("tests/clients/requirements-python2.txt");
    let modules = install(place, "python2", &pins, |home| {
        let mut pip = python2();
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--target"])
            .arg(home)
            .arg("-r")
            .arg(&pins);
        run_quietly(place, pip, INSTALL_TIME)
    })?;
    Ok((PathBuf::from(path.trim()), modules))
}

/// The suite of the crate `wamp_async`, which is a package of its own: the crate is old, and so is what it depends on.
pub fn wamp_async(place: &Workplace) -> Tool {
    let target = place.target.join("wamp-async");
    let build = || {
        let mut command = place.cargo(["build", "--locked", "--quiet"]);
        command.current_dir(place.root.join("tests/clients/wamp_async"));
        command.env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("RUSTFLAGS");
        run_quietly(place, command, INSTALL_TIME)
    };
    // It speaks TLS through OpenSSL.
    build()
        .or_else(|error| if apt(place, &["libssl-dev", "pkg-config"]) { build() } else { Err(error) })
        .map_err(|error| format!("the suite of wamp_async could not be built: {error:#}"))?;
    Ok(target.join("debug/wamp-async-suite"))
}

/// The `node_modules` folder with the pinned clients of `tests/clients/package-lock.json`.
pub fn node(place: &Workplace) -> Tool {
    if !(exists("node") && exists("npm")) {
        apt(place, &["nodejs", "npm"]);
    }
    if !(exists("node") && exists("npm")) {
        return Err("no node and npm here".to_owned());
    }
    let clients = place.root.join("tests/clients");
    install(place, "npm", &clients.join("package-lock.json"), |home| {
        fs::create_dir_all(home)?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(clients.join(file), home.join(file))?;
        }
        let mut command = place.command("npm");
        command
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(home);
        run_quietly(place, command, INSTALL_TIME)
    })
    .map(|home| home.join("node_modules"))
}

/// Installs into `target/tools/NAME` unless that was made from the same pins.
fn install(place: &Workplace, name: &str, pins: &Path, make: impl Fn(&Path) -> Result<()>) -> Tool {
    let home = place.tools.join(name);
    let attempt = || -> Result<()> {
        let wanted = fs::read_to_string(pins).with_context(|| format!("cannot read {}", pins.display()))?;
        if is_current(&home, &wanted) {
            return Ok(());
        }
        println!("installing the clients of {} into target/tools", pins.strip_prefix(&place.root)?.display());
        fs::create_dir_all(&place.tools)?;
        repeatedly(|| {
            let _ = fs::remove_dir_all(&home);
            make(&home)
        })?;
        stamp(&home, &wanted)
    };
    match attempt() {
        Ok(()) => Ok(home),
        Err(error) => Err(format!("{name} could not be installed: {error:#}")),
    }
}

/// Tries it again after each of the [`PAUSES`]; what the last attempt said counts.
fn repeatedly(attempt: impl Fn() -> Result<()>) -> Result<()> {
    for pause in PAUSES {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) => println!("{error:#}\nonce more in {} s", pause.as_secs()),
        }
        thread::sleep(pause);
    }
    attempt()
}

fn is_current(home: &Path, pins: &str) -> bool {
    fs::read_to_string(home.join("pins")).is_ok_and(|found| found == pins)
}

fn stamp(home: &Path, pins: &str) -> Result<()> {
    Ok(fs::write(home.join("pins"), pins)?)
}

/// Installs system packages where we are root on a Debian; says whether it did.
pub fn apt(place: &Workplace, packages: &[&str]) -> bool {
    let is_root =
        Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !is_root || !exists("apt-get") {
        return false;
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = place.command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments).args(packages);
        run_quietly(place, command, INSTALL_TIME).is_ok()
    };
    let mut update = place.command("apt-get");
    update.args(["update", "-q"]);
    apt_get(&["install", "-q", "-y", "--no-install-recommends"])
        || (run_quietly(place, update, INSTALL_TIME).is_ok()
            && apt_get(&["install", "-q", "-y", "--no-install-recommends"]))
}
