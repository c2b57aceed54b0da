//! Summaries of a run: one for each cell, and ratios between drivers.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rayon::prelude::*;

use super::order::{Interval, median, median_interval, sorted, tail_quantile};
use crate::cell::{Cell, Params, Subject};
use crate::run::journal::{Metric, RunRecord};
use crate::stats::histogram;

/// A value for each block that has one.
pub type Blocks = BTreeMap<u32, f64>;

/// What is known of a cell.
#[derive(Debug, Clone)]
pub struct CellSummary {
    /// What was measured.
    pub cell: Cell,
    /// Its numbers; none without samples, and none when a sample failed.
    pub latency: Option<Latency>,
    /// The first failure of the cell.
    pub error: Option<String>,
    /// Median of each block that has the cell, in ns.
    pub block_medians: Blocks,
}

/// Latencies of a cell, in ns.
#[derive(Debug, Clone)]
pub struct Latency {
    /// Number of samples.
    pub n: usize,
    /// Median.
    pub p50: f64,
    /// Its 95 % interval, see [`p50_interval`]; none below six samples.
    pub p50_interval: Option<Interval>,
    /// 90th percentile; none below 100 samples.
    pub p90: Option<f64>,
    /// 99th percentile; none below 1000 samples.
    pub p99: Option<f64>,
    /// 99.9th percentile; none below 10 000 samples.
    pub p99_9: Option<f64>,
    /// Longest.
    pub max: f64,
    /// Median of the time until the file was open, for models that open one.
    pub open_p50: Option<f64>,
    /// All samples with three significant digits.
    pub histogram: Histogram<u64>,
}

/// A metric of a cell.
#[derive(Debug, Clone)]
pub struct MetricSummary {
    /// Where it was measured.
    pub cell: Cell,
    /// What.
    pub metric: Metric,
    /// Number of values.
    pub n: usize,
    /// Median.
    pub p50: f64,
    /// Its 95 % interval, see [`p50_interval`]; none below six values.
    pub p50_interval: Option<Interval>,
    /// Median of each block that has the metric.
    pub block_medians: Blocks,
}

/// A ratio of two drivers on the same parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Median over blocks of the ratio of both medians.
    pub p50: f64,
    /// Its exact 95 % interval; none below six blocks.
    pub interval: Option<Interval>,
    /// Number of blocks that have both.
    pub n_blocks: usize,
}

/// All summaries of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// One for each cell, in the order of the run.
    pub cells: Vec<CellSummary>,
    /// One for each cell and metric.
    pub metrics: Vec<MetricSummary>,
}

impl Summary {
    /// Summarises `run`.
    pub fn of(run: &RunRecord) -> Self {
        let errors = run.errors();
        let cells = (0..run.header.cells.len()).into_par_iter().map(|index| {
            let cell = run.header.cells[index].cell.clone();
            summarise(run, index, cell, errors.get(&index).cloned())
        });
        Self { cells: cells.collect(), metrics: metrics(run) }
    }

    /// The summary of `subject` with `params`.
    pub fn find(&self, subject: &Subject, params: &Params) -> Option<&CellSummary> {
        let wanted = |it: &&CellSummary| it.cell.params == *params && it.cell.subject() == *subject;
        self.cells.iter().find(wanted)
    }

    /// How many times `cell` takes the time of `base` on the same parameters.
    ///
    /// Paired by block: both were measured within the same seconds, so that the
    /// noise of the host largely cancels.
    pub fn ratio(&self, cell: &CellSummary, base: &Subject) -> Option<Ratio> {
        let base = self.find(base, &cell.cell.params)?;
        if cell.latency.is_none() || base.latency.is_none() {
            return None;
        }
        ratio_of(&cell.block_medians, &base.block_medians)
    }
}

/// The ratio of `own` to `base`, paired by block; none where they share no block.
pub fn ratio_of(own: &Blocks, base: &Blocks) -> Option<Ratio> {
    let pairs = own.iter().filter_map(|(block, value)| Some((value, base.get(block)?)));
    estimate(pairs.map(|(value, base)| value / base).collect())
}

/// The value itself over blocks, in the form of a ratio to 1.
pub fn value_of(own: &Blocks) -> Option<Ratio> {
    estimate(own.values().copied().collect())
}

/// The 95 % interval of the median of `sorted` values, which were taken in `blocks`; none below six values.
///
/// Values of one block are alike: as independent ones they would promise several
/// times the precision that another run has. So from six blocks on it is the exact
/// interval of the block medians, where a block has several values. It goes as far
/// as the median of all values, which unequal blocks may leave outside.
pub fn p50_interval(sorted_values: &[f64], blocks: &Blocks) -> Option<Interval> {
    let of_all = median_interval(sorted_values);
    if blocks.len() == sorted_values.len() {
        return of_all;
    }
    let middle = median(sorted_values)?;
    let of_blocks = median_interval(&sorted(blocks.values().copied().collect()));
    let to_middle = |it: Interval| Interval { low: it.low.min(middle), high: it.high.max(middle) };
    of_blocks.map(to_middle).or(of_all)
}

fn estimate(values: Vec<f64>) -> Option<Ratio> {
    let values = sorted(values);
    let (p50, interval) = (median(&values)?, median_interval(&values));
    Some(Ratio { p50, interval, n_blocks: values.len() })
}

fn summarise(run: &RunRecord, index: usize, cell: Cell, error: Option<String>) -> CellSummary {
    let mut block_medians = BTreeMap::new();
    let (mut all, mut opens) = (Vec::new(), Vec::new());
    for (block, samples) in (0..).zip(run.counted()).map(|(block, it)| (block, &it.samples)) {
        let own = || samples.iter().filter(|it| it.0 == index);
        opens.extend(own().filter_map(|it| it.3).map(|ns| ns as f64));
        let of_block: Vec<u64> = own().map(|it| it.2).collect();
        let middle = median(&sorted(of_block.iter().map(|ns| *ns as f64).collect()));
        middle.map(|middle| block_medians.insert(block, middle));
        all.extend(of_block);
    }
    let latency = if error.is_none() { latency(&all, opens, &block_medians) } else { None };
    CellSummary { cell, latency, error, block_medians }
}

fn latency(samples_ns: &[u64], opens: Vec<f64>, blocks: &Blocks) -> Option<Latency> {
    let histogram = histogram::of(samples_ns.iter().copied())?;
    let values = sorted(samples_ns.iter().map(|ns| *ns as f64).collect());
    Some(Latency {
        n: values.len(),
        p50: median(&values)?,
        p50_interval: p50_interval(&values, blocks),
        p90: tail_quantile(&values, 0.90),
        p99: tail_quantile(&values, 0.99),
        p99_9: tail_quantile(&values, 0.999),
        max: *values.last()?,
        open_p50: median(&sorted(opens)),
        histogram,
    })
}

fn metrics(run: &RunRecord) -> Vec<MetricSummary> {
    let errors = run.errors();
    let mut values: BTreeMap<(usize, Metric), BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
    for (block, it) in (0..).zip(run.counted()) {
        for (cell, metric, value) in it.metrics.iter().filter(|it| !errors.contains_key(&it.0)) {
            let of_cell = values.entry((*cell, *metric)).or_default();
            of_cell.entry(block).or_default().push(*value as f64);
        }
    }
    let summary = |((index, metric), blocks): ((usize, Metric), BTreeMap<u32, Vec<f64>>)| {
        let values = sorted(blocks.values().flatten().copied().collect());
        let middle = |(block, values)| Some((block, median(&sorted(values))?));
        let block_medians: Blocks = blocks.into_iter().filter_map(middle).collect();
        let cell = run.header.cells[index].cell.clone();
        let (p50, p50_interval) = (median(&values)?, p50_interval(&values, &block_medians));
        Some(MetricSummary { cell, metric, n: values.len(), p50, p50_interval, block_medians })
    };
    values.into_iter().filter_map(summary).collect()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn intervals_cover_the_median_though_blocks_differ() {
        let mut rng = ChaCha8Rng::seed_from_u64(14);
        // The sum of twelve uniforms less six is as good as normal here.
        let mut normal =
            || (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0;
        let (trials, mut covered, mut pooled) = (400, 0, 0);
        for _ in 0..trials {
            // Blocks differ by as much as the samples within one; 50 of them each.
            let levels: Vec<f64> = (0..20).map(|_| normal()).collect();
            let own: Vec<Vec<f64>> =
                levels.iter().map(|it| sorted((0..50).map(|_| it + normal()).collect())).collect();
            let blocks: Blocks = (0..).zip(own.iter().map(|it| median(it).unwrap())).collect();
            let all = sorted(own.concat());
            let holds = |it: Interval| u32::from(it.low <= 0.0 && 0.0 <= it.high);
            covered += holds(p50_interval(&all, &blocks).unwrap());
            pooled += holds(median_interval(&all).unwrap());
        }
        // 95 % of 400 are 380; three standard errors are 13.
        assert!(367 <= covered, "{covered} of {trials}");
        assert!(pooled < 200, "what samples taken for independent promise is wrong: {pooled} of {trials}");
    }

    #[test]
    fn intervals_hold_the_median_and_need_six_values() {
        let blocks = |values: &[f64]| (0..).zip(values.iter().copied()).collect::<Blocks>();
        // One file in a block: the exact interval of the samples.
        let single = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(p50_interval(&single, &blocks(&single)), median_interval(&single));
        assert_eq!(p50_interval(&single[..5], &blocks(&single[..5])), None);
        // Fewer than six blocks of several files: that of all samples.
        assert_eq!(p50_interval(&single, &blocks(&[2.0, 5.0])), median_interval(&single));
        // Most samples lie in one of nine blocks, the median of all beyond the interval of the blocks.
        let mut uneven: Vec<f64> = (1..=8).map(f64::from).collect();
        let of_blocks = blocks(&[&uneven[..], &[50.0]].concat());
        uneven.extend([50.0; 20]);
        let interval = p50_interval(&uneven, &of_blocks).unwrap();
        assert_eq!((interval.low, interval.high), (2.0, 50.0));
    }
}
