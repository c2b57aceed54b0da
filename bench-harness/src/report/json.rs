//! `summary.json`: the summaries with their percentile curves and ratios.

use schemars::JsonSchema;
use serde::Serialize;

use super::conclusions::{Conclusions, ConclusionsJson};
use super::goals::{GoalJson, Judged, PeerJson};
use super::quality::{QualityJson, quality_json};
use crate::cell::{Cell, Subject};
use crate::error::{At as _, Result};
use crate::host::HostFacts;
use crate::run::journal::{Ending, RunRecord, SCHEMA, Skip};
use crate::run::record::Method;
use crate::stats::order::Interval;
use crate::stats::quality::{self, Quality};
use crate::stats::summary::{CellSummary, Ratio, Summary};

/// What `summary.json` holds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Root<'a> {
    schema: u32,
    host: &'a HostFacts,
    ending: Option<Ending>,
    blocks: u32,
    layers_unchanged: Option<bool>,
    skips: &'a [Skip],
    method: &'a Method,
    cells: Vec<CellJson<'a>>,
    metrics: Vec<MetricJson<'a>>,
    cuts: &'a [String],
    goals: Vec<GoalJson<'a>>,
    peers: Vec<PeerJson<'a>>,
    #[serde(flatten)]
    conclusions: ConclusionsJson<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CellJson<'a> {
    #[serde(flatten)]
    cell: &'a Cell,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    n: usize,
    p50_ns: Option<f64>,
    p50_low_ns: Option<f64>,
    p50_high_ns: Option<f64>,
    p90_ns: Option<f64>,
    p99_ns: Option<f64>,
    p99_9_ns: Option<f64>,
    max_ns: Option<f64>,
    open_p50_ns: Option<f64>,
    ratio_to_overlayfs: Option<RatioJson>,
    ratio_to_plain: Option<RatioJson>,
    /// Lowest value, highest value and count of each used bin of the HdrHistogram, in ns.
    histogram: Vec<(u64, u64, u64)>,
    #[serde(flatten)]
    quality: QualityJson,
}

/// A ratio with its interval.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RatioJson {
    p50: f64,
    low: Option<f64>,
    high: Option<f64>,
    blocks: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct MetricJson<'a> {
    #[serde(flatten)]
    cell: &'a Cell,
    metric: &'a str,
    unit: &'a str,
    n: usize,
    p50: f64,
    p50_low: Option<f64>,
    p50_high: Option<f64>,
}

/// All of `summary` as JSON.
///
/// # Errors
///
/// A value cannot be written as JSON.
pub fn summary_json(
    summary: &Summary,
    run: &RunRecord,
    goals: Option<&Judged>,
    conclusions: &Conclusions,
) -> Result<String> {
    let metric = |it: &crate::stats::summary::MetricSummary| (it.metric, it.n, it.p50, it.p50_interval);
    let metrics = summary.metrics.iter().map(|it| {
        let (metric, n, p50, interval) = metric(it);
        let (p50_low, p50_high) = ends(interval);
        MetricJson { cell: &it.cell, metric: metric.as_str(), unit: metric.unit(), n, p50, p50_low, p50_high }
    });
    let root = Root {
        schema: SCHEMA,
        host: &run.header.host,
        ending: run.ending,
        blocks: run.n_complete(),
        layers_unchanged: run.layers_unchanged,
        skips: &run.header.skips,
        method: &run.header.method,
        cells: summary
            .cells
            .iter()
            .zip(&quality::of(run))
            .map(|(it, own)| cell_json(it, summary, own))
            .collect(),
        metrics: metrics.collect(),
        cuts: &run.header.cuts,
        goals: goals.map(Judged::goals_json).unwrap_or_default(),
        peers: goals.map(Judged::peers_json).unwrap_or_default(),
        conclusions: conclusions.json(),
    };
    pretty(&root)
}

/// `value` as indented JSON with a final line feed.
///
/// # Errors
///
/// It cannot be written as JSON.
pub fn pretty(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from).at("write", "JSON")?;
    Ok(text + "\n")
}

fn ends(interval: Option<Interval>) -> (Option<f64>, Option<f64>) {
    (interval.map(|it| it.low), interval.map(|it| it.high))
}

fn cell_json<'a>(it: &'a CellSummary, summary: &Summary, quality: &Quality) -> CellJson<'a> {
    let latency = it.latency.as_ref();
    let (p50_low_ns, p50_high_ns) = ends(latency.and_then(|it| it.p50_interval));
    let bins = latency.map(|it| {
        it.histogram.iter_recorded().map(|bin| {
            let highest = bin.value_iterated_to();
            (it.histogram.lowest_equivalent(highest), highest, bin.count_at_value())
        })
    });
    let ratio_to = |driver: &str| {
        let base = Subject { driver: driver.to_owned(), options: "default".to_owned() };
        summary.ratio(it, &base).map(ratio_json)
    };
    CellJson {
        cell: &it.cell,
        error: it.error.as_deref(),
        n: latency.map_or(0, |it| it.n),
        p50_ns: latency.map(|it| it.p50),
        p50_low_ns,
        p50_high_ns,
        p90_ns: latency.and_then(|it| it.p90),
        p99_ns: latency.and_then(|it| it.p99),
        p99_9_ns: latency.and_then(|it| it.p99_9),
        max_ns: latency.map(|it| it.max),
        open_p50_ns: latency.and_then(|it| it.open_p50),
        ratio_to_overlayfs: ratio_to("overlayfs"),
        ratio_to_plain: ratio_to("plain"),
        histogram: bins.map(Iterator::collect).unwrap_or_default(),
        quality: quality_json(quality),
    }
}

pub(super) fn ratio_json(ratio: Ratio) -> RatioJson {
    let (low, high) = ends(ratio.interval);
    RatioJson { p50: ratio.p50, low, high, blocks: ratio.n_blocks }
}
