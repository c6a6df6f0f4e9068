//! The Markdown table of the results.

use super::line::{Bound, Line, Unit, Verdict};
use super::results::Results;
use crate::measure::statistics::Summary;

/// Where and what was measured, a table of all lines, and what was not as it has to be.
pub fn markdown(results: &Results) -> String {
    let mut origins: Vec<&str> = Vec::new();
    for line in &results.lines {
        if !origins.contains(&line.origin.as_str()) {
            origins.push(&line.origin);
        }
    }
    let mut page = String::new();
    let several = origins.len() > 1;
    for (number, origin) in origins.iter().enumerate() {
        let mark = if several { format!("({}) ", number + 1) } else { String::new() };
        page.push_str(&format!("{mark}{origin}\n\n"));
    }
    if !results.versions.is_empty() {
        let versions: Vec<String> =
            results.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        page.push_str(&format!("Rivals: {}.\n\n", versions.join(", ")));
    }
    let runs = results.all_runs();
    page.push_str(&format!(
        "{} of {} runs of Fanwire were exact: every message once, in order and undamaged, no connection closed.\n\n",
        runs.exact, runs.total
    ));
    page.push_str("| what | driver | Fanwire | beside | ratio | spread | must | aim | met |\n");
    page.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for line in &results.lines {
        let mark = origins.iter().position(|origin| *origin == line.origin).filter(|_| several);
        page.push_str(&row(line, mark));
    }
    let remarks: Vec<String> = results.lines.iter().filter_map(remark).collect();
    if !remarks.is_empty() {
        page.push_str(&format!("\n{}\n", remarks.join("\n")));
    }
    page
}

/// One line; `mark` is the number of its origin, if there are several.
pub fn row(line: &Line, mark: Option<usize>) -> String {
    let mark = mark.map_or_else(String::new, |number| format!(" ({})", number + 1));
    let beside = match (&line.rival, &line.theirs) {
        (Some(rival), Some(theirs)) => format!("{rival} {}", show(theirs.median, line.unit)),
        _ => String::new(),
    };
    let ratio = line.ratio.as_ref().map_or_else(String::new, |ratio| number(ratio.median));
    format!(
        "| {}{mark} | {} | {} | {beside} | {ratio} | {} | {} | {} | {} |\n",
        line.what,
        line.driver,
        show(line.ours.median, line.unit),
        spread(line),
        bound(line.bounds.must, line),
        bound(line.bounds.aim, line),
        verdict(line.verdict())
    )
}

/// In one word, for the table and the terminal.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Information => "",
        Verdict::Aim => "aim",
        Verdict::Must => "must",
        Verdict::Missed => "**no**",
        Verdict::NotExact => "**not exact**",
    }
}

/// What a reader must know beside the figures.
fn remark(line: &Line) -> Option<String> {
    let words: Vec<&str> = line.faults.iter().chain(&line.notes).map(String::as_str).collect();
    if words.is_empty() {
        return None;
    }
    let rival = line.rival.as_ref().map_or_else(String::new, |rival| format!(" against {rival}"));
    Some(format!("* {}, {}{rival}: {}.", line.what, line.driver, words.join("; ")))
}

/// The smallest and the largest of what is judged.
fn spread(line: &Line) -> String {
    let Summary { least, most, count, .. } = line.judged();
    let tell = |value: f64| if line.ratio.is_some() { number(value) } else { show(value, line.unit) };
    if *count < 2 { "one run".to_owned() } else { format!("{}–{}", tell(*least), tell(*most)) }
}

fn bound(bound: Option<Bound>, line: &Line) -> String {
    let tell = |value: f64| if line.ratio.is_some() { number(value) } else { show(value, line.unit) };
    match bound {
        None => String::new(),
        Some(Bound::AtMost(most)) => format!("≤ {}", tell(most)),
        Some(Bound::AtLeast(least)) => format!("≥ {}", tell(least)),
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    let digits: usize = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 0.1 || value == 0.0 => 2,
        value if value >= 0.01 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// With a unit that suits its size.
pub fn show(value: f64, unit: Unit) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let (step, name) =
            steps.iter().find(|(step, _)| value.abs() >= *step).unwrap_or(&steps[steps.len() - 1]);
        format!("{} {name}", number(value / step))
    };
    match unit {
        Unit::Nanos => scaled(&[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]),
        Unit::Bytes => scaled(&[(1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]),
        Unit::PerSecond => scaled(&[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
        Unit::Count => number(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Bounds;
    use super::super::line::tests::line;
    use super::super::results::Runs;
    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        for (value, unit, words) in [
            (2_512.3, Unit::Nanos, "2.51 µs"),
            (94.4, Unit::Nanos, "94.4 ns"),
            (12_345_678.0, Unit::Nanos, "12.3 ms"),
            (654.0, Unit::Bytes, "654 B"),
            (2048.0, Unit::Bytes, "2.00 KiB"),
            (240_000.0, Unit::PerSecond, "240 k/s"),
            (0.0, Unit::Nanos, "0.00 ns"),
            (16.23, Unit::Count, "16.2"),
        ] {
            assert_eq!(show(value, unit), words);
        }
        assert_eq!([0.0066, 0.951, 1.0].map(number), ["0.0066", "0.95", "1.00"]);
    }

    #[test]
    fn the_table_says_what_was_measured_and_whether_it_is_enough() {
        let mut results = Results::default();
        let mut lost = line("b", "nchan", 0.5, Bounds::at_most(1.0, 0.4));
        lost.faults.push("3 lost".to_owned());
        let lines = vec![
            line("a", "uws", 0.9, Bounds::at_most(1.05, 0.95)),
            lost,
            line("c", "ws", 2.0, Bounds::at_most(1.0, 0.5)),
        ];
        results.take("a", lines, Runs { total: 15, exact: 14 });
        results.versions.insert("ws".to_owned(), "8.18.3 (Node.js 20)".to_owned());
        let page = markdown(&results);
        let expected = "\
a machine

Rivals: ws 8.18.3 (Node.js 20).

14 of 15 runs of Fanwire were exact: every message once, in order and undamaged, no connection closed.

| what | driver | Fanwire | beside | ratio | spread | must | aim | met |
|---|---|---|---|---|---|---|---|---|
| what a is | epoll | 1.80 µs | uws 2.00 µs | 0.90 | 0.81–0.99 | ≤ 1.05 | ≤ 0.95 | aim |
| what b is | epoll | 1.00 µs | nchan 2.00 µs | 0.50 | 0.45–0.55 | ≤ 1.00 | ≤ 0.40 | **not exact** |
| what c is | epoll | 4.00 µs | ws 2.00 µs | 2.00 | 1.80–2.20 | ≤ 1.00 | ≤ 0.50 | **no** |

* what b is, epoll against nchan: 3 lost.
";
        assert_eq!(page, expected);
    }

    #[test]
    fn lines_of_several_machines_say_which() {
        let mut results = Results::default();
        let mut other = line("b", "uws", 0.5, Bounds::NONE);
        other.origin = "another".to_owned();
        results.take("a", vec![line("a", "uws", 0.5, Bounds::NONE), other], Runs::default());
        let page = markdown(&results);
        assert!(page.starts_with("(1) a machine\n\n(2) another\n\n"), "{page}");
        assert!(page.contains("| what a is (1) |") && page.contains("| what b is (2) |"), "{page}");
    }
}
