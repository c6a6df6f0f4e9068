//! What `docs/conformance.md` says: a table of features, and below it a table of cases for each of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::features::{FEATURES, Feature, Status};
use super::suites::{Case, Results, Verdict};

/// What a cell begins with where no client passes, and where one does.
const NO: &str = "no: ";
const PARTLY: &str = "not for all: ";
/// In the place of the names of cases.
const ALL: &str = "all";

/// The two columns.
#[derive(Default)]
pub struct Columns {
    /// Fanwire's.
    pub ours: Results,
    /// Crossbar's.
    pub theirs: Results,
}

/// The table of features.
pub fn features(columns: &Columns) -> String {
    let mut table =
        "| feature | announced as | Fanwire | Crossbar | shown by |\n|---|---|---|---|---|\n".to_owned();
    for feature in FEATURES {
        let announced = if feature.announced { format!("`{}`", feature.key) } else { String::new() };
        let count = cases_of(&columns.ours, feature).count();
        let link = if count == 0 {
            String::new()
        } else {
            format!("[{}](#{})", cases_in_words(count), anchor(feature.title))
        };
        let shown: Vec<_> = [link]
            .into_iter()
            .filter(|link| !link.is_empty())
            .chain(feature.tests.iter().map(test))
            .collect();
        let (ours, theirs) = (ours(columns, feature), share(&columns.theirs, feature));
        let title = feature.title;
        writeln!(table, "| {title} | {announced} | {ours} | {theirs} | {} |", shown.join(", "))
            .expect("a string");
    }
    table
}

/// A table of cases for each feature that has some.
pub fn cases(columns: &Columns) -> String {
    let mut text = String::new();
    for feature in FEATURES {
        let mut rows = cases_of(&columns.ours, feature).peekable();
        if rows.peek().is_none() {
            continue;
        }
        writeln!(text, "### {}\n\n| case | clients | Fanwire | Crossbar |\n|---|---|---|---|", feature.title)
            .expect("a string");
        for (case, verdict) in rows {
            let theirs = columns.theirs.get(case).map_or("not run".to_owned(), said);
            let clients = verdict.clients.join(", ");
            writeln!(text, "| {} | {clients} | {} | {theirs} |", case.name, said(verdict)).expect("a string");
        }
        text.push('\n');
    }
    text
}

/// The table of what clients have no words for: a row for those who have the same reason for the same cases.
pub fn cannot(columns: &Columns) -> String {
    let mut table = "| feature | cases | clients | why |\n|---|---|---|---|\n".to_owned();
    for feature in FEATURES {
        let mut cases = BTreeMap::<(&str, String), Vec<&str>>::new();
        for (case, verdict) in columns.ours.iter().filter(|(case, _)| case.feature == feature.key) {
            for (client, why) in &verdict.cannot {
                let name = if case.name.is_empty() { ALL } else { &case.name };
                cases.entry((client, cell(why))).or_default().push(name);
            }
        }
        let mut clients = BTreeMap::<(String, String), Vec<&str>>::new();
        for ((client, why), cases) in cases {
            clients.entry((cases.join(", "), why)).or_default().push(client);
        }
        for ((cases, why), clients) in clients {
            let (title, clients) = (feature.title, clients.join(", "));
            writeln!(table, "| {title} | {cases} | {clients} | {why} |").expect("a string");
        }
    }
    table
}

/// What a page says of each case.
pub fn verdicts(page: &str) -> Columns {
    let mut columns = Columns::default();
    let mut feature = None;
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            feature = FEATURES.iter().find(|feature| feature.title == title);
        }
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Some(feature), [name, clients, ours, theirs]) = (feature, &cells[..]) else { continue };
        if *name == "case" {
            continue;
        }
        if *name == "feature" {
            break;
        }
        let case = Case { feature: feature.key.to_owned(), name: (*name).to_owned() };
        let clients: Vec<_> = clients.split(", ").map(str::to_owned).collect();
        let verdict = |cell: &str| {
            let failure = cell.strip_prefix(NO).or_else(|| cell.strip_prefix(PARTLY)).map(str::to_owned);
            Verdict {
                clients: clients.clone(),
                cannot: BTreeMap::new(),
                passed: !cell.starts_with(NO),
                failure,
            }
        };
        columns.ours.insert(case.clone(), verdict(ours));
        if *theirs != "not run" {
            columns.theirs.insert(case, verdict(theirs));
        }
    }
    take_cannot(&mut columns.ours, page);
    columns
}

/// What a page says of what clients have no words for.
fn take_cannot(results: &mut Results, page: &str) {
    let rows = page.lines().skip_while(|line| !line.starts_with("| feature | cases |")).skip(2);
    for line in rows.take_while(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [title, cases, clients, why] = cells[..] else { continue };
        let Some(feature) = FEATURES.iter().find(|feature| feature.title == title) else { continue };
        for name in cases.split(", ") {
            let name = if name == ALL { "" } else { name }.to_owned();
            let verdict = results.entry(Case { feature: feature.key.to_owned(), name }).or_default();
            let whose = clients.split(", ").map(|client| (client.to_owned(), why.to_owned()));
            verdict.cannot.extend(whose);
        }
    }
}

fn cases_of<'a>(results: &'a Results, feature: &'a Feature) -> impl Iterator<Item = (&'a Case, &'a Verdict)> {
    // What no client can express was not tried.
    results.iter().filter(|(case, verdict)| case.feature == feature.key && !verdict.clients.is_empty())
}

fn ours(columns: &Columns, feature: &Feature) -> String {
    let mut failed = cases_of(&columns.ours, feature).filter(|(_, verdict)| verdict.is_failure());
    match (failed.next(), feature.status) {
        (Some((case, _)), _) => format!("**fails**: {}", case.name),
        (None, Status::Yes) => "yes".to_owned(),
        (None, Status::Partly(missing)) => format!("partly: {missing}"),
        (None, Status::No(why)) => format!("no: {why}"),
    }
}

/// How many cases of a feature pass.
fn share(results: &Results, feature: &Feature) -> String {
    let all = cases_of(results, feature).count();
    let count =
        |is: fn(&Verdict) -> bool| cases_of(results, feature).filter(|(_, verdict)| is(verdict)).count();
    let (passed, partly) = (count(|v| !v.is_failure()), count(|v| v.is_failure() && v.passed));
    let partly = if partly == 0 { String::new() } else { format!(", {partly} not for all clients") };
    match (all, passed) {
        (0, _) => "not tried".to_owned(),
        (all, passed) if all == passed => "all cases".to_owned(),
        (all, passed) => format!("{passed} of {}{partly}", cases_in_words(all)),
    }
}

/// A cell of a table: one line, not too long, without what ends a cell.
fn said(verdict: &Verdict) -> String {
    match &verdict.failure {
        None => "yes".to_owned(),
        Some(why) => {
            format!("{}{}", if verdict.passed { PARTLY } else { NO }, cell(why))
        }
    }
}

fn cell(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if matches!(c, '|' | '<' | '>' | '`' | '*') { ' ' } else { c }).collect();
    let words: Vec<_> = text.split_whitespace().collect();
    let mut short: String = words.join(" ").chars().take(160).collect();
    if short.len() < words.join(" ").len() {
        short.push('…');
    }
    short
}

/// `file.rs`, or a test of it, as a link.
fn test(named: &&str) -> String {
    let (path, name) = named.split_once("::").unwrap_or((named, ""));
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = if name.is_empty() { String::new() } else { format!(": {name}") };
    format!("[`{file}{name}`](../{path})")
}

fn cases_in_words(count: usize) -> String {
    if count == 1 { "1 case".to_owned() } else { format!("{count} cases") }
}

/// The address of a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let case = |name: &str| Case { feature: "calls".to_owned(), name: name.to_owned() };
        let verdict = |failure: Option<&str>| Verdict {
            clients: vec!["autobahn".to_owned(), "xconn".to_owned()],
            cannot: BTreeMap::new(),
            passed: failure.is_none_or(|why| why.contains("xconn")),
            failure: failure.map(str::to_owned),
        };
        let mut columns = Columns::default();
        for (name, failure) in
            [("one", None), ("other", Some("xconn: 1 is not 2")), ("third", Some("all of them"))]
        {
            columns.ours.insert(case(name), verdict(None));
            columns.theirs.insert(case(name), verdict(failure));
        }
        let cannot_say = |name: &str| (name.to_owned(), format!("{name} has no word for it"));
        columns.ours.get_mut(&case("other")).expect("it is there").cannot.extend([cannot_say("wampy")]);
        columns.ours.entry(case("")).or_default().cannot.extend([cannot_say("wamp_async")]);
        let page = |columns: &Columns| format!("{}\n{}", cases(columns), cannot(columns));
        let read = verdicts(&page(&columns));
        assert_eq!(read.ours, columns.ours);
        assert_eq!(read.theirs, columns.theirs);
        assert_eq!(page(&read), page(&columns));
    }

    #[test]
    fn a_failure_is_one_cell() {
        let failure = Some(format!("a |b\n`c` {}", "x".repeat(500)));
        let cell = said(&Verdict { failure, ..Verdict::default() });
        assert!(cell.starts_with("no: a b c x") && !cell.contains(['|', '\n', '`']), "{cell}");
        assert!(cell.chars().count() < 170, "{cell}");
    }

    #[test]
    fn each_feature_stands_there_once() {
        for (index, feature) in FEATURES.iter().enumerate() {
            let same = |other: &Feature| other.key == feature.key || other.title == feature.title;
            assert!(!FEATURES[..index].iter().any(same), "{}", feature.key);
        }
    }
}
