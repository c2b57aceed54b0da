//! Two samples that were not measured together: how many times one is the other, with an exact interval.
//!
//! The estimate is Hodges and Lehmann's, the median of the ratios of every value of
//! one to every value of the other. Its interval inverts the rank-sum test of Mann,
//! Whitney and Wilcoxon: it lies between two of these ratios, in order. It assumes
//! that both samples have the same shape on a logarithmic scale, and nothing else.

use super::order::{CONFIDENCE, Interval, median, sorted};
use super::summary::Ratio;

/// Larger products of both sizes are approximated by a normal distribution.
const EXACT_MAX: usize = 1600;

/// How many times `base` `head` is; both hold one positive value for each block.
pub fn ratio(base: &[f64], head: &[f64]) -> Option<Ratio> {
    let ratios = head.iter().flat_map(|head| base.iter().map(move |base| head / base));
    let ratios = sorted(ratios.filter(|it| it.is_finite() && 0.0 < *it).collect());
    if ratios.len() != base.len() * head.len() {
        return None;
    }
    let interval = rank(base.len(), head.len())
        .map(|rank| Interval { low: ratios[rank - 1], high: ratios[ratios.len() - rank] });
    Some(Ratio { p50: median(&ratios)?, interval, n_blocks: base.len().min(head.len()) })
}

/// The rank, from 1, of the lower end of the interval for `m` and `n` values; none where they are too few.
fn rank(m: usize, n: usize) -> Option<usize> {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    if EXACT_MAX < m * n {
        // 1.96 standard deviations below the mean, corrected for continuity.
        let (m, n) = (m as f64, n as f64);
        let rank = (m * n / 2.0 - 1.959_964 * (m * n * (m + n + 1.0) / 12.0).sqrt() + 0.5).floor();
        return (1.0 <= rank).then_some(rank as usize);
    }
    let counts = counts(m, n);
    let all: f64 = counts.iter().sum();
    let mut below = 0.0;
    // The largest rank for which P(U < rank) is at most the tail.
    let reached = counts.iter().take_while(|count| {
        below += **count / all;
        below <= tail
    });
    Some(reached.count()).filter(|it| 0 < *it)
}

/// In how many orders of `m` and `n` values the statistic U is 0, 1, …, m·n.
///
/// U is a partition into at most `n` parts of at most `m` each; parts are added size by size.
fn counts(m: usize, n: usize) -> Vec<f64> {
    let mut by_parts = vec![vec![0.0; m * n + 1]; n + 1];
    by_parts[0][0] = 1.0;
    for size in 1..=m {
        for parts in 1..=n {
            for sum in size..=m * n {
                by_parts[parts][sum] += by_parts[parts - 1][sum - size];
            }
        }
    }
    (0..=m * n).map(|sum| by_parts.iter().map(|it| it[sum]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn counts_are_those_of_all_orders() {
        for (m, n) in [(1, 1), (2, 3), (4, 4), (5, 2)] {
            let mut expected = vec![0.0; m * n + 1];
            for order in (0_u32..1 << (m + n)).filter(|it| it.count_ones() as usize == m) {
                let is_base = |at: usize| order >> at & 1 == 1;
                let pairs = (0..m + n).flat_map(|a| (0..a).map(move |b| (a, b)));
                expected[pairs.filter(|(a, b)| is_base(*a) && !is_base(*b)).count()] += 1.0;
            }
            assert_eq!(counts(m, n), expected, "{m} and {n}");
        }
    }

    #[test]
    fn ranks_agree_with_tables() {
        // Critical values of Mann and Whitney's U, two-sided 5 %, as printed in tables: the rank is one more.
        for (m, n, expected) in [
            (3, 3, None),
            (3, 5, Some(1)),
            (4, 4, Some(1)),
            (5, 5, Some(3)),
            (8, 8, Some(14)),
            (10, 10, Some(24)),
            (20, 20, Some(128)),
        ] {
            assert_eq!(rank(m, n), expected, "{m} and {n}");
        }
    }

    #[test]
    fn the_approximation_meets_the_exact_ranks() {
        let exact = rank(40, 40).unwrap();
        let (m, n) = (40.0_f64, 40.0_f64);
        let approximate = (m * n / 2.0 - 1.959_964 * (m * n * (m + n + 1.0) / 12.0).sqrt() + 0.5).floor();
        assert!((exact as f64 - approximate).abs() <= 1.0, "{exact} {approximate}");
        assert!(rank(40, 41).unwrap().abs_diff(exact) < 20);
    }

    #[test]
    fn intervals_cover_as_often_as_promised() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut uniform = || (random.next_u32() as f64 + 0.5) / f64::from(u32::MAX);
        let covered = (0..2000).filter(|_| {
            // A long tail, as latencies have; the second is 1.5 times the first.
            let mut draw =
                |factor: f64| (0..9).map(|_| factor * (1.0 - uniform().ln()).powi(2)).collect::<Vec<f64>>();
            let found = ratio(&draw(1.0), &draw(1.5)).unwrap().interval.unwrap();
            found.low <= 1.5 && 1.5 <= found.high
        });
        let share = covered.count() as f64 / 2000.0;
        // The exact level of nine and nine is 96.0 %; four standard errors either way.
        assert!((0.94..0.978).contains(&share), "{share}");
    }

    proptest! {
        #[test]
        fn turning_both_turns_the_ratio(
            base in prop::collection::vec(1.0..1e9_f64, 1..12),
            head in prop::collection::vec(1.0..1e9_f64, 1..12),
        ) {
            let (there, back) = (ratio(&base, &head).unwrap(), ratio(&head, &base).unwrap());
            prop_assert_eq!(there.interval.is_some(), back.interval.is_some());
            if let (Some(there), Some(back)) = (there.interval, back.interval) {
                prop_assert!((there.low * back.high - 1.0).abs() < 1e-9);
                prop_assert!(there.low <= there.high);
            }
        }
    }

    #[test]
    fn nothing_has_no_ratio() {
        assert_eq!(ratio(&[], &[1.0]), None);
        assert_eq!(ratio(&[0.0], &[1.0]), None, "a time of nothing");
    }
}
