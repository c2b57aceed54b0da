//! An open loop: samples are due at times that do not wait for the ones before.
//!
//! In a closed loop a slow sample delays the next, so that the time a caller
//! would have waited is seen once instead of by all who came meanwhile. Here the
//! times are drawn before, and a sample that starts late is charged with it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// The last part of a wait is spent awake, since a sleeper is woken late.
const AWAKE: Duration = Duration::from_micros(150);

/// Due times of the samples of one cell in one block.
#[derive(Debug)]
pub struct Arrivals {
    start: Instant,
    due_ns: Vec<u64>,
}

impl Arrivals {
    /// `len` samples of `cell`, due at `rate_per_s` on average, from now on.
    pub fn start(seed: u64, block: u32, cell: usize, rate_per_s: f64, len: usize) -> Self {
        Self { due_ns: due_ns(seed, block, cell, rate_per_s, len), start: Instant::now() }
    }

    /// Waits until sample `index` is due; returns at once when it is late.
    pub fn wait(&self, index: usize) {
        let due = Duration::from_nanos(self.due_ns[index]);
        sleep(due.saturating_sub(self.start.elapsed()).saturating_sub(AWAKE));
        while self.start.elapsed() < due {
            std::hint::spin_loop();
        }
    }

    /// How long ago sample `index` was due, in ns.
    pub fn late_ns(&self, index: usize) -> u64 {
        let elapsed_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        elapsed_ns.saturating_sub(self.due_ns[index])
    }
}

/// Times of a Poisson process, in ns from its start: the same for a seed on every machine.
fn due_ns(seed: u64, block: u32, cell: usize, rate_per_s: f64, len: usize) -> Vec<u64> {
    // The order of cells has the seed itself, that of mounts its complement.
    let mut rng = ChaCha8Rng::seed_from_u64(seed.rotate_left(32));
    rng.set_stream(u64::from(block) << 32 | cell as u64);
    let mut seconds = 0.0;
    let next = |_| {
        let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        seconds -= (1.0 - uniform).ln() / rate_per_s;
        (seconds * 1e9) as u64
    };
    (0..len).map(next).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_exponential() {
        let n = 20_000;
        let due = due_ns(7, 0, 0, 1000.0, n);
        let gaps: Vec<f64> = due.windows(2).map(|it| (it[1] - it[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Mean and standard deviation of an exponential are equal: 1 ms each; four standard errors are 3 % and 6 %.
        assert!((mean - 1.0).abs() < 0.03 && (variance.sqrt() - 1.0).abs() < 0.06, "{mean} {variance}");
        let below = gaps.iter().filter(|it| **it < std::f64::consts::LN_2).count() as f64 / gaps.len() as f64;
        assert!((below - 0.5).abs() < 0.015, "the median is ln 2 of the mean: {below}");
    }

    #[test]
    fn a_sample_is_never_early_and_lateness_is_counted() {
        let arrivals = Arrivals { start: Instant::now(), due_ns: vec![2_000_000, 0] };
        arrivals.wait(0);
        assert!(Duration::from_nanos(2_000_000) <= arrivals.start.elapsed());
        arrivals.wait(1);
        assert!(2_000_000 <= arrivals.late_ns(1), "it was due at the start");
    }

    proptest! {
        #[test]
        fn times_rise_and_depend_on_seed_block_and_cell(seed: u64, block in 0..100_u32, cell in 0..100_usize) {
            let due = due_ns(seed, block, cell, 50.0, 40);
            prop_assert!(due.is_sorted());
            prop_assert_eq!(&due, &due_ns(seed, block, cell, 50.0, 40));
            prop_assert_ne!(&due, &due_ns(seed ^ 1, block, cell, 50.0, 40));
            prop_assert_ne!(&due, &due_ns(seed, block + 1, cell, 50.0, 40));
            prop_assert_ne!(&due, &due_ns(seed, block, cell + 1, 50.0, 40));
        }
    }
}
