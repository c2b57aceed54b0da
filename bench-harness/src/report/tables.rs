//! `summary.csv` and `metrics.csv`: one line for each cell.

use std::path::Path;

use serde::Serialize;

use crate::cell::Cell;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::host::HostFacts;
use crate::run::journal::RunRecord;
use crate::stats::summary::{CellSummary, MetricSummary, Summary};

/// A line of `summary.csv`; empty fields were not measured, or have too few samples.
#[derive(Debug, Serialize)]
struct SummaryLine<'a> {
    driver: &'a str,
    options: &'a str,
    model: &'a str,
    backing: String,
    file_bytes: u64,
    found_at: u32,
    n_layers: u32,
    dir_depth: u32,
    cache: &'a str,
    n: usize,
    p50_ns: Option<u64>,
    p50_low_ns: Option<u64>,
    p50_high_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
    entries: u32,
    p99_9_ns: Option<u64>,
    threads: u32,
}

/// A line of `metrics.csv`.
#[derive(Debug, Serialize)]
struct MetricLine<'a> {
    driver: &'a str,
    options: &'a str,
    model: &'a str,
    backing: String,
    file_bytes: u64,
    found_at: u32,
    n_layers: u32,
    dir_depth: u32,
    cache: &'a str,
    metric: &'a str,
    unit: &'a str,
    n: usize,
    p50: f64,
    p50_low: Option<f64>,
    p50_high: Option<f64>,
    entries: u32,
    threads: u32,
}

/// The backing as tables show it: the file system's type for a directory.
pub fn backing_label(run: &RunRecord, name: &str) -> String {
    let facts = run.header.host.backings.iter().find(|it| it.name == name);
    facts.map_or_else(|| name.to_owned(), |it| it.label())
}

/// The machine that `backing` is of: in a merged run the second for `dir@2`.
pub fn host_of<'a>(run: &'a RunRecord, backing: &str) -> &'a HostFacts {
    let number = backing.rsplit_once('@').and_then(|it| it.1.parse::<usize>().ok());
    let own = number.and_then(|it| run.header.origin.hosts.get(it.checked_sub(1)?));
    own.unwrap_or(&run.header.host)
}

/// All cells of `summary` as CSV.
///
/// # Errors
///
/// A value cannot be written as CSV.
pub fn summary_csv(summary: &Summary, run: &RunRecord) -> Result<String> {
    csv_of(summary.cells.iter().map(|it| summary_line(it, run)), "summary.csv", SUMMARY_COLUMNS)
}

fn summary_line<'a>(it: &'a CellSummary, run: &RunRecord) -> SummaryLine<'a> {
    let whole = |value: f64| value.round() as u64;

    let Cell { driver, options, params } = &it.cell;
    let latency = it.latency.as_ref();
    let interval = latency.and_then(|it| it.p50_interval);
    SummaryLine {
        driver,
        options,
        model: &params.model,
        backing: backing_label(run, &params.backing),
        file_bytes: params.file_bytes,
        found_at: params.found_at,
        n_layers: params.n_layers,
        dir_depth: params.dir_depth,
        cache: params.cache.as_str(),
        n: latency.map_or(0, |it| it.n),
        p50_ns: latency.map(|it| whole(it.p50)),
        p50_low_ns: interval.map(|it| whole(it.low)),
        p50_high_ns: interval.map(|it| whole(it.high)),
        p90_ns: latency.and_then(|it| it.p90).map(whole),
        p99_ns: latency.and_then(|it| it.p99).map(whole),
        max_ns: latency.map(|it| whole(it.max)),
        entries: params.entries,
        p99_9_ns: latency.and_then(|it| it.p99_9).map(whole),
        threads: params.threads,
    }
}

/// All metrics of `summary` as CSV.
///
/// # Errors
///
/// A value cannot be written as CSV.
pub fn metrics_csv(summary: &Summary, run: &RunRecord) -> Result<String> {
    csv_of(summary.metrics.iter().map(|it| metric_line(it, run)), "metrics.csv", METRIC_COLUMNS)
}

fn metric_line<'a>(it: &'a MetricSummary, run: &RunRecord) -> MetricLine<'a> {
    let Cell { driver, options, params } = &it.cell;
    MetricLine {
        driver,
        options,
        model: &params.model,
        backing: backing_label(run, &params.backing),
        file_bytes: params.file_bytes,
        found_at: params.found_at,
        n_layers: params.n_layers,
        dir_depth: params.dir_depth,
        cache: params.cache.as_str(),
        metric: it.metric.as_str(),
        unit: it.metric.unit(),
        n: it.n,
        p50: it.p50,
        p50_low: it.p50_interval.map(|it| it.low),
        p50_high: it.p50_interval.map(|it| it.high),
        entries: params.entries,
        threads: params.threads,
    }
}

/// The lines below the `columns`, which are written even when there is no line.
fn csv_of<T: Serialize>(lines: impl Iterator<Item = T>, name: &str, columns: &str) -> Result<String> {
    let wrong = |what: String| BenchError::new("write", Path::new(name), BenchErrorKind::Journal(what));
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for line in lines {
        writer.serialize(line).map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| wrong(error.to_string()))?;
    let body = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(format!("{columns}\n{body}"))
}

/// Columns of `summary.csv`; other programs rely on them.
const SUMMARY_COLUMNS: &str = "driver,options,model,backing,file_bytes,found_at,n_layers,dir_depth,cache,\
     n,p50_ns,p50_low_ns,p50_high_ns,p90_ns,p99_ns,max_ns,entries,p99_9_ns,threads";

/// Columns of `metrics.csv`; other programs rely on them.
const METRIC_COLUMNS: &str = "driver,options,model,backing,file_bytes,found_at,n_layers,dir_depth,cache,\
     metric,unit,n,p50,p50_low,p50_high,entries,threads";
