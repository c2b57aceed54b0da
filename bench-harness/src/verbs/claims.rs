//! `claims`: what the documentation of AUFS says, tested on a run.

use std::path::PathBuf;

use clap::Args;

use super::{outln, print_text};
use crate::claims::judge;
use crate::error::{Exit, Result};
use crate::report::{self, claims, terminal};
use crate::run::journal::RunRecord;
use crate::stats::summary::Summary;

/// Arguments of `claims`.
#[derive(Debug, Args)]
pub struct ClaimsArgs {
    /// Directory of a run; the matrix `claims` has what every claim needs.
    pub run: PathBuf,

    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints a verdict for each claim and driver. A refuted claim is a finding, not a failure: the exit code is 0.
///
/// # Errors
///
/// There is no run.
pub fn claims(args: &ClaimsArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    let rows = judge(&Summary::of(&record), &record);
    if args.json {
        print_text(&report::pretty(&rows)?)?;
        return Ok(Exit::Success);
    }
    let tables = claims::tables(&rows);
    if tables.is_empty() {
        outln!(
            "The run has cells for no claim; `aufs-bench run --matrix claims` measures what all of them need."
        )?;
    }
    let screen = terminal::Screen::of(&std::io::stdout());
    for it in &tables {
        outln!("{}", terminal::explained(it, screen))?;
    }
    Ok(Exit::Success)
}
