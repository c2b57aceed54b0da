//! `merge`: joins the shards of a run, and runs of the same on several machines.

use std::path::PathBuf;

use clap::Args;

use super::outln;
use crate::error::{Exit, Result};
use crate::report;
use crate::run::merge;

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Directories of runs that set out to measure the same.
    #[arg(required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,

    /// Directory of the joined run.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Join what there is when shards are missing; the report names them.
    #[arg(long)]
    pub partial: bool,
}

/// Writes the joined run and its report, and prints the path of the page.
///
/// # Errors
///
/// The runs do not belong together, or one cannot be read.
pub fn merge(args: &MergeArgs) -> Result<Exit> {
    let record = merge::merge(&args.runs, &args.out, args.partial)?;
    let page = report::write(&record, &args.out)?;
    outln!("{}", page.display())?;
    Ok(Exit::Success)
}
