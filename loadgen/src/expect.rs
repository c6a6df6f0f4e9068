//! Thresholds on the command line: `p99<5ms,lost=0,rate>=10k`.
//!
//! What is not named keeps its default check (nothing lost, reordered, doubled, damaged or cut); what is named
//! replaces it, so `lost<10` accepts nine lost ones.

use std::collections::BTreeMap;
use std::fmt;

use crate::units;

/// A figure that can be held to a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table METRICS says what each is")]
pub enum Metric {
    P50,
    P90,
    P99,
    P999,
    P9999,
    Max,
    Mean,
    Lost,
    Order,
    Duplicates,
    Corrupt,
    Closed,
    Errors,
    Rate,
    PublishRate,
    CpuPerDelivery,
    UserPerDelivery,
    RssPerConnection,
    IdleCpu,
    PerReceive,
    SendLag,
    CallP50,
    CallP99,
    CallMax,
    SubscribeP99,
    LoginP99,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Time,
    Count,
    Bytes,
}

const METRICS: &[(&str, Metric, Kind, &str)] = &[
    ("p50", Metric::P50, Kind::Time, "median latency"),
    ("p90", Metric::P90, Kind::Time, "latency"),
    ("p99", Metric::P99, Kind::Time, "latency"),
    ("p99.9", Metric::P999, Kind::Time, "latency"),
    ("p999", Metric::P999, Kind::Time, "the same"),
    ("p99.99", Metric::P9999, Kind::Time, "latency"),
    ("max", Metric::Max, Kind::Time, "largest latency"),
    ("mean", Metric::Mean, Kind::Time, "mean latency"),
    ("lost", Metric::Lost, Kind::Count, "deliveries that never came"),
    ("order", Metric::Order, Kind::Count, "deliveries out of order"),
    ("dup", Metric::Duplicates, Kind::Count, "duplicates"),
    ("corrupt", Metric::Corrupt, Kind::Count, "payloads that are not what was sent"),
    ("closed", Metric::Closed, Kind::Count, "connections that the server closed"),
    ("errors", Metric::Errors, Kind::Count, "ERROR answers"),
    ("rate", Metric::Rate, Kind::Count, "deliveries (or results) per second"),
    ("publishes", Metric::PublishRate, Kind::Count, "publications (or calls) per second"),
    ("cpu", Metric::CpuPerDelivery, Kind::Time, "server CPU per delivery; needs --server-pid"),
    ("user", Metric::UserPerDelivery, Kind::Time, "its user part; needs --server-pid"),
    ("rss", Metric::RssPerConnection, Kind::Bytes, "server memory per connection; needs --server-pid"),
    ("idle_cpu", Metric::IdleCpu, Kind::Time, "server CPU per second while idle; needs --server-pid"),
    ("per_receive", Metric::PerReceive, Kind::Count, "messages per receive"),
    (
        "call_p50",
        Metric::CallP50,
        Kind::Time,
        "median latency of calls beside other traffic (broadcast+rpc, mixed)",
    ),
    ("call_p99", Metric::CallP99, Kind::Time, "latency of the same"),
    ("call_max", Metric::CallMax, Kind::Time, "largest latency of the same"),
    ("subscribe_p99", Metric::SubscribeP99, Kind::Time, "SUBSCRIBE to SUBSCRIBED (mixed)"),
    (
        "login_p99",
        Metric::LoginP99,
        Kind::Time,
        "planned time to session or SUBSCRIBED (connect, churn, mixed)",
    ),
    ("lag", Metric::SendLag, Kind::Time, "p99 of how late this generator itself sends"),
];

impl Metric {
    fn name(self) -> &'static str {
        METRICS.iter().find(|row| row.1 == self).map_or("?", |row| row.0)
    }

    fn kind(self) -> Kind {
        METRICS.iter().find(|row| row.1 == self).map_or(Kind::Count, |row| row.2)
    }

    fn show(self, value: f64) -> String {
        match self.kind() {
            Kind::Time => units::show_nanos(value),
            Kind::Bytes => units::show_bytes(value),
            Kind::Count if value.fract() == 0.0 => units::show_count(value as u64),
            Kind::Count => format!("{value:.2}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Equal => left == right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::Greater => left > right,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Equal => "=",
            Comparison::GreaterOrEqual => ">=",
            Comparison::Greater => ">",
        }
    }
}

/// One threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// What is compared.
    pub metric: Metric,
    comparison: Comparison,
    limit: f64,
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}{}",
            self.metric.name(),
            self.comparison.symbol(),
            self.metric.show(self.limit).replace(' ', "")
        )
    }
}

/// The figures of a finished run; a figure that was not measured is absent.
pub type Figures = BTreeMap<Metric, f64>;

impl Expectation {
    /// Whether it holds; the words say how it was missed.
    pub fn check(&self, figures: &Figures) -> Result<(), String> {
        match figures.get(&self.metric) {
            None => Err(format!("{self}: not measured in this run ({})", describe(self.metric))),
            Some(value) if self.comparison.holds(*value, self.limit) => Ok(()),
            Some(value) => Err(format!("{self}: it is {}", self.metric.show(*value))),
        }
    }
}

/// Reads a comma-separated list of thresholds.
pub fn parse(text: &str) -> Result<Vec<Expectation>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse_one).collect()
}

fn parse_one(part: &str) -> Result<Expectation, String> {
    let at = part
        .find(['<', '>', '='])
        .ok_or_else(|| format!("'{part}' has no comparison; write for example p99<5ms or lost=0"))?;
    let (name, rest) = part.split_at(at);
    let (comparison, length) = match rest.as_bytes() {
        [b'<', b'=', ..] => (Comparison::LessOrEqual, 2),
        [b'<', ..] => (Comparison::Less, 1),
        [b'>', b'=', ..] => (Comparison::GreaterOrEqual, 2),
        [b'>', ..] => (Comparison::Greater, 1),
        [b'=', b'=', ..] => (Comparison::Equal, 2),
        _ => (Comparison::Equal, 1),
    };
    let name = name.trim();
    let metric = METRICS.iter().find(|row| row.0 == name).map(|row| row.1).ok_or_else(|| {
        format!(
            "'{name}' is not a figure; there are {}",
            METRICS.iter().map(|row| row.0).collect::<Vec<_>>().join(", ")
        )
    })?;
    let value = rest[length..].trim();
    let limit = match metric.kind() {
        // A bare number is refused here: 5 what?
        Kind::Time if value != "0" && value.ends_with(|c: char| c.is_ascii_digit()) => {
            return Err(format!("'{part}' has no unit; write for example {name}<{value}ms"));
        }
        Kind::Time => units::parse_nanos(value)?,
        Kind::Bytes => units::parse_bytes(value)? as f64,
        Kind::Count if value == "0" => 0.0,
        Kind::Count => units::parse_rate(value)?,
    };
    Ok(Expectation { metric, comparison, limit })
}

/// What must hold in every run, unless `named` says something else about it.
pub fn default_checks(named: &[Expectation]) -> Vec<Expectation> {
    [Metric::Lost, Metric::Order, Metric::Duplicates, Metric::Corrupt, Metric::Closed, Metric::Errors]
        .into_iter()
        .filter(|metric| !named.iter().any(|expectation| expectation.metric == *metric))
        .map(|metric| Expectation { metric, comparison: Comparison::Equal, limit: 0.0 })
        .collect()
}

/// The list for `--help`.
pub fn help() -> String {
    let mut out = String::from("Figures for --expect:\n");
    for (name, _, _, words) in METRICS {
        out.push_str(&format!("  {name:<13} {words}\n"));
    }
    out
}

fn describe(metric: Metric) -> &'static str {
    METRICS.iter().find(|row| row.1 == metric).map_or("", |row| row.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_thresholds_is_read() {
        let list = parse("p99<5ms, lost=0,rate>=10k,p99.9<=1.5s,rss<2KiB,lag<200us").unwrap();
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["p99<5.00ms", "lost=0", "rate>=10,000", "p99.9<=1.50s", "rss<2.00KiB", "lag<200.0µs"]
        );
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("dup==0").unwrap(), parse("dup=0").unwrap());
    }

    #[test]
    fn bad_thresholds_are_refused_with_words() {
        for (text, words) in [
            ("p99", "no comparison"),
            ("p98<5ms", "not a figure"),
            ("p99<5", "no unit"),
            ("p99<5 apples", "unit of time"),
            ("lost=none", "does not begin with a number"),
            ("rss<3 apples", "unit of size"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn thresholds_are_held_or_missed() {
        let figures: Figures = [(Metric::P99, 4.9e6), (Metric::Lost, 0.0), (Metric::Rate, 9_999.5)].into();
        let results: Vec<_> = parse("p99<5ms,p99<4ms,lost=0,rate>=10k,cpu<1us")
            .unwrap()
            .iter()
            .map(|e| e.check(&figures))
            .collect();
        assert!(results[0].is_ok() && results[2].is_ok());
        assert!(results[1].as_ref().unwrap_err().contains("it is 4.90 ms"));
        assert!(results[3].is_err());
        assert!(results[4].as_ref().unwrap_err().contains("--server-pid"));
    }

    #[test]
    fn a_named_figure_replaces_its_default_check() {
        let named = parse("lost<10,p99<1s").unwrap();
        let defaults = default_checks(&named);
        assert!(!defaults.iter().any(|e| e.metric == Metric::Lost));
        assert!(defaults.iter().any(|e| e.metric == Metric::Order));
        assert_eq!(defaults.len(), 5);
    }
}
