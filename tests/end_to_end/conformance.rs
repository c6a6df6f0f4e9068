//! `docs/conformance.md` is written by `cargo xtask conformance`; here is seen that it still says what the tests are, and
//! that all that WELCOME announces stands there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Client, Router};

const PAGE: &str = include_str!("../../docs/conformance.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of tables whose heading begins with this word, as cells.
fn rows(first: &str) -> Vec<Vec<&'static str>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in PAGE.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            inside &= line.starts_with("|---");
            continue;
        };
        if inside {
            found.push(row.trim_end_matches(" |").split(" | ").map(str::trim).collect());
        }
        inside |= row.starts_with(first);
    }
    found
}

/// The cases that are in the suites: `@case("feature")` above `async def name`, `feature: {` around `async name(client)`,
/// and `("feature", "name", …`.
fn cases() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut take = |file: &Path, name: &dyn Fn(&str, &str) -> Option<String>| {
        let text = fs::read_to_string(file).expect("a source");
        let lines: Vec<&str> = text.lines().collect();
        names.extend(lines.windows(2).filter_map(|pair| name(pair[0], pair[1])));
    };
    let until = |text: &str, end: char| text.split(end).next().unwrap_or_default().to_owned();
    for file in files("tests/clients/suite", "py") {
        take(&file, &|above, line| {
            let function = line.strip_prefix("async def ")?;
            above.starts_with("@case(").then(|| until(function, '('))
        });
    }
    for file in files("tests/clients/javascript", "mjs") {
        take(&file, &|_, line| line.strip_prefix("    async ").map(|function| until(function, '(')));
    }
    for file in files("tests/clients/wamp_async/src", "rs") {
        take(&file, &|_, line| {
            let rest = line.strip_prefix("    (\"")?;
            rest.split("\", \"").nth(1).map(|name| until(name, '"'))
        });
    }
    names
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect()
}

#[test]
fn the_page_has_each_case_of_the_suites_and_no_other() {
    let listed: BTreeSet<String> = rows("case ").iter().map(|row| row[0].to_owned()).collect();
    let cases = cases();
    assert!(cases.len() > 40, "{} cases: the sources are read wrongly", cases.len());
    let missing: Vec<_> = cases.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&cases).collect();
    let remedy = "run `cargo xtask conformance --router fanwire`";
    assert!(missing.is_empty() && gone.is_empty(), "missing: {missing:?}, gone: {gone:?}; {remedy}");
}

#[test]
fn each_client_judges_each_feature_or_says_why_not() {
    let title = |section: &'static str| section.lines().next().expect("a heading").trim();
    let sections = PAGE.split("\n### ").skip(1).map(|section| (title(section), section));
    let mut cannot = BTreeSet::new();
    for row in rows("feature | cases") {
        cannot.extend(row[2].split(", ").map(|client| (row[0], client)));
    }
    let clients: BTreeSet<_> = rows("case ").iter().flat_map(|row| row[1].split(", ")).collect();
    assert_eq!(clients.len(), 7, "{clients:?}");
    for (feature, section) in sections {
        for client in &clients {
            let judges = section.lines().any(|line| {
                line.split(" | ").nth(1).is_some_and(|cell| cell.split(", ").any(|name| name == *client))
            });
            assert!(judges || cannot.contains(&(feature, *client)), "{client} says nothing of {feature}");
        }
    }
}

#[test]
fn no_case_fails_against_fanwire() {
    for row in rows("case ") {
        assert_eq!(row[2], "yes", "{row:?}");
    }
    for row in rows("feature | announced") {
        assert!(!row[2].contains("fails"), "{row:?}");
    }
}

#[test]
fn each_test_that_the_page_names_is_there() {
    let mut named = 0;
    for row in rows("feature | announced") {
        let [feature, _, ours, _, shown] = row[..] else { panic!("{row:?}") };
        // A link is `[text](../path)`, its text `file.rs` or `file.rs: name of a test`.
        for link in shown.split("](../").collect::<Vec<_>>().windows(2) {
            let path = link[1].split(')').next().expect("it was split there");
            let text =
                fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let test = link[0].rsplit('`').nth(1).and_then(|words| words.split(": ").nth(1));
            // Of files that have much else, which one it is must be said.
            let is_mixed = ["router-core/tests/wamp2/", "tests/end_to_end/"]
                .iter()
                .any(|folder| path.starts_with(folder));
            let is_whole = ["bad_input.rs", "suites.rs"].iter().any(|file| path.ends_with(file));
            assert!(!is_mixed || is_whole || test.is_some(), "{feature}: which test of {path}?");
            if let Some(test) = test {
                assert!(text.contains(&format!("fn {test}(")), "{feature}: no test {test} in {path}");
            }
            named += 1;
        }
        let is_shown = shown.contains("](");
        assert!(is_shown || ours.starts_with("no"), "{feature} is said to work, and nothing shows it");
    }
    assert!(named > 20, "{named} tests: the page is read wrongly");
}

#[test]
fn what_welcome_announces_stands_there() {
    let router = Router::on("epoll");
    let mut client = Client::connect(router.wamp);
    client.send(json!([1, "realm1", {"roles": {"caller": {}}}]));
    let welcome = client.expect();
    let mut announced = BTreeSet::new();
    for role in ["broker", "dealer"] {
        let features = welcome[2]["roles"][role]["features"].as_object().expect("features");
        announced.extend(features.keys().cloned());
    }
    assert!(announced.contains("call_canceling"), "{announced:?}");
    let rows = rows("feature | announced");
    let listed: BTreeSet<&str> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    for feature in &announced {
        assert!(listed.contains(feature.as_str()), "{feature} is announced, and has no row");
    }
    for row in rows {
        let name = row[1].trim_matches('`');
        let works = row[2].starts_with("yes") || row[2].starts_with("partly");
        assert!(name.is_empty() || !works || announced.contains(name), "{name} works, and is not announced");
    }
}
