//! The exact sign test of a median against a limit, one-sided both ways.
//!
//! It is the test whose inversion is the order-statistic interval of the
//! median, and like it assumes nothing about the distribution.

use statrs::distribution::{Binomial, DiscreteCDF as _};

/// p-values of both one-sided tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sides {
    /// Of the null that the median is not above the limit: small when it is above.
    pub above: f64,
    /// Of the null that the median is not below the limit: small when it is below.
    pub below: f64,
}

/// Tests the median of `values` against `limit`; a value equal to the limit speaks for neither side.
pub fn sides(values: &[f64], limit: f64) -> Sides {
    let count = |wanted: fn(&f64, &f64) -> bool| values.iter().filter(|it| wanted(it, &limit)).count();
    let n = values.len();
    Sides { above: tail(count(|a, b| a > b), n), below: tail(count(|a, b| a < b), n) }
}

/// The smallest p-value that `n` values can give.
pub fn least(n: usize) -> f64 {
    tail(n, n)
}

/// P(B ≥ k) for B binomial(n, 1/2).
fn tail(k: usize, n: usize) -> f64 {
    if k == 0 {
        return 1.0;
    }
    // Parameters that are no distribution prove nothing.
    Binomial::new(0.5, n as u64).map_or(1.0, |it| it.sf(k as u64 - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::order::{median_interval, sorted};

    #[test]
    fn tails_are_those_of_coins() {
        for (k, n, expected) in
            [(0, 0, 1.0), (0, 5, 1.0), (5, 5, 1.0 / 32.0), (4, 5, 6.0 / 32.0), (9, 10, 11.0 / 1024.0)]
        {
            assert!((tail(k, n) - expected).abs() < 1e-9, "{k} of {n}: {}", tail(k, n));
        }
        assert!((least(10) - 1.0 / 1024.0).abs() < 1e-12);
        assert_eq!(sides(&[], 1.0), Sides { above: 1.0, below: 1.0 });
        assert_eq!(sides(&[1.0; 9], 1.0), Sides { above: 1.0, below: 1.0 }, "equal values say nothing");
    }

    proptest! {
        #[test]
        fn the_test_agrees_with_the_interval(values in prop::collection::vec(0.0..10.0_f64, 6..80), limit in 0.0..10.0_f64) {
            let Sides { above, below } = sides(&values, limit);
            let interval = median_interval(&sorted(values)).unwrap();
            prop_assert_eq!(above <= 0.025, limit < interval.low, "{} {:?}", above, interval);
            prop_assert_eq!(below <= 0.025, interval.high < limit, "{} {:?}", below, interval);
        }
    }
}
