//! How noisy the machine is, and what a gate needs because of it.
//!
//! The probe repeats the yardsticks of every run. Neighbours of the reference
//! operation are taken for the pairs of base and head that a gate takes: the
//! spread of their log ratios says how many blocks a verdict takes.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use statrs::distribution::{ContinuousCDF as _, Normal};

use super::{Finding, Level};
use crate::error::Result;
use crate::host::elapsed_ns;
use crate::model::reference;
use crate::stats::order::{median, sorted};

/// Operations of each kind.
const N: usize = 200;

/// Pairs of a block of the gate.
const PAIRS: f64 = 8.0;

/// Cells of a gate, for Holm's correction and for the time.
const CELLS: f64 = 12.0;

/// The slow-down that must not pass, and the one that must not fail.
const LIMIT: f64 = 1.10;
const MARGIN: f64 = 1.03;

/// Error rate of a look at all cells, that of clearing a slow cell, and that of not finding what is so.
const ALPHA: f64 = 0.002;
const MISS: f64 = 0.002;
const BETA: f64 = 0.01;

/// Blocks after which a gate looks; the last is for noisy machines.
const LOOKS: [u32; 5] = [20, 40, 80, 160, 320];

/// Times of the probe, in ns.
#[derive(Debug)]
pub struct Probe {
    null_ns: Vec<f64>,
    reference_ns: Vec<f64>,
    /// Of one reference operation with all that is not timed.
    whole_ns: f64,
}

impl Probe {
    /// Takes the samples in `dir`, and is busy for `watch` at least.
    ///
    /// # Errors
    ///
    /// `dir`, which is not cleaned up, cannot be written.
    pub fn take(dir: &Path, watch: Duration) -> Result<Self> {
        let start = Instant::now();
        let null = |_| {
            let start = Instant::now();
            elapsed_ns(start) as f64
        };
        let null_ns = (0..N).map(null).collect();
        reference::lay(dir)?;
        let (home, page) = (reference::open_home(dir)?, [7; reference::PAGE_BYTES]);
        let operate = || reference::overwrite(&home, &page).map(|ns| ns as f64);
        // The first operations find cold caches.
        (0..20).try_for_each(|_| operate().map(drop))?;
        let begun = Instant::now();
        let reference_ns = (0..N).map(|_| operate()).collect::<Result<Vec<f64>>>()?;
        let whole_ns = begun.elapsed().as_nanos() as f64 / N as f64;
        while start.elapsed() < watch {
            operate()?;
        }
        Ok(Self { null_ns, reference_ns, whole_ns })
    }

    /// Median of two readings of the clock, in ns.
    pub fn null_ns(&self) -> f64 {
        median(&sorted(self.null_ns.clone())).unwrap_or(0.0)
    }

    /// What a gate needs on this machine.
    pub fn prediction(&self) -> Prediction {
        Prediction::of(&self.reference_ns, self.whole_ns)
    }
}

/// What a gate with a limit of 10 % and a margin of 3 % needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// Robust standard deviation of the log ratio of two operations in a row.
    pub pair_deviation: f64,
    /// Blocks of 8 pairs until it can decide, at one of its looks; none where 320 are too few.
    pub blocks: Option<u32>,
    /// Time of those blocks for 12 cells of operations as long as the probe's, in s.
    pub seconds: Option<f64>,
}

impl Prediction {
    /// From times of the same operation in a row, each taking `whole_ns` with all around it.
    fn of(times_ns: &[f64], whole_ns: f64) -> Self {
        let pair_deviation = pair_deviation(times_ns).unwrap_or(0.0);
        let needed = blocks_needed(pair_deviation);
        let blocks = LOOKS.into_iter().find(|look| needed <= f64::from(*look));
        // Two arms, and as much time again for what a gate prepares and checks.
        let block_s = CELLS * PAIRS * 2.0 * whole_ns * 2.0 / 1e9;
        Self { pair_deviation, blocks, seconds: blocks.map(|it| f64::from(it) * block_s) }
    }

    /// The line of the table.
    pub fn finding(&self) -> Finding {
        let noise = self.pair_deviation * 100.0;
        let remedy = "quiet the machine, or give the gate larger operations: small ones are the noisiest";
        match (self.blocks, self.seconds) {
            (Some(blocks), Some(seconds)) => {
                let found = format!(
                    "{noise:.1} % between two operations: a gate of 12 such cells needs about {blocks} blocks, {seconds:.0} s"
                );
                let level = if blocks <= 160 { Level::Ok } else { Level::Warn };
                Finding {
                    check: "noise",
                    level,
                    found,
                    remedy: (level != Level::Ok).then(|| remedy.to_owned()),
                }
            }
            _ => {
                let found =
                    format!("{noise:.1} % between two operations: 320 blocks would not decide a gate");
                Finding::warn("noise", found, remedy)
            }
        }
    }
}

/// The robust deviation of log ratios of neighbours that share no sample.
fn pair_deviation(times_ns: &[f64]) -> Option<f64> {
    let ratios = times_ns.chunks_exact(2).map(|it| (it[1].max(1.0) / it[0].max(1.0)).ln().abs());
    // Their middle is 0 by symmetry; 1.4826 makes the deviation that of a normal.
    Some(1.4826 * median(&sorted(ratios.collect()))?)
}

/// Blocks until a gate decides with the promised error rates, for pairs that spread by `deviation`.
///
/// A block's value is the median of its pairs, and a cell's estimate the
/// Hodges–Lehmann one over blocks, with the efficiencies that both have for
/// normal pairs. To fail a slow cell it must be seen above the margin; to pass
/// an equal one its bound must lie below the limit.
fn blocks_needed(deviation: f64) -> f64 {
    let Ok(normal) = Normal::new(0.0, 1.0) else { return f64::INFINITY };
    let z = |tail: f64| normal.inverse_cdf(1.0 - tail);
    let of_block = deviation * (std::f64::consts::FRAC_PI_2 / PAIRS).sqrt();
    let of_look = of_block / (3.0 / std::f64::consts::PI).sqrt();
    let fail = (z(ALPHA / CELLS) + z(BETA)) * of_look / (LIMIT / MARGIN).ln();
    let pass = (z(MISS / LOOKS.len() as f64) + z(BETA)) * of_look / LIMIT.ln();
    fail.max(pass).powi(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn noise_decides_the_number_of_blocks() {
        // By hand: z = 3.587 and 2.326, a block spreads 0.4431 of a pair, a look 1.0233 of that.
        let by_hand = ((3.587_f64 + 2.326) * 0.2 * 0.4431 * 1.0233 / 0.06574).powi(2);
        assert!((blocks_needed(0.2) / by_hand - 1.0).abs() < 0.01, "{} {by_hand}", blocks_needed(0.2));
        let of = |spread: f64| {
            let times: Vec<f64> = (0..200).map(|it| 1e5 * if it % 2 == 0 { 1.0 } else { spread }).collect();
            Prediction::of(&times, 2e5)
        };
        for (spread, blocks, level) in [
            (1.0, Some(20), Level::Ok),
            (1.05, Some(20), Level::Ok),
            (1.12, Some(80), Level::Ok),
            (1.25, Some(320), Level::Warn),
            (2.0, None, Level::Warn),
        ] {
            let prediction = of(spread);
            assert_eq!(
                (prediction.blocks, prediction.finding().level),
                (blocks, level),
                "{spread}: {prediction:?}"
            );
        }
        // 12 cells, 8 pairs, 2 arms, 200 µs each and as much again: 76.8 ms a block.
        assert!((of(1.0).seconds.unwrap() - 20.0 * 0.0768).abs() < 1e-9);
    }

    #[test]
    fn the_probe_takes_both_operations() {
        let dir = tempfile::tempdir().unwrap();
        let probe = Probe::take(dir.path(), Duration::ZERO).unwrap();
        assert_eq!((probe.null_ns.len(), probe.reference_ns.len()), (N, N));
        assert!(probe.reference_ns.iter().all(|it| 0.0 < *it));
    }

    proptest! {
        #[test]
        fn more_noise_never_needs_fewer_blocks(deviation in 0.0..2.0_f64, more in 0.0..1.0_f64) {
            prop_assert!(blocks_needed(deviation) <= blocks_needed(deviation + more));
        }

        #[test]
        fn the_unit_of_time_does_not_matter(times in prop::collection::vec(1e3..1e7_f64, 2..100)) {
            let scaled: Vec<f64> = times.iter().map(|it| it * 8.0).collect();
            let (one, other) = (pair_deviation(&times).unwrap(), pair_deviation(&scaled).unwrap());
            prop_assert!((one - other).abs() < 1e-9);
        }
    }
}
