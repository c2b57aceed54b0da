//! Everything that is made from `samples.jsonl`: tables, plots, the page.

pub mod claims;
mod conclusions;
pub mod document;
#[cfg(test)]
pub mod example;
pub mod export;
pub mod fit;
mod goals;
mod headline;
pub mod json;
pub mod keep;
mod markdown;
mod page;
pub mod plot;
mod quality;
pub mod reproduce;
pub mod sparkline;
pub mod tables;
pub mod terminal;
pub mod versus;
mod yardsticks;

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use json::pretty;
pub use tables::backing_label;

use crate::cell::Subject;
use crate::error::{At as _, Result};
use crate::run::journal::RunRecord;
use crate::stats::summary::Summary;
use conclusions::Conclusions;
use page::{Download, Drawn};

pub use goals::place_text;

/// Writes all derived files of `run` into `out`, where its samples lie, and returns the path of the page.
///
/// # Errors
///
/// A file cannot be written, or a plot cannot be drawn.
pub fn write(run: &RunRecord, out: &Path) -> Result<PathBuf> {
    write_versus(run, out, None)
}

/// As [`write()`], with ratios to `versus` if it was measured, else to the usual base.
///
/// # Errors
///
/// As [`write()`].
pub fn write_versus(run: &RunRecord, out: &Path, versus: Option<&Subject>) -> Result<PathBuf> {
    let summary = Summary::of(run);
    let base = versus::base(&summary, versus);
    let goals = goals::Judged::of(&summary, run)?;
    let conclusions = Conclusions::of(&summary, run);
    let document = document::Document::of(&summary, run, base.as_ref(), goals.as_ref(), &conclusions);
    let text = json::summary_json(&summary, run, goals.as_ref(), &conclusions)?;
    let (cells, metrics) = (tables::summary_csv(&summary, run)?, tables::metrics_csv(&summary, run)?);
    save(&out.join("host.json"), &json::pretty(&run.header.host)?)?;
    save(&out.join("summary.json"), &text)?;
    save(&out.join("summary.csv"), &cells)?;
    save(&out.join("metrics.csv"), &metrics)?;
    let mut figures = plot::figures(&summary, run, base.as_ref());
    figures.extend(plot::fit_figures(&conclusions.fits, run));
    let figures = write_plots(figures, &out.join("plots"))?;
    save(&out.join("report.md"), markdown::markdown(&document, &figures))?;
    let downloads = [
        Download::of("summary.csv", "text/csv", &cells)?,
        Download::of("metrics.csv", "text/csv", &metrics)?,
        Download::of("summary.json", "application/json", &text)?,
        Download::samples(out)?,
    ];
    let page = out.join("report.html");
    save(&page, &page::page(&document, &figures, &downloads)?)?;
    Ok(page)
}

/// Writes all plots.
fn write_plots(figures: Vec<plot::Figure>, dir: &Path) -> Result<Vec<Drawn>> {
    plot::register_fonts()?;
    fs::create_dir_all(dir).at("create", dir)?;
    let written = figures.into_par_iter().map(|figure| {
        let svg = figure.svg()?;
        save(&dir.join(format!("{}.svg", figure.name)), &svg)?;
        figure.save_png(&dir.join(format!("{}.png", figure.name)))?;
        Ok(Drawn { name: figure.name, caption: figure.caption, svg })
    });
    written.collect()
}

/// A page of `document` and `figures` that is no run's, without data to save.
///
/// # Errors
///
/// A figure cannot be drawn.
pub fn standalone(document: &document::Document, figures: Vec<plot::Figure>) -> Result<String> {
    plot::register_fonts()?;
    let drawn = figures.into_iter().map(|it| {
        let svg = it.svg()?;
        Ok(Drawn { name: it.name, caption: it.caption, svg })
    });
    page::page(document, &drawn.collect::<Result<Vec<_>>>()?, &[])
}

/// `document` in Markdown, without pictures.
pub fn markdown(document: &document::Document) -> String {
    markdown::markdown(document, &[])
}

/// Writes a file whole or not at all.
///
/// # Errors
///
/// Any I/O error.
pub fn save(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, content).at("write", &draft)?;
    fs::rename(&draft, path).at("rename to", path)
}
