//! The coin of the gate: which arm goes first in a pair, which cell in a block.
//!
//! All of it is a function of one recorded seed, so a run can be repeated with
//! the same draws.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::interleave::{Arm, Draw};
use crate::matrix::expand::order;

/// Fair draws from a seed; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coin {
    seed: u64,
}

impl Coin {
    /// The coin of `seed`, which the caller records.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl Draw for Coin {
    /// Shuffles all cells, cleared or not, so that the order of a block depends on nothing that was measured.
    fn cells(&self, block: u32, n_cells: usize) -> Vec<usize> {
        order(self.seed, block, n_cells)
    }

    /// One bit for each pair, from a stream of its own for each block and cell.
    fn first(&self, block: u32, cell: usize, n_pairs: u32) -> Vec<Arm> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // `order` has the streams below 2³².
        rng.set_stream(((u64::from(block) + 1) << 32) | (cell as u64 & 0xffff_ffff));
        let toss = |_| if rng.next_u64() >> 63 == 0 { Arm::Base } else { Arm::Head };
        (0..n_pairs).map(toss).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let text = |seed, block, cell| -> String {
            let tosses = Coin::new(seed).first(block, cell, 16);
            tosses.iter().map(|it| if *it == Arm::Base { 'b' } else { 'h' }).collect()
        };
        assert_eq!(text(42, 3, 5), PINNED);
        let first = Coin::new(42);
        assert_eq!(first.cells(3, 8), order(42, 3, 8));
        let others = [text(43, 3, 5), text(42, 4, 5), text(42, 3, 6)];
        assert!(others.iter().all(|it| it != PINNED), "seed, block and cell each matter: {others:?}");
    }

    /// A recorded seed must mean the same draws for ever.
    const PINNED: &str = "hhbhhbbbhbbbhbhb";

    #[test]
    fn the_coin_is_fair_and_without_memory() {
        let tosses: Vec<bool> = (0..200_u32)
            .flat_map(|block| (0..12).flat_map(move |cell| Coin::new(1).first(block, cell, 8)))
            .map(|it| it == Arm::Head)
            .collect();
        let n = tosses.len() as f64;
        let heads = tosses.iter().filter(|it| **it).count() as f64;
        let repeats = tosses.windows(2).filter(|it| it[0] == it[1]).count() as f64;
        // Four standard deviations of a binomial; the seed is fixed.
        for count in [heads, repeats] {
            assert!((count - n / 2.0).abs() < 2.0 * n.sqrt(), "{count} of {n}");
        }
    }
}
