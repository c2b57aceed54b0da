//! `report`: tables, plots and the page of a run once more.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Exit, Result};
use crate::report;
use crate::run::journal::RunRecord;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of a run.
    pub run: PathBuf,
}

/// Writes the report, and prints its path.
///
/// # Errors
///
/// There is no run, or the report cannot be written.
pub fn report(args: &ReportArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    let page = report::write(&record, &args.run)?;
    println!("{}", page.display());
    Ok(Exit::Success)
}
