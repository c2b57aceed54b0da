//! Whether a cell became slower or faster while the run went on.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// A change over a run below this, on the log scale, is not worth a word.
const CHANGE_MIN: f64 = 0.05;

/// A change that chance makes more often than this is not flagged.
const P_MAX: f64 = 0.01;

/// A straight line through the mean log latencies of blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// How much the line rises from the first block of the cell to its last, on the log scale.
    pub change: f64,
    /// Probability of a slope as steep where there is none; two-sided t-test.
    pub p: f64,
}

impl Drift {
    /// The line through `points` of block number and mean log latency; none through fewer than four.
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        if points.len() < 4 {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x_mean, y_mean) = (mean(|it| it.0), mean(|it| it.1));
        let sxx: f64 = points.iter().map(|it| (it.0 - x_mean).powi(2)).sum();
        let sxy: f64 = points.iter().map(|it| (it.0 - x_mean) * (it.1 - y_mean)).sum();
        let slope = sxy / sxx;
        let residual = |it: &(f64, f64)| (it.1 - y_mean - slope * (it.0 - x_mean)).powi(2);
        let error = (points.iter().map(residual).sum::<f64>() / (n - 2.0) / sxx).sqrt();
        // By block numbers, not by points: a cell need not be in every block.
        let ends = points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |it, point| (it.0.min(point.0), it.1.max(point.0)));
        let change = slope * (ends.1 - ends.0 + 1.0);
        // Equal values have no slope and no error; a line without error is no chance.
        let t = if slope == 0.0 { 0.0 } else { (slope / error).abs() };
        let p = if t.is_finite() { 2.0 * StudentsT::new(0.0, 1.0, n - 2.0).ok()?.sf(t) } else { 0.0 };
        change.is_finite().then_some(Self { change, p })
    }

    /// Whether readers must be told.
    pub fn is_flagged(self) -> bool {
        CHANGE_MIN < self.change.abs() && self.p < P_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    fn line(values: &[f64]) -> Vec<(f64, f64)> {
        values.iter().enumerate().map(|(at, it)| (at as f64, *it)).collect()
    }

    #[test]
    fn lines_agree_with_a_textbook() {
        // y = 2, 4, 5, 4, 5 at x = 0…4: slope 0.6, its error √(2.4 / 3 / 10), t = 2.1213, p = 0.1240 at 3 degrees.
        let drift = Drift::of(&line(&[2.0, 4.0, 5.0, 4.0, 5.0])).unwrap();
        assert!((drift.change - 3.0).abs() < 1e-12 && (drift.p - 0.124).abs() < 5e-4, "{drift:?}");
        assert!(!drift.is_flagged(), "it may be chance");
        let steady = Drift::of(&line(&[3.0; 9])).unwrap();
        assert_eq!((steady.change, steady.is_flagged()), (0.0, false));
        let steep = Drift::of(&line(&[1.0, 1.1, 1.2, 1.3, 1.4])).unwrap();
        assert!(steep.is_flagged() && steep.p < 1e-6, "{steep:?}");
        assert!(!Drift::of(&line(&[1.0, 1.001, 1.002, 1.003])).unwrap().is_flagged(), "sure, but small");
        assert_eq!(Drift::of(&line(&[1.0, 2.0, 3.0])), None);
    }

    #[test]
    fn blocks_without_the_cell_count_too() {
        // Every fifth of 46 blocks, 1 % slower each block.
        let points: Vec<(f64, f64)> =
            (0..10).map(|it| (f64::from(it * 5), 0.01 * f64::from(it * 5))).collect();
        let drift = Drift::of(&points).unwrap();
        assert!((drift.change - 0.46).abs() < 1e-9 && drift.is_flagged(), "{drift:?}");
    }

    #[test]
    fn noise_without_a_slope_is_flagged_as_seldom_as_promised() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // The sum of twelve uniforms less six is as good as normal here.
        let mut normal =
            || (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0;
        let trials = 4000;
        let flagged = (0..trials)
            .filter(|_| {
                Drift::of(&line(&(0..20).map(|_| normal()).collect::<Vec<_>>())).unwrap().is_flagged()
            })
            .count();
        // 1 % of 4000 are 40; four standard errors are 25.
        assert!((15..=65).contains(&flagged), "{flagged} of {trials}");
    }

    proptest! {
        #[test]
        fn time_backwards_is_the_change_backwards(values in prop::collection::vec(0.0..20.0_f64, 4..60)) {
            let back: Vec<f64> = values.iter().rev().copied().collect();
            let (ahead, back) = (Drift::of(&line(&values)).unwrap(), Drift::of(&line(&back)).unwrap());
            prop_assert!((ahead.change + back.change).abs() < 1e-9);
            prop_assert!((ahead.p - back.p).abs() < 1e-6);
            prop_assert!((0.0..=1.0).contains(&ahead.p));
        }
    }
}
