//! The results so far, as JSON: what a part of the rows gave takes the place of what they gave before, and the rest stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::line::Line;

/// Version of the file's shape.
const SCHEMA: &str = "fanwire-compare/1";

/// All lines, and how many runs they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    schema: String,
    /// In the order of the table.
    pub lines: Vec<Line>,
    /// By row: runs of Fanwire.
    pub runs: BTreeMap<String, Runs>,
    /// What each rival said its version was, when it was used last.
    pub versions: BTreeMap<String, String>,
}

/// Runs of Fanwire in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// All.
    pub total: usize,
    /// Those in which every message came once, in order, undamaged, and no connection was closed.
    pub exact: usize,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            lines: Vec::new(),
            runs: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }
}

impl Results {
    /// Reads the file; none is no results.
    pub fn read(path: &Path) -> Result<Self> {
        let Ok(text) = fs::read_to_string(path) else { return Ok(Self::default()) };
        let results: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not what this command writes; remove it", path.display()))?;
        ensure!(results.schema == SCHEMA, "{} is of another version; remove it", path.display());
        Ok(results)
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Takes in what a row gave. A line that was measured before is replaced where it stands.
    pub fn take(&mut self, row: &str, lines: Vec<Line>, runs: Runs) {
        for line in lines {
            match self.lines.iter_mut().find(|old| old.is_same(&line)) {
                Some(old) => *old = line,
                None => {
                    let behind = self.lines.iter().rposition(|old| old.row == line.row);
                    self.lines.insert(behind.map_or(self.lines.len(), |at| at + 1), line);
                }
            }
        }
        self.runs.insert(row.to_owned(), runs);
    }

    /// Puts the lines in the order of `rows`; those of rows that do not exist any more go.
    pub fn arrange(&mut self, rows: &[&str]) {
        let place = |name: &str| rows.iter().position(|row| *row == name);
        self.lines.retain(|line| place(&line.row).is_some());
        self.lines.sort_by_key(|line| place(&line.row));
        self.runs.retain(|name, _| place(name).is_some());
    }

    /// Runs of Fanwire in all rows.
    pub fn all_runs(&self) -> Runs {
        self.runs.values().fold(Runs::default(), |sum, runs| Runs {
            total: sum.total + runs.total,
            exact: sum.exact + runs.exact,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Bounds;
    use super::super::line::tests::line;
    use super::*;

    fn ratios(results: &Results) -> Vec<(&str, &str, f64)> {
        let tell = |line: &Line| line.ratio.unwrap().median;
        results
            .lines
            .iter()
            .map(|line| (line.row.as_str(), line.rival.as_deref().unwrap(), tell(line)))
            .collect()
    }

    #[test]
    fn parts_compose() {
        let make = |row, rival, ratio| line(row, rival, ratio, Bounds::NONE);
        let mut results = Results::default();
        results.take("b", vec![make("b", "uws", 1.0), make("b", "ws", 2.0)], Runs { total: 10, exact: 10 });
        results.take("a", vec![make("a", "uws", 3.0)], Runs { total: 5, exact: 4 });
        // Again, with one rival only, and one that is new.
        results.take("b", vec![make("b", "uws", 0.5), make("b", "nats", 0.1)], Runs { total: 2, exact: 2 });
        results.arrange(&["a", "b"]);
        let expected = [("a", "uws", 3.0), ("b", "uws", 0.5), ("b", "ws", 2.0), ("b", "nats", 0.1)];
        assert_eq!(ratios(&results), expected);
        assert_eq!(results.all_runs(), Runs { total: 7, exact: 6 });
        results.arrange(&["b"]);
        assert_eq!(results.lines.len(), 3, "a row that is not measured any more goes");
    }

    #[test]
    fn the_file_reads_back() {
        let path = std::env::temp_dir().join(format!("fanwire-compare-{}.json", std::process::id()));
        assert_eq!(Results::read(&path).unwrap(), Results::default());
        let mut results = Results::default();
        results.take(
            "a",
            vec![line("a", "uws", 0.5, Bounds::at_most(1.0, 0.5))],
            Runs { total: 1, exact: 1 },
        );
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        fs::write(&path, "{}").unwrap();
        assert!(Results::read(&path).is_err());
        fs::remove_file(&path).unwrap();
    }
}
