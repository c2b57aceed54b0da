//! Everything that is made from `samples.jsonl`: tables, plots, the page.

pub mod keep;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{At as _, Result};
use crate::run::journal::RunRecord;
use crate::stats::summary::Summary;

/// Writes all derived files of `run` into `out`, and returns the path of the page.
///
/// # Errors
///
/// A file cannot be written, or a plot cannot be drawn.
pub fn write(run: &RunRecord, out: &Path) -> Result<PathBuf> {
    let summary = Summary::of(run);
    save(&out.join("summary.csv"), tables::summary_csv(&summary, run)?.as_bytes())?;
    save(&out.join("metrics.csv"), tables::metrics_csv(&summary, run)?.as_bytes())?;
    Ok(out.join("report.html"))
}

/// Writes a file whole or not at all.
fn save(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, content).at("write", &draft)?;
    fs::rename(&draft, path).at("rename to", path)
}
