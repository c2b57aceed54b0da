//! `export`: results in the formats of other tools.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::outln;
use crate::cell::Subject;
use crate::error::{Exit, Result};
use crate::report::export::{self, Format};
use crate::report::versus;
use crate::run::journal::RunRecord;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("format").required(true))]
pub struct ExportArgs {
    /// Directory of a run.
    pub run: PathBuf,

    /// A line for each cell, on stdout.
    #[arg(long, group = "format")]
    pub csv: bool,

    /// All summaries with histograms and ratios, on stdout.
    #[arg(long, group = "format")]
    pub json: bool,

    /// The report without pictures, on stdout.
    #[arg(long, group = "format")]
    pub markdown: bool,

    /// HdrHistogram V2 interval logs: a file for each cell, an interval for each block.
    #[arg(long, group = "format", value_name = "DIR")]
    pub hdr: Option<PathBuf>,

    /// The text format of OpenMetrics; - is stdout.
    #[arg(long, group = "format", value_name = "FILE")]
    pub openmetrics: Option<PathBuf>,

    /// What `go test -bench` prints, a line for each block of each cell, for benchstat; - is stdout.
    #[arg(long, group = "format", value_name = "FILE")]
    pub benchstat: Option<PathBuf>,

    /// Parquet: a row for each sample and each other measurement; needs a build with the feature `parquet`.
    #[arg(long, group = "format", value_name = "FILE")]
    pub parquet: Option<PathBuf>,

    /// Whom ratios are to, such as overlayfs or overlayfs/volatile; without it overlayfs, else plain.
    #[arg(long, value_name = "DRIVER")]
    pub versus: Option<String>,
}

/// Writes the run of `args` in the format that they ask for.
///
/// # Errors
///
/// There is no run, or the result cannot be written.
pub fn export(args: &ExportArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    if let Some(dir) = &args.hdr {
        for path in export::write_hdr(&record, dir)? {
            outln!("{}", path.display())?;
        }
        return Ok(Exit::Success);
    }
    if let Some(file) = &args.parquet {
        export::write_parquet(&record, file)?;
        return Ok(Exit::Success);
    }
    let subjects: BTreeSet<Subject> = record.header.cells.iter().map(|it| it.cell.subject()).collect();
    let versus = versus::chosen(args.versus.as_deref(), subjects)?;
    let (format, file) = match args {
        ExportArgs { openmetrics: Some(file), .. } => (Format::OpenMetrics, Some(file)),
        ExportArgs { benchstat: Some(file), .. } => (Format::Benchstat, Some(file)),
        ExportArgs { json: true, .. } => (Format::Json, None),
        ExportArgs { markdown: true, .. } => (Format::Markdown, None),
        _ => (Format::Csv, None),
    };
    let text = export::text(&record, format, versus.as_ref())?;
    match file.filter(|it| *it != Path::new("-")) {
        Some(file) => export::write(file, &text)?,
        None => super::print_text(&text)?,
    }
    Ok(Exit::Success)
}
