//! Checks what is in `deploy/` with the tools that it is for: promtool, systemd-analyze, and a run as the container does it.
//!
//! That the metrics in it exist is a process test (`tests/end_to_end/service.rs`), because it needs a router that runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{Outcome, Workplace, exists, run};
use crate::stages::{MINUTE, ensure_built};
use crate::tools;

/// The stage.
pub fn deploy(place: &Workplace) -> Result<Outcome> {
    ensure_built(place)?;
    Ok(rules(place)?.and(unit(place)?).and(container(place)?))
}

/// The alert rules are right and do what their tests say; the dashboard's queries are PromQL.
fn rules(place: &Workplace) -> Result<Outcome> {
    let promtool = match tools::promtool(place) {
        Ok(promtool) => promtool,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let queries = place.target.join("dashboard-queries.yml");
    fs::write(&queries, as_rules(&place.root.join("deploy/grafana/fanwire.json"))?)?;
    let promtool = |words: &[&str], file: &Path| {
        let mut command = place.command(&promtool);
        command.args(words).arg(file);
        run(place, command, MINUTE)
    };
    let folder = place.root.join("deploy/prometheus");
    Ok(promtool(&["check", "rules"], &folder.join("alerts.yml"))?
        .and(promtool(&["test", "rules"], &folder.join("alerts.test.yml"))?)
        .and(promtool(&["check", "rules"], &queries)?))
}

/// The dashboard's queries as recording rules, which promtool can read, with values for Grafana's variables.
fn as_rules(dashboard: &Path) -> Result<String> {
    let text =
        fs::read_to_string(dashboard).with_context(|| format!("cannot read {}", dashboard.display()))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("a dashboard has panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, target) in targets.enumerate() {
        let query = target["expr"].as_str().context("a target has a query")?;
        let query = query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*");
        // A JSON string is a YAML string too.
        rules += &format!("      - {{record: query_{number}, expr: {}}}\n", Value::String(query));
    }
    Ok(rules)
}

/// systemd finds nothing wrong with the unit, and not much that it could still be kept from.
fn unit(place: &Workplace) -> Result<Outcome> {
    if !exists("systemd-analyze") {
        println!("no systemd-analyze here: deploy/systemd/fanwire.service is not checked");
        return Ok(Outcome::nothing());
    }
    let unit = fs::read_to_string(place.root.join("deploy/systemd/fanwire.service"))?;
    let installed = place.target.join("fanwire.service");
    // It asks whether the program is there.
    fs::write(
        &installed,
        unit.replace("/usr/bin/fanwire", &place.released("fanwire").display().to_string()),
    )?;
    let analyze = |words: &[&str]| {
        let mut command = place.command("systemd-analyze");
        command.args(words).arg(&installed);
        run(place, command, MINUTE)
    };
    // The threshold is in tenths: 2.5 of 10, which is OK in its words.
    Ok(analyze(&["verify"])?.and(analyze(&["security", "--offline=yes", "--threshold=25"])?))
}

/// The recipe's file system works, with its user and its health check.
fn container(place: &Workplace) -> Result<Outcome> {
    let mut command = place.command("deploy/container/try.sh");
    command.arg(place.released("fanwire"));
    match run(place, command, 3 * MINUTE)? {
        // Neither root nor Docker: nothing that a pipeline could mend.
        Outcome::Skipped(why) => {
            println!("not tried: {why}");
            Ok(Outcome::nothing())
        }
        ran => Ok(ran),
    }
}
