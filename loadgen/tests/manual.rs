//! The manual names what there is, and its command lines can be read.

use clap::{CommandFactory, Parser};
use fanwire_loadgen::args::Args;

fn manual() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/loadgen.md")).unwrap()
}

#[test]
fn every_scenario_is_in_the_manual() {
    let manual = manual();
    for command in Args::command().get_subcommands().filter(|command| command.get_name() != "compare") {
        assert!(manual.contains(&format!("| `{}` |", command.get_name())), "{}", command.get_name());
    }
}

#[test]
fn every_command_line_of_the_manual_can_be_read() {
    let mut count = 0;
    for line in manual().lines().map(|line| line.trim().trim_start_matches("$ ")) {
        let Some(rest) = line.strip_prefix("fanwire-loadgen ") else { continue };
        // Explained, not meant to be typed.
        if rest.starts_with("SCENARIO") {
            continue;
        }
        let words = rest.replace("$(pidof fanwire)", "1").replace(['\'', '…'], "");
        let arguments = std::iter::once("fanwire-loadgen").chain(words.split_whitespace());
        if let Err(error) = Args::try_parse_from(arguments) {
            panic!("{line}\n{error}");
        }
        count += 1;
    }
    assert!(count >= 9, "{count}");
}
