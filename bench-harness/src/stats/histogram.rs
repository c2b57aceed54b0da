//! HdrHistograms of latencies, and the percentile curve drawn from them.

use hdrhistogram::Histogram;

use super::order::{Interval, quantile_ranks};

/// Longest latency told apart: one hour, in ns.
const NS_MAX: u64 = 3_600_000_000_000;

/// A histogram of latencies in ns with three significant digits; longer ones than an hour count as one.
pub fn of(samples_ns: impl IntoIterator<Item = u64>) -> Option<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, NS_MAX, 3).ok()?;
    samples_ns.into_iter().for_each(|ns| histogram.saturating_record(ns.max(1)));
    (!histogram.is_empty()).then_some(histogram)
}

/// The 95 % interval of the quantile `q`, exact for independent samples; none with too few on either side.
fn quantile_interval(histogram: &Histogram<u64>, q: f64) -> Option<Interval> {
    let n = histogram.len();
    let (low, high) = quantile_ranks(n, q)?;
    // Half a rank less: the histogram multiplies by n and rounds up, and 7 / 100 · 100 is a little more than 7.
    let at = |rank: u64| histogram.value_at_quantile((rank as f64 - 0.5) / n as f64) as f64;
    Some(Interval { low: at(low), high: at(high) })
}

/// Points of the percentile curve: 1/(1−q), the latency in ns, and its interval.
///
/// It ends where less than one sample lies beyond, at 1/(1−q) = n.
pub fn percentile_curve(histogram: &Histogram<u64>) -> Vec<(f64, f64, Option<Interval>)> {
    let n = histogram.len() as f64;
    let steps = (n.log2() * 12.0).ceil().max(1.0);
    let point = |step: f64| {
        let inverse = n.powf(step / steps);
        let q = 1.0 - 1.0 / inverse;
        (inverse, histogram.value_at_quantile(q) as f64, quantile_interval(histogram, q))
    };
    (0..=steps as u32).map(|step| point(f64::from(step))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_keep_three_digits(mut samples in prop::collection::vec(1_u64..10_000_000_000, 1..500)) {
            let histogram = of(samples.iter().copied()).unwrap();
            samples.sort_unstable();
            prop_assert_eq!(histogram.len(), samples.len() as u64);
            for q in [0.0, 0.5, 0.9, 1.0] {
                let rank = ((q * samples.len() as f64).ceil() as usize).max(1) - 1;
                let (exact, binned) = (samples[rank] as f64, histogram.value_at_quantile(q) as f64);
                prop_assert!((binned - exact).abs() <= exact * 1e-3 + 1.0, "q {}: {} for {}", q, binned, exact);
            }
        }
    }

    proptest! {
        // Each case asks for some hundred quantiles of the binomial distribution, which takes a while unoptimised.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn curves_rise_to_the_maximum(samples in prop::collection::vec(1_u64..1_000_000_000, 1..500)) {
            let histogram = of(samples.iter().copied()).unwrap();
            let curve = percentile_curve(&histogram);
            prop_assert!(curve.windows(2).all(|it| it[0].0 <= it[1].0 && it[0].1 <= it[1].1));
            prop_assert!(curve.iter().all(|it| it.1 <= histogram.max() as f64));
            prop_assert!(curve.iter().all(|it| it.2.is_none_or(|band| band.low <= it.1 && it.1 <= band.high)));
            prop_assert!((curve[curve.len() - 1].0 - samples.len() as f64).abs() < 1e-6 * samples.len() as f64);
        }
    }

    #[test]
    fn ends_of_intervals_are_the_samples_of_their_ranks() {
        let n = 100;
        let histogram = of(1..=n).unwrap();
        for q in (1..100).map(|it| f64::from(it) / 100.0) {
            let ranks = quantile_ranks(n, q).map(|(low, high)| (low as f64, high as f64));
            let found = quantile_interval(&histogram, q).map(|it| (it.low, it.high));
            assert_eq!(found, ranks, "{q}: a sample is its own rank here");
        }
    }

    #[test]
    fn nothing_has_no_histogram() {
        assert!(of([]).is_none());
        assert_eq!(of([u64::MAX]).map(|it| it.len()), Some(1), "an endless sample is kept");
    }
}
