//! Runs a gate: blocks of interleaved pairs, until the rules have decided.
//!
//! Whatever measures is an [`Arms`]: workers with real mounts, or a simulation.
//! Whatever draws is a [`Draw`]: the [`Coin`](super::coin::Coin), or what a
//! self-test puts in its place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decide::{Decider, Verdict, block_value};

/// One of the two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// What it is compared with.
    Base,
    /// What is judged.
    Head,
}

impl Arm {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Base => Self::Head,
            Self::Head => Self::Base,
        }
    }
}

/// Both arms, ready to be timed in any cell.
pub trait Arms {
    /// Why a sample could not be taken; it ends the gate.
    type Error;

    /// Prepares `block`, whose cells still measured are `open`, in the order they will come: new workers, new branches.
    ///
    /// # Errors
    ///
    /// Whatever ends the gate, an interrupt too.
    fn start_block(&mut self, block: u32, open: &[usize]) -> Result<(), Self::Error>;

    /// Takes the next sample of `arm` in `cell`, in ns.
    ///
    /// # Errors
    ///
    /// The sample failed or its result was wrong; it is never left out.
    fn sample_ns(&mut self, cell: usize, arm: Arm) -> Result<u64, Self::Error>;

    /// Ends a block; `decider` knows it, and was asked for a verdict where a look was due.
    ///
    /// # Errors
    ///
    /// Whatever ends the gate.
    fn end_block(&mut self, decider: &Decider) -> Result<(), Self::Error>;
}

/// What is left to chance.
pub trait Draw {
    /// The order of all cells in `block`.
    fn cells(&self, block: u32, n_cells: usize) -> Vec<usize>;

    /// Which arm goes first, for each pair of `cell` in `block`.
    fn first(&self, block: u32, cell: usize, n_pairs: u32) -> Vec<Arm>;
}

/// Measures block after block until there is a verdict; what was found is in `decider`.
///
/// # Errors
///
/// The first error of `arms`: a gate with a failed sample has no verdict.
pub fn run<A: Arms>(arms: &mut A, draw: &impl Draw, decider: &mut Decider) -> Result<Verdict, A::Error> {
    loop {
        if let Some(verdict) = decider.verdict() {
            return Ok(verdict);
        }
        let block = decider.n_blocks();
        let mut open = draw.cells(block, decider.judgements().len());
        open.retain(|cell| decider.is_open(*cell));
        arms.start_block(block, &open)?;
        let mut values = BTreeMap::new();
        for cell in open {
            let pairs = measure(arms, cell, &draw.first(block, cell, decider.rules().pairs))?;
            values.extend(block_value(&pairs).map(|it| (cell, it)));
        }
        decider.push_block(&values);
        if decider.look_due() {
            decider.look();
        }
        arms.end_block(decider)?;
    }
}

/// One pair for each of `first`, as (base, head) whichever was measured first.
fn measure<A: Arms>(arms: &mut A, cell: usize, first: &[Arm]) -> Result<Vec<(u64, u64)>, A::Error> {
    let mut pair = |first: &Arm| {
        let earlier = arms.sample_ns(cell, *first)?;
        let later = arms.sample_ns(cell, first.other())?;
        Ok(if *first == Arm::Base { (earlier, later) } else { (later, earlier) })
    };
    first.iter().map(&mut pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::coin::Coin;
    use super::super::decide::{CellState, Rules};
    use super::*;

    /// Block, cell and arm of a sample.
    type Asked = (u32, usize, Arm);

    /// Arms of constant time, cell 1 slower in head; keeps what it was asked, and fails at sample `fail_at`.
    struct Recorder {
        asked: Vec<Asked>,
        block: u32,
        fail_at: usize,
    }

    impl Arms for Recorder {
        type Error = String;

        fn start_block(&mut self, block: u32, _: &[usize]) -> Result<(), String> {
            self.block = block;
            Ok(())
        }

        fn sample_ns(&mut self, cell: usize, arm: Arm) -> Result<u64, String> {
            self.asked.push((self.block, cell, arm));
            if self.asked.len() == self.fail_at {
                return Err("gone".to_owned());
            }
            Ok(if arm == Arm::Head && cell == 1 { 1100 } else { 1000 })
        }

        fn end_block(&mut self, decider: &Decider) -> Result<(), String> {
            assert_eq!(decider.n_blocks(), self.block + 1);
            Ok(())
        }
    }

    fn gate(seed: u64, fail_at: usize) -> (Result<Verdict, String>, Vec<Asked>, Decider) {
        let mut arms = Recorder { asked: Vec::new(), block: 0, fail_at };
        let mut decider = Decider::new(Rules::default(), 3).unwrap();
        let verdict = run(&mut arms, &Coin::new(seed), &mut decider);
        (verdict, arms.asked, decider)
    }

    #[test]
    fn blocks_are_complete_and_follow_the_coin() {
        let (verdict, asked, decider) = gate(7, 0);
        assert_eq!(verdict, Ok(Verdict::Fail));
        assert_eq!(asked.len(), 20 * 3 * 16, "twenty blocks of three cells and eight pairs");
        assert_eq!(decider.judgements()[1].state, CellState::Slower);
        assert!((decider.judgements()[1].estimate - 1.1_f64.ln()).abs() < 1e-12);
        for (sample, asked) in asked.chunks(16).enumerate() {
            let (block, cell) = ((sample / 3) as u32, Coin::new(7).cells((sample / 3) as u32, 3)[sample % 3]);
            let tosses = Coin::new(7).first(block, cell, 8);
            let expected = tosses.iter().flat_map(|it| [(block, cell, *it), (block, cell, it.other())]);
            assert!(asked.iter().copied().eq(expected), "block {block}, cell {cell}");
        }
        assert_eq!(gate(7, 0).1, asked, "the same seed, the same run");
        assert_ne!(gate(8, 0).1, asked);
    }

    #[test]
    fn a_failed_sample_is_no_verdict() {
        for fail_at in [1, 2, 17, 959] {
            let (verdict, asked, _) = gate(7, fail_at);
            assert_eq!(verdict, Err("gone".to_owned()));
            assert_eq!(asked.len(), fail_at, "nothing is measured after it");
        }
    }
}
