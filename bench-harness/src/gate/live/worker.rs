//! Takes the samples of a gate, and writes them down.

use std::time::{Duration, Instant};

use tracing::error;

use super::lanes::{Ground, Lanes, index_of};
use super::{Event, Plan, Tell};
use crate::cell::Params;
use crate::driver::Limits;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::gate::coin::Coin;
use crate::gate::decide::Decider;
use crate::gate::interleave::{Arm, Arms, Draw as _};
use crate::gate::record::{CellLook, Ending, GateCell, Header, Pair, PairsFile, Record, Stage};
use crate::host::{steal_ticks, ticks_per_second};
use crate::layers::FileSpec;
use crate::model::Bed;
use crate::run::bench::known_model;
use crate::run::checked::{self, Before};
use crate::run::interrupt::Interrupt;

/// The coin's stream for the lanes of a block; no cell has this number.
const LANES: usize = 0xffff_ffff;

/// Why a gate ends without a verdict.
#[derive(Debug)]
pub enum Stop {
    /// There is no time left.
    Budget,
    /// A sample or a mount failed, or a result was wrong.
    Failed {
        /// Index of the cell, where it was one's.
        cell: Option<usize>,
        /// The block.
        block: u32,
        /// What happened.
        error: BenchError,
    },
}

impl From<BenchError> for Stop {
    fn from(error: BenchError) -> Self {
        Self::Failed { cell: None, block: 0, error }
    }
}

impl Stop {
    /// The ending that this is; a failure is written to `file`.
    pub fn ending(self, interrupt: &Interrupt, file: &mut PairsFile) -> Ending {
        let (cell, block, error) = match self {
            Self::Budget => return Ending::Budget,
            // Whoever is stopped may be in the middle of a mount: what fails then, fails of that.
            Self::Failed { .. } if interrupt.check().is_err() => return Ending::Interrupted,
            Self::Failed { cell, block, error } => (cell, block, error),
        };
        if matches!(error.kind, BenchErrorKind::Interrupted) {
            return Ending::Interrupted;
        }
        let message = error.line();
        error!(message, "the gate failed");
        if let Err(error) = file.append(&Record::Error { cell, block, message }) {
            error!(error = error.line(), "the failure is not in the file");
        }
        Ending::Error
    }
}

/// A cell of the block under way.
#[derive(Debug)]
struct Running {
    /// Its index in the header.
    cell: usize,
    before: [Option<Before>; 2],
    taken_ns: [Vec<u64>; 2],
    firsts: Vec<Arm>,
}

/// See the module.
pub struct Worker<'a, 't> {
    ground: &'a Ground<'a>,
    header: &'a Header,
    plan: &'a Plan,
    file: &'a mut PairsFile,
    interrupt: &'a Interrupt,
    deadline: Instant,
    tell: &'a mut Tell<'t>,
    stage: Stage,
    /// The cells that the decider numbers, by their index in the header.
    cells: Vec<usize>,
    /// Blocks of earlier stages.
    n_before: u32,
    block: u32,
    started: Instant,
    steal: u64,
    lanes: Option<Lanes<'a>>,
    running: Option<Running>,
}

impl<'a, 't> Worker<'a, 't> {
    /// A worker that has done nothing yet.
    pub fn new(
        ground: &'a Ground<'a>,
        header: &'a Header,
        plan: &'a Plan,
        file: &'a mut PairsFile,
        interrupt: &'a Interrupt,
        deadline: Instant,
        tell: &'a mut Tell<'t>,
    ) -> Self {
        Self {
            ground,
            header,
            plan,
            file,
            interrupt,
            deadline,
            tell,
            stage: Stage::Gate,
            cells: (0..header.cells.len()).collect(),
            n_before: 0,
            block: 0,
            started: Instant::now(),
            steal: 0,
            lanes: None,
            running: None,
        }
    }

    /// From now on only `cells` are measured, after `n_before` blocks of all.
    pub fn confirm(&mut self, cells: Vec<usize>, n_before: u32) {
        (self.tell)(Event::Stage("measuring slower cells once more"));
        (self.stage, self.cells, self.n_before) = (Stage::Confirm, cells, n_before);
    }

    /// The error of `cell`, which no number is made of.
    fn failed(&self, cell: usize, error: BenchError) -> Stop {
        Stop::Failed { cell: Some(cell), block: self.block, error }
    }

    fn lanes(&self) -> Result<&Lanes<'a>> {
        let missing = || BenchErrorKind::Config("no block is under way".to_owned());
        self.lanes.as_ref().ok_or_else(|| BenchError::new("find", "mounts", missing()))
    }

    /// The files of `params`, one for each pair.
    fn files(&self, params: &Params) -> Result<&'a [FileSpec]> {
        let place = (params.backing.clone(), params.tree());
        let files = self.ground.bench.layers.get(&place).and_then(|it| it.files.get(params));
        let files = files.and_then(|it| it.get(..self.plan.rules.pairs as usize));
        let missing = || BenchErrorKind::Config("its layers have too few files".to_owned());
        files.ok_or_else(|| BenchError::new("find files of", params.name(), missing()))
    }

    /// Does what calls into the mount of `bed`, whose driver is ended when it does not answer.
    fn watched<T>(&self, bed: &Bed<'_>, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let guard = self.ground.bench.watchdog.guard(bed.mounting.home, Limits::chosen().sample);
        guard.end(call())
    }

    /// Makes the files of a cell ready on both arms.
    fn begin(&self, cell: usize) -> Result<Running> {
        let params = &self.header.cells[cell].params;
        let (model, files, lanes) = (known_model(params)?, self.files(params)?, self.lanes()?);
        let mut before = [None, None];
        for arm in [lanes.first, lanes.first.other()] {
            let bed = lanes.bed(arm, params)?;
            let prepared = self.watched(&bed, || checked::prepare(&bed, model, files))?;
            before[index_of(arm)] = Some(prepared);
        }
        Ok(Running { cell, before, taken_ns: Default::default(), firsts: Vec::new() })
    }

    /// One sample of `arm`, on the file of its next pair.
    fn sample(&self, running: &mut Running, arm: Arm) -> Result<u64> {
        let GateCell { name, params } = &self.header.cells[running.cell];
        let (own, other) = (index_of(arm), index_of(arm.other()));
        let pair = running.taken_ns[own].len();
        let missing = || BenchErrorKind::Config("more samples than files".to_owned());
        let file = self.files(params)?.get(pair).ok_or_else(|| BenchError::new("sample", name, missing()))?;
        if pair == running.taken_ns[other].len() {
            running.firsts.push(arm);
        }
        let bed = self.lanes()?.bed(arm, params)?;
        let model = known_model(params)?;
        let mut ns = self.watched(&bed, || model.sample(&bed, file))?.elapsed_ns;
        if let Some(inject) = self.plan.inject.as_ref().filter(|it| arm == Arm::Head && it.hits(name, model))
        {
            ns = self.watched(&bed, || inject.slow_down(&bed, file, ns))?;
        }
        if ns == 0 {
            let what = BenchErrorKind::Incorrect("the clock stood still".to_owned());
            return Err(BenchError::new("sample", name, what));
        }
        running.taken_ns[own].push(ns);
        Ok(ns)
    }

    /// Checks what a cell's samples did on both arms.
    fn check(&self, running: &mut Running) -> Result<()> {
        let params = &self.header.cells[running.cell].params;
        let (model, files, lanes) = (known_model(params)?, self.files(params)?, self.lanes()?);
        for arm in [lanes.first, lanes.first.other()] {
            let bed = lanes.bed(arm, params)?;
            if let Some(before) = running.before[index_of(arm)].take() {
                self.watched(&bed, || checked::check(&bed, model, files, before, self.block == 0))?;
            }
        }
        // Both arms have dirtied as much.
        let twice: Vec<FileSpec> = files.iter().chain(files).cloned().collect();
        checked::settle_after(&self.ground.bench, params, &twice)
    }

    /// Checks a cell whose samples are all taken, and only then writes them down.
    fn finish(&mut self, mut running: Running) -> Result<()> {
        self.check(&mut running)?;
        let (block, cell) = (self.block, running.cell);
        let [base, head] = &running.taken_ns;
        for (pair, ((base_ns, head_ns), first)) in (0..).zip(base.iter().zip(head).zip(running.firsts)) {
            let (base_ns, head_ns) = (*base_ns, *head_ns);
            self.file.append(&Record::Pair(Pair { block, cell, pair, first, base_ns, head_ns }))?;
        }
        Ok(())
    }

    fn look(&mut self, decider: &Decider) -> Result<()> {
        let numbered = |it: CellLook| CellLook { cell: self.cells[it.cell], ..it };
        let judged = decider.judgements().iter().map(|it| numbered(CellLook::of(it))).collect::<Vec<_>>();
        (self.tell)(Event::Look { stage: self.stage, cells: &self.header.cells, judged: &judged });
        self.file.append(&Record::Look { stage: self.stage, cells: judged })
    }
}

impl Arms for Worker<'_, '_> {
    type Error = Stop;

    fn start_block(&mut self, block: u32, open: &[usize]) -> Result<(), Stop> {
        self.interrupt.check()?;
        (self.started, self.steal, self.block) = (Instant::now(), steal_ticks(), self.n_before + block);
        let cells: Vec<&Params> = open.iter().map(|it| &self.header.cells[self.cells[*it]].params).collect();
        let first = Coin::new(self.plan.seed).first(self.block, LANES, 1).first().copied();
        let lanes = Lanes::mount(self.ground, self.block, first.unwrap_or(Arm::Base), &cells, self.interrupt);
        let block = self.block;
        self.lanes = Some(lanes.map_err(|error| Stop::Failed { cell: None, block, error })?);
        Ok(())
    }

    fn sample_ns(&mut self, cell: usize, arm: Arm) -> Result<u64, Stop> {
        self.interrupt.check()?;
        let cell = self.cells[cell];
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.begin(cell).map_err(|error| self.failed(cell, error))?,
        };
        let ns = self.sample(&mut running, arm).map_err(|error| self.failed(cell, error))?;
        let pairs = self.plan.rules.pairs as usize;
        if running.taken_ns.iter().all(|it| it.len() == pairs) {
            self.finish(running).map_err(|error| self.failed(cell, error))?;
        } else {
            self.running = Some(running);
        }
        Ok(ns)
    }

    fn end_block(&mut self, decider: &Decider) -> Result<(), Stop> {
        let block = self.block;
        let closed = self.lanes.take().map_or(Ok(()), Lanes::close);
        closed.map_err(|error| Stop::Failed { cell: None, block, error })?;
        let elapsed = self.started.elapsed();
        let steal_ms = steal_ticks().saturating_sub(self.steal) * 1000 / ticks_per_second().max(1);
        let (stage, elapsed_ms) = (self.stage, millis(elapsed));
        self.file.append(&Record::Block { block, stage, elapsed_ms, steal_ms })?;
        let looks = &decider.rules().looks;
        if looks.iter().any(|it| it.blocks == decider.n_blocks()) {
            self.look(decider)?;
        }
        self.file.flush()?;
        let (n_blocks, n_open) = (decider.n_blocks(), decider.open().count());
        let next_look = looks.iter().map(|it| it.blocks).find(|it| n_blocks <= *it).unwrap_or(n_blocks);
        (self.tell)(Event::Block { n_blocks, next_look, n_open, elapsed });
        if decider.verdict().is_none() && self.deadline < Instant::now() {
            return Err(Stop::Budget);
        }
        Ok(())
    }
}

impl Drop for Worker<'_, '_> {
    /// What a stray sample left in a layer goes with the layers; mounts end here, where nothing was ended in order.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.lanes.take().map(Lanes::close) {
            error!(error = error.line(), "a mount was not ended in order");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
