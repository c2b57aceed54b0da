//! Change points of a series: e-divisive means with a seeded permutation test.
//!
//! For two neighbouring segments the energy statistic compares how far values
//! lie apart between them and within each. The split with the largest
//! statistic is a candidate; it counts when hardly any order of the same values
//! has one as large. Both sides are then searched again. The second segment may
//! end before the series does, so that a step that was taken back is seen.
//!
//! Source: D. Matteson and N. James, "A nonparametric approach for multiple
//! change point analysis of multivariate data", 2014; here for one dimension,
//! with distances to the power of one, each segment tested by itself.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Values on either side of a change, at least.
pub const SEGMENT_MIN: usize = 3;

/// A change is one where at most this share of permutations splits as well.
pub const LEVEL: f64 = 0.01;

/// Fewer values than this cannot show a change at [`LEVEL`]: of ten, 5 + 5 can be chosen in 252 ways.
pub const VALUES_MIN: usize = 10;

/// Permutations of a test.
const PERMUTATIONS: u32 = 999;

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value of the new level.
    pub at: usize,
    /// Share of permutations, the observed order included, that split as well.
    pub p: f64,
}

/// The changes of `values`, in order of their place.
pub fn change_points(values: &[f64], seed: u64) -> Vec<ChangePoint> {
    let mut found = Vec::new();
    let mut open = vec![(0, values.len())];
    while let Some((from, to)) = open.pop() {
        let Some((at, p)) = significant_split(&values[from..to], seed ^ from as u64) else { continue };
        found.push(ChangePoint { at: from + at, p });
        open.extend([(from, from + at), (from + at, to)]);
    }
    found.sort_by_key(|it| it.at);
    found
}

/// The best split of `values` and its p-value, if that is at most [`LEVEL`].
fn significant_split(values: &[f64], seed: u64) -> Option<(usize, f64)> {
    if values.len() < VALUES_MIN {
        return None;
    }
    let (observed, at) = best_split(values)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let allowed = (LEVEL * f64::from(PERMUTATIONS + 1)) as u32 - 1;
    let (mut order, mut as_large) = (values.to_vec(), 0);
    for _ in 0..PERMUTATIONS {
        shuffle(&mut order, &mut rng);
        // A hair below: the same split with its sums in another order is as large.
        if best_split(&order).is_some_and(|it| observed * (1.0 - 1e-9) <= it.0) {
            as_large += 1;
            if allowed < as_large {
                return None;
            }
        }
    }
    Some((at, f64::from(as_large + 1) / f64::from(PERMUTATIONS + 1)))
}

fn shuffle(values: &mut [f64], rng: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        let draw = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        values.swap(last, draw as usize);
    }
}

/// The largest statistic of all pairs of neighbouring segments that begin with the series, and its split.
fn best_split(values: &[f64]) -> Option<(f64, usize)> {
    let n = values.len();
    let sums = Distances::of(values);
    let pairs = (SEGMENT_MIN..=n.checked_sub(SEGMENT_MIN)?)
        .flat_map(|split| (split + SEGMENT_MIN..=n).map(move |end| (split, end)));
    let best = pairs
        .map(|(split, end)| (sums.statistic(split, end), split))
        .fold(None, |best: Option<(f64, usize)>, it| best.filter(|old| it.0 <= old.0).or(Some(it)));
    best.filter(|it| 0.0 < it.0)
}

/// Sums of |xᵢ − xⱼ| over rectangles.
struct Distances {
    /// Row `i`, column `j`: the sum over rows below `i` and columns below `j`.
    sums: Vec<f64>,
    width: usize,
}

impl Distances {
    fn of(values: &[f64]) -> Self {
        let width = values.len() + 1;
        let mut sums = vec![0.0; width * width];
        for (i, a) in values.iter().enumerate() {
            let mut row = 0.0;
            for (j, b) in values.iter().enumerate() {
                row += (a - b).abs();
                sums[(i + 1) * width + j + 1] = sums[i * width + j + 1] + row;
            }
        }
        Self { sums, width }
    }

    fn sum(&self, rows: (usize, usize), columns: (usize, usize)) -> f64 {
        let at = |i: usize, j: usize| self.sums[i * self.width + j];
        at(rows.1, columns.1) - at(rows.0, columns.1) - at(rows.1, columns.0) + at(rows.0, columns.0)
    }

    /// The energy statistic of the values before `split` against those from there to `end`.
    fn statistic(&self, split: usize, end: usize) -> f64 {
        let (n, m) = (split as f64, (end - split) as f64);
        let (first, second) = ((0, split), (split, end));
        let between = 2.0 * self.sum(first, second) / (n * m);
        let within = |part: (usize, usize), n: f64| self.sum(part, part) / (n * (n - 1.0));
        n * m / (n + m) * (between - within(first, n) - within(second, m))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(seed: u64, n: usize, size: f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (0..n).map(|_| size * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)).collect()
    }

    fn steps(seed: u64, levels: &[(f64, usize)]) -> Vec<f64> {
        let n = levels.iter().map(|it| it.1).sum();
        let levels = levels.iter().flat_map(|(level, n)| std::iter::repeat_n(*level, *n));
        levels.zip(noise(seed, n, 0.03)).map(|(level, noise)| level + noise).collect()
    }

    fn places(values: &[f64]) -> Vec<usize> {
        change_points(values, 1).iter().map(|it| it.at).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_clear_step_is_found_where_it_is(seed in 0_u64..1 << 40, before in 5_usize..20, after in 5_usize..20, up: bool) {
            let values = steps(seed, &[(0.0, before), (if up { 0.5 } else { -0.5 }, after)]);
            prop_assert!(places(&values).contains(&before), "{:?} for {before} of {values:?}", places(&values));
        }

        #[test]
        fn scale_and_level_do_not_matter(seed in 0_u64..1 << 40, by in 0.01..100.0_f64, level in -5.0..5.0_f64) {
            let values = steps(seed, &[(0.0, 8), (0.1, 8)]);
            let other: Vec<f64> = values.iter().map(|it| it * by + level).collect();
            prop_assert_eq!(places(&values), places(&other));
        }

        #[test]
        fn the_same_seed_says_the_same(values in prop::collection::vec(0.0..1.0_f64, 0..25), seed: u64) {
            prop_assert_eq!(change_points(&values, seed), change_points(&values, seed));
            for it in change_points(&values, seed) {
                prop_assert!(SEGMENT_MIN <= it.at && it.at + SEGMENT_MIN <= values.len() && it.p <= LEVEL);
            }
        }
    }

    #[test]
    fn a_step_that_was_taken_back_is_two() {
        let values = steps(3, &[(0.0, 12), (0.4, 8), (0.0, 12)]);
        assert_eq!(places(&values), [12, 20]);
    }

    #[test]
    fn nothing_changes_in_what_is_constant_or_short() {
        assert_eq!(places(&[1.0; 40]), [0; 0]);
        assert_eq!(places(&steps(5, &[(0.0, 4), (9.0, 5)])), [0; 0], "nine values are too few");
        assert_eq!(places(&[]), [0; 0]);
    }

    #[test]
    fn noise_is_rarely_a_change() {
        let n = 150;
        let alarms = (0..n).filter(|seed| !places(&noise(*seed, 20, 1.0)).is_empty()).count();
        // 1 % of 150 is 1.5; 7 and more have a probability of 0.1 %.
        assert!(alarms <= 6, "{alarms} of {n}");
    }
}
