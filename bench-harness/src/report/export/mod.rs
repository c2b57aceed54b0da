//! Results in the formats of other tools.

mod benchstat;
mod hdr;
mod labels;
mod openmetrics;
#[cfg(feature = "parquet")]
mod parquet;

use std::fs;
use std::path::{Path, PathBuf};

use super::conclusions::Conclusions;
use super::document::Document;
use super::goals::Judged;
use super::{json, markdown, save, tables, versus};
use crate::cell::Subject;
use crate::error::{At as _, Result};
#[cfg(not(feature = "parquet"))]
use crate::error::{BenchError, BenchErrorKind};
use crate::run::journal::RunRecord;
use crate::stats::summary::Summary;

/// A format that is one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `summary.csv`.
    Csv,
    /// `summary.json`.
    Json,
    /// The report without its pictures.
    Markdown,
    /// The text format of OpenMetrics.
    OpenMetrics,
    /// What `go test -bench` prints, for benchstat.
    Benchstat,
}

/// `run` in `format`, with ratios to `wanted` or the usual base.
///
/// # Errors
///
/// The run's goals are unknown, or a value cannot be written in the format.
pub fn text(run: &RunRecord, format: Format, wanted: Option<&Subject>) -> Result<String> {
    let summary = Summary::of(run);
    let base = versus::base(&summary, wanted);
    match format {
        Format::Csv => tables::summary_csv(&summary, run),
        Format::Json => {
            let conclusions = Conclusions::of(&summary, run);
            json::summary_json(&summary, run, Judged::of(&summary, run)?.as_ref(), &conclusions)
        }
        Format::Markdown => {
            let goals = Judged::of(&summary, run)?;
            Ok(markdown::markdown(
                &Document::of(&summary, run, base.as_ref(), goals.as_ref(), &Conclusions::of(&summary, run)),
                &[],
            ))
        }
        Format::OpenMetrics => openmetrics::text(&summary, run, base.as_ref()),
        Format::Benchstat => benchstat::text(&summary, run),
    }
}

/// Writes `text` to `path` whole or not at all.
///
/// # Errors
///
/// It cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    save(path, text)
}

/// Writes all that `run` measured to `path` as Parquet, whole or not at all.
///
/// # Errors
///
/// It cannot be written, or the program was built without the feature `parquet`.
#[cfg(feature = "parquet")]
pub fn write_parquet(run: &RunRecord, path: &Path) -> Result<()> {
    save(path, parquet::encode(run)?)
}

/// Says how to build a program that can.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "parquet"))]
pub fn write_parquet(_run: &RunRecord, path: &Path) -> Result<()> {
    Err(BenchError::new(
        "write Parquet",
        path,
        BenchErrorKind::Config(
            "this aufs-bench was built without it; build one with \
             `cargo build --release --package bench-harness --features parquet`"
                .to_owned(),
        ),
    ))
}

/// Writes an interval log for each cell with numbers into `dir`, and returns their paths.
///
/// # Errors
///
/// A log cannot be written.
pub fn write_hdr(run: &RunRecord, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).at("create", dir)?;
    let mut paths = Vec::new();
    for (name, log) in hdr::logs(run)? {
        let path = dir.join(name);
        save(&path, &log)?;
        paths.push(path);
    }
    Ok(paths)
}
