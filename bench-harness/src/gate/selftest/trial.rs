//! Trial gates: the real loop and the real rules over times that nobody measured.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use serde::Serialize;

use super::check::Share;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::gate::coin::Coin;
use crate::gate::decide::{Decider, Rules, Verdict};
use crate::gate::interleave::{Arm, Arms, Draw, run};

/// Where the times of a trial come from; both arms draw from it in the order in which they are measured.
pub trait Source {
    /// New processes for both arms.
    fn respawn(&mut self);

    /// The next time of `cell`, in ns, before anything is injected.
    fn next_ns(&mut self, cell: usize, arm: Arm) -> f64;
}

/// Which cells of head are slower than base.
#[derive(Debug, Clone, Copy)]
pub enum SlowDown {
    /// None: head is base.
    No,
    /// One by this factor, another one in each trial.
    OneCell(f64),
    /// All by this factor.
    AllCells(f64),
}

/// A kind of trial.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Rules of the gate.
    pub rules: Rules,
    /// Number of cells.
    pub n_cells: usize,
    /// What is injected.
    pub slow_down: SlowDown,
    /// How much longer the second of a pair takes, as a factor.
    pub second: f64,
    /// What is broken.
    pub fault: Fault,
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    No,
    /// Base goes first in every pair.
    NoCoin,
    /// Head's times are taken for those of base.
    SwappedArms,
    /// Head fails at its sample of this number.
    HeadFails(u64),
}

impl Setup {
    /// Head is base, and nothing is broken.
    pub fn same(n_cells: usize) -> Self {
        Self { rules: Rules::default(), n_cells, slow_down: SlowDown::No, second: 1.0, fault: Fault::No }
    }

    /// The same with `slow_down`.
    pub fn slowed(n_cells: usize, slow_down: SlowDown) -> Self {
        Self { slow_down, ..Self::same(n_cells) }
    }

    fn factor(&self, trial: u64, cell: usize) -> f64 {
        match self.slow_down {
            SlowDown::OneCell(factor) if cell as u64 == trial % self.n_cells as u64 => factor,
            SlowDown::AllCells(factor) => factor,
            SlowDown::No | SlowDown::OneCell(_) => 1.0,
        }
    }
}

/// The arms of a trial.
struct TrialArms<'a, S> {
    source: S,
    setup: &'a Setup,
    trial: u64,
    n_samples: u64,
    n_head: u64,
}

impl<S: Source> Arms for TrialArms<'_, S> {
    type Error = BenchError;

    fn start_block(&mut self, _: u32, _: &[usize]) -> Result<()> {
        self.source.respawn();
        Ok(())
    }

    fn sample_ns(&mut self, cell: usize, arm: Arm) -> Result<u64> {
        let truly = if self.setup.fault == Fault::SwappedArms { arm.other() } else { arm };
        let mut ns = self.source.next_ns(cell, truly);
        if truly == Arm::Head {
            self.n_head += 1;
            ns *= self.setup.factor(self.trial, cell);
            if self.setup.fault == Fault::HeadFails(self.n_head) {
                let kind = BenchErrorKind::Incorrect("a fault of the self-test".to_owned());
                return Err(BenchError::new("measure", "head", kind));
            }
        }
        if self.n_samples % 2 == 1 {
            ns *= self.setup.second;
        }
        self.n_samples += 1;
        Ok(ns.round().max(1.0) as u64)
    }

    fn end_block(&mut self, _: &Decider) -> Result<()> {
        Ok(())
    }
}

/// A coin, or base always first.
struct Tosser {
    coin: Coin,
    fault: Fault,
}

impl Draw for Tosser {
    fn cells(&self, block: u32, n_cells: usize) -> Vec<usize> {
        self.coin.cells(block, n_cells)
    }

    fn first(&self, block: u32, cell: usize, n_pairs: u32) -> Vec<Arm> {
        match self.fault {
            Fault::NoCoin => vec![Arm::Base; n_pairs as usize],
            _ => self.coin.first(block, cell, n_pairs),
        }
    }
}

/// Verdicts of many trials, and what they took in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Gates that passed.
    pub pass: u64,
    /// Gates that failed.
    pub fail: u64,
    /// Gates that could not tell.
    pub inconclusive: u64,
    /// Blocks.
    pub blocks: u64,
    /// Samples of both arms.
    pub samples: u64,
}

impl Tally {
    /// Trials.
    pub fn n(&self) -> u64 {
        self.pass + self.fail + self.inconclusive
    }

    /// Share of PASS.
    pub fn passed(&self) -> Share {
        Share::new(self.pass, self.n())
    }

    /// Share of FAIL.
    pub fn failed(&self) -> Share {
        Share::new(self.fail, self.n())
    }

    /// Blocks until the verdict, on the average.
    pub fn blocks_mean(&self) -> f64 {
        self.blocks as f64 / self.n().max(1) as f64
    }

    /// Samples of both arms, on the average.
    pub fn samples_mean(&self) -> f64 {
        self.samples as f64 / self.n().max(1) as f64
    }

    fn add(self, other: Self) -> Self {
        Self {
            pass: self.pass + other.pass,
            fail: self.fail + other.fail,
            inconclusive: self.inconclusive + other.inconclusive,
            blocks: self.blocks + other.blocks,
            samples: self.samples + other.samples,
        }
    }
}

/// Plays `n` gates of `setup`, each with a seed of its own, from which `source` makes its times.
///
/// # Errors
///
/// A gate that ended without a verdict.
pub fn tally<S: Source>(setup: &Setup, seed: u64, n: u64, source: impl Fn(u64) -> S + Sync) -> Result<Tally> {
    let one = |trial: u64| play(setup, seed, trial, &source);
    (0..n).into_par_iter().map(one).try_reduce(Tally::default, |sum, it| Ok(sum.add(it)))
}

/// Plays the gate number `trial`.
///
/// # Errors
///
/// It ended without a verdict.
pub fn play<S: Source>(setup: &Setup, seed: u64, trial: u64, source: impl Fn(u64) -> S) -> Result<Tally> {
    let refused = |why| BenchError::new("plan", "gate", BenchErrorKind::Config(why));
    let mut decider = Decider::new(setup.rules.clone(), setup.n_cells).map_err(refused)?;
    let seed = trial_seed(seed, trial);
    let mut arms = TrialArms { source: source(seed), setup, trial, n_samples: 0, n_head: 0 };
    let verdict = run(&mut arms, &Tosser { coin: Coin::new(seed), fault: setup.fault }, &mut decider)?;
    let one_if = |wanted| u64::from(verdict == wanted);
    Ok(Tally {
        pass: one_if(Verdict::Pass),
        fail: one_if(Verdict::Fail),
        inconclusive: one_if(Verdict::Inconclusive),
        blocks: u64::from(decider.n_blocks()),
        samples: arms.n_samples,
    })
}

/// The seed of a trial: the first number of a stream of its own.
fn trial_seed(seed: u64, trial: u64) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(trial);
    rng.next_u64()
}
