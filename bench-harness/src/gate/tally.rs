//! How often the gate was right on real mounts: a file to which every live trial adds a line.
//!
//! A trial is a gate of a program against itself, with nothing changed (any FAIL
//! is a false alarm) or with head slowed down on purpose (anything but FAIL is a
//! miss, and PASS a silent one).

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::{Ending, GateRecord};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::stats::binomial::{lower_bound, upper_bound};

/// Version of the lines.
const SCHEMA: u32 = 1;

/// Confidence of each bound.
const CONFIDENCE: f64 = 0.95;

/// A live trial of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    schema: u32,
    /// When it began, RFC 3339 in UTC.
    started_at: String,
    /// The machine.
    label: String,
    kernel: String,
    /// What was compared with itself.
    arm: String,
    matrix: String,
    seed: u64,
    /// The slow-down made on purpose; none where both arms were the same.
    inject: Option<String>,
    /// What came of it.
    ending: Ending,
    blocks: usize,
    samples: usize,
    /// Time of all blocks, in ms.
    elapsed_ms: u64,
}

impl Trial {
    /// What `record` says; none for a gate that was cut off.
    pub fn of(record: &GateRecord) -> Option<Self> {
        let host = &record.header.host;
        Some(Self {
            schema: SCHEMA,
            started_at: host.started_at.clone(),
            label: host.label.clone(),
            kernel: host.kernel.clone(),
            arm: record.header.base.label(),
            matrix: host.matrix.clone(),
            seed: host.seed,
            inject: record.header.inject.clone(),
            ending: record.ending?,
            blocks: record.blocks.len(),
            samples: 2 * record.pairs.len(),
            elapsed_ms: record.blocks.iter().map(|it| it.2).sum(),
        })
    }

    /// Whether the gate said what it must not: FAIL of the same, or PASS of a slow-down.
    pub fn is_wrong(&self) -> bool {
        let wrong = if self.inject.is_some() { Ending::Pass } else { Ending::Fail };
        self.ending == wrong
    }
}

/// Adds `trial` to the file at `path`, which is made where it is missing.
///
/// # Errors
///
/// Any I/O error.
pub fn append(path: &Path, trial: &Trial) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    let line = serde_json::to_string(trial).map_err(std::io::Error::from).at("write", path)?;
    let mut file = OpenOptions::new().append(true).create(true).open(path).at("open", path)?;
    // One write, so that two runs cannot mix their lines.
    file.write_all(format!("{line}\n").as_bytes()).at("write", path)
}

/// All trials in the file at `path`; none where it is missing.
///
/// # Errors
///
/// A damaged line, or one of another version.
pub fn load(path: &Path) -> Result<Vec<Trial>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.at("read", path)?,
    };
    let read = |(index, line): (usize, &str)| {
        let wrong = |what: String| {
            let kind = BenchErrorKind::Journal(format!("line {}: {what}", index + 1));
            BenchError::new("read tally", path, kind)
        };
        let trial: Trial = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if trial.schema == SCHEMA {
            Ok(trial)
        } else {
            Err(wrong(format!("schema {} is not {SCHEMA}", trial.schema)))
        }
    };
    text.lines().enumerate().map(read).collect()
}

/// The counts of `trials` with their Clopper–Pearson bounds, one line for each kind.
///
/// Trials that ended in an error or a signal have no verdict, and are only counted.
pub fn text(trials: &[Trial]) -> String {
    let judged = |inject: bool| {
        let all = trials.iter().filter(move |it| it.inject.is_some() == inject);
        all.filter(|it| !matches!(it.ending, Ending::Error | Ending::Interrupted)).collect::<Vec<_>>()
    };
    let count =
        |of: &[&Trial], ending: &[Ending]| of.iter().filter(|it| ending.contains(&it.ending)).count() as u64;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let open = [Ending::Inconclusive, Ending::Budget, Ending::Unconfirmed];
    let (same, slowed) = (judged(false), judged(true));
    let mut lines = Vec::new();
    if !same.is_empty() {
        let (n, wrong) = (same.len() as u64, count(&same, &[Ending::Fail]));
        lines.push(format!(
            "same: {wrong}/{n} false alarms (at most {}), {} pass, {} inconclusive",
            percent(upper_bound(wrong, n, CONFIDENCE)),
            count(&same, &[Ending::Pass]),
            count(&same, &open),
        ));
    }
    if !slowed.is_empty() {
        let (n, found) = (slowed.len() as u64, count(&slowed, &[Ending::Fail]));
        lines.push(format!(
            "slowed down: {found}/{n} found (at least {}), {} silent misses, {} inconclusive",
            percent(lower_bound(found, n, CONFIDENCE)),
            count(&slowed, &[Ending::Pass]),
            count(&slowed, &open),
        ));
    }
    let without = trials.len() - same.len() - slowed.len();
    if 0 < without {
        lines.push(format!("{without} without a verdict (error or signal)"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(inject: Option<&str>, ending: Ending) -> Trial {
        let [started_at, label, kernel, arm, matrix] = Default::default();
        let inject = inject.map(str::to_owned);
        let (blocks, samples, elapsed_ms) = (20, 2880, 1000);
        Trial {
            schema: SCHEMA,
            started_at,
            label,
            kernel,
            arm,
            matrix,
            seed: 1,
            inject,
            ending,
            blocks,
            samples,
            elapsed_ms,
        }
    }

    #[test]
    fn lines_are_kept_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/tally.jsonl");
        assert!(load(&path).unwrap().is_empty());
        let mut all = vec![trial(None, Ending::Pass); 18];
        all.push(trial(None, Ending::Inconclusive));
        all.push(trial(None, Ending::Fail));
        all.extend(vec![trial(Some("10%@*"), Ending::Fail); 20]);
        all.push(trial(Some("10%@*"), Ending::Pass));
        all.push(trial(None, Ending::Interrupted));
        all.iter().for_each(|it| append(&path, it).unwrap());
        assert_eq!(load(&path).unwrap(), all);
        assert_eq!(all.iter().filter(|it| it.is_wrong()).count(), 2);
        let said = text(&all);
        // 1 of 20: the upper bound at 95 % is 21.61 %; 20 of 21: the lower one is 79.33 % (tables of Clopper–Pearson).
        for expected in [
            "same: 1/20 false alarms (at most 21.61 %), 18 pass, 1 inconclusive",
            "slowed down: 20/21 found (at least 79.33 %), 1 silent misses, 0 inconclusive",
            "1 without a verdict",
        ] {
            assert!(said.contains(expected), "{said}");
        }
        fs::write(&path, "{}\n").unwrap();
        assert!(load(&path).unwrap_err().line().contains("line 1: "));
    }
}
