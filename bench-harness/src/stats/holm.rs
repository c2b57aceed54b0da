//! Holm's correction: several tests, one error rate.

/// p-values corrected for their number: rejecting those ≤ α errs in any of them with probability ≤ α.
///
/// However the tests depend on each other. What is not a number counts as 1.
///
/// Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let p = |index: usize| if p_values[index].is_nan() { 1.0 } else { p_values[index] };
    let mut ascending: Vec<usize> = (0..p_values.len()).collect();
    ascending.sort_by(|a, b| p(*a).total_cmp(&p(*b)));
    let mut corrected = vec![1.0; p_values.len()];
    let mut so_far = 0.0_f64;
    for (done, index) in ascending.into_iter().enumerate() {
        so_far = so_far.max((p(index) * (p_values.len() - done) as f64).min(1.0));
        corrected[index] = so_far;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn corrected_by_hand() {
        for (p_values, expected) in [
            (&[][..], &[][..]),
            (&[0.03], &[0.03]),
            (&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]),
            (&[0.5, 0.6], &[1.0, 1.0]),
            (&[f64::NAN, 0.01], &[1.0, 0.02]),
        ] {
            let found = adjusted(p_values);
            assert!(
                found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
                "{p_values:?}: {found:?}"
            );
            assert_eq!(found.len(), expected.len());
        }
    }

    proptest! {
        #[test]
        fn correction_keeps_order_and_lies_between_none_and_bonferroni(
            p_values in prop::collection::vec(0.0_f64..=1.0, 1..30),
        ) {
            let found = adjusted(&p_values);
            for (p, corrected) in p_values.iter().zip(&found) {
                prop_assert!(p <= corrected && *corrected <= 1.0);
                prop_assert!(*corrected <= (p * p_values.len() as f64).min(1.0).max(found.iter().zip(&p_values)
                    .filter(|it| it.1 <= p).map(|it| *it.0).fold(0.0, f64::max)));
            }
            for (i, j) in (0..found.len()).flat_map(|i| (0..found.len()).map(move |j| (i, j))) {
                prop_assert!(p_values[j] < p_values[i] || found[i] <= found[j], "order");
            }
            let least = p_values.iter().copied().fold(1.0, f64::min);
            prop_assert_eq!(found.iter().copied().fold(1.0, f64::min), (least * p_values.len() as f64).min(1.0));
        }

        #[test]
        fn a_smaller_p_never_makes_another_harder(
            p_values in prop::collection::vec(0.0_f64..=1.0, 2..20), at in 0_usize..20, by in 0.0_f64..1.0,
        ) {
            let mut smaller = p_values.clone();
            let at = at % p_values.len();
            smaller[at] *= by;
            let (before, after) = (adjusted(&p_values), adjusted(&smaller));
            prop_assert!(after.iter().zip(&before).all(|(a, b)| a <= b));
        }
    }
}
