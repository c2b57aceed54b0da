//! Samples far from the rest: counted and labelled, never removed.

use super::order::{median, sorted};

/// A sample, and what happened while it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Its time, in ns.
    pub ns: u64,
    /// Whether the kernel took the processor from the timed thread, where that was recorded.
    pub switched: Option<bool>,
    /// Whether the hypervisor stole time during its block.
    pub stolen: bool,
}

/// Distances from the quartiles, in interquartile ranges of the log, of Tukey's fences.
const FENCES: (f64, f64) = (1.5, 3.0);

/// Median absolute deviations from the median beyond which a sample is far: ten standard deviations of a normal.
const FAR_MADS: f64 = 14.826;

/// Fewest samples whose quartiles mean something.
const N_MIN: usize = 8;

/// How many samples are outliers, and how many of them have an excuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outliers {
    /// All samples.
    pub n: usize,
    /// Beyond the inner fence of the log, but within the outer.
    pub mild: usize,
    /// Beyond the outer fence of the log.
    pub severe: usize,
    /// More than 14.83 median absolute deviations from the median.
    pub far: usize,
    /// Outliers of any of these kinds.
    pub any: usize,
    /// Of those, samples during which the thread lost the processor; none where no sample says.
    pub any_switched: Option<usize>,
    /// Of those, samples of blocks from which time was stolen.
    pub any_stolen: usize,
    /// Of all samples, those during which the thread lost the processor; none where no sample says.
    pub switched: Option<usize>,
    /// Of all samples, those of blocks from which time was stolen.
    pub stolen: usize,
}

impl Outliers {
    /// Labels `samples`; none of fewer than eight.
    pub fn of(samples: &[Circumstances]) -> Option<Self> {
        if samples.len() < N_MIN {
            return None;
        }
        let logs = sorted(samples.iter().map(|it| log(it.ns)).collect());
        let half = logs.len() / 2;
        let (low, high) = (median(&logs[..half])?, median(&logs[logs.len() - half..])?);
        let middle = median(&sorted(samples.iter().map(|it| it.ns as f64).collect()))?;
        let deviation = |ns: u64| (ns as f64 - middle).abs();
        let mad = median(&sorted(samples.iter().map(|it| deviation(it.ns)).collect()))?;
        let mut outliers = Self { n: samples.len(), ..Self::default() };
        let (mut any_switched, mut switched) = (0, 0);
        for sample in samples {
            let beyond = (low - log(sample.ns)).max(log(sample.ns) - high) / (high - low).max(f64::EPSILON);
            let (mild, severe) = (FENCES.0 < beyond && beyond <= FENCES.1, FENCES.1 < beyond);
            // Equal samples have no deviation; then the fences alone say what is far.
            let far = 0.0 < mad && FAR_MADS * mad < deviation(sample.ns);
            let any = mild || severe || far;
            outliers.mild += usize::from(mild);
            outliers.severe += usize::from(severe);
            outliers.far += usize::from(far);
            outliers.any += usize::from(any);
            any_switched += usize::from(any && sample.switched == Some(true));
            switched += usize::from(sample.switched == Some(true));
            outliers.any_stolen += usize::from(any && sample.stolen);
            outliers.stolen += usize::from(sample.stolen);
        }
        if samples.iter().any(|it| it.switched.is_some()) {
            (outliers.any_switched, outliers.switched) = (Some(any_switched), Some(switched));
        }
        Some(outliers)
    }
}

fn log(ns: u64) -> f64 {
    (ns.max(1) as f64).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calm(ns: u64) -> Circumstances {
        Circumstances { ns, switched: Some(false), stolen: false }
    }

    #[test]
    fn labels_follow_the_fences_and_the_deviation() {
        // Hinges of 96…105 are ln 98 and ln 103: a range of 0.0498. MAD is 2.5 or 3.
        let usual: Vec<Circumstances> = (96..106).map(calm).collect();
        let with =
            |ns| [usual.clone(), vec![Circumstances { ns, switched: Some(true), stolen: ns == 1 }]].concat();
        let of = |ns| Outliers::of(&with(ns)).unwrap();
        for (ns, mild, severe, far) in
            [(101, 0, 0, 0), (115, 1, 0, 0), (130, 0, 1, 0), (200, 0, 1, 1), (1, 0, 1, 1), (88, 1, 0, 0)]
        {
            let it = of(ns);
            assert_eq!((it.mild, it.severe, it.far), (mild, severe, far), "{ns}: {it:?}");
            assert_eq!((it.any_switched, it.switched), (Some(mild | severe | far), Some(1)), "{ns}");
            assert_eq!((it.any_stolen, it.n), (usize::from(ns == 1), 11));
        }
        assert_eq!(Outliers::of(&usual[..7]), None);
        let equal = Outliers::of(&[calm(5); 9]).unwrap();
        assert_eq!((equal.any, equal.n), (0, 9));
    }

    proptest! {
        #[test]
        fn scale_changes_no_label(ns in prop::collection::vec(1000_u64..1_000_000, 8..200), factor in 2_u64..50) {
            let of = |factor: u64| Outliers::of(&ns.iter().map(|it| calm(it * factor)).collect::<Vec<_>>()).unwrap();
            let (one, many) = (of(1), of(factor));
            prop_assert_eq!(one.far, many.far);
            // Logarithms round, so that a sample that lies on a fence may change sides.
            prop_assert!(one.mild.abs_diff(many.mild) <= 1 && one.severe.abs_diff(many.severe) <= 1);
            prop_assert!(one.any <= one.mild + one.severe + one.far && one.mild + one.severe <= one.any);
        }
    }
}
