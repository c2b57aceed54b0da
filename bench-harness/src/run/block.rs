//! One block: every cell once, in an order of its own, on fresh writable branches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, openat};
use tracing::warn;

use crate::cell::{Cell, Params, Stack};
use crate::driver::{Branch, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::{FileSpec, WARM_FILE};
use crate::matrix::expand::{PlannedCell, order};
use crate::model::{self, Bed, Lower, Model, Mounting};
use crate::pattern::Extent;
use crate::run::bench::{Bench, known};
use crate::run::interrupt::Interrupt;
use crate::run::journal::{Journal, Metric, Record};
use crate::run::progress::Progress;

/// Files up to this length are compared whole in each block, longer ones in the first.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// A cell that has dirtied this much is followed by a sync, so that its writeback does not weigh on the next.
const SETTLE_BYTES: u64 = 8 << 20;

/// What blocks need, and which cells have failed.
#[derive(Debug)]
pub struct Blocks<'a> {
    /// Backings, layers, imports.
    pub bench: &'a Bench,
    /// All cells of the run.
    pub cells: &'a [PlannedCell],
    /// Seed of the order.
    pub seed: u64,
    /// Asks to stop.
    pub interrupt: &'a Interrupt,
    /// Cells that have failed; an error never becomes a number, so they are not measured again.
    pub failed: BTreeSet<usize>,
    /// Compare files of any length whole in each block.
    pub check_all: bool,
}

/// The mounted stacks of a block.
type Views = BTreeMap<Stack, (View, PathBuf)>;

impl Blocks<'_> {
    /// Measures block `block` and writes it down.
    ///
    /// # Errors
    ///
    /// A signal came, or the journal or the backing cannot be written. What a
    /// driver does wrong is a record, not an error.
    pub fn measure(&mut self, block: u32, journal: &mut Journal, progress: &Progress) -> Result<()> {
        journal.append(&Record::BlockStart { block, session: 0 })?;
        let measured = self.measure_mounted(block, journal, progress);
        let removed = self.remove_branches(block);
        journal.flush()?;
        measured?;
        removed
    }

    fn measure_mounted(&mut self, block: u32, journal: &mut Journal, progress: &Progress) -> Result<()> {
        let mut views = self.mount_all(block, journal)?;
        self.settle()?;
        for index in order(self.seed, block, self.cells.len()) {
            self.interrupt.check()?;
            let cell = &self.cells[index].cell;
            let due = self.is_due(index, block);
            if let Some((view, home)) = views.get(&cell.stack()).filter(|_| due) {
                let measured = self.measure_cell(index, block, view, home, journal);
                if let Err(error) = measured {
                    self.fail(index, block, &error, journal)?;
                }
                journal.flush()?;
            }
            progress.cell_done();
        }
        self.close_all(block, &mut views, journal)
    }

    /// Notes that a cell failed; a signal and a journal that cannot be written end the run instead.
    fn fail(&mut self, index: usize, block: u32, error: &BenchError, journal: &mut Journal) -> Result<()> {
        self.interrupt.check()?;
        warn!(cell = %self.cells[index].cell, error = error.line(), "cell failed");
        self.failed.insert(index);
        journal.append(&Record::Error { cell: index, block, message: error.line() })
    }

    /// Whether block `block` measures the cell: it has not failed, and its group has that many blocks.
    fn is_due(&self, index: usize, block: u32) -> bool {
        block < self.cells[index].blocks && !self.failed.contains(&index)
    }

    /// Mounts every stack on a fresh branch, in an order of its own.
    fn mount_all(&mut self, block: u32, journal: &mut Journal) -> Result<Views> {
        let indices: Vec<usize> = (0..self.cells.len()).filter(|it| self.is_due(*it, block)).collect();
        let stacks: BTreeSet<Stack> = indices.iter().map(|&it| self.cells[it].cell.stack()).collect();
        let stacks: Vec<Stack> = stacks.into_iter().collect();
        let mut views = Views::new();
        for index in order(!self.seed, block, stacks.len()) {
            self.interrupt.check()?;
            let stack = &stacks[index];
            let home = self.bench.branch_home(&stack.backing, block)?.join(index.to_string());
            match self.mount(stack, &home) {
                Ok(view) => {
                    views.insert(stack.clone(), (view, home));
                }
                Err(error) => {
                    let of_stack = |it: &usize| self.cells[*it].cell.stack() == *stack;
                    for cell in indices.iter().copied().filter(of_stack).collect::<Vec<_>>() {
                        self.fail(cell, block, &error, journal)?;
                    }
                }
            }
        }
        Ok(views)
    }

    /// Mounts `stack`, and writes to a file of its lowest layer: the first write of a mount
    /// copies parents up and wakes the server, which is no cell's business.
    fn mount(&self, stack: &Stack, home: &std::path::Path) -> Result<View> {
        use std::os::unix::fs::FileExt as _;
        let driver = known(&stack.subject.driver)?;
        let imported = self.bench.import_of(stack)?;
        let view = driver.mount(&stack.subject.options, imported, Branch::create(home)?)?;
        let path = view.root.join(WARM_FILE);
        let file = std::fs::File::options().read(true).write(true).open(&path).at("open", &path)?;
        file.write_at(&[1], 0).at("write", &path)?;
        Ok(view)
    }

    fn measure_cell(
        &self,
        index: usize,
        block: u32,
        view: &View,
        home: &std::path::Path,
        journal: &mut Journal,
    ) -> Result<()> {
        let PlannedCell { cell, files, .. } = &self.cells[index];
        let model = known_model(&cell.params)?;
        let layers = self.bench.layers_of(&cell.stack())?;
        let root = openat(rustix::fs::CWD, &view.root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.at("open", &view.root)?;
        let imported = self.bench.import_of(&cell.stack())?;
        let mounting = Mounting { driver: known(&cell.driver)?, options: &cell.options, imported, home };
        let (pattern, params) = (&self.bench.pattern, &cell.params);
        let bed = Bed { view, root, layers, pattern, params, block, mounting };
        let specs = layers.files.get(params).map(Vec::as_slice).unwrap_or_default();
        let specs = &specs[..specs.len().min(*files as usize)];
        self.sample_all(index, block, &bed, model, specs, journal)?;
        self.record_metrics(index, block, &bed, specs, journal)?;
        drop(bed);
        self.settle_after(cell, specs)
    }

    /// As [`Self::sample_clean`]; a driver that fails may leave files in a layer, which the others must not meet.
    fn sample_all(
        &self,
        cell: usize,
        block: u32,
        bed: &Bed<'_>,
        model: &dyn Model,
        specs: &[FileSpec],
        journal: &mut Journal,
    ) -> Result<()> {
        let done = self.sample_clean(cell, block, bed, model, specs, journal);
        if done.is_err() {
            for file in specs {
                // What failed first is what the report should name.
                if let Err(error) = bed.layers.remove_strays(file, model.lower()) {
                    warn!(%error, "a layer may hold what a driver left");
                }
            }
        }
        done
    }

    /// Prepares, samples and checks; only the samples are timed, one right after the other.
    fn sample_clean(
        &self,
        cell: usize,
        block: u32,
        bed: &Bed<'_>,
        model: &dyn Model,
        specs: &[FileSpec],
        journal: &mut Journal,
    ) -> Result<()> {
        let mut before = Vec::new();
        for file in specs {
            before.push(
                (model.lower() != Lower::Nothing)
                    .then(|| bed.layers.fingerprint(file, model.lower()))
                    .transpose()?,
            );
            model.prepare(bed, file)?;
        }
        let mut timings = Vec::with_capacity(specs.len());
        for file in specs {
            self.interrupt.check()?;
            timings.push(model.sample(bed, file)?);
        }
        for (file, before) in specs.iter().zip(before) {
            model.check(bed, file, self.extent(file, block))?;
            if before.is_some() && before != Some(bed.layers.fingerprint(file, model.lower())?) {
                let what = BenchErrorKind::Incorrect("the driver changed the layer".to_owned());
                return Err(BenchError::new("check", bed.layers.lower_path(file), what));
            }
            if !bed.mounting.driver.renews() {
                model.restore(bed, file)?;
            }
        }
        // Written only now: a cell whose check fails has no samples of this block.
        for (file, timing) in (0..).zip(timings) {
            let (ns, open_ns) = (timing.elapsed_ns, timing.open_ns);
            journal.append(&Record::Sample { cell, block, file, ns, open_ns })?;
            for (metric, value) in timing.metrics {
                journal.append(&Record::Metric { cell, block, metric, value })?;
            }
        }
        Ok(())
    }

    fn extent(&self, file: &FileSpec, block: u32) -> Extent {
        let whole = self.check_all || block == 0 || file.len_bytes <= WHOLE_BYTES_MAX;
        if whole { Extent::Whole } else { Extent::Spread }
    }

    fn record_metrics(
        &self,
        cell: usize,
        block: u32,
        bed: &Bed<'_>,
        specs: &[FileSpec],
        journal: &mut Journal,
    ) -> Result<()> {
        let mut note = |metric, value: Option<u64>| {
            value.map_or(Ok(()), |value| journal.append(&Record::Metric { cell, block, metric, value }))
        };
        let model = known_model(bed.params)?;
        note(Metric::Upper, specs.last().and_then(|file| model.upper_bytes(bed, file)))?;
        match model.name() {
            "copy-up" | "chmod" => note(Metric::ServerRss, bed.view.server_rss_bytes()),
            "mount" => note(Metric::Tree, Some(bed.layers.tree_bytes)),
            _ => Ok(()),
        }
    }

    fn settle_after(&self, cell: &Cell, specs: &[FileSpec]) -> Result<()> {
        let copies_tree = cell.params.model == "mount";
        let dirtied: u64 = specs.iter().map(|it| it.len_bytes.max(4096) * u64::from(it.entries.max(1))).sum();
        if copies_tree || SETTLE_BYTES <= dirtied { self.settle() } else { Ok(()) }
    }

    fn settle(&self) -> Result<()> {
        self.bench.backings.values().try_for_each(|it| it.settle())
    }

    /// Unmounts all; a server that does not end in order fails the cells of its stack.
    fn close_all(&mut self, block: u32, views: &mut Views, journal: &mut Journal) -> Result<()> {
        for (stack, (view, _)) in views {
            if let Err(error) = view.close() {
                let of_stack = |it: &usize| self.cells[*it].cell.stack() == *stack;
                for cell in (0..self.cells.len()).filter(of_stack).collect::<Vec<_>>() {
                    self.fail(cell, block, &error, journal)?;
                }
            }
        }
        Ok(())
    }

    fn remove_branches(&self, block: u32) -> Result<()> {
        for (name, backing) in &self.bench.backings {
            let home = self.bench.branch_home(name, block)?;
            let entries = std::fs::read_dir(&home).at("read directory", &home)?;
            let branches: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            if backing.keeps_inodes {
                crate::driver::empty_trees(&branches)?;
            } else {
                crate::driver::remove_trees(&branches)?;
                crate::driver::remove_trees(&[home])?;
                if let Err(error) = backing.trim() {
                    warn!(backing = name, error = error.line(), "an image keeps the blocks of removed files");
                }
            }
        }
        Ok(())
    }
}

fn known_model(params: &Params) -> Result<&'static dyn Model> {
    let unknown = || crate::suggest::unknown("model", &params.model, &model::names());
    model::by_name(&params.model)
        .ok_or_else(|| BenchError::new("find", &params.model, BenchErrorKind::Config(unknown())))
}
