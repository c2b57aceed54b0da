//! Two or more runs side by side. They were not measured together, and every result says so.

mod document;
pub mod fingerprint;
mod json;
pub mod saved;

use std::collections::BTreeMap;

use crate::cell::{Cell, Params, Subject};
use crate::run::journal::RunRecord;
use crate::stats::rank_sum;
use crate::stats::summary::{Blocks, CellSummary, Ratio, Summary};

pub use document::{document, figures};
pub use json::json;

/// A run and the name that it goes by.
#[derive(Debug)]
pub struct Side {
    /// Its name.
    pub name: String,
    /// The run.
    pub record: RunRecord,
    /// Its summary.
    pub summary: Summary,
}

/// What a cell is divided by in each run, so that a machine that became slower cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The reference operation on the same backing.
    Reference,
    /// The same cell of `plain`.
    Plain,
}

impl Anchor {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Plain => "plain",
        }
    }
}

/// A cell that both runs have numbers of.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub cell: Cell,
    /// Samples and median in ns of the base run.
    pub base: (usize, f64),
    /// The same of the other run.
    pub head: (usize, f64),
    /// How many times the time of the base run it takes.
    pub ratio: Ratio,
    /// The same, each divided by an operation of its own run.
    pub anchored: Option<(Anchor, Ratio)>,
}

/// A run against the base run.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The run that is compared with.
    pub base: &'a Side,
    /// The run that is compared.
    pub head: &'a Side,
    /// Cells with numbers in both.
    pub rows: Vec<Row>,
    /// Cells of both runs that have no numbers in one, and why.
    pub failed: Vec<(Cell, String)>,
    /// How many cells only the base run has, and how many only the other.
    pub only: [usize; 2],
}

impl Side {
    /// Summarises `record`.
    pub fn new(name: String, record: RunRecord) -> Self {
        let summary = Summary::of(&record);
        Self { name, record, summary }
    }

    fn cells(&self) -> BTreeMap<&Cell, &CellSummary> {
        self.summary.cells.iter().map(|it| (&it.cell, it)).collect()
    }

    /// Medians of the blocks of `it`, each divided by that of the anchor in the same block.
    fn anchored(&self, it: &CellSummary, anchor: Anchor) -> Option<Vec<f64>> {
        let plain = Subject { driver: "plain".to_owned(), options: "default".to_owned() };
        let of_anchor: &Blocks = match anchor {
            Anchor::Plain if it.cell.subject() == plain => return None,
            Anchor::Plain => &self.summary.find(&plain, &it.cell.params)?.block_medians,
            Anchor::Reference => {
                let is_reference =
                    |params: &Params| params.model == "reference" && params.backing == it.cell.params.backing;
                let mut all = self.summary.cells.iter().filter(|it| it.latency.is_some());
                &all.find(|it| is_reference(&it.cell.params))?.block_medians
            }
        };
        let pairs = it.block_medians.iter().filter_map(|(block, own)| Some(own / of_anchor.get(block)?));
        Some(pairs.collect()).filter(|it: &Vec<f64>| !it.is_empty())
    }
}

/// Compares `head` with `base`, cell by cell.
pub fn compare<'a>(base: &'a Side, head: &'a Side) -> Comparison<'a> {
    let (of_base, of_head) = (base.cells(), head.cells());
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let shared = of_head.iter().filter_map(|(cell, own)| Some((cell, of_base.get(*cell)?, own)));
    for (cell, before, own) in shared {
        match row((base, before), (head, own)) {
            Some(row) => rows.push(row),
            None => failed.push(((*cell).clone(), why_no_numbers((base, before), (head, own)))),
        }
    }
    let n_shared = rows.len() + failed.len();
    Comparison { base, head, rows, failed, only: [of_base.len() - n_shared, of_head.len() - n_shared] }
}

fn row(base: (&Side, &CellSummary), head: (&Side, &CellSummary)) -> Option<Row> {
    let (before, after) = (base.1.latency.as_ref()?, head.1.latency.as_ref()?);
    let values = |it: &CellSummary| it.block_medians.values().copied().collect::<Vec<f64>>();
    let anchored = [Anchor::Reference, Anchor::Plain].into_iter().find_map(|anchor| {
        let (before, after) = (base.0.anchored(base.1, anchor)?, head.0.anchored(head.1, anchor)?);
        // The anchor against itself would be 1 whatever happened.
        let is_anchor = anchor == Anchor::Reference && head.1.cell.params.model == "reference";
        Some((anchor, rank_sum::ratio(&before, &after)?)).filter(|_| !is_anchor)
    });
    Some(Row {
        cell: head.1.cell.clone(),
        base: (before.n, before.p50),
        head: (after.n, after.p50),
        ratio: rank_sum::ratio(&values(base.1), &values(head.1))?,
        anchored,
    })
}

fn why_no_numbers(base: (&Side, &CellSummary), head: (&Side, &CellSummary)) -> String {
    let of = |(side, cell): (&Side, &CellSummary)| {
        let why = cell.error.as_deref().unwrap_or("no samples");
        cell.latency.is_none().then(|| format!("{}: {why}", side.name))
    };
    of(base).into_iter().chain(of(head)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{cell, run};

    fn side(name: &str, factor: u64, aufs: u64) -> Side {
        let cells = [
            (cell("plain", "default", "copy-up", 4096, 1), 4000 * factor),
            (cell("overlayfs", "default", "copy-up", 4096, 1), 100_000 * factor),
            (cell("aufs-fuse", "default", "copy-up", 4096, 1), aufs * factor),
            (cell("aufs-fuse", "default", "chmod", 4096, 1), if name == "b" { 0 } else { 1000 }),
        ];
        Side::new(name.to_owned(), run(&cells, 12))
    }

    #[test]
    fn a_slower_machine_cancels_in_anchored_ratios() {
        let (base, head) = (side("a", 1, 50_000), side("b", 2, 60_000));
        let found = compare(&base, &head);
        assert_eq!(found.rows.len(), 3);
        let of = |driver: &str| found.rows.iter().find(|it| it.cell.driver == driver).unwrap();
        let near =
            |ratio: Ratio, expected: f64| (ratio.p50 - expected).abs() < 0.01 && ratio.interval.is_some();
        assert!(near(of("overlayfs").ratio, 2.0) && near(of("aufs-fuse").ratio, 2.4));
        let (anchor, ratio) = of("aufs-fuse").anchored.unwrap();
        assert!(anchor == Anchor::Plain && near(ratio, 1.2), "{ratio:?}");
        assert_eq!(of("plain").anchored, None, "it is the anchor itself");
        assert_eq!(found.only, [0, 0]);
        let [(_, why)] = &found.failed[..] else { panic!("{:?}", found.failed) };
        assert!(why.starts_with("b: went"), "a failed cell is no ratio: {why}");
    }

    #[test]
    fn the_reference_operation_is_the_better_anchor() {
        let with_reference = |name: &str, factor: u64| {
            let mut reference = cell("plain", "default", "reference", 0, 1);
            reference.params.n_layers = 1;
            let cells =
                [(reference, 10_000 * factor), (cell("vfs", "default", "lookup", 4096, 1), 3000 * factor)];
            Side::new(name.to_owned(), run(&cells, 12))
        };
        let (base, head) = (with_reference("a", 1), with_reference("b", 3));
        let found = compare(&base, &head);
        let lookup = found.rows.iter().find(|it| it.cell.params.model == "lookup").unwrap();
        let (anchor, ratio) = lookup.anchored.unwrap();
        assert!(anchor == Anchor::Reference && (ratio.p50 - 1.0).abs() < 0.01, "{ratio:?}");
        assert!((lookup.ratio.p50 - 3.0).abs() < 0.01);
    }
}
