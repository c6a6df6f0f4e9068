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
    /// The port that the files in `loadgen/targets` have, and that no other word in them is.
    port: u16,
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
    /// The port that the files in `targets` have, and one that nobody listens at.
    default_port: u16,
    port: u16,
}

/// All of them, the strongest first.
pub const RIVALS: &[Rival] = &[
    Rival {
        name: "uws",
        title: "uWebSockets (crate uwebsockets_rs, topics and publish, no compression)",
        target: Some("plain.toml"),
        port: 9010,
        install: own::uws,
        launch: own::launch,
    },
    Rival {
        name: "floor",
        title: "the send floor: one send of a prepared buffer per subscriber and message",
        target: Some("plain.toml"),
        port: 9010,
        install: own::floor,
        launch: own::launch,
    },
    Rival {
        name: "floor16",
        title: "the send floor, up to 16 messages in a send",
        target: Some("plain.toml"),
        port: 9010,
        install: own::floor,
        launch: own::launch_coalescing,
    },
    Rival {
        name: "tokio",
        title: "fastwebsockets on tokio, one thread, a queue and a writer per connection",
        target: Some("plain.toml"),
        port: 9010,
        install: own::tokio,
        launch: own::launch,
    },
    Rival {
        name: "nchan",
        title: "nchan (nginx, one process, no message store, publishers by HTTP)",
        target: Some("nchan.toml"),
        port: 9002,
        install: packaged::nchan,
        launch: packaged::launch_nchan,
    },
    Rival {
        name: "ws",
        title: "ws on Node.js (a loop over all clients)",
        target: Some("ws-node.toml"),
        port: 9001,
        install: packaged::ws_node,
        launch: packaged::launch_ws_node,
    },
    Rival {
        name: "nats",
        title: "nats-server over WebSocket (no compression, no accounts)",
        target: Some("nats.toml"),
        port: 9020,
        install: packaged::nats,
        launch: packaged::launch_nats,
    },
    Rival {
        name: "crossbar",
        title: "Crossbar.io, one router worker on CPython",
        target: None,
        port: 9050,
        install: packaged::crossbar,
        launch: packaged::launch_crossbar,
    },
    Rival {
        name: "faye",
        title: "Faye on Node.js (Bayeux)",
        target: Some("faye.toml"),
        port: 9060,
        install: packaged::faye,
        launch: packaged::launch_faye,
    },
    Rival {
        name: "redis",
        title: "Redis Pub/Sub over TCP, without WebSocket",
        target: Some("redis.toml"),
        port: 9040,
        install: packaged::redis,
        launch: packaged::launch_redis,
    },
    Rival {
        name: "mosquitto",
        title: "mosquitto over WebSocket, QoS 0",
        target: Some("mosquitto.toml"),
        port: 9030,
        install: packaged::mosquitto,
        launch: packaged::launch_mosquitto,
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

    /// With configurations of another folder than `loadgen/targets`; the port in them is the same.
    pub fn with_files(self, folder: PathBuf) -> Self {
        Self { targets: folder, ..self }
    }

    /// Starts it pinned to `cpu`, on a free port, and waits until it accepts connections. It ends when dropped.
    pub fn start(&self, cpu: usize) -> Result<Running> {
        let site = Site {
            tool: &self.tool.path,
            targets: &self.targets,
            home: &self.home,
            default_port: self.rival.port,
            port: free_port()?,
        };
        let launch = (self.rival.launch)(&site)?;
        let target = match self.rival.target {
            Some(file) => Some(site.write(file)?),
            None => None,
        };
        Running::begin(launch, target, site.port, cpu, &self.home)
            .with_context(|| format!("{} did not start", self.rival.name))
    }
}

impl Site<'_> {
    /// A file of `loadgen/targets` with the port of this start in it.
    fn with_port(&self, file: &str) -> Result<String> {
        let path = self.targets.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.replace(&self.default_port.to_string(), &self.port.to_string()))
    }

    /// The same, written into the folder of this rival.
    fn write(&self, file: &str) -> Result<PathBuf> {
        let written = self.home.join(file);
        fs::write(&written, self.with_port(file)?)?;
        Ok(written)
    }
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
    use super::RIVALS;

    #[test]
    fn every_file_of_a_rival_has_the_port_that_is_replaced() {
        let targets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadgen/targets");
        for rival in RIVALS {
            let Some(file) = rival.target else { continue };
            let text = std::fs::read_to_string(targets.join(file)).unwrap();
            assert!(text.contains(&format!("127.0.0.1:{}", rival.port)), "{file}");
        }
        let port = |name| RIVALS.iter().find(|rival| rival.name == name).unwrap().port.to_string();
        for (name, file) in
            [("redis", "redis.conf"), ("mosquitto", "mosquitto.conf"), ("crossbar", "crossbar.json")]
        {
            assert!(std::fs::read_to_string(targets.join(file)).unwrap().contains(&port(name)), "{file}");
        }
        let routers = targets.join("../../tests/clients/routers/crossbar.json");
        assert!(std::fs::read_to_string(routers).unwrap().contains(&port("crossbar")));
    }
}
