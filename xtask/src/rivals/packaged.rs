//! Rivals that a registry has: Debian packages, and packages of npm.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::running::Launch;
use super::{Site, Tool, with_port};
use crate::run::{Workplace, exists, run_quietly};
use crate::tools::apt;

const INSTALL_TIME: Duration = Duration::from_secs(5 * 60);
/// The version of the package `ws` of npm.
const WS_VERSION: &str = "8.23.0";
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
    let text = fs::read_to_string(site.targets.join("nchan.conf"))?;
    let text = with_port(&text, site.port).replace("worker_processes 1;", "master_process off;");
    // So that as many subscribers fit as anywhere else.
    let text = format!("worker_rlimit_nofile 100000;\n{text}");
    fs::write(site.home.join("nchan.conf"), text)?;
    let mut command = Command::new(site.tool);
    command.arg("-p").arg(site.home).args(["-c", "nchan.conf"]);
    Ok(Launch { command, path: "/", worker: None })
}

/// The package `ws`, in a folder of its own.
pub fn ws_node(place: &Workplace) -> Result<Tool> {
    if !(exists("node") && exists("npm")) {
        apt(place, &["nodejs", "npm"]);
    }
    ensure!(exists("node") && exists("npm"), "no node and npm here");
    let home = place.target.join("rivals/ws");
    fs::create_dir_all(&home)?;
    let manifest = home.join("node_modules/ws/package.json");
    let wanted = format!("\"version\": \"{WS_VERSION}\"");
    if !fs::read_to_string(&manifest).is_ok_and(|text| text.contains(&wanted)) {
        let mut command = place.command("npm");
        command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
        command.arg(format!("ws@{WS_VERSION}")).arg("--prefix").arg(&home);
        run_quietly(place, command, INSTALL_TIME)?;
    }
    let node = said_by("node", "--version")?;
    Ok(Tool { path: PathBuf::from("node"), version: format!("{WS_VERSION} (Node.js {})", node.trim()) })
}

/// The server is copied beside the package, where Node looks for it.
pub fn launch_ws_node(site: &Site<'_>) -> Result<Launch> {
    let program = site.home.join("ws-node.mjs");
    fs::copy(site.targets.join("ws-node.mjs"), &program)?;
    let mut command = Command::new(site.tool);
    command.arg(program).arg(site.port.to_string());
    Ok(Launch { command, path: "/", worker: None })
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
