//! Everything that is made from `samples.jsonl`: tables, plots, the page.

mod document;
mod goals;
mod html;
mod json;
pub mod keep;
mod markdown;
mod plot;
mod tables;
mod yardsticks;

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

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
    let goals = goals::Judged::of(&summary, run)?;
    let document = document::Document::of(&summary, run, goals.as_ref());
    save(&out.join("host.json"), &json::pretty(&run.header.host)?)?;
    save(&out.join("summary.json"), &json::summary_json(&summary, run, goals.as_ref())?)?;
    save(&out.join("summary.csv"), &tables::summary_csv(&summary, run)?)?;
    save(&out.join("metrics.csv"), &tables::metrics_csv(&summary, run)?)?;
    let svgs = write_plots(&summary, run, &out.join("plots"))?;
    let named: Vec<_> = svgs.iter().map(|(name, caption, _)| (caption.clone(), name.clone())).collect();
    save(&out.join("report.md"), &markdown::markdown(&document, &named))?;
    let drawn: Vec<_> = svgs.into_iter().map(|(_, caption, svg)| (caption, svg)).collect();
    let page = out.join("report.html");
    save(&page, &html::page(&document, &drawn))?;
    Ok(page)
}

/// Writes all plots, and returns name, caption and SVG of each.
fn write_plots(summary: &Summary, run: &RunRecord, dir: &Path) -> Result<Vec<(String, String, String)>> {
    plot::register_fonts()?;
    fs::create_dir_all(dir).at("create", dir)?;
    let figures = plot::figures(summary, run);
    let written = figures.into_par_iter().map(|figure| {
        let svg = figure.svg()?;
        save(&dir.join(format!("{}.svg", figure.name)), &svg)?;
        figure.save_png(&dir.join(format!("{}.png", figure.name)))?;
        Ok((figure.name, figure.caption, svg))
    });
    written.collect()
}

/// Writes a file whole or not at all.
fn save(path: &Path, content: &str) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, content).at("write", &draft)?;
    fs::rename(&draft, path).at("rename to", path)
}
