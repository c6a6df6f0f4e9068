//! `docs/checks.md` says which tests show what; here is seen that these tests are there.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/checks.md");

/// The ids of the page, and whether it says that a test shows them.
fn listed() -> Vec<(&'static str, bool)> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| S"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (cells[0], cells[2].starts_with("yes"))
    })
    .collect()
}

/// The ids in the names of tests: `s1_05_…` is 1-05.
fn tested() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end")];
    while let Some(path) = paths.pop() {
        if let Ok(entries) = std::fs::read_dir(&path) {
            paths.extend(entries.map(|entry| entry.expect("readable").path()));
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("a source");
        for name in text.split("fn s").skip(1) {
            let id = name.get(..4).unwrap_or_default().replace('_', "-");
            if id.starts_with("1-") || id.starts_with("2-") {
                found.insert(id);
            }
        }
    }
    found
}

#[test]
fn each_check_has_its_test_or_says_that_it_has_none() {
    let listed = listed();
    let all: Vec<String> = [1, 2]
        .into_iter()
        .flat_map(|article| (1..=19).map(move |number| format!("{article}-{number:02}")))
        .collect();
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), all, "each check stands there once");
    let tested = tested();
    for (id, shown) in listed {
        assert_eq!(shown, tested.contains(id), "S{id}: the page and the tests disagree");
    }
}
