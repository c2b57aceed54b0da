//! Logarithmic axes: from values to places, and where ticks go.

use crate::size::human_ns;

/// Ranges below this have ticks at even steps.
const NARROW_DECADES: f64 = 0.25;

/// A logarithmic axis between two places.
#[derive(Debug, Clone, Copy)]
pub struct LogAxis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl LogAxis {
    /// Shows values `low` to `high`, both above zero, from place `from` to place `to`.
    pub fn new((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        // Equal ends would divide by nothing.
        let high = if low * 1.0001 < high { high } else { low * 2.0 };
        Self { low, high, from, to }
    }

    /// The place of `value`.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + share.min(1.0) * (self.to - self.from)
    }

    /// Ticks at even steps, for a range so narrow that digits of a decade would leave one or none.
    fn even_ticks(&self) -> Vec<f64> {
        let wanted = (self.high - self.low) / 5.0;
        let decade = 10_f64.powf(wanted.log10().floor());
        let step =
            decade * [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| wanted <= decade * it).unwrap_or(10.0);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).map(|it| it as f64 * step).collect()
    }

    /// Values for labelled ticks, and for faint lines between them.
    pub fn ticks(&self) -> (Vec<f64>, Vec<f64>) {
        let decades = (self.high / self.low).log10();
        if decades < NARROW_DECADES {
            return (self.even_ticks(), Vec::new());
        }
        let labelled: &[f64] = match decades {
            it if it < 1.3 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            it if it < 2.3 => &[1.0, 2.0, 5.0],
            it if it < 3.2 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let (mut major, mut minor) = (Vec::new(), Vec::new());
        for exponent in self.low.log10().floor() as i32..=self.high.log10().ceil() as i32 {
            for digit in 1..=9 {
                let value = f64::from(digit) * 10_f64.powi(exponent);
                if value < self.low * 0.999 || self.high * 1.001 < value {
                    continue;
                }
                let list = if labelled.contains(&f64::from(digit)) { &mut major } else { &mut minor };
                list.push(value);
            }
        }
        (major, minor)
    }
}

/// Labels of times in ns.
pub fn time_labels(values: &[f64]) -> Vec<(f64, String)> {
    values.iter().map(|value| (*value, human_ns(*value))).collect()
}

/// The smallest and the largest of `values`, widened by `factor` on both sides.
pub fn range(values: impl Iterator<Item = f64>, factor: f64) -> Option<(f64, f64)> {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, value| {
        Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    });
    ends.map(|(low, high)| (low / factor, high * factor))
}

/// Moves `wanted` places apart to `gap` at least, within `low` to `high`, each as little as needed.
///
/// Places come and go in rising order.
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    // Groups of places that touch; each group sits around the mean of what its members want.
    let mut groups: Vec<(f64, usize)> = Vec::new();
    let half = |count: usize| gap * (count as f64 - 1.0) / 2.0;
    let clamp = |mean: f64, count: usize| mean.min(high - half(count)).max(low + half(count));
    for &place in wanted {
        groups.push((clamp(place, 1), 1));
        while let [.., (mean_a, a), (mean_b, b)] = groups[..] {
            if mean_a + half(a) + gap <= mean_b - half(b) {
                break;
            }
            let mean = (mean_a * a as f64 + mean_b * b as f64) / (a + b) as f64;
            groups.truncate(groups.len() - 2);
            groups.push((clamp(mean, a + b), a + b));
        }
    }
    let members =
        |(mean, count): (f64, usize)| (0..count).map(move |it| mean - half(count) + gap * it as f64);
    groups.into_iter().flat_map(members).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_follow_the_logarithm() {
        let axis = LogAxis::new((1.0, 100.0), (0.0, 200.0));
        for (value, expected) in [(1.0, 0.0), (10.0, 100.0), (100.0, 200.0), (0.0, 0.0), (1e9, 200.0)] {
            assert!((axis.place(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn ticks_are_few_on_long_axes_and_enough_on_short_ones() {
        for (low, high, expected) in
            [(1e3, 1e9, 7), (900.0, 1.1e6, 7), (100.0, 9_000.0, 6), (100.0, 600.0, 4), (0.93, 1.08, 3)]
        {
            let major = LogAxis::new((low, high), (0.0, 1.0)).ticks().0;
            assert_eq!(major.len(), expected, "{low} to {high}: {major:?}");
        }
    }

    proptest! {
        #[test]
        fn labels_never_overlap(mut wanted in prop::collection::vec(0.0..400.0_f64, 1..12)) {
            wanted.sort_by(f64::total_cmp);
            let placed = spread(&wanted, 18.0, 0.0, 400.0);
            prop_assert_eq!(placed.len(), wanted.len());
            prop_assert!(placed.windows(2).all(|it| 18.0 - 1e-6 <= it[1] - it[0]));
            prop_assert!(placed.iter().all(|it| (-1e-6..=400.0 + 1e-6).contains(it)));
        }
    }

    #[test]
    fn labels_with_room_stay() {
        assert_eq!(spread(&[10.0, 50.0], 18.0, 0.0, 100.0), [10.0, 50.0]);
        assert_eq!(spread(&[50.0, 50.0], 18.0, 0.0, 100.0), [41.0, 59.0]);
    }
}
