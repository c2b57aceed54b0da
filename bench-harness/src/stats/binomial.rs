//! Exact bounds of a probability, from how often something happened.

use statrs::distribution::{Beta, ContinuousCDF as _};

/// The Clopper–Pearson upper bound, one-sided, of a probability that came true `count` times in `n`.
pub fn upper_bound(count: u64, n: u64, confidence: f64) -> f64 {
    if n <= count {
        return 1.0;
    }
    Beta::new(count as f64 + 1.0, (n - count) as f64).map_or(1.0, |it| it.inverse_cdf(confidence))
}

/// The Clopper–Pearson lower bound, one-sided.
pub fn lower_bound(count: u64, n: u64, confidence: f64) -> f64 {
    if n < count { 0.0 } else { 1.0 - upper_bound(n - count, n, confidence) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// P(X ≤ count) of a binomial, term by term.
    fn cdf(count: u64, n: u64, p: f64) -> f64 {
        let mut ln_choose = 0.0;
        let mut sum = 0.0;
        for k in 0..=count {
            sum += (ln_choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp();
            ln_choose += ((n - k) as f64 / (k + 1) as f64).ln();
        }
        sum
    }

    #[test]
    fn bounds_as_published() {
        for (count, n, confidence, expected) in [
            (0, 299, 0.95, 0.009_969), // "299 clean runs show at most 1 %".
            (0, 459, 0.99, 0.009_983),
            (1, 473, 0.95, 0.009_992),
            (0, 0, 0.95, 1.0),
            (7, 7, 0.95, 1.0),
            (5, 10, 0.975, 0.812_914),
        ] {
            let found = upper_bound(count, n, confidence);
            assert!((found - expected).abs() < 5e-6, "{count} of {n}: {found}");
        }
        assert!((lower_bound(5, 10, 0.975) - 0.187_086).abs() < 5e-6);
        assert_eq!((lower_bound(0, 10, 0.95), lower_bound(0, 0, 0.95)), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn the_bound_makes_the_count_just_so_unlikely(n in 1_u64..2000, share in 0.0_f64..1.0, confidence in 0.5_f64..0.999) {
            let count = (share * n as f64) as u64;
            let bound = upper_bound(count, n, confidence);
            prop_assert!((cdf(count, n, bound) - (1.0 - confidence)).abs() < 1e-6, "{} of {}: {}", count, n, bound);
            prop_assert!(lower_bound(count, n, confidence) <= count as f64 / n as f64);
        }
    }
}
