//! `fit`: what a change costs by size and by layer.

use std::path::PathBuf;

use clap::Args;

use super::{outln, print_text};
use crate::error::{BenchError, BenchErrorKind, Exit, Result};
use crate::report::{self, fit, terminal};
use crate::run::journal::{FILE_NAME, RunRecord};
use crate::stats::fit::of_run::Fits;
use crate::stats::summary::Summary;

/// Arguments of `fit`.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// Directory of a run.
    pub run: PathBuf,

    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints the fits of a run.
///
/// # Errors
///
/// There is no run, or nothing in it varies in size or in layer.
pub fn fit(args: &FitArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    let fits = Fits::of(&Summary::of(&record), &record);
    if fits.fits.is_empty() {
        let cells =
            if fits.missing.is_empty() { "no cell has numbers".to_owned() } else { fits.missing.join(", ") };
        let reason =
            format!("nothing to fit: {cells}; a fit needs two sizes or two layers, better three of each");
        return Err(BenchError::new("fit", args.run.join(FILE_NAME), BenchErrorKind::Journal(reason)));
    }
    if args.json {
        print_text(&report::pretty(&fits.fits)?)?;
        return Ok(Exit::Success);
    }
    let screen = terminal::Screen::of(&std::io::stdout());
    for it in fit::tables(&fits, &record) {
        outln!("{}", terminal::explained(&it, screen))?;
    }
    if !fits.missing.is_empty() {
        outln!("Not fitted: {}.", fits.missing.join(", "))?;
    }
    Ok(Exit::Success)
}
