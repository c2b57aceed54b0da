//! The cells of a run, as claims look for them.

use std::collections::BTreeSet;

use crate::cell::{Cache, Cell, Params, Subject};
use crate::report::backing_label;
use crate::run::journal::{Metric, RunRecord};
use crate::stats::summary::{Blocks, CellSummary, Summary};

/// What a claim can look at.
#[derive(Debug)]
pub struct Evidence<'a> {
    summary: &'a Summary,
    run: &'a RunRecord,
}

/// Two cells of one subject that differ in one axis: the least value of it first.
pub type Ends<'a> = (&'a CellSummary, &'a CellSummary);

impl<'a> Evidence<'a> {
    /// The evidence of `run`.
    pub fn of(summary: &'a Summary, run: &'a RunRecord) -> Self {
        Self { summary, run }
    }

    /// Subjects and backings that were measured, in the order of the drivers.
    pub fn places(&self) -> Vec<(Subject, String)> {
        let all: BTreeSet<(Subject, String)> =
            self.summary.cells.iter().map(|it| (it.cell.subject(), it.cell.params.backing.clone())).collect();
        let mut all: Vec<_> = all.into_iter().collect();
        let names = crate::driver::names();
        all.sort_by_key(|(subject, backing)| {
            let rank = names.iter().position(|it| *it == subject.driver);
            (rank, subject.options != "default", subject.options.clone(), backing.clone())
        });
        all
    }

    /// The backing as tables show it.
    pub fn backing_label(&self, backing: &str) -> String {
        backing_label(self.run, backing)
    }

    /// Whether files of the backing can share blocks, which then count as space of each.
    pub fn shares_blocks(&self, backing: &str) -> bool {
        let facts = self.run.header.host.backings.iter().find(|it| it.name == backing);
        facts.is_some_and(|it| ["btrfs", "xfs", "bcachefs"].contains(&it.fs_type.as_str()))
    }

    /// How many cells of `subject` failed there.
    pub fn n_failed(&self, subject: &Subject, backing: &str) -> usize {
        let own = |it: &&CellSummary| it.cell.params.backing == backing && it.cell.subject() == *subject;
        self.summary.cells.iter().filter(own).filter(|it| it.error.is_some()).count()
    }

    /// Cells of `model` that have numbers.
    pub fn cells(&self, subject: &Subject, backing: &str, model: &str) -> Vec<&'a CellSummary> {
        let own = |it: &&CellSummary| {
            it.cell.params.model == model
                && it.cell.params.backing == backing
                && it.cell.subject() == *subject
                && it.latency.is_some()
        };
        self.summary.cells.iter().filter(own).collect()
    }

    /// The two cells of `model` that lie furthest apart on `axis` and are alike in all else.
    ///
    /// Of several pairs the one over the widest range, and of equal ones the first.
    pub fn ends(
        &self,
        (subject, backing, model): (&Subject, &str, &str),
        axis: Axis,
        wanted: fn(&Params) -> bool,
    ) -> Option<Ends<'a>> {
        let cells = self.cells(subject, backing, model);
        let cells: Vec<_> = cells.into_iter().filter(|it| wanted(&it.cell.params)).collect();
        let value = |it: &CellSummary| axis.take(&mut it.cell.params.clone());
        let others = |it: &CellSummary| {
            let mut params = it.cell.params.clone();
            axis.take(&mut params);
            params
        };
        let mut best: Option<(f64, Ends<'a>)> = None;
        for low in &cells {
            for high in cells.iter().filter(|it| value(low) < value(it) && others(low) == others(it)) {
                let range = value(high) as f64 / value(low).max(1) as f64;
                if best.is_none_or(|it| it.0 < range) {
                    best = Some((range, (low, high)));
                }
            }
        }
        best.map(|it| it.1)
    }

    /// The same cell of another subject.
    pub fn same(&self, cell: &Cell, subject: &Subject) -> Option<&'a CellSummary> {
        self.summary.find(subject, &cell.params).filter(|it| it.latency.is_some())
    }

    /// Values of `metric` by block, of the cell of `model` with the largest file, a shallow one of equal ones.
    pub fn metric(
        &self,
        (subject, backing, model): (&Subject, &str, &str),
        metric: Metric,
    ) -> Option<(&'a Cell, &'a Blocks)> {
        let own = self.summary.metrics.iter().filter(|it| {
            it.metric == metric
                && it.cell.params.model == model
                && it.cell.params.backing == backing
                && it.cell.subject() == *subject
        });
        own.max_by_key(|it| (it.cell.params.file_bytes, is_shallow(&it.cell.params)))
            .map(|it| (&it.cell, &it.block_medians))
    }
}

/// In what two cells may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Length of the file.
    Size,
    /// Layer that holds it.
    FoundAt,
    /// Directories above it.
    Depth,
}

impl Axis {
    /// The value in `params`; zero is left in its place, so that the rest of two cells can be compared.
    fn take(self, params: &mut Params) -> u64 {
        match self {
            Self::Size => std::mem::take(&mut params.file_bytes),
            Self::FoundAt => u64::from(std::mem::take(&mut params.found_at)),
            Self::Depth => u64::from(std::mem::take(&mut params.dir_depth)),
        }
    }
}

/// The cell of names and files that were not touched through the mount.
pub fn is_fresh(params: &Params) -> bool {
    params.cache == Cache::Fresh
}

/// As fresh, and below one directory, so that the copy of no parent is in it.
pub fn is_shallow(params: &Params) -> bool {
    is_fresh(params) && params.dir_depth == 1
}
