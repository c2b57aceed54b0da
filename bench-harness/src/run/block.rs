//! One block: every cell once, in an order of its own, on fresh writable branches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use tracing::warn;

use crate::cell::{Cache, Params, Stack};
use crate::driver::{Guard, Limits, View};
use crate::error::{At as _, BenchError, Result};
use crate::host::involuntary_switches;
use crate::layers::{FileSpec, LayerStack};
use crate::matrix::expand::{PlannedCell, order};
use crate::model::{Bed, Model, Mounting, Timing};
use crate::run::arrivals::Arrivals;
use crate::run::bench::{Bench, known, known_model};
use crate::run::checked;
use crate::run::cold::Cooling;
use crate::run::interrupt::Interrupt;
use crate::run::journal::{Journal, Metric, Record};
use crate::run::progress::Progress;
use crate::run::standing::Standing;

/// What blocks need, and which cells have failed.
#[derive(Debug)]
pub struct Blocks<'a> {
    /// Backings, layers, imports.
    pub bench: &'a Bench,
    /// All cells of the run.
    pub cells: &'a [PlannedCell],
    /// Seed of the order.
    pub seed: u64,
    /// Mean rate of an open loop, for models of single operations.
    pub rate_per_s: Option<f64>,
    /// Asks to stop.
    pub interrupt: &'a Interrupt,
    /// Compare files of any length whole in each block.
    pub check_all: bool,
    /// Which cells are still measured.
    pub standing: &'a mut Standing,
}

/// A block's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// In the run, from 0.
    pub block: u32,
    /// Its session, from 0.
    pub session: u32,
}

/// A sample with what surrounds it.
struct Taken {
    timing: Timing,
    /// Of the timed thread, meanwhile.
    involuntary_switches: u32,
    /// From the time it was due until its end, in an open loop.
    response_ns: Option<u64>,
}

/// The mounted stacks of a block.
type Views = BTreeMap<Stack, (View, PathBuf)>;

impl Blocks<'_> {
    /// Measures a block and writes it down.
    ///
    /// # Errors
    ///
    /// A signal came, or the journal or the backing cannot be written. What a
    /// driver does wrong is a record, not an error.
    pub fn measure(&mut self, number: Number, journal: &mut Journal, progress: &Progress) -> Result<()> {
        let Number { block, session } = number;
        journal.append(&Record::BlockStart { block, session })?;
        let measured = self.measure_mounted(block, journal, progress);
        let removed = self.bench.remove_branches(block);
        journal.flush()?;
        measured?;
        removed
    }

    fn measure_mounted(&mut self, block: u32, journal: &mut Journal, progress: &Progress) -> Result<()> {
        let mut views = self.mount_all(block, journal)?;
        self.bench.settle()?;
        let is_cold = |index: &usize| self.cells[*index].cell.params.cache == Cache::Cold;
        // Cold cells come last: what they drop is missing to all that follow.
        let (cold, warm): (Vec<_>, Vec<_>) =
            order(self.seed, block, self.cells.len()).into_iter().partition(is_cold);
        let dropped = self.bench.cooling == Cooling::Host && cold.iter().any(|it| self.standing.is_due(*it));
        for index in warm.into_iter().chain(cold) {
            self.interrupt.check()?;
            let cell = &self.cells[index].cell;
            let due = self.standing.is_due(index);
            let stack = cell.stack();
            if let Some((view, home)) = views.get(&stack).filter(|_| due) {
                match self.measure_cell(index, block, view, home, journal) {
                    Ok(samples_ns) => self.standing.note(index, block, samples_ns),
                    Err(error) if error.is_full() => return Err(error),
                    Err(error) => {
                        self.fail(index, block, &error, journal)?;
                        self.renew(&stack, block, &mut views, journal)?;
                    }
                }
                journal.flush()?;
            }
            progress.cell_done();
        }
        self.close_all(block, &mut views, journal)?;
        if dropped { self.bench.warm_again() } else { Ok(()) }
    }

    /// Notes that a cell failed; a signal and a journal that cannot be written end the run instead.
    fn fail(&mut self, index: usize, block: u32, error: &BenchError, journal: &mut Journal) -> Result<()> {
        self.interrupt.check()?;
        warn!(cell = %self.cells[index].cell, error = error.line(), "cell failed");
        self.standing.fail(index);
        journal.append(&Record::Error { cell: index, block, message: error.line() })
    }

    /// Mounts every stack on a fresh branch, in an order of its own.
    fn mount_all(&mut self, block: u32, journal: &mut Journal) -> Result<Views> {
        let indices: Vec<usize> = (0..self.cells.len()).filter(|it| self.standing.is_due(*it)).collect();
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
                Err(error) if error.is_full() => return Err(error),
                Err(error) => self.fail_stack(stack, block, &error, journal)?,
            }
        }
        Ok(views)
    }

    /// Mounts `stack`, watched, so that a driver that hangs is an error.
    fn mount(&self, stack: &Stack, home: &Path) -> Result<View> {
        let driver = known(&stack.subject.driver)?;
        let imported = self.bench.import_of(stack)?;
        let guard = self.bench.watchdog.guard(home, Limits::chosen().mount);
        guard.end(checked::mount(driver, &stack.subject.options, imported, home))
    }

    /// Mounts `stack` again where a cell's failure has ended its server: the others of the stack are not to blame.
    fn renew(&mut self, stack: &Stack, block: u32, views: &mut Views, journal: &mut Journal) -> Result<()> {
        let Some((mut view, home)) = views.remove(stack) else { return Ok(()) };
        let guard = self.bench.watchdog.guard(&home, Limits::chosen().mount);
        if !view.is_dead() {
            drop(guard);
            views.insert(stack.clone(), (view, home));
            return Ok(());
        }
        if let Err(error) = guard.end(view.close()) {
            warn!(error = error.line(), "the mount of an ended server was not closed");
        }
        drop(view);
        let again = next_home(&home);
        crate::driver::remove_trees(&[home])?;
        match self.mount(stack, &again) {
            Ok(view) => {
                views.insert(stack.clone(), (view, again));
                Ok(())
            }
            Err(error) => self.fail_stack(stack, block, &error, journal),
        }
    }

    /// Fails the cells of `stack` that this block was to measure.
    fn fail_stack(
        &mut self,
        stack: &Stack,
        block: u32,
        error: &BenchError,
        journal: &mut Journal,
    ) -> Result<()> {
        let own = |it: &usize| self.standing.is_due(*it) && self.cells[*it].cell.stack() == *stack;
        let own: Vec<usize> = (0..self.cells.len()).filter(own).collect();
        own.into_iter().try_for_each(|cell| self.fail(cell, block, error, journal))
    }

    fn measure_cell(
        &self,
        index: usize,
        block: u32,
        view: &View,
        home: &Path,
        journal: &mut Journal,
    ) -> Result<Vec<f64>> {
        let guard = self.bench.watchdog.guard(home, Limits::chosen().sample);
        let measured = self.records_of(index, block, view, home, &guard);
        let mut samples_ns = Vec::new();
        // Written only now: a cell whose check fails has no samples of this block.
        for record in guard.end(measured)? {
            journal.append(&record)?;
            if let Record::Sample { ns, .. } = record {
                samples_ns.push(ns as f64);
            }
        }
        let PlannedCell { cell, files, .. } = &self.cells[index];
        let specs = specs_of(self.bench.layers_of(&cell.stack())?, &cell.params, *files);
        checked::settle_after(self.bench, &cell.params, specs)?;
        Ok(samples_ns)
    }

    /// The samples and metrics of a cell; every call into the mount is here.
    fn records_of(
        &self,
        index: usize,
        block: u32,
        view: &View,
        home: &Path,
        guard: &Guard<'_>,
    ) -> Result<Vec<Record>> {
        let PlannedCell { cell, files, .. } = &self.cells[index];
        let model = known_model(&cell.params)?;
        let layers = self.bench.layers_of(&cell.stack())?;
        let root = openat(rustix::fs::CWD, &view.root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.at("open", &view.root)?;
        let imported = self.bench.import_of(&cell.stack())?;
        let mounting = Mounting { driver: known(&cell.driver)?, options: &cell.options, imported, home };
        let (pattern, params) = (&self.bench.pattern, &cell.params);
        let interrupt = self.interrupt;
        let bed = Bed { view, root, layers, pattern, params, block, mounting, interrupt };
        let specs = specs_of(layers, params, *files);
        let sampled = self.sample_clean(index, &bed, model, specs, guard);
        if sampled.is_err() {
            // A driver that fails may leave files in a layer, which the others must not meet.
            checked::remove_strays(&bed, model, specs);
        }
        let mut records = sampled?;
        guard.step();
        let record = |(metric, value)| Record::Metric { cell: index, block, metric, value };
        records.extend(metrics_of(&bed, model, specs).map(record));
        Ok(records)
    }

    /// Makes the files of a cold sample cold; returns their resident share, in thousandths.
    fn chill(&self, bed: &Bed<'_>, model: &dyn Model, file: &FileSpec) -> Result<Option<u64>> {
        if bed.params.cache != Cache::Cold {
            return Ok(None);
        }
        self.bench.backing(&bed.params.backing)?.cool()?;
        let paths = bed.read_by(model.lower(), file);
        let resident = self.bench.cooling.chill(&paths)?;
        Ok((!paths.is_empty()).then_some(resident))
    }

    /// Prepares, samples and checks; only the samples are timed, one right after the other.
    fn sample_clean(
        &self,
        cell: usize,
        bed: &Bed<'_>,
        model: &dyn Model,
        specs: &[FileSpec],
        guard: &Guard<'_>,
    ) -> Result<Vec<Record>> {
        let block = bed.block;
        let before = checked::prepare(bed, model, specs)?;
        let taken = self.take(cell, bed, model, specs, guard)?;
        guard.step();
        let whole = self.check_all || block == 0;
        checked::check(bed, model, specs, before, whole)?;
        let mut records = Vec::with_capacity(taken.len());
        for (file, Taken { timing, involuntary_switches, response_ns }) in (0..).zip(taken) {
            let (ns, open_ns) = (timing.elapsed_ns, timing.open_ns);
            records.push(Record::Sample {
                cell,
                block,
                file,
                ns,
                open_ns,
                involuntary_switches,
                response_ns,
            });
            let metrics = timing.metrics.into_iter();
            records.extend(metrics.map(|(metric, value)| Record::Metric { cell, block, metric, value }));
        }
        Ok(records)
    }

    /// Takes one sample after the other.
    fn take(
        &self,
        cell: usize,
        bed: &Bed<'_>,
        model: &dyn Model,
        specs: &[FileSpec],
        guard: &Guard<'_>,
    ) -> Result<Vec<Taken>> {
        let mut taken = Vec::with_capacity(specs.len());
        let rate = self.rate_per_s.filter(|_| is_in_open_loop(model, bed.params.cache));
        let arrivals = rate.map(|rate| Arrivals::start(self.seed, bed.block, cell, rate, specs.len()));
        for (index, file) in specs.iter().enumerate() {
            self.interrupt.check()?;
            let resident = self.chill(bed, model, file)?;
            guard.step();
            if let Some(arrivals) = &arrivals {
                arrivals.wait(index);
            }
            let before = involuntary_switches();
            let late_ns = arrivals.as_ref().map(|it| it.late_ns(index));
            let mut timing = model.sample(bed, file)?;
            let switches = involuntary_switches().saturating_sub(before);
            timing.metrics.extend(resident.map(|it| (Metric::ResidentShare, it)));
            let response_ns = late_ns.map(|it| it.saturating_add(timing.elapsed_ns));
            let involuntary_switches = u32::try_from(switches).unwrap_or(u32::MAX);
            taken.push(Taken { timing, involuntary_switches, response_ns });
        }
        Ok(taken)
    }

    /// Unmounts all; a server that does not end in order fails the cells of its stack.
    fn close_all(&mut self, block: u32, views: &mut Views, journal: &mut Journal) -> Result<()> {
        for (stack, (view, home)) in views {
            let guard = self.bench.watchdog.guard(home, Limits::chosen().mount);
            if let Err(error) = guard.end(view.close()) {
                let of_stack = |it: &usize| self.cells[*it].cell.stack() == *stack;
                for cell in (0..self.cells.len()).filter(of_stack).collect::<Vec<_>>() {
                    self.fail(cell, block, &error, journal)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether samples can be due at a time: single operations, but cold ones not, for which the bench itself makes the
/// caches cold right before each, for longer than most of them take.
fn is_in_open_loop(model: &dyn Model, cache: Cache) -> bool {
    model.is_single_operation() && cache != Cache::Cold
}

/// Where a stack is mounted after its server at `home` has ended: `3.1`, then `3.2`, since it may end again.
fn next_home(home: &Path) -> PathBuf {
    let mounted: u32 = home.extension().and_then(|it| it.to_str()?.parse().ok()).unwrap_or(0);
    home.with_extension(mounted.saturating_add(1).to_string())
}

/// The files that a cell takes.
fn specs_of<'a>(layers: &'a LayerStack, params: &Params, files: u32) -> &'a [FileSpec] {
    let specs = layers.files.get(params).map(Vec::as_slice).unwrap_or_default();
    &specs[..specs.len().min(files as usize)]
}

/// What is known of a cell besides its samples.
fn metrics_of<'a>(
    bed: &'a Bed<'_>,
    model: &'a dyn Model,
    specs: &'a [FileSpec],
) -> impl Iterator<Item = (Metric, u64)> + 'a {
    let upper = specs.last().and_then(|file| model.upper_bytes(bed, file)).map(|it| (Metric::Upper, it));
    let other = match model.name() {
        "copy-up" | "chmod" => bed.view.server_rss_bytes().map(|it| (Metric::ServerRss, it)),
        "mount" => Some((Metric::Tree, bed.layers.tree_bytes)),
        _ => None,
    };
    upper.into_iter().chain(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    #[test]
    fn an_open_loop_charges_no_driver_with_what_the_bench_does() {
        for (name, cache, expected) in [
            ("copy-up", Cache::Fresh, true),
            ("lookup", Cache::Hot, true),
            ("copy-up", Cache::Cold, false),
            ("walk", Cache::Fresh, false),
        ] {
            let model = model::by_name(name).unwrap();
            assert_eq!(is_in_open_loop(model, cache), expected, "{name} {}", cache.as_str());
        }
    }

    #[test]
    fn a_server_may_end_more_than_once_in_a_block() {
        let homes = std::iter::successors(Some(PathBuf::from("/s.x/b0/3")), |it| Some(next_home(it)));
        let homes: Vec<PathBuf> = homes.take(4).collect();
        assert_eq!(homes, ["/s.x/b0/3", "/s.x/b0/3.1", "/s.x/b0/3.2", "/s.x/b0/3.3"].map(PathBuf::from));
    }
}
