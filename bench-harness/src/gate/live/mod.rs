//! A gate with real mounts: two arms, one after the other on the same machine, by the toss of a coin.
//!
//! ```text
//! block: both arms mounted anew ─► each open cell, in an order of its own
//!   ─► each pair: one file, sampled through the one arm and then the other ─► results checked
//!   ─► pairs.jsonl ─► at a look: judged
//! ```

mod lanes;
mod worker;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::arm::ArmSpec;
use super::coin::Coin;
use super::decide::{Decider, Rules, Verdict};
use super::inject::Inject;
use super::interleave;
use super::record::{
    CellLook, Ending, GateCell, GateRecord, Header, PairsFile, Record, SCHEMA, Skipped, Stage,
};
use crate::cell::{Cache, Cell, Params};
use crate::driver;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::host::HostFacts;
use crate::matrix::expand::PlannedCell;
use crate::run::bench::{Bench, known_model};
use crate::run::interrupt::Interrupt;
use lanes::Ground;
use worker::{Stop, Worker};

/// What to gate.
#[derive(Debug)]
pub struct Plan {
    /// Name of the matrix.
    pub matrix: String,
    /// Its cells that are wanted.
    pub cells: Vec<Params>,
    /// What head is compared with.
    pub base: ArmSpec,
    /// What is judged.
    pub head: ArmSpec,
    /// Margin, limit, pairs and looks.
    pub rules: Rules,
    /// Seed of the coin and of all orders.
    pub seed: u64,
    /// Where layers and branches go.
    pub scratch: PathBuf,
    /// Time for the whole gate.
    pub budget: Duration,
    /// A slow-down of head made on purpose.
    pub inject: Option<Inject>,
    /// Whether slower cells are measured once more.
    pub confirm: bool,
}

/// What a caller may want to show while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something begins.
    Stage(&'a str),
    /// A block is whole.
    Block {
        /// Blocks so far.
        n_blocks: u32,
        /// Blocks of the next look.
        next_look: u32,
        /// Cells that are still measured.
        n_open: usize,
        /// How long the block took.
        elapsed: Duration,
    },
    /// The cells were judged.
    Look {
        /// What for.
        stage: Stage,
        /// The cells.
        cells: &'a [GateCell],
        /// Their judgements.
        judged: &'a [CellLook],
    },
}

/// Takes events.
pub type Tell<'a> = dyn FnMut(Event<'_>) + 'a;

/// Gates `plan` into the directory `out`, which must not hold a gate.
///
/// # Errors
///
/// - `Config`: rules that can never decide, or an `out` that holds a gate.
/// - `Refused`: an arm cannot run here.
/// - any I/O error before the first block. What goes wrong from there on is an [`Ending`].
pub fn run(plan: &Plan, out: &Path, interrupt: &Interrupt, tell: &mut Tell<'_>) -> Result<GateRecord> {
    let deadline = Instant::now() + plan.budget;
    let arms = [plan.base.resolve()?, plan.head.resolve()?];
    let (cells, skips) = gated(plan)?;
    let decider = Decider::new(plan.rules.clone(), cells.len())
        .map_err(|what| BenchError::new("use rules", &plan.matrix, BenchErrorKind::Config(what)))?;
    let planned = planned(&arms, &cells, plan.rules.pairs);
    let bench = Bench::open(&planned, &plan.scratch)?;
    interrupt.note_scratch(bench.scratch());
    tell(Event::Stage("trying both arms"));
    probe(&arms, &bench, interrupt)?;
    let mut host = HostFacts::read(plan.seed, &plan.matrix)?;
    host.backings = bench.backings.values().map(|it| it.facts.clone()).collect();
    let (base, head) = (arms[0].facts()?, arms[1].facts()?);
    let inject = plan.inject.as_ref().map(ToString::to_string);
    let header = Header { schema: SCHEMA, host, base, head, rules: plan.rules.clone(), cells, skips, inject };
    let mut file = PairsFile::create(out, &header)?;
    tell(Event::Stage("building layers"));
    let ground = Ground::build(bench, &arms, &planned, interrupt);
    let gated = ground.map_err(Stop::from).and_then(|ground| {
        let mut worker = Worker::new(&ground, &header, plan, &mut file, interrupt, deadline, tell);
        let verdict = judge(&mut worker, decider, plan)?;
        ground.bench.layers.values().try_for_each(|it| it.check_unchanged(&ground.bench.pattern))?;
        Ok(verdict)
    });
    let ending = gated.unwrap_or_else(|stop| stop.ending(interrupt, &mut file));
    file.append(&Record::End { ending }).and_then(|()| file.flush())?;
    GateRecord::load(out)
}

/// Measures until there is a verdict, and confirms it where that is wanted.
fn judge(worker: &mut Worker<'_, '_>, mut decider: Decider, plan: &Plan) -> Result<Ending, Stop> {
    let verdict = interleave::run(worker, &Coin::new(plan.seed), &mut decider)?;
    match verdict {
        Verdict::Pass => return Ok(Ending::Pass),
        Verdict::Inconclusive => return Ok(Ending::Inconclusive),
        Verdict::Fail if !plan.confirm => return Ok(Ending::Fail),
        Verdict::Fail => {}
    }
    let slower = decider.slower();
    let wrong = |what| BenchError::new("use rules", "--confirm", BenchErrorKind::Config(what));
    let mut again = Decider::new(plan.rules.confirming(), slower.len()).map_err(wrong)?;
    worker.confirm(slower, decider.n_blocks());
    // Another seed, since the same tosses would not be fresh ones.
    match interleave::run(worker, &Coin::new(!plan.seed), &mut again) {
        // The level of the verdict needs no confirmation; what there is no time for takes nothing from it.
        Err(Stop::Budget) => Ok(Ending::Fail),
        Ok(Verdict::Fail) => Ok(Ending::Fail),
        Ok(_) => Ok(Ending::Unconfirmed),
        Err(stop) => Err(stop),
    }
}

/// The cells that say something about both drivers; and the others, with the reason.
fn gated(plan: &Plan) -> Result<(Vec<GateCell>, Vec<Skipped>)> {
    let (mut cells, mut skips) = (Vec::new(), Vec::new());
    for params in &plan.cells {
        let (model, name) = (known_model(params)?, params.name());
        let refusal = [&plan.base, &plan.head].into_iter().find_map(|arm| model.refuses(arm.driver));
        let is_cold = params.cache == Cache::Cold;
        let refusal = refusal.or(is_cold.then_some("the gate makes nothing cold"));
        match refusal {
            Some(reason) => skips.push(Skipped { name, reason: reason.to_owned() }),
            None => cells.push(GateCell { name, params: params.clone() }),
        }
    }
    if let Some(inject) = &plan.inject {
        check_hits(inject, &cells, &plan.matrix)?;
    }
    if cells.is_empty() {
        let reasons: Vec<String> = skips.iter().map(|it| format!("{}: {}", it.name, it.reason)).collect();
        let kind = BenchErrorKind::Refused(format!("no cell is left; {}", reasons.join("; ")));
        return Err(BenchError::new("gate", &plan.matrix, kind));
    }
    Ok((cells, skips))
}

/// Refuses a slow-down that would change nothing.
fn check_hits(inject: &Inject, cells: &[GateCell], matrix: &str) -> Result<()> {
    for cell in cells {
        if inject.hits(&cell.name, known_model(&cell.params)?) {
            return Ok(());
        }
    }
    let kind = BenchErrorKind::Config(format!("{inject} hits no {}", inject.target()));
    Err(BenchError::new("slow down", matrix, kind))
}

/// The cells of both arms, with a file for each pair.
fn planned(arms: &[ArmSpec; 2], cells: &[GateCell], pairs: u32) -> Vec<PlannedCell> {
    let both = arms.iter().flat_map(|arm| cells.iter().map(move |cell| (arm.subject(), cell)));
    let planned = both.map(|(subject, cell)| PlannedCell {
        cell: Cell { driver: subject.driver, options: subject.options, params: cell.params.clone() },
        files: pairs,
        blocks: u32::MAX,
    });
    planned.collect()
}

/// Tries each arm on each backing.
///
/// What hangs or is wrong is so here as in a block; what else fails cannot run on this host.
fn probe(arms: &[ArmSpec; 2], bench: &Bench, interrupt: &Interrupt) -> Result<()> {
    for arm in arms {
        for backing in bench.backings.values() {
            let refused = |what: String| {
                let what = format!("{what} (on {})", backing.facts.name);
                BenchError::new("use arm", arm.subject().label(), BenchErrorKind::Refused(what))
            };
            interrupt.check()?;
            if arm.program.is_none() {
                arm.driver.needs(&arm.options).map_err(refused)?;
            }
            let tried = driver::trial(arm.driver, &arm.options, arm.program.as_deref(), &backing.dir);
            interrupt.check()?;
            tried.map_err(|error| match error.kind {
                BenchErrorKind::TimedOut(_) | BenchErrorKind::Incorrect(_) => error,
                BenchErrorKind::Refused(reason) => refused(reason),
                _ => refused(error.line()),
            })?;
        }
    }
    Ok(())
}
