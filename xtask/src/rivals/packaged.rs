//! Rivals that a registry has: Debian packages, and packages of npm and PyPI.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::running::Launch;
use super::{Site, Tool};
use crate::run::{Workplace, exists, run_quietly};
use crate::tools::apt;

const INSTALL_TIME: Duration = Duration::from_secs(5 * 60);
/// The version of the package `ws` of npm.
const WS_VERSION: &str = "8.23.0";
/// The version of the package `faye` of npm.
const FAYE_VERSION: &str = "1.4.3";
/// The version of the package `crossbar` of PyPI; it needs Python 3.11 or later.
const CROSSBAR_VERSION: &str = "26.10.1";
const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// nginx with nchan.
pub fn nchan(place: &Workplace) -> Result<Tool> {
    let is_there = || exists_with("nginx", "-v") && fs::exists(NCHAN_MODULE).unwrap_or(false);
    if !is_there() {
        apt(place, &["nginx-light", "libnginx-mod-nchan"]);
    }
    ensure!(is_there(), "no nginx with {NCHAN_MODULE}: install Debian's nginx-light and libnginx-mod-nchan");
    let nginx = first_number(&said_by("nginx", "-v")?);
    let nchan = debian_version("libnginx-mod-nchan").unwrap_or_else(|| "?".to_owned());
    Ok(Tool { path: PathBuf::from("nginx"), version: format!("{nchan} (nginx {nginx})") })
}

/// One process, without a master.
pub fn launch_nchan(site: &Site<'_>) -> Result<Launch> {
    let text = site.with_port("nchan.conf")?.replace("worker_processes 1;", "master_process off;");
    // So that as many subscribers fit as anywhere else.
    let text = format!("worker_rlimit_nofile 100000;\n{text}");
    fs::write(site.home.join("nchan.conf"), text)?;
    let mut command = Command::new(site.tool);
    command.arg("-p").arg(site.home).args(["-c", "nchan.conf"]);
    Ok(Launch { command, path: "/", worker: None })
}

/// The package `ws`, in a folder of its own.
pub fn ws_node(place: &Workplace) -> Result<Tool> {
    npm(place, "ws", WS_VERSION)
}

/// A broadcast server as tutorials write it.
pub fn launch_ws_node(site: &Site<'_>) -> Result<Launch> {
    launch_node(site, "ws-node.mjs", "/")
}

/// The package `faye`, in a folder of its own.
pub fn faye(place: &Workplace) -> Result<Tool> {
    npm(place, "faye", FAYE_VERSION)
}

/// A Bayeux server as its documentation shows it.
pub fn launch_faye(site: &Site<'_>) -> Result<Launch> {
    launch_node(site, "faye.mjs", "/bayeux")
}

/// A package of npm for Node.
fn npm(place: &Workplace, package: &str, version: &str) -> Result<Tool> {
    if !(exists("node") && exists("npm")) {
        apt(place, &["nodejs", "npm"]);
    }
    ensure!(exists("node") && exists("npm"), "no node and npm here");
    let home = place.target.join("rivals").join(package);
    fs::create_dir_all(&home)?;
    let manifest = home.join("node_modules").join(package).join("package.json");
    let wanted = format!("\"version\": \"{version}\"");
    if !fs::read_to_string(&manifest).is_ok_and(|text| text.contains(&wanted)) {
        let mut command = place.command("npm");
        command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
        command.arg(format!("{package}@{version}")).arg("--prefix").arg(&home);
        run_quietly(place, command, INSTALL_TIME)?;
    }
    let node = said_by("node", "--version")?;
    Ok(Tool { path: PathBuf::from("node"), version: format!("{version} (Node.js {})", node.trim()) })
}

/// The server is copied beside the package, where Node looks for it.
fn launch_node(site: &Site<'_>, server: &str, path: &'static str) -> Result<Launch> {
    let program = site.home.join(server);
    fs::copy(site.targets.join(server), &program)?;
    let mut command = Command::new(site.tool);
    command.arg(program).arg(site.port.to_string());
    Ok(Launch { command, path, worker: None })
}

/// nats-server of Debian.
pub fn nats(place: &Workplace) -> Result<Tool> {
    debian(place, "nats-server", "nats-server", "--version")
}

/// It takes as many threads as there are CPUs for it: one.
pub fn launch_nats(site: &Site<'_>) -> Result<Launch> {
    let mut command = Command::new(site.tool);
    command.arg("-c").arg(site.write("nats.conf")?);
    Ok(Launch { command, path: "/", worker: None })
}

/// mosquitto of Debian.
pub fn mosquitto(place: &Workplace) -> Result<Tool> {
    // It is where only root looks for programs, and ends with 3 when it is asked for help.
    let mosquitto = "/usr/sbin/mosquitto";
    if !fs::exists(mosquitto)? {
        apt(place, &["mosquitto"]);
    }
    ensure!(fs::exists(mosquitto)?, "no {mosquitto}: install Debian's mosquitto");
    Ok(Tool { path: PathBuf::from(mosquitto), version: first_number(&said_by(mosquitto, "-h")?) })
}

/// With its WebSocket listener.
pub fn launch_mosquitto(site: &Site<'_>) -> Result<Launch> {
    let mut command = Command::new(site.tool);
    command.arg("-c").arg(site.write("mosquitto.conf")?);
    Ok(Launch { command, path: "/mqtt", worker: None })
}

/// Redis of Debian.
pub fn redis(place: &Workplace) -> Result<Tool> {
    debian(place, "redis-server", "redis-server", "--version")
}

/// Without persistence.
pub fn launch_redis(site: &Site<'_>) -> Result<Launch> {
    let mut command = Command::new(site.tool);
    command.arg(site.write("redis.conf")?);
    Ok(Launch { command, path: "", worker: None })
}

/// Crossbar in a Python environment of its own.
pub fn crossbar(place: &Workplace) -> Result<Tool> {
    let home = place.target.join("rivals/crossbar");
    let (python, stamp) = (home.join("venv/bin/python"), home.join("version"));
    if !fs::read_to_string(&stamp).is_ok_and(|version| version == CROSSBAR_VERSION) {
        if !exists("python3") {
            apt(place, &["python3", "python3-venv"]);
        }
        let mut venv = place.command("python3");
        venv.args(["-m", "venv", "--clear"]).arg(home.join("venv"));
        run_quietly(place, venv, INSTALL_TIME)?;
        let mut pip = place.command(&python);
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]);
        pip.arg(format!("crossbar=={CROSSBAR_VERSION}"));
        run_quietly(place, pip, INSTALL_TIME)?;
        fs::write(stamp, CROSSBAR_VERSION)?;
    }
    let python = said_by(&python.display().to_string(), "--version")?;
    let version = format!("{CROSSBAR_VERSION} (Python {})", first_number(&python));
    Ok(Tool { path: home.join("venv/bin/crossbar"), version })
}

/// The router is a process below the one that is started.
pub fn launch_crossbar(site: &Site<'_>) -> Result<Launch> {
    let node = site.home.join("node");
    fs::create_dir_all(&node)?;
    fs::write(node.join("config.json"), site.with_port("crossbar.json")?)?;
    let mut command = Command::new(site.tool);
    command.args(["start", "--cbdir"]).arg(node);
    Ok(Launch { command, path: "/ws", worker: Some("crossbar-worker") })
}

/// A program of a Debian package.
fn debian(place: &Workplace, package: &str, program: &str, argument: &str) -> Result<Tool> {
    if !exists_with(program, argument) {
        apt(place, &[package]);
    }
    ensure!(exists_with(program, argument), "no {program}: install Debian's {package}");
    Ok(Tool { path: PathBuf::from(program), version: first_number(&said_by(program, argument)?) })
}

/// What a program says about its version, on whichever of its outputs.
fn said_by(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output().with_context(|| format!("no {program}"))?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn exists_with(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

/// `1.22.1` in `nginx version: nginx/1.22.1`.
fn first_number(text: &str) -> String {
    let from = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    text[from..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

fn debian_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    // Without the epoch, and without Debian's own part.
    let version = version.split_once(':').map_or(&*version, |(_, version)| version);
    Some(version.split(['-', '+']).next()?.to_owned()).filter(|version| !version.is_empty())
}
