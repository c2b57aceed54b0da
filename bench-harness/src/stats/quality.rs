//! How far the numbers of each cell can be trusted: outliers, drift, precision, and response times.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::drift::Drift;
use super::order::{median, sorted, tail_quantile};
use super::outliers::{Circumstances, Outliers};
use super::precision::Precision;
use crate::run::journal::RunRecord;

/// What is known of a cell besides its latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Samples far from the rest; none below eight samples.
    pub outliers: Option<Outliers>,
    /// Change over the run; none below four blocks.
    pub drift: Option<Drift>,
    /// Whether the wanted precision was reached, where one was.
    pub precise: Option<bool>,
    /// Response times of an open loop.
    pub response: Option<Response>,
}

/// Response times: from when a sample was due until its end, in ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Response {
    /// Number of samples.
    pub n: usize,
    /// Median.
    pub p50: f64,
    /// 90th percentile; none below 100 samples.
    pub p90: Option<f64>,
    /// 99th percentile; none below 1000 samples.
    pub p99: Option<f64>,
    /// Longest.
    pub max: f64,
}

/// The quality of each cell of `run`, in their order.
pub fn of(run: &RunRecord) -> Vec<Quality> {
    let precision = Precision::replay(run);
    let errors = run.errors();
    let cell = |index: usize| {
        let precise = precision.as_ref().map(|it| it.is_reached(index));
        if errors.contains_key(&index) {
            return Quality { outliers: None, drift: None, precise, response: None };
        }
        of_cell(run, index, precise)
    };
    (0..run.header.cells.len()).into_par_iter().map(cell).collect()
}

fn of_cell(run: &RunRecord, index: usize, precise: Option<bool>) -> Quality {
    let counts_switches = run.header.counts_switches();
    let mut samples = Vec::new();
    let mut responses = Vec::new();
    let mut means: BTreeMap<u32, f64> = BTreeMap::new();
    for (number, block) in (0..).zip(run.counted()) {
        let stolen = block.ended.is_some_and(|it| 0 < it.1);
        let own: Vec<_> = block.samples.iter().filter(|it| it.0 == index).collect();
        let logs = own.iter().map(|it| (it.2.max(1) as f64).ln());
        if !own.is_empty() {
            means.insert(number, logs.sum::<f64>() / own.len() as f64);
        }
        for (_, file, ns, _) in own {
            let switched = counts_switches.then(|| block.switches.contains_key(&(index, *file)));
            samples.push(Circumstances { ns: *ns, switched, stolen });
            responses.extend(block.responses.get(&(index, *file)).map(|it| *it as f64));
        }
    }
    let points: Vec<(f64, f64)> = means.into_iter().map(|(block, mean)| (f64::from(block), mean)).collect();
    let (outliers, drift, response) = (Outliers::of(&samples), Drift::of(&points), response(responses));
    Quality { outliers, drift, precise, response }
}

fn response(values: Vec<f64>) -> Option<Response> {
    let values = sorted(values);
    Some(Response {
        n: values.len(),
        p50: median(&values)?,
        p90: tail_quantile(&values, 0.90),
        p99: tail_quantile(&values, 0.99),
        max: *values.last()?,
    })
}
