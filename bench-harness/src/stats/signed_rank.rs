//! The exact Wilcoxon signed-rank test, its estimate and its confidence bounds.
//!
//! Everything here is a function of the Walsh averages (xᵢ + xⱼ)/2 with i ≤ j:
//!
//! | what                     | definition                                              |
//! |--------------------------|---------------------------------------------------------|
//! | statistic W⁺(μ)          | number of Walsh averages above μ                        |
//! | p that the centre is > μ | P(W ≥ W⁺(μ)), W a sum of the ranks 1…n, each by a coin  |
//! | Hodges–Lehmann estimate  | median of the Walsh averages                            |
//! | lower bound at level α   | the c-th largest, c the least with P(W ≥ c) ≤ α         |
//!
//! so that "μ lies below the lower bound" and "the test at μ rejects" are one
//! statement, not two computations that should agree.
//!
//! Counting averages *strictly* above μ breaks ties against the claim: within a
//! group of equal |xᵢ − μ| the positive ones get the lowest ranks, and a value
//! equal to μ counts for neither side. Any other way to break ties gives at least
//! this statistic, and under one of them (by lot) the distribution of W is exact,
//! hence p is never too small.
//!
//! Source: Hollander, Wolfe, Chicken, "Nonparametric Statistical Methods", ch. 3.

use std::sync::OnceLock;

use super::order::{median, sorted};

/// Most values a test may have: the table of its distribution has n(n+1)/2 entries.
pub const N_MAX: usize = 400;

/// The Walsh averages of a sample, ascending.
#[derive(Debug, Clone)]
pub struct Walsh {
    n: usize,
    averages: Vec<f64>,
}

impl Walsh {
    /// All averages of two values; none without values, with more than [`N_MAX`], or with one that is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 || N_MAX < n || !values.iter().all(|it| it.is_finite()) {
            return None;
        }
        let with_later = |(i, x): (usize, &f64)| values[i..].iter().map(|y| f64::midpoint(*x, *y)).collect();
        let averages = values.iter().enumerate().flat_map::<Vec<f64>, _>(with_later).collect();
        Some(Self { n, averages: sorted(averages) })
    }

    /// The Hodges–Lehmann estimate of the centre.
    pub fn estimate(&self) -> f64 {
        median(&self.averages).unwrap_or(f64::NAN)
    }

    /// One-sided p of the hypothesis that the centre is `centre` or less.
    pub fn p_above(&self, centre: f64) -> f64 {
        tails(self.n)[self.averages.len() - self.averages.partition_point(|it| *it <= centre)]
    }

    /// One-sided p of the hypothesis that the centre is `centre` or more.
    pub fn p_below(&self, centre: f64) -> f64 {
        tails(self.n)[self.averages.partition_point(|it| *it < centre)]
    }

    /// The centre lies above this but with probability `alpha`; −∞ where n is too small to say so.
    pub fn lower_bound(&self, alpha: f64) -> f64 {
        critical(self.n, alpha).map_or(f64::NEG_INFINITY, |it| self.averages[self.averages.len() - it])
    }

    /// The centre lies below this but with probability `alpha`; ∞ where n is too small to say so.
    pub fn upper_bound(&self, alpha: f64) -> f64 {
        critical(self.n, alpha).map_or(f64::INFINITY, |it| self.averages[it - 1])
    }
}

/// The least statistic of `n` values that is significant at `alpha`, if even the greatest one is.
///
/// It is at least 1, since a statistic of 0 has p = 1.
pub fn critical(n: usize, alpha: f64) -> Option<usize> {
    let tails = tails(n.min(N_MAX));
    let least = tails.partition_point(|p| alpha < *p);
    (1..tails.len()).contains(&least).then_some(least)
}

/// P(W ≥ w) for each w from 0 to n(n+1)/2, where W adds each of 1…n with probability ½.
///
/// Of doubles that are added and halved only, so the relative error is below
/// n²·2⁻⁵³; exact while the counts have 53 bits.
pub fn tails(n: usize) -> &'static [f64] {
    static TABLES: [OnceLock<Vec<f64>>; N_MAX + 1] = [const { OnceLock::new() }; N_MAX + 1];
    TABLES[n.min(N_MAX)].get_or_init(|| compute_tails(n.min(N_MAX)))
}

fn compute_tails(n: usize) -> Vec<f64> {
    let mut mass = vec![0.0_f64; n * (n + 1) / 2 + 1];
    mass[0] = 1.0;
    let mut top = 0;
    for rank in 1..=n {
        top += rank;
        for w in (0..=top).rev() {
            let with = if rank <= w { mass[w - rank] } else { 0.0 };
            mass[w] = 0.5 * (mass[w] + with);
        }
    }
    // From the top down, so that the smallest are added first.
    let mut sum = 0.0;
    for it in mass.iter_mut().rev() {
        sum += *it;
        *it = sum.min(1.0);
    }
    mass
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The statistic by ranks, as textbooks have it, with ties broken against the claim.
    fn rank_sum_above(values: &[i32], centre: i32) -> usize {
        let mut shifted: Vec<i32> = values.iter().map(|it| it - centre).collect();
        shifted.sort_unstable_by_key(|it| (it.abs(), *it <= 0));
        let ranked = (1..).zip(shifted).filter(|(_, it)| 0 < *it);
        ranked.map(|(rank, _)| rank).sum()
    }

    fn walsh(values: &[i32]) -> Walsh {
        Walsh::of(&values.iter().map(|it| f64::from(*it)).collect::<Vec<_>>()).unwrap()
    }

    proptest! {
        #[test]
        fn counting_averages_is_summing_ranks(
            values in prop::collection::vec(-9_i32..10, 1..40), centre in -10_i32..11,
        ) {
            let expected = tails(values.len())[rank_sum_above(&values, centre)];
            prop_assert_eq!(walsh(&values).p_above(f64::from(centre)), expected);
            let mirrored: Vec<i32> = values.iter().map(|it| -it).collect();
            prop_assert_eq!(walsh(&mirrored).p_below(f64::from(-centre)), expected, "and the mirror");
        }

        #[test]
        fn a_bound_is_the_edge_of_what_the_test_rejects(
            values in prop::collection::vec(-9_i32..10, 1..60), alpha in 0.0005_f64..0.2, quarter in -40_i32..41,
        ) {
            let (averages, centre) = (walsh(&values), f64::from(quarter) / 4.0);
            prop_assert_eq!(averages.p_above(centre) <= alpha, centre < averages.lower_bound(alpha));
            prop_assert_eq!(averages.p_below(centre) <= alpha, averages.upper_bound(alpha) < centre);
        }

        #[test]
        fn estimates_lie_between_their_bounds(values in prop::collection::vec(-1e3_f64..1e3, 1..60)) {
            let averages = Walsh::of(&values).unwrap();
            let (low, high) = (averages.lower_bound(0.05), averages.upper_bound(0.05));
            prop_assert!(low <= averages.estimate() && averages.estimate() <= high);
            prop_assert!(averages.lower_bound(0.01) <= low, "more confidence, wider");
        }

        #[test]
        fn tails_fall_from_one_to_a_single_choice(n in 1_usize..120) {
            let tails = tails(n);
            prop_assert!(tails.windows(2).all(|it| it[1] <= it[0]));
            prop_assert!((tails[0] - 1.0).abs() < 1e-12);
            prop_assert_eq!(tails[tails.len() - 1], 0.5_f64.powi(n as i32));
            // Symmetric about n(n+1)/4.
            let last = tails.len() - 1;
            for w in 0..last {
                prop_assert!((tails[w + 1] + tails[last - w] - 1.0).abs() < 1e-12, "w = {}", w);
            }
        }
    }

    #[test]
    fn large_tables_agree_with_the_normal_distribution() {
        for n in [160, 320, N_MAX] {
            let (ranks, c) = (n as f64, critical(n, 0.0025).unwrap() as f64);
            let (mean, var) =
                (ranks * (ranks + 1.0) / 4.0, ranks * (ranks + 1.0) * (2.0 * ranks + 1.0) / 24.0);
            let z = (c - 0.5 - mean) / var.sqrt();
            assert!((z - 2.807).abs() < 0.02, "n = {n}: z = {z}");
        }
    }

    #[test]
    fn odd_samples_have_no_test() {
        for values in [&[][..], &[f64::NAN], &[1.0, f64::INFINITY], &[0.0; N_MAX + 1]] {
            assert!(Walsh::of(values).is_none());
        }
        let equal = Walsh::of(&[1.0; 30]).unwrap();
        assert_eq!(
            (equal.p_above(1.0), equal.p_below(1.0)),
            (1.0, 1.0),
            "values at the centre count for neither side"
        );
        assert_eq!(equal.p_above(0.9), 0.5_f64.powi(30));
    }
}
