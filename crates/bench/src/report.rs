//! What a benchmark found: a table for people, JSON for machines.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times, memory, bytes asked for one needed.
    Lower,
}

/// The best that could be, measured in the same run or promised.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Another program, the machine, or a promise.
    pub name: String,
    /// In the unit of our figure.
    pub value: f64,
}

impl Limit {
    /// A limit by its name and value.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }
}

/// One measured figure beside its limit. The fields are those of the JSON file.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    ours: f64,
    unit: &'static str,
    limit_name: String,
    limit: f64,
    /// How near we come, so that more is always better: `ours / limit` for rates, `limit / ours` for costs.
    ratio: f64,
    /// The least ratio we promise; `null` where nothing is promised.
    budget: Option<f64>,
}

/// All figures of one benchmark.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a figure. `budget` is the least ratio that we promise.
    pub fn row(
        &mut self,
        name: impl Into<String>,
        (ours, unit): (f64, &'static str),
        better: Better,
        limit: Limit,
        budget: Option<f64>,
    ) {
        let ratio = match better {
            Better::Higher => ours / limit.value,
            Better::Lower => limit.value / ours,
        };
        let Limit { name: limit_name, value: limit } = limit;
        self.rows.push(Row { name: name.into(), ours, unit, limit_name, limit, ratio, budget });
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The table and the notes.
    pub fn table(&self) -> String {
        let header = ["", "ours", "limit", "limit is", "ratio", "budget"].map(str::to_owned);
        let mut lines = vec![header];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: [usize; 6] =
            std::array::from_fn(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0));
        let mut text = String::new();
        for cells in &lines {
            let [name, ours, limit, limit_name, ratio, budget] = cells;
            let [w0, w1, w2, w3, w4, _] = widths;
            writeln!(text, "  {name:w0$}  {ours:>w1$}  {limit:>w2$}  {limit_name:w3$}  {ratio:>w4$}  {budget}")
                .expect("writing to a string does not fail");
        }
        self.notes.iter().for_each(|note| text.extend(["  ", note, "\n"]));
        text
    }

    /// Writes the rows as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let dir = path.parent().context("a report lies in a directory")?;
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let json = serde_json::to_string_pretty(&self.rows)?;
        fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let budget = match self.budget {
            None => String::new(),
            Some(budget) if self.ratio >= budget => format!("{budget:.2} kept"),
            Some(budget) => format!("{budget:.2} MISSED"),
        };
        [
            self.name.clone(),
            format!("{} {}", figure(self.ours), self.unit),
            format!("{} {}", figure(self.limit), self.unit),
            self.limit_name.clone(),
            format!("{:.2}", self.ratio),
            budget,
        ]
    }
}

/// Three significant digits, thousands set apart.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => with_thousands(value.round()),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn with_thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.row("hot read", (2_700.0, "MB/s"), Better::Higher, Limit::new("sendfile", 3_000.0), Some(0.9));
        report.row("memory", (200.0, "B/inode"), Better::Lower, Limit::new("promise", 150.0), Some(1.0));
        report.note("measured at midnight");
        report
    }

    #[test]
    fn ratios_grow_with_quality_and_budgets_are_judged() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("2,700 MB/s") && lines[1].ends_with("0.90  0.90 kept"), "{table}");
        assert!(lines[2].ends_with("0.75  1.00 MISSED"), "{table}");
        assert_eq!(lines[3], "  measured at midnight");
    }

    #[test]
    fn the_file_has_exactly_the_fields_of_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/x.json");
        report().write(&path).unwrap();
        let rows: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let mut fields: Vec<&str> = rows[0].keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["budget", "limit", "limit_name", "name", "ours", "ratio", "unit"]);
        assert_eq!(rows[0]["ratio"], 0.9);
    }

    #[test]
    fn figures_are_short() {
        for (value, expected) in
            [(1_234_567.8, "1,234,568"), (999.9, "1,000"), (100.0, "100"), (12.34, "12.3"), (0.5, "0.50")]
        {
            assert_eq!(figure(value), expected);
        }
    }
}
