//! What a gate says, for people and for CI: everything here is made from a [`GateRecord`].

pub mod annotations;
mod json;
mod junit;
mod markdown;
mod metrics;
mod page;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

pub use table::table;

use super::decide::CellState;
use super::record::{CellLook, Ending, GateCell, GateRecord, Stage};
use super::settings::percent;
use crate::error::{Exit, Result};
use crate::report::save;

/// What to make of a gate that does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnInconclusive {
    /// Exit with 3.
    Fail,
    /// Warn, and exit with 0.
    Warn,
}

/// What is said of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Below the limit.
    Cleared,
    /// Below the limit, and faster by more than the margin.
    Improved,
    /// Slower by more than the margin.
    Slower,
    /// Slower by more than the margin, but not in the fresh blocks that were to confirm it.
    Unconfirmed,
    /// Neither is shown.
    Undecided,
    /// A sample failed.
    Error,
}

/// A cell as reports show it.
#[derive(Debug)]
pub struct Row<'a> {
    /// What is measured.
    pub cell: &'a GateCell,
    /// Its last judgement; none before the first look.
    pub look: Option<CellLook>,
    /// What is said of it.
    pub said: Said,
    /// Why it failed, if it did.
    pub error: Option<&'a str>,
}

/// A gate as reports show it.
#[derive(Debug)]
pub struct Summary<'a> {
    /// What it is made from.
    pub record: &'a GateRecord,
    /// Its cells, in the order of the header.
    pub rows: Vec<Row<'a>>,
    /// What the program exits with.
    pub exit: Exit,
}

impl Said {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Improved => "improved",
            Self::Slower => "SLOWER",
            Self::Unconfirmed => "unconfirmed",
            Self::Undecided => "undecided",
            Self::Error => "ERROR",
        }
    }

    /// What is said of a cell in `state`, in a gate of that ending.
    fn of(state: Option<CellState>, failed: bool, ending: Option<Ending>) -> Self {
        match state {
            _ if failed => Self::Error,
            Some(CellState::Cleared) => Self::Cleared,
            Some(CellState::Improved) => Self::Improved,
            Some(CellState::Slower) if ending == Some(Ending::Unconfirmed) => Self::Unconfirmed,
            Some(CellState::Slower) => Self::Slower,
            Some(CellState::Open) | None => Self::Undecided,
        }
    }
}

impl Row<'_> {
    /// `1.02 (0.99 – 1.05)`, or `–`.
    pub fn ratio_text(&self) -> String {
        let Some((look, ratio)) = self.look.and_then(|it| Some((it, it.ratio?))) else {
            return "–".to_owned();
        };
        match (look.low, look.high) {
            (Some(low), Some(high)) => format!("{ratio:.3} ({low:.3} – {high:.3})"),
            _ => format!("{ratio:.3}"),
        }
    }

    /// Blocks that the judgement rests on.
    pub fn n_blocks(&self) -> u32 {
        self.look.map_or(0, |it| it.n_blocks)
    }
}

impl<'a> Summary<'a> {
    /// What `record` says.
    pub fn of(record: &'a GateRecord, on_inconclusive: OnInconclusive) -> Self {
        let looks = record.latest();
        let errors: BTreeMap<usize, &str> =
            record.errors.iter().rev().filter_map(|it| Some((it.0?, it.1.as_str()))).collect();
        let row = |(index, cell)| {
            let (look, error) = (looks.get(&index).copied(), errors.get(&index).copied());
            let said = Said::of(look.map(|it| it.state), error.is_some(), record.ending);
            Row { cell, look, said, error }
        };
        let rows = record.header.cells.iter().enumerate().map(row).collect();
        Self { record, rows, exit: exit_of(record, on_inconclusive) }
    }

    /// `PASS`, `FAIL`, `INCONCLUSIVE`, `ERROR` or `INTERRUPTED`.
    pub fn verdict(&self) -> &'static str {
        match self.record.ending {
            Some(Ending::Pass) => "PASS",
            Some(Ending::Fail) => "FAIL",
            Some(Ending::Inconclusive | Ending::Budget | Ending::Unconfirmed) => "INCONCLUSIVE",
            Some(Ending::Error) => "ERROR",
            Some(Ending::Interrupted) | None => "INTERRUPTED",
        }
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        let rules = &self.record.header.rules;
        let (limit, margin) = (percent(rules.limit), percent(rules.margin));
        let n_blocks = self.record.blocks.iter().filter(|it| it.1 == Stage::Gate).count();
        let blocks = format!("after {n_blocks} blocks");
        let named = |said| {
            let all = self.rows.iter().filter(|it| it.said == said).map(|it| it.cell.name.as_str());
            all.collect::<Vec<_>>().join(", ")
        };
        match self.record.ending {
            Some(Ending::Pass) => format!("every cell is shown to be less than {limit} slower, {blocks}"),
            Some(Ending::Fail) => {
                format!("slower by more than {margin}, {blocks}: {}", named(Said::Slower))
            }
            Some(Ending::Inconclusive) => {
                format!("neither is shown at the last look, {blocks}: {}", named(Said::Undecided))
            }
            Some(Ending::Budget) => {
                format!("the budget ended {blocks}, before the next look: {}", named(Said::Undecided))
            }
            Some(Ending::Unconfirmed) => {
                format!("slower {blocks}, but not in fresh ones: {}", named(Said::Unconfirmed))
            }
            Some(Ending::Error) => {
                let what = self.record.errors.last().map_or("a sample failed", |it| it.1.as_str());
                format!("no verdict {blocks}: {what}")
            }
            Some(Ending::Interrupted) => format!("no verdict {blocks}: stopped by a signal"),
            None => format!("no verdict {blocks}: cut off"),
        }
    }

    /// Time of all whole blocks, in ms.
    pub fn elapsed_ms(&self) -> u64 {
        self.record.blocks.iter().map(|it| it.2).sum()
    }

    /// How the interval is to be read.
    pub fn interval_note(&self) -> String {
        let level = self.record.header.rules.miss_per_look() * 100.0;
        format!("ratio: time of head by time of base; each bound is exact, one-sided at {level} %")
    }

    /// What says against trusting the verdict: a slow-down made on purpose, cells left out.
    pub fn warnings(&self) -> Vec<String> {
        let header = &self.record.header;
        let inject = header.inject.as_ref().map(|it| format!("head was slowed down on purpose: {it}"));
        let skips = header.skips.iter().map(|it| format!("{} is not gated: {}", it.name, it.reason));
        inject.into_iter().chain(skips).collect()
    }
}

/// The exit code of `record`.
fn exit_of(record: &GateRecord, on_inconclusive: OnInconclusive) -> Exit {
    match record.ending {
        _ if !record.errors.is_empty() => Exit::Incorrect,
        Some(Ending::Error) => Exit::Incorrect,
        Some(Ending::Interrupted) | None => Exit::Interrupted,
        Some(Ending::Fail) => Exit::Failure,
        Some(Ending::Pass) => Exit::Success,
        Some(Ending::Inconclusive | Ending::Budget | Ending::Unconfirmed) => match on_inconclusive {
            OnInconclusive::Fail => Exit::Inconclusive,
            OnInconclusive::Warn => Exit::Success,
        },
    }
}

/// Writes all files of `summary` into `out`.
///
/// # Errors
///
/// A file cannot be written, or the plot cannot be drawn.
pub fn write(summary: &Summary<'_>, out: &Path) -> Result<()> {
    save(&out.join("gate.json"), json::json(summary)?)?;
    save(&out.join("gate.md"), markdown::markdown(summary))?;
    save(&out.join("junit.xml"), junit::junit(summary)?)?;
    save(&out.join("metrics.txt"), metrics::metrics(summary))?;
    save(&out.join("gate.html"), page::page(summary)?)
}

pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
