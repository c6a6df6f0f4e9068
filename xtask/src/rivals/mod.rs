//! The servers that Fanwire is measured against: how each is installed, configured, started on one CPU, and driven.
//!
//! ```text
//! find("uws") ─▶ install ─▶ Installed { version } ─▶ start(cpu) ─▶ Running { pid, url, target }
//! ```
//!
//! Where a registry lets us, versions are pinned. What is installed and written lies in `target/rivals`; packages of the
//! system are installed by root only. A rival that cannot be had here says why, and the others go on.

mod own;
mod packaged;
mod running;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::Workplace;

pub use running::Running;
use running::{Launch, free_port};

/// A server to be measured beside Fanwire.
pub struct Rival {
    /// As the command line calls it.
    pub name: &'static str,
    /// As people call it, with the settings that a reader has to know.
    pub title: &'static str,
    /// How the load generator speaks to it: a file of `loadgen/targets`, or `None` where it speaks WAMP.
    target: Option<&'static str>,
    install: fn(&Workplace) -> Result<Tool>,
    launch: fn(&Site<'_>) -> Result<Launch>,
}

/// What an installation gave.
pub struct Tool {
    /// The program, or the folder that it needs.
    pub path: PathBuf,
    /// As it says itself.
    pub version: String,
}

/// A rival that can be started.
pub struct Installed {
    rival: &'static Rival,
    tool: Tool,
    targets: PathBuf,
    home: PathBuf,
}

/// Where one start of a rival may put what it needs.
struct Site<'a> {
    tool: &'a Path,
    /// The repository's `loadgen/targets`.
    targets: &'a Path,
    /// A folder of its own.
    home: &'a Path,
    /// A port that nobody listens at.
    port: u16,
}

/// All of them, the strongest first.
pub const RIVALS: &[Rival] = &[
    Rival {
        name: "uws",
        title: "uWebSockets (crate uwebsockets_rs, topics and publish, no compression)",
        target: Some("plain.toml"),
        install: own::uws,
        launch: own::launch,
    },
    Rival {
        name: "floor",
        title: "the send floor: one send of a prepared buffer per subscriber and message",
        target: Some("plain.toml"),
        install: own::floor,
        launch: own::launch,
    },
    Rival {
        name: "floor16",
        title: "the send floor, up to 16 messages in a send",
        target: Some("plain.toml"),
        install: own::floor,
        launch: own::launch_coalescing,
    },
    Rival {
        name: "tokio",
        title: "fastwebsockets on tokio, one thread, a queue and a writer per connection",
        target: Some("plain.toml"),
        install: own::tokio,
        launch: own::launch,
    },
    Rival {
        name: "nchan",
        title: "nchan (nginx, one process, no message store, publishers by HTTP)",
        target: Some("nchan.toml"),
        install: packaged::nchan,
        launch: packaged::launch_nchan,
    },
    Rival {
        name: "ws",
        title: "ws on Node.js (a loop over all clients)",
        target: Some("ws-node.toml"),
        install: packaged::ws_node,
        launch: packaged::launch_ws_node,
    },
];

/// The rival of this name.
pub fn find(name: &str) -> Result<&'static Rival> {
    let names = || RIVALS.iter().map(|rival| rival.name).collect::<Vec<_>>().join(", ");
    RIVALS
        .iter()
        .find(|rival| rival.name == name)
        .with_context(|| format!("no rival `{name}`; there are {}", names()))
}

impl Rival {
    /// Installs it unless it is there already; the error says why it cannot be had on this machine.
    pub fn install(&'static self, place: &Workplace) -> Result<Installed> {
        let tool = (self.install)(place).with_context(|| format!("{} cannot be had here", self.name))?;
        let home = place.target.join("rivals").join(self.name);
        fs::create_dir_all(&home)?;
        Ok(Installed { rival: self, tool, targets: place.root.join("loadgen/targets"), home })
    }
}

impl Installed {
    /// As the server says it itself.
    pub fn version(&self) -> &str {
        &self.tool.version
    }

    /// Starts it pinned to `cpu`, on a free port, and waits until it accepts connections. It ends when dropped.
    pub fn start(&self, cpu: usize) -> Result<Running> {
        let site =
            Site { tool: &self.tool.path, targets: &self.targets, home: &self.home, port: free_port()? };
        let launch = (self.rival.launch)(&site)?;
        let target = match self.rival.target {
            Some(file) => Some(write_target(&site, file)?),
            None => None,
        };
        Running::begin(launch, target, site.port, cpu, &self.home)
            .with_context(|| format!("{} did not start", self.rival.name))
    }
}

/// The load generator's file with the port of this start in it: a publisher by HTTP has its address there.
fn write_target(site: &Site<'_>, file: &str) -> Result<PathBuf> {
    let template = site.targets.join(file);
    let text =
        fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
    let written = site.home.join(file);
    fs::write(&written, with_port(&text, site.port))?;
    Ok(written)
}

/// Replaces the port behind each `127.0.0.1:`.
fn with_port(text: &str, port: u16) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        written.push_str(&format!("127.0.0.1:{port}"));
        written.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    written
}

/// Options of `cargo xtask rivals`.
#[derive(clap::Args)]
pub struct Options {
    /// Starts this one and keeps it until the standard input ends.
    #[arg(long, value_name = "NAME")]
    start: Option<String>,
    /// The CPU it is pinned to.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// Installs all rivals and says what there is, or starts one by hand.
pub fn rivals(place: &Workplace, options: &Options) -> Result<()> {
    if let Some(name) = &options.start {
        let installed = find(name)?.install(place)?;
        let running = installed.start(options.cpu)?;
        let target = running.target.as_ref().map(|file| format!(" --target {}", file.display()));
        println!("{name} {}, pid {}, on CPU {}", installed.version(), running.pid, options.cpu);
        println!(
            "drive it with: --url {}{} --server-pid {}",
            running.url,
            target.unwrap_or_default(),
            running.pid
        );
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        return Ok(());
    }
    for rival in RIVALS {
        match rival.install(place) {
            Ok(installed) => {
                println!("{:10} {:12} {}", rival.name, installed.version(), rival.title);
            }
            Err(error) => println!("{:10} {:12} {error:#}", rival.name, "missing"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn every_address_gets_the_port() {
        let text = "url = 'ws://127.0.0.1:9002/sub/{topic}'\npost = 'http://127.0.0.1:9/pub'";
        let wanted = "url = 'ws://127.0.0.1:77/sub/{topic}'\npost = 'http://127.0.0.1:77/pub'";
        assert_eq!(with_port(text, 77), wanted);
    }
}
