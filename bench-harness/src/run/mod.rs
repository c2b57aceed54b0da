//! Runs: from a matrix to samples on disk.

pub mod bench;
pub mod block;
pub mod budget;
pub mod checked;
pub mod interrupt;
pub mod journal;
pub mod progress;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::driver::command as described;
use crate::error::{At as _, BenchError, BenchErrorKind, Exit, Result};
use crate::host::{HostFacts, steal_ticks, ticks_per_second};
use crate::matrix::expand::PlannedCell;
use crate::model::is_yardstick;
use bench::{Bench, Feasible};
use block::Blocks;
use budget::Budget;
use interrupt::Interrupt;
use journal::{Ending, Header, Journal, Origin, Record, RunRecord, SCHEMA};
use progress::Progress;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the matrix.
    pub matrix: String,
    /// All cells, whether they can be measured here or not.
    pub cells: Vec<PlannedCell>,
    /// What the budget is too short for, in words.
    pub cuts: Vec<String>,
    /// The built-in goals to judge, if any.
    pub goals: Option<String>,
    /// Most blocks.
    pub blocks_max: u32,
    /// Time for the whole run.
    pub budget: Duration,
    /// Seed of the order.
    pub seed: u64,
    /// Where layers and branches go.
    pub scratch: PathBuf,
    /// Name of the host in titles, if not its own.
    pub label: Option<String>,
    /// Compare files of any length whole in each block.
    pub check_all: bool,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What is on disk now.
    pub record: RunRecord,
    /// What the program should exit with.
    pub exit: Exit,
}

/// Part of the budget that is kept for the last check and the report.
const CLOSING: f64 = 0.06;

/// Runs `plan` into the directory `out`, which must not hold a run.
///
/// # Errors
///
/// Nothing can run here, `out` cannot be written, or a layer was changed by a driver.
pub fn start(plan: &Plan, out: &Path, interrupt: &Interrupt) -> Result<Outcome> {
    let deadline = Instant::now() + plan.budget.mul_f64(1.0 - CLOSING);
    fs::create_dir_all(out).at("create", out)?;
    let progress = Progress::start(plan.cells.len(), deadline);
    progress.stage("trying drivers");
    let bench = Bench::open(&plan.cells, &plan.scratch)?;
    let Feasible { cells, skips } = bench.feasible(&plan.cells, interrupt)?;
    if !cells.iter().any(is_wanted) && plan.cells.iter().any(is_wanted) {
        let reasons: Vec<String> =
            skips.iter().map(|it| format!("{}: {}", it.subject.label(), it.reason)).collect();
        let kind = BenchErrorKind::Refused(format!("nothing can run here: {}", reasons.join("; ")));
        return Err(BenchError::new("run", &plan.matrix, kind));
    }
    let mut host = HostFacts::read(plan.seed, &plan.matrix)?;
    host.label = plan.label.clone().unwrap_or(host.label);
    host.backings = bench.backings.values().map(|it| it.facts.clone()).collect();
    let (cuts, goals) = (plan.cuts.clone(), plan.goals.clone());
    let command = std::env::args().skip(1).collect();
    let names: Vec<&str> = plan.cells.iter().map(|it| it.cell.driver.as_str()).collect();
    let origin = Origin { commands: described::definitions_of(&names) };
    let blocks_max = plan.blocks_max;
    let header = Header { schema: SCHEMA, host, blocks_max, cells, skips, cuts, goals, command, origin };
    let journal = Journal::create(out, &header)?;
    let budget = Budget::new(deadline, plan.blocks_max);
    let (failed, check_all) = (BTreeSet::new(), plan.check_all);
    Runner { bench, header, journal, budget, progress, interrupt, failed, check_all }.go(0)?;
    outcome(out)
}

/// Continues the run in `out` with its own cells and seed, for `budget` more.
///
/// # Errors
///
/// There is no run, or as [`start`].
pub fn resume(out: &Path, scratch: &Path, budget: Duration, interrupt: &Interrupt) -> Result<Outcome> {
    let deadline = Instant::now() + budget.mul_f64(1.0 - CLOSING);
    let record = RunRecord::load(out)?;
    let (header, done) = (record.header.clone(), record.n_complete());
    for definition in &header.origin.commands {
        let config =
            |what| BenchError::new("describe driver", &definition.name, BenchErrorKind::Config(what));
        described::register(definition).map_err(config)?;
    }
    let progress = Progress::start(header.cells.len(), deadline);
    let bench = Bench::open(&header.cells, scratch)?;
    let journal = Journal::reopen(out)?;
    let budget = Budget::new(deadline, header.blocks_max);
    let (failed, check_all) = (record.errors().into_keys().collect(), false);
    Runner { bench, header, journal, budget, progress, interrupt, failed, check_all }.go(done)?;
    outcome(out)
}

/// Whether somebody asked for the cell; nobody asks for yardsticks.
fn is_wanted(planned: &PlannedCell) -> bool {
    !is_yardstick(&planned.cell.params.model)
}

fn outcome(out: &Path) -> Result<Outcome> {
    let record = RunRecord::load(out)?;
    let exit = match record.ending {
        Some(Ending::Interrupted) => Exit::Interrupted,
        _ if !record.errors().is_empty() || record.layers_unchanged == Some(false) => Exit::Incorrect,
        _ => Exit::Success,
    };
    Ok(Outcome { record, exit })
}

/// A run that is under way.
struct Runner<'a> {
    bench: Bench,
    header: Header,
    journal: Journal,
    budget: Budget,
    progress: Progress,
    interrupt: &'a Interrupt,
    /// Cells that failed before.
    failed: BTreeSet<usize>,
    check_all: bool,
}

impl Runner<'_> {
    /// Builds, measures blocks from number `done` on, checks the layers, and writes the end.
    fn go(mut self, done: u32) -> Result<()> {
        self.progress.stage("building layers");
        let measured = match self.bench.build(&self.header.cells, self.interrupt) {
            Ok(()) => self.measure_blocks(done),
            Err(error) => Err(error),
        };
        self.progress.finish();
        let ending = match measured {
            Ok(ending) => ending,
            Err(BenchError { kind: BenchErrorKind::Interrupted, .. }) => Ending::Interrupted,
            Err(error) => return Err(error),
        };
        let bench = &self.bench;
        let changed = bench.layers.values().find_map(|it| it.check_unchanged(&bench.pattern).err());
        if let Some(error) = &changed {
            tracing::error!(error = error.line(), "a layer was changed");
        }
        self.journal.append(&Record::End { ending, layers_unchanged: changed.is_none() })?;
        self.journal.flush()
    }

    fn measure_blocks(&mut self, done: u32) -> Result<Ending> {
        let (cells, seed) = (&self.header.cells, self.header.host.seed);
        let (bench, interrupt, check_all) = (&self.bench, self.interrupt, self.check_all);
        let failed = std::mem::take(&mut self.failed);
        let mut blocks = Blocks { bench, cells, seed, interrupt, failed, check_all };
        for block in done.. {
            let planned = self.budget.planned(block, Instant::now());
            if planned <= block {
                let all = self.header.blocks_max <= block;
                return Ok(if all { Ending::Complete } else { Ending::Budget });
            }
            self.progress.plan(block, planned, self.budget.block_time());
            let (start, steal) = (Instant::now(), steal_ticks());
            blocks.measure(block, &mut self.journal, &self.progress)?;
            self.budget.took(start.elapsed());
            let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let steal_ms = steal_ticks().saturating_sub(steal) * 1000 / ticks_per_second().max(1);
            self.journal.append(&Record::BlockEnd { block, elapsed_ms, steal_ms })?;
            self.journal.flush()?;
        }
        Ok(Ending::Complete)
    }
}
