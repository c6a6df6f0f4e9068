//! The servers of `bench/rivals`, a package that is built for this only.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::running::Launch;
use super::{Site, Tool};
use crate::run::{Workplace, run_quietly};
use crate::tools::apt;

/// The first build compiles uWebSockets.
const BUILD_TIME: Duration = Duration::from_secs(8 * 60);

/// What uWebSockets is built with and linked to, as Debian calls it.
const UWS_PACKAGES: &[&str] = &["g++", "make", "libclang-dev", "libuv1-dev", "zlib1g-dev", "libssl-dev"];

/// uWebSockets through its crate.
pub fn uws(place: &Workplace) -> Result<Tool> {
    let build = || build(place, "uws-broadcast", &["--features", "uws"], "uwebsockets_rs");
    build()
        .or_else(|error| if apt(place, UWS_PACKAGES) { build() } else { Err(error) })
        .with_context(|| format!("it needs {} of Debian, or their like", UWS_PACKAGES.join(", ")))
}

/// The loop of plain sends.
pub fn floor(place: &Workplace) -> Result<Tool> {
    build(place, "send-floor", &[], "fanwire-rivals")
}

/// fastwebsockets on tokio.
pub fn tokio(place: &Workplace) -> Result<Tool> {
    build(place, "tokio-broadcast", &[], "fastwebsockets")
}

/// Builds one of the programs; its version is that of the crate it is about.
fn build(place: &Workplace, program: &str, features: &[&str], package: &str) -> Result<Tool> {
    let folder = place.root.join("bench/rivals");
    let target = place.target.join("rivals/build");
    let mut command = place.cargo(["build", "--release", "--locked", "--quiet", "--bin", program]);
    command.args(features).current_dir(&folder).env("CARGO_TARGET_DIR", &target).env_remove("RUSTFLAGS");
    run_quietly(place, command, BUILD_TIME)?;
    let version = locked_version(&folder, package).unwrap_or_else(|| "unknown".to_owned());
    Ok(Tool { path: target.join("release").join(program), version })
}

/// The version of `package` in the folder's Cargo.lock.
fn locked_version(folder: &Path, package: &str) -> Option<String> {
    let lock = std::fs::read_to_string(folder.join("Cargo.lock")).ok()?;
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")))?;
    entry.lines().find_map(|line| Some(line.strip_prefix("version = \"")?.trim_end_matches('"').to_owned()))
}

/// All of them take the port.
pub fn launch(site: &Site<'_>) -> Result<Launch> {
    let mut command = Command::new(site.tool);
    command.arg(site.port.to_string());
    Ok(Launch { command, path: "/", worker: None })
}

/// The floor for sixteen messages in flight.
pub fn launch_coalescing(site: &Site<'_>) -> Result<Launch> {
    let mut launch = launch(site)?;
    launch.command.args(["--coalesce", "16"]);
    Ok(launch)
}
