//! Quantiles, and an interval of the median that assumes no distribution.

use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF as _};

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Confidence of all intervals.
pub const CONFIDENCE: f64 = 0.95;

/// Samples that must lie beyond a quantile before it is printed.
const BEYOND_MIN: f64 = 10.0;

/// The median of `sorted`: the middle value, or the mean of the two middle ones.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

/// The quantile `q` of `sorted` by nearest rank, if at least ten samples lie beyond it.
///
/// A p99 thus needs 1000 samples, a p90 100; fewer would print the maximum under another name.
pub fn tail_quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let n = sorted.len() as f64;
    // The tolerance keeps 100 · (1 − 0.9) = 9.999… from counting as less than 10.
    if n * (1.0 - q) + 1e-9 < BEYOND_MIN {
        return None;
    }
    let rank = (n * q - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The exact order-statistic interval of the median at [`CONFIDENCE`]; none below six samples.
///
/// The number of samples below the median is binomial(n, 1/2) whatever their
/// distribution, so [x₍ₖ₎, x₍ₙ₊₁₋ₖ₎] covers it with probability
/// 1 − 2·P(B < k); `k` is the largest that keeps this at 95 % or more.
pub fn median_interval(sorted: &[f64]) -> Option<Interval> {
    let k = interval_rank(sorted.len())?;
    Some(Interval { low: sorted[k - 1], high: sorted[sorted.len() - k] })
}

/// The rank `k`, from 1, of the lower end of the interval for `n` samples.
fn interval_rank(n: usize) -> Option<usize> {
    let tail_max = (1.0 - CONFIDENCE) / 2.0;
    let mut ln_pmf = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for k in 0..=n / 2 {
        below += ln_pmf.exp();
        if tail_max < below {
            return (0 < k).then_some(k);
        }
        ln_pmf += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    None
}

/// The ranks, from 1, of the exact order-statistic interval of the quantile `q` among `n` samples.
///
/// As for the median: the number of samples below the quantile is binomial(n, q).
/// None where the interval would reach beyond the smallest or the largest sample.
pub fn quantile_ranks(n: u64, q: f64) -> Option<(u64, u64)> {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let below = Binomial::new(q, n).ok().filter(|_| 0 < n)?;
    let (low, high) = (below.inverse_cdf(tail), below.inverse_cdf(1.0 - tail) + 1);
    (0 < low && high <= n).then_some((low, high))
}

/// Sorts samples; they are finite by construction.
pub fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn ranks_agree_with_tables() {
        // Ranks of the sign-test interval at 95 %, as printed in tables (e.g. Conover, A3).
        for (n, expected) in [
            (0, None),
            (5, None),
            (6, Some(1)),
            (8, Some(1)),
            (9, Some(2)),
            (10, Some(2)),
            (20, Some(6)),
            (25, Some(8)),
            (50, Some(18)),
            (100, Some(40)),
            (1000, Some(469)),
        ] {
            assert_eq!(interval_rank(n), expected, "n = {n}");
        }
    }

    #[test]
    fn ranks_of_the_median_are_those_of_any_quantile() {
        for n in [6_u64, 9, 25, 100, 1000] {
            let k = interval_rank(usize::try_from(n).unwrap()).unwrap() as u64;
            assert_eq!(quantile_ranks(n, 0.5), Some((k, n + 1 - k)), "n = {n}");
        }
        for (n, q) in [(0, 0.5), (5, 0.5), (100, 0.99), (300, 0.99), (100, 0.0), (100, 1.0)] {
            assert_eq!(quantile_ranks(n, q), None, "n = {n}, q = {q}");
        }
        // P(B(1000, 0.99) ≤ 996) is the first to reach 97.5 %, P(B ≤ 983) the first to reach 2.5 %.
        assert_eq!(quantile_ranks(1000, 0.99), Some((983, 997)));
    }

    #[test]
    fn tails_need_ten_samples_beyond() {
        let values = |n: usize| (1..=n).map(|it| it as f64).collect::<Vec<_>>();
        for (n, q, expected) in [
            (99, 0.90, None),
            (100, 0.90, Some(90.0)),
            (999, 0.99, None),
            (1000, 0.99, Some(990.0)),
            (19, 0.50, None),
            (20, 0.50, Some(10.0)),
        ] {
            assert_eq!(tail_quantile(&values(n), q), expected, "n = {n}, q = {q}");
        }
    }

    #[test]
    fn medians() {
        for (values, expected) in
            [(&[][..], None), (&[3.0], Some(3.0)), (&[1.0, 2.0], Some(1.5)), (&[1.0, 2.0, 9.0], Some(2.0))]
        {
            assert_eq!(median(values), expected);
        }
    }

    /// Share of intervals that hold the true median of a skewed distribution.
    fn coverage(n: usize, trials: usize) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut draw = || {
            let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            -(1.0 - uniform).ln()
        };
        let covered = (0..trials).filter(|_| {
            let sample = sorted((0..n).map(|_| draw()).collect());
            median_interval(&sample)
                .is_some_and(|it| it.low <= std::f64::consts::LN_2 && std::f64::consts::LN_2 <= it.high)
        });
        covered.count() as f64 / trials as f64
    }

    #[test]
    fn intervals_cover_the_median_as_promised() {
        for n in [6, 9, 20, 51, 200] {
            let share = coverage(n, 4000);
            // 95 % or more by construction; three standard errors of 4000 trials are 1 %.
            assert!((0.94..=1.0).contains(&share), "n = {n}: covered {share}");
        }
        assert!(coverage(200, 4000) < 0.97, "and not much more when n is large");
    }

    proptest! {
        #[test]
        fn intervals_hold_their_median(values in prop::collection::vec(0.0..1e12_f64, 0..300)) {
            let values = sorted(values);
            prop_assert_eq!(median_interval(&values).is_some(), 6 <= values.len());
            if let (Some(middle), Some(interval)) = (median(&values), median_interval(&values)) {
                prop_assert!(interval.low <= middle && middle <= interval.high);
            }
        }

        #[test]
        fn rank_is_the_largest_that_keeps_confidence(n in 6_usize..400) {
            let k = interval_rank(n).unwrap();
            // P(B < k) by exact recursion on doubles, without logarithms.
            let tail = |k: usize| {
                let mut pmf = 0.5_f64.powi(n as i32);
                let mut sum = 0.0;
                for i in 0..k {
                    sum += pmf;
                    pmf = pmf * (n - i) as f64 / (i + 1) as f64;
                }
                sum
            };
            prop_assert!(tail(k) <= 0.025 + 1e-12);
            prop_assert!(0.025 - 1e-12 < tail(k + 1));
        }
    }
}
