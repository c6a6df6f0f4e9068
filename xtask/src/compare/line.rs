//! One line of the comparison: two figures, their ratio, and what it is held to.

use serde::{Deserialize, Serialize};

use crate::measure::statistics::Summary;

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Bound {
    /// Whether a figure is inside.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
        }
    }
}

/// What a line is held to; without bounds it is for information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// What it must keep.
    pub must: Option<Bound>,
    /// What we want.
    pub aim: Option<Bound>,
}

impl Bounds {
    /// For information.
    pub const NONE: Self = Self { must: None, aim: None };

    /// Not more than these.
    pub const fn at_most(must: f64, aim: f64) -> Self {
        Self { must: Some(Bound::AtMost(must)), aim: Some(Bound::AtMost(aim)) }
    }

    /// Not less than these.
    pub const fn at_least(must: f64, aim: f64) -> Self {
        Self { must: Some(Bound::AtLeast(must)), aim: Some(Bound::AtLeast(aim)) }
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// Bytes.
    Bytes,
    /// Messages, instructions or another number.
    Count,
    /// A rate.
    PerSecond,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The row that made it, as `--only` names it.
    pub row: String,
    /// What is measured. With the row, the driver and the rival it says which line this is.
    pub what: String,
    /// Driver of Fanwire.
    pub driver: String,
    /// Fanwire's figure.
    pub ours: Summary,
    /// What it counts.
    pub unit: Unit,
    /// With whom it is compared; `None` if the figure itself is judged.
    pub rival: Option<String>,
    /// The rival's figure.
    pub theirs: Option<Summary>,
    /// Fanwire's figure by the rival's, of runs side by side.
    pub ratio: Option<Summary>,
    /// What the ratio is held to, or the figure where there is no rival.
    pub bounds: Bounds,
    /// What was wrong in runs of Fanwire: nothing may be lost, doubled, reordered or cut.
    pub faults: Vec<String>,
    /// What a reader should know, such as what the rival lost.
    pub notes: Vec<String>,
    /// Seconds measured in each run.
    pub seconds: f64,
    /// Machine, versions: where and what was measured.
    pub origin: String,
}

/// Whether a line is as it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is held to nothing.
    Information,
    /// As we want it.
    Aim,
    /// As it must be.
    Must,
    /// Neither.
    Missed,
    /// Something was lost, doubled, reordered or cut: the figures mean nothing.
    NotExact,
}

impl Line {
    /// What is judged: the ratio, or the figure itself.
    pub fn judged(&self) -> &Summary {
        self.ratio.as_ref().unwrap_or(&self.ours)
    }

    /// Whether it is as it has to be.
    pub fn verdict(&self) -> Verdict {
        if !self.faults.is_empty() {
            return Verdict::NotExact;
        }
        let holds = |bound: Option<Bound>| bound.map(|bound| bound.holds(self.judged().median));
        match (holds(self.bounds.must), holds(self.bounds.aim)) {
            (None, None) => Verdict::Information,
            (Some(false), _) => Verdict::Missed,
            (_, Some(true)) => Verdict::Aim,
            _ => Verdict::Must,
        }
    }

    /// Whether `other` is the same line of another run.
    pub fn is_same(&self, other: &Line) -> bool {
        let key =
            |line: &Line| (line.row.clone(), line.what.clone(), line.driver.clone(), line.rival.clone());
        key(self) == key(other)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A line whose ratio is `ratio`.
    pub fn line(row: &str, rival: &str, ratio: f64, bounds: Bounds) -> Line {
        let summary = |value: f64| Summary { median: value, least: value * 0.9, most: value * 1.1, count: 5 };
        Line {
            row: row.to_owned(),
            what: format!("what {row} is"),
            driver: "epoll".to_owned(),
            ours: summary(ratio * 2_000.0),
            unit: Unit::Nanos,
            rival: Some(rival.to_owned()),
            theirs: Some(summary(2_000.0)),
            ratio: Some(summary(ratio)),
            bounds,
            faults: Vec::new(),
            notes: Vec::new(),
            seconds: 2.0,
            origin: "a machine".to_owned(),
        }
    }

    #[test]
    fn a_line_is_judged_by_its_ratio() {
        let bounds = Bounds::at_most(1.05, 0.9);
        let verdict = |ratio: f64| line("x", "uws", ratio, bounds).verdict();
        assert_eq!(
            (verdict(0.9), verdict(1.0), verdict(1.06)),
            (Verdict::Aim, Verdict::Must, Verdict::Missed)
        );
        assert_eq!(line("x", "uws", 9.0, Bounds::NONE).verdict(), Verdict::Information);
        let more = Bounds::at_least(15.0, 40.0);
        assert_eq!(line("x", "uws", 20.0, more).verdict(), Verdict::Must);
        assert_eq!(line("x", "uws", 14.9, more).verdict(), Verdict::Missed);
    }

    #[test]
    fn without_a_rival_the_figure_itself_is_judged() {
        let line = Line {
            rival: None,
            theirs: None,
            ratio: None,
            ..line("x", "", 1.0, Bounds::at_most(2_000.0, 1.0))
        };
        assert_eq!(line.verdict(), Verdict::Must);
    }

    #[test]
    fn a_run_that_lost_something_is_no_success_however_fast() {
        let line =
            Line { faults: vec!["1 lost".to_owned()], ..line("x", "uws", 0.1, Bounds::at_most(1.0, 0.5)) };
        assert_eq!(line.verdict(), Verdict::NotExact);
    }
}
