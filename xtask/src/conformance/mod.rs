//! `cargo xtask conformance`: the suites of cases against Fanwire and against Crossbar, written into `docs/conformance.md`.
//!
//! ```text
//! suites.rs: clients ─▶ a line of JSON per case ─▶ Results ─┐
//! features.rs: what the specification has ──────────────────┴─▶ page.rs ─▶ docs/conformance.md
//! ```
//!
//! What the page says is checked by `tests/end_to_end/conformance.rs`, without running anything.

mod features;
mod page;
mod suites;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::Workplace;
use crate::stages::{Server, ensure_built};
use crate::{rivals, tables};
use suites::Results;

/// Options of `cargo xtask conformance`.
#[derive(clap::Args)]
pub struct Options {
    /// Only this router; what the page says of the other one stays.
    #[arg(long, value_enum)]
    router: Option<Router>,
    /// Only the cases of these features; what the page says of others stays.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    feature: Vec<String>,
    /// Seconds for each case. What hangs is a failure.
    #[arg(long, default_value_t = 10)]
    patience: u32,
    /// Fanwire's program, instead of a release build made now.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Whose behaviour is judged.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Router {
    /// Ours.
    Fanwire,
    /// The pinned release of PyPI.
    Crossbar,
}

/// Runs the suites and writes the page.
pub fn conformance(place: &Workplace, options: &Options) -> Result<()> {
    let path = place.root.join("docs/conformance.md");
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let clients = suites::install(place)?;
    let wanted = |router| options.router.is_none_or(|only| only == router);
    let mut before = page::verdicts(&old);
    let known = features::FEATURES.iter().map(|feature| feature.key).collect::<Vec<_>>();
    for name in &options.feature {
        anyhow::ensure!(
            known.contains(&name.as_str()),
            "no feature `{name}`; there are {}",
            known.join(", ")
        );
    }
    // What is run takes the place of what the page says.
    let stays = |case: &suites::Case, _: &mut suites::Verdict| {
        !options.feature.is_empty() && !options.feature.contains(&case.feature)
    };
    let mut asked = vec!["--patience".to_owned(), options.patience.to_string()];
    if !options.feature.is_empty() {
        asked.extend(["--feature".to_owned(), options.feature.join(",")]);
    }
    if wanted(Router::Fanwire) {
        let program = program(place, options)?;
        let start = || {
            let server = start(place, &program)?;
            let url = server.url.clone();
            Ok((server, url))
        };
        before.ours.retain(stays);
        before.ours.extend(suites::run(place, &clients, start, &asked)?);
    }
    if wanted(Router::Crossbar) {
        let installed = rivals::find("crossbar")?.install(place)?.with_files(place.root.join(ROUTERS));
        println!("Crossbar {}", installed.version());
        let start = || {
            let running = installed.start(0)?;
            let url = running.url.clone();
            Ok((running, url))
        };
        before.theirs.retain(stays);
        before.theirs.extend(suites::run(place, &clients, start, &asked)?);
    }
    let results = before;
    let page = tables::replace(&old, "features", &page::features(&results))?;
    let page = tables::replace(&page, "cases", &page::cases(&results))?;
    let page = tables::replace(&page, "cannot", &page::cannot(&results))?;
    fs::write(&path, page)?;
    println!("wrote {}", path.display());
    summarise(&results.ours)
}

/// Configurations of the routers, for these suites.
const ROUTERS: &str = "tests/clients/routers";

fn program(place: &Workplace, options: &Options) -> Result<PathBuf> {
    if let Some(binary) = &options.binary {
        return Ok(binary.clone());
    }
    ensure_built(place)?;
    Ok(place.released("fanwire"))
}

fn start(place: &Workplace, program: &Path) -> Result<Server> {
    let config = place.root.join(ROUTERS).join("fanwire.toml").display().to_string();
    let mut arguments = vec!["--config", &config, "--port", "0", "--admin", "none", "--shards", "2"];
    // wamp_async takes any other answer for a refusal.
    arguments.extend(["--set", "limits.message=16MiB"]);
    Server::start_program(place, program, &arguments)
}

/// Cases that fail here are told once more: the page is written all the same.
fn summarise(ours: &Results) -> Result<()> {
    let failed: Vec<_> = ours.iter().filter(|(_, verdict)| verdict.is_failure()).collect();
    for (case, verdict) in &failed {
        println!("FAILED {}: {}", case.name, verdict.words());
    }
    anyhow::ensure!(failed.is_empty(), "{} cases fail against Fanwire", failed.len());
    Ok(())
}
