//! Intervals of what is fitted: within a run by resampling blocks, for another day by sessions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use crate::stats::order::{CONFIDENCE, Interval, sorted};

/// Resamples of the blocks.
pub const N_RESAMPLES: u32 = 1000;

/// Fewer blocks than this give no interval, as for medians.
pub const BLOCKS_MIN: usize = 6;

/// Fewer sessions than this give no interval of absolute values.
pub const SESSIONS_MIN: usize = 3;

/// How often each of `n_blocks` blocks is drawn in resample `number` under `seed`.
///
/// Every fit of a run resamples the same blocks, so that ratios of two fits are paired.
pub fn resample(seed: u64, number: u32, n_blocks: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(number));
    let mut counts = vec![0; n_blocks];
    for _ in 0..n_blocks {
        let draw = (u128::from(rng.next_u64()) * n_blocks as u128) >> 64;
        counts[draw as usize] += 1;
    }
    counts
}

/// `statistic` of each resample of the `n_blocks` blocks of a run, in their order.
///
/// Empty where the cell with fewest has only `least` of them, and those are too few.
pub fn resampled<T: Send>(
    seed: u64,
    n_blocks: usize,
    least: usize,
    statistic: impl Fn(&[u32]) -> T + Sync + Send,
) -> Vec<T> {
    if least < BLOCKS_MIN {
        return Vec::new();
    }
    let one = |number| statistic(&resample(seed, number, n_blocks));
    (0..N_RESAMPLES).into_par_iter().map(one).collect()
}

/// The percentile interval of resampled values; none where more than one in twenty has no value.
pub fn percentile_interval(values: impl Iterator<Item = Option<f64>>) -> Option<Interval> {
    let all: Vec<Option<f64>> = values.collect();
    let known = sorted(all.iter().flatten().copied().filter(|it| it.is_finite()).collect());
    if all.is_empty() || known.len() * 20 < all.len() * 19 {
        return None;
    }
    let at = |q: f64| known[((known.len() - 1) as f64 * q).round() as usize];
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Interval { low: at(tail), high: at(1.0 - tail) })
}

/// The t-interval of the logarithms of `estimates`, one for each session, as times.
///
/// None with fewer than three, and none where one is zero, which has no logarithm.
pub fn session_interval(estimates: &[f64]) -> Option<Interval> {
    let n = estimates.len() as f64;
    if estimates.len() < SESSIONS_MIN || estimates.iter().any(|it| *it <= 0.0) {
        return None;
    }
    let logs: Vec<f64> = estimates.iter().map(|it| it.ln()).collect();
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
    let half = t * (variance / n).sqrt();
    Some(Interval { low: (mean - half).exp(), high: (mean + half).exp() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_repeat_and_differ() {
        assert_eq!(resample(7, 3, 20), resample(7, 3, 20));
        assert_ne!(resample(7, 3, 20), resample(7, 4, 20));
        assert_ne!(resample(7, 3, 20), resample(8, 3, 20));
        assert_eq!(resample(7, 3, 20).iter().sum::<u32>(), 20);
        // Pinned: the intervals of a stored run must stay the same.
        assert_eq!(resample(42, 1, 8), PINNED);
    }

    const PINNED: [u32; 8] = [2, 2, 0, 1, 0, 1, 2, 0];

    #[test]
    fn percentiles_leave_the_tails_out() {
        let values = (0..1001).map(|it| Some(f64::from(it)));
        assert_eq!(percentile_interval(values), Some(Interval { low: 25.0, high: 975.0 }));
        let holes = (0..1000).map(|it| (it % 10 != 0).then_some(1.0));
        assert_eq!(percentile_interval(holes), None, "a tenth has no value");
        assert_eq!(percentile_interval(std::iter::empty()), None);
    }

    #[test]
    fn sessions_give_the_interval_of_tables() {
        // ln 1, ln e², ln e⁴: mean 2, sd 2, t(0.975; 2) = 4.302653.
        let it = session_interval(&[1.0, 2.0_f64.exp(), 4.0_f64.exp()]).unwrap();
        let half = 4.302_653 * 2.0 / 3.0_f64.sqrt();
        assert!((it.low.ln() - (2.0 - half)).abs() < 1e-5 && (it.high.ln() - (2.0 + half)).abs() < 1e-5);
        assert_eq!(session_interval(&[1.0, 2.0]), None);
        assert_eq!(session_interval(&[1.0, 2.0, 0.0]), None);
    }
}
