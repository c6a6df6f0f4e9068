//! The text that Prometheus reads (exposition format 0.0.4).
//!
//! A family's HELP and TYPE come once and all its samples stand together, in whatever order they are added: the shards are
//! asked one after the other, and each knows all families.

use std::collections::HashMap;
use std::fmt::Write;

/// `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the samples of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; named `…_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts per upper bound.
    Histogram,
}

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Family {
    head: String,
    samples: String,
}

impl Page {
    /// Adds a sample. `labels` are `key="value"` pairs separated by commas, or empty; see [`label`].
    pub fn add(&mut self, name: &str, kind: Kind, help: &str, labels: &str, value: f64) {
        sample(self.family(name, kind, help), name, labels, value);
    }

    /// Names a family that may have no samples.
    pub fn declare(&mut self, name: &str, kind: Kind, help: &str) {
        self.family(name, kind, help);
    }

    /// Adds the histogram of one label set. `counts` has one entry per bound and one for all above.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &str,
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        assert_eq!(bounds.len() + 1, counts.len(), "a count for each bound, and one for all above");
        let samples = self.family(name, Kind::Histogram, help);
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        let uppers = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (upper, count) in uppers.zip(counts) {
            below += count;
            let labels = format!("{labels}{comma}le=\"{upper}\"");
            sample(samples, &format!("{name}_bucket"), &labels, below as f64);
        }
        sample(samples, &format!("{name}_sum"), labels, sum);
        sample(samples, &format!("{name}_count"), labels, below as f64);
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut String {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                debug_assert!(is_name(name), "{name:?} is no metric name");
                debug_assert_eq!(
                    kind == Kind::Counter,
                    name.ends_with("_total"),
                    "{name}: counters end in _total"
                );
                let kind = match kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Histogram => "histogram",
                };
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
                self.families.push(Family { head, samples: String::new() });
                self.by_name.insert(name.to_owned(), self.families.len() - 1);
                self.families.len() - 1
            }
        };
        &mut self.families[index].samples
    }

    /// The text.
    pub fn finish(self) -> String {
        self.families.into_iter().flat_map(|family| [family.head, family.samples]).collect()
    }
}

fn sample(out: &mut String, name: &str, labels: &str, value: f64) {
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    // Rust writes whole numbers without exponent and others with as many digits as give the same number back; both are
    // numbers to Prometheus, which reads 64-bit floats.
    writeln!(out, "{name}{open}{labels}{close} {value}").expect("writing to a string succeeds");
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// One pair of [`Page::add`]'s `labels`, with the value escaped.
pub fn label(key: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{key}=\"{value}\"")
}

/// Joins two label texts, either of which may be empty.
pub fn labels(first: &str, second: &str) -> String {
    if first.is_empty() || second.is_empty() {
        format!("{first}{second}")
    } else {
        format!("{first},{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_stand_together() {
        let mut page = Page::default();
        for shard in ["0", "1"] {
            page.add("a_total", Kind::Counter, "First.", &label("shard", shard), 1.0);
            page.add("b", Kind::Gauge, "Second\\\nline.", "", 0.5);
        }
        assert_eq!(
            page.finish(),
            "# HELP a_total First.\n# TYPE a_total counter\na_total{shard=\"0\"} 1\na_total{shard=\"1\"} 1\n\
             # HELP b Second\\\\\\nline.\n# TYPE b gauge\nb 0.5\nb 0.5\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let mut page = Page::default();
        page.histogram("turn_seconds", "Turns.", "shard=\"0\"", &[0.00002, 0.5], &[3, 2, 1], 1.25);
        assert_eq!(
            page.finish(),
            "# HELP turn_seconds Turns.\n# TYPE turn_seconds histogram\n\
             turn_seconds_bucket{shard=\"0\",le=\"0.00002\"} 3\n\
             turn_seconds_bucket{shard=\"0\",le=\"0.5\"} 5\n\
             turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 6\n\
             turn_seconds_sum{shard=\"0\"} 1.25\nturn_seconds_count{shard=\"0\"} 6\n"
        );
    }

    #[test]
    fn labels_are_escaped_and_joined() {
        assert_eq!(label("driver", "a\"b\\c\nd"), "driver=\"a\\\"b\\\\c\\nd\"");
        assert_eq!(labels("", ""), "");
        assert_eq!(labels("a=\"1\"", ""), "a=\"1\"");
        assert_eq!(labels("a=\"1\"", "b=\"2\""), "a=\"1\",b=\"2\"");
    }

    #[test]
    fn large_counters_are_written_whole() {
        let mut page = Page::default();
        page.add("a_total", Kind::Counter, "", "", (1_u64 << 53) as f64);
        assert!(page.finish().ends_with("a_total 9007199254740992\n"));
    }
}
