//! Which cells are still measured: those that have not failed, lack blocks, and are not precise enough.

use std::collections::BTreeSet;

use super::reader::RunRecord;
use crate::matrix::expand::PlannedCell;
use crate::stats::precision::Precision;

/// How far each cell is.
#[derive(Debug)]
pub struct Standing {
    /// Cells that have failed; an error never becomes a number, so they are not measured again.
    failed: BTreeSet<usize>,
    /// Which cells are precise enough, where that is asked.
    precision: Option<Precision>,
    blocks: Vec<Blocks>,
}

/// Whole blocks of a cell.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    had: u32,
    /// How many it has when the session ends.
    until: u32,
    most: u32,
}

impl Standing {
    /// Nothing is measured of `cells` yet, in a run of one session.
    pub fn new(cells: &[PlannedCell], precision: Option<Precision>) -> Self {
        let blocks = cells.iter().map(|it| Blocks { had: 0, until: it.blocks, most: it.blocks });
        Self { failed: BTreeSet::new(), precision, blocks: blocks.collect() }
    }

    /// Where the cells of `run` stand, which is continued.
    pub fn of(run: &RunRecord) -> Self {
        let mut standing = Self::new(&run.header.cells, Precision::replay(run));
        standing.failed = run.errors().into_keys().collect();
        for block in run.blocks.values().filter(|it| it.ended.is_some()) {
            let measured: BTreeSet<usize> = block.samples.iter().map(|it| it.0).collect();
            measured.into_iter().for_each(|cell| standing.blocks[cell].had += 1);
        }
        standing
    }

    /// Gives each cell its share of the blocks that it lacks, in the first of `left` sessions.
    ///
    /// A group with `blocks = 5` in five sessions is measured in one block of each, so that its numbers know
    /// all sessions too.
    pub fn begin_session(&mut self, left: u32) {
        for it in &mut self.blocks {
            it.until = it.had.saturating_add(it.most.saturating_sub(it.had).div_ceil(left.max(1)));
        }
    }

    /// Whether any cell still has to be measured.
    pub fn is_open(&self) -> bool {
        (0..self.blocks.len()).any(|it| self.is_wanted(it))
    }

    /// Whether the block measures `cell`.
    pub fn is_due(&self, cell: usize) -> bool {
        self.blocks[cell].had < self.blocks[cell].until && self.is_wanted(cell)
    }

    fn is_wanted(&self, cell: usize) -> bool {
        let is_left = |it: usize| self.blocks[it].had < self.blocks[it].most && !self.failed.contains(&it);
        is_left(cell) && self.precision.as_ref().is_none_or(|it| it.needs(cell, is_left))
    }

    /// Notes that `cell` has failed.
    pub fn fail(&mut self, cell: usize) {
        self.failed.insert(cell);
    }

    /// Notes the samples of `cell` in `block`, in ns.
    pub fn note(&mut self, cell: usize, block: u32, samples_ns: Vec<f64>) {
        if let Some(precision) = &mut self.precision {
            precision.note(cell, block, samples_ns);
        }
    }

    /// Notes that a block is whole, the last of `n_blocks`.
    pub fn end_block(&mut self, n_blocks: u32) {
        let measured: Vec<usize> = (0..self.blocks.len()).filter(|it| self.is_due(*it)).collect();
        measured.into_iter().for_each(|cell| self.blocks[cell].had += 1);
        if let Some(precision) = &mut self.precision {
            precision.look(n_blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::example::{cell, run};

    fn cells(limits: &[u32]) -> Vec<PlannedCell> {
        let drivers = ["overlayfs", "vfs", "aufs-fuse"];
        let planned = |(blocks, driver): (&u32, &&str)| PlannedCell {
            cell: cell(driver, "default", "lookup", 4096, 1),
            files: 1,
            blocks: *blocks,
        };
        limits.iter().zip(&drivers).map(planned).collect()
    }

    /// How many of `n` blocks measure the first cell.
    fn n_due(standing: &mut Standing, n: u32) -> u32 {
        let block = |_| {
            let due = u32::from(standing.is_due(0));
            standing.end_block(1);
            due
        };
        (0..n).map(block).sum()
    }

    proptest! {
        #[test]
        fn a_limited_cell_has_its_blocks_in_all_sessions(sessions in 1..8_u32, each in 1..8_u32, most in 1..60_u32) {
            let mut standing = Standing::new(&cells(&[most]), None);
            let counts: Vec<u32> = (0..sessions)
                .map(|session| {
                    standing.begin_session(sessions - session);
                    n_due(&mut standing, each)
                })
                .collect();
            prop_assert_eq!(counts.iter().sum::<u32>(), most.min(sessions * each));
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn a_continued_run_measures_what_each_cell_lacks() {
        let planned = cells(&[1, 12, u32::MAX]);
        for (whole, cut_off, expected) in
            [(0, true, [1, 12, 40]), (3, false, [0, 9, 40]), (20, true, [0, 0, 40])]
        {
            let names: Vec<_> = planned.iter().map(|it| (it.cell.clone(), 1000)).collect();
            let mut record = run(&names, whole + u32::from(cut_off));
            record.header.cells.clone_from(&planned);
            for (number, block) in &mut record.blocks {
                block.samples.retain(|it| *number < planned[it.0].blocks);
                block.ended = block.ended.filter(|_| *number < whole);
            }
            let mut standing = Standing::of(&record);
            standing.begin_session(1);
            let mut found = [0; 3];
            for n_blocks in 1..=40 {
                (0..3).for_each(|cell| found[cell] += u32::from(standing.is_due(cell)));
                standing.end_block(n_blocks);
            }
            assert_eq!(found, expected, "after {whole} whole blocks");
        }
    }

    #[test]
    fn cells_that_failed_or_have_their_blocks_keep_no_run_open() {
        let wide = |standing: &mut Standing, n_blocks: u32| {
            // Overlayfs is steady, the others swing.
            let swing = if n_blocks.is_multiple_of(2) { 2.0 } else { 1.0 };
            for (cell, ns) in [100.0, 50.0 * swing, 70.0 * swing].into_iter().enumerate() {
                standing.note(cell, n_blocks, vec![ns]);
            }
            standing.end_block(n_blocks);
        };
        for (limit, fails, expected) in [(u32::MAX, false, true), (u32::MAX, true, false), (3, false, false)]
        {
            let planned = cells(&[u32::MAX, limit, u32::MAX]);
            let mut standing = Standing::new(&planned, Some(Precision::new(0.1, &planned)));
            (1..=10).for_each(|it| wide(&mut standing, it));
            assert!(standing.is_open(), "the ratios of both are wide");
            standing.fail(2);
            if fails {
                standing.fail(1);
            }
            assert_eq!(standing.is_open(), expected, "limit {limit}, failed {fails}");
        }
    }
}
