//! One cell over several runs.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::load::{Host, Stored};
use crate::cell::{Cell, Params, Subject};
use crate::model::is_yardstick;
use crate::report::backing_label;
use crate::stats::change_points::change_points;
use crate::stats::order::{Interval, median, sorted};
use crate::stats::summary::{CellSummary, Ratio, ratio_of};

/// Runs that must share a cell.
const RUNS_MIN: usize = 2;

/// What times are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// The model `reference` on the same backing.
    Reference,
    /// Plain's copy-up of the same parameters, in runs that have no reference.
    PlainCopyUp,
}

impl Base {
    /// What it is, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::PlainCopyUp => "copy-up of plain",
        }
    }
}

/// One run in a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// When and of what commit.
    pub when: String,
    /// Directory of the run.
    pub run: String,
    /// Time in that of the base, the median over blocks.
    pub ratio: f64,
    /// Its interval within that run; it says nothing about the day.
    pub interval: Option<Interval>,
}

/// A change of level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// When and of what commit the first run of the new level is.
    pub when: String,
    /// Its place in the series.
    pub at: usize,
    /// Median of the new level in that of the old one.
    pub factor: f64,
    /// Share of permutations that split as well.
    pub p: f64,
}

/// A cell over several runs.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// The machine.
    pub host: String,
    /// What was measured; its backing is that of tables.
    #[serde(flatten)]
    pub cell: Cell,
    /// What times are divided by.
    pub base: Base,
    /// Runs that have the cell but not the base, and are left out.
    pub without_base: usize,
    /// Oldest first.
    pub samples: Vec<Sample>,
    /// Where the level changed.
    pub changes: Vec<Change>,
}

/// The series of every cell that two runs of a machine share, in the order of the cells.
pub fn all_series(stored: &[Stored], seed: u64) -> Vec<Series> {
    let mut cells: BTreeMap<(Host, Cell), Vec<(&Stored, &CellSummary)>> = BTreeMap::new();
    for run in stored {
        for it in
            run.summary.cells.iter().filter(|it| it.latency.is_some() && !is_yardstick(&it.cell.params.model))
        {
            let mut cell = it.cell.clone();
            // A directory may lie on another file system in each run.
            cell.params.backing = backing_label(&run.run, &cell.params.backing);
            cells.entry((run.host(), cell)).or_default().push((run, it));
        }
    }
    let shared: Vec<_> = cells.into_iter().filter(|it| RUNS_MIN <= it.1.len()).collect();
    let series = shared.into_par_iter().filter_map(|((host, cell), runs)| series(&host, cell, &runs, seed));
    series.collect()
}

fn series(host: &Host, cell: Cell, runs: &[(&Stored, &CellSummary)], seed: u64) -> Option<Series> {
    let with = |base: Base| -> Vec<Sample> {
        runs.iter().filter_map(|(run, it)| sample(run, it, base_of(run, it, base)?)).collect()
    };
    // One base for the whole series: a change of base would look like a change of the cell.
    let (reference, plain) = (with(Base::Reference), with(Base::PlainCopyUp));
    let is_reference = RUNS_MIN <= reference.len() && plain.len() <= reference.len();
    let (base, samples) =
        if is_reference { (Base::Reference, reference) } else { (Base::PlainCopyUp, plain) };
    if samples.len() < RUNS_MIN {
        return None;
    }
    let logs: Vec<f64> = samples.iter().map(|it| it.ratio.ln()).collect();
    let points = change_points(&logs, seed);
    let ends: Vec<usize> =
        std::iter::once(0).chain(points.iter().map(|it| it.at)).chain([logs.len()]).collect();
    let level = |part: &[f64]| median(&sorted(part.to_vec())).unwrap_or_default();
    let changes = points.iter().zip(ends.windows(3)).map(|(it, ends)| {
        let (old, new) = (level(&logs[ends[0]..ends[1]]), level(&logs[ends[1]..ends[2]]));
        Change { when: samples[it.at].when.clone(), at: it.at, factor: (new - old).exp(), p: it.p }
    });
    let changes = changes.collect();
    let without_base = runs.len() - samples.len();
    Some(Series { host: host.to_string(), cell, base, without_base, samples, changes })
}

/// The cell that `it` is divided by; not itself.
fn base_of<'a>(run: &'a Stored, it: &CellSummary, base: Base) -> Option<&'a CellSummary> {
    let plain = Subject { driver: "plain".to_owned(), options: "default".to_owned() };
    let found = match base {
        Base::Reference => run.summary.cells.iter().find(|other| {
            other.cell.params.model == "reference" && other.cell.params.backing == it.cell.params.backing
        }),
        Base::PlainCopyUp => {
            let params = Params { model: "copy-up".to_owned(), ..it.cell.params.clone() };
            run.summary.find(&plain, &params)
        }
    };
    found.filter(|base| base.latency.is_some() && base.cell != it.cell)
}

fn sample(run: &Stored, it: &CellSummary, base: &CellSummary) -> Option<Sample> {
    let Ratio { p50, interval, .. } = ratio_of(&it.block_medians, &base.block_medians)?;
    let name = run.dir.file_name().unwrap_or(run.dir.as_os_str());
    Some(Sample { when: run.when(), run: name.to_string_lossy().into_owned(), ratio: p50, interval })
}
